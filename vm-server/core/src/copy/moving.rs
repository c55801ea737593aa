//! `vm_copyin` with `src_destroy` of memory that nobody else reaches: it moves (rule 57).
//!
//! The entries' records change their map, and keep their places in their objects' lists; a part of an
//! entry is cut off first. So nothing is made copy-on-write, and nothing can fail half-way: it is one
//! event, of at most [`BUDGET`] entries. What is more, or is otherwise, is copied as if it stayed, and
//! removed then; what the copy has alone by then is not copied again when it is written, either
//! ([`Core::entry_written`]).

use ipc_abi::types::Prot;

use super::Copy;
use crate::copy::sharein::Terms;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::map::tree::Link;
use crate::object::purgeable;
use crate::op::BUDGET;
use crate::range::Span;
use crate::{Core, Turn};

impl Core {
    /// Takes `size` bytes at `address` out of a map that nobody works on. `None`: that is not so, or a
    /// part of it cannot be moved, or is refused, or is much; nothing has changed.
    pub(crate) fn copyin_moved<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: MapId,
        (address, size): (u64, u64),
    ) -> Option<Copy> {
        let (range, offset) = super::pages_of(address, size).ok()?;
        let record = self.maps.get(source)?;
        if record.dying || record.locked || record.shared.is_some() {
            return None;
        }
        let first = record.tree.find(&self.entries, range.start());
        // It has a place before there is a copy to put there.
        self.copies.reserve_one().ok()?;
        let (count, visited) = self.movable(first, range)?;
        let target = self.hidden_map(source, range.size()).ok()?;
        let Ok(first) = self.map_clip_range(source, range) else {
            self.map_end(target);
            return None;
        };
        if visited {
            self.map_revoke(turn.machine, source, range, Prot::NONE);
        }
        let mut link = first;
        for _ in 0..count {
            link = self.entry_moves(link, target, range);
        }
        self.map_changed(source);
        Some(Copy {
            map: target,
            offset,
            size,
        })
    }

    /// How many entries, from the one at `first` on, hold a range, and whether something of it may be
    /// translated, if all of them can be moved.
    fn movable(&self, first: Link, range: Span) -> Option<(u32, bool)> {
        let mut terms = Terms::READABLE;
        let (mut link, mut visited, mut cursor) = (first, false, range.start());
        for count in 1..=BUDGET {
            let entry = self.entries.at(link.0)?;
            if entry.start > cursor || terms.meet(entry).is_err() || !self.moves(link, range) {
                return None;
            }
            visited |= entry.visited;
            cursor = entry.end;
            if cursor >= range.end() {
                return Some((count, visited));
            }
            link = entry.hooks.next;
        }
        None
    }

    /// Whether the part of an entry that lies in a range can go to another map as it is: whoever else
    /// reaches its memory copies before he writes, or it does so itself.
    fn moves(&self, link: Link, range: Span) -> bool {
        let Some(entry) = self.entries.at(link.0) else {
            return false;
        };
        let bound =
            entry.in_transition || entry.permanent || entry.is_tray || entry.submap.is_some();
        if bound || entry.wired != 0 {
            return false;
        }
        let Some(id) = entry.object else {
            return true;
        };
        let Some(object) = self.objects.get(id) else {
            return false;
        };
        let plain = object.is_internal() && object.purgeable.state == purgeable::State::Deny;
        if !plain {
            return false;
        }
        if entry.needs_copy || self.is_symmetric(id, entry) {
            return true;
        }
        // It was shared once.
        let from = entry.offset_of(entry.start.max(range.start()));
        let to = entry.offset_of(entry.end.min(range.end()));
        Span::exact(from, to).is_some_and(|window| self.is_only_reached_by(id, link, window))
    }

    /// Moves an entry of a range to a hidden map, which begins where the range does. Gives the next.
    fn entry_moves(&mut self, link: Link, target: MapId, range: Span) -> Link {
        let Some(&entry) = self.entries.at(link.0) else {
            return Link::NIL;
        };
        if let Some(source) = self.maps.get_mut(entry.map) {
            source.tree.unhang(&mut self.entries, link);
            source.size = source.size.saturating_sub(entry.size());
        }
        self.uncharge_entry(entry.map);
        if let Some(record) = self.entries.at_mut(link.0) {
            *record = Entry {
                object: entry.object,
                offset: entry.offset,
                needs_copy: entry.needs_copy,
                is_shared: entry.is_shared,
                object_next: entry.object_next,
                object_prev: entry.object_prev,
                ..Terms::READABLE.hidden(target, range, &entry)
            };
        }
        self.charge_entry_again(target);
        if let Some(target) = self.maps.get_mut(target) {
            target.tree.insert(&mut self.entries, link);
            target.size = target.size.saturating_add(entry.size());
        }
        entry.hooks.next
    }
}

#[cfg(test)]
mod tests;
