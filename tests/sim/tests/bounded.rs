//! No event does more than a bounded amount of work, however large the maps are (law: work in steps).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{Request, TaskCreate, VmAllocate, VmDeallocate, VmInherit, VmProtect};
use sim::world::{Arrival, Cost, World};
use vm_core::event::{Event, MapId, PortOf, PortRef, Token};

const ENTRIES: u64 = 60_000;
/// Entries that one event may make or remove: a step's budget, and the ends of a range.
const ENTRIES_MAX: u32 = 64 + 4;
/// Machine calls of one event: pages freed or copied, and translations taken back.
const MACHINE_MAX: u64 = 130;

/// A map of so many entries, each different from its neighbours; some have been written.
fn fill(world: &mut World, map: MapId) {
    for page in 0..ENTRIES {
        let address = USER_MIN + page * PAGE_SIZE;
        let tag = (1 + page % 2) << 24;
        let allocate = Request::VmAllocate(VmAllocate {
            address,
            size: PAGE_SIZE,
            flags: tag as u32,
        });
        let (answer, _) = world.call_now(map, allocate, PortRef::None);
        assert!(answer.is_ok());
        if page % 40 == 0 {
            assert_eq!(world.touch_now(map, address, Some(7)), Ok(7));
        }
    }
    assert_eq!(world.core.census().entries, ENTRIES as u32);
}

fn another(world: &mut World) -> MapId {
    let other = world.core.boot_map().unwrap();
    let allocate = Request::VmAllocate(VmAllocate {
        address: USER_MIN,
        size: 2048 * PAGE_SIZE,
        flags: 0,
    });
    assert!(world.call_now(other, allocate, PortRef::None).0.is_ok());
    other
}

/// Takes steps until the call is answered, with a fault of another task between any two. Says how
/// many steps it took.
fn serve(world: &mut World, other: MapId, token: Option<Token>) -> u64 {
    let mut steps = 0;
    while token.map_or(world.core.wants_step(), |token| world.is_waiting(token)) {
        let address = USER_MIN + steps % 2048 * PAGE_SIZE;
        let fault = world.fault(other, address, Prot::WRITE);
        assert!(!world.is_waiting(fault), "a fault waits for other work");
        let before = world.core.census().entries;
        world.post(Event::Step);
        let after = world.core.census().entries;
        assert!(
            before.abs_diff(after) <= ENTRIES_MAX,
            "one step goes from {before} to {after} entries"
        );
        steps += 1;
        assert!(steps < 10_000, "no end");
    }
    steps
}

fn answer(world: &mut World, of: Token) -> Option<PortOf> {
    while let Some(arrival) = world.arrival() {
        if let Arrival::Answered(token, answer) = arrival
            && token == of
        {
            return answer.unwrap().right;
        }
    }
    panic!("no answer");
}

#[test]
fn a_large_map_is_forked_changed_and_ended_in_small_steps() {
    let (mut world, map) = World::unlimited();
    fill(&mut world, map);
    let other = another(&mut world);
    world.worst = Cost::default();

    let request = Request::TaskCreate(TaskCreate { inherit: true });
    let token = world.call(map, request, PortRef::None);
    assert!(serve(&mut world, other, Some(token)) >= ENTRIES / 64);
    let Some(PortOf::Map(child)) = answer(&mut world, token) else {
        panic!("no child");
    };
    assert_eq!(world.touch_now(child, USER_MIN, None), Ok(7));

    let all = (USER_MIN, ENTRIES * PAGE_SIZE);
    let requests = [
        Request::VmProtect(VmProtect {
            address: all.0,
            size: all.1,
            set_maximum: false,
            protection: u32::from(Prot::READ.bits()),
        }),
        Request::VmInherit(VmInherit {
            address: all.0,
            size: all.1,
            inheritance: 2,
        }),
        Request::VmDeallocate(VmDeallocate {
            address: all.0,
            size: all.1,
        }),
    ];
    for request in requests {
        let token = world.call(map, request, PortRef::None);
        assert!(
            serve(&mut world, other, Some(token)) >= ENTRIES / 64,
            "{request:?}"
        );
        answer(&mut world, token);
    }
    for ending in [map, child] {
        world.post(Event::TaskEnded(ending));
        serve(&mut world, other, None);
    }
    let worst = world.worst;
    assert!(
        worst.machine <= MACHINE_MAX && worst.effects <= 96,
        "{worst:?}"
    );
    world.check();
    world.post(Event::TaskEnded(other));
    world.settle();
    let left = world.core.census();
    assert!(left.is_empty() && left.free == left.frames, "{left:?}");
}

#[test]
fn a_large_map_is_torn_down_half_forked() {
    let (mut world, map) = World::unlimited();
    fill(&mut world, map);
    let request = Request::TaskCreate(TaskCreate { inherit: true });
    let token = world.call(map, request, PortRef::None);
    for _ in 0..ENTRIES / 64 / 2 {
        world.post(Event::Step);
    }
    assert!(world.is_waiting(token));
    world.cancel(token);
    world.post(Event::TaskEnded(map));
    world.settle();
    let left = world.core.census();
    assert!(left.is_empty() && left.free == left.frames, "{left:?}");
}
