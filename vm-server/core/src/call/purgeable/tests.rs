//! Purgeable memory: its states, the order in which it goes, and that it goes before anything fails.

extern crate std;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE as PAGE;
use ipc_abi::types::purgeable::{
    BEHAVIOR_LIFO, EMPTY, GET_STATE, GROUP_SHIFT, NO_AGING, NONVOLATILE, PURGE_ALL, SET_STATE,
    VOLATILE,
};
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_advice::{self, VmPurgableControl};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Message, Reply};
use crate::event::{MapId, NO_RIGHTS};
use crate::sim::{Touch, World};

fn allocate(world: &mut World, map: MapId, pages: u64) -> u64 {
    let flags = (MapFlags::ANYWHERE | MapFlags::PURGABLE).bits();
    let request = Request::VmAllocate(vm_map::VmAllocate {
        address: 0,
        size: pages * PAGE,
        flags,
    });
    match world.call(map, request, NO_RIGHTS) {
        Ok(Reply {
            message: Message::Map(vm_map::Reply::VmAllocate(reply)),
            ..
        }) => reply.address,
        other => panic!("{other:?}"),
    }
}

fn control(
    world: &mut World,
    map: MapId,
    address: u64,
    (control, state): (u32, u32),
) -> Result<u32, Kern> {
    let request = Request::Advice(vm_advice::Request::VmPurgableControl(VmPurgableControl {
        address,
        control,
        state,
    }));
    world
        .call(map, request, NO_RIGHTS)
        .map(|reply| match reply.message {
            Message::Map(vm_map::Reply::Advice(vm_advice::Reply::VmPurgableControl(said))) => {
                said.state
            }
            other => panic!("{other:?}"),
        })
}

fn set(world: &mut World, map: MapId, address: u64, state: u32) -> Result<u32, Kern> {
    control(world, map, address, (SET_STATE, state))
}

fn get(world: &mut World, map: MapId, address: u64) -> Result<u32, Kern> {
    control(world, map, address, (GET_STATE, 0))
}

fn fill(world: &mut World, map: MapId, address: u64, pages: u64) {
    for page in 0..pages {
        world
            .write(map, address + page * PAGE, &[page as u8 + 1])
            .unwrap();
    }
}

fn byte(world: &mut World, map: MapId, address: u64) -> u8 {
    let mut byte = [0];
    world.read(map, address, &mut byte).unwrap();
    byte[0]
}

#[test]
fn contents_that_stay_volatile_are_there_when_they_are_wanted_again() {
    let mut world = World::new(64);
    let map = world.map();
    let at = allocate(&mut world, map, 4);
    fill(&mut world, map, at, 4);
    assert_eq!(set(&mut world, map, at, VOLATILE), Ok(NONVOLATILE));
    assert_eq!(get(&mut world, map, at), Ok(VOLATILE));
    assert_eq!(set(&mut world, map, at, NONVOLATILE), Ok(VOLATILE));
    assert_eq!(byte(&mut world, map, at + 3 * PAGE), 4);
}

#[test]
fn emptiness_is_reported_once() {
    let mut world = World::new(256);
    let map = world.map();
    // More pages than one step frees.
    let at = allocate(&mut world, map, 150);
    fill(&mut world, map, at, 150);
    assert_eq!(set(&mut world, map, at, VOLATILE), Ok(NONVOLATILE));
    assert_eq!(set(&mut world, map, at, EMPTY), Ok(VOLATILE));
    assert_eq!(byte(&mut world, map, at + 149 * PAGE), 0);
    assert_eq!(
        set(&mut world, map, at, VOLATILE),
        Ok(EMPTY),
        "it stays empty"
    );
    assert_eq!(set(&mut world, map, at, NONVOLATILE), Ok(EMPTY));
    assert_eq!(set(&mut world, map, at, NONVOLATILE), Ok(NONVOLATILE));
    assert_eq!(byte(&mut world, map, at), 0);
}

#[test]
fn volatile_memory_goes_before_a_fault_fails() {
    let mut world = World::new(160);
    let map = world.map();
    let first = allocate(&mut world, map, 64);
    let second = allocate(&mut world, map, 64);
    fill(&mut world, map, first, 64);
    fill(&mut world, map, second, 64);
    // The second is older in its list.
    set(&mut world, map, second, VOLATILE).unwrap();
    set(&mut world, map, first, VOLATILE).unwrap();
    let plain = world.allocate(map, 80 * PAGE);
    for page in 0..80 {
        world.write(map, plain + page * PAGE, &[1]).unwrap();
    }
    assert_eq!(get(&mut world, map, second), Ok(EMPTY));
    assert_eq!(get(&mut world, map, first), Ok(VOLATILE));
    assert_eq!(set(&mut world, map, second, NONVOLATILE), Ok(EMPTY));
    assert_eq!(set(&mut world, map, first, NONVOLATILE), Ok(VOLATILE));
    assert_eq!(byte(&mut world, map, first + 5 * PAGE), 6);
    // What is nonvolatile does not go.
    let rest = world.allocate(map, 64 * PAGE);
    let fails = (0..64).any(|page| {
        world.touch(map, rest + page * PAGE, Prot::WRITE) == Touch::Fails(Kern::ResourceShortage)
    });
    assert!(fails);
}

#[test]
fn groups_and_order_decide_what_goes_first() {
    let mut world = World::new(160);
    let map = world.map();
    let at: [u64; 5] = core::array::from_fn(|_| allocate(&mut world, map, 16));
    let words = [
        VOLATILE | NO_AGING,
        VOLATILE | 1 << GROUP_SHIFT,
        VOLATILE | BEHAVIOR_LIFO,
        VOLATILE | BEHAVIOR_LIFO,
        VOLATILE,
    ];
    for (at, word) in at.into_iter().zip(words) {
        fill(&mut world, map, at, 16);
        set(&mut world, map, at, word).unwrap();
    }
    let mut order = Vec::new();
    let plain = world.allocate(map, 156 * PAGE);
    for page in 0..150 {
        world.write(map, plain + page * PAGE, &[1]).unwrap();
        for (number, at) in at.into_iter().enumerate() {
            if get(&mut world, map, at) == Ok(EMPTY) && !order.contains(&number) {
                order.push(number);
            }
        }
    }
    assert_eq!(order, [4, 3, 2, 1, 0]);
}

#[test]
fn purge_all_empties_what_is_volatile_and_nothing_else() {
    let mut world = World::new(256);
    let map = world.map();
    let kept = allocate(&mut world, map, 2);
    let gone = allocate(&mut world, map, 100);
    fill(&mut world, map, kept, 2);
    fill(&mut world, map, gone, 100);
    set(&mut world, map, gone, VOLATILE).unwrap();
    let said = control(&mut world, map, 0, (PURGE_ALL, u32::MAX));
    assert_eq!(said, Ok(u32::MAX));
    assert_eq!(set(&mut world, map, gone, NONVOLATILE), Ok(EMPTY));
    assert_eq!(byte(&mut world, map, gone + 99 * PAGE), 0);
    assert_eq!(byte(&mut world, map, kept), 1);
}

#[test]
fn what_is_wrong_is_said_in_order() {
    let mut world = World::new(64);
    let map = world.map();
    let at = allocate(&mut world, map, 2);
    let plain = world.allocate(map, PAGE);
    world.write(map, plain, &[1]).unwrap();
    let argument = Err(Kern::InvalidArgument);
    assert_eq!(set(&mut world, map, at, 0x12345), argument, "C0185");
    assert_eq!(set(&mut world, map, at, 3), argument, "C0187");
    assert_eq!(set(&mut world, map, at, 0x10000), Ok(NONVOLATILE), "C0190");
    assert_eq!(set(&mut world, map, at, 0x700), Ok(NONVOLATILE), "C0191");
    assert_eq!(control(&mut world, map, at, (4, 0)), argument, "C0197");
    assert_eq!(set(&mut world, map, plain, VOLATILE), argument, "C0199");
    assert_eq!(get(&mut world, map, 0), Err(Kern::InvalidAddress));
    let protect = Request::VmProtect(vm_map::VmProtect {
        address: at,
        size: PAGE,
        set_maximum: false,
        protection: 1,
    });
    world.call(map, protect, NO_RIGHTS).unwrap();
    let denied = set(&mut world, map, at, VOLATILE);
    assert_eq!(denied, Err(Kern::ProtectionFailure));
    let part = set(&mut world, map, at + PAGE, VOLATILE);
    assert_eq!(part, argument, "a part of one");
}

#[test]
fn a_child_gets_a_copy_that_is_not_purgeable() {
    let mut world = World::new(128);
    let map = world.map();
    let at = allocate(&mut world, map, 3);
    fill(&mut world, map, at, 3);
    let fork = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let child = match world.call(map, fork, NO_RIGHTS).map(|reply| reply.right) {
        Ok(Some(crate::event::PortOf::Map(child))) => child,
        other => panic!("{other:?}"),
    };
    set(&mut world, map, at, EMPTY).unwrap();
    assert_eq!(byte(&mut world, child, at + 2 * PAGE), 3);
    assert_eq!(get(&mut world, child, at), Err(Kern::InvalidArgument));
}

#[test]
fn memory_that_ends_while_it_is_volatile_leaves_its_list() {
    let mut world = World::new(64);
    let map = world.map();
    let at = allocate(&mut world, map, 16);
    fill(&mut world, map, at, 16);
    set(&mut world, map, at, VOLATILE).unwrap();
    assert_eq!(world.core.maps.get(map).unwrap().counts.volatile, 16);
    world.deallocate(map, at, 16 * PAGE);
    world.settle();
    assert!(!world.core.can_purge());
    assert_eq!(world.core.maps.get(map).unwrap().counts.volatile, 0);
}
