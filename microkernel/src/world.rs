//! The kernel's objects in one place: the decisions, and the machine that carries them out.

use ipc_abi::Kern;
use kernel_core::Kernel;

use crate::arch::clock::Clock;
use crate::arch::ioapic::Lines;
use crate::lock::Lock;
use crate::machine::{Counters, Hardware};
use crate::pmap::Memory;
use crate::schedule::Processor;

/// Everything that changes after start-up.
pub(crate) struct World {
    /// Tasks, threads, ports, messages: what is decided.
    pub(crate) kernel: Kernel,
    /// Registers, buffers, page tables, time: what is done.
    pub(crate) hardware: Hardware,
}

impl World {
    /// A world without tasks.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn new(memory: Memory, lines: Lines, clock: Clock) -> Result<World, Kern> {
        Ok(World {
            kernel: Kernel::new()?,
            hardware: Hardware {
                memory,
                lines,
                clock,
                processor: Processor::new(),
                counters: Counters::default(),
            },
        })
    }
}

static WORLD: Lock<Option<World>> = Lock::new(None);

/// Runs `work` on the world. An entry point calls this once.
pub(crate) fn with<R>(work: impl FnOnce(&mut World) -> R) -> R {
    match WORLD.lock().as_mut() {
        Some(world) => work(world),
        None => crate::panic::stop(format_args!("a trap before the world is made")),
    }
}

/// Puts the finished world in its place, at the end of start-up.
pub(crate) fn set(world: World) {
    *WORLD.lock() = Some(world);
}
