//! vm_map_entry: one range of a map with equal attributes.
//!
//! The first 64 bytes hold what a look-up and a fault read; the rest is for changes. An entry is
//! its own node in its map's tree and in the list of the entries that map its object; both link by
//! index in the slab that holds the entries of all maps.

use ipc_abi::types::{Behavior, Inherit, Prot};

use super::tree::{Hooks, Link, Store};
use crate::event::{MapId, ObjectId};
use crate::range::page_of;
use crate::slab::{NIL, Slab};

/// A range of a map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Entry {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    pub(crate) left: Link,
    pub(crate) right: Link,
    /// What is mapped; `None`: anonymous memory that nobody has touched, or another map.
    pub object: Option<ObjectId>,
    /// Offset of `start` in the object, or its address in the other map; 0 where there is neither.
    pub offset: u64,
    /// Rights now.
    pub protection: Prot,
    /// Rights that may ever be given.
    pub max_protection: Prot,
    /// What a child gets.
    pub inheritance: Inherit,
    /// How it will be read.
    pub behavior: Behavior,
    /// A write first makes a shadow object.
    pub needs_copy: bool,
    /// Other entries share its object on purpose; never merged (rule 108).
    pub is_shared: bool,
    /// It shows the slots of a tray: never changed, inherited or removed by its task.
    pub is_tray: bool,
    /// The user's tag.
    pub tag: u8,
    /// Kernel and user wirings.
    pub wired: u16,
    /// User wirings, which nest, and together are one of `wired` (rule 131).
    pub user_wired: u16,
    /// An operation wires it: nobody else changes, removes or copies it (rule 138).
    pub in_transition: bool,
    /// Its pages are zeroed when they are unmapped wired (rule 145).
    pub zero_wired: bool,
    /// A look-up has come to it since it was made: something of it may be translated.
    pub visited: bool,
    /// It is never replaced, and when it is removed it loses its rights, but not its place (rule 89).
    pub permanent: bool,
    /// The map that it is in.
    pub map: MapId,
    /// Next entry of the same object or of the same other map, see [`crate::Core::entry_link`].
    pub object_next: u32,
    /// Previous entry of the same object or other map.
    pub object_prev: u32,
    /// The map that shows here, from the address `offset` on ([`crate::map::submap`]).
    pub submap: Option<MapId>,
    pub(crate) hooks: Hooks,
}

// With what the slab adds it is 128: a look-up shifts, and does not multiply.
const _: () = assert!(size_of::<Entry>() == 120);
const _: () = assert!(core::mem::offset_of!(Entry, object_next) <= 64);

impl Entry {
    /// Untouched anonymous memory with the attributes of vm_allocate (rule 104), in no tree yet.
    #[must_use]
    pub const fn anonymous(map: MapId, start: u64, end: u64) -> Entry {
        Entry {
            start,
            end,
            left: Link::NIL,
            right: Link::NIL,
            object: None,
            offset: 0,
            protection: Prot::DEFAULT,
            max_protection: Prot::ALL,
            inheritance: Inherit::Copy,
            behavior: Behavior::Default,
            needs_copy: false,
            is_shared: false,
            is_tray: false,
            tag: 0,
            wired: 0,
            user_wired: 0,
            in_transition: false,
            zero_wired: false,
            visited: false,
            map,
            object_next: NIL,
            object_prev: NIL,
            submap: None,
            permanent: false,
            hooks: Hooks::FREE,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether an address lies in it.
    #[inline(always)]
    #[must_use]
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether it is anonymous memory that nobody has touched.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.object.is_none() && self.submap.is_none()
    }

    /// Offset in the object of an address inside the entry.
    #[must_use]
    pub const fn offset_of(&self, address: u64) -> u64 {
        self.offset
            .saturating_add(address.saturating_sub(self.start))
    }

    /// Page number in the object of an address inside the entry.
    #[inline(always)]
    #[must_use]
    pub const fn page_at(&self, address: u64) -> u64 {
        page_of(self.offset.wrapping_add(address.wrapping_sub(self.start)))
    }

    /// Whether `upper` starts where this one ends and differs from it in nothing but place, so that
    /// the two may be one entry (rules 107, 108).
    #[must_use]
    pub(crate) fn continues_in(&self, upper: &Entry) -> bool {
        self.end == upper.start
            && self.object == upper.object
            && (self.is_untouched() || self.offset_of(self.end) == upper.offset)
            && self.is_like(upper)
    }

    /// Whether another entry differs from this one in nothing but place, object and offset, and is not
    /// kept apart (rule 108).
    #[must_use]
    pub(crate) fn is_like(&self, upper: &Entry) -> bool {
        self.submap == upper.submap
            && self.protection == upper.protection
            && self.max_protection == upper.max_protection
            && self.inheritance == upper.inheritance
            && self.behavior == upper.behavior
            && self.needs_copy == upper.needs_copy
            && self.tag == upper.tag
            && self.permanent == upper.permanent
            && self.wired == upper.wired
            && self.user_wired == upper.user_wired
            && self.in_transition == upper.in_transition
            && self.zero_wired == upper.zero_wired
            && !self.is_shared
            && !upper.is_shared
    }
}

impl Store for Slab<Entry> {
    #[inline]
    fn at(&self, link: Link) -> Option<&Entry> {
        Slab::at(self, link.0)
    }

    #[inline]
    fn at_mut(&mut self, link: Link) -> Option<&mut Entry> {
        Slab::at_mut(self, link.0)
    }
}
