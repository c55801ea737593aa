//! The ring of deferred reclamation: memory that a task has freed and the VM server may take when it
//! needs it. It lies in the task's memory; both read and write it.
//!
//! ```text
//!   0     8     16    24                      64        80
//!   head  busy  tail  entries (u32), zeros    entry 0   entry 1  ...
//!
//!   [head, busy)  the server is taking these: they are gone for the task
//!   [busy, tail)  the task may still take these back
//! ```
//!
//! `head`, `busy` and `tail` only ever grow, except for the moment in which the task takes an entry
//! back; entry `n` lies in place `n` modulo the number of entries. The server writes `head` and `busy`,
//! the task `tail` and the entries.
//!
//! To take entry `n` back, the task sets `tail` to `n`, then looks at `busy`: if that is beyond `n`, it
//! was too late, else the entry is the task's and it empties it; then it puts `tail` back. The server
//! moves `busy` while no processor can use the page with the three words, so that it sees `tail` as the
//! task left it, and the task sees `busy` as the server did.

/// Offset of the oldest entry that is not taken yet.
pub const HEAD: u64 = 0;
/// Offset of the first entry that the task may take back.
pub const BUSY: u64 = 8;
/// Offset of the entry that comes next.
pub const TAIL: u64 = 16;
/// Offset of the number of entries.
pub const CAPACITY: u64 = 24;
/// Bytes before the first entry.
pub const HEADER_SIZE: u64 = 64;
/// Bytes of an entry.
pub const ENTRY_SIZE: u64 = 16;
/// Most entries.
pub const CAPACITY_MAX: u32 = 1 << 20;

/// What becomes of a range that the server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Behavior {
    /// It stays mapped and reads zero.
    Free = 1,
    /// It is unmapped.
    Deallocate = 2,
}

/// An entry: a range that the task does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First address, a multiple of the page.
    pub address: u64,
    /// Bytes, a multiple of the page; 0: there is nothing, it was taken back.
    pub size: u32,
    /// Number of a [`Behavior`].
    pub behavior: u32,
}

impl Entry {
    /// As the words of the ring, two of them.
    #[must_use]
    pub const fn to_words(self) -> [u64; 2] {
        [
            self.address,
            self.size as u64 | (self.behavior as u64) << 32,
        ]
    }

    /// From the words of the ring.
    #[must_use]
    pub const fn from_words([address, rest]: [u64; 2]) -> Entry {
        Entry {
            address,
            size: rest as u32,
            behavior: (rest >> 32) as u32,
        }
    }
}

/// Bytes of a ring of so many entries.
#[must_use]
pub const fn ring_size(capacity: u32) -> u64 {
    HEADER_SIZE.saturating_add(ENTRY_SIZE.saturating_mul(capacity as u64))
}

/// Offset of entry `number` in a ring of so many entries, which are not 0.
#[must_use]
pub const fn entry_offset(number: u64, capacity: u32) -> u64 {
    let place = match number.checked_rem(capacity as u64) {
        Some(place) => place,
        None => 0,
    };
    HEADER_SIZE.saturating_add(ENTRY_SIZE.saturating_mul(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_behind_the_header_and_never_across_pages() {
        assert_eq!(entry_offset(0, 10), 64);
        assert_eq!(entry_offset(13, 10), 64 + 3 * 16);
        assert_eq!(ring_size(10), 64 + 160);
        assert!((0..4096).all(|n| entry_offset(n, 4096) % 4096 <= 4096 - ENTRY_SIZE));
    }

    #[test]
    fn an_entry_reads_back() {
        let entry = Entry {
            address: 0x7000_1000,
            size: 0x8000_0000,
            behavior: Behavior::Deallocate as u32,
        };
        assert_eq!(Entry::from_words(entry.to_words()), entry);
    }
}
