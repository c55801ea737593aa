//! What a pager says of its data: supply, unavailable, error (rules 155 to 161, amendment A1).
//!
//! Supplied pages move: the frame leaves the tray's slot and becomes the object's page. What the
//! object has already is never overwritten, so late and double answers do no harm.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::{MemoryObjectDataSupply, MemoryObjectDataSupplyReply};

use crate::event::{ObjectId, TrayId};
use crate::fault::pagein::{REQUEST_MAX, Settled, whole_pages};
use crate::id::Id;
use crate::machine::{Machine, Revoke};
use crate::object::page::{Flags, Frame};
use crate::object::pager::Pager;
use crate::object::pages::Slot;
use crate::range::{bytes_of, is_aligned, page_of};
use crate::{Core, Turn};

/// Frames of one supply.
pub(super) type Frames = heapless::Vec<Frame, { REQUEST_MAX as usize }>;

/// What a range of missing pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The pager has nothing: look below, or zeros.
    Unavailable,
    /// The pager could not bring it: fail who waits, forget.
    Error,
}

impl Core {
    /// `memory_object_data_supply`.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: see the message; also more than 64 pages at once. Nothing has moved.
    pub(crate) fn data_supply<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Pager>,
        args: MemoryObjectDataSupply,
    ) -> Result<MemoryObjectDataSupplyReply, Kern> {
        let pager = self.pagers.get(id).ok_or(Kern::Terminated)?;
        let (object, tray) = (pager.object, pager.tray.ok_or(Kern::InvalidArgument)?);
        let lock = u8::try_from(args.lock_value)
            .ok()
            .and_then(Prot::from_bits)
            .ok_or(Kern::InvalidArgument)?;
        let end = args.slot.checked_add(args.count);
        if !is_aligned(args.offset)
            || args
                .offset
                .checked_add(bytes_of(u64::from(args.count)))
                .is_none()
            || args.count == 0
            || args.count > REQUEST_MAX
            || end.is_none_or(|end| end > self.tray_slots(tray))
        {
            return Err(Kern::InvalidArgument);
        }
        let slots = self.trays.get(tray).ok_or(Kern::InvalidArgument)?.object;
        let mut frames = Frames::new();
        if !self.tray_filled(slots, args.slot, args.count, &mut frames) {
            return Err(Kern::InvalidArgument);
        }
        self.tray_close(turn, tray, (args.slot, &frames));
        let mut flags = Flags::empty();
        flags.set(Flags::PRECIOUS, args.precious);
        self.object_take_pages(slots, args.slot.into(), &frames);
        if self.supply_asked((object, page_of(args.offset)), &frames, (flags, lock)) {
            self.supplied(id, tray, (args.offset, args.slot, args.count), args.count);
            return Ok(MemoryObjectDataSupplyReply {
                used: args.count,
                skipped_present: 0,
                first_present: 0,
            });
        }
        let mut reply = MemoryObjectDataSupplyReply {
            used: 0,
            skipped_present: 0,
            first_present: 0,
        };
        for (index, &frame) in (page_of(args.offset)..).zip(&frames) {
            if self.supply_one(turn, (object, index), frame, (flags, lock)) {
                reply.used = reply.used.saturating_add(1);
                continue;
            }
            self.frame_free(frame);
            if reply.skipped_present == 0 {
                reply.first_present = bytes_of(index);
            }
            reply.skipped_present = reply.skipped_present.saturating_add(1);
        }
        self.supplied(id, tray, (args.offset, args.slot, args.count), reply.used);
        Ok(reply)
    }

    /// The frames of slots that are ready. Says whether all of them are.
    pub(super) fn tray_filled(
        &self,
        slots: ObjectId,
        slot: u32,
        count: u32,
        frames: &mut Frames,
    ) -> bool {
        let Some(record) = self.objects.get(slots) else {
            return false;
        };
        if count == 1 {
            let ready = record.pages.get(&self.nodes, slot.into());
            return matches!(ready, Slot::Page(frame) if frames.push(frame).is_ok());
        }
        let pages = &record.pages;
        pages.pages_from(&self.nodes, slot.into(), count, frames);
        frames.len() == count as usize
    }

    /// Puts supplied pages where they belong, if one request asked for all of them and waits for all of
    /// them still: the common supply, which needs no look at each slot. Says whether it did.
    fn supply_asked(
        &mut self,
        (object, first): (ObjectId, u64),
        frames: &[Frame],
        what: (Flags, Prot),
    ) -> bool {
        let Slot::Pending(index) = self.slot(object, first) else {
            return false;
        };
        let last = first.saturating_add(frames.len() as u64).saturating_sub(1);
        let Some(request) = self.requests.at(index) else {
            return false;
        };
        let (low, high) = (request.bit(first), request.bit(last));
        // From the first bit to the last.
        let bits = high.wrapping_sub(low).wrapping_add(high);
        let asked = low != 0 && high != 0 && request.missing & bits == bits;
        // The slots are in use: this needs no node.
        if !asked || self.object_add_pages(object, first, frames, what).is_err() {
            return false;
        }
        self.request_settle_all(index, bits, Settled::Changed);
        true
    }

    /// What a supply leaves: nothing of the range is awaited any more, and its slots are empty.
    fn supplied(
        &mut self,
        id: Id<Pager>,
        tray: TrayId,
        (offset, slot, count): (u64, u32, u32),
        used: u32,
    ) {
        let first = page_of(offset);
        self.requests_answered(id, (first, first.saturating_add(count.into())));
        self.stats.page_ins = self.stats.page_ins.saturating_add(used.into());
        self.tray_emptied(tray, slot);
        self.wake_slots(tray);
    }

    /// Ends the pager's use of slots whose pages are about to move.
    pub(super) fn tray_close<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        tray: TrayId,
        (slot, frames): (u32, &[Frame]),
    ) {
        let (Some(map), Some(first)) = (
            self.trays.get(tray).map(|tray| tray.map),
            self.tray_page(tray, slot),
        ) else {
            return;
        };
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        record.epoch = record.epoch.saturating_add(1);
        let epoch = record.epoch;
        let element = match *frames {
            [frame] => Revoke::Page {
                map,
                epoch,
                address: bytes_of(first),
                frame,
                keep: Prot::NONE,
            },
            // Nothing else shows in slots that are ready.
            _ => Revoke::Range {
                map,
                epoch,
                start: bytes_of(first),
                end: bytes_of(first.saturating_add(frames.len() as u64)),
                keep: Prot::NONE,
            },
        };
        turn.machine.revoke(&[element]);
    }

    /// Puts a supplied page where it belongs, unless there is something already. Says whether it did.
    pub(super) fn supply_one<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (object, index): (ObjectId, u64),
        frame: Frame,
        (flags, lock): (Flags, Prot),
    ) -> bool {
        let slot = self.slot(object, index);
        let covered = match slot {
            Slot::Pending(_) | Slot::Empty => None,
            // The pager's copy of a range parts from the original here (rule 27).
            Slot::Unavailable if self.objects.get(object).is_some_and(|o| o.shadow.is_some()) => {
                self.shown_below(object, index)
            }
            Slot::Page(_) | Slot::Unavailable => return false,
        };
        if self.object_add_page(object, index, frame, flags).is_err() {
            return false;
        }
        if let Some(old) = covered {
            self.revoke_covered(turn.machine, old, None);
        }
        if let Some(page) = self.pages.get_mut(frame) {
            page.lock = lock;
        }
        if let Slot::Pending(request) = slot {
            self.request_settle(request, index, Settled::Changed);
        }
        true
    }

    /// `memory_object_data_unavailable` and `memory_object_data_error`: settles what was asked for in
    /// the range. Nothing else there changes.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: not whole pages.
    pub(crate) fn data_missing(
        &mut self,
        id: Id<Pager>,
        (offset, size): (u64, u64),
        what: Missing,
    ) -> Result<(), Kern> {
        let (first, end) = whole_pages(offset, size)?;
        let pager = self.pagers.get(id).ok_or(Kern::Terminated)?;
        let object = pager.object;
        let mut at = pager.requests;
        // Open requests cover no more pages than the tray has slots.
        while let Some(request) = self.requests.at(at) {
            let next = request.next;
            let mut missing = request.missing;
            let base = request.first;
            let index = at;
            while missing != 0 {
                let page = base.saturating_add(u64::from(missing.trailing_zeros()));
                missing &= missing.wrapping_sub(1);
                if page < first || page >= end {
                    continue;
                }
                if let Some(record) = self.objects.get_mut(object) {
                    match what {
                        // The slot is in use: this needs no node.
                        Missing::Unavailable => {
                            let slot = Slot::Unavailable;
                            let _ = record.pages.set(&mut self.nodes, page, slot);
                        }
                        Missing::Error => record.pages.clear(&mut self.nodes, page),
                    }
                }
                let how = match what {
                    Missing::Unavailable => Settled::Changed,
                    Missing::Error => Settled::Failed,
                };
                self.request_settle(index, page, how);
            }
            at = next;
        }
        self.requests_answered(id, (first, end));
        let tray = self.pagers.get(id).and_then(|pager| pager.tray);
        if let Some(tray) = tray {
            self.wake_slots(tray);
        }
        Ok(())
    }
}
