//! The calls on a map port (`ipc_protocol::vm_map`): each checked in the order that decides its code,
//! then committed.
//!
//! Order of checks, for all: flags, enumerations, size 0, arithmetic of the range, bounds of the map,
//! then what is mapped. A call that changes entries runs under the map's operation lock; if another
//! holds it, the call waits and is handled from its beginning. The first step of a call's work is
//! done at once; only what is left over becomes an operation.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request, VM_PROT_COPY};
use ipc_protocol::vm_share;
use ipc_protocol::vm_wire;

use super::share;
use crate::call::Reply;
use crate::effect::{Answer, Effect};
use crate::event::{MapId, NO_RIGHTS, PortRef, ReplyTo, Rights};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::map::fork::Fork;
use crate::map::own::Own;
use crate::map::protect::{Change, SetAttributes};
use crate::map::remove::Remove;
use crate::object::Object;
use crate::op::wait::WaitOn;
use crate::op::{Progress, Verb};
use crate::range::{Span, page_of, round_page, trunc_page};
use crate::{Core, Turn};

/// What a step left to answer: at once, or later by an operation.
pub(super) type Outcome = Result<Progress, Kern>;

/// A call on a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapCall {
    /// The map of the port.
    pub(crate) map: MapId,
    /// What is asked.
    pub(crate) request: Request,
    /// The rights that it carries.
    pub(crate) rights: Rights,
    /// Whom to answer.
    pub(crate) reply: ReplyTo,
}

impl Core {
    /// Handles a call on a map. `None`: it is answered later.
    pub(crate) fn call_map<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: MapCall,
    ) -> Option<Answer> {
        let map = self.maps.get(call.map).filter(|map| !map.dying);
        if map.is_some_and(|map| map.locked) && changes_entries(&call.request) {
            return self.call_defer(turn, call);
        }
        let ready = match map {
            Some(_) if changes_entries(&call.request) => self.call_room(),
            Some(_) => Ok(()),
            None => Err(Kern::Terminated),
        };
        let kept = match call.request {
            _ if ready.is_err() => None,
            Request::VmMap(_) => Some(vm_map::VmMap::OBJECT),
            Request::Share(request) => share::kept(&request),
            _ => None,
        };
        let rights = if call.rights == NO_RIGHTS {
            &[]
        } else {
            &call.rights[..]
        };
        for (slot, right) in rights.iter().enumerate() {
            match *right {
                // A memory object's port goes on to its object.
                PortRef::Foreign(_) if kept == Some(slot) => {}
                PortRef::Foreign(id) | PortRef::Dead(id) => {
                    turn.effects.push(Effect::Release(id, 1));
                }
                PortRef::None | PortRef::Own(_) => {}
            }
        }
        let wish = self.wish_of(&call);
        let before = self.newest_waiter;
        match (ready.and_then(|()| self.call_map_now(turn, &call)), wish) {
            (Ok(Progress::Done(Some(Ok(answer)))), Some(wish)) => {
                self.call_wires(turn, &call, wish, answer)
            }
            (Ok(Progress::Done(answer)), _) => answer,
            (Ok(Progress::More | Progress::Wait | Progress::Transit(_)), wish) => {
                self.op_wishes(before, wish);
                None
            }
            (Err(code), _) => Some(Err(code)),
        }
    }

    /// What is left over after the first step of a call must find a record, and be allowed.
    pub(super) fn call_room(&mut self) -> Result<(), Kern> {
        self.op_allowed()?;
        self.ops.reserve_one()?;
        self.waiters.reserve_one()
    }

    fn call_map_now<M: Machine>(&mut self, turn: &mut Turn<'_, M>, call: &MapCall) -> Outcome {
        match call.request {
            Request::VmAllocate(args) => self.vm_allocate(turn, call, args),
            Request::VmDeallocate(args) => self.vm_deallocate(turn, call, args),
            Request::VmProtect(args) => self.vm_protect(turn, call, args),
            Request::VmInherit(args) => self.vm_inherit(turn, call, args),
            Request::VmBehaviorSet(args) => self.vm_behavior_set(turn, call, args),
            Request::VmMap(args) => self.vm_map(turn, call, args),
            Request::VmRegion(args) => self.vm_region(turn, call, args),
            Request::VmCopy(args) => self.vm_copy(turn, call, args),
            Request::VmCopyin(args) => self.vm_copyin(turn, call, args),
            Request::VmCopyout(args) => self.vm_copyout(turn, call, args),
            Request::VmReadOverwrite(args) => self.vm_read_overwrite(turn, call, args),
            Request::VmWrite(args) => self.vm_write(turn, call, args),
            Request::MachMakeMemoryEntry(args) => self.make_memory_entry(turn, call, args),
            Request::VmStatistics(_) => done(vm_map::Reply::VmStatistics(self.statistics())),
            Request::TaskCreate(args) => self.task_create(turn, call, args),
            Request::PagerTrayCreate(args) => self.pager_tray_create(turn, call, args),
            Request::DeviceMap(args) => self.device_map(call, args),
            Request::DeviceMemoryAllocate(args) => self.device_memory(turn, call, args),
            Request::VmMsync(args) => self.vm_msync(turn, call, args),
            Request::Wire(request) => self.call_wire(turn, call, request),
            Request::Share(request) => self.call_share(turn, call, request),
            Request::Inspect(request) => self.call_inspect(turn, call, request),
            Request::Advice(request) => self.call_advice(turn, call, request),
            Request::Range(request) => self.call_range(turn, call, request),
        }
    }

    /// Begins work on a map's entries: the first step now, what is left over as an operation that
    /// holds the map's operation lock.
    pub(super) fn call_begin<M: Machine, W>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mut work: W,
        step: impl FnOnce(&mut Core, &mut Turn<'_, M>, &mut W) -> Progress,
        verb: impl FnOnce(W) -> Verb,
    ) -> Outcome {
        let progress = step(self, turn, &mut work);
        match progress {
            Progress::More => {
                self.op_start(verb(work), call.reply, Some(call.map), turn.now)?;
            }
            Progress::Transit(map) => {
                let on = WaitOn::InTransition(map);
                self.op_start_parked(turn, verb(work), call.reply, on)?;
            }
            Progress::Wait | Progress::Done(_) => {}
        }
        Ok(progress)
    }

    /// Begins to change what the entries of a range say.
    pub(super) fn set_attributes<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        work: SetAttributes,
    ) -> Outcome {
        let step = Core::set_attributes_step;
        self.call_begin(turn, call, work, step, Verb::SetAttributes)
    }

    fn vm_allocate<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmAllocate,
    ) -> Outcome {
        let flags = map_flags(args.flags, MapFlags::USER_ALLOCATE)?;
        if args.size == 0 {
            return done(allocated(0));
        }
        let size = round_page(args.size).ok_or(Kern::InvalidArgument)?;
        let place = Place::asked(args.address, size, flags);
        let purgeable = flags.contains(MapFlags::PURGABLE);
        if purgeable && page_of(size) > u64::from(u32::MAX) {
            return Err(Kern::InvalidArgument);
        }
        let range = self.map_place(call.map, place)?;
        let mut entry = Entry::anonymous(call.map, range.start(), range.end());
        entry.tag = tag_of(flags);
        entry.permanent = flags.contains(MapFlags::PERMANENT);
        if purgeable {
            let object = Object::purgeable(size, call.map, false);
            entry.object = Some(self.object_insert(object)?);
        }
        self.enter_at(turn, call, entry, flags, allocated(range.start()))
    }

    fn vm_deallocate<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmDeallocate,
    ) -> Outcome {
        let reply = vm_map::Reply::VmDeallocate(());
        let Some(range) = self.inside(call.map, args.address, args.size)? else {
            return done(reply);
        };
        let work = Remove::new(call.map, range, Reply::map(reply));
        self.call_begin(turn, call, work, Core::remove_step, Verb::Remove)
    }

    fn vm_protect<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmProtect,
    ) -> Outcome {
        if args.size == 0 {
            return done(vm_map::Reply::VmProtect(()));
        }
        let rights = prot(args.protection & !VM_PROT_COPY)?;
        let range = match Span::covering(args.address, args.size) {
            // Only rounding overflowed, and the whole space was meant: the end is not mapped.
            Err(_)
                if trunc_page(args.address) == 0
                    && args.address.checked_add(args.size).is_some() =>
            {
                return Err(Kern::InvalidAddress);
            }
            range => range?,
        };
        if !args.set_maximum {
            self.check_jit(call.map, rights)?;
        }
        let change = match args.set_maximum {
            true => Change::Maximum(rights),
            false => Change::Protect(rights),
        };
        let work = SetAttributes::new(call.map, range, change);
        if args.protection & VM_PROT_COPY != 0 {
            let work = Verb::Own(Own::new(call.map, range, rights, work));
            self.op_start(work, call.reply, Some(call.map), turn.now)?;
            return Ok(Progress::More);
        }
        self.set_attributes(turn, call, work)
    }

    fn vm_inherit<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmInherit,
    ) -> Outcome {
        let inherit = Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?;
        let reply = vm_map::Reply::VmInherit(());
        let Some(range) = self.inside(call.map, args.address, args.size)? else {
            return done(reply);
        };
        let work = SetAttributes::new(call.map, range, Change::Inherit(inherit));
        self.set_attributes(turn, call, work)
    }

    /// The pages around `size` bytes, as far as the map reaches. `None`: there are none.
    fn inside(&self, map: MapId, address: u64, size: u64) -> Result<Option<Span>, Kern> {
        if size == 0 {
            return Ok(None);
        }
        let range = Span::covering(address, size)?;
        Ok(self.maps.get(map).and_then(|map| map.clamp(range)))
    }

    fn task_create<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::TaskCreate,
    ) -> Outcome {
        let child = self.map_child(call.map)?;
        let work = Fork::new(call.map, child);
        if !args.inherit {
            return Ok(Progress::Done(Some(Ok(work.reply()))));
        }
        let verb = Verb::Fork(work);
        match self.op_start(verb, call.reply, Some(call.map), turn.now) {
            Ok(_) => Ok(Progress::More),
            Err(code) => {
                self.map_end(child);
                Err(code)
            }
        }
    }

    /// Enters an entry where [`Core::map_place`] said, over whatever lies there if flags say so.
    pub(super) fn enter_at<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        entry: Entry,
        flags: MapFlags,
        reply: vm_map::Reply,
    ) -> Outcome {
        if flags.contains(MapFlags::OVERWRITE)
            && !flags.contains(MapFlags::ANYWHERE)
            && let Some(work) = Remove::replaced_by(entry, Reply::map(reply))
        {
            return self.call_begin(turn, call, work, Core::remove_step, Verb::Remove);
        }
        match self.map_enter(entry) {
            Ok(()) => done(reply),
            Err(code) => {
                if let Some(object) = entry.object {
                    self.object_deallocate(object);
                }
                Err(code)
            }
        }
    }
}

/// Whether a request may come through a map's read-only port.
pub(super) const fn only_reads(request: &Request) -> bool {
    match request {
        Request::VmRegion(_) | Request::VmStatistics(_) | Request::VmReadOverwrite(_) => true,
        Request::VmCopyin(args) => !args.src_destroy,
        Request::Inspect(_) => true,
        Request::Share(request) => matches!(request, vm_share::Request::VmMapReadPort(_)),
        _ => false,
    }
}

/// Whether a request needs the operation lock.
const fn changes_entries(request: &Request) -> bool {
    !matches!(
        request,
        Request::VmRegion(_)
            | Request::VmStatistics(_)
            | Request::Inspect(_)
            | Request::Wire(
                vm_wire::Request::VmLimits(_)
                    | vm_wire::Request::VmSetLimits(_)
                    | vm_wire::Request::VmGiveFrames(_)
            )
    )
}

const fn allocated(address: u64) -> vm_map::Reply {
    vm_map::Reply::VmAllocate(vm_map::VmAllocateReply { address })
}

pub(super) fn done(reply: vm_map::Reply) -> Outcome {
    Ok(Progress::Done(Some(Ok(Reply::map(reply)))))
}

pub(super) fn map_flags(raw: u32, known: MapFlags) -> Result<MapFlags, Kern> {
    match MapFlags::from_bits(raw) {
        Some(flags) if known.contains(flags) => Ok(flags),
        _ => Err(Kern::InvalidArgument),
    }
}

pub(crate) const fn tag_of(flags: MapFlags) -> u8 {
    (flags.bits() >> 24) as u8
}

pub(super) fn prot(raw: u32) -> Result<Prot, Kern> {
    u8::try_from(raw)
        .ok()
        .and_then(Prot::from_bits)
        .ok_or(Kern::InvalidArgument)
}
