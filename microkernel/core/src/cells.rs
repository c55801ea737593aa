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
    ThreadId,
    gate::{Claim, Token},
    kernel::{Running, TOKEN_THREAD_BITS},
    machine::{Context, SpaceId},
    message::MessageId,
    port::PortId,
    queue::{Link, Neighbours, Queue},
    run_queue::{NO_RANK, rank},
    slab::Id,
    space::Stamp,
    thread::{Source, State},
};
use core::{cell::Cell, fmt, ptr};
use ipc_abi::{
    exception::Behavior,
    fault::Fault,
    message::{FOREVER, Info, Outcome},
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
    /// Its place in the one queue that it is in: ready, or waiting at a port or set.
    pub(crate) neighbours: Neighbours,
    /// In a priority list: the last of the run of equals that it leads.
    pub(crate) run_end: Link,
    /// What it sends, if it is queued as a caller.
    pub(crate) info: Cell<Info>,
    /// Words and body, if its call was forwarded and is queued again: then they are not its own.
    pub(crate) forwarded: Cell<Option<MessageId>>,
    /// Which arrival at the port it was.
    pub(crate) stamp: Cell<u64>,
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
        self.neighbours.reset();
        self.run_end.set(None);
        self.info.set(Info(0));
        self.forwarded.set(None);
        self.stamp.set(0);
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
            neighbours: Neighbours::default(),
            run_end: Link::default(),
            info: Cell::new(Info(0)),
            forwarded: Cell::new(None),
            stamp: Cell::new(0),
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

    /// The thread.
    #[inline(always)]
    pub(crate) fn id(&self) -> ThreadId {
        self.actor.get().thread
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
    /// Who receives what comes next, and where it waits, if in a place; `Err` says whether nobody waits at
    /// all, neither here nor at its set, if it is in one and no more.
    #[inline(always)]
    pub(crate) fn receiver(&self) -> Result<(&Place, &'static ThreadCells), bool> {
        match (self.spot.next(), self.set.get()) {
            (Err(true), Some(set)) => set.next(),
            (next, _) => next,
        }
    }

    /// Who receives what comes next.
    pub(crate) fn first(&self) -> Option<ThreadId> {
        let in_set = || self.set.get().and_then(Spot::first);
        self.spot.first().or_else(in_set)
    }

    /// As [`PortCells::receiver`], if nobody else wants this one: it is claimed.
    #[inline(always)]
    pub(crate) fn claim_receiver(&self) -> Option<(&Place, &'static ThreadCells)> {
        match self.spot.claim_next() {
            Ok(claimed) => Some(claimed),
            Err(false) => None,
            Err(true) => self.set.get()?.claim_next().ok(),
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

    /// Says that who waited does not any more.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.claim.end(false);
    }
}

/// How many threads can wait in places: as many processors can be served at one port or set at once.
const PLACES: usize = 4;

/// Where threads wait for messages: at a port or at a set. The first of them have places, so that processors
/// can claim them. A place that was left is taken again by whoever comes next, also where others
/// wait without: who worked last works next.
#[derive(Default)]
pub(crate) struct Spot {
    /// Who is next, in this order.
    places: [Place; PLACES],
    /// Who comes after those: who found no place that was free.
    rest: Queue,
    /// Whether anybody may wait here, or ever did. Mostly nobody does at a port of a set.
    used: Cell<bool>,
    /// Whether something is there to receive.
    pub(crate) full: Cell<bool>,
}

impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place: &Place| place.get().map(ThreadCells::id);
        f.debug_struct("Spot")
            .field("places", &self.places.each_ref().map(name))
            .field("rest", &self.rest)
            .field("full", &self.full)
            .finish()
    }
}

impl Spot {
    /// Says that nobody waits and nothing is there.
    pub(crate) fn reset(&self) {
        for place in &self.places {
            place.set(None);
        }
        self.rest.reset();
        self.used.set(false);
        self.full.set(false);
    }

    /// Says that threads wait here.
    pub(crate) fn begin_use(&self) {
        self.used.set(true);
    }

    /// Who is next, and its place; `Err` says whether nobody waits at all.
    #[inline(always)]
    fn next(&self) -> Result<(&Place, &'static ThreadCells), bool> {
        if !self.used.get() {
            return Err(true);
        }
        for place in &self.places {
            if let Some(thread) = place.get() {
                return Ok((place, thread));
            }
        }
        Err(self.rest.is_empty())
    }

    /// As [`Spot::next`], claimed. `Err(false)` if another processor is about to change something, too.
    #[inline(always)]
    fn claim_next(&self) -> Result<(&Place, &'static ThreadCells), bool> {
        if !self.used.get() {
            return Err(true);
        }
        let mut nobody = true;
        for place in &self.places {
            match place.claim.take() {
                Ok(()) => {
                    let thread = place.thread.get();
                    return thread.map(|thread| (place, thread)).ok_or(false);
                }
                Err(free) => nobody &= free,
            }
        }
        Err(nobody && self.rest.is_empty())
    }

    /// Claims a place for one who is to wait, if there is one.
    #[inline(always)]
    pub(crate) fn claim_place(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.claim.begin())
    }

    /// Who is next.
    pub(crate) fn first(&self) -> Option<ThreadId> {
        match self.next() {
            Ok((_, thread)) => Some(thread.id()),
            Err(_) => self.rest.first().map(ThreadCells::id),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Puts a thread, which is in no queue, into a place, or last.
    #[inline(always)]
    pub(crate) fn push_back(&self, thread: &'static ThreadCells) {
        self.begin_use();
        for place in &self.places {
            if place.claim.is_empty() {
                return place.set(Some(thread));
            }
        }
        self.follow(thread);
    }

    /// Takes a thread, which waits here, out.
    pub(crate) fn remove(&self, thread: &'static ThreadCells) {
        let is_in = |place: &&Place| place.get().is_some_and(|found| ptr::eq(found, thread));
        match self.places.iter().find(is_in) {
            Some(place) => place.leave(),
            None => self.rest.remove(thread),
        }
    }

    /// Whether nobody waits where nobody is looked for.
    pub(crate) fn is_sound(&self) -> bool {
        let waits = self.places.iter().any(|place| place.get().is_some());
        self.used.get() || !waits && self.rest.is_empty()
    }

    /// All who wait, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> + use<> {
        let placed = self.places.each_ref().map(|place| place.get());
        let placed = placed.into_iter().flatten();
        placed.map(ThreadCells::id).chain(self.rest.iter())
    }

    #[cold]
    #[inline(never)]
    fn follow(&self, thread: &'static ThreadCells) {
        self.rest.push_back(thread);
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
