//! The quick way of the common calls against the general one: two worlds in which the same is asked and
//! written, of which one goes the general way only, answer alike, map alike, show the same bytes and
//! use as many frames and records.

extern crate std;

use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{
    Request, VmAllocate, VmCopy, VmCopyin, VmCopyout, VmDeallocate, VmInherit, VmProtect,
};
use random::Random;

use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef};
use crate::sim::World;

const PAGES: u64 = 48;
const BASE: u64 = 0x40_0000;

struct Pair {
    worlds: [World; 2],
    maps: [MapId; 2],
}

/// What an entry says, but for which object it maps.
type Shape = (u64, u64, Prot, Prot, Inherit, u8, bool, bool, bool);

impl Pair {
    fn new() -> Pair {
        let mut worlds = [World::new(512), World::new(512)];
        worlds[1].core.slowly = true;
        let maps = [worlds[0].map(), worlds[1].map()];
        Pair { worlds, maps }
    }

    fn ask(&mut self, request: Request) {
        let [one, other] = &mut self.worlds;
        let said = one.ask(self.maps[0], request);
        assert_eq!(said, other.ask(self.maps[1], request), "{request:?}");
    }

    fn write(&mut self, address: u64, byte: u8) {
        let [one, other] = &mut self.worlds;
        let went = one.write(self.maps[0], address, &[byte]);
        assert_eq!(went, other.write(self.maps[1], address, &[byte]));
    }

    /// A copy made in both worlds, if it is.
    fn copyin(&mut self, request: Request) -> Option<[PortOf; 2]> {
        let [one, other] = &mut self.worlds;
        let said = one.call(self.maps[0], request, NO_RIGHTS);
        let also = other.call(self.maps[1], request, NO_RIGHTS);
        assert_eq!(said.map(|said| said.message), also.map(|said| said.message));
        Some([said.ok()?.right.unwrap(), also.unwrap().right.unwrap()])
    }

    /// Maps a copy in both worlds, or drops it if it cannot be.
    fn copyout(&mut self, copies: [PortOf; 2], request: Request) {
        let [one, other] = &mut self.worlds;
        let right = |port| {
            let mut rights = NO_RIGHTS;
            rights[0] = PortRef::Own(port);
            rights
        };
        let said = one.call(self.maps[0], request, right(copies[0]));
        let also = other.call(self.maps[1], request, right(copies[1]));
        assert_eq!(said, also, "{request:?}");
        if said.is_err() {
            for (world, port) in [one, other].into_iter().zip(copies) {
                world.event(Event::NoSenders { port, made: 1 });
            }
        }
    }

    fn fork(&mut self, ends: bool) {
        for (world, map) in self.worlds.iter_mut().zip(self.maps) {
            let child = world.fork(map);
            if ends {
                world.end(child);
                world.settle();
            }
        }
    }

    fn shapes(&self, which: usize) -> Vec<Shape> {
        let core = &self.worlds[which].core;
        let mut at = core.maps.get(self.maps[which]).unwrap().tree.first();
        let mut all = Vec::new();
        while let Some(e) = core.entries.at(at.0) {
            all.push((
                e.start,
                e.end,
                e.protection,
                e.max_protection,
                e.inheritance,
                e.tag,
                e.needs_copy,
                e.is_shared,
                e.object.is_some(),
            ));
            at = e.hooks.next;
        }
        all
    }

    fn compare(&mut self) {
        assert_eq!(self.shapes(0), self.shapes(1));
        for page in 0..PAGES {
            let address = BASE + page * PAGE_SIZE;
            let [one, other] = &mut self.worlds;
            let (mut a, mut b) = ([0], [0]);
            let went = one.read(self.maps[0], address, &mut a);
            assert_eq!(went, other.read(self.maps[1], address, &mut b));
            assert_eq!(a, b, "{address:#x}");
        }
        let held = |world: &mut World| {
            world.settle();
            let core = &world.core;
            let counts = (core.objects.len(), core.entries.len(), core.ops.len());
            let hidden = (core.maps.len(), core.copies.len());
            (core.free_frames(), counts, hidden)
        };
        let [one, other] = &mut self.worlds;
        assert_eq!(held(one), held(other));
    }
}

fn range(random: &mut Random) -> (u64, u64) {
    let (first, count) = (random.below(PAGES), random.below(8));
    // Now and then not whole pages, and nothing at all.
    let ragged = if random.once_in(4) { 123 } else { 0 };
    (
        BASE + first * PAGE_SIZE + ragged,
        count * PAGE_SIZE + ragged / 2,
    )
}

fn request(random: &mut Random) -> Request {
    let (address, size) = range(random);
    match random.below(12) {
        0..4 => Request::VmAllocate(VmAllocate {
            address,
            size,
            flags: match random.below(8) {
                0..3 => 0,
                3..5 => MapFlags::ANYWHERE.bits(),
                5 => 1 << 24,
                6 => MapFlags::OVERWRITE.bits(),
                _ => random.below(1 << 16) as u32,
            },
        }),
        4..8 => Request::VmDeallocate(VmDeallocate { address, size }),
        8..10 => Request::VmProtect(VmProtect {
            address,
            size,
            set_maximum: random.once_in(20),
            protection: random.below(9) as u32,
        }),
        10 => Request::VmInherit(VmInherit {
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

/// A copy of a range, and where it goes: a whole entry anywhere, most of the time.
fn copying(random: &mut Random, pair: &Pair) -> (Request, Request) {
    let shapes = pair.shapes(0);
    let (mut address, mut size) = range(random);
    if let Some(&(start, end, ..)) = shapes.get(random.below(shapes.len().max(1) as u64) as usize)
        && !random.once_in(4)
    {
        (address, size) = (start, end - start);
    }
    let copyin = VmCopyin {
        address,
        size,
        src_destroy: random.once_in(8),
    };
    let anywhere = !random.once_in(4);
    let copyout = VmCopyout {
        address: BASE + random.below(PAGES) * PAGE_SIZE,
        flags: u32::from(anywhere) | u32::from(random.once_in(4)) << 24,
    };
    (Request::VmCopyin(copyin), Request::VmCopyout(copyout))
}

#[test]
fn the_quick_way_comes_to_the_same_as_the_general_one() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut pair = Pair::new();
        for turn in 0..150 {
            pair.ask(request(&mut random));
            if random.once_in(2) {
                let place = BASE + random.below(PAGES * PAGE_SIZE);
                pair.write(place, turn as u8);
            }
            if random.once_in(6) {
                let (copyin, copyout) = copying(&mut random, &pair);
                if let Some(copies) = pair.copyin(copyin) {
                    // The source may change before the copy is used.
                    let place = BASE + random.below(PAGES * PAGE_SIZE);
                    pair.write(place, turn as u8 ^ 0x80);
                    pair.copyout(copies, copyout);
                }
            }
            if random.once_in(40) {
                pair.fork(random.once_in(2));
            }
            if random.once_in(10) {
                pair.compare();
            }
        }
        pair.compare();
    }
}
