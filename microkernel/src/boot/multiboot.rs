//! GRUB, and any other Multiboot2 loader, with BIOS or UEFI firmware: reads the boot information.
//!
//! The first module is the boot image. The information lies in low memory, which the early tables
//! map; all of it is copied, nothing refers to it afterwards.

use kernel_core::acpi::Root;
use kernel_core::memory_map::MemoryRange;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

use super::{EARLY_LIMIT, Handover, acpi};
use crate::arch::layout::DIRECT_MAP;

/// Reads the boot information at physical address `info`. `Err` says what is wrong with it.
pub(super) fn read(info: u32) -> Result<Handover, &'static str> {
    let information = information(info).ok_or("the Multiboot2 information is malformed")?;
    let image = information.module_tags().next().map(|module| {
        let start = u64::from(module.start_address());
        (start, u64::from(module.end_address()).saturating_sub(start))
    });
    let mut handover = Handover::with_image(image);
    if let Some(Ok(line)) = information.command_line_tag().map(|tag| tag.cmdline()) {
        // A longer line is cut.
        let length = line.len().min(handover.command_line.capacity());
        let _ = handover
            .command_line
            .extend_from_slice(&line.as_bytes()[..length]);
    }
    let wide = information
        .rsdp_v2_tag()
        .filter(|tag| tag.checksum_is_valid());
    let root = match wide {
        Some(tag) => Some(Root::Xsdt(tag.xsdt_address() as u64)),
        None => information
            .rsdp_v1_tag()
            .filter(|tag| tag.checksum_is_valid())
            .map(|tag| Root::Rsdt(tag.rsdt_address() as u64)),
    };
    handover.topology = acpi::topology(root);
    let map = information.memory_map_tag();
    let map = map.ok_or("the Multiboot2 information has no memory map")?;
    for area in map.memory_areas() {
        let range = MemoryRange {
            start: area.start_address(),
            size: area.size(),
            usable: area.typ() == MemoryAreaType::Available,
        };
        // Ranges beyond the limit stay unused.
        if handover.ranges.push(range).is_err() {
            break;
        }
    }
    Ok(handover)
}

fn information(info: u32) -> Option<BootInformation<'static>> {
    let address = u64::from(info);
    // Its first word is its size.
    if address == 0 || address + 8 > EARLY_LIMIT {
        return None;
    }
    let pointer = (DIRECT_MAP + address) as *const BootInformationHeader;
    // SAFETY: the header lies below what the early tables map, and the loader does not run any more.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() };
    if address + u64::from(size) > EARLY_LIMIT {
        return None;
    }
    // SAFETY: all of the information is mapped, as was just checked; nobody writes there while this
    // borrow lives, which is until `read` returns.
    unsafe { BootInformation::load(pointer) }.ok()
}
