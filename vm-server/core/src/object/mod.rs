//! vm_object: pages by offset, a shadow below, perhaps a copy object above, perhaps a pager.
//!
//! References are counted: an entry, a named entry, a copy and a shadowing object each hold one. The
//! entries that map an object and the objects that shadow it are in lists through those records, so
//! that every place that a page can be reached from is found. [`crate::Core::object_reference`] and
//! [`crate::Core::object_deallocate`] are all that other parts need to hold one.

pub(crate) mod collapse;
mod contents;
pub(crate) mod discard;
pub(crate) mod hold;
pub(crate) mod life;
pub mod loan;
pub(crate) mod lock;
mod lower;
pub mod page;
pub mod pager;
pub mod pages;
pub mod places;
pub mod purgeable;
mod shadow;
pub(crate) mod strategy;
pub(crate) mod supply;
pub(crate) mod supply_copy;
pub mod supply_quick;
#[cfg(test)]
mod tests;

use ipc_abi::types::CopyStrategy;

use crate::event::{MapId, ObjectId, TrayId};
use crate::id::Id;
use crate::object::page::Frame;
use crate::object::pages::Tree;
use crate::slab::NIL;

/// What kind of memory an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anonymous memory: what nobody wrote is zero.
    Internal,
    /// A pager has the data: see [`Object::pager`].
    External,
    /// Device registers: page `n` is frame `first + n`. No page records, never copied.
    Device {
        /// Frame of page 0.
        first: Frame,
    },
    /// The slots of a tray. Never copied, shared or inherited.
    Tray(TrayId),
}

/// A memory object.
#[derive(Debug)]
pub struct Object {
    /// Entries, named entries, copies and shadowing objects that hold it.
    pub refs: u32,
    /// What kind of memory it is.
    pub kind: Kind,
    /// How it may be copied.
    pub strategy: CopyStrategy,
    /// A symmetric copy was made: a writer has to make a shadow (rule 5).
    pub shadowed: bool,
    /// More than one entry may write it directly; never symmetric again (rule 9).
    pub true_share: bool,
    /// Its pages.
    pub pages: Tree,
    /// Bytes, a multiple of the page.
    pub size: u64,
    /// The page after the last that was filled with zeros for a write, by the low bits of its number.
    pub fill_next: u32,
    /// Writes to fresh memory that went from page to page.
    pub fill_run: u8,
    /// What shows through where it has no page.
    pub shadow: Option<ObjectId>,
    /// Offset in the shadow of this object's first byte.
    pub shadow_offset: u64,
    /// The object that gets the old page before one of this is written (rule 12). Its shadow is this
    /// object, at offset 0; it holds the reference, not this.
    pub copy: Option<ObjectId>,
    /// Its pager, if it is external.
    pub pager: Option<Id<pager::Pager>>,
    /// Whether its contents may go.
    pub purgeable: purgeable::Purgeable,
    /// Whose page limit its own pages count against; of a pager's object, whose statistics.
    pub payer: Option<MapId>,
    /// Whose account it was charged to as a record.
    pub(crate) charged: Option<MapId>,
    /// First of the entries that map it, linked by `Entry::object_next`.
    pub entries: u32,
    /// The next of them to lose WRITE, or [`life::NOT_LISTED`]: see [`lower`].
    pub lowering: u32,
    /// First of the objects that shadow it, linked by `shadow_next`.
    pub shadows: u32,
    /// Next object with the same shadow.
    pub shadow_next: u32,
    /// Previous object with the same shadow.
    pub shadow_prev: u32,
    /// Next object that nobody holds, or [`life::NOT_LISTED`].
    pub dying_next: u32,
    /// Neighbours in the list of objects whose chains may be shortened, or [`life::NOT_LISTED`].
    pub collapse_next: u32,
    /// See `collapse_next`.
    pub collapse_prev: u32,
}

impl Object {
    /// An object of `size` bytes with one reference.
    #[must_use]
    pub const fn new(kind: Kind, size: u64, payer: Option<MapId>) -> Object {
        Object {
            refs: 1,
            kind,
            strategy: match kind {
                Kind::Internal => CopyStrategy::Symmetric,
                _ => CopyStrategy::None,
            },
            shadowed: false,
            true_share: false,
            pages: Tree::EMPTY,
            size,
            fill_next: u32::MAX,
            fill_run: 0,
            shadow: None,
            shadow_offset: 0,
            copy: None,
            pager: None,
            purgeable: purgeable::Purgeable::DENY,
            payer,
            charged: None,
            entries: NIL,
            lowering: life::NOT_LISTED,
            shadows: NIL,
            shadow_next: NIL,
            shadow_prev: NIL,
            dying_next: life::NOT_LISTED,
            collapse_next: life::NOT_LISTED,
            collapse_prev: life::NOT_LISTED,
        }
    }

    /// Whether it has a copy object, or is being lowered to get one: no page becomes writable unnoticed.
    #[inline]
    #[must_use]
    pub const fn is_copied(&self) -> bool {
        self.copy.is_some() || self.lowering != life::NOT_LISTED
    }

    /// Whether it is anonymous memory.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        matches!(self.kind, Kind::Internal)
    }
}
