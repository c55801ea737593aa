//! Who runs: waking, waiting, direct switch, preemption, slices and deadlines.
//!
//! Operations only say who became ready ([`Kernel::wake`]) and who waits ([`Kernel::wait`]);
//! [`Kernel::dispatch`], at the end of each of them, decides. The thread woken last is kept aside
//! (`handoff`): if the caller waits and nobody ready is more important, it gets the processor at
//! once, and the run queue is not touched.

use crate::{
    kernel::{Kernel, Running, ThreadId},
    machine::Machine,
    processors::Turn,
    thread::State,
};
use ipc_abi::{
    Kern,
    message::{FOREVER, Info, Outcome},
};

/// Nanoseconds that a thread runs before others of its priority get their turn.
pub const SLICE: u64 = 10_000_000;

/// Longest wait, in nanoseconds, for another step of work while a thread keeps the processor.
const WORK_DELAY: u64 = 1_000_000;

/// Deadlines handled in one go.
const EXPIRE_BATCH: u32 = 64;

impl Kernel {
    /// The thread that has the processor; `None`: idle until an interrupt (after [`Kernel::step`]
    /// has no more to do).
    #[inline]
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        self.seat.current.get().map(|current| current.actor.get())
    }

    /// When [`Kernel::expire`] wants to be called, in nanoseconds: the first deadline, or the end of
    /// the running thread's slice if another of its priority is ready, or soon if steps are left to
    /// do. `FOREVER`: not at all. The clock is read only if a slice begins. Cheap: call it before
    /// each return to ring 3, and program the timer if the answer is earlier than what is programmed.
    #[inline]
    pub fn alarm(&mut self, now: impl Fn() -> u64) -> u64 {
        self.deadline().min(self.turn_end(now))
    }

    /// The part of [`Kernel::alarm`] that any processor can see to: the first deadline.
    #[inline]
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.timers.first(&self.threads)
    }

    /// The part of [`Kernel::alarm`] that only this processor can see to.
    #[inline]
    pub fn turn_end(&mut self, now: impl Fn() -> u64) -> u64 {
        let mut alarm = FOREVER;
        if self.seat.current.get().is_some() {
            if self.run_queue.has(self.seat.priority.get()) {
                if self.slice() == FOREVER {
                    self.set_slice(now().saturating_add(SLICE));
                }
                alarm = self.slice();
            }
            if self.has_work() {
                alarm = alarm.min(now().saturating_add(WORK_DELAY));
            }
        }
        alarm
    }

    /// Handles the timer interrupt: wakes those whose deadline passed, ends slices. Harmless when
    /// early.
    pub fn expire(&mut self, machine: &mut impl Machine, now: u64) {
        for _ in 0..EXPIRE_BATCH {
            let Some(thread) = self.timers.pop(&mut self.threads, now) else {
                break;
            };
            self.time_out(machine, thread);
        }
        if self.slice() <= now {
            self.rotate();
        }
        self.dispatch();
    }

    /// Charges the running thread with processor time, because it was found running when a sample was due.
    /// A switch reads no clock: a call with its answer has two, and each reading would cost it a
    /// twentieth.
    pub fn sample(&mut self, nanoseconds: u64) {
        let Some(running) = self.running() else {
            return;
        };
        let time = &mut self.threads.at_mut(running.thread).time;
        *time = time.saturating_add(nanoseconds);
        let time = &mut self.tasks.at_mut(running.task).time;
        *time = time.saturating_add(nanoseconds);
    }

    /// Trap `thread_yield`.
    pub fn thread_yield(&mut self) {
        self.rotate();
        self.dispatch();
    }

    /// Gives the processor to a ready thread, whatever its priority, until the next decision. For tests.
    pub fn yield_to(&mut self, thread: ThreadId) {
        let ready = self.threads.get(thread);
        if ready.is_some_and(|thread| thread.state.get() == State::Ready) {
            self.preempt();
            self.unqueue(thread);
            self.seat.run(self.threads.at(thread).cells);
            self.share();
        }
    }

    /// Puts the running thread behind its equals.
    fn rotate(&mut self) {
        if let Some(running) = self.running()
            && self.run_queue.has(self.seat.priority.get())
        {
            self.set_slice(FOREVER);
            self.seat.current.set(None);
            self.stand_back(running.thread, Turn::Last);
        }
    }

    /// Puts the running thread in front of its equals.
    fn preempt(&mut self) {
        if let Some(running) = self.seat.current.take() {
            self.stand_back(running.actor.get().thread, Turn::Next);
        }
    }

    /// Puts a thread that ran among those that are ready, or aside if it was suspended meanwhile.
    fn stand_back(&mut self, thread: ThreadId, turn: Turn) {
        let record = self.threads.at_mut(thread);
        if record.is_suspended() {
            record.state.set(State::Stopped);
        } else {
            record.state.set(State::Ready);
            self.make_ready(thread, turn);
        }
    }

    /// Makes a thread that is in no queue ready, unless it is suspended.
    #[inline(always)]
    pub(crate) fn wake(&mut self, thread: ThreadId) {
        let record = self.threads.at_mut(thread);
        record.token.set(0);
        if record.is_suspended() {
            record.state.set(State::Stopped);
            return;
        }
        record.state.set(State::Ready);
        if let Some(earlier) = self.handoff.replace(thread) {
            self.make_ready(earlier, Turn::Last);
        }
    }

    /// Takes a ready thread away from where it waits for the processor.
    pub(crate) fn unready(&mut self, thread: ThreadId) {
        if self.handoff == Some(thread) {
            self.handoff = None;
        } else {
            self.unqueue(thread);
        }
    }

    /// Has a thread, which is in no queue, wait in a state. Queueing it is the caller's.
    #[inline]
    pub(crate) fn wait(&mut self, thread: ThreadId, state: State) {
        let record = self.threads.at_mut(thread);
        record.token.set(0);
        record.state.set(state);
        self.leave(thread);
    }

    /// Takes the processor from a thread, if it has it.
    #[inline]
    pub(crate) fn leave(&mut self, thread: ThreadId) {
        if self
            .running()
            .is_some_and(|running| running.thread == thread)
        {
            self.seat.current.set(None);
        }
    }

    /// Decides who runs from here on.
    #[inline(always)]
    pub(crate) fn dispatch(&mut self) {
        if let Some(next) = self.handoff.take() {
            let record = self.threads.at_mut(next);
            let first = self
                .run_queue
                .top()
                .is_none_or(|top| top <= record.priority.get());
            let here = record
                .pin
                .is_none_or(|pin| usize::from(pin) == self.processors.here);
            if self.seat.current.get().is_none() && first && here {
                self.seat.run(record.cells);
                // Who was woken before it may have come to this queue while nobody ran here.
                return self.share();
            }
            self.make_ready(next, Turn::Last);
        }
        self.send_away();
        let more_important = |top| top > self.seat.priority.get();
        if self.seat.current.get().is_none() || self.run_queue.top().is_some_and(more_important) {
            self.preempt();
            if let Some(next) = self.next_ready() {
                self.seat.run(next);
            }
        }
        self.share();
    }

    /// When the turn at the running thread's priority ends. A turn belongs to the priority, not to the
    /// thread: calls to a server and preemption do not prolong it, or two threads that call each
    /// other would keep all their equals from the processor.
    fn slice(&self) -> u64 {
        self.run_queue.slice(self.seat.priority.get())
    }

    fn set_slice(&mut self, end: u64) {
        self.run_queue.set_slice(self.seat.priority.get(), end);
    }

    /// A thread as an actor: the running one, or one that the kernel acts for.
    #[inline]
    pub(crate) fn actor(&self, thread: ThreadId) -> Running {
        self.threads.at(thread).actor.get()
    }

    /// Ends the `msg` trap of a thread, which is in no queue, without a message.
    pub(crate) fn finish(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        result: Result<(), Kern>,
        sent: Outcome,
    ) {
        let record = self.threads.at(thread);
        let outcome = outcome(result, sent);
        machine.set_message(record.context, outcome, 0, 0, Info(0));
        if record.state.get() != State::Running {
            self.wake(thread);
        }
    }

    /// Changes the priority in force of a thread, wherever it is queued.
    pub(crate) fn set_priority(&mut self, thread: ThreadId, priority: u8) {
        let state = self.threads.at(thread).state.get();
        match state {
            State::Ready => {
                self.unqueue(thread);
                self.threads.at_mut(thread).set_priority(priority);
                self.make_ready(thread, Turn::Last);
            }
            State::Calling(port, _) => {
                let caller = self.threads.at_mut(thread);
                let callers = &self.ports.at(port).callers;
                callers.remove(caller.cells);
                caller.set_priority(priority);
                callers.insert(caller.cells);
            }
            State::Running => {
                self.threads.at_mut(thread).set_priority(priority);
                self.running_priority(thread, priority);
            }
            State::Sending(_)
            | State::Awaiting { .. }
            | State::Receiving { .. }
            | State::Stopped
            | State::Noticed
            | State::Aside => self.threads.at_mut(thread).set_priority(priority),
        }
    }
}

/// The outcome word of a trap: its code, and whether the send half was done.
#[inline]
pub(crate) fn outcome(result: Result<(), Kern>, sent: Outcome) -> Outcome {
    Outcome(sent.0 | u64::from(ipc_abi::kern_return::to_raw(result)))
}

/// Nothing was sent (or there was nothing to send).
pub(crate) const NOT_SENT: Outcome = Outcome(0);
/// The send half is done.
pub(crate) const SENT: Outcome = Outcome(Outcome::SENT);
