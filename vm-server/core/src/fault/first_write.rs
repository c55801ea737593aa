//! The first write through an entry that shows its object copy-on-write, where the page lies in that very
//! object: the entry's own object is made with the copy in it.
//!
//! As in [`super::below`], of which this is the commonest case, in one pass. `None`, and nothing has
//! changed: the page may stay where it is, or it lies elsewhere, or somebody has to be asked.

use ipc_abi::translation;

use super::below::covers;
use crate::event::{MapId, ObjectId};
use crate::frames::Class;
use crate::machine::Machine;
use crate::map::tree::Link;
use crate::object::page::State;
use crate::object::pages::{Slot, Tree};
use crate::object::{Kind, Object};
use crate::range::{page_of, trunc_page};
use crate::slab::NIL;
use crate::{Core, Turn};

impl Core {
    /// The answer to such a write at `address`, which lies in the entry at `link` of the map.
    #[inline(never)]
    pub(super) fn now_first_write<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, address): (MapId, u64),
        (link, below): (Link, ObjectId),
    ) -> Option<translation::Enter> {
        let entry = self.entries.at(link.0)?;
        let shadow = self.objects.get(below)?;
        let lower = entry.page_at(address);
        let Slot::Page(old) = shadow.pages.get(&self.nodes, lower) else {
            return None;
        };
        let page = self.pages.get(old)?;
        let shown = page.state == State::Resident && page.lock.is_empty();
        let mapped = !page.places.is_never();
        if !shown || lower >= page_of(shadow.size) || self.has_alone(link, entry, shadow) {
            return None;
        }
        let bypassed = covers(0, shadow.shadows == NIL, shadow)?;
        let (size, offset, protection) = (entry.size(), entry.offset, entry.protection);
        let index = page_of(address.wrapping_sub(entry.start));
        let next = shadow.shadows;

        let scarce = self.pages.free() <= self.floor(Class::Client);
        let all = self.objects_of_all();
        let record = self.maps.get_mut(map)?;
        let full = record.pages >= record.account.limits.pages;
        if scarce || full || !record.has_room_for_object(all) {
            return None;
        }
        let (frame, _) = self.pages.take_rather(State::Free)?;
        let made = self.objects.insert_with(|| {
            let mut object = Object::new(Kind::Internal, size, Some(map));
            object.charged = Some(map);
            object.pages = Tree::of_page(index, frame);
            object.entries = link.0;
            if !bypassed {
                object.shadow = Some(below);
                object.shadow_offset = offset;
                object.shadow_next = next;
            }
            object
        });
        let Ok(top) = made else {
            self.frame_free(frame);
            return None;
        };
        record.account.objects = record.account.objects.saturating_add(1);
        record.count_page(crate::object::purgeable::State::Deny);
        let (mut epoch, shared) = (record.epoch, record.shared.is_some());
        let at = (map.index(), page_of(address));
        self.pages.fill(frame, (top, index), at);
        turn.machine.copy(old, frame);

        self.entry_unlink(link.0);
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.object = Some(top);
            entry.offset = 0;
            entry.needs_copy = false;
        }
        if let Some(shadow) = self.objects.get_mut(below) {
            if bypassed {
                // Others hold it.
                shadow.refs = shadow.refs.wrapping_sub(1);
                self.stats.collapses = self.stats.collapses.wrapping_add(1);
            } else {
                shadow.shadows = top.index();
                if let Some(record) = self.objects.at_mut(next) {
                    record.shadow_prev = top.index();
                }
            }
        }
        if mapped && (shared || !self.config.in_order) {
            // The answer replaces its own translation, if nothing comes between.
            let spared = self.config.in_order.then_some(at);
            self.revoke_covered(turn.machine, old, spared);
            epoch = self.maps.get(map)?.epoch;
        }
        self.stats.faults = self.stats.faults.wrapping_add(1);
        self.stats.cow_breaks = self.stats.cow_breaks.wrapping_add(1);
        Some(translation::Enter {
            address: trunc_page(address),
            frame: frame.0,
            protection,
            uncached: false,
            epoch,
        })
    }
}
