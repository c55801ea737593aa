//! Which call comes next: mostly one that can succeed, sometimes any.

use ipc_abi::types::{Advice, Inherit, Prot, purgeable};
use ipc_protocol::vm_map;

use super::{BYTES, Call, Kind, Place};
use crate::Random;
use crate::schedule::{BASE, Sim};

/// What is chosen from, and by what.
pub(crate) struct Choice<'a> {
    pub(crate) sim: &'a Sim,
    pub(crate) random: &'a mut Random,
}

impl Choice<'_> {
    /// Any call that a client may make now.
    pub(crate) fn call(&mut self, client: usize) -> Call {
        let sim = self.sim;
        if let Some(call) = self.random_sealed(client) {
            return call;
        }
        let (start, count) = self.random_range(client, Prot::READ);
        let offset = self.random_offset();
        let address = start * BYTES + offset;
        let size = self.random_size(count * BYTES - offset);
        match self.random.below(100) {
            0..14 => {
                let mut place = self.random_place(false);
                place.purgeable = self.random.once_in(4);
                place.permanent = self.random_permanent();
                Call::Allocate(place)
            }
            14..18 => Call::Deallocate(start, count),
            18..22 => Call::CopyIn(address, size, true),
            22..30 => {
                let prots = [
                    Prot::NONE,
                    Prot::READ,
                    Prot::DEFAULT,
                    Prot::DEFAULT,
                    Prot::ALL,
                ];
                let to = self.random.pick(&prots).unwrap();
                let maximum = self.random.once_in(12);
                match self.random.once_in(4) {
                    true => Call::ProtectCopy(start, count, maximum, to),
                    false => Call::Protect(start, count, maximum, to),
                }
            }
            30..35 => {
                let kinds = [Inherit::Share, Inherit::Copy, Inherit::None];
                Call::Inherit(start, count, self.random.pick(&kinds).unwrap())
            }
            35..37 => self.random_advice(start, count),
            37 => self.random_purge(client, start),
            38 if self.random.once_in(12) => Call::WireAll(self.random.below(4) as u32),
            38 => {
                let accesses = [Prot::NONE, Prot::READ, Prot::DEFAULT, Prot::DEFAULT];
                Call::Wire(start, count, self.random.pick(&accesses).unwrap())
            }
            39..40 => Call::Msync(start, count, self.random_sync()),
            40..42 => self.random_remap(),
            42 => self.random_handle(start, count),
            99 => self.random_more(client, (start, count)),
            98 if self.random.once_in(2) => self.random_handle(start, count),
            43..50 => {
                let files = sim.pagers.mapped as u64;
                let mut place = self.random_place(true);
                place.permanent = self.random_permanent();
                if files == 0 {
                    return Call::Map(place, None);
                }
                let file = self.random.below(files) as usize;
                Call::Map(place, Some((file, self.random.below(10))))
            }
            50..63 => {
                let to = self.random_target(client, size);
                Call::Copy(address, to, size)
            }
            63..67 => {
                let other = self.random.below(sim.clients.len() as u64) as usize;
                let to = self.random_target(other, size);
                match sim.clients[other].alive {
                    true => Call::ReadOverwrite(address, other, to, size),
                    false => Call::Region(start),
                }
            }
            67..74 => Call::CopyIn(address, size, self.random.once_in(4)),
            74..82 => self.random_use_of_copy(client, address),
            82..88 => {
                let kinds = [Kind::One, Kind::Share, Kind::Copy, Kind::Create];
                let prots = [Prot::READ, Prot::DEFAULT, Prot::DEFAULT];
                let kind = self.random.pick(&kinds).unwrap();
                let rights = self.random.pick(&prots).unwrap();
                match self.random_entry() {
                    Some(number) if self.random.once_in(4) => {
                        let (index, count) = (self.random.below(4), 1 + self.random.below(3));
                        // With another kind the range is one of the map.
                        let kinds = [Kind::One, Kind::One, Kind::Create];
                        let kind = self.random.pick(&kinds).unwrap();
                        Call::MakeWindow(number, index, count, rights, kind)
                    }
                    _ => Call::MakeEntry(start, count, rights, kind),
                }
            }
            88..94 => {
                let place = self.random_place(true);
                match self.random_entry() {
                    Some(number) => Call::MapEntry(number, self.random.below(3), place),
                    None => Call::Map(place, None),
                }
            }
            94..98 => {
                let alive = sim.tasks();
                match alive < sim.kind().tasks {
                    true => Call::Fork(!self.random.once_in(8), sim.next_client()),
                    false => Call::Region(start),
                }
            }
            _ => Call::Region(if client == 0 { BASE } else { start }),
        }
    }

    /// Any pages.
    pub(super) fn random_pages(&mut self) -> (u64, u64) {
        let pages = self.sim.kind().pages;
        let most = if self.random.once_in(4) { 12 } else { 4 };
        let count = 1 + self.random.below(most);
        (BASE + self.random.below(pages), count)
    }

    /// Pages of a client that are mapped side by side, mostly.
    fn random_range(&mut self, client: usize, rights: Prot) -> (u64, u64) {
        let (start, count) = self.random_pages();
        if self.random.once_in(8) {
            return (start, count);
        }
        let good = |page: u64| {
            let mapped = self.sim.space(client).get(page);
            mapped.is_some_and(|mapped| mapped.rights().contains(rights))
        };
        let pages = self.sim.kind().pages;
        let from_here = (start..BASE + pages).chain(BASE..start);
        match from_here.into_iter().find(|page| good(*page)) {
            None => (start, count),
            Some(first) => {
                let run = (first..first + count).take_while(|page| good(*page));
                (first, run.count() as u64)
            }
        }
    }

    /// As many pages, writable, mostly.
    fn random_target(&mut self, client: usize, size: u64) -> u64 {
        for _ in 0..6 {
            let (start, count) = self.random_range(client, Prot::WRITE);
            if count * BYTES >= size {
                return start * BYTES + (count * BYTES - size) * self.random.below(2);
            }
        }
        self.random_pages().0 * BYTES + self.random_offset()
    }

    fn random_offset(&mut self) -> u64 {
        match self.random.below(3) {
            0 => self.random.below(BYTES),
            _ => 0,
        }
    }

    fn random_size(&mut self, most: u64) -> u64 {
        match self.random.below(3) {
            0 => 1 + self.random.below(most),
            _ => most,
        }
    }

    pub(super) fn random_place(&mut self, any_rights: bool) -> Place {
        let (start, count) = self.random_pages();
        let mut place = Place {
            start: (!self.random.once_in(4)).then_some(start),
            count,
            ..Place::DEFAULT
        };
        place.overwrite = place.start.is_some() && self.random.once_in(3);
        if any_rights {
            place.copy = self.random.once_in(3);
            let rights = [
                (Prot::READ, Prot::READ),
                (Prot::READ, Prot::ALL),
                (Prot::DEFAULT, Prot::DEFAULT),
                (Prot::DEFAULT, Prot::ALL),
            ];
            (place.protection, place.max) = self.random.pick(&rights).unwrap();
            let kinds = [Inherit::Share, Inherit::Copy, Inherit::Copy, Inherit::None];
            place.inherit = self.random.pick(&kinds).unwrap();
        }
        place
    }

    /// What is permanent fills the map for good, so there is little of it.
    fn random_permanent(&mut self) -> bool {
        let rare = if self.sim.kind().sharing { 16 } else { 80 };
        self.random.once_in(rare)
    }

    pub(super) fn random_remap(&mut self) -> Call {
        let alive: Vec<usize> = (0..self.sim.clients.len())
            .filter(|client| self.sim.is_alive(*client))
            .collect();
        let other = self.random.pick(&alive).unwrap();
        let (source, count) = self.random_range(other, Prot::READ);
        let mut place = self.random_place(true);
        place.count = count;
        Call::Remap(other, source, place)
    }

    fn random_use_of_copy(&mut self, client: usize, address: u64) -> Call {
        let place = self.random.below(self.sim.copies.len().max(1) as u64) as usize;
        let Some(held) = self.sim.copies.get(place) else {
            return Call::CopyIn(address, BYTES, false);
        };
        let (number, size) = (held.number, held.size);
        if self.random.once_in(8) {
            let timeout = [0, 1000, u64::MAX][self.random.below(3) as usize];
            return Call::Settle(number, timeout);
        }
        match self.random.below(4) {
            0 => {
                let start = address / BYTES;
                Call::CopyOut(number, self.random.once_in(2).then_some(start))
            }
            1 => Call::MapCopy(number, self.random.below(2), self.random_place(true)),
            _ => {
                let size = match self.random.once_in(2) {
                    true => size,
                    false => 1 + self.random.below(size),
                };
                Call::Write(number, self.random_target(client, size), size)
            }
        }
    }

    fn random_advice(&mut self, start: u64, count: u64) -> Call {
        let how = self.random.below(13) as u32;
        // Nobody can say any more what memory holds that is zeroed whenever it is unmapped.
        if how == Advice::ZeroWiredPages as u32 && !self.random.once_in(8) {
            return Call::Behave(start, count, Advice::Zero as u32);
        }
        Call::Behave(start, count, how)
    }

    /// A control of purgeable memory, mostly of some that there is.
    fn random_purge(&mut self, client: usize, page: u64) -> Call {
        let controls = [
            purgeable::SET_STATE,
            purgeable::SET_STATE,
            purgeable::GET_STATE,
            purgeable::PURGE_ALL,
        ];
        let states = [
            purgeable::NONVOLATILE,
            purgeable::VOLATILE,
            purgeable::VOLATILE | purgeable::ORDERING_OBSOLETE,
            purgeable::VOLATILE | purgeable::DEBUG_EMPTY,
            purgeable::EMPTY,
        ];
        let pages: Vec<u64> = self
            .sim
            .space(client)
            .iter()
            .filter(|(_, mapped)| mapped.cell.borrow().purgeable.is_some())
            .map(|(page, _)| page)
            .collect();
        let page = match self.random.once_in(8) {
            true => page,
            false => self.random.pick(&pages).unwrap_or(page),
        };
        let control = self.random.pick(&controls).unwrap();
        Call::Purge(page, control, self.random.pick(&states).unwrap())
    }

    fn random_sync(&mut self) -> u32 {
        let how = [vm_map::VM_SYNC_ASYNCHRONOUS, vm_map::VM_SYNC_SYNCHRONOUS];
        let also = [
            0,
            0,
            vm_map::VM_SYNC_INVALIDATE,
            vm_map::VM_SYNC_CONTIGUOUS,
            vm_map::VM_SYNC_DEACTIVATE,
            vm_map::VM_SYNC_KILLPAGES,
            vm_map::VM_SYNC_KILLPAGES | vm_map::VM_SYNC_CONTIGUOUS,
        ];
        self.random.pick(&how).unwrap() | self.random.pick(&also).unwrap()
    }

    pub(super) fn random_entry(&mut self) -> Option<u64> {
        let place = self.random.below(self.sim.entries.len().max(1) as u64) as usize;
        self.sim.entries.get(place).map(|entry| entry.number)
    }
}
