//! What the server knows of an object's pager: the states of its life, what it was asked, what it is
//! still to be told.
//!
//! ```text
//!   map ->  Initialising -- ready --> Ready -- last holder goes --> Terminating -- told --> (gone)
//!                ^                      |  no senders
//!            init said                  v
//!                +------------------ Detached    any -- port dead, destroy --> Dead
//! ```
//! The identity of an object is its memory object port. A pager that loses its control port is sent
//! `memory_object_init` again, with a new one; what it was asked stays open and is asked again. Whoever
//! receives from the port then is the pager: a task that was started in place of the one that ended, say.

use ipc_abi::Kern;
use ipc_abi::types::CopyStrategy;
use ipc_protocol::memory_object::MemoryObjectChangeCompleted;

use crate::effect::{Effect, Effects};
use crate::event::{ControlId, ObjectId, PortOf, RightId, Time, TrayId};
use crate::id::Id;
use crate::machine::Machine;
use crate::object::pages::Slot;
use crate::object::{Kind, Object};
use crate::op::wait::List;
use crate::range::{PAGE_MASK, bytes_of};
use crate::slab::NIL;
use crate::talk::{Note, Notes};
use crate::{Core, Turn};

/// One attachment of a pager: what a control port stands for. A new attachment is a new record, so
/// that a message through an old control port finds nothing.
#[derive(Debug)]
pub struct Control {
    /// The pager.
    pub pager: Id<Pager>,
    /// Send rights that were made.
    pub made: u32,
}

/// Where a pager is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `memory_object_init` is said or to be said; nothing else is until `memory_object_ready`.
    Initialising,
    /// Data may be requested.
    Ready,
    /// The last attachment is over, and the next has not begun: who waits goes on waiting, what is
    /// resident is there.
    Detached,
    /// Nobody holds the object; what the pager wants is on its way back, then it is told.
    Terminating,
    /// Its port is dead, or it withdrew: what is resident stays, everything else is an error.
    Dead,
}

/// A pager as seen from one object.
#[derive(Debug)]
pub struct Pager {
    /// The object that it serves.
    pub object: ObjectId,
    /// The memory object port; one reference is this record's.
    pub port: RightId,
    /// The present attachment.
    pub control: Option<ControlId>,
    /// Where it is in its life.
    pub state: State,
    /// Attachments that are over.
    pub generation: u32,
    /// When the last of them ended.
    pub lost: Time,
    /// The tray that pages go through.
    pub tray: Option<TrayId>,
    /// Keep the object when nobody holds it.
    pub may_cache: bool,
    /// The strategy that it said last, temporary apart.
    pub strategy: CopyStrategy,
    /// Written pages need not come back when the object ends (rule 4).
    pub temporary: bool,
    /// It can serve a fault that it causes itself.
    pub serves_itself: bool,
    /// It says when it has stored what was returned.
    pub synchronizes: bool,
    /// Most pages of one request.
    pub cluster: u32,
    /// First request of the list of those open.
    pub requests: u32,
    /// Page after the last request's range: asking there again is sequential.
    pub next_page: u64,
    /// Pages of the last request.
    pub window: u32,
    /// Who waits for `memory_object_ready`, or for a page to be unlocked.
    pub waiting: List,
    /// What is still to be said to it.
    pub notes: Notes,
    /// `memory_object_init` is to be said.
    pub say_init: bool,
    /// It has been said in this attachment.
    pub knows: bool,
    /// `memory_object_terminate` is to be said, after everything else.
    pub say_end: bool,
    /// What is said after `memory_object_terminate`, whose cause it is (rule 173).
    pub last_words: Option<MemoryObjectChangeCompleted>,
    /// The port's queue was full.
    pub full: bool,
    /// The port is dead, as opposed to its pager having withdrawn.
    pub port_dead: bool,
    /// It did not take back in time what was lent to it for the object's end: it gets no more.
    pub given_up: bool,
    /// Loans that ended and were not stored: it said so, or was late.
    pub unstored: u32,
    /// How many of them in a row.
    pub refusals: u32,
    /// Loans that have not ended.
    pub loans: u32,
    /// Its object ends, and pages that it is to store wait for whoever comes in its place: until this
    /// place of [`Core::held`].
    pub held: Option<u64>,
    /// The pager of the object's next life, while this one ends.
    pub successor: Option<Id<Pager>>,
}

/// Pages asked of a pager that have not all come.
#[derive(Debug)]
pub struct Request {
    /// Of which pager.
    pub pager: Id<Pager>,
    /// First page.
    pub first: u64,
    /// Pages, at most 64.
    pub count: u32,
    /// Which have not come: bit `n` for page `first + n`.
    pub missing: u64,
    /// Which the pager failed to bring.
    pub failed: u64,
    /// What the fault that caused it needs.
    pub access: ipc_abi::types::Prot,
    /// Neighbours in the pager's list of requests.
    pub next: u32,
    /// See `next`.
    pub prev: u32,
    /// Who waits for it.
    pub waiting: List,
    /// Waiters that were woken by it and have not looked yet.
    pub lookers: u32,
    /// It is over: kept only for `lookers`.
    pub closed: bool,
    /// What its pager is still to be told of it.
    pub note: Option<Id<Note>>,
}

/// Size of an object whose pager alone knows it.
const UNBOUNDED: u64 = !PAGE_MASK;

impl Core {
    /// The object of a memory object port, with one reference for the caller; made, and its pager
    /// told, if this is the first one. Takes over the reference to the right that came in a message.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record. The right is given back then, too.
    pub(crate) fn object_of_port<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        port: RightId,
    ) -> Result<ObjectId, Kern> {
        let known = match self.ports.get(&self.nodes, u64::from(port.0)) {
            Slot::Pending(index) => self.pagers.id_at(index),
            _ => None,
        };
        let latest = known
            .and_then(|id| self.pagers.get(id)?.successor)
            .or(known);
        if let Some(pager) = latest.and_then(|id| self.pagers.get(id))
            && !self.is_ending(pager)
        {
            let object = pager.object;
            self.object_reference(object);
            turn.effects.push(Effect::Release(port, 1));
            return Ok(object);
        }
        let made = match known {
            Some(_) => self.object_make_external(port).map(|(object, pager)| {
                // The old life's last words come first.
                if let Some(old) = known.and_then(|id| self.pagers.get_mut(id)) {
                    old.successor = Some(pager);
                }
                object
            }),
            None => self.object_of_fresh_port(turn, port),
        };
        if made.is_err() {
            turn.effects.push(Effect::Release(port, 1));
        }
        made
    }

    /// An object for a port that is nobody's yet, with one reference for the caller. Takes over the
    /// reference to the right.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record. The right is still the caller's.
    pub(crate) fn object_of_fresh_port<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        port: RightId,
    ) -> Result<ObjectId, Kern> {
        let (object, pager) = self.object_make_external(port)?;
        let slot = Slot::Pending(pager.index());
        if let Err(code) = self.ports.set(&mut self.nodes, u64::from(port.0), slot) {
            self.drop_control(turn.effects, pager);
            self.pagers.remove(pager);
            self.uncharge_object(object);
            self.objects.remove(object);
            return Err(code);
        }
        turn.effects.push(Effect::WatchDead(port));
        turn.effects.push(Effect::Talk(port));
        Ok(object)
    }

    /// Whether an object's life is over, so that mapping its port begins another.
    fn is_ending(&self, pager: &Pager) -> bool {
        let held = self.objects.get(pager.object).is_some_and(|o| o.refs > 0);
        match pager.state {
            State::Initialising | State::Ready | State::Detached => false,
            State::Terminating => true,
            State::Dead => !held,
        }
    }

    fn object_make_external(&mut self, port: RightId) -> Result<(ObjectId, Id<Pager>), Kern> {
        self.pagers.reserve_one()?;
        self.controls.reserve_one()?;
        // Whoever maps it first is charged with the record; its pages are counted as they are mapped.
        let object = Object::new(Kind::External, UNBOUNDED, None);
        let object = self.object_insert_for(object, self.caller)?;
        let pager = self.pagers.insert(Pager {
            object,
            port,
            control: None,
            state: State::Initialising,
            generation: 0,
            lost: Time(0),
            tray: None,
            may_cache: false,
            strategy: CopyStrategy::None,
            temporary: false,
            serves_itself: false,
            synchronizes: false,
            cluster: 1,
            requests: NIL,
            next_page: 0,
            window: 0,
            waiting: List::EMPTY,
            notes: Notes::EMPTY,
            say_init: true,
            knows: false,
            say_end: false,
            last_words: None,
            full: false,
            port_dead: false,
            given_up: false,
            unstored: 0,
            refusals: 0,
            loans: 0,
            held: None,
            successor: None,
        })?;
        if let Some(object) = self.objects.get_mut(object) {
            object.pager = Some(pager);
        }
        self.pager_attach(pager);
        Ok((object, pager))
    }

    /// Makes the record of the attachment that begins when the pager is told of its object. There is room
    /// for it: then nothing is missing when it is told.
    fn pager_attach(&mut self, id: Id<Pager>) {
        let control = self.controls.insert(Control { pager: id, made: 0 }).ok();
        if let Some(pager) = self.pagers.get_mut(id) {
            pager.control = control;
        }
    }

    /// The pager behind a control port.
    ///
    /// # Errors
    /// `KERN_TERMINATED`: that attachment is over.
    pub(crate) fn pager_of_control(&self, control: ControlId) -> Result<Id<Pager>, Kern> {
        let record = self.controls.get(control).ok_or(Kern::Terminated)?;
        let pager = self.pagers.get(record.pager).ok_or(Kern::Terminated)?;
        if pager.control == Some(control) {
            Ok(record.pager)
        } else {
            Err(Kern::Terminated)
        }
    }

    /// `memory_object_ready`: data may be requested.
    pub(crate) fn pager_ready<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Pager>,
        tray: TrayId,
        attributes: Attributes,
    ) {
        if self.pagers.get(id).is_some_and(|p| p.tray != Some(tray)) {
            // Its loans lie in the slots of the tray that it leaves.
            self.loans_return(turn, id);
        }
        self.pager_leaves_tray(id);
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.users = tray.users.saturating_add(1);
        }
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        pager.tray = Some(tray);
        pager.may_cache = attributes.may_cache;
        pager.serves_itself = attributes.serves_itself;
        pager.synchronizes = attributes.synchronizes;
        pager.cluster = attributes.cluster;
        if pager.is_beginning() {
            pager.state = State::Ready;
        }
        self.pager_set_strategy(id, attributes.strategy);
        self.wake_pager(id);
        self.ask_again(turn, id);
        if let Some(object) = self.hold_ends(id) {
            self.object_dies_on(object);
        }
    }

    /// The object's strategy as its pager says it; `None`: temporary. An external object that is copied
    /// symmetrically has to settle who writes it, so that becomes delayed copying.
    pub(crate) fn pager_set_strategy(&mut self, id: Id<Pager>, said: Option<CopyStrategy>) {
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        pager.temporary = said.is_none();
        if let Some(said) = said {
            pager.strategy = said;
        }
        let object = pager.object;
        if let Some(object) = self.objects.get_mut(object) {
            object.strategy = match said {
                None | Some(CopyStrategy::Symmetric) => CopyStrategy::Delay,
                Some(other) => other,
            };
        }
    }

    /// The pager's tray is used by one pager less.
    pub(crate) fn pager_leaves_tray(&mut self, id: Id<Pager>) {
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        let mut open = 0;
        let (Some(tray), mut at) = (pager.tray.take(), pager.requests) else {
            return;
        };
        // As many as it has slots: every open page took one.
        while let Some(request) = self.requests.at(at) {
            open = request.missing.count_ones().saturating_add(open);
            at = request.next;
        }
        if let Some(tray) = self.trays.get_mut(tray) {
            tray.users = tray.users.saturating_sub(1);
            tray.taken = tray.taken.saturating_sub(open);
        }
        self.tray_feed(tray);
        // A step sees whether that was the end of it.
        self.tray_wants_refill(tray, u32::MAX);
    }

    /// The control port has no senders: the pager forgot the object, or its task ended. Whoever receives
    /// from the object's port is told of it again; loans come back as dirty pages.
    pub(crate) fn pager_detached<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Pager>) {
        self.loans_return(turn, id);
        self.pager_leaves_tray(id);
        self.drop_control(turn.effects, id);
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        let (port, object) = (pager.port, pager.object);
        let ends = match pager.state {
            State::Initialising | State::Ready | State::Detached => false,
            State::Terminating => true,
            State::Dead => return,
        };
        if ends && (pager.given_up || self.objects.get(object).is_none()) {
            pager.say_init = false;
            return self.object_dies_on(object);
        }
        if !ends {
            pager.state = State::Detached;
        }
        pager.generation = pager.generation.wrapping_add(1);
        pager.lost = turn.now;
        pager.say_init = true;
        pager.knows = false;
        self.drop_notes(id);
        // In the place of the one that has just gone.
        self.pager_attach(id);
        turn.effects.push(Effect::Talk(port));
        if ends {
            self.object_dies_on(object);
        } else if self.objects.get(object).is_some_and(|o| o.refs == 0) {
            // Cached, and nobody is there to keep it for.
            self.object_reference(object);
            self.object_deallocate(object);
        }
    }

    /// The pager's port is dead, or it withdrew: waits for it fail, and what is resident stays
    /// (rules 174, 175, amendment A3).
    pub(crate) fn pager_dead<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Pager>) {
        self.close_requests(id);
        self.loans_return(turn, id);
        self.pager_leaves_tray(id);
        self.drop_control(turn.effects, id);
        self.drop_notes(id);
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        let was = pager.state;
        pager.state = State::Dead;
        pager.say_init = false;
        pager.say_end = false;
        let object = pager.object;
        self.wake_pager(id);
        match (was, self.objects.get(object).map(|object| object.refs)) {
            // It waited only for its last words to be said.
            (State::Terminating, None) => self.pager_gone(turn.effects, id),
            (State::Terminating, _) => self.object_dies_on(object),
            (_, Some(0)) => {
                self.object_reference(object);
                self.object_deallocate(object);
            }
            _ => {}
        }
    }

    /// The object is gone; the pager is told, if it is there and ever heard of it.
    pub(crate) fn pager_ends(&mut self, effects: &mut Effects, id: Id<Pager>, tell: bool) {
        let Some(pager) = self.pagers.get_mut(id) else {
            return;
        };
        pager.say_init = false;
        if !tell || !pager.knows {
            return self.pager_gone(effects, id);
        }
        pager.say_end = true;
        effects.push(Effect::Talk(pager.port));
    }

    /// The record's end: the control port dies, and the port of the object is the successor's.
    pub(crate) fn pager_gone(&mut self, effects: &mut Effects, id: Id<Pager>) {
        self.pager_leaves_tray(id);
        self.drop_control(effects, id);
        self.drop_notes(id);
        self.wake_pager(id);
        self.hold_ends(id);
        let Some(pager) = self.pagers.remove(id) else {
            return;
        };
        let name = u64::from(pager.port.0);
        effects.push(Effect::Release(pager.port, 1));
        if let Some(first) = self.pager_at(pager.port) {
            // It ended before it spoke: the port is still that of the life before.
            if let Some(first) = self.pagers.get_mut(first)
                && first.successor == Some(id)
            {
                first.successor = pager.successor;
            }
            return;
        }
        let Some(next) = pager.successor else {
            return self.ports.clear(&mut self.nodes, name);
        };
        // The slot is used already, so this cannot fail.
        let slot = Slot::Pending(next.index());
        let _ = self.ports.set(&mut self.nodes, name, slot);
        effects.push(Effect::Talk(pager.port));
        if pager.port_dead
            && let Some(next) = self.pagers.get_mut(next)
        {
            // It never spoke, so there is nothing to undo.
            next.state = State::Dead;
            next.port_dead = true;
            next.say_init = false;
        }
        self.wake_pager(next);
    }

    fn drop_control(&mut self, effects: &mut Effects, id: Id<Pager>) {
        let control = self.pagers.get_mut(id).and_then(|p| p.control.take());
        if let Some(control) = control
            && self.controls.remove(control).is_some()
        {
            effects.push(Effect::PortGone(PortOf::Control(control)));
        }
    }

    /// Asks again for what was open when the pager was lost, oldest first.
    fn ask_again<M: Machine>(&mut self, turn: &mut Turn<'_, M>, id: Id<Pager>) {
        let Some(pager) = self.pagers.get(id) else {
            return;
        };
        let (tray, port, mut at) = (pager.tray, pager.port, pager.requests);
        let (object, mut last) = (pager.object, NIL);
        while let Some(request) = self.requests.at(at) {
            last = at;
            at = request.next;
        }
        while let Some(request) = self.requests.at(last) {
            let (prev, open) = (request.prev, request.missing.count_ones());
            if let Some(request) = self.requests.id_at(last) {
                if let Some(tray) = tray.and_then(|tray| self.trays.get_mut(tray)) {
                    tray.taken = tray.taken.saturating_add(open);
                }
                match self.note(id, crate::talk::Say::Request(request)) {
                    Ok(note) => {
                        if let Some(request) = self.requests.get_mut(request) {
                            request.note = Some(note);
                        }
                    }
                    // Without a record for it, whoever waits asks again, or is refused.
                    Err(_) => self.request_give_up(object, last),
                }
            }
            last = prev;
        }
        turn.effects.push(Effect::Talk(port));
    }

    /// The pager that serves an object, with its record.
    pub(crate) fn pager_of(&self, object: ObjectId) -> Option<(Id<Pager>, &Pager)> {
        let id = self.objects.get(object)?.pager?;
        Some((id, self.pagers.get(id)?))
    }
}

impl Pager {
    /// Whether it has to say that it is ready before it can be asked.
    #[must_use]
    pub const fn is_beginning(&self) -> bool {
        matches!(self.state, State::Initialising | State::Detached)
    }

    /// Whether it was told anew of an object that ends, and is to say that it is ready to store pages.
    #[must_use]
    pub const fn is_told_of_an_end(&self) -> bool {
        self.knows && self.generation > 0 && self.tray.is_none() && !self.given_up
    }

    /// Whether it was lost, and whoever comes in its place is not ready yet.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        self.is_beginning() && self.generation > 0
    }
}

/// What a pager says of its object in `memory_object_ready`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) may_cache: bool,
    pub(crate) serves_itself: bool,
    pub(crate) synchronizes: bool,
    pub(crate) cluster: u32,
    /// `None`: temporary.
    pub(crate) strategy: Option<CopyStrategy>,
}

impl Request {
    /// Offset and length in bytes, as the pager counts.
    #[must_use]
    pub const fn bytes(&self) -> (u64, u64) {
        (bytes_of(self.first), bytes_of(self.count as u64))
    }

    /// The bit of a page, if the request covers it.
    #[must_use]
    pub fn bit(&self, index: u64) -> u64 {
        match index.checked_sub(self.first) {
            Some(place) if place < u64::from(self.count) => 1u64.wrapping_shl(place as u32),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
