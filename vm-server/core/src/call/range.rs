//! The calls of `ipc_protocol::vm_range`: shared maps, and ranges set aside.

use ipc_abi::Kern;
use ipc_abi::layout::USER_MAX;
use ipc_abi::types::{Inherit, MapFlags};
use ipc_protocol::vm_map;
use ipc_protocol::vm_range::{self, MACH_VM_RANGE_FLAVOR_V1, RANGES_MAX, Request};

use crate::call::map_object::Mapping;
use crate::call::vm_map::{MapCall, Outcome, done, prot};
use crate::call::{Message, Reply};
use crate::event::{MapId, PortOf};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::map::submap::seal::Seal;
use crate::named_entry::NamedEntry;
use crate::op::{Progress, Verb};
use crate::range::{Span, is_aligned};
use crate::{Core, Turn};

impl Core {
    /// Handles one of them.
    pub(super) fn call_range<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        request: Request,
    ) -> Outcome {
        match request {
            Request::VmMapCreate(args) => self.vm_map_create(call, args),
            Request::VmMapSeal(args) => self.vm_map_seal(turn, call, args),
            Request::VmMapSubmap(args) => self.vm_map_submap(call, args),
            Request::MachVmRangeCreate(args) => {
                let ranges = ranges_of(&args)?;
                self.reserve(call.map, &ranges)?;
                done(ranged(vm_range::Reply::MachVmRangeCreate(())))
            }
        }
    }

    fn vm_map_create(&mut self, call: &MapCall, args: vm_range::VmMapCreate) -> Outcome {
        if args.max > USER_MAX {
            return Err(Kern::InvalidArgument);
        }
        let map = self.shared_map(call.map, args.min, args.max)?;
        let reply = vm_range::Reply::VmMapCreate(vm_range::VmMapCreateReply {});
        Ok(Progress::Done(Some(Ok(Reply {
            message: Message::Map(ranged(reply)),
            right: Some(PortOf::Map(map)),
        }))))
    }

    fn vm_map_seal<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: vm_range::VmMapSeal,
    ) -> Outcome {
        let protection = prot(args.protection)?;
        if self.shared(call.map).is_none() {
            return Err(Kern::InvalidArgument);
        }
        let work = Seal::new(call.map, protection);
        self.call_begin(turn, call, work, Core::seal_step, Verb::Seal)
    }

    fn vm_map_submap(&mut self, call: &MapCall, args: vm_range::VmMapSubmap) -> Outcome {
        let (protection, max) = (prot(args.protection)?, prot(args.max_protection)?);
        let inheritance = Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?;
        let aligned = [args.address, args.size, args.offset]
            .iter()
            .all(|value| is_aligned(*value));
        if !aligned || args.size == 0 || !max.contains(protection) {
            return Err(Kern::InvalidArgument);
        }
        let [entry, ..] = call.rights;
        let (_, entry) = self.named_of(entry)?;
        let place = Place::asked(args.address, args.size, MapFlags::empty());
        let what = (args.offset, args.copy);
        let mapping = Mapping::new(call.map, place, what, (protection, max), inheritance);
        let end = args.address.checked_add(args.size);
        let range = end
            .and_then(|end| Span::exact(args.address, end))
            .filter(|range| self.is_reserved(call.map, *range))
            .filter(|range| self.map_is_free(call.map, *range))
            .ok_or(Kern::InvalidArgument)?;
        let entry = self.submap_entry(&mapping, entry, range)?;
        self.map_enter(entry)?;
        done(ranged(vm_range::Reply::VmMapSubmap(())))
    }

    /// The entry that a mapping of a named entry which stands for a sealed map becomes.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it stands for none, or the window leaves it. `KERN_INVALID_RIGHT`: more
    /// protection than it allows.
    pub(super) fn submap_entry(
        &self,
        mapping: &Mapping,
        entry: NamedEntry,
        range: Span,
    ) -> Result<Entry, Kern> {
        let window = mapping.window_of(entry.size)?;
        let min = self.sealed_min(entry.map).ok_or(Kern::InvalidArgument)?;
        if window.start() < min {
            return Err(Kern::InvalidArgument);
        }
        let flags = MapFlags::PERMANENT.union(MapFlags::PURGABLE);
        if mapping.place.flags.intersects(flags) || mapping.place.flags.returns_data_address() {
            return Err(Kern::InvalidArgument);
        }
        if !entry.protection.contains(mapping.max_protection) {
            return Err(Kern::InvalidRight);
        }
        let copies = mapping.copies();
        Ok(Entry {
            submap: Some(entry.map),
            offset: window.start(),
            needs_copy: copies,
            is_shared: !copies,
            ..mapping.entry(range)
        })
    }

    /// The lowest address of a sealed map.
    fn sealed_min(&self, map: MapId) -> Option<u64> {
        let record = self.maps.get(map)?;
        record.shared.filter(|shared| shared.sealed)?;
        Some(record.min())
    }
}

/// The ranges of a request.
fn ranges_of(args: &vm_range::MachVmRangeCreate) -> Result<heapless::Vec<Span, RANGES_MAX>, Kern> {
    let count = args.count as usize;
    if args.flavor != MACH_VM_RANGE_FLAVOR_V1 || count == 0 || count > RANGES_MAX {
        return Err(Kern::InvalidArgument);
    }
    let mut ranges = heapless::Vec::new();
    for (start, size) in args.starts.iter().zip(&args.sizes).take(count) {
        let range = start
            .checked_add(*size)
            .filter(|end| *size > 0 && is_aligned(*start) && is_aligned(*end))
            .and_then(|end| Span::exact(*start, end))
            .ok_or(Kern::InvalidArgument)?;
        ranges.push(range).map_err(|_| Kern::InvalidArgument)?;
    }
    Ok(ranges)
}

const fn ranged(reply: vm_range::Reply) -> vm_map::Reply {
    vm_map::Reply::Range(reply)
}
