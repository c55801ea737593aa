//! Pages that are in slots already, or come to slots that are in use: nothing here can fail for want of a node.

use super::{MASK, Node, Nodes, Slot, Tree, VALUE};
use crate::object::page::Frame;
use crate::slab::NIL;

impl Tree {
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

    /// The page in a slot, and the leaf that the slot is in.
    #[inline(always)]
    pub(crate) fn find_page(&self, nodes: &Nodes, index: u64) -> Option<(u32, Frame)> {
        let leaf = self.leaf(nodes, index);
        match nodes.at(leaf)?.slot(index) {
            Slot::Page(frame) => Some((leaf, frame)),
            _ => None,
        }
    }

    /// Takes a page that [`Tree::find_page`] found out of its slot.
    #[inline(always)]
    pub(crate) fn take_found(&mut self, nodes: &mut Nodes, (leaf, index): (u32, u64)) {
        let Some(node) = nodes.at_mut(leaf) else {
            return;
        };
        (self.near, self.near_first) = (leaf, index & !MASK);
        let place = index & MASK;
        if let Some(word) = node.words.get_mut(place as usize) {
            *word = Slot::Empty.to_raw();
        }
        node.used &= !(1u64 << place);
        node.pages &= !(1u64 << place);
        self.used = self.used.wrapping_sub(1);
        self.left = self.left.wrapping_add(1);
        if node.used == 0 {
            self.emptied(nodes, index);
        }
    }

    /// Puts what is no page into a slot, if that is empty, and in a leaf that there is: says so.
    #[inline(always)]
    pub(crate) fn use_empty(&mut self, nodes: &mut Nodes, index: u64, slot: Slot) -> bool {
        let leaf = self.leaf_to_change(nodes, index);
        let Some(node) = nodes.at_mut(leaf) else {
            return false;
        };
        let place = index & MASK;
        let bit = 1u64 << place;
        if node.used & bit != 0 {
            return false;
        }
        if let Some(word) = node.words.get_mut(place as usize) {
            *word = slot.to_raw();
        }
        node.used |= bit;
        self.used = self.used.wrapping_add(1);
        true
    }

    /// Puts a page into a slot that is in use and holds none: cannot fail. Gives its leaf, if it is not the
    /// only slot.
    #[inline(always)]
    pub(crate) fn fill_used<'a>(
        &mut self,
        nodes: &'a mut Nodes,
        index: u64,
        frame: Frame,
    ) -> Option<&'a Node> {
        let leaf = self.leaf_to_change(nodes, index);
        if leaf == NIL {
            self.set_only(Slot::Page(frame));
            return None;
        }
        let node = nodes.at_mut(leaf)?;
        let place = index & MASK;
        if let Some(word) = node.words.get_mut(place as usize) {
            *word = Slot::Page(frame).to_raw();
        }
        node.pages |= 1u64 << place;
        self.came = self.came.wrapping_add(1);
        Some(node)
    }
}
