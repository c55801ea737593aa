//! Rules that hold between any two events. For tests.
//!
//! [`Core::check_invariants`] checks the whole state and costs as much as there is; what concerns one
//! record is in [`records`], so that `Core::check_touched` can check only what an event touched.

use alloc::vec::Vec;
use core::fmt;

mod charges;
mod counts;
mod records;
#[cfg(any(test, feature = "touched"))]
mod touched;
mod wirings;

use crate::Core;
use crate::event::MapId;
use crate::object::life::NOT_LISTED;
use crate::object::page::State;
use crate::op::wait::{List, What};
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
        self.check_counts()?;
        self.check_question()?;
        self.check_waiters()
    }

    fn check_maps(&self) -> Check {
        let all: Vec<MapId> = self.maps.iter().map(|(id, _)| id).collect();
        self.check_charges(&all)?;
        let mut entries = 0u32;
        for (id, map) in self.maps.iter() {
            self.check_map(id)?;
            entries = entries.saturating_add(map.entries());
        }
        self.check_whole()?;
        must(
            entries == self.entries.len(),
            NIL,
            "every entry is in a map",
        )
    }

    fn check_objects(&self) -> Check {
        let (mut linked, mut others) = (0u32, 0u32);
        let mut candidates = 0u32;
        for (id, object) in self.objects.iter() {
            let held = self.check_object(id)?;
            linked = linked.saturating_add(held.entries);
            let held = held.entries.saturating_add(held.shadows);
            others = others.saturating_add(object.refs.saturating_sub(held));
            let listed = object.collapse_next != NOT_LISTED;
            candidates = candidates.saturating_add(u32::from(listed));
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
        must(
            linked as usize == mapped,
            NIL,
            "every entry is in its object's list",
        )
    }

    fn check_pages(&self) -> Check {
        let (mut free, mut clean, mut total) = (0u32, 0u32, 0u32);
        let mut blocks = 0u32;
        for (frame, page) in self.pages.iter() {
            if let Some(block) = page.places.block() {
                let there = self.pages.blocks.at(block).is_some();
                must(there, frame.0, "the block of a page's places is there")?;
                blocks = blocks.saturating_add(1);
            }
            match page.state {
                State::Foreign => continue,
                State::Free => free = free.saturating_add(1),
                State::Clean => clean = clean.saturating_add(1),
                _ => {}
            }
            self.check_frame(frame)?;
            total = total.saturating_add(1);
        }
        must(
            blocks == self.pages.blocks.len(),
            NIL,
            "every block has the places of one page",
        )?;
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
        for (id, _) in self.requests.iter() {
            self.check_request(id)?;
        }
        let mut notes = 0u32;
        for (id, _) in self.pagers.iter() {
            notes = notes.saturating_add(self.check_pager(id)?);
        }
        let mut dropped = self.dropped.first;
        while let Some(note) = self.notes.at(dropped) {
            notes = notes.saturating_add(1);
            dropped = note.next;
        }
        must(
            notes == self.notes.len(),
            NIL,
            "every note is in a pager's list",
        )?;
        for (id, _) in self.trays.iter() {
            self.check_tray(id)?;
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
        count(self.woken);
        count(self.short);
        self.requests
            .iter()
            .for_each(|(_, request)| count(request.waiting));
        self.pagers
            .iter()
            .for_each(|(_, pager)| count(pager.waiting));
        self.loans.iter().for_each(|(_, loan)| count(loan.waiting));
        self.trays.iter().for_each(|(_, tray)| count(tray.waiting));
        self.maps.iter().for_each(|(_, map)| {
            count(map.waiting);
            count(map.transit);
        });
        must(
            listed == self.waiters.len(),
            NIL,
            "every waiter is in one list",
        )?;
        for (id, _) in self.waiters.iter() {
            self.check_waiter(id)?;
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
