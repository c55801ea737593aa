//! vm_object_copy_slowly: pages copied one by one, now (rules 23 to 25, 31).
//!
//! Each page is read as a thread of the source would read it, through whatever pager has it, and
//! copied to an object of its own. The operation holds nothing while it waits for a page.

use ipc_abi::Kern;
use ipc_abi::types::Prot;

use crate::event::{MapId, ObjectId};
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::object::{Kind, Object};
use crate::op::BUDGET;
use crate::range::{PAGE_SIZE, page_of};
use crate::{Core, Turn};

/// Copying a map's memory into an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slowly {
    /// Address of the next page to copy.
    cursor: u64,
    /// Gets the pages, from 0 on. One reference is this record's.
    pub(crate) target: ObjectId,
}

/// How slow work goes on after a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slow {
    /// At its next turn.
    More,
    /// The operation's waiter has been parked.
    Wait,
    /// It is done.
    Done,
}

impl Core {
    /// Begins to copy `size` bytes slowly.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record.
    pub(crate) fn slowly(&mut self, payer: MapId, size: u64) -> Result<Slowly, Kern> {
        let object = Object::new(Kind::Internal, size, Some(payer));
        let target = self.object_insert(object)?;
        Ok(Slowly { cursor: 0, target })
    }

    /// Copies up to [`BUDGET`] pages of the first `size` bytes of `source`.
    ///
    /// # Errors
    /// What the fault on a page would answer: `KERN_MEMORY_ERROR`, `KERN_RESOURCE_SHORTAGE`.
    pub(crate) fn slowly_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (source, size): (MapId, u64),
        work: &mut Slowly,
        waiter: u32,
    ) -> Result<Slow, Kern> {
        for _ in 0..BUDGET {
            if work.cursor >= size {
                return Ok(Slow::Done);
            }
            match self.fetch(turn, source, work.cursor, Prot::READ, waiter)? {
                Fetched::Wait => return Ok(Slow::Wait),
                Fetched::Zero => {}
                Fetched::Page(frame) => {
                    let index = page_of(work.cursor);
                    match self.object_add_copy(turn, work.target, index, frame) {
                        // The page may be among those that went: it is looked up again.
                        Err(Kern::ResourceShortage) if self.relieve(turn) => continue,
                        added => added?,
                    }
                }
            }
            work.cursor = work.cursor.saturating_add(PAGE_SIZE);
        }
        Ok(Slow::More)
    }
}
