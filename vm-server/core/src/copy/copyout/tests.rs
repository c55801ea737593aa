//! What a mapping that fails in the midst leaves behind: nothing, and not all at once.

extern crate std;

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, Request};

use crate::call::{Call, Reply};
use crate::event::{Event, NO_RIGHTS, PortRef};
use crate::sim::World;

const PAGE: u64 = 4096;
const ENTRIES: u64 = 400;

#[test]
fn a_mapping_of_many_entries_that_fails_is_taken_back_in_steps() {
    let mut world = World::new(2048);
    world.check_every = 8;
    let map = world.map();
    let at = world.allocate(map, ENTRIES * PAGE);
    for entry in 0..ENTRIES {
        // Neighbours differ, so that there are as many entries as pages.
        let request = Request::VmInherit(vm_map::VmInherit {
            address: at + entry * PAGE,
            size: PAGE,
            inheritance: 1 + (entry % 2) as u32,
        });
        world.ask(map, request).unwrap();
        world.write(map, at + entry * PAGE, &[entry as u8]).unwrap();
    }
    let copyin = Request::VmCopyin(vm_map::VmCopyin {
        address: at,
        size: ENTRIES * PAGE,
        src_destroy: false,
    });
    let copied = world.call(map, copyin, NO_RIGHTS);
    let Ok(Reply {
        right: Some(copy), ..
    }) = copied
    else {
        panic!("{copied:?}");
    };
    let before = world.core.census();
    let mut rights = NO_RIGHTS;
    rights[vm_map::VmMap::OBJECT] = PortRef::Own(copy);
    let both = u32::from(Prot::DEFAULT.bits());
    let request = Request::VmMap(vm_map::VmMap {
        protection: both,
        max_protection: both,
        ..vm_map::VmMap::anywhere(ENTRIES * PAGE)
    });
    // Room for most of it.
    world.core.limit_records(Some(before.entries + 300));
    let token = world.send(Call::Map(map, request), rights);
    let mut entries = world.core.census().entries;
    let mut most = entries;
    let answer = loop {
        if let Some(answer) = world.answer(token) {
            break answer;
        }
        world.event(Event::Step);
        let now = world.core.census().entries;
        assert!(now.abs_diff(entries) <= 65, "{entries} to {now}");
        entries = now;
        most = most.max(now);
    };
    assert_eq!(answer.map(|_| ()), Err(Kern::ResourceShortage));
    assert!(most > before.entries + 128, "it failed in the midst");
    assert_eq!(world.core.census().entries, before.entries);
    world.core.limit_records(None);
    let bytes = world.bytes(map, at, ENTRIES);
    assert!((0..ENTRIES).all(|entry| bytes[entry as usize] == entry as u8));
    // There is room again, and nothing in the way.
    let answer = world.call(map, request, rights);
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(world.core.census().entries, before.entries + ENTRIES as u32);
}
