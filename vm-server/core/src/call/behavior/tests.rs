//! vm_behavior_set, vm_msync's flags and vm_machine_attribute: what changes, and what never does.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE as PAGE;
use ipc_abi::types::{Advice, MapFlags, Prot};
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{MemoryObjectSynchronizeCompleted, Request as ToServer};
use ipc_protocol::vm_advice::{self, VmMachineAttribute};
use ipc_protocol::vm_map::{
    self, Request, VM_SYNC_ASYNCHRONOUS, VM_SYNC_CONTIGUOUS, VM_SYNC_DEACTIVATE,
    VM_SYNC_INVALIDATE, VM_SYNC_KILLPAGES, VM_SYNC_SYNCHRONOUS,
};

use crate::call::{Call, Message};
use crate::event::{MapId, NO_RIGHTS, PortOf, RightId};
use crate::sim::{Pager, Touch, World};

const PORT: RightId = RightId(70);

fn advise(
    world: &mut World,
    map: MapId,
    (address, size): (u64, u64),
    advice: Advice,
) -> Result<(), Kern> {
    let request = Request::VmBehaviorSet(vm_map::VmBehaviorSet {
        address,
        size,
        behavior: advice as u32,
    });
    world.call(map, request, NO_RIGHTS).map(drop)
}

fn msync(
    world: &mut World,
    map: MapId,
    (address, size): (u64, u64),
    flags: u32,
) -> Result<(), Kern> {
    let request = Request::VmMsync(vm_map::VmMsync {
        address,
        size,
        flags,
    });
    world.call(map, request, NO_RIGHTS).map(drop)
}

fn protect(world: &mut World, map: MapId, (address, size): (u64, u64), rights: Prot) {
    let request = Request::VmProtect(vm_map::VmProtect {
        address,
        size,
        set_maximum: false,
        protection: rights.bits().into(),
    });
    world.call(map, request, NO_RIGHTS).unwrap();
}

fn fork(world: &mut World, map: MapId) -> MapId {
    let fork = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    match world.call(map, fork, NO_RIGHTS).map(|reply| reply.right) {
        Ok(Some(PortOf::Map(child))) => child,
        other => panic!("{other:?}"),
    }
}

/// Memory whose pages hold their number plus one.
fn filled(world: &mut World, map: MapId, pages: u64) -> u64 {
    let at = world.allocate(map, pages * PAGE);
    for page in 0..pages {
        world
            .write(map, at + page * PAGE, &[page as u8 + 1])
            .unwrap();
    }
    at
}

fn bytes(world: &mut World, map: MapId, at: u64, pages: u64) -> Vec<u8> {
    (0..pages)
        .map(|page| {
            let mut byte = [0];
            world.read(map, at + page * PAGE, &mut byte).unwrap();
            byte[0]
        })
        .collect()
}

fn resident(world: &World, map: MapId) -> u32 {
    world.core.maps.get(map).unwrap().pages
}

#[test]
fn zeroed_memory_reads_zero_and_its_neighbours_do_not() {
    let mut world = World::new(512);
    let map = world.map();
    let at = filled(&mut world, map, 200);
    assert_eq!(
        advise(&mut world, map, (at + PAGE, 198 * PAGE), Advice::Zero),
        Ok(())
    );
    let read = bytes(&mut world, map, at, 200);
    assert_eq!((read[0], read[199]), (1, 200));
    assert!(read[1..199].iter().all(|byte| *byte == 0));
}

#[test]
fn zeroing_under_a_copy_leaves_the_copy_alone() {
    let mut world = World::new(256);
    let map = world.map();
    let at = filled(&mut world, map, 4);
    let child = fork(&mut world, map);
    let all = (at, 4 * PAGE);
    assert_eq!(
        advise(&mut world, map, all, Advice::Zero),
        Err(Kern::NoAccess),
        "C0422"
    );
    // A write makes the parent's memory its own, over what it shares with the child.
    world.write(map, at, &[9]).unwrap();
    assert_eq!(advise(&mut world, map, all, Advice::Zero), Ok(()));
    assert_eq!(bytes(&mut world, map, at, 4), [0, 0, 0, 0]);
    assert_eq!(bytes(&mut world, child, at, 4), [1, 2, 3, 4]);
}

#[test]
fn freed_memory_gives_its_pages_back_and_a_copy_keeps_its_own() {
    let mut world = World::new(512);
    let map = world.map();
    let at = filled(&mut world, map, 130);
    assert_eq!(
        advise(&mut world, map, (at, 130 * PAGE), Advice::Free),
        Ok(())
    );
    assert_eq!(resident(&world, map), 0);
    assert_eq!(bytes(&mut world, map, at, 1), [0]);
    let at = filled(&mut world, map, 2);
    let child = fork(&mut world, map);
    assert_eq!(
        advise(&mut world, map, (at, 2 * PAGE), Advice::Free),
        Ok(())
    );
    assert_eq!(bytes(&mut world, child, at, 2), [1, 2]);
    protect(&mut world, map, (at, PAGE), Prot::READ);
    assert_eq!(advise(&mut world, map, (at, PAGE), Advice::Free), Ok(()));
    assert_eq!(bytes(&mut world, map, at, 1), [1], "it cannot be written");
}

#[test]
fn hints_change_no_contents() {
    let mut world = World::new(256);
    let map = world.map();
    let at = filled(&mut world, map, 3);
    for advice in [
        Advice::DontNeed,
        Advice::PageOut,
        Advice::WillNeed,
        Advice::Reuse,
    ] {
        assert_eq!(advise(&mut world, map, (at, 3 * PAGE), advice), Ok(()));
        assert_eq!(bytes(&mut world, map, at, 3), [1, 2, 3], "{advice:?}");
    }
}

#[test]
fn what_will_be_needed_is_resident_or_asked_for() {
    let mut world = World::new(512);
    let mut pager = Pager::new(&mut world, PORT, 32, vec![7; 4 * PAGE as usize]);
    let map = world.map();
    let file = world.map_object(map, PORT, 4 * PAGE);
    pager.settle(&mut world);
    let at = world.allocate(map, 100 * PAGE);
    assert_eq!(
        advise(&mut world, map, (at, 100 * PAGE), Advice::WillNeed),
        Ok(())
    );
    assert_eq!(resident(&world, map), 100);
    assert_eq!(
        advise(&mut world, map, (file, 4 * PAGE), Advice::WillNeed),
        Ok(())
    );
    pager.settle(&mut world);
    assert_eq!(pager.supplied, 4);
    assert_eq!(world.core.maps.get(map).unwrap().counts.external, 4);
    assert!(matches!(world.touch(map, file, Prot::READ), Touch::Done(_)));
}

#[test]
fn reusable_memory_goes_when_frames_run_short_and_written_pages_stay() {
    let mut world = World::new(140);
    let map = world.map();
    let at = filled(&mut world, map, 100);
    let all = (at, 100 * PAGE);
    assert_eq!(advise(&mut world, map, all, Advice::CanReuse), Ok(()));
    assert_eq!(advise(&mut world, map, all, Advice::Reusable), Ok(()));
    assert_eq!(world.core.maps.get(map).unwrap().counts.reusable, 100);
    world.write(map, at + 99 * PAGE, &[200]).unwrap();
    assert_eq!(world.core.maps.get(map).unwrap().counts.reusable, 99);
    let more = world.allocate(map, 120 * PAGE);
    for page in 0..120 {
        world.write(map, more + page * PAGE, &[1]).unwrap();
    }
    assert_eq!(bytes(&mut world, map, at + 99 * PAGE, 1), [200]);
    assert_eq!(advise(&mut world, map, all, Advice::Reuse), Ok(()));
    assert_eq!(world.core.maps.get(map).unwrap().counts.reusable, 0);
}

#[test]
fn only_plain_memory_of_malloc_is_reusable() {
    let mut world = World::new(128);
    let map = world.map();
    let flags = MapFlags::ANYWHERE.bits() | 1 << 24;
    let mut allocate = |flags| {
        let request = Request::VmAllocate(vm_map::VmAllocate {
            address: 0,
            size: PAGE,
            flags,
        });
        match world
            .call(map, request, NO_RIGHTS)
            .map(|reply| reply.message)
        {
            Ok(Message::Map(vm_map::Reply::VmAllocate(reply))) => reply.address,
            other => panic!("{other:?}"),
        }
    };
    let plain = allocate(flags);
    let purgeable = allocate(flags | MapFlags::PURGABLE.bits());
    let untagged = allocate(MapFlags::ANYWHERE.bits());
    let can = |world: &mut World, at, advice| advise(world, map, (at, PAGE), advice);
    let address = Err(Kern::InvalidAddress);
    assert_eq!(can(&mut world, plain, Advice::CanReuse), Ok(()));
    assert_eq!(
        can(&mut world, purgeable, Advice::CanReuse),
        address,
        "C0379"
    );
    protect(&mut world, map, (plain, PAGE), Prot::READ);
    assert_eq!(can(&mut world, plain, Advice::Reusable), address);
    protect(&mut world, map, (untagged, PAGE), Prot::READ);
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(can(&mut world, untagged, Advice::Reusable), denied, "C0423");
    assert_eq!(can(&mut world, untagged, Advice::Zero), denied);
    assert_eq!(
        can(&mut world, untagged, Advice::ZeroWiredPages),
        denied,
        "C0382"
    );
}

#[test]
fn a_hole_is_found_before_anything_is_done() {
    let mut world = World::new(128);
    let map = world.map();
    let at = filled(&mut world, map, 3);
    world.deallocate(map, at + PAGE, PAGE);
    for advice in [
        Advice::Zero,
        Advice::Free,
        Advice::WillNeed,
        Advice::PageOut,
    ] {
        let refused = advise(&mut world, map, (at, 3 * PAGE), advice);
        assert_eq!(refused, Err(Kern::InvalidAddress), "{advice:?}");
    }
    assert_eq!(bytes(&mut world, map, at, 1), [1]);
    assert_eq!(
        advise(&mut world, map, (u64::MAX, 1), Advice::Free),
        Err(Kern::InvalidArgument)
    );
    assert_eq!(
        advise(&mut world, map, (u64::MAX - 1, 1), Advice::Free),
        Err(Kern::NoSpace)
    );
    assert_eq!(
        advise(&mut world, map, (0x1001, 0), Advice::Free),
        Ok(()),
        "C0079"
    );
}

#[test]
fn msync_ignores_flags_that_it_does_not_know_and_kills_only_when_told() {
    let mut world = World::new(128);
    let map = world.map();
    let at = filled(&mut world, map, 2);
    let range = (at, 2 * PAGE);
    for flags in [
        0,
        1,
        2,
        4,
        VM_SYNC_DEACTIVATE,
        0x20,
        0x40,
        0x80,
        0x100,
        1 << 31,
    ] {
        assert_eq!(msync(&mut world, map, range, flags), Ok(()), "{flags:#x}");
        assert_eq!(bytes(&mut world, map, at, 2), [1, 2], "{flags:#x}");
    }
    assert_eq!(msync(&mut world, map, range, 3), Err(Kern::InvalidArgument));
    assert_eq!(msync(&mut world, map, range, VM_SYNC_KILLPAGES), Ok(()));
    assert_eq!(bytes(&mut world, map, at, 2), [0, 0]);
}

#[test]
fn killing_stops_at_a_hole() {
    let mut world = World::new(128);
    let map = world.map();
    let at = filled(&mut world, map, 3);
    world.deallocate(map, at + PAGE, PAGE);
    let flags = VM_SYNC_KILLPAGES | VM_SYNC_CONTIGUOUS;
    let hole = msync(&mut world, map, (at, 3 * PAGE), flags);
    assert_eq!(hole, Err(Kern::InvalidAddress));
    assert_eq!(bytes(&mut world, map, at, 1), [0]);
    assert_eq!(bytes(&mut world, map, at + 2 * PAGE, 1), [3]);
}

/// A client with a pager that says when it has stored things, and a written page.
fn written() -> (World, Pager, MapId, u64) {
    let mut world = World::new(512);
    let mut pager = Pager::new(&mut world, PORT, 32, vec![7; 4 * PAGE as usize]);
    pager.ready.synchronizes = true;
    let map = world.map();
    let at = world.map_object(map, PORT, 4 * PAGE);
    pager.settle(&mut world);
    for _ in 0..8 {
        if world.write(map, at, &[55]).is_ok() {
            return (world, pager, map, at);
        }
        pager.settle(&mut world);
    }
    panic!("it is never written");
}

#[test]
fn a_synchronous_msync_ends_when_the_pager_says_so_if_it_wants_to_be_asked() {
    for (result, expected) in [
        (0, Ok(())),
        (Kern::MemoryError.raw(), Err(Kern::MemoryError)),
    ] {
        let (mut world, mut pager, map, at) = written();
        let request = Request::VmMsync(vm_map::VmMsync {
            address: at,
            size: 4 * PAGE,
            flags: VM_SYNC_SYNCHRONOUS | VM_SYNC_INVALIDATE,
        });
        let token = world.send(Call::Map(map, request), NO_RIGHTS);
        pager.settle(&mut world);
        assert_eq!(pager.data[0], 55);
        assert_eq!(world.answer(token), None, "the pager has not said so");
        let Some(ToPager::MemoryObjectSynchronize(asked)) = pager.inbox.pop_back() else {
            panic!("it was not asked")
        };
        assert_eq!((asked.offset, asked.length), (0, 4 * PAGE));
        let said = |request| {
            ToServer::MemoryObjectSynchronizeCompleted(MemoryObjectSynchronizeCompleted {
                request,
                result,
            })
        };
        let wrong = pager.say(&mut world, said(asked.request + 1), NO_RIGHTS);
        assert_eq!(
            wrong.map(|answer| answer.map(drop)),
            Some(Err(Kern::InvalidArgument))
        );
        let right = pager.say(&mut world, said(asked.request), NO_RIGHTS);
        assert!(matches!(right, Some(Ok(_))));
        world.settle();
        assert_eq!(
            world.answer(token).map(|answer| answer.map(drop)),
            Some(expected)
        );
    }
}

#[test]
fn a_pager_that_dies_ends_a_synchronous_msync() {
    let (mut world, mut pager, map, at) = written();
    let request = Request::VmMsync(vm_map::VmMsync {
        address: at,
        size: PAGE,
        flags: VM_SYNC_SYNCHRONOUS,
    });
    let token = world.send(Call::Map(map, request), NO_RIGHTS);
    pager.settle(&mut world);
    world.event(crate::event::Event::DeadName(PORT));
    world.settle();
    let answer = world.answer(token).map(|answer| answer.map(drop));
    assert_eq!(answer, Some(Err(Kern::MemoryError)));
}

#[test]
fn a_synchronous_msync_of_what_a_dead_pager_cannot_store_fails() {
    let (mut world, _, map, at) = written();
    world.event(crate::event::Event::DeadName(PORT));
    world.settle();
    for (range, flags, expected) in [
        ((at, PAGE), VM_SYNC_SYNCHRONOUS, Err(Kern::MemoryError)),
        (
            (at, 4 * PAGE),
            VM_SYNC_SYNCHRONOUS | VM_SYNC_INVALIDATE,
            Err(Kern::MemoryError),
        ),
        // Nothing there was written, or nobody waits to hear of it.
        ((at + PAGE, 3 * PAGE), VM_SYNC_SYNCHRONOUS, Ok(())),
        ((at, PAGE), VM_SYNC_ASYNCHRONOUS, Ok(())),
        ((at, PAGE), VM_SYNC_INVALIDATE, Ok(())),
    ] {
        let said = msync(&mut world, map, range, flags);
        assert_eq!(said, expected, "{range:x?} {flags:#x}");
    }
    let mut byte = [0];
    assert_eq!(world.read(map, at, &mut byte), Ok(()));
    assert_eq!(byte, [55], "it is not dropped");
}

#[test]
fn a_machine_attribute_is_asked_and_flushed_and_nothing_else() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, 3 * PAGE);
    world.deallocate(map, at + 2 * PAGE, PAGE);
    let mut ask = |address, size, (attribute, value)| {
        let request = Request::Advice(vm_advice::Request::VmMachineAttribute(VmMachineAttribute {
            address,
            size,
            attribute,
            value,
        }));
        let answer = world.call(map, request, NO_RIGHTS);
        answer.map(|reply| match reply.message {
            Message::Map(vm_map::Reply::Advice(vm_advice::Reply::VmMachineAttribute(said))) => {
                said.value
            }
            other => panic!("{other:?}"),
        })
    };
    let (argument, address) = (Err(Kern::InvalidArgument), Err(Kern::InvalidAddress));
    assert_eq!(ask(at, 2 * PAGE, (1, 2)), Ok(1));
    for flush in [6, 7, 8] {
        assert_eq!(ask(at, PAGE, (1, flush)), Ok(flush));
    }
    for word in [(1, 0), (1, 3), (2, 2), (4, 2), (0, 2)] {
        assert_eq!(ask(at, PAGE, word), argument, "{word:?}");
    }
    assert_eq!(ask(at, 3 * PAGE, (1, 2)), Err(Kern::Failure));
    assert_eq!(ask(0x1001, 0, (1, 2)).map(drop), Ok(()), "C0080");
    assert_eq!(ask(1, u64::MAX, (1, 2)), argument, "C0033");
    assert_eq!(ask(u64::MAX, 1, (1, 2)), argument, "C0036");
    assert_eq!(ask(u64::MAX - 1, 1, (1, 2)), address, "C0038");
    assert_eq!(ask(0xffff_ffff_ffff_efff, 3, (1, 2)), address, "C0039");
}
