//! Asking a pager for pages: how many, with whose slots, and what becomes of the request.
//!
//! A request covers pages side by side that the object knows nothing of; each takes the credit of a
//! ready tray slot, so that the pager never waits for memory while it serves (amendment A4). How
//! many are asked at once grows while faults go on where the last request ended (rule 153).

use ipc_abi::Kern;
use ipc_abi::types::{Behavior, Prot};

use super::Look;
use crate::effect::Effect;
use crate::event::{ObjectId, TrayId};
use crate::id::Id;
use crate::machine::Machine;
use crate::object::pager::{Pager, Request, State};
use crate::object::pages::Slot;
use crate::op::wait::{List, WaitOn};
use crate::range::page_of;
use crate::slab::NIL;
use crate::talk::Say;
use crate::{Core, Turn};

/// How a page that was asked for is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Whoever waits for it looks again.
    Changed,
    /// It will not come: whoever still wants it gets KERN_MEMORY_ERROR.
    Failed,
}

/// Most pages of a request: bits of a word.
pub(crate) const REQUEST_MAX: u32 = 64;

impl Core {
    /// Asks the pager of `at`, where page `index` is missing; says what to wait for.
    pub(crate) fn ask_pager<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        (at, id): (ObjectId, Id<Pager>),
        index: u64,
    ) -> Result<WaitOn, Kern> {
        let pager = self.pagers.get(id).ok_or(Kern::MemoryError)?;
        match pager.state {
            State::Initialising | State::Detached => return Ok(WaitOn::Pager(id)),
            State::Ready => {}
            State::Terminating | State::Dead => return Err(Kern::MemoryError),
        }
        let (tray, port) = (pager.tray.ok_or(Kern::MemoryError)?, pager.port);
        let serves_itself = pager.serves_itself;
        let record = self.trays.get(tray).ok_or(Kern::MemoryError)?;
        if record.map == look.map && !serves_itself {
            return Err(Kern::MemoryError);
        }
        let credits = self.tray_credits(tray);
        if credits == 0 {
            let ready = self
                .objects
                .get(record.object)
                .map_or(0, |o| o.pages.pages());
            if ready < record.slots {
                // Filling it may have been given up for want of records.
                self.tray_wants_refill(tray, 0);
            }
            return Ok(WaitOn::Slots(tray));
        }
        let (first, count) = self.cluster((look.link, look.index), (at, id), index, credits);
        let access = if at == look.top {
            look.access
        } else {
            Prot::READ
        };
        let request = self.request_make(id, at, (first, count), access, index)?;
        let note = self.note(id, Say::Request(request));
        let note = note.inspect_err(|_| self.request_undo(at, request))?;
        if let Some(request) = self.requests.get_mut(request) {
            request.note = Some(note);
        }
        self.tray_take_credits(tray, request);
        self.stats.data_requests = self.stats.data_requests.saturating_add(1);
        turn.effects.push(Effect::Talk(port));
        Ok(WaitOn::Request(request, index))
    }

    /// Pages to ask for, `index` among them: all missing, inside the window of the entry, in whose own object
    /// that is page `top`.
    pub(crate) fn cluster(
        &mut self,
        (link, top): (u32, u64),
        (at, id): (ObjectId, Id<Pager>),
        index: u64,
        credits: u32,
    ) -> (u64, u32) {
        let behavior = self
            .entries
            .at(link)
            .map_or(Behavior::Default, |entry| entry.behavior);
        let Some(pager) = self.pagers.get_mut(id) else {
            return (index, 1);
        };
        if pager.cluster <= 1 {
            return (index, 1);
        }
        let most = pager.cluster.min(REQUEST_MAX).min(credits);
        if most <= 1 {
            pager.next_page = index.saturating_add(1);
            pager.window = 1;
            return (index, 1);
        }
        let wanted = match behavior {
            Behavior::Random => 1,
            Behavior::Sequential | Behavior::ReverseSequential => most,
            Behavior::Default if index == pager.next_page => {
                pager.window.saturating_mul(2).clamp(1, most)
            }
            Behavior::Default => 1,
        };
        let backward = behavior == Behavior::ReverseSequential;
        // The window of the entry as the lower object sees it.
        let (low, high) = self
            .entries
            .at(link)
            .map_or((index, index.saturating_add(1)), super::window);
        let below = index.wrapping_sub(top);
        let (low, high) = (low.wrapping_add(below), high.wrapping_add(below));
        let (mut first, mut end) = (index, index.saturating_add(1));
        if !backward && wanted > 1 {
            // It ends where windows of that size do, so that the next begins there.
            let size = 1u64.wrapping_shl(wanted.checked_ilog2().unwrap_or(0));
            let ahead = index.saturating_add(wanted.into()) & !size.wrapping_sub(1);
            let wanted = ahead.saturating_sub(index);
            let inside = high.saturating_sub(index).min(wanted) as u32;
            let pages = self.objects.get(at).map(|object| &object.pages);
            let empty = pages.map_or(1, |p| p.empty_from(&self.nodes, index, inside));
            end = index.saturating_add(u64::from(empty.max(1)));
        }
        while backward && end.saturating_sub(first) < u64::from(wanted) {
            let next = first.wrapping_sub(1);
            let inside = low <= next && next < high;
            if !inside || self.slot(at, next) != Slot::Empty {
                break;
            }
            first = next;
        }
        let count = end.saturating_sub(first) as u32;
        if let Some(pager) = self.pagers.get_mut(id) {
            pager.next_page = end;
            pager.window = count;
        }
        (first, count)
    }

    /// A request, with its slots marked. Without nodes for all of them it is for the needed one alone.
    pub(crate) fn request_make(
        &mut self,
        pager: Id<Pager>,
        object: ObjectId,
        (first, count): (u64, u32),
        access: Prot,
        needed: u64,
    ) -> Result<Id<Request>, Kern> {
        let id = self.requests.reserve_next()?;
        let range = self.request_mark(id, object, (first, count), needed)?;
        self.request_insert(pager, range, access)
    }

    /// A request whose slots are marked.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record.
    pub(crate) fn request_insert(
        &mut self,
        pager: Id<Pager>,
        (first, count): (u64, u32),
        access: Prot,
    ) -> Result<Id<Request>, Kern> {
        let next = self.pagers.get(pager).map_or(NIL, |pager| pager.requests);
        let id = self.requests.insert_with(|| Request {
            pager,
            first,
            count,
            missing: u64::MAX >> (64u32.wrapping_sub(count) & 63),
            failed: 0,
            access,
            next,
            prev: NIL,
            waiting: List::EMPTY,
            lookers: 0,
            closed: false,
            note: None,
        })?;
        if let Some(next) = self.requests.at_mut(next) {
            next.prev = id.index();
        }
        if let Some(pager) = self.pagers.get_mut(pager) {
            pager.requests = id.index();
        }
        Ok(id)
    }

    /// Marks slots as asked for by a request, `needed` among them. Gives first and count of those that are
    /// marked: without nodes for all, that is the needed one alone.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node. Nothing has changed.
    pub(crate) fn request_mark(
        &mut self,
        id: Id<Request>,
        object: ObjectId,
        (first, count): (u64, u32),
        needed: u64,
    ) -> Result<(u64, u32), Kern> {
        let record = self.objects.get_mut(object).ok_or(Kern::MemoryError)?;
        let slot = Slot::Pending(id.index());
        if count > 1 {
            let mark = (count, id.index());
            if record
                .pages
                .put_pending(&mut self.nodes, first, mark)
                .is_ok()
            {
                return Ok((first, count));
            }
            record.pages.clear_run(&mut self.nodes, first, count);
        }
        record.pages.set(&mut self.nodes, needed, slot)?;
        Ok((needed, 1))
    }

    fn request_undo(&mut self, object: ObjectId, id: Id<Request>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (first, count) = (request.first, request.count);
        for page in first..first.saturating_add(u64::from(count)) {
            if let Some(record) = self.objects.get_mut(object) {
                record.pages.clear(&mut self.nodes, page);
            }
        }
        self.request_unlink(id);
        self.requests.remove(id);
    }

    fn tray_take_credits(&mut self, tray: TrayId, request: Id<Request>) {
        let count = self.requests.get(request).map_or(0, |r| r.count);
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.taken = tray.taken.saturating_add(count);
        }
    }

    fn request_unlink(&mut self, id: Id<Request>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (pager, prev, next) = (request.pager, request.prev, request.next);
        if let Some(request) = self.requests.at_mut(next) {
            request.prev = prev;
        }
        match self.requests.at_mut(prev) {
            Some(request) => request.next = next,
            None => {
                if let Some(pager) = self.pagers.get_mut(pager)
                    && pager.requests == id.index()
                {
                    pager.requests = next;
                }
            }
        }
    }

    /// A page that was asked for is settled: it came, or will not. Its credit goes back; its waiters
    /// get their turn. The slot is the caller's to change.
    pub(crate) fn request_settle(&mut self, index: u32, page: u64, how: Settled) {
        let Some(id) = self.requests.id_at(index) else {
            return;
        };
        let bit = self.requests.get(id).map_or(0, |request| request.bit(page));
        self.request_settle_all(index, bit, how);
    }

    /// As [`Core::request_settle`], for all pages of these bits.
    pub(crate) fn request_settle_all(&mut self, index: u32, bits: u64, how: Settled) {
        let Some(id) = self.requests.id_at(index) else {
            return;
        };
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let bits = request.missing & bits;
        if bits == 0 {
            return;
        }
        request.missing &= !bits;
        if how == Settled::Failed {
            request.failed |= bits;
        }
        let (pager, over) = (request.pager, request.missing == 0);
        let tray = self.pagers.get(pager).and_then(|pager| pager.tray);
        if let Some(tray) = tray.and_then(|tray| self.trays.get_mut(tray)) {
            tray.taken = tray.taken.saturating_sub(bits.count_ones());
        }
        self.wake_all(|core| core.requests.get_mut(id).map(|r| &mut r.waiting));
        if over {
            self.request_close(id);
        }
    }

    /// The pager has answered for a range. That settles each request whose first page lies there: what
    /// the answer leaves out is asked for again when it is needed (rule 153).
    pub(crate) fn requests_answered(&mut self, pager: Id<Pager>, (first, end): (u64, u64)) {
        let Some(record) = self.pagers.get(pager) else {
            return;
        };
        let (object, mut at) = (record.object, record.requests);
        while let Some(request) = self.requests.at(at) {
            let (index, base, mut missing) = (at, request.first, request.missing);
            at = request.next;
            if base < first || base >= end {
                continue;
            }
            while missing != 0 {
                let page = base.saturating_add(u64::from(missing.trailing_zeros()));
                missing &= missing.wrapping_sub(1);
                if let Some(record) = self.objects.get_mut(object) {
                    record.pages.clear(&mut self.nodes, page);
                }
                self.request_settle(index, page, Settled::Changed);
            }
        }
    }

    /// A request is over; its record stays until all whom it woke have looked.
    fn request_close(&mut self, id: Id<Request>) {
        self.request_unlink(id);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.closed = true;
        let (pager, note) = (request.pager, request.note);
        if request.lookers == 0 {
            self.requests.remove(id);
        }
        self.note_forget(pager, note);
    }

    /// A request for which nobody waits any more, and all of which has come, goes at once. Its credits
    /// and its slots are the caller's.
    pub(crate) fn request_end(&mut self, index: u32) {
        let Some(id) = self.requests.id_at(index) else {
            return;
        };
        self.request_unlink(id);
        let told = self.requests.remove(id).map(|it| (it.pager, it.note));
        if let Some((pager, Some(note))) = told {
            self.note_forget(pager, Some(note));
        }
    }

    /// Ends everything that a pager was asked for. Whoever waits looks again: of a dead pager that is
    /// KERN_MEMORY_ERROR, and where the memory has gone, whatever is there now.
    pub(crate) fn close_requests(&mut self, pager: Id<Pager>) {
        let Some(object) = self.pagers.get(pager).map(|pager| pager.object) else {
            return;
        };
        while let Some(first) = self.pagers.get(pager).map(|pager| pager.requests) {
            if self.requests.at(first).is_none() {
                return;
            }
            self.request_give_up(object, first);
        }
    }

    /// Ends a request; whoever waits for it looks again.
    pub(crate) fn request_give_up(&mut self, object: ObjectId, index: u32) {
        // Each turn settles a page; there are no more than the tray has slots.
        while let Some(request) = self.requests.at(index) {
            if request.missing == 0 {
                if let Some(id) = self.requests.id_at(index) {
                    self.request_close(id);
                }
                return;
            }
            let place = u64::from(request.missing.trailing_zeros());
            let page = request.first.saturating_add(place);
            if let Some(record) = self.objects.get_mut(object) {
                record.pages.clear(&mut self.nodes, page);
            }
            self.request_settle(index, page, Settled::Changed);
        }
    }

    /// Whoever waits for a pager to be ready, or to unlock a page, looks again.
    pub(crate) fn wake_pager(&mut self, pager: Id<Pager>) {
        self.wake_all(|core| core.pagers.get_mut(pager).map(|p| &mut p.waiting));
    }
}

/// The pages of a range that the pager gave in bytes.
///
/// # Errors
/// `KERN_INVALID_ARGUMENT`: not whole pages, or the end overflows.
pub(crate) fn whole_pages(offset: u64, size: u64) -> Result<(u64, u64), Kern> {
    let end = offset.checked_add(size).ok_or(Kern::InvalidArgument)?;
    if !crate::range::is_aligned(offset) || !crate::range::is_aligned(size) {
        return Err(Kern::InvalidArgument);
    }
    Ok((page_of(offset), page_of(end)))
}
