//! Taking WRITE from all who map an object, before a copy object is hung over it (rule 13).
//!
//! The object's own pages are reached writable only through the entries that map it, since an object
//! that shadows it shows its pages read-only. They are gone through in steps, along the list of those
//! entries; the copy object comes with the last. [`Object::lowering`] is the next entry: whoever gets a
//! writable page after its turn, and whoever joins the list, is put before it. So a step that is
//! never followed by another does no harm, and no fault waits.

use crate::Core;
use crate::event::ObjectId;
use crate::machine::{Machine, REVOKE_MAX, Revoke};
#[cfg(doc)]
use crate::object::Object;
use crate::object::life::NOT_LISTED;
use crate::object::strategy::READ_ONLY;
use crate::slab::NIL;

impl Core {
    /// Takes WRITE from up to [`REVOKE_MAX`] entries that map an object. Says whether that was the last
    /// of them.
    pub(super) fn lower_mappings<M: Machine>(&mut self, machine: &mut M, id: ObjectId) -> bool {
        let Some(object) = self.objects.get(id) else {
            return true;
        };
        let mut link = match object.lowering {
            NOT_LISTED => object.entries,
            link => link,
        };
        let mut batch = heapless::Vec::<Revoke, REVOKE_MAX>::new();
        while let Some(&entry) = self.entries.at(link) {
            if batch.is_full() {
                break;
            }
            link = entry.object_next;
            let Some(map) = self.maps.get_mut(entry.map) else {
                continue;
            };
            map.epoch = map.epoch.saturating_add(1);
            // It was not full.
            let _ = batch.push(Revoke::Range {
                map: entry.map,
                epoch: map.epoch,
                start: entry.start,
                end: entry.end,
                keep: READ_ONLY,
            });
        }
        if !batch.is_empty() {
            machine.revoke(&batch);
        }
        self.lowered = self.lowered.saturating_add(batch.len() as u32);
        let whole = link == NIL;
        if let Some(object) = self.objects.get_mut(id) {
            object.lowering = if whole { NOT_LISTED } else { link };
        }
        whole
    }

    /// Whether the entries that map an object are being lowered.
    pub(crate) fn is_lowering(&self, object: ObjectId) -> bool {
        let object = self.objects.get(object);
        object.is_some_and(|object| object.lowering != NOT_LISTED)
    }

    /// An entry may have writable pages of its object again: if its object is being lowered, the entry
    /// comes next.
    pub(crate) fn lower_again(&mut self, link: u32) {
        let object = self.entries.at(link).and_then(|entry| entry.object);
        let Some(object) = object.filter(|object| self.is_lowering(*object)) else {
            return;
        };
        if self.objects.get(object).is_some_and(|o| o.lowering == link) {
            return;
        }
        self.entry_unlink(link);
        self.entry_link(link);
    }
}
