//! Pages that are in slots already, or come to slots that are in use: nothing here can fail for want of a node.

use super::{MASK, Node, Nodes, Slot, Tree};
use crate::object::page::Frame;
use crate::slab::NIL;

impl Tree {
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
