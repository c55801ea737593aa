//! memory_object_lock_request: restrict, return, flush (rules 162 to 172).

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Prot, Return};
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataWritten, MemoryObjectLockRequest, Request as ToServer,
};

use super::{Cast, FLUSH, KEEP, PAGE, PAGES, PORT, cast};
use crate::call::Call;
use crate::event::{Event, NO_RIGHTS, PortOf};
use crate::sim::{Pager, Touch, World};

#[test]
fn r162_a_page_is_restricted_then_returned_then_dropped() {
    let mut cast = cast(|_| {});
    cast.write(0, 50);
    cast.pager.stores = false;
    cast.lock((0, 1), Return::Dirty, FLUSH, Prot::WRITE.bits().into());
    // What is lent is what was written, and nobody can write any more.
    let (lent, completed) = cast.returns();
    let ([lent], 1) = (&lent[..], completed) else {
        panic!("{lent:?}, completed {completed} times");
    };
    let lent = *lent;
    let slot = cast.pager.tray.1 + u64::from(lent.slot) * PAGE;
    let seen = cast.world.byte(cast.pager.map, slot);
    assert_eq!(seen, 50);
    let waits = cast.world.touch(cast.map, cast.at, Prot::READ);
    assert!(matches!(waits, Touch::Waits(_)), "it is on its way out");
    cast.pager.data[0] = 50;
    cast.stored(lent);
    assert!(!lent.kernel_copy, "R180");
    assert_eq!(cast.read(0), 50);
    cast.write(0, 51);
}

#[test]
fn r163_r164_no_change_leaves_locks_and_what_was_asked() {
    let mut cast = cast(|pager| pager.supply = (Prot::WRITE, false));
    cast.read(0);
    let Touch::Waits(first) = cast.touch(0, Prot::WRITE) else {
        panic!("it was not locked");
    };
    let unlocks = |cast: &mut Cast| {
        let heard = cast.heard().into_iter();
        heard
            .filter(|heard| matches!(heard, ToPager::MemoryObjectDataUnlock(_)))
            .count()
    };
    assert_eq!(unlocks(&mut cast), 1);
    // A second asks no second time, and a request without a lock value changes nothing.
    let Touch::Waits(_) = cast.touch(0, Prot::WRITE) else {
        panic!("it was not locked");
    };
    cast.lock((0, 1), Return::None, 0, KEEP);
    assert_eq!(unlocks(&mut cast), 0);
    // The same lock again: whoever waits asks again.
    cast.lock((0, 1), Return::None, 0, Prot::WRITE.bits().into());
    assert_eq!(unlocks(&mut cast), 1);
    cast.lock((0, 1), Return::None, 0, 0);
    assert_eq!(cast.world.resumed.get(&first.0.get()), Some(&Ok(())));
    // Raising is left to faults, restricting is done at once.
    cast.write(0, 9);
    cast.lock((0, 1), Return::None, 0, Prot::ALL.bits().into());
    let waits = cast.touch(0, Prot::READ);
    assert!(matches!(waits, Touch::Waits(_)), "{waits:?}");
}

/// Pages: 0 written, 1 clean, 2 precious and clean, 3 precious and written.
fn classes() -> Cast {
    let mut cast = cast(|pager| pager.supply = (Prot::NONE, false));
    cast.write(0, 100);
    cast.read(1);
    cast.pager.supply = (Prot::NONE, true);
    cast.read(2);
    cast.write(3, 103);
    cast.pager.stores = false;
    cast
}

#[test]
fn r165_to_r167_what_is_returned_and_what_stays() {
    for (returns, flags, expected) in [
        (Return::None, 0, vec![]),
        (Return::None, FLUSH, vec![]),
        (Return::Dirty, 0, vec![(0, true), (3, true)]),
        (Return::Dirty, FLUSH, vec![(0, true), (3, true)]),
        // A precious clean page that stays is not sent: nothing would change hands.
        (Return::All, 0, vec![(0, true), (3, true)]),
        (Return::All, FLUSH, vec![(0, true), (2, false), (3, true)]),
        (
            Return::Anything,
            0,
            vec![(0, true), (1, false), (2, false), (3, true)],
        ),
    ] {
        let mut cast = classes();
        cast.lock((0, 4), returns, flags, KEEP);
        let (lent, _) = cast.returns();
        let mut pages = vec![];
        for lent in &lent {
            assert_eq!(lent.kernel_copy, flags == 0, "R166, R180");
            for page in 0..u64::from(lent.count) {
                pages.push((lent.offset / PAGE + page, lent.dirty));
            }
        }
        assert_eq!(pages, expected, "{returns:?} {flags}");
        for lent in lent {
            cast.stored(lent);
        }
        let supplied = cast.pager.supplied;
        let now = [0, 1, 2, 3].map(|page| cast.read(page));
        let asked = cast.pager.supplied - supplied;
        assert_eq!(asked, if flags == 0 { 0 } else { 4 }, "R167");
        if flags == 0 {
            assert_eq!(now, [100, 2, 3, 103]);
        } else {
            // Nothing was stored here: what was written is what the pager made of it.
            assert_eq!(now, [1, 2, 3, 4]);
        }
    }
}

#[test]
fn r166_a_page_that_stayed_is_clean_and_as_precious_as_before() {
    let mut cast = classes();
    cast.lock((0, 4), Return::Dirty, 0, KEEP);
    for lent in cast.returns().0 {
        cast.stored(lent);
    }
    cast.heard();
    cast.lock((0, 4), Return::Dirty, 0, KEEP);
    assert_eq!(cast.returns(), (vec![], 1), "nothing is dirty any more");
    cast.lock((0, 4), Return::All, FLUSH, KEEP);
    let pages: Vec<u64> = cast.returns().0.iter().map(|r| r.offset / PAGE).collect();
    assert_eq!(pages, [2], "R170: one run of two precious pages");
}

#[test]
fn r169_a_page_that_is_asked_for_is_waited_for_and_others_go_first() {
    let mut cast = cast(|_| {});
    cast.write(0, 40);
    let Touch::Waits(_) = cast.world.touch(cast.map, cast.at + PAGE, Prot::READ) else {
        panic!("it was there");
    };
    let request = MemoryObjectLockRequest {
        offset: 0,
        size: 2 * PAGE,
        should_return: Return::Dirty as u32,
        flags: 0,
        lock_value: KEEP,
        request: 3,
    };
    let control = cast.pager.control.unwrap();
    cast.world.send(
        Call::Control(control, ToServer::MemoryObjectLockRequest(request)),
        NO_RIGHTS,
    );
    cast.world.settle();
    let said: Vec<_> = cast.world.said_to(PORT).iter().map(|m| m.wording).collect();
    assert!(
        matches!(
            said[..],
            [
                ToPager::MemoryObjectDataRequest(_),
                ToPager::MemoryObjectDataReturn(_)
            ]
        ),
        "{said:?}"
    );
    cast.pager.bring(&mut cast.world, PAGE);
    cast.world.settle();
    let said = cast.world.said_to(PORT);
    let done = |talk: &crate::talk::Message| matches!(talk.wording, ToPager::MemoryObjectLockCompleted(c) if c.request == 3);
    assert!(said.iter().any(done), "{said:?}");
}

#[test]
fn a_request_of_an_earlier_attachment_is_completed_with_an_error() {
    const LENT: u64 = 4;
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 8, vec![0; 2 * LENT as usize * PAGE as usize]);
    let map = world.map();
    let at = world.map_object(map, PORT, 2 * LENT * PAGE);
    pager.settle(&mut world);
    for page in 0..2 * LENT {
        if let Touch::Waits(_) = world.touch(map, at + page * PAGE, Prot::WRITE) {
            pager.settle(&mut world);
        }
        world.write(map, at + page * PAGE, &[9]).unwrap();
    }
    pager.stores = false;
    let request = MemoryObjectLockRequest {
        offset: 0,
        size: 2 * LENT * PAGE,
        should_return: Return::Dirty as u32,
        flags: 0,
        lock_value: KEEP,
        request: 8,
    };
    pager.say(&mut world, ToServer::MemoryObjectLockRequest(request), NO_RIGHTS);
    pager.settle(&mut world);
    let is_return = |said: &ToPager| matches!(said, ToPager::MemoryObjectDataReturn(_));
    let lent = pager.inbox.iter().filter(|said| is_return(said)).count();
    assert!(lent > 0 && world.core.census().ops > 0, "the rest waits for a slot");
    // The pager forgets the object, and what it was lent goes back unstored.
    pager.inbox.clear();
    let control = PortOf::Control(pager.control.unwrap());
    world.event(Event::NoSenders {
        port: control,
        made: 1,
    });
    pager.stores = true;
    pager.settle(&mut world);
    assert_ne!(Some(control), pager.control.map(PortOf::Control));
    let results: Vec<u32> = pager
        .inbox
        .iter()
        .filter_map(|said| match said {
            ToPager::MemoryObjectLockCompleted(said) if said.request == 8 => Some(said.result),
            _ => None,
        })
        .collect();
    assert_eq!(results, [Kern::MemoryError.raw()]);
    assert_eq!(world.core.census().ops, 0);
}

#[test]
fn r170_runs_are_of_one_class_and_at_most_32_pages() {
    let mut world = World::new(512);
    let mut pager = Pager::new(&mut world, PORT, 64, vec![0; 80 * PAGE as usize]);
    let map = world.map();
    let at = world.map_object(map, PORT, 80 * PAGE);
    pager.settle(&mut world);
    for page in 0..80 {
        if page != 70 {
            if let Touch::Waits(_) = world.touch(map, at + page * PAGE, Prot::WRITE) {
                pager.settle(&mut world);
            }
            world.write(map, at + page * PAGE, &[page as u8]).unwrap();
        }
    }
    pager.stores = false;
    let request = ToServer::MemoryObjectLockRequest(MemoryObjectLockRequest {
        offset: 0,
        size: 80 * PAGE,
        should_return: Return::Dirty as u32,
        flags: 0,
        lock_value: KEEP,
        request: 1,
    });
    pager.say(&mut world, request, NO_RIGHTS);
    let mut runs = vec![];
    for _ in 0..10 {
        pager.settle(&mut world);
        while let Some(ToPager::MemoryObjectDataReturn(lent)) = pager.inbox.pop_front() {
            runs.push((lent.offset / PAGE, lent.count));
            let written = MemoryObjectDataWritten {
                txn: lent.txn,
                result: 0,
            };
            pager.say(
                &mut world,
                ToServer::MemoryObjectDataWritten(written),
                NO_RIGHTS,
            );
        }
    }
    assert!(runs.iter().all(|(_, count)| *count <= 32), "{runs:?}");
    let mut next = 0;
    for (first, count) in runs {
        next += u64::from(next == 70);
        assert_eq!(first, next);
        next = first + u64::from(count);
    }
    assert_eq!(next, 80);
}

#[test]
fn pages_that_many_map_are_dropped_in_more_steps() {
    const MAPS: u64 = 70;
    let mut world = World::new(1024);
    let mut pager = Pager::new(&mut world, PORT, 32, vec![7; (PAGES * PAGE) as usize]);
    let mut maps = vec![];
    for _ in 0..MAPS {
        let map = world.map();
        let at = world.map_object(map, PORT, PAGES * PAGE);
        maps.push((map, at));
    }
    pager.settle(&mut world);
    for page in 0..PAGES {
        for (map, at) in &maps {
            if let Touch::Waits(_) = world.touch(*map, at + page * PAGE, Prot::READ) {
                pager.settle(&mut world);
            }
            assert_eq!(world.byte(*map, at + page * PAGE), 7);
        }
    }
    let request = MemoryObjectLockRequest {
        offset: 0,
        size: PAGES * PAGE,
        should_return: Return::None as u32,
        flags: FLUSH,
        lock_value: KEEP,
        request: 3,
    };
    let control = pager.control.unwrap();
    let mut before = world.machine.work.revoked;
    world.send(
        Call::Control(control, ToServer::MemoryObjectLockRequest(request)),
        NO_RIGHTS,
    );
    let mut steps = 0;
    while world.core.census().ops > 0 {
        let now = world.machine.work.revoked;
        assert!(now - before <= 2 * MAPS, "{} at once", now - before);
        before = now;
        world.event(Event::Step);
        steps += 1;
    }
    assert!(steps >= PAGES, "{steps} steps");
    assert_eq!(world.core.stats.page_ins, PAGES);
    assert!(matches!(
        world.touch(maps[3].0, maps[3].1, Prot::READ),
        Touch::Waits(_)
    ));
}

#[test]
fn r171_r172_every_request_is_completed_once_as_it_was_asked() {
    let mut cast = cast(|_| {});
    cast.write(0, 1);
    for (offset, size) in [(0, 0), (0, 1), (PAGE, PAGE + 1), (0, PAGES * PAGE)] {
        let asked = MemoryObjectLockRequest {
            offset,
            size,
            should_return: Return::All as u32,
            flags: 0,
            lock_value: KEEP,
            request: 6,
        };
        cast.say(ToServer::MemoryObjectLockRequest(asked));
        let heard = cast.heard();
        let [ToPager::MemoryObjectLockCompleted(completed)] = heard[..] else {
            panic!("{heard:?}");
        };
        let same = (completed.offset, completed.size, completed.request);
        assert_eq!(same, (offset, size, 6));
    }
    for (returns, flags, lock) in [(4, 0, KEEP), (0, 4, KEEP), (0, 0, 16), (0, 0, u32::MAX)] {
        let asked = MemoryObjectLockRequest {
            offset: 0,
            size: PAGE,
            should_return: returns,
            flags,
            lock_value: lock,
            request: 6,
        };
        let said = cast.say(ToServer::MemoryObjectLockRequest(asked));
        assert_eq!(said, Some(Err(Kern::InvalidArgument)));
        assert!(cast.heard().is_empty());
    }
}
