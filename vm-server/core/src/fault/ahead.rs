//! Fault-around: resident neighbours of a page that was found are entered with it.
//!
//! Only pages of the same leaf and the same aligned window of [`ENTER_MAX`] are looked at, and only
//! where the objects above have no pages at all, so that nothing can lie over them. A page is entered
//! read-only unless it is dirty already and may be written. If the nearest on both sides were entered
//! before, the others are not looked at.

use ipc_abi::types::Prot;

use super::quick::shown_beside;
use crate::effect::{ENTER_MAX, Effect, Enter};
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::object::places::Added;
use crate::range::bytes_of;
use crate::{Core, Turn};

/// Bits of a page's number inside the window.
const WINDOW: u64 = ENTER_MAX as u64 - 1;

impl Core {
    /// Enters what lies beside page `index` of `object`, which is page `number` of `map` by the entry
    /// `link`. `again`: the page had been entered here before, so its neighbours may have gone too.
    /// They get no more than `rights`, which the page has.
    pub(crate) fn enter_around<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, number, link): (MapId, u64, u32),
        (object, index): (ObjectId, u64),
        (again, rights): (bool, Prot),
    ) {
        let Some(record) = self.objects.get(object) else {
            return;
        };
        let Some(leaf) = record.pages.leaf_at(&self.nodes, index) else {
            return;
        };
        let place = index & 63;
        let base = place & !WINDOW;
        let window = leaf.pages() >> base & ((1 << ENTER_MAX) - 1);
        let Some(entry) = self.entries.at(link) else {
            return;
        };
        let shown = shown_beside((entry.start, entry.end), bytes_of(number), place) >> base;
        let mut rest = window & !(1 << (place & WINDOW)) & shown;
        if rest == 0 {
            return;
        }
        let read_only = rights.difference(Prot::WRITE);
        // A dirty page of the entry's own object may be entered as it may be written.
        let own = entry.object == Some(object) && !record.is_copied() && !entry.needs_copy;
        let writable = if own { rights } else { read_only };
        let mut run = Enter {
            map,
            epoch: self.maps.get(map).map_or(0, |map| map.epoch),
            address: 0,
            protection: Prot::NONE,
            uncached: false,
            count: 0,
            frames: [Frame(0); ENTER_MAX],
        };
        let first = number.wrapping_add(base).wrapping_sub(place);
        // All of a window are entered together, so the nearest tell for the rest.
        let middle = place & WINDOW;
        let below = (rest & (1u64 << middle).wrapping_sub(1)).checked_ilog2();
        let above = (rest >> middle != 0).then(|| {
            let distance = (rest >> middle).trailing_zeros();
            distance.wrapping_add(middle as u32)
        });
        let entered = |offset: u32| {
            let offset = u64::from(offset);
            let Slot::Page(frame) = leaf.slot(base.wrapping_add(offset)) else {
                return false;
            };
            let at = (map.index(), first.wrapping_add(offset));
            self.pages.place_holds(frame, at)
        };
        if !again && below.is_none_or(entered) && above.is_none_or(entered) {
            return;
        }
        let mut next = 0;
        while rest != 0 {
            let offset = u64::from(rest.trailing_zeros());
            rest &= rest.wrapping_sub(1);
            let at = first.wrapping_add(offset);
            let Slot::Page(frame) = leaf.slot(base.wrapping_add(offset)) else {
                continue;
            };
            let Some(page) = self.pages.get(frame) else {
                continue;
            };
            if page.state != State::Resident || !page.lock.is_empty() {
                continue;
            }
            let dirty = page.flags.contains(Flags::DIRTY);
            match self.pages.place_add(frame, (map.index(), at)) {
                Added::New => {}
                Added::Known if again => {}
                // A page with too many places waits for a fault of its own.
                Added::Known | Added::Full => continue,
            }
            let protection = if dirty { writable } else { read_only };
            if run.count != 0 && (run.protection != protection || next != at) {
                turn.effects.push(Effect::Enter(run));
                run.count = 0;
            }
            if run.count == 0 {
                run.address = bytes_of(at);
                run.protection = protection;
            }
            next = at.wrapping_add(1);
            if let Some(place) = run.frames.get_mut(usize::from(run.count)) {
                *place = frame;
                run.count = run.count.wrapping_add(1);
            }
        }
        if run.count != 0 {
            turn.effects.push(Effect::Enter(run));
        }
    }
}
