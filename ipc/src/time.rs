//! Clock, deadlines, sleep. All times are nanoseconds since boot.

use core::arch::asm;

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

/// The kernel's clock read without a trap: from the time stamp counter, of which it is made as well.
/// It is ahead of the kernel's by the time that one trap takes, so that a deadline which the kernel
/// found passed has passed here too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ticks: u64,
    nanoseconds: u64,
    /// Nanoseconds per tick, as 32.32 fixed point.
    scale: u64,
}

impl Clock {
    /// A clock that was set by the kernel's just now.
    #[must_use]
    pub fn set() -> Clock {
        let ticks = ticks();
        // The trap has no way to fail.
        let (nanoseconds, frequency) = trap::clock_get().unwrap_or((0, SECOND));
        let scale = (u128::from(SECOND) << 32) / u128::from(frequency.max(1));
        Clock {
            ticks,
            nanoseconds,
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
        }
    }

    /// Nanoseconds since boot.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        let passed = u128::from(ticks().wrapping_sub(self.ticks));
        let nanoseconds = (passed * u128::from(self.scale)) >> 32;
        self.nanoseconds.saturating_add(nanoseconds as u64)
    }
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
    let (low, high): (u32, u32);
    // SAFETY: reads a counter; the fence keeps earlier instructions before it. A profile is cut where the two
    // stand beside each other.
    unsafe {
        asm!(
            "lfence",
            "rdtsc",
            out("eax") low,
            out("edx") high,
            options(nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}
