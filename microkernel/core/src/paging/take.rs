//! One page taken back, or lowered, by words in registers: what a batch of one run with one frame does,
//! without a buffer to be read and checked.

use ipc_abi::Kern;
use ipc_abi::translation::SKIPPED;
use ipc_abi::types::Prot;

use super::harvest::{self, Target};
use super::{Space, TableStore, walk};
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

/// What became of a page that was to be taken back.
#[must_use = "a translation that was taken back may still be in TLBs"]
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The word that a batch would answer.
    pub seen: u32,
    /// A page, by the root of its space, that processors may still use as it was.
    pub stale: Option<(Frame, UserAddr)>,
    /// A frame whose count is to be lowered, and that devices are to lose, when none does.
    pub gone: Option<Frame>,
}

impl Taken {
    /// Nothing was as expected, and nothing has changed.
    const NOTHING: Taken = Taken {
        seen: SKIPPED,
        stale: None,
        gone: None,
    };
}

/// Reduces a page that maps the frame named for it. It keeps no account of it: there is one page, and the
/// caller sees to it before anything else happens.
#[inline(always)]
pub fn take_one<S: TableStore>(space: &mut Space, store: &mut S, take: Take) -> Taken {
    space.revoke(take.epoch);
    let root = space.root();
    let Some(page) = UserAddr::new(take.page.start()) else {
        return Taken::NOTHING;
    };
    // Restrictions on the way do not matter; reading none withholds.
    let Some(table) = walk::open(store, root, page, Prot::READ) else {
        return Taken::NOTHING;
    };
    let target = Target {
        root,
        table,
        page,
        frame: take.frame,
    };
    if take.keep.is_empty() {
        return match harvest::clear(store, target) {
            Some(old) => Taken {
                seen: harvest::report(old),
                stale: Some((root, page)),
                gone: Some(take.frame),
            },
            None => Taken::NOTHING,
        };
    }
    match harvest::reduce(store, target, take.keep) {
        Some(old) => Taken {
            seen: harvest::report(old),
            stale: (!take.keep.contains(old.rights())).then_some((root, page)),
            gone: None,
        },
        None => Taken::NOTHING,
    }
}
