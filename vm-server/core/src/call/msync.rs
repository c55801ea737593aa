//! vm_msync: pages of a range back to their pagers (rules 199 to 201, amendments A7 and A13).
//!
//! Entry by entry, each as a lock request of the server's own on the object's pages, with nothing to
//! complete and nothing pushed to copies. A synchronous call ends when the pager has everything, or
//! says so. The behaviours that differ from this only by their flags come here too.

use ipc_abi::Kern;
use ipc_protocol::memory_object::MemoryObjectSynchronize;
use ipc_protocol::vm_map::{
    self, VM_SYNC_ASYNCHRONOUS, VM_SYNC_CONTIGUOUS, VM_SYNC_DEACTIVATE, VM_SYNC_INVALIDATE,
    VM_SYNC_KILLPAGES, VM_SYNC_SYNCHRONOUS, VmMsync,
};

use super::vm_map::{MapCall, Outcome, done};
use crate::call::Reply;
use crate::effect::Effect;
use crate::event::{MapId, ObjectId};
use crate::id::Id;
use crate::machine::Machine;
use crate::object::discard::Part;
use crate::object::lock::LockRequest;
use crate::object::pager::{Pager, State};
use crate::op::wait::{WaitOn, What};
use crate::op::{BUDGET, Op, Progress, Verb};
use crate::range::{Span, bytes_of, page_of};
use crate::talk::Say;
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
    /// What is being done with the last entry.
    now: Now,
    reply: Reply,
}

/// What is being done with the pages of an entry.
#[derive(Clone, Copy, Debug)]
enum Now {
    Nothing,
    /// They are given up.
    Kill(Part),
    /// They are returned.
    Lock(Return),
    /// Their pager was lost before it had stored them: whoever comes in its place gets them.
    Away(Return),
    /// The pager is asked whether it has stored them.
    Synchronize(Return),
    /// It has said so, with this code.
    Synchronized(u32),
}

/// Pages that go back.
#[derive(Clone, Copy, Debug)]
struct Return {
    lock: LockRequest,
    pager: Id<Pager>,
    /// The pager's attachment in which they are returned.
    generation: u32,
    /// Loans that the pager had not stored before.
    unstored: u32,
    range: (u64, u64),
}

impl Return {
    /// From the first page, in a pager's present attachment.
    fn begin(
        (pager, object): (Id<Pager>, ObjectId),
        record: &Pager,
        range: (u64, u64),
        (saves, flush): (bool, bool),
    ) -> Return {
        Return {
            lock: LockRequest::of_range((pager, object), range, saves, flush),
            pager,
            generation: record.generation,
            unstored: record.unstored,
            range,
        }
    }
}

impl Msync {
    /// Of a range, with an answer of one's own at the end.
    pub(crate) const fn new(map: MapId, range: Span, flags: u32, reply: Reply) -> Msync {
        Msync {
            map,
            cursor: range.start(),
            end: range.end(),
            flags,
            hole: false,
            now: Now::Nothing,
            reply,
        }
    }

    const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether pages that were written go back, and whether pages are dropped.
    const fn saves(&self) -> (bool, bool) {
        (
            self.has(VM_SYNC_ASYNCHRONOUS | VM_SYNC_SYNCHRONOUS),
            self.has(VM_SYNC_INVALIDATE),
        )
    }

    fn result(&self) -> Result<Reply, Kern> {
        if self.hole && self.has(VM_SYNC_CONTIGUOUS) {
            Err(Kern::InvalidAddress)
        } else {
            Ok(self.reply)
        }
    }
}

impl Core {
    pub(super) fn vm_msync<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmMsync,
    ) -> Outcome {
        let reply = vm_map::Reply::VmMsync(());
        if args.size == 0 {
            return done(reply);
        }
        let both = VM_SYNC_ASYNCHRONOUS | VM_SYNC_SYNCHRONOUS;
        if args.flags & both == both {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(args.address, args.size).map_err(|_| Kern::InvalidAddress)?;
        let work = Msync::new(call.map, range, args.flags, Reply::map(reply));
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
        match core::mem::replace(&mut work.now, Now::Nothing) {
            Now::Nothing => {}
            Now::Kill(mut part) => {
                if !self.discard_step(turn.machine, &mut part) {
                    work.now = Now::Kill(part);
                }
                return Progress::More;
            }
            Now::Lock(what) => return self.msync_return(turn, work, what, waiter),
            Now::Away(what) => return self.msync_again(turn, work, what, waiter),
            Now::Synchronize(what) => return self.msync_wait(turn, work, what, waiter),
            Now::Synchronized(0) => {}
            Now::Synchronized(code) => return Progress::Done(Some(Err(Kern::from_raw(code)))),
        }
        for _ in 0..BUDGET {
            if work.cursor >= work.end {
                return Progress::Done(Some(work.result()));
            }
            if let Err(code) = self.msync_entry(turn, work) {
                return Progress::Done(Some(Err(code)));
            }
            if !matches!(work.now, Now::Nothing) {
                return Progress::More;
            }
        }
        Progress::More
    }

    /// Returns pages; a synchronous call then waits for the pager.
    fn msync_return<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        mut what: Return,
        waiter: u32,
    ) -> Progress {
        if work.has(VM_SYNC_SYNCHRONOUS) && self.is_of_before(&what) {
            return self.msync_again(turn, work, what, waiter);
        }
        match self.lock_step(turn, &mut what.lock, waiter) {
            Progress::Done(_) => {}
            progress => {
                work.now = Now::Lock(what);
                return progress;
            }
        }
        if !work.has(VM_SYNC_SYNCHRONOUS) {
            return Progress::More;
        }
        if let Some(code) = self.op_failed(waiter) {
            return Progress::Done(Some(Err(code)));
        }
        if let Err(code) = what.lock.result() {
            return Progress::Done(Some(Err(code)));
        }
        let opted = self.pagers.get(what.pager);
        if opted.is_some_and(|pager| pager.synchronizes && pager.state == State::Ready) {
            return self.msync_ask(turn, work, &what, waiter);
        }
        let Some(loan) = self.loan_of(what.pager) else {
            // For the whole object, as errors are counted for a file: what was not stored may have been
            // returned by another call.
            let failed = opted.is_some_and(|pager| pager.unstored != what.unstored);
            return match failed {
                true => Progress::Done(Some(Err(Kern::MemoryError))),
                false => Progress::More,
            };
        };
        work.now = Now::Lock(what);
        self.op_park(turn, waiter, WaitOn::Loan(loan));
        Progress::Wait
    }

    /// Asks a pager to say when it has stored what it got.
    fn msync_ask<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        what: &Return,
        waiter: u32,
    ) -> Progress {
        let (Some(What::Op(op)), Some(port)) = (
            self.waiters.at(waiter).map(|waiter| waiter.what),
            self.pagers.get(what.pager).map(|pager| pager.port),
        ) else {
            return Progress::More;
        };
        let (first, end) = what.range;
        let said = Say::Synchronize(MemoryObjectSynchronize {
            offset: bytes_of(first),
            length: bytes_of(end.saturating_sub(first)),
            flags: work.flags,
            request: op.to_word(),
        });
        if let Err(code) = self.note(what.pager, said) {
            return Progress::Done(Some(Err(code)));
        }
        turn.effects.push(Effect::Talk(port));
        self.msync_wait(turn, work, *what, waiter)
    }

    /// Whether a pager has been lost since pages were returned to it, or is away now.
    fn is_of_before(&self, what: &Return) -> bool {
        let pager = self.pagers.get(what.pager);
        pager.is_some_and(|pager| pager.is_away() || pager.generation != what.generation)
    }

    /// The pager was lost: when the next is there, everything that is still dirty is returned again.
    fn msync_again<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        mut what: Return,
        waiter: u32,
    ) -> Progress {
        if let Some(code) = self.op_failed(waiter) {
            return Progress::Done(Some(Err(code)));
        }
        let Some(pager) = self.pagers.get(what.pager) else {
            return Progress::Done(Some(Err(Kern::MemoryError)));
        };
        if pager.is_away() {
            work.now = Now::Away(what);
            self.op_park(turn, waiter, WaitOn::Pager(what.pager));
            return Progress::Wait;
        }
        if pager.state != State::Ready {
            return Progress::Done(Some(Err(Kern::MemoryError)));
        }
        let place = (what.pager, pager.object);
        what = Return::begin(place, pager, what.range, work.saves());
        work.now = Now::Lock(what);
        Progress::More
    }

    fn msync_wait<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
        what: Return,
        waiter: u32,
    ) -> Progress {
        if self.is_of_before(&what) {
            // One that comes in its place knows nothing of the request.
            return self.msync_again(turn, work, what, waiter);
        }
        if let Some(code) = self.op_failed(waiter) {
            return Progress::Done(Some(Err(code)));
        }
        let state = self.pagers.get(what.pager).map(|pager| pager.state);
        if state != Some(State::Ready) {
            return Progress::Done(Some(Err(Kern::MemoryError)));
        }
        work.now = Now::Synchronize(what);
        self.op_park(turn, waiter, WaitOn::Pager(what.pager));
        Progress::Wait
    }

    /// `memory_object_synchronize_completed`: whoever waits for it goes on.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no such request of this pager (any more).
    pub(super) fn synchronized(
        &mut self,
        pager: Id<Pager>,
        request: u64,
        result: u32,
    ) -> Result<(), Kern> {
        let id: Id<Op> = Id::from_word(request).ok_or(Kern::InvalidArgument)?;
        let op = self.ops.get_mut(id).ok_or(Kern::InvalidArgument)?;
        let Verb::Msync(work) = &mut op.verb else {
            return Err(Kern::InvalidArgument);
        };
        if !matches!(work.now, Now::Synchronize(asked) if asked.pager == pager) {
            return Err(Kern::InvalidArgument);
        }
        work.now = Now::Synchronized(result);
        let waiter = op.waiter;
        let on = self.waiters.at(waiter).map(|waiter| waiter.on);
        if on == Some(WaitOn::Pager(pager)) {
            self.list_remove(waiter);
            self.make_ready(waiter);
        }
        Ok(())
    }

    /// The next entry's part of the work, begun.
    fn msync_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Msync,
    ) -> Result<(), Kern> {
        let map = self.maps.get(work.map).filter(|map| !map.dying);
        let tree = &map.ok_or(Kern::Terminated)?.tree;
        let link = tree.find_or_above(&self.entries, work.cursor);
        let found = self.entries.at(link.0).copied();
        let entry = found.filter(|entry| entry.start < work.end);
        let hole = entry.is_none_or(|entry| entry.start > work.cursor);
        work.hole |= hole;
        let Some(entry) = entry.filter(|_| !hole || !work.has(VM_SYNC_KILLPAGES)) else {
            work.cursor = work.end;
            return Ok(());
        };
        let start = work.cursor.max(entry.start);
        let shown = self.leaf_above(link.0, start);
        let Some((leaf, inner)) = shown
            .filter(|leaf| leaf.start < work.end)
            .and_then(|leaf| Some((leaf, *self.entries.at(leaf.link)?)))
        else {
            // The map that shows here has nothing there.
            work.hole = true;
            work.cursor = work.end.min(entry.end);
            return Ok(());
        };
        work.hole |= leaf.start > start;
        let start = leaf.start;
        work.cursor = work.end.min(leaf.end);
        let part = Span::exact(start, work.cursor).ok_or(Kern::InvalidAddress)?;
        if work.has(VM_SYNC_KILLPAGES) && self.may_discard(&entry) {
            work.now = Now::Kill(Part {
                map: work.map,
                next: part.start(),
                end: part.end(),
            });
            return Ok(());
        }
        let resident = entry.wired != 0 || entry.in_transition;
        if work.has(VM_SYNC_DEACTIVATE | VM_SYNC_KILLPAGES) && !resident {
            self.map_revoke(turn.machine, work.map, part, ipc_abi::types::Prot::NONE);
        }
        let found = inner.object.and_then(|object| {
            let (id, pager) = self.pager_of(object)?;
            Some(((id, object), pager))
        });
        let Some((place, pager)) = found else {
            return Ok(());
        };
        if !work.has(VM_SYNC_ASYNCHRONOUS | VM_SYNC_SYNCHRONOUS | VM_SYNC_INVALIDATE) {
            return Ok(());
        }
        let first = page_of(inner.offset_of(leaf.inner_of(start)));
        let range = (first, first.saturating_add(part.pages()));
        work.now = Now::Lock(Return::begin(place, pager, range, work.saves()));
        Ok(())
    }
}
