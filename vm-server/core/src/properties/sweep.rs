//! Each call, with room for ever fewer records of each kind: it does all or nothing, and can be made
//! again.
//!
//! A kind of record is held to as many as there are and a few; the call then runs out of them at each
//! of the places where it makes one. What is mapped must be as before, page by page (an entry may have
//! been cut in two, rule 55), with the contents of before. With room again the call must succeed, and
//! when all tasks have ended nothing may be left.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{vm_advice, vm_range, vm_share, vm_wire};

use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights};
use crate::map::entry::Entry;
use crate::sim::World;
use crate::{Config, Core};

const PAGE: u64 = 4096;
const HOST: RightId = RightId(77);
const PAGER: RightId = RightId(99);
/// Where the memory of a scene lies: three entries of three pages each, then a copy-on-write copy of
/// them.
const AT: u64 = 0x10_0000;
const COPY: u64 = AT + 16 * PAGE;
const FREE: u64 = AT + 64 * PAGE;
/// The fewest records of a kind that no call needs more than.
const MOST: u32 = 40;

macro_rules! kinds {
    ($($place:literal $kind:ident),+ $(,)?) => {
        impl Core {
            /// Kinds of records.
            pub(super) const KINDS: usize = [$($place),+].len();

            /// Leaves room for so many more records of a kind.
            pub(super) fn cap(&mut self, kind: usize, left: u32) {
                // What was reserved for it is not to be missed.
                self.record_question();
                match kind {
                    $($place => self.$kind.set_cap(left),)+
                    other => panic!("there is no kind {other}"),
                }
            }

            /// Leaves room for all again.
            pub(super) fn uncap(&mut self) {
                $(self.$kind.set_cap(u32::MAX);)+
            }
        }
    };
}

kinds! {
    0 maps, 1 entries, 2 objects, 3 trays, 4 copies, 5 named, 6 ops, 7 waiters, 8 nodes, 9 reserved,
    10 pagers, 11 controls, 12 requests, 13 loans, 14 notes, 15 asked,
}

/// A task with memory, a child that shares some of it, and rights to a copy and to named entries.
struct Scene {
    world: World,
    map: MapId,
    child: MapId,
    copy: PortOf,
    entry: PortOf,
    share: PortOf,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::with(Config {
            host: Some(HOST),
            reserve: 0,
            ..Config::for_frames(1024)
        });
        world.check_every = 0;
        let map = world.map();
        for piece in 0..3 {
            let request = vm_map::VmAllocate {
                address: AT + 3 * piece * PAGE,
                size: 3 * PAGE,
                flags: (piece as u32 + 1) << 24,
            };
            assert!(world.ask(map, Request::VmAllocate(request)).is_ok());
        }
        for page in 0..9 {
            let byte = [page as u8 + 1];
            world.write(map, AT + page * PAGE, &byte).unwrap();
        }
        let nothing = PortOf::Map(map);
        let mut scene = Scene {
            world,
            map,
            child: map,
            copy: nothing,
            entry: nothing,
            share: nothing,
        };
        let copied = remap(AT, COPY, 9, true);
        assert!(scene.call(copied, &[PortRef::Own(nothing)]).is_ok());
        scene.world.inherit(map, AT + 6 * PAGE, 3 * PAGE, 0);
        scene.child = scene.world.fork(map);
        scene.copy = scene.made(copyin(AT, 9, false));
        scene.entry = scene.made(entry(AT, 3, 0));
        scene.share = scene.made(entry(AT, 9, vm_map::MAP_MEM_VM_SHARE));
        scene.world.settle();
        scene
    }

    fn call(&mut self, request: Request, rights: &[PortRef]) -> Result<Option<PortOf>, Kern> {
        let mut slots: Rights = NO_RIGHTS;
        for (slot, right) in slots.iter_mut().zip(rights) {
            *slot = *right;
        }
        let said = self.world.call(self.map, request, slots)?;
        Ok(said.right)
    }

    fn made(&mut self, request: Request) -> PortOf {
        self.call(request, &[]).unwrap().unwrap()
    }

    /// What is mapped, page by page.
    fn picture(&self, map: MapId) -> Vec<(u64, String)> {
        let mut pages = Vec::new();
        for (_, entry) in self.world.core.entries.iter() {
            if entry.map == map {
                let about = about(entry);
                let first = entry.start / PAGE;
                pages.extend((first..entry.end / PAGE).map(|page| (page, about.clone())));
            }
        }
        pages.sort();
        pages
    }

    /// The first byte of each page that can be read.
    fn bytes(&mut self, map: MapId) -> Vec<(u64, u8)> {
        let pages: Vec<u64> = self.picture(map).iter().map(|page| page.0).collect();
        let mut found = Vec::new();
        for page in pages {
            let mut byte = [0];
            if self.world.read(map, page * PAGE, &mut byte).is_ok() {
                found.push((page, byte[0]));
            }
        }
        found
    }
}

fn about(entry: &Entry) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {} {} {}",
        entry.protection,
        entry.max_protection,
        entry.inheritance,
        entry.behavior,
        entry.tag,
        entry.user_wired,
        entry.permanent
    )
}

fn remap(source: u64, address: u64, pages: u64, copy: bool) -> Request {
    Request::Share(vm_share::Request::VmRemap(vm_share::VmRemap {
        address,
        size: pages * PAGE,
        mask: 0,
        flags: MapFlags::OVERWRITE.bits(),
        source,
        copy,
        inheritance: 1,
    }))
}

fn copyin(address: u64, pages: u64, src_destroy: bool) -> Request {
    Request::VmCopyin(vm_map::VmCopyin {
        address,
        size: pages * PAGE,
        src_destroy,
    })
}

fn entry(offset: u64, pages: u64, flags: u32) -> Request {
    Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size: pages * PAGE,
        offset,
        permission: 3 | flags,
    })
}

fn map(address: u64, pages: u64, flags: u32, copy: bool) -> Request {
    Request::VmMap(vm_map::VmMap {
        address,
        flags,
        copy,
        max_protection: 3,
        ..vm_map::VmMap::anywhere(pages * PAGE)
    })
}

fn wire(address: u64, pages: u64, access: u32) -> Request {
    Request::Wire(vm_wire::Request::VmWire(vm_wire::VmWire {
        address,
        size: pages * PAGE,
        access,
    }))
}

fn protect(pages: u64, protection: u32) -> Request {
    Request::VmProtect(vm_map::VmProtect {
        address: AT + PAGE,
        size: pages * PAGE,
        set_maximum: false,
        protection,
    })
}

/// A call, and the rights that it carries.
type Line = (&'static str, Request, Vec<PortRef>);

fn lines(scene: &Scene) -> Vec<Line> {
    let own = |port| std::vec![PortRef::Own(port)];
    let task = || own(PortOf::Map(scene.map));
    let none = Vec::new;
    let host = || std::vec![PortRef::Foreign(HOST)];
    let overwrite = MapFlags::OVERWRITE.bits();
    let allocate = |address, pages, flags: u32| {
        Request::VmAllocate(vm_map::VmAllocate {
            address,
            size: pages * PAGE,
            flags,
        })
    };
    std::vec![
        ("allocate", allocate(FREE, 4, 9 << 24), none()),
        ("allocate purgeable", allocate(FREE, 4, 2), none()),
        ("overwrite", allocate(AT + PAGE, 4, overwrite), none()),
        (
            "deallocate",
            Request::VmDeallocate(vm_map::VmDeallocate {
                address: AT + PAGE,
                size: 4 * PAGE,
            }),
            none(),
        ),
        ("protect", protect(5, 1), none()),
        ("protect a copy", protect(5, 0x10 | 3), none()),
        (
            "inherit",
            Request::VmInherit(vm_map::VmInherit {
                address: AT + PAGE,
                size: PAGE,
                inheritance: 2,
            }),
            none(),
        ),
        (
            "behave",
            Request::VmBehaviorSet(vm_map::VmBehaviorSet {
                address: AT + PAGE,
                size: 4 * PAGE,
                behavior: 1,
            }),
            none(),
        ),
        (
            "zero",
            Request::VmBehaviorSet(vm_map::VmBehaviorSet {
                address: AT + 6 * PAGE,
                size: PAGE,
                behavior: 4,
            }),
            none(),
        ),
        ("map", map(FREE, 4, 2, false), none()),
        (
            "map a pager's object",
            map(FREE, 4, 0, false),
            std::vec![PortRef::Foreign(PAGER)],
        ),
        ("map an entry", map(FREE, 3, 0, false), own(scene.entry)),
        (
            "map an entry over",
            map(AT + PAGE, 3, overwrite, false),
            own(scene.entry),
        ),
        ("copy an entry", map(FREE, 3, 0, true), own(scene.entry)),
        ("map a share", map(FREE, 9, 0, false), own(scene.share)),
        ("copy a share", map(FREE, 9, 0, true), own(scene.share)),
        ("map a copy", map(FREE, 9, 0, false), own(scene.copy)),
        ("copyin", copyin(AT + PAGE, 7, false), none()),
        ("copyin that destroys", copyin(AT + PAGE, 7, true), none()),
        (
            "copyout",
            Request::VmCopyout(vm_map::VmCopyout {
                address: FREE,
                flags: 0,
            }),
            own(scene.copy),
        ),
        (
            "copy over",
            Request::VmCopy(vm_map::VmCopy {
                source: AT,
                size: 5 * PAGE,
                destination: COPY + PAGE,
            }),
            none(),
        ),
        (
            "copy over bytes",
            Request::VmCopy(vm_map::VmCopy {
                source: AT + 3,
                size: 5 * PAGE,
                destination: COPY + PAGE + 9,
            }),
            none(),
        ),
        (
            "copy over with a copy",
            Request::VmWrite(vm_map::VmWrite {
                address: COPY + PAGE,
                size: 5 * PAGE,
            }),
            own(scene.copy),
        ),
        (
            "region proxy",
            Request::Share(vm_share::Request::VmRegionCreateProxy(
                vm_share::VmRegionCreateProxy {
                    address: AT + PAGE,
                    max_protection: 3,
                    length: PAGE,
                },
            )),
            none(),
        ),
        ("entry", entry(AT + PAGE, 2, 0), none()),
        (
            "entry of a copy",
            entry(AT + PAGE, 7, vm_map::MAP_MEM_VM_COPY),
            none(),
        ),
        (
            "entry of a share",
            entry(AT + PAGE, 7, vm_map::MAP_MEM_VM_SHARE),
            none(),
        ),
        (
            "fresh entry",
            entry(0, 7, vm_map::MAP_MEM_NAMED_CREATE),
            none(),
        ),
        ("window", entry(PAGE, 1, 0), own(scene.entry)),
        ("remap", remap(AT + PAGE, FREE, 7, false), task()),
        ("remap a copy", remap(AT + PAGE, FREE, 7, true), task()),
        ("remap over", remap(AT + PAGE, COPY + PAGE, 5, true), task()),
        (
            "fork",
            Request::TaskCreate(vm_map::TaskCreate { inherit: true }),
            none(),
        ),
        (
            "task",
            Request::TaskCreate(vm_map::TaskCreate { inherit: false }),
            none(),
        ),
        ("wire", wire(AT + PAGE, 5, 3), host()),
        ("wire a copy", wire(COPY + PAGE, 5, 1), host()),
        (
            "wire all",
            Request::Wire(vm_wire::Request::VmWireAll(vm_wire::VmWireAll { flags: 3 })),
            host(),
        ),
        (
            "tray",
            Request::PagerTrayCreate(vm_map::PagerTrayCreate { slots: 8 }),
            none(),
        ),
        (
            "sync",
            Request::VmMsync(vm_map::VmMsync {
                address: AT,
                size: 9 * PAGE,
                flags: 2,
            }),
            none(),
        ),
        (
            "ring",
            Request::Advice(vm_advice::Request::MachVmDeferredReclamationBufferAllocate(
                vm_advice::MachVmDeferredReclamationBufferAllocate {
                    len: 16,
                    max_len: 16,
                },
            ),),
            none(),
        ),
        (
            "swap out",
            Request::Advice(vm_advice::Request::VmSwapout(vm_advice::VmSwapout {})),
            none(),
        ),
        (
            "shared map",
            Request::Range(vm_range::Request::VmMapCreate(vm_range::VmMapCreate {
                min: AT,
                max: FREE,
            })),
            none(),
        ),
    ]
}

/// Makes a call with room for so few records; says whether they were too few.
fn starve(which: usize, kind: usize, left: u32) -> bool {
    let mut scene = Scene::new();
    let (name, request, rights) = lines(&scene).swap_remove(which);
    let what = format!("{name} with {left} records of kind {kind}");
    let maps = [scene.map, scene.child];
    let before = maps.map(|map| scene.picture(map));
    scene.world.core.cap(kind, left);
    let said = scene.call(request, &rights);
    scene.world.core.uncap();
    scene.world.settle();
    scene.world.core.check_invariants().unwrap();
    let refused = match said {
        Ok(_) => false,
        Err(code) => {
            assert_eq!(code, Kern::ResourceShortage, "{what}");
            for (map, before) in maps.iter().zip(&before) {
                assert_eq!(&scene.picture(*map), before, "{what}");
            }
            let pattern: Vec<u8> = scene.bytes(maps[0]).iter().map(|page| page.1).collect();
            let right: Vec<u8> = (1..10).chain(1..10).collect();
            for (place, (found, right)) in pattern.iter().zip(&right).enumerate() {
                // Of a copy over memory a beginning may be written (rule 75): each page is old or new.
                let new = name.starts_with("copy over") && place >= 9;
                let written = new && (*found == 0 || *found + 1 == *right);
                assert!(found == right || written, "{what}: {pattern:?}");
            }
            assert_eq!(pattern.len(), right.len(), "{what}");
            let again = scene.call(request, &rights);
            assert!(again.is_ok(), "{what}: {again:?} with room");
            true
        }
    };
    clear(scene, &what);
    refused
}

/// Everything ends; nothing may be left.
fn clear(mut scene: Scene, what: &str) {
    let ports: Vec<PortOf> = {
        let core = &scene.world.core;
        let copies = core.copies.iter().map(|(id, _)| PortOf::Copy(id));
        let named = core.named.iter().map(|(id, _)| PortOf::Entry(id));
        let trays = core.trays.iter().map(|(id, _)| PortOf::Tray(id));
        let maps = core.maps.iter().map(|(id, _)| PortOf::Map(id));
        copies.chain(named).chain(trays).chain(maps).collect()
    };
    for port in ports {
        scene.world.event(Event::NoSenders {
            port,
            made: u32::MAX,
        });
        if let PortOf::Map(map) = port {
            scene.world.event(Event::TaskEnded(map));
        }
    }
    scene.world.event(Event::DeadName(PAGER));
    scene.world.settle();
    let left = scene.world.core.census();
    assert!(left.is_empty(), "{what}: {left:?}");
}

/// Sweeps every call over one kind of record.
fn sweep(kind: usize) -> u32 {
    let count = lines(&Scene::new()).len();
    let mut refused = 0;
    for which in 0..count {
        for left in 0..MOST {
            if !starve(which, kind, left) {
                break;
            }
            assert!(left + 1 < MOST, "call {which} never has enough");
            refused += 1;
        }
    }
    refused
}

#[test]
fn a_call_without_room_for_its_records_changes_nothing() {
    let refused: Vec<u32> = (0..Core::KINDS).map(sweep).collect();
    let all: u32 = refused.iter().sum();
    assert!(all > 200, "{refused:?}");
}

#[test]
fn a_touch_without_room_for_its_records_can_be_made_again() {
    for kind in 0..Core::KINDS {
        for left in 0..6 {
            for (address, write) in [(FREE, true), (COPY, true), (COPY + PAGE, false)] {
                let mut scene = Scene::new();
                let request = Request::VmAllocate(vm_map::VmAllocate {
                    address: FREE,
                    size: 4 * PAGE,
                    flags: 9 << 24,
                });
                scene.call(request, &[]).unwrap();
                scene.world.core.cap(kind, left);
                let access = if write { Prot::DEFAULT } else { Prot::READ };
                let _ = scene.world.touch(scene.map, address, access);
                scene.world.core.uncap();
                scene.world.settle();
                scene.world.core.check_invariants().unwrap();
                let bytes = scene.world.bytes(scene.map, AT, 9);
                assert_eq!(bytes, (1..10).collect::<Vec<u8>>());
                assert_eq!(scene.world.bytes(scene.map, COPY, 9), bytes);
                scene.world.write(scene.map, address, &[7]).unwrap();
                assert_eq!(scene.world.byte(scene.map, AT), 1);
                clear(scene, "a touch");
            }
        }
    }
}
