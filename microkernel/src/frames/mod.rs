//! The frames of the machine: who owns each, and the kernel's own pool.
//!
//! At boot the kernel takes a pool in blocks of 2 MiB from the highest memory, and gives every
//! other frame to the VM server. The pool serves page tables and IPC buffers, one frame at a time
//! from a chain through the free frames themselves, and the heap, by runs, of which there is another
//! chain; a run is taken apart when nothing else is left. A frame is zeroed when it is handed out. Below the low-water mark the VM server is asked for more ([`take_shortage`]); the last few
//! frames are kept for what makes a donation possible.

pub(crate) mod buffer;
pub(crate) mod failing;
mod heap;

use core::sync::atomic::{AtomicBool, Ordering};

use heapless::Vec;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::{KERNEL_DEVICES, PAGE_SIZE};
use kernel_core::addr::{Frame, LARGE_FRAMES};
use kernel_core::memory_map::{self, FrameRanges};
use kernel_core::owner::{FrameRecord, OwnerId, Owners};
use kernel_core::rank::Rank;
use spin::Once;

use crate::lock::Lock;
use crate::pmap::direct_map;

/// The pool is this part of memory...
const POOL_PART: u32 = 32;
/// ...but not less than 4 MiB...
const POOL_MIN: u32 = 2 * LARGE_FRAMES;
/// ...and not more than 64 MiB.
const POOL_MAX: u32 = 32 * LARGE_FRAMES;
/// Pieces that a pool can have at boot.
const PIECES_MAX: usize = 32;
/// Frames that the heap takes at once: 64 KiB.
const RUN: u32 = 16;
/// Frames that only a donation may use: the tables that split large pages of the window.
const RESERVE: u32 = 8;
/// The low-water mark is this part of the pool.
const LOW_PART: u32 = 8;

/// How deep into the pool an allocation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Not into the reserve.
    Normal,
    /// To the last frame.
    Reserve,
}

/// The kernel's free frames.
struct Pool {
    /// Chain of single frames; the first word of each is the number of the next, or `END`.
    chain: Option<Frame>,
    /// Chain of runs that the heap gave back, by the first words of their first frames.
    runs: Option<Frame>,
    /// Frames that have not been used since boot.
    fresh: Vec<FrameRange, PIECES_MAX>,
    total: u32,
    free: u32,
}

/// Ends the chain: no frame has this number.
const END: u64 = u64::MAX;

static POOL: Lock<Pool> = Lock::new(
    Rank::Pool,
    Pool {
        chain: None,
        runs: None,
        fresh: Vec::new(),
        total: 0,
        free: 0,
    },
);
static OWNERS: Once<Owners<'static>> = Once::new();
static NO_OWNERS: Owners<'static> = Owners::new(&[]);
static SHORT: AtomicBool = AtomicBool::new(false);

/// The owner of each frame.
pub(crate) fn owners() -> &'static Owners<'static> {
    OWNERS.get().unwrap_or(&NO_OWNERS)
}

/// Takes a frame, all zero, which is the kernel's.
pub(crate) fn allocate(depth: Depth) -> Option<Frame> {
    let frame = allocate_as_it_is(depth)?;
    // SAFETY: the frame was free, so that it is RAM that nobody uses, and is now the caller's.
    unsafe { direct_map::zero(frame) };
    Some(frame)
}

/// As [`allocate`], for a caller who writes all of the frame: it is not zeroed.
pub(crate) fn allocate_as_it_is(depth: Depth) -> Option<Frame> {
    if failing::is_due() {
        return None;
    }
    POOL.lock().take(depth)
}

/// Takes `count` frames in one piece, not zeroed: from what was never used, or a run that came back.
fn allocate_run(count: u32) -> Option<Frame> {
    POOL.lock().take_run(count)
}

/// Gives back a frame of the kernel's that nothing refers to any more.
pub(crate) fn free(frame: Frame) {
    POOL.lock().put(frame);
}

/// Gives back a run of the heap's that nothing refers to any more.
fn free_run(first: Frame) {
    POOL.lock().put_run(first);
}

/// Adds a frame that was given to the kernel.
pub(crate) fn add(frame: Frame) {
    let mut pool = POOL.lock();
    pool.total += 1;
    pool.put(frame);
}

/// A free frame that the pool can do without; it is not the pool's any more.
pub(crate) fn spare() -> Option<Frame> {
    let mut pool = POOL.lock();
    if pool.free <= 2 * pool.mark() {
        return None;
    }
    let frame = pool.take(Depth::Normal)?;
    pool.total -= 1;
    Some(frame)
}

/// Frames that the pool has in all, and those that are free.
pub(crate) fn counts() -> (u32, u32) {
    let pool = POOL.lock();
    (pool.total, pool.free)
}

/// Whether [`take_shortage`] may have something to tell.
#[inline]
pub(crate) fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Tells once, after the pool fell below its low-water mark, how many frames it would like.
pub(crate) fn take_shortage() -> Option<u64> {
    if !SHORT.load(Ordering::Relaxed) {
        return None;
    }
    SHORT.store(false, Ordering::Relaxed);
    POOL.lock().wanted()
}

/// Looks again whether the pool is low: after a donation, or when somebody can be told.
pub(crate) fn check_shortage() {
    let low = POOL.lock().wanted().is_some();
    SHORT.store(low, Ordering::Relaxed);
}

impl Pool {
    fn take(&mut self, depth: Depth) -> Option<Frame> {
        if depth == Depth::Normal && self.free <= RESERVE {
            SHORT.store(true, Ordering::Relaxed);
            return None;
        }
        let frame = match unchain(&mut self.chain).or_else(|| self.take_fresh(1)) {
            Some(frame) => frame,
            None => {
                let first = unchain(&mut self.runs)?;
                for number in (1..RUN).rev() {
                    chain(&mut self.chain, Frame::new(first.number() + number)?);
                }
                first
            }
        };
        self.taken(1);
        Some(frame)
    }

    fn take_run(&mut self, count: u32) -> Option<Frame> {
        if self.free < count.saturating_add(RESERVE) {
            SHORT.store(true, Ordering::Relaxed);
            return None;
        }
        let run = (count == RUN).then(|| unchain(&mut self.runs)).flatten();
        let frame = run.or_else(|| self.take_fresh(count))?;
        self.taken(count);
        Some(frame)
    }

    fn take_fresh(&mut self, count: u32) -> Option<Frame> {
        let range = self.fresh.iter_mut().find(|range| range.count >= count)?;
        let frame = Frame::new(range.first)?;
        range.first += count;
        range.count -= count;
        Some(frame)
    }

    fn taken(&mut self, count: u32) {
        let above = self.free >= self.mark();
        self.free -= count;
        if above && self.free < self.mark() {
            SHORT.store(true, Ordering::Relaxed);
        }
    }

    fn put(&mut self, frame: Frame) {
        chain(&mut self.chain, frame);
        self.free += 1;
    }

    fn put_run(&mut self, first: Frame) {
        chain(&mut self.runs, first);
        self.free += RUN;
    }

    fn mark(&self) -> u32 {
        (self.total / LOW_PART).max(4 * RESERVE)
    }

    fn wanted(&self) -> Option<u64> {
        let mark = self.mark();
        (self.free < mark).then(|| u64::from(2 * mark - self.free))
    }
}

/// Puts a frame of the kernel's that nothing refers to in front of a chain of such.
fn chain(chain: &mut Option<Frame>, frame: Frame) {
    let next = chain.map_or(END, |next| u64::from(next.number()));
    // SAFETY: the frame is the kernel's and nothing refers to it (the caller's word), so that
    // its first word is free for the chain.
    unsafe { direct_map::pointer(frame).cast::<u64>().write(next) };
    *chain = Some(frame);
}

/// Takes the first frame of a chain.
fn unchain(chain: &mut Option<Frame>) -> Option<Frame> {
    let frame = (*chain)?;
    // SAFETY: the frame is free and chained, so that its first word was written by `chain` and nobody
    // else uses it.
    let next = unsafe { direct_map::pointer(frame).cast::<u64>().read() };
    *chain = u32::try_from(next).ok().and_then(Frame::new);
    Some(frame)
}

/// Makes the owner table and the pool, with `extra` frames beyond its usual size, out of `usable`
/// memory, and gives the rest of it to the VM server. `image` is the server's too. Frames below
/// `limit` that are neither are nobody's if `memory` has them, else a device's.
///
/// # Errors
/// What is missing, as a text.
pub(crate) fn init(
    usable: &mut FrameRanges,
    memory: &FrameRanges,
    image: FrameRange,
    extra: u32,
) -> Result<(), &'static str> {
    let limit = memory
        .last()
        .map_or(0, |range| range.first.saturating_add(range.count));
    let table = (limit as usize * size_of::<FrameRecord>()).div_ceil(PAGE_SIZE as usize) as u32;
    let usual = (memory_map::total(memory) / POOL_PART).clamp(POOL_MIN, POOL_MAX);
    let wanted = (usual + extra + table).next_multiple_of(LARGE_FRAMES);
    let mut pieces = take_pieces(usable, wanted)
        .ok_or("too little memory for the kernel: the least is 16 MiB")?;
    let records = pieces
        .first_mut()
        .and_then(|piece| place_table(piece, table, limit))
        .ok_or("no memory in one piece for the table of frame owners")?;
    let mut owners = Owners::new(records);
    for range in KERNEL_DEVICES {
        if !Frame::new(range.first).is_some_and(|first| owners.keep_device(first, range.count)) {
            return Err("no room to note the interrupt controllers");
        }
    }
    place_all(&owners, memory, OwnerId::NONE);
    place_all(&owners, usable, OwnerId::FIRST_SERVER);
    place_all(&owners, &[image], OwnerId::FIRST_SERVER);
    place_all(&owners, &pieces, OwnerId::KERNEL);
    let mut pool = POOL.lock();
    pool.total = memory_map::total(&pieces);
    pool.free = pool.total;
    pool.fresh = pieces;
    OWNERS.call_once(|| owners);
    Ok(())
}

/// Takes frames from the highest places, in as few pieces of 2 MiB blocks as there can be.
fn take_pieces(usable: &mut FrameRanges, wanted: u32) -> Option<Vec<FrameRange, PIECES_MAX>> {
    let mut pieces = Vec::new();
    let mut left = wanted;
    let mut size = wanted;
    while left > 0 {
        size = size.min(left);
        match memory_map::take(usable, size, LARGE_FRAMES) {
            Some(first) => {
                pieces.push(FrameRange { first, count: size }).ok()?;
                left -= size;
            }
            None if size > LARGE_FRAMES => size = (size / 2).next_multiple_of(LARGE_FRAMES),
            None => return None,
        }
    }
    Some(pieces)
}

/// Puts the records of `limit` frames at the start of the piece, which is cut by them.
fn place_table(piece: &mut FrameRange, frames: u32, limit: u32) -> Option<&'static [FrameRecord]> {
    let first = Frame::new(piece.first).filter(|_| frames <= piece.count)?;
    piece.first += frames;
    piece.count -= frames;
    let records = direct_map::pointer(first).cast::<FrameRecord>();
    for index in 0..limit as usize {
        // SAFETY: the frames of the piece are free RAM in a row, now the table's for ever, and hold
        // `limit` records.
        unsafe { records.add(index).write(FrameRecord::device()) };
    }
    // SAFETY: as above, and every record is initialised.
    Some(unsafe { core::slice::from_raw_parts(records, limit as usize) })
}

fn place_all(owners: &Owners<'_>, ranges: &[FrameRange], owner: OwnerId) {
    for range in ranges {
        let end = range.first.saturating_add(range.count);
        for frame in (range.first..end).filter_map(Frame::new) {
            owners.place(frame, owner);
        }
    }
}
