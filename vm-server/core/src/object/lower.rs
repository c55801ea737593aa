//! Taking WRITE from all who map an object, before a copy object is hung over it (rule 13).
//!
//! The object's own pages are reached writable only through the entries that map it, since an object
//! that shadows it shows its pages read-only. They are gone through in steps, along the list of those
//! entries; the copy object comes with the last. What shows in very many places through shared maps is
//! not lowered: it is copied page by page. [`Object::lowering`] is the next entry: whoever gets a
//! writable page after its turn, and whoever joins the list, is put before it. So a step that is
//! never followed by another does no harm, and no fault waits.

use ipc_abi::types::Prot;

use crate::Core;
use crate::event::ObjectId;
use crate::machine::{Machine, REVOKE_MAX, Revoke};
#[cfg(doc)]
use crate::object::Object;
use crate::object::life::NOT_LISTED;
use crate::object::strategy::READ_ONLY;
use crate::range::Span;
use crate::slab::NIL;

/// How far the entries that map an object are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// All are.
    Whole,
    /// Some are: the same again goes on.
    Part,
    /// They show at more places than an event can go over.
    No,
}

impl Core {
    /// Takes WRITE from up to [`REVOKE_MAX`] entries that map an object. An entry whose map shows at too
    /// many places ends that: [`Lowered::No`].
    pub(super) fn lower_mappings<M: Machine>(&mut self, machine: &mut M, id: ObjectId) -> Lowered {
        let Some(object) = self.objects.get(id) else {
            return Lowered::Whole;
        };
        let mut link = match object.lowering {
            NOT_LISTED => object.entries,
            link => link,
        };
        let mut batch = heapless::Vec::<Revoke, REVOKE_MAX>::new();
        let (mut lowered, mut everywhere) = (0_u32, true);
        let mut looked = 0;
        while let Some(&entry) = self.entries.at(link) {
            if lowered.max(looked) as usize >= REVOKE_MAX {
                break;
            }
            looked = looked.saturating_add(1);
            link = entry.object_next;
            if self.map_is_sealed(entry.map) && !entry.protection.contains(Prot::WRITE) {
                // Nobody ever writes it through this one.
                continue;
            }
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
            if places.is_given_up() {
                (everywhere, link) = (false, NIL);
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
        match (everywhere, whole) {
            (false, _) => Lowered::No,
            (true, true) => Lowered::Whole,
            (true, false) => Lowered::Part,
        }
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
