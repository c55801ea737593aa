//! The ordered entries of a map: an AVL tree, index-linked through the entries themselves.
//!
//! Each entry knows the hole below it (`gap`), and how high its two subtrees are and the largest hole
//! in each, so that look-up by address, neighbours, and the first hole that fits are all O(log n), and
//! a change looks at the nodes above it and at no others. The tree allocates nothing: an entry is its
//! own node, `prev` and `next` thread the nodes in order, and [`Link::NIL`] reads as an empty
//! subtree. The hole above the last entry belongs to no node.
//!
//! An entry's `end` may be changed in place as long as the order stays; [`Tree::settle`] then renews
//! the hole above it.

use core::cell::Cell;

use super::entry::Entry;
use crate::slab;

/// Index of an entry in the slab that holds the entries of all maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub(crate) u32);

impl Link {
    /// No entry.
    pub(crate) const NIL: Link = Link(slab::NIL);

    /// Whether this is no entry.
    pub(crate) const fn is_nil(self) -> bool {
        self.0 == slab::NIL
    }
}

/// Where entries live. A link that leads nowhere reads as `None`.
pub(crate) trait Store {
    /// The entry at a link.
    fn at(&self, link: Link) -> Option<&Entry>;
    /// The entry at a link, to change.
    fn at_mut(&mut self, link: Link) -> Option<&mut Entry>;
}

/// How an entry hangs in its tree. The two links that a descent follows are in [`Entry`] itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks {
    pub(crate) parent: Link,
    pub(crate) prev: Link,
    pub(crate) next: Link,
    /// Heights of the left and the right subtree.
    heights: [u8; 2],
    /// Bytes between this entry and the one below it, or the tree's lower bound.
    pub(crate) gap: u64,
    /// The largest `gap` in the left and in the right subtree, as far as [`LARGE`].
    holes: [u64; 2],
}

impl Hooks {
    /// Of an entry that is in no tree.
    pub(crate) const FREE: Hooks = Hooks {
        parent: Link::NIL,
        prev: Link::NIL,
        next: Link::NIL,
        heights: [0; 2],
        gap: 0,
        holes: [0; 2],
    };

    /// Of an entry that is in no tree yet, and will come after this one.
    pub(crate) const fn after(prev: Link) -> Hooks {
        Hooks {
            prev,
            ..Hooks::FREE
        }
    }

    /// The subtree of this entry, as the node above knows it.
    #[inline]
    fn subtree(&self) -> Subtree {
        let ([low, high], [left, right]) = (self.heights, self.holes);
        Subtree {
            height: low.max(high).wrapping_add(1),
            hole: self.gap.min(LARGE).max(left).max(right),
        }
    }

    /// One of the two subtrees.
    #[inline]
    const fn below(&self, side: Side) -> Subtree {
        let ([low, high], [left, right]) = (self.heights, self.holes);
        match side {
            Side::Left => Subtree {
                height: low,
                hole: left,
            },
            Side::Right => Subtree {
                height: high,
                hole: right,
            },
        }
    }

    /// Notes what one of the two subtrees is now.
    #[inline]
    const fn note(&mut self, side: Side, now: Subtree) {
        let ([low, high], [left, right]) = (&mut self.heights, &mut self.holes);
        match side {
            Side::Left => (*low, *left) = (now.height, now.hole),
            Side::Right => (*high, *right) = (now.height, now.hole),
        }
    }
}

/// What is known of a subtree.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Subtree {
    height: u8,
    /// The largest hole below one of its entries, as far as [`LARGE`].
    hole: u64,
}

impl Subtree {
    const NONE: Subtree = Subtree { height: 0, hole: 0 };
}

/// Holes of this size and more are as good as each other for what a node knows of its subtree. A space
/// has room for few of them, so that a search for more looks at few that are too small; and a change
/// of one, which the hole above a growing entry mostly is, concerns no node but its own. Small in
/// tests, so that they meet it.
const LARGE: u64 = if cfg!(test) { 1 << 18 } else { 1 << 40 };

/// Entries in a row that are taken out by parting the tree, not one by one.
const RUN: u32 = 6;

/// What a search for space wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// The lowest acceptable address.
    pub(crate) hint: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Bits that must be zero in the address; at least the page mask.
    pub(crate) mask: u64,
}

/// The tree: its ends, and the bounds of the space that its entries lie in.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Link,
    first: Link,
    last: Link,
    /// An entry of the tree, or none: where the last look-up ended, and often the next one does.
    near: Cell<Link>,
    len: u32,
    min: u64,
    max: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    const fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

impl Entry {
    /// On which side of this one a child hangs.
    #[inline]
    fn side_of(&self, child: Link) -> Side {
        match self.left == child {
            true => Side::Left,
            false => Side::Right,
        }
    }

    #[inline]
    const fn child(&self, side: Side) -> Link {
        match side {
            Side::Left => self.left,
            Side::Right => self.right,
        }
    }

    #[inline]
    const fn child_mut(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }
}

impl Tree {
    /// An empty tree for the space `[min, max)`.
    pub(crate) const fn new(min: u64, max: u64) -> Tree {
        Tree {
            root: Link::NIL,
            first: Link::NIL,
            last: Link::NIL,
            near: Cell::new(Link::NIL),
            len: 0,
            min,
            max,
        }
    }

    /// Number of entries.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The lowest entry.
    pub(crate) const fn first(&self) -> Link {
        self.first
    }

    /// The lowest address of the space.
    pub(crate) const fn min(&self) -> u64 {
        self.min
    }

    /// The address after the space.
    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// The entry with the greatest start that is not above `address`: it contains the address, or
    /// is the nearest below it.
    pub(crate) fn floor(&self, store: &impl Store, address: u64) -> Link {
        let near = self.near.get();
        if let Some(entry) = store.at(near)
            && entry.start <= address
            && store
                .at(entry.hooks.next)
                .is_none_or(|next| next.start > address)
        {
            return near;
        }
        let mut best = Link::NIL;
        let mut at = self.root;
        while let Some(entry) = store.at(at) {
            if entry.start <= address {
                best = at;
                at = entry.right;
            } else {
                at = entry.left;
            }
        }
        self.near.set(best);
        best
    }

    /// The entry that contains `address`.
    pub(crate) fn find(&self, store: &impl Store, address: u64) -> Link {
        let floor = self.floor(store, address);
        match store.at(floor) {
            Some(entry) if address < entry.end => floor,
            _ => Link::NIL,
        }
    }

    /// The entry that contains `address`, else the nearest above it.
    pub(crate) fn find_or_above(&self, store: &impl Store, address: u64) -> Link {
        let floor = self.floor(store, address);
        match store.at(floor) {
            Some(entry) if address < entry.end => floor,
            Some(entry) => entry.hooks.next,
            None => self.first,
        }
    }

    /// Hangs in the entry at `new`, which overlaps none of the tree's.
    pub(crate) fn insert(&mut self, store: &mut impl Store, new: Link) {
        let Some((start, end)) = store.at(new).map(|entry| (entry.start, entry.end)) else {
            return;
        };
        let prev = self.floor(store, start);
        // One of the two neighbours has no subtree on that side.
        let (parent, next, below) = match store.at(prev) {
            Some(entry) if entry.right.is_nil() => (prev, entry.hooks.next, entry.end),
            Some(entry) => (entry.hooks.next, entry.hooks.next, entry.end),
            None => (self.first, self.first, self.min),
        };
        if let Some(entry) = store.at_mut(new) {
            entry.left = Link::NIL;
            entry.right = Link::NIL;
            entry.hooks = Hooks {
                parent,
                prev,
                next,
                gap: start.saturating_sub(below),
                ..Hooks::FREE
            };
        }
        match store.at_mut(prev) {
            Some(entry) => {
                entry.hooks.next = new;
                if parent == prev {
                    entry.right = new;
                }
            }
            None => self.first = new,
        }
        match store.at_mut(next) {
            Some(entry) => {
                entry.hooks.prev = new;
                entry.hooks.gap = entry.start.saturating_sub(end);
                if parent == next {
                    entry.left = new;
                }
            }
            None => self.last = new,
        }
        if parent.is_nil() {
            self.root = new;
        }
        self.near.set(new);
        self.len = self.len.saturating_add(1);
        // The new leaf hangs below its successor: one climb settles both holes.
        self.climb(store, new, next);
    }

    /// Takes out the entry at `old`, which is in the tree, and leaves the hole below the next one as it
    /// was: [`Tree::settle`] is due for the next, or, after many in order, for the one above the last.
    pub(crate) fn unhang(&mut self, store: &mut impl Store, old: Link) {
        let Some(entry) = store.at(old) else { return };
        let (left, right, hooks) = (entry.left, entry.right, entry.hooks);
        self.thread(store, hooks.prev, hooks.next);
        if self.near.get() == old {
            self.near.set(hooks.prev);
        }
        let (lowest, heir) = if left.is_nil() || right.is_nil() {
            let (child, below) = if left.is_nil() {
                (right, hooks.below(Side::Right))
            } else {
                (left, hooks.below(Side::Left))
            };
            let side = self.replace(store, old, child);
            if let Some(parent) = store.at_mut(hooks.parent) {
                parent.hooks.note(side, below);
            }
            (hooks.parent, Link::NIL)
        } else {
            (self.put_successor(store, old), hooks.next)
        };
        self.len = self.len.saturating_sub(1);
        self.climb(store, lowest, heir);
    }

    /// Takes out `count` entries from `first` on; each still knows the next. [`Tree::settle`] is due for
    /// the one above the last, which is returned.
    pub(crate) fn unhang_run(&mut self, store: &mut impl Store, first: Link, count: u32) -> Link {
        if count < RUN {
            let mut link = first;
            for _ in 0..count {
                let next = store.at(link).map_or(Link::NIL, |entry| entry.hooks.next);
                self.unhang(store, link);
                link = next;
            }
            return link;
        }
        let Some(prev) = store.at(first).map(|entry| entry.hooks.prev) else {
            return Link::NIL;
        };
        let mut next = first;
        for _ in 0..count {
            next = store.at(next).map_or(Link::NIL, |entry| entry.hooks.next);
        }
        self.near.set(prev);
        self.len = self.len.saturating_sub(count);
        let (low, high) = self.part(store, first);
        self.root = high;
        if next.is_nil() {
            self.root = low;
        } else {
            let (_, high) = self.part(store, next);
            self.join(store, low, next, high);
        }
        self.thread(store, prev, next);
        next
    }

    /// Takes the tree apart at a node: what is below it, and what is above it.
    fn part(&mut self, store: &mut impl Store, at: Link) -> (Link, Link) {
        let Some(entry) = store.at(at) else {
            return (Link::NIL, Link::NIL);
        };
        let (mut low, mut high) = (entry.left, entry.right);
        let (mut child, mut parent) = (at, entry.hooks.parent);
        while let Some(entry) = store.at(parent) {
            let (left, right, above) = (entry.left, entry.right, entry.hooks.parent);
            let side = entry.side_of(child);
            (child, parent) = (parent, above);
            match side {
                Side::Left => high = self.join(store, high, child, right),
                Side::Right => low = self.join(store, left, child, low),
            }
        }
        for root in [low, high] {
            if let Some(entry) = store.at_mut(root) {
                entry.hooks.parent = Link::NIL;
            }
        }
        (low, high)
    }

    /// Makes one tree of two and a node between them; it is [`Tree::root`] then, and is returned.
    fn join(&mut self, store: &mut impl Store, low: Link, middle: Link, high: Link) -> Link {
        let (left, right) = (subtree(store, low), subtree(store, high));
        // Down the inner side of the higher tree, to where the lower one fits beside.
        let (mut low, mut high) = (low, high);
        let (mut above, side) = (
            Link::NIL,
            match left.height > right.height {
                true => Side::Right,
                false => Side::Left,
            },
        );
        self.root = match side {
            Side::Right => low,
            Side::Left => high,
        };
        for root in [low, high] {
            if let Some(entry) = store.at_mut(root) {
                entry.hooks.parent = Link::NIL;
            }
        }
        let (mut left, mut right) = (left, right);
        while left.height.abs_diff(right.height) > 1 {
            let (at, tree) = match side {
                Side::Right => (&mut low, &mut left),
                Side::Left => (&mut high, &mut right),
            };
            let Some(entry) = store.at(*at) else { break };
            above = *at;
            *tree = entry.hooks.below(side);
            *at = match side {
                Side::Right => entry.right,
                Side::Left => entry.left,
            };
        }
        self.set_child(store, middle, Side::Left, low);
        self.set_child(store, middle, Side::Right, high);
        if let Some(entry) = store.at_mut(middle) {
            entry.hooks.note(Side::Left, left);
            entry.hooks.note(Side::Right, right);
        }
        self.set_child(store, above, side, middle);
        self.climb(store, middle, Link::NIL);
        self.root
    }

    /// Settles the hole below an entry, after the end of the one below it was changed in place.
    pub(crate) fn settle(&mut self, store: &mut impl Store, link: Link) {
        self.measure(store, link);
        widen(store, link);
    }

    /// Makes `next` the successor of `prev`; either may be missing.
    fn thread(&mut self, store: &mut impl Store, prev: Link, next: Link) {
        match store.at_mut(prev) {
            Some(entry) => entry.hooks.next = next,
            None => self.first = next,
        }
        match store.at_mut(next) {
            Some(entry) => entry.hooks.prev = prev,
            None => self.last = prev,
        }
    }

    /// Computes the hole below an entry from its predecessor.
    fn measure(&self, store: &mut impl Store, link: Link) {
        let Some(entry) = store.at(link) else { return };
        let below = store
            .at(entry.hooks.prev)
            .map_or(self.min, |entry| entry.end);
        let gap = entry.start.saturating_sub(below);
        if let Some(entry) = store.at_mut(link) {
            entry.hooks.gap = gap;
        }
    }

    fn set_child(&mut self, store: &mut impl Store, parent: Link, side: Side, child: Link) {
        match (store.at_mut(parent), side) {
            (Some(entry), Side::Left) => entry.left = child,
            (Some(entry), Side::Right) => entry.right = child,
            (None, _) => self.root = child,
        }
        if let Some(entry) = store.at_mut(child) {
            entry.hooks.parent = parent;
        }
    }

    /// Puts `new` (or nothing) in the place of `old` below `old`'s parent. Returns on which side.
    fn replace(&mut self, store: &mut impl Store, old: Link, new: Link) -> Side {
        let parent = store.at(old).map_or(Link::NIL, |entry| entry.hooks.parent);
        let side = match store.at(parent) {
            Some(entry) if entry.left == old => Side::Left,
            _ => Side::Right,
        };
        self.set_child(store, parent, side, new);
        side
    }

    /// Puts the successor of `old`, which has two children, in its place. Returns the lowest node
    /// whose subtree changed.
    fn put_successor(&mut self, store: &mut impl Store, old: Link) -> Link {
        let Some(entry) = store.at(old) else {
            return Link::NIL;
        };
        let (left, right, hooks) = (entry.left, entry.right, entry.hooks);
        let mut heir = right;
        while let Some(entry) = store.at(heir).filter(|entry| !entry.left.is_nil()) {
            heir = entry.left;
        }
        let Some(entry) = store.at(heir) else {
            return Link::NIL;
        };
        let (heir_parent, heir_right) = (entry.hooks.parent, entry.right);
        let below = entry.hooks.below(Side::Right);
        let lowest = if heir_parent == old {
            heir
        } else {
            self.set_child(store, heir_parent, Side::Left, heir_right);
            if let Some(entry) = store.at_mut(heir_parent) {
                entry.hooks.note(Side::Left, below);
            }
            self.set_child(store, heir, Side::Right, right);
            if let Some(entry) = store.at_mut(heir) {
                entry.hooks.note(Side::Right, hooks.below(Side::Right));
            }
            heir_parent
        };
        self.set_child(store, heir, Side::Left, left);
        if let Some(entry) = store.at_mut(heir) {
            entry.hooks.note(Side::Left, hooks.below(Side::Left));
        }
        self.replace(store, old, heir);
        lowest
    }

    /// Tells the nodes above `link` what its subtree is now, rotating where heights differ by two: to
    /// the first that knew it. The hole below `last`, which is on the way, has changed as well: from a
    /// node below it that knew, it goes on there.
    fn climb(&mut self, store: &mut impl Store, link: Link, last: Link) {
        let mut at = link;
        let mut passed = last.is_nil() || at == last;
        let Some(entry) = store.at(at) else { return };
        let mut heights = entry.hooks.heights;
        let (mut now, mut parent) = (entry.hooks.subtree(), entry.hooks.parent);
        loop {
            let [low, high] = heights;
            if low.abs_diff(high) > 1 {
                let heavy = if low > high { Side::Left } else { Side::Right };
                at = self.lean(store, at, heavy);
                let Some(top) = store.at(at) else { return };
                (now, parent) = (top.hooks.subtree(), top.hooks.parent);
            }
            let Some(above) = store.at_mut(parent) else {
                return;
            };
            let side = above.side_of(at);
            let knew = above.hooks.below(side);
            if knew.height == now.height {
                // From here on heights are as they were.
                if knew.hole != now.hole {
                    widen(store, at);
                }
                if !passed {
                    widen(store, last);
                }
                return;
            }
            above.hooks.note(side, now);
            at = parent;
            heights = above.hooks.heights;
            (now, parent) = (above.hooks.subtree(), above.hooks.parent);
            passed |= at == last;
        }
    }

    /// Rebalances a node whose `heavy` side is two levels higher. Returns the new top, which the node
    /// above does not know yet.
    fn lean(&mut self, store: &mut impl Store, at: Link, heavy: Side) -> Link {
        let child = child(store, at, heavy);
        let inner = store.at(child).is_some_and(|entry| {
            let of = |side| entry.hooks.below(side).height;
            of(heavy.other()) > of(heavy)
        });
        if inner {
            self.rotate(store, child, heavy.other());
        }
        self.rotate(store, at, heavy)
    }

    /// Lifts the child on `side` above `at`. Returns it.
    fn rotate(&mut self, store: &mut impl Store, at: Link, side: Side) -> Link {
        let Some(entry) = store.at(at) else { return at };
        let (up, parent) = (entry.child(side), entry.hooks.parent);
        let Some(entry) = store.at_mut(up) else {
            return at;
        };
        let inner = entry.hooks.below(side.other());
        let across = core::mem::replace(entry.child_mut(side.other()), at);
        entry.hooks.parent = parent;
        let mut lower = Subtree::NONE;
        if let Some(entry) = store.at_mut(at) {
            *entry.child_mut(side) = across;
            entry.hooks.parent = up;
            entry.hooks.note(side, inner);
            lower = entry.hooks.subtree();
        }
        if let Some(entry) = store.at_mut(up) {
            entry.hooks.note(side.other(), lower);
        }
        if let Some(entry) = store.at_mut(across) {
            entry.hooks.parent = at;
        }
        match store.at_mut(parent) {
            Some(entry) => *entry.child_mut(entry.side_of(at)) = up,
            None => self.root = up,
        }
        up
    }
}

fn subtree(store: &impl Store, at: Link) -> Subtree {
    store
        .at(at)
        .map_or(Subtree::NONE, |entry| entry.hooks.subtree())
}

fn child(store: &impl Store, at: Link, side: Side) -> Link {
    store.at(at).map_or(Link::NIL, |entry| entry.child(side))
}

/// Tells the nodes above `link` how large the largest hole of its subtree is now, to the first that
/// knew it. Heights have not changed.
fn widen(store: &mut impl Store, link: Link) {
    let mut at = link;
    let Some(entry) = store.at(at) else { return };
    let (mut hole, mut parent) = (entry.hooks.subtree().hole, entry.hooks.parent);
    while let Some(above) = store.at_mut(parent) {
        let [left, right] = &mut above.hooks.holes;
        let (known, other) = match above.left == at {
            true => (left, *right),
            false => (right, *left),
        };
        if *known == hole {
            return;
        }
        *known = hole;
        hole = above.hooks.gap.min(LARGE).max(hole).max(other);
        at = parent;
        parent = above.hooks.parent;
    }
}

mod append;
mod sound;
mod space;
#[cfg(test)]
mod tests;
