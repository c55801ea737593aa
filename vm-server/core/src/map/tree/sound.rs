//! The rules of the tree, as a checker that tests and the simulation call.

use super::told::LOOSE;
use super::{Entry, Link, Side, Store, Subtree, Tree};

impl Tree {
    /// Whether the tree is sound: order, threads, balance, holes. For checks after a change; O(n).
    pub(crate) fn is_sound(&self, store: &impl Store) -> bool {
        let mut at = self.first;
        let mut prev = Link::NIL;
        let mut low = self.min;
        let (mut count, mut loose) = (0u32, 0u32);
        let mut near = self.near.get().is_nil();
        while let Some(entry) = store.at(at) {
            let (left, right) = (store.at(entry.left), store.at(entry.right));
            let knows = |side, e: Option<&Entry>| {
                let truth = e.map_or(Subtree::NONE, |e| e.hooks.subtree());
                let known = entry.hooks.below(side);
                let too_large = known.is_loose() && known.hole() >= truth.hole();
                let untold = !self.untold.is_nil() && entry.child(side) == self.untold;
                known.height() == truth.height()
                    && (too_large || untold || known.hole() == truth.hole())
            };
            let [low_height, high_height] = entry.hooks.known.map(Subtree::height);
            let sound = entry.start < entry.end
                && entry.start >= low
                && entry.end <= self.max
                && entry.hooks.prev == prev
                && left.is_none_or(|e| e.hooks.parent == at && e.end <= entry.start)
                && right.is_none_or(|e| e.hooks.parent == at && e.start >= entry.end)
                && low_height.abs_diff(high_height) <= 1
                && knows(Side::Left, left)
                && knows(Side::Right, right)
                && entry.hooks.gap == entry.start.saturating_sub(low)
                && (entry.start == low || low >= self.solid)
                && count < self.len;
            if !sound {
                return false;
            }
            loose = loose.saturating_add(entry.hooks.loose());
            count = count.saturating_add(1);
            low = entry.end;
            near |= at == self.near.get();
            prev = at;
            at = entry.hooks.next;
        }
        let counted = count == self.len && loose == self.loose && loose <= LOOSE;
        let solid = low >= self.solid;
        at.is_nil() && prev == self.last && counted && near && solid
    }
}
