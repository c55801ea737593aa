//! What is said of pages, one by one and by range.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE as PAGE;
use ipc_abi::types::Prot;

use super::*;
use crate::call::Message;
use crate::event::{NO_RIGHTS, RightId};
use crate::sim::{Pager, World};

const PORT: RightId = RightId(70);
const PRESENT: u32 = VM_PAGE_QUERY_PAGE_PRESENT;
const DIRTY: u32 = VM_PAGE_QUERY_PAGE_DIRTY;
const COPIED: u32 = VM_PAGE_QUERY_PAGE_COPIED;
const EXTERNAL: u32 = VM_PAGE_QUERY_PAGE_EXTERNAL;
const FICTITIOUS: u32 = VM_PAGE_QUERY_PAGE_FICTITIOUS;

fn page(world: &mut World, map: MapId, address: u64) -> (u32, u32) {
    let request =
        vm_map::Request::Inspect(vm_inspect::Request::VmPageQuery(VmPageQuery { address }));
    match world
        .call(map, request, NO_RIGHTS)
        .map(|reply| reply.message)
    {
        Ok(Message::Map(vm_map::Reply::Inspect(vm_inspect::Reply::VmPageQuery(said)))) => {
            (said.disposition, said.ref_count)
        }
        other => panic!("{other:?}"),
    }
}

/// The disposition without what depends on how it is mapped.
fn known(world: &mut World, map: MapId, address: u64) -> u32 {
    page(world, map, address).0 & !VM_PAGE_QUERY_PAGE_REF
}

fn range(
    world: &mut World,
    (map, into): (MapId, MapId),
    (address, size): (u64, u64),
    (dispositions, count): (u64, u64),
) -> Result<u64, Kern> {
    let request =
        vm_map::Request::Inspect(vm_inspect::Request::VmPageRangeQuery(VmPageRangeQuery {
            address,
            size,
            dispositions,
            count,
        }));
    let mut rights = NO_RIGHTS;
    rights[VmPageRangeQuery::INTO] = PortRef::Own(PortOf::Map(into));
    world
        .call(map, request, rights)
        .map(|reply| match reply.message {
            Message::Map(vm_map::Reply::Inspect(vm_inspect::Reply::VmPageRangeQuery(said))) => {
                said.count
            }
            other => panic!("{other:?}"),
        })
}

#[test]
fn a_page_is_present_dirty_copied_or_a_pagers() {
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 32, vec![7; 2 * PAGE as usize]);
    let map = world.map();
    assert_eq!(page(&mut world, map, 0x1000), (0, 0), "C0405");
    let at = world.allocate(map, 3 * PAGE);
    assert_eq!(page(&mut world, map, at), (0, 0));
    world.touch(map, at, Prot::READ);
    assert_eq!(known(&mut world, map, at), PRESENT);
    world.write(map, at + PAGE, &[1]).unwrap();
    assert_eq!(known(&mut world, map, at + PAGE), PRESENT | DIRTY);
    let all = page(&mut world, map, at + PAGE);
    assert_eq!(all, (PRESENT | DIRTY | VM_PAGE_QUERY_PAGE_REF, 1));
    let fork = vm_map::Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    world.call(map, fork, NO_RIGHTS).unwrap();
    world.write(map, at, &[1]).unwrap();
    assert_eq!(known(&mut world, map, at + PAGE), PRESENT | DIRTY | COPIED);
    let file = world.map_object(map, PORT, 2 * PAGE);
    pager.settle(&mut world);
    assert_eq!(known(&mut world, map, file), EXTERNAL);
    world.touch(map, file, Prot::READ);
    assert_eq!(known(&mut world, map, file), EXTERNAL | FICTITIOUS);
    pager.settle(&mut world);
    assert_eq!(known(&mut world, map, file), EXTERNAL | PRESENT);
}

#[test]
fn a_range_is_told_to_the_askers_memory_and_no_further() {
    let mut world = World::new(512);
    let (map, asker) = (world.map(), world.map());
    let at = world.allocate(map, 200 * PAGE);
    for page in (0..200).step_by(3) {
        world.write(map, at + page * PAGE, &[1]).unwrap();
    }
    // Across a page of the asker's memory, and three pages more than there are.
    let buffer = world.allocate(asker, 2 * PAGE);
    world
        .write(asker, buffer, &vec![0xFF; 2 * PAGE as usize])
        .unwrap();
    let to = buffer + PAGE - 100;
    let told = range(&mut world, (map, asker), (at, 203 * PAGE), (to, 300));
    assert_eq!(told, Ok(203));
    let mut bytes = vec![0; 204 * 4];
    world.read(asker, to, &mut bytes).unwrap();
    let words: Vec<u32> = bytes
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    for (page, word) in words[..203].iter().enumerate() {
        let there = page % 3 == 0 && page < 200;
        assert_eq!(word & PRESENT != 0, there, "page {page}");
    }
    assert_eq!(words[203], u32::MAX);
}

#[test]
fn what_is_wrong_with_a_range_is_said_in_order() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    let both = (map, map);
    let argument = Err(Kern::InvalidArgument);
    let whole = (1, u64::MAX);
    assert_eq!(range(&mut world, both, whole, (at, 16)), argument, "C0070");
    assert_eq!(
        range(&mut world, both, (0x1001, 0), (at, 4)),
        Ok(4),
        "C0085"
    );
    assert_eq!(range(&mut world, both, (at, PAGE), (at, 0)), Ok(0));
    assert_eq!(range(&mut world, both, (at, PAGE), (at, 1 << 62)), argument);
    assert_eq!(
        range(&mut world, both, (at, PAGE), (u64::MAX - 7, 4)),
        argument
    );
    assert_eq!(range(&mut world, both, (at, PAGE), (at + 2, 1)), Ok(1));
    let nowhere = range(&mut world, both, (at, PAGE), (0x1000, 1));
    assert_eq!(nowhere, Err(Kern::InvalidAddress));
    let none = range(&mut world, (map, map), (at, PAGE), (at, 1));
    assert_eq!(none, Ok(1));
}
