//! Remapping with the rights that are asked for, proxies, entries of whatever rights there are, and
//! tasks that are swapped out.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{copy, vm_advice, vm_share};
use vm_core::event::{NO_RIGHTS, PortOf, PortRef, Token};

use super::choose::Choice;
use super::{BYTES, Call, Entry, Pending, Place};
use crate::flat::Cell;
use crate::schedule::Sim;

const fn bits(protection: Prot) -> u32 {
    protection.bits() as u32
}

fn share(request: vm_share::Request) -> Request {
    Request::Share(request)
}

pub(crate) const fn swapout() -> Request {
    Request::Advice(vm_advice::Request::VmSwapout(vm_advice::VmSwapout {}))
}

pub(super) fn remap_new(source: u64, place: Place) -> Request {
    share(vm_share::Request::VmRemapNew(vm_share::VmRemapNew {
        address: place.start.unwrap_or(0) * BYTES,
        size: place.count * BYTES,
        mask: 0,
        flags: place.flags(),
        source: source * BYTES,
        copy: place.copy,
        protection: bits(place.protection),
        max_protection: bits(place.max),
        inheritance: place.inherit as u32,
    }))
}

pub(super) fn proxy(start: u64, count: u64, protection: Prot) -> Request {
    share(vm_share::Request::MemoryObjectCreateProxy(
        vm_share::MemoryObjectCreateProxy {
            max_protection: bits(protection),
            count: 1,
            offset: 0,
            start: start * BYTES,
            length: count * BYTES,
        },
    ))
}

pub(super) fn region_proxy(page: u64, count: u64, protection: Prot) -> Request {
    share(vm_share::Request::VmRegionCreateProxy(
        vm_share::VmRegionCreateProxy {
            address: page * BYTES,
            max_protection: bits(protection),
            length: count * BYTES,
        },
    ))
}

pub(super) fn make_masked(start: u64, count: u64, protection: Prot) -> Request {
    Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size: count * BYTES,
        offset: start * BYTES,
        permission: bits(protection) | vm_map::VM_PROT_IS_MASK | vm_map::MAP_MEM_VM_SHARE,
    })
}

impl Sim {
    /// The right of one of these calls.
    pub(super) fn handle(&mut self, call: &Call) -> PortRef {
        match *call {
            Call::RemapNew(other, ..) => PortRef::Own(PortOf::Map(self.clients[other].map)),
            Call::Proxy(number, ..) => PortRef::Own(self.entry(number).port),
            Call::ProxyFile(file, ..) => {
                let port = self.pagers.files[file].port;
                self.world.right_to(port)
            }
            _ => PortRef::None,
        }
    }

    pub(super) fn plan_remap_new(
        &self,
        plan: &mut Pending,
        (other, source): (usize, u64),
        place: Place,
    ) {
        self.plan_place(plan, place);
        let space = self.space(other);
        let there = space.check(source, place.count, |m| match place.copy {
            true => m.most().contains(Prot::READ),
            false => m.rights().contains(place.protection) && m.most().contains(place.max),
        });
        plan.expect = there.and(plan.expect);
        plan.looks.push((other, source, place.count));
        plan.reads = space.cells(source, place.count);
    }

    pub(super) fn plan_proxy(&self, plan: &mut Pending, number: u64, start: u64) {
        plan.held = Some(number);
        if start >= self.entry(number).cells.len() as u64 {
            plan.expect = Err(Kern::InvalidArgument);
        }
    }

    pub(super) fn plan_proxy_of_file(&self, plan: &mut Pending, file: usize) {
        let port = self.pagers.files[file].port;
        if self.world.is_dead(port) {
            plan.expect = Err(Kern::InvalidName);
        }
    }

    pub(super) fn plan_region_proxy(&self, plan: &mut Pending, page: u64, count: u64) {
        let client = plan.client;
        plan.looks.push((client, 0, u64::MAX / 2));
        let space = self.space(client);
        let mut above = space.iter().filter(|(at, _)| *at >= page);
        plan.expect = match above.next() {
            None => Err(Kern::NoSpace),
            Some((_, mapped)) if mapped.shown.is_some() => Err(Kern::InvalidArgument),
            Some((at, _)) if !space.is_full(at, count) => Err(Kern::InvalidArgument),
            // Where the map entry ends the flat model does not know.
            Some(_) => {
                plan.tolerate = Some(Kern::InvalidArgument);
                Ok(())
            }
        };
    }

    /// What of the rights asked for all of a range may have.
    fn masked(&self, client: usize, start: u64, count: u64, asked: Prot) -> Prot {
        let space = self.space(client);
        let pages = (start..start + count).filter_map(|page| space.get(page));
        pages.fold(asked, |rights, mapped| rights & mapped.most())
    }

    pub(super) fn plan_masked(&self, plan: &mut Pending, (start, count): (u64, u64), asked: Prot) {
        let client = plan.client;
        plan.looks.push((client, start, count));
        if !self.space(client).is_full(start, count) {
            plan.expect = Err(Kern::InvalidAddress);
        } else if self.masked(client, start, count, asked).is_empty() {
            plan.expect = Err(Kern::ProtectionFailure);
        }
    }

    /// One of these calls has given a named entry.
    pub(super) fn made_handle(&mut self, plan: &Pending, reply: vm_map::Reply, port: PortOf) {
        let client = plan.client;
        let mut file_cells = |file: usize, start: u64, count: u64| -> Vec<Cell> {
            let pages = start..start + count;
            pages.map(|index| self.file_cell(file, index)).collect()
        };
        let (cells, protection, whole) = match (plan.call, reply) {
            (Call::ProxyFile(file, start, count, rights), _) => {
                (file_cells(file, start, count), rights, false)
            }
            (Call::Proxy(number, start, count, rights), _) => {
                let below = self.entry(number);
                let end = below.cells.len().min((start + count) as usize);
                let cells = below.cells[start as usize..end].to_vec();
                (cells, rights & below.protection, below.whole)
            }
            (
                Call::RegionProxy(page, count, rights),
                vm_map::Reply::Share(vm_share::Reply::VmRegionCreateProxy(reply)),
            ) => {
                let space = self.space(client);
                let start = reply.address / BYTES;
                let next = space.iter().map(|(at, _)| at).find(|at| *at >= page);
                assert_eq!(next, Some(start), "{:?}", plan.call);
                let most = space.get(start).map_or(Prot::NONE, |mapped| mapped.max);
                (
                    self.shared_cells(client, start, count),
                    rights & most,
                    false,
                )
            }
            (Call::MakeMasked(start, count, asked), vm_map::Reply::MachMakeMemoryEntry(reply)) => {
                assert_eq!(reply.size, count * BYTES);
                let rights = self.masked(client, start, count, asked);
                (self.shared_cells(client, start, count), rights, true)
            }
            (call, reply) => panic!("{call:?} is answered {reply:?}"),
        };
        self.entries.push(Entry {
            number: plan.name,
            port,
            cells,
            protection,
            whole,
        });
    }
}

impl Choice<'_> {
    /// One of these calls, about a range of the client's.
    pub(super) fn random_handle(&mut self, start: u64, count: u64) -> Call {
        let rights = [Prot::READ, Prot::DEFAULT, Prot::DEFAULT, Prot::ALL];
        let rights = self.random.pick(&rights).unwrap();
        let files = self.sim.pagers.mapped as u64;
        match self.random.below(6) {
            0 => Call::Swapout,
            1 => Call::MakeMasked(start, count, rights),
            2 => Call::RegionProxy(start, 1 + self.random.below(count), rights),
            3 if files > 0 => {
                let file = self.random.below(files) as usize;
                Call::ProxyFile(file, self.random.below(8), count, rights)
            }
            4 if let Some(number) = self.random_entry() => Call::Proxy(
                number,
                self.random.below(3),
                1 + self.random.below(4),
                rights,
            ),
            _ => match self.random_remap() {
                Call::Remap(other, source, place) => Call::RemapNew(other, source, place),
                call => call,
            },
        }
    }
}

/// copy_settle, which goes to the port of the copy.
pub(super) fn settle(sim: &mut Sim, number: u64, timeout: u64) -> Token {
    let PortOf::Copy(of) = sim.held(number).port else {
        panic!("copy {number} has another port");
    };
    let request = copy::Request::CopySettle(copy::CopySettle { timeout });
    sim.world
        .request(vm_core::call::Call::Copy(of, request), NO_RIGHTS)
}
