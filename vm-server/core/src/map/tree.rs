//! The ordered entries of a map: an AVL tree, index-linked through the entries themselves.
//!
//! Each entry knows the hole below it (`gap`) and the largest hole in its subtree (`max_gap`), so
//! that look-up by address, neighbours, and the first hole that fits are all O(log n). The tree
//! allocates nothing: an entry is its own node, `prev` and `next` thread the nodes in order, and
//! [`Link::NIL`] reads as an empty subtree. The hole above the last entry belongs to no node.
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
    pub(crate) height: u32,
    /// Bytes between this entry and the one below it, or the tree's lower bound.
    pub(crate) gap: u64,
    /// The largest `gap` in the subtree of this entry, as far as [`LARGE`].
    pub(crate) max_gap: u64,
}

impl Hooks {
    /// Of an entry that is in no tree.
    pub(crate) const FREE: Hooks = Hooks {
        parent: Link::NIL,
        prev: Link::NIL,
        next: Link::NIL,
        height: 0,
        gap: 0,
        max_gap: 0,
    };
}

/// Holes of this size and more are as good as each other for what a node knows of its subtree. A space
/// has room for few of them, so that a search for more looks at few that are too small; and a change
/// of one, which the hole above a growing entry mostly is, concerns no node but its own. Small in
/// tests, so that they meet it.
const LARGE: u64 = if cfg!(test) { 1 << 18 } else { 1 << 40 };

/// Candidates that a search with an alignment looks at before it settles for a hole that is large
/// enough whatever its alignment. Keeps one search bounded in a space that is full of small holes.
const EXACT_TRIES: u32 = 256;

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
        let Some(start) = store.at(new).map(|entry| entry.start) else {
            return;
        };
        let prev = self.floor(store, start);
        // One of the two neighbours has no subtree on that side.
        let (parent, side, next) = match store.at(prev) {
            Some(entry) if entry.right.is_nil() => (prev, Side::Right, entry.hooks.next),
            Some(entry) => (entry.hooks.next, Side::Left, entry.hooks.next),
            None => (self.first, Side::Left, self.first),
        };
        if let Some(entry) = store.at_mut(new) {
            entry.left = Link::NIL;
            entry.right = Link::NIL;
            entry.hooks = Hooks {
                parent,
                prev,
                next,
                ..Hooks::FREE
            };
        }
        self.set_child(store, parent, side, new);
        self.thread(store, prev, new);
        self.thread(store, new, next);
        self.near.set(new);
        self.len = self.len.saturating_add(1);
        // The new leaf hangs below its successor: one climb settles both holes.
        self.measure(store, new);
        self.measure(store, next);
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
            let child = if left.is_nil() { right } else { left };
            self.replace(store, old, child);
            (hooks.parent, Link::NIL)
        } else {
            (self.put_successor(store, old), hooks.next)
        };
        self.len = self.len.saturating_sub(1);
        if let Some(entry) = store.at_mut(old) {
            entry.left = Link::NIL;
            entry.right = Link::NIL;
            entry.hooks = Hooks::FREE;
        }
        self.climb(store, lowest, heir);
    }

    /// Settles the hole below an entry, after the end of the one below it was changed in place.
    pub(crate) fn settle(&mut self, store: &mut impl Store, link: Link) {
        self.measure(store, link);
        self.climb(store, link, Link::NIL);
    }

    /// The lowest address at or above the hint where the wanted range lies in a hole (rule 85).
    ///
    /// With an alignment beyond the page, and after [`EXACT_TRIES`] holes that were large enough
    /// but badly aligned, only holes that fit at any alignment are taken.
    pub(crate) fn find_space(&self, store: &impl Store, want: Want) -> Option<u64> {
        let mut low = want.hint.max(self.min);
        let mut above = self.first;
        // Below the first entry there is nothing to look up.
        if store.at(above).is_some_and(|first| first.start <= low)
            && let Some(floor) = store.at(self.floor(store, low))
        {
            low = low.max(floor.end);
            above = floor.hooks.next;
        }
        let mut need = want.size;
        let mut tries = 0u32;
        loop {
            let high = store.at(above).map_or(self.max, |entry| entry.start);
            let start = low.checked_add(want.mask)? & !want.mask;
            if start.checked_add(want.size)? <= high {
                return Some(start);
            }
            if above.is_nil() {
                return None;
            }
            tries = tries.saturating_add(1);
            if tries >= EXACT_TRIES {
                need = want.size.saturating_add(want.mask);
            }
            above = self.next_hole(store, above, need);
            low = match store.at(above) {
                Some(entry) => entry.start.saturating_sub(entry.hooks.gap),
                None => store.at(self.last).map_or(self.min, |entry| entry.end),
            };
        }
    }

    /// The first entry after `from` with a hole of at least `need` bytes below it, or one of at least
    /// [`LARGE`].
    fn next_hole(&self, store: &impl Store, from: Link, need: u64) -> Link {
        let need = need.min(LARGE);
        let fits = |link: Link| store.at(link).is_some_and(|e| e.hooks.max_gap >= need);
        let mut at = from;
        let mut subtree = store.at(from).map_or(Link::NIL, |entry| entry.right);
        while !fits(subtree) {
            let child = at;
            at = store.at(at).map_or(Link::NIL, |entry| entry.hooks.parent);
            let Some(entry) = store.at(at) else {
                return Link::NIL;
            };
            if entry.left == child {
                if entry.hooks.gap >= need {
                    return at;
                }
                subtree = entry.right;
            }
        }
        let mut at = subtree;
        while let Some(entry) = store.at(at) {
            if fits(entry.left) {
                at = entry.left;
            } else if entry.hooks.gap >= need {
                return at;
            } else {
                at = entry.right;
            }
        }
        Link::NIL
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

    /// Puts `new` (or nothing) in the place of `old` below `old`'s parent.
    fn replace(&mut self, store: &mut impl Store, old: Link, new: Link) {
        let parent = store.at(old).map_or(Link::NIL, |entry| entry.hooks.parent);
        let side = match store.at(parent) {
            Some(entry) if entry.left == old => Side::Left,
            _ => Side::Right,
        };
        self.set_child(store, parent, side, new);
    }

    /// Puts the successor of `old`, which has two children, in its place. Returns the lowest node
    /// whose subtree changed.
    fn put_successor(&mut self, store: &mut impl Store, old: Link) -> Link {
        let Some(entry) = store.at(old) else {
            return Link::NIL;
        };
        let (left, right) = (entry.left, entry.right);
        let (height, max_gap) = (entry.hooks.height, entry.hooks.max_gap);
        let mut heir = right;
        while let Some(entry) = store.at(heir).filter(|entry| !entry.left.is_nil()) {
            heir = entry.left;
        }
        let Some(entry) = store.at(heir) else {
            return Link::NIL;
        };
        let (heir_parent, heir_right) = (entry.hooks.parent, entry.right);
        let lowest = if heir_parent == old {
            heir
        } else {
            self.set_child(store, heir_parent, Side::Left, heir_right);
            self.set_child(store, heir, Side::Right, right);
            heir_parent
        };
        self.set_child(store, heir, Side::Left, left);
        self.replace(store, old, heir);
        // What the node above knows of this place, so that the climb sees what changes.
        if let Some(entry) = store.at_mut(heir) {
            entry.hooks.height = height;
            entry.hooks.max_gap = max_gap;
        }
        lowest
    }

    /// Settles heights and largest holes from `link` upwards, rotating where heights differ by two: to
    /// the first node that does not change. The hole below `last`, which is on the way, is new too:
    /// from a node below it that does not change it goes on there.
    fn climb(&mut self, store: &mut impl Store, link: Link, last: Link) {
        let mut at = link;
        let mut passed = last.is_nil();
        // What the largest hole of the subtree below was and is, if nothing else has changed there.
        let mut below = None;
        while !at.is_nil() {
            let is_last = at == last;
            passed |= is_last;
            let from = if is_last { None } else { below };
            let node = match from.and_then(|hole| widen(store, at, hole)) {
                Some(node) => node,
                None => refresh(store, at),
            };
            below = (!node.grew).then_some(node.hole);
            at = match node.lean {
                2.. => {
                    below = None;
                    self.lean_parent(store, at, Side::Left)
                }
                ..=-2 => {
                    below = None;
                    self.lean_parent(store, at, Side::Right)
                }
                _ if node.grew || node.hole.0 != node.hole.1 => node.parent,
                _ if passed => return,
                _ => {
                    below = None;
                    last
                }
            };
        }
    }

    /// Rebalances a node. Returns what is above it now.
    fn lean_parent(&mut self, store: &mut impl Store, at: Link, heavy: Side) -> Link {
        let top = self.lean(store, at, heavy);
        store.at(top).map_or(Link::NIL, |entry| entry.hooks.parent)
    }

    /// Rebalances a node whose `heavy` side is two levels higher. Returns the new top.
    fn lean(&mut self, store: &mut impl Store, at: Link, heavy: Side) -> Link {
        let child = child(store, at, heavy);
        let inner = match heavy {
            Side::Left => balance(store, child) < 0,
            Side::Right => balance(store, child) > 0,
        };
        if inner {
            self.rotate(store, child, heavy.other());
        }
        self.rotate(store, at, heavy)
    }

    /// Lifts the child on `side` above `at`. Returns it.
    fn rotate(&mut self, store: &mut impl Store, at: Link, side: Side) -> Link {
        let up = child(store, at, side);
        let across = child(store, up, side.other());
        self.replace(store, at, up);
        self.set_child(store, at, side, across);
        self.set_child(store, up, side.other(), at);
        refresh(store, at);
        refresh(store, up);
        up
    }

    /// Whether the tree is sound: order, threads, balance, holes. For checks after a change; O(n).
    pub(crate) fn is_sound(&self, store: &impl Store) -> bool {
        let mut at = self.first;
        let mut prev = Link::NIL;
        let mut low = self.min;
        let mut count = 0u32;
        let mut near = self.near.get().is_nil();
        while let Some(entry) = store.at(at) {
            let (left, right) = (store.at(entry.left), store.at(entry.right));
            let height = |e: Option<&Entry>| e.map_or(0, |e| e.hooks.height);
            let hole = |e: Option<&Entry>| e.map_or(0, |e| e.hooks.max_gap);
            let sound = entry.start < entry.end
                && entry.start >= low
                && entry.end <= self.max
                && entry.hooks.prev == prev
                && left.is_none_or(|e| e.hooks.parent == at && e.end <= entry.start)
                && right.is_none_or(|e| e.hooks.parent == at && e.start >= entry.end)
                && height(left).abs_diff(height(right)) <= 1
                && entry.hooks.height == height(left).max(height(right)).saturating_add(1)
                && entry.hooks.gap == entry.start.saturating_sub(low)
                && entry.hooks.max_gap
                    == entry.hooks.gap.min(LARGE).max(hole(left)).max(hole(right))
                && count < self.len;
            if !sound {
                return false;
            }
            count = count.saturating_add(1);
            low = entry.end;
            near |= at == self.near.get();
            prev = at;
            at = entry.hooks.next;
        }
        at.is_nil() && prev == self.last && count == self.len && near
    }
}

fn child(store: &impl Store, at: Link, side: Side) -> Link {
    match (store.at(at), side) {
        (Some(entry), Side::Left) => entry.left,
        (Some(entry), Side::Right) => entry.right,
        (None, _) => Link::NIL,
    }
}

fn height(store: &impl Store, at: Link) -> u32 {
    store.at(at).map_or(0, |entry| entry.hooks.height)
}

/// Height of the left subtree less that of the right.
fn balance(store: &impl Store, at: Link) -> i64 {
    let left = height(store, child(store, at, Side::Left));
    let right = height(store, child(store, at, Side::Right));
    i64::from(left).saturating_sub(i64::from(right))
}

/// What a climb learns of a node.
struct Refreshed {
    /// Its height is new.
    grew: bool,
    /// What its largest hole was, and is.
    hole: (u64, u64),
    /// Height of its left subtree less that of the right.
    lean: i32,
    parent: Link,
}

/// Computes a node's height and largest hole from its children.
#[inline]
fn refresh(store: &mut impl Store, at: Link) -> Refreshed {
    let Some(entry) = store.at(at) else {
        return Refreshed {
            grew: false,
            hole: (0, 0),
            lean: 0,
            parent: Link::NIL,
        };
    };
    let (parent, gap) = (entry.hooks.parent, entry.hooks.gap);
    let (was_height, was_gap) = (entry.hooks.height, entry.hooks.max_gap);
    let of = |child: Link| {
        let child = store.at(child);
        child.map_or((0, 0), |e| (e.hooks.height, e.hooks.max_gap))
    };
    let ((left_height, left_gap), (right_height, right_gap)) = (of(entry.left), of(entry.right));
    let height = left_height.max(right_height).saturating_add(1);
    let max_gap = gap.min(LARGE).max(left_gap).max(right_gap);
    let grew = height != was_height;
    if (grew || max_gap != was_gap)
        && let Some(entry) = store.at_mut(at)
    {
        entry.hooks.height = height;
        entry.hooks.max_gap = max_gap;
    }
    let lean = left_height
        .cast_signed()
        .saturating_sub(right_height.cast_signed());
    Refreshed {
        grew,
        hole: (was_gap, max_gap),
        lean,
        parent,
    }
}

/// As [`refresh`], for a node of which only the largest hole of one child has changed, from the first
/// to the second: without a look at the other child, where that does not matter.
#[inline]
fn widen(store: &mut impl Store, at: Link, (was, is): (u64, u64)) -> Option<Refreshed> {
    let hooks = &mut store.at_mut(at)?.hooks;
    let before = hooks.max_gap;
    // A hole that was the largest of all here and has shrunk leaves open which is the largest now.
    if is < was && before == was {
        return None;
    }
    hooks.max_gap = before.max(is);
    Some(Refreshed {
        grew: false,
        hole: (before, hooks.max_gap),
        lean: 0,
        parent: hooks.parent,
    })
}

#[cfg(test)]
mod tests;
