//! Copy on write: a page of one's own over one that shows through, and the old page for a copy object
//! before one's own changes (rules 14, 15, 20, 37).
//!
//! Order matters: the lower page is revoked while a copy object still shows it through the object
//! that covers it, and only then pushed.

use ipc_abi::Kern;

use super::{How, Look, Resolved};
use crate::event::ObjectId;
use crate::frames::Class;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::range::{bytes_of, page_of};
use crate::slab::NIL;
use crate::{Core, Turn};

impl Core {
    /// A write to a page that shows through from below: the top object gets its own (rule 37). If
    /// nobody else sees the lower page, it moves.
    pub(crate) fn break_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        lower: (ObjectId, Frame),
    ) -> Result<Resolved, Kern> {
        let (below, old) = lower;
        if self.may_move_up(look, below, old) {
            self.object_move_page(old, look.top, look.index)?;
            self.push_to_copy(turn, look, old)?;
            return Ok(self.writable(look, old, How::Alone));
        }
        let Some(frame) = self.frame_any(self.class_of(look.map)) else {
            return self.out_of_frames();
        };
        if let Err(code) = self.object_add_page(look.top, look.index, frame, Flags::DIRTY) {
            self.frame_free(frame);
            return Err(code);
        }
        turn.machine.copy(old, frame);
        self.stats.cow_breaks = self.stats.cow_breaks.saturating_add(1);
        self.hint_if_covered(look.top, below);
        // First, while a copy object still shows the lower page through this one.
        self.settle_covered(turn, look, old);
        self.push_to_copy(turn, look, frame)?;
        Ok(self.writable(look, frame, How::Alone))
    }

    /// The top object has one page more of its own: perhaps enough to do without the one below.
    fn hint_if_covered(&mut self, top: ObjectId, below: ObjectId) {
        let pages = |id| {
            self.objects
                .get(id)
                .map_or(0, |object| object.pages.pages())
        };
        let shadow = self.objects.get(top).and_then(|top| top.shadow);
        if shadow == Some(below) && pages(below) <= pages(top) {
            self.collapse_hint(top);
        }
    }

    /// Whether the lower page can go up instead of being copied: the top object alone sees the
    /// object that has it.
    fn may_move_up(&self, look: &Look, below: ObjectId, frame: Frame) -> bool {
        let top = self.objects.get(look.top);
        let page = self.pages.get(frame);
        top.is_some_and(|top| top.shadow == Some(below))
            && page.is_some_and(|page| page.state == State::Resident && page.wired == 0)
            && self.objects.get(below).is_some_and(|object| {
                object.refs == 1
                    && object.is_internal()
                    && object.copy.is_none()
                    && !self.awaits_pages(below)
            })
    }

    /// The top object has covered a lower page: translations of that one, reached through the top
    /// object, go. The one that the answer replaces need not, if it is the only one.
    pub(super) fn settle_covered<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        old: Frame,
    ) {
        let Some(page) = self.pages.get(old) else {
            return;
        };
        if page.places.is_never() {
            return;
        }
        let only = self.answering
            && self.objects.get(look.top).is_some_and(|top| {
                top.entries == look.link
                    && top.shadows == NIL
                    && self
                        .entries
                        .at(look.link)
                        .is_some_and(|e| e.object_next == NIL && self.shared(e.map).is_none())
            });
        if !only {
            let spared = self.answered_place(look);
            self.revoke_covered(turn.machine, old, spared);
        }
    }

    /// The place whose translation the answer is certain to replace: map index and page number. What a
    /// copy object is still owed may yet fail.
    fn answered_place(&self, look: &Look) -> Option<(u32, u64)> {
        let certain = self.answering && !look.copied;
        let entry = self.entries.at(look.link).filter(|_| certain)?;
        let inside = bytes_of(look.index).checked_sub(entry.offset)?;
        let number = page_of(entry.start.checked_add(inside)?);
        (entry.map == look.map).then_some((look.map.index(), number))
    }

    /// Before a page of the top object changes: its copy object, if that shows the page, gets the old
    /// contents (rules 14, 15, 20). Whoever saw the page through the copy looks it up again.
    pub(crate) fn push_to_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        frame: Frame,
    ) -> Result<(), Kern> {
        if !look.copied {
            return Ok(());
        }
        self.lower_again(look.link);
        self.object_push(turn, (look.top, look.index), frame)
    }

    /// As [`Core::push_to_copy`], for a page of any object.
    pub(crate) fn object_push<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (object, index): (ObjectId, u64),
        frame: Frame,
    ) -> Result<(), Kern> {
        let Some(copy) = self.objects.get(object).and_then(|object| object.copy) else {
            return Ok(());
        };
        let Some(record) = self.objects.get(copy) else {
            return Ok(());
        };
        let offset = page_of(record.shadow_offset);
        let Some(number) = index.checked_sub(offset) else {
            return Ok(());
        };
        if number >= page_of(record.size) || record.pages.get(&self.nodes, number) != Slot::Empty {
            return Ok(());
        }
        let Some(new) = self.frame_any(Class::Client) else {
            return Err(Kern::ResourceShortage);
        };
        if let Err(code) = self.object_add_page(copy, number, new, Flags::DIRTY) {
            self.frame_free(new);
            return Err(code);
        }
        turn.machine.copy(frame, new);
        self.stats.copy_pushes = self.stats.copy_pushes.saturating_add(1);
        if self
            .pages
            .get(frame)
            .is_some_and(|page| !page.places.is_never())
        {
            self.revoke_covered(turn.machine, frame, None);
        }
        Ok(())
    }
}
