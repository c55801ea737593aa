//! What was asked for, brought as it was asked for, with one fault that waits for it: the common supply.
//!
//! The pages move, the request and its waiter end, and the fault's answer is given back as it is, with
//! what else came beside it ([`Core::supply_more`]; one page that is read is mostly [`Core::answer_question`]'s). Anything else gives `None` and has changed nothing:
//! then the event decides, as for every supply. In tests [`Core::handle`] begins with this.
//!
//! The pages are shown to who waits in the same pass in which the slots lose them, and slots that would have to
//! be filled again soon get others. So a supply of 64 pages is the work of moving as many and of clearing as
//! many.

use ipc_abi::pass::PASS_MAX;
use ipc_abi::translation;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::MemoryObjectDataSupply;

use crate::event::{ControlId, Fault, ObjectId, TrayId};
#[cfg(any(test, feature = "touched"))]
use crate::fault::dialogue::Told;
use crate::fault::pagein::REQUEST_MAX;
use crate::frames::Class;
use crate::machine::{Machine, Pass, Shown};
use crate::object::page::{Flags, Frame};
use crate::object::pages::Slot;
use crate::object::supply::Frames;
use crate::op::wait::What;
use crate::range::{PAGE_SIZE, bytes_of, is_aligned, page_of, trunc_page};
use crate::{Core, Turn};

// One pass moves them all.
const _: () = assert!(REQUEST_MAX as usize <= PASS_MAX);

/// Bytes that one page table maps: what is entered beside a page is in the same.
const TABLE: u64 = 512 * PAGE_SIZE;

/// How the fault that waited is answered.
#[derive(Clone, Copy, Debug)]
pub struct Supplied {
    /// The fault.
    pub fault: Fault,
    /// With what.
    pub answer: Answer,
}

/// What is left to be said to a fault.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// That it goes on: its page is entered.
    Entered,
    /// This is entered, and what lies beside it, which is in the effects.
    Enter(translation::Enter),
    /// The effects have it.
    Effects,
}

/// What was asked and is answered now.
struct Open {
    /// The fault that waits for it, alone.
    fault: Fault,
    object: ObjectId,
    tray: TrayId,
    /// The fault's entry, if nothing can have changed it.
    link: Option<u32>,
    /// The request and the waiter, if they are on record.
    record: Option<(u32, u32)>,
}

/// How a fault sees pages that come.
struct View {
    /// Address of its own page.
    address: u64,
    /// Which of them that is.
    place: usize,
    /// Which are entered, itself among them.
    shown: Shown,
}

impl Core {
    /// Takes a supply, if it is plain, as the shell does.
    #[cfg(any(test, feature = "touched"))]
    pub(crate) fn supply_quick<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        control: ControlId,
        args: &MemoryObjectDataSupply,
    ) -> Option<Supplied> {
        if let Some(Told { fault, enter, .. }) = self.answer_question(turn, control, args) {
            let answer = Answer::Enter(enter);
            return Some(Supplied { fault, answer });
        }
        self.supply_more(turn, control, args)
    }

    /// Takes a supply, if it is plain: of several pages, or of one that is to be written or was asked for by a
    /// request that is on record.
    #[inline(never)]
    pub fn supply_more<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        control: ControlId,
        args: &MemoryObjectDataSupply,
    ) -> Option<Supplied> {
        let (first, count) = (page_of(args.offset), args.count);
        let bare = args.lock_value == 0 && !args.precious && is_aligned(args.offset);
        if !bare || count == 0 || count > REQUEST_MAX || !self.goes_quickly() {
            return None;
        }
        let open = match self.open_question(control, (first, count)) {
            Some(open) => open,
            None => {
                self.record_question();
                self.open_request(control, (first, count))?
            }
        };
        let (object, tray, fault) = (open.object, open.tray, open.fault);
        let record = self.trays.get(tray)?;
        let (slots, most) = (record.object, record.slots);
        let inside = args.slot.checked_add(count).is_some_and(|end| end <= most);
        let idle = self.woken.is_empty() && self.ready_faults.is_empty();
        if !inside || !idle || !record.waiting.is_empty() {
            return None;
        }
        let mut frames = Frames::new();
        if !self.tray_filled(slots, args.slot, count, &mut frames) {
            return None;
        }
        // From here on nothing fails.
        let fresh = self.tray_fresh(turn, tray, count);
        let view = self.supplied_view(&open, (first, count));
        let shown = view.as_ref().map(|view| view.shown);
        let entered = self.tray_pass(turn, (tray, args.slot), (&frames, &fresh), shown);
        let from = (slots, args.slot.into());
        self.object_pass_pages(from, (object, first), (&frames, &fresh), shown);
        match open.record {
            None => {
                if let Some(dialogue) = &mut self.dialogue {
                    (dialogue.question, dialogue.last) = (None, None);
                }
            }
            Some((request, waiter)) => {
                self.waiter_served(waiter);
                self.request_end(request);
                if let Some(tray) = self.trays.get_mut(tray) {
                    tray.taken = tray.taken.saturating_sub(count);
                }
            }
        }
        self.stats.page_ins = self.stats.page_ins.saturating_add(count.into());
        if fresh.is_empty() {
            self.tray_emptied(tray, args.slot);
        }
        let credits = self.tray_credits(tray);
        if let Some(dialogue) = &mut self.dialogue {
            dialogue.credits = credits;
        }
        let answer = match view {
            Some(view) => self.answer_supplied(turn, (&view, entered), &frames),
            None => self.fault_supplied(turn, &fault),
        };
        if matches!(answer, Answer::Effects) {
            self.record_question();
            self.fault(turn, &fault);
        }
        Some(Supplied { fault, answer })
    }

    /// The open question, if this is the answer to all of it.
    #[inline(always)]
    fn open_question(&self, control: ControlId, range: (u64, u32)) -> Option<Open> {
        let dialogue = self.dialogue.as_ref()?;
        let question = dialogue.question.as_ref()?;
        let asked = (question.first, question.count) == range && question.said;
        if !asked || dialogue.control != Some(control) {
            return None;
        }
        Some(Open {
            fault: question.fault,
            object: dialogue.object,
            tray: dialogue.tray,
            link: Some(dialogue.link),
            record: None,
        })
    }

    /// What was asked, if there is a record of it, this is the answer to all of it, nothing before it has
    /// come, and nobody else is answered by the way.
    #[inline(never)]
    fn open_request(&self, control: ControlId, (first, count): (u64, u32)) -> Option<Open> {
        let id = self.pager_of_control(control).ok()?;
        let pager = self.pagers.get(id)?;
        let (object, tray) = (pager.object, pager.tray?);
        let Slot::Pending(index) = self.slot(object, first) else {
            return None;
        };
        let request = self.requests.at(index)?;
        let whole = request.first == first && request.count == count;
        let all = u64::MAX >> (64u32.wrapping_sub(count) & 63);
        let alone = pager.requests == index && self.requests.at(request.next).is_none();
        if !whole || request.missing != all || !alone || request.lookers != 1 {
            return None;
        }
        let waiter = request.waiting.first();
        let What::Fault {
            map,
            address,
            access,
            token,
        } = self.waiters.at(waiter)?.what
        else {
            return None;
        };
        Some(Open {
            fault: Fault {
                map,
                address,
                access,
                token,
            },
            object,
            tray,
            link: None,
            record: Some((index, waiter)),
        })
    }

    /// Zeroed frames for slots that are about to be emptied, if they are to be filled again at once: half
    /// of the tray would be empty, and there is memory for all of them. That is a third of the work of
    /// filling them later, since the slots are gone over once.
    fn tray_fresh<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        tray: TrayId,
        count: u32,
    ) -> Frames {
        let Some(record) = self.trays.get(tray).filter(|_| count > 1) else {
            return Frames::new();
        };
        let ready = self
            .objects
            .get(record.object)
            .map_or(0, |o| o.pages.pages());
        let plenty = ready.saturating_sub(count) > record.slots / 2;
        let dying = self.maps.get(record.map).is_none_or(|map| map.dying);
        let least = self.floor(Class::Pager).saturating_add(count);
        if plenty || dying || record.gone || self.pages.free() <= least {
            return Frames::new();
        }
        let mut frames = self.frames_zeroed(turn, Class::Pager, count);
        if frames.len() < count as usize {
            for frame in core::mem::take(&mut frames) {
                self.frame_free(frame);
            }
        }
        frames
    }

    /// Ends the pager's use of slots whose pages are about to move, shows it others in their places, if there are
    /// any, and the pages to who waits for them. Says whether these are all entered.
    fn tray_pass<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (tray, slot): (TrayId, u32),
        (frames, fresh): (&[Frame], &[Frame]),
        shown: Option<Shown>,
    ) -> bool {
        let (Some(record), Some(first)) = (self.trays.get(tray), self.tray_page(tray, slot)) else {
            return false;
        };
        let (map, object) = (record.map, record.object);
        let Some(record) = self.maps.get_mut(map) else {
            return false;
        };
        record.epoch = record.epoch.saturating_add(1);
        let entered = turn.machine.pass(&Pass {
            map,
            epoch: record.epoch,
            address: bytes_of(first),
            frames,
            fresh,
            shown,
        });
        let at = Some((map.index(), first));
        let pages = (object, slot.into());
        self.pages.pass_run(fresh, pages, at, Flags::DIRTY);
        entered
    }

    /// How a fault for one of the pages that come sees them, if it still shows them and only reads: those
    /// that lie in the same entry and page table, as far as an answer can carry them. One page alone is left
    /// to the common fault.
    fn supplied_view(&mut self, open: &Open, (first, count): (u64, u32)) -> Option<View> {
        let fault = &open.fault;
        let count = count as usize;
        let link = match open.link {
            _ if count == 1 => return None,
            Some(link) => link,
            None => self.map_lookup(fault.map, fault.address)?.0,
        };
        let entry = self.entries.at(link)?;
        let reads = entry.protection.contains(fault.access) && fault.access != Prot::WRITE;
        if entry.object != Some(open.object) || !reads {
            return None;
        }
        let address = trunc_page(fault.address);
        let place = page_of(entry.offset_of(address)).checked_sub(first)?;
        let place = usize::try_from(place).ok().filter(|place| *place < count)?;
        let table = address & !TABLE.wrapping_sub(1);
        let low = entry.start.max(table);
        let high = entry.end.min(table.wrapping_add(TABLE));
        let below = page_of(address.saturating_sub(low)).min(place as u64) as usize;
        let above = page_of(high.saturating_sub(address)) as usize;
        let from = place.saturating_sub(below);
        let to = place.saturating_add(above).min(count);
        let before = place.saturating_sub(from) as u64;
        Some(View {
            address,
            place,
            shown: Shown {
                map: fault.map,
                first: from as u32,
                count: to.saturating_sub(from) as u32,
                address: address.saturating_sub(bytes_of(before)),
                protection: entry.protection.difference(Prot::WRITE),
            },
        })
    }

    /// The answer to a fault as if it came now. Out of line, so that the common fault has its own.
    #[inline(never)]
    fn fault_supplied<M: Machine>(&mut self, turn: &mut Turn<'_, M>, fault: &Fault) -> Answer {
        let enter = self.fault_now(turn, (fault.map, fault.address), fault.access);
        enter.map_or(Answer::Effects, Answer::Enter)
    }

    /// The answer to a fault that sees pages that have come. Where not all are entered it enters its own.
    fn answer_supplied<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (view, entered): (&View, bool),
        frames: &[Frame],
    ) -> Answer {
        turn.effects.beside.count = 0;
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        let epoch = self.maps.get(view.shown.map).map(|map| map.epoch);
        match (epoch, frames.get(view.place)) {
            (Some(epoch), Some(frame)) if !entered => Answer::Enter(translation::Enter {
                address: view.address,
                frame: frame.0,
                protection: view.shown.protection,
                uncached: false,
                epoch,
            }),
            _ => Answer::Entered,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use ipc_abi::layout::PAGE_SIZE;
    use ipc_abi::types::Prot;
    use ipc_protocol::memory_object::{MemoryObjectDataRequest, Request as ToPager};
    use ipc_protocol::memory_object_control::{MemoryObjectDataSupply, Request as ToServer};

    use crate::event::{Event, MapId, NO_RIGHTS, RightId};
    use crate::range::page_of;
    use crate::sim::{Pager, Touch, World};

    const PORT: RightId = RightId(7);

    /// A client that has read the first two pages of an object, and waits for the third.
    fn waiting() -> (World, Pager, MapId, u64, crate::event::Token) {
        let mut world = World::new(512);
        let mut pager = Pager::new(&mut world, PORT, 32, vec![1; 64 * PAGE_SIZE as usize]);
        pager.ready.cluster_pages = 16;
        let client = world.map();
        let base = world.map_object(client, PORT, 64 * PAGE_SIZE);
        for page in 0..2 {
            world.touch(client, base + page * PAGE_SIZE, Prot::READ);
            pager.settle(&mut world);
        }
        let at = base + 2 * PAGE_SIZE;
        match world.touch(client, at, Prot::READ) {
            Touch::Waits(token) => (world, pager, client, base, token),
            other => panic!("{other:?}"),
        }
    }

    fn asked(world: &mut World) -> Vec<MemoryObjectDataRequest> {
        let said = world.said_to(PORT).into_iter();
        let asked = said.filter_map(|message| match message.wording {
            ToPager::MemoryObjectDataRequest(request) => Some(request),
            _ => None,
        });
        asked.collect()
    }

    /// Writes slots and supplies them in one message.
    fn supply(world: &mut World, pager: &mut Pager, offset: u64, count: u32) {
        let slot = pager.slot;
        for place in 0..count {
            let address = pager.tray.1 + u64::from(slot + place) * PAGE_SIZE;
            let bytes = vec![0x40 + place as u8; PAGE_SIZE as usize];
            assert_eq!(world.write(pager.map, address, &bytes), Ok(()));
        }
        let supply = MemoryObjectDataSupply {
            offset,
            slot,
            count,
            lock_value: 0,
            precious: false,
        };
        let said = pager.say(world, ToServer::MemoryObjectDataSupply(supply), NO_RIGHTS);
        assert!(matches!(said, Some(Ok(_))), "{said:?}");
        pager.slot = slot + count;
    }

    fn shown(world: &World, map: MapId, base: u64) -> Vec<u64> {
        let pages = &world.machine.spaces[&map.to_word()].pages;
        pages.keys().map(|page| page - page_of(base)).collect()
    }

    #[test]
    fn what_comes_together_is_entered_together_and_leaves_the_slots() {
        let (mut world, mut pager, client, base, token) = waiting();
        let [request] = asked(&mut world)[..] else {
            panic!("one request");
        };
        let two = (2 * PAGE_SIZE, 2 * PAGE_SIZE);
        assert_eq!(
            (request.offset, request.length),
            two,
            "it ends where two do"
        );
        supply(&mut world, &mut pager, request.offset, 2);
        assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
        assert_eq!(shown(&world, client, base), [0, 1, 2, 3]);
        let mut byte = [0];
        let second = base + 3 * PAGE_SIZE;
        assert_eq!(world.read(client, second, &mut byte), Ok(()));
        assert_eq!(byte, [0x41]);
        let slots = world.machine.spaces[&pager.map.to_word()].pages.len();
        assert!(slots <= 32 - 2, "the pager still maps {slots} slots");
    }

    /// A client reads 30 pages in order, of a pager with 8 slots that brings up to 4 at a time. What each
    /// page shows, what the slots show at last, frames that are left, and steps that it took.
    fn read_in_order(slowly: bool) -> (Vec<u8>, Vec<u8>, u32, u32) {
        let mut world = World::new(512);
        world.core.slowly = slowly;
        let mut pager = Pager::new(&mut world, PORT, 8, vec![1; 64 * PAGE_SIZE as usize]);
        pager.ready.cluster_pages = 4;
        let client = world.map();
        let base = world.map_object(client, PORT, 64 * PAGE_SIZE);
        pager.settle(&mut world);
        let (mut read, mut steps) = (Vec::new(), 0);
        for page in 0..30 {
            let at = base + page * PAGE_SIZE;
            if let Touch::Waits(token) = world.touch(client, at, Prot::READ) {
                for request in asked(&mut world) {
                    let count = (request.length / PAGE_SIZE) as u32;
                    if pager.slot + count > 8 {
                        pager.slot = 0;
                    }
                    supply(&mut world, &mut pager, request.offset, count);
                }
                assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
                while world.core.wants_step() {
                    world.event(Event::Step);
                    steps += 1;
                }
            }
            let mut byte = [0];
            assert_eq!(world.read(client, at, &mut byte), Ok(()));
            read.push(byte[0]);
        }
        let slots = (0..8).map(|slot| {
            let mut byte = [7];
            let address = pager.tray.1 + slot * PAGE_SIZE;
            assert_eq!(world.read(pager.map, address, &mut byte), Ok(()));
            byte[0]
        });
        let slots = slots.collect();
        (read, slots, world.core.free_frames(), steps)
    }

    #[test]
    fn slots_that_would_have_to_be_filled_soon_get_other_pages_at_once() {
        let (read, slots, frames, steps) = read_in_order(false);
        assert_eq!(read[4..8], [0x40, 0x41, 0x42, 0x43]);
        assert_eq!(slots, [0; 8], "nothing of what was supplied is left");
        let general = read_in_order(true);
        assert_eq!((&read, &slots, frames), (&general.0, &general.1, general.2));
        assert!(steps < 3 && general.3 > 4, "{steps} and {}", general.3);
    }

    #[test]
    fn a_supply_that_is_not_what_was_asked_for_goes_the_general_way() {
        let (mut world, mut pager, client, base, token) = waiting();
        assert_eq!(asked(&mut world).len(), 1);
        // Less than was asked for, then what it left out and one more.
        supply(&mut world, &mut pager, 2 * PAGE_SIZE, 1);
        assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
        supply(&mut world, &mut pager, 3 * PAGE_SIZE, 2);
        let touched = world.touch(client, base + 4 * PAGE_SIZE, Prot::READ);
        assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
        world.settle();
    }
}
