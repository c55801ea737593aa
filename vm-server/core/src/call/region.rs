//! vm_region and vm_region_recurse, which ask and change nothing (rules 194 to 196).

use ipc_abi::Kern;
use ipc_protocol::vm_inspect::{VM_REGION_SUBMAP_SHORT_INFO_COUNT_64, VmRegionRecurse};
use ipc_protocol::vm_map::{
    VM_REGION_BASIC_INFO, VM_REGION_BASIC_INFO_64, VM_REGION_BASIC_INFO_COUNT,
    VM_REGION_BASIC_INFO_COUNT_64, VM_REGION_EXTENDED_INFO, VM_REGION_EXTENDED_INFO_COUNT,
    VM_REGION_TOP_INFO, VM_REGION_TOP_INFO_COUNT, VmRegion,
};

use crate::call::vm_map::{MapCall, Outcome};
use crate::machine::Machine;
use crate::map::region::{Detail, Region};
use crate::op::{Progress, Verb};
use crate::{Core, Turn};

impl Core {
    pub(super) fn vm_region<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmRegion,
    ) -> Outcome {
        let (words, detail) = match args.flavor {
            VM_REGION_BASIC_INFO_64 => (VM_REGION_BASIC_INFO_COUNT_64, Detail::Entry),
            VM_REGION_BASIC_INFO => (VM_REGION_BASIC_INFO_COUNT, Detail::Entry),
            VM_REGION_TOP_INFO => (VM_REGION_TOP_INFO_COUNT, Detail::Pages),
            VM_REGION_EXTENDED_INFO => (VM_REGION_EXTENDED_INFO_COUNT, Detail::Pages),
            _ => return Err(Kern::InvalidArgument),
        };
        if args.count < words {
            return Err(Kern::InvalidArgument);
        }
        self.region(turn, call, Region::new(call.map, args.address, detail))
    }

    pub(super) fn vm_region_recurse<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmRegionRecurse,
    ) -> Outcome {
        if args.count < VM_REGION_SUBMAP_SHORT_INFO_COUNT_64 {
            return Err(Kern::InvalidArgument);
        }
        let detail = Detail::Through(args.depth);
        self.region(turn, call, Region::new(call.map, args.address, detail))
    }

    /// The first step now; what is left over needs no lock.
    fn region<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mut work: Region,
    ) -> Outcome {
        let progress = self.region_step(&mut work);
        if let Progress::More = progress {
            self.op_start(Verb::Region(work), call.reply, None, turn.now)?;
        }
        Ok(progress)
    }
}
