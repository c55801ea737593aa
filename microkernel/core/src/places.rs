//! Which places of a slab are free: a bit for each, and one for each chunk that has any.
//!
//! The lowest is taken first. So what stays gathers at the start, and chunks at the end become empty.

use alloc::vec::Vec;
use ipc_abi::Kern;

use crate::slab::fit;

/// log2 of the places of a chunk.
pub(crate) const CHUNK_SHIFT: u32 = u32::BITS.trailing_zeros();
/// A chunk in which nothing lies.
const EMPTY: u32 = u32::MAX;
/// log2 of the chunks that a word of `any` tells of.
const WORD_SHIFT: u32 = u64::BITS.trailing_zeros();

/// The free places of some chunks.
#[derive(Debug)]
pub(crate) struct Places {
    /// The free places of each chunk.
    chunks: Vec<u32>,
    /// The chunks that have any.
    any: Vec<u64>,
}

/// The word that tells of a chunk, and the chunk's bit in it.
const fn in_word(chunk: u32) -> (usize, u64) {
    (
        (chunk >> WORD_SHIFT) as usize,
        1 << (chunk & (u64::BITS - 1)),
    )
}

impl Places {
    /// Of no chunk.
    pub(crate) const fn new() -> Places {
        Places {
            chunks: Vec::new(),
            any: Vec::new(),
        }
    }

    /// Takes the lowest that is free.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u32> {
        let mut words = self.any.iter_mut().zip(0_u32..);
        let (word, at) = words.find(|(word, _)| **word != 0)?;
        let chunk = at << WORD_SHIFT | word.trailing_zeros();
        let free = self.chunks.get_mut(chunk as usize)?;
        let place = free.trailing_zeros();
        *free &= free.wrapping_sub(1);
        if *free == 0 {
            *word &= word.wrapping_sub(1);
        }
        Some(chunk << CHUNK_SHIFT | place)
    }

    /// Gives a place back that was taken.
    #[inline]
    pub(crate) fn give(&mut self, place: u32) {
        let chunk = place >> CHUNK_SHIFT;
        let (word, bit) = in_word(chunk);
        let free = self.chunks.get_mut(chunk as usize);
        if let (Some(free), Some(word)) = (free, self.any.get_mut(word)) {
            *free |= 1 << (place & (u32::BITS - 1));
            *word |= bit;
        }
    }

    /// Whether the last chunk is empty.
    #[inline]
    pub(crate) fn ends_empty(&self) -> bool {
        self.chunks.last() == Some(&EMPTY)
    }

    /// Adds an empty chunk.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn grow(&mut self) -> Result<(), Kern> {
        let room = self.chunks.try_reserve(1);
        room.map_err(|_| Kern::ResourceShortage)?;
        let (word, bit) = in_word(self.chunks.len() as u32);
        if self.any.len() == word {
            let room = self.any.try_reserve(1);
            room.map_err(|_| Kern::ResourceShortage)?;
            self.any.push(0);
        }
        if let Some(word) = self.any.get_mut(word) {
            *word |= bit;
        }
        self.chunks.push(EMPTY);
        Ok(())
    }

    /// Takes the last chunk away.
    pub(crate) fn shrink(&mut self) {
        self.chunks.pop();
        let (word, bit) = in_word(self.chunks.len() as u32);
        if let Some(word) = self.any.get_mut(word) {
            *word &= !bit;
        }
        fit(&mut self.chunks, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_place_is_taken_first() {
        let mut places = Places::new();
        assert_eq!(places.take(), None);
        for _ in 0..130 {
            places.grow().unwrap();
        }
        let all = 130 << CHUNK_SHIFT;
        assert!((0..all).all(|place| places.take() == Some(place)));
        assert_eq!(places.take(), None);
        for place in [4000, 63, 64, 2048, 31] {
            places.give(place);
        }
        for place in [31, 63, 64, 2048, 4000] {
            assert_eq!(places.take(), Some(place));
        }
        assert_eq!(places.take(), None);
    }

    #[test]
    fn chunks_that_are_empty_go_and_come_again() {
        let mut places = Places::new();
        for _ in 0..66 {
            places.grow().unwrap();
        }
        let first = places.take();
        assert_eq!(first, Some(0));
        while places.ends_empty() {
            places.shrink();
        }
        assert_eq!(places.chunks.len(), 1);
        assert_eq!(places.any.iter().sum::<u64>(), 1);
        places.give(0);
        assert!(places.ends_empty());
        places.shrink();
        assert_eq!(places.take(), None);
        places.grow().unwrap();
        assert_eq!(places.take(), Some(0));
    }
}
