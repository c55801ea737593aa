//! Pages of an entry that is being wired: each is made the entry's own object's page, as the entry's
//! whole protection needs it (rules 33, 191), and translated.
//!
//! So a wired page is always in the object that the entry maps, never in one below: who finds it
//! again finds it there. Resident pages, the common case, are taken a leaf at a time, and a step takes
//! more of them than of others: a count and a word for the kernel are a tenth of what it is to fill one.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::{Asker, Look, Resolved};
use crate::effect::{Effect, Effects, EnterRun};
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::page::Flags;
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::{PAGE_SIZE, bytes_of, page_of};
use crate::{Core, Turn};

/// What a page or an entry counts that takes more than counting a wiring.
pub(crate) const BROUGHT: u32 = 4;
/// Pages that are there which a step wires or unwires at most.
pub(crate) const WORK: u32 = BROUGHT.saturating_mul(BUDGET);

/// What a step has wired, to be entered at its end: what it does may make translations that it entered
/// before void.
pub(crate) struct Wired {
    runs: heapless::Vec<Run, { BUDGET as usize }>,
    /// What may still be done. Each page counts 1 at least, and each entry [`BROUGHT`] besides.
    left: u32,
}

/// Pages side by side, whose frames are with the effects.
struct Run {
    number: u64,
    protection: Prot,
    first: u32,
    count: u32,
}

impl Wired {
    /// Nothing, and as much to do as there is room for.
    pub(crate) fn new(effects: &Effects) -> Wired {
        let left = match effects.frames_left() {
            0 => 0,
            room => room.min(WORK).saturating_add(BROUGHT),
        };
        let runs = heapless::Vec::new();
        Wired { runs, left }
    }

    /// What may still be done.
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }

    /// Something was done.
    pub(crate) const fn spend(&mut self, work: u32) {
        self.left = self.left.saturating_sub(work);
    }

    /// The frames with the effects from `first` on are those of pages from `number` on, entered with these
    /// rights.
    fn extend(&mut self, (number, first, count): (u64, u32, u32), protection: Prot) {
        if let Some(run) = self.runs.last_mut()
            && run.protection == protection
            && run.number.saturating_add(run.count.into()) == number
            && run.first.saturating_add(run.count) == first
        {
            run.count = run.count.saturating_add(count);
            return;
        }
        // There is room: a step with as many runs as it may have does no more.
        let _ = self.runs.push(Run {
            number,
            protection,
            first,
            count,
        });
        if self.runs.is_full() {
            self.left = 0;
        }
    }
}

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
    /// Wires pages of the entry at `link` from address `from` up to `to`, as many as the step may and
    /// until one has to be waited for. Gives the address that was reached.
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
        while at < to && wired.left > 0 {
            at = self.wire_resident(link, (at, to), (turn.effects, wired));
            if at >= to || wired.left == 0 {
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
            if !page.protection.is_empty() {
                // There is room: the page counts.
                let first = turn.effects.frames_used();
                turn.effects.push_frame(page.frame);
                wired.extend((page_of(at), first, 1), page.protection);
            }
            wired.spend(BROUGHT);
            at = at.saturating_add(PAGE_SIZE);
            if self.revoked >= BUDGET {
                break;
            }
        }
        (at, Stopped::Full)
    }

    /// Wires resident pages of the object that the entry maps, until there is one that needs more than
    /// that. Gives the address that was reached.
    fn wire_resident(
        &mut self,
        link: u32,
        (from, to): (u64, u64),
        (effects, wired): (&mut Effects, &mut Wired),
    ) -> u64 {
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
        let known = if writes { Flags::DIRTY } else { Flags::empty() };
        let first = page_of(from);
        let end = page_of(to).min(first.saturating_add(wired.left.into()));
        let mut number = first;
        let entered = !rights.is_empty();
        'leaves: while number < end {
            let Some(leaf) = object.pages.leaf_at(&self.nodes, index) else {
                break;
            };
            for frame in leaf.frames_from(index, end.saturating_sub(number)) {
                let Some(frame) = frame else { break 'leaves };
                if !self.pages.wire_resident(frame, (map, number), known) {
                    break 'leaves;
                }
                if entered {
                    // There is room for as many as are left to do.
                    effects.push_frame(frame);
                }
                number = number.wrapping_add(1);
                index = index.wrapping_add(1);
            }
        }
        let count = number.saturating_sub(first) as u32;
        if entered && count > 0 {
            let frames = effects.frames_used().saturating_sub(count);
            wired.extend((first, frames, count), rights);
        }
        wired.spend(count);
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

    /// Enters what a step has wired, but for what it took back itself after that: a page that shows at more
    /// places than it can remember leaves those that it had.
    pub(crate) fn enter_wired<M: Machine>(
        &self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        wired: &Wired,
    ) {
        let epoch = self.maps.get(map).map_or(0, |map| map.epoch);
        let enter = |run: &Run| {
            Effect::EnterRun(EnterRun {
                map,
                epoch,
                address: bytes_of(run.number),
                protection: run.protection,
                first: run.first,
                count: run.count,
            })
        };
        if self.revoked == 0 {
            wired
                .runs
                .iter()
                .for_each(|run| turn.effects.push(enter(run)));
            return;
        }
        let mut kept = Wired::new(turn.effects);
        for run in &wired.runs {
            for page in 0..run.count {
                let number = run.number.saturating_add(page.into());
                let first = run.first.saturating_add(page);
                let frame = turn.effects.frame_at(first);
                if frame.is_some_and(|frame| self.pages.place_holds(frame, (map.index(), number))) {
                    kept.extend((number, first, 1), run.protection);
                }
            }
        }
        kept.runs
            .iter()
            .for_each(|run| turn.effects.push(enter(run)));
    }
}
