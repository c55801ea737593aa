//! Many entries hung in at once, above all that the tree has: they become a balanced tree of their own,
//! which one join makes part of this one.

use super::{Link, Store, Subtree, Tree};

impl Tree {
    /// Hangs in `count` entries from `first` on, which lie above all of the tree's. Each knows the next
    /// and the one before.
    pub(crate) fn append(&mut self, store: &mut impl Store, first: Link, count: u32) {
        let Some(next) = store.at(first).map(|entry| entry.hooks.next) else {
            return;
        };
        self.tell_untold(store);
        self.thread(store, self.last, first);
        self.len = self.len.saturating_add(count);
        let mut low = store
            .at(first)
            .and_then(|entry| store.at(entry.hooks.prev))
            .map_or(self.min, |entry| entry.end);
        let mut last = first;
        while let Some(entry) = store.at_mut(last) {
            entry.left = Link::NIL;
            entry.right = Link::NIL;
            entry.hooks.known = [Subtree::NONE; 2];
            entry.hooks.gap = entry.start.saturating_sub(low);
            low = entry.end;
            if entry.hooks.next.is_nil() {
                break;
            }
            last = entry.hooks.next;
        }
        self.last = last;
        let mut rest = next;
        let (high, _) = balanced(store, &mut rest, count.saturating_sub(1));
        self.join(store, self.root, first, high);
    }
}

/// Makes a tree of the next `count` entries. Its top knows no node above it.
fn balanced(store: &mut impl Store, next: &mut Link, count: u32) -> (Link, Subtree) {
    if count == 0 {
        return (Link::NIL, Subtree::NONE);
    }
    let below = count / 2;
    let (left, low) = balanced(store, next, below);
    let top = *next;
    *next = store.at(top).map_or(Link::NIL, |entry| entry.hooks.next);
    let (right, high) = balanced(store, next, count.saturating_sub(below).saturating_sub(1));
    for child in [left, right] {
        if let Some(entry) = store.at_mut(child) {
            entry.hooks.parent = top;
        }
    }
    let Some(entry) = store.at_mut(top) else {
        return (Link::NIL, Subtree::NONE);
    };
    entry.left = left;
    entry.right = right;
    entry.hooks.known = [low, high];
    (top, entry.hooks.subtree())
}
