//! Traps on the frames of the machine, and on their owners.

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;

use super::{Answer, Arguments, NOTHING, Stop};
use crate::arch::context::Saved;
use crate::pmap::transfer::{Place, RANGES, Ranges};
use crate::world::World;

/// `frame_donate(host_memory, first, count)`
///
/// The frames go block by block; between two blocks the registers say what is left.
pub(super) fn donate(world: &mut World, [host_memory, first, count, ..]: Arguments) -> Answer {
    let from = place(world, host_memory)?;
    let (first, count) = (number(first)?, number(count)?);
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let done = world.hardware.memory.donate(from, first, count)?;
    world.kernel.donation(from.0, done, false);
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

/// `owner_create(host_memory, space) -> owner`
pub(super) fn owner_create(world: &mut World, [host_memory, space, ..]: Arguments) -> Answer {
    let name = world.kernel.owner_create(host_memory, space)?;
    Ok([u64::from(name), 0])
}

/// `frame_give(host_memory, owner, first, count)`, block by block as [`donate`].
pub(super) fn give(world: &mut World, [host_memory, owner, first, count, ..]: Arguments) -> Answer {
    let from = place(world, host_memory)?;
    let to = world.kernel.owner_below(host_memory, owner)?;
    let (first, count) = (number(first)?, number(count)?);
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let done = world.hardware.memory.give(from, to, first, count)?;
    if done == count {
        return Ok(NOTHING);
    }
    Saved::of(running.context).with(|registers| {
        registers.rdx = u64::from(first) + u64::from(done);
        registers.r10 = u64::from(count - done);
    });
    Err(Stop::Again)
}

/// `owner_destroy(host_memory, owner)`
pub(super) fn owner_destroy(world: &mut World, [host_memory, owner, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    kernel.owner_destroy(hardware, host_memory, owner)?;
    Ok(NOTHING)
}

/// `owner_collect(host_memory) -> ranges, more`
pub(super) fn owner_collect(world: &mut World, [host_memory, ..]: Arguments) -> Answer {
    let to = place(world, host_memory)?;
    let World { kernel, hardware } = world;
    let Some(fallen) = kernel.owner_fallen(to.0) else {
        return Ok(NOTHING);
    };
    let fell = |owner| kernel.fell_with(owner, fallen.root);
    let taken = hardware.memory.take_back(to, fallen.cursor, fell)?;
    kernel.owner_taken(fallen.root, taken.cursor);
    let more = kernel.owner_fallen(to.0).is_some();
    Ok([tell(world, &taken.ranges)?, u64::from(more)])
}

/// `frame_reclaim(host_memory, count) -> ranges`
pub(super) fn reclaim(world: &mut World, [host_memory, count, ..]: Arguments) -> Answer {
    let to = place(world, host_memory)?;
    let owed = u64::from(world.kernel.donated(to.0));
    let count = number(count.min(owed).min(RANGES as u64))?;
    let ranges = world.hardware.memory.reclaim(to, count)?;
    let back = ranges.iter().map(|range| range.count).sum();
    world.kernel.donation(to.0, back, true);
    Ok([tell(world, &ranges)?, 0])
}

fn number(word: u64) -> Result<u32, Kern> {
    u32::try_from(word).map_err(|_| Kern::InvalidArgument)
}

/// The owner of a host memory port, and where it has its window.
fn place(world: &World, host_memory: u64) -> Result<Place, Kern> {
    let owner = world.kernel.host_memory(host_memory)?;
    let window = world.kernel.window(owner).ok_or(Kern::InvalidHost)?;
    Ok((owner, window))
}

/// Writes ranges to the body of the caller's buffer; says how many.
fn tell(world: &World, ranges: &Ranges) -> Result<u64, Kern> {
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let mut body = [0; 8 * RANGES];
    for (place, range) in body.chunks_exact_mut(8).zip(ranges) {
        let word = u64::from(range.first) | u64::from(range.count) << 32;
        place.copy_from_slice(&word.to_le_bytes());
    }
    Saved::of(running.context).buffer().write_body(&body);
    Ok(ranges.len() as u64)
}

const _: () = assert!(8 * RANGES <= BODY_SIZE);
