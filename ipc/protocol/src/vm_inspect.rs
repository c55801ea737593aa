//! Client to VM server, on a map port: what is mapped and what is resident.

use crate::define::protocol;

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
}
