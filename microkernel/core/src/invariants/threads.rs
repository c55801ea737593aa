//! The rules about threads: the queues that they are in, who runs, who is suspended, who has a deadline.

use super::Tally;
use crate::{
    kernel::{Kernel, ThreadId},
    slab::Slab,
    task::Life,
    thread::{Call, State, Thread},
};
use alloc::{format, string::String};
use ipc_abi::message::FOREVER;

impl Kernel {
    pub(super) fn walk_threads(&self, tally: &mut Tally) -> Result<(), String> {
        for (id, thread) in self.threads.iter() {
            let queued = tally.threads.get(&id.index()).copied().unwrap_or(0);
            let expected = match thread.state.get() {
                State::Running => {
                    let mut processors = self.each_processor();
                    let runs = processors
                        .any(|(_, current, _)| current.is_some_and(|running| running.thread == id));
                    ensure!(runs, "thread {id:?} believes that it runs");
                    0
                }
                State::Stopped | State::Awaiting { .. } | State::Noticed | State::Aside => 0,
                _ => 1,
            };
            ensure!(
                queued == expected,
                "thread {id:?} is {:?} and in {queued} queues",
                thread.state.get()
            );
            self.check_suspension(id, thread)?;
            ensure!(
                matches!(thread.state.get(), State::Awaiting { .. }) == (thread.token.get() != 0),
                "thread {id:?} is {:?} with token {}",
                thread.state.get(),
                thread.token.get()
            );
            let ending = self.tasks.at(thread.task).life != Life::Alive;
            ensure!(
                thread.state.get() != State::Aside || ending,
                "thread {id:?} was left aside"
            );
            ensure!(
                thread.state.get() != State::Noticed || thread.notice_out,
                "thread {id:?} waits for a notice that it has"
            );
            tally.message(thread.notice.index());
            ensure!(
                thread.notice_out == self.messages.at(thread.notice).queue.is_some(),
                "thread {id:?} has lost its notice"
            );
            for port in thread.handlers.ports() {
                tally.send(port);
            }
            if let Some(message) = thread.forwarded.get() {
                tally.message(message.index());
                ensure!(
                    matches!(thread.state.get(), State::Calling(_, Call::Message)),
                    "thread {id:?} keeps a message that was forwarded"
                );
            }
        }
        for running in self.each_processor().filter_map(|(_, current, _)| current) {
            ensure!(
                self.threads
                    .get(running.thread)
                    .map(|thread| thread.state.get())
                    == Some(State::Running),
                "the running thread is gone"
            );
        }
        ensure!(self.handoff.is_none(), "a thread was left on its way");
        self.check_work()
    }

    fn check_work(&self) -> Result<(), String> {
        let idle = self.seat.current.get().is_none();
        ensure!(
            !idle || self.run_queue.top().is_none(),
            "idle although a thread is ready"
        );
        self.check_sharing()
    }

    /// No processor idles while somebody waits who could run on it, unless it is about to look: it was poked, and
    /// the interrupt is on its way.
    fn check_sharing(&self) -> Result<(), String> {
        let mut processors = self.each_processor();
        let idle = processors.any(|(number, current, queue)| {
            current.is_none() && queue.top().is_none() && !self.is_to_look(number)
        });
        for (number, current, queue) in self.each_processor() {
            ensure!(
                !idle || current.is_none() || queue.movable(&self.threads).is_none(),
                "a thread waits for {number} and another processor idles"
            );
        }
        Ok(())
    }

    fn check_suspension(&self, id: ThreadId, thread: &Thread) -> Result<(), String> {
        let state = thread.state.get();
        // A processor that runs it has been asked to bring that to an end.
        let here = self.running().is_some_and(|running| running.thread == id);
        let goes_on = state == State::Running && here && !self.asks_to_look();
        let runs = state == State::Ready || goes_on;
        ensure!(
            !(runs && thread.is_suspended()),
            "thread {id:?} is suspended and {state:?}"
        );
        ensure!(
            state != State::Stopped || thread.is_suspended(),
            "thread {id:?} stands still for no reason"
        );
        ensure!(
            thread.rank.get() == thread.true_rank(),
            "thread {id:?} is wrong about its rank"
        );
        let task = self.tasks.at(thread.task);
        ensure!(
            thread.heard != task.change || thread.held == (task.suspended > 0),
            "thread {id:?} has not heard of its task's suspension"
        );
        Ok(())
    }

    pub(super) fn check_timers(&self) -> Result<(), String> {
        let mut count: u32 = 0;
        let threads: &Slab<Thread> = &self.threads;
        for (place, id) in self.timers.iter().enumerate() {
            let thread = threads
                .get(id)
                .ok_or("the timer of a thread that is gone")?;
            ensure!(
                thread.timer == u32::try_from(place).ok(),
                "thread {id:?} is not where its timer is"
            );
            let parent = place.saturating_sub(1) >> 1;
            let parent = self
                .timers
                .iter()
                .nth(parent)
                .map(|id| threads.at(id).timer_key.get());
            ensure!(
                parent.is_none_or(|parent| parent <= thread.timer_key.get()),
                "the timer heap is out of order"
            );
            count = count.saturating_add(1);
        }
        let armed = threads.iter().filter(|(_, thread)| thread.timer.is_some());
        ensure!(armed.count() as u32 == count, "a timer was lost");
        for (id, thread) in threads.iter() {
            let awake = matches!(thread.state.get(), State::Running | State::Ready);
            let (key, deadline) = (thread.timer_key.get(), thread.deadline.get());
            ensure!(
                !awake || deadline == FOREVER,
                "thread {id:?} is awake and has a deadline"
            );
            ensure!(
                key <= deadline && (key == FOREVER) == thread.timer.is_none(),
                "thread {id:?} is not found before its deadline"
            );
        }
        Ok(())
    }
}
