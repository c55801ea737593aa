//! Pages into an object and out of it, with their records and what they count against.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::account::family::Good;
use crate::event::ObjectId;
use crate::frames::Class;
use crate::machine::{Machine, Shown};
use crate::object::page::{Flags, Frame, Page, State};
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::range::page_of;
use crate::{Core, Turn};

/// Pages that are freed together.
const RUN: usize = 64;

impl Core {
    /// What an object has at a page number; `Empty` if there is no such object.
    #[inline]
    pub(crate) fn slot(&self, object: ObjectId, index: u64) -> Slot {
        match self.objects.get(object) {
            Some(record) => record.pages.get(&self.nodes, index),
            None => Slot::Empty,
        }
    }

    /// Puts a taken frame into a slot of an object and counts it against the object's payer.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: the payer's limit, or no node for the slot; nothing has changed.
    #[inline]
    pub(crate) fn object_add_page(
        &mut self,
        object: ObjectId,
        index: u64,
        frame: Frame,
        flags: Flags,
    ) -> Result<(), Kern> {
        let record = self.objects.get_mut(object).ok_or(Kern::MemoryError)?;
        let payer = record.payer.and_then(|id| self.maps.get_mut(id));
        let is_external = record.pager.is_some();
        if let Some(map) = &payer
            && map.pages >= map.account.limits.pages
            && !is_external
        {
            self.object_room(object, 1)?;
            return self.object_add_page(object, index, frame, flags);
        }
        record
            .pages
            .set(&mut self.nodes, index, Slot::Page(frame))?;
        if let Some(map) = payer {
            if is_external {
                map.count_external(1);
            } else {
                map.count_page(record.purgeable.state);
            }
        }
        self.pages.places_forget(frame);
        if let Some(page) = self.pages.get_mut(frame) {
            page.object = Some(object);
            page.index = index;
            page.state = State::Resident;
            page.flags = flags;
        }
        Ok(())
    }

    /// Whoever pays for an object's pages may have more of them.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: the limit.
    #[cold]
    #[inline(never)]
    fn object_room(&mut self, object: ObjectId, count: u32) -> Result<(), Kern> {
        let payer = self.objects.get(object).and_then(|object| object.payer);
        let payer = payer.ok_or(Kern::ResourceShortage)?;
        self.room(payer, Good::Pages, count.into())
    }

    /// Puts taken frames into slots side by side, as [`Core::object_add_page`] does each: all or none.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn object_add_pages(
        &mut self,
        object: ObjectId,
        index: u64,
        frames: &[Frame],
        (flags, lock): (Flags, Prot),
    ) -> Result<(), Kern> {
        let count = frames.len() as u32;
        let record = self.objects.get_mut(object).ok_or(Kern::MemoryError)?;
        let payer = record.payer.and_then(|id| self.maps.get_mut(id));
        let is_external = record.pager.is_some();
        if let Some(map) = &payer
            && map.pages.saturating_add(count) > map.account.limits.pages
            && !is_external
        {
            self.object_room(object, count)?;
            return self.object_add_pages(object, index, frames, (flags, lock));
        }
        if let Err(code) = record.pages.put_pages(&mut self.nodes, index, frames) {
            record.pages.clear_run(&mut self.nodes, index, count);
            return Err(code);
        }
        if let Some(map) = payer {
            if is_external {
                map.count_external(count);
            } else {
                map.count_pages(count, record.purgeable.state);
            }
        }
        for (&frame, index) in frames.iter().zip(index..) {
            self.pages.places_forget(frame);
            if let Some(page) = self.pages.get_mut(frame) {
                page.object = Some(object);
                page.index = index;
                page.state = State::Resident;
                page.flags = flags;
                page.lock = lock;
            }
        }
        Ok(())
    }

    /// Takes pages side by side out of their object, none of which is reusable, as
    /// [`Core::object_take_page`] does each.
    pub(crate) fn object_take_pages(&mut self, object: ObjectId, index: u64, frames: &[Frame]) {
        for &frame in frames {
            if let Some(page) = self.pages.get_mut(frame) {
                page.state = State::Taken;
                page.object = None;
            }
        }
        let count = frames.len() as u32;
        self.uncount_pages(object, count);
        if let Some(record) = self.objects.get_mut(object) {
            record.pages.clear_run(&mut self.nodes, index, count);
        }
    }

    /// Moves pages side by side from a tray's object to one of a pager, whose slots for them are in use:
    /// so nothing fails. They are clean, and about to be mapped as `shown` says. Of the tray's slots, those
    /// stay in use for which there is a page in `fresh`: for none or for all.
    pub(crate) fn object_pass_pages(
        &mut self,
        (from, slot): (ObjectId, u64),
        (object, index): (ObjectId, u64),
        (frames, fresh): (&[Frame], &[Frame]),
        shown: Option<Shown>,
    ) {
        let count = frames.len() as u32;
        if fresh.is_empty() {
            self.uncount_pages(from, count);
        }
        if let Some(record) = self.objects.get_mut(from) {
            match (frames, fresh) {
                ([_], []) => record.pages.clear(&mut self.nodes, slot),
                (_, []) => record.pages.clear_run(&mut self.nodes, slot, count),
                _ => {
                    let put = record.pages.put_pages(&mut self.nodes, slot, fresh);
                    debug_assert!(put.is_ok(), "the slots are in use");
                }
            }
        }
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        let payer = record.payer;
        let put = match *frames {
            [frame] => record.pages.set(&mut self.nodes, index, Slot::Page(frame)),
            _ => record.pages.put_pages(&mut self.nodes, index, frames),
        };
        debug_assert!(put.is_ok(), "the slots are in use");
        if let Some(map) = payer.and_then(|id| self.maps.get_mut(id)) {
            map.count_external(count);
        }
        let (from, to, at) = match shown {
            Some(shown) => (
                shown.first as usize,
                shown.first.saturating_add(shown.count) as usize,
                Some((shown.map.index(), page_of(shown.address))),
            ),
            None => (0, 0, None),
        };
        for (from, to, at) in [(0, from, None), (from, to, at), (to, frames.len(), None)] {
            let pages = frames.get(from..to).unwrap_or(&[]);
            let first = index.wrapping_add(from as u64);
            let flags = Flags::empty();
            self.pages.pass_run(pages, (object, first), at, flags);
        }
    }

    /// Whose limit an object's own pages count against: a pager's data is nobody's.
    pub(crate) fn payer_of(&self, object: ObjectId) -> Option<crate::event::MapId> {
        let record = self.objects.get(object)?;
        if record.pager.is_some() {
            return None;
        }
        record.payer
    }

    /// Takes a page out of its object. The frame is the caller's; its translations are as they were.
    pub(crate) fn object_take_page(&mut self, frame: Frame) {
        let Some(page) = self.pages.get_mut(frame) else {
            return;
        };
        page.state = State::Taken;
        let (object, index, flags) = (page.object.take(), page.index, page.flags);
        let Some(object) = object else {
            return;
        };
        self.uncount_page(object, flags);
        if let Some(record) = self.objects.get_mut(object) {
            record.pages.clear(&mut self.nodes, index);
        }
    }

    /// Moves a page to another object, translations and all. Slots below are not looked at.
    ///
    /// # Errors
    /// As [`Core::object_add_page`].
    pub(crate) fn object_move_page(
        &mut self,
        frame: Frame,
        object: ObjectId,
        index: u64,
    ) -> Result<(), Kern> {
        self.page_reused(frame);
        let Some(Page {
            object: Some(from),
            index: old,
            flags,
            places,
            ..
        }) = self.pages.get_mut(frame)
        else {
            return Err(Kern::MemoryError);
        };
        let (from, old, flags) = (*from, *old, *flags);
        let places = core::mem::take(places);
        // First, so that a payer at its limit may move a page from one of its objects to another.
        self.uncount_page(from, flags);
        let moved = self.object_add_page(object, index, frame, flags);
        if let Some(page) = self.pages.get_mut(frame) {
            page.places = places;
        }
        if let Err(code) = moved {
            self.count_page(from);
            return Err(code);
        }
        if let Some(record) = self.objects.get_mut(from) {
            record.pages.clear(&mut self.nodes, old);
        }
        Ok(())
    }

    /// Adds a copy of a frame to an object, as a dirty page (rule 25). A page that is there stays.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no frame, no node, or the payer's limit; nothing has changed.
    pub(crate) fn object_add_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        object: ObjectId,
        index: u64,
        source: Frame,
    ) -> Result<(), Kern> {
        if matches!(self.slot(object, index), Slot::Page(_)) {
            return Ok(());
        }
        let frame = self
            .frame_any(Class::Client)
            .ok_or(Kern::ResourceShortage)?;
        if let Err(code) = self.object_add_page(object, index, frame, Flags::DIRTY) {
            self.frame_free(frame);
            return Err(code);
        }
        turn.machine.copy(source, frame);
        self.stats.pages_copied = self.stats.pages_copied.saturating_add(1);
        Ok(())
    }

    /// Frees up to [`BUDGET`] pages of an internal object in `[from, to)`, whose translations are
    /// gone. Says whether none is left there.
    pub(crate) fn object_free_pages(&mut self, object: ObjectId, from: u64, to: u64) -> bool {
        let Some(record) = self.objects.get_mut(object) else {
            return true;
        };
        if let Some(frame) = record.pages.take_single(&mut self.nodes, from, to) {
            let flags = self.pages.get(frame).map(|page| page.flags);
            self.uncount_page(object, flags.unwrap_or_default());
            self.frame_free(frame);
            return true;
        }
        self.object_free_many(object, from, to)
    }

    /// As [`Core::object_free_pages`], where it may be more than one.
    #[inline(never)]
    fn object_free_many(&mut self, object: ObjectId, from: u64, to: u64) -> bool {
        let mut left = BUDGET;
        while left > 0 {
            let Some((index, slot)) = self.next_slot(object, from, to) else {
                return true;
            };
            let Some(record) = self.objects.get_mut(object) else {
                return true;
            };
            if !matches!(slot, Slot::Page(_)) {
                record.pages.clear(&mut self.nodes, index);
                left = left.saturating_sub(1);
                continue;
            }
            let most = to.saturating_sub(index).min(left.into()) as u32;
            let mut frames = heapless::Vec::<Frame, RUN>::new();
            let pages = &record.pages;
            pages.pages_from(&self.nodes, index, most, &mut frames);
            let count = frames.len() as u32;
            record.pages.clear_run(&mut self.nodes, index, count);
            self.frames_free(object, &frames);
            left = left.saturating_sub(count.max(1));
        }
        self.next_slot(object, from, to).is_none()
    }

    /// Frees pages of an internal object that are in none of its slots any more.
    fn frames_free(&mut self, object: ObjectId, frames: &[Frame]) {
        let is_reusable = |frame: &&Frame| {
            let page = self.pages.get(**frame);
            page.is_some_and(|page| page.flags.contains(Flags::REUSABLE))
        };
        let reusable = frames.iter().filter(is_reusable).count() as u32;
        if let Some(map) = self.uncount_pages(object, frames.len() as u32) {
            map.counts.reusable = map.counts.reusable.saturating_sub(reusable);
        }
        self.pages.put_run(frames);
        self.frames_freed();
    }

    /// The first used slot of an object in `[from, to)`.
    pub(crate) fn next_slot(&self, object: ObjectId, from: u64, to: u64) -> Option<(u64, Slot)> {
        let record = self.objects.get(object)?;
        let found = record.pages.next(&self.nodes, from)?;
        (found.0 < to).then_some(found)
    }

    /// The page that shows through where an object has none.
    pub(crate) fn shown_below(&self, object: ObjectId, index: u64) -> Option<Frame> {
        let mut at = self.below(object, index);
        while let Some((object, index)) = at {
            if let Slot::Page(frame) = self.slot(object, index) {
                return Some(frame);
            }
            at = self.below(object, index);
        }
        None
    }

    /// Page number in the shadow of page `index` of an object, and the shadow, if the page shows
    /// through there at all.
    #[inline]
    pub(crate) fn below(&self, object: ObjectId, index: u64) -> Option<(ObjectId, u64)> {
        let record = self.objects.get(object)?;
        let shadow = record.shadow?;
        let index = index.checked_add(page_of(record.shadow_offset))?;
        let size = self.objects.get(shadow)?.size;
        (index < page_of(size)).then_some((shadow, index))
    }
}
