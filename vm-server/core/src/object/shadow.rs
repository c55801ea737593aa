//! Shadow chains: how an object comes to lie over another, and an entry's own object.
//!
//! The shadowing object holds a reference to the shadow and stands in its list of shadows.

use ipc_abi::Kern;

use crate::Core;
use crate::event::ObjectId;
use crate::map::entry::Entry;
use crate::map::tree::Link;
use crate::object::life::NOT_LISTED;
use crate::object::{Kind, Object};
use crate::range::Span;
use crate::slab::NIL;

impl Core {
    /// Lays `object`, which has no shadow, over `shadow` at `offset`. The caller's reference to the
    /// shadow becomes the object's.
    pub(crate) fn shadow_link(&mut self, object: ObjectId, shadow: ObjectId, offset: u64) {
        let Some(below) = self.objects.get_mut(shadow) else {
            return;
        };
        let next = below.shadows;
        below.shadows = object.index();
        if let Some(record) = self.objects.at_mut(next) {
            record.shadow_prev = object.index();
        }
        if let Some(record) = self.objects.get_mut(object) {
            record.shadow = Some(shadow);
            record.shadow_offset = offset;
            record.shadow_next = next;
            record.shadow_prev = NIL;
        }
    }

    /// Takes an object off its shadow. The reference is the caller's. If the object was the shadow's
    /// copy object, it is no more.
    pub(crate) fn shadow_unlink(&mut self, object: ObjectId) -> Option<ObjectId> {
        let record = self.objects.get_mut(object)?;
        let shadow = record.shadow.take()?;
        let (prev, next) = (record.shadow_prev, record.shadow_next);
        record.shadow_offset = 0;
        record.shadow_next = NIL;
        record.shadow_prev = NIL;
        if let Some(record) = self.objects.at_mut(next) {
            record.shadow_prev = prev;
        }
        if let Some(record) = self.objects.at_mut(prev) {
            record.shadow_next = next;
        }
        let below = self.objects.get_mut(shadow)?;
        if below.shadows == object.index() {
            below.shadows = next;
        }
        if below.copy == Some(object) {
            below.copy = None;
        }
        Some(shadow)
    }

    /// Puts an entry into the list of those that map its object, or show its map.
    pub(crate) fn entry_link(&mut self, link: u32) {
        let Some(object) = self.entries.at(link).and_then(|entry| entry.object) else {
            return self.submap_link(link);
        };
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        let is_external = record.pager.is_some();
        // Before the next that is to be lowered, if they are.
        let next = match record.lowering {
            NOT_LISTED => record.entries,
            next => {
                record.lowering = link;
                next
            }
        };
        let first = record.entries == next;
        if first {
            record.entries = link;
        }
        let mut prev = NIL;
        if let Some(entry) = self.entries.at_mut(next) {
            prev = core::mem::replace(&mut entry.object_prev, link);
        }
        if let Some(entry) = self.entries.at_mut(prev) {
            entry.object_next = link;
        }
        if let Some(entry) = self.entries.at_mut(link) {
            entry.object_next = next;
            entry.object_prev = prev;
            let map = entry.map;
            if is_external {
                self.external_mapped(object, map);
            }
        }
    }

    /// Takes an entry out of the list of those that map its object, or show its map.
    pub(crate) fn entry_unlink(&mut self, link: u32) {
        let Some(entry) = self.entries.at_mut(link) else {
            return;
        };
        let (object, submap, map) = (entry.object, entry.submap, entry.map);
        let (prev, next) = (entry.object_prev, entry.object_next);
        entry.object_next = NIL;
        entry.object_prev = NIL;
        if let Some(entry) = self.entries.at_mut(next) {
            entry.object_prev = prev;
        }
        if let Some(entry) = self.entries.at_mut(prev) {
            entry.object_next = next;
        }
        if let Some(object) = object {
            let Some(record) = self.objects.get_mut(object) else {
                return;
            };
            if record.lowering == link {
                // Behind the last there is nothing to go on from: it begins again.
                record.lowering = if next == NIL { NOT_LISTED } else { next };
            }
            if record.entries == link {
                record.entries = next;
            }
            if record.pager.is_some() {
                self.external_unmapped(object, map);
            }
        } else if let Some(map) = submap {
            self.submap_unlinked(map, (link, next));
        }
    }

    /// Gives an entry another object, whose reference the entry takes over. The old one's reference
    /// is the caller's. Translations are the caller's affair too.
    pub(crate) fn entry_set_object(
        &mut self,
        link: u32,
        object: Option<ObjectId>,
        offset: u64,
        needs_copy: bool,
    ) -> Option<ObjectId> {
        self.entry_unlink(link);
        let entry = self.entries.at_mut(link)?;
        let old = entry.object;
        entry.submap = None;
        entry.object = object;
        entry.offset = offset;
        entry.needs_copy = needs_copy;
        self.entry_link(link);
        old
    }

    /// Gives an entry of untouched memory an object of its length.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record.
    pub(crate) fn entry_own_object(&mut self, link: u32) -> Result<ObjectId, Kern> {
        let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        if entry.submap.is_some() || entry.object.is_some() {
            let object = Object::new(Kind::Internal, entry.size(), Some(entry.map));
            let id = self.object_insert(object)?;
            self.entry_set_object(link, Some(id), 0, false);
            return Ok(id);
        }
        // It is made with its link, as `entry_link` would set it.
        let id = self.object_make(entry.map, entry.size(), |object| object.entries = link)?;
        if let Some(entry) = self.entries.at_mut(link) {
            entry.object = Some(id);
            entry.offset = 0;
            entry.needs_copy = false;
        }
        Ok(id)
    }

    /// Makes a copy-on-write entry one that may be written: alone with its part of an object, as after a
    /// part of another entry was taken away, it may write that (rule 8); else it gets a shadow. Gives
    /// the object that the entry may write.
    ///
    /// # Errors
    /// As [`Core::entry_shadow`].
    pub(crate) fn entry_written(&mut self, link: u32) -> Result<ObjectId, Kern> {
        let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        if let Some(id) = entry.object
            && let Some(object) = self.objects.get(id)
            && self.has_alone(Link(link), entry, object)
        {
            if let Some(entry) = self.entries.at_mut(link) {
                entry.needs_copy = false;
            }
            return Ok(id);
        }
        self.entry_shadow(link)
    }

    /// Whether an entry is alone with its part of its object, which it may write itself then.
    #[inline]
    pub(crate) fn has_alone(&self, link: Link, entry: &Entry, object: &Object) -> bool {
        let end = entry.offset.saturating_add(entry.size());
        let window = Span::exact(entry.offset, end);
        let reached = entry.object.zip(window);
        !object.true_share
            && reached.is_some_and(|(id, window)| self.is_only_reached_by(id, link, window))
    }

    /// Gives a copy-on-write entry an object of its own over the present one (vm_object_shadow; rules
    /// 6 and 8). The entry's reference to the old object becomes the new one's. Gives the object that
    /// the entry may write.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn entry_shadow(&mut self, link: u32) -> Result<ObjectId, Kern> {
        let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        let (size, offset, map) = (entry.size(), entry.offset, entry.map);
        let Some(old) = entry.object else {
            return self.entry_own_object(link);
        };
        if self.needs_no_shadow(old, size, offset) {
            if let Some(object) = self.objects.get_mut(old) {
                object.shadowed = false;
            }
            if let Some(entry) = self.entries.at_mut(link) {
                entry.needs_copy = false;
            }
            return Ok(old);
        }
        let next = self.objects.get(old).map_or(NIL, |object| object.shadows);
        // It is made with its links, as `entry_link` and `shadow_link` would set them.
        let new = self.object_make(map, size, |new| {
            new.shadow = Some(old);
            new.shadow_offset = offset;
            new.shadow_next = next;
            new.entries = link;
        })?;
        self.entry_unlink(link);
        if let Some(entry) = self.entries.at_mut(link) {
            entry.object = Some(new);
            entry.offset = 0;
            entry.needs_copy = false;
        }
        if let Some(record) = self.objects.get_mut(old) {
            record.shadows = new.index();
        }
        if let Some(record) = self.objects.at_mut(next) {
            record.shadow_prev = new.index();
        }
        Ok(new)
    }

    /// Whether the one entry that holds an object may just as well write it (rule 8): nobody else
    /// sees it, and it does not stand for what another object was.
    fn needs_no_shadow(&self, id: ObjectId, size: u64, offset: u64) -> bool {
        self.objects.get(id).is_some_and(|object| {
            object.is_internal()
                && object.refs == 1
                && object.size == size
                && offset == 0
                && !object.true_share
                && object.copy.is_none()
                && !self.awaits_pages(id)
        })
    }

    /// Whether an object is the copy object of its shadow: a page that it misses is given it before
    /// the shadow's is written, so it may not lose one that it has.
    pub(crate) fn awaits_pages(&self, id: ObjectId) -> bool {
        self.objects
            .get(id)
            .and_then(|object| self.objects.get(object.shadow?))
            .is_some_and(|shadow| shadow.copy == Some(id))
    }
}
