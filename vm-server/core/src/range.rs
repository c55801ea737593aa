//! Addresses, offsets and sizes: rounding and overflow decided in one place.
//!
//! All are `u64` bytes; a page number is an address or offset over [`PAGE_SIZE`]. Nothing else in
//! the crate shifts by the page size.

use ipc_abi::Kern;
pub use ipc_abi::layout::{PAGE_SHIFT, PAGE_SIZE};

/// Bytes below the page.
pub const PAGE_MASK: u64 = PAGE_SIZE - 1;

/// Rounds down to a page.
#[inline]
#[must_use]
pub const fn trunc_page(value: u64) -> u64 {
    value & !PAGE_MASK
}

/// Rounds up to a page; `None` if that overflows.
#[inline]
#[must_use]
pub const fn round_page(value: u64) -> Option<u64> {
    match value.checked_add(PAGE_MASK) {
        Some(sum) => Some(trunc_page(sum)),
        None => None,
    }
}

/// Number of the page that holds a byte.
#[inline]
#[must_use]
pub const fn page_of(value: u64) -> u64 {
    value >> PAGE_SHIFT
}

/// First byte of a page; pages beyond the address space wrap to it no more than once.
#[inline]
#[must_use]
pub const fn bytes_of(pages: u64) -> u64 {
    pages << PAGE_SHIFT
}

/// Whether a value lies on a page boundary.
#[inline]
#[must_use]
pub const fn is_aligned(value: u64) -> bool {
    value & PAGE_MASK == 0
}

/// A range of bytes that starts and ends on page boundaries and does not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// No bytes.
    pub const EMPTY: Span = Span { start: 0, end: 0 };

    /// The pages that hold `[start, start + size)`.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: the end, or its rounding, overflows.
    pub const fn covering(start: u64, size: u64) -> Result<Span, Kern> {
        let Some(end) = start.checked_add(size) else {
            return Err(Kern::InvalidArgument);
        };
        match round_page(end) {
            Some(end) => Ok(Span {
                start: trunc_page(start),
                end,
            }),
            None => Err(Kern::InvalidArgument),
        }
    }

    /// A range whose ends are pages already; `None` if they are not, or out of order.
    #[must_use]
    pub const fn exact(start: u64, end: u64) -> Option<Span> {
        if is_aligned(start) && is_aligned(end) && start <= end {
            Some(Span { start, end })
        } else {
            None
        }
    }

    /// First byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        page_of(self.size())
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_overflows_into_an_answer() {
        assert_eq!(round_page(1), Some(PAGE_SIZE));
        assert_eq!(round_page(PAGE_SIZE), Some(PAGE_SIZE));
        assert_eq!(round_page(u64::MAX - 4094), None);
        assert_eq!(Span::covering(u64::MAX, 2), Err(Kern::InvalidArgument));
        let span = Span::covering(0x1FFF, 2).unwrap();
        assert_eq!(
            (span.start(), span.end(), span.pages()),
            (0x1000, 0x3000, 2)
        );
        assert_eq!(Span::exact(1, 2), None);
    }
}
