//! Records in chunks, named by handles that carry a generation; exhaustion is a value.
//!
//! A slab grows by one chunk at a time and never moves a record, so growth is bounded work. New records lie
//! as low as they can, and chunks at the end in which nothing lies go back, but for so many places as an
//! operation may have reserved; one that comes again begins with generations that none before it had. A
//! handle whose record is gone finds nothing ([`Slab::get`]). Handles that the kernel keeps inside
//! its own records always denote live ones (`invariants` checks it): for those there is
//! [`Slab::at`], which stops the kernel rather than go on with a broken state.

use alloc::{boxed::Box, vec::Vec};
use core::{
    fmt,
    marker::PhantomData,
    num::{NonZeroU32, NonZeroU64},
};
use ipc_abi::Kern;

use crate::places::{CHUNK_SHIFT, Places};

/// A handle: where a record lies, and which of the records that lay there it is. One word, so that
/// copying and comparing are one instruction: the index below, the generation, never 0, above.
pub struct Id<T> {
    word: NonZeroU64,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    fn new(index: u32, generation: NonZeroU32) -> Id<T> {
        Id {
            word: NonZeroU64::from(generation).saturating_mul(GENERATION) | u64::from(index),
            of: PhantomData,
        }
    }

    /// The handle of no record that ever was: generations begin with 1.
    pub(crate) const NOWHERE: Id<T> = Id {
        word: NonZeroU64::MIN,
        of: PhantomData,
    };

    /// The place in the slab: small, and unique among live records. For reports and tokens.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u32 {
        self.word.get() as u32
    }

    fn generation(self) -> u32 {
        (self.word.get() >> 32) as u32
    }
}

/// What counts one generation in a handle.
const GENERATION: NonZeroU64 = NonZeroU64::new(1 << 32).unwrap();

impl<T> Clone for Id<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}
impl<T> Eq for Id<T> {}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// What a slab holds. There is always a record in a place, also in a free one, so that a look-up has
/// only the handle to compare.
pub(crate) trait Record {
    /// What belongs to the place, whichever record lies there: see `cells`.
    type Cells: Default + 'static;
    /// A record of nothing, for a place that was never used. It allocates nothing.
    fn vacant(cells: &'static Self::Cells) -> Self;
    /// Gives back what the record has allocated; what else it says is of no interest any more.
    fn release(&mut self);
}

/// A place: a record, and its handle while it is there.
struct Slot<T: Record> {
    held: Option<Id<T>>,
    record: T,
    cells: &'static T::Cells,
    /// Of the next record that lies here.
    generation: NonZeroU32,
}

impl<T: Record + fmt::Debug> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("held", &self.held)
            .field("record", &self.record)
            .field("generation", &self.generation)
            .finish()
    }
}

impl<T: Record> Slot<T> {
    #[inline(always)]
    fn get(&self, id: Id<T>) -> Option<&T> {
        (self.held == Some(id)).then_some(&self.record)
    }

    #[inline(always)]
    fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        (self.held == Some(id)).then_some(&mut self.record)
    }
}

const CHUNK: usize = 1 << CHUNK_SHIFT;
const CHUNK_MASK: u32 = (1 << CHUNK_SHIFT) - 1;
/// Chunks whose cells are made at once.
const CELLS: usize = 8;
const CHUNK_CELLS: usize = CELLS << CHUNK_SHIFT;
/// Free places below which no chunk goes back: as many as one has stay.
const ROOM: u32 = 2 << CHUNK_SHIFT;

/// Cells by chunk. They are no part of the state: what lies in a free place is of no interest.
struct Kept<C: 'static>(Vec<&'static [C]>);

impl<C> fmt::Debug for Kept<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Records of one kind.
#[derive(Debug)]
pub(crate) struct Slab<T: Record> {
    /// The length of a chunk is part of its type, so that a look-up checks only which chunk it is.
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    /// The cells of these chunks, and of some that there are not now.
    cells: Kept<T::Cells>,
    free: Places,
    live: u32,
    slots: u32,
    /// The generation that new places begin with.
    floor: NonZeroU32,
    limit: u32,
    /// Set by tests: nothing grows, as if memory had run out.
    frozen: bool,
}

impl<T: Record> Slab<T> {
    /// Bytes that a record takes.
    pub(crate) const RECORD: u64 = (size_of::<Slot<T>>() + size_of::<T::Cells>()) as u64;

    /// An empty slab for at most about `limit` records (rounded up to a chunk).
    pub(crate) const fn new(limit: u32) -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            cells: Kept(Vec::new()),
            free: Places::new(),
            live: 0,
            slots: 0,
            floor: NonZeroU32::MIN,
            limit,
            frozen: false,
        }
    }

    /// Refuses to grow, or does so again.
    pub(crate) const fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// How many records there are.
    pub(crate) const fn len(&self) -> u32 {
        self.live
    }

    /// How many places there are: one past the highest index.
    pub(crate) const fn slots(&self) -> u32 {
        self.slots
    }

    /// Makes sure that at least `count` further records fit.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: over the limit, or no memory.
    pub(crate) fn reserve(&mut self, count: u32) -> Result<(), Kern> {
        while self.slots.saturating_sub(self.live) < count {
            self.grow()?;
        }
        Ok(())
    }

    /// Puts a record in.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; never after a [`Slab::reserve`].
    pub(crate) fn insert(&mut self, value: T) -> Result<Id<T>, Kern>
    where
        T: Record<Cells = ()>,
    {
        self.insert_with(|_, _| value)
    }

    /// Puts a record in that is made of its handle and of the cells of its place.
    ///
    /// # Errors
    /// As [`Slab::insert`].
    pub(crate) fn insert_with(
        &mut self,
        make: impl FnOnce(Id<T>, &'static T::Cells) -> T,
    ) -> Result<Id<T>, Kern> {
        let index = match self.free.take() {
            Some(index) => index,
            None => {
                self.grow()?;
                self.free.take().ok_or(Kern::ResourceShortage)?
            }
        };
        let slot = self.slot_mut(index).ok_or(Kern::ResourceShortage)?;
        let id = Id::new(index, slot.generation);
        slot.record = make(id, slot.cells);
        slot.held = Some(id);
        self.live = self.live.saturating_add(1);
        Ok(id)
    }

    /// Ends a record, if it is there; its handles are stale from now on.
    pub(crate) fn remove(&mut self, id: Id<T>) {
        let slot = self.slot_mut(id.index());
        let Some(slot) = slot.filter(|slot| slot.held == Some(id)) else {
            return;
        };
        slot.held = None;
        slot.record.release();
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.give(id.index());
        self.live = self.live.saturating_sub(1);
        if self.free.ends_empty() {
            self.trim();
        }
    }

    /// Whether [`Slab::trim`] would give something back.
    #[inline]
    pub(crate) fn is_loose(&self) -> bool {
        self.free.ends_empty() && self.slots.saturating_sub(self.live) >= ROOM
    }

    /// Gives the last chunk back, if it is empty and another's worth of places stays free. Says
    /// whether it did.
    pub(crate) fn trim(&mut self) -> bool {
        if !self.is_loose() {
            return false;
        }
        let Some(chunk) = self.chunks.pop() else {
            return false;
        };
        self.free.shrink();
        let last = chunk.iter().map(|slot| slot.generation).max();
        self.floor = last.map_or(self.floor, |last| last.max(self.floor));
        self.slots = self.slots.saturating_sub(CHUNK as u32);
        fit(&mut self.chunks, 0);
        true
    }

    /// The record of a handle that may be stale.
    #[inline]
    pub(crate) fn get(&self, id: Id<T>) -> Option<&T> {
        self.slot(id.index())?.get(id)
    }

    /// The record of a handle that may be stale, to change.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        self.slot_mut(id.index())?.get_mut(id)
    }

    /// The record of a handle that the kernel itself keeps, hence live.
    #[inline]
    #[track_caller]
    pub(crate) fn at(&self, id: Id<T>) -> &T {
        match self.get(id) {
            Some(value) => value,
            None => stale(id.index()),
        }
    }

    /// The record of a handle that the kernel itself keeps, to change.
    #[inline]
    #[track_caller]
    pub(crate) fn at_mut(&mut self, id: Id<T>) -> &mut T {
        match self.get_mut(id) {
            Some(value) => value,
            None => stale(id.index()),
        }
    }

    /// The record that lies at a place now.
    #[inline]
    pub(crate) fn by_index(&self, index: u32) -> Option<(Id<T>, &T)> {
        let slot = self.slot(index)?;
        Some((slot.held?, &slot.record))
    }

    /// All records, in order of place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        (0..self.slots).filter_map(|index| self.by_index(index))
    }

    /// All records, to change, in order of place.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let slots = self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut());
        slots.filter_map(|slot| slot.held.map(|_| &mut slot.record))
    }

    /// The cells of a chunk. They are never freed, since others may look at them without the slab: a
    /// chunk that went and comes again finds those that it had. Those of many chunks are made at once, to
    /// lie beside each other and not between chunks, which go back.
    fn cells_of(&mut self, chunk: usize) -> Result<&'static [T::Cells], Kern> {
        if let Some(cells) = self.cells.0.get(chunk) {
            return Ok(cells);
        }
        let room = self.cells.0.try_reserve(CELLS);
        room.map_err(|_| Kern::ResourceShortage)?;
        let mut cells = Vec::new();
        if cells.try_reserve_exact(CHUNK_CELLS).is_err() {
            let room = cells.try_reserve_exact(CHUNK);
            room.map_err(|_| Kern::ResourceShortage)?;
        }
        let count = cells.capacity().clamp(CHUNK, CHUNK_CELLS);
        cells.resize_with(count, T::Cells::default);
        let cells: &'static [T::Cells] = cells.leak();
        self.cells.0.extend(cells.chunks_exact(CHUNK));
        self.cells
            .0
            .get(chunk)
            .copied()
            .ok_or(Kern::ResourceShortage)
    }

    fn grow(&mut self) -> Result<(), Kern> {
        if self.slots >= self.limit || self.frozen {
            return Err(Kern::ResourceShortage);
        }
        let mut chunk = Vec::new();
        let room = chunk.try_reserve_exact(CHUNK);
        room.map_err(|_| Kern::ResourceShortage)?;
        let room = self.chunks.try_reserve(1);
        room.map_err(|_| Kern::ResourceShortage)?;
        let cells = self.cells_of(self.chunks.len())?;
        chunk.extend(cells.iter().map(|cells| Slot {
            generation: self.floor,
            held: None,
            record: T::vacant(cells),
            cells,
        }));
        let chunk = chunk.into_boxed_slice().try_into();
        let chunk = chunk.map_err(|_| Kern::ResourceShortage)?;
        self.free.grow()?;
        self.slots = self.slots.saturating_add(CHUNK as u32);
        self.chunks.push(chunk);
        Ok(())
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let chunk = self.chunks.get((index >> CHUNK_SHIFT) as usize)?;
        chunk.get((index & CHUNK_MASK) as usize)
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let chunk = self.chunks.get_mut((index >> CHUNK_SHIFT) as usize)?;
        chunk.get_mut((index & CHUNK_MASK) as usize)
    }
}

/// Gives back the room of a list that has much more than it needs for `least` items, or those that
/// there are, if there is memory for a smaller one.
pub fn fit<T>(list: &mut Vec<T>, least: usize) {
    let room = list.len().max(least).saturating_mul(2);
    if list.capacity() / 2 > room.max(8) {
        let mut short = Vec::new();
        if short.try_reserve_exact(room).is_ok() {
            short.append(list);
            *list = short;
        }
    }
}

#[cold]
#[track_caller]
fn stale(index: u32) -> ! {
    unreachable!("the kernel kept a handle to a record that is gone: {index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Record for u32 {
        type Cells = ();
        fn vacant(_: &()) -> u32 {
            0
        }
        fn release(&mut self) {}
    }

    #[test]
    fn a_handle_finds_nothing_once_its_record_is_gone_even_if_the_place_is_taken_again() {
        let mut slab = Slab::new(8);
        let first = slab.insert(7).unwrap();
        slab.remove(first);
        assert_eq!((slab.get(first), slab.len()), (None, 0));
        let second = slab.insert(8).unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        slab.remove(first);
        assert_eq!(slab.get(second), Some(&8));
    }

    #[test]
    fn empty_chunks_at_the_end_go_back_and_no_handle_comes_to_life_with_their_successors() {
        let mut slab = Slab::new(1 << 12);
        let mut all: Vec<_> = (0..1000).map(|n| slab.insert(n).unwrap()).collect();
        let again = all[999];
        slab.remove(again);
        all[999] = slab.insert(999).unwrap();
        // From the front: only what lies at the end goes back by itself.
        for id in &all[1..] {
            slab.remove(*id);
        }
        while slab.trim() {}
        assert_eq!((slab.slots(), slab.len()), (64, 1));
        assert!(slab.chunks.capacity() <= 64);
        assert_eq!(slab.get(all[0]), Some(&0));
        let more: Vec<_> = (0..1000).map(|n| slab.insert(n).unwrap()).collect();
        assert!(
            all[1..]
                .iter()
                .chain([&again])
                .all(|id| slab.get(*id).is_none())
        );
        assert!(
            more.iter()
                .zip(0..)
                .all(|(id, n)| slab.get(*id) == Some(&n))
        );
        // From the end, with a hole in the free list for each chunk that goes.
        for id in more.iter().rev() {
            slab.remove(*id);
        }
        assert_eq!((slab.slots(), slab.len()), (64, 1));
        let last: Vec<_> = (0..500).map(|n| slab.insert(n).unwrap()).collect();
        assert!(
            last.iter()
                .zip(0..)
                .all(|(id, n)| slab.get(*id) == Some(&n))
        );
        assert_eq!((slab.iter().count(), slab.slots()), (501, 512));
    }

    #[test]
    fn a_full_slab_says_so_and_what_was_reserved_fits() {
        let mut slab = Slab::new(40);
        assert_eq!(slab.reserve(65), Err(Kern::ResourceShortage));
        slab.reserve(64).unwrap();
        for number in 0..64 {
            slab.insert(number).unwrap();
        }
        assert_eq!(slab.insert(64), Err(Kern::ResourceShortage));
        assert_eq!(slab.iter().map(|(_, n)| *n).sum::<u32>(), 63 * 64 / 2);
    }
}
