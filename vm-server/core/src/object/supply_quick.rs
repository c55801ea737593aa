//! What was asked for, brought as it was asked for, with one fault that waits for it: the common supply.
//!
//! The pages move, the request and its waiter end, and the fault's answer is given back as it is, with
//! what else came beside it ([`Core::supply_quick`]). Anything else gives `None` and has changed nothing:
//! then the event decides, as for every supply. In tests [`Core::handle`] begins with this.

use ipc_abi::fault::BESIDE_MAX;
use ipc_abi::translation;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::MemoryObjectDataSupply;

use crate::event::{ControlId, Fault, ObjectId};
use crate::fault::pagein::REQUEST_MAX;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame};
use crate::object::pages::Slot;
use crate::op::wait::What;
use crate::range::{PAGE_SIZE, bytes_of, is_aligned, page_of, trunc_page};
use crate::{Core, Turn};

/// Bytes that one page table maps: what is entered beside a page is in the same.
const TABLE: u64 = 512 * PAGE_SIZE;

/// How the fault that waited is answered.
#[derive(Clone, Copy, Debug)]
pub struct Supplied {
    /// The fault.
    pub fault: Fault,
    /// What is entered; what lies beside it is in the effects. `None`: the effects have the answer.
    pub enter: Option<translation::Enter>,
}

impl Core {
    /// Takes a supply, if it is plain.
    pub fn supply_quick<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        control: ControlId,
        args: &MemoryObjectDataSupply,
    ) -> Option<Supplied> {
        let id = self.pager_of_control(control).ok()?;
        let pager = self.pagers.get(id)?;
        let (object, tray) = (pager.object, pager.tray?);
        let (first, count) = (page_of(args.offset), args.count);
        let bare = args.lock_value == 0 && !args.precious && is_aligned(args.offset);
        if !bare || count == 0 || count > REQUEST_MAX || !self.goes_quickly() {
            return None;
        }
        let Slot::Pending(index) = self.slot(object, first) else {
            return None;
        };
        let request = self.requests.at(index)?;
        // All of it, nothing before it has come, and nobody else is answered by the way.
        let whole = request.first == first && request.count == count;
        let all = u64::MAX >> (64u32.wrapping_sub(count) & 63);
        let alone = pager.requests == index && self.requests.at(request.next).is_none();
        if !whole || request.missing != all || !alone || request.lookers != 1 {
            return None;
        }
        let waiter = request.waiting.first();
        let What::Fault {
            map,
            address,
            access,
            token,
        } = self.waiters.at(waiter)?.what
        else {
            return None;
        };
        let record = self.trays.get(tray)?;
        let (slots, most) = (record.object, record.slots);
        let inside = args.slot.checked_add(count).is_some_and(|end| end <= most);
        let idle = self.woken.is_empty() && self.ready_faults.is_empty();
        if !inside || !idle || !record.waiting.is_empty() {
            return None;
        }
        let frames = self.tray_filled(slots, args.slot, count).ok()?;
        // From here on nothing fails.
        self.tray_close(turn, tray, (args.slot, &frames));
        self.object_take_pages(slots, args.slot.into(), &frames);
        let clean = (Flags::empty(), Prot::NONE);
        // The slots are in use, and a pager's pages are within nobody's limit.
        let added = self.object_add_pages(object, first, &frames, clean);
        debug_assert!(added.is_ok(), "a page that was asked for has a slot");
        self.waiter_served(waiter);
        self.request_end(index);
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.taken = tray.taken.saturating_sub(count);
        }
        self.stats.page_ins = self.stats.page_ins.saturating_add(count.into());
        self.tray_emptied(tray, args.slot);
        let fault = Fault {
            map,
            address,
            access,
            token,
        };
        let enter = match frames.len() {
            1 => self.fault_now(turn, (map, address), access),
            _ => self.answer_supplied(turn, &fault, (object, first), &frames),
        };
        if enter.is_none() {
            self.fault(turn, &fault);
        }
        Some(Supplied { fault, enter })
    }

    /// The answer to a fault for one of the pages that have just come, if it still shows them and only
    /// reads. Those that lie in the same entry and page table are entered beside it.
    fn answer_supplied<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
        (object, first): (ObjectId, u64),
        frames: &[Frame],
    ) -> Option<translation::Enter> {
        turn.effects.beside.count = 0;
        let link = self.map_lookup(fault.map, fault.address)?.0;
        let entry = self.entries.at(link)?;
        let reads = entry.protection.contains(fault.access) && fault.access != Prot::WRITE;
        if entry.object != Some(object) || !reads {
            return None;
        }
        let address = trunc_page(fault.address);
        let place = page_of(entry.offset_of(address)).checked_sub(first)?;
        let place = usize::try_from(place).ok()?;
        let frame = *frames.get(place)?;
        // The pages beside it, as far as the answer can carry them.
        let table = address & !TABLE.wrapping_sub(1);
        let low = entry.start.max(table);
        let high = entry.end.min(table.wrapping_add(TABLE));
        let below = page_of(address.saturating_sub(low)).min(place as u64) as usize;
        let above = page_of(high.saturating_sub(address)) as usize;
        let mut from = place.saturating_sub(below);
        let to = place.saturating_add(above).min(frames.len());
        from = from.max(place.saturating_add(1).saturating_sub(BESIDE_MAX));
        let to = to.min(from.saturating_add(BESIDE_MAX));
        let protection = entry.protection.difference(Prot::WRITE);
        let number = page_of(address);
        let map = fault.map.index();
        let start = number.saturating_sub(place.saturating_sub(from) as u64);
        let beside = frames.get(from..to).unwrap_or(&[]);
        for ((&frame, at), word) in beside
            .iter()
            .zip(start..)
            .zip(&mut turn.effects.beside.words)
        {
            *word = frame.0;
            // It is mapped nowhere yet.
            let _ = self.pages.place_add(frame, (map, at));
        }
        if let Some(word) = turn
            .effects
            .beside
            .words
            .get_mut(place.saturating_sub(from))
        {
            *word = translation::SKIPPED;
        }
        if beside.len() > 1 {
            turn.effects.beside.address = bytes_of(start);
            turn.effects.beside.count = beside.len() as u32;
        }
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        Some(translation::Enter {
            address,
            frame: frame.0,
            protection,
            uncached: false,
            epoch: self.maps.get(fault.map)?.epoch,
        })
    }
}
