//! Named entries: a window of memory that has a port (mach_make_memory_entry; rules 81, 100 to 103).
//!
//! A named entry holds its memory in a hidden map, like a copy ([`crate::copy`]); what is a copy's
//! snapshot is here, unless it was made as one, memory that is *shared* with the range it was made of.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::memory_entry::{MemoryEntryDescribeReply, Reply, Request};

use crate::Core;
use crate::event::{MapId, ObjectId, PortOf, PortRef};
use crate::id::Id;
use crate::map::entry::Entry;
use crate::object::Object;

/// Highest tag of an account (VM_LEDGER_TAG_MAX).
const LEDGER_TAG_MAX: u32 = 5;
/// Tag that leaves the account as it is.
const LEDGER_TAG_UNCHANGED: u32 = u32::MAX;
/// Flags of mach_memory_entry_ownership.
const LEDGER_FLAGS: u32 = 3;

/// Handle of a named entry.
pub type NamedEntryId = Id<NamedEntry>;

/// What a named entry's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A window of one object, or of several that another entry of this kind names.
    Object,
    /// A snapshot (MAP_MEM_VM_COPY).
    Copy,
    /// A range that is shared piece by piece (MAP_MEM_VM_SHARE).
    Share,
    /// A sealed map as a whole ([`crate::map::submap`]).
    Map,
}

impl Kind {
    /// Whether its memory is in pieces that keep their tags (rule 101).
    pub(crate) const fn is_pieces(self) -> bool {
        matches!(self, Kind::Copy | Kind::Share)
    }
}

/// A window of memory.
#[derive(Clone, Copy, Debug)]
pub struct NamedEntry {
    /// The hidden map that holds it, from address 0 on.
    pub map: MapId,
    /// Bytes from the start of its first page on.
    pub size: u64,
    /// Place of its first byte within the first page (MAP_MEM_USE_DATA_ADDR).
    pub data_offset: u64,
    /// The most that a mapping may allow.
    pub protection: Prot,
    /// What its memory is.
    pub kind: Kind,
    /// Cache mode that was asked for: x86 keeps caches coherent, so it is no more than remembered.
    pub cache: u8,
    /// Send rights that were made.
    pub made: u32,
}

impl NamedEntry {
    /// A window of whole pages, one right to which is going to be made.
    pub(crate) const fn new(map: MapId, size: u64, protection: Prot, kind: Kind) -> NamedEntry {
        NamedEntry {
            map,
            size,
            data_offset: 0,
            protection,
            kind,
            cache: 0,
            made: 1,
        }
    }
}

impl Core {
    /// What a named entry's port answers.
    pub(crate) fn call_entry(&self, id: NamedEntryId, request: Request) -> Result<Reply, Kern> {
        let entry = self.named.get(id).ok_or(Kern::Terminated)?;
        match request {
            Request::MemoryEntryDescribe(_) => {
                Ok(Reply::MemoryEntryDescribe(MemoryEntryDescribeReply {
                    size: entry.size,
                    protection: u32::from(entry.protection.bits()),
                    is_copy: entry.kind == Kind::Copy,
                    data_offset: entry.data_offset,
                    cache: u32::from(entry.cache),
                }))
            }
            Request::MachMemoryEntryPurgableControl(_) => Err(Kern::Failure),
            Request::MachMemoryEntryOwnership(args) => {
                let tag = args.ledger_tag;
                if tag > LEDGER_TAG_MAX && tag != LEDGER_TAG_UNCHANGED
                    || args.flags & !LEDGER_FLAGS != 0
                {
                    return Err(Kern::InvalidArgument);
                }
                Ok(Reply::MachMemoryEntryOwnership(()))
            }
        }
    }

    /// The named entry that a right of a request names.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it names none.
    pub(crate) fn named_of(&self, right: PortRef) -> Result<(NamedEntryId, NamedEntry), Kern> {
        match right {
            PortRef::Own(PortOf::Entry(id)) => self
                .named
                .get(id)
                .map(|entry| (id, *entry))
                .ok_or(Kern::InvalidArgument),
            _ => Err(Kern::InvalidArgument),
        }
    }

    /// Forgets a named entry: its port has no senders. Mapped memory stays (row 13).
    pub(crate) fn named_discard(&mut self, id: NamedEntryId) {
        if let Some(entry) = self.named.remove(id) {
            self.map_unnamed(entry.map);
        }
    }

    /// One more right to a named entry is going to be made.
    pub(crate) fn named_again(&mut self, id: NamedEntryId) {
        if let Some(entry) = self.named.get_mut(id) {
            entry.made = entry.made.saturating_add(1);
        }
    }

    /// Nobody had a right to a named entry when `made` of them had been made; `u32::MAX`: the last one
    /// was not made after all. Says whether the entry has gone.
    pub(crate) fn named_unheld(&mut self, id: NamedEntryId, made: u32) -> Unheld {
        let Some(entry) = self.named.get_mut(id) else {
            return Unheld::Gone;
        };
        if made == u32::MAX && entry.made > 1 {
            entry.made = entry.made.saturating_sub(1);
            return Unheld::Held;
        }
        if made < entry.made {
            return Unheld::Again;
        }
        self.named_discard(id);
        Unheld::Gone
    }

    /// A named entry of a fresh anonymous object, which all that map it share.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn named_create(
        &mut self,
        payer: MapId,
        object: Object,
        protection: Prot,
    ) -> Result<NamedEntryId, Kern> {
        let size = object.size;
        let object = self.object_insert(Object {
            true_share: true,
            ..object
        })?;
        self.named_of_object(payer, object, (0, size), protection)
    }

    /// A named entry of a window of an object, whose reference it takes over.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn named_of_object(
        &mut self,
        payer: MapId,
        object: ObjectId,
        (offset, size): (u64, u64),
        protection: Prot,
    ) -> Result<NamedEntryId, Kern> {
        let map = self.hide(payer, object, (offset, size))?;
        self.named_insert(NamedEntry::new(map, size, protection, Kind::Object))
    }

    /// Stores a named entry; its hidden map ends if that fails.
    pub(crate) fn named_insert(&mut self, entry: NamedEntry) -> Result<NamedEntryId, Kern> {
        self.named
            .insert(entry)
            .inspect_err(|_| self.map_end(entry.map))
    }

    /// A hidden map that holds a window of an object, whose reference it takes over.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn hide(
        &mut self,
        payer: MapId,
        object: ObjectId,
        (offset, size): (u64, u64),
    ) -> Result<MapId, Kern> {
        let hidden = self.hidden_map(payer, size).and_then(|map| {
            let entry = Entry {
                object: Some(object),
                offset,
                is_shared: true,
                inheritance: Inherit::Share,
                ..Entry::anonymous(map, 0, size)
            };
            self.entry_insert(entry)
                .map(|_| map)
                .inspect_err(|_| self.map_end(map))
        });
        if hidden.is_err() {
            self.object_deallocate(object);
        }
        hidden
    }

    /// Whether two named entries are one window of one object.
    pub(crate) fn is_same_window(&self, one: &NamedEntry, other: &NamedEntry) -> bool {
        let only = |entry: &NamedEntry| {
            let map = self.maps.get(entry.map)?;
            let first = self.entries.at(map.tree.first().0)?;
            (map.entries() == 1).then_some((first.object?, first.offset))
        };
        only(one).is_some()
            && only(one) == only(other)
            && (one.size, one.data_offset) == (other.size, other.data_offset)
    }
}

/// What a notice that nobody holds a right to a named entry meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheld {
    /// Somebody does.
    Held,
    /// It was too old: another is to be asked for.
    Again,
    /// The entry is no more.
    Gone,
}
