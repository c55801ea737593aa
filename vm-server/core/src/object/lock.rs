//! memory_object_lock_request: page by page restrict, return, flush, then one completion (rules 162
//! to 172, amendment A7).

use ipc_abi::types::{Prot, Return};
use ipc_abi::{Kern, kern_return};
use ipc_protocol::memory_object::MemoryObjectLockCompleted;
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MEMORY_OBJECT_DATA_NO_CHANGE, MemoryObjectLockRequest,
    VM_PROT_NO_CHANGE,
};

use crate::effect::Effect;
use crate::event::{ControlId, ObjectId};
use crate::id::Id;
use crate::machine::Machine;
use crate::object::loan::{Keep, RETURN_MAX};
use crate::object::page::{Flags, Frame, State};
use crate::object::pager::{Pager, State as Attached};
use crate::object::pages::Slot;
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress};
use crate::range::{Span, page_of};
use crate::talk::Say;
use crate::{Core, Turn};

/// A lock request on its way through the pages.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    pager: Id<Pager>,
    /// The attachment in which it was asked: what was returned in another one did not arrive.
    control: Option<ControlId>,
    object: ObjectId,
    /// Next page.
    cursor: u64,
    end: u64,
    returns: Return,
    flush: bool,
    /// Push pages to copy objects before they are dropped.
    push: bool,
    /// Written pages are neither returned nor dropped.
    keep_dirty: bool,
    /// Access to forbid; `None`: leave the locks.
    lock: Option<Prot>,
    completed: MemoryObjectLockCompleted,
}

impl LockRequest {
    /// Whether all that was to be returned went on its way.
    ///
    /// # Errors
    /// `KERN_MEMORY_ERROR`: the pager has ended. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) const fn result(&self) -> Result<(), Kern> {
        kern_return::from_raw(self.completed.result)
    }

    /// A request of the server's own: returns what its pager wants of pages, and perhaps drops them.
    /// Nothing is completed, and nothing pushed to copies (rule 201).
    pub(crate) const fn of_range(
        (pager, object): (Id<Pager>, ObjectId),
        (first, end): (u64, u64),
        saves: bool,
        flush: bool,
    ) -> LockRequest {
        LockRequest {
            pager,
            control: None,
            object,
            cursor: first,
            end,
            // Alone, dropping returns only what is precious: a written page stays (rule 200).
            returns: Return::All,
            flush,
            push: false,
            keep_dirty: !saves,
            lock: None,
            completed: MemoryObjectLockCompleted {
                offset: 0,
                size: 0,
                request: 0,
                result: 0,
            },
        }
    }
}

/// What the next page needs.
enum Next {
    Done,
    Wait(WaitOn),
}

impl Core {
    /// Checks a lock request.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: as the message says.
    pub(crate) fn lock_request(
        &mut self,
        pager: Id<Pager>,
        args: MemoryObjectLockRequest,
    ) -> Result<LockRequest, Kern> {
        let record = self.pagers.get(pager).ok_or(Kern::Terminated)?;
        let (object, control) = (record.object, record.control);
        let lock = match args.lock_value {
            VM_PROT_NO_CHANGE => None,
            raw => Some(
                u8::try_from(raw)
                    .ok()
                    .and_then(Prot::from_bits)
                    .ok_or(Kern::InvalidArgument)?,
            ),
        };
        let returns = Return::from_raw(args.should_return).ok_or(Kern::InvalidArgument)?;
        let known = MEMORY_OBJECT_DATA_FLUSH | MEMORY_OBJECT_DATA_NO_CHANGE;
        if args.flags & !known != 0 {
            return Err(Kern::InvalidArgument);
        }
        let span = Span::covering(args.offset, args.size)?;
        let end = if args.size == 0 {
            page_of(span.start())
        } else {
            page_of(span.end())
        };
        let flush = args.flags & MEMORY_OBJECT_DATA_FLUSH != 0;
        Ok(LockRequest {
            pager,
            control,
            object,
            cursor: page_of(span.start()),
            end,
            returns,
            flush,
            keep_dirty: false,
            push: flush && args.flags & MEMORY_OBJECT_DATA_NO_CHANGE == 0,
            lock,
            completed: MemoryObjectLockCompleted {
                offset: args.offset,
                size: args.size,
                request: args.request,
                result: 0,
            },
        })
    }

    /// One step: up to [`BUDGET`] pages, or fewer if they are mapped in many places.
    pub(crate) fn lock_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut LockRequest,
        waiter: u32,
    ) -> Progress {
        self.revoked = 0;
        for _ in 0..BUDGET {
            if self.revoked >= BUDGET {
                break;
            }
            let Some((index, slot)) = self.next_slot(work.object, work.cursor, work.end) else {
                return self.lock_done(turn, work);
            };
            work.cursor = index;
            let next = match slot {
                Slot::Page(frame) => self.lock_page(turn, work, frame),
                Slot::Pending(request) => match self.requests.id_at(request) {
                    Some(request) => Next::Wait(WaitOn::Request(request, index)),
                    None => Next::Done,
                },
                Slot::Empty | Slot::Unavailable => Next::Done,
            };
            match next {
                Next::Done => work.cursor = work.cursor.max(index.saturating_add(1)),
                Next::Wait(on) => {
                    if self.op_failed(waiter).is_some() {
                        // What it waited for ended badly: this page is left as it is.
                        work.cursor = index.saturating_add(1);
                        continue;
                    }
                    self.op_park(turn, waiter, on);
                    return Progress::Wait;
                }
            }
        }
        Progress::More
    }

    fn lock_page<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut LockRequest,
        frame: Frame,
    ) -> Next {
        let Some(page) = self.pages.get_mut(frame) else {
            return Next::Done;
        };
        if page.state != State::Resident {
            return match self.loans.id_at(page.next) {
                Some(loan) => Next::Wait(WaitOn::Loan(loan)),
                None => Next::Done,
            };
        }
        if let Some(lock) = work.lock {
            page.lock = lock;
            page.flags.remove(Flags::UNLOCK_ASKED);
            if !lock.is_empty() {
                self.revoke_page(turn.machine, frame, Prot::ALL.difference(lock));
            }
        }
        let Some(page) = self.pages.get(frame) else {
            return Next::Done;
        };
        let (flags, wired) = (page.flags, page.wired > 0);
        if work.keep_dirty && flags.contains(Flags::DIRTY) {
            return Next::Done;
        }
        let place = (work.object, page.index);
        if work.push
            && !wired
            && let Err(code) = self.object_push(turn, place, frame)
        {
            work.completed.result = code.raw();
        }
        if wanted(work.returns, flags, work.flush) {
            return self.lock_return(turn, work, place.1, wired);
        }
        if work.flush && !wired {
            self.revoke_page(turn.machine, frame, Prot::NONE);
            self.object_take_page(frame);
            self.frame_free(frame);
        }
        Next::Done
    }

    /// Returns the run of pages that starts here, at most as long as they are wanted.
    fn lock_return<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut LockRequest,
        index: u64,
        wired: bool,
    ) -> Next {
        let keep = if work.flush && !wired {
            Keep::Flush
        } else {
            Keep::Keep
        };
        // Restricting and pushing go page by page: then a run is one page.
        let copied = self
            .objects
            .get(work.object)
            .is_some_and(|o| o.copy.is_some());
        let single = wired || work.push && copied || work.keep_dirty || work.lock.is_some();
        let mut most = 1;
        while !single && most < RETURN_MAX {
            let next = index.saturating_add(u64::from(most));
            let Slot::Page(frame) = self.slot(work.object, next) else {
                break;
            };
            // A page that is mapped in many places is enough for a step.
            let same = self.pages.get(frame).is_some_and(|p| {
                let easy = p.wired == 0 && !p.places.is_elsewhere();
                easy && wanted(work.returns, p.flags, work.flush)
            });
            if !same || next >= work.end {
                break;
            }
            most = most.saturating_add(1);
        }
        if let Some(loan) = self.return_some(turn, work.object, (index, most), keep) {
            let count = self.loans.get(loan).map_or(1, |loan| loan.count).max(1);
            work.cursor = index.saturating_add(u64::from(count));
            return Next::Done;
        }
        let record = self.pagers.get(work.pager);
        let is_dead = record.is_none_or(|pager| pager.state == Attached::Dead);
        let tray = record.and_then(|pager| pager.tray);
        let first = tray.and_then(|tray| self.trays.get(tray)).map(|t| t.loans);
        match first.and_then(|loan| self.loans.id_at(loan)) {
            Some(loan) => Next::Wait(WaitOn::Loan(loan)),
            None => {
                let code = match is_dead {
                    true => Kern::MemoryError,
                    false => Kern::ResourceShortage,
                };
                work.completed.result = code.raw();
                Next::Done
            }
        }
    }

    fn lock_done<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut LockRequest,
    ) -> Progress {
        self.wake_pager(work.pager);
        let record = self.pagers.get(work.pager);
        let known = record.map(|pager| (pager.port, pager.control));
        if let Some((port, control)) = known
            && work.completed.request != 0
        {
            if control != work.control && work.completed.result == 0 {
                work.completed.result = Kern::MemoryError.raw();
            }
            // Without a record for the note the pager's own time limit has to do.
            let _ = self.note(work.pager, Say::Completed(work.completed));
            turn.effects.push(Effect::Talk(port));
        }
        Progress::Done(Some(Ok(crate::call::Reply::control(
            ipc_protocol::memory_object_control::Reply::MemoryObjectLockRequest(()),
        ))))
    }
}

/// Whether a page goes back (rules 165, 166).
const fn wanted(returns: Return, flags: Flags, flush: bool) -> bool {
    let dirty = flags.contains(Flags::DIRTY);
    let precious = flags.contains(Flags::PRECIOUS);
    match returns {
        Return::None => false,
        Return::Dirty => dirty,
        Return::All => dirty || precious && flush,
        Return::Anything => true,
    }
}
