//! The calls of `ipc_protocol::vm_share`: what makes memory appear a second time.
//!
//! A remapping takes the range out of its source into a hidden map, shared or copied, and then moves
//! that to its place: so it is whole or nothing, and may remap a range onto itself.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map;
use ipc_protocol::vm_share::{
    MachMemoryObjectMemoryEntry, MemoryObjectCreateProxy, Reply as Said, Request,
    VmMapReadPortReply, VmMapSetJit, VmRemap, VmRemapNew, VmRemapNewReply, VmRemapReply,
};

use super::vm_copy::{Then, Transfer};
use super::vm_map::{MapCall, Outcome, done, map_flags, prot};
use crate::call::{Message, Reply};
use crate::copy::Copy;
use crate::copy::copyout::{Attributes, CopyOut, Mode};
use crate::copy::sharein::{Found, Terms, is_jit};
use crate::event::{MapId, PortOf, PortRef};
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::remove::Remove;
use crate::op::Progress;
use crate::range::{PAGE_MASK, Span, round_page, trunc_page};
use crate::{Core, Turn};

/// A remapping, its arguments checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remap {
    pub(super) map: MapId,
    place: Place,
    /// Place of the first byte in its page.
    data: u64,
    inheritance: Inherit,
    /// Current and maximum rights; `None`: each piece keeps its own, and what all have is answered.
    rights: Option<(Prot, Prot)>,
}

/// What is remapped from where.
#[derive(Clone, Copy, Debug)]
struct Source {
    map: MapId,
    range: Span,
    copy: bool,
}

impl Core {
    /// Handles one of them.
    pub(super) fn call_share<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        request: Request,
    ) -> Outcome {
        match request {
            Request::VmRemap(args) => self.vm_remap(turn, call, args),
            Request::VmRemapNew(args) => self.vm_remap_new(turn, call, args),
            Request::VmMapReadPort(_) => Ok(Progress::Done(Some(Ok(carrying(
                Said::VmMapReadPort(VmMapReadPortReply {}),
                PortOf::MapRead(call.map),
            ))))),
            Request::MachMemoryObjectMemoryEntry(args) => {
                self.memory_object_entry(turn, call, args)
            }
            Request::MemoryObjectCreateProxy(args) => self.create_proxy(turn, call, args),
            Request::VmRegionCreateProxy(args) => self.region_create_proxy(turn, call, args),
            Request::VmMapSetJit(args) => {
                let [host, ..] = call.rights;
                self.check_host(host)?;
                let VmMapSetJit { allowed } = args;
                if let Some(map) = self.maps.get_mut(call.map) {
                    map.jit = allowed;
                }
                done(vm_map::Reply::Share(Said::VmMapSetJit(())))
            }
        }
    }

    /// Whether a map may have memory that is written and executed (amendment A9).
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: these rights are both, and it may not.
    pub(super) fn check_jit(&self, map: MapId, rights: Prot) -> Result<(), Kern> {
        match is_jit(rights) && self.maps.get(map).is_none_or(|map| !map.jit) {
            true => Err(Kern::ProtectionFailure),
            false => Ok(()),
        }
    }

    fn vm_remap<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmRemap,
    ) -> Outcome {
        let flags = map_flags(args.flags, MapFlags::USER_REMAP)?;
        let to_byte = flags.returns_data_address();
        let (source, size) = (args.source, args.size);
        let range = match to_byte {
            true => Span::covering(source, size),
            false => whole_pages(source, size),
        };
        let remap = Remap {
            map: call.map,
            place: Place {
                address: trunc_page(args.address),
                size,
                mask: args.mask,
                flags,
            },
            data: if to_byte { source & PAGE_MASK } else { 0 },
            inheritance: Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?,
            rights: None,
        };
        let copy = args.copy;
        let (remap, range) = remap.check(args.address, range, copy)?;
        let map = self.remap_source(call, copy)?;
        let terms = Terms::of(Prot::NONE, Prot::NONE).kept();
        self.remap(turn, call, Source { map, range, copy }, (remap, terms))
    }

    fn vm_remap_new<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmRemapNew,
    ) -> Outcome {
        let flags = map_flags(args.flags, MapFlags::USER_REMAP)?;
        let protection = prot(args.protection)?;
        let max_protection = prot(args.max_protection)?;
        if !max_protection.contains(protection) {
            return Err(Kern::InvalidArgument);
        }
        let remap = Remap {
            map: call.map,
            place: Place {
                address: trunc_page(args.address),
                size: args.size,
                mask: args.mask,
                flags,
            },
            data: args.source & PAGE_MASK,
            inheritance: Inherit::from_raw(args.inheritance).ok_or(Kern::InvalidArgument)?,
            rights: Some((protection, max_protection)),
        };
        let copy = args.copy;
        let range = Span::covering(args.source, args.size);
        let (remap, range) = remap.check(args.address, range, copy)?;
        let reads = copy || Prot::READ.contains(max_protection);
        let map = self.remap_source(call, reads)?;
        self.check_jit(call.map, protection)?;
        let terms = match copy {
            true => Terms::of(Prot::NONE, Prot::READ),
            false => Terms::of(protection, max_protection),
        };
        self.remap(
            turn,
            call,
            Source { map, range, copy },
            (remap, terms.kept()),
        )
    }

    /// The map in the slot; where it is only read, the read-only port will do.
    fn remap_source(&self, call: &MapCall, only_reads: bool) -> Result<MapId, Kern> {
        let [right, ..] = call.rights;
        let map = match right {
            PortRef::Own(PortOf::Map(map)) => map,
            PortRef::Own(PortOf::MapRead(map)) if only_reads => map,
            _ => return Err(Kern::InvalidArgument),
        };
        let alive = self.maps.get(map).filter(|map| !map.dying);
        alive.map(|_| map).ok_or(Kern::InvalidArgument)
    }

    fn remap<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        source: Source,
        (remap, terms): (Remap, Terms),
    ) -> Outcome {
        let then = Then::Remap(remap);
        let range = source.range;
        let work = match source.copy {
            true => {
                let work = self.copyin_on(source.map, range.start(), range.size(), terms)?;
                Transfer::new(work, then)
            }
            false => Transfer::sharing(self.sharein(source.map, range, terms, false)?, then),
        };
        self.transfer(turn, call, work)
    }

    /// What was taken out of the source goes to its place.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: a piece could be written and executed. Those of the place.
    pub(super) fn remap_out(
        &mut self,
        remap: &Remap,
        taken: &Copy,
        found: Found,
    ) -> Result<CopyOut, Kern> {
        if remap.rights.is_none() && found.any_jit {
            self.check_jit(remap.map, Prot::ALL)?;
        }
        let range = self.map_place(remap.map, remap.place)?;
        let reply = remap.reply(range, found);
        let overwrites = remap.place.flags.contains(MapFlags::OVERWRITE);
        Ok(CopyOut {
            source: taken.map,
            window: Span::exact(0, range.size()).ok_or(Kern::Failure)?,
            target: remap.map,
            address: range.start(),
            mode: Mode::Move,
            attributes: Attributes {
                rights: remap.rights,
                inheritance: remap.inheritance,
                tag: None,
                permanent: false,
            },
            clear: overwrites.then(|| Remove::for_another(remap.map, range, reply)),
            staged: None,
            cursor: 0,
            reply,
        })
    }
}

impl Remap {
    /// Settles the size; the place has that which was asked for. The range is that of the source.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`.
    fn check(
        mut self,
        address: u64,
        range: Result<Span, Kern>,
        copy: bool,
    ) -> Result<(Remap, Span), Kern> {
        let (range, bytes) = (range?, self.place.size);
        if bytes == 0 || self.place.flags.contains(MapFlags::RESILIENT_MEDIA) && !copy {
            return Err(Kern::InvalidArgument);
        }
        self.place.size = range.size();
        self.place.check_end(address, bytes)?;
        Ok((self, range))
    }

    fn reply(&self, range: Span, found: Found) -> Reply {
        let address = range.start().saturating_add(self.data);
        let common = (found.protection, found.max_protection);
        let (protection, max_protection) = self.rights.unwrap_or(common);
        let (protection, max_protection) = (
            u32::from(protection.bits()),
            u32::from(max_protection.bits()),
        );
        Reply::map(vm_map::Reply::Share(match self.rights {
            None => Said::VmRemap(VmRemapReply {
                address,
                protection,
                max_protection,
            }),
            Some(_) => Said::VmRemapNew(VmRemapNewReply {
                address,
                protection,
                max_protection,
            }),
        }))
    }
}

/// The slot of a request whose right goes on to its object.
pub(super) const fn kept(request: &Request) -> Option<usize> {
    match request {
        Request::MachMemoryObjectMemoryEntry(_) => Some(MachMemoryObjectMemoryEntry::PAGER),
        Request::MemoryObjectCreateProxy(_) => Some(MemoryObjectCreateProxy::OBJECT),
        _ => None,
    }
}

/// As many pages as `size` needs, from the page of `start` on: not always all that the bytes touch.
fn whole_pages(start: u64, size: u64) -> Result<Span, Kern> {
    Span::covering(start, size)?;
    let first = trunc_page(start);
    round_page(size)
        .and_then(|size| first.checked_add(size))
        .and_then(|end| Span::exact(first, end))
        .ok_or(Kern::InvalidArgument)
}

/// An answer with the right that it carries.
pub(super) const fn carrying(said: Said, port: PortOf) -> Reply {
    Reply {
        message: Message::Map(vm_map::Reply::Share(said)),
        right: Some(port),
    }
}

#[cfg(test)]
mod tests;
