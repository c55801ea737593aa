//! What you write ([`Pager`]), what you are asked ([`Want`]), and what you say ([`Answer`]).

use ipc::Kern;
use ipc::abi::types::{CopyStrategy, Prot};
use ipc::protocol::Protocol;
use ipc::server::Context;

use crate::objects::{ObjectId, Objects};

/// Bytes of a page.
pub const PAGE: usize = ipc::abi::layout::PAGE_SIZE as usize;

/// A source of pages. Only [`data_request`](Pager::data_request) has to be written.
pub trait Pager {
    /// Slots of the tray through which the pages go: twice what one request may ask for, so that
    /// one half is filled again while the other is in use.
    const SLOTS: u32 = 32;

    /// Brings pages: writes them to `want` and says so, or says why not.
    ///
    /// `want` holds anything at first, even pages of this pager's other objects: write all of it
    /// before answering [`Answer::Supply`]. What lies beyond the end of the object is cleared for
    /// you.
    fn data_request(&mut self, object: &Object, want: &mut Want<'_>) -> Answer;

    /// Called once, before anything is asked, with the slots that requests will take in turn: who knows
    /// already what will be wanted first writes it there, and need not do so when it is asked.
    fn prepare(&mut self, _slots: &mut [u8]) {}

    /// How the server shall treat an object. Asked whenever it is mapped after a time unmapped.
    fn attributes(&self, _object: &Object) -> Attributes {
        Attributes::default()
    }

    /// Stores pages that were written, from number `first` on. The default refuses, and the pages
    /// stay dirty: right for what is only ever mapped for reading.
    ///
    /// # Errors
    /// Why the pages are not stored.
    fn data_return(&mut self, _object: &Object, _first: u64, _pages: &[u8]) -> Result<(), Kern> {
        Err(Kern::NotSupported)
    }

    /// An object of the instance before this one, of which that said `note` to
    /// [`Objects::create_kept`]: says what object it is, and it goes on; or does not know it, and it ends,
    /// an error to all who need more of it. Called before anything is served.
    fn adopt(&mut self, _note: &[u8], _id: ObjectId) -> Option<Object> {
        None
    }

    /// Nobody maps the object, and nobody holds a right to it: you will not hear of it again.
    fn terminate(&mut self, _object: &Object) {}
}

/// A pager that is also asked in a protocol of its own, on a port of its own: to open files, say.
pub trait Front: Pager {
    /// The protocol.
    type Protocol: Protocol;

    /// Handles a request. `objects` is where new objects are made.
    fn request(
        &mut self,
        request: <Self::Protocol as Protocol>::Request,
        context: &mut Context,
        objects: &mut Objects,
    ) -> ipc::server::Answer<<Self::Protocol as Protocol>::Reply>;
}

/// A memory object, as its pager knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// The pager's own number for it.
    pub key: u64,
    /// Bytes. An access to a page wholly beyond gets KERN_MEMORY_ERROR.
    pub size: u64,
}

/// Pages that are wanted, and the memory that they go to: slots of the tray, which the server moves
/// into the object.
#[derive(Debug)]
pub struct Want<'a> {
    /// Offset of the first byte in the object; a multiple of the page.
    pub offset: u64,
    /// What the fault that caused this needs.
    pub access: Prot,
    /// Where the pages go: one at least, and whole ones.
    pub bytes: &'a mut [u8],
}

impl Want<'_> {
    /// Page by page: its number in the object, and its bytes.
    pub fn pages(&mut self) -> impl Iterator<Item = (u64, &mut [u8])> {
        let first = self.offset / PAGE as u64;
        (first..).zip(self.bytes.chunks_exact_mut(PAGE))
    }
}

/// What a pager says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it has been written.
    Supply,
    /// So many pages from the first on have been written; the others are asked for again when they
    /// are needed. None at all is an error.
    SupplyFirst(usize),
    /// There is no data: the server looks further, and in the end fills with zeros. It will not
    /// ask for these pages again.
    Unavailable,
    /// The data cannot be brought. Whoever waits for it gets KERN_MEMORY_ERROR; a later access asks
    /// again. The code is for traces.
    Error(Kern),
}

/// How the server shall treat an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Keep pages after the last mapping is gone.
    pub may_cache: bool,
    /// How copies are made.
    pub copy_strategy: CopyStrategy,
    /// Most pages of one request: 1 to 64, and not more than half the tray has slots.
    pub cluster: u32,
}

impl Default for Attributes {
    /// Delayed copies, clusters of up to 16 pages, nothing kept. (Amendment A5: delayed copies are
    /// the framework's promise that its pagers do not change unasked what they have supplied.)
    fn default() -> Attributes {
        Attributes {
            may_cache: false,
            copy_strategy: CopyStrategy::Delay,
            cluster: 16,
        }
    }
}
