//! From a page to the places that may translate to it, and taking those translations back.
//!
//! The rule (translation soundness): a translation of a page may exist only at an address from which
//! a look-up reaches the page, with rights no greater than that look-up would grant now without
//! changing anything. A page remembers its places ([`crate::object::places::Places`]). Each element names
//! the frame that it expects, so a place too many is harmless.

use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::machine::{Machine, REVOKE_MAX, Revoke, Seen};
use crate::object::Kind;
use crate::object::page::Frame;
use crate::object::pages::Slot;
use crate::object::places::Added;
use crate::range::{Span, bytes_of, page_of};

/// Objects of a chain that are looked at before the kernel is asked to take back what may be nothing.
const BLANK_DEPTH: usize = 4;

/// Elements on their way to the machine, in the list that the core keeps for them.
pub(crate) struct Batch {
    elements: Vec<Revoke>,
    seen: Seen,
}

impl Batch {
    /// Adds an element; a full batch goes out first.
    pub(crate) fn push<M: Machine>(&mut self, machine: &mut M, element: Revoke) {
        if self.elements.len() == self.elements.capacity() {
            self.flush(machine);
        }
        if self.elements.capacity() == 0 {
            // Another batch is open and has the list.
            self.see(machine.revoke(&[element]));
        } else {
            self.elements.push(element);
        }
    }

    fn flush<M: Machine>(&mut self, machine: &mut M) {
        if !self.elements.is_empty() {
            self.see(machine.revoke(&self.elements));
            self.elements.clear();
        }
    }

    fn see(&mut self, seen: Seen) {
        self.seen.referenced |= seen.referenced;
        self.seen.dirty |= seen.dirty;
    }
}

/// The list of a [`Batch`].
///
/// # Errors
/// `KERN_RESOURCE_SHORTAGE`: no memory for it.
pub(crate) fn list() -> Result<Vec<Revoke>, Kern> {
    let mut list = Vec::new();
    list.try_reserve_exact(REVOKE_MAX)
        .map_err(|_| Kern::ResourceShortage)?;
    Ok(list)
}

impl Core {
    /// A batch that is empty.
    pub(crate) fn batch(&mut self) -> Batch {
        Batch {
            elements: core::mem::take(&mut self.revokes),
            seen: Seen::default(),
        }
    }

    /// Carries out what is left in a batch. Only now is it done.
    pub(crate) fn batch_end<M: Machine>(&mut self, mut batch: Batch, machine: &mut M) -> Seen {
        batch.flush(machine);
        if batch.elements.capacity() != 0 {
            self.revokes = batch.elements;
        }
        batch.seen
    }

    /// Reduces to `keep` what is translated in a piece of a map that shows a window of an object. Says
    /// whether a look-up there may find a page at all: if not, there is no translation to take back.
    pub(crate) fn window_revoke<M: Machine>(
        &mut self,
        machine: &mut M,
        (map, piece): (MapId, Span),
        (object, window): (ObjectId, Span),
        keep: Prot,
    ) -> bool {
        let (from, to) = (page_of(window.start()), page_of(window.end()));
        let Some(record) = self.objects.get(object) else {
            return false;
        };
        let has_records = matches!(record.kind, Kind::Internal | Kind::External);
        if page_of(window.size()) == 1
            && has_records
            && let Slot::Page(frame) = record.pages.get(&self.nodes, from)
        {
            // It is the only one that can be translated there.
            self.page_revoke(machine, (map, piece.start()), (frame, keep));
            return true;
        }
        let used = record.pages.next(&self.nodes, from);
        let used = used.filter(|(index, _)| *index < to);
        if used.is_none() && self.is_blank(object, window) {
            return false;
        }
        self.map_revoke(machine, map, piece, keep);
        true
    }

    /// Removes or reduces the translation of a frame at one address.
    fn page_revoke<M: Machine>(
        &mut self,
        machine: &mut M,
        (map, address): (MapId, u64),
        (frame, keep): (Frame, Prot),
    ) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        record.epoch = record.epoch.saturating_add(1);
        self.revoked = self.revoked.saturating_add(1);
        machine.revoke(&[Revoke::Page {
            map,
            epoch: record.epoch,
            address,
            frame,
            keep,
        }]);
    }

    /// Whether neither an object nor any that it shadows has a page in a window of it, so that nothing
    /// there can be translated. Where the chain is long nobody looks.
    fn is_blank(&self, object: ObjectId, window: Span) -> bool {
        let (mut at, mut start, mut end) = (object, window.start(), window.end());
        for _ in 0..BLANK_DEPTH {
            let Some(record) = self.objects.get(at) else {
                return false;
            };
            let has_records = matches!(record.kind, Kind::Internal | Kind::External);
            let used = record.pages.next(&self.nodes, page_of(start));
            if !has_records || used.is_some_and(|(index, _)| index < page_of(end)) {
                return false;
            }
            let Some(shadow) = record.shadow else {
                return true;
            };
            at = shadow;
            start = start.saturating_add(record.shadow_offset);
            end = end.saturating_add(record.shadow_offset);
        }
        false
    }

    /// Reduces every translation of a page to `keep`; none at all: removes them.
    pub(crate) fn revoke_page<M: Machine>(
        &mut self,
        machine: &mut M,
        frame: Frame,
        keep: Prot,
    ) -> Seen {
        let mut batch = self.batch();
        self.revoke_later(machine, &mut batch, frame, keep);
        self.batch_end(batch, machine)
    }

    /// As [`Core::revoke_page`], but done only when the batch is finished.
    pub(crate) fn revoke_later<M: Machine>(
        &mut self,
        machine: &mut M,
        batch: &mut Batch,
        frame: Frame,
        keep: Prot,
    ) {
        for place in self.pages.places_of(frame) {
            self.revoke_at(machine, batch, place, (frame, keep));
        }
        if keep.is_empty() {
            self.pages.places_forget(frame);
        }
    }

    /// Removes the translations of a lower page `old` at all places from which a look-up does not come
    /// to it any more, because an object above has got a page of its own. `spared` is left alone.
    pub(crate) fn revoke_covered<M: Machine>(
        &mut self,
        machine: &mut M,
        old: Frame,
        spared: Option<(u32, u64)>,
    ) {
        let mut batch = self.batch();
        for (map, number) in self.pages.places_of(old) {
            let shown = self
                .maps
                .id_at(map)
                .and_then(|map| self.would_grant(map, number));
            if shown.is_none_or(|(frame, _)| frame != old) && spared != Some((map, number)) {
                self.revoke_at(machine, &mut batch, (map, number), (old, Prot::NONE));
            }
        }
        self.batch_end(batch, machine);
    }

    /// Remembers that a page is about to be mapped at a place, map index and page number. Says whether
    /// that is news. A page that cannot remember more is taken back from everywhere else.
    #[inline]
    pub(crate) fn place_enter<M: Machine>(
        &mut self,
        machine: &mut M,
        frame: Frame,
        at: (u32, u64),
    ) -> bool {
        match self.pages.place_add(frame, at) {
            Added::Known => false,
            Added::New => true,
            Added::Full => {
                self.revoke_page(machine, frame, Prot::NONE);
                // It remembers none now.
                let _ = self.pages.place_add(frame, at);
                true
            }
        }
    }

    /// Removes or reduces the translation of a frame at one place: map index and page number.
    pub(crate) fn revoke_at<M: Machine>(
        &mut self,
        machine: &mut M,
        batch: &mut Batch,
        (map, number): (u32, u64),
        (frame, keep): (Frame, Prot),
    ) {
        let Some(id) = self.maps.id_at(map) else {
            return;
        };
        let Some(map) = self.maps.get_mut(id) else {
            return;
        };
        map.epoch = map.epoch.saturating_add(1);
        self.revoked = self.revoked.saturating_add(1);
        let element = Revoke::Page {
            map: id,
            epoch: map.epoch,
            address: bytes_of(number),
            frame,
            keep,
        };
        batch.push(machine, element);
    }
}
