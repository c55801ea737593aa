//! The must-use account of what processors may still hold in their TLBs.
//!
//! Whoever removes or lowers a translation notes it here; the shell flushes and then calls
//! [`Shootdown::settle`], which lowers the counts of the frames and gives back the tables that were
//! unlinked: neither may happen while a processor can still walk to them. Up to 32 pages are
//! noted one by one, then whole spaces, then everything. A space is named by its root table.
//!
//! Unlinked tables are empty; they are chained through their first word, as an entry that is not
//! present, so that a processor that still holds a way to them finds nothing there.

use heapless::Vec;

use super::entry::Entry;
use super::{SLICE, TableStore};
use crate::addr::{Frame, UserAddr};
use crate::owner::Owners;

/// Pages that are flushed one by one.
pub(super) const PAGES: usize = 32;
/// Spaces that are flushed as a whole before all are.
pub(super) const SPACES: usize = 8;

/// Most pages of a run that are flushed one by one; more cost as much as the whole space does.
const SINGLY: u32 = 8;

/// What to flush, and what becomes free after it.
#[must_use = "translations that were taken back are still in TLBs until this is discharged"]
#[derive(Debug, Default)]
pub struct Shootdown {
    pages: Vec<(Frame, UserAddr), PAGES>,
    spaces: Vec<Frame, SPACES>,
    everything: bool,
    frames: Vec<Frame, SLICE>,
    tables: Option<Frame>,
}

impl Shootdown {
    /// An account of nothing.
    pub const fn new() -> Shootdown {
        Shootdown {
            pages: Vec::new(),
            spaces: Vec::new(),
            everything: false,
            frames: Vec::new(),
            tables: None,
        }
    }

    /// Whether there is nothing to flush and nothing to settle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.needs_flush() && self.frames.is_empty() && self.tables.is_none()
    }

    /// Whether anything has to be flushed.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        self.everything || !self.pages.is_empty() || !self.spaces.is_empty()
    }

    /// Pages to flush, each with the root of its space; spaces flushed as a whole are not among
    /// them.
    pub fn pages(&self) -> impl Iterator<Item = (Frame, UserAddr)> + '_ {
        self.pages
            .iter()
            .copied()
            .filter(|(root, _)| !self.covers(*root))
    }

    /// Whether the space of this root is to be flushed as a whole.
    #[must_use]
    pub fn covers(&self, root: Frame) -> bool {
        self.everything || self.spaces.contains(&root)
    }

    /// The frames whose count waits to be lowered.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        self.frames.iter().copied()
    }

    /// Whether anything of the space of this root is to be flushed.
    #[must_use]
    pub fn concerns(&self, root: Frame) -> bool {
        self.covers(root) || self.pages.iter().any(|(of, _)| *of == root)
    }

    /// Frames whose count waits to be lowered can be noted this many times more.
    #[must_use]
    pub fn room(&self) -> usize {
        SLICE.saturating_sub(self.frames.len())
    }

    /// Notes that a page was lowered.
    pub(crate) fn note_page(&mut self, root: Frame, page: UserAddr) {
        if !self.covers(root) && self.pages.push((root, page)).is_err() {
            self.note_space(root);
        }
    }

    /// Notes that one page of a run of `count` was lowered, which lies so many after the run's first: of
    /// more than a few the whole space is flushed.
    #[inline]
    pub(crate) fn note_one_of(&mut self, root: Frame, (first, pages): (UserAddr, u32), count: u32) {
        if count > SINGLY {
            if self.spaces.last() != Some(&root) {
                self.note_space(root);
            }
        } else if let Some(page) = first.after_pages(pages.into()) {
            self.note_page(root, page);
        }
    }

    /// Notes that pages of a run of `count` were lowered: of more than a few the whole space is flushed.
    pub(crate) fn note_run(&mut self, root: Frame, first: UserAddr, count: u32) {
        if count > SINGLY {
            return self.note_space(root);
        }
        for page in (0..count).filter_map(|place| first.after_pages(place.into())) {
            self.note_page(root, page);
        }
    }

    /// Notes that much of a space was lowered.
    pub(crate) fn note_space(&mut self, root: Frame) {
        if !self.covers(root) && self.spaces.push(root).is_err() {
            self.everything = true;
        }
    }

    /// Notes that a page which mapped `frame` was removed. The caller has seen to it that there is
    /// [`Shootdown::room`].
    pub(crate) fn note_removed(&mut self, root: Frame, page: UserAddr, frame: Frame) {
        self.note_page(root, page);
        self.note_unmapped(frame);
    }

    /// Notes that one translation of a frame was removed, whose page is noted by itself. There is
    /// [`Shootdown::room`].
    pub(crate) fn note_unmapped(&mut self, frame: Frame) {
        let noted = self.frames.push(frame);
        debug_assert!(noted.is_ok(), "room was not asked for");
    }

    /// Takes charge of an empty table that nothing points to any more.
    pub(crate) fn note_table(&mut self, store: &mut impl TableStore, root: Frame, table: Frame) {
        self.note_space(root);
        store.write(table, 0, Entry::link(self.tables));
        self.tables = Some(table);
    }

    /// Lowers the counts and gives back the tables, after every processor has flushed what is
    /// noted; leaves the account empty.
    pub fn settle(&mut self, store: &mut impl TableStore, owners: &Owners<'_>) {
        for frame in &self.frames {
            let counted = owners.lower(*frame);
            debug_assert!(counted, "frame {frame:?} was not counted");
        }
        while let Some(table) = self.tables {
            self.tables = store.read(table, 0).linked();
            store.free(table);
        }
        self.frames.clear();
        self.pages.clear();
        self.spaces.clear();
        self.everything = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(number: u32) -> Frame {
        Frame::new(number).unwrap()
    }

    #[test]
    fn many_pages_become_the_whole_space_and_many_spaces_everything() {
        let mut account = Shootdown::new();
        for page in 0..40u64 {
            account.note_page(root(1), UserAddr::new(page << 12).unwrap());
        }
        assert!(account.covers(root(1)) && !account.covers(root(2)));
        assert_eq!(account.pages().count(), 0);
        for space in 2..20 {
            account.note_space(root(space));
        }
        assert!(account.covers(root(100)));
    }
}
