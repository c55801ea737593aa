//! Shared maps: filled like a task's map, sealed, and shown in those of tasks (rules 77, 78, 118, 119,
//! 125).
//!
//! A sealed map is shown copy-on-write only if nobody can write what it holds, and then never written
//! where it shows: so a view of it is a copy at once. Which pages are taken out with the one that is
//! written depends on entries, which the flat model does not know: the core is asked, and what it says
//! of their attributes is compared.

use ipc_abi::Kern;
use ipc_abi::types::{Advice, Prot};
use ipc_protocol::vm_map::Request;
use ipc_protocol::vm_range;
use vm_core::event::PortOf;

use super::choose::Choice;
use super::{BYTES, Call, Kind, Pending, Place};
use crate::flat::{self, Cell, Mapped, Shown, Space};
use crate::schedule::{BASE, Sim};
use std::rc::Rc;

/// A sealed map that somebody has a right to.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its number in this run.
    pub number: u64,
    /// The port of the named entry that stands for it.
    pub port: PortOf,
    space: Space,
    protection: Prot,
    /// Nobody else has what it holds.
    settled: bool,
    /// It shows copy-on-write somewhere.
    copied: bool,
}

/// Pages of a shared map.
const PAGES: u64 = 1 << 20;

pub(super) const fn make_map() -> Request {
    Request::Range(vm_range::Request::VmMapCreate(vm_range::VmMapCreate {
        min: BASE * BYTES,
        max: (BASE + PAGES) * BYTES,
    }))
}

pub(super) fn seal(protection: Prot) -> Request {
    Request::Range(vm_range::Request::VmMapSeal(vm_range::VmMapSeal {
        protection: u32::from(protection.bits()),
    }))
}

/// Rights, now and at most, of a page where it appears a second time.
pub(super) fn rights_elsewhere(mapped: &Mapped, copy: bool) -> (Prot, Prot) {
    let copies = mapped.shown.is_some_and(|shown| shown.copies);
    match !copy && copies && mapped.most().contains(Prot::WRITE) {
        // It is taken out first.
        true => {
            let taken = mapped.taken_out();
            (taken.protection, taken.max)
        }
        false => (mapped.rights(), mapped.most()),
    }
}

impl Library {
    fn window(&self, index: u64, count: u64) -> impl Iterator<Item = &Mapped> {
        (index..index + count).filter_map(|page| self.space.get(page))
    }
}

impl Sim {
    pub(super) fn library(&self, number: u64) -> &Library {
        let mut libraries = self.libraries.iter();
        libraries.find(|known| known.number == number).unwrap()
    }

    /// Whether a page of a range is one of a sealed map.
    pub(super) fn shows(&self, client: usize, start: u64, count: u64) -> bool {
        let shown = |page: u64, mapped: &Mapped| {
            mapped.shown.is_some() && page >= start && page - start < count
        };
        let mut pages = self.space(client).iter();
        pages.any(|(page, mapped)| shown(page, mapped))
    }

    /// Pages of sealed maps that a call looks at or changes.
    pub(super) fn count_shown(&self, plan: &Pending) -> usize {
        let ranges = plan.looks.iter().chain(&plan.changes);
        ranges
            .map(|(client, start, count)| {
                let pages = self.space(*client).iter();
                pages
                    .filter(|(page, mapped)| {
                        mapped.shown.is_some() && page >= start && page - start < *count
                    })
                    .count()
            })
            .sum()
    }

    /// The cells of a range, as whoever shares it now gets them.
    pub(super) fn shared_cells(&self, client: usize, start: u64, count: u64) -> Vec<Cell> {
        let space = self.space(client);
        let pages = (start..start + count).filter_map(|page| space.get(page));
        pages.map(Mapped::shared_cell).collect()
    }

    /// Whether a call is one that the flat model can follow where shared maps are concerned.
    pub(super) fn suits_sealed_maps(&self, client: usize, call: &Call) -> bool {
        let is = |client: usize| &self.clients[client];
        let (library, sealed) = (is(client).library, is(client).sealed);
        match *call {
            Call::Allocate(place) | Call::Map(place, _) if place.permanent => {
                !library && !is(client).wires
            }
            Call::ProtectCopy(..) => !library,
            Call::Seal(_) => library && !sealed,
            Call::More(more) => more.suits(self, client),
            Call::Show(number, index, place) => !library && self.can_show(number, index, place),
            Call::MakeMap(_) | Call::Wire(..) | Call::WireAll(_) | Call::Swapout => !library,
            Call::Fork(..) => !library && !self.is_taking_out(client),
            Call::Remap(other, _, place) | Call::RemapNew(other, _, place) if is(other).sealed => {
                place.copy && !sealed
            }
            Call::ReadOverwrite(_, other, ..) => !is(other).sealed,
            Call::Behave(start, count, how) => {
                let writes = [Advice::ZeroWiredPages, Advice::Reusable, Advice::Zero];
                let writes = writes.iter().any(|advice| *advice as u32 == how);
                !(sealed || writes && self.shows(client, start, count))
            }
            Call::CopyIn(_, _, destroy) => !sealed || !destroy,
            Call::MakeEntry(_, _, _, kind) => !sealed || matches!(kind, Kind::Copy | Kind::Create),
            Call::Deallocate(..) | Call::Protect(..) | Call::Region(_) => true,
            _ => !sealed,
        }
    }

    pub(super) fn can_show(&self, number: u64, index: u64, place: Place) -> bool {
        let mut libraries = self.libraries.iter();
        let Some(library) = libraries.find(|library| library.number == number) else {
            return false;
        };
        let written = place.max.contains(Prot::WRITE);
        let may = if place.copy {
            library.settled
        } else {
            !written || !library.copied
        };
        may && library.space.is_full(index, place.count)
    }

    /// A sealed map is going to be shown.
    pub(super) fn will_show(&mut self, number: u64, place: Place) {
        for library in &mut self.libraries {
            if library.number == number {
                library.copied |= place.copy;
                library.settled &= place.copy || !place.max.contains(Prot::WRITE);
            }
        }
    }

    pub(super) fn plan_show(&self, plan: &mut Pending, number: u64, (index, place): (u64, Place)) {
        plan.held = Some(number);
        self.plan_place(plan, place);
        let library = self.library(number);
        let window = library.window(index, place.count);
        plan.asks = window.map(|mapped| mapped.cell.clone()).collect();
        if !library.protection.contains(place.max) {
            plan.expect = Err(Kern::InvalidRight);
        }
    }

    /// A map is sealed.
    pub(super) fn sealed(&mut self, plan: &Pending, protection: Prot, port: PortOf) {
        let client = &mut self.clients[plan.client];
        client.sealed = true;
        let mut cells = client.space.iter();
        let settled = cells.all(|(_, mapped)| Rc::strong_count(&mapped.cell) == 1);
        self.libraries.push(Library {
            number: plan.name,
            port,
            space: client.space.clone(),
            protection,
            settled,
            copied: false,
        });
    }

    /// A sealed map shows in a client's.
    pub(super) fn show(
        &mut self,
        plan: &Pending,
        (number, index): (u64, u64),
        (place, address): (Place, u64),
    ) {
        let library = self.library(number).clone();
        let cells = library
            .window(index, place.count)
            .map(|mapped| match place.copy {
                true => flat::snapshot(&mapped.cell),
                false => mapped.cell.clone(),
            });
        let cells: Vec<Cell> = cells.collect();
        let kind = if place.copy { "copies" } else { "shares" };
        *self.tally.entry(format!("shown with {kind}")).or_default() += 1;
        self.map(plan, (place, address), cells);
        let space = &mut self.clients[plan.client].space;
        for (page, inner) in (address / BYTES..).zip(library.window(index, place.count)) {
            let shown = Shown {
                protection: inner.protection,
                max: inner.max,
                copies: place.copy,
            };
            space.show(page, shown);
        }
    }

    /// Notes which pages of sealed maps are a task's own now, and compares their attributes.
    pub(crate) fn see_what_was_taken_out(&mut self) {
        for number in 0..self.living.len() {
            let place = self.living[number];
            let client = &mut self.clients[place];
            let version = self.world.core.map_version(client.map);
            if !client.space.is_to_look(version) {
                continue;
            }
            let (mut taken, mut next) = (0, 0);
            for page in client.space.shown() {
                // Pages of an entry that still shows a map need no look each.
                if page < next {
                    continue;
                }
                let Some(entry) = self.world.core.entry_at(client.map, page) else {
                    continue;
                };
                if entry.submap.is_some() {
                    next = entry.end / BYTES;
                    continue;
                }
                let Some(mapped) = client.space.get_mut(page) else {
                    continue;
                };
                let found = (entry.protection, entry.max_protection, entry.inheritance);
                *mapped = mapped.taken_out();
                let right = (mapped.protection, mapped.max, mapped.inherit);
                let mut pending = self.pending.values();
                assert!(
                    found == right || pending.any(|call| call.covers(place, page)),
                    "page {page:#x} of client {place} is taken out as {found:?}, not {right:?}"
                );
                (mapped.protection, mapped.max, mapped.inherit) = found;
                taken += 1;
            }
            if taken > 0 {
                let all = self.tally.entry("pages taken out of sealed maps".into());
                *all.or_default() += taken;
            }
        }
    }
}

impl Choice<'_> {
    /// A call to do with shared maps, if there is to be one.
    pub(super) fn random_sealed(&mut self, client: usize) -> Option<Call> {
        let sim = self.sim;
        let libraries = sim.living.iter().filter(|name| sim.clients[**name].library);
        let protections = [Prot::ALL, Prot::ALL, Prot::DEFAULT, Prot::READ];
        let often = if sim.kind().sharing { 4 } else { 30 };
        if sim.clients[client].library {
            let full = sim.space(client).iter().next().is_some();
            let seals = full && !sim.clients[client].sealed && self.random.once_in(6);
            return seals.then(|| Call::Seal(self.random.pick(&protections).unwrap()));
        }
        if !self.random.once_in(often) {
            return None;
        }
        if sim.kind().sharing && self.random.once_in(3) {
            let pages = self.random_pages();
            return Some(self.random_more(client, pages));
        }
        let at = self.random.below(2 * sim.libraries.len() as u64 + 1) as usize / 2;
        match sim.libraries.get(at) {
            None if libraries.count() < 2 && sim.libraries.len() < 4 => {
                Some(Call::MakeMap(sim.next_client()))
            }
            None => None,
            Some(_) => self.random_show(),
        }
    }

    /// Showing pages of some sealed map.
    pub(super) fn random_show(&mut self) -> Option<Call> {
        let sim = self.sim;
        let at = self.random.below(sim.libraries.len().max(1) as u64) as usize;
        let library = sim.libraries.get(at)?;
        let from = BASE + self.random.below(sim.kind().pages);
        let (index, _) = library.space.from(from)?;
        let mut place = self.random_place(true);
        let full = |page: &u64| library.space.get(*page).is_some();
        place.count = (index..index + place.count).take_while(full).count() as u64;
        place.copy = library.settled && (library.copied || !self.random.once_in(3));
        place.overwrite |= place.start.is_some() && self.random.once_in(2);
        if self.random.once_in(2) {
            (place.protection, place.max) = (Prot::ALL, Prot::ALL);
        }
        if !self.random.once_in(6) {
            place.protection &= library.protection;
            place.max &= library.protection;
        }
        Some(Call::Show(library.number, index, place))
    }
}
