//! Client to VM server, on a map port: what is mapped and what is resident.

use crate::define::protocol;
use crate::vm_map::VmRegionReply;

/// Words of [`VmRegionRecurse`]'s answer in Mach, without those that came later.
pub const VM_REGION_SUBMAP_SHORT_INFO_COUNT_64: u32 = 12;

protocol! {
    /// Client to VM server: questions about an address map.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_inspect" at 4800, "client" to "VM server, on the map port of a task";

    /// Says what is known of one page. Of a page that is not mapped: nothing, with success.
    ///
    /// KERN_INVALID_ADDRESS: rounding overflows. Source: C0405, R204.
    4801 vm_page_query VmPageQuery in words {
        /// An address in the page.
        address: u64,
    }
    reply VmPageQueryReply {
        /// VM_PAGE_QUERY_ bits.
        disposition: u32,
        /// References to the page's object.
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
}
