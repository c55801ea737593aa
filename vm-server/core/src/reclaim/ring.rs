//! A task's ring as it lies in its memory: its words, its entries, and what they say.

use ipc_abi::reclaim::{self as layout, Behavior, ENTRY_SIZE};
use ipc_abi::types::Prot;

use super::Stop;
use crate::event::MapId;
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::object::page::Frame;
use crate::range::{PAGE_MASK, Span};
use crate::{Core, Turn};

/// A map's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Where it lies.
    pub(crate) address: u64,
    /// Entries.
    pub(crate) len: u32,
    /// Entries that there is room for.
    pub(crate) max_len: u32,
    /// Bytes that the task says that it holds.
    pub(crate) reclaimable: u64,
    /// The number of the entry whose memory was unmapped in part.
    pub(crate) begun: Option<u64>,
}

impl Ring {
    /// An empty one, that may hold anything.
    pub(crate) const fn new(address: u64, len: u32, max_len: u32) -> Ring {
        Ring {
            address,
            len,
            max_len,
            reclaimable: u64::MAX,
            begun: None,
        }
    }

    /// What an entry says; `None`: nothing. `Corrupt`: nonsense, or the ring's own memory.
    pub(super) fn taken(&self, entry: layout::Entry) -> Result<Option<Taken>, Stop> {
        if entry.size == 0 {
            return Ok(None);
        }
        let behavior = match entry.behavior {
            1 => Behavior::Free,
            2 => Behavior::Deallocate,
            _ => return Err(Stop::Corrupt),
        };
        let end = entry.address.checked_add(u64::from(entry.size));
        let range = end.and_then(|end| Span::exact(entry.address, end));
        let range = range.ok_or(Stop::Corrupt)?;
        let own_end = self.address.saturating_add(layout::ring_size(self.max_len));
        if range.start() < own_end && self.address < range.end() {
            return Err(Stop::Corrupt);
        }
        Ok(Some(Taken { range, behavior }))
    }
}

/// An entry that is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) range: Span,
    pub(super) behavior: Behavior,
}

/// The words of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) head: u64,
    pub(super) busy: u64,
    pub(super) tail: u64,
}

impl Words {
    /// Of a ring that is zero.
    pub(super) const NONE: Words = Words {
        head: 0,
        busy: 0,
        tail: 0,
    };

    /// From the ring's first page.
    pub(super) fn load<M: Machine>(machine: &mut M, frame: Frame) -> Words {
        Words {
            head: load(machine, frame, layout::HEAD),
            busy: load(machine, frame, layout::BUSY),
            tail: load(machine, frame, layout::TAIL),
        }
    }
}

impl Core {
    /// The page with the three words, to write.
    pub(super) fn ring_words<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        address: u64,
        waiter: u32,
    ) -> Result<Frame, Stop> {
        match self.fetch(turn, map, address, Prot::WRITE, waiter)? {
            Fetched::Page(frame) if self.is_anonymous(frame) => Ok(frame),
            Fetched::Wait => Err(Stop::Wait),
            Fetched::Page(_) | Fetched::Zero => Err(Stop::Corrupt),
        }
    }

    /// An entry of a ring.
    pub(super) fn ring_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, address): (MapId, u64),
        waiter: u32,
    ) -> Result<layout::Entry, Stop> {
        let frame = match self.fetch(turn, map, address, Prot::READ, waiter)? {
            Fetched::Page(frame) if self.is_anonymous(frame) => frame,
            Fetched::Wait => return Err(Stop::Wait),
            Fetched::Zero => return Ok(layout::Entry::from_words([0, 0])),
            Fetched::Page(_) => return Err(Stop::Corrupt),
        };
        let offset = address & PAGE_MASK;
        let words = [offset, offset.saturating_add(ENTRY_SIZE / 2)];
        Ok(layout::Entry::from_words(
            words.map(|at| load(turn.machine, frame, at)),
        ))
    }

    /// Whether a frame is a page of anonymous memory, which nobody has to be waited for.
    fn is_anonymous(&self, frame: Frame) -> bool {
        let object = self.pages.get(frame).and_then(|page| page.object);
        object.is_some_and(|id| self.objects.get(id).is_some_and(|o| o.is_internal()))
    }
}

/// Reads a word. A ring begins with a page, so an offset in it that is less than a page is one in its first.
pub(super) fn load<M: Machine>(machine: &mut M, frame: Frame, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    machine.load(frame, offset as usize, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// Writes a word of the ring's first page.
pub(super) fn store<M: Machine>(machine: &mut M, frame: Frame, offset: u64, value: u64) {
    machine.store(frame, offset as usize, &value.to_le_bytes());
}
