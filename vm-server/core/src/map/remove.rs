//! vm_deallocate, and whatever else takes entries out of a map (rules 142, 146 to 149).
//!
//! A step removes translations first, then entries, so that a frame is free only when nobody can
//! reach it. Anonymous memory that is given up in part gives its pages up too, where it is easy to see
//! that nobody else can reach them; else they stay until the object goes.

use core::cell::Cell;

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::entry::Entry;
use super::tree::Link;
use super::walk::{Holes, Pass, Walk};
use crate::call::Reply;
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::op::{BUDGET, Progress};
use crate::range::{Span, page_of};
use crate::slab::NIL;
use crate::{Core, Turn};

/// Entries of an object that are compared before its pages are kept for want of certainty.
const NEIGHBOURS: usize = 16;

/// Removing a range, and perhaps mapping something else in its place.
///
/// A successor comes in as the range goes, step by step: nobody ever sees a hole, neither another call,
/// which finds the operation lock held, nor a fault (rule 88).
#[derive(Clone, Copy, Debug)]
pub struct Remove {
    walk: Walk,
    then: Option<Entry>,
    answer: Reply,
    /// Something else is to come in place of the range.
    replaces: bool,
    /// A permanent entry is in the way of that: permanent entries lose their rights, and no more
    /// happens (rule 89).
    barred: bool,
}

impl Remove {
    /// Of the part of a range that lies inside the map.
    pub(crate) const fn new(map: MapId, range: Span, answer: Reply) -> Remove {
        Remove {
            walk: Walk::new(map, range).through(),
            then: None,
            answer,
            replaces: false,
            barred: false,
        }
    }

    /// As [`Remove::new`], to make room for something else.
    pub(crate) const fn for_another(map: MapId, range: Span, answer: Reply) -> Remove {
        Remove {
            replaces: true,
            ..Remove::new(map, range, answer)
        }
    }

    /// As far as a walk has got.
    pub(super) const fn at(walk: Walk, answer: Reply) -> Remove {
        Remove {
            walk,
            ..Remove::new(walk.map, walk.range, answer)
        }
    }

    /// How far it has got.
    pub(super) const fn walk(&self) -> &Walk {
        &self.walk
    }

    /// The map that it works on, under its operation lock.
    pub(crate) const fn map(&self) -> MapId {
        self.walk.map
    }

    /// Of what lies where `entry` is to be. It brings a reference to its object.
    pub(crate) fn replaced_by(entry: Entry, answer: Reply) -> Option<Remove> {
        let range = Span::exact(entry.start, entry.end)?;
        Some(Remove {
            then: Some(entry),
            ..Remove::for_another(entry.map, range, answer)
        })
    }
}

/// Entries side by side: how many, and the one above them.
#[derive(Clone, Copy)]
struct Run {
    count: u32,
    above: Link,
}

impl Run {
    /// None, below an entry.
    const fn empty(above: Link) -> Run {
        Run { count: 0, above }
    }
}

impl Entry {
    /// Whether nothing is to be done for it before it goes but what its object takes.
    const fn goes_plainly(&self) -> bool {
        self.wired == 0 && !self.permanent
    }
}

impl Core {
    /// One step of removing. Wirings of the user end with their entries (rule 142). A permanent entry
    /// stays, without any rights.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: the slots of a tray lie in the range, or permanent entries of a map
    /// that it shows. `KERN_RESOURCE_SHORTAGE`: no records for the cuts at its ends, or more bytes than
    /// the map may have. Nothing has
    /// changed; a successor is given up. `KERN_NO_SPACE`: a permanent entry is in the way of something
    /// else, and has lost its rights.
    pub(crate) fn remove_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Remove,
    ) -> Progress {
        if work.walk.pass == Pass::Check {
            let (map, range) = (work.walk.map, work.walk.range);
            let begins = work.walk.cursor == range.start();
            if begins && !work.replaces && self.remove_plain(turn.machine, map, range).is_some() {
                return Progress::Done(Some(Ok(work.answer)));
            }
            let barred = Cell::new(work.barred);
            let look = |entry: &Entry| {
                if entry.is_tray || entry.permanent && entry.submap.is_some() {
                    return Err(Kern::ProtectionFailure);
                }
                barred.set(barred.get() || entry.permanent && work.replaces);
                Ok(())
            };
            let mut walk = work.walk;
            let checked = self.walk_check(&mut walk, Holes::Skipped, look);
            work.walk = walk;
            work.barred = barred.get();
            match checked {
                Err(code) => return self.remove_refused(work, code),
                Ok(()) if work.walk.is_blocked() => return Progress::Transit(work.walk.map),
                Ok(()) if work.walk.pass == Pass::Check => return Progress::More,
                Ok(()) => {}
            }
            if work.replaces
                && let Err(code) = self.check_size(map, range.size(), work.walk.covered())
            {
                for end in [range.start(), range.end()] {
                    self.simplify_at(map, end);
                }
                return self.remove_refused(work, code);
            }
        }
        if work.barred {
            self.neuter_some(turn, &mut work.walk);
            if !work.walk.is_done() {
                return Progress::More;
            }
            self.map_changed(work.walk.map);
            return self.remove_refused(work, Kern::NoSpace);
        }
        let (from, before) = (work.walk.cursor, self.entries.len());
        let whole = self.remove_some(turn, &mut work.walk);
        let removed = self.entries.len() < before;
        if let Err(code) = self.enter_piece(work, from, removed) {
            return self.remove_refused(work, code);
        }
        self.map_changed(work.walk.map);
        if !whole || !work.walk.is_done() {
            return Progress::More;
        }
        // Its pieces hold the successor's object now.
        if let Some(object) = work.then.and_then(|entry| entry.object) {
            self.object_deallocate(object);
        }
        Progress::Done(Some(Ok(work.answer)))
    }

    /// Removes a range in which one plain entry lies, whole or with one end, and nothing else: none is
    /// made only to be removed. Says whether that may have left work; `None`: it is otherwise, or it is much,
    /// and nothing has changed.
    pub(crate) fn remove_plain<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        range: Span,
    ) -> Option<bool> {
        let record = self.maps.get(map)?;
        if record.dying || record.shared.is_some() || !self.goes_quickly() {
            return None;
        }
        let link = record.tree.find_or_above(&self.entries, range.start());
        let Some(entry) = self.entries.at(link.0).filter(|e| e.start < range.end()) else {
            // Nothing is there.
            self.map_changed(map);
            return Some(false);
        };
        let (whole_low, whole_high) = (range.start() <= entry.start, entry.end <= range.end());
        let (next, visited) = (entry.hooks.next, entry.visited);
        let plain = entry.wired == 0
            && entry.submap.is_none()
            && !(entry.in_transition || entry.permanent || entry.is_tray)
            && (whole_low || whole_high);
        let (start, end) = (entry.start.max(range.start()), entry.end.min(range.end()));
        let (object, from) = (entry.object, entry.offset_of(start));
        let to = from.saturating_add(end.saturating_sub(start));
        let is_last = self
            .entries
            .at(next.0)
            .is_none_or(|next| next.start >= range.end());
        let (Some(piece), Some(window)) = (Span::exact(start, end), Span::exact(from, to)) else {
            return None;
        };
        if !plain || !is_last {
            return None;
        }
        let mut shows = false;
        if let Some(object) = object {
            let record = self.objects.get(object)?;
            let small = page_of(piece.size()) <= u64::from(BUDGET);
            let goes = whole_low && whole_high && record.refs == 1;
            let internal = record.is_internal();
            // Pages that only this entry reaches go with it, and many go in steps.
            if !internal || !(small || goes) && self.is_only_reached_by(object, link, window) {
                return None;
            }
            shows =
                !visited || self.window_revoke(machine, (map, piece), (object, window), Prot::NONE);
        }
        let whole = whole_low && whole_high;
        // Of an object that goes, or of pages that it gives up, there may be more.
        let leaves = shows || whole && object.is_some();
        if whole {
            if shows {
                self.entry_trim(link);
            }
            self.entry_delete(link);
            self.map_changed(map);
        } else {
            let alone = |object: &ObjectId| self.is_only_reached_by(*object, link, window);
            let given_up = object.filter(|_| shows).filter(alone);
            let record = self.maps.get_mut(map)?;
            if whole_high {
                record.set_end(&mut self.entries, link, start);
            } else {
                record.set_start(&mut self.entries, link, end);
            }
            record.changed();
            if let Some(object) = given_up {
                self.object_free_pages(object, page_of(from), page_of(to));
            }
        }
        Some(leaves)
    }

    /// Enters the part of the successor that lies below the walk's cursor and is not there yet.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or the map's limit. Where something was `removed` in the same
    /// event there is a record, and no limit counts: so nothing has changed.
    fn enter_piece(&mut self, work: &Remove, from: u64, removed: bool) -> Result<(), Kern> {
        let to = work.walk.cursor;
        let Some(entry) = work.then.filter(|_| from < to) else {
            return Ok(());
        };
        let mut piece = Entry {
            start: from,
            end: to,
            ..entry
        };
        if !entry.is_untouched() {
            piece.offset = entry.offset_of(from);
        }
        let insert = match removed {
            true => Core::entry_insert_instead,
            false => Core::entry_insert,
        };
        let Some(object) = entry.object else {
            return self.map_enter_by(piece, insert);
        };
        let link = insert(self, piece)?;
        self.object_reference(object);
        self.entry_simplify(link);
        Ok(())
    }

    fn remove_refused(&mut self, work: &mut Remove, code: Kern) -> Progress {
        self.remove_end(work);
        Progress::Done(Some(Err(code)))
    }

    /// Gives up what removing still holds.
    pub(crate) fn remove_end(&mut self, work: &mut Remove) {
        if let Some(object) = work.then.take().and_then(|entry| entry.object) {
            self.object_deallocate(object);
        }
    }

    /// Removes up to [`BUDGET`] entries, the translations of all of them at once. `false`: the next
    /// entry's pages take more steps to free.
    fn remove_some<M: Machine>(&mut self, turn: &mut Turn<'_, M>, walk: &mut Walk) -> bool {
        let first = self.walk_first(walk);
        let (mut link, mut count) = (first, 0);
        let (mut low, mut high) = (u64::MAX, 0);
        // The first ones that have nothing to give up.
        let mut bare = Run::empty(first);
        while count < BUDGET
            && let Some(entry) = self.walk_entry(walk, link)
        {
            if bare.count == count && entry.object.is_none() && entry.goes_plainly() {
                bare.count = count.saturating_add(1);
                bare.above = entry.hooks.next;
            }
            // Where nobody has touched anything there is nothing to take back.
            if entry.visited && !entry.is_untouched() {
                low = low.min(entry.start);
                high = entry.end;
            }
            link = entry.hooks.next;
            count = count.saturating_add(1);
        }
        if let Some(range) = Span::exact(low, high) {
            self.map_revoke(turn.machine, walk.map, range, Prot::NONE);
        }
        let (_, whole) = self.remove_each(turn, walk, (first, count), bare);
        whole
    }

    /// Removes `count` entries from a first one on, of which some are known to be `bare`. Returns the entry
    /// where it ended, and `false` if that one's pages take more steps to free.
    fn remove_each<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        walk: &mut Walk,
        (mut link, count): (Link, u32),
        bare: Run,
    ) -> (Link, bool) {
        let mut left = count;
        let mut known = Some(bare).filter(|run| run.count > 0);
        while left > 0 {
            let (run, whole) = match known.take() {
                Some(run) => (run, true),
                None => self.plain_run(link, left),
            };
            if run.count > 0 {
                self.entries_drop(walk.map, link, run);
                link = run.above;
                left = left.saturating_sub(run.count);
                // What goes next begins where the run ended, or above.
                walk.cursor = match self.walk_entry(walk, link) {
                    Some(entry) => entry.start,
                    None => walk.range.end(),
                };
                if !whole {
                    return (link, false);
                }
                continue;
            }
            if !whole {
                return (link, false);
            }
            left = left.saturating_sub(1);
            let Some(entry) = self.entries.at(link.0) else {
                break;
            };
            let whole = entry.end;
            let permanent = entry.permanent;
            let end = self.entry_unwire_all(turn, link);
            // It may have been cut: what is above it is its own rest.
            let next = self
                .entries
                .at(link.0)
                .map_or(Link::NIL, |entry| entry.hooks.next);
            if permanent {
                self.entry_neuter(link);
            } else {
                if !self.entry_trim(link) {
                    return (link, false);
                }
                self.entry_delete(link);
            }
            walk.cursor = end;
            link = next;
            if end < whole {
                return (link, true);
            }
        }
        // The end is seen in the step that removes the last entry, not in one after it.
        if self.walk_entry(walk, link).is_none() {
            walk.cursor = walk.range.end();
        }
        (link, true)
    }

    /// How many of `count` entries from a first one on are neither wired nor permanent, and have given up
    /// the pages that only they reach. `false`: the next one's pages take more steps.
    fn plain_run(&mut self, first: Link, count: u32) -> (Run, bool) {
        let mut run = Run::empty(first);
        while run.count < count
            && let Some(entry) = self.entries.at(run.above.0)
            && entry.goes_plainly()
        {
            let next = entry.hooks.next;
            if entry.object.is_some() && !self.entry_trim(run.above) {
                return (run, false);
            }
            run.above = next;
            run.count = run.count.saturating_add(1);
        }
        (run, true)
    }

    /// Takes entries of a map, from a first one on, out of it for good.
    fn entries_drop(&mut self, map: MapId, first: Link, Run { count, above }: Run) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        let run = (first, count);
        record.tree.unhang_run(&mut self.entries, run, above);
        let (mut link, mut size, mut loose) = (first, 0u64, 0u32);
        for _ in 0..count {
            let Some(entry) = self.entries.at(link.0) else {
                break;
            };
            let (object, submap, next) = (entry.object, entry.submap, entry.hooks.next);
            size = size.saturating_add(entry.size());
            loose = loose.saturating_add(entry.hooks.loose());
            if object.is_some() || submap.is_some() {
                self.entry_unlink(link.0);
            }
            self.entries.discard(link.0);
            if let Some(object) = object {
                self.object_deallocate(object);
            }
            self.submap_left(submap);
            link = next;
        }
        if let Some(record) = self.maps.get_mut(map) {
            record.size = record.size.saturating_sub(size);
            record.tree.forget(loose);
        }
        self.uncharge_entries(map, count);
    }

    /// Takes all rights from up to [`BUDGET`] entries: from those that are permanent.
    fn neuter_some<M: Machine>(&mut self, turn: &mut Turn<'_, M>, walk: &mut Walk) {
        let mut link = self.walk_first(walk);
        for _ in 0..BUDGET {
            let Some(&entry) = self.walk_entry(walk, link) else {
                walk.cursor = walk.range.end();
                return;
            };
            if entry.permanent {
                self.entry_bar(turn.machine, link);
            }
            walk.cursor = entry.end;
            link = entry.hooks.next;
        }
    }

    /// Takes all rights from a permanent entry that something else was to come in place of.
    pub(super) fn entry_bar<M: Machine>(&mut self, machine: &mut M, link: Link) {
        let Some(&entry) = self.entries.at(link.0) else {
            return;
        };
        if let Some(range) = Span::exact(entry.start, entry.end) {
            self.map_revoke(machine, entry.map, range, Prot::NONE);
        }
        self.entry_neuter(link);
    }

    /// What is left of a permanent entry when it is removed: its place. Translations are gone.
    fn entry_neuter(&mut self, link: Link) {
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.protection = Prot::NONE;
            entry.max_protection = Prot::NONE;
        }
    }

    /// Takes an entry out of its map for good, with its reference.
    pub(crate) fn entry_delete(&mut self, link: Link) {
        let Some(entry) = self.entries.at(link.0) else {
            return;
        };
        let (object, submap) = (entry.object, entry.submap);
        self.entry_remove(link);
        if let Some(object) = object {
            self.object_deallocate(object);
        }
        self.submap_left(submap);
    }

    /// Frees pages of an entry's object that only this entry can reach. Says whether that is done:
    /// a step frees [`BUDGET`] pages.
    fn entry_trim(&mut self, link: Link) -> bool {
        let Some(entry) = self.entries.at(link.0) else {
            return true;
        };
        let (Some(object), offset, size) = (entry.object, entry.offset, entry.size()) else {
            return true;
        };
        let Some(window) = offset
            .checked_add(size)
            .and_then(|end| Span::exact(offset, end))
        else {
            return true;
        };
        let rest = self.objects.get(object).is_some_and(|o| o.refs > 1);
        if !rest || !self.is_only_reached_by(object, link, window) {
            return true;
        }
        self.object_free_pages(object, page_of(window.start()), page_of(window.end()))
    }

    /// Whether it is certain that a window of an object is reached by nothing but the entry at `link`.
    pub(crate) fn is_only_reached_by(&self, object: ObjectId, link: Link, window: Span) -> bool {
        let Some(record) = self.objects.get(object) else {
            return false;
        };
        if !record.is_internal() || record.pages.pages() == 0 {
            return false;
        }
        // Another object that sees it holds a reference; and whoever else does sees some of the whole.
        let whole = window.start() == 0 && window.end() >= record.size;
        if record.shadows != NIL || whole && record.refs > 1 {
            return false;
        }
        let mut others = 0u32;
        let mut at = record.entries;
        for _ in 0..NEIGHBOURS {
            let Some(entry) = self.entries.at(at) else {
                break;
            };
            let end = entry.offset.saturating_add(entry.size());
            if at != link.0 && entry.offset < window.end() && window.start() < end {
                return false;
            }
            others = others.saturating_add(1);
            at = entry.object_next;
        }
        // Every reference is an entry: no copy, no named entry and no other object sees it.
        others == record.refs && (record.shadow.is_none() || !self.awaits_pages(object))
    }

    /// Removes up to [`BUDGET`] entries of a map whose task has ended. Says whether it is empty.
    pub(crate) fn map_teardown_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        map: MapId,
    ) -> bool {
        let Some(record) = self.maps.get(map) else {
            return true;
        };
        if !record.wires.is_empty() {
            // They have been interrupted, and end by themselves.
            return false;
        }
        let first = record.tree.first();
        let mut run = Run::empty(first);
        while run.count < BUDGET
            && let Some(entry) = self.entries.at(run.above.0)
            && entry.wired == 0
        {
            run.above = entry.hooks.next;
            run.count = run.count.saturating_add(1);
        }
        if run.count > 0 {
            self.entries_drop(map, first, run);
        } else if self.entries.at(first.0).is_some() {
            // That is work enough.
            self.entry_unwire_all(turn, first);
            self.entry_delete(first);
        }
        let Some(record) = self.maps.get(map) else {
            return true;
        };
        record.entries() == 0
    }
}

#[cfg(test)]
mod tests;
