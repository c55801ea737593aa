//! What a map's task has of memory, counted as it changes: task_info answers without a walk.
//!
//! Anonymous memory counts for the map that pays for its object. An object of a pager has no payer:
//! it counts for the map that mapped it first, and when that gives it up, for another that maps it.

use super::Map;
use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::object::page::Flags;
use crate::object::purgeable::State;
use crate::slab::NIL;

/// Entries of an object that are looked at for one of the same map.
const NEIGHBOURS: usize = 16;

/// The counts beside [`Map::pages`]. All in pages, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Most pages that it ever paid for at a time.
    pub pages_peak: u32,
    /// Pages of pagers' objects.
    pub external: u32,
    /// The most of them ever.
    pub external_peak: u32,
    /// The most of both ever.
    pub resident_peak: u32,
    /// Pages of those paid for that are reusable.
    pub reusable: u32,
    /// The most of them ever.
    pub reusable_peak: u32,
    /// Pages of those paid for that are in volatile objects.
    pub volatile: u32,
    /// Bytes of volatile objects.
    pub volatile_size: u64,
}

impl Map {
    /// One page more that it pays for, in an object of this state.
    #[inline]
    pub(crate) fn count_page(&mut self, state: State) {
        self.count_pages(1, state);
    }

    /// More pages that it pays for, in an object of this state.
    #[inline]
    pub(crate) fn count_pages(&mut self, pages: u32, state: State) {
        self.pages = self.pages.saturating_add(pages);
        if self.pages > self.counts.pages_peak {
            self.counts.pages_peak = self.pages;
            self.count_resident();
        }
        if state == State::Volatile {
            self.counts.volatile = self.counts.volatile.saturating_add(pages);
        }
    }

    /// More pages of pagers' objects.
    pub(crate) fn count_external(&mut self, pages: u32) {
        self.counts.external = self.counts.external.saturating_add(pages);
        self.counts.external_peak = self.counts.external_peak.max(self.counts.external);
        self.count_resident();
    }

    fn count_resident(&mut self) {
        let resident = self.pages.saturating_add(self.counts.external);
        self.counts.resident_peak = self.counts.resident_peak.max(resident);
    }
}

impl Core {
    /// An object has one page more, which was not counted when it came.
    pub(crate) fn count_page(&mut self, object: ObjectId) {
        let Some(record) = self.objects.get(object) else {
            return;
        };
        let (state, is_external) = (record.purgeable.state, record.pager.is_some());
        let Some(map) = record.payer.and_then(|id| self.maps.get_mut(id)) else {
            return;
        };
        if is_external {
            map.count_external(1);
        } else {
            map.count_page(state);
        }
    }

    /// An object has one page less, which had these flags.
    pub(crate) fn uncount_page(&mut self, object: ObjectId, flags: Flags) {
        let payer = self.uncount_pages(object, 1);
        if flags.contains(Flags::REUSABLE)
            && let Some(map) = payer
        {
            map.counts.reusable = map.counts.reusable.saturating_sub(1);
        }
    }

    /// An object has some pages less. Gives who paid for them, if it is not a pager's.
    pub(crate) fn uncount_pages(&mut self, object: ObjectId, pages: u32) -> Option<&mut Map> {
        let record = self.objects.get(object)?;
        let (state, is_external) = (record.purgeable.state, record.pager.is_some());
        let map = self.maps.get_mut(record.payer?)?;
        if is_external {
            map.counts.external = map.counts.external.saturating_sub(pages);
            return None;
        }
        map.pages = map.pages.saturating_sub(pages);
        if state == State::Volatile {
            map.counts.volatile = map.counts.volatile.saturating_sub(pages);
        }
        Some(map)
    }

    /// A map maps an object of a pager, which may not count for anybody yet.
    pub(crate) fn external_mapped(&mut self, object: ObjectId, map: MapId) {
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        if record.payer.is_some() {
            return;
        }
        record.payer = Some(map);
        let pages = record.pages.pages();
        if let Some(map) = self.maps.get_mut(map) {
            map.count_external(pages);
        }
    }

    /// A map has given up a mapping of an object of a pager, which is out of the object's list.
    pub(crate) fn external_unmapped(&mut self, object: ObjectId, map: MapId) {
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        if record.payer != Some(map) {
            return;
        }
        let (mut at, first) = (record.entries, record.entries);
        for _ in 0..NEIGHBOURS {
            match self.entries.at(at) {
                Some(entry) if entry.map == map => return,
                Some(entry) => at = entry.object_next,
                None => break,
            }
        }
        // Far down the list there may be one more, and then it counts for another although it need not.
        record.payer = None;
        let pages = record.pages.pages();
        if let Some(map) = self.maps.get_mut(map) {
            map.counts.external = map.counts.external.saturating_sub(pages);
        }
        let next = self.entries.at(first).map(|entry| entry.map);
        if let Some(next) = next.filter(|_| first != NIL) {
            self.external_mapped(object, next);
        }
    }
}
