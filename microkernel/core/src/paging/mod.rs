//! Page tables: what a space is, and the store of table words that everything here works on.
//!
//! ```text
//!  root (level 4)      256 user entries; the other 256 are the kernel's, the same in every space,
//!    |                 and never read or written here
//!  level 3, level 2    tables, made when a page below them is entered; level 2 also holds the
//!    |                 large pages of a physical window
//!  level 1             the pages
//! ```
//!
//! A table belongs to exactly one entry of one space. It is made by [`walk`], and unlinked when a
//! range that covers all of it is removed ([`range`]); then it is empty and belongs to the
//! [`Shootdown`] until every processor has flushed. [`batch`] runs what the VM server asks for;
//! [`enter_one`] is the short way for the answer to a fault, whose translation is in registers.
//!
//! Lowering a range takes rights from the entries of level 2 inside it, not from higher ones, whose
//! restriction would cost a table more to push down. What a page allows is
//! therefore what is left along its walk, and giving a right back to one page first pushes the
//! restriction down: each entry of the lower table is lowered, then the upper one is freed of it
//! ([`walk`]). At no moment does a page have more than before or more than it should.
//!
//! The store reads and writes words; everything else about tables is decided here and tested on
//! the host. Processors set accessed and dirty bits behind our back, so that an entry of a page in
//! use is only ever exchanged, or changed by compare-and-exchange.

pub mod batch;
mod beside;
pub mod domain;
mod enter;
pub mod entry;
mod harvest;
mod pass;
pub mod range;
mod shootdown;
mod take;
pub mod walk;
pub mod window;

pub use batch::{BatchBuffer, Outcome, Spaces, State, run};
pub use beside::enter_beside;
pub use enter::{enter_absent, enter_kernel_page, enter_one, remove_kernel_page};
pub use entry::Entry;
pub use pass::{Passed, Passing};
pub use shootdown::Shootdown;
pub use take::{Take, Taken, take_one};

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;

use crate::TaskId;
use crate::account::Bill;
use crate::addr::Frame;
use crate::owner::OwnerId;

/// Entries of a table.
pub const TABLE_ENTRIES: usize = 512;
/// Entries of the root that belong to the user half.
pub const USER_ENTRIES: usize = 256;
/// Most entries that are changed between two looks at pending interrupts.
pub const SLICE: usize = 512;
/// Level of the root.
pub const ROOT_LEVEL: u8 = 4;

/// Table words by table frame and index (below [`TABLE_ENTRIES`]), and the frames of tables.
///
/// Every frame that is passed in is the root of a space or came from `allocate`.
pub trait TableStore {
    /// Reads a word.
    fn read(&self, table: Frame, index: usize) -> Entry;
    /// Writes a word that no processor changes: one that is not present, or points to a table.
    fn write(&mut self, table: Frame, index: usize, entry: Entry);
    /// Exchanges a word in one step and gives the old one.
    fn exchange(&mut self, table: Frame, index: usize, entry: Entry) -> Entry;
    /// Puts `new` in place of `old` in one step.
    ///
    /// # Errors
    /// The word that is there instead of `old`; nothing has changed.
    fn compare_exchange(
        &mut self,
        table: Frame,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry>;
    /// Puts `new` in place of `old`, which is not present, in one step, while others may do the same; says
    /// whether it did.
    fn fill(&self, table: Frame, index: usize, old: Entry, new: Entry) -> bool;
    /// The first index at or after `index` and below `end` whose word is present; `end`: there is none.
    fn next_present(&self, table: Frame, index: usize, end: usize) -> usize {
        (index..end)
            .find(|index| self.read(table, *index).is_present())
            .unwrap_or(end)
    }
    /// Leaves every page or table of a table no more than `keep`.
    fn lower_all(&mut self, table: Frame, keep: Prot) {
        lower_each(self, table, keep);
    }
    /// A frame for a table, all zero; `None` if there is none.
    fn allocate(&mut self) -> Option<Frame>;
    /// Takes back the frame of a table that nothing points to.
    fn free(&mut self, table: Frame);
}

/// The page tables of one address space.
#[derive(Debug)]
pub struct Space {
    root: Frame,
    owner: OwnerId,
    epoch: u64,
    tables: u32,
    table_limit: u32,
    /// Who made it and pays for its tables; `None`: nobody.
    payer: Option<TaskId>,
    /// Bytes that the payer pays for besides the tables.
    besides: u64,
    /// Bytes that the payer has been billed for.
    billed: u64,
    /// Pages from the start of the user half that [`range::clear`] has done.
    cleared: u64,
}

impl Space {
    /// A space with this root, whose user half is empty and whose kernel half the shell has filled.
    /// It may have up to `table_limit` tables, the root included.
    #[must_use]
    pub const fn new(root: Frame, owner: OwnerId, table_limit: u32) -> Space {
        Space {
            root,
            owner,
            epoch: 0,
            tables: 1,
            table_limit,
            payer: None,
            besides: 0,
            billed: 0,
            cleared: 0,
        }
    }

    /// Has a task pay for its tables, and for so many bytes besides. It gets no more tables until
    /// [`Space::allow`] says so.
    pub const fn set_payer(&mut self, payer: TaskId, besides: u64) {
        self.payer = Some(payer);
        self.besides = besides;
        self.table_limit = self.tables;
    }

    /// Who pays for its tables.
    #[must_use]
    pub const fn payer(&self) -> Option<TaskId> {
        self.payer
    }

    /// Lets it have so many tables more than it has.
    pub const fn allow(&mut self, more: u32) {
        self.table_limit = self.tables.saturating_add(more);
    }

    /// Lets it have any number of tables until its next bill.
    pub const fn allow_all(&mut self) {
        self.table_limit = u32::MAX.wrapping_sub(1);
    }

    /// What its payer is to be charged with that it was not yet. What it may have more is void then,
    /// if there is a payer whose quota has an end.
    pub fn bill(&mut self) -> Option<Bill> {
        let payer = self.payer?;
        if self.table_limit != u32::MAX {
            self.table_limit = self.tables;
        }
        let tables = u64::from(self.tables).saturating_mul(PAGE_SIZE);
        let after = tables.saturating_add(self.besides);
        let before = core::mem::replace(&mut self.billed, after);
        (before != after).then_some(Bill {
            payer,
            before,
            after,
        })
    }

    /// The bill for a space that is no more.
    #[must_use]
    pub fn last_bill(&self) -> Option<Bill> {
        let payer = self.payer?;
        let before = self.billed;
        Some(Bill {
            payer,
            before,
            after: 0,
        })
    }

    /// Its root table.
    #[must_use]
    pub const fn root(&self) -> Frame {
        self.root
    }

    /// Whose frames can be entered in it.
    #[must_use]
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }

    /// The epoch of its last revoke.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tables that it has, the root included.
    #[must_use]
    pub const fn tables(&self) -> u32 {
        self.tables
    }

    /// Whether a page decided under `epoch` may still be entered.
    const fn accepts(&self, epoch: u64) -> bool {
        epoch >= self.epoch
    }

    /// Moves to the epoch of a revoke; never backwards.
    const fn revoke(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
        }
    }

    fn allocate_table(&mut self, store: &mut impl TableStore) -> Result<Frame, Kern> {
        if self.tables >= self.table_limit {
            return Err(Kern::ResourceShortage);
        }
        let table = store.allocate().ok_or(Kern::ResourceShortage)?;
        self.tables = self.tables.saturating_add(1);
        Ok(table)
    }
}

/// [`TableStore::lower_all`], word by word.
pub fn lower_each(store: &mut (impl TableStore + ?Sized), table: Frame, keep: Prot) {
    for index in 0..TABLE_ENTRIES {
        update(store, table, index, |old| match old.is_present() {
            true => old.lowered(keep),
            false => old,
        });
    }
}

/// Changes a word in one step, however often a processor touches it meanwhile; gives the old one.
fn update(
    store: &mut (impl TableStore + ?Sized),
    table: Frame,
    index: usize,
    change: impl Fn(Entry) -> Entry,
) -> Entry {
    let mut old = store.read(table, index);
    loop {
        let new = change(old);
        if new == old {
            return old;
        }
        match store.compare_exchange(table, index, old, new) {
            Ok(()) => return old,
            Err(found) => old = found,
        }
    }
}

/// How many entries may still be touched before the next look at pending interrupts.
#[derive(Debug)]
struct Budget(usize);

impl Budget {
    /// A whole slice.
    const fn slice() -> Budget {
        Budget(SLICE)
    }

    /// A part of a slice, for work that is done a few parts at a time.
    const fn small() -> Budget {
        Budget(SLICE / 8)
    }

    /// Enough for one page: its walk, with a restriction pushed down at each level.
    const fn one_page() -> Budget {
        Budget(SLICE.saturating_mul(ROOT_LEVEL as usize))
    }

    /// Takes as many of `entries` from it as it has.
    fn take_up_to(&mut self, entries: u32) -> u32 {
        let taken = u32::try_from(self.0).unwrap_or(u32::MAX).min(entries);
        self.0 = self.0.saturating_sub(taken as usize);
        taken
    }

    /// Takes `entries` from it, if it has them.
    const fn take(&mut self, entries: usize) -> bool {
        match self.0.checked_sub(entries) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
