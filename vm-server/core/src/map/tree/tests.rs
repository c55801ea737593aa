//! The tree against a sorted list, and the hole sizes against a search.

extern crate std;

use super::*;
use std::vec::Vec;

const PAGE: u64 = 4096;
const MIN: u64 = PAGE;
const MAX: u64 = PAGE << 20;

impl Store for Vec<Entry> {
    fn at(&self, link: Link) -> Option<&Entry> {
        self.get(link.0 as usize)
    }
    fn at_mut(&mut self, link: Link) -> Option<&mut Entry> {
        self.get_mut(link.0 as usize)
    }
}

fn entry(start: u64, end: u64) -> Entry {
    Entry::anonymous(
        crate::event::MapId::new(0, core::num::NonZeroU32::MIN),
        start,
        end,
    )
}

/// A tree beside the sorted list of ranges that it should equal.
struct Pair {
    tree: Tree,
    store: Vec<Entry>,
    free: Vec<Link>,
    model: Vec<(u64, u64, Link)>,
    seed: u64,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        Pair {
            tree: Tree::new(MIN, MAX),
            store: Vec::new(),
            free: Vec::new(),
            model: Vec::new(),
            seed,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn add(&mut self, start: u64, end: u64) -> bool {
        if start < MIN || end > MAX || self.model.iter().any(|m| m.0 < end && start < m.1) {
            return false;
        }
        let entry = entry(start, end);
        let link = self.free.pop().unwrap_or_else(|| {
            self.store.push(entry);
            Link(self.store.len() as u32 - 1)
        });
        self.store[link.0 as usize] = entry;
        self.tree.insert(&mut self.store, link);
        let at = self.model.partition_point(|m| m.0 < start);
        self.model.insert(at, (start, end, link));
        true
    }

    /// Takes out up to `count` in order.
    fn drop_some(&mut self, n: usize, count: usize) {
        let end = self.model.len().min(n + count);
        let above = self.model.get(end).map_or(Link::NIL, |m| m.2);
        let first = self.model[n].2;
        let run = (first, (end - n) as u32);
        self.tree.unhang_run(&mut self.store, run, above);
        for (_, _, link) in self.model.drain(n..end) {
            self.tree.forget(self.store[link.0 as usize].hooks.loose());
            self.free.push(link);
        }
    }

    fn naive_space(&self, want: Want) -> Option<u64> {
        let mut low = want.hint.max(MIN);
        for m in self.model.iter().chain([&(MAX, MAX, Link::NIL)]) {
            let start = low.checked_add(want.mask)? & !want.mask;
            if start.checked_add(want.size)? <= m.0 {
                return Some(start);
            }
            low = low.max(m.1);
        }
        None
    }

    fn compare(&mut self) {
        assert!(self.tree.is_sound(&self.store));
        assert_eq!(self.tree.len() as usize, self.model.len());
        for _ in 0..8 {
            let address = self.random(MAX + PAGE);
            let find = self.model.iter().find(|m| m.0 <= address && address < m.1);
            let above = self.model.iter().find(|m| address < m.1);
            let floor = self.model.iter().rev().find(|m| m.0 <= address);
            let link = |m: Option<&(u64, u64, Link)>| m.map_or(Link::NIL, |m| m.2);
            assert_eq!(self.tree.find(&self.store, address), link(find));
            assert_eq!(self.tree.find_or_above(&self.store, address), link(above));
            assert_eq!(self.tree.floor(&self.store, address), link(floor));
            let want = Want {
                hint: self.random(MAX * 5 / 4) & !(PAGE - 1),
                size: (1 + self.random(64)) * PAGE,
                mask: (PAGE << self.random(6)) - 1,
            };
            assert_eq!(
                self.tree.find_space(&mut self.store, want),
                self.naive_space(want)
            );
        }
    }
}

#[test]
fn random_changes_keep_the_tree_equal_to_a_sorted_list() {
    for seed in 1..=24u64 {
        let mut pair = Pair::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for step in 0..1500 {
            let n = pair.model.len();
            match pair.random(8) {
                0..=3 => {
                    let start = pair.random(MAX / PAGE) * PAGE;
                    let pages = 1 + pair.random(if seed % 2 == 0 { 4096 } else { 32 });
                    pair.add(start, start + pages * PAGE);
                }
                4 | 5 if n > 0 => {
                    let at = pair.random(n as u64) as usize;
                    // One by one, and at times so many that the tree is parted.
                    let most = if step % 16 == 0 { 60 } else { 4 };
                    let count = 1 + pair.random(most) as usize;
                    pair.drop_some(at, count);
                }
                6 if n > 0 => {
                    // Shrink at either end, as a clip or a partial deallocation does.
                    let at = pair.random(n as u64) as usize;
                    let (start, end, link) = pair.model[at];
                    if end - start > PAGE {
                        let entry = &mut pair.store[link.0 as usize];
                        if step % 2 == 0 {
                            entry.start += PAGE;
                        } else {
                            entry.end -= PAGE;
                        }
                        let next = entry.hooks.next;
                        pair.model[at] = (entry.start, entry.end, link);
                        pair.tree.settle(&mut pair.store, link);
                        pair.tree.settle(&mut pair.store, next);
                    }
                }
                _ => {}
            }
            if step % 10 == 0 {
                pair.compare();
            }
        }
        while !pair.model.is_empty() {
            let at = pair.random(pair.model.len() as u64) as usize;
            pair.drop_some(at, 1);
        }
        pair.compare();
    }
}

#[test]
fn sixty_thousand_entries_stay_balanced_and_are_searched_by_depth() {
    const N: u64 = 60_000;
    let mut store: Vec<Entry> = (0..N)
        .map(|n| entry(MIN + n * 3 * PAGE, MIN + (n * 3 + 2) * PAGE))
        .collect();
    let mut tree = Tree::new(MIN, MAX);
    for n in 0..N {
        tree.insert(&mut store, Link((n * 7919 % N) as u32));
    }
    assert!(tree.is_sound(&store));
    assert!(store.at(tree.root).unwrap().hooks.subtree().height() <= 20);
    let want = Want {
        hint: 0,
        size: 2 * PAGE,
        mask: PAGE - 1,
    };
    // Every hole has one page, so only the one above the last entry fits.
    assert_eq!(
        tree.find_space(&mut store, want),
        Some(MIN + (N * 3 - 1) * PAGE)
    );
    tree.unhang(&mut store, Link(777));
    assert_eq!(
        tree.find_space(&mut store, want),
        Some(MIN + (777 * 3 - 1) * PAGE)
    );
    for n in 0..N {
        if n != 777 {
            tree.unhang(&mut store, Link(n as u32));
        }
    }
    assert_eq!(tree.len(), 0);
    assert!(tree.is_sound(&store));
}

#[test]
fn an_aligned_search_gives_up_exactness_but_still_finds_a_sure_hole() {
    // 2000 holes of one page at odd pages, then a large one: alignment to two pages.
    let mut pair = Pair::new(1);
    for n in 0..2000 {
        assert!(pair.add((2 * n + 2) * PAGE, (2 * n + 3) * PAGE));
    }
    let want = Want {
        hint: 0,
        size: PAGE,
        mask: 2 * PAGE - 1,
    };
    let found = pair.tree.find_space(&mut pair.store, want);
    assert_eq!(found, pair.naive_space(want));
    let strange = Want {
        mask: u64::MAX,
        ..want
    };
    assert_eq!(pair.tree.find_space(&mut pair.store, strange), None);
}

#[test]
fn entries_appended_at_once_hang_as_if_one_by_one() {
    for seed in 1..200 {
        let mut pair = Pair::new(seed);
        let mut start = MIN;
        for _ in 0..8 {
            let count = 1 + pair.random(if seed % 2 == 0 { 64 } else { 5 }) as u32;
            let mut run = Vec::new();
            for _ in 0..count {
                start += pair.random(3) * PAGE;
                let mut entry = entry(start, start + PAGE);
                start = entry.end;
                let link = Link(pair.store.len() as u32);
                entry.hooks.prev = run.last().copied().unwrap_or(Link::NIL);
                if let Some(prev) = run.last() {
                    pair.store[prev.0 as usize].hooks.next = link;
                }
                pair.store.push(entry);
                pair.model.push((entry.start, entry.end, link));
                run.push(link);
            }
            pair.tree.append(&mut pair.store, run[0], count);
            pair.compare();
            // What comes between changes the tree's shape.
            let (at, _, _) = pair.model[pair.model.len() - 1];
            pair.add(at - PAGE, at);
            let at = pair.random(pair.model.len() as u64) as usize;
            pair.drop_some(at, 1);
            pair.compare();
            start = pair.model.last().map_or(start, |last| start.max(last.1));
        }
    }
}

/// Counts how often an entry is looked at.
struct Counted {
    store: Vec<Entry>,
    looks: Cell<usize>,
}

impl Store for Counted {
    fn at(&self, link: Link) -> Option<&Entry> {
        self.looks.set(self.looks.get() + 1);
        self.store.at(link)
    }
    fn at_mut(&mut self, link: Link) -> Option<&mut Entry> {
        self.looks.set(self.looks.get() + 1);
        self.store.at_mut(link)
    }
}

#[test]
fn a_search_is_short_whatever_became_smaller_before() {
    const N: u64 = 4096;
    let mut store = Counted {
        store: Vec::new(),
        looks: Cell::new(0),
    };
    let mut tree = Tree::new(MIN, MAX);
    for n in 0..N {
        let start = MIN + 4 * n * PAGE;
        store.store.push(entry(start, start + PAGE));
        tree.insert(&mut store, Link(n as u32));
    }
    // The holes of three pages become holes of one, in no order.
    for n in 0..N - 1 {
        let link = Link((n * 1021 % (N - 1)) as u32);
        let entry = store.at_mut(link).unwrap();
        entry.end += 2 * PAGE;
        let next = entry.hooks.next;
        tree.settle(&mut store, next);
    }
    assert!(tree.is_sound(&store));
    assert_eq!(tree.loose, told::LOOSE, "that many are not told");
    let want = Want {
        hint: 0,
        size: 2 * PAGE,
        mask: PAGE - 1,
    };
    let height = 16;
    for misled in [told::LOOSE as usize, 0] {
        store.looks.set(0);
        let found = tree.find_space(&mut store, want);
        assert_eq!(found, Some(MIN + (4 * N - 3) * PAGE));
        let looks = store.looks.get();
        assert!(looks <= (misled + 2) * 6 * height, "{looks} looks");
    }
    assert!(tree.is_sound(&store));
    assert_eq!(tree.loose, 0, "it has set right what misled it");
}
