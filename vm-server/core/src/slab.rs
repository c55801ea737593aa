//! Where records live: chunks that never move, found by index, exhaustion as a value.
//!
//! [`Slab::insert`] is the only place where the core allocates, and it says so when it cannot.
//! A place is handed out again with a new generation, so an old [`Id`] finds nothing. The
//! unchecked twins [`Slab::at`] and [`Slab::at_mut`] are for links between records, where the
//! link itself keeps the record alive.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use ipc_abi::Kern;

use crate::id::Id;
use crate::touched::Touched;

const SHIFT: u32 = 6;
const CHUNK: usize = 1 << SHIFT;
const MASK: u32 = (1 << SHIFT) - 1;

/// No record.
pub const NIL: u32 = u32::MAX;

struct Cell<T> {
    generation: NonZeroU32,
    /// The next free place, while this one is free.
    next: u32,
    value: Option<T>,
}

type Chunk<T> = Box<[Cell<T>; CHUNK]>;

/// Records of one type.
pub struct Slab<T> {
    /// The length of a chunk is part of its type, so that a look-up checks only which chunk it is.
    chunks: Vec<Chunk<T>>,
    free: u32,
    used: u32,
    /// Places that were ever used.
    top: u32,
    limit: u32,
    /// Most records at a time, for tests that have it run out.
    #[cfg(test)]
    cap: u32,
    /// Those handed out to be changed.
    pub(crate) touched: Touched,
}

impl<T> Slab<T> {
    /// An empty slab that never holds more than `limit` records.
    #[must_use]
    pub const fn new(limit: u32) -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            free: NIL,
            used: 0,
            top: 0,
            limit,
            #[cfg(test)]
            cap: u32::MAX,
            touched: Touched::new(),
        }
    }

    /// Holds no more than `limit` records in places that were never used, from now on.
    pub const fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Records in it.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.used
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Stores a record.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: the limit is reached, or there is no memory for a chunk.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Id<T>, Kern> {
        self.insert_with(|| value)
    }

    /// As [`Slab::insert`], for a large record that is made where it lies.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn insert_with(&mut self, make: impl FnOnce() -> T) -> Result<Id<T>, Kern> {
        #[cfg(test)]
        self.check_cap()?;
        let index = self.free;
        if index == NIL {
            return self.insert_fresh(make);
        }
        let cell = cell_mut(&mut self.chunks, index).ok_or(Kern::ResourceShortage)?;
        self.free = cell.next;
        cell.value = Some(make());
        self.touched.note(index);
        self.used = self.used.saturating_add(1);
        Ok(Id::new(index, cell.generation))
    }

    #[cold]
    fn insert_fresh(&mut self, make: impl FnOnce() -> T) -> Result<Id<T>, Kern> {
        self.grow()?;
        let index = self.top;
        let cell = cell_mut(&mut self.chunks, index).ok_or(Kern::ResourceShortage)?;
        let generation = cell.generation;
        cell.value = Some(make());
        self.touched.note(index);
        self.top = index.saturating_add(1);
        self.used = self.used.saturating_add(1);
        Ok(Id::new(index, generation))
    }

    /// Makes sure that the next [`Slab::insert`] cannot fail.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`, as there.
    pub fn reserve_one(&mut self) -> Result<(), Kern> {
        #[cfg(test)]
        self.check_cap()?;
        if self.free == NIL {
            self.grow()
        } else {
            Ok(())
        }
    }

    /// As [`Slab::reserve_one`]; gives the handle that the next record will have.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn reserve_next(&mut self) -> Result<Id<T>, Kern> {
        self.reserve_one()?;
        let index = if self.free == NIL {
            self.top
        } else {
            self.free
        };
        let cell = cell(&self.chunks, index).ok_or(Kern::ResourceShortage)?;
        Ok(Id::new(index, cell.generation))
    }

    /// Holds no more than `left` records beside those that it has, from now on.
    #[cfg(test)]
    pub(crate) const fn set_cap(&mut self, left: u32) {
        self.cap = self.used.saturating_add(left);
    }

    #[cfg(test)]
    const fn check_cap(&self) -> Result<(), Kern> {
        if self.used >= self.cap {
            return Err(Kern::ResourceShortage);
        }
        Ok(())
    }

    /// Makes room for one place beyond `top`. A chunk is allocated whole, so it never moves.
    fn grow(&mut self) -> Result<(), Kern> {
        if self.top >= self.limit {
            return Err(Kern::ResourceShortage);
        }
        if (self.top >> SHIFT) as usize == self.chunks.len() {
            self.chunks
                .try_reserve(1)
                .map_err(|_| Kern::ResourceShortage)?;
            self.chunks.push(new_chunk()?);
        }
        Ok(())
    }

    /// Takes a record out. `None` if the handle is stale.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let cell = cell_mut(&mut self.chunks, id.index())?;
        if cell.generation != id.generation() {
            return None;
        }
        let value = cell.value.take()?;
        cell.generation = cell.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        cell.next = self.free;
        self.free = id.index();
        self.touched.note(id.index());
        self.used = self.used.saturating_sub(1);
        Some(value)
    }

    /// As [`Slab::remove`], for the record at an index that nobody wants to see again: a large one is
    /// not copied out of its place.
    pub fn discard(&mut self, index: u32) {
        let Some(cell) = cell_mut(&mut self.chunks, index) else {
            return;
        };
        if cell.value.is_none() {
            return;
        }
        cell.value = None;
        cell.generation = cell.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        cell.next = self.free;
        self.free = index;
        self.touched.note(index);
        self.used = self.used.saturating_sub(1);
    }

    /// The record of a handle.
    #[inline]
    #[must_use]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let cell = cell(&self.chunks, id.index())?;
        if cell.generation != id.generation() {
            return None;
        }
        cell.value.as_ref()
    }

    /// The record of a handle, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let cell = cell_mut(&mut self.chunks, id.index())?;
        if cell.generation != id.generation() {
            return None;
        }
        self.touched.note(id.index());
        cell.value.as_mut()
    }

    /// The record at an index, whatever its generation.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        cell(&self.chunks, index)?.value.as_ref()
    }

    /// The record at an index, to change.
    #[inline]
    #[must_use]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        let value = cell_mut(&mut self.chunks, index)?.value.as_mut()?;
        self.touched.note(index);
        Some(value)
    }

    /// The handle of the record at an index.
    #[inline]
    #[must_use]
    pub fn id_at(&self, index: u32) -> Option<Id<T>> {
        let cell = cell(&self.chunks, index)?;
        cell.value.as_ref()?;
        Some(Id::new(index, cell.generation))
    }

    /// One past the highest index that was ever used.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.top
    }

    /// Every record with its handle, in order of index.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let cells = self.chunks.iter().flat_map(|chunk| chunk.iter());
        (0..self.top).zip(cells).filter_map(|(index, cell)| {
            let value = cell.value.as_ref()?;
            Some((Id::new(index, cell.generation), value))
        })
    }
}

/// A chunk of free places.
fn new_chunk<T>() -> Result<Chunk<T>, Kern> {
    let mut cells = Vec::new();
    cells
        .try_reserve_exact(CHUNK)
        .map_err(|_| Kern::ResourceShortage)?;
    cells.resize_with(CHUNK, || Cell {
        generation: NonZeroU32::MIN,
        next: NIL,
        value: None,
    });
    // It has just that length.
    Chunk::try_from(cells.into_boxed_slice()).map_err(|_| Kern::ResourceShortage)
}

#[inline]
fn cell<T>(chunks: &[Chunk<T>], index: u32) -> Option<&Cell<T>> {
    let chunk = chunks.get((index >> SHIFT) as usize)?;
    chunk.get((index & MASK) as usize)
}

#[inline]
fn cell_mut<T>(chunks: &mut [Chunk<T>], index: u32) -> Option<&mut Cell<T>> {
    let chunk = chunks.get_mut((index >> SHIFT) as usize)?;
    chunk.get_mut((index & MASK) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing() {
        let mut slab = Slab::new(10);
        let old = slab.insert('a').unwrap();
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('b').unwrap();
        assert_eq!(new.index(), old.index(), "the place is used again");
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_discarded_record_is_gone_once() {
        let mut slab = Slab::new(10);
        let old = slab.insert('a').unwrap();
        slab.discard(old.index());
        slab.discard(old.index());
        assert_eq!((slab.get(old), slab.len()), (None, 0));
        let new = slab.insert('b').unwrap();
        assert_eq!(new.index(), old.index(), "the place is used again");
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.insert('c').unwrap().index(), 1, "it was freed once");
    }

    #[test]
    fn records_keep_their_place_while_the_slab_grows() {
        let mut slab = Slab::new(1000);
        let ids: Vec<_> = (0..500).map(|n| slab.insert(n).unwrap()).collect();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(slab.get(*id), Some(&n));
            assert_eq!(slab.at(id.index()), Some(&n));
        }
        assert_eq!(slab.iter().count(), 500);
    }

    #[test]
    fn the_limit_is_an_answer() {
        let mut slab = Slab::new(2);
        let first = slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        assert_eq!(slab.reserve_one(), Err(Kern::ResourceShortage));
        assert_eq!(slab.insert(3), Err(Kern::ResourceShortage));
        slab.remove(first);
        assert_eq!(slab.reserve_one(), Ok(()));
        assert!(slab.insert(3).is_ok());
    }
}
