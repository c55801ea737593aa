//! vm_map: anonymous memory, or what has a port, in a map (rules 82 to 104).

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map;

use super::vm_copy::{Then, Transfer};
use super::vm_map::{MapCall, Outcome, map_flags, prot, tag_of};
use crate::call::Reply;
use crate::copy::copyout::{Attributes, CopyOut, Mode};
use crate::effect::Effect;
use crate::event::{MapId, ObjectId, PortOf, PortRef, RightId};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::map::remove::Remove;
use crate::op::Verb;
use crate::range::{Span, is_aligned, round_page, trunc_page};
use crate::{Core, Turn};

/// Bit of a protection of vm_map: leave out what a named entry does not give (rule 100).
const IS_MASK: u32 = 0x40;

impl Core {
    pub(super) fn vm_map<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmMap,
    ) -> Outcome {
        let [object, ..] = call.rights;
        let mapping = match (Mapping::check(call.map, &args), object) {
            (Ok(mapping), _) => mapping,
            (Err(code), PortRef::Foreign(port)) => {
                turn.effects.push(Effect::Release(port, 1));
                return Err(code);
            }
            (Err(code), _) => return Err(code),
        };
        match object {
            PortRef::None => {
                let range = self.map_place(call.map, mapping.place)?;
                let entry = mapping.entry(range);
                self.enter_at(
                    turn,
                    call,
                    entry,
                    mapping.place.flags,
                    mapped(range.start()),
                )
            }
            PortRef::Own(PortOf::Entry(_)) => self.map_named(turn, call, mapping),
            PortRef::Own(PortOf::Copy(_)) => self.map_copy(turn, call, mapping),
            PortRef::Foreign(port) => self.map_pager(turn, call, mapping, port),
            _ => Err(Kern::InvalidArgument),
        }
    }

    /// vm_map of a memory object that a pager serves.
    fn map_pager<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mapping: Mapping,
        port: RightId,
    ) -> Outcome {
        // Nothing is said to the pager for a mapping that has no place.
        let range = self
            .map_place(call.map, mapping.place)
            .inspect_err(|_| turn.effects.push(Effect::Release(port, 1)))?;
        let object = self.object_of_port(turn, port)?;
        if mapping.copy {
            return self.map_object_copy(turn, call, mapping, object);
        }
        let entry = Entry {
            object: Some(object),
            offset: mapping.offset,
            needs_copy: mapping.place.flags.contains(MapFlags::PRIVATE),
            ..mapping.entry(range)
        };
        self.enter_at(
            turn,
            call,
            entry,
            mapping.place.flags,
            mapped(range.start()),
        )
    }

    /// vm_map of a named entry.
    fn map_named<M: Machine>(
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
        if self.shared(entry.map).is_some() {
            let range = self.map_place(call.map, mapping.place)?;
            let entry = self.submap_entry(&mapping, entry, range)?;
            let reply = mapped(range.start());
            return self.enter_at(turn, call, entry, mapping.place.flags, reply);
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
    fn map_copy<M: Machine>(
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
        self.call_begin(turn, call, work, Core::copyout_step, Verb::CopyOut)
    }

    /// vm_map of a copy of an object: through a hidden map that holds it.
    fn map_object_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        mapping: Mapping,
        object: ObjectId,
    ) -> Outcome {
        let size = mapping.place.size;
        let hidden = self.hide(call.map, object, (mapping.offset, size))?;
        let work = self
            .copyin(hidden, 0, size)
            .inspect_err(|_| self.map_end(hidden))?;
        let work = Transfer::new(work, Then::Map(mapping)).reading(hidden);
        self.transfer(turn, call, work)
    }

    /// A hidden map that holds a window of an object, whose reference it takes over.
    fn hide(
        &mut self,
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
            self.object_deallocate(object);
        }
        hidden
    }
}

/// What a vm_map asks for, its arguments checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(super) map: MapId,
    pub(super) place: Place,
    pub(super) offset: u64,
    pub(super) copy: bool,
    pub(super) protection: Prot,
    pub(super) max_protection: Prot,
    /// Rights that a named entry does not give are left out, not refused.
    pub(super) is_mask: bool,
    pub(super) inheritance: Inherit,
}

impl Mapping {
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: in the order that vm_map documents.
    fn check(map: MapId, args: &vm_map::VmMap) -> Result<Mapping, Kern> {
        let flags = map_flags(args.flags, MapFlags::USER_MAP)?;
        let size = match args.size {
            0 => return Err(Kern::InvalidArgument),
            size => round_page(size).ok_or(Kern::InvalidArgument)?,
        };
        let protection = prot(args.protection & !IS_MASK)?;
        let max_protection = prot(args.max_protection & !IS_MASK)?;
        if !max_protection.contains(protection) {
            return Err(Kern::InvalidArgument);
        }
        let inheritance = Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?;
        let address = trunc_page(args.address);
        let fixed = !flags.contains(MapFlags::ANYWHERE);
        if !is_aligned(args.offset)
            || args.offset.checked_add(size).is_none()
            || fixed && address.checked_add(size).is_none()
        {
            return Err(Kern::InvalidArgument);
        }
        Ok(Mapping {
            map,
            place: Place {
                address,
                size,
                mask: args.mask,
                flags,
            },
            offset: args.offset,
            copy: args.copy,
            protection,
            max_protection,
            is_mask: (args.protection | args.max_protection) & IS_MASK != 0,
            inheritance,
        })
    }

    /// The entry, of anonymous memory so far.
    pub(super) fn entry(&self, range: Span) -> Entry {
        Entry {
            protection: self.protection,
            max_protection: self.max_protection,
            inheritance: self.inheritance,
            tag: tag_of(self.place.flags),
            permanent: self.place.flags.contains(MapFlags::PERMANENT),
            ..Entry::anonymous(self.map, range.start(), range.end())
        }
    }
}

impl Mapping {
    /// Whether the mapping is to have memory of its own. For what has a hidden map a private mapping
    /// is a snapshot, which is a private mapping with one promise more (amendment A6).
    pub(super) const fn copies(&self) -> bool {
        self.copy || self.place.flags.contains(MapFlags::PRIVATE)
    }

    /// The window that is wanted of something of `size` bytes, whose last page counts as a whole.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it leaves the thing.
    pub(super) fn window(&self, size: u64) -> Result<Span, Kern> {
        let end = self.offset.checked_add(self.place.size);
        let size = round_page(size).unwrap_or(size);
        end.filter(|end| *end <= size)
            .and_then(|end| Span::exact(self.offset, end))
            .ok_or(Kern::InvalidArgument)
    }

    /// Mapping a window of a hidden map at `range`.
    pub(super) fn copyout(&self, source: MapId, window: Span, range: Span, mode: Mode) -> CopyOut {
        let reply = Reply::map(mapped(range.start()));
        let clear = match self.place.flags.contains(MapFlags::OVERWRITE) {
            true => Some(Remove::for_another(self.map, range, reply)),
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
                permanent: self.place.flags.contains(MapFlags::PERMANENT),
            },
            clear,
            staged: None,
            cursor: window.start(),
            reply,
        }
    }
}

const fn mapped(address: u64) -> vm_map::Reply {
    vm_map::Reply::VmMap(vm_map::VmMapReply { address })
}
