//! The rules that the whole state obeys between two operations, as a checker that tests call.
//!
//! - *Rights*: a port's count of send (send-once) rights is the number of names that hold any, plus
//!   those in messages and with waiting callers, plus those that the kernel keeps: special ports,
//!   exception ports (requests that are armed). Its receive right is in exactly the one place that
//!   the port says.
//! - *Queues*: a thread is in exactly the queue that its state says; a message is queued at one port,
//!   or is an armed request, or is an idle notice of a thread, a task, an interrupt or the kernel, and nothing else
//!   is in the slab. A queue counts its tasks' messages.
//! - *Suspension*: a thread that is suspended neither runs nor is ready, and none stands still but for
//!   that; a task counts those of its threads that its last change has not reached yet.
//! - *Sets*: a port is on the lists of those to receive from of all its sets if it has something, else of none.
//! - *Nobody sleeps beside what it waits for*: no thread waits at a port (or set) that has something to
//!   receive, or for room where there is some, unless a step is due for that port.
//! - *Time*: each waiting thread with a deadline is in the heap, once, where it says; the heap is one.
//! - *Accounts*: a port's load is its record, its queue, and the loads of the receive rights in that
//!   queue; a task is charged for exactly what `account` says.
//! - *The dead*: a dead port stays only for rights that point to it or because a step is due.
//! - *The idle*: a task without a thread stays only as long as somebody can reach it, or a step is due.

use crate::{
    kernel::{Kernel, ThreadId},
    message::{Carried, Role},
    port::{Place, Port, PortId},
    space::Holds,
    task::Life,
    thread::{Source, State, Thread},
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};

/// Fails with a text unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

mod accounts;
mod reach;
mod sets;
mod tally;
mod threads;

use tally::{Found, Tally};

impl Kernel {
    /// Checks every rule. For tests: it takes time in proportion to the whole state.
    ///
    /// # Errors
    /// A text that says which rule is broken, and where.
    pub fn check(&self) -> Result<(), String> {
        let mut tally = Tally::default();
        self.walk_tasks(&mut tally)?;
        self.walk_queues(&mut tally)?;
        self.walk_threads(&mut tally)?;
        self.check_ports(&tally)?;
        self.check_messages(&tally)?;
        self.check_sets()?;
        self.check_timers()?;
        self.check_hints()?;
        self.check_loads()?;
        self.check_accounts()?;
        self.check_servers()?;
        self.check_reach()?;
        Ok(())
    }

    fn walk_tasks(&self, tally: &mut Tally) -> Result<(), String> {
        for (id, task) in self.tasks.iter() {
            let mut used: u32 = 0;
            for index in 0..task.names.slots() {
                let Some((name, entry)) = task.names.at_index(index) else {
                    continue;
                };
                used = used.saturating_add(1);
                ensure!(
                    entry.is_free() || task.names.get(u64::from(name)).is_some(),
                    "task {id:?}: name {name} is stale"
                );
                match entry.holds {
                    Holds::Nothing { .. } => {}
                    Holds::Set(set) => {
                        let set = self.sets.get(set);
                        ensure!(
                            set.is_some_and(|set| !set.dead),
                            "task {id:?}: name {name} of a set that is gone"
                        );
                    }
                    Holds::Once { port, refs } => {
                        ensure!(refs > 0, "task {id:?}: name {name} is drained");
                        let port_record = self.ports.get(port).ok_or("a lost port")?;
                        ensure!(
                            refs == 1 || port_record.is_dead(),
                            "task {id:?}: send-once name {name} has {refs} references"
                        );
                        tally.once(port);
                    }
                    Holds::Port {
                        port,
                        receive,
                        refs,
                    } => {
                        ensure!(receive || refs > 0, "task {id:?}: name {name} is drained");
                        ensure!(
                            task.names.find(port) == Some(name),
                            "task {id:?}: name {name} is not found from its port"
                        );
                        if refs > 0 {
                            tally.send(port);
                        }
                        if receive {
                            tally.receive(port);
                            ensure!(
                                self.ports.at(port).place == Place::Held(id, name),
                                "port {port:?} is not where task {id:?} holds it"
                            );
                        }
                    }
                }
                for request in [entry.dead_name, entry.possible].into_iter().flatten() {
                    tally.message(request.index());
                    ensure!(
                        (self.messages.at(request).role.request())
                            .is_some_and(|request| request.task == id && request.name == name),
                        "task {id:?}: name {name} has another's request"
                    );
                }
            }
            ensure!(used == task.names.len(), "task {id:?}: names miscounted");
            for port in task.special_ports().chain(task.handlers.ports()) {
                tally.send(port);
            }
            tally.message(task.notice.index());
            tally.message(task.suspension.index());
            let threads = task.threads.iter(&self.threads).count();
            ensure!(
                threads as u32 == task.thread_count,
                "task {id:?} miscounts its threads"
            );
            let heard = |thread: &ThreadId| self.threads.at(*thread).heard == task.change;
            let unreached = task.threads.iter(&self.threads).filter(|id| !heard(id));
            ensure!(
                unreached.count() as u32 == task.unreached,
                "task {id:?} miscounts whom its suspension has not reached"
            );
            for thread in task.threads.iter(&self.threads) {
                ensure!(
                    self.threads.at(thread).task == id,
                    "thread {thread:?} is on the list of another task"
                );
            }
            let ending = self.ending.iter(&self.tasks).any(|ending| ending == id);
            ensure!(
                ending == (task.life != Life::Alive),
                "task {id:?}: {:?}, and on the list of those that end: {ending}",
                task.life
            );
        }
        Ok(())
    }

    fn walk_queues(&self, tally: &mut Tally) -> Result<(), String> {
        let threads = &self.threads;
        for (id, port) in self.ports.iter() {
            let mut counted: u32 = 0;
            for message in port.messages.iter(&self.messages) {
                let record = self.messages.at(message);
                tally.message(message.index());
                tally.cargo(&record.cargo);
                ensure!(record.queue == Some(id), "message {message:?} is misplaced");
                if record.role == Role::Message {
                    counted = counted.saturating_add(1);
                }
                self.check_transit(&record.cargo, id)?;
            }
            ensure!(counted == port.queued, "port {id:?} miscounts its queue");
            let mut last = u8::MAX;
            for thread in port.callers.iter() {
                let record = threads.at(thread);
                tally.thread(thread.index());
                tally.cargo(&record.cargo);
                ensure!(
                    matches!(record.state.get(), State::Calling(port, _) if port == id),
                    "thread {thread:?} is queued as a caller of {id:?} and is {:?}",
                    record.state.get()
                );
                ensure!(
                    record.priority.get() <= last,
                    "callers of {id:?} out of order"
                );
                last = record.priority.get();
                self.check_transit(&record.cargo, id)?;
            }
            for thread in port.senders.iter() {
                tally.thread(thread.index());
                ensure!(
                    threads.at(thread).state.get() == State::Sending(id),
                    "thread {thread:?} does not send to {id:?}"
                );
            }
            ensure!(
                port.cells.spot.is_sound(),
                "nobody looks for who waits at {id:?}"
            );
            for thread in port.cells.spot.iter() {
                tally.thread(thread.index());
                ensure!(
                    is_receiving(threads.at(thread), Source::Port(id)),
                    "thread {thread:?} does not receive from {id:?}"
                );
            }
            for request in [port.no_senders, port.destroyed].into_iter().flatten() {
                tally.message(request.index());
            }
            for request in port.possibles.iter(&self.messages) {
                let role = self.messages.at(request).role;
                ensure!(
                    matches!(role, Role::Request(_)),
                    "port {id:?} would tell {role:?}"
                );
            }
        }
        for (id, set) in self.sets.iter() {
            ensure!(set.spot.is_sound(), "nobody looks for who waits at {id:?}");
            for thread in set.spot.iter() {
                tally.thread(thread.index());
                ensure!(
                    is_receiving(threads.at(thread), Source::Set(id)),
                    "thread {thread:?} does not receive from {id:?}"
                );
            }
        }
        for (number, _, queue) in self.each_processor() {
            for thread in queue.iter() {
                tally.thread(thread.index());
                let record = threads.at(thread);
                ensure!(
                    record.state.get() == State::Ready && usize::from(record.home) == number,
                    "thread {thread:?} is in the run queue of {number} and not ready there"
                );
            }
        }
        if let Some(port) = self.memory_low.notify {
            tally.once(port);
        }
        tally.message(self.memory_low.message.index());
        for (_, server) in self.servers.iter() {
            if let Some(notify) = server.notify {
                tally.once(notify);
            }
            if let Some(notice) = server.notice {
                tally.message(notice.index());
            }
        }
        for (id, interrupt) in self.interrupts.iter() {
            tally.once(interrupt.to);
            tally.message(interrupt.message.index());
            ensure!(
                self.messages.at(interrupt.message).role == Role::Interrupt(id),
                "interrupt {id:?} has another's message"
            );
        }
        Ok(())
    }

    fn check_transit(&self, cargo: &[Carried], queue: PortId) -> Result<(), String> {
        for carried in cargo {
            if let Carried::Receive(port) = *carried {
                let place = self.ports.at(port).place;
                let known = place == Place::Transit(queue) || place == Place::Dead;
                ensure!(known, "port {port:?} travels through {queue:?} unknowingly");
            }
        }
        Ok(())
    }

    fn check_ports(&self, tally: &Tally) -> Result<(), String> {
        let none = Found::default();
        let mut busy = BTreeMap::new();
        for port in self.busy_ports.iter(&self.ports) {
            busy.insert(port.index(), ());
        }
        let mut armed: BTreeMap<u32, u32> = BTreeMap::new();
        for (_, message) in self.messages.iter() {
            if let Some(request) = message.role.request() {
                let count = armed.entry(request.to.index()).or_default();
                *count = count.saturating_add(1);
            }
        }
        for (id, port) in self.ports.iter() {
            let found = tally.ports.get(&id.index()).unwrap_or(&none);
            let armed = armed.get(&id.index()).copied().unwrap_or(0);
            ensure!(
                port.sends == found.sends,
                "port {id:?} counts {} send rights, there are {}",
                port.sends,
                found.sends
            );
            let onces = found.onces.saturating_add(armed);
            ensure!(
                port.onces == onces,
                "port {id:?} counts {} send-once rights, there are {onces}",
                port.onces
            );
            let receives = u32::from(matches!(port.place, Place::Held(..) | Place::Transit(_)));
            ensure!(
                found.receives == receives,
                "port {id:?} is {:?} and has {} receive rights",
                port.place,
                found.receives
            );
            ensure!(port.place != Place::Moving, "port {id:?} was left behind");
            ensure!(
                port.busy == busy.contains_key(&id.index()),
                "port {id:?} is wrong about its work"
            );
            if !port.busy {
                self.check_idle_port(id, port)?;
            }
        }
        for index in tally.ports.keys() {
            ensure!(
                self.ports.by_index(*index).is_some(),
                "there are rights to port {index}, which is gone"
            );
        }
        Ok(())
    }

    fn check_idle_port(&self, id: PortId, port: &Port) -> Result<(), String> {
        if port.is_dead() {
            let empty = !port.has_item()
                && port.senders.is_empty()
                && port.cells.spot.is_empty()
                && port.dead_names.is_empty()
                && port.possibles.is_empty()
                && port.no_senders.is_none()
                && port.destroyed.is_none();
            ensure!(empty, "something still hangs on dead port {id:?}");
            ensure!(
                port.sends > 0 || port.onces > 0,
                "dead port {id:?} was not buried"
            );
            return Ok(());
        }
        ensure!(
            !port.has_item() || self.waiting(id).is_none(),
            "a thread waits beside what lies in port {id:?}"
        );
        ensure!(
            !port.has_room() || (port.senders.is_empty() && port.possibles.is_empty()),
            "a sender waits for room that port {id:?} has"
        );
        Ok(())
    }

    fn check_messages(&self, tally: &Tally) -> Result<(), String> {
        for (id, message) in self.messages.iter() {
            let found = tally.messages.get(&id.index()).copied().unwrap_or(0);
            // A thread's or the kernel's own notice is found there, and where it is queued.
            let owned = matches!(message.role, Role::Cancelled(thread)
                    if self.threads.get(thread).is_some_and(|thread| thread.notice == id))
                || matches!(
                    message.role,
                    Role::MemoryLow | Role::Interrupt(_) | Role::Suspended
                );
            let expected = if owned && message.queue.is_some() {
                2
            } else {
                1
            };
            ensure!(
                found == expected,
                "message {id:?} ({:?}) is in {found} places",
                message.role
            );
        }
        Ok(())
    }

    /// Has nothing grow any more (or again), as if memory had run out. For tests.
    pub fn freeze(&mut self, frozen: bool) {
        self.tasks.freeze(frozen);
        self.threads.freeze(frozen);
        self.ports.freeze(frozen);
        self.sets.freeze(frozen);
        self.members.freeze(frozen);
        self.messages.freeze(frozen);
        for task in self.tasks.iter_mut() {
            task.names.freeze(frozen);
        }
    }

    /// How much there is of everything: tasks, threads, ports, sets, messages.
    #[must_use]
    pub fn population(&self) -> [u32; 5] {
        [
            self.tasks.len(),
            self.threads.len(),
            self.ports.len(),
            self.sets.len(),
            self.messages.len(),
        ]
    }

    /// A line for each thread that says what it does. For reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (id, thread) in self.threads.iter() {
            text.push_str(&format!(
                "thread {id:?} of task {:?}, priority {}: {:?}\n",
                thread.task,
                thread.priority.get(),
                thread.state.get()
            ));
        }
        if text.is_empty() {
            "no threads\n".to_string()
        } else {
            text
        }
    }
}

fn is_receiving(thread: &Thread, from: Source) -> bool {
    matches!(thread.state.get(), State::Receiving { source, .. } if source == from)
}
