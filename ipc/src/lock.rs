//! [`RawLock`]: a lock of one word that nobody spins for.
//!
//! Whoever finds it held puts a node of its own stack in front of the list in the word, and receives
//! from its parking port until the message that names the node comes: so waiting needs no memory
//! but a port for each thread, and even the heap's own lock can wait. The links of a new node point
//! backwards; who wakes somebody fills in the others, under the second bit, and takes the last, which
//! has waited longest. (The scheme is that of `parking_lot`'s word lock.)
//!
//! Nobody is handed the lock: it is free, and who comes first has it. A node is in use until its
//! message has come, and the sender's last act with it is to send that.

use crate::{sync, trap};
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering, fence};
use ipc_abi::message::{FOREVER, Info, POLL, option};
use ipc_abi::right::Name;
use talc::lock_api::{GuardSend, RawMutex};

/// Message id of a wake; the first word names the node.
const WAKE: u32 = 2;

/// Somebody has the lock.
const LOCKED: usize = 1;
/// Somebody is about to wake the last in the list.
const QUEUE_LOCKED: usize = 2;
const FLAGS: usize = LOCKED | QUEUE_LOCKED;

/// A thread that waits. Aligned, so that the flags have room in its address.
#[repr(align(8))]
struct Node {
    port: Name,
    /// The last of the list, if it is known here: then all nodes behind know who is before them.
    tail: Cell<*const Node>,
    /// Who came later.
    previous: Cell<*const Node>,
    /// Who came earlier.
    next: Cell<*const Node>,
}

/// A lock. Fair to nobody: hold it shortly.
#[derive(Debug)]
pub struct RawLock {
    /// The flags, and the address of who came last.
    word: AtomicPtr<Node>,
}

fn flag(word: *mut Node, flag: usize) -> bool {
    word.addr() & flag != 0
}

/// The same list with these flags.
fn with(word: *mut Node, flags: usize) -> *mut Node {
    word.map_addr(|address| address & !FLAGS | flags)
}

fn flags(word: *mut Node) -> usize {
    word.addr() & FLAGS
}

fn head(word: *mut Node) -> *const Node {
    with(word, 0).cast_const()
}

// SAFETY: the flag LOCKED lets one holder in at a time; acquire and release order its accesses.
unsafe impl RawMutex for RawLock {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "the trait asks for it"
    )]
    const INIT: RawLock = RawLock {
        word: AtomicPtr::new(ptr::null_mut()),
    };
    type GuardMarker = GuardSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while !flag(word, LOCKED) {
            match self.change(word, with(word, flags(word) | LOCKED), Ordering::Acquire) {
                Ok(()) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    #[inline]
    unsafe fn unlock(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            match self.change(word, with(word, flags(word) & !LOCKED), Ordering::Release) {
                Ok(()) => break,
                Err(found) => word = found,
            }
        }
        // If somebody is waking already, that is enough: who wakes takes the lock and wakes the next.
        if !flag(word, QUEUE_LOCKED) && !head(word).is_null() {
            self.wake_last();
        }
    }
}

impl RawLock {
    fn change(&self, from: *mut Node, to: *mut Node, order: Ordering) -> Result<(), *mut Node> {
        let changed = self
            .word
            .compare_exchange_weak(from, to, order, Ordering::Relaxed);
        changed.map(drop)
    }

    #[cold]
    fn lock_slowly(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if !flag(word, LOCKED) {
                let taken = with(word, flags(word) | LOCKED);
                match self.change(word, taken, Ordering::Acquire) {
                    Ok(()) => return,
                    Err(found) => word = found,
                }
                continue;
            }
            let Some(port) = sync::parking_port() else {
                // No memory for a port: the processor is all that can be given away.
                trap::thread_yield();
                word = self.word.load(Ordering::Relaxed);
                continue;
            };
            let node = Node {
                port,
                tail: Cell::new(ptr::null()),
                previous: Cell::new(ptr::null()),
                next: Cell::new(head(word)),
            };
            if head(word).is_null() {
                node.tail.set(&raw const node);
            }
            let queued = (&raw const node)
                .cast_mut()
                .map_addr(|address| address | flags(word));
            match self.change(word, queued, Ordering::AcqRel) {
                Ok(()) => {
                    node.wait();
                    word = self.word.load(Ordering::Relaxed);
                }
                Err(found) => word = found,
            }
        }
    }

    /// Wakes who has waited longest, unless the lock is taken again: then its holder will.
    #[cold]
    fn wake_last(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if flag(word, QUEUE_LOCKED) || head(word).is_null() {
                return;
            }
            let taken = with(word, flags(word) | QUEUE_LOCKED);
            match self.change(word, taken, Ordering::Acquire) {
                Ok(()) => break,
                Err(found) => word = found,
            }
        }
        word = self.word.load(Ordering::Acquire);
        loop {
            let first = head(word);
            // SAFETY: nodes stay until they are woken, which only the holder of QUEUE_LOCKED does.
            let last = unsafe { link(first) };
            if flag(word, LOCKED) {
                let left = with(word, flags(word) & !QUEUE_LOCKED);
                match self.change(word, left, Ordering::Release) {
                    Ok(()) => return,
                    Err(found) => word = found,
                }
                fence(Ordering::Acquire);
                continue;
            }
            // SAFETY: as above.
            let before = unsafe { (*last).previous.get() };
            if before.is_null() {
                // The list becomes empty, unless somebody has come meanwhile.
                match self.change(word, ptr::null_mut(), Ordering::Release) {
                    Ok(()) => {}
                    Err(found) => {
                        word = found;
                        fence(Ordering::Acquire);
                        continue;
                    }
                }
            } else {
                // SAFETY: as above.
                unsafe { (*first).tail.set(before) };
                self.unlock_queue();
            }
            // SAFETY: as above; it is out of the list now, and waits for this message alone.
            unsafe { Node::wake(last) };
            return;
        }
    }

    fn unlock_queue(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let left = with(word, flags(word) & !QUEUE_LOCKED);
            match self.change(word, left, Ordering::Release) {
                Ok(()) => return,
                Err(found) => word = found,
            }
        }
    }
}

/// Fills in who is before whom from the first node on, and gives the last.
///
/// # Safety
/// The nodes of the list stay, and nobody else links them.
unsafe fn link(first: *const Node) -> *const Node {
    let mut at = first;
    loop {
        // SAFETY: the caller's duty.
        let (tail, next) = unsafe { ((*at).tail.get(), (*at).next.get()) };
        if !tail.is_null() {
            // SAFETY: as above.
            unsafe { (*first).tail.set(tail) };
            return tail;
        }
        // SAFETY: as above: a node that does not know the last has one behind it.
        unsafe { (*next).previous.set(at) };
        at = next;
    }
}

/// Sends or receives a message without a body.
fn exchange(options: u64, to: Name, from: Name, deadline: u64, word: u64, id: u32) -> (u32, u64) {
    // SAFETY: only this task sends to a parking port, and only words, so that the buffer is not
    // written, whoever borrows it.
    let received = unsafe {
        trap::msg(&trap::Send {
            options,
            destination: to.into(),
            receive: from,
            info: Info::short(id),
            send_deadline: deadline,
            receive_deadline: deadline,
            notify: 0,
            words: [word, 0, 0, 0, 0, 0],
        })
    };
    let [word, ..] = received.words;
    match received.outcome.code() {
        0 => (received.info.id(), word),
        _ => (0, 0),
    }
}

impl Node {
    /// Waits until this node is woken.
    fn wait(&self) {
        let name = ptr::from_ref(self).addr() as u64;
        let mut unparked = false;
        loop {
            match exchange(option::RECEIVE, 0, self.port, FOREVER, 0, 0) {
                (WAKE, word) if word == name => break,
                // Somebody unparks this thread, which will look at that later.
                (sync::UNPARK, _) => unparked = true,
                _ => {}
            }
        }
        if unparked {
            let _ = exchange(option::SEND, self.port, 0, POLL, 0, sync::UNPARK);
        }
    }

    /// Wakes a node, which is gone then.
    ///
    /// # Safety
    /// It waits and is in no list.
    unsafe fn wake(node: *const Node) {
        // SAFETY: the caller's duty: it stays until its message has come.
        let port = unsafe { (*node).port };
        // It receives until this comes, so that there is room for it in the end.
        let name = node.addr() as u64;
        let _ = exchange(option::SEND, port, 0, FOREVER, name, WAKE);
    }
}
