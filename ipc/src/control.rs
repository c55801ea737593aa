//! Other threads and tasks, by their control ports: suspended, resumed, asked what they do.
//!
//! Who holds a control port may do anything to its thread or task, so nothing here is `unsafe` for
//! the caller: but a thread of this very task that is suspended while it holds a lock, say that of
//! the heap, keeps everybody waiting who wants it.

use crate::buffer::Body;
use crate::right::{SendRight, Untyped};
use crate::trap;
use alloc::vec::Vec;
use ipc_abi::Kern;
use ipc_abi::info::{TaskInfo, ThreadInfo};
use ipc_abi::right::Name;
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
