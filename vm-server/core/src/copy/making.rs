//! Copies that take time: page by page (rules 23 to 25, 31), or made by the pager (rules 26, 27, 30).
//!
//! Either way the source is a hidden map that holds the same memory as the source's entry, so that it
//! does not matter what becomes of the entry meanwhile: the copy is of the memory that was looked up
//! (rule 35; Mach looks again and begins anew if it has changed). Nothing is held during a wait.

use ipc_abi::Kern;

use crate::copy::asked::{Asking, Went};
use crate::copy::slowly::{Slow, Slowly};
use crate::event::{MapId, ObjectId};
use crate::id::Id;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::pager::Pager;
use crate::range::Span;
use crate::{Core, Turn};

/// Copying the memory of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    /// Holds the source's memory from address 0 on.
    hidden: MapId,
    /// What the entry covered.
    pub(crate) range: Span,
    /// Whose limit the copy's pages count against.
    payer: MapId,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Slowly(Slowly),
    Asked(Asking),
}

/// How it goes on after a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// At its next turn.
    More,
    /// The operation's waiter has been parked.
    Wait,
    /// This object has the copy, from 0 on. Its reference is the caller's; the rest is cleared up.
    Done(ObjectId),
}

impl Core {
    /// Begins to copy the memory of the entry at `link`, by its pager if one is named.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn making<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        link: u32,
        payer: MapId,
        pager: Option<Id<Pager>>,
    ) -> Result<Making, Kern> {
        let entry = *self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        let range = Span::exact(entry.start, entry.end).ok_or(Kern::InvalidAddress)?;
        let hidden = self.hidden_window(payer, &entry)?;
        let way = match pager {
            Some(pager) => self.ask_for_copy(turn, pager, &entry).map(Way::Asked),
            None => self.slowly(payer, range.size()).map(Way::Slowly),
        };
        match way {
            Ok(way) => Ok(Making {
                hidden,
                range,
                payer,
                way,
            }),
            Err(code) => {
                self.map_end(hidden);
                Err(code)
            }
        }
    }

    /// One step. After an error [`Core::making_abandon`] is due.
    ///
    /// # Errors
    /// `KERN_MEMORY_ERROR`: a pager failed. `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn making_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Making,
        waiter: u32,
    ) -> Result<Made, Kern> {
        let size = work.range.size();
        match &mut work.way {
            Way::Slowly(slowly) => {
                let source = (work.hidden, size);
                match self.slowly_step(turn, source, slowly, waiter)? {
                    Slow::More => Ok(Made::More),
                    Slow::Wait => Ok(Made::Wait),
                    Slow::Done => {
                        self.map_end(work.hidden);
                        Ok(Made::Done(slowly.target))
                    }
                }
            }
            Way::Asked(asking) => match self.asked_step(turn, asking, waiter)? {
                Went::More => Ok(Made::More),
                Went::Wait => Ok(Made::Wait),
                Went::Refused => {
                    // The record of the question is gone: an error from here on finds none.
                    work.way = Way::Slowly(self.slowly(work.payer, size)?);
                    Ok(Made::More)
                }
                Went::Done(object) => {
                    self.map_end(work.hidden);
                    Ok(Made::Done(object))
                }
            },
        }
    }

    /// Gives up a copy that is being made.
    pub(crate) fn making_abandon(&mut self, work: &Making) {
        match &work.way {
            Way::Slowly(slowly) => self.object_deallocate(slowly.target),
            Way::Asked(asking) => self.asked_abandon(asking),
        }
        self.map_end(work.hidden);
    }

    /// A hidden map that shows the memory of an entry.
    fn hidden_window(&mut self, payer: MapId, entry: &Entry) -> Result<MapId, Kern> {
        let hidden = self.hidden_map(payer, entry.size())?;
        let shown = Entry {
            object: entry.object,
            offset: entry.offset,
            needs_copy: entry.needs_copy,
            is_shared: entry.is_shared,
            ..Entry::anonymous(hidden, 0, entry.size())
        };
        match self.entry_insert(shown) {
            Ok(_) => {
                if let Some(object) = entry.object {
                    self.object_reference(object);
                }
                Ok(hidden)
            }
            Err(code) => {
                self.map_end(hidden);
                Err(code)
            }
        }
    }
}
