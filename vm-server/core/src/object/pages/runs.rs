//! Slots side by side, leaf by leaf: a run costs a look-up for each 64, not for each slot.

use ipc_abi::Kern;

use super::{MASK, Nodes, Slot, Tree, VALUE};
use crate::object::page::Frame;
use crate::slab::NIL;

/// What slots side by side become.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Page,
    /// Neither.
    Used,
}

impl Tree {
    /// Empty slots side by side from `index` on, at most `most`.
    pub(crate) fn empty_from(&self, nodes: &Nodes, index: u64, most: u32) -> u32 {
        if self.only != 0 && self.hollow >= index {
            let before = self.hollow.saturating_sub(index);
            return u64::from(most).min(before) as u32;
        }
        let mut count = 0u32;
        while count < most {
            let at = index.wrapping_add(count.into());
            let place = (at & MASK) as u32;
            let room = 64u32.wrapping_sub(place);
            let used = nodes.at(self.leaf(nodes, at)).map_or(0, |node| node.used);
            let empty = (used >> place).trailing_zeros().min(room);
            count = count.saturating_add(empty);
            if empty < room {
                break;
            }
        }
        count.min(most)
    }

    /// Adds the frames of pages side by side from `index` on, at most `most` and as many as fit; ends
    /// before what is no page.
    pub(crate) fn pages_from<const N: usize>(
        &self,
        nodes: &Nodes,
        index: u64,
        most: u32,
        frames: &mut heapless::Vec<Frame, N>,
    ) {
        if most > 0
            && let Slot::Page(frame) = self.only_at(index)
        {
            // It fits, or nothing does.
            let _ = frames.push(frame);
            return;
        }
        let mut at = index;
        let mut left = most;
        while left > 0
            && let Some(node) = nodes.at(self.leaf(nodes, at))
        {
            let place = at & MASK;
            let here = (64u64.wrapping_sub(place) as u32).min(left);
            let pages = (!(node.pages >> place)).trailing_zeros().min(here);
            let found = node.words.get(place as usize..).unwrap_or(&[]);
            // Room first, then all of them: a push at a time asks for room each time.
            let old = frames.len();
            let new = old.saturating_add(pages as usize).min(frames.capacity());
            // There is as much.
            let _ = frames.resize_default(new);
            let room = frames.get_mut(old..).unwrap_or(&mut []);
            for (frame, word) in room.iter_mut().zip(found) {
                *frame = Frame(word & VALUE);
            }
            if pages < here {
                return;
            }
            left = left.wrapping_sub(here);
            at = at.wrapping_add(here.into());
        }
    }

    /// Puts pages into slots side by side, whatever was there.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node for a slot that was empty; those before are done.
    pub(crate) fn put_pages(
        &mut self,
        nodes: &mut Nodes,
        index: u64,
        frames: &[Frame],
    ) -> Result<(), Kern> {
        if let [frame] = *frames {
            return self.set(nodes, index, Slot::Page(frame));
        }
        self.spill(nodes)?;
        let count = frames.len() as u32;
        let put = |slots: &mut [u32], done: u32| {
            let frames = frames.get(done as usize..).unwrap_or(&[]);
            for (slot, frame) in slots.iter_mut().zip(frames) {
                *slot = Slot::Page(*frame).to_raw();
            }
        };
        self.put_words(nodes, (index, count), Kind::Page, put)
    }

    /// Marks slots side by side as asked for by a request.
    ///
    /// # Errors
    /// As [`Tree::put_pages`].
    pub(crate) fn put_pending(
        &mut self,
        nodes: &mut Nodes,
        index: u64,
        (count, request): (u32, u32),
    ) -> Result<(), Kern> {
        self.spill(nodes)?;
        let word = Slot::Pending(request).to_raw();
        self.put_words(nodes, (index, count), Kind::Used, |slots, _| {
            slots.fill(word);
        })
    }

    /// Takes whatever there is out of slots side by side.
    pub(crate) fn clear_run(&mut self, nodes: &mut Nodes, index: u64, count: u32) {
        if self.only != 0 {
            if (index..index.saturating_add(count.into())).contains(&self.hollow) {
                self.set_only(Slot::Empty);
            }
            return;
        }
        // Emptying never needs a node.
        let _ = self.put_words(nodes, (index, count), Kind::Empty, |slots, _| {
            slots.fill(Slot::Empty.to_raw());
        });
    }

    /// Sets slots side by side, leaf by leaf, all of them to one kind: `put` writes words, of which so many are
    /// done.
    #[inline(always)]
    fn put_words(
        &mut self,
        nodes: &mut Nodes,
        (index, count): (u64, u32),
        kind: Kind,
        put: impl Fn(&mut [u32], u32),
    ) -> Result<(), Kern> {
        let mut done = 0u32;
        while done < count {
            let at = index.wrapping_add(done.into());
            let place = (at & MASK) as usize;
            let here = count
                .wrapping_sub(done)
                .min(64u32.wrapping_sub(place as u32));
            let mut leaf = self.leaf_to_change(nodes, at);
            if leaf == NIL {
                if kind == Kind::Empty {
                    // Nothing to empty: on to the next leaf.
                    done = done.saturating_add(here);
                    continue;
                }
                leaf = self.make_leaf(nodes, at)?;
            }
            let node = nodes.at_mut(leaf).ok_or(Kern::ResourceShortage)?;
            let end = place.saturating_add(here as usize);
            put(node.words.get_mut(place..end).unwrap_or(&mut []), done);
            let bits = (u64::MAX >> (64u32.wrapping_sub(here) & 63)) << place;
            let (was_used, was_pages) = (node.used & bits, node.pages & bits);
            let used = if kind == Kind::Empty { 0 } else { bits };
            let pages = if kind == Kind::Page { bits } else { 0 };
            node.used = node.used & !bits | used;
            node.pages = node.pages & !bits | pages;
            let empty = node.used == 0;
            // Most often it is all or none.
            let ones = |some: u64| match some {
                0 => 0,
                _ if some == bits => here,
                _ => some.count_ones(),
            };
            let more = ones(used).wrapping_sub(ones(was_used));
            self.used = self.used.wrapping_add(more);
            self.came = self.came.wrapping_add(ones(pages & !was_pages));
            self.left = self.left.wrapping_add(ones(was_pages & !pages));
            if empty {
                self.emptied(nodes, at);
            }
            done = done.saturating_add(here);
        }
        Ok(())
    }
}
