//! Maps that other maps show: shared regions (vm_map_submap; rules 77, 78, 118, 119, 125).
//!
//! A *shared map* is an address map without a task. It is filled through its port like any other,
//! then *sealed*: from then on its entries never change, so that whoever shows it needs neither its
//! lock nor its version. An entry of a map may show a window of a sealed map instead of an object; a
//! look-up goes on there. The entries that show a map are in a list, as those that map an object are.

use crate::Core;
use crate::event::MapId;
use crate::slab::NIL;

/// What a shared map has more than other maps.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Its entries never change again.
    pub sealed: bool,
    /// Its port and the named entries that stand for it.
    pub names: u32,
    /// First of the entries that show it, linked by `Entry::object_next`.
    pub shown: u32,
}

impl Core {
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

    fn shared_mut(&mut self, map: MapId) -> Option<&mut Shared> {
        self.maps.get_mut(map)?.shared.as_mut()
    }
}
