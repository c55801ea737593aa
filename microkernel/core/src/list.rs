//! Index-linked lists of records; those of threads that wait are in `queue`.
//!
//! Links lie in the records themselves, so that queueing never allocates and any record leaves any
//! list in constant time. A record kind that is on several lists at once has several links; the
//! number `L` says which of them a list uses.

use crate::slab::{Id, Record, Slab};

/// A record's place in one list.
#[derive(Debug)]
pub(crate) struct Links<T> {
    previous: Option<Id<T>>,
    next: Option<Id<T>>,
}

impl<T> Links<T> {
    pub(crate) const NONE: Links<T> = Links {
        previous: None,
        next: None,
    };
}

/// A record that can be on the lists that use its links number `L`.
pub(crate) trait Linked<const L: usize>: Record + Sized {
    /// Its place in the list.
    fn links(&self) -> &Links<Self>;
    /// Its place in the list, to change.
    fn links_mut(&mut self) -> &mut Links<Self>;
}

/// A doubly linked list of records of a slab.
#[derive(Debug)]
pub(crate) struct List<T, const L: usize> {
    head: Option<Id<T>>,
    tail: Option<Id<T>>,
}

impl<T, const L: usize> Clone for List<T, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, const L: usize> Copy for List<T, L> {}

impl<T: Linked<L>, const L: usize> Default for List<T, L> {
    fn default() -> Self {
        List::NEW
    }
}

impl<T: Linked<L>, const L: usize> List<T, L> {
    pub(crate) const NEW: List<T, L> = List {
        head: None,
        tail: None,
    };

    #[inline]
    pub(crate) const fn first(&self) -> Option<Id<T>> {
        self.head
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The record after `id`.
    pub(crate) fn next(slab: &Slab<T>, id: Id<T>) -> Option<Id<T>> {
        slab.at(id).links().next
    }

    #[inline]
    pub(crate) fn push_back(&mut self, slab: &mut Slab<T>, id: Id<T>) {
        *slab.at_mut(id).links_mut() = Links {
            previous: self.tail,
            next: None,
        };
        match self.tail {
            Some(tail) => slab.at_mut(tail).links_mut().next = Some(id),
            None => self.head = Some(id),
        }
        self.tail = Some(id);
    }

    #[inline]
    pub(crate) fn push_front(&mut self, slab: &mut Slab<T>, id: Id<T>) {
        *slab.at_mut(id).links_mut() = Links {
            previous: None,
            next: self.head,
        };
        match self.head {
            Some(head) => slab.at_mut(head).links_mut().previous = Some(id),
            None => self.tail = Some(id),
        }
        self.head = Some(id);
    }

    /// Takes `id`, which is on the list, out of it.
    #[inline]
    pub(crate) fn remove(&mut self, slab: &mut Slab<T>, id: Id<T>) {
        let links = core::mem::replace(slab.at_mut(id).links_mut(), Links::NONE);
        match links.previous {
            Some(previous) => slab.at_mut(previous).links_mut().next = links.next,
            None => self.head = links.next,
        }
        match links.next {
            Some(next) => slab.at_mut(next).links_mut().previous = links.previous,
            None => self.tail = links.previous,
        }
    }

    #[inline]
    pub(crate) fn pop_front(&mut self, slab: &mut Slab<T>) -> Option<Id<T>> {
        let id = self.head?;
        self.remove(slab, id);
        Some(id)
    }

    /// The records in order.
    pub(crate) fn iter<'a>(
        &self,
        slab: &'a Slab<T>,
    ) -> impl Iterator<Item = Id<T>> + use<'a, T, L> {
        core::iter::successors(self.head, |id| Self::next(slab, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[derive(Debug)]
    struct Item {
        number: u32,
        links: Links<Item>,
    }

    impl Record for Item {
        type Cells = ();
        fn vacant(_: &()) -> Item {
            Item {
                number: 0,
                links: Links::NONE,
            }
        }
        fn release(&mut self) {}
    }

    impl Linked<0> for Item {
        fn links(&self) -> &Links<Item> {
            &self.links
        }
        fn links_mut(&mut self) -> &mut Links<Item> {
            &mut self.links
        }
    }

    #[test]
    fn records_come_out_in_the_order_that_the_operations_say() {
        let mut slab = Slab::new(16);
        let mut list = List::<Item, 0>::NEW;
        let ids: Vec<_> = (0..5)
            .map(|number| {
                slab.insert(Item {
                    number,
                    links: Links::NONE,
                })
                .unwrap()
            })
            .collect();
        list.push_back(&mut slab, ids[0]);
        list.push_back(&mut slab, ids[1]);
        list.push_front(&mut slab, ids[2]);
        list.push_back(&mut slab, ids[3]);
        list.push_back(&mut slab, ids[4]);
        let order = |list: &List<Item, 0>, slab: &Slab<Item>| -> Vec<u32> {
            list.iter(slab).map(|id| slab.at(id).number).collect()
        };
        assert_eq!(order(&list, &slab), [2, 0, 1, 3, 4]);
        list.remove(&mut slab, ids[3]);
        list.remove(&mut slab, ids[2]);
        list.remove(&mut slab, ids[4]);
        assert_eq!(order(&list, &slab), [0, 1]);
        assert_eq!(list.pop_front(&mut slab), Some(ids[0]));
        assert_eq!(list.pop_front(&mut slab), Some(ids[1]));
        assert_eq!(list.pop_front(&mut slab), None);
        assert!(list.is_empty());
    }
}
