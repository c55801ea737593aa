//! Rights on their way: out of the sender's name space, into the receiver's, or nowhere.
//!
//! Sending captures ([`Kernel::capture`]) slot by slot, because what one slot takes another cannot
//! take again; if the message cannot go, [`Kernel::put_back`] undoes exactly that. Only
//! [`Kernel::commit`] frees names. Receiving asks first whether all fits ([`Kernel::make_fit`]), then
//! cannot fail ([`Kernel::deposit`]).

use crate::{
    kernel::{Kernel, TaskId},
    machine::Machine,
    message::{Cargo, Carried, EMPTY},
    port::{Object, Place, PortId},
    schedule::NOT_SENT,
    space::{Entry, Holds},
    thread::State,
};
use ipc_abi::{
    Kern,
    buffer::RIGHTS_MAX,
    right::{ArrivedKind, Disposition, Name},
};

/// The right slots of a buffer: values and kinds.
pub(crate) type Slots = [(u64, u8); RIGHTS_MAX];

/// Receive rights in transit inside each other, at most; more are refused.
pub(crate) const NESTING_MAX: u32 = 64;

/// Where a message goes, as far as its rights are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Who sends.
    pub(crate) from: TaskId,
    /// The port that it is sent to; `None`: straight to a thread, as an answer.
    pub(crate) to: Option<PortId>,
    /// Name of the send-once right that it is sent by, which it cannot carry as well.
    pub(crate) spent: Option<u64>,
}

impl Kernel {
    /// Takes rights out of a name space into a message.
    ///
    /// # Errors
    /// MACH_SEND_INVALID_RIGHT; nothing has changed then.
    pub(crate) fn capture(
        &mut self,
        route: Route,
        slots: &Slots,
        count: usize,
    ) -> Result<Cargo, Kern> {
        let mut cargo = EMPTY;
        let mut result = Ok(());
        for ((value, kind), place) in slots.iter().zip(cargo.iter_mut()).take(count) {
            match self.capture_one(route, *value, *kind) {
                Ok(carried) => *place = carried,
                Err(code) => {
                    result = Err(code);
                    break;
                }
            }
        }
        if let Err(code) = result {
            self.put_back(route.from, slots, &cargo);
            return Err(code);
        }
        Ok(cargo)
    }

    fn capture_one(&mut self, route: Route, value: u64, kind: u8) -> Result<Carried, Kern> {
        let disposition = Disposition::from_raw(kind).ok_or(Kern::SendInvalidRight)?;
        if disposition == Disposition::None {
            return Ok(Carried::Nothing);
        }
        if route.spent == Some(value) {
            return Err(Kern::SendInvalidRight);
        }
        if disposition == Disposition::MoveReceive {
            return self.capture_receive(route, value);
        }
        let task = self.tasks.at_mut(route.from);
        let entry = task
            .names
            .get_mut(value, &mut self.names_stamp)
            .ok_or(Kern::SendInvalidRight)?;
        match &mut entry.holds {
            Holds::Port {
                port,
                receive,
                refs,
            } => {
                let record = self.ports.at_mut(*port);
                let dead = record.is_dead();
                match disposition {
                    Disposition::MoveSendOnce if !dead => return Err(Kern::SendInvalidRight),
                    Disposition::MoveSend | Disposition::MoveSendOnce if *refs > 0 => {
                        *refs = refs.saturating_sub(1);
                        if *refs > 0 {
                            record.sends = record.sends.saturating_add(1);
                        }
                    }
                    Disposition::CopySend if *refs > 0 => {
                        record.sends = record.sends.saturating_add(1);
                    }
                    Disposition::MakeSend if *receive => {
                        record.sends = record.sends.saturating_add(1);
                        record.make_send = record.make_send.saturating_add(1);
                    }
                    Disposition::MakeSendOnce if *receive => {
                        record.onces = record.onces.saturating_add(1);
                        return Ok(Carried::Once(*port));
                    }
                    _ => return Err(Kern::SendInvalidRight),
                }
                Ok(Carried::Send(*port))
            }
            Holds::Once { port, refs } => {
                let record = self.ports.at_mut(*port);
                let dead = record.is_dead();
                match disposition {
                    Disposition::MoveSendOnce if *refs > 0 => {}
                    Disposition::MoveSend | Disposition::CopySend if dead && *refs > 0 => {}
                    _ => return Err(Kern::SendInvalidRight),
                }
                if disposition == Disposition::CopySend || *refs > 1 {
                    record.onces = record.onces.saturating_add(1);
                }
                if disposition != Disposition::CopySend {
                    *refs = refs.saturating_sub(1);
                }
                Ok(Carried::Once(*port))
            }
            Holds::Nothing { .. } | Holds::Set(_) => Err(Kern::SendInvalidRight),
        }
    }

    fn capture_receive(&mut self, route: Route, value: u64) -> Result<Carried, Kern> {
        let port = self.receive_right(route.from, value);
        let port = port.ok_or(Kern::SendInvalidRight)?;
        if let Some(to) = route.to {
            self.check_no_cycle(port, to)?;
            let load = self.ports.at(port).load;
            self.check_load(to, load).map_err(|_| Kern::SendNoBuffer)?;
        }
        self.set_receive(route.from, value, port, Placed::Away(route.to));
        Ok(Carried::Receive(port))
    }

    /// A receive right must not end up in a queue that only it could empty.
    pub(crate) fn check_no_cycle(&self, port: PortId, to: PortId) -> Result<(), Kern> {
        let mut at = to;
        for _ in 0..NESTING_MAX {
            if at == port {
                return Err(Kern::SendInvalidRight);
            }
            match self.ports.at(at).place {
                Place::Transit(through) => at = through,
                _ => return Ok(()),
            }
        }
        Err(Kern::SendInvalidRight)
    }

    fn set_receive(&mut self, task: TaskId, name: u64, port: PortId, placed: Placed) {
        let entry = self
            .tasks
            .at_mut(task)
            .names
            .get_mut(name, &mut self.names_stamp);
        let (here, place) = match placed {
            Placed::Back => (true, Place::Held(task, name as Name)),
            Placed::Away(Some(through)) => (false, Place::Transit(through)),
            Placed::Away(None) => (false, Place::Moving),
        };
        if let Some(Entry {
            holds: Holds::Port { receive, .. },
            ..
        }) = entry
        {
            *receive = here;
        }
        self.move_receive(port, place);
    }

    /// Undoes a capture: the sender's names are as before.
    pub(crate) fn put_back(&mut self, task: TaskId, slots: &Slots, cargo: &Cargo) {
        for ((value, kind), carried) in slots.iter().zip(cargo).rev() {
            let Some(disposition) = Disposition::from_raw(*kind) else {
                continue;
            };
            let moved = matches!(
                disposition,
                Disposition::MoveSend | Disposition::MoveSendOnce
            );
            let holds = match *carried {
                Carried::Nothing => continue,
                Carried::Receive(port) => {
                    self.set_receive(task, *value, port, Placed::Back);
                    continue;
                }
                Carried::Send(port) => {
                    if disposition == Disposition::MakeSend {
                        let made = &mut self.ports.at_mut(port).make_send;
                        *made = made.saturating_sub(1);
                    }
                    self.tasks
                        .at_mut(task)
                        .names
                        .get_mut(*value, &mut self.names_stamp)
                }
                Carried::Once(_) => self
                    .tasks
                    .at_mut(task)
                    .names
                    .get_mut(*value, &mut self.names_stamp),
            };
            let mut had = 1;
            if moved
                && let Some(Entry {
                    holds: Holds::Port { refs, .. } | Holds::Once { refs, .. },
                    ..
                }) = holds
            {
                had = *refs;
                *refs = refs.saturating_add(1);
            }
            // A name that was drained gave its own count to the message.
            if had > 0 {
                match *carried {
                    Carried::Send(port) => {
                        let sends = &mut self.ports.at_mut(port).sends;
                        *sends = sends.saturating_sub(1);
                    }
                    Carried::Once(port) => {
                        let onces = &mut self.ports.at_mut(port).onces;
                        *onces = onces.saturating_sub(1);
                    }
                    Carried::Nothing | Carried::Receive(_) => {}
                }
            }
        }
    }

    /// Makes a capture final: frees the names that it drained, and takes receive rights out of their
    /// sets and away from the threads that wait on them.
    pub(crate) fn commit(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        slots: &Slots,
        cargo: &Cargo,
    ) {
        for ((value, _), carried) in slots.iter().zip(cargo) {
            if let Carried::Receive(port) = *carried {
                self.leave_sets(port);
                self.evict(machine, port);
            }
            if *carried != Carried::Nothing {
                self.free_if_drained(task, *value);
            }
        }
    }

    /// Ends the waits of threads for messages of a port that is theirs no longer, or joins a set.
    pub(crate) fn evict(&mut self, machine: &mut impl Machine, port: PortId) {
        while let Some(thread) = self.ports.at(port).cells.spot.first() {
            let sent = self.stop_receiving(thread);
            self.finish(machine, thread, Err(Kern::ReceivePortChanged), sent);
        }
    }

    /// Frees a name that denotes nothing any more.
    pub(crate) fn free_if_drained(&mut self, task: TaskId, name: u64) {
        let Some(entry) = self.tasks.at(task).names.get(name) else {
            return;
        };
        let watches_nothing = match entry.holds {
            Holds::Port { receive, refs, .. } => {
                if refs > 0 {
                    return;
                }
                !receive
            }
            Holds::Once { refs, .. } => {
                if refs > 0 {
                    return;
                }
                true
            }
            Holds::Nothing { .. } | Holds::Set(_) => return,
        };
        // Requests are about the send right: they end with it.
        self.cancel_requests(task, name);
        if watches_nothing {
            self.tasks
                .at_mut(task)
                .names
                .remove(name as Name, &mut self.names_stamp);
        }
    }

    /// Makes room for the rights of a message in a name space, and sees to it that the task may have
    /// the receive rights that an answer brings; those in a queue it pays for already.
    ///
    /// # Errors
    /// MACH_RCV_HEADER_ERROR.
    pub(crate) fn make_fit(&mut self, task: TaskId, cargo: &Cargo) -> Result<(), Kern> {
        let mut loads: u64 = 0;
        for carried in cargo {
            if let Carried::Receive(port) = *carried
                && self.ports.at(port).place == Place::Moving
            {
                loads = loads.saturating_add(self.ports.at(port).load);
            }
        }
        let room = self.account(task).check(loads);
        room.map_err(|_| Kern::ReceiveNoSpace)?;
        if self
            .tasks
            .at_mut(task)
            .names
            .reserve(RIGHTS_MAX as u32)
            .is_ok()
        {
            return Ok(());
        }
        let names = &self.tasks.at(task).names;
        let needed = cargo.iter().filter(|carried| match carried {
            Carried::Nothing => false,
            Carried::Receive(port) | Carried::Send(port) => {
                !self.ports.at(*port).is_held_by(task) && names.find(*port).is_none()
            }
            Carried::Once(port) => !self.ports.at(*port).is_held_by(task),
        });
        let needed = needed.count() as u32;
        let names = &mut self.tasks.at_mut(task).names;
        names.reserve(needed).map_err(|_| Kern::ReceiveNoSpace)
    }

    /// Puts the rights of a message, for which room has been made, into a name space.
    pub(crate) fn deposit(&mut self, task: TaskId, cargo: &Cargo) -> Slots {
        let mut slots = [(0, ArrivedKind::None as u8); RIGHTS_MAX];
        for (slot, carried) in slots.iter_mut().zip(cargo) {
            let (value, kind) = match *carried {
                Carried::Nothing => continue,
                Carried::Receive(port) => self.deposit_receive(task, port),
                Carried::Send(port) => self.deposit_send(task, port),
                Carried::Once(port) => self.deposit_once(task, port),
            };
            *slot = (value, kind as u8);
        }
        slots
    }

    pub(crate) fn deposit_receive(&mut self, task: TaskId, port: PortId) -> (u64, ArrivedKind) {
        let names = &mut self.tasks.at_mut(task).names;
        let name = match names.find(port) {
            Some(name) => {
                if let Some(Entry {
                    holds: Holds::Port { receive, .. },
                    ..
                }) = names.get_mut(u64::from(name), &mut self.names_stamp)
                {
                    *receive = true;
                }
                Ok(name)
            }
            None => names.insert(Holds::Port {
                port,
                receive: true,
                refs: 0,
            }),
        };
        match name {
            Ok(name) => {
                self.move_receive(port, Place::Held(task, name));
                // Counts what its present holder has made.
                self.ports.at_mut(port).make_send = 0;
                (u64::from(name), ArrivedKind::Receive)
            }
            Err(_) => {
                self.kill_port(port);
                (0, ArrivedKind::None)
            }
        }
    }

    pub(crate) fn deposit_send(&mut self, task: TaskId, port: PortId) -> (u64, ArrivedKind) {
        let record = self.ports.at(port);
        let dead = record.is_dead();
        if record.is_held_by(task) {
            let payload = record.cells.payload.get();
            if record.is_home_alone() {
                self.ports.at_mut(port).sends = 0;
                return (payload, ArrivedKind::OwnLast);
            }
            self.drop_send(port);
            return (payload, ArrivedKind::Own);
        }
        let name = self.put_send(task, port);
        let kind = match (name, dead) {
            (0, _) => ArrivedKind::None,
            (_, true) => ArrivedKind::Dead,
            (_, false) => ArrivedKind::Send,
        };
        (u64::from(name), kind)
    }

    /// Puts a send right, for which room has been made, down under the name of its port. 0: there was none,
    /// and the right is gone.
    pub(crate) fn put_send(&mut self, task: TaskId, port: PortId) -> Name {
        let names = &mut self.tasks.at_mut(task).names;
        let Some(name) = names.find(port) else {
            let made = names.insert(Holds::Port {
                port,
                receive: false,
                refs: 1,
            });
            return made.unwrap_or_else(|_| {
                self.drop_send(port);
                0
            });
        };
        let mut had = 0;
        if let Some(Entry {
            holds: Holds::Port { refs, .. },
            ..
        }) = names.get_mut(u64::from(name), &mut self.names_stamp)
        {
            had = *refs;
            *refs = refs.saturating_add(1);
        }
        if had > 0 {
            self.drop_send(port);
        }
        name
    }

    pub(crate) fn deposit_once(&mut self, task: TaskId, port: PortId) -> (u64, ArrivedKind) {
        let record = self.ports.at(port);
        let dead = record.is_dead();
        if record.is_held_by(task) {
            let payload = record.cells.payload.get();
            self.drop_once(port);
            return (payload, ArrivedKind::Own);
        }
        let names = &mut self.tasks.at_mut(task).names;
        match names.insert(Holds::Once { port, refs: 1 }) {
            Ok(name) if dead => (u64::from(name), ArrivedKind::Dead),
            Ok(name) => (u64::from(name), ArrivedKind::SendOnce),
            Err(_) => {
                self.drop_once(port);
                (0, ArrivedKind::None)
            }
        }
    }

    /// Destroys rights in transit.
    pub(crate) fn discard(&mut self, cargo: &Cargo) {
        for carried in cargo {
            match *carried {
                Carried::Nothing => {}
                Carried::Receive(port) => self.kill_port(port),
                Carried::Send(port) => self.drop_send(port),
                Carried::Once(port) => self.drop_once(port),
            }
        }
    }

    /// Gives back a send right that no name holds.
    #[inline(never)]
    pub(crate) fn drop_send(&mut self, port: PortId) {
        let record = self.ports.at_mut(port);
        record.sends = record.sends.saturating_sub(1);
        if record.sends > 0 {
            if let Object::Task(task) = record.object {
                self.right_moves(task);
            }
            return;
        }
        if record.is_dead() {
            self.bury(port);
        } else if record.no_senders.is_some() {
            self.tell_no_senders(port);
        } else if matches!(
            record.object,
            Object::Space { occupant: None, .. }
                | Object::Interrupt(_)
                | Object::IoPorts { .. }
                | Object::HostMemory(_)
        ) {
            self.add_work(port);
        }
    }

    /// Gives back a send-once right that no name holds.
    pub(crate) fn drop_once(&mut self, port: PortId) {
        let record = self.ports.at_mut(port);
        record.onces = record.onces.saturating_sub(1);
        if record.is_dead() {
            self.bury(port);
        }
    }

    /// Frees the record of a dead port that nothing points to any more.
    pub(crate) fn bury(&mut self, port: PortId) {
        let record = self.ports.at(port);
        if record.is_dead() && record.sends == 0 && record.onces == 0 && !record.busy {
            self.ports.remove(port);
        }
    }

    /// Takes a receiving thread out of its queue; says how far its trap has come.
    #[inline]
    pub(crate) fn stop_receiving(&mut self, thread: crate::ThreadId) -> ipc_abi::message::Outcome {
        let State::Receiving { source, sent } = self.threads.at(thread).state.get() else {
            return NOT_SENT;
        };
        self.unlink_receiver(thread, source);
        sent
    }
}

/// Where a receive right is put.
#[derive(Clone, Copy)]
enum Placed {
    /// To its task, as it was.
    Back,
    /// On its way through a port, or straight to a thread.
    Away(Option<PortId>),
}
