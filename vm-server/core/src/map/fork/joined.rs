//! The parent's entries change while a fork waits for a pager and holds nothing.

extern crate std;

use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::CopyStrategy;
use ipc_protocol::vm_map::{self, Request, VmProtect};

use crate::call::{Call, Reply};
use crate::event::{NO_RIGHTS, PortOf, RightId};
use crate::sim::{Pager, World};

const PORT: RightId = RightId(70);
const PAGES: u64 = 8;

#[test]
fn an_entry_that_was_joined_with_one_that_is_copied_comes_once() {
    let mut world = World::new(256);
    let data = (0..PAGES * PAGE_SIZE).map(|at| (at / PAGE_SIZE) as u8 + 1);
    let mut pager = Pager::new(&mut world, PORT, 8, data.collect());
    pager.ready.copy_strategy = CopyStrategy::None as u32;
    let map = world.map();
    let at = world.map_object(map, PORT, PAGES * PAGE_SIZE);
    pager.settle(&mut world);
    let protect = |size, protection| {
        Request::VmProtect(VmProtect {
            address: at,
            size,
            set_maximum: false,
            protection,
        })
    };
    world.ask(map, protect(PAGE_SIZE * 3, 1)).unwrap();

    let fork = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let token = world.send(Call::Map(map, fork), NO_RIGHTS);
    world.settle();
    assert!(world.answer(token).is_none(), "it waits for the pager");
    world.ask(map, protect(PAGE_SIZE * 3, 3)).unwrap();
    pager.settle(&mut world);

    let child = match world.answer(token) {
        Some(Ok(Reply {
            right: Some(PortOf::Map(child)),
            ..
        })) => child,
        other => panic!("{other:?}"),
    };
    world.core.check_invariants().unwrap();
    let expected = (1..=PAGES as u8).collect::<Vec<_>>();
    assert_eq!(world.bytes(child, at, PAGES), expected);
}
