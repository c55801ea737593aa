//! Pagers: what is asked and answered, lent and stored, and what happens when a pager errs or goes.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Prot, Return};
use ipc_protocol::memory_object::{MemoryObjectDataReturn, Request as ToPager};
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectDataSupply, MemoryObjectDataWritten, MemoryObjectDestroy,
    MemoryObjectLockRequest, Reply as Said, Request as ToServer, VM_PROT_NO_CHANGE,
};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Message, Reply};
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, RightId, Time};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PORT: RightId = RightId(70);

fn file(pages: u64) -> Vec<u8> {
    (0..pages * PAGE)
        .map(|at| (at / PAGE * 7 + at % 251) as u8)
        .collect()
}

/// A world with a client that maps a pager's object of some pages.
fn mapped(pages: u64) -> (World, Pager, MapId, u64) {
    let mut world = World::new(512);
    let mut pager = Pager::new(&mut world, PORT, 32, file(pages));
    let map = world.map();
    let at = world.map_object(map, PORT, pages * PAGE);
    pager.settle(&mut world);
    (world, pager, map, at)
}

/// Touches with the pager at work, until the touch ends.
fn touch(world: &mut World, pager: &mut Pager, map: MapId, at: u64, access: Prot) -> Touch {
    world.touch_served(map, at, access, |world| pager.settle(world))
}

fn page_of(world: &mut World, pager: &mut Pager, map: MapId, at: u64) -> Vec<u8> {
    let touched = touch(world, pager, map, at, Prot::READ);
    assert!(matches!(touched, Touch::Done(_)), "{touched:?}");
    let mut bytes = vec![0; PAGE as usize];
    world.read(map, at, &mut bytes).unwrap();
    bytes
}

fn lock(pages: u64, returns: Return, flags: u32, lock_value: u32) -> ToServer {
    ToServer::MemoryObjectLockRequest(MemoryObjectLockRequest {
        offset: 0,
        size: pages * PAGE,
        should_return: returns as u32,
        flags,
        lock_value,
        request: 5,
    })
}

#[test]
fn a_mapped_file_reads_as_its_pager_has_it() {
    let (mut world, mut pager, map, at) = mapped(20);
    let data = pager.data.clone();
    for page in 0..20 {
        let bytes = page_of(&mut world, &mut pager, map, at + page * PAGE);
        let from = (page * PAGE) as usize;
        assert_eq!(bytes, data[from..from + PAGE as usize]);
    }
    assert_eq!(pager.supplied, 20, "each page once");
    assert_eq!(world.core.stats.page_ins, 20);
    assert_eq!(world.machine.work.copied, 0, "pages are moved, not copied");
}

#[test]
fn clusters_grow_while_access_is_sequential() {
    let (mut world, mut pager, map, at) = mapped(32);
    pager.ready.cluster_pages = 16;
    let request = ToServer::MemoryObjectReady(pager.ready);
    let mut rights = NO_RIGHTS;
    rights[0] = crate::event::PortRef::Own(PortOf::Tray(pager.tray.0));
    pager.say(&mut world, request, rights);
    for page in 0..32 {
        page_of(&mut world, &mut pager, map, at + page * PAGE);
    }
    assert_eq!(pager.supplied, 32);
    assert!(
        world.core.stats.data_requests <= 7,
        "{} requests for 32 pages",
        world.core.stats.data_requests
    );
}

#[test]
fn two_that_want_one_page_ask_once_and_both_get_it() {
    let (mut world, mut pager, map, at) = mapped(4);
    let other = world.map();
    let there = world.map_object(other, PORT, 4 * PAGE);
    let Touch::Waits(first) = world.touch(map, at, Prot::READ) else {
        panic!()
    };
    let Touch::Waits(second) = world.touch(other, there, Prot::WRITE) else {
        panic!()
    };
    pager.settle(&mut world);
    assert_eq!(pager.supplied, 1);
    for token in [first, second] {
        assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    }
    // One object: a write is seen by the other.
    world.write(other, there, &[99]).unwrap();
    let mut bytes = [0];
    world.read(map, at, &mut bytes).unwrap();
    assert_eq!(bytes, [99]);
}

#[test]
fn an_error_fails_who_waits_and_is_then_forgotten() {
    let (mut world, mut pager, map, at) = mapped(4);
    pager.broken.insert(PAGE);
    let failed = touch(&mut world, &mut pager, map, at + PAGE, Prot::READ);
    assert_eq!(failed, Touch::Fails(Kern::MemoryError));
    page_of(&mut world, &mut pager, map, at);
    pager.broken.clear();
    page_of(&mut world, &mut pager, map, at + PAGE);
}

#[test]
fn what_a_pager_does_not_have_reads_zero_and_is_not_asked_again() {
    let mut world = World::new(128);
    let mut pager = Pager::new(&mut world, PORT, 8, file(1));
    let map = world.map();
    let at = world.map_object(map, PORT, 4 * PAGE);
    let bytes = page_of(&mut world, &mut pager, map, at + 2 * PAGE);
    assert!(bytes.iter().all(|byte| *byte == 0));
    let asked = world.core.stats.data_requests;
    let other = world.map();
    let there = world.map_object(other, PORT, 4 * PAGE);
    world.write(other, there + 2 * PAGE, &[5]).unwrap();
    assert_eq!(world.core.stats.data_requests, asked);
    assert_eq!(page_of(&mut world, &mut pager, map, at + 2 * PAGE)[0], 5);
}

#[test]
fn a_supply_never_overwrites_and_says_so() {
    let (mut world, mut pager, map, at) = mapped(4);
    page_of(&mut world, &mut pager, map, at);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[42]).unwrap();
    let slot = pager.slot;
    let address = pager.tray.1 + u64::from(slot) * PAGE;
    world
        .write(pager.map, address, &vec![1; 2 * PAGE as usize])
        .unwrap();
    let supply = MemoryObjectDataSupply {
        offset: 0,
        slot,
        count: 2,
        lock_value: 0,
        precious: false,
    };
    let said = pager.say(
        &mut world,
        ToServer::MemoryObjectDataSupply(supply),
        NO_RIGHTS,
    );
    match said {
        Some(Ok(Reply {
            message: Message::Control(Said::MemoryObjectDataSupply(reply)),
            ..
        })) => assert_eq!(
            (reply.used, reply.skipped_present, reply.first_present),
            (1, 1, 0)
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(page_of(&mut world, &mut pager, map, at)[0], 42);
    // The slots are used up: the same supply again is refused.
    let slots = pager.say(
        &mut world,
        ToServer::MemoryObjectDataSupply(supply),
        NO_RIGHTS,
    );
    assert_eq!(slots, Some(Err(Kern::InvalidArgument)));
}

#[test]
fn a_pager_that_dies_fails_its_waiters_and_nobody_else() {
    let (mut world, mut pager, map, at) = mapped(4);
    page_of(&mut world, &mut pager, map, at);
    let private = world.allocate(map, PAGE);
    let Touch::Waits(token) = world.touch(map, at + PAGE, Prot::READ) else {
        panic!()
    };
    world.event(Event::DeadName(PORT));
    assert_eq!(
        world.resumed.get(&token.0.get()),
        Some(&Err(Kern::MemoryError))
    );
    assert_eq!(
        world.touch(map, at + PAGE, Prot::READ),
        Touch::Fails(Kern::MemoryError)
    );
    world.write(map, private, &[1]).unwrap();
    // What is resident stays (amendment A3).
    assert_eq!(page_of(&mut world, &mut pager, map, at)[5], pager.data[5]);
    world.event(Event::TaskEnded(map));
    world.event(Event::TaskEnded(pager.map));
    world.event(Event::NoSenders {
        port: PortOf::Tray(pager.tray.0),
        made: 1,
    });
    world.settle();
    assert!(world.core.census().is_empty(), "{:?}", world.core.census());
    assert_eq!(world.rights.get(&PORT.0), Some(&0), "no right is kept");
}

#[test]
fn a_pager_that_withdraws_leaves_what_is_resident() {
    let (mut world, mut pager, map, at) = mapped(4);
    page_of(&mut world, &mut pager, map, at);
    let destroy = ToServer::MemoryObjectDestroy(MemoryObjectDestroy { reason: 1 });
    pager.say(&mut world, destroy, NO_RIGHTS);
    page_of(&mut world, &mut pager, map, at);
    assert_eq!(
        world.touch(map, at + PAGE, Prot::READ),
        Touch::Fails(Kern::MemoryError)
    );
    let again = pager.say(&mut world, destroy, NO_RIGHTS);
    assert_eq!(
        again,
        Some(Err(Kern::Terminated)),
        "that attachment is over"
    );
}

#[test]
fn a_wait_ends_by_its_deadline_with_an_exception() {
    let (mut world, _, map, at) = mapped(4);
    let Touch::Waits(token) = world.touch(map, at, Prot::READ) else {
        panic!()
    };
    let wake = world.wake.unwrap();
    world.now = Time(wake.0 - 1);
    world.event(Event::Tick);
    assert!(!world.resumed.contains_key(&token.0.get()));
    world.now = wake;
    world.event(Event::Tick);
    assert_eq!(
        world.resumed.get(&token.0.get()),
        Some(&Err(Kern::MemoryError))
    );
    assert_eq!(world.reports.len(), 1);
}

#[test]
fn written_pages_go_back_before_the_object_ends() {
    let (mut world, mut pager, map, at) = mapped(40);
    for page in [0, 1, 2, 7, 39] {
        touch(&mut world, &mut pager, map, at + page * PAGE, Prot::WRITE);
        world
            .write(map, at + page * PAGE, &[200 + page as u8])
            .unwrap();
    }
    world.deallocate(map, at, 40 * PAGE);
    pager.settle(&mut world);
    for page in [0, 1, 2, 7, 39] {
        assert_eq!(pager.data[(page * PAGE) as usize], 200 + page as u8);
    }
    assert!(matches!(
        pager.inbox.pop_back(),
        Some(ToPager::MemoryObjectTerminate(_))
    ));
    let census = world.core.census();
    assert_eq!((census.pagers, census.controls, census.loans), (0, 0, 0));
    assert_eq!(world.rights.get(&PORT.0), Some(&0));
}

#[test]
fn a_cached_object_keeps_its_pages_until_it_may_not() {
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 8, file(4));
    pager.ready.may_cache = true;
    let map = world.map();
    let at = world.map_object(map, PORT, 4 * PAGE);
    page_of(&mut world, &mut pager, map, at);
    world.deallocate(map, at, 4 * PAGE);
    pager.settle(&mut world);
    assert!(pager.inbox.is_empty());
    let at = world.map_object(map, PORT, 4 * PAGE);
    page_of(&mut world, &mut pager, map, at);
    assert_eq!(pager.supplied, 1, "it was still there");
}

#[test]
fn an_object_mapped_again_while_it_ends_begins_a_new_life() {
    let (mut world, mut pager, map, at) = mapped(4);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[77]).unwrap();
    world.deallocate(map, at, 4 * PAGE);
    let at = world.map_object(map, PORT, 4 * PAGE);
    let bytes = page_of(&mut world, &mut pager, map, at);
    assert_eq!(bytes[0], 77, "what was written came back through the pager");
    let ends = pager.inbox.iter();
    let ends = ends.filter(|m| matches!(m, ToPager::MemoryObjectTerminate(_)));
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_lock_request_returns_and_flushes_and_completes_once() {
    let (mut world, mut pager, map, at) = mapped(4);
    page_of(&mut world, &mut pager, map, at);
    touch(&mut world, &mut pager, map, at + PAGE, Prot::WRITE);
    world.write(map, at + PAGE, &[123]).unwrap();
    let request = lock(
        4,
        Return::Dirty,
        MEMORY_OBJECT_DATA_FLUSH,
        VM_PROT_NO_CHANGE,
    );
    pager.say(&mut world, request, NO_RIGHTS);
    pager.settle(&mut world);
    assert_eq!(pager.data[PAGE as usize], 123);
    let completed: Vec<_> = pager.inbox.drain(..).collect();
    assert!(
        matches!(completed[..], [ToPager::MemoryObjectLockCompleted(c)]
            if c.request == 5 && c.size == 4 * PAGE && c.result == 0),
        "{completed:?}"
    );
    let supplied = pager.supplied;
    assert_eq!(page_of(&mut world, &mut pager, map, at + PAGE)[0], 123);
    assert_eq!(
        pager.supplied,
        supplied + 1,
        "it was dropped and asked again"
    );
}

#[test]
fn a_forbidden_access_asks_once_and_goes_on_when_it_is_allowed() {
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 8, file(4));
    pager.supply = (Prot::WRITE, false);
    let map = world.map();
    let at = world.map_object(map, PORT, 4 * PAGE);
    page_of(&mut world, &mut pager, map, at);
    let waits = touch(&mut world, &mut pager, map, at, Prot::WRITE);
    let Touch::Waits(token) = waits else {
        panic!("{waits:?}")
    };
    let asked: Vec<_> = pager.inbox.drain(..).collect();
    assert!(matches!(asked[..], [ToPager::MemoryObjectDataUnlock(_)]));
    pager.say(&mut world, lock(1, Return::None, 0, 0), NO_RIGHTS);
    pager.settle(&mut world);
    assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    world.write(map, at, &[1]).unwrap();
}

/// Writes to a client's page and has it cleaned; its pager has it as a loan then, and does not store it.
fn lend(world: &mut World, pager: &mut Pager, map: MapId, at: u64) -> MemoryObjectDataReturn {
    touch(world, pager, map, at, Prot::WRITE);
    world.write(map, at, &[1]).unwrap();
    pager.stores = false;
    let clean = lock(2, Return::Dirty, 0, VM_PROT_NO_CHANGE);
    pager.say(world, clean, NO_RIGHTS);
    pager.settle(world);
    let Some(ToPager::MemoryObjectDataReturn(back)) = pager.inbox.pop_front() else {
        panic!("nothing came back")
    };
    back
}

#[test]
fn a_lent_page_never_changes() {
    let (mut world, mut pager, map, at) = mapped(2);
    let back = lend(&mut world, &mut pager, map, at);
    assert!(back.kernel_copy && back.dirty && back.count == 1);
    world.write(map, at, &[2]).unwrap();
    let slot = pager.tray.1 + u64::from(back.slot) * PAGE;
    let mut bytes = [0];
    world.read(pager.map, slot, &mut bytes).unwrap();
    assert_eq!(bytes, [1], "the pager stores what it was lent");
    assert_eq!(
        world.write(pager.map, slot, &[9]),
        Err(Some(Kern::ProtectionFailure))
    );
    let written = ToServer::MemoryObjectDataWritten(MemoryObjectDataWritten {
        txn: back.txn,
        result: 0,
    });
    pager.say(&mut world, written, NO_RIGHTS);
    assert_eq!(
        world.read(pager.map, slot, &mut bytes),
        Err(Some(Kern::MemoryError)),
        "never a zero that might be stored as data"
    );
    assert_eq!(
        pager.say(&mut world, written, NO_RIGHTS),
        Some(Err(Kern::InvalidArgument))
    );
    // Written since: dirty, and stored when it ends.
    pager.stores = true;
    world.deallocate(map, at, 2 * PAGE);
    pager.settle(&mut world);
    assert_eq!(pager.data[0], 2);
}

#[test]
fn a_pager_that_forgets_its_object_is_told_of_it_again() {
    let (mut world, mut pager, map, at) = mapped(4);
    let Touch::Waits(token) = world.touch(map, at, Prot::READ) else {
        panic!()
    };
    let old = pager.control.unwrap();
    world.said_to(PORT);
    world.event(Event::NoSenders {
        port: PortOf::Control(old),
        made: 1,
    });
    pager.settle(&mut world);
    assert_ne!(pager.control, Some(old));
    assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    page_of(&mut world, &mut pager, map, at);
}

#[test]
fn a_pager_that_touches_its_own_missing_page_gets_an_error() {
    let (mut world, pager, _, _) = mapped(4);
    let own = world.map_object(pager.map, PORT, 4 * PAGE);
    assert_eq!(
        world.touch(pager.map, own, Prot::READ),
        Touch::Fails(Kern::MemoryError)
    );
}

#[test]
fn requests_take_no_more_than_the_tray_has() {
    let mut world = World::new(256);
    let mut pager = Pager::new(&mut world, PORT, 2, file(8));
    let map = world.map();
    let at = world.map_object(map, PORT, 8 * PAGE);
    pager.settle(&mut world);
    let tokens: Vec<_> = (0..8)
        .map(
            |page| match world.touch(map, at + page * PAGE, Prot::READ) {
                Touch::Waits(token) => token,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    assert_eq!(world.core.stats.data_requests, 2);
    pager.settle(&mut world);
    for token in tokens {
        assert_eq!(world.resumed.get(&token.0.get()), Some(&Ok(())));
    }
}

#[test]
fn a_full_port_is_spoken_to_when_it_has_room() {
    let (mut world, mut pager, map, at) = mapped(4);
    world.event(Event::Full(PORT));
    assert!(matches!(world.touch(map, at, Prot::READ), Touch::Waits(_)));
    assert_eq!(world.core.next_message(PORT), None);
    world.event(Event::Possible(PORT));
    assert!(world.talks.contains(&PORT.0));
    pager.settle(&mut world);
    page_of(&mut world, &mut pager, map, at);
}

#[test]
fn a_synchronous_msync_ends_when_the_pager_has_everything() {
    let (mut world, mut pager, map, at) = mapped(4);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[55]).unwrap();
    let request = Request::VmMsync(vm_map::VmMsync {
        address: at,
        size: 4 * PAGE,
        flags: vm_map::VM_SYNC_SYNCHRONOUS,
    });
    let token = world.send(crate::call::Call::Map(map, request), NO_RIGHTS);
    world.settle();
    assert_eq!(world.answer(token), None, "the pager has not answered");
    pager.settle(&mut world);
    assert!(matches!(world.answer(token), Some(Ok(_))));
    assert_eq!(pager.data[0], 55);
}

#[test]
fn a_synchronous_msync_fails_if_the_pager_does_not_store() {
    let (mut world, mut pager, map, at) = mapped(4);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[55]).unwrap();
    let sync = Request::VmMsync(vm_map::VmMsync {
        address: at,
        size: 4 * PAGE,
        flags: vm_map::VM_SYNC_SYNCHRONOUS,
    });
    let ended = |world: &mut World, pager: &mut Pager, how: Option<u32>| {
        let token = world.send(crate::call::Call::Map(map, sync), NO_RIGHTS);
        world.settle();
        pager.stores = how == Some(0);
        pager.settle(world);
        match (pager.inbox.pop_front(), how) {
            (Some(ToPager::MemoryObjectDataReturn(back)), Some(result)) => {
                let written = MemoryObjectDataWritten {
                    txn: back.txn,
                    result,
                };
                pager.say(world, ToServer::MemoryObjectDataWritten(written), NO_RIGHTS);
                world.settle();
            }
            (Some(_), None) => {
                world.now = world.wake.unwrap();
                world.event(Event::Tick);
                world.settle();
            }
            _ => {}
        }
        world.answer(token).map(|answer| answer.map(|_| ()))
    };
    let failed = Some(Err(Kern::MemoryError));
    assert_eq!(ended(&mut world, &mut pager, Some(5)), failed, "refused");
    assert_eq!(ended(&mut world, &mut pager, None), failed, "late");
    assert_eq!(ended(&mut world, &mut pager, Some(0)), Some(Ok(())));
    assert_eq!(pager.data[0], 55);
}

#[test]
fn a_loan_that_is_never_ended_comes_back_dirty_by_its_deadline() {
    let (mut world, mut pager, map, at) = mapped(2);
    let back = lend(&mut world, &mut pager, map, at);
    world.now = world.wake.unwrap();
    world.event(Event::Tick);
    assert_eq!((world.reports.len(), world.core.census().loans), (1, 0));
    let slot = pager.tray.1 + u64::from(back.slot) * PAGE;
    assert_eq!(
        world.touch(pager.map, slot, Prot::READ),
        Touch::Fails(Kern::MemoryError)
    );
    // It is dirty again, and goes back when it can.
    pager.stores = true;
    world.deallocate(map, at, 2 * PAGE);
    pager.settle(&mut world);
    assert_eq!(pager.data[0], 1);
}

#[test]
fn an_object_ends_although_its_pager_refuses_to_store_it() {
    let (mut world, mut pager, map, at) = mapped(2);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[1]).unwrap();
    pager.stores = false;
    world.deallocate(map, at, 2 * PAGE);
    let mut offers = 0;
    loop {
        pager.settle(&mut world);
        let Some(ToPager::MemoryObjectDataReturn(back)) = pager.inbox.pop_front() else {
            break;
        };
        offers += 1;
        assert!(offers < 1000, "for ever");
        let refused = MemoryObjectDataWritten {
            txn: back.txn,
            result: 5,
        };
        pager.say(
            &mut world,
            ToServer::MemoryObjectDataWritten(refused),
            NO_RIGHTS,
        );
        world.settle();
    }
    assert!(offers > 1, "it may change its mind");
    assert_eq!((world.reports.len(), world.core.census().pagers), (1, 0));
}

#[test]
fn an_object_ends_although_its_pager_never_stores_it() {
    let (mut world, mut pager, map, at) = mapped(2);
    touch(&mut world, &mut pager, map, at, Prot::WRITE);
    world.write(map, at, &[1]).unwrap();
    pager.stores = false;
    world.deallocate(map, at, 2 * PAGE);
    pager.settle(&mut world);
    assert_eq!(world.core.census().loans, 1);
    world.now = world.wake.unwrap();
    world.event(Event::Tick);
    pager.settle(&mut world);
    let census = world.core.census();
    assert_eq!((census.pagers, census.loans), (0, 0));
    assert_eq!(world.reports.len(), 2, "late, and what was lost with it");
}

#[test]
fn more_written_pages_than_slots_all_come_back() {
    let mut world = World::new(1024);
    let mut pager = Pager::new(&mut world, PORT, 4, file(200));
    let map = world.map();
    let at = world.map_object(map, PORT, 200 * PAGE);
    for page in 0..200 {
        touch(&mut world, &mut pager, map, at + page * PAGE, Prot::WRITE);
        world.write(map, at + page * PAGE, &[page as u8]).unwrap();
    }
    world.deallocate(map, at, 200 * PAGE);
    pager.settle(&mut world);
    for page in 0..200u64 {
        assert_eq!(pager.data[(page * PAGE) as usize], page as u8);
    }
    assert_eq!(world.core.census().pagers, 0);
    assert!(world.reports.is_empty(), "nothing is lost");
}

#[test]
fn a_tray_that_found_no_frames_is_filled_when_there_are_some() {
    let mut world = World::new(65);
    let map = world.map();
    let at = world.allocate(map, 64 * PAGE);
    for page in 0..60 {
        world.write(map, at + page * PAGE, &[1]).unwrap();
    }
    let pager = Pager::new(&mut world, PORT, 16, file(1));
    let ready = |world: &World| world.core.tray_credits(pager.tray.0);
    assert!(ready(&world) < 16);
    assert!(!world.core.wants_step(), "it does not spin");
    world.deallocate(map, at, 64 * PAGE);
    world.settle();
    assert_eq!(ready(&world), 16);
}
