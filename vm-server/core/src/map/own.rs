//! vm_protect with VM_PROT_COPY: a range becomes the map's own before it gets more rights than its
//! maximum allowed (rule 116).
//!
//! The range is mapped over itself copy-on-write, entry by entry: what others share keeps its contents,
//! what is the map's own already stays, and the maximum may be raised, as nobody else can tell. Then the
//! protection is set as ever. Memory that its strategy lets nobody copy on write is copied by pages or
//! by its pager; the lock is let go meanwhile, and an entry that has changed is begun anew (rule 35).

use core::cell::Cell;

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};

use super::entry::Entry;
use super::protect::SetAttributes;
use super::tree::Link;
use super::walk::{Holes, Pass, Walk};
use crate::copy::making::{Made, Making};
use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::object::strategy::{Copied, READ_ONLY};
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress};
use crate::range::Span;
use crate::{Core, Turn};

/// Making a range the map's own.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    walk: Walk,
    /// What the maximum is raised by.
    rights: Prot,
    /// Setting the protection afterwards.
    then: SetAttributes,
    /// Permanent entries show of another map: those are taken out of it, and that is all.
    nested: bool,
    /// There are permanent entries: those lose their rights, and that is all (rule 89).
    barred: bool,
    /// The entry at the cursor as it was when a copy of its memory was begun.
    making: Option<(Making, Entry)>,
}

/// How one entry went.
enum Went {
    /// It is the map's own.
    Done,
    /// It takes another step.
    More,
    /// The operation's waiter has been parked.
    Wait,
}

impl Own {
    /// Of a range, before `then` sets these rights.
    pub(crate) const fn new(map: MapId, range: Span, rights: Prot, then: SetAttributes) -> Own {
        Own {
            walk: Walk::new(map, range).through(),
            rights,
            then,
            nested: false,
            barred: false,
            making: None,
        }
    }

    /// The map that it works on, under its operation lock.
    pub(crate) const fn map(&self) -> MapId {
        self.walk.map
    }
}

impl Core {
    /// One step: up to [`BUDGET`] entries, or pages of one that is copied.
    ///
    /// # Errors
    /// In order of address: `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: memory that can
    /// never be read, or the slots of a tray. Nothing has changed. Then `KERN_PROTECTION_FAILURE`:
    /// permanent entries of a map that is shown. `KERN_NO_SPACE`: permanent entries. Later, with a
    /// prefix that is the map's own and has its old protection: `KERN_PROTECTION_FAILURE`: device
    /// registers. `KERN_MEMORY_ERROR`: a pager failed. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn own_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Own,
        waiter: u32,
    ) -> Progress {
        if work.walk.pass == Pass::Check {
            match self.own_check(work) {
                Err(code) => return Progress::Done(Some(Err(code))),
                Ok(()) if work.walk.is_blocked() => return Progress::Transit(work.walk.map),
                Ok(()) if work.walk.pass == Pass::Check => return Progress::More,
                Ok(()) => {}
            }
        }
        let went = self.own_some(turn, work, waiter);
        if let Ok(Progress::Done(_)) = went {
            // What was being copied may have been unmapped meanwhile, and all above it.
            self.own_end(work);
        }
        match went {
            Ok(Progress::Wait) => {
                // Nothing is held while a pager has the turn.
                self.op_unlock(waiter);
                Progress::Wait
            }
            Ok(Progress::Done(_)) if work.nested => {
                Progress::Done(Some(Err(Kern::ProtectionFailure)))
            }
            Ok(Progress::Done(_)) if work.barred => Progress::Done(Some(Err(Kern::NoSpace))),
            Ok(Progress::Done(_)) => self.set_attributes_step(turn, &mut work.then),
            Ok(progress) => progress,
            Err(code) => {
                self.own_end(work);
                Progress::Done(Some(Err(code)))
            }
        }
    }

    /// Gives up what is being copied.
    pub(crate) fn own_end(&mut self, work: &mut Own) {
        if let Some((making, _)) = work.making.take() {
            self.making_abandon(&making);
        }
    }

    fn own_check(&mut self, work: &mut Own) -> Result<(), Kern> {
        let (nested, barred) = (Cell::new(work.nested), Cell::new(work.barred));
        let look = |entry: &Entry| {
            if entry.is_tray || !entry.max_protection.contains(Prot::READ) {
                return Err(Kern::ProtectionFailure);
            }
            let seen = match entry.submap {
                Some(_) => &nested,
                None => &barred,
            };
            seen.set(seen.get() || entry.permanent);
            Ok(())
        };
        let checked = self.walk_check(&mut work.walk, Holes::Refused, look);
        work.nested = nested.get();
        work.barred = barred.get();
        checked
    }

    fn own_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Own,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        self.revoked = 0;
        for _ in 0..BUDGET {
            let link = self.walk_first(&work.walk);
            let Some(&entry) = self.walk_entry(&work.walk, link) else {
                return Ok(Progress::Done(None));
            };
            if self.revoked >= BUDGET {
                break;
            }
            if entry.in_transition {
                return Ok(Progress::Transit(work.walk.map));
            }
            if entry.submap.is_some() {
                self.own_shown(turn, work, link, &entry)?;
                continue;
            }
            let range = work.walk.range;
            if entry.start < range.start() || entry.end > range.end() {
                // While the lock was let go it was joined to what lies beside the range.
                self.map_clip(work.walk.map, range.start())?;
                self.map_clip(work.walk.map, range.end())?;
                continue;
            }
            if work.nested || work.barred {
                if work.barred && entry.permanent {
                    self.entry_bar(turn.machine, link);
                }
                work.walk.cursor = entry.end;
                continue;
            }
            match self.own_entry(turn, work, (link, entry), waiter)? {
                Went::Done => {}
                Went::More => return Ok(Progress::More),
                Went::Wait => return Ok(Progress::Wait),
            }
        }
        Ok(Progress::More)
    }

    /// Takes the first piece that shows of an entry out of it: it comes again as an entry.
    fn own_shown<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Own,
        link: Link,
        entry: &Entry,
    ) -> Result<(), Kern> {
        let range = work.walk.range;
        let from = work.walk.cursor.max(entry.start);
        match self.leaf_above(link.0, from) {
            Some(leaf) if leaf.start < range.end() => {
                self.unnest(turn.machine, (work.walk.map, &leaf), range)
            }
            _ => {
                work.walk.cursor = entry.end;
                Ok(())
            }
        }
    }

    /// Makes one entry the map's own, and raises its maximum.
    fn own_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Own,
        (link, entry): (Link, Entry),
        waiter: u32,
    ) -> Result<Went, Kern> {
        if let Some((making, begun)) = &mut work.making {
            let object = match self.making_step(turn, making, waiter)? {
                Made::More => return Ok(Went::More),
                Made::Wait => return Ok(Went::Wait),
                Made::Done(object) => object,
            };
            let same = is_same(begun, &entry);
            work.making = None;
            if !same {
                self.object_deallocate(object);
                return Ok(Went::More);
            }
            self.own_set(turn, link, (Some(object), 0, false), Prot::NONE);
            return Ok(self.own_raise(work, link));
        }
        if self.is_own(&entry) {
            return Ok(self.own_raise(work, link));
        }
        if entry.wired != 0 {
            // As when the range is unmapped: the new memory is not wired.
            self.entry_unwire_all(turn, link);
            return Ok(Went::More);
        }
        let pager = match self.entry_copy(turn, link.0)? {
            Copied::Quickly {
                object,
                offset,
                needs_copy,
                ..
            } => {
                self.own_set(turn, link, (object, offset, needs_copy), READ_ONLY);
                return Ok(self.own_raise(work, link));
            }
            Copied::Slowly => None,
            Copied::Ask(pager) => Some(pager),
            Copied::Again => return Ok(Went::More),
            Copied::Wait(pager) => {
                self.op_park(turn, waiter, WaitOn::Pager(pager));
                return Ok(Went::Wait);
            }
        };
        let making = self.making(turn, link.0, entry.map, pager)?;
        work.making = Some((making, entry));
        Ok(Went::More)
    }

    /// Whether nobody else sees what is written through an entry.
    fn is_own(&self, entry: &Entry) -> bool {
        let private = |id| {
            self.objects.get(id).is_some_and(|object| {
                object.is_internal()
                    && object.strategy == CopyStrategy::Symmetric
                    && !object.true_share
            })
        };
        entry.needs_copy || !entry.is_shared && entry.object.is_none_or(private)
    }

    /// Gives an entry other memory with the same contents. Of its translations stays `keep`.
    fn own_set<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: Link,
        (object, offset, needs_copy): (Option<ObjectId>, u64, bool),
        keep: Prot,
    ) {
        let Some(&entry) = self.entries.at(link.0) else {
            return;
        };
        if let Some(range) = Span::exact(entry.start, entry.end) {
            self.map_revoke(turn.machine, entry.map, range, keep);
        }
        let old = self.entry_set_object(link.0, object, offset, needs_copy);
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.is_shared = false;
        }
        if let Some(old) = old {
            self.object_deallocate(old);
        }
    }

    fn own_raise(&mut self, work: &mut Own, link: Link) -> Went {
        if let Some(entry) = self.entries.at_mut(link.0) {
            entry.max_protection |= work.rights;
            work.walk.cursor = entry.end;
        }
        Went::Done
    }
}

/// Whether an entry is still the one that it was.
fn is_same(one: &Entry, other: &Entry) -> bool {
    (one.start, one.end, one.object, one.offset)
        == (other.start, other.end, other.object, other.offset)
}

#[cfg(test)]
mod tests;
