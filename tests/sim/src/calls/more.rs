//! Ranges set aside and the windows on sealed maps in them, named entries that are named again, and limits
//! that change.

use std::rc::Rc;

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_range::{self, MACH_VM_RANGE_FLAVOR_V1, RANGES_MAX};
use ipc_protocol::vm_wire::{self, UNCHANGED, VmSetLimits};
use serde::{Deserialize, Serialize};
use vm_core::event::{PortOf, PortRef};

use super::choose::Choice;
use super::{BYTES, Call, Entry, Kind, Pending, Place};
use crate::flat::Cell;
use crate::schedule::{BASE, HOST, Sim};

/// Ranges that a client sets aside at most.
const RESERVED: usize = 3;

/// One of these calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum More {
    /// mach_vm_range_create of pages.
    Reserve(u64, u64),
    /// vm_map_submap of a sealed map from a page on.
    Submap(u64, u64, Place),
    /// mach_make_memory_entry of pages, which may be those of a named entry.
    Reuse(u64, u64, u64, #[serde(with = "crate::numbers::prot")] Prot),
    /// vm_set_limits: entries, pages, and copies.
    Limit(u64, u64, u64),
}

impl More {
    pub(super) fn request(self) -> Request {
        match self {
            More::Reserve(start, count) => {
                let (mut starts, mut sizes) = ([0; RANGES_MAX], [0; RANGES_MAX]);
                (starts[0], sizes[0]) = (start * BYTES, count * BYTES);
                let create = vm_range::MachVmRangeCreate {
                    flavor: MACH_VM_RANGE_FLAVOR_V1,
                    count: 1,
                    starts,
                    sizes,
                };
                Request::Range(vm_range::Request::MachVmRangeCreate(create))
            }
            More::Submap(_, index, place) => {
                let submap = vm_range::VmMapSubmap {
                    address: place.start.unwrap_or(0) * BYTES,
                    size: place.count * BYTES,
                    offset: index * BYTES,
                    copy: place.copy,
                    protection: u32::from(place.protection.bits()),
                    max_protection: u32::from(place.max.bits()),
                    inheritance: place.inherit as u32,
                };
                Request::Range(vm_range::Request::VmMapSubmap(submap))
            }
            More::Reuse(_, start, count, protection) => {
                Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
                    size: count * BYTES,
                    offset: start * BYTES,
                    permission: u32::from(protection.bits()) | vm_map::MAP_MEM_NAMED_REUSE,
                })
            }
            More::Limit(entries, pages, copies) => {
                let limits = VmSetLimits {
                    entries,
                    pages,
                    copies,
                    ..VmSetLimits::KEEP
                };
                Request::Wire(vm_wire::Request::VmSetLimits(limits))
            }
        }
    }

    pub(super) fn right(self, sim: &mut Sim) -> PortRef {
        match self {
            More::Reserve(..) => PortRef::None,
            More::Submap(number, ..) => PortRef::Own(sim.library(number).port),
            More::Reuse(number, ..) => PortRef::Own(sim.entry(number).port),
            More::Limit(..) => sim.world.right_to(HOST),
        }
    }

    /// Whether the flat model can follow it, and what it names is there.
    pub(super) fn suits(self, sim: &Sim, client: usize) -> bool {
        let (library, sealed) = (sim.clients[client].library, sim.clients[client].sealed);
        match self {
            More::Reserve(..) => !library && sim.space(client).reserved.len() < RESERVED,
            More::Submap(number, index, place) => !library && sim.can_show(number, index, place),
            More::Reuse(number, ..) => {
                !sealed && sim.entries.iter().any(|entry| entry.number == number)
            }
            More::Limit(..) => true,
        }
    }
}

impl Pending {
    /// The port of the copy that it maps and uses up.
    pub(crate) fn copied_out(&self, sim: &Sim) -> Option<PortOf> {
        match self.call {
            Call::CopyOut(number, _) => Some(sim.held(number).port),
            _ => None,
        }
    }
}

impl Sim {
    pub(super) fn plan_more(&self, plan: &mut Pending, more: More) {
        match more {
            More::Reserve(start, count) => {
                let space = self.space(plan.client);
                plan.changes.push((plan.client, start, count));
                if space.is_reserved(start, count) {
                    plan.expect = Err(Kern::MemoryPresent);
                } else if !space.is_free(start, count) {
                    plan.expect = Err(Kern::InvalidArgument);
                }
            }
            More::Submap(number, index, place) => {
                self.plan_show(plan, number, (index, place));
                let (space, start) = (self.space(plan.client), place.start.unwrap_or(0));
                if !space.may_show(start, place.count) || !space.is_free(start, place.count) {
                    plan.expect = Err(Kern::InvalidArgument);
                }
            }
            More::Reuse(number, start, count, protection) => {
                plan.held = Some(number);
                self.plan_entry(plan, (start, count), protection, Kind::One);
                if self.entry(number).whole {
                    plan.expect = Err(Kern::InvalidArgument);
                }
            }
            More::Limit(..) => {}
        }
    }

    /// It is done.
    pub(super) fn done_more(
        &mut self,
        plan: &Pending,
        more: More,
        (reply, right): (vm_map::Reply, Option<PortOf>),
    ) {
        match (more, reply) {
            (More::Reserve(start, count), vm_map::Reply::Range(_)) => {
                let space = &mut self.clients[plan.client].space;
                space.reserved.push((start, count));
            }
            (More::Submap(number, index, place), vm_map::Reply::Range(_)) => {
                let address = place.start.unwrap_or(0) * BYTES;
                self.show(plan, (number, index), (place, address));
            }
            (
                More::Reuse(number, start, _, protection),
                vm_map::Reply::MachMakeMemoryEntry(reply),
            ) => {
                let count = reply.size / BYTES;
                let cells = self.shared_cells(plan.client, start, count);
                // What shows of a map that others may write has no cell that could be compared.
                let copies = self.shows(plan.client, start, count);
                let entry = (number, right.unwrap());
                self.named_again(entry, (plan.name, protection), (cells, copies));
            }
            (More::Limit(..), vm_map::Reply::Wire(_)) => {}
            (more, reply) => panic!("{more:?} is answered {reply:?}"),
        }
    }

    /// A named entry, or another right to the one that was shown.
    fn named_again(
        &mut self,
        (parent, port): (u64, PortOf),
        (number, protection): (u64, Prot),
        (cells, copies): (Vec<Cell>, bool),
    ) {
        let known = self.entry(parent);
        if known.port != port {
            return self.entries.push(Entry {
                number,
                port,
                cells,
                protection,
                whole: false,
            });
        }
        let mut pairs = known.cells.iter().zip(&cells);
        let same = pairs.all(|(one, other)| Rc::ptr_eq(one, other) || other.borrow().is_unknown());
        assert!(
            (same || copies)
                && known.cells.len() == cells.len()
                && known.protection.contains(protection),
            "entry {parent} is named again for other memory"
        );
        *self.tally.entry("entries named again".into()).or_default() += 1;
    }
}

impl Choice<'_> {
    /// One of these calls, about a range of the client's.
    pub(super) fn random_more(&mut self, client: usize, (start, count): (u64, u64)) -> Call {
        let sim = self.sim;
        let more = match self.random.below(8) {
            0 => {
                let pages = sim.kind().pages;
                // Mostly where nothing is mapped yet.
                let from = BASE + self.random.below(2 * pages);
                More::Reserve(from, 1 + self.random.below(6))
            }
            1..3 if sim.kind().limited => More::Limit(
                [UNCHANGED, 4 + self.random.below(30)][self.random.below(2) as usize],
                20 + self.random.below(40),
                [UNCHANGED, 1 + self.random.below(8)][self.random.below(2) as usize],
            ),
            1..5 => match self.random_submap(client) {
                Some(more) => more,
                None => return Call::Region(start),
            },
            _ => match self.random_entry() {
                Some(number) => {
                    let rights = [Prot::READ, Prot::DEFAULT];
                    let rights = self.random.pick(&rights).unwrap();
                    // Mostly what the entry is of, if that is mapped here.
                    let cells = &sim.entry(number).cells;
                    let mut pages = sim.space(client).iter();
                    let first = cells.first();
                    let found = first.and_then(|first| {
                        pages.find(|(_, mapped)| Rc::ptr_eq(&mapped.cell, first))
                    });
                    let (start, count) =
                        found.map_or((start, count), |(page, _)| (page, cells.len() as u64));
                    More::Reuse(number, start, count, rights)
                }
                None => return Call::MakeEntry(start, count, Prot::DEFAULT, Kind::One),
            },
        };
        Call::More(more)
    }

    /// A window on a sealed map, in a range that was set aside.
    fn random_submap(&mut self, client: usize) -> Option<More> {
        let reserved = &self.sim.space(client).reserved;
        let (start, count) = self.random.pick(reserved)?;
        let Call::Show(number, index, place) = self.random_show()? else {
            return None;
        };
        let first = self.random.below(count);
        let place = Place {
            start: Some(start + first),
            count: place.count.min(count - first),
            overwrite: false,
            ..place
        };
        Some(More::Submap(number, index, place))
    }
}
