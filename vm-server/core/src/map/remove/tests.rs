//! Permanent entries, and what is put in the place of others.

use ipc_abi::Kern;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};

use crate::account::Limits;
use crate::event::{MapId, NO_RIGHTS, PortOf};
use crate::map::submap::tests::{PAGE, byte, entry, set};
use crate::sim::World;

const AT: u64 = 0x1000_0000;
const PERMANENT: u32 = MapFlags::PERMANENT.bits();
const OVERWRITE: u32 = MapFlags::OVERWRITE.bits();

fn allocate(
    world: &mut World,
    map: MapId,
    (address, pages): (u64, u64),
    flags: u32,
) -> Result<(), Kern> {
    let request = vm_map::VmAllocate {
        address,
        size: pages * PAGE,
        flags,
    };
    let said = world.call(map, Request::VmAllocate(request), NO_RIGHTS);
    said.map(|_| ())
}

/// Three pages, the middle one permanent, all written.
fn three() -> (World, MapId) {
    let mut world = World::new(64);
    let map = world.map();
    for (page, flags) in [(0, 0), (1, PERMANENT), (2, 0)] {
        allocate(&mut world, map, (AT + page * PAGE, 1), flags).unwrap();
        set(&mut world, map, AT + page * PAGE, 40 + page as u8).unwrap();
    }
    (world, map)
}

fn is_without_rights(world: &World, map: MapId, address: u64) -> bool {
    let entry = entry(world, map, address);
    entry.protection.is_empty() && entry.max_protection.is_empty()
}

#[test]
fn a_permanent_entry_is_one_of_its_own() {
    let (world, map) = three();
    for page in 0..3 {
        let entry = entry(&world, map, AT + page * PAGE);
        assert_eq!((entry.size(), entry.permanent), (PAGE, page == 1));
    }
}

#[test]
fn deallocating_leaves_a_permanent_place_without_rights() {
    let (mut world, map) = three();
    world.deallocate(map, AT, 3 * PAGE);
    for page in [0, 2] {
        assert!(
            world
                .core
                .entry_at(map, (AT + page * PAGE) / PAGE)
                .is_none()
        );
    }
    assert!(is_without_rights(&world, map, AT + PAGE));
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(byte(&mut world, map, AT + PAGE), denied);
    let taken = allocate(&mut world, map, (AT + PAGE, 1), 0);
    assert_eq!(taken, Err(Kern::NoSpace));
    world.deallocate(map, AT, 3 * PAGE);
    assert!(is_without_rights(&world, map, AT + PAGE));
    // It goes with its map.
    world.event(crate::event::Event::TaskEnded(map));
    world.settle();
    assert!(world.core.census().is_empty());
}

#[test]
fn c0234_nothing_takes_the_place_of_a_permanent_entry_and_the_rest_stays() {
    let (mut world, map) = three();
    let refused = allocate(&mut world, map, (AT, 3), OVERWRITE);
    assert_eq!(refused, Err(Kern::NoSpace));
    assert!(is_without_rights(&world, map, AT + PAGE), "rule 89");
    assert_eq!(byte(&mut world, map, AT), Ok(40));
    assert_eq!(byte(&mut world, map, AT + 2 * PAGE), Ok(42));
    assert_eq!(
        byte(&mut world, map, AT + PAGE),
        Err(Kern::ProtectionFailure)
    );
}

#[test]
fn only_the_part_in_the_way_loses_its_rights() {
    let mut world = World::new(64);
    let map = world.map();
    allocate(&mut world, map, (AT, 4), PERMANENT).unwrap();
    let refused = allocate(&mut world, map, (AT + PAGE, 1), OVERWRITE);
    assert_eq!(refused, Err(Kern::NoSpace));
    assert!(is_without_rights(&world, map, AT + PAGE));
    for page in [0, 2, 3] {
        assert_eq!(byte(&mut world, map, AT + page * PAGE), Ok(0));
    }
    assert_eq!(entry(&world, map, AT + 2 * PAGE).max_protection, Prot::ALL);
}

#[test]
fn a_named_entry_is_not_mapped_over_a_permanent_one() {
    let (mut world, map) = three();
    let name = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size: PAGE,
        offset: AT,
        permission: 3,
    });
    let port = world.call(map, name, NO_RIGHTS).unwrap().right.unwrap();
    for copy in [false, true] {
        let request = vm_map::VmMap {
            address: AT + 2 * PAGE,
            flags: OVERWRITE | PERMANENT,
            copy,
            max_protection: 3,
            ..vm_map::VmMap::anywhere(PAGE)
        };
        let rights = crate::map::submap::tests::right(port);
        let said = world.call(map, Request::VmMap(request), rights);
        // The first is permanent itself.
        assert_eq!(said.err(), copy.then_some(Kern::NoSpace));
        assert!(entry(&world, map, AT + 2 * PAGE).permanent);
    }
    assert!(is_without_rights(&world, map, AT + 2 * PAGE));
}

#[test]
fn a_child_keeps_what_is_permanent() {
    let (mut world, map) = three();
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let Some(PortOf::Map(child)) = world.call(map, request, NO_RIGHTS).unwrap().right else {
        panic!("no child");
    };
    assert!(entry(&world, child, AT + PAGE).permanent, "rule 124");
    world.deallocate(child, AT, 3 * PAGE);
    assert!(is_without_rights(&world, child, AT + PAGE));
    assert_eq!(byte(&mut world, map, AT + PAGE), Ok(41));
}

#[test]
fn nobody_sees_a_hole_while_many_entries_are_replaced() {
    let mut world = World::new(1024);
    let map = world.map();
    for page in 0..300 {
        // Of different tags, so that they stay apart.
        let tag = (page as u32 % 2 + 1) << 24;
        allocate(&mut world, map, (AT + page * PAGE, 1), tag).unwrap();
        set(&mut world, map, AT + page * PAGE, 1).unwrap();
    }
    let request = vm_map::VmAllocate {
        address: AT,
        size: 300 * PAGE,
        flags: OVERWRITE,
    };
    let call = crate::call::Call::Map(map, Request::VmAllocate(request));
    let token = world.send(call, NO_RIGHTS);
    let mut seen = 0;
    while world.answer(token).is_none() {
        let value = byte(&mut world, map, AT + 150 * PAGE).unwrap();
        seen |= 1 << value;
        world.event(crate::event::Event::Step);
    }
    assert_eq!(seen & 2, 2, "it takes more than one step");
    assert_eq!(byte(&mut world, map, AT + 150 * PAGE), Ok(0));
    assert_eq!(entry(&world, map, AT).size(), 300 * PAGE);
}

#[test]
fn the_upper_part_of_an_entry_goes_with_its_pages_and_without_a_record() {
    let mut world = World::new(64);
    let map = world.map();
    allocate(&mut world, map, (AT, 4), 0).unwrap();
    for page in 0..4 {
        set(&mut world, map, AT + page * PAGE, 1).unwrap();
    }
    let entries = world.core.entries.len();
    world.core.entries.set_limit(0);
    world.deallocate(map, AT + 2 * PAGE, 2 * PAGE);
    assert_eq!(world.core.entries.len(), entries);
    assert_eq!(entry(&world, map, AT).size(), 2 * PAGE);
    assert!(byte(&mut world, map, AT + 2 * PAGE).is_err());
    // Had its pages stayed, the entry could not grow again (rule 92).
    allocate(&mut world, map, (AT + 2 * PAGE, 2), 0).unwrap();
    assert_eq!(entry(&world, map, AT).size(), 4 * PAGE);
    for (page, value) in [(1, 1), (2, 0), (3, 0)] {
        assert_eq!(byte(&mut world, map, AT + page * PAGE), Ok(value));
    }
}

#[test]
fn the_upper_part_of_an_entry_keeps_what_a_copy_shows() {
    let mut world = World::new(64);
    let map = world.map();
    allocate(&mut world, map, (AT, 2), 0).unwrap();
    set(&mut world, map, AT + PAGE, 7).unwrap();
    let child = world.fork(map);
    world.deallocate(map, AT + PAGE, PAGE);
    assert_eq!(byte(&mut world, child, AT + PAGE), Ok(7));
    assert!(byte(&mut world, map, AT + PAGE).is_err());
}

/// A limit that was lowered leaves what there is, and what only takes its place is no more.
#[test]
fn what_takes_the_place_of_another_is_not_beyond_the_limit() {
    let mut world = World::new(64);
    let map = world.map();
    for page in 0..4u64 {
        let tag = (page as u32 + 1) << 24;
        allocate(&mut world, map, (AT + page * PAGE, 1), tag).unwrap();
        set(&mut world, map, AT + page * PAGE, 1).unwrap();
    }
    let cap = Limits {
        entries: 2,
        ..Limits::NONE
    };
    world.core.set_cap(map, cap);
    allocate(&mut world, map, (AT + PAGE, 1), OVERWRITE | 9 << 24).unwrap();
    assert_eq!(byte(&mut world, map, AT + PAGE), Ok(0));
    assert_eq!(byte(&mut world, map, AT), Ok(1));
    let more = allocate(&mut world, map, (AT + 8 * PAGE, 1), 0);
    assert_eq!(more, Err(Kern::ResourceShortage));
    world.core.check_invariants().unwrap();
}
