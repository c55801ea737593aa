//! Suspending and resuming: threads one by one, and all of a task.
//!
//! A thread that is suspended is not taken out of what it waits in: a message may still come to it,
//! and an answer. It only does not run: waking it makes it *stopped*, and resuming makes it ready.
//! A task may have very many threads, so that its count reaches them some at a time; the trap repeats
//! itself until all have heard of it, and the caller hears of it last.

use crate::{
    kernel::{Kernel, TaskId, ThreadId},
    machine::{Machine, Progress},
    thread::{Call, State},
};
use ipc_abi::Kern;

/// Most suspensions that are counted.
const SUSPENDED_MAX: u32 = 1 << 30;
/// Threads of a task that a change of its count reaches in one go.
const REACH: u32 = 64;

impl Kernel {
    /// Trap `thread_suspend`. The caller's result may be written although it does not run any more.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_suspend(&mut self, thread: u64) -> Result<(), Kern> {
        let thread = self.thread_or_caller(thread)?;
        let record = self.threads.at_mut(thread);
        if record.suspended == SUSPENDED_MAX {
            return Err(Kern::Failure);
        }
        record.suspended = record.suspended.saturating_add(1);
        self.heed(thread);
        self.dispatch();
        Ok(())
    }

    /// Trap `thread_resume`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_resume(&mut self, thread: u64) -> Result<(), Kern> {
        let thread = self.resolve_thread(self.caller()?.task, thread)?;
        let record = self.threads.at_mut(thread);
        record.suspended = record.suspended.checked_sub(1).ok_or(Kern::Failure)?;
        self.heed(thread);
        self.dispatch();
        Ok(())
    }

    /// Trap `task_suspend`; `more`: it goes on with one that was begun.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_suspend(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        more: bool,
    ) -> Result<Progress, Kern> {
        let task = self.live_task(self.caller()?.task, task)?;
        let record = self.tasks.at_mut(task);
        if !more {
            if record.suspended == SUSPENDED_MAX {
                return Err(Kern::Failure);
            }
            record.suspended = record.suspended.saturating_add(1);
            if record.suspended == 1 {
                record.changed();
            }
        }
        let progress = self.reach_threads(task);
        if progress == Progress::Done {
            self.tell_suspended(machine, task);
        }
        Ok(progress)
    }

    /// Trap `task_resume`; `more`: it goes on with one that was begun.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_resume(&mut self, task: u64, more: bool) -> Result<Progress, Kern> {
        let task = self.live_task(self.caller()?.task, task)?;
        let record = self.tasks.at_mut(task);
        if !more {
            record.suspended = record.suspended.checked_sub(1).ok_or(Kern::Failure)?;
            if record.suspended == 0 {
                record.changed();
            }
        }
        Ok(self.reach_threads(task))
    }

    /// Lets some more threads of a task hear whether it is suspended.
    fn reach_threads(&mut self, task: TaskId) -> Progress {
        let me = self.running().map(|running| running.thread);
        for _ in 0..REACH {
            let record = self.tasks.at_mut(task);
            let (held, change) = (record.suspended > 0, record.change);
            let Some(thread) = record.threads.first().filter(|_| record.unreached > 0) else {
                break;
            };
            record.threads.remove(&mut self.threads, thread);
            record.threads.push_back(&mut self.threads, thread);
            let heard = self.threads.at(thread).heard == change;
            if heard || me == Some(thread) && record.unreached > 1 {
                continue;
            }
            record.unreached = record.unreached.saturating_sub(1);
            let reached = self.threads.at_mut(thread);
            reached.held = held;
            reached.heard = change;
            self.heed(thread);
        }
        let done = self.tasks.at(task).unreached == 0;
        self.dispatch();
        if done { Progress::Done } else { Progress::More }
    }

    /// Has a thread do what its suspensions say, after a change.
    fn heed(&mut self, thread: ThreadId) {
        let record = self.threads.at_mut(thread);
        record.rank.set(record.true_rank());
        match (record.is_suspended(), record.state.get()) {
            (true, State::Ready) => {
                self.unready(thread);
                self.wait(thread, State::Stopped);
            }
            // Elsewhere it ends what it does in the kernel first.
            (true, State::Running) => self.ask_away(thread),
            (false, State::Stopped) => self.wake(thread),
            _ => {}
        }
    }

    /// Trap `thread_abort_safely`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_abort_safely(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
    ) -> Result<(), Kern> {
        let found = self.resolve_thread(self.caller()?.task, thread)?;
        match self.threads.at(found).state.get() {
            State::Calling(_, Call::Message)
            | State::Awaiting {
                call: Call::Message,
                ..
            } => Err(Kern::Failure),
            _ => self.thread_abort(machine, thread),
        }
    }

    /// The thread that a trap's argument names; 0: the caller.
    pub(crate) fn thread_or_caller(&self, name: u64) -> Result<ThreadId, Kern> {
        let me = self.caller()?;
        match name {
            0 => Ok(me.thread),
            name => self.resolve_thread(me.task, name),
        }
    }
}
