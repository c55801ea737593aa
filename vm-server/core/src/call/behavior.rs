//! vm_behavior_set: what is kept in the entries, and what is done at once (rule 202).

use ipc_abi::Kern;
use ipc_abi::types::{Advice, Behavior};
use ipc_protocol::vm_map::{self, VmBehaviorSet};

use super::vm_map::{MapCall, Outcome, done};
use crate::machine::Machine;
use crate::map::advise::Advise;
use crate::map::protect::{Change, SetAttributes};
use crate::op::{Progress, Verb};
use crate::range::Span;
use crate::{Core, Turn};

#[cfg(test)]
mod tests;

impl Core {
    pub(super) fn vm_behavior_set<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmBehaviorSet,
    ) -> Outcome {
        let behavior = Behavior::from_raw(args.behavior);
        let advice = Advice::from_raw(args.behavior);
        if behavior.is_none() && advice.is_none() {
            return Err(Kern::InvalidArgument);
        }
        if args.size == 0 {
            return done(vm_map::Reply::VmBehaviorSet(()));
        }
        if args.address.checked_add(args.size).is_none() {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(args.address, args.size).map_err(|_| Kern::NoSpace)?;
        let map = self.maps.get(call.map).ok_or(Kern::Terminated)?;
        if map.clamp(range) != Some(range) {
            return Err(Kern::NoSpace);
        }
        let change = match (behavior, advice) {
            (Some(behavior), _) => Change::Behave(behavior),
            (None, Some(Advice::ZeroWiredPages)) => Change::ZeroWired,
            (None, Some(advice)) => {
                let work = Advise::new(call.map, range, advice);
                self.op_start(Verb::Advise(work), call.reply, None, turn.now)?;
                return Ok(Progress::More);
            }
            (None, None) => return Err(Kern::InvalidArgument),
        };
        let work = SetAttributes::new(call.map, range, change);
        self.set_attributes(turn, call, work)
    }
}
