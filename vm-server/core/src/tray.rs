//! The slots through which a page passes between a pager and the server.
//!
//! A tray is an object of kind [`crate::object::Kind::Tray`], mapped once, in its pager's space. Its
//! lower slots are for *filling*: such a slot is ready when the object has a page there, and empty
//! after its page was supplied, until it is filled with zeros again, aside or when the pager
//! touches it. Each page that a pager is asked for takes the credit of a ready slot, so that a pager
//! never waits for memory while it serves. The slots above are for *lending*: they show pages of other
//! objects read-only, and touching one that shows nothing is an exception, never a zero that the
//! pager might store as data.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

use crate::effect::Effect;
use crate::event::{MapId, ObjectId, PortOf, TrayId};
use crate::fault::{Asker, How, Look, Mapped, Resolved};
use crate::frames::Class;
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::object::page::{Flags, Frame};
use crate::object::pages::{Slot, Tree};
use crate::object::{Kind, Object};
use crate::op::BUDGET;
use crate::op::wait::List;
use crate::range::{bytes_of, page_of};
use crate::slab::NIL;
use crate::{Core, Turn};

/// Most slots for filling.
pub const SLOTS_MAX: u32 = 1024;
/// Slots for lending that a tray has at least and at most.
const LENDING: (u32, u32) = (4, 64);

/// A tray.
#[derive(Debug)]
pub struct Tray {
    /// The object whose pages are the ready slots.
    pub object: ObjectId,
    /// Where it is mapped.
    pub map: MapId,
    /// Address of slot 0.
    pub address: u64,
    /// Slots for filling; those for lending lie above.
    pub slots: u32,
    /// Slots in all.
    pub total: u32,
    /// Credits taken by requests that are open.
    pub taken: u32,
    /// Lent pages by slot.
    pub lent: Tree,
    /// First of the loans through it.
    pub loans: u32,
    /// First of the objects that end and wait for a slot to return pages, linked by `dying_next`.
    pub hungry: (u32, u32),
    /// Where the search for slots to refill goes on; `slots` if none is known to be empty.
    pub hand: u32,
    /// Next tray to refill, or [`crate::object::life::NOT_LISTED`].
    pub refill_next: u32,
    /// The one before it in that list.
    pub refill_prev: u32,
    /// Who waits for a ready slot.
    pub waiting: List,
    /// The port's last right is gone; freed when no pager uses it.
    pub gone: bool,
    /// Pagers that use it.
    pub users: u32,
}

impl Core {
    /// `pager_tray_create`: a tray of `slots` slots for filling, mapped in `map`. Gives it and the
    /// address of slot 0.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no slots, or more than [`SLOTS_MAX`]. `KERN_NO_SPACE`.
    /// `KERN_RESOURCE_SHORTAGE`. Nothing has changed.
    pub(crate) fn tray_create(&mut self, map: MapId, slots: u32) -> Result<(TrayId, u64), Kern> {
        if slots == 0 || slots > SLOTS_MAX {
            return Err(Kern::InvalidArgument);
        }
        let lending = (slots / 4).clamp(LENDING.0, LENDING.1);
        let total = slots.saturating_add(lending);
        let size = bytes_of(u64::from(total));
        let range = self.map_place(map, Place::anywhere(size))?;
        self.trays.reserve_one()?;
        let object = self.object_insert(Object::new(Kind::Internal, size, Some(map)))?;
        let entry = Entry {
            object: Some(object),
            max_protection: Prot::DEFAULT,
            inheritance: Inherit::None,
            is_tray: true,
            ..Entry::anonymous(map, range.start(), range.end())
        };
        if let Err(code) = self.map_enter(entry) {
            self.object_deallocate(object);
            return Err(code);
        }
        let tray = self.trays.insert(Tray {
            object,
            map,
            address: range.start(),
            slots,
            total,
            taken: 0,
            lent: Tree::EMPTY,
            loans: NIL,
            hungry: (NIL, NIL),
            hand: 0,
            refill_next: crate::object::life::NOT_LISTED,
            refill_prev: NIL,
            waiting: List::EMPTY,
            gone: false,
            users: 0,
        })?;
        if let Some(record) = self.objects.get_mut(object) {
            record.kind = Kind::Tray(tray);
            record.strategy = ipc_abi::types::CopyStrategy::None;
        }
        self.tray_wants_refill(tray, 0);
        Ok((tray, range.start()))
    }

    /// Ready slots that no open request counts on.
    pub(crate) fn tray_credits(&self, tray: TrayId) -> u32 {
        let Some(tray) = self.trays.get(tray) else {
            return 0;
        };
        let ready = self.objects.get(tray.object).map_or(0, |o| o.pages.pages());
        ready.saturating_sub(tray.taken)
    }

    /// The page of a slot that is ready.
    pub(crate) fn tray_ready(&self, tray: TrayId, slot: u32) -> Option<Frame> {
        let object = self.trays.get(tray)?.object;
        match self.slot(object, u64::from(slot)) {
            Slot::Page(frame) => Some(frame),
            _ => None,
        }
    }

    /// The page that a slot shows on loan.
    pub(crate) fn tray_shown(&self, tray: TrayId, slot: u32) -> Option<Frame> {
        match self.trays.get(tray)?.lent.get(&self.nodes, u64::from(slot)) {
            Slot::Page(frame) => Some(frame),
            _ => None,
        }
    }

    /// Shows a page in a slot for lending; says whether there was a node for it.
    pub(crate) fn tray_show(&mut self, tray: TrayId, slot: u32, frame: Frame) -> bool {
        self.trays.get_mut(tray).is_some_and(|tray| {
            let slot = u64::from(slot);
            let shown = tray.lent.set(&mut self.nodes, slot, Slot::Page(frame));
            shown.is_ok()
        })
    }

    /// The first run of slots for lending that show nothing, of at most `most`.
    pub(crate) fn tray_empty_slots(&self, tray: TrayId, most: u32) -> Option<(u32, u32)> {
        let record = self.trays.get(tray)?;
        let (mut first, mut count) = (record.slots, 0u32);
        for slot in record.slots..record.total {
            if count == most {
                break;
            }
            if self.tray_shown(tray, slot).is_none() {
                if count == 0 {
                    first = slot;
                }
                count = count.saturating_add(1);
            } else if count > 0 {
                break;
            }
        }
        (count > 0).then_some((first, count))
    }

    /// Slots for lending have become free: the objects that waited for them go on ending.
    pub(crate) fn tray_feed(&mut self, id: TrayId) {
        let Some(tray) = self.trays.get_mut(id) else {
            return;
        };
        let (first, last) = core::mem::replace(&mut tray.hungry, (NIL, NIL));
        if let Some(last) = self.objects.at_mut(last) {
            last.dying_next = self.dying_objects;
            self.dying_objects = first;
        }
    }

    /// A fault in a tray.
    pub(crate) fn tray_resolve<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: TrayId,
        look: &Look,
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        let tray = self.trays.get(id).ok_or(Kern::MemoryError)?;
        if look.index >= u64::from(tray.slots) {
            let frame = u32::try_from(look.index)
                .ok()
                .and_then(|slot| self.tray_shown(id, slot))
                .ok_or(Kern::MemoryError)?;
            if look.write() {
                return Err(Kern::ProtectionFailure);
            }
            return Ok(Resolved::Page(Mapped {
                frame,
                protection: Prot::READ,
                how: How::Alone,
            }));
        }
        if asker == Asker::Operation {
            // What is on its way is nobody's to copy.
            return Err(Kern::ProtectionFailure);
        }
        let frame = match self.slot(look.top, look.index) {
            Slot::Page(frame) => frame,
            _ => {
                let frame = match self.frame_zeroed(turn, Class::Pager) {
                    Some(frame) => frame,
                    None => return self.out_of_frames(),
                };
                self.tray_add(id, look.index, frame)?;
                self.wake_slots(id);
                self.stats.zero_fills = self.stats.zero_fills.saturating_add(1);
                frame
            }
        };
        Ok(Resolved::Page(Mapped {
            frame,
            protection: look.rights,
            how: How::Alone,
        }))
    }

    fn tray_add(&mut self, tray: TrayId, slot: u64, frame: Frame) -> Result<(), Kern> {
        let object = self.trays.get(tray).ok_or(Kern::MemoryError)?.object;
        let added = self.object_add_page(object, slot, frame, Flags::DIRTY);
        if added.is_err() {
            self.frame_free(frame);
        }
        added
    }

    /// Whoever waits for a ready slot looks again.
    pub(crate) fn wake_slots(&mut self, tray: TrayId) {
        if self.tray_credits(tray) > 0 {
            self.wake_all(|core| core.trays.get_mut(tray).map(|tray| &mut tray.waiting));
        }
    }

    /// Slots from `slot` on have been emptied by a supply. While half of them are ready there is no
    /// hurry: it costs less to fill many at once.
    pub(crate) fn tray_emptied(&mut self, id: TrayId, slot: u32) {
        let Some(tray) = self.trays.get_mut(id) else {
            return;
        };
        tray.hand = tray.hand.min(slot);
        let (object, slots) = (tray.object, tray.slots);
        let ready = self.objects.get(object).map_or(0, |o| o.pages.pages());
        if ready <= slots / 2 {
            self.tray_wants_refill(id, slot);
        }
    }

    /// Slots from `slot` on are to be filled.
    pub(crate) fn tray_wants_refill(&mut self, id: TrayId, slot: u32) {
        let first = self.trays_to_fill;
        if let Some(tray) = self.trays.get_mut(id) {
            tray.hand = tray.hand.min(slot);
            if tray.refill_next == crate::object::life::NOT_LISTED {
                tray.refill_next = first;
                self.trays_to_fill = id.index();
                if let Some(first) = self.trays.at_mut(first) {
                    first.refill_prev = id.index();
                }
            }
        }
    }

    /// Whether there is a tray to work on, and something to fill it with.
    pub(crate) fn wants_refill(&self) -> bool {
        let frames = self.pages.free() > self.floor(Class::Pager);
        self.trays
            .at(self.trays_to_fill)
            .is_some_and(|tray| frames || tray.gone && tray.users == 0)
    }

    /// Fills empty slots of the first tray that has some, at most [`BUDGET`] looked at, and enters
    /// them.
    pub(crate) fn tray_refill_step<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        let Some(id) = self.trays.id_at(self.trays_to_fill) else {
            self.trays_to_fill = NIL;
            return;
        };
        let Some(tray) = self.trays.get(id) else {
            return;
        };
        let (first, slots, tray_object) = (tray.hand, tray.slots, tray.object);
        if tray.gone && tray.users == 0 {
            return self.tray_check_end(turn, id);
        }
        let dead = tray.gone || self.maps.get(tray.map).is_none_or(|map| map.dying);
        let (mut at, mut looked) = (first, 0u32);
        let (mut short, mut starved) = (dead, false);
        while looked < BUDGET / 2 && at < slots && !short && !starved {
            let most = slots
                .wrapping_sub(at)
                .min((BUDGET / 2).wrapping_sub(looked));
            let pages = self.objects.get(tray_object).map(|object| &object.pages);
            let empty = pages.map_or(0, |pages| pages.empty_from(&self.nodes, at.into(), most));
            if empty == 0 {
                at = at.saturating_add(1);
                looked = looked.saturating_add(1);
                continue;
            }
            let frames: heapless::Vec<Frame, { BUDGET as usize / 2 }> =
                self.frames_zeroed(turn, Class::Pager, empty);
            // It stays in the list then: `wants_step` when there are frames.
            starved = frames.len() < empty as usize;
            let filled = self.tray_fill(id, at, &frames);
            short = filled < frames.len() as u32;
            self.tray_enter(turn, id, (at, filled), Prot::DEFAULT);
            at = at.saturating_add(filled);
            looked = looked.saturating_add(filled);
        }
        let Some(tray) = self.trays.get_mut(id) else {
            return;
        };
        tray.hand = at;
        if !starved && (at >= slots || short) {
            self.trays_to_fill_remove(id);
        }
        self.wake_slots(id);
    }

    /// Puts zeroed frames into empty slots side by side; says into how many. The others are free again.
    fn tray_fill(&mut self, tray: TrayId, slot: u32, frames: &[Frame]) -> u32 {
        let Some(object) = self.trays.get(tray).map(|tray| tray.object) else {
            return 0;
        };
        let what = (Flags::DIRTY, Prot::NONE);
        if self
            .object_add_pages(object, slot.into(), frames, what)
            .is_ok()
        {
            return frames.len() as u32;
        }
        let mut filled = 0u32;
        for (&frame, slot) in frames.iter().zip(u64::from(slot)..) {
            if self
                .object_add_page(object, slot, frame, Flags::DIRTY)
                .is_err()
            {
                break;
            }
            filled = filled.saturating_add(1);
        }
        for &frame in frames.iter().skip(filled as usize) {
            self.frame_free(frame);
        }
        filled
    }

    /// The tray's port has no senders, or its task has ended.
    pub(crate) fn tray_gone<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: TrayId) {
        if let Some(tray) = self.trays.get_mut(id) {
            tray.gone = true;
        }
        self.tray_check_end(turn, id);
    }

    /// Ends a tray that nobody holds and nobody uses: its mapping goes with its object's reference.
    pub(crate) fn tray_check_end<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: TrayId) {
        let Some(tray) = self.trays.get(id) else {
            return;
        };
        if !tray.gone || tray.users > 0 {
            return;
        }
        let (map, address, total, object) = (tray.map, tray.address, tray.total, tray.object);
        self.wake_all(|core| core.trays.get_mut(id).map(|tray| &mut tray.waiting));
        self.trays_to_fill_remove(id);
        self.trays.remove(id);
        turn.effects.push(Effect::PortGone(PortOf::Tray(id)));
        if let Some(record) = self.objects.get_mut(object) {
            // Only pages are left of it, which go as others do.
            record.kind = Kind::Internal;
        }
        let end = address.saturating_add(bytes_of(u64::from(total)));
        if let Some(range) = crate::range::Span::exact(address, end)
            && let Some(link) = self.map_lookup(map, address)
            && self
                .entries
                .at(link.0)
                .is_some_and(|e| e.object == Some(object))
        {
            self.map_revoke(turn.machine, map, range, Prot::NONE);
            self.entry_delete(link);
            self.map_changed(map);
        }
    }

    /// Takes a tray out of the list of those to fill, if it is in it.
    fn trays_to_fill_remove(&mut self, id: TrayId) {
        let Some(tray) = self.trays.get_mut(id) else {
            return;
        };
        if tray.refill_next == crate::object::life::NOT_LISTED {
            return;
        }
        let (next, prev) = (tray.refill_next, tray.refill_prev);
        tray.refill_next = crate::object::life::NOT_LISTED;
        tray.refill_prev = NIL;
        if let Some(next) = self.trays.at_mut(next) {
            next.refill_prev = prev;
        }
        match self.trays.at_mut(prev) {
            Some(prev) => prev.refill_next = next,
            None => self.trays_to_fill = next,
        }
    }

    /// Slots for filling of a tray.
    pub(crate) fn tray_slots(&self, tray: TrayId) -> u32 {
        self.trays.get(tray).map_or(0, |tray| tray.slots)
    }

    /// Page number of the address of a slot.
    pub(crate) fn tray_page(&self, tray: TrayId, slot: u32) -> Option<u64> {
        let tray = self.trays.get(tray)?;
        Some(page_of(tray.address).saturating_add(u64::from(slot)))
    }
}
