//! Seeded choices, the same on every machine: for tests.
//!
//! Of its own rather than a crate of the registry, because a seed has to mean the same schedule for
//! as long as it is written down somewhere.
#![no_std]

/// A generator of numbers (xorshift with a multiplied output).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Any number.
    pub const fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 16) % limit
    }

    /// True once in `odds` times.
    pub const fn once_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    /// One of several, if there are any.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.below(from.len() as u64) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut random = Random::new(1);
        let first: [u64; 3] = core::array::from_fn(|_| random.below(1000));
        assert_eq!(first, [121, 422, 778]);
    }
}
