//! What a child's map holds, and what a fork costs the others.

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;
use ipc_protocol::vm_map::{self, Request};

use crate::call::Call;
use crate::effect::Effect;
use crate::event::{Event, NO_RIGHTS};
use crate::map::tests::{Bench, MAX, MIN, PAGE};

#[test]
fn a_child_gets_copies_shares_and_nothing() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    let [copied, shared, kept] = [MIN, MIN + 4 * PAGE, MIN + 8 * PAGE];
    for address in [copied, shared, kept] {
        bench.allocate(address, 2 * PAGE, 0).unwrap();
        bench.write(map, address, 1).unwrap();
    }
    bench.inherit(shared, 2 * PAGE, 0).unwrap();
    bench.inherit(kept, 2 * PAGE, 2).unwrap();
    let child = bench.fork().unwrap();
    assert_eq!(bench.read(child, kept), Err(Kern::InvalidAddress));

    bench.write(map, copied, 2).unwrap();
    assert_eq!(bench.read(child, copied), Ok(1));
    bench.write(child, copied, 3).unwrap();
    assert_eq!(bench.read(map, copied), Ok(2));

    bench.write(map, shared, 2).unwrap();
    assert_eq!(bench.read(child, shared), Ok(2));
    bench.write(child, shared + PAGE, 3).unwrap();
    assert_eq!(bench.read(map, shared + PAGE), Ok(3));

    // Inheritance that is set later concerns the next child.
    bench.inherit(copied, 2 * PAGE, 2).unwrap();
    assert_eq!(bench.read(child, copied), Ok(3));
    bench.end(child);
    bench.settle();
    assert_eq!(bench.core.maps.len(), 1);
    assert_eq!(bench.read(map, copied), Ok(2));
    let pages = 4000 - bench.core.pages.free();
    bench.end(map);
    bench.settle();
    assert!(pages > 0);
    assert_eq!(bench.core.pages.free(), 4000, "every page comes back");
    assert!(bench.core.objects.is_empty() && bench.core.entries.is_empty());
}

#[test]
fn sharing_what_was_copied_shares_what_came_after_the_copy() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    bench.allocate(MIN, PAGE, 0).unwrap();
    bench.write(map, MIN, 1).unwrap();
    let first = bench.fork().unwrap();
    bench.inherit(MIN, PAGE, 0).unwrap();
    let second = bench.fork().unwrap();
    bench.write(second, MIN, 2).unwrap();
    assert_eq!(bench.read(map, MIN), Ok(2));
    assert_eq!(bench.read(first, MIN), Ok(1));
    bench.write(first, MIN, 3).unwrap();
    assert_eq!(bench.read(second, MIN), Ok(2));
}

#[test]
fn a_shared_page_is_copied_for_a_child_that_inherits_a_copy() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    bench.allocate(MIN, 2 * PAGE, 0).unwrap();
    bench.write(map, MIN, 1).unwrap();
    bench.inherit(MIN, 2 * PAGE, 0).unwrap();
    let sharer = bench.fork().unwrap();
    bench.inherit(MIN, 2 * PAGE, 1).unwrap();
    let copier = bench.fork().unwrap();
    bench.write(sharer, MIN, 2).unwrap();
    bench.write(sharer, MIN + PAGE, 2).unwrap();
    assert_eq!(bench.read(map, MIN), Ok(2));
    assert_eq!(bench.read(copier, MIN), Ok(1));
    assert_eq!(bench.read(copier, MIN + PAGE), Ok(0));
}

#[test]
fn unreadable_for_good_is_dropped_unreadable_now_is_copied() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    bench.allocate(MIN, 2 * PAGE, 0).unwrap();
    bench.write(map, MIN, 1).unwrap();
    bench.protect(MIN, PAGE, false, 0).unwrap();
    bench.protect(MIN + PAGE, PAGE, true, 0).unwrap();
    let child = bench.fork().unwrap();
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(bench.read(child, MIN), denied);
    assert_eq!(bench.read(child, MIN + PAGE), Err(Kern::InvalidAddress));
    bench.map = child;
    bench.protect(MIN, PAGE, false, 1).unwrap();
    assert_eq!(bench.read(child, MIN), Ok(1));
}

#[test]
fn a_fork_that_fails_leaves_no_child_and_the_parent_as_it_was() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    for page in 0..100 {
        bench.allocate(MIN + 2 * page * PAGE, PAGE, 0).unwrap();
        bench.write(map, MIN + 2 * page * PAGE, 5).unwrap();
    }
    let before = bench.picture();
    let entries = bench.core.entries.len();
    // Room for half of them.
    bench.core.maps.get_mut(map).unwrap().account.limits.entries = 50;
    assert_eq!(bench.fork(), Err(Kern::ResourceShortage));
    bench.settle();
    assert_eq!(bench.picture(), before);
    assert_eq!(bench.core.entries.len(), entries);
    assert_eq!(bench.core.maps.len(), 1);
    for page in 0..100 {
        bench.write(map, MIN + 2 * page * PAGE, 6).unwrap();
    }
    assert_eq!(bench.core.objects.len(), 100, "nobody needs a shadow");
}

#[test]
fn a_large_fork_takes_steps_and_holds_up_other_calls_only() {
    const N: u64 = 60_000;
    let mut bench = Bench::new(PAGE, PAGE * 4 * N);
    // More than a machine of this size gives its clients.
    bench.core.config.whole.entries = u32::MAX;
    let map = bench.map;
    for n in 0..N {
        bench
            .core
            .map_enter(crate::map::entry::Entry::anonymous(
                map,
                PAGE + 2 * n * PAGE,
                PAGE + (2 * n + 1) * PAGE,
            ))
            .unwrap();
    }
    bench.write(map, PAGE, 9).unwrap();
    let token = bench.token();
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    bench.handle(Event::Call {
        call: Call::Map(map, request),
        rights: NO_RIGHTS,
        reply: Some(token),
    });
    let second = bench.token();
    let request = Request::VmDeallocate(vm_map::VmDeallocate {
        address: PAGE,
        size: PAGE,
    });
    bench.handle(Event::Call {
        call: Call::Map(map, request),
        rights: NO_RIGHTS,
        reply: Some(second),
    });
    // A fault is answered meanwhile; the deallocation waits.
    assert_eq!(bench.read(map, PAGE), Ok(9));
    let mut answered = Vec::new();
    let mut steps = 0;
    while bench.core.wants_step() {
        for effect in bench.handle(Event::Step) {
            if let Effect::Reply { to, answer } = effect {
                answered.push((to, answer.is_ok()));
            }
        }
        steps += 1;
    }
    assert_eq!(answered, [(Some(token), true), (Some(second), true)]);
    assert!(steps >= N / 64);
    assert_eq!(bench.core.entries.len(), 2 * N as u32 - 1);
    bench.check();
}
