//! Families: what a child's map holds, it holds out of its parent's limits.
//!
//! A map that a task makes starts with nothing of its own. What it may hold is *lent* to it by its
//! parent, some at first and more when it is needed, so that a charge looks at one map alone: held
//! against [`Limits`], which is what the map may hold *now*. What it may hold at all is its cap. What
//! a map lends it does without; when the child ends it has that back, and when the child has more
//! than it uses, it can be taken back before.
//!
//! A parent that ends leaves its children to its own lender. The first of a family has none: then its
//! eldest child takes its place, with all that the family may hold, so that nobody gets more by ending.

use ipc_abi::Kern;

use super::Limits;
use crate::Core;
use crate::event::MapId;
use crate::map::Map;
use crate::op::BUDGET;
use crate::slab::NIL;

/// What can be lent. Bytes mapped are not: they take nothing from anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    Entries,
    Pages,
    Wired,
    Copies,
    Objects,
    Ops,
}

impl Good {
    pub(crate) const ALL: [Good; 6] = [
        Good::Entries,
        Good::Pages,
        Good::Wired,
        Good::Copies,
        Good::Objects,
        Good::Ops,
    ];

    /// What is lent beyond what is needed, if there is plenty.
    pub(super) const fn chunk(self) -> u64 {
        match self {
            Good::Entries | Good::Objects => 64,
            Good::Pages => 256,
            Good::Wired => 0,
            Good::Copies => 8,
            Good::Ops => 16,
        }
    }
}

impl Limits {
    /// The limit of one of them.
    #[inline]
    pub(crate) const fn of(&self, good: Good) -> u64 {
        match good {
            Good::Entries => self.entries as u64,
            Good::Pages => self.pages as u64,
            Good::Wired => self.wired,
            Good::Copies => self.copies as u64,
            Good::Objects => self.objects as u64,
            Good::Ops => self.ops as u64,
        }
    }

    fn set(&mut self, good: Good, value: u64) {
        let small = u32::try_from(value).unwrap_or(u32::MAX);
        match good {
            Good::Entries => self.entries = small,
            Good::Pages => self.pages = small,
            Good::Wired => self.wired = value,
            Good::Copies => self.copies = small,
            Good::Objects => self.objects = small,
            Good::Ops => self.ops = small,
        }
    }

    fn add(&mut self, good: Good, value: u64) {
        self.set(good, self.of(good).saturating_add(value));
    }

    fn take(&mut self, good: Good, value: u64) {
        self.set(good, self.of(good).saturating_sub(value));
    }
}

/// Where a map stands in its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Who lends to it. `None`: the first of a family, or one outside of all.
    pub(crate) lender: Option<MapId>,
    /// What it may hold at all.
    pub(crate) cap: Limits,
    /// What it has lent to its children.
    pub(crate) lent: Limits,
    /// Its first child, and its neighbours among its parent's children.
    pub(crate) child: u32,
    next: u32,
    prev: u32,
    /// Lenders above it, at most.
    depth: u8,
}

/// Most lenders above a map: what is made below that is its maker's sibling.
const DEPTH: u8 = 24;
/// Most maps on the way up. When the first of a family ends, its children are one deeper for a while.
const WAY: usize = 32;

impl Family {
    /// The next child of its parent.
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    /// Of a map without a family that may hold this.
    pub(crate) const fn alone(cap: Limits) -> Family {
        Family {
            lender: None,
            cap,
            lent: Limits::ZERO,
            child: NIL,
            next: NIL,
            prev: NIL,
            depth: 0,
        }
    }
}

impl Map {
    /// What it holds of one of them.
    pub(crate) fn held(&self, good: Good) -> u64 {
        match good {
            Good::Entries => u64::from(self.entries().saturating_add(self.account.hidden_entries)),
            Good::Pages => self.pages.into(),
            Good::Wired => self.wired,
            Good::Copies => self.account.copies.into(),
            Good::Objects => self.account.objects.into(),
            Good::Ops => self.account.ops.into(),
        }
    }

    /// What it may hold and does not.
    fn slack(&self, good: Good) -> u64 {
        self.account.limits.of(good).saturating_sub(self.held(good))
    }

    /// What it has got from its lender.
    fn granted(&self, good: Good) -> u64 {
        let account = &self.account;
        account
            .limits
            .of(good)
            .saturating_add(account.family.lent.of(good))
    }
}

impl Core {
    /// Sees to it that a map may hold so much more.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: its limit, or its family's. Nobody holds more or less then.
    #[inline]
    pub(crate) fn room(&mut self, map: MapId, good: Good, more: u64) -> Result<(), Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        if record.held(good).saturating_add(more) <= record.account.limits.of(good) {
            return Ok(());
        }
        self.room_made(map, good, more)
    }

    /// Gets what is missing: from children that do not use it, or from whoever lends to the map.
    #[cold]
    #[inline(never)]
    fn room_made(&mut self, map: MapId, good: Good, more: u64) -> Result<(), Kern> {
        // Those who get something, and how much.
        let mut way = heapless::Vec::<(MapId, u64), WAY>::new();
        // The most that all of them may still get.
        let mut most = u64::MAX;
        let (mut at, mut wanted) = (map, more);
        loop {
            if self.lacks(at, good, wanted) > 0 {
                self.take_back(at, good, &way);
            }
            let lacking = self.lacks(at, good, wanted);
            if lacking == 0 {
                break;
            }
            let record = self.maps.get(at).ok_or(Kern::ResourceShortage)?;
            let family = &record.account.family;
            most = most.min(family.cap.of(good).saturating_sub(record.granted(good)));
            let lender = family.lender.ok_or(Kern::ResourceShortage)?;
            if lacking > most || way.push((at, lacking)).is_err() {
                return Err(Kern::ResourceShortage);
            }
            (at, wanted) = (lender, lacking);
        }
        let plenty = self.maps.get(at).map_or(0, |map| map.slack(good));
        let extra = good.chunk().min(plenty.saturating_sub(wanted) / 8);
        let extra = extra.min(most.saturating_sub(way.first().map_or(most, |first| first.1)));
        let mut from = at;
        while let Some((to, amount)) = way.pop() {
            self.pass_on(from, to, good, amount.saturating_add(extra));
            from = to;
        }
        Ok(())
    }

    /// How much more than a map may hold it would hold, with so much more.
    fn lacks(&self, map: MapId, good: Good, more: u64) -> u64 {
        let slack = self.maps.get(map).map_or(0, |map| map.slack(good));
        more.saturating_sub(slack)
    }

    /// Passes on some of what a map may hold and does not.
    fn pass_on(&mut self, from: MapId, to: MapId, good: Good, amount: u64) {
        if let Some(from) = self.maps.get_mut(from) {
            from.account.limits.take(good, amount);
            from.account.family.lent.add(good, amount);
        }
        if let Some(to) = self.maps.get_mut(to) {
            to.account.limits.add(good, amount);
        }
    }

    /// Has a child give back some of what it may hold and does not. Who may hold less than when it lent that
    /// passes the rest on, up to the first of the family, who keeps no more than it may hold.
    fn give_back(&mut self, child: MapId, to: MapId, good: Good, amount: u64) {
        let (mut child, mut to, mut amount) = (child, Some(to), amount);
        for _ in 0..WAY {
            if let Some(child) = self.maps.get_mut(child) {
                child.account.limits.take(good, amount);
            }
            let Some((id, record)) = to.and_then(|id| Some((id, self.maps.get_mut(id)?))) else {
                return;
            };
            record.account.limits.add(good, amount);
            record.account.family.lent.take(good, amount);
            let cap = record.account.family.cap.of(good);
            amount = record.granted(good).saturating_sub(cap).min(amount);
            if amount == 0 {
                return;
            }
            (child, to) = (id, record.account.family.lender);
        }
    }

    /// Takes back what those below a map have and do not use, the lowest first: up to [`BUDGET`] of
    /// them. Those on the `way` down are going to use what they have.
    fn take_back(&mut self, map: MapId, good: Good, way: &[(MapId, u64)]) {
        let mut at = self.lowest(map);
        for _ in 0..BUDGET {
            if at == map {
                return;
            }
            let Some(record) = self.maps.get(at) else {
                return;
            };
            let (family, amount) = (&record.account.family, record.slack(good));
            let (next, Some(lender)) = (self.maps.id_at(family.next), family.lender) else {
                return;
            };
            if !way.iter().any(|(kept, _)| *kept == at) {
                self.give_back(at, lender, good, amount);
            }
            at = next.map_or(lender, |next| self.lowest(next));
        }
    }

    /// The first child of the first child, and so on, down to one without.
    fn lowest(&self, map: MapId) -> MapId {
        let mut at = map;
        for _ in 0..WAY {
            let child = self
                .maps
                .get(at)
                .map_or(NIL, |map| map.account.family.child);
            match self.maps.id_at(child) {
                Some(child) => at = child,
                None => break,
            }
        }
        at
    }

    /// Makes a map one of the children of its parent's family, and lends it something to begin with.
    pub(crate) fn family_join(&mut self, child: MapId, parent: MapId) {
        // A shared map is its maker's; if that has gone, nobody is there to lend.
        let parent = self.maker_of(parent);
        let Some(record) = self.maps.get(parent) else {
            if let Some(child) = self.maps.get_mut(child) {
                child.account.limits = Limits::ZERO;
            }
            return;
        };
        let account = &record.account;
        if account.system {
            return;
        }
        // Very deep down it is a sibling.
        let family = &account.family;
        let lender = family.lender.filter(|_| family.depth >= DEPTH);
        let lender = lender.unwrap_or(parent);
        let depth = self
            .maps
            .get(lender)
            .map_or(0, |map| map.account.family.depth);
        if let Some(child) = self.maps.get_mut(child) {
            let size = child.account.limits.size;
            child.account.limits = Limits {
                size,
                ..Limits::ZERO
            };
            child.account.family.depth = depth.saturating_add(1);
        }
        self.family_link(child, lender);
        for good in Good::ALL {
            let slack = self.maps.get(lender).map_or(0, |map| map.slack(good));
            let cap = self
                .maps
                .get(child)
                .map_or(0, |map| map.account.family.cap.of(good));
            self.pass_on(lender, child, good, good.chunk().min(slack / 8).min(cap));
        }
    }

    /// Puts a map among the children of another.
    fn family_link(&mut self, child: MapId, lender: MapId) {
        let first = self
            .maps
            .get(lender)
            .map_or(NIL, |map| map.account.family.child);
        if let Some(next) = self.maps.at_mut(first) {
            next.account.family.prev = child.index();
        }
        if let Some(lender) = self.maps.get_mut(lender) {
            lender.account.family.child = child.index();
        }
        if let Some(record) = self.maps.get_mut(child) {
            let family = &mut record.account.family;
            (family.lender, family.next, family.prev) = (Some(lender), first, NIL);
        }
    }

    /// Takes a map out of the children of its lender.
    fn family_unlink(&mut self, child: MapId) {
        let Some(record) = self.maps.get_mut(child) else {
            return;
        };
        let family = &mut record.account.family;
        let (lender, next, prev) = (family.lender.take(), family.next, family.prev);
        (family.next, family.prev) = (NIL, NIL);
        if let Some(next) = self.maps.at_mut(next) {
            next.account.family.prev = prev;
        }
        match self.maps.at_mut(prev) {
            Some(prev) => prev.account.family.next = next,
            None => {
                if let Some(lender) = lender.and_then(|id| self.maps.get_mut(id)) {
                    lender.account.family.child = next;
                }
            }
        }
    }

    /// A map that has ended leaves its family: its children get its lender, up to [`BUDGET`] of them in
    /// a step, which then has back what the map had. Says whether that is all.
    pub(crate) fn family_leave_step(&mut self, map: MapId) -> bool {
        for _ in 0..BUDGET {
            let Some(record) = self.maps.get(map) else {
                return true;
            };
            let family = &record.account.family;
            let (lender, child) = (family.lender, self.maps.id_at(family.child));
            match (lender, child) {
                (None, None) => return true,
                (Some(lender), None) => {
                    for good in Good::ALL {
                        let amount = self
                            .maps
                            .get(map)
                            .map_or(0, |map| map.account.limits.of(good));
                        self.give_back(map, lender, good, amount);
                    }
                    self.family_unlink(map);
                    return true;
                }
                (None, Some(heir)) => self.family_inherit(map, heir),
                (Some(lender), Some(child)) => self.family_move(map, child, lender),
            }
        }
        false
    }

    /// Gives a child of a map to that one's lender, with what it has got.
    fn family_move(&mut self, from: MapId, child: MapId, to: MapId) {
        self.family_unlink(child);
        self.family_link(child, to);
        for good in Good::ALL {
            // What the new lender had lent to `from` for the child it has now lent to the child.
            let amount = self.maps.get(child).map_or(0, |map| map.granted(good));
            if let Some(from) = self.maps.get_mut(from) {
                from.account.family.lent.take(good, amount);
            }
        }
    }

    /// A child takes the place of the first of its family, which becomes its child.
    fn family_inherit(&mut self, first: MapId, heir: MapId) {
        self.family_unlink(heir);
        for good in Good::ALL {
            let own = self.maps.get(heir).map_or(0, |map| map.granted(good));
            let Some(record) = self.maps.get_mut(first) else {
                return;
            };
            record.account.family.lent.take(good, own);
            let rest = record.granted(good);
            if let Some(heir) = self.maps.get_mut(heir) {
                heir.account.family.lent.add(good, rest);
            }
        }
        if let Some(record) = self.maps.get_mut(heir) {
            record.account.family.depth = 0;
        }
        self.family_link(first, heir);
    }

    /// Sets what a map may hold at all; what it may hold now follows.
    pub(crate) fn set_cap(&mut self, map: MapId, cap: Limits) {
        let Some(record) = self.maps.get_mut(map) else {
            return;
        };
        record.account.family.cap = cap;
        record.account.limits.size = cap.size;
        let lender = record.account.family.lender;
        for good in Good::ALL {
            let Some(record) = self.maps.get_mut(map) else {
                return;
            };
            let own = cap
                .of(good)
                .saturating_sub(record.account.family.lent.of(good));
            let now = record.account.limits.of(good);
            match lender {
                None => record.account.limits.set(good, own),
                Some(lender) => {
                    self.give_back(map, lender, good, now.saturating_sub(own));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
