//! Ends: of rights, of tasks, and of the run, which reads everything and looks for what is left.

use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{Reply, Request, VmStatistics};
use vm_core::event::{Event, PortOf, PortRef, Token};

use super::{Sim, Thread, Touch};
use crate::Random;
use crate::calls::Pending;
use crate::flat::{PAGE, Space};

impl Sim {
    /// A copy or a named entry that no call uses loses its last right.
    pub(super) fn drop_right(&mut self, name: u64, late: bool) {
        if self.pending.values().any(|call| call.uses(name)) {
            return;
        }
        let copy = self.copies.iter().find(|held| held.number == name);
        let entry = self.entries.iter().find(|entry| entry.number == name);
        let library = self.libraries.iter().find(|known| known.number == name);
        let port = copy.map(|held| held.port).or(entry.map(|entry| entry.port));
        let port = port.or(library.map(|library| library.port));
        let Some(port) = port else {
            return;
        };
        self.world.no_senders(port, late);
        if !late {
            self.copies.retain(|held| held.number != name);
            self.entries.retain(|entry| entry.number != name);
            self.libraries.retain(|library| library.number != name);
        }
    }

    /// A task ends, if it is not the last and no call would leave anything uncertain.
    pub(super) fn end_idle(&mut self, client: usize) {
        let library = self.clients.get(client).is_some_and(|known| known.library);
        let busy = |call: &Pending| call.concerns(client) && (library || !call.is_harmless());
        if (library || self.tasks() > 1)
            && self.is_alive(client)
            && !self.pending.values().any(busy)
        {
            self.end(client);
        }
    }

    /// A task ends: its threads' calls and faults are void, its map's entries go.
    pub fn end(&mut self, client: usize) {
        if !std::mem::replace(&mut self.clients[client].alive, false) {
            return;
        }
        self.living.retain(|living| *living != client);
        for thread in &mut self.threads {
            if thread.client == client
                && let Touch::Waits(token, ..) =
                    std::mem::replace(&mut thread.touch, Touch::Nothing)
            {
                self.world.cancel(token);
            }
        }
        let calls: Vec<u64> = self.pending.keys().copied().collect();
        for token in calls {
            if self.pending[&token].client == client {
                // What it writes of others' memory is written some day, or in part.
                let call = self.pending.remove(&token);
                self.world.cancel(Token(token.try_into().unwrap()));
                if let Some(call) = call {
                    call.lose();
                    self.drop_copied_out(&call);
                }
            }
        }
        self.clients[client].space = Space::default();
        let map = self.clients[client].map;
        match self.clients[client].library {
            // It lives on where it shows.
            true => self.world.no_senders(PortOf::Map(map), false),
            false => self.world.post(Event::TaskEnded(map)),
        }
    }

    /// A copy that was being mapped is gone, or may as well be.
    fn drop_copied_out(&mut self, call: &Pending) {
        if let Some(port) = call.copied_out(self) {
            if self.world.is_port(port) {
                self.world.no_senders(port, false);
            }
            self.forget_copy(port);
        }
    }

    /// A task that is in nobody's way ends, to make room.
    fn end_one(&mut self) {
        let mut living = self.living.iter().rev();
        if let Some(&client) = living.find(|client| !self.clients[**client].library) {
            self.end(client);
        }
    }

    /// Lets everything come to rest: pagers answer, calls and faults end.
    pub fn drain(&mut self) {
        for round in 0.. {
            self.arrive();
            self.world.settle();
            self.arrive();
            for place in 0..self.pagers.pagers.len() {
                for _ in 0..64 {
                    self.pagers.act(&mut self.world, &mut self.luck, place);
                    self.arrive();
                }
            }
            let waits = |thread: &Thread| matches!(thread.touch, Touch::Waits(..));
            let rest = self.pending.is_empty() && !self.threads.iter().any(waits);
            if rest && !self.world.core.wants_step() && !self.pagers.is_busy(&self.world) {
                return;
            }
            if round > 20 && self.kind.faulty {
                self.world.wait_for_clock();
            }
            if round > 20 && round % 20 == 0 && self.kind.pressure {
                self.end_one();
            }
            assert!(
                round < 500,
                "no end: {:?}, {:?}",
                self.pending,
                self.threads.iter().filter(|t| waits(t)).collect::<Vec<_>>()
            );
        }
    }

    /// Reads every page of every task, ends everything, and looks for what is left.
    pub fn finish(&mut self) {
        self.world.core.limit_records(None);
        self.luck = Random::new(0);
        self.world.return_frames();
        self.pagers.honest = true;
        while !self.keepers.is_empty() {
            self.keeper_ends(0);
            self.arrive();
        }
        self.drain();
        self.world.return_frames();
        self.compare_resident();
        if !self.kind.pressure {
            self.read_everything();
        }
        for client in 0..self.clients.len() {
            self.end(client);
        }
        self.drain();
        for held in std::mem::take(&mut self.copies) {
            self.world.no_senders(held.port, false);
        }
        for held in std::mem::take(&mut self.entries) {
            self.world.no_senders(held.port, false);
        }
        for library in std::mem::take(&mut self.libraries) {
            self.world.no_senders(library.port, false);
        }
        self.drain();
        for place in 0..self.pagers.pagers.len() {
            self.pagers.kill(&mut self.world, place);
        }
        self.drain();
        self.world.return_frames();
        self.drain();
        self.count_statistics();
        self.world.post(Event::TaskEnded(self.host));
        self.drain();
        let left = self.world.core.census();
        let used = left.frames - left.free;
        assert_eq!(used, 0, "frames are lost: {left:?}");
        assert!(left.is_empty(), "something is left: {left:?}");
        let held: Vec<(usize, i64)> = self.world.held().collect();
        assert!(held.is_empty(), "rights to ports are left: {held:?}");
    }

    /// Counts what the core says that it did.
    fn count_statistics(&mut self) {
        let ask = Request::VmStatistics(VmStatistics {});
        let (_, reply) = self.world.call_now(self.host, ask, PortRef::None);
        let Some(Reply::VmStatistics(now)) = reply else {
            panic!("{reply:?}");
        };
        for (what, count) in [
            ("zero fills", now.zero_fills),
            ("copies on write", now.cow_breaks),
            ("copy pushes", now.copy_pushes),
            ("data requests", now.data_requests),
            ("pages in", now.page_ins),
            ("pages out", now.page_outs),
            ("pages copied", now.pages_copied),
            ("collapses", now.collapses),
        ] {
            *self.tally.entry(what.to_string()).or_default() += count;
        }
    }

    fn read_everything(&mut self) {
        for place in self.living.clone() {
            if self.clients[place].library {
                continue;
            }
            let pages: Vec<u64> = self.clients[place]
                .space
                .iter()
                .filter(|(_, mapped)| mapped.rights().contains(Prot::READ))
                .map(|(page, _)| page)
                .collect();
            for page in pages {
                self.read_page(place, page);
            }
        }
    }

    /// Reads one page through faults.
    fn read_page(&mut self, place: usize, page: u64) {
        let map = self.clients[place].map;
        let thread = self
            .threads
            .iter()
            .position(|thread| thread.client == place);
        let thread = thread.unwrap();
        for round in 0..50 {
            let cell = &self.clients[place].space.get(page).unwrap().cell;
            if round > 2 && self.may_fail(cell) {
                return;
            }
            if let Some(bytes) = self.world.model.page(map, page, Prot::READ) {
                let content = self.clients[place].space.get(page).unwrap().cell.borrow();
                assert!(
                    content.allows(bytes),
                    "client {place} reads something else in page {page:#x}"
                );
                return;
            }
            let address = page * PAGE as u64;
            let token = self.world.fault(map, address, Prot::READ);
            self.threads[thread].touch = Touch::Waits(token, address, None);
            self.drain();
        }
        panic!("page {page:#x} of client {place} never comes");
    }
}
