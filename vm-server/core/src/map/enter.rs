//! Where a mapping goes, and its entry (vm_map_find_space, vm_map_enter; rules 82 to 92).

use ipc_abi::Kern;
use ipc_abi::types::MapFlags;

use super::entry::Entry;
use super::reserve::RESERVED_MAX;
use super::tree::{Link, Want};
use crate::Core;
use crate::event::MapId;
use crate::object::Object;
use crate::object::pages::{Nodes, Slot};
use crate::object::purgeable::State;
use crate::range::{PAGE_MASK, PAGE_SIZE, Span, page_of, trunc_page};
use crate::slab::{NIL, Slab};

/// Where a mapping is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// A multiple of the page: the address, or with ANYWHERE where the search begins.
    pub(crate) address: u64,
    /// Bytes, a multiple of the page, not 0.
    pub(crate) size: u64,
    /// Bits that must be zero in the address.
    pub(crate) mask: u64,
    /// ANYWHERE and OVERWRITE count here.
    pub(crate) flags: MapFlags,
}

impl Place {
    /// What a call without a mask asks for: the page of the address, or with ANYWHERE the lowest hole.
    pub(crate) const fn asked(address: u64, size: u64, flags: MapFlags) -> Place {
        let anywhere = flags.contains(MapFlags::ANYWHERE);
        Place {
            address: if anywhere { 0 } else { trunc_page(address) },
            size,
            mask: 0,
            flags,
        }
    }

    /// The lowest hole for what the server maps of itself.
    pub(crate) const fn anywhere(size: u64) -> Place {
        Place::asked(0, size, MapFlags::ANYWHERE)
    }

    /// Holds a fixed place against the end of 64 bits: neither the bytes that were asked for nor the
    /// pages that are mapped for them may reach over it.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`.
    pub(crate) fn check_end(&self, address: u64, bytes: u64) -> Result<(), Kern> {
        if !self.flags.contains(MapFlags::ANYWHERE) {
            Span::covering(address, bytes)?;
            let end = self.address.checked_add(self.size);
            end.ok_or(Kern::InvalidArgument)?;
        }
        Ok(())
    }
}

impl Core {
    /// The range that a mapping gets. With OVERWRITE other entries may lie in it.
    ///
    /// # Errors
    /// `KERN_NO_ACCESS`: the map is sealed. `KERN_NO_SPACE`: no hole fits; or the fixed address violates the mask. `KERN_INVALID_ADDRESS`:
    /// the fixed range does not lie inside the map. `KERN_NO_SPACE`: it is taken (rule 87).
    /// `KERN_RESOURCE_SHORTAGE`: more bytes than the map may have; with OVERWRITE that is seen when it
    /// is known what goes.
    pub(crate) fn map_place(&mut self, map: MapId, place: Place) -> Result<Span, Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        if self.map_is_sealed(map) {
            return Err(Kern::NoAccess);
        }
        if place.flags.contains(MapFlags::ANYWHERE) {
            let range = self.map_hole(map, place)?;
            self.check_size(map, place.size, 0)?;
            return Ok(range);
        }
        if place.address & place.mask != 0 {
            return Err(Kern::NoSpace);
        }
        let range = span(place.address, place.size)?;
        if range.start() < record.min() || range.end() > record.max() {
            return Err(Kern::InvalidAddress);
        }
        if place.flags.contains(MapFlags::OVERWRITE) {
            return Ok(range);
        }
        if !self.map_is_free(map, range) {
            return Err(Kern::NoSpace);
        }
        self.check_size(map, place.size, 0)?;
        Ok(range)
    }

    /// The lowest range from the hint on that is free and not set aside.
    fn map_hole(&mut self, map: MapId, place: Place) -> Result<Span, Kern> {
        let mut hint = place.address;
        // Each turn passes a range that was set aside.
        for _ in 0..=RESERVED_MAX {
            let want = Want {
                hint,
                size: place.size,
                mask: place.mask | PAGE_MASK,
            };
            let record = self.maps.get_mut(map).ok_or(Kern::Terminated)?;
            let start = record.tree.find_space(&mut self.entries, want);
            let range = span(start.ok_or(Kern::NoSpace)?, place.size)?;
            match self.reserved_in(map, range) {
                Some(reserved) => hint = reserved.end(),
                None => return Ok(range),
            }
        }
        Err(Kern::NoSpace)
    }

    /// Maps fresh anonymous memory in a plain map, and gives its address: the place is looked for once.
    /// `None`: it is not that easy, or is refused, and nothing has changed.
    pub(crate) fn allocate_plain(&mut self, map: MapId, place: Place, tag: u8) -> Option<u64> {
        let all = self.entries_of_all();
        let record = self.maps.get_mut(map).filter(|map| map.is_plain())?;
        let (start, below) = if !place.flags.contains(MapFlags::ANYWHERE) {
            (
                place.address,
                record.tree.floor(&self.entries, place.address),
            )
        } else if record.reserved == NIL {
            let want = Want {
                hint: place.address,
                size: place.size,
                mask: place.mask | PAGE_MASK,
            };
            record.tree.find_hole(&mut self.entries, want)?
        } else {
            return None;
        };
        let end = start.checked_add(place.size)?;
        let lower = self.entries.at(below.0);
        let (low, next) = match lower {
            Some(lower) => (lower.end, lower.hooks.next),
            None => (record.min(), record.tree.first()),
        };
        let high = self.entries.at(next.0).map_or(record.max(), |e| e.start);
        let size = record.size.checked_add(place.size)?;
        let fits = start & place.mask == 0 && low <= start && end <= high;
        if !fits || size > record.account.limits.size {
            return None;
        }
        let mut entry = Entry::anonymous(map, start, end);
        entry.tag = tag;
        if let Some(lower) = lower
            && grow_below(lower, &entry, &mut self.objects, &self.nodes)
        {
            record.set_end(&mut self.entries, below, end);
            record.changed();
            return Some(start);
        }
        if !record.has_room_for_entry(all) {
            return None;
        }
        let link = Link(self.entries.insert(entry).ok()?.index());
        record.tree.insert_after(&mut self.entries, below, link);
        record.size = size;
        record.changed();
        Some(start)
    }

    /// Whether no entry lies in a range.
    pub(crate) fn map_is_free(&self, map: MapId, range: Span) -> bool {
        let Some(record) = self.maps.get(map) else {
            return false;
        };
        let above = record.tree.find_or_above(&self.entries, range.start());
        self.entries
            .at(above.0)
            .is_none_or(|entry| entry.start >= range.end())
    }

    /// Enters a mapping into a free range: as an entry of its own, or, if it is fresh anonymous
    /// memory, as more of the entry below (rules 90 to 92). It takes over the caller's reference to
    /// the object.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or the map's limit; nothing has changed.
    pub(crate) fn map_enter(&mut self, entry: Entry) -> Result<(), Kern> {
        self.map_enter_by(entry, Core::entry_insert)
    }

    /// As [`Core::map_enter`], with a way to insert what becomes an entry of its own.
    pub(super) fn map_enter_by(
        &mut self,
        entry: Entry,
        insert: fn(&mut Core, Entry) -> Result<Link, Kern>,
    ) -> Result<(), Kern> {
        match self.entry_below(&entry) {
            Some(lower) => self.entry_set_end(lower, entry.end),
            None => {
                insert(self, entry)?;
            }
        }
        self.map_changed(entry.map);
        Ok(())
    }

    /// The entry that fresh anonymous memory can be joined to, its object having been grown.
    fn entry_below(&mut self, entry: &Entry) -> Option<Link> {
        if !entry.is_untouched() {
            return None;
        }
        let tree = &self.maps.get(entry.map)?.tree;
        let link = tree.floor(&self.entries, entry.start);
        let lower = self.entries.at(link.0)?;
        grow_below(lower, entry, &mut self.objects, &self.nodes).then_some(link)
    }
}

/// Whether fresh anonymous memory can be joined to the nearest entry below it; then that one's object
/// has been grown.
fn grow_below(lower: &Entry, entry: &Entry, objects: &mut Slab<Object>, nodes: &Nodes) -> bool {
    if lower.end != entry.start || lower.wired != 0 || lower.needs_copy || !lower.is_like(entry) {
        return false;
    }
    let Some(id) = lower.object else {
        return true;
    };
    let from = lower.offset_of(lower.end);
    let (Some(to), Some(object)) = (from.checked_add(entry.size()), objects.get_mut(id)) else {
        return false;
    };
    let alone = object.is_internal()
        && object.purgeable.state == State::Deny
        && object.refs == 1
        && object.shadow.is_none()
        && object.copy.is_none();
    // What an earlier, larger mapping left there must not show (rule 92).
    let first = page_of(from);
    let stale = if entry.size() == PAGE_SIZE {
        object.pages.get(nodes, first) != Slot::Empty
    } else {
        let next = object.pages.next(nodes, first);
        next.is_some_and(|(index, _)| index < page_of(to))
    };
    if !alone || stale {
        return false;
    }
    object.size = object.size.max(to);
    true
}

fn span(start: u64, size: u64) -> Result<Span, Kern> {
    start
        .checked_add(size)
        .and_then(|end| Span::exact(start, end))
        .ok_or(Kern::InvalidAddress)
}

#[cfg(test)]
mod tests;
