//! The calls on an address map, as methods of the right to it; and this task's own map.
//!
//! [`own`] is the map that this task runs in. The calls are safe functions although some can take
//! memory away that Rust code relies on: the map port is a right like any other, whoever holds it
//! can send these messages, and no type of this task can see that. Code that wants Rust's
//! guarantees uses [`crate::mapping::Mapping`], which owns its range, and calls of this module for
//! other maps, or for ranges that no reference points into.
//!
//! What each call does, its units and its errors: see the message that it names.

use crate::right::{Passed, SendRight, Untyped};
use crate::trap;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use ipc_abi::Kern;
use ipc_abi::message::FOREVER;
use ipc_abi::right::{Name, SpecialPort};
use ipc_abi::types::{Behavior, Inherit, MapFlags, Prot};
use ipc_protocol::copy::CopyObject;
use ipc_protocol::memory_entry::MemoryEntry;
use ipc_protocol::vm_map::{
    DeviceMap, DeviceMemoryAllocate, MachMakeMemoryEntry, MachMakeMemoryEntryReply, Map,
    PagerTrayCreate, PagerTrayCreateReply, TaskCreate, TaskCreateReply, VmAllocate, VmBehaviorSet,
    VmCopy, VmCopyin, VmCopyinReply, VmCopyout, VmDeallocate, VmInherit, VmMap, VmMsync, VmProtect,
    VmReadOverwrite, VmRegion, VmRegionReply, VmStatistics, VmStatisticsReply, VmWrite,
};

/// The tray of a pager: what its right is to. The VM server speaks no protocol on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tray {}

/// A tray as it was made.
#[derive(Debug)]
pub struct NewTray {
    /// The right to it.
    pub tray: SendRight<Tray>,
    /// Address of slot 0; the slots follow one another, a page each.
    pub address: u64,
    /// Slots.
    pub slots: u32,
}

/// A task as it was made: without threads.
#[derive(Debug)]
pub struct NewTask {
    /// Its control port.
    pub task: SendRight<Untyped>,
    /// Its map port.
    pub map: SendRight<Map>,
}

/// The right to this task's own map. It is not given back when dropped.
#[derive(Debug)]
pub struct OwnMap(ManuallyDrop<SendRight<Map>>);

impl Deref for OwnMap {
    type Target = SendRight<Map>;

    #[inline]
    fn deref(&self) -> &SendRight<Map> {
        &self.0
    }
}

static OWN: AtomicU32 = AtomicU32::new(0);

/// This task's own map.
///
/// A task without one, which only the VM server is, gets a right that every call fails on with
/// MACH_SEND_INVALID_DEST.
#[inline]
#[must_use]
pub fn own() -> OwnMap {
    OwnMap(ManuallyDrop::new(SendRight::from_name(own_name())))
}

/// The name of this task's own map, asked for once.
#[inline]
pub(crate) fn own_name() -> Name {
    match OWN.load(Ordering::Relaxed) {
        0 => {
            let name = trap::task_get_special_port(SpecialPort::Map).unwrap_or(0);
            OWN.store(name, Ordering::Relaxed);
            name
        }
        name => name,
    }
}

impl SendRight<Map> {
    /// [`VmAllocate`]: where the server likes.
    #[doc(alias = "vm_allocate")]
    pub fn allocate(&self, size: u64) -> Result<u64, Kern> {
        self.allocate_at(0, size, MapFlags::ANYWHERE)
    }

    /// [`VmAllocate`]: with flags, at a fixed address if they do not say ANYWHERE.
    #[doc(alias = "vm_allocate")]
    pub fn allocate_at(&self, address: u64, size: u64, flags: MapFlags) -> Result<u64, Kern> {
        let flags = flags.bits();
        let reply = self.call(&VmAllocate {
            address,
            size,
            flags,
        })?;
        Ok(reply.address)
    }

    /// [`VmDeallocate`].
    #[doc(alias = "vm_deallocate")]
    pub fn deallocate(&self, address: u64, size: u64) -> Result<(), Kern> {
        self.call(&VmDeallocate { address, size })
    }

    /// [`VmProtect`] of the current protection.
    #[doc(alias = "vm_protect")]
    pub fn protect(&self, address: u64, size: u64, protection: Prot) -> Result<(), Kern> {
        self.call(&VmProtect {
            address,
            size,
            set_maximum: false,
            protection: protection.bits().into(),
        })
    }

    /// [`VmProtect`] of the maximum.
    #[doc(alias = "vm_protect")]
    pub fn protect_maximum(&self, address: u64, size: u64, maximum: Prot) -> Result<(), Kern> {
        self.call(&VmProtect {
            address,
            size,
            set_maximum: true,
            protection: maximum.bits().into(),
        })
    }

    /// [`VmInherit`].
    #[doc(alias = "vm_inherit")]
    pub fn inherit(&self, address: u64, size: u64, inheritance: Inherit) -> Result<(), Kern> {
        self.call(&VmInherit {
            address,
            size,
            inheritance: inheritance as u32,
        })
    }

    /// [`VmMap`]: [`crate::mapping::Options`] words it.
    #[doc(alias = "vm_map")]
    pub fn map(&self, request: &VmMap, object: Passed<'_>) -> Result<u64, Kern> {
        let (reply, _) = self.call_with(request, [object], FOREVER)?;
        Ok(reply.address)
    }

    /// [`VmCopy`].
    #[doc(alias = "vm_copy")]
    pub fn copy_range(&self, source: u64, size: u64, destination: u64) -> Result<(), Kern> {
        self.call(&VmCopy {
            source,
            size,
            destination,
        })
    }

    /// [`VmRegion`].
    #[doc(alias = "vm_region")]
    pub fn region(&self, address: u64) -> Result<VmRegionReply, Kern> {
        self.call(&VmRegion::basic(address))
    }

    /// [`VmCopyin`].
    #[doc(alias = "vm_copyin")]
    #[doc(alias = "vm_read")]
    pub fn copy_in(
        &self,
        address: u64,
        size: u64,
        src_destroy: bool,
    ) -> Result<SendRight<CopyObject>, Kern> {
        let request = VmCopyin {
            address,
            size,
            src_destroy,
        };
        let (_, mut rights) = self.call_with(&request, [], FOREVER)?;
        rights.take_send(VmCopyinReply::COPY)
    }

    /// [`VmCopyout`]: at `address`, or where the server likes.
    #[doc(alias = "vm_copyout")]
    pub fn copy_out(
        &self,
        copy: &SendRight<CopyObject>,
        address: Option<u64>,
    ) -> Result<u64, Kern> {
        let request = VmCopyout {
            address: address.unwrap_or(0),
            flags: address
                .map_or(MapFlags::ANYWHERE, |_| MapFlags::empty())
                .bits(),
        };
        let (reply, _) = self.call_with(&request, [copy.copy()], FOREVER)?;
        Ok(reply.address)
    }

    /// [`VmCopyout`] where the server likes, of a copy whose right goes along: there is no dead name to
    /// give back, and if the copy cannot be mapped it is discarded.
    pub fn take_copy(&self, copy: SendRight<CopyObject>) -> Result<u64, Kern> {
        let request = VmCopyout {
            address: 0,
            flags: MapFlags::ANYWHERE.bits(),
        };
        let (reply, _) = self.call_with(&request, [copy.give()], FOREVER)?;
        Ok(reply.address)
    }

    /// [`MachMakeMemoryEntry`] with protection and flags in one word, as there. Gives the entry and
    /// its size.
    #[doc(alias = "mach_make_memory_entry")]
    pub fn memory_entry(
        &self,
        size: u64,
        offset: u64,
        permission: u32,
        parent: Option<&SendRight<MemoryEntry>>,
    ) -> Result<(SendRight<MemoryEntry>, u64), Kern> {
        let request = MachMakeMemoryEntry {
            size,
            offset,
            permission,
        };
        let parent = parent.map_or(Passed::NONE, SendRight::copy);
        let (reply, mut rights) = self.call_with(&request, [parent], FOREVER)?;
        let entry = rights.take_send(MachMakeMemoryEntryReply::ENTRY)?;
        Ok((entry, reply.size))
    }

    /// [`TaskCreate`].
    #[doc(alias = "task_create")]
    pub fn create_task(&self, inherit: bool) -> Result<NewTask, Kern> {
        let (_, mut rights) = self.call_with(&TaskCreate { inherit }, [], FOREVER)?;
        Ok(NewTask {
            task: rights.take_send(TaskCreateReply::TASK)?,
            map: rights.take_send(TaskCreateReply::MAP)?,
        })
    }

    /// [`PagerTrayCreate`].
    #[doc(alias = "pager_tray_create")]
    pub fn create_tray(&self, slots: u32) -> Result<NewTray, Kern> {
        let (reply, mut rights) = self.call_with(&PagerTrayCreate { slots }, [], FOREVER)?;
        Ok(NewTray {
            tray: rights.take_send(PagerTrayCreateReply::TRAY)?,
            address: reply.address,
            slots: reply.slots,
        })
    }

    /// [`VmReadOverwrite`]: to the map `into`.
    #[doc(alias = "vm_read_overwrite")]
    pub fn read_overwrite(
        &self,
        address: u64,
        size: u64,
        into: &SendRight<Map>,
        data: u64,
    ) -> Result<u64, Kern> {
        let request = VmReadOverwrite {
            address,
            size,
            data,
        };
        let (reply, _) = self.call_with(&request, [into.copy()], FOREVER)?;
        Ok(reply.size)
    }

    /// [`VmWrite`].
    #[doc(alias = "vm_write")]
    pub fn write(&self, address: u64, size: u64, copy: &SendRight<CopyObject>) -> Result<(), Kern> {
        let request = VmWrite { address, size };
        self.call_with(&request, [copy.copy()], FOREVER).map(drop)
    }

    /// Copies bytes of this task to `address` of the map, by way of a copy object.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<(), Kern> {
        let size = bytes.len() as u64;
        let copy = own().copy_in(bytes.as_ptr() as u64, size, false)?;
        self.write(address, size, &copy)
    }

    /// [`VmStatistics`].
    #[doc(alias = "vm_statistics")]
    pub fn statistics(&self) -> Result<VmStatisticsReply, Kern> {
        self.call(&VmStatistics {})
    }

    /// [`DeviceMap`].
    pub fn device_map(
        &self,
        device: &SendRight<Untyped>,
        physical: u64,
        size: u64,
    ) -> Result<u64, Kern> {
        let request = DeviceMap { physical, size };
        let (reply, _) = self.call_with(&request, [device.copy()], FOREVER)?;
        Ok(reply.address)
    }

    /// [`DeviceMemoryAllocate`]: gives address and physical address.
    pub fn device_memory_allocate(
        &self,
        device: &SendRight<Untyped>,
        size: u64,
    ) -> Result<(u64, u64), Kern> {
        let request = DeviceMemoryAllocate { size };
        let (reply, _) = self.call_with(&request, [device.copy()], FOREVER)?;
        Ok((reply.address, reply.physical))
    }

    /// [`VmBehaviorSet`].
    #[doc(alias = "vm_behavior_set")]
    pub fn set_behavior(&self, address: u64, size: u64, behavior: Behavior) -> Result<(), Kern> {
        self.call(&VmBehaviorSet {
            address,
            size,
            behavior: behavior as u32,
        })
    }

    /// [`VmMsync`].
    #[doc(alias = "vm_msync")]
    pub fn msync(&self, address: u64, size: u64, flags: u32) -> Result<(), Kern> {
        self.call(&VmMsync {
            address,
            size,
            flags,
        })
    }
}
