//! vm_map: the address space of a task as ordered entries.
//!
//! One verb a file. Every verb that changes entries runs under the map's *operation lock*
//! ([`Map::locked`]): a call that does not finish within its event keeps the lock as an operation,
//! and later calls queue behind it ([`Map::waiting`]). Faults and queries take no lock, so each step
//! leaves the map whole: sorted, disjoint, `size` the sum of its entries.
//!
//! Translations are only ever taken away here, by [`crate::Core::map_revoke`]; faults enter them.

pub mod advise;
mod clip;
pub mod counts;
pub(crate) mod enter;
pub mod entry;
pub mod fork;
mod lookup;
pub mod own;
pub mod protect;
pub mod region;
pub mod remove;
pub(crate) mod reserve;
pub mod submap;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tree;
pub mod unwire;
pub(crate) mod walk;
pub mod wire;

use ipc_abi::types::Prot;

use crate::Core;
use crate::account::Account;
use crate::event::MapId;
use crate::machine::{Machine, Revoke};
use crate::op::wait::List;
use crate::range::Span;
use crate::slab::NIL;

/// Entries of a hidden map that ends without a step of its own.
const SMALL: u32 = 4;

/// An address map.
#[derive(Debug)]
pub struct Map {
    /// Its entries, in order.
    pub(crate) tree: tree::Tree,
    /// Epoch of its address space: raised by each revoke, carried by each Enter.
    pub epoch: u64,
    /// Moves with each committed change.
    pub timestamp: u64,
    /// Bytes mapped.
    pub size: u64,
    /// Pages of internal objects that this map pays for.
    pub pages: u32,
    /// Its ring of deferred reclamation.
    pub(crate) ring: Option<crate::reclaim::Ring>,
    /// What else is counted.
    pub counts: counts::Counts,
    /// Memory may be written and executed at the same time (amendment A9).
    pub jit: bool,
    /// What else it is charged with, and its limits.
    pub account: Account,
    /// An operation holds the operation lock.
    pub locked: bool,
    /// Calls that wait for the operation lock.
    pub waiting: List,
    /// Operations that wait for entries in transition.
    pub transit: List,
    /// Operations that have entries in transition.
    pub wires: wire::Wires,
    /// Pages that its wired entries, and those being wired, cover.
    pub wired: u64,
    /// New mappings are wired (row 41).
    pub wiring_required: bool,
    /// The task has ended; entries are being removed in steps.
    pub dying: bool,
    /// Next map whose entries are being removed.
    pub dying_next: u32,
    /// First of the ranges that were set aside.
    pub(crate) reserved: u32,
    /// Other maps show it, or may come to.
    pub shared: Option<submap::Shared>,
}

impl Map {
    /// An empty map of `[min, max)`.
    #[must_use]
    pub const fn new(min: u64, max: u64) -> Map {
        Map {
            tree: tree::Tree::new(min, max),
            epoch: 0,
            timestamp: 0,
            size: 0,
            pages: 0,
            ring: None,
            counts: counts::Counts {
                pages_peak: 0,
                external: 0,
                external_peak: 0,
                resident_peak: 0,
                reusable: 0,
                reusable_peak: 0,
                volatile: 0,
                volatile_size: 0,
            },
            jit: true,
            account: Account::NEW,
            locked: false,
            waiting: List::EMPTY,
            transit: List::EMPTY,
            wires: wire::Wires::new(),
            wired: 0,
            wiring_required: false,
            dying: false,
            dying_next: NIL,
            reserved: NIL,
            shared: None,
        }
    }

    /// The lowest address that can be mapped.
    #[must_use]
    pub const fn min(&self) -> u64 {
        self.tree.min()
    }

    /// One past the highest address that can be mapped.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.tree.max()
    }

    /// Entries.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.tree.len()
    }

    /// Whether it is a hidden map with so few entries that they can go at once, and nobody waits for
    /// it. Such a map has no translations, so there is nothing to take back.
    pub(crate) fn is_small_copy(&self) -> bool {
        self.account.payer.is_some()
            && self.shared.is_none()
            && self.entries() <= SMALL
            && self.wires.is_empty()
            && self.waiting.is_empty()
            && self.transit.is_empty()
    }

    /// Notes that a change is committed.
    #[inline]
    pub(crate) const fn changed(&mut self) {
        self.timestamp = self.timestamp.saturating_add(1);
    }

    /// The part of a range that lies inside the map, if any does.
    #[must_use]
    pub fn clamp(&self, range: Span) -> Option<Span> {
        let start = range.start().max(self.min());
        let end = range.end().min(self.max());
        if start < end {
            Span::exact(start, end)
        } else {
            None
        }
    }
}

impl Core {
    /// Reduces the translations of a range of a map to `keep`; none at all: removes them. Whatever
    /// fault answers are on their way there are void.
    pub(crate) fn map_revoke<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        range: Span,
        keep: Prot,
    ) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        if range.is_empty() {
            return;
        }
        record.epoch = record.epoch.saturating_add(1);
        machine.revoke(&[Revoke::Range {
            map,
            epoch: record.epoch,
            start: range.start(),
            end: range.end(),
            keep,
        }]);
    }

    /// Notes that a change of a map is committed.
    pub(crate) fn map_changed(&mut self, map: MapId) {
        if let Some(record) = self.maps.get_mut(map) {
            record.changed();
        }
    }
}
