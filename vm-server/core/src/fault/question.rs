//! The last question to a pager, of which there is no record as long as nobody but its asker knows of it.
//!
//! The common fault on a pager's memory asks, waits and is answered, and nothing else happens meanwhile.
//! So what it asked and who waits is kept aside in [`Question`], without a request, a waiter and their
//! lists: only the slots of its pages are marked with the request that would be made. Whoever is
//! about to do anything that could see or void it has it put on record first ([`Core::record_question`]):
//! every event does, and every quick way that changes entries. So while there is a question, its entry, its
//! object, its pager and its tray are as they were when it was asked; and as long as nothing but questions and
//! answers happened, they are still as they were when the first was asked ([`Dialogue`]): the next is
//! asked, and answered, without looking them up again ([`super::dialogue`]).
//!
//! Records and nodes are reserved when it is asked, so that putting it on record cannot fail.

use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectDataRequest;

use crate::Core;
use crate::event::{ControlId, Fault, MapId, ObjectId, RightId, Time, TrayId};
use crate::id::Id;
use crate::object::pager::{Pager, Request};
use crate::op::wait::What;
use crate::range::bytes_of;

/// What a fault asked of the pager of a [`Dialogue`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The fault, which waits.
    pub(crate) fault: Fault,
    /// Number of its page in the object.
    pub(crate) index: u64,
    /// When it was asked.
    pub(crate) asked: Time,
    /// First page that is asked for.
    pub(crate) first: u64,
    /// Pages, at most 64.
    pub(crate) count: u32,
    /// The pager has been told.
    pub(crate) said: bool,
}

/// Questions of the faults in one entry to the pager of its object, while nothing else happens: what was found
/// when the first was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialogue {
    /// The one that is open.
    pub(crate) question: Option<Question>,
    /// Whose faults.
    pub(crate) map: MapId,
    /// The entry.
    pub(crate) link: u32,
    /// First address of it and the one behind it.
    pub(crate) range: (u64, u64),
    /// Offset in the object of the first.
    pub(crate) offset: u64,
    /// Accesses that it allows without a shadow object.
    pub(crate) allows: Prot,
    /// The rights with which it shows a page that is read.
    pub(crate) shows: Prot,
    /// It may show a dirty page as it may be written.
    pub(crate) own: bool,
    /// The object.
    pub(crate) object: ObjectId,
    /// Its pager, and the attachment of which an answer is taken.
    pub(crate) pager: Id<Pager>,
    /// See `pager`.
    pub(crate) control: Option<ControlId>,
    /// The pager's port.
    pub(crate) port: RightId,
    /// It is asked for one page at a time.
    pub(crate) single: bool,
    /// The page that was entered last, of those that came alone.
    pub(crate) last: Option<u64>,
    /// The pager's tray.
    pub(crate) tray: TrayId,
    /// Its slots for filling: the object, how many, where, and in which map.
    pub(crate) slots: Slots,
    /// Slots that are ready, less the credits of requests on record.
    pub(crate) credits: u32,
    /// The request that is made if a question is put on record.
    pub(crate) request: Id<Request>,
}

/// The slots for filling of a tray.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) object: ObjectId,
    pub(crate) count: u32,
    /// Address of the first.
    pub(crate) address: u64,
    pub(crate) map: MapId,
}

impl Dialogue {
    /// What the pager is told.
    pub(crate) fn wording(&self, question: &Question) -> MemoryObjectDataRequest {
        MemoryObjectDataRequest {
            offset: bytes_of(question.first),
            length: bytes_of(u64::from(question.count)),
            access: u32::from(question.fault.access.bits()),
            request: self.request.to_word(),
        }
    }

    /// Whether a page is asked for.
    pub(crate) fn covers(&self, object: ObjectId, index: u64) -> bool {
        self.question.is_some_and(|question| {
            let place = index.checked_sub(question.first);
            self.object == object && place.is_some_and(|place| place < u64::from(question.count))
        })
    }
}

impl Core {
    /// The open question and the dialogue that it is of, if it is put to this port.
    pub(crate) fn question_to(&self, port: RightId) -> Option<(&Dialogue, &Question)> {
        let dialogue = self.dialogue.as_ref()?;
        let question = dialogue.question.as_ref()?;
        (dialogue.port == port).then_some((dialogue, question))
    }

    /// Puts the open question on record, if there is one, and ends the dialogue.
    #[inline(always)]
    pub(crate) fn record_question(&mut self) {
        if self.dialogue.is_some() {
            self.end_dialogue();
        }
    }

    #[cold]
    #[inline(never)]
    fn end_dialogue(&mut self) {
        let Some(dialogue) = self.dialogue.take() else {
            return;
        };
        if let Some(question) = &dialogue.question {
            self.record_it(&dialogue, question);
        }
    }

    fn record_it(&mut self, dialogue: &Dialogue, question: &Question) {
        let Fault {
            map,
            address,
            access,
            token,
        } = question.fault;
        let range = (question.first, question.count);
        let made = self.request_insert(dialogue.pager, range, access);
        debug_assert_eq!(made, Ok(dialogue.request), "its place was reserved");
        if let Some(tray) = self.trays.get_mut(dialogue.tray) {
            tray.taken = tray.taken.saturating_add(question.count);
        }
        if let Some(pager) = self.pagers.get_mut(dialogue.pager)
            && !question.said
        {
            pager.notes.say_soon(dialogue.request);
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
            self.waiter_asks(waiter, dialogue.request, question.index);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use ipc_abi::layout::PAGE_SIZE;
    use ipc_abi::types::Prot;

    use crate::event::{Event, MapId, RightId, Token};
    use crate::sim::pager::Pager;
    use crate::sim::{Touch, World};

    const PORT: RightId = RightId(7);

    /// A client that has read a page of a pager's, and waits for the next. Its base, and its token.
    fn waiting() -> (World, Pager, (MapId, u64), Token) {
        let mut world = World::new(512);
        let mut pager = Pager::new(&mut world, PORT, 8, vec![1; 8 * PAGE_SIZE as usize]);
        let client = world.map();
        let base = world.map_object(client, PORT, 8 * PAGE_SIZE);
        world.touch(client, base, Prot::READ);
        pager.settle(&mut world);
        match world.touch(client, base + PAGE_SIZE, Prot::READ) {
            Touch::Waits(token) => (world, pager, (client, base), token),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_that_is_answered_next_is_never_on_record() {
        let (mut world, mut pager, _, token) = waiting();
        let census = world.core.census();
        assert_eq!((census.requests, census.waiters), (1, 1));
        assert!(world.core.requests.is_empty() && world.core.waiters.is_empty());
        pager.serve(&mut world);
        assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
        assert!(world.core.dialogue.is_none_or(|it| it.question.is_none()));
        assert_eq!(world.core.census().requests, 0);
    }

    #[test]
    fn whatever_comes_between_puts_it_on_record_first() {
        let (mut world, mut pager, (client, base), token) = waiting();
        let other = match world.touch(client, base + 5 * PAGE_SIZE, Prot::READ) {
            Touch::Waits(token) => token,
            other => panic!("{other:?}"),
        };
        // The pager has not heard of the first, so the other is noted behind it.
        assert_eq!(world.core.requests.len(), 2);
        assert!(world.core.dialogue.is_none());
        world.event(Event::Cancelled(other));
        assert_eq!(world.core.waiters.len(), 1, "one has been cancelled");
        pager.settle(&mut world);
        assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
        assert_eq!(world.resumed.remove(&other.0.get()), None);
        assert!(world.core.requests.is_empty() && world.core.waiters.is_empty());
    }
}
