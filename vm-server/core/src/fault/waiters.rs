//! Who waits, what wakes them, and when waiting is over.
//!
//! A waiter is in one list: of a request, a pager, a loan, a tray, a map's operation lock, those
//! without frames, or a ready list. [`Core::run_ready`] gives turns: woken faults first, then
//! operations.

use ipc_abi::Kern;

use crate::effect::{Effect, Report};
use crate::event::{Fault, ObjectId, ReplyTo, Time, Token};
use crate::fault::Resolved;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::pager::{Pager, Request};
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::op::wait::{List, WaitOn, Waiter, Waiters, What};
use crate::slab::NIL;
use crate::{Core, Turn};

impl Core {
    /// A waiter that is in no list yet.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record.
    pub(crate) fn waiter_new(
        &mut self,
        what: What,
        token: ReplyTo,
        now: Time,
    ) -> Result<u32, Kern> {
        let deadline = now.after(self.config.pager_timeout);
        let inserted = self.waiters.insert_with(|| Waiter {
            what,
            on: WaitOn::Nothing,
            relieved: false,
            failed: None,
            request: None,
            token,
            token_next: NIL,
            own_deadline: None,
            deadline,
            again: false,
            older: NIL,
            newer: NIL,
            round: 0,
            next: NIL,
            prev: NIL,
        });
        let index = inserted?.index();
        self.tokens.add(&mut self.nodes, &mut self.waiters, index);
        self.age_link(index);
        Ok(index)
    }

    /// Forgets a waiter that is in no list any more.
    pub(crate) fn waiter_free(&mut self, index: u32) {
        // Whoever goes does not care what came of it.
        let _ = self.request_looked(index);
        self.age_unlink(index);
        self.waiter_is_nobodys(index);
        self.deadline_clear(index);
        if let Some(id) = self.waiters.id_at(index) {
            self.waiters.remove(id);
        }
    }

    /// The ends of the list by age that a waiter belongs in: oldest, newest.
    const fn ages(&mut self, again: bool) -> (&mut u32, &mut u32) {
        if again {
            (&mut self.again.0, &mut self.again.1)
        } else {
            (&mut self.oldest_waiter, &mut self.newest_waiter)
        }
    }

    fn age_link(&mut self, index: u32) {
        let again = self.waiters.at(index).is_some_and(|waiter| waiter.again);
        let older = core::mem::replace(self.ages(again).1, index);
        match self.waiters.at_mut(older) {
            Some(older) => older.newer = index,
            None => *self.ages(again).0 = index,
        }
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.older = older;
            waiter.newer = NIL;
        }
    }

    fn age_unlink(&mut self, index: u32) {
        let Some(waiter) = self.waiters.at(index) else {
            return;
        };
        let (older, newer, again) = (waiter.older, waiter.newer, waiter.again);
        match self.waiters.at_mut(older) {
            Some(older) => older.newer = newer,
            None => *self.ages(again).0 = newer,
        }
        match self.waiters.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => *self.ages(again).1 = older,
        }
    }

    /// Puts a waiter where it waits.
    pub(crate) fn op_park<M: Machine>(&mut self, turn: &mut Turn<'_, M>, index: u32, on: WaitOn) {
        // What it waited for before does not matter any more.
        let _ = self.request_looked(index);
        let Some(waiter) = self.waiters.at_mut(index) else {
            return;
        };
        waiter.on = on;
        if let WaitOn::Request(request, page) = on {
            waiter.request = Some((request, page));
            if let Some(request) = self.requests.get_mut(request) {
                request.lookers = request.lookers.saturating_add(1);
            }
        }
        self.list_push(index);
        self.set_clock(turn);
    }

    /// Puts a waiter that is in no list yet where it waits for a request that was just made.
    pub(crate) fn waiter_asks(&mut self, index: u32, request: Id<Request>, page: u64) {
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.on = WaitOn::Request(request, page);
            waiter.request = Some((request, page));
        }
        if let Some(request) = self.requests.get_mut(request) {
            request.lookers = request.lookers.saturating_add(1);
            request.waiting.push(&mut self.waiters, index);
        }
    }

    /// The end of a fault that waited for a request, which ends with it.
    pub(crate) fn waiter_served(&mut self, index: u32) {
        self.age_unlink(index);
        self.waiter_is_nobodys(index);
        self.waiters.discard(index);
    }

    /// The list of what is waited for, and the waiters.
    fn list_of(&mut self, on: WaitOn, what: Option<What>) -> (Option<&mut List>, &mut Waiters) {
        let list = match on {
            WaitOn::Nothing => None,
            WaitOn::Turn => match what {
                Some(What::Fault { .. }) => Some(&mut self.ready_faults),
                _ => Some(&mut self.ready_ops),
            },
            WaitOn::Request(request, _) => {
                let request = self.requests.get_mut(request);
                request.map(|on| &mut on.waiting)
            }
            WaitOn::Pager(pager) => self.pagers.get_mut(pager).map(|on| &mut on.waiting),
            WaitOn::Loan(loan) => self.loans.get_mut(loan).map(|on| &mut on.waiting),
            WaitOn::Slots(tray) => self.trays.get_mut(tray).map(|on| &mut on.waiting),
            WaitOn::MapOp(map) => self.maps.get_mut(map).map(|on| &mut on.waiting),
            WaitOn::InTransition(map) => self.maps.get_mut(map).map(|on| &mut on.transit),
            WaitOn::Frames => Some(&mut self.short),
        };
        (list, &mut self.waiters)
    }

    /// Puts a waiter that is in no list into that of what it waits for.
    fn list_push(&mut self, index: u32) {
        let waiter = self.waiters.at(index);
        let Some((on, what)) = waiter.map(|waiter| (waiter.on, waiter.what)) else {
            return;
        };
        if let (Some(list), waiters) = self.list_of(on, Some(what)) {
            list.push(waiters, index);
        }
    }

    /// Whether a waiter's list was woken as a whole, and its turn is still to come.
    fn is_woken(&mut self, index: u32) -> bool {
        let Some(waiter) = self.waiters.at(index) else {
            return false;
        };
        let (on, what, round) = (waiter.on, waiter.what, waiter.round);
        let (list, _) = self.list_of(on, Some(what));
        on != WaitOn::Nothing && list.is_none_or(|list| list.round() != round)
    }

    pub(crate) fn list_remove(&mut self, index: u32) {
        let woken = self.is_woken(index);
        let Some(waiter) = self.waiters.at_mut(index) else {
            return;
        };
        let (on, what) = (waiter.on, waiter.what);
        waiter.on = WaitOn::Nothing;
        if woken {
            self.woken.remove(&mut self.waiters, index);
        } else if let (Some(list), waiters) = self.list_of(on, Some(what)) {
            list.remove(waiters, index);
        }
    }

    /// Gives a waiter that is in no list its turn.
    pub(crate) fn make_ready(&mut self, index: u32) {
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.on = WaitOn::Turn;
        }
        self.list_push(index);
    }

    /// Gives all of a list their turn, in order, however many they are.
    pub(crate) fn wake_all(&mut self, list: impl Fn(&mut Core) -> Option<&mut List>) {
        let Some(mut taken) = list(self).map(|list| *list) else {
            return;
        };
        if taken.is_short() && self.woken.is_empty() {
            return self.wake_one(list);
        }
        let mut woken = self.woken;
        woken.append(&mut self.waiters, &mut taken);
        self.woken = woken;
        if let Some(found) = list(self) {
            *found = taken;
        }
    }

    /// Gives turns to some of those whose lists were woken.
    pub(crate) fn wake_some(&mut self) {
        for _ in 0..BUDGET {
            let Some(index) = self.woken.pop(&mut self.waiters) else {
                return;
            };
            self.make_ready(index);
        }
    }

    /// Gives the first of a list its turn.
    pub(crate) fn wake_one(&mut self, list: impl Fn(&mut Core) -> Option<&mut List>) {
        let Some(first) = list(self).map(|list| list.first()) else {
            return;
        };
        if self.waiters.at(first).is_some() {
            self.list_remove(first);
            self.make_ready(first);
        }
    }

    /// What the request that a waiter was woken by came to; it is not looked at again.
    fn request_looked(&mut self, index: u32) -> Result<(), Kern> {
        let Some((id, page)) = self.waiters.at_mut(index).and_then(|w| w.request.take()) else {
            return Ok(());
        };
        let Some(request) = self.requests.get_mut(id) else {
            return Ok(());
        };
        request.lookers = request.lookers.saturating_sub(1);
        let failed = request.failed & request.bit(page) != 0;
        let pager = request.pager;
        if request.closed && request.lookers == 0 {
            self.requests.remove(id);
        }
        if failed && self.still_wants(index, pager, page) {
            Err(Kern::MemoryError)
        } else {
            Ok(())
        }
    }

    /// Whether a waiter waits for a pager that what it wants does not depend on any more.
    fn is_stale(&self, index: u32, on: WaitOn) -> bool {
        let object = match on {
            WaitOn::Request(request, page) => {
                let request = self.requests.get(request);
                return request.is_none_or(|r| !self.still_wants(index, r.pager, page));
            }
            WaitOn::Pager(pager) => self.pagers.get(pager).map(|pager| pager.object),
            WaitOn::Loan(loan) => self.loans.get(loan).map(|loan| loan.object),
            WaitOn::Slots(tray) => {
                return !self.still_passes(index, |core, object, _| {
                    let pager = core.pager_of(object);
                    pager.is_some_and(|(_, pager)| pager.tray == Some(tray))
                });
            }
            WaitOn::Nothing
            | WaitOn::Turn
            | WaitOn::MapOp(_)
            | WaitOn::InTransition(_)
            | WaitOn::Frames => return false,
        };
        !self.still_passes(index, |_, at, _| Some(at) == object)
    }

    /// Whether what a waiter wants still depends on a page of a pager's object.
    fn still_wants(&self, index: u32, pager: Id<Pager>, page: u64) -> bool {
        let object = self.pagers.get(pager).map(|pager| pager.object);
        self.still_passes(index, |_, at, number| Some(at) == object && number == page)
    }

    /// Whether the look-up of a fault still comes to an object, and there to a page number, of which
    /// `wanted` holds, and to no page before. A fault's map may have changed while it waited; an
    /// operation decides for itself.
    fn still_passes(&self, index: u32, wanted: impl Fn(&Core, ObjectId, u64) -> bool) -> bool {
        let Some(What::Fault { map, address, .. }) = self.waiters.at(index).map(|w| w.what) else {
            return true;
        };
        let mut place = self.object_at(map, address);
        while let Some((object, number)) = place {
            if wanted(self, object, number) {
                return true;
            }
            if matches!(self.slot(object, number), Slot::Page(_)) {
                return false;
            }
            place = self.below(object, number);
        }
        false
    }

    /// Ends a waiter's wait with a failure: a fault is answered, an operation learns it at its turn.
    pub(crate) fn waiter_fail<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        index: u32,
        code: Kern,
    ) {
        self.list_remove(index);
        let Some(waiter) = self.waiters.at_mut(index) else {
            return;
        };
        match waiter.what {
            What::Fault {
                map,
                address,
                access,
                token,
            } => {
                self.waiter_free(index);
                let fault = Fault {
                    map,
                    address,
                    access,
                    token,
                };
                self.fault_answer(turn, &fault, Err(code));
            }
            What::Op(_) => {
                waiter.failed = Some(code);
                self.make_ready(index);
            }
        }
    }

    /// Gives turns to woken faults, as many as an event may answer.
    pub(crate) fn run_ready_faults<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        for _ in 0..BUDGET {
            if !turn.effects.has_room() {
                return;
            }
            let Some(index) = self.ready_faults.pop(&mut self.waiters) else {
                return;
            };
            self.fault_again(turn, index);
        }
    }

    /// Gives one operation its turn.
    pub(crate) fn run_ready_op<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        if !turn.effects.has_room() {
            return;
        }
        let Some(index) = self.ready_ops.pop(&mut self.waiters) else {
            return;
        };
        let failed = self.request_looked(index);
        let Some(waiter) = self.waiters.at_mut(index) else {
            return;
        };
        waiter.on = WaitOn::Nothing;
        if let Err(code) = failed {
            waiter.failed = Some(code);
        }
        if let What::Op(op) = waiter.what {
            self.op_turn(turn, op);
        }
    }

    /// A woken fault begins again with its look-up.
    fn fault_again<M: Machine>(&mut self, turn: &mut Turn<'_, M>, index: u32) {
        let failed = self.request_looked(index);
        let Some(waiter) = self.waiters.at_mut(index) else {
            return;
        };
        waiter.on = WaitOn::Nothing;
        let What::Fault {
            map,
            address,
            access,
            token,
        } = waiter.what
        else {
            return;
        };
        let fault = Fault {
            map,
            address,
            access,
            token,
        };
        let mut result = failed.and_then(|()| self.resolve_for(turn, &fault));
        if result == Err(Kern::ResourceShortage) && self.relieve(turn) {
            result = self.resolve_for(turn, &fault);
        }
        match result {
            Ok(Resolved::Wait(on)) => self.op_park(turn, index, on),
            result => {
                self.waiter_free(index);
                self.fault_answer(turn, &fault, result);
            }
        }
    }

    /// Asks to be woken no later than when the oldest waiter or loan has had its time.
    pub(crate) fn set_clock<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        let waiter = self.waiters.at(self.oldest_waiter).map(|w| w.deadline);
        let again = self.waiters.at(self.again.0).map(|w| w.deadline);
        let loan = self.loans.at(self.oldest_loan).map(|loan| loan.deadline);
        let own = self.deadline_first();
        let held = self.held_until();
        let next = waiter.into_iter().chain(again).chain(loan);
        let next = next.chain(own).chain(held).min().unwrap_or(Time::NEVER);
        // A time that nobody waits for any more is an event without an effect, and rare.
        if next < self.clock {
            self.clock = next;
            turn.effects.push(Effect::WakeAt(next));
        }
    }

    /// Fails those who have waited too long for a pager, oldest first, and takes back what was lent
    /// too long (amendment A2).
    pub(crate) fn expire<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        self.deadlines_expire(turn);
        self.waiters_expire(turn, self.again.0);
        self.waiters_expire(turn, self.oldest_waiter);
        self.loans_expire(turn);
        self.held_expire(turn.now);
        // What is left over is due at once.
        self.clock = Time::NEVER;
    }

    /// Fails those of one list who have waited too long, from `index` on.
    fn waiters_expire<M: Machine>(&mut self, turn: &mut Turn<'_, M>, mut index: u32) {
        for _ in 0..BUDGET {
            let waiter = self.waiters.at(index);
            let due = waiter.filter(|waiter| waiter.deadline <= turn.now);
            let Some(waiter) = due.filter(|_| turn.effects.has_room()) else {
                break;
            };
            let (mut on, newer) = (waiter.on, waiter.newer);
            if self.is_woken(index) {
                on = WaitOn::Turn;
            }
            match on {
                WaitOn::Request(..) | WaitOn::Pager(_) | WaitOn::Slots(_) | WaitOn::Loan(_) => {
                    if self.is_stale(index, on) {
                        // It is no more this pager's affair: it looks again, with as much time.
                        self.waiter_renew(index, turn.now);
                        self.list_remove(index);
                        self.make_ready(index);
                    } else if self.has_more_time(index, on) {
                        self.waiter_again(index, turn.now);
                    } else {
                        self.report_late(turn, on);
                        self.waiter_fail(turn, index, Kern::MemoryError);
                    }
                }
                // These wait for the server's own work, which ends.
                WaitOn::Nothing
                | WaitOn::Turn
                | WaitOn::MapOp(_)
                | WaitOn::InTransition(_)
                | WaitOn::Frames => {
                    self.waiter_renew(index, turn.now);
                }
            }
            index = newer;
        }
    }

    /// Whether the pager that a waiter waits for was lost while it waited. It has more time once.
    fn has_more_time(&self, index: u32, on: WaitOn) -> bool {
        let pager = match on {
            WaitOn::Request(request, _) => self.requests.get(request).map(|on| on.pager),
            WaitOn::Loan(loan) => self.loans.get(loan).map(|on| on.pager),
            WaitOn::Pager(pager) => Some(pager),
            _ => None,
        };
        let (Some(waiter), Some(pager)) = (
            self.waiters.at(index),
            pager.and_then(|pager| self.pagers.get(pager)),
        ) else {
            return false;
        };
        let since = waiter.deadline.0.saturating_sub(self.config.pager_timeout);
        !waiter.again && pager.generation > 0 && (pager.is_away() || pager.lost.0 >= since)
    }

    /// Gives a waiter the time that a pager may take to come back.
    fn waiter_again(&mut self, index: u32, now: Time) {
        self.age_unlink(index);
        let deadline = now.after(self.config.pager_restart);
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.deadline = deadline;
            waiter.again = true;
        }
        self.age_link(index);
    }

    /// Gives a waiter as much time again: it becomes the newest.
    fn waiter_renew(&mut self, index: u32, now: Time) {
        self.age_unlink(index);
        let deadline = now.after(self.config.pager_timeout);
        if let Some(waiter) = self.waiters.at_mut(index) {
            waiter.deadline = deadline;
            waiter.again = false;
        }
        self.age_link(index);
    }

    fn report_late<M: Machine>(&self, turn: &mut Turn<'_, M>, on: WaitOn) {
        let (pager, page) = match on {
            WaitOn::Request(request, page) => match self.requests.get(request) {
                Some(request) => (request.pager, page),
                None => return,
            },
            WaitOn::Pager(pager) => (pager, 0),
            _ => return,
        };
        if let Some(pager) = self.pagers.get(pager) {
            let port = pager.port;
            turn.effects
                .push(Effect::Report(Report::PagerLate { port, page }));
        }
    }

    /// Nobody waits for the answer of a waiter any more.
    fn waiter_is_nobodys(&mut self, index: u32) {
        self.tokens
            .remove(&mut self.nodes, &mut self.waiters, index);
    }

    /// A call or fault needs no answer any more: a fault is forgotten, and an operation that has changed
    /// nothing yet (rule 3); wiring is undone. Any other goes on to its end, unanswered.
    pub(crate) fn cancelled(&mut self, cancelled: Token) {
        let found = self.tokens.find(&self.nodes, &self.waiters, cancelled);
        let Some(index) = found else {
            return;
        };
        match self.waiters.at(index).map(|waiter| waiter.what) {
            Some(What::Fault { .. }) => {
                self.list_remove(index);
                self.waiter_free(index);
            }
            Some(What::Op(op)) => {
                self.waiter_is_nobodys(index);
                self.op_cancelled(op);
            }
            None => {}
        }
    }
}
