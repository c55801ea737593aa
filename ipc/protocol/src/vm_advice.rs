//! Client to VM server, on a map port: how memory is used, and what may be taken of it.

use crate::define::protocol;

protocol! {
    /// Client to VM server: attributes and advice.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_advice" at 5000, "client" to "VM server, on the map port of a task";

    /// Asks or sets a machine attribute. On x86 caches are coherent: the cache is on, and flushing
    /// it has nothing to do.
    ///
    /// Size 0 succeeds. In order: KERN_INVALID_ARGUMENT: `address + size` overflows.
    /// KERN_INVALID_ADDRESS: rounding overflows, or outside the map. KERN_INVALID_ARGUMENT: an
    /// attribute or value that has no meaning here. KERN_FAILURE: a hole.
    /// Source: R198, row 93 of the seed.
    5001 vm_machine_attribute VmMachineAttribute in words {
        /// First address, truncated to a page.
        address: u64,
        /// Bytes; the end is rounded up to a page.
        size: u64,
        /// MATTR_CACHE 1, MATTR_MIGRATE 2, MATTR_REPLICATE 4.
        attribute: u32,
        /// MATTR_VAL_OFF 0, ON 1, GET 2, CACHE_FLUSH 6, DCACHE_FLUSH 7, ICACHE_FLUSH 8.
        value: u32,
    }
    reply VmMachineAttributeReply {
        /// The value in force.
        value: u32,
    };
}
