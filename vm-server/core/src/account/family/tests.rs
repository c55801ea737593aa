//! What a family holds, it holds out of one limit, whoever ends first.

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_range;

use super::Good;
use crate::Config;
use crate::account::Limits;
use crate::call::Reply;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf};
use crate::sim::World;

const PAGE: u64 = 4096;

fn child(world: &mut World, parent: MapId, inherit: bool) -> Result<MapId, Kern> {
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit });
    match world.call(parent, request, NO_RIGHTS)? {
        Reply {
            right: Some(PortOf::Map(child)),
            ..
        } => Ok(child),
        other => panic!("{other:?}"),
    }
}

fn end(world: &mut World, map: MapId) {
    world.event(Event::TaskEnded(map));
    world.settle();
}

/// A world, and a map that may hold so many entries and pages.
fn first(entries: u32, pages: u32) -> (World, MapId) {
    let mut world = World::with(Config::for_frames(4096));
    let map = world.map();
    let cap = Limits {
        entries,
        pages,
        ..Limits::NONE
    };
    world.core.set_cap(map, cap);
    (world, map)
}

/// Allocates pages that do not become one entry.
fn fill(world: &mut World, map: MapId, most: u32) -> u32 {
    let mut got = 0;
    for tag in 0..most {
        let request = vm_map::VmAllocate {
            address: 0,
            size: PAGE,
            flags: 1 | (tag % 2 + 1) << 24,
        };
        if world
            .call(map, Request::VmAllocate(request), NO_RIGHTS)
            .is_err()
        {
            break;
        }
        got += 1;
    }
    got
}

fn slack(world: &World, map: MapId) -> u64 {
    world.core.maps.get(map).unwrap().slack(Good::Entries)
}

#[test]
fn children_hold_out_of_their_parents_limit() {
    let (mut world, map) = first(100, 1000);
    assert_eq!(fill(&mut world, map, 40), 40);
    let (one, two) = (
        child(&mut world, map, false).unwrap(),
        child(&mut world, map, false).unwrap(),
    );
    assert_eq!(fill(&mut world, one, 30), 30);
    // What the first has and does not use is not lost to the others.
    assert_eq!(fill(&mut world, two, 100), 30);
    assert_eq!(fill(&mut world, map, 1), 0);
    assert_eq!(fill(&mut world, one, 1), 0);
    world.core.check_invariants().unwrap();
    end(&mut world, one);
    world.core.check_invariants().unwrap();
    assert_eq!(fill(&mut world, map, 100), 30);
    end(&mut world, two);
    assert_eq!(slack(&world, map), 30);
}

/// A fork wants more than its parent has left: what the parent has left counts once.
#[test]
fn what_is_lent_on_is_not_taken_back_meanwhile() {
    let (mut world, map) = first(60, 1000);
    assert_eq!(fill(&mut world, map, 10), 10);
    let son = child(&mut world, map, false).unwrap();
    assert_eq!(fill(&mut world, son, 12), 12);
    while slack(&world, son) == 0 {
        assert_eq!(fill(&mut world, son, 1), 1);
    }
    let grandson = child(&mut world, son, true).unwrap();
    for map in [map, son, grandson] {
        let record = world.core.maps.get(map).unwrap();
        let (held, may) = (
            record.held(Good::Entries),
            record.account.limits.of(Good::Entries),
        );
        assert!(held <= may, "{map:?} holds {held} of {may}");
    }
    world.core.check_invariants().unwrap();
}

#[test]
fn pages_of_all_generations_come_out_of_one_limit() {
    let (mut world, map) = first(1000, 50);
    let son = child(&mut world, map, false).unwrap();
    let grandson = child(&mut world, son, false).unwrap();
    let at = world.allocate(grandson, 100 * PAGE);
    let got = (0..100)
        .take_while(|page| world.write(grandson, at + page * PAGE, &[1]).is_ok())
        .count();
    assert_eq!(got, 50);
    let mine = world.allocate(map, PAGE);
    assert!(world.write(map, mine, &[1]).is_err());
    world.deallocate(grandson, at, 100 * PAGE);
    world.settle();
    assert!(world.write(map, mine, &[1]).is_ok());
    world.core.check_invariants().unwrap();
}

/// Copies a page until that is refused.
fn copies(world: &mut World, map: MapId) -> Vec<PortOf> {
    let address = world.allocate(map, PAGE);
    let request = Request::VmCopyin(vm_map::VmCopyin {
        address,
        size: PAGE,
        src_destroy: false,
    });
    let mut got = Vec::new();
    while let Ok(reply) = world.call(map, request, NO_RIGHTS) {
        got.push(reply.right.unwrap());
        assert!(got.len() < 100);
    }
    got
}

#[test]
fn copies_that_have_gone_are_there_for_the_others() {
    let mut world = World::with(Config::for_frames(4096));
    let map = world.map();
    let cap = Limits {
        copies: 6,
        ..Limits::NONE
    };
    world.core.set_cap(map, cap);
    let son = child(&mut world, map, false).unwrap();
    let grandson = child(&mut world, son, false).unwrap();
    let held = copies(&mut world, grandson);
    assert_eq!(held.len(), 6);
    assert_eq!(copies(&mut world, map).len(), 0);
    for port in held {
        world.event(Event::NoSenders { port, made: 1 });
    }
    assert_eq!(copies(&mut world, son).len(), 6);
    world.settle();
    world.core.check_invariants().unwrap();
}

#[test]
fn a_fork_that_the_family_may_not_hold_is_refused_whole() {
    let (mut world, map) = first(100, 1000);
    assert_eq!(fill(&mut world, map, 60), 60);
    assert_eq!(child(&mut world, map, true), Err(Kern::ResourceShortage));
    world.settle();
    assert_eq!(slack(&world, map), 40);
    world.core.check_invariants().unwrap();
    world.deallocate(map, world.core.maps.get(map).unwrap().min(), 20 * PAGE);
    let twin = child(&mut world, map, true).unwrap();
    assert_eq!(world.core.maps.get(twin).unwrap().entries(), 40);
}

#[test]
fn who_ends_between_leaves_its_children_to_its_lender() {
    let (mut world, map) = first(200, 1000);
    let son = child(&mut world, map, false).unwrap();
    let below: Vec<MapId> = (0..3)
        .map(|_| child(&mut world, son, false).unwrap())
        .collect();
    for map in &below {
        assert_eq!(fill(&mut world, *map, 20), 20);
    }
    end(&mut world, son);
    world.core.check_invariants().unwrap();
    assert_eq!(fill(&mut world, map, 1000), 140);
    for map in below {
        end(&mut world, map);
    }
    world.core.check_invariants().unwrap();
    assert_eq!(slack(&world, map), 60);
}

#[test]
fn nobody_gets_more_by_ending() {
    let (mut world, map) = first(200, 1000);
    let mut family: Vec<MapId> = (0..5)
        .map(|_| child(&mut world, map, false).unwrap())
        .collect();
    for map in &family {
        assert_eq!(fill(&mut world, *map, 10), 10);
    }
    end(&mut world, map);
    world.core.check_invariants().unwrap();
    let last = family.pop().unwrap();
    // Those that are left hold 40 between them.
    assert_eq!(fill(&mut world, last, 1000), 150);
    for map in family {
        end(&mut world, map);
        world.core.check_invariants().unwrap();
    }
    assert_eq!(fill(&mut world, last, 1000), 40);
}

#[test]
fn tasks_that_are_made_of_a_shared_map_are_its_makers() {
    let (mut world, map) = first(100, 1000);
    let son = child(&mut world, map, false).unwrap();
    let request = vm_range::VmMapCreate {
        min: 0x10_0000,
        max: 0x100_0000,
    };
    let request = Request::Range(vm_range::Request::VmMapCreate(request));
    let Some(PortOf::Map(shared)) = world.call(son, request, NO_RIGHTS).unwrap().right else {
        panic!("no map");
    };
    let odd = child(&mut world, shared, false).unwrap();
    assert_eq!(fill(&mut world, odd, 90), 90);
    assert_eq!(fill(&mut world, map, 90), 10);
    world.core.check_invariants().unwrap();
    end(&mut world, odd);
    end(&mut world, son);
    let late = child(&mut world, shared, false);
    let got = late.map(|late| fill(&mut world, late, 1));
    assert!(matches!(got, Ok(0) | Err(_)), "{got:?}");
    world.core.check_invariants().unwrap();
}

#[test]
fn deep_families_and_wide_ones_end_in_any_order() {
    let (mut world, map) = first(5000, 5000);
    let mut all = std::vec![map];
    let mut seed = 7u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for round in 0..400 {
        if next(3) > 0 || all.len() < 3 {
            let deep = round % 2 == 0;
            let parent = if deep { all.len() - 1 } else { next(all.len()) };
            let made = child(&mut world, all[parent], false).unwrap();
            fill(&mut world, made, 3);
            all.push(made);
        } else {
            let ends = next(all.len());
            let map = all.swap_remove(ends);
            end(&mut world, map);
        }
        if round % 8 == 0 {
            world.core.check_invariants().unwrap();
        }
    }
    let held: u64 = all
        .iter()
        .map(|map| world.core.maps.get(*map).unwrap().held(Good::Entries))
        .sum();
    let last = all[all.len() - 1];
    let more = u64::from(fill(&mut world, last, 6000));
    assert!(held + more <= 5000, "{held} and {more}");
    // The rest is what some have at hand that was not looked for.
    assert!(held + more > 4500, "{held} and {more}");
}

/// Operations that can be begun at the same time through what a map made.
fn lent(world: &mut World, map: MapId) -> usize {
    (world.core.caller, world.core.lent) = (Some(map), true);
    let got = (0..100).take_while(|_| world.core.charge_op().is_ok());
    let got = got.count();
    (world.core.caller, world.core.lent) = (None, false);
    got
}

/// What a parent has to give is less at each generation, and soon nothing.
#[test]
fn others_may_use_what_was_made_in_whatever_generation() {
    for generations in 0..6 {
        let (mut world, first) = first(1000, 1000);
        let cap = world.core.maps.get(first).unwrap().account.family.cap;
        world.core.set_cap(first, Limits { ops: 40, ..cap });
        let mut last = first;
        for _ in 0..generations {
            last = child(&mut world, last, false).unwrap();
        }
        let got = lent(&mut world, last);
        // A quarter, and at least one of what a map is given if there is plenty.
        let whole = usize::from(generations == 0);
        let least = [Good::Ops.chunk() / 4, 10][whole] as usize;
        assert!((least..=10).contains(&got), "{got} after {generations}");
        assert_eq!(lent(&mut world, last), 0);
    }
}

#[test]
fn of_few_calls_a_quarter_rounded_up_is_for_others() {
    for (ops, quarter) in [(0, 0), (1, 1), (4, 1), (5, 2), (17, 5)] {
        let (mut world, map) = first(1000, 1000);
        let cap = world.core.maps.get(map).unwrap().account.family.cap;
        world.core.set_cap(map, Limits { ops, ..cap });
        assert_eq!(lent(&mut world, map), quarter, "of {ops}");
    }
}

#[test]
fn what_comes_back_to_who_may_hold_less_by_now_is_not_kept() {
    let (mut world, map) = first(100, 1000);
    let son = child(&mut world, map, false).unwrap();
    let grandson = child(&mut world, son, false).unwrap();
    assert!(slack(&world, son) + slack(&world, grandson) > 8);
    let cap = world.core.maps.get(map).unwrap().account.family.cap;
    world.core.set_cap(map, Limits { entries: 4, ..cap });
    assert_eq!(fill(&mut world, map, 100), 4);
    assert_eq!(fill(&mut world, grandson, 100), 0);
    world.core.check_invariants().unwrap();
    end(&mut world, grandson);
    end(&mut world, son);
    assert_eq!(fill(&mut world, map, 1), 0);
    world.core.check_invariants().unwrap();
}
