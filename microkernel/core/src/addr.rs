//! Addresses, frames and page ranges: the only address arithmetic in the kernel.
//!
//! [`UserAddr`] is an address of the user half, [`PhysAddr`] a physical one, [`Frame`] the number of
//! a physical page, [`PageRange`] a checked run of user pages. None of them adds or subtracts with
//! operators: what could wrap around answers `None`, and [`PageRange::new`] is the one place where
//! wrap-around, alignment and bounds of a range are decided.

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SHIFT, PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::translation::FRAME_LIMIT;

/// One past the last address of the user half.
pub const USER_HALF: u64 = 1 << 47;
/// Frames of a large page.
pub const LARGE_FRAMES: u32 = 512;

/// A physical page by number: physical address divided by 4096, below [`FRAME_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(u32);

impl Frame {
    /// The frame at physical address 0.
    pub const FIRST: Frame = Frame(0);

    /// The frame of this number, if there can be one.
    #[must_use]
    pub const fn new(number: u32) -> Option<Frame> {
        if number < FRAME_LIMIT {
            Some(Frame(number))
        } else {
            None
        }
    }

    /// The frame that a word's low 30 bits name; for words that the kernel itself wrote.
    #[must_use]
    pub(crate) const fn from_low_bits(word: u64) -> Frame {
        Frame((word & 0x3FFF_FFFF) as u32)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its first byte.
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        PhysAddr((self.0 as u64) << PAGE_SHIFT)
    }

    /// The frame `count` behind this one.
    #[must_use]
    pub const fn after(self, count: u32) -> Option<Frame> {
        match self.0.checked_add(count) {
            Some(number) => Frame::new(number),
            None => None,
        }
    }

    /// The first frame of the large page that this one lies in.
    #[must_use]
    pub const fn large(self) -> Frame {
        Frame(self.0 & !(LARGE_FRAMES - 1))
    }

    /// Whether a large page can start here.
    #[must_use]
    pub const fn is_large_aligned(self) -> bool {
        self.0 & (LARGE_FRAMES - 1) == 0
    }
}

/// A physical address, below 4 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// The address, if a frame can hold it.
    #[must_use]
    pub const fn new(raw: u64) -> Option<PhysAddr> {
        if raw >> PAGE_SHIFT < FRAME_LIMIT as u64 {
            Some(PhysAddr(raw))
        } else {
            None
        }
    }

    /// As a number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that it lies in.
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame((self.0 >> PAGE_SHIFT) as u32)
    }
}

/// An address of the user half; it need not be one that a task can map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserAddr(u64);

impl UserAddr {
    /// The address, if it lies in the user half.
    #[must_use]
    pub const fn new(raw: u64) -> Option<UserAddr> {
        if raw < USER_HALF {
            Some(UserAddr(raw))
        } else {
            None
        }
    }

    /// As a number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The start of its page.
    #[must_use]
    pub const fn page(self) -> UserAddr {
        UserAddr(self.0 & !(PAGE_SIZE - 1))
    }

    /// Whether it is the start of a page.
    #[must_use]
    pub const fn is_page(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }

    /// The address `pages` pages behind this one, if it lies in the user half.
    #[must_use]
    pub const fn after_pages(self, pages: u64) -> Option<UserAddr> {
        match pages.checked_mul(PAGE_SIZE) {
            Some(bytes) => match self.0.checked_add(bytes) {
                Some(raw) => UserAddr::new(raw),
                None => None,
            },
            None => None,
        }
    }

    /// Its page's place in a table of this level (1: the lowest, 4: the root), 0 to 511.
    #[must_use]
    #[inline]
    pub(crate) const fn slot(self, level: u8) -> usize {
        let shift = match level {
            4 => 39,
            3 => 30,
            2 => 21,
            _ => PAGE_SHIFT,
        };
        (self.0.wrapping_shr(shift) & 511) as usize
    }
}

/// A run of pages of the user half: start and end, both on pages, start not behind the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    start: u64,
    end: u64,
}

impl PageRange {
    /// The whole user half, IPC window and unmappable pages included: what ends with a space.
    pub const USER_HALF: PageRange = PageRange {
        start: 0,
        end: USER_HALF,
    };

    /// The range of `pages` pages from `address`, all of which a task can map.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: the address is not the start of a page.
    /// `KERN_INVALID_ADDRESS`: a page lies outside [`USER_MIN`] to [`USER_MAX`]; so does the
    /// address itself when there are no pages.
    pub const fn new(address: u64, pages: u64) -> Result<PageRange, Kern> {
        if address & (PAGE_SIZE - 1) != 0 {
            return Err(Kern::InvalidArgument);
        }
        let Some(bytes) = pages.checked_mul(PAGE_SIZE) else {
            return Err(Kern::InvalidAddress);
        };
        let Some(end) = address.checked_add(bytes) else {
            return Err(Kern::InvalidAddress);
        };
        if address < USER_MIN || end > USER_MAX {
            return Err(Kern::InvalidAddress);
        }
        Ok(PageRange {
            start: address,
            end,
        })
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last address.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.end.saturating_sub(self.start) >> PAGE_SHIFT
    }

    /// What is left when the first `pages` pages are done; empty if that is more than there are.
    #[must_use]
    pub const fn skip(self, pages: u64) -> PageRange {
        let bytes = pages.saturating_mul(PAGE_SIZE);
        let moved = self.start.saturating_add(bytes);
        let start = if moved > self.end { self.end } else { moved };
        PageRange {
            start,
            end: self.end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_wraps_leaves_the_user_part_or_is_crooked_is_refused() {
        assert_eq!(PageRange::new(0x1_0001, 1), Err(Kern::InvalidArgument));
        assert_eq!(PageRange::new(0, 1), Err(Kern::InvalidAddress));
        assert_eq!(
            PageRange::new(USER_MAX - PAGE_SIZE, 2),
            Err(Kern::InvalidAddress)
        );
        assert_eq!(
            PageRange::new(!(PAGE_SIZE - 1), 2),
            Err(Kern::InvalidAddress)
        );
        assert_eq!(
            PageRange::new(USER_MIN, u64::MAX),
            Err(Kern::InvalidAddress)
        );
        let last = PageRange::new(USER_MAX - PAGE_SIZE, 1).unwrap();
        assert_eq!((last.end(), last.pages()), (USER_MAX, 1));
    }

    #[test]
    fn skipping_never_passes_the_end() {
        let range = PageRange::new(0x20_0000, 4).unwrap();
        assert_eq!(range.skip(1).start(), 0x20_1000);
        assert_eq!(range.skip(u64::MAX).pages(), 0);
    }

    #[test]
    fn slots_take_nine_bits_a_level() {
        let address = UserAddr::new(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5).unwrap();
        assert_eq!([4, 3, 2, 1].map(|level| address.slot(level)), [1, 2, 3, 4]);
    }

    #[test]
    fn frames_and_addresses_end_at_four_tebibytes() {
        assert_eq!(Frame::new(FRAME_LIMIT), None);
        assert_eq!(PhysAddr::new(1 << 42), None);
        let last = Frame::new(FRAME_LIMIT - 1).unwrap();
        assert_eq!(last.after(1), None);
        assert_eq!(last.start().frame(), last);
    }
}
