//! Named entries: a window of memory that has a port (mach_make_memory_entry; rules 81, 100 to 103).
//!
//! A named entry holds its memory in a hidden map, like a copy ([`crate::copy`]); what is a copy's
//! snapshot is here, unless it was made as one, memory that is *shared* with the range it was made of.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Inherit, Prot};
use ipc_protocol::memory_entry::{MemoryEntryDescribeReply, Reply, Request};

use crate::event::{MapId, PortOf, PortRef};
use crate::id::Id;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::{Kind, Object};
use crate::range::Span;
use crate::{Core, Turn};

/// Handle of a named entry.
pub type NamedEntryId = Id<NamedEntry>;

/// A window of memory.
#[derive(Clone, Copy, Debug)]
pub struct NamedEntry {
    /// The hidden map that holds it, from address 0 on.
    pub map: MapId,
    /// Bytes.
    pub size: u64,
    /// The most that a mapping may allow.
    pub protection: Prot,
    /// It is a snapshot.
    pub is_copy: bool,
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
                    is_copy: entry.is_copy,
                }))
            }
            Request::MachMemoryEntryPurgableControl(_) => Err(Kern::Failure),
        }
    }

    /// The named entry that a right of a request names.
    pub(crate) fn named_of(&self, right: PortRef) -> Result<NamedEntry, Kern> {
        match right {
            PortRef::Own(PortOf::Entry(id)) => {
                self.named.get(id).copied().ok_or(Kern::InvalidArgument)
            }
            _ => Err(Kern::InvalidArgument),
        }
    }

    /// Forgets a named entry: its port has no senders. Mapped memory stays (row 13).
    pub(crate) fn named_discard(&mut self, id: NamedEntryId) {
        if let Some(entry) = self.named.remove(id) {
            self.map_unnamed(entry.map);
        }
    }

    /// A named entry of fresh anonymous memory. It is copied by pages only (rule 28).
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn named_create(
        &mut self,
        payer: MapId,
        size: u64,
        protection: Prot,
    ) -> Result<NamedEntryId, Kern> {
        let mut object = Object::new(Kind::Internal, size, Some(payer));
        object.strategy = CopyStrategy::None;
        object.true_share = true;
        let object = self.objects.insert(object)?;
        let map = match self.hidden_map(payer, size) {
            Ok(map) => map,
            Err(code) => {
                self.object_deallocate(object);
                return Err(code);
            }
        };
        let entry = Entry {
            object: Some(object),
            is_shared: true,
            inheritance: Inherit::Share,
            ..Entry::anonymous(map, 0, size)
        };
        if let Err(code) = self.entry_insert(entry) {
            self.object_deallocate(object);
            self.map_end(map);
            return Err(code);
        }
        self.named_insert(NamedEntry {
            map,
            size,
            protection,
            is_copy: false,
        })
    }

    /// A named entry that shares `range` of a map (or of another entry's hidden map), at most `BUDGET`
    /// map entries of it: the size that comes back tells.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: nothing is mapped at the start. `KERN_PROTECTION_FAILURE`: more than the
    /// range has. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn named_share<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: MapId,
        range: Span,
        protection: Prot,
        spans: Spans,
    ) -> Result<NamedEntryId, Kern> {
        let map = self.hidden_map(source, range.size())?;
        match self.named_fill(turn, source, range, protection, (map, spans)) {
            Ok(size) => self.named_insert(NamedEntry {
                map,
                size,
                protection,
                is_copy: false,
            }),
            Err(code) => {
                self.map_end(map);
                Err(code)
            }
        }
    }

    /// Shares entries of a range into a hidden map; says how many bytes.
    fn named_fill<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: MapId,
        range: Span,
        protection: Prot,
        (map, spans): (MapId, Spans),
    ) -> Result<u64, Kern> {
        let most = match spans {
            Spans::One => 1,
            Spans::Many => crate::op::BUDGET,
        };
        let mut cursor = range.start();
        for _ in 0..most {
            if cursor >= range.end() {
                break;
            }
            let rest = Span::exact(cursor, range.end()).ok_or(Kern::InvalidAddress)?;
            if protection.contains(Prot::WRITE) {
                self.unnest_copied(turn.machine, source, rest)?;
            }
            let window = match self.window_open(source, rest) {
                Ok(window) => window,
                Err(Kern::InvalidAddress) if cursor > range.start() => break,
                Err(code) => return Err(code),
            };
            let filled = self.named_fill_one(turn, window.link, protection, (map, range.start()));
            self.window_close(&window);
            cursor = filled?;
        }
        Ok(cursor.saturating_sub(range.start()))
    }

    /// Shares an entry into a hidden map, whose address 0 is `base`; gives the end of the entry.
    fn named_fill_one<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
        protection: Prot,
        (map, base): (MapId, u64),
    ) -> Result<u64, Kern> {
        let found = *self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        if !found.max_protection.contains(protection) {
            return Err(Kern::ProtectionFailure);
        }
        let (object, offset) = self.entry_share(turn, link)?;
        let entry = Entry {
            object: Some(object),
            offset,
            is_shared: true,
            inheritance: Inherit::Share,
            ..Entry::anonymous(
                map,
                found.start.saturating_sub(base),
                found.end.saturating_sub(base),
            )
        };
        match self.entry_insert(entry) {
            Ok(_) => Ok(found.end),
            Err(code) => {
                self.object_deallocate(object);
                Err(code)
            }
        }
    }

    /// Stores a named entry; its hidden map ends if that fails.
    pub(crate) fn named_insert(&mut self, entry: NamedEntry) -> Result<NamedEntryId, Kern> {
        self.named
            .insert(entry)
            .inspect_err(|_| self.map_end(entry.map))
    }
}

/// How many map entries a named entry may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spans {
    /// The first only, which cuts the size.
    One,
    /// Several.
    Many,
}
