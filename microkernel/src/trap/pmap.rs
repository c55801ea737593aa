//! Traps on address spaces.

use ipc_abi::Kern;
use kernel_core::paging::{Passing, State, Take};

use super::{Answer, Arguments, Stop};
use crate::arch::context::Saved;
use crate::world::World;

/// `space_create(host_memory) -> space`
pub(super) fn space_create(world: &mut World, [host_memory, ..]: Arguments) -> Answer {
    let space = world
        .kernel
        .space_create(&mut world.hardware, host_memory)?;
    Ok([u64::from(space), 0])
}

/// `pmap_batch(length) -> runs`
pub(super) fn batch(world: &mut World, [length, ..]: Arguments) -> Answer {
    let length = usize::try_from(length).map_err(|_| Kern::InvalidArgument)?;
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let buffer = Saved::of(running.context).buffer();
    let kernel = &world.kernel;
    let find = |name| kernel.resolve_space(running.task, u64::from(name));
    let memory = &mut world.hardware.memory;
    let outcome = memory.batch(kernel, buffer, length, find);
    world.settle_bills();
    match outcome.state {
        State::Done => Ok([u64::from(outcome.runs), 0]),
        State::More => Err(Stop::Again),
        State::Failed(code) => Err(Stop::Code(code)),
    }
}

/// `pmap_take(space, keep, address, epoch, frame) -> seen`
pub(super) fn take(
    world: &mut World,
    [space, keep, address, epoch, frame, _]: Arguments,
) -> Answer {
    let take = Take::new(keep, address, epoch, frame)?;
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let space = world.kernel.resolve_space(running.task, space)?;
    let seen = world.hardware.memory.take(space, take)?;
    Ok([u64::from(seen), 0])
}

/// `pmap_pass(spaces, pages, fresh, epoch, which, shown) -> entered`
pub(super) fn pass(world: &mut World, arguments: Arguments) -> Answer {
    let passing = Passing::new(arguments)?;
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let kernel = &world.kernel;
    let find = |name: u32| kernel.resolve_space(running.task, name.into());
    let spaces = (find(passing.from())?, passing.to().map(find).transpose()?);
    let buffer = Saved::of(running.context).buffer();
    let entered = world.hardware.memory.pass(spaces, &passing, buffer)?;
    Ok([entered.into(), 0])
}
