//! Several processors: a thread for each receives faults and calls on maps, and one everything else.
//!
//! The server as a whole is behind one lock; receiving is not, nor is the answer that rides on it. So an
//! answer may come to the kernel after what a later event did: its translation then has an old epoch,
//! which the kernel drops, and the client faults again (`Config::in_order`). What names a port, or has its
//! place in the order of messages to a pager, is sent with the lock.
//!
//! One-way messages to the ports of pagers, copies and entries are handled in the order in which they
//! were sent, since one thread receives them. With one processor there is one thread and no lock.
//! A thread that finds the lock held looks again for a while, which is longer than most events take,
//! then parks.

use alloc::vec::Vec;

use ipc::sync::{Lock, Parker, parker};
use ipc::thread::{PRIORITY_MAX, start_on};
use ipc::trap::Received;
use ipc_abi::right::Name;
use ipc_abi::{Kern, kern_return};
use vm_core::event::{Event, Time};

use crate::answer::{Pending, exchange};
use crate::heap;
use crate::serve::Server;
use crate::stop;

/// Words of a thread's stack.
const STACK: usize = 8192;
/// How often a thread looks whether the lock is free before it parks.
const PATIENCE: u32 = 3000;

static SERVER: Lock<Option<Server>> = Lock::new(None);

/// Runs `work` on the server, alone.
fn with<R>(work: impl FnOnce(&mut Server) -> R) -> R {
    let soon = (0..PATIENCE).find_map(|_| SERVER.try_lock());
    let mut held = soon.unwrap_or_else(|| SERVER.lock());
    match &mut *held {
        Some(server) => work(server),
        None => stop(format_args!("a thread is early")),
    }
}

/// Serves for ever, with as many threads as there are processors and one more, if there are several.
pub(crate) fn serve(mut server: Server) -> ! {
    if server.processors < 2 {
        server.serve()
    }
    let (processors, set, maps) = (server.processors, server.ports.set(), server.ports.maps());
    *SERVER.lock() = Some(server);
    for _ in 0..processors {
        if let Err(code) = start(maps) {
            stop(format_args!("cannot start a thread: {code}"));
        }
    }
    receive_from(u64::from(set))
}

fn start(set: Name) -> Result<(), Kern> {
    let mut stack = Vec::new();
    let reserved = stack.try_reserve_exact(STACK);
    reserved.map_err(|_| Kern::ResourceShortage)?;
    stack.resize(STACK, 0);
    start_on(stack.leak(), PRIORITY_MAX, receive_from, u64::from(set))
}

/// A thread: receives from a set, for ever.
fn receive_from(set: u64) -> ! {
    // The port that it parks at is made now, while there is memory for it.
    let _: Parker = parker();
    let (mut answer, mut deadline) = with(|server| server.depart(None));
    loop {
        let received = exchange(answer, set as Name, deadline.0, 0);
        (answer, deadline) = with(|server| {
            let answer = server.respond(answer, &received, deadline);
            server.depart(answer)
        });
    }
}

impl Server {
    /// What was received, or why nothing was, and what became of the answer that was sent before. Gives
    /// what is to be sent.
    fn respond(
        &mut self,
        sent: Option<Pending>,
        received: &Received,
        deadline: Time,
    ) -> Option<Pending> {
        match kern_return::from_raw(received.outcome.code()) {
            Ok(()) => self.respond_to(received),
            // Another thread may have done it meanwhile.
            Err(Kern::ReceiveTimedOut) if self.wake <= deadline => {
                self.wake = Time::NEVER;
                self.handle(Event::Tick)
            }
            Err(Kern::ReceiveTimedOut) if self.step <= deadline => self.next_step(),
            Err(Kern::ResourceShortage) if !received.outcome.was_sent() => {
                self.kernel_is_short();
                self.send_now(sent?.alone());
                None
            }
            // The caller has gone, or a port moved.
            Err(_) => None,
        }
    }

    fn respond_to(&mut self, received: &Received) -> Option<Pending> {
        if !self.core.wants_step() {
            if let Some(answer) = self.fault_answer(received) {
                return Some(Pending::of_whole_fault(&answer));
            }
            if let Some(answer) = self.call_answer(received) {
                let answer = Some(Pending::of_call(&answer));
                if self.core.wants_step() {
                    return self.pay(answer);
                }
                return answer;
            }
            if let Some(answer) = self.copy_answer(received) {
                if self.core.wants_step() {
                    return self.pay(Some(answer));
                }
                return Some(answer);
            }
        }
        let arrived = self.understand(received);
        let answer = self.arrived(arrived);
        if self.core.wants_step() {
            return self.pay(answer);
        }
        answer
    }

    /// Does what is to be done before others have their turn. Gives the answer, if it can be sent after
    /// that, and until when to wait for a message.
    fn depart(&mut self, answer: Option<Pending>) -> (Option<Pending>, Time) {
        let chores = self.has_rest() || self.collecting || heap::is_low();
        let answer = match answer {
            Some(message) if chores || !message.may_wait() => {
                self.send_now(message);
                None
            }
            answer => answer,
        };
        if answer.is_none() {
            while self.has_rest() {
                if let Some(message) = self.rest() {
                    self.send_now(message);
                }
            }
            self.feed_heap();
            if self.collecting {
                self.collect();
            }
        }
        let unfinished = self.core.wants_step();
        (answer, self.deadline(unfinished))
    }

    /// Whether sending and carrying out have left something to be done.
    fn has_rest(&self) -> bool {
        !self.effects.as_slice().is_empty() || !self.later.is_empty()
    }

    fn rest(&mut self) -> Option<Pending> {
        let answer = self.carry_out();
        self.handle_rest(answer)
    }
}
