//! Queues of threads: ready ones, and those that wait at a port or set.
//!
//! A thread is in one queue at most, so that its link lies in its cells, beside what the fast paths look at:
//! entering and leaving need no slab. Any thread leaves from anywhere in constant time.

use crate::{ThreadId, cells::ThreadCells};
use core::{cell::Cell, fmt};

/// A reference to another thread of the same queue. It shows as that thread's handle.
#[derive(Default)]
pub(crate) struct Link(Cell<Option<&'static ThreadCells>>);

impl Link {
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&'static ThreadCells> {
        self.0.get()
    }

    #[inline(always)]
    pub(crate) fn set(&self, to: Option<&'static ThreadCells>) {
        self.0.set(to);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().map(ThreadCells::id).fmt(f)
    }
}

/// Who comes before and after a thread in its queue.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    previous: Link,
    next: Link,
}

impl Neighbours {
    /// Says that the thread is in no queue.
    pub(crate) fn reset(&self) {
        self.previous.set(None);
        self.next.set(None);
    }
}

/// A doubly linked list of threads.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    head: Link,
    tail: Link,
}

impl Queue {
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<&'static ThreadCells> {
        self.head.get()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Forgets all that are in it.
    pub(crate) fn reset(&self) {
        self.head.set(None);
        self.tail.set(None);
    }

    #[inline]
    pub(crate) fn push_back(&self, thread: &'static ThreadCells) {
        self.put(self.tail.get(), None, thread);
    }

    #[inline]
    pub(crate) fn push_front(&self, thread: &'static ThreadCells) {
        self.put(None, self.first(), thread);
    }

    /// Puts a thread right after `place`, which is in the queue.
    #[inline]
    pub(crate) fn insert_after(&self, place: &'static ThreadCells, thread: &'static ThreadCells) {
        self.put(Some(place), place.neighbours.next.get(), thread);
    }

    #[inline(always)]
    fn put(
        &self,
        previous: Option<&'static ThreadCells>,
        next: Option<&'static ThreadCells>,
        thread: &'static ThreadCells,
    ) {
        thread.neighbours.previous.set(previous);
        thread.neighbours.next.set(next);
        self.join(previous, Some(thread));
        self.join(Some(thread), next);
    }

    /// Has one thread follow another; nobody stands for the ends.
    #[inline(always)]
    fn join(&self, one: Option<&'static ThreadCells>, other: Option<&'static ThreadCells>) {
        one.map_or(&self.head, |one| &one.neighbours.next)
            .set(other);
        other
            .map_or(&self.tail, |other| &other.neighbours.previous)
            .set(one);
    }

    /// Takes a thread, which is in the queue, out of it.
    #[inline]
    pub(crate) fn remove(&self, thread: &ThreadCells) {
        self.join(
            thread.neighbours.previous.get(),
            thread.neighbours.next.get(),
        );
        thread.neighbours.reset();
    }

    #[inline]
    pub(crate) fn pop_front(&self) -> Option<&'static ThreadCells> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// The thread before one that is in the queue.
    #[inline(always)]
    pub(crate) fn previous(thread: &ThreadCells) -> Option<&'static ThreadCells> {
        thread.neighbours.previous.get()
    }

    /// The thread after one that is in the queue.
    #[inline(always)]
    pub(crate) fn next(thread: &ThreadCells) -> Option<&'static ThreadCells> {
        thread.neighbours.next.get()
    }

    /// The threads in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> + use<> {
        let order = core::iter::successors(self.first(), |thread| Queue::next(thread));
        order.map(ThreadCells::id)
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
    fn threads_come_out_in_the_order_that_the_operations_say() {
        let mut threads = Slab::<Thread>::new(16);
        let all: Vec<_> = (0..5)
            .map(|priority| {
                let id = threads.add(sample(priority)).unwrap();
                threads.at(id).cells
            })
            .collect();
        let queue = Queue::default();
        queue.push_back(all[0]);
        queue.push_back(all[1]);
        queue.push_front(all[2]);
        queue.insert_after(all[0], all[3]);
        queue.insert_after(all[1], all[4]);
        let order = || -> Vec<u32> { queue.iter().map(ThreadId::index).collect() };
        assert_eq!(order(), [2, 0, 3, 1, 4]);
        queue.remove(all[3]);
        queue.remove(all[2]);
        queue.remove(all[4]);
        assert_eq!(order(), [0, 1]);
        assert_eq!(queue.pop_front().map(ThreadCells::id), Some(all[0].id()));
        assert_eq!(queue.pop_front().map(ThreadCells::id), Some(all[1].id()));
        assert!(queue.pop_front().is_none() && queue.is_empty());
        assert!(all.iter().all(|thread| Queue::next(thread).is_none()));
    }
}
