//! Thousands share a page, or wait for one: no event has to do with all of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_abi::types::{Advice, Inherit};
use ipc_protocol::vm_map::{Request, TaskCreate, VmAllocate, VmBehaviorSet, VmCopy, VmInherit};
use sim::world::{Care, Cost, Unkind, World};
use vm_core::Config;
use vm_core::account::{Limits, Whole};
use vm_core::event::{Event, MapId, PortOf, PortRef};

/// Tasks that share a page.
const SHARERS: usize = 3000;
/// Machine calls of one event: translations taken back of as many pages as make up a step's budget, and
/// of one more.
const MACHINE_MAX: u64 = 2 * 64;

fn world() -> (World, MapId) {
    let unkind = Unkind {
        lost_enters: u64::MAX,
        queue: 16,
        supplies: false,
    };
    let mut config = Config::for_frames(4096);
    config.limits = Limits::NONE;
    config.whole = Whole {
        entries: u32::MAX,
        wired: u64::MAX,
        copies: u32::MAX,
        objects: u32::MAX,
        ops: u32::MAX,
    };
    let mut world = World::new(config, unkind, Care::Never);
    let map = world.core.boot_map().unwrap();
    (world, map)
}

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

fn touch_all(world: &mut World, sharers: &[MapId], value: Option<u8>) {
    for map in sharers {
        let read = world.touch_now(*map, USER_MIN, value);
        assert_eq!(read, Ok(value.unwrap_or(1)));
    }
}

#[test]
fn a_page_that_thousands_share_is_never_taken_back_from_all_in_one_event() {
    let (mut world, map) = world();
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
    let worst = world.worst;
    assert!(worst.machine <= MACHINE_MAX, "{worst:?}");
    world.check();
    for sharer in sharers {
        world.post(Event::TaskEnded(sharer));
    }
    world.settle();
    assert!(world.worst.machine <= MACHINE_MAX, "{:?}", world.worst);
    let left = world.core.census();
    assert!(left.is_empty() && left.free == left.frames, "{left:?}");
}
