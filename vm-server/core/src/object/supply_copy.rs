//! memory_object_data_supply_copy: a pager's data from any copy (DESIGN 3.3, rules 155 to 159).
//!
//! Page by page of the copy's hidden map. A page that nobody else can reach is moved; any other is
//! copied as a thread would read it, which may wait for the pager that has it. The copy is this
//! operation's from the start: whatever comes of it, nothing of it is left afterwards.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataSupplyCopy, MemoryObjectDataSupplyCopyReply, Reply as Said,
};

use crate::call::Reply;
use crate::effect::Effect;
use crate::event::{ControlId, MapId, ObjectId, PortOf, PortRef, ReplyTo};
use crate::fault::Fetched;
use crate::frames::Class;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State};
use crate::object::pager::Pager;
use crate::object::pages::Slot;
use crate::op::{BUDGET, Progress, Verb};
use crate::range::{PAGE_SIZE, Span, bytes_of, is_aligned, page_of};
use crate::{Core, Turn};

/// A copy on its way into an object.
#[derive(Clone, Copy, Debug)]
pub struct SupplyCopy {
    pager: Id<Pager>,
    /// The attachment in which it was supplied.
    control: Option<ControlId>,
    object: ObjectId,
    /// The copy's memory, from address 0 on.
    hidden: MapId,
    /// Address of the next page in the hidden map, and one past the last.
    cursor: u64,
    end: u64,
    /// Page number in the object of address 0.
    first: u64,
    flags: Flags,
    lock: Prot,
    reply: MemoryObjectDataSupplyCopyReply,
}

impl Core {
    /// Begins to supply from a copy.
    ///
    /// # Errors
    /// As the message says; the copy is as it was.
    pub(crate) fn supply_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        (args, right): (MemoryObjectDataSupplyCopy, PortRef),
        reply: ReplyTo,
    ) -> Result<(), Kern> {
        let record = self.pagers.get(pager).ok_or(Kern::Terminated)?;
        let (object, control) = (record.object, record.control);
        let lock = u8::try_from(args.lock_value)
            .ok()
            .and_then(Prot::from_bits)
            .ok_or(Kern::InvalidArgument)?;
        let (id, copy) = self.copy_of(right)?;
        let whole = copy.offset == 0 && is_aligned(copy.size) && copy.size > 0;
        let fits = args.offset.checked_add(copy.size).is_some();
        if !is_aligned(args.offset) || !whole || !fits {
            return Err(Kern::InvalidArgument);
        }
        let mut flags = Flags::empty();
        flags.set(Flags::PRECIOUS, args.precious);
        let work = SupplyCopy {
            pager,
            control,
            object,
            hidden: copy.map,
            cursor: 0,
            end: copy.size,
            first: page_of(args.offset),
            flags,
            lock,
            reply: MemoryObjectDataSupplyCopyReply {
                used: 0,
                skipped_present: 0,
                first_present: 0,
                result: 0,
            },
        };
        self.op_start(Verb::SupplyCopy(work), reply, None, turn.now)?;
        self.copies.remove(id);
        turn.effects.push(Effect::PortGone(PortOf::Copy(id)));
        Ok(())
    }

    /// One step: up to [`BUDGET`] pages.
    pub(crate) fn supply_copy_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut SupplyCopy,
        waiter: u32,
    ) -> Progress {
        self.revoked = 0;
        for _ in 0..BUDGET {
            if work.cursor >= work.end {
                return self.supply_copy_done(work);
            }
            if self.revoked >= BUDGET {
                break;
            }
            let index = work.first.saturating_add(page_of(work.cursor));
            let pager = self.pagers.get(work.pager);
            let same = pager.is_some_and(|pager| pager.control == work.control);
            let page = match (same, self.slot(work.object, index)) {
                (false, _) => Err(Kern::Terminated),
                (true, Slot::Page(_)) => {
                    work.count(index, false);
                    continue;
                }
                (true, _) => self.supply_copy_page(turn, (work.hidden, work.cursor), waiter),
            };
            match page {
                Ok(None) => return Progress::Wait,
                Ok(Some(frame)) => {
                    let place = (work.object, index);
                    let used = self.supply_one(turn, place, frame, (work.flags, work.lock));
                    if !used {
                        self.frame_free(frame);
                    }
                    work.count(index, used);
                }
                Err(code) => {
                    work.reply.result = code.raw();
                    return self.supply_copy_done(work);
                }
            }
        }
        Progress::More
    }

    /// A page of the copy, as a frame that is nobody's. `None`: the operation's waiter has been parked.
    fn supply_copy_page<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (hidden, address): (MapId, u64),
        waiter: u32,
    ) -> Result<Option<Frame>, Kern> {
        if let Some(frame) = self.page_of_its_own(hidden, address) {
            self.page_reused(frame);
            self.revoke_page(turn.machine, frame, Prot::NONE);
            self.object_take_page(frame);
            return Ok(Some(frame));
        }
        let fetched = self.fetch(turn, hidden, address, Prot::READ, waiter)?;
        let frame = match fetched {
            Fetched::Wait => return Ok(None),
            Fetched::Zero => self.frame_zeroed(turn, Class::Pager),
            Fetched::Page(_) => self.frame_any(Class::Pager),
        };
        let frame = frame.ok_or(Kern::ResourceShortage)?;
        if let Fetched::Page(source) = fetched {
            turn.machine.copy(source, frame);
            self.stats.pages_copied = self.stats.pages_copied.saturating_add(1);
        }
        Ok(Some(frame))
    }

    /// The page at an address of a map, if that is all that reaches it.
    fn page_of_its_own(&self, map: MapId, address: u64) -> Option<Frame> {
        let link = self.maps.get(map)?.tree.find(&self.entries, address);
        let entry = self.entries.at(link.0)?;
        let object = entry.object?;
        let window = Span::exact(entry.offset, entry.offset.checked_add(entry.size())?)?;
        let alone = self.is_only_reached_by(object, link, window)
            && self.objects.get(object).is_some_and(|o| !o.true_share);
        let index = page_of(entry.offset_of(address));
        let Slot::Page(frame) = self.slot(object, index) else {
            return None;
        };
        let page = self.pages.get(frame)?;
        (alone && page.state == State::Resident && page.wired == 0).then_some(frame)
    }

    /// It is over: who else waits for pages of the range looks again, and the rest of the copy goes.
    fn supply_copy_done(&mut self, work: &mut SupplyCopy) -> Progress {
        let pager = self.pagers.get(work.pager);
        if pager.is_some_and(|pager| pager.control == work.control) {
            let end = work.first.saturating_add(page_of(work.cursor));
            self.requests_answered(work.pager, (work.first, end));
            if let Some(tray) = self.pagers.get(work.pager).and_then(|pager| pager.tray) {
                self.wake_slots(tray);
            }
        }
        self.stats.page_ins = self
            .stats
            .page_ins
            .saturating_add(u64::from(work.reply.used));
        self.supply_copy_end(work);
        let said = Said::MemoryObjectDataSupplyCopy(work.reply);
        Progress::Done(Some(Ok(Reply::control(said))))
    }

    /// Gives up what is left of the copy.
    pub(crate) fn supply_copy_end(&mut self, work: &SupplyCopy) {
        self.map_end(work.hidden);
    }
}

impl SupplyCopy {
    /// The page has been dealt with.
    const fn count(&mut self, index: u64, used: bool) {
        self.cursor = self.cursor.saturating_add(PAGE_SIZE);
        if used {
            self.reply.used = self.reply.used.saturating_add(1);
            return;
        }
        if self.reply.skipped_present == 0 {
            self.reply.first_present = bytes_of(index);
        }
        self.reply.skipped_present = self.reply.skipped_present.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
