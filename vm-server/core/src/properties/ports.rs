//! The table of memory object ports: one name is one object, as long as anybody maps it, and what the
//! server holds of a port's rights is one reference for each pager's record.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use random::Random;

use crate::event::{Event, RightId};
use crate::sim::World;

/// Names that lie far apart, and close together.
fn name(random: &mut Random) -> RightId {
    RightId(match random.below(3) {
        0 => 1 + random.below(4) as u32,
        1 => 1000 + 70 * random.below(4) as u32,
        _ => 1 << (12 + random.below(8)),
    })
}

#[test]
fn a_name_is_one_object_until_nobody_maps_it() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut world = World::new(64);
        let map = world.map();
        let mut mapped: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for _ in 0..200 {
            let port = name(&mut random);
            let known = world.core.pager_at(port).is_some();
            assert_eq!(known, mapped.contains_key(&port.0));
            match random.below(3) {
                0 | 1 => {
                    let address = world.map_object(map, port, PAGE_SIZE);
                    mapped.entry(port.0).or_default().push(address);
                }
                _ => {
                    if let Some(places) = mapped.get_mut(&port.0) {
                        let at = random.below(places.len() as u64) as usize;
                        world.deallocate(map, places.swap_remove(at), PAGE_SIZE);
                        if places.is_empty() {
                            mapped.remove(&port.0);
                            // Its pager has not been told of it yet, so there is nothing to end.
                            world.settle();
                        }
                    }
                }
            }
            assert_eq!(world.core.pagers.len() as usize, mapped.len());
            assert_eq!(world.core.ports.used() as usize, mapped.len());
            world.core.check_invariants().unwrap();
        }
        world.event(Event::TaskEnded(map));
        world.settle();
        assert_eq!(world.core.ports.used(), 0);
        assert!(world.core.pagers.is_empty() && world.core.objects.is_empty());
    }
}
