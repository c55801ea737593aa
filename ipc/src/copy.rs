//! Typed stubs for copy objects: memory on its way, in the hands of whoever holds the right.

use core::time::Duration;

use ipc_abi::Kern;
use ipc_protocol::copy::{CopyDescribe, CopyDescribeReply, CopyObject, CopySettle};

use crate::SendRight;

impl SendRight<CopyObject> {
    /// [`CopyDescribe`]: how many bytes it holds, where in their page they begin, and whether touching
    /// them may wait for a pager.
    ///
    /// # Errors
    /// KERN_TERMINATED: it was used up.
    pub fn describe(&self) -> Result<CopyDescribeReply, Kern> {
        self.call(&CopyDescribe {})
    }

    /// [`CopySettle`]: makes the memory depend on no pager, so that touching it never waits (R62). Gives
    /// how many pages that took.
    ///
    /// # Errors
    /// KERN_TERMINATED: it was used up meanwhile. KERN_OPERATION_TIMED_OUT: not all came in time.
    /// KERN_MEMORY_ERROR: a pager failed. KERN_RESOURCE_SHORTAGE.
    pub fn settle(&self, timeout: Duration) -> Result<u64, Kern> {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(self.call(&CopySettle { timeout })?.pages)
    }
}
