//! Which records were handed out to be changed: for tests that check after each event only what the
//! event may have broken.
//!
//! Without the feature `touched` a [`Touched`] has no size and noting a record is nothing, so that the
//! server pays nothing for it. A record that was handed out counts as touched even if nobody changed
//! it: a change that nobody noted would be a check that nobody made.

#[cfg(any(test, feature = "touched"))]
use alloc::vec::Vec;

/// The touched records of one kind, by index.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    #[cfg(any(test, feature = "touched"))]
    list: Vec<u32>,
    /// A bit for each that is in the list.
    #[cfg(any(test, feature = "touched"))]
    marks: Vec<u64>,
    /// Room for the next list.
    #[cfg(any(test, feature = "touched"))]
    room: Vec<u32>,
}

impl Touched {
    /// None yet.
    pub(crate) const fn new() -> Touched {
        Touched {
            #[cfg(any(test, feature = "touched"))]
            list: Vec::new(),
            #[cfg(any(test, feature = "touched"))]
            marks: Vec::new(),
            #[cfg(any(test, feature = "touched"))]
            room: Vec::new(),
        }
    }

    /// Notes a record.
    #[cfg(not(any(test, feature = "touched")))]
    #[inline(always)]
    pub(crate) const fn note(&mut self, _index: u32) {}

    /// Notes a record.
    #[cfg(any(test, feature = "touched"))]
    #[inline]
    pub(crate) fn note(&mut self, index: u32) {
        let (word, bit) = ((index >> 6) as usize, 1u64 << (index & 63));
        if word >= self.marks.len() {
            self.marks.resize(word.saturating_add(1), 0);
        }
        if let Some(marks) = self.marks.get_mut(word)
            && *marks & bit == 0
        {
            *marks |= bit;
            self.list.push(index);
        }
    }

    /// The records noted since the last time; they are noted no more.
    #[cfg(any(test, feature = "touched"))]
    pub(crate) fn take(&mut self) -> Vec<u32> {
        for index in &self.list {
            if let Some(marks) = self.marks.get_mut((index >> 6) as usize) {
                *marks &= !(1u64 << (index & 63));
            }
        }
        core::mem::replace(&mut self.list, core::mem::take(&mut self.room))
    }

    /// Gives a list back whose room the next may have.
    #[cfg(any(test, feature = "touched"))]
    pub(crate) fn reuse(&mut self, mut list: Vec<u32>) {
        list.clear();
        self.room = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_noted_once_until_it_is_taken() {
        let mut touched = Touched::new();
        for index in [3, 200, 3] {
            touched.note(index);
        }
        assert_eq!(touched.take(), [3, 200]);
        assert!(touched.take().is_empty());
        touched.note(3);
        assert_eq!(touched.take(), [3]);
    }
}
