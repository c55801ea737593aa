//! Takes pages from a table one by one, or their reference bits, and says how they were used.
//!
//! Each function names the frame that it expects, and leaves alone what maps another. What it
//! answers is the word of [`ipc_abi::translation`]: the frame with `REFERENCED` and `DIRTY`, or
//! `SKIPPED`. A dirty bit is taken by an exchange or a compare-and-exchange, never by a write.

use ipc_abi::translation::{DIRTY, REFERENCED, SKIPPED};
use ipc_abi::types::Prot;

use super::{Entry, Shootdown, TableStore, update};
use crate::addr::{Frame, UserAddr};

/// One page of a table: where it is, and what it is expected to map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Root of the space.
    pub(super) root: Frame,
    /// The lowest table.
    pub(super) table: Frame,
    /// The page's address.
    pub(super) page: UserAddr,
    /// The frame that it should map.
    pub(super) frame: Frame,
}

/// Unmaps the page.
pub(super) fn remove(store: &mut impl TableStore, account: &mut Shootdown, target: Target) -> u32 {
    let Some(old) = clear(store, target) else {
        return SKIPPED;
    };
    account.note_removed(target.root, target.page, target.frame);
    report(old)
}

/// Unmaps the page, and gives the entry that it had. What processors still hold is the caller's affair.
#[inline(always)]
pub(super) fn clear(store: &mut impl TableStore, target: Target) -> Option<Entry> {
    let index = target.page.slot(1);
    if !target.is_mapped_by(store.read(target.table, index)) {
        return None;
    }
    Some(store.exchange(target.table, index, Entry::EMPTY))
}

/// Leaves the page no more than `keep` (not empty). With writing goes the dirty bit: it has been
/// reported, and the page can be cleaned from now on.
pub(super) fn lower(
    store: &mut impl TableStore,
    account: &mut Shootdown,
    target: Target,
    keep: Prot,
) -> u32 {
    let Some(old) = reduce(store, target, keep) else {
        return SKIPPED;
    };
    if !keep.contains(old.rights()) {
        account.note_page(target.root, target.page);
    }
    report(old)
}

/// [`lower`], which gives the entry that the page had. What processors still hold is the caller's affair.
#[inline(always)]
pub(super) fn reduce(store: &mut impl TableStore, target: Target, keep: Prot) -> Option<Entry> {
    let index = target.page.slot(1);
    if !target.is_mapped_by(store.read(target.table, index)) {
        return None;
    }
    let lowered = |entry: Entry| {
        let entry = entry.lowered(keep);
        if keep.contains(Prot::WRITE) {
            entry
        } else {
            entry.without_dirty()
        }
    };
    Some(update(store, target.table, index, lowered))
}

/// Takes the referenced bit; the TLBs keep what they have.
pub(super) fn harvest(store: &mut impl TableStore, target: Target) -> u32 {
    let index = target.page.slot(1);
    if !target.is_mapped_by(store.read(target.table, index)) {
        return SKIPPED;
    }
    report(update(store, target.table, index, Entry::without_accessed))
}

impl Target {
    fn is_mapped_by(&self, entry: Entry) -> bool {
        entry.is_present() && entry.frame() == self.frame && !entry.is_window()
    }
}

/// The word of [`ipc_abi::translation`].
pub(super) fn report(old: Entry) -> u32 {
    let referenced = if old.is_accessed() { REFERENCED } else { 0 };
    let dirty = if old.is_dirty() { DIRTY } else { 0 };
    old.frame().number() | referenced | dirty
}
