//! Counters, as `vm_statistics` shows them. They count events since the server started.

/// The counters that are not lengths of slabs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Faults answered, with success or not.
    pub faults: u64,
    /// Faults that found their page resident.
    pub resident_hits: u64,
    /// Pages filled with zeros for a fault.
    pub zero_fills: u64,
    /// Pages copied because they were written.
    pub cow_breaks: u64,
    /// Pages pushed to a copy object before their source was written.
    pub copy_pushes: u64,
    /// Data requests made to pagers.
    pub data_requests: u64,
    /// Pages that pagers supplied.
    pub page_ins: u64,
    /// Pages returned to pagers.
    pub page_outs: u64,
    /// Pages of memory whose bytes were copied for vm_copy, vm_write and the like.
    pub pages_copied: u64,
    /// Faults answered with a code.
    pub failures: u64,
    /// Shadow objects absorbed or bypassed.
    pub collapses: u64,
}
