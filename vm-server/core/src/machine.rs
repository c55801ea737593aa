//! The calls that take effect at once. The shell's, the tests' model and a replay implement them.
//!
//! They cannot fail and are bounded. Everything else that the core wants done is an
//! [`crate::effect::Effect`].

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;

use crate::event::MapId;
use crate::object::page::Frame;

/// Takes translations away, or takes rights from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// Reduce the translation of one page to `keep`; none at all: remove it.
    Page {
        /// Whose address space.
        map: MapId,
        /// The space's epoch from now on; an Enter decided under an older one is void.
        epoch: u64,
        /// Address of the page.
        address: u64,
        /// The frame that is expected there; another one is left alone.
        frame: Frame,
        /// Rights that stay.
        keep: Prot,
    },
    /// Reduce whatever lies in `[start, end)` to `keep`; none at all: remove it, and the page tables
    /// that it covers.
    Range {
        /// Whose address space.
        map: MapId,
        /// As above.
        epoch: u64,
        /// First address.
        start: u64,
        /// One past the last address.
        end: u64,
        /// Rights that stay.
        keep: Prot,
    },
}

/// Pages side by side that go out of one address space, in sight of another.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Whose address space they leave.
    pub map: MapId,
    /// Its epoch from now on, under which others are entered.
    pub epoch: u64,
    /// Address of the first page.
    pub address: u64,
    /// The pages, as they are expected there; what else is there stays, unless others take the places.
    pub frames: &'a [Frame],
    /// The others, to be read and written: as many, or none.
    pub fresh: &'a [Frame],
    /// Where the pages are shown.
    pub shown: Option<Shown>,
}

impl Pass<'_> {
    /// What goes, page by page: whatever is there if others take the places, else only what is expected.
    pub fn revokes(&self) -> impl Iterator<Item = Revoke> {
        let (map, epoch, keep) = (self.map, self.epoch, Prot::NONE);
        let starts = core::iter::successors(Some(self.address), |at| at.checked_add(PAGE_SIZE));
        starts.zip(self.frames).map(move |(address, &frame)| {
            if self.fresh.is_empty() {
                Revoke::Page {
                    map,
                    epoch,
                    address,
                    frame,
                    keep,
                }
            } else {
                Revoke::Range {
                    map,
                    epoch,
                    start: address,
                    end: address.saturating_add(PAGE_SIZE),
                    keep,
                }
            }
        })
    }
}

/// Where pages are shown that are passed.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Whose address space.
    pub map: MapId,
    /// Which is the first that is shown.
    pub first: u32,
    /// How many are, all in one page table.
    pub count: u32,
    /// Address of the first that is shown.
    pub address: u64,
    /// With which rights.
    pub protection: Prot,
}

/// Most elements of one [`Machine::revoke`].
pub const REVOKE_MAX: usize = 64;

/// What the revoked translations had seen, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// One of them had been used.
    pub referenced: bool,
    /// One of them had been written through.
    pub dirty: bool,
}

/// The machine under the core.
pub trait Machine {
    /// Fills a frame with zeros.
    fn zero(&mut self, frame: Frame);
    /// Copies a whole frame.
    fn copy(&mut self, from: Frame, to: Frame);
    /// Reads bytes of a frame; `offset + bytes.len()` is at most a page.
    fn load(&mut self, frame: Frame, offset: usize, bytes: &mut [u8]);
    /// Writes bytes of a frame; `offset + bytes.len()` is at most a page.
    fn store(&mut self, frame: Frame, offset: usize, bytes: &[u8]);
    /// Copies bytes from one frame to another (or inside one).
    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), count: usize);
    /// Whether a frame holds nothing but zeros.
    fn is_zero(&mut self, frame: Frame) -> bool;
    /// Takes back translations, at most [`REVOKE_MAX`]; no processor uses them when it returns.
    fn revoke(&mut self, elements: &[Revoke]) -> Seen;
    /// Takes back pages side by side, and enters others there, which is a hint. When no processor uses
    /// those that were there, shows them where nothing is mapped, which is a hint too: says whether all that
    /// are to be shown are entered.
    fn pass(&mut self, pages: &Pass<'_>) -> bool;
}
