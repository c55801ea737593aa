//! Traps of memory servers: address spaces, what they map, and whose frames are.

use ipc_abi::Kern;
use ipc_abi::pass::Pass;
use ipc_abi::right::Name;
use ipc_abi::trap::Trap;
use ipc_abi::types::Prot;

use super::{done, named, trap};

/// Makes an address space. See [`Trap::SpaceCreate`].
pub fn space_create(host_memory: Name) -> Result<Name, Kern> {
    named(Trap::SpaceCreate, [host_memory.into(), 0, 0, 0, 0, 0])
}

/// Runs the batch of `length` bytes in the buffer's body; gives the number of runs done. See
/// [`Trap::PmapBatch`].
///
/// # Safety
/// No page that Rust code of this task relies on may change under it, and the body of this
/// thread's IPC buffer must not be borrowed.
#[inline]
pub unsafe fn pmap_batch(length: usize) -> Result<u64, Kern> {
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::PmapBatch, [length as u64, 0, 0, 0, 0, 0]) }.map(|[runs, _]| runs)
}

/// Reduces the page at `address` to `keep`, if it maps `frame`; gives the word that says what was seen.
/// See [`Trap::PmapTake`].
///
/// # Safety
/// No page that Rust code of this task relies on may change under it.
#[inline]
pub unsafe fn pmap_take(
    space: Name,
    keep: Prot,
    address: u64,
    epoch: u64,
    frame: u32,
) -> Result<u32, Kern> {
    let words = [
        space.into(),
        keep.bits().into(),
        address,
        epoch,
        frame.into(),
        0,
    ];
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::PmapTake, words) }.map(|[seen, _]| seen as u32)
}

/// Passes pages, whose frames the body names, from one space to another; gives how many are shown. See
/// [`Trap::PmapPass`].
///
/// # Safety
/// As for [`pmap_batch`].
#[inline]
pub unsafe fn pmap_pass(pass: &Pass) -> Result<u32, Kern> {
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::PmapPass, pass.to_words()) }.map(|[entered, _]| entered as u32)
}

/// Gives frames to the kernel. See [`Trap::FrameDonate`].
///
/// # Safety
/// Nothing may use the frames through the physical window any more.
pub unsafe fn frame_donate(host_memory: Name, first: u32, count: u32) -> Result<(), Kern> {
    // SAFETY: the caller's duty.
    unsafe {
        trap(
            Trap::FrameDonate,
            [host_memory.into(), first.into(), count.into(), 0, 0, 0],
        )
    }
    .map(|_| ())
}

/// Says where *kernel memory low* goes. See [`Trap::HostSetMemoryLow`].
pub fn host_set_memory_low(host_memory: Name, notify: Name) -> Result<(), Kern> {
    done(
        Trap::HostSetMemoryLow,
        [host_memory.into(), notify.into(), 0, 0, 0, 0],
    )
}

/// Makes an owner of frames. See [`Trap::OwnerCreate`].
pub fn owner_create(host_memory: Name, space: Name) -> Result<Name, Kern> {
    named(
        Trap::OwnerCreate,
        [host_memory.into(), space.into(), 0, 0, 0, 0],
    )
}

/// Gives frames to an owner right below. See [`Trap::FrameGive`].
///
/// # Safety
/// Nothing may use the frames through the physical window any more.
pub unsafe fn frame_give(
    host_memory: Name,
    owner: Name,
    first: u32,
    count: u32,
) -> Result<(), Kern> {
    let arguments = [
        host_memory.into(),
        owner.into(),
        first.into(),
        count.into(),
        0,
        0,
    ];
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::FrameGive, arguments) }.map(|_| ())
}

/// Ends an owner right below. See [`Trap::OwnerDestroy`].
pub fn owner_destroy(host_memory: Name, owner: Name) -> Result<(), Kern> {
    done(
        Trap::OwnerDestroy,
        [host_memory.into(), owner.into(), 0, 0, 0, 0],
    )
}

/// Takes back frames of owners that have ended: how many ranges there are in the buffer's body, and
/// whether there may be more. See [`Trap::OwnerCollect`].
///
/// # Safety
/// The body of this thread's IPC buffer must not be borrowed.
pub unsafe fn owner_collect(host_memory: Name) -> Result<(u64, bool), Kern> {
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::OwnerCollect, [host_memory.into(), 0, 0, 0, 0, 0]) }
        .map(|[ranges, more]| (ranges, more != 0))
}

/// Takes back frames that were given to the kernel: how many ranges there are in the buffer's body. See
/// [`Trap::FrameReclaim`].
///
/// # Safety
/// The body of this thread's IPC buffer must not be borrowed.
pub unsafe fn frame_reclaim(host_memory: Name, count: u32) -> Result<u64, Kern> {
    let arguments = [host_memory.into(), count.into(), 0, 0, 0, 0];
    // SAFETY: the caller's duty.
    unsafe { trap(Trap::FrameReclaim, arguments) }.map(|[ranges, _]| ranges)
}
