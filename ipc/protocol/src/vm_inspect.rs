//! Client to VM server, on a map port: what is mapped and what is resident.

use crate::define::protocol;
use crate::vm_map::VmRegionReply;

/// Words of [`VmRegionRecurse`]'s answer in Mach, without those that came later.
pub const VM_REGION_SUBMAP_SHORT_INFO_COUNT_64: u32 = 12;

/// Bit of a disposition: the page is resident.
pub const VM_PAGE_QUERY_PAGE_PRESENT: u32 = 0x001;
/// Bit of a disposition: a pager has been asked for it.
pub const VM_PAGE_QUERY_PAGE_FICTITIOUS: u32 = 0x002;
/// Bit of a disposition: it has been used, through a translation that may still be there.
pub const VM_PAGE_QUERY_PAGE_REF: u32 = 0x004;
/// Bit of a disposition: it has been written since its pager last had it.
pub const VM_PAGE_QUERY_PAGE_DIRTY: u32 = 0x008;
/// Bit of a disposition: it is an object's below the one that is mapped, to be copied when it is written.
pub const VM_PAGE_QUERY_PAGE_COPIED: u32 = 0x020;
/// Bit of a disposition: it is a pager's, or device memory.
pub const VM_PAGE_QUERY_PAGE_EXTERNAL: u32 = 0x080;
/// Bit of a disposition: its contents may go (`VM_BEHAVIOR_REUSABLE`).
pub const VM_PAGE_QUERY_PAGE_REUSABLE: u32 = 0x800;

/// Words of [`TaskVmInfoReply`] up to `purgeable_volatile_virtual`, as Mach counts them.
pub const TASK_VM_INFO_REV0_COUNT: u32 = 36;
/// Words of [`TaskVmInfoReply`] up to `phys_footprint`.
pub const TASK_VM_INFO_REV1_COUNT: u32 = 38;
/// Words of [`TaskVmInfoReply`] up to `max_address`.
pub const TASK_VM_INFO_REV2_COUNT: u32 = 42;
/// Words of [`TaskVmInfoReply`] up to `ledger_phys_footprint_peak`.
pub const TASK_VM_INFO_REV3_COUNT: u32 = 46;
/// Words of [`TaskVmInfoReply`] up to `limit_bytes_remaining`.
pub const TASK_VM_INFO_REV4_COUNT: u32 = 48;

protocol! {
    /// Client to VM server: questions about an address map.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_inspect" at 4800, "client" to "VM server, on the map port of a task";

    /// Says what is known of one page. Of a page that is not mapped: nothing, with success.
    ///
    /// KERN_INVALID_ADDRESS: the page's end overflows. Source: C0405, R204.
    4801 vm_page_query VmPageQuery in words {
        /// An address in the page.
        address: u64,
    }
    reply VmPageQueryReply {
        /// [`VM_PAGE_QUERY_PAGE_PRESENT`] and its neighbours.
        disposition: u32,
        /// References to the object that has the page, or that is mapped if none has; 0: nothing is mapped.
        ref_count: u32,
    };

    /// As [`crate::vm_map::VmRegion`] with all that there is to say, but goes on into maps that are shown, up
    /// to `depth` of them: each piece that shows is a region, with the rights that every entry on the
    /// way gives, and nothing of the other map beyond what this one shows. Where the depth ends at an
    /// entry that shows a map, that is the region.
    ///
    /// In order: KERN_INVALID_ARGUMENT: `count` less than [`VM_REGION_SUBMAP_SHORT_INFO_COUNT_64`].
    /// KERN_INVALID_ADDRESS: nothing is mapped at or above the address.
    /// Source: R78, R194-196; feature table 2.1.
    4802 vm_region_recurse VmRegionRecurse in body {
        /// Where to look.
        address: u64,
        /// Maps to go into at most.
        depth: u32,
        /// Words of 32 bits that there is room for.
        count: u32,
    }
    reply VmRegionRecurseReply {
        /// Maps gone into.
        depth: u32,
        /// The region; its address is in the map that was asked.
        region: VmRegionReply,
    };

    /// Says of each page of the range what [`VmPageQuery`] says of one, as a number of 32 bits each, which
    /// are written to memory of the map in the slot, as a thread there would write them. No more than
    /// `count` are written.
    ///
    /// In order: KERN_INVALID_ARGUMENT: no map in the slot; `4 * count`, or its sum with
    /// `dispositions`, overflows. Size 0 succeeds at any address. KERN_INVALID_ARGUMENT: range. Count 0
    /// succeeds; neither writes anything. Then as a
    /// write to `dispositions` fails, with a prefix written: KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE,
    /// KERN_MEMORY_ERROR. KERN_TERMINATED: a map has ended.
    /// Source: C0070, C0085, R204.
    4821 vm_page_range_query VmPageRangeQuery in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// Where to write, in the other map.
        dispositions: u64,
        /// Numbers that there is room for.
        count: u64,
    }
    rights {
        /// A send right to the map port that is written to.
        INTO,
    }
    reply VmPageRangeQueryReply {
        /// Numbers written; as it came, if `size` is 0.
        count: u64,
    };

    /// Says what a task has of memory (TASK_VM_INFO, and what TASK_BASIC_INFO says of memory), from counts
    /// that are kept as it changes. What counts for a task is the anonymous memory that it pays for, and
    /// those objects of pagers that it was the first to map. Sizes are in bytes. What Mach says besides,
    /// of device memory and compressed memory, is not counted, for it would be 0.
    ///
    /// The answer is cut to the newest revision that `count` has room for: what came later is 0.
    /// KERN_INVALID_ARGUMENT: `count` less than [`TASK_VM_INFO_REV0_COUNT`].
    /// Source: C0455, C0498, R204; feature table 2.1.
    4822 task_vm_info TaskVmInfo in body {
        /// Words of 32 bits that there is room for.
        count: u32,
    }
    reply TaskVmInfoReply {
        /// Words of the revision that is told.
        count: u32,
        /// Address space that is mapped.
        virtual_size: u64,
        /// Map entries.
        region_count: u32,
        /// Bytes of a page.
        page_size: u32,
        /// Resident memory: internal and external.
        resident_size: u64,
        /// The most of it ever.
        resident_size_peak: u64,
        /// Resident anonymous memory.
        internal: u64,
        /// The most of it ever.
        internal_peak: u64,
        /// Resident memory of pagers.
        external: u64,
        /// The most of it ever.
        external_peak: u64,
        /// Anonymous memory whose contents may go (`VM_BEHAVIOR_REUSABLE`).
        reusable: u64,
        /// The most of it ever.
        reusable_peak: u64,
        /// Resident volatile memory.
        purgeable_volatile_resident: u64,
        /// Volatile memory, resident or not.
        purgeable_volatile_virtual: u64,
        /// What counts against the task's limit: `internal`.
        phys_footprint: u64,
        /// The lowest address that can be mapped.
        min_address: u64,
        /// One past the highest.
        max_address: u64,
        /// The most of `phys_footprint` ever.
        ledger_phys_footprint_peak: u64,
        /// How much `phys_footprint` may still grow; all ones: there is no limit.
        limit_bytes_remaining: u64,
    };
}
