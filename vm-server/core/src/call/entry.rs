//! mach_make_memory_entry: a window of memory gets a port (rules 9 to 11, 28, 81).

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::vm_map::{
    self, MAP_MEM_4K_DATA_ADDR, MAP_MEM_GRAB_SECLUDED, MAP_MEM_LEDGER_TAGGED, MAP_MEM_NAMED_CREATE,
    MAP_MEM_NAMED_REUSE, MAP_MEM_ONLY, MAP_MEM_PURGABLE, MAP_MEM_PURGABLE_KERNEL_ONLY,
    MAP_MEM_USE_DATA_ADDR, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, MachMakeMemoryEntry, VM_PROT_IS_MASK,
};
use ipc_protocol::vm_share::{
    MemoryObjectCreateProxyReply, Reply as Said, VmRegionCreateProxyReply,
};

use super::share::carrying;
use super::vm_copy::{Then, Transfer};
use super::vm_map::{MapCall, Outcome};
use crate::call::{Message, Reply};
use crate::copy::sharein::{Found, Terms};
use crate::event::{MapId, PortOf, PortRef};
use crate::machine::Machine;
use crate::named_entry::{Kind, NamedEntry, NamedEntryId};
use crate::object::{Kind as ObjectKind, Object};
use crate::op::Progress;
use crate::range::{PAGE_MASK, Span, page_of, round_page};
use crate::{Core, Turn};

/// Every flag of a permission word.
const FLAGS: u32 = MAP_MEM_LEDGER_TAGGED
    | MAP_MEM_PURGABLE_KERNEL_ONLY
    | MAP_MEM_GRAB_SECLUDED
    | MAP_MEM_ONLY
    | MAP_MEM_NAMED_CREATE
    | MAP_MEM_PURGABLE
    | MAP_MEM_NAMED_REUSE
    | MAP_MEM_USE_DATA_ADDR
    | MAP_MEM_VM_COPY
    | MAP_MEM_VM_SHARE
    | MAP_MEM_4K_DATA_ADDR;
/// Those that keep the place of the first byte.
const DATA_ADDR: u32 = MAP_MEM_USE_DATA_ADDR | MAP_MEM_4K_DATA_ADDR;
/// Highest cache mode.
const CACHE_MAX: u8 = 9;
/// Most pages of an object that is made for an entry.
const CREATE_MAX: u64 = 0xFFFF_FFFF;

/// A permission word, checked.
#[derive(Clone, Copy, Debug)]
struct Permission {
    flags: u32,
    protection: Prot,
    is_mask: bool,
    cache: u8,
}

impl Permission {
    /// # Errors
    /// `KERN_INVALID_VALUE`: a flag or a cache mode that is not defined.
    fn check(raw: u32) -> Result<Permission, Kern> {
        let flags = raw & 0x00FF_FF00;
        let [low, _, _, cache] = raw.to_le_bytes();
        if flags & !FLAGS != 0 || cache > CACHE_MAX {
            return Err(Kern::InvalidValue);
        }
        Ok(Permission {
            flags,
            // Protection bits that mean nothing here are not looked at (C0173 to C0175).
            protection: Prot::from_bits_truncate(low),
            is_mask: raw & VM_PROT_IS_MASK != 0,
            cache,
        })
    }

    const fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }
}

/// Which call a named entry answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answers {
    /// mach_make_memory_entry.
    MakeMemoryEntry,
    /// memory_object_create_proxy.
    ObjectProxy,
    /// vm_region_create_proxy, for a window that starts there.
    RegionProxy(u64),
}

impl Answers {
    /// The answer that carries the entry.
    const fn with(self, id: NamedEntryId, size: u64) -> Reply {
        let said = match self {
            Answers::MakeMemoryEntry => return made_entry(id, size),
            Answers::ObjectProxy => Said::MemoryObjectCreateProxy(MemoryObjectCreateProxyReply {}),
            Answers::RegionProxy(address) => {
                Said::VmRegionCreateProxy(VmRegionCreateProxyReply { address })
            }
        };
        carrying(said, PortOf::Entry(id))
    }
}

/// The named entry that is to be made of a hidden map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    pub(super) kind: Kind,
    protection: Prot,
    /// Leave out what the range does not give.
    is_mask: bool,
    data_offset: u64,
    /// Bytes that were asked for, from the start of the first page on.
    size: u64,
    pub(super) cache: u8,
    /// What is answered.
    answers: Answers,
    /// An entry that is the answer if it describes the same window.
    reuse: Option<NamedEntryId>,
}

impl Core {
    pub(super) fn make_memory_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: MachMakeMemoryEntry,
    ) -> Outcome {
        let permission = Permission::check(args.permission)?;
        let [right, ..] = call.rights;
        if permission.has(MAP_MEM_ONLY) {
            self.entry_cache(right, permission)?;
            return Ok(Progress::Done(Some(Ok(no_entry(args.size)))));
        }
        if permission.has(MAP_MEM_NAMED_CREATE) {
            return self.entry_create(call.map, args.size, permission);
        }
        if args.size == 0 {
            return Err(Kern::InvalidArgument);
        }
        let parent = match right {
            PortRef::None => None,
            right => Some(self.named_of(right)?),
        };
        if parent.is_some_and(|(_, parent)| parent.kind != Kind::Object) {
            return Err(Kern::InvalidArgument);
        }
        let of_map = MAP_MEM_NAMED_REUSE | MAP_MEM_VM_COPY | MAP_MEM_VM_SHARE;
        match parent {
            Some((_, parent)) if !permission.has(of_map) => {
                self.entry_window(turn, call, args, permission, parent)
            }
            _ => {
                let range = Span::covering(args.offset, args.size)?;
                let reuse = parent.filter(|_| permission.has(MAP_MEM_NAMED_REUSE));
                let naming = Naming {
                    reuse: reuse.map(|(id, _)| id),
                    ..Naming::new(permission, range, (args.offset, args.size))
                };
                self.entry_make(turn, call, (call.map, range), naming)
            }
        }
    }

    /// Makes an entry of a range of a map, or of a window of another entry's.
    pub(super) fn entry_make<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        (source, range): (MapId, Span),
        naming: Naming,
    ) -> Outcome {
        let then = Then::Entry(naming);
        if naming.kind == Kind::Copy {
            let work = self.copyin(source, range.start(), range.size())?;
            return self.transfer(turn, call, Transfer::new(work, then));
        }
        let proxy = !matches!(naming.answers, Answers::MakeMemoryEntry);
        let first_only = naming.kind == Kind::Object && source == call.map && !proxy;
        let mut terms = Terms::of(Prot::NONE, naming.protection);
        if naming.is_mask {
            terms = terms.masking(naming.protection);
        }
        let work = self.sharein(source, range, terms, first_only)?;
        self.transfer(turn, call, Transfer::sharing(work, then))
    }

    /// A window of another entry.
    fn entry_window<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: MachMakeMemoryEntry,
        permission: Permission,
        parent: NamedEntry,
    ) -> Outcome {
        let base = match permission.has(DATA_ADDR) {
            true => parent.data_offset,
            false => 0,
        };
        let start = args.offset.checked_add(base).ok_or(Kern::InvalidArgument)?;
        let range = Span::covering(start, args.size)?;
        if range.end() > round_page(parent.size).unwrap_or(parent.size) {
            return Err(Kern::InvalidArgument);
        }
        let mut naming = Naming::new(permission, range, (start, args.size));
        if naming.is_mask {
            naming.protection &= parent.protection;
            if naming.protection.is_empty() {
                return Err(Kern::ProtectionFailure);
            }
        }
        if !parent.protection.contains(naming.protection) {
            return Err(Kern::ProtectionFailure);
        }
        naming.is_mask = false;
        self.entry_make(turn, call, (parent.map, range), naming)
    }

    /// An entry of fresh anonymous memory.
    fn entry_create(&mut self, payer: MapId, size: u64, permission: Permission) -> Outcome {
        if size == 0 {
            return Ok(Progress::Done(Some(Ok(no_entry(0)))));
        }
        if permission.has(DATA_ADDR)
            || permission.has(MAP_MEM_PURGABLE) && !permission.protection.contains(Prot::WRITE)
        {
            return Err(Kern::InvalidArgument);
        }
        let size = round_page(size).ok_or(Kern::InvalidArgument)?;
        if page_of(size) > CREATE_MAX {
            return Err(Kern::Failure);
        }
        // Either kind is copied page by page only (rule 28).
        let object = match permission.has(MAP_MEM_PURGABLE) {
            true => Object::purgeable(size, payer, permission.has(MAP_MEM_PURGABLE_KERNEL_ONLY)),
            false => Object {
                strategy: CopyStrategy::None,
                ..Object::new(ObjectKind::Internal, size, Some(payer))
            },
        };
        let id = self.named_create(payer, object, permission.protection)?;
        if let Some(entry) = self.named.get_mut(id) {
            entry.cache = permission.cache;
        }
        Ok(Progress::Done(Some(Ok(made_entry(id, size)))))
    }

    /// MAP_MEM_ONLY: the cache mode of an entry's memory.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no entry, or not one of an object; the byte's place is to be kept.
    /// `KERN_INVALID_RIGHT`: another mode, and the entry is not writable.
    fn entry_cache(&mut self, right: PortRef, permission: Permission) -> Result<(), Kern> {
        let (id, parent) = self.named_of(right)?;
        if permission.has(DATA_ADDR) || parent.kind != Kind::Object {
            return Err(Kern::InvalidArgument);
        }
        // Mode 0 is "no change".
        if permission.cache != 0 && permission.cache != parent.cache {
            if !parent.protection.contains(Prot::WRITE) {
                return Err(Kern::InvalidRight);
            }
            if let Some(entry) = self.named.get_mut(id) {
                entry.cache = permission.cache;
            }
        }
        Ok(())
    }

    /// Names what a hidden map holds from address 0 on. The map is the entry's if this succeeds.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: of the rights asked for none is left. `KERN_RESOURCE_SHORTAGE`.
    pub(super) fn entry_name(
        &mut self,
        naming: Naming,
        (map, size): (MapId, u64),
        found: Found,
    ) -> Result<Reply, Kern> {
        let mut protection = naming.protection;
        if naming.is_mask && naming.kind != Kind::Copy {
            protection &= found.max_protection;
            if protection.is_empty() {
                return Err(Kern::ProtectionFailure);
            }
        }
        let entry = NamedEntry {
            data_offset: naming.data_offset,
            cache: naming.cache,
            ..NamedEntry::new(map, naming.size.min(size), protection, naming.kind)
        };
        if let Some(id) = naming.reuse
            && let Some(parent) = self.named.get(id).copied()
            && parent.protection.contains(protection)
            && self.is_same_window(&parent, &entry)
        {
            self.named_again(id);
            self.map_end(map);
            return Ok(naming.answers.with(id, parent.size));
        }
        let id = self.named.insert(entry)?;
        Ok(naming.answers.with(id, entry.size))
    }
}

impl Naming {
    /// Of all of `range`, with no more than these rights.
    pub(super) const fn proxy(range: Span, protection: Prot, answers: Answers) -> Naming {
        Naming {
            kind: Kind::Object,
            protection,
            is_mask: false,
            data_offset: 0,
            size: range.size(),
            cache: 0,
            answers,
            reuse: None,
        }
    }

    /// For `size` bytes at `offset`, which `range` covers.
    const fn new(permission: Permission, range: Span, (offset, size): (u64, u64)) -> Naming {
        let (data_offset, size) = match permission.has(DATA_ADDR) {
            true => (offset & PAGE_MASK, size.saturating_add(offset & PAGE_MASK)),
            false => (0, range.size()),
        };
        let kind = match (
            permission.has(MAP_MEM_VM_COPY),
            permission.has(MAP_MEM_VM_SHARE),
        ) {
            (true, _) => Kind::Copy,
            (false, true) => Kind::Share,
            (false, false) => Kind::Object,
        };
        Naming {
            kind,
            answers: Answers::MakeMemoryEntry,
            protection: permission.protection,
            is_mask: permission.is_mask,
            data_offset,
            size,
            cache: permission.cache,
            reuse: None,
        }
    }
}

const fn answer(size: u64, right: Option<PortOf>) -> Reply {
    let reply = vm_map::MachMakeMemoryEntryReply { size };
    Reply {
        message: Message::Map(vm_map::Reply::MachMakeMemoryEntry(reply)),
        right,
    }
}

/// The answer that carries a named entry.
const fn made_entry(id: NamedEntryId, size: u64) -> Reply {
    answer(size, Some(PortOf::Entry(id)))
}

/// Success without an entry.
const fn no_entry(size: u64) -> Reply {
    answer(size, None)
}

#[cfg(test)]
mod tests;
