//! What vm_region and vm_region_recurse say.

use ipc_abi::Kern;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_inspect::{
    self, VM_REGION_SUBMAP_SHORT_INFO_COUNT_64, VmRegionRecurse, VmRegionRecurseReply,
};
use ipc_protocol::vm_map::{
    self, Request, SM_COW, SM_EMPTY, SM_PRIVATE, SM_PRIVATE_ALIASED, SM_TRUESHARED,
    VM_REGION_BASIC_INFO, VM_REGION_EXTENDED_INFO, VM_REGION_TOP_INFO, VmRegion, VmRegionReply,
};

use crate::call::Message;
use crate::event::{MapId, NO_RIGHTS, PortOf};
use crate::map::submap::tests::{
    AT, CONST, DATA, END, PAGE, TEXT, create, library, seal, set, show, two,
};
use crate::sim::World;

fn region(world: &mut World, map: MapId, request: VmRegion) -> Result<VmRegionReply, Kern> {
    let said = world.call(map, Request::VmRegion(request), NO_RIGHTS)?;
    match said.message {
        Message::Map(vm_map::Reply::VmRegion(reply)) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn recurse(
    world: &mut World,
    map: MapId,
    address: u64,
    depth: u32,
) -> Result<VmRegionRecurseReply, Kern> {
    let request = VmRegionRecurse {
        address,
        depth,
        count: VM_REGION_SUBMAP_SHORT_INFO_COUNT_64,
    };
    let request = vm_inspect::Request::VmRegionRecurse(request);
    let said = world.call(map, Request::Inspect(request), NO_RIGHTS)?;
    match said.message {
        Message::Map(vm_map::Reply::Inspect(vm_inspect::Reply::VmRegionRecurse(reply))) => {
            Ok(reply)
        }
        other => panic!("{other:?}"),
    }
}

fn extended(world: &mut World, map: MapId, address: u64) -> VmRegionReply {
    region(world, map, VmRegion::extended(address)).unwrap()
}

#[test]
fn c0404_a_flavor_is_known_and_has_room() {
    let mut world = World::new(64);
    let map = world.map();
    let address = world.allocate(map, PAGE);
    let refused = Err(Kern::InvalidArgument);
    for flavor in [0, 1, 11, 99, u32::MAX] {
        let request = VmRegion {
            flavor,
            count: u32::MAX,
            address,
        };
        assert_eq!(region(&mut world, map, request), refused);
    }
    let flavors = [
        (vm_map::VM_REGION_BASIC_INFO_64, 9),
        (VM_REGION_BASIC_INFO, 8),
        (VM_REGION_TOP_INFO, 5),
        (VM_REGION_EXTENDED_INFO, 9),
    ];
    for (flavor, count) in flavors {
        let of = |count| VmRegion {
            address,
            flavor,
            count,
        };
        assert_eq!(region(&mut world, map, of(0)), refused);
        assert_eq!(region(&mut world, map, of(count - 1)), refused);
        assert_eq!(region(&mut world, map, of(count)).unwrap().address, address);
        assert!(region(&mut world, map, of(u32::MAX)).is_ok());
    }
}

#[test]
fn c0402_c0461_the_next_region_above_or_none() {
    let mut world = World::new(64);
    let map = world.map();
    let address = world.allocate(map, 2 * PAGE);
    let above = |address| VmRegion::extended(address);
    assert_eq!(region(&mut world, map, above(0)).unwrap().address, address);
    let refused = Err(Kern::InvalidAddress);
    assert_eq!(region(&mut world, map, above(address + 2 * PAGE)), refused);
    assert_eq!(region(&mut world, map, above(u64::MAX)), refused);
    assert_eq!(
        recurse(&mut world, map, u64::MAX, 9).err(),
        Some(Kern::InvalidAddress)
    );
}

#[test]
fn resident_and_written_pages_of_the_window_are_counted() {
    let mut world = World::new(1024);
    let map = world.map();
    let address = world.allocate(map, 400 * PAGE);
    assert_eq!(extended(&mut world, map, address).share_mode, SM_EMPTY);
    for page in 0..300 {
        set(&mut world, map, address + page * PAGE, 1).unwrap();
    }
    let said = extended(&mut world, map, address);
    assert_eq!((said.pages_resident, said.pages_dirtied), (300, 300));
    assert_eq!((said.share_mode, said.ref_count), (SM_PRIVATE, 1));
    assert_ne!(said.object_id, 0);
    // Each step looks at no more than its share.
    let before = world.events;
    extended(&mut world, map, address);
    assert!(world.events - before >= 300 / 64);
    // A window of the object has only its own.
    world.deallocate(map, address + 100 * PAGE, PAGE);
    let (low, high) = (
        extended(&mut world, map, address),
        extended(&mut world, map, address + 101 * PAGE),
    );
    assert_eq!((low.pages_resident, high.pages_resident), (100, 199));
    assert_eq!(low.object_id, high.object_id);
    assert_eq!(low.share_mode, SM_PRIVATE_ALIASED);
    assert_eq!(high.offset, 101 * PAGE);
    // Without counting there is nothing to wait for.
    let basic = region(&mut world, map, VmRegion::basic(address)).unwrap();
    assert_eq!((basic.pages_resident, basic.size), (0, 100 * PAGE));
}

#[test]
fn an_object_that_ends_while_it_is_counted_ends_the_count() {
    let mut world = World::new(1024);
    let map = world.map();
    let address = world.allocate(map, 400 * PAGE);
    for page in 0..400 {
        set(&mut world, map, address + page * PAGE, 1).unwrap();
    }
    let request = Request::VmRegion(VmRegion::extended(address));
    let token = world.send(crate::call::Call::Map(map, request), NO_RIGHTS);
    world.deallocate(map, address, 400 * PAGE);
    world.settle();
    let Some(Ok(said)) = world.answer(token) else {
        panic!("no answer");
    };
    let Message::Map(vm_map::Reply::VmRegion(said)) = said.message else {
        panic!("{said:?}");
    };
    assert!(said.pages_resident <= 400);
}

#[test]
fn a_private_copy_tells_its_own_pages_from_those_below() {
    let mut world = World::new(256);
    let map = world.map();
    let address = world.allocate(map, 8 * PAGE);
    for page in 0..8 {
        set(&mut world, map, address + page * PAGE, 1).unwrap();
    }
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let Some(PortOf::Map(child)) = world.call(map, request, NO_RIGHTS).unwrap().right else {
        panic!("no child");
    };
    let said = extended(&mut world, child, address);
    assert_eq!((said.share_mode, said.needs_copy), (SM_COW, true));
    set(&mut world, child, address, 2).unwrap();
    let said = extended(&mut world, child, address);
    assert_eq!((said.pages_resident, said.pages_shared_now_private), (1, 1));
    assert_eq!((said.share_mode, said.shadow_depth), (SM_COW, 1));
}

#[test]
fn a_shown_map_is_one_region_until_it_is_gone_into() {
    let (mut world, one, _, _, _) = two();
    let said = extended(&mut world, one, AT + DATA);
    assert_eq!((said.address, said.size), (AT, END));
    assert!(said.is_submap && said.needs_copy);
    let top = recurse(&mut world, one, AT + DATA, 0).unwrap();
    assert_eq!((top.depth, top.region.is_submap), (0, true));
    for (offset, rights) in [(TEXT, 5), (DATA, 3), (CONST, 1)] {
        let said = recurse(&mut world, one, AT + offset + PAGE, 1).unwrap();
        assert_eq!((said.depth, said.region.is_submap), (1, false));
        assert_eq!(said.region.address, AT + offset);
        assert_eq!(said.region.size, 4 * PAGE);
        assert_eq!(said.region.protection, rights);
        assert_eq!(said.region.pages_resident, 4);
        assert_eq!(said.region.share_mode, SM_COW);
    }
    set(&mut world, one, AT + DATA, 9).unwrap();
    let said = recurse(&mut world, one, AT + DATA, 5).unwrap();
    assert_eq!((said.depth, said.region.pages_resident), (0, 1), "rule 78");
    assert_eq!(said.region.protection & 4, 0);
    let said = recurse(&mut world, one, AT + TEXT, 5).unwrap();
    assert_eq!(said.depth, 1);
}

#[test]
fn nothing_is_said_beyond_the_window() {
    let mut world = World::new(256);
    let map = world.map();
    let (_, entry) = library(&mut world, map);
    show(&mut world, map, entry, (DATA + PAGE, 2 * PAGE), false).unwrap();
    let said = recurse(&mut world, map, 0, 1).unwrap();
    assert_eq!(said.region.address, AT + DATA + PAGE);
    assert_eq!(said.region.size, 2 * PAGE);
    assert_eq!(said.region.offset, PAGE);
    assert_eq!(said.region.pages_resident, 2);
    assert_eq!(said.region.share_mode, SM_TRUESHARED);
    let beyond = recurse(&mut world, map, AT + DATA + 3 * PAGE, 1);
    assert_eq!(beyond, Err(Kern::InvalidAddress));
}

#[test]
fn a_window_that_shows_nothing_is_passed_over() {
    let mut world = World::new(256);
    let map = world.map();
    let empty = create(&mut world, map, END);
    let entry = seal(&mut world, empty, 7).unwrap();
    show(&mut world, map, entry, (0, END), true).unwrap();
    let whole = recurse(&mut world, map, 0, 0).unwrap();
    assert_eq!((whole.region.address, whole.region.size), (AT, END));
    let said = recurse(&mut world, map, 0, 1);
    assert_eq!(said, Err(Kern::InvalidAddress));
    let flags = MapFlags::empty().bits();
    let request = vm_map::VmAllocate {
        address: AT + END,
        size: PAGE,
        flags,
    };
    world
        .call(map, Request::VmAllocate(request), NO_RIGHTS)
        .unwrap();
    let said = recurse(&mut world, map, 0, 1).unwrap();
    assert_eq!((said.depth, said.region.address), (0, AT + END));
    assert_eq!(said.region.protection, u32::from(Prot::DEFAULT.bits()));
}
