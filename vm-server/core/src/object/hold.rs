//! Written pages of an object that nobody holds any more, whose pager has gone: they wait for whoever is
//! started in its place.
//!
//! Such an object goes on ending as soon as its port is served again: it is told of the object anew, and
//! gets the pages back. If the port dies nobody comes; and who lets a port be without a pager has as long
//! as one who waits for a page has beyond his time. Then the pages are dropped, with a report.

use crate::event::{ObjectId, Time};
use crate::id::Id;
use crate::machine::Machine;
use crate::object::pager::Pager;
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::{Core, Turn};

/// Nanoseconds of a place in the tree of those that are held.
const TICK: u64 = 1_000_000;

impl Core {
    /// Keeps the pages of an ending object whose pager has no tray to give them back through. `false`: it
    /// has one, or there is no record; nothing has changed.
    pub(crate) fn hold_pages<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Pager>) -> bool {
        let Some(pager) = self.pagers.get(id).filter(|pager| pager.tray.is_none()) else {
            return false;
        };
        if pager.held.is_some() {
            return true;
        }
        let until = turn.now.after(self.config.pager_restart);
        // All are held equally long, so each comes after those before it: its place is free.
        let place = (until.0 / TICK).saturating_add(1).max(self.held_next);
        let slot = Slot::Pending(id.index());
        if self.held.set(&mut self.nodes, place, slot).is_err() {
            return false;
        }
        self.held_next = place.saturating_add(1);
        if let Some(pager) = self.pagers.get_mut(id) {
            pager.held = Some(place);
        }
        self.set_clock(turn);
        true
    }

    /// The pages of a pager's object are held no longer. Gives the object, if they were.
    pub(crate) fn hold_ends(&mut self, id: Id<Pager>) -> Option<ObjectId> {
        let pager = self.pagers.get_mut(id)?;
        let (place, object) = (pager.held.take()?, pager.object);
        self.held.clear(&mut self.nodes, place);
        Some(object)
    }

    /// When the first of them is dropped.
    pub(crate) fn held_until(&self) -> Option<Time> {
        let (place, _) = self.held.next(&self.nodes, 0)?;
        Some(Time(place.saturating_mul(TICK)))
    }

    /// Goes on without those whose time has come.
    pub(crate) fn held_expire(&mut self, now: Time) {
        for _ in 0..BUDGET {
            let due = self.held.next(&self.nodes, 0);
            let Some((place, Slot::Pending(pager))) = due else {
                return;
            };
            if place.saturating_mul(TICK) > now.0 {
                return;
            }
            let Some(id) = self.pagers.id_at(pager) else {
                return self.held.clear(&mut self.nodes, place);
            };
            if let Some(pager) = self.pagers.get_mut(id) {
                pager.given_up = true;
            }
            if let Some(object) = self.hold_ends(id) {
                self.object_dies_on(object);
            }
        }
    }
}
