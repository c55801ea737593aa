//! Strategy CALL: the pager makes the copy, or does not, or errs.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot, Return};
use ipc_protocol::memory_object::{MemoryObjectCopy, Request as ToPager};
use ipc_protocol::memory_object_control::{
    MemoryObjectCopyMade, MemoryObjectLockRequest, Request as ToServer,
};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Message, Reply};
use crate::effect::Answer;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Time, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PORT: RightId = RightId(70);
const COPY: RightId = RightId(71);
const PAGES: u64 = 4;

struct Cast {
    world: World,
    /// Serves the original.
    pager: Pager,
    /// Serves the copy.
    copier: Pager,
    map: MapId,
    /// Where the original is mapped.
    at: u64,
}

/// A client maps an object of strategy CALL, of which it has touched the first two pages.
fn cast() -> Cast {
    let mut world = World::new(512);
    let data = (0..PAGES * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let mut pager = Pager::new(&mut world, PORT, 8, data);
    pager.ready.copy_strategy = CopyStrategy::Call as u32;
    let copier = Pager::new(&mut world, COPY, 8, Vec::new());
    let map = world.map();
    let at = world.map_object(map, PORT, PAGES * PAGE);
    let mut cast = Cast {
        world,
        pager,
        copier,
        map,
        at,
    };
    assert_eq!(cast.byte(at), 1);
    assert_eq!(cast.byte(at + PAGE), 2);
    cast
}

/// Lets both pagers work, of which each may make something to do for the other.
fn serve(world: &mut World, pager: &mut Pager, copier: &mut Pager) {
    for _ in 0..4 {
        pager.settle(world);
        copier.settle(world);
    }
}

impl Cast {
    fn settle(&mut self) {
        serve(&mut self.world, &mut self.pager, &mut self.copier);
    }

    fn touch(&mut self, address: u64, access: Prot) -> Touch {
        let (pager, copier) = (&mut self.pager, &mut self.copier);
        let serve = |world: &mut World| serve(world, pager, copier);
        self.world.touch_served(self.map, address, access, serve)
    }

    fn byte(&mut self, address: u64) -> u8 {
        let touched = self.touch(address, Prot::READ);
        assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
        self.world.byte(self.map, address)
    }

    /// Maps a copy of some pages of the object, from page `first` on.
    fn copy(&mut self, first: u64, pages: u64) -> Token {
        let mut rights = NO_RIGHTS;
        rights[vm_map::VmMap::OBJECT] = PortRef::Foreign(PORT);
        let request = vm_map::VmMap {
            offset: first * PAGE,
            copy: true,
            ..vm_map::VmMap::anywhere(pages * PAGE)
        };
        let call = Call::Map(self.map, Request::VmMap(request));
        let token = self.world.send(call, rights);
        self.settle();
        token
    }

    fn asked(&mut self) -> MemoryObjectCopy {
        match self.pager.inbox.pop_front() {
            Some(ToPager::MemoryObjectCopy(asked)) => asked,
            other => panic!("{other:?}"),
        }
    }

    fn made(&mut self, request: u64, result: u32, right: PortRef) -> Option<Answer> {
        let mut rights: Rights = NO_RIGHTS;
        rights[MemoryObjectCopyMade::OBJECT] = right;
        let made = MemoryObjectCopyMade { request, result };
        let said = ToServer::MemoryObjectCopyMade(made);
        let answer = self.pager.say(&mut self.world, said, rights);
        self.settle();
        answer
    }

    fn mapped(&mut self, token: Token) -> u64 {
        match self.world.answer(token) {
            Some(Ok(Reply {
                message: Message::Map(vm_map::Reply::VmMap(reply)),
                ..
            })) => reply.address,
            other => panic!("{other:?}"),
        }
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        for map in [self.map, self.pager.map, self.copier.map] {
            self.world.end(map);
        }
        self.settle();
        for tray in [self.pager.tray.0, self.copier.tray.0] {
            let port = PortOf::Tray(tray);
            self.world.event(Event::NoSenders { port, made: 1 });
        }
        self.world.settle();
        let census = self.world.core.census();
        assert!(census.is_empty(), "{census:?}");
        for port in [PORT, COPY] {
            let left = self.world.rights.get(&port.0).copied().unwrap_or(0);
            assert_eq!(left, 0, "right {}", port.0);
        }
    }
}

fn unlock(page: u64) -> ToServer {
    ToServer::MemoryObjectLockRequest(MemoryObjectLockRequest {
        offset: page * PAGE,
        size: PAGE,
        should_return: Return::None as u32,
        flags: 0,
        lock_value: 0,
        request: 0,
    })
}

#[test]
fn the_pager_keeps_the_copy_apart_from_the_original() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    let asked = cast.asked();
    assert_eq!((asked.offset, asked.length), (0, PAGES * PAGE));
    assert!(cast.world.answer(token).is_none(), "it waits for the pager");
    cast.made(asked.request, 0, PortRef::Foreign(COPY));
    let copy = cast.mapped(token);
    let region = Request::VmRegion(vm_map::VmRegion::basic(copy));
    match cast.world.ask(cast.map, region) {
        Ok(vm_map::Reply::VmRegion(region)) => {
            assert!(region.external_pager && !region.needs_copy);
            assert_eq!(region.shadow_depth, 1, "it lies over the original");
        }
        other => panic!("{other:?}"),
    }
    // What the copy's pager has not is the same as in the original, resident or not.
    assert_eq!(cast.byte(copy), 1);
    assert_eq!(cast.byte(copy + 3 * PAGE), 4);
    // A resident page of the original is locked: its pager supplies the copy first.
    let Touch::Waits(writer) = cast.touch(cast.at, Prot::WRITE) else {
        panic!("it was not locked");
    };
    assert!(matches!(
        cast.pager.inbox.pop_front(),
        Some(ToPager::MemoryObjectDataUnlock(_))
    ));
    cast.copier.data = vec![1; PAGE as usize];
    cast.copier.bring(&mut cast.world, 0);
    cast.pager.say(&mut cast.world, unlock(0), NO_RIGHTS);
    cast.settle();
    assert_eq!(cast.world.resumed.get(&writer.0.get()), Some(&Ok(())));
    cast.world.write(cast.map, cast.at, &[99]).unwrap();
    assert_eq!(cast.byte(copy), 1);
    // The copy is written without the original.
    assert!(matches!(
        cast.touch(copy + PAGE, Prot::WRITE),
        Touch::Done(_)
    ));
    cast.world.write(cast.map, copy + PAGE, &[50]).unwrap();
    assert_eq!(cast.byte(cast.at + PAGE), 2);
    cast.end();
}

#[test]
fn a_copy_of_a_part_begins_with_page_0() {
    let mut cast = cast();
    let token = cast.copy(2, 2);
    let asked = cast.asked();
    assert_eq!((asked.offset, asked.length), (2 * PAGE, 2 * PAGE));
    cast.made(asked.request, 0, PortRef::Foreign(COPY));
    let copy = cast.mapped(token);
    assert_eq!((cast.byte(copy), cast.byte(copy + PAGE)), (3, 4));
    // The resident pages are outside the range: they stay as they were.
    assert!(matches!(cast.touch(cast.at, Prot::WRITE), Touch::Done(_)));
    cast.end();
}

#[test]
fn a_pager_that_makes_no_copy_has_its_pages_copied() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    let asked = cast.asked();
    let answer = cast.made(asked.request, Kern::NotSupported.raw(), PortRef::None);
    assert!(matches!(answer, Some(Ok(_))));
    let copy = cast.mapped(token);
    assert_eq!(cast.world.core.stats.pages_copied, PAGES);
    assert!(matches!(cast.touch(cast.at, Prot::WRITE), Touch::Done(_)));
    cast.world.write(cast.map, cast.at, &[9]).unwrap();
    assert_eq!(cast.byte(copy), 1);
    cast.end();
}

#[test]
fn a_pager_that_says_nothing_fails_the_copy_in_time() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    let asked = cast.asked();
    cast.world.now = cast.world.wake.unwrap();
    cast.world.event(Event::Tick);
    cast.settle();
    assert_eq!(cast.world.answer(token), Some(Err(Kern::MemoryError)));
    assert_eq!(cast.world.core.census().asked, 0);
    // Its answer comes too late, and its right goes back.
    let late = cast.made(asked.request, 0, PortRef::Foreign(COPY));
    assert_eq!(late, Some(Err(Kern::InvalidArgument)));
    assert!(matches!(cast.touch(cast.at, Prot::WRITE), Touch::Done(_)));
    cast.end();
}

#[test]
fn a_pager_that_dies_fails_the_copy() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    cast.world.event(Event::DeadName(PORT));
    cast.world.settle();
    assert_eq!(cast.world.answer(token), Some(Err(Kern::MemoryError)));
    cast.end();
}

#[test]
fn an_answer_that_makes_no_sense_changes_nothing() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    let asked = cast.asked();
    for (request, right) in [
        (0, PortRef::Foreign(COPY)),
        (asked.request + 1, PortRef::Foreign(COPY)),
        (asked.request, PortRef::None),
        (asked.request, PortRef::Dead(COPY)),
        // The object itself would lie over itself.
        (asked.request, PortRef::Foreign(PORT)),
        (asked.request, PortRef::Own(PortOf::Map(cast.map))),
    ] {
        let answer = cast.made(request, 0, right);
        assert_eq!(answer, Some(Err(Kern::InvalidArgument)), "{right:?}");
        assert!(cast.world.answer(token).is_none());
    }
    cast.made(asked.request, 0, PortRef::Foreign(COPY));
    cast.mapped(token);
    let twice = cast.made(asked.request, 0, PortRef::Foreign(COPY));
    assert_eq!(twice, Some(Err(Kern::InvalidArgument)));
    cast.end();
}

#[test]
fn a_pager_that_comes_back_is_asked_again() {
    let mut cast = cast();
    let token = cast.copy(0, PAGES);
    let first = cast.asked();
    let port = PortOf::Control(cast.pager.control.unwrap());
    cast.world.event(Event::NoSenders { port, made: 1 });
    cast.settle();
    let again = cast.asked();
    assert_eq!(first, again);
    cast.made(again.request, 0, PortRef::Foreign(COPY));
    cast.mapped(token);
    cast.end();
}

#[test]
fn a_child_gets_the_copy_that_the_pager_made() {
    let mut cast = cast();
    let fork = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let token = cast.world.send(Call::Map(cast.map, fork), NO_RIGHTS);
    cast.settle();
    let asked = cast.asked();
    // Nothing is held meanwhile.
    let elsewhere = cast.world.allocate(cast.map, PAGE);
    cast.world.write(cast.map, elsewhere, &[1]).unwrap();
    cast.made(asked.request, 0, PortRef::Foreign(COPY));
    let Some(Ok(Reply {
        right: Some(PortOf::Map(child)),
        ..
    })) = cast.world.answer(token)
    else {
        panic!("no child");
    };
    let parent = cast.map;
    cast.map = child;
    assert_eq!(cast.byte(cast.at + PAGE), 2);
    cast.map = parent;
    cast.world.end(child);
    cast.end();
}

#[test]
fn what_a_copy_waits_for_may_go_from_its_map() {
    let mut cast = cast();
    let copyin = Request::VmCopyin(vm_map::VmCopyin {
        address: cast.at,
        size: PAGES * PAGE,
        src_destroy: false,
    });
    let token = cast.world.send(Call::Map(cast.map, copyin), NO_RIGHTS);
    cast.settle();
    let asked = cast.asked();
    cast.world.deallocate(cast.map, cast.at, PAGES * PAGE);
    cast.settle();
    assert!(cast.pager.inbox.is_empty(), "the copy holds the object");
    cast.made(asked.request, 0, PortRef::Foreign(COPY));
    let Some(Ok(Reply {
        right: Some(PortOf::Copy(copy)),
        ..
    })) = cast.world.answer(token)
    else {
        panic!("no copy");
    };
    cast.world.event(Event::NoSenders {
        port: PortOf::Copy(copy),
        made: 1,
    });
    // Time for the pages that nobody wants back.
    cast.world.now = Time(1);
    cast.end();
}
