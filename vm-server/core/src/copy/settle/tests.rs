//! A settled copy needs nobody, and settling one ends in time.

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::copy::{CopyDescribe, CopySettle, Reply as Said, Request};
use ipc_protocol::vm_map;

use crate::call::{Call, Message, Reply};
use crate::copy::CopyId;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PORT: RightId = RightId(70);
const PAGES: u64 = 100;
const SECOND: u64 = 1_000_000_000;

struct Cast {
    world: World,
    pager: Pager,
    map: MapId,
    at: u64,
}

/// A client with anonymous memory of 200s, and then memory of a pager.
fn cast() -> Cast {
    let mut world = World::new(1024);
    world.check_every = 4;
    let data: Vec<u8> = (0..PAGES * PAGE).map(|at| (at / PAGE) as u8).collect();
    let mut pager = Pager::new(&mut world, PORT, 16, data);
    pager.ready.copy_strategy = CopyStrategy::Delay as u32;
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.write(map, at, &[200]).unwrap();
    world.write(map, at + PAGE, &[200]).unwrap();
    let file = world.map_object(map, PORT, PAGES * PAGE);
    assert_eq!(file, at + 2 * PAGE);
    pager.settle(&mut world);
    Cast {
        world,
        pager,
        map,
        at,
    }
}

impl Cast {
    fn copyin(&mut self) -> CopyId {
        let request = vm_map::Request::VmCopyin(vm_map::VmCopyin {
            address: self.at,
            size: (PAGES + 2) * PAGE,
            src_destroy: false,
        });
        match self.world.call(self.map, request, NO_RIGHTS) {
            Ok(Reply {
                right: Some(PortOf::Copy(copy)),
                ..
            }) => copy,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, copy: CopyId, request: Request) -> Token {
        self.world.send(Call::Copy(copy, request), NO_RIGHTS)
    }

    fn settle(&mut self, copy: CopyId, timeout: u64) -> Token {
        self.ask(copy, Request::CopySettle(CopySettle { timeout }))
    }

    fn settled(&mut self, token: Token) -> Option<Result<u64, Kern>> {
        let answer = self.world.answer(token)?;
        Some(answer.map(|reply| match reply.message {
            Message::Copy(Said::CopySettle(reply)) => reply.pages,
            other => panic!("{other:?}"),
        }))
    }

    fn depends(&mut self, copy: CopyId) -> bool {
        let token = self.ask(copy, Request::CopyDescribe(CopyDescribe {}));
        match self.world.answer(token) {
            Some(Ok(Reply {
                message: Message::Copy(Said::CopyDescribe(said)),
                ..
            })) => said.depends_on_pager,
            other => panic!("{other:?}"),
        }
    }

    /// Maps the copy anywhere in another map.
    fn copyout(&mut self, copy: CopyId) -> (MapId, u64) {
        let other = self.world.map();
        let mut rights = NO_RIGHTS;
        rights[vm_map::VmCopyout::COPY] = PortRef::Own(PortOf::Copy(copy));
        let request = vm_map::Request::VmCopyout(vm_map::VmCopyout {
            address: 0,
            flags: 1,
        });
        match self.world.call(other, request, rights) {
            Ok(Reply {
                message: Message::Map(vm_map::Reply::VmCopyout(reply)),
                ..
            }) => (other, reply.address),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_settled_copy_outlives_its_pager() {
    let mut cast = cast();
    let copy = cast.copyin();
    assert!(cast.depends(copy));
    let token = cast.settle(copy, SECOND);
    cast.pager.settle(&mut cast.world);
    assert_eq!(
        cast.settled(token),
        Some(Ok(PAGES)),
        "not what is anonymous"
    );
    assert!(!cast.depends(copy));
    // Again, there is nothing to do, and no time is needed.
    let token = cast.settle(copy, 0);
    cast.world.settle();
    assert_eq!(cast.settled(token), Some(Ok(0)));
    cast.world.event(Event::DeadName(PORT));
    let (map, at) = cast.copyout(copy);
    assert_eq!(cast.world.bytes(map, at, 2), [200, 200]);
    let expected: Vec<u8> = (0..PAGES as u8).collect();
    assert_eq!(cast.world.bytes(map, at + 2 * PAGE, PAGES), expected);
    assert!(cast.world.write(map, at + 50 * PAGE, &[1]).is_ok());
    for map in [map, cast.map, cast.pager.map] {
        cast.world.end(map);
    }
    let port = PortOf::Tray(cast.pager.tray.0);
    cast.world.event(Event::NoSenders { port, made: 1 });
    cast.world.settle();
    let census = cast.world.core.census();
    assert!(census.is_empty(), "{census:?}");
}

#[test]
fn settling_ends_at_its_own_deadline_and_keeps_what_it_has() {
    let mut cast = cast();
    let copy = cast.copyin();
    let token = cast.settle(copy, SECOND);
    // A fault that waits longer, and one more that settles less long.
    let Touch::Waits(fault) = cast.world.touch(cast.map, cast.at + 90 * PAGE, Prot::READ) else {
        panic!("nobody brought it");
    };
    let second = cast.settle(copy, SECOND);
    cast.world.settle();
    let wake = cast.world.wake.unwrap();
    assert!(wake.0 >= SECOND && wake.0 <= SECOND + 2_000_000, "{wake:?}");
    cast.world.now = crate::event::Time(SECOND / 2);
    cast.world.event(Event::Tick);
    assert_eq!(cast.settled(token), None);
    cast.world.now = crate::event::Time(SECOND + 10_000_000);
    cast.world.event(Event::Tick);
    cast.world.settle();
    for token in [token, second] {
        assert_eq!(cast.settled(token), Some(Err(Kern::OperationTimedOut)));
    }
    assert!(!cast.world.resumed.contains_key(&fault.0.get()));
    assert!(cast.depends(copy));
    // Whoever has more patience gets it.
    let token = cast.settle(copy, u64::MAX);
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.settled(token), Some(Ok(PAGES)));
}

#[test]
fn a_copy_that_is_used_or_given_up_meanwhile_is_not_settled() {
    let mut cast = cast();
    let copy = cast.copyin();
    let token = cast.settle(copy, SECOND);
    cast.world.settle();
    let (map, at) = cast.copyout(copy);
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.settled(token), Some(Err(Kern::Terminated)));
    assert_eq!(cast.world.byte(map, at), 200);
    let copy = cast.copyin();
    let token = cast.settle(copy, SECOND);
    cast.world.settle();
    let port = PortOf::Copy(copy);
    cast.world.event(Event::NoSenders { port, made: 1 });
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.settled(token), Some(Err(Kern::Terminated)));
    // Cancelled, it leaves no trace.
    let copy = cast.copyin();
    let token = cast.settle(copy, SECOND);
    cast.world.settle();
    cast.world.event(Event::Cancelled(token));
    let census = cast.world.core.census();
    assert_eq!((census.ops, census.waiters), (0, 0));
    assert_ne!(cast.world.wake, None);
}

#[test]
fn a_pager_that_fails_fails_settling() {
    let mut cast = cast();
    cast.pager.broken.insert(70 * PAGE);
    let copy = cast.copyin();
    let token = cast.settle(copy, SECOND);
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.settled(token), Some(Err(Kern::MemoryError)));
    assert!(cast.depends(copy));
}

#[test]
fn whoever_holds_a_copy_uses_a_part_of_what_its_maker_may_begin() {
    let mut cast = cast();
    let map = cast.map;
    let copy = cast.copyin();
    let ops = |cast: &Cast| cast.world.core.maps.get(map).unwrap().account.ops;
    cast.world
        .core
        .maps
        .get_mut(map)
        .unwrap()
        .account
        .limits
        .ops = 8;
    // The pager is silent.
    let tokens: Vec<Token> = (0..5).map(|_| cast.settle(copy, 300 * SECOND)).collect();
    cast.world.settle();
    assert_eq!(ops(&cast), 2);
    for (place, token) in tokens.into_iter().enumerate() {
        let said = cast.settled(token);
        assert_eq!(said, (place >= 2).then_some(Err(Kern::ResourceShortage)));
    }
    // The rest is its maker's.
    for waiting in 3..=8 {
        let request = vm_map::Request::VmCopy(vm_map::VmCopy {
            source: cast.at + 2 * PAGE * waiting + 1,
            size: 8,
            destination: cast.at,
        });
        let token = cast.world.send(Call::Map(map, request), NO_RIGHTS);
        cast.world.settle();
        assert_eq!(cast.world.answer(token), None, "{waiting}");
        assert_eq!(u64::from(ops(&cast)), waiting);
    }
    cast.pager.settle(&mut cast.world);
    assert_eq!(ops(&cast), 0);
}
