//! What pagers are still to be told: held as state, worded when their port can take it.
//!
//! For each pager: whether `memory_object_init` is due, a list of notes in order, and whether
//! `memory_object_terminate` is due, which comes last (but for the completion of what caused it). A note that has lost its meaning (a request
//! that was answered before it was asked) is never worded.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::{
    MemoryObjectChangeCompleted, MemoryObjectDataRequest, MemoryObjectDataReturn,
    MemoryObjectDataUnlock, MemoryObjectInit, MemoryObjectLockCompleted, MemoryObjectSynchronize,
    MemoryObjectTerminate, Request as Wording,
};

use crate::Core;
use crate::copy::asked::Asked;
use crate::effect::{Effect, Effects};
use crate::event::{PortOf, RightId};
use crate::id::Id;
use crate::object::loan::Loan;
use crate::object::pager::{Pager, Request, State};
use crate::object::pages::Slot;
use crate::op::BUDGET;
use crate::range::bytes_of;
use crate::slab::NIL;

/// A thing to say.
#[derive(Clone, Copy, Debug)]
pub enum Say {
    /// `memory_object_data_request`.
    Request(Id<Request>),
    /// `memory_object_data_return`.
    Return(Id<Loan>),
    /// `memory_object_data_unlock` for one page.
    Unlock {
        /// The page.
        index: u64,
        /// What the fault needs.
        access: Prot,
    },
    /// `memory_object_lock_completed`.
    Completed(MemoryObjectLockCompleted),
    /// `memory_object_change_completed`.
    Changed(MemoryObjectChangeCompleted),
    /// `memory_object_copy`.
    Copy(Id<Asked>),
    /// `memory_object_synchronize`.
    Synchronize(MemoryObjectSynchronize),
}

/// A thing to say, in its pager's list.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    say: Say,
    pub(crate) next: u32,
    prev: u32,
    /// The round of its pager's list in which it came.
    round: u32,
}

/// Most notes of one pager: one that takes no messages is not to fill the server's memory.
const NOTES_MAX: u32 = 4096;

/// A list of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notes {
    pub(crate) first: u32,
    last: u32,
    count: u32,
    /// A request that is said before all of the list, which needs no record for it.
    soon: Option<Id<Request>>,
    /// How often all were dropped: what came in another round is not in the list any more.
    round: u32,
}

impl Notes {
    /// None.
    pub const EMPTY: Notes = Notes {
        first: NIL,
        last: NIL,
        count: 0,
        soon: None,
        round: 0,
    };

    /// Whether there is nothing to say.
    pub(crate) const fn is_empty(&self) -> bool {
        self.first == NIL && self.soon.is_none()
    }

    /// Puts a request before all that there is to say, which is nothing.
    pub(crate) const fn say_soon(&mut self, request: Id<Request>) {
        self.soon = Some(request);
    }
}

/// A message to a memory object port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message {
    /// What it says.
    pub wording: Wording,
    /// The one of the server's ports that it carries a send right to.
    pub right: Option<PortOf>,
}

impl Core {
    /// What is to be said next to the memory object port `port`. It stays due until
    /// [`Core::sent`]; after `Event::Full` there is nothing until `Event::Possible`.
    pub fn next_message(&mut self, port: RightId) -> Option<Message> {
        if let Some((dialogue, question)) = self.question_to(port) {
            // Else there is nothing to say to it.
            return (!question.said).then(|| Message {
                wording: Wording::MemoryObjectDataRequest(dialogue.wording(question)),
                right: None,
            });
        }
        let id = self.pager_at(port)?;
        self.told = Some(id);
        let pager = self.pagers.get(id)?;
        if pager.full {
            return None;
        }
        if pager.say_init {
            return self.word_init(id);
        }
        if pager.is_beginning() {
            return None;
        }
        loop {
            let notes = self.pagers.get(id)?.notes;
            let say = match notes.soon {
                Some(request) => Say::Request(request),
                None => match self.notes.at(notes.first) {
                    Some(note) => note.say,
                    None => break,
                },
            };
            if let Some(wording) = self.word(say) {
                return Some(Message {
                    wording,
                    right: None,
                });
            }
            self.note_pop(id);
        }
        let pager = self.pagers.get(id)?;
        let wording = match (pager.say_end, pager.last_words) {
            (true, _) => Wording::MemoryObjectTerminate(MemoryObjectTerminate {}),
            (false, Some(said)) if !pager.knows => Wording::MemoryObjectChangeCompleted(said),
            _ => return None,
        };
        Some(Message {
            wording,
            right: None,
        })
    }

    /// Whether what [`Core::next_message`] gave for this port is a note and the only one, so that
    /// [`Core::sent`] has no effects and nothing more to say is left.
    #[must_use]
    pub fn is_last(&self, port: RightId) -> bool {
        if self.question_to(port).is_some() {
            return true;
        }
        let pager = self.pager_at(port).and_then(|id| self.pagers.get(id));
        pager.is_some_and(|pager| {
            let notes = u32::from(pager.notes.soon.is_some()).saturating_add(pager.notes.count);
            !pager.say_init && !pager.say_end && notes == 1
        })
    }

    /// What [`Core::next_message`] gave for this port has been sent.
    #[inline]
    pub fn sent(&mut self, port: RightId, effects: &mut Effects) {
        if let Some(dialogue) = &mut self.dialogue
            && dialogue.port == port
            && let Some(question) = &mut dialogue.question
        {
            question.said = true;
        } else {
            self.note_sent(port, effects);
        }
    }

    fn note_sent(&mut self, port: RightId, effects: &mut Effects) {
        let Some(id) = self.pager_at(port) else {
            return;
        };
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        if pager.say_init {
            pager.say_init = false;
            pager.knows = true;
            if pager.state == State::Detached {
                pager.state = State::Initialising;
            }
            if let Some(control) = pager.control.and_then(|id| self.controls.get_mut(id)) {
                control.made = control.made.saturating_add(1);
            }
        } else if pager.notes.soon.is_some() {
            pager.notes.soon = None;
        } else if pager.notes.first != NIL {
            self.note_pop(id);
        } else if pager.say_end && pager.last_words.is_some() {
            pager.say_end = false;
            pager.knows = false;
        } else if pager.say_end || pager.last_words.is_some() && !pager.knows {
            self.pager_gone(effects, id);
        }
    }

    /// The port's queue is full (or not any more).
    pub(crate) fn set_full(&mut self, port: RightId, full: bool, effects: &mut Effects) {
        let id = self.pager_at(port);
        if let Some(pager) = id.and_then(|id| self.pagers.get_mut(id)) {
            pager.full = full;
            if !full {
                effects.push(Effect::Talk(port));
            }
        }
    }

    /// Adds a note to a pager's list.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or the pager has left too many messages unheard.
    pub(crate) fn note(&mut self, pager: Id<Pager>, say: Say) -> Result<Id<Note>, Kern> {
        let record = self.pagers.get_mut(pager).ok_or(Kern::Terminated)?;
        if record.notes.count >= NOTES_MAX {
            return Err(Kern::ResourceShortage);
        }
        let note = Note {
            say,
            next: NIL,
            prev: record.notes.last,
            round: record.notes.round,
        };
        let (prev, id) = (note.prev, self.notes.insert(note)?);
        record.notes.last = id.index();
        record.notes.count = record.notes.count.saturating_add(1);
        match self.notes.at_mut(prev) {
            Some(last) => last.next = id.index(),
            None => record.notes.first = id.index(),
        }
        Ok(id)
    }

    /// Forgets everything that was still to be said to a pager. The notes go by steps.
    pub(crate) fn drop_notes(&mut self, pager: Id<Pager>) {
        let Some(record) = self.pagers.get_mut(pager) else {
            return;
        };
        let fresh = Notes {
            round: record.notes.round.wrapping_add(1),
            ..Notes::EMPTY
        };
        let dropped = core::mem::replace(&mut record.notes, fresh);
        let Some(first) = self.notes.at_mut(dropped.first) else {
            return;
        };
        first.prev = self.dropped.last;
        match self.notes.at_mut(self.dropped.last) {
            Some(last) => last.next = dropped.first,
            None => self.dropped.first = dropped.first,
        }
        self.dropped.last = dropped.last;
    }

    /// Whether notes were dropped that are still there.
    pub(crate) const fn has_dropped(&self) -> bool {
        self.dropped.first != NIL
    }

    /// Frees up to [`BUDGET`] notes that were dropped.
    pub(crate) fn dropped_step(&mut self) {
        for _ in 0..BUDGET {
            let Some(id) = self.notes.id_at(self.dropped.first) else {
                return;
            };
            let mut dropped = self.dropped;
            self.note_remove(&mut dropped, id);
            self.dropped = dropped;
        }
    }

    fn note_pop(&mut self, pager: Id<Pager>) {
        let Some(record) = self.pagers.get_mut(pager) else {
            return;
        };
        if record.notes.soon.take().is_some() {
            return;
        }
        let first = record.notes.first;
        self.note_forget(pager, self.notes.id_at(first));
    }

    /// A note was said, or has lost its meaning. It may be gone already.
    pub(crate) fn note_forget(&mut self, pager: Id<Pager>, note: Option<Id<Note>>) {
        let Some((id, round)) = note.and_then(|id| Some((id, self.notes.get(id)?.round))) else {
            return;
        };
        let owner = self.pagers.get(pager).map(|pager| pager.notes);
        let owner = owner.filter(|notes| notes.round == round);
        let mut list = owner.unwrap_or(self.dropped);
        self.note_remove(&mut list, id);
        match self.pagers.get_mut(pager).filter(|_| owner.is_some()) {
            Some(pager) => pager.notes = list,
            None => self.dropped = list,
        }
    }

    fn note_remove(&mut self, list: &mut Notes, id: Id<Note>) {
        let Some(note) = self.notes.remove(id) else {
            return;
        };
        match self.notes.at_mut(note.prev) {
            Some(before) => before.next = note.next,
            None => list.first = note.next,
        }
        match self.notes.at_mut(note.next) {
            Some(after) => after.prev = note.prev,
            None => list.last = note.prev,
        }
        list.count = list.count.saturating_sub(1);
    }

    /// The pager that speaks through a memory object port now.
    pub(crate) fn pager_at(&self, port: RightId) -> Option<Id<Pager>> {
        // It speaks through its port as long as it lives.
        if let Some(id) = self.told
            && self.pagers.get(id).is_some_and(|pager| pager.port == port)
        {
            return Some(id);
        }
        match self.ports.get(&self.nodes, u64::from(port.0)) {
            Slot::Pending(index) => self.pagers.id_at(index),
            _ => None,
        }
    }

    fn word_init(&self, id: Id<Pager>) -> Option<Message> {
        Some(Message {
            wording: Wording::MemoryObjectInit(MemoryObjectInit {
                page_size: PAGE_SIZE as u32,
            }),
            right: Some(PortOf::Control(self.pagers.get(id)?.control?)),
        })
    }

    fn word(&self, say: Say) -> Option<Wording> {
        Some(match say {
            Say::Request(id) => {
                let request = self.requests.get(id).filter(|request| !request.closed)?;
                let (offset, length) = request.bytes();
                Wording::MemoryObjectDataRequest(MemoryObjectDataRequest {
                    offset,
                    length,
                    access: u32::from(request.access.bits()),
                    request: id.to_word(),
                })
            }
            Say::Return(id) => {
                let loan = self.loans.get(id)?;
                Wording::MemoryObjectDataReturn(MemoryObjectDataReturn {
                    offset: bytes_of(loan.first),
                    slot: loan.slot,
                    count: loan.count,
                    dirty: loan.dirty,
                    kernel_copy: !loan.flush,
                    txn: id.to_word(),
                })
            }
            Say::Unlock { index, access } => {
                Wording::MemoryObjectDataUnlock(MemoryObjectDataUnlock {
                    offset: bytes_of(index),
                    length: PAGE_SIZE,
                    access: u32::from(access.bits()),
                })
            }
            Say::Completed(said) => Wording::MemoryObjectLockCompleted(said),
            Say::Changed(said) => Wording::MemoryObjectChangeCompleted(said),
            Say::Copy(id) => Wording::MemoryObjectCopy(self.word_copy(id)?),
            Say::Synchronize(said) => Wording::MemoryObjectSynchronize(said),
        })
    }
}
