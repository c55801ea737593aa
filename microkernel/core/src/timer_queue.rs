//! Deadlines in order: a binary heap that knows where each thread is, so that a thread that wakes
//! early leaves in O(log n). Room for a thread is made when the thread is made; waiting never
//! allocates.

use crate::{ThreadId, slab::Slab, thread::Thread};
use alloc::vec::Vec;
use ipc_abi::{Kern, message::FOREVER};

/// Threads that wait with a deadline.
#[derive(Debug)]
pub(crate) struct TimerQueue {
    heap: Vec<ThreadId>,
}

impl TimerQueue {
    pub(crate) const NEW: TimerQueue = TimerQueue { heap: Vec::new() };

    /// Makes room for `threads` threads in all.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn reserve(&mut self, threads: u32) -> Result<(), Kern> {
        let missing = (threads as usize).saturating_sub(self.heap.len());
        self.heap
            .try_reserve(missing)
            .map_err(|_| Kern::ResourceShortage)
    }

    /// The first deadline; `FOREVER` if there is none.
    #[inline]
    pub(crate) fn first(&self, threads: &Slab<Thread>) -> u64 {
        let first = self.heap.first();
        first.map_or(FOREVER, |id| threads.at(*id).deadline)
    }

    /// Has a thread woken at `deadline`; `FOREVER`: not.
    #[inline]
    pub(crate) fn arm(&mut self, threads: &mut Slab<Thread>, id: ThreadId, deadline: u64) {
        if deadline == FOREVER {
            return;
        }
        let place = self.heap.len();
        self.heap.push(id);
        let thread = threads.at_mut(id);
        thread.deadline = deadline;
        thread.timer = Some(place as u32);
        self.rise(threads, place);
    }

    /// Takes a thread's deadline away, if it has one.
    #[inline]
    pub(crate) fn disarm(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        // Mostly nobody has a deadline: then no record need be looked at.
        if !self.heap.is_empty()
            && let Some(place) = threads.at_mut(id).timer.take()
        {
            self.remove(threads, place as usize);
        }
    }

    /// Takes the first thread whose deadline is not after `now`.
    pub(crate) fn pop(&mut self, threads: &mut Slab<Thread>, now: u64) -> Option<ThreadId> {
        let first = *self.heap.first()?;
        if threads.at(first).deadline > now {
            return None;
        }
        self.disarm(threads, first);
        Some(first)
    }

    /// Threads in the order of the heap.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> {
        self.heap.iter().copied()
    }

    fn remove(&mut self, threads: &mut Slab<Thread>, place: usize) {
        if place >= self.heap.len() {
            return;
        }
        self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place) {
            threads.at_mut(*moved).timer = Some(place as u32);
            self.sink(threads, place);
            self.rise(threads, place);
        }
    }

    fn rise(&mut self, threads: &mut Slab<Thread>, mut place: usize) {
        while place > 0 {
            let parent = place.saturating_sub(1) >> 1;
            if !self.is_before(threads, place, parent) {
                return;
            }
            self.exchange(threads, place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, threads: &mut Slab<Thread>, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let child = if self.is_before(threads, right, left) {
                right
            } else {
                left
            };
            if !self.is_before(threads, child, place) {
                return;
            }
            self.exchange(threads, child, place);
            place = child;
        }
    }

    /// Whether the deadline at `one` comes before that at `other`; a place that is not there comes last.
    fn is_before(&self, threads: &Slab<Thread>, one: usize, other: usize) -> bool {
        match (self.heap.get(one), self.heap.get(other)) {
            (Some(one), Some(other)) => threads.at(*one).deadline < threads.at(*other).deadline,
            (one, _) => one.is_some(),
        }
    }

    fn exchange(&mut self, threads: &mut Slab<Thread>, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            if let Some(id) = self.heap.get(place) {
                threads.at_mut(*id).timer = Some(place as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::sample;
    use std::vec::Vec;

    #[test]
    fn threads_come_out_by_deadline_and_those_who_woke_early_do_not() {
        let mut threads = Slab::new(512);
        let mut timers = TimerQueue::NEW;
        timers.reserve(300).unwrap();
        let ids: Vec<_> = (0..300)
            .map(|_| threads.insert(sample(0)).unwrap())
            .collect();
        for (number, id) in ids.iter().enumerate() {
            timers.arm(&mut threads, *id, (number as u64 * 7919) % 1009);
        }
        timers.arm(&mut threads, ids[0], FOREVER);
        for id in ids.iter().step_by(3) {
            timers.disarm(&mut threads, *id);
            timers.disarm(&mut threads, *id);
        }
        let mut last = 0;
        let mut count = 0;
        for now in 0..1009 {
            assert!(timers.first(&threads) >= now);
            while let Some(id) = timers.pop(&mut threads, now) {
                assert_eq!(threads.at(id).deadline, now);
                assert!(now >= last);
                last = now;
                count += 1;
            }
        }
        assert_eq!((count, timers.first(&threads)), (200, FOREVER));
    }
}
