//! Pages lent to their pager so that it stores them (data_return, data_written; rules 165 to 171,
//! 178 to 180).
//!
//! A lent page shows read-only in a slot of the pager's tray and never changes: a write meanwhile
//! moves the object on to a new frame (the lent one is then *loose*). It stays the object's until the
//! pager says what became of it, or is lost: then it is dirty again.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::effect::{ENTER_MAX, Effect, Enter, Report};
use crate::event::{ObjectId, Time, TrayId};
use crate::frames::Class;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State as PageState};
use crate::object::pager::{Pager, State};
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::op::wait::List;
use crate::range::{PAGE_SIZE, bytes_of};
use crate::slab::NIL;
use crate::talk::{Note, Say};
use crate::{Core, Turn};

/// Most pages of one return (rule 170).
pub(crate) const RETURN_MAX: u32 = 32;

/// Loans in a row that a pager may refuse before the pages of an object that ends are dropped.
const REFUSALS_MAX: u32 = 64;

/// What becomes of the pages after they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They stay, clean.
    Keep,
    /// They are dropped.
    Flush,
}

/// Pages on loan.
#[derive(Debug)]
pub struct Loan {
    /// To whom.
    pub pager: Id<Pager>,
    /// The object.
    pub object: ObjectId,
    /// First page.
    pub first: u64,
    /// First slot.
    pub slot: u32,
    /// Pages.
    pub count: u32,
    /// They were written; else they are only precious.
    pub dirty: bool,
    /// They are dropped when they are stored; until then nobody may touch them.
    pub flush: bool,
    /// Who waits for its end.
    pub waiting: List,
    /// Neighbour in the tray's list of loans.
    pub next: u32,
    /// When it is taken back.
    pub deadline: Time,
    /// What its pager is still to be told of it.
    pub note: Option<Id<Note>>,
    /// Neighbours in the list of all loans, by age.
    pub older: u32,
    /// See `older`.
    pub newer: u32,
}

impl Core {
    /// Lends the run of pages of one class that starts at `index`, as long as slots allow. Says
    /// whether there was a slot, and a record.
    pub(crate) fn return_run<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        object: ObjectId,
        index: u64,
        keep: Keep,
    ) -> bool {
        self.return_some(turn, object, (index, RETURN_MAX), keep)
            .is_some()
    }

    /// As [`Core::return_run`], at most `most` pages; gives the loan.
    pub(crate) fn return_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        object: ObjectId,
        (index, most): (u64, u32),
        keep: Keep,
    ) -> Option<Id<Loan>> {
        let (pager, record) = self.pager_of(object)?;
        let (tray, port) = (record.tray?, record.port);
        let dirty = self.lendable(object, index)?;
        let mut count = 0u32;
        while count < most
            && self.lendable(object, index.saturating_add(u64::from(count))) == Some(dirty)
        {
            count = count.saturating_add(1);
        }
        let (slot, count) = self.tray_empty_slots(tray, count)?;
        let next = self.trays.get(tray)?.loans;
        let loan = Loan {
            pager,
            object,
            first: index,
            slot,
            count: 0,
            dirty,
            flush: keep == Keep::Flush,
            waiting: List::EMPTY,
            note: None,
            next,
            deadline: turn.now.after(self.config.pager_timeout),
            older: NIL,
            newer: NIL,
        };
        let id = self.loans.insert(loan).ok()?;
        let Ok(note) = self.note(pager, Say::Return(id)) else {
            self.loans.remove(id);
            return None;
        };
        if let Some(loan) = self.loans.get_mut(id) {
            loan.note = Some(note);
        }
        self.loan_age_link(id.index());
        self.set_clock(turn);
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.loans = id.index();
        }
        if let Some(pager) = self.pagers.get_mut(pager) {
            pager.loans = pager.loans.saturating_add(1);
        }
        self.lend(turn, id, tray, count);
        if self.loans.get(id).is_none_or(|loan| loan.count == 0) {
            // There was no node for a slot.
            self.loan_forget(id, Some(tray), pager);
            return None;
        }
        turn.effects.push(Effect::Talk(port));
        Some(id)
    }

    /// Whether a page can be lent now, and if so whether it is dirty.
    fn lendable(&self, object: ObjectId, index: u64) -> Option<bool> {
        let Slot::Page(frame) = self.slot(object, index) else {
            return None;
        };
        let page = self.pages.get(frame)?;
        (page.state == PageState::Resident).then_some(page.flags.contains(Flags::DIRTY))
    }

    fn lend<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Loan>, tray: TrayId, count: u32) {
        let Some(loan) = self.loans.get(id) else {
            return;
        };
        let (object, first, slot, flush) = (loan.object, loan.first, loan.slot, loan.flush);
        let mut batch = self.batch();
        let keep = if flush {
            Prot::NONE
        } else {
            Prot::READ | Prot::EXECUTE
        };
        let mut lent = 0u32;
        let before = self.revoked;
        for place in 0..count {
            if self.revoked.saturating_sub(before) >= BUDGET {
                break;
            }
            let index = first.saturating_add(u64::from(place));
            let Slot::Page(frame) = self.slot(object, index) else {
                break;
            };
            if self.pages.get(frame).is_some_and(|page| page.wired > 0) {
                if !self.lend_wired(turn, id, frame, (tray, slot.saturating_add(place))) {
                    break;
                }
                lent = lent.saturating_add(1);
                continue;
            }
            if !self.tray_show(tray, slot.saturating_add(place), frame) {
                break;
            }
            self.revoke_later(turn.machine, &mut batch, frame, keep);
            if let Some(page) = self.pages.get_mut(frame) {
                page.state = PageState::Cleaning;
                page.flags.remove(Flags::DIRTY);
                page.next = id.index();
            }
            lent = lent.saturating_add(1);
        }
        self.batch_end(batch, turn.machine);
        if let Some(loan) = self.loans.get_mut(id) {
            loan.count = lent;
        }
        self.stats.page_outs = self.stats.page_outs.saturating_add(u64::from(lent));
        self.tray_enter(turn, tray, (slot, lent), Prot::READ);
    }

    /// Lends a wired page as a copy: whoever wired it goes on writing the page itself, which counts as
    /// dirty for as long as it is wired. Says whether there was a frame and a node.
    fn lend_wired<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Loan>,
        frame: Frame,
        (tray, slot): (TrayId, u32),
    ) -> bool {
        let Some(copy) = self.frame_any(Class::Pager) else {
            return false;
        };
        if !self.tray_show(tray, slot, copy) {
            self.frame_free(copy);
            return false;
        }
        turn.machine.copy(frame, copy);
        if let Some(page) = self.pages.get_mut(copy) {
            page.state = PageState::Loose;
            page.next = id.index();
        }
        true
    }

    /// `memory_object_data_written`: a loan ends; `stored` says whether the pager has the pages.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no such loan of this pager (any more).
    pub(crate) fn data_written<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        txn: u64,
        stored: bool,
    ) -> Result<(), Kern> {
        let id: Id<Loan> = Id::from_word(txn).ok_or(Kern::InvalidArgument)?;
        match self.loans.get(id) {
            Some(loan) if loan.pager == pager => self.loan_end(turn, id, stored),
            _ => return Err(Kern::InvalidArgument),
        }
        Ok(())
    }

    /// All loans to a pager come back unstored: it is lost.
    pub(crate) fn loans_return<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Pager>) {
        let tray = self.pagers.get(id).and_then(|pager| pager.tray);
        let mut at = tray
            .and_then(|tray| self.trays.get(tray))
            .map_or(NIL, |tray| tray.loans);
        while let Some(loan) = self.loans.at(at) {
            let (next, pager) = (loan.next, loan.pager);
            if pager == id
                && let Some(loan) = self.loans.id_at(at)
            {
                self.loan_end(turn, loan, false);
            }
            at = next;
        }
    }

    fn loan_end<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Loan>, stored: bool) {
        let Some(loan) = self.loans.get(id) else {
            return;
        };
        let (object, slot, count) = (loan.object, loan.slot, loan.count);
        let (pager, flush, dirty) = (loan.pager, loan.flush, loan.dirty);
        let tray = self.pagers.get(pager).and_then(|pager| pager.tray);
        if let Some(record) = self.pagers.get_mut(pager) {
            record.unstored = record.unstored.wrapping_add(u32::from(!stored));
            record.refusals = if stored {
                0
            } else {
                record.refusals.saturating_add(1)
            };
            let ends = record.state == State::Terminating;
            record.given_up |= ends && record.refusals >= REFUSALS_MAX;
        }
        let mut batch = self.batch();
        let mut ended = heapless::Vec::<Frame, { RETURN_MAX as usize }>::new();
        for place in 0..count {
            let slot = slot.saturating_add(place);
            let Some(frame) = tray.and_then(|tray| self.tray_shown(tray, slot)) else {
                continue;
            };
            // The pager's use of the slot ends. Others may go on reading a page that stays.
            if let Some((tray, number)) = tray.and_then(|tray| {
                let number = self.tray_page(tray, slot)?;
                Some((self.trays.get(tray)?.map.index(), number))
            }) {
                let what = (frame, Prot::NONE);
                self.revoke_at(turn.machine, &mut batch, (tray, number), what);
            }
            if let Some(tray) = tray.and_then(|tray| self.trays.get_mut(tray)) {
                tray.lent.clear(&mut self.nodes, u64::from(slot));
            }
            // A loan has no more pages than that.
            let _ = ended.push(frame);
        }
        self.batch_end(batch, turn.machine);
        for frame in ended {
            self.loan_page_ends(frame, (stored, flush, dirty));
        }
        self.loan_forget(id, tray, pager);
        self.object_dies_on(object);
        if let Some(tray) = tray {
            self.tray_feed(tray);
            self.wake_slots(tray);
        }
    }

    fn loan_page_ends(&mut self, frame: Frame, (stored, flush, dirty): (bool, bool, bool)) {
        let Some(page) = self.pages.get_mut(frame) else {
            return;
        };
        page.next = NIL;
        match page.state {
            PageState::Loose => self.frame_free(frame),
            PageState::Cleaning if stored && flush => {
                self.object_take_page(frame);
                self.frame_free(frame);
            }
            PageState::Cleaning => {
                page.state = PageState::Resident;
                if !stored && dirty {
                    page.flags.insert(Flags::DIRTY);
                }
            }
            _ => {}
        }
    }

    /// A loan to a pager that has not ended, if there is one.
    pub(crate) fn loan_of(&self, pager: Id<Pager>) -> Option<Id<Loan>> {
        let tray = self.pagers.get(pager)?.tray?;
        let mut at = self.trays.get(tray)?.loans;
        while let Some(loan) = self.loans.at(at) {
            if loan.pager == pager {
                return self.loans.id_at(at);
            }
            at = loan.next;
        }
        None
    }

    fn loan_age_link(&mut self, index: u32) {
        let older = self.newest_loan;
        self.newest_loan = index;
        match self.loans.at_mut(older) {
            Some(older) => older.newer = index,
            None => self.oldest_loan = index,
        }
        if let Some(loan) = self.loans.at_mut(index) {
            loan.older = older;
        }
    }

    fn loan_age_unlink(&mut self, (older, newer): (u32, u32)) {
        match self.loans.at_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest_loan = newer,
        }
        match self.loans.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest_loan = older,
        }
    }

    /// Takes back what was lent too long: the pages are dirty again. An object that only waits for
    /// its pager to store them before it ends does without.
    pub(crate) fn loans_expire<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        for _ in 0..BUDGET {
            let due = self.loans.at(self.oldest_loan);
            let Some(loan) = due.filter(|loan| loan.deadline <= turn.now) else {
                return;
            };
            let (pager, first) = (loan.pager, loan.first);
            let Some(id) = self.loans.id_at(self.oldest_loan) else {
                return;
            };
            if let Some(record) = self.pagers.get_mut(pager) {
                let port = record.port;
                record.given_up |= record.state == State::Terminating;
                turn.effects
                    .push(Effect::Report(Report::PagerLate { port, page: first }));
            }
            self.loan_end(turn, id, false);
        }
    }

    fn loan_forget(&mut self, id: Id<Loan>, tray: Option<TrayId>, pager: Id<Pager>) {
        self.wake_all(|core| core.loans.get_mut(id).map(|loan| &mut loan.waiting));
        let Some(loan) = self.loans.remove(id) else {
            return;
        };
        self.note_forget(pager, loan.note);
        self.loan_age_unlink((loan.older, loan.newer));
        if let Some(pager) = self.pagers.get_mut(pager) {
            pager.loans = pager.loans.saturating_sub(1);
        }
        let Some(tray) = tray.and_then(|tray| self.trays.get_mut(tray)) else {
            return;
        };
        if tray.loans == id.index() {
            tray.loans = loan.next;
            return;
        }
        let mut at = tray.loans;
        while let Some(before) = self.loans.at_mut(at) {
            if before.next == id.index() {
                before.next = loan.next;
                return;
            }
            at = before.next;
        }
    }

    /// Translations of slots of a tray, entered ahead of the pager's touching them.
    pub(crate) fn tray_enter<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: TrayId,
        (slot, count): (u32, u32),
        protection: Prot,
    ) {
        let Some(tray) = self.trays.get(id) else {
            return;
        };
        let (map, address) = (tray.map, tray.address);
        let epoch = self.maps.get(map).map_or(0, |map| map.epoch);
        let end = slot.saturating_add(count);
        let mut at = slot;
        while at < end {
            let mut run = Enter {
                map,
                epoch,
                address: address.saturating_add(bytes_of(u64::from(at))),
                protection,
                uncached: false,
                count: 0,
                frames: [Frame(0); ENTER_MAX],
            };
            for place in &mut run.frames {
                if at >= end {
                    break;
                }
                let shown = if protection.contains(Prot::WRITE) {
                    self.tray_ready(id, at)
                } else {
                    self.tray_shown(id, at)
                };
                let Some(frame) = shown else {
                    break;
                };
                *place = frame;
                let number = run.address / PAGE_SIZE;
                let number = number.saturating_add(u64::from(run.count));
                self.place_enter(turn.machine, frame, (map.index(), number));
                run.count = run.count.saturating_add(1);
                at = at.saturating_add(1);
            }
            if run.count == 0 {
                return;
            }
            turn.effects.push(Effect::Enter(run));
        }
    }
}
