//! The plain entries of a fork, as many in a row as a step takes: memory of which the child gets a
//! symmetric copy, or untouched memory.
//!
//! They are looked at once, charged together, and hung into the child's map as one
//! ([`crate::map::tree::Tree::append`]); everything else goes one by one ([`Core::fork_entry`]).

use ipc_abi::types::{Inherit, Prot};

use super::Fork;
use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::machine::{Machine, Revoke};
use crate::map::Map;
use crate::map::entry::Entry;
use crate::map::tree::{Hooks, Link};
use crate::object::Kind;
use crate::object::strategy::READ_ONLY;
use crate::range::{PAGE_SIZE, bytes_of, page_of};
use crate::slab::NIL;

/// Ranges that one step lowers.
const RANGES: usize = 16;
/// What lies between two ranges that are lowered as one: to pass over it costs less than a range of its
/// own.
const BETWEEN: u64 = 32 * PAGE_SIZE;

/// Ranges of a map whose translations are to lose WRITE.
#[derive(Debug, Default)]
pub(super) struct Lowering {
    ranges: heapless::Vec<(u64, u64), RANGES>,
}

impl Lowering {
    /// Adds a range that lies above those before it. Where there are many it is joined with the last:
    /// what lies between loses WRITE, too, which does no harm.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        let full = self.ranges.is_full();
        match self.ranges.last_mut() {
            Some(last) if full || start.saturating_sub(last.1) <= BETWEEN => last.1 = end,
            // There is room.
            _ => _ = self.ranges.push((start, end)),
        }
    }
}

impl Core {
    /// Takes WRITE from what is translated in ranges of a map.
    pub(super) fn lower_ranges<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        lowering: &Lowering,
    ) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        let mut batch = heapless::Vec::<Revoke, RANGES>::new();
        for (start, end) in &lowering.ranges {
            record.epoch = record.epoch.saturating_add(1);
            // There are no more than fit.
            let _ = batch.push(Revoke::Range {
                map,
                epoch: record.epoch,
                start: *start,
                end: *end,
                keep: READ_ONLY,
            });
        }
        if !batch.is_empty() {
            machine.revoke(&batch);
        }
    }

    /// Gives the child up to `most` plain entries from the cursor on, and says how many those were: up to
    /// one that is not plain, or for which there is no record.
    pub(super) fn fork_run(&mut self, work: &mut Fork, most: u32, lowering: &mut Lowering) -> u32 {
        let entries = self.maps.get(work.parent).map_or(0, Map::entries);
        let most = self.entry_room(work.child, most.min(entries));
        let Some(record) = self.maps.get(work.parent).filter(|map| !map.dying) else {
            return 0;
        };
        let mut link = record.tree.find_or_above(&self.entries, work.cursor);
        let (mut first, mut last) = (Link::NIL, Link::NIL);
        let (mut count, mut size) = (0u32, 0u64);
        while count < most
            && let Some(&entry) = self.entries.at(link.0)
            && entry.start >= work.cursor
            && self.is_plain_for_child(&entry)
        {
            let child = Entry {
                map: work.child,
                needs_copy: entry.object.is_some(),
                is_shared: false,
                visited: false,
                object_next: NIL,
                object_prev: NIL,
                hooks: Hooks::after(last),
                ..entry
            };
            let Ok(inserted) = self.entries.insert_with(|| child) else {
                break;
            };
            let inserted = Link(inserted.index());
            match self.entries.at_mut(last.0) {
                Some(last) => last.hooks.next = inserted,
                None => first = inserted,
            }
            if let Some(object) = entry.object {
                self.fork_object(object, inserted);
                if !entry.needs_copy {
                    self.fork_mark(link, &entry, lowering);
                }
            }
            last = inserted;
            count = count.saturating_add(1);
            size = size.saturating_add(entry.size());
            work.cursor = entry.end;
            link = entry.hooks.next;
        }
        if let Some(child) = self.maps.get_mut(work.child).filter(|_| count > 0) {
            child.tree.append(&mut self.entries, first, count);
            child.size = child.size.saturating_add(size);
        }
        count
    }

    /// Whether a child gets an entry as a symmetric copy, or as untouched memory, and nothing has to be
    /// waited for.
    fn is_plain_for_child(&self, entry: &Entry) -> bool {
        let plain = entry.inheritance == Inherit::Copy
            && entry.max_protection.contains(Prot::READ)
            && entry.submap.is_none()
            && entry.wired == 0
            && !(entry.is_tray || entry.in_transition || entry.zero_wired);
        let Some(object) = entry.object else {
            return plain;
        };
        plain
            && self.objects.get(object).is_some_and(|record| {
                matches!(record.kind, Kind::Internal | Kind::External)
                    && (entry.needs_copy || self.is_symmetric(object, entry))
            })
    }

    /// A child's entry holds and maps the object, too.
    fn fork_object(&mut self, object: ObjectId, child: Link) {
        if let Some(record) = self.objects.get_mut(object) {
            record.refs = record.refs.saturating_add(1);
            record.shadowed = true;
        }
        self.entry_link(child.0);
    }

    /// The parent's entry copies before it writes, from now on. Its own pages lose WRITE: only those can
    /// be written.
    fn fork_mark(&mut self, link: Link, entry: &Entry, lowering: &mut Lowering) {
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.needs_copy = true;
        }
        let object = entry.object.filter(|_| entry.visited);
        let Some(record) = object.and_then(|object| self.objects.get(object)) else {
            return;
        };
        let from = page_of(entry.offset);
        let Some((index, _)) = record.pages.next(&self.nodes, from) else {
            return;
        };
        let below = bytes_of(index.saturating_sub(from));
        let start = entry.start.saturating_add(below);
        if entry.protection.contains(Prot::WRITE) && start < entry.end {
            lowering.add(start, entry.end);
        }
    }
}
