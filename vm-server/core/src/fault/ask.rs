//! A page that has to be asked for, where that is plain: the common read of a pager's memory.
//!
//! The pager is ready, has been told everything else, and has slots to spare: then the fault is parked
//! and the request made without an event, and what is to be said is given back as it is
//! ([`Core::ask_quick`]). Anything else gives `None` and has changed nothing: then the event decides, as
//! for every fault. What is said stays due until [`Core::sent`], so that a queue that is full, or a port
//! that is dead, is no case of its own. In tests [`Core::handle`] begins with this.

use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectDataRequest;

use super::Look;
use crate::Core;
use crate::event::{Fault, RightId, Time};
use crate::object::Kind;
use crate::object::pager::State;
use crate::object::pages::Slot;
use crate::op::wait::What;
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
            token,
        } = *fault;
        let link = self.map_lookup(map, address)?.0;
        let entry = self.entries.at(link)?;
        let write = access.contains(Prot::WRITE);
        let allowed = entry.protection.contains(access) && !(write && entry.needs_copy);
        let top = entry.object.filter(|_| allowed && self.goes_quickly())?;
        let index = page_of(entry.offset_of(trunc_page(address)));
        let object = self.objects.get(top)?;
        let id = object.pager?;
        let plain = matches!(object.kind, Kind::Internal | Kind::External);
        let look = Look {
            map,
            link,
            top,
            index,
            access,
            rights: entry.protection,
            needs_copy: entry.needs_copy,
            copied: object.is_copied(),
            own: false,
        };
        if !plain || object.pages.get(&self.nodes, index) != Slot::Empty {
            return None;
        }
        let pager = self.pagers.get(id)?;
        let silent = pager.notes.is_empty() && !pager.say_init && !pager.say_end && !pager.full;
        if pager.state != State::Ready || !silent {
            return None;
        }
        let (tray, port) = (pager.tray?, pager.port);
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
        let (first, count) = self.cluster(&look, (top, id), index, credits);
        let Ok(request) = self.request_make(id, top, (first, count), access, index) else {
            let pager = self.pagers.get_mut(id)?;
            (pager.next_page, pager.window) = before;
            return None;
        };
        // From here on nothing fails.
        let what = What::Fault {
            map,
            address,
            access,
            token,
        };
        let waiter = self.waiter_new(what, Some(token), now).ok()?;
        self.waiter_asks(waiter, request, index);
        let record = self.requests.get(request)?;
        let (offset, length) = record.bytes();
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.taken = tray.taken.saturating_add(record.count);
        }
        if let Some(pager) = self.pagers.get_mut(id) {
            pager.notes.say_soon(request);
        }
        self.told = Some(id);
        self.stats.data_requests = self.stats.data_requests.saturating_add(1);
        Some(Asked {
            port,
            request: MemoryObjectDataRequest {
                offset,
                length,
                access: u32::from(access.bits()),
                request: request.to_word(),
            },
        })
    }
}
