//! Pages of an entry that is being wired: each is made the entry's own object's page, as the entry's
//! whole protection needs it (rules 33, 191), and translated.
//!
//! So a wired page is always in the object that the entry maps, never in one below: who finds it
//! again finds it there. Resident pages, the common case, are taken a leaf at a time.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::{Asker, Look, Resolved};
use crate::effect::{ENTER_MAX, Effect, Enter};
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::object::places::Added;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::{PAGE_SIZE, bytes_of, page_of};
use crate::{Core, Turn};

/// Pages that a step has wired, by page number, to be entered at its end: what a step does may make
/// translations that it entered before void.
pub(crate) type Wired = heapless::Vec<(u64, Frame, Prot), { BUDGET as usize }>;

/// Why no more pages were wired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stopped {
    /// As many as were asked for.
    Full,
    /// The next is not there yet.
    Wait(WaitOn),
    /// The next cannot be had.
    Failed(Kern),
}

impl Core {
    /// Wires pages of the entry at `link` from address `from` up to `to`, until one has to be waited
    /// for. Gives the address that was reached.
    pub(crate) fn wire_pages<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
        (from, to): (u64, u64),
        wired: &mut Wired,
    ) -> (u64, Stopped) {
        if let Some(entry) = self.entries.at_mut(link) {
            entry.visited = true;
        }
        let mut at = from;
        while at < to {
            at = self.wire_resident(link, (at, to), wired);
            if at >= to {
                break;
            }
            let page = match self.resolve_own(turn, link, at) {
                Ok(Resolved::Page(page)) => page,
                Ok(Resolved::Wait(on)) => return (at, Stopped::Wait(on)),
                Ok(Resolved::Zero) => return (at, Stopped::Failed(Kern::MemoryError)),
                Err(code) => return (at, Stopped::Failed(code)),
            };
            let map = self.entries.at(link).map_or(0, |entry| entry.map.index());
            let Some(record) = self.pages.get_mut(page.frame) else {
                return (at, Stopped::Failed(Kern::MemoryError));
            };
            let Some(count) = record.wired.checked_add(1) else {
                return (at, Stopped::Failed(Kern::Failure));
            };
            record.wired = count;
            self.place_enter(turn.machine, page.frame, (map, page_of(at)));
            // There is room: no step wires more pages.
            let _ = wired.push((page_of(at), page.frame, page.protection));
            at = at.saturating_add(PAGE_SIZE);
            if self.revoked >= BUDGET {
                break;
            }
        }
        (at, Stopped::Full)
    }

    /// Wires resident pages of the object that the entry maps, until there is one that needs more than
    /// that. Gives the address that was reached.
    fn wire_resident(&mut self, link: u32, (from, to): (u64, u64), wired: &mut Wired) -> u64 {
        let Some(entry) = self.entries.at(link) else {
            return from;
        };
        let (map, rights) = (entry.map.index(), entry.protection);
        let mut index = page_of(entry.offset_of(from));
        let Some(object) = entry.object.and_then(|id| self.objects.get(id)) else {
            return from;
        };
        let writes = rights.contains(Prot::WRITE);
        if writes && object.is_copied() {
            return from;
        }
        let mut number = page_of(from);
        let end = page_of(to);
        while number < end {
            let Some(leaf) = object.pages.leaf_at(&self.nodes, index) else {
                break;
            };
            let rest = 64u64.saturating_sub(index & 63);
            let last = end.min(number.saturating_add(rest));
            while number < last {
                let Slot::Page(frame) = leaf.slot(index) else {
                    return bytes_of(number);
                };
                let Some(page) = self.pages.get(frame) else {
                    return bytes_of(number);
                };
                if page.state != State::Resident || !page.lock.is_empty() || page.wired == u16::MAX
                {
                    return bytes_of(number);
                }
                if self.pages.place_add(frame, (map, number)) == Added::Full {
                    return bytes_of(number);
                }
                let Some(page) = self.pages.get_mut(frame) else {
                    return bytes_of(number);
                };
                page.wired = page.wired.saturating_add(1);
                if writes {
                    page.flags.insert(Flags::DIRTY);
                }
                let _ = wired.push((number, frame, rights));
                number = number.wrapping_add(1);
                index = index.wrapping_add(1);
            }
        }
        bytes_of(number)
    }

    /// The page that the entry's own object has, or gets, for an address.
    ///
    /// # Errors
    /// As [`Core::resolve`].
    fn resolve_own<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
        address: u64,
    ) -> Result<Resolved, Kern> {
        let entry: &Entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        let top: ObjectId = entry.object.ok_or(Kern::InvalidAddress)?;
        let object = self.objects.get(top).ok_or(Kern::InvalidAddress)?;
        let look = Look {
            map: entry.map,
            link,
            top,
            index: page_of(entry.offset_of(address)),
            access: entry.protection,
            rights: entry.protection,
            needs_copy: false,
            copied: object.is_copied(),
            own: true,
        };
        match object.pages.get(&self.nodes, look.index) {
            Slot::Page(frame) => self.found_in_top(turn, &look, frame),
            slot => self.resolve_below(turn, &look, (slot, false), Asker::Thread),
        }
    }

    /// Enters what a step has wired.
    pub(crate) fn enter_wired<M: Machine>(
        &self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        wired: &Wired,
    ) {
        let epoch = self.maps.get(map).map_or(0, |map| map.epoch);
        let empty = Enter {
            map,
            epoch,
            address: 0,
            protection: Prot::NONE,
            uncached: false,
            count: 0,
            frames: [Frame(0); ENTER_MAX],
        };
        let (mut run, mut next) = (empty, 0);
        for &(number, frame, protection) in wired {
            if protection.is_empty() {
                continue;
            }
            let goes_on = run.protection == protection
                && next == number
                && usize::from(run.count) < ENTER_MAX;
            if !goes_on {
                if run.count > 0 {
                    turn.effects.push(Effect::Enter(run));
                }
                run = Enter {
                    address: bytes_of(number),
                    protection,
                    ..empty
                };
            }
            if let Some(place) = run.frames.get_mut(usize::from(run.count)) {
                *place = frame;
                run.count = run.count.saturating_add(1);
            }
            next = number.saturating_add(1);
        }
        if run.count > 0 {
            turn.effects.push(Effect::Enter(run));
        }
    }
}
