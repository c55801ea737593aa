//! vm_protect with VM_PROT_COPY.

extern crate std;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, MapFlags, Prot};
use ipc_protocol::vm_map::{self, MAP_MEM_NAMED_CREATE, Request, VM_PROT_COPY};

use crate::call::Call;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, RightId, Token};
use crate::map::submap::tests::{
    AT, CONST, DATA, END, PAGE, TEXT, byte, entry, protect, put, right, set, two,
};
use crate::sim::{Pager, World};

const COPY_READ: u32 = VM_PROT_COPY | 1;
const COPY_BOTH: u32 = VM_PROT_COPY | 3;
const PERMANENT: u32 = MapFlags::PERMANENT.bits();
const PAGER: RightId = RightId(70);

/// A view of a named entry, with these rights and no more.
fn view(world: &mut World, map: MapId, port: PortOf, rights: u32) -> u64 {
    let request = vm_map::VmMap {
        protection: rights,
        max_protection: rights,
        ..vm_map::VmMap::anywhere(4 * PAGE)
    };
    let said = world.call(map, Request::VmMap(request), right(port));
    match said.unwrap().message {
        crate::call::Message::Map(vm_map::Reply::VmMap(reply)) => reply.address,
        other => panic!("{other:?}"),
    }
}

fn name(world: &mut World, map: MapId, offset: u64, permission: u32) -> PortOf {
    let request = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size: 4 * PAGE,
        offset,
        permission,
    });
    world.call(map, request, NO_RIGHTS).unwrap().right.unwrap()
}

/// Memory of one task that another may only read, each page's first byte its number.
fn shared(permission: u32) -> (World, MapId, u64, MapId, u64) {
    let mut world = World::new(256);
    let (one, other) = (world.map(), world.map());
    let own = world.allocate(one, 4 * PAGE);
    let port = name(&mut world, one, own, 7 | permission);
    let own = match permission {
        0 => own,
        _ => view(&mut world, one, port, 3),
    };
    for page in 0..4 {
        set(&mut world, one, own + page * PAGE, page as u8).unwrap();
    }
    let theirs = view(&mut world, other, port, 1);
    (world, one, own, other, theirs)
}

#[test]
fn what_is_shared_becomes_ones_own_and_its_maximum_is_raised() {
    for permission in [0, MAP_MEM_NAMED_CREATE] {
        let (mut world, one, own, other, theirs) = shared(permission);
        byte(&mut world, other, theirs).unwrap();
        let plain = protect(&mut world, other, (theirs, 4 * PAGE), 3);
        assert_eq!(plain, Err(Kern::ProtectionFailure));
        protect(&mut world, other, (theirs, 4 * PAGE), COPY_BOTH).unwrap();
        assert_eq!(entry(&world, other, theirs).max_protection, Prot::DEFAULT);
        set(&mut world, other, theirs, 90).unwrap();
        set(&mut world, one, own + PAGE, 91).unwrap();
        assert_eq!(byte(&mut world, one, own), Ok(0));
        assert_eq!(byte(&mut world, other, theirs), Ok(90));
        assert_eq!(byte(&mut world, other, theirs + PAGE), Ok(1), "a snapshot");
        assert_eq!(byte(&mut world, other, theirs + 3 * PAGE), Ok(3));
    }
}

#[test]
fn only_the_range_becomes_ones_own() {
    let (mut world, one, own, other, theirs) = shared(0);
    protect(&mut world, other, (theirs + PAGE, 2 * PAGE), COPY_BOTH).unwrap();
    for page in 0..4 {
        set(&mut world, one, own + page * PAGE, 70 + page as u8).unwrap();
    }
    let seen = [0, 1, 2, 3].map(|page| byte(&mut world, other, theirs + page * PAGE).unwrap());
    assert_eq!(seen, [70, 1, 2, 73]);
    let denied = set(&mut world, other, theirs, 1);
    assert_eq!(denied, Err(Kern::ProtectionFailure));
}

#[test]
fn what_is_ones_own_already_stays_as_it_is() {
    let mut world = World::new(64);
    let map = world.map();
    let address = world.allocate(map, 4 * PAGE);
    set(&mut world, map, address, 5).unwrap();
    let object = entry(&world, map, address).object;
    protect(&mut world, map, (address, 4 * PAGE), COPY_READ).unwrap();
    assert_eq!(entry(&world, map, address).object, object);
    assert_eq!(byte(&mut world, map, address), Ok(5));
    let denied = set(&mut world, map, address, 6);
    assert_eq!(denied, Err(Kern::ProtectionFailure));
    // Untouched memory is nobody's.
    let untouched = world.allocate(map, PAGE);
    protect(&mut world, map, (untouched, PAGE), COPY_BOTH).unwrap();
    assert_eq!(byte(&mut world, map, untouched), Ok(0));
}

#[test]
fn a_range_with_a_hole_or_without_read_is_refused_whole() {
    let (mut world, one, own, other, theirs) = shared(0);
    let beyond = protect(&mut world, other, (theirs, 5 * PAGE), COPY_BOTH);
    assert_eq!(beyond, Err(Kern::InvalidAddress));
    let request = vm_map::VmProtect {
        address: theirs + PAGE,
        size: PAGE,
        set_maximum: true,
        protection: 0,
    };
    world
        .call(other, Request::VmProtect(request), NO_RIGHTS)
        .unwrap();
    let denied = protect(&mut world, other, (theirs, 4 * PAGE), COPY_BOTH);
    assert_eq!(denied, Err(Kern::ProtectionFailure));
    set(&mut world, one, own, 60).unwrap();
    assert_eq!(byte(&mut world, other, theirs), Ok(60), "still shared");
    for bits in [8, 0x20, 0x40, 0x50, 0x90, 0x110, u32::MAX] {
        let refused = protect(&mut world, other, (theirs, PAGE), bits);
        assert_eq!(refused, Err(Kern::InvalidArgument), "{bits:#x}");
    }
}

#[test]
fn c0224_a_permanent_entry_becomes_inaccessible() {
    let mut world = World::new(64);
    let map = world.map();
    for (page, flags) in [(0, 0), (1, PERMANENT)] {
        let request = vm_map::VmAllocate {
            address: AT + page * PAGE,
            size: PAGE,
            flags,
        };
        world
            .call(map, Request::VmAllocate(request), NO_RIGHTS)
            .unwrap();
        set(&mut world, map, AT + page * PAGE, 1).unwrap();
    }
    let refused = protect(&mut world, map, (AT, 2 * PAGE), COPY_BOTH);
    assert_eq!(refused, Err(Kern::NoSpace));
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(byte(&mut world, map, AT + PAGE), denied);
    assert!(entry(&world, map, AT + PAGE).max_protection.is_empty());
    assert_eq!(byte(&mut world, map, AT), Ok(1));
}

#[test]
fn c0230_permanent_pages_of_a_shown_map_are_first_taken_out_of_it() {
    let (mut world, one, other, _, _) = two();
    let page = (AT + CONST, 4 * PAGE);
    byte(&mut world, one, AT + CONST).unwrap();
    let refused = protect(&mut world, one, page, COPY_BOTH);
    assert_eq!(refused, Err(Kern::ProtectionFailure));
    let piece = entry(&world, one, AT + CONST);
    assert!(piece.submap.is_none() && piece.permanent);
    assert_eq!(piece.max_protection, Prot::READ);
    assert_eq!(byte(&mut world, one, AT + CONST), Ok(8));
    // C0232: written by nobody, shown or not.
    for map in [one, other] {
        let said = put(&mut world, (map, AT + CONST), one, &[1]);
        assert_eq!(said, Err(Kern::ProtectionFailure));
    }
    assert_eq!(
        protect(&mut world, one, page, COPY_BOTH),
        Err(Kern::NoSpace)
    );
    assert!(entry(&world, one, AT + CONST).max_protection.is_empty());
    assert_eq!(byte(&mut world, other, AT + CONST), Ok(8));
}

#[test]
fn code_of_a_shown_map_can_be_made_ones_own_and_written() {
    let (mut world, one, other, _, _) = two();
    let text = (AT + TEXT, CONST);
    byte(&mut world, one, AT + TEXT).unwrap();
    protect(&mut world, one, text, COPY_BOTH).unwrap();
    for offset in [TEXT, DATA] {
        set(&mut world, one, AT + offset, 66).unwrap();
        assert!(entry(&world, one, AT + offset).submap.is_none());
        assert_eq!(byte(&mut world, one, AT + offset), Ok(66));
    }
    assert_eq!(byte(&mut world, other, AT + TEXT), Ok(0));
    assert_eq!(byte(&mut world, other, AT + DATA), Ok(4));
    protect(&mut world, one, (AT + TEXT, PAGE), VM_PROT_COPY | 5).unwrap();
    assert_eq!(byte(&mut world, one, AT + TEXT), Ok(66));
    assert!(entry(&world, one, AT + CONST).submap.is_some());
    assert_eq!(byte(&mut world, one, AT + END), Err(Kern::InvalidAddress));
}

#[test]
fn many_entries_and_many_pages_take_steps() {
    let mut world = World::new(2048);
    let (one, other) = (world.map(), world.map());
    let own = world.allocate(one, 4 * PAGE);
    let port = name(&mut world, one, own, 3 | MAP_MEM_NAMED_CREATE);
    for place in 0..200 {
        let request = vm_map::VmMap {
            address: AT + place * 4 * PAGE,
            flags: 0,
            protection: 1,
            max_protection: 1,
            ..vm_map::VmMap::anywhere(4 * PAGE)
        };
        world
            .call(other, Request::VmMap(request), right(port))
            .unwrap();
    }
    let own = view(&mut world, one, port, 3);
    set(&mut world, one, own + PAGE, 7).unwrap();
    let before = world.events;
    protect(&mut world, other, (AT, 800 * PAGE), COPY_BOTH).unwrap();
    assert!(world.events - before > 200 / 64);
    set(&mut world, one, own + PAGE, 8).unwrap();
    for place in [0, 100, 199] {
        let at = AT + place * 4 * PAGE + PAGE;
        assert_eq!(byte(&mut world, other, at), Ok(7));
        set(&mut world, other, at, 9).unwrap();
    }
    assert_eq!(byte(&mut world, one, own + PAGE), Ok(8));
}

/// A map that shows three pages of an object whose pager has not answered yet, and a vm_protect with COPY
/// of the middle one that waits for it.
fn waiting() -> (World, Pager, MapId, u64, Token) {
    let mut world = World::new(128);
    let mut pager = Pager::new(&mut world, PAGER, 4, std::vec![7; 3 * PAGE as usize]);
    pager.ready.copy_strategy = CopyStrategy::None as u32;
    let map = world.map();
    let at = world.map_object(map, PAGER, 3 * PAGE);
    let request = vm_map::VmProtect {
        address: at + PAGE,
        size: PAGE,
        set_maximum: false,
        protection: COPY_BOTH,
    };
    let call = Call::Map(map, Request::VmProtect(request));
    let token = world.send(call, NO_RIGHTS);
    world.settle();
    assert!(world.answer(token).is_none(), "it waits for the pager");
    (world, pager, map, at, token)
}

#[test]
fn what_was_joined_to_its_neighbours_meanwhile_is_cut_out_again() {
    let (mut world, mut pager, map, at, token) = waiting();
    // Sets what is set already, and joins what is alike.
    protect(&mut world, map, (at, 3 * PAGE), 3).unwrap();
    pager.settle(&mut world);
    assert!(world.answer(token).unwrap().is_ok());
    let objects = [0, 1, 2].map(|page| entry(&world, map, at + page * PAGE).object);
    assert!(
        objects[0] == objects[2] && objects[0] != objects[1],
        "{objects:?}"
    );
}

#[test]
fn what_was_unmapped_meanwhile_leaves_no_copy() {
    let (mut world, mut pager, map, at, token) = waiting();
    pager.serve(&mut world);
    for _ in 0..4 {
        // It copies by pages, and has asked for one.
        world.event(Event::Step);
    }
    world.deallocate(map, at, 3 * PAGE);
    pager.settle(&mut world);
    assert!(world.answer(token).is_some());
    world.core.check_invariants().unwrap();
}
