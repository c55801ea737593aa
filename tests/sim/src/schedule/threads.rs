//! Threads: what they touch, and what each touch must show.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use vm_core::event::Token;

use super::{BASE, Sim, Thread, Touch};
use crate::flat::{self, PAGE};

impl Sim {
    pub(super) fn thread_acts(&mut self) {
        let place = self.random.below(self.threads.len() as u64) as usize;
        let Thread { client, touch } = self.threads[place];
        if !self.clients[client].alive {
            return;
        }
        match touch {
            Touch::Nothing => {
                let write = self.random.once_in(2);
                let value = write.then(|| 1 + self.random.below(255) as u8);
                let page = self.random_page(client, value);
                let address = page * PAGE as u64 + self.random.below(PAGE as u64);
                self.threads[place].touch = Touch::Wants(address, value);
                self.touch(place, address, value);
            }
            Touch::Wants(address, value) => self.touch(place, address, value),
            Touch::Waits(..) => {}
        }
    }

    /// A page to touch: mostly one that may be touched so.
    fn random_page(&mut self, client: usize, value: Option<u8>) -> u64 {
        let access = value.map_or(Prot::READ, |_| Prot::WRITE);
        let page = BASE + self.random.below(self.kind.pages + 4);
        if self.random.once_in(10) {
            return page;
        }
        let good = |page: &u64| {
            let mapped = self.clients[client].space.get(*page);
            mapped.is_some_and(|mapped| mapped.protection.contains(access))
        };
        let mut from_here = (page..BASE + self.kind.pages + 4).chain(BASE..page);
        from_here.find(good).unwrap_or(page)
    }

    /// Whether what a touch would see or do is uncertain until a pending call is answered.
    pub(super) fn is_uncertain(&self, client: usize, page: u64, write: bool) -> bool {
        let cell = self.clients[client].space.get(page).map(|page| &page.cell);
        self.pending.values().any(|pending| {
            pending.covers(client, page)
                || cell.is_none() && pending.is_anywhere(client)
                || cell.is_some_and(|cell| {
                    let name = flat::name(cell);
                    pending.writes(name) || write && pending.reads(name)
                })
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
        let mapped = space.get(page).filter(|m| m.protection.contains(access));
        let Some(mapped) = mapped else {
            panic!("client {client} touched {address:#x} ({access:?}), which it may not");
        };
        if value.is_some() {
            space.write(page, offset, byte);
            return;
        }
        let content = mapped.cell.borrow();
        assert!(
            content.lost || content.bytes.at(offset) == byte,
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
            (Kern::ProtectionFailure, Some(mapped)) => !mapped.protection.contains(access),
            (Kern::MemoryError, Some(mapped)) => self.may_fail(&mapped.cell),
            (Kern::ResourceShortage, _) => self.kind.pressure,
            _ => false,
        };
        assert!(
            expected || changing,
            "client {client} gets {code:?} at {address:#x} ({access:?}); {mapped:?}"
        );
    }

    pub(super) fn resumed(&mut self, token: Token, result: Result<(), Kern>) {
        if self.pagers.resumed(token, result) {
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

    pub(super) fn abort_thread(&mut self) {
        let place = self.random.below(self.threads.len() as u64) as usize;
        if let Touch::Waits(token, address, value) = self.threads[place].touch {
            self.world.cancel(token);
            self.threads[place].touch = Touch::Wants(address, value);
        }
    }
}
