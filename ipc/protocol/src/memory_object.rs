//! VM server to pager, on the port of a memory object: ask for data, give it back.
//!
//! The port's payload tells the pager which object is meant. All messages are one way, and the
//! server never waits for one to be taken: what does not fit the port's queue it says later. The
//! pager answers with messages of [`crate::memory_object_control`] on the control port that came
//! with `memory_object_init`. Offsets and lengths are in bytes, multiples of the page.

use crate::define::protocol;

protocol! {
    /// VM server to pager: the life of a memory object, its data, and completions.
    #[derive(Clone, Copy)]
    protocol MemoryObject "memory_object" at 2200, "VM server" to "pager, on the port of a memory object";

    /// The object is mapped for the first time (or again, after its pager came back). The pager
    /// answers with `memory_object_ready`, or `memory_object_destroy` to refuse; until then nothing
    /// else is sent. Source: R2, R151.
    2201 memory_object_init MemoryObjectInit in words {
        /// Bytes of a page.
        page_size: u32,
    }
    rights {
        /// A send right to the control port.
        CONTROL,
    };

    /// Nothing maps or caches the object any more: this life of it is over, its control port dead.
    /// Mapping it again begins with `memory_object_init`. Source: R149, R178.
    2202 memory_object_terminate MemoryObjectTerminate in words {};

    /// Wants the pages of a range, with this access. The pager supplies the first page at least;
    /// what it leaves out is asked again when it is needed. As many slots of its tray as the range
    /// has pages are ready. Source: R152-154, A4.
    2203 memory_object_data_request MemoryObjectDataRequest in words {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What the fault needs: one of read, write, execute as `Prot` bits.
        access: u32,
        /// The server's number of the request, for traces.
        request: u64,
    };

    /// Lends pages to the pager, read-only, in slots of its tray, so that it stores them. The loan
    /// ends with `memory_object_data_written`. Source: R165-166, R170, R179-180.
    2204 memory_object_data_return MemoryObjectDataReturn in words {
        /// Offset of the first page.
        offset: u64,
        /// First tray slot.
        slot: u32,
        /// Pages, in consecutive slots.
        count: u32,
        /// The pages were written; false: only precious.
        dirty: bool,
        /// The server keeps the pages too.
        kernel_copy: bool,
        /// Number of the loan.
        txn: u64,
    };

    /// Has the page, but locked: wants more access. The pager answers with a `lock_request` that
    /// lowers the lock, or supplies nothing and lets the fault wait. Source: R163-164.
    2205 memory_object_data_unlock MemoryObjectDataUnlock in words {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What the fault needs, `Prot` bits.
        access: u32,
    };

    /// A `memory_object_lock_request` is done, after all the returns that it caused. Source: R171.
    2206 memory_object_lock_completed MemoryObjectLockCompleted in words {
        /// The request's offset, as it was sent.
        offset: u64,
        /// The request's size, as it was sent.
        size: u64,
        /// The request's number.
        request: u64,
        /// 0, or the code with which a return failed.
        result: u32,
    };

    /// New attributes are in force, and what they caused has been sent: it comes after the
    /// `memory_object_terminate` of an object that was only cached. Source: R173.
    2207 memory_object_change_completed MemoryObjectChangeCompleted in words {
        /// As in `memory_object_ready`.
        may_cache: bool,
        /// As in `memory_object_ready`.
        copy_strategy: u32,
        /// The request's number.
        request: u64,
    };

    /// All pages returned so far shall be stored safely; the pager answers with
    /// `memory_object_synchronize_completed`. Only said to pagers whose `memory_object_ready` asks for
    /// it. Source: A13.
    2208 memory_object_synchronize MemoryObjectSynchronize in words {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// `VM_SYNC_..` bits as the client gave them.
        flags: u32,
        /// Number of the request.
        request: u64,
    };

    /// Strategy CALL: somebody wants a copy of a range. The pager makes a memory object for it and
    /// answers with `memory_object_copy_made`; whoever copies waits for that, no longer than for data.
    /// Page `n` of the new object is page `n` of the range.
    ///
    /// When the answer has come, the server forbids writing the resident pages of the range (as
    /// `memory_object_lock_request` does), lays the new object over the range, and hands it out. From
    /// then on it is the pager that keeps the two apart: before it lets a page of the range be written
    /// (`memory_object_data_unlock`, or a request for WRITE), it supplies the old page to the new object.
    /// What it says it has not (`memory_object_data_unavailable`) of the new object is the same as in
    /// the range. Source: R26, R27, R30.
    2209 memory_object_copy MemoryObjectCopy in words {
        /// First byte of the range.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Number of the request.
        request: u64,
    };
}
