//! vm_map_copyin: a range of a map into a copy (rules 50 to 58, 35).
//!
//! Entry by entry, each as its object's strategy says. While pages are copied slowly or a pager is
//! waited for, the map may change; each step looks its entry up again by address.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

use crate::copy::Copy;
use crate::copy::making::{Made, Making};
use crate::copy::slowly::Slow;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::map::submap::window::Window;
use crate::object::strategy::Copied;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::Span;
use crate::{Core, Turn};

/// Making a copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyIn {
    source: MapId,
    range: Span,
    /// Everything of the range below this is in the copy.
    cursor: u64,
    target: MapId,
    making: Option<Making>,
    /// What it will be.
    offset: u64,
    size: u64,
}

/// How a copyin goes on after a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Copying {
    /// At its next turn.
    More,
    /// The operation's waiter has been parked.
    Wait,
    /// It is whole; the map is the caller's.
    Done(Copy),
    /// It failed, and nothing is left of it.
    Failed(Kern),
}

impl Core {
    /// Begins a copy of `size` bytes at `address`.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: the range overflows. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn copyin(
        &mut self,
        source: MapId,
        address: u64,
        size: u64,
    ) -> Result<CopyIn, Kern> {
        let (range, offset) = super::pages_of(address, size)?;
        let target = self.hidden_map(source, range.size())?;
        Ok(CopyIn {
            source,
            range,
            cursor: range.start(),
            target,
            making: None,
            offset,
            size,
        })
    }

    /// One step: up to [`BUDGET`] entries, or pages of an entry that is copied slowly.
    ///
    /// # Errors
    /// In order of address: `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: no READ, or
    /// memory that is never copied. `KERN_MEMORY_ERROR`: a pager failed. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn copyin_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyIn,
        waiter: u32,
    ) -> Copying {
        match self.copyin_some(turn, work, waiter) {
            Ok(Slow::More) => Copying::More,
            Ok(Slow::Wait) => Copying::Wait,
            Ok(Slow::Done) => Copying::Done(Copy {
                map: work.target,
                offset: work.offset,
                size: work.size,
            }),
            Err(code) => {
                self.copyin_abandon(work);
                Copying::Failed(code)
            }
        }
    }

    /// Gives up a copy that is being made.
    pub(crate) fn copyin_abandon(&mut self, work: &mut CopyIn) {
        if let Some(making) = work.making.take() {
            self.making_abandon(&making);
        }
        self.map_end(work.target);
    }

    fn copyin_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyIn,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        if let Some(making) = &mut work.making {
            let range = making.range;
            let object = match self.making_step(turn, making, waiter)? {
                Made::More => return Ok(Slow::More),
                Made::Wait => return Ok(Slow::Wait),
                Made::Done(object) => object,
            };
            work.making = None;
            let entered = self.copyin_enter(work, range, Some(object), 0, false);
            if entered.is_err() {
                self.object_deallocate(object);
            }
            return entered.map(|()| Slow::More);
        }
        self.lowered = 0;
        for _ in 0..BUDGET {
            if self.lowered >= BUDGET {
                break;
            }
            if work.cursor >= work.range.end() {
                return Ok(Slow::Done);
            }
            let window = self.copyin_window(work)?;
            let progress = self.copyin_one(turn, work, window.link, waiter);
            self.window_close(&window);
            match progress? {
                Slow::Done => {}
                progress => return Ok(progress),
            }
        }
        Ok(Slow::More)
    }

    /// Copies the memory of one entry, or begins to.
    fn copyin_one<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut CopyIn,
        link: u32,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        let entry = *self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        if !entry.protection.contains(Prot::READ) {
            return Err(Kern::ProtectionFailure);
        }
        if entry.in_transition {
            self.op_park(turn, waiter, WaitOn::InTransition(work.source));
            return Ok(Slow::Wait);
        }
        let range = Span::exact(entry.start, entry.end).ok_or(Kern::InvalidAddress)?;
        match self.entry_copy(turn, link)? {
            Copied::Quickly {
                object,
                offset,
                needs_copy,
                lower,
            } => {
                if lower {
                    self.entry_lower(turn.machine, &entry);
                }
                if let Err(code) = self.copyin_enter(work, range, object, offset, needs_copy) {
                    if let Some(object) = object {
                        self.object_deallocate(object);
                    }
                    return Err(code);
                }
            }
            Copied::Slowly => {
                work.making = Some(self.making(turn, link, work.source, None)?);
                return Ok(Slow::More);
            }
            Copied::Ask(pager) => {
                work.making = Some(self.making(turn, link, work.source, Some(pager))?);
                return Ok(Slow::More);
            }
            Copied::Again => return Ok(Slow::More),
            Copied::Wait(pager) => {
                self.op_park(turn, waiter, WaitOn::Pager(pager));
                return Ok(Slow::Wait);
            }
        }
        Ok(Slow::Done)
    }

    /// What is at the cursor.
    fn copyin_window(&mut self, work: &CopyIn) -> Result<Window, Kern> {
        let range = Span::exact(work.cursor, work.range.end()).ok_or(Kern::InvalidAddress)?;
        self.window_open(work.source, range)
    }

    /// Puts the memory of one source range into the copy, which takes over the reference.
    fn copyin_enter(
        &mut self,
        work: &mut CopyIn,
        range: Span,
        object: Option<crate::event::ObjectId>,
        offset: u64,
        needs_copy: bool,
    ) -> Result<(), Kern> {
        let base = work.range.start();
        let start = range.start().saturating_sub(base);
        let end = range.end().saturating_sub(base);
        self.entry_insert(Entry {
            object,
            offset,
            needs_copy,
            inheritance: Inherit::Copy,
            ..Entry::anonymous(work.target, start, end)
        })?;
        work.cursor = range.end();
        Ok(())
    }
}
