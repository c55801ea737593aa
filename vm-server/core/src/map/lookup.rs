//! From an address to its entry (vm_map_lookup_entry). Faults and operations on pages begin here.

use super::tree::Link;
use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::range::page_of;

impl Core {
    /// The entry of a map that contains `address`. Whatever enters translations begins here (or wires),
    /// so an entry that is not marked has none.
    pub(crate) fn map_lookup(&mut self, map: MapId, address: u64) -> Option<Link> {
        let record = self.maps.get(map)?;
        // A map that was taken away from its task: see `crate::reclaim`.
        if record.dying {
            return None;
        }
        let link = record.tree.find(&self.entries, address);
        self.entries.at_mut(link.0)?.visited = true;
        Some(link)
    }

    /// The object that a look-up of an address comes to first, through maps that are shown, and the
    /// page's number in it.
    pub(crate) fn object_at(&self, map: MapId, address: u64) -> Option<(ObjectId, u64)> {
        let link = self.maps.get(map)?.tree.find(&self.entries, address);
        let leaf = self.leaf_at(link.0, address)?;
        let entry = self.entries.at(leaf.link)?;
        let offset = entry.offset_of(leaf.inner_of(address));
        Some((entry.object?, page_of(offset)))
    }
}
