//! Going over the entries of a range in bounded steps: once to check, once to change.
//!
//! The verbs on a range are all or nothing. So the range is looked at as a whole first, and what a
//! change needs (the two cuts at its ends) is taken between the passes. Both passes stop after
//! [`BUDGET`] entries and go on from an address, under the map's operation lock. An entry in transition
//! stops the first pass ([`Walk::is_blocked`]): it waits without the lock, then begins again.

use ipc_abi::Kern;

use super::entry::Entry;
use super::tree::Link;
use crate::Core;
use crate::event::MapId;
use crate::op::BUDGET;
use crate::range::Span;

/// Which pass a walk is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Looking.
    Check,
    /// Changing.
    Apply,
}

/// How far a verb has got in its range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) map: MapId,
    pub(crate) range: Span,
    /// Everything below this is done in this pass.
    pub(crate) cursor: u64,
    pub(crate) pass: Pass,
    /// An entry crosses an end of the range.
    cut: bool,
    /// Entries that cross an end are left whole.
    whole: bool,
    /// What is looked at is what shows, through entries that show maps.
    through: bool,
    /// The check pass met an entry in transition.
    blocked: bool,
    /// Bytes of the range that the check pass has found mapped.
    covered: u64,
    /// Entries that its last step has looked at.
    looked: u32,
}

/// Whether entries need to touch each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    /// A hole is `KERN_INVALID_ADDRESS`.
    Refused,
    /// Holes are passed over.
    Skipped,
}

impl Walk {
    /// A walk over the part of a range that is in the map.
    pub(crate) const fn new(map: MapId, range: Span) -> Walk {
        Walk {
            map,
            range,
            cursor: range.start(),
            pass: Pass::Check,
            cut: false,
            whole: false,
            blocked: false,
            covered: 0,
            looked: 0,
            through: false,
        }
    }

    /// The same walk, without the cuts: for a verb that changes no entries, or cuts them itself.
    pub(crate) const fn whole(self) -> Walk {
        Walk {
            whole: true,
            ..self
        }
    }

    /// The same walk, whose check pass looks at what shows of other maps, too: each piece as if it were
    /// an entry here.
    pub(crate) const fn through(self) -> Walk {
        Walk {
            through: true,
            ..self
        }
    }

    /// Whether the check pass met an entry in transition, and is at its beginning again.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bytes of the range that were mapped when the check pass ended.
    pub(crate) const fn covered(&self) -> u64 {
        self.covered
    }

    /// Entries that the last step of the check pass has looked at.
    pub(crate) const fn looked(&self) -> u32 {
        self.looked
    }

    /// Bytes that this pass has still to go.
    pub(crate) const fn is_done(&self) -> bool {
        self.cursor >= self.range.end()
    }
}

impl Core {
    /// Looks at up to [`BUDGET`] entries of the check pass. At its end cuts the entries at the ends
    /// of the range and turns to the second pass.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the task has ended. `KERN_NO_ACCESS`: the map is sealed.
    /// `KERN_INVALID_ADDRESS`: a hole, where they are refused.
    /// What `look` says. `KERN_RESOURCE_SHORTAGE`: no records for the cuts. Nothing has changed.
    pub(crate) fn walk_check(
        &mut self,
        walk: &mut Walk,
        holes: Holes,
        look: impl Fn(&Entry) -> Result<(), Kern>,
    ) -> Result<(), Kern> {
        let record = self.maps.get(walk.map).ok_or(Kern::Terminated)?;
        if record.dying {
            return Err(Kern::Terminated);
        }
        if self.map_is_sealed(walk.map) {
            return Err(Kern::NoAccess);
        }
        walk.blocked = false;
        walk.looked = 0;
        let mut link = record.tree.find_or_above(&self.entries, walk.cursor);
        for _ in 0..BUDGET {
            if walk.is_done() {
                break;
            }
            walk.looked = walk.looked.saturating_add(1);
            let entry = self.entries.at(link.0);
            let Some(entry) = entry.filter(|entry| entry.start < walk.range.end()) else {
                if holes == Holes::Refused {
                    return Err(Kern::InvalidAddress);
                }
                walk.cursor = walk.range.end();
                break;
            };
            if entry.start > walk.cursor && holes == Holes::Refused {
                return Err(Kern::InvalidAddress);
            }
            if entry.in_transition {
                *walk = Walk {
                    cursor: walk.range.start(),
                    cut: false,
                    blocked: true,
                    covered: 0,
                    ..*walk
                };
                return Ok(());
            }
            walk.cut |= entry.start < walk.range.start() || entry.end > walk.range.end();
            if walk.through && entry.submap.is_some() {
                let shown = self.shown(link, walk.cursor);
                let from = shown.map_or(entry.end, |shown| shown.start);
                if from > walk.cursor && holes == Holes::Refused {
                    return Err(Kern::InvalidAddress);
                }
                if let Some(shown) = shown.filter(|shown| shown.start < walk.range.end()) {
                    look(&shown)?;
                }
                walk.cursor = shown.map_or(entry.end, |shown| shown.end);
                if walk.cursor < entry.end {
                    continue;
                }
            } else {
                look(entry)?;
                walk.cursor = entry.end;
            }
            let end = entry.end.min(walk.range.end());
            let covered = end.saturating_sub(entry.start.max(walk.range.start()));
            walk.covered = walk.covered.saturating_add(covered);
            link = entry.hooks.next;
        }
        if walk.is_done() {
            if walk.cut && !walk.whole {
                self.map_clip_range(walk.map, walk.range)?;
            }
            walk.cursor = walk.range.start();
            walk.pass = Pass::Apply;
        }
        Ok(())
    }

    /// What shows of an entry at an address or above it, as an entry of the outer map.
    fn shown(&self, link: Link, address: u64) -> Option<Entry> {
        let leaf = self.leaf_above(link.0, address)?;
        let inner = self.entries.at(leaf.link)?;
        let outer = self.entries.at(link.0)?;
        Some(Entry {
            start: leaf.start,
            end: leaf.end,
            object: inner.object,
            protection: leaf.rights,
            max_protection: leaf.max,
            needs_copy: leaf.copies,
            permanent: leaf.permanent,
            ..*outer
        })
    }

    /// The entry of the second pass at the cursor, or above it in the range.
    pub(crate) fn walk_first(&self, walk: &Walk) -> Link {
        match self.maps.get(walk.map) {
            Some(record) => record.tree.find_or_above(&self.entries, walk.cursor),
            None => Link::NIL,
        }
    }

    /// The entry at `link`, if it lies in the range of a walk. In the second pass it lies there whole.
    pub(crate) fn walk_entry(&self, walk: &Walk, link: Link) -> Option<&Entry> {
        let entry = self.entries.at(link.0)?;
        (entry.start < walk.range.end()).then_some(entry)
    }
}
