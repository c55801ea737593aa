//! The tree of pages against a plain map.

use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

#[test]
fn agrees_with_a_plain_map_and_gives_every_node_back() {
    let mut nodes = Nodes::new(10_000);
    let mut tree = Tree::EMPTY;
    let mut model = BTreeMap::new();
    let mut seed = 1u64;
    for step in 0..20_000u32 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = match seed >> 60 {
            0 => seed >> 12,
            1..4 => seed >> 30 & 0xFFFF,
            _ => seed >> 30 & 0xFF,
        };
        if seed >> 20 & 1 == 0 {
            tree.set(&mut nodes, index, Slot::Page(Frame(step)))
                .unwrap();
            model.insert(index, Slot::Page(Frame(step)));
        } else {
            tree.clear(&mut nodes, index);
            model.remove(&index);
        }
        assert_eq!(tree.used() as usize, model.len());
        if step % 500 == 0 {
            let mut all = Vec::new();
            let mut from = Some(0);
            while let Some((index, slot)) = from.and_then(|at| tree.next(&nodes, at)) {
                all.push((index, slot));
                from = index.checked_add(1);
            }
            let expected: Vec<_> = model.iter().map(|(i, s)| (*i, *s)).collect();
            assert_eq!(all, expected);
        }
    }
    for index in model.keys() {
        tree.clear(&mut nodes, *index);
    }
    assert!(nodes.is_empty());
    assert_eq!(tree.pages(), 0);
}

#[test]
fn runs_are_as_slot_by_slot() {
    let mut nodes = Nodes::new(10_000);
    let (mut tree, mut model) = (Tree::EMPTY, BTreeMap::new());
    let mut seed = 7u64;
    for step in 0..4000u32 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (index, count) = (seed >> 33 & 0x3FF, (seed >> 20 & 127) as u32);
        let run = index..index + u64::from(count);
        match seed >> 60 {
            0..5 => {
                let frames: Vec<Frame> = (0..count).map(|at| Frame(step + at)).collect();
                tree.put_pages(&mut nodes, index, &frames).unwrap();
                for (at, frame) in run.zip(frames) {
                    model.insert(at, Slot::Page(frame));
                }
            }
            5..9 => {
                tree.put_pending(&mut nodes, index, (count, step)).unwrap();
                for at in run {
                    model.insert(at, Slot::Pending(step));
                }
            }
            _ => {
                tree.clear_run(&mut nodes, index, count);
                model.retain(|at, _| !run.contains(at));
            }
        }
        assert_eq!(tree.used() as usize, model.len());
        let slot = |at| model.get(&at).copied().unwrap_or_default();
        for at in (0..0x480).step_by(7) {
            assert_eq!(tree.get(&nodes, at), slot(at));
        }
        let is_page = |at: &u64| matches!(slot(*at), Slot::Page(_));
        assert_eq!(
            tree.pages() as usize,
            model.keys().filter(|at| is_page(at)).count()
        );
        let empty = (index..).take_while(|at| slot(*at) == Slot::Empty);
        let empty = empty.take(count as usize).count();
        assert_eq!(tree.empty_from(&nodes, index, count) as usize, empty);
        let pages = (index..).take_while(is_page).take(count as usize).count();
        let mut found = heapless::Vec::<Frame, 64>::new();
        tree.pages_from(&nodes, index, count, &mut found);
        assert_eq!(found.len(), pages.min(64));
    }
    tree.clear_run(&mut nodes, 0, 0x500);
    assert!(nodes.is_empty());
}

#[test]
fn few_slots_are_as_many_and_what_is_used_changes_without_a_node() {
    let mut nodes = Nodes::new(1000);
    let (mut tree, mut model) = (Tree::EMPTY, BTreeMap::new());
    let (mut seed, mut alone) = (3u64, 0);
    for step in 0..20_000u32 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Some steps find no memory for a node.
        let left = if seed >> 40 & 3 == 0 { 0 } else { 10 };
        nodes.set_cap(left);
        let index = [0, 1, 63, 64, 70_000][(seed >> 33) as usize % 5];
        let slot = match seed >> 60 {
            0..4 => Slot::Page(Frame(step)),
            4 => Slot::Pending(step),
            5 => Slot::Unavailable,
            _ => Slot::Empty,
        };
        let known = model.contains_key(&index);
        let (before, done) = (
            tree.used(),
            match seed >> 50 & 3 {
                0 => match slot {
                    Slot::Page(frame) => tree.put_pages(&mut nodes, index, &[frame]),
                    Slot::Empty => {
                        tree.clear_run(&mut nodes, index, 1);
                        Ok(())
                    }
                    slot => tree.set(&mut nodes, index, slot),
                },
                1 if !known && slot == Slot::Page(Frame(step)) => {
                    tree.put_page(&mut nodes, index, Frame(step))
                }
                _ => tree.set(&mut nodes, index, slot),
            },
        );
        match (done, slot) {
            (Err(_), _) => assert!(!known && before > 0 || !matches!(slot, Slot::Page(_))),
            (Ok(()), Slot::Empty) => drop(model.remove(&index)),
            (Ok(()), slot) => drop(model.insert(index, slot)),
        }
        if done.is_err() {
            assert!(!known, "what is used changes without a node");
        }
        alone += u32::from(nodes.is_empty() && tree.used() == 1);
        let mut from = Some(0);
        let mut all = BTreeMap::new();
        while let Some((index, slot)) = from.and_then(|at| tree.next(&nodes, at)) {
            all.insert(index, slot);
            from = index.checked_add(1);
        }
        assert_eq!(all, model);
        let pages = model
            .values()
            .filter(|s| matches!(s, Slot::Page(_)))
            .count();
        assert_eq!(
            (tree.used() as usize, tree.pages() as usize),
            (model.len(), pages)
        );
        let slot = |at| model.get(&at).copied().unwrap_or_default();
        for at in [0, 1, 2, 63, 64, 65, 70_000, 1 << 40] {
            assert_eq!(tree.get(&nodes, at), slot(at));
            let empty = (at..)
                .take_while(|at| slot(*at) == Slot::Empty)
                .take(70)
                .count();
            assert_eq!(tree.empty_from(&nodes, at, 70) as usize, empty);
            let pages = (at..).take_while(|at| matches!(slot(*at), Slot::Page(_)));
            let mut found = heapless::Vec::<Frame, 64>::new();
            tree.pages_from(&nodes, at, 64, &mut found);
            assert_eq!(found.len(), pages.take(64).count());
        }
    }
    assert!(alone > 500, "there was often one alone: {alone}");
    nodes.set_cap(0);
    tree.clear_run(&mut nodes, 0, 100_000);
    assert!(nodes.is_empty());
}

#[test]
fn slots_read_back_and_neighbours_are_pages_only() {
    let mut nodes = Nodes::new(10);
    let mut tree = Tree::EMPTY;
    for (index, slot) in [
        (3, Slot::Page(Frame(9))),
        (5, Slot::Pending(4)),
        (6, Slot::Unavailable),
    ] {
        tree.set(&mut nodes, index, slot).unwrap();
        assert_eq!(tree.get(&nodes, index), slot);
    }
    let leaf = tree.leaf_at(&nodes, 60).unwrap();
    assert_eq!(leaf.pages(), 1 << 3);
    assert_eq!(leaf.slot(5), Slot::Pending(4));
    assert_eq!((tree.used(), tree.pages()), (3, 1));
    assert_eq!(tree.get(&nodes, 64), Slot::Empty);
}

#[test]
fn one_leaf_may_be_empty_while_others_are_not() {
    let mut nodes = Nodes::new(10);
    let mut tree = Tree::EMPTY;
    for index in [0, 64, 128, 192] {
        let page = Slot::Page(Frame(1));
        tree.set(&mut nodes, index, page).unwrap();
    }
    for (index, left) in [(64, 5), (128, 4), (0, 3)] {
        tree.clear(&mut nodes, index);
        assert_eq!(nodes.len(), left, "but for the last");
    }
    assert_eq!(tree.next(&nodes, 0), Some((192, Slot::Page(Frame(1)))));
    tree.set(&mut nodes, 5, Slot::Unavailable).unwrap();
    tree.clear(&mut nodes, 192);
    assert_eq!(nodes.len(), 3, "the empty one was used again");
    tree.clear(&mut nodes, 5);
    assert!(nodes.is_empty());
}

#[test]
fn a_failed_insertion_changes_nothing() {
    let mut nodes = Nodes::new(2);
    let mut tree = Tree::EMPTY;
    tree.set(&mut nodes, 0, Slot::Page(Frame(1))).unwrap();
    let far = 1 << 40;
    assert_eq!(
        tree.set(&mut nodes, far, Slot::Unavailable),
        Err(Kern::ResourceShortage)
    );
    assert_eq!(nodes.len(), 1, "no node is left over");
    assert_eq!(tree.get(&nodes, 0), Slot::Page(Frame(1)));
    assert_eq!(tree.next(&nodes, 1), None);
}
