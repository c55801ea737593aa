//! Client to VM server, on the port of a named entry: what it is.
//!
//! An entry is made by `mach_make_memory_entry` and mapped by `vm_map`. It lives as long as somebody
//! holds a right to it, and its memory as long as it is mapped or named.

use crate::define::protocol;

protocol! {
    /// Client to VM server: questions to a named entry.
    #[derive(Clone, Copy)]
    protocol MemoryEntry "memory_entry" at 3900, "client" to "VM server, on the port of a named entry";

    /// Gives the window that the entry names.
    3901 memory_entry_describe MemoryEntryDescribe in words {}
    reply MemoryEntryDescribeReply {
        /// Bytes.
        size: u64,
        /// The most that a mapping may allow, `Prot` bits.
        protection: u32,
        /// It is a snapshot: mappings never change the memory that it was made from.
        is_copy: bool,
    };
}
