//! Traps on the frames of the machine.

use ipc_abi::Kern;

use super::{Answer, Arguments, NOTHING, Stop};
use crate::arch::context::Saved;
use crate::world::World;

/// `frame_donate(host_memory, first, count)`
///
/// The frames go block by block; between two blocks the registers say what is left.
pub(super) fn donate(world: &mut World, [host_memory, first, count, ..]: Arguments) -> Answer {
    world.kernel.check_host_memory(host_memory)?;
    let number = |word: u64| u32::try_from(word).map_err(|_| Kern::InvalidArgument);
    let (first, count) = (number(first)?, number(count)?);
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let done = world.hardware.memory.donate(first, count)?;
    world.kernel.memory_donated();
    if done == count {
        return Ok(NOTHING);
    }
    Saved::of(running.context).with(|registers| {
        registers.rsi = u64::from(first) + u64::from(done);
        registers.rdx = u64::from(count - done);
    });
    Err(Stop::Again)
}

/// `host_set_memory_low(host_memory, notify)`
pub(super) fn set_memory_low(world: &mut World, [host_memory, notify, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    kernel.host_set_memory_low(hardware, host_memory, notify)?;
    crate::frames::check_shortage();
    Ok(NOTHING)
}
