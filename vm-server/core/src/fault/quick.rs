//! The two common faults: the page lies in the entry's own object and may be mapped as it is, and the
//! first write to memory that has no other contents than zeros.
//!
//! Nothing is copied, asked for or waited for: the answer is one translation, perhaps with neighbours
//! beside it. [`Core::fault_now`] gives it without an event and without effects, or gives `None`: then the
//! event decides, as for every fault. In tests [`Core::handle`] begins with it, so that whatever tests
//! events tests this.
//!
//! What lies over other memory is the matter of [`super::below`].
//!
//! Who writes much fresh memory page after page gets several at a time ([`Core::fill_ahead`]). They count
//! as written: so only where an entry is large, after a good run, and while memory is plenty.

use ipc_abi::fault::READ_ONLY;
use ipc_abi::translation::{self, SKIPPED};
use ipc_abi::types::{Behavior, Prot};

use crate::effect::{Beside, ENTER_MAX};
use crate::event::{MapId, ObjectId};
use crate::frames::Class;
use crate::machine::Machine;
use crate::map::Map;
use crate::map::entry::Entry;
use crate::map::tree::Link;
use crate::object::page::{Flags, Frame, Pages, State};
use crate::object::pages::{Node, Nodes, Slot};
use crate::object::places::Added;
use crate::object::{Kind, Object};
use crate::range::{PAGE_SIZE, bytes_of, page_of, trunc_page};
use crate::{Core, Turn};

/// Bits of a page's number inside the window of its neighbours.
pub(super) const WINDOW: u64 = ENTER_MAX as u64 - 1;
/// Bytes that one page table maps: what is entered beside a page is in the same.
const TABLE: u64 = 512 * PAGE_SIZE;
/// Most pages that are filled ahead at a time.
const FILL_MAX: usize = 32;
/// Writes to page after page before pages are filled ahead.
const FILL_AFTER: u8 = 16;

/// A fault whose page is not in its entry's own object.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) map: MapId,
    /// The entry.
    pub(super) link: u32,
    /// Address of the page.
    pub(super) address: u64,
    pub(super) object: ObjectId,
    /// Number of the page in the object.
    pub(super) index: u64,
    pub(super) rights: Prot,
    /// The part of the entry that is in the same page table.
    pub(super) span: (u64, u64),
    needs_copy: bool,
    behavior: Behavior,
    /// The entry is as large as what a page table maps.
    large: bool,
    /// The object lies over another.
    shadowed: bool,
}

/// The neighbours of a page that may be entered with it.
pub(super) struct Neighbours {
    /// Which of the leaf's pages.
    pub(super) mask: u64,
    /// The page's place in the leaf.
    pub(super) middle: u64,
    /// Map, and the page number at which it shows place 0 of the leaf.
    pub(super) at: (u32, u64),
    /// A dirty one may be entered as it may be written.
    pub(super) own: bool,
    /// The page had been entered before, so its neighbours may have gone too.
    pub(super) again: bool,
}

impl Core {
    /// What the common fault is answered with, and in the effects what is entered beside it; `None`: it
    /// is none, or there is not enough memory for it.
    #[inline(always)]
    pub fn fault_now<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        place: (MapId, u64),
        access: Prot,
    ) -> Option<translation::Enter> {
        turn.effects.beside.count = 0;
        if !self.goes_quickly() {
            return None;
        }
        // Mostly it is in the entry that was looked at last.
        let record = self.maps.get(place.0)?;
        let link = record.tree.near();
        let entry = match self.entries.at_mut(link.0) {
            Some(entry) if entry.contains(place.1) && !record.dying => entry,
            _ => return self.now_far(turn, place, access),
        };
        entry.visited = true;
        let write = access.contains(Prot::WRITE);
        if !entry.protection.contains(access) {
            return None;
        }
        let Some(id) = entry.object.filter(|_| !write || !entry.needs_copy) else {
            return self.now_own(turn, place, write, link);
        };
        let object = self.objects.get(id)?;
        let shown = Shown::new(entry, object, &self.nodes, place.1);
        match shown.slot {
            Slot::Page(frame) => {
                let beside = &mut turn.effects.beside;
                let protection = shown.show(&mut self.pages, (place, frame), write, beside)?;
                self.stats.faults = self.stats.faults.wrapping_add(1);
                self.stats.resident_hits = self.stats.resident_hits.wrapping_add(1);
                Some(translation::Enter {
                    address: trunc_page(place.1),
                    frame: frame.0,
                    protection,
                    uncached: false,
                    epoch: record.epoch,
                })
            }
            // Only a pager has it, or nobody.
            Slot::Empty if !write && object.shadow.is_none() => None,
            Slot::Empty => {
                let found = shown.found(place, link, id);
                self.now_missing(turn, &found, write)
            }
            _ => None,
        }
    }

    /// As [`Core::fault_now`], in another entry than that looked at last.
    #[inline(never)]
    fn now_far<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        place: (MapId, u64),
        access: Prot,
    ) -> Option<translation::Enter> {
        let link = self.map_lookup(place.0, place.1)?;
        let entry = self.entries.at(link.0)?;
        if !entry.protection.contains(access) {
            return None;
        }
        let write = access.contains(Prot::WRITE);
        let Some(id) = entry.object.filter(|_| !write || !entry.needs_copy) else {
            return self.now_own(turn, place, write, link);
        };
        self.now_in(turn, place, write, (link, id))
    }

    /// As [`Core::fault_now`], where the entry needs an object of its own first, if it is to be written.
    #[inline(never)]
    fn now_own<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        place: (MapId, u64),
        write: bool,
        link: Link,
    ) -> Option<translation::Enter> {
        self.record_question();
        let entry = self.entries.at(link.0)?;
        if !write || entry.submap.is_some() {
            return None;
        }
        let id = match entry.object {
            Some(below) => {
                let answer = self.now_first_write(turn, place, (link, below));
                if answer.is_some() {
                    return answer;
                }
                self.entry_written(link.0).ok()?
            }
            None => self.entry_own_object(link.0).ok()?,
        };
        self.now_in(turn, place, write, (link, id))
    }

    /// As [`Core::fault_now`], in an entry whose object may be used as it is.
    #[inline(always)]
    fn now_in<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        place: (MapId, u64),
        write: bool,
        (link, id): (Link, ObjectId),
    ) -> Option<translation::Enter> {
        let entry = self.entries.at(link.0)?;
        let shown = Shown::new(entry, self.objects.get(id)?, &self.nodes, place.1);
        match shown.slot {
            Slot::Page(frame) => {
                let beside = &mut turn.effects.beside;
                let protection = shown.show(&mut self.pages, (place, frame), write, beside)?;
                self.stats.faults = self.stats.faults.wrapping_add(1);
                self.stats.resident_hits = self.stats.resident_hits.wrapping_add(1);
                self.now_entered(place, frame, protection)
            }
            Slot::Empty => {
                let found = shown.found(place, link, id);
                self.now_missing(turn, &found, write)
            }
            _ => None,
        }
    }

    /// The entry's own object does not have the page.
    #[inline(never)]
    fn now_missing<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
        write: bool,
    ) -> Option<translation::Enter> {
        if found.shadowed {
            self.record_question();
            self.now_below(turn, found, write)
        } else if write {
            self.now_filled(turn, found)
        } else {
            None
        }
    }

    /// The first write to anonymous memory.
    #[inline(always)]
    fn now_filled<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
    ) -> Option<translation::Enter> {
        let object = self.objects.get(found.object)?;
        let bare = object.pager.is_none() && object.shadow.is_none() && !object.is_copied();
        if !bare || found.needs_copy || !matches!(object.kind, Kind::Internal) {
            return None;
        }
        let frame = self.now_fresh(turn, found)?;
        let (index, object) = (found.index, found.object);
        let record = self.objects.get_mut(object)?;
        let next = (index as u32).wrapping_add(1);
        let follows = core::mem::replace(&mut record.fill_next, next) == index as u32;
        record.fill_run = match found.behavior {
            Behavior::Default if follows => record.fill_run.saturating_add(1),
            Behavior::Sequential => u8::MAX,
            _ => 0,
        };
        if record.fill_run >= FILL_AFTER && found.large {
            let wanted = 1usize
                << record
                    .fill_run
                    .saturating_sub(FILL_AFTER)
                    .min(5)
                    .saturating_add(2);
            self.fill_ahead(turn, found, wanted.min(FILL_MAX));
        }
        self.now_entered((found.map, found.address), frame, found.rights)
    }

    /// A page of zeros in the first object, that is about to be written.
    #[inline(always)]
    pub(super) fn now_fresh<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        found: &Found,
    ) -> Option<Frame> {
        let (frame, clean) = self.now_owned(found, State::Clean)?;
        if !clean {
            turn.machine.zero(frame);
        }
        self.stats.faults = self.stats.faults.wrapping_add(1);
        self.stats.zero_fills = self.stats.zero_fills.wrapping_add(1);
        Some(frame)
    }

    /// A free frame becomes the first object's page, about to be mapped where the fault was. Says whether
    /// it is zeroed; which it should rather be is the caller's to say. Whoever pays having no more room, as
    /// far as is known without asking, is left to the event.
    #[inline(always)]
    pub(super) fn now_owned(&mut self, found: &Found, rather: State) -> Option<(Frame, bool)> {
        let scarce = self.pages.free() <= self.floor(Class::Client);
        let record = self.objects.get_mut(found.object)?;
        let payer = record.payer.and_then(|id| self.maps.get_mut(id));
        let full = |map: &&mut Map| map.pages >= map.account.limits.pages;
        if scarce || payer.as_ref().is_some_and(full) {
            return None;
        }
        let (at, page) = (
            (found.map.index(), page_of(found.address)),
            (found.object, found.index),
        );
        let (frame, clean) = self.pages.take_filled(rather, page, at)?;
        let put = record.pages.put_page(&mut self.nodes, page.1, frame);
        if put.is_err() {
            self.frame_free(frame);
            return None;
        }
        if let Some(map) = payer {
            map.count_page(record.purgeable.state);
        }
        Some((frame, clean))
    }

    /// The answer.
    #[inline(always)]
    pub(super) fn now_entered(
        &self,
        (map, address): (MapId, u64),
        frame: Frame,
        protection: Prot,
    ) -> Option<translation::Enter> {
        Some(translation::Enter {
            address: trunc_page(address),
            frame: frame.0,
            protection,
            uncached: false,
            epoch: self.maps.get(map)?.epoch,
        })
    }

    /// Fills the pages after one that has just been filled, up to `wanted`, as if each had been written:
    /// all in the same leaf, as far as they are empty, the payer may have them and memory is plenty.
    #[inline(never)]
    fn fill_ahead<M: Machine>(&mut self, turn: &mut Turn<'_, M>, found: &Found, wanted: usize) {
        let least = self.floor(Class::Client).saturating_add(self.config.ahead);
        let plenty = self.pages.free().saturating_sub(least) as usize;
        let Some(record) = self.objects.get_mut(found.object) else {
            return;
        };
        let first = found.index.wrapping_add(1);
        if record.pages.leaf_at(&self.nodes, found.index).is_none() {
            return;
        }
        // In the leaf of the page, which there is.
        let most = 64u64.wrapping_sub(first & 63) as u32;
        let most = if first & 63 == 0 { 0 } else { most };
        let empty = record.pages.empty_from(&self.nodes, first, most) as usize;
        let end = found.span.1.saturating_sub(found.address) / PAGE_SIZE;
        let mut count = wanted.min(plenty).min(empty);
        count = count.min((end as usize).saturating_sub(1));
        let payer = record.payer.and_then(|id| self.maps.get_mut(id));
        if let Some(map) = &payer {
            let left = map.account.limits.pages.saturating_sub(map.pages);
            count = count.min(left as usize);
        }
        let (map, number) = (found.map.index(), page_of(found.address).wrapping_add(1));
        let mut frames = heapless::Vec::<Frame, FILL_MAX>::new();
        for (place, index) in (0..count as u64).zip(first..) {
            let at = (map, number.wrapping_add(place));
            let Some((frame, clean)) =
                self.pages
                    .take_filled(State::Clean, (found.object, index), at)
            else {
                break;
            };
            if !clean {
                turn.machine.zero(frame);
            }
            // There are no more than fit.
            let _ = frames.push(frame);
        }
        let count = frames.len();
        if let Some(map) = payer {
            map.count_pages(count as u32, record.purgeable.state);
        }
        record.fill_next = (first as u32).wrapping_add(count as u32);
        // There is the leaf.
        let _ = record.pages.put_pages(&mut self.nodes, first, &frames);
        let beside = &mut turn.effects.beside;
        for (word, frame) in beside.words.iter_mut().zip(&frames) {
            *word = frame.0;
        }
        beside.address = bytes_of(number);
        beside.count = count as u32;
        self.stats.zero_fills = self.stats.zero_fills.saturating_add(count as u64);
    }
}

/// What an entry shows at an address of its own object.
struct Shown<'a> {
    entry: &'a Entry,
    object: &'a Object,
    leaf: Option<&'a Node>,
    /// Number of the page in the object.
    index: u64,
    slot: Slot,
}

impl<'a> Shown<'a> {
    #[inline(always)]
    fn new(entry: &'a Entry, object: &'a Object, nodes: &'a Nodes, address: u64) -> Shown<'a> {
        let index = entry.page_at(address);
        let leaf = object.pages.leaf_at(nodes, index);
        Shown {
            entry,
            object,
            leaf,
            index,
            slot: match leaf {
                Some(leaf) => leaf.slot(index),
                None => object.pages.only_at(index),
            },
        }
    }

    /// For those who look further.
    #[inline(always)]
    fn found(&self, (map, address): (MapId, u64), link: Link, object: ObjectId) -> Found {
        Found {
            map,
            link: link.0,
            address: trunc_page(address),
            object,
            index: self.index,
            rights: self.entry.protection,
            span: span((self.entry.start, self.entry.end), address),
            needs_copy: self.entry.needs_copy,
            behavior: self.entry.behavior,
            large: self.entry.size() >= TABLE,
            shadowed: self.object.shadow.is_some(),
        }
    }

    /// Shows the page, which is there, where the fault was, and its neighbours beside it. Gives the rights
    /// that it is shown with.
    #[inline(always)]
    fn show(
        &self,
        pages: &mut Pages,
        ((map, address), frame): ((MapId, u64), Frame),
        write: bool,
        beside: &mut Beside,
    ) -> Option<Prot> {
        let Shown { entry, object, .. } = *self;
        let plain = matches!(object.kind, Kind::Internal | Kind::External);
        let own = !entry.needs_copy && !object.is_copied();
        let page = pages.get_mut(frame)?;
        if !plain || page.state != State::Resident || !page.lock.is_empty() {
            return None;
        }
        let mut protection = entry.protection;
        if write {
            if !own || page.flags.contains(Flags::REUSABLE) {
                return None;
            }
        } else if !own || !page.flags.contains(Flags::DIRTY) {
            protection = protection.difference(Prot::WRITE);
        }
        let number = page_of(address);
        let at = (map.index(), number);
        let mut added = page.places.add(at);
        if added == Added::Full {
            // Not in the page itself.
            added = pages.place_add(frame, at);
            if added == Added::Full {
                return None;
            }
        }
        if write {
            pages.get_mut(frame)?.flags.insert(Flags::DIRTY);
            return Some(protection);
        }
        let again = added == Added::Known;
        let place = (map, address);
        show_around(
            pages,
            (self.leaf, self.index, None),
            ((entry.start, entry.end), place),
            (own, again),
            beside,
        );
        Some(protection)
    }
}

/// Finds what may be entered beside the page of a leaf that an entry shows at an address. `own`: dirty ones
/// as they may be written; `again`: the page had been entered before; `known`: a page that is known to be entered.
#[inline(always)]
pub(crate) fn show_around(
    pages: &mut Pages,
    (leaf, index, known): (Option<&Node>, u64, Option<u64>),
    (range, (map, address)): ((u64, u64), (MapId, u64)),
    (own, again): (bool, bool),
    beside: &mut Beside,
) {
    // An only page has no neighbours.
    let Some(leaf) = leaf else {
        return;
    };
    let middle = index & 63;
    let window = ((1 << ENTER_MAX) - 1) << (middle & !WINDOW);
    let mask = leaf.pages() & window & !(1 << middle);
    // The nearest before it is entered, and nothing lies behind it: so are the others.
    let follows = known == index.checked_sub(1) && known.is_some() && mask >> middle == 0;
    if mask != 0 && !follows {
        let address = trunc_page(address);
        let neighbours = Neighbours {
            mask: mask & shown_beside(span(range, address), address, middle),
            middle,
            at: (map.index(), page_of(address).wrapping_sub(middle)),
            own,
            again,
        };
        show_beside(pages, leaf, &neighbours, beside);
    }
}

/// The part of an entry from `start` to `end` that is in the same page table as an address.
#[inline(always)]
fn span((start, end): (u64, u64), address: u64) -> (u64, u64) {
    let table = address & !TABLE.wrapping_sub(1);
    let behind = table.wrapping_add(TABLE);
    (start.max(table), end.min(behind))
}

/// The places of a leaf that an entry from `start` to `end` shows, if it shows place `middle` at `address`.
pub(super) fn shown_beside((start, end): (u64, u64), address: u64, middle: u64) -> u64 {
    let below = page_of(address.saturating_sub(start)).min(middle);
    let above = page_of(end.saturating_sub(address)).min(64u64.wrapping_sub(middle));
    let first = middle.saturating_sub(below);
    // Places from `first` to one before `middle + above`, which is at most 64.
    let count = below.saturating_add(above);
    (u64::MAX >> (64u64.wrapping_sub(count) & 63)) << (first & 63)
}

/// Finds what may be entered beside a page. All of a window are entered together, so the nearest on both
/// sides tell for the rest.
#[inline(never)]
pub(super) fn show_beside(
    pages: &mut Pages,
    leaf: &Node,
    around: &Neighbours,
    beside: &mut Beside,
) {
    let Neighbours { mask, middle, .. } = *around;
    if mask == 0 {
        return;
    }
    let (map, first) = around.at;
    let below = (mask & (1u64 << middle).wrapping_sub(1)).checked_ilog2();
    let above = mask >> middle;
    let above = (above != 0).then(|| above.trailing_zeros().wrapping_add(middle as u32));
    let entered = |place: u32| {
        let place = u64::from(place);
        let Slot::Page(frame) = leaf.slot(place) else {
            return false;
        };
        pages.place_holds(frame, (map, first.wrapping_add(place)))
    };
    if !around.again && below.is_none_or(entered) && above.is_none_or(entered) {
        return;
    }
    let low = u64::from(mask.trailing_zeros());
    let high = 64u64.wrapping_sub(u64::from(mask.leading_zeros()));
    for (place, word) in (low..high).zip(&mut beside.words) {
        *word = SKIPPED;
        let Slot::Page(frame) = leaf.slot(place) else {
            continue;
        };
        let Some(page) = pages.get(frame).filter(|_| mask >> place & 1 != 0) else {
            continue;
        };
        if page.state != State::Resident || !page.lock.is_empty() {
            continue;
        }
        let writable = around.own && page.flags.contains(Flags::DIRTY);
        match pages.place_add(frame, (map, first.wrapping_add(place))) {
            Added::New => {}
            Added::Known if around.again => {}
            // A page with too many places waits for a fault of its own.
            Added::Known | Added::Full => continue,
        }
        *word = if writable {
            frame.0
        } else {
            frame.0 | READ_ONLY
        };
    }
    beside.address = bytes_of(first.wrapping_add(low));
    beside.count = high.saturating_sub(low) as u32;
}
