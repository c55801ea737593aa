//! A message in registers: the info word, the options of the `msg` trap, and its register use.
//!
//! ```text
//!            in                                     out
//!  RAX       trap number 0 | options                result (see `Outcome`)
//!  RDI       destination name, or reply token       payload of the port received from
//!  RSI       name to receive from                   reply token of the message, or 0
//!  RDX       info of the message to send            info of the message received
//!  R8        send deadline                          0
//!  R9        receive (or call) deadline             0
//!  R10       port for `send possible`, or to        0
//!            forward to
//!  RBX RBP R12 R13 R14 R15      the six words, both ways
//! ```
//! RCX and R11 are lost, as with every SYSCALL. Deadlines are absolute nanoseconds of the kernel's
//! clock: [`FOREVER`] waits without end, [`POLL`] not at all.

/// A deadline that never comes.
pub const FOREVER: u64 = u64::MAX;
/// A deadline that has passed: do not wait.
pub const POLL: u64 = 0;

/// Words of a message that travel in registers.
pub const WORDS: usize = 6;

/// Option bits in RAX of the `msg` trap. Allowed: SEND, CALL, RECEIVE, REPLY, FORWARD, and RECEIVE
/// beside SEND, REPLY or FORWARD; NOTIFY only beside SEND.
pub mod option {
    /// Send one way to the port named in RDI.
    pub const SEND: u64 = 0x100;
    /// Send to the port named in RDI and wait for the answer.
    pub const CALL: u64 = 0x200;
    /// Answer the call whose token is in RDI.
    pub const REPLY: u64 = 0x400;
    /// Receive from the port or port set named in RSI.
    pub const RECEIVE: u64 = 0x800;
    /// If the queue is full, fail with KERN_WOULD_BLOCK and send one *send possible* message to
    /// the port named in R10 (a receive right of the sender) when it is not. R10 0: by the request
    /// about this name that was made before (notify::Request::SendPossible).
    pub const NOTIFY: u64 = 0x1000;
    /// Pass the call whose token is in RDI on, with this message, to the port named in R10. The token
    /// is used up; who receives the message gets another, and answers the caller itself. Faults and
    /// exceptions are not passed on: MACH_SEND_INVALID_REPLY. If nobody waits for the message and
    /// there is no memory to keep it: MACH_SEND_NO_BUFFER.
    pub const FORWARD: u64 = 0x2000;
    /// Every option.
    pub const ALL: u64 = SEND | CALL | REPLY | RECEIVE | NOTIFY | FORWARD;
}

/// What the `msg` trap leaves in RAX: a code, and how far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub u64);

impl Outcome {
    /// Set when the send half was done and the code is the receive half's.
    pub const SENT: u64 = 1 << 32;

    /// The wire code: 0 for success.
    #[must_use]
    pub const fn code(self) -> u32 {
        (self.0 & 0xFFFF_FFFF) as u32
    }

    /// Whether the message was sent (or the call made) before the code arose.
    #[must_use]
    pub const fn was_sent(self) -> bool {
        self.0 & Self::SENT != 0
    }
}

/// The info word: what a message is and how much of the buffer it uses.
///
/// Bits 0..32 the id, 32..44 bytes of body, 44..48 rights, 48 set by the kernel alone on messages
/// that are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Info(pub u64);

impl Info {
    const KERNEL: u64 = 1 << 48;
    const DEFINED: u64 = (1 << 48) - 1;

    /// Makes the info word of a message to send; `None` if `body` or `rights` is over the limit.
    #[must_use]
    pub const fn new(id: u32, body: usize, rights: usize) -> Option<Info> {
        if body > super::buffer::BODY_SIZE || rights > super::buffer::RIGHTS_MAX {
            return None;
        }
        Some(Info(
            id as u64 | (body as u64) << 32 | (rights as u64) << 44,
        ))
    }

    /// A message of register words only.
    #[must_use]
    pub const fn short(id: u32) -> Info {
        Info(id as u64)
    }

    /// Checks a word that a task gave: no undefined bit, nothing over its limit.
    #[must_use]
    pub const fn checked(raw: u64) -> Option<Info> {
        let info = Info(raw);
        if raw & !Self::DEFINED != 0
            || info.body() > super::buffer::BODY_SIZE
            || info.rights() > super::buffer::RIGHTS_MAX
        {
            return None;
        }
        Some(info)
    }

    /// The same message, marked as the kernel's own. No task can send this mark.
    #[must_use]
    pub const fn from_kernel(self) -> Info {
        Info(self.0 | Self::KERNEL)
    }

    /// The message id.
    #[must_use]
    pub const fn id(self) -> u32 {
        (self.0 & 0xFFFF_FFFF) as u32
    }

    /// Bytes of the buffer's body that the message uses.
    #[must_use]
    pub const fn body(self) -> usize {
        (self.0 >> 32 & 0xFFF) as usize
    }

    /// Rights that the message carries.
    #[must_use]
    pub const fn rights(self) -> usize {
        (self.0 >> 44 & 0xF) as usize
    }

    /// Whether the kernel itself sent the message.
    #[must_use]
    pub const fn is_kernel(self) -> bool {
        self.0 & Self::KERNEL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_round_trips_and_refuses_what_is_over_a_limit() {
        let info = Info::new(0xDEAD_BEEF, 4000, 8).unwrap();
        assert_eq!(
            (info.id(), info.body(), info.rights()),
            (0xDEAD_BEEF, 4000, 8)
        );
        assert_eq!(Info::checked(info.0), Some(info));
        assert_eq!(Info::new(1, 4001, 0), None);
        assert_eq!(Info::new(1, 0, 9), None);
        assert_eq!(Info::checked(9 << 44), None);
        assert_eq!(Info::checked(4001 << 32), None);
    }

    #[test]
    fn a_task_cannot_send_the_kernel_mark() {
        let mark = Info::short(7).from_kernel();
        assert!(mark.is_kernel());
        assert_eq!(Info::checked(mark.0), None);
    }
}
