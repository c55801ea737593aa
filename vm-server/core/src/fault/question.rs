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

use ipc_abi::translation;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectDataRequest;
use ipc_protocol::memory_object_control::MemoryObjectDataSupply;

use super::quick::show_around;
use crate::event::{ControlId, Fault, ObjectId, RightId, Time, TrayId};
use crate::id::Id;
use crate::machine::{Machine, Revoke};
use crate::object::page::{Flags, Frame};
use crate::object::pager::{Pager, Request};
use crate::op::wait::What;
use crate::range::{bytes_of, page_of, trunc_page};
use crate::{Core, Turn};

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

/// How the fault that asked is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The fault.
    pub(crate) fault: Fault,
    /// What is entered.
    pub(crate) enter: translation::Enter,
}

impl Core {
    /// Takes a supply that answers the open question, if that is about one page that is read: the page moves,
    /// and what is entered beside it is in the effects. `None`: there is more to it, and nothing has changed.
    #[inline(always)]
    pub(crate) fn answer_question<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        control: ControlId,
        args: &MemoryObjectDataSupply,
    ) -> Option<Told> {
        let question = self.question.as_ref()?;
        let (fault, index, link) = (question.fault, question.first, question.link);
        let (object, tray) = (question.object, question.tray);
        let asked = (bytes_of(index), question.count) == (args.offset, 1) && question.said;
        let bare = args.count == 1 && args.lock_value == 0 && !args.precious;
        let mine = question.control == Some(control) && fault.access != Prot::WRITE;
        let idle = self.woken.is_empty() && self.ready_faults.is_empty();
        if !asked || !bare || !mine || !idle || !self.goes_quickly() {
            return None;
        }
        let record = self.trays.get_mut(tray)?;
        let (map, slots) = (record.map, record.slots);
        let number = page_of(record.address).saturating_add(args.slot.into());
        if args.slot >= slots || !record.waiting.is_empty() {
            return None;
        }
        let ready = self.objects.get_mut(record.object)?;
        let (leaf, frame) = ready.pages.find_page(&self.nodes, args.slot.into())?;
        if ready.payer != Some(map) {
            return None;
        }
        let payer = self.maps.get_mut(map)?;
        // From here on nothing fails.
        payer.pages = payer.pages.saturating_sub(1);
        payer.epoch = payer.epoch.saturating_add(1);
        let taken = Revoke::Page {
            map,
            epoch: payer.epoch,
            address: bytes_of(number),
            frame,
            keep: Prot::NONE,
        };
        let place = (leaf, args.slot.into());
        ready.pages.take_found(&mut self.nodes, place);
        record.hand = record.hand.min(args.slot);
        let fill = ready.pages.pages() <= slots / 2;
        turn.machine.revoke(&[taken]);
        if fill {
            self.tray_wants_refill(tray, args.slot);
        }
        self.question = None;
        let enter = self.come_to(turn, (&fault, link), (object, index), frame);
        debug_assert!(enter.is_some(), "all was looked at when it was asked");
        Some(Told {
            fault,
            enter: enter?,
        })
    }

    /// A page comes to an object where a fault waits for it, in an entry that shows it.
    #[inline(always)]
    fn come_to<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (fault, link): (&Fault, u32),
        (object, index): (ObjectId, u64),
        frame: Frame,
    ) -> Option<translation::Enter> {
        let (map, address) = (fault.map, trunc_page(fault.address));
        let at = Some((map.index(), page_of(address)));
        self.pages.pass(frame, (object, index), at, Flags::empty());
        let record = self.objects.get_mut(object)?;
        let leaf = record.pages.fill_used(&mut self.nodes, index, frame);
        if let Some(payer) = record.payer.and_then(|id| self.maps.get_mut(id)) {
            payer.count_external(1);
        }
        let entry = self.entries.at(link)?;
        let own = !entry.needs_copy && !record.is_copied();
        let beside = &mut turn.effects.beside;
        beside.count = 0;
        let shown = (entry, (map, address));
        show_around(&mut self.pages, (leaf, index), shown, (own, false), beside);
        self.stats.page_ins = self.stats.page_ins.wrapping_add(1);
        self.stats.faults = self.stats.faults.wrapping_add(1);
        self.stats.resident_hits = self.stats.resident_hits.wrapping_add(1);
        Some(translation::Enter {
            address,
            frame: frame.0,
            protection: entry.protection.difference(Prot::WRITE),
            uncached: false,
            epoch: self.maps.get(map)?.epoch,
        })
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
        assert!(world.core.question.is_none());
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
        assert!(world.core.question.is_none());
        world.event(Event::Cancelled(other));
        assert_eq!(world.core.waiters.len(), 1, "one has been cancelled");
        pager.settle(&mut world);
        assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
        assert_eq!(world.resumed.remove(&other.0.get()), None);
        assert!(world.core.requests.is_empty() && world.core.waiters.is_empty());
    }
}
