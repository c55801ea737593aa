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
        /// Pages may have to come from a pager that the sender chose: a receiver that must not wait for
        /// it settles the copy first, or does not touch it. True if there are too many parts to look at.
        depends_on_pager: bool,
    };

    /// Makes the copy depend on no pager: what a pager may have to bring is brought now, and copied. Who
    /// receives memory from somebody it does not trust does so before it touches the memory. What has
    /// been settled stays so, whatever the answer. Where the copy is mapped already, the old memory stays:
    /// what is written there does not show in what is mapped of the copy from then on.
    ///
    /// KERN_TERMINATED: the copy was used up meanwhile. KERN_OPERATION_TIMED_OUT: not all came in time.
    /// KERN_MEMORY_ERROR: a pager failed. KERN_RESOURCE_SHORTAGE: memory.
    4002 copy_settle CopySettle in words {
        /// How long it may take, in nanoseconds; no longer than the server's limit for a pager.
        timeout: u64,
    }
    reply CopySettleReply {
        /// Pages of the parts that were settled by this call.
        pages: u64,
    };
}
