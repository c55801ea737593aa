//! Down the shadow chain to the page, or to the reason why there is none (rules 36 to 39, 160).

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::{Asker, How, Look, Mapped, Resolved};
use crate::event::ObjectId;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::op::wait::WaitOn;
use crate::talk::Say;
use crate::{Core, Turn};

impl Core {
    /// The top object has no page (but this slot, and perhaps no other used): look below, fill, or
    /// ask.
    pub(crate) fn resolve_below<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        (slot, bare): (Slot, bool),
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        let (mut at, mut index) = (look.top, look.index);
        let (mut slot, mut bare) = (slot, bare);
        loop {
            match slot {
                Slot::Page(frame) => {
                    let how = if bare && !look.write() {
                        How::Resident {
                            link: look.link,
                            object: at,
                            index,
                        }
                    } else {
                        How::Alone
                    };
                    return self.found_below(turn, look, (at, frame), how);
                }
                Slot::Pending(request) => {
                    let request = self.requests.id_at(request).ok_or(Kern::MemoryError)?;
                    return Ok(Resolved::Wait(WaitOn::Request(request, index)));
                }
                Slot::Empty => {
                    if let Some(pager) = self.objects.get(at).and_then(|object| object.pager) {
                        let wait = self.ask_pager(turn, look, (at, pager), index)?;
                        return Ok(Resolved::Wait(wait));
                    }
                }
                Slot::Unavailable => {}
            }
            match self.below(at, index) {
                Some(below) => (at, index) = below,
                None => return self.zero_fill(turn, look, asker),
            }
            let object = self.objects.get(at).ok_or(Kern::InvalidAddress)?;
            slot = object.pages.get(&self.nodes, index);
            bare &= matches!(slot, Slot::Page(_)) || object.pages.used() == 0;
        }
    }

    fn found_below<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        (below, frame): (ObjectId, Frame),
        how: How,
    ) -> Result<Resolved, Kern> {
        let page = self.pages.get(frame).ok_or(Kern::MemoryError)?;
        // Below the top only reading is needed, whatever the access.
        if page.lock.contains(Prot::READ) {
            return self.ask_unlock(turn, look, frame);
        }
        if page.state != State::Resident
            && let Some(wait) = self.flushing(frame)
        {
            return Ok(Resolved::Wait(wait));
        }
        if look.write() || look.own {
            return self.break_copy(turn, look, (below, frame));
        }
        let lock = page.lock;
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        Ok(Resolved::Page(Mapped {
            frame,
            protection: look.rights.difference(Prot::WRITE).difference(lock),
            how,
        }))
    }

    /// What to wait for if a lent page is about to be dropped.
    #[cold]
    pub(crate) fn flushing(&self, frame: Frame) -> Option<WaitOn> {
        let loan = self.pages.get(frame)?.next;
        let (id, loan) = (self.loans.id_at(loan)?, self.loans.at(loan)?);
        loan.flush.then_some(WaitOn::Loan(id))
    }

    /// A write to a lent page: the pager's copy must not change, so the object moves on to a new
    /// frame, and the lent one is freed when the loan ends.
    #[cold]
    pub(crate) fn write_lent<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        frame: Frame,
    ) -> Result<Resolved, Kern> {
        if let Some(wait) = self.flushing(frame) {
            return Ok(Resolved::Wait(wait));
        }
        self.push_to_copy(turn, look, frame)?;
        let Some(new) = self.frame_any(self.class_of(look.map)) else {
            return self.out_of_frames();
        };
        let (precious, wired) = self
            .pages
            .get(frame)
            .map_or((Flags::empty(), 0), |page| (page.flags, page.wired));
        self.revoke_page(turn.machine, frame, Prot::NONE);
        turn.machine.copy(frame, new);
        self.object_take_page(frame);
        if let Some(page) = self.pages.get_mut(frame) {
            page.state = State::Loose;
            page.wired = 0;
        }
        // Its slot has just been used by the old page: this needs no node, and no more quota.
        if let Err(code) = self.object_add_page(look.top, look.index, new, precious) {
            self.frame_free(new);
            return Err(code);
        }
        if let Some(page) = self.pages.get_mut(new) {
            page.wired = wired;
        }
        Ok(self.writable(look, new, How::Alone))
    }

    /// The pager forbids this access: it is asked, once in each attachment, to allow it (rules 163,
    /// 164).
    #[cold]
    pub(crate) fn ask_unlock<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        frame: Frame,
    ) -> Result<Resolved, Kern> {
        let page = self.pages.get_mut(frame).ok_or(Kern::MemoryError)?;
        let (object, index) = (page.object.ok_or(Kern::MemoryError)?, page.index);
        let asked = page
            .flags
            .contains(Flags::UNLOCK_ASKED)
            .then_some(page.asked);
        let (pager, record) = self.pager_of(object).ok_or(Kern::MemoryError)?;
        if record.state == crate::object::pager::State::Dead {
            return Err(Kern::MemoryError);
        }
        let (port, attachment) = (record.port, record.generation as u8);
        if asked != Some(attachment) {
            let access = look.access;
            self.note(pager, Say::Unlock { index, access })?;
            if let Some(page) = self.pages.get_mut(frame) {
                page.flags.insert(Flags::UNLOCK_ASKED);
                page.asked = attachment;
            }
            turn.effects.push(crate::effect::Effect::Talk(port));
        }
        Ok(Resolved::Wait(WaitOn::Pager(pager)))
    }
}
