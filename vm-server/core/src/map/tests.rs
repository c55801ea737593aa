//! Maps against a flat model: each page's attributes in an array, each call in a line.

extern crate std;

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};

use crate::call::vm_map::MapCall;
use crate::call::Message;
use crate::effect::Effects;
use crate::event::{MapId, NO_RIGHTS, Time};
use crate::machine::{Machine, Revoke, Seen};
use crate::map::Map;
use crate::object::page::Frame;
use crate::{Config, Core, Supplies, Turn};

pub(super) const PAGE: u64 = 4096;
const MIN: u64 = 16 * PAGE;
const PAGES: u64 = 256;
const MAX: u64 = MIN + PAGES * PAGE;

/// A machine that remembers what was revoked, and has no memory.
#[derive(Default)]
pub(super) struct Witness {
    pub(super) revoked: Vec<Revoke>,
}

impl Machine for Witness {
    fn zero(&mut self, _: Frame) {}
    fn copy(&mut self, _: Frame, _: Frame) {}
    fn load(&mut self, _: Frame, _: usize, _: &mut [u8]) {}
    fn store(&mut self, _: Frame, _: usize, _: &[u8]) {}
    fn copy_bytes(&mut self, _: (Frame, usize), _: (Frame, usize), _: usize) {}
    fn is_zero(&mut self, _: Frame) -> bool {
        true
    }
    fn revoke(&mut self, elements: &[Revoke]) -> Seen {
        self.revoked.extend_from_slice(elements);
        Seen::default()
    }
}

/// A core with one map.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) machine: Witness,
    pub(super) map: MapId,
}

pub(super) type Said = Result<vm_map::Reply, Kern>;

impl Bench {
    pub(super) fn new(min: u64, max: u64) -> Bench {
        let mut core = Core::new(Config::for_frames(64)).unwrap();
        let map = core.maps.insert(Map::new(min, max)).unwrap();
        Bench {
            core,
            machine: Witness::default(),
            map,
        }
    }

    /// A call on the bench's map. What is left for later steps is done before it returns.
    pub(super) fn call(&mut self, request: Request) -> Said {
        let mut effects = Effects::new().unwrap();
        let mut supplies = Supplies::default();
        let mut turn = Turn {
            now: Time(0),
            supplies: &mut supplies,
            machine: &mut self.machine,
            effects: &mut effects,
        };
        let call = MapCall {
            map: self.map,
            request,
            rights: NO_RIGHTS,
            reply: None,
        };
        let answer = self.core.call_map(&mut turn, call);
        self.check();
        match answer.expect("answered at once")?.message {
            Message::Map(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn allocate(&mut self, address: u64, size: u64, flags: u32) -> Result<u64, Kern> {
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

    pub(super) fn deallocate(&mut self, address: u64, size: u64) -> Said {
        self.call(Request::VmDeallocate(vm_map::VmDeallocate {
            address,
            size,
        }))
    }

    pub(super) fn protect(&mut self, address: u64, size: u64, max: bool, prot: u32) -> Said {
        self.call(Request::VmProtect(vm_map::VmProtect {
            address,
            size,
            set_maximum: max,
            protection: prot,
        }))
    }

    pub(super) fn inherit(&mut self, address: u64, size: u64, inheritance: u32) -> Said {
        self.call(Request::VmInherit(vm_map::VmInherit {
            address,
            size,
            inheritance,
        }))
    }

    pub(super) fn behave(&mut self, address: u64, size: u64, behavior: u32) -> Said {
        self.call(Request::VmBehaviorSet(vm_map::VmBehaviorSet {
            address,
            size,
            behavior,
        }))
    }

    pub(super) fn region(&mut self, address: u64) -> Result<vm_map::VmRegionReply, Kern> {
        match self.call(Request::VmRegion(vm_map::VmRegion { address }))? {
            vm_map::Reply::VmRegion(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    /// Every entry, as text.
    pub(super) fn picture(&self) -> Vec<String> {
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

    /// The invariants of a map.
    pub(super) fn check(&self) {
        let map = self.core.maps.get(self.map).unwrap();
        assert!(map.tree.is_sound(&self.core.entries));
        let mut size = 0;
        let mut at = map.tree.first();
        while let Some(e) = self.core.entries.at(at.0) {
            assert_eq!(e.map, self.map);
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
        for page in 0..8 {
            let size = MAX / 8 / PAGE * PAGE + PAGE;
            bench.deallocate(page * size, size).unwrap();
        }
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
fn only_taking_rights_away_revokes() {
    let mut bench = Bench::new(MIN, MAX);
    bench.allocate(MIN, 8 * PAGE, 0).unwrap();
    bench.protect(MIN, PAGE, false, 7).unwrap();
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
    bench.core.maps.get_mut(bench.map).unwrap().entry_limit = 2;
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
