//! The user half of an address space: what lies where, and the size of a page.

use crate::boot::FrameRange;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;

/// The first address that a task may map. The pages below stay empty to catch null pointers.
pub const USER_MIN: u64 = 0x1_0000;
/// One past the last address that a task may map: the IPC buffer window begins here.
pub const USER_MAX: u64 = IPC_WINDOW;

/// Start of the window of IPC buffers, which the kernel owns: slot `n` is thread `n` of the task.
pub const IPC_WINDOW: u64 = 0x7FFF_C000_0000;
/// Threads that a task can have: the window is 1 GiB less its last page, which is never mapped.
pub const IPC_SLOTS: u64 = 0x3_FFFF;

/// Where the VM server sees physical memory: frame `f` is at `PHYSICAL_WINDOW + f * PAGE_SIZE`.
pub const PHYSICAL_WINDOW: u64 = 0x4000_0000_0000;

/// Frames in which only the kernel may work, first frame and count: writing there makes interrupts.
/// The local APIC with the addresses that message-signalled interrupts go to, and the I/O APICs.
pub const KERNEL_DEVICES: [FrameRange; 2] = [
    FrameRange {
        first: 0xF_EE00,
        count: 256,
    },
    FrameRange {
        first: 0xF_EC00,
        count: 256,
    },
];

/// The address of the IPC buffer of thread `slot`, if there can be such a thread.
#[must_use]
pub const fn ipc_buffer(slot: u64) -> Option<u64> {
    if slot >= IPC_SLOTS {
        return None;
    }
    match slot.checked_mul(PAGE_SIZE) {
        Some(offset) => IPC_WINDOW.checked_add(offset),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_of_the_user_half_belongs_to_no_thread() {
        let last = ipc_buffer(IPC_SLOTS - 1).unwrap();
        assert_eq!(last + PAGE_SIZE, 0x8000_0000_0000 - PAGE_SIZE);
        assert_eq!(ipc_buffer(IPC_SLOTS), None);
    }
}
