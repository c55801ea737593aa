//! The rules of one record each, and of the links that it has a part in.
//!
//! A record that is not there breaks no rule: whoever names it is checked for that.

use ipc_abi::types::Prot;

use super::{Broken, Check, must};
use crate::Core;
use crate::event::{MapId, ObjectId, TrayId};
use crate::id::Id;
use crate::map::entry::Entry;
use crate::object::life::NOT_LISTED;
use crate::object::page::{Frame, State};
use crate::object::pager::{Pager, Request, State as PagerState};
use crate::object::pages::Slot;
use crate::op::wait::{WaitOn, Waiter, What};
use crate::slab::NIL;

/// How many of an object's references are told by its lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) entries: u32,
    pub(super) shadows: u32,
}

impl Core {
    /// A map, its tree and the entries in it.
    pub(super) fn check_map(&self, id: MapId) -> Check {
        let Some(map) = self.maps.get(id) else {
            return Ok(());
        };
        let index = id.index();
        must(map.tree.is_sound(&self.entries), index, "a map's tree")?;
        let mut size = 0u64;
        let mut at = map.tree.first();
        while let Some(entry) = self.entries.at(at.0) {
            must(entry.map == id, at.0, "an entry knows its map")?;
            self.check_entry(at.0, entry)?;
            size = size.saturating_add(entry.size());
            at = entry.hooks.next;
        }
        must(
            size == map.size,
            index,
            "a map's size is that of its entries",
        )?;
        self.check_shared(id)?;
        self.check_map_wirings(id)?;
        self.check_family(id)
    }

    /// An entry that is in a map.
    pub(super) fn check_entry(&self, index: u32, entry: &Entry) -> Check {
        let whole = entry.object.is_none_or(|id| self.objects.get(id).is_some());
        must(whole, index, "an entry's object is there")?;
        let plain = !entry.is_untouched() || !entry.needs_copy && entry.offset == 0;
        must(plain, index, "untouched memory owes nothing")?;
        self.check_entry_wirings(index, entry)?;
        let Some(submap) = entry.submap else {
            return Ok(());
        };
        must(
            entry.object.is_none() && entry.wired == 0 && !entry.is_tray,
            index,
            "an entry that shows a map has no memory of its own",
        )?;
        let shown = self.maps.get(submap).is_some_and(|map| {
            let end = entry.offset.saturating_add(entry.size());
            map.shared.is_some_and(|shared| shared.sealed)
                && map.min() <= entry.offset
                && end <= map.max()
        });
        must(shown, index, "what an entry shows is a sealed map")
    }

    /// The list of the entries that show a map.
    fn check_shared(&self, id: MapId) -> Check {
        let Some(shared) = self.maps.get(id).and_then(|map| map.shared) else {
            return Ok(());
        };
        let mut listed = 0usize;
        let (mut at, mut prev) = (shared.shown, NIL);
        while let Some(entry) = self.entries.at(at) {
            must(entry.submap == Some(id), at, "a listed entry shows the map")?;
            must(
                entry.object_prev == prev,
                at,
                "entries that show a map are linked both ways",
            )?;
            listed = listed.saturating_add(1);
            (prev, at) = (at, entry.object_next);
        }
        let showing = self.entries.iter().filter(|(_, e)| e.submap == Some(id));
        must(
            listed == showing.count(),
            id.index(),
            "every entry that shows a map is in its list",
        )
    }

    /// An object, its lists and its slots.
    pub(super) fn check_object(&self, id: ObjectId) -> Result<Held, Broken> {
        let mut held = Held::default();
        let Some(object) = self.objects.get(id) else {
            return Ok(held);
        };
        let index = id.index();
        let (mut at, mut prev) = (object.entries, NIL);
        let mut lowering = object.lowering == NOT_LISTED;
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
            held.entries = held.entries.saturating_add(1);
            lowering |= at == object.lowering;
            (prev, at) = (at, entry.object_next);
        }
        must(lowering, index, "the next entry to lower maps the object")?;
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
            held.shadows = held.shadows.saturating_add(1);
            (prev, at) = (at, above.shadow_next);
        }
        let listed = held.entries.saturating_add(held.shadows);
        must(
            object.refs >= listed,
            index,
            "an object counts who holds it",
        )?;
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
        self.check_slots(id)?;
        Ok(held)
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
                    let asked = self.dialogue.is_some_and(|dialogue| {
                        dialogue.request.index() == request && dialogue.covers(id, index)
                    });
                    let what = "a pending page is one that was asked for";
                    must(open || asked, request, what)?;
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

    /// The record of a frame.
    pub(super) fn check_frame(&self, frame: Frame) -> Check {
        let Some(page) = self.pages.get(frame) else {
            return Ok(());
        };
        if matches!(page.state, State::Resident | State::Cleaning) {
            let there = page
                .object
                .is_some_and(|object| self.slot(object, page.index) == Slot::Page(frame));
            must(there, frame.0, "a resident page is in its object")?;
        }
        if matches!(page.state, State::Cleaning | State::Loose) {
            let lent = self.loans.at(page.next).is_some();
            must(lent, frame.0, "a lent page knows its loan")?;
        }
        self.check_frame_wirings(frame)
    }

    /// A data request.
    pub(super) fn check_request(&self, id: Id<Request>) -> Check {
        let Some(request) = self.requests.get(id) else {
            return Ok(());
        };
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
            let marked = owner
                .is_some_and(|pager| self.slot(pager.object, page) == Slot::Pending(id.index()));
            must(marked, id.index(), "a page that was asked for is pending")?;
        }
        let lookers = self
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.request.is_some_and(|(request, _)| request == id));
        let counted = lookers.count() == request.lookers as usize;
        must(counted, id.index(), "a request counts who looks at it")
    }

    /// What is known for the next question, and the one that is not on record.
    pub(super) fn check_question(&self) -> Check {
        let Some(dialogue) = &self.dialogue else {
            return Ok(());
        };
        let index = dialogue.link;
        let object = self.objects.get(dialogue.object);
        let shows = self.entries.at(index).is_some_and(|entry| {
            entry.map == dialogue.map
                && entry.object == Some(dialogue.object)
                && (entry.start, entry.end) == dialogue.range
                && entry.offset == dialogue.offset
                && entry.protection.contains(dialogue.allows)
                && entry.protection.contains(dialogue.shows)
                && !(entry.needs_copy && dialogue.allows.contains(Prot::WRITE))
                && !(dialogue.own && (entry.needs_copy || object.is_none_or(|it| it.is_copied())))
        });
        must(shows, index, "a dialogue is about what its entry shows")?;
        let pager = self.pagers.get(dialogue.pager).is_some_and(|pager| {
            pager.object == dialogue.object
                && pager.control == dialogue.control
                && pager.tray == Some(dialogue.tray)
                && pager.state == PagerState::Ready
                && pager.notes.is_empty()
                && (pager.cluster <= 1) == dialogue.single
        });
        must(pager, index, "the pager of a dialogue is as it was")?;
        let slots = dialogue.slots;
        let tray = self.trays.get(dialogue.tray).is_some_and(|tray| {
            (tray.object, tray.slots, tray.address, tray.map)
                == (slots.object, slots.count, slots.address, slots.map)
                && tray.waiting.is_empty()
        });
        must(tray, index, "the tray of a dialogue is as it was")?;
        let credits = self.tray_credits(dialogue.tray) == dialogue.credits;
        must(
            credits,
            index,
            "a dialogue counts the credits that are left",
        )?;
        let room = self.requests.get(dialogue.request).is_none();
        must(room, index, "an open question has no record")?;
        let Some(question) = &dialogue.question else {
            return Ok(());
        };
        let mut pages = question.first..question.first.saturating_add(question.count.into());
        let marked = Slot::Pending(dialogue.request.index());
        let all = pages.all(|page| self.slot(dialogue.object, page) == marked);
        must(all, index, "the pages of an open question are pending")
    }

    /// A pager. Says how many notes it is still to be told.
    pub(super) fn check_pager(&self, id: Id<Pager>) -> Result<u32, Broken> {
        let Some(pager) = self.pagers.get(id) else {
            return Ok(0);
        };
        let loans = self.loans.iter().filter(|(_, loan)| loan.pager == id);
        must(
            loans.count() == pager.loans as usize,
            id.index(),
            "a pager counts its loans",
        )?;
        let lost = pager.say_init && !pager.knows && pager.tray.is_none() && pager.generation > 0;
        must(
            pager.state != PagerState::Detached || lost,
            id.index(),
            "a pager that was lost knows nothing, has nothing and is to be told",
        )?;
        let held = pager.held.is_none_or(|place| {
            let found = self.held.get(&self.nodes, place) == Slot::Pending(id.index());
            let ends = matches!(pager.state, PagerState::Terminating | PagerState::Dead);
            found && ends && pager.tray.is_none()
        });
        must(held, id.index(), "only what ends without a pager is held")?;
        let mut notes = 0u32;
        let mut at = pager.notes.first;
        while let Some(note) = self.notes.at(at) {
            notes = notes.saturating_add(1);
            at = note.next;
        }
        Ok(notes)
    }

    /// A tray.
    pub(super) fn check_tray(&self, id: TrayId) -> Check {
        let Some(tray) = self.trays.get(id) else {
            return Ok(());
        };
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
        )
    }

    /// A fault or an operation that waits.
    pub(super) fn check_waiter(&self, id: Id<Waiter>) -> Check {
        let Some(waiter) = self.waiters.get(id) else {
            return Ok(());
        };
        must(
            waiter.on != WaitOn::Nothing,
            id.index(),
            "a waiter waits for something",
        )?;
        if let What::Op(op) = waiter.what {
            let mine = self.ops.get(op).is_some_and(|op| op.waiter == id.index());
            must(mine, id.index(), "an operation's waiter is its own")?;
        }
        let found = waiter.token.is_none_or(|token| {
            self.tokens
                .find(&self.nodes, &self.waiters, token)
                .is_some()
        });
        must(found, id.index(), "a waiter is found by its token")?;
        let older = self.waiters.at(waiter.older);
        let aged = older.is_none_or(|older| {
            older.newer == id.index()
                && older.again == waiter.again
                && older.deadline <= waiter.deadline
        });
        must(
            aged,
            id.index(),
            "a waiter comes after those who are due before",
        )
    }
}
