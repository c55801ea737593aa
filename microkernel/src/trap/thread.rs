//! Traps on threads.

use ipc_abi::Kern;
use kernel_core::ThreadStart;

use super::{Answer, Arguments, NOTHING, Stop};
use crate::arch::context::Saved;
use crate::arch::layout::USER_HALF_END;
use crate::processors;
use crate::schedule::Processor;
use crate::world::World;

/// `thread_create(task, ip, sp, argument, priority, suspended) -> thread`
pub(super) fn create(
    world: &mut World,
    [task, ip, sp, argument, priority, suspended]: Arguments,
) -> Answer {
    let start = ThreadStart {
        ip,
        sp,
        argument,
        priority,
        suspended,
    };
    let thread = world
        .kernel
        .thread_create(&mut world.hardware, task, start)?;
    Ok([u64::from(thread), 0])
}

/// `thread_terminate(thread)`
pub(super) fn terminate(world: &mut World, [thread, ..]: Arguments) -> Answer {
    world.kernel.thread_terminate(&mut world.hardware, thread)?;
    Ok(NOTHING)
}

/// `thread_abort(thread)`
pub(super) fn abort(world: &mut World, [thread, ..]: Arguments) -> Answer {
    world.kernel.thread_abort(&mut world.hardware, thread)?;
    Ok(NOTHING)
}

/// `thread_suspend(thread)`
pub(super) fn suspend(world: &mut World, [thread, ..]: Arguments) -> Answer {
    world.kernel.thread_suspend(thread)?;
    processors::recall_all();
    Ok(NOTHING)
}

/// `thread_resume(thread)`
pub(super) fn resume(world: &mut World, [thread, ..]: Arguments) -> Answer {
    world.kernel.thread_resume(thread)?;
    Ok(NOTHING)
}

/// `thread_abort_safely(thread)`
pub(super) fn abort_safely(world: &mut World, [thread, ..]: Arguments) -> Answer {
    world
        .kernel
        .thread_abort_safely(&mut world.hardware, thread)?;
    Ok(NOTHING)
}

/// `thread_get_state(thread, flavor) -> length`
pub(super) fn get_state(world: &mut World, [thread, flavor, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let got = kernel.thread_get_state(hardware, thread, flavor);
    if got.is_err() && kernel.is_leaving(thread) {
        return Err(Stop::Again);
    }
    Ok([got?, 0])
}

/// `thread_set_state(thread, flavor, length)`
pub(super) fn set_state(world: &mut World, [thread, flavor, length, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let set = kernel.thread_set_state(hardware, thread, flavor, length);
    if set.is_err() && kernel.is_leaving(thread) {
        return Err(Stop::Again);
    }
    set?;
    Ok(NOTHING)
}

/// `thread_info(thread) -> count`
pub(super) fn info(world: &mut World, [thread, ..]: Arguments) -> Answer {
    let count = world.kernel.thread_info(&mut world.hardware, thread)?;
    Ok([count, 0])
}

/// `thread_set_tls(base)`
pub(super) fn set_tls(world: &mut World, [base, ..]: Arguments) -> Answer {
    if base >= USER_HALF_END {
        return Err(Kern::InvalidAddress.into());
    }
    if let Some(running) = world.kernel.running() {
        Processor::here().set_fs_base(Saved::of(running.context), base);
    }
    Ok(NOTHING)
}

/// `thread_yield()`
pub(super) fn yield_(world: &mut World, _: Arguments) -> Answer {
    world.kernel.thread_yield();
    Ok(NOTHING)
}

/// `thread_set_processor(thread, processor)`
pub(super) fn set_processor(world: &mut World, [thread, processor, ..]: Arguments) -> Answer {
    world.kernel.thread_set_processor(thread, processor)?;
    Ok(NOTHING)
}

/// `thread_set_exception_port(thread, name)`
pub(super) fn set_exception_port(world: &mut World, [thread, name, ..]: Arguments) -> Answer {
    world
        .kernel
        .thread_set_exception_port(&mut world.hardware, thread, name)?;
    Ok(NOTHING)
}
