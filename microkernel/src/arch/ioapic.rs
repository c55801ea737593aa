//! The I/O APICs: which line interrupts with which vector.
//!
//! Every line is masked until a task has it. It goes to the boot processor until it is routed elsewhere.

use core::ptr;

use ipc_abi::Kern;
use kernel_core::Trigger;
use kernel_core::acpi::{Controller, Topology, Wiring};

use super::layout::{CONTROLLERS, CONTROLLERS_BLOCK};
use super::percpu;

const SELECT: u64 = 0x00;
const DATA: u64 = 0x10;
const VERSION: u32 = 0x01;
const FIRST_ENTRY: u32 = 0x10;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// Where the upper word of an entry has the processor.
const TARGET: u32 = 24;

/// The lines of the machine.
pub(crate) struct Lines {
    topology: Topology,
}

impl Lines {
    /// Masks every line.
    pub(crate) fn new(mut topology: Topology) -> Lines {
        let reached = |controller: &Controller| CONTROLLERS_BLOCK.contains(&controller.address);
        topology.controllers.retain(reached);
        for controller in &topology.controllers {
            for entry in 0..entries(controller) {
                write(controller, entry_register(entry), MASKED);
            }
        }
        Lines { topology }
    }

    /// Lets a line reach a vector; a line that is held stays masked.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: there is no such line.
    pub(crate) fn open(&self, line: u32, vector: u8) -> Result<Trigger, Kern> {
        let (wiring, controller, entry) = self.find(line).ok_or(Kern::InvalidArgument)?;
        let low = if wiring.active_low { ACTIVE_LOW } else { 0 };
        let held = match wiring.trigger {
            Trigger::Edge => 0,
            Trigger::Level => LEVEL | MASKED,
        };
        let boot = percpu::apic_of(0);
        write(controller, entry_register(entry) + 1, boot << TARGET);
        write(
            controller,
            entry_register(entry),
            u32::from(vector) | low | held,
        );
        Ok(wiring.trigger)
    }

    /// Masks a line, or unmasks it.
    pub(crate) fn mask(&self, line: u32, masked: bool) {
        let Some((_, controller, entry)) = self.find(line) else {
            return;
        };
        let bits = read(controller, entry_register(entry)) & !MASKED;
        let bits = if masked { bits | MASKED } else { bits };
        write(controller, entry_register(entry), bits);
    }

    /// Has a line interrupt the processor that the controllers call so, below 255.
    pub(crate) fn route(&self, line: u32, apic: u32) {
        if let Some((_, controller, entry)) = self.find(line) {
            write(controller, entry_register(entry) + 1, apic << TARGET);
        }
    }

    fn find(&self, line: u32) -> Option<(Wiring, &Controller, u32)> {
        let wiring = self.topology.wiring(line);
        self.topology.controllers.iter().find_map(|controller| {
            let entry = wiring.line.checked_sub(controller.first_line)?;
            (entry < entries(controller)).then_some((wiring, controller, entry))
        })
    }
}

const fn entry_register(entry: u32) -> u32 {
    FIRST_ENTRY + entry * 2
}

fn entries(controller: &Controller) -> u32 {
    (read(controller, VERSION) >> 16 & 0xFF) + 1
}

fn read(controller: &Controller, register: u32) -> u32 {
    let base = registers(controller);
    // SAFETY: `tables` maps the block that `Lines::new` left this controller in, uncached; the
    // registers have no effect on memory; the lock of the world is held, so that nobody selects
    // another register in between.
    unsafe {
        ptr::write_volatile((base + SELECT) as *mut u32, register);
        ptr::read_volatile((base + DATA) as *const u32)
    }
}

fn write(controller: &Controller, register: u32, value: u32) {
    let base = registers(controller);
    // SAFETY: as in `read`.
    unsafe {
        ptr::write_volatile((base + SELECT) as *mut u32, register);
        ptr::write_volatile((base + DATA) as *mut u32, value);
    }
}

/// Where a controller's registers are mapped.
const fn registers(controller: &Controller) -> u64 {
    CONTROLLERS.wrapping_add(controller.address.wrapping_sub(CONTROLLERS_BLOCK.start))
}
