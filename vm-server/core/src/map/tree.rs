//! The ordered entries of a map: an AVL tree, index-linked through the entries themselves.
//!
//! Each entry knows the hole below it (`gap`), and how high its two subtrees are and the largest hole
//! in each, so that look-up by address, neighbours, and the first hole that fits are all O(log n), and
//! a change looks at the nodes above it and at no others. Of some subtrees the hole that is known is
//! more than the truth, never less ([`told`]). The tree allocates nothing: an entry is its
//! own node, `prev` and `next` thread the nodes in order, and [`Link::NIL`] reads as an empty
//! subtree. The hole above the last entry belongs to no node.
//!
//! An entry's `end` may be changed in place as long as the order stays; [`Tree::settle`] then renews
//! the hole above it.

use core::cell::Cell;

use self::node::{Change, LARGE, Side, Subtree};
use super::entry::Entry;
use crate::slab;

pub(crate) use self::node::Hooks;

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
    /// Subtrees of which the node above knows a hole that may be too large.
    loose: u32,
    /// An entry whose larger hole the node above may not have been told of yet, or none.
    untold: Link,
    /// Below this address all is mapped: the lowest hole begins here or above.
    solid: u64,
    min: u64,
    max: u64,
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
            loose: 0,
            untold: Link::NIL,
            solid: min,
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
        self.descend(store, address)
    }

    /// As [`Tree::floor`], from the root.
    fn descend(&self, store: &impl Store, address: u64) -> Link {
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

    /// Where the last look-up ended: an entry of the tree, or none.
    #[inline(always)]
    pub(crate) const fn near(&self) -> Link {
        self.near.get()
    }

    /// The entry that contains `address`.
    #[inline]
    pub(crate) fn find(&self, store: &impl Store, address: u64) -> Link {
        let near = self.near();
        match store.at(near) {
            Some(entry) if entry.contains(address) => near,
            _ => self.find_far(store, address),
        }
    }

    /// As [`Tree::find`], where the last look-up did not end.
    #[inline(never)]
    pub(crate) fn find_far(&self, store: &impl Store, address: u64) -> Link {
        let floor = self.descend(store, address);
        match store.at(floor) {
            Some(entry) if entry.contains(address) => floor,
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
        if let Some(start) = store.at(new).map(|entry| entry.start) {
            let prev = self.floor(store, start);
            self.insert_after(store, prev, new);
        }
    }

    /// The same next after `prev`, or if there is none, before all others. Each record is looked at once.
    pub(crate) fn insert_after(&mut self, store: &mut impl Store, prev: Link, new: Link) {
        let Some((start, end)) = store.at(new).map(|entry| (entry.start, entry.end)) else {
            return;
        };
        if start == self.solid {
            self.solid = end;
        }
        // One of the two neighbours has no subtree on that side.
        let mut hung = None;
        let (gap, next) = match store.at_mut(prev) {
            Some(entry) => {
                let gap = start.saturating_sub(entry.end);
                if entry.right.is_nil() {
                    let was = entry.hooks.subtree();
                    entry.hang_leaf(Side::Right, (new, gap), &mut self.loose);
                    hung = Some(Change::of(prev, entry, was));
                }
                (gap, core::mem::replace(&mut entry.hooks.next, new))
            }
            None => {
                let gap = start.saturating_sub(self.min);
                (gap, core::mem::replace(&mut self.first, new))
            }
        };
        // Of a hole that this goes into nobody needs to be told as it was.
        let untold = self.untold == next;
        if !untold {
            self.tell_untold(store);
        }
        self.untold = Link::NIL;
        let mut above = None;
        match store.at_mut(next) {
            Some(entry) => {
                let was = entry.hooks.subtree();
                entry.hooks.prev = new;
                entry.hooks.gap = entry.start.saturating_sub(end);
                if hung.is_none() {
                    entry.hang_leaf(Side::Left, (new, gap), &mut self.loose);
                }
                above = Some(Change::of(next, entry, was));
            }
            None => self.last = new,
        }
        let parent = hung.or(above);
        if let Some(entry) = store.at_mut(new) {
            entry.left = Link::NIL;
            entry.right = Link::NIL;
            entry.hooks = Hooks {
                parent: parent.map_or(Link::NIL, |parent| parent.at),
                prev,
                next,
                gap,
                ..Hooks::FREE
            };
        }
        self.near.set(new);
        self.len = self.len.saturating_add(1);
        let Some(parent) = parent else {
            self.root = new;
            return;
        };
        if let Some(hung) = hung.filter(Change::is_of_hole) {
            self.tell(store, hung.at);
        }
        if let Some(above) = above.filter(|above| untold || above.is_of_hole()) {
            self.tell(store, above.at);
        }
        if parent.is_of_height() {
            self.climb(store, parent.at);
        }
    }

    /// Takes out the entry at `old`, which is in the tree.
    pub(crate) fn unhang(&mut self, store: &mut impl Store, old: Link) {
        self.tell_untold(store);
        let Some(entry) = store.at(old) else { return };
        let (left, right, hooks) = (entry.left, entry.right, entry.hooks);
        self.solid = self.solid.min(entry.start);
        self.loose = self.loose.saturating_sub(hooks.loose());
        self.len = self.len.saturating_sub(1);
        if self.thread(store, hooks.prev, hooks.next) {
            self.untold = hooks.next;
        }
        if self.near.get() == old {
            self.near.set(hooks.prev);
        }
        if !left.is_nil() && !right.is_nil() {
            let lowest = self.put_successor(store, old);
            if lowest != self.untold {
                self.tell(store, lowest);
            }
            return self.climb(store, lowest);
        }
        let (child, below) = match left.is_nil() {
            true => (right, hooks.below(Side::Right)),
            false => (left, hooks.below(Side::Left)),
        };
        if let Some(entry) = store.at_mut(child) {
            entry.hooks.parent = hooks.parent;
        }
        let Some(entry) = store.at_mut(hooks.parent) else {
            self.root = child;
            return;
        };
        let was = entry.hooks.subtree();
        let side = entry.side_of(old);
        *entry.child_mut(side) = child;
        entry.hooks.note(side, below, &mut self.loose);
        let parent = Change::of(hooks.parent, entry, was);
        if parent.is_of_hole() && parent.at != self.untold {
            self.tell_above(store, (parent.at, parent.parent), parent.is.hole());
        }
        self.climb(store, parent.at);
    }

    /// Takes out `count` entries from `first` on, up to the one below `next`; each still knows the next. What
    /// the entries know too large is counted until [`Tree::forget`].
    pub(crate) fn unhang_run(
        &mut self,
        store: &mut impl Store,
        (first, count): (Link, u32),
        next: Link,
    ) {
        if count < RUN {
            let mut link = first;
            for _ in 0..count {
                let next = store.at(link).map_or(Link::NIL, |entry| entry.hooks.next);
                self.unhang(store, link);
                // It has been counted.
                if let Some(entry) = store.at_mut(link) {
                    entry.hooks.known = [Subtree::NONE; 2];
                }
                link = next;
            }
            return;
        }
        let Some(entry) = store.at(first) else {
            return;
        };
        let prev = entry.hooks.prev;
        self.solid = self.solid.min(entry.start);
        self.tell_untold(store);
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
        self.tell(store, next);
    }

    /// Counts no more what entries that are in no tree any more know too large.
    pub(crate) const fn forget(&mut self, loose: u32) {
        self.loose = self.loose.saturating_sub(loose);
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
            match left.height() > right.height() {
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
        while left.height().abs_diff(right.height()) > 1 {
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
            entry.hooks.note(Side::Left, left, &mut self.loose);
            entry.hooks.note(Side::Right, right, &mut self.loose);
        }
        self.set_child(store, above, side, middle);
        self.tell(store, middle);
        self.climb(store, middle);
        self.root
    }

    /// Settles the hole below an entry, after its start or the end of the one below it was changed in
    /// place.
    pub(crate) fn settle(&mut self, store: &mut impl Store, link: Link) {
        let Some(entry) = store.at(link) else { return };
        let below = store
            .at(entry.hooks.prev)
            .map_or(self.min, |entry| entry.end);
        self.solid = self.solid.min(below);
        self.set_gap(store, link, below);
    }

    /// Moves the end of an entry, and settles the hole above it. Gives where the end was.
    pub(crate) fn set_end(&mut self, store: &mut impl Store, link: Link, end: u64) -> u64 {
        let Some(entry) = store.at_mut(link) else {
            return end;
        };
        let old = core::mem::replace(&mut entry.end, end);
        let next = entry.hooks.next;
        if end < self.solid || old == self.solid {
            self.solid = end;
        }
        self.set_gap(store, next, end);
        old
    }

    /// Notes where the hole below an entry begins.
    fn set_gap(&mut self, store: &mut impl Store, link: Link, below: u64) {
        let Some(entry) = store.at_mut(link) else {
            return;
        };
        let was = entry.hooks.subtree();
        entry.hooks.gap = entry.start.saturating_sub(below);
        let change = Change::of(link, entry, was);
        if change.is_of_hole() {
            self.tell_above(store, (link, change.parent), change.is.hole());
        }
    }

    /// Makes `next` the successor of `prev`; either may be missing. Says whether the hole between them is
    /// another one, of which nobody is told.
    fn thread(&mut self, store: &mut impl Store, prev: Link, next: Link) -> bool {
        let below = match store.at_mut(prev) {
            Some(entry) => {
                entry.hooks.next = next;
                entry.end
            }
            None => {
                self.first = next;
                self.min
            }
        };
        match store.at_mut(next) {
            Some(entry) => {
                entry.hooks.prev = prev;
                let gap = entry.start.saturating_sub(below);
                core::mem::replace(&mut entry.hooks.gap, gap) != gap
            }
            None => {
                self.last = prev;
                false
            }
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
                entry.hooks.note(Side::Left, below, &mut self.loose);
            }
            self.set_child(store, heir, Side::Right, right);
            if let Some(entry) = store.at_mut(heir) {
                let right = hooks.below(Side::Right);
                entry.hooks.note(Side::Right, right, &mut self.loose);
            }
            heir_parent
        };
        self.set_child(store, heir, Side::Left, left);
        if let Some(entry) = store.at_mut(heir) {
            let left = hooks.below(Side::Left);
            entry.hooks.note(Side::Left, left, &mut self.loose);
        }
        self.replace(store, old, heir);
        lowest
    }
}

fn subtree(store: &impl Store, at: Link) -> Subtree {
    store
        .at(at)
        .map_or(Subtree::NONE, |entry| entry.hooks.subtree())
}

mod append;
mod balance;
mod node;
mod sound;
mod space;
#[cfg(test)]
mod tests;
mod told;
