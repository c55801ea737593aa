//! Threads of this task: spawn, join.
//!
//! A thread gets a stack with an unmapped page below it, and frees it itself: its last act is to
//! send `vm_deallocate` for its own stack one way and to end, in instructions that use no stack.
//! So nobody has to wait for a thread to free what it left, and a handle that is dropped leaks
//! nothing.

use crate::right::{SendRight, Untyped};
use crate::start::thread_prologue;
use crate::sync::{self, Lock, Parker};
use crate::{trap, vm};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};
use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::message::{FOREVER, Info, option};
use ipc_abi::right::SpecialPort;
use ipc_abi::trap::Trap;
use ipc_abi::types::Prot;
use ipc_protocol::Message;
use ipc_protocol::vm_map::VmDeallocate;

/// Bytes of a stack, if nothing else is said. Pages are made when they are touched.
pub const STACK_SIZE: u64 = 256 * 1024;
/// The highest priority. A thread gets the lower of what it asks for and its task's band.
pub const PRIORITY_MAX: u32 = 31;

/// The thread is at work.
const RUNNING: u8 = 0;
/// The result is there.
const DONE: u8 = 1;
/// The result was taken.
const TAKEN: u8 = 2;

/// What spawner and thread share.
struct Packet<T> {
    result: UnsafeCell<MaybeUninit<T>>,
    state: AtomicU8,
    joiner: Lock<Option<Parker>>,
}

// SAFETY: the result is written before the state becomes DONE, and read by one joiner afterwards.
unsafe impl<T: Send> Sync for Packet<T> {}

impl<T> Packet<T> {
    fn finish(&self, value: T) {
        // SAFETY: the state is RUNNING, so nobody reads; only this thread writes.
        unsafe { (*self.result.get()).write(value) };
        let joiner = self.joiner.lock();
        self.state.store(DONE, Ordering::Release);
        if let Some(joiner) = *joiner {
            joiner.unpark();
        }
    }
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == DONE {
            // SAFETY: DONE means written and not taken.
            unsafe { self.result.get_mut().assume_init_drop() };
        }
    }
}

/// A thread that somebody may wait for. Dropped, the thread goes on alone.
pub struct JoinHandle<T> {
    packet: Arc<Packet<T>>,
    thread: SendRight<Untyped>,
}

impl<T> core::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("JoinHandle")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

impl<T> JoinHandle<T> {
    /// The thread's control port.
    #[must_use]
    pub const fn thread(&self) -> &SendRight<Untyped> {
        &self.thread
    }

    /// Whether the thread has done its work.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.packet.state.load(Ordering::Acquire) == DONE
    }

    /// Waits until the thread has done its work, and gives its result. A thread that was ended by
    /// its control port never has.
    pub fn join(self) -> T {
        *self.packet.joiner.lock() = Some(sync::parker());
        while !self.is_finished() {
            sync::park();
        }
        // The thread may still be about to unpark this one: it does so under the lock.
        drop(self.packet.joiner.lock());
        self.packet.state.store(TAKEN, Ordering::Relaxed);
        // SAFETY: the state was DONE, so the result is there; the handle is used up, so that it
        // is read once.
        unsafe { (*self.packet.result.get()).assume_init_read() }
    }
}

/// Where a thread begins, and what it frees at its end.
struct Start {
    run: Box<dyn FnOnce() + Send>,
    stack: u64,
    size: u64,
}

/// Starts a thread that runs `work`, with the usual stack and the priority of its task's band.
///
/// # Errors
/// KERN_RESOURCE_SHORTAGE, KERN_NO_SPACE: no thread, no stack.
pub fn spawn<T, F>(work: F) -> Result<JoinHandle<T>, Kern>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_with(STACK_SIZE, PRIORITY_MAX, work)
}

/// As [`spawn`], with a stack of so many bytes (rounded up to pages) and a priority of 0 to 31.
///
/// # Errors
/// As [`spawn`]; KERN_INVALID_VALUE: the priority.
pub fn spawn_with<T, F>(stack_size: u64, priority: u32, work: F) -> Result<JoinHandle<T>, Kern>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let size = stack_size
        .checked_next_multiple_of(PAGE_SIZE)
        .and_then(|size| size.checked_add(PAGE_SIZE))
        .ok_or(Kern::InvalidArgument)?;
    let packet = Arc::new(Packet {
        result: UnsafeCell::new(MaybeUninit::uninit()),
        state: AtomicU8::new(RUNNING),
        joiner: Lock::new(None),
    });
    let shared = Arc::clone(&packet);
    let task = SendRight::<Untyped>::special(SpecialPort::TaskSelf)?;
    let map = vm::own();
    let stack = map.allocate(size)?;
    let start = Box::new(Start {
        run: Box::new(move || shared.finish(work())),
        stack,
        size,
    });
    let argument = Box::into_raw(start);
    let created = map.protect(stack, PAGE_SIZE, Prot::NONE).and_then(|()| {
        // SAFETY: the entry expects a fresh stack and a `Start`, and gets both for itself alone.
        unsafe {
            trap::thread_create(
                task.name(),
                thread_entry as *const () as u64,
                stack + size,
                argument as u64,
                priority,
            )
        }
    });
    match created {
        Ok(name) => Ok(JoinHandle {
            packet,
            thread: SendRight::from_name(name),
        }),
        Err(code) => {
            // SAFETY: no thread was made, so the box is still ours alone.
            drop(unsafe { Box::from_raw(argument) });
            let _ = map.deallocate(stack, size);
            Err(code)
        }
    }
}

/// The first instruction of a thread.
#[unsafe(naked)]
unsafe extern "C" fn thread_entry() -> ! {
    thread_prologue!(thread_main)
}

/// Starts a thread, which never ends, on a stack of the caller's, with a priority of 0 to 31: for who has
/// no VM server to ask for memory. The stack must be large enough; nothing lies below it to stop at.
///
/// # Errors
/// KERN_RESOURCE_SHORTAGE. KERN_INVALID_ARGUMENT: the stack is tiny. KERN_INVALID_VALUE: the priority.
pub fn start_on(
    stack: &'static mut [u64],
    priority: u32,
    run: fn(u64) -> !,
    argument: u64,
) -> Result<(), Kern> {
    let [.., first, second, _] = stack else {
        return Err(Kern::InvalidArgument);
    };
    (*first, *second) = (run as *const () as u64, argument);
    let block = core::ptr::from_mut(first) as u64;
    let task = SendRight::<Untyped>::special(SpecialPort::TaskSelf)?;
    // SAFETY: the entry expects a stack, whose end is aligned by its first instructions, and a block above
    // it with a function and its argument; both are the thread's alone from now on.
    let created = unsafe {
        trap::thread_create(
            task.name(),
            bare_entry as *const () as u64,
            block & !15,
            block,
            priority,
        )
    };
    created.map(|name| drop(SendRight::<Untyped>::from_name(name)))
}

/// The first instruction of a thread that [`start_on`] starts.
#[unsafe(naked)]
unsafe extern "C" fn bare_entry() -> ! {
    thread_prologue!(bare_main)
}

/// The Rust part of it.
unsafe extern "C" fn bare_main(block: u64) -> ! {
    let block = core::ptr::with_exposed_provenance::<(u64, u64)>(block as usize);
    // SAFETY: `start_on` has put both there, and the block is this thread's.
    let (run, argument) = unsafe { block.read() };
    // SAFETY: it was such a function.
    let run = unsafe { core::mem::transmute::<u64, fn(u64) -> !>(run) };
    run(argument)
}

/// The Rust part of a thread.
unsafe extern "C" fn thread_main(argument: u64) -> ! {
    // SAFETY: `spawn_with` passes a box that is this thread's alone.
    let Start { run, stack, size } = *unsafe { Box::from_raw(argument as *mut Start) };
    run();
    sync::forget_parker();
    leave(stack, size)
}

/// Frees the stack and ends the thread, without a stack.
fn leave(stack: u64, size: u64) -> ! {
    // SAFETY: nothing is used after the first instruction but registers. The stack belongs to this
    // thread, nothing on it is needed, and everything borrowed from it was given back.
    unsafe {
        asm!(
            "mov rbx, rcx",
            "mov rbp, r11",
            "syscall",
            "2:",
            "mov eax, {terminate}",
            "xor edi, edi",
            "syscall",
            "jmp 2b",
            terminate = const Trap::ThreadTerminate as u32,
            in("rax") Trap::Msg as u64 | option::SEND,
            in("rdi") u64::from(vm::own_name()),
            in("rsi") 0_u64,
            in("rdx") Info::short(VmDeallocate::ID).0,
            in("r8") FOREVER,
            in("r9") FOREVER,
            in("r10") 0_u64,
            in("rcx") stack,
            in("r11") size,
            in("r12") 0_u64,
            in("r13") 0_u64,
            in("r14") 0_u64,
            in("r15") 0_u64,
            options(noreturn),
        );
    }
}
