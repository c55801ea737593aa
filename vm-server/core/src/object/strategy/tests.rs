//! Copy strategies, rule by rule (rules 2 to 35; those of CALL are in [`crate::copy::asked`]).

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Inherit, Prot};
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{MemoryObjectChangeAttributes, Request as ToServer};
use ipc_protocol::vm_map::{self, Request};

use crate::call::Call;
use crate::event::{Event, MapId, NO_RIGHTS, ObjectId, RightId, Token};
use crate::object::page::Flags;
use crate::object::pages::Slot;
use crate::range::page_of;
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PORT: RightId = RightId(70);
const PAGES: u64 = 4;

/// A task with a file of ones, twos, threes and fours, none of which is resident.
struct Cast {
    world: World,
    pager: Pager,
    map: MapId,
    file: u64,
}

fn cast(strategy: CopyStrategy) -> Cast {
    let mut world = World::new(512);
    let data = (0..PAGES * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let mut pager = Pager::new(&mut world, PORT, 16, data);
    pager.ready.copy_strategy = strategy as u32;
    let map = world.map();
    let file = world.map_object(map, PORT, PAGES * PAGE);
    pager.settle(&mut world);
    Cast {
        world,
        pager,
        map,
        file,
    }
}

impl Cast {
    fn read(&mut self, address: u64) -> u8 {
        if let Touch::Waits(_) = self.world.touch(self.map, address, Prot::READ) {
            self.pager.settle(&mut self.world);
        }
        self.world.byte(self.map, address)
    }

    fn write(&mut self, address: u64, byte: u8) {
        if let Touch::Waits(_) = self.world.touch(self.map, address, Prot::WRITE) {
            self.pager.settle(&mut self.world);
        }
        self.world.write(self.map, address, &[byte]).unwrap();
    }

    /// Copies the file to a place of its own.
    fn copy(&mut self) -> u64 {
        let to = self.world.allocate(self.map, PAGES * PAGE);
        let token = self.send_copy(to);
        self.pager.settle(&mut self.world);
        assert!(matches!(self.world.answer(token), Some(Ok(_))));
        to
    }

    fn send_copy(&mut self, destination: u64) -> Token {
        let request = Request::VmCopy(vm_map::VmCopy {
            source: self.file,
            size: PAGES * PAGE,
            destination,
        });
        self.world.send(Call::Map(self.map, request), NO_RIGHTS)
    }

    fn top(&self, address: u64) -> ObjectId {
        top(&self.world, self.map, address)
    }
}

fn top(world: &World, map: MapId, address: u64) -> ObjectId {
    let entry = world.core.entry_at(map, page_of(address));
    entry.and_then(|entry| entry.object).unwrap()
}

/// What a task's translation of an address allows.
fn rights(world: &World, map: MapId, address: u64) -> Option<Prot> {
    let space = world.machine.spaces.get(&map.to_word())?;
    Some(space.pages.get(&page_of(address))?.protection)
}

#[test]
fn r3_a_copy_that_is_interrupted_while_it_waits_leaves_no_trace() {
    let mut cast = cast(CopyStrategy::None);
    let to = cast.world.allocate(cast.map, PAGES * PAGE);
    cast.world.write(cast.map, to, &[77]).unwrap();
    let before = cast.world.core.census();
    let token = cast.send_copy(to);
    cast.world.settle();
    assert_eq!(cast.world.core.census().ops, 1);
    cast.world.event(Event::Cancelled(token));
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.world.answer(token), None);
    assert_eq!(cast.world.bytes(cast.map, to, PAGES), [77, 0, 0, 0]);
    let after = cast.world.core.census();
    let records =
        |census: crate::inspect::Census| (census.ops, census.waiters, census.objects, census.maps);
    assert_eq!(records(after), records(before));
}

#[test]
fn r5_to_r7_a_symmetric_copy_costs_nothing_until_one_side_writes() {
    let mut world = World::new(128);
    let map = world.map();
    let at = world.allocate(map, PAGES * PAGE);
    for page in 0..PAGES {
        world.write(map, at + page * PAGE, &[5]).unwrap();
    }
    let source = top(&world, map, at);
    let before = world.core.census();
    let child = world.fork(map);
    let after = world.core.census();
    assert_eq!((after.objects, after.free), (before.objects, before.free));
    assert_eq!(top(&world, child, at), source);
    for task in [map, child] {
        let entry = world.core.entry_at(task, page_of(at)).unwrap();
        assert!(entry.needs_copy);
    }
    let read_only = rights(&world, map, at).unwrap();
    assert!(!read_only.contains(Prot::WRITE), "R5");
    for task in [map, child] {
        world.byte(task, at);
        assert!(
            !rights(&world, task, at).unwrap().contains(Prot::WRITE),
            "R7"
        );
    }
    assert_eq!(world.core.census().objects, before.objects, "R7");
    world.write(child, at + 2 * PAGE, &[6]).unwrap();
    let own = top(&world, child, at);
    let object = world.core.objects.get(own).unwrap();
    assert_eq!((object.size, object.shadow_offset), (PAGES * PAGE, 0), "R6");
    assert_eq!(object.shadow, Some(source));
    let entry = world.core.entry_at(child, page_of(at)).unwrap();
    assert!(!entry.needs_copy && entry.offset == 0);
    assert_eq!(top(&world, map, at), source, "the other side pays nothing");
}

#[test]
fn r9_to_r11_a_shared_object_is_asymmetric_for_ever() {
    let mut world = World::new(128);
    let map = world.map();
    let at = world.allocate(map, 2 * PAGE);
    world.write(map, at, &[1]).unwrap();
    let copy = world.fork(map);
    // It owes a copy: first its own shadow, then that is shared.
    world.inherit(map, at, 2 * PAGE, Inherit::Share as u32);
    let sharer = world.fork(map);
    let shared = top(&world, map, at);
    assert_eq!(top(&world, sharer, at), shared);
    assert_ne!(top(&world, copy, at), shared, "R10");
    let object = world.core.objects.get(shared).unwrap();
    assert!(object.true_share && object.strategy == CopyStrategy::Delay);
    world.write(sharer, at, &[2]).unwrap();
    assert_eq!((world.byte(map, at), world.byte(copy, at)), (2, 1), "R11");
    world.end(sharer);
    world.settle();
    world.inherit(map, at, 2 * PAGE, Inherit::Copy as u32);
    let child = world.fork(map);
    let entry = world.core.entry_at(map, page_of(at)).unwrap();
    assert!(!entry.needs_copy, "R9, R12: never symmetric again");
    world.write(map, at, &[3]).unwrap();
    assert_eq!(world.byte(child, at), 2);
}

#[test]
fn r12_to_r14_and_r16_a_delayed_copy_gets_the_old_page() {
    let mut cast = cast(CopyStrategy::Delay);
    cast.write(cast.file, 10);
    let source = cast.top(cast.file);
    let to = cast.copy();
    let copy = cast.world.core.objects.get(source).unwrap().copy.unwrap();
    let object = cast.world.core.objects.get(copy).unwrap();
    assert_eq!((object.shadow, object.shadow_offset), (Some(source), 0));
    assert!(object.size >= PAGES * PAGE);
    let entry = |cast: &Cast, at| *cast.world.core.entry_at(cast.map, page_of(at)).unwrap();
    assert!(!entry(&cast, cast.file).needs_copy && entry(&cast, to).needs_copy);
    let lowered = rights(&cast.world, cast.map, cast.file);
    assert!(!lowered.unwrap().contains(Prot::WRITE), "R13");
    assert_eq!(cast.read(cast.file), 10);
    let read = rights(&cast.world, cast.map, cast.file);
    assert!(!read.unwrap().contains(Prot::WRITE), "R16");
    let pushes = cast.world.core.stats.copy_pushes;
    cast.write(cast.file, 11);
    cast.write(cast.file, 12);
    assert_eq!(cast.world.core.stats.copy_pushes, pushes + 1, "R14: once");
    assert_eq!((cast.read(to), cast.read(cast.file)), (10, 12));
}

#[test]
fn r15_who_waits_for_a_page_that_is_pushed_finds_it_in_the_copy() {
    let mut cast = cast(CopyStrategy::Delay);
    let to = cast.copy();
    let Touch::Waits(reader) = cast.world.touch(cast.map, to, Prot::READ) else {
        panic!("nobody brought it");
    };
    let Touch::Waits(writer) = cast.world.touch(cast.map, cast.file, Prot::WRITE) else {
        panic!("nobody brought it");
    };
    // R21: what is not resident is brought before it is pushed.
    assert_eq!(cast.world.core.stats.copy_pushes, 0);
    cast.pager.settle(&mut cast.world);
    for token in [reader, writer] {
        assert_eq!(cast.world.resumed.get(&token.0.get()), Some(&Ok(())));
    }
    cast.write(cast.file, 50);
    assert_eq!((cast.read(to), cast.read(cast.file)), (1, 50));
    assert_eq!(cast.pager.supplied, 1, "asked for once");
}

#[test]
fn r17_to_r19_copies_share_a_copy_object_until_it_gets_a_page() {
    let mut cast = cast(CopyStrategy::Delay);
    cast.read(cast.file);
    let source = cast.top(cast.file);
    let copy_of = |cast: &Cast| cast.world.core.objects.get(source).unwrap().copy.unwrap();
    let first = cast.copy();
    let one = copy_of(&cast);
    let second = cast.copy();
    assert_eq!(copy_of(&cast), one, "R17");
    cast.write(cast.file, 20);
    let third = cast.copy();
    let other = copy_of(&cast);
    assert_ne!(other, one, "R18");
    assert_eq!(
        cast.world.core.objects.get(one).unwrap().shadow,
        Some(other)
    );
    cast.write(cast.file, 30);
    cast.write(cast.file + PAGE, 31);
    let pushed = cast.world.core.objects.get(one).unwrap().pages.pages();
    assert_eq!(pushed, 1, "R18: the old one gets no more");
    // R19: each that copied writes for itself.
    cast.write(first, 90);
    let page = |cast: &mut Cast, at| (cast.read(at), cast.read(at + PAGE));
    assert_eq!(page(&mut cast, first), (90, 2));
    assert_eq!(page(&mut cast, second), (1, 2));
    assert_eq!(page(&mut cast, third), (20, 2));
    let file = cast.file;
    assert_eq!(page(&mut cast, file), (30, 31));
}

#[test]
fn r23_to_r25_pages_are_copied_now_or_nothing_is() {
    let mut cast = cast(CopyStrategy::None);
    cast.pager.supply = (Prot::NONE, true);
    cast.read(cast.file + PAGE);
    cast.write(cast.file + PAGE, 40);
    let source = cast.top(cast.file);
    let flags = |cast: &Cast, object, index| match cast.world.core.slot(object, index) {
        Slot::Page(frame) => cast.world.core.pages.get(frame).unwrap().flags,
        other => panic!("{other:?}"),
    };
    let before = flags(&cast, source, 1);
    let to = cast.copy();
    let entry = *cast.world.core.entry_at(cast.map, page_of(to)).unwrap();
    let copied = entry.object.unwrap();
    let object = cast.world.core.objects.get(copied).unwrap();
    assert!(
        object.shadow.is_none() && object.is_internal() && entry.offset == 0,
        "R23"
    );
    assert_eq!(object.pages.pages(), PAGES as u32);
    assert_eq!(flags(&cast, source, 1), before, "R25");
    assert!(before.contains(Flags::DIRTY | Flags::PRECIOUS));
    assert_eq!(flags(&cast, copied, 0), Flags::DIRTY, "R25");
    cast.write(cast.file, 41);
    assert_eq!(cast.world.bytes(cast.map, to, PAGES), [1, 40, 3, 4]);

    // R24: an error in the middle.
    let mut cast = self::cast(CopyStrategy::None);
    cast.pager.broken.insert(2 * PAGE);
    let to = cast.world.allocate(cast.map, PAGES * PAGE);
    cast.world.write(cast.map, to, &[9]).unwrap();
    let objects = cast.world.core.census().objects;
    let token = cast.send_copy(to);
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.world.answer(token), Some(Err(Kern::MemoryError)));
    assert_eq!(cast.world.bytes(cast.map, to, PAGES), [9, 0, 0, 0]);
    assert_eq!(cast.world.core.census().objects, objects);
}

#[test]
fn r34_a_strategy_that_changes_meanwhile_fails_nobody() {
    for (from, to) in [(0, 2), (2, 0), (0, 4), (1, 2), (1, 0)] {
        let from = CopyStrategy::from_raw(from).unwrap();
        let mut cast = cast(from);
        let place = cast.world.allocate(cast.map, PAGES * PAGE);
        let token = cast.send_copy(place);
        cast.world.settle();
        let change = MemoryObjectChangeAttributes {
            may_cache: false,
            copy_strategy: to,
            request: 0,
        };
        let change = ToServer::MemoryObjectChangeAttributes(change);
        cast.pager.say(&mut cast.world, change, NO_RIGHTS);
        cast.pager.settle(&mut cast.world);
        if let Some(ToPager::MemoryObjectCopy(asked)) = cast.pager.inbox.pop_front() {
            let made = ipc_protocol::memory_object_control::MemoryObjectCopyMade {
                request: asked.request,
                result: 5,
            };
            cast.pager.say(
                &mut cast.world,
                ToServer::MemoryObjectCopyMade(made),
                NO_RIGHTS,
            );
            cast.pager.settle(&mut cast.world);
        }
        assert!(
            matches!(cast.world.answer(token), Some(Ok(_))),
            "{from:?} {to}"
        );
        let bytes: Vec<u8> = (0..PAGES).map(|n| cast.read(place + n * PAGE)).collect();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }
}

#[test]
fn r35_a_copy_is_of_what_was_mapped_and_not_of_two_things() {
    let mut cast = cast(CopyStrategy::None);
    let to = cast.world.allocate(cast.map, PAGES * PAGE);
    let token = cast.send_copy(to);
    cast.world.settle();
    // In place of the file comes something else, while its first page is waited for.
    let file = cast.file;
    cast.world.deallocate(cast.map, file, PAGES * PAGE);
    let request = Request::VmAllocate(vm_map::VmAllocate {
        address: file,
        size: PAGES * PAGE,
        flags: 0,
    });
    cast.world.ask(cast.map, request).unwrap();
    for page in 0..PAGES {
        let at = file + page * PAGE;
        cast.world
            .write(cast.map, at, &vec![99; PAGE as usize])
            .unwrap();
    }
    cast.pager.settle(&mut cast.world);
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    assert_eq!(cast.world.bytes(cast.map, to, PAGES), [1, 2, 3, 4]);
    assert_eq!(
        cast.world.bytes(cast.map, file, PAGES),
        [99; PAGES as usize]
    );
}
