//! The quick way of faults against the general one: two worlds in which the same is asked and touched, of
//! which one goes the general way only, come to the same outcomes, translations, bytes, counts and
//! records after every step.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_map::{
    MachMakeMemoryEntry, Request, VmAllocate, VmCopy, VmDeallocate, VmInherit, VmMap, VmProtect,
};
use random::Random;

use crate::call::Reply;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId};
use crate::sim::pager::Pager;
use crate::sim::{Touch, World};

const PAGES: u64 = 40;
const BASE: u64 = 0x40_0000;
const FILE: u64 = 12;
const PORT: RightId = RightId(77);

/// A translation: its page, its rights, and the first bytes that it shows.
type Shown = (u64, Prot, [u8; 8]);

/// What else happens while a fault waits for its pager.
#[derive(Clone)]
enum Meanwhile {
    Nothing,
    /// Another thread reads there.
    Touch(usize, u64),
    /// A call on a map.
    Ask(usize, Request),
    /// Time passes.
    Tick,
}

impl Meanwhile {
    fn new(maps: usize, random: &mut Random) -> Meanwhile {
        let map = random.below(maps as u64) as usize;
        match random.below(6) {
            0 => Meanwhile::Touch(map, range(random).0),
            1 => Meanwhile::Ask(map, request(random)),
            2 => Meanwhile::Tick,
            _ => Meanwhile::Nothing,
        }
    }
}

/// What the two worlds are compared by.
#[derive(Debug, PartialEq)]
struct Shape {
    /// Of each map its translations, and the pages that it pays for.
    maps: Vec<(Vec<Shown>, u32)>,
    /// Free frames, objects, entries, nodes of page trees.
    records: (u32, u32, u32, u32),
    /// Faults, resident pages found, zero fills, copies, collapses.
    counts: [u64; 5],
}

struct Side {
    world: World,
    pager: Pager,
    maps: Vec<MapId>,
    /// Named entries that are held.
    named: Vec<PortOf>,
}

impl Side {
    /// With a pager of so many slots: with few of them its tray is filled again after each answer.
    fn new(slowly: bool, slots: u32) -> Side {
        let mut world = World::new(700);
        world.core.slowly = slowly;
        world.check_every = 7;
        let data = (0..FILE * PAGE_SIZE).map(|at| (at >> 8) as u8).collect();
        let pager = Pager::new(&mut world, PORT, slots, data);
        let maps = vec![world.map()];
        Side {
            world,
            pager,
            maps,
            named: Vec::new(),
        }
    }

    /// Where answers are carried out after the event that comes next.
    fn late(slowly: bool) -> Side {
        let mut side = Side::new(slowly, 4);
        side.world.core.config.in_order = false;
        side
    }

    fn settle(&mut self) {
        self.pager.settle(&mut self.world);
    }

    fn ask(&mut self, map: usize, request: Request) -> Result<(), Kern> {
        let token = self
            .world
            .send(crate::call::Call::Map(self.maps[map], request), NO_RIGHTS);
        self.answered(token).map(drop)
    }

    fn answered(&mut self, token: crate::event::Token) -> Result<Reply, Kern> {
        for _ in 0..1000 {
            if let Some(answer) = self.world.answer(token) {
                return answer;
            }
            self.pager.serve(&mut self.world);
            self.world.event(Event::Step);
        }
        panic!("no answer");
    }

    fn map(&mut self, map: usize, from: PortRef, at: u64, pages: u64, copy: bool) -> bool {
        let mut rights = NO_RIGHTS;
        rights[VmMap::OBJECT] = from;
        let request = Request::VmMap(VmMap {
            address: at,
            flags: MapFlags::OVERWRITE.bits(),
            copy,
            max_protection: Prot::DEFAULT.bits().into(),
            ..VmMap::anywhere(pages * PAGE_SIZE)
        });
        let call = crate::call::Call::Map(self.maps[map], request);
        let token = self.world.send(call, rights);
        self.answered(token).is_ok()
    }

    fn name(&mut self, map: usize, at: u64, pages: u64) -> bool {
        let request = Request::MachMakeMemoryEntry(MachMakeMemoryEntry {
            size: pages * PAGE_SIZE,
            offset: at,
            permission: Prot::DEFAULT.bits().into(),
        });
        let call = crate::call::Call::Map(self.maps[map], request);
        let token = self.world.send(call, NO_RIGHTS);
        match self.answered(token) {
            Ok(Reply {
                right: Some(port), ..
            }) => {
                self.named.push(port);
                true
            }
            _ => false,
        }
    }

    fn touch(
        &mut self,
        map: usize,
        at: u64,
        write: Option<u8>,
        meanwhile: &Meanwhile,
    ) -> Result<u8, Kern> {
        let access = if write.is_some() {
            Prot::WRITE
        } else {
            Prot::READ
        };
        for _ in 0..8 {
            match self.world.touch(self.maps[map], at, access) {
                Touch::Done(frame) => {
                    let offset = (at % PAGE_SIZE) as usize;
                    let machine = &mut self.world.machine;
                    use crate::machine::Machine;
                    if let Some(byte) = write {
                        machine.store(frame, offset, &[byte]);
                    }
                    let mut byte = [0];
                    machine.load(frame, offset, &mut byte);
                    return Ok(byte[0]);
                }
                Touch::Fails(code) => return Err(code),
                Touch::Waits(_) => {
                    match meanwhile.clone() {
                        Meanwhile::Nothing => {}
                        Meanwhile::Touch(map, at) => {
                            let map = self.maps[map];
                            let _ = self.world.touch(map, at, Prot::READ);
                        }
                        Meanwhile::Ask(map, request) => {
                            let _ = self.ask(map, request);
                        }
                        Meanwhile::Tick => self.world.event(Event::Tick),
                    }
                    self.settle();
                }
            }
        }
        panic!("{at:#x} waits for ever");
    }

    fn shape(&mut self) -> Shape {
        use crate::machine::Machine;
        let mut maps = Vec::new();
        for map in &self.maps {
            let mut shown = Vec::new();
            let pages = self.world.translations(*map);
            for (page, frame, protection) in pages {
                let mut bytes = [0; 8];
                self.world.machine.load(frame, 0, &mut bytes);
                shown.push((page, protection, bytes));
            }
            let record = self.world.core.maps.get(*map).unwrap();
            maps.push((shown, record.pages));
        }
        let core = &self.world.core;
        let stats = &core.stats;
        Shape {
            maps,
            records: (
                core.free_frames(),
                core.objects.len(),
                core.entries.len(),
                core.nodes.len(),
            ),
            counts: [
                stats.faults,
                stats.resident_hits,
                stats.zero_fills,
                stats.cow_breaks,
                stats.collapses,
            ],
        }
    }
}

/// Does the same on both sides.
fn both<T: PartialEq + core::fmt::Debug>(
    sides: &mut [Side; 2],
    what: &str,
    mut act: impl FnMut(&mut Side) -> T,
) -> T {
    let [quick, general] = sides;
    let (one, other) = (act(quick), act(general));
    assert_eq!(one, other, "{what}");
    one
}

fn range(random: &mut Random) -> (u64, u64) {
    let (first, count) = (random.below(PAGES), 1 + random.below(9));
    (BASE + first * PAGE_SIZE, count * PAGE_SIZE)
}

fn request(random: &mut Random) -> Request {
    let (address, size) = range(random);
    match random.below(14) {
        0..3 => Request::VmAllocate(VmAllocate {
            address,
            size,
            flags: MapFlags::OVERWRITE.bits(),
        }),
        3..5 => Request::VmDeallocate(VmDeallocate { address, size }),
        5..7 => Request::VmProtect(VmProtect {
            address,
            size,
            set_maximum: false,
            protection: if random.once_in(2) { 3 } else { 1 },
        }),
        7 => Request::VmInherit(VmInherit {
            address,
            size,
            inheritance: random.below(3) as u32,
        }),
        _ => Request::VmCopy(VmCopy {
            source: address,
            size,
            destination: range(random).0,
        }),
    }
}

/// Something other than a touch.
fn step(sides: &mut [Side; 2], random: &mut Random) {
    let map = random.below(sides[0].maps.len() as u64) as usize;
    let (at, size) = range(random);
    let pages = size / PAGE_SIZE;
    match random.below(20) {
        0 if sides[0].maps.len() < 4 => {
            for side in sides.iter_mut() {
                let child = side.world.fork(side.maps[map]);
                side.maps.push(child);
            }
        }
        1 if map > 0 => {
            for side in sides.iter_mut() {
                let ended = side.maps.swap_remove(map);
                side.world.end(ended);
            }
        }
        2 if sides[0].named.len() < 3 => {
            both(sides, "make entry", |side| side.name(map, at, pages));
        }
        3..5 if !sides[0].named.is_empty() => {
            let copy = random.once_in(2);
            let which = random.below(sides[0].named.len() as u64) as usize;
            both(sides, "map entry", |side| {
                let named = PortRef::Own(side.named[which]);
                side.map(map, named, at, pages, copy)
            });
        }
        5 if !sides[0].named.is_empty() => {
            for side in sides.iter_mut() {
                let port = side.named.swap_remove(0);
                side.world.event(Event::NoSenders { port, made: 1 });
            }
        }
        6 => {
            let copy = random.once_in(2);
            both(sides, "map file", |side| {
                let port = PortRef::Foreign(PORT);
                side.map(map, port, at, pages.min(FILE), copy)
            });
        }
        _ => {
            let request = request(random);
            let what = std::format!("{request:?}");
            let _ = both(sides, &what, |side| side.ask(map, request));
        }
    }
    sides.iter_mut().for_each(Side::settle);
}

fn touch(sides: &mut [Side; 2], random: &mut Random) {
    let map = random.below(sides[0].maps.len() as u64) as usize;
    let (at, _) = range(random);
    let count = if random.once_in(3) { 6 } else { 1 };
    for page in 0..count {
        let at = at + page * PAGE_SIZE + random.below(8);
        let write = random.once_in(2).then(|| 1 + random.below(255) as u8);
        let meanwhile = Meanwhile::new(sides[0].maps.len(), random);
        let _ = both(sides, "touch", |side| {
            side.touch(map, at, write, &meanwhile)
        });
    }
    // Work that is left would be done at another time by the general way.
    sides.iter_mut().for_each(Side::settle);
}

/// Maps the file and reads some of it, most often in order.
fn read_file(sides: &mut [Side; 2], random: &mut Random) {
    let map = random.below(sides[0].maps.len() as u64) as usize;
    let (at, _) = range(random);
    both(sides, "map file", |side| {
        side.map(map, PortRef::Foreign(PORT), at, FILE, false)
    });
    let mut page = 0;
    for _ in 0..random.below(FILE) {
        let meanwhile = match random.once_in(6) {
            true => Meanwhile::new(sides[0].maps.len(), random),
            false => Meanwhile::Nothing,
        };
        let _ = both(sides, "read", |side| {
            side.touch(map, at + page * PAGE_SIZE, None, &meanwhile)
        });
        let next = if random.once_in(5) { 0 } else { page + 1 };
        page = if random.once_in(5) {
            random.below(FILE)
        } else {
            next
        };
    }
    sides.iter_mut().for_each(Side::settle);
}

#[test]
fn a_fault_that_goes_quickly_comes_to_the_same_as_one_that_does_not() {
    let mut dialogues = 0;
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let slots = if seed % 2 == 0 { 4 } else { 40 };
        let mut sides = [Side::new(false, slots), Side::new(true, slots)];
        for turn in 0..160 {
            if random.once_in(3) {
                step(&mut sides, &mut random);
            } else if random.once_in(6) {
                read_file(&mut sides, &mut random);
            } else {
                touch(&mut sides, &mut random);
            }
            let dialogue = sides[0].world.core.dialogue;
            dialogues += u32::from(dialogue.is_some_and(|it| it.last.is_some()));
            both(
                &mut sides,
                &std::format!("seed {seed}, turn {turn}"),
                Side::shape,
            );
        }
    }
    assert!(dialogues > 100, "{dialogues} turns ended with an answer");
}

/// The world checks after every event that each translation is one that a look-up would give.
#[test]
fn answers_that_come_late_bring_no_page_that_is_not_there_any_more() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut sides = [Side::late(false), Side::late(true)];
        for _ in 0..160 {
            if random.once_in(3) {
                step(&mut sides, &mut random);
            } else {
                touch(&mut sides, &mut random);
            }
        }
    }
}
