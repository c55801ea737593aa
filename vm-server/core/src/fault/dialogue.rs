//! The answer to the last question, where that is about one page that is read: the page moves out of its slot and
//! into the object, and is entered.
//!
//! Nothing is looked up that the [`Dialogue`] knows, since nothing but questions and answers happened since it
//! began. Anything else gives `None` and has changed nothing.

use ipc_abi::translation;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::MemoryObjectDataSupply;

use super::question::Dialogue;
use super::quick::show_around;
use crate::event::{ControlId, Fault};
use crate::machine::{Machine, Revoke};
use crate::object::page::{Flags, Frame};
use crate::range::{bytes_of, page_of, trunc_page};
use crate::{Core, Turn};

/// How the fault that asked is answered.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The fault.
    pub fault: Fault,
    /// What is entered.
    pub enter: translation::Enter,
    /// There may be slots to fill now.
    pub leaves_work: bool,
}

impl Core {
    /// Takes a supply that answers the open question, if that is about one page that is read: the page moves,
    /// and what is entered beside it is in the effects. `None`: there is more to it, and nothing has changed.
    #[inline(always)]
    pub fn answer_question<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        control: ControlId,
        args: &MemoryObjectDataSupply,
    ) -> Option<Told> {
        if !self.goes_quickly() {
            return None;
        }
        let dialogue = self.dialogue.as_mut()?;
        let question = dialogue.question.as_ref()?;
        let (fault, index, slot) = (question.fault, question.first, args.slot);
        let asked = (bytes_of(index), question.count) == (args.offset, 1) && question.said;
        let bare = args.count == 1 && args.lock_value == 0 && !args.precious;
        let mine = dialogue.control == Some(control) && fault.access != Prot::WRITE;
        let slots = dialogue.slots;
        if !asked || !bare || !mine || slot >= slots.count {
            return None;
        }
        let ready = self.objects.get_mut(slots.object)?;
        let (leaf, frame) = ready.pages.find_page(&self.nodes, slot.into())?;
        let payer = self.maps.get_mut(slots.map)?;
        let tray = self.trays.get_mut(dialogue.tray)?;
        // From here on nothing fails.
        dialogue.question = None;
        dialogue.credits = dialogue.credits.saturating_sub(1);
        payer.pages = payer.pages.saturating_sub(1);
        payer.epoch = payer.epoch.saturating_add(1);
        let taken = Revoke::Page {
            map: slots.map,
            epoch: payer.epoch,
            address: slots.address.saturating_add(bytes_of(slot.into())),
            frame,
            keep: Prot::NONE,
        };
        ready.pages.take_found(&mut self.nodes, (leaf, slot.into()));
        tray.hand = tray.hand.min(slot);
        let leaves_work = ready.pages.pages() <= slots.count / 2;
        if leaves_work {
            let tray = dialogue.tray;
            self.tray_wants_refill(tray, slot);
        }
        turn.machine.revoke(&[taken]);
        let enter = self.come_to(turn, &fault, index, frame);
        debug_assert!(enter.is_some(), "all was looked at when it was asked");
        Some(Told {
            fault,
            enter: enter?,
            leaves_work,
        })
    }

    /// A page comes to the object of the dialogue, where a fault waits for it.
    #[inline(always)]
    fn come_to<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
        index: u64,
        frame: Frame,
    ) -> Option<translation::Enter> {
        let dialogue = self.dialogue.as_mut()?;
        let (map, address) = (fault.map, trunc_page(fault.address));
        let at = Some((map.index(), page_of(address)));
        let page = (dialogue.object, index);
        self.pages.pass(frame, page, at, Flags::empty());
        let record = self.objects.get_mut(dialogue.object)?;
        let leaf = record.pages.fill_used(&mut self.nodes, index, frame);
        if let Some(payer) = record.payer.and_then(|id| self.maps.get_mut(id)) {
            payer.count_external(1);
        }
        let beside = &mut turn.effects.beside;
        beside.count = 0;
        let before = dialogue.last.replace(index);
        let Dialogue { range, own, .. } = *dialogue;
        show_around(
            &mut self.pages,
            (leaf, index, before),
            (range, (map, address)),
            (own, false),
            beside,
        );
        self.stats.page_ins = self.stats.page_ins.wrapping_add(1);
        self.stats.faults = self.stats.faults.wrapping_add(1);
        self.stats.resident_hits = self.stats.resident_hits.wrapping_add(1);
        Some(translation::Enter {
            address,
            frame: frame.0,
            protection: dialogue.shows,
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

    use crate::event::{Event, MapId, RightId};
    use crate::sim::World;
    use crate::sim::pager::Pager;

    const PORT: RightId = RightId(7);
    const PAGES: u64 = 32;

    /// A client that has read the first page of a pager's with so many slots, and its base.
    fn reader(slots: u32) -> (World, Pager, MapId, u64) {
        let mut world = World::new(512);
        let data = (0..PAGES * PAGE_SIZE).map(|at| (at >> 12) as u8);
        let mut pager = Pager::new(&mut world, PORT, slots, data.collect());
        let client = world.map();
        let base = world.map_object(client, PORT, PAGES * PAGE_SIZE);
        world.touch(client, base, Prot::READ);
        pager.settle(&mut world);
        (world, pager, client, base)
    }

    fn read(world: &mut World, pager: &mut Pager, client: MapId, address: u64) -> u8 {
        world.touch(client, address, Prot::READ);
        pager.serve(world);
        let mut byte = [0];
        assert_eq!(world.read(client, address, &mut byte), Ok(()));
        byte[0]
    }

    #[test]
    fn one_question_after_the_other_is_of_the_same_dialogue() {
        let (mut world, mut pager, client, base) = reader(32);
        for page in 1..9 {
            let byte = read(&mut world, &mut pager, client, base + page * PAGE_SIZE);
            assert_eq!(u64::from(byte), page);
            let dialogue = world.core.dialogue.unwrap();
            assert_eq!(dialogue.last, Some(page));
            assert_eq!(u64::from(dialogue.credits), 31 - page);
        }
        world.event(Event::Tick);
        assert!(world.core.dialogue.is_none(), "who knows what has changed");
    }

    #[test]
    fn neighbours_are_shown_that_others_brought() {
        let (mut world, mut pager, client, base) = reader(32);
        let other = world.map();
        let there = world.map_object(other, PORT, PAGES * PAGE_SIZE);
        for page in [2, 3, 6] {
            read(&mut world, &mut pager, other, there + page * PAGE_SIZE);
        }
        for page in [4, 5] {
            read(&mut world, &mut pager, client, base + page * PAGE_SIZE);
        }
        let shown = world.machine.spaces[&client.to_word()].pages.keys();
        let shown = shown
            .map(|page| page - (base >> 12))
            .collect::<vec::Vec<_>>();
        assert_eq!(shown, [0, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_tray_that_has_no_slot_left_is_filled_before_the_next_question() {
        let (mut world, mut pager, client, base) = reader(4);
        for page in 1..9 {
            let byte = read(&mut world, &mut pager, client, base + page * PAGE_SIZE);
            assert_eq!(u64::from(byte), page);
            pager.settle(&mut world);
        }
    }
}
