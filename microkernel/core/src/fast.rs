//! The fast paths: a call, an answer and a fault that meet somebody who waits for them.
//!
//! Sender and receiver are known, nothing is queued, nobody else wants the processor: then the
//! message goes straight from thread to thread, and its words stay in the registers where they are.
//! Each function here either does all that the general path would, or gives `None` and has changed
//! nothing: then the general path decides, with every error in its order. So a fast path needs no
//! error codes; the tests of `model` compare the two after every step of random schedules.
//!
//! What a fast path leaves out is what cannot be needed: no queue is entered, the run queue holds
//! nobody as important as the receiver, so no slice begins, and no deadline is set or taken back, so
//! the alarm stays as it is.

use crate::{
    kernel::{Kernel, Running, TaskId, ThreadId},
    list::List,
    machine::{Context, SpaceId},
    port::PortId,
    slab::Slab,
    space::Holds,
    thread::{Call, QUEUE, Source, State, Thread},
};
use ipc_abi::{
    buffer::BODY_SIZE,
    fault::Fault,
    message::{FOREVER, Outcome},
    right::SpecialPort,
    types::Prot,
};

/// What the shell has to do after a fast path: make `to` the running thread and give it its results.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Who goes on.
    pub to: Context,
    /// RAX of its trap.
    pub outcome: Outcome,
    /// RDI of its trap.
    pub payload: u64,
    /// RSI of its trap.
    pub token: u64,
    /// The kernel's number of the thread that it comes from.
    pub from: u64,
}

/// What a thread that answers a fault wants done, before the answer is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastFault {
    /// Space that the translation goes to.
    pub space: SpaceId,
    /// Who faulted.
    pub to: Context,
}

/// What became of an answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// A `msg` call: it has its results.
    Call(Handed),
    /// A fault: the thread goes on as it was.
    Fault(Context),
}

impl Kernel {
    /// The call of the running thread, if a thread waits for it: everything but words and body.
    #[inline(always)]
    pub fn fast_call(&mut self, destination: u64, info: u64, deadline: u64) -> Option<Handed> {
        let me = self.current?;
        if info >> 32 > BODY_SIZE as u64 || deadline != FOREVER || self.has_work() {
            return None;
        }
        let names = &self.tasks.get(me.task)?.names;
        let port = match names.get(destination)?.holds {
            Holds::Port { port, refs, .. } if refs > 0 => port,
            _ => return None,
        };
        self.fast_hand_over(me, port, Call::Message)
    }

    /// The page fault of the running thread, if its server waits for it.
    #[inline(always)]
    pub fn fast_fault(&mut self, address: u64, access: Prot, ip: u64) -> Option<Handed> {
        let me = self.current?;
        if self.has_work() {
            return None;
        }
        let port = self.tasks.get(me.task)?.special(SpecialPort::Map)?;
        let handed = self.fast_hand_over(me, port, Call::Fault)?;
        if let Some(thread) = self.threads.get_mut(me.thread) {
            thread.fault = Fault {
                address,
                access,
                ip,
                thread: u64::from(me.thread.index()),
            };
        }
        Some(handed)
    }

    /// Hands what a thread calls with to the first that waits at a port.
    #[inline(always)]
    fn fast_hand_over(&mut self, me: Running, port: PortId, call: Call) -> Option<Handed> {
        if self.threads.get(me.thread)?.notice_out {
            return None;
        }
        let record = self.ports.get_mut(port)?;
        let payload = record.payload;
        let receivers = match record.receivers.is_empty() {
            false => &mut record.receivers,
            true => &mut self.sets.get_mut(record.set?)?.receivers,
        };
        let first = receivers.first()?;
        let receiver = self.threads.get_mut(first)?;
        let State::Receiving { sent, .. } = receiver.state else {
            return None;
        };
        if receiver.timer.is_some() || !self.run_queue.is_below(receiver.priority) {
            return None;
        }
        // From here on nothing fails.
        let server = receiver.run(first);
        self.priority = receiver.priority;
        receivers.take_first(&mut self.threads);
        self.current = Some(server);
        let number = self.calls.wrapping_add(1);
        self.calls = number;
        if let Some(caller) = self.threads.get_mut(me.thread) {
            caller.state = State::Awaiting {
                server: server.task,
                through: port,
                call,
            };
            caller.call = number;
        }
        Some(Handed {
            to: server.context,
            outcome: sent,
            payload,
            token: crate::call::token(me.thread, number),
            from: u64::from(me.thread.index()),
        })
    }

    /// The answer of the running thread, which then waits again: everything but words and body.
    /// A fault's is resolved by `enter`, which is asked last and may refuse.
    #[inline(always)]
    pub fn fast_answer(
        &mut self,
        token: u64,
        (source, deadline): (u64, u64),
        info: u64,
        enter: impl FnOnce(FastFault) -> bool,
    ) -> Option<Answered> {
        let me = self.current?;
        if info >> 32 > BODY_SIZE as u64 || deadline != FOREVER || self.has_work() {
            return None;
        }
        let source = self.fast_source(me.task, source)?;
        let (caller, call) = self.awaiting(me.task, token)?;
        let record = self.threads.get(caller)?;
        let to = record.actor(caller);
        if record.timer.is_some() || !self.run_queue.is_below(record.priority) {
            return None;
        }
        let priority = record.priority;
        match call {
            Call::Message => {}
            Call::Fault if info >> 32 == 0 => {
                let fault = FastFault {
                    space: to.space,
                    to: to.context,
                };
                if !enter(fault) {
                    return None;
                }
            }
            Call::Fault | Call::Exception(_) => return None,
        }
        // From here on nothing fails.
        let receivers = match source {
            Source::Port(port) => &mut self.ports.get_mut(port)?.receivers,
            Source::Set(set) => &mut self.sets.get_mut(set)?.receivers,
        };
        receivers.push_back(&mut self.threads, me.thread);
        self.threads.get_mut(me.thread)?.state = State::Receiving {
            source,
            sent: Outcome(Outcome::SENT),
        };
        self.threads.get_mut(caller)?.state = State::Running;
        self.priority = priority;
        self.current = Some(to);
        Some(match call {
            Call::Message => Answered::Call(Handed {
                to: to.context,
                outcome: Outcome(Outcome::SENT),
                payload: 0,
                token: 0,
                from: u64::from(me.thread.index()),
            }),
            _ => Answered::Fault(to.context),
        })
    }

    /// What a receive names, if nothing has come there yet.
    #[inline(always)]
    fn fast_source(&self, task: TaskId, name: u64) -> Option<Source> {
        match self.tasks.get(task)?.names.get(name)?.holds {
            Holds::Port {
                port,
                receive: true,
                ..
            } => (!self.ports.get(port)?.has_item()).then_some(Source::Port(port)),
            Holds::Set(set) => {
                let record = self.sets.get(set)?;
                (record.ready.is_empty()).then_some(Source::Set(set))
            }
            _ => None,
        }
    }
}

impl List<Thread, QUEUE> {
    /// Takes the first out. Mostly it is alone, and then its links say so already.
    #[inline(always)]
    fn take_first(&mut self, threads: &mut Slab<Thread>) {
        if self.is_single() {
            *self = List::NEW;
        } else {
            self.take_first_of_many(threads);
        }
    }

    #[cold]
    fn take_first_of_many(&mut self, threads: &mut Slab<Thread>) {
        let _: Option<ThreadId> = self.pop_front(threads);
    }
}
