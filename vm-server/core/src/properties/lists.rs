//! Waiters: each is in one list, in the order in which it came; and all are in the list by age. Free
//! frames: each is in one of two lists.

extern crate std;

use std::collections::{BTreeSet, VecDeque};
use std::vec::Vec;

use core::num::NonZeroU64;

use ipc_abi::types::Prot;
use random::Random;

use crate::event::{MapId, Time, Token};
use crate::id::Id;
use crate::object::page::{Frame, Pages, State};
use crate::op::wait::{List, What};
use crate::slab::NIL;
use crate::{Config, Core};

const LISTS: usize = 3;

fn somebody(token: u64) -> What {
    let map: MapId = Id::from_word(1 << 32).unwrap();
    What::Fault {
        map,
        address: 0,
        access: Prot::READ,
        token: Token(NonZeroU64::new(token).unwrap()),
    }
}

fn listed(core: &Core, list: &List) -> Vec<u32> {
    let mut at = list.first();
    let mut all = Vec::new();
    while let Some(waiter) = core.waiters.at(at) {
        all.push(at);
        at = waiter.next;
    }
    all
}

fn by_age(core: &Core) -> Vec<u32> {
    let (mut at, mut older) = (core.oldest_waiter, NIL);
    let mut all = Vec::new();
    while let Some(waiter) = core.waiters.at(at) {
        assert_eq!(waiter.older, older);
        all.push(at);
        (older, at) = (at, waiter.newer);
    }
    assert_eq!(core.newest_waiter, older);
    all
}

#[test]
fn waiters_keep_their_order_in_their_lists_and_by_age() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let mut core = Core::new(Config::for_frames(0)).unwrap();
        let mut lists = [List::EMPTY; LISTS];
        let mut model: [VecDeque<u32>; LISTS] = Default::default();
        let mut ages: Vec<u32> = Vec::new();
        for step in 1..3000 {
            let place = random.below(LISTS as u64) as usize;
            let (list, expected) = (&mut lists[place], &mut model[place]);
            let gone = match random.below(12) {
                5..=9 => {
                    let index = core.waiter_new(somebody(step), None, Time(step)).unwrap();
                    list.push(&mut core.waiters, index);
                    expected.push_back(index);
                    ages.push(index);
                    None
                }
                2 => {
                    let first = list.pop(&mut core.waiters);
                    assert_eq!(first, expected.pop_front());
                    first
                }
                3 if !expected.is_empty() => {
                    let at = random.below(expected.len() as u64) as usize;
                    let index = expected.remove(at).unwrap();
                    list.remove(&mut core.waiters, index);
                    Some(index)
                }
                4 => {
                    // All of one list to the end of another.
                    let (mut all, next) = (*list, (place + 1) % LISTS);
                    let round = all.round();
                    lists[next].append(&mut core.waiters, &mut all);
                    assert!(all.round() != round || expected.is_empty());
                    lists[place] = all;
                    let moved = std::mem::take(&mut model[place]);
                    model[next].extend(moved);
                    None
                }
                _ => {
                    // From one list to the end of another.
                    let first = list.pop(&mut core.waiters);
                    assert_eq!(first, expected.pop_front());
                    if let Some(index) = first {
                        let next = (place + 1) % LISTS;
                        lists[next].push(&mut core.waiters, index);
                        model[next].push_back(index);
                    }
                    None
                }
            };
            if let Some(index) = gone {
                core.waiter_free(index);
                ages.retain(|at| *at != index);
            }
            for (list, expected) in lists.iter().zip(&model) {
                assert_eq!(list.is_empty(), expected.is_empty());
                assert_eq!(
                    listed(&core, list),
                    expected.iter().copied().collect::<Vec<_>>()
                );
            }
            assert_eq!(by_age(&core), ages);
            assert_eq!(core.waiters.len() as usize, ages.len());
        }
    }
}

#[test]
fn a_waiter_is_found_by_its_token_also_where_there_was_no_node_for_it() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let mut core = Core::new(Config::for_frames(0)).unwrap();
        let mut model: Vec<(Token, u32)> = Vec::new();
        for step in 1..600 {
            // Few places, so that some have several, far apart, so that each takes nodes.
            let place = random.below(6) << 17;
            let token = Token(NonZeroU64::new(step << 20 | place).unwrap());
            core.nodes
                .set_limit(if random.once_in(2) { 0 } else { 100 });
            if random.below(5) < 3 {
                let what = somebody(step);
                let index = core.waiter_new(what, Some(token), Time(step)).unwrap();
                model.push((token, index));
            } else if !model.is_empty() {
                let at = random.below(model.len() as u64) as usize;
                let (gone, index) = model.swap_remove(at);
                core.waiter_free(index);
                let found = core.tokens.find(&core.nodes, &core.waiters, gone);
                assert_eq!(found, None);
            }
            for (token, index) in &model {
                let found = core.tokens.find(&core.nodes, &core.waiters, *token);
                assert_eq!(found, Some(*index));
            }
        }
        for (_, index) in model {
            core.waiter_free(index);
        }
        assert!(core.nodes.is_empty() && core.waiters.is_empty());
    }
}

#[test]
fn a_frame_is_free_or_zeroed_or_somebodys() {
    const FRAMES: u32 = 70;
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut pages = Pages::new(FRAMES).unwrap();
        let (mut free, mut clean, mut taken, mut away) = (
            BTreeSet::new(),
            BTreeSet::new(),
            BTreeSet::new(),
            (0..FRAMES).collect::<BTreeSet<u32>>(),
        );
        for _ in 0..3000 {
            let number = random.below(FRAMES.into()) as u32;
            let frame = Frame(number);
            match random.below(6) {
                0 => {
                    let news = away.remove(&number);
                    assert_eq!(pages.add(frame), news);
                    if news {
                        free.insert(number);
                    }
                }
                1 => {
                    let found = pages.take(State::Free).map(|frame| frame.0);
                    assert_eq!(found.is_none(), free.is_empty());
                    if let Some(number) = found {
                        assert!(free.remove(&number) && taken.insert(number));
                    }
                }
                2 => {
                    let found = pages.take(State::Clean).map(|frame| frame.0);
                    assert_eq!(found.is_none(), clean.is_empty());
                    if let Some(number) = found {
                        assert!(clean.remove(&number) && taken.insert(number));
                    }
                }
                3 => {
                    let there = free.remove(&number) || clean.remove(&number);
                    assert_eq!(pages.take_this(frame), there);
                    if there {
                        taken.insert(number);
                    }
                }
                4 if taken.remove(&number) => {
                    if random.once_in(2) {
                        pages.put(frame, State::Clean);
                        clean.insert(number);
                    } else {
                        pages.put(frame, State::Free);
                        free.insert(number);
                    }
                }
                5 if random.once_in(3) && taken.remove(&number) => {
                    pages.give_away(frame);
                    away.insert(number);
                }
                _ => {}
            }
            assert_eq!(pages.clean() as usize, clean.len());
            assert_eq!(pages.free() as usize, free.len() + clean.len());
            assert_eq!(pages.total(), FRAMES - away.len() as u32);
        }
    }
}
