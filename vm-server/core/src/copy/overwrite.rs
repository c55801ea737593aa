//! vm_map_copy_overwrite: the bytes of a copy over a range of a map (rules 63 to 76).
//!
//! First the whole destination is looked at; only then is a byte changed. Whole pages of private
//! anonymous memory are not written but exchanged: the entry gets the copy's object. Anything else is
//! written page by page, as a thread of the destination would write it.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot};

use crate::copy::slowly::Slow;
use crate::event::MapId;
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::map::walk::{Holes, Pass, Walk};
use crate::object::strategy::Copied;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::{PAGE_MASK, PAGE_SIZE, Span, is_aligned, trunc_page};
use crate::{Core, Turn};

/// Entries whose look-up leaves a step room to write, and pieces of a copy whose making does.
pub(crate) const FEW: u32 = BUDGET / 4;

/// Writing a copy over a range.
#[derive(Clone, Copy, Debug)]
pub struct Overwrite {
    source: MapId,
    /// Where in the hidden map the first byte is.
    from: u64,
    target: MapId,
    /// Where the first byte goes.
    to: u64,
    size: u64,
    /// Bytes written.
    done: u64,
    check: Walk,
}

impl Core {
    /// Begins to write `size` bytes of a hidden map from `from` on to `to` of `target`.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: the destination overflows.
    pub(crate) fn overwrite(
        source: MapId,
        from: u64,
        target: MapId,
        to: u64,
        size: u64,
    ) -> Result<Overwrite, Kern> {
        let (range, _) = super::pages_of(to, size)?;
        let check = Walk::new(target, range).through().whole();
        Ok(Overwrite {
            source,
            from,
            target,
            to,
            size,
            done: 0,
            check,
        })
    }

    /// One step: looks at up to [`BUDGET`] entries, or writes up to as many entries or pages. A short
    /// look is followed by the first writes.
    ///
    /// # Errors
    /// In order of address, and before a byte is written: `KERN_INVALID_ADDRESS`: a hole.
    /// `KERN_PROTECTION_FAILURE`: no WRITE. Later, with a prefix written: these again, if another
    /// thread changed the map (rule 73), `KERN_MEMORY_ERROR`, `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn overwrite_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Overwrite,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        let mut left = BUDGET;
        if work.check.pass == Pass::Check {
            self.walk_check(&mut work.check, Holes::Refused, writable)?;
            if work.check.is_blocked() {
                self.op_park(turn, waiter, WaitOn::InTransition(work.target));
                return Ok(Slow::Wait);
            }
            if work.check.pass == Pass::Check || work.check.looked() > FEW {
                return Ok(Slow::More);
            }
            left = BUDGET / 2;
        }
        for _ in 0..left {
            if work.done >= work.size {
                self.map_changed(work.target);
                return Ok(Slow::Done);
            }
            if let Some(bytes) = self.overwrite_entry(turn, work)? {
                work.done = work.done.saturating_add(bytes);
            } else if let Some(bytes) = self.overwrite_page(turn, work, waiter)? {
                work.done = work.done.saturating_add(bytes);
            } else {
                return Ok(Slow::Wait);
            }
        }
        Ok(Slow::More)
    }

    /// Exchanges the object of as much of the destination's entry as can be. Says how many bytes
    /// that were; `None`: this page has to be written.
    fn overwrite_entry<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &Overwrite,
    ) -> Result<Option<u64>, Kern> {
        let to = work.to.saturating_add(work.done);
        let from = work.from.saturating_add(work.done);
        let whole = trunc_page(work.size.saturating_sub(work.done));
        if !is_aligned(to) || !is_aligned(from) || whole == 0 {
            return Ok(None);
        }
        let link = self
            .map_lookup(work.target, to)
            .ok_or(Kern::InvalidAddress)?;
        let entry = *self.entries.at(link.0).ok_or(Kern::InvalidAddress)?;
        if entry.submap.is_some() {
            // Writing a page takes the piece out of the map first (rule 77).
            return Ok(None);
        }
        writable(&entry)?;
        if !self.is_exchangeable(&entry) || self.map_is_sealed(work.target) {
            return Ok(None);
        }
        let source = self
            .map_lookup(work.source, from)
            .ok_or(Kern::InvalidArgument)?;
        let given = *self.entries.at(source.0).ok_or(Kern::InvalidArgument)?;
        let size = whole
            .min(entry.end.saturating_sub(to))
            .min(given.end.saturating_sub(from));
        let range = Span::exact(to, to.saturating_add(size)).ok_or(Kern::InvalidAddress)?;
        let window = Span::exact(from, from.saturating_add(size)).ok_or(Kern::InvalidArgument)?;
        let link = self.map_clip_range(work.target, range)?;
        let source = self.map_clip_range(work.source, window)?;
        let Copied::Quickly {
            object,
            offset,
            needs_copy,
            ..
        } = self.entry_copy(turn, source.0)?
        else {
            return Ok(None);
        };
        // Where nobody has touched anything there is nothing to take back.
        if !entry.is_untouched() {
            self.map_revoke(turn.machine, work.target, range, Prot::NONE);
        }
        let old = self.entry_set_object(link.0, object, offset, needs_copy);
        if let Some(old) = old {
            self.object_deallocate(old);
        }
        Ok(Some(size))
    }

    /// Whether an entry's memory may be exchanged for other: it is private, anonymous, unwired and
    /// not code (rules 66 to 68, amendment A10).
    fn is_exchangeable(&self, entry: &Entry) -> bool {
        let private = entry.wired == 0
            && !entry.is_shared
            && !entry.is_tray
            && !entry.protection.contains(Prot::EXECUTE);
        private
            && entry.object.is_none_or(|id| {
                self.objects.get(id).is_some_and(|object| {
                    object.is_internal()
                        && object.strategy == CopyStrategy::Symmetric
                        && !object.true_share
                })
            })
    }

    /// Writes the bytes that lie in one page of both sides. `None`: the waiter has been parked.
    ///
    /// The destination's page is made writable first: if source and destination are one memory, that
    /// is what gives the copy its own page.
    fn overwrite_page<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &Overwrite,
        waiter: u32,
    ) -> Result<Option<u64>, Kern> {
        let to = work.to.saturating_add(work.done);
        let from = work.from.saturating_add(work.done);
        let room = |at: u64| PAGE_SIZE.saturating_sub(at & PAGE_MASK);
        let count = work
            .size
            .saturating_sub(work.done)
            .min(room(to))
            .min(room(from));
        let place = |at: u64| (at & PAGE_MASK) as usize;
        let page = match self.fetch(turn, work.target, to, Prot::WRITE, waiter)? {
            Fetched::Page(page) => page,
            Fetched::Zero => return Err(Kern::MemoryError),
            Fetched::Wait => return Ok(None),
        };
        match self.fetch(turn, work.source, from, Prot::READ, waiter)? {
            Fetched::Wait => return Ok(None),
            Fetched::Zero => {
                let zeros = [0; 512];
                let mut at = place(to);
                let end = at.saturating_add(count as usize);
                while at < end {
                    let piece = end.saturating_sub(at).min(zeros.len());
                    turn.machine
                        .store(page, at, zeros.get(..piece).unwrap_or(&zeros));
                    at = at.saturating_add(piece);
                }
            }
            Fetched::Page(source) => {
                let (from, to) = ((source, place(from)), (page, place(to)));
                turn.machine.copy_bytes(from, to, count as usize);
            }
        }
        Ok(Some(count))
    }
}

/// Whether an entry may be written.
fn writable(entry: &Entry) -> Result<(), Kern> {
    if entry.protection.contains(Prot::WRITE) {
        Ok(())
    } else {
        Err(Kern::ProtectionFailure)
    }
}
