//! The calls of `ipc_protocol::vm_inspect`: questions about a map.

use ipc_abi::Kern;
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
            Request::VmPageQuery(_) => Err(Kern::NotSupported),
        }
    }
}
