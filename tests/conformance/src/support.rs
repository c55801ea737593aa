//! What several files of cases use.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use guest_test::{
    Assistant, Msg, Outcome, Supervisor, check, check_eq, has_several_processors, patience,
};
use ipc::abi::info::RunState;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::{POLL, WORDS};
use ipc::thread::{self, JoinHandle};
use ipc::trap::Received;
use ipc::{Kern, Mapping, ReceiveRight, SendRight, Untyped, control, time, trap};

/// A port of this task.
pub(crate) type Port = ReceiveRight<Untyped>;

/// Makes a port.
pub(crate) fn port(payload: u64) -> Result<Port, Kern> {
    ReceiveRight::new(payload)
}

/// Whether no message waits at a port.
pub(crate) fn is_empty(port: &Port) -> bool {
    Msg::receive(port).until(POLL).code() == Some(Kern::ReceiveTimedOut)
}

/// The next message at a port, which has to be the kernel's and of this id.
#[track_caller]
pub(crate) fn notice(port: &Port, id: u32) -> Outcome<(Received, [u64; WORDS])> {
    let received = Msg::receive(port).go()?;
    check_eq!((received.info.is_kernel(), received.info.id()), (true, id));
    check_eq!(received.token, 0);
    Ok((received, received.words))
}

/// Whether a thread neither runs nor has a fault or an exception.
pub(crate) fn stands(thread: &SendRight<Untyped>) -> bool {
    use RunState::{Running, Uninterruptible};
    control::thread_info(thread).map_or(true, |info| {
        !matches!(info.state, Running | Uninterruptible)
    })
}

/// Runs `work`, which begins to wait for something, in a thread of its own, and returns when it waits.
///
/// On one processor only this thread and that one are ready, so that a yield lets it run until it does.
pub(crate) fn spawn_waiting<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Outcome<JoinHandle<T>> {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    let handle = thread::spawn(move || {
        flag.store(true, Ordering::Release);
        work()
    })?;
    check!(until(|| begun.load(Ordering::Acquire)));
    // More than one, in case it has to wait for a page of its code first.
    for _ in 0..8 {
        trap::thread_yield();
    }
    if has_several_processors() {
        // It may wait for an answer first, but not for long.
        for _ in 0..2 {
            check!(until(|| stands(handle.thread())));
            time::sleep(2 * time::MILLISECOND);
        }
    }
    Ok(handle)
}

/// An assistant, and who gets the exceptions that it does not handle.
pub(crate) fn watched() -> Outcome<(Assistant, Supervisor)> {
    let assistant = Assistant::start()?;
    let supervisor = Supervisor::new()?;
    supervisor.task(&assistant.started.task)?;
    Ok((assistant, supervisor))
}

/// Reads the first word of a page.
#[track_caller]
pub(crate) fn word(memory: &Mapping, page: u64) -> Outcome<u64> {
    let mut bytes = [0; 8];
    memory.read(page * PAGE_SIZE, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes the first word of a page.
#[track_caller]
pub(crate) fn set_word(memory: &Mapping, page: u64, value: u64) -> Outcome {
    memory.write(page * PAGE_SIZE, &value.to_le_bytes())?;
    Ok(())
}

/// Memory of so many pages whose first words are `first` and what follows it.
#[track_caller]
pub(crate) fn filled(pages: u64, first: u64) -> Outcome<Mapping> {
    let memory = Mapping::allocate(pages * PAGE_SIZE)?;
    for page in 0..pages {
        set_word(&memory, page, first + page)?;
    }
    Ok(memory)
}

/// Waits until `done` holds, but not for ever. For what another task brings about.
pub(crate) fn until(done: impl Fn() -> bool) -> bool {
    let deadline = patience();
    while !done() {
        if time::now() >= deadline {
            return false;
        }
        trap::thread_yield();
    }
    true
}
