//! One page taken back, or lowered, by words in registers: what a batch of one run with one frame does,
//! without a buffer to be read and checked.

use ipc_abi::Kern;
use ipc_abi::translation::SKIPPED;
use ipc_abi::types::Prot;

use super::harvest::{self, Target};
use super::walk::{self, Leaf};
use super::{Shootdown, Space, TableStore};
use crate::addr::{Frame, PageRange, UserAddr};

/// What is to be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    page: PageRange,
    frame: Frame,
    keep: Prot,
    epoch: u64,
}

impl Take {
    /// From the words of a trap: the rights that stay, the page's address, the space's epoch from now on,
    /// and the frame that is expected there.
    ///
    /// # Errors
    /// In this order: `KERN_INVALID_ARGUMENT`: no rights, an address inside a page, or no frame number;
    /// `KERN_INVALID_ADDRESS`: outside the part of the user half that tasks map.
    #[inline]
    pub fn new(keep: u64, address: u64, epoch: u64, frame: u64) -> Result<Take, Kern> {
        let keep = u8::try_from(keep).ok().and_then(Prot::from_bits);
        let frame = u32::try_from(frame).ok().and_then(Frame::new);
        let (Some(keep), Some(frame)) = (keep, frame) else {
            return Err(Kern::InvalidArgument);
        };
        Ok(Take {
            page: PageRange::new(address, 1)?,
            frame,
            keep,
            epoch,
        })
    }
}

/// Reduces a page that maps the frame named for it; gives the word that a batch would. `account`, which
/// is empty at the call, must be discharged before anything else happens.
pub fn take_one<S: TableStore>(
    space: &mut Space,
    store: &mut S,
    account: &mut Shootdown,
    take: Take,
) -> u32 {
    debug_assert!(account.is_empty(), "the last slice was not discharged");
    space.revoke(take.epoch);
    let root = space.root();
    let Some(page) = UserAddr::new(take.page.start()) else {
        return SKIPPED;
    };
    let Leaf::Table(table) = walk::find(store, root, page) else {
        return SKIPPED;
    };
    let target = Target {
        root,
        table,
        page,
        frame: take.frame,
    };
    if take.keep.is_empty() {
        harvest::remove(store, account, target)
    } else {
        harvest::lower(store, account, target, take.keep)
    }
}
