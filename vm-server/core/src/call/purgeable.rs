//! vm_purgable_control, by address and by named entry (rule 203).

use ipc_abi::Kern;
use ipc_abi::types::{Prot, purgeable as word};
use ipc_protocol::memory_entry::{self, MachMemoryEntryPurgableControl};
use ipc_protocol::vm_advice::{self, VmPurgableControl, VmPurgableControlReply};
use ipc_protocol::vm_map;

use super::vm_map::{MapCall, Outcome};
use crate::call::{Message, Reply};
use crate::effect::Answer;
use crate::event::{MapId, ObjectId, ReplyTo};
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::named_entry::NamedEntryId;
use crate::object::purgeable::{Purge, State};
use crate::op::{BUDGET, Progress, Verb};
use crate::{Core, Turn};

#[cfg(test)]
mod tests;

/// Emptying, in steps, and the answer to it.
#[derive(Clone, Copy, Debug)]
pub struct Purging {
    now: Option<Purge>,
    /// All volatile objects of this map, from this address on.
    all: Option<(MapId, u64)>,
    reply: Reply,
}

impl Core {
    /// vm_purgable_control.
    ///
    /// # Errors
    /// In the order that the message says.
    pub(super) fn vm_purgable_control<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmPurgableControl,
    ) -> Outcome {
        let mut purging = Purging {
            now: None,
            all: None,
            reply: by_address(0),
        };
        match args.control {
            word::PURGE_ALL => {
                purging.all = Some((call.map, 0));
                purging.reply = by_address(args.state);
            }
            word::GET_STATE => {
                let object = self.purgeable_at(call.map, args.address, Prot::NONE)?;
                purging.reply = by_address(self.purgeable_get(object)?);
            }
            word::SET_STATE if args.state & !word::ALL_MASKS != 0 => {
                return Err(Kern::InvalidArgument);
            }
            word::SET_STATE => {
                let object = self.purgeable_at(call.map, args.address, Prot::WRITE)?;
                let (before, rest) = self.purgeable_set(object, args.state)?;
                purging.reply = by_address(before);
                purging.now = rest;
            }
            _ => return Err(Kern::InvalidArgument),
        }
        self.purging_begin(turn, purging, call.reply)
    }

    /// mach_memory_entry_purgable_control.
    ///
    /// # Errors
    /// In the order that the message says.
    pub(super) fn entry_purgable_control<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (id, args): (NamedEntryId, MachMemoryEntryPurgableControl),
        reply: ReplyTo,
    ) -> Option<Answer> {
        let purging = match self.call_room() {
            Ok(()) => self.entry_purging(id, args),
            Err(code) => Err(code),
        };
        match purging.and_then(|purging| self.purging_begin(turn, purging, reply)) {
            Ok(Progress::Done(answer)) => answer,
            Ok(_) => None,
            Err(code) => Some(Err(code)),
        }
    }

    fn entry_purging(
        &mut self,
        id: NamedEntryId,
        args: MachMemoryEntryPurgableControl,
    ) -> Result<Purging, Kern> {
        let named = *self.named.get(id).ok_or(Kern::Terminated)?;
        let set = match args.control {
            word::SET_STATE => true,
            word::GET_STATE => false,
            _ => return Err(Kern::InvalidArgument),
        };
        if set && args.state & !word::ALL_MASKS != 0 {
            return Err(Kern::InvalidArgument);
        }
        let object = self
            .purgeable_at(named.map, 0, Prot::NONE)
            .map_err(|_| Kern::InvalidArgument)?;
        let mut purging = Purging {
            now: None,
            all: None,
            reply: by_entry(0),
        };
        if !set {
            purging.reply = by_entry(self.purgeable_get(object)?);
            return Ok(purging);
        }
        if !named.protection.contains(Prot::WRITE) {
            return Err(Kern::ProtectionFailure);
        }
        let (before, rest) = self.purgeable_set(object, args.state)?;
        purging.reply = by_entry(before);
        purging.now = rest;
        Ok(purging)
    }

    /// The purgeable object that is mapped whole at an address.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: nothing is mapped there, or another map. `KERN_PROTECTION_FAILURE`: the
    /// rights are missing. `KERN_INVALID_ARGUMENT`: it is no purgeable object, or a part of one.
    fn purgeable_at(&self, map: MapId, address: u64, rights: Prot) -> Result<ObjectId, Kern> {
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        let link = record.tree.find(&self.entries, address);
        let entry = self.entries.at(link.0).ok_or(Kern::InvalidAddress)?;
        if entry.submap.is_some() {
            return Err(Kern::InvalidAddress);
        }
        if !entry.protection.contains(rights) {
            return Err(Kern::ProtectionFailure);
        }
        self.purgeable_whole(entry).ok_or(Kern::InvalidArgument)
    }

    /// The purgeable object of an entry that shows all of it.
    fn purgeable_whole(&self, entry: &Entry) -> Option<ObjectId> {
        let id = entry.object?;
        let object = self.objects.get(id)?;
        let whole = entry.offset == 0 && entry.size() == object.size;
        (whole && object.purgeable.state != State::Deny).then_some(id)
    }

    fn purging_begin<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        mut purging: Purging,
        reply: ReplyTo,
    ) -> Outcome {
        let progress = self.purging_step(turn, &mut purging);
        if progress != Progress::More {
            return Ok(progress);
        }
        // There is a record: it was made sure of before anything was emptied.
        self.op_start(Verb::Purge(purging), reply, None, turn.now)?;
        Ok(Progress::More)
    }

    /// One step: up to [`BUDGET`] pages, or entries.
    pub(crate) fn purging_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Purging,
    ) -> Progress {
        if let Some(now) = &mut work.now {
            if self.purge_object_step(turn.machine, now) {
                work.now = None;
            }
        } else if let Some((map, next)) = work.all.take() {
            (work.now, work.all) = self.purge_search(map, next);
        }
        match (&work.now, &work.all) {
            (None, None) => Progress::Done(Some(Ok(work.reply))),
            _ => Progress::More,
        }
    }

    /// The next volatile object of a map, and where to go on.
    fn purge_search(&mut self, map: MapId, next: u64) -> (Option<Purge>, Option<(MapId, u64)>) {
        let Some(record) = self.maps.get(map).filter(|map| !map.dying) else {
            return (None, None);
        };
        let mut next = next;
        let mut link = record.tree.find_or_above(&self.entries, next);
        for _ in 0..BUDGET {
            let Some(entry) = self.entries.at(link.0) else {
                return (None, None);
            };
            (next, link) = (entry.end, entry.hooks.next);
            let object = self.purgeable_whole(entry);
            if let Some(id) = object
                && self.purgeable_get(id) == Ok(word::VOLATILE)
                && let Ok((_, rest)) = self.purgeable_set(id, word::EMPTY)
            {
                return (rest, Some((map, next)));
            }
        }
        (None, Some((map, next)))
    }
}

const fn by_address(state: u32) -> Reply {
    Reply::map(vm_map::Reply::Advice(vm_advice::Reply::VmPurgableControl(
        VmPurgableControlReply { state },
    )))
}

const fn by_entry(state: u32) -> Reply {
    let said = memory_entry::MachMemoryEntryPurgableControlReply { state };
    Reply {
        message: Message::Entry(memory_entry::Reply::MachMemoryEntryPurgableControl(said)),
        right: None,
    }
}
