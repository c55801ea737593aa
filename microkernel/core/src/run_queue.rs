//! Ready threads: 32 fixed priorities, first come first served inside each.

use crate::{
    ThreadId,
    list::List,
    slab::Slab,
    thread::{QUEUE, Thread},
};

/// How many priorities there are; the highest runs first.
pub(crate) const PRIORITIES: usize = 32;

/// The threads that wait for the processor.
#[derive(Debug)]
pub(crate) struct RunQueue {
    levels: [List<Thread, QUEUE>; PRIORITIES],
    /// Bit n: level n is not empty.
    occupied: u32,
}

impl RunQueue {
    pub(crate) const NEW: RunQueue = RunQueue {
        levels: [const { List::NEW }; PRIORITIES],
        occupied: 0,
    };

    /// The priority of the most important thread.
    #[inline]
    pub(crate) fn top(&self) -> Option<u8> {
        self.occupied.checked_ilog2().map(|level| level as u8)
    }

    /// Whether all that wait are less important than this priority.
    #[inline]
    pub(crate) const fn is_below(&self, priority: u8) -> bool {
        self.occupied >> (priority & 31) == 0
    }

    /// Whether a thread of this priority waits.
    #[inline]
    pub(crate) const fn has(&self, priority: u8) -> bool {
        self.occupied >> (priority & 31) & 1 != 0
    }

    /// Puts a thread last among its equals.
    #[inline]
    pub(crate) fn push_back(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let priority = threads.at(id).priority;
        if let Some(level) = self.levels.get_mut(usize::from(priority)) {
            level.push_back(threads, id);
            self.occupied |= 1 << (priority & 31);
        }
    }

    /// Puts a thread first among its equals: it was preempted.
    pub(crate) fn push_front(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let priority = threads.at(id).priority;
        if let Some(level) = self.levels.get_mut(usize::from(priority)) {
            level.push_front(threads, id);
            self.occupied |= 1 << (priority & 31);
        }
    }

    /// Takes a thread, which is queued, out.
    pub(crate) fn remove(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let priority = threads.at(id).priority;
        if let Some(level) = self.levels.get_mut(usize::from(priority)) {
            level.remove(threads, id);
            if level.is_empty() {
                self.occupied &= !(1 << (priority & 31));
            }
        }
    }

    /// Takes the first of the most important threads.
    pub(crate) fn pop(&mut self, threads: &mut Slab<Thread>) -> Option<ThreadId> {
        let first = self.levels.get(usize::from(self.top()?))?.first()?;
        self.remove(threads, first);
        Some(first)
    }

    /// All threads, the most important first.
    pub(crate) fn iter<'a>(&'a self, threads: &'a Slab<Thread>) -> impl Iterator<Item = ThreadId> {
        let levels = self.levels.iter().rev();
        levels.flat_map(move |level| level.iter(threads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::sample;
    use std::vec::Vec;

    #[test]
    fn the_highest_priority_goes_first_and_equals_in_turn() {
        let mut threads = Slab::new(64);
        let mut queue = RunQueue::NEW;
        let ids: Vec<_> = [0, 31, 5, 31, 0, 5]
            .iter()
            .map(|priority| threads.insert(sample(*priority)).unwrap())
            .collect();
        for id in &ids {
            queue.push_back(&mut threads, *id);
        }
        queue.remove(&mut threads, ids[1]);
        queue.push_front(&mut threads, ids[1]);
        queue.remove(&mut threads, ids[2]);
        assert_eq!(queue.top(), Some(31));
        assert!(queue.has(5) && queue.has(0) && !queue.has(6));
        let mut order = Vec::new();
        while let Some(id) = queue.pop(&mut threads) {
            order.push(id);
        }
        assert_eq!(order, [ids[1], ids[3], ids[5], ids[0], ids[4]]);
        assert_eq!(queue.top(), None);
    }
}
