//! Tasks: this one, and others by their control ports.

use crate::right::{SendRight, Untyped};
use crate::trap;
use ipc_abi::Kern;
use ipc_abi::right::{Name, SpecialPort};
use ipc_abi::trap::Trap;

/// This task's control port.
///
/// # Errors
/// KERN_RESOURCE_SHORTAGE.
pub fn own() -> Result<SendRight<Untyped>, Kern> {
    SendRight::special(SpecialPort::TaskSelf)
}

/// Ends a task with a status.
///
/// # Errors
/// KERN_INVALID_TASK.
pub fn terminate(task: &SendRight<Untyped>, status: u32) -> Result<(), Kern> {
    trap::task_terminate(task.name(), status)
}

/// Sends the exceptions of a task that no thread of it handles to `port` (`None`: to nobody).
///
/// # Errors
/// KERN_INVALID_TASK.
pub fn set_exception_port<P>(
    task: &SendRight<Untyped>,
    port: Option<&SendRight<P>>,
) -> Result<(), Kern> {
    set_special_port(task, SpecialPort::Exception, port)
}

/// Gives a task a special port, or takes it away.
///
/// # Errors
/// KERN_INVALID_TASK; KERN_INVALID_ARGUMENT: TaskSelf and Map cannot be set.
pub fn set_special_port<P>(
    task: &SendRight<Untyped>,
    which: SpecialPort,
    port: Option<&SendRight<P>>,
) -> Result<(), Kern> {
    let name: Name = port.map_or(0, SendRight::name);
    trap::task_set_special_port(task.name(), which, name)
}

/// Starts the first or a further thread of another task, at `ip` with stack pointer `sp`,
/// `argument` in RDI and a priority of 0 to 31. Gives its control port.
///
/// # Errors
/// KERN_INVALID_TASK; KERN_INVALID_ADDRESS: ip or sp outside the user half; KERN_INVALID_VALUE:
/// priority; KERN_RESOURCE_SHORTAGE.
///
/// # Safety
/// If the task is this one, or shares memory with it, the code must be fit to run so.
pub unsafe fn start_thread(
    task: &SendRight<Untyped>,
    ip: u64,
    sp: u64,
    argument: u64,
    priority: u32,
) -> Result<SendRight<Untyped>, Kern> {
    // SAFETY: the caller's duty.
    unsafe { trap::thread_create(task.name(), ip, sp, argument, priority) }
        .map(SendRight::from_name)
}

/// As [`start_thread`], but the thread is suspended, and begins when it is resumed.
///
/// # Errors
/// As [`start_thread`].
///
/// # Safety
/// As [`start_thread`].
pub unsafe fn make_thread(
    task: &SendRight<Untyped>,
    ip: u64,
    sp: u64,
    argument: u64,
    priority: u32,
) -> Result<SendRight<Untyped>, Kern> {
    let arguments = [task.name().into(), ip, sp, argument, priority.into(), 1];
    // SAFETY: the caller's duty.
    let made = unsafe { trap::trap(Trap::ThreadCreate, arguments) };
    made.map(|[thread, _]| SendRight::from_name(thread as Name))
}
