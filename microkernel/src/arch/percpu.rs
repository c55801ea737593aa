//! The block that a processor finds behind GS while it is in the kernel.
//!
//! What the entry code needs, what is loaded in the processor, and its descriptor tables. Fields are
//! atomics where other processors look: they do so while they have the kernel's lock, under which
//! the processor itself writes them, so that plain loads and stores do. In ring 3 the GS base is
//! zero, and SWAPGS exchanges the two.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use kernel_core::gate::Gate;
use kernel_core::rank::{Held, Rank};
use kernel_core::turn::{Inbox, Mine};
use kernel_core::{PROCESSORS_MAX, Seat};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use super::context::{Block, Saved};
use super::gdt::Tables;
use super::vector::Mode;
use crate::schedule::Processor;

/// Where the entry stubs find what they need is known to them by offset.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// Where this block lies.
    this: *const PerCpu,
    /// The user's RSP (or RAX) between two instructions of a stub.
    pub(crate) scratch: AtomicU64,
    /// Top of this processor's only stack.
    pub(crate) stack_top: u64,
    /// How vector registers are saved and cleared: see `vector::Mode`.
    pub(crate) vector_mode: AtomicU64,
    /// Entries into the kernel.
    pub(crate) entries: AtomicU64,
    flushes: AtomicU64,
    /// What it takes the kernel's lock as.
    pub(crate) mine: Mine,
    /// Its number at its interrupt controller.
    pub(crate) apic: u32,
    /// What others ask of it.
    pub(crate) inbox: Inbox,
    /// The locks that it holds, in debug builds.
    locks: AtomicU32,
    /// What is loaded.
    pub(crate) processor: Processor,
    /// Its way in beside the kernel's lock.
    pub(crate) gate: Gate,
    /// What it runs, for kernel-core. Used by this processor inside its gate, and by who has the lock.
    pub(crate) seat: Seat,
    tables: UnsafeCell<Tables>,
    /// Where registers are stored if no thread is there to have them.
    nowhere: UnsafeCell<MaybeUninit<Block>>,
}

// SAFETY: other processors use atomics, and the seat, as `seat` says; the other fields are written before
// the block is listed, or by its own processor with interrupts off.
unsafe impl Sync for PerCpu {}

/// Where the end of the running thread's block lies in [`PerCpu`]: it is RSP0 of the TSS, so that the
/// processor stores a trap there.
pub(crate) const FRAME_END: usize = offset_of!(PerCpu, tables) + Tables::STACK;

impl PerCpu {
    /// A block for processor `number`, which has this stack.
    pub(crate) const fn new(number: usize, apic: u32, stack_top: u64) -> PerCpu {
        PerCpu {
            this: ptr::null(),
            scratch: AtomicU64::new(0),
            stack_top,
            vector_mode: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            mine: Mine::new(number),
            apic,
            inbox: Inbox::new(),
            locks: AtomicU32::new(0),
            processor: Processor::new(),
            gate: Gate::new(),
            seat: Seat::new(),
            tables: UnsafeCell::new(Tables::new()),
            nowhere: UnsafeCell::new(MaybeUninit::zeroed()),
        }
    }

    /// Fills in what points into the block itself.
    ///
    /// # Safety
    /// `block` is a block that nobody uses yet and that stays where it is; `stacks` are the four
    /// stacks of [`super::gdt::Ist`], in order.
    pub(crate) unsafe fn settle(block: *mut PerCpu, stacks: u64) {
        // SAFETY: the block is the caller's alone.
        unsafe {
            (*block).this = block;
            (*block).tables.get_mut().settle(stacks);
        }
    }

    /// Makes the block this processor's, with its tables.
    ///
    /// # Safety
    /// It was settled, and is no other processor's. Interrupts are off.
    pub(crate) unsafe fn enter(&'static self) {
        // SAFETY: the tables are settled, and static as the block is.
        unsafe { Tables::load(self.tables.get()) };
        GsBase::write(VirtAddr::new_truncate(ptr::from_ref(self) as u64));
        KernelGsBase::write(VirtAddr::zero());
        run_nowhere();
    }

    /// The processor's number.
    pub(crate) fn number(&self) -> usize {
        self.mine.number()
    }
}

struct Boot(UnsafeCell<PerCpu>);
// SAFETY: see `PerCpu`.
unsafe impl Sync for Boot {}

static BOOT_CPU: Boot = Boot(UnsafeCell::new(PerCpu::new(0, 0, 0)));

/// The blocks of all processors that run, by number.
static BLOCKS: [AtomicPtr<PerCpu>; PROCESSORS_MAX] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PROCESSORS_MAX];
static COUNT: AtomicUsize = AtomicUsize::new(1);

unsafe extern "C" {
    static boot_stack_top: u8;
}

/// Makes the boot processor's block, which has its tables and the number 0.
pub(crate) fn init() {
    let block = BOOT_CPU.0.get();
    // SAFETY: the only processor, with interrupts off; the block and the stacks are static.
    unsafe {
        (*block).stack_top = &raw const boot_stack_top as u64;
        PerCpu::settle(block, super::gdt::boot_stacks());
        (*block).enter();
    }
    BLOCKS[0].store(block, Ordering::Release);
}

/// Says how this processor saves and clears vector registers.
pub(crate) fn set_vector_mode(mode: Mode) {
    here().vector_mode.store(mode as u64, Ordering::Relaxed);
}

/// Notes what the boot processor is called by its interrupt controller.
pub(crate) fn set_boot_apic(apic: u32) {
    // SAFETY: no other processor runs yet.
    unsafe { (*BOOT_CPU.0.get()).apic = apic };
}

/// Lists a processor that runs: the next by number.
pub(crate) fn add(block: &'static PerCpu) {
    if let Some(place) = BLOCKS.get(block.number()) {
        place.store(ptr::from_ref(block).cast_mut(), Ordering::Release);
        COUNT.store(block.number() + 1, Ordering::Release);
    }
}

/// How many processors run.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// The blocks of all processors that run.
pub(crate) fn all() -> impl Iterator<Item = &'static PerCpu> {
    BLOCKS[..count().min(PROCESSORS_MAX)]
        .iter()
        .filter_map(|place| {
            let block = place.load(Ordering::Acquire);
            // SAFETY: a block that is listed is settled and stays for ever.
            unsafe { block.as_ref() }
        })
}

/// What the interrupt controllers call the processor of this number.
pub(crate) fn apic_of(number: usize) -> u32 {
    all().nth(number).map_or(0, |block| block.apic)
}

/// The seats of all processors that run.
pub(crate) fn seats() -> impl ExactSizeIterator<Item = &'static Seat> {
    let seats: heapless::Vec<_, PROCESSORS_MAX> = all().map(|block| &block.seat).collect();
    seats.into_iter()
}

/// The blocks of all other processors that run.
pub(crate) fn others() -> impl Iterator<Item = &'static PerCpu> {
    let here = here();
    all().filter(move |block| !ptr::eq(*block, here))
}

/// This processor's block.
#[inline(always)]
pub(crate) fn here() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: in the kernel GS points at the processor's block, whose first word is its address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) block, options(pure, nomem, nostack, preserves_flags));
        &*block
    }
}

/// Makes `thread` the one whose registers the entry code stores.
#[inline(always)]
pub(crate) fn set_running(thread: Saved) {
    set_frame_end(thread.end());
}

/// Has the entry code store registers where nobody looks.
pub(crate) fn run_nowhere() {
    let nowhere = here().nowhere.get();
    set_frame_end(nowhere as u64 + size_of::<Block>() as u64);
}

#[inline(always)]
fn set_frame_end(end: u64) {
    // SAFETY: RSP0 is this processor's, which does not look at it while it is in the kernel.
    unsafe {
        asm!("mov gs:[{place}], {end}", place = const FRAME_END, end = in(reg) end,
            options(nostack, preserves_flags));
    }
}

/// A lock is about to be taken: stops the machine if it is out of order. Nothing in release builds.
#[inline(always)]
pub(crate) fn lock_taken(rank: Rank) {
    if cfg!(debug_assertions) {
        let locks = &here().locks;
        let held = Held::from_word(locks.load(Ordering::Relaxed));
        match held.with(rank) {
            Some(held) => locks.store(held.word(), Ordering::Relaxed),
            None => crate::panic::stop(format_args!("{rank:?} is locked after {held:?}")),
        }
    }
}

/// A lock was given back.
#[inline(always)]
pub(crate) fn lock_given(rank: Rank) {
    if cfg!(debug_assertions) {
        let locks = &here().locks;
        let held = Held::from_word(locks.load(Ordering::Relaxed));
        locks.store(held.without(rank).word(), Ordering::Relaxed);
    }
}

/// Entries into the kernel so far, of all processors.
pub(crate) fn entries() -> u64 {
    all()
        .map(|block| block.entries.load(Ordering::Relaxed))
        .sum()
}

/// Counts a flush of translations.
pub(crate) fn count_flush() {
    add_to(&here().flushes);
}

/// Adds one to a counter that only this processor writes.
#[inline(always)]
pub(crate) fn add_to(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Flushes of translations so far, of all processors.
pub(crate) fn flushes() -> u64 {
    all()
        .map(|block| block.flushes.load(Ordering::Relaxed))
        .sum()
}

/// Messages and page faults that went fast ways so far, on all processors. The caller has the kernel's lock.
pub(crate) fn fast_counts() -> (u64, u64) {
    all()
        .map(|block| block.seat.counts())
        .fold((0, 0), |(messages, faults), (more, others)| {
            (messages + more, faults + others)
        })
}

/// Loads of root tables so far, of all processors.
pub(crate) fn space_switches() -> u64 {
    all().map(|block| block.processor.space_switches()).sum()
}
