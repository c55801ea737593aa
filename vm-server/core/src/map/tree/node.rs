//! A node of the tree: how an entry hangs in it, and what it knows of what hangs below.

use super::Link;
use crate::map::entry::Entry;
use crate::range::PAGE_MASK;

/// How an entry hangs in its tree. The two links that a descent follows are in [`Entry`] itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks {
    pub(crate) parent: Link,
    pub(crate) prev: Link,
    pub(crate) next: Link,
    /// Bytes between this entry and the one below it, or the tree's lower bound.
    pub(crate) gap: u64,
    /// What is known of the left and the right subtree.
    pub(super) known: [Subtree; 2],
}

impl Hooks {
    /// Of an entry that is in no tree.
    pub(crate) const FREE: Hooks = Hooks {
        parent: Link::NIL,
        prev: Link::NIL,
        next: Link::NIL,
        gap: 0,
        known: [Subtree::NONE; 2],
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
    pub(super) fn subtree(&self) -> Subtree {
        let [left, right] = self.known;
        Subtree::new(self.height(), self.hole_with(left.hole().max(right.hole())))
    }

    #[inline]
    pub(super) fn height(&self) -> u8 {
        let [left, right] = self.known;
        left.height().max(right.height()).wrapping_add(1)
    }

    /// The larger of this one and the hole below the entry, as far as [`LARGE`].
    #[inline]
    pub(super) fn hole_with(&self, other: u64) -> u64 {
        self.gap.min(LARGE).max(other)
    }

    /// For how many of its subtrees it knows a hole that may be too large.
    pub(crate) const fn loose(&self) -> u32 {
        let [left, right] = self.known;
        (left.is_loose() as u32).saturating_add(right.is_loose() as u32)
    }

    /// One of the two subtrees.
    #[inline]
    pub(super) const fn below(&self, side: Side) -> Subtree {
        let [left, right] = self.known;
        match side {
            Side::Left => left,
            Side::Right => right,
        }
    }

    /// Notes what one of the two subtrees is now, and counts what is loose in `all`.
    #[inline]
    pub(super) const fn note(&mut self, side: Side, now: Subtree, all: &mut u32) {
        let [left, right] = &mut self.known;
        let known = match side {
            Side::Left => left,
            Side::Right => right,
        };
        if (known.0 | now.0) & LOOSE_BIT != 0 {
            *all = all.saturating_add(now.is_loose() as u32);
            *all = all.saturating_sub(known.is_loose() as u32);
        }
        *known = now;
    }

    /// Notes how high one of the two subtrees is now. Says whether that is new.
    #[inline]
    pub(super) const fn note_height(&mut self, side: Side, height: u8) -> bool {
        let [left, right] = &mut self.known;
        let known = match side {
            Side::Left => left,
            Side::Right => right,
        };
        let new = known.height() != height;
        known.0 = known.0 & !0xff | height as u64;
        new
    }
}

/// What is known of a subtree, in one word: the largest hole below one of its entries, as far as
/// [`LARGE`], which is a multiple of the page; that it may be less; and below that its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subtree(u64);

/// The hole may be less.
const LOOSE_BIT: u64 = 1 << 8;

impl Subtree {
    pub(super) const NONE: Subtree = Subtree(0);

    #[inline]
    pub(super) const fn new(height: u8, hole: u64) -> Subtree {
        Subtree(hole & !PAGE_MASK | height as u64)
    }

    #[inline]
    pub(super) const fn height(self) -> u8 {
        self.0 as u8
    }

    #[inline]
    pub(super) const fn hole(self) -> u64 {
        self.0 & !PAGE_MASK
    }

    #[inline]
    pub(super) const fn is_loose(self) -> bool {
        self.0 & LOOSE_BIT != 0
    }

    /// The hole may be less from now on.
    #[inline]
    pub(super) const fn loosen(&mut self) {
        self.0 |= LOOSE_BIT;
    }

    /// The same with another hole, which is as large as this.
    #[inline]
    pub(super) const fn with(self, hole: u64) -> Subtree {
        Subtree::new(self.height(), hole)
    }
}

/// Holes of this size and more are as good as each other for what a node knows of its subtree. A space
/// has room for few of them, so that a search for more looks at few that are too small; and a change
/// of one, which the hole above a growing entry mostly is, concerns no node but its own. Small in
/// tests, so that they meet it.
pub(super) const LARGE: u64 = if cfg!(test) { 1 << 18 } else { 1 << 40 };

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Side {
    pub(super) const fn other(self) -> Side {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

impl Entry {
    /// On which side of this one a child hangs.
    #[inline]
    pub(super) fn side_of(&self, child: Link) -> Side {
        match self.left == child {
            true => Side::Left,
            false => Side::Right,
        }
    }

    #[inline]
    pub(super) const fn child(&self, side: Side) -> Link {
        match side {
            Side::Left => self.left,
            Side::Right => self.right,
        }
    }

    #[inline]
    pub(super) const fn child_mut(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    /// Hangs an entry with a hole of this size below it on a side where there is none; what is loose is
    /// counted in `all`.
    #[inline]
    pub(super) fn hang_leaf(&mut self, side: Side, (leaf, gap): (Link, u64), all: &mut u32) {
        *self.child_mut(side) = leaf;
        let known = Subtree::new(1, gap.min(LARGE));
        self.hooks.note(side, known, all);
    }
}

/// What a change of a node made of its subtree.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) at: Link,
    pub(super) was: Subtree,
    pub(super) is: Subtree,
    pub(super) parent: Link,
}

impl Change {
    #[inline]
    pub(super) fn of(at: Link, entry: &Entry, was: Subtree) -> Change {
        Change {
            at,
            was,
            is: entry.hooks.subtree(),
            parent: entry.hooks.parent,
        }
    }

    /// Whether the node above is to be told of another hole.
    #[inline]
    pub(super) fn is_of_hole(&self) -> bool {
        self.was.hole() != self.is.hole()
    }

    /// Whether the node above is to be told of another height.
    #[inline]
    pub(super) const fn is_of_height(&self) -> bool {
        self.was.height() != self.is.height()
    }
}
