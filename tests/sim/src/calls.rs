//! The calls that a schedule makes: chosen at random, predicted by the flat model, applied to it.
//!
//! A call has a plan ([`Pending`]): which answer is right, whose bytes it reads and writes, which
//! addresses it looks at and which it changes. A call whose plan is at odds with that of one on its
//! way is not made.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};
use vm_core::call::Message;
use vm_core::effect::Answer;
use vm_core::event::{PortOf, PortRef};

use crate::flat::{self, Bytes, Cell, Mapped, PAGE, Space};
use crate::schedule::{BASE, Sim};

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
}

/// Where a mapping goes and what it is like.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// First page; `None`: anywhere.
    start: Option<u64>,
    count: u64,
    overwrite: bool,
    copy: bool,
    protection: Prot,
    max: Prot,
    inherit: Inherit,
}

/// How a named entry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// vm_allocate.
    Allocate(Place),
    /// vm_deallocate of pages.
    Deallocate(u64, u64),
    /// vm_protect of pages; with `true` the maximum.
    Protect(u64, u64, bool, Prot),
    /// vm_inherit of pages.
    Inherit(u64, u64, Inherit),
    /// vm_behavior_set of pages.
    Behave(u64, u64, u32),
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
    /// mach_make_memory_entry of pages.
    MakeEntry(u64, u64, Prot, Kind),
    /// mach_make_memory_entry of pages of a named entry.
    MakeWindow(u64, u64, u64, Prot, Kind),
    /// vm_map of a named entry from a page on.
    MapEntry(u64, u64, Place),
    /// vm_msync of pages, with flags.
    Msync(u64, u64, u32),
    /// task_create, with inheritance or without.
    Fork(bool),
    /// vm_region at a page.
    Region(u64),
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who made it.
    pub client: usize,
    call: Call,
    /// The answer that is right.
    expect: Result<(), Kern>,
    reads: Vec<Cell>,
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
    fn new(client: usize, call: Call) -> Pending {
        Pending {
            client,
            call,
            expect: Ok(()),
            reads: Vec::new(),
            writes: Vec::new(),
            asks: Vec::new(),
            looks: Vec::new(),
            changes: Vec::new(),
            anywhere: false,
            held: None,
        }
    }

    /// Whether the bytes of a cell are being read.
    #[must_use]
    pub fn reads(&self, name: usize) -> bool {
        has(&self.reads, name)
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

    fn conflicts(&self, other: &Pending) -> bool {
        let cells = |writes: &[Cell], other: &Pending| {
            writes.iter().any(|cell| {
                let name = flat::name(cell);
                other.reads(name) || other.writes(name)
            })
        };
        let moves = |one: &Pending, other: &Pending| one.anywhere && other.concerns(one.client);
        meet(&self.changes, &other.changes)
            || meet(&self.changes, &other.looks)
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

    /// Any call that a client may make now.
    pub fn random(sim: &mut Sim, client: usize) -> Call {
        let (start, count) = sim.random_range(client, Prot::READ);
        let offset = sim.random_offset();
        let address = start * BYTES + offset;
        let size = sim.random_size(count * BYTES - offset);
        match sim.random.below(100) {
            0..14 => Call::Allocate(sim.random_place(false)),
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
                let to = sim.random.pick(&prots).unwrap();
                Call::Protect(start, count, sim.random.once_in(12), to)
            }
            30..35 => {
                let kinds = [Inherit::Share, Inherit::Copy, Inherit::None];
                Call::Inherit(start, count, sim.random.pick(&kinds).unwrap())
            }
            35..36 => Call::Behave(start, count, sim.random.below(4) as u32),
            36..39 => Call::Msync(start, count, sim.random_sync()),
            39..50 => {
                let files = sim.pagers.files.len() as u64;
                let place = sim.random_place(true);
                if files == 0 {
                    return Call::Map(place, None);
                }
                let file = sim.random.below(files) as usize;
                Call::Map(place, Some((file, sim.random.below(10))))
            }
            50..63 => {
                let to = sim.random_target(client, size);
                Call::Copy(address, to, size)
            }
            63..67 => {
                let other = sim.random.below(sim.clients.len() as u64) as usize;
                let to = sim.random_target(other, size);
                match sim.clients[other].alive {
                    true => Call::ReadOverwrite(address, other, to, size),
                    false => Call::Region(start),
                }
            }
            67..74 => Call::CopyIn(address, size, sim.random.once_in(4)),
            74..82 => sim.random_use_of_copy(client, address),
            82..88 => {
                let kinds = [Kind::One, Kind::Share, Kind::Copy, Kind::Create];
                let prots = [Prot::READ, Prot::DEFAULT, Prot::DEFAULT];
                let kind = sim.random.pick(&kinds).unwrap();
                let rights = sim.random.pick(&prots).unwrap();
                match sim.random_entry() {
                    Some(number) if sim.random.once_in(4) => {
                        let (index, count) = (sim.random.below(4), 1 + sim.random.below(3));
                        Call::MakeWindow(number, index, count, rights, kind)
                    }
                    _ => Call::MakeEntry(start, count, rights, kind),
                }
            }
            88..94 => {
                let place = sim.random_place(true);
                match sim.random_entry() {
                    Some(number) => Call::MapEntry(number, sim.random.below(3), place),
                    None => Call::Map(place, None),
                }
            }
            94..98 => {
                let alive = sim.clients.iter().filter(|c| c.alive).count();
                match alive < sim.kind().tasks {
                    true => Call::Fork(!sim.random.once_in(8)),
                    false => Call::Region(start),
                }
            }
            _ => Call::Region(if client == 0 { BASE } else { start }),
        }
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
            Call::Map(place, None) => place.request(0),
            Call::Map(place, Some((_, index))) => place.request(index),
            Call::MapCopy(_, index, place) | Call::MapEntry(_, index, place) => {
                place.request(index)
            }
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
            Call::Fork(inherit) => Request::TaskCreate(vm_map::TaskCreate { inherit }),
            Call::Region(page) => Request::VmRegion(vm_map::VmRegion {
                address: page * BYTES,
            }),
        }
    }

    fn right(&self, sim: &mut Sim) -> PortRef {
        match *self {
            Call::Map(_, Some((file, _))) => {
                let port = sim.pagers.files[file].port;
                sim.world.right_to(port)
            }
            Call::ReadOverwrite(_, other, ..) => PortRef::Own(PortOf::Map(sim.clients[other].map)),
            Call::CopyOut(number, _) | Call::MapCopy(number, ..) | Call::Write(number, ..) => {
                PortRef::Own(sim.held(number).port)
            }
            Call::MapEntry(number, ..) | Call::MakeWindow(number, ..) => {
                PortRef::Own(sim.entry(number).port)
            }
            _ => PortRef::None,
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
        }
    }

    const DEFAULT: Place = Place {
        start: None,
        count: 0,
        overwrite: false,
        copy: false,
        protection: Prot::DEFAULT,
        max: Prot::ALL,
        inherit: Inherit::Copy,
    };
}

fn fresh(count: u64) -> Vec<Cell> {
    (0..count).map(|_| flat::cell(Bytes::Zero)).collect()
}

fn copied(cells: &[Cell]) -> Vec<Cell> {
    cells.iter().map(flat::snapshot).collect()
}

impl Sim {
    /// Any pages.
    fn random_pages(&mut self) -> (u64, u64) {
        let pages = self.kind().pages;
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
            let mapped = self.space(client).get(page);
            mapped.is_some_and(|mapped| mapped.protection.contains(rights))
        };
        let pages = self.kind().pages;
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

    fn random_place(&mut self, any_rights: bool) -> Place {
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

    fn random_use_of_copy(&mut self, client: usize, address: u64) -> Call {
        let place = self.random.below(self.copies.len().max(1) as u64) as usize;
        let Some(held) = self.copies.get(place) else {
            return Call::CopyIn(address, BYTES, false);
        };
        let (number, size) = (held.number, held.size);
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

    fn random_sync(&mut self) -> u32 {
        let how = [vm_map::VM_SYNC_ASYNCHRONOUS, vm_map::VM_SYNC_SYNCHRONOUS];
        let also = [0, 0, vm_map::VM_SYNC_INVALIDATE, vm_map::VM_SYNC_CONTIGUOUS];
        self.random.pick(&how).unwrap() | self.random.pick(&also).unwrap()
    }

    fn random_entry(&mut self) -> Option<u64> {
        let place = self.random.below(self.entries.len().max(1) as u64) as usize;
        self.entries.get(place).map(|entry| entry.number)
    }

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

    /// Makes a call, unless it is at odds with one that is on its way.
    pub fn begin(&mut self, client: usize, call: Call) {
        let plan = self.plan(client, call);
        if self.pending.values().any(|other| plan.conflicts(other)) {
            return;
        }
        let request = call.request(self);
        let right = call.right(self);
        let map = self.clients[client].map;
        let token = self.world.call(map, request, right);
        self.pending.insert(token.0.get(), plan);
    }

    fn plan(&mut self, client: usize, call: Call) -> Pending {
        let mut plan = Pending::new(client, call);
        match call {
            Call::Allocate(place) | Call::Map(place, None) => self.plan_place(&mut plan, place),
            Call::Deallocate(start, count) => plan.changes.push((client, start, count)),
            Call::Inherit(start, count, _) => plan.changes.push((client, start, count)),
            Call::Behave(start, count, _) => {
                plan.expect = self.space(client).check(start, count, |_| true);
                plan.changes.push((client, start, count));
            }
            Call::Protect(start, count, _, to) => {
                plan.expect = self
                    .space(client)
                    .check(start, count, |m| m.max.contains(to));
                plan.changes.push((client, start, count));
            }
            Call::Map(place, Some((file, index))) => {
                let port = self.pagers.files[file].port;
                let dead = self
                    .world
                    .ports
                    .get(&port.0)
                    .is_some_and(|port| port.is_dead());
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
            Call::CopyOut(number, start) => {
                let count = self.held(number).cells.len() as u64;
                plan.held = Some(number);
                let place = Place {
                    start,
                    count,
                    ..Place::DEFAULT
                };
                self.plan_place(&mut plan, place);
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
            Call::Fork(inherit) => {
                if inherit {
                    plan.looks.push((client, 0, u64::MAX / 2));
                    let space = self.space(client);
                    let copies = space.iter().filter(|(_, m)| m.inherit == Inherit::Copy);
                    plan.reads = copies.map(|(_, mapped)| mapped.cell.clone()).collect();
                }
            }
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

    fn plan_place(&self, plan: &mut Pending, place: Place) {
        match place.start {
            None => plan.anywhere = true,
            Some(start) => {
                plan.changes.push((plan.client, start, place.count));
                if !place.overwrite && !self.space(plan.client).is_free(start, place.count) {
                    plan.expect = Err(Kern::NoSpace);
                }
            }
        }
    }

    fn plan_source(&self, plan: &mut Pending, address: u64, size: u64) {
        let (start, count) = pages(address, size);
        let space = self.space(plan.client);
        plan.expect = space.check(start, count, |m| m.protection.contains(Prot::READ));
        plan.looks.push((plan.client, start, count));
        plan.reads = space.cells(start, count);
    }

    fn plan_target(&self, plan: &mut Pending, client: usize, address: u64, size: u64) {
        let (start, count) = pages(address, size);
        let space = self.space(client);
        let check = space.check(start, count, |m| m.protection.contains(Prot::WRITE));
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

    fn plan_entry(
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
                let most = match kind {
                    Kind::One => 1,
                    _ => count,
                };
                // The range ends at a hole; before it, all must allow as much.
                let mapped = (start..start + most).take_while(|page| space.get(*page).is_some());
                let mapped = (mapped.count() as u64).max(1);
                plan.expect = space.check(start, mapped, |m| m.max.contains(protection));
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
            Some(_) if !entry.protection.contains(protection) => {
                plan.expect = Err(Kern::ProtectionFailure);
            }
            Some(window) => plan.reads = window.to_vec(),
        }
    }

    // Answers.

    /// An answer: is it right, and what has changed?
    pub fn apply(&mut self, plan: Pending, answer: Answer) {
        let name = plan.call.request(self).name();
        self.count(name, answer.map(|_| ()));
        match (plan.expect, answer) {
            (Ok(()), Ok(reply)) => {
                let Message::Map(message) = reply.message else {
                    panic!("{:?} is answered {reply:?}", plan.call);
                };
                self.done(&plan, message, reply.right);
            }
            (Err(expected), Err(code)) if expected == code => {}
            (_, Err(code)) => {
                let failed = code == Kern::MemoryError
                    && [&plan.reads, &plan.writes, &plan.asks]
                        .into_iter()
                        .flatten()
                        .any(|cell| self.may_fail(cell));
                let ended = matches!(plan.call, Call::ReadOverwrite(_, other, ..)
                    if !self.clients[other].alive);
                let short = code == Kern::ResourceShortage && self.kind().pressure;
                assert!(
                    failed || ended || short,
                    "client {}: {:?} is answered {code:?}, not {:?}",
                    plan.client,
                    plan.call,
                    plan.expect
                );
                // A part may have been written.
                for cell in &plan.writes {
                    cell.borrow_mut().lost = true;
                }
            }
            (Err(expected), Ok(_)) => panic!(
                "client {}: {:?} succeeds instead of {expected:?}",
                plan.client, plan.call
            ),
        }
    }

    fn done(&mut self, plan: &Pending, reply: vm_map::Reply, right: Option<PortOf>) {
        let client = plan.client;
        match (plan.call, reply) {
            (Call::Allocate(place), vm_map::Reply::VmAllocate(reply)) => {
                self.map(plan, (place, reply.address), fresh(place.count));
            }
            (Call::Deallocate(start, count), _) => {
                self.clients[client].space.unmap(start, count);
            }
            (Call::Protect(start, count, set_maximum, to), _) => {
                let space = &mut self.clients[client].space;
                assert!(space.protect(start, count, set_maximum, to));
            }
            (Call::Inherit(start, count, to), _) => {
                self.clients[client].space.inherit(start, count, to);
            }
            (Call::Behave(..) | Call::Msync(..), _) => {}
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
                let number = self.held_number();
                self.copies.push(Held {
                    number,
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
                    _ => self.space(client).cells(start, size),
                };
                assert_eq!(cells.len() as u64, size, "the entry has a hole");
                let number = self.held_number();
                self.entries.push(Entry {
                    number,
                    port: right.unwrap(),
                    cells,
                    protection,
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
                let number = self.held_number();
                self.entries.push(Entry {
                    number,
                    port: right.unwrap(),
                    cells,
                    protection,
                });
            }
            (Call::Fork(inherit), vm_map::Reply::TaskCreate(_)) => {
                let Some(PortOf::Map(map)) = right else {
                    panic!("a task has a map");
                };
                let space = match inherit {
                    true => self.space(client).fork(),
                    false => Space::default(),
                };
                self.add_client(map, space);
            }
            (Call::Region(page), vm_map::Reply::VmRegion(reply)) => {
                self.compare_region(client, page, &reply);
            }
            (call, reply) => panic!("{call:?} is answered {reply:?}"),
        }
    }

    fn map(&mut self, plan: &Pending, (place, address): (Place, u64), cells: Vec<Cell>) {
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
