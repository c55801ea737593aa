//! The descriptor table and the task state segment.
//!
//! Four segments and a TSS, in the order that SYSCALL and SYSRET want. No 32-bit code segment, no
//! local table. The TSS gives the stacks: RSP0 is the end of the running thread's register frame,
//! the four IST stacks are for events that may interrupt the kernel itself.

use core::cell::UnsafeCell;

use x86_64::instructions::{segmentation, tables};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::{PrivilegeLevel, VirtAddr};

/// Kernel code.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Kernel stack and data.
pub(crate) const KERNEL_DATA: u16 = 0x10;
/// User stack and data, with RPL 3.
pub(crate) const USER_DATA: u16 = 0x1B;
/// User code, with RPL 3.
pub(crate) const USER_CODE: u16 = 0x23;
const TSS_SELECTOR: u16 = 0x28;

/// Stacks of the events that get one of their own, by IST number less one.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Ist {
    /// Non-maskable interrupt.
    Nmi = 1,
    /// Double fault.
    DoubleFault = 2,
    /// Machine check.
    MachineCheck = 3,
    /// Debug exception: MOV SS can delay one into the kernel's first instruction.
    Debug = 4,
}

const IST_STACK: usize = 8192;

#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    reserved2: u64,
    ist: [u64; 7],
    reserved3: u64,
    reserved4: u16,
    io_map: u16,
}

#[repr(C, align(16))]
struct Tables {
    gdt: [u64; 7],
    tss: TaskState,
}

#[repr(C, align(16))]
struct Stacks([[u8; IST_STACK]; 4]);

struct Shared<T>(UnsafeCell<T>);
// SAFETY: the tables are written by `init`, once, before a second processor or an interrupt could
// look, and by `set_frame_end` with interrupts off; the stacks are used by the processor alone.
unsafe impl<T> Sync for Shared<T> {}

static TABLES: Shared<Tables> = Shared(UnsafeCell::new(Tables {
    gdt: [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        0,
        0,
    ],
    tss: TaskState {
        reserved: 0,
        stacks: [0; 3],
        reserved2: 0,
        ist: [0; 7],
        reserved3: 0,
        reserved4: 0,
        // Past the limit: no I/O port is allowed to ring 3.
        io_map: size_of::<TaskState>() as u16,
    },
}));
static STACKS: Shared<Stacks> = Shared(UnsafeCell::new(Stacks([[0; IST_STACK]; 4])));

/// Loads the tables and every segment register.
pub(crate) fn init() {
    let tables = TABLES.0.get();
    let stacks = STACKS.0.get() as u64;
    // SAFETY: runs once, on the only processor, with interrupts off (see `Shared`).
    unsafe {
        let tss = &raw mut (*tables).tss;
        for ist in [Ist::Nmi, Ist::DoubleFault, Ist::MachineCheck, Ist::Debug] {
            let number = ist as usize;
            (*tss).ist[number - 1] = stacks + (number * IST_STACK) as u64;
        }
        let base = tss as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        (*tables).gdt[5] =
            limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56;
        (*tables).gdt[6] = base >> 32;
    }
    let pointer = DescriptorTablePointer {
        limit: (size_of::<[u64; 7]>() - 1) as u16,
        base: VirtAddr::new_truncate(tables as u64),
    };
    // SAFETY: the table is static and complete; its kernel segments are flat, as the running ones.
    unsafe {
        use segmentation::Segment;
        tables::lgdt(&pointer);
        segmentation::CS::set_reg(SegmentSelector(KERNEL_CODE));
        segmentation::SS::set_reg(SegmentSelector(KERNEL_DATA));
        for null in [
            segmentation::DS::set_reg as unsafe fn(SegmentSelector),
            segmentation::ES::set_reg,
            segmentation::FS::set_reg,
            segmentation::GS::set_reg,
        ] {
            null(SegmentSelector::new(0, PrivilegeLevel::Ring0));
        }
        tables::load_tss(SegmentSelector(TSS_SELECTOR));
        // After reset the LDT is the first 64 KiB of whatever address space is loaded.
        core::arch::asm!("lldt {:x}", in(reg) 0_u16, options(nomem, nostack, preserves_flags));
    }
}

/// Says where the processor stores a trap from ring 3: below `end`, which must be 16-byte aligned.
pub(crate) fn set_frame_end(end: u64) {
    // SAFETY: interrupts are off, so the processor does not read the TSS meanwhile.
    unsafe { (&raw mut (*TABLES.0.get()).tss.stacks[0]).write_unaligned(end) }
}
