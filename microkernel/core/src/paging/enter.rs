//! One page into a space, or out of it: what the answer to a fault brings, and pages of the kernel's.
//!
//! A batch, too, goes by [`put`] where a page is mapped already.

use ipc_abi::Kern;
use ipc_abi::translation::{self, SKIPPED};
use ipc_abi::types::Prot;

use super::harvest::{self, Target};
use super::walk::{self, Leaf, Made};
use super::{Budget, Entry, Shootdown, Space, TableStore, update};
use crate::addr::{Frame, PageRange, UserAddr};
use crate::owner::{OwnerId, Owners};

/// Enters one page, which the answer to a fault brings. An older epoch than the space's drops it.
///
/// # Errors
/// In this order: `KERN_INVALID_ARGUMENT`: no frame number, no rights, or an address inside a
/// page; `KERN_INVALID_ADDRESS`; `KERN_NO_ACCESS`; `KERN_RESOURCE_SHORTAGE`: as for a batch.
pub fn enter_one<S: TableStore>(
    space: &mut Space,
    store: &mut S,
    owners: &Owners<'_>,
    account: &mut Shootdown,
    enter: translation::Enter,
) -> Result<(), Kern> {
    let frame = Frame::new(enter.frame).ok_or(Kern::InvalidArgument)?;
    if enter.protection.is_empty() {
        return Err(Kern::InvalidArgument);
    }
    let range = PageRange::new(enter.address, 1)?;
    if !space.accepts(enter.epoch) {
        return Ok(());
    }
    let address = UserAddr::new(range.start()).ok_or(Kern::InvalidAddress)?;
    let page = Page {
        address,
        frame,
        like: like(enter.protection, enter.uncached),
        uncached: enter.uncached,
        owner: space.owner(),
    };
    enter_page(space, store, owners, account, (page, enter.protection))
}

/// [`enter_one`] at its simplest, for the answer to the common fault: the tables are there, nothing is
/// mapped at the address, and nothing speaks against the page. `false`: nothing has changed, and
/// [`enter_one`] decides. Several processors may do this at once, in one space too, while nobody does
/// anything else to spaces.
#[inline(always)]
pub fn enter_absent<S: TableStore>(
    space: &Space,
    store: &S,
    owners: &Owners<'_>,
    enter: translation::Enter,
) -> bool {
    let (Some(frame), Ok(range)) = (Frame::new(enter.frame), PageRange::new(enter.address, 1))
    else {
        return false;
    };
    let plain = !enter.uncached && !enter.protection.is_empty();
    let Some(address) =
        UserAddr::new(range.start()).filter(|_| plain && space.accepts(enter.epoch))
    else {
        return false;
    };
    let Some(table) = walk::open(store, space.root(), address, enter.protection) else {
        return false;
    };
    let index = address.slot(1);
    let old = store.read(table, index);
    if old.is_present() || !owners.raise_own(frame, space.owner()) {
        return false;
    }
    let new = Entry::page(frame, enter.protection, false);
    let filled = store.fill(table, index, old, new);
    if !filled {
        // Nobody has used what was counted: it was not entered.
        let counted = owners.lower(frame);
        debug_assert!(counted, "a count that was just raised");
    }
    filled
}

/// Enters a page of the kernel's in a task's space, readable and writable: an IPC buffer.
///
/// # Errors
/// `KERN_NO_ACCESS`: the frame is not the kernel's. `KERN_RESOURCE_SHORTAGE`: no frame for a table.
pub fn enter_kernel_page<S: TableStore>(
    space: &mut Space,
    store: &mut S,
    owners: &Owners<'_>,
    account: &mut Shootdown,
    (address, frame, rights): (UserAddr, Frame, Prot),
) -> Result<(), Kern> {
    let page = Page {
        address: address.page(),
        frame,
        like: like(rights, false),
        uncached: false,
        owner: OwnerId::KERNEL,
    };
    enter_page(space, store, owners, account, (page, rights))
}

/// Removes the page at `address` if it maps `frame`; says whether it did.
pub fn remove_kernel_page(
    space: &Space,
    store: &mut impl TableStore,
    account: &mut Shootdown,
    address: UserAddr,
    frame: Frame,
) -> bool {
    let Leaf::Table(table) = walk::find(store, space.root(), address) else {
        return false;
    };
    let target = Target {
        root: space.root(),
        table,
        page: address.page(),
        frame,
    };
    harvest::remove(store, account, target) != SKIPPED
}

/// A page to enter.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub(super) address: UserAddr,
    pub(super) frame: Frame,
    /// The entry to make, of any frame.
    pub(super) like: Entry,
    pub(super) uncached: bool,
    /// Whose the frame must be.
    pub(super) owner: OwnerId,
}

/// The entry of a page with these rights, of any frame.
pub(super) const fn like(rights: Prot, uncached: bool) -> Entry {
    Entry::page(Frame::FIRST, rights, uncached)
}

fn enter_page<S: TableStore>(
    space: &mut Space,
    store: &mut S,
    owners: &Owners<'_>,
    account: &mut Shootdown,
    (page, rights): (Page, Prot),
) -> Result<(), Kern> {
    let table = match walk::open(store, space.root(), page.address, rights) {
        Some(table) => table,
        None => {
            // A frame that is refused makes no tables.
            owners.check_enter(page.frame, page.owner, page.uncached)?;
            match walk::make(space, store, page.address, rights, &mut Budget::one_page())? {
                Made::Table(table) => table,
                Made::More => return Err(Kern::Failure),
            }
        }
    };
    put(space.root(), store, owners, account, (table, page))
}

/// Puts a page into its lowest table. A frame that was there goes, its use forgotten: the server
/// removes first what it wants to know about. The same frame keeps its accessed and dirty bits.
#[inline(always)]
pub(super) fn put<S: TableStore>(
    root: Frame,
    store: &mut S,
    owners: &Owners<'_>,
    account: &mut Shootdown,
    (table, page): (Frame, Page),
) -> Result<(), Kern> {
    let index = page.address.slot(1);
    let new = page.like.with_frame(page.frame);
    let old = store.read(table, index);
    if old.is_present() && old.is_window() {
        return Err(Kern::InvalidAddress);
    }
    if old.is_present() && old.frame() == page.frame {
        owners.check_enter(page.frame, page.owner, page.uncached)?;
        put_again(root, store, account, (table, page));
        return Ok(());
    }
    owners.raise(page.frame, page.owner, page.uncached)?;
    let old = store.exchange(table, index, new);
    if old.is_present() {
        account.note_removed(root, page.address, old.frame());
    }
    Ok(())
}

/// Changes the entry of a page that maps the same frame already.
#[cold]
fn put_again<S: TableStore>(
    root: Frame,
    store: &mut S,
    account: &mut Shootdown,
    (table, page): (Frame, Page),
) {
    let new = page.like.with_frame(page.frame);
    let old = update(store, table, page.address.slot(1), |old| {
        new.with_use_of(old)
    });
    if !new.allows(old.rights()) || !new.same_cache(old) {
        account.note_page(root, page.address);
    }
}
