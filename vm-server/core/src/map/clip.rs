//! Splitting entries and joining them again: vm_map_clip_start, vm_map_clip_end,
//! vm_map_simplify_entry, which undo each other exactly (rules 105 to 109).
//!
//! Neither changes contents, translations, or the size of the map. Also here: how an entry comes
//! into a map and leaves it, since a cut and a join are just that.

use ipc_abi::Kern;

use super::Map;
use super::entry::Entry;
use super::tree::Link;
use crate::Core;
use crate::event::MapId;
use crate::range::Span;
use crate::slab::Slab;

impl Core {
    /// Puts an entry into its map, which has room there. The entry takes over the caller's
    /// reference to its object.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or the map's limit; nothing has changed.
    pub(crate) fn entry_insert(&mut self, entry: Entry) -> Result<Link, Kern> {
        self.charge_entry(entry.map)?;
        let inserted = self.entry_put(entry);
        inserted.inspect_err(|_| self.uncharge_entry(entry.map))
    }

    /// As [`Core::entry_insert`], in place of an entry that has gone in this event: a limit that the map
    /// was beyond before is not in the way, and there is a record.
    pub(crate) fn entry_insert_instead(&mut self, entry: Entry) -> Result<Link, Kern> {
        self.charge_entry_again(entry.map);
        let inserted = self.entry_put(entry);
        inserted.inspect_err(|_| self.uncharge_entry(entry.map))
    }

    fn entry_put(&mut self, entry: Entry) -> Result<Link, Kern> {
        let link = Link(self.entries.insert(entry)?.index());
        let map = self.maps.get_mut(entry.map).ok_or(Kern::Terminated)?;
        map.tree.insert(&mut self.entries, link);
        map.size = map.size.saturating_add(entry.size());
        if !entry.is_untouched() {
            self.entry_link(link.0);
        }
        Ok(link)
    }

    /// Takes an entry out of its map, without its reference to its object, which is the caller's.
    pub(crate) fn entry_remove(&mut self, link: Link) {
        let Some(entry) = self.entries.at(link.0) else {
            return;
        };
        let (map, size) = (entry.map, entry.size());
        if !entry.is_untouched() {
            self.entry_unlink(link.0);
        }
        if let Some(map) = self.maps.get_mut(map) {
            map.tree.unhang(&mut self.entries, link);
            map.size = map.size.saturating_sub(size);
            let payer = map.account.payer;
            self.uncharge_payer(payer, 1);
        }
        self.entries.discard(link.0);
    }

    /// Splits the entry of `map` that contains `address` in two there, unless one starts there or
    /// none contains it. Returns the first entry at or above the address.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or the map's limit; nothing has changed.
    pub(crate) fn map_clip(&mut self, map: MapId, address: u64) -> Result<Link, Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        let link = record.tree.find_or_above(&self.entries, address);
        match self.entries.at(link.0) {
            None => Ok(Link::NIL),
            Some(entry) if entry.start >= address => Ok(link),
            Some(_) => self.entry_clip(link, address),
        }
    }

    /// Splits an entry in two at an address inside it. Returns the upper one.
    ///
    /// # Errors
    /// As [`Core::map_clip`].
    pub(super) fn entry_clip(&mut self, link: Link, address: u64) -> Result<Link, Kern> {
        let lower = self.entries.at(link.0).ok_or(Kern::InvalidAddress)?;
        let (map, object, untouched) = (lower.map, lower.object, lower.is_untouched());
        let mut upper = *lower;
        upper.start = address;
        if !untouched {
            upper.offset = lower.offset_of(address);
        }
        self.charge_entry(map)?;
        let new = match self.entries.insert(upper) {
            Ok(id) => Link(id.index()),
            Err(code) => {
                self.uncharge_entry(map);
                return Err(code);
            }
        };
        // The size of the map and its holes stay as they are.
        if let Some(lower) = self.entries.at_mut(link.0) {
            lower.end = address;
        }
        if let Some(map) = self.maps.get_mut(map) {
            map.tree.insert_after(&mut self.entries, link, new);
        }
        if let Some(object) = object {
            self.object_reference(object);
        }
        if !untouched {
            self.entry_link(new.0);
        }
        Ok(new)
    }

    /// Splits an entry so that one of its parts is `range`, which lies inside it. Returns that part.
    ///
    /// # Errors
    /// As [`Core::map_clip`].
    pub(super) fn entry_clip_range(&mut self, link: Link, range: Span) -> Result<Link, Kern> {
        let entry = self.entries.at(link.0).ok_or(Kern::InvalidAddress)?;
        let (below, above) = (entry.start < range.start(), range.end() < entry.end);
        let part = match below {
            true => self.entry_clip(link, range.start())?,
            false => link,
        };
        if above && let Err(code) = self.entry_clip(part, range.end()) {
            if below {
                self.entry_simplify(part);
            }
            return Err(code);
        }
        Ok(part)
    }

    /// Splits entries so that none crosses an end of `range`. Returns the first entry at or above
    /// its start.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`, as [`Core::map_clip`]; nothing has changed.
    pub(crate) fn map_clip_range(&mut self, map: MapId, range: Span) -> Result<Link, Kern> {
        let entries = |core: &Core| core.maps.get(map).map_or(0, |map| map.entries());
        let before = entries(self);
        let first = self.map_clip(map, range.start())?;
        if let Err(code) = self.map_clip(map, range.end()) {
            // A cut that was there before may be somebody's who is at work in steps.
            if entries(self) > before {
                self.entry_simplify(first);
            }
            return Err(code);
        }
        Ok(first)
    }

    /// Joins an entry with its predecessor, if the two are alike and adjacent. Returns the entry
    /// that holds its range now.
    pub(crate) fn entry_simplify(&mut self, link: Link) -> Link {
        let Some(upper) = self.entries.at(link.0) else {
            return link;
        };
        let (prev, end, object) = (upper.hooks.prev, upper.end, upper.object);
        let (map, visited) = (upper.map, upper.visited);
        match self.entries.at(prev.0) {
            Some(lower) if lower.continues_in(upper) => {}
            _ => return link,
        }
        // What is taken out is no more than what it grows by.
        let mut grown = 0;
        if let Some(lower) = self.entries.at_mut(prev.0) {
            lower.visited |= visited;
            grown = end.saturating_sub(lower.end);
            lower.end = end;
        }
        if let Some(map) = self.maps.get_mut(map) {
            map.size = map.size.saturating_add(grown);
        }
        self.entry_remove(link);
        self.lower_again(prev.0);
        self.object_unreference(object);
        prev
    }

    /// As [`Map::set_end`], of the map that an entry is in.
    pub(crate) fn entry_set_end(&mut self, link: Link, end: u64) {
        if let Some(map) = self.entries.at(link.0).map(|entry| entry.map)
            && let Some(map) = self.maps.get_mut(map)
        {
            map.set_end(&mut self.entries, link, end);
        }
    }
}

impl Map {
    /// Moves the end of an entry, into the hole above it or into the entry itself.
    pub(crate) fn set_end(&mut self, entries: &mut Slab<Entry>, link: Link, end: u64) {
        let old = self.tree.set_end(entries, link, end);
        // The entry's size is in it.
        self.size = self.size.wrapping_add(end).wrapping_sub(old);
    }

    /// Moves the start of an entry up into it.
    pub(crate) fn set_start(&mut self, entries: &mut Slab<Entry>, link: Link, start: u64) {
        let Some(entry) = entries.at_mut(link.0) else {
            return;
        };
        if !entry.is_untouched() {
            entry.offset = entry.offset_of(start);
        }
        let old = core::mem::replace(&mut entry.start, start);
        self.size = self.size.wrapping_add(old).wrapping_sub(start);
        self.tree.settle(entries, link);
    }
}
