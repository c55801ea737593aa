//! Tasks and threads made and ended.

use guest_test::touch;
use ipc::abi::layout::{PAGE_SIZE, USER_MIN};
use ipc::time::{MILLISECOND, sleep};
use ipc::vm::{self, NewTask};
use ipc::{Kern, Mapping, task as tasks, trap};

use crate::probe::Bench;

/// Waits until the ends of tasks and threads, which are done in steps, have been done: also those of the
/// server, which has the next of them by its timer, or when nobody else wants the processor.
fn settle() {
    sleep(MILLISECOND);
}

/// An empty task, made and ended.
pub(crate) fn create_terminate(bench: &mut Bench) -> Result<(), Kern> {
    let map = vm::own();
    bench.repeat(|probe| {
        probe.time(|| {
            let NewTask { task, map } = map.create_task(false)?;
            drop(map);
            tasks::terminate(&task, 0)
        })?;
        settle();
        Ok(())
    })
}

/// A task that inherits 64 MiB of memory that was written: the call that makes it.
pub(crate) fn fork(bench: &mut Bench) -> Result<(), Kern> {
    let memory = Mapping::allocate(64 << 20)?;
    for page in 0..memory.size() / PAGE_SIZE {
        // SAFETY: inside the mapping, which nothing refers to.
        unsafe { touch::write(memory.address() + page * PAGE_SIZE, 1) };
    }
    let map = vm::own();
    bench.repeat(|probe| {
        let child = probe.time(|| map.create_task(true))?;
        tasks::terminate(&child.task, 0)?;
        drop(child);
        settle();
        Ok(())
    })
}

/// A task that inherits what this one has, a small memory, made and ended.
pub(crate) fn fork_small(bench: &mut Bench) -> Result<(), Kern> {
    let memory = Mapping::allocate(16 * PAGE_SIZE)?;
    let map = vm::own();
    bench.repeat(|probe| {
        for page in 0..memory.size() / PAGE_SIZE {
            // SAFETY: inside the mapping, which nothing refers to.
            unsafe { touch::write(memory.address() + page * PAGE_SIZE, 1) };
        }
        probe.time(|| {
            let child = map.create_task(true)?;
            tasks::terminate(&child.task, 0)
        })?;
        settle();
        Ok(())
    })
}

/// A thread of this task, made and ended before it has run.
pub(crate) fn thread(bench: &mut Bench) -> Result<(), Kern> {
    let own = tasks::own()?;
    bench.repeat(|probe| {
        probe.time(|| {
            // SAFETY: of the lowest priority, it is ended before it executes an instruction.
            let made = unsafe { tasks::start_thread(&own, USER_MIN, USER_MIN, 0, 0) }?;
            trap::thread_terminate(made.name())
        })?;
        settle();
        Ok(())
    })
}
