//! The calls of `ipc_protocol::vm_wire`: wiring and limits; and the wiring of new mappings where a map requires
//! it.

use ipc_abi::Kern;
use ipc_abi::types::MapFlags;
use ipc_protocol::vm_map::{self, Request as MapRequest};
use ipc_protocol::vm_share;
use ipc_protocol::vm_wire::{GIVE_MAX, VmGiveFrames, VmGiveFramesReply, VmWire, VmWireAll};
use ipc_protocol::vm_wire::{Reply as Wired, Request, VM_WIRE_CURRENT, VM_WIRE_FUTURE};

use crate::call::vm_map::{MapCall, Outcome, done, prot};
use crate::call::{Message, Reply};
use crate::effect::Answer;
use crate::event::{MapId, PortOf, PortRef};
use crate::machine::Machine;
use crate::map::unwire::Unwire;
use crate::map::wire::{Subject, Wire};
use crate::op::wait::What;
use crate::op::{Progress, Verb};
use crate::range::{Span, round_page, trunc_page};
use crate::{Core, Turn};

/// What is to be wired when a mapping is made.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    map: MapId,
    size: u64,
    best_effort: bool,
}

impl Core {
    /// Handles one of them.
    pub(super) fn call_wire<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        request: Request,
    ) -> Outcome {
        let [host, ..] = call.rights;
        if !matches!(request, Request::VmLimits(_)) {
            self.check_host(host)?;
        }
        match request {
            Request::VmLimits(_) => {
                let limits = self.limits(call.map)?;
                done(vm_map::Reply::Wire(Wired::VmLimits(limits)))
            }
            Request::VmSetLimits(args) => {
                self.set_limits(call.map, &args)?;
                done(vm_map::Reply::Wire(Wired::VmSetLimits(())))
            }
            Request::VmGiveFrames(args) => self.vm_give_frames(call, args),
            Request::VmWire(args) => self.vm_wire(turn, call, args),
            Request::VmWireAll(args) => self.vm_wire_all(turn, call, args),
        }
    }

    /// The shell does what the answer promises, and gives the frames back to the core if it cannot.
    fn vm_give_frames(&mut self, call: &MapCall, args: VmGiveFrames) -> Outcome {
        if args.count == 0 || args.count > GIVE_MAX {
            return Err(Kern::InvalidArgument);
        }
        let first = self.take_frames(args.count);
        let first = first.ok_or(Kern::ResourceShortage)?;
        let reply = Wired::VmGiveFrames(VmGiveFramesReply {
            first: first.0,
            count: args.count,
        });
        Ok(Progress::Done(Some(Ok(Reply {
            message: Message::Map(vm_map::Reply::Wire(reply)),
            right: Some(PortOf::Map(call.map)),
        }))))
    }

    /// # Errors
    /// `KERN_INVALID_HOST`: not the host control port.
    pub(super) fn check_host(&self, right: PortRef) -> Result<(), Kern> {
        match (right, self.config.host) {
            (PortRef::Foreign(right), Some(host)) if right == host => Ok(()),
            _ => Err(Kern::InvalidHost),
        }
    }

    fn vm_wire<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmWire,
    ) -> Outcome {
        let access = prot(args.access)?;
        let reply = vm_map::Reply::Wire(Wired::VmWire(()));
        if args.size == 0 {
            return done(reply);
        }
        let range = Span::covering(args.address, args.size)?;
        let reply = Reply::map(reply);
        if access.is_empty() {
            self.map_lookup(call.map, range.start())
                .ok_or(Kern::InvalidAddress)?;
            return self.begin_unwire(turn, call, Unwire::new(call.map, range, true, reply));
        }
        let work = Wire::new(call.map, range, Subject::Range(access), reply);
        self.begin_wire(turn, call, work)
    }

    fn vm_wire_all<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmWireAll,
    ) -> Outcome {
        if args.flags & !(VM_WIRE_CURRENT | VM_WIRE_FUTURE) != 0 {
            return Err(Kern::InvalidArgument);
        }
        let reply = vm_map::Reply::Wire(Wired::VmWireAll(()));
        let map = self.maps.get_mut(call.map).ok_or(Kern::Terminated)?;
        let all = Span::exact(map.min(), map.max()).ok_or(Kern::InvalidArgument)?;
        let future = args.flags & VM_WIRE_FUTURE != 0;
        if args.flags & VM_WIRE_CURRENT != 0 {
            let work = Wire::new(
                call.map,
                all,
                Subject::Current { future },
                Reply::map(reply),
            );
            return self.begin_wire(turn, call, work);
        }
        map.wiring_required = future;
        if future {
            return done(reply);
        }
        let work = Unwire::new(call.map, all, false, Reply::map(reply));
        self.begin_unwire(turn, call, work)
    }

    fn begin_unwire<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        work: Unwire,
    ) -> Outcome {
        self.call_begin(
            turn,
            call,
            work,
            |core, _, work| core.unwire_step(work),
            Verb::Unwire,
        )
    }

    /// Wiring may have to wait, so it is an operation from the start.
    fn begin_wire<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        work: Wire,
    ) -> Outcome {
        self.op_start(Verb::Wire(work), call.reply, Some(call.map), turn.now)?;
        Ok(Progress::More)
    }

    /// What is to be wired if a call maps something and its map requires that.
    pub(super) fn wish_of(&self, call: &MapCall) -> Option<Wish> {
        let map = self.maps.get(call.map)?;
        if !map.wiring_required {
            return None;
        }
        let (size, flags) = match call.request {
            MapRequest::VmAllocate(args) => (round_page(args.size)?, args.flags),
            MapRequest::VmMap(args) => (round_page(args.size)?, args.flags),
            MapRequest::VmCopyout(args) => {
                let [right, ..] = call.rights;
                (self.copy_of(right).ok()?.1.pages_size(), args.flags)
            }
            MapRequest::Share(vm_share::Request::VmRemap(args)) => {
                let pages = Span::covering(args.source, args.size).ok()?;
                (pages.size(), args.flags)
            }
            MapRequest::Share(vm_share::Request::VmRemapNew(args)) => {
                let pages = Span::covering(args.source, args.size).ok()?;
                (pages.size(), args.flags)
            }
            _ => return None,
        };
        let flags = MapFlags::from_bits_retain(flags);
        (size > 0).then_some(Wish {
            map: call.map,
            size,
            best_effort: flags.contains(MapFlags::WIRE_BEST_EFFORT),
        })
    }

    /// Goes on to wire what a call has mapped, at once. `None`: it is answered later.
    pub(super) fn call_wires<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        wish: Wish,
        answer: Reply,
    ) -> Option<Answer> {
        let Some(verb) = Core::wish_granted(wish, &answer) else {
            return Some(Ok(answer));
        };
        // There is a record: it was seen to before the call began.
        match self.op_start(verb, call.reply, Some(call.map), turn.now) {
            Ok(_) => None,
            Err(code) => Some(Err(code)),
        }
    }

    /// The operation that a call has begun, if its waiter is newer than `before`, is to wire what it
    /// maps.
    pub(super) fn op_wishes(&mut self, before: u32, wish: Option<Wish>) {
        if wish.is_none() || self.newest_waiter == before {
            return;
        }
        let newest = self
            .waiters
            .at(self.newest_waiter)
            .map(|newest| newest.what);
        if let Some(What::Op(op)) = newest
            && let Some(op) = self.ops.get_mut(op)
        {
            op.wish = wish;
        }
    }

    /// The wiring of the mapping that an answer tells of.
    pub(crate) fn wish_granted(wish: Wish, answer: &Reply) -> Option<Verb> {
        let Message::Map(reply) = &answer.message else {
            return None;
        };
        let address = match reply {
            vm_map::Reply::VmAllocate(reply) => reply.address,
            vm_map::Reply::VmMap(reply) => reply.address,
            vm_map::Reply::VmCopyout(reply) => reply.address,
            vm_map::Reply::Share(vm_share::Reply::VmRemap(reply)) => reply.address,
            vm_map::Reply::Share(vm_share::Reply::VmRemapNew(reply)) => reply.address,
            _ => return None,
        };
        let start = trunc_page(address);
        let range = Span::exact(start, start.checked_add(wish.size)?)?;
        let subject = Subject::Mapping {
            best_effort: wish.best_effort,
        };
        Some(Verb::Wire(Wire::new(wish.map, range, subject, *answer)))
    }
}

#[cfg(test)]
mod tests;
