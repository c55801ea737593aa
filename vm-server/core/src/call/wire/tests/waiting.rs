//! What a wiring waits for, what waits for it, and how both end.

use super::{
    PAGE, PORT, RW, entry, fork, plain, protect, send, send_wire, translated, wire, wire_all,
    wirings, with_pager, world,
};
use crate::call::{Call, Message, Reply};
use crate::event::{Event, NO_RIGHTS, PortOf, PortRef, Token};
use crate::sim::{Pager, Touch, World};
use alloc::vec;
use alloc::vec::Vec;
use ipc_abi::Kern;
use ipc_abi::types::MapFlags;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectLockRequest, Request as ToServer,
};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_wire::{VM_WIRE_CURRENT, VM_WIRE_FUTURE};

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
    let names = send(
        &mut world,
        map,
        Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
            size: 2 * PAGE,
            offset: at,
            permission: 1,
        }),
    );
    let fork = send(
        &mut world,
        map,
        Request::TaskCreate(vm_map::TaskCreate { inherit: true }),
    );
    world.settle();
    for token in [token, removes, copies, protects, wires, names, fork] {
        assert_eq!(world.answer(token), None);
    }
    world.deallocate(map, mine, PAGE);
    pager.settle(&mut world);
    let answers = [token, removes, copies, names, fork].map(|token| world.answer(token));
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
        protection: 1,
        ..vm_map::VmMap::anywhere(3 * PAGE)
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
