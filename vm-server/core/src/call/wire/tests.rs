//! What wiring promises, what it refuses, and what it leaves behind when it fails.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectLockRequest, Request as ToServer,
};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_wire::{self, VM_WIRE_CURRENT, VM_WIRE_FUTURE};

use crate::Config;
use crate::call::{Call, Message, Reply};
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

#[test]
fn pages_come_from_their_pager_while_others_go_on() {
    let (mut world, mut pager, map, at) = with_pager(256, 70);
    let other = world.allocate(map, PAGE);
    let token = send_wire(&mut world, map, at, 70 * PAGE);
    assert_eq!(world.answer(token), None);
    assert!(entry(&world, map, at).in_transition);
    world.deallocate(map, other, PAGE);
    world.write(map, at, &[0]).unwrap_err();
    pager.settle(&mut world);
    assert_eq!(world.answer(token).map(|answer| answer.is_ok()), Some(true));
    assert!(!entry(&world, map, at).in_transition);
    assert_eq!(translated(&world, map, at, 70, RW), 70);
    assert_eq!(entry(&world, map, at).size(), 70 * PAGE);
}

#[test]
fn what_overlaps_a_wiring_waits_for_it_and_nobody_else() {
    let (mut world, mut pager, map, at) = with_pager(256, 4);
    let mine = world.allocate(map, PAGE);
    let token = send_wire(&mut world, map, at, 4 * PAGE);
    let deallocate = |address, size| Request::VmDeallocate(vm_map::VmDeallocate { address, size });
    let removes = send(&mut world, map, deallocate(at + PAGE, PAGE));
    let copies = send(
        &mut world,
        map,
        Request::VmCopyin(vm_map::VmCopyin {
            address: at,
            size: PAGE,
            src_destroy: false,
        }),
    );
    let protects = send(
        &mut world,
        map,
        Request::VmProtect(vm_map::VmProtect {
            address: at,
            size: PAGE,
            set_maximum: false,
            protection: 1,
        }),
    );
    let wires = send_wire(&mut world, map, at, PAGE);
    let fork = send(
        &mut world,
        map,
        Request::TaskCreate(vm_map::TaskCreate { inherit: true }),
    );
    world.settle();
    for token in [token, removes, copies, protects, wires, fork] {
        assert_eq!(world.answer(token), None);
    }
    world.deallocate(map, mine, PAGE);
    pager.settle(&mut world);
    let answers = [token, removes, copies, fork].map(|token| world.answer(token));
    for answer in &answers {
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    }
    // One was first.
    let answers = [protects, wires].map(|token| world.answer(token).unwrap().map(|_| ()));
    assert_eq!(answers, [Ok(()), Err(Kern::ProtectionFailure)]);
    assert!(world.core.entry_at(map, at / PAGE + 1).is_none());
}

#[test]
fn a_pager_that_never_answers_costs_whoever_wires_its_memory() {
    let mut world = world(256);
    let _pager = Pager::new(&mut world, PORT, 8, vec![1; 4 * PAGE as usize]);
    let map = world.map();
    let size = 100 * PAGE;
    let whole = world.allocate(map, size);
    let at = world.map_object(map, PORT, 4 * PAGE);
    assert_eq!(whole + size, at, "the two lie side by side");
    let entries = world.core.entries.len();
    let token = send_wire(&mut world, map, whole, size + 4 * PAGE);
    world.settle();
    assert_eq!(world.answer(token), None);
    assert_eq!(wirings(&world, map, whole), 1, "what is there is wired");
    let request = Request::VmDeallocate(vm_map::VmDeallocate {
        address: whole,
        size: PAGE,
    });
    let removes = send(&mut world, map, request);
    world.settle();
    assert_eq!(world.answer(removes), None);
    world.now = world.now.after(world.core.config.pager_timeout);
    world.event(Event::Tick);
    world.settle();
    assert_eq!(
        world.answer(token).map(|answer| answer.map(|_| ())),
        Some(Err(Kern::MemoryError))
    );
    assert!(matches!(world.answer(removes), Some(Ok(_))));
    assert_eq!(world.core.entries.len(), entries);
    assert_eq!(wirings(&world, map, at), 0);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
}

#[test]
fn a_pager_that_fails_a_page_fails_the_wiring() {
    let (mut world, mut pager, map, at) = with_pager(256, 4);
    pager.broken.insert(2 * PAGE);
    let token = send_wire(&mut world, map, at, 4 * PAGE);
    pager.settle(&mut world);
    let answer = world.answer(token).map(|answer| answer.map(|_| ()));
    assert_eq!(answer, Some(Err(Kern::MemoryError)));
    assert_eq!(wirings(&world, map, at), 0);
    assert_eq!(entry(&world, map, at).size(), 4 * PAGE);
    let mut byte = [0];
    world.read(map, at + PAGE, &mut byte).unwrap();
    assert_eq!(byte, [2], "what came is there");
}

#[test]
fn an_interrupted_wiring_is_undone() {
    let (mut world, mut pager, map, at) = with_pager(256, 4);
    let token = send_wire(&mut world, map, at, 4 * PAGE);
    world.event(Event::Cancelled(token));
    world.settle();
    assert_eq!(world.answer(token), None);
    assert!(!entry(&world, map, at).in_transition);
    assert_eq!(wirings(&world, map, at), 0);
    pager.settle(&mut world);
    assert_eq!(world.core.ops.len(), 0);
}

#[test]
fn a_task_ends_with_a_wiring_in_flight() {
    let (mut world, mut pager, map, at) = with_pager(256, 4);
    let token = send_wire(&mut world, map, at, 4 * PAGE);
    let request = Request::VmDeallocate(vm_map::VmDeallocate {
        address: at,
        size: PAGE,
    });
    let removes = send(&mut world, map, request);
    world.settle();
    world.event(Event::TaskEnded(map));
    world.settle();
    let ends = [token, removes].map(|token| world.answer(token).unwrap().map(|_| ()));
    assert_eq!(ends, [Err(Kern::Terminated); 2]);
    pager.settle(&mut world);
    assert!(world.core.maps.get(map).is_none());
    assert_eq!(world.core.ops.len(), 0);
}

#[test]
fn a_lock_request_returns_wired_pages_and_flushes_none() {
    let (mut world, mut pager, map, at) = with_pager(256, 2);
    pager.stores = true;
    let token = send_wire(&mut world, map, at, 2 * PAGE);
    pager.settle(&mut world);
    assert!(matches!(world.answer(token), Some(Ok(_))));
    world.write(map, at, &[42]).unwrap();
    let faults = world.core.stats.faults;
    let request = MemoryObjectLockRequest {
        offset: 0,
        size: 2 * PAGE,
        should_return: 3,
        flags: MEMORY_OBJECT_DATA_FLUSH,
        lock_value: ipc_protocol::memory_object_control::VM_PROT_NO_CHANGE,
        request: 1,
    };
    pager.say(
        &mut world,
        ToServer::MemoryObjectLockRequest(request),
        NO_RIGHTS,
    );
    world.write(map, at, &[43]).unwrap();
    pager.settle(&mut world);
    assert_eq!(pager.data[0], 42, "as it was when it was returned");
    world.write(map, at + 1, &[44]).unwrap();
    assert_eq!(world.core.stats.faults, faults, "nothing was unmapped");
    wire(&mut world, map, at, 2 * PAGE, Prot::NONE).unwrap();
    let mut bytes = [0; 2];
    world.read(map, at, &mut bytes).unwrap();
    assert_eq!(bytes, [43, 44]);
}

#[test]
fn all_memory_of_a_map_is_wired_and_released() {
    let mut world = world(512);
    let map = world.map();
    let guard = world.allocate(map, PAGE);
    protect(&mut world, map, guard, PAGE, Prot::NONE);
    let small = world.allocate(map, 3 * PAGE);
    protect(&mut world, map, small, PAGE, Prot::READ);
    let large = world.allocate(map, 100 * PAGE);
    wire(&mut world, map, large, PAGE, RW).unwrap();
    wire_all(&mut world, map, VM_WIRE_CURRENT | VM_WIRE_FUTURE).unwrap();
    assert_eq!(wirings(&world, map, guard), 0, "it may not be used");
    assert_eq!(wirings(&world, map, small), 1);
    assert_eq!(wirings(&world, map, large), 1, "it was wired already");
    assert_eq!(wirings(&world, map, large + PAGE), 1);
    let more = world.allocate(map, 80 * PAGE);
    assert_eq!(wirings(&world, map, more), 1);
    assert_eq!(translated(&world, map, more, 80, RW), 80);
    wire_all(&mut world, map, 0).unwrap();
    for address in [small, large, large + PAGE, more] {
        assert_eq!(wirings(&world, map, address), 0);
    }
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
    let after = world.allocate(map, PAGE);
    assert_eq!(wirings(&world, map, after), 0);
}

#[test]
fn a_mapping_that_cannot_be_wired_goes_again_or_stays_unwired() {
    let mut world = world(64);
    let map = world.map();
    wire_all(&mut world, map, VM_WIRE_FUTURE).unwrap();
    let allocate = |flags: MapFlags| {
        Request::VmAllocate(vm_map::VmAllocate {
            address: 0,
            size: 100 * PAGE,
            flags: flags.bits(),
        })
    };
    let refused = plain(&mut world, map, allocate(MapFlags::ANYWHERE));
    assert_eq!(refused, Err(Kern::ResourceShortage));
    world.settle();
    assert_eq!(world.core.entries.len(), 0);
    assert_eq!(world.core.maps.get(map).unwrap().size, 0);
    let best = MapFlags::ANYWHERE | MapFlags::WIRE_BEST_EFFORT;
    let Ok(Reply {
        message: Message::Map(vm_map::Reply::VmAllocate(reply)),
        ..
    }) = plain(&mut world, map, allocate(best))
    else {
        panic!("it stays");
    };
    assert_eq!(wirings(&world, map, reply.address), 0);
    assert_eq!(entry(&world, map, reply.address).size(), 100 * PAGE);
    assert_eq!(world.core.maps.get(map).unwrap().wired, 0);
}

#[test]
fn what_is_copied_out_or_mapped_from_a_pager_is_wired_where_that_is_required() {
    let (mut world, mut pager, map, at) = with_pager(256, 3);
    let source = world.allocate(map, 2 * PAGE);
    world.write(map, source, &[3]).unwrap();
    let copyin = vm_map::VmCopyin {
        address: source,
        size: 2 * PAGE,
        src_destroy: false,
    };
    let copy = plain(&mut world, map, Request::VmCopyin(copyin)).unwrap();
    wire_all(&mut world, map, VM_WIRE_FUTURE).unwrap();
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(copy.right.unwrap());
    let copyout = vm_map::VmCopyout {
        address: 0,
        flags: MapFlags::ANYWHERE.bits(),
    };
    let Ok(Reply {
        message: Message::Map(vm_map::Reply::VmCopyout(reply)),
        ..
    }) = world.call(map, Request::VmCopyout(copyout), rights)
    else {
        panic!("the copy is refused");
    };
    assert_eq!(wirings(&world, map, reply.address), 1);
    assert_eq!(translated(&world, map, reply.address, 2, RW), 2);
    let mut rights = NO_RIGHTS;
    rights[vm_map::VmMap::OBJECT] = PortRef::Foreign(PORT);
    let request = vm_map::VmMap {
        address: 0,
        size: 3 * PAGE,
        mask: 0,
        flags: MapFlags::ANYWHERE.bits(),
        offset: 0,
        copy: false,
        protection: 1,
        max_protection: 7,
        inheritance: 1,
    };
    let token = world.send(Call::Map(map, Request::VmMap(request)), rights);
    world.settle();
    assert_eq!(world.answer(token), None, "answered when it is wired");
    pager.settle(&mut world);
    let Some(Ok(Reply {
        message: Message::Map(vm_map::Reply::VmMap(reply)),
        ..
    })) = world.answer(token)
    else {
        panic!("the mapping is refused");
    };
    assert_eq!(wirings(&world, map, reply.address), 1);
    assert_eq!(translated(&world, map, reply.address, 3, Prot::READ), 3);
    assert_eq!(wirings(&world, map, at), 0);
}

#[test]
fn memory_unmapped_wired_is_zeroed_for_whoever_else_sees_it() {
    let mut world = world(64);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    let request = vm_map::VmInherit {
        address: at,
        size: 2 * PAGE,
        inheritance: 0,
    };
    plain(&mut world, map, Request::VmInherit(request)).unwrap();
    let child = fork(&mut world, map);
    world.write(map, at, &[7]).unwrap();
    world.write(map, at + PAGE, &[8]).unwrap();
    wire(&mut world, map, at, PAGE, RW).unwrap();
    let request = vm_map::VmBehaviorSet {
        address: at,
        size: 2 * PAGE,
        behavior: 7,
    };
    plain(&mut world, map, Request::VmBehaviorSet(request)).unwrap();
    world.deallocate(map, at, 2 * PAGE);
    let mut bytes = [1; 2];
    world.read(child, at, &mut bytes[..1]).unwrap();
    world.read(child, at + PAGE, &mut bytes[1..]).unwrap();
    assert_eq!(bytes, [0, 8], "only what was wired is zeroed");
}

#[test]
fn the_same_page_wired_by_two_maps_needs_both_to_let_go() {
    let (mut world, mut pager, map, at) = with_pager(256, 2);
    let other = world.map();
    let there = world.map_object(other, PORT, 2 * PAGE);
    for (map, at) in [(map, at), (other, there)] {
        let token = send_wire(&mut world, map, at, 2 * PAGE);
        pager.settle(&mut world);
        assert!(matches!(world.answer(token), Some(Ok(_))));
    }
    let Touch::Done(frame) = world.touch(map, at, Prot::WRITE) else {
        panic!("wired memory waits");
    };
    assert_eq!(world.core.pages.get(frame).unwrap().wired, 2);
    wire(&mut world, map, at, 2 * PAGE, Prot::NONE).unwrap();
    world.event(Event::TaskEnded(other));
    world.settle();
    assert_eq!(world.core.pages.get(frame).unwrap().wired, 0);
}

#[test]
fn many_wirings_of_one_map_take_turns() {
    let (mut world, mut pager, map, at) = with_pager(256, 20);
    let tokens: Vec<Token> = (0..20)
        .map(|page| send_wire(&mut world, map, at + page * PAGE, PAGE))
        .collect();
    pager.settle(&mut world);
    for token in tokens {
        assert!(matches!(world.answer(token), Some(Ok(_))));
    }
    wire(&mut world, map, at, 20 * PAGE, Prot::NONE).unwrap();
    assert_eq!(entry(&world, map, at).size(), 20 * PAGE);
}

#[test]
fn what_is_remapped_is_wired_where_that_is_required() {
    let mut world = world(256);
    let map = world.map();
    let source = world.allocate(map, 3 * PAGE);
    world.write(map, source + PAGE, &[9]).unwrap();
    wire_all(&mut world, map, VM_WIRE_FUTURE).unwrap();
    for copy in [false, true] {
        let mut rights = NO_RIGHTS;
        rights[0] = PortRef::Own(PortOf::Map(map));
        let request = ipc_protocol::vm_share::VmRemap {
            address: 0,
            size: 3 * PAGE,
            mask: 0,
            flags: MapFlags::ANYWHERE.bits(),
            source,
            copy,
            inheritance: 1,
        };
        let request = Request::Share(ipc_protocol::vm_share::Request::VmRemap(request));
        let Ok(Reply {
            message:
                Message::Map(vm_map::Reply::Share(ipc_protocol::vm_share::Reply::VmRemap(reply))),
            ..
        }) = world.call(map, request, rights)
        else {
            panic!("it is refused");
        };
        assert_eq!(wirings(&world, map, reply.address), 1);
        assert_eq!(translated(&world, map, reply.address, 3, RW), 3);
    }
    assert_eq!(wirings(&world, map, source), 0);
}

#[test]
fn what_shows_of_another_map_is_taken_out_to_be_wired() {
    use crate::map::submap::tests::{AT, CONST, DATA, END, TEXT, byte, library, put, set, show};
    for copy in [false, true] {
        let mut world = world(256);
        let (one, other) = (world.map(), world.map());
        let (_, library) = library(&mut world, one);
        for map in [one, other] {
            show(&mut world, map, library, (0, END), copy).unwrap();
        }
        let denied = wire(&mut world, one, AT + TEXT, 5 * PAGE, RW);
        assert_eq!(denied, Err(Kern::ProtectionFailure));
        let beyond = wire(&mut world, one, AT + CONST, 5 * PAGE, Prot::READ);
        assert_eq!(beyond, Err(Kern::InvalidAddress));
        assert!(
            world
                .core
                .entry_at(one, AT / PAGE)
                .unwrap()
                .submap
                .is_some()
        );
        wire(&mut world, one, AT + DATA, 4 * PAGE, RW).unwrap();
        let entry = *world.core.entry_at(one, (AT + DATA) / PAGE).unwrap();
        assert_eq!((entry.size(), entry.user_wired), (4 * PAGE, 1));
        assert!(entry.submap.is_none());
        set(&mut world, one, AT + DATA, 60).unwrap();
        let theirs = byte(&mut world, other, AT + DATA).unwrap();
        assert_eq!(theirs, if copy { 4 } else { 60 });
        wire(&mut world, one, AT + DATA, 4 * PAGE, Prot::NONE).unwrap();
        put(&mut world, (one, AT + DATA + PAGE), one, &[61]).unwrap();
        assert_eq!(byte(&mut world, one, AT + DATA + PAGE), Ok(61));
    }
}

#[test]
fn a_fault_that_waited_finds_what_is_mapped_now() {
    let (mut world, mut pager, map, at) = with_pager(64, 1);
    let Touch::Waits(token) = world.touch(map, at, Prot::WRITE) else {
        panic!("the page is not there yet");
    };
    // The memory is exchanged under it for some that may only be read.
    let request = vm_map::VmAllocate {
        address: at,
        size: PAGE,
        flags: MapFlags::OVERWRITE.bits(),
    };
    plain(&mut world, map, Request::VmAllocate(request)).unwrap();
    protect(&mut world, map, at, PAGE, Prot::READ);
    pager.settle(&mut world);
    let ended = world.resumed.remove(&token.0.get());
    assert_eq!(ended, Some(Err(Kern::ProtectionFailure)));
    let mut byte = [9];
    world.read(map, at, &mut byte).unwrap();
    assert_eq!(byte, [0], "nothing of the pager's shows");
}

#[test]
fn each_committed_change_moves_the_timestamp() {
    let mut world = world(64);
    let map = world.map();
    let stamp = |world: &World| world.core.maps.get(map).unwrap().timestamp;
    let mut last = stamp(&world);
    let at = world.allocate(map, 2 * PAGE);
    let mut moved = |world: &World, what: &str| {
        let now = stamp(world);
        assert!(now > last, "{what}");
        last = now;
    };
    moved(&world, "vm_allocate");
    protect(&mut world, map, at, PAGE, Prot::READ);
    moved(&world, "vm_protect");
    wire(&mut world, map, at, PAGE, Prot::READ).unwrap();
    moved(&world, "vm_wire");
    wire(&mut world, map, at, PAGE, Prot::NONE).unwrap();
    moved(&world, "vm_wire to unwire");
    world.deallocate(map, at, PAGE);
    moved(&world, "vm_deallocate");
    let refused = wire(&mut world, map, at, PAGE, Prot::READ);
    assert_eq!(refused, Err(Kern::InvalidAddress));
    assert_eq!(stamp(&world), last, "what fails changes nothing");
}
