//! A pager that never answers, with a wire, a fork, an unaligned vm_write and deallocations of the same
//! map in flight, in every order: all end but the wire and what overlaps it, and those at the time
//! limit.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use std::collections::BTreeMap;

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::vm_map::{
    Request, TaskCreate, VmAllocate, VmCopyin, VmDeallocate, VmMap, VmWrite,
};
use ipc_protocol::vm_wire::{self, VmWire};
use random::Random;
use sim::pager::{Habits, Pagers};
use sim::world::{Arrival, Care, Unkind, World};
use vm_core::Config;
use vm_core::effect::Answer;
use vm_core::event::{Event, MapId, PortOf, PortRef, RightId, Token};

const HOST: RightId = RightId(1);
/// Anonymous pages.
const PLAIN: u64 = USER_MIN;
/// Pages of the silent pager.
const SILENT: u64 = USER_MIN + 16 * PAGE_SIZE;
/// How long a pager may be silent.
const LIMIT: u64 = 1_000_000;

/// What is in flight beside the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flight {
    Wire,
    Fork,
    Write,
    DeallocateApart,
    DeallocateOver,
}

impl Flight {
    /// Whether it has nothing to do with what is wired.
    const fn is_apart(self) -> bool {
        matches!(self, Flight::Write | Flight::DeallocateApart)
    }
}

struct Cast {
    world: World,
    pagers: Pagers,
    random: Random,
    host: MapId,
    map: MapId,
    copy: PortOf,
    flights: BTreeMap<u64, Flight>,
    answers: BTreeMap<Flight, Answer>,
}

impl Cast {
    fn new(seed: u64, strategy: CopyStrategy) -> Cast {
        let mut config = Config::for_frames(512);
        config.host = Some(HOST);
        config.pager_timeout = LIMIT;
        let unkind = Unkind {
            lost_enters: 20,
            queue: 4,
            late: false,
            slow: 0,
        };
        let mut world = World::new(config, unkind, Care::Whole);
        let mut random = Random::new(seed);
        world.reseed(seed);
        let host = world.core.boot_map().unwrap();
        let map = world.core.boot_map().unwrap();
        let mut pagers = Pagers::default();
        let habits = Habits {
            silent: true,
            strategy,
            cluster: 1 + random.below(4) as u32,
            ..Habits::default()
        };
        pagers.start(&mut world, host, 6, &[habits]);
        let port = pagers.files[0].port;
        let copy = furnish(&mut world, map, port);
        for _ in 0..20 {
            pagers.act(&mut world, &mut random, 0);
        }
        Cast {
            world,
            pagers,
            random,
            host,
            map,
            copy,
            flights: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn send(&mut self, flight: Flight) {
        let (request, right) = match flight {
            Flight::Wire => {
                let wire = VmWire {
                    address: SILENT,
                    size: 2 * PAGE_SIZE,
                    access: u32::from(Prot::READ.bits()),
                };
                let right = self.world.right_to(HOST);
                (Request::Wire(vm_wire::Request::VmWire(wire)), right)
            }
            Flight::Fork => (
                Request::TaskCreate(TaskCreate { inherit: true }),
                PortRef::None,
            ),
            Flight::Write => {
                let write = VmWrite {
                    address: PLAIN + 77,
                    size: PAGE_SIZE + 5,
                };
                (Request::VmWrite(write), PortRef::Own(self.copy))
            }
            Flight::DeallocateApart => (deallocate(PLAIN + 6 * PAGE_SIZE), PortRef::None),
            Flight::DeallocateOver => (deallocate(SILENT + PAGE_SIZE), PortRef::None),
        };
        let token = self.world.call(self.map, request, right);
        self.flights.insert(token.0.get(), flight);
        self.hear();
    }

    /// Steps and a pager that is busy with nothing, as chance has it.
    fn pass(&mut self) {
        for _ in 0..self.random.below(5) {
            match self.random.once_in(3) {
                true => self.pagers.act(&mut self.world, &mut self.random, 0),
                false => self.world.post(Event::Step),
            }
        }
        self.hear();
    }

    fn settle(&mut self) {
        self.world.settle();
        for _ in 0..10 {
            self.pagers.act(&mut self.world, &mut self.random, 0);
            self.world.settle();
        }
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(arrival) = self.world.arrival() {
            if let Arrival::Answered(Token(token), answer) = arrival {
                let flight = self.flights.remove(&token.get()).unwrap();
                self.answers.insert(flight, answer);
            }
        }
    }

    /// Everything ends, and nothing is left.
    fn end(mut self) {
        let mut maps = vec![self.map];
        if let Some(Ok(reply)) = self.answers.get(&Flight::Fork)
            && let Some(PortOf::Map(child)) = reply.right
        {
            maps.push(child);
        }
        for map in maps {
            self.world.post(Event::TaskEnded(map));
        }
        self.settle();
        self.world.no_senders(self.copy, false);
        self.pagers.kill(&mut self.world, 0);
        self.settle();
        self.world.post(Event::TaskEnded(self.host));
        self.settle();
        let left = self.world.core.census();
        assert!(left.is_empty() && left.free == left.frames, "{left:?}");
    }
}

const fn deallocate(address: u64) -> Request {
    Request::VmDeallocate(VmDeallocate {
        address,
        size: 2 * PAGE_SIZE,
    })
}

/// Anonymous memory, some of it written, a mapping of the pager's object, and a copy to write from.
fn furnish(world: &mut World, map: MapId, port: RightId) -> PortOf {
    let allocate = Request::VmAllocate(VmAllocate {
        address: PLAIN,
        size: 8 * PAGE_SIZE,
        flags: 0,
    });
    assert!(world.call_now(map, allocate, PortRef::None).0.is_ok());
    assert_eq!(world.touch_now(map, PLAIN + PAGE_SIZE, Some(3)), Ok(3));
    let copyin = Request::VmCopyin(VmCopyin {
        address: PLAIN + PAGE_SIZE,
        size: 3 * PAGE_SIZE,
        src_destroy: false,
    });
    let copy = world.call_now(map, copyin, PortRef::None).0.unwrap();
    let object = world.right_to(port);
    let mapping = Request::VmMap(VmMap {
        address: SILENT,
        flags: 0,
        ..VmMap::anywhere(4 * PAGE_SIZE)
    });
    assert!(world.call_now(map, mapping, object).0.is_ok());
    copy.right.unwrap()
}

fn run(seed: u64, strategy: CopyStrategy) {
    let mut cast = Cast::new(seed, strategy);
    let mut order = vec![
        Flight::Fork,
        Flight::Write,
        Flight::DeallocateApart,
        Flight::DeallocateOver,
    ];
    cast.send(Flight::Wire);
    while !order.is_empty() {
        cast.pass();
        let next = cast.random.below(order.len() as u64) as usize;
        cast.send(order.swap_remove(next));
    }
    cast.settle();
    let waiting: Vec<Flight> = cast.flights.values().copied().collect();
    for flight in &waiting {
        assert!(!flight.is_apart(), "seed {seed}: {flight:?} waits");
    }
    let overlapping = [Flight::Wire, Flight::DeallocateOver];
    assert!(
        overlapping.iter().all(|flight| waiting.contains(flight)),
        "seed {seed}: {:?}",
        cast.answers
    );
    for (flight, answer) in &cast.answers {
        assert!(answer.is_ok(), "seed {seed}: {flight:?}: {answer:?}");
    }

    let begin = cast.world.now.0;
    for _ in 0..20 {
        if cast.flights.is_empty() {
            break;
        }
        cast.world.wait_for_clock();
        cast.settle();
    }
    assert!(cast.flights.is_empty(), "seed {seed}: {:?}", cast.flights);
    // Who waited behind the wire may have to wait for the pager itself, once more.
    let took = cast.world.now.0 - begin;
    assert!((LIMIT / 2..4 * LIMIT).contains(&took), "after {took}");
    let wired = cast.answers.get(&Flight::Wire).unwrap();
    assert_eq!(wired.map(|_| ()), Err(Kern::MemoryError));
    let over = cast.answers.get(&Flight::DeallocateOver).unwrap();
    assert!(over.is_ok(), "{over:?}");
    cast.end();
}

#[test]
fn all_ends_but_the_wire_and_what_overlaps_it() {
    for seed in 0..300 {
        run(seed, CopyStrategy::None);
    }
}

#[test]
fn the_same_with_memory_that_is_copied_lazily() {
    for seed in 0..300 {
        run(seed, CopyStrategy::Delay);
    }
}
