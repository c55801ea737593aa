//! How the VM server changes page tables: batches of runs in the IPC buffer.
//!
//! A batch lies in the body, run after run, each 8-byte aligned:
//!
//! ```text
//!  0  u32  space    name of the address space; 0 in the answer to a fault: the faulting task's
//!  4  u8   op       see `Op`
//!  5  u8   prot     Enter: rights to give; Lower: rights to keep
//!  6  u8   flags    bit 0: uncached (Enter of device frames)
//!  7  u8   (zero)
//!  8  u64  address  of the first page
//! 16  u64  epoch    Enter: decided under; Remove and Lower: the space's epoch from now on
//! 24  u32  count    pages
//! 28  u32  done     pages done so far; the kernel writes it, the server starts it at 0
//! 32  u32 x count   frame numbers, padded to 8 bytes; absent for the two range operations
//! ```
//!
//! A run with frames lies inside one page table: address and count stay within 512 aligned pages.
//! Remove and Lower change a page only if it maps the frame that they name. When the batch is done
//! each frame number of Remove, Lower and Harvest carries [`REFERENCED`] and [`DIRTY`] as found, or
//! is [`SKIPPED`]. Repeating a run is harmless. An Enter with an epoch older than its space's is
//! dropped and counts as done. The trap returns after every processor has flushed.

use crate::types::Prot;

/// Bytes before a run's frame numbers.
pub const RUN_HEADER: usize = 32;
/// Most pages of a run that names frames: one page table.
pub const RUN_PAGES: u32 = 512;

/// In a returned frame number: the page had been referenced.
pub const REFERENCED: u32 = 1 << 31;
/// In a returned frame number: the page had been written.
pub const DIRTY: u32 = 1 << 30;
/// Returned in place of a frame number that was not mapped there.
pub const SKIPPED: u32 = u32::MAX;
/// Frame numbers are below this: 4 TiB of memory.
pub const FRAME_LIMIT: u32 = 1 << 30;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Map each frame at its page, replacing what was there.
    Enter = 1,
    /// Unmap each page that maps the frame named for it.
    Remove = 2,
    /// Reduce each page that maps the frame named for it to the given rights.
    Lower = 3,
    /// Read and clear the referenced bit of each page that maps the frame named for it; no flush.
    Harvest = 4,
    /// Unmap the whole range, whatever it maps; frees page tables that it covers.
    RemoveRange = 5,
    /// Reduce the whole range to the given rights, by subtree where whole tables are covered.
    LowerRange = 6,
}

impl Op {
    /// Reads the byte that the server wrote.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Op> {
        Some(match raw {
            1 => Op::Enter,
            2 => Op::Remove,
            3 => Op::Lower,
            4 => Op::Harvest,
            5 => Op::RemoveRange,
            6 => Op::LowerRange,
            _ => return None,
        })
    }

    /// Whether frame numbers follow the header.
    #[must_use]
    pub const fn has_frames(self) -> bool {
        !matches!(self, Op::RemoveRange | Op::LowerRange)
    }
}

/// The header of a run, decoded. For the range operations `count` may be any number of pages
/// inside the user half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Name of the space; 0: the faulting task's.
    pub space: u32,
    /// What to do.
    pub op: Op,
    /// Rights to give (Enter) or keep (Lower, LowerRange); ignored by the others.
    pub protection: Prot,
    /// Map uncached: device frames.
    pub uncached: bool,
    /// Address of the first page.
    pub address: u64,
    /// See the module's picture.
    pub epoch: u64,
    /// Pages.
    pub count: u32,
    /// Pages done so far.
    pub done: u32,
}

impl Run {
    /// The bytes of the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RUN_HEADER] {
        let mut bytes = [0; RUN_HEADER];
        let words = [
            u64::from(self.space)
                | (self.op as u64) << 32
                | u64::from(self.protection.bits()) << 40
                | u64::from(self.uncached) << 48,
            self.address,
            self.epoch,
            u64::from(self.count) | u64::from(self.done) << 32,
        ];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Decodes a header; `None` if the operation or a flag is unknown.
    #[must_use]
    pub fn from_bytes(bytes: [u8; RUN_HEADER]) -> Option<Run> {
        let mut words = [0u64; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        let [first, address, epoch, counts] = words;
        if first >> 49 != 0 {
            return None;
        }
        Some(Run {
            space: (first & 0xFFFF_FFFF) as u32,
            op: Op::from_raw((first >> 32 & 0xFF) as u8)?,
            protection: Prot::from_bits((first >> 40 & 0xFF) as u8)?,
            uncached: first >> 48 & 1 != 0,
            address,
            epoch,
            count: (counts & 0xFFFF_FFFF) as u32,
            done: (counts >> 32) as u32,
        })
    }

    /// Bytes of the whole run in the buffer; `None` if the count is over its limit.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        if !self.op.has_frames() {
            return Some(RUN_HEADER);
        }
        if self.count > RUN_PAGES {
            return None;
        }
        Some(RUN_HEADER.saturating_add((self.count as usize).div_ceil(2).saturating_mul(8)))
    }
}

/// One page to enter: what the answer to a fault carries in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enter {
    /// Address of the page.
    pub address: u64,
    /// Frame number.
    pub frame: u32,
    /// Rights to give.
    pub protection: Prot,
    /// Map uncached: device frames.
    pub uncached: bool,
    /// The space's epoch under which the server decided this.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_round_trips_and_unknown_bits_are_refused() {
        let run = Run {
            space: 12,
            op: Op::Lower,
            protection: Prot::READ,
            uncached: true,
            address: 0x7000,
            epoch: u64::MAX,
            count: 3,
            done: 1,
        };
        assert_eq!(Run::from_bytes(run.to_bytes()), Some(run));
        assert_eq!(run.size(), Some(32 + 16));
        let mut bytes = run.to_bytes();
        bytes[4] = 0;
        assert_eq!(Run::from_bytes(bytes), None);
        let mut bytes = run.to_bytes();
        bytes[7] = 1;
        assert_eq!(Run::from_bytes(bytes), None);
        assert_eq!(Run { count: 513, ..run }.size(), None);
        assert_eq!(
            Run {
                op: Op::RemoveRange,
                count: 1 << 20,
                ..run
            }
            .size(),
            Some(32)
        );
    }
}
