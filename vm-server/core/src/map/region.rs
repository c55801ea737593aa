//! vm_region: what is mapped at or above an address (rules 194 to 196).

use ipc_abi::Kern;
use ipc_protocol::vm_map::VmRegionReply;

use super::tree::Link;
use crate::Core;
use crate::event::{MapId, ObjectId};

/// Objects of a chain that are counted; chains are kept far shorter.
const DEPTH_MAX: u32 = 64;

impl Core {
    /// Describes the entry that contains `address`, else the next above it.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: there is none.
    pub(crate) fn map_region(&self, map: MapId, address: u64) -> Result<VmRegionReply, Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        let Link(index) = record.tree.find_or_above(&self.entries, address);
        let entry = self.entries.at(index).ok_or(Kern::InvalidAddress)?;
        let object = entry.object.and_then(|id| self.objects.get(id));
        Ok(VmRegionReply {
            address: entry.start,
            size: entry.size(),
            protection: u32::from(entry.protection.bits()),
            max_protection: u32::from(entry.max_protection.bits()),
            inheritance: entry.inheritance as u32,
            behavior: entry.behavior as u32,
            offset: entry.offset,
            shared: entry.is_shared || object.is_some_and(|o| o.refs > 1 && !entry.needs_copy),
            external_pager: object.is_some_and(|o| o.pager.is_some()),
            needs_copy: entry.needs_copy,
            shadow_depth: entry.object.map_or(0, |id| self.shadow_depth(id)),
            user_tag: u32::from(entry.tag),
            user_wired_count: u32::from(entry.user_wired),
        })
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
