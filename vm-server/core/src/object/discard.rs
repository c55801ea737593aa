//! Giving up, on request, what anonymous memory holds: the pages behind VM_BEHAVIOR_FREE, ZERO, REUSABLE
//! and REUSE (rule 202).
//!
//! A page is simply dropped only where nobody can see more than its absence: in an object of its own,
//! without a shadow that would show through, and without one that shows it. Everywhere else zeros are
//! written, as a thread would write them. That is decided anew at each step, for between two the
//! memory may have been copied.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::copy::slowly::Slow;
use crate::event::{MapId, ObjectId};
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::object::{Kind, Object, purgeable};
use crate::op::BUDGET;
use crate::range::{PAGE_SIZE, bytes_of, page_of};
use crate::slab::NIL;
use crate::{Core, Turn};

/// A range of a map on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The map.
    pub(crate) map: MapId,
    /// Next address.
    pub(crate) next: u64,
    /// One past the last.
    pub(crate) end: u64,
}

/// The pages of an object behind a part of an entry.
#[derive(Clone, Copy, Debug)]
struct Window {
    object: ObjectId,
    first: u64,
    end: u64,
}

impl Core {
    /// The entry at the next address of a part.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the map has ended. `KERN_INVALID_ADDRESS`: nothing is mapped there.
    fn part_entry(&self, part: &Part) -> Result<Entry, Kern> {
        let map = self.maps.get(part.map).filter(|map| !map.dying);
        let tree = &map.ok_or(Kern::Terminated)?.tree;
        let link = tree.find(&self.entries, part.next);
        self.entries.at(link.0).copied().ok_or(Kern::InvalidAddress)
    }

    /// The part of an object of anonymous memory that an entry shows in a part of itself.
    fn part_window(&self, entry: &Entry, part: &Part) -> Option<(Window, &Object)> {
        let object = entry.object?;
        let record = self.objects.get(object)?;
        let first = page_of(entry.offset_of(part.next));
        let end = page_of(entry.offset_of(part.end.min(entry.end)));
        let window = Window { object, first, end };
        (record.is_internal() && record.shadow.is_none()).then_some((window, record))
    }

    /// Whether pages that an entry shows may be dropped.
    pub(crate) fn may_discard(&self, entry: &Entry) -> bool {
        let object = entry.object.and_then(|id| self.objects.get(id));
        entry.protection.contains(Prot::WRITE)
            && !entry.needs_copy
            && entry.wired == 0
            && !entry.in_transition
            && object.is_some_and(|object| {
                object.is_internal()
                    && object.shadow.is_none()
                    && object.copy.is_none()
                    && object.shadows == NIL
            })
    }

    /// Drops up to [`BUDGET`] pages of a part, as far as they may be dropped; what may not stays. Says
    /// whether that is all.
    pub(crate) fn discard_step<M: Machine>(&mut self, machine: &mut M, part: &mut Part) -> bool {
        let Ok(entry) = self.part_entry(part) else {
            return true;
        };
        if !self.may_discard(&entry) {
            part.next = entry.end;
        } else if let Some(kept) = self.discard_some(machine, &entry, part) {
            part.next = kept.saturating_add(PAGE_SIZE);
        }
        part.next >= part.end
    }

    /// Drops up to [`BUDGET`] pages that an entry shows, and moves on; gives the address of the first
    /// that cannot be dropped, where it stops.
    fn discard_some<M: Machine>(
        &mut self,
        machine: &mut M,
        entry: &Entry,
        part: &mut Part,
    ) -> Option<u64> {
        let (window, _) = self.part_window(entry, part)?;
        let mut batch = self.batch();
        let mut frames = heapless::Vec::<Frame, { BUDGET as usize }>::new();
        let (mut next, mut kept) = (window.first, None);
        self.revoked = 0;
        for _ in 0..BUDGET {
            if self.revoked >= BUDGET {
                break;
            }
            let Some((index, slot)) = self.next_slot(window.object, next, window.end) else {
                next = window.end;
                break;
            };
            let Slot::Page(frame) = slot else {
                next = index.saturating_add(1);
                continue;
            };
            let plain = self
                .pages
                .get(frame)
                .is_some_and(|page| page.state == State::Resident && page.wired == 0);
            if !plain {
                kept = Some(index);
                next = index;
                break;
            }
            self.revoke_later(machine, &mut batch, frame, Prot::NONE);
            // There is room for as many as are looked at.
            let _ = frames.push(frame);
            next = index.saturating_add(1);
        }
        self.batch_end(batch, machine);
        for frame in frames {
            self.object_take_page(frame);
            self.frame_free(frame);
        }
        let address = |index: u64| {
            let pages = index.saturating_sub(window.first);
            part.next.saturating_add(bytes_of(pages))
        };
        let (next, kept) = (address(next), kept.map(address));
        part.next = next;
        kept
    }

    /// Makes up to [`BUDGET`] pages of a part read zero.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: it cannot be written.
    /// `KERN_MEMORY_ERROR`: a pager failed. `KERN_RESOURCE_SHORTAGE`. What comes before is zero.
    pub(crate) fn zero_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        part: &mut Part,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        for _ in 0..BUDGET {
            if part.next >= part.end {
                return Ok(Slow::Done);
            }
            let entry = self.part_entry(part)?;
            if !entry.protection.contains(Prot::WRITE) {
                return Err(Kern::ProtectionFailure);
            }
            if self.may_discard(&entry) {
                let kept = self.discard_some(turn.machine, &entry, part);
                if kept.is_none() {
                    return Ok(Slow::More);
                }
            } else if let Some(next) = self.next_used(&entry, part) {
                part.next = next;
                if next >= part.end.min(entry.end) {
                    continue;
                }
            }
            match self.fetch(turn, part.map, part.next, Prot::WRITE, waiter)? {
                Fetched::Wait => return Ok(Slow::Wait),
                Fetched::Page(frame) if self.pages.get(frame).is_some() => {
                    turn.machine.zero(frame);
                }
                Fetched::Page(_) => return Err(Kern::NoAccess),
                Fetched::Zero => {}
            }
            part.next = part.next.saturating_add(PAGE_SIZE);
        }
        Ok(Slow::More)
    }

    /// The next address at which memory is not certain to be zero, where that is easy to see.
    fn next_used(&self, entry: &Entry, part: &Part) -> Option<u64> {
        let end = part.end.min(entry.end);
        if entry.is_untouched() {
            return Some(end);
        }
        let (window, _) = self.part_window(entry, part)?;
        let found = self.next_slot(window.object, window.first, window.end);
        Some(found.map_or(end, |(index, _)| {
            let pages = index.saturating_sub(window.first);
            part.next.saturating_add(bytes_of(pages))
        }))
    }

    /// Whether an entry shows memory whose pages can be reusable.
    pub(crate) fn is_reusable(&self, entry: &Entry) -> bool {
        let Some(id) = entry.object else {
            return entry.submap.is_none();
        };
        self.objects.get(id).is_some_and(|object| {
            matches!(object.kind, Kind::Internal)
                && object.purgeable.state == purgeable::State::Deny
                && object.shadow.is_none()
                && object.copy.is_none()
                && object.shadows == NIL
        }) && !entry.needs_copy
    }

    /// Marks up to [`BUDGET`] pages of a part as reusable, or as in use again. Says whether that is all.
    pub(crate) fn reuse_step<M: Machine>(
        &mut self,
        machine: &mut M,
        part: &mut Part,
        reusable: bool,
    ) -> Result<bool, Kern> {
        let entry = self.part_entry(part)?;
        let end = part.end.min(entry.end);
        let window = self.part_window(&entry, part).map(|(window, _)| window);
        let Some(window) = window.filter(|_| self.is_reusable(&entry) && entry.wired == 0) else {
            part.next = end;
            return Ok(end >= part.end);
        };
        let mut batch = self.batch();
        let mut next = window.first;
        self.revoked = 0;
        for _ in 0..BUDGET {
            if self.revoked >= BUDGET {
                break;
            }
            let Some((index, slot)) = self.next_slot(window.object, next, window.end) else {
                next = window.end;
                break;
            };
            next = index.saturating_add(1);
            let Slot::Page(frame) = slot else { continue };
            if reusable {
                self.revoke_later(machine, &mut batch, frame, Prot::NONE);
                self.page_reusable(frame);
            } else {
                self.page_reused(frame);
            }
        }
        self.batch_end(batch, machine);
        if reusable {
            self.queue_reusable(window.object);
        }
        let pages = next.saturating_sub(window.first);
        part.next = part.next.saturating_add(bytes_of(pages));
        Ok(part.next >= part.end)
    }

    /// A page's contents may go. It is clean from now on: the next write is noticed.
    fn page_reusable(&mut self, frame: Frame) {
        let Some(page) = self.pages.get_mut(frame) else {
            return;
        };
        if page.state != State::Resident || page.wired > 0 || page.flags.contains(Flags::REUSABLE) {
            return;
        }
        page.flags.remove(Flags::DIRTY);
        page.flags.insert(Flags::REUSABLE);
        let payer = page.object.and_then(|object| self.payer_of(object));
        if let Some(map) = payer.and_then(|id| self.maps.get_mut(id)) {
            map.counts.reusable = map.counts.reusable.saturating_add(1);
            map.counts.reusable_peak = map.counts.reusable_peak.max(map.counts.reusable);
        }
    }

    /// A page's contents may not go any more.
    #[cold]
    pub(crate) fn page_reused(&mut self, frame: Frame) {
        let Some(page) = self.pages.get_mut(frame) else {
            return;
        };
        if !page.flags.contains(Flags::REUSABLE) {
            return;
        }
        page.flags.remove(Flags::REUSABLE);
        let payer = page.object.and_then(|object| self.payer_of(object));
        if let Some(map) = payer.and_then(|id| self.maps.get_mut(id)) {
            map.counts.reusable = map.counts.reusable.saturating_sub(1);
        }
    }
}
