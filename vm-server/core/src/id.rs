//! Handles: an index into a [`crate::slab::Slab`] and the generation of what lay there.
//!
//! A handle that outlives its record finds nothing, never something else. Eight bytes, also as an
//! `Option`. As one word it is what ports carry as their payload.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU32;

/// A handle of a record of type `T`.
pub struct Id<T> {
    index: u32,
    generation: NonZeroU32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// Puts a handle together. Only a slab makes handles that find anything.
    #[must_use]
    pub const fn new(index: u32, generation: NonZeroU32) -> Id<T> {
        Id {
            index,
            generation,
            kind: PhantomData,
        }
    }

    /// The record's place in its slab.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which of the records that lay there in turn.
    #[must_use]
    pub const fn generation(self) -> NonZeroU32 {
        self.generation
    }

    /// As one word: index in the low half, generation in the high half. Never 0.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.index as u64 | (self.generation.get() as u64) << 32
    }

    /// Reads a word; `None` if no handle has this form.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Id<T>> {
        match NonZeroU32::new((word >> 32) as u32) {
            Some(generation) => Some(Id::new((word & 0xFFFF_FFFF) as u32, generation)),
            None => None,
        }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}

impl<T> Eq for Id<T> {}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_the_trip_through_a_payload() {
        let id: Id<u8> = Id::new(7, NonZeroU32::new(3).unwrap());
        assert_eq!(Id::from_word(id.to_word()), Some(id));
        assert_eq!(Id::<u8>::from_word(7), None, "generation 0 is no handle");
        assert_eq!(size_of::<Option<Id<u8>>>(), 8);
    }
}
