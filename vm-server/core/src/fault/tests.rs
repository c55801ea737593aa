//! Faults on anonymous memory, and on what is copied and shared: which page, with which rights, and
//! how much work.

extern crate std;

use core::num::NonZeroU64;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Message, Reply};
use crate::event::{Event, Fault, MapId, NO_RIGHTS, PortOf, Token};
use crate::sim::{Touch, World};

const PAGE: u64 = 4096;

fn byte(world: &mut World, map: MapId, address: u64) -> u8 {
    let mut bytes = [0];
    world.read(map, address, &mut bytes).unwrap();
    bytes[0]
}

fn fork(world: &mut World, map: MapId) -> MapId {
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    match world.call(map, request, NO_RIGHTS) {
        Ok(Reply {
            right: Some(PortOf::Map(child)),
            ..
        }) => child,
        other => panic!("{other:?}"),
    }
}

fn call(world: &mut World, map: MapId, request: Request) -> Result<vm_map::Reply, Kern> {
    match world.call(map, request, NO_RIGHTS)?.message {
        Message::Map(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fresh_memory_reads_zero_and_keeps_what_is_written() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    assert_eq!(byte(&mut world, map, at + 5000), 0);
    world.write(map, at + PAGE - 2, &[1, 2, 3, 4]).unwrap();
    let mut bytes = [9; 6];
    world.read(map, at + PAGE - 3, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
}

#[test]
fn a_fault_that_cannot_be_served_says_why() {
    let mut world = World::new(16);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    assert_eq!(
        world.touch(map, at + PAGE, Prot::READ),
        Touch::Fails(Kern::InvalidAddress)
    );
    assert_eq!(
        world.touch(map, at, Prot::EXECUTE),
        Touch::Fails(Kern::ProtectionFailure)
    );
    world.event(Event::TaskEnded(map));
    world.settle();
    assert_eq!(
        world.touch(map, at, Prot::READ),
        Touch::Fails(Kern::InvalidAddress)
    );
}

#[test]
fn a_page_that_was_read_is_entered_read_only_until_it_is_written() {
    let mut world = World::new(16);
    let map = world.map();
    let at = world.allocate(map, PAGE);
    byte(&mut world, map, at);
    let rights =
        |world: &World| world.machine.spaces[&map.to_word()].pages[&(at / PAGE)].protection;
    assert_eq!(rights(&world), Prot::READ);
    world.write(map, at, &[1]).unwrap();
    assert_eq!(rights(&world), Prot::DEFAULT);
}

#[test]
fn deallocating_gives_every_frame_back_unseen() {
    let mut world = World::new(64);
    let map = world.map();
    let free = world.core.census().free;
    let at = world.allocate(map, 40 * PAGE);
    for page in 0..40 {
        world.write(map, at + page * PAGE, &[7]).unwrap();
    }
    assert_eq!(world.core.census().free, free - 40);
    world.deallocate(map, at, 40 * PAGE);
    world.settle();
    assert_eq!(world.core.census().free, free);
    let again = world.allocate(map, 40 * PAGE);
    for page in 0..40 {
        assert_eq!(byte(&mut world, map, again + page * PAGE), 0);
    }
}

#[test]
fn running_out_of_frames_is_an_exception_and_heals() {
    let mut world = World::new(9);
    let map = world.map();
    let at = world.allocate(map, 16 * PAGE);
    let mut written = 0;
    let failed = (0..16).find_map(|page| {
        let result = world.write(map, at + page * PAGE, &[1]).err();
        written += u64::from(result.is_none());
        result
    });
    assert_eq!(failed, Some(Some(Kern::ResourceShortage)));
    assert_eq!(written, 8);
    world.deallocate(map, at, 4 * PAGE);
    world.settle();
    assert_eq!(world.write(map, at + 15 * PAGE, &[1]), Ok(()));
}

#[test]
fn a_fault_waits_while_frames_are_being_freed() {
    let mut world = World::new(201);
    let map = world.map();
    let big = world.allocate(map, 200 * PAGE);
    for page in 0..200 {
        world.write(map, big + page * PAGE, &[1]).unwrap();
    }
    world.deallocate(map, big, 200 * PAGE);
    let at = world.allocate(map, PAGE);
    let Touch::Waits(token) = world.touch(map, at, Prot::WRITE) else {
        panic!("there was a frame");
    };
    world.settle();
    assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    assert!(matches!(world.touch(map, at, Prot::WRITE), Touch::Done(_)));
}

#[test]
fn a_map_over_its_page_limit_is_refused_and_no_other() {
    let mut world = World::new(64);
    let (poor, rich) = (world.map(), world.map());
    world.core.maps.get_mut(poor).unwrap().account.limits.pages = 2;
    let at = world.allocate(poor, 4 * PAGE);
    world.write(poor, at, &vec![1; 2 * PAGE as usize]).unwrap();
    assert_eq!(
        world.write(poor, at + 2 * PAGE, &[1]),
        Err(Some(Kern::ResourceShortage))
    );
    let at = world.allocate(rich, 4 * PAGE);
    world.write(rich, at, &vec![1; 4 * PAGE as usize]).unwrap();
}

#[test]
fn whoever_is_left_with_the_memory_writes_it_without_copying() {
    let mut world = World::new(64);
    let parent = world.map();
    let at = world.allocate(parent, 4 * PAGE);
    world.write(parent, at, &[1]).unwrap();
    world.write(parent, at + PAGE, &[1]).unwrap();
    let child = fork(&mut world, parent);
    let copied = world.machine.work.copied;
    world.write(parent, at, &[2]).unwrap();
    assert_eq!(world.machine.work.copied, copied + 1);
    assert_eq!(byte(&mut world, child, at), 1);
    world.write(child, at, &[3]).unwrap();
    assert_eq!(world.machine.work.copied, copied + 2);
    assert_eq!(byte(&mut world, parent, at), 2);
    assert_eq!(byte(&mut world, child, at), 3);
    world.event(Event::TaskEnded(child));
    world.settle();
    // The page below is the parent's alone now, and goes up.
    world.write(parent, at + PAGE, &[4]).unwrap();
    assert_eq!(world.machine.work.copied, copied + 2);
}

#[test]
fn the_last_holder_of_a_copied_object_writes_in_place() {
    let mut world = World::new(64);
    let parent = world.map();
    let at = world.allocate(parent, PAGE);
    world.write(parent, at, &[1]).unwrap();
    let child = fork(&mut world, parent);
    world.event(Event::TaskEnded(parent));
    world.settle();
    let (objects, copied) = (world.core.census().objects, world.machine.work.copied);
    world.write(child, at, &[2]).unwrap();
    assert_eq!(world.machine.work.copied, copied);
    assert_eq!(world.core.census().objects, objects);
}

#[test]
fn copies_of_shared_memory_get_the_old_page_before_it_is_written() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.write(map, at, &[1]).unwrap();
    call(
        &mut world,
        map,
        Request::VmInherit(vm_map::VmInherit {
            address: at,
            size: 2 * PAGE,
            inheritance: Inherit::Share as u32,
        }),
    )
    .unwrap();
    let sharer = fork(&mut world, map);
    let to = world.allocate(map, 2 * PAGE);
    call(
        &mut world,
        map,
        Request::VmCopy(vm_map::VmCopy {
            source: at,
            size: 2 * PAGE,
            destination: to,
        }),
    )
    .unwrap();
    // Rule 20: the second page was never touched, is read as zero, and written afterwards.
    assert_eq!(byte(&mut world, map, to + PAGE), 0);
    world.write(sharer, at, &[2]).unwrap();
    world.write(sharer, at + PAGE, &[3]).unwrap();
    assert_eq!(byte(&mut world, map, at), 2);
    assert_eq!(byte(&mut world, map, at + PAGE), 3);
    assert_eq!(byte(&mut world, map, to), 1);
    assert_eq!(byte(&mut world, map, to + PAGE), 0);
    assert!(world.core.stats.copy_pushes >= 1);
}

#[test]
fn resident_neighbours_are_entered_with_the_page() {
    let mut world = World::new(64);
    let map = world.map();
    let at = world.allocate(map, 32 * PAGE);
    world.write(map, at, &vec![1; 32 * PAGE as usize]).unwrap();
    let child = fork(&mut world, map);
    let before = world.core.stats.faults;
    for page in 0..32 {
        assert_eq!(byte(&mut world, child, at + page * PAGE), 1);
    }
    assert!(
        world.core.stats.faults - before <= 3,
        "{} faults for 32 pages",
        world.core.stats.faults - before
    );
}

#[test]
fn a_long_run_of_first_writes_is_filled_ahead() {
    let mut world = World::new(2048);
    world.check_every = 64;
    let (map, bystander) = (world.map(), world.map());
    let at = world.allocate(map, 700 * PAGE);
    for page in 0..650 {
        world.write(map, at + page * PAGE, &[page as u8]).unwrap();
    }
    let faults = world.core.stats.faults;
    assert!(faults < 80, "{faults} faults for 650 pages");
    assert!(world.core.stats.zero_fills < 690);
    for page in 0..700 {
        let mut bytes = [9; 2];
        world.read(map, at + page * PAGE, &mut bytes).unwrap();
        assert_eq!(bytes, [if page < 650 { page as u8 } else { 0 }, 0]);
    }
    // One after the other, but not in a row; and in an entry that is small.
    let before = world.core.stats.zero_fills;
    let at = world.allocate(bystander, 700 * PAGE);
    for page in 0..100 {
        world.write(bystander, at + page * 2 * PAGE, &[1]).unwrap();
    }
    let small = world.allocate(bystander, 100 * PAGE);
    world.inherit(bystander, small, 100 * PAGE, Inherit::None as u32);
    for page in 0..90 {
        world.write(bystander, small + page * PAGE, &[1]).unwrap();
    }
    assert_eq!(world.core.stats.zero_fills, before + 190);
    world.end(map);
    world.end(bystander);
    world.settle();
    assert!(world.core.census().is_empty(), "{:?}", world.core.census());
}

#[test]
fn what_is_filled_ahead_stays_within_the_limit_and_leaves_memory_to_others() {
    for (frames, limit) in [(2048, 400), (600, u32::MAX)] {
        let mut world = World::new(frames);
        world.check_every = 64;
        let map = world.map();
        world.core.maps.get_mut(map).unwrap().account.limits.pages = limit;
        let at = world.allocate(map, 600 * PAGE);
        let written = (0..600).take_while(|page| world.write(map, at + page * PAGE, &[1]).is_ok());
        let written = written.count() as u32;
        let least = limit.min(frames - world.core.config.reserve - 1);
        assert_eq!(written, least, "all of it may be used");
    }
}

#[test]
fn a_cancelled_fault_is_forgotten() {
    let mut world = World::new(201);
    let map = world.map();
    let big = world.allocate(map, 200 * PAGE);
    for page in 0..200 {
        world.write(map, big + page * PAGE, &[1]).unwrap();
    }
    world.deallocate(map, big, 200 * PAGE);
    let at = world.allocate(map, PAGE);
    let Touch::Waits(token) = world.touch(map, at, Prot::WRITE) else {
        panic!("there was a frame");
    };
    world.event(Event::Cancelled(token));
    world.settle();
    assert!(!world.resumed.contains_key(&token.0.get()));
    assert_eq!(world.core.census().waiters, 0);
}

#[test]
fn the_kernel_gets_frames_and_they_are_gone() {
    let mut world = World::new(16);
    let free = world.core.census();
    world.event(Event::KernelShort(4));
    assert_eq!(world.donated, 4);
    let now = world.core.census();
    assert_eq!((now.frames, now.free), (free.frames - 4, free.free - 4));
}

#[test]
fn zeroed_ahead_frames_are_not_zeroed_again() {
    let mut world = World::new(16);
    let map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    world.event(Event::Idle);
    let zeroed = world.machine.work.zeroed;
    for page in 0..4 {
        world.write(map, at + page * PAGE, &[1]).unwrap();
    }
    assert_eq!(world.machine.work.zeroed, zeroed);
}

#[test]
fn everything_goes_with_its_task() {
    let mut world = World::new(128);
    let empty = world.core.census();
    let map = world.map();
    let at = world.allocate(map, 8 * PAGE);
    world.write(map, at, &vec![1; 8 * PAGE as usize]).unwrap();
    let child = fork(&mut world, map);
    world.write(child, at, &[2]).unwrap();
    world.write(map, at + PAGE, &[3]).unwrap();
    for task in [map, child] {
        world.event(Event::TaskEnded(task));
    }
    world.settle();
    assert_eq!(world.core.census(), empty);
}

fn depth(world: &mut World, map: MapId, address: u64) -> u32 {
    let request = Request::VmRegion(vm_map::VmRegion::basic(address));
    match call(world, map, request) {
        Ok(vm_map::Reply::VmRegion(region)) => region.shadow_depth,
        other => panic!("{other:?}"),
    }
}

#[test]
fn chains_stay_short_however_often_a_task_forks() {
    let mut world = World::new(256);
    world.check_every = 64;
    let map = world.map();
    let at = world.allocate(map, 8 * PAGE);
    world.write(map, at, &vec![1; 8 * PAGE as usize]).unwrap();
    let objects = world.core.census().objects;
    for round in 0..1000u64 {
        let child = fork(&mut world, map);
        world.write(child, at + round % 8 * PAGE, &[2]).unwrap();
        world
            .write(map, at + round % 5 * PAGE, &[round as u8])
            .unwrap();
        world.event(Event::TaskEnded(child));
        world.settle();
        assert!(depth(&mut world, map, at) <= 1, "round {round}");
    }
    assert!(world.core.census().objects <= objects + 1);
    // The last round of its own that wrote page 4.
    assert_eq!(byte(&mut world, map, at + 4 * PAGE), 999u64 as u8);
}

#[test]
fn a_chain_of_generations_is_bypassed() {
    let mut world = World::new(512);
    let mut map = world.map();
    let at = world.allocate(map, 4 * PAGE);
    world.write(map, at, &vec![0; 4 * PAGE as usize]).unwrap();
    let mut ancestors = vec![];
    // Each generation writes everything; only the newest goes on, all stay alive.
    for generation in 1..20u8 {
        let child = fork(&mut world, map);
        world
            .write(child, at, &vec![generation; 4 * PAGE as usize])
            .unwrap();
        world.settle();
        ancestors.push(map);
        map = child;
    }
    assert!(
        depth(&mut world, map, at) <= 2,
        "{}",
        depth(&mut world, map, at)
    );
    for (generation, ancestor) in ancestors.into_iter().enumerate() {
        assert_eq!(byte(&mut world, ancestor, at), generation as u8);
    }
}

#[test]
fn whoever_is_cancelled_is_found_among_all_who_wait() {
    let mut world = World::new(201);
    let map = world.map();
    let big = world.allocate(map, 200 * PAGE);
    for page in 0..200 {
        world.write(map, big + page * PAGE, &[1]).unwrap();
    }
    world.deallocate(map, big, 200 * PAGE);
    let at = world.allocate(map, 100 * PAGE);
    let mut waiting = vec![];
    for page in 0..40 {
        // Every other has the thread's slot of the one before.
        let token = Token(NonZeroU64::new((page % 2) << 20 | (500 + page / 2)).unwrap());
        world.event(Event::Fault(Fault {
            map,
            address: at + page * PAGE,
            access: Prot::WRITE,
            token,
        }));
        waiting.push(token);
    }
    assert_eq!(world.core.census().waiters, 40);
    for place in [0, 39, 1, 20, 21] {
        world.event(Event::Cancelled(waiting[place]));
        world.event(Event::Cancelled(waiting[place]));
    }
    assert_eq!(world.core.census().waiters, 35);
    world.settle();
    for (place, token) in waiting.into_iter().enumerate() {
        let gone = [0, 39, 1, 20, 21].contains(&place);
        assert_eq!(world.resumed.contains_key(&token.0.get()), !gone);
    }
    world.end(map);
    world.settle();
    assert!(world.core.census().is_empty(), "{:?}", world.core.census());
}

#[test]
fn an_object_that_many_map_is_copied_in_steps() {
    const MAPS: u64 = 200;
    let mut world = World::new(1024);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.inherit(map, at, 2 * PAGE, Inherit::Share as u32);
    world.write(map, at, &[1]).unwrap();
    let sharers: Vec<MapId> = (0..MAPS).map(|_| world.fork(map)).collect();
    for sharer in &sharers {
        world.write(*sharer, at, &[2]).unwrap();
    }
    let to = world.allocate(map, 2 * PAGE);
    let request = Request::VmCopy(vm_map::VmCopy {
        source: at,
        size: 2 * PAGE,
        destination: to,
    });
    let token = world.send(Call::Map(map, request), NO_RIGHTS);
    let (mut steps, mut revoked) = (0, world.machine.work.revoked);
    let mut written = 2;
    while world.answer(token).is_none() {
        // Those who write meanwhile: before, at and behind the place where the steps are.
        for place in [0, steps, 199 - steps] {
            written += 1;
            world
                .write(sharers[place as usize % 200], at, &[written])
                .unwrap();
        }
        revoked = world.machine.work.revoked - revoked;
        assert!(revoked <= 80, "{revoked} at once");
        revoked = world.machine.work.revoked;
        world.event(Event::Step);
        steps += 1;
    }
    assert!(steps >= 3, "{steps} steps for {MAPS} mappings");
    let copied = byte(&mut world, map, to);
    assert!((3..=written).contains(&copied), "{copied} of {written}");
    for sharer in &sharers {
        world.write(*sharer, at, &[99]).unwrap();
    }
    assert_eq!(byte(&mut world, map, to), copied);
    // A copy that is given up in the midst leaves nothing that matters.
    world.write(map, to + PAGE, &[5]).unwrap();
    let token = world.send(Call::Map(map, request), NO_RIGHTS);
    world.event(Event::Cancelled(token));
    for sharer in &sharers {
        world.write(*sharer, at, &[100]).unwrap();
    }
    world.settle();
    assert_eq!(byte(&mut world, map, to), copied, "it was cancelled");
    for map in sharers {
        world.end(map);
    }
    world.end(map);
    world.settle();
    assert!(world.core.census().is_empty(), "{:?}", world.core.census());
}
