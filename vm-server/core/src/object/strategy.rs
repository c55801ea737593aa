//! How the memory of a map entry is copied or shared: vm_object_copy_strategically and its kin.
//!
//! A *symmetric* copy makes both sides copy-on-write and costs nothing now. A *delayed* copy hangs
//! a copy object over the source: whoever writes the source pushes the old page there first. With
//! strategy NONE pages are copied one by one, with CALL the pager makes the copy; both take time and
//! are the caller's work ([`crate::copy::making`]). Sharing an entry first settles what it owes to
//! symmetric copies.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};

use crate::event::ObjectId;
use crate::id::Id;
use crate::machine::Machine;
#[cfg(doc)]
use crate::machine::REVOKE_MAX;
use crate::map::entry::Entry;
use crate::object::lower::Lowered;
use crate::object::{Kind, Object, pager};
use crate::range::Span;
use crate::{Core, Turn};

/// What a copy of one entry's memory is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Copied {
    /// Map this object (one more reference, now the caller's) from `offset` on.
    Quickly {
        /// The object; `None`: untouched anonymous memory.
        object: Option<ObjectId>,
        /// Offset in it of the entry's first byte.
        offset: u64,
        /// The new mapping has to copy before it writes.
        needs_copy: bool,
        /// The source's translations must lose WRITE before the copy is used.
        lower: bool,
    },
    /// The pages have to be copied, from this object.
    Slowly,
    /// This pager is to make the copy.
    Ask(Id<pager::Pager>),
    /// Not yet: more than [`REVOKE_MAX`] entries map the object. The same again goes on with the rest.
    Again,
    /// The pager is not ready, so the strategy is not known yet (rule 2).
    Wait(Id<pager::Pager>),
}

const UNTOUCHED: Copied = Copied::Quickly {
    object: None,
    offset: 0,
    needs_copy: false,
    lower: false,
};

/// Rights that a translation keeps when its page becomes copy-on-write.
pub(crate) const READ_ONLY: Prot = Prot::READ.union(Prot::EXECUTE);

impl Core {
    /// Copies the memory of a whole entry, as its object's strategy says. The entry's protection is
    /// not looked at.
    ///
    /// Source: rules 5 to 19, 28, 31.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: device or tray memory, which is never copied (rule 197).
    /// `KERN_RESOURCE_SHORTAGE`: no record for a copy object; nothing has changed.
    pub(crate) fn entry_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
    ) -> Result<Copied, Kern> {
        let Some(&entry) = self.entries.at(link) else {
            return Err(Kern::InvalidAddress);
        };
        let Some(id) = entry.object else {
            return Ok(UNTOUCHED);
        };
        let object = self.objects.get(id).ok_or(Kern::InvalidAddress)?;
        match object.kind {
            Kind::Device { .. } | Kind::Tray(_) => return Err(Kern::ProtectionFailure),
            Kind::Internal | Kind::External => {}
        }
        if entry.wired != 0 {
            return Ok(Copied::Slowly);
        }
        if entry.needs_copy || self.is_symmetric(id, &entry) {
            return Ok(self.copy_quickly(id, link));
        }
        if let Some(pager) = object.pager
            && let Some(record) = self.pagers.get(pager)
            && record.is_beginning()
        {
            return Ok(Copied::Wait(pager));
        }
        match object.strategy {
            CopyStrategy::None => Ok(Copied::Slowly),
            CopyStrategy::Call => Ok(match self.pager_of(id) {
                Some((pager, record)) if record.state == pager::State::Ready => Copied::Ask(pager),
                _ => Copied::Slowly,
            }),
            CopyStrategy::Delay | CopyStrategy::Symmetric => {
                let size = entry.offset.saturating_add(entry.size());
                Ok(match self.copy_delayed(turn, id, size)? {
                    Ok(copy) => Copied::Quickly {
                        object: Some(copy),
                        offset: entry.offset,
                        needs_copy: true,
                        lower: false,
                    },
                    Err(Lowered::No) => Copied::Slowly,
                    Err(_) => Copied::Again,
                })
            }
        }
    }

    /// Whether only this entry writes the object directly, so that making the entry copy-on-write
    /// is enough (rule 9).
    pub(crate) fn is_symmetric(&self, id: ObjectId, entry: &Entry) -> bool {
        self.objects.get(id).is_some_and(|object| {
            object.is_internal()
                && object.strategy == CopyStrategy::Symmetric
                && !object.true_share
                && !entry.is_shared
        })
    }

    /// vm_object_copy_quickly: source and copy both copy before they write (rule 5).
    fn copy_quickly(&mut self, id: ObjectId, link: u32) -> Copied {
        self.object_reference(id);
        if let Some(object) = self.objects.get_mut(id) {
            object.shadowed = true;
        }
        let mut lower = false;
        let mut offset = 0;
        if let Some(entry) = self.entries.at_mut(link) {
            lower = !entry.needs_copy;
            entry.needs_copy = true;
            offset = entry.offset;
        }
        Copied::Quickly {
            object: Some(id),
            offset,
            needs_copy: true,
            lower,
        }
    }

    /// vm_object_copy_delayed: an object that shows the first `size` bytes of `source` as they are
    /// now. One reference is the caller's. Else how far those that map it could be lowered.
    ///
    /// A copy object that got no page yet is used again (rule 17); one that did is shadowed by the
    /// new one, and gets no more (rule 18).
    fn copy_delayed<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: ObjectId,
        size: u64,
    ) -> Result<Result<ObjectId, Lowered>, Kern> {
        let old = self.objects.get(source).and_then(|object| object.copy);
        let unused = old.filter(|copy| {
            let copy = self.objects.get(*copy);
            copy.is_some_and(|copy| copy.pages.used() == 0)
        });
        let grows = unused
            .and_then(|copy| self.objects.get(copy))
            .is_none_or(|copy| copy.size < size);
        if unused.is_none() {
            // Nobody is to be lowered for a copy that cannot be made.
            self.objects.reserve_one()?;
        }
        if grows {
            match self.lower_mappings(turn.machine, source) {
                Lowered::Whole => {}
                lowered => return Ok(Err(lowered)),
            }
        }
        if let Some(copy) = unused {
            if let Some(object) = self.objects.get_mut(copy) {
                object.size = object.size.max(size);
            }
            self.object_reference(copy);
            return Ok(Ok(copy));
        }
        let covered = old
            .and_then(|copy| self.objects.get(copy))
            .map_or(0, |copy| copy.size);
        let payer = self.payer_of(source);
        let copy = self.object_insert(Object::new(Kind::Internal, size.max(covered), payer))?;
        self.object_reference(source);
        self.shadow_link(copy, source, 0);
        if let Some(older) = old {
            self.shadow_unlink(older);
            self.object_reference(copy);
            self.shadow_link(older, copy, 0);
            self.object_unreference(Some(source));
            // It awaits no pages any more: whoever alone holds it may take it in.
            self.collapse_hint_below(older);
        }
        if let Some(object) = self.objects.get_mut(source) {
            object.copy = Some(copy);
        }
        Ok(Ok(copy))
    }

    /// Makes an entry's object one that others may map and write too: symmetric obligations are
    /// settled by a shadow first, then the object is asymmetric for ever (rules 9 to 11, 126).
    ///
    /// Gives the object, with one more reference, and the offset of the entry's first byte in it.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`: a tray, which is never shared. `KERN_RESOURCE_SHORTAGE`: no record;
    /// nothing has changed.
    pub(crate) fn entry_share<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
    ) -> Result<(ObjectId, u64), Kern> {
        let Some(&entry) = self.entries.at(link) else {
            return Err(Kern::InvalidAddress);
        };
        let id = match entry.object {
            Some(id) => id,
            None => self.entry_own_object(link)?,
        };
        let object = self.objects.get(id).ok_or(Kern::InvalidAddress)?;
        if matches!(object.kind, Kind::Tray(_)) {
            return Err(Kern::ProtectionFailure);
        }
        let owes = object.is_internal()
            && !object.true_share
            && (object.shadowed || object.size > entry.size());
        let id = if entry.needs_copy || owes {
            let shadow = self.entry_shadow(link)?;
            if !entry.needs_copy && entry.protection.contains(Prot::WRITE) {
                self.entry_lower(turn.machine, &entry);
            }
            shadow
        } else {
            id
        };
        self.object_reference(id);
        let offset = self.entries.at(link).map_or(0, |entry| entry.offset);
        if let Some(object) = self.objects.get_mut(id) {
            object.true_share = true;
            if object.strategy == CopyStrategy::Symmetric {
                object.strategy = CopyStrategy::Delay;
            }
        }
        if let Some(entry) = self.entries.at_mut(link) {
            entry.is_shared = true;
        }
        Ok((id, offset))
    }

    /// Takes WRITE from the translations of an entry's range.
    pub(crate) fn entry_lower<M: Machine>(&mut self, machine: &mut M, entry: &Entry) {
        if let Some(range) = Span::exact(entry.start, entry.end) {
            self.map_revoke(machine, entry.map, range, READ_ONLY);
        }
    }
}

#[cfg(test)]
mod tests;
