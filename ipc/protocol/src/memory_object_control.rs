//! Pager to VM server, on the control port of a memory object: data, errors, locks, attributes.
//!
//! The control port comes with `memory_object_init` and is good for one life of the object. All
//! messages may be sent one way; sent as a call they are answered, which `data_supply` uses to say
//! what became of the pages. Offsets and sizes are in bytes; lengths are rounded up to pages only
//! where the text says so.

use crate::define::protocol;

/// Flag of [`MemoryObjectLockRequest`]: drop the pages, after what was to be returned.
pub const MEMORY_OBJECT_DATA_FLUSH: u32 = 0x1;
/// Flag of [`MemoryObjectLockRequest`]: do not push pages to copy objects first.
pub const MEMORY_OBJECT_DATA_NO_CHANGE: u32 = 0x2;
/// Copy strategy of [`MemoryObjectReady`]: the object's data need not outlive its last use, so that
/// written pages are not returned when it ends; it is copied as with DELAY. The strategy that
/// [`MemoryObjectGetAttributes`] tells stays what it was. Source: R4.
pub const MEMORY_OBJECT_COPY_TEMPORARY: u32 = 3;
/// Lock value of [`MemoryObjectLockRequest`]: leave the locks as they are.
pub const VM_PROT_NO_CHANGE: u32 = 0x8;

protocol! {
    /// Pager to VM server: what the pager says of its object.
    #[derive(Clone, Copy)]
    protocol MemoryControl "memory_object_control" at 2300, "pager" to "VM server, on the control port of a memory object";

    /// Opens the object: data may be requested from now on.
    ///
    /// KERN_INVALID_ARGUMENT: unknown copy strategy; cluster over 64; the right is no tray.
    /// KERN_TERMINATED: the object has ended. Source: R1-4, R151, A5, A13.
    2301 memory_object_ready MemoryObjectReady in words {
        /// Keep pages after the last mapping is gone.
        may_cache: bool,
        /// `CopyStrategy` number, or [`MEMORY_OBJECT_COPY_TEMPORARY`]. SYMMETRIC acts as DELAY, since a
        /// pager's object may be mapped by many.
        copy_strategy: u32,
        /// Most pages that one data request may ask for; 0 or 1: one page.
        cluster_pages: u32,
        /// The pager can serve a fault that it causes itself.
        serves_itself: bool,
        /// A synchronous vm_msync ends with the pager's answer to `memory_object_synchronize`; else
        /// with the last `memory_object_data_written`.
        synchronizes: bool,
    }
    rights {
        /// A send right to the tray that pages of this object go through.
        TRAY,
    };

    /// Moves pages from tray slots into the object. A page that is there already is kept, and the
    /// slot is emptied all the same. Supplied pages are clean. The slots are filled again aside.
    ///
    /// KERN_INVALID_ARGUMENT: `offset` not on a page, or the range overflows; `lock_value` outside
    /// read, write, execute; slots outside the tray, empty or lent; count 0: and nothing is moved.
    /// KERN_TERMINATED: the object has ended. Source: R155-159, A1.
    2302 memory_object_data_supply MemoryObjectDataSupply in words {
        /// Offset of the first page.
        offset: u64,
        /// First tray slot.
        slot: u32,
        /// Pages, from consecutive slots.
        count: u32,
        /// Access that is forbidden until the pager unlocks it, `Prot` bits.
        lock_value: u32,
        /// Return the pages even if they are clean.
        precious: bool,
    }
    reply MemoryObjectDataSupplyReply {
        /// Pages taken.
        used: u32,
        /// Pages dropped because the object had them.
        skipped_present: u32,
        /// Offset of the first page dropped; with `skipped_present` 0 it means nothing.
        first_present: u64,
    };

    /// The pager has no data for the range: look below, or fill with zeros. It will not be asked
    /// again. KERN_INVALID_ARGUMENT: not whole pages. Source: R160.
    2303 memory_object_data_unavailable MemoryObjectDataUnavailable in words {
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
    };

    /// The data cannot be brought: whoever waits for it gets KERN_MEMORY_ERROR, a later access asks
    /// again. KERN_INVALID_ARGUMENT: not whole pages. Source: R161.
    2304 memory_object_data_error MemoryObjectDataError in words {
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
        /// The pager's reason, for traces; the toucher does not see it.
        code: u32,
    };

    /// Page by page: restricts access, returns data, drops it; at the end the pager is told by
    /// `memory_object_lock_completed`. Size 0 is complete at once.
    ///
    /// KERN_INVALID_ARGUMENT: `lock_value` outside read, write, execute and not
    /// [`VM_PROT_NO_CHANGE`]; unknown `should_return` or flag; the range overflows.
    /// KERN_RESOURCE_SHORTAGE: the task that has the pager's tray has as many calls under way as it may.
    /// Source: R162-172, A7.
    2305 memory_object_lock_request MemoryObjectLockRequest in words {
        /// First byte, truncated to a page.
        offset: u64,
        /// Bytes, rounded up to pages.
        size: u64,
        /// `Return` number: which pages go back to the pager.
        should_return: u32,
        /// [`MEMORY_OBJECT_DATA_FLUSH`] and [`MEMORY_OBJECT_DATA_NO_CHANGE`].
        flags: u32,
        /// Access to forbid, `Prot` bits, or [`VM_PROT_NO_CHANGE`].
        lock_value: u32,
        /// Number that the completion repeats; 0: no completion is sent.
        request: u64,
    };

    /// Ends a loan of `memory_object_data_return`: its slots are taken back.
    ///
    /// KERN_INVALID_ARGUMENT: no such loan (any more).
    2306 memory_object_data_written MemoryObjectDataWritten in words {
        /// Number of the loan.
        txn: u64,
        /// 0: stored; any other code: not, and the pages are dirty again.
        result: u32,
    };

    /// Changes attributes; `memory_object_change_completed` follows. KERN_INVALID_ARGUMENT: unknown
    /// copy strategy, or the object is not ready. A copy that is being made is made the way that it was
    /// begun. Source: R1, R4, R34, R173.
    2307 memory_object_change_attributes MemoryObjectChangeAttributes in words {
        /// As in `memory_object_ready`.
        may_cache: bool,
        /// As in `memory_object_ready`.
        copy_strategy: u32,
        /// Number that the completion repeats; 0: no completion is sent.
        request: u64,
    };

    /// Asks for the attributes.
    2308 memory_object_get_attributes MemoryObjectGetAttributes in words {}
    reply MemoryObjectGetAttributesReply {
        /// `memory_object_ready` was received.
        ready: bool,
        /// As in `memory_object_ready`.
        may_cache: bool,
        /// `CopyStrategy` number as it was said last, [`MEMORY_OBJECT_COPY_TEMPORARY`] apart.
        copy_strategy: u32,
        /// As in `memory_object_ready`.
        cluster_pages: u32,
    };

    /// The pager withdraws: resident pages stay, an access to any other gets KERN_MEMORY_ERROR.
    /// Source: R174.
    2309 memory_object_destroy MemoryObjectDestroy in words {
        /// The pager's reason, for traces.
        reason: u32,
    };

    /// A `memory_object_synchronize` is done, and who waits for it hears the result.
    ///
    /// KERN_INVALID_ARGUMENT: no such request of this object (any more). Source: A13.
    2310 memory_object_synchronize_completed MemoryObjectSynchronizeCompleted in words {
        /// The request's number.
        request: u64,
        /// 0, or the code with which storing failed, which whoever waits gets.
        result: u32,
    };

    /// Answers `memory_object_copy`: here is the memory object of the copy; or there is none, and the
    /// server copies page by page.
    ///
    /// KERN_INVALID_ARGUMENT: no such request (any more); with `result` 0, the right is no live send
    /// right, or names an object that the server knows already. Source: R26, R30.
    2311 memory_object_copy_made MemoryObjectCopyMade in words {
        /// The request's number.
        request: u64,
        /// 0, or why there is no copy.
        result: u32,
    }
    rights {
        /// A send right to the new memory object; none with another `result` than 0.
        OBJECT,
    };

    /// As `memory_object_data_supply`, from a copy: its pages move into the object where nobody else can
    /// reach them, and are copied where somebody can. What of it is still to come from another pager is
    /// waited for, as long as that may take. The copy is used up, and the answer comes when all is done;
    /// a failure on the way ends it, with what was done until then in the answer.
    ///
    /// KERN_INVALID_ARGUMENT: `offset` not on a page, or the range overflows; `lock_value` outside read,
    /// write, execute; the right is no copy, or one that is not of whole pages, or is empty: and the
    /// copy stays. KERN_RESOURCE_SHORTAGE. KERN_TERMINATED: the object has ended. Source: R155-159, A1.
    2312 memory_object_data_supply_copy MemoryObjectDataSupplyCopy in words {
        /// Offset of the first page.
        offset: u64,
        /// Access that is forbidden until the pager unlocks it, `Prot` bits.
        lock_value: u32,
        /// Return the pages even if they are clean.
        precious: bool,
    }
    rights {
        /// A right to the copy.
        COPY,
    }
    reply MemoryObjectDataSupplyCopyReply {
        /// Pages taken.
        used: u32,
        /// Pages dropped because the object had them.
        skipped_present: u32,
        /// Offset of the first page dropped; with `skipped_present` 0 it means nothing.
        first_present: u64,
        /// 0, or why the rest was not taken: KERN_MEMORY_ERROR, KERN_RESOURCE_SHORTAGE,
        /// KERN_TERMINATED.
        result: u32,
    };
}
