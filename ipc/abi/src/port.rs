//! What a task can ask about its names and ports: kinds of rights, types of names, status records.
//!
//! Kinds and type bits are Mach's numbers (MACH_PORT_RIGHT_*, MACH_PORT_TYPE_*). A status record lies
//! in the IPC buffer's body as 64-bit words, little end first.

/// A kind of right, as traps on references name it (mach_port_right_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RightKind {
    /// A send right.
    Send = 0,
    /// The receive right.
    Receive = 1,
    /// A send-once right.
    SendOnce = 2,
    /// A port set.
    PortSet = 3,
    /// A send or send-once right whose port has died.
    DeadName = 4,
}

impl RightKind {
    /// Every kind, in order of number.
    pub const ALL: [RightKind; 5] = [
        RightKind::Send,
        RightKind::Receive,
        RightKind::SendOnce,
        RightKind::PortSet,
        RightKind::DeadName,
    ];

    /// Reads a kind that a task gave.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<RightKind> {
        Some(match raw {
            0 => RightKind::Send,
            1 => RightKind::Receive,
            2 => RightKind::SendOnce,
            3 => RightKind::PortSet,
            4 => RightKind::DeadName,
            _ => return None,
        })
    }

    /// The bit of a name's type that says that it denotes such a right.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            RightKind::Send => 1 << 16,
            RightKind::Receive => 1 << 17,
            RightKind::SendOnce => 1 << 18,
            RightKind::PortSet => 1 << 19,
            RightKind::DeadName => 1 << 20,
        }
    }
}

bitflags::bitflags! {
    /// What a name denotes, and what is asked for about it (mach_port_type_t).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PortType: u32 {
        /// A send right.
        const SEND = RightKind::Send.bit();
        /// The receive right.
        const RECEIVE = RightKind::Receive.bit();
        /// A send-once right.
        const SEND_ONCE = RightKind::SendOnce.bit();
        /// A port set.
        const PORT_SET = RightKind::PortSet.bit();
        /// A dead name.
        const DEAD_NAME = RightKind::DeadName.bit();
        /// *Send possible* is asked for, to be told after the next send that finds no room.
        const SEND_POSSIBLE_DELAYED = 1 << 29;
        /// *Send possible* is asked for and will be told when there is room.
        const SEND_POSSIBLE_REQUEST = 1 << 30;
        /// *Dead name* is asked for.
        const DEAD_NAME_REQUEST = 1 << 31;
    }
}

/// Most names that one `port_names` tells.
pub const NAMES_MAX: usize = super::buffer::BODY_SIZE / 8;

/// One name of `port_names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The name.
    pub name: super::right::Name,
    /// What it denotes.
    pub kind: PortType,
}

impl NameEntry {
    /// As a word: the type above, the name below.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        (self.kind.bits() as u64) << 32 | self.name as u64
    }

    /// From a word.
    #[must_use]
    pub const fn from_word(word: u64) -> NameEntry {
        NameEntry {
            name: (word & 0xFFFF_FFFF) as u32,
            kind: PortType::from_bits_retain((word >> 32) as u32),
        }
    }
}

bitflags::bitflags! {
    /// What is so about a receive right.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PortFlags: u64 {
        /// Somebody has a send right (mps_srights).
        const SENDERS = 1;
        /// Somebody has called and was not received yet.
        const CALLERS = 1 << 1;
        /// *No senders* is asked for (mps_nsrequest).
        const NO_SENDERS_REQUEST = 1 << 2;
        /// *Port destroyed* is asked for (mps_pdrequest).
        const PORT_DESTROYED_REQUEST = 1 << 3;
    }
}

/// What `port_get_status` tells of a receive right (mach_port_status_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[doc(alias = "mach_port_status_t")]
pub struct PortStatus {
    /// What each message through the port carries.
    pub payload: u64,
    /// Send rights made so far (mps_mscount).
    pub make_send: u64,
    /// Most messages that queue here (mps_qlimit).
    pub limit: u64,
    /// Messages of tasks that are queued (mps_msgcount).
    pub queued: u64,
    /// Send-once rights that exist (mps_sorights).
    pub onces: u64,
    /// Sets that the port is in (mps_pset).
    pub sets: u64,
    /// What else is so.
    pub flags: PortFlags,
}

impl PortStatus {
    /// Words of a record.
    pub const WORDS: usize = 7;

    /// As words of the body.
    #[must_use]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.payload,
            self.make_send,
            self.limit,
            self.queued,
            self.onces,
            self.sets,
            self.flags.bits(),
        ]
    }

    /// From words of the body.
    #[must_use]
    pub const fn from_words(words: [u64; Self::WORDS]) -> PortStatus {
        let [payload, make_send, limit, queued, onces, sets, flags] = words;
        PortStatus {
            payload,
            make_send,
            limit,
            queued,
            onces,
            sets,
            flags: PortFlags::from_bits_retain(flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_types_have_machs_numbers() {
        for (number, kind) in RightKind::ALL.into_iter().enumerate() {
            assert_eq!(RightKind::from_raw(number as u64), Some(kind));
            assert_eq!(kind.bit(), 1 << (16 + number));
        }
        assert_eq!(RightKind::from_raw(5), None);
    }

    #[test]
    fn records_read_back() {
        let entry = NameEntry {
            name: 0x1234_5678,
            kind: PortType::RECEIVE | PortType::DEAD_NAME_REQUEST,
        };
        assert_eq!(NameEntry::from_word(entry.to_word()), entry);
        let status = PortStatus::from_words([1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(status.to_words(), [1, 2, 3, 4, 5, 6, 7]);
    }
}
