//! mach_make_memory_entry: a window of memory gets a port (rules 9 to 11, 81).

use ipc_abi::Kern;
use ipc_protocol::vm_map::{
    self, MAP_MEM_NAMED_CREATE, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, MachMakeMemoryEntry,
};

use super::vm_copy::{Then, Transfer};
use super::vm_map::{MapCall, Outcome, prot};
use crate::call::{Message, Reply};
use crate::event::{PortOf, PortRef};
use crate::machine::Machine;
use crate::named_entry::{NamedEntryId, Spans};
use crate::op::Progress;
use crate::range::{Span, round_page};
use crate::{Core, Turn};

impl Core {
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
            let id = self.named_create(call.map, size, protection)?;
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
}

pub(super) const fn made_entry(id: NamedEntryId, size: u64) -> Reply {
    let reply = vm_map::MachMakeMemoryEntryReply { size };
    Reply {
        message: Message::Map(vm_map::Reply::MachMakeMemoryEntry(reply)),
        right: Some(PortOf::Entry(id)),
    }
}
