//! The parts of threads, ports and sets that the fast paths work on.
//!
//! A slab never frees its places, so the cells of a place lie still for ever, whichever record lies
//! there. They are referred to without the slab, at no more than a load; a record's own part, in the
//! slab, refers to them as well. What makes a reference valid is that whoever keeps it says when it
//! ends: a thread that waits leaves the [`Spot`], a name that loses what it denotes advances the stamp
//! of a [`Hint`], and a token is compared as a whole.
//!
//! On the quick ways there may be several processors at once (see `gate`). Of a thread, a processor uses the
//! cells of the one that it runs, of one that it has claimed at its spot, and of one whose token it has
//! claimed; of a spot, a place while it has the claim of it. All else it only reads, and whoever changes that
//! has everything to itself.

use crate::{
    gate::{Claim, Token},
    kernel::{Running, TOKEN_THREAD_BITS},
    list::List,
    machine::{Context, SpaceId},
    port::PortId,
    run_queue::{NO_RANK, rank},
    slab::{Id, Slab},
    space::Stamp,
    thread::{QUEUE, Source, State, Thread},
};
use core::{cell::Cell, fmt};
use ipc_abi::{
    exception::Behavior,
    fault::Fault,
    message::{FOREVER, Outcome},
    types::Prot,
};

/// What the fast paths read and write of a thread. Opaque outside of this crate.
#[derive(Debug)]
pub struct ThreadCells {
    /// The thread as an actor. It stays the same as long as the thread is there.
    pub(crate) actor: Cell<Running>,
    pub(crate) state: Cell<State>,
    /// For the fast paths: its priority's rank, or none if it must not run just anywhere.
    pub(crate) rank: Cell<u8>,
    /// In force: the lower of `wanted` and the task's band.
    pub(crate) priority: Cell<u8>,
    /// The token of its call, while that waits for an answer: good for one use, and for nobody else's call.
    pub(crate) token: Token,
    /// The last token of a call of a thread in this place.
    last_token: Cell<u64>,
    /// The time by which it lies in the timer queue, not after its deadline; `FOREVER`: it does not.
    pub(crate) timer_key: Cell<u64>,
    /// Until when it waits; `FOREVER` if it does not.
    pub(crate) deadline: Cell<u64>,
    /// Its fault, while its call is one.
    pub(crate) fault: Cell<Fault>,
    /// What the handler of its exception is told, while its call is one.
    pub(crate) behavior: Cell<Behavior>,
    /// What it sent to last, and received from last. A thread whose notice is out has no such port.
    pub(crate) sent_to: Cell<Hint<&'static PortCells>>,
    pub(crate) received_from: Cell<Hint<(Source, &'static Spot)>>,
    /// Where its faults go, once that was looked up; a task's map stays the same. Not while its notice is
    /// out.
    pub(crate) faults_to: Known<PortCells>,
    /// Whose call it received last. Whoever uses this compares the token.
    pub(crate) client: Known<ThreadCells>,
}

const NO_FAULT: Fault = Fault {
    address: 0,
    access: Prot::NONE,
    ip: 0,
    thread: 0,
};

impl ThreadCells {
    /// Says that another thread lies here, which is ready.
    pub(crate) fn begin(&self, actor: Running, priority: u8) {
        self.actor.set(actor);
        self.state.set(State::Ready);
        self.rank.set(rank(priority));
        self.priority.set(priority);
        self.token.set(0);
        let calls = self.last_token.get() >> TOKEN_THREAD_BITS << TOKEN_THREAD_BITS;
        self.last_token.set(calls | u64::from(actor.thread.index()));
        self.timer_key.set(FOREVER);
        self.deadline.set(FOREVER);
        self.fault.set(NO_FAULT);
        self.behavior.set(Behavior::empty());
        self.sent_to.set(Hint::NONE);
        self.received_from.set(Hint::NONE);
        self.faults_to.forget();
        self.client.forget();
    }

    fn new(actor: Running) -> ThreadCells {
        ThreadCells {
            actor: Cell::new(actor),
            state: Cell::new(State::Aside),
            rank: Cell::new(NO_RANK),
            priority: Cell::new(0),
            token: Token::default(),
            last_token: Cell::new(0),
            timer_key: Cell::new(FOREVER),
            deadline: Cell::new(FOREVER),
            fault: Cell::new(NO_FAULT),
            behavior: Cell::new(Behavior::empty()),
            sent_to: Cell::new(Hint::NONE),
            received_from: Cell::new(Hint::NONE),
            faults_to: Known::nothing(),
            client: Known::nothing(),
        }
    }

    /// A token that was never given out, for its next call.
    #[inline(always)]
    pub(crate) fn new_token(&self) -> u64 {
        let token = self.last_token.get().wrapping_add(1 << TOKEN_THREAD_BITS);
        self.last_token.set(token);
        token
    }

    /// Says that it waits for a message, after it has sent one. Putting it there is the caller's.
    #[inline(always)]
    pub(crate) fn wait(&self, source: Source, deadline: u64) {
        self.deadline.set(deadline);
        self.state.set(State::Receiving {
            source,
            sent: Outcome(Outcome::SENT),
        });
    }

    /// Makes it the one that runs.
    #[inline(always)]
    pub(crate) fn run(&'static self) -> &'static ThreadCells {
        self.state.set(State::Running);
        self
    }
}

impl Default for ThreadCells {
    fn default() -> ThreadCells {
        ThreadCells::new(Running {
            thread: Id::NOWHERE,
            task: Id::NOWHERE,
            context: Context(0),
            space: SpaceId(0),
        })
    }
}

/// What the fast paths read and write of a port.
#[derive(Debug)]
pub(crate) struct PortCells {
    pub(crate) port: Cell<PortId>,
    /// What each message through the port carries. Of a dead task's control port: its exit status.
    pub(crate) payload: Cell<u64>,
    /// Those who wait at the very port.
    pub(crate) spot: Spot,
    /// Those who wait at its set, if it is in one and no more.
    pub(crate) set: Cell<Option<&'static Spot>>,
}

impl Default for PortCells {
    fn default() -> PortCells {
        PortCells {
            port: Cell::new(Id::NOWHERE),
            payload: Cell::new(0),
            spot: Spot::default(),
            set: Cell::new(None),
        }
    }
}

impl PortCells {
    /// Who receives what comes next, and where it waits.
    #[inline(always)]
    pub(crate) fn receiver(&self) -> Option<(&Spot, &'static ThreadCells)> {
        if let Some(first) = self.spot.next() {
            return Some((&self.spot, first));
        }
        let set = self.set.get()?;
        Some((set, set.next()?))
    }

    /// As [`PortCells::receiver`], if no more than two wait there and nobody else wants this one: it is
    /// claimed.
    #[inline(always)]
    pub(crate) fn claim_receiver(&self) -> Option<(&Place, &'static ThreadCells)> {
        match self.spot.claim_first() {
            Ok(claimed) => Some(claimed),
            Err(false) => None,
            Err(true) => self.set.get()?.claim_first().ok(),
        }
    }
}

/// Room for one thread that waits, which a processor can claim.
#[derive(Default)]
pub(crate) struct Place {
    /// Whether somebody waits.
    claim: Claim,
    /// Who, if anybody.
    thread: Cell<Option<&'static ThreadCells>>,
}

impl Place {
    /// Who waits; for those who have all to themselves.
    #[inline(always)]
    fn get(&self) -> Option<&'static ThreadCells> {
        if self.claim.is_empty() {
            None
        } else {
            self.thread.get()
        }
    }

    #[inline(always)]
    fn set(&self, thread: Option<&'static ThreadCells>) {
        self.thread.set(thread);
        self.claim.end(thread.is_some());
    }

    /// Puts a thread, which is in no queue, where it has been claimed room for. Any processor may run it
    /// from here on.
    #[inline(always)]
    pub(crate) fn publish(&self, thread: &'static ThreadCells) {
        self.set(Some(thread));
    }

    /// Gives the claim back; `waits`: whether somebody waits still.
    #[inline(always)]
    pub(crate) fn end_claim(&self, waits: bool) {
        self.claim.end(waits);
    }
}

/// Where threads wait for messages: at a port or at a set. Two of them have places, so that two processors
/// can be served there at once; a place that was left is taken again first, by whoever comes next.
#[derive(Default)]
pub(crate) struct Spot {
    /// Who is next, if anybody.
    first: Place,
    /// Who is next after that.
    second: Place,
    /// Who comes then: nobody if a place is free.
    rest: Cell<List<Thread, QUEUE>>,
    /// Whether something is there to receive.
    pub(crate) full: Cell<bool>,
}

impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place: &Place| place.get().map(|thread| thread.actor.get().thread);
        f.debug_struct("Spot")
            .field("first", &name(&self.first))
            .field("second", &name(&self.second))
            .field("rest", &self.rest)
            .field("full", &self.full)
            .finish()
    }
}

impl Spot {
    /// Says that nobody waits and nothing is there.
    pub(crate) fn reset(&self) {
        self.first.set(None);
        self.second.set(None);
        self.rest.set(List::NEW);
        self.full.set(false);
    }

    #[inline(always)]
    fn next(&self) -> Option<&'static ThreadCells> {
        self.first.get().or_else(|| self.second.get())
    }

    /// Who is next.
    #[inline]
    pub(crate) fn first(&self) -> Option<crate::ThreadId> {
        self.next().map(|first| first.actor.get().thread)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.next().is_none()
    }

    /// Whether somebody waits who has no place.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        !self.rest.get().is_empty()
    }

    /// Claims who waits in a place, if nobody waits elsewhere; `Err` says whether nobody waits at all.
    #[inline(always)]
    fn claim_first(&self) -> Result<(&Place, &'static ThreadCells), bool> {
        let place = match self.first.claim.take() {
            Ok(()) => &self.first,
            Err(nobody) => self.claim_second().map_err(|none| none && nobody)?,
        };
        match place.thread.get() {
            Some(thread) if !self.has_more() => Ok((place, thread)),
            _ => {
                place.claim.end(true);
                Err(false)
            }
        }
    }

    #[inline(always)]
    fn claim_second(&self) -> Result<&Place, bool> {
        // A port of a set has nobody here, and to see that is cheaper than to try.
        if self.second.claim.is_empty() {
            return Err(true);
        }
        self.second.claim.take().map(|()| &self.second)
    }

    /// Claims a place for one who is to wait, if there is one.
    #[inline(always)]
    pub(crate) fn claim_place(&self) -> Option<&Place> {
        if self.first.claim.begin() {
            Some(&self.first)
        } else if self.second.claim.begin() {
            Some(&self.second)
        } else {
            None
        }
    }

    /// Takes the one who is next out: mostly it is alone.
    #[inline(always)]
    pub(crate) fn take_first(&self, threads: &mut Slab<Thread>) {
        let place = match self.first.get() {
            Some(_) => &self.first,
            None => &self.second,
        };
        if self.has_more() {
            self.refill(place, threads);
        } else {
            place.claim.end(false);
        }
    }

    /// Puts a thread, which is in no queue, into a place, or last.
    #[inline(always)]
    pub(crate) fn push_back(&self, threads: &mut Slab<Thread>, thread: &'static ThreadCells) {
        if self.first.claim.is_empty() {
            self.first.set(Some(thread));
        } else {
            self.follow(threads, thread);
        }
    }

    /// Takes a thread, which waits here, out.
    pub(crate) fn remove(&self, threads: &mut Slab<Thread>, thread: crate::ThreadId) {
        let is_in = |place: &Place| {
            let found = place.get();
            found.is_some_and(|found| found.actor.get().thread == thread)
        };
        if is_in(&self.first) {
            self.refill(&self.first, threads);
        } else if is_in(&self.second) {
            self.refill(&self.second, threads);
        } else {
            let mut rest = self.rest.get();
            rest.remove(threads, thread);
            self.rest.set(rest);
        }
    }

    /// All who wait, in order.
    pub(crate) fn iter<'a>(
        &self,
        threads: &'a Slab<Thread>,
    ) -> impl Iterator<Item = crate::ThreadId> + use<'a> {
        let places = [self.first.get(), self.second.get()];
        let placed = places.into_iter().flatten();
        placed
            .map(|thread| thread.actor.get().thread)
            .chain(self.rest.get().iter(threads))
    }

    /// Whether nobody waits without a place while one is free.
    pub(crate) fn is_in_order(&self) -> bool {
        let free = self.first.claim.is_empty() || self.second.claim.is_empty();
        !(free && self.has_more())
    }

    /// Gives a place to whoever waits without one.
    #[cold]
    #[inline(never)]
    fn refill(&self, place: &Place, threads: &mut Slab<Thread>) {
        let mut rest = self.rest.get();
        let next = rest.pop_front(threads);
        self.rest.set(rest);
        place.set(next.map(|next| threads.at(next).cells));
    }

    #[cold]
    #[inline(never)]
    fn follow(&self, threads: &mut Slab<Thread>, thread: &'static ThreadCells) {
        if self.second.claim.is_empty() {
            return self.second.set(Some(thread));
        }
        let mut rest = self.rest.get();
        rest.push_back(threads, thread.actor.get().thread);
        self.rest.set(rest);
    }
}

/// What a name was found to denote: it still does, as long as the stamp is the present one. It is
/// no part of the state: `invariants` checks that it says nothing else than the names do.
#[derive(Clone, Copy)]
pub(crate) struct Hint<T> {
    pub(crate) name: u64,
    pub(crate) stamp: Stamp,
    pub(crate) found: Option<T>,
}

impl<T> fmt::Debug for Hint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hint")
    }
}

impl<T: Copy> Hint<T> {
    pub(crate) const NONE: Hint<T> = Hint {
        name: 0,
        stamp: Stamp::NEVER,
        found: None,
    };

    /// What `name` denotes, if that is known.
    #[inline(always)]
    pub(crate) fn get(&self, name: u64, stamp: Stamp) -> Option<T> {
        if self.name == name && self.stamp == stamp {
            self.found
        } else {
            None
        }
    }
}

/// A reference to what was looked up once. It is no part of the state.
pub(crate) struct Known<T: 'static>(Cell<Option<&'static T>>);

impl<T> Known<T> {
    const fn nothing() -> Known<T> {
        Known(Cell::new(None))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'static T> {
        self.0.get()
    }

    #[inline(always)]
    pub(crate) fn set(&self, to: &'static T) {
        self.0.set(Some(to));
    }

    pub(crate) fn forget(&self) {
        self.0.set(None);
    }
}

impl<T> fmt::Debug for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}
