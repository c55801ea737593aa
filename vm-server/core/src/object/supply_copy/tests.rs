//! Data from copies: what moves, what is copied, what is refused, and what is left.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataSupplyCopy, MemoryObjectDataSupplyCopyReply, Reply as Said, Request as ToServer,
};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Message};
use crate::effect::Answer;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = PAGE_SIZE;
const PORT: RightId = RightId(50);
const OTHER: RightId = RightId(60);
const PAGES: u64 = 4;

struct Cast {
    world: World,
    pager: Pager,
    /// A client's map, and where it maps the object.
    map: MapId,
    at: u64,
}

impl Cast {
    fn new() -> Cast {
        let mut world = World::new(256);
        let mut pager = Pager::new(&mut world, PORT, 8, vec![7; (PAGES * PAGE) as usize]);
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

    /// A copy of fresh pages of the pager's, which begin with 101, 102 and so on.
    fn copy(&mut self, pages: u64, src_destroy: bool) -> (u64, PortOf) {
        let map = self.pager.map;
        let address = self.world.allocate(map, pages * PAGE);
        for page in 0..pages {
            let bytes = [101 + page as u8];
            self.world
                .write(map, address + page * PAGE, &bytes)
                .unwrap();
        }
        (address, self.copy_of(address, pages * PAGE, src_destroy))
    }

    fn copy_of(&mut self, address: u64, size: u64, src_destroy: bool) -> PortOf {
        let request = vm_map::VmCopyin {
            address,
            size,
            src_destroy,
        };
        let said = self
            .world
            .call(self.pager.map, Request::VmCopyin(request), NO_RIGHTS);
        self.world.settle();
        said.unwrap().right.unwrap()
    }

    fn send(&mut self, copy: PortOf, request: MemoryObjectDataSupplyCopy) -> Token {
        let mut rights: Rights = NO_RIGHTS;
        rights[0] = PortRef::Own(copy);
        let control = self.pager.control.unwrap();
        let request = ToServer::MemoryObjectDataSupplyCopy(request);
        self.world.send(Call::Control(control, request), rights)
    }

    fn supply(&mut self, copy: PortOf, offset: u64) -> MemoryObjectDataSupplyCopyReply {
        let token = self.send(copy, at(offset));
        self.world.settle();
        said(self.world.answer(token))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut all = vec![];
        for page in 0..PAGES {
            let address = self.at + page * PAGE;
            if let Touch::Waits(_) = self
                .world
                .touch(self.map, address, ipc_abi::types::Prot::READ)
            {
                self.pager.settle(&mut self.world);
            }
            all.push(self.world.byte(self.map, address));
        }
        all
    }
}

fn at(offset: u64) -> MemoryObjectDataSupplyCopy {
    MemoryObjectDataSupplyCopy {
        offset,
        lock_value: 0,
        precious: false,
    }
}

fn said(answer: Option<Answer>) -> MemoryObjectDataSupplyCopyReply {
    match answer.unwrap().unwrap().message {
        Message::Control(Said::MemoryObjectDataSupplyCopy(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_that_nobody_else_reaches_are_moved() {
    let mut cast = Cast::new();
    let (_, copy) = cast.copy(2, true);
    let waits = cast
        .world
        .touch(cast.map, cast.at + PAGE, ipc_abi::types::Prot::READ);
    let Touch::Waits(token) = waits else {
        panic!("{waits:?}");
    };
    let copied = cast.world.core.stats.pages_copied;
    let reply = cast.supply(copy, PAGE);
    assert_eq!((reply.used, reply.skipped_present, reply.result), (2, 0, 0));
    assert_eq!(cast.world.core.stats.pages_copied, copied);
    assert!(cast.world.answer(token).is_none_or(|answer| answer.is_ok()));
    assert_eq!(cast.bytes(), [7, 101, 102, 7]);
    assert_eq!(cast.world.core.census().copies, 0);
    cast.world.core.check_invariants().unwrap();
}

#[test]
fn pages_that_others_see_are_copied_and_present_ones_are_kept() {
    let mut cast = Cast::new();
    assert_eq!(cast.bytes()[2], 7);
    let (source, copy) = cast.copy(4, false);
    let control = cast.pager.control.unwrap();
    let flush = ipc_protocol::memory_object_control::MemoryObjectLockRequest {
        offset: 0,
        size: 2 * PAGE,
        should_return: 0,
        flags: ipc_protocol::memory_object_control::MEMORY_OBJECT_DATA_FLUSH,
        lock_value: ipc_protocol::memory_object_control::VM_PROT_NO_CHANGE,
        request: 0,
    };
    let flush = ToServer::MemoryObjectLockRequest(flush);
    cast.world.send(Call::Control(control, flush), NO_RIGHTS);
    cast.world.settle();
    let reply = cast.supply(copy, 0);
    assert_eq!((reply.used, reply.skipped_present), (2, 2));
    assert_eq!((reply.first_present, reply.result), (2 * PAGE, 0));
    let map = cast.pager.map;
    cast.world.write(map, source, &[1]).unwrap();
    assert_eq!(cast.bytes(), [101, 102, 7, 7]);
    assert_eq!(cast.world.byte(map, source + PAGE), 102);
}

#[test]
fn what_is_no_copy_of_whole_pages_is_refused_and_stays() {
    let mut cast = Cast::new();
    let (source, copy) = cast.copy(2, false);
    let odd = cast.copy_of(source + 1, PAGE, false);
    let short = cast.copy_of(source, PAGE - 1, false);
    let tray = PortOf::Tray(cast.pager.tray.0);
    let lock = |lock_value| MemoryObjectDataSupplyCopy {
        lock_value,
        ..at(0)
    };
    for (right, request) in [
        (copy, at(1)),
        (copy, at(u64::MAX - PAGE + 1)),
        (copy, lock(8)),
        (copy, lock(u32::MAX)),
        (odd, at(0)),
        (short, at(0)),
        (tray, at(0)),
        (PortOf::Map(cast.map), at(0)),
    ] {
        let token = cast.send(right, request);
        let answer = cast.world.answer(token).unwrap();
        assert_eq!(
            answer.map(|_| ()),
            Err(Kern::InvalidArgument),
            "{request:?}"
        );
    }
    assert_eq!(cast.world.core.census().copies, 3);
    assert_eq!(cast.supply(copy, 0).used, 2);
}

#[test]
fn a_copy_whose_pager_fails_supplies_what_it_has() {
    let mut cast = Cast::new();
    let mut other = Pager::new(&mut cast.world, OTHER, 8, vec![9; 2 * PAGE as usize]);
    let source = cast.world.map_object(cast.pager.map, OTHER, 2 * PAGE);
    other.broken.insert(PAGE);
    other.settle(&mut cast.world);
    let copy = cast.copy_of(source, 2 * PAGE, false);
    let token = cast.send(copy, at(0));
    other.settle(&mut cast.world);
    let reply = said(cast.world.answer(token));
    assert_eq!((reply.used, reply.result), (1, Kern::MemoryError.raw()));
    assert_eq!(cast.bytes(), [9, 7, 7, 7]);
    assert_eq!(cast.world.core.census().ops, 0);
}

#[test]
fn a_pager_that_goes_meanwhile_supplies_no_more() {
    let mut cast = Cast::new();
    let (_, copy) = cast.copy(150, true);
    let token = cast.send(copy, at(0));
    let control = PortOf::Control(cast.pager.control.unwrap());
    cast.world.event(Event::NoSenders {
        port: control,
        made: 1,
    });
    cast.world.settle();
    let reply = said(cast.world.answer(token));
    assert_eq!(reply.result, Kern::Terminated.raw());
    assert!((1..150).contains(&reply.used), "{}", reply.used);
    let map = cast.map;
    cast.world.end(map);
    let map = cast.pager.map;
    cast.world.end(map);
    cast.world.settle();
    assert_eq!(cast.world.core.census().copies, 0);
    assert_eq!(cast.world.core.census().maps, 0);
}
