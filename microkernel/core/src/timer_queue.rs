//! Deadlines in order: a binary heap that knows where each thread is. Room for a thread is made when
//! the thread is made; waiting never allocates.
//!
//! Most deadlines never come, and threads that have one wait and wake all the time. So waking leaves
//! the heap as it is and only says that there is no deadline any more, and waiting again needs no
//! more than the new one, if the thread is in the heap at a time that is not later. What is found at
//! its old time is put in its right place then, or taken out.

use crate::{
    ThreadId,
    slab::{Slab, fit},
    thread::Thread,
};
use alloc::vec::Vec;
use ipc_abi::{Kern, message::FOREVER};

/// Most threads at old times that are put right in one go.
const OLD_TIMES: u32 = 64;

/// Threads that wait with a deadline, and some that did.
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

    /// Gives back room that there is far more of than `threads` threads need.
    pub(crate) fn trim(&mut self, threads: u32) {
        fit(&mut self.heap, threads as usize);
    }

    /// A time before which no deadline passes; `FOREVER`: none will.
    #[inline]
    pub(crate) fn first(&self, threads: &Slab<Thread>) -> u64 {
        let first = self.heap.first();
        first.map_or(FOREVER, |id| threads.at(*id).timer_key.get())
    }

    /// Has a thread woken at `deadline`; `FOREVER`: not.
    #[inline]
    pub(crate) fn arm(&mut self, threads: &mut Slab<Thread>, id: ThreadId, deadline: u64) {
        let thread = threads.at_mut(id);
        thread.deadline.set(deadline);
        if deadline < thread.timer_key.get() {
            self.move_up(threads, id, deadline);
        }
    }

    /// Puts a thread at a time earlier than where it is, if it is anywhere.
    fn move_up(&mut self, threads: &mut Slab<Thread>, id: ThreadId, key: u64) {
        let thread = threads.at_mut(id);
        thread.timer_key.set(key);
        let place = match thread.timer {
            Some(place) => place as usize,
            None => {
                let place = self.heap.len();
                thread.timer = Some(place as u32);
                self.heap.push(id);
                place
            }
        };
        self.rise(threads, place);
    }

    /// Takes a thread's deadline away, if it has one.
    #[inline]
    pub(crate) fn disarm(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        threads.at_mut(id).deadline.set(FOREVER);
    }

    /// Forgets a thread, which is about to go.
    pub(crate) fn forget(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let thread = threads.at_mut(id);
        thread.deadline.set(FOREVER);
        thread.timer_key.set(FOREVER);
        if let Some(place) = thread.timer.take() {
            self.remove(threads, place as usize);
        }
    }

    /// Takes the first thread whose deadline is not after `now`. Those that are only found at an old
    /// time are put right, a bounded number of them: then there may be more.
    pub(crate) fn pop(&mut self, threads: &mut Slab<Thread>, now: u64) -> Option<ThreadId> {
        for _ in 0..OLD_TIMES {
            let first = *self.heap.first()?;
            let thread = threads.at_mut(first);
            if thread.timer_key.get() > now {
                return None;
            }
            let deadline = thread.deadline.get();
            if deadline > now && deadline != FOREVER {
                thread.timer_key.set(deadline);
                self.sink(threads, 0);
                continue;
            }
            self.forget(threads, first);
            if deadline <= now {
                return Some(first);
            }
        }
        None
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
            (Some(one), Some(other)) => {
                threads.at(*one).timer_key.get() < threads.at(*other).timer_key.get()
            }
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

#[cfg(not(feature = "loom"))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::sample;
    use std::vec::Vec;

    #[test]
    fn threads_come_out_by_deadline_and_those_who_woke_early_do_not() {
        let mut threads = Slab::<Thread>::new(512);
        let mut timers = TimerQueue::NEW;
        timers.reserve(300).unwrap();
        let ids: Vec<_> = (0..300).map(|_| threads.add(sample(0)).unwrap()).collect();
        for (number, id) in ids.iter().enumerate() {
            timers.arm(&mut threads, *id, (number as u64 * 7919) % 1009);
        }
        for id in ids.iter().step_by(3) {
            timers.disarm(&mut threads, *id);
            timers.disarm(&mut threads, *id);
        }
        // Half of those that woke wait again, for longer.
        for (number, id) in ids.iter().enumerate().step_by(6) {
            timers.arm(&mut threads, *id, 1009 + number as u64);
        }
        timers.forget(&mut threads, ids[1]);
        let mut due = Vec::new();
        let mut count = 0;
        for now in 0..1400 {
            assert!(timers.first(&threads) >= now);
            while timers.first(&threads) <= now {
                let Some(id) = timers.pop(&mut threads, now) else {
                    continue;
                };
                due.push((now, id));
                count += 1;
            }
        }
        assert_eq!((count, timers.first(&threads)), (249, FOREVER));
        for (now, id) in due {
            let number = ids.iter().position(|other| *other == id).unwrap() as u64;
            let expected = match number % 6 {
                0 => 1009 + number,
                _ => (number * 7919) % 1009,
            };
            assert_eq!(now, expected);
        }
    }
}
