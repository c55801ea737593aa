//! The calls that a schedule makes: chosen at random, predicted by the flat model, applied to it.
//!
//! A call has a plan ([`Pending`]): which answer is right, whose bytes it reads and writes, which
//! addresses it looks at and which it changes. A call whose plan is at odds with that of one on its
//! way is not made.

mod answer;
mod choose;
mod handles;
mod more;
mod plan;
mod shared_map;

pub(crate) use choose::Choice;
pub(crate) use handles::swapout;
pub use more::More;
pub use shared_map::Library;

use serde::{Deserialize, Serialize};

use ipc_abi::Kern;
use ipc_abi::types::{Advice, Inherit, MapFlags, Prot, purgeable};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{vm_advice, vm_share, vm_wire};
use vm_core::event::{PortOf, PortRef};

use crate::flat::{self, Bytes, Cell, Mapped, PAGE, Space};
use crate::schedule::{HOST, Sim};

const BYTES: u64 = PAGE as u64;

/// A copy that somebody has a right to.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its number in this run.
    pub number: u64,
    /// Its port.
    pub port: PortOf,
    /// Its pages.
    pub cells: Vec<Cell>,
    /// Place of the first byte in its page.
    pub offset: usize,
    /// Bytes.
    pub size: u64,
}

/// A named entry that somebody has a right to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in this run.
    pub number: u64,
    /// Its port.
    pub port: PortOf,
    /// Its pages.
    pub cells: Vec<Cell>,
    /// The most that a mapping may allow.
    pub protection: Prot,
    /// It is a snapshot or a share of a range: no window of it can be made.
    pub whole: bool,
}

/// Where a mapping goes and what it is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// First page; `None`: anywhere.
    start: Option<u64>,
    count: u64,
    overwrite: bool,
    /// The memory may be made volatile.
    purgeable: bool,
    /// The mapping is never replaced, and never goes.
    permanent: bool,
    copy: bool,
    #[serde(with = "crate::numbers::prot")]
    protection: Prot,
    #[serde(with = "crate::numbers::prot")]
    max: Prot,
    #[serde(with = "crate::numbers::inherit")]
    inherit: Inherit,
}

impl Default for Place {
    fn default() -> Place {
        Place::DEFAULT
    }
}

/// How a named entry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Of one map entry.
    One,
    /// Of a range.
    Share,
    /// Of a snapshot of a range.
    Copy,
    /// Of fresh memory.
    Create,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// vm_allocate.
    Allocate(Place),
    /// vm_deallocate of pages.
    Deallocate(u64, u64),
    /// vm_protect of pages; with `true` the maximum.
    Protect(u64, u64, bool, #[serde(with = "crate::numbers::prot")] Prot),
    /// vm_protect of pages, which become the map's own; with `true` the maximum.
    ProtectCopy(u64, u64, bool, #[serde(with = "crate::numbers::prot")] Prot),
    /// vm_inherit of pages.
    Inherit(u64, u64, #[serde(with = "crate::numbers::inherit")] Inherit),
    /// vm_behavior_set of pages.
    Behave(u64, u64, u32),
    /// vm_purgable_control of what is at a page: control, state.
    Purge(u64, u32, u32),
    /// vm_wire of pages for an access; for none: unwire.
    Wire(u64, u64, #[serde(with = "crate::numbers::prot")] Prot),
    /// vm_wire_all with flags.
    WireAll(u32),
    /// vm_remap of another client's pages from one on.
    Remap(usize, u64, Place),
    /// vm_remap_new of another client's pages from one on.
    RemapNew(usize, u64, Place),
    /// vm_swapout.
    Swapout,
    /// memory_object_create_proxy of pages of a named entry.
    Proxy(u64, u64, u64, #[serde(with = "crate::numbers::prot")] Prot),
    /// memory_object_create_proxy of pages of a pager's object.
    ProxyFile(
        usize,
        u64,
        u64,
        #[serde(with = "crate::numbers::prot")] Prot,
    ),
    /// vm_region_create_proxy of pages from one on.
    RegionProxy(u64, u64, #[serde(with = "crate::numbers::prot")] Prot),
    /// mach_make_memory_entry of pages that share them, with what rights there are.
    MakeMasked(u64, u64, #[serde(with = "crate::numbers::prot")] Prot),
    /// vm_map of a pager's object from a page on, or of anonymous memory.
    Map(Place, Option<(usize, u64)>),
    /// vm_copy: from, to, size in bytes.
    Copy(u64, u64, u64),
    /// vm_read_overwrite to another client.
    ReadOverwrite(u64, usize, u64, u64),
    /// vm_copyin: address, size, destroy.
    CopyIn(u64, u64, bool),
    /// vm_copyout of a copy to a page.
    CopyOut(u64, Option<u64>),
    /// vm_map of a copy from a page on.
    MapCopy(u64, u64, Place),
    /// vm_write of a copy: address, size.
    Write(u64, u64, u64),
    /// copy_settle of a copy, in so many nanoseconds.
    Settle(u64, u64),
    /// mach_make_memory_entry of pages.
    MakeEntry(u64, u64, #[serde(with = "crate::numbers::prot")] Prot, Kind),
    /// mach_make_memory_entry of pages of a named entry.
    MakeWindow(
        u64,
        u64,
        u64,
        #[serde(with = "crate::numbers::prot")] Prot,
        Kind,
    ),
    /// vm_map of a named entry from a page on.
    MapEntry(u64, u64, Place),
    /// vm_msync of pages, with flags.
    Msync(u64, u64, u32),
    /// task_create, with inheritance or without, and the name of the task.
    Fork(bool, usize),
    /// vm_region at a page.
    Region(u64),
    /// vm_map_create, and the name of the map, which is like a task's.
    MakeMap(usize),
    /// vm_map_seal, with the most that mappings may allow.
    Seal(#[serde(with = "crate::numbers::prot")] Prot),
    /// vm_map of a sealed map from a page on.
    Show(u64, u64, Place),
    /// Others.
    More(More),
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who made it.
    pub client: usize,
    call: Call,
    /// The name of what it makes.
    name: u64,
    /// The answer that is right.
    expect: Result<(), Kern>,
    /// A refusal that is as good, because it depends on what the flat model does not know.
    tolerate: Option<Kern>,
    /// Who came later changes what it looks at, and may have been first.
    overtaken: bool,
    reads: Vec<Cell>,
    /// Rights of the pages that it reads, now and at most, if it passes them on.
    rights: Vec<(Prot, Prot)>,
    writes: Vec<Cell>,
    /// Pages whose pagers have something to do with it.
    asks: Vec<Cell>,
    /// Addresses that it looks at: client, first page, pages.
    looks: Vec<(usize, u64, u64)>,
    /// Addresses that it changes.
    changes: Vec<(usize, u64, u64)>,
    /// It changes addresses that the server chooses.
    anywhere: bool,
    /// Copies and entries that it uses.
    held: Option<u64>,
    /// Pages of sealed maps that it looks at or changes.
    shown: usize,
    /// Permanent pages are in its way: if there is no space, they lose their rights.
    bars: bool,
}

fn has(cells: &[Cell], name: usize) -> bool {
    cells.iter().any(|cell| flat::name(cell) == name)
}

fn meet(some: &[(usize, u64, u64)], others: &[(usize, u64, u64)]) -> bool {
    some.iter().any(|one| {
        others
            .iter()
            .any(|other| one.0 == other.0 && one.1 < other.1 + other.2 && other.1 < one.1 + one.2)
    })
}

impl Pending {
    const fn new(client: usize, name: u64, call: Call) -> Pending {
        Pending {
            client,
            call,
            name,
            expect: Ok(()),
            tolerate: None,
            overtaken: false,
            reads: Vec::new(),
            rights: Vec::new(),
            writes: Vec::new(),
            asks: Vec::new(),
            looks: Vec::new(),
            changes: Vec::new(),
            anywhere: false,
            held: None,
            shown: 0,
            bars: false,
        }
    }

    /// Whether the bytes of a cell are being read.
    #[must_use]
    pub fn reads(&self, name: usize) -> bool {
        has(&self.reads, name)
    }

    /// The cells whose bytes are being read.
    #[must_use]
    pub fn sources(&self) -> &[Cell] {
        &self.reads
    }

    /// Whether the bytes of a cell are being written.
    #[must_use]
    pub fn writes(&self, name: usize) -> bool {
        has(&self.writes, name)
    }

    /// Whether what is mapped at a page is being changed.
    #[must_use]
    pub fn covers(&self, client: usize, page: u64) -> bool {
        meet(&self.changes, &[(client, page, 1)])
    }

    /// Whether it may map something at any free page of a client.
    #[must_use]
    pub const fn is_anywhere(&self, client: usize) -> bool {
        self.anywhere && self.client == client
    }

    /// Whether it uses a copy or an entry.
    #[must_use]
    pub fn uses(&self, number: u64) -> bool {
        self.held == Some(number)
    }

    /// Whether it has to do with a client.
    #[must_use]
    pub fn concerns(&self, client: usize) -> bool {
        let of = |ranges: &[(usize, u64, u64)]| ranges.iter().any(|range| range.0 == client);
        self.client == client || of(&self.looks) || of(&self.changes)
    }

    /// Whether it leaves nothing uncertain in anybody else's memory if its task ends meanwhile.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        self.writes.is_empty()
    }

    /// Nobody knows any more what it writes.
    pub fn lose(&self) {
        for cell in &self.writes {
            cell.borrow_mut().lost = true;
        }
    }

    /// What it writes may be given up, from now on.
    fn give_up(&self) {
        for cell in &self.writes {
            cell.borrow_mut().give_up();
        }
    }

    /// Whether a copy is written over memory that was mapped from it: where the bytes read are the
    /// bytes written, no order is promised. Or whether a range is mapped over itself.
    fn eats_itself(&self) -> bool {
        let written = |cell: &Cell| self.writes(flat::name(cell));
        let over = matches!(self.call, Call::Remap(..) | Call::RemapNew(..))
            && meet(&self.looks, &self.changes);
        over || matches!(self.call, Call::Write(..)) && self.reads.iter().any(written)
    }

    /// Whether who changes what it looks at waits for it to end.
    const fn is_waited_for(&self) -> bool {
        matches!(self.call, Call::Wire(..) | Call::WireAll(_))
    }

    fn conflicts(&self, other: &Pending) -> bool {
        let cells = |writes: &[Cell], other: &Pending| {
            writes.iter().any(|cell| {
                let name = flat::name(cell);
                other.reads(name) || other.writes(name)
            })
        };
        let moves = |one: &Pending, other: &Pending| one.anywhere && other.concerns(one.client);
        meet(&self.changes, &other.changes)
            || !other.is_waited_for() && meet(&self.changes, &other.looks)
            || meet(&self.looks, &other.changes)
            || cells(&self.writes, other)
            || cells(&other.writes, self)
            || moves(self, other)
            || moves(other, self)
            || self.held.is_some() && self.held == other.held
    }
}

fn pages(address: u64, size: u64) -> (u64, u64) {
    let first = address / BYTES;
    (first, (address + size).div_ceil(BYTES) - first)
}

impl Call {
    /// vm_allocate of pages at a page.
    #[must_use]
    pub const fn allocate_at(start: u64, count: u64) -> Call {
        Call::Allocate(Place {
            start: Some(start),
            count,
            ..Place::DEFAULT
        })
    }

    /// vm_map of a pager's object at a page.
    #[must_use]
    pub const fn map_at(start: u64, count: u64, from: (usize, u64)) -> Call {
        let place = Place {
            start: Some(start),
            count,
            ..Place::DEFAULT
        };
        Call::Map(place, Some(from))
    }

    fn request(&self, sim: &Sim) -> Request {
        match *self {
            Call::Allocate(place) => Request::VmAllocate(vm_map::VmAllocate {
                address: place.start.unwrap_or(7) * BYTES,
                size: place.count * BYTES,
                flags: place.flags(),
            }),
            Call::Deallocate(start, count) => Request::VmDeallocate(vm_map::VmDeallocate {
                address: start * BYTES,
                size: count * BYTES,
            }),
            Call::Protect(start, count, set_maximum, to) => Request::VmProtect(vm_map::VmProtect {
                address: start * BYTES,
                size: count * BYTES,
                set_maximum,
                protection: u32::from(to.bits()),
            }),
            Call::ProtectCopy(start, count, set_maximum, to) => {
                Request::VmProtect(vm_map::VmProtect {
                    address: start * BYTES,
                    size: count * BYTES,
                    set_maximum,
                    protection: u32::from(to.bits()) | vm_map::VM_PROT_COPY,
                })
            }
            Call::Inherit(start, count, to) => Request::VmInherit(vm_map::VmInherit {
                address: start * BYTES,
                size: count * BYTES,
                inheritance: to as u32,
            }),
            Call::Behave(start, count, behavior) => Request::VmBehaviorSet(vm_map::VmBehaviorSet {
                address: start * BYTES,
                size: count * BYTES,
                behavior,
            }),
            Call::Purge(page, control, state) => Request::Advice(
                vm_advice::Request::VmPurgableControl(vm_advice::VmPurgableControl {
                    address: page * BYTES,
                    control,
                    state,
                }),
            ),
            Call::Wire(start, count, access) => {
                Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
                    address: start * BYTES,
                    size: count * BYTES,
                    access: u32::from(access.bits()),
                }))
            }
            Call::WireAll(flags) => {
                Request::Wire(vm_wire::Request::VmWireAll(vm_wire::VmWireAll { flags }))
            }
            Call::Remap(_, source, place) => {
                Request::Share(vm_share::Request::VmRemap(vm_share::VmRemap {
                    address: place.start.unwrap_or(0) * BYTES,
                    size: place.count * BYTES,
                    mask: 0,
                    flags: place.flags(),
                    source: source * BYTES,
                    copy: place.copy,
                    inheritance: place.inherit as u32,
                }))
            }
            Call::Map(place, None) => place.request(0),
            Call::Map(place, Some((_, index))) => place.request(index),
            Call::MapCopy(_, index, place)
            | Call::MapEntry(_, index, place)
            | Call::Show(_, index, place) => place.request(index),
            Call::Copy(source, destination, size) => Request::VmCopy(vm_map::VmCopy {
                source,
                size,
                destination,
            }),
            Call::ReadOverwrite(address, _, data, size) => {
                Request::VmReadOverwrite(vm_map::VmReadOverwrite {
                    address,
                    size,
                    data,
                })
            }
            Call::CopyIn(address, size, src_destroy) => Request::VmCopyin(vm_map::VmCopyin {
                address,
                size,
                src_destroy,
            }),
            Call::CopyOut(number, start) => Request::VmCopyout(vm_map::VmCopyout {
                address: start.map_or(0, |start| start * BYTES + sim.held(number).offset as u64),
                flags: anywhere(start).bits(),
            }),
            Call::Write(_, address, size) => Request::VmWrite(vm_map::VmWrite { address, size }),
            Call::MakeEntry(start, count, protection, kind)
            | Call::MakeWindow(_, start, count, protection, kind) => {
                let flags = match kind {
                    Kind::One => 0,
                    Kind::Share => vm_map::MAP_MEM_VM_SHARE,
                    Kind::Copy => vm_map::MAP_MEM_VM_COPY,
                    Kind::Create => vm_map::MAP_MEM_NAMED_CREATE,
                };
                Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
                    size: count * BYTES,
                    offset: start * BYTES,
                    permission: u32::from(protection.bits()) | flags,
                })
            }
            Call::Msync(start, count, flags) => Request::VmMsync(vm_map::VmMsync {
                address: start * BYTES,
                size: count * BYTES,
                flags,
            }),
            Call::Fork(inherit, _) => Request::TaskCreate(vm_map::TaskCreate { inherit }),
            Call::Region(page) => Request::VmRegion(vm_map::VmRegion::basic(page * BYTES)),
            Call::RemapNew(_, source, place) => handles::remap_new(source, place),
            // What is said to a copy's port is no request to a map.
            Call::Swapout | Call::Settle(..) => swapout(),
            Call::Proxy(_, start, count, to) | Call::ProxyFile(_, start, count, to) => {
                handles::proxy(start, count, to)
            }
            Call::RegionProxy(page, count, to) => handles::region_proxy(page, count, to),
            Call::MakeMasked(start, count, to) => handles::make_masked(start, count, to),
            Call::MakeMap(_) => shared_map::make_map(),
            Call::Seal(protection) => shared_map::seal(protection),
            Call::More(more) => more.request(),
        }
    }

    fn right(&self, sim: &mut Sim) -> PortRef {
        match *self {
            Call::Map(_, Some((file, _))) => {
                let port = sim.pagers.files[file].port;
                sim.world.right_to(port)
            }
            Call::Wire(..) | Call::WireAll(_) => sim.world.right_to(HOST),
            Call::Remap(other, ..) | Call::ReadOverwrite(_, other, ..) => {
                PortRef::Own(PortOf::Map(sim.clients[other].map))
            }
            Call::CopyOut(number, _) | Call::MapCopy(number, ..) | Call::Write(number, ..) => {
                PortRef::Own(sim.held(number).port)
            }
            Call::MapEntry(number, ..) | Call::MakeWindow(number, ..) => {
                PortRef::Own(sim.entry(number).port)
            }
            Call::Show(number, ..) => PortRef::Own(sim.library(number).port),
            Call::More(more) => more.right(sim),
            call => sim.handle(&call),
        }
    }
}

const fn anywhere(start: Option<u64>) -> MapFlags {
    match start {
        None => MapFlags::ANYWHERE,
        Some(_) => MapFlags::empty(),
    }
}

impl Place {
    fn flags(&self) -> u32 {
        let mut flags = anywhere(self.start);
        flags.set(MapFlags::OVERWRITE, self.overwrite);
        flags.set(MapFlags::PURGABLE, self.purgeable);
        flags.set(MapFlags::PERMANENT, self.permanent);
        flags.bits()
    }

    fn request(&self, index: u64) -> Request {
        Request::VmMap(vm_map::VmMap {
            address: self.start.unwrap_or(0) * BYTES,
            size: self.count * BYTES,
            mask: 0,
            flags: self.flags(),
            offset: index * BYTES,
            copy: self.copy,
            protection: u32::from(self.protection.bits()),
            max_protection: u32::from(self.max.bits()),
            inheritance: self.inherit as u32,
        })
    }

    fn like(&self) -> Mapped {
        Mapped {
            cell: flat::cell(Bytes::Zero),
            protection: self.protection,
            max: self.max,
            inherit: self.inherit,
            shown: None,
            permanent: self.permanent,
        }
    }

    const DEFAULT: Place = Place {
        start: None,
        count: 0,
        overwrite: false,
        purgeable: false,
        permanent: false,
        copy: false,
        protection: Prot::DEFAULT,
        max: Prot::ALL,
        inherit: Inherit::Copy,
    };
}

impl Sim {
    fn held(&self, number: u64) -> &Held {
        let mut copies = self.copies.iter();
        copies.find(|held| held.number == number).unwrap()
    }

    fn entry(&self, number: u64) -> &Entry {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.number == number).unwrap()
    }

    fn space(&self, client: usize) -> &Space {
        &self.clients[client].space
    }

    /// Whether everything that a call names is there.
    fn makes_sense(&self, call: &Call) -> bool {
        let copy = |number: u64| self.copies.iter().any(|held| held.number == number);
        let entry = |number: u64| self.entries.iter().any(|entry| entry.number == number);
        match *call {
            Call::Map(_, Some((file, _))) | Call::ProxyFile(file, ..) => file < self.pagers.mapped,
            Call::Remap(other, ..)
            | Call::RemapNew(other, ..)
            | Call::ReadOverwrite(_, other, ..) => self.is_alive(other),
            Call::CopyOut(number, _)
            | Call::MapCopy(number, ..)
            | Call::Settle(number, _)
            | Call::Write(number, ..) => copy(number),
            Call::MapEntry(number, ..) | Call::MakeWindow(number, ..) | Call::Proxy(number, ..) => {
                entry(number)
            }
            Call::Fork(_, child) | Call::MakeMap(child) => {
                let making = |other: &Pending| matches!(other.call, Call::Fork(_, name) | Call::MakeMap(name) if name == child);
                !self.is_alive(child) && !self.pending.values().any(making)
            }
            _ => true,
        }
    }

    /// Makes a call, unless it is at odds with one that is on its way.
    pub fn begin(&mut self, client: usize, name: u64, call: Call) {
        if !self.is_alive(client)
            || !self.makes_sense(&call)
            || !self.suits_sealed_maps(client, &call)
        {
            return;
        }
        let mut plan = self.plan(client, name, call);
        plan.shown = self.count_shown(&plan);
        if self.pending.values().any(|other| plan.conflicts(other)) || plan.eats_itself() {
            return;
        }
        let token = match call {
            Call::Settle(number, timeout) => handles::settle(self, number, timeout),
            call => {
                let request = call.request(self);
                let right = call.right(self);
                let map = self.clients[client].map;
                self.world.call(map, request, right)
            }
        };
        for other in self.pending.values_mut() {
            other.overtaken |= meet(&plan.changes, &other.looks);
        }
        if let Call::Show(number, _, place) | Call::More(More::Submap(number, _, place)) = call {
            self.will_show(number, place);
        }
        if let Call::Purge(page, purgeable::SET_STATE, _) = call
            && plan.expect.is_ok()
        {
            self.set_volatile(client, page, |content| content.volatile = true);
        }
        if let Call::WireAll(flags) = call
            && flags & vm_wire::VM_WIRE_FUTURE != 0
        {
            self.clients[client].wires = true;
        }
        if let Call::Behave(_, _, how) = call
            && (how == Advice::Free as u32 || how == Advice::Reusable as u32)
        {
            plan.give_up();
        }
        if let Call::Behave(_, _, how) = call
            && how == Advice::ZeroWiredPages as u32
        {
            // Whenever it is wired and then unmapped, whoever does that.
            plan.asks
                .iter()
                .for_each(|cell| cell.borrow_mut().volatile = true);
        }
        if let Call::Msync(_, _, flags) = call
            && flags & vm_map::VM_SYNC_KILLPAGES != 0
        {
            plan.give_up();
        }
        self.pending.insert(token.0.get(), plan);
    }
}
