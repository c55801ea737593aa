//! A page of memory: one record for each frame, indexed by frame number.
//!
//! "Busy" and "absent" do not exist: contents are synchronous, and a page that a pager has been
//! asked for is a [`crate::object::pages::Slot::Pending`] of its object, not a page.
//!
//! [`Places`] remembers where translations of the page may exist.

use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::event::ObjectId;
use crate::object::places::{Added, BLOCK, Blocks, Places};
use crate::slab::NIL;
use crate::touched::Touched;

/// Number of a page frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Frame(pub u32);

/// Who has a frame. Each state says who may touch the frame and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// Not the core's: the kernel's, a device's, or not memory. Ends with `Event::AddFrames`.
    #[default]
    Foreign,
    /// Free; contents unknown. In the list of free frames.
    Free,
    /// Free and zero. In the list of zeroed frames.
    Clean,
    /// In the hands of an operation.
    Taken,
    /// In a slot of an object.
    Resident,
    /// In a slot of an object, and lent to its pager, read-only, until `data_written`.
    Cleaning,
    /// Lent, but the object has moved on to a newer page: freed when the loan ends.
    Loose,
}

bitflags::bitflags! {
    /// What is known of a resident page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u8 {
        /// It was entered writable, or made by the server, since its pager last had it.
        const DIRTY = 1;
        /// Its pager wants it back even if it is clean.
        const PRECIOUS = 2;
        /// Its pager was asked to unlock it.
        const UNLOCK_ASKED = 4;
        /// Its owner does not need its contents any more, until it is written.
        const REUSABLE = 8;
    }
}

/// What is known of one frame.
#[derive(Debug)]
pub struct Page {
    /// The object that the page is in, or was in when it was lent.
    pub object: Option<ObjectId>,
    /// Its page number in the object.
    pub index: u64,
    /// Next in the free list; of a lent page, its loan.
    pub next: u32,
    /// Previous in the free list.
    pub prev: u32,
    /// Reasons why it may not be moved, replaced or evicted.
    pub wired: u16,
    /// Who has it.
    pub state: State,
    /// What is known of it.
    pub flags: Flags,
    /// Access that its pager forbids.
    pub lock: Prot,
    /// The attachment in which its pager was asked to unlock it, in the lowest bits of its number.
    pub asked: u8,
    /// Where it may be mapped.
    pub places: Places,
}

const _: () = assert!(size_of::<Page>() <= 48);

impl Page {
    const FOREIGN: Page = Page {
        object: None,
        index: 0,
        next: NIL,
        prev: NIL,
        wired: 0,
        state: State::Foreign,
        flags: Flags::empty(),
        lock: Prot::NONE,
        asked: 0,
        places: Places::NEVER,
    };
}

/// A doubly linked list of frames through their page records.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    count: u32,
}

/// The records, and the lists of free frames.
pub struct Pages {
    records: Vec<Page>,
    free: List,
    clean: List,
    /// Frames that were given to the core and not given away.
    total: u32,
    /// Places of pages with many.
    pub(crate) blocks: Blocks,
    /// Records handed out to be changed.
    pub(crate) touched: Touched,
}

impl Pages {
    /// Records for frames below `limit`. All are foreign until they are added.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no memory for the records.
    pub fn new(limit: u32) -> Result<Pages, Kern> {
        let mut records = Vec::new();
        records
            .try_reserve_exact(limit as usize)
            .map_err(|_| Kern::ResourceShortage)?;
        records.resize_with(limit as usize, || Page::FOREIGN);
        let empty = List {
            head: NIL,
            count: 0,
        };
        Ok(Pages {
            records,
            free: empty,
            clean: empty,
            total: 0,
            blocks: Blocks::new(limit),
            touched: Touched::new(),
        })
    }

    /// The record of a frame.
    #[inline]
    #[must_use]
    pub fn get(&self, frame: Frame) -> Option<&Page> {
        self.records.get(frame.0 as usize)
    }

    /// The record of a frame, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, frame: Frame) -> Option<&mut Page> {
        let page = self.records.get_mut(frame.0 as usize)?;
        self.touched.note(frame.0);
        Some(page)
    }

    /// One past the highest frame number.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.records.len() as u32
    }

    /// Frames that the core has.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Frames that are free, zeroed or not.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.free.count.saturating_add(self.clean.count)
    }

    /// Frames that are free and zeroed.
    #[must_use]
    pub const fn clean(&self) -> u32 {
        self.clean.count
    }

    /// Makes a foreign frame a free one. Anything else is left alone; says whether it did.
    pub fn add(&mut self, frame: Frame) -> bool {
        if self.get(frame).is_none_or(|p| p.state != State::Foreign) {
            return false;
        }
        self.total = self.total.saturating_add(1);
        self.put(frame, State::Free);
        true
    }

    /// Puts a frame that nobody has any more into a list of free frames: `Free` or `Clean`.
    pub fn put(&mut self, frame: Frame, state: State) {
        let list = match state {
            State::Clean => &mut self.clean,
            _ => &mut self.free,
        };
        let next = list.head;
        list.head = frame.0;
        list.count = list.count.saturating_add(1);
        self.touched.note(frame.0);
        if let Some(page) = self.records.get_mut(frame.0 as usize) {
            page.places.clear(&mut self.blocks);
            *page = Page {
                next,
                state,
                ..Page::FOREIGN
            };
        }
        if let Some(page) = self.records.get_mut(next as usize) {
            page.prev = frame.0;
        }
    }

    /// Puts frames that nobody has any more into the list of free frames, as [`Pages::put`] does each.
    pub(crate) fn put_run(&mut self, frames: &[Frame]) {
        let mut next = self.free.head;
        if let (Some(first), Some(page)) = (frames.first(), self.records.get_mut(next as usize)) {
            page.prev = first.0;
        }
        let after = frames.iter().skip(1).map(|frame| frame.0);
        for (frame, prev) in frames.iter().zip(after.chain([NIL])) {
            self.touched.note(frame.0);
            if let Some(page) = self.records.get_mut(frame.0 as usize) {
                page.places.clear(&mut self.blocks);
                *page = Page {
                    next,
                    prev,
                    state: State::Free,
                    ..Page::FOREIGN
                };
            }
            next = frame.0;
        }
        self.free.head = next;
        self.free.count = self.free.count.saturating_add(frames.len() as u32);
    }

    /// Takes the first frame of a list out.
    #[inline]
    pub fn take(&mut self, state: State) -> Option<Frame> {
        let head = match state {
            State::Clean => self.clean.head,
            _ => self.free.head,
        };
        let frame = Frame(head);
        if head == NIL || !self.take_this(frame) {
            return None;
        }
        Some(frame)
    }

    /// Takes a frame out of a list, rather out of the one that is named. Says whether it is zeroed already.
    #[inline(always)]
    pub(crate) fn take_rather(&mut self, rather: State) -> Option<(Frame, bool)> {
        let clean = match rather {
            State::Clean => self.clean.head != NIL,
            _ => self.free.head == NIL,
        };
        let frame = self.take(if clean { State::Clean } else { State::Free })?;
        Some((frame, clean))
    }

    /// Makes a frame that was taken a dirty page of an object, mapped at one place.
    #[inline(always)]
    pub(crate) fn fill(&mut self, frame: Frame, (object, index): (ObjectId, u64), at: (u32, u64)) {
        if let Some(page) = self.records.get_mut(frame.0 as usize) {
            page.object = Some(object);
            page.index = index;
            page.state = State::Resident;
            page.flags = Flags::DIRTY;
            page.places = Places::one(at);
        }
    }

    /// Both, one after the other.
    #[inline(always)]
    pub(crate) fn take_filled(
        &mut self,
        rather: State,
        page: (ObjectId, u64),
        at: (u32, u64),
    ) -> Option<(Frame, bool)> {
        let (frame, clean) = self.take_rather(rather)?;
        self.fill(frame, page, at);
        Some((frame, clean))
    }

    /// Takes the first frames of a list out, as many as fit, at most `most`; says how many.
    pub(crate) fn take_run<const N: usize>(
        &mut self,
        state: State,
        most: u32,
        frames: &mut heapless::Vec<Frame, N>,
    ) -> u32 {
        let list = match state {
            State::Clean => &mut self.clean,
            _ => &mut self.free,
        };
        let (mut head, mut taken) = (list.head, 0u32);
        while taken < most
            && let Some(page) = self.records.get_mut(head as usize)
            && frames.push(Frame(head)).is_ok()
        {
            self.touched.note(head);
            page.state = State::Taken;
            page.prev = NIL;
            head = core::mem::replace(&mut page.next, NIL);
            taken = taken.wrapping_add(1);
        }
        list.head = head;
        list.count = list.count.saturating_sub(taken);
        if let Some(first) = self.records.get_mut(head as usize) {
            first.prev = NIL;
        }
        taken
    }

    /// Takes this free frame out of its list; says whether it was free.
    #[inline]
    pub fn take_this(&mut self, frame: Frame) -> bool {
        let Some(page) = self.records.get_mut(frame.0 as usize) else {
            return false;
        };
        let list = match page.state {
            State::Free => &mut self.free,
            State::Clean => &mut self.clean,
            _ => return false,
        };
        let (prev, next) = (page.prev, page.next);
        self.touched.note(frame.0);
        page.state = State::Taken;
        page.prev = NIL;
        page.next = NIL;
        list.count = list.count.saturating_sub(1);
        if prev == NIL {
            list.head = next;
        } else if let Some(page) = self.records.get_mut(prev as usize) {
            page.next = next;
        }
        if let Some(page) = self.records.get_mut(next as usize) {
            page.prev = prev;
        }
        true
    }

    /// Gives a taken frame away: it is foreign again.
    pub fn give_away(&mut self, frame: Frame) {
        self.places_forget(frame);
        if let Some(page) = self.get_mut(frame) {
            *page = Page::FOREIGN;
            self.total = self.total.saturating_sub(1);
        }
    }

    /// Makes a frame a page of an object, mapped at this place alone, if at all.
    #[inline]
    pub(crate) fn pass(
        &mut self,
        frame: Frame,
        (object, index): (ObjectId, u64),
        at: Option<(u32, u64)>,
        flags: Flags,
    ) {
        let Some(page) = self.records.get_mut(frame.0 as usize) else {
            return;
        };
        self.touched.note(frame.0);
        page.places.clear(&mut self.blocks);
        if let Some(at) = at {
            page.places = Places::one(at);
        }
        page.object = Some(object);
        page.index = index;
        page.state = State::Resident;
        page.flags = flags;
        page.lock = Prot::NONE;
    }

    /// Makes frames pages side by side of an object, as [`Pages::pass`] does each, mapped side by side from this
    /// place on, if at all.
    pub(crate) fn pass_run(
        &mut self,
        frames: &[Frame],
        (object, index): (ObjectId, u64),
        at: Option<(u32, u64)>,
        flags: Flags,
    ) {
        for (frame, nth) in frames.iter().zip(0u64..) {
            let Some(page) = self.records.get_mut(frame.0 as usize) else {
                continue;
            };
            self.touched.note(frame.0);
            page.places.clear(&mut self.blocks);
            if let Some((map, number)) = at {
                page.places = Places::one((map, number.wrapping_add(nth)));
            }
            page.object = Some(object);
            page.index = index.wrapping_add(nth);
            page.state = State::Resident;
            page.flags = flags;
            page.lock = Prot::NONE;
        }
    }

    /// Wires a resident page once more, for an entry that maps it at a place and makes this known of it.
    /// `false`: that takes more, or cannot be; nothing has changed.
    #[inline]
    pub(crate) fn wire_resident(&mut self, frame: Frame, at: (u32, u64), known: Flags) -> bool {
        let Some(page) = self.records.get_mut(frame.0 as usize) else {
            return false;
        };
        if page.state != State::Resident || !page.lock.is_empty() {
            return false;
        }
        let Some(wired) = page.wired.checked_add(1) else {
            return false;
        };
        self.touched.note(frame.0);
        if page.places.add(at) == Added::Full
            && page.places.add_elsewhere(&mut self.blocks, at) == Added::Full
        {
            return false;
        }
        page.wired = wired;
        page.flags.insert(known);
        true
    }

    /// Remembers that a page may be mapped at a place, map index and page number. `Full`: it cannot;
    /// nothing has changed.
    #[inline]
    pub fn place_add(&mut self, frame: Frame, at: (u32, u64)) -> Added {
        let Some(page) = self.records.get_mut(frame.0 as usize) else {
            return Added::Known;
        };
        self.touched.note(frame.0);
        match page.places.add(at) {
            Added::Full => page.places.add_elsewhere(&mut self.blocks, at),
            added => added,
        }
    }

    /// Whether a page may be mapped at a place.
    #[inline]
    #[must_use]
    pub fn place_holds(&self, frame: Frame, at: (u32, u64)) -> bool {
        self.get(frame)
            .is_some_and(|page| page.places.holds(&self.blocks, at))
    }

    /// Where a page may be mapped.
    #[must_use]
    pub fn places_of(&self, frame: Frame) -> heapless::Vec<(u32, u64), BLOCK> {
        self.get(frame)
            .map(|page| page.places.list(&self.blocks))
            .unwrap_or_default()
    }

    /// A page is mapped nowhere any more.
    #[inline]
    pub fn places_forget(&mut self, frame: Frame) {
        self.touched.note(frame.0);
        if let Some(page) = self.records.get_mut(frame.0 as usize) {
            page.places.clear(&mut self.blocks);
        }
    }

    /// Every record with its frame.
    pub fn iter(&self) -> impl Iterator<Item = (Frame, &Page)> {
        self.from(0)
    }

    /// The records from a frame on.
    pub(crate) fn from(&self, first: u32) -> impl Iterator<Item = (Frame, &Page)> {
        let rest = self.records.get(first as usize..).unwrap_or(&[]);
        let numbered = (first..).zip(rest);
        numbered.map(|(number, page)| (Frame(number), page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_frame_is_taken_once_from_anywhere_in_its_list() {
        let mut pages = Pages::new(8).unwrap();
        for number in 2..6 {
            assert!(pages.add(Frame(number)));
            assert!(!pages.add(Frame(number)), "it is not foreign any more");
        }
        assert_eq!((pages.total(), pages.free()), (4, 4));
        assert!(pages.take_this(Frame(4)));
        assert!(!pages.take_this(Frame(4)));
        assert!(!pages.take_this(Frame(7)));
        let mut rest = Vec::new();
        while let Some(frame) = pages.take(State::Free) {
            rest.push(frame.0);
        }
        rest.sort_unstable();
        assert_eq!(rest, [2, 3, 5]);
        pages.put(Frame(3), State::Clean);
        assert_eq!(pages.take(State::Free), None);
        assert_eq!(pages.take(State::Clean), Some(Frame(3)));
        pages.give_away(Frame(3));
        assert_eq!(pages.total(), 3);
    }
}
