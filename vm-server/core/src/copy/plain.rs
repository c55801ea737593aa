//! The common copy: of one whole entry, mapped whole. Making it and mapping it wait for nothing and leave
//! nothing over, so that neither takes an operation.
//!
//! Mapping it does not move the entry's memory from one record to another: the record itself changes its
//! map, and keeps its place in its object's list.

use ipc_abi::types::{Inherit, Prot};

use super::Copy;
use crate::copy::sharein::Terms;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::Kind;
use crate::object::strategy::Copied;
use crate::range::Span;
use crate::{Core, Turn};

impl Core {
    /// A copy of `size` bytes at `address`, if those are of one whole entry that is copied symmetrically.
    /// `None`: it is otherwise, or is refused, and nothing has changed but harmless copy-on-write marks.
    pub(crate) fn copyin_plain<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: MapId,
        (address, size): (u64, u64),
    ) -> Option<Copy> {
        let (range, offset) = super::pages_of(address, size).ok()?;
        let record = self.maps.get(source)?;
        if record.dying || record.shared.is_some() || !self.goes_quickly() {
            return None;
        }
        let link = record.tree.find(&self.entries, range.start());
        let &entry = self.entries.at(link.0)?;
        let object = self.objects.get(entry.object?)?;
        let plain = entry.start == range.start()
            && entry.end == range.end()
            && entry.wired == 0
            && !entry.in_transition
            && matches!(object.kind, Kind::Internal)
            && (entry.needs_copy || self.is_symmetric(entry.object?, &entry));
        let mut terms = Terms::READABLE;
        if !plain || terms.meet(&entry).is_err() {
            return None;
        }
        let target = self.hidden_map(source, range.size()).ok()?;
        let Ok(Copied::Quickly {
            object,
            offset: from,
            needs_copy,
            lower,
        }) = self.entry_copy(turn, link.0)
        else {
            self.map_end(target);
            return None;
        };
        if lower && entry.visited {
            self.entry_lower(turn.machine, &entry);
        }
        let copied = Entry {
            object,
            offset: from,
            needs_copy,
            ..terms.hidden(target, range, &entry)
        };
        if self.entry_insert(copied).is_err() {
            if let Some(object) = object {
                self.object_deallocate(object);
            }
            self.map_end(target);
            return None;
        }
        Some(Copy {
            map: target,
            offset,
            size,
        })
    }

    /// Maps the whole of a copy at a free range of a map, with this tag, if it is one plain entry; the
    /// hidden map ends. What the map may hold has been checked. `false`: it is otherwise, and nothing has
    /// changed.
    pub(crate) fn copyout_plain(
        &mut self,
        hidden: MapId,
        (target, range): (MapId, Span),
        tag: u8,
    ) -> bool {
        let (Some(source), Some(to)) = (self.maps.get(hidden), self.maps.get(target)) else {
            return false;
        };
        let link = source.tree.first();
        let Some(&entry) = self.entries.at(link.0) else {
            return false;
        };
        let Some(object) = entry.object else {
            return false;
        };
        let alone = source.entries() == 1 && source.is_small_copy() && to.account.payer.is_none();
        let plain = (entry.start, entry.end) == (0, range.size())
            && entry.wired == 0
            && !entry.in_transition
            && entry.submap.is_none()
            && self
                .objects
                .get(object)
                .is_some_and(|object| object.pager.is_none());
        if !alone || !plain || self.is_lowering(object) || !self.goes_quickly() {
            return false;
        }
        self.uncharge_entry(hidden);
        if let Some(source) = self.maps.get_mut(hidden) {
            source.tree.unhang(&mut self.entries, link);
            source.size = 0;
        }
        if let Some(entry) = self.entries.at_mut(link.0) {
            *entry = Entry {
                map: target,
                start: range.start(),
                end: range.end(),
                protection: Prot::DEFAULT,
                max_protection: Prot::ALL,
                inheritance: Inherit::Copy,
                tag,
                visited: false,
                ..*entry
            };
        }
        if let Some(to) = self.maps.get_mut(target) {
            to.tree.insert(&mut self.entries, link);
            to.size = to.size.saturating_add(range.size());
        }
        self.object_passes_to(object, target);
        self.map_end(hidden);
        self.map_changed(target);
        true
    }
}
