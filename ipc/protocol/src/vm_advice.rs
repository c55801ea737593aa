//! Client to VM server, on a map port: how memory is used, and what may be taken of it.

use crate::define::protocol;

/// Attribute of [`VmMachineAttribute`]: caching.
pub const MATTR_CACHE: u32 = 1;
/// Value of [`VmMachineAttribute`]: the cache is used.
pub const MATTR_VAL_ON: u32 = 1;
/// Value of [`VmMachineAttribute`]: asks.
pub const MATTR_VAL_GET: u32 = 2;
/// Value of [`VmMachineAttribute`]: flush all caches.
pub const MATTR_VAL_CACHE_FLUSH: u32 = 6;
/// Value of [`VmMachineAttribute`]: flush data caches.
pub const MATTR_VAL_DCACHE_FLUSH: u32 = 7;
/// Value of [`VmMachineAttribute`]: flush instruction caches.
pub const MATTR_VAL_ICACHE_FLUSH: u32 = 8;

protocol! {
    /// Client to VM server: attributes and advice.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_advice" at 5000, "client" to "VM server, on the map port of a task";

    /// Asks or sets a machine attribute. On x86 caches are coherent: the cache is on, and flushing
    /// it has nothing to do.
    ///
    /// Size 0 succeeds. In order: KERN_INVALID_ARGUMENT: `address + size` overflows.
    /// KERN_INVALID_ADDRESS: rounding overflows, or outside the map. KERN_INVALID_ARGUMENT: anything
    /// but to ask for the cache, or to flush it. KERN_FAILURE: a hole.
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
        /// ON, or the flush that was asked for.
        value: u32,
    };

    /// Sets or asks what may become of the contents of purgeable memory: what vm_allocate made with
    /// PURGABLE. Volatile memory may be emptied whenever frames run short; it reads zero from then on,
    /// and who makes it nonvolatile hears EMPTY, once. PURGE_ALL empties all volatile memory of this map,
    /// whatever `address` and `state` are.
    ///
    /// Volatile memory goes in the order of its word: what is obsolete; then by group, 0 first, in a
    /// group what is first in, first out before what is last in, first out; at last what does not age.
    /// Wired pages stay.
    ///
    /// In order: KERN_INVALID_ARGUMENT: `control` not 0, 1 or 2; to set, an undefined bit of `state`.
    /// KERN_INVALID_ADDRESS: nothing is mapped at `address`, or another map. KERN_PROTECTION_FAILURE: to
    /// set, it cannot be written. KERN_INVALID_ARGUMENT: it is not purgeable memory, mapped whole; to set,
    /// DENY. KERN_PROTECTION_FAILURE: to set, it was made with MAP_MEM_PURGABLE_KERNEL_ONLY.
    /// Source: R28, R203, C0185-C0199.
    5002 vm_purgable_control VmPurgableControl in words {
        /// An address in the memory.
        address: u64,
        /// `purgeable::SET_STATE`, `GET_STATE` or `PURGE_ALL`.
        control: u32,
        /// The state word to set: state, group, order, behaviour, ageing.
        state: u32,
    }
    reply VmPurgableControlReply {
        /// The state: to set, the one before; of PURGE_ALL, as it came.
        state: u32,
    };

    /// Makes the ring of deferred reclamation of this map: see `ipc_abi::reclaim` for how it lies in
    /// memory. A task puts ranges into it that it does without for now; the server takes them, oldest
    /// first, when frames run short, by [`MachVmDeferredReclamationBufferFlush`] and [`VmSwapout`].
    ///
    /// The ring is empty. A child with a copy of the memory has a ring of its own there. A ring that
    /// cannot be read, or makes no sense, or names memory that is not mapped, ends its task: its
    /// address space is taken away, so that each of its threads gets the exception
    /// KERN_INVALID_ADDRESS. In order:
    /// KERN_NOT_SUPPORTED: the server was started without it. KERN_INVALID_ARGUMENT: `len` 0, more than
    /// `max_len`, or `max_len` more than `reclaim::CAPACITY_MAX`. KERN_FAILURE: there is one.
    /// KERN_NO_SPACE. KERN_RESOURCE_SHORTAGE.
    /// Source: R206, R207, C0485, C0486.
    5003 mach_vm_deferred_reclamation_buffer_allocate MachVmDeferredReclamationBufferAllocate in words {
        /// Entries.
        len: u32,
        /// Entries that it may ever be resized to.
        max_len: u32,
    }
    reply MachVmDeferredReclamationBufferAllocateReply {
        /// Its address.
        address: u64,
    };

    /// Takes the oldest entries of the ring now.
    ///
    /// KERN_INVALID_ARGUMENT: there is no ring. KERN_TERMINATED: it was not what it should be.
    /// Source: R206, C0487, C0488.
    5004 mach_vm_deferred_reclamation_buffer_flush MachVmDeferredReclamationBufferFlush in words {
        /// Entries, as far as there are as many.
        count: u32,
    };

    /// Says how much the ring holds, which only the task knows: a ring that holds nothing is left alone
    /// when frames run short. Until it is said, a ring may hold anything.
    ///
    /// KERN_INVALID_ARGUMENT: there is no ring. Source: feature table 2.1.
    5005 mach_vm_deferred_reclamation_buffer_update_reclaimable_bytes MachVmDeferredReclamationBufferUpdateReclaimableBytes in words {
        /// Bytes.
        reclaimable_bytes: u64,
    };

    /// Takes all entries of the ring, then gives it another number of them. The task adds none meanwhile.
    ///
    /// KERN_INVALID_ARGUMENT: there is no ring; `len` 0, or more than it was made for.
    /// KERN_TERMINATED: as for the flush. Source: feature table 2.1.
    5006 mach_vm_deferred_reclamation_buffer_resize MachVmDeferredReclamationBufferResize in words {
        /// Entries.
        len: u32,
    };

    /// The task will not run for a while: takes all entries of its ring, then all translations of memory
    /// that is not wired. Whatever is touched comes back by a fault; contents stay. The kernel tells of
    /// a task that is suspended, and the same is done without this call.
    ///
    /// KERN_TERMINATED: as for the flush.
    /// Source: R207, C0492; feature table row 60.
    5007 vm_swapout VmSwapout in words {};
}
