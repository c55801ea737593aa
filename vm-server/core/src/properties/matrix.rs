//! Every call of the matrix of `cases::matrix` on the core: the code, and what is mapped then, to the byte.

extern crate std;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use cases::matrix::groups::{ALL, addresses, sizes};
use cases::matrix::{
    AREA, After, COUNT, Done, GIVEN, Page, Pages, Right, Tried, are_known, filled, ground, run,
    runs,
};
use ipc_abi::layout::PAGE_SIZE as P;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, Request};
use ipc_protocol::vm_share::{self, VmMapReadPort};

use crate::Config;
use crate::call::Message;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId};
use crate::sim::World;

const HOST: RightId = RightId(77);
/// Ports that the server does not know.
const FOREIGN: RightId = RightId(78);
const DEAD: RightId = RightId(79);

/// A map with the ground in it.
struct Scene {
    world: World,
    map: MapId,
    pages: Pages,
    given: BTreeMap<u8, PortRef>,
    /// Calls that were refused since the bytes were compared.
    refused: u32,
}

/// Bytes are compared after so many refusals; what is mapped, after each.
const REFUSALS: u32 = 64;

impl Scene {
    fn new() -> Scene {
        let mut world = World::with(Config {
            host: Some(HOST),
            reserve: 0,
            ..Config::for_frames(128)
        });
        world.check_every = 0;
        let map = world.map();
        let mut scene = Scene {
            world,
            map,
            pages: filled(),
            given: BTreeMap::new(),
            refused: 0,
        };
        scene.must(Request::VmAllocate(vm_map::VmAllocate {
            address: AREA,
            size: COUNT * P,
            flags: 0,
        }));
        for (number, page) in filled() {
            scene.world.write(map, number * P, &page.bytes).unwrap();
        }
        let (pages, calls) = ground();
        for request in calls {
            scene.must(request);
        }
        scene.pages = pages;
        scene.world.settle();
        scene
    }

    fn must(&mut self, request: Request) -> Option<PortOf> {
        let said = self.world.call(self.map, request, NO_RIGHTS);
        match said {
            Ok(reply) => reply.right,
            Err(code) => panic!("{request:?}: {code:?}"),
        }
    }

    /// The right that a call is given: made when it is needed first.
    fn give(&mut self, right: Right) -> PortRef {
        if let Some(port) = self.given.get(&(right as u8)) {
            return *port;
        }
        let entry = |permission| {
            Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
                size: GIVEN,
                offset: AREA,
                permission,
            })
        };
        let request = match right {
            Right::None => return PortRef::None,
            Right::Map => return PortRef::Own(PortOf::Map(self.map)),
            Right::Host => return PortRef::Foreign(HOST),
            Right::Foreign => return PortRef::Foreign(FOREIGN),
            Right::Dead => return PortRef::Dead(DEAD),
            Right::ReadMap => Request::Share(vm_share::Request::VmMapReadPort(VmMapReadPort {})),
            Right::Copy => Request::VmCopyin(vm_map::VmCopyin {
                address: AREA,
                size: GIVEN,
                src_destroy: false,
            }),
            Right::Entry => entry(3),
            Right::ReadEntry => entry(1),
            Right::Share => entry(3 | MAP_MEM_VM_SHARE),
            Right::Snapshot => entry(1 | MAP_MEM_VM_COPY),
        };
        let port = PortRef::Own(self.must(request).unwrap());
        self.given.insert(right as u8, port);
        port
    }

    /// Compares what is mapped with what has to be.
    fn compare(&self, what: &Tried) {
        let mut found = Vec::new();
        let mut entries: Vec<_> = self.world.core.entries.iter().map(|(_, e)| *e).collect();
        entries.sort_by_key(|entry| entry.start);
        for entry in entries.iter().filter(|entry| entry.map == self.map) {
            let shape = (entry.protection, entry.max_protection, entry.inheritance);
            run(&mut found, (entry.start, entry.end, shape));
        }
        assert_eq!(found, runs(&self.pages), "{what:x?}");
    }

    /// Compares what can be read.
    fn compare_bytes(&mut self, what: &Tried) {
        self.refused = 0;
        let is_readable = |(_, page): &(&u64, &Page)| page.current.contains(Prot::READ);
        for (number, page) in self.pages.iter().filter(is_readable) {
            let mut bytes = vec![0; P as usize];
            let said = self.world.read(self.map, number * P, &mut bytes);
            assert_eq!(said, Ok(()), "{what:x?}");
            assert!(bytes == page.bytes, "page {number:#x} after {what:x?}");
        }
    }

    /// Makes a call, and compares its code and its effect with what has to come. Says whether the scene
    /// can be used again.
    fn check(&mut self, tried: &Tried) -> bool {
        let mut rights = NO_RIGHTS;
        rights[0] = self.give(tried.right);
        let spoils = matches!(tried.wanted, Ok(Done::Else | Done::Dispositions(..)));
        if (spoils || tried.tears) && self.refused > 0 {
            self.compare_bytes(tried);
        }
        let said = self.world.call(self.map, tried.request, rights);
        if let Ok(reply) = said
            && let Some(port) = reply.right
        {
            let made = u32::MAX;
            self.world.event(Event::NoSenders { port, made });
        }
        let said = said.map(|reply| match reply.message {
            Message::Map(reply) => reply,
            other => panic!("{other:?}"),
        });
        let after = match tried.judge(&mut self.pages, said) {
            Ok(after) => after,
            Err(what) => panic!("{tried:x?} gives {what}"),
        };
        if let Ok(Done::Dispositions(to, first, count)) = tried.wanted {
            let mut told = vec![0; 4 * count as usize];
            self.world.read(self.map, to, &mut told).unwrap();
            assert!(are_known(&self.pages, first, &told), "{tried:x?}");
        }
        self.refused += 1;
        match after {
            After::Same if self.refused < REFUSALS => self.compare(tried),
            After::Same | After::Changed => {
                self.compare(tried);
                self.compare_bytes(tried);
            }
            After::Unknown => {}
        }
        after == After::Same
    }
}

/// Tries the calls of a group on every range.
fn every_range(group: &str) {
    let (_, calls) = ALL.into_iter().find(|(name, _)| *name == group).unwrap();
    let mut scene = Scene::new();
    for address in addresses() {
        for size in sizes(address) {
            for tried in calls(&scene.pages, address, size) {
                if !scene.check(&tried) {
                    scene = Scene::new();
                }
            }
        }
    }
    scene.world.core.check_invariants().unwrap();
}

/// A test for each group.
macro_rules! groups {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                every_range(concat!("matrix::", stringify!($name)));
            }
        )*
        #[test]
        fn each_group_has_a_test() {
            let tested = [$(concat!("matrix::", stringify!($name))),*];
            assert_eq!(ALL.map(|(name, _)| name), tested);
        }
    };
}

groups! {
    allocating_and_removing
    attributes_of_ranges
    advice_on_ranges
    copies_of_ranges
    wired_ranges
    entries_of_ranges
    entries_with_every_flag
    ranges_written_over_ranges
    ranges_written_from_copies
    ranges_mapped_again
    ranges_mapped_again_with_rights
    fresh_memory_with_every_word
    regions_at_addresses
    dispositions_of_ranges
}
