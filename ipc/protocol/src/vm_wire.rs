//! Client to VM server, on a map port: memory that stays resident, what a map may hold, and
//! frames for a memory server below.

use crate::define::protocol;

/// Flag of [`VmWireAll`]: wire what is mapped now.
pub const VM_WIRE_CURRENT: u32 = 1;
/// Flag of [`VmWireAll`]: wire what is mapped from now on.
pub const VM_WIRE_FUTURE: u32 = 2;

/// Value of a field of [`VmSetLimits`]: the limit stays as it is.
pub const UNCHANGED: u64 = u64::MAX - 1;

/// Most frames that one [`VmGiveFrames`] gives.
pub const GIVE_MAX: u32 = 2048;

impl VmSetLimits {
    /// Every limit stays as it is, for a task on which nothing depends.
    pub const KEEP: VmSetLimits = VmSetLimits {
        entries: UNCHANGED,
        pages: UNCHANGED,
        size: UNCHANGED,
        wired: UNCHANGED,
        copies: UNCHANGED,
        objects: UNCHANGED,
        ops: UNCHANGED,
        system: false,
    };
}

protocol! {
    /// Client to VM server: wiring and limits.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_wire" at 4400, "client" to "VM server, on the map port of a task";

    /// Makes the range resident and keeps it so, or undoes that once: wirings nest. Copy-on-write
    /// and zero-fill are resolved first, whatever the access, and the memory is translated with all
    /// that its protection allows. Calls that change or remove the range meanwhile wait. Device
    /// registers count as wired, and the slots of a tray cannot be.
    ///
    /// In order: KERN_INVALID_HOST: no host control port in the slot. KERN_INVALID_ARGUMENT: a bit
    /// outside read, write, execute. Size 0 succeeds. KERN_INVALID_ARGUMENT: the range wraps, or its
    /// rounding does. To unwire: KERN_INVALID_ADDRESS: nothing mapped at the start; what is not
    /// wired, and holes, are passed over. To wire, in order of address: KERN_INVALID_ADDRESS: a hole.
    /// KERN_PROTECTION_FAILURE: the access is more than the protection, or a tray. KERN_FAILURE:
    /// 65535 wirings already. Then KERN_RESOURCE_SHORTAGE: the limit of wired pages, of the map or in
    /// all, or memory. KERN_MEMORY_ERROR: a pager failed, or took too long. KERN_FAILURE: the caller
    /// was interrupted. On failure nothing is wired that was not.
    /// Source: R31-33, R131-144, R191.
    4401 vm_wire VmWire in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// `Prot` bits that the memory will be used with; none: unwire.
        access: u32,
    }
    rights {
        /// A send right to the host control port.
        HOST,
    };

    /// Wires all memory of a map, or all that will be mapped, or both; without flags undoes both:
    /// every wiring by the user ends. Memory that is wired already, that may not be used at all
    /// (protection none) and trays are passed over. Children do not inherit it.
    ///
    /// With [`VM_WIRE_FUTURE`] vm_allocate, vm_map, vm_copyout and vm_remap wire what they map, as
    /// far as it may be used; if that fails they fail with its code and map nothing, or, with the
    /// flag `WIRE_BEST_EFFORT`, leave it unwired and succeed.
    ///
    /// In order: KERN_INVALID_HOST: no host control port in the slot. KERN_INVALID_ARGUMENT: a flag
    /// that is not defined. Then as `vm_wire`; on failure nothing has changed.
    /// Source: R61, R99, A8, row 41 of the seed.
    4402 vm_wire_all VmWireAll in words {
        /// [`VM_WIRE_CURRENT`] and [`VM_WIRE_FUTURE`].
        flags: u32,
    }
    rights {
        /// A send right to the host control port.
        HOST,
    };

    /// Sets what the map may hold; what it holds already stays. Over a limit calls fail at once with
    /// KERN_RESOURCE_SHORTAGE and change nothing, and faults with an exception of that code. Children
    /// that are made later have the same limits, and all but `size` counts for their parent as well: a
    /// map and those below it hold no more together than the map may by itself. Children of a map of
    /// the system have the default each.
    ///
    /// A field that is [`UNCHANGED`] leaves its limit; `u64::MAX` is no limit; a count over 32 bits
    /// is none either.
    ///
    /// KERN_INVALID_HOST: no host control port in the slot.
    4403 vm_set_limits VmSetLimits in body {
        /// Map entries, those of copies and named entries made from the map included.
        entries: u64,
        /// Pages of anonymous memory that the map pays for.
        pages: u64,
        /// Bytes mapped.
        size: u64,
        /// Pages wired.
        wired: u64,
        /// Copies and named entries made from the map, whoever has their ports now.
        copies: u64,
        /// Memory objects made for the map.
        objects: u64,
        /// Calls on the map that are not finished.
        ops: u64,
        /// Others depend on the task: limits of all tasks together are not its, and it may use memory
        /// that others have to leave free.
        system: bool,
    }
    rights {
        /// A send right to the host control port.
        HOST,
    };

    /// Says what the map may hold, and what it holds. The units are those of [`VmSetLimits`].
    4404 vm_limits VmLimits in body {}
    reply VmLimitsReply {
        /// Limit of entries.
        entries_limit: u64,
        /// Limit of anonymous pages.
        pages_limit: u64,
        /// Limit of bytes mapped.
        size_limit: u64,
        /// Limit of pages wired.
        wired_limit: u64,
        /// Limit of copies and named entries.
        copies_limit: u64,
        /// Limit of objects.
        objects_limit: u64,
        /// Limit of calls.
        ops_limit: u64,
        /// Whether others depend on the task.
        system: bool,
        /// Entries.
        entries: u64,
        /// Anonymous pages.
        pages: u64,
        /// Bytes mapped.
        size: u64,
        /// Pages wired.
        wired: u64,
        /// Copies and named entries.
        copies: u64,
        /// Objects.
        objects: u64,
        /// Calls.
        ops: u64,
    };

    /// Gives free frames to the task of this map, which is a memory server, or becomes one by the first
    /// of these calls: it sees its frames in a physical window, and has a host memory port, by which it
    /// makes address spaces and enters its frames in them. They come back when the task has ended, and
    /// all tasks that it served.
    ///
    /// In order: KERN_INVALID_HOST: no host control port in the slot. KERN_INVALID_ARGUMENT: no frames, or
    /// more than [`GIVE_MAX`]. KERN_RESOURCE_SHORTAGE: there are not as many free ones side by side, or
    /// the kernel is out of memory.
    4405 vm_give_frames VmGiveFrames in words {
        /// How many.
        count: u32,
    }
    rights {
        /// A send right to the host control port.
        HOST,
    }
    reply VmGiveFramesReply {
        /// Number of the first frame.
        first: u32,
        /// Frames, side by side.
        count: u32,
    }
    reply rights {
        /// A send right to the host memory port of the task.
        MEMORY,
    };
}
