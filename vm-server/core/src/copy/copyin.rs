//! vm_map_copyin: a range of a map into a copy (rules 50 to 58, 35).
//!
//! Entry by entry, each as its object's strategy says. While pages are copied slowly or a pager is
//! waited for, the map may change; each step looks its entry up again by address.

use ipc_abi::Kern;

use crate::copy::Copy;
use crate::copy::making::{Made, Making};
use crate::copy::sharein::Terms;
use crate::copy::slowly::Slow;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
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
    /// An entry whose memory takes time to copy, and the copy's entry for it.
    making: Option<(Making, Entry)>,
    pub(crate) terms: Terms,
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
    /// Begins a copy of `size` bytes at `address`, which must be readable.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: the range overflows. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn copyin(
        &mut self,
        source: MapId,
        address: u64,
        size: u64,
    ) -> Result<CopyIn, Kern> {
        self.copyin_on(source, address, size, Terms::READABLE)
    }

    /// Begins a copy of `size` bytes at `address`, on other terms.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: the range overflows. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn copyin_on(
        &mut self,
        source: MapId,
        address: u64,
        size: u64,
        terms: Terms,
    ) -> Result<CopyIn, Kern> {
        let (range, offset) = super::pages_of(address, size)?;
        let target = self.hidden_map(source, range.size())?;
        Ok(CopyIn {
            source,
            range,
            cursor: range.start(),
            target,
            making: None,
            terms,
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
        if let Some((making, _)) = work.making.take() {
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
        if let Some((making, entry)) = &mut work.making {
            let object = match self.making_step(turn, making, waiter)? {
                Made::More => return Ok(Slow::More),
                Made::Wait => return Ok(Slow::Wait),
                Made::Done(object) => object,
            };
            let entry = Entry {
                object: Some(object),
                ..*entry
            };
            work.making = None;
            return self.copyin_enter(work, entry).map(|()| Slow::More);
        }
        self.revoked = 0;
        for _ in 0..BUDGET {
            if self.revoked >= BUDGET {
                break;
            }
            if work.cursor >= work.range.end() {
                return Ok(Slow::Done);
            }
            let at = Span::exact(work.cursor, work.range.end()).ok_or(Kern::InvalidAddress)?;
            let window = self.window_open(work.source, at)?;
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
        work.terms.meet(&entry)?;
        if entry.in_transition {
            self.op_park(turn, waiter, WaitOn::InTransition(work.source));
            return Ok(Slow::Wait);
        }
        let copied = work.terms.hidden(work.target, work.range, &entry);
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
                let copied = Entry {
                    object,
                    offset,
                    needs_copy,
                    ..copied
                };
                self.copyin_enter(work, copied)?;
                Ok(Slow::Done)
            }
            Copied::Slowly => {
                work.making = Some((self.making(turn, link, work.source, None)?, copied));
                Ok(Slow::More)
            }
            Copied::Ask(pager) => {
                let making = self.making(turn, link, work.source, Some(pager))?;
                work.making = Some((making, copied));
                Ok(Slow::More)
            }
            Copied::Again => Ok(Slow::More),
            Copied::Wait(pager) => {
                self.op_park(turn, waiter, WaitOn::Pager(pager));
                Ok(Slow::Wait)
            }
        }
    }

    /// Puts the next entry into the copy, which takes over its reference, also if that fails.
    fn copyin_enter(&mut self, work: &mut CopyIn, entry: Entry) -> Result<(), Kern> {
        match self.entry_insert(entry) {
            Ok(_) => {
                work.cursor = work.range.start().saturating_add(entry.end);
                Ok(())
            }
            Err(code) => {
                if let Some(object) = entry.object {
                    self.object_deallocate(object);
                }
                Err(code)
            }
        }
    }
}
