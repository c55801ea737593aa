//! vm_map: anonymous memory, or what has a port, in a map (rules 82 to 104).

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, VM_PROT_IS_MASK};

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
use crate::named_entry::{Kind, NamedEntry};
use crate::object::Object;
use crate::op::Verb;
use crate::range::{PAGE_MASK, Span, is_aligned, page_of, round_page, trunc_page};
use crate::{Core, Turn};

/// Flags with which an entry that is a copy or a share can be mapped.
const OF_PIECES: MapFlags = MapFlags::ANYWHERE
    .union(MapFlags::OVERWRITE)
    .union(MapFlags::RETURN_DATA_ADDR)
    .union(MapFlags::RETURN_4K_DATA_ADDR)
    .union(MapFlags::PRIVATE)
    .union(MapFlags::TAG);

/// Most pages of a purgeable object.
const PURGEABLE_MAX: u64 = 0xFFFF_FFFF;

impl Core {
    pub(super) fn vm_map<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_map::VmMap,
    ) -> Outcome {
        let [object, ..] = call.rights;
        match (self.mapping(call.map, &args, object), object) {
            (Err(code), PortRef::Foreign(port)) => {
                turn.effects.push(Effect::Release(port, 1));
                Err(code)
            }
            (Err(code), _) => Err(code),
            (Ok(mapping), PortRef::None) => {
                let range = self.map_place(call.map, mapping.place)?;
                let mut entry = mapping.entry(range);
                if mapping.place.flags.contains(MapFlags::PURGABLE) {
                    let object = Object::purgeable(range.size(), call.map, false);
                    entry.object = Some(self.object_insert(object)?);
                }
                let flags = mapping.place.flags;
                self.enter_at(turn, call, entry, flags, mapping.reply(range))
            }
            (Ok(mapping), PortRef::Own(PortOf::Copy(_))) => self.map_copy(turn, call, mapping),
            (Ok(mapping), PortRef::Foreign(port)) => self.map_pager(turn, call, mapping, port),
            (Ok(mapping), right) => {
                let (_, entry) = self.named_of(right)?;
                if entry.kind == Kind::Map {
                    let range = self.map_place(call.map, mapping.place)?;
                    let entry = self.submap_entry(&mapping, entry, range)?;
                    let flags = mapping.place.flags;
                    return self.enter_at(turn, call, entry, flags, mapping.reply(range));
                }
                self.map_hidden(turn, call, mapping, (entry.map, mapping.window()))
            }
        }
    }

    /// What a vm_map asks for, held against what it asks to map.
    ///
    /// # Errors
    /// In the order that vm_map documents, up to those of the place.
    fn mapping(&self, map: MapId, args: &vm_map::VmMap, object: PortRef) -> Result<Mapping, Kern> {
        let mut mapping = Mapping::check(map, args)?;
        let purgeable = mapping.place.flags.contains(MapFlags::PURGABLE);
        if purgeable && (object != PortRef::None || page_of(mapping.place.size) > PURGEABLE_MAX) {
            return Err(Kern::InvalidArgument);
        }
        match object {
            PortRef::None | PortRef::Foreign(_) => mapping.place_at(args, 0, false)?,
            PortRef::Own(PortOf::Copy(_)) => {
                let (_, copy) = self.copy_of(object)?;
                mapping.place_at(args, 0, false)?;
                mapping.within(copy.pages_size())?;
            }
            PortRef::Own(PortOf::Entry(_)) => {
                let (_, entry) = self.named_of(object)?;
                mapping.place_at(args, entry.data_offset, entry.kind.is_pieces())?;
                mapping.within(entry.size)?;
                mapping.allowed_by(&entry)?;
            }
            _ => return Err(Kern::InvalidArgument),
        }
        self.check_jit(map, mapping.protection)?;
        Ok(mapping)
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
        let flags = mapping.place.flags;
        self.enter_at(turn, call, entry, flags, mapping.reply(range))
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
        self.map_hidden(turn, call, mapping, (copy.map, mapping.window()))
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
}

/// What a vm_map asks for, its arguments checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(super) map: MapId,
    pub(super) place: Place,
    /// Of the first page, in the object.
    offset: u64,
    /// Place in its page of the byte whose address is the answer.
    data: u64,
    copy: bool,
    protection: Prot,
    pub(super) max_protection: Prot,
    /// Of each of the two, what a named entry does not give is left out, not refused.
    masks: (bool, bool),
    inheritance: Inherit,
    /// `None`: pieces keep theirs.
    tag: Option<u8>,
}

impl Mapping {
    /// What can be said without knowing the object; the place is not settled yet.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`.
    fn check(map: MapId, args: &vm_map::VmMap) -> Result<Mapping, Kern> {
        let flags = map_flags(args.flags, MapFlags::USER_MAP)?;
        let size = round_page(args.size).filter(|size| *size > 0);
        let size = size.ok_or(Kern::InvalidArgument)?;
        let protection = prot(args.protection & !VM_PROT_IS_MASK)?;
        let max_protection = prot(args.max_protection & !VM_PROT_IS_MASK)?;
        if !max_protection.contains(protection) {
            return Err(Kern::InvalidArgument);
        }
        let inheritance = Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?;
        let place = Place {
            address: trunc_page(args.address),
            size,
            mask: args.mask,
            flags,
        };
        let rights = (protection, max_protection);
        Ok(Mapping {
            masks: (
                args.protection & VM_PROT_IS_MASK != 0,
                args.max_protection & VM_PROT_IS_MASK != 0,
            ),
            ..Mapping::new(map, place, (args.offset, args.copy), rights, inheritance)
        })
    }

    /// A window from `offset` on, copied or not, with these current and maximum rights.
    pub(super) const fn new(
        map: MapId,
        place: Place,
        (offset, copy): (u64, bool),
        (protection, max_protection): (Prot, Prot),
        inheritance: Inherit,
    ) -> Mapping {
        Mapping {
            map,
            place,
            offset,
            data: 0,
            copy,
            protection,
            max_protection,
            masks: (false, false),
            inheritance,
            tag: Some(tag_of(place.flags)),
        }
    }

    /// Settles which pages are mapped. `first` is the place of the object's first byte, from which
    /// the offset counts if the address of a byte is wanted; `any` offset is taken where the object's
    /// memory is in pieces (rules 101, 102).
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`.
    fn place_at(&mut self, args: &vm_map::VmMap, first: u64, any: bool) -> Result<(), Kern> {
        let to_byte = self.place.flags.returns_data_address();
        let offset = match to_byte {
            true => args.offset.checked_add(first),
            false => Some(args.offset),
        };
        let offset = offset.ok_or(Kern::InvalidArgument)?;
        if !is_aligned(offset) && !to_byte && !any {
            return Err(Kern::InvalidArgument);
        }
        let window = Span::covering(offset, args.size)?;
        self.place.size = window.size();
        self.place.check_end(args.address, args.size)?;
        self.offset = window.start();
        if to_byte {
            self.data = offset & PAGE_MASK;
        }
        Ok(())
    }

    /// Checks that the window lies in something of `size` bytes, whose last page counts as a whole.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`.
    fn within(&self, size: u64) -> Result<(), Kern> {
        let size = round_page(size).unwrap_or(size);
        match self.window().end() <= size {
            true => Ok(()),
            false => Err(Kern::InvalidArgument),
        }
    }

    /// Holds flags and rights against a named entry's (rule 100).
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`, `KERN_INVALID_RIGHT`, `KERN_PROTECTION_FAILURE`.
    fn allowed_by(&mut self, entry: &NamedEntry) -> Result<(), Kern> {
        if entry.kind.is_pieces() {
            if !OF_PIECES.contains(self.place.flags) {
                return Err(Kern::InvalidArgument);
            }
            self.tag = self.tag.filter(|tag| *tag != 0);
        }
        if self.masks.0 {
            self.protection &= entry.protection;
        }
        if self.masks.1 {
            self.max_protection &= entry.protection;
        }
        if !entry.protection.contains(self.max_protection)
            || !entry.protection.contains(self.protection)
        {
            return Err(Kern::InvalidRight);
        }
        if self.copies() && !entry.protection.contains(Prot::READ) {
            return Err(Kern::ProtectionFailure);
        }
        Ok(())
    }

    /// The window of the object.
    fn window(&self) -> Span {
        let end = self.offset.saturating_add(self.place.size);
        // `place_at` made both ends of pages.
        Span::exact(self.offset, end).unwrap_or(Span::EMPTY)
    }

    /// The entry, of anonymous memory so far.
    pub(super) fn entry(&self, range: Span) -> Entry {
        Entry {
            protection: self.protection,
            max_protection: self.max_protection,
            inheritance: self.inheritance,
            tag: self.tag.unwrap_or(0),
            permanent: self.place.flags.contains(MapFlags::PERMANENT),
            ..Entry::anonymous(self.map, range.start(), range.end())
        }
    }

    /// Whether the mapping is to have memory of its own. For what has a hidden map a private mapping
    /// is a snapshot, which is a private mapping with one promise more (amendment A6).
    pub(super) const fn copies(&self) -> bool {
        self.copy || self.place.flags.contains(MapFlags::PRIVATE)
    }

    /// The window that is wanted of something of `size` bytes.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it leaves the thing.
    pub(super) fn window_of(&self, size: u64) -> Result<Span, Kern> {
        match self.offset.checked_add(self.place.size) {
            Some(_) => self.within(size).map(|()| self.window()),
            None => Err(Kern::InvalidArgument),
        }
    }

    /// Mapping a window of a hidden map at `range`.
    pub(super) fn copyout(&self, source: MapId, window: Span, range: Span, mode: Mode) -> CopyOut {
        let reply = Reply::map(self.reply(range));
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
                rights: Some((self.protection, self.max_protection)),
                inheritance: self.inheritance,
                tag: self.tag,
                permanent: self.place.flags.contains(MapFlags::PERMANENT),
            },
            clear,
            staged: None,
            cursor: window.start(),
            reply,
        }
    }

    const fn reply(&self, range: Span) -> vm_map::Reply {
        vm_map::Reply::VmMap(vm_map::VmMapReply {
            address: range.start().saturating_add(self.data),
        })
    }
}

#[cfg(test)]
mod tests;
