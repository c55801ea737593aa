//! What `thread_info` and `task_info` say, as words of the IPC buffer's body.

/// What a thread does (Mach's TH_STATE_ numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum RunState {
    /// It runs, or waits for a processor.
    Running = 1,
    /// It is suspended, and would run otherwise.
    Stopped = 2,
    /// It waits for a message, an answer, or room.
    Waiting = 3,
    /// It waits for the answer to a fault or exception.
    Uninterruptible = 4,
    /// It ends with its task.
    Halted = 5,
}

impl RunState {
    /// Reads a word that the kernel wrote.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<RunState> {
        Some(match raw {
            1 => RunState::Running,
            2 => RunState::Stopped,
            3 => RunState::Waiting,
            4 => RunState::Uninterruptible,
            5 => RunState::Halted,
            _ => return None,
        })
    }
}

/// What is known of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadInfo {
    /// What it does.
    pub state: RunState,
    /// How often it was suspended and not resumed; its task's suspensions do not count.
    pub suspended: u64,
    /// Its priority, 0 to 31.
    pub priority: u64,
    /// The priority that its maker asked for.
    pub wanted: u64,
    /// The kernel's number of the thread, as messages and reports show it.
    pub number: u64,
    /// Slot of its IPC buffer.
    pub slot: u64,
    /// Nanoseconds that it had a processor, the kernel's work for it included. By samples, one in each
    /// about 10 ms: what is shorter counts by chance, and right in the long run.
    pub time: u64,
}

impl ThreadInfo {
    /// How many words it is.
    pub const WORDS: usize = 7;

    /// As words.
    #[must_use]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.state as u64,
            self.suspended,
            self.priority,
            self.wanted,
            self.number,
            self.slot,
            self.time,
        ]
    }

    /// From words; `None` if the state is unknown.
    #[must_use]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Option<ThreadInfo> {
        let [state, suspended, priority, wanted, number, slot, time] = words;
        match RunState::from_raw(state) {
            Some(state) => Some(ThreadInfo {
                state,
                suspended,
                priority,
                wanted,
                number,
                slot,
                time,
            }),
            None => None,
        }
    }
}

/// What is known of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// How often it was suspended and not resumed.
    pub suspended: u64,
    /// How many threads it has.
    pub threads: u64,
    /// Highest priority of its threads.
    pub band: u64,
    /// How many names it has.
    pub names: u64,
    /// The kernel's number of the task, as reports show it.
    pub number: u64,
    /// Nanoseconds that its threads had a processor, also those that have ended: see
    /// [`ThreadInfo::time`].
    pub time: u64,
}

impl TaskInfo {
    /// How many words it is.
    pub const WORDS: usize = 6;

    /// As words.
    #[must_use]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.suspended,
            self.threads,
            self.band,
            self.names,
            self.number,
            self.time,
        ]
    }

    /// From words.
    #[must_use]
    pub const fn from_words(words: [u64; Self::WORDS]) -> TaskInfo {
        let [suspended, threads, band, names, number, time] = words;
        TaskInfo {
            suspended,
            threads,
            band,
            names,
            number,
            time,
        }
    }
}
