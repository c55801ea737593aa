//! The one-shot behaviours of vm_behavior_set (rule 202): a check of the whole range, then the act.
//!
//! Both passes go by address and hold nothing, for WILLNEED and ZERO may come to pagers. What changes
//! between the passes changes what the act does there, as if it had been asked for a little later.

use ipc_abi::Kern;
use ipc_abi::types::{Advice, Prot};
use ipc_protocol::vm_map::{
    self, VM_SYNC_ASYNCHRONOUS, VM_SYNC_DEACTIVATE, VM_SYNC_INVALIDATE, VM_SYNC_KILLPAGES,
};

use super::entry::Entry;
use crate::call::Reply;
use crate::call::msync::Msync;
use crate::copy::slowly::Slow;
use crate::event::MapId;
use crate::fault::{Asker, Resolved};
use crate::machine::Machine;
use crate::object::Kind;
use crate::object::discard::Part;
use crate::op::wait::WaitOn;
use crate::op::{BUDGET, Progress};
use crate::range::{PAGE_SIZE, Span};
use crate::{Core, Turn};

/// Tags that mark memory of malloc, of which only plain private memory is reusable.
const MALLOC_TAGS: [u8; 7] = [1, 2, 3, 6, 7, 8, 9];

/// A behaviour on its way.
#[derive(Clone, Copy, Debug)]
pub struct Advise {
    advice: Advice,
    range: Span,
    part: Part,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "operations are few, and their records must not be allocated piecemeal"
)]
enum Stage {
    Check,
    Act,
    /// What differs from a vm_msync by its flags only.
    Sync(Msync),
}

/// Looking whether a range is mapped throughout, for a call that has nothing else to do.
#[derive(Clone, Copy, Debug)]
pub struct Cover {
    part: Part,
    reply: Reply,
}

impl Cover {
    /// Of a range inside a map; `reply` is the answer if it is.
    pub(crate) const fn new(map: MapId, range: Span, reply: vm_map::Reply) -> Cover {
        Cover {
            part: part(map, range),
            reply: Reply::map(reply),
        }
    }
}

const REPLY: Reply = Reply::map(vm_map::Reply::VmBehaviorSet(()));

impl Advise {
    /// Of a range inside a map.
    pub(crate) const fn new(map: MapId, range: Span, advice: Advice) -> Advise {
        Advise {
            advice,
            range,
            part: part(map, range),
            stage: Stage::Check,
        }
    }

    /// What comes after the check.
    const fn act(&self) -> Stage {
        let flags = match self.advice {
            Advice::DontNeed => VM_SYNC_DEACTIVATE,
            Advice::Free => VM_SYNC_KILLPAGES,
            Advice::PageOut => VM_SYNC_DEACTIVATE | VM_SYNC_ASYNCHRONOUS | VM_SYNC_INVALIDATE,
            _ => return Stage::Act,
        };
        Stage::Sync(Msync::new(self.part.map, self.range, flags, REPLY))
    }
}

const fn part(map: MapId, range: Span) -> Part {
    Part {
        map,
        next: range.start(),
        end: range.end(),
    }
}

impl Core {
    /// One step.
    ///
    /// # Errors
    /// As `vm_behavior_set` says.
    pub(crate) fn advise_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Advise,
        waiter: u32,
    ) -> Progress {
        let outcome = match &mut work.stage {
            Stage::Check => self.advise_check(work),
            Stage::Act => self.advise_act(turn, work, waiter),
            Stage::Sync(sync) => return self.msync_step(turn, sync, waiter),
        };
        outcome.unwrap_or_else(|code| Progress::Done(Some(Err(code))))
    }

    fn advise_check(&self, work: &mut Advise) -> Result<Progress, Kern> {
        let advice = work.advice;
        if self.part_covered(&mut work.part, |entry| self.may_advise(entry, advice))? {
            work.part = part(work.part.map, work.range);
            work.stage = work.act();
        }
        Ok(Progress::More)
    }

    /// One step of looking whether a range is mapped.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the task has ended. `KERN_FAILURE`: a hole.
    pub(crate) fn cover_step(&self, work: &mut Cover) -> Progress {
        match self.part_covered(&mut work.part, |_| Ok(())) {
            Ok(true) => Progress::Done(Some(Ok(work.reply))),
            Ok(false) => Progress::More,
            Err(Kern::InvalidAddress) => Progress::Done(Some(Err(Kern::Failure))),
            Err(code) => Progress::Done(Some(Err(code))),
        }
    }

    /// Looks at up to [`BUDGET`] entries of a part, which have to touch each other. Says whether that is
    /// all.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: the map has ended. `KERN_INVALID_ADDRESS`: a hole. What `look` says.
    pub(crate) fn part_covered(
        &self,
        part: &mut Part,
        look: impl Fn(&Entry) -> Result<(), Kern>,
    ) -> Result<bool, Kern> {
        let map = self.maps.get(part.map).filter(|map| !map.dying);
        let tree = &map.ok_or(Kern::Terminated)?.tree;
        let mut link = tree.find(&self.entries, part.next);
        for _ in 0..BUDGET {
            let entry = self.entries.at(link.0);
            let entry = entry.filter(|entry| entry.start <= part.next);
            let entry = entry.ok_or(Kern::InvalidAddress)?;
            look(entry)?;
            part.next = entry.end;
            link = entry.hooks.next;
            if part.next >= part.end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an entry may be treated so.
    fn may_advise(&self, entry: &Entry, advice: Advice) -> Result<(), Kern> {
        let writable = entry.protection.contains(Prot::WRITE);
        match advice {
            Advice::Zero if !writable => Err(Kern::ProtectionFailure),
            Advice::Zero if self.is_not_plain(entry) => Err(Kern::NoAccess),
            Advice::Reusable | Advice::Reuse | Advice::CanReuse
                if MALLOC_TAGS.contains(&entry.tag) && !self.is_plain_private(entry) =>
            {
                Err(Kern::InvalidAddress)
            }
            Advice::Reusable if !writable => Err(Kern::ProtectionFailure),
            _ => Ok(()),
        }
    }

    /// Whether an entry's memory cannot be zeroed in place.
    pub(crate) fn is_not_plain(&self, entry: &Entry) -> bool {
        let object = entry.object.and_then(|id| self.objects.get(id));
        let special = object.is_some_and(|o| matches!(o.kind, Kind::Device { .. } | Kind::Tray(_)));
        entry.needs_copy || entry.submap.is_some() || special
    }

    /// Whether an entry is private memory with the attributes of vm_allocate, as malloc uses it.
    fn is_plain_private(&self, entry: &Entry) -> bool {
        entry.protection == Prot::DEFAULT
            && entry.max_protection == Prot::ALL
            && entry.inheritance == ipc_abi::types::Inherit::Copy
            && entry.wired == 0
            && entry.user_wired == 0
            && self.is_reusable(entry)
    }

    fn advise_act<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Advise,
        waiter: u32,
    ) -> Result<Progress, Kern> {
        let done = match work.advice {
            Advice::WillNeed => self.prefault_step(turn, &mut work.part),
            Advice::Zero => match self.zero_step(turn, &mut work.part, waiter)? {
                Slow::Wait => return Ok(Progress::Wait),
                Slow::More => false,
                Slow::Done => true,
            },
            Advice::Reusable => self.reuse_step(turn.machine, &mut work.part, true)?,
            Advice::Reuse => self.reuse_step(turn.machine, &mut work.part, false)?,
            _ => true,
        };
        Ok(match done {
            true => Progress::Done(Some(Ok(REPLY))),
            false => Progress::More,
        })
    }

    /// Makes up to [`BUDGET`] pages resident that a thread could read, or asks for them. Says whether
    /// that is all that is to be had.
    fn prefault_step<M: Machine>(&mut self, turn: &mut Turn<'_, M>, part: &mut Part) -> bool {
        for _ in 0..BUDGET {
            if part.next >= part.end {
                return true;
            }
            let place = (part.map, part.next);
            part.next = part.next.saturating_add(PAGE_SIZE);
            match self.resolve(turn, place, Prot::READ, Asker::Thread) {
                // A pager that is not ready, or has no slots, is not waited for.
                Ok(Resolved::Wait(WaitOn::Pager(_) | WaitOn::Slots(_) | WaitOn::Frames))
                | Err(Kern::ResourceShortage) => return true,
                Ok(_) => {}
                Err(_) => match self.map_lookup(part.map, place.1) {
                    Some(link) => {
                        let end = self.entries.at(link.0).map_or(0, |entry| entry.end);
                        part.next = part.next.max(end);
                    }
                    None => return true,
                },
            }
        }
        false
    }
}
