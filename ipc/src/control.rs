//! Other threads and tasks, by their control ports: suspended, resumed, asked what they do, their
//! registers read and set.
//!
//! Who holds a control port may do anything to its thread or task. A thread of this very task that is suspended while it holds a lock, say that of
//! the heap, keeps everybody waiting who wants it.

use crate::buffer::Body;
use crate::right::{SendRight, Untyped};
use crate::trap;
use alloc::vec::Vec;
use ipc_abi::Kern;
use ipc_abi::buffer::RIGHTS_MAX;
use ipc_abi::exception::Handler;
use ipc_abi::info::{TaskInfo, ThreadInfo};
use ipc_abi::right::Name;
use ipc_abi::state::{Debug, Flavor, General, VECTOR_SIZE};
use ipc_abi::trap::Trap;

/// A trap that changes no memory of this task but the body of the IPC buffer, which is not borrowed.
fn trap(number: Trap, arguments: [u64; 6]) -> Result<[u64; 2], Kern> {
    drop(Body::borrow());
    // SAFETY: none of the traps below changes memory that Rust code relies on.
    unsafe { trap::trap(number, arguments) }
}

/// The first words of the body.
fn words<const N: usize>() -> [u64; N] {
    let body = Body::borrow();
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(body.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// Suspends a thread: it does not run until it is resumed as often.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread; KERN_FAILURE: too often.
pub fn suspend_thread(thread: &SendRight<Untyped>) -> Result<(), Kern> {
    trap(Trap::ThreadSuspend, [thread.name().into(), 0, 0, 0, 0, 0]).map(drop)
}

/// Suspends the calling thread, until somebody resumes it.
///
/// # Errors
/// KERN_FAILURE: too often.
pub fn suspend_self() -> Result<(), Kern> {
    trap(Trap::ThreadSuspend, [0; 6]).map(drop)
}

/// Takes back one suspension of a thread.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread; KERN_FAILURE: it is not suspended.
pub fn resume_thread(thread: &SendRight<Untyped>) -> Result<(), Kern> {
    trap(Trap::ThreadResume, [thread.name().into(), 0, 0, 0, 0, 0]).map(drop)
}

/// Breaks off what a thread waits in, unless it is the answer to a call.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread; KERN_FAILURE: it waits for an answer, and goes on doing so.
pub fn abort_thread_safely(thread: &SendRight<Untyped>) -> Result<(), Kern> {
    let arguments = [thread.name().into(), 0, 0, 0, 0, 0];
    trap(Trap::ThreadAbortSafely, arguments).map(drop)
}

/// What a thread does.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread.
pub fn thread_info(thread: &SendRight<Untyped>) -> Result<ThreadInfo, Kern> {
    trap(Trap::ThreadInfo, [thread.name().into(), 0, 0, 0, 0, 0])?;
    ThreadInfo::from_words(words()).ok_or(Kern::Failure)
}

/// Puts bytes at the start of the body.
fn put(bytes: &[u8]) {
    if let Some(place) = Body::borrow().get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn get_state(thread: &SendRight<Untyped>, flavor: Flavor) -> Result<Body, Kern> {
    let arguments = [thread.name().into(), flavor as u64, 0, 0, 0, 0];
    trap(Trap::ThreadGetState, arguments)?;
    Ok(Body::borrow())
}

fn set_state(thread: &SendRight<Untyped>, flavor: Flavor, state: &[u8]) -> Result<(), Kern> {
    put(state);
    let length = state.len() as u64;
    let arguments = [thread.name().into(), flavor as u64, length, 0, 0, 0];
    trap(Trap::ThreadSetState, arguments).map(drop)
}

/// The general registers of a thread that is suspended or waits.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread, or the caller; KERN_FAILURE: it runs.
pub fn general(thread: &SendRight<Untyped>) -> Result<General, Kern> {
    let body = get_state(thread, Flavor::General)?;
    General::from_bytes(&*body).ok_or(Kern::Failure)
}

/// Sets the general registers of a thread that is suspended or waits. What it waits for in a `msg`
/// trap comes over them.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread, or the caller; KERN_FAILURE: it runs; KERN_INVALID_ADDRESS: RIP
/// or FS base is outside the user half.
///
/// # Safety
/// If the thread is of this task, or shares memory with it: going on so must be sound.
pub unsafe fn set_general(thread: &SendRight<Untyped>, state: &General) -> Result<(), Kern> {
    set_state(thread, Flavor::General, &state.to_bytes())
}

/// The debug registers of a thread that is suspended or waits.
///
/// # Errors
/// As [`general`].
pub fn debug(thread: &SendRight<Untyped>) -> Result<Debug, Kern> {
    let body = get_state(thread, Flavor::Debug)?;
    Debug::from_bytes(&*body).ok_or(Kern::Failure)
}

/// Sets the debug registers of a thread that is suspended or waits.
///
/// # Errors
/// As [`set_general`]; KERN_INVALID_ARGUMENT: a reserved bit, or something else than memory watched.
pub fn set_debug(thread: &SendRight<Untyped>, state: &Debug) -> Result<(), Kern> {
    set_state(thread, Flavor::Debug, &state.to_bytes())
}

/// The vector registers of a thread that is suspended or waits: see `ipc_abi::state`.
///
/// # Errors
/// As [`general`].
pub fn vector(thread: &SendRight<Untyped>) -> Result<[u8; VECTOR_SIZE], Kern> {
    let body = get_state(thread, Flavor::Vector)?;
    body.first_chunk().copied().ok_or(Kern::Failure)
}

/// Sets the vector registers of a thread that is suspended or waits.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: no thread, or the caller, or a reserved bit; KERN_FAILURE: it runs.
///
/// # Safety
/// As [`set_general`].
pub unsafe fn set_vector(
    thread: &SendRight<Untyped>,
    image: &[u8; VECTOR_SIZE],
) -> Result<(), Kern> {
    set_state(thread, Flavor::Vector, image)
}

/// Suspends a task: none of its threads runs until it is resumed as often.
///
/// # Errors
/// KERN_INVALID_TASK; KERN_FAILURE: too often.
pub fn suspend_task(task: &SendRight<Untyped>) -> Result<(), Kern> {
    trap(Trap::TaskSuspend, [task.name().into(), 0, 0, 0, 0, 0]).map(drop)
}

/// Takes back one suspension of a task.
///
/// # Errors
/// KERN_INVALID_TASK; KERN_FAILURE: it is not suspended.
pub fn resume_task(task: &SendRight<Untyped>) -> Result<(), Kern> {
    trap(Trap::TaskResume, [task.name().into(), 0, 0, 0, 0, 0]).map(drop)
}

/// What a task has.
///
/// # Errors
/// KERN_INVALID_TASK.
pub fn task_info(task: &SendRight<Untyped>) -> Result<TaskInfo, Kern> {
    trap(Trap::TaskInfo, [task.name().into(), 0, 0, 0, 0, 0])?;
    Ok(TaskInfo::from_words(words()))
}

/// The control ports of a task's threads.
///
/// # Errors
/// KERN_INVALID_TASK; KERN_RESOURCE_SHORTAGE.
pub fn task_threads(task: &SendRight<Untyped>) -> Result<Vec<SendRight<Untyped>>, Kern> {
    let mut threads = Vec::new();
    let mut cursor = 0;
    loop {
        let arguments = [task.name().into(), cursor, 0, 0, 0, 0];
        let [count, next] = trap(Trap::TaskThreads, arguments)?;
        let names: [u64; 64] = words();
        let found = names.iter().take(count as usize);
        threads.extend(found.map(|name| SendRight::from_name(*name as Name)));
        if next == 0 {
            return Ok(threads);
        }
        cursor = next;
    }
}

/// A handler of exceptions: which kinds, what it is told, its port.
pub type Handled = (Handler, SendRight<Untyped>);

/// Sets the handler (`None`: nobody) of the exceptions in `mask` of a thread, or of a task for what no
/// thread of it handles.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: neither thread nor task, or an unknown kind; KERN_INVALID_RIGHT.
pub fn set_handler(
    target: &SendRight<Untyped>,
    handler: Handler,
    port: Option<&SendRight<Untyped>>,
) -> Result<(), Kern> {
    trap(Trap::ExceptionPortsSet, arguments(target, handler, port)).map(drop)
}

/// As [`set_handler`], and gives the handlers that were there.
///
/// # Errors
/// As [`set_handler`]; KERN_RESOURCE_SHORTAGE.
pub fn swap_handler(
    target: &SendRight<Untyped>,
    handler: Handler,
    port: Option<&SendRight<Untyped>>,
) -> Result<Vec<Handled>, Kern> {
    let [count, _] = trap(Trap::ExceptionPortsSwap, arguments(target, handler, port))?;
    Ok(handled(count))
}

/// The handlers of the exceptions in `mask` of a thread or task.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: neither thread nor task, or an unknown kind; KERN_RESOURCE_SHORTAGE.
pub fn handlers(target: &SendRight<Untyped>, mask: u64) -> Result<Vec<Handled>, Kern> {
    let arguments = [target.name().into(), mask, 0, 0, 0, 0];
    let [count, _] = trap(Trap::ExceptionPortsGet, arguments)?;
    Ok(handled(count))
}

fn arguments(
    target: &SendRight<Untyped>,
    handler: Handler,
    port: Option<&SendRight<Untyped>>,
) -> [u64; 6] {
    let name = port.map_or(0, SendRight::name);
    let behavior = handler.behavior.bits();
    [
        target.name().into(),
        handler.mask,
        behavior.into(),
        name.into(),
        0,
        0,
    ]
}

/// The handlers that a trap left in the buffer.
fn handled(count: u64) -> Vec<Handled> {
    let words: [u64; RIGHTS_MAX] = words();
    let names: [Name; RIGHTS_MAX] =
        core::array::from_fn(|slot| crate::buffer::right(slot).0 as Name);
    let found = words.iter().zip(names).take(count as usize);
    let right =
        |(word, name): (&u64, Name)| (Handler::from_word(*word), SendRight::from_name(name));
    found.map(right).collect()
}
