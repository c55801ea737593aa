//! The rules of the memory_object protocol, each as a conversation (rules 149 to 180).

extern crate std;

mod locks;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot, Return};
use ipc_protocol::memory_object::{MemoryObjectDataReturn, Request as ToPager};
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_COPY_TEMPORARY, MEMORY_OBJECT_DATA_FLUSH, MemoryObjectChangeAttributes,
    MemoryObjectDataSupply, MemoryObjectDataWritten, MemoryObjectGetAttributes,
    MemoryObjectGetAttributesReply, MemoryObjectLockRequest, Reply as Said, Request as ToServer, VM_PROT_NO_CHANGE,
};

use crate::call::{Call, Message, Reply};
use crate::effect::Answer;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PORT: RightId = RightId(70);
const PAGES: u64 = 8;

/// A client that maps a pager's object of [`PAGES`] pages, of which page `n` holds `n + 1`.
struct Cast {
    world: World,
    pager: Pager,
    map: MapId,
    at: u64,
}

fn cast(prepare: impl Fn(&mut Pager)) -> Cast {
    let mut world = World::new(512);
    let data = (0..PAGES * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let mut pager = Pager::new(&mut world, PORT, 32, data);
    prepare(&mut pager);
    let map = world.map();
    let at = world.map_object(map, PORT, PAGES * PAGE);
    pager.settle(&mut world);
    Cast {
        world,
        pager,
        map,
        at,
    }
}

impl Cast {
    fn settle(&mut self) {
        self.pager.settle(&mut self.world);
    }

    fn touch(&mut self, page: u64, access: Prot) -> Touch {
        let (pager, at) = (&mut self.pager, self.at + page * PAGE);
        let serve = |world: &mut World| pager.settle(world);
        self.world.touch_served(self.map, at, access, serve)
    }

    fn read(&mut self, page: u64) -> u8 {
        let touched = self.touch(page, Prot::READ);
        assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
        self.world.byte(self.map, self.at + page * PAGE)
    }

    fn write(&mut self, page: u64, byte: u8) {
        let touched = self.touch(page, Prot::WRITE);
        assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
        self.world
            .write(self.map, self.at + page * PAGE, &[byte])
            .unwrap();
    }

    fn say(&mut self, request: ToServer) -> Option<Answer> {
        let answer = self.pager.say(&mut self.world, request, NO_RIGHTS);
        self.settle();
        answer
    }

    fn lock(&mut self, (first, pages): (u64, u64), returns: Return, flags: u32, lock: u32) {
        let answer = self.say(ToServer::MemoryObjectLockRequest(MemoryObjectLockRequest {
            offset: first * PAGE,
            size: pages * PAGE,
            should_return: returns as u32,
            flags,
            lock_value: lock,
            request: 9,
        }));
        assert!(!matches!(answer, Some(Err(_))), "{answer:?}");
    }

    /// What the pager heard and did not answer.
    fn heard(&mut self) -> Vec<ToPager> {
        self.pager.inbox.drain(..).collect()
    }

    /// The returns that the pager heard and did not answer, and how many completions.
    fn returns(&mut self) -> (Vec<MemoryObjectDataReturn>, usize) {
        let mut returns = vec![];
        let mut completed = 0;
        for heard in self.heard() {
            match heard {
                ToPager::MemoryObjectDataReturn(lent) => {
                    assert_eq!(completed, 0, "a return after the completion");
                    returns.push(lent);
                }
                ToPager::MemoryObjectLockCompleted(_) => completed += 1,
                other => panic!("{other:?}"),
            }
        }
        (returns, completed)
    }

    fn stored(&mut self, lent: MemoryObjectDataReturn) {
        let written = MemoryObjectDataWritten {
            txn: lent.txn,
            result: 0,
        };
        self.say(ToServer::MemoryObjectDataWritten(written));
    }

    fn attributes(&mut self) -> MemoryObjectGetAttributesReply {
        let asked = ToServer::MemoryObjectGetAttributes(MemoryObjectGetAttributes {});
        match self.say(asked) {
            Some(Ok(Reply {
                message: Message::Control(Said::MemoryObjectGetAttributes(reply)),
                ..
            })) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, may_cache: bool, copy_strategy: u32) -> Option<Answer> {
        self.say(ToServer::MemoryObjectChangeAttributes(
            MemoryObjectChangeAttributes {
                may_cache,
                copy_strategy,
                request: 4,
            },
        ))
    }

    fn unmap(&mut self) {
        self.world.deallocate(self.map, self.at, PAGES * PAGE);
        self.settle();
    }
}

const FLUSH: u32 = MEMORY_OBJECT_DATA_FLUSH;
const KEEP: u32 = VM_PROT_NO_CHANGE;

#[test]
fn r151_nothing_but_init_is_said_before_ready() {
    let mut world = World::new(256);
    let pager = Pager::new(&mut world, PORT, 8, vec![1; PAGE as usize]);
    let map = world.map();
    let at = world.map_object(map, PORT, PAGE);
    assert!(matches!(world.touch(map, at, Prot::READ), Touch::Waits(_)));
    let again = world.map_object(map, PORT, PAGE);
    assert!(matches!(
        world.touch(map, again, Prot::WRITE),
        Touch::Waits(_)
    ));
    world.settle();
    let said = world.said_to(PORT);
    assert!(
        matches!(said[..], [talk] if matches!(talk.wording, ToPager::MemoryObjectInit(_))),
        "{said:?}"
    );
    assert!(world.said_to(PORT).is_empty(), "once");
    drop(pager);
}

#[test]
fn r152_a_fault_that_copies_asks_for_reading_and_any_other_for_what_it_does() {
    let mut cast = cast(|_| {});
    let asked = |cast: &mut Cast, map, at, access| {
        let Touch::Waits(_) = cast.world.touch(map, at, access) else {
            panic!("it was there");
        };
        let said = cast.world.said_to(PORT);
        match said[..] {
            [talk] => match talk.wording {
                ToPager::MemoryObjectDataRequest(wanted) => (
                    wanted.offset / PAGE,
                    Prot::from_bits_truncate(wanted.access as u8),
                ),
                other => panic!("{other:?}"),
            },
            _ => panic!("{said:?}"),
        }
    };
    let (map, at) = (cast.map, cast.at);
    assert_eq!(asked(&mut cast, map, at, Prot::READ), (0, Prot::READ));
    let write = asked(&mut cast, map, at + PAGE, Prot::WRITE);
    assert_eq!(write, (1, Prot::WRITE));
    let to = cast.world.allocate(map, PAGES * PAGE);
    cast.world.copy(map, at, to, PAGES * PAGE);
    let copied = asked(&mut cast, map, to + 2 * PAGE, Prot::WRITE);
    assert_eq!(copied, (2, Prot::READ));
}

#[test]
fn r158_a_supply_that_makes_no_sense_moves_nothing() {
    let mut cast = cast(|_| {});
    let good = MemoryObjectDataSupply {
        offset: 0,
        slot: 0,
        count: 1,
        lock_value: 0,
        precious: false,
    };
    let slots = cast.pager.tray.2;
    for bad in [
        MemoryObjectDataSupply { offset: 1, ..good },
        MemoryObjectDataSupply {
            offset: 0u64.wrapping_sub(PAGE),
            count: 2,
            ..good
        },
        MemoryObjectDataSupply { count: 0, ..good },
        MemoryObjectDataSupply { count: 65, ..good },
        MemoryObjectDataSupply {
            slot: slots,
            ..good
        },
        MemoryObjectDataSupply {
            slot: u32::MAX,
            ..good
        },
        MemoryObjectDataSupply {
            lock_value: 8,
            ..good
        },
        MemoryObjectDataSupply {
            lock_value: u32::MAX,
            ..good
        },
    ] {
        let said = cast.say(ToServer::MemoryObjectDataSupply(bad));
        assert_eq!(said, Some(Err(Kern::InvalidArgument)), "{bad:?}");
    }
    assert_eq!(cast.world.core.stats.page_ins, 0);
    assert!(matches!(
        cast.say(ToServer::MemoryObjectDataSupply(good)),
        Some(Ok(_))
    ));
}

#[test]
fn r173_a_change_is_completed_after_the_end_that_it_causes() {
    let mut cast = cast(|pager| pager.ready.may_cache = true);
    cast.write(0, 80);
    cast.change(true, CopyStrategy::None as u32);
    let heard = cast.heard();
    assert!(
        matches!(heard[..], [ToPager::MemoryObjectChangeCompleted(c)]
            if c.may_cache && c.copy_strategy == 0 && c.request == 4),
        "{heard:?}"
    );
    cast.unmap();
    assert!(cast.heard().is_empty(), "R149: it is cached");
    cast.change(false, CopyStrategy::Delay as u32);
    let heard = cast.heard();
    assert!(
        matches!(
            heard[..],
            [
                ToPager::MemoryObjectTerminate(_),
                ToPager::MemoryObjectChangeCompleted(_)
            ]
        ),
        "{heard:?}"
    );
    assert_eq!(cast.pager.data[0], 80, "R178: it came back first");
    let census = cast.world.core.census();
    assert_eq!((census.pagers, census.controls), (0, 0));
}

#[test]
fn r1_r4_strategies_are_remembered_and_temporary_is_none() {
    let mut cast = cast(|_| {});
    assert_eq!(cast.attributes().copy_strategy, CopyStrategy::Delay as u32);
    for strategy in [0, 1, 2, 4] {
        assert!(matches!(cast.change(false, strategy), Some(Ok(_))));
        assert_eq!(cast.attributes().copy_strategy, strategy);
    }
    cast.change(false, CopyStrategy::None as u32);
    cast.change(false, MEMORY_OBJECT_COPY_TEMPORARY);
    let told = cast.attributes();
    assert_eq!(told.copy_strategy, CopyStrategy::None as u32);
    assert!(told.ready && !told.may_cache);
    for strategy in [5, 6, u32::MAX] {
        let said = cast.change(false, strategy);
        assert_eq!(said, Some(Err(Kern::InvalidArgument)));
    }
    // A temporary object is copied like anonymous memory that is shared, and does not come back.
    cast.write(0, 90);
    let to = cast.world.allocate(cast.map, PAGE);
    let (map, at) = (cast.map, cast.at);
    let before = cast.world.core.stats.pages_copied;
    cast.world.copy(map, at, to, PAGE);
    assert_eq!(cast.world.core.stats.pages_copied, before, "R12");
    cast.write(0, 91);
    assert_eq!(cast.world.byte(map, to), 90);
    cast.world.deallocate(map, to, PAGE);
    cast.heard();
    cast.unmap();
    let heard = cast.heard();
    assert!(
        matches!(heard[..], [ToPager::MemoryObjectTerminate(_)]),
        "{heard:?}"
    );
    assert_eq!(cast.pager.data[0], 1);
    assert!(cast.world.reports.is_empty(), "nobody expected it back");
}

#[test]
fn r150_a_cached_object_without_pages_ends_at_once() {
    let mut cast = cast(|pager| pager.ready.may_cache = true);
    cast.unmap();
    let heard = cast.heard();
    assert!(
        matches!(heard[..], [ToPager::MemoryObjectTerminate(_)]),
        "{heard:?}"
    );
}

#[test]
fn r179_precious_pages_come_back_though_they_are_clean() {
    let mut cast = cast(|pager| pager.supply = (Prot::NONE, true));
    cast.read(0);
    cast.read(5);
    cast.pager.stores = false;
    cast.unmap();
    let (lent, _) = cast.returns();
    let pages: Vec<_> = lent.iter().map(|r| (r.offset / PAGE, r.dirty)).collect();
    assert_eq!(pages, [(0, false), (5, false)]);
    for lent in lent {
        assert!(!lent.kernel_copy);
        cast.stored(lent);
    }
    assert!(matches!(
        cast.heard()[..],
        [ToPager::MemoryObjectTerminate(_)]
    ));
}

#[test]
fn a7_a_flush_gives_the_copy_its_pages_first_unless_it_changes_nothing() {
    let no_change = ipc_protocol::memory_object_control::MEMORY_OBJECT_DATA_NO_CHANGE;
    for (flags, expected) in [(FLUSH, 1), (FLUSH | no_change, 60)] {
        let mut cast = cast(|_| {});
        cast.read(0);
        let (map, at) = (cast.map, cast.at);
        let to = cast.world.allocate(map, PAGE);
        cast.world.copy(map, at, to, PAGE);
        // The pager's data changes, and it says so.
        cast.pager.data[0] = 60;
        cast.lock((0, 1), Return::None, flags, KEEP);
        assert_eq!(cast.read(0), 60);
        if let Touch::Waits(_) = cast.world.touch(map, to, Prot::READ) {
            cast.settle();
        }
        assert_eq!(cast.world.byte(map, to), expected);
    }
}
