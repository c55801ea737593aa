//! Threads in order of priority, first come first served inside each: callers queued at a port.
//!
//! One linked list. The first thread of each run of equals also knows the last of the run, so that
//! a thread finds its place by hopping from run to run: at most 32 hops, however long the list.

use crate::{
    ThreadId,
    list::List,
    slab::Slab,
    thread::{QUEUE, Thread},
};

/// A queue of threads by priority.
#[derive(Debug)]
pub(crate) struct PriorityList {
    list: List<Thread, QUEUE>,
}

impl PriorityList {
    pub(crate) const NEW: PriorityList = PriorityList { list: List::NEW };

    #[inline]
    pub(crate) const fn first(&self) -> Option<ThreadId> {
        self.list.first()
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Puts a thread behind all that are not less important.
    pub(crate) fn insert(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let priority = threads.at(id).priority.get();
        let mut leader = self.list.first();
        let mut before = None;
        while let Some(at) = leader {
            let found = threads.at(at).priority.get();
            if found < priority {
                break;
            }
            let end = threads.at(at).run_end.unwrap_or(at);
            before = Some(end);
            if found == priority {
                threads.at_mut(at).run_end = Some(id);
                threads.at_mut(id).run_end = None;
                self.list.insert_after(threads, end, id);
                return;
            }
            leader = List::<Thread, QUEUE>::next(threads, end);
        }
        threads.at_mut(id).run_end = Some(id);
        match before {
            Some(place) => self.list.insert_after(threads, place, id),
            None => self.list.push_front(threads, id),
        }
    }

    /// Takes a thread, which is on the list, out of it.
    pub(crate) fn remove(&mut self, threads: &mut Slab<Thread>, id: ThreadId) {
        let next = List::<Thread, QUEUE>::next(threads, id);
        let previous = List::<Thread, QUEUE>::previous(threads, id);
        match threads.at_mut(id).run_end.take() {
            Some(end) if end != id => {
                if let Some(heir) = next {
                    threads.at_mut(heir).run_end = Some(end);
                }
            }
            Some(_) => {}
            None => self.shorten_run(threads, id, previous),
        }
        self.list.remove(threads, id);
    }

    /// The threads in order.
    pub(crate) fn iter<'a>(
        &self,
        threads: &'a Slab<Thread>,
    ) -> impl Iterator<Item = ThreadId> + use<'a> {
        self.list.iter(threads)
    }

    /// `gone`, which leads no run, is leaving: if it is the last of its run, the one before is now.
    fn shorten_run(&self, threads: &mut Slab<Thread>, gone: ThreadId, previous: Option<ThreadId>) {
        let priority = threads.at(gone).priority.get();
        let mut leader = self.list.first();
        while let Some(at) = leader {
            let end = threads.at(at).run_end.unwrap_or(at);
            if threads.at(at).priority.get() == priority {
                if end == gone {
                    threads.at_mut(at).run_end = previous;
                }
                return;
            }
            leader = List::<Thread, QUEUE>::next(threads, end);
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
    fn any_mix_of_arrivals_and_departures_keeps_the_order_of_a_stable_sort() {
        let mut threads = Slab::<Thread>::new(512);
        let mut list = PriorityList::NEW;
        let mut expected: Vec<(u8, ThreadId)> = Vec::new();
        let mut number: u32 = 12345;
        for _ in 0..5000 {
            number = number.wrapping_mul(1_103_515_245).wrapping_add(12345);
            let choice = number >> 16;
            if choice.is_multiple_of(3) && !expected.is_empty() {
                let (_, gone) = expected.remove(choice as usize / 3 % expected.len());
                list.remove(&mut threads, gone);
                threads.remove(gone);
            } else if expected.len() < 400 {
                let priority = (choice / 3 % 5) as u8;
                let id = threads.add(sample(priority)).unwrap();
                list.insert(&mut threads, id);
                let place = expected.iter().position(|(other, _)| *other < priority);
                expected.insert(place.unwrap_or(expected.len()), (priority, id));
            }
            let order: Vec<_> = list.iter(&threads).collect();
            assert!(order.iter().eq(expected.iter().map(|(_, id)| id)));
        }
    }
}
