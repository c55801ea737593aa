//! Handles to memory of pagers: mach_memory_object_memory_entry and the two kinds of proxy.
//!
//! All three are named entries. Whoever maps one gets no more than its window and its protection,
//! whatever the memory object's own port would give.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::vm_share::{
    MachMemoryObjectMemoryEntry, MachMemoryObjectMemoryEntryReply, MemoryObjectCreateProxy,
    MemoryObjectCreateProxyReply, Reply as Said, VmRegionCreateProxy,
};

use super::entry::{Answers, Naming};
use super::share::carrying;
use super::vm_map::{MapCall, Outcome, prot};
use crate::effect::Effect;
use crate::event::{PortOf, PortRef};
use crate::machine::Machine;
use crate::named_entry::{Kind, NamedEntryId};
use crate::object::{Kind as ObjectKind, Object};
use crate::op::Progress;
use crate::range::{Span, is_aligned, round_page, trunc_page};
use crate::{Core, Turn};

impl Core {
    pub(super) fn memory_object_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: MachMemoryObjectMemoryEntry,
    ) -> Outcome {
        let [host, pager, ..] = call.rights;
        let made = self.check_host(host).and_then(|()| {
            let size = round_page(args.size).filter(|size| *size > 0);
            let size = size.ok_or(Kern::InvalidArgument)?;
            Ok((size, prot(args.protection)?))
        });
        let (size, protection) = self.or_release(turn, pager, made)?;
        let id = match pager {
            PortRef::None if args.internal => {
                let object = Object {
                    strategy: CopyStrategy::Delay,
                    ..Object::new(ObjectKind::Internal, size, Some(call.map))
                };
                self.named_create(call.map, object, protection)?
            }
            PortRef::Foreign(port) => {
                let object = self.object_of_port(turn, port)?;
                self.named_of_object(call.map, object, (0, size), protection)?
            }
            _ => return Err(Kern::InvalidArgument),
        };
        let said = Said::MachMemoryObjectMemoryEntry(MachMemoryObjectMemoryEntryReply {});
        named(said, id)
    }

    pub(super) fn create_proxy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: MemoryObjectCreateProxy,
    ) -> Outcome {
        let [right, ..] = call.rights;
        let checked = proxy_window(&args);
        let (window, protection) = self.or_release(turn, right, checked)?;
        match right {
            PortRef::None | PortRef::Dead(_) => Err(Kern::InvalidName),
            PortRef::Foreign(port) => {
                let object = self.object_of_port(turn, port)?;
                let window = (window.start(), window.size());
                let id = self.named_of_object(call.map, object, window, protection)?;
                let said = MemoryObjectCreateProxyReply {};
                named(Said::MemoryObjectCreateProxy(said), id)
            }
            right => {
                let (_, below) = self.named_of(right)?;
                let end = round_page(below.size).unwrap_or(below.size);
                let window = Span::exact(window.start(), window.end().min(end))
                    .filter(|window| !window.is_empty())
                    .ok_or(Kern::InvalidArgument)?;
                let protection = protection & below.protection;
                let mut naming = Naming::proxy(window, protection, Answers::ObjectProxy);
                naming.cache = below.cache;
                naming.kind = match below.kind {
                    Kind::Object => Kind::Object,
                    // Of a snapshot it is a window that all share.
                    Kind::Copy | Kind::Share | Kind::Map => Kind::Share,
                };
                self.entry_make(turn, call, (below.map, window), naming)
            }
        }
    }

    pub(super) fn region_create_proxy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmRegionCreateProxy,
    ) -> Outcome {
        let protection = prot(args.max_protection)?;
        let map = self.maps.get(call.map).ok_or(Kern::Terminated)?;
        let link = map.tree.find_or_above(&self.entries, args.address);
        let entry = *self.entries.at(link.0).ok_or(Kern::NoSpace)?;
        let start = trunc_page(args.address).max(entry.start);
        let room = entry.end.saturating_sub(start);
        if entry.submap.is_some() || args.length == 0 || args.length > room {
            return Err(Kern::InvalidArgument);
        }
        let range = Span::covering(start, args.length)?;
        let protection = protection & entry.max_protection;
        let naming = Naming::proxy(range, protection, Answers::RegionProxy(start));
        self.entry_make(turn, call, (call.map, range), naming)
    }

    /// Gives the right to a memory object back if the call fails before its object has it.
    fn or_release<M: Machine, T>(
        &mut self,
        turn: &mut Turn<'_, M>,
        right: PortRef,
        result: Result<T, Kern>,
    ) -> Result<T, Kern> {
        if let (Err(_), PortRef::Foreign(port)) = (&result, right) {
            turn.effects.push(Effect::Release(port, 1));
        }
        result
    }
}

/// Checks what a proxy is to show.
fn proxy_window(args: &MemoryObjectCreateProxy) -> Result<(Span, Prot), Kern> {
    if args.count != 1 || args.offset != 0 || !is_aligned(args.start) {
        return Err(Kern::InvalidArgument);
    }
    let window = Span::covering(args.start, args.length)?;
    let protection = prot(args.max_protection)?;
    match window.is_empty() {
        true => Err(Kern::InvalidArgument),
        false => Ok((window, protection)),
    }
}

fn named(said: Said, id: NamedEntryId) -> Outcome {
    Ok(Progress::Done(Some(Ok(carrying(said, PortOf::Entry(id))))))
}

#[cfg(test)]
mod tests;
