//! The interrupt descriptor table: 256 gates to the stubs of `entry`.
//!
//! All are interrupt gates, so that interrupts are off in the kernel. Only the breakpoint gate can
//! be used by an INT instruction of ring 3. Four vectors have stacks of their own.

use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::tables;
use x86_64::structures::DescriptorTablePointer;

use super::gdt::{Ist, KERNEL_CODE};
use super::vector::Mode;
use super::{entry, fast_entry};

/// Breakpoint, by INT3.
const BREAKPOINT: u8 = 3;
const PAGE_FAULT: u8 = 14;
const PRESENT: u64 = 1 << 47;
const INTERRUPT_GATE: u64 = 0xE << 40;
const FROM_RING_3: u64 = 3 << 45;

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written by `init` only, once, before interrupts are on or other processors run.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Has page faults enter the short way that this kind of processor has.
pub(crate) fn shorten_page_faults(mode: Mode) {
    if let Some(address) = fast_entry::page_fault_address(mode) {
        // SAFETY: as in `init`; the stub is one for a vector with an error code.
        unsafe { (*TABLE.0.get())[usize::from(PAGE_FAULT)] = gate(PAGE_FAULT, address) };
    }
}

/// Fills the table and loads it in the boot processor.
pub(crate) fn init() {
    let table = TABLE.0.get();
    for vector in 0..=255u8 {
        // SAFETY: nobody else uses the table yet (see `Table`).
        unsafe { (*table)[usize::from(vector)] = gate(vector, entry::stub_address(vector)) };
    }
    load();
}

/// Loads the table, which is filled.
pub(crate) fn load() {
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Table>() - 1) as u16,
        base: VirtAddr::new_truncate(TABLE.0.get() as u64),
    };
    // SAFETY: the table is static and every gate leads to its stub.
    unsafe { tables::lidt(&pointer) };
}

fn gate(vector: u8, address: u64) -> [u64; 2] {
    let ist = match vector {
        1 => Ist::Debug as u64,
        2 => Ist::Nmi as u64,
        8 => Ist::DoubleFault as u64,
        18 => Ist::MachineCheck as u64,
        _ => 0,
    };
    let ring = if vector == BREAKPOINT { FROM_RING_3 } else { 0 };
    let low = address & 0xFFFF
        | u64::from(KERNEL_CODE) << 16
        | ist << 32
        | INTERRUPT_GATE
        | ring
        | PRESENT
        | (address >> 16 & 0xFFFF) << 48;
    [low, address >> 32]
}
