//! Maps against a flat model: each page's attributes in an array, each call in a line.

extern crate std;

use core::num::NonZeroU64;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Message, Reply};
use crate::effect::{Effect, Effects};
use crate::event::{Event, Fault, MapId, NO_RIGHTS, PortOf, Rights, Time, Token};
use crate::machine::{Machine, Pass, Revoke, Seen};
use crate::map::Map;
use crate::object::page::Frame;
use crate::{Config, Core, Turn};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const MIN: u64 = 16 * PAGE;
const PAGES: u64 = 256;
pub(crate) const MAX: u64 = MIN + PAGES * PAGE;

/// A machine that remembers what was revoked.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) revoked: Vec<Revoke>,
    frames: BTreeMap<u32, Vec<u8>>,
}

impl Witness {
    fn frame(&mut self, frame: Frame) -> &mut Vec<u8> {
        let dirt = || vec![0xAA; PAGE as usize];
        self.frames.entry(frame.0).or_insert_with(dirt)
    }
}

impl Machine for Witness {
    fn zero(&mut self, frame: Frame) {
        self.frame(frame).fill(0);
    }
    fn copy(&mut self, from: Frame, to: Frame) {
        let bytes = self.frame(from).clone();
        *self.frame(to) = bytes;
    }
    fn load(&mut self, frame: Frame, offset: usize, bytes: &mut [u8]) {
        let end = offset + bytes.len();
        bytes.copy_from_slice(&self.frame(frame)[offset..end]);
    }
    fn store(&mut self, frame: Frame, offset: usize, bytes: &[u8]) {
        self.frame(frame)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), count: usize) {
        let bytes = self.frame(from.0)[from.1..from.1 + count].to_vec();
        self.store(to.0, to.1, &bytes);
    }
    fn is_zero(&mut self, frame: Frame) -> bool {
        self.frame(frame).iter().all(|byte| *byte == 0)
    }
    fn revoke(&mut self, elements: &[Revoke]) -> Seen {
        self.revoked.extend_from_slice(elements);
        Seen::default()
    }
    fn pass(&mut self, pages: &Pass<'_>) -> bool {
        self.revoked.push(Revoke::Range {
            map: pages.map,
            epoch: pages.epoch,
            start: pages.address,
            end: pages.address + PAGE * pages.frames.len() as u64,
            keep: Prot::NONE,
        });
        true
    }
}

/// A core with one map, or more once it forks. Each access is a fault: there are no translations.
pub(crate) struct Bench {
    pub(crate) core: Core,
    pub(crate) machine: Witness,
    pub(crate) map: MapId,
    /// Steps that the last call took after its event.
    pub(crate) steps: u32,
    tokens: u64,
}

pub(crate) type Said = Result<vm_map::Reply, Kern>;

impl Bench {
    pub(crate) fn new(min: u64, max: u64) -> Bench {
        let mut core = Core::new(Config::for_frames(4096)).unwrap();
        let map = core.maps.insert(Map::new(min, max)).unwrap();
        let mut bench = Bench {
            core,
            machine: Witness::default(),
            map,
            steps: 0,
            tokens: 1,
        };
        bench.handle(Event::AddFrames {
            first: 16,
            count: 4000,
        });
        bench
    }

    /// One event; what it said.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Effects::new().unwrap();
        let mut turn = Turn {
            now: Time(0),
            machine: &mut self.machine,
            effects: &mut effects,
        };
        self.core.handle(event, &mut turn);
        effects.as_slice().to_vec()
    }

    /// All work that is left for steps.
    pub(crate) fn settle(&mut self) {
        while self.core.wants_step() {
            self.handle(Event::Step);
            self.check();
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(NonZeroU64::new(self.tokens).unwrap())
    }

    /// A call, with the steps that it takes.
    pub(crate) fn ask(&mut self, request: Request, rights: Rights) -> Result<Reply, Kern> {
        self.ask_on(Call::Map(self.map, request), rights)
    }

    /// A call on a map's read-only port.
    pub(crate) fn ask_read(&mut self, map: MapId, request: Request) -> Result<Reply, Kern> {
        self.ask_on(Call::MapRead(map, request), NO_RIGHTS)
    }

    /// A call on any port.
    pub(crate) fn ask_on(&mut self, call: Call, rights: Rights) -> Result<Reply, Kern> {
        let call = Event::Call {
            call,
            rights,
            reply: Some(self.token()),
        };
        let mut effects = self.handle(call);
        self.steps = 0;
        loop {
            self.check();
            for effect in effects {
                if let Effect::Reply { answer, .. } = effect {
                    return answer;
                }
            }
            assert!(self.core.wants_step(), "never answered");
            effects = self.handle(Event::Step);
            self.steps += 1;
        }
    }

    /// A call without rights.
    pub(crate) fn call(&mut self, request: Request) -> Said {
        match self.ask(request, NO_RIGHTS)?.message {
            Message::Map(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    /// A child by inheritance.
    pub(crate) fn fork(&mut self) -> Result<MapId, Kern> {
        let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
        match self.ask(request, NO_RIGHTS)?.right {
            Some(PortOf::Map(child)) => Ok(child),
            other => panic!("{other:?}"),
        }
    }

    /// The task of a map ends.
    pub(crate) fn end(&mut self, map: MapId) {
        self.handle(Event::TaskEnded(map));
    }

    /// Nobody holds a right to a port any more.
    pub(crate) fn no_senders(&mut self, port: PortOf) {
        self.handle(Event::NoSenders {
            port,
            made: u32::MAX,
        });
    }

    fn touch(&mut self, map: MapId, address: u64, access: Prot) -> Result<Frame, Kern> {
        let token = self.token();
        let fault = Fault {
            map,
            address,
            access,
            token,
        };
        for effect in self.handle(Event::Fault(fault)) {
            if let Effect::Resume { result, .. } = effect {
                let enter = result?.expect("a translation");
                assert!(enter.protection.contains(access));
                return Ok(Frame(enter.frame));
            }
        }
        panic!("parked");
    }

    pub(crate) fn read(&mut self, map: MapId, address: u64) -> Result<u8, Kern> {
        let frame = self.touch(map, address, Prot::READ)?;
        Ok(self.machine.frame(frame)[(address % PAGE) as usize])
    }

    pub(crate) fn write(&mut self, map: MapId, address: u64, byte: u8) -> Result<(), Kern> {
        let frame = self.touch(map, address, Prot::WRITE)?;
        self.machine.frame(frame)[(address % PAGE) as usize] = byte;
        Ok(())
    }

    pub(crate) fn allocate(&mut self, address: u64, size: u64, flags: u32) -> Result<u64, Kern> {
        let request = vm_map::VmAllocate {
            address,
            size,
            flags,
        };
        match self.call(Request::VmAllocate(request))? {
            vm_map::Reply::VmAllocate(reply) => Ok(reply.address),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn deallocate(&mut self, address: u64, size: u64) -> Said {
        self.call(Request::VmDeallocate(vm_map::VmDeallocate {
            address,
            size,
        }))
    }

    pub(crate) fn protect(&mut self, address: u64, size: u64, max: bool, prot: u32) -> Said {
        self.call(Request::VmProtect(vm_map::VmProtect {
            address,
            size,
            set_maximum: max,
            protection: prot,
        }))
    }

    pub(crate) fn inherit(&mut self, address: u64, size: u64, inheritance: u32) -> Said {
        self.call(Request::VmInherit(vm_map::VmInherit {
            address,
            size,
            inheritance,
        }))
    }

    pub(crate) fn region(&mut self, address: u64) -> Result<vm_map::VmRegionReply, Kern> {
        match self.call(Request::VmRegion(vm_map::VmRegion::basic(address)))? {
            vm_map::Reply::VmRegion(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    /// Every entry, as text.
    pub(crate) fn picture(&self) -> Vec<String> {
        let map = self.core.maps.get(self.map).unwrap();
        let mut lines = Vec::new();
        let mut at = map.tree.first();
        while let Some(e) = self.core.entries.at(at.0) {
            lines.push(format!(
                "{:x}-{:x} {:?}/{:?} {:?} {:?} tag {}",
                e.start, e.end, e.protection, e.max_protection, e.inheritance, e.behavior, e.tag
            ));
            at = e.hooks.next;
        }
        lines
    }

    /// The invariants of maps.
    pub(crate) fn check(&self) {
        for (id, _) in self.core.maps.iter() {
            self.check_map(id);
        }
    }

    fn check_map(&self, id: MapId) {
        let map = self.core.maps.get(id).unwrap();
        assert!(map.tree.is_sound(&self.core.entries));
        let mut size = 0;
        let mut at = map.tree.first();
        while let Some(e) = self.core.entries.at(at.0) {
            assert_eq!(e.map, id);
            assert!(e.max_protection.contains(e.protection));
            size += e.size();
            at = e.hooks.next;
        }
        assert_eq!(map.size, size);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Attributes {
    protection: Prot,
    max: Prot,
    inherit: Inherit,
    tag: u8,
}

/// The same calls on an array of pages.
struct Model(BTreeMap<u64, Attributes>);

impl Model {
    fn first_fit(&self, pages: u64) -> Option<u64> {
        let mut run = 0;
        for page in MIN / PAGE..MAX / PAGE {
            run = if self.0.contains_key(&page) {
                0
            } else {
                run + 1
            };
            if run == pages {
                return Some(page + 1 - pages);
            }
        }
        None
    }

    fn is_mapped(&self, pages: std::ops::Range<u64>) -> bool {
        pages.into_iter().all(|page| self.0.contains_key(&page))
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn random_calls_agree_with_an_array_of_pages() {
    for seed in 1..=12u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bench = Bench::new(MIN, MAX);
        let mut model = Model(BTreeMap::new());
        for _ in 0..600 {
            step(&mut random, &mut bench, &mut model);
            compare(&mut bench, &model);
        }
        bench.deallocate(0, MAX).unwrap();
        assert!(bench.core.entries.is_empty());
    }
}

fn step(random: &mut Random, bench: &mut Bench, model: &mut Model) {
    let first = MIN / PAGE + random.below(PAGES);
    let last = (first + 1 + random.below(24)).min(MAX / PAGE);
    let (address, size) = (first * PAGE, (last - first) * PAGE);
    let tag = random.below(2) as u8;
    let rights = Prot::from_bits_truncate(random.below(8) as u8);
    let fresh = Attributes {
        protection: Prot::DEFAULT,
        max: Prot::ALL,
        inherit: Inherit::Copy,
        tag,
    };
    let flags = u32::from(tag) << 24;
    match random.below(9) {
        0 | 1 => {
            let found = model.first_fit(last - first);
            let want = found.map(|page| page * PAGE).ok_or(Kern::NoSpace);
            let anywhere = flags | MapFlags::ANYWHERE.bits();
            assert_eq!(bench.allocate(address, size, anywhere), want);
            if let Some(page) = found {
                model
                    .0
                    .extend((page..page + last - first).map(|p| (p, fresh)));
            }
        }
        2 => {
            let taken = (first..last).any(|page| model.0.contains_key(&page));
            let want = if taken {
                Err(Kern::NoSpace)
            } else {
                Ok(address)
            };
            assert_eq!(bench.allocate(address, size, flags), want);
            if !taken {
                model.0.extend((first..last).map(|p| (p, fresh)));
            }
        }
        3 => {
            let over = flags | MapFlags::OVERWRITE.bits();
            assert_eq!(bench.allocate(address, size, over), Ok(address));
            model.0.extend((first..last).map(|p| (p, fresh)));
        }
        4 => {
            assert!(bench.deallocate(address, size).is_ok());
            model.0.retain(|page, _| !(first..last).contains(page));
        }
        5 | 6 => {
            let maximum = random.below(4) == 0;
            let want = if !model.is_mapped(first..last) {
                // The first failing page decides.
                let hole = (first..last).find(|p| !model.0.contains_key(p)).unwrap();
                let bad = (first..hole).any(|p| !model.0[&p].max.contains(rights));
                Err(if bad {
                    Kern::ProtectionFailure
                } else {
                    Kern::InvalidAddress
                })
            } else if (first..last).any(|p| !model.0[&p].max.contains(rights)) {
                Err(Kern::ProtectionFailure)
            } else {
                Ok(vm_map::Reply::VmProtect(()))
            };
            let said = bench.protect(address, size, maximum, u32::from(rights.bits()));
            assert_eq!(said, want);
            if want.is_ok() {
                for (_, page) in model.0.range_mut(first..last) {
                    if maximum {
                        page.max = rights;
                        page.protection &= rights;
                    } else {
                        page.protection = rights;
                    }
                }
            }
        }
        _ => {
            let number = random.below(3) as u32;
            assert!(bench.inherit(address, size, number).is_ok());
            for (_, page) in model.0.range_mut(first..last) {
                page.inherit = Inherit::from_raw(number).unwrap();
            }
        }
    }
}

fn compare(bench: &mut Bench, model: &Model) {
    let map = bench.core.maps.get(bench.map).unwrap();
    let mut pages = BTreeMap::new();
    let mut at = map.tree.first();
    while let Some(e) = bench.core.entries.at(at.0) {
        let attributes = Attributes {
            protection: e.protection,
            max: e.max_protection,
            inherit: e.inheritance,
            tag: e.tag,
        };
        pages.extend((e.start / PAGE..e.end / PAGE).map(|page| (page, attributes)));
        at = e.hooks.next;
    }
    assert_eq!(pages, model.0);
}

#[test]
fn setting_and_resetting_leaves_no_cut_behind() {
    let mut bench = Bench::new(MIN, MAX);
    bench.allocate(MIN, 8 * PAGE, 0).unwrap();
    let before = bench.picture();
    bench.protect(MIN + 2 * PAGE, PAGE, false, 1).unwrap();
    assert_eq!(bench.picture().len(), 3);
    bench.protect(MIN + 2 * PAGE, PAGE, false, 3).unwrap();
    assert_eq!(bench.picture(), before);
    bench.inherit(MIN, PAGE, 2).unwrap();
    bench.inherit(MIN, PAGE, 1).unwrap();
    assert_eq!(bench.picture(), before);
    assert_eq!(bench.core.entries.len(), 1);
}

#[test]
fn only_taking_rights_away_from_pages_that_are_there_revokes() {
    let mut bench = Bench::new(MIN, MAX);
    bench.allocate(MIN, 8 * PAGE, 0).unwrap();
    bench.write(bench.map, MIN, 1).unwrap();
    bench.machine.revoked.clear();
    bench.protect(MIN, PAGE, false, 7).unwrap();
    bench.protect(MIN + 4 * PAGE, PAGE, false, 1).unwrap();
    bench.deallocate(MIN + 6 * PAGE, 2 * PAGE).unwrap();
    assert_eq!(bench.machine.revoked, []);
    bench.protect(MIN, 2 * PAGE, false, 1).unwrap();
    let epoch = bench.core.maps.get(bench.map).unwrap().epoch;
    assert_eq!(
        bench.machine.revoked,
        [Revoke::Range {
            map: bench.map,
            epoch,
            start: MIN,
            end: MIN + 2 * PAGE,
            keep: Prot::READ,
        }]
    );
}

#[test]
fn a_call_that_finds_no_record_changes_nothing() {
    let mut bench = Bench::new(MIN, MAX);
    bench.allocate(MIN, 8 * PAGE, 0).unwrap();
    bench
        .core
        .maps
        .get_mut(bench.map)
        .unwrap()
        .account
        .limits
        .entries = 2;
    let before = bench.picture();
    let shortage = Err(Kern::ResourceShortage);
    // Each needs two cuts, and there is one record.
    assert_eq!(bench.protect(MIN + PAGE, PAGE, false, 1), shortage);
    assert_eq!(bench.deallocate(MIN + PAGE, PAGE), shortage);
    assert_eq!(bench.inherit(MIN + PAGE, PAGE, 0), shortage);
    assert_eq!(bench.picture(), before);
    // One cut is enough.
    assert!(bench.protect(MIN, PAGE, false, 1).is_ok());
    assert_eq!(
        bench.allocate(MIN + 20 * PAGE, PAGE, 0),
        Err(Kern::ResourceShortage)
    );
    // Overwriting needs no more than it frees.
    let over = MapFlags::OVERWRITE.bits();
    assert_eq!(bench.allocate(MIN, 8 * PAGE, over), Ok(MIN));
}

#[test]
fn deallocated_memory_reads_zero_when_it_comes_back() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    bench.allocate(MIN, 8 * PAGE, 0).unwrap();
    for page in 0..8 {
        bench.write(map, MIN + page * PAGE, 7).unwrap();
    }
    let free = bench.core.pages.free();
    bench.deallocate(MIN + 4 * PAGE, 4 * PAGE).unwrap();
    assert_eq!(bench.core.pages.free(), free + 4, "its pages go at once");
    bench.allocate(MIN + 4 * PAGE, 4 * PAGE, 0).unwrap();
    assert_eq!(bench.picture().len(), 1, "it is more of the entry below");
    assert_eq!(bench.read(map, MIN + 3 * PAGE), Ok(7));
    assert_eq!(bench.read(map, MIN + 4 * PAGE), Ok(0));
}

#[test]
fn memory_is_not_joined_over_pages_of_a_larger_life() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    bench.allocate(MIN, 2 * PAGE, 0).unwrap();
    bench.write(map, MIN + PAGE, 7).unwrap();
    // A second holder of the object keeps its pages.
    let child = bench.fork().unwrap();
    bench.deallocate(MIN + PAGE, PAGE).unwrap();
    bench.end(child);
    bench.settle();
    bench.allocate(MIN + PAGE, PAGE, 0).unwrap();
    assert_eq!(bench.read(map, MIN + PAGE), Ok(0));
}

#[test]
fn nobody_sees_a_hole_where_memory_is_replaced() {
    let mut bench = Bench::new(MIN, MAX);
    let map = bench.map;
    for page in 0..200 {
        bench
            .allocate(MIN + page * PAGE, PAGE, (page as u32 % 2) << 24)
            .unwrap();
        bench.write(map, MIN + page * PAGE, 5).unwrap();
    }
    let token = bench.token();
    let request = Request::VmAllocate(vm_map::VmAllocate {
        address: MIN,
        size: 200 * PAGE,
        flags: MapFlags::OVERWRITE.bits(),
    });
    bench.handle(Event::Call {
        call: Call::Map(map, request),
        rights: NO_RIGHTS,
        reply: Some(token),
    });
    while bench.core.wants_step() {
        for page in [0, 1, 63, 64, 127, 128, 199] {
            assert!(bench.read(map, MIN + page * PAGE).is_ok(), "page {page}");
        }
        bench.handle(Event::Step);
        bench.check();
    }
    for page in 0..200 {
        assert_eq!(bench.read(map, MIN + page * PAGE), Ok(0));
    }
    bench.end(map);
    bench.settle();
    assert_eq!(bench.core.pages.free(), 4000);
}
