//! What a pass leaves of two spaces, compared with maps of pages.

use std::collections::BTreeMap;
use std::vec::Vec;

use ipc_abi::layout::{PAGE_SIZE, USER_MAX};
use ipc_abi::pass::{FRESH, Pass};
use ipc_abi::translation::{FRAME_LIMIT, SKIPPED};
use proptest::prelude::*;

use super::*;
use crate::paging::{Passed, Passing};

/// Slots from here on lie in two page tables.
const SLOTS: u64 = (1 << 30) - 4 * PAGE_SIZE;
/// Where pages are shown: a page table that is there, and one that is not.
const SHOWN: [u64; 2] = [1 << 31, 1 << 32];
const COUNT: usize = 8;
/// A frame of another server, and one that cannot be.
const FOREIGN: u32 = FRAMES;
const NONE: [u32; 2] = [FRAME_LIMIT, SKIPPED];

/// Frames by address.
type Flat = BTreeMap<u64, u32>;

/// The first two slots, both to be shown.
const TWO_PAGES: Pass = Pass {
    from: 1,
    to: 2,
    address: SLOTS,
    count: 2,
    fresh: false,
    epoch: 1,
    first: 0,
    shown: 2,
    at: SHOWN[0],
    rights: Prot::READ,
};

struct Two {
    world: World,
    client: Space,
    slots: Flat,
    shown: Flat,
}

impl Two {
    fn new(slots: &[Option<u32>], shown: &[Option<u32>]) -> Two {
        let mut world = World::new(20);
        world.records.push(FrameRecord::new());
        let foreign = Frame::new(FOREIGN).unwrap();
        world.owners().place(foreign, OwnerId::KERNEL);
        let root = world.store.allocate().unwrap();
        let mut two = Two {
            world,
            client: Space::new(root, SERVER, u32::MAX),
            slots: Flat::new(),
            shown: Flat::new(),
        };
        for (frame, place) in slots.iter().zip(0u64..) {
            if let Some(frame) = *frame {
                let address = SLOTS + place * PAGE_SIZE;
                two.world.enter(address, frame, Prot::DEFAULT).unwrap();
                two.slots.insert(address, frame);
            }
        }
        // One more that is not among those that are shown, for the sake of the page table.
        let entered = shown.iter().copied().chain([Some(0)]);
        for (frame, place) in entered.zip(0u64..) {
            if let Some(frame) = frame {
                let address = SHOWN[0] + place * PAGE_SIZE;
                core::mem::swap(&mut two.world.space, &mut two.client);
                two.world.enter(address, frame, Prot::READ).unwrap();
                core::mem::swap(&mut two.world.space, &mut two.client);
                two.shown.insert(address, frame);
            }
        }
        two
    }

    /// Carries a pass out as the shell does; what has to be flushed is so before anything is shown.
    fn pass(&mut self, pass: Pass, body: &Body) -> u32 {
        let passing = Passing::new(pass.to_words()).unwrap();
        let World {
            space,
            store,
            records,
            account,
        } = &mut self.world;
        let owners = Owners::new(records);
        let before = self.slots.clone();
        let mut passed = Passed::NONE;
        passing.withdraw(space, (store, &owners), account, body, &mut passed);
        let root = space.root();
        for (address, frame) in before {
            let page = UserAddr::new(address).unwrap();
            let now = walk::translate(store, root, page).map(|(entry, _)| entry.frame().number());
            let flushed = account.covers(root) || account.pages().any(|at| at == (root, page));
            assert!(
                flushed || now == Some(frame),
                "a page is gone without a flush"
            );
        }
        account.settle(store, &owners);
        let entered = passing.show(&self.client, store, &owners, &mut passed);
        passed.settle(&owners);
        entered
    }

    /// What the pass is to do, by the words of the ABI. Gives how many are shown.
    fn expect(&mut self, pass: Pass, frames: &[u32], fresh: &[u32]) -> u32 {
        let mut entered = 0;
        for place in 0..pass.count {
            let at = pass.address + u64::from(place) * PAGE_SIZE;
            let frame = frames[place as usize];
            if pass.fresh {
                self.slots.remove(&at);
                let fresh = fresh[place as usize];
                // Only where there is a page table, which all slots have.
                if fresh < FOREIGN {
                    self.slots.insert(at, fresh);
                }
            } else if self.slots.get(&at) == Some(&frame) {
                self.slots.remove(&at);
            }
            let nth = place.wrapping_sub(pass.first);
            let at = pass.at + u64::from(nth) * PAGE_SIZE;
            let vacant = pass.at < SHOWN[1] && !self.shown.contains_key(&at);
            if nth < pass.shown && vacant && frame < FOREIGN {
                self.shown.insert(at, frame);
                entered += 1;
            }
        }
        entered
    }

    fn compare(&self) {
        let of = |space: &Space, first: u64, flat: &Flat| {
            for place in 0..=COUNT as u64 {
                let address = first + place * PAGE_SIZE;
                let page = UserAddr::new(address).unwrap();
                let found = walk::translate(&self.world.store, space.root(), page);
                let found = found.map(|(entry, _)| entry.frame().number());
                assert_eq!(found, flat.get(&address).copied(), "{address:#x}");
            }
        };
        of(&self.world.space, SLOTS, &self.slots);
        of(&self.client, SHOWN[0], &self.shown);
        for frame in 0..FRAMES {
            let mapped = self.slots.values().chain(self.shown.values());
            let mapped = mapped.filter(|at| **at == frame).count();
            assert_eq!(self.world.count(frame) as usize, mapped, "frame {frame}");
        }
    }
}

fn body(frames: &[u32], fresh: &[u32]) -> Body {
    let mut body = Body(std::vec![0; BODY_SIZE]);
    for (place, (frame, other)) in frames.iter().zip(fresh).enumerate() {
        body.store32(4 * place, *frame);
        body.store32(FRESH + 4 * place, *other);
    }
    body
}

/// A frame, most often one of few.
fn frame() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 1..FRAMES, 1 => Just(FOREIGN), 1 => prop::sample::select(&NONE[..])]
}

fn mapped() -> impl Strategy<Value = Vec<Option<u32>>> {
    prop::collection::vec(prop::option::weighted(0.8, 1..FRAMES), COUNT)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn pages_are_passed_as_a_map_of_pages_says(
        slots in mapped(),
        there in prop::collection::vec(prop::option::weighted(0.2, 1..FRAMES), COUNT),
        others in prop::collection::vec((frame(), any::<prop::sample::Index>()), COUNT),
        fresh in prop::collection::vec(frame(), COUNT),
        (exchanges, table, known) in (any::<bool>(), 0usize..2, any::<bool>()),
        (from, count) in (0usize..COUNT, 1usize..=COUNT),
        (first, shown, at) in (0usize..COUNT, 0usize..=COUNT, 0usize..COUNT),
    ) {
        let count = count.min(COUNT - from);
        let shown = shown.min(count.saturating_sub(first)).min(COUNT - at);
        // What the slots hold, or mostly so.
        let frames: Vec<u32> = (0..count).map(|place| match slots[from + place] {
            Some(frame) if known || others[place].1.index(4) > 0 => frame,
            _ => others[place].0,
        }).collect();
        let mut two = Two::new(&slots, &there);
        let pass = Pass {
            from: 1,
            to: 2,
            address: SLOTS + from as u64 * PAGE_SIZE,
            count: count as u32,
            fresh: exchanges,
            epoch: 9,
            first: if shown == 0 { 0 } else { first as u32 },
            shown: shown as u32,
            at: SHOWN[table] + at as u64 * PAGE_SIZE,
            rights: Prot::READ,
        };
        let has_tables = [SLOTS, SLOTS + 4 * PAGE_SIZE].map(|half| {
            let page = UserAddr::new(half).unwrap();
            walk::open(&two.world.store, two.world.space.root(), page, Prot::READ).is_some()
        });
        prop_assume!(has_tables == [true, true]);
        let words = body(&frames, &fresh);
        let entered = two.pass(pass, &words);
        prop_assert_eq!(entered, two.expect(pass, &frames, &fresh));
        prop_assert_eq!(two.world.space.epoch(), 9);
        two.compare();
    }
}

#[test]
fn what_no_task_can_map_is_not_passed() {
    let pass = TWO_PAGES;
    let new = |pass: Pass| Passing::new(pass.to_words()).map(|passing| passing.to());
    assert_eq!(new(pass), Ok(Some(2)));
    assert_eq!(new(Pass { shown: 0, ..pass }), Ok(None));
    for pass in [
        Pass { address: 0, ..pass },
        Pass {
            address: USER_MAX - PAGE_SIZE,
            ..pass
        },
        Pass {
            at: USER_MAX,
            ..pass
        },
    ] {
        assert_eq!(new(pass), Err(Kern::InvalidAddress), "{pass:?}");
    }
    assert_eq!(new(Pass { count: 0, ..pass }), Err(Kern::InvalidArgument));
}

#[test]
fn what_the_kernel_owns_is_taken_out_but_shown_to_nobody() {
    let mut two = Two::new(&[Some(5)], &[None; COUNT]);
    let World {
        space,
        store,
        records,
        account,
    } = &mut two.world;
    let owners = Owners::new(records);
    let kernel = Frame::new(FOREIGN).unwrap();
    let page = UserAddr::new(SLOTS + PAGE_SIZE).unwrap();
    let entered = (page, kernel, Prot::DEFAULT);
    super::super::enter_kernel_page(space, store, &owners, account, entered).unwrap();
    two.world.settle();
    two.slots.insert(SLOTS + PAGE_SIZE, FOREIGN);
    let pass = Pass {
        rights: Prot::DEFAULT,
        ..TWO_PAGES
    };
    assert_eq!(two.pass(pass, &body(&[5, FOREIGN], &[0, 0])), 1);
    assert_eq!(two.expect(pass, &[5, FOREIGN], &[]), 1);
    two.compare();
    assert_eq!(two.world.count(FOREIGN), 0, "it was counted in its place");
}
