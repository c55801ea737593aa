//! Schedules: what copies do when the map changes between their steps, or a pager says nothing.

extern crate std;

use std::vec;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Reply};
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PAGES: u64 = 200;

/// A task with a source of sevens and a destination of ones, of which a child has a copy, and memory
/// of nines that may be mapped to be read.
struct Cast {
    world: World,
    map: MapId,
    child: MapId,
    source: u64,
    destination: u64,
    nines: u64,
}

fn filled(world: &mut World, map: MapId, byte: u8) -> u64 {
    let at = world.allocate(map, PAGES * PAGE);
    for page in 0..PAGES {
        world
            .write(map, at + page * PAGE, &vec![byte; PAGE as usize])
            .unwrap();
    }
    at
}

fn cast() -> Cast {
    let mut world = World::new(2048);
    world.check_every = 16;
    let map = world.map();
    let source = filled(&mut world, map, 7);
    let destination = filled(&mut world, map, 1);
    let nines = filled(&mut world, map, 9);
    let child = world.fork(map);
    Cast {
        world,
        map,
        child,
        source,
        destination,
        nines,
    }
}

impl Cast {
    /// An unaligned vm_copy, begun.
    fn copy(&mut self) -> Token {
        let request = Request::VmCopy(vm_map::VmCopy {
            source: self.source + 3,
            size: (PAGES - 1) * PAGE,
            destination: self.destination + 8,
        });
        self.world.send(Call::Map(self.map, request), NO_RIGHTS)
    }

    fn protect(&mut self, protection: Prot) {
        let request = Request::VmProtect(vm_map::VmProtect {
            address: self.destination,
            size: PAGES * PAGE,
            set_maximum: false,
            protection: protection.bits().into(),
        });
        self.world.ask(self.map, request).unwrap();
    }

    /// Maps the nines over the destination, to be read only.
    fn remap(&mut self) {
        let request = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
            size: PAGES * PAGE,
            offset: self.nines,
            permission: Prot::READ.bits().into(),
        });
        let made = self.world.call(self.map, request, NO_RIGHTS);
        let Ok(Reply {
            right: Some(entry), ..
        }) = made
        else {
            panic!("{made:?}");
        };
        let mut rights = NO_RIGHTS;
        rights[vm_map::VmMap::OBJECT] = PortRef::Own(entry);
        let request = Request::VmMap(vm_map::VmMap {
            address: self.destination,
            flags: MapFlags::OVERWRITE.bits(),
            protection: Prot::READ.bits().into(),
            max_protection: Prot::READ.bits().into(),
            ..vm_map::VmMap::anywhere(PAGES * PAGE)
        });
        self.world.call(self.map, request, rights).unwrap();
    }

    /// The results that are allowed, and what nobody may have written (rule 74).
    fn check(&mut self, token: Token) -> Result<(), Kern> {
        let mut answer = self.world.answer(token);
        while answer.is_none() {
            self.world.event(Event::Step);
            answer = self.world.answer(token);
        }
        let result = answer.unwrap().map(|_| ());
        assert!(
            matches!(result, Ok(()) | Err(Kern::ProtectionFailure)),
            "{result:?}"
        );
        for (map, at, byte) in [
            (self.child, self.destination, 1),
            (self.child, self.nines, 9),
            (self.map, self.nines, 9),
            (self.map, self.source, 7),
        ] {
            let bytes = self.world.bytes(map, at, PAGES);
            assert!(bytes.iter().all(|b| *b == byte), "{bytes:?}");
        }
        result
    }
}

/// Begins the copy, takes so many steps, does something else, and ends it: for any number of steps.
/// Gives how often the copy succeeded and failed.
fn in_between(act: impl Fn(&mut Cast, u32)) -> (u32, u32) {
    let (mut succeeded, mut failed) = (0, 0);
    for steps in 0..200 {
        let mut cast = cast();
        let token = cast.copy();
        for step in 0..steps {
            cast.world.event(Event::Step);
            act(&mut cast, step);
        }
        let ended = cast.world.answers.contains_key(&token.0.get());
        act(&mut cast, steps);
        match cast.check(token) {
            Ok(()) => succeeded += 1,
            Err(_) => failed += 1,
        }
        if ended {
            return (succeeded, failed);
        }
    }
    panic!("it never ends");
}

#[test]
fn an_unaligned_copy_does_not_write_what_was_protected_meanwhile() {
    let (succeeded, failed) = in_between(|cast, step| {
        // Once, and never again, whatever the step.
        if step == 0 {
            cast.protect(Prot::READ);
        }
    });
    assert!(failed > 0 && succeeded == 0, "{succeeded} {failed}");
    let (succeeded, failed) = in_between(|cast, step| {
        let protection = [Prot::READ, Prot::DEFAULT][step as usize % 2];
        cast.protect(protection);
    });
    assert!(failed > 0, "{succeeded} {failed}");
    let (succeeded, failed) = in_between(|cast, step| {
        if step == 2 {
            cast.protect(Prot::DEFAULT);
        }
    });
    assert!(succeeded > 0 && failed == 0, "{succeeded} {failed}");
}

#[test]
fn an_unaligned_copy_does_not_write_what_was_mapped_there_meanwhile() {
    for when in [0, 2, 4, 6, 9] {
        in_between(|cast, step| {
            if step == when {
                cast.remap();
            }
        });
    }
}

#[test]
fn an_unaligned_copy_does_not_write_what_was_copied_meanwhile() {
    for when in 0..10 {
        let mut cast = cast();
        let token = cast.copy();
        for _ in 0..when {
            cast.world.event(Event::Step);
        }
        let late = cast.world.fork(cast.map);
        let before = cast.world.bytes(late, cast.destination, PAGES);
        assert_eq!(cast.check(token), Ok(()));
        let after = cast.world.bytes(late, cast.destination, PAGES);
        assert_eq!(before, after, "a child that was born after {when} steps");
        let now = cast
            .world
            .bytes(cast.map, cast.destination + PAGE, PAGES - 2);
        assert!(now.iter().all(|byte| *byte == 7));
    }
}

const PORT: RightId = RightId(70);

/// Calls that are in flight when a pager says nothing any more.
struct Silent {
    world: World,
    pager: Pager,
    map: MapId,
    /// Four pages of the pager's object.
    file: u64,
    /// Anonymous memory around it.
    low: u64,
    high: u64,
}

fn silent() -> Silent {
    let mut world = World::new(512);
    let mut pager = Pager::new(&mut world, PORT, 16, vec![3; 4 * PAGE as usize]);
    pager.ready.copy_strategy = CopyStrategy::None as u32;
    let map = world.map();
    let low = world.allocate(map, 4 * PAGE);
    let file = world.map_object(map, PORT, 4 * PAGE);
    let high = world.allocate(map, 4 * PAGE);
    assert_eq!((file, high), (low + 4 * PAGE, low + 8 * PAGE));
    for page in 0..4 {
        world.write(map, low + page * PAGE, &[1]).unwrap();
        world.write(map, high + page * PAGE, &[2]).unwrap();
    }
    pager.settle(&mut world);
    Silent {
        world,
        pager,
        map,
        file,
        low,
        high,
    }
}

impl Silent {
    fn send(&mut self, request: Request) -> Token {
        self.world.send(Call::Map(self.map, request), NO_RIGHTS)
    }

    /// vm_write of 2 pages and 5 bytes of a copy of the upper memory, to `address`.
    fn write(&mut self, address: u64) -> Token {
        let size = 2 * PAGE + 5;
        let copyin = Request::VmCopyin(vm_map::VmCopyin {
            address: self.high,
            size,
            src_destroy: false,
        });
        let copied = self.world.call(self.map, copyin, NO_RIGHTS);
        let Ok(Reply {
            right: Some(copy), ..
        }) = copied
        else {
            panic!("{copied:?}");
        };
        let mut rights = NO_RIGHTS;
        rights[vm_map::VmWrite::COPY] = PortRef::Own(copy);
        let request = Request::VmWrite(vm_map::VmWrite { address, size });
        let token = self.world.send(Call::Map(self.map, request), rights);
        // Its right goes once it is answered; the copy is not the subject here.
        self.world.gone.push(copy);
        token
    }

    fn ended(&mut self, token: Token) -> Option<Result<(), Kern>> {
        self.world.answer(token).map(|answer| answer.map(|_| ()))
    }

    fn deallocate(&mut self, address: u64, pages: u64) -> Token {
        let size = pages * PAGE;
        self.send(Request::VmDeallocate(vm_map::VmDeallocate {
            address,
            size,
        }))
    }
}

#[test]
fn only_what_needs_a_silent_pager_waits_for_it_and_that_not_for_ever() {
    let mut all = silent();
    let (low, file, high) = (all.low, all.file, all.high);
    let Touch::Waits(fault) = all.world.touch(all.map, file + PAGE, Prot::READ) else {
        panic!("nobody brought the page");
    };
    let fork = all.send(Request::TaskCreate(vm_map::TaskCreate { inherit: true }));
    all.world.settle();
    // Unaligned writes below, over and into the pager's range, and one that is cut off from it.
    let beside = all.write(low + 5);
    let across = all.write(low + 2 * PAGE + 9);
    let inside = all.write(file + 7);
    all.world.settle();
    let above = all.deallocate(high + 2 * PAGE, 2);
    let of_file = all.deallocate(file + 3 * PAGE, 1);
    let protect = all.send(Request::VmProtect(vm_map::VmProtect {
        address: low,
        size: PAGE,
        set_maximum: false,
        protection: Prot::READ.bits().into(),
    }));
    all.world.settle();
    // The pager gets what is said to it, and keeps it to itself.
    assert!(!all.world.said_to(PORT).is_empty());
    all.world.settle();
    for (what, token) in [
        ("beside", beside),
        ("above", above),
        ("of_file", of_file),
        ("protect", protect),
    ] {
        assert_eq!(all.ended(token), Some(Ok(())), "{what}");
    }
    assert_eq!(all.world.byte(all.map, low + 5), 2);
    let elsewhere = all.world.allocate(all.map, PAGE);
    all.world.write(all.map, elsewhere, &[1]).unwrap();
    for token in [fork, across, inside] {
        assert_eq!(all.ended(token), None);
    }
    assert!(!all.world.resumed.contains_key(&fault.0.get()));

    // Time passes: an end for all of them.
    for _ in 0..4 {
        let Some(wake) = all.world.wake else { break };
        all.world.now = all.world.now.max(wake);
        all.world.event(Event::Tick);
        all.world.settle();
    }
    for (what, token) in [("fork", fork), ("across", across), ("inside", inside)] {
        assert_eq!(all.ended(token), Some(Err(Kern::MemoryError)), "{what}");
    }
    let failed = all.world.resumed.get(&fault.0.get());
    assert_eq!(failed, Some(&Err(Kern::MemoryError)));
    let census = all.world.core.census();
    assert_eq!((census.ops, census.waiters), (0, 0));
    // The map is free for everybody.
    let again = all.deallocate(low, 12);
    all.world.settle();
    assert_eq!(all.ended(again), Some(Ok(())));
    finish(all);
}

#[test]
fn what_waits_for_memory_that_has_gone_ends_with_it_or_in_time() {
    let mut all = silent();
    let file = all.file;
    let Touch::Waits(fault) = all.world.touch(all.map, file, Prot::WRITE) else {
        panic!("nobody brought the page");
    };
    let inside = all.write(file + 7);
    all.world.settle();
    let gone = all.deallocate(file, 4);
    all.world.settle();
    assert_eq!(all.ended(gone), Some(Ok(())));
    // Nobody holds the object any more, so that nothing is waited for.
    assert_eq!(
        all.world.resumed.get(&fault.0.get()),
        Some(&Err(Kern::InvalidAddress))
    );
    assert_eq!(all.ended(inside), Some(Err(Kern::InvalidAddress)));
    finish(all);
}

/// Everybody goes, and nothing is left.
fn finish(mut all: Silent) {
    for copy in core::mem::take(&mut all.world.gone) {
        if let PortOf::Copy(_) = copy {
            all.world.event(Event::NoSenders {
                port: copy,
                made: 1,
            });
        }
    }
    all.world.end(all.map);
    all.world.event(Event::DeadName(PORT));
    all.world.end(all.pager.map);
    let port = PortOf::Tray(all.pager.tray.0);
    all.world.event(Event::NoSenders { port, made: 1 });
    all.world.settle();
    let census = all.world.core.census();
    assert!(census.is_empty(), "{census:?}");
}
