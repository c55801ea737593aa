//! vm_object_copy_call: a copy that the pager makes (strategy CALL; rules 26, 27, 30).
//!
//! ```text
//!   memory_object_copy -->            the pager makes an object, whose port it owns
//!                      <-- memory_object_copy_made
//!   resident pages of the range lose WRITE, in steps; then the new object lies over the range
//! ```
//! Pages are locked only after the answer: what the pager supplied or unlocked before it knew of the
//! copy has arrived by then, since messages through a control port keep their order. A write in
//! between is a write during the copy, which the copy may have or not.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::MemoryObjectCopy;
use ipc_protocol::memory_object_control::MemoryObjectCopyMade;

use crate::effect::Effect;
use crate::event::{ControlId, ObjectId, PortRef};
use crate::fault::window;
use crate::id::Id;
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::page::{Flags, Frame};
use crate::object::pager::{Pager, State};
use crate::object::pages::Slot;
use crate::object::strategy::READ_ONLY;
use crate::op::BUDGET;
use crate::op::wait::WaitOn;
use crate::range::bytes_of;
use crate::talk::{Note, Say};
use crate::{Core, Turn};

/// A copy that a pager was asked to make.
#[derive(Debug)]
pub struct Asked {
    /// Of which pager.
    pager: Id<Pager>,
    /// The attachment in which it was asked: another one is asked again.
    control: Option<ControlId>,
    /// First page of the range, and one past the last.
    range: (u64, u64),
    answer: Answer,
    /// The question, while it is still to be put.
    note: Option<Id<Note>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It has not come.
    None,
    /// This object, one reference of which is the record's.
    Made(ObjectId),
    /// The pager makes none.
    Refused,
}

/// Whose copy it is, and how far the pages of the range are locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    asked: Id<Asked>,
    /// The original; whoever asks sees to it that it stays.
    object: ObjectId,
    /// Next page to lock.
    cursor: u64,
}

/// How it goes on after a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Went {
    /// At its next turn.
    More,
    /// The operation's waiter has been parked.
    Wait,
    /// The pager makes no copy. The question is forgotten.
    Refused,
    /// This object is the copy; its reference is the caller's. The question is forgotten.
    Done(ObjectId),
}

impl Core {
    /// Asks a pager for a copy of what an entry maps.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record; nothing has changed.
    pub(crate) fn ask_for_copy<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        entry: &Entry,
    ) -> Result<Asking, Kern> {
        let object = entry.object.ok_or(Kern::InvalidAddress)?;
        let record = self.pagers.get(pager).ok_or(Kern::MemoryError)?;
        let (port, control) = (record.port, record.control);
        let range = window(entry);
        let asked = self.asked.insert(Asked {
            pager,
            control,
            range,
            answer: Answer::None,
            note: None,
        })?;
        let note = self.note(pager, Say::Copy(asked));
        let note = note.inspect_err(|_| {
            self.asked.remove(asked);
        })?;
        if let Some(asked) = self.asked.get_mut(asked) {
            asked.note = Some(note);
        }
        turn.effects.push(Effect::Talk(port));
        Ok(Asking {
            asked,
            object,
            cursor: range.0,
        })
    }

    /// `memory_object_copy`, if it is still wanted.
    pub(crate) fn word_copy(&self, id: Id<Asked>) -> Option<MemoryObjectCopy> {
        let asked = self.asked.get(id)?;
        let (first, end) = asked.range;
        (asked.answer == Answer::None).then(|| MemoryObjectCopy {
            offset: bytes_of(first),
            length: bytes_of(end.saturating_sub(first)),
            request: id.to_word(),
        })
    }

    /// `memory_object_copy_made`. Takes over the reference to its right.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`, `KERN_RESOURCE_SHORTAGE`: nothing has changed, the right is given back.
    pub(crate) fn copy_made<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        args: MemoryObjectCopyMade,
        right: PortRef,
    ) -> Result<(), Kern> {
        let answer = self.copy_answer(turn, pager, args, right);
        if !matches!(answer, Ok((_, Answer::Made(_)))) {
            self.release_right(turn, right);
        }
        let (id, answer) = answer?;
        if let Some(asked) = self.asked.get_mut(id) {
            asked.answer = answer;
        }
        self.wake_pager(pager);
        Ok(())
    }

    /// The question and its answer. The right is the object's, if the answer names one.
    fn copy_answer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        args: MemoryObjectCopyMade,
        right: PortRef,
    ) -> Result<(Id<Asked>, Answer), Kern> {
        let id: Id<Asked> = Id::from_word(args.request).ok_or(Kern::InvalidArgument)?;
        let asked = self.asked.get(id).ok_or(Kern::InvalidArgument)?;
        if asked.pager != pager || asked.answer != Answer::None {
            return Err(Kern::InvalidArgument);
        }
        match right {
            _ if args.result != 0 => Ok((id, Answer::Refused)),
            PortRef::Foreign(port) if self.pager_at(port).is_none() => {
                let object = self.object_of_fresh_port(turn, port)?;
                Ok((id, Answer::Made(object)))
            }
            _ => Err(Kern::InvalidArgument),
        }
    }

    /// Waits for the answer, then locks up to [`BUDGET`] pages, or fewer if they are mapped in many places.
    ///
    /// # Errors
    /// `KERN_MEMORY_ERROR`: the pager is lost, or did not answer in time.
    pub(crate) fn asked_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut Asking,
        waiter: u32,
    ) -> Result<Went, Kern> {
        let failed = self.op_failed(waiter);
        let asked = self.asked.get(work.asked).ok_or(Kern::MemoryError)?;
        let (pager, end) = (asked.pager, asked.range.1);
        match asked.answer {
            Answer::None => match failed {
                Some(code) => Err(code),
                None => self.asked_wait(turn, work.asked, pager, waiter),
            },
            Answer::Refused => {
                self.asked_forget(work.asked);
                Ok(Went::Refused)
            }
            Answer::Made(copy) => {
                self.revoked = 0;
                for _ in 0..BUDGET {
                    if self.revoked >= BUDGET {
                        break;
                    }
                    let Some((index, slot)) = self.next_slot(work.object, work.cursor, end) else {
                        self.asked_done(work, copy);
                        return Ok(Went::Done(copy));
                    };
                    if let Slot::Page(frame) = slot {
                        self.lock_write(turn, frame);
                    }
                    work.cursor = index.saturating_add(1);
                }
                Ok(Went::More)
            }
        }
    }

    /// The answer has not come: a pager that came back is asked again.
    fn asked_wait<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Asked>,
        pager: Id<Pager>,
        waiter: u32,
    ) -> Result<Went, Kern> {
        let record = self.pagers.get(pager).ok_or(Kern::MemoryError)?;
        let (port, control) = (record.port, record.control);
        match record.state {
            State::Initialising | State::Detached => {}
            State::Ready => {
                let again = self.asked.get(id).is_some_and(|a| a.control != control);
                if again {
                    let note = self.note(pager, Say::Copy(id))?;
                    turn.effects.push(Effect::Talk(port));
                    if let Some(asked) = self.asked.get_mut(id) {
                        asked.control = control;
                        asked.note = Some(note);
                    }
                }
            }
            State::Terminating | State::Dead => return Err(Kern::MemoryError),
        }
        self.op_park(turn, waiter, WaitOn::Pager(pager));
        Ok(Went::Wait)
    }

    /// Forbids writing a page.
    fn lock_write<M: Machine>(&mut self, turn: &mut Turn<'_, M>, frame: Frame) {
        if let Some(page) = self.pages.get_mut(frame) {
            page.lock.insert(Prot::WRITE);
            page.flags.remove(Flags::UNLOCK_ASKED);
            self.revoke_page(turn.machine, frame, READ_ONLY);
        }
    }

    /// Lays the copy over the range.
    fn asked_done(&mut self, work: &Asking, copy: ObjectId) {
        let Some(asked) = self.asked_forget(work.asked) else {
            return;
        };
        let (first, end) = asked.range;
        if let Some(object) = self.objects.get_mut(copy) {
            object.size = bytes_of(end.saturating_sub(first));
        }
        self.object_reference(work.object);
        self.shadow_link(copy, work.object, bytes_of(first));
    }

    /// The question is over, whether it was put or not.
    fn asked_forget(&mut self, id: Id<Asked>) -> Option<Asked> {
        let asked = self.asked.remove(id)?;
        self.note_forget(asked.pager, asked.note);
        Some(asked)
    }

    /// Gives up a copy that a pager was asked for. Its answer will find nothing.
    pub(crate) fn asked_abandon(&mut self, work: &Asking) {
        if let Some(Asked {
            answer: Answer::Made(copy),
            ..
        }) = self.asked_forget(work.asked)
        {
            self.object_deallocate(copy);
        }
    }
}

#[cfg(test)]
mod tests;
