//! The table store over physical memory: the one place that turns a frame into a pointer.
//!
//! All of RAM is mapped at `DIRECT_MAP`. [`DirectMap`] reads and writes table words there as
//! atomics, since processors set accessed and dirty bits at any time; [`pointer()`] is for the few
//! others who look into a frame: the pool, IPC buffers, the loader of the first task.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;
use kernel_core::addr::{Frame, PhysAddr};
use kernel_core::paging::{Entry, TABLE_ENTRIES, TableStore, USER_ENTRIES, lower_each};

use crate::arch::layout::DIRECT_MAP;
use crate::arch::vector;
use crate::frames::{self, Depth};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const NO_EXECUTE: u64 = 1 << 63;
/// Words that are looked at or changed without a branch in between.
const GROUP: usize = 8;

/// Where the kernel sees a frame of RAM. The pointer is aligned to the page, and valid for reads
/// and writes of the page unless the frame holds the kernel's text or constants.
pub(crate) const fn pointer(frame: Frame) -> *mut u8 {
    (DIRECT_MAP + frame.start().raw()) as *mut u8
}

/// The frame that the kernel sees at an address of the direct map.
pub(crate) fn frame(address: u64) -> Option<Frame> {
    PhysAddr::new(address.checked_sub(DIRECT_MAP)?).map(PhysAddr::frame)
}

/// Fills a frame with zeros.
///
/// # Safety
/// The frame is RAM that belongs to the caller alone: in no table, buffer or heap.
pub(crate) unsafe fn zero(frame: Frame) {
    // SAFETY: the direct map shows the whole page, and nobody else uses it (the caller's duty).
    unsafe { vector::zero(pointer(frame), PAGE_SIZE as usize) };
}

/// Puts `data` (at most a page of it) at the start of a frame.
///
/// # Safety
/// As for [`zero`].
pub(crate) unsafe fn fill(frame: Frame, data: &[u8]) {
    let length = data.len().min(PAGE_SIZE as usize);
    // SAFETY: the length is inside the page; the rest as in `zero`.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), pointer(frame), length) };
}

/// The bytes at a physical address.
///
/// # Safety
/// They are RAM that the direct map shows and that nobody writes to as long as the slice is used.
pub(crate) unsafe fn bytes(start: PhysAddr, length: usize) -> &'static [u8] {
    // SAFETY: the direct map shows RAM in one piece; the rest is the caller's duty.
    unsafe { core::slice::from_raw_parts((DIRECT_MAP + start.raw()) as *const u8, length) }
}

/// Table words in physical memory.
#[derive(Debug)]
pub(crate) struct DirectMap {
    defined: u64,
    depth: Depth,
}

impl DirectMap {
    /// The store; without `no_execute` the processor knows no such bit, and none is written.
    pub(crate) const fn new(no_execute: bool) -> DirectMap {
        DirectMap {
            defined: if no_execute { u64::MAX } else { !NO_EXECUTE },
            depth: Depth::Normal,
        }
    }

    /// Lets tables be made of the pool's last frames, or no longer.
    pub(crate) fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    /// Makes a root table out of a frame with any contents: its user half is empty, its kernel half that
    /// of another.
    ///
    /// # Safety
    /// The frame belongs to the caller alone; the kernel half of `from` does not change any more.
    pub(crate) unsafe fn make_root(&self, from: Frame, frame: Frame) {
        let half = USER_ENTRIES * size_of::<u64>();
        let (from, to) = (pointer(from), pointer(frame));
        // SAFETY: both are whole pages in the direct map, of which the halves are written once and read
        // only (the caller's word).
        unsafe {
            vector::zero(to, half);
            ptr::copy_nonoverlapping(from.add(half), to.add(half), half);
        }
    }

    fn words(&self, table: Frame) -> &[AtomicU64; TABLE_ENTRIES] {
        // SAFETY: `table` is a root or came from `allocate`, as the trait demands, so it is a frame
        // of the kernel's used as a table only; everybody accesses tables by atomics.
        unsafe { &*pointer(table).cast() }
    }

    fn word(&self, table: Frame, index: usize) -> &AtomicU64 {
        &self.words(table)[index % TABLE_ENTRIES]
    }
}

impl TableStore for DirectMap {
    fn read(&self, table: Frame, index: usize) -> Entry {
        Entry::from_raw(self.word(table, index).load(Ordering::Acquire))
    }

    fn write(&mut self, table: Frame, index: usize, entry: Entry) {
        let raw = entry.raw() & self.defined;
        self.word(table, index).store(raw, Ordering::Release);
    }

    fn exchange(&mut self, table: Frame, index: usize, entry: Entry) -> Entry {
        let raw = entry.raw() & self.defined;
        Entry::from_raw(self.word(table, index).swap(raw, Ordering::AcqRel))
    }

    fn compare_exchange(
        &mut self,
        table: Frame,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry> {
        let new = new.raw() & self.defined;
        self.word(table, index)
            .compare_exchange(old.raw(), new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Entry::from_raw)
    }

    #[inline(always)]
    fn fill(&self, table: Frame, index: usize, old: Entry, new: Entry) -> bool {
        let new = new.raw() & self.defined;
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let word = self.word(table, index);
        word.compare_exchange(old.raw(), new, success, failure)
            .is_ok()
    }

    fn next_present(&self, table: Frame, index: usize, end: usize) -> usize {
        let words = self.words(table);
        let present = |word: &AtomicU64| word.load(Ordering::Relaxed) & PRESENT;
        let mut index = index;
        while let Some(rest) = words.get(index..).filter(|_| index < end) {
            // Where tables are sparse, most groups have nothing.
            match rest.first_chunk::<GROUP>() {
                Some(group) if group.iter().fold(0, |all, word| all | present(word)) == 0 => {
                    index += GROUP;
                }
                _ if rest.first().is_some_and(|word| present(word) != 0) => return index,
                _ => index += 1,
            }
        }
        end
    }

    fn lower_all(&mut self, table: Frame, keep: Prot) {
        if !keep.contains(Prot::EXECUTE) {
            return lower_each(self, table, keep);
        }
        // What is not present has no such bit: no look is needed, and no loop round a change.
        let mask = if keep.contains(Prot::WRITE) {
            u64::MAX
        } else {
            !WRITE
        };
        for group in self.words(table).chunks_exact(GROUP) {
            for word in group {
                word.fetch_and(mask, Ordering::AcqRel);
            }
        }
    }

    fn allocate(&mut self) -> Option<Frame> {
        frames::allocate(self.depth)
    }

    fn free(&mut self, table: Frame) {
        frames::free(table);
    }
}
