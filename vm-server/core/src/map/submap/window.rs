//! What shows at an address, as an entry that verbs on one entry can work on.
//!
//! Where the map has memory of its own, that is its entry, cut to the range. Where it shows another map,
//! or is sealed itself, no entry may be cut or marked: then it is an entry of a hidden map that holds
//! the same memory, for as long as the verb takes.

use ipc_abi::Kern;

use super::super::entry::Entry;
use crate::Core;
use crate::event::MapId;
use crate::range::Span;

/// An entry to work on.
#[derive(Debug)]
pub(crate) struct Window {
    /// The entry. Its place is that of the memory in the outer map.
    pub(crate) link: u32,
    /// The hidden map that it is in.
    hidden: Option<MapId>,
}

impl Core {
    /// The entry with what shows at the first address of a range, up to its end at most.
    /// [`Core::window_close`] ends it.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: nothing shows there. `KERN_RESOURCE_SHORTAGE`: no record; nothing has
    /// changed.
    pub(crate) fn window_open(&mut self, map: MapId, range: Span) -> Result<Window, Kern> {
        let link = self.map_lookup(map, range.start());
        let link = link.ok_or(Kern::InvalidAddress)?;
        let entry = self.entries.at(link.0).ok_or(Kern::InvalidAddress)?;
        if entry.submap.is_some() || self.map_is_sealed(map) {
            return self.window_hidden(map, link.0, range);
        }
        let end = entry.end;
        let link = self.map_clip(map, range.start())?;
        if end > range.end() {
            self.map_clip(map, range.end())?;
        }
        Ok(Window {
            link: link.0,
            hidden: None,
        })
    }

    fn window_hidden(&mut self, map: MapId, link: u32, range: Span) -> Result<Window, Kern> {
        let leaf = self.leaf_at(link, range.start());
        let leaf = leaf.ok_or(Kern::InvalidAddress)?;
        let (start, end) = (range.start(), leaf.end.min(range.end()));
        let inner = *self.entries.at(leaf.link).ok_or(Kern::InvalidAddress)?;
        let hidden = self.hidden_map(map, end)?;
        let entry = Entry {
            object: inner.object,
            offset: inner.offset_of(leaf.inner_of(start)),
            protection: leaf.rights,
            max_protection: leaf.max,
            inheritance: inner.inheritance,
            tag: inner.tag,
            is_shared: true,
            ..Entry::anonymous(hidden, start, end)
        };
        let inserted = self.entry_insert(entry);
        match inserted {
            Ok(link) => {
                if let Some(object) = inner.object {
                    self.object_reference(object);
                }
                Ok(Window {
                    link: link.0,
                    hidden: Some(hidden),
                })
            }
            Err(code) => {
                self.map_end(hidden);
                Err(code)
            }
        }
    }

    /// The work on an entry is done.
    pub(crate) fn window_close(&mut self, window: &Window) {
        if let Some(hidden) = window.hidden {
            self.map_end(hidden);
        }
    }
}
