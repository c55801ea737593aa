//! Calls on an address map that ask what is resident, and what its task has of memory.

use crate::right::SendRight;
use crate::vm;
use alloc::vec::Vec;
use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::message::FOREVER;
use ipc_protocol::vm_inspect::{
    TaskVmInfo, TaskVmInfoReply, VmPageQuery, VmPageQueryReply, VmPageRangeQuery,
};
use ipc_protocol::vm_map::Map;

impl SendRight<Map> {
    /// [`VmPageQuery`].
    #[doc(alias = "vm_page_query")]
    pub fn page_query(&self, address: u64) -> Result<VmPageQueryReply, Kern> {
        self.call(&VmPageQuery { address })
    }

    /// [`VmPageRangeQuery`]: to the map `into`; gives how many were written.
    #[doc(alias = "vm_page_range_query")]
    pub fn page_range_query_to(
        &self,
        (address, size): (u64, u64),
        into: &SendRight<Map>,
        (dispositions, count): (u64, u64),
    ) -> Result<u64, Kern> {
        let request = VmPageRangeQuery {
            address,
            size,
            dispositions,
            count,
        };
        let (reply, _) = self.call_with(&request, [into.copy()], FOREVER)?;
        Ok(reply.count)
    }

    /// [`VmPageRangeQuery`]: the dispositions of the pages of a range, one each.
    ///
    /// KERN_RESOURCE_SHORTAGE: no memory for them. KERN_INVALID_ARGUMENT: the range overflows.
    #[doc(alias = "vm_page_range_query")]
    pub fn page_range_query(&self, address: u64, size: u64) -> Result<Vec<u32>, Kern> {
        let end = address.checked_add(size).ok_or(Kern::InvalidArgument)?;
        let count = end.div_ceil(PAGE_SIZE) - address / PAGE_SIZE;
        let room = usize::try_from(count).map_err(|_| Kern::InvalidArgument)?;
        let mut dispositions = Vec::new();
        dispositions
            .try_reserve_exact(room)
            .map_err(|_| Kern::ResourceShortage)?;
        dispositions.resize(room, 0u32);
        let to = dispositions.as_mut_ptr() as u64;
        let told = self.page_range_query_to((address, size), &vm::own(), (to, count))?;
        dispositions.truncate(usize::try_from(told).unwrap_or(room));
        Ok(dispositions)
    }

    /// [`TaskVmInfo`]: of the newest revision.
    #[doc(alias = "task_info")]
    pub fn task_vm_info(&self) -> Result<TaskVmInfoReply, Kern> {
        self.call(&TaskVmInfo { count: u32::MAX })
    }
}
