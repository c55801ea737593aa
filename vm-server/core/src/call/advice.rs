//! The calls of `ipc_protocol::vm_advice`: attributes and advice.

use ipc_abi::Kern;
use ipc_protocol::vm_advice::{
    self, MATTR_CACHE, MATTR_VAL_CACHE_FLUSH, MATTR_VAL_DCACHE_FLUSH, MATTR_VAL_GET,
    MATTR_VAL_ICACHE_FLUSH, MATTR_VAL_ON, Request, VmMachineAttribute, VmMachineAttributeReply,
};
use ipc_protocol::vm_map;

use crate::call::vm_map::{MapCall, Outcome, done};
use crate::machine::Machine;
use crate::map::advise::Cover;
use crate::op::{Progress, Verb};
use crate::range::Span;
use crate::{Core, Turn};

impl Core {
    /// Handles one of them.
    pub(super) fn call_advice<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        request: Request,
    ) -> Outcome {
        match request {
            Request::VmMachineAttribute(args) => self.vm_machine_attribute(turn, call, args),
            Request::VmPurgableControl(args) => self.vm_purgable_control(turn, call, args),
            Request::MachVmDeferredReclamationBufferAllocate(args) => {
                self.ring_allocate(turn, call, (args.len, args.max_len))
            }
            Request::MachVmDeferredReclamationBufferFlush(args) => {
                self.ring_flush(turn, call, args.count)
            }
            Request::MachVmDeferredReclamationBufferUpdateReclaimableBytes(args) => {
                self.ring_update(call, args.reclaimable_bytes)
            }
            Request::MachVmDeferredReclamationBufferResize(args) => {
                self.ring_resize(turn, call, args.len)
            }
            Request::VmSwapout(_) => self.vm_swapout(turn, call),
        }
    }

    /// vm_machine_attribute: caches are coherent, so that only the range and the words are looked at.
    fn vm_machine_attribute<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmMachineAttribute,
    ) -> Outcome {
        if args.size == 0 {
            return done(attribute(args.value));
        }
        if args.address.checked_add(args.size).is_none() {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(args.address, args.size).map_err(|_| Kern::InvalidAddress)?;
        let map = self.maps.get(call.map).ok_or(Kern::Terminated)?;
        if map.clamp(range) != Some(range) {
            return Err(Kern::InvalidAddress);
        }
        let value = match (args.attribute, args.value) {
            (MATTR_CACHE, MATTR_VAL_GET) => MATTR_VAL_ON,
            (
                MATTR_CACHE,
                flush @ (MATTR_VAL_CACHE_FLUSH | MATTR_VAL_DCACHE_FLUSH | MATTR_VAL_ICACHE_FLUSH),
            ) => flush,
            _ => return Err(Kern::InvalidArgument),
        };
        let work = Cover::new(call.map, range, attribute(value));
        self.op_start(Verb::Cover(work), call.reply, None, turn.now)?;
        Ok(Progress::More)
    }
}

const fn attribute(value: u32) -> vm_map::Reply {
    vm_map::Reply::Advice(vm_advice::Reply::VmMachineAttribute(
        VmMachineAttributeReply { value },
    ))
}
