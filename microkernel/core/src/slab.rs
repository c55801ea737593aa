//! Records in chunks, named by handles that carry a generation; exhaustion is a value.
//!
//! A slab grows by one chunk at a time and never moves a record, so growth is bounded work. A
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

/// A place: the handle of the record that lies here now, or else the next free place.
struct Slot<T: Record> {
    held: Option<Id<T>>,
    record: T,
    cells: &'static T::Cells,
    /// Of the next record that lies here.
    generation: NonZeroU32,
    next_free: Option<u32>,
}

impl<T: Record + fmt::Debug> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("held", &self.held)
            .field("record", &self.record)
            .field("generation", &self.generation)
            .field("next_free", &self.next_free)
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

/// log2 of the records of a chunk.
const CHUNK_SHIFT: u32 = 5;
const CHUNK: usize = 1 << CHUNK_SHIFT;
const CHUNK_MASK: u32 = (1 << CHUNK_SHIFT) - 1;

/// Records of one kind.
#[derive(Debug)]
pub(crate) struct Slab<T: Record> {
    /// The length of a chunk is part of its type, so that a look-up checks only which chunk it is.
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    free: Option<u32>,
    live: u32,
    slots: u32,
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
            free: None,
            live: 0,
            slots: 0,
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
        if self.free.is_none() {
            self.grow()?;
        }
        let index = self.free.ok_or(Kern::ResourceShortage)?;
        let slot = self.slot_mut(index).ok_or(Kern::ResourceShortage)?;
        let next = slot.next_free.take();
        let id = Id::new(index, slot.generation);
        slot.record = make(id, slot.cells);
        slot.held = Some(id);
        self.free = next;
        self.live = self.live.saturating_add(1);
        Ok(id)
    }

    /// Ends a record, if it is there; its handles are stale from now on.
    pub(crate) fn remove(&mut self, id: Id<T>) {
        let free = self.free;
        let Some(slot) = self
            .slot_mut(id.index())
            .filter(|slot| slot.held == Some(id))
        else {
            return;
        };
        slot.held = None;
        slot.record.release();
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        slot.next_free = free;
        self.free = Some(id.index());
        self.live = self.live.saturating_sub(1);
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

    fn grow(&mut self) -> Result<(), Kern> {
        if self.slots >= self.limit || self.frozen {
            return Err(Kern::ResourceShortage);
        }
        let mut chunk = Vec::new();
        let room = chunk.try_reserve_exact(CHUNK);
        room.map_err(|_| Kern::ResourceShortage)?;
        let room = self.chunks.try_reserve(1);
        room.map_err(|_| Kern::ResourceShortage)?;
        let mut cells = Vec::new();
        let room = cells.try_reserve_exact(CHUNK);
        room.map_err(|_| Kern::ResourceShortage)?;
        cells.resize_with(CHUNK, T::Cells::default);
        // A chunk is never freed.
        let cells: &'static [T::Cells] = cells.leak();
        let end = self.slots.saturating_add(CHUNK as u32);
        for (index, cells) in (self.slots..end).zip(cells) {
            let next = index.saturating_add(1);
            chunk.push(Slot {
                generation: NonZeroU32::MIN,
                next_free: if next == end { self.free } else { Some(next) },
                held: None,
                record: T::vacant(cells),
                cells,
            });
        }
        let chunk = chunk.into_boxed_slice().try_into();
        let chunk = chunk.map_err(|_| Kern::ResourceShortage)?;
        self.free = Some(self.slots);
        self.slots = end;
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
