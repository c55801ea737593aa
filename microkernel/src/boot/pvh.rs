//! QEMU's direct kernel boot (and any other PVH loader): reads the start info.
//!
//! The structures lie in low memory, which the early tables map. They are read field by field and
//! copied; nothing refers to them afterwards.

use core::ptr;

use kernel_core::memory_map::MemoryRange;

use super::{EARLY_LIMIT, Handover, acpi};
use crate::arch::layout::DIRECT_MAP;

/// First word of the start info.
const MAGIC: u32 = 0x336E_C578;

/// Reads the start info at physical address `info`. `Err` says what is wrong with it.
pub(super) fn read(info: u64) -> Result<Handover, &'static str> {
    if word32(info) != Some(MAGIC) {
        return Err("the loader is not PVH: no start info");
    }
    let version = word32(info + 4).unwrap_or(0);
    if version == 0 {
        return Err("the PVH start info has no memory map (version 0)");
    }
    let modules = word32(info + 12).unwrap_or(0);
    let list = word64(info + 16).unwrap_or(0);
    let image = if modules == 0 {
        None
    } else {
        word64(list).zip(word64(list + 8))
    };
    let mut handover = Handover::with_image(image);
    read_command_line(word64(info + 24).unwrap_or(0), &mut handover);
    read_memory_map(info, &mut handover);
    let root = word64(info + 32).and_then(acpi::root);
    handover.topology = acpi::topology(root);
    Ok(handover)
}

fn read_command_line(address: u64, handover: &mut Handover) {
    if address == 0 {
        return;
    }
    for at in address.. {
        match byte(at) {
            None | Some(0) => return,
            // A longer line is cut.
            Some(byte) if handover.command_line.push(byte).is_err() => return,
            Some(_) => {}
        }
    }
}

fn read_memory_map(info: u64, handover: &mut Handover) {
    let map = word64(info + 40).unwrap_or(0);
    let count = u64::from(word32(info + 48).unwrap_or(0));
    for index in 0..count {
        let entry = map + index * 24;
        let (Some(start), Some(size), Some(kind)) =
            (word64(entry), word64(entry + 8), word32(entry + 16))
        else {
            return;
        };
        let range = MemoryRange {
            start,
            size,
            usable: kind == 1,
        };
        // Ranges beyond the limit stay unused.
        if handover.ranges.push(range).is_err() {
            return;
        }
    }
}

fn word32(address: u64) -> Option<u32> {
    let pointer = pointer(address, 4)?.cast::<u32>();
    // SAFETY: `pointer` gives only addresses that the early tables map; the loader does not run
    // any more, so nobody writes there.
    Some(unsafe { ptr::read_unaligned(pointer) })
}

fn word64(address: u64) -> Option<u64> {
    let pointer = pointer(address, 8)?.cast::<u64>();
    // SAFETY: as in `word32`.
    Some(unsafe { ptr::read_unaligned(pointer) })
}

fn byte(address: u64) -> Option<u8> {
    let pointer = pointer(address, 1)?;
    // SAFETY: as in `word32`.
    Some(unsafe { ptr::read(pointer) })
}

fn pointer(address: u64, size: u64) -> Option<*const u8> {
    if address == 0 || address.checked_add(size)? > EARLY_LIMIT {
        return None;
    }
    Some((DIRECT_MAP + address) as *const u8)
}
