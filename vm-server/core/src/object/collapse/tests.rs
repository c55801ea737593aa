//! Chains stay short, at a cost that is in the steps and not in the faults (rules 40 to 48).

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::types::Prot;

use crate::event::{Event, MapId, RightId};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
/// Objects below an entry's own that may be left.
const DEPTH: u32 = 2;

#[test]
fn ten_thousand_children_leave_nothing_behind() {
    let mut world = World::new(256);
    world.check_every = 512;
    let map = world.map();
    let at = world.allocate(map, 8 * PAGE);
    world.write(map, at, &vec![1; 8 * PAGE as usize]).unwrap();
    let before = world.core.census();
    for round in 0..10_000u64 {
        let child = world.fork(map);
        world.write(child, at + round % 8 * PAGE, &[2]).unwrap();
        world
            .write(map, at + round % 5 * PAGE, &[round as u8])
            .unwrap();
        world.end(child);
        world.settle();
        assert!(world.depth(map, at) <= DEPTH, "round {round}");
    }
    let after = world.core.census();
    assert!(after.objects <= before.objects + DEPTH);
    assert_eq!(after.maps, before.maps);
    assert!(before.free - after.free <= 8, "{after:?}");
    world.end(map);
    world.settle();
    assert!(world.core.census().is_empty());
    let census = world.core.census();
    assert_eq!(census.free, census.frames);
}

#[test]
fn chains_of_many_entries_stay_short_though_steps_come_late() {
    const ENTRIES: u64 = 200;
    let mut world = World::new(16384);
    world.check_every = 512;
    let map = world.map();
    let at = world.allocate(map, 2 * ENTRIES * PAGE);
    for entry in 0..ENTRIES {
        world.deallocate(map, at + (2 * entry + 1) * PAGE, PAGE);
        world.write(map, at + 2 * entry * PAGE, &[1]).unwrap();
    }
    for round in 0..20u8 {
        let child = world.fork(map);
        for entry in 0..ENTRIES {
            world.write(map, at + 2 * entry * PAGE, &[round]).unwrap();
        }
        world.end(child);
    }
    world.settle();
    for entry in 0..ENTRIES {
        assert!(world.depth(map, at + 2 * entry * PAGE) <= DEPTH);
        assert_eq!(world.byte(map, at + 2 * entry * PAGE), 19);
    }
    assert!(world.core.census().objects <= (ENTRIES * u64::from(DEPTH)) as u32);
}

#[test]
fn a_large_object_is_bypassed_in_steps() {
    const PAGES: u64 = 500;
    let mut world = World::new(4096);
    world.check_every = 64;
    let first = world.map();
    let at = world.allocate(first, PAGES * PAGE);
    for page in 0..PAGES {
        world.write(first, at + page * PAGE, &[1]).unwrap();
    }
    // Its object gets a shadow that covers it whole, and another that is what the third copies.
    let second = world.fork(first);
    for page in 0..PAGES {
        world.write(second, at + page * PAGE, &[2]).unwrap();
    }
    let third = world.fork(second);
    for page in 0..PAGES {
        world.write(third, at + page * PAGE, &[3]).unwrap();
    }
    let longest = longest_step(&mut world);
    assert!(longest <= 64, "a step took {longest} pages");
    assert_eq!(world.depth(third, at), 0, "it has every page itself");
    for (map, byte) in [(first, 1), (second, 2), (third, 3)] {
        assert!(world.bytes(map, at, PAGES).iter().all(|b| *b == byte));
    }
}

/// Takes steps until nothing is left to do; the most pages that one of them moved or freed.
fn longest_step(world: &mut World) -> u32 {
    let mut longest = 0;
    while world.core.wants_step() {
        let free = world.core.census().free;
        world.event(Event::Step);
        longest = longest.max(world.core.census().free.abs_diff(free));
    }
    longest
}

#[test]
fn a_bypass_begins_again_when_the_object_below_gets_a_page() {
    const PAGES: u64 = 200;
    let mut world = World::new(2048);
    let map = world.map();
    let at = world.allocate(map, PAGES * PAGE);
    // Pages below, of which the middle object has its own but for the first.
    for page in 0..PAGES {
        world.write(map, at + page * PAGE, &[1]).unwrap();
    }
    let other = world.fork(map);
    for page in 1..PAGES {
        world.write(map, at + page * PAGE, &[2]).unwrap();
    }
    let top = world.fork(map);
    for page in 1..PAGES {
        world.write(top, at + page * PAGE, &[3]).unwrap();
    }
    // In the midst of looking whether the middle can be skipped, it gets its first page.
    world.event(Event::Step);
    world.end(other);
    for _ in 0..6 {
        world.event(Event::Step);
        world.event(Event::Step);
        assert_eq!(world.byte(top, at), 1);
        assert_eq!(world.byte(map, at), 1);
    }
    world.write(map, at, &[4]).unwrap();
    world.settle();
    assert_eq!(world.byte(top, at), 1);
    assert_eq!(world.byte(top, at + PAGE), 3);
    assert_eq!(world.byte(map, at + PAGE), 2);
}

#[test]
fn a_chain_is_shortened_although_a_fault_waits_for_the_pager_below() {
    const PORT: RightId = RightId(70);
    let mut world = World::new(512);
    let data: Vec<u8> = (0..4 * PAGE).map(|at| (at / PAGE) as u8 + 10).collect();
    let mut pager = Pager::new(&mut world, PORT, 8, data);
    let map = world.map();
    let file = world.map_object(map, PORT, 4 * PAGE);
    pager.settle(&mut world);
    let at = copy_of(&mut world, map, file, 4 * PAGE);
    let mut waiting = Vec::new();
    for round in 0..5u8 {
        let child = world.fork(map);
        let Touch::Waits(_) = world.touch(map, at, Prot::WRITE) else {
            panic!("nobody brought the page")
        };
        // Twice, so that the object is the entry's own.
        let Touch::Waits(token) = world.touch(map, at + u64::from(round % 4) * PAGE, Prot::READ)
        else {
            panic!("nobody brought the page")
        };
        waiting.push(token);
        world.end(child);
        world.settle();
        assert!(world.depth(map, at) <= DEPTH + 2, "round {round}");
    }
    pager.settle(&mut world);
    for token in waiting {
        assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    }
    assert_eq!(world.bytes(map, at + PAGE, 3), [11, 12, 13]);
}

/// Copies a range to a new place. Nobody need bring pages for that.
fn copy_of(world: &mut World, map: MapId, from: u64, size: u64) -> u64 {
    let to = world.allocate(map, size);
    world.copy(map, from, to, size);
    to
}

#[test]
fn breaking_a_copy_costs_the_same_whatever_the_size() {
    let mut costs = Vec::new();
    for pages in [1u64, 64, 3000] {
        let mut world = World::new(8192);
        world.check_every = 0;
        let map = world.map();
        let at = world.allocate(map, pages * PAGE);
        for page in 0..pages {
            world.write(map, at + page * PAGE, &[1]).unwrap();
        }
        let child = world.fork(map);
        world.settle();
        let before = world.machine.work;
        assert!(matches!(
            world.touch(child, at, Prot::WRITE),
            Touch::Done(_)
        ));
        let after = world.machine.work;
        costs.push((
            after.copied - before.copied,
            after.revoked - before.revoked,
            after.zeroed - before.zeroed,
        ));
    }
    assert_eq!(costs[0], (1, 0, 0));
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
}
