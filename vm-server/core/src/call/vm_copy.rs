//! The calls on a map port that move memory: vm_copy, vm_copyin, vm_copyout, vm_write,
//! vm_read_overwrite, mach_make_memory_entry, and vm_map of something that has a port.
//!
//! All but the last step of most of them is [`Transfer`]: a range into a copy, then what was wanted of
//! the copy. A transfer takes no operation lock while it copies, since it may wait for a pager; it
//! finds its place again by address. It takes the lock of the map where it maps something.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{
    self, MAP_MEM_NAMED_CREATE, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, MachMakeMemoryEntry,
};

use super::vm_map::{MapCall, Mapping, Outcome, done, map_flags, mapped, prot, tag_of};
use crate::call::{Message, Reply};
use crate::copy::copyin::{CopyIn, Copying};
use crate::copy::copyout::{Attributes, CopyOut, Mode};
use crate::copy::overwrite::Overwrite;
use crate::copy::slowly::Slow;
use crate::copy::{Copy, CopyId};
use crate::effect::Effect;
use crate::event::{MapId, ObjectId, PortOf, PortRef};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::map::remove::Remove;
use crate::named_entry::{NamedEntry, NamedEntryId, Spans};
use crate::op::{Progress, Verb};
use crate::range::{PAGE_MASK, Span, round_page, trunc_page};
use crate::{Core, Turn};

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
    /// It is whole.
    Have(Copy),
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
enum Then {
    /// No more than the stage says.
    Nothing,
    /// A port of its own; then the range may go from its map.
    Name { destroy: Option<(MapId, Span)> },
    /// A named entry.
    Entry { protection: Prot },
    /// Its bytes written over a range, from its first byte on.
    Write {
        to: MapId,
        address: u64,
        reply: Reply,
    },
    /// A mapping.
    Map(Mapping),
}

impl Transfer {
    const fn new(copyin: CopyIn, then: Then) -> Transfer {
        Transfer {
            stage: Stage::In(copyin),
            then,
            hidden: [None; 2],
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
        let known = MapFlags::ANYWHERE.union(MapFlags::TAG);
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
        let place = Place {
            address: if anywhere {
                0
            } else {
                trunc_page(args.address)
            },
            size,
            mask: 0,
            flags,
        };
        let range = self.map_place(call.map, place)?;
        self.copyout_check(copy.map, call.map)?;
        let attributes = Attributes {
            protection: Prot::DEFAULT,
            max_protection: Prot::ALL,
            inheritance: Inherit::Copy,
            tag: tag_of(flags),
        };
        let work = CopyOut {
            source: copy.map,
            window: Span::exact(0, size).ok_or(Kern::InvalidArgument)?,
            target: call.map,
            address: range.start(),
            mode: Mode::Move,
            attributes,
            clear: None,
            cursor: 0,
            reply: Reply::map(copied_out(range.start().saturating_add(copy.offset))),
        };
        // Moving cannot fail from here on, unless the task ends; nobody is to use the copy meanwhile.
        self.copy_used(turn, id);
        let work = Transfer {
            stage: Stage::Out(work),
            then: Then::Nothing,
            hidden: [None, Some(copy.map)],
        };
        self.call_begin(turn, call, Verb::Transfer(work))
    }

    pub(super) fn make_memory_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: MachMakeMemoryEntry,
    ) -> Outcome {
        let flags = args.permission & !0xFF;
        let protection = prot(args.permission & 0xFF).map_err(|_| Kern::InvalidValue)?;
        if !matches!(
            flags,
            0 | MAP_MEM_NAMED_CREATE | MAP_MEM_VM_COPY | MAP_MEM_VM_SHARE
        ) {
            return Err(Kern::InvalidValue);
        }
        if args.size == 0 {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(args.offset, args.size)?;
        let [parent, ..] = call.rights;
        if flags == MAP_MEM_NAMED_CREATE {
            let size = round_page(args.size).ok_or(Kern::InvalidArgument)?;
            let id = self.named_create(turn, call.map, size, protection)?;
            return self.named(id);
        }
        let (source, window) = match parent {
            PortRef::None => (call.map, range),
            parent => {
                let parent = self.named_of(parent)?;
                if range.end() > parent.size {
                    return Err(Kern::InvalidArgument);
                }
                if !parent.protection.contains(protection) {
                    return Err(Kern::ProtectionFailure);
                }
                (parent.map, range)
            }
        };
        if flags == MAP_MEM_VM_COPY {
            let work = self.copyin(source, window.start(), window.size())?;
            return self.transfer(turn, call, Transfer::new(work, Then::Entry { protection }));
        }
        let spans = match (flags, parent) {
            (0, PortRef::None) => Spans::One,
            _ => Spans::Many,
        };
        let id = self.named_share(turn, source, window, protection, spans)?;
        self.named(id)
    }

    /// The answer that carries a named entry.
    fn named(&self, id: NamedEntryId) -> Outcome {
        let size = self.named.get(id).map_or(0, |entry| entry.size);
        Ok(Progress::Done(Some(Ok(made_entry(id, size)))))
    }

    /// vm_map of a named entry.
    pub(super) fn map_named<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mut mapping: Mapping,
    ) -> Outcome {
        let [right, ..] = call.rights;
        let entry = self.named_of(right)?;
        let window = mapping.window(entry.size)?;
        if mapping.is_mask {
            mapping.protection &= entry.protection;
            mapping.max_protection &= entry.protection;
        }
        if !entry.protection.contains(mapping.max_protection) {
            return Err(Kern::InvalidRight);
        }
        if mapping.copies() && !entry.protection.contains(Prot::READ) {
            return Err(Kern::ProtectionFailure);
        }
        self.map_hidden(turn, call, mapping, (entry.map, window))
    }

    /// vm_map of a copy, which stays.
    pub(super) fn map_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mapping: Mapping,
    ) -> Outcome {
        let [right, ..] = call.rights;
        let (_, copy) = self.copy_of(right)?;
        let window = mapping.window(copy.pages_size())?;
        self.map_hidden(turn, call, mapping, (copy.map, window))
    }

    /// Maps a window of a hidden map: shared, or, if a copy is wanted, a snapshot.
    fn map_hidden<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mapping: Mapping,
        (source, window): (MapId, Span),
    ) -> Outcome {
        let range = self.map_place(call.map, mapping.place)?;
        if mapping.copies() {
            let work = self.copyin(source, window.start(), window.size())?;
            return self.transfer(turn, call, Transfer::new(work, Then::Map(mapping)));
        }
        self.copyout_check(source, call.map)?;
        let work = mapping.copyout(source, window, range, Mode::Share);
        self.call_begin(turn, call, Verb::CopyOut(work))
    }

    /// vm_map of a copy of an object: through a hidden map that holds it.
    pub(super) fn map_object_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mapping: Mapping,
        object: ObjectId,
    ) -> Outcome {
        let size = mapping.place.size;
        let hidden = self.hide(turn, call.map, object, (mapping.offset, size))?;
        let work = self
            .copyin(hidden, 0, size)
            .inspect_err(|_| self.map_end(hidden))?;
        let work = Transfer {
            hidden: [Some(hidden), None],
            ..Transfer::new(work, Then::Map(mapping))
        };
        self.transfer(turn, call, work)
    }

    /// Starts a transfer as an operation: it may have to wait.
    fn transfer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mut work: Transfer,
    ) -> Outcome {
        match self.op_start(Verb::Transfer(work), call.reply, None, turn.now) {
            Ok(_) => Ok(Progress::More),
            Err(code) => {
                self.transfer_end(turn, &mut work);
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
            self.transfer_end(turn, work);
        }
        progress
    }

    /// Gives up what a transfer still holds.
    pub(crate) fn transfer_end<M: Machine>(&mut self, turn: &mut Turn<'_, M>, work: &mut Transfer) {
        if let Stage::In(copyin) = &mut work.stage {
            self.copyin_abandon(turn, copyin);
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
            Stage::In(copyin) => match self.copyin_step(turn, copyin, waiter) {
                Copying::More => Ok(Progress::More),
                Copying::Wait => Ok(Progress::Wait),
                Copying::Failed(code) => {
                    // It has cleaned up after itself.
                    work.stage = Stage::Ended;
                    Err(code)
                }
                Copying::Done(copy) => {
                    work.stage = Stage::Have(copy);
                    work.hidden[1] = Some(copy.map);
                    self.transfer_have(turn, work, copy, waiter)
                }
            },
            Stage::Have(copy) => {
                let copy = *copy;
                self.transfer_have(turn, work, copy, waiter)
            }
            Stage::Over(over) => match self.overwrite_step(turn, over, waiter)? {
                Slow::More => Ok(Progress::More),
                Slow::Wait => Ok(Progress::Wait),
                Slow::Done => match work.then {
                    Then::Write { reply, .. } => Ok(Progress::Done(Some(Ok(reply)))),
                    _ => Err(Kern::Failure),
                },
            },
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
        copy: Copy,
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
            Then::Entry { protection } => {
                let entry = NamedEntry {
                    map: copy.map,
                    size: copy.pages_size(),
                    protection,
                    is_copy: true,
                };
                let id = self.named.insert(entry)?;
                work.hidden[1] = None;
                Ok(Progress::Done(Some(Ok(made_entry(id, entry.size)))))
            }
            Then::Write { to, address, .. } => {
                let over = Core::overwrite(copy.map, copy.offset, to, address, copy.size)?;
                work.stage = Stage::Over(over);
                Ok(Progress::More)
            }
            Then::Map(mapping) => {
                if !self.op_lock(turn, waiter, mapping.map)? {
                    return Ok(Progress::Wait);
                }
                let range = self.map_place(mapping.map, mapping.place)?;
                self.copyout_check(copy.map, mapping.map)?;
                let window = Span::exact(0, copy.pages_size()).ok_or(Kern::Failure)?;
                work.stage = Stage::Out(mapping.copyout(copy.map, window, range, Mode::Move));
                Ok(Progress::More)
            }
        }
    }

    /// A hidden map that holds a window of an object, whose reference it takes over.
    fn hide<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        payer: MapId,
        object: ObjectId,
        (offset, size): (u64, u64),
    ) -> Result<MapId, Kern> {
        let hidden = self.hidden_map(payer, size).and_then(|map| {
            let entry = Entry {
                object: Some(object),
                offset,
                is_shared: true,
                ..Entry::anonymous(map, 0, size)
            };
            match self.entry_insert(entry) {
                Ok(_) => Ok(map),
                Err(code) => {
                    self.map_end(map);
                    Err(code)
                }
            }
        });
        if hidden.is_err() {
            self.object_deallocate(turn, object);
        }
        hidden
    }

    /// A copy's memory goes to a map: its port stands for nothing any more.
    fn copy_used<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: CopyId) {
        self.copies.remove(id);
        turn.effects.push(Effect::PortGone(PortOf::Copy(id)));
    }
}

impl Mapping {
    /// Whether the mapping is to have memory of its own. For what has a hidden map a private mapping
    /// is a snapshot, which is a private mapping with one promise more (amendment A6).
    const fn copies(&self) -> bool {
        self.copy || self.place.flags.contains(MapFlags::PRIVATE)
    }

    /// The window that is wanted of something of `size` bytes, whose last page counts as a whole.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it leaves the thing.
    fn window(&self, size: u64) -> Result<Span, Kern> {
        let end = self.offset.checked_add(self.place.size);
        let size = round_page(size).unwrap_or(size);
        end.filter(|end| *end <= size)
            .and_then(|end| Span::exact(self.offset, end))
            .ok_or(Kern::InvalidArgument)
    }

    /// Mapping a window of a hidden map at `range`.
    fn copyout(&self, source: MapId, window: Span, range: Span, mode: Mode) -> CopyOut {
        let reply = Reply::map(mapped(range.start()));
        let clear = match self.place.flags.contains(MapFlags::OVERWRITE) {
            true => Some(Remove::new(self.map, range, reply)),
            false => None,
        };
        CopyOut {
            source,
            window,
            target: self.map,
            address: range.start(),
            mode,
            attributes: Attributes {
                protection: self.protection,
                max_protection: self.max_protection,
                inheritance: self.inheritance,
                tag: tag_of(self.place.flags),
            },
            clear,
            cursor: window.start(),
            reply,
        }
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

const fn made_entry(id: NamedEntryId, size: u64) -> Reply {
    let reply = vm_map::MachMakeMemoryEntryReply { size };
    Reply {
        message: Message::Map(vm_map::Reply::MachMakeMemoryEntry(reply)),
        right: Some(PortOf::Entry(id)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::event::{NO_RIGHTS, Rights};
    use crate::map::tests::{Bench, PAGE};
    use ipc_protocol::vm_map::{Request, VmMap};

    const MIN: u64 = 16 * PAGE;
    const MAX: u64 = 4096 * PAGE;
    const A: u64 = 0x10_0000;
    const B: u64 = 0x20_0000;
    const READ: u32 = 1;
    const RW: u32 = 3;

    /// Four written pages at `A` and four at `B`: page `n` begins with `n + 1`, and with `n + 11`.
    fn bench() -> Bench {
        let mut bench = Bench::new(MIN, MAX);
        for (base, first) in [(A, 1), (B, 11)] {
            bench.allocate(base, 4 * PAGE, 0).unwrap();
            for page in 0..4 {
                let map = bench.map;
                bench
                    .write(map, base + page * PAGE, first + page as u8)
                    .unwrap();
            }
        }
        bench
    }

    fn with(right: PortOf) -> Rights {
        let mut rights = NO_RIGHTS;
        rights[0] = PortRef::Own(right);
        rights
    }

    fn reads(bench: &mut Bench, base: u64) -> [u8; 4] {
        let map = bench.map;
        [0, 1, 2, 3].map(|page| bench.read(map, base + page * PAGE).unwrap())
    }

    /// Ends everything and looks for what is left.
    fn nothing_is_left(mut bench: Bench, rights: &[PortOf]) {
        for right in rights {
            bench.no_senders(*right);
        }
        let maps: std::vec::Vec<MapId> = bench.core.maps.iter().map(|(id, _)| id).collect();
        for map in maps {
            bench.end(map);
        }
        bench.settle();
        assert_eq!(bench.core.pages.free(), 4000);
        assert!(bench.core.objects.is_empty(), "objects");
        assert!(bench.core.entries.is_empty(), "entries");
        assert!(bench.core.copies.is_empty() && bench.core.named.is_empty());
        assert!(bench.core.ops.is_empty() && bench.core.waiters.is_empty());
        assert!(bench.core.maps.is_empty());
    }

    fn copyin(
        bench: &mut Bench,
        address: u64,
        size: u64,
        src_destroy: bool,
    ) -> Result<PortOf, Kern> {
        let request = vm_map::VmCopyin {
            address,
            size,
            src_destroy,
        };
        let reply = bench.ask(Request::VmCopyin(request), NO_RIGHTS)?;
        Ok(reply.right.unwrap())
    }

    fn copyout(bench: &mut Bench, copy: PortOf, address: u64, flags: u32) -> Result<u64, Kern> {
        let request = Request::VmCopyout(vm_map::VmCopyout { address, flags });
        match bench.ask(request, with(copy))?.message {
            Message::Map(vm_map::Reply::VmCopyout(reply)) => Ok(reply.address),
            other => panic!("{other:?}"),
        }
    }

    fn entry(bench: &mut Bench, offset: u64, size: u64, permission: u32) -> Result<PortOf, Kern> {
        let request = MachMakeMemoryEntry {
            size,
            offset,
            permission,
        };
        let reply = bench.ask(Request::MachMakeMemoryEntry(request), NO_RIGHTS)?;
        Ok(reply.right.unwrap())
    }

    fn map(bench: &mut Bench, right: PortOf, request: VmMap) -> Result<u64, Kern> {
        match bench.ask(Request::VmMap(request), with(right))?.message {
            Message::Map(vm_map::Reply::VmMap(reply)) => Ok(reply.address),
            other => panic!("{other:?}"),
        }
    }

    fn anywhere(size: u64, protection: u32) -> VmMap {
        VmMap {
            address: 0,
            size,
            mask: 0,
            flags: 1,
            offset: 0,
            copy: false,
            protection,
            max_protection: protection,
            inheritance: 1,
        }
    }

    #[test]
    fn a_copy_is_of_the_moment_and_moves_to_where_it_is_mapped() {
        let mut bench = bench();
        let map = bench.map;
        let copy = copyin(&mut bench, A, 4 * PAGE, false).unwrap();
        bench.write(map, A, 99).unwrap();
        let at = copyout(&mut bench, copy, 0, 1).unwrap();
        assert_eq!(reads(&mut bench, at), [1, 2, 3, 4]);
        bench.write(map, at + PAGE, 98).unwrap();
        assert_eq!(reads(&mut bench, A), [99, 2, 3, 4]);
        // It is used up.
        assert_eq!(copyout(&mut bench, copy, 0, 1), Err(Kern::InvalidArgument));
        nothing_is_left(bench, &[copy]);
    }

    #[test]
    fn an_unaligned_copy_keeps_its_place_in_the_page() {
        let mut bench = bench();
        let map = bench.map;
        bench.write(map, A + 5, 42).unwrap();
        let copy = copyin(&mut bench, A + 5, PAGE, false).unwrap();
        assert_eq!(
            copyout(&mut bench, copy, B + 4 * PAGE, 0),
            Err(Kern::InvalidArgument)
        );
        assert_eq!(
            copyout(&mut bench, copy, MAX + 5, 0),
            Err(Kern::InvalidAddress)
        );
        assert_eq!(copyout(&mut bench, copy, B + 5, 0), Err(Kern::NoSpace));
        let at = copyout(&mut bench, copy, 0, 1).unwrap();
        assert_eq!((at % PAGE, bench.read(map, at)), (5, Ok(42)));
    }

    #[test]
    fn a_source_goes_only_after_its_copy_is_whole() {
        let mut bench = bench();
        let hole = copyin(&mut bench, A, 5 * PAGE, true);
        assert_eq!(hole, Err(Kern::InvalidAddress));
        assert_eq!(reads(&mut bench, A), [1, 2, 3, 4]);
        let copy = copyin(&mut bench, A, 4 * PAGE, true).unwrap();
        let map = bench.map;
        assert_eq!(bench.read(map, A), Err(Kern::InvalidAddress));
        let at = copyout(&mut bench, copy, 0, 1).unwrap();
        assert_eq!(reads(&mut bench, at), [1, 2, 3, 4]);
        nothing_is_left(bench, &[]);
    }

    #[test]
    fn an_empty_copy_goes_nowhere() {
        let mut bench = bench();
        let copy = copyin(&mut bench, 1, 0, true).unwrap();
        assert_eq!(copyout(&mut bench, copy, 0, 1), Ok(0));
        nothing_is_left(bench, &[]);
    }

    #[test]
    fn vm_copy_checks_all_before_it_writes_and_overlaps_like_memmove() {
        let mut bench = bench();
        let map = bench.map;
        let mut copy = |source, size, destination| {
            let request = vm_map::VmCopy {
                source,
                size,
                destination,
            };
            bench.call(Request::VmCopy(request)).map(|_| ())
        };
        assert_eq!(copy(1, 0, 1), Ok(()));
        assert_eq!(copy(A, 5 * PAGE, B), Err(Kern::InvalidAddress));
        assert_eq!(copy(A, 2 * PAGE, B + 3 * PAGE), Err(Kern::InvalidAddress));
        assert_eq!(copy(A, PAGE, u64::MAX), Err(Kern::InvalidAddress));
        assert_eq!(copy(A, 3 * PAGE, A + PAGE), Ok(()));
        assert_eq!(reads(&mut bench, A), [1, 1, 2, 3]);
        bench.protect(B + PAGE, PAGE, false, READ).unwrap();
        let request = vm_map::VmCopy {
            source: A,
            size: 2 * PAGE,
            destination: B,
        };
        let denied = Err(Kern::ProtectionFailure);
        assert_eq!(bench.call(Request::VmCopy(request)), denied);
        assert_eq!(bench.read(map, B), Ok(11));
        nothing_is_left(bench, &[]);
    }

    #[test]
    fn a_copy_is_written_without_being_used_up() {
        let mut bench = bench();
        let copy = copyin(&mut bench, A, 2 * PAGE, false).unwrap();
        let write = |address, size| Request::VmWrite(vm_map::VmWrite { address, size });
        let said = bench.ask(write(B, 2 * PAGE + 1), with(copy));
        assert_eq!(said, Err(Kern::InvalidArgument));
        for at in [B, B + 2 * PAGE] {
            assert!(bench.ask(write(at, 2 * PAGE), with(copy)).is_ok());
        }
        assert_eq!(reads(&mut bench, B), [1, 2, 1, 2]);
        nothing_is_left(bench, &[copy]);
    }

    #[test]
    fn a_named_entry_is_seen_both_ways_and_bounds_what_may_be_done() {
        let mut bench = bench();
        let here = bench.map;
        let named = entry(&mut bench, A, 4 * PAGE, RW).unwrap();
        let at = map(&mut bench, named, anywhere(4 * PAGE, RW)).unwrap();
        bench.write(here, at, 50).unwrap();
        bench.write(here, A + PAGE, 51).unwrap();
        assert_eq!(reads(&mut bench, A), [50, 51, 3, 4]);
        assert_eq!(reads(&mut bench, at), [50, 51, 3, 4]);
        let too_large = map(&mut bench, named, anywhere(5 * PAGE, RW));
        assert_eq!(too_large, Err(Kern::InvalidArgument));
        // A mapping with `copy` is private.
        let private = VmMap {
            copy: true,
            ..anywhere(4 * PAGE, RW)
        };
        let own = map(&mut bench, named, private).unwrap();
        bench.write(here, own, 60).unwrap();
        bench.write(here, A + PAGE, 52).unwrap();
        assert_eq!(reads(&mut bench, own), [60, 51, 3, 4]);
        assert_eq!(reads(&mut bench, A), [50, 52, 3, 4]);
        nothing_is_left(bench, &[named]);
    }

    #[test]
    fn c0354_c0355_c0369() {
        let mut bench = bench();
        let named = entry(&mut bench, A, PAGE, MAP_MEM_VM_SHARE | READ).unwrap();
        let more = VmMap {
            max_protection: RW,
            ..anywhere(PAGE, READ)
        };
        assert_eq!(map(&mut bench, named, more), Err(Kern::InvalidRight));
        assert_eq!(
            map(&mut bench, named, anywhere(PAGE, RW)),
            Err(Kern::InvalidRight)
        );
        let masked = VmMap {
            protection: RW | 0x40,
            max_protection: RW | 0x40,
            ..anywhere(PAGE, RW)
        };
        let at = map(&mut bench, named, masked).unwrap();
        assert_eq!(bench.region(at).unwrap().max_protection, READ);
        assert!(map(&mut bench, named, anywhere(PAGE, READ)).is_ok());
    }

    #[test]
    fn c0352() {
        let mut bench = bench();
        bench.protect(A, PAGE, true, READ).unwrap();
        assert_eq!(entry(&mut bench, A, PAGE, RW), Err(Kern::ProtectionFailure));
        assert!(entry(&mut bench, A, PAGE, READ).is_ok());
    }

    #[test]
    fn c0364() {
        let mut bench = bench();
        let here = bench.map;
        let named = entry(&mut bench, A, PAGE, MAP_MEM_VM_COPY | RW).unwrap();
        let shared = map(&mut bench, named, anywhere(PAGE, RW)).unwrap();
        let copied = VmMap {
            copy: true,
            ..anywhere(PAGE, RW)
        };
        let copied = map(&mut bench, named, copied).unwrap();
        bench.write(here, shared, 70).unwrap();
        assert_eq!(bench.read(here, A), Ok(1));
        assert_eq!(bench.read(here, shared), Ok(70));
        assert_eq!(bench.read(here, copied), Ok(1));
        nothing_is_left(bench, &[named]);
    }

    #[test]
    fn what_may_not_be_copied_lazily_is_copied_by_pages_for_a_child() {
        let mut bench = bench();
        let here = bench.map;
        let size = 200 * PAGE;
        let named = entry(&mut bench, 0, size, MAP_MEM_NAMED_CREATE | RW).unwrap();
        let at = map(&mut bench, named, anywhere(size, RW)).unwrap();
        for page in [0, 63, 64, 199] {
            bench.write(here, at + page * PAGE, page as u8 + 1).unwrap();
        }
        let child = bench.fork().unwrap();
        bench.write(here, at + 64 * PAGE, 0).unwrap();
        for page in [0, 63, 64, 199] {
            assert_eq!(bench.read(child, at + page * PAGE), Ok(page as u8 + 1));
        }
        assert_eq!(bench.read(child, at + PAGE), Ok(0));
        nothing_is_left(bench, &[named]);
    }

    #[test]
    fn flags_of_a_named_entry_are_checked_first() {
        let mut bench = bench();
        assert_eq!(entry(&mut bench, A, 0, 0x1_0000), Err(Kern::InvalidValue));
        assert_eq!(entry(&mut bench, A, 0, READ), Err(Kern::InvalidArgument));
        let hole = entry(&mut bench, MIN, PAGE, READ);
        assert_eq!(hole, Err(Kern::InvalidAddress));
    }

    #[test]
    fn a_port_of_another_kind_is_not_mapped() {
        let mut bench = bench();
        let own = PortOf::Map(bench.map);
        let said = map(&mut bench, own, anywhere(PAGE, RW));
        assert_eq!(said, Err(Kern::InvalidArgument));
    }
}
