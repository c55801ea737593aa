//! The server's own heap: runs of frames, seen through the physical window.
//!
//! All of the server's memory is resident, and it never faults on itself. A first run is taken
//! before the core gets the rest; when little is left, the loop takes another from the core, between
//! two events. When there is none, allocations fail and the core answers KERN_RESOURCE_SHORTAGE.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

use ipc::sync::RawLock;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use talc::TalcLock;
use talc::source::Manual;

/// Bytes below which the heap wants more: what the steps of one event allocate, many times over.
const LOW: usize = 512 * 1024;

/// Bytes below which it is given more while nobody wants the processor, so that no call has to wait.
const AHEAD: usize = 4 * LOW;

/// Frames that the heap is given at a time.
pub(crate) const PIECE: u32 = 256;

struct Heap {
    talc: TalcLock<RawLock, Manual>,
    /// Bytes that are not in use, more or less: what the allocator needs for itself is not counted.
    free: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    talc: TalcLock::new(Manual),
    free: AtomicUsize::new(0),
};

// SAFETY: hands everything to `talc`, which keeps the contract, and counts.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of `talc`.
        let block = unsafe { self.talc.alloc(layout) };
        if !block.is_null() {
            self.free.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.talc.dealloc(block, layout) }
        self.free.fetch_add(layout.size(), Ordering::Relaxed);
    }
}

/// Gives frames to the heap, for good.
///
/// # Safety
/// The frames must be the server's, and nobody else's from now on.
pub(crate) unsafe fn give(frames: FrameRange) {
    let start = PHYSICAL_WINDOW + u64::from(frames.first) * PAGE_SIZE;
    let size = (u64::from(frames.count) * PAGE_SIZE) as usize;
    let base = core::ptr::with_exposed_provenance_mut(start as usize);
    // SAFETY: the frames are mapped read-write in the window; the caller answers for the rest.
    if unsafe { HEAP.talc.lock().claim(base, size) }.is_some() {
        HEAP.free.fetch_add(size, Ordering::Relaxed);
    }
}

/// Whether the heap should be given more soon.
#[inline]
pub(crate) fn is_low() -> bool {
    has_less(LOW)
}

/// Whether the heap should be given more when there is time.
pub(crate) fn wants_more() -> bool {
    has_less(AHEAD)
}

#[inline]
fn has_less(bytes: usize) -> bool {
    // Fragments and the allocator's own needs may take it below 0.
    let free = HEAP.free.load(Ordering::Relaxed);
    free < bytes || free > isize::MAX as usize
}
