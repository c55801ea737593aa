//! Time: the time stamp counter as nanoseconds since boot, and the one-shot timer set by them.
//!
//! Both frequencies are measured against channel 2 of the old interval timer: until two measurements agree,
//! for whoever emulates a processor may give it no time in the midst of one, which then counts too much.

use core::arch::x86_64::_rdtsc;

use super::apic;
use super::port_io::{read8, write8};

/// Frequency of the interval timer, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Its count for a measurement: about half a millisecond.
const PIT_COUNT: u16 = 597;
/// Most measurements.
const MEASUREMENTS: u32 = 100;
/// Polls before the timer counts as missing.
const PATIENCE: u32 = 10_000_000;
/// The longest time that the timer is set to: an early interrupt is harmless.
const LONGEST: u64 = 1_000_000_000;
/// The ports of the interval timer.
pub(crate) const PIT_PORTS: core::ops::Range<u16> = 0x40..0x44;
/// The port with the gate and the output of its channel 2.
pub(crate) const GATE_PORT: u16 = 0x61;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    /// Time stamp counter, in Hz.
    pub(crate) tsc_hz: u64,
    /// Nanoseconds per tick of the counter, as 32.32 fixed point.
    tsc_scale: u64,
    /// Ticks of the APIC timer per nanosecond, as 32.32 fixed point.
    apic_scale: u64,
}

impl Clock {
    /// Measures. The APIC must be on.
    pub(crate) fn measure() -> Clock {
        let (tsc, ticks) = shortest_interval();
        let per_second =
            |count: u64| (u128::from(count) * u128::from(PIT_HZ)) / u128::from(PIT_COUNT);
        let tsc_hz = (per_second(tsc) as u64).max(1);
        let apic_hz = (per_second(u64::from(ticks)) as u64).max(1);
        Clock {
            start: now_tsc(),
            tsc_hz,
            tsc_scale: ((1_000_000_000u128 << 32) / u128::from(tsc_hz)) as u64,
            apic_scale: ((u128::from(apic_hz) << 32) / 1_000_000_000) as u64,
        }
    }

    /// Nanoseconds since boot.
    pub(crate) fn now(&self) -> u64 {
        let ticks = now_tsc().wrapping_sub(self.start);
        ((u128::from(ticks) * u128::from(self.tsc_scale)) >> 32) as u64
    }

    /// Lets the timer interrupt come at `deadline` or earlier, but not at once; `FOREVER` stops it.
    pub(crate) fn set_alarm(&self, deadline: u64) {
        if deadline == ipc_abi::message::FOREVER {
            apic::set_timer(0);
            return;
        }
        let wait = deadline.saturating_sub(self.now()).min(LONGEST);
        let ticks = (u128::from(wait) * u128::from(self.apic_scale)) >> 32;
        apic::set_timer(u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
    }
}

/// The time stamp counter.
pub(crate) fn now_tsc() -> u64 {
    // SAFETY: reading the counter has no effect; every x86-64 processor has it.
    unsafe { _rdtsc() }
}

/// What two of the shortest intervals agree on, or the shortest of all.
fn shortest_interval() -> (u64, u32) {
    let mut best = run_interval();
    for _ in 1..MEASUREMENTS {
        let next = run_interval();
        let agree = next.0.abs_diff(best.0) < best.0 / 64;
        if next.0 < best.0 {
            best = next;
        }
        if agree {
            break;
        }
    }
    best
}

/// Ticks of counter and APIC timer while channel 2 counts down once.
fn run_interval() -> (u64, u32) {
    let gate = read8(GATE_PORT) & 0xFC;
    write8(GATE_PORT, gate);
    write8(0x43, 0xB0); // channel 2, both bytes, interrupt on terminal count
    let [low, high] = PIT_COUNT.to_le_bytes();
    write8(0x42, low);
    write8(0x42, high);
    apic::set_timer(u32::MAX);
    let start = now_tsc();
    write8(GATE_PORT, gate | 1);
    for _ in 0..PATIENCE {
        if read8(GATE_PORT) & 0x20 != 0 {
            break;
        }
    }
    let tsc = now_tsc().wrapping_sub(start);
    let ticks = u32::MAX - apic::timer_left();
    apic::set_timer(0);
    write8(GATE_PORT, gate);
    (tsc, ticks)
}
