//! Waiting for other threads of the task: parking, a mutex and a condition over ports.
//!
//! A thread parks by receiving from a port of its own, and is unparked by a message to it. The port
//! is made when a thread first waits; a mutex that nobody waits for is two atomic operations.
//! [`RawLock`] is for what every wait leans on, such as the heap: it needs no memory.

use crate::buffer;
use crate::right::{ReceiveRight, SendRight, Untyped};
use crate::trap;
use alloc::collections::VecDeque;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ipc_abi::Kern;
use ipc_abi::message::{FOREVER, Info, POLL, option};
use ipc_abi::right::Name;

/// Message id of an unparking; the words are empty.
pub(crate) const UNPARK: u32 = 1;

pub use crate::lock::RawLock;
pub use crate::semaphore::Semaphore;

/// A [`RawLock`] around a value.
pub type Lock<T> = talc::lock_api::Mutex<RawLock, T>;

/// Sends or receives a bare message. The words carry nothing.
fn bare(options: u64, destination: Name, receive: Name, deadline: u64) -> u32 {
    let received = trap::exchange(&trap::Send {
        options,
        destination: destination.into(),
        receive,
        info: Info::short(UNPARK),
        send_deadline: deadline,
        receive_deadline: deadline,
        notify: 0,
        words: [0; 6],
    });
    received.outcome.code()
}

/// Names a thread to be unparked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parker(Name);

/// This thread's parking port, made at first use. Its send right stays for the thread's life.
///
/// # Panics
/// If the kernel has no memory for a port: a thread that cannot wait cannot go on.
#[must_use]
pub fn parker() -> Parker {
    match park_port() {
        Ok(name) => Parker(name),
        Err(code) => out_of_ports(code),
    }
}

/// The name of this thread's parking port, if the kernel has memory for one.
pub(crate) fn parking_port() -> Option<Name> {
    park_port().ok()
}

fn park_port() -> Result<Name, Kern> {
    let name = buffer::park_port();
    if name != 0 {
        return Ok(name);
    }
    let port = ReceiveRight::<Untyped>::new(0)?;
    let _ = port.make_send()?.into_name();
    // One message says it all: more are not kept.
    port.set_attributes(0, 1)?;
    let name = port.into_name();
    buffer::set_park_port(name);
    Ok(name)
}

#[cold]
#[allow(
    clippy::panic,
    reason = "documented: a thread that cannot wait cannot go on"
)]
fn out_of_ports(code: Kern) -> ! {
    panic!("no port to wait on: {code}")
}

/// Gives back the parking port of a thread that ends.
pub(crate) fn forget_parker() {
    let name = buffer::park_port();
    if name != 0 {
        buffer::set_park_port(0);
        drop(SendRight::<Untyped>::from_name(name));
        drop(ReceiveRight::<Untyped>::from_name(name));
    }
}

/// Waits until somebody unparks this thread, or has since it last parked; or for no reason.
pub fn park() {
    park_until(FOREVER);
}

/// As [`park`], until `deadline` at most, in nanoseconds since boot.
pub fn park_until(deadline: u64) {
    let Parker(name) = parker();
    let _ = bare(option::RECEIVE, 0, name, deadline);
}

impl Parker {
    /// Wakes the thread, or lets its next parking return at once.
    pub fn unpark(self) {
        // A full queue means that it is to be woken already.
        let _ = bare(option::SEND, self.0, 0, POLL);
    }
}

/// Threads that wait, first come first served.
#[derive(Debug)]
struct Queue {
    waiting: Lock<VecDeque<(Parker, *const AtomicBool)>>,
}

// SAFETY: the flags that the pointers name are atomic, and outlive their place in the queue: a waiter
// leaves `wait` only after it was taken out.
unsafe impl Send for Queue {}
// SAFETY: as above; the lock orders accesses to the list.
unsafe impl Sync for Queue {}

impl Queue {
    const fn new() -> Queue {
        Queue {
            waiting: Lock::new(VecDeque::new()),
        }
    }

    /// Stands in line if `still` holds, looked at under the lock, then does `before` and waits for
    /// its turn.
    fn wait(&self, still: impl FnOnce() -> bool, before: impl FnOnce()) {
        let woken = AtomicBool::new(false);
        let parker = parker();
        {
            let mut waiting = self.waiting.lock();
            if !still() {
                return;
            }
            waiting.push_back((parker, &raw const woken));
        }
        before();
        while !woken.load(Ordering::Acquire) {
            park();
        }
        // Whoever woke this thread may still be about to use its port: wait for that, too.
        drop(self.waiting.lock());
    }

    /// Wakes the first in line, if there is one.
    fn wake_one(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let Some((parker, woken)) = waiting.pop_front() else {
            return false;
        };
        // SAFETY: the waiter stays in `wait`, where the flag is, until it gets the lock.
        unsafe { (*woken).store(true, Ordering::Release) };
        parker.unpark();
        true
    }
}

/// Nobody holds the mutex.
const FREE: u32 = 0;
/// Somebody holds it, nobody waits.
const HELD: u32 = 1;
/// Somebody holds it, and others may wait.
const WAITED_FOR: u32 = 2;

/// A value that one thread at a time may use. The others park.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    state: AtomicU32,
    queue: Queue,
    value: UnsafeCell<T>,
}

// SAFETY: the state lets one thread at the value at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            state: AtomicU32::new(FREE),
            queue: Queue::new(),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free and takes it. A thread that holds it already waits for ever.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if let Some(guard) = self.try_lock() {
            return guard;
        }
        while self.state.swap(WAITED_FOR, Ordering::Acquire) != FREE {
            self.queue
                .wait(|| self.state.load(Ordering::Relaxed) == WAITED_FOR, || {});
        }
        MutexGuard { mutex: self }
    }

    /// Takes the mutex if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(MutexGuard { mutex: self })
    }

    fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == WAITED_FOR {
            self.queue.wake_one();
        }
    }
}

/// The right to use a mutex's value. Dropped, it frees the mutex.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's holder is the only one at the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

/// Something that threads wait for while they let a mutex go.
#[derive(Debug)]
pub struct Condition {
    queue: Queue,
}

impl Condition {
    /// A condition that nobody waits for.
    #[must_use]
    pub const fn new() -> Condition {
        Condition {
            queue: Queue::new(),
        }
    }

    /// Lets the mutex go, waits to be notified, and takes the mutex again. The caller looks again
    /// whether what it waits for is true.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let mutex = guard.mutex;
        self.queue.wait(|| true, || drop(guard));
        mutex.lock()
    }

    /// Wakes the thread that has waited longest, if there is one.
    pub fn notify_one(&self) {
        self.queue.wake_one();
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        while self.queue.wake_one() {}
    }
}

impl Default for Condition {
    fn default() -> Condition {
        Condition::new()
    }
}
