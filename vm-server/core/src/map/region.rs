//! vm_region and vm_region_recurse: what is mapped at or above an address (rules 194 to 196).
//!
//! Both take no lock. What an entry and its object say is read at once; a flavor that counts pages goes
//! over the pages of the window in steps, so that what it says may be of several moments. Should the
//! object end meanwhile, what was counted is the answer.

use ipc_abi::Kern;
use ipc_protocol::vm_inspect::{self, VmRegionRecurseReply};
use ipc_protocol::vm_map::{
    self, SM_COW, SM_EMPTY, SM_PRIVATE, SM_PRIVATE_ALIASED, SM_SHARED, SM_SHARED_ALIASED,
    SM_TRUESHARED, VmRegionReply,
};

use super::entry::Entry;
use super::submap::Leaf;
use super::tree::Link;
use crate::Core;
use crate::call::Reply;
use crate::event::{MapId, ObjectId};
use crate::object::page::Flags;
use crate::object::pages::Slot;
use crate::object::{Kind, Object};
use crate::op::{BUDGET, Progress};
use crate::range::page_of;

/// Objects of a chain that are counted; chains are kept far shorter.
const DEPTH_MAX: u32 = 64;

/// Entries of an object that are looked at to tell whether all are of one map.
const ALIASES_MAX: u32 = 16;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// vm_region: what the entry says.
    Entry,
    /// vm_region: pages counted, too.
    Pages,
    /// vm_region_recurse, through so many maps at most: pages counted, too.
    Through(u32),
}

/// Describing what is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    map: MapId,
    /// Nothing is mapped from the address asked for up to here.
    address: u64,
    detail: Detail,
    found: Option<Found>,
}

/// The region, and how far its pages are counted.
#[derive(Clone, Copy, Debug)]
struct Found {
    reply: VmRegionReply,
    depth: u32,
    object: Option<ObjectId>,
    /// Next page of the object to look at, and one past the last.
    next: u64,
    end: u64,
}

impl Region {
    /// Of what is mapped at an address, or above it.
    pub(crate) const fn new(map: MapId, address: u64, detail: Detail) -> Region {
        Region {
            map,
            address,
            detail,
            found: None,
        }
    }
}

impl Core {
    /// One step: up to [`BUDGET`] entries, or pages.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: nothing is mapped at or above the address. `KERN_TERMINATED`.
    pub(crate) fn region_step(&self, work: &mut Region) -> Progress {
        if work.found.is_none() {
            match self.region_find(work) {
                Ok(true) => {}
                Ok(false) => return Progress::More,
                Err(code) => return Progress::Done(Some(Err(code))),
            }
        }
        let Some(found) = &mut work.found else {
            return Progress::More;
        };
        if work.detail != Detail::Entry && !self.region_count(found) {
            return Progress::More;
        }
        let region = found.reply;
        Progress::Done(Some(Ok(Reply::map(match work.detail {
            Detail::Through(_) => {
                let depth = found.depth;
                let reply = VmRegionRecurseReply { depth, region };
                vm_map::Reply::Inspect(vm_inspect::Reply::VmRegionRecurse(reply))
            }
            Detail::Entry | Detail::Pages => vm_map::Reply::VmRegion(region),
        }))))
    }

    /// Looks for the region. `false`: in this step it was not found.
    fn region_find(&self, work: &mut Region) -> Result<bool, Kern> {
        let most = match work.detail {
            Detail::Through(depth) => depth,
            Detail::Entry | Detail::Pages => 0,
        };
        for _ in 0..BUDGET {
            let record = self.maps.get(work.map).ok_or(Kern::Terminated)?;
            let Link(link) = record.tree.find_or_above(&self.entries, work.address);
            let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
            match self.leaf_from(link, work.address.max(entry.start), most) {
                Ok(leaf) => {
                    work.found = self.region_of(work.map, entry, &leaf);
                    return Ok(work.found.is_some());
                }
                // What is shown from here on is a hole.
                Err(next) => work.address = next,
            }
        }
        Ok(false)
    }

    fn region_of(&self, map: MapId, outer: &Entry, leaf: &Leaf) -> Option<Found> {
        let entry = self.entries.at(leaf.link)?;
        let object = entry.object.and_then(|id| self.objects.get(id));
        let copies = leaf.copies || entry.needs_copy;
        let offset = entry.offset_of(leaf.inner_of(leaf.low));
        let reply = VmRegionReply {
            address: leaf.low,
            size: leaf.end.saturating_sub(leaf.low),
            protection: u32::from(leaf.rights.bits()),
            max_protection: u32::from(leaf.max.bits()),
            inheritance: outer.inheritance as u32,
            behavior: entry.behavior as u32,
            offset: if entry.is_untouched() { 0 } else { offset },
            shared: entry.is_shared || object.is_some_and(|o| o.refs > 1 && !copies),
            is_submap: entry.submap.is_some(),
            external_pager: object.is_some_and(|o| o.pager.is_some()),
            needs_copy: copies,
            shadow_depth: entry.object.map_or(0, |id| self.shadow_depth(id)),
            user_tag: u32::from(entry.tag),
            user_wired_count: u32::from(entry.user_wired),
            ref_count: object.map_or(0, |object| object.refs),
            share_mode: self.share_mode(map, entry, (object, copies)),
            object_id: entry.object.map_or(0, ObjectId::to_word),
            pages_resident: 0,
            pages_dirtied: 0,
            pages_shared_now_private: 0,
        };
        let (next, end) = (page_of(offset), page_of(offset.saturating_add(reply.size)));
        Some(Found {
            reply,
            depth: leaf.depth,
            object: entry.object,
            next,
            end,
        })
    }

    /// Counts up to [`BUDGET`] pages. Says whether that is all.
    fn region_count(&self, found: &mut Found) -> bool {
        let object = found.object.and_then(|id| self.objects.get(id));
        let Some(object) = object else {
            return true;
        };
        for _ in 0..BUDGET {
            let next = object.pages.next(&self.nodes, found.next);
            let Some((index, slot)) = next.filter(|(index, _)| *index < found.end) else {
                return true;
            };
            found.next = index.saturating_add(1);
            let Slot::Page(frame) = slot else {
                continue;
            };
            let written = self.pages.get(frame);
            let written = written.is_some_and(|page| page.flags.contains(Flags::DIRTY));
            let reply = &mut found.reply;
            reply.pages_resident = reply.pages_resident.saturating_add(1);
            reply.pages_dirtied = reply.pages_dirtied.saturating_add(u64::from(written));
            if object.shadow.is_some() {
                reply.pages_shared_now_private = reply.pages_resident;
            }
        }
        false
    }

    fn share_mode(
        &self,
        map: MapId,
        entry: &Entry,
        (object, copies): (Option<&Object>, bool),
    ) -> u32 {
        let Some(object) = object else {
            return match (entry.submap, copies) {
                (None, _) => SM_EMPTY,
                (Some(_), true) => SM_COW,
                (Some(_), false) => SM_TRUESHARED,
            };
        };
        if matches!(object.kind, Kind::Device { .. }) {
            return SM_EMPTY;
        }
        if copies || object.shadow.is_some() {
            return SM_COW;
        }
        if entry.map != map {
            // Whoever shows the map that it is in has it, too.
            return SM_TRUESHARED;
        }
        let aliased = self.is_all_of(map, object);
        match (object.refs, entry.is_shared, aliased) {
            (1, ..) => SM_PRIVATE,
            (_, true, true) => SM_SHARED_ALIASED,
            (_, false, true) => SM_PRIVATE_ALIASED,
            (_, true, false) => SM_TRUESHARED,
            (_, false, false) => SM_SHARED,
        }
    }

    /// Whether an object is held by a few entries of one map, and by nobody else.
    fn is_all_of(&self, map: MapId, object: &Object) -> bool {
        let mut at = object.entries;
        let mut mine = 0u32;
        for _ in 0..ALIASES_MAX {
            let Some(entry) = self.entries.at(at) else {
                break;
            };
            if entry.map != map {
                return false;
            }
            mine = mine.saturating_add(1);
            at = entry.object_next;
        }
        mine == object.refs
    }

    /// Objects below this one.
    fn shadow_depth(&self, object: ObjectId) -> u32 {
        let mut depth = 0u32;
        let mut at = Some(object);
        while let Some(shadow) = at.and_then(|id| self.objects.get(id)?.shadow) {
            depth = depth.saturating_add(1);
            if depth >= DEPTH_MAX {
                break;
            }
            at = Some(shadow);
        }
        depth
    }
}

#[cfg(test)]
mod tests;
