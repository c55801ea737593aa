//! What tasks and threads can be asked: their state, and a task's threads by name.

use crate::{
    kernel::Kernel,
    machine::Machine,
    thread::{Call, State},
};
use ipc_abi::{
    Kern,
    info::{RunState, TaskInfo, ThreadInfo},
    right::Name,
};

/// Most names that one `task_threads` gives.
const NAMES: usize = 64;
/// Thread numbers that one `task_threads` looks at.
const LOOK: u32 = 256;

impl Kernel {
    /// Trap `thread_info`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_info(&self, machine: &mut impl Machine, thread: u64) -> Result<u64, Kern> {
        let me = self.caller()?;
        let id = self.thread_or_caller(thread)?;
        let record = self.threads.at(id);
        let info = ThreadInfo {
            state: run_state(record.state.get()),
            suspended: record.suspended.into(),
            priority: record.priority.get().into(),
            wanted: record.wanted.into(),
            number: id.index().into(),
            slot: record.slot.into(),
            time: record.time,
        };
        Ok(write_words(machine, me.context, &info.to_words()))
    }

    /// Trap `task_info`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_info(&self, machine: &mut impl Machine, task: u64) -> Result<u64, Kern> {
        let me = self.caller()?;
        let id = self.live_task(me.task, task)?;
        let record = self.tasks.at(id);
        let info = TaskInfo {
            suspended: record.suspended.into(),
            threads: record.thread_count.into(),
            band: record.band.into(),
            names: record.names.len().into(),
            number: id.index().into(),
            time: record.time,
        };
        Ok(write_words(machine, me.context, &info.to_words()))
    }

    /// Trap `task_threads`: their number and the next cursor.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_threads(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        cursor: u64,
    ) -> Result<[u64; 2], Kern> {
        let me = self.caller()?;
        let task = self.live_task(me.task, task)?;
        self.tasks.at_mut(me.task).names.reserve(NAMES as u32)?;
        let mut names = [0; NAMES];
        let mut count: usize = 0;
        let mut at = u32::try_from(cursor).unwrap_or(u32::MAX);
        let end = at.saturating_add(LOOK).min(self.threads.slots());
        while at < end && count < NAMES {
            if let Some((_, thread)) = self.threads.by_index(at)
                && thread.task == task
            {
                let name: Name = self.give_send(me.task, thread.port)?;
                if let Some(place) = names.get_mut(count) {
                    *place = u64::from(name);
                }
                count = count.saturating_add(1);
            }
            at = at.saturating_add(1);
        }
        let names = names.get(..count).unwrap_or(&names);
        let next = if at < self.threads.slots() { at } else { 0 };
        Ok([write_words(machine, me.context, names), u64::from(next)])
    }
}

/// Writes words to the body of a thread's IPC buffer, and gives their number.
fn write_words(machine: &mut impl Machine, thread: crate::Context, words: &[u64]) -> u64 {
    let mut bytes = [0; 8 * NAMES];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let length = words.len().saturating_mul(8).min(bytes.len());
    machine.write_body(thread, bytes.get(..length).unwrap_or(&bytes));
    words.len() as u64
}

const fn run_state(state: State) -> RunState {
    match state {
        State::Running | State::Ready => RunState::Running,
        State::Stopped => RunState::Stopped,
        State::Calling(_, Call::Fault | Call::Exception(_))
        | State::Awaiting {
            call: Call::Fault | Call::Exception(_),
            ..
        }
        | State::Noticed => RunState::Uninterruptible,
        State::Sending(_)
        | State::Calling(..)
        | State::Awaiting { .. }
        | State::Receiving { .. } => RunState::Waiting,
        State::Aside => RunState::Halted,
    }
}
