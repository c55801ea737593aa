//! A page that has to be asked for, where that is plain: the common read of a pager's memory.
//!
//! The pager is ready, has been told everything else, and has slots to spare: then what is to be said is
//! given back as it is, without an event, and the fault waits with its [`Question`] ([`Core::ask_quick`]).
//! Anything else gives `None` and has changed nothing: then the event decides, as
//! for every fault. What is said stays due until [`Core::sent`], so that a queue that is full, or a port
//! that is dead, is no case of its own. In tests [`Core::handle`] begins with this.

use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectDataRequest;

use super::question::Question;
use crate::Core;
use crate::event::{Fault, RightId, Time};
use crate::object::Kind;
use crate::object::pager::State;
use crate::object::pages::Slot;
use crate::range::{page_of, trunc_page};

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
        let Fault {
            map,
            address,
            access,
            ..
        } = *fault;
        // Only the last question is kept without a record.
        self.record_question();
        let link = self.map_lookup(map, address)?.0;
        let entry = self.entries.at(link)?;
        let write = access.contains(Prot::WRITE);
        let allowed = entry.protection.contains(access) && !(write && entry.needs_copy);
        let top = entry.object.filter(|_| allowed && self.goes_quickly())?;
        let index = page_of(entry.offset_of(trunc_page(address)));
        let object = self.objects.get(top)?;
        let id = object.pager?;
        let plain = matches!(object.kind, Kind::Internal | Kind::External);
        if !plain || object.pages.get(&self.nodes, index) != Slot::Empty {
            return None;
        }
        let pager = self.pagers.get(id)?;
        let silent = pager.notes.is_empty() && !pager.say_init && !pager.say_end && !pager.full;
        if pager.state != State::Ready || !silent {
            return None;
        }
        let (tray, port, control) = (pager.tray?, pager.port, pager.control);
        let before = (pager.next_page, pager.window);
        let record = self.trays.get(tray)?;
        if record.map == map && !pager.serves_itself {
            return None;
        }
        let ready = self.objects.get(record.object)?.pages.pages();
        let credits = ready.checked_sub(record.taken).filter(|left| *left > 0)?;
        // The shell is woken in time.
        if now.after(self.config.pager_timeout) < self.clock {
            return None;
        }
        self.waiters.reserve_one().ok()?;
        let request = self.requests.reserve_next().ok()?;
        let range = self.cluster((link, index), (top, id), index, credits);
        let Ok((first, count)) = self.request_mark(request, top, range, index) else {
            let pager = self.pagers.get_mut(id)?;
            (pager.next_page, pager.window) = before;
            return None;
        };
        // From here on nothing fails.
        let question = self.question.insert(Question {
            fault: *fault,
            link,
            index,
            asked: now,
            object: top,
            pager: id,
            control,
            port,
            tray,
            first,
            count,
            request,
            said: false,
        });
        let request = question.wording();
        self.stats.data_requests = self.stats.data_requests.saturating_add(1);
        Some(Asked { port, request })
    }
}
