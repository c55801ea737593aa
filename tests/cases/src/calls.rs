//! The calls on a task's map, in the order of the protocol; those that it tells in parts are in
//! [`crate::parts`]. Each makes one request ([`Task::ask`]).

use ipc_protocol::vm_map::{
    MachMakeMemoryEntry, VmAllocate, VmBehaviorSet, VmCopy, VmCopyin, VmCopyout, VmDeallocate,
    VmInherit, VmMap, VmMsync, VmProtect, VmReadOverwrite, VmRegion, VmWrite,
};

use crate::vm::{ANYWHERE, Mapping, Region, Said, Task, Vm};

impl<V: Vm> Task<'_, V> {
    /// `vm_allocate`.
    ///
    /// # Errors
    /// What it is answered, here and in all the calls below.
    pub fn allocate(&self, address: u64, size: u64, flags: u32) -> Said<u64> {
        let message = VmAllocate {
            address,
            size,
            flags,
        };
        self.plain(&message).map(|reply| reply.address)
    }

    /// `vm_deallocate`.
    ///
    /// # Errors
    /// As above.
    pub fn deallocate(&self, address: u64, size: u64) -> Said {
        self.plain(&VmDeallocate { address, size })
    }

    /// `vm_protect` of the current protection.
    ///
    /// # Errors
    /// As above.
    pub fn protect(&self, address: u64, size: u64, protection: u32) -> Said {
        self.set_protection(address, size, false, protection)
    }

    /// `vm_protect` of the maximum.
    ///
    /// # Errors
    /// As above.
    pub fn protect_maximum(&self, address: u64, size: u64, protection: u32) -> Said {
        self.set_protection(address, size, true, protection)
    }

    /// `vm_protect`.
    ///
    /// # Errors
    /// As above.
    pub fn set_protection(&self, address: u64, size: u64, maximum: bool, protection: u32) -> Said {
        self.plain(&VmProtect {
            address,
            size,
            set_maximum: maximum,
            protection,
        })
    }

    /// `vm_inherit`.
    ///
    /// # Errors
    /// As above.
    pub fn inherit(&self, address: u64, size: u64, inheritance: u32) -> Said {
        self.plain(&VmInherit {
            address,
            size,
            inheritance,
        })
    }

    /// `vm_behavior_set`.
    ///
    /// # Errors
    /// As above.
    pub fn behave(&self, address: u64, size: u64, behavior: u32) -> Said {
        self.plain(&VmBehaviorSet {
            address,
            size,
            behavior,
        })
    }

    /// `vm_msync`.
    ///
    /// # Errors
    /// As above.
    pub fn msync(&self, address: u64, size: u64, flags: u32) -> Said {
        self.plain(&VmMsync {
            address,
            size,
            flags,
        })
    }

    /// `vm_map` of a memory object, an entry, a copy, or anonymous memory.
    ///
    /// # Errors
    /// As above.
    pub fn map(&self, mapping: Mapping, object: Option<&V::Port>) -> Said<u64> {
        let message = VmMap {
            address: mapping.address,
            size: mapping.size,
            mask: mapping.mask,
            flags: mapping.flags,
            offset: mapping.offset,
            copy: mapping.copy,
            protection: mapping.cur,
            max_protection: mapping.max,
            inheritance: mapping.inherit,
        };
        self.ask(&message, &[object])
            .map(|(reply, _)| reply.address)
    }

    /// `vm_copy`.
    ///
    /// # Errors
    /// As above.
    pub fn copy(&self, source: u64, size: u64, destination: u64) -> Said {
        self.plain(&VmCopy {
            source,
            size,
            destination,
        })
    }

    /// `vm_copyin`: the first half of vm_read.
    ///
    /// # Errors
    /// As above.
    pub fn copy_in(&self, address: u64, size: u64, src_destroy: bool) -> Said<V::Port> {
        let message = VmCopyin {
            address,
            size,
            src_destroy,
        };
        self.made(&message, &[]).map(|(_, copy)| copy)
    }

    /// `vm_copyout`: the second half of vm_read.
    ///
    /// # Errors
    /// As above.
    pub fn copy_out(&self, copy: &V::Port, address: u64, flags: u32) -> Said<u64> {
        let message = VmCopyout { address, flags };
        let reply = self.ask(&message, &[Some(copy)])?;
        Ok(reply.0.address)
    }

    /// `vm_read` of this map into it.
    ///
    /// # Errors
    /// As above.
    pub fn read_out(&self, address: u64, size: u64) -> Said<u64> {
        let copy = self.copy_in(address, size, false)?;
        self.copy_out(&copy, 0, ANYWHERE)
    }

    /// `vm_write` of bytes of another map.
    ///
    /// # Errors
    /// As above.
    pub fn write_from(&self, address: u64, from: &Self, source: u64, size: u64) -> Said {
        let copy = from.copy_in(source, size, false)?;
        self.write_copy(address, size, &copy)
    }

    /// `vm_write` of a copy.
    ///
    /// # Errors
    /// As above.
    pub fn write_copy(&self, address: u64, size: u64, copy: &V::Port) -> Said {
        let message = VmWrite { address, size };
        self.ask(&message, &[Some(copy)]).map(|_| ())
    }

    /// `vm_read_overwrite` into another map.
    ///
    /// # Errors
    /// As above.
    pub fn read_overwrite(&self, address: u64, size: u64, to: &V::Port, data: u64) -> Said<u64> {
        let message = VmReadOverwrite {
            address,
            size,
            data,
        };
        let reply = self.ask(&message, &[Some(to)])?;
        Ok(reply.0.size)
    }

    /// `mach_make_memory_entry`; gives the entry and its size.
    ///
    /// # Errors
    /// As above.
    pub fn entry(
        &self,
        size: u64,
        offset: u64,
        permission: u32,
        parent: Option<&V::Port>,
    ) -> Said<(V::Port, u64)> {
        let message = MachMakeMemoryEntry {
            size,
            offset,
            permission,
        };
        let (reply, entry) = self.made(&message, &[parent])?;
        Ok((entry, reply.size))
    }

    /// `mach_make_memory_entry` where the answer may have no entry; gives both.
    ///
    /// # Errors
    /// As above.
    pub fn entry_or_none(
        &self,
        size: u64,
        offset: u64,
        permission: u32,
    ) -> Said<(Option<V::Port>, u64)> {
        let message = MachMakeMemoryEntry {
            size,
            offset,
            permission,
        };
        let (reply, mut rights) = self.ask(&message, &[None])?;
        Ok((rights.pop(), reply.size))
    }

    /// `vm_region`.
    ///
    /// # Errors
    /// As above.
    pub fn region(&self, address: u64) -> Said<Region> {
        let (region, _) = self.vm.call(&self.port, &VmRegion::basic(address), &[])?;
        Ok(Region {
            address: region.address,
            size: region.size,
            protection: region.protection,
            max_protection: region.max_protection,
            inheritance: region.inheritance,
            behavior: region.behavior,
            tag: region.user_tag,
            wired: region.user_wired_count,
            shared: region.shared,
            depth: region.shadow_depth,
        })
    }
}
