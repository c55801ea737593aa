//! vm_wire, vm_wire_all, and mappings that are wired from the start (rules 131 to 143, row 41).
//!
//! Under the operation lock the whole range is looked at, then its entries are marked *in transition*
//! and get an object that only has to be filled. Then the lock is let go and page after page is made
//! resident, with as much waiting for pagers as it takes; whoever would change, remove or copy an entry
//! in transition waits. At last, under the lock again, the marks go, and after a failure exactly what
//! was wired here.
//!
//! An entry is wired whole or not at all: the part of it that is done is cut off, and its end moves.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};

use super::entry::Entry;
use super::remove::Remove;
use super::tree::Link;
use super::unwire::PART;
use super::walk::{Holes, Pass, Walk};
use crate::call::Reply;
use crate::event::MapId;
use crate::fault::wire::{BROUGHT, Stopped, Wired};
use crate::id::Id;
use crate::machine::Machine;
use crate::op::wait::What;
use crate::op::{BUDGET, Op, Progress, Verb};
use crate::range::{Span, page_of};
use crate::{Core, Turn};

/// Operations that may have entries of one map in transition at the same time.
const WIRES: usize = 8;

/// Those operations.
pub type Wires = heapless::Vec<Id<Op>, WIRES>;

/// What is to be wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A range without holes, every entry of which allows this access.
    Range(Prot),
    /// Whatever is mapped, may be used at all, and is not wired by the user yet.
    Current {
        /// And whatever will be mapped.
        future: bool,
    },
    /// A new mapping.
    Mapping {
        /// If it cannot be wired it stays, unwired; else it goes again (amendment A8).
        best_effort: bool,
    },
}

/// What the operation is doing.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Looking at the range, then marking its entries.
    Mark,
    /// Making pages resident.
    Pages,
    /// Unmarking; after a failure, unwiring.
    Settle,
    /// Taking back the mapping that could not be wired.
    Unmap,
}

/// Wiring a range.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    subject: Subject,
    walk: Walk,
    stage: Stage,
    /// Everything below this is done in this stage.
    cursor: u64,
    /// Everything below this has been wired.
    done: u64,
    /// Where this operation has cut an entry, to go on from there.
    cut: u64,
    /// Pages that the map was charged with and that no entry is wired for yet.
    owed: u64,
    failed: Option<Kern>,
    answer: Reply,
}

impl Wire {
    /// Of a range that lies inside the map.
    pub(crate) const fn new(map: MapId, range: Span, subject: Subject, answer: Reply) -> Wire {
        let walk = Walk::new(map, range);
        Wire {
            subject,
            walk: match subject {
                Subject::Range(_) => walk.through(),
                Subject::Current { .. } | Subject::Mapping { .. } => walk,
            },
            stage: Stage::Mark,
            cursor: range.start(),
            done: range.start(),
            cut: 0,
            owed: 0,
            failed: None,
            answer,
        }
    }

    /// The map and the range whose entries it may have in transition.
    pub(crate) const fn place(&self) -> (MapId, Span) {
        (self.walk.map, self.walk.range)
    }

    /// Pages that the map was charged with and that no entry is wired for.
    pub(crate) const fn owed(&self) -> u64 {
        self.owed
    }

    const fn holes(&self) -> Holes {
        match self.subject {
            Subject::Range(_) => Holes::Refused,
            Subject::Current { .. } | Subject::Mapping { .. } => Holes::Skipped,
        }
    }

    fn fail(&mut self, code: Kern) {
        self.failed = Some(code);
        self.stage = Stage::Settle;
        self.cursor = self.walk.range.start();
        self.cut = 0;
    }
}

impl Subject {
    /// Whether an entry is one that has to be wired.
    fn concerns(self, entry: &Entry) -> bool {
        match self {
            Subject::Range(_) => true,
            Subject::Current { .. } | Subject::Mapping { .. } => {
                !is_apart(entry) && !entry.protection.is_empty() && entry.user_wired == 0
            }
        }
    }

    /// Whether an entry can be wired (rules 133, 136).
    fn allows(self, entry: &Entry) -> Result<(), Kern> {
        if !self.concerns(entry) {
            return Ok(());
        }
        if let Subject::Range(access) = self
            && (entry.is_tray || !entry.protection.contains(access))
        {
            return Err(Kern::ProtectionFailure);
        }
        if entry.user_wired == u16::MAX || entry.wired == u16::MAX {
            return Err(Kern::Failure);
        }
        Ok(())
    }
}

/// Whether an entry shows what is nobody's to wire, or what has to be taken out of another map first.
const fn is_apart(entry: &Entry) -> bool {
    entry.is_tray || entry.submap.is_some()
}

/// One user wiring more; the first is one of all wirings (rule 131).
const fn add_wiring(entry: &mut Entry) {
    if entry.user_wired == 0 {
        entry.wired = entry.wired.saturating_add(1);
    }
    entry.user_wired = entry.user_wired.saturating_add(1);
}

impl Core {
    /// One step of wiring: up to [`BUDGET`] entries in each stage, or as many pages that are not there, or
    /// [`crate::fault::wire::WORK`] that are.
    ///
    /// # Errors
    /// In order of address: `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: the access is
    /// more than an entry allows, or the slots of a tray. `KERN_FAILURE`: as many wirings as can be
    /// counted. Then `KERN_RESOURCE_SHORTAGE`: a limit, or memory. `KERN_MEMORY_ERROR`: a pager failed.
    /// `KERN_FAILURE`: the caller was interrupted. `KERN_TERMINATED`. Nothing is wired that was not.
    pub(crate) fn wire_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Wire,
        waiter: u32,
    ) -> Progress {
        if let Some(code) = self.op_failed(waiter) {
            match work.stage {
                Stage::Mark if work.walk.pass == Pass::Check => {
                    return self.wire_refused(work, code);
                }
                Stage::Mark | Stage::Pages => work.fail(code),
                // What ends is not interrupted (rule 139).
                Stage::Settle | Stage::Unmap => {}
            }
        }
        if matches!(work.stage, Stage::Mark) {
            match self.wire_mark_step(turn, work, waiter) {
                None => {}
                Some(progress) => return progress,
            }
        }
        if matches!(work.stage, Stage::Pages) {
            match self.wire_pages_step(turn, work, waiter) {
                None => {}
                Some(progress) => return progress,
            }
        }
        let map = work.walk.map;
        let ending = self.maps.get(map).is_none_or(|map| map.dying);
        if !ending && self.op_lock(turn, waiter, map) == Ok(false) {
            return Progress::Wait;
        }
        if !matches!(work.stage, Stage::Unmap) {
            return self.wire_settle_step(work, waiter, ending);
        }
        let mut remove = Remove::at(work.walk, work.answer);
        let progress = self.remove_step(turn, &mut remove);
        work.walk = *remove.walk();
        match (progress, work.failed) {
            (Progress::Done(_), Some(code)) => Progress::Done(Some(Err(code))),
            (progress, _) => progress,
        }
    }

    /// What is refused before anything was marked.
    fn wire_refused(&mut self, work: &mut Wire, code: Kern) -> Progress {
        work.failed = Some(code);
        self.wire_ended(work)
    }

    /// Looks at the range, and marks its entries. `None`: all are marked, or it has failed.
    fn wire_mark_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Wire,
        waiter: u32,
    ) -> Option<Progress> {
        let map = work.walk.map;
        match self.op_lock(turn, waiter, map) {
            Ok(true) => {}
            Ok(false) => return Some(Progress::Wait),
            Err(code) => return Some(self.wire_refused(work, code)),
        }
        if work.walk.pass == Pass::Check {
            let full = self.maps.get(map).is_some_and(|map| map.wires.is_full());
            if full {
                return Some(Progress::Transit(map));
            }
            let (subject, holes) = (work.subject, work.holes());
            match self.walk_check(&mut work.walk, holes, |entry| subject.allows(entry)) {
                Err(code) => return Some(self.wire_refused(work, code)),
                Ok(()) if work.walk.is_blocked() => return Some(Progress::Transit(map)),
                Ok(()) if work.walk.pass == Pass::Check => return Some(Progress::More),
                Ok(()) => {}
            }
            if let (Some(What::Op(op)), Some(map)) = (
                self.waiters.at(waiter).map(|waiter| waiter.what),
                self.maps.get_mut(map),
            ) {
                // There is room: the lock has been held since that was seen.
                let _ = map.wires.push(op);
            }
        }
        let mut link = self.walk_first(&work.walk);
        for _ in 0..BUDGET {
            let Some(&entry) = self.walk_entry(&work.walk, link) else {
                work.walk.cursor = work.walk.range.end();
                break;
            };
            if entry.submap.is_some() && matches!(work.subject, Subject::Range(_)) {
                // What shows here comes again as an entry of its own, which is wired.
                if let Err(code) = self.wire_unnest(turn, work, (link, &entry)) {
                    work.fail(code);
                    return None;
                }
                link = self.walk_first(&work.walk);
                continue;
            }
            if work.subject.concerns(&entry)
                && let Err(code) = self.wire_mark(work, link, &entry)
            {
                work.fail(code);
                return None;
            }
            work.walk.cursor = entry.end;
            link = entry.hooks.next;
        }
        if !work.walk.is_done() {
            return Some(Progress::More);
        }
        work.stage = Stage::Pages;
        self.op_unlock(waiter);
        None
    }

    /// Takes the first piece that shows of another map out of it, as it is to be wired. If the wiring
    /// fails, it stays out.
    fn wire_unnest<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Wire,
        (link, entry): (Link, &Entry),
    ) -> Result<(), Kern> {
        let range = work.walk.range;
        match self.leaf_above(link.0, work.walk.cursor.max(entry.start)) {
            Some(leaf) if leaf.start < range.end() => {
                self.unnest(turn.machine, (work.walk.map, &leaf), range)
            }
            _ => {
                work.walk.cursor = entry.end;
                Ok(())
            }
        }
    }

    /// Marks an entry, charges its pages, and gives it an object that shows everything that the entry
    /// does, that nobody will put another in the place of, and that has only to be filled (rules 32,
    /// 33).
    fn wire_mark(&mut self, work: &mut Wire, link: Link, entry: &Entry) -> Result<(), Kern> {
        if entry.wired == 0 {
            let pages = self.pages_to_wire(entry, entry.end);
            self.charge_wired(entry.map, pages)?;
            work.owed = work.owed.saturating_add(pages);
        }
        if entry.user_wired == 0 {
            let object = match entry.object {
                None => self.entry_own_object(link.0)?,
                Some(_) if entry.needs_copy => self.entry_written(link.0)?,
                Some(object) => object,
            };
            if let Some(object) = self.objects.get_mut(object)
                && object.is_internal()
                && object.strategy == CopyStrategy::Symmetric
            {
                object.strategy = CopyStrategy::Delay;
                object.true_share = true;
            }
        }
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.in_transition = true;
        }
        Ok(())
    }

    /// Wires as many pages as a step may. `None`: all are wired, or it has failed.
    fn wire_pages_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Wire,
        waiter: u32,
    ) -> Option<Progress> {
        let mut wired = Wired::new(turn.effects);
        let outcome = self.wire_some(turn, work, &mut wired);
        self.enter_wired(turn, work.walk.map, &wired);
        match outcome {
            Stopped::Wait(on) => {
                self.op_park(turn, waiter, on);
                Some(Progress::Wait)
            }
            Stopped::Failed(code) => {
                work.fail(code);
                None
            }
            Stopped::Full if work.done < work.walk.range.end() => Some(Progress::More),
            Stopped::Full => {
                work.stage = Stage::Settle;
                work.cursor = work.walk.range.start();
                work.cut = 0;
                None
            }
        }
    }

    fn wire_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Wire,
        wired: &mut Wired,
    ) -> Stopped {
        self.revoked = 0;
        while wired.left() > 0 && self.revoked < BUDGET {
            let Some(map) = self.maps.get(work.walk.map) else {
                return Stopped::Failed(Kern::Terminated);
            };
            let link = map.tree.find_or_above(&self.entries, work.done);
            let Some(&entry) = self.walk_entry(&work.walk, link) else {
                work.done = work.walk.range.end();
                return Stopped::Full;
            };
            wired.spend(BROUGHT);
            if !entry.in_transition {
                work.done = entry.end;
                continue;
            }
            let pages = self.object_with_pages(&entry);
            let whole = entry.user_wired > 0 || !pages;
            let (to, stopped) = if whole {
                (entry.end, Stopped::Full)
            } else {
                self.wire_pages(turn, link.0, (entry.start, entry.end), wired)
            };
            if to > entry.start {
                let changed = self.entry_change_part(link, to, &mut work.cut, add_wiring);
                if let Err(code) = changed {
                    // Only a part that pages were wired for is cut.
                    self.pages_unwire(&entry, to);
                    return Stopped::Failed(code);
                }
                work.done = to;
                if !whole {
                    let pages = page_of(to.saturating_sub(entry.start));
                    work.owed = work.owed.saturating_sub(pages);
                }
            }
            if stopped != Stopped::Full {
                return stopped;
            }
        }
        Stopped::Full
    }

    /// Takes the marks off up to [`BUDGET`] entries; after a failure also the wirings, up to
    /// [`crate::fault::wire::WORK`] pages.
    fn wire_settle_step(&mut self, work: &mut Wire, waiter: u32, ending: bool) -> Progress {
        let mut budget = BUDGET;
        while budget > 0 {
            let link = match self.maps.get(work.walk.map) {
                Some(map) => map.tree.find_or_above(&self.entries, work.cursor),
                None => Link::NIL,
            };
            let Some(&entry) = self.walk_entry(&work.walk, link) else {
                work.cursor = work.walk.range.end();
                break;
            };
            budget = budget.saturating_sub(1);
            let undo = entry.in_transition && work.failed.is_some() && entry.start < work.done;
            if undo && entry.user_wired == 1 {
                let to = self.entry_unwire_part(link, &mut work.cut, |part| {
                    part.user_wired = 0;
                    part.in_transition = false;
                });
                let pages = page_of(to.saturating_sub(entry.start)).min(page_of(PART));
                budget = budget.saturating_sub(pages as u32);
                work.cursor = to;
                continue;
            }
            if let Some(entry) = self.entries.at_mut(link.0)
                && entry.in_transition
            {
                entry.in_transition = false;
                if undo {
                    entry.user_wired = entry.user_wired.saturating_sub(1);
                }
            }
            self.entry_simplify(link);
            work.cursor = entry.end;
        }
        if work.cursor < work.walk.range.end() {
            return Progress::More;
        }
        self.simplify_at(work.walk.map, work.walk.range.end());
        self.wire_unregister(work, waiter);
        self.wire_ended_in(work, ending)
    }

    /// The map has this operation's entries in transition no more; whoever waited looks again.
    fn wire_unregister(&mut self, work: &mut Wire, waiter: u32) {
        let me = self.waiters.at(waiter).map(|waiter| waiter.what);
        let id = work.walk.map;
        let Some(map) = self.maps.get_mut(id) else {
            return;
        };
        map.wires.retain(|op| me != Some(What::Op(*op)));
        if let (None, Subject::Current { future: true }) = (work.failed, work.subject) {
            map.wiring_required = true;
        }
        self.uncharge_wired(id, work.owed);
        work.owed = 0;
        self.map_changed(id);
        self.wake_all(|core| core.maps.get_mut(id).map(|map| &mut map.transit));
    }

    fn wire_ended(&mut self, work: &mut Wire) -> Progress {
        let ending = self.maps.get(work.walk.map).is_none_or(|map| map.dying);
        self.wire_ended_in(work, ending)
    }

    /// Nothing is marked any more: an answer, or the mapping has to go.
    fn wire_ended_in(&mut self, work: &mut Wire, ending: bool) -> Progress {
        let Some(code) = work.failed else {
            return Progress::Done(Some(Ok(work.answer)));
        };
        match work.subject {
            Subject::Mapping { best_effort: true } => Progress::Done(Some(Ok(work.answer))),
            Subject::Mapping { best_effort: false } if !ending => {
                work.walk = Walk::new(work.walk.map, work.walk.range);
                work.stage = Stage::Unmap;
                Progress::More
            }
            _ => Progress::Done(Some(Err(code))),
        }
    }

    /// Interrupts an operation that wires: it undoes what it did and ends with `code` (rule 139).
    pub(crate) fn wire_interrupt(&mut self, id: Id<Op>, code: Kern) {
        let Some(op) = self.ops.get(id) else {
            return;
        };
        if !matches!(op.verb, Verb::Wire(_)) {
            return;
        }
        let index = op.waiter;
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.failed = Some(code);
            self.list_remove(index);
            self.make_ready(index);
        }
    }

    /// Interrupts everything that has entries of a map in transition: the map ends.
    pub(crate) fn wires_interrupt(&mut self, map: MapId) {
        let wires = self.maps.get(map).map(|map| map.wires.clone());
        for op in wires.unwrap_or_default() {
            self.wire_interrupt(op, Kern::Terminated);
        }
    }
}
