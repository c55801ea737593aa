//! The flat model: what each task must see at each address, and nothing clever.
//!
//! Memory is pages of bytes. A [`Cell`] is one page as its sharers see it; a copy copies at once, a
//! share shares the cell. There are no objects, shadows or pagers here, so an agreement of the VM
//! core with this model means that all its laziness is invisible. Ranges are in pages.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// The bytes of a page. Most pages are never written, so the common contents have no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// All zero.
    Zero,
    /// What pager `object` supplies for page `index`.
    File {
        /// Number of the pager's object.
        object: u32,
        /// Page of the object.
        index: u64,
    },
    /// Written at least once.
    Written(Box<[u8]>),
}

/// Bytes side by side that are equal in a pager's page, so that making one is quick.
const RUN: usize = 32;

/// The byte at `offset` of page `index` of a pager's object, before anybody writes it. Never 0.
#[must_use]
pub fn file_byte(object: u32, index: u64, offset: usize) -> u8 {
    let mixed = (u64::from(object) << 40 ^ index << 8 ^ (offset / RUN) as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8 | 1
}

/// A page of a pager's object, before anybody writes it.
#[must_use]
pub fn file_page(object: u32, index: u64) -> Box<[u8]> {
    let mut page = vec![0; PAGE].into_boxed_slice();
    for (run, bytes) in page.chunks_exact_mut(RUN).enumerate() {
        bytes.fill(file_byte(object, index, run * RUN));
    }
    page
}

impl Bytes {
    /// The byte at `offset`.
    #[must_use]
    pub fn at(&self, offset: usize) -> u8 {
        match self {
            Bytes::Zero => 0,
            Bytes::File { object, index } => file_byte(*object, *index, offset),
            Bytes::Written(bytes) => bytes[offset],
        }
    }

    /// All bytes of the page.
    #[must_use]
    pub fn to_page(&self) -> Box<[u8]> {
        match self {
            Bytes::Zero => vec![0; PAGE].into_boxed_slice(),
            Bytes::Written(bytes) => bytes.clone(),
            Bytes::File { object, index } => file_page(*object, *index),
        }
    }

    /// Whether `page` has exactly these bytes.
    #[must_use]
    pub fn agrees(&self, page: &[u8]) -> bool {
        match self {
            Bytes::Zero => page == [0; PAGE],
            Bytes::Written(bytes) => **bytes == *page,
            Bytes::File { object, index } => page
                .chunks_exact(RUN)
                .enumerate()
                .all(|(run, bytes)| *bytes == [file_byte(*object, *index, run * RUN); RUN]),
        }
    }

    fn write(&mut self, offset: usize, value: u8) {
        if !matches!(self, Bytes::Written(_)) {
            *self = Bytes::Written(self.to_page());
        }
        if let Bytes::Written(bytes) = self {
            bytes[offset] = value;
        }
    }
}

/// What is in a page, and whom it may have to be asked for.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its bytes.
    pub bytes: Bytes,
    /// Number of the pager's object that the bytes come from, or from whose copy.
    pub pager: Option<u32>,
    /// What it may be as well: memory that was given up reads zero, some day or never.
    others: Vec<Bytes>,
    /// An operation failed half way, or a pager took data along: any bytes are right.
    pub lost: bool,
    /// The purgeable memory that the page is of, by the name of the call that made it.
    pub purgeable: Option<u64>,
    /// It may be emptied: any bytes are right, for now.
    pub volatile: bool,
    /// Whether it is the same as another page or a copy of it nobody knows: any bytes are right, for good.
    tangled: bool,
}

/// Other contents that a page may have, at most; with more, nobody knows any more.
const OTHERS: usize = 4;

impl Content {
    /// Of known bytes.
    const fn new(bytes: Bytes, pager: Option<u32>) -> Content {
        Content {
            bytes,
            pager,
            others: Vec::new(),
            lost: false,
            purgeable: None,
            volatile: false,
            tangled: false,
        }
    }

    /// Whether nobody can say what it is.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.lost || self.volatile || self.tangled
    }

    /// Whether a page may look like this.
    #[must_use]
    pub fn allows(&self, page: &[u8]) -> bool {
        self.is_unknown()
            || self.bytes.agrees(page)
            || self.others.iter().any(|other| other.agrees(page))
    }

    /// Whether a byte may be this.
    #[must_use]
    pub fn allows_byte(&self, offset: usize, byte: u8) -> bool {
        self.is_unknown()
            || self.bytes.at(offset) == byte
            || self.others.iter().any(|other| other.at(offset) == byte)
    }

    /// What it holds may be given up from now on, until it is written.
    pub fn give_up(&mut self) {
        let zero = |bytes: &Bytes| *bytes == Bytes::Zero;
        if !zero(&self.bytes) && !self.others.iter().any(zero) {
            self.others.push(Bytes::Zero);
        }
        self.lost |= self.others.len() > OTHERS;
    }

    /// It is all zero now.
    pub fn clear(&mut self) {
        self.bytes = Bytes::Zero;
        self.others.clear();
        self.lost = false;
    }

    fn write(&mut self, offset: usize, value: u8) {
        self.bytes.write(offset, value);
        for other in &mut self.others {
            other.write(offset, value);
        }
    }
}

/// One page as all its sharers see it.
pub type Cell = Rc<RefCell<Content>>;

/// A new page that nobody shares yet.
#[must_use]
pub fn cell(bytes: Bytes) -> Cell {
    let pager = match bytes {
        Bytes::File { object, .. } => Some(object),
        _ => None,
    };
    Rc::new(RefCell::new(Content::new(bytes, pager)))
}

/// A name of a cell: the same for all its sharers, as long as one of them lives.
#[must_use]
pub fn name(of: &Cell) -> usize {
    Rc::as_ptr(of) as usize
}

/// A page of a task.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// What it shows.
    pub cell: Cell,
    /// Rights now.
    pub protection: Prot,
    /// The most that they can become.
    pub max: Prot,
    /// What a child gets.
    pub inherit: Inherit,
    /// It is a page of a sealed map that shows here.
    pub shown: Option<Shown>,
    /// It is never replaced, and never goes (rule 89).
    pub permanent: bool,
}

/// A page of a sealed map, where it shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Rights that the sealed map gives now.
    pub protection: Prot,
    /// Rights that it may ever give.
    pub max: Prot,
    /// What is written is the task's own from then on.
    pub copies: bool,
}

impl Mapped {
    /// Rights that a touch has.
    #[must_use]
    pub fn rights(&self) -> Prot {
        self.shown
            .map_or(self.protection, |shown| self.protection & shown.protection)
    }

    /// Rights that a touch may ever have.
    #[must_use]
    pub fn most(&self) -> Prot {
        self.shown.map_or(self.max, |shown| self.max & shown.max)
    }

    /// As an entry of its own: what may be written by oneself alone is not executed (rule 78).
    #[must_use]
    pub fn taken_out(&self) -> Mapped {
        let copies = self.shown.is_some_and(|shown| shown.copies);
        let lost = if copies { Prot::EXECUTE } else { Prot::NONE };
        let inherit = match self.inherit {
            Inherit::Share if copies => Inherit::Copy,
            inherit => inherit,
        };
        Mapped {
            cell: self.cell.clone(),
            protection: self.rights().difference(lost),
            max: self.most().difference(lost),
            inherit,
            shown: None,
            permanent: self.permanent,
        }
    }

    /// It has lost its rights for good.
    const fn bar(&mut self) {
        (self.protection, self.max) = (Prot::NONE, Prot::NONE);
    }

    /// The cell that whoever shares the page now gets: of a sealed map it is never the task's own.
    #[must_use]
    pub fn shared_cell(&self) -> Cell {
        match self.shown {
            Some(Shown { copies: true, .. }) => snapshot(&self.cell),
            _ => self.cell.clone(),
        }
    }
}

fn meet(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 < other.0 + other.1 && other.0 < one.0 + one.1
}

/// What a task sees: pages by page number.
#[derive(Clone, Debug, Default)]
pub struct Space {
    pages: BTreeMap<u64, Mapped>,
    /// No page outside of this range shows of a sealed map.
    shown: Option<(u64, u64)>,
    /// The version of the map when what shows of sealed maps was last compared.
    looked: Option<u64>,
    /// Ranges set aside: first page, pages.
    pub reserved: Vec<(u64, u64)>,
}

impl Space {
    /// The page with this number, if it is mapped.
    #[must_use]
    pub fn get(&self, page: u64) -> Option<&Mapped> {
        self.pages.get(&page)
    }

    /// The first mapped page at or above this number; above all, the first.
    #[must_use]
    pub fn from(&self, page: u64) -> Option<(u64, &Mapped)> {
        let found = self.pages.range(page..).next();
        let found = found.or_else(|| self.pages.first_key_value());
        found.map(|(page, mapped)| (*page, mapped))
    }

    /// Every mapped page, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Mapped)> {
        self.pages.iter().map(|(page, mapped)| (*page, mapped))
    }

    /// The pages that show of sealed maps, by number.
    pub fn shown(&mut self) -> Vec<u64> {
        let Some((first, last)) = self.shown else {
            return Vec::new();
        };
        let pages = self.pages.range(first..=last);
        let pages = pages.filter(|(_, mapped)| mapped.shown.is_some());
        let shown: Vec<u64> = pages.map(|(page, _)| *page).collect();
        self.shown = shown.first().copied().zip(shown.last().copied());
        shown
    }

    /// Whether what shows of sealed maps may be another than when this was last asked, of a map of this
    /// version.
    pub fn is_to_look(&mut self, version: Option<u64>) -> bool {
        let looks = self.shown.is_some() && (self.looked != version || version.is_none());
        self.looked = version;
        looks
    }

    /// It is another map's now.
    pub const fn look_again(&mut self) {
        self.looked = None;
    }

    /// A page shows of a sealed map from now on.
    pub fn show(&mut self, page: u64, shown: Shown) {
        if let Some(mapped) = self.pages.get_mut(&page) {
            mapped.shown = Some(shown);
            self.note_shown(page, page);
        }
    }

    fn note_shown(&mut self, first: u64, last: u64) {
        let (low, high) = self.shown.unwrap_or((first, last));
        self.shown = Some((low.min(first), high.max(last)));
        self.looked = None;
    }

    /// The mapped pages of a range, which may be the whole map.
    #[must_use]
    pub fn mapped(&self, start: u64, count: u64) -> Vec<u64> {
        let pages = self.pages.range(start..start.saturating_add(count));
        pages.map(|(page, _)| *page).collect()
    }

    /// Whether no page of the range is mapped.
    #[must_use]
    pub fn is_free(&self, start: u64, count: u64) -> bool {
        self.pages.range(start..start + count).next().is_none()
    }

    /// Whether every page of the range is mapped.
    #[must_use]
    pub fn is_full(&self, start: u64, count: u64) -> bool {
        self.pages.range(start..start + count).count() as u64 == count
    }

    /// Maps cells from `start` on, over whatever is there.
    pub fn map(&mut self, start: u64, cells: impl IntoIterator<Item = Cell>, like: &Mapped) {
        for (page, cell) in (start..).zip(cells) {
            if like.shown.is_some() {
                self.note_shown(page, page);
            }
            self.pages.insert(
                page,
                Mapped {
                    cell,
                    ..like.clone()
                },
            );
        }
    }

    /// Unmaps a range; holes do not matter. What is permanent stays, without rights.
    pub fn unmap(&mut self, start: u64, count: u64) {
        self.bar(start, count);
        for page in start..start + count {
            if self.get(page).is_some_and(|mapped| !mapped.permanent) {
                self.pages.remove(&page);
            }
        }
    }

    /// What is permanent in a range loses its rights.
    pub fn bar(&mut self, start: u64, count: u64) {
        let pages = self.pages.range_mut(start..start + count);
        pages
            .filter(|(_, mapped)| mapped.permanent)
            .for_each(|(_, mapped)| mapped.bar());
    }

    /// Whether a page of a range is permanent.
    #[must_use]
    pub fn is_permanent(&self, start: u64, count: u64) -> bool {
        let mut pages = self.pages.range(start..start + count);
        pages.any(|(_, mapped)| mapped.permanent)
    }

    /// A mapped range becomes nobody else's, and may have more rights (rule 116).
    pub fn own(&mut self, start: u64, count: u64, rights: Prot) {
        for (_, mapped) in self.pages.range_mut(start..start + count) {
            let own = mapped.taken_out();
            *mapped = Mapped {
                cell: snapshot(&own.cell),
                max: own.max | rights,
                ..own
            };
        }
    }

    /// The cells of whatever is mapped in a range, in order.
    #[must_use]
    pub fn cells(&self, start: u64, count: u64) -> Vec<Cell> {
        let range = self.pages.range(start..start + count);
        range.map(|(_, mapped)| mapped.cell.clone()).collect()
    }

    /// Whether each page of a range is mapped and passes a test.
    ///
    /// # Errors
    /// By the lowest page that is not or does not: `KERN_INVALID_ADDRESS`,
    /// `KERN_PROTECTION_FAILURE`.
    pub fn check(
        &self,
        start: u64,
        count: u64,
        passes: impl Fn(&Mapped) -> bool,
    ) -> Result<(), Kern> {
        (start..start + count).try_for_each(|page| match self.pages.get(&page) {
            None => Err(Kern::InvalidAddress),
            Some(mapped) if passes(mapped) => Ok(()),
            Some(_) => Err(Kern::ProtectionFailure),
        })
    }

    /// The lowest page from `from` on where `count` pages are free.
    #[must_use]
    pub fn first_fit(&self, from: u64, count: u64) -> u64 {
        let mut start = from;
        loop {
            let taken = self.pages.range(start..start + count).next_back();
            let reserved = self.reserved.iter().filter(|r| meet(**r, (start, count)));
            let reserved = reserved.map(|(first, pages)| first + pages);
            match taken
                .map(|(page, _)| page + 1)
                .into_iter()
                .chain(reserved)
                .max()
            {
                Some(end) => start = end,
                None => return start,
            }
        }
    }

    /// Whether a part of a range was set aside.
    #[must_use]
    pub fn is_reserved(&self, start: u64, count: u64) -> bool {
        let mut reserved = self.reserved.iter();
        reserved.any(|range| meet(*range, (start, count)))
    }

    /// Whether all of a range was set aside at once.
    #[must_use]
    pub fn may_show(&self, start: u64, count: u64) -> bool {
        let within =
            |(first, pages): &(u64, u64)| *first <= start && start + count <= first + pages;
        self.reserved.iter().any(within)
    }

    /// What a task begins with that inherits nothing.
    #[must_use]
    pub fn fresh(&self) -> Space {
        Space {
            reserved: self.reserved.clone(),
            ..Space::default()
        }
    }

    /// Sets the rights of a range as vm_protect does.
    ///
    /// Returns whether it was allowed; if not, nothing has changed (rules 110 to 113).
    pub fn protect(&mut self, start: u64, count: u64, set_maximum: bool, to: Prot) -> bool {
        let range = start..start + count;
        if self
            .check(start, count, |mapped| mapped.max.contains(to))
            .is_err()
        {
            return false;
        }
        for (_, mapped) in self.pages.range_mut(range) {
            if set_maximum {
                mapped.max = to;
                mapped.protection &= to;
            } else {
                mapped.protection = to;
            }
        }
        true
    }

    /// Sets the rights of a mapped page, now and at most.
    pub fn set_rights(&mut self, page: u64, (protection, max): (Prot, Prot)) {
        if let Some(mapped) = self.pages.get_mut(&page) {
            (mapped.protection, mapped.max) = (protection, max);
        }
    }

    /// The page with this number, to change it.
    pub fn get_mut(&mut self, page: u64) -> Option<&mut Mapped> {
        self.pages.get_mut(&page)
    }

    /// Sets the inheritance of whatever is mapped in a range (rule 118).
    pub fn inherit(&mut self, start: u64, count: u64, to: Inherit) {
        for (_, mapped) in self.pages.range_mut(start..start + count) {
            mapped.inherit = to;
        }
    }

    /// What a child sees (rules 120 to 128): a copy that nobody could have read is left out.
    #[must_use]
    pub fn fork(&self) -> Space {
        let pages = self
            .pages
            .iter()
            .filter_map(|(page, mapped)| match mapped.inherit {
                Inherit::None => None,
                // Rule 125.
                Inherit::Copy if mapped.shown.is_some() => None,
                Inherit::Share => Some((
                    *page,
                    Mapped {
                        cell: mapped.shared_cell(),
                        ..mapped.clone()
                    },
                )),
                Inherit::Copy if !mapped.max.contains(Prot::READ) => None,
                Inherit::Copy => Some((
                    *page,
                    Mapped {
                        cell: snapshot(&mapped.cell),
                        ..mapped.clone()
                    },
                )),
            })
            .collect();
        Space {
            pages,
            shown: self.shown,
            looked: None,
            reserved: self.reserved.clone(),
        }
    }

    /// Writes one byte, if the page is mapped writable.
    pub fn write(&mut self, page: u64, offset: usize, value: u8) -> bool {
        match self.pages.get(&page) {
            Some(mapped) if mapped.rights().contains(Prot::WRITE) => {
                mapped.cell.borrow_mut().write(offset, value);
                true
            }
            _ => false,
        }
    }
}

/// A copy of a page as it is now.
#[must_use]
pub fn snapshot(of: &Cell) -> Cell {
    let of = of.borrow();
    Rc::new(RefCell::new(Content {
        lost: of.is_unknown(),
        purgeable: None,
        volatile: false,
        tangled: false,
        ..of.clone()
    }))
}

/// A page that is another, or a copy of it: whatever can be done with that one may be done with this, and
/// what is written to one may show in the other.
#[must_use]
pub fn perhaps_shared(of: &Cell) -> Cell {
    of.borrow_mut().tangled = true;
    Rc::new(RefCell::new(of.borrow().clone()))
}

/// Replaces `size` bytes of `to` from `at` on by those of `from` from `start` on. The two may overlap
/// (rule 70); both begin in their first cell.
pub fn overwrite(to: &[Cell], at: usize, from: &[Cell], start: usize, size: usize) {
    let taken: Vec<Content> = from.iter().map(|cell| cell.borrow().clone()).collect();
    let mut done = 0;
    while done < size {
        let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
        let (source, place) = ((start + done) / PAGE, (start + done) % PAGE);
        let count = (PAGE - offset).min(PAGE - place).min(size - done);
        let (mut target, taken) = (to[page].borrow_mut(), &taken[source]);
        if count == PAGE {
            let pager = taken.pager.or(target.pager);
            *target = Content {
                pager,
                lost: taken.is_unknown(),
                purgeable: target.purgeable,
                volatile: target.volatile,
                tangled: target.tangled,
                ..taken.clone()
            };
        } else {
            for byte in 0..count {
                let value = taken.bytes.at(place + byte);
                target.write(offset + byte, value);
            }
            target.pager = target.pager.or(taken.pager);
            target.lost |= taken.is_unknown() || !taken.others.is_empty();
        }
        done += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous() -> Mapped {
        Mapped {
            cell: cell(Bytes::Zero),
            protection: Prot::DEFAULT,
            max: Prot::ALL,
            inherit: Inherit::Copy,
            shown: None,
            permanent: false,
        }
    }

    #[test]
    fn a_child_copies_or_shares_as_each_page_says() {
        let mut parent = Space::default();
        parent.map(0, (0..3).map(|_| cell(Bytes::Zero)), &anonymous());
        parent.inherit(1, 1, Inherit::Share);
        parent.inherit(2, 1, Inherit::None);
        let child = parent.fork();
        assert!(parent.write(0, 5, 1) && parent.write(1, 5, 1));
        assert_eq!(child.get(0).unwrap().cell.borrow().bytes.at(5), 0);
        assert_eq!(child.get(1).unwrap().cell.borrow().bytes.at(5), 1);
        assert!(child.get(2).is_none());
    }

    #[test]
    fn overwriting_with_an_overlapping_range_is_a_memmove() {
        let cells: Vec<Cell> = (1..4)
            .map(|value| {
                let cell = cell(Bytes::Zero);
                cell.borrow_mut().write(0, value);
                cell
            })
            .collect();
        overwrite(&cells[1..3], 0, &cells[0..2], 0, 2 * PAGE);
        let first: Vec<u8> = cells.iter().map(|cell| cell.borrow().bytes.at(0)).collect();
        assert_eq!(first, [1, 1, 2]);
        overwrite(&cells[0..2], PAGE - 1, &cells[2..3], 0, 2);
        assert_eq!(cells[0].borrow().bytes.at(PAGE - 1), 2);
        assert_eq!(cells[1].borrow().bytes.at(0), 0);
    }

    #[test]
    fn what_was_given_up_is_the_old_or_zero_until_it_is_written() {
        let cell = cell(Bytes::Zero);
        let mut content = cell.borrow_mut();
        content.write(7, 1);
        content.give_up();
        assert!(content.allows_byte(7, 1) && content.allows_byte(7, 0));
        assert!(!content.allows_byte(7, 2));
        content.write(8, 3);
        assert!(content.allows_byte(8, 3) && !content.allows_byte(8, 0));
        content.clear();
        assert!(content.allows_byte(7, 0) && !content.allows_byte(7, 1));
    }

    #[test]
    fn protection_changes_all_of_a_range_or_nothing() {
        let mut space = Space::default();
        space.map(0, [cell(Bytes::Zero)], &anonymous());
        assert!(!space.protect(0, 2, false, Prot::READ));
        assert_eq!(space.get(0).unwrap().protection, Prot::DEFAULT);
        assert!(space.protect(0, 1, true, Prot::READ));
        assert!(!space.write(0, 0, 1));
        assert!(!space.protect(0, 1, false, Prot::DEFAULT));
    }
}
