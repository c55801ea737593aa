//! The processor and the few devices that the kernel itself uses.
//!
//! What the rest of the kernel calls is `pub(crate)` in these modules; `unsafe` lives here and in
//! the few other modules that deal with raw memory.

pub(crate) mod apic;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod exit;
pub(crate) mod fast_entry;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod ioapic;
pub(crate) mod layout;
mod memory;
pub(crate) mod percpu;
pub(crate) mod pic;
pub(crate) mod port_io;
pub(crate) mod serial;
pub(crate) mod state;
pub(crate) mod tables;
pub(crate) mod tlb;
mod unwind;
pub(crate) mod vector;
pub(crate) mod vtd;
