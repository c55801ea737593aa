//! `check=N` on the command line: at every Nth trap that takes the general way, the whole state is
//! compared with the rules that it obeys (`kernel_core::invariants`), and the machine stops if one is
//! broken. For test runs: a check takes time and memory in proportion to all that there is.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::frames;
use crate::panic;
use crate::world::World;

/// Free frames below which no check is made: it must not take what a test wants to see used up.
const FRAMES: u32 = 1024;

/// 0: never.
static EVERY: AtomicU64 = AtomicU64::new(0);
static TRAPS: AtomicU64 = AtomicU64::new(0);

/// Reads the option's value.
pub(crate) fn set(option: Option<&str>) {
    let every = option.and_then(|text| text.parse().ok()).unwrap_or(0);
    EVERY.store(every, Ordering::Relaxed);
}

/// Counts a trap, and checks if its turn has come.
#[inline]
pub(crate) fn count(world: &World) {
    let every = EVERY.load(Ordering::Relaxed);
    if every != 0 && TRAPS.fetch_add(1, Ordering::Relaxed).is_multiple_of(every) {
        check(world);
    }
}

#[cold]
fn check(world: &World) {
    let (_, free) = frames::counts();
    if free < FRAMES {
        return;
    }
    if let Err(broken) = world.kernel.check() {
        panic::stop(format_args!("the kernel's state is broken: {broken}"));
    }
}
