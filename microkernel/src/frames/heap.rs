//! The kernel's heap: `talc` over frames of the pool, which it takes as it needs them.
//!
//! Whatever allocates here can fail, and kernel-core allocates only where it can say so. Memory
//! comes in runs of frames that are mapped in the direct map anyway; once nothing is left in one
//! piece the heap goes on by single frames, which hold everything but large tables.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use ipc_abi::layout::PAGE_SIZE;
use kernel_core::rank::Rank;
use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;

use super::{Depth, allocate, allocate_run, failing};
use crate::lock::Lock;
use crate::pmap::direct_map;

/// Frames that the heap takes at once: 64 KiB.
const RUN: u32 = 16;
/// What the allocator may need of a claim besides what was asked for.
const OVERHEAD: usize = 256;

struct Heap(Lock<Talc<FromPool, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(Lock::new(Rank::Heap, Talc::new(FromPool)));

/// Where the heap's memory comes from.
#[derive(Debug)]
struct FromPool;

// SAFETY: `acquire` uses the allocator only through its argument; the pool allocates nothing.
unsafe impl Source for FromPool {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let needed = layout
            .size()
            .saturating_add(layout.align())
            .saturating_add(OVERHEAD);
        let frames = u32::try_from(needed.div_ceil(PAGE_SIZE as usize)).map_err(|_| ())?;
        let (first, count) = match allocate_run(frames.max(RUN)) {
            Some(first) => (first, frames.max(RUN)),
            None if frames == 1 => (allocate(Depth::Normal).ok_or(())?, 1),
            None => return Err(()),
        };
        let size = count as usize * PAGE_SIZE as usize;
        // SAFETY: the frames are RAM in one piece, shown in one piece by the direct map, and were
        // taken from the pool for the heap alone, for ever.
        unsafe { talc.claim(direct_map::pointer(first), size) }
            .map(|_| ())
            .ok_or(())
    }
}

// SAFETY: the calls go to `talc`, behind a lock; memory that it was given is used by nobody else.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if failing::is_due() {
            return ptr::null_mut();
        }
        // SAFETY: the size is not zero, as the caller has to see to.
        match unsafe { self.0.lock().allocate(layout) } {
            Some(pointer) => pointer.as_ptr(),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `alloc` gave the pointer for this layout, as the caller has to see to.
        unsafe { self.0.lock().deallocate(pointer, layout) }
    }
}
