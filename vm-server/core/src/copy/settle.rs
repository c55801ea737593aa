//! copy_settle: memory of a copy that a pager may have to bring is brought, and copied, so that no
//! touch of it ever waits for a pager (DESIGN 3.4).
//!
//! Entry by entry of the hidden map: what has a pager below it is copied page by page into an object of
//! its own, which takes its place. What is done stays done, whatever comes of the rest.

use ipc_abi::Kern;
use ipc_protocol::copy::{CopySettle, CopySettleReply, Reply as Said};

use crate::call::{Message, Reply};
use crate::copy::CopyId;
use crate::copy::making::{Made, Making};
use crate::effect::Answer;
use crate::event::{ObjectId, ReplyTo};
use crate::machine::Machine;
use crate::op::{BUDGET, Progress, Verb};
use crate::range::page_of;
use crate::{Core, Turn};

/// Settling a copy.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    copy: CopyId,
    /// Everything below this depends on no pager.
    cursor: u64,
    /// The entry that is being copied, and what it maps, from where on.
    making: Option<(Making, Option<ObjectId>, u64)>,
    /// Pages that were settled.
    pages: u64,
}

impl Core {
    /// Begins to settle a copy. `None`: it is answered later.
    pub(crate) fn copy_settle<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        copy: CopyId,
        args: CopySettle,
        reply: ReplyTo,
    ) -> Option<Answer> {
        let work = Settle {
            copy,
            cursor: 0,
            making: None,
            pages: 0,
        };
        match self.settle_start(turn, work, args, reply) {
            Ok(()) => None,
            Err(code) => Some(Err(code)),
        }
    }

    fn settle_start<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: Settle,
        args: CopySettle,
        reply: ReplyTo,
    ) -> Result<(), Kern> {
        self.copies.get(work.copy).ok_or(Kern::Terminated)?;
        let op = self.op_start(Verb::Settle(work), reply, None, turn.now)?;
        let waiter = self.ops.get(op).map_or(crate::slab::NIL, |op| op.waiter);
        let limit = args.timeout.min(self.config.pager_timeout);
        if let Err(code) = self.deadline_set(waiter, turn.now.after(limit)) {
            self.list_remove(waiter);
            self.op_end(op);
            return Err(code);
        }
        self.set_clock(turn);
        Ok(())
    }

    /// One step: up to [`BUDGET`] entries, or pages of one.
    pub(crate) fn settle_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Settle,
        waiter: u32,
    ) -> Progress {
        let progress = match self.op_failed(waiter) {
            Some(code) => Err(code),
            None => self.settle_some(turn, work, waiter),
        };
        match progress {
            Ok(progress) => progress,
            Err(code) => {
                self.settle_abandon(work);
                Progress::Done(Some(Err(code)))
            }
        }
    }

    /// Gives up what is being copied.
    pub(crate) fn settle_abandon(&mut self, work: &mut Settle) {
        if let Some((making, ..)) = work.making.take() {
            self.making_abandon(&making);
        }
    }

    fn settle_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Settle,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        // It may have been used up, or discarded, since the last step.
        let copy = *self.copies.get(work.copy).ok_or(Kern::Terminated)?;
        if let Some((making, ..)) = &mut work.making {
            let object = match self.making_step(turn, making, waiter)? {
                Made::More => return Ok(Progress::More),
                Made::Wait => return Ok(Progress::Wait),
                Made::Done(object) => object,
            };
            self.settle_entry(work, object);
            return Ok(Progress::More);
        }
        for _ in 0..BUDGET {
            let record = self.maps.get(copy.map).ok_or(Kern::Terminated)?;
            let link = record.tree.find_or_above(&self.entries, work.cursor);
            let Some(&entry) = self.entries.at(link.0) else {
                return Ok(Progress::Done(Some(Ok(work.reply()))));
            };
            let depends = entry.object.is_some_and(|id| self.has_pager_below(id));
            if depends {
                let making = self.making(turn, link.0, copy.map, None)?;
                work.making = Some((making, entry.object, entry.offset));
                return Ok(Progress::More);
            }
            work.cursor = entry.end;
        }
        Ok(Progress::More)
    }

    /// Puts what was copied in place of what it was copied from, if that is still there: else it comes
    /// again.
    fn settle_entry(&mut self, work: &mut Settle, object: ObjectId) {
        let Some((making, old, offset)) = work.making.take() else {
            return self.object_deallocate(object);
        };
        let copy = self.copies.get(work.copy).map(|copy| copy.map);
        let link = copy.and_then(|map| self.map_lookup(map, making.range.start()));
        let same = link
            .and_then(|link| self.entries.at(link.0))
            .is_some_and(|e| {
                let range = (e.start, e.end) == (making.range.start(), making.range.end());
                range && e.object == old && e.offset == offset
            });
        let Some(link) = link.filter(|_| same) else {
            return self.object_deallocate(object);
        };
        let old = self.entry_set_object(link.0, Some(object), 0, false);
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.is_shared = false;
        }
        if let Some(old) = old {
            self.object_deallocate(old);
        }
        work.cursor = making.range.end();
        work.pages = work.pages.saturating_add(page_of(making.range.size()));
    }
}

impl Settle {
    fn reply(&self) -> Reply {
        let pages = self.pages;
        Reply {
            message: Message::Copy(Said::CopySettle(CopySettleReply { pages })),
            right: None,
        }
    }
}

#[cfg(test)]
mod tests;
