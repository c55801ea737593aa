//! Wirings that end: vm_wire without access, vm_wire_all without flags, and memory that is unmapped
//! wired (rules 131, 132, 142, 144, 145).
//!
//! A page counts the entries that wire it ([`crate::object::page::Page::wired`]); an entry is wired
//! whole or not at all. So a step that has done a part of an entry cuts it there, and the next step
//! moves its own cut on ([`Core::entry_change_part`]): what is wired can be told from entries alone.

use ipc_abi::Kern;

use super::entry::Entry;
use super::tree::Link;
use super::walk::{Holes, Pass, Walk};
use crate::call::Reply;
use crate::event::MapId;
use crate::fault::wire::{BROUGHT, WORK};
use crate::machine::Machine;
use crate::object::Kind;
use crate::op::{BUDGET, Progress};
use crate::range::{Span, bytes_of, page_of};
use crate::{Core, Turn};

/// Bytes whose pages a step unwires: as many as one wires that are there.
pub(super) const PART: u64 = bytes_of(WORK as u64);
/// Bytes whose pages a step unwires that takes them away as well, and perhaps zeroes them.
const PART_REMOVED: u64 = bytes_of(BUDGET as u64);

/// Taking wirings of the user off a range.
#[derive(Clone, Copy, Debug)]
pub struct Unwire {
    walk: Walk,
    /// One wiring of each entry; else all.
    once: bool,
    /// Where this operation has cut an entry, to go on from there.
    cut: u64,
    answer: Reply,
}

impl Unwire {
    /// One wiring of each entry of a range, or all.
    pub(crate) const fn new(map: MapId, range: Span, once: bool, answer: Reply) -> Unwire {
        Unwire {
            walk: Walk::new(map, range),
            once,
            cut: 0,
            answer,
        }
    }

    /// The map that it works on, under its operation lock.
    pub(crate) const fn map(&self) -> MapId {
        self.walk.map
    }
}

impl Core {
    /// One step of unwiring: up to [`BUDGET`] entries, or [`WORK`] pages. What is not wired is passed
    /// over (rule 144).
    ///
    /// # Errors
    /// `KERN_TERMINATED`. `KERN_RESOURCE_SHORTAGE`: no records for the cuts at the ends of the range.
    /// Nothing has changed.
    pub(crate) fn unwire_step(&mut self, work: &mut Unwire) -> Progress {
        if work.walk.pass == Pass::Check {
            match self.walk_check(&mut work.walk, Holes::Skipped, |_| Ok(())) {
                Err(code) => return Progress::Done(Some(Err(code))),
                Ok(()) if work.walk.is_blocked() => return Progress::Transit(work.walk.map),
                Ok(()) if work.walk.pass == Pass::Check => return Progress::More,
                Ok(()) => {}
            }
        }
        let mut budget = WORK;
        while budget > 0 {
            let link = self.walk_first(&work.walk);
            let Some(&entry) = self.walk_entry(&work.walk, link) else {
                work.walk.cursor = work.walk.range.end();
                break;
            };
            let keeps = entry.user_wired == 0 || work.once && entry.user_wired > 1;
            if keeps {
                if let Some(entry) = self.entries.at_mut(link.0) {
                    entry.user_wired = entry.user_wired.saturating_sub(1);
                }
                work.walk.cursor = entry.end;
                self.entry_simplify(link);
                budget = budget.saturating_sub(BROUGHT);
                continue;
            }
            let to = self.entry_unwire_part(link, &mut work.cut, |entry| entry.user_wired = 0);
            work.walk.cursor = to;
            let pages = page_of(to.saturating_sub(entry.start)).min(page_of(PART)) as u32;
            budget = budget.saturating_sub(pages.saturating_add(BROUGHT));
        }
        if !work.walk.is_done() {
            return Progress::More;
        }
        self.simplify_at(work.walk.map, work.walk.range.end());
        self.map_changed(work.walk.map);
        Progress::Done(Some(Ok(work.answer)))
    }

    /// Takes the last user wiring off the first part of an entry; gives the end of the part. `also`
    /// is done to the part as well. Without a record for the cut the part is all of the entry: then a
    /// step is long, but does not fail.
    pub(super) fn entry_unwire_part(
        &mut self,
        link: Link,
        cut: &mut u64,
        also: impl Fn(&mut Entry),
    ) -> u64 {
        let Some(&entry) = self.entries.at(link.0) else {
            return u64::MAX;
        };
        let change = |part: &mut Entry| {
            part.wired = part.wired.saturating_sub(1);
            also(part);
        };
        let mut to = entry.end.min(entry.start.saturating_add(PART));
        let part = match self.entry_change_part(link, to, cut, change) {
            Ok(part) => part,
            Err(_) => {
                to = entry.end;
                self.entry_change_part(link, to, cut, change)
                    .unwrap_or(link)
            }
        };
        self.entry_simplify(part);
        if entry.wired == 1 {
            self.pages_unwire(&entry, to);
            let pages = self.pages_to_wire(&entry, to);
            self.uncharge_wired(entry.map, pages);
        }
        to
    }

    /// Ends all wirings of an entry that is to be unmapped, as far as one step may; gives the entry's
    /// end, which may be nearer now. The pages of an entry with [`Entry::zero_wired`] are zeroed.
    pub(super) fn entry_unwire_all<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: Link,
    ) -> u64 {
        let Some(&entry) = self.entries.at(link.0) else {
            return u64::MAX;
        };
        if entry.wired == 0 {
            return entry.end;
        }
        let mut end = entry.end.min(entry.start.saturating_add(PART_REMOVED));
        if end < entry.end && self.map_clip(entry.map, end).is_err() {
            end = entry.end;
        }
        if entry.zero_wired {
            self.entry_zero(turn, &entry, end);
        }
        self.pages_unwire(&entry, end);
        let pages = self.pages_to_wire(&entry, end);
        self.uncharge_wired(entry.map, pages);
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.wired = 0;
            entry.user_wired = 0;
        }
        end
    }

    /// Zeroes the pages from an entry's start to `end`, if it may write them. Copies keep what was
    /// there; a page that could not be kept for them stays as it is.
    fn entry_zero<M: Machine>(&mut self, turn: &mut Turn<'_, M>, entry: &Entry, end: u64) {
        use crate::fault::{Asker, Resolved};
        use ipc_abi::types::Prot;
        if !entry.protection.contains(Prot::WRITE) {
            return;
        }
        for number in page_of(entry.start)..page_of(end) {
            let place = (entry.map, bytes_of(number));
            if let Ok(Resolved::Page(page)) =
                self.resolve(turn, place, Prot::WRITE, Asker::Operation)
            {
                turn.machine.zero(page.frame);
            }
        }
    }

    /// Pages that wiring an entry from its start to `end` takes: device registers are not memory.
    pub(crate) fn pages_to_wire(&self, entry: &Entry, end: u64) -> u64 {
        match self.object_with_pages(entry) {
            true => page_of(end.saturating_sub(entry.start)),
            false => 0,
        }
    }

    /// Whether an entry's memory is, or will be, pages of an object.
    pub(crate) fn object_with_pages(&self, entry: &Entry) -> bool {
        let object = entry.object.and_then(|id| self.objects.get(id));
        object.is_none_or(|object| matches!(object.kind, Kind::Internal | Kind::External))
    }

    /// Counts one wiring less of each page from an entry's start to `end`.
    pub(super) fn pages_unwire(&mut self, entry: &Entry, end: u64) {
        if !self.object_with_pages(entry) {
            return;
        }
        let Some(object) = entry.object.and_then(|id| self.objects.get(id)) else {
            return;
        };
        let mut index = page_of(entry.offset);
        let last = page_of(entry.offset_of(end));
        while index < last {
            let next = (index | 63).saturating_add(1).min(last);
            let pages = &mut self.pages;
            let mut unwire = |frame| {
                if let Some(page) = pages.get_mut(frame) {
                    page.wired = page.wired.saturating_sub(1);
                }
            };
            if let Some(leaf) = object.pages.leaf_at(&self.nodes, index) {
                let frames = leaf.frames_from(index, next.saturating_sub(index));
                frames.flatten().for_each(unwire);
            } else if let Some(only) = object.pages.only_in(index, next) {
                unwire(only);
            }
            index = next;
        }
        // A chain may have had to stay as it was because of these pages.
        if let Some(object) = entry.object {
            self.collapse_hint_below(object);
        }
    }

    /// Changes the part of the entry at `link` that ends at `to`; gives the entry that the part is in
    /// now. If the entry was cut off from the one below at `cut`, by the caller and for this, the part
    /// goes to that one; `cut` tells where it is cut now, or is 0.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record for a cut; nothing has changed.
    pub(super) fn entry_change_part(
        &mut self,
        link: Link,
        to: u64,
        cut: &mut u64,
        change: impl Fn(&mut Entry),
    ) -> Result<Link, Kern> {
        let Some(&upper) = self.entries.at(link.0) else {
            return Ok(link);
        };
        let below = upper.hooks.prev;
        let mut changed = upper;
        change(&mut changed);
        let mine = *cut == upper.start
            && self.entries.at(below.0).is_some_and(|lower| {
                let unshared = |entry: &Entry| Entry {
                    is_shared: false,
                    ..*entry
                };
                lower.is_shared == upper.is_shared
                    && unshared(lower).continues_in(&unshared(&changed))
            });
        *cut = if to < upper.end { to } else { 0 };
        if !mine {
            if to < upper.end
                && let Err(code) = self.map_clip(upper.map, to)
            {
                *cut = 0;
                return Err(code);
            }
            if let Some(entry) = self.entries.at_mut(link.0) {
                change(entry);
            }
            return Ok(link);
        }
        if to >= upper.end {
            self.entry_remove(link);
            self.object_unreference(upper.object);
            self.entry_set_end(below, upper.end);
            return Ok(below);
        }
        // The cut moves: order, holes and the size of the map stay.
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.offset = entry.offset_of(to);
            entry.start = to;
        }
        if let Some(entry) = self.entries.at_mut(below.0) {
            entry.end = to;
        }
        Ok(below)
    }
}
