//! Client to VM server, on the port of a copy object: what it is.
//!
//! A copy object is memory on its way: `vm_copyin` makes it of a range, its right travels in a
//! message, and `vm_copyout`, `vm_map` or `vm_write` put it into a map. Dropping the last right
//! discards it, so there is no message for that.

use crate::define::protocol;

protocol! {
    /// Client to VM server: questions to a copy object.
    #[derive(Clone, Copy)]
    protocol CopyObject "copy" at 4000, "client" to "VM server, on the port of a copy object";

    /// Gives size and place of the copied bytes, and who may have to be asked for them.
    4001 copy_describe CopyDescribe in words {}
    reply CopyDescribeReply {
        /// Bytes.
        size: u64,
        /// Place of the first byte within its page.
        offset: u64,
        /// Some pages are not resident and have to come from a pager that the sender chose: a
        /// receiver that must not wait for it sets a deadline or does not touch them.
        depends_on_pager: bool,
    };
}
