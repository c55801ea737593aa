//! Memory that appears a second time: the calls of [`vm_share`](ipc_protocol::vm_share) and all of
//! mach_make_memory_entry, as methods of the right to a map.
//!
//! Units, rules and errors are with the messages.

use crate::right::{Passed, SendRight, Untyped};
use ipc_abi::Kern;
use ipc_abi::message::FOREVER;
use ipc_abi::types::Prot;
use ipc_protocol::memory_entry::{
    MachMemoryEntryOwnership, MemoryEntry, MemoryEntryDescribe, MemoryEntryDescribeReply,
};
use ipc_protocol::memory_object::MemoryObject;
use ipc_protocol::vm_map::{MachMakeMemoryEntry, MachMakeMemoryEntryReply, Map};
use ipc_protocol::vm_share::{
    MachMemoryObjectMemoryEntry, MachMemoryObjectMemoryEntryReply, MemoryObjectCreateProxy,
    MemoryObjectCreateProxyReply, VmMapReadPort, VmMapReadPortReply, VmMapSetJit,
    VmRegionCreateProxy, VmRegionCreateProxyReply, VmRemap, VmRemapNew, VmRemapNewReply,
    VmRemapReply,
};

impl SendRight<Map> {
    /// [`VmRemap`]: a range of `source` here, shared or copied.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT, KERN_INVALID_ADDRESS (a hole),
    /// KERN_PROTECTION_FAILURE, KERN_MEMORY_ERROR, then those of the place (R9-11, R28, R102, A9).
    #[doc(alias = "vm_remap")]
    pub fn remap(&self, request: &VmRemap, source: &SendRight<Map>) -> Result<VmRemapReply, Kern> {
        let (reply, _) = self.call_with(request, [source.copy()], FOREVER)?;
        Ok(reply)
    }

    /// [`VmRemapNew`]: the same with the protections that are asked for; the read-only port of the
    /// source will do for what only reads.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT, KERN_PROTECTION_FAILURE (write and execute),
    /// KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE (more than the source has), KERN_MEMORY_ERROR,
    /// then those of the place (C0160-C0166, C0377, A9).
    #[doc(alias = "vm_remap_new")]
    pub fn remap_new(
        &self,
        request: &VmRemapNew,
        source: &SendRight<Map>,
    ) -> Result<VmRemapNewReply, Kern> {
        let (reply, _) = self.call_with(request, [source.copy()], FOREVER)?;
        Ok(reply)
    }

    /// [`VmMapReadPort`]: the port through which the map can be asked and read, and no more (C0377).
    #[doc(alias = "task_read")]
    pub fn read_port(&self) -> Result<SendRight<Map>, Kern> {
        let (_, mut rights) = self.call_with(&VmMapReadPort {}, [], FOREVER)?;
        rights.take_send(VmMapReadPortReply::MAP)
    }

    /// [`VmMapSetJit`]: whether memory may be written and executed at the same time.
    ///
    /// KERN_INVALID_HOST (R117, A9).
    pub fn set_jit(&self, host: &SendRight<Untyped>, allowed: bool) -> Result<(), Kern> {
        self.call_with(&VmMapSetJit { allowed }, [host.copy()], FOREVER)
            .map(drop)
    }

    /// [`MachMakeMemoryEntry`]: the entry, if the call makes one, and its size.
    ///
    /// Errors, in order: KERN_INVALID_VALUE, KERN_INVALID_ARGUMENT, KERN_INVALID_RIGHT, KERN_FAILURE,
    /// KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE, KERN_MEMORY_ERROR; which when: at the message
    /// (R9-11, R81, R100-103).
    #[doc(alias = "mach_make_memory_entry")]
    pub fn make_memory_entry(
        &self,
        size: u64,
        offset: u64,
        permission: u32,
        parent: Option<&SendRight<MemoryEntry>>,
    ) -> Result<(Option<SendRight<MemoryEntry>>, u64), Kern> {
        let request = MachMakeMemoryEntry {
            size,
            offset,
            permission,
        };
        let parent = parent.map_or(Passed::NONE, SendRight::copy);
        let (reply, mut rights) = self.call_with(&request, [parent], FOREVER)?;
        let entry = rights.take_send(MachMakeMemoryEntryReply::ENTRY).ok();
        Ok((entry, reply.size))
    }

    /// [`MachMemoryObjectMemoryEntry`]: an entry of a pager's object, or of fresh memory.
    ///
    /// Errors, in order: KERN_INVALID_HOST, KERN_INVALID_ARGUMENT (C0093, C0094, C0441).
    #[doc(alias = "mach_memory_object_memory_entry")]
    pub fn memory_object_entry(
        &self,
        host: &SendRight<Untyped>,
        pager: Option<&SendRight<MemoryObject>>,
        size: u64,
        protection: Prot,
    ) -> Result<SendRight<MemoryEntry>, Kern> {
        let request = MachMemoryObjectMemoryEntry {
            internal: pager.is_none(),
            size,
            protection: protection.bits().into(),
        };
        let pager = pager.map_or(Passed::NONE, SendRight::copy);
        let (_, mut rights) = self.call_with(&request, [host.copy(), pager], FOREVER)?;
        rights.take_send(MachMemoryObjectMemoryEntryReply::ENTRY)
    }

    /// [`MemoryObjectCreateProxy`]: a handle to windows of memory objects, of which there must be
    /// one, from offset 0 on.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (the four lists are not of one element each; the
    /// window), KERN_INVALID_NAME (a dead name), KERN_INVALID_ARGUMENT (another kind; C0481, C0484).
    #[doc(alias = "memory_object_create_proxy")]
    pub fn create_proxy(
        &self,
        max_protection: Prot,
        objects: &[&SendRight<MemoryObject>],
        offsets: &[u64],
        starts: &[u64],
        lengths: &[u64],
    ) -> Result<SendRight<MemoryEntry>, Kern> {
        let ([object], [offset], [start], [length]) = (objects, offsets, starts, lengths) else {
            return Err(Kern::InvalidArgument);
        };
        let request = MemoryObjectCreateProxy {
            max_protection: max_protection.bits().into(),
            count: 1,
            offset: *offset,
            start: *start,
            length: *length,
        };
        let (_, mut rights) = self.call_with(&request, [object.copy()], FOREVER)?;
        rights.take_send(MemoryObjectCreateProxyReply::PROXY)
    }

    /// [`VmRegionCreateProxy`]: a handle to a part of a map entry, and where that part begins.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (protection), KERN_NO_SPACE, KERN_INVALID_ARGUMENT.
    #[doc(alias = "vm_region_create_proxy")]
    pub fn region_proxy(
        &self,
        address: u64,
        max_protection: Prot,
        length: u64,
    ) -> Result<(SendRight<MemoryEntry>, u64), Kern> {
        let request = VmRegionCreateProxy {
            address,
            max_protection: max_protection.bits().into(),
            length,
        };
        let (reply, mut rights) = self.call_with(&request, [], FOREVER)?;
        let proxy = rights.take_send(VmRegionCreateProxyReply::PROXY)?;
        Ok((proxy, reply.address))
    }
}

impl SendRight<MemoryEntry> {
    /// [`MemoryEntryDescribe`]: the window that the entry names.
    pub fn describe(&self) -> Result<MemoryEntryDescribeReply, Kern> {
        self.call(&MemoryEntryDescribe {})
    }

    /// [`MachMemoryEntryOwnership`]: checked, and without effect.
    ///
    /// KERN_INVALID_ARGUMENT: a tag or flag that is not defined.
    #[doc(alias = "mach_memory_entry_ownership")]
    pub fn set_owner(
        &self,
        owner: Option<&SendRight<Map>>,
        ledger_tag: u32,
        flags: u32,
    ) -> Result<(), Kern> {
        let request = MachMemoryEntryOwnership { ledger_tag, flags };
        let owner = owner.map_or(Passed::NONE, SendRight::copy);
        self.call_with(&request, [owner], FOREVER).map(drop)
    }
}
