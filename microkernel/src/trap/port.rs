//! Traps on ports and rights. Each hands its words to kernel-core, which checks them.

use super::{Answer, Arguments, NOTHING};
use crate::world::World;

/// `port_allocate(payload, set, limit, told) -> name`
pub(super) fn allocate(world: &mut World, [payload, set, limit, told, ..]: Arguments) -> Answer {
    let kernel = &mut world.kernel;
    let name = kernel.port_allocate_in(payload, set, [limit, told])?;
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

/// `port_request_notification(name, request, notify, sync) -> previous`
pub(super) fn request_notification(
    world: &mut World,
    [name, request, notify, sync, ..]: Arguments,
) -> Answer {
    let World { kernel, hardware } = world;
    let previous = kernel.port_request_notification(hardware, name, request, notify, sync)?;
    Ok([u64::from(previous), 0])
}

/// `port_set_attributes(name, payload, limit)`
pub(super) fn set_attributes(world: &mut World, [name, payload, limit, ..]: Arguments) -> Answer {
    world
        .kernel
        .port_set_attributes(&mut world.hardware, name, payload, limit)?;
    Ok(NOTHING)
}

/// `port_mod_refs(task, name, right, delta)`
pub(super) fn mod_refs(world: &mut World, [task, name, right, delta, ..]: Arguments) -> Answer {
    world
        .kernel
        .port_mod_refs(&mut world.hardware, task, name, right, delta)?;
    Ok(NOTHING)
}

/// `port_get_refs(task, name, right) -> references`
pub(super) fn get_refs(world: &mut World, [task, name, right, ..]: Arguments) -> Answer {
    Ok([world.kernel.port_get_refs(task, name, right)?, 0])
}

/// `port_type(task, name) -> kinds`
pub(super) fn kinds(world: &mut World, [task, name, ..]: Arguments) -> Answer {
    Ok([world.kernel.port_type(task, name)?, 0])
}

/// `port_names(task, set, from) -> count, next`
pub(super) fn names(world: &mut World, [task, set, from, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    Ok(kernel.port_names(hardware, task, set, from)?)
}

/// `port_get_status(task, name) -> count`
pub(super) fn get_status(world: &mut World, [task, name, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    Ok([kernel.port_get_status(hardware, task, name)?, 0])
}

/// `port_set_make_send(task, name, count)`
pub(super) fn set_make_send(world: &mut World, [task, name, count, ..]: Arguments) -> Answer {
    world.kernel.port_set_make_send(task, name, count)?;
    Ok(NOTHING)
}

/// `port_insert_right(task, name, disposition) -> name`
pub(super) fn insert_right(world: &mut World, [task, name, disposition, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let name = kernel.port_insert_right(hardware, task, name, disposition)?;
    Ok([u64::from(name), 0])
}

/// `port_extract_right(task, name, disposition) -> name`
pub(super) fn extract_right(world: &mut World, [task, name, disposition, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let name = kernel.port_extract_right(hardware, task, name, disposition)?;
    Ok([u64::from(name), 0])
}

/// `port_insert_member(name, set)`
pub(super) fn insert_member(world: &mut World, [name, set, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    kernel.port_insert_member(hardware, name, set)?;
    Ok(NOTHING)
}

/// `port_extract_member(name, set)`
pub(super) fn extract_member(world: &mut World, [name, set, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    kernel.port_extract_member(hardware, name, set)?;
    Ok(NOTHING)
}
