//! Trace records: what the kernel writes, one after the other, to the debug console port (0xE9)
//! when its command line has `trace=1`.
//!
//! A record is 32 bytes: u64 time (time stamp counter), u8 kind, u8 detail, u16 (zero), u32 thread,
//! u64 first, u64 second; all little-endian.

/// Bytes of a record.
pub const RECORD_SIZE: usize = 32;

/// What a record tells, and what its fields then are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A trap. Detail: low 8 bits of its number. First: RAX; second: RDI.
    Trap = 1,
    /// A trap's end. First: RAX; second: RDI.
    TrapEnd = 2,
    /// A page fault. Detail: access. First: address; second: instruction.
    Fault = 3,
    /// The thread goes on after its fault. First: the code of the answer.
    FaultEnd = 4,
    /// A message went from this thread straight to another. First: info; second: thread.
    Message = 5,
    /// A message was queued. First: info; second: the port's number.
    Queued = 6,
    /// Another thread runs from here on. First: its number; second: its task's.
    Switch = 7,
    /// An exception. Detail: kind. First: code; second: subcode.
    Exception = 8,
    /// A processor interrupt. Detail: vector.
    Interrupt = 9,
}

impl Kind {
    /// Reads the byte of a record.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Kind> {
        Some(match raw {
            1 => Kind::Trap,
            2 => Kind::TrapEnd,
            3 => Kind::Fault,
            4 => Kind::FaultEnd,
            5 => Kind::Message,
            6 => Kind::Queued,
            7 => Kind::Switch,
            8 => Kind::Exception,
            9 => Kind::Interrupt,
            _ => return None,
        })
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time stamp counter.
    pub time: u64,
    /// What happened.
    pub kind: Kind,
    /// See [`Kind`].
    pub detail: u8,
    /// Number of the thread that ran.
    pub thread: u32,
    /// See [`Kind`].
    pub first: u64,
    /// See [`Kind`].
    pub second: u64,
}

impl Record {
    /// The bytes of the record.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        let header =
            u64::from(self.kind as u8) | u64::from(self.detail) << 8 | u64::from(self.thread) << 32;
        let words = [self.time, header, self.first, self.second];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Decodes a record; `None` if its kind is unknown.
    #[must_use]
    pub fn from_bytes(bytes: [u8; RECORD_SIZE]) -> Option<Record> {
        let mut words = [0u64; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        let [time, header, first, second] = words;
        Some(Record {
            time,
            kind: Kind::from_raw((header & 0xFF) as u8)?,
            detail: (header >> 8 & 0xFF) as u8,
            thread: (header >> 32) as u32,
            first,
            second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips() {
        let record = Record {
            time: 1 << 40,
            kind: Kind::Fault,
            detail: 2,
            thread: 77,
            first: 0x1000,
            second: u64::MAX,
        };
        assert_eq!(Record::from_bytes(record.to_bytes()), Some(record));
    }
}
