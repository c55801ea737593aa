//! The kernel's objects in one place: the decisions, and the machine that carries them out.

use ipc_abi::Kern;
use kernel_core::Kernel;

use crate::arch::clock::Clock;
use crate::arch::context::Saved;
use crate::arch::ioapic::Lines;
use crate::arch::percpu::{self, PerCpu};
use crate::lock::TurnLock;
use crate::machine::{Counters, Hardware};
use crate::pmap::Memory;

/// Everything that changes after start-up.
pub(crate) struct World {
    /// Tasks, threads, ports, messages: what is decided.
    pub(crate) kernel: Kernel,
    /// Registers, buffers, page tables, time: what is done.
    pub(crate) hardware: Hardware,
}

// SAFETY: records of kernel-core refer to the cells of others, which belong to the world alone: who has
// the lock has them all.
unsafe impl Send for World {}

// SAFETY: references that several processors have at once are those of `quick`. There kernel-core changes
// cells of these threads alone: the one that its seat runs, one that it has claimed where it waits
// (`Claim`), and one whose token it has claimed (`Token`); and it changes a spot only while it has the
// claim of it. What it publishes again, by a store that releases, it does not touch any more. All else
// is only read there, and is changed by who has the turn while nobody is inside a gate.
unsafe impl Sync for World {}

impl World {
    /// A world without tasks.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn new(memory: Memory, lines: Lines, clock: Clock) -> Result<World, Kern> {
        Ok(World {
            kernel: Kernel::new(&percpu::here().seat)?,
            hardware: Hardware {
                memory,
                lines,
                clock,
                counters: Counters::default(),
            },
        })
    }
}

impl World {
    /// Whether the processor runs this thread: not if another one ended it while it came in.
    #[inline]
    pub(crate) fn runs(&self, thread: Saved) -> bool {
        let running = self.kernel.running();
        running.is_some_and(|running| running.context == thread.word())
    }

    /// Charges for page tables that were made, and takes back the charges for those that are gone.
    #[inline]
    pub(crate) fn settle_bills(&mut self) {
        if self.hardware.memory.has_bills() {
            self.charge();
        }
    }

    #[cold]
    fn charge(&mut self) {
        while let Some(bill) = self.hardware.memory.take_bill() {
            self.kernel.bill(bill);
        }
    }
}

static WORLD: TurnLock<Option<World>> = TurnLock::new(None);

/// Runs `work` on the world. An entry point calls this once.
pub(crate) fn with<R>(work: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(take_over, |world| match world {
        Some(world) => work(world),
        None => crate::panic::stop(format_args!("a trap before the world is made")),
    })
}

/// As [`with`], if no other processor was here since this one, and traps may go fast ways; else nothing has
/// happened.
#[inline(always)]
pub(crate) fn again<R>(work: impl FnOnce(&mut World, &PerCpu) -> Option<R>) -> Option<R> {
    WORLD.with_again(|world, here| {
        let world = world.as_mut()?;
        if !world.kernel.is_fast() {
            return None;
        }
        work(world, here)
    })
}

/// Runs `work` on what many may look at once, if this processor's gate is open and `work` can do what it is
/// there for; else nothing has happened, and the entry point calls [`quick_again`], then [`with`]. The path that is
/// quick calls no function.
#[inline(always)]
pub(crate) fn quick<R>(work: impl FnOnce(&World, &PerCpu) -> Option<R>) -> Option<R> {
    WORLD.pass(|world, here| work(world.as_ref()?, here))
}

/// As [`quick`], after that: if the gate was closed by another processor.
#[inline(always)]
pub(crate) fn quick_again<R>(work: impl FnOnce(&World, &PerCpu) -> Option<R>) -> Option<R> {
    if percpu::here().gate.is_closed() {
        WORLD.open(may_be_quick, |world, here| work(world.as_ref()?, here))
    } else {
        None
    }
}

fn may_be_quick(world: &Option<World>) -> bool {
    world.as_ref().is_some_and(|world| world.kernel.is_fast())
}

/// Says whether the next traps of any processor may go fast ways.
#[inline(always)]
pub(crate) fn allow_fast(world: &mut World, allowed: bool) {
    world.kernel.allow_fast(allowed);
    percpu::here().gate.set(world.kernel.is_fast());
}

/// Another processor was here: from now on decisions are made for this one, which may have been taken
/// its thread or its space.
fn take_over(world: &mut Option<World>) {
    let here = percpu::here();
    if let Some(World { kernel, .. }) = world {
        kernel.take_over(here.number());
        here.gate.set(kernel.is_fast());
        here.processor.restore(kernel.running().as_ref());
    }
}

/// Puts the finished world in its place, at the end of start-up.
pub(crate) fn set(world: World) {
    WORLD.with(|_| (), |place| *place = Some(world));
}
