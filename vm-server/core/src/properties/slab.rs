//! A slab is a map from handles to records, and hands out no handle twice.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use ipc_abi::Kern;
use random::Random;

use crate::slab::Slab;

const LIMIT: u32 = 150;

#[test]
fn it_agrees_with_a_map_and_no_handle_comes_twice() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut slab = Slab::new(LIMIT);
        let mut model = BTreeMap::new();
        let mut stale = Vec::new();
        let mut seen = BTreeSet::new();
        for step in 0..4000u64 {
            // Fuller and emptier in turn.
            let grows = random.below(10) < if step / 500 % 2 == 0 { 7 } else { 3 };
            let any = random.below(LIMIT.into()) as u32;
            let key = model.range(any..).next().map(|(index, _)| *index);
            if grows {
                let full = model.len() as u32 == LIMIT;
                assert_eq!(slab.reserve_one().is_err(), full);
                match slab.insert(step) {
                    Ok(id) => {
                        assert!(!full && seen.insert(id.to_word()), "a handle comes twice");
                        assert_eq!(model.insert(id.index(), (id, step)), None);
                    }
                    Err(code) => assert_eq!((code, full), (Kern::ResourceShortage, true)),
                }
            } else if let Some((id, value)) = key.and_then(|key| model.remove(&key)) {
                assert_eq!(slab.remove(id), Some(value));
                stale.push(id);
            }
            if let Some((_, (id, value))) = model.range_mut(any..).next() {
                *value += 1;
                *slab.get_mut(*id).unwrap() += 1;
            }
            if let Some(id) = random.pick(&stale) {
                assert_eq!(slab.get(id), None);
                assert_eq!(slab.remove(id), None);
                assert_eq!(
                    slab.at(id.index()).is_some(),
                    model.contains_key(&id.index())
                );
            }
            assert_eq!(slab.len() as usize, model.len());
        }
        let all: Vec<_> = slab.iter().map(|(id, value)| (id, *value)).collect();
        assert_eq!(all, model.values().copied().collect::<Vec<_>>());
    }
}
