//! Rules that hold between any two events, checked over the whole state. For tests: it costs as
//! much as there is.

use core::fmt;

use crate::Core;
use crate::event::ObjectId;
use crate::object::life::NOT_LISTED;
use crate::object::page::{Frame, State};
use crate::object::pages::Slot;
use crate::op::wait::{List, WaitOn, What};
use crate::slab::NIL;

/// A rule that does not hold, and the index of the record that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    rule: &'static str,
    index: u32,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken at record {}: {}", self.index, self.rule)
    }
}

/// What every check gives.
type Check = Result<(), Broken>;

fn must(holds: bool, index: u32, rule: &'static str) -> Check {
    if holds {
        Ok(())
    } else {
        Err(Broken { rule, index })
    }
}

impl Core {
    /// Checks everything.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        self.check_maps()?;
        self.check_objects()?;
        self.check_pages()?;
        self.check_pagers()?;
        self.check_waiters()
    }

    fn check_maps(&self) -> Check {
        let mut entries = 0u32;
        for (id, map) in self.maps.iter() {
            let index = id.index();
            must(map.tree.is_sound(&self.entries), index, "a map's tree")?;
            let mut size = 0u64;
            let mut at = map.tree.first();
            while let Some(entry) = self.entries.at(at.0) {
                must(entry.map == id, at.0, "an entry knows its map")?;
                let whole = entry.object.is_none_or(|id| self.objects.get(id).is_some());
                must(whole, at.0, "an entry's object is there")?;
                let plain = entry.object.is_some() || !entry.needs_copy && entry.offset == 0;
                must(plain, at.0, "untouched memory owes nothing")?;
                size = size.saturating_add(entry.size());
                at = entry.hooks.next;
            }
            must(
                size == map.size,
                index,
                "a map's size is that of its entries",
            )?;
            entries = entries.saturating_add(map.entries());
            let holders = self
                .ops
                .iter()
                .filter(|(_, op)| op.holds == Some(id))
                .count();
            must(
                holders == usize::from(map.locked),
                index,
                "who holds a map's lock",
            )?;
            let charged = self.pages_charged_to(id);
            must(charged == map.pages, index, "a map pays for what is there")?;
        }
        must(
            entries == self.entries.len(),
            NIL,
            "every entry is in a map",
        )
    }

    fn pages_charged_to(&self, map: crate::event::MapId) -> u32 {
        let paid = self
            .objects
            .iter()
            .filter(|(_, object)| object.payer == Some(map) && object.pager.is_none());
        paid.fold(0u32, |sum, (_, object)| {
            sum.saturating_add(object.pages.pages())
        })
    }

    fn check_objects(&self) -> Check {
        let (mut linked, mut others) = (0usize, 0u32);
        let mut candidates = 0u32;
        for (id, object) in self.objects.iter() {
            let index = id.index();
            let mut held = 0u32;
            let mut at = object.entries;
            let mut prev = NIL;
            while let Some(entry) = self.entries.at(at) {
                must(
                    entry.object == Some(id),
                    at,
                    "a listed entry maps the object",
                )?;
                must(
                    entry.object_prev == prev,
                    at,
                    "entries are linked both ways",
                )?;
                held = held.saturating_add(1);
                (prev, at) = (at, entry.object_next);
            }
            linked = linked.saturating_add(held as usize);
            let (mut at, mut prev) = (object.shadows, NIL);
            while let Some(above) = self.objects.at(at) {
                must(
                    above.shadow == Some(id),
                    at,
                    "a listed object shadows this one",
                )?;
                must(
                    above.shadow_prev == prev,
                    at,
                    "shadows are linked both ways",
                )?;
                held = held.saturating_add(1);
                (prev, at) = (at, above.shadow_next);
            }
            must(object.refs >= held, index, "an object counts who holds it")?;
            others = others.saturating_add(object.refs.saturating_sub(held));
            let copied = object.copy.is_none_or(|copy| {
                self.objects
                    .get(copy)
                    .is_some_and(|copy| copy.shadow == Some(id) && copy.shadow_offset == 0)
            });
            must(copied, index, "a copy object shadows its source")?;
            let below = object
                .shadow
                .is_none_or(|below| self.objects.get(below).is_some());
            must(below, index, "an object's shadow is there")?;
            let listed = object.collapse_next != NOT_LISTED;
            candidates = candidates.saturating_add(u32::from(listed));
            self.check_slots(id)?;
        }
        let (mut at, mut prev) = (self.collapsing.first, NIL);
        while let Some(object) = self.objects.at(at) {
            let both = object.collapse_prev == prev;
            must(both, at, "candidates to collapse are linked both ways")?;
            candidates = candidates.wrapping_sub(1);
            (prev, at) = (at, object.collapse_next);
        }
        must(candidates == 0, NIL, "candidates to collapse are listed")?;
        // A lock request, a mapping or a slow copy on its way holds an object, and no other operation.
        must(
            others <= self.ops.len(),
            NIL,
            "nobody but an operation holds an object else",
        )?;
        let mapped = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.object.is_some())
            .count();
        must(linked == mapped, NIL, "every entry is in its object's list")
    }

    fn check_slots(&self, id: ObjectId) -> Check {
        let Some(object) = self.objects.get(id) else {
            return Ok(());
        };
        let (mut used, mut pages) = (0u32, 0u32);
        let mut from = 0;
        while let Some((index, slot)) = object.pages.next(&self.nodes, from) {
            used = used.saturating_add(1);
            match slot {
                Slot::Page(frame) => {
                    pages = pages.saturating_add(1);
                    self.check_page(id, index, frame)?;
                }
                Slot::Pending(request) => {
                    let open = self.requests.at(request).is_some_and(|request| {
                        request.missing & request.bit(index) != 0
                            && object.pager == Some(request.pager)
                    });
                    must(open, request, "a pending page is one that was asked for")?;
                }
                Slot::Empty | Slot::Unavailable => {}
            }
            from = index.saturating_add(1);
        }
        must(
            used == object.pages.used(),
            id.index(),
            "an object counts its slots",
        )?;
        must(
            pages == object.pages.pages(),
            id.index(),
            "an object counts its pages",
        )
    }

    fn check_page(&self, object: ObjectId, index: u64, frame: Frame) -> Check {
        let agrees = self.pages.get(frame).is_some_and(|page| {
            page.object == Some(object)
                && page.index == index
                && matches!(page.state, State::Resident | State::Cleaning)
        });
        must(agrees, frame.0, "a page's record agrees with its slot")
    }

    fn check_pages(&self) -> Check {
        let (mut free, mut clean, mut total) = (0u32, 0u32, 0u32);
        for (frame, page) in self.pages.iter() {
            match page.state {
                State::Foreign => continue,
                State::Free => free = free.saturating_add(1),
                State::Clean => clean = clean.saturating_add(1),
                State::Resident | State::Cleaning => {
                    let there = page
                        .object
                        .is_some_and(|object| self.slot(object, page.index) == Slot::Page(frame));
                    must(there, frame.0, "a resident page is in its object")?;
                }
                State::Taken | State::Loose => {}
            }
            if matches!(page.state, State::Cleaning | State::Loose) {
                let lent = self.loans.at(page.next).is_some();
                must(lent, frame.0, "a lent page knows its loan")?;
            }
            total = total.saturating_add(1);
        }
        must(total == self.pages.total(), NIL, "frames are counted")?;
        must(
            clean == self.pages.clean(),
            NIL,
            "zeroed frames are counted",
        )?;
        let both = free.saturating_add(clean);
        must(both == self.pages.free(), NIL, "free frames are counted")
    }

    fn check_pagers(&self) -> Check {
        for (id, request) in self.requests.iter() {
            let closed = request.missing == 0;
            must(
                closed == request.closed,
                id.index(),
                "a request is open while pages are missing",
            )?;
            let owner = self.pagers.get(request.pager);
            must(
                request.closed || owner.is_some(),
                id.index(),
                "an open request has a pager",
            )?;
            let mut missing = request.missing;
            while missing != 0 {
                let place = u64::from(missing.trailing_zeros());
                missing &= missing.wrapping_sub(1);
                let page = request.first.saturating_add(place);
                let marked = owner.is_some_and(|pager| {
                    self.slot(pager.object, page) == Slot::Pending(id.index())
                });
                must(marked, id.index(), "a page that was asked for is pending")?;
            }
            let lookers = self
                .waiters
                .iter()
                .filter(|(_, waiter)| waiter.request.is_some_and(|(request, _)| request == id));
            let counted = lookers.count() == request.lookers as usize;
            must(counted, id.index(), "a request counts who looks at it")?;
        }
        let mut notes = 0u32;
        for (id, pager) in self.pagers.iter() {
            let loans = self
                .loans
                .iter()
                .filter(|(_, loan)| loan.pager == id)
                .count();
            must(
                loans == pager.loans as usize,
                id.index(),
                "a pager counts its loans",
            )?;
            let mut at = pager.notes.0;
            while let Some(note) = self.notes.at(at) {
                notes = notes.saturating_add(1);
                at = note.next;
            }
        }
        must(
            notes == self.notes.len(),
            NIL,
            "every note is in a pager's list",
        )?;
        for (id, tray) in self.trays.iter() {
            let mine = self.requests.iter().filter(|(_, request)| {
                let pager = self.pagers.get(request.pager);
                pager.is_some_and(|pager| pager.tray == Some(id))
            });
            let taken = mine.fold(0u32, |sum, (_, request)| {
                sum.saturating_add(request.missing.count_ones())
            });
            must(
                taken == tray.taken,
                id.index(),
                "a tray counts the credits taken",
            )?;
            let users = self
                .pagers
                .iter()
                .filter(|(_, pager)| pager.tray == Some(id));
            must(
                users.count() == tray.users as usize,
                id.index(),
                "a tray counts its users",
            )?;
        }
        Ok(())
    }

    fn check_waiters(&self) -> Check {
        let mut listed = 0u32;
        let mut count = |list: List| {
            let mut at = list.first();
            while let Some(waiter) = self.waiters.at(at) {
                listed = listed.saturating_add(1);
                at = waiter.next;
            }
        };
        count(self.ready_faults);
        count(self.ready_ops);
        count(self.short);
        self.requests
            .iter()
            .for_each(|(_, request)| count(request.waiting));
        self.pagers
            .iter()
            .for_each(|(_, pager)| count(pager.waiting));
        self.loans.iter().for_each(|(_, loan)| count(loan.waiting));
        self.trays.iter().for_each(|(_, tray)| count(tray.waiting));
        self.maps.iter().for_each(|(_, map)| count(map.waiting));
        must(
            listed == self.waiters.len(),
            NIL,
            "every waiter is in one list",
        )?;
        for (id, waiter) in self.waiters.iter() {
            must(
                waiter.on != WaitOn::Nothing,
                id.index(),
                "a waiter waits for something",
            )?;
            if let What::Op(op) = waiter.what {
                let mine = self.ops.get(op).is_some_and(|op| op.waiter == id.index());
                must(mine, id.index(), "an operation's waiter is its own")?;
            }
        }
        let ops = self
            .waiters
            .iter()
            .filter(|(_, waiter)| matches!(waiter.what, What::Op(_)));
        must(
            ops.count() == self.ops.len() as usize,
            NIL,
            "every operation waits",
        )
    }
}
