//! The second thread: it turns idle time into steps of the core.
//!
//! What an event leaves unfinished is done in steps between messages. The server's own thread is more
//! important than any client, so if it went on by itself nobody would run until all is done. So it
//! waits a while for messages between two steps, and clients run; and this thread, which is less
//! important than anybody, calls whenever nobody else wants the processor, and each call is a step.
//! While there is nothing to do its call is left unanswered.

use core::cell::UnsafeCell;

use ipc::trap;
use ipc_abi::Kern;
use ipc_abi::message::{FOREVER, Info, WORDS, option};
use ipc_abi::right::{NULL, Name, SpecialPort};

/// The least important.
const PRIORITY: u32 = 0;
/// The thread calls one function that calls nothing.
const STACK_SIZE: usize = 4096;

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: only the kernel gets its address, and only the one thread uses the memory.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

/// Starts the thread; it calls the server's port `port`, of which the task holds the receive right.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn start(port: Name) -> Result<(), Kern> {
    trap::port_make_send(port)?;
    let task = trap::task_get_special_port(SpecialPort::TaskSelf)?;
    let top = STACK.0.get() as u64 + STACK_SIZE as u64 - 8;
    // SAFETY: `run` needs no more than a stack, which is its own, and its argument.
    unsafe {
        trap::thread_create(
            task,
            run as *const () as u64,
            top,
            u64::from(port),
            PRIORITY,
        )
    }?;
    trap::port_deallocate(task, 1)
}

/// Calls, for ever. Uses neither heap nor IPC buffer: the runtime's thread set-up is not done here.
extern "C" fn run(port: u64) -> ! {
    let call = trap::Send {
        options: option::CALL,
        destination: port,
        receive: NULL,
        info: Info::short(0),
        send_deadline: FOREVER,
        receive_deadline: FOREVER,
        notify: NULL,
        words: [0; WORDS],
    };
    loop {
        // SAFETY: this thread has no borrow of its IPC buffer, which it never touches.
        unsafe { trap::msg(&call) };
    }
}
