//! Traps on time.

use super::{Answer, Arguments};
use crate::world::World;

/// `clock_get() -> nanoseconds, frequency`
pub(super) fn clock_get(world: &mut World, _: Arguments) -> Answer {
    let clock = &world.hardware.clock;
    Ok([clock.now(), clock.tsc_hz])
}
