//! What the answer to a fault enters beside its page: a hint, taken only where it is simple.
//!
//! The words are in a buffer that a task may be writing to: each is read once, and what it names is
//! checked as any frame is. Only places that map nothing are filled, so that nothing has to be flushed
//! and no use of a page is forgotten.

use ipc_abi::fault::{BESIDE_MAX, Beside, READ_ONLY};
use ipc_abi::translation::{Enter, FRAME_LIMIT, SKIPPED};

use ipc_abi::types::Prot;

use super::{BatchBuffer, Entry, Space, TABLE_ENTRIES, TableStore, walk};
use crate::addr::{Frame, UserAddr};
use crate::owner::Owners;

// What is left out names no frame.
const _: () = assert!(SKIPPED & !READ_ONLY >= FRAME_LIMIT);

/// Enters what lies beside the page of an answer.
pub fn enter_beside<S: TableStore>(
    space: &Space,
    store: &mut S,
    owners: &Owners<'_>,
    buffer: &impl BatchBuffer,
    (enter, beside): (Enter, Beside),
) {
    let count = (beside.count as usize).min(BESIDE_MAX);
    let Some(first) = UserAddr::new(beside.address).filter(|_| space.accepts(enter.epoch)) else {
        return;
    };
    let index = first.slot(1);
    let (whole, read_only) = (enter.protection, enter.protection.difference(Prot::WRITE));
    let inside = index.saturating_add(count) <= TABLE_ENTRIES && first.page() == first;
    let table = walk::open(store, space.root(), first, whole);
    let Some(table) = table.filter(|_| inside && !read_only.is_empty()) else {
        return;
    };
    let owner = space.owner();
    let likes = [whole, read_only].map(|rights| Entry::page(Frame::FIRST, rights, false));
    for place in 0..count {
        let word = buffer.load32(place.saturating_mul(4));
        let index = index.saturating_add(place);
        let Some(frame) = Frame::new(word & !READ_ONLY) else {
            continue;
        };
        let vacant = !store.read(table, index).is_present();
        if !vacant || !owners.raise_own(frame, owner) {
            continue;
        }
        let [whole, read_only] = likes;
        let like = if word & READ_ONLY == 0 {
            whole
        } else {
            read_only
        };
        store.write(table, index, like.with_frame(frame));
    }
}
