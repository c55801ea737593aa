//! vm_protect, vm_inherit and vm_behavior_set: attributes of a range (rules 110 to 118, 202).
//!
//! Three verbs on one walk, which differ in what they check and what they set. Joining what has
//! become alike is part of the walk, so that setting and resetting leaves no cuts behind.

use ipc_abi::Kern;
use ipc_abi::types::{Behavior, Inherit, Prot};
use ipc_protocol::vm_map;

use super::entry::Entry;
use super::tree::Link;
use super::walk::{Holes, Pass, Walk};
use crate::Core;
use crate::Turn;
use crate::call::Reply;
use crate::event::MapId;
use crate::machine::Machine;
use crate::op::{BUDGET, Progress};
use crate::range::Span;

/// What is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The current protection; not above the maximum of any entry.
    Protect(Prot),
    /// The maximum protection, and the current within it; not above the old maximum.
    Maximum(Prot),
    /// What a child gets; holes are passed over.
    Inherit(Inherit),
    /// How it will be read.
    Behave(Behavior),
    /// Its pages are zeroed when they are unmapped wired (rule 145).
    ZeroWired,
}

/// Setting attributes of a range: all of it or nothing.
#[derive(Clone, Copy, Debug)]
pub struct SetAttributes {
    walk: Walk,
    change: Change,
}

impl SetAttributes {
    /// Of a range that is not empty and lies inside the map.
    pub(crate) const fn new(map: MapId, range: Span, change: Change) -> SetAttributes {
        SetAttributes {
            walk: Walk::new(map, range),
            change,
        }
    }

    /// The map that it works on, under its operation lock.
    pub(crate) const fn map(&self) -> MapId {
        self.walk.map
    }

    const fn holes(&self) -> Holes {
        match self.change {
            Change::Inherit(_) => Holes::Skipped,
            _ => Holes::Refused,
        }
    }

    const fn reply(&self) -> Reply {
        Reply::map(match self.change {
            Change::Protect(_) | Change::Maximum(_) => vm_map::Reply::VmProtect(()),
            Change::Inherit(_) => vm_map::Reply::VmInherit(()),
            Change::Behave(_) | Change::ZeroWired => vm_map::Reply::VmBehaviorSet(()),
        })
    }
}

impl Change {
    /// Whether an entry may be changed so.
    fn allowed(self, entry: &Entry) -> Result<(), Kern> {
        match self {
            Change::Protect(rights) | Change::Maximum(rights)
                if entry.is_tray || !entry.max_protection.contains(rights) =>
            {
                Err(Kern::ProtectionFailure)
            }
            Change::ZeroWired if !entry.protection.contains(Prot::WRITE) => {
                Err(Kern::ProtectionFailure)
            }
            Change::ZeroWired if entry.needs_copy || entry.is_tray || entry.submap.is_some() => {
                Err(Kern::NoAccess)
            }
            // What is shown is one's own by parts only (rule 118).
            Change::Inherit(Inherit::Copy) if entry.submap.is_some() => Err(Kern::InvalidArgument),
            _ => Ok(()),
        }
    }

    /// Rights that translations keep.
    const fn keeps(self) -> Prot {
        match self {
            Change::Protect(rights) | Change::Maximum(rights) => rights,
            _ => Prot::ALL,
        }
    }

    /// Changes an entry. Says whether that took rights away.
    fn apply(self, entry: &mut Entry) -> bool {
        let before = entry.protection;
        match self {
            Change::Protect(rights) => entry.protection = rights,
            Change::Maximum(rights) => {
                entry.max_protection = rights;
                entry.protection &= rights;
            }
            Change::Inherit(inheritance) => entry.inheritance = inheritance,
            Change::Behave(behavior) => entry.behavior = behavior,
            Change::ZeroWired => entry.zero_wired = true,
        }
        !entry.protection.contains(before)
    }
}

impl Core {
    /// One step of setting attributes. New rights are only noted: translations get them by faults,
    /// since pages may be copy-on-write; rights taken away are gone at once (rule 114).
    ///
    /// # Errors
    /// In order of address: `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: more than an
    /// entry's maximum, or the slots of a tray. Then `KERN_RESOURCE_SHORTAGE`. Nothing has changed.
    pub(crate) fn set_attributes_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut SetAttributes,
    ) -> Progress {
        if work.walk.pass == Pass::Check {
            let (map, range) = (work.walk.map, work.walk.range);
            if self
                .set_plain(turn.machine, (map, range), work.change)
                .is_some()
            {
                return Progress::Done(Some(Ok(work.reply())));
            }
            let (change, holes) = (work.change, work.holes());
            match self.walk_check(&mut work.walk, holes, |entry| change.allowed(entry)) {
                Err(code) => return Progress::Done(Some(Err(code))),
                Ok(()) if work.walk.is_blocked() => return Progress::Transit(work.walk.map),
                Ok(()) if work.walk.pass == Pass::Check => return Progress::More,
                Ok(()) => {}
            }
        }
        let (mut low, mut high) = (u64::MAX, 0);
        let mut link = self.walk_first(&work.walk);
        for _ in 0..BUDGET {
            if self.walk_entry(&work.walk, link).is_none() {
                work.walk.cursor = work.walk.range.end();
                break;
            }
            let Some(entry) = self.entries.at_mut(link.0) else {
                break;
            };
            // Where nobody has touched anything there is nothing to take back.
            if work.change.apply(entry) && entry.visited && !entry.is_untouched() {
                low = low.min(entry.start);
                high = high.max(entry.end);
            }
            work.walk.cursor = entry.end;
            let next = entry.hooks.next;
            self.entry_simplify(link);
            link = next;
        }
        if let Some(range) = Span::exact(low, high) {
            self.map_revoke(turn.machine, work.walk.map, range, work.change.keeps());
        }
        if !work.walk.is_done() {
            return Progress::More;
        }
        self.simplify_at(work.walk.map, work.walk.range.end());
        self.map_changed(work.walk.map);
        Progress::Done(Some(Ok(work.reply())))
    }

    /// Sets an attribute of a range inside one plain entry. Says whether that may have left work; `None`:
    /// it is otherwise, or is refused, and nothing has changed.
    pub(crate) fn set_plain<M: Machine>(
        &mut self,
        machine: &mut M,
        (map, range): (MapId, Span),
        change: Change,
    ) -> Option<bool> {
        let record = self.maps.get(map)?;
        if record.dying || record.shared.is_some() || !self.goes_quickly() {
            return None;
        }
        let mut link = record.tree.find(&self.entries, range.start());
        let mut entry = self.entries.at_mut(link.0)?;
        let plain = entry.end >= range.end() && entry.submap.is_none() && !entry.in_transition;
        if !plain || change.allowed(entry).is_err() {
            return None;
        }
        if entry.start != range.start() || entry.end != range.end() {
            link = self.entry_clip_range(link, range).ok()?;
            entry = self.entries.at_mut(link.0)?;
        }
        let lowered = change.apply(entry) && entry.visited;
        let (prev, next) = (entry.hooks.prev, entry.hooks.next);
        let (object, from) = (entry.object, entry.offset);
        if lowered
            && let Some(object) = object
            && let Some(window) = Span::exact(from, from.saturating_add(range.size()))
        {
            self.window_revoke(machine, (map, range), (object, window), change.keeps());
        }
        let joins = |link: Link, end: fn(&Entry) -> u64, at| {
            self.entries
                .at(link.0)
                .is_some_and(|entry| end(entry) == at)
        };
        let below = joins(prev, |entry| entry.end, range.start());
        let above = joins(next, |entry| entry.start, range.end());
        if below {
            self.entry_simplify(link);
        }
        if above {
            self.entry_simplify(next);
        }
        self.map_changed(map);
        Some(below || above)
    }

    /// Joins the entry that starts at an address with the one below.
    pub(super) fn simplify_at(&mut self, map: MapId, address: u64) {
        let link = match self.maps.get(map) {
            Some(record) => record.tree.find(&self.entries, address),
            None => Link::NIL,
        };
        self.entry_simplify(link);
    }
}
