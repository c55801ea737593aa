//! Ranges set aside (mach_vm_range_create): mappings go there only by a fixed address.
//!
//! They are no entries: nothing is mapped there, vm_region passes over them, and they cost no room in
//! the tree. A map has few, in a list by address, and a search for space that comes to one goes on
//! behind it.

use ipc_abi::Kern;

use crate::Core;
use crate::event::MapId;
use crate::range::Span;
use crate::slab::NIL;

/// Ranges that a map has at most.
pub(crate) const RESERVED_MAX: usize = 64;

/// A range set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    range: Span,
    /// The next one above it.
    next: u32,
}

impl Core {
    /// The lowest range of a map, set aside, that has a part in `range`.
    pub(crate) fn reserved_in(&self, map: MapId, range: Span) -> Option<Span> {
        let mut at = self.maps.get(map)?.reserved;
        while let Some(reserved) = self.reserved.at(at) {
            if reserved.range.start() >= range.end() {
                return None;
            }
            if reserved.range.end() > range.start() {
                return Some(reserved.range);
            }
            at = reserved.next;
        }
        None
    }

    /// Whether all of a range of a map was set aside at once.
    pub(crate) fn is_reserved(&self, map: MapId, range: Span) -> bool {
        self.reserved_in(map, range)
            .is_some_and(|found| found.start() <= range.start() && range.end() <= found.end())
    }

    /// Sets ranges aside: all or none.
    ///
    /// # Errors
    /// `KERN_NO_ACCESS`: the map is sealed. `KERN_MEMORY_PRESENT`: one of them was, in part. `KERN_INVALID_ARGUMENT`: two overlap, one leaves
    /// the map, or something is mapped in one. `KERN_RESOURCE_SHORTAGE`: too many, or no record.
    pub(crate) fn reserve(&mut self, map: MapId, ranges: &[Span]) -> Result<(), Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        if self.map_is_sealed(map) {
            return Err(Kern::NoAccess);
        }
        if ranges
            .iter()
            .any(|range| self.reserved_in(map, *range).is_some())
        {
            return Err(Kern::MemoryPresent);
        }
        let mut rest = ranges;
        while let [range, others @ ..] = rest {
            let overlaps =
                |other: &Span| other.start() < range.end() && range.start() < other.end();
            if others.iter().any(overlaps)
                || record.clamp(*range) != Some(*range)
                || !self.map_is_free(map, *range)
            {
                return Err(Kern::InvalidArgument);
            }
            rest = others;
        }
        if self.reserved_count(map).saturating_add(ranges.len()) > RESERVED_MAX {
            return Err(Kern::ResourceShortage);
        }
        for (done, range) in ranges.iter().enumerate() {
            if let Err(code) = self.reserve_one(map, *range) {
                for range in ranges.iter().take(done) {
                    self.unreserve_one(map, *range);
                }
                return Err(code);
            }
        }
        Ok(())
    }

    /// Gives a child the ranges that its parent has set aside.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; the child is to be ended.
    pub(crate) fn reserve_like(&mut self, parent: MapId, child: MapId) -> Result<(), Kern> {
        let mut at = self.maps.get(parent).map_or(NIL, |map| map.reserved);
        while let Some(reserved) = self.reserved.at(at).copied() {
            self.reserve_one(child, reserved.range)?;
            at = reserved.next;
        }
        Ok(())
    }

    /// Forgets the ranges of a map that ends.
    pub(crate) fn reserved_end(&mut self, map: MapId) {
        while let Some(first) = self.maps.get(map).map(|map| map.reserved)
            && let Some(id) = self.reserved.id_at(first)
            && let Some(gone) = self.reserved.remove(id)
        {
            self.set_next(map, NIL, gone.next);
        }
    }

    fn reserved_count(&self, map: MapId) -> usize {
        let mut at = self.maps.get(map).map_or(NIL, |map| map.reserved);
        let mut count = 0usize;
        while let Some(reserved) = self.reserved.at(at) {
            count = count.saturating_add(1);
            at = reserved.next;
        }
        count
    }

    fn reserve_one(&mut self, map: MapId, range: Span) -> Result<(), Kern> {
        let (prev, next) = self.reserved_around(map, range);
        let id = self.reserved.insert(Reserved { range, next })?;
        self.set_next(map, prev, id.index());
        Ok(())
    }

    fn unreserve_one(&mut self, map: MapId, range: Span) {
        let (prev, at) = self.reserved_around(map, range);
        if let Some(id) = self.reserved.id_at(at)
            && let Some(gone) = self.reserved.remove(id)
        {
            self.set_next(map, prev, gone.next);
        }
    }

    /// The last range below a range, and the one after that.
    fn reserved_around(&self, map: MapId, range: Span) -> (u32, u32) {
        let mut prev = NIL;
        let mut at = self.maps.get(map).map_or(NIL, |map| map.reserved);
        while let Some(reserved) = self.reserved.at(at)
            && reserved.range.start() < range.start()
        {
            (prev, at) = (at, reserved.next);
        }
        (prev, at)
    }

    /// Makes `next` what follows `prev`, or the first.
    fn set_next(&mut self, map: MapId, prev: u32, next: u32) {
        if let Some(reserved) = self.reserved.at_mut(prev) {
            reserved.next = next;
        } else if let Some(map) = self.maps.get_mut(map) {
            map.reserved = next;
        }
    }
}

#[cfg(test)]
mod tests;
