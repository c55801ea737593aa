//! Keeping shadow chains short: collapse and bypass (vm_object_collapse; rules 40 to 48).
//!
//! *Collapse*: nobody but the object above holds the one below, so its pages go up, and it ends.
//! *Bypass*: others hold it, but it has nothing that the object above does not have itself, which
//! can then look past it. Both are steps of their own, never part of a fault, and may stop anywhere:
//! a page that has gone up is found there, one that has not is found below. A pager that somebody
//! waits for further down does not matter: who is woken looks again, along whatever chain there is.
//!
//! Candidates are in a list through the objects, so that none is lost. A candidate whose next object
//! has to stay gives its place to that one, so that the rest of its chain is looked at as well.

use crate::Core;
use crate::event::ObjectId;
use crate::object::Object;
use crate::object::life::NOT_LISTED;
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::range::page_of;
use crate::slab::NIL;

/// Objects whose chains may be shortened.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// The one that is worked on.
    pub(crate) first: u32,
    last: u32,
    scan: Option<Scan>,
}

impl Candidates {
    /// No candidate.
    pub(crate) const NONE: Candidates = Candidates {
        first: NIL,
        last: NIL,
        scan: None,
    };
}

/// How far the first candidate has been compared with the object below, to be bypassed. Void when
/// that one has got a page since, or the candidate has lost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scan {
    parent: ObjectId,
    backing: ObjectId,
    /// Next page of the backing object.
    at: u64,
    came: u32,
    left: u32,
}

/// How a candidate's step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// Its next step may do more.
    On,
    /// The object below it stays; that one's chain comes next.
    Stuck,
}

impl Core {
    /// The chain below an object may have become shorter.
    pub(crate) fn collapse_hint(&mut self, object: ObjectId) {
        let last = self.collapsing.last;
        match self.objects.get_mut(object) {
            Some(record) if record.collapse_next == NOT_LISTED => {
                record.collapse_next = NIL;
                record.collapse_prev = last;
            }
            _ => return,
        }
        self.collapsing.last = object.index();
        match self.objects.at_mut(last) {
            Some(record) => record.collapse_next = object.index(),
            None => self.collapsing.first = object.index(),
        }
    }

    /// Takes an object out of the list of candidates, if it is in it.
    pub(crate) fn collapse_forget(&mut self, object: ObjectId) {
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        if record.collapse_next == NOT_LISTED {
            return;
        }
        let (next, prev) = (record.collapse_next, record.collapse_prev);
        record.collapse_next = NOT_LISTED;
        record.collapse_prev = NOT_LISTED;
        match self.objects.at_mut(next) {
            Some(record) => record.collapse_prev = prev,
            None => self.collapsing.last = prev,
        }
        match self.objects.at_mut(prev) {
            Some(record) => record.collapse_next = next,
            None => self.collapsing.first = next,
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
        let Some(parent) = self.objects.id_at(self.collapsing.first) else {
            return;
        };
        let backing = self.objects.get(parent).and_then(|object| object.shadow);
        let Some(backing) = backing else {
            return self.collapse_forget(parent);
        };
        if self.collapse_one(parent, backing) == Went::Stuck {
            self.collapse_forget(parent);
            if self
                .objects
                .get(backing)
                .is_some_and(|o| o.shadow.is_some())
            {
                self.collapse_hint(backing);
            }
        }
    }

    fn collapse_one(&mut self, parent: ObjectId, backing: ObjectId) -> Went {
        match (self.objects.get(parent), self.objects.get(backing)) {
            (Some(above), Some(below)) if self.can_go(above, backing, below) => {
                if below.refs == 1 {
                    self.collapse(parent, backing)
                } else {
                    self.bypass(parent, backing)
                }
            }
            _ => Went::Stuck,
        }
    }

    /// Whether the object below is one that can be absorbed or skipped at all.
    fn can_go(&self, above: &Object, backing: ObjectId, below: &Object) -> bool {
        let held = above.is_internal() && above.refs > 0;
        // What it shows of its own shadow must be all that the parent would see there.
        let end = above.shadow_offset.saturating_add(above.size);
        let wide = below.shadow.is_none() || end <= below.size;
        // Old pages are pushed to it: it has to stay where it is (rule 41).
        held && below.is_internal() && wide && !self.awaits_pages(backing)
    }

    /// Moves pages up.
    fn collapse(&mut self, parent: ObjectId, backing: ObjectId) -> Went {
        let Some((offset, size)) = self
            .objects
            .get(parent)
            .map(|object| (page_of(object.shadow_offset), page_of(object.size)))
        else {
            return Went::Stuck;
        };
        for _ in 0..BUDGET {
            let Some((index, slot)) = self.next_slot(backing, 0, u64::MAX) else {
                self.splice(parent, backing);
                return Went::On;
            };
            let Slot::Page(frame) = slot else {
                if let Some(object) = self.objects.get_mut(backing) {
                    object.pages.clear(&mut self.nodes, index);
                }
                continue;
            };
            if self.pages.get(frame).is_none_or(|page| page.wired > 0) {
                return Went::Stuck;
            }
            let above = index.checked_sub(offset).filter(|above| *above < size);
            match above {
                // The parent's own page wins (rule 42).
                Some(above) if !matches!(self.slot(parent, above), Slot::Page(_)) => {
                    if self.object_move_page(frame, parent, above).is_err() {
                        return Went::Stuck;
                    }
                }
                _ => {
                    self.object_take_page(frame);
                    self.frame_free(frame);
                }
            }
        }
        Went::On
    }

    /// Skips an object that shows the parent nothing of its own.
    fn bypass(&mut self, parent: ObjectId, backing: ObjectId) -> Went {
        let (Some(above), Some(below)) = (self.objects.get(parent), self.objects.get(backing))
        else {
            return Went::Stuck;
        };
        let offset = page_of(above.shadow_offset);
        let end = offset.saturating_add(page_of(above.size));
        let mut scan = Scan {
            parent,
            backing,
            at: offset,
            came: below.pages.came(),
            left: above.pages.left(),
        };
        if let Some(last) = self.collapsing.scan.take()
            && (Scan {
                at: last.at,
                ..scan
            }) == last
        {
            scan.at = last.at;
        }
        for _ in 0..BUDGET {
            let Some((index, slot)) = self.next_slot(backing, scan.at, end) else {
                self.splice(parent, backing);
                return Went::On;
            };
            let own = index.saturating_sub(offset);
            if matches!(slot, Slot::Page(_)) && !matches!(self.slot(parent, own), Slot::Page(_)) {
                return Went::Stuck;
            }
            scan.at = index.saturating_add(1);
        }
        self.collapsing.scan = Some(scan);
        Went::On
    }

    /// Takes `backing` out from between `parent` and what lies below.
    pub(crate) fn splice(&mut self, parent: ObjectId, backing: ObjectId) {
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

#[cfg(test)]
mod tests;
