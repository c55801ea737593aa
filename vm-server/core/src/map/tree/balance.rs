//! Heights, and how they are kept nearly equal.
//!
//! What a node knows of holes is not touched on the way up: a rotation hands it on, so that only where
//! something known too large went into it the node above is told.

use super::{Link, Side, Store, Subtree, Tree};

impl Tree {
    /// Tells the nodes above `link` how high its subtree is now, to the first that knew it, rotating where
    /// heights differ by two.
    pub(super) fn climb(&mut self, store: &mut impl Store, link: Link) {
        let mut at = link;
        let Some(entry) = store.at(at) else { return };
        let (mut known, mut parent) = (entry.hooks.known, entry.hooks.parent);
        loop {
            let [low, high] = known.map(Subtree::height);
            let mut height = low.max(high).wrapping_add(1);
            if low.abs_diff(high) > 1 {
                let heavy = if low > high { Side::Left } else { Side::Right };
                (at, height) = self.lean(store, at, heavy);
            }
            let Some(above) = store.at_mut(parent) else {
                return;
            };
            if !above.hooks.note_height(above.side_of(at), height) {
                return;
            }
            at = parent;
            (known, parent) = (above.hooks.known, above.hooks.parent);
        }
    }

    /// Rebalances a node whose `heavy` side is two levels higher. Returns the new top, and how high it is,
    /// which the node above does not know yet.
    fn lean(&mut self, store: &mut impl Store, at: Link, heavy: Side) -> (Link, u8) {
        let Some(entry) = store.at(at) else {
            return (at, 0);
        };
        let child = entry.child(heavy);
        let mut told = !entry.hooks.below(heavy).is_loose();
        if self.untold == at || self.untold == child {
            self.untold = Link::NIL;
            told = false;
        }
        if let Some(entry) = store.at(child) {
            let [inner, outer] = [heavy.other(), heavy].map(|side| entry.hooks.below(side));
            if inner.height() > outer.height() {
                told &= !inner.is_loose();
                self.rotate(store, child, heavy.other());
            }
        }
        let (top, height) = self.rotate(store, at, heavy);
        // What was known too large within is not known any more, and who was to be told is below.
        if !told {
            self.tell(store, top);
        }
        (top, height)
    }

    /// Lifts the child on `side` above `at`. Returns it, and how high it is. What becomes of the two is
    /// known before the lower one is written, so that each is written once.
    fn rotate(&mut self, store: &mut impl Store, at: Link, side: Side) -> (Link, u8) {
        let Some(entry) = store.at(at) else {
            return (at, 0);
        };
        let (up, mut lower) = (entry.child(side), entry.hooks);
        let parent = lower.parent;
        let Some(entry) = store.at_mut(up) else {
            return (at, 0);
        };
        let inner = entry.hooks.below(side.other());
        lower.parent = up;
        lower.note(side, inner, &mut self.loose);
        let across = core::mem::replace(entry.child_mut(side.other()), at);
        entry.hooks.parent = parent;
        entry
            .hooks
            .note(side.other(), lower.subtree(), &mut self.loose);
        let height = entry.hooks.height();
        if let Some(entry) = store.at_mut(at) {
            *entry.child_mut(side) = across;
            entry.hooks = lower;
        }
        if let Some(entry) = store.at_mut(across) {
            entry.hooks.parent = at;
        }
        match store.at_mut(parent) {
            Some(entry) => *entry.child_mut(entry.side_of(at)) = up,
            None => self.root = up,
        }
        (up, height)
    }
}
