//! The rules of what maps are charged with: sums over all objects, hidden maps and operations, each of
//! which is gone over once for all the maps that are checked.

use alloc::vec::Vec;

use super::{Check, must};
use crate::Core;
use crate::event::MapId;

/// What there is that one map has to pay for.
#[derive(Clone, Copy, Debug, Default)]
struct Charges {
    pages: u32,
    objects: u32,
    hidden: u32,
    entries: u32,
    ops: u32,
    lent_ops: u32,
    holders: u32,
}

/// Adds to the charges of a map, if it is one of those.
fn add(sums: &mut [(MapId, Charges)], map: Option<MapId>, what: impl FnOnce(&mut Charges)) {
    let Some(map) = map else {
        return;
    };
    if let Some((_, sum)) = sums.iter_mut().find(|(known, _)| *known == map) {
        what(sum);
    }
}

impl Core {
    /// What maps are charged with is what there is.
    pub(super) fn check_charges(&self, maps: &[MapId]) -> Check {
        let mut sums: Vec<(MapId, Charges)> = Vec::new();
        let there = maps.iter().filter(|map| self.maps.get(**map).is_some());
        sums.extend(there.map(|map| (*map, Charges::default())));
        if sums.is_empty() {
            return Ok(());
        }
        for (_, object) in self.objects.iter() {
            if object.pager.is_none() {
                let pages = object.pages.pages();
                add(&mut sums, object.payer, |sum| {
                    sum.pages = sum.pages.saturating_add(pages);
                });
            }
            add(&mut sums, object.charged, |sum| {
                sum.objects = sum.objects.saturating_add(1);
            });
        }
        for (_, hidden) in self.maps.iter() {
            add(&mut sums, hidden.account.payer, |sum| {
                sum.hidden = sum.hidden.saturating_add(1);
                sum.entries = sum.entries.saturating_add(hidden.entries());
            });
        }
        for (_, op) in self.ops.iter() {
            let lent = op.payer.is_some_and(|payer| payer.lent);
            add(&mut sums, op.payer.map(|payer| payer.map), |sum| {
                sum.ops = sum.ops.saturating_add(1);
                sum.lent_ops = sum.lent_ops.saturating_add(lent.into());
            });
            add(&mut sums, op.holds, |sum| {
                sum.holders = sum.holders.saturating_add(1);
            });
        }
        sums.into_iter()
            .try_for_each(|(map, sum)| self.check_charge(map, &sum))
    }

    fn check_charge(&self, id: MapId, sum: &Charges) -> Check {
        let Some(map) = self.maps.get(id) else {
            return Ok(());
        };
        let (index, account) = (id.index(), &map.account);
        must(
            sum.holders == u32::from(map.locked),
            index,
            "who holds a map's lock",
        )?;
        must(
            sum.pages == map.pages,
            index,
            "a map pays for what is there",
        )?;
        must(
            sum.hidden == account.copies && sum.entries == account.hidden_entries,
            index,
            "a map is charged with the hidden maps that it made",
        )?;
        must(
            sum.objects == account.objects,
            index,
            "a map is charged with its objects",
        )?;
        must(
            sum.ops == account.ops && sum.lent_ops == account.lent_ops,
            index,
            "a map is charged with its operations",
        )
    }
}
