//! TASK_VM_INFO, from the counts of [`crate::map::counts`].

use ipc_abi::Kern;
use ipc_protocol::vm_inspect::{
    self, TASK_VM_INFO_REV0_COUNT, TASK_VM_INFO_REV1_COUNT, TASK_VM_INFO_REV2_COUNT,
    TASK_VM_INFO_REV3_COUNT, TASK_VM_INFO_REV4_COUNT, TaskVmInfo, TaskVmInfoReply,
};
use ipc_protocol::vm_map;

use super::vm_map::{MapCall, Outcome, done};
use crate::Core;
use crate::map::Map;
use crate::range::{PAGE_SIZE, bytes_of};

impl Core {
    /// task_vm_info.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no room for the first revision.
    pub(super) fn task_vm_info(&self, call: &MapCall, args: TaskVmInfo) -> Outcome {
        if args.count < TASK_VM_INFO_REV0_COUNT {
            return Err(Kern::InvalidArgument);
        }
        let map = self.maps.get(call.map).ok_or(Kern::Terminated)?;
        let mut info = whole(map);
        if args.count < TASK_VM_INFO_REV4_COUNT {
            info.count = TASK_VM_INFO_REV3_COUNT;
            info.limit_bytes_remaining = 0;
        }
        if args.count < TASK_VM_INFO_REV3_COUNT {
            info.count = TASK_VM_INFO_REV2_COUNT;
            info.ledger_phys_footprint_peak = 0;
        }
        if args.count < TASK_VM_INFO_REV2_COUNT {
            info.count = TASK_VM_INFO_REV1_COUNT;
            info.min_address = 0;
            info.max_address = 0;
        }
        if args.count < TASK_VM_INFO_REV1_COUNT {
            info.count = TASK_VM_INFO_REV0_COUNT;
            info.phys_footprint = 0;
        }
        done(vm_map::Reply::Inspect(vm_inspect::Reply::TaskVmInfo(info)))
    }
}

/// All revisions.
fn whole(map: &Map) -> TaskVmInfoReply {
    let bytes = |pages: u32| bytes_of(u64::from(pages));
    let counts = &map.counts;
    TaskVmInfoReply {
        count: TASK_VM_INFO_REV4_COUNT,
        virtual_size: map.size,
        region_count: map.entries(),
        page_size: PAGE_SIZE as u32,
        resident_size: bytes(map.pages.saturating_add(counts.external)),
        resident_size_peak: bytes(counts.resident_peak),
        internal: bytes(map.pages),
        internal_peak: bytes(counts.pages_peak),
        external: bytes(counts.external),
        external_peak: bytes(counts.external_peak),
        reusable: bytes(counts.reusable),
        reusable_peak: bytes(counts.reusable_peak),
        purgeable_volatile_resident: bytes(counts.volatile),
        purgeable_volatile_virtual: counts.volatile_size,
        phys_footprint: bytes(map.pages),
        min_address: map.min(),
        max_address: map.max(),
        ledger_phys_footprint_peak: bytes(counts.pages_peak),
        limit_bytes_remaining: match map.account.family.cap.pages {
            u32::MAX => u64::MAX,
            limit => bytes(limit.saturating_sub(map.pages)),
        },
    }
}

#[cfg(test)]
mod tests;
