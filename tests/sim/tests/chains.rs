//! No workload grows a shadow chain without bound (rules 40 to 48), and every frame comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_protocol::vm_map::{Reply, Request, TaskCreate, VmAllocate, VmCopy, VmRegion};
use sim::world::{Care, Unkind, World};
use vm_core::Config;
use vm_core::event::{Event, MapId, PortOf, PortRef};

const PAGES: u64 = 8;
/// Objects below an entry's own that a round may leave.
const DEPTH: u32 = 3;

fn world() -> (World, MapId) {
    let unkind = Unkind {
        lost_enters: u64::MAX,
        queue: 16,
        late: false,
        slow: 0,
    };
    let mut world = World::new(Config::for_frames(512), unkind, Care::Touched);
    let map = world.core.boot_map().unwrap();
    let allocate = VmAllocate {
        address: USER_MIN,
        size: PAGES * PAGE_SIZE,
        flags: 0,
    };
    let (answer, _) = world.call_now(map, Request::VmAllocate(allocate), PortRef::None);
    assert!(answer.is_ok());
    for page in 0..PAGES {
        write(&mut world, map, page, 100);
    }
    (world, map)
}

fn write(world: &mut World, map: MapId, page: u64, value: u8) {
    let address = USER_MIN + page * PAGE_SIZE;
    assert_eq!(world.touch_now(map, address, Some(value)), Ok(value));
}

fn read(world: &mut World, map: MapId, page: u64) -> u8 {
    world
        .touch_now(map, USER_MIN + page * PAGE_SIZE, None)
        .unwrap()
}

fn fork(world: &mut World, map: MapId) -> MapId {
    let request = Request::TaskCreate(TaskCreate { inherit: true });
    let (answer, _) = world.call_now(map, request, PortRef::None);
    match answer.unwrap().right {
        Some(PortOf::Map(child)) => child,
        other => panic!("{other:?}"),
    }
}

fn end(world: &mut World, map: MapId) {
    world.post(Event::TaskEnded(map));
    world.settle();
}

fn depth(world: &mut World, map: MapId) -> u32 {
    let mut address = USER_MIN;
    let mut deepest = 0;
    loop {
        let request = Request::VmRegion(VmRegion::basic(address));
        let (_, reply) = world.call_now(map, request, PortRef::None);
        let Some(Reply::VmRegion(region)) = reply else {
            return deepest;
        };
        deepest = deepest.max(region.shadow_depth);
        address = region.address + region.size;
    }
}

fn all_back(world: &mut World) {
    let left = world.core.census();
    assert!(left.is_empty() && left.free == left.frames, "{left:?}");
}

#[test]
fn children_that_write_and_exit_leave_no_chain() {
    let (mut world, parent) = world();
    let used = world.core.census().frames - world.core.census().free;
    for round in 0..1000u64 {
        let child = fork(&mut world, parent);
        write(&mut world, parent, round % PAGES, round as u8);
        write(&mut world, child, (round + 1) % PAGES, 200);
        assert_eq!(read(&mut world, parent, round % PAGES), round as u8);
        end(&mut world, child);
        assert!(depth(&mut world, parent) <= DEPTH, "after round {round}");
        let now = world.core.census();
        assert!(now.objects <= DEPTH + 1, "after round {round}: {now:?}");
        assert!(now.frames - now.free <= used + PAGES as u32, "{now:?}");
    }
    end(&mut world, parent);
    all_back(&mut world);
}

#[test]
fn generations_that_replace_each_other_leave_no_chain() {
    let (mut world, mut map) = world();
    for round in 0..1000u64 {
        let child = fork(&mut world, map);
        write(&mut world, child, round % PAGES, round as u8);
        end(&mut world, map);
        map = child;
        assert_eq!(read(&mut world, map, round % PAGES), round as u8);
        assert!(depth(&mut world, map) <= DEPTH, "after round {round}");
        let now = world.core.census();
        assert!(now.objects <= DEPTH + 1, "after round {round}: {now:?}");
        assert!(now.frames - now.free <= 2 * PAGES as u32, "{now:?}");
    }
    for page in 0..PAGES {
        let last = (0..1000).rev().find(|round| round % PAGES == page).unwrap();
        assert_eq!(read(&mut world, map, page), last as u8);
    }
    end(&mut world, map);
    all_back(&mut world);
}

#[test]
fn copies_over_and_over_leave_no_chain() {
    let (mut world, map) = world();
    let half = PAGES / 2 * PAGE_SIZE;
    for round in 0..1000u64 {
        let copy = match round % 2 {
            0 => (USER_MIN, USER_MIN + half),
            _ => (USER_MIN + half, USER_MIN),
        };
        let request = Request::VmCopy(VmCopy {
            source: copy.0,
            size: half,
            destination: copy.1,
        });
        let (answer, _) = world.call_now(map, request, PortRef::None);
        assert!(answer.is_ok());
        write(&mut world, map, round % PAGES, round as u8);
        world.settle();
        assert!(depth(&mut world, map) <= DEPTH + 2, "after round {round}");
        let now = world.core.census();
        assert!(now.objects <= 12, "after round {round}: {now:?}");
    }
    end(&mut world, map);
    all_back(&mut world);
}
