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
use crate::range::Span;
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
        let mut lowered = 0_u32;
        while let Some(&entry) = self.entries.at(link) {
            if lowered as usize >= REVOKE_MAX {
                break;
            }
            link = entry.object_next;
            let Some(range) = Span::exact(entry.start, entry.end) else {
                continue;
            };
            // A map that others show is seen at each of their places.
            let mut places = self.places_of(entry.map, range);
            while let Some((map, range)) = self.next_place(&mut places) {
                let Some(record) = self.maps.get_mut(map) else {
                    continue;
                };
                record.epoch = record.epoch.saturating_add(1);
                let element = Revoke::Range {
                    map,
                    epoch: record.epoch,
                    start: range.start(),
                    end: range.end(),
                    keep: READ_ONLY,
                };
                lowered = lowered.saturating_add(1);
                if let Err(element) = batch.push(element) {
                    machine.revoke(&batch);
                    batch.clear();
                    // It is empty now.
                    let _ = batch.push(element);
                }
            }
        }
        if !batch.is_empty() {
            machine.revoke(&batch);
        }
        self.revoked = self.revoked.saturating_add(lowered);
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
