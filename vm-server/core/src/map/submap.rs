//! Maps that other maps show: shared regions (vm_map_submap; rules 77, 78, 118, 119, 125).
//!
//! A *shared map* is an address map without a task. It is filled through its port like any other,
//! then *sealed* ([`seal`]): from then on its entries never change, so whoever shows it needs neither
//! its lock nor its version, and no map can come to show itself. An entry of a map may show a window
//! of a sealed map instead of an object; a look-up goes on there, in a chain of at most [`LEVELS`]
//! maps, and never needs more rights than every entry on the way gives.
//!
//! A copy-on-write entry that shows a map loses the piece that is written ([`unnest`]): that is an
//! entry of its own then, and the sealed map stays as it is.
//!
//! The entries that show a map are in a list, as those that map an object are, so that a page is
//! revoked wherever it shows ([`Core::places_of`]). How often one map can show in another is bounded
//! by [`WEIGHT`].

pub mod seal;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod unnest;
pub(crate) mod window;

use ipc_abi::types::Prot;

use super::tree::Link;
use crate::Core;
use crate::event::MapId;
use crate::range::{Span, trunc_page};
use crate::slab::NIL;

/// Sealed maps that a look-up passes at most.
pub const LEVELS: usize = 8;

/// Sealed maps that one sealed map shows at most, itself included, each as often as it shows.
pub const WEIGHT: u32 = 64;

/// Names that a shared map has at most: who pays for the map pays for them.
pub const NAMES: u32 = 64;

/// What a shared map has more than other maps.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Its entries never change again.
    pub sealed: bool,
    /// Its port and the named entries that stand for it.
    pub names: u32,
    /// First of the entries that show it, linked by `Entry::object_next`.
    pub shown: u32,
    /// Sealed maps from here to the bottom, itself included.
    pub level: u8,
    /// See [`WEIGHT`].
    pub weight: u32,
}

impl Shared {
    /// A map that nobody shows yet.
    pub(crate) const NEW: Shared = Shared {
        sealed: false,
        names: 1,
        shown: NIL,
        level: 1,
        weight: 1,
    };
}

/// What of an entry with memory shows in a map, perhaps through entries that show maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    /// The entry with memory.
    pub(crate) link: u32,
    /// First address of the outer map where it shows.
    pub(crate) low: u64,
    /// The address of the outer map that was looked for, or the first above it where it shows.
    pub(crate) start: u64,
    /// One past the last address of the outer map where it shows.
    pub(crate) end: u64,
    /// What `start` is in the map of the entry with memory.
    pub(crate) inner: u64,
    /// Rights that every entry on the way gives.
    pub(crate) rights: Prot,
    /// Rights that every entry on the way may ever give.
    pub(crate) max: Prot,
    /// An entry that shows a map is copy-on-write.
    pub(crate) copies: bool,
    /// The entry with memory is permanent.
    pub(crate) permanent: bool,
    /// Maps passed.
    pub(crate) depth: u32,
}

impl Leaf {
    /// What an address of the outer map is in the map of the entry with memory.
    pub(crate) const fn inner_of(&self, address: u64) -> u64 {
        self.inner.wrapping_add(address.wrapping_sub(self.start))
    }
}

/// Where a range of a map shows: the map itself, then every map that shows it, and so on.
#[derive(Debug)]
pub(crate) struct Places {
    own: Option<(MapId, Span)>,
    /// Entries that show a map, and the range of that map that is looked for.
    open: heapless::Vec<(u32, Span), LEVELS>,
    /// Entries that may still be looked at.
    left: u32,
}

/// Most entries that show a map that are gone over at a time.
const PLACES_MAX: u32 = 128;

impl Places {
    /// Whether there may be more places than were looked at.
    pub(crate) const fn is_given_up(&self) -> bool {
        self.left == 0
    }
}

impl Core {
    /// What shows of the entry at `link` at an address of its map, or above it.
    pub(crate) fn leaf_above(&self, link: u32, address: u64) -> Option<Leaf> {
        let entry = self.entries.at(link)?;
        let mut from = trunc_page(address).max(entry.start);
        // A map that is shown may show another, of which nothing shows: on to what lies above that.
        for _ in 0..WEIGHT {
            match self.leaf_from(link, from, LEVELS as u32) {
                Ok(leaf) => return Some(leaf),
                Err(next) if next < entry.end => from = next,
                Err(_) => return None,
            }
        }
        None
    }

    /// What shows of the entry at `link` at an address of its map.
    pub(crate) fn leaf_at(&self, link: u32, address: u64) -> Option<Leaf> {
        self.leaf_above(link, address)
            .filter(|leaf| leaf.start <= address)
    }

    /// As [`Core::leaf_above`] of an address in the entry, through so many maps at most; else the first
    /// address of which that is not known.
    pub(super) fn leaf_from(&self, link: u32, from: u64, most: u32) -> Result<Leaf, u64> {
        let mut entry = self.entries.at(link).ok_or(u64::MAX)?;
        let mut leaf = Leaf {
            link,
            low: entry.start,
            start: from,
            end: entry.end,
            inner: from,
            rights: entry.protection,
            max: entry.max_protection,
            copies: false,
            permanent: entry.permanent,
            depth: 0,
        };
        while let Some(map) = entry.submap.filter(|_| leaf.depth < most) {
            let record = self.maps.get(map).ok_or(leaf.end)?;
            let inner = entry.offset_of(leaf.inner);
            let limit = inner.saturating_add(leaf.end.saturating_sub(leaf.start));
            let Link(below) = record.tree.find_or_above(&self.entries, inner);
            leaf.copies |= entry.needs_copy;
            entry = self.entries.at(below).ok_or(leaf.end)?;
            if entry.start >= limit {
                return Err(leaf.end);
            }
            let skipped = entry.start.saturating_sub(inner);
            leaf.start = leaf.start.saturating_add(skipped);
            leaf.inner = inner.saturating_add(skipped);
            let above = leaf.inner.saturating_sub(entry.start);
            leaf.low = leaf.low.max(leaf.start.saturating_sub(above));
            let rest = entry.end.saturating_sub(leaf.inner);
            leaf.end = leaf.end.min(leaf.start.saturating_add(rest));
            leaf.link = below;
            leaf.rights &= entry.protection;
            leaf.max &= entry.max_protection;
            leaf.permanent = entry.permanent;
            leaf.depth = leaf.depth.saturating_add(1);
        }
        Ok(leaf)
    }

    /// Whether the entries of a map never change again.
    pub(crate) fn map_is_sealed(&self, map: MapId) -> bool {
        self.shared(map).is_some_and(|shared| shared.sealed)
    }

    /// What a shared map has more than others.
    pub(crate) fn shared(&self, map: MapId) -> Option<Shared> {
        self.maps.get(map)?.shared
    }

    /// Begins to go over the places where a range of a map shows.
    pub(crate) const fn places_of(&self, map: MapId, range: Span) -> Places {
        Places {
            own: Some((map, range)),
            open: heapless::Vec::new(),
            left: PLACES_MAX,
        }
    }

    /// The next of them. After [`PLACES_MAX`] entries it gives up.
    pub(crate) fn next_place(&self, places: &mut Places) -> Option<(MapId, Span)> {
        if let Some(own) = places.own.take() {
            self.open_place(places, own);
            return Some(own);
        }
        while let Some((link, range)) = places.open.last_mut() {
            let Some(entry) = self.entries.at(*link) else {
                places.open.pop();
                continue;
            };
            places.left = places.left.checked_sub(1)?;
            *link = entry.object_next;
            let low = range.start().max(entry.offset);
            let high = range.end().min(entry.offset.saturating_add(entry.size()));
            let at = |inner: u64| {
                let above = inner.saturating_sub(entry.offset);
                entry.start.saturating_add(above)
            };
            if low < high
                && let Some(range) = Span::exact(at(low), at(high))
            {
                let place = (entry.map, range);
                self.open_place(places, place);
                return Some(place);
            }
        }
        None
    }

    fn open_place(&self, places: &mut Places, (map, range): (MapId, Span)) {
        let shown = self.shared(map).map_or(NIL, |shared| shared.shown);
        if shown != NIL {
            // There are never more maps above one another than fit.
            let _ = places.open.push((shown, range));
        }
    }

    /// Puts an entry into the list of those that show its map, if it shows one.
    pub(crate) fn submap_link(&mut self, link: u32) {
        let Some(map) = self.entries.at(link).and_then(|entry| entry.submap) else {
            return;
        };
        let Some(shared) = self.shared_mut(map) else {
            return;
        };
        let next = shared.shown;
        shared.shown = link;
        if let Some(entry) = self.entries.at_mut(next) {
            entry.object_prev = link;
        }
        if let Some(entry) = self.entries.at_mut(link) {
            entry.object_next = next;
            entry.object_prev = NIL;
        }
    }

    /// The entry `link`, before `next` in the list of those that show a map, has left it.
    pub(crate) fn submap_unlinked(&mut self, map: MapId, (link, next): (u32, u32)) {
        if let Some(shared) = self.shared_mut(map)
            && shared.shown == link
        {
            shared.shown = next;
        }
    }

    /// An entry that showed a map is gone for good: perhaps nobody shows or names the map any more.
    pub(crate) fn submap_left(&mut self, map: Option<MapId>) {
        if let Some(map) = map
            && let Some(shared) = self.shared(map)
            && shared.names == 0
            && shared.shown == NIL
        {
            self.map_end(map);
        }
    }

    /// A name of a map is gone: the port of a task's map, the port of a shared map, or a named entry
    /// that stands for one. A map that others show goes with the last of those.
    pub(crate) fn map_unnamed(&mut self, map: MapId) {
        match self.shared_mut(map) {
            Some(shared) => {
                shared.names = shared.names.saturating_sub(1);
                self.submap_left(Some(map));
            }
            None => self.map_end(map),
        }
    }

    pub(super) fn shared_mut(&mut self, map: MapId) -> Option<&mut Shared> {
        self.maps.get_mut(map)?.shared.as_mut()
    }
}
