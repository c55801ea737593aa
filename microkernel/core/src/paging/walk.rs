//! Finds and makes the tables on the way to a page, and pushes restrictions down.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use super::entry::Passage;
use super::{Budget, Entry, ROOT_LEVEL, SLICE, Space, TableStore};
use crate::addr::{Frame, UserAddr};

/// What the walk to a page's lowest table found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// The lowest table.
    Table(Frame),
    /// There is none.
    Missing,
    /// A large page covers the address.
    Large(Entry),
}

/// What became of making the lowest table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is there, and nothing above it keeps the rights from the page.
    Table(Frame),
    /// The budget did not suffice; what was done stays done.
    More,
}

/// Finds the lowest table on the way to an address.
#[must_use]
pub fn find(store: &impl TableStore, root: Frame, address: UserAddr) -> Leaf {
    let mut table = root;
    for level in (2..=ROOT_LEVEL).rev() {
        let entry = store.read(table, address.slot(level));
        if !entry.is_present() {
            return Leaf::Missing;
        }
        if level == 2 && entry.is_large() {
            return Leaf::Large(entry);
        }
        table = entry.frame();
    }
    Leaf::Table(table)
}

/// The entry that maps an address, and the rights that are left along its walk.
#[must_use]
pub fn translate(store: &impl TableStore, root: Frame, address: UserAddr) -> Option<(Entry, Prot)> {
    let mut table = root;
    let mut rights = Prot::ALL;
    for level in (1..=ROOT_LEVEL).rev() {
        let entry = store.read(table, address.slot(level));
        if !entry.is_present() {
            return None;
        }
        rights &= entry.rights();
        if level == 1 || level == 2 && entry.is_large() {
            return Some((entry, rights));
        }
        table = entry.frame();
    }
    None
}

/// The lowest table on the way to an address, if it is there and nothing above it keeps `rights`
/// from a page: what the common fault finds.
#[inline(always)]
pub(super) fn open(
    store: &impl TableStore,
    root: Frame,
    address: UserAddr,
    rights: Prot,
) -> Option<Frame> {
    let passage = Passage::new(rights);
    let mut table = root;
    for level in [4, 3, 2] {
        let entry = store.read(table, address.slot(level));
        if !passage.allows(entry) {
            return None;
        }
        table = entry.frame();
    }
    Some(table)
}

/// Finds the lowest table on the way to an address, making what is missing, and frees the way of
/// restrictions that would keep `rights` from a page there. A level of these costs a slice.
///
/// # Errors
/// `KERN_INVALID_ADDRESS`: a large page is in the way. `KERN_RESOURCE_SHORTAGE`: no frame for a
/// table, or the space has as many as it may; tables made before stay.
pub(super) fn make(
    space: &mut Space,
    store: &mut impl TableStore,
    address: UserAddr,
    rights: Prot,
    budget: &mut Budget,
) -> Result<Made, Kern> {
    let mut table = space.root();
    for level in (2..=ROOT_LEVEL).rev() {
        let index = address.slot(level);
        let entry = store.read(table, index);
        if !entry.is_present() {
            let lower = space.allocate_table(store)?;
            store.write(table, index, Entry::table(lower));
            table = lower;
            continue;
        }
        if level == 2 && entry.is_large() {
            return Err(Kern::InvalidAddress);
        }
        if !entry.allows(rights) {
            if !budget.take(SLICE) {
                return Ok(Made::More);
            }
            push_down(store, table, index, entry);
        }
        table = entry.frame();
    }
    Ok(Made::Table(table))
}

/// Moves what `entry`, which points to a table, withholds into the entries of that table.
fn push_down(store: &mut impl TableStore, table: Frame, index: usize, entry: Entry) {
    store.lower_all(entry.frame(), entry.rights());
    store.write(table, index, entry.unrestricted());
}
