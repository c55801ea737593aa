//! Where a page may be mapped: pairs of a map and a page number in it.
//!
//! A page remembers up to two places itself, more in a [`Block`]. It may name places that are gone, and
//! never misses one: so taking all translations of a page back is going over its places, and nothing has
//! to be searched. Translations are a cache: a page with more places than fit is taken back from all of
//! them and starts again, so that no event has to do with more than [`BLOCK`] of them.

use crate::id::Id;
use crate::slab::Slab;

/// Places that a page remembers itself.
pub const PLACES: usize = 2;
/// Places in a block.
pub const BLOCK: usize = 64;
/// Places of a block that are tried for a place.
const PROBES: usize = 8;
const PAGE_BITS: u32 = 36;
/// In the first word: the second says which block has the places.
const ELSEWHERE: u64 = u64::MAX;

/// The places of one page.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Places([u64; PLACES]);

/// The places of a page that has more than it remembers itself, found by their words.
#[derive(Debug)]
pub struct Block([u64; BLOCK]);

/// The blocks of all pages.
pub type Blocks = Slab<Block>;

/// What remembering a place came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The page had it already.
    Known,
    /// It is news.
    New,
    /// The page cannot remember it; nothing has changed.
    Full,
}

/// A place as a word: map index + 1 above 36 bits of page number.
const fn word((map, page): (u32, u64)) -> u64 {
    (map as u64).saturating_add(1) << PAGE_BITS | page & ((1 << PAGE_BITS) - 1)
}

const fn place(word: u64) -> (u32, u64) {
    let map = (word >> PAGE_BITS) as u32;
    (map.saturating_sub(1), word & ((1 << PAGE_BITS) - 1))
}

impl Block {
    /// The places of a block that a word may have.
    fn probes(word: u64) -> impl Iterator<Item = usize> {
        let first = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        (0..PROBES).map(move |next| (first as usize).wrapping_add(next) % BLOCK)
    }

    fn add(&mut self, word: u64) -> Added {
        for at in Block::probes(word) {
            match self.0.get_mut(at) {
                Some(found) if *found == word => return Added::Known,
                Some(free) if *free == 0 => {
                    *free = word;
                    return Added::New;
                }
                _ => {}
            }
        }
        Added::Full
    }

    fn holds(&self, word: u64) -> bool {
        Block::probes(word).any(|at| self.0.get(at) == Some(&word))
    }
}

impl Places {
    /// Nowhere.
    pub const NEVER: Places = Places([0; PLACES]);

    /// One place.
    #[inline]
    #[must_use]
    pub const fn one(at: (u32, u64)) -> Places {
        Places([word(at), 0])
    }

    /// Remembers a place, map index and page number, in the page itself. `Full`: it has a block, or needs
    /// one.
    #[inline]
    pub fn add(&mut self, at: (u32, u64)) -> Added {
        let word = word(at);
        if self.is_elsewhere() {
            return Added::Full;
        }
        for place in &mut self.0 {
            if *place == word {
                return Added::Known;
            }
            if *place == 0 {
                *place = word;
                return Added::New;
            }
        }
        Added::Full
    }

    /// As [`Places::add`], in a block; `Full`: there is no memory for one, or no room in it.
    #[cold]
    pub fn add_elsewhere(&mut self, blocks: &mut Blocks, at: (u32, u64)) -> Added {
        if !self.is_elsewhere() {
            let mut block = Block([0; BLOCK]);
            for word in self.0 {
                // There is room for two.
                let _ = block.add(word);
            }
            let Ok(id) = blocks.insert(block) else {
                return Added::Full;
            };
            self.0 = [ELSEWHERE, u64::from(id.index())];
        }
        match self.block().and_then(|index| blocks.at_mut(index)) {
            Some(block) => block.add(word(at)),
            None => Added::Full,
        }
    }

    /// Whether the page may be mapped at a place.
    #[inline]
    #[must_use]
    pub fn holds(&self, blocks: &Blocks, at: (u32, u64)) -> bool {
        let word = word(at);
        match self.block() {
            None => self.0.contains(&word),
            Some(index) => blocks.at(index).is_some_and(|block| block.holds(word)),
        }
    }

    /// Whether it is mapped nowhere.
    #[must_use]
    pub const fn is_never(&self) -> bool {
        self.0[0] == 0
    }

    /// Whether a block has its places.
    #[inline]
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        self.0[0] == ELSEWHERE
    }

    /// The block that has its places.
    #[inline]
    #[must_use]
    pub const fn block(&self) -> Option<u32> {
        if self.is_elsewhere() {
            Some(self.0[1] as u32)
        } else {
            None
        }
    }

    /// The places, as map index and page number.
    #[must_use]
    pub fn list(&self, blocks: &Blocks) -> heapless::Vec<(u32, u64), BLOCK> {
        let words = match self.block() {
            None => self.0.as_slice(),
            Some(index) => blocks.at(index).map_or(&[][..], |block| &block.0),
        };
        words
            .iter()
            .filter(|word| **word != 0)
            .map(|word| place(*word))
            .collect()
    }

    /// Forgets them.
    #[inline]
    pub fn clear(&mut self, blocks: &mut Blocks) {
        let block: Option<Id<Block>> = self.block().and_then(|index| blocks.id_at(index));
        if let Some(block) = block {
            blocks.remove(block);
        }
        *self = Places::NEVER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(places: &Places, blocks: &Blocks) -> heapless::Vec<(u32, u64), BLOCK> {
        let mut list = places.list(blocks);
        list.sort_unstable();
        list
    }

    #[test]
    fn places_are_remembered_first_in_the_page_then_in_a_block() {
        let (mut places, mut blocks) = (Places::NEVER, Blocks::new(8));
        assert!(places.is_never());
        for (at, added) in [
            ((0, 5), Added::New),
            ((0, 5), Added::Known),
            ((3, 1 << 35), Added::New),
            ((4, 4), Added::Full),
        ] {
            assert_eq!(places.add(at), added);
        }
        assert_eq!(sorted(&places, &blocks), [(0, 5), (3, 1 << 35)]);
        assert_eq!(places.add_elsewhere(&mut blocks, (4, 4)), Added::New);
        assert_eq!(places.add((9, 9)), Added::Full, "the block has them");
        assert_eq!(places.add_elsewhere(&mut blocks, (0, 5)), Added::Known);
        assert_eq!(sorted(&places, &blocks), [(0, 5), (3, 1 << 35), (4, 4)]);
        assert!(places.holds(&blocks, (3, 1 << 35)) && !places.holds(&blocks, (1, 5)));
        places.clear(&mut blocks);
        assert!(places.is_never() && blocks.is_empty());
    }

    #[test]
    fn a_block_that_is_full_forgets_nothing() {
        let (mut places, mut blocks) = (Places::NEVER, Blocks::new(8));
        let mut known = heapless::Vec::<(u32, u64), BLOCK>::new();
        for map in 0..1000 {
            let at = (map, 77);
            match places.add(at) {
                Added::Full => match places.add_elsewhere(&mut blocks, at) {
                    Added::Full => break,
                    added => assert_eq!(added, Added::New),
                },
                added => assert_eq!(added, Added::New),
            }
            known.push(at).unwrap();
        }
        assert!(known.len() > BLOCK / 2, "{}", known.len());
        assert_eq!(sorted(&places, &blocks), known);
        places.clear(&mut blocks);
        assert!(blocks.is_empty());
    }

    #[test]
    fn without_memory_for_a_block_nothing_changes() {
        let (mut places, mut blocks) = (Places::NEVER, Blocks::new(0));
        places.add((1, 1));
        places.add((2, 2));
        assert_eq!(places.add_elsewhere(&mut blocks, (3, 3)), Added::Full);
        assert_eq!(sorted(&places, &blocks), [(1, 1), (2, 2)]);
    }
}
