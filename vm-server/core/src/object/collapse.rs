//! Keeping shadow chains short: collapse and bypass (vm_object_collapse; rules 40 to 48).
//!
//! *Collapse*: nobody but the object above holds the one below, so its pages go up, and it ends.
//! *Bypass*: others hold it, but it has nothing that the object above does not have itself, which
//! can then look past it. Both are steps of their own, never part of a fault, and may stop anywhere:
//! a page that has gone up is found there, one that has not is found below.
//!
//! Candidates are hints in a short queue. One that is lost costs nothing but length: the next write
//! fault, or the next holder that goes, gives it again.

use crate::Core;
use crate::event::ObjectId;
use crate::object::Object;
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::range::page_of;

/// Candidates that are remembered.
pub(crate) const HINTS: usize = 32;

impl Core {
    /// The chain below an object may have become shorter.
    pub(crate) fn collapse_hint(&mut self, object: ObjectId) {
        if self.collapsing.back() != Some(&object) {
            // A full queue forgets it: see the module's text.
            let _ = self.collapsing.push_back(object);
        }
    }

    /// After an object lost a holder: whoever shadows it may be its last.
    pub(crate) fn collapse_hint_below(&mut self, backing: ObjectId) {
        let Some(object) = self.objects.get(backing) else {
            return;
        };
        if object.refs == 1
            && let Some(above) = self.objects.id_at(object.shadows)
        {
            self.collapse_hint(above);
        }
    }

    /// One step for the first candidate: up to [`BUDGET`] pages.
    pub(crate) fn collapse_step(&mut self) {
        let Some(&parent) = self.collapsing.front() else {
            return;
        };
        let pair = self.objects.get(parent).and_then(|object| {
            let backing = object.shadow?;
            let fits = object.is_internal() && object.refs > 0;
            fits.then_some((backing, self.objects.get(backing)?))
        });
        let Some((backing, below)) = pair else {
            self.collapsing.pop_front();
            return;
        };
        let going = if !self.can_go(parent, backing, below) {
            false
        } else if below.refs == 1 {
            self.collapse(parent, backing)
        } else {
            self.bypass(parent, backing)
        };
        if !going {
            self.collapsing.pop_front();
        }
    }

    /// Whether the object below is one that can be absorbed or skipped at all.
    fn can_go(&self, parent: ObjectId, backing: ObjectId, below: &Object) -> bool {
        let Some(above) = self.objects.get(parent) else {
            return false;
        };
        // What it shows of its own shadow must be all that the parent would see there.
        let end = above.shadow_offset.saturating_add(above.size);
        let wide = below.shadow.is_none() || end <= below.size;
        // Old pages are pushed to it: it has to stay where it is (rule 41).
        let awaited = self.awaits_pages(backing);
        below.is_internal() && wide && !awaited
    }

    /// Moves pages up. Says whether to go on.
    fn collapse(&mut self, parent: ObjectId, backing: ObjectId) -> bool {
        let Some((offset, size)) = self
            .objects
            .get(parent)
            .map(|object| (page_of(object.shadow_offset), page_of(object.size)))
        else {
            return false;
        };
        for _ in 0..BUDGET {
            let Some((index, slot)) = self.next_slot(backing, 0, u64::MAX) else {
                self.splice(parent, backing);
                return true;
            };
            let Slot::Page(frame) = slot else {
                if let Some(object) = self.objects.get_mut(backing) {
                    object.pages.clear(&mut self.nodes, index);
                }
                continue;
            };
            if self.pages.get(frame).is_none_or(|page| page.wired > 0) {
                return false;
            }
            let above = index.checked_sub(offset).filter(|above| *above < size);
            match above {
                // The parent's own page wins (rule 42).
                Some(above) if !matches!(self.slot(parent, above), Slot::Page(_)) => {
                    if self.object_move_page(frame, parent, above).is_err() {
                        return false;
                    }
                }
                _ => {
                    self.object_take_page(frame);
                    self.frame_free(frame);
                }
            }
        }
        true
    }

    /// Skips an object that shows the parent nothing of its own. Says whether to go on.
    fn bypass(&mut self, parent: ObjectId, backing: ObjectId) -> bool {
        let (Some(above), Some(below)) = (self.objects.get(parent), self.objects.get(backing))
        else {
            return false;
        };
        // What is not looked at in one step is not skipped.
        if below.pages.used() > BUDGET {
            return false;
        }
        let offset = page_of(above.shadow_offset);
        let end = offset.saturating_add(page_of(above.size));
        let mut from = offset;
        while let Some((index, slot)) = self.next_slot(backing, from, end) {
            let own = index.saturating_sub(offset);
            if matches!(slot, Slot::Page(_)) && !matches!(self.slot(parent, own), Slot::Page(_)) {
                return false;
            }
            from = index.saturating_add(1);
        }
        self.splice(parent, backing);
        true
    }

    /// Takes `backing` out from between `parent` and what lies below.
    fn splice(&mut self, parent: ObjectId, backing: ObjectId) {
        let offset = self.objects.get(parent).map_or(0, |o| o.shadow_offset);
        let below = self.objects.get(backing);
        let next = below.and_then(|object| Some((object.shadow?, object.shadow_offset)));
        self.shadow_unlink(parent);
        if let Some((shadow, further)) = next {
            self.object_reference(shadow);
            self.shadow_link(parent, shadow, offset.saturating_add(further));
        }
        self.object_deallocate(backing);
        self.stats.collapses = self.stats.collapses.saturating_add(1);
    }
}
