//! What a call will read, write and change, and which answer is right.

use ipc_abi::Kern;
use ipc_abi::types::{Advice, Inherit, Prot, purgeable};
use ipc_protocol::vm_map;

use super::{BYTES, Call, Kind, Pending, Place, pages, shared_map};
use crate::flat::Cell;
use crate::schedule::Sim;

impl Sim {
    pub(super) fn plan(&mut self, client: usize, name: u64, call: Call) -> Pending {
        let mut plan = Pending::new(client, name, call);
        match call {
            Call::Allocate(place) | Call::Map(place, None) => self.plan_place(&mut plan, place),
            Call::Deallocate(start, count) => {
                plan.changes.push((client, start, count));
                if self.clients[client].sealed {
                    plan.expect = Err(Kern::NoAccess);
                }
            }
            Call::Inherit(start, count, to) => {
                plan.changes.push((client, start, count));
                // Rule 118.
                if to == Inherit::Copy && self.shows(client, start, count) {
                    plan.expect = Err(Kern::InvalidArgument);
                }
            }
            Call::Behave(start, count, how) => self.plan_advice(&mut plan, (start, count), how),
            Call::Wire(start, count, access) => {
                plan.looks.push((client, start, count));
                let space = self.space(client);
                plan.asks = space.cells(start, count);
                plan.expect = match access.is_empty() {
                    true => space.check(start, 1, |_| true),
                    false => space.check(start, count, |m| m.rights().contains(access)),
                };
            }
            Call::WireAll(_) => {
                plan.looks.push((client, 0, u64::MAX / 2));
                plan.asks = self.space(client).cells(0, u64::MAX / 2);
            }
            Call::Remap(other, source, place) => {
                self.plan_place(&mut plan, place);
                let space = self.space(other);
                let there = space.check(source, place.count, |_| true);
                plan.expect = there.and(plan.expect);
                plan.looks.push((other, source, place.count));
                plan.reads = space.cells(source, place.count);
                plan.rights = (source..source + place.count)
                    .filter_map(|page| space.get(page))
                    .map(|mapped| shared_map::rights_elsewhere(mapped, place.copy))
                    .collect();
                if place.copy {
                    // What can never be read.
                    plan.tolerate = Some(Kern::ProtectionFailure);
                }
            }
            Call::Purge(page, control, state) => self.plan_purge(&mut plan, page, control, state),
            Call::Protect(start, count, _, to) => {
                plan.expect = self
                    .space(client)
                    .check(start, count, |m| m.max.contains(to));
                plan.changes.push((client, start, count));
                if self.clients[client].sealed {
                    plan.expect = Err(Kern::NoAccess);
                }
            }
            Call::ProtectCopy(start, count, ..) => {
                let space = self.space(client);
                plan.expect = space.check(start, count, |m| m.most().contains(Prot::READ));
                plan.changes.push((client, start, count));
                plan.reads = space.cells(start, count);
                if space.is_permanent(start, count) && plan.expect.is_ok() {
                    plan.expect = Err(Kern::NoSpace);
                    plan.bars = true;
                }
            }
            Call::Map(place, Some((file, index))) => {
                let port = self.pagers.files[file].port;
                let dead = self.world.is_dead(port);
                self.plan_place(&mut plan, place);
                if dead {
                    plan.expect = Err(Kern::InvalidArgument);
                } else {
                    let pages = index..index + place.count;
                    let cells = pages.map(|index| self.file_cell(file, index)).collect();
                    plan.reads = cells;
                }
            }
            Call::Copy(from, to, size) => {
                self.plan_source(&mut plan, from, size);
                self.plan_target(&mut plan, client, to, size);
            }
            Call::ReadOverwrite(from, other, to, size) => {
                self.plan_source(&mut plan, from, size);
                self.plan_target(&mut plan, other, to, size);
            }
            Call::CopyIn(address, size, destroy) => {
                self.plan_source(&mut plan, address, size);
                if destroy {
                    let (start, count) = pages(address, size);
                    plan.changes.push((client, start, count));
                }
            }
            Call::Settle(number, _) => {
                plan.held = Some(number);
                plan.asks = self.held(number).cells.clone();
                plan.tolerate = Some(Kern::OperationTimedOut);
            }
            Call::CopyOut(number, start) => {
                let count = self.held(number).cells.len() as u64;
                plan.held = Some(number);
                let place = Place {
                    start,
                    count,
                    ..Place::DEFAULT
                };
                self.plan_place(&mut plan, place);
                // It may have to be wired.
                plan.asks = self.held(number).cells.clone();
            }
            Call::MapCopy(number, index, place) => {
                let cells = self.held(number).cells.clone();
                self.plan_window(&mut plan, number, (index, place), &cells);
            }
            Call::Write(number, address, size) => {
                plan.held = Some(number);
                plan.reads = self.held(number).cells.clone();
                self.plan_target(&mut plan, client, address, size);
            }
            Call::MakeEntry(start, count, protection, kind) => {
                self.plan_entry(&mut plan, (start, count), protection, kind);
            }
            Call::MakeWindow(number, index, count, protection, kind) => {
                self.plan_window_of_entry(&mut plan, number, (index, count), protection, kind);
            }
            Call::Msync(start, count, flags) => {
                let space = self.space(client);
                plan.asks = space.cells(start, count);
                plan.looks.push((client, start, count));
                if flags & vm_map::VM_SYNC_KILLPAGES != 0 {
                    plan.writes = space.cells(start, count);
                }
                if flags & vm_map::VM_SYNC_CONTIGUOUS != 0 && !space.is_full(start, count) {
                    plan.expect = Err(Kern::InvalidAddress);
                }
            }
            Call::MapEntry(number, index, place) => {
                let entry = self.entry(number).clone();
                self.plan_window(&mut plan, number, (index, place), &entry.cells);
                let inside = plan.expect != Err(Kern::InvalidArgument);
                if inside && !entry.protection.contains(place.max) {
                    plan.expect = Err(Kern::InvalidRight);
                }
            }
            Call::Fork(inherit, _) => {
                if inherit {
                    plan.looks.push((client, 0, u64::MAX / 2));
                    let space = self.space(client);
                    let copies = space.iter().filter(|(_, m)| m.inherit == Inherit::Copy);
                    plan.reads = copies.map(|(_, mapped)| mapped.cell.clone()).collect();
                    if self.shows(client, 0, u64::MAX / 2) {
                        // What a child gets of it depends on when a piece is taken out.
                        plan.changes.push((client, 0, u64::MAX / 2));
                    }
                }
            }
            Call::RemapNew(other, source, place) => {
                self.plan_remap_new(&mut plan, (other, source), place);
            }
            Call::Proxy(number, start, ..) => self.plan_proxy(&mut plan, number, start),
            Call::ProxyFile(file, ..) => self.plan_proxy_of_file(&mut plan, file),
            Call::RegionProxy(page, count, _) => self.plan_region_proxy(&mut plan, page, count),
            Call::MakeMasked(start, count, asked) => {
                self.plan_masked(&mut plan, (start, count), asked);
            }
            Call::MakeMap(_) | Call::Swapout => {}
            Call::Seal(_) => plan.changes.push((client, 0, u64::MAX / 2)),
            Call::Show(number, index, place) => {
                self.plan_show(&mut plan, number, (index, place));
            }
            Call::More(more) => self.plan_more(&mut plan, more),
            Call::Region(page) => {
                plan.looks.push((client, 0, u64::MAX / 2));
                let space = self.space(client);
                if !space.iter().any(|(number, _)| number >= page) {
                    plan.expect = Err(Kern::InvalidAddress);
                }
            }
        }
        plan
    }

    fn plan_advice(&self, plan: &mut Pending, (start, count): (u64, u64), how: u32) {
        let client = plan.client;
        let space = self.space(client);
        let Some(advice) = Advice::from_raw(how) else {
            plan.expect = space.check(start, count, |_| true);
            plan.changes.push((client, start, count));
            return;
        };
        plan.looks.push((client, start, count));
        plan.asks = space.cells(start, count);
        let writes = matches!(
            advice,
            Advice::ZeroWiredPages | Advice::Reusable | Advice::Zero
        );
        plan.expect = space.check(start, count, |m| {
            !writes || m.protection.contains(Prot::WRITE)
        });
        match advice {
            Advice::Free | Advice::Reusable => plan.writes = plan.asks.clone(),
            Advice::Zero => {
                plan.writes = plan.asks.clone();
                // What is copied on write; the lowest page decides.
                plan.tolerate = Some(Kern::NoAccess);
            }
            Advice::ZeroWiredPages => plan.tolerate = Some(Kern::NoAccess),
            _ => {}
        }
    }

    fn plan_purge(&self, plan: &mut Pending, page: u64, control: u32, state: u32) {
        let client = plan.client;
        plan.looks.push((client, 0, u64::MAX / 2));
        if control == purgeable::PURGE_ALL {
            return;
        }
        let mapped = self.space(client).get(page);
        // Whether it is mapped whole the flat model does not know.
        plan.tolerate = Some(Kern::InvalidArgument);
        plan.expect = match mapped {
            None => Err(Kern::InvalidAddress),
            Some(mapped) if mapped.shown.is_some() => Err(Kern::InvalidAddress),
            Some(mapped) if control == purgeable::SET_STATE => {
                let deny = state & purgeable::STATE_MASK == purgeable::DENY;
                match mapped.protection.contains(Prot::WRITE) {
                    false => Err(Kern::ProtectionFailure),
                    true if deny || mapped.cell.borrow().purgeable.is_none() => {
                        Err(Kern::InvalidArgument)
                    }
                    true => Ok(()),
                }
            }
            Some(mapped) if mapped.cell.borrow().purgeable.is_none() => Err(Kern::InvalidArgument),
            Some(_) => Ok(()),
        };
    }

    pub(super) fn plan_place(&self, plan: &mut Pending, place: Place) {
        match place.start {
            None => plan.anywhere = true,
            Some(start) => {
                plan.changes.push((plan.client, start, place.count));
                if !place.overwrite && !self.space(plan.client).is_free(start, place.count) {
                    plan.expect = Err(Kern::NoSpace);
                }
                if place.overwrite && self.space(plan.client).is_permanent(start, place.count) {
                    plan.expect = Err(Kern::NoSpace);
                    plan.bars = true;
                }
            }
        }
    }

    fn plan_source(&self, plan: &mut Pending, address: u64, size: u64) {
        let (start, count) = pages(address, size);
        let space = self.space(plan.client);
        plan.expect = space.check(start, count, |m| m.rights().contains(Prot::READ));
        plan.looks.push((plan.client, start, count));
        plan.reads = space.cells(start, count);
    }

    fn plan_target(&self, plan: &mut Pending, client: usize, address: u64, size: u64) {
        let (start, count) = pages(address, size);
        let space = self.space(client);
        let check = space.check(start, count, |m| m.rights().contains(Prot::WRITE));
        plan.expect = plan.expect.and(check);
        plan.looks.push((client, start, count));
        plan.writes = space.cells(start, count);
    }

    fn plan_window(
        &self,
        plan: &mut Pending,
        number: u64,
        (index, place): (u64, Place),
        cells: &[Cell],
    ) {
        plan.held = Some(number);
        self.plan_place(plan, place);
        let end = (index + place.count) as usize;
        match cells.get(index as usize..end) {
            Some(window) => plan.reads = window.to_vec(),
            None => plan.expect = Err(Kern::InvalidArgument),
        }
    }

    pub(super) fn plan_entry(
        &self,
        plan: &mut Pending,
        (start, count): (u64, u64),
        protection: Prot,
        kind: Kind,
    ) {
        let client = plan.client;
        let space = self.space(client);
        match kind {
            Kind::Create => {}
            Kind::Copy => self.plan_source(plan, start * BYTES, count * BYTES),
            Kind::One | Kind::Share => {
                plan.looks.push((client, start, count));
                // Only the first map entry counts, or all of the range.
                let most = if kind == Kind::One { 1 } else { count };
                plan.expect = space.check(start, most, |m| m.most().contains(protection));
                if !space.is_full(start, most) {
                    plan.tolerate = Some(Kern::InvalidAddress);
                }
            }
        }
    }

    fn plan_window_of_entry(
        &self,
        plan: &mut Pending,
        number: u64,
        (index, count): (u64, u64),
        protection: Prot,
        kind: Kind,
    ) {
        if kind == Kind::Create {
            return;
        }
        plan.held = Some(number);
        let entry = self.entry(number);
        let end = (index + count) as usize;
        match entry.cells.get(index as usize..end) {
            None => plan.expect = Err(Kern::InvalidArgument),
            Some(_) if entry.whole => plan.expect = Err(Kern::InvalidArgument),
            Some(_) if !entry.protection.contains(protection) => {
                plan.expect = Err(Kern::ProtectionFailure);
            }
            Some(window) => plan.reads = window.to_vec(),
        }
    }
}
