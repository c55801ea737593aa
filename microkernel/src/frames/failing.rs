//! An allocation that fails on purpose: the holder of the host control port says that the Nth one which
//! its thread's traps make from now on is to fail, and tries whether a trap then changes anything.
//!
//! Only what a trap of that thread allocates counts, while the trap is handled: nobody else is harmed.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The thread: the word of its block; 0: nobody.
static THREAD: AtomicU64 = AtomicU64::new(0);
/// Whether a trap of it is being handled.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Allocations that still succeed; `u64::MAX`: all.
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
/// Allocations that were counted.
static MADE: AtomicU64 = AtomicU64::new(0);
/// Whether one has failed.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Lets the allocation after `left` others of a thread fail; gives how many there were since the last
/// time, and whether one has failed.
pub(crate) fn arm(thread: u64, left: u64) -> (u64, bool) {
    ACTIVE.store(false, Ordering::Relaxed);
    let thread = if left == u64::MAX { 0 } else { thread };
    THREAD.store(thread, Ordering::Relaxed);
    LEFT.store(left, Ordering::Relaxed);
    let made = MADE.swap(0, Ordering::Relaxed);
    (made, FAILED.swap(false, Ordering::Relaxed))
}

/// A trap of this thread is handled from now on.
#[inline]
pub(crate) fn begin(thread: u64) {
    if THREAD.load(Ordering::Relaxed) == thread {
        ACTIVE.store(true, Ordering::Relaxed);
    }
}

/// The trap has been handled.
#[inline]
pub(crate) fn end() {
    if ACTIVE.load(Ordering::Relaxed) {
        ACTIVE.store(false, Ordering::Relaxed);
    }
}

/// A thread ends: another may come to lie where it lay.
pub(crate) fn forget(thread: u64) {
    if THREAD.load(Ordering::Relaxed) == thread {
        THREAD.store(0, Ordering::Relaxed);
    }
}

/// Whether the allocation that takes place now is the one that fails.
#[inline]
pub(super) fn is_due() -> bool {
    ACTIVE.load(Ordering::Relaxed) && count()
}

#[cold]
fn count() -> bool {
    MADE.fetch_add(1, Ordering::Relaxed);
    match LEFT.load(Ordering::Relaxed) {
        u64::MAX => false,
        0 => {
            LEFT.store(u64::MAX, Ordering::Relaxed);
            FAILED.store(true, Ordering::Relaxed);
            true
        }
        left => {
            LEFT.store(left - 1, Ordering::Relaxed);
            false
        }
    }
}
