//! The physical window: where a memory server sees the frames that it owns.
//!
//! Frame `f` is at [`PHYSICAL_WINDOW`] plus `f` pages, in 2 MiB pages where all of a block is the
//! server's, else page by page. It is readable, writable and never executable, and its
//! translations are not counted: a frame is in the window exactly as long as it is the server's.
//! A frame that is given away leaves first, and splits the large page that it lay in.

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use ipc_abi::translation::FRAME_LIMIT;
use ipc_abi::types::Prot;

use super::walk::{self, Leaf, Made};
use super::{Budget, Entry, ROOT_LEVEL, Shootdown, Space, TABLE_ENTRIES, TableStore};
use crate::addr::{Frame, LARGE_FRAMES, USER_HALF, UserAddr};

const _: () = assert!(PHYSICAL_WINDOW + FRAME_LIMIT as u64 * PAGE_SIZE <= USER_HALF);

/// Where the window shows a frame.
///
/// # Errors
/// None for any frame that exists; the window holds them all.
pub fn address_of(frame: Frame) -> Result<UserAddr, Kern> {
    frame
        .start()
        .raw()
        .checked_add(PHYSICAL_WINDOW)
        .and_then(UserAddr::new)
        .ok_or(Kern::InvalidAddress)
}

/// Shows `count` frames from `first` in the window, which does not show them yet.
///
/// # Errors
/// `KERN_RESOURCE_SHORTAGE`: no frame for a table. `KERN_INVALID_ADDRESS`: a large page is in the
/// way, or the frames do not exist.
pub fn show(
    space: &mut Space,
    store: &mut impl TableStore,
    first: Frame,
    count: u32,
) -> Result<(), Kern> {
    let mut left = count;
    let mut frame = first;
    while left > 0 {
        let step = if frame.is_large_aligned() && left >= LARGE_FRAMES {
            show_large(space, store, frame)?;
            LARGE_FRAMES
        } else {
            show_page(space, store, frame)?;
            1
        };
        left = left.saturating_sub(step);
        if left > 0 {
            frame = frame.after(step).ok_or(Kern::InvalidAddress)?;
        }
    }
    Ok(())
}

/// Sees to it that the window shows `frame` by a page of its own, so that it can be taken out
/// without memory.
///
/// # Errors
/// `KERN_RESOURCE_SHORTAGE`: no frame for the table that takes the large page's place.
pub fn split(
    space: &mut Space,
    store: &mut impl TableStore,
    account: &mut Shootdown,
    frame: Frame,
) -> Result<(), Kern> {
    let address = address_of(frame)?;
    let Leaf::Large(old) = walk::find(store, space.root(), address) else {
        return Ok(());
    };
    let table = space.allocate_table(store)?;
    for (index, number) in (0..TABLE_ENTRIES).zip(0..) {
        if let Some(frame) = old.frame().after(number) {
            let page = Entry::page(frame, Prot::DEFAULT, false);
            store.write(table, index, page.in_window());
        }
    }
    if let Some(directory) = directory(store, space.root(), address) {
        store.exchange(directory, address.slot(2), Entry::table(table));
    }
    // The rights are the same before and after, but a processor must not hold both sizes.
    account.note_space(space.root());
    Ok(())
}

/// Takes a frame that has a page of its own out of the window.
pub fn withdraw(space: &Space, store: &mut impl TableStore, account: &mut Shootdown, frame: Frame) {
    let Ok(address) = address_of(frame) else {
        return;
    };
    if let Leaf::Table(table) = walk::find(store, space.root(), address)
        && store.read(table, address.slot(1)).is_window()
    {
        store.exchange(table, address.slot(1), Entry::EMPTY);
        account.note_page(space.root(), address);
    }
}

/// Takes the large page that starts with `frame` out of the window; says whether there was one.
pub fn withdraw_large(
    space: &Space,
    store: &mut impl TableStore,
    account: &mut Shootdown,
    frame: Frame,
) -> bool {
    let Ok(address) = address_of(frame) else {
        return false;
    };
    let large = matches!(walk::find(store, space.root(), address), Leaf::Large(_));
    match directory(store, space.root(), address) {
        Some(directory) if large && frame.is_large_aligned() => {
            store.exchange(directory, address.slot(2), Entry::EMPTY);
            account.note_space(space.root());
            true
        }
        _ => false,
    }
}

fn show_page(space: &mut Space, store: &mut impl TableStore, frame: Frame) -> Result<(), Kern> {
    let address = address_of(frame)?;
    match walk::make(
        space,
        store,
        address,
        Prot::DEFAULT,
        &mut Budget::one_page(),
    )? {
        Made::Table(table) => {
            let page = Entry::page(frame, Prot::DEFAULT, false).in_window();
            if store.read(table, address.slot(1)).is_present() {
                return Err(Kern::InvalidAddress);
            }
            store.write(table, address.slot(1), page);
            Ok(())
        }
        Made::More => Err(Kern::Failure),
    }
}

fn show_large(space: &mut Space, store: &mut impl TableStore, frame: Frame) -> Result<(), Kern> {
    let address = address_of(frame)?;
    let mut table = space.root();
    for level in (3..=ROOT_LEVEL).rev() {
        let index = address.slot(level);
        let entry = store.read(table, index);
        table = if entry.is_present() {
            entry.frame()
        } else {
            let lower = space.allocate_table(store)?;
            store.write(table, index, Entry::table(lower));
            lower
        };
    }
    if store.read(table, address.slot(2)).is_present() {
        return Err(Kern::InvalidAddress);
    }
    store.write(table, address.slot(2), Entry::large(frame));
    Ok(())
}

/// The table of level 2 on the way to an address.
fn directory(store: &impl TableStore, root: Frame, address: UserAddr) -> Option<Frame> {
    let mut table = root;
    for level in (3..=ROOT_LEVEL).rev() {
        let entry = store.read(table, address.slot(level));
        if !entry.is_present() {
            return None;
        }
        table = entry.frame();
    }
    Some(table)
}
