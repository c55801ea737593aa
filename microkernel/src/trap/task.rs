//! Traps on tasks. Each hands its words to kernel-core, which checks them.

use super::{Answer, Arguments, NOTHING};
use crate::world::World;

/// `task_create(host_control, space, map) -> task`
pub(super) fn create(world: &mut World, [host_control, space, map, ..]: Arguments) -> Answer {
    let task = world.kernel.task_create(host_control, space, map)?;
    Ok([u64::from(task), 0])
}

/// `task_terminate(task, status)`
pub(super) fn terminate(world: &mut World, [task, status, ..]: Arguments) -> Answer {
    world
        .kernel
        .task_terminate(&mut world.hardware, task, status)?;
    Ok(NOTHING)
}

/// `task_set_special_port(task, index, name)`
pub(super) fn set_special_port(world: &mut World, [task, index, name, ..]: Arguments) -> Answer {
    world
        .kernel
        .task_set_special_port(&mut world.hardware, task, index, name)?;
    Ok(NOTHING)
}

/// `task_get_special_port(index) -> name`
pub(super) fn get_special_port(world: &mut World, [index, ..]: Arguments) -> Answer {
    let name = world.kernel.task_get_special_port(index)?;
    Ok([u64::from(name), 0])
}

/// `task_set_band(host_control, task, band)`
pub(super) fn set_band(world: &mut World, [host_control, task, band, ..]: Arguments) -> Answer {
    world.kernel.task_set_band(host_control, task, band)?;
    Ok(NOTHING)
}
