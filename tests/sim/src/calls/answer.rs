//! An answer: whether it is right, and what it changes in the flat model.

use std::rc::Rc;

use ipc_abi::Kern;
use ipc_abi::types::{Advice, purgeable};
use ipc_protocol::{vm_advice, vm_map, vm_share};
use vm_core::call::Message;
use vm_core::effect::Answer;
use vm_core::event::PortOf;

use super::{BYTES, Call, Entry, Held, Kind, Pending, Place, pages};
use crate::flat::{self, Bytes, Cell, Content, PAGE, Space};
use crate::schedule::{BASE, Sim};

fn fresh(count: u64) -> Vec<Cell> {
    (0..count).map(|_| flat::cell(Bytes::Zero)).collect()
}

fn copied(cells: &[Cell]) -> Vec<Cell> {
    cells.iter().map(flat::snapshot).collect()
}

impl Sim {
    /// An answer: is it right, and what has changed?
    pub fn apply(&mut self, mut plan: Pending, answer: Answer) {
        plan.overtaken |= plan.shown != self.count_shown(&plan);
        let name = match plan.call {
            Call::Settle(..) => "copy_settle",
            call => call.request(self).name(),
        };
        self.count(name, answer.map(|_| ()));
        if let Call::Settle(number, _) = plan.call {
            self.settled(number);
        }
        match (plan.expect, answer) {
            // It shows what it showed.
            (Ok(()), Ok(_)) if matches!(plan.call, Call::Settle(..)) => {}
            (Ok(()), Ok(reply)) => {
                let Message::Map(message) = reply.message else {
                    panic!("{:?} is answered {reply:?}", plan.call);
                };
                self.done(&plan, message, reply.right);
            }
            // Part of what showed was taken out meanwhile: then it may be done as well.
            (Err(_), Ok(_)) if matches!(plan.call, Call::Inherit(..)) && plan.overtaken => {
                self.done(&plan, vm_map::Reply::VmInherit(()), None);
            }
            (Err(expected), Err(code)) if expected == code => {
                if plan.bars && code == Kern::NoSpace {
                    let space = &mut self.clients[plan.client].space;
                    let changes = plan.changes.iter();
                    changes.for_each(|(_, start, count)| space.bar(*start, *count));
                }
            }
            (_, Err(code)) if plan.tolerate == Some(code) => {}
            (_, Err(Kern::InvalidAddress | Kern::ProtectionFailure)) | (Err(_), Ok(_))
                if plan.overtaken => {}
            (_, Err(code)) => {
                let failed = code == Kern::MemoryError
                    && [&plan.reads, &plan.writes, &plan.asks]
                        .into_iter()
                        .flatten()
                        .any(|cell| self.may_fail(cell) || self.may_become_failing(cell));
                // What was returned, by this call or another, was not stored.
                let unstored = code == Kern::MemoryError
                    && matches!(plan.call, Call::Msync(_, _, flags) if flags & vm_map::VM_SYNC_SYNCHRONOUS != 0)
                    && self.pagers.files.iter().any(|file| file.habits.refuse > 0);
                let ended = matches!(plan.call, Call::ReadOverwrite(_, other, ..) | Call::Remap(other, ..) | Call::RemapNew(other, ..)
                    if !self.clients[other].alive);
                let short = code == Kern::ResourceShortage && self.kind().pressure;
                assert!(
                    failed || unstored || ended || short,
                    "client {}: {:?} is answered {code:?}, not {:?}",
                    plan.client,
                    plan.call,
                    plan.expect
                );
                // A part may have been written.
                plan.lose();
                if let Call::ProtectCopy(start, count, ..) = plan.call {
                    self.half_owned(plan.client, start, count);
                }
                self.unmap_unwired(&plan);
                if let Call::CopyOut(number, _) = plan.call
                    && !self.world.is_port(self.held(number).port)
                {
                    self.forget_copy(self.held(number).port);
                }
            }
            (Err(expected), Ok(_)) => panic!(
                "client {}: {:?} succeeds instead of {expected:?}",
                plan.client, plan.call
            ),
        }
    }

    /// What could not be wired goes again, and what was there before does not come back (amendment
    /// A8): the one case in which the core is asked what there is.
    fn unmap_unwired(&mut self, plan: &Pending) {
        let client = &mut self.clients[plan.client];
        if !client.wires {
            return;
        }
        for (_, start, count) in &plan.changes {
            for page in client.space.mapped(*start, *count) {
                if self.world.core.entry_at(client.map, page).is_none() {
                    client.space.unmap(page, 1);
                }
            }
        }
    }

    /// What of a copy may come from a pager has been copied once more, or not: who has mapped it already
    /// shares it no longer.
    fn settled(&mut self, number: u64) {
        let mut copies = self.copies.iter_mut();
        let held = copies.find(|held| held.number == number).unwrap();
        for cell in &mut held.cells {
            let asks = cell.borrow().pager.is_some() || cell.borrow().is_unknown();
            // The plan of the call has it too.
            if asks && Rc::strong_count(cell) > 2 {
                *cell = flat::perhaps_shared(cell);
            }
        }
    }

    /// A range was to become a client's own, and perhaps a part is: its rights are what the core says,
    /// and whether it is shared, or purgeable as before, nobody knows.
    fn half_owned(&mut self, client: usize, start: u64, count: u64) {
        let client = &mut self.clients[client];
        for page in client.space.mapped(start, count) {
            let entry = self.world.core.entry_at(client.map, page);
            if let (Some(mapped), Some(entry)) = (client.space.get_mut(page), entry) {
                mapped.cell = flat::perhaps_shared(&mapped.cell);
                assert!(mapped.protection == entry.protection, "page {page:#x}");
                mapped.max = entry.max_protection;
            }
        }
    }

    fn done(&mut self, plan: &Pending, reply: vm_map::Reply, right: Option<PortOf>) {
        let client = plan.client;
        match (plan.call, reply) {
            (Call::Allocate(place), vm_map::Reply::VmAllocate(reply)) => {
                let cells = fresh(place.count);
                for cell in &cells {
                    cell.borrow_mut().purgeable = place.purgeable.then_some(plan.name);
                }
                self.map(plan, (place, reply.address), cells);
            }
            (Call::Deallocate(start, count), _) => {
                self.clients[client].space.unmap(start, count);
            }
            (Call::Protect(start, count, set_maximum, to), _) => {
                let space = &mut self.clients[client].space;
                assert!(space.protect(start, count, set_maximum, to));
            }
            (Call::ProtectCopy(start, count, set_maximum, to), _) => {
                let space = &mut self.clients[client].space;
                space.own(start, count, to);
                assert!(space.protect(start, count, set_maximum, to));
            }
            (Call::Inherit(start, count, to), _) => {
                self.clients[client].space.inherit(start, count, to);
            }
            (Call::Behave(_, _, how), _) if how == Advice::Zero as u32 => {
                for cell in &plan.writes {
                    cell.borrow_mut().clear();
                }
            }
            (Call::Behave(..) | Call::Msync(..) | Call::Wire(..) | Call::WireAll(_), _) => {}
            (Call::Purge(page, control, state), reply) => {
                let vm_map::Reply::Advice(vm_advice::Reply::VmPurgableControl(reply)) = reply
                else {
                    panic!("{:?} is answered {reply:?}", plan.call);
                };
                if control == purgeable::SET_STATE {
                    self.purge(client, page, (reply.state, state));
                }
            }
            (Call::Remap(_, _, place), vm_map::Reply::Share(vm_share::Reply::VmRemap(reply))) => {
                self.remap(plan, (place, reply.address))
            }
            (Call::Map(place, file), vm_map::Reply::VmMap(reply)) => {
                let cells = match (file, place.copy) {
                    (None, _) => fresh(place.count),
                    (Some(_), true) => copied(&plan.reads),
                    (Some(_), false) => plan.reads.clone(),
                };
                self.map(plan, (place, reply.address), cells);
            }
            (
                Call::MapCopy(_, _, place) | Call::MapEntry(_, _, place),
                vm_map::Reply::VmMap(reply),
            ) => {
                let cells = match place.copy {
                    true => copied(&plan.reads),
                    false => plan.reads.clone(),
                };
                self.map(plan, (place, reply.address), cells);
            }
            (Call::Copy(from, to, size) | Call::ReadOverwrite(from, _, to, size), _) => {
                let (at, start) = (to as usize % PAGE, from as usize % PAGE);
                flat::overwrite(&plan.writes, at, &plan.reads, start, size as usize);
            }
            (Call::CopyIn(address, size, destroy), _) => {
                self.copies.push(Held {
                    number: plan.name,
                    port: right.unwrap(),
                    cells: copied(&plan.reads),
                    offset: address as usize % PAGE,
                    size,
                });
                if destroy {
                    let (start, count) = pages(address, size);
                    self.clients[client].space.unmap(start, count);
                }
            }
            (Call::CopyOut(number, start), vm_map::Reply::VmCopyout(reply)) => {
                let held = self.held(number).clone();
                let place = Place {
                    start,
                    count: held.cells.len() as u64,
                    ..Place::DEFAULT
                };
                assert_eq!(reply.address as usize % PAGE, held.offset);
                let address = reply.address - held.offset as u64;
                self.map(plan, (place, address), held.cells);
                self.forget_copy(held.port);
            }
            (Call::Write(number, address, size), _) => {
                let start = self.held(number).offset;
                let at = address as usize % PAGE;
                flat::overwrite(&plan.writes, at, &plan.reads, start, size as usize);
            }
            (
                Call::MakeEntry(start, count, protection, kind),
                vm_map::Reply::MachMakeMemoryEntry(reply),
            ) => {
                let size = reply.size / BYTES;
                assert!(size >= 1 && size <= count && reply.size.is_multiple_of(BYTES));
                let cells = match kind {
                    Kind::Create => fresh(size),
                    Kind::Copy => copied(&plan.reads),
                    _ => self.shared_cells(client, start, size),
                };
                assert_eq!(cells.len() as u64, size, "the entry has a hole");
                self.entries.push(Entry {
                    number: plan.name,
                    port: right.unwrap(),
                    cells,
                    protection,
                    whole: matches!(kind, Kind::Share | Kind::Copy),
                });
            }
            (
                Call::MakeWindow(_, _, count, protection, kind),
                vm_map::Reply::MachMakeMemoryEntry(reply),
            ) => {
                let cells = match kind {
                    Kind::Create => fresh(count),
                    Kind::Copy => copied(&plan.reads),
                    _ => plan.reads.clone(),
                };
                assert_eq!(reply.size, count * BYTES);
                self.entries.push(Entry {
                    number: plan.name,
                    port: right.unwrap(),
                    cells,
                    protection,
                    whole: matches!(kind, Kind::Share | Kind::Copy),
                });
            }
            (Call::Fork(inherit, child), vm_map::Reply::TaskCreate(_)) => {
                let Some(PortOf::Map(map)) = right else {
                    panic!("a task has a map");
                };
                let space = match inherit {
                    true => self.space(client).fork(),
                    false => self.space(client).fresh(),
                };
                self.add_client(child, map, space);
            }
            (
                Call::RemapNew(_, _, place),
                vm_map::Reply::Share(vm_share::Reply::VmRemapNew(reply)),
            ) => {
                let cells = self.remapped(plan, place);
                self.map(plan, (place, reply.address), cells);
            }
            (Call::Swapout, _) => {}
            (
                Call::Proxy(..)
                | Call::ProxyFile(..)
                | Call::RegionProxy(..)
                | Call::MakeMasked(..),
                reply,
            ) => self.made_handle(plan, reply, right.unwrap()),
            (Call::MakeMap(name), _) => {
                let Some(PortOf::Map(map)) = right else {
                    panic!("a map has a port");
                };
                self.add_client(name, map, Space::default());
                self.clients[name].library = true;
            }
            (Call::Seal(protection), _) => self.sealed(plan, protection, right.unwrap()),
            (Call::More(more), reply) => self.done_more(plan, more, (reply, right)),
            (Call::Show(number, index, place), vm_map::Reply::VmMap(reply)) => {
                self.show(plan, (number, index), (place, reply.address));
            }
            (Call::Region(page), vm_map::Reply::VmRegion(reply)) => {
                self.compare_region(client, page, &reply);
            }
            (call, reply) => panic!("{call:?} is answered {reply:?}"),
        }
    }

    /// What appears a second time.
    fn remapped(&self, plan: &Pending, place: Place) -> Vec<Cell> {
        match (place.copy, plan.call) {
            (true, _) => copied(&plan.reads),
            (false, Call::Remap(other, source, _) | Call::RemapNew(other, source, _))
                if plan.shown != 0 && self.is_alive(other) =>
            {
                self.shared_cells(other, source, place.count)
            }
            (false, _) => plan.reads.clone(),
        }
    }

    /// Pages of a client appear a second time; each keeps its rights.
    fn remap(&mut self, plan: &Pending, (place, address): (Place, u64)) {
        let cells = self.remapped(plan, place);
        self.map(plan, (place, address), cells);
        let space = &mut self.clients[plan.client].space;
        for (page, rights) in (address / BYTES..).zip(&plan.rights) {
            space.set_rights(page, *rights);
        }
    }

    /// Purgeable memory has another state than before.
    fn purge(&mut self, client: usize, page: u64, (before, now): (u32, u32)) {
        let (before, now) = (before & purgeable::STATE_MASK, now & purgeable::STATE_MASK);
        self.set_volatile(client, page, |content| {
            // What went while it was volatile nobody knows: it may have been written again.
            content.lost |= before == purgeable::EMPTY;
            content.volatile = now != purgeable::NONVOLATILE;
        });
    }

    /// Changes what is known of all pages of the purgeable memory that a page is of.
    pub(super) fn set_volatile(&self, client: usize, page: u64, change: impl Fn(&mut Content)) {
        let mapped = self.space(client).get(page);
        let group = mapped.and_then(|mapped| mapped.cell.borrow().purgeable);
        assert!(group.is_some(), "page {page:#x} is not purgeable");
        let mapped = self.clients.iter().flat_map(|client| client.space.iter());
        let mapped = mapped.map(|(_, mapped)| &mapped.cell);
        let named = self.entries.iter().flat_map(|entry| entry.cells.iter());
        for cell in mapped.chain(named) {
            let mut content = cell.borrow_mut();
            if content.purgeable == group {
                change(&mut content);
            }
        }
    }

    pub(super) fn map(&mut self, plan: &Pending, (place, address): (Place, u64), cells: Vec<Cell>) {
        let start = address / BYTES;
        let space = &mut self.clients[plan.client].space;
        match place.start {
            Some(wanted) => assert_eq!(start, wanted, "{:?}", plan.call),
            // What is being unmapped may be free already.
            None => assert!(
                space.is_free(start, place.count) && start == space.first_fit(BASE, place.count),
                "{:?} is put at page {start:#x}",
                plan.call
            ),
        }
        assert_eq!(cells.len() as u64, place.count);
        space.map(start, cells, &place.like());
    }

    fn compare_region(&self, client: usize, page: u64, reply: &vm_map::VmRegionReply) {
        let (start, count) = (reply.address / BYTES, reply.size / BYTES);
        let space = self.space(client);
        let first = start.max(page);
        assert!(
            space.is_free(page, first - page),
            "{reply:?} is not the next"
        );
        for page in start..start + count {
            let agrees = space.get(page).is_some_and(|mapped| {
                u32::from(mapped.protection.bits()) == reply.protection
                    && u32::from(mapped.max.bits()) == reply.max_protection
                    && mapped.inherit as u32 == reply.inheritance
            });
            assert!(
                agrees,
                "page {page:#x} of client {client} is not as {reply:?} says"
            );
        }
    }
}
