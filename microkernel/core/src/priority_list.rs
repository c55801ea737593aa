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
        let priority = threads.at(id).priority;
        let mut leader = self.list.first();
        let mut before = None;
        while let Some(at) = leader {
            let found = threads.at(at).priority;
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

    #[cfg_attr(not(test), allow(dead_code, reason = "used by the checker"))]
    pub(crate) fn iter<'a>(
        &self,
        threads: &'a Slab<Thread>,
    ) -> impl Iterator<Item = ThreadId> + use<'a> {
        self.list.iter(threads)
    }

    /// `gone`, which leads no run, is leaving: if it is the last of its run, the one before is now.
    fn shorten_run(&self, threads: &mut Slab<Thread>, gone: ThreadId, previous: Option<ThreadId>) {
        let priority = threads.at(gone).priority;
        let mut leader = self.list.first();
        while let Some(at) = leader {
            let end = threads.at(at).run_end.unwrap_or(at);
            if threads.at(at).priority == priority {
                if end == gone {
                    threads.at_mut(at).run_end = previous;
                }
                return;
            }
            leader = List::<Thread, QUEUE>::next(threads, end);
        }
    }
}
