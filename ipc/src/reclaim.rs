//! Deferred reclamation: memory that this task does without for now, and takes back if the VM server has
//! not needed it.
//!
//! How the ring lies in memory, and who writes what of it, is in `ipc_abi::reclaim`. The words that both
//! sides write are atomic here. The order that matters is that of *tail is set* and *busy is looked at*
//! in [`Ring::take_back`], hence the fence between them.

use crate::right::SendRight;
use crate::vm;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::reclaim::{self as layout, Behavior, Entry};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate, MachVmDeferredReclamationBufferFlush,
    MachVmDeferredReclamationBufferResize, MachVmDeferredReclamationBufferUpdateReclaimableBytes,
};
use ipc_protocol::vm_map::Map;

impl SendRight<Map> {
    /// [`MachVmDeferredReclamationBufferAllocate`]: gives the address. [`Ring::new`] is the safe face.
    #[doc(alias = "mach_vm_deferred_reclamation_buffer_allocate")]
    pub fn reclamation_allocate(&self, len: u32, max_len: u32) -> Result<u64, Kern> {
        let reply = self.call(&MachVmDeferredReclamationBufferAllocate { len, max_len })?;
        Ok(reply.address)
    }

    /// [`MachVmDeferredReclamationBufferFlush`].
    #[doc(alias = "mach_vm_deferred_reclamation_buffer_flush")]
    pub fn reclamation_flush(&self, count: u32) -> Result<(), Kern> {
        self.call(&MachVmDeferredReclamationBufferFlush { count })
    }

    /// [`MachVmDeferredReclamationBufferUpdateReclaimableBytes`].
    #[doc(alias = "mach_vm_deferred_reclamation_buffer_update_reclaimable_bytes")]
    pub fn reclamation_update(&self, reclaimable_bytes: u64) -> Result<(), Kern> {
        self.call(&MachVmDeferredReclamationBufferUpdateReclaimableBytes { reclaimable_bytes })
    }

    /// [`MachVmDeferredReclamationBufferResize`].
    #[doc(alias = "mach_vm_deferred_reclamation_buffer_resize")]
    pub fn reclamation_resize(&self, len: u32) -> Result<(), Kern> {
        self.call(&MachVmDeferredReclamationBufferResize { len })
    }
}

/// An entry of the ring, for [`Ring::take_back`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// This task's ring. There is one in a task, and it lives as long as the task.
#[derive(Debug)]
pub struct Ring {
    words: &'static [AtomicU64],
    len: u32,
}

impl Ring {
    /// Makes the ring: for `len` entries, and room for `max_len`.
    ///
    /// # Errors
    /// Those of [`MachVmDeferredReclamationBufferAllocate`].
    pub fn new(len: u32, max_len: u32) -> Result<Ring, Kern> {
        let address = vm::own().reclamation_allocate(len, max_len)?;
        let words = (layout::ring_size(max_len) / 8) as usize;
        // SAFETY: the server has just made the memory, zero and readable and writable, as large as this,
        // on a page boundary; nothing else of this task knows of it, and it is never given back.
        // What the server writes to it meanwhile are words as well.
        let words = unsafe { core::slice::from_raw_parts(address as *const AtomicU64, words) };
        Ok(Ring { words, len })
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        // Offsets come from the layout, so they are inside; a place that is not is the first.
        let place = (offset / 8) as usize;
        self.words.get(place).unwrap_or(&self.words[0])
    }

    fn load(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    fn put(&self, number: u64, entry: Entry) {
        let offset = layout::entry_offset(number, self.len);
        let [address, rest] = entry.to_words();
        self.word(offset).store(address, Ordering::Relaxed);
        self.word(offset + 8).store(rest, Ordering::Relaxed);
    }

    /// Entries that are in the ring and not taken.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let tail = self.load(layout::TAIL);
        tail.saturating_sub(self.load(layout::HEAD))
    }

    /// Puts a range of this task's memory into the ring; `None`: the ring is full, which
    /// [`Ring::flush`] mends.
    ///
    /// # Safety
    /// The range is whole pages of private anonymous memory that the caller has to itself, and nothing
    /// uses it, nor gives it back, until [`Ring::take_back`] says that it is the caller's again. From
    /// now on it may vanish.
    pub unsafe fn add(&mut self, address: u64, size: u32, behavior: Behavior) -> Option<Ticket> {
        if size == 0 || self.pending() >= u64::from(self.len) {
            return None;
        }
        debug_assert!(address.is_multiple_of(PAGE_SIZE), "not whole pages");
        let tail = self.load(layout::TAIL);
        let entry = Entry {
            address,
            size,
            behavior: behavior as u32,
        };
        self.put(tail, entry);
        self.word(layout::TAIL).store(tail + 1, Ordering::Release);
        Some(Ticket(tail))
    }

    /// Takes a range back. `false`: the server has it, or had it; it is gone for the task.
    pub fn take_back(&mut self, ticket: Ticket) -> bool {
        let Ticket(number) = ticket;
        let tail = self.load(layout::TAIL);
        if number < self.load(layout::BUSY) || number >= tail {
            return false;
        }
        self.word(layout::TAIL).store(number, Ordering::Relaxed);
        // Either the server sees the new tail before it claims, or this sees what it has claimed.
        fence(Ordering::SeqCst);
        let mine = number >= self.load(layout::BUSY);
        if mine {
            let nothing = Entry {
                address: 0,
                size: 0,
                behavior: 0,
            };
            self.put(number, nothing);
        }
        self.word(layout::TAIL).store(tail, Ordering::Release);
        mine
    }

    /// Has the oldest entries taken now, up to `count` of them.
    ///
    /// # Errors
    /// Those of [`MachVmDeferredReclamationBufferFlush`].
    pub fn flush(&mut self, count: u32) -> Result<(), Kern> {
        vm::own().reclamation_flush(count)
    }

    /// Tells the server how much the ring holds.
    ///
    /// # Errors
    /// Those of [`MachVmDeferredReclamationBufferUpdateReclaimableBytes`].
    pub fn update(&mut self, reclaimable_bytes: u64) -> Result<(), Kern> {
        vm::own().reclamation_update(reclaimable_bytes)
    }

    /// Has all entries taken, and changes their number.
    ///
    /// # Errors
    /// Those of [`MachVmDeferredReclamationBufferResize`].
    pub fn resize(&mut self, len: u32) -> Result<(), Kern> {
        vm::own().reclamation_resize(len)?;
        self.len = len;
        Ok(())
    }
}
