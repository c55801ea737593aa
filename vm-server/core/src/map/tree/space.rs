//! The search for room: the lowest hole that a range fits into.

use super::{LARGE, Link, Side, Store, Subtree, Tree, Want};
use crate::range::{PAGE_MASK, PAGE_SIZE};

/// Candidates that a search with an alignment looks at before it settles for a hole that is large
/// enough whatever its alignment. Keeps one search bounded in a space that is full of small holes.
const EXACT_TRIES: u32 = 256;

impl Tree {
    /// The lowest address at or above the hint where the wanted range lies in a hole (rule 85).
    ///
    /// With an alignment beyond the page, and after [`EXACT_TRIES`] holes that were large enough
    /// but badly aligned, only holes that fit at any alignment are taken.
    pub(crate) fn find_space(&mut self, store: &mut impl Store, want: Want) -> Option<u64> {
        self.find_hole(store, want).map(|(start, _)| start)
    }

    /// As [`Tree::find_space`], with the entry below the hole, if there is one.
    #[inline]
    pub(crate) fn find_hole(&mut self, store: &mut impl Store, want: Want) -> Option<(u64, Link)> {
        // From the lowest hole on, which is most often known, and large enough.
        let plain = want.mask == PAGE_MASK && want.hint <= self.solid;
        if plain && let Some(below) = self.lowest_hole(store, want.size) {
            return Some((self.solid, below));
        }
        let found = self.find_among(store, want);
        if plain
            && want.size == PAGE_SIZE
            && let Some((start, _)) = found
        {
            self.solid = start;
        }
        found
    }

    /// Whether a range fits into the lowest hole, as far as that is known; then the entry below it.
    fn lowest_hole(&self, store: &impl Store, size: u64) -> Option<Link> {
        let start = self.solid;
        let below = self.floor(store, start);
        let (low, above) = match store.at(below) {
            Some(entry) => (entry.end, entry.hooks.next),
            None => (self.min, self.first),
        };
        let high = store.at(above).map_or(self.max, |entry| entry.start);
        let fits = low <= start && start & PAGE_MASK == 0 && start.checked_add(size)? <= high;
        fits.then_some(below)
    }

    #[inline(never)]
    fn find_among(&mut self, store: &mut impl Store, want: Want) -> Option<(u64, Link)> {
        self.tell_untold(store);
        let mut low = want.hint.max(self.min);
        let (mut below, mut above) = (Link::NIL, self.first);
        // Below the end of the first entry there is nothing to look up.
        if let Some(first) = store.at(above).filter(|first| first.start <= low) {
            (below, above) = (above, first.hooks.next);
            let mut end = first.end;
            if low >= end {
                below = self.floor(store, low);
                let floor = store.at(below)?;
                (end, above) = (floor.end, floor.hooks.next);
            }
            low = low.max(end);
        }
        let mut need = want.size;
        let mut tries = 0u32;
        loop {
            let high = store.at(above).map_or(self.max, |entry| entry.start);
            let start = low.checked_add(want.mask)? & !want.mask;
            if start.checked_add(want.size)? <= high {
                return Some((start, below));
            }
            if above.is_nil() {
                return None;
            }
            tries = tries.saturating_add(1);
            if tries >= EXACT_TRIES {
                need = want.size.saturating_add(want.mask);
            }
            above = self.next_hole(store, above, need);
            (low, below) = match store.at(above) {
                Some(entry) => {
                    let low = entry.start.saturating_sub(entry.hooks.gap);
                    (low, entry.hooks.prev)
                }
                None => {
                    let end = store.at(self.last).map_or(self.min, |entry| entry.end);
                    (end, self.last)
                }
            };
        }
    }

    /// The first entry after `from` with a hole of at least `need` bytes below it, or one of at least
    /// [`LARGE`].
    fn next_hole(&mut self, store: &mut impl Store, from: Link, need: u64) -> Link {
        let need = need.min(LARGE);
        let mut at = from;
        // Of `at` and what is below on its left nothing is left to be looked at.
        loop {
            let Some(entry) = store.at(at) else {
                return Link::NIL;
            };
            let [_, right] = entry.hooks.known;
            if right.hole() >= need {
                match descend(store, entry.right, need) {
                    Ok(found) => return found,
                    Err(wrong) => at = wrong,
                }
            }
            // Up to a node that is above what has been looked at, not below.
            loop {
                let Some(entry) = store.at(at) else {
                    return Link::NIL;
                };
                let (hole, parent) = (entry.hooks.subtree().hole(), entry.hooks.parent);
                let Some(above) = store.at(parent) else {
                    return Link::NIL;
                };
                let side = above.side_of(at);
                let (gap, loose) = (above.hooks.gap, above.hooks.below(side).is_loose());
                if loose {
                    self.correct(store, (at, parent), hole);
                }
                at = parent;
                if side == Side::Left {
                    if gap >= need {
                        return at;
                    }
                    break;
                }
            }
        }
    }
}

/// The first entry of a subtree with a hole of at least `need` bytes below it. There is none: the
/// node at which that was seen, below which none is.
fn descend(store: &impl Store, top: Link, need: u64) -> Result<Link, Link> {
    let mut at = top;
    loop {
        let Some(entry) = store.at(at) else {
            return Err(at);
        };
        let [left, right] = entry.hooks.known.map(Subtree::hole);
        if left >= need {
            at = entry.left;
        } else if entry.hooks.gap >= need {
            return Ok(at);
        } else if right >= need {
            at = entry.right;
        } else {
            return Err(at);
        }
    }
}
