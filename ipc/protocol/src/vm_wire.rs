//! Client to VM server, on a map port: memory that stays resident.

use crate::define::protocol;

protocol! {
    /// Client to VM server: wiring.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_wire" at 4400, "client" to "VM server, on the map port of a task";

    /// Makes the range resident and keeps it so, or undoes that once: wirings nest. Copy-on-write
    /// and zero-fill are resolved first, whatever the access.
    ///
    /// In order: KERN_INVALID_HOST: no host port in the slot. KERN_INVALID_ARGUMENT: a bit outside
    /// read, write, execute. Size 0 succeeds. KERN_INVALID_ARGUMENT: range. KERN_INVALID_ADDRESS: a
    /// hole (to unwire: nothing mapped at the start). KERN_PROTECTION_FAILURE: the access is more
    /// than the protection. KERN_RESOURCE_SHORTAGE: the limit of wired pages. KERN_FAILURE: 65535
    /// wirings already. KERN_MEMORY_ERROR: a pager failed. On failure nothing stays wired.
    /// Source: R131-144.
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
}
