//! Who waits: a fault or an operation, in exactly one list.
//!
//! Lists are doubly linked through the waiters. Whoever is woken goes to the end of a ready list
//! and starts again: a fault from its look-up, an operation from its cursor. All waiters are in the
//! list by age as well, whose head is the next to time out, and in [`Tokens`].
//!
//! A list is woken as a whole, however long it is: it is hung at the end of `Core::woken`, and is
//! another list from then on ([`List::round`]), so that its waiters know that they are not in it any
//! more. From there they get their turns in steps.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::event::{MapId, ReplyTo, Time, Token};
use crate::id::Id;
use crate::object::pager::Request;
use crate::object::pages::{Nodes, Slot, Tree};
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
    /// Entries of a map that are being wired.
    InTransition(MapId),
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
    /// It has waited for frames that are reclaimed, once.
    pub relieved: bool,
    /// What an operation's wait ended with, if not with success.
    pub failed: Option<Kern>,
    /// The request that woke it, to be looked at when the turn comes, and its page.
    pub request: Option<(Id<Request>, u64)>,
    /// Who is answered at the end, and the next waiter whose token has the same place in
    /// [`Tokens`].
    pub token: ReplyTo,
    /// See `token`.
    pub token_next: u32,
    /// The place of an earlier deadline of its own.
    pub own_deadline: Option<u64>,
    /// When waiting ends with a failure. All may wait equally long, so the oldest ends first.
    pub deadline: Time,
    /// Its time is over, but its pager was lost meanwhile: it has some more, and is in a list by age
    /// of those who have.
    pub again: bool,
    /// Neighbours in the list of all waiters, by age.
    pub older: u32,
    /// See `older`.
    pub newer: u32,
    /// The round of its list in which it came.
    pub round: u32,
    /// Neighbours in its list.
    pub next: u32,
    /// See `next`.
    pub prev: u32,
}

/// The waiters by token. A token's low bits are the kernel's slot of the thread, which has one call or
/// fault out: so a place has one waiter, and the tree is as large as there are threads that wait.
///
/// Mostly few wait. The first with the same lowest bits stands in a list by these, so that the tree is not
/// touched; so do those for whom there is no node, since who has made sure of a waiter's record must get
/// one, and adding cannot fail.
#[derive(Debug)]
pub struct Tokens {
    places: Tree,
    /// First of those who are not in the tree, by the lowest bits of the token.
    apart: [u32; APART],
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens::EMPTY
    }
}

/// Lists of those for whom there was no node.
const APART: usize = 64;

/// The list that a token may be in.
const fn apart(token: Token) -> usize {
    token.0.get() as usize & (APART - 1)
}

/// Bits of a token that find its place.
const TOKEN_BITS: u64 = (1 << 20) - 1;

impl Tokens {
    /// Nobody waits.
    pub const EMPTY: Tokens = Tokens {
        places: Tree::EMPTY,
        apart: [NIL; APART],
    };

    /// The first waiter of a token's place.
    fn first(&self, nodes: &Nodes, token: Token) -> u32 {
        match self.places.get(nodes, token.0.get() & TOKEN_BITS) {
            Slot::Pending(index) => index,
            _ => NIL,
        }
    }

    fn set_first(&mut self, nodes: &mut Nodes, token: Token, index: u32) -> Result<(), Kern> {
        let slot = if index == NIL {
            Slot::Empty
        } else {
            Slot::Pending(index)
        };
        self.places.set(nodes, token.0.get() & TOKEN_BITS, slot)
    }

    /// Adds a waiter by its token.
    pub(crate) fn add(&mut self, nodes: &mut Nodes, waiters: &mut Waiters, index: u32) {
        let Some(token) = waiters.at(index).and_then(|waiter| waiter.token) else {
            return;
        };
        let mut next = NIL;
        if let Some(list) = self.apart.get_mut(apart(token))
            && *list == NIL
        {
            *list = index;
        } else {
            next = self.add_further(nodes, token, index);
        }
        if let Some(waiter) = waiters.at_mut(index) {
            waiter.token_next = next;
        }
    }

    /// Adds one whose list has somebody. Says who is next in its chain.
    #[cold]
    fn add_further(&mut self, nodes: &mut Nodes, token: Token, index: u32) -> u32 {
        let first = self.first(nodes, token);
        if self.set_first(nodes, token, index).is_err()
            && let Some(list) = self.apart.get_mut(apart(token))
        {
            return core::mem::replace(list, index);
        }
        first
    }

    /// Takes a waiter out; it is nobody's from now on.
    pub(crate) fn remove(&mut self, nodes: &mut Nodes, waiters: &mut Waiters, index: u32) {
        let Some(waiter) = waiters.at_mut(index) else {
            return;
        };
        let next = waiter.token_next;
        let Some(token) = waiter.token.take() else {
            return;
        };
        let Some(list) = self.apart.get_mut(apart(token)) else {
            return;
        };
        if *list == index {
            *list = next;
            return;
        }
        let alone = *list;
        let first = self.first(nodes, token);
        if first == index {
            // The slot is in use: this needs no node.
            let _ = self.set_first(nodes, token, next);
        } else if !unchain(waiters, first, index, next) {
            unchain(waiters, alone, index, next);
        }
    }

    /// The waiter of a token.
    pub(crate) fn find(&self, nodes: &Nodes, waiters: &Waiters, token: Token) -> Option<u32> {
        let apart = self.apart.get(apart(token)).copied().unwrap_or(NIL);
        for first in [apart, self.first(nodes, token)] {
            let mut at = first;
            while let Some(waiter) = waiters.at(at) {
                if waiter.token == Some(token) {
                    return Some(at);
                }
                at = waiter.token_next;
            }
        }
        None
    }
}

/// Takes a waiter out of a chain by token, whose first it is not; says whether it was there.
fn unchain(waiters: &mut Waiters, first: u32, index: u32, next: u32) -> bool {
    let mut at = first;
    while let Some(waiter) = waiters.at_mut(at) {
        if waiter.token_next == index {
            waiter.token_next = next;
            return true;
        }
        at = waiter.token_next;
    }
    false
}

/// The waiters of all lists.
pub type Waiters = Slab<Waiter>;

/// A list of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    head: u32,
    tail: u32,
    round: u32,
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
        round: 0,
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

    /// Whether at most one waits.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.head == self.tail
    }

    /// How often it was woken as a whole: who came in another round is not in it any more.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Moves all of `other` to the end, however many they are. They find out by its round.
    pub fn append(&mut self, waiters: &mut Waiters, other: &mut List) {
        if other.is_empty() {
            return;
        }
        if let Some(first) = waiters.at_mut(other.head) {
            first.prev = self.tail;
        }
        match waiters.at_mut(self.tail) {
            Some(last) => last.next = other.head,
            None => self.head = other.head,
        }
        self.tail = other.tail;
        *other = List {
            round: other.round.wrapping_add(1),
            ..List::EMPTY
        };
    }

    /// Puts a waiter that is in no list at the end.
    pub fn push(&mut self, waiters: &mut Waiters, index: u32) {
        let prev = self.tail;
        if let Some(waiter) = waiters.at_mut(index) {
            waiter.prev = prev;
            waiter.next = NIL;
            waiter.round = self.round;
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
