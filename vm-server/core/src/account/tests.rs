//! Limits: what is refused, that nothing changes then, and that others do not feel it.

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::memory_object_control::{self as control, MemoryObjectLockRequest};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_wire::{self, VmLimitsReply, VmSetLimits};

use crate::Config;
use crate::call::{Call, Message, Reply};
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const HOST: RightId = RightId(77);

const KEEP: VmSetLimits = VmSetLimits::KEEP;

fn world(config: Config) -> World {
    World::with(Config {
        host: Some(HOST),
        ..config
    })
}

fn host() -> Rights {
    let mut rights = NO_RIGHTS;
    rights[VmSetLimits::HOST] = PortRef::Foreign(HOST);
    rights
}

fn set(world: &mut World, map: MapId, limits: VmSetLimits) {
    let request = Request::Wire(vm_wire::Request::VmSetLimits(limits));
    assert!(world.call(map, request, host()).is_ok());
}

fn held(world: &mut World, map: MapId) -> VmLimitsReply {
    let request = Request::Wire(vm_wire::Request::VmLimits(vm_wire::VmLimits {}));
    match world.call(map, request, NO_RIGHTS) {
        Ok(Reply {
            message: Message::Map(vm_map::Reply::Wire(vm_wire::Reply::VmLimits(reply))),
            ..
        }) => reply,
        other => panic!("{other:?}"),
    }
}

fn allocate(world: &mut World, map: MapId, size: u64, tag: u32) -> Result<(), Kern> {
    let request = vm_map::VmAllocate {
        address: 0,
        size,
        flags: MapFlags::ANYWHERE.bits() | tag << 24,
    };
    let answer = world.call(map, Request::VmAllocate(request), NO_RIGHTS);
    answer.map(|_| ())
}

fn copy(world: &mut World, map: MapId, address: u64, size: u64) -> Result<PortOf, Kern> {
    let request = vm_map::VmCopyin {
        address,
        size,
        src_destroy: false,
    };
    let answer = world.call(map, Request::VmCopyin(request), NO_RIGHTS)?;
    answer.right.ok_or(Kern::Failure)
}

fn child(world: &mut World, map: MapId) -> MapId {
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: false });
    match world.call(map, request, NO_RIGHTS) {
        Ok(Reply {
            right: Some(PortOf::Map(child)),
            ..
        }) => child,
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_are_set_with_the_host_port_and_inherited() {
    let mut world = world(Config::for_frames(64));
    let map = world.map();
    let request = Request::Wire(vm_wire::Request::VmSetLimits(KEEP));
    assert_eq!(
        world.call(map, request, NO_RIGHTS).map(|_| ()),
        Err(Kern::InvalidHost)
    );
    set(&mut world, map, VmSetLimits { pages: 7, ..KEEP });
    assert_eq!(held(&mut world, map).pages_limit, 7);
    let child = child(&mut world, map);
    assert_eq!(held(&mut world, child).pages_limit, 7);
}

#[test]
fn children_of_the_system_are_ordinary() {
    let mut world = world(Config::for_frames(64));
    let first = world.core.boot_map().unwrap();
    let child = child(&mut world, first);
    let said = held(&mut world, child);
    assert!(!said.system && held(&mut world, first).system);
    assert_eq!(said.pages_limit, u64::from(world.core.config.limits.pages));
}

#[test]
fn entries_of_copies_are_their_makers() {
    let mut world = world(Config::for_frames(64));
    let map = world.map();
    set(&mut world, map, VmSetLimits { entries: 6, ..KEEP });
    for tag in 0..3 {
        allocate(&mut world, map, PAGE, tag + 1).unwrap();
    }
    let start = world.core.maps.get(map).unwrap().min();
    let kept = copy(&mut world, map, start, 3 * PAGE).unwrap();
    assert_eq!(held(&mut world, map).entries, 6);
    assert_eq!(
        copy(&mut world, map, start, PAGE),
        Err(Kern::ResourceShortage)
    );
    assert_eq!(
        allocate(&mut world, map, PAGE, 9),
        Err(Kern::ResourceShortage)
    );
    world.settle();
    assert_eq!(held(&mut world, map).entries, 6);
    world.event(crate::event::Event::NoSenders {
        port: kept,
        made: 1,
    });
    world.settle();
    assert_eq!(held(&mut world, map).entries, 3);
    assert_eq!(held(&mut world, map).copies, 0);
    allocate(&mut world, map, PAGE, 9).unwrap();
}

#[test]
fn a_copy_at_the_limit_is_mapped_by_its_maker() {
    let mut world = world(Config::for_frames(64));
    let map = world.map();
    set(&mut world, map, VmSetLimits { entries: 4, ..KEEP });
    allocate(&mut world, map, PAGE, 1).unwrap();
    allocate(&mut world, map, PAGE, 2).unwrap();
    let start = world.core.maps.get(map).unwrap().min();
    let port = copy(&mut world, map, start, 2 * PAGE).unwrap();
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(port);
    let request = vm_map::VmCopyout {
        address: 0,
        flags: MapFlags::ANYWHERE.bits(),
    };
    assert!(world.call(map, Request::VmCopyout(request), rights).is_ok());
    world.settle();
    assert_eq!(held(&mut world, map).entries, 4);
}

#[test]
fn pages_of_a_copy_are_its_makers_until_somebody_maps_it() {
    let mut world = world(Config::for_frames(256));
    let (sender, receiver) = (world.map(), world.map());
    let at = world.allocate(sender, 4 * PAGE);
    world.write(sender, at, &[1]).unwrap();
    world.write(sender, at + PAGE, &[2]).unwrap();
    let request = vm_map::VmCopyin {
        address: at,
        size: 4 * PAGE,
        src_destroy: true,
    };
    let said = world.call(sender, Request::VmCopyin(request), NO_RIGHTS);
    let port = said.unwrap().right.unwrap();
    world.settle();
    assert_eq!(held(&mut world, sender).pages, 2);
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(port);
    let request = vm_map::VmCopyout {
        address: 0,
        flags: MapFlags::ANYWHERE.bits(),
    };
    let said = world.call(receiver, Request::VmCopyout(request), rights);
    let Message::Map(vm_map::Reply::VmCopyout(out)) = said.unwrap().message else {
        panic!("no address");
    };
    world.settle();
    let of = |world: &mut World, map| (held(world, map).pages, held(world, map).objects);
    assert_eq!(of(&mut world, sender), (0, 0));
    assert_eq!(of(&mut world, receiver), (2, 1));
    world.write(receiver, out.address + 2 * PAGE, &[3]).unwrap();
    assert_eq!(of(&mut world, receiver), (3, 1));
    world.core.check_invariants().unwrap();
}

#[test]
fn pages_that_are_made_through_a_named_entry_are_its_makers() {
    let mut world = world(Config::for_frames(256));
    let map = world.map();
    set(&mut world, map, VmSetLimits { pages: 3, ..KEEP });
    for _ in 0..3 {
        // Memory that nobody has touched, in a map that nobody sees.
        let at = world.allocate(map, 2 * PAGE);
        let request = vm_map::MachMakeMemoryEntry {
            size: 2 * PAGE,
            offset: at,
            permission: 3 | vm_map::MAP_MEM_VM_COPY,
        };
        let said = world.call(map, Request::MachMakeMemoryEntry(request), NO_RIGHTS);
        let mut rights = NO_RIGHTS;
        rights[0] = PortRef::Own(said.unwrap().right.unwrap());
        let request = vm_map::VmMap {
            max_protection: 3,
            ..vm_map::VmMap::anywhere(2 * PAGE)
        };
        let said = world.call(map, Request::VmMap(request), rights);
        let Message::Map(vm_map::Reply::VmMap(mapped)) = said.unwrap().message else {
            panic!("no address");
        };
        let _ = world.write(map, mapped.address, &[1]);
        let _ = world.write(map, mapped.address + PAGE, &[1]);
    }
    assert_eq!(held(&mut world, map).pages, 3);
}

#[test]
fn copies_and_objects_and_calls_are_limited() {
    let mut world = world(Config::for_frames(64));
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    set(&mut world, map, VmSetLimits { copies: 2, ..KEEP });
    let mut ports = Vec::new();
    for _ in 0..2 {
        ports.push(copy(&mut world, map, at, PAGE).unwrap());
    }
    assert_eq!(copy(&mut world, map, at, PAGE), Err(Kern::ResourceShortage));
    let objects = VmSetLimits { objects: 0, ..KEEP };
    set(&mut world, map, objects);
    assert_eq!(
        world.touch(map, at, Prot::WRITE),
        Touch::Fails(Kern::ResourceShortage)
    );
    set(&mut world, map, VmSetLimits { objects: 1, ..KEEP });
    world.write(map, at, &[1]).unwrap();
    assert_eq!(held(&mut world, map).objects, 1);
    set(&mut world, map, VmSetLimits { ops: 0, ..KEEP });
    let refused = copy(&mut world, map, at, PAGE);
    assert_eq!(refused, Err(Kern::ResourceShortage));
    assert_eq!(held(&mut world, map).ops, 0);
}

#[test]
fn what_a_pager_asks_for_is_charged_to_its_task() {
    const LIMIT: u64 = 5;
    let mut world = world(Config::for_frames(64));
    let data: Vec<u8> = (0..4 * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let mut pager = Pager::new(&mut world, RightId(5), 1, data);
    let map = world.map();
    let at = world.map_object(map, pager.port, 4 * PAGE);
    for page in 0..4 {
        while world.write(map, at + page * PAGE, &[9]).is_err() {
            pager.settle(&mut world);
        }
    }
    // It takes nothing back, so that its slots stay full, and those who wait for one wait.
    pager.stores = false;
    set(&mut world, pager.map, VmSetLimits { ops: LIMIT, ..KEEP });
    let mut refused = 0;
    for _ in 0..100 {
        let request = control::Request::MemoryObjectLockRequest(MemoryObjectLockRequest {
            offset: 0,
            size: 4 * PAGE,
            should_return: 2,
            flags: 0,
            lock_value: 0,
            request: 1,
        });
        let answer = pager.say(&mut world, request, NO_RIGHTS);
        refused += u32::from(answer == Some(Err(Kern::ResourceShortage)));
        pager.settle(&mut world);
    }
    assert!(refused > 0);
    assert_eq!(u64::from(world.core.census().ops), LIMIT);
    assert_eq!(held(&mut world, pager.map).ops, LIMIT);
    assert_eq!(held(&mut world, map).ops, 0);
    pager.stores = true;
    let left: Vec<_> = pager.inbox.drain(..).collect();
    for wording in left {
        pager.hear(
            &mut world,
            crate::talk::Message {
                wording,
                right: None,
            },
        );
    }
    pager.settle(&mut world);
    assert_eq!(world.core.census().ops, 0);
}

#[test]
fn requests_that_nobody_waits_for_any_more_have_an_end() {
    const PAGES: u64 = 2000;
    let mut world = world(Config::for_frames(64));
    let mut pager = Pager::new(&mut world, RightId(5), 1, Vec::new());
    let map = world.map();
    let at = world.map_object(map, pager.port, PAGES * PAGE);
    pager.settle(&mut world);
    for page in 0..PAGES {
        if let Touch::Waits(token) = world.touch(map, at + page * PAGE, Prot::READ) {
            world.event(Event::Cancelled(token));
            world.resumed.remove(&token.0.get());
        }
        // It is told of everything and does nothing.
        world.said_to(pager.port);
    }
    // A request needs a slot that is free.
    let left = world.core.census();
    assert_eq!((left.requests, left.waiters), (1, 0));
}

#[test]
fn the_size_of_a_map_is_limited_also_where_something_is_replaced() {
    let mut world = world(Config::for_frames(64));
    let map = world.map();
    set(
        &mut world,
        map,
        VmSetLimits {
            size: 4 * PAGE,
            ..KEEP
        },
    );
    let at = world.allocate(map, 4 * PAGE);
    let shortage = Err(Kern::ResourceShortage);
    assert_eq!(allocate(&mut world, map, PAGE, 1), shortage);
    let mut over = |address, size| {
        let request = vm_map::VmAllocate {
            address,
            size,
            flags: MapFlags::OVERWRITE.bits() | 5 << 24,
        };
        let answer = world.call(map, Request::VmAllocate(request), NO_RIGHTS);
        answer.map(|_| ())
    };
    assert_eq!(over(at + PAGE, 2 * PAGE), Ok(()));
    assert_eq!(over(at + 3 * PAGE, 2 * PAGE), shortage);
    assert_eq!(over(at + 2 * PAGE, 8 * PAGE), shortage);
    assert_eq!(world.core.entries.len(), 3, "nothing was cut");
    world.deallocate(map, at, PAGE);
    assert_eq!(allocate(&mut world, map, PAGE, 1), Ok(()));
}

#[test]
fn wired_pages_are_limited_for_one_and_for_all() {
    let mut config = Config::for_frames(128);
    config.whole.wired = 5;
    let mut world = world(config);
    let maps = [world.map(), world.map()];
    let at = maps.map(|map| world.allocate(map, 4 * PAGE));
    let wire = |world: &mut World, which: usize, pages: u64| {
        let request = Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
            address: at[which],
            size: pages * PAGE,
            access: 3,
        }));
        world.call(maps[which], request, host()).map(|_| ())
    };
    set(&mut world, maps[0], VmSetLimits { wired: 3, ..KEEP });
    assert_eq!(wire(&mut world, 0, 4), Err(Kern::ResourceShortage));
    assert_eq!(held(&mut world, maps[0]).wired, 0);
    assert_eq!(wire(&mut world, 0, 3), Ok(()));
    assert_eq!(wire(&mut world, 0, 3), Ok(()), "nesting charges nothing");
    assert_eq!(wire(&mut world, 1, 3), Err(Kern::ResourceShortage));
    assert_eq!(wire(&mut world, 1, 2), Ok(()));
    let system = VmSetLimits {
        system: true,
        ..KEEP
    };
    set(&mut world, maps[1], system);
    assert_eq!(
        wire(&mut world, 1, 4),
        Ok(()),
        "the system is not held back"
    );
}

#[test]
fn all_clients_together_leave_records_for_the_system() {
    let mut config = Config::for_frames(128);
    config.whole.entries = 8;
    let mut world = world(config);
    let system = world.core.boot_map().unwrap();
    let clients = [world.map(), world.map()];
    let mut refused = 0;
    for tag in 1..8 {
        for map in clients {
            refused += u32::from(allocate(&mut world, map, PAGE, tag).is_err());
        }
    }
    assert_eq!(refused, 6);
    assert_eq!(allocate(&mut world, system, PAGE, 1), Ok(()));
}

#[test]
fn a_client_that_keeps_all_memory_leaves_some_to_the_system() {
    let mut world = world(Config {
        reserve: 16,
        ..Config::for_frames(128)
    });
    let system = world.core.boot_map().unwrap();
    let client = world.map();
    let at = world.allocate(client, 200 * PAGE);
    let mut got = 0;
    while let Touch::Done(_) = world.touch(client, at + got * PAGE, Prot::WRITE) {
        got += 1;
    }
    assert!(got > 100, "{got}");
    let mine = world.allocate(system, 8 * PAGE);
    for page in 0..8 {
        let touched = world.touch(system, mine + page * PAGE, Prot::WRITE);
        assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
    }
    let refused = world.send(
        Call::Map(client, Request::VmStatistics(vm_map::VmStatistics {})),
        NO_RIGHTS,
    );
    assert!(matches!(world.answer(refused), Some(Ok(_))));
}
