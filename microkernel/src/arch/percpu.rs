//! The block that a processor finds behind GS while it is in the kernel.
//!
//! Only the entry code and the switch of threads need it; everything else lies in the world behind
//! its lock. In ring 3 the GS base is zero, and SWAPGS exchanges the two.

use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use super::context::Saved;

/// Fields that the entry stubs use by offset.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// The user's RSP (or RAX) between two instructions of a stub.
    pub(crate) scratch: u64,
    /// End of the running thread's block: where its registers are stored.
    pub(crate) frame_end: u64,
    /// Top of this processor's only stack.
    pub(crate) stack_top: u64,
    /// How vector registers are saved and cleared: see `vector::Mode`.
    pub(crate) vector_mode: u64,
    /// Entries into the kernel.
    pub(crate) entries: u64,
    /// Flushes of translations.
    pub(crate) flushes: u64,
}

struct Shared(UnsafeCell<PerCpu>);
// SAFETY: used by the one processor that owns it, with interrupts off.
unsafe impl Sync for Shared {}

static BOOT_CPU: Shared = Shared(UnsafeCell::new(PerCpu {
    scratch: 0,
    frame_end: 0,
    stack_top: 0,
    vector_mode: 0,
    entries: 0,
    flushes: 0,
}));

unsafe extern "C" {
    static boot_stack_top: u8;
}

/// Points GS at the boot processor's block. Call after the segment registers are loaded.
pub(crate) fn init(mode: super::vector::Mode) {
    let block = BOOT_CPU.0.get();
    // SAFETY: the only processor, with interrupts off.
    unsafe {
        (*block).stack_top = &raw const boot_stack_top as u64;
        (*block).vector_mode = mode as u64;
    }
    GsBase::write(VirtAddr::new_truncate(block as u64));
    KernelGsBase::write(VirtAddr::zero());
}

/// Makes `thread` the one whose registers the entry code stores.
pub(crate) fn set_running(thread: Saved) {
    let end = thread.end();
    // SAFETY: the block is this processor's, and interrupts are off.
    unsafe { (*BOOT_CPU.0.get()).frame_end = end };
    super::gdt::set_frame_end(end);
}

/// Entries into the kernel so far.
pub(crate) fn entries() -> u64 {
    // SAFETY: as in `set_running`.
    unsafe { (*BOOT_CPU.0.get()).entries }
}

/// Counts a flush of translations.
pub(super) fn count_flush() {
    // SAFETY: as in `set_running`.
    unsafe { (*BOOT_CPU.0.get()).flushes += 1 }
}

/// Flushes of translations so far.
pub(crate) fn flushes() -> u64 {
    // SAFETY: as in `set_running`.
    unsafe { (*BOOT_CPU.0.get()).flushes }
}
