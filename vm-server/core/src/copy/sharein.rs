//! A range of a map into a hidden map, *shared*: what a named entry or a remapping begins with.
//!
//! The counterpart of [`crate::copy::copyin`]: entry by entry, each switched to asymmetric copies
//! first (rules 9 to 11). Both say with [`Terms`] what an entry must allow, and find out what all
//! of the range allows.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};

use crate::copy::Copy;
use crate::copy::slowly::Slow;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::Span;
use crate::{Core, Turn};

/// What is asked of the entries of a range that is taken out of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Rights that each must have now.
    pub(crate) protection: Prot,
    /// Rights that each must be allowed.
    pub(crate) max_protection: Prot,
    /// The memory may be written through what becomes of the hidden map.
    writes: bool,
    /// Each keeps its rights; else they get those that the hidden map is read with.
    pub(crate) keep: bool,
    /// What was found.
    pub(crate) found: Found,
}

/// What the entries of a range allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Current rights that all have.
    pub(crate) protection: Prot,
    /// Maximum rights that all have.
    pub(crate) max_protection: Prot,
    /// One can be written and executed now.
    pub(crate) any_jit: bool,
}

impl Terms {
    /// What a copy needs (rule 53).
    pub(crate) const READABLE: Terms = Terms::of(Prot::READ, Prot::NONE);

    /// These rights, which the hidden map does not keep.
    pub(crate) const fn of(protection: Prot, max_protection: Prot) -> Terms {
        Terms {
            protection,
            max_protection,
            writes: max_protection.contains(Prot::WRITE),
            keep: false,
            found: Found {
                protection: Prot::ALL,
                max_protection: Prot::ALL,
                any_jit: false,
            },
        }
    }

    /// The same, but each entry keeps its own rights.
    pub(crate) const fn kept(self) -> Terms {
        Terms {
            keep: true,
            writes: true,
            ..self
        }
    }

    /// The same, but rights that are asked for and not there will be left out.
    pub(crate) fn masking(self, asked: Prot) -> Terms {
        Terms {
            max_protection: Prot::NONE,
            writes: asked.contains(Prot::WRITE),
            ..self
        }
    }

    /// Holds an entry against the terms.
    ///
    /// # Errors
    /// `KERN_PROTECTION_FAILURE`.
    pub(crate) fn meet(&mut self, entry: &Entry) -> Result<(), Kern> {
        if !entry.protection.contains(self.protection)
            || !entry.max_protection.contains(self.max_protection)
        {
            return Err(Kern::ProtectionFailure);
        }
        self.found.protection &= entry.protection;
        self.found.max_protection &= entry.max_protection;
        self.found.any_jit |= is_jit(entry.protection);
        Ok(())
    }

    /// The entry of a hidden map for an entry in the range, which starts at address 0 there. It has
    /// no memory yet.
    pub(crate) fn hidden(&self, map: MapId, range: Span, entry: &Entry) -> Entry {
        let start = entry.start.saturating_sub(range.start());
        let end = entry.end.saturating_sub(range.start());
        let plain = Entry {
            tag: entry.tag,
            ..Entry::anonymous(map, start, end)
        };
        if !self.keep {
            return plain;
        }
        Entry {
            protection: entry.protection,
            max_protection: entry.max_protection,
            ..plain
        }
    }
}

/// Whether rights allow to execute what was just written (amendment A9).
pub(crate) const fn is_jit(protection: Prot) -> bool {
    protection.contains(Prot::WRITE.union(Prot::EXECUTE))
}

/// Sharing a range into a hidden map.
#[derive(Clone, Copy, Debug)]
pub struct ShareIn {
    source: MapId,
    range: Span,
    /// Everything of the range below this is in the hidden map.
    cursor: u64,
    pub(crate) target: MapId,
    pub(crate) terms: Terms,
    /// The range ends where the first entry does.
    first_only: bool,
}

impl ShareIn {
    /// The hidden map as far as it is filled, as a copy.
    pub(crate) const fn as_copy(&self) -> Copy {
        Copy {
            map: self.target,
            offset: 0,
            size: self.cursor.saturating_sub(self.range.start()),
        }
    }
}

impl Core {
    /// Begins to share a range.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn sharein(
        &mut self,
        source: MapId,
        range: Span,
        terms: Terms,
        first_only: bool,
    ) -> Result<ShareIn, Kern> {
        Ok(ShareIn {
            source,
            range,
            cursor: range.start(),
            target: self.hidden_map(source, range.size())?,
            terms,
            first_only,
        })
    }

    /// One step: up to [`BUDGET`] entries. An entry in transition is waited for.
    ///
    /// # Errors
    /// In order of address: `KERN_INVALID_ADDRESS`: a hole. `KERN_PROTECTION_FAILURE`: less than the
    /// terms, or memory that is never shared. `KERN_RESOURCE_SHORTAGE`. The hidden map is the caller's
    /// to end.
    pub(crate) fn sharein_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut ShareIn,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        for _ in 0..BUDGET {
            if work.cursor >= work.range.end() {
                return Ok(Slow::Done);
            }
            let at = Span::exact(work.cursor, work.range.end()).ok_or(Kern::InvalidAddress)?;
            if work.terms.writes {
                self.sharein_unnest(turn, work.source, at)?;
            }
            let window = self.window_open(work.source, at)?;
            let shared = self.sharein_one(turn, work, window.link);
            self.window_close(&window);
            let Some(end) = shared? else {
                self.op_park(turn, waiter, WaitOn::InTransition(work.source));
                return Ok(Slow::Wait);
            };
            work.cursor = end;
            if work.first_only {
                return Ok(Slow::Done);
            }
        }
        match work.cursor >= work.range.end() {
            true => Ok(Slow::Done),
            false => Ok(Slow::More),
        }
    }

    /// Takes out of the source what it shows copy-on-write and may write, before that is shared.
    fn sharein_unnest<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        source: MapId,
        at: Span,
    ) -> Result<(), Kern> {
        let link = self.map_lookup(source, at.start());
        let max = link
            .and_then(|link| self.leaf_at(link.0, at.start()))
            .map_or(Prot::NONE, |leaf| leaf.max);
        match max.contains(Prot::WRITE) {
            true => self.unnest_copied(turn.machine, source, at),
            false => Ok(()),
        }
    }

    /// Shares the memory of one entry; says where that ends. `None`: the entry is in transition.
    fn sharein_one<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut ShareIn,
        link: u32,
    ) -> Result<Option<u64>, Kern> {
        let found = *self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        work.terms.meet(&found)?;
        if found.in_transition {
            return Ok(None);
        }
        let (object, offset) = self.entry_share(turn, link)?;
        let entry = Entry {
            object: Some(object),
            offset,
            is_shared: true,
            inheritance: Inherit::Share,
            ..work.terms.hidden(work.target, work.range, &found)
        };
        match self.entry_insert(entry) {
            Ok(_) => Ok(Some(found.end)),
            Err(code) => {
                self.object_deallocate(object);
                Err(code)
            }
        }
    }
}
