//! From a page to the places that may translate to it, and taking those translations back.
//!
//! The rule (translation soundness): a translation of a page may exist only at an address from which
//! a look-up reaches the page, with rights no greater than that look-up would grant now without
//! changing anything. A page remembers a few places ([`crate::object::page::Places`]); beyond that
//! the entries of its object are searched, and those of the objects that shadow it and have no page of
//! their own in between. Each element names the frame that it expects, so a place too many is harmless.

use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::machine::{Machine, REVOKE_MAX, Revoke, Seen};
use crate::object::page::{Frame, Places};
use crate::object::pages::Slot;
use crate::range::{PAGE_SIZE, Span, bytes_of, page_of};
use crate::slab::NIL;

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
        let Some(page) = self.pages.get_mut(frame) else {
            return;
        };
        let (places, object, index) = (page.places, page.object, page.index);
        if keep.is_empty() {
            page.places = Places::NEVER;
        }
        if !places.is_many() {
            for (map, number) in places.iter() {
                self.revoke_at(machine, batch, (map, number), (frame, keep));
            }
        } else if let Some(object) = object {
            self.revoke_reached(machine, batch, (object, index), (frame, keep));
        }
    }

    /// Removes the translations of a lower page `old` at all places from which a look-up used to
    /// come to it through page `number` of `object`, which has got a page of its own there.
    pub(crate) fn revoke_covered<M: Machine>(
        &mut self,
        machine: &mut M,
        place: (ObjectId, u64),
        old: Frame,
    ) {
        let mut batch = self.batch();
        self.revoke_reached(machine, &mut batch, place, (old, Prot::NONE));
        self.batch_end(batch, machine);
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

    /// Revokes at every entry from which a look-up comes to page `number` of `object`. The objects
    /// that shadow it form a tree, which is walked through the links between them.
    fn revoke_reached<M: Machine>(
        &mut self,
        machine: &mut M,
        batch: &mut Batch,
        (object, number): (ObjectId, u64),
        what: (Frame, Prot),
    ) {
        let root = object.index();
        let (mut at, mut number) = (root, number);
        loop {
            self.revoke_entries(machine, batch, (at, number), what);
            let mut next = self.objects.at(at).map_or(NIL, |object| object.shadows);
            loop {
                if let Some(below) = self.first_seeing(next, number) {
                    (at, number) = below;
                    break;
                }
                if at == root {
                    return;
                }
                // Up again, and on to the next over the same object.
                let Some(object) = self.objects.at(at) else {
                    return;
                };
                let Some(shadow) = object.shadow else {
                    return;
                };
                next = object.shadow_next;
                number = number.saturating_add(page_of(object.shadow_offset));
                at = shadow.index();
            }
        }
    }

    /// The first object of a list of shadows that shows page `number` of what it shadows and has
    /// nothing of its own there, with the page's number in it.
    fn first_seeing(&self, list: u32, number: u64) -> Option<(u32, u64)> {
        let mut at = list;
        while let Some(object) = self.objects.at(at) {
            if let Some(own) = number.checked_sub(page_of(object.shadow_offset))
                && own < page_of(object.size)
                && !matches!(object.pages.get(&self.nodes, own), Slot::Page(_))
            {
                return Some((at, own));
            }
            at = object.shadow_next;
        }
        None
    }

    /// Revokes page `number` at the entries that map the object itself.
    fn revoke_entries<M: Machine>(
        &mut self,
        machine: &mut M,
        batch: &mut Batch,
        (object, number): (u32, u64),
        what: (Frame, Prot),
    ) {
        let offset = bytes_of(number);
        let mut link = self.objects.at(object).map_or(NIL, |object| object.entries);
        while let Some(entry) = self.entries.at(link) {
            let (map, start, size) = (entry.map, entry.start, entry.size());
            let inside = offset.checked_sub(entry.offset);
            link = entry.object_next;
            if let Some(inside) = inside.filter(|inside| *inside < size) {
                let place = start.saturating_add(inside);
                self.revoke_shown(machine, batch, (map, place), what);
            }
        }
    }

    /// Revokes at an address of a map, and wherever that shows in other maps.
    fn revoke_shown<M: Machine>(
        &mut self,
        machine: &mut M,
        batch: &mut Batch,
        (map, address): (MapId, u64),
        what: (Frame, Prot),
    ) {
        if self.shared(map).is_none() {
            return self.revoke_at(machine, batch, (map.index(), page_of(address)), what);
        }
        let Some(page) = Span::exact(address, address.saturating_add(PAGE_SIZE)) else {
            return;
        };
        let mut places = self.places_of(map, page);
        while let Some((map, page)) = self.next_place(&mut places) {
            let place = (map.index(), page_of(page.start()));
            self.revoke_at(machine, batch, place, what);
        }
    }
}
