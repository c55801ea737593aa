//! vm_map_fork: a child's map by inheritance (rules 120 to 130).
//!
//! The child is built detached, entry by entry, under the parent's operation lock, and its port is
//! made at the end. Per entry the snapshot is exact; between steps the parent's threads go on, so
//! over the map as a whole it is not (rule 129). Translations of a step's entries lose WRITE before
//! the step ends, hence before anybody can write what the child took.
//!
//! On failure the child is torn down; what the parent keeps are harmless copy-on-write marks.

mod run;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map;

use super::Map;
use super::entry::Entry;
use super::tree::Link;
use crate::call::{Message, Reply};
use crate::copy::making::{Made, Making};
use crate::event::{MapId, PortOf};
use crate::machine::Machine;
use crate::object::strategy::Copied;
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress};
use crate::reclaim::inherit::Parked;
use crate::{Core, Turn};
use run::Lowering;

/// Making a child's map.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    parent: MapId,
    child: MapId,
    /// Everything of the parent below this is in the child.
    cursor: u64,
    /// The entry whose pages are being copied, and what the child gets but for its object.
    making: Option<(Making, Entry)>,
}

/// What became of one entry.
enum Forked {
    /// It is in the child, or has no place there. `true`: its translations have to lose WRITE.
    Done(bool),
    /// Its pages are being copied.
    Slowly,
    /// It takes more steps; the same entry comes again.
    Again,
    /// The step has parked the operation; the same entry comes again.
    Wait,
}

impl Core {
    /// An empty map for a new task, with the bounds and limits of `parent`.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the parent has ended. `KERN_RESOURCE_SHORTAGE`: no record.
    pub(crate) fn map_child(&mut self, parent: MapId) -> Result<MapId, Kern> {
        let like = self.maps.get(parent).ok_or(Kern::Terminated)?;
        let mut child = Map::new(like.min(), like.max());
        child.jit = like.jit;
        child.account = self.account_of_child(parent);
        let child = self.maps.insert(child)?;
        self.family_join(child, parent);
        match self.reserve_like(parent, child) {
            Ok(()) => Ok(child),
            Err(code) => {
                self.map_end(child);
                Err(code)
            }
        }
    }

    /// One step of forking: up to [`BUDGET`] entries, or as many pages of one.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the parent has ended. `KERN_RESOURCE_SHORTAGE`. `KERN_MEMORY_ERROR`: a pager
    /// failed while pages were copied.
    pub(crate) fn fork_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Fork,
        waiter: u32,
    ) -> Progress {
        let outcome = match self.op_lock(turn, waiter, work.parent) {
            Ok(true) => match work.making.take() {
                Some(making) => self.fork_making_step(turn, work, making, waiter),
                None => self.fork_some(turn, work, waiter),
            },
            // Another has the lock: parked.
            Ok(false) => return Progress::Wait,
            Err(code) => Err(code),
        };
        match outcome {
            // Nothing is held while a pager has the turn.
            Ok(Progress::Wait) => {
                self.op_unlock(waiter);
                Progress::Wait
            }
            Ok(progress) => progress,
            Err(code) => {
                self.fork_end(work);
                Progress::Done(Some(Err(code)))
            }
        }
    }

    /// Gives up a fork: the child is torn down.
    pub(crate) fn fork_end(&mut self, work: &mut Fork) {
        if let Some((making, _)) = work.making.take() {
            self.making_abandon(&making);
        }
        self.map_end(work.child);
    }

    /// Gives the child up to [`BUDGET`] entries. What was copied symmetrically loses WRITE before this
    /// returns, whatever else happens.
    fn fork_some<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Fork,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        let mut lowering = Lowering::default();
        let mut outcome = Ok(Progress::More);
        self.revoked = 0;
        let mut left = BUDGET;
        while left > 0 {
            if self.revoked >= BUDGET {
                break;
            }
            left = left.saturating_sub(self.fork_run(work, left, &mut lowering));
            if left == 0 {
                break;
            }
            left = left.saturating_sub(1);
            let (link, entry) = match self.fork_next(work) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    // What the child sees there is as it stays.
                    self.lower_ranges(turn.machine, work.parent, &lowering);
                    lowering = Lowering::default();
                    let maps = (work.parent, work.child);
                    outcome = Ok(match self.ring_inherit(turn, maps, waiter) {
                        Ok(()) => Progress::Done(Some(Ok(work.reply()))),
                        Err(Parked) => Progress::Wait,
                    });
                    break;
                }
                Err(code) => {
                    outcome = Err(code);
                    break;
                }
            };
            if entry.start < work.cursor {
                // While nothing was held it was joined with what the child has already.
                if entry.in_transition {
                    self.op_park(turn, waiter, WaitOn::InTransition(work.parent));
                    outcome = Ok(Progress::Wait);
                    break;
                }
                if let Err(code) = self.map_clip(work.parent, work.cursor) {
                    outcome = Err(code);
                    break;
                }
                continue;
            }
            match self.fork_entry(turn, work, link, waiter) {
                Ok(Forked::Done(lower)) => {
                    if lower {
                        lowering.add(entry.start, entry.end);
                    }
                    work.cursor = entry.end;
                }
                Ok(Forked::Slowly) => {
                    work.cursor = entry.end;
                    break;
                }
                Ok(Forked::Again) => break,
                Ok(Forked::Wait) => {
                    outcome = Ok(Progress::Wait);
                    break;
                }
                Err(code) => {
                    outcome = Err(code);
                    break;
                }
            }
        }
        self.lower_ranges(turn.machine, work.parent, &lowering);
        outcome
    }

    /// The parent's next entry to look at; `None` at the end.
    fn fork_next(&self, work: &Fork) -> Result<Option<(Link, Entry)>, Kern> {
        let parent = self.maps.get(work.parent).filter(|map| !map.dying);
        let tree = &parent.ok_or(Kern::Terminated)?.tree;
        let link = tree.find_or_above(&self.entries, work.cursor);
        Ok(self.entries.at(link.0).map(|entry| (link, *entry)))
    }

    /// Gives the child its part of one entry.
    fn fork_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Fork,
        link: Link,
        waiter: u32,
    ) -> Result<Forked, Kern> {
        let Some(entry) = self.entries.at(link.0) else {
            return Ok(Forked::Done(false));
        };
        let mut child = Entry {
            map: work.child,
            wired: 0,
            user_wired: 0,
            in_transition: false,
            zero_wired: false,
            visited: false,
            ..*entry
        };
        match child.inheritance {
            Inherit::Share if child.submap.is_some() => {
                self.fork_insert(child)?;
                Ok(Forked::Done(false))
            }
            // Rule 125.
            _ if child.submap.is_some() => Ok(Forked::Done(false)),
            Inherit::Share if !child.is_tray => {
                let (object, offset) = self.entry_share(turn, link.0)?;
                child.object = Some(object);
                child.offset = offset;
                child.needs_copy = false;
                child.is_shared = true;
                self.fork_insert(child)?;
                Ok(Forked::Done(false))
            }
            // What can never be read cannot be copied either (rule 123).
            Inherit::Copy if child.max_protection.contains(Prot::READ) && !child.is_tray => {
                self.fork_copy(turn, work, (link, child), waiter)
            }
            _ => Ok(Forked::Done(false)),
        }
    }

    /// Copies one entry into the child.
    fn fork_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Fork,
        (link, mut child): (Link, Entry),
        waiter: u32,
    ) -> Result<Forked, Kern> {
        if self.entries.at(link.0).is_some_and(|e| e.in_transition) {
            self.op_park(turn, waiter, WaitOn::InTransition(work.parent));
            return Ok(Forked::Wait);
        }
        match self.entry_copy(turn, link.0) {
            Ok(Copied::Quickly {
                object,
                offset,
                needs_copy,
                lower,
            }) => {
                child.object = object;
                child.offset = offset;
                child.needs_copy = needs_copy;
                child.is_shared = false;
                if let Err(code) = self.fork_insert(child) {
                    // The mark stays in the parent, and what it promises must hold.
                    let parent = Entry {
                        map: work.parent,
                        ..child
                    };
                    self.entry_lower(turn.machine, &parent);
                    return Err(code);
                }
                Ok(Forked::Done(
                    lower && child.protection.contains(Prot::WRITE),
                ))
            }
            Ok(Copied::Slowly) => {
                work.making = Some((self.making(turn, link.0, work.child, None)?, child));
                Ok(Forked::Slowly)
            }
            Ok(Copied::Ask(pager)) => {
                let making = self.making(turn, link.0, work.child, Some(pager))?;
                work.making = Some((making, child));
                Ok(Forked::Slowly)
            }
            Ok(Copied::Again) => Ok(Forked::Again),
            Ok(Copied::Wait(pager)) => {
                self.op_park(turn, waiter, WaitOn::Pager(pager));
                Ok(Forked::Wait)
            }
            // Device registers are nobody's to copy.
            Err(Kern::ProtectionFailure) => Ok(Forked::Done(false)),
            Err(code) => Err(code),
        }
    }

    /// Goes on copying the memory of one entry; at the end the child has it.
    fn fork_making_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Fork,
        (mut making, entry): (Making, Entry),
        waiter: u32,
    ) -> Result<Progress, Kern> {
        let progress = match self.making_step(turn, &mut making, waiter) {
            Ok(Made::Done(object)) => {
                self.fork_insert(Entry {
                    object: Some(object),
                    offset: 0,
                    needs_copy: false,
                    is_shared: false,
                    ..entry
                })?;
                return Ok(Progress::More);
            }
            Ok(Made::More) => Ok(Progress::More),
            Ok(Made::Wait) => Ok(Progress::Wait),
            Err(code) => Err(code),
        };
        // If it failed, ending the fork ends this, too.
        work.making = Some((making, entry));
        progress
    }

    /// Puts an entry into its map; its reference ends with a failure.
    fn fork_insert(&mut self, entry: Entry) -> Result<(), Kern> {
        let inserted = self.entry_insert(entry);
        if let (Err(_), Some(object)) = (inserted, entry.object) {
            self.object_deallocate(object);
        }
        inserted.map(|_| ())
    }
}

impl Fork {
    /// Of a map, into an empty one made for it.
    pub(crate) fn new(parent: MapId, child: MapId) -> Fork {
        Fork {
            parent,
            child,
            cursor: 0,
            making: None,
        }
    }

    /// The answer: the child's map port.
    pub(crate) fn reply(&self) -> Reply {
        Reply {
            message: Message::Map(vm_map::Reply::TaskCreate(vm_map::TaskCreateReply {})),
            right: Some(PortOf::Map(self.child)),
        }
    }
}

#[cfg(test)]
mod joined;
#[cfg(test)]
mod tests;
