//! The fault message, from the kernel to a task's map port, and its answer.
//!
//! The message carries the port's payload (so the server finds the map without a look-up) and a
//! reply token; its words are below. The answer's words say what becomes of the thread: word 0 is
//! a code. Success enters the translation of words 1 to 3 and resumes the thread; anything else becomes
//! an exception with that code. With the translation others can be entered: neighbours in the same
//! page table, as word 4 and the body say ([`Beside`]), and, if the message has a body by its info, a
//! batch of runs.

/// Message id of a fault.
pub const FAULT: u32 = 100;
/// Message id of the answer.
pub const FAULT_REPLY: u32 = 200;

/// Words of a fault message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address that was touched, to the byte.
    pub address: u64,
    /// What the access needs: exactly one of READ, WRITE, EXECUTE (see [`crate::types::Prot`]).
    pub access: crate::types::Prot,
    /// The instruction that touched it.
    pub ip: u64,
    /// The kernel's number of the thread, for reports.
    pub thread: u64,
}

impl Fault {
    /// As message words.
    #[must_use]
    pub const fn to_words(self) -> [u64; 6] {
        [
            self.address,
            self.access.bits() as u64,
            self.ip,
            self.thread,
            0,
            0,
        ]
    }

    /// From message words. Unknown access bits are dropped: only the kernel writes them.
    #[must_use]
    pub const fn from_words(words: [u64; 6]) -> Fault {
        let [address, access, ip, thread, _, _] = words;
        let access = crate::types::Prot::from_bits_truncate((access & 7) as u8);
        Fault {
            address,
            access,
            ip,
            thread,
        }
    }
}

/// Words of the answer to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReply {
    /// Success, or what the exception will say.
    pub result: Result<(), crate::Kern>,
    /// One translation to enter in the faulting task's space.
    pub enter: Option<crate::translation::Enter>,
    /// What to enter beside it, under the same epoch.
    pub beside: Option<Beside>,
}

/// Pages side by side, of which those are entered whose places map nothing yet. A hint: what cannot be
/// entered, and where there is no page table, is left out.
///
/// The start of the answer's body has a word of 32 bits for each: the frame number, with
/// [`READ_ONLY`], or [`crate::translation::SKIPPED`]. The message's info need not count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Address of the first page.
    pub address: u64,
    /// Pages, at most [`BESIDE_MAX`], inside one page table.
    pub count: u32,
}

/// Most pages of a [`Beside`].
pub const BESIDE_MAX: usize = 64;
/// In a word of [`Beside`]: the page is entered without WRITE, whatever the answer's page has.
pub const READ_ONLY: u32 = 1 << 31;

impl Beside {
    const fn to_word(self) -> u64 {
        self.address & !0xFFF | (self.count & 0xFFF) as u64
    }

    const fn from_word(word: u64) -> Option<Beside> {
        let count = (word & 0xFFF) as u32;
        if count == 0 {
            return None;
        }
        let address = word & !0xFFF;
        Some(Beside { address, count })
    }
}

impl FaultReply {
    /// As message words.
    #[must_use]
    pub const fn to_words(self) -> [u64; 6] {
        let code = match self.result {
            Ok(()) => 0,
            Err(code) => code.raw() as u64,
        };
        match self.enter {
            None => [code, 0, 0, 0, 0, 0],
            Some(enter) => {
                let flags = enter.protection.bits() as u64 | if enter.uncached { 8 } else { 0 };
                let beside = match self.beside {
                    Some(beside) => beside.to_word(),
                    None => 0,
                };
                [
                    code,
                    enter.address & !0xFFF | flags,
                    enter.frame as u64,
                    enter.epoch,
                    beside,
                    0,
                ]
            }
        }
    }

    /// From message words. Whether address and frame may be entered is checked where it is done.
    #[inline]
    #[must_use]
    pub const fn from_words(words: [u64; 6]) -> FaultReply {
        let [code, run, frame, epoch, beside, _] = words;
        let result = crate::kern_return::from_raw((code & 0xFFFF_FFFF) as u32);
        let protection = crate::types::Prot::from_bits_truncate((run & 7) as u8);
        let enter = if protection.is_empty() {
            None
        } else {
            Some(crate::translation::Enter {
                address: run & !0xFFF,
                frame: (frame & 0xFFFF_FFFF) as u32,
                protection,
                uncached: run & 8 != 0,
                epoch,
            })
        };
        FaultReply {
            result,
            enter,
            beside: Beside::from_word(beside),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kern, translation::Enter, types::Prot};

    #[test]
    fn fault_and_answer_round_trip() {
        let fault = Fault {
            address: 0x1234_5678,
            access: Prot::WRITE,
            ip: 0x40_0000,
            thread: 9,
        };
        assert_eq!(Fault::from_words(fault.to_words()), fault);
        let enter = Enter {
            address: 0x1234_5000,
            frame: 77,
            protection: Prot::READ.union(Prot::WRITE),
            uncached: false,
            epoch: 3,
        };
        for reply in [
            FaultReply {
                result: Ok(()),
                enter: Some(enter),
                beside: None,
            },
            FaultReply {
                result: Ok(()),
                enter: Some(enter),
                beside: Some(Beside {
                    address: 0x1233_F000,
                    count: 32,
                }),
            },
            FaultReply {
                result: Ok(()),
                enter: None,
                beside: None,
            },
            FaultReply {
                result: Err(Kern::MemoryError),
                enter: None,
                beside: None,
            },
        ] {
            assert_eq!(FaultReply::from_words(reply.to_words()), reply);
        }
    }
}
