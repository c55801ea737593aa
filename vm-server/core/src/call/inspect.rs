//! The calls of `ipc_protocol::vm_inspect`: questions about a map.

use ipc_protocol::vm_inspect::Request;

use crate::call::vm_map::{MapCall, Outcome};
use crate::machine::Machine;
use crate::{Core, Turn};

impl Core {
    /// Handles one of them.
    pub(super) fn call_inspect<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        request: Request,
    ) -> Outcome {
        match request {
            Request::VmRegionRecurse(args) => self.vm_region_recurse(turn, call, args),
            Request::VmPageQuery(args) => self.vm_page_query(call, args),
            Request::VmPageRangeQuery(args) => self.vm_page_range_query(turn, call, args),
            Request::TaskVmInfo(args) => self.task_vm_info(call, args),
        }
    }
}
