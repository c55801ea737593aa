//! The pages of an object by number: a radix tree with leaves of 64 slots.
//!
//! A slot is 32 bits. A node knows which of its 64 slots are used and, in a leaf, which hold a
//! resident page, so that neighbours are found by one word. An object of up to 64 pages is one
//! leaf. Nodes of all objects live in one slab; an insertion may need new ones and can fail, a
//! change of a used slot cannot. The same tree maps right names to objects.
//!
//! A tree keeps the last leaf that became empty, as long as it has others: a page that comes and goes
//! makes no leaf each time. A tree without a used slot has no nodes; nor has one whose only slot was put into
//! it as a page: many objects never have another ([`only`]).

mod found;
mod only;
mod runs;

use ipc_abi::Kern;

use crate::object::page::Frame;
use crate::slab::{NIL, Slab};

/// Slots of a node, as a power of two.
const SHIFT: u32 = 6;
const MASK: u64 = 63;
/// Levels that reach any page number of 64 bits of bytes.
const LEVELS: u32 = 9;

/// What an object knows of one of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Slot {
    /// Nothing: ask the pager, or look below.
    #[default]
    Empty,
    /// Here it is.
    Page(Frame),
    /// Its pager was asked; index of the request.
    Pending(u32),
    /// The pager said that it has none: look below, or fill with zeros.
    Unavailable,
}

const KIND: u32 = 30;
const VALUE: u32 = (1 << KIND) - 1;

impl Slot {
    #[inline]
    const fn to_raw(self) -> u32 {
        match self {
            Slot::Empty => 0,
            Slot::Page(frame) => 1 << KIND | frame.0 & VALUE,
            Slot::Pending(request) => 2 << KIND | request & VALUE,
            Slot::Unavailable => 3 << KIND,
        }
    }

    #[inline]
    const fn from_raw(raw: u32) -> Slot {
        match raw >> KIND {
            1 => Slot::Page(Frame(raw & VALUE)),
            2 => Slot::Pending(raw & VALUE),
            3 => Slot::Unavailable,
            _ => Slot::Empty,
        }
    }
}

/// A leaf, or an inner node whose words are indices of nodes.
pub struct Node {
    words: [u32; 64],
    /// Words that are not 0 (in an inner node: that lead somewhere).
    used: u64,
    /// Leaf: slots that hold a page.
    pages: u64,
}

impl Node {
    /// Of a leaf: which slots hold a page, as a bit each.
    #[inline]
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Of a leaf: the slot at a place below 64.
    #[inline]
    #[must_use]
    pub fn slot(&self, place: u64) -> Slot {
        let word = self.words.get((place & MASK) as usize);
        word.map_or(Slot::Empty, |word| Slot::from_raw(*word))
    }

    /// Of a leaf: the slots from a page's own on, at most `most`; for each that holds a page its frame.
    #[inline]
    pub(crate) fn frames_from(
        &self,
        index: u64,
        most: u64,
    ) -> impl Iterator<Item = Option<Frame>> + '_ {
        let place = (index & MASK) as usize;
        let end = (place as u64).saturating_add(most).min(64) as usize;
        let words = self.words.get(place..end).unwrap_or(&[]);
        words
            .iter()
            .map(|word| (word >> KIND == 1).then_some(Frame(word & VALUE)))
    }
}

/// The nodes of all trees.
pub type Nodes = Slab<Node>;

/// One object's tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    root: u32,
    /// Levels; a tree of one level is a leaf.
    levels: u32,
    /// Used slots.
    used: u32,
    /// Pages that ever came, and that left again; both wrap.
    came: u32,
    left: u32,
    /// The only slot, if it is kept here: its word, which is not 0.
    only: u32,
    /// The leaf that may be empty, as the number of its first slot; no other is. Of an only slot, its number.
    hollow: u64,
    /// The leaf that was changed last, where the next look-up most often leads, and the number of its first slot,
    /// or [`FAR`].
    near: u32,
    near_first: u64,
}

/// No leaf is near: the number of no first slot.
const FAR: u64 = u64::MAX;

impl Default for Tree {
    fn default() -> Tree {
        Tree::EMPTY
    }
}

impl Tree {
    /// No slot used.
    pub const EMPTY: Tree = Tree {
        root: NIL,
        levels: 0,
        used: 0,
        came: 0,
        left: 0,
        only: 0,
        hollow: 0,
        near: NIL,
        near_first: FAR,
    };

    /// One page and nothing else.
    pub(crate) const fn of_page(index: u64, frame: Frame) -> Tree {
        let mut tree = Tree::EMPTY;
        tree.put_only(index, frame);
        tree
    }

    /// Slots that are not empty.
    #[must_use]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Slots that hold a page.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.came.wrapping_sub(self.left)
    }

    /// A count that moves when a slot comes to hold a page that it did not hold.
    #[must_use]
    pub const fn came(&self) -> u32 {
        self.came
    }

    /// A count that moves when a slot ceases to hold a page.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    const fn reaches(&self, index: u64) -> bool {
        self.levels >= LEVELS || index >> bits(self.levels) == 0
    }

    #[inline]
    fn leaf(&self, nodes: &Nodes, index: u64) -> u32 {
        if index & !MASK == self.near_first {
            debug_assert_eq!(self.near, self.walk(nodes, index), "a leaf that went");
            return self.near;
        }
        self.walk(nodes, index)
    }

    /// As [`Tree::leaf`], for who is about to change it, if there is one.
    #[inline]
    fn leaf_to_change(&mut self, nodes: &Nodes, index: u64) -> u32 {
        let leaf = self.leaf(nodes, index);
        if leaf != NIL {
            self.near = leaf;
            self.near_first = index & !MASK;
        }
        leaf
    }

    #[inline]
    fn walk(&self, nodes: &Nodes, index: u64) -> u32 {
        if self.levels <= 1 && index <= MASK {
            // A leaf, or none.
            return self.root;
        }
        if self.levels == 0 || !self.reaches(index) {
            return NIL;
        }
        let mut at = self.root;
        let mut level = self.levels;
        while level > 1 {
            level = level.saturating_sub(1);
            let place = (index >> bits(level) & MASK) as usize;
            let Some(node) = nodes.at(at) else {
                return NIL;
            };
            if node.used >> place & 1 == 0 {
                return NIL;
            }
            at = node.words.get(place).copied().unwrap_or(NIL);
        }
        at
    }

    /// The slot of a page.
    #[inline]
    #[must_use]
    pub fn get(&self, nodes: &Nodes, index: u64) -> Slot {
        match self.leaf_at(nodes, index) {
            Some(leaf) => leaf.slot(index),
            None => self.only_at(index),
        }
    }

    /// The leaf with the 64 aligned slots around a page. `None` also where a slot is the only one.
    #[inline]
    #[must_use]
    pub fn leaf_at<'a>(&self, nodes: &'a Nodes, index: u64) -> Option<&'a Node> {
        nodes.at(self.leaf(nodes, index))
    }

    /// Puts a page into a slot that is empty.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node for it; nothing has changed.
    #[inline(always)]
    pub(crate) fn put_page(
        &mut self,
        nodes: &mut Nodes,
        index: u64,
        frame: Frame,
    ) -> Result<(), Kern> {
        let mut leaf = self.leaf_to_change(nodes, index);
        if leaf == NIL {
            if self.used == 0 {
                self.put_only(index, frame);
                return Ok(());
            }
            leaf = self.make_leaf(nodes, index)?;
        }
        let node = nodes.at_mut(leaf).ok_or(Kern::ResourceShortage)?;
        let place = index & MASK;
        if let Some(word) = node.words.get_mut(place as usize) {
            *word = Slot::Page(frame).to_raw();
        }
        node.used |= 1u64 << place;
        node.pages |= 1u64 << place;
        self.used = self.used.wrapping_add(1);
        self.came = self.came.wrapping_add(1);
        Ok(())
    }

    /// Puts something into a slot; `Empty` takes it out.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node for a slot that was empty; nothing has changed.
    pub fn set(&mut self, nodes: &mut Nodes, index: u64, slot: Slot) -> Result<(), Kern> {
        let mut leaf = self.leaf_to_change(nodes, index);
        if leaf == NIL {
            match slot {
                _ if self.only != 0 && self.hollow == index => {
                    self.set_only(slot);
                    return Ok(());
                }
                Slot::Empty => return Ok(()),
                Slot::Page(frame) if self.used == 0 => {
                    self.put_only(index, frame);
                    return Ok(());
                }
                _ => leaf = self.make_leaf(nodes, index)?,
            }
        }
        let Some(node) = nodes.at_mut(leaf) else {
            return Err(Kern::ResourceShortage);
        };
        let place = (index & MASK) as usize;
        let bit = 1u64 << place;
        if let Some(word) = node.words.get_mut(place) {
            *word = slot.to_raw();
        }
        let used = u64::from(slot != Slot::Empty);
        let page = u64::from(matches!(slot, Slot::Page(_)));
        let (was_used, was_page) = (node.used >> place & 1, node.pages >> place & 1);
        node.used = node.used & !bit | used << place;
        node.pages = node.pages & !bit | page << place;
        self.used = self
            .used
            .wrapping_add(used as u32)
            .wrapping_sub(was_used as u32);
        self.came = self.came.wrapping_add((page & !was_page) as u32);
        self.left = self.left.wrapping_add((was_page & !page) as u32);
        if node.used == 0 {
            self.emptied(nodes, index);
        }
        Ok(())
    }

    /// The leaf of a slot is empty. It stays, and the one that was empty before goes.
    #[inline]
    fn emptied(&mut self, nodes: &mut Nodes, index: u64) {
        let before = core::mem::replace(&mut self.hollow, index & !MASK);
        if before != self.hollow && self.reaches(before) {
            self.prune(nodes, before);
        }
        if self.used == 0 {
            self.prune(nodes, index);
        }
    }

    /// Takes something out of a slot: cannot fail.
    pub fn clear(&mut self, nodes: &mut Nodes, index: u64) {
        // Emptying never needs a node.
        let _ = self.set(nodes, index, Slot::Empty);
    }

    fn make_leaf(&mut self, nodes: &mut Nodes, index: u64) -> Result<u32, Kern> {
        self.spill(nodes)?;
        let leaf = self.leaf(nodes, index);
        if leaf != NIL {
            return Ok(leaf);
        }
        if self.root == NIL && index <= MASK {
            self.root = insert(nodes)?;
            self.levels = 1;
            return Ok(self.root);
        }
        let mut levels = self.levels.max(1);
        while levels < LEVELS && index >> bits(levels) != 0 {
            levels = levels.saturating_add(1);
        }
        let result = self.grow_to(nodes, levels, index);
        if result.is_err() {
            self.prune(nodes, index);
        }
        result
    }

    fn grow_to(&mut self, nodes: &mut Nodes, levels: u32, index: u64) -> Result<u32, Kern> {
        if self.root == NIL {
            self.root = insert(nodes)?;
            self.levels = levels;
        }
        while self.levels < levels {
            let root = insert(nodes)?;
            link(nodes, root, 0, self.root);
            self.root = root;
            self.levels = self.levels.saturating_add(1);
        }
        let mut at = self.root;
        let mut level = self.levels;
        while level > 1 {
            level = level.saturating_sub(1);
            let place = (index >> bits(level) & MASK) as usize;
            let next = child(nodes, at, place);
            at = if next == NIL {
                let node = insert(nodes)?;
                link(nodes, at, place, node);
                node
            } else {
                next
            };
        }
        Ok(at)
    }

    /// Frees the nodes on the way to `index` that hold nothing, and roots with one low child.
    #[inline(never)]
    fn prune(&mut self, nodes: &mut Nodes, index: u64) {
        for _ in 0..LEVELS {
            let (mut parent, mut place, mut at, mut level) = (NIL, 0, self.root, self.levels);
            while level > 1 {
                level = level.saturating_sub(1);
                let next_place = (index >> bits(level) & MASK) as usize;
                let next = child(nodes, at, next_place);
                if next == NIL {
                    break;
                }
                (parent, place, at) = (at, next_place, next);
            }
            if nodes.at(at).is_none_or(|node| node.used != 0) {
                break;
            }
            nodes.discard(at);
            self.near_first = FAR;
            if parent == NIL {
                self.root = NIL;
                self.levels = 0;
                return;
            }
            unlink(nodes, parent, place);
        }
        while self.levels > 1 && nodes.at(self.root).is_some_and(|node| node.used == 1) {
            let low = child(nodes, self.root, 0);
            nodes.discard(self.root);
            self.root = low;
            self.levels = self.levels.saturating_sub(1);
        }
    }

    /// The first used slot at or after `index`.
    #[must_use]
    pub fn next(&self, nodes: &Nodes, index: u64) -> Option<(u64, Slot)> {
        let mut index = index;
        if self.levels == 0 {
            let slot = self.only_at(self.hollow);
            return (slot != Slot::Empty && self.hollow >= index).then_some((self.hollow, slot));
        }
        // Each turn ends, or leaves a subtree behind; a path has at most LEVELS of them.
        loop {
            if !self.reaches(index) {
                return None;
            }
            let mut at = self.root;
            let mut level = self.levels;
            loop {
                level = level.saturating_sub(1);
                let place = index >> bits(level) & MASK;
                let node = nodes.at(at)?;
                let ahead = node.used >> place;
                if ahead == 0 {
                    // Nothing in the rest of this node: go on behind it.
                    let span = bits(level.saturating_add(1));
                    if span >= 64 {
                        return None;
                    }
                    index = (index >> span).checked_add(1)?.checked_shl(span)?;
                    break;
                }
                let skip = u64::from(ahead.trailing_zeros());
                if skip != 0 {
                    let span = bits(level);
                    index = (index >> span).saturating_add(skip) << span;
                }
                let place = (index >> bits(level) & MASK) as usize;
                let word = node.words.get(place).copied().unwrap_or(0);
                if level == 0 {
                    return Some((index, Slot::from_raw(word)));
                }
                at = word;
            }
        }
    }
}

/// Bits of an index below a level.
#[inline]
const fn bits(level: u32) -> u32 {
    SHIFT.wrapping_mul(level)
}

fn insert(nodes: &mut Nodes) -> Result<u32, Kern> {
    let node = nodes.insert_with(|| Node {
        words: [0; 64],
        used: 0,
        pages: 0,
    });
    node.map(crate::id::Id::index)
}

fn child(nodes: &Nodes, at: u32, place: usize) -> u32 {
    match nodes.at(at) {
        Some(node) if node.used >> place & 1 != 0 => node.words.get(place).copied().unwrap_or(NIL),
        _ => NIL,
    }
}

fn link(nodes: &mut Nodes, at: u32, place: usize, to: u32) {
    if let Some(node) = nodes.at_mut(at) {
        if let Some(word) = node.words.get_mut(place) {
            *word = to;
        }
        node.used |= 1 << place;
    }
}

fn unlink(nodes: &mut Nodes, at: u32, place: usize) {
    if let Some(node) = nodes.at_mut(at) {
        if let Some(word) = node.words.get_mut(place) {
            *word = 0;
        }
        node.used &= !(1 << place);
    }
}

#[cfg(test)]
mod tests;
