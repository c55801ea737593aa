//! The `msg` trap: its options, and the send half of one-way messages.
//!
//! A message goes straight to a thread that waits for it, else into a kernel buffer in the port's
//! queue, else (no room) its sender waits with nothing done: the send is tried again for it when
//! there is room. So a send that fails has changed nothing, however late it fails.

use crate::{
    account,
    cells::Spot,
    kernel::{Flow, Kernel, Msg, Running, TaskId, ThreadId},
    machine::{Event, Machine},
    message::{Cargo, EMPTY, Message, Request, Role},
    port::PortId,
    receive::NO_TOKEN,
    requests::Watch,
    rights::{Route, Slots},
    schedule::{NOT_SENT, SENT},
    space::Holds,
    thread::{Source, State},
};
use alloc::vec::Vec;
use ipc_abi::{
    Kern,
    message::{Info, POLL, option},
    right::Name,
};

/// The rights of a message that is being sent.
#[derive(Clone, Copy)]
pub(crate) struct Captured {
    pub(crate) slots: Slots,
    pub(crate) cargo: Cargo,
}

impl Captured {
    /// What a message carries, which may have no rights at all.
    #[inline]
    pub(crate) fn cargo(rights: Option<&Captured>) -> &Cargo {
        rights.map_or(&EMPTY, |rights| &rights.cargo)
    }
}

/// A message that is about to be sent; its rights are captured.
pub(crate) struct Outgoing<'a> {
    pub(crate) msg: &'a Msg,
    pub(crate) info: Info,
    pub(crate) to: Destination,
    pub(crate) rights: Option<&'a Captured>,
}

/// Where a message is sent to.
#[derive(Clone, Copy)]
pub(crate) struct Destination {
    pub(crate) port: PortId,
    /// The name is a send-once right, which sending uses up.
    pub(crate) once: bool,
}

/// Whose turn a send is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It comes after those who wait for room.
    Last,
    /// It has waited longest.
    First,
}

/// How far a send came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// It is done.
    Sent,
    /// The queue of this port is full, and the sender is willing to wait.
    Full(PortId),
}

/// What the sender wants if there is no room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Possible {
    /// To wait.
    No,
    /// To be told as it has asked before.
    AsAsked,
    /// To be told by a message to this port.
    To(PortId),
}

const SEND_NOTIFY: u64 = option::SEND | option::NOTIFY;
const SEND_RECEIVE: u64 = option::SEND | option::RECEIVE;
const SEND_NOTIFY_RECEIVE: u64 = option::SEND | option::NOTIFY | option::RECEIVE;
const FORWARD_RECEIVE: u64 = option::FORWARD | option::RECEIVE;
const REPLY_RECEIVE: u64 = option::REPLY | option::RECEIVE;

impl Kernel {
    /// The `msg` trap. Results reach the registers by `Machine::set_message`, at once or later.
    pub fn msg(&mut self, machine: &mut impl Machine, msg: &Msg) -> Flow {
        let Some(me) = self.running() else {
            return Flow::Next;
        };
        let flow = match msg.options & !0xFF {
            REPLY_RECEIVE | option::REPLY => self.reply(machine, me, msg),
            option::CALL => self.call(machine, me, msg),
            FORWARD_RECEIVE | option::FORWARD => self.forward(machine, me, msg),
            option::RECEIVE => self.receive_trap(machine, me, msg),
            option::SEND | SEND_NOTIFY | SEND_RECEIVE | SEND_NOTIFY_RECEIVE => {
                self.send(machine, me, msg)
            }
            _ => Err(Kern::InvalidArgument),
        };
        let flow = flow.unwrap_or_else(|code| {
            self.finish(machine, me.thread, Err(code), NOT_SENT);
            Flow::Next
        });
        self.dispatch();
        flow
    }

    fn receive_trap(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
    ) -> Result<Flow, Kern> {
        let source = self.source(me.task, msg.source)?;
        self.receive(machine, me, source, msg.receive_deadline, NOT_SENT);
        Ok(Flow::Next)
    }

    fn send(&mut self, machine: &mut impl Machine, me: Running, msg: &Msg) -> Result<Flow, Kern> {
        if msg.options & option::RECEIVE != 0 {
            self.source(me.task, msg.source)?;
        }
        match self.send_half(machine, me, msg, Turn::Last)? {
            Half::Sent => self.after_send(machine, me, msg),
            Half::Full(port) => {
                self.threads.at_mut(me.thread).msg = *msg;
                self.wait_for_room(me.thread, port, Turn::Last);
                self.timers
                    .arm(&mut self.threads, me.thread, msg.send_deadline);
            }
        }
        Ok(Flow::Next)
    }

    /// Queues a thread at a port that has no room.
    pub(crate) fn wait_for_room(&mut self, thread: ThreadId, port: PortId, turn: Turn) {
        self.wait(thread, State::Sending(port));
        let thread = self.threads.at(thread).cells;
        let senders = &self.ports.at(port).senders;
        match turn {
            Turn::Last => senders.push_back(thread),
            Turn::First => senders.push_front(thread),
        }
    }

    /// What comes after a send: the receive half, or the end of the trap.
    pub(crate) fn after_send(&mut self, machine: &mut impl Machine, me: Running, msg: &Msg) {
        if msg.options & option::RECEIVE == 0 {
            self.finish(machine, me.thread, Ok(()), NOT_SENT);
            return;
        }
        // Looked up again: the message may have taken the very receive right along.
        match self.source(me.task, msg.source) {
            Ok(source) => self.receive(machine, me, source, msg.receive_deadline, SENT),
            Err(code) => self.finish(machine, me.thread, Err(code), SENT),
        }
    }

    /// Sends one message for a thread, at once or not at all.
    ///
    /// # Errors
    /// Those of a send, in the order in which they are checked here.
    pub(crate) fn send_half(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
        turn: Turn,
    ) -> Result<Half, Kern> {
        let info = Info::checked(msg.info).ok_or(Kern::SendInvalidData)?;
        let to = self.destination(me.task, msg.destination)?;
        let notify = self.notify_port(me.task, msg)?;
        let captured;
        let rights = if info.rights() == 0 {
            None
        } else {
            captured = self.take_rights(machine, me, msg, info, to)?;
            Some(&captured)
        };
        let outgoing = Outgoing {
            msg,
            info,
            to,
            rights,
        };
        if self.deliver_now(machine, me, &outgoing, |_, _| NO_TOKEN) {
            return Ok(Half::Sent);
        }
        let port = self.ports.at(to.port);
        let my_turn = turn == Turn::First || port.senders.is_empty();
        let result = if to.once || port.has_room() && my_turn {
            self.buffer(machine, me, to.port, info)
        } else if notify != Possible::No {
            Err(self.ask_possible(me.task, msg.destination, to.port, notify))
        } else if msg.send_deadline == POLL {
            Err(Kern::WouldBlock)
        } else {
            self.release(me, rights);
            return Ok(Half::Full(to.port));
        };
        match result {
            Ok(message) => {
                self.commit_send(machine, me, msg, to, rights);
                self.enqueue(machine, to, message, info, *Captured::cargo(rights));
                Ok(Half::Sent)
            }
            Err(code) => {
                self.release(me, rights);
                Err(code)
            }
        }
    }

    /// The live port that a name lets its task send to.
    #[inline]
    pub(crate) fn destination(&self, task: TaskId, name: u64) -> Result<Destination, Kern> {
        let entry = self.tasks.at(task).names.get(name);
        let (port, once) = match entry.map(|entry| entry.holds) {
            Some(Holds::Port { port, refs, .. }) if refs > 0 => (port, false),
            Some(Holds::Once { port, .. }) => (port, true),
            _ => return Err(Kern::SendInvalidDest),
        };
        if self.ports.at(port).takes_messages() {
            Ok(Destination { port, once })
        } else {
            Err(Kern::SendInvalidDest)
        }
    }

    fn notify_port(&self, task: TaskId, msg: &Msg) -> Result<Possible, Kern> {
        if msg.options & option::NOTIFY == 0 {
            return Ok(Possible::No);
        }
        if msg.notify == 0 {
            let entry = self.tasks.at(task).names.get(msg.destination);
            let asked = entry.and_then(|entry| entry.possible);
            return asked.map_or(Err(Kern::SendInvalidNotify), |_| Ok(Possible::AsAsked));
        }
        let port = self.receive_right(task, msg.notify);
        port.map_or(Err(Kern::SendInvalidNotify), |port| Ok(Possible::To(port)))
    }

    /// Captures the rights that a message sends. A message without any does not come here: the
    /// arrays are large, and would be moved about for nothing.
    #[inline(never)]
    pub(crate) fn take_rights(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
        info: Info,
        to: Destination,
    ) -> Result<Captured, Kern> {
        let route = Route {
            from: me.task,
            to: Some(to.port),
            spent: to.once.then_some(msg.destination),
        };
        let slots = machine.read_rights(me.context, info.rights());
        let cargo = self.capture(route, &slots, info.rights())?;
        Ok(Captured { slots, cargo })
    }

    /// Puts captured rights back where they were.
    pub(crate) fn release(&mut self, me: Running, rights: Option<&Captured>) {
        if let Some(rights) = rights {
            self.put_back(me.task, &rights.slots, &rights.cargo);
        }
    }

    /// Makes a send final for its sender.
    #[inline]
    pub(crate) fn commit_send(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
        to: Destination,
        rights: Option<&Captured>,
    ) {
        if let Some(rights) = rights {
            self.commit(machine, me.task, &rights.slots, &rights.cargo);
        }
        if to.once {
            self.cancel_requests(me.task, msg.destination);
            let names = &mut self.tasks.at_mut(me.task).names;
            names.remove(msg.destination as Name, &mut self.names_stamp);
            self.drop_once(to.port);
        }
    }

    /// Hands a message to a thread that waits for it, if there is one, with the token that `issue`
    /// gives. `false`: nobody waits, and nothing has happened.
    #[inline(always)]
    pub(crate) fn deliver_now(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        outgoing: &Outgoing<'_>,
        issue: impl FnOnce(&mut Kernel, Running) -> u64,
    ) -> bool {
        let Outgoing {
            msg,
            info,
            to,
            rights,
        } = *outgoing;
        let Some(receiver) = self.fitting_receiver(machine, to.port, rights) else {
            return false;
        };
        self.commit_send(machine, me, msg, to, rights);
        let receiver = self.actor(receiver);
        Self::copy_message(machine, me.context, receiver.context, info);
        let token = issue(self, receiver);
        let cargo = Captured::cargo(rights);
        self.deliver(machine, receiver, to.port, info, cargo, token);
        true
    }

    /// The first thread that waits at a port (or its set) and can take these rights. Those that
    /// cannot are told so.
    #[inline]
    pub(crate) fn fitting_receiver(
        &mut self,
        machine: &mut impl Machine,
        port: PortId,
        rights: Option<&Captured>,
    ) -> Option<ThreadId> {
        loop {
            let receiver = self.waiting(port)?;
            let Some(rights) = rights else {
                return Some(receiver);
            };
            let task = self.threads.at(receiver).task;
            match self.make_fit(task, &rights.cargo) {
                Ok(()) => return Some(receiver),
                Err(code) => {
                    let sent = self.stop_receiving(receiver);
                    self.finish(machine, receiver, Err(code), sent);
                }
            }
        }
    }

    pub(crate) fn buffer(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        to: PortId,
        info: Info,
    ) -> Result<Message, Kern> {
        let mut message = Message::notice(Role::Message);
        message.cost = account::MESSAGE.saturating_add(info.body() as u64);
        let room = self.check_load(to, message.cost);
        room.map_err(|_| Kern::SendNoBuffer)?;
        self.messages.reserve(1).map_err(|_| Kern::SendNoBuffer)?;
        if info.body() > 0 {
            let mut body = Vec::new();
            let room = body.try_reserve_exact(info.body());
            room.map_err(|_| Kern::SendNoBuffer)?;
            body.resize(info.body(), 0);
            machine.read_body(me.context, &mut body);
            message.body = body;
        }
        message.words = machine.words(me.context);
        message.info = info;
        Ok(message)
    }

    fn enqueue(
        &mut self,
        machine: &mut impl Machine,
        to: Destination,
        mut message: Message,
        info: Info,
        cargo: Cargo,
    ) {
        self.rights_move(&cargo);
        let port = self.ports.at_mut(to.port);
        message.cargo = cargo;
        message.stamp = port.stamp();
        message.queue = Some(to.port);
        let cost = message.cost;
        // Reserved by `buffer`.
        let Ok(message) = self.messages.insert(message) else {
            return;
        };
        port.messages.push_back(&mut self.messages, message);
        port.queued = port.queued.saturating_add(1);
        self.add_load(to.port, cost);
        self.item_arrived(to.port);
        machine.trace(Event::Queued {
            info,
            port: to.port.index(),
        });
    }

    /// Arms a send-possible request, and gives the code that the send fails with.
    fn ask_possible(&mut self, task: TaskId, name: u64, port: PortId, how: Possible) -> Kern {
        let Possible::To(to) = how else {
            self.arm_possible(task, name, port);
            return Kern::WouldBlock;
        };
        let request = Request {
            to,
            task,
            name: name as Name,
        };
        let Ok(request) = self.new_request(Role::Request(request)) else {
            return Kern::SendNoBuffer;
        };
        self.own_once(to);
        if let Some(earlier) = self.watch(Watch::Possible, task, name, port, Some(request)) {
            self.forget_request(earlier);
        }
        Kern::WouldBlock
    }

    /// The thread that the next message through a port goes to: one that waits for this port, else
    /// one that waits for its set.
    #[inline]
    pub(crate) fn waiting(&self, port: PortId) -> Option<ThreadId> {
        let record = self.ports.at(port);
        match record.cells.first() {
            None if record.sets > 1 => self.waiting_in_sets(port),
            first => first,
        }
    }

    /// Takes a thread out of the queue of those that receive from a source.
    #[inline(always)]
    pub(crate) fn unlink_receiver(&mut self, thread: ThreadId, source: Source) {
        self.spot(source).remove(self.threads.at(thread).cells);
        self.timers.disarm(&mut self.threads, thread);
    }

    /// Where threads wait that receive from a source.
    #[inline(always)]
    pub(crate) fn spot(&self, source: Source) -> &'static Spot {
        match source {
            Source::Port(port) => &self.ports.at(port).cells.spot,
            Source::Set(set) => self.sets.at(set).spot,
        }
    }
}
