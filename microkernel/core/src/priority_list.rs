//! Threads in order of priority, first come first served inside each: callers queued at a port.
//!
//! One queue. The first thread of each run of equals also knows the last of the run, so that
//! a thread finds its place by hopping from run to run: at most 32 hops, however long the list.

use crate::{ThreadId, cells::ThreadCells, queue::Queue};

/// A queue of threads by priority.
#[derive(Debug, Default)]
pub(crate) struct PriorityList {
    queue: Queue,
}

impl PriorityList {
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<&'static ThreadCells> {
        self.queue.first()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a thread behind all that are not less important.
    #[inline(always)]
    pub(crate) fn insert(&self, thread: &'static ThreadCells) {
        let priority = thread.priority.get();
        let mut leader = self.queue.first();
        let mut before = None;
        while let Some(at) = leader {
            let found = at.priority.get();
            if found < priority {
                break;
            }
            let end = at.run_end.get().unwrap_or(at);
            before = Some(end);
            if found == priority {
                at.run_end.set(Some(thread));
                thread.run_end.set(None);
                self.queue.insert_after(end, thread);
                return;
            }
            leader = Queue::next(end);
        }
        thread.run_end.set(Some(thread));
        match before {
            Some(place) => self.queue.insert_after(place, thread),
            None => self.queue.push_front(thread),
        }
    }

    /// Takes a thread, which is on the list, out of it.
    #[inline(always)]
    pub(crate) fn remove(&self, thread: &'static ThreadCells) {
        match thread.run_end.get() {
            // It leads a run: whoever follows does so now, unless it was alone.
            Some(end) => {
                thread.run_end.set(None);
                if !core::ptr::eq(end, thread)
                    && let Some(heir) = Queue::next(thread)
                {
                    heir.run_end.set(Some(end));
                }
            }
            None => self.shorten_run(thread),
        }
        self.queue.remove(thread);
    }

    /// The threads in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> + use<> {
        self.queue.iter()
    }

    /// `gone`, which leads no run, is leaving: if it is the last of its run, the one before is now.
    #[inline(never)]
    fn shorten_run(&self, gone: &'static ThreadCells) {
        let priority = gone.priority.get();
        let mut leader = self.queue.first();
        while let Some(at) = leader {
            let end = at.run_end.get().unwrap_or(at);
            if at.priority.get() == priority {
                if core::ptr::eq(end, gone) {
                    at.run_end.set(Queue::previous(gone));
                }
                return;
            }
            leader = Queue::next(end);
        }
    }
}

#[cfg(not(feature = "loom"))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        slab::Slab,
        thread::{Thread, sample},
    };
    use std::vec::Vec;

    #[test]
    fn any_mix_of_arrivals_and_departures_keeps_the_order_of_a_stable_sort() {
        let mut threads = Slab::<Thread>::new(512);
        let list = PriorityList::default();
        let mut expected: Vec<(u8, ThreadId)> = Vec::new();
        let mut number: u32 = 12345;
        for _ in 0..5000 {
            number = number.wrapping_mul(1_103_515_245).wrapping_add(12345);
            let choice = number >> 16;
            if choice.is_multiple_of(3) && !expected.is_empty() {
                let (_, gone) = expected.remove(choice as usize / 3 % expected.len());
                list.remove(threads.at(gone).cells);
                threads.remove(gone);
            } else if expected.len() < 400 {
                let priority = (choice / 3 % 5) as u8;
                let id = threads.add(sample(priority)).unwrap();
                list.insert(threads.at(id).cells);
                let place = expected.iter().position(|(other, _)| *other < priority);
                expected.insert(place.unwrap_or(expected.len()), (priority, id));
            }
            let order: Vec<_> = list.iter().collect();
            assert!(order.iter().eq(expected.iter().map(|(_, id)| id)));
        }
    }
}
