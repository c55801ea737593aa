//! The only slot of a tree, kept beside its root instead of in a leaf.
//!
//! Only a page begins so. What is in it may become anything without a node, as any slot that is used; the
//! second slot gives the first a leaf.

use ipc_abi::Kern;

use super::{MASK, Nodes, Slot, Tree};
use crate::object::page::Frame;

impl Tree {
    /// The slot of a page that is in no leaf.
    #[inline]
    #[must_use]
    pub const fn only_at(&self, index: u64) -> Slot {
        if self.only != 0 && self.hollow == index {
            Slot::from_raw(self.only)
        } else {
            Slot::Empty
        }
    }

    /// The page that is in no leaf, if there is one and its number lies in a range.
    #[must_use]
    pub(crate) fn only_in(&self, from: u64, to: u64) -> Option<Frame> {
        match self.only_at(self.hollow) {
            Slot::Page(frame) if (from..to).contains(&self.hollow) => Some(frame),
            _ => None,
        }
    }

    /// Takes the page of a range out of the tree, if it is easy to see that there is one and no other slot
    /// is used there: a range of one, or a page in no leaf.
    pub(crate) fn take_single(&mut self, nodes: &mut Nodes, from: u64, to: u64) -> Option<Frame> {
        if let Some(frame) = self.only_in(from, to) {
            self.set_only(Slot::Empty);
            return Some(frame);
        }
        if to.wrapping_sub(from) != 1 {
            return None;
        }
        let (leaf, frame) = self.find_page(nodes, from)?;
        self.take_found(nodes, (leaf, from));
        Some(frame)
    }

    /// Puts a page into a tree without a slot.
    #[inline(always)]
    pub(super) const fn put_only(&mut self, index: u64, frame: Frame) {
        self.only = Slot::Page(frame).to_raw();
        self.hollow = index;
        self.used = 1;
        self.came = self.came.wrapping_add(1);
    }

    /// Puts something else into the only slot.
    pub(super) fn set_only(&mut self, slot: Slot) {
        let was = core::mem::replace(&mut self.only, slot.to_raw());
        let was_page = u32::from(matches!(Slot::from_raw(was), Slot::Page(_)));
        let page = u32::from(matches!(slot, Slot::Page(_)));
        self.used = u32::from(slot != Slot::Empty);
        self.came = self.came.wrapping_add(page & !was_page);
        self.left = self.left.wrapping_add(was_page & !page);
    }

    /// Gives the only slot a leaf.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node; nothing has changed.
    pub(super) fn spill(&mut self, nodes: &mut Nodes) -> Result<(), Kern> {
        let (index, word) = (self.hollow, core::mem::take(&mut self.only));
        if word == 0 {
            return Ok(());
        }
        let leaf = self.make_leaf(nodes, index).inspect_err(|_| {
            self.only = word;
            self.hollow = index;
        })?;
        let page = matches!(Slot::from_raw(word), Slot::Page(_));
        if let Some(node) = nodes.at_mut(leaf) {
            let place = index & MASK;
            if let Some(place) = node.words.get_mut(place as usize) {
                *place = word;
            }
            node.used = 1 << place;
            node.pages = u64::from(page) << place;
        }
        Ok(())
    }
}
