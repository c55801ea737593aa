//! One event: what it does, and what unfinished work is done after it.
//!
//! Order of unfinished work: woken faults; then, on `Step`, one of: an operation's step, an ending
//! map, an ending object, a tray to fill, in turn, so that none keeps the others waiting.

use crate::effect::Effect;
use crate::event::{Event, MapId, PortOf, RightId};
use crate::machine::Machine;
use crate::named_entry::Unheld;
use crate::slab::NIL;
use crate::{Core, Turn};

impl Core {
    /// Handles one event. Its effects are added to the turn's, to be carried out in order before the
    /// next event. While [`Core::wants_step`], `Event::Step` is to come when no message waits.
    pub fn handle<M: Machine>(&mut self, event: Event, turn: &mut Turn<'_, M>) {
        if !matches!(
            event,
            Event::Fault(_) | Event::Call { .. } | Event::KernelShort(_)
        ) {
            self.record_question();
        }
        match event {
            Event::Fault(fault) => {
                // The shell has tried that already.
                #[cfg(any(test, feature = "touched"))]
                if let Some(asked) = self.ask_next(&fault, turn.now) {
                    turn.effects.push(Effect::Talk(asked.port));
                    return;
                }
                #[cfg(any(test, feature = "touched"))]
                if let Some(enter) = self.fault_now(turn, (fault.map, fault.address), fault.access)
                {
                    turn.effects.push_beside(fault.map, enter);
                    let (to, result) = (Some(fault.token), Ok(Some(enter)));
                    turn.effects.push(Effect::Resume { to, result });
                    return;
                }
                #[cfg(any(test, feature = "touched"))]
                if let Some(asked) = self.ask_quick(&fault, turn.now) {
                    turn.effects.push(Effect::Talk(asked.port));
                    return;
                }
                self.record_question();
                // Nothing else is done before its answer is carried out: see `settle_covered`.
                self.answering = self.config.in_order;
                self.fault(turn, &fault);
                self.answering = false;
                return;
            }
            Event::Call {
                call,
                rights,
                reply,
            } => {
                // The shell has tried that already.
                #[cfg(any(test, feature = "touched"))]
                let done = self.call_at_once(turn, &call, reply)
                    || self.copy_at_once(turn, &call, &rights, reply)
                    || self.supply_at_once(turn, &call, reply);
                #[cfg(any(test, feature = "touched"))]
                if done {
                    return;
                }
                self.record_question();
                self.call(turn, call, rights, reply);
                // What it started begins at once.
                self.run_ready_op(turn);
            }
            Event::DeadName(right) => self.dead_name(turn, right),
            Event::NoSenders { port, made } => self.no_senders(turn, port, made),
            Event::Cancelled(token) => self.cancelled(token),
            Event::TaskEnded(map) => {
                self.map_end(map);
                turn.effects.push(Effect::PortGone(PortOf::Map(map)));
                turn.effects.push(Effect::PortGone(PortOf::MapRead(map)));
            }
            Event::TaskSuspended(map) => {
                self.task_suspended(turn, map);
                self.run_ready_op(turn);
            }
            Event::AddFrames { first, count } => self.add_frames(first, count),
            Event::KernelShort(wanted) => {
                // In the midst of carrying out effects: nothing else may happen.
                return self.donate(turn, wanted);
            }
            Event::Full(port) => self.set_full(port, true, turn.effects),
            Event::Possible(port) => self.set_full(port, false, turn.effects),
            Event::Tick => self.expire(turn),
            Event::Step => self.step(turn),
            Event::Idle => {
                self.zero_ahead(turn);
            }
        }
        self.wake_some();
        self.run_ready_faults(turn);
        self.set_clock(turn);
    }

    /// Answers a common call as the shell does: where there is nothing else to do.
    #[cfg(any(test, feature = "touched"))]
    fn call_at_once<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &crate::call::Call,
        to: crate::event::ReplyTo,
    ) -> bool {
        use crate::call::quick::Common;
        use crate::call::{Call, Reply};
        use ipc_protocol::vm_map::{Reply as Answer, Request, VmAllocateReply};

        let Call::Map(map, request) = call else {
            return false;
        };
        let common = match request {
            Request::VmAllocate(args) => Common::Allocate(*args),
            Request::VmDeallocate(args) => Common::Deallocate(*args),
            Request::VmProtect(args) => Common::Protect(*args),
            _ => return false,
        };
        if to.is_none() || self.wants_step() {
            return false;
        }
        let Some(done) = self.call_quick(turn.machine, *map, &common) else {
            return false;
        };
        debug_assert!(done.leaves_work || !self.wants_step(), "it left work");
        let address = done.word;
        let answer = Ok(Reply::map(match common {
            Common::Allocate(_) => Answer::VmAllocate(VmAllocateReply { address }),
            Common::Deallocate(_) => Answer::VmDeallocate(()),
            Common::Protect(_) => Answer::VmProtect(()),
        }));
        turn.effects.push(Effect::Reply { to, answer });
        true
    }

    /// Answers a common call that makes a copy or uses one up as the shell does.
    #[cfg(any(test, feature = "touched"))]
    fn copy_at_once<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &crate::call::Call,
        rights: &crate::event::Rights,
        to: crate::event::ReplyTo,
    ) -> bool {
        use crate::call::{Call, Message, Reply};
        use crate::event::PortRef;
        use ipc_protocol::vm_map::{Reply as Answer, Request, VmCopyinReply, VmCopyoutReply};

        if to.is_none() || self.wants_step() {
            return false;
        }
        let (message, right) = match (call, rights) {
            (Call::Map(map, Request::VmCopyin(args)), _) => {
                let Some(copy) = self.copyin_quick(turn, *map, args) else {
                    return false;
                };
                (Answer::VmCopyin(VmCopyinReply {}), Some(PortOf::Copy(copy)))
            }
            (
                Call::Map(map, Request::VmCopyout(args)),
                [PortRef::Own(port @ PortOf::Copy(copy)), ..],
            ) => {
                let Some(address) = self.copyout_quick(*map, *copy, args) else {
                    return false;
                };
                turn.effects.push(Effect::PortGone(*port));
                (Answer::VmCopyout(VmCopyoutReply { address }), None)
            }
            _ => return false,
        };
        let message = Message::Map(message);
        let answer = Ok(Reply { message, right });
        turn.effects.push(Effect::Reply { to, answer });
        true
    }

    /// Takes a common supply as the shell does.
    #[cfg(any(test, feature = "touched"))]
    fn supply_at_once<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &crate::call::Call,
        to: crate::event::ReplyTo,
    ) -> bool {
        use crate::call::{Call, Reply};
        use crate::object::supply_quick::Answer as Supplied;
        use ipc_protocol::memory_object_control::{
            MemoryObjectDataSupplyReply, Reply as Answer, Request,
        };

        let Call::Control(control, Request::MemoryObjectDataSupply(args)) = call else {
            return false;
        };
        let Some(supplied) = self.supply_quick(turn, *control, args) else {
            return false;
        };
        let result = match supplied.answer {
            Supplied::Entered => Some(Ok(None)),
            Supplied::Enter(enter) => {
                turn.effects.push_beside(supplied.fault.map, enter);
                Some(Ok(Some(enter)))
            }
            Supplied::Effects => None,
        };
        if let Some(result) = result {
            let to = Some(supplied.fault.token);
            turn.effects.push(Effect::Resume { to, result });
        }
        // The shell leaves those who want to hear of it to the event.
        if to.is_none() {
            return true;
        }
        let answer = Ok(Reply::control(Answer::MemoryObjectDataSupply(
            MemoryObjectDataSupplyReply {
                used: args.count,
                skipped_present: 0,
                first_present: 0,
            },
        )));
        turn.effects.push(Effect::Reply { to, answer });
        true
    }

    /// Whether there is work that only steps do.
    #[must_use]
    pub fn wants_step(&self) -> bool {
        !self.ready_faults.is_empty()
            || !self.ready_ops.is_empty()
            || !self.woken.is_empty()
            || self.dying_maps != NIL
            || self.dying_objects != NIL
            || self.wants_refill()
            || self.has_dropped()
            || self.collapsing.first != NIL
            || self.is_short() && self.can_purge()
            || self.waits_in_vain()
    }

    /// One step of unfinished work of each kind.
    fn step<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        if !self.ready_faults.is_empty() {
            return;
        }
        if self.wants_refill() {
            self.tray_refill_step(turn);
        }
        self.run_ready_op(turn);
        if self.dying_maps != NIL {
            self.map_death_step(turn);
        }
        if self.dying_objects != NIL {
            self.object_death_step(turn);
        }
        self.dropped_step();
        self.collapse_step();
        if self.is_short() && self.can_purge() {
            self.purge_step(turn.machine);
        }
        if self.waits_in_vain() {
            self.wake_all(|core| Some(&mut core.short));
        }
    }

    /// Whether somebody waits for frames although none are being freed: they try once more.
    const fn waits_in_vain(&self) -> bool {
        let freeing = self.dying_maps != NIL || self.dying_objects != NIL || self.reclaiming;
        !freeing && !self.short.is_empty()
    }

    /// Ends a map: nothing can be done with it any more, and steps remove its entries. A hidden map of
    /// few entries that nobody waits for, as most copies are, goes at once.
    pub(crate) fn map_end(&mut self, map: MapId) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        if record.dying {
            return;
        }
        if record.is_small_copy() {
            return self.hidden_end(map);
        }
        record.dying = true;
        record.dying_next = self.dying_maps;
        self.dying_maps = map.index();
        self.wires_interrupt(map);
    }

    fn hidden_end(&mut self, map: MapId) {
        while let Some(first) = self.maps.get(map).map(|map| map.tree.first())
            && self.entries.at(first.0).is_some()
        {
            self.entry_delete(first);
        }
        if let Some(record) = self.maps.remove(map) {
            self.uncharge_hidden(record.account.payer);
        }
    }

    fn map_death_step<M: Machine>(&mut self, turn: &mut Turn<'_, M>) {
        let Some(map) = self.maps.id_at(self.dying_maps) else {
            self.dying_maps = NIL;
            return;
        };
        if !self.map_teardown_step(turn, map) {
            return;
        }
        if !self.family_leave_step(map) {
            return;
        }
        self.reserved_end(map);
        self.wake_all(|core| core.maps.get_mut(map).map(|map| &mut map.waiting));
        self.wake_all(|core| core.maps.get_mut(map).map(|map| &mut map.transit));
        // A map that it showed may have come before it meanwhile.
        self.dying_unlink(map);
        if let Some(record) = self.maps.remove(map) {
            self.uncharge_hidden(record.account.payer);
            let ring = u32::from(record.ring.is_some());
            self.rings = self.rings.saturating_sub(ring);
            turn.effects.push(Effect::SpaceGone(map));
        }
    }

    /// Takes a map out of the list of those that end.
    fn dying_unlink(&mut self, map: MapId) {
        let Some(next) = self.maps.get(map).map(|map| map.dying_next) else {
            return;
        };
        if self.dying_maps == map.index() {
            self.dying_maps = next;
            return;
        }
        let mut at = self.dying_maps;
        while let Some(record) = self.maps.at_mut(at) {
            if record.dying_next == map.index() {
                record.dying_next = next;
                return;
            }
            at = record.dying_next;
        }
    }

    /// A right's port is dead. What reference the notice may have brought is the shell's.
    fn dead_name<M: Machine>(&mut self, turn: &mut Turn<'_, M>, right: RightId) {
        if let Some(pager) = self.pager_at(right) {
            if let Some(record) = self.pagers.get_mut(pager) {
                record.port_dead = true;
            }
            self.pager_dead(turn, pager);
        }
    }

    pub(crate) fn no_senders<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        port: PortOf,
        made: u32,
    ) {
        // Of ports of maps, copies and trays one right is made, with the answer that carries it.
        if made == 0 {
            return;
        }
        match port {
            PortOf::Control(control) => {
                let made_since = self.controls.get(control).map(|control| control.made);
                if made_since.is_some_and(|now| made >= now)
                    && let Ok(pager) = self.pager_of_control(control)
                {
                    self.pager_detached(turn, pager);
                }
            }
            PortOf::Tray(tray) => self.tray_gone(turn, tray),
            PortOf::Copy(copy) => {
                self.copy_discard(copy);
                turn.effects.push(Effect::PortGone(port));
            }
            PortOf::Entry(entry) => match self.named_unheld(entry, made) {
                Unheld::Held => {}
                Unheld::Again => turn.effects.push(Effect::WatchSenders(port)),
                Unheld::Gone => turn.effects.push(Effect::PortGone(port)),
            },
            PortOf::Map(map) => {
                self.map_unnamed(map);
                turn.effects.push(Effect::PortGone(port));
                turn.effects.push(Effect::PortGone(PortOf::MapRead(map)));
            }
            // It stays for whoever asks next, and ends with the map.
            PortOf::MapRead(_) => {}
        }
    }
}
