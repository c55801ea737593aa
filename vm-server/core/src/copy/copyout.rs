//! vm_map_copyout, and every other way of mapping what a hidden map holds (rules 59 to 61, 100 to 103).
//!
//! A copy that is used up *moves* its entries. Mapping a named entry, or a copy that stays, *shares*
//! them: all such mappings see one memory. Who wants a snapshot of either takes a copy of it first,
//! and moves that.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

use crate::account::family::Good;
use crate::call::Reply;
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::map::remove::Remove;
use crate::op::{BUDGET, Progress};
use crate::range::Span;
use crate::{Core, Turn};

/// What becomes of the hidden entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They go to the destination; the hidden map ends.
    Move,
    /// Their memory is seen by both.
    Share,
    /// It failed, with this code: those that the destination got are taken away again.
    Undo(Kern),
}

/// Attributes of the new entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    /// Current and maximum rights; `None`: those of the hidden entries.
    pub(crate) rights: Option<(Prot, Prot)>,
    pub(crate) inheritance: Inherit,
    /// `None`: those of the hidden entries.
    pub(crate) tag: Option<u8>,
    pub(crate) permanent: bool,
}

/// Mapping a window of a hidden map.
#[derive(Clone, Copy, Debug)]
pub struct CopyOut {
    pub(crate) source: MapId,
    /// Of the hidden map.
    pub(crate) window: Span,
    pub(crate) target: MapId,
    /// Where the window's first page goes.
    pub(crate) address: u64,
    pub(crate) mode: Mode,
    pub(crate) attributes: Attributes,
    /// What has to go from there first. Whatever can fail is done before that, into a hidden map of the
    /// destination's, from which the entries are then moved: sharing, and moving what another map pays for.
    pub(crate) clear: Option<Remove>,
    /// That hidden map.
    pub(crate) staged: Option<MapId>,
    /// Everything of the window below this is mapped.
    pub(crate) cursor: u64,
    pub(crate) reply: Reply,
}

impl Core {
    /// Checks that the destination may get as many entries as the hidden map has.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: its limit; nothing has changed.
    pub(crate) fn copyout_check(&mut self, source: MapId, target: MapId) -> Result<(), Kern> {
        let source = self.maps.get(source);
        // What is charged to the destination already only moves.
        let mine = source.is_some_and(|map| map.account.payer == Some(target));
        let entries = source.filter(|_| !mine).map_or(0, |map| map.entries());
        self.room(target, Good::Entries, entries.into())
    }

    /// One step: up to [`BUDGET`] entries, and as many removed to make room.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the destination has ended. `KERN_RESOURCE_SHORTAGE`: it is as it was. An
    /// error uses up a source that was to be moved.
    pub(crate) fn copyout_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyOut,
    ) -> Progress {
        let progress = self.copyout_go(turn, work);
        if let Progress::Done(Some(result)) = &progress {
            if result.is_ok() {
                self.map_changed(work.target);
            }
            self.copyout_end(work);
        }
        progress
    }

    /// Gives up a mapping that has not begun: the destination is as it was.
    pub(crate) fn copyout_end(&mut self, work: &mut CopyOut) {
        if work.mode == Mode::Move {
            self.map_end(work.source);
        }
        if let Some(staged) = work.staged.take() {
            self.map_end(staged);
        }
    }

    fn copyout_go<M: Machine>(&mut self, turn: &mut Turn<'_, M>, work: &mut CopyOut) -> Progress {
        if let Mode::Undo(code) = work.mode {
            return self.copyout_undo(turn, work, code);
        }
        if work.clear.is_some() && (work.mode == Mode::Share || !self.is_paid(work)) {
            match self.copyout_stage(turn, work) {
                Ok(true) => {}
                Ok(false) => return Progress::More,
                Err(code) => return Progress::Done(Some(Err(code))),
            }
        }
        if let Some(clear) = &mut work.clear {
            match self.remove_step(turn, clear) {
                Progress::Done(Some(Ok(_))) => work.clear = None,
                progress => return progress,
            }
        }
        match self.copyout_some(turn, work) {
            Ok(false) => Progress::More,
            Ok(true) => Progress::Done(Some(Ok(work.reply))),
            Err(code) => {
                self.copyout_end(work);
                work.mode = Mode::Undo(code);
                self.copyout_undo(turn, work, code)
            }
        }
    }

    /// Whether the hidden entries are charged to the destination already.
    fn is_paid(&self, work: &CopyOut) -> bool {
        let source = self.maps.get(work.source);
        source.is_some_and(|map| map.account.payer == Some(work.target))
    }

    /// Shares or moves into a hidden map what is then to be moved. Says whether all of it is there.
    fn copyout_stage<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyOut,
    ) -> Result<bool, Kern> {
        let size = work.window.size();
        let staged = match work.staged {
            Some(map) => map,
            None => self.hidden_map(work.target, size)?,
        };
        work.staged = Some(staged);
        let mut inner = CopyOut {
            target: staged,
            address: 0,
            ..*work
        };
        let whole = self.copyout_some(turn, &mut inner)?;
        work.cursor = inner.cursor;
        if whole {
            if work.mode == Mode::Move {
                self.map_end(work.source);
            }
            work.mode = Mode::Move;
            work.source = staged;
            work.window = Span::exact(0, size).ok_or(Kern::Failure)?;
            work.cursor = 0;
        }
        Ok(whole)
    }

    fn copyout_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyOut,
    ) -> Result<bool, Kern> {
        for _ in 0..BUDGET {
            if work.cursor >= work.window.end() {
                return Ok(true);
            }
            let Some(link) = self.map_lookup(work.source, work.cursor) else {
                return Err(Kern::InvalidArgument);
            };
            self.map_clip(work.source, work.cursor)?;
            self.map_clip(work.source, work.window.end())?;
            let link = self.map_lookup(work.source, work.cursor).unwrap_or(link);
            let entry = *self.entries.at(link.0).ok_or(Kern::InvalidArgument)?;
            let (object, offset, needs_copy, is_shared) = match work.mode {
                Mode::Move => {
                    self.entry_remove(link);
                    (
                        entry.object,
                        entry.offset,
                        entry.needs_copy,
                        entry.is_shared,
                    )
                }
                Mode::Share => {
                    let (object, offset) = self.entry_share(turn, link.0)?;
                    (Some(object), offset, false, true)
                }
                Mode::Undo(code) => return Err(code),
            };
            let start = entry.start.saturating_sub(work.window.start());
            let kept = (entry.protection, entry.max_protection);
            let (protection, max_protection) = work.attributes.rights.unwrap_or(kept);
            let placed = Entry {
                object,
                offset,
                needs_copy,
                is_shared,
                protection,
                max_protection,
                inheritance: work.attributes.inheritance,
                tag: work.attributes.tag.unwrap_or(entry.tag),
                permanent: work.attributes.permanent,
                ..Entry::anonymous(
                    work.target,
                    work.address.saturating_add(start),
                    work.address
                        .saturating_add(start)
                        .saturating_add(entry.size()),
                )
            };
            if let Err(code) = self.entry_insert(placed) {
                self.copyout_drop(object);
                return Err(code);
            }
            if let Some(object) = object.filter(|_| work.mode == Mode::Move) {
                self.object_passes_to(object, work.target);
            }
            work.cursor = entry.end;
        }
        Ok(work.cursor >= work.window.end())
    }

    fn copyout_drop(&mut self, object: Option<ObjectId>) {
        if let Some(object) = object {
            self.object_deallocate(object);
        }
    }

    /// Takes back what has been mapped, up to [`BUDGET`] entries. (A step that moves cannot fail: it
    /// frees the record that it needs, and limits were checked.)
    fn copyout_undo<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &CopyOut,
        code: Kern,
    ) -> Progress {
        let over = Progress::Done(Some(Err(code)));
        let done = work.cursor.saturating_sub(work.window.start());
        let end = work.address.saturating_add(done);
        let Some(range) = Span::exact(work.address, end).filter(|range| !range.is_empty()) else {
            return over;
        };
        self.map_revoke(turn.machine, work.target, range, Prot::NONE);
        for _ in 0..BUDGET {
            let link = match self.maps.get(work.target) {
                Some(map) => map.tree.find_or_above(&self.entries, range.start()),
                None => return over,
            };
            let entry = self.entries.at(link.0);
            if entry.is_none_or(|entry| entry.start >= range.end()) {
                return over;
            }
            self.entry_delete(link);
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests;
