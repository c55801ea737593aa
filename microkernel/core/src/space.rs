//! A task's names: look-up by name, look-up by port, user references, growth with a limit.
//!
//! A name is the index of an entry (24 bits) and the entry's generation (8 bits), so a name that was
//! given back is not taken for its successor. Receive right and send rights of one port share an
//! entry, which is found from the port by linear hashing (`by_port`). Send-once rights have an entry each.
//! A dead name is an entry whose port is dead; nothing is rewritten when a port dies. The table gives
//! pieces at its end back in which there are no names.

use crate::{
    account::Account,
    message::MessageId,
    port::{PortId, SetId},
    slab::fit,
};
use alloc::vec::Vec;
use core::{cell::Cell, fmt};
use ipc_abi::{Kern, right::Name};

mod by_port;

/// Most names that a task can have.
pub(crate) const NAMES_MAX: u32 = 1 << 20;
/// Most user references of a name.
pub(crate) const UREFS_MAX: u32 = u32::MAX;

const CHUNK_SHIFT: u32 = 6;
const CHUNK: usize = 1 << CHUNK_SHIFT;
const CHUNK_MASK: u32 = (1 << CHUNK_SHIFT) - 1;
/// Free entries above which a piece can go back: as many as one has stay.
const ROOM: u32 = 2 << CHUNK_SHIFT;
const GENERATION_BITS: u32 = 8;
/// End of a chain. Index 0 is never used, so that no name is 0.
const NONE: u32 = 0;

/// What a name denotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Nothing: the entry is free.
    Nothing {
        /// The entry before it in the free list; of no meaning for the first.
        previous: u32,
    },
    /// The receive right of a port, send rights to it, or both.
    Port {
        /// The port, maybe dead.
        port: PortId,
        /// Whether this task holds the receive right.
        receive: bool,
        /// User references of the send right (or dead name).
        refs: u32,
    },
    /// A send-once right.
    Once {
        /// The port, maybe dead.
        port: PortId,
        /// 1; a dead name may have more.
        refs: u32,
    },
    /// A port set.
    Set(SetId),
}

/// Counts changes of names, of all tasks, by which a name may lose what it denotes: what was looked
/// up under the present stamp need not be looked up again.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp(u64);

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamp")
    }
}

/// Whether somebody may remember what a name denotes. It is no part of the state: a name that nobody
/// looked up may change without the stamp.
#[derive(Clone)]
pub(crate) struct Known(Cell<bool>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl Stamp {
    /// That nothing was ever looked up under.
    pub(crate) const NEVER: Stamp = Stamp(u64::MAX);

    const fn advance(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}

/// One name.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) holds: Holds,
    /// Armed dead-name request.
    pub(crate) dead_name: Option<MessageId>,
    /// Armed send-possible request.
    pub(crate) possible: Option<MessageId>,
    /// Next of the hash chain, or of the free list.
    next: u32,
    generation: u8,
    /// The generation that it began with.
    first: u8,
    known: Known,
}

impl Entry {
    /// Says that what the name denotes is remembered under the present stamp.
    pub(crate) fn remember(&self) {
        self.known.0.set(true);
    }

    /// Advances the stamp if what the name denotes may be remembered.
    #[inline]
    fn change(&self, stamp: &mut Stamp) {
        if self.known.0.take() {
            stamp.advance();
        }
    }

    /// Whether it is no name.
    #[inline]
    pub(crate) const fn is_free(&self) -> bool {
        matches!(self.holds, Holds::Nothing { .. })
    }

    /// Whether no request is armed for it.
    #[inline]
    pub(crate) fn is_unwatched(&self) -> bool {
        self.dead_name.is_none() && self.possible.is_none()
    }
}

/// A task's names.
#[derive(Debug)]
pub(crate) struct Names {
    /// Pieces of [`CHUNK`] entries, which never move: growth is bounded work. The last pieces may have
    /// room for entries that were never used, which are not written before.
    pieces: Vec<Vec<Entry>>,
    /// Entries that there is room for.
    room: u32,
    /// Entries that there are: one past the highest index that was ever used.
    slots: u32,
    used: u32,
    /// How many of the names that are used lie in the last piece.
    tail: u32,
    /// The generation that new entries begin with.
    first: u8,
    free_head: u32,
    free_tail: u32,
    buckets: Vec<Vec<u32>>,
    /// Buckets in use; between a power of two and the next.
    bucket_count: u32,
    /// One less than the first power of two that is not below the number of buckets.
    mask: u32,
    hashed: u32,
    /// What the task is charged with. It lies here since the table grows by itself.
    pub(crate) account: Account,
    /// Set by tests: nothing grows, as if memory had run out.
    frozen: bool,
}

impl Names {
    /// The names of no task.
    pub(crate) const NONE: Names = Names {
        pieces: Vec::new(),
        room: 0,
        slots: 0,
        used: 0,
        tail: 0,
        first: 0,
        free_head: NONE,
        free_tail: NONE,
        buckets: Vec::new(),
        bucket_count: 0,
        mask: 0,
        hashed: 0,
        account: Account::new(0),
        frozen: false,
    };

    /// Bytes that a piece of the table takes: entries, and as many buckets.
    pub(crate) const PIECE: u64 = (size_of::<[Entry; CHUNK]>() + size_of::<[u32; CHUNK]>()) as u64;

    /// A name space with room for a few names, of a task that may have `quota` bytes.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn new(quota: u64) -> Result<Names, Kern> {
        let mut names = Names::NONE;
        names.account = Account::new(quota);
        names.add_bucket()?;
        names.grow()?;
        Ok(names)
    }

    /// Refuses to grow, or does so again.
    pub(crate) const fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// How many names denote something.
    pub(crate) const fn len(&self) -> u32 {
        self.used
    }

    /// Bytes that the table takes.
    pub(crate) fn bytes(&self) -> u64 {
        Names::PIECE.saturating_mul(self.pieces.len() as u64)
    }

    /// One past the highest index of an entry.
    pub(crate) const fn slots(&self) -> u32 {
        self.slots
    }

    /// What `name` denotes; a word that is no name finds nothing.
    #[inline]
    pub(crate) fn get(&self, name: u64) -> Option<&Entry> {
        let name = u32::try_from(name).ok()?;
        let entry = self.entry(name >> GENERATION_BITS)?;
        let fresh = u32::from(entry.generation) == name & 0xFF;
        (fresh && !entry.is_free()).then_some(entry)
    }

    /// As [`Names::get`], to change. The port of an entry must stay the same.
    #[inline]
    pub(crate) fn get_mut(&mut self, name: u64, stamp: &mut Stamp) -> Option<&mut Entry> {
        let name = u32::try_from(name).ok()?;
        let entry = self.entry_mut(name >> GENERATION_BITS)?;
        let fresh = u32::from(entry.generation) == name & 0xFF;
        if !fresh || entry.is_free() {
            return None;
        }
        entry.change(stamp);
        Some(entry)
    }

    /// The name that lies at an index now.
    pub(crate) fn at_index(&self, index: u32) -> Option<(Name, &Entry)> {
        let entry = self.entry(index)?;
        (!entry.is_free()).then(|| (name_of(index, entry), entry))
    }

    /// Makes sure that `count` further names fit.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    #[inline]
    pub(crate) fn reserve(&mut self, count: u32) -> Result<(), Kern> {
        if self.has_room(count) {
            return Ok(());
        }
        self.make_room(count)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, count: u32) -> Result<(), Kern> {
        // Entry 0 is never used.
        while !self.has_room(count) {
            self.grow()?;
        }
        Ok(())
    }

    /// Whether `count` further names fit as it is.
    #[inline]
    pub(crate) fn has_room(&self, count: u32) -> bool {
        self.room.saturating_sub(1).saturating_sub(self.used) >= count
    }

    /// Makes a name. A port that has one already must not be given a second.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; never after a [`Names::reserve`].
    pub(crate) fn insert(&mut self, holds: Holds) -> Result<Name, Kern> {
        self.reserve(1)?;
        let fresh = self.slots < self.room;
        let index = if fresh { self.touch() } else { self.free_head };
        let after = match holds {
            Holds::Port { port, .. } => self.chain(index, port),
            _ => NONE,
        };
        let entry = self.entry_mut(index).ok_or(Kern::ResourceShortage)?;
        entry.holds = holds;
        let next = core::mem::replace(&mut entry.next, after);
        let name = name_of(index, entry);
        if !fresh {
            self.free_head = next;
            if next == NONE {
                self.free_tail = NONE;
            }
        }
        self.used = self.used.saturating_add(1);
        if index >= self.tail_start() {
            self.tail = self.tail.saturating_add(1);
        }
        Ok(name)
    }

    /// Frees a name; it is stale from now on.
    pub(crate) fn remove(&mut self, name: Name, stamp: &mut Stamp) {
        let (index, previous) = (name >> GENERATION_BITS, self.free_tail);
        let Some(entry) = self.get_mut(u64::from(name), stamp) else {
            return;
        };
        entry.dead_name = None;
        entry.possible = None;
        entry.generation = entry.generation.wrapping_add(1);
        let held = core::mem::replace(&mut entry.holds, Holds::Nothing { previous });
        let after = core::mem::replace(&mut entry.next, NONE);
        if let Holds::Port { port, .. } = held {
            self.unchain(index, after, port);
        }
        // The tail is stale when the list is empty: then the head is set.
        if self.free_head == NONE {
            self.free_head = index;
        } else if let Some(tail) = self.entry_mut(previous) {
            tail.next = index;
        }
        self.free_tail = index;
        self.used = self.used.saturating_sub(1);
        if index >= self.tail_start() {
            self.tail = self.tail.saturating_sub(1);
        }
        if self.tail == 0 {
            self.trim();
        }
    }

    /// Gives the last piece back, if no name lies in it and another's worth of entries stays free. Says
    /// whether it did.
    #[cold]
    #[inline(never)]
    pub(crate) fn trim(&mut self) -> bool {
        let free = self.room.saturating_sub(self.used);
        if self.tail > 0 || free <= ROOM {
            return false;
        }
        let start = self.tail_start();
        for index in start..self.slots {
            self.unlist(index);
        }
        let Some(piece) = self.pieces.pop() else {
            return false;
        };
        // Of all generations that there were the latest: they go round.
        for entry in piece.iter() {
            let further = entry.generation.wrapping_sub(entry.first);
            if further > self.first.wrapping_sub(entry.first) {
                self.first = entry.generation;
            }
        }
        self.room = start;
        self.slots = self.slots.min(start);
        self.account.release(Names::PIECE);
        let tail = self.pieces.last();
        let tail = tail.into_iter().flat_map(|piece| piece.iter());
        self.tail = tail.map(|entry| u32::from(!entry.is_free())).sum();
        fit(&mut self.pieces, 0);
        true
    }

    /// Takes an entry out of the free list.
    fn unlist(&mut self, index: u32) {
        let Some(entry) = self.entry(index) else {
            return;
        };
        let (Holds::Nothing { previous }, next) = (entry.holds, entry.next) else {
            return;
        };
        if self.free_head == index {
            self.free_head = next;
        } else if let Some(entry) = self.entry_mut(previous) {
            entry.next = next;
        }
        if self.free_tail == index {
            self.free_tail = previous;
        }
        if let Some(entry) = self.entry_mut(next) {
            entry.holds = Holds::Nothing { previous };
        }
    }

    /// The first index of the last piece.
    fn tail_start(&self) -> u32 {
        self.room.saturating_sub(CHUNK as u32)
    }

    fn grow(&mut self) -> Result<(), Kern> {
        if self.room >= NAMES_MAX || self.frozen {
            return Err(Kern::ResourceShortage);
        }
        self.account.check(Names::PIECE)?;
        let mut piece = Vec::new();
        let room = piece.try_reserve_exact(CHUNK);
        room.map_err(|_| Kern::ResourceShortage)?;
        let room = self.pieces.try_reserve(1);
        room.map_err(|_| Kern::ResourceShortage)?;
        self.pieces.push(piece);
        self.account.add(Names::PIECE);
        self.room = self.room.saturating_add(CHUNK as u32);
        self.tail = 0;
        if self.slots == NONE {
            self.touch();
        }
        Ok(())
    }

    /// Makes the next entry that was never used, for which there is room; its index.
    #[inline(never)]
    fn touch(&mut self) -> u32 {
        let index = self.slots;
        if let Some(chunk) = self.pieces.get_mut((index >> CHUNK_SHIFT) as usize) {
            chunk.push(Entry {
                holds: Holds::Nothing { previous: NONE },
                dead_name: None,
                possible: None,
                next: NONE,
                generation: self.first,
                first: self.first,
                known: Known(Cell::new(false)),
            });
            self.slots = index.saturating_add(1);
        }
        index
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry> {
        if index == NONE {
            return None;
        }
        let chunk = self.pieces.get((index >> CHUNK_SHIFT) as usize)?;
        chunk.get((index & CHUNK_MASK) as usize)
    }

    #[inline]
    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        if index == NONE {
            return None;
        }
        let chunk = self.pieces.get_mut((index >> CHUNK_SHIFT) as usize)?;
        chunk.get_mut((index & CHUNK_MASK) as usize)
    }
}

const fn name_of(index: u32, entry: &Entry) -> Name {
    index << GENERATION_BITS | entry.generation as u32
}

#[cfg(not(feature = "loom"))]
#[cfg(test)]
mod tests;
