//! Pagers that go and come back: what waits goes on, what was written stays, and who speaks for one
//! that is gone is not heard.

extern crate std;

use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataError, MemoryObjectLockRequest, Request as ToServer,
};
use ipc_protocol::vm_map::{self, Request};

use super::State;
use crate::call::Call;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Time, Token};
use crate::sim::{Pager, Touch, World};

const PAGE: u64 = 4096;
const PAGES: u64 = 8;
const PORT: RightId = RightId(70);

fn file(first: u8) -> Vec<u8> {
    (0..PAGES)
        .flat_map(|page| vec![first + page as u8; PAGE as usize])
        .collect()
}

/// A client that maps what a pager serves, and the pager's task.
struct Cast {
    world: World,
    pager: Pager,
    client: MapId,
    at: u64,
}

impl Cast {
    fn new() -> Cast {
        let mut world = World::new(512);
        let mut pager = Pager::new(&mut world, PORT, 8, file(0));
        let client = world.map();
        let at = world.map_object(client, PORT, PAGES * PAGE);
        pager.settle(&mut world);
        Cast {
            world,
            pager,
            client,
            at,
        }
    }

    fn page(&self, page: u64) -> u64 {
        self.at + page * PAGE
    }

    /// Touches a page that is not there; nobody serves it.
    fn wait_for(&mut self, page: u64) -> Token {
        match self.world.touch(self.client, self.page(page), Prot::READ) {
            Touch::Waits(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Writes to a page, with the pager at work.
    fn write(&mut self, page: u64, byte: u8) {
        let at = self.page(page);
        if let Touch::Waits(_) = self.world.touch(self.client, at, Prot::WRITE) {
            self.pager.settle(&mut self.world);
        }
        self.world.write(self.client, at, &[byte]).unwrap();
    }

    fn byte(&mut self, page: u64) -> u8 {
        let (mut byte, at) = ([0], self.page(page));
        self.world.read(self.client, at, &mut byte).unwrap();
        byte[0]
    }

    fn result(&self, token: Token) -> Option<Result<(), Kern>> {
        self.world.resumed.get(&token.0.get()).copied()
    }

    fn sync(&mut self) -> Token {
        let request = Request::VmMsync(vm_map::VmMsync {
            address: self.at,
            size: PAGES * PAGE,
            flags: vm_map::VM_SYNC_SYNCHRONOUS,
        });
        let token = self.world.send(Call::Map(self.client, request), NO_RIGHTS);
        self.world.settle();
        token
    }

    fn state(&self) -> State {
        let id = self.world.core.pager_at(PORT).unwrap();
        self.world.core.pagers.get(id).unwrap().state
    }

    /// The pager's task ends, in the order in which the kernel tells of it.
    fn kill(&mut self) {
        self.world.said_to(PORT);
        let control = self.pager.control.take().unwrap();
        for event in [
            Event::NoSenders {
                port: PortOf::Tray(self.pager.tray.0),
                made: 1,
            },
            Event::NoSenders {
                port: PortOf::Control(control),
                made: 1,
            },
            Event::TaskEnded(self.pager.map),
        ] {
            self.world.event(event);
        }
        self.world.settle();
    }

    /// Another task receives from the object's port, and has this of it.
    fn restart(&mut self, data: Vec<u8>) {
        self.pager = Pager::new(&mut self.world, PORT, 8, data);
        self.pager.settle(&mut self.world);
    }

    /// Lets time pass.
    fn tick(&mut self, time: u64) {
        self.world.now = Time(time);
        self.world.event(Event::Tick);
        self.world.settle();
    }
}

#[test]
fn a_fault_that_waits_is_served_by_the_next() {
    let mut cast = Cast::new();
    let token = cast.wait_for(3);
    cast.kill();
    assert_eq!(cast.state(), State::Detached);
    assert_eq!(cast.result(token), None, "it goes on waiting");
    // Nobody minds a fault that comes only now.
    let late = cast.wait_for(5);
    cast.restart(file(100));
    assert_eq!(cast.state(), State::Ready);
    for (token, page) in [(token, 3), (late, 5)] {
        assert_eq!(cast.result(token), Some(Ok(())));
        assert_eq!(cast.byte(page), 100 + page as u8);
    }
    assert!(cast.world.reports.is_empty());
}

#[test]
fn the_next_hears_of_the_object_first_and_then_of_what_is_open_by_age() {
    let mut cast = Cast::new();
    let pages = [6, 1, 4];
    for page in pages {
        cast.wait_for(page);
    }
    cast.kill();
    let said = cast.world.said_to(PORT);
    let [init] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(matches!(init.wording, ToPager::MemoryObjectInit(_)));
    let Some(PortOf::Control(control)) = init.right else {
        panic!("{init:?}")
    };
    cast.pager = Pager::new(&mut cast.world, PORT, 8, file(0));
    cast.pager.control = Some(control);
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(PortOf::Tray(cast.pager.tray.0));
    let ready = ToServer::MemoryObjectReady(cast.pager.ready);
    let said = cast.pager.say(&mut cast.world, ready, rights);
    assert!(matches!(said, None | Some(Ok(_))));
    let asked: Vec<_> = cast.world.said_to(PORT);
    let asked = asked.iter().map(|message| match message.wording {
        ToPager::MemoryObjectDataRequest(request) => request.offset / PAGE,
        other => panic!("{other:?}"),
    });
    assert_eq!(asked.collect::<Vec<_>>(), pages);
}

#[test]
fn what_was_written_stays_and_reaches_the_next() {
    let mut cast = Cast::new();
    cast.write(2, 77);
    cast.kill();
    assert_eq!(cast.byte(2), 77);
    cast.write(2, 78);
    cast.restart(file(100));
    let token = cast.sync();
    cast.pager.settle(&mut cast.world);
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    assert_eq!(cast.pager.data[2 * PAGE as usize], 78);
    assert_eq!(cast.pager.data[3 * PAGE as usize], 103, "only that");
}

#[test]
fn what_was_on_its_way_back_is_returned_again() {
    let mut cast = Cast::new();
    cast.write(0, 50);
    cast.write(1, 51);
    cast.pager.stores = false;
    let token = cast.sync();
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.world.core.census().loans, 1);
    cast.kill();
    assert_eq!(cast.world.core.census().loans, 0);
    assert_eq!(cast.world.answer(token), None, "nothing is stored yet");
    cast.restart(file(100));
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    assert_eq!(cast.pager.data[0], 50);
    assert_eq!(cast.pager.data[PAGE as usize], 51);
    assert_eq!(cast.world.core.census().loans, 0);
}

#[test]
fn a_sync_that_begins_while_the_pager_is_away_waits_for_the_next() {
    let mut cast = Cast::new();
    cast.write(0, 50);
    cast.kill();
    let token = cast.sync();
    assert_eq!(cast.world.answer(token), None);
    cast.restart(file(100));
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    assert_eq!(cast.pager.data[0], 50);
}

#[test]
fn a_sync_that_asked_one_that_went_asks_the_next() {
    let mut cast = Cast::new();
    cast.pager.ready.synchronizes = true;
    let ready = ToServer::MemoryObjectReady(cast.pager.ready);
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(PortOf::Tray(cast.pager.tray.0));
    cast.pager.say(&mut cast.world, ready, rights);
    cast.write(0, 50);
    let token = cast.sync();
    cast.pager.settle(&mut cast.world);
    let asked = cast.pager.inbox.pop_front();
    assert!(matches!(asked, Some(ToPager::MemoryObjectSynchronize(_))));
    // It is clean: the pager said that it has it, though not that it is safe.
    cast.kill();
    cast.write(0, 60);
    cast.restart(file(100));
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    assert_eq!(cast.pager.data[0], 60);
}

#[test]
fn nobody_speaks_for_one_that_is_gone() {
    let mut cast = Cast::new();
    let token = cast.wait_for(3);
    let old = cast.pager.control.unwrap();
    cast.kill();
    cast.restart_unready();
    for control in [old, cast.pager.control.unwrap()] {
        let mine = cast.pager.control == Some(control);
        let error = ToServer::MemoryObjectDataError(MemoryObjectDataError {
            offset: 3 * PAGE,
            size: PAGE,
            code: 5,
        });
        let call = Call::Control(control, error);
        let said = cast.world.send(call, NO_RIGHTS);
        let said = cast.world.answer(said);
        assert!(mine || said == Some(Err(Kern::Terminated)), "{said:?}");
        if !mine {
            assert_eq!(cast.result(token), None);
        }
    }
}

#[test]
fn one_that_goes_again_before_it_is_ready_is_as_one_that_went_once() {
    let mut cast = Cast::new();
    cast.write(0, 9);
    let token = cast.wait_for(3);
    cast.kill();
    let mut before = Vec::new();
    for _ in 0..5 {
        cast.restart_unready();
        assert_eq!(cast.state(), State::Initialising);
        before.extend(cast.pager.control);
        cast.kill();
        assert_eq!(cast.state(), State::Detached);
    }
    // None of them can be ready any more.
    cast.restart_unready();
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(PortOf::Tray(cast.pager.tray.0));
    for control in before {
        let ready = ToServer::MemoryObjectReady(cast.pager.ready);
        let said = cast.world.send(Call::Control(control, ready), rights);
        assert_eq!(cast.world.answer(said), Some(Err(Kern::Terminated)));
    }
    assert_eq!(cast.state(), State::Initialising);
    cast.kill();
    cast.restart(file(100));
    assert_eq!(cast.result(token), Some(Ok(())));
    assert_eq!((cast.byte(3), cast.byte(0)), (103, 9));
}

#[test]
fn who_waits_for_one_that_never_comes_back_has_a_little_more_time_and_then_fails() {
    let mut cast = Cast::new();
    cast.write(0, 9);
    cast.world.now = Time(1_000);
    let token = cast.wait_for(3);
    cast.kill();
    let sync = cast.sync();
    let config = cast.world.core.config;
    let limit = 1_000 + config.pager_timeout;
    for time in [limit, limit + config.pager_restart - 1] {
        cast.tick(time);
        assert_eq!(cast.result(token), None);
        assert_eq!(cast.world.answer(sync), None);
    }
    assert_eq!(cast.world.wake, Some(Time(limit + config.pager_restart)));
    cast.tick(limit + config.pager_restart);
    assert_eq!(cast.result(token), Some(Err(Kern::MemoryError)));
    assert_eq!(cast.world.answer(sync), Some(Err(Kern::MemoryError)));
    // What is there is there, and can be given up.
    assert_eq!(cast.byte(0), 9);
    cast.world.deallocate(cast.client, cast.at, PAGES * PAGE);
    cast.world.event(Event::TaskEnded(cast.client));
    cast.world.settle();
    cast.tick(limit + 3 * config.pager_restart);
    let census = cast.world.core.census();
    assert!(census.is_empty(), "{census:?}");
    assert_eq!(cast.world.rights.get(&PORT.0), Some(&0));
}

#[test]
fn who_waited_in_vain_for_one_that_is_there_has_no_more_time() {
    let mut cast = Cast::new();
    cast.kill();
    cast.restart(file(100));
    cast.world.now = Time(5_000);
    let token = cast.wait_for(3);
    cast.tick(5_000 + cast.world.core.config.pager_timeout);
    assert_eq!(cast.result(token), Some(Err(Kern::MemoryError)));
}

#[test]
fn memory_of_one_that_is_away_can_be_given_up_at_any_time() {
    let mut cast = Cast::new();
    cast.write(0, 9);
    let token = cast.wait_for(3);
    cast.kill();
    cast.world.event(Event::Cancelled(token));
    cast.world.deallocate(cast.client, cast.at, PAGES * PAGE);
    cast.world.event(Event::TaskEnded(cast.client));
    cast.world.settle();
    cast.tick(2 * cast.world.core.config.pager_restart);
    let census = cast.world.core.census();
    assert!(census.is_empty(), "{census:?}");
}

#[test]
fn a_port_that_dies_while_nobody_serves_it_is_the_end() {
    let mut cast = Cast::new();
    cast.write(0, 9);
    let token = cast.wait_for(3);
    cast.kill();
    let sync = cast.sync();
    cast.world.event(Event::DeadName(PORT));
    cast.world.settle();
    assert_eq!(cast.state(), State::Dead);
    assert_eq!(cast.result(token), Some(Err(Kern::MemoryError)));
    assert_eq!(cast.world.answer(sync), Some(Err(Kern::MemoryError)));
    assert_eq!(cast.byte(0), 9);
}

#[test]
fn the_next_is_asked_again_to_allow_what_the_last_forbade() {
    let mut cast = Cast::new();
    cast.pager.supply = (Prot::WRITE, false);
    cast.wait_for(0);
    cast.pager.settle(&mut cast.world);
    let forbidden = |cast: &mut Cast| {
        let at = cast.page(0);
        match cast.world.touch(cast.client, at, Prot::WRITE) {
            Touch::Waits(token) => token,
            other => panic!("{other:?}"),
        }
    };
    let first = forbidden(&mut cast);
    cast.kill();
    let second = forbidden(&mut cast);
    cast.restart(file(100));
    let asked = cast.pager.inbox.drain(..).collect::<Vec<_>>();
    assert!(
        matches!(asked[..], [ToPager::MemoryObjectDataUnlock(unlock)] if unlock.offset == 0),
        "{asked:?}"
    );
    let allow = ToServer::MemoryObjectLockRequest(MemoryObjectLockRequest {
        offset: 0,
        size: PAGE,
        should_return: 0,
        flags: 0,
        lock_value: 0,
        request: 0,
    });
    cast.pager.say(&mut cast.world, allow, NO_RIGHTS);
    cast.pager.settle(&mut cast.world);
    for token in [first, second] {
        assert_eq!(cast.result(token), Some(Ok(())));
    }
}

#[test]
fn one_that_changes_its_tray_has_nothing_lent_any_more() {
    let mut cast = Cast::new();
    cast.write(0, 50);
    cast.pager.stores = false;
    let token = cast.sync();
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.world.core.census().loans, 1);
    let other = Pager::new(&mut cast.world, RightId(71), 4, Vec::new());
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(PortOf::Tray(other.tray.0));
    let ready = ToServer::MemoryObjectReady(cast.pager.ready);
    cast.pager.say(&mut cast.world, ready, rights);
    cast.world.settle();
    assert_eq!(cast.world.core.census().loans, 0);
    assert!(
        cast.world.answer(token).is_some(),
        "it does not wait for ever"
    );
    assert_eq!(cast.byte(0), 50);
}

impl Cast {
    /// Another task receives from the object's port, and has not said yet that it is ready.
    fn restart_unready(&mut self) {
        self.pager = Pager::new(&mut self.world, PORT, 8, file(100));
        let said = self.world.said_to(PORT);
        let Some(PortOf::Control(control)) = said.first().and_then(|init| init.right) else {
            panic!("{said:?}")
        };
        self.pager.control = Some(control);
    }
}

#[test]
fn the_next_serves_the_objects_next_life_too() {
    let mut cast = Cast::new();
    cast.write(0, 99);
    let tokens = [cast.wait_for(6), cast.wait_for(2)];
    cast.kill();
    cast.restart(file(100));
    for token in tokens {
        assert_eq!(cast.result(token), Some(Ok(())));
    }
    let token = cast.sync();
    cast.pager.settle(&mut cast.world);
    assert!(matches!(cast.world.answer(token), Some(Ok(_))));
    let client = cast.client;
    cast.world.deallocate(client, cast.at, PAGES * PAGE);
    cast.at = cast.world.map_object(client, PORT, PAGES * PAGE);
    let token = cast.wait_for(0);
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.result(token), Some(Ok(())));
    assert_eq!(cast.byte(0), 99);
}

/// Gives up the client's mapping, and lets the server see to what is left.
fn unmap(cast: &mut Cast) {
    let (client, at) = (cast.client, cast.at);
    cast.world.deallocate(client, at, PAGES * PAGE);
    cast.world.settle();
}

#[test]
fn what_nobody_maps_any_more_reaches_the_next_whenever_it_was_given_up() {
    // Before the pager goes, while nobody is there, and cached.
    for case in 0..3 {
        let mut cast = Cast::new();
        cast.write(1, 99);
        cast.write(5, 55);
        // A page that is clean.
        cast.wait_for(3);
        cast.pager.settle(&mut cast.world);
        let id = cast.world.core.pager_at(PORT).unwrap();
        cast.world.core.pagers.get_mut(id).unwrap().may_cache = case == 2;
        if case == 1 {
            cast.kill();
        }
        unmap(&mut cast);
        if case != 1 {
            cast.kill();
        }
        assert!(cast.world.reports.is_empty(), "{case}");
        assert!(cast.world.wake.is_some(), "not for ever");
        cast.restart(file(100));
        assert_eq!(cast.pager.data[PAGE as usize], 99, "{case}");
        assert_eq!(cast.pager.data[5 * PAGE as usize], 55, "{case}");
        cast.world.settle();
        assert!(cast.world.reports.is_empty(), "{case}");
        assert!(cast.world.core.pager_at(PORT).is_none());
        cast.world.core.check_invariants().unwrap();
    }
}

#[test]
fn what_nobody_maps_any_more_is_dropped_when_nobody_comes() {
    for dies in [false, true] {
        let mut cast = Cast::new();
        cast.write(1, 99);
        let free = cast.world.core.free_frames();
        cast.kill();
        unmap(&mut cast);
        assert!(cast.world.core.pager_at(PORT).is_some());
        let restart = cast.world.core.config.pager_restart;
        if dies {
            cast.world.event(Event::DeadName(PORT));
        } else {
            cast.tick(restart / 2);
            assert!(cast.world.reports.is_empty());
            cast.tick(restart + 2_000_000);
        }
        cast.world.settle();
        let dropped = crate::effect::Report::DirtyDropped {
            port: PORT,
            pages: 1,
        };
        assert_eq!(cast.world.reports, [dropped]);
        assert!(cast.world.core.pager_at(PORT).is_none());
        assert!(cast.world.core.free_frames() > free);
        cast.world.core.check_invariants().unwrap();
    }
}

#[test]
fn the_next_life_begins_when_the_next_pager_has_what_the_last_life_wrote() {
    let mut cast = Cast::new();
    cast.write(1, 99);
    cast.kill();
    unmap(&mut cast);
    cast.at = cast.world.map_object(cast.client, PORT, PAGES * PAGE);
    let token = cast.wait_for(1);
    cast.restart(file(100));
    cast.pager.settle(&mut cast.world);
    assert_eq!(cast.result(token), Some(Ok(())));
    assert_eq!(cast.byte(1), 99);
    assert!(cast.world.reports.is_empty());
}

#[test]
fn one_that_goes_again_while_it_is_told_of_an_end_is_followed_by_the_next() {
    let mut cast = Cast::new();
    cast.write(1, 99);
    cast.kill();
    unmap(&mut cast);
    for _ in 0..3 {
        cast.restart_unready();
        cast.kill();
    }
    cast.restart(file(100));
    assert_eq!(cast.pager.data[PAGE as usize], 99);
    assert!(cast.world.reports.is_empty());
}
