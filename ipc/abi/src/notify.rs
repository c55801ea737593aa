//! One-way messages that the kernel sends: what happened to rights, callers, tasks and memory.
//!
//! All carry the kernel's mark ([`crate::message::Info::is_kernel`]) and the payload of the port
//! that they arrive through. Each is allocated when it is asked for, so none can fail when due.

/// A port died. Word 0: the name, now a dead name (one user reference more, for this message).
/// Word 1: for a task's control port the task's exit status, else 0.
pub const DEAD_NAME: u32 = 110;
/// The last send right to the port went away. Word 0: the port's make-send count at that time.
pub const NO_SENDERS: u32 = 111;
/// A full queue has room again. Word 0: the name of the port that was full.
pub const SEND_POSSIBLE: u32 = 112;
/// A call that the receiver holds a token of is void: its thread was aborted or ended.
/// Word 0: the token. Sent to the port through which the call came.
pub const CANCELLED: u32 = 113;
/// The task whose faults come through this port has ended. Word 0: its exit status.
pub const TASK_ENDED: u32 = 114;
/// All threads of the task whose faults come through this port are suspended. Sent once each time that
/// the task is suspended, and not again before the last one was received.
pub const TASK_SUSPENDED: u32 = 120;
/// The kernel is short of memory. Word 0: frames it would like. Sent to the port that the holder
/// of the host memory port registered; once per shortage, armed again by a donation.
pub const KERNEL_MEMORY_LOW: u32 = 115;
/// An owner of frames below the receiver's has ended, and nothing maps a frame any more that was its,
/// or belonged to those below it: `owner_collect` takes them back. Word 0: its number. Sent to the port
/// that the holder of the host memory port registered.
pub const OWNER_ENDED: u32 = 119;
/// A receive right was destroyed by its holder, or with it, and goes to who asked for that. Right 0:
/// the receive right; what is queued there stays.
pub const PORT_DESTROYED: u32 = 116;

/// A device interrupted. Word 0: how often since the last message; word 1: the number of the processor
/// that the last one came to. Sent to the port that the interrupt was made for, once each time that it
/// is enabled.
pub const INTERRUPT: u32 = 117;

/// What a task can ask to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// [`DEAD_NAME`], for a name with a send or send-once right.
    DeadName = 0,
    /// [`NO_SENDERS`], for a receive right.
    NoSenders = 1,
    /// [`PORT_DESTROYED`], for a receive right.
    PortDestroyed = 2,
    /// [`SEND_POSSIBLE`], for a name with a send right.
    SendPossible = 3,
}

impl Request {
    /// Reads a kind that a task gave.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Request> {
        Some(match raw {
            0 => Request::DeadName,
            1 => Request::NoSenders,
            2 => Request::PortDestroyed,
            3 => Request::SendPossible,
            _ => return None,
        })
    }
}

/// A task's exit status: what it passed to `exit`, or why the kernel ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The task ended itself (or was ended by a holder of its port) with this status.
    Exited(u32),
    /// An exception that nobody handled: kind (see [`crate::exception::Kind`]) and code.
    Exception {
        /// Number of the exception's kind.
        kind: u32,
        /// Low 31 bits of the exception's code.
        code: u32,
    },
}

impl ExitStatus {
    /// As a message word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        match self {
            ExitStatus::Exited(status) => status as u64,
            ExitStatus::Exception { kind, code } => {
                1 << 63 | ((kind & 0x7FFF_FFFF) as u64) << 32 | code as u64
            }
        }
    }

    /// From a message word.
    #[must_use]
    pub const fn from_word(word: u64) -> ExitStatus {
        if word >> 63 == 0 {
            ExitStatus::Exited((word & 0xFFFF_FFFF) as u32)
        } else {
            ExitStatus::Exception {
                kind: (word >> 32 & 0x7FFF_FFFF) as u32,
                code: (word & 0xFFFF_FFFF) as u32,
            }
        }
    }
}
