//! Numbers that look random and are the same each time.

/// A generator (xorshift).
pub(crate) struct Random(u64);

impl Random {
    /// From a seed; each gives another sequence.
    pub(crate) const fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Any word.
    pub(crate) const fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`, which is not 0.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 11) % limit
    }

    /// True once in `times`.
    pub(crate) const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub(crate) fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len().max(1) as u64) as usize;
        from.get(index).copied().unwrap_or_default()
    }

    /// A word that is often one of those at which numbers go wrong.
    pub(crate) fn extreme(&mut self) -> u64 {
        match self.below(8) {
            0 => self.word(),
            1 => u64::MAX - self.below(4096),
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            4 => self.below(64),
            5 => self.below(64) << 12,
            6 => 0x7FFF_FFFF_F000_u64.wrapping_add(self.below(16) << 10),
            _ => 0,
        }
    }
}
