//! Loans through a tray: each page on loan shows in one slot until the pager says what became of it, in
//! whatever order it does; nothing shows in the others; and at the end a page is as clean as the
//! pager said, unless it was written again.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Return;
use ipc_protocol::memory_object::{MemoryObjectDataReturn, Request as ToPager};
use ipc_protocol::memory_object_control::{
    MemoryObjectDataWritten, MemoryObjectLockRequest, Request as ToServer, VM_PROT_NO_CHANGE,
};
use random::Random;

use crate::event::{Event, MapId, NO_RIGHTS, RightId};
use crate::object::page::{Flags, Frame};
use crate::object::pages::Slot;
use crate::sim::{Pager, World};

const PORT: RightId = RightId(70);
const PAGES: u64 = 24;

struct Cast {
    world: World,
    pager: Pager,
    map: MapId,
    at: u64,
    /// Pages that were written since the pager stored them.
    dirty: BTreeSet<u64>,
    /// Loans, and whether each of their pages was not written since.
    lent: BTreeMap<u64, MemoryObjectDataReturn>,
    unchanged: BTreeMap<u64, BTreeSet<u64>>,
}

impl Cast {
    fn new(slots: u32) -> Cast {
        let mut world = World::new(512);
        let data = vec![1; (PAGES * PAGE_SIZE) as usize];
        let mut pager = Pager::new(&mut world, PORT, slots, data);
        pager.stores = false;
        let map = world.map();
        let at = world.map_object(map, PORT, PAGES * PAGE_SIZE);
        pager.settle(&mut world);
        let mut cast = Cast {
            world,
            pager,
            map,
            at,
            dirty: BTreeSet::new(),
            lent: BTreeMap::new(),
            unchanged: BTreeMap::new(),
        };
        for page in 0..PAGES {
            cast.touch(page, None);
        }
        cast
    }

    /// Reads or writes a page, with the pager's help.
    fn touch(&mut self, page: u64, value: Option<u8>) {
        for _ in 0..8 {
            let address = self.at + page * PAGE_SIZE;
            let done = match value {
                None => self.world.read(self.map, address, &mut [0]),
                Some(value) => self.world.write(self.map, address, &[value]),
            };
            match done {
                Ok(()) => {
                    if value.is_some() {
                        self.dirty.insert(page);
                        self.unchanged.values_mut().for_each(|pages| {
                            pages.remove(&page);
                        });
                    }
                    return;
                }
                Err(None) => self.pager.settle(&mut self.world),
                Err(Some(code)) => panic!("page {page}: {code:?}"),
            }
        }
        panic!("page {page} never comes");
    }

    /// Asks for written pages of a range.
    fn clean(&mut self, first: u64, count: u64) {
        let request = MemoryObjectLockRequest {
            offset: first * PAGE_SIZE,
            size: count * PAGE_SIZE,
            should_return: Return::Dirty as u32,
            flags: 0,
            lock_value: VM_PROT_NO_CHANGE,
            request: 1,
        };
        let said = ToServer::MemoryObjectLockRequest(request);
        self.pager.say(&mut self.world, said, NO_RIGHTS);
        self.listen();
    }

    fn listen(&mut self) {
        self.pager.settle(&mut self.world);
        for said in std::mem::take(&mut self.pager.inbox) {
            if let ToPager::MemoryObjectDataReturn(lent) = said {
                let first = lent.offset / PAGE_SIZE;
                let pages: BTreeSet<u64> = (first..first + u64::from(lent.count)).collect();
                assert!(pages.is_subset(&self.dirty), "{lent:?} was not written");
                self.unchanged.insert(lent.txn, pages);
                assert!(self.lent.insert(lent.txn, lent).is_none());
            }
        }
    }

    /// The pager says what became of a loan.
    fn written(&mut self, txn: u64, stored: bool) {
        self.lent.remove(&txn);
        let unchanged = self.unchanged.remove(&txn).unwrap();
        if stored {
            self.dirty.retain(|page| !unchanged.contains(page));
        }
        let said = MemoryObjectDataWritten {
            txn,
            result: if stored { 0 } else { 5 },
        };
        let said = ToServer::MemoryObjectDataWritten(said);
        self.pager.say(&mut self.world, said, NO_RIGHTS);
        self.listen();
    }

    /// Each slot for lending shows a page of its loan, or nothing.
    fn compare(&self) {
        let core = &self.world.core;
        let tray = core.trays.get(self.pager.tray.0).unwrap();
        let mut shown: BTreeMap<u32, Frame> = BTreeMap::new();
        for slot in tray.slots..tray.total {
            if let Some(frame) = core.tray_shown(self.pager.tray.0, slot) {
                shown.insert(slot, frame);
            }
        }
        let frames: BTreeSet<Frame> = shown.values().copied().collect();
        assert_eq!(frames.len(), shown.len(), "a page shows twice");
        let lent: Vec<u32> = self
            .lent
            .values()
            .flat_map(|lent| lent.slot..lent.slot + lent.count)
            .collect();
        let slots: BTreeSet<u32> = lent.iter().copied().collect();
        assert_eq!(slots.len(), lent.len(), "a slot is lent twice");
        assert_eq!(slots, shown.keys().copied().collect());
        assert_eq!(core.loans.len() as usize, self.lent.len());
        let free = core.tray_empty_slots(self.pager.tray.0, u32::MAX);
        assert_eq!(
            free.is_none(),
            slots.len() as u32 == tray.total - tray.slots
        );
        assert!(free.is_none_or(|(first, count)| {
            (first..first + count).all(|slot| !slots.contains(&slot))
        }));
    }

    fn dirty_pages(&self) -> BTreeSet<u64> {
        let core = &self.world.core;
        let pager = core.pagers.iter().next().unwrap().1;
        (0..PAGES)
            .filter(|page| match core.slot(pager.object, *page) {
                Slot::Page(frame) => {
                    let page = core.pages.get(frame).unwrap();
                    page.flags.contains(Flags::DIRTY)
                }
                _ => false,
            })
            .collect()
    }
}

#[test]
fn loans_end_in_any_order_and_leave_what_the_pager_said() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut cast = Cast::new(4 + random.below(40) as u32);
        for _ in 0..150 {
            let page = random.below(PAGES);
            match random.below(4) {
                0 => cast.touch(page, None),
                1 => cast.touch(page, Some(random.below(256) as u8)),
                2 => cast.clean(page, 1 + random.below(PAGES - page)),
                _ => {
                    let open: Vec<u64> = cast.lent.keys().copied().collect();
                    if let Some(txn) = random.pick(&open) {
                        cast.written(txn, !random.once_in(3));
                    }
                }
            }
            cast.compare();
        }
        while let Some(txn) = cast.lent.keys().next().copied() {
            cast.written(txn, true);
            cast.compare();
        }
        assert_eq!(cast.dirty_pages(), cast.dirty, "seed {seed}");
        cast.world.event(Event::Idle);
    }
}
