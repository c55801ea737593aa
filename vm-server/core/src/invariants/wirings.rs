//! The rules of wiring and of accounts: what entries, pages, maps and operations count of one another.

use ipc_abi::types::CopyStrategy;

use super::{Check, must};
use crate::Core;
use crate::account::family::Good;
use crate::event::MapId;
use crate::map::entry::Entry;
use crate::map::wire::Wire;
use crate::object::page::{Frame, State};
use crate::object::pages::Slot;
use crate::op::Verb;
use crate::range::page_of;

impl Core {
    /// The wirings that a map is charged with, and the operations that have entries of it in
    /// transition.
    pub(super) fn check_map_wirings(&self, id: MapId) -> Check {
        let Some(map) = self.maps.get(id) else {
            return Ok(());
        };
        let mut owed = 0u64;
        for op in &map.wires {
            let wire = self.ops.get(*op).and_then(|op| wire_of(&op.verb));
            let mine = wire.is_some_and(|wire| wire.place().0 == id);
            must(mine, id.index(), "who wires a map is an operation")?;
            owed = owed.saturating_add(wire.map_or(0, Wire::owed));
        }
        let mut wired = 0u64;
        let mut at = map.tree.first();
        while let Some(entry) = self.entries.at(at.0) {
            if entry.wired > 0 {
                wired = wired.saturating_add(self.pages_to_wire(entry, entry.end));
            }
            let owned = !entry.in_transition
                || map.wires.iter().any(|op| {
                    let wire = self.ops.get(*op).and_then(|op| wire_of(&op.verb));
                    wire.is_some_and(|wire| {
                        let range = wire.place().1;
                        range.start() <= entry.start && entry.end <= range.end()
                    })
                });
            must(owned, at.0, "an entry in transition is some operation's")?;
            at = entry.hooks.next;
        }
        must(
            wired.saturating_add(owed) == map.wired,
            id.index(),
            "a map is charged with what is wired",
        )
    }

    /// What a map has lent to its children is what they may hold.
    pub(super) fn check_family(&self, id: MapId) -> Check {
        let Some(map) = self.maps.get(id) else {
            return Ok(());
        };
        let (index, account) = (id.index(), &map.account);
        for good in Good::ALL {
            let (mut lent, mut at) = (0u64, account.family.child);
            while let Some(child) = self.maps.at(at) {
                let own = child.account.limits.of(good);
                let passed_on = child.account.family.lent.of(good);
                lent = lent.saturating_add(own).saturating_add(passed_on);
                let listed = child.account.family.lender == Some(id);
                must(listed, at, "a map's children are lent to by it")?;
                at = child.account.family.next();
            }
            must(
                lent == account.family.lent.of(good),
                index,
                "what a map has lent its children may hold",
            )?;
        }
        Ok(())
    }

    /// What all maps hold together.
    pub(super) fn check_whole(&self) -> Check {
        let wired = self
            .maps
            .iter()
            .fold(0u64, |sum, (_, map)| sum.saturating_add(map.wired));
        must(wired == self.wired, 0, "wired pages are counted in all")?;
        let hidden = self
            .maps
            .iter()
            .filter(|(_, map)| map.account.payer.is_some());
        must(
            hidden.count() == self.hidden_maps as usize,
            0,
            "hidden maps are counted",
        )
    }

    /// The wirings of an entry: those of the user are one of all, and its own object has all pages.
    pub(super) fn check_entry_wirings(&self, index: u32, entry: &Entry) -> Check {
        let counted = entry.wired == u16::from(entry.user_wired > 0);
        must(counted, index, "wirings of the user count as one")?;
        let object = entry.object.and_then(|id| self.objects.get(id));
        let Some(object) = object.filter(|_| entry.wired > 0 && self.object_with_pages(entry))
        else {
            return must(
                entry.wired == 0 || entry.object.is_some(),
                index,
                "wired memory is there",
            );
        };
        must(
            !entry.needs_copy,
            index,
            "wired memory is not copy-on-write",
        )?;
        let first = page_of(entry.offset);
        let end = page_of(entry.offset_of(entry.end));
        for page in first..end {
            let there = matches!(object.pages.get(&self.nodes, page), Slot::Page(_));
            must(there, index, "wired memory is resident")?;
        }
        Ok(())
    }

    /// A page counts the entries that wire it. A page for a device has one wiring more.
    pub(super) fn check_frame_wirings(&self, frame: Frame) -> Check {
        let Some(page) = self.pages.get(frame) else {
            return Ok(());
        };
        let object = page.object.and_then(|id| self.objects.get(id));
        let Some(object) = object.filter(|_| page.state != State::Loose) else {
            return must(page.wired == 0, frame.0, "a wired page is in an object");
        };
        let mut wirings = 0u16;
        let mut at = object.entries;
        while let Some(entry) = self.entries.at(at) {
            let first = page_of(entry.offset);
            let end = page_of(entry.offset_of(entry.end));
            if entry.wired > 0 && first <= page.index && page.index < end {
                wirings = wirings.saturating_add(1);
            }
            at = entry.object_next;
        }
        let device = object.is_internal() && object.strategy == CopyStrategy::None;
        must(
            page.wired == wirings || device && page.wired == wirings.saturating_add(1),
            frame.0,
            "a page counts who wires it",
        )
    }
}

const fn wire_of(verb: &Verb) -> Option<&Wire> {
    match verb {
        Verb::Wire(wire) => Some(wire),
        _ => None,
    }
}
