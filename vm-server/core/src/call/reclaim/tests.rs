//! Rings of deferred reclamation, as a task uses them and as one abuses them; cold maps.

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE as PAGE;
use ipc_abi::reclaim::{self as layout, Behavior, Entry as Freed};
use ipc_abi::types::Prot;
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate as Allocate,
    MachVmDeferredReclamationBufferFlush as Flush, MachVmDeferredReclamationBufferResize as Resize,
    MachVmDeferredReclamationBufferUpdateReclaimableBytes as Update, Reply as Said, Request,
    VmSwapout,
};
use ipc_protocol::{vm_map, vm_wire};

use crate::call::{Call, Message};
use crate::effect::Report;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId};
use crate::sim::{Touch, World};

const HOST: RightId = RightId(77);

fn call(world: &mut World, map: MapId, request: Request) -> Result<Said, Kern> {
    let request = vm_map::Request::Advice(request);
    world
        .call(map, request, NO_RIGHTS)
        .map(|reply| match reply.message {
            Message::Map(vm_map::Reply::Advice(said)) => said,
            other => panic!("{other:?}"),
        })
}

fn allocate(world: &mut World, map: MapId, len: u32, max_len: u32) -> Result<u64, Kern> {
    let request = Request::MachVmDeferredReclamationBufferAllocate(Allocate { len, max_len });
    call(world, map, request).map(|said| match said {
        Said::MachVmDeferredReclamationBufferAllocate(said) => said.address,
        other => panic!("{other:?}"),
    })
}

fn flush(world: &mut World, map: MapId, count: u32) -> Result<(), Kern> {
    let request = Request::MachVmDeferredReclamationBufferFlush(Flush { count });
    call(world, map, request).map(drop)
}

fn swapout(world: &mut World, map: MapId) -> Result<(), Kern> {
    call(world, map, Request::VmSwapout(VmSwapout {})).map(drop)
}

fn word(world: &mut World, map: MapId, address: u64) -> u64 {
    let mut bytes = [0; 8];
    world.read(map, address, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn words(world: &mut World, map: MapId, ring: u64) -> [u64; 3] {
    [layout::HEAD, layout::BUSY, layout::TAIL].map(|offset| word(world, map, ring + offset))
}

/// Puts a range into a ring of `len` entries, as the task does.
fn put(
    world: &mut World,
    map: MapId,
    (ring, len): (u64, u32),
    (address, size): (u64, u64),
    behavior: Behavior,
) {
    let [_, _, tail] = words(world, map, ring);
    let entry = Freed {
        address,
        size: size as u32,
        behavior: behavior as u32,
    };
    let at = ring + layout::entry_offset(tail, len);
    for (place, word) in entry.to_words().into_iter().enumerate() {
        let to = at + 8 * place as u64;
        world.write(map, to, &word.to_le_bytes()).unwrap();
    }
    let next = (tail + 1).to_le_bytes();
    world.write(map, ring + layout::TAIL, &next).unwrap();
}

fn filled(world: &mut World, map: MapId, pages: u64) -> u64 {
    let at = world.allocate(map, pages * PAGE);
    for page in 0..pages {
        let bytes = [page as u8 + 1];
        world.write(map, at + page * PAGE, &bytes).unwrap();
    }
    at
}

#[test]
fn a_ring_begins_empty_and_there_is_one() {
    let mut world = World::new(64);
    let map = world.map();
    let argument = Err(Kern::InvalidArgument);
    assert_eq!(allocate(&mut world, map, 0, 4), argument);
    assert_eq!(allocate(&mut world, map, 5, 4), argument);
    assert_eq!(allocate(&mut world, map, 1, u32::MAX), argument);
    assert_eq!(flush(&mut world, map, 1), Err(Kern::InvalidArgument));
    let ring = allocate(&mut world, map, 256, 512).unwrap();
    assert_eq!(words(&mut world, map, ring), [0, 0, 0]);
    assert_eq!(word(&mut world, map, ring + layout::CAPACITY), 256);
    assert_eq!(allocate(&mut world, map, 1, 1), Err(Kern::Failure));
}

#[test]
fn a_server_without_reclamation_says_so() {
    let mut world = World::with(crate::Config {
        reclaims: false,
        ..crate::Config::for_frames(64)
    });
    let map = world.map();
    assert_eq!(
        allocate(&mut world, map, 1, 1),
        Err(Kern::NotSupported),
        "C0485"
    );
}

#[test]
fn entries_are_taken_oldest_first_and_as_they_say() {
    let mut world = World::new(512);
    let map = world.map();
    let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
    let unmapped = filled(&mut world, map, 100);
    let zeroed = filled(&mut world, map, 3);
    let kept = filled(&mut world, map, 2);
    put(
        &mut world,
        map,
        ring,
        (unmapped, 100 * PAGE),
        Behavior::Deallocate,
    );
    put(&mut world, map, ring, (zeroed + PAGE, PAGE), Behavior::Free);
    put(
        &mut world,
        map,
        ring,
        (kept, 2 * PAGE),
        Behavior::Deallocate,
    );
    assert_eq!(flush(&mut world, map, 2), Ok(()));
    let gone = world.touch(map, unmapped + 99 * PAGE, Prot::READ);
    assert_eq!(gone, Touch::Fails(Kern::InvalidAddress), "C0487");
    let first = |world: &mut World, at| word(world, map, at) as u8;
    assert_eq!(first(&mut world, zeroed), 1);
    assert_eq!(first(&mut world, zeroed + PAGE), 0, "C0488");
    assert_eq!(first(&mut world, kept + PAGE), 2);
    assert_eq!(words(&mut world, map, ring.0), [2, 2, 3]);
    // An entry that was taken back is empty.
    let at = ring.0 + layout::entry_offset(2, ring.1);
    world.write(map, at, &[0; 16]).unwrap();
    assert_eq!(flush(&mut world, map, u32::MAX), Ok(()));
    assert_eq!(words(&mut world, map, ring.0), [3, 3, 3]);
    assert_eq!(first(&mut world, kept), 1);
}

#[test]
fn a_ring_goes_round_and_can_be_resized_when_it_is_empty() {
    let mut world = World::new(256);
    let map = world.map();
    let at = filled(&mut world, map, 40);
    let ring = allocate(&mut world, map, 3, 300).unwrap();
    for round in 0..5 {
        for place in 0..3 {
            let range = (at + (3 * round + place) * PAGE, PAGE);
            put(&mut world, map, (ring, 3), range, Behavior::Free);
        }
        assert_eq!(flush(&mut world, map, 3), Ok(()));
    }
    put(
        &mut world,
        map,
        (ring, 3),
        (at + 20 * PAGE, PAGE),
        Behavior::Free,
    );
    let resize = |len| Request::MachVmDeferredReclamationBufferResize(Resize { len });
    let refused = call(&mut world, map, resize(301)).map(drop);
    assert_eq!(refused, Err(Kern::InvalidArgument));
    call(&mut world, map, resize(300)).unwrap();
    assert_eq!(word(&mut world, map, ring + layout::CAPACITY), 300);
    assert_eq!(words(&mut world, map, ring), [16, 16, 16]);
    for page in 21..30 {
        let range = (at + page * PAGE, PAGE);
        put(&mut world, map, (ring, 300), range, Behavior::Free);
    }
    assert_eq!(flush(&mut world, map, 100), Ok(()));
    let bytes: Vec<u64> = (0..31)
        .map(|page| word(&mut world, map, at + page * PAGE))
        .collect();
    assert!(bytes[..15].iter().all(|word| *word == 0));
    assert_eq!((bytes[15], bytes[19], bytes[30]), (16, 20, 31));
    assert!(bytes[20..30].iter().all(|word| *word == 0));
}

#[test]
fn what_lies_in_rings_is_taken_before_a_fault_fails() {
    let mut world = World::new(160);
    let (lazy, busy) = (world.map(), world.map());
    let at = filled(&mut world, lazy, 100);
    let ring = (allocate(&mut world, lazy, 8, 8).unwrap(), 8);
    put(
        &mut world,
        lazy,
        ring,
        (at, 50 * PAGE),
        Behavior::Deallocate,
    );
    put(
        &mut world,
        lazy,
        ring,
        (at + 50 * PAGE, 50 * PAGE),
        Behavior::Free,
    );
    let more = world.allocate(busy, 130 * PAGE);
    let mut page = 0;
    while page < 130 {
        match world.touch(busy, more + page * PAGE, Prot::WRITE) {
            Touch::Done(_) => page += 1,
            Touch::Waits(token) => {
                world.settle();
                assert_eq!(world.resumed.remove(&token.0.get()), Some(Ok(())));
            }
            Touch::Fails(code) => panic!("page {page}: {code}"),
        }
    }
    assert!(!world.core.reclaiming);
    // When there is nothing left, it fails.
    let rest = world.allocate(busy, 100 * PAGE);
    let failed = (0..100).any(
        |page| match world.touch(busy, rest + page * PAGE, Prot::WRITE) {
            Touch::Waits(token) => {
                world.settle();
                world.resumed.remove(&token.0.get()) == Some(Err(Kern::ResourceShortage))
            }
            touched => matches!(touched, Touch::Fails(_)),
        },
    );
    assert!(failed);
}

/// A task fills most of the memory and puts it into its ring; then another needs it, whose touches go on at once
/// if they wait at all.
fn one_lets_go_for_another(world: &mut World, lazy: MapId, busy: MapId) {
    let at = filled(world, lazy, 100);
    let ring = (allocate(world, lazy, 8, 8).unwrap(), 8);
    put(world, lazy, ring, (at, 100 * PAGE), Behavior::Free);
    let more = world.allocate(busy, 130 * PAGE);
    for page in 0..130 {
        if let Touch::Waits(token) = world.touch(busy, more + page * PAGE, Prot::WRITE) {
            world.settle();
            let resumed = world.resumed.remove(&token.0.get());
            assert_eq!(resumed, Some(Ok(())), "page {page}");
        }
    }
    assert!(!world.core.reclaiming);
}

#[test]
fn nobody_waits_for_the_pager_of_what_lies_in_anothers_ring() {
    const PORT: RightId = RightId(5);
    let mut world = World::new(160);
    let (hostile, lazy, busy) = (world.map(), world.map(), world.map());
    let silent = world.map_object(hostile, PORT, 2 * PAGE);
    let ring = (allocate(&mut world, hostile, 8, 8).unwrap(), 8);
    put(
        &mut world,
        hostile,
        ring,
        (silent, 2 * PAGE),
        Behavior::Free,
    );
    one_lets_go_for_another(&mut world, lazy, busy);
}

#[test]
fn nobody_waits_for_the_wiring_of_what_lies_in_anothers_ring() {
    const PORT: RightId = RightId(5);
    let mut world = World::with(crate::Config {
        host: Some(HOST),
        ..crate::Config::for_frames(160)
    });
    let (hostile, lazy, busy) = (world.map(), world.map(), world.map());
    let silent = world.map_object(hostile, PORT, 2 * PAGE);
    let ring = (allocate(&mut world, hostile, 8, 8).unwrap(), 8);
    let range = (silent, 2 * PAGE);
    put(&mut world, hostile, ring, range, Behavior::Deallocate);
    let wire = vm_map::Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
        address: silent,
        size: 2 * PAGE,
        access: Prot::READ.bits().into(),
    }));
    let mut rights = NO_RIGHTS;
    rights[vm_wire::VmWire::HOST] = PortRef::Foreign(HOST);
    let wires = world.send(Call::Map(hostile, wire), rights);
    world.settle();
    assert_eq!(world.answer(wires), None, "its pager is silent");
    one_lets_go_for_another(&mut world, lazy, busy);
}

#[test]
fn a_ring_that_is_said_to_hold_nothing_is_left_alone() {
    let mut world = World::new(128);
    let map = world.map();
    let at = filled(&mut world, map, 60);
    let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
    put(&mut world, map, ring, (at, 60 * PAGE), Behavior::Free);
    let reclaimable_bytes = 0;
    let update = Update { reclaimable_bytes };
    let request = Request::MachVmDeferredReclamationBufferUpdateReclaimableBytes(update);
    call(&mut world, map, request).unwrap();
    let more = world.allocate(map, 100 * PAGE);
    for page in 0..100 {
        let _ = world.touch(map, more + page * PAGE, Prot::WRITE);
        world.settle();
    }
    assert_eq!(words(&mut world, map, ring.0), [0, 0, 1]);
}

#[test]
fn suspension_takes_the_ring_and_the_translations_and_no_contents() {
    let mut world = World::new(256);
    let map = world.map();
    let kept = filled(&mut world, map, 80);
    let freed = filled(&mut world, map, 20);
    let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
    put(
        &mut world,
        map,
        ring,
        (freed, 20 * PAGE),
        Behavior::Deallocate,
    );
    let before = world.core.maps.get(map).unwrap().pages;
    assert_eq!(swapout(&mut world, map), Ok(()));
    world.settle();
    let pages = world.core.maps.get(map).unwrap().pages;
    assert_eq!(pages, before - 20, "C0492");
    let space = world.machine.spaces.get(&map.to_word()).unwrap();
    assert!(space.pages.is_empty(), "cold");
    for page in 0..80 {
        assert_eq!(
            word(&mut world, map, kept + page * PAGE) as u8,
            page as u8 + 1
        );
    }
    let bare = world.map();
    assert_eq!(swapout(&mut world, bare), Ok(()), "without a ring");
}

#[test]
fn a_task_that_is_suspended_is_swapped_out_but_for_what_is_wired() {
    let mut world = World::with(crate::Config {
        host: Some(HOST),
        ..crate::Config::for_frames(256)
    });
    let map = world.map();
    let kept = filled(&mut world, map, 80);
    let wired = filled(&mut world, map, 3);
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Foreign(HOST);
    let request = vm_wire::Request::VmWire(vm_wire::VmWire {
        address: wired,
        size: 3 * PAGE,
        access: 3,
    });
    let said = world.call(map, vm_map::Request::Wire(request), rights);
    assert!(said.is_ok());
    world.event(Event::TaskSuspended(map));
    world.settle();
    let space = world.machine.spaces.get(&map.to_word()).unwrap();
    assert!(space.pages.len() <= 3, "cold");
    assert_eq!(word(&mut world, map, kept + 79 * PAGE) as u8, 80);
    let other = world.map();
    world.core.maps.get_mut(other).unwrap().account.limits.ops = 0;
    world.event(Event::TaskSuspended(other));
    world.event(Event::TaskEnded(other));
    world.event(Event::TaskSuspended(other));
    world.settle();
}

#[test]
fn a_child_has_a_ring_of_its_own() {
    let mut world = World::new(256);
    let map = world.map();
    let at = filled(&mut world, map, 4);
    let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
    put(&mut world, map, ring, (at, 2 * PAGE), Behavior::Deallocate);
    let fork = vm_map::Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let child = match world.call(map, fork, NO_RIGHTS).map(|reply| reply.right) {
        Ok(Some(PortOf::Map(child))) => child,
        other => panic!("{other:?}"),
    };
    assert_eq!(flush(&mut world, map, 8), Ok(()));
    assert_eq!(word(&mut world, child, at), 1, "the child's is not taken");
    put(
        &mut world,
        child,
        ring,
        (at + 2 * PAGE, PAGE),
        Behavior::Free,
    );
    assert_eq!(flush(&mut world, child, 8), Ok(()));
    let gone = world.touch(child, at, Prot::READ);
    assert_eq!(gone, Touch::Fails(Kern::InvalidAddress));
    assert_eq!(word(&mut world, child, at + 2 * PAGE), 0);
    assert_eq!(word(&mut world, map, at + 2 * PAGE), 3);
}

/// What becomes of a task whose ring was spoilt.
fn spoilt(spoil: impl Fn(&mut World, MapId, (u64, u32), u64)) {
    let mut world = World::new(256);
    let map = world.map();
    let at = filled(&mut world, map, 70);
    let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
    spoil(&mut world, map, ring, at);
    assert_eq!(flush(&mut world, map, 8), Err(Kern::Terminated));
    assert!(matches!(world.reports[..], [Report::RingCorrupt { .. }]));
    for access in [Prot::READ, Prot::WRITE] {
        let touched = world.touch(map, at, access);
        assert_eq!(touched, Touch::Fails(Kern::InvalidAddress));
    }
    world.settle();
    assert!(world.core.census().is_empty(), "nothing is left");
}

#[test]
fn a_corrupt_ring_costs_the_task_its_memory_and_nobody_else() {
    spoilt(|world, map, ring, at| {
        put(
            world,
            map,
            ring,
            (at + PAGE, 70 * PAGE),
            Behavior::Deallocate,
        );
    });
    spoilt(|world, map, ring, at| put(world, map, ring, (at + 1, PAGE), Behavior::Free));
    spoilt(|world, map, ring, _| put(world, map, ring, (ring.0, PAGE), Behavior::Free));
    spoilt(|world, map, ring, _| {
        put(world, map, ring, (!0xFFF, PAGE), Behavior::Deallocate);
    });
    spoilt(|world, map, (ring, _), _| {
        world
            .write(map, ring + layout::TAIL, &9u64.to_le_bytes())
            .unwrap();
    });
    spoilt(|world, map, (ring, _), _| {
        world
            .write(map, ring + layout::HEAD, &1u64.to_le_bytes())
            .unwrap();
    });
    spoilt(|world, map, (ring, _), _| world.deallocate(map, ring, PAGE));
    spoilt(|world, map, ring, at| {
        put(world, map, ring, (at, PAGE), Behavior::Free);
        let behavior = ring.0 + layout::entry_offset(0, ring.1) + 12;
        world.write(map, behavior, &[7]).unwrap();
    });
}

#[test]
fn a_ring_that_is_emptied_while_its_map_is_forked_is_emptied_for_the_child_too() {
    for again in [false, true] {
        let mut world = World::new(256);
        let map = world.map();
        let ring = (allocate(&mut world, map, 8, 8).unwrap(), 8);
        // The fork waits for this one's pager, when the child has the ring and not what is in it.
        world.map_object(map, RightId(5), PAGE);
        let at = filled(&mut world, map, 6);
        assert!(ring.0 < at);
        put(&mut world, map, ring, (at, 2 * PAGE), Behavior::Deallocate);
        put(&mut world, map, ring, (at + 4 * PAGE, PAGE), Behavior::Free);
        let fork = vm_map::Request::TaskCreate(vm_map::TaskCreate { inherit: true });
        let forking = world.send(Call::Map(map, fork), NO_RIGHTS);
        world.settle();
        assert_eq!(world.answer(forking), None);
        assert_eq!(flush(&mut world, map, 8), Ok(()));
        if again {
            // What lies there now is not what was given up.
            let request = vm_map::VmAllocate {
                address: at,
                size: 2 * PAGE,
                flags: 0,
            };
            assert!(
                world
                    .call(map, vm_map::Request::VmAllocate(request), NO_RIGHTS)
                    .is_ok()
            );
            world.write(map, at, &[77]).unwrap();
        }
        let mut pager = crate::sim::Pager::new(&mut world, RightId(5), 4, std::vec![1]);
        pager.settle(&mut world);
        let child = match world
            .answer(forking)
            .map(|said| said.map(|said| said.right))
        {
            Some(Ok(Some(PortOf::Map(child)))) => child,
            other => panic!("{other:?}"),
        };
        put(
            &mut world,
            child,
            ring,
            (at + 2 * PAGE, PAGE),
            Behavior::Deallocate,
        );
        assert_eq!(flush(&mut world, child, 8), Ok(()));
        assert!(world.reports.is_empty(), "it is no liar");
        let gone = world.touch(child, at + 2 * PAGE, Prot::READ);
        assert_eq!(gone, Touch::Fails(Kern::InvalidAddress));
        assert_eq!(word(&mut world, child, at + 3 * PAGE), 4);
        if again {
            assert_eq!(word(&mut world, child, at), 77);
        }
    }
}
