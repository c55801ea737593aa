//! Taking out of a map a piece that shows another map: into an entry with the same memory.
//!
//! Where the way to the memory is copy-on-write, the new entry is copy-on-write straight on the object:
//! a page is the task's own from its first write on, and until then shows what it showed before.
//! That costs two records at most and waits for nobody, so a fault can do it (rules 77, 78).

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

use super::super::entry::Entry;
use super::Leaf;
use crate::Core;
use crate::event::MapId;
use crate::machine::Machine;
use crate::range::Span;

impl Core {
    /// Gives the map at the entry `link`, which shows another map, an entry of its own with the memory
    /// that shows as `leaf`, within `range`. Nothing that was not code before can be executed after.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: the map is sealed, or the memory is never shared.
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn unnest<M: Machine>(
        &mut self,
        machine: &mut M,
        (map, leaf): (MapId, &Leaf),
        range: Span,
    ) -> Result<(), Kern> {
        if self.map_is_sealed(map) {
            return Err(Kern::ProtectionFailure);
        }
        let start = leaf.low.max(range.start());
        let end = leaf.end.min(range.end());
        let piece = Span::exact(start, end).ok_or(Kern::InvalidAddress)?;
        let inner = *self.entries.at(leaf.link).ok_or(Kern::InvalidAddress)?;
        let object = inner.object.ok_or(Kern::InvalidAddress)?;
        let offset = inner.offset_of(leaf.inner_of(start));
        let link = self.map_clip_range(map, piece)?;
        let Some(outer) = self.entries.at(link.0).copied() else {
            return Err(Kern::InvalidAddress);
        };
        self.object_reference(object);
        self.entry_set_object(link.0, Some(object), offset, leaf.copies);
        if let Some(entry) = self.entries.at_mut(link.0) {
            *entry = unnested(entry, leaf);
        }
        self.submap_left(outer.submap);
        if leaf.copies && leaf.rights.contains(Prot::EXECUTE) {
            self.map_revoke(machine, map, piece, Prot::READ);
        }
        self.map_changed(map);
        Ok(())
    }

    /// Takes out of a map what shows copy-on-write at the first address of a range, if it does, up to
    /// the end of the range: who is to write it through another mapping has to have it first.
    ///
    /// # Errors
    /// As [`Core::unnest`].
    pub(crate) fn unnest_copied<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        range: Span,
    ) -> Result<(), Kern> {
        let link = self.map_lookup(map, range.start());
        let leaf = link.and_then(|link| self.leaf_at(link.0, range.start()));
        match leaf {
            Some(leaf) if leaf.copies => self.unnest(machine, (map, &leaf), range),
            _ => Ok(()),
        }
    }
}

/// The attributes of an entry that has got the memory of a leaf.
fn unnested(entry: &Entry, leaf: &Leaf) -> Entry {
    let taken = if leaf.copies {
        Prot::EXECUTE
    } else {
        Prot::NONE
    };
    let inheritance = match entry.inheritance {
        // What is one's own is not shared with children.
        Inherit::Share if leaf.copies => Inherit::Copy,
        inheritance => inheritance,
    };
    Entry {
        protection: leaf.rights.difference(taken),
        max_protection: leaf.max.difference(taken),
        inheritance,
        is_shared: !leaf.copies,
        permanent: entry.permanent || leaf.permanent,
        ..*entry
    }
}
