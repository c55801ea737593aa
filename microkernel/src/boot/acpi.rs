//! The firmware's tables, while the early tables still show where they lie.

use core::slice;

use kernel_core::acpi::{Physical, Root, Topology};

use super::EARLY_LIMIT;
use crate::arch::layout::DIRECT_MAP;

/// All memory below what the early tables map.
struct Early;

impl Physical for Early {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        if address == 0 || address.checked_add(length as u64)? > EARLY_LIMIT {
            return None;
        }
        // SAFETY: the early tables map the range; the firmware does not run any more, and the kernel
        // writes to no memory before it has read the loader's map, which it does after this.
        Some(unsafe { slice::from_raw_parts((DIRECT_MAP + address) as *const u8, length) })
    }
}

/// The root pointer's list of tables.
pub(super) fn root(address: u64) -> Option<Root> {
    Root::read(&Early, address)
}

/// What the tables say; without them there is one processor and there are no lines.
pub(super) fn topology(root: Option<Root>) -> Topology {
    root.map_or_else(Topology::default, |root| Topology::read(&Early, root))
}
