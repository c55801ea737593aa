//! The calls of deferred reclamation, and vm_swapout: what is checked before [`crate::reclaim`] begins.

use ipc_abi::Kern;
use ipc_abi::reclaim::{CAPACITY_MAX, ring_size};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocateReply as AllocateReply, Reply as Said,
};
use ipc_protocol::vm_map;

use super::vm_map::{MapCall, Outcome, done};
use crate::call::Reply;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::object::{Kind, Object};
use crate::op::{Progress, Verb};
use crate::range::round_page;
use crate::reclaim::{Reclaim, Ring, Then};
use crate::{Core, Turn};

impl Core {
    fn ring(&self, call: &MapCall) -> Result<Ring, Kern> {
        let map = self.maps.get(call.map).ok_or(Kern::Terminated)?;
        map.ring.ok_or(Kern::InvalidArgument)
    }

    pub(super) fn ring_allocate<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        (len, max_len): (u32, u32),
    ) -> Outcome {
        if !self.config.reclaims {
            return Err(Kern::NotSupported);
        }
        if len == 0 || len > max_len || max_len > CAPACITY_MAX {
            return Err(Kern::InvalidArgument);
        }
        if self.ring(call).is_ok() {
            return Err(Kern::Failure);
        }
        let size = round_page(ring_size(max_len)).ok_or(Kern::InvalidArgument)?;
        let range = self.map_place(call.map, Place::anywhere(size))?;
        // With an object of its own it becomes no part of an entry that is there.
        let object = Object::new(Kind::Internal, range.size(), Some(call.map));
        let object = self.object_insert(object)?;
        let entry = Entry {
            object: Some(object),
            ..Entry::anonymous(call.map, range.start(), range.end())
        };
        self.map_enter(entry)
            .inspect_err(|_| self.object_deallocate(object))?;
        let address = range.start();
        if let Some(map) = self.maps.get_mut(call.map) {
            map.ring = Some(Ring::new(address, len, max_len));
            self.rings = self.rings.saturating_add(1);
        }
        let reply = said(Said::MachVmDeferredReclamationBufferAllocate(
            AllocateReply { address },
        ));
        self.reclaim(turn, call, (0, Then::Make(len)), reply)
            .inspect_err(|_| self.ring_unmake(turn.machine, call.map))
    }

    pub(super) fn ring_flush<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        count: u32,
    ) -> Outcome {
        self.ring(call)?;
        let reply = said(Said::MachVmDeferredReclamationBufferFlush(()));
        self.reclaim(turn, call, (u64::from(count), Then::Nothing), reply)
    }

    pub(super) fn ring_update(&mut self, call: &MapCall, bytes: u64) -> Outcome {
        let mut ring = self.ring(call)?;
        ring.reclaimable = bytes;
        if let Some(map) = self.maps.get_mut(call.map) {
            map.ring = Some(ring);
        }
        done(said(
            Said::MachVmDeferredReclamationBufferUpdateReclaimableBytes(()),
        ))
    }

    pub(super) fn ring_resize<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        len: u32,
    ) -> Outcome {
        let ring = self.ring(call)?;
        if len == 0 || len > ring.max_len {
            return Err(Kern::InvalidArgument);
        }
        let reply = said(Said::MachVmDeferredReclamationBufferResize(()));
        self.reclaim(turn, call, (u64::MAX, Then::Resize(len)), reply)
    }

    pub(super) fn vm_swapout<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
    ) -> Outcome {
        let reply = said(Said::VmSwapout(()));
        self.reclaim(turn, call, (u64::MAX, Then::Cool(0)), reply)
    }

    /// A task is suspended: as if somebody had called vm_swapout on its map, with nobody to hear that it
    /// is done. If there is no record for that, nothing is lost.
    pub(crate) fn task_suspended<M: Machine>(&mut self, turn: &mut Turn<'_, M>, map: MapId) {
        let alive = self.maps.get(map).filter(|map| !map.dying);
        if alive.is_none_or(|map| map.account.payer.is_some()) {
            return;
        }
        let reply = Reply::map(said(Said::VmSwapout(())));
        let work = Reclaim::of(map, u64::MAX, Then::Cool(0), reply);
        self.caller = Some(map);
        let _ = self.op_start(Verb::Reclaim(work), None, None, turn.now);
        self.caller = None;
    }

    fn reclaim<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        (left, then): (u64, Then),
        reply: vm_map::Reply,
    ) -> Outcome {
        let work = Reclaim::of(call.map, left, then, Reply::map(reply));
        self.op_start(Verb::Reclaim(work), call.reply, None, turn.now)?;
        Ok(Progress::More)
    }
}

const fn said(reply: Said) -> vm_map::Reply {
    vm_map::Reply::Advice(reply)
}

#[cfg(test)]
mod tests;
