//! Each call on a range, with every combination of the addresses, sizes and words that are at a limit,
//! against the rules: the code, and what is mapped then, to the byte.
//!
//! [`rules`] says what has to come of a call, from a list of pages alone. A call that is refused must have
//! changed nothing, so that the next can be tried in the same scene; one that is done leaves what the
//! rules say, and has a scene of its own.

extern crate std;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_wire::VmWire;

use crate::Config;
use crate::call::Message;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights};
use crate::sim::World;

mod rules;

use rules::{Done, Page, Pages};

const P: u64 = PAGE_SIZE;
const HOST: RightId = RightId(77);
/// Where the pages of a scene lie.
const AREA: u64 = USER_MIN + 64 * P;
/// How many.
const COUNT: u64 = 8;

/// Read and write but for: 2 can be read, 3 not be used, 4 is not mapped, 6 can never be written.
struct Scene {
    world: World,
    map: MapId,
    pages: Pages,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::with(Config {
            host: Some(HOST),
            reserve: 0,
            ..Config::for_frames(128)
        });
        world.check_every = 0;
        let map = world.map();
        let mut scene = Scene {
            world,
            map,
            pages: BTreeMap::new(),
        };
        scene.must(Request::VmAllocate(vm_map::VmAllocate {
            address: AREA,
            size: COUNT * P,
            flags: 0,
        }));
        for page in 0..COUNT {
            let bytes: Vec<u8> = (0..P).map(|at| (at * 7 + page * 31 + 1) as u8).collect();
            scene.world.write(map, AREA + page * P, &bytes).unwrap();
            scene.pages.insert(AREA / P + page, Page::new(bytes));
        }
        scene.protect(2, false, Prot::READ);
        scene.protect(3, false, Prot::NONE);
        scene.protect(6, true, Prot::READ);
        scene.must(Request::VmDeallocate(vm_map::VmDeallocate {
            address: AREA + 4 * P,
            size: P,
        }));
        scene.pages.remove(&(AREA / P + 4));
        scene.world.inherit(map, AREA + 7 * P, P, 2);
        scene.pages.get_mut(&(AREA / P + 7)).unwrap().inheritance = Inherit::None;
        scene.world.settle();
        scene
    }

    fn must(&mut self, request: Request) {
        let said = self.world.ask(self.map, request);
        assert!(said.is_ok(), "{request:?}: {said:?}");
    }

    fn protect(&mut self, page: u64, set_maximum: bool, rights: Prot) {
        self.must(Request::VmProtect(vm_map::VmProtect {
            address: AREA + page * P,
            size: P,
            set_maximum,
            protection: rights.bits().into(),
        }));
        let page = self.pages.get_mut(&(AREA / P + page)).unwrap();
        page.current = rights;
        if set_maximum {
            page.most = rights;
        }
    }

    /// What is mapped now, page by page, without contents.
    fn shapes(&self) -> Vec<(u64, u64, [Prot; 2], Inherit)> {
        let mut shapes: Vec<(u64, u64, [Prot; 2], Inherit)> = Vec::new();
        let mut entries: Vec<_> = self.world.core.entries.iter().map(|(_, e)| *e).collect();
        entries.sort_by_key(|entry| entry.start);
        for entry in entries.iter().filter(|entry| entry.map == self.map) {
            let rights = [entry.protection, entry.max_protection];
            match shapes.last_mut() {
                // A cut that was left is no change (rule 55).
                Some((_, end, last, inheritance))
                    if *end == entry.start
                        && *last == rights
                        && *inheritance == entry.inheritance =>
                {
                    *end = entry.end;
                }
                _ => shapes.push((entry.start, entry.end, rights, entry.inheritance)),
            }
        }
        shapes
    }

    /// Compares what is mapped with what has to be, and what it holds where it is few.
    fn compare(&mut self, what: &Request) {
        let mut wanted: Vec<(u64, u64, [Prot; 2], Inherit)> = Vec::new();
        for (number, page) in &self.pages {
            let (start, rights) = (number * P, [page.current, page.most]);
            match wanted.last_mut() {
                Some((_, end, last, inheritance))
                    if *end == start && *last == rights && *inheritance == page.inheritance =>
                {
                    *end = start + P;
                }
                _ => wanted.push((start, start + P, rights, page.inheritance)),
            }
        }
        assert_eq!(self.shapes(), wanted, "{what:x?}");
        let read = |(_, page): &(&u64, &Page)| page.current.contains(Prot::READ);
        let readable: Vec<_> = self.pages.iter().filter(read).collect();
        for (number, page) in readable {
            let mut bytes = vec![0; P as usize];
            let said = self.world.read(self.map, number * P, &mut bytes);
            assert_eq!(said, Ok(()), "{what:x?}");
            assert!(bytes == page.bytes, "page {number:#x} after {what:x?}");
        }
    }

    /// Makes a call, and compares its code and its effect with what has to come. Says whether the scene
    /// can be used again.
    fn check(&mut self, request: Request, wanted: Result<Done, Kern>) -> bool {
        let rights = self.rights(&request);
        let said = self.world.call(self.map, request, rights);
        let code = said.map(drop);
        let right = code == wanted.as_ref().map(|_| ()).map_err(|code| *code);
        assert!(right, "{request:x?} gives {code:?}, not {wanted:?}");
        if let Ok(reply) = said
            && let Some(port) = reply.right
        {
            self.world.event(Event::NoSenders {
                port,
                made: u32::MAX,
            });
        }
        match wanted {
            Err(_) | Ok(Done::Nothing) => {}
            Ok(Done::Pages(pages)) => self.pages = pages,
            Ok(Done::Mapped(page, count)) => {
                let at = address_in(said.unwrap().message);
                assert_eq!(at % P, 0, "{request:x?}");
                let taken = self.pages.range(at / P..at / P + count).next();
                assert!(taken.is_none(), "{request:x?} maps over {taken:?}");
                for number in 0..count {
                    self.pages.insert(at / P + number, page.clone());
                }
            }
            // Too much to go over, or what contents cannot tell.
            Ok(Done::Else) => return false,
        }
        self.compare(&request);
        code.is_err()
    }

    fn rights(&self, request: &Request) -> Rights {
        let mut rights = NO_RIGHTS;
        let own = PortRef::Own(PortOf::Map(self.map));
        match request {
            Request::VmReadOverwrite(_) => rights[vm_map::VmReadOverwrite::DATA_MAP] = own,
            Request::Share(_) => rights[ipc_protocol::vm_share::VmRemap::SOURCE_MAP] = own,
            Request::Wire(_) => rights[VmWire::HOST] = PortRef::Foreign(HOST),
            _ => {}
        }
        rights
    }
}

/// The address that an answer gives.
fn address_in(message: Message) -> u64 {
    use ipc_protocol::vm_share::Reply as Share;
    match message {
        Message::Map(vm_map::Reply::VmAllocate(reply)) => reply.address,
        Message::Map(vm_map::Reply::VmMap(reply)) => reply.address,
        Message::Map(vm_map::Reply::Share(Share::VmRemap(reply))) => reply.address,
        other => panic!("{other:?}"),
    }
}

/// Addresses at and around what is mapped, the map's ends and those of 64 bits.
fn addresses() -> Vec<u64> {
    let mut all = vec![0, 1, P - 1, P, P + 1];
    for edge in [USER_MIN, AREA, USER_MAX] {
        all.extend([edge - P, edge - 1, edge, edge + 1, edge + P - 1]);
    }
    all.extend((1..=COUNT).map(|page| AREA + page * P));
    all.extend([1 << 47, 1 << 48, (1 << 63) - P, (1 << 63) - 1, 1 << 63]);
    all.extend([
        0u64.wrapping_sub(2 * P),
        0u64.wrapping_sub(P + 1),
        0u64.wrapping_sub(P),
        0u64.wrapping_sub(P - 1),
        u64::MAX - 1,
        u64::MAX,
    ]);
    all
}

/// Sizes at limits, and those with which the sum is at one.
fn sizes(address: u64) -> Vec<u64> {
    let mut all = vec![0, 1, P - 1, P, P + 1, 2 * P, 3 * P, COUNT * P, 1 << 31];
    all.extend([USER_MAX, (1 << 63) - 1, 1 << 63]);
    all.extend([
        0u64.wrapping_sub(P + 1),
        0u64.wrapping_sub(P),
        0u64.wrapping_sub(P - 1),
        u64::MAX,
    ]);
    let rest = 0u64.wrapping_sub(address);
    all.extend([
        rest.wrapping_sub(P),
        rest.wrapping_sub(1),
        rest,
        rest.wrapping_add(1),
    ]);
    all.push(USER_MAX.wrapping_sub(address));
    all
}

/// Tries calls on every range.
fn ranges(calls: impl Fn(&Pages, u64, u64) -> Vec<(Request, Result<Done, Kern>)>) {
    let mut scene = Scene::new();
    for address in addresses() {
        for size in sizes(address) {
            let few = calls(&scene.pages, address, size).len();
            for number in 0..few {
                let (request, wanted) = calls(&scene.pages, address, size).swap_remove(number);
                if !scene.check(request, wanted) {
                    scene = Scene::new();
                }
            }
        }
    }
    scene.world.core.check_invariants().unwrap();
}

#[test]
fn allocating_and_removing() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for flags in [0, 1, 0x4000, 0x4001, 0x100, 5 << 24] {
            calls.push(rules::allocate(pages, address, size, flags));
        }
        calls.push(rules::deallocate(pages, address, size));
        calls
    });
}

#[test]
fn attributes_of_ranges() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for protection in [0, 1, 3, 7, 8, u32::MAX] {
            for set_maximum in [false, true] {
                calls.push(rules::protect(
                    pages,
                    (address, size),
                    set_maximum,
                    protection,
                ));
            }
        }
        for inheritance in [0, 1, 2, 3, u32::MAX] {
            calls.push(rules::inherit(pages, address, size, inheritance));
        }
        calls
    });
}

#[test]
fn advice_on_ranges() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for behavior in [0, 1, 2, 3, 4, 5, 7, 12, 13, u32::MAX] {
            calls.push(rules::behavior(pages, address, size, behavior));
        }
        for (attribute, value) in [(1, 2), (1, 6), (1, 1), (2, 2), (1, 9)] {
            calls.push(rules::attribute(pages, (address, size), attribute, value));
        }
        for flags in [0, 1, 2, 3, 0x20, 0x22, 0x12, 0x100] {
            calls.push(rules::sync(pages, address, size, flags));
        }
        calls
    });
}

#[test]
fn copies_of_ranges() {
    ranges(|pages, address, size| {
        [false, true]
            .map(|destroys| rules::copyin(pages, address, size, destroys))
            .to_vec()
    });
}

#[test]
fn wired_ranges() {
    ranges(|pages, address, size| {
        [0, 1, 3, 4, 8, u32::MAX]
            .map(|access| rules::wire(pages, address, size, access))
            .to_vec()
    });
}

#[test]
fn entries_of_ranges() {
    ranges(|pages, address, size| {
        let kinds = [0, vm_map::MAP_MEM_VM_COPY, vm_map::MAP_MEM_VM_SHARE];
        let mut calls = Vec::new();
        for kind in kinds {
            for rights in [1, 3] {
                calls.push(rules::entry(pages, (address, size), kind, rights));
            }
        }
        calls.push(rules::created(size, address));
        calls
    });
}

/// Places that are written or mapped at, for calls with two ranges.
fn places() -> [u64; 12] {
    [
        0,
        1,
        USER_MIN - P,
        AREA,
        AREA + 5,
        AREA + 2 * P,
        AREA + 7 * P,
        AREA + 16 * P,
        USER_MAX - P,
        USER_MAX,
        0u64.wrapping_sub(P),
        u64::MAX,
    ]
}

#[test]
fn ranges_written_over_ranges() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for place in places() {
            calls.push(rules::copy(pages, address, size, place, false));
            calls.push(rules::copy(pages, address, size, place, true));
        }
        calls
    });
}

#[test]
fn ranges_mapped_again() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for place in places() {
            for (flags, mask) in [(0, 0), (1, 0), (0x4000, 0), (0, P), (0x100, 0)] {
                for copy in [false, true] {
                    let to = (place, mask, flags);
                    calls.push(rules::remap(pages, (address, size), to, copy, 1));
                }
            }
        }
        calls.push(rules::remap(pages, (address, size), (0, 0, 1), false, 3));
        calls
    });
}

#[test]
fn fresh_memory_with_every_word() {
    ranges(|pages, address, size| {
        let mut calls = Vec::new();
        for flags in [0, 1, 0x4000, 0x100] {
            for mask in [0, P, P - 1, 1 << 30, u64::MAX] {
                calls.push(rules::map(
                    pages,
                    (address, size),
                    (mask, flags),
                    [3, 7, 1],
                    0,
                ));
            }
            for words in [
                [1, 3, 0],
                [3, 1, 1],
                [8, 7, 1],
                [3, 15, 1],
                [3, 7, 3],
                [0, 0, 2],
            ] {
                calls.push(rules::map(pages, (address, size), (0, flags), words, 0));
            }
            for offset in [1, P, 0u64.wrapping_sub(P), u64::MAX] {
                calls.push(rules::map(
                    pages,
                    (address, size),
                    (0, flags),
                    [3, 7, 1],
                    offset,
                ));
            }
        }
        calls
    });
}
