//! Making a shared map, and sealing it: what it holds is settled, so that nothing in it changes again.
//!
//! Settled means: each entry has an object that is shared for good, so a copy of it never marks the
//! entry, and a write through it never makes a shadow. A map that shows others is one level higher
//! than those; as only sealed maps are shown, and sealed maps never show more, none shows itself.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::{vm_map, vm_range};

use super::{LEVELS, NAMES, Shared, WEIGHT};
use crate::call::{Message, Reply};
use crate::event::{MapId, PortOf};
use crate::machine::Machine;
use crate::map::tree::Tree;
use crate::named_entry::{Kind, NamedEntry};
use crate::op::{BUDGET, Progress};
use crate::range::is_aligned;
use crate::{Core, Turn};

/// Sealing a map.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    map: MapId,
    /// Everything below this is settled.
    cursor: u64,
    level: u8,
    weight: u32,
    /// The most that a mapping through the named entry may allow.
    protection: Prot,
}

impl Seal {
    /// Of a map, for a named entry.
    pub(crate) const fn new(map: MapId, protection: Prot) -> Seal {
        Seal {
            map,
            cursor: 0,
            level: 1,
            weight: 1,
            protection,
        }
    }
}

impl Core {
    /// An empty shared map of `[min, max)`, with the limits of `payer`. Its port is its one name.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: not on pages, or empty. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn shared_map(&mut self, payer: MapId, min: u64, max: u64) -> Result<MapId, Kern> {
        if !is_aligned(min) || !is_aligned(max) || min >= max {
            return Err(Kern::InvalidArgument);
        }
        let map = self.hidden_map(payer, max)?;
        if let Some(record) = self.maps.get_mut(map) {
            record.tree = Tree::new(min, max);
            record.shared = Some(Shared::NEW);
        }
        Ok(map)
    }

    /// One step of sealing: up to [`BUDGET`] entries.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: the slots of a tray lie in the map. `KERN_INVALID_ARGUMENT`: more
    /// than [`LEVELS`] maps above one another, or [`WEIGHT`] in all. `KERN_RESOURCE_SHORTAGE`. It is
    /// not sealed then.
    pub(crate) fn seal_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Seal,
    ) -> Progress {
        if !self.map_is_sealed(work.map) {
            match self.seal_some(turn, work) {
                Ok(true) => {}
                Ok(false) => return Progress::More,
                Err(code) => return Progress::Done(Some(Err(code))),
            }
        }
        Progress::Done(Some(self.sealed(work)))
    }

    /// Settles entries. Says whether all are.
    fn seal_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Seal,
    ) -> Result<bool, Kern> {
        for _ in 0..BUDGET {
            let record = self.maps.get(work.map).filter(|map| !map.dying);
            let tree = &record.ok_or(Kern::Terminated)?.tree;
            let link = tree.find_or_above(&self.entries, work.cursor);
            let Some(entry) = self.entries.at(link.0).copied() else {
                return Ok(true);
            };
            work.cursor = entry.end;
            let Some(shown) = entry.submap.and_then(|map| self.shared(map)) else {
                let (object, _) = self.entry_share(turn, link.0)?;
                self.object_unreference(Some(object));
                self.collapse_hint(object);
                continue;
            };
            work.level = work.level.max(shown.level.saturating_add(1));
            work.weight = work.weight.saturating_add(shown.weight);
            if usize::from(work.level) > LEVELS || work.weight > WEIGHT {
                return Err(Kern::InvalidArgument);
            }
        }
        Ok(false)
    }

    /// Everything is settled: the map is sealed, and a named entry stands for it.
    fn sealed(&mut self, work: &Seal) -> Result<Reply, Kern> {
        let record = self.maps.get(work.map).ok_or(Kern::Terminated)?;
        let size = record.max();
        if record.shared.is_none_or(|shared| shared.names >= NAMES) {
            return Err(Kern::ResourceShortage);
        }
        let entry = NamedEntry::new(work.map, size, work.protection, Kind::Map);
        let id = self.named.insert(entry)?;
        if let Some(shared) = self.shared_mut(work.map) {
            if !shared.sealed {
                shared.level = work.level;
                shared.weight = work.weight;
            }
            shared.sealed = true;
            shared.names = shared.names.saturating_add(1);
        }
        let reply = vm_range::Reply::VmMapSeal(vm_range::VmMapSealReply { size });
        Ok(Reply {
            message: Message::Map(vm_map::Reply::Range(reply)),
            right: Some(PortOf::Entry(id)),
        })
    }
}
