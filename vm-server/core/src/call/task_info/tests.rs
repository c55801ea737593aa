//! What a task is said to have: exact, and what pages and regions say of it too.

extern crate std;

use std::vec;

use ipc_abi::layout::PAGE_SIZE as PAGE;
use ipc_abi::types::Prot;

use super::*;
use crate::call::Message;
use crate::event::{Event, MapId, NO_RIGHTS, RightId};
use crate::sim::{Pager, World};

const PORT: RightId = RightId(70);

fn info(world: &mut World, map: MapId, count: u32) -> Result<TaskVmInfoReply, Kern> {
    let request = vm_map::Request::Inspect(vm_inspect::Request::TaskVmInfo(TaskVmInfo { count }));
    world
        .call(map, request, NO_RIGHTS)
        .map(|reply| match reply.message {
            Message::Map(vm_map::Reply::Inspect(vm_inspect::Reply::TaskVmInfo(said))) => said,
            other => panic!("{other:?}"),
        })
}

fn all(world: &mut World, map: MapId) -> TaskVmInfoReply {
    info(world, map, 100).unwrap()
}

#[test]
fn the_footprint_follows_what_is_written_and_given_back() {
    let mut world = World::new(256);
    let map = world.map();
    let at = world.allocate(map, 100 * PAGE);
    let before = all(&mut world, map);
    assert_eq!(
        (before.virtual_size, before.phys_footprint),
        (100 * PAGE, 0)
    );
    for page in 0..70 {
        world.write(map, at + page * PAGE, &[1]).unwrap();
    }
    let written = all(&mut world, map);
    assert_eq!(written.phys_footprint, 70 * PAGE, "C0498");
    assert!(written.virtual_size > written.resident_size, "C0455");
    world.deallocate(map, at, 100 * PAGE);
    world.settle();
    let after = all(&mut world, map);
    assert_eq!(
        (after.virtual_size, after.resident_size, after.region_count),
        (0, 0, 0)
    );
    assert_eq!(after.ledger_phys_footprint_peak, 70 * PAGE);
}

#[test]
fn a_pagers_memory_counts_for_who_maps_it() {
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 32, vec![7; 4 * PAGE as usize]);
    let (first, second) = (world.map(), world.map());
    let file = world.map_object(first, PORT, 4 * PAGE);
    let again = world.map_object(second, PORT, 4 * PAGE);
    pager.settle(&mut world);
    for page in 0..3 {
        world.touch(first, file + page * PAGE, Prot::READ);
        pager.settle(&mut world);
    }
    let count = |world: &mut World, map| all(world, map).external / PAGE;
    assert_eq!(
        (count(&mut world, first), count(&mut world, second)),
        (3, 0)
    );
    world.deallocate(first, file, PAGE);
    assert_eq!(count(&mut world, first), 3, "it maps the rest");
    world.deallocate(first, file, 4 * PAGE);
    assert_eq!(
        (count(&mut world, first), count(&mut world, second)),
        (0, 3)
    );
    assert_eq!(all(&mut world, second).resident_size, 3 * PAGE);
    world.touch(second, again + 3 * PAGE, Prot::READ);
    pager.settle(&mut world);
    assert_eq!(count(&mut world, second), 4);
    world.event(Event::TaskEnded(second));
    pager.settle(&mut world);
}

#[test]
fn an_older_revision_is_told_without_what_came_later() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    world.write(map, at, &[1]).unwrap();
    let refused = info(&mut world, map, TASK_VM_INFO_REV0_COUNT - 1);
    assert_eq!(refused, Err(Kern::InvalidArgument));
    let oldest = info(&mut world, map, TASK_VM_INFO_REV0_COUNT).unwrap();
    assert_eq!((oldest.count, oldest.internal), (36, PAGE));
    assert_eq!((oldest.phys_footprint, oldest.max_address), (0, 0));
    let second = info(&mut world, map, TASK_VM_INFO_REV2_COUNT - 1).unwrap();
    assert_eq!(
        (second.count, second.phys_footprint, second.max_address),
        (38, PAGE, 0)
    );
    let newest = info(&mut world, map, u32::MAX).unwrap();
    assert_eq!((newest.count, newest.limit_bytes_remaining), (48, u64::MAX));
    assert!(newest.min_address < newest.max_address);
}
