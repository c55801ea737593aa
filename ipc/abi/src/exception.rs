//! The exception message, from the kernel to a thread's, then its task's exception port.
//!
//! It is a call: the thread waits for the answer. Word 0 of the answer is a code: success resumes
//! the thread at the instruction that failed, anything else hands the exception on; with nobody
//! left the task ends. Each kind of exception has a handler of its own, which says by its
//! [`Behavior`] what else the message carries.

/// Message id of an exception.
pub const EXCEPTION: u32 = 101;
/// Message id of the answer.
pub const EXCEPTION_REPLY: u32 = 201;

/// What went wrong (Mach's kinds and numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Memory could not be accessed; `code` is the KERN code, `subcode` the address.
    BadAccess = 1,
    /// The instruction is not valid or not allowed; `code` is the processor's vector, `subcode` its
    /// error code.
    BadInstruction = 2,
    /// Division, overflow or floating point; `code` is the processor's vector.
    Arithmetic = 3,
    /// A software-generated exception (bound, overflow trap); `code` is the processor's vector.
    Software = 5,
    /// Breakpoint (`code` 3), or single step or watched address (`code` 1: EXC_I386_SGL; `subcode`
    /// says which, in the bits of `state::Debug::STATUS`).
    Breakpoint = 6,
}

impl Kind {
    /// Mach's name of the kind, as reports print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::BadAccess => "EXC_BAD_ACCESS",
            Kind::BadInstruction => "EXC_BAD_INSTRUCTION",
            Kind::Arithmetic => "EXC_ARITHMETIC",
            Kind::Software => "EXC_SOFTWARE",
            Kind::Breakpoint => "EXC_BREAKPOINT",
        }
    }

    /// Reads a kind from a message word.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Kind> {
        Some(match raw {
            1 => Kind::BadAccess,
            2 => Kind::BadInstruction,
            3 => Kind::Arithmetic,
            5 => Kind::Software,
            6 => Kind::Breakpoint,
            _ => return None,
        })
    }
}

/// Every kind, in a mask of kinds: bit n stands for kind n (Mach's EXC_MASK_ numbers).
pub const MASK_ALL: u64 = 0x6E;

bitflags::bitflags! {
    /// What an exception message carries besides its words, with Mach's numbers: IDENTITY is its
    /// EXCEPTION_DEFAULT. Nothing: the words alone, which is fastest.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Behavior: u8 {
        /// Send rights to the control ports of the thread and of its task.
        const IDENTITY = 1;
        /// The general registers, as its body (`state::General`). An answer with a body of that size
        /// has the thread go on with other registers: they are checked as by `thread_set_state`.
        const STATE = 2;
    }
}

/// One handler, as `exception_ports_get` tells of it in a word of the body; its port is the right in
/// the slot of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The kinds that it gets.
    pub mask: u64,
    /// What their messages carry.
    pub behavior: Behavior,
}

impl Handler {
    /// As a word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.mask | (self.behavior.bits() as u64) << 32
    }

    /// From a word.
    #[must_use]
    pub const fn from_word(word: u64) -> Handler {
        Handler {
            mask: word & 0xFFFF_FFFF,
            behavior: Behavior::from_bits_truncate((word >> 32 & 0xFF) as u8),
        }
    }
}

/// Words of an exception message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What went wrong.
    pub kind: Kind,
    /// See [`Kind`].
    pub code: u64,
    /// See [`Kind`].
    pub subcode: u64,
    /// The instruction that failed.
    pub ip: u64,
    /// Stack pointer at that instruction.
    pub sp: u64,
    /// The kernel's number of the thread, for reports.
    pub thread: u64,
}

impl Exception {
    /// As message words.
    #[must_use]
    pub const fn to_words(self) -> [u64; 6] {
        [
            self.kind as u64,
            self.code,
            self.subcode,
            self.ip,
            self.sp,
            self.thread,
        ]
    }

    /// From message words; `None` if the kind is unknown.
    #[must_use]
    pub const fn from_words(words: [u64; 6]) -> Option<Exception> {
        let [kind, code, subcode, ip, sp, thread] = words;
        match Kind::from_raw(kind) {
            Some(kind) => Some(Exception {
                kind,
                code,
                subcode,
                ip,
                sp,
                thread,
            }),
            None => None,
        }
    }
}
