//! The receive half: what comes next at a port or set, and how it reaches a thread.
//!
//! One-way messages keep their order; callers are taken by priority; between the first of each the
//! older goes first. So nobody overtakes what its own thread sent before, and a message waits for no
//! caller that came later. The members of a set take turns.

use crate::{
    cells::ThreadCells,
    kernel::{Kernel, Running, ThreadId},
    machine::{Context, Event, Machine},
    message::{Cargo, EMPTY, MessageId, Role},
    port::PortId,
    schedule::{SENT, outcome},
    thread::{Call, Source, State},
};
use ipc_abi::{
    Kern, exception, fault,
    message::{Info, Outcome, POLL},
};

/// The token of a message that wants no answer.
pub(crate) const NO_TOKEN: u64 = 0;

/// The first thing to receive at a port.
enum Item {
    Message(MessageId),
    Caller(&'static ThreadCells),
}

impl Kernel {
    /// Receives for a thread that is in no queue: at once, or when something comes, or with an error.
    pub(crate) fn receive(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        source: Source,
        deadline: u64,
        sent: Outcome,
    ) {
        let first = match source {
            Source::Port(port) => Some(port),
            Source::Set(set) => {
                let member = self.sets.at(set).ready.first();
                member.map(|member| self.members.at(member).port)
            }
        };
        let item = first.and_then(|port| Some((port, self.first_item(port)?)));
        let result = match item {
            Some((port, Item::Message(message))) => {
                self.receive_message(machine, me, port, message, sent)
            }
            Some((port, Item::Caller(caller))) => {
                self.receive_caller(machine, me, port, caller, sent)
            }
            None if deadline == POLL => Err(Kern::ReceiveTimedOut),
            None => {
                self.wait(me.thread, State::Receiving { source, sent });
                let thread = self.threads.at(me.thread).cells;
                self.spot(source).push_back(thread);
                self.timers.arm(&mut self.threads, me.thread, deadline);
                return;
            }
        };
        match result {
            Err(code) => self.finish(machine, me.thread, Err(code), sent),
            Ok(()) => {
                if self.threads.at(me.thread).state.get() != State::Running {
                    self.wake(me.thread);
                }
            }
        }
    }

    fn first_item(&self, port: PortId) -> Option<Item> {
        let record = self.ports.at(port);
        match (record.messages.first(), record.callers.first()) {
            (None, None) => None,
            (Some(message), None) => Some(Item::Message(message)),
            (None, Some(caller)) => Some(Item::Caller(caller)),
            (Some(message), Some(caller)) => {
                let message_first = self.messages.at(message).stamp < caller.stamp.get();
                Some(if message_first {
                    Item::Message(message)
                } else {
                    Item::Caller(caller)
                })
            }
        }
    }

    fn receive_message(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        port: PortId,
        message: MessageId,
        sent: Outcome,
    ) -> Result<(), Kern> {
        let record = self.messages.at(message);
        let (info, cargo) = (record.info, record.cargo);
        if info.rights() > 0 {
            self.make_fit(me.task, &cargo)?;
        }
        self.unqueue_message(port, message);
        self.item_taken(port);
        self.write_message(machine, me.context, message);
        self.retire(message);
        self.hand_in(machine, me, port, info, &cargo, NO_TOKEN, sent);
        Ok(())
    }

    /// Writes words and body of a message that the kernel keeps to who receives it.
    fn write_message(&self, machine: &mut impl Machine, to: Context, message: MessageId) {
        let record = self.messages.at(message);
        machine.set_words(to, record.words);
        if !record.body.is_empty() {
            machine.write_body(to, &record.body);
        }
    }

    fn receive_caller(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        port: PortId,
        cells: &'static ThreadCells,
        sent: Outcome,
    ) -> Result<(), Kern> {
        let State::Calling(_, call) = cells.state.get() else {
            return Err(Kern::Failure);
        };
        let Running {
            thread: caller,
            context,
            ..
        } = cells.actor.get();
        let (info, forwarded) = (cells.info.get(), cells.forwarded.get());
        let mut cargo = EMPTY;
        if info.rights() > 0 {
            cargo = self.threads.at(caller).cargo;
            self.make_fit(me.task, &cargo)?;
            self.threads.at_mut(caller).cargo = EMPTY;
        }
        self.ports.at(port).callers.remove(cells);
        self.item_taken(port);
        match (self.kernel_words(caller, call), forwarded) {
            (Some(words), _) => {
                machine.set_words(me.context, words);
                if info.body() > 0 {
                    machine.write_body(me.context, &machine.general(context).to_bytes());
                }
            }
            (None, None) => Self::copy_message(machine, context, me.context, info),
            (None, Some(message)) => {
                self.write_message(machine, me.context, message);
                self.drop_forwarded(caller);
            }
        }
        let token = self.issue(caller, me, port, call);
        self.hand_in(machine, me, port, info, &cargo, token, sent);
        Ok(())
    }

    /// The words of a call that the kernel makes for a thread.
    pub(crate) fn kernel_words(&self, thread: ThreadId, call: Call) -> Option<[u64; 6]> {
        match call {
            Call::Message => None,
            Call::Fault => Some(self.threads.at(thread).fault.get().to_words()),
            Call::Exception(_) => Some(self.threads.at(thread).exception.to_words()),
        }
    }

    /// Copies words and body from a sender's to a receiver's registers and buffer.
    #[inline]
    pub(crate) fn copy_message(machine: &mut impl Machine, from: Context, to: Context, info: Info) {
        machine.copy_words(from, to);
        if info.body() > 0 {
            machine.copy_body(from, to, info.body());
        }
    }

    /// Hands a message, whose words and body are in place, to a thread that waits for it.
    #[inline(always)]
    pub(crate) fn deliver(
        &mut self,
        machine: &mut impl Machine,
        receiver: Running,
        port: PortId,
        info: Info,
        cargo: &Cargo,
        token: u64,
    ) {
        let sent = self.stop_receiving(receiver.thread);
        self.hand_in(machine, receiver, port, info, cargo, token, sent);
        self.wake(receiver.thread);
    }

    /// Rights and result of a received message. Room for the rights has been made.
    #[allow(clippy::too_many_arguments, reason = "a message has that many parts")]
    #[inline(always)]
    fn hand_in(
        &mut self,
        machine: &mut impl Machine,
        to: Running,
        port: PortId,
        info: Info,
        cargo: &Cargo,
        token: u64,
        sent: Outcome,
    ) {
        if info.rights() > 0 {
            let slots = self.deposit(to.task, cargo);
            let slots = slots.get(..info.rights()).unwrap_or(&slots);
            machine.write_rights(to.context, slots);
        }
        let payload = self.ports.at(port).cells.payload.get();
        let outcome = outcome(Ok(()), sent);
        machine.set_message(to.context, outcome, payload, token, info);
        machine.trace(Event::Message {
            info,
            to: to.thread,
        });
    }

    /// Hands an answer, whose words and body are in place, to the thread that called.
    #[inline]
    pub(crate) fn deliver_answer(
        &mut self,
        machine: &mut impl Machine,
        to: Running,
        info: Info,
        cargo: &Cargo,
    ) {
        self.timers.disarm(&mut self.threads, to.thread);
        let mut result = Ok(());
        let mut arrived = info;
        if info.rights() > 0 {
            result = self.make_fit(to.task, cargo);
            if result.is_ok() {
                let slots = self.deposit(to.task, cargo);
                let slots = slots.get(..info.rights()).unwrap_or(&slots);
                machine.write_rights(to.context, slots);
            } else {
                self.discard(cargo);
                arrived = Info(0);
            }
        }
        machine.set_message(to.context, outcome(result, SENT), 0, NO_TOKEN, arrived);
        machine.trace(Event::Message {
            info,
            to: to.thread,
        });
        self.wake(to.thread);
    }

    /// Takes a message out of the queue of its port.
    pub(crate) fn unqueue_message(&mut self, port: PortId, message: MessageId) {
        let record = self.ports.at_mut(port);
        record.messages.remove(&mut self.messages, message);
        let message = self.messages.at_mut(message);
        message.queue = None;
        let cost = message.cost;
        if message.role == Role::Message {
            record.queued = record.queued.saturating_sub(1);
            self.room_made(port);
        }
        self.take_load(port, cost);
    }

    /// Sees to those who wait for room at a port, if there is some.
    pub(crate) fn room_made(&mut self, port: PortId) {
        let record = self.ports.at(port);
        let wanted = !record.senders.is_empty() || !record.possibles.is_empty();
        if wanted && record.has_room() {
            self.add_work(port);
        }
    }

    /// The id of a call that the kernel makes for a thread.
    pub(crate) const fn kernel_info(call: Call) -> Info {
        match call {
            Call::Fault => Info::short(fault::FAULT).from_kernel(),
            Call::Exception(_) => Info::short(exception::EXCEPTION).from_kernel(),
            Call::Message => Info(0),
        }
    }
}
