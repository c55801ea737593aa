//! From the loader to a machine that can run tasks.
//!
//! Whatever loads the kernel must give what [`Handover`] says; [`pvh`] is the loader at hand.

pub(crate) mod entry;
pub(crate) mod first_task;
pub(crate) mod pvh;

use kernel_core::memory_map::MemoryRange;

/// Most memory ranges that are taken from a loader.
pub(crate) const RANGES_MAX: usize = 128;

/// What a loader hands over. The strings and the image lie in memory that the direct map shows.
pub(crate) struct Handover {
    /// The memory map, unsorted and unchecked.
    pub(crate) ranges: heapless::Vec<MemoryRange, RANGES_MAX>,
    /// Physical address and bytes of the boot image, if there is one.
    pub(crate) image: Option<(u64, u64)>,
    /// The command line, a copy.
    pub(crate) command_line: heapless::Vec<u8, { ipc_abi::boot::COMMAND_LINE_MAX }>,
}

impl Handover {
    /// The value of the word `key=value` of the command line, or the last of several.
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        let line = core::str::from_utf8(&self.command_line).ok()?;
        line.split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .rfind(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }
}
