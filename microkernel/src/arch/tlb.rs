//! Flushing translations of the user half on this processor.

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Drops the translation of the page at `address`.
pub(crate) fn flush_page(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
}

/// Drops every translation of the running space; the kernel's own are global and stay.
pub(crate) fn flush_user() {
    tlb::flush_all();
}
