//! Client to VM server, on the map port of a task: everything that changes or asks an address map.
//!
//! Holding a send right to a map port is the authority over that address space; no message means
//! "the sender's map". Addresses and sizes are in bytes and are rounded outwards to pages of 4096
//! bytes where memory is made, removed or given attributes; copies work to the byte. "Range" below
//! means: `address + size` overflows, or rounding up does. Rule numbers (R) are those of the
//! project's collection of Mach semantics, with its amendments (A).
//!
//! Any call may also answer KERN_RESOURCE_SHORTAGE (memory, or a limit of the caller's account, is
//! used up; nothing has changed), and KERN_TERMINATED when the map's task ends meanwhile.

use ipc_abi::types::{Inherit, MapFlags, Prot};

use crate::define::protocol;

/// Permission bit of [`MachMakeMemoryEntry`]: leave out what the range or the parent does not give.
pub const VM_PROT_IS_MASK: u32 = 0x40;
/// Permission flag of [`MachMakeMemoryEntry`]: accounting of a new object; accepted.
pub const MAP_MEM_LEDGER_TAGGED: u32 = 0x0000_2000;
/// Permission flag of [`MachMakeMemoryEntry`]: who maps purgeable memory may not change its state.
pub const MAP_MEM_PURGABLE_KERNEL_ONLY: u32 = 0x0000_4000;
/// Permission flag of [`MachMakeMemoryEntry`]: where frames come from; accepted.
pub const MAP_MEM_GRAB_SECLUDED: u32 = 0x0000_8000;
/// Permission flag of [`MachMakeMemoryEntry`]: no entry, but another cache mode for the parent.
pub const MAP_MEM_ONLY: u32 = 0x0001_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: fresh anonymous memory, not a part of the map.
pub const MAP_MEM_NAMED_CREATE: u32 = 0x0002_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: fresh memory that may be given up.
pub const MAP_MEM_PURGABLE: u32 = 0x0004_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: the parent, if it describes just this range.
pub const MAP_MEM_NAMED_REUSE: u32 = 0x0008_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: the entry begins at the byte, not at its page.
pub const MAP_MEM_USE_DATA_ADDR: u32 = 0x0010_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: a snapshot of the range.
pub const MAP_MEM_VM_COPY: u32 = 0x0020_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: share the range, which may span map entries.
pub const MAP_MEM_VM_SHARE: u32 = 0x0040_0000;
/// Permission flag of [`MachMakeMemoryEntry`]: as [`MAP_MEM_USE_DATA_ADDR`], for pages are of 4 KiB.
pub const MAP_MEM_4K_DATA_ADDR: u32 = 0x0080_0000;
/// Cache mode of a permission word, in bits 24 to 32: uncached, for devices. Others are 0 to 9.
pub const MAP_MEM_IO: u32 = 2 << 24;
/// Cache mode of a permission word: write combining.
pub const MAP_MEM_WCOMB: u32 = 4 << 24;

/// Flag of [`VmMsync`]: start the return of dirty and precious pages, and do not wait.
pub const VM_SYNC_ASYNCHRONOUS: u32 = 0x01;
/// Flag of [`VmMsync`]: return dirty and precious pages, and answer when the pager has them.
pub const VM_SYNC_SYNCHRONOUS: u32 = 0x02;
/// Flag of [`VmMsync`]: drop the pages afterwards; alone, only precious pages are returned.
pub const VM_SYNC_INVALIDATE: u32 = 0x04;
/// Flag of [`VmMsync`]: give up what anonymous memory holds, as `VM_BEHAVIOR_FREE` does.
pub const VM_SYNC_KILLPAGES: u32 = 0x08;
/// Flag of [`VmMsync`]: the pages will not be needed soon.
pub const VM_SYNC_DEACTIVATE: u32 = 0x10;
/// Flag of [`VmMsync`]: a hole in the range is an error.
pub const VM_SYNC_CONTIGUOUS: u32 = 0x20;

/// Bit of a protection of [`VmProtect`]: make the range the map's own first.
pub const VM_PROT_COPY: u32 = 0x10;

/// Flavor of [`VmRegion`]: what the entry says.
pub const VM_REGION_BASIC_INFO_64: u32 = 9;
/// Flavor of [`VmRegion`]: the same.
pub const VM_REGION_BASIC_INFO: u32 = 10;
/// Flavor of [`VmRegion`]: what is resident of its object, and who shares it.
pub const VM_REGION_TOP_INFO: u32 = 12;
/// Flavor of [`VmRegion`]: all that there is to say.
pub const VM_REGION_EXTENDED_INFO: u32 = 13;
/// Words of [`VM_REGION_BASIC_INFO_64`].
pub const VM_REGION_BASIC_INFO_COUNT_64: u32 = 9;
/// Words of [`VM_REGION_BASIC_INFO`].
pub const VM_REGION_BASIC_INFO_COUNT: u32 = 8;
/// Words of [`VM_REGION_TOP_INFO`].
pub const VM_REGION_TOP_INFO_COUNT: u32 = 5;
/// Words of [`VM_REGION_EXTENDED_INFO`].
pub const VM_REGION_EXTENDED_INFO_COUNT: u32 = 9;

/// Share mode: what is written is copied first.
pub const SM_COW: u32 = 1;
/// Share mode: nobody else has it.
pub const SM_PRIVATE: u32 = 2;
/// Share mode: there is nothing yet.
pub const SM_EMPTY: u32 = 3;
/// Share mode: several entries have it.
pub const SM_SHARED: u32 = 4;
/// Share mode: several tasks may write it, on purpose.
pub const SM_TRUESHARED: u32 = 5;
/// Share mode: several entries have it, all of this map.
pub const SM_PRIVATE_ALIASED: u32 = 6;
/// Share mode: on purpose, but all of this map.
pub const SM_SHARED_ALIASED: u32 = 7;

impl VmRegion {
    /// What the entry says, of which there is always room for the answer.
    #[must_use]
    pub const fn basic(address: u64) -> VmRegion {
        VmRegion {
            address,
            flavor: VM_REGION_BASIC_INFO_64,
            count: VM_REGION_BASIC_INFO_COUNT_64,
        }
    }

    /// All that there is to say, pages counted.
    #[must_use]
    pub const fn extended(address: u64) -> VmRegion {
        VmRegion {
            address,
            flavor: VM_REGION_EXTENDED_INFO,
            count: VM_REGION_EXTENDED_INFO_COUNT,
        }
    }
}

impl VmMap {
    /// So many bytes anywhere, read and write, of which children get copies.
    #[must_use]
    pub const fn anywhere(size: u64) -> VmMap {
        VmMap {
            address: 0,
            size,
            mask: 0,
            flags: MapFlags::ANYWHERE.bits(),
            offset: 0,
            copy: false,
            protection: Prot::DEFAULT.bits() as u32,
            max_protection: Prot::ALL.bits() as u32,
            inheritance: Inherit::Copy as u32,
        }
    }
}

protocol! {
    /// Client to VM server: the calls on an address map, and what is made from one.
    #[derive(Clone, Copy)]
    protocol Map "vm_map" at 3800, "client" to "VM server, on the map port of a task", parts {
        /// Memory that stays resident.
        Wire: vm_wire,
        /// Memory that appears a second time.
        Share: vm_share,
        /// What is mapped and what is resident.
        Inspect: vm_inspect,
        /// How memory is used.
        Advice: vm_advice,
        /// Maps that other maps show, and ranges set aside.
        Range: vm_range,
    };

    /// Reserves memory that reads zero: read and write allowed, maximum all, inheritance copy.
    ///
    /// Size 0 succeeds, gives address 0 and reserves nothing. In order:
    /// KERN_INVALID_ARGUMENT: a flag that is not one of the call's; `size` rounds up past the end.
    /// KERN_INVALID_ADDRESS: the fixed range overflows or does not lie inside the map.
    /// KERN_NO_SPACE: the fixed range is taken and OVERWRITE is not given; no hole is large enough.
    /// KERN_RESOURCE_SHORTAGE.
    /// Source: R82-85, R87-92, R104.
    3801 vm_allocate VmAllocate in words {
        /// Where to, truncated to a page; ignored with ANYWHERE.
        address: u64,
        /// Bytes, rounded up to pages.
        size: u64,
        /// `MapFlags::USER_ALLOCATE`.
        flags: u32,
    }
    reply VmAllocateReply {
        /// First address.
        address: u64,
    };

    /// Removes whatever is mapped in the range. Holes are passed over; the part of the range
    /// outside the map is ignored; user wirings are dropped. Permanent entries stay, without rights.
    ///
    /// Size 0 succeeds. In order: KERN_INVALID_ARGUMENT: range. KERN_PROTECTION_FAILURE: the slots of a
    /// tray; permanent pages of a map that is shown.
    /// Source: R142, R146-149.
    3802 vm_deallocate VmDeallocate in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
    };

    /// Sets the protection of the range, or its maximum: all of it or nothing. Taken rights are
    /// gone when the answer comes; new rights appear at the next fault.
    ///
    /// With [`VM_PROT_COPY`] the range first becomes the map's own: it shows what it showed, but
    /// nobody else sees what is written from then on, and the maximum is raised by `protection`.
    /// Wirings of what was shared end. Of an entry that shows another map only the rights here
    /// change; copied, it becomes entries of this map.
    ///
    /// Size 0 succeeds before any check. In order:
    /// KERN_INVALID_ARGUMENT: a bit outside read, write, execute and copy; range.
    /// KERN_INVALID_ADDRESS: a hole in the range, or it lies outside the map.
    /// KERN_PROTECTION_FAILURE: both write and execute, and this map must not (`vm_map_set_jit`); more
    /// than the maximum of an entry; to copy: memory that can never be read.
    /// To copy, then: KERN_PROTECTION_FAILURE: permanent pages of a map that is shown; they become
    /// this map's entries, and no more changes. KERN_NO_SPACE: permanent entries; they lose all
    /// rights, and no more changes. KERN_PROTECTION_FAILURE: device registers. KERN_MEMORY_ERROR: a
    /// pager failed. After these two a prefix is the map's own, with its old protection.
    /// Source: R110-116, R117, R119, A9, C0145-0148, C0224, C0230.
    3803 vm_protect VmProtect in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// Lower the maximum to `protection` (and the current protection with it).
        set_maximum: bool,
        /// `Prot` bits, and [`VM_PROT_COPY`].
        protection: u32,
    };

    /// Sets what a child task gets of the range. Holes are passed over, the range is clamped to the
    /// map.
    ///
    /// In order: KERN_INVALID_ARGUMENT: not share 0, copy 1 or none 2. Size 0 succeeds.
    /// KERN_INVALID_ARGUMENT: range.
    /// Source: R118, R127.
    3804 vm_inherit VmInherit in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// `Inherit` number.
        inheritance: u32,
    };

    /// Maps a memory object, a named entry, a copy object, or (empty slot) anonymous memory.
    ///
    /// A copy object is mapped whole or in part and is not used up: who maps it with `copy` false
    /// shares one snapshot with its other mappers. An entry that is a copy or a share keeps the tags
    /// of its pieces, unless one is given. With RETURN_DATA_ADDR `offset` counts from the entry's first
    /// byte, and every page that the window touches is mapped. In order:
    /// KERN_INVALID_ARGUMENT: a flag that is not one of the call's; size 0, or rounding up past the
    /// end; a protection bit outside read, write, execute; `protection` not within `max_protection`;
    /// `inheritance` not 0 to 2; PURGABLE with an object, or with more than 0xFFFFFFFF pages; the
    /// object is a dead name, or a port of another kind; `offset` not a
    /// multiple of the page (an entry that is a copy or a share, and RETURN_DATA_ADDR, take any);
    /// `offset + size` overflows; a fixed range that overflows; the window leaves the named entry or
    /// the copy; for an entry that is a copy or a share: a flag other than ANYWHERE, OVERWRITE,
    /// RETURN_DATA_ADDR, PRIVATE and the tag.
    /// KERN_INVALID_RIGHT: more protection than the named entry allows; [`VM_PROT_IS_MASK`] in a
    /// protection leaves out what it does not allow.
    /// KERN_PROTECTION_FAILURE: read is missing where `copy` needs it; `protection` is both write and
    /// execute, and this map must not (`vm_map_set_jit`).
    /// KERN_NO_SPACE: a fixed address that violates `mask`.
    /// KERN_INVALID_ADDRESS: the fixed range does not lie inside the map.
    /// KERN_NO_SPACE: the fixed range is taken and OVERWRITE is not given; no hole fits from the
    /// hint upwards.
    /// KERN_RESOURCE_SHORTAGE.
    /// Source: R82-104, A6.
    3805 vm_map VmMap in body {
        /// Where to, truncated to a page; with ANYWHERE where the search starts.
        address: u64,
        /// Bytes, rounded up to pages.
        size: u64,
        /// Bits that must be zero in the address chosen; 0 for any page.
        mask: u64,
        /// `MapFlags::USER_MAP`.
        flags: u32,
        /// Offset in the object, in bytes.
        offset: u64,
        /// Map a private copy of what the object holds now.
        copy: bool,
        /// `Prot` bits.
        protection: u32,
        /// `Prot` bits that `vm_protect` may ever give.
        max_protection: u32,
        /// `Inherit` number.
        inheritance: u32,
    }
    rights {
        /// A send right to a memory object, a named entry or a copy object; empty: anonymous memory.
        OBJECT,
    }
    reply VmMapReply {
        /// First address; with RETURN_DATA_ADDR that of the byte at `offset`.
        address: u64,
    };

    /// Copies a range over another range of the same map, as if all was read before any is
    /// written. The destination keeps its attributes. Whole pages are copied on write.
    ///
    /// Size 0 succeeds, even where nothing is mapped. In order:
    /// KERN_INVALID_ADDRESS: range of the source; a hole in it.
    /// KERN_PROTECTION_FAILURE: the source cannot be read.
    /// KERN_INVALID_ADDRESS: range of the destination; a hole in it. KERN_PROTECTION_FAILURE: it
    /// cannot be written. (The first failing entry from low to high decides.)
    /// KERN_MEMORY_ERROR: a pager failed. KERN_RESOURCE_SHORTAGE. After these two a prefix of the
    /// destination may have been written.
    /// Source: R50-55, R63-75.
    3806 vm_copy VmCopy in words {
        /// First address to read.
        source: u64,
        /// Bytes.
        size: u64,
        /// First address to write.
        destination: u64,
    };

    /// Describes the map entry that holds `address`, or the next higher one. An entry that shows
    /// another map is one region, whatever that holds.
    ///
    /// What a flavor does not tell is 0; the flavors that count pages take a step for every 64 of
    /// them. The name of the object (Mach's object_name) is never given: `object_id` tells objects
    /// apart and gives no right. In order:
    /// KERN_INVALID_ARGUMENT: an unknown flavor, or `count` less than its words.
    /// KERN_INVALID_ADDRESS: nothing is mapped at or above the address.
    /// Source: R194-196, C0402, C0404.
    3807 vm_region VmRegion in body {
        /// Where to look.
        address: u64,
        /// [`VM_REGION_BASIC_INFO_64`] and its neighbours.
        flavor: u32,
        /// Words of 32 bits that there is room for, as Mach's structures have them.
        count: u32,
    }
    reply VmRegionReply {
        /// First address of the entry.
        address: u64,
        /// Bytes.
        size: u64,
        /// Current protection, `Prot` bits.
        protection: u32,
        /// Maximum protection, `Prot` bits.
        max_protection: u32,
        /// `Inherit` number.
        inheritance: u32,
        /// `Behavior` number.
        behavior: u32,
        /// Offset of the entry in its object, or in the map that it shows, in bytes.
        offset: u64,
        /// The object may be mapped by others too.
        shared: bool,
        /// It shows another map.
        is_submap: bool,
        /// The object is served by a pager.
        external_pager: bool,
        /// A write will first make a private object.
        needs_copy: bool,
        /// Objects below the entry's own in its shadow chain.
        shadow_depth: u32,
        /// The tag that the mapping was made with, 0 to 255.
        user_tag: u32,
        /// User wirings of the entry.
        user_wired_count: u32,
        /// References to the object.
        ref_count: u32,
        /// [`SM_COW`] and its neighbours.
        share_mode: u32,
        /// Tells objects apart; 0: there is none yet.
        object_id: u64,
        /// EXTENDED and TOP: pages of the entry that its own object has in memory.
        pages_resident: u64,
        /// EXTENDED and TOP: those of them that were written.
        pages_dirtied: u64,
        /// EXTENDED: pages that the object has over another one.
        pages_shared_now_private: u64,
    };

    /// Makes a copy object of a range: a snapshot, copied on write, named by the right that comes
    /// back. Dropping its last right discards it.
    ///
    /// Size 0 succeeds and gives an empty copy. In order:
    /// KERN_INVALID_ADDRESS: range; a hole in it.
    /// KERN_PROTECTION_FAILURE: a part cannot be read.
    /// KERN_MEMORY_ERROR: a pager failed while pages were copied.
    /// KERN_RESOURCE_SHORTAGE.
    /// On failure the source stays, `src_destroy` or not. Source: R50-58, R31, R24.
    3808 vm_copyin VmCopyin in words {
        /// First address, to the byte.
        address: u64,
        /// Bytes.
        size: u64,
        /// Remove the range from the map once the copy is made.
        src_destroy: bool,
    }
    reply VmCopyinReply {}
    reply rights {
        /// A send right to the copy.
        COPY,
    };

    /// Maps the whole of a copy object into free memory and uses it up: read and write allowed,
    /// maximum all, inheritance copy. The first byte keeps its place within its page.
    ///
    /// An empty copy gives address 0. In order:
    /// KERN_INVALID_ARGUMENT: a flag other than ANYWHERE and the tag; no right to a copy; with a
    /// fixed address: its place within the page is not that of the copy's first byte.
    /// KERN_INVALID_ADDRESS: the fixed range does not lie inside the map.
    /// KERN_NO_SPACE: the fixed range is taken; no hole is large enough.
    /// On failure the copy is as it was, unless the map wires what is mapped and that fails: then it is used
    /// up, and nothing is mapped (A8). Source: R50, R59, R60, R76.
    3809 vm_copyout VmCopyout in words {
        /// Where to; ignored with ANYWHERE.
        address: u64,
        /// `MapFlags`: ANYWHERE and the user tag.
        flags: u32,
    }
    rights {
        /// A send right to the copy.
        COPY,
    }
    reply VmCopyoutReply {
        /// Address of the first byte.
        address: u64,
    };

    /// Makes a named entry: a handle to a window of memory that can be mapped in any map.
    ///
    /// Without flags and parent: shares the one object that backs the range, whose first map entry
    /// cuts the size. With a parent and no flags: a window of that entry. With
    /// [`MAP_MEM_NAMED_REUSE`], [`MAP_MEM_VM_COPY`] or [`MAP_MEM_VM_SHARE`] the range is one of the
    /// map. With [`MAP_MEM_NAMED_CREATE`] and size 0, and with [`MAP_MEM_ONLY`], no entry comes back:
    /// the slot is empty. Protection bits that mean nothing are left out. In order:
    /// KERN_INVALID_VALUE: a flag or a cache mode that is not defined.
    /// KERN_INVALID_ARGUMENT: ONLY without a parent, or one that is a copy or a share, or with
    /// USE_DATA_ADDR. KERN_INVALID_RIGHT: ONLY, another mode, and the parent is not writable.
    /// KERN_INVALID_ARGUMENT: NAMED_CREATE with USE_DATA_ADDR; PURGABLE without write; `size` rounds
    /// up past the end. KERN_FAILURE: NAMED_CREATE of more than 0xFFFFFFFF pages.
    /// KERN_INVALID_ARGUMENT: size 0; range; the parent is no named entry, or is a copy or a share;
    /// the window leaves it.
    /// KERN_INVALID_ADDRESS: nothing is mapped there, or not all of it.
    /// KERN_PROTECTION_FAILURE: more protection than the range or the parent has; with
    /// [`VM_PROT_IS_MASK`] nothing is left of it; a snapshot of what cannot be read.
    /// KERN_MEMORY_ERROR: a pager failed while pages were copied.
    /// Source: R9-11, R81, R100-103.
    3810 mach_make_memory_entry MachMakeMemoryEntry in words {
        /// Bytes.
        size: u64,
        /// Address in the map, or offset in the parent.
        offset: u64,
        /// `Prot` bits and [`VM_PROT_IS_MASK`] in the low byte, MAP_MEM flags above, the cache mode
        /// in the highest byte.
        permission: u32,
    }
    rights {
        /// A send right to the named entry to cut a window from, or empty.
        PARENT,
    }
    reply MachMakeMemoryEntryReply {
        /// Bytes that the entry covers: pages, or, with USE_DATA_ADDR, up to the last byte from the
        /// start of the first page on.
        size: u64,
    }
    reply rights {
        /// A send right to the entry, or empty.
        ENTRY,
    };

    /// Makes a task without threads. With `inherit` its map holds what this map's inheritance
    /// attributes say; without, it is empty.
    ///
    /// KERN_RESOURCE_SHORTAGE: and this map is unchanged. KERN_MEMORY_ERROR: a pager failed while
    /// pages were copied.
    /// Source: R120-130.
    3811 task_create TaskCreate in words {
        /// Inherit from this map.
        inherit: bool,
    }
    reply TaskCreateReply {}
    reply rights {
        /// A send right to the task's control port.
        TASK,
        /// A send right to the task's map port.
        MAP,
    };

    /// Makes a tray: the slots of one page each through which a pager and the server pass pages.
    /// It is mapped here, read and write allowed, and only goes as a whole, with its last right.
    ///
    /// KERN_INVALID_ARGUMENT: no slots, or more than 1024. KERN_NO_SPACE. KERN_RESOURCE_SHORTAGE.
    3812 pager_tray_create PagerTrayCreate in words {
        /// Slots asked for.
        slots: u32,
    }
    reply PagerTrayCreateReply {
        /// Address of slot 0; slot `n` is `n` pages above.
        address: u64,
        /// Slots made.
        slots: u32,
    }
    reply rights {
        /// A send right to the tray.
        TRAY,
    };

    /// Copies a range of this map over a range of the map in the slot.
    ///
    /// Size 0 succeeds. KERN_INVALID_ARGUMENT: no map in the slot. Then as [`VmCopy`].
    /// Source: R63-75, A12.
    3813 vm_read_overwrite VmReadOverwrite in words {
        /// First address to read, in this map.
        address: u64,
        /// Bytes.
        size: u64,
        /// First address to write, in the other map.
        data: u64,
    }
    rights {
        /// A send right to the map port that is written to.
        DATA_MAP,
    }
    reply VmReadOverwriteReply {
        /// Bytes copied: all of them.
        size: u64,
    };

    /// Copies the bytes of a copy object over a range of this map. The copy is not used up.
    ///
    /// Size 0 succeeds. In order: KERN_INVALID_ARGUMENT: no right to a copy, or `size` is more
    /// than it holds. Then the destination's as [`VmCopy`].
    /// Source: R63-76, A12.
    3814 vm_write VmWrite in words {
        /// First address to write.
        address: u64,
        /// Bytes, from the copy's first on.
        size: u64,
    }
    rights {
        /// A send right to the copy.
        COPY,
    };

    /// The server's counters, since it started, over all maps.
    3815 vm_statistics VmStatistics in body {}
    reply VmStatisticsReply {
        /// Faults answered, with success or not.
        faults: u64,
        /// Faults that found their page resident.
        resident_hits: u64,
        /// Pages filled with zeros for a fault.
        zero_fills: u64,
        /// Pages copied because they were written (copy on write).
        cow_breaks: u64,
        /// Pages pushed to a copy object before their source was written.
        copy_pushes: u64,
        /// Data requests sent to pagers.
        data_requests: u64,
        /// Pages that pagers supplied.
        page_ins: u64,
        /// Pages returned to pagers.
        page_outs: u64,
        /// Pages of memory whose bytes were copied for vm_copy, vm_write and the like.
        pages_copied: u64,
        /// Faults answered with a code.
        failures: u64,
        /// Shadow objects absorbed or bypassed.
        collapses: u64,
        /// Frames that the server has in all.
        frames: u64,
        /// Frames of those that hold nothing.
        frames_free: u64,
        /// Address maps.
        maps: u64,
        /// Map entries.
        entries: u64,
        /// Memory objects, internal ones included.
        objects: u64,
        /// Copy objects.
        copies: u64,
        /// Faults and calls that wait for a pager or for memory now.
        waiters: u64,
    };

    /// Maps device registers: uncached, read and write allowed, inheritance none.
    ///
    /// In order: KERN_INVALID_HOST: no device port in the slot. KERN_INVALID_ARGUMENT: size 0,
    /// `physical` not on a page, or the range overflows. KERN_NO_ACCESS: it holds memory,
    /// or the registers of an interrupt controller. KERN_NO_SPACE.
    3816 device_map DeviceMap in words {
        /// Physical address; a multiple of the page.
        physical: u64,
        /// Bytes, rounded up to pages.
        size: u64,
    }
    rights {
        /// A send right to the device port.
        DEVICE,
    }
    reply DeviceMapReply {
        /// First address.
        address: u64,
    };

    /// Allocates memory that a device can reach: physically contiguous, resident, zero, read and
    /// write allowed, inheritance none. Freed by `vm_deallocate` of all of it.
    ///
    /// In order: KERN_INVALID_HOST: no device port in the slot. KERN_INVALID_ARGUMENT: size 0 or
    /// rounding up overflows. KERN_NO_SPACE. KERN_RESOURCE_SHORTAGE: no such run of frames.
    3817 device_memory_allocate DeviceMemoryAllocate in words {
        /// Bytes, rounded up to pages.
        size: u64,
    }
    rights {
        /// A send right to the device port.
        DEVICE,
    }
    reply DeviceMemoryAllocateReply {
        /// First address.
        address: u64,
        /// Physical address of the first byte.
        physical: u64,
    };

    /// Says how the range will be used, or what may become of it. Nothing but FREE, REUSABLE and ZERO
    /// ever changes what memory holds, and those only writable memory.
    ///
    /// | behaviour | |
    /// |---|---|
    /// | DEFAULT 0, RANDOM 1, SEQUENTIAL 2, RSEQNTL 3 | how it will be read: kept, and `vm_region` shows it |
    /// | WILLNEED 4 | pages are made resident, and asked for from pagers, as far as memory allows; not waited for |
    /// | DONTNEED 5 | translations go; contents stay |
    /// | FREE 6 | what private anonymous memory holds is given up: it reads zero |
    /// | ZERO_WIRED_PAGES 7 | wired pages of the range are zeroed when they are unmapped |
    /// | REUSABLE 8 | contents may go when memory is short, until they are written again or REUSE |
    /// | REUSE 9 | they may not any more |
    /// | CAN_REUSE 10 | nothing: asks whether REUSABLE would do |
    /// | PAGEOUT 11 | pages of pagers go back to them and are dropped; anonymous memory as DONTNEED |
    /// | ZERO 12 | it reads zero |
    ///
    /// In order: KERN_INVALID_ARGUMENT: `behavior` not 0 to 12. Size 0 succeeds. KERN_INVALID_ARGUMENT:
    /// `address + size` overflows. KERN_NO_SPACE: rounding overflows, or the range leaves the map. Then by address:
    /// KERN_INVALID_ADDRESS: a hole; for 8, 9 and 10 memory of a tag of malloc (1-3, 6-9) that is not
    /// plain private memory. KERN_PROTECTION_FAILURE: 7, 8 or 12 on memory that cannot be written.
    /// KERN_NO_ACCESS: 7 or 12 on memory that is copied on write, the slots of a tray or another map;
    /// 12 on device memory. Up to here nothing has changed. KERN_MEMORY_ERROR: 12, and a pager failed.
    /// Source: R202, C0116-C0128, C0379-C0382, C0420-C0423, C0502.
    3818 vm_behavior_set VmBehaviorSet in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// Number of the behaviour.
        behavior: u32,
    };

    /// Brings pages of the range back to their pagers. Anonymous memory has none: it keeps its
    /// contents, unless KILLPAGES is given. For each map entry in turn: KILLPAGES, DEACTIVATE, then the
    /// return of pages, then INVALIDATE. A synchronous call ends when the pager has stored what was
    /// returned: when it says so, if it opted for that in `memory_object_ready`, else with the last
    /// `memory_object_data_written`.
    ///
    /// Size 0 succeeds. Flags that are not defined are ignored. In order: KERN_INVALID_ARGUMENT: both
    /// synchronous and asynchronous. KERN_INVALID_ADDRESS: range. KERN_MEMORY_ERROR: synchronous, and the
    /// pager could not store, or not in time, or has ended. KERN_INVALID_ADDRESS: a hole, with CONTIGUOUS, after the rest was
    /// done; with KILLPAGES nothing is done behind a hole.
    /// Source: R199-201, A7, A13, C0129-C0141, C0418, C0419.
    3819 vm_msync VmMsync in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// [`VM_SYNC_SYNCHRONOUS`] and its neighbours.
        flags: u32,
    };
}
