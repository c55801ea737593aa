//! vm_read, vm_read_list, vm_read_overwrite and vm_write between a map and this task's own.
//!
//! A message names no "map of the sender": reading brings a copy object, which is mapped here, and
//! writing sends one (amendment A12). These methods are the calls as Mach has them, with its order of
//! codes; pages are copied on write, never byte by byte, if they can be.

use crate::right::SendRight;
use crate::vm;
use ipc_abi::Kern;
use ipc_protocol::vm_map::Map;

/// Most slots of a list (VM_MAP_ENTRY_MAX).
pub const READ_LIST_MAX: usize = 256;

/// A range: of the other map when asked for, of this task's when answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadEntry {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

impl SendRight<Map> {
    /// vm_read: a snapshot of `size` bytes at `address`, mapped in this task, whose business it is to
    /// deallocate it. Gives the address of the first byte, which keeps its place in the page.
    ///
    /// Size 0 gives address 0. Errors, in order: KERN_INVALID_ARGUMENT: 2^32 bytes or more.
    /// KERN_INVALID_ADDRESS: range; a hole. KERN_PROTECTION_FAILURE: not readable, or device memory.
    /// KERN_MEMORY_ERROR: a pager failed. KERN_NO_SPACE, KERN_RESOURCE_SHORTAGE.
    /// Source: R50-60, R80, C0083, C0315-C0321.
    #[doc(alias = "vm_read")]
    pub fn read(&self, address: u64, size: u64) -> Result<u64, Kern> {
        if size == 0 {
            return Ok(0);
        }
        if size > u64::from(u32::MAX) {
            return Err(Kern::InvalidArgument);
        }
        let copy = self.copy_in(address, size, false)?;
        vm::own().take_copy(copy)
    }

    /// vm_read_list: a vm_read for each slot that is not empty. Slots that fail, and empty ones, become
    /// `{0, 0}`; none stops the others.
    ///
    /// Errors: KERN_INVALID_ARGUMENT: more than [`READ_LIST_MAX`] slots; nothing is read. Else the code
    /// of the last slot that was not empty: look at every slot. Source: R79, C0406-C0408.
    #[doc(alias = "vm_read_list")]
    pub fn read_list(&self, list: &mut [ReadEntry]) -> Result<(), Kern> {
        if list.len() > READ_LIST_MAX {
            return Err(Kern::InvalidArgument);
        }
        let mut last = Ok(());
        for entry in list {
            let asked = core::mem::take(entry);
            if asked.size == 0 {
                continue;
            }
            last = self.read(asked.address, asked.size).map(|address| {
                *entry = ReadEntry { address, ..asked };
            });
        }
        last
    }

    /// vm_read_overwrite: `size` bytes at `address` over this task's memory at `data`. Gives the size.
    /// As large as one likes.
    ///
    /// Errors: those of [`Self::read`] for the source, but for its limit, then those of
    /// [`Self::write_from`] for the destination. Source: R63-76, R80, C0376.
    #[doc(alias = "vm_read_overwrite")]
    pub fn read_into(&self, address: u64, size: u64, data: u64) -> Result<u64, Kern> {
        self.read_overwrite(address, size, &vm::own(), data)
    }

    /// vm_write: `size` bytes of this task's memory at `data` over the map's at `address`.
    ///
    /// Size 0 succeeds. Errors, in order: of the source KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE;
    /// of the destination KERN_INVALID_ADDRESS: range; a hole; KERN_PROTECTION_FAILURE: not writable
    /// (the first failing entry decides); nothing is written then. KERN_MEMORY_ERROR: a pager failed.
    /// Source: R63-76, C0064, C0322-C0324.
    #[doc(alias = "vm_write")]
    pub fn write_from(&self, address: u64, data: u64, size: u32) -> Result<(), Kern> {
        if size == 0 {
            return Ok(());
        }
        let copy = vm::own().copy_in(data, size.into(), false)?;
        self.write(address, size.into(), &copy)
    }
}
