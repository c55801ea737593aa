//! The calls on a map port that move memory: vm_copy, vm_copyin, vm_copyout, vm_write,
//! vm_read_overwrite; and how they and others get there.
//!
//! All but the last step of most of them is [`Transfer`]: a range into a copy, then what was wanted of
//! the copy. A transfer takes no operation lock while it copies, since it may wait for a pager; it
//! finds its place again by address. It takes the lock of the map where it maps something.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map;

use super::entry::Naming;
use super::map_object::Mapping;
use super::share::Remap;
use super::vm_map::{MapCall, Outcome, done, map_flags, tag_of};
use crate::call::{Message, Reply};
use crate::copy::copyin::{CopyIn, Copying};
use crate::copy::copyout::{Attributes, CopyOut, Mode};
use crate::copy::overwrite::{FEW, Overwrite};
use crate::copy::sharein::{Found, ShareIn};
use crate::copy::slowly::Slow;
use crate::copy::{Copy, CopyId};
use crate::effect::Effect;
use crate::event::{MapId, PortOf, PortRef};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::remove::Remove;
use crate::op::{Progress, Verb};
use crate::range::{PAGE_MASK, Span};
use crate::slab::NIL;
use crate::{Core, Turn};

/// Pieces of a copy that are mapped in the step that made it.
const AT_ONCE: u32 = crate::op::BUDGET / 2;

/// A range on its way into a copy, and from there to where it was wanted.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    stage: Stage,
    then: Then,
    /// Hidden maps that end with the transfer: one made to read from, and the copy's until it has
    /// gone to whom it was for.
    hidden: [Option<MapId>; 2],
}

#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "operations are few, and their records must not be allocated piecemeal"
)]
enum Stage {
    /// The copy is being made.
    In(CopyIn),
    /// The range is being shared.
    Share(ShareIn),
    /// What is wanted of the range is in a hidden map.
    Have(Copy, Found),
    /// Its bytes are being written somewhere.
    Over(Overwrite),
    /// It is being mapped.
    Out(CopyOut),
    /// It has its port; the source is being removed.
    Remove(Remove, CopyId),
    /// There is nothing more to do.
    Ended,
}

/// What is wanted of the copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// No more than the stage says.
    Nothing,
    /// A port of its own; then the range may go from its map.
    Name { destroy: Option<(MapId, Span)> },
    /// A named entry.
    Entry(Naming),
    /// Its bytes written over a range, from its first byte on.
    Write {
        to: MapId,
        address: u64,
        reply: Reply,
    },
    /// A mapping.
    Map(Mapping),
    /// A mapping of what was taken out of another map.
    Remap(Remap),
}

impl Transfer {
    pub(super) const fn new(copyin: CopyIn, then: Then) -> Transfer {
        Transfer {
            stage: Stage::In(copyin),
            then,
            hidden: [None; 2],
        }
    }

    /// Whether the copy is still being made.
    pub(crate) const fn is_copying(&self) -> bool {
        matches!(self.stage, Stage::In(_) | Stage::Share(_))
    }

    /// The same with a range that is shared, not copied.
    pub(super) const fn sharing(sharein: ShareIn, then: Then) -> Transfer {
        Transfer {
            stage: Stage::Share(sharein),
            then,
            hidden: [None, Some(sharein.target)],
        }
    }

    /// It reads from a hidden map that ends with it.
    pub(super) const fn reading(self, map: MapId) -> Transfer {
        let [_, copy] = self.hidden;
        Transfer {
            hidden: [Some(map), copy],
            ..self
        }
    }

    /// The map whose entries it works on now, under its operation lock.
    pub(crate) const fn works_on(&self) -> Option<MapId> {
        match &self.stage {
            Stage::Out(out) => Some(out.target),
            Stage::Remove(remove, _) => Some(remove.map()),
            _ => None,
        }
    }
}

impl Core {
    pub(super) fn vm_copyin<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmCopyin,
    ) -> Outcome {
        if args.size == 0 {
            let map = self.hidden_map(call.map, 0)?;
            let empty = Copy {
                map,
                offset: 0,
                size: 0,
            };
            let id = self
                .copies
                .insert(empty)
                .inspect_err(|_| self.map_end(map))?;
            return Ok(Progress::Done(Some(Ok(copied_in(id)))));
        }
        let at = (args.address, args.size);
        let quick = match args.src_destroy {
            true => self.copyin_moved(turn, call.map, at),
            false => self.copyin_plain(turn, call.map, at),
        };
        if let Some(copy) = quick {
            let id = self.copies.insert(copy);
            let id = id.inspect_err(|_| self.map_end(copy.map))?;
            return Ok(Progress::Done(Some(Ok(copied_in(id)))));
        }
        let work = self.copyin(call.map, args.address, args.size)?;
        let destroy = match args.src_destroy {
            true => Some((call.map, Span::covering(args.address, args.size)?)),
            false => None,
        };
        self.transfer(turn, call, Transfer::new(work, Then::Name { destroy }))
    }

    pub(super) fn vm_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmCopy,
    ) -> Outcome {
        let reply = vm_map::Reply::VmCopy(());
        if args.size == 0 {
            return done(reply);
        }
        let work = self.copyin(call.map, args.source, args.size)?;
        let then = Then::Write {
            to: call.map,
            address: args.destination,
            reply: Reply::map(reply),
        };
        self.transfer(turn, call, Transfer::new(work, then))
    }

    pub(super) fn vm_read_overwrite<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmReadOverwrite,
    ) -> Outcome {
        let reply =
            vm_map::Reply::VmReadOverwrite(vm_map::VmReadOverwriteReply { size: args.size });
        if args.size == 0 {
            return done(reply);
        }
        let Some(PortRef::Own(PortOf::Map(to))) =
            call.rights.get(vm_map::VmReadOverwrite::DATA_MAP).copied()
        else {
            return Err(Kern::InvalidArgument);
        };
        let work = self.copyin(call.map, args.address, args.size)?;
        let then = Then::Write {
            to,
            address: args.data,
            reply: Reply::map(reply),
        };
        self.transfer(turn, call, Transfer::new(work, then))
    }

    pub(super) fn vm_write<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmWrite,
    ) -> Outcome {
        let reply = vm_map::Reply::VmWrite(());
        if args.size == 0 {
            return done(reply);
        }
        let [right, ..] = call.rights;
        let (_, copy) = self.copy_of(right)?;
        if args.size > copy.size {
            return Err(Kern::InvalidArgument);
        }
        let over = Core::overwrite(copy.map, copy.offset, call.map, args.address, args.size)?;
        let work = Transfer {
            stage: Stage::Over(over),
            then: Then::Write {
                to: call.map,
                address: args.address,
                reply: Reply::map(reply),
            },
            hidden: [None; 2],
        };
        self.transfer(turn, call, work)
    }

    pub(super) fn vm_copyout<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmCopyout,
    ) -> Outcome {
        let known = MapFlags::ANYWHERE
            .union(MapFlags::WIRE_BEST_EFFORT)
            .union(MapFlags::TAG);
        let flags = map_flags(args.flags, known)?;
        let [right, ..] = call.rights;
        let (id, copy) = self.copy_of(right)?;
        if copy.size == 0 {
            self.copy_used(turn, id);
            self.map_end(copy.map);
            return done(copied_out(0));
        }
        let anywhere = flags.contains(MapFlags::ANYWHERE);
        if !anywhere && args.address & PAGE_MASK != copy.offset {
            return Err(Kern::InvalidArgument);
        }
        let size = copy.pages_size();
        let place = Place::asked(args.address, size, flags);
        let range = self.map_place(call.map, place)?;
        self.copyout_check(copy.map, call.map)?;
        let reply = copied_out(range.start().saturating_add(copy.offset));
        if self.copyout_plain(copy.map, (call.map, range), tag_of(flags)) {
            self.copy_used(turn, id);
            return done(reply);
        }
        let attributes = Attributes {
            rights: Some((Prot::DEFAULT, Prot::ALL)),
            inheritance: Inherit::Copy,
            tag: Some(tag_of(flags)),
            permanent: false,
        };
        let work = CopyOut {
            source: copy.map,
            window: Span::exact(0, size).ok_or(Kern::InvalidArgument)?,
            target: call.map,
            address: range.start(),
            mode: Mode::Move,
            attributes,
            clear: None,
            staged: None,
            cursor: 0,
            reply: Reply::map(reply),
        };
        // Moving cannot fail from here on, unless the task ends; nobody is to use the copy meanwhile.
        self.copy_used(turn, id);
        let work = Transfer {
            stage: Stage::Out(work),
            then: Then::Nothing,
            hidden: [None, Some(copy.map)],
        };
        self.call_begin(
            turn,
            call,
            work,
            |core, turn, work| core.transfer_step(turn, work, NIL),
            Verb::Transfer,
        )
    }

    /// Starts a transfer as an operation: it may have to wait.
    pub(super) fn transfer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mut work: Transfer,
    ) -> Outcome {
        match self.op_start(Verb::Transfer(work), call.reply, None, turn.now) {
            Ok(_) => Ok(Progress::More),
            Err(code) => {
                self.transfer_end(&mut work);
                Err(code)
            }
        }
    }

    /// One step of a transfer.
    pub(crate) fn transfer_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Transfer,
        waiter: u32,
    ) -> Progress {
        let progress = match self.transfer_some(turn, work, waiter) {
            Ok(progress) => progress,
            Err(code) => Progress::Done(Some(Err(code))),
        };
        if let Progress::Done(_) = progress {
            self.transfer_end(work);
        }
        progress
    }

    /// Gives up a transfer on its way.
    pub(crate) fn transfer_abandon(&mut self, work: &mut Transfer) {
        if let Stage::Remove(_, id) = work.stage {
            self.copy_discard(id);
        }
        self.transfer_end(work);
    }

    /// Gives up what a transfer still holds.
    pub(crate) fn transfer_end(&mut self, work: &mut Transfer) {
        match &mut work.stage {
            Stage::In(copyin) => self.copyin_abandon(copyin),
            Stage::Out(out) => self.copyout_end(out),
            _ => {}
        }
        work.stage = Stage::Ended;
        for map in work.hidden.iter_mut().filter_map(Option::take) {
            self.map_end(map);
        }
    }

    fn transfer_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Transfer,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        match &mut work.stage {
            Stage::Share(sharein) => {
                match self.sharein_step(turn, sharein, waiter)? {
                    Slow::More => return Ok(Progress::More),
                    Slow::Wait => return Ok(Progress::Wait),
                    Slow::Done => {}
                }
                let (copy, found) = (sharein.as_copy(), sharein.terms.found);
                work.stage = Stage::Have(copy, found);
                self.transfer_have(turn, work, (copy, found), waiter)
            }
            Stage::In(copyin) => match self.copyin_step(turn, copyin, waiter) {
                Copying::More => Ok(Progress::More),
                Copying::Wait => Ok(Progress::Wait),
                Copying::Failed(code) => {
                    // It has cleaned up after itself.
                    work.stage = Stage::Ended;
                    Err(code)
                }
                Copying::Done(copy) => {
                    let found = copyin.terms.found;
                    work.stage = Stage::Have(copy, found);
                    work.hidden[1] = Some(copy.map);
                    self.transfer_have(turn, work, (copy, found), waiter)
                }
            },
            Stage::Have(copy, found) => {
                let have = (*copy, *found);
                self.transfer_have(turn, work, have, waiter)
            }
            Stage::Over(_) => self.transfer_over(turn, work, waiter),
            Stage::Out(out) => Ok(self.copyout_step(turn, out)),
            Stage::Remove(remove, id) => {
                let progress = self.remove_step(turn, remove);
                if let Progress::Done(Some(Err(_))) = progress {
                    self.copy_discard(*id);
                }
                Ok(progress)
            }
            Stage::Ended => Err(Kern::Terminated),
        }
    }

    /// The copy is whole: on to what was wanted.
    fn transfer_have<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Transfer,
        (copy, found): (Copy, Found),
        waiter: u32,
    ) -> Result<Progress, Kern> {
        match work.then {
            Then::Nothing => Err(Kern::Failure),
            Then::Name { destroy: None } => {
                let id = self.copies.insert(copy)?;
                work.hidden[1] = None;
                Ok(Progress::Done(Some(Ok(copied_in(id)))))
            }
            Then::Name {
                destroy: Some((map, range)),
            } => {
                if !self.op_lock(turn, waiter, map)? {
                    return Ok(Progress::Wait);
                }
                let id = self.copies.insert(copy)?;
                work.hidden[1] = None;
                work.stage = Stage::Remove(Remove::new(map, range, copied_in(id)), id);
                Ok(Progress::More)
            }
            Then::Entry(naming) => {
                let reply = self.entry_name(naming, (copy.map, copy.pages_size()), found)?;
                work.hidden[1] = None;
                Ok(Progress::Done(Some(Ok(reply))))
            }
            Then::Write { to, address, .. } => {
                let over = Core::overwrite(copy.map, copy.offset, to, address, copy.size)?;
                work.stage = Stage::Over(over);
                let pieces = self.maps.get(copy.map).map_or(0, |map| map.entries());
                if pieces > FEW || self.revoked > FEW {
                    return Ok(Progress::More);
                }
                self.transfer_over(turn, work, waiter)
            }
            Then::Map(mapping) => {
                if !self.op_lock(turn, waiter, mapping.map)? {
                    return Ok(Progress::Wait);
                }
                let range = self.map_place(mapping.map, mapping.place)?;
                let window = Span::exact(0, copy.pages_size()).ok_or(Kern::Failure)?;
                let out = mapping.copyout(copy.map, window, range, Mode::Move);
                self.transfer_out(turn, work, out)
            }
            Then::Remap(remap) => {
                if !self.op_lock(turn, waiter, remap.map)? {
                    return Ok(Progress::Wait);
                }
                let out = self.remap_out(&remap, &copy, found)?;
                self.transfer_out(turn, work, out)
            }
        }
    }

    /// Writes the copy.
    fn transfer_over<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Transfer,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        let (Stage::Over(over), Then::Write { reply, .. }) = (&mut work.stage, work.then) else {
            return Err(Kern::Failure);
        };
        match self.overwrite_step(turn, over, waiter)? {
            Slow::More => Ok(Progress::More),
            Slow::Wait => Ok(Progress::Wait),
            Slow::Done => Ok(Progress::Done(Some(Ok(reply)))),
        }
    }

    /// Maps the copy: at once, if it is small.
    fn transfer_out<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Transfer,
        mut out: CopyOut,
    ) -> Result<Progress, Kern> {
        self.copyout_check(out.source, out.target)?;
        let pieces = self.maps.get(out.source).map_or(0, |map| map.entries());
        let progress = match pieces <= AT_ONCE {
            true => self.copyout_step(turn, &mut out),
            false => Progress::More,
        };
        work.stage = Stage::Out(out);
        Ok(progress)
    }

    /// A copy's memory goes to a map: its port stands for nothing any more.
    fn copy_used<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: CopyId) {
        self.copies.remove(id);
        turn.effects.push(Effect::PortGone(PortOf::Copy(id)));
    }
}

const fn copied_in(id: CopyId) -> Reply {
    Reply {
        message: Message::Map(vm_map::Reply::VmCopyin(vm_map::VmCopyinReply {})),
        right: Some(PortOf::Copy(id)),
    }
}

const fn copied_out(address: u64) -> vm_map::Reply {
    vm_map::Reply::VmCopyout(vm_map::VmCopyoutReply { address })
}

#[cfg(test)]
pub(crate) mod tests;
