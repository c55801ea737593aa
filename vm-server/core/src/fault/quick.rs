//! The two common faults: the page lies in the entry's own object and may be mapped as it is, and the
//! first write to memory that has no other contents than zeros.
//!
//! Nothing is copied, asked for or waited for, and nothing lies beside the page to be entered with it:
//! the answer is one translation. [`Core::fault_quick`] and [`Core::fault_fill`] give it without an
//! event and without effects, or give `None`: then the event decides, as for every fault. In tests
//! [`Core::handle`] begins with them, so that whatever tests events tests this.

use ipc_abi::translation;
use ipc_abi::types::Prot;

use crate::effect::ENTER_MAX;
use crate::event::MapId;
use crate::frames::Class;
use crate::machine::Machine;
use crate::object::Kind;
use crate::object::page::{Flags, State};
use crate::object::pages::Slot;
use crate::object::places::Added;
use crate::range::{page_of, trunc_page};
use crate::{Core, Turn};

/// Bits of a page's number inside the window of its neighbours.
const WINDOW: u64 = ENTER_MAX as u64 - 1;

impl Core {
    /// What the common fault is answered with; `None`: it is none.
    #[inline]
    pub fn fault_quick(
        &mut self,
        map: MapId,
        address: u64,
        access: Prot,
    ) -> Option<translation::Enter> {
        let link = self.map_lookup(map, address)?.0;
        let entry = self.entries.at(link)?;
        let (rights, span) = (entry.protection, (entry.start, entry.end));
        let address = trunc_page(address);
        let index = page_of(entry.offset_of(address));
        let object = self.objects.get(entry.object?)?;
        let shown_as_it_is = !entry.needs_copy && !object.is_copied();
        let plain = matches!(object.kind, Kind::Internal | Kind::External);
        if !plain || !rights.contains(access) {
            return None;
        }
        let leaf = object.pages.leaf_at(&self.nodes, index)?;
        let Slot::Page(frame) = leaf.slot(index & 63) else {
            return None;
        };
        let epoch = self.maps.get(map)?.epoch;
        let page = self.pages.get_mut(frame)?;
        if page.state != State::Resident || !page.lock.is_empty() {
            return None;
        }
        let protection = if access.contains(Prot::WRITE) {
            if !shown_as_it_is || page.flags.contains(Flags::REUSABLE) {
                return None;
            }
            page.flags.insert(Flags::DIRTY);
            rights
        } else {
            let window = leaf.pages() >> (index & 63 & !WINDOW) & ((1 << ENTER_MAX) - 1);
            let neighbours = window & !(1 << (index & WINDOW));
            if neighbours & shown_beside(span, address, index & WINDOW) != 0 {
                return None;
            }
            if shown_as_it_is && page.flags.contains(Flags::DIRTY) {
                rights
            } else {
                rights.difference(Prot::WRITE)
            }
        };
        if self.pages.place_add(frame, (map.index(), page_of(address))) == Added::Full {
            return None;
        }
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        Some(translation::Enter {
            address,
            frame: frame.0,
            protection,
            uncached: false,
            epoch,
        })
    }

    /// What the first write to anonymous memory is answered with; `None`: it is no such write, or
    /// there is not enough memory for it.
    #[inline]
    pub fn fault_fill<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, address): (MapId, u64),
        access: Prot,
    ) -> Option<translation::Enter> {
        let link = self.map_lookup(map, address)?.0;
        let entry = self.entries.at(link)?;
        let protection = entry.protection;
        let plain = !entry.needs_copy && entry.submap.is_none();
        if !plain || !access.contains(Prot::WRITE) || !protection.contains(access) {
            return None;
        }
        if entry.object.is_none() {
            self.entry_own_object(link).ok()?;
        }
        let entry = self.entries.at(link)?;
        let (top, address) = (entry.object?, trunc_page(address));
        let index = page_of(entry.offset_of(address));
        let object = self.objects.get(top)?;
        let bare = object.pager.is_none() && object.shadow.is_none() && !object.is_copied();
        let empty = object.pages.get(&self.nodes, index) == Slot::Empty;
        if !bare || !empty || !matches!(object.kind, Kind::Internal) {
            return None;
        }
        let frame = self.frame_zeroed(turn, Class::Client)?;
        if self
            .object_add_page(top, index, frame, Flags::DIRTY)
            .is_err()
        {
            self.frame_free(frame);
            return None;
        }
        // It is nowhere yet.
        let _ = self.pages.place_add(frame, (map.index(), page_of(address)));
        self.stats.faults = self.stats.faults.saturating_add(1);
        self.stats.zero_fills = self.stats.zero_fills.saturating_add(1);
        Some(translation::Enter {
            address,
            frame: frame.0,
            protection,
            uncached: false,
            epoch: self.maps.get(map)?.epoch,
        })
    }
}

/// The places of a window that an entry from `start` to `end` shows, if it shows place `middle` at
/// `address`.
fn shown_beside((start, end): (u64, u64), address: u64, middle: u64) -> u64 {
    let below = page_of(address.saturating_sub(start)).min(middle);
    let above = page_of(end.saturating_sub(address)).min(WINDOW.saturating_add(1));
    let first = middle.saturating_sub(below);
    let last = middle.saturating_add(above).min(WINDOW.saturating_add(1));
    let up_to = |place: u64| (1u64 << (place & 63)).wrapping_sub(1);
    up_to(last) & !up_to(first)
}
