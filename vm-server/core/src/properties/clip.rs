//! Splitting entries and joining them again undo each other exactly (rules 105 to 109): whatever is
//! cut, in whatever order it is joined, every attribute, offset and reference is as before. Only
//! shared entries stay cut.

extern crate std;

use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::vm_map::{Request, VmAllocate, VmDeallocate, VmInherit, VmProtect};
use random::Random;

use crate::event::MapId;
use crate::map::entry::Entry;
use crate::map::tree::{Hooks, Link};
use crate::sim::World;
use crate::slab::NIL;

const PAGES: u64 = 64;
const BASE: u64 = 0x40_0000;

/// The entries without what only the tree and lists know.
fn picture(world: &World, map: MapId) -> Vec<std::string::String> {
    let core = &world.core;
    let mut at = core.maps.get(map).unwrap().tree.first();
    let mut all = Vec::new();
    while let Some(entry) = core.entries.at(at.0) {
        let plain = Entry {
            left: Link::NIL,
            right: Link::NIL,
            hooks: Hooks::FREE,
            object_next: NIL,
            object_prev: NIL,
            ..*entry
        };
        all.push(std::format!("{plain:?}"));
        at = entry.hooks.next;
    }
    all
}

fn references(world: &World) -> Vec<u32> {
    world.core.objects.iter().map(|(_, o)| o.refs).collect()
}

fn links(world: &World, map: MapId) -> Vec<Link> {
    let core = &world.core;
    let mut at = core.maps.get(map).unwrap().tree.first();
    let mut all = Vec::new();
    while let Some(entry) = core.entries.at(at.0) {
        all.push(at);
        at = entry.hooks.next;
    }
    all
}

/// Joins whatever can be joined, in random order.
fn join_all(world: &mut World, map: MapId, random: &mut Random) {
    let mut links = links(world, map);
    while !links.is_empty() {
        let at = random.below(links.len() as u64) as usize;
        let link = links.swap_remove(at);
        // Nothing else is in the way: each is still there, since only itself is joined away.
        world.core.entry_simplify(link);
        world.core.check_invariants().unwrap();
    }
}

/// A map with memory of different attributes, some written, some shared or copied.
fn furnish(random: &mut Random) -> (World, MapId) {
    let mut world = World::new(1024);
    let map = world.map();
    for _ in 0..30 {
        let (first, count) = (random.below(PAGES), 1 + random.below(10));
        let (address, size) = (BASE + first * PAGE_SIZE, count * PAGE_SIZE);
        let request = match random.below(6) {
            0..3 => Request::VmAllocate(VmAllocate {
                address,
                size,
                flags: (random.below(2) as u32) << 24,
            }),
            3 => Request::VmDeallocate(VmDeallocate { address, size }),
            4 => Request::VmProtect(VmProtect {
                address,
                size,
                set_maximum: false,
                protection: 1 + random.below(3) as u32,
            }),
            _ => Request::VmInherit(VmInherit {
                address,
                size,
                inheritance: random.below(3) as u32,
            }),
        };
        // A call that is refused is as good.
        let _ = world.ask(map, request);
        let _ = world.write(map, address, &[1]);
        if random.once_in(10) {
            let child = world.fork(map);
            let _ = world.write(child, address, &[2]);
        }
    }
    world.settle();
    (world, map)
}

#[test]
fn cuts_anywhere_are_joined_again_without_a_trace() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut world, map) = furnish(&mut random);
        join_all(&mut world, map, &mut random);
        let (before, references_before) = (picture(&world, map), references(&world));
        for _ in 0..1 + random.below(40) {
            let address = BASE + random.below(PAGES + 4) * PAGE_SIZE;
            // What is shared on purpose is never joined (rule 108).
            let inside = world.core.entry_at(map, address / PAGE_SIZE);
            if inside.is_some_and(|entry| entry.is_shared) {
                continue;
            }
            let above = world.core.map_clip(map, address).unwrap();
            if let Some(entry) = world.core.entries.at(above.0) {
                assert!(entry.start >= address);
            }
            world.core.check_invariants().unwrap();
        }
        join_all(&mut world, map, &mut random);
        assert_eq!(picture(&world, map), before, "seed {seed}");
        assert_eq!(references(&world), references_before, "seed {seed}");
    }
}

#[test]
fn a_cut_for_which_there_is_no_record_leaves_everything_as_it_was() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let (mut world, map) = furnish(&mut random);
        world.core.limit_records(Some(0));
        // Records that were used before may be used again.
        while world
            .core
            .map_clip(map, BASE + random.below(PAGES) * PAGE_SIZE)
            .is_ok()
        {
            if random.once_in(200) {
                break;
            }
        }
        let (before, references_before) = (picture(&world, map), references(&world));
        for page in 0..PAGES {
            if world.core.map_clip(map, BASE + page * PAGE_SIZE).is_err() {
                assert_eq!(picture(&world, map), before);
                assert_eq!(references(&world), references_before);
            }
            world.core.check_invariants().unwrap();
        }
    }
}
