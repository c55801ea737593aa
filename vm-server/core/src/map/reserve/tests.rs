//! Ranges set aside.

use ipc_abi::Kern;
use ipc_abi::layout::{USER_MAX, USER_MIN};
use ipc_abi::types::MapFlags;
use ipc_protocol::vm_map::{self, Request};

use super::RESERVED_MAX;
use crate::event::{Event, NO_RIGHTS, PortOf};
use crate::map::submap::tests::{PAGE, allocate, reserve};
use crate::sim::World;

const FIXED: u32 = MapFlags::empty().bits();

#[test]
fn mappings_anywhere_go_round_what_is_set_aside() {
    let mut world = World::new(64);
    let map = world.map();
    let low = (USER_MIN + PAGE, 2 * PAGE);
    let next = (USER_MIN + 4 * PAGE, 4 * PAGE);
    reserve(&mut world, map, &[next, low]).unwrap();
    assert_eq!(world.allocate(map, PAGE), USER_MIN);
    assert_eq!(world.allocate(map, PAGE), USER_MIN + 3 * PAGE);
    assert_eq!(world.allocate(map, 2 * PAGE), USER_MIN + 8 * PAGE);
    // A fixed address goes there, and when it is gone the range is still set aside.
    assert!(allocate(&mut world, map, next.0, FIXED).is_ok());
    world.deallocate(map, next.0, next.1);
    assert_eq!(world.allocate(map, PAGE), USER_MIN + 10 * PAGE);
}

#[test]
fn c0495_the_same_again_is_present_already() {
    let mut world = World::new(64);
    let map = world.map();
    let base = 0x1_0000_0000;
    let ranges = [(base, 4 * PAGE), (base + 8 * PAGE, 4 * PAGE)];
    reserve(&mut world, map, &ranges).unwrap();
    let present = Err(Kern::MemoryPresent);
    assert_eq!(reserve(&mut world, map, &ranges), present);
    assert_eq!(reserve(&mut world, map, &ranges[1..]), present);
    let touching = [(base + 16 * PAGE, PAGE), (base + 3 * PAGE, 2 * PAGE)];
    assert_eq!(reserve(&mut world, map, &touching), present);
    // Nothing of a refused call stays.
    assert_eq!(reserve(&mut world, map, &touching[..1]), Ok(()));
    assert_eq!(
        reserve(&mut world, map, &[(base + 4 * PAGE, 4 * PAGE)]),
        Ok(())
    );
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let mut world = World::new(64);
    let map = world.map();
    let base = 0x1_0000_0000;
    let taken = world.allocate(map, PAGE);
    let refused = Err(Kern::InvalidArgument);
    for ranges in [
        &[][..],
        &[(base, 0)],
        &[(base + 1, PAGE)],
        &[(base, 1)],
        &[(u64::MAX - PAGE + 1, PAGE)],
        &[(base, u64::MAX)],
        &[(0, PAGE)],
        &[(USER_MAX - PAGE, 2 * PAGE)],
        &[(taken, PAGE)],
        &[(base, 2 * PAGE), (base + PAGE, 2 * PAGE)],
        &[(base, PAGE), (base + PAGE, PAGE), (base, PAGE)],
    ] {
        assert_eq!(reserve(&mut world, map, ranges), refused, "{ranges:?}");
    }
    assert_eq!(world.core.census().reserved, 0);
}

#[test]
fn a_child_has_its_parents_ranges_and_they_end_with_their_maps() {
    let mut world = World::new(64);
    let map = world.map();
    reserve(&mut world, map, &[(USER_MIN, 4 * PAGE)]).unwrap();
    for inherit in [true, false] {
        let request = Request::TaskCreate(vm_map::TaskCreate { inherit });
        let Some(PortOf::Map(child)) = world.call(map, request, NO_RIGHTS).unwrap().right else {
            panic!("no child");
        };
        assert_eq!(world.allocate(child, PAGE), USER_MIN + 4 * PAGE);
        world.event(Event::TaskEnded(child));
    }
    world.event(Event::TaskEnded(map));
    world.settle();
    assert!(world.core.census().is_empty());
}

#[test]
fn there_are_so_many_and_no_more() {
    let mut world = World::new(64);
    let map = world.map();
    for number in 0..RESERVED_MAX as u64 {
        let range = (USER_MIN + number * 2 * PAGE, PAGE);
        reserve(&mut world, map, &[range]).unwrap();
    }
    let more = reserve(&mut world, map, &[(1 << 40, PAGE)]);
    assert_eq!(more, Err(Kern::ResourceShortage));
    let found = world.allocate(map, 2 * PAGE);
    assert_eq!(found, USER_MIN + (2 * RESERVED_MAX as u64 - 1) * PAGE);
}

#[test]
fn a_shortage_of_records_leaves_nothing_behind() {
    let mut world = World::new(64);
    let map = world.map();
    let ranges = [(1 << 40, PAGE), (1 << 41, PAGE), (1 << 42, PAGE)];
    world.core.reserved.set_limit(2);
    let short = Err(Kern::ResourceShortage);
    assert_eq!(reserve(&mut world, map, &ranges), short);
    assert_eq!(world.core.census().reserved, 0);
    world.core.reserved.set_limit(3);
    assert_eq!(reserve(&mut world, map, &ranges), Ok(()));
}
