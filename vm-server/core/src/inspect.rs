//! Looking at the state from outside, without changing it: for tests, reports and statistics.
//!
//! [`Core::would_grant`] is the measure of every translation: one may exist only where it names the
//! frame, with no more rights (DESIGN: translation soundness).

use ipc_abi::types::Prot;

use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::map::entry::Entry;
use crate::map::submap::Leaf;
use crate::map::tree::Link;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::object::{Kind, Object};
use crate::range::{bytes_of, page_of};

/// How many records of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames that the core has.
    pub frames: u32,
    /// Frames of those that hold nothing.
    pub free: u32,
    /// Address maps, hidden ones too.
    pub maps: u32,
    /// Map entries.
    pub entries: u32,
    /// Memory objects.
    pub objects: u32,
    /// Pagers as seen from objects.
    pub pagers: u32,
    /// Attachments of pagers.
    pub controls: u32,
    /// Data requests that are open, or have not been looked at.
    pub requests: u32,
    /// Trays.
    pub trays: u32,
    /// Copies.
    pub copies: u32,
    /// Copies that pagers were asked to make.
    pub asked: u32,
    /// Named entries.
    pub named: u32,
    /// Ranges of maps that were set aside.
    pub reserved: u32,
    /// Operations.
    pub ops: u32,
    /// Faults and operations that wait.
    pub waiters: u32,
    /// Loans to pagers.
    pub loans: u32,
    /// Messages that pagers are still to be sent.
    pub notes: u32,
    /// Nodes of page trees.
    pub nodes: u32,
    /// Pages that are mapped at more places than they remember themselves.
    pub blocks: u32,
}

impl Census {
    /// Whether there is no record of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self
            == Census {
                frames: self.frames,
                free: self.free,
                ..Census::default()
            }
    }
}

/// Look-ups in a map that remember the last: of pages in order most find the entry of the one before.
pub struct Looks<'a> {
    core: &'a Core,
    map: MapId,
    /// The entry of the map, and what shows of it.
    last: Option<(Link, Leaf)>,
}

impl Looks<'_> {
    fn find(&mut self, address: u64) -> Option<(Link, Leaf)> {
        let near = |(_, leaf): &(Link, Leaf)| leaf.start <= address && address < leaf.end;
        if let Some(last) = self.last.filter(near) {
            return Some(last);
        }
        let record = self.core.maps.get(self.map)?;
        let link = record.tree.find(&self.core.entries, address);
        let leaf = self.core.leaf_at(link.0, address)?;
        self.last = Some((link, leaf));
        self.last
    }

    /// The frame that a look-up of a page number reaches, as [`Core::would_grant`].
    pub fn grant(&mut self, page: u64) -> Option<(Frame, Prot)> {
        let address = bytes_of(page);
        let (_, leaf) = self.find(address)?;
        self.core.leaf_grants(&leaf, address)
    }

    /// Whether taking back the translations of a frame, or those of a range, would find one at a page
    /// number.
    pub fn knows_place(&mut self, frame: Frame, page: u64) -> bool {
        let record = self.core.pages.get(frame);
        // Devices have no records, or none that are the core's.
        let is_page = record.is_some_and(|page| page.state != State::Foreign);
        let visited = self.find(bytes_of(page)).is_some_and(|(link, _)| {
            let entry = self.core.entries.at(link.0);
            entry.is_some_and(|entry| entry.visited || entry.is_tray)
        });
        let place = (self.map.index(), page);
        visited && (!is_page || self.core.pages.place_holds(frame, place))
    }
}

impl Core {
    /// Counts everything. A question that is not on record counts as if it were.
    #[must_use]
    pub fn census(&self) -> Census {
        let open = u32::from(self.dialogue.is_some_and(|it| it.question.is_some()));
        Census {
            frames: self.pages.total(),
            free: self.pages.free(),
            maps: self.maps.len(),
            entries: self.entries.len(),
            objects: self.objects.len(),
            pagers: self.pagers.len(),
            controls: self.controls.len(),
            requests: self.requests.len().saturating_add(open),
            trays: self.trays.len(),
            copies: self.copies.len(),
            asked: self.asked.len(),
            named: self.named.len(),
            reserved: self.reserved.len(),
            ops: self.ops.len(),
            waiters: self.waiters.len().saturating_add(open),
            loans: self.loans.len(),
            notes: self.notes.len(),
            nodes: self.nodes.len(),
            blocks: self.pages.blocks.len(),
        }
    }

    /// The frame that a look-up of page number `page` of a map reaches now, with the rights that a
    /// translation may have as long as nothing changes. `None`: it reaches none.
    #[must_use]
    pub fn would_grant(&self, map: MapId, page: u64) -> Option<(Frame, Prot)> {
        self.looks(map).grant(page)
    }

    /// Look-ups in a map, one after the other.
    #[must_use]
    pub const fn looks(&self, map: MapId) -> Looks<'_> {
        let last = None;
        Looks {
            core: self,
            map,
            last,
        }
    }

    /// What a look-up that comes to an entry grants.
    fn leaf_grants(&self, leaf: &Leaf, address: u64) -> Option<(Frame, Prot)> {
        let entry = self.entries.at(leaf.link)?;
        let top = entry.object?;
        let index = page_of(entry.offset_of(leaf.inner_of(address)));
        let object = self.objects.get(top)?;
        let read_only = leaf.rights.difference(Prot::WRITE);
        match object.kind {
            Kind::Device { first } => {
                let frame = first.0.checked_add(u32::try_from(index).ok()?)?;
                return Some((Frame(frame), leaf.rights));
            }
            Kind::Tray(tray) => {
                return match object.pages.get(&self.nodes, index) {
                    Slot::Page(frame) => Some((frame, leaf.rights)),
                    _ => {
                        let slot = u32::try_from(index).ok()?;
                        Some((self.tray_shown(tray, slot)?, Prot::READ))
                    }
                };
            }
            Kind::Internal | Kind::External => {}
        }
        if let Slot::Page(frame) = object.pages.get(&self.nodes, index) {
            let page = self.pages.get(frame)?;
            let writable = page.state == State::Resident
                && page.flags.contains(Flags::DIRTY)
                && !entry.needs_copy
                && !leaf.copies
                && !self.owes_push(top, index);
            let rights = if writable { leaf.rights } else { read_only };
            return self.grant(frame, rights);
        }
        let (mut at, mut index) = (top, index);
        loop {
            let object = self.objects.get(at)?;
            match object.pages.get(&self.nodes, index) {
                Slot::Page(frame) => return self.grant(frame, read_only),
                Slot::Pending(_) => return None,
                Slot::Empty if object.pager.is_some() => return None,
                Slot::Empty | Slot::Unavailable => {}
            }
            (at, index) = self.below(at, index)?;
        }
    }

    /// Changes of a map that are committed: while there is no other, its entries are those of before.
    #[must_use]
    pub fn map_version(&self, map: MapId) -> Option<u64> {
        self.maps.get(map).map(|record| record.timestamp)
    }

    /// Lets the core make no more than `limit` records of each kind from now on; `None`: as many as
    /// there is memory for. For tests of what happens when there is none.
    pub fn limit_records(&mut self, limit: Option<u32>) {
        // What was reserved for it is not to be missed.
        self.record_question();
        let limit = match limit {
            Some(limit) => limit,
            None => crate::RECORDS,
        };
        self.maps.set_limit(limit);
        self.entries.set_limit(limit);
        self.objects.set_limit(limit);
        self.pagers.set_limit(limit);
        self.controls.set_limit(limit);
        self.requests.set_limit(limit);
        self.trays.set_limit(limit);
        self.copies.set_limit(limit);
        self.asked.set_limit(limit);
        self.named.set_limit(limit);
        self.reserved.set_limit(limit);
        self.ops.set_limit(limit);
        self.waiters.set_limit(limit);
        self.loans.set_limit(limit);
        self.notes.set_limit(limit);
        self.nodes.set_limit(limit);
        self.pages.blocks.set_limit(limit);
    }

    /// The entry that a look-up of page number `page` of a map finds.
    #[must_use]
    pub fn entry_at(&self, map: MapId, page: u64) -> Option<&Entry> {
        let link = self.maps.get(map)?.tree.find(&self.entries, bytes_of(page));
        self.entries.at(link.0)
    }

    /// The objects that a look-up of page number `page` of a map passes, from the top down to the one
    /// that decides, each with the page's number in it and what it has there.
    pub fn chain(&self, map: MapId, page: u64) -> impl Iterator<Item = (&Object, u64, Slot)> {
        let mut at = self.object_at(map, bytes_of(page));
        core::iter::from_fn(move || {
            let (id, index) = at?;
            let object = self.objects.get(id)?;
            let slot = object.pages.get(&self.nodes, index);
            at = match slot {
                Slot::Page(_) | Slot::Pending(_) => None,
                Slot::Empty | Slot::Unavailable => self.below(id, index),
            };
            Some((object, index, slot))
        })
    }

    /// A found page, if it may be seen at all.
    fn grant(&self, frame: Frame, rights: Prot) -> Option<(Frame, Prot)> {
        let page = self.pages.get(frame)?;
        if page.state == State::Cleaning && self.flushing(frame).is_some() {
            return None;
        }
        let rights = rights.difference(page.lock);
        (!rights.is_empty()).then_some((frame, rights))
    }

    /// Whether the copy object of an object still shows this page of it, so that a write has to give
    /// it the old contents first.
    fn owes_push(&self, object: ObjectId, index: u64) -> bool {
        let copy = self.objects.get(object).and_then(|record| record.copy);
        let Some(copy) = copy.and_then(|id| self.objects.get(id)) else {
            return false;
        };
        let Some(index) = index.checked_sub(page_of(copy.shadow_offset)) else {
            return false;
        };
        index < page_of(copy.size) && copy.pages.get(&self.nodes, index) == Slot::Empty
    }
}
