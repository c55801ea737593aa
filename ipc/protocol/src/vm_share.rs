//! Client to VM server, on a map port: memory that appears a second time.

use crate::define::protocol;

protocol! {
    /// Client to VM server: remapping, and handles to memory of pagers.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_share" at 4600, "client" to "VM server, on the map port of a task";

    /// Maps a range of the map in the slot here, shared or copied.
    ///
    /// In order: KERN_INVALID_ARGUMENT: a flag that is not defined (the tag is none); size 0 or
    /// range; `inheritance` not 0 to 2; no map in the slot. KERN_INVALID_ADDRESS: a hole in the
    /// source. Then the destination as [`super::vm_map::VmMap`].
    /// Source: rows 72 and 73 of the seed, R9, R28, R102.
    4601 vm_remap VmRemap in body {
        /// Where to, truncated to a page; with ANYWHERE where the search starts.
        address: u64,
        /// Bytes.
        size: u64,
        /// Bits that must be zero in the address chosen.
        mask: u64,
        /// `MapFlags`: ANYWHERE, OVERWRITE, RETURN_DATA_ADDR.
        flags: u32,
        /// First address in the source map.
        source: u64,
        /// Copy the range instead of sharing it.
        copy: bool,
        /// `Inherit` number.
        inheritance: u32,
    }
    rights {
        /// A send right to the source's map port.
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
}
