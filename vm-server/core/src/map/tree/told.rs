//! What nodes know of the holes below them.
//!
//! A node's bounds are never less than the truth, and never less than what the nodes below know. So
//! a hole that becomes larger is told upwards only until somebody knows one as large. One that becomes
//! smaller need not be told: the node above then knows too much, and says so (`loose`). The
//! search for space sets such a bound right where it is misled by it.
//!
//! The hole that an entry leaves is told when the tree changes next, or is searched: most often something
//! is put into it again before ([`Tree::untold`]).
//!
//! Only so many bounds of a tree are loose ([`LOOSE`]); when there are as many, what becomes
//! smaller is told after all. So a search is misled at most so often, and goes each time up a way that is as
//! long as the tree is high: it stays bounded whatever happened before.

use super::{Link, Store, Subtree, Tree};

/// Most bounds of a tree that may be too large.
pub(super) const LOOSE: u32 = if cfg!(test) { 5 } else { 64 };

impl Tree {
    /// Tells the nodes above `at`, whose heights are as they were, of the largest hole of its
    /// subtree.
    pub(super) fn tell(&mut self, store: &mut impl Store, at: Link) {
        if let Some(entry) = store.at(at) {
            let (hole, parent) = (entry.hooks.subtree().hole(), entry.hooks.parent);
            self.tell_above(store, (at, parent), hole);
        }
    }

    /// Tells of the hole that was left last, if that is still to be done.
    #[inline]
    pub(super) fn tell_untold(&mut self, store: &mut impl Store) {
        let untold = core::mem::replace(&mut self.untold, Link::NIL);
        if !untold.is_nil() {
            self.tell(store, untold);
        }
    }

    /// The same of a node whose parent and whose largest hole are at hand.
    pub(super) fn tell_above(
        &mut self,
        store: &mut impl Store,
        (mut at, mut parent): (Link, Link),
        mut hole: u64,
    ) {
        while let Some(above) = store.at_mut(parent) {
            let [left, right] = &mut above.hooks.known;
            let (known, other) = match above.left == at {
                true => (left, *right),
                false => (right, *left),
            };
            let was = *known;
            if was == Subtree::new(was.height(), hole) {
                return;
            }
            if was.hole() > hole {
                if was.is_loose() {
                    return;
                }
                if self.loose < LOOSE {
                    known.loosen();
                    self.loose = self.loose.saturating_add(1);
                    return;
                }
            } else if was.is_loose() {
                self.loose = self.loose.saturating_sub(1);
            }
            *known = was.with(hole);
            if was.hole() == hole {
                return;
            }
            hole = above.hooks.hole_with(hole.max(other.hole()));
            at = parent;
            parent = above.hooks.parent;
        }
    }

    /// Sets right what the node above `at` knows of the largest hole of its subtree.
    pub(super) fn correct(
        &mut self,
        store: &mut impl Store,
        (at, parent): (Link, Link),
        hole: u64,
    ) {
        let Some(above) = store.at_mut(parent) else {
            return;
        };
        let side = above.side_of(at);
        let now = above.hooks.below(side).with(hole);
        above.hooks.note(side, now, &mut self.loose);
        self.tell(store, parent);
    }
}
