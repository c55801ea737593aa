//! An allocator of which one can say that the Nth allocation from now on fails, for one thread.
//!
//! A test program that wants it names it its global allocator. The toy machine's own allocations do not
//! count ([`aside`]): they stand for registers and buffers, and say by [`is_due`] that there is none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations that still succeed; `u64::MAX`: all.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Whether one has failed.
    static FAILED: Cell<bool> = const { Cell::new(false) };
    /// Whether allocations do not count now.
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// The allocator.
#[derive(Debug)]
pub struct Failing;

/// Lets the allocation after `left` others fail, and all after it succeed.
pub fn arm(left: u64) {
    LEFT.set(left);
    FAILED.set(false);
}

/// Lets none fail any more; says whether one has.
pub fn disarm() -> bool {
    LEFT.set(u64::MAX);
    FAILED.replace(false)
}

/// Whether the allocation that takes place now is the one that fails.
pub fn is_due() -> bool {
    if ASIDE.get() {
        return false;
    }
    match LEFT.get() {
        u64::MAX => false,
        0 => {
            LEFT.set(u64::MAX);
            FAILED.set(true);
            true
        }
        left => {
            LEFT.set(left - 1);
            false
        }
    }
}

/// Does something whose allocations do not count.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let before = ASIDE.replace(true);
    let result = work();
    ASIDE.set(before);
    result
}

// SAFETY: hands everything to the system's allocator, or fails.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_due() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_due() {
            return core::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}
