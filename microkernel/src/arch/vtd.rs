//! The IOMMU (Intel VT-d, in legacy mode): which tables a device's addresses go through.
//!
//! Translation is on from the start with tables that have nobody, so that no device reaches memory
//! before a driver is attached to it. The section numbers are those of Intel's specification, 3.3.

use core::ptr;

use kernel_core::addr::{Frame, PhysAddr};
use kernel_core::paging::domain::{Attachment, Function};

use super::layout::{CONTROLLERS, CONTROLLERS_BLOCK};
use crate::frames::{self, Depth};
use crate::pmap::direct_map;

const CAPABILITIES: u64 = 0x08;
const EXTENDED: u64 = 0x10;
const COMMAND: u64 = 0x18;
const STATUS: u64 = 0x1C;
const ROOT_TABLE: u64 = 0x20;
const CONTEXT_COMMAND: u64 = 0x28;

/// Four levels of tables, for addresses of 48 bits (10.4.2, SAGAW).
const FOUR_LEVELS: u64 = 1 << 10;
/// The unit has to be told to write its buffers out before it sees new tables (RWBF).
const WRITE_BUFFER: u64 = 1 << 4;

const TRANSLATE: u32 = 1 << 31;
const SET_ROOT: u32 = 1 << 30;
const FLUSH_BUFFER: u32 = 1 << 27;

/// Forget all contexts (10.4.7).
const CONTEXTS: u64 = 1 << 63 | 1 << 61;
const CONTEXTS_BUSY: u64 = 1 << 63;
/// Forget all translations (10.4.8.1), reads and writes under way included.
const TRANSLATIONS: u64 = 1 << 63 | 1 << 60 | 3 << 48;
const TRANSLATIONS_BUSY: u64 = 1 << 63;

const PRESENT: u64 = 1;
/// A context of four levels.
const WIDTH: u64 = 2;

/// The unit, on.
pub(crate) struct Iommu {
    registers: u64,
    root: Frame,
    needs_flush: bool,
}

impl Iommu {
    /// Switches the unit on whose registers lie at this physical address. `None`: it cannot be used.
    pub(crate) fn new(address: u64) -> Option<Iommu> {
        if !CONTROLLERS_BLOCK.contains(&address) {
            return None;
        }
        let registers = CONTROLLERS + (address - CONTROLLERS_BLOCK.start);
        let capabilities = read64(registers + CAPABILITIES);
        if capabilities & FOUR_LEVELS == 0 {
            return None;
        }
        let iommu = Iommu {
            registers,
            root: frames::allocate(Depth::Normal)?,
            needs_flush: capabilities & WRITE_BUFFER != 0,
        };
        write64(registers + ROOT_TABLE, iommu.root.start().raw());
        iommu.command(SET_ROOT);
        iommu.forget();
        iommu.command(TRANSLATE);
        Some(iommu)
    }

    /// Makes the table with the contexts of a function's bus, if it is missing. `false`: there is no frame.
    pub(crate) fn make_room(&self, function: Function) -> bool {
        if self.contexts(function).is_some() {
            return true;
        }
        let Some(table) = frames::allocate(Depth::Normal) else {
            return false;
        };
        store(self.root, bus(function), table.start().raw() | PRESENT);
        true
    }

    /// Sends a function's addresses, for which there is room, through the tables of a domain.
    pub(crate) fn attach(&self, function: Function, to: Attachment) {
        if let Some(table) = self.contexts(function) {
            let index = context(function);
            store(table, index + 1, WIDTH | u64::from(to.number) << 8);
            store(table, index, to.root.start().raw() | PRESENT);
        }
        self.forget();
    }

    /// Lets a function reach nothing. A bus without contexts needs no table.
    pub(crate) fn detach(&self, function: Function) {
        let Some(table) = self.contexts(function) else {
            return;
        };
        store(table, context(function), 0);
        let is_empty = (0..512).step_by(2).all(|index| load(table, index) == 0);
        if is_empty {
            store(self.root, bus(function), 0);
        }
        self.forget();
        if is_empty {
            frames::free(table);
        }
    }

    /// Has the unit look at its tables anew; what it did by old ones has ended when this returns.
    pub(crate) fn forget(&self) {
        if self.needs_flush {
            self.command(FLUSH_BUFFER);
        }
        write64(self.registers + CONTEXT_COMMAND, CONTEXTS);
        while read64(self.registers + CONTEXT_COMMAND) & CONTEXTS_BUSY != 0 {}
        let place = (read64(self.registers + EXTENDED) >> 8 & 0x3FF) * 16;
        let translations = self.registers + place + 8;
        write64(translations, TRANSLATIONS);
        while read64(translations) & TRANSLATIONS_BUSY != 0 {}
    }

    /// The table with the contexts of a function's bus.
    fn contexts(&self, function: Function) -> Option<Frame> {
        let entry = load(self.root, bus(function));
        let start = PhysAddr::new(entry & !0xFFF).filter(|_| entry & PRESENT != 0);
        start.map(PhysAddr::frame)
    }

    /// Gives a command (10.4.4) and waits until it is carried out.
    fn command(&self, bit: u32) {
        let status = self.registers + STATUS;
        // What is on stays on; the other bits are commands of one time.
        let on = read32(status) & TRANSLATE;
        write32(self.registers + COMMAND, on | bit);
        let waiting = |status: u32| match bit {
            FLUSH_BUFFER => status & bit != 0,
            _ => status & bit == 0,
        };
        while waiting(read32(status)) {}
    }
}

/// Where the root table says where a function's bus has its contexts.
fn bus(function: Function) -> usize {
    usize::from(function >> 8) * 2
}

/// Where in that table a function's context is.
fn context(function: Function) -> usize {
    usize::from(function & 0xFF) * 2
}

fn load(table: Frame, index: usize) -> u64 {
    // SAFETY: the table is a frame of the kernel's that this module allocated; an index is below
    // 512, since a bus has 256 functions of two words.
    unsafe { ptr::read_volatile(direct_map::pointer(table).cast::<u64>().add(index & 511)) }
}

fn store(table: Frame, index: usize, value: u64) {
    // SAFETY: as in `load`; the lock of the world is held.
    unsafe {
        ptr::write_volatile(
            direct_map::pointer(table).cast::<u64>().add(index & 511),
            value,
        )
    }
}

fn read32(register: u64) -> u32 {
    // SAFETY: the register lies in the block that `tables` maps uncached at CONTROLLERS, as
    // `Iommu::new` has checked; reading it changes nothing.
    unsafe { ptr::read_volatile(register as *const u32) }
}

fn write32(register: u64, value: u32) {
    // SAFETY: as in `read32`; commands are given by this module alone, under the world's lock.
    unsafe { ptr::write_volatile(register as *mut u32, value) }
}

fn read64(register: u64) -> u64 {
    // SAFETY: as in `read32`.
    unsafe { ptr::read_volatile(register as *const u64) }
}

fn write64(register: u64, value: u64) {
    // SAFETY: as in `write32`.
    unsafe { ptr::write_volatile(register as *mut u64, value) }
}
