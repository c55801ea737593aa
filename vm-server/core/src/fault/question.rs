//! The last question to a pager, of which there is no record as long as nobody but its asker knows of it.
//!
//! The common fault on a pager's memory asks, waits and is answered, and nothing else happens meanwhile.
//! So what it asked and who waits is kept aside in [`Question`], without a request, a waiter and their
//! lists: only the slots of its pages are marked with the request that would be made. Whoever is
//! about to do anything that could see or void it has it put on record first ([`Core::record_question`]):
//! every event does, and every quick way that changes entries. So while there is a question, its entry, its
//! object, its pager and its tray are as they were when it was asked.
//!
//! Records and nodes are reserved when it is asked, so that putting it on record cannot fail.

use ipc_protocol::memory_object::MemoryObjectDataRequest;

use crate::Core;
use crate::event::{ControlId, Fault, ObjectId, RightId, Time, TrayId};
use crate::id::Id;
use crate::object::pager::{Pager, Request};
use crate::op::wait::What;
use crate::range::bytes_of;

/// What a fault asked of a pager.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The fault, which waits.
    pub(crate) fault: Fault,
    /// Its entry.
    pub(crate) link: u32,
    /// Number of its page in the object.
    pub(crate) index: u64,
    /// When it was asked.
    pub(crate) asked: Time,
    /// The object.
    pub(crate) object: ObjectId,
    /// Its pager, and the attachment of which an answer is taken.
    pub(crate) pager: Id<Pager>,
    /// See `pager`.
    pub(crate) control: Option<ControlId>,
    /// The pager's port.
    pub(crate) port: RightId,
    /// The pager's tray.
    pub(crate) tray: TrayId,
    /// First page that is asked for.
    pub(crate) first: u64,
    /// Pages, at most 64.
    pub(crate) count: u32,
    /// The request that is made if it is put on record.
    pub(crate) request: Id<Request>,
    /// The pager has been told.
    pub(crate) said: bool,
}

impl Question {
    /// What the pager is told.
    pub(crate) fn wording(&self) -> MemoryObjectDataRequest {
        MemoryObjectDataRequest {
            offset: bytes_of(self.first),
            length: bytes_of(u64::from(self.count)),
            access: u32::from(self.fault.access.bits()),
            request: self.request.to_word(),
        }
    }

    /// Whether a page is asked for.
    pub(crate) fn covers(&self, object: ObjectId, index: u64) -> bool {
        let place = index.checked_sub(self.first);
        self.object == object && place.is_some_and(|place| place < u64::from(self.count))
    }
}

impl Core {
    /// Puts the open question on record, if there is one.
    #[inline(always)]
    pub(crate) fn record_question(&mut self) {
        if self.question.is_some() {
            self.record_it();
        }
    }

    #[cold]
    #[inline(never)]
    fn record_it(&mut self) {
        let Some(question) = self.question.take() else {
            return;
        };
        let Fault {
            map,
            address,
            access,
            token,
        } = question.fault;
        let range = (question.first, question.count);
        let made = self.request_insert(question.pager, range, access);
        debug_assert_eq!(made, Ok(question.request), "its place was reserved");
        if let Some(tray) = self.trays.get_mut(question.tray) {
            tray.taken = tray.taken.saturating_add(question.count);
        }
        if let Some(pager) = self.pagers.get_mut(question.pager)
            && !question.said
        {
            pager.notes.say_soon(question.request);
        }
        let what = What::Fault {
            map,
            address,
            access,
            token,
        };
        let waiter = self.waiter_new(what, Some(token), question.asked);
        debug_assert!(waiter.is_ok(), "its place was reserved");
        if let Ok(waiter) = waiter {
            self.waiter_asks(waiter, question.request, question.index);
        }
    }
}
