//! Removes and lowers ranges, by subtree where whole tables are covered.
//!
//! Both go through the tables from the left, and stop at the entry for which the budget has
//! nothing left; the caller comes back with the rest of the range. A table that the range covers
//! is unlinked when its last entry has been removed. What lies in between may have been entered
//! anew while the caller was away; such a table is seen not to be empty and stays.

use ipc_abi::layout::{PAGE_SHIFT, PAGE_SIZE};
use ipc_abi::types::Prot;

use super::{Budget, Entry, ROOT_LEVEL, Shootdown, Space, TABLE_ENTRIES, TableStore, update};
use crate::Progress;
use crate::addr::{Frame, PageRange, UserAddr};

/// Unmaps what the range maps from its page `done` on, and frees the tables that all of the range
/// covers. Gives the number of pages that are done now. The account has room for a slice.
pub(super) fn remove(
    space: &mut Space,
    store: &mut impl TableStore,
    account: &mut Shootdown,
    part: Part,
    budget: &mut Budget,
) -> u64 {
    let root = space.root();
    let mut removal = Removal {
        space,
        store,
        account,
        budget,
        all: part.all,
        windows: false,
        kept: false,
    };
    let from = part.rest();
    let end = removal.clear(root, ROOT_LEVEL, from);
    part.done_at(end)
}

/// Removes a few of all the pages that the user half maps, tables included; the space knows how far this
/// has come. Says whether all is gone.
pub fn clear(space: &mut Space, store: &mut impl TableStore, account: &mut Shootdown) -> Progress {
    // The root alone: nothing is mapped.
    if space.tables <= 1 {
        space.cleared = 0;
        return Progress::Done;
    }
    let all = PageRange::USER_HALF;
    let part = Part {
        all,
        done: space.cleared,
    };
    let root = space.root();
    let mut removal = Removal {
        space,
        store,
        account,
        budget: &mut Budget::small(),
        all,
        windows: true,
        kept: false,
    };
    let end = removal.clear(root, ROOT_LEVEL, part.rest());
    let done = part.done_at(end);
    if done < all.pages() {
        space.cleared = done;
        return Progress::More;
    }
    space.cleared = 0;
    Progress::Done
}

/// Leaves the range from its page `done` on no more than `keep` (not empty). Gives the number of
/// pages that are done now.
pub(super) fn lower(
    space: &mut Space,
    store: &mut impl TableStore,
    account: &mut Shootdown,
    part: Part,
    keep: Prot,
    budget: &mut Budget,
) -> u64 {
    let root = space.root();
    let mut lowering = Lowering {
        root,
        store,
        account,
        budget,
        keep,
    };
    let end = lowering.lower(root, ROOT_LEVEL, part.rest());
    part.done_at(end)
}

/// A range of which some pages are done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The whole range.
    pub(super) all: PageRange,
    /// Pages at its start that are done.
    pub(super) done: u64,
}

impl Part {
    fn rest(self) -> Span {
        let rest = self.all.skip(self.done);
        Span {
            from: rest.start(),
            to: rest.end(),
        }
    }

    fn done_at(self, address: u64) -> u64 {
        address.saturating_sub(self.all.start()) >> PAGE_SHIFT
    }
}

/// Addresses from and to, in the user half.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// All that one entry of this level spans around `address`.
    fn of_entry(address: u64, level: u8) -> Span {
        let size = match level {
            4 => 1 << 39,
            3 => 1 << 30,
            2 => 1 << 21,
            _ => PAGE_SIZE,
        };
        let from = address & !u64::wrapping_sub(size, 1);
        Span {
            from,
            to: from.saturating_add(size),
        }
    }

    fn start(self) -> Option<UserAddr> {
        UserAddr::new(self.from)
    }

    /// The part of this span that the entry of its first address covers.
    fn first_entry(self, level: u8) -> Span {
        let entry = Span::of_entry(self.from, level);
        Span {
            from: self.from,
            to: entry.to.min(self.to),
        }
    }

    fn contains(self, other: Span) -> bool {
        self.from <= other.from && other.to <= self.to
    }
}

/// Moves the start of a span, which lies in one table, on to what is present; the address of that.
fn next_present(
    store: &impl TableStore,
    table: Frame,
    level: u8,
    span: &mut Span,
) -> Option<UserAddr> {
    let address = span.start().filter(|_| !span.is_empty())?;
    let entry = Span::of_entry(span.from, level);
    let size = entry.to.saturating_sub(entry.from);
    let first = address.slot(level);
    // One past the last entry that the span touches.
    let last = span.to.saturating_sub(1).saturating_sub(entry.from);
    let end = first.saturating_add((last >> size.trailing_zeros()) as usize);
    let end = end.saturating_add(1).min(TABLE_ENTRIES);
    let found = store.next_present(table, first, end);
    if found > first {
        let skipped = found.saturating_sub(first) as u64;
        let start = entry.from.saturating_add(skipped.saturating_mul(size));
        span.from = start.min(span.to);
    }
    span.start().filter(|_| !span.is_empty())
}

/// The first page of a lowest table from `index` on, which moves there. Where pages are sparse, many places are
/// passed over at once.
#[inline(always)]
fn next_page(
    store: &impl TableStore,
    table: Frame,
    index: &mut usize,
    end: usize,
) -> Option<Entry> {
    while *index < end {
        let entry = store.read(table, *index);
        if entry.is_present() {
            return Some(entry);
        }
        *index = store.next_present(table, *index, end);
    }
    None
}

struct Removal<'a, S> {
    space: &'a mut Space,
    store: &'a mut S,
    account: &'a mut Shootdown,
    budget: &'a mut Budget,
    all: PageRange,
    /// Whether a physical window goes, too: the space ends.
    windows: bool,
    /// Whether something was left that is part of one.
    kept: bool,
}

impl<S: TableStore> Removal<'_, S> {
    /// Removes a span that lies in one table. Gives the address up to which all is removed.
    fn clear(&mut self, table: Frame, level: u8, mut span: Span) -> u64 {
        if level == 1 {
            return self.clear_pages(table, span);
        }
        while let Some(address) = next_present(self.store, table, level, &mut span) {
            if !self.budget.take(1) {
                return span.from;
            }
            let here = span.first_entry(level);
            let entry = self.store.read(table, address.slot(level));
            let end = self.clear_entry(table, level, here, entry);
            if end < here.to {
                return end;
            }
            span.from = here.to;
        }
        span.from
    }

    /// Removes the pages of a span that lies in one lowest table.
    fn clear_pages(&mut self, table: Frame, span: Span) -> u64 {
        let pages = span.to.saturating_sub(span.from) >> PAGE_SHIFT;
        let slice = self
            .budget
            .take_up_to(u32::try_from(pages).unwrap_or(u32::MAX));
        let Some(start) = span.start().filter(|_| slice > 0) else {
            return span.from;
        };
        let root = self.space.root();
        let first = start.slot(1);
        let end = first.saturating_add(slice as usize).min(TABLE_ENTRIES);
        let mut index = first;
        while let Some(old) = next_page(self.store, table, &mut index, end) {
            if old.is_window() {
                self.clear_window(table, index);
            } else {
                let old = self.store.exchange(table, index, Entry::EMPTY);
                self.account.note_unmapped(old.frame());
                let pages = index.saturating_sub(first) as u32;
                self.account.note_one_of(root, (start, pages), slice);
            }
            index = index.saturating_add(1);
        }
        span.from.saturating_add(u64::from(slice) << PAGE_SHIFT)
    }

    /// Removes a page of a physical window, which is not counted, if windows are to go.
    #[cold]
    fn clear_window(&mut self, table: Frame, index: usize) {
        if self.windows {
            self.store.exchange(table, index, Entry::EMPTY);
            self.account.note_space(self.space.root());
        } else {
            self.kept = true;
        }
    }

    fn clear_entry(&mut self, table: Frame, level: u8, span: Span, entry: Entry) -> u64 {
        let Some(address) = span.start() else {
            return span.to;
        };
        let index = address.slot(level);
        let root = self.space.root();
        if level == 2 && entry.is_large() {
            if self.windows {
                self.store.exchange(table, index, Entry::EMPTY);
                self.account.note_space(root);
            } else {
                self.kept = true;
            }
            return span.to;
        }
        let lower = entry.frame();
        let end = self.clear(lower, level.saturating_sub(1), span);
        // A table that was cleared from its first entry on in one go need not be looked at again.
        let whole = span.from == Span::of_entry(span.from, level).from && !self.kept;
        if end == span.to && self.covers(span, level) && (whole || self.is_empty(lower)) {
            self.store.exchange(table, index, Entry::EMPTY);
            self.space.tables = self.space.tables.saturating_sub(1);
            self.account.note_table(self.store, root, lower);
        }
        end
    }

    /// Whether the whole range covers all that the entry of this span does.
    fn covers(&self, span: Span, level: u8) -> bool {
        let all = Span {
            from: self.all.start(),
            to: self.all.end(),
        };
        all.contains(Span::of_entry(span.from, level))
    }

    fn is_empty(&self, table: Frame) -> bool {
        self.store.next_present(table, 0, TABLE_ENTRIES) == TABLE_ENTRIES
    }
}

struct Lowering<'a, S> {
    root: Frame,
    store: &'a mut S,
    account: &'a mut Shootdown,
    budget: &'a mut Budget,
    keep: Prot,
}

impl<S: TableStore> Lowering<'_, S> {
    /// Lowers a span that lies in one table. Gives the address up to which all is lowered.
    fn lower(&mut self, table: Frame, level: u8, mut span: Span) -> u64 {
        if level == 1 {
            return self.lower_pages(table, span);
        }
        while let Some(address) = next_present(self.store, table, level, &mut span) {
            if !self.budget.take(1) {
                return span.from;
            }
            let here = span.first_entry(level);
            let entry = self.store.read(table, address.slot(level));
            let large = level == 2 && entry.is_large();
            let whole = level == 2 && here.contains(Span::of_entry(here.from, level));
            if large && entry.is_window() {
                // The kernel's.
            } else if large || whole {
                self.lower_entry(table, level, address);
            } else {
                let end = self.lower(entry.frame(), level.saturating_sub(1), here);
                if end < here.to {
                    return end;
                }
            }
            span.from = here.to;
        }
        span.from
    }

    /// Lowers the pages of a span that lies in one lowest table. What is low already costs no more than a look.
    fn lower_pages(&mut self, table: Frame, span: Span) -> u64 {
        let Some(start) = span.start() else {
            return span.to;
        };
        let count = span.to.saturating_sub(span.from) >> PAGE_SHIFT;
        let first = start.slot(1);
        let end = first.saturating_add(count as usize).min(TABLE_ENTRIES);
        let mut index = first;
        while let Some(old) = next_page(self.store, table, &mut index, end) {
            let done = index.saturating_sub(first) as u32;
            if !self.budget.take(1) {
                return span.from.saturating_add(u64::from(done) << PAGE_SHIFT);
            }
            let keep = self.keep;
            if old.lowered(keep) != old && !old.is_window() {
                update(self.store, table, index, |entry| entry.lowered(keep));
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.account.note_one_of(self.root, (start, done), count);
            }
            index = index.saturating_add(1);
        }
        span.to
    }

    /// Lowers a large page, or a table with all that is in it.
    fn lower_entry(&mut self, table: Frame, level: u8, address: UserAddr) {
        let keep = self.keep;
        let old = update(self.store, table, address.slot(level), |entry| {
            entry.lowered(keep)
        });
        if !keep.contains(old.rights()) {
            self.account.note_space(self.root);
        }
    }
}
