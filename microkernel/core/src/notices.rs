//! Notices: the kernel's one-way messages. Each was allocated when it was asked for; telling only
//! moves it to a queue.
//!
//! A notice whose port is dead is dropped. Nothing is told twice: a request (`requests`) is spent when
//! it is due.

use crate::{
    account,
    cells::Hint,
    kernel::{Kernel, TaskId, ThreadId},
    machine::Machine,
    message::{Carried, EMPTY, Message, MessageId, Request, Role},
    owner::OwnerId,
    port::{Object, Place, PortId},
    space::{Entry, Holds},
    thread::State,
};
use ipc_abi::{
    Kern,
    message::{Info, WORDS},
    notify,
    right::SpecialPort,
};

/// A notice's id and words.
pub(crate) struct Text {
    pub(crate) id: u32,
    pub(crate) words: [u64; WORDS],
}

impl Text {
    pub(crate) const fn new(id: u32, first: u64, second: u64) -> Text {
        Text {
            id,
            words: [first, second, 0, 0, 0, 0],
        }
    }
}

impl Kernel {
    /// Tells the first who asked of the death of a port. `false`: nobody is left.
    pub(crate) fn tell_dead_name(&mut self, port: PortId) -> bool {
        let record = self.ports.at_mut(port);
        let Some(message) = record.dead_names.pop_front(&mut self.messages) else {
            return false;
        };
        let status = match record.object {
            Object::Task(_) => record.cells.payload.get(),
            _ => 0,
        };
        let Role::Request(request) = self.messages.at(message).role else {
            return true;
        };
        if let Some(task) = self.tasks.get_mut(request.task)
            && let Some(entry) = task
                .names
                .get_mut(u64::from(request.name), &mut self.names_stamp)
        {
            entry.dead_name = None;
            if let Entry {
                holds: Holds::Port { refs, .. } | Holds::Once { refs, .. },
                ..
            } = entry
            {
                *refs = refs.saturating_add(1);
            }
        }
        let text = Text::new(notify::DEAD_NAME, u64::from(request.name), status);
        self.tell_request(message, request, text);
        true
    }

    /// Tells the first who waits for room at a port. `false`: nobody is left.
    pub(crate) fn tell_possible(&mut self, port: PortId) -> bool {
        let record = self.ports.at_mut(port);
        let Some(message) = record.possibles.pop_front(&mut self.messages) else {
            return false;
        };
        let Role::Request(request) = self.messages.at(message).role else {
            return true;
        };
        if let Some(task) = self.tasks.get_mut(request.task)
            && let Some(entry) = task
                .names
                .get_mut(u64::from(request.name), &mut self.names_stamp)
        {
            entry.possible = None;
        }
        let text = Text::new(notify::SEND_POSSIBLE, u64::from(request.name), 0);
        self.tell_request(message, request, text);
        true
    }

    /// Tells who asked that a port has no senders any more.
    pub(crate) fn tell_no_senders(&mut self, port: PortId) {
        let record = self.ports.at_mut(port);
        let made = record.make_send;
        let Some(message) = record.no_senders.take() else {
            return;
        };
        if let Role::Request(request) = self.messages.at(message).role {
            self.tell_request(message, request, Text::new(notify::NO_SENDERS, made, 0));
        }
    }

    /// Sends the receive right of a port that is being destroyed to who asked for it. `false`: nobody
    /// did, or that port cannot take it; then it is to die.
    pub(crate) fn tell_destroyed(&mut self, port: PortId) -> bool {
        let Some(message) = self.ports.at_mut(port).destroyed.take() else {
            return false;
        };
        let Role::Request(request) = self.messages.at(message).role else {
            return false;
        };
        let to = request.to;
        if !self.ports.at(to).takes_messages() || self.check_no_cycle(port, to).is_err() {
            self.forget_request(message);
            return false;
        }
        self.move_receive(port, Place::Transit(to));
        if let Some(slot) = self.messages.at_mut(message).cargo.first_mut() {
            *slot = Carried::Receive(port);
        }
        let text = Text::new(notify::PORT_DESTROYED, 0, 0);
        self.tell_request(message, request, text);
        true
    }

    fn tell_request(&mut self, message: MessageId, request: Request, text: Text) {
        let record = self.messages.at_mut(message);
        record.role = Role::Spent;
        let cost = record.cost;
        self.refund(request.task, cost);
        self.tell(message, request.to, text);
        self.drop_once(request.to);
    }

    /// Tells the holder of a thread's token that it is void.
    pub(crate) fn tell_cancelled(&mut self, thread: ThreadId, through: PortId, token: u64) {
        let record = self.threads.at(thread);
        let alive = self.ports.get(through).is_some_and(|port| !port.is_dead());
        if alive && !record.notice_out {
            let message = record.notice;
            let record = self.threads.at_mut(thread);
            record.notice_out = true;
            record.sent_to.set(Hint::NONE);
            record.faults_to.forget();
            self.tell(message, through, Text::new(notify::CANCELLED, token, 0));
        }
    }

    /// The kernel's pool is below its low-water mark and would like `frames`. Sends
    /// KERNEL_MEMORY_LOW once until [`Kernel::memory_donated`].
    pub fn memory_low(&mut self, machine: &mut impl Machine, frames: u64) {
        let Some(notify) = self.memory_low.notify else {
            return;
        };
        let message = self.memory_low.message;
        if self.memory_low.armed && self.messages.at(message).queue.is_none() {
            self.memory_low.armed = false;
            let text = Text::new(notify::KERNEL_MEMORY_LOW, frames, 0);
            self.tell(message, notify, text);
            self.settle(machine);
        }
    }

    /// A donation came: the next shortage is told again.
    pub fn memory_donated(&mut self) {
        self.memory_low.armed = true;
    }

    /// Trap `host_set_memory_low`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn host_set_memory_low(
        &mut self,
        machine: &mut impl Machine,
        host_memory: u64,
        notify: u64,
    ) -> Result<(), Kern> {
        let owner = self.host_memory(host_memory)?;
        let task = self.caller()?.task;
        let port = self.receive_right(task, notify);
        let port = port.ok_or(Kern::InvalidCapability)?;
        let onces = &mut self.ports.at_mut(port).onces;
        *onces = onces.saturating_add(1);
        if owner == OwnerId::FIRST_SERVER {
            *onces = onces.saturating_add(1);
            self.memory_low.armed = true;
            if let Some(earlier) = self.memory_low.notify.replace(port) {
                self.drop_once(earlier);
            }
        }
        if let Some(earlier) = self.set_owner_notify(owner, port) {
            self.drop_once(earlier);
        }
        self.settle(machine);
        Ok(())
    }

    /// Queues a notice that is due; drops it if its port is dead.
    pub(crate) fn tell(&mut self, message: MessageId, to: PortId, text: Text) {
        let port = self.ports.at_mut(to);
        let record = self.messages.at_mut(message);
        let rights = usize::from(record.cargo != EMPTY);
        let info = Info::new(text.id, 0, rights).unwrap_or(Info::short(text.id));
        record.info = info.from_kernel();
        record.words = text.words;
        if !port.takes_messages() {
            self.retire(message);
            return;
        }
        record.stamp = port.stamp();
        record.queue = Some(to);
        let cost = record.cost;
        port.messages.push_back(&mut self.messages, message);
        self.add_load(to, cost);
        self.item_arrived(to);
        if self.waiting(to).is_some() {
            self.add_work(to);
        }
    }

    /// Ends the use of a message that was received or destroyed and is on no list: frees it, or gives
    /// it back to whose notice it is.
    pub(crate) fn retire(&mut self, message: MessageId) {
        let record = self.messages.at_mut(message);
        record.queue = None;
        match record.role {
            Role::Message | Role::Forwarded | Role::Spent | Role::Request(_) | Role::Dormant(_) => {
                self.messages.remove(message);
            }
            Role::MemoryLow | Role::Interrupt(_) | Role::Suspended => {}
            Role::Cancelled(thread) => {
                let owner = self.threads.get_mut(thread);
                let Some(owner) = owner.filter(|owner| owner.notice == message) else {
                    self.messages.remove(message);
                    return;
                };
                owner.notice_out = false;
                if owner.state.get() == State::Noticed {
                    self.wake(thread);
                }
            }
        }
    }

    /// Tells the server of a task's memory that all of the task has been suspended: once each time, and
    /// not while it has not heard of the last.
    pub(crate) fn tell_suspended(&mut self, machine: &mut impl Machine, task: TaskId) {
        let record = self.tasks.at_mut(task);
        let (message, news) = (record.suspension, record.told != record.change);
        let map = record.special(SpecialPort::Map);
        record.told = record.change;
        if let Some(map) = map.filter(|_| news && record.suspended > 0)
            && self.messages.at(message).queue.is_none()
        {
            self.tell(message, map, Text::new(notify::TASK_SUSPENDED, 0, 0));
            self.settle(machine);
        }
    }

    /// Ends the use of a notice that goes back to its owner, who is no more.
    pub(crate) fn disown(&mut self, message: MessageId) {
        let record = self.messages.at_mut(message);
        record.role = Role::Spent;
        if record.queue.is_none() {
            self.messages.remove(message);
        }
    }

    /// Gives a thread a notice for its next token while its last one is still on its way.
    ///
    /// # Errors
    /// MACH_SEND_NO_BUFFER.
    pub(crate) fn renew_notice(&mut self, thread: ThreadId) -> Result<(), Kern> {
        let old = self.threads.at(thread).notice;
        let queue = self.messages.at(old).queue;
        if let Some(queue) = queue {
            let room = self.check_load(queue, account::MESSAGE);
            room.map_err(|_| Kern::SendNoBuffer)?;
        }
        let fresh = Message::notice(Role::Cancelled(thread));
        let fresh = self.messages.insert(fresh);
        let fresh = fresh.map_err(|_| Kern::SendNoBuffer)?;
        // The old one is nobody's from now on, and part of what is queued there.
        if let Some(queue) = queue {
            self.messages.at_mut(old).cost = account::MESSAGE;
            self.add_load(queue, account::MESSAGE);
        }
        let record = self.threads.at_mut(thread);
        record.notice = fresh;
        record.notice_out = false;
        self.messages.at_mut(old).role = Role::Spent;
        Ok(())
    }
}
