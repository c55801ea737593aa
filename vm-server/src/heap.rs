//! The server's own heap: one run of frames, seen through the physical window.
//!
//! All of the server's memory is resident, and it never faults on itself. The run is taken before
//! the core gets the rest; when it is used up, allocations fail and the core answers
//! KERN_RESOURCE_SHORTAGE.

use ipc::sync::RawLock;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<RawLock, Manual> = TalcLock::new(Manual);

/// Gives frames to the heap, for good.
///
/// # Safety
/// The frames must be the server's, and nobody else's from now on.
pub(crate) unsafe fn give(frames: FrameRange) {
    let start = PHYSICAL_WINDOW + u64::from(frames.first) * PAGE_SIZE;
    let size = u64::from(frames.count) * PAGE_SIZE;
    let base = core::ptr::with_exposed_provenance_mut(start as usize);
    // SAFETY: the frames are mapped read-write in the window; the caller answers for the rest.
    unsafe { HEAP.lock().claim(base, size as usize) };
}
