//! The flat model: what each task must see at each address, and nothing clever.
//!
//! Memory is pages of bytes. A [`Cell`] is one page as its sharers see it; a copy copies at once, a
//! share shares the cell. There are no objects, shadows or pagers here, so an agreement of the VM
//! core with this model means that all its laziness is invisible. Ranges are in pages.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

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

/// The byte at `offset` of page `index` of a pager's object, before anybody writes it.
#[must_use]
pub fn file_byte(object: u32, index: u64, offset: usize) -> u8 {
    let mixed = (u64::from(object) << 40 ^ index << 8 ^ (offset as u64 >> 3))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8 | 1
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

    /// Whether `page` has exactly these bytes.
    #[must_use]
    pub fn agrees(&self, page: &[u8]) -> bool {
        match self {
            Bytes::Zero => page.iter().all(|byte| *byte == 0),
            Bytes::Written(bytes) => **bytes == *page,
            Bytes::File { .. } => (0..PAGE).all(|offset| page[offset] == self.at(offset)),
        }
    }

    fn write(&mut self, offset: usize, value: u8) {
        if !matches!(self, Bytes::Written(_)) {
            let bytes: Vec<u8> = (0..PAGE).map(|at| self.at(at)).collect();
            *self = Bytes::Written(bytes.into_boxed_slice());
        }
        if let Bytes::Written(bytes) = self {
            bytes[offset] = value;
        }
    }
}

/// One page as all its sharers see it.
pub type Cell = Rc<RefCell<Bytes>>;

/// A new page that nobody shares yet.
#[must_use]
pub fn cell(bytes: Bytes) -> Cell {
    Rc::new(RefCell::new(bytes))
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
}

/// What a task sees: pages by page number.
#[derive(Clone, Debug, Default)]
pub struct Space {
    pages: BTreeMap<u64, Mapped>,
}

impl Space {
    /// The page with this number, if it is mapped.
    #[must_use]
    pub fn get(&self, page: u64) -> Option<&Mapped> {
        self.pages.get(&page)
    }

    /// Every mapped page, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Mapped)> {
        self.pages.iter().map(|(page, mapped)| (*page, mapped))
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
            self.pages.insert(
                page,
                Mapped {
                    cell,
                    ..like.clone()
                },
            );
        }
    }

    /// Unmaps a range; holes do not matter.
    pub fn unmap(&mut self, start: u64, count: u64) {
        for page in start..start + count {
            self.pages.remove(&page);
        }
    }

    /// The cells of a range, if all of it is mapped with at least `needed` rights.
    #[must_use]
    pub fn cells(&self, start: u64, count: u64, needed: Prot) -> Option<Vec<Cell>> {
        (start..start + count)
            .map(|page| {
                let mapped = self.pages.get(&page)?;
                mapped
                    .protection
                    .contains(needed)
                    .then(|| mapped.cell.clone())
            })
            .collect()
    }

    /// Sets the rights of a range as vm_protect does.
    ///
    /// Returns whether it was allowed; if not, nothing has changed (rules 110 to 113).
    pub fn protect(&mut self, start: u64, count: u64, set_maximum: bool, to: Prot) -> bool {
        let range = start..start + count;
        let allowed = range.clone().all(|page| {
            self.pages
                .get(&page)
                .is_some_and(|mapped| mapped.max.contains(to))
        });
        if !allowed {
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
                Inherit::Share => Some((*page, mapped.clone())),
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
        Space { pages }
    }

    /// Writes one byte, if the page is mapped writable.
    pub fn write(&mut self, page: u64, offset: usize, value: u8) -> bool {
        match self.pages.get(&page) {
            Some(mapped) if mapped.protection.contains(Prot::WRITE) => {
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
    cell(of.borrow().clone())
}

/// Replaces the bytes of each page of `to` by those of `from`, which may overlap it (rule 70).
pub fn overwrite(to: &[Cell], from: &[Cell]) {
    let taken: Vec<Bytes> = from.iter().map(|cell| cell.borrow().clone()).collect();
    for (cell, bytes) in to.iter().zip(taken) {
        *cell.borrow_mut() = bytes;
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
        assert_eq!(child.get(0).unwrap().cell.borrow().at(5), 0);
        assert_eq!(child.get(1).unwrap().cell.borrow().at(5), 1);
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
        overwrite(&cells[1..3], &cells[0..2]);
        let first: Vec<u8> = cells.iter().map(|cell| cell.borrow().at(0)).collect();
        assert_eq!(first, [1, 1, 2]);
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
