//! The kernel's heap: `talc` over frames of the pool, which it takes as it needs them.
//!
//! Whatever allocates here can fail, and kernel-core allocates only where it can say so. Memory
//! comes in runs of frames that are mapped in the direct map anyway; once nothing is left in one
//! piece the heap goes on by single frames, which hold everything but large tables. A run in which
//! nothing lies any more goes back to the pool.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use ipc_abi::layout::PAGE_SIZE;
use kernel_core::rank::Rank;
use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;

use super::{Depth, RUN, allocate, allocate_run, failing, free, free_run};
use crate::lock::Lock;
use crate::pmap::direct_map;

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
        // taken from the pool for the heap alone, until `resize` gives them back.
        unsafe { talc.claim(direct_map::pointer(first), size) }
            .map(|_| ())
            .ok_or(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, base: *mut u8, end: *mut u8, is_all: bool) -> *mut u8 {
        if !is_all {
            return end;
        }
        // What was claimed are whole frames, and begins at most a page below: with the mark of its start.
        let pages = (base as u64 - 1) / PAGE_SIZE..end as u64 / PAGE_SIZE;
        let frame = |page| direct_map::frame(page * PAGE_SIZE);
        match (frame(pages.start), pages.end - pages.start) {
            (Some(first), count) if count == u64::from(RUN) => free_run(first),
            _ => pages.filter_map(frame).for_each(free),
        }
        base
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
