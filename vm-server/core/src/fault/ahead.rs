//! Fault-around: resident neighbours of a page that was found are entered with it.
//!
//! Only pages of the same leaf and the same aligned window of [`ENTER_MAX`] are looked at, and only
//! where the objects above have no pages at all, so that nothing can lie over them. A page is entered
//! read-only unless it is dirty already and may be written.

use ipc_abi::types::Prot;

use crate::effect::{ENTER_MAX, Effect, Enter};
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::range::{bytes_of, page_of};
use crate::{Core, Turn};

/// Bits of a page's number inside the window.
const WINDOW: u64 = ENTER_MAX as u64 - 1;

impl Core {
    /// Enters what lies beside page `index` of `object`, which is page `number` of `map` by the entry
    /// `link`. `again`: the page had been entered here before, so its neighbours may have gone too.
    pub(crate) fn enter_around<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, number, link): (MapId, u64, u32),
        (object, index): (ObjectId, u64),
        again: bool,
    ) {
        let Some(record) = self.objects.get(object) else {
            return;
        };
        let copied = record.copy.is_some();
        let place = index & 63;
        let base = place & !WINDOW;
        let window = record.pages.neighbours(&self.nodes, index) >> base & ((1 << ENTER_MAX) - 1);
        let window = window & !(1 << (place & WINDOW));
        if window == 0 {
            return;
        }
        let Some(entry) = self.entries.at(link) else {
            return;
        };
        let top = entry.object == Some(object);
        let rights = entry.protection;
        let may_write = top && !copied && !entry.needs_copy;
        let (low, high) = (page_of(entry.start), page_of(entry.end));
        let epoch = self.maps.get(map).map_or(0, |map| map.epoch);
        let mut run = Enter {
            map,
            epoch,
            address: 0,
            protection: Prot::NONE,
            uncached: false,
            count: 0,
            frames: [Frame(0); ENTER_MAX],
        };
        let mut rest = window;
        while rest != 0 {
            let offset = u64::from(rest.trailing_zeros());
            rest &= rest.wrapping_sub(1);
            let page = (index & !63).saturating_add(base).saturating_add(offset);
            let at = number.wrapping_add(page).wrapping_sub(index);
            if at < low || at >= high {
                continue;
            }
            let Some((frame, dirty)) = self.neighbour(object, page, (map, at), again) else {
                continue;
            };
            let protection = if dirty && may_write {
                rights
            } else {
                rights.difference(Prot::WRITE)
            };
            let next = run.address.wrapping_add(bytes_of(u64::from(run.count)));
            if run.count != 0 && (run.protection != protection || next != bytes_of(at)) {
                turn.effects.push(Effect::Enter(run));
                run.count = 0;
            }
            if run.count == 0 {
                run.address = bytes_of(at);
                run.protection = protection;
            }
            if let Some(place) = run.frames.get_mut(usize::from(run.count)) {
                *place = frame;
                run.count = run.count.saturating_add(1);
            }
        }
        if run.count != 0 {
            turn.effects.push(Effect::Enter(run));
        }
    }

    /// A neighbour that can be entered at page `number` of a map, and whether it is dirty.
    fn neighbour(
        &mut self,
        object: ObjectId,
        index: u64,
        (map, number): (MapId, u64),
        again: bool,
    ) -> Option<(Frame, bool)> {
        let Slot::Page(frame) = self.slot(object, index) else {
            return None;
        };
        let page = self.pages.get_mut(frame)?;
        if page.state != State::Resident || !page.lock.is_empty() {
            return None;
        }
        if page.places.holds(map.index(), number) {
            if !again {
                return None;
            }
        } else {
            page.places.add(map.index(), number);
        }
        Some((frame, page.flags.contains(Flags::DIRTY)))
    }
}
