//! The rules of what is counted for task_info, and of the lists of memory that may go.

use super::{Check, must};
use crate::Core;
use crate::event::MapId;
use crate::map::counts::Counts;
use crate::object::page::Flags;
use crate::object::pages::Slot;
use crate::object::purgeable::State;

impl Core {
    /// Every map's counts, and every list.
    pub(super) fn check_counts(&self) -> Check {
        for (id, map) in self.maps.iter() {
            let (now, counted) = (&map.counts, self.counts_of(id));
            let same = now.external == counted.external
                && now.reusable == counted.reusable
                && now.volatile == counted.volatile
                && now.volatile_size == counted.volatile_size;
            must(same, id.index(), "a map counts what it has")?;
            let peaks = now.pages_peak >= map.pages
                && now.external_peak >= now.external
                && now.resident_peak >= now.pages_peak.max(now.external_peak)
                && now.reusable_peak >= now.reusable;
            must(peaks, id.index(), "no count is above its peak")?;
        }
        let rings = self.maps.iter().filter(|(_, map)| map.ring.is_some());
        must(rings.count() == self.rings as usize, 0, "rings are counted")?;
        let mut listed = 0usize;
        for (class, id) in self.purgeable_in_order() {
            let state = self.objects.get(id).map(|object| object.purgeable.state);
            let right = if class == 0 {
                state == Some(State::Deny)
            } else {
                state == Some(State::Volatile)
            };
            must(
                right && self.is_in_class(id, Some(class)),
                id.index(),
                "what may go is in its list",
            )?;
            listed = listed.saturating_add(1);
        }
        let free = self.objects.iter().filter(|(id, object)| {
            self.is_in_class(*id, None) && object.purgeable.state != State::Volatile
        });
        must(
            listed.saturating_add(free.count()) == self.objects.len() as usize,
            0,
            "all volatile objects are in lists",
        )
    }

    fn counts_of(&self, map: MapId) -> Counts {
        let mut counts = Counts::default();
        let mine = self.objects.iter().filter(|(_, o)| o.payer == Some(map));
        for (_, object) in mine {
            let pages = object.pages.pages();
            if object.pager.is_some() {
                counts.external = counts.external.saturating_add(pages);
                continue;
            }
            if object.purgeable.state == State::Volatile {
                counts.volatile = counts.volatile.saturating_add(pages);
                counts.volatile_size = counts.volatile_size.saturating_add(object.size);
            }
            let mut from = 0;
            while let Some((index, slot)) = object.pages.next(&self.nodes, from) {
                from = index.saturating_add(1);
                if let Slot::Page(frame) = slot
                    && let Some(page) = self.pages.get(frame)
                    && page.flags.contains(Flags::REUSABLE)
                {
                    counts.reusable = counts.reusable.saturating_add(1);
                }
            }
        }
        counts
    }
}
