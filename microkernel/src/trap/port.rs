//! Traps on ports and rights. Each hands its words to kernel-core, which checks them.

use super::{Answer, Arguments, NOTHING};
use crate::world::World;

/// `port_allocate(payload) -> name`
pub(super) fn allocate(world: &mut World, [payload, ..]: Arguments) -> Answer {
    let name = world.kernel.port_allocate(payload)?;
    Ok([u64::from(name), 0])
}

/// `port_set_allocate() -> name`
pub(super) fn set_allocate(world: &mut World, _: Arguments) -> Answer {
    let name = world.kernel.port_set_allocate()?;
    Ok([u64::from(name), 0])
}

/// `port_destroy(name)`
pub(super) fn destroy(world: &mut World, [name, ..]: Arguments) -> Answer {
    world.kernel.port_destroy(&mut world.hardware, name)?;
    Ok(NOTHING)
}

/// `port_deallocate(name, count)`
pub(super) fn deallocate(world: &mut World, [name, count, ..]: Arguments) -> Answer {
    world
        .kernel
        .port_deallocate(&mut world.hardware, name, count)?;
    Ok(NOTHING)
}

/// `port_make_send(name)`
pub(super) fn make_send(world: &mut World, [name, ..]: Arguments) -> Answer {
    world.kernel.port_make_send(name)?;
    Ok(NOTHING)
}

/// `port_move_member(name, set)`
pub(super) fn move_member(world: &mut World, [name, set, ..]: Arguments) -> Answer {
    world
        .kernel
        .port_move_member(&mut world.hardware, name, set)?;
    Ok(NOTHING)
}

/// `port_request_notification(name, request, notify)`
pub(super) fn request_notification(
    world: &mut World,
    [name, request, notify, ..]: Arguments,
) -> Answer {
    world
        .kernel
        .port_request_notification(&mut world.hardware, name, request, notify)?;
    Ok(NOTHING)
}

/// `port_set_attributes(name, payload, limit)`
pub(super) fn set_attributes(world: &mut World, [name, payload, limit, ..]: Arguments) -> Answer {
    world
        .kernel
        .port_set_attributes(&mut world.hardware, name, payload, limit)?;
    Ok(NOTHING)
}
