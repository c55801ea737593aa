//! Flushing translations of the user half on this processor, counted.

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Drops the translation of the page at `address`.
pub(crate) fn flush_page(address: u64) {
    super::percpu::count_flush();
    tlb::flush(VirtAddr::new_truncate(address));
}

/// Drops every translation of the running space; the kernel's own are global and stay.
pub(crate) fn flush_user() {
    super::percpu::count_flush();
    tlb::flush_all();
}
