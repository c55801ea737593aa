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
}
