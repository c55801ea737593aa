//! Ends, and everything else that is done in bounded steps.
//!
//! The end of a port or task takes effect at once (look-ups find it dead); what hangs on it is taken
//! down later, some items a step, from lists that run through the records themselves. So nothing
//! recurses however rights lie inside each other, and no single trap is long. The same list carries
//! ports whose queue has room again for those who wait, or a notice for a thread that waits.

use crate::{
    account,
    kernel::{Kernel, TaskId, ThreadId},
    machine::{Machine, Progress, Report},
    message::{EMPTY, Role},
    notices::Text,
    port::{Object, Place, PortId, SetId},
    schedule::NOT_SENT,
    send::{Half, Turn},
    space::Holds,
    task::Life,
    thread::State,
};
use ipc_abi::{Kern, notify, right::SpecialPort};

/// Items of work that a step does, about.
const STEP: u32 = 64;
/// Chunks of records of each kind that a step gives back.
const CHUNKS: u32 = 2;
/// Items of those that all ports together get.
const PORTS: u32 = 32;
/// Items that one port, set or task gets before the next has its turn.
const TURN: u32 = 16;

impl Kernel {
    /// Whether [`Kernel::step`] has something to do. Cheap.
    #[inline]
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_ends() || self.loose
    }

    #[inline]
    fn has_ends(&self) -> bool {
        !self.busy_ports.is_empty()
            || !self.ending.is_empty()
            || !self.dead_sets.is_empty()
            || self.search.is_on()
    }

    /// Does a bounded piece (about 64 items) of deferred work: the ends of ports and tasks, and those
    /// who wait for room. Call it before each return to ring 3 while [`Kernel::has_work`], and when
    /// idle.
    pub fn step(&mut self, machine: &mut impl Machine) -> Progress {
        // Each kind has its turn: none can keep the others from ending.
        self.step_ports(machine);
        if let Some(task) = self.ending.pop_front(&mut self.tasks)
            && self.step_task(machine, task) == Progress::More
        {
            self.ending.push_back(&mut self.tasks, task);
        }
        self.step_search();
        self.dispatch();
        if !self.has_ends() {
            self.loose = self.trim();
        }
        if self.has_work() {
            Progress::More
        } else {
            Progress::Done
        }
    }

    /// Whether much of the memory of what has ended can be given back.
    fn is_loose(&self) -> bool {
        self.ports.is_loose()
            || self.messages.is_loose()
            || self.threads.is_loose()
            || self.sets.is_loose()
            || self.members.is_loose()
    }

    /// Gives back some of the memory of what has ended; says whether there was any.
    fn trim(&mut self) -> bool {
        let mut any = false;
        for _ in 0..CHUNKS {
            any |= self.ports.trim();
            any |= self.messages.trim();
            any |= self.threads.trim();
            any |= self.tasks.trim();
            any |= self.sets.trim();
            any |= self.members.trim();
        }
        self.timers.trim(self.threads.len());
        // A task has given names back that lay before others: each has its turn, now or after another end.
        for _ in 0..TURN {
            let index = self.next_trim.0;
            self.next_trim.0 = index.saturating_add(1);
            if index >= self.tasks.slots() {
                self.next_trim.0 = 0;
            } else if let Some((task, _)) = self.tasks.by_index(index) {
                any |= self.tasks.at_mut(task).names.trim();
            }
        }
        any
    }

    /// Ends a trap: does the first of what it left to do, and decides who runs. No task's end is gone
    /// on with, so the thread that made the trap is still there for its result.
    pub(crate) fn settle(&mut self, machine: &mut impl Machine) {
        if self.has_work() {
            self.step_ports(machine);
            self.loose = self.is_loose();
        }
        self.dispatch();
    }

    fn step_ports(&mut self, machine: &mut impl Machine) {
        let mut budget = PORTS;
        while budget > 0
            && let Some(port) = self.busy_ports.pop_front(&mut self.ports)
        {
            self.turn_of_port(machine, port, &mut budget);
        }
        if let Some(set) = self.dead_sets.first()
            && self.step_set(machine, set) == Progress::Done
        {
            self.dead_sets.remove(&mut self.sets, set);
            self.sets.remove(set);
        }
    }

    /// Has a port looked at by the next steps.
    pub(crate) fn add_work(&mut self, port: PortId) {
        let record = self.ports.at_mut(port);
        if !record.busy {
            record.busy = true;
            self.busy_ports.push_back(&mut self.ports, port);
        }
    }

    // Ports.

    /// A port's turn. It counts as busy meanwhile, so that its record stays.
    fn turn_of_port(&mut self, machine: &mut impl Machine, port: PortId, budget: &mut u32) {
        let was_dead = self.ports.at(port).is_dead();
        *budget = budget.saturating_sub(1);
        let progress = self.step_port(machine, port, budget);
        let record = self.ports.at_mut(port);
        record.busy = false;
        if progress == Progress::More || record.is_dead() && !was_dead {
            self.add_work(port);
        } else {
            self.bury(port);
        }
    }

    fn step_port(
        &mut self,
        machine: &mut impl Machine,
        port: PortId,
        budget: &mut u32,
    ) -> Progress {
        let record = self.ports.at(port);
        match (record.place, record.object) {
            (Place::Dead, Object::HostMemory(owner)) => match self.sweep(owner) {
                Progress::More => Progress::More,
                Progress::Done => self.step_dead_port(machine, port, budget),
            },
            (Place::Kernel, Object::HostMemory(owner)) if record.sends == 0 => {
                self.end_server(owner);
                Progress::Done
            }
            (Place::Dead, _) => self.step_dead_port(machine, port, budget),
            (
                Place::Kernel,
                Object::Space {
                    space,
                    owner,
                    occupant: None,
                },
            ) if record.sends == 0 || self.is_ending(owner) => {
                if machine.space_clear(space) == Progress::More {
                    return Progress::More;
                }
                if let Some(bill) = machine.space_free(space) {
                    self.bill(bill);
                }
                self.kill_port(port);
                self.forget_space(space, owner);
                Progress::Done
            }
            (Place::Kernel, Object::Interrupt(interrupt)) if record.sends == 0 => {
                self.interrupt_free(machine, interrupt);
                self.kill_port(port);
                Progress::Done
            }
            (Place::Kernel, Object::IoPorts { maker, .. }) if record.sends == 0 => {
                self.refund(maker, account::PORT);
                self.kill_port(port);
                Progress::Done
            }
            (Place::Kernel, _) => Progress::Done,
            _ => self.step_live_port(machine, port, budget),
        }
    }

    /// Brings together what lies in the queue and who waits; lets in those who wait for room.
    fn step_live_port(
        &mut self,
        machine: &mut impl Machine,
        port: PortId,
        budget: &mut u32,
    ) -> Progress {
        for _ in 0..=TURN.min(*budget) {
            let record = self.ports.at(port);
            if record.has_item()
                && let Some(thread) = self.waiting(port)
            {
                let State::Receiving { source, sent } = self.threads.at(thread).state.get() else {
                    return Progress::Done;
                };
                self.unlink_receiver(thread, source);
                let receiver = self.actor(thread);
                self.receive(machine, receiver, source, ipc_abi::message::FOREVER, sent);
            } else if record.has_room() && !record.senders.is_empty() {
                self.let_in(machine, port);
            } else if !record.has_room() || !self.tell_possible(port) {
                return Progress::Done;
            }
            *budget = budget.saturating_sub(1);
        }
        Progress::More
    }

    /// Sends for the thread that waited longest for room.
    fn let_in(&mut self, machine: &mut impl Machine, port: PortId) {
        let Some(sender) = self.ports.at(port).senders.pop_front() else {
            return;
        };
        let thread = sender.id();
        self.wait(thread, State::Aside);
        let sender = self.actor(thread);
        let msg = self.threads.at(thread).msg;
        match self.send_half(machine, sender, &msg, Turn::First) {
            Ok(Half::Sent) => {
                self.timers.disarm(&mut self.threads, thread);
                self.after_send(machine, sender, &msg);
            }
            // Its name has come to denote another port, and that one is full.
            Ok(Half::Full(other)) => self.wait_for_room(thread, other, Turn::Last),
            Err(code) => {
                self.timers.disarm(&mut self.threads, thread);
                self.finish(machine, thread, Err(code), NOT_SENT);
            }
        }
    }

    /// Ends a port, unless somebody wants its receive right: from now on it is dead to everybody. The
    /// receive right is the caller's to forget.
    pub(crate) fn kill_port(&mut self, port: PortId) {
        if self.ports.at(port).is_dead() {
            return;
        }
        self.leave_sets(port);
        if self.tell_destroyed(port) {
            return;
        }
        self.move_receive(port, Place::Dead);
        if !self.ports.at(port).is_bare() {
            self.add_work(port);
        }
    }

    fn step_dead_port(
        &mut self,
        machine: &mut impl Machine,
        port: PortId,
        budget: &mut u32,
    ) -> Progress {
        for _ in 0..=TURN.min(*budget) {
            if !self.clear_one(machine, port) {
                let request = self.ports.at_mut(port).no_senders.take();
                if let Some(request) = request {
                    self.forget_request(request);
                }
                return Progress::Done;
            }
            *budget = budget.saturating_sub(1);
        }
        Progress::More
    }

    /// Takes down one thing that hangs on a dead port. `false`: nothing is left.
    fn clear_one(&mut self, machine: &mut impl Machine, port: PortId) -> bool {
        let record = self.ports.at_mut(port);
        if let Some(message) = record.messages.first() {
            self.unqueue_message(port, message);
            let cargo = self.messages.at(message).cargo;
            self.retire(message);
            self.discard(&cargo);
        } else if let Some(caller) = record.callers.first() {
            record.callers.remove(caller);
            self.fail_queued(machine, caller.id());
        } else if let Some(sender) = record.senders.pop_front() {
            let sender = sender.id();
            self.timers.disarm(&mut self.threads, sender);
            self.finish(machine, sender, Err(Kern::SendInvalidDest), NOT_SENT);
        } else if let Some(receiver) = record.cells.spot.first() {
            let sent = self.stop_receiving(receiver);
            self.finish(machine, receiver, Err(Kern::ReceivePortDied), sent);
        } else {
            return self.tell_dead_name(port) || self.tell_possible(port);
        }
        true
    }

    fn fail_queued(&mut self, machine: &mut impl Machine, caller: ThreadId) {
        self.drop_forwarded(caller);
        let thread = self.threads.at_mut(caller);
        let cargo = core::mem::replace(&mut thread.cargo, EMPTY);
        if let State::Calling(_, call) = thread.state.get() {
            self.discard(&cargo);
            self.fail_call(machine, caller, call);
        }
    }

    // Sets.

    /// Ends a port set whose name is gone.
    pub(crate) fn kill_set(&mut self, set: SetId) {
        self.sets.at_mut(set).dead = true;
        self.dead_sets.push_back(&mut self.sets, set);
    }

    fn step_set(&mut self, machine: &mut impl Machine, set: SetId) -> Progress {
        for _ in 0..TURN {
            let record = self.sets.at(set);
            if let Some(receiver) = record.spot.first() {
                let sent = self.stop_receiving(receiver);
                self.finish(machine, receiver, Err(Kern::ReceivePortDied), sent);
            } else if let Some(member) = record.members.first() {
                self.leave_set(member);
            } else {
                return Progress::Done;
            }
        }
        Progress::More
    }

    // Threads.

    /// Ends a thread; what it waited for does not come any more.
    pub(crate) fn end_thread(&mut self, machine: &mut impl Machine, thread: ThreadId) {
        self.detach(thread);
        let Some(record) = self.threads.get(thread) else {
            return;
        };
        let (context, space, slot) = (record.context, record.space, record.slot);
        let (task, port, notice) = (record.task, record.port, record.notice);
        let notice_out = record.notice_out;
        let heard = record.heard;
        machine.thread_free(context, space, u64::from(slot));
        let task = self.tasks.at_mut(task);
        task.threads.remove(&mut self.threads, thread);
        task.thread_count = task.thread_count.saturating_sub(1);
        if heard != task.change {
            task.unreached = task.unreached.saturating_sub(1);
        }
        self.timers.forget(&mut self.threads, thread);
        task.slots.give(slot);
        task.names.account.release(account::THREAD);
        let was_last = task.threads.is_empty() && task.life == Life::Alive;
        while let Some(port) = self.threads.at_mut(thread).handlers.take() {
            self.drop_send(port);
        }
        self.threads.remove(thread);
        if was_last {
            self.search();
        }
        if notice_out {
            self.messages.at_mut(notice).role = Role::Spent;
        } else {
            self.messages.remove(notice);
        }
        self.kill_port(port);
        self.loose |= self.threads.is_loose();
    }

    // Tasks.

    /// Begins the end of a task. The threads of a small task are gone at once.
    pub(crate) fn end_task(&mut self, task: TaskId, status: u64) {
        let record = self.tasks.at_mut(task);
        if record.life == Life::Alive {
            record.life = Life::Threads;
            record.status = status;
            let space = record.space;
            self.acquit(task);
            self.ending.push_front(&mut self.tasks, task);
            self.end_server_in(space);
        }
    }

    fn step_task(&mut self, machine: &mut impl Machine, task: TaskId) -> Progress {
        match self.tasks.at(task).life {
            Life::Alive => return Progress::Done,
            Life::Threads => self.step_threads(machine, task),
            Life::Names(from) => self.step_names(task, from),
            Life::Callers(from) => self.step_callers(machine, task, from),
            Life::Space => return self.step_space(machine, task),
        }
        Progress::More
    }

    pub(crate) fn step_threads(&mut self, machine: &mut impl Machine, task: TaskId) {
        for _ in 0..TURN {
            let Some(thread) = self.tasks.at(task).threads.first() else {
                self.tasks.at_mut(task).life = Life::Names(0);
                return;
            };
            self.end_thread(machine, thread);
        }
    }

    fn step_names(&mut self, task: TaskId, from: u32) {
        let end = from.saturating_add(TURN);
        for index in from..end {
            let Some((name, entry)) = self.tasks.at(task).names.at_index(index) else {
                continue;
            };
            let holds = entry.holds;
            self.cancel_requests(task, u64::from(name));
            self.tasks
                .at_mut(task)
                .names
                .remove(name, &mut self.names_stamp);
            match holds {
                Holds::Nothing { .. } => {}
                Holds::Set(set) => {
                    self.account(task).release(account::SET);
                    self.kill_set(set);
                }
                Holds::Once { port, .. } => self.drop_once(port),
                Holds::Port {
                    port,
                    receive,
                    refs,
                } => {
                    if receive {
                        self.kill_port(port);
                    }
                    if refs > 0 {
                        self.drop_send(port);
                    }
                }
            }
        }
        let done = end >= self.tasks.at(task).names.slots();
        self.tasks.at_mut(task).life = if done {
            Life::Callers(0)
        } else {
            Life::Names(end)
        };
    }

    /// Wakes those who wait for an answer that the task can give no more.
    fn step_callers(&mut self, machine: &mut impl Machine, task: TaskId, from: u32) {
        let end = from.saturating_add(STEP);
        for index in from..end.min(self.threads.slots()) {
            if let Some((thread, record)) = self.threads.by_index(index)
                && let State::Awaiting { server, call, .. } = record.state.get()
                && server == task
            {
                self.wait(thread, State::Aside);
                self.fail_call(machine, thread, call);
            }
        }
        self.tasks.at_mut(task).life = if end >= self.threads.slots() {
            Life::Space
        } else {
            Life::Callers(end)
        };
    }

    fn step_space(&mut self, machine: &mut impl Machine, task: TaskId) -> Progress {
        let space = self.tasks.at(task).space;
        if machine.space_clear(space) == Progress::More {
            return Progress::More;
        }
        self.bury_task(machine, task);
        Progress::Done
    }

    /// The last step: tells of the end, and frees the record.
    fn bury_task(&mut self, machine: &mut impl Machine, task: TaskId) {
        let record = self.tasks.at_mut(task);
        let (port, status, notice) = (record.port, record.status, record.notice);
        let suspension = record.suspension;
        let space_port = record.space_port.take();
        let map = record.special(SpecialPort::Map);
        let (maker, quota) = (
            record.maker,
            account::set_aside(record.names.account.limit()),
        );
        if let Some(maker) = maker {
            self.refund(maker, account::TASK.saturating_add(quota));
        }
        machine.report(match map {
            Some(_) => Report::Ended { task, status },
            None => Report::RootEnded { status },
        });
        self.disown(suspension);
        match map {
            Some(map) => self.tell(notice, map, Text::new(notify::TASK_ENDED, status, 0)),
            None => self.retire(notice),
        }
        while let Some(port) = self.tasks.at_mut(task).take_special() {
            self.drop_send(port);
        }
        while let Some(port) = self.tasks.at_mut(task).handlers.take() {
            self.drop_send(port);
        }
        if let Some(space_port) = space_port {
            let record = self.ports.at_mut(space_port);
            if let Object::Space {
                owner, occupant, ..
            } = &mut record.object
            {
                *occupant = None;
                let (owner, forsaken) = (*owner, record.sends == 0);
                if forsaken || self.is_ending(owner) {
                    self.add_work(space_port);
                }
            }
        }
        self.ports.at(port).cells.payload.set(status);
        self.kill_port(port);
        self.tasks.remove(task);
    }
}
