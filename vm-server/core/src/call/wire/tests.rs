//! What wiring promises, what it refuses, and what it leaves behind when it fails.

extern crate std;

mod waiting;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_wire;

use crate::Config;
use crate::call::{Call, Reply};
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Token};
use crate::map::entry::Entry;
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const HOST: RightId = RightId(77);
const PORT: RightId = RightId(5);
const RW: Prot = Prot::DEFAULT;

fn world(frames: u32) -> World {
    World::with(Config {
        reserve: 0,
        host: Some(HOST),
        ..Config::for_frames(frames)
    })
}

fn host() -> Rights {
    let mut rights = NO_RIGHTS;
    rights[vm_wire::VmWire::HOST] = PortRef::Foreign(HOST);
    rights
}

fn request(address: u64, size: u64, access: Prot) -> Request {
    Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
        address,
        size,
        access: access.bits().into(),
    }))
}

fn wire(world: &mut World, map: MapId, address: u64, size: u64, access: Prot) -> Result<(), Kern> {
    let answer = world.call(map, request(address, size, access), host());
    answer.map(|_| ())
}

fn send(world: &mut World, map: MapId, request: Request) -> Token {
    world.send(Call::Map(map, request), NO_RIGHTS)
}

fn send_wire(world: &mut World, map: MapId, address: u64, size: u64) -> Token {
    world.send(Call::Map(map, request(address, size, RW)), host())
}

fn wire_all(world: &mut World, map: MapId, flags: u32) -> Result<(), Kern> {
    let request = Request::Wire(vm_wire::Request::VmWireAll(vm_wire::VmWireAll { flags }));
    world.call(map, request, host()).map(|_| ())
}

fn plain(world: &mut World, map: MapId, request: Request) -> Result<Reply, Kern> {
    world.call(map, request, NO_RIGHTS)
}

fn protect(world: &mut World, map: MapId, address: u64, size: u64, rights: Prot) {
    let request = vm_map::VmProtect {
        address,
        size,
        set_maximum: false,
        protection: rights.bits().into(),
    };
    plain(world, map, Request::VmProtect(request)).unwrap();
}

fn fork(world: &mut World, map: MapId) -> MapId {
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    match plain(world, map, request) {
        Ok(Reply {
            right: Some(PortOf::Map(child)),
            ..
        }) => child,
        other => panic!("{other:?}"),
    }
}

fn entry(world: &World, map: MapId, address: u64) -> Entry {
    *world.core.entry_at(map, address / PAGE).unwrap()
}

fn wirings(world: &World, map: MapId, address: u64) -> u16 {
    entry(world, map, address).user_wired
}

/// Pages of a range that are translated with all these rights.
fn translated(world: &World, map: MapId, address: u64, pages: u64, rights: Prot) -> usize {
    let Some(space) = world.machine.spaces.get(&map.to_word()) else {
        return 0;
    };
    let range = address / PAGE..address / PAGE + pages;
    space
        .pages
        .range(range)
        .filter(|(_, t)| t.protection.contains(rights))
        .count()
}

/// A pager, a map that has its object mapped, and where.
fn with_pager(frames: u32, pages: u64) -> (World, Pager, MapId, u64) {
    let mut world = world(frames);
    let data: Vec<u8> = (0..pages * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let pager = Pager::new(&mut world, PORT, 8, data);
    let map = world.map();
    let at = world.map_object(map, PORT, pages * PAGE);
    (world, pager, map, at)
}

#[test]
fn wiring_needs_the_host_port_and_arguments_that_mean_something() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    let mut wrong = NO_RIGHTS;
    wrong[0] = PortRef::Foreign(RightId(1));
    let mut own = NO_RIGHTS;
    own[0] = PortRef::Own(PortOf::Map(map));
    for rights in [NO_RIGHTS, wrong, own] {
        let refused = world.call(map, request(at, PAGE, RW), rights);
        assert_eq!(refused, Err(Kern::InvalidHost));
        // Also before anything else is looked at.
        let refused = world.call(map, request(at, 0, RW), rights);
        assert_eq!(refused, Err(Kern::InvalidHost));
    }
    for access in [0x8, 0x11, 0x21, 0x41, 0x0100_0001] {
        let request = Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
            address: at,
            size: PAGE,
            access,
        }));
        let refused = world.call(map, request, host());
        assert_eq!(refused, Err(Kern::InvalidArgument), "{access:#x}");
    }
    assert_eq!(wire(&mut world, map, 0x1001, 0, Prot::READ), Ok(()));
    for access in [RW, Prot::NONE] {
        for (address, size) in [
            (1, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX - 0xFFF, 1),
            (PAGE, u64::MAX - 0xFFF),
        ] {
            let refused = wire(&mut world, map, address, size, access);
            assert_eq!(refused, Err(Kern::InvalidArgument), "{address:#x}");
        }
    }
    assert_eq!(wire_all(&mut world, map, 4), Err(Kern::InvalidArgument));
    assert_eq!(wirings(&world, map, at), 0);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
}

#[test]
fn wired_memory_is_resident_translated_and_stays_one_entry() {
    let mut world = world(512);
    let map = world.map();
    let at = world.allocate(map, 200 * PAGE);
    assert_eq!(wire(&mut world, map, at + 5, 200 * PAGE - 5, RW), Ok(()));
    assert_eq!(translated(&world, map, at, 200, RW), 200);
    assert_eq!(
        world.core.entries.len(),
        1,
        "the cuts of the steps are gone"
    );
    let faults = world.core.stats.faults;
    world.write(map, at + 199 * PAGE, &[7]).unwrap();
    assert_eq!(world.core.stats.faults, faults, "no fault is left to take");
    assert_eq!(world.core.maps.get(map).unwrap().wired, 200);
    assert_eq!(wire(&mut world, map, at, 200 * PAGE, Prot::NONE), Ok(()));
    assert_eq!(world.core.entries.len(), 1);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
    let mut byte = [0];
    world.read(map, at + 199 * PAGE, &mut byte).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn a_step_wires_many_pages_that_are_there_and_few_that_are_not() {
    const PAGES: u64 = 1000;
    let mut world = world(2048);
    let map = world.map();
    let at = world.allocate(map, PAGES * PAGE);
    let mut wire_in_steps = |access: Prot| {
        let request = Call::Map(map, request(at, PAGES * PAGE, access));
        let token = world.send(request, host());
        let (mut steps, mut most) = (0, 0);
        while world.answer(token).is_none() {
            let before = world.machine.work.zeroed;
            world.event(Event::Step);
            most = most.max(world.machine.work.zeroed - before);
            steps += 1;
        }
        let wired = translated(&world, map, at, PAGES, RW);
        assert_eq!(wired, PAGES as usize);
        (steps, most)
    };
    let (steps, most) = wire_in_steps(RW);
    assert!(steps >= 15 && most <= 65, "{steps} steps, {most} filled");
    let (steps, _) = wire_in_steps(Prot::NONE);
    assert!((2..8).contains(&steps), "unwired in {steps} steps");
    let (steps, most) = wire_in_steps(RW);
    assert!((3..8).contains(&steps) && most == 0, "{steps} steps");
}

#[test]
fn shared_memory_is_one_entry_again_too() {
    let mut world = world(1024);
    let map = world.map();
    let at = world.allocate(map, 150 * PAGE);
    let request = vm_map::VmInherit {
        address: at,
        size: 150 * PAGE,
        inheritance: 0,
    };
    plain(&mut world, map, Request::VmInherit(request)).unwrap();
    let child = fork(&mut world, map);
    assert!(entry(&world, map, at).is_shared);
    wire(&mut world, child, at, 150 * PAGE, RW).unwrap();
    wire(&mut world, map, at, 150 * PAGE, RW).unwrap();
    assert_eq!(world.core.entries.len(), 2);
    world.event(Event::TaskEnded(child));
    world.settle();
    wire(&mut world, map, at, 150 * PAGE, Prot::NONE).unwrap();
    assert_eq!(world.core.entries.len(), 1);
}

#[test]
fn wirings_nest_and_end_one_by_one() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    world.write(map, at, &[1]).unwrap();
    for _ in 0..2 {
        wire(&mut world, map, at + PAGE, 2 * PAGE, RW).unwrap();
    }
    assert_eq!(wirings(&world, map, at + PAGE), 2);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 2, "charged once");
    wire(&mut world, map, at, 4 * PAGE, Prot::NONE).unwrap();
    assert_eq!(wirings(&world, map, at + PAGE), 1);
    wire(&mut world, map, at, 4 * PAGE, Prot::NONE).unwrap();
    wire(&mut world, map, at, 4 * PAGE, Prot::NONE).unwrap();
    assert_eq!(wirings(&world, map, at + PAGE), 0, "below zero is ignored");
    assert_eq!(world.core.entries.len(), 1);
    let hole = at + 4 * PAGE;
    let refused = wire(&mut world, map, hole, PAGE, Prot::NONE);
    assert_eq!(refused, Err(Kern::InvalidAddress));
    let beyond = wire(&mut world, map, at + 3 * PAGE, 9 * PAGE, Prot::NONE);
    assert_eq!(beyond, Ok(()), "only the start has to be mapped");
}

#[test]
fn as_many_wirings_as_can_be_counted() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    wire(&mut world, map, at, PAGE, RW).unwrap();
    let link = world.core.map_lookup(map, at).unwrap();
    world.core.entries.at_mut(link.0).unwrap().user_wired = u16::MAX;
    let refused = wire(&mut world, map, at, 2 * PAGE, RW);
    assert_eq!(refused, Err(Kern::Failure));
    assert_eq!(wirings(&world, map, at), u16::MAX);
    assert_eq!(wirings(&world, map, at + PAGE), 0);
    wire(&mut world, map, at, PAGE, Prot::NONE).unwrap();
    assert_eq!(wirings(&world, map, at), u16::MAX - 1);
}

#[test]
fn a_hole_or_too_little_protection_leaves_nothing_wired() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    world.deallocate(map, at + 2 * PAGE, PAGE);
    protect(&mut world, map, at + 3 * PAGE, PAGE, Prot::READ);
    let entries = world.core.entries.len();
    let hole = wire(&mut world, map, at, 3 * PAGE, Prot::READ);
    assert_eq!(hole, Err(Kern::InvalidAddress));
    let end = wire(&mut world, map, at + 3 * PAGE, 2 * PAGE, Prot::READ);
    assert_eq!(end, Err(Kern::InvalidAddress), "a hole at the end");
    let rights = wire(&mut world, map, at + 3 * PAGE, PAGE, RW);
    assert_eq!(rights, Err(Kern::ProtectionFailure));
    assert_eq!(world.core.entries.len(), entries);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
    assert_eq!(translated(&world, map, at, 4, Prot::READ), 0);
}

#[test]
fn copy_on_write_is_resolved_even_to_read() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.write(map, at, &[1]).unwrap();
    let child = fork(&mut world, map);
    protect(&mut world, child, at, 2 * PAGE, Prot::READ);
    let copied = world.machine.work.copied;
    wire(&mut world, child, at, 2 * PAGE, Prot::READ).unwrap();
    assert_eq!(world.machine.work.copied, copied + 1);
    assert!(!entry(&world, child, at).needs_copy);
    world.write(map, at, &[2]).unwrap();
    let mut byte = [0];
    world.read(child, at, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn wired_memory_is_copied_by_pages_and_its_copy_is_not_wired() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.write(map, at, &[1]).unwrap();
    wire(&mut world, map, at, 2 * PAGE, RW).unwrap();
    let (copied, faults) = (world.machine.work.copied, world.core.stats.faults);
    let child = fork(&mut world, map);
    assert_eq!(world.machine.work.copied, copied + 2);
    assert_eq!(wirings(&world, child, at), 0);
    world.write(map, at, &[2]).unwrap();
    assert_eq!(world.core.stats.faults, faults, "the parent keeps writing");
    let mut byte = [0];
    world.read(child, at, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn a_part_wired_and_the_whole_shared() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    world.write(map, at, &[1]).unwrap();
    let child = fork(&mut world, map);
    wire(&mut world, map, at + PAGE, PAGE, RW).unwrap();
    let request = vm_map::VmInherit {
        address: at,
        size: 4 * PAGE,
        inheritance: 0,
    };
    plain(&mut world, map, Request::VmInherit(request)).unwrap();
    let sharer = fork(&mut world, map);
    for (page, value) in [(0, 5), (1, 6), (3, 7)] {
        world.write(map, at + page * PAGE, &[value]).unwrap();
        let mut byte = [0];
        world.read(sharer, at + page * PAGE, &mut byte).unwrap();
        assert_eq!(byte, [value]);
    }
    let mut byte = [0];
    world.read(child, at, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn deallocating_wired_memory_drops_its_wirings() {
    let mut world = world(512);
    let map = world.map();
    let free = world.core.pages.free();
    let at = world.allocate(map, 150 * PAGE);
    wire(&mut world, map, at, 150 * PAGE, RW).unwrap();
    wire(&mut world, map, at, 70 * PAGE, RW).unwrap();
    world.deallocate(map, at + PAGE, 100 * PAGE);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 50);
    world.deallocate(map, at, 150 * PAGE);
    world.settle();
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
    assert_eq!(world.core.pages.free(), free);
}

#[test]
fn a_task_that_ends_leaves_nothing_wired_behind() {
    let mut world = world(512);
    let free = world.core.pages.free();
    let map = world.map();
    let at = world.allocate(map, 150 * PAGE);
    wire(&mut world, map, at, 150 * PAGE, RW).unwrap();
    world.event(Event::TaskEnded(map));
    world.settle();
    assert_eq!(world.core.pages.free(), free);
    assert!(world.core.maps.is_empty());
}

#[test]
fn protection_and_wiring_know_nothing_of_each_other() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    wire(&mut world, map, at, PAGE, RW).unwrap();
    protect(&mut world, map, at, PAGE, Prot::NONE);
    assert_eq!(wirings(&world, map, at), 1);
    let touched = world.touch(map, at, Prot::READ);
    assert_eq!(touched, Touch::Fails(Kern::ProtectionFailure));
    protect(&mut world, map, at, PAGE, RW);
    let zeroed = world.machine.work.zeroed;
    world.write(map, at, &[1]).unwrap();
    assert_eq!(world.machine.work.zeroed, zeroed, "the page had stayed");
}

#[test]
fn a_write_over_wired_memory_keeps_the_wiring_and_the_page() {
    let mut world = world(64);
    let map = world.map();
    let from = world.allocate(map, 2 * PAGE);
    world.write(map, from, &[9; 100]).unwrap();
    let to = world.allocate(map, 3 * PAGE) + PAGE;
    wire(&mut world, map, to, 2 * PAGE, RW).unwrap();
    let Touch::Done(frame) = world.touch(map, to, Prot::WRITE) else {
        panic!("wired memory waits");
    };
    let copy = vm_map::VmCopy {
        source: from,
        size: 2 * PAGE,
        destination: to,
    };
    plain(&mut world, map, Request::VmCopy(copy)).unwrap();
    assert_eq!(wirings(&world, map, to), 1);
    assert_eq!(world.touch(map, to, Prot::WRITE), Touch::Done(frame));
    let mut byte = [0];
    world.read(map, to + 99, &mut byte).unwrap();
    assert_eq!(byte, [9]);
}
