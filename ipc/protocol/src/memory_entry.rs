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
        /// Place of its first byte within the first page.
        data_offset: u64,
        /// Cache mode that was asked for, MAP_MEM number; caches are coherent, it changes nothing.
        cache: u32,
    };

    /// Says who the memory is to be accounted to. There are no ledgers: what is asked is checked, and
    /// nothing happens.
    ///
    /// KERN_INVALID_ARGUMENT: a tag above 5 that is not 0xFFFFFFFF (unchanged); a flag above 3.
    3902 mach_memory_entry_ownership MachMemoryEntryOwnership in words {
        /// VM_LEDGER_TAG number.
        ledger_tag: u32,
        /// VM_LEDGER_FLAG bits.
        flags: u32,
    }
    rights {
        /// A send right to the owner's map port, or empty.
        OWNER,
    };

    /// Sets or asks what may become of the contents of a purgeable object that the entry names whole, as
    /// `vm_purgable_control` does by address.
    ///
    /// In order: KERN_INVALID_ARGUMENT: `control` not 0 or 1; to set, an undefined bit of `state`; the
    /// entry does not name one purgeable object whole. KERN_PROTECTION_FAILURE: to set, the entry does
    /// not allow writing. KERN_INVALID_ARGUMENT: to set, DENY. KERN_PROTECTION_FAILURE: to set, the entry
    /// was made with MAP_MEM_PURGABLE_KERNEL_ONLY.
    /// Source: R203.
    3905 mach_memory_entry_purgable_control MachMemoryEntryPurgableControl in words {
        /// `purgeable::SET_STATE` or `GET_STATE`.
        control: u32,
        /// The state word to set.
        state: u32,
    }
    reply MachMemoryEntryPurgableControlReply {
        /// The state: to set, the one before.
        state: u32,
    };
}
