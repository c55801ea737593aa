//! References to objects, and what happens with the last (rules 149, 150, 174 to 179).
//!
//! Nothing is freed in the call that drops the last reference: the object goes to a list, and steps
//! free its pages. A pager's object returns what its pager wants back first, is terminated, and goes
//! when the pager has been told.

use crate::effect::{Effect, Report};
use crate::event::ObjectId;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::loan::Keep;
use crate::object::page::{Flags, State};
use crate::object::pager;
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::slab::NIL;
use crate::{Core, Turn};

/// Pages of an object, and objects of a chain, that are freed at once.
const SMALL: u32 = 8;

/// No place in a list; distinct from its end.
pub(crate) const NOT_LISTED: u32 = NIL - 1;

impl Core {
    /// One more holder of an object.
    pub(crate) fn object_reference(&mut self, object: ObjectId) {
        if let Some(record) = self.objects.get_mut(object) {
            record.refs = record.refs.saturating_add(1);
        }
    }

    /// One holder less, of which there are others.
    pub(crate) fn object_unreference(&mut self, object: Option<ObjectId>) {
        if let Some(record) = object.and_then(|id| self.objects.get_mut(id)) {
            debug_assert!(record.refs > 1, "the last reference");
            record.refs = record.refs.saturating_sub(1);
        }
        if let Some(object) = object {
            self.collapse_hint_below(object);
        }
    }

    /// One holder less; the last takes the object along. A short chain of small objects ends at once,
    /// whatever is larger by steps.
    pub(crate) fn object_deallocate(&mut self, object: ObjectId) {
        let mut next = Some(object);
        for _ in 0..SMALL {
            let Some(object) = next else {
                return;
            };
            if !self.object_drop(object) {
                return;
            }
            if self
                .objects
                .get(object)
                .is_none_or(|o| o.pages.used() > SMALL)
            {
                return self.object_dies(object);
            }
            self.object_free_pages(object, 0, u64::MAX);
            next = self.shadow_unlink(object);
            self.object_remove(object);
        }
        if let Some(object) = next
            && self.object_drop(object)
        {
            self.object_dies(object);
        }
    }

    /// Takes a reference off. Says whether an object that no pager has to do with ends.
    fn object_drop(&mut self, object: ObjectId) -> bool {
        let Some(record) = self.objects.get_mut(object) else {
            return false;
        };
        record.refs = record.refs.saturating_sub(1);
        if record.refs > 0 {
            self.collapse_hint_below(object);
            return false;
        }
        let resident = record.pages.pages() > 0;
        let Some(pager) = record.pager else {
            self.purgeable_forget(object);
            return true;
        };
        let Some(attached) = self.pagers.get_mut(pager) else {
            return true;
        };
        match attached.state {
            pager::State::Ready if attached.may_cache && resident => {}
            pager::State::Dead => self.object_dies(object),
            _ => {
                attached.state = pager::State::Terminating;
                self.close_requests(pager);
                self.object_dies(object);
            }
        }
        false
    }

    /// Queues an object that nobody holds. It gets no more pages of what it was a copy of, and is not
    /// taken for a fresh copy of it again.
    fn object_dies(&mut self, object: ObjectId) {
        let shadow = self.objects.get(object).and_then(|record| record.shadow);
        if let Some(below) = shadow.and_then(|shadow| self.objects.get_mut(shadow))
            && below.copy == Some(object)
        {
            below.copy = None;
        }
        if let Some(record) = self.objects.get_mut(object)
            && record.dying_next == NOT_LISTED
        {
            record.dying_next = self.dying_objects;
            self.dying_objects = object.index();
        }
    }

    /// Frees up to [`BUDGET`] pages of the first object that nobody holds.
    pub(crate) fn object_death_step<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        let Some(id) = self.objects.id_at(self.dying_objects) else {
            self.dying_objects = NIL;
            return;
        };
        let Some(object) = self.objects.get(id) else {
            return;
        };
        match object.pager {
            Some(pager) => self.external_death_step(turn, id, pager),
            None => {
                if self.object_free_pages(id, 0, u64::MAX) {
                    self.object_gone(id);
                }
            }
        }
    }

    /// An object of a pager: pages that the pager wants go back first.
    fn external_death_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: ObjectId,
        pager: Id<pager::Pager>,
    ) {
        let state = self.pagers.get(pager).map(|pager| pager.state);
        let given_up = self.pagers.get(pager).is_some_and(|pager| pager.given_up);
        let temporary = self.pagers.get(pager).is_some_and(|p| p.temporary);
        let alive = state == Some(pager::State::Terminating);
        let returns = alive && !given_up && !temporary;
        let mut from = 0;
        let mut dropped = 0u32;
        for _ in 0..BUDGET {
            let Some((index, slot)) = self.next_slot(id, from, u64::MAX) else {
                break;
            };
            from = index.saturating_add(1);
            let Slot::Page(frame) = slot else {
                if let Some(object) = self.objects.get_mut(id) {
                    object.pages.clear(&mut self.nodes, index);
                }
                continue;
            };
            let Some(page) = self.pages.get(frame) else {
                continue;
            };
            if page.state == State::Cleaning {
                // Comes back with `data_written`, or with the tray's end.
                continue;
            }
            let flags = page.flags;
            let wanted = flags.intersects(Flags::DIRTY | Flags::PRECIOUS);
            if wanted && returns {
                if self.return_run(turn, id, index, Keep::Flush) {
                    continue;
                }
                if self.hold_pages(turn, pager) {
                    return self.dying_drop_first();
                }
                if self.waits_for_slot(id, pager) {
                    return;
                }
            }
            dropped = dropped.saturating_add(u32::from(flags.contains(Flags::DIRTY)));
            self.object_take_page(frame);
            self.frame_free(frame);
        }
        if dropped > 0 && !temporary {
            self.report_dropped(turn, pager, dropped);
        }
        let rest = self.objects.get(id).map_or(0, |object| object.pages.used());
        let loans = self.pagers.get(pager).map_or(0, |pager| pager.loans);
        if rest == 0 && loans == 0 {
            self.pager_ends(turn.effects, pager, alive);
            self.object_gone(id);
        } else if loans > 0 && self.all_lent(id) {
            // Nothing to do until a loan ends: it queues the object again.
            self.dying_drop_first();
        }
    }

    /// Whether an object has no page that is not lent: looks at as many as can be.
    fn all_lent(&self, id: ObjectId) -> bool {
        let mut from = 0;
        while let Some((index, slot)) = self.next_slot(id, from, u64::MAX) {
            let Slot::Page(frame) = slot else {
                return false;
            };
            if self
                .pages
                .get(frame)
                .is_none_or(|p| p.state != State::Cleaning)
            {
                return false;
            }
            from = index.saturating_add(1);
        }
        true
    }

    /// Whether a page could not be returned only because all slots are in use: the object, first in
    /// the list, waits for one.
    fn waits_for_slot(&mut self, id: ObjectId, pager: Id<pager::Pager>) -> bool {
        let tray = self.pagers.get(pager).and_then(|pager| pager.tray);
        let Some(tray) = tray.filter(|tray| self.tray_empty_slots(*tray, 1).is_none()) else {
            return false;
        };
        self.dying_drop_first();
        if let (Some(tray), Some(object)) = (self.trays.get_mut(tray), self.objects.get_mut(id)) {
            let (first, last) = tray.hungry;
            object.dying_next = first;
            let last = if last == NIL { id.index() } else { last };
            tray.hungry = (id.index(), last);
        }
        true
    }

    fn report_dropped<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<pager::Pager>,
        pages: u32,
    ) {
        if let Some(pager) = self.pagers.get(pager) {
            let port = pager.port;
            turn.effects
                .push(Effect::Report(Report::DirtyDropped { port, pages }));
        }
    }

    /// An object without pages leaves: its shadow loses a holder, and whoever stood behind it comes
    /// first in the list.
    fn object_gone(&mut self, id: ObjectId) {
        self.dying_drop_first();
        if let Some(shadow) = self.shadow_unlink(id) {
            self.object_deallocate(shadow);
        }
        self.object_remove(id);
    }

    /// Takes the record of an object that nothing leads to any more.
    fn object_remove(&mut self, id: ObjectId) {
        self.collapse_forget(id);
        self.uncharge_object(id);
        if self.objects.get(id).is_some() {
            self.objects.discard(id.index());
        }
    }

    fn dying_drop_first(&mut self) {
        let first = self.dying_objects;
        if let Some(object) = self.objects.at_mut(first) {
            self.dying_objects = object.dying_next;
            object.dying_next = NOT_LISTED;
        } else {
            self.dying_objects = NIL;
        }
    }

    /// An object that nobody holds and that waited for a loan to end goes on ending.
    pub(crate) fn object_dies_on(&mut self, object: ObjectId) {
        if self.objects.get(object).is_some_and(|o| o.refs == 0) {
            let cached = self
                .objects
                .get(object)
                .and_then(|o| self.pagers.get(o.pager?))
                .is_some_and(|p| p.state == pager::State::Ready);
            if !cached {
                self.object_dies(object);
            }
        }
    }
}
