//! One word of a page table, and what its bits mean.
//!
//! An entry of a lower table (level 1), or a large one of level 2, is a *leaf* and maps memory; the
//! others point to a table. What a task may do is the AND of writing and the OR of no-execute along
//! the walk, so that one entry can lower a whole subtree; tables are otherwise entered with all
//! rights. On x86 whatever can be written or executed can be read: any right brings reading.

use ipc_abi::layout::PAGE_SHIFT;
use ipc_abi::types::Prot;

use crate::addr::Frame;

/// A table word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Entry(u64);

impl Entry {
    /// The entry that maps nothing.
    pub const EMPTY: Entry = Entry(0);

    const PRESENT: u64 = 1;
    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const WRITE_THROUGH: u64 = 1 << 3;
    const CACHE_DISABLE: u64 = 1 << 4;
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    const LARGE: u64 = 1 << 7;
    /// One of the bits that the processor leaves to us: see [`Entry::in_window`].
    const WINDOW: u64 = 1 << 9;
    const NO_EXECUTE: u64 = 1 << 63;
    const FRAME: u64 = 0x000F_FFFF_FFFF_F000;
    const UNCACHED: u64 = Self::WRITE_THROUGH | Self::CACHE_DISABLE;

    /// The entry of this word.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Entry {
        Entry(raw)
    }

    /// An entry that maps nothing and remembers a frame: how unlinked tables are chained.
    pub(crate) const fn link(to: Option<Frame>) -> Entry {
        match to {
            Some(frame) => Entry((frame.number() as u64) << PAGE_SHIFT | Self::WRITE),
            None => Entry::EMPTY,
        }
    }

    /// The frame that [`Entry::link`] put there.
    pub(crate) const fn linked(self) -> Option<Frame> {
        if self.0 & Self::WRITE == 0 {
            return None;
        }
        Some(self.frame())
    }

    /// The word of this entry.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// An entry that points to a lower table, with all rights.
    #[must_use]
    pub const fn table(frame: Frame) -> Entry {
        Entry(Self::PRESENT | Self::WRITE | Self::USER | (frame.number() as u64) << PAGE_SHIFT)
    }

    /// An entry that maps a page for a task. `rights` must not be empty: a page without rights is
    /// not mapped.
    #[must_use]
    pub const fn page(frame: Frame, rights: Prot, uncached: bool) -> Entry {
        let write = if rights.contains(Prot::WRITE) {
            Self::WRITE
        } else {
            0
        };
        let execute = if rights.contains(Prot::EXECUTE) {
            0
        } else {
            Self::NO_EXECUTE
        };
        let cache = if uncached { Self::UNCACHED } else { 0 };
        let address = (frame.number() as u64) << PAGE_SHIFT;
        Entry(Self::PRESENT | Self::USER | address | write | execute | cache)
    }

    /// An entry of level 2 that maps the 2 MiB from `frame`, readable and writable, in a physical window.
    #[must_use]
    pub const fn large(frame: Frame) -> Entry {
        Entry(Self::page(frame.large(), Prot::DEFAULT, false).0 | Self::LARGE | Self::WINDOW)
    }

    /// The entry as part of a physical window, which is the kernel's to change: no batch touches it, and
    /// it is not counted.
    #[must_use]
    pub const fn in_window(self) -> Entry {
        Entry(self.0 | Self::WINDOW)
    }

    /// Whether it is part of a physical window.
    #[must_use]
    pub const fn is_window(self) -> bool {
        self.0 & Self::WINDOW != 0
    }

    /// Whether it maps or points to anything.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Whether, at level 2, it maps a large page instead of pointing to a table.
    #[must_use]
    pub const fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }

    /// The frame mapped or pointed to. Meaningless unless present.
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame::from_low_bits(self.0 >> PAGE_SHIFT)
    }

    /// Whether the processor has used it since the bit was cleared.
    #[must_use]
    pub const fn is_accessed(self) -> bool {
        self.0 & Self::ACCESSED != 0
    }

    /// Whether the processor has written through it since the bit was cleared.
    #[must_use]
    pub const fn is_dirty(self) -> bool {
        self.0 & Self::DIRTY != 0
    }

    /// The rights that this entry leaves: at a leaf those of the page, above those of a subtree.
    #[must_use]
    pub const fn rights(self) -> Prot {
        let mut rights = Prot::READ;
        if self.0 & Self::WRITE != 0 {
            rights = rights.union(Prot::WRITE);
        }
        if self.0 & Self::NO_EXECUTE == 0 {
            rights = rights.union(Prot::EXECUTE);
        }
        rights
    }

    /// Whether `rights` could be had through this entry.
    #[must_use]
    #[inline]
    pub const fn allows(self, rights: Prot) -> bool {
        // Most entries withhold nothing, which one test shows.
        let withheld = (self.0 ^ Self::WRITE) & (Self::WRITE | Self::NO_EXECUTE);
        withheld == 0 || self.rights().contains(rights)
    }

    /// The entry of another frame that is otherwise the same.
    #[must_use]
    pub const fn with_frame(self, frame: Frame) -> Entry {
        Entry(self.0 & !Self::FRAME | (frame.number() as u64) << PAGE_SHIFT)
    }

    /// The entry with no more than `keep` (not empty) and reading left.
    #[must_use]
    pub const fn lowered(self, keep: Prot) -> Entry {
        let mut raw = self.0;
        if !keep.contains(Prot::WRITE) {
            raw &= !Self::WRITE;
        }
        if !keep.contains(Prot::EXECUTE) {
            raw |= Self::NO_EXECUTE;
        }
        Entry(raw)
    }

    /// The entry of a table with all rights given back.
    #[must_use]
    pub const fn unrestricted(self) -> Entry {
        Entry((self.0 | Self::WRITE) & !Self::NO_EXECUTE)
    }

    /// The entry with the accessed bit clear.
    #[must_use]
    pub const fn without_accessed(self) -> Entry {
        Entry(self.0 & !Self::ACCESSED)
    }

    /// The entry with the dirty bit clear.
    #[must_use]
    pub const fn without_dirty(self) -> Entry {
        Entry(self.0 & !Self::DIRTY)
    }

    /// The entry with the accessed and dirty bits that `other` has added to its own.
    #[must_use]
    pub const fn with_use_of(self, other: Entry) -> Entry {
        Entry(self.0 | other.0 & (Self::ACCESSED | Self::DIRTY))
    }

    /// Whether the two say the same but for the use that was made of them.
    #[must_use]
    pub const fn is_same_page(self, other: Entry) -> bool {
        (self.0 ^ other.0) & !(Self::ACCESSED | Self::DIRTY) == 0
    }

    /// Whether the two are cached alike.
    #[must_use]
    pub const fn same_cache(self, other: Entry) -> bool {
        (self.0 ^ other.0) & Self::UNCACHED == 0
    }
}

/// What an entry must be like for a walk to go on through it without a second look: it points to a
/// table and withholds none of the rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    mask: u64,
    value: u64,
}

impl Passage {
    /// The way to a page with these rights.
    pub(crate) const fn new(rights: Prot) -> Passage {
        let write = if rights.contains(Prot::WRITE) {
            Entry::WRITE
        } else {
            0
        };
        let execute = if rights.contains(Prot::EXECUTE) {
            Entry::NO_EXECUTE
        } else {
            0
        };
        Passage {
            mask: Entry::PRESENT | Entry::LARGE | write | execute,
            value: Entry::PRESENT | write,
        }
    }

    /// Whether the entry is so.
    pub(crate) const fn allows(self, entry: Entry) -> bool {
        entry.0 & self.mask == self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_read_back_with_reading_added() {
        let frame = Frame::new(0x1234).unwrap();
        for rights in [
            Prot::READ,
            Prot::DEFAULT,
            Prot::READ.union(Prot::EXECUTE),
            Prot::ALL,
            Prot::WRITE,
            Prot::EXECUTE,
        ] {
            let entry = Entry::page(frame, rights, false);
            assert_eq!(entry.rights(), rights.union(Prot::READ));
            assert_eq!(entry.frame(), frame);
            assert!(entry.is_present() && !entry.is_large());
        }
    }

    #[test]
    fn lowering_takes_and_never_gives() {
        let frame = Frame::new(1).unwrap();
        let code = Entry::page(frame, Prot::READ.union(Prot::EXECUTE), false);
        assert_eq!(code.lowered(Prot::DEFAULT).rights(), Prot::READ);
        let all = Entry::page(frame, Prot::ALL, false);
        assert_eq!(all.lowered(Prot::READ).rights(), Prot::READ);
        assert_eq!(all.lowered(Prot::ALL), all);
    }

    #[test]
    fn the_frame_does_not_swallow_no_execute() {
        let last = Frame::new(ipc_abi::translation::FRAME_LIMIT - 1).unwrap();
        assert_eq!(Entry::page(last, Prot::READ, true).frame(), last);
        assert_eq!(Entry::large(last).frame(), last.large());
    }
}
