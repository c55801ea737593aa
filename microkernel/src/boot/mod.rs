//! From the loader to a machine that can run tasks.
//!
//! Whatever loads the kernel must give what [`Handover`] says: QEMU's `-kernel` by way of [`pvh`],
//! GRUB by way of [`multiboot`].

mod acpi;
pub(crate) mod entry;
pub(crate) mod first_task;
mod multiboot;
mod pvh;
pub(crate) mod smp;

use kernel_core::acpi::Topology;
use kernel_core::memory_map::{self, FrameRanges, MemoryRange};

use crate::arch::tables;

/// Most memory ranges that are taken from a loader.
pub(crate) const RANGES_MAX: usize = 128;

/// Real mode's memory and the firmware's data, which lie below, are left alone.
const LOW_MEMORY: u64 = 1 << 20;
/// Memory from here up is not mapped by the early tables.
pub(crate) const EARLY_LIMIT: u64 = 1 << 32;

/// Understands what the loader left at physical address `info`. `Err` says what is wrong with it.
pub(crate) fn read(loader: u32, info: u32) -> Result<Handover, &'static str> {
    match loader {
        entry::PVH => pvh::read(info.into()),
        multiboot2::MAGIC => multiboot::read(info),
        _ => Err("the loader is neither PVH nor Multiboot2"),
    }
}

/// What a loader hands over. The strings and the image lie in memory that the direct map shows.
pub(crate) struct Handover {
    /// The memory map, unsorted and unchecked.
    pub(crate) ranges: heapless::Vec<MemoryRange, RANGES_MAX>,
    /// Physical address and bytes of the boot image, if there is one.
    pub(crate) image: Option<(u64, u64)>,
    /// The command line, a copy.
    pub(crate) command_line: heapless::Vec<u8, { ipc_abi::boot::COMMAND_LINE_MAX }>,
    /// Processors and interrupt controllers, as far as the firmware tells.
    pub(crate) topology: Topology,
}

impl Handover {
    /// Nothing yet, but for the boot image.
    fn with_image(image: Option<(u64, u64)>) -> Handover {
        Handover {
            ranges: heapless::Vec::new(),
            image,
            command_line: heapless::Vec::new(),
            topology: Topology::default(),
        }
    }

    /// The memory that neither firmware, kernel, boot image nor `other` takes.
    pub(crate) fn free(&self, other: Option<MemoryRange>) -> FrameRanges {
        let (kernel_start, kernel_end) = tables::kernel_extent();
        let (start, size) = self.image.unwrap_or((0, 0));
        let taken = [
            MemoryRange::taken(0, LOW_MEMORY),
            MemoryRange::taken(kernel_start, kernel_end),
            MemoryRange::taken(start, start.saturating_add(size)),
        ];
        memory_map::usable(self.ranges.iter().copied().chain(taken).chain(other))
    }

    /// The value of the word `key=value` of the command line, or the last of several.
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        let line = core::str::from_utf8(&self.command_line).ok()?;
        line.split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .rfind(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }
}
