//! The descriptor table and the task state segment that each processor has.
//!
//! Four segments and a TSS, in the order that SYSCALL and SYSRET want. No 32-bit code segment, no
//! local table. The TSS gives the stacks: RSP0 is the end of the running thread's register frame,
//! the four IST stacks are for events that may interrupt the kernel itself.

use core::cell::UnsafeCell;
use core::mem::offset_of;

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

/// Bytes of each of them.
pub(crate) const IST_STACK: usize = 8192;

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

/// A processor's descriptor table and task state segment.
#[repr(C, align(16))]
pub(super) struct Tables {
    gdt: [u64; 7],
    /// Has RSP0 lie at a multiple of 8.
    pad: u32,
    tss: TaskState,
}

#[repr(C, align(16))]
struct Stacks(UnsafeCell<[[u8; IST_STACK]; 4]>);
// SAFETY: used by the boot processor alone, and not from Rust.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; IST_STACK]; 4]));

/// Where the boot processor's four stacks of [`Ist`] begin.
pub(super) fn boot_stacks() -> u64 {
    STACKS.0.get() as u64
}

impl Tables {
    /// Where RSP0 lies.
    pub(super) const STACK: usize = offset_of!(Tables, tss) + offset_of!(TaskState, stacks);

    /// Tables that are not settled.
    pub(super) const fn new() -> Tables {
        Tables {
            gdt: [
                0,
                0x00AF_9B00_0000_FFFF,
                0x00CF_9300_0000_FFFF,
                0x00CF_F300_0000_FFFF,
                0x00AF_FB00_0000_FFFF,
                0,
                0,
            ],
            pad: 0,
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
        }
    }

    /// Fills in where things lie, the four stacks of [`Ist`] from `stacks` on among them.
    pub(super) fn settle(&mut self, stacks: u64) {
        for ist in [Ist::Nmi, Ist::DoubleFault, Ist::MachineCheck, Ist::Debug] {
            let number = ist as usize;
            self.tss.ist[number - 1] = stacks + (number * IST_STACK) as u64;
        }
        let base = &raw const self.tss as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        self.gdt[5] = limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56;
        self.gdt[6] = base >> 32;
    }

    /// Loads the tables and every segment register. The GS base is lost.
    ///
    /// # Safety
    /// They are settled, stay where they are for ever, and are loaded by one processor.
    pub(super) unsafe fn load(this: *const Tables) {
        let pointer = DescriptorTablePointer {
            limit: (size_of::<[u64; 7]>() - 1) as u16,
            base: VirtAddr::new_truncate(this as u64),
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
}

const _: () = assert!(Tables::STACK.is_multiple_of(8));
