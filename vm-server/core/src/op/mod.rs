//! Work that takes more than one event: a record with a cursor, no closure and no future.
//!
//! One file a verb. A verb's `step` does at most [`BUDGET`] entries or pages and says how it goes on
//! ([`Progress`]); it finds its place again by the cursor, and checks what it finds where it had to
//! let go of the map. Every operation has its waiter from the start, so that waiting cannot fail.
//! Operations and woken faults stand in ready lists; faults go first.
//!
//! A map's operation lock is held from step to step by the operation that works on its entries
//! ([`Op::holds`]); calls that would change entries wait for it and begin again.

mod deadline;
pub mod wait;

use ipc_abi::Kern;

use crate::account::Payer;
use crate::call::msync::Msync;
use crate::call::page_query::PageQuery;
use crate::call::purgeable::Purging;
use crate::call::vm_copy::Transfer;
use crate::call::vm_map::MapCall;
use crate::call::wire::Wish;
use crate::call::{Call, Reply};
use crate::copy::copyout::CopyOut;
use crate::copy::settle::Settle;
use crate::effect::Answer;
use crate::event::{MapId, ReplyTo, Time};
use crate::id::Id;
use crate::machine::Machine;
use crate::map::advise::{Advise, Cover};
use crate::map::fork::Fork;
use crate::map::own::Own;
use crate::map::protect::SetAttributes;
use crate::map::region::Region;
use crate::map::remove::Remove;
use crate::map::submap::seal::Seal;
use crate::map::unwire::Unwire;
use crate::map::wire::Wire;
use crate::object::lock::LockRequest;
use crate::object::supply_copy::SupplyCopy;
use crate::op::wait::{WaitOn, What};
use crate::reclaim::Reclaim;
use crate::slab::NIL;
use crate::{Core, Turn};

/// Entries or pages that one step works on at most.
pub const BUDGET: u32 = 64;

/// What an operation does, and where it has got to.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "operations are few, and their records must not be allocated piecemeal"
)]
pub enum Verb {
    /// A call that waits for a map's operation lock, then is handled from its beginning.
    Call(crate::call::Deferred),
    /// Taking entries out of a map.
    Remove(Remove),
    /// Changing attributes of entries.
    SetAttributes(SetAttributes),
    /// Mapping what a hidden map holds.
    CopyOut(CopyOut),
    /// Copying a range, and what follows.
    Transfer(Transfer),
    /// Making a child's map.
    Fork(Fork),
    /// Making a range a map's own, then setting its protection.
    Own(Own),
    /// Describing what is mapped.
    Region(Region),
    /// Sealing a shared map.
    Seal(Seal),
    /// A pager's lock request.
    Lock(LockRequest),
    /// A pager's data from a copy.
    SupplyCopy(SupplyCopy),
    /// Returning the pages of a range.
    Msync(Msync),
    /// Making a copy depend on no pager.
    Settle(Settle),
    /// A one-shot behaviour of a range.
    Advise(Advise),
    /// Looking whether a range is mapped.
    Cover(Cover),
    /// Saying what is known of pages.
    PageQuery(PageQuery),
    /// Taking what tasks do without.
    Reclaim(Reclaim),
    /// Emptying purgeable memory.
    Purge(Purging),
    /// Making a range resident for good.
    Wire(Wire),
    /// Undoing that.
    Unwire(Unwire),
}

impl Verb {
    /// Whether giving it up leaves no trace but harmless copy-on-write marks.
    const fn has_changed_nothing(&self) -> bool {
        match self {
            Verb::Transfer(work) => work.is_copying(),
            Verb::Fork(_) | Verb::Settle(_) => true,
            _ => false,
        }
    }
}

/// How an operation goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// At its next turn.
    More,
    /// The step has parked the operation's waiter.
    Wait,
    /// Entries of this map that the step comes to are in transition: without the operation lock, until
    /// they are not.
    Transit(MapId),
    /// It is over: answer so. `None`: the step has answered, or nobody is to be.
    Done(Option<Result<Reply, Kern>>),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// What it does.
    pub verb: Verb,
    /// Whom to answer at the end.
    pub reply: ReplyTo,
    /// The map whose operation lock it holds.
    pub holds: Option<MapId>,
    /// Its waiter.
    pub waiter: u32,
    /// Whose account it is charged to.
    pub payer: Option<Payer>,
    /// What it maps is to be wired before it is answered.
    pub wish: Option<Wish>,
}

impl Core {
    /// Admits an operation; its first step comes with its turn. With `holds` it takes that map's
    /// operation lock, which is free.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn op_start(
        &mut self,
        verb: Verb,
        reply: ReplyTo,
        holds: Option<MapId>,
        now: Time,
    ) -> Result<Id<Op>, Kern> {
        self.waiters.reserve_one()?;
        let payer = self.charge_op()?;
        let inserted = self.ops.insert_with(|| Op {
            verb,
            reply,
            holds,
            waiter: NIL,
            payer,
            wish: None,
        });
        let id = inserted.inspect_err(|_| self.uncharge_op(payer))?;
        let waiter = self.waiter_new(What::Op(id), reply, now);
        let waiter = waiter.inspect_err(|_| {
            self.ops.remove(id);
            self.uncharge_op(payer);
        })?;
        if let Some(op) = self.ops.get_mut(id) {
            op.waiter = waiter;
        }
        if let Some(map) = holds.and_then(|map| self.maps.get_mut(map)) {
            map.locked = true;
        }
        self.make_ready(waiter);
        Ok(id)
    }

    /// Puts a call off until the operation lock of its map is free. `None`: it is answered later.
    pub(crate) fn call_defer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: MapCall,
    ) -> Option<Answer> {
        let deferred = crate::call::Deferred {
            call: Call::Map(call.map, call.request),
            rights: call.rights,
        };
        let on = WaitOn::MapOp(call.map);
        match self.op_start_parked(turn, Verb::Call(deferred), call.reply, on) {
            Ok(()) => None,
            Err(code) => {
                self.release_rights(turn, &call.rights);
                Some(Err(code))
            }
        }
    }

    /// Takes the operation lock of a map for the operation of `waiter`, in place of what it holds;
    /// `false`: another has it, and the waiter has been parked.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the map's task has ended.
    pub(crate) fn op_lock<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        waiter: u32,
        map: MapId,
    ) -> Result<bool, Kern> {
        let Some(What::Op(op)) = self.waiters.at(waiter).map(|waiter| waiter.what) else {
            return Err(Kern::Failure);
        };
        let held = self.ops.get(op).and_then(|op| op.holds);
        if held == Some(map) {
            return Ok(true);
        }
        if let Some(held) = held {
            self.map_unlock(held);
        }
        let record = self.maps.get_mut(map).filter(|map| !map.dying);
        let record = record.ok_or(Kern::Terminated)?;
        let free = !record.locked;
        if free {
            record.locked = true;
        }
        if let Some(op) = self.ops.get_mut(op) {
            op.holds = free.then_some(map);
        }
        if !free {
            self.op_park(turn, waiter, WaitOn::MapOp(map));
        }
        Ok(free)
    }

    /// Lets go of the operation lock that the operation of `waiter` holds.
    pub(crate) fn op_unlock(&mut self, waiter: u32) {
        let Some(What::Op(op)) = self.waiters.at(waiter).map(|waiter| waiter.what) else {
            return;
        };
        if let Some(held) = self.ops.get_mut(op).and_then(|op| op.holds.take()) {
            self.map_unlock(held);
        }
    }

    /// Frees a map's operation lock; the first that waits for it gets its turn.
    fn map_unlock(&mut self, map: MapId) {
        if let Some(record) = self.maps.get_mut(map) {
            record.locked = false;
        }
        self.map_wake(map);
    }

    fn map_wake(&mut self, map: MapId) {
        self.wake_one(|core| core.maps.get_mut(map).map(|map| &mut map.waiting));
    }

    /// What an operation's last wait failed with, if it did.
    pub(crate) fn op_failed(&mut self, waiter: u32) -> Option<Kern> {
        self.waiters.at_mut(waiter)?.failed.take()
    }

    /// Gives an operation its turn.
    pub(crate) fn op_turn<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Op>) {
        let Some(op) = self.ops.get(id) else {
            return;
        };
        if let Verb::Call(deferred) = op.verb {
            return self.call_again(turn, id, deferred);
        }
        // Large: as few copies as may be.
        let (mut verb, waiter, wish) = (op.verb, op.waiter, op.wish);
        let mut progress = match self.verb_lock(turn, &verb, waiter) {
            Ok(true) => self.verb_go(turn, &mut verb, waiter),
            Ok(false) => Progress::Wait,
            Err(code) => {
                self.verb_abandon(&mut verb);
                Progress::Done(Some(Err(code)))
            }
        };
        if let Progress::Transit(map) = progress {
            self.op_unlock(waiter);
            self.op_park(turn, waiter, WaitOn::InTransition(map));
            progress = Progress::Wait;
        }
        let failed = self.waiters.at(waiter).and_then(|waiter| waiter.failed);
        if let (Progress::Wait, Some(code)) = (progress, failed) {
            // It has waited long enough.
            self.list_remove(waiter);
            self.verb_abandon(&mut verb);
            progress = Progress::Done(Some(Err(code)));
        }
        if let (Progress::Done(Some(Ok(answer))), Some(wish)) = (progress, wish)
            && let Some(next) = Core::wish_granted(wish, &answer)
        {
            verb = next;
            progress = Progress::More;
        }
        if let Progress::Done(answer) = progress {
            let reply = self.op_end(id).flatten();
            if let Some(answer) = answer {
                self.answer(turn, reply, answer);
            }
            return;
        }
        if let Some(op) = self.ops.get_mut(id) {
            op.verb = verb;
            if let Verb::Wire(_) = verb {
                op.wish = None;
            }
        }
        if progress == Progress::More {
            self.make_ready(waiter);
        }
    }

    /// Handles a call that was put off; if it takes no lock, the next that waits has its turn too.
    fn call_again<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Op>,
        deferred: crate::call::Deferred,
    ) {
        let Some(reply) = self.op_end(id) else {
            return;
        };
        self.call(turn, deferred.call, deferred.rights, reply);
        if let Call::Map(map, _) = deferred.call
            && self.maps.get(map).is_some_and(|map| !map.locked)
        {
            self.map_wake(map);
        }
    }

    /// Nobody waits for an operation's answer any more.
    pub(crate) fn op_cancelled(&mut self, id: Id<Op>) {
        let Some(op) = self.ops.get_mut(id) else {
            return;
        };
        op.reply = None;
        let (mut verb, waiter) = (op.verb, op.waiter);
        if verb.has_changed_nothing() {
            self.list_remove(waiter);
            self.verb_abandon(&mut verb);
            self.op_end(id);
        } else {
            self.wire_interrupt(id, Kern::Failure);
        }
    }

    /// Ends an operation. Gives whom it was to answer.
    pub(crate) fn op_end(&mut self, id: Id<Op>) -> Option<ReplyTo> {
        let op = self.ops.get(id)?;
        let (payer, waiter, holds, reply) = (op.payer, op.waiter, op.holds, op.reply);
        self.ops.discard(id.index());
        self.uncharge_op(payer);
        self.waiter_free(waiter);
        if let Some(map) = holds {
            self.map_unlock(map);
        }
        Some(reply)
    }

    /// Begins an operation that first waits for entries in transition.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn op_start_parked<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        verb: Verb,
        reply: ReplyTo,
        on: WaitOn,
    ) -> Result<(), Kern> {
        let id = self.op_start(verb, reply, None, turn.now)?;
        // It stands in the ready list, and moves to where it waits.
        if let Some(waiter) = self.ops.get(id).map(|op| op.waiter) {
            self.list_remove(waiter);
            self.op_park(turn, waiter, on);
        }
        Ok(())
    }

    /// Sees to it that a verb which works on entries has its map's operation lock, also after it had to
    /// let go of it. `false`: another has it, and the waiter has been parked.
    fn verb_lock<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        verb: &Verb,
        waiter: u32,
    ) -> Result<bool, Kern> {
        let map = match verb {
            Verb::Remove(work) => Some(work.map()),
            Verb::SetAttributes(work) => Some(work.map()),
            Verb::Own(work) => Some(work.map()),
            Verb::CopyOut(work) => Some(work.target),
            Verb::Transfer(work) => work.works_on(),
            Verb::Unwire(work) => Some(work.map()),
            // The others take it where they need it, or need none.
            _ => None,
        };
        map.map_or(Ok(true), |map| self.op_lock(turn, waiter, map))
    }

    fn verb_go<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        verb: &mut Verb,
        waiter: u32,
    ) -> Progress {
        match verb {
            Verb::Call(_) => Progress::Done(None),
            Verb::Remove(work) => self.remove_step(turn, work),
            Verb::SetAttributes(work) => self.set_attributes_step(turn, work),
            Verb::CopyOut(work) => self.copyout_step(turn, work),
            Verb::Transfer(work) => self.transfer_step(turn, work, waiter),
            Verb::Fork(work) => self.fork_step(turn, work, waiter),
            Verb::Own(work) => self.own_step(turn, work, waiter),
            Verb::Region(work) => self.region_step(work),
            Verb::Seal(work) => self.seal_step(turn, work),
            Verb::Lock(work) => self.lock_step(turn, work, waiter),
            Verb::SupplyCopy(work) => self.supply_copy_step(turn, work, waiter),
            Verb::Msync(work) => self.msync_step(turn, work, waiter),
            Verb::Settle(work) => self.settle_step(turn, work, waiter),
            Verb::Advise(work) => self.advise_step(turn, work, waiter),
            Verb::Cover(work) => self.cover_step(work),
            Verb::PageQuery(work) => self.page_query_step(turn, work, waiter),
            Verb::Reclaim(work) => self.reclaim_step(turn, work, waiter),
            Verb::Purge(work) => self.purging_step(turn, work),
            Verb::Wire(work) => self.wire_step(turn, work, waiter),
            Verb::Unwire(work) => self.unwire_step(work),
        }
    }

    /// Gives up a verb that waited in vain.
    fn verb_abandon(&mut self, verb: &mut Verb) {
        match verb {
            Verb::Transfer(work) => self.transfer_abandon(work),
            Verb::Fork(work) => self.fork_end(work),
            Verb::Own(work) => self.own_end(work),
            Verb::Settle(work) => self.settle_abandon(work),
            Verb::Reclaim(work) => self.reclaim_over(work),
            Verb::Remove(work) => self.remove_end(work),
            Verb::CopyOut(work) => self.copyout_end(work),
            Verb::SupplyCopy(work) => self.supply_copy_end(work),
            // These hold nothing, or see for themselves what a wait has come to.
            Verb::Call(_)
            | Verb::SetAttributes(_)
            | Verb::Region(_)
            | Verb::Seal(_)
            | Verb::Lock(_)
            | Verb::Msync(_)
            | Verb::Advise(_)
            | Verb::Cover(_)
            | Verb::PageQuery(_)
            | Verb::Purge(_)
            | Verb::Wire(_)
            | Verb::Unwire(_) => {}
        }
    }
}
