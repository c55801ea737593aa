//! vm_msync: pages of a range back to their pagers (rules 199 to 201, amendments A7 and A13).
//!
//! Entry by entry, each as a lock request of the server's own on the object's pages, with nothing to
//! complete and nothing pushed to copies. A synchronous call ends when the pager has everything.

use ipc_abi::Kern;
use ipc_protocol::vm_map::{
    self, VM_SYNC_ASYNCHRONOUS, VM_SYNC_CONTIGUOUS, VM_SYNC_INVALIDATE, VM_SYNC_SYNCHRONOUS,
    VmMsync,
};

use super::vm_map::{MapCall, Outcome, done};
use crate::call::Reply;
use crate::event::MapId;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::lock::LockRequest;
use crate::object::pager::Pager;
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress, Verb};
use crate::range::{Span, page_of};
use crate::{Core, Turn};

/// A vm_msync on its way.
#[derive(Clone, Copy, Debug)]
pub struct Msync {
    map: MapId,
    /// Next address.
    cursor: u64,
    end: u64,
    flags: u32,
    /// There was a hole.
    hole: bool,
    /// The entry's pages that are being returned.
    now: Option<(LockRequest, Id<Pager>)>,
}

impl Core {
    pub(super) fn vm_msync<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmMsync,
    ) -> Outcome {
        let both = VM_SYNC_ASYNCHRONOUS | VM_SYNC_SYNCHRONOUS;
        if args.size == 0 {
            return done(vm_map::Reply::VmMsync(()));
        }
        if args.flags & both == both {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(args.address, args.size).map_err(|_| Kern::InvalidAddress)?;
        let work = Msync {
            map: call.map,
            cursor: range.start(),
            end: range.end(),
            flags: args.flags,
            hole: false,
            now: None,
        };
        self.op_start(Verb::Msync(work), call.reply, None, turn.now)?;
        Ok(Progress::More)
    }

    /// One step: up to [`BUDGET`] entries, or pages of one of them.
    pub(crate) fn msync_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        waiter: u32,
    ) -> Progress {
        if let Some((mut lock, pager)) = work.now.take() {
            return self.msync_go_on(turn, work, (&mut lock, pager), waiter);
        }
        for _ in 0..BUDGET {
            if work.cursor >= work.end {
                return Progress::Done(Some(msync_result(work)));
            }
            match self.msync_entry(work) {
                Err(code) => return Progress::Done(Some(Err(code))),
                Ok(None) => {}
                Ok(found) => {
                    work.now = found;
                    return Progress::More;
                }
            }
        }
        Progress::More
    }

    fn msync_go_on<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        (lock, pager): (&mut LockRequest, Id<Pager>),
        waiter: u32,
    ) -> Progress {
        match self.lock_step(turn, lock, waiter) {
            Progress::Done(_) => {}
            progress => {
                work.now = Some((*lock, pager));
                return progress;
            }
        }
        if work.flags & VM_SYNC_SYNCHRONOUS == 0 {
            return Progress::More;
        }
        if let Some(code) = self.op_failed(waiter) {
            return Progress::Done(Some(Err(code)));
        }
        let Some(loan) = self.loan_of(pager) else {
            return Progress::More;
        };
        work.now = Some((*lock, pager));
        self.op_park(turn, waiter, WaitOn::Loan(loan));
        Progress::Wait
    }

    /// The next entry's part of the work, if it has one.
    fn msync_entry(&mut self, work: &mut Msync) -> Result<Option<(LockRequest, Id<Pager>)>, Kern> {
        let map = self.maps.get(work.map).filter(|map| !map.dying);
        let tree = &map.ok_or(Kern::Terminated)?.tree;
        let link = tree.find_or_above(&self.entries, work.cursor);
        let entry = self.entries.at(link.0).filter(|e| e.start < work.end);
        let Some(entry) = entry else {
            work.hole = true;
            work.cursor = work.end;
            return Ok(None);
        };
        work.hole |= entry.start > work.cursor;
        let start = work.cursor.max(entry.start);
        let end = work.end.min(entry.end);
        work.cursor = end;
        let first = page_of(entry.offset_of(start));
        let pages = page_of(end.saturating_sub(start));
        let Some(object) = entry.object else {
            return Ok(None);
        };
        let Some((pager, _)) = self.pager_of(object) else {
            return Ok(None);
        };
        let saves = work.flags & (VM_SYNC_ASYNCHRONOUS | VM_SYNC_SYNCHRONOUS) != 0;
        let flush = work.flags & VM_SYNC_INVALIDATE != 0;
        let range = (first, first.saturating_add(pages));
        let lock = LockRequest::of_range((pager, object), range, saves, flush);
        Ok(Some((lock, pager)))
    }
}

fn msync_result(work: &Msync) -> Result<Reply, Kern> {
    if work.hole && work.flags & VM_SYNC_CONTIGUOUS != 0 {
        Err(Kern::InvalidAddress)
    } else {
        Ok(Reply::map(vm_map::Reply::VmMsync(())))
    }
}
