//! From the first instruction of a task to its `main`, and from there to its end.
//!
//! A thread begins with its argument in RDI, the address of its IPC buffer in RSI, and all other
//! registers clear. FS is pointed at the buffer before any Rust code runs, see [`crate::buffer`].
//!
//! `_start` is here, but the program's part, `pagoda_main`, is defined by the macros [`crate::main!`]
//! and [`crate::bare_main!`] in the task's own crate: so the choice of a heap is made there, and does
//! not depend on which other crates are built in the same run of cargo.

use crate::args::Args;
use core::sync::atomic::{AtomicU64, Ordering};
use ipc_abi::right::SpecialPort;

#[cfg(not(test))]
unsafe extern "C" {
    fn pagoda_main(argument: u64) -> !;
}

/// Points FS at the thread's buffer, then goes on at `$next` with the argument.
macro_rules! thread_prologue {
    ($next:path) => {
        core::arch::naked_asm!(
            "mov [rsi + {own}], rsi",
            "mov qword ptr [rsi + {lent}], 0",
            "mov qword ptr [rsi + {lent} + 8], 0",
            "push rdi",
            "mov rdi, rsi",
            "mov eax, {set_tls}",
            "syscall",
            "pop rdi",
            "xor ebp, ebp",
            "and rsp, -16",
            "call {next}",
            "ud2",
            own = const $crate::buffer::SELF,
            lent = const $crate::buffer::LENT,
            set_tls = const ipc_abi::trap::Trap::ThreadSetTls as u32,
            next = sym $next,
        )
    };
}
pub(crate) use thread_prologue;

/// The first instruction of a task.
///
/// # Safety
/// For the loader alone.
#[cfg(not(test))]
#[unsafe(naked)]
// SAFETY: the entry point's name; nothing else defines it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start() -> ! {
    thread_prologue!(pagoda_main)
}

/// What `main` may give back: the task's exit status.
pub trait Exit {
    /// The status; what is wrong is reported on the console.
    fn status(self) -> u32;
}

impl Exit for () {
    fn status(self) -> u32 {
        0
    }
}

impl Exit for u32 {
    fn status(self) -> u32 {
        self
    }
}

/// An error is reported, and the status is 1.
impl<T: Exit, E: core::fmt::Display> Exit for Result<T, E> {
    fn status(self) -> u32 {
        match self {
            Ok(value) => value.status(),
            Err(error) => {
                crate::println!("{}: {error}", task_name());
                1
            }
        }
    }
}

/// A `main` that never returns. (Stable Rust cannot name the type `!`, but can refer to it so.)
impl Exit for <fn() -> ! as Returns>::Output {
    fn status(self) -> u32 {
        self
    }
}

/// What a function type gives back.
#[doc(hidden)]
pub trait Returns {
    /// It.
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

static ARGUMENTS: AtomicU64 = AtomicU64::new(0);

/// The arguments that this task was started with.
#[must_use]
pub fn args() -> Args {
    match ARGUMENTS.load(Ordering::Relaxed) {
        0 => Args::NONE,
        // SAFETY: only `run` stores an address, and was promised a block there.
        block => unsafe { Args::at(block) },
    }
}

/// The name of this task, for reports.
#[must_use]
pub fn task_name() -> &'static str {
    args().name()
}

/// Runs `main` with the arguments at `block` and ends the task with its status. For [`crate::main!`].
///
/// # Safety
/// A block of arguments must lie at `block`.
#[doc(hidden)]
pub unsafe fn run<T: Exit>(block: u64, main: fn(Args) -> T) -> ! {
    ARGUMENTS.store(block, Ordering::Relaxed);
    exit(main(args()).status())
}

/// Ends this task, all its threads included.
pub fn exit(status: u32) -> ! {
    loop {
        // Both can only fail if the task is ending already, or has been robbed of its own port.
        if let Ok(task) = crate::trap::task_get_special_port(SpecialPort::TaskSelf) {
            let _ = crate::trap::task_terminate(task, status);
        }
        crate::trap::thread_yield();
    }
}

/// Names the `main` of a task: `fn(Args)`, or with any other [`Exit`] as its result.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
/// ipc::main!(main);
///
/// fn main(args: ipc::Args) {
///     ipc::println!("hello from {}", args.name());
/// }
/// ```
///
/// It also makes [`crate::heap::Heap`] the global allocator; `main!(main, without heap)` does not.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[global_allocator]
        static PAGODA_HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        $crate::main!($main, without heap);
    };
    ($main:path, without heap) => {
        // SAFETY: the name is the runtime's, which calls it once.
        #[unsafe(no_mangle)]
        extern "C" fn pagoda_main(block: u64) -> ! {
            // SAFETY: the first thread of a task begins with the address of its arguments.
            unsafe { $crate::start::run(block, $main) }
        }
    };
}

/// Names the `main` of a program that the kernel itself loads: `fn(u64) -> !`, called with the word
/// that the first thread began with. It gets no heap and no arguments.
#[macro_export]
macro_rules! bare_main {
    ($main:path) => {
        // SAFETY: the name is the runtime's, which calls it once.
        #[unsafe(no_mangle)]
        extern "C" fn pagoda_main(argument: u64) -> ! {
            let main: fn(u64) -> ! = $main;
            main(argument)
        }
    };
}
