//! Ready threads of one processor: 32 fixed priorities, first come first served inside each.

use alloc::vec::Vec;

use crate::{ThreadId, cells::ThreadCells, queue::Queue, seat::Seat, slab::Slab, thread::Thread};
use ipc_abi::{Kern, message::FOREVER};

/// How many priorities there are; the highest runs first.
pub(crate) const PRIORITIES: usize = 32;

/// The rank of a thread that no fast path may make the running one.
pub(crate) const NO_RANK: u8 = 0;

/// The rank of a priority: what [`Seat::is_below`] compares.
#[inline]
pub(crate) const fn rank(priority: u8) -> u8 {
    priority.saturating_add(1)
}

/// The threads that wait for a processor.
#[derive(Debug)]
pub(crate) struct RunQueue {
    /// On the heap, so that a processor's state is small enough to be exchanged.
    levels: Vec<Level>,
    /// Has a bit for each level, by rank, that is not empty.
    seat: &'static Seat,
    /// How many threads wait.
    len: usize,
}

/// A priority.
#[derive(Debug)]
struct Level {
    threads: Queue,
    /// When the turn of whoever runs at this priority ends; `FOREVER`: not begun.
    slice: u64,
}

impl RunQueue {
    /// The queue of a processor that is not there, with a seat that nobody has.
    pub(crate) const fn none(seat: &'static Seat) -> RunQueue {
        RunQueue {
            levels: Vec::new(),
            seat,
            len: 0,
        }
    }

    /// An empty queue for whoever waits for this seat.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn new(seat: &'static Seat) -> Result<RunQueue, Kern> {
        let mut queue = RunQueue::none(seat);
        let reserved = queue.levels.try_reserve_exact(PRIORITIES);
        reserved.map_err(|_| Kern::ResourceShortage)?;
        queue.levels.resize_with(PRIORITIES, || Level {
            threads: Queue::default(),
            slice: FOREVER,
        });
        Ok(queue)
    }

    /// The priority of the most important thread.
    #[inline]
    pub(crate) fn top(&self) -> Option<u8> {
        (self.occupied() >> 1)
            .checked_ilog2()
            .map(|level| level as u8)
    }

    /// Whether a thread of this priority waits.
    #[inline]
    pub(crate) fn has(&self, priority: u8) -> bool {
        self.occupied() >> (rank(priority) & 63) & 1 != 0
    }

    #[inline]
    fn occupied(&self) -> u64 {
        self.seat.occupied.get()
    }

    /// How many threads wait.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// When the turn at a priority ends; `FOREVER`: it has not begun.
    #[inline]
    pub(crate) fn slice(&self, priority: u8) -> u64 {
        let level = self.levels.get(usize::from(priority));
        level.map_or(FOREVER, |level| level.slice)
    }

    /// Sets what [`RunQueue::slice`] gives.
    pub(crate) fn set_slice(&mut self, priority: u8, end: u64) {
        if let Some(level) = self.levels.get_mut(usize::from(priority)) {
            level.slice = end;
        }
    }

    /// Puts a thread last among its equals.
    #[inline]
    pub(crate) fn push_back(&mut self, thread: &'static ThreadCells) {
        let priority = thread.priority.get();
        if let Some(level) = self.levels.get(usize::from(priority)) {
            level.threads.push_back(thread);
            self.added(priority);
        }
    }

    /// Puts a thread first among its equals: it was preempted.
    #[inline(always)]
    pub(crate) fn push_front(&mut self, thread: &'static ThreadCells) {
        let priority = thread.priority.get();
        if let Some(level) = self.levels.get(usize::from(priority)) {
            level.threads.push_front(thread);
            self.added(priority);
        }
    }

    #[inline(always)]
    fn added(&mut self, priority: u8) {
        let bit = 1 << (rank(priority) & 63);
        self.seat.occupied.set(self.occupied() | bit);
        self.len = self.len.saturating_add(1);
    }

    /// Takes a thread, which is queued, out.
    #[inline(always)]
    pub(crate) fn remove(&mut self, thread: &ThreadCells) {
        let priority = thread.priority.get();
        if let Some(level) = self.levels.get(usize::from(priority)) {
            level.threads.remove(thread);
            self.len = self.len.saturating_sub(1);
            if level.threads.is_empty() {
                let bit = 1 << (rank(priority) & 63);
                self.seat.occupied.set(self.occupied() & !bit);
            }
        }
    }

    /// Takes the first of the most important threads.
    pub(crate) fn pop(&mut self) -> Option<&'static ThreadCells> {
        let first = self.level(self.top()?)?.first()?;
        self.remove(first);
        Some(first)
    }

    /// The first of the most important threads, and when its turn ends; `FOREVER` if it is alone in its
    /// priority. `None` also if the turn has not begun.
    #[inline(always)]
    pub(crate) fn first_and_turn(&self) -> Option<(&'static ThreadCells, u64)> {
        let level = self.levels.get(usize::from(self.top()?))?;
        let first = level.threads.first()?;
        match Queue::next(first) {
            None => Some((first, FOREVER)),
            Some(_) => (level.slice != FOREVER).then_some((first, level.slice)),
        }
    }

    /// The first of the most important threads that another processor may have. Only the first of
    /// each priority is looked at, so that this takes bounded time.
    pub(crate) fn movable(&self, threads: &Slab<Thread>) -> Option<&'static ThreadCells> {
        let mut left = self.occupied() >> 1;
        while let Some(priority) = left.checked_ilog2() {
            let first = self.level(priority as u8)?.first()?;
            if threads.at(first.id()).pin.is_none() {
                return Some(first);
            }
            left &= !(1 << priority);
        }
        None
    }

    fn level(&self, priority: u8) -> Option<&Queue> {
        let level = self.levels.get(usize::from(priority));
        level.map(|level| &level.threads)
    }

    /// All threads, the most important first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> {
        let levels = self.levels.iter().rev();
        levels.flat_map(|level| level.threads.iter())
    }
}

#[cfg(not(feature = "loom"))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::sample;
    use std::vec::Vec;

    #[test]
    fn the_highest_priority_goes_first_and_equals_in_turn() {
        let mut threads = Slab::<Thread>::new(64);
        let mut queue = RunQueue::new(Seat::kept().unwrap()).unwrap();
        let ids: Vec<_> = [0, 31, 5, 31, 0, 5]
            .iter()
            .map(|priority| threads.add(sample(*priority)).unwrap())
            .collect();
        let cells = |id| threads.at(id).cells;
        for id in &ids {
            queue.push_back(cells(*id));
        }
        queue.remove(cells(ids[1]));
        queue.push_front(cells(ids[1]));
        queue.remove(cells(ids[2]));
        assert_eq!(queue.top(), Some(31));
        assert!(queue.has(5) && queue.has(0) && !queue.has(6));
        let mut order = Vec::new();
        while let Some(thread) = queue.pop() {
            order.push(thread.id());
        }
        assert_eq!(order, [ids[1], ids[3], ids[5], ids[0], ids[4]]);
        assert_eq!(queue.top(), None);
    }
}
