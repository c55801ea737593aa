//! A page that has to be asked for, where that is plain: the common read of a pager's memory.
//!
//! The pager is ready, has been told everything else, and has slots to spare: then what is to be said is
//! given back as it is, without an event, and the fault waits with its [`Question`] ([`Core::ask_quick`]).
//! What was found begins a [`Dialogue`], by which the next is asked ([`Core::ask_next`]).
//! Anything else gives `None` and has changed nothing: then the event decides, as
//! for every fault. What is said stays due until [`Core::sent`], so that a queue that is full, or a port
//! that is dead, is no case of its own. In tests [`Core::handle`] begins with this.

use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectDataRequest;

use super::question::{Dialogue, Question, Slots};
use crate::Core;
use crate::event::{Fault, RightId, Time};
use crate::object::Kind;
use crate::object::pager::State;
use crate::object::pages::Slot;
use crate::range::page_of;

/// What is to be said to a pager at once.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its memory object port.
    pub port: RightId,
    /// What.
    pub request: MemoryObjectDataRequest,
}

impl Core {
    /// Asks a pager for the page that a fault misses, and parks the fault, if that is all there is to do.
    pub fn ask_quick(&mut self, fault: &Fault, now: Time) -> Option<Asked> {
        // Only the last question is kept without a record.
        self.record_question();
        let dialogue = self.dialogue_for(fault, now)?;
        self.dialogue = Some(dialogue);
        self.ask_next(fault, now)
    }

    /// What there is to know of a pager before it is asked for pages that an entry shows, if it can be asked at
    /// once.
    #[inline(always)]
    fn dialogue_for(&mut self, fault: &Fault, now: Time) -> Option<Dialogue> {
        let map = fault.map;
        let link = self.map_lookup(map, fault.address)?.0;
        let entry = self.entries.at(link)?;
        let top = entry.object.filter(|_| self.goes_quickly())?;
        let object = self.objects.get(top)?;
        let id = object.pager?;
        if !matches!(object.kind, Kind::Internal | Kind::External) {
            return None;
        }
        let pager = self.pagers.get(id)?;
        let silent = pager.notes.is_empty() && !pager.say_init && !pager.say_end && !pager.full;
        if pager.state != State::Ready || !silent {
            return None;
        }
        let tray = pager.tray?;
        let record = self.trays.get(tray)?;
        if record.map == map && !pager.serves_itself {
            return None;
        }
        let slots = self.objects.get(record.object)?;
        let credits = slots.pages.pages().checked_sub(record.taken)?;
        let idle = self.woken.is_empty() && self.ready_faults.is_empty();
        if !idle || !record.waiting.is_empty() || slots.payer != Some(record.map) {
            return None;
        }
        // The shell is woken in time, now and later.
        if now.after(self.config.pager_timeout) < self.clock {
            return None;
        }
        let withheld = match entry.needs_copy {
            true => Prot::WRITE,
            false => Prot::NONE,
        };
        let dialogue = Dialogue {
            question: None,
            map,
            link,
            range: (entry.start, entry.end),
            offset: entry.offset,
            allows: entry.protection.difference(withheld),
            shows: entry.protection.difference(Prot::WRITE),
            own: !entry.needs_copy && !object.is_copied(),
            object: top,
            pager: id,
            control: pager.control,
            port: pager.port,
            single: pager.cluster <= 1,
            last: None,
            tray,
            slots: Slots {
                object: record.object,
                count: record.slots,
                address: record.address,
                map: record.map,
            },
            credits,
            request: self.requests.reserve_next().ok()?,
        };
        self.waiters.reserve_one().ok()?;
        Some(dialogue)
    }

    /// As [`Core::ask_quick`], for a fault in the entry of the dialogue that goes on. Anything else gives `None`
    /// and has changed nothing.
    #[inline(always)]
    pub fn ask_next(&mut self, fault: &Fault, now: Time) -> Option<Asked> {
        if !self.goes_quickly() {
            return None;
        }
        let dialogue = self.dialogue.as_ref()?;
        let (start, end) = dialogue.range;
        let shown = dialogue.map == fault.map && start <= fault.address && fault.address < end;
        let open = dialogue.question.is_some() || dialogue.credits == 0;
        if !shown || open || !dialogue.allows.contains(fault.access) {
            return None;
        }
        let inside = fault.address.wrapping_sub(start);
        let index = page_of(dialogue.offset.wrapping_add(inside));
        let marked = dialogue.single
            && self.objects.get_mut(dialogue.object).is_some_and(|record| {
                let mark = Slot::Pending(dialogue.request.index());
                record.pages.use_empty(&mut self.nodes, index, mark)
            });
        let (first, count) = match marked {
            true => (index, 1),
            false => self.mark_cluster(index)?,
        };
        // From here on nothing fails.
        self.stats.data_requests = self.stats.data_requests.wrapping_add(1);
        let dialogue = self.dialogue.as_mut()?;
        let question = Question {
            fault: *fault,
            index,
            asked: now,
            first,
            count,
            said: false,
        };
        dialogue.question = Some(question);
        Some(Asked {
            port: dialogue.port,
            request: dialogue.wording(&question),
        })
    }

    /// Marks the pages to ask for, one of which is missed: as many as are asked for at once.
    #[inline(never)]
    fn mark_cluster(&mut self, index: u64) -> Option<(u64, u32)> {
        let Dialogue {
            link,
            object,
            pager: id,
            credits,
            request,
            ..
        } = self.dialogue?;
        let pager = self.pagers.get(id)?;
        let before = (pager.next_page, pager.window);
        if self.slot(object, index) != Slot::Empty {
            return None;
        }
        let range = self.cluster((link, index), (object, id), index, credits);
        let marked = self.request_mark(request, object, range, index);
        if marked.is_err() {
            let pager = self.pagers.get_mut(id)?;
            (pager.next_page, pager.window) = before;
        }
        marked.ok()
    }
}
