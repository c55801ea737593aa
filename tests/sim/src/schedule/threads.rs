//! Threads: what they touch, and what each touch must show.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use vm_core::event::Token;

use super::{BASE, Sim, Thread, Touch};
use crate::Random;
use crate::calls::Pending;
use crate::flat::{self, Cell, PAGE};

impl Sim {
    /// A thread that is about nothing touches a byte.
    pub(super) fn begin_touch(&mut self, place: usize, address: u64, value: Option<u8>) {
        let Some(thread) = self.threads.get_mut(place) else {
            return;
        };
        let client = &self.clients[thread.client];
        if client.alive && !client.library && matches!(thread.touch, Touch::Nothing) {
            thread.touch = Touch::Wants(address, value);
            self.touch(place, address, value);
        }
    }

    /// A thread whose touch did not work tries again.
    pub(super) fn retry(&mut self, place: usize) {
        if let Some(thread) = self.threads.get(place)
            && let Touch::Wants(address, value) = thread.touch
            && self.clients[thread.client].alive
        {
            self.touch(place, address, value);
        }
    }

    /// A page to touch: mostly one that may be touched so.
    pub(super) fn page_to_touch(
        &self,
        random: &mut Random,
        client: usize,
        value: Option<u8>,
    ) -> u64 {
        let access = value.map_or(Prot::READ, |_| Prot::WRITE);
        let page = BASE + random.below(self.kind.pages + 4);
        if random.once_in(10) {
            return page;
        }
        let good = |page: &u64| {
            let mapped = self.clients[client].space.get(*page);
            mapped.is_some_and(|mapped| mapped.rights().contains(access))
        };
        let mut from_here = (page..BASE + self.kind.pages + 4).chain(BASE..page);
        from_here.find(good).unwrap_or(page)
    }

    /// Whether what a touch would see or do is uncertain until a pending call is answered.
    pub(super) fn is_uncertain(&self, client: usize, page: u64, write: bool) -> bool {
        let cell = self.clients[client].space.get(page).map(|page| &page.cell);
        let name = cell.map(flat::name);
        let read = |call: &Pending| name.is_some_and(|name| call.reads(name));
        self.is_changing(client, page, cell) || write && self.pending.values().any(read)
    }

    /// Whether a pending call changes what is at a page.
    pub(super) fn is_changing(&self, client: usize, page: u64, cell: Option<&Cell>) -> bool {
        self.pending.values().any(|pending| {
            pending.covers(client, page)
                || cell.is_none() && pending.is_anywhere(client)
                || cell.is_some_and(|cell| pending.writes(flat::name(cell)))
        })
    }

    fn touch(&mut self, place: usize, address: u64, value: Option<u8>) {
        let client = self.threads[place].client;
        let (page, offset) = (address / PAGE as u64, address as usize % PAGE);
        let map = self.clients[client].map;
        let access = match value {
            Some(_) => Prot::WRITE,
            None => Prot::READ,
        };
        if self.is_uncertain(client, page, value.is_some()) {
            return;
        }
        let Some(byte) = self.world.model.touch(map, address, value) else {
            let token = self.world.fault(map, address, access);
            self.threads[place].touch = Touch::Waits(token, address, value);
            return;
        };
        self.threads[place].touch = Touch::Nothing;
        let space = &mut self.clients[client].space;
        let mapped = space.get(page).filter(|m| m.rights().contains(access));
        let Some(mapped) = mapped else {
            panic!("client {client} touched {address:#x} ({access:?}), which it may not");
        };
        if value.is_some() {
            space.write(page, offset, byte);
            return;
        }
        let content = mapped.cell.borrow();
        assert!(
            content.allows_byte(offset, byte),
            "client {client} reads {byte:#x} at {address:#x}, not {:#x}",
            content.bytes.at(offset)
        );
    }

    /// A thread gets an exception: there must be a reason.
    fn exception(&self, client: usize, address: u64, access: Prot, code: Kern) {
        let page = address / PAGE as u64;
        let changing = self.pending.values().any(|call| call.covers(client, page));
        let mapped = self.clients[client].space.get(page);
        let expected = match (code, mapped) {
            (Kern::InvalidAddress, None) => true,
            (Kern::ProtectionFailure, Some(mapped)) => !mapped.rights().contains(access),
            (Kern::MemoryError, Some(mapped)) => {
                self.may_fail(&mapped.cell) || self.may_become_failing(&mapped.cell)
            }
            (Kern::ResourceShortage, _) => self.kind.pressure,
            _ => false,
        };
        assert!(
            expected || changing,
            "client {client} gets {code:?} at {address:#x} ({access:?}); {mapped:?}"
        );
    }

    /// Whether a thread of a client has faulted writing a page of a sealed map, and waits.
    pub(crate) fn is_taking_out(&self, client: usize) -> bool {
        self.threads.iter().any(|thread| match thread.touch {
            Touch::Waits(_, address, Some(_)) if thread.client == client => {
                let mapped = self.clients[client].space.get(address / PAGE as u64);
                mapped.is_some_and(|mapped| mapped.shown.is_some())
            }
            _ => false,
        })
    }

    /// Whether a call on its way may have put memory here whose pager fails.
    pub(crate) fn may_become_failing(&self, cell: &Cell) -> bool {
        let name = flat::name(cell);
        let mut writers = self.pending.values().filter(|call| call.writes(name));
        writers.any(|call| call.sources().iter().any(|cell| self.may_fail(cell)))
    }

    pub(super) fn resumed(&mut self, token: Token, result: Result<(), Kern>) {
        if self.pagers.resumed(token, result) || self.keeper_resumed(token, result) {
            return;
        }
        let mine = |thread: &Thread| matches!(thread.touch, Touch::Waits(at, ..) if at == token);
        let place = self.threads.iter().position(mine);
        let place = place.expect("somebody faulted");
        let Thread { client, touch } = self.threads[place];
        let Touch::Waits(_, address, value) = touch else {
            return;
        };
        self.count("fault", result);
        self.threads[place].touch = match result {
            Ok(()) => Touch::Wants(address, value),
            Err(code) => {
                let access = value.map_or(Prot::READ, |_| Prot::WRITE);
                self.exception(client, address, access, code);
                Touch::Nothing
            }
        };
    }

    /// A thread that waits for a fault is aborted.
    pub(super) fn abort(&mut self, place: usize) {
        if let Some(thread) = self.threads.get_mut(place)
            && let Touch::Waits(token, address, value) = thread.touch
        {
            thread.touch = Touch::Wants(address, value);
            self.world.cancel(token);
        }
    }
}
