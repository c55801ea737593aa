//! The order in which a processor may take the kernel's locks.
//!
//! A lock may be taken while others are held only if its rank is higher than theirs, so that no two
//! processors can each wait for what the other has. The table is [`Rank`]; debug builds of the kernel
//! keep [`Held`] for each processor and stop at the first lock that is taken out of order.

/// The kernel's locks, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rank {
    /// Everything that kernel-core decides about, and page tables.
    World,
    /// The kernel's heap.
    Heap,
    /// The pool of free frames, which the heap grows from.
    Pool,
    /// The last faults and exceptions, for last words.
    Trace,
}

impl Rank {
    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// The locks that a processor holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held(u32);

impl Held {
    /// None.
    pub const NONE: Held = Held(0);

    /// With one lock more; `None`: it must not be taken now.
    #[must_use]
    pub const fn with(self, rank: Rank) -> Option<Held> {
        if self.0 < rank.bit() {
            Some(Held(self.0 | rank.bit()))
        } else {
            None
        }
    }

    /// Without a lock, which is given back. The order does not matter.
    #[must_use]
    pub const fn without(self, rank: Rank) -> Held {
        Held(self.0 & !rank.bit())
    }

    /// As a word that [`Held::from_word`] reads.
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// What [`Held::word`] wrote.
    #[must_use]
    pub const fn from_word(word: u32) -> Held {
        Held(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_upwards_and_given_back_in_any_order() {
        let world = Held::NONE.with(Rank::World).unwrap();
        let pool = world.with(Rank::Pool).unwrap();
        assert_eq!(pool.with(Rank::Heap), None, "the pool never allocates");
        assert_eq!(pool.with(Rank::Pool), None, "nobody takes a lock twice");
        assert_eq!(pool.with(Rank::World), None);
        let left = pool.without(Rank::World);
        assert_eq!(left.with(Rank::World), None);
        assert_eq!(left.without(Rank::Pool), Held::NONE);
        assert!(world.with(Rank::Heap).unwrap().with(Rank::Pool).is_some());
        assert_eq!(Held::from_word(pool.word()), pool);
    }
}
