//! Thousands share a page, or wait for one: no event has to do with all of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_abi::types::{Advice, Inherit, Prot};
use ipc_protocol::vm_map::{
    Request, TaskCreate, VmAllocate, VmBehaviorSet, VmCopy, VmInherit, VmMap,
};
use random::Random;
use sim::pager::{Habits, Pagers};
use sim::world::{Arrival, Cost, World};
use vm_core::event::{Event, MapId, PortOf, PortRef, Token};

/// Tasks that share a page.
const SHARERS: usize = 3000;
/// Effects of one event: as many answers as it gives, and what goes with them.
const EFFECTS_MAX: usize = 2 * 64 + 16;
/// Records that one event may change.
const RECORDS_MAX: usize = 600;
/// Machine calls of one event: translations taken back of as many pages as make up a step's budget, and
/// of one more.
const MACHINE_MAX: u64 = 2 * 64;

/// Tasks that share the first pages of one, which have been written.
fn share(world: &mut World, map: MapId, pages: u64) -> Vec<MapId> {
    let size = pages * PAGE_SIZE;
    let requests = [
        Request::VmAllocate(VmAllocate {
            address: USER_MIN,
            size,
            flags: 0,
        }),
        Request::VmInherit(VmInherit {
            address: USER_MIN,
            size,
            inheritance: Inherit::Share as u32,
        }),
    ];
    for request in requests {
        world.call_now(map, request, PortRef::None).0.unwrap();
    }
    for page in 0..pages {
        let address = USER_MIN + page * PAGE_SIZE;
        world.touch_now(map, address, Some(1)).unwrap();
    }
    let mut sharers = vec![map];
    while sharers.len() < SHARERS {
        let request = Request::TaskCreate(TaskCreate { inherit: true });
        let (answer, _) = world.call_now(map, request, PortRef::None);
        let Some(PortOf::Map(child)) = answer.unwrap().right else {
            panic!("no child");
        };
        sharers.push(child);
    }
    sharers
}

fn check_cost(world: &World) {
    let worst = world.worst;
    let small = worst.machine <= MACHINE_MAX && worst.records <= RECORDS_MAX;
    assert!(small && worst.effects <= EFFECTS_MAX, "{worst:?}");
}

fn touch_all(world: &mut World, sharers: &[MapId], value: Option<u8>) {
    for map in sharers {
        let read = world.touch_now(*map, USER_MIN, value);
        assert_eq!(read, Ok(value.unwrap_or(1)));
    }
}

#[test]
fn a_page_that_thousands_share_is_never_taken_back_from_all_in_one_event() {
    let (mut world, map) = World::unlimited();
    let sharers = share(&mut world, map, 2);
    world.worst = Cost::default();
    touch_all(&mut world, &sharers, None);
    touch_all(&mut world, &sharers, Some(2));
    // A copy: all lose WRITE, and the first that writes leaves the old page to the copy.
    let to = VmAllocate {
        address: USER_MIN + 16 * PAGE_SIZE,
        size: 2 * PAGE_SIZE,
        flags: 0,
    };
    let copy = VmCopy {
        source: USER_MIN,
        size: to.size,
        destination: to.address,
    };
    for request in [Request::VmAllocate(to), Request::VmCopy(copy)] {
        world.call_now(map, request, PortRef::None).0.unwrap();
    }
    assert_eq!(world.touch_now(map, to.address, None), Ok(2));
    touch_all(&mut world, &sharers, Some(3));
    assert_eq!(world.touch_now(map, to.address, None), Ok(2));
    // Pages that everybody sees get other contents.
    let zero = VmBehaviorSet {
        address: USER_MIN,
        size: 2 * PAGE_SIZE,
        behavior: Advice::Zero as u32,
    };
    let zero = Request::VmBehaviorSet(zero);
    world.call_now(map, zero, PortRef::None).0.unwrap();
    for sharer in &sharers {
        assert_eq!(world.touch_now(*sharer, USER_MIN, None), Ok(0));
    }
    check_cost(&world);
    world.check();
    for sharer in sharers {
        world.post(Event::TaskEnded(sharer));
    }
    world.settle();
    check_cost(&world);
    let left = world.core.census();
    assert!(left.is_empty() && left.free == left.frames, "{left:?}");
}

/// A pager whose object a map shows at [`USER_MIN`], and that is told of everything but a request.
fn map_object(world: &mut World, map: MapId, pages: u64, habits: Habits) -> Pagers {
    let host = world.core.boot_map().unwrap();
    let mut pagers = Pagers::default();
    pagers.start(world, host, 8, &[habits]);
    let object = world.right_to(pagers.files[0].port);
    let mapping = Request::VmMap(VmMap {
        address: USER_MIN,
        flags: 0,
        inheritance: Inherit::Share as u32,
        ..VmMap::anywhere(pages * PAGE_SIZE)
    });
    world.call_now(map, mapping, object).0.unwrap();
    pagers
}

/// How a wait of thousands ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Supplied,
    PagerDies,
    TimeIsUp,
    Cancelled,
    TaskEnds,
}

fn many_wait(ending: Ending) {
    let (mut world, map) = World::unlimited();
    let mut random = Random::new(7);
    let mut pagers = map_object(&mut world, map, 4, Habits::default());
    for _ in 0..20 {
        pagers.act(&mut world, &mut random, 0);
    }
    let waiting: Vec<Token> = (0..SHARERS)
        .map(|_| world.fault(map, USER_MIN, Prot::READ))
        .collect();
    while world.arrival().is_some() {}
    assert!(waiting.iter().all(|token| world.is_waiting(*token)));
    world.worst = Cost::default();
    match ending {
        Ending::Supplied => {
            for _ in 0..20 {
                pagers.act(&mut world, &mut random, 0);
            }
        }
        Ending::PagerDies => pagers.kill(&mut world, 0),
        Ending::TimeIsUp => while world.wait_for_clock() {},
        Ending::Cancelled => waiting.iter().for_each(|token| world.cancel(*token)),
        Ending::TaskEnds => world.post(Event::TaskEnded(map)),
    }
    world.settle();
    check_cost(&world);
    assert!(
        ending == Ending::Cancelled || !waiting.iter().any(|token| world.is_waiting(*token)),
        "{ending:?}: somebody waits for ever"
    );
    let mut answers = 0;
    while let Some(arrival) = world.arrival() {
        if let Arrival::Resumed(token, result) = arrival
            && waiting.contains(&token)
        {
            assert_eq!(result.is_ok(), ending == Ending::Supplied, "{result:?}");
            answers += 1;
        }
    }
    let expected = if ending == Ending::Cancelled {
        0
    } else {
        SHARERS
    };
    assert_eq!(answers, expected, "{ending:?}");
    world.check();
}

#[test]
fn thousands_who_wait_for_one_page_are_answered_in_steps() {
    for ending in [
        Ending::Supplied,
        Ending::PagerDies,
        Ending::TimeIsUp,
        Ending::Cancelled,
        Ending::TaskEnds,
    ] {
        many_wait(ending);
    }
}
