//! The tray: page slots through which the VM server takes pages from a pager.
//!
//! Invariant: `base` is the address at which the server mapped `slots` slots for this task, and they
//! stay there as long as the right to the tray is held. Slots are lent out one range at a time, by
//! a borrow of the tray. A slot that was supplied is empty until the server fills it again; touching
//! it before is an ordinary fault. The slots above are the server's, to show pages that are to be stored.

use core::slice;

use ipc::vm::{self, NewTray};
use ipc::{Kern, Passed, SendRight};

use crate::pager::PAGE;

/// Most slots that the server lends.
const LENDING_MAX: usize = 64;

/// A tray and where its next free slots are.
#[derive(Debug)]
pub(crate) struct Tray {
    right: SendRight<vm::Tray>,
    base: *mut u8,
    slots: usize,
    next: usize,
}

impl Tray {
    /// Asks the server for a tray of so many slots.
    pub(crate) fn new(slots: u32) -> Result<Tray, Kern> {
        let NewTray {
            tray,
            address,
            slots,
        } = vm::own().create_tray(slots)?;
        Ok(Tray {
            right: tray,
            base: core::ptr::with_exposed_provenance_mut(address as usize),
            slots: slots as usize,
            next: 0,
        })
    }

    /// The right to it, for a message.
    pub(crate) fn right(&self) -> Passed<'_> {
        self.right.copy()
    }

    /// The next slots in turn: the number of the first, and their bytes. At most `pages`, as many as
    /// the tray has.
    pub(crate) fn take(&mut self, pages: usize) -> (u32, &mut [u8]) {
        let pages = pages.min(self.slots);
        if self.next + pages > self.slots {
            self.next = 0;
        }
        let first = self.next;
        self.next += pages;
        // SAFETY: slots `first` to `first + pages` exist; the borrow of `self` keeps others away. The
        // server has lent none of them: it lends slots only while they are empty, and these are
        // counted as ready for the request that is being served.
        let bytes = unsafe { slice::from_raw_parts_mut(self.base.add(first * PAGE), pages * PAGE) };
        (first as u32, bytes)
    }

    /// The bytes of all slots, before the first is taken.
    pub(crate) fn all(&mut self) -> &mut [u8] {
        // SAFETY: the slots exist, and the borrow of `self` keeps others away; nothing has been lent.
        unsafe { slice::from_raw_parts_mut(self.base, self.slots * PAGE) }
    }

    /// The bytes of slots that the server has lent, for reading; `None` if there can be no such slots:
    /// they lie above those that are filled.
    pub(crate) fn lent(&self, first: u32, count: u32) -> Option<&[u8]> {
        let (first, count) = (first as usize, count as usize);
        let end = first.checked_add(count)?;
        if first < self.slots || end > self.slots + LENDING_MAX {
            return None;
        }
        // SAFETY: the server mapped the slots that it lends, and lent slots do not change until the loan is ended by the
        // message that is sent after this borrow.
        Some(unsafe { slice::from_raw_parts(self.base.add(first * PAGE), count * PAGE) })
    }
}
