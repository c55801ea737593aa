//! The common faults on memory that lies over other memory: a page that shows through is read, or is
//! copied because it is written.
//!
//! As in [`super::quick`], `None` leaves the fault to the event that decides all of them, and whatever
//! was changed until then (an entry may have got its shadow) that would have changed as well. A fault
//! that would leave work behind, or that finds that a page may move instead of being copied, is none of
//! these.

use ipc_abi::translation;
use ipc_abi::types::Prot;

use super::Look;
use super::quick::{Found, Neighbours, WINDOW, show_beside, shown_beside};
use crate::effect::ENTER_MAX;
use crate::event::ObjectId;
use crate::machine::Machine;
use crate::object::Object;
use crate::object::page::{Frame, State};
use crate::object::pages::Slot;
use crate::object::places::Added;
use crate::range::page_of;
use crate::slab::NIL;
use crate::{Core, Turn};

/// Objects below the first that are looked at.
const DEPTH: u32 = 4;

/// A page that shows through where the first object has none.
struct Shown {
    object: ObjectId,
    /// Number of the page in that object.
    index: u64,
    frame: Frame,
    /// It lies directly below the first object.
    next: bool,
    /// No object above it has any page.
    bare: bool,
    /// Pages from this one on that show through, if there are any.
    room: u64,
}

impl Core {
    /// The first object of a fault has no page, but lies over another.
    #[inline(never)]
    pub(super) fn now_below<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
        write: bool,
    ) -> Option<translation::Enter> {
        let top = self.objects.get(found.object)?;
        if !top.is_internal() || top.pager.is_some() || write && top.is_copied() {
            return None;
        }
        let Some(shown) = self.shown_through(top, found.index)? else {
            return write.then(|| self.now_zeroed(turn, found))?;
        };
        let page = self.pages.get(shown.frame)?;
        if page.state != State::Resident || !page.lock.is_empty() {
            return None;
        }
        if write {
            self.now_copied(turn, found, &shown)
        } else {
            self.now_shown(turn, found, &shown)
        }
    }

    /// Looks for a page down the chain. Nothing: it is far, or somebody has to be asked or waited for.
    /// Nothing inside: there is none.
    #[inline(always)]
    fn shown_through(&self, top: &Object, index: u64) -> Option<Option<Shown>> {
        let (mut above, mut index) = (top, index);
        let (mut bare, mut room) = (true, u64::MAX);
        for depth in 0..DEPTH {
            let Some(object) = above.shadow else {
                return Some(None);
            };
            let record = self.objects.get(object)?;
            bare &= above.pages.used() == 0;
            index = index.checked_add(page_of(above.shadow_offset))?;
            let size = page_of(record.size);
            if index >= size {
                return Some(None);
            }
            room = room.min(size.saturating_sub(index));
            match record.pages.get(&self.nodes, index) {
                Slot::Page(frame) => {
                    return Some(Some(Shown {
                        object,
                        index,
                        frame,
                        next: depth == 0,
                        bare,
                        room,
                    }));
                }
                Slot::Empty if record.pager.is_none() => {}
                _ => return None,
            }
            above = record;
        }
        None
    }

    /// A read.
    #[inline(always)]
    fn now_shown<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
        shown: &Shown,
    ) -> Option<translation::Enter> {
        let (map, number) = (found.map.index(), page_of(found.address));
        let added = self.pages.place_add(shown.frame, (map, number));
        if added == Added::Full {
            return None;
        }
        if shown.bare
            && let Some(object) = self.objects.get(shown.object)
            && let Some(leaf) = object.pages.leaf_at(&self.nodes, shown.index)
        {
            let middle = shown.index & 63;
            let window = ((1 << ENTER_MAX) - 1) << (middle & !WINDOW);
            let room = u64::MAX
                >> 64u64
                    .saturating_sub(middle.saturating_add(shown.room))
                    .min(63);
            let mask = leaf.pages() & window & !(1 << middle) & room;
            let mask = mask & shown_beside(found.span, found.address, middle);
            if mask != 0 {
                let neighbours = Neighbours {
                    mask,
                    middle,
                    at: (map, number.wrapping_sub(middle)),
                    own: false,
                    again: added == Added::Known,
                };
                show_beside(&mut self.pages, leaf, &neighbours, &mut turn.effects.beside);
            }
        }
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        let rights = found.rights.difference(Prot::WRITE);
        self.now_entered((found.map, found.address), shown.frame, rights)
    }

    /// A write: the first object gets a copy.
    #[inline(always)]
    fn now_copied<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
        shown: &Shown,
    ) -> Option<translation::Enter> {
        let covers = shown.next && {
            let (top, shadow) = (
                self.objects.get(found.object)?,
                self.objects.get(shown.object)?,
            );
            let alone = top.shadow_next == NIL && top.shadow_prev == NIL;
            covers(top.pages.pages(), alone, shadow)?
        };
        let mapped = !self.pages.get(shown.frame)?.places.is_never();
        let (frame, _) = self.now_owned(found, State::Free)?;
        turn.machine.copy(shown.frame, frame);
        if mapped {
            self.now_covered(turn, found, shown.frame);
        }
        if covers {
            self.splice(found.object, shown.object);
        }
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.cow_breaks = self.stats.cow_breaks.saturating_add(1);
        self.now_entered((found.map, found.address), frame, found.rights)
    }

    /// A page has been covered that may be mapped.
    #[inline(never)]
    fn now_covered<M: Machine>(&mut self, turn: &mut Turn<'_, M>, found: &Found, old: Frame) {
        let look = Look {
            map: found.map,
            link: found.link,
            top: found.object,
            index: found.index,
            access: Prot::WRITE,
            rights: found.rights,
            needs_copy: false,
            copied: false,
            own: false,
        };
        self.answering = self.config.in_order;
        self.settle_covered(turn, &look, old);
        self.answering = false;
    }

    /// A write where nothing shows through.
    #[inline(always)]
    fn now_zeroed<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
    ) -> Option<translation::Enter> {
        let frame = self.now_fresh(turn, found)?;
        self.now_entered((found.map, found.address), frame, found.rights)
    }
}

/// Whether an object that had so many pages, and gets a copy of a page of its shadow, needs the shadow no
/// more after that, which had this page and nothing else. `alone`: no other object lies over it. `None`: the
/// page may move, or it is too early to say: both are found out, and done, by others.
#[inline(always)]
pub(super) fn covers(pages: u32, alone: bool, shadow: &Object) -> Option<bool> {
    if shadow.refs == 1 {
        return None;
    }
    if shadow.pages.pages() > pages.saturating_add(1) {
        return Some(false);
    }
    let last = shadow.pages.used() == 1 && shadow.is_internal() && shadow.shadow.is_none();
    // Whoever else lies over it might be the last to hold it then.
    (last && (alone || shadow.refs > 2)).then_some(true)
}
