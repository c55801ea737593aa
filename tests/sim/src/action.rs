//! What can happen, written down: an operation says all that is needed to do it again.
//!
//! An operation that makes no sense where it stands does nothing, so that any operations can be
//! left out of a schedule. Tasks and what they hold have names that do not depend on what
//! happened before.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::calls::Call;
use crate::kind::Setup;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// A thread that is about nothing touches a byte, or writes a value.
    Touch {
        /// Which thread.
        thread: usize,
        /// Where.
        address: u64,
        /// What it writes; `None`: it reads.
        write: Option<u8>,
    },
    /// A thread whose touch did not work tries again.
    Retry {
        /// Which thread.
        thread: usize,
    },
    /// A thread that waits for a fault is aborted, and will try again.
    Abort {
        /// Which thread.
        thread: usize,
    },
    /// A task makes a call.
    Call {
        /// Which task.
        client: usize,
        /// The name of what the call may make.
        name: u64,
        /// Which call.
        call: Call,
    },
    /// A pager does one thing.
    Pager {
        /// Which pager.
        pager: usize,
    },
    /// The task with a ring of deferred reclamation does one thing.
    Ring,
    /// The server takes a step, or has nothing to do.
    Step,
    /// Time passes.
    Wait {
        /// So much.
        nanoseconds: u64,
    },
    /// The kernel takes frames.
    Take {
        /// So many.
        frames: u32,
    },
    /// The kernel takes all frames but those that the server keeps for itself and so many.
    Squeeze {
        /// How many allocations succeed yet.
        left: u32,
    },
    /// The kernel gives back what it took.
    Return,
    /// A copy or a named entry loses its last right.
    Drop {
        /// Which.
        name: u64,
        /// There was a newer right when the notice was sent.
        late: bool,
    },
    /// A task ends.
    End {
        /// Which task.
        client: usize,
    },
    /// All threads of a task are suspended, and go on.
    Suspend {
        /// Which task.
        client: usize,
    },
    /// A pager ends.
    Kill {
        /// Which pager.
        pager: usize,
    },
    /// A pager gives up the control port of an object.
    Forget {
        /// Which object.
        file: usize,
    },
}

/// Something that happens, and the luck that everybody has with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation(pub u32, pub Action);

/// A run that can be done again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// What it begins with.
    pub setup: Setup,
    /// What happens.
    pub operations: Vec<Operation>,
}

impl Schedule {
    /// As a file: a line for the setup, then one for each operation. Lines with `#` are remarks.
    #[must_use]
    pub fn to_text(&self, remark: &str) -> String {
        let mut text = String::new();
        for line in remark.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let setup = serde_json::to_string(&self.setup).unwrap();
        let _ = writeln!(text, "{setup}");
        for operation in &self.operations {
            let operation = serde_json::to_string(operation).unwrap();
            let _ = writeln!(text, "{operation}");
        }
        text
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// Which line says nothing.
    pub fn from_text(text: &str) -> Result<Schedule, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        });
        let wrong = |at: usize, error: serde_json::Error| format!("line {}: {error}", at + 1);
        let (at, first) = lines.next().ok_or("it is empty")?;
        let setup = serde_json::from_str(first).map_err(|error| wrong(at, error))?;
        let operations = lines
            .map(|(at, line)| serde_json::from_str(line).map_err(|error| wrong(at, error)))
            .collect::<Result<_, _>>()?;
        Ok(Schedule { setup, operations })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or says nothing.
    pub fn read(path: &Path) -> Result<Schedule, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Schedule::from_text(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
