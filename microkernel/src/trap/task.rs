//! Traps on tasks. Each hands its words to kernel-core, which checks them.

use ipc_abi::Kern;
use kernel_core::Progress;

use super::{Answer, Arguments, NOTHING, Stop};
use crate::arch::context::Saved;
use crate::processors;
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

/// `task_suspend(task, more)`
pub(super) fn suspend(world: &mut World, [task, more, ..]: Arguments) -> Answer {
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let progress = world
        .kernel
        .task_suspend(&mut world.hardware, task, more != 0)?;
    if progress == Progress::Done {
        processors::recall_all();
    }
    go_on(Saved::of(running.context), progress)
}

/// `task_resume(task, more)`
pub(super) fn resume(world: &mut World, [task, more, ..]: Arguments) -> Answer {
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let progress = world.kernel.task_resume(task, more != 0)?;
    go_on(Saved::of(running.context), progress)
}

/// Repeats the trap with a note that it has begun, if there is more to do.
fn go_on(caller: Saved, progress: Progress) -> Answer {
    match progress {
        Progress::Done => Ok(NOTHING),
        Progress::More => {
            caller.with(|registers| registers.rsi = 1);
            Err(Stop::Again)
        }
    }
}

/// `task_threads(task, cursor) -> count, cursor`
pub(super) fn threads(world: &mut World, [task, cursor, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    Ok(kernel.task_threads(hardware, task, cursor)?)
}

/// `exception_ports_set(target, mask, behavior, name)`
pub(super) fn exception_ports_set(
    world: &mut World,
    [target, mask, behavior, name, ..]: Arguments,
) -> Answer {
    let World { kernel, hardware } = world;
    kernel.exception_ports_set(hardware, [target, mask, behavior, name])?;
    Ok(NOTHING)
}

/// `exception_ports_swap(target, mask, behavior, name) -> count`
pub(super) fn exception_ports_swap(
    world: &mut World,
    [target, mask, behavior, name, ..]: Arguments,
) -> Answer {
    let World { kernel, hardware } = world;
    let count = kernel.exception_ports_swap(hardware, [target, mask, behavior, name])?;
    Ok([count, 0])
}

/// `exception_ports_get(target, mask) -> count`
pub(super) fn exception_ports_get(world: &mut World, [target, mask, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let count = kernel.exception_ports_get(hardware, target, mask)?;
    Ok([count, 0])
}

/// `task_info(task) -> count`
pub(super) fn info(world: &mut World, [task, ..]: Arguments) -> Answer {
    let count = world.kernel.task_info(&mut world.hardware, task)?;
    Ok([count, 0])
}

/// `task_get_quota(task) -> used, limit`
pub(super) fn get_quota(world: &mut World, [task, ..]: Arguments) -> Answer {
    let (used, limit) = world.kernel.task_get_quota(task)?;
    Ok([used, limit])
}

/// `task_set_quota(host_control, task, limit)`
pub(super) fn set_quota(world: &mut World, [host_control, task, limit, ..]: Arguments) -> Answer {
    world.kernel.task_set_quota(host_control, task, limit)?;
    Ok(NOTHING)
}
