//! Windows on a shared map: named, side by side, and in ranges set aside.

use ipc_abi::Kern;
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_range;

use super::{
    ALL, AT, BOTH, DATA, END, FIXED, OVERWRITE, PAGE, READ, byte, create, entry, library, reserve,
    right, set, two,
};
use crate::event::{NO_RIGHTS, PortOf};
use crate::sim::World;

#[test]
fn c0385_a_named_entry_of_what_is_shown_leaves_it_shown() {
    let (mut world, one, other, _, _) = two();
    let name = |permission| {
        Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
            size: 2 * PAGE,
            offset: AT + DATA + PAGE,
            permission,
        })
    };
    let said = world.call(one, name(vm_map::MAP_MEM_VM_SHARE | READ), NO_RIGHTS);
    let port = said.unwrap().right.unwrap();
    assert!(entry(&world, one, AT + DATA).submap.is_some());
    let request = vm_map::VmMap {
        address: 0x2000_0000,
        size: 2 * PAGE,
        mask: 0,
        flags: FIXED,
        offset: 0,
        copy: false,
        protection: READ,
        max_protection: READ,
        inheritance: 0,
    };
    world
        .call(other, Request::VmMap(request), right(port))
        .unwrap();
    assert_eq!(byte(&mut world, other, 0x2000_0000), Ok(5));
    assert_eq!(byte(&mut world, other, 0x2000_0000 + PAGE), Ok(6));
    // What is to be written is the task's own first.
    let said = world.call(one, name(vm_map::MAP_MEM_VM_SHARE | BOTH), NO_RIGHTS);
    let port = said.unwrap().right.unwrap();
    assert!(entry(&world, one, AT + DATA + PAGE).submap.is_none());
    assert!(entry(&world, one, AT + DATA).submap.is_some());
    let request = vm_map::VmMap {
        address: 0x3000_0000,
        protection: BOTH,
        max_protection: BOTH,
        ..request
    };
    world
        .call(other, Request::VmMap(request), right(port))
        .unwrap();
    set(&mut world, other, 0x3000_0000, 80).unwrap();
    assert_eq!(byte(&mut world, one, AT + DATA + PAGE), Ok(80));
    assert_eq!(byte(&mut world, other, AT + DATA + PAGE), Ok(5));
    let denied = world.call(one, name(vm_map::MAP_MEM_VM_SHARE | ALL), NO_RIGHTS);
    assert_eq!(denied.err(), Some(Kern::ProtectionFailure));
}

#[test]
fn windows_side_by_side_show_what_each_was_made_for() {
    let mut world = World::new(256);
    let map = world.map();
    let (_, library) = library(&mut world, map);
    let request = vm_map::VmMap {
        address: AT,
        size: PAGE,
        mask: 0,
        flags: FIXED,
        offset: DATA,
        copy: true,
        protection: BOTH,
        max_protection: ALL,
        inheritance: 0,
    };
    for (place, page) in [3, 1, 2, 0, 1].into_iter().enumerate() {
        let request = vm_map::VmMap {
            address: AT + place as u64 * PAGE,
            offset: DATA + page * PAGE,
            ..request
        };
        world
            .call(map, Request::VmMap(request), right(library))
            .unwrap();
    }
    let read =
        |world: &mut World| [0, 1, 2, 3, 4].map(|at| byte(world, map, AT + at * PAGE).unwrap());
    assert_eq!(read(&mut world), [7, 5, 6, 4, 5]);
    // Over all of them, in their place.
    let request = vm_map::VmMap {
        size: 4 * PAGE,
        flags: OVERWRITE,
        ..request
    };
    world
        .call(map, Request::VmMap(request), right(library))
        .unwrap();
    assert_eq!(read(&mut world), [4, 5, 6, 7, 5]);
}

#[test]
fn a_range_is_turned_into_a_window_once_if_it_was_set_aside() {
    let mut world = World::new(256);
    let map = world.map();
    let (_, library) = library(&mut world, map);
    let submap = |address, offset, size| {
        Request::Range(vm_range::Request::VmMapSubmap(vm_range::VmMapSubmap {
            address,
            size,
            offset,
            copy: true,
            protection: BOTH,
            max_protection: ALL,
            inheritance: 0,
        }))
    };
    let refused = Some(Kern::InvalidArgument);
    let ask = |world: &mut World, request| world.call(map, request, right(library)).err();
    assert_eq!(ask(&mut world, submap(AT, 0, END)), refused);
    reserve(&mut world, map, &[(AT, END)]).unwrap();
    for (address, offset, size) in [
        (AT, 0, END + PAGE),
        (AT + 1, 0, PAGE),
        (AT, 1, PAGE),
        (AT, 0, 1),
        (AT, 0, 0),
        (AT, END, PAGE),
        (AT, u64::MAX - PAGE + 1, PAGE),
        (AT - PAGE, 0, 2 * PAGE),
    ] {
        assert_eq!(ask(&mut world, submap(address, offset, size)), refused);
    }
    assert_eq!(ask(&mut world, submap(AT, 0, END)), None);
    assert_eq!(byte(&mut world, map, AT + DATA), Ok(4));
    assert_eq!(ask(&mut world, submap(AT, 0, PAGE)), refused);
    let other = world.allocate(map, PAGE);
    assert!(!(AT..AT + END).contains(&other));
    // A port that stands for no sealed map.
    let shared = create(&mut world, map, END);
    let said = world.call(map, submap(AT, 0, PAGE), right(PortOf::Map(shared)));
    assert_eq!(said.err(), refused);
}

#[test]
fn what_shows_in_hundreds_of_places_is_copied_without_going_over_all_of_them() {
    const WINDOWS: u64 = 300;
    let mut world = World::new(1024);
    let one = world.map();
    let (_, library) = super::library(&mut world, one);
    let at = |window: u64| 0x4000_0000 + window * 4 * PAGE;
    for window in 0..WINDOWS {
        let request = vm_map::VmMap {
            address: at(window),
            size: 4 * PAGE,
            mask: 0,
            flags: FIXED,
            offset: DATA,
            copy: false,
            protection: BOTH,
            max_protection: BOTH,
            inheritance: 0,
        };
        world
            .call(one, Request::VmMap(request), right(library))
            .unwrap();
        set(&mut world, one, at(window), 9).unwrap();
    }
    super::show(&mut world, one, library, (super::CONST, 4 * PAGE), false).unwrap();
    // From memory of the shared map that was written, and from what nobody can write.
    for source in [at(7), AT + super::CONST] {
        let to = world.allocate(one, 4 * PAGE);
        let request = vm_map::VmCopy {
            source,
            size: 4 * PAGE,
            destination: to,
        };
        let before = byte(&mut world, one, source).unwrap();
        let token = world.send(
            crate::call::Call::Map(one, Request::VmCopy(request)),
            NO_RIGHTS,
        );
        let mut revoked = world.machine.work.revoked;
        while world.answer(token).is_none() {
            let now = world.machine.work.revoked;
            assert!(now - revoked <= 140, "{} at once", now - revoked);
            revoked = now;
            world.event(crate::event::Event::Step);
        }
        set(&mut world, one, at(0), 10).unwrap();
        assert_eq!(byte(&mut world, one, to), Ok(before));
    }
    world.end(one);
    world.settle();
    world.core.check_invariants().unwrap();
}
