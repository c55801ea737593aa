//! Client to VM server, on a map port: memory that appears a second time.

use crate::define::protocol;

protocol! {
    /// Client to VM server: remapping, and handles to memory of pagers.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_share" at 4600, "client" to "VM server, on the map port of a task";

    /// Maps a range of the map in the slot here, shared or copied. Each piece keeps its current and
    /// maximum protection and its tag.
    ///
    /// With RETURN_DATA_ADDR every page that the range touches is mapped; without, `source` is
    /// truncated and only `size` rounded up. Of all or nothing; in order:
    /// KERN_INVALID_ARGUMENT: a flag that is not one of the call's (the tag is none); `inheritance`
    /// not 0 to 2; size 0 or range; RESILIENT_MEDIA without `copy`; a fixed range that overflows; no
    /// map in the slot, or a read-only one without `copy`.
    /// KERN_INVALID_ADDRESS: a hole in the source. KERN_PROTECTION_FAILURE: memory that is never
    /// shared or copied; the result could be written and executed, and this map must not.
    /// KERN_MEMORY_ERROR: a pager failed while pages were copied.
    /// Then KERN_NO_SPACE and KERN_INVALID_ADDRESS of the destination as `vm_map`.
    /// Source: rows 72 and 73 of the seed, R9-11, R28, R102, A9.
    4601 vm_remap VmRemap in body {
        /// Where to, truncated to a page; with ANYWHERE where the search starts.
        address: u64,
        /// Bytes.
        size: u64,
        /// Bits that must be zero in the address chosen.
        mask: u64,
        /// `MapFlags::USER_REMAP`.
        flags: u32,
        /// First address in the source map.
        source: u64,
        /// Copy the range instead of sharing it.
        copy: bool,
        /// `Inherit` number.
        inheritance: u32,
    }
    rights {
        /// A send right to the source's map port; for a copy the read-only one will do.
        SOURCE_MAP,
    }
    reply VmRemapReply {
        /// Address of the first byte.
        address: u64,
        /// Current protection that all of the range has, `Prot` bits.
        protection: u32,
        /// Maximum protection that all of the range has, `Prot` bits.
        max_protection: u32,
    };

    /// As [`VmRemap`], always with RETURN_DATA_ADDR, and all of the range gets the protections that
    /// are asked for.
    ///
    /// In order: KERN_INVALID_ARGUMENT: as there; a protection bit outside read, write, execute;
    /// `protection` not within `max_protection`; a read-only map in the slot, where the range is
    /// shared and `max_protection` is more than read.
    /// KERN_PROTECTION_FAILURE: `protection` is both write and execute, and this map must not.
    /// KERN_INVALID_ADDRESS: a hole. KERN_PROTECTION_FAILURE: shared, and a piece has less than is
    /// asked for, now or at most; copied, and a piece can never be read. Then as there.
    /// Source: C0160-C0166, C0377, A9.
    4602 vm_remap_new VmRemapNew in body {
        /// Where to, truncated to a page; with ANYWHERE where the search starts.
        address: u64,
        /// Bytes.
        size: u64,
        /// Bits that must be zero in the address chosen.
        mask: u64,
        /// `MapFlags::USER_REMAP`.
        flags: u32,
        /// First address in the source map.
        source: u64,
        /// Copy the range instead of sharing it.
        copy: bool,
        /// Current protection, `Prot` bits.
        protection: u32,
        /// Maximum protection, `Prot` bits.
        max_protection: u32,
        /// `Inherit` number.
        inheritance: u32,
    }
    rights {
        /// A send right to the source's map port, or to its read-only one.
        SOURCE_MAP,
    }
    reply VmRemapNewReply {
        /// Address of the first byte.
        address: u64,
        /// Current protection, `Prot` bits.
        protection: u32,
        /// Maximum protection, `Prot` bits.
        max_protection: u32,
    };

    /// Gives the map's read-only port: it answers questions about the map, and lets the map be read
    /// by copies of it and by read-only remapping. Every other request there is
    /// KERN_INVALID_ARGUMENT. It lives as long as the map.
    ///
    /// KERN_RESOURCE_SHORTAGE. Source: C0377.
    4603 vm_map_read_port VmMapReadPort in words {}
    reply VmMapReadPortReply {}
    reply rights {
        /// A send right to the read-only port.
        MAP,
    };

    /// Makes a named entry of a memory object: of a pager's, or (empty slot, `internal`) of fresh
    /// anonymous memory, which is copied by copy objects.
    ///
    /// In order: KERN_INVALID_HOST: no host port in the slot. KERN_INVALID_ARGUMENT: size 0 or
    /// rounding up past the end; a protection bit outside read, write, execute; an empty slot
    /// without `internal`; a dead name, or a port of the server's own.
    /// Source: row 9 of the seed, R95, C0093, C0094, C0441.
    4604 mach_memory_object_memory_entry MachMemoryObjectMemoryEntry in words {
        /// The object is anonymous memory if no pager is given.
        internal: bool,
        /// Bytes, rounded up to pages.
        size: u64,
        /// The most that a mapping may allow, `Prot` bits.
        protection: u32,
    }
    rights {
        /// A send right to the host control port.
        HOST,
        /// A send right to a memory object, or empty.
        PAGER,
    }
    reply MachMemoryObjectMemoryEntryReply {}
    reply rights {
        /// A send right to the new entry.
        ENTRY,
    };

    /// Makes a handle to a window of a memory object, which allows no more than is said. The object
    /// may be such a handle, or any named entry: windows and protections intersect at each level.
    ///
    /// In order: KERN_INVALID_ARGUMENT: `count` not 1; `offset` not 0; `start + length` overflows, or
    /// rounding up does; `length` 0; `start` not a multiple of the page; a protection bit outside read, write,
    /// execute. KERN_INVALID_NAME: an empty slot or a dead name. KERN_INVALID_ARGUMENT: a port of
    /// another kind; the window begins beyond that of the handle below.
    /// Source: C0481, C0484; the peer's memory_object_proxy.
    4605 memory_object_create_proxy MemoryObjectCreateProxy in words {
        /// The most that a mapping may allow, `Prot` bits.
        max_protection: u32,
        /// Windows described: one.
        count: u32,
        /// Where in the handle the window begins: at 0.
        offset: u64,
        /// Offset of the window in the object.
        start: u64,
        /// Bytes, rounded up to pages.
        length: u64,
    }
    rights {
        /// A send right to a memory object or a named entry.
        OBJECT,
    }
    reply MemoryObjectCreateProxyReply {}
    reply rights {
        /// A send right to the handle, a named entry.
        PROXY,
    };

    /// Makes a handle to a part of the map entry that holds `address`, or of the next above it: it
    /// is shared, and allows no more than the entry's maximum.
    ///
    /// In order: KERN_INVALID_ARGUMENT: a protection bit outside read, write, execute.
    /// KERN_NO_SPACE: nothing is mapped at or above the address. KERN_INVALID_ARGUMENT: it is a
    /// submap; `length` is 0, or more than from there to the entry's end.
    4606 vm_region_create_proxy VmRegionCreateProxy in words {
        /// Where to look, truncated to a page.
        address: u64,
        /// The most that a mapping may allow, `Prot` bits.
        max_protection: u32,
        /// Bytes, rounded up to pages.
        length: u64,
    }
    reply VmRegionCreateProxyReply {
        /// First address of the window.
        address: u64,
    }
    reply rights {
        /// A send right to the handle, a named entry.
        PROXY,
    };

    /// Says whether the map may have memory that can be written and executed at the same time. A new
    /// map may; a child inherits the answer. What is mapped stays as it is.
    ///
    /// KERN_INVALID_HOST: no host port in the slot. Source: R117, A9.
    4607 vm_map_set_jit VmMapSetJit in words {
        /// It may.
        allowed: bool,
    }
    rights {
        /// A send right to the host control port.
        HOST,
    };
}
