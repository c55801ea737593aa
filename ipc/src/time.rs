//! Clock, deadlines, sleep. All times are nanoseconds since boot.

use crate::trap;

/// Nanoseconds of a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// Now.
#[must_use]
pub fn now() -> u64 {
    // The trap has no way to fail.
    trap::clock_get().map_or(0, |(now, _)| now)
}

/// The deadline so many nanoseconds from now.
#[must_use]
pub fn after(nanoseconds: u64) -> u64 {
    now().saturating_add(nanoseconds)
}

/// Waits so many nanoseconds.
pub fn sleep(nanoseconds: u64) {
    let deadline = after(nanoseconds);
    while now() < deadline {
        crate::sync::park_until(deadline);
    }
}

/// The processor's time stamp counter: under instruction counting, instructions so far.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter; the fence keeps earlier instructions before it.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}
