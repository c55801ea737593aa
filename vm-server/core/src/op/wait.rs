//! Who waits: a fault or an operation, in exactly one list.
//!
//! Lists are doubly linked through the waiters. Whoever is woken goes to the end of a ready list
//! and starts again: a fault from its look-up, an operation from its cursor. All waiters are in the
//! list by age as well, whose head is the next to time out.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::event::{MapId, Time, Token};
use crate::id::Id;
use crate::object::pager::Request;
use crate::slab::{NIL, Slab};

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A thread that touched memory.
    Fault {
        /// Whose map.
        map: MapId,
        /// What was touched.
        address: u64,
        /// How.
        access: Prot,
        /// Whom to answer.
        token: Token,
    },
    /// An operation with a record of its own.
    Op(Id<crate::op::Op>),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOn {
    /// Nothing: it is at work.
    Nothing,
    /// Its turn.
    Turn,
    /// A page that a pager was asked for, by its number in the object.
    Request(Id<Request>, u64),
    /// The end of a loan.
    Loan(Id<crate::object::loan::Loan>),
    /// A pager that is not ready.
    Pager(Id<crate::object::pager::Pager>),
    /// A ready slot of a tray.
    Slots(crate::event::TrayId),
    /// The operation lock of a map.
    MapOp(MapId),
    /// Free frames.
    Frames,
}

/// One that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    /// What waits.
    pub what: What,
    /// What for.
    pub on: WaitOn,
    /// What an operation's wait ended with, if not with success.
    pub failed: Option<Kern>,
    /// The request that woke it, to be looked at when the turn comes, and its page.
    pub request: Option<(Id<Request>, u64)>,
    /// When waiting ends with a failure. All may wait equally long, so the oldest ends first.
    pub deadline: Time,
    /// Neighbours in the list of all waiters, by age.
    pub older: u32,
    /// See `older`.
    pub newer: u32,
    /// Neighbours in its list.
    pub next: u32,
    /// See `next`.
    pub prev: u32,
}

/// The waiters of all lists.
pub type Waiters = Slab<Waiter>;

/// A list of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> List {
        List::EMPTY
    }
}

impl List {
    /// Nobody.
    pub const EMPTY: List = List {
        head: NIL,
        tail: NIL,
    };

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// The first.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.head
    }

    /// Puts a waiter that is in no list at the end.
    pub fn push(&mut self, waiters: &mut Waiters, index: u32) {
        let prev = self.tail;
        if let Some(waiter) = waiters.at_mut(index) {
            waiter.prev = prev;
            waiter.next = NIL;
        }
        match waiters.at_mut(prev) {
            Some(last) => last.next = index,
            None => self.head = index,
        }
        self.tail = index;
    }

    /// Takes a waiter that is in this list out.
    pub fn remove(&mut self, waiters: &mut Waiters, index: u32) {
        let Some(waiter) = waiters.at_mut(index) else {
            return;
        };
        let (prev, next) = (waiter.prev, waiter.next);
        waiter.prev = NIL;
        waiter.next = NIL;
        match waiters.at_mut(prev) {
            Some(waiter) => waiter.next = next,
            None => self.head = next,
        }
        match waiters.at_mut(next) {
            Some(waiter) => waiter.prev = prev,
            None => self.tail = prev,
        }
    }

    /// Takes the first out.
    pub fn pop(&mut self, waiters: &mut Waiters) -> Option<u32> {
        let index = self.head;
        if index == NIL {
            return None;
        }
        self.remove(waiters, index);
        Some(index)
    }
}
