//! Deferred reclamation: taking what tasks have put into their rings (rules 206, 207), and making maps
//! cold.
//!
//! The ring lies in the task's memory ([`ipc_abi::reclaim`]) and is read and written as a thread of the
//! task would. Entries are claimed by moving `busy`, while the page with the ring's words is out of all
//! the task's translations: then the task and the server cannot both have an entry. An entry is done
//! with, and `head` moved, in one event and under the map's operation lock, so that a fork sees it
//! whole or not at all.
//!
//! A ring is the task's word. One that is not to be believed costs the task its memory: its map ends, and
//! with it the task, by the exceptions of its threads.

use ipc_abi::Kern;
use ipc_abi::reclaim::{self as layout, Behavior, HEADER_SIZE};
use ipc_abi::types::Prot;

use crate::call::Reply;
use crate::copy::slowly::Slow;
use crate::effect::{Effect, Report};
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::map::remove::Remove;
use crate::object::discard::Part;
use crate::object::page::Frame;
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress, Verb};
use crate::range::{Span, round_page};
use crate::{Core, Turn};

pub(crate) mod inherit;
mod ring;

pub(crate) use self::ring::Ring;
use self::ring::{Taken, Words, load, store};

/// What nobody hears.
const NO_REPLY: Reply = Reply::map(ipc_protocol::vm_map::Reply::VmDeallocate(()));

/// Entries that are claimed at a time.
const CLAIM: u64 = 16;

/// Taking entries of a ring, or of all rings, and what follows.
#[derive(Clone, Copy, Debug)]
pub struct Reclaim {
    /// Whose ring; `None`: the search for the next goes on.
    map: Option<MapId>,
    /// Entries to take.
    left: u64,
    /// The first that is not to be taken, once the ring has been looked at.
    until: Option<u64>,
    /// The number of the entry that is being taken. If the ring's is another, another operation has been
    /// through with it, while this one waited and had no lock.
    number: u64,
    now: Now,
    then: Then,
    reply: Option<Reply>,
}

/// What comes after a ring's entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// No more.
    Nothing,
    /// It gets so many entries.
    Resize(u32),
    /// The same, of a ring that was just made; if that fails, it goes again.
    Make(u32),
    /// The map loses its translations, from this address on.
    Cool(u64),
    /// The ring of the map with this number, or a higher one, is next, while frames are short.
    Next(u32),
}

/// What is being done with an entry.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "operations are few, and their records must not be allocated piecemeal"
)]
enum Now {
    /// Nothing: the next is looked at.
    Look,
    /// Its range is looked at, from the address where that has got to.
    Check(Taken, u64),
    /// Its range is unmapped.
    Remove(Remove, Span),
    /// Its range is made zero.
    Zero(Part),
    /// It is done with.
    Done,
    /// There is no more in the ring.
    After,
}

/// Why a step does not simply go on.
enum Stop {
    /// It waits.
    Wait,
    /// It waits for entries of this map that are in transition.
    Transit(MapId),
    /// All is done for this map.
    Over,
    /// Nothing more can be done for this map, and that is not its task's fault.
    Failed(Kern),
    /// The ring is not to be believed.
    Corrupt,
}

impl From<Kern> for Stop {
    fn from(code: Kern) -> Stop {
        match code {
            Kern::ResourceShortage | Kern::Terminated => Stop::Failed(code),
            _ => Stop::Corrupt,
        }
    }
}

impl Reclaim {
    /// Of one map's ring.
    pub(crate) const fn of(map: MapId, left: u64, then: Then, reply: Reply) -> Reclaim {
        Reclaim {
            map: Some(map),
            left,
            until: None,
            number: 0,
            now: Now::Look,
            then,
            reply: Some(reply),
        }
    }

    /// Whether it is of all rings, for want of frames.
    const fn is_of_all(&self) -> bool {
        matches!(self.then, Then::Next(_))
    }
}

impl Core {
    /// For want of frames: begins to go over all rings, unless that is being done. `false`: there are
    /// none, or no record for it.
    #[cold]
    pub(crate) fn reclaim_begin<M: Machine>(&mut self, turn: &mut Turn<'_, M>) -> bool {
        if self.reclaiming || self.rings == 0 || !self.is_short() {
            return self.reclaiming;
        }
        let work = Reclaim {
            map: None,
            left: u64::MAX,
            until: None,
            number: 0,
            now: Now::Look,
            then: Then::Next(0),
            reply: None,
        };
        let started = self.op_start(Verb::Reclaim(work), None, None, turn.now);
        self.reclaiming = started.is_ok();
        self.reclaiming
    }

    /// As [`Core::reclaim_begin`], for an operation, which waits so once for each page.
    #[cold]
    pub(crate) fn wait_for_relief<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        waiter: u32,
    ) -> bool {
        let waited = self.waiters.at(waiter).is_none_or(|w| w.relieved);
        let begun = !waited && self.reclaim_begin(turn);
        if begun && let Some(waiter) = self.waiters.at_mut(waiter) {
            waiter.relieved = true;
        }
        begun
    }

    /// If that was going over all rings, whoever waited for frames tries once more.
    pub(crate) fn reclaim_over(&mut self, work: &Reclaim) {
        if matches!(work.then, Then::Next(_)) {
            self.reclaiming = false;
            self.wake_all(|core| Some(&mut core.short));
        }
    }

    /// One step.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the map has ended, or its ring was corrupt. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn reclaim_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Reclaim,
        waiter: u32,
    ) -> Progress {
        // It does not wait for itself.
        if let Some(waiter) = self.waiters.at_mut(waiter) {
            waiter.relieved = true;
        }
        let Some(map) = work.map else {
            return self.reclaim_next(work);
        };
        let code = match self.reclaim_map(turn, work, map, waiter) {
            Ok(()) => return Progress::More,
            Err(Stop::Wait) => {
                // Nothing is held while another has the turn.
                self.op_unlock(waiter);
                let on = self.waiters.at(waiter).map(|waiter| waiter.on);
                return match on {
                    // Others wait there for this to be over.
                    Some(WaitOn::Frames) => {
                        self.list_remove(waiter);
                        Progress::More
                    }
                    // Who has the lock is at work.
                    Some(WaitOn::MapOp(_)) => Progress::Wait,
                    _ if work.is_of_all() => {
                        self.list_remove(waiter);
                        self.pass_over(work, waiter)
                    }
                    _ => Progress::Wait,
                };
            }
            Err(Stop::Transit(_)) if work.is_of_all() => return self.pass_over(work, waiter),
            Err(Stop::Transit(map)) => return Progress::Transit(map),
            Err(Stop::Over) => None,
            Err(Stop::Failed(code)) => Some(code),
            Err(Stop::Corrupt) => {
                self.guard(turn, map);
                Some(Kern::Terminated)
            }
        };
        if matches!(work.then, Then::Make(_)) && code.is_some() {
            self.ring_unmake(turn.machine, map);
        }
        if work.is_of_all() {
            return self.pass_over(work, waiter);
        }
        Progress::Done(match code {
            Some(code) => Some(Err(code)),
            None => work.reply.map(Ok),
        })
    }

    /// Leaves a ring as it is and goes on to the next: nobody who waits for frames is to wait for what one
    /// task has put into its ring, as memory of a pager that is silent.
    fn pass_over(&mut self, work: &mut Reclaim, waiter: u32) -> Progress {
        self.op_unlock(waiter);
        work.map = None;
        work.until = None;
        work.now = Now::Look;
        Progress::More
    }

    /// Takes a ring away again that could not be made, with its memory.
    pub(crate) fn ring_unmake<M: Machine>(&mut self, machine: &mut M, map: MapId) {
        let record = self.maps.get_mut(map).filter(|map| !map.dying);
        let Some(ring) = record.and_then(|map| map.ring.take()) else {
            return;
        };
        self.rings = self.rings.saturating_sub(1);
        let size = round_page(layout::ring_size(ring.max_len)).unwrap_or(0);
        let end = ring.address.saturating_add(size);
        // Nobody has been told of it; what somebody has joined to it stays.
        if let Some(link) = self.map_lookup(map, ring.address)
            && let Some(entry) = self.entries.at(link.0)
            && (entry.start, entry.end, entry.wired) == (ring.address, end, 0)
            && let Some(range) = Span::exact(ring.address, end)
        {
            self.map_revoke(machine, map, range, Prot::NONE);
            self.entry_delete(link);
            self.map_changed(map);
        }
    }

    /// The next map with a ring that may hold something.
    fn reclaim_next(&mut self, work: &mut Reclaim) -> Progress {
        for _ in 0..BUDGET {
            let Then::Next(next) = work.then else {
                return Progress::Done(None);
            };
            if next >= self.maps.end() || !self.is_short() {
                self.reclaim_over(work);
                return Progress::Done(None);
            }
            work.then = Then::Next(next.saturating_add(1));
            let here = self.maps.id_at(next);
            let map = here.and_then(|id| self.maps.get(id));
            let ring = map.filter(|map| !map.dying).and_then(|map| map.ring);
            if ring.is_some_and(|ring| ring.reclaimable > 0) {
                work.map = here;
                return Progress::More;
            }
        }
        Progress::More
    }

    /// One step on one map.
    fn reclaim_map<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Reclaim,
        map: MapId,
        waiter: u32,
    ) -> Result<(), Stop> {
        if !self.op_lock(turn, waiter, map)? {
            return Err(Stop::Wait);
        }
        // That the memory of a task that has ended is gone says nothing of its ring.
        let record = self.maps.get(map).filter(|map| !map.dying);
        let Some(ring) = record.ok_or(Kern::Terminated)?.ring else {
            return self.reclaim_after(turn, work, map);
        };
        match work.now {
            Now::Look => return self.reclaim_look(turn, work, (map, ring), waiter),
            Now::After => return self.reclaim_last(turn, work, (map, ring), waiter),
            Now::Check(..) | Now::Remove(..) | Now::Zero(_) | Now::Done => {}
        }
        // First, so that nothing has to be waited for between the end of an entry and this.
        let header = self.ring_words(turn, map, ring.address, waiter)?;
        if load(turn.machine, header, layout::HEAD) != work.number {
            work.now = Now::Look;
            return Ok(());
        }
        match work.now {
            Now::Check(taken, next) => self.reclaim_check(work, map, (taken, next)),
            Now::Remove(mut remove, range) => {
                // Should the lock be lost, what is left of the range is removed from its beginning.
                work.now = removing(work, map, range);
                match self.remove_step(turn, &mut remove) {
                    Progress::Done(Some(Ok(_))) => head_move(turn.machine, work, header),
                    Progress::Done(Some(Err(code))) => return Err(code.into()),
                    Progress::Transit(map) => return Err(Stop::Transit(map)),
                    _ => {
                        work.now = Now::Remove(remove, range);
                        let record = self.maps.get_mut(map);
                        if let Some(ring) = record.and_then(|map| map.ring.as_mut()) {
                            ring.begun = Some(work.number);
                        }
                    }
                }
                Ok(())
            }
            Now::Zero(mut part) => {
                let progress = self.zero_step(turn, &mut part, waiter);
                work.now = Now::Zero(part);
                match progress? {
                    Slow::Wait => return Err(Stop::Wait),
                    Slow::More => {}
                    Slow::Done => work.now = Now::Done,
                }
                Ok(())
            }
            Now::Done => {
                head_move(turn.machine, work, header);
                Ok(())
            }
            Now::Look | Now::After => Ok(()),
        }
    }

    /// What is to be done with a ring of which no more is taken.
    fn reclaim_last<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Reclaim,
        (map, ring): (MapId, Ring),
        waiter: u32,
    ) -> Result<(), Stop> {
        if let Then::Resize(len) | Then::Make(len) = work.then {
            let header = self.ring_words(turn, map, ring.address, waiter)?;
            store(turn.machine, header, layout::CAPACITY, u64::from(len));
            if let Some(map) = self.maps.get_mut(map) {
                map.ring = Some(Ring { len, ..ring });
            }
        }
        self.reclaim_after(turn, work, map)
    }

    /// Looks at the next entry; claims some, if none is claimed.
    fn reclaim_look<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Reclaim,
        (map, ring): (MapId, Ring),
        waiter: u32,
    ) -> Result<(), Stop> {
        let header = self.ring_words(turn, map, ring.address, waiter)?;
        // No thread reads or writes the three words from here to the end of the event.
        let page = Span::covering(ring.address, HEADER_SIZE)?;
        self.map_revoke(turn.machine, map, page, Prot::NONE);
        let mut words = Words::load(turn.machine, header);
        let len = u64::from(ring.len);
        if words.head > words.busy
            || words.busy.saturating_sub(words.head) > len
            || words.tail.saturating_sub(words.head) > len
        {
            return Err(Stop::Corrupt);
        }
        if words.head == words.busy {
            let enough = matches!(work.then, Then::Next(_)) && !self.is_short();
            let last = words.head.saturating_add(work.left);
            let until = *work.until.get_or_insert(last);
            let more = words.tail.min(until).saturating_sub(words.head);
            if more == 0 || enough {
                work.now = Now::After;
                return Ok(());
            }
            words.busy = words.head.saturating_add(more.min(CLAIM));
            store(turn.machine, header, layout::BUSY, words.busy);
        }
        let offset = layout::entry_offset(words.head, ring.len);
        let entry = self.ring_entry(turn, (map, ring.address.saturating_add(offset)), waiter)?;
        work.number = words.head;
        work.now = match ring.taken(entry)? {
            None => Now::Done,
            Some(taken) => Now::Check(taken, taken.range.start()),
        };
        Ok(())
    }

    /// Looks whether the range of an entry is mapped throughout, then begins to take it.
    fn reclaim_check(
        &mut self,
        work: &mut Reclaim,
        map: MapId,
        (taken, next): (Taken, u64),
    ) -> Result<(), Stop> {
        let range = taken.range;
        let end = range.end();
        let mut part = Part { map, next, end };
        let own = |entry: &Entry| match entry.is_tray || entry.permanent {
            true => Err(Kern::ProtectionFailure),
            false => Ok(()),
        };
        if !self.part_covered(&mut part, own)? {
            work.now = Now::Check(taken, part.next);
            return Ok(());
        }
        part.next = range.start();
        work.now = match taken.behavior {
            Behavior::Free => Now::Zero(part),
            Behavior::Deallocate => removing(work, map, range),
        };
        Ok(())
    }

    /// What comes after the ring.
    fn reclaim_after<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Reclaim,
        map: MapId,
    ) -> Result<(), Stop> {
        let Then::Cool(next) = work.then else {
            return Err(Stop::Over);
        };
        match self.cool_some(turn.machine, map, next)? {
            Some(next) => work.then = Then::Cool(next),
            None => return Err(Stop::Over),
        }
        work.now = Now::After;
        Ok(())
    }

    /// Takes the translations of up to [`BUDGET`] entries that are not wired; gives where to go on.
    fn cool_some<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        next: u64,
    ) -> Result<Option<u64>, Kern> {
        let record = self.maps.get(map).filter(|map| !map.dying);
        let tree = &record.ok_or(Kern::Terminated)?.tree;
        let mut link = tree.find_or_above(&self.entries, next);
        for _ in 0..BUDGET {
            let Some(&entry) = self.entries.at(link.0) else {
                return Ok(None);
            };
            link = entry.hooks.next;
            if entry.wired == 0
                && !entry.in_transition
                && let Some(range) = Span::exact(entry.start, entry.end)
            {
                self.map_revoke(machine, map, range, Prot::NONE);
            }
        }
        Ok(self.entries.at(link.0).map(|entry| entry.start))
    }

    /// Takes a map away from its task, which cannot go on: see the module's text.
    fn guard<M: Machine>(&mut self, turn: &mut Turn<'_, M>, map: MapId) {
        let Some(record) = self.maps.get(map) else {
            return;
        };
        let all = Span::exact(record.min(), record.max());
        self.map_end(map);
        if let Some(all) = all {
            self.map_revoke(turn.machine, map, all, Prot::NONE);
        }
        let map = map.index();
        turn.effects
            .push(Effect::Report(Report::RingCorrupt { map }));
    }
}

/// Begins to unmap a range. Nobody hears its answer.
fn removing(work: &Reclaim, map: MapId, range: Span) -> Now {
    let reply = work.reply.unwrap_or(NO_REPLY);
    Now::Remove(Remove::new(map, range, reply), range)
}

/// The oldest entry is done with.
fn head_move<M: Machine>(machine: &mut M, work: &mut Reclaim, header: Frame) {
    let head = load(machine, header, layout::HEAD);
    store(machine, header, layout::HEAD, head.saturating_add(1));
    work.now = Now::Look;
}
