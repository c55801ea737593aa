//! Memory that may be given up: purgeable objects (vm_object_purgable_control; rules 28, 203), and
//! pages whose owner said that they are reusable.
//!
//! Objects whose contents may go stand in one of a few lists, in the order in which they go: those with
//! reusable pages; volatile objects that are obsolete; volatile objects by group, in each group those
//! that go first in, first out before those that go last in, first out; at last those that do not age.
//! When frames run short the first object is purged, [`BUDGET`] slots at a time. A volatile object is
//! *empty* from the first page that goes: its state says so once, to whoever makes it nonvolatile.
//!
//! Purgeable objects are only ever copied page by page, so nothing else shows their pages.

use ipc_abi::Kern;
use ipc_abi::types::{CopyStrategy, Prot, purgeable as word};

use crate::event::{MapId, ObjectId};
use crate::machine::Machine;
use crate::object::page::{Flags, Frame, State as PageState};
use crate::object::pages::Slot;
use crate::object::{Kind, Object};
use crate::op::BUDGET;
use crate::slab::NIL;
use crate::{Core, Turn};

/// What may become of an object's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They stay, and that cannot be changed: it is not purgeable.
    Deny,
    /// They stay until they are made volatile.
    Nonvolatile,
    /// They may go.
    Volatile,
    /// Some have gone.
    Empty,
}

impl State {
    const fn to_raw(self) -> u32 {
        match self {
            State::Deny => word::DENY,
            State::Nonvolatile => word::NONVOLATILE,
            State::Volatile => word::VOLATILE,
            State::Empty => word::EMPTY,
        }
    }
}

/// An object's part in this.
#[derive(Clone, Copy, Debug)]
pub struct Purgeable {
    /// What may become of its contents.
    pub state: State,
    /// The client may not change the state (MAP_MEM_PURGABLE_KERNEL_ONLY).
    pub kernel_only: bool,
    /// The list that it is in, or [`NO_CLASS`].
    class: u8,
    /// Neighbours in the list.
    next: u32,
    prev: u32,
}

impl Purgeable {
    /// Not purgeable.
    pub const DENY: Purgeable = Purgeable {
        state: State::Deny,
        kernel_only: false,
        class: NO_CLASS,
        next: NIL,
        prev: NIL,
    };
}

const NO_CLASS: u8 = u8::MAX;
/// Objects with reusable pages.
const REUSABLE: u8 = 0;
const OBSOLETE: u8 = 1;
/// Of the first group: first in, first out, then last in, first out; then the other groups'.
const GROUPS: u8 = 2;
const NO_AGING: u8 = 18;
const CLASSES: usize = 19;

/// Steps that one shortage may take at once.
const AT_ONCE: u32 = 4;

/// The lists, first of each and last of each.
#[derive(Debug)]
pub(crate) struct Queues {
    ends: [(u32, u32); CLASSES],
    /// The object that is being purged for want of frames, and its next page.
    working: Option<Working>,
}

#[derive(Clone, Copy, Debug)]
struct Working {
    object: ObjectId,
    next: u64,
    which: Which,
}

/// Which pages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    Reusable,
}

impl Queues {
    /// Nothing may go.
    pub(crate) const EMPTY: Queues = Queues {
        ends: [(NIL, NIL); CLASSES],
        working: None,
    };

    fn first(&self) -> u32 {
        let mut heads = self.ends.iter().map(|(head, _)| *head);
        heads.find(|head| *head != NIL).unwrap_or(NIL)
    }
}

/// Emptying an object, then setting its state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    object: ObjectId,
    next: u64,
    then: State,
}

impl Object {
    /// A purgeable object with one reference. It is copied page by page (rule 28).
    #[must_use]
    pub const fn purgeable(size: u64, payer: MapId, kernel_only: bool) -> Object {
        let mut object = Object::new(Kind::Internal, size, Some(payer));
        object.strategy = CopyStrategy::None;
        object.true_share = true;
        object.purgeable.state = State::Nonvolatile;
        object.purgeable.kernel_only = kernel_only;
        object
    }
}

impl Core {
    /// The state of a purgeable object, as a word.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: it is not purgeable.
    pub(crate) fn purgeable_get(&self, object: ObjectId) -> Result<u32, Kern> {
        match self.objects.get(object).map(|o| o.purgeable.state) {
            None | Some(State::Deny) => Err(Kern::InvalidArgument),
            Some(state) => Ok(state.to_raw()),
        }
    }

    /// Sets the state of a purgeable object; gives the state it had. If pages have to go first, the
    /// rest of that is the caller's to do.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: an undefined bit, DENY, or it is not purgeable.
    /// `KERN_PROTECTION_FAILURE`: not the client's to change.
    pub(crate) fn purgeable_set(
        &mut self,
        object: ObjectId,
        wanted: u32,
    ) -> Result<(u32, Option<Purge>), Kern> {
        if wanted & !word::ALL_MASKS != 0 || wanted & word::STATE_MASK == word::DENY {
            return Err(Kern::InvalidArgument);
        }
        let before = self.purgeable_get(object)?;
        let record = self.objects.get(object).ok_or(Kern::InvalidArgument)?;
        if record.purgeable.kernel_only {
            return Err(Kern::ProtectionFailure);
        }
        let half_gone = self.purge.working.is_some_and(|w| w.object == object);
        if half_gone {
            self.purge.working = None;
        }
        let purge = |then| {
            Some(Purge {
                object,
                next: 0,
                then,
            })
        };
        let rest = match wanted & word::STATE_MASK {
            word::NONVOLATILE if half_gone => purge(State::Nonvolatile),
            word::NONVOLATILE => {
                self.purgeable_become(object, State::Nonvolatile);
                None
            }
            word::VOLATILE if before == word::EMPTY && !half_gone => None,
            word::VOLATILE if before != word::EMPTY && wanted & word::DEBUG_EMPTY == 0 => {
                self.purgeable_become(object, State::Volatile);
                self.queue(object, class_of(wanted), goes_first(wanted));
                None
            }
            _ => purge(State::Empty),
        };
        if rest.is_some() {
            self.purgeable_become(object, State::Empty);
        }
        Ok((before, rest))
    }

    /// Frees up to [`BUDGET`] pages of an object that is being emptied. Says whether that is done.
    pub(crate) fn purge_object_step<M: Machine>(
        &mut self,
        machine: &mut M,
        work: &mut Purge,
    ) -> bool {
        if self.purge_pages(machine, work.object, &mut work.next, Which::All) > 0
            || self.next_slot(work.object, work.next, u64::MAX).is_some()
        {
            return false;
        }
        self.purgeable_become(work.object, work.then);
        true
    }

    /// Whether there is anything that may go.
    pub(crate) fn can_purge(&self) -> bool {
        self.purge.working.is_some() || self.purge.first() != NIL
    }

    /// Whether frames are so few that what may go goes.
    pub(crate) const fn is_short(&self) -> bool {
        self.pages.free() <= self.config.reserve
    }

    /// For want of frames: frees what may go, as much as an event may do. Says whether it is worth
    /// trying again what failed.
    #[cold]
    pub(crate) fn relieve<M: Machine>(&mut self, turn: &mut Turn<'_, M>) -> bool {
        let before = self.pages.free();
        for _ in 0..AT_ONCE {
            if !self.is_short() || !self.can_purge() {
                break;
            }
            self.purge_step(turn.machine);
        }
        self.pages.free() > before
    }

    /// Frees up to [`BUDGET`] pages of the first object whose contents may go.
    pub(crate) fn purge_step<M: Machine>(&mut self, machine: &mut M) {
        let Some(mut work) = self.purge.working.take().or_else(|| self.purge_next()) else {
            return;
        };
        let freed = self.purge_pages(machine, work.object, &mut work.next, work.which);
        if freed > 0 || self.next_slot(work.object, work.next, u64::MAX).is_some() {
            self.purge.working = Some(work);
        }
    }

    /// Takes the first object out of the lists.
    fn purge_next(&mut self) -> Option<Working> {
        let object = self.objects.id_at(self.purge.first())?;
        let state = self.objects.get(object)?.purgeable.state;
        let which = match state {
            State::Volatile => {
                self.purgeable_become(object, State::Empty);
                Which::All
            }
            _ => {
                self.unqueue(object);
                Which::Reusable
            }
        };
        Some(Working {
            object,
            next: 0,
            which,
        })
    }

    /// Frees pages among the next [`BUDGET`] used slots of an object; says how many. What is wired, or
    /// on its way to a pager, stays.
    fn purge_pages<M: Machine>(
        &mut self,
        machine: &mut M,
        object: ObjectId,
        next: &mut u64,
        which: Which,
    ) -> u32 {
        let mut batch = self.batch();
        let mut frames = heapless::Vec::<Frame, { BUDGET as usize }>::new();
        self.revoked = 0;
        for _ in 0..BUDGET {
            if self.revoked >= BUDGET {
                break;
            }
            let Some((index, slot)) = self.next_slot(object, *next, u64::MAX) else {
                break;
            };
            *next = index.saturating_add(1);
            let Slot::Page(frame) = slot else { continue };
            let goes = self.pages.get(frame).is_some_and(|page| {
                page.state == PageState::Resident
                    && page.wired == 0
                    && (which == Which::All || page.flags.contains(Flags::REUSABLE))
            });
            if goes {
                self.revoke_later(machine, &mut batch, frame, Prot::NONE);
                // There is room for as many as are looked at.
                let _ = frames.push(frame);
            }
        }
        self.batch_end(batch, machine);
        for frame in &frames {
            self.object_take_page(*frame);
            self.frame_free(*frame);
        }
        frames.len() as u32
    }

    /// An object ends, or is not what it was: it leaves its list.
    pub(crate) fn purgeable_forget(&mut self, object: ObjectId) {
        if let Some(record) = self.objects.get(object)
            && record.purgeable.class != NO_CLASS
        {
            match record.purgeable.state {
                State::Volatile => self.purgeable_become(object, State::Nonvolatile),
                _ => self.unqueue(object),
            }
        }
    }

    /// Sets the state; what the payer has of volatile memory is counted.
    fn purgeable_become(&mut self, object: ObjectId, state: State) {
        self.unqueue(object);
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        let before = core::mem::replace(&mut record.purgeable.state, state);
        let (size, pages) = (record.size, record.pages.pages());
        let payer = record.payer;
        let Some(map) = payer.and_then(|id| self.maps.get_mut(id)) else {
            return;
        };
        if before == State::Volatile {
            map.counts.volatile_size = map.counts.volatile_size.saturating_sub(size);
            map.counts.volatile = map.counts.volatile.saturating_sub(pages);
        }
        if state == State::Volatile {
            map.counts.volatile_size = map.counts.volatile_size.saturating_add(size);
            map.counts.volatile = map.counts.volatile.saturating_add(pages);
        }
    }

    /// Notes that an object has reusable pages.
    pub(crate) fn queue_reusable(&mut self, object: ObjectId) {
        if self
            .objects
            .get(object)
            .is_some_and(|o| o.purgeable.class == NO_CLASS)
        {
            self.queue(object, REUSABLE, false);
        }
    }

    fn queue(&mut self, object: ObjectId, class: u8, first: bool) {
        let Some(&(head, tail)) = self.purge.ends.get(usize::from(class)) else {
            return;
        };
        let index = object.index();
        let (prev, next) = if first { (NIL, head) } else { (tail, NIL) };
        if let Some(record) = self.objects.get_mut(object) {
            record.purgeable.class = class;
            record.purgeable.prev = prev;
            record.purgeable.next = next;
        }
        if let Some(above) = self.objects.at_mut(prev) {
            above.purgeable.next = index;
        }
        if let Some(below) = self.objects.at_mut(next) {
            below.purgeable.prev = index;
        }
        if let Some(ends) = self.purge.ends.get_mut(usize::from(class)) {
            if prev == NIL {
                ends.0 = index;
            }
            if next == NIL {
                ends.1 = index;
            }
        }
    }

    fn unqueue(&mut self, object: ObjectId) {
        let Some(record) = self.objects.get_mut(object) else {
            return;
        };
        let Purgeable {
            class, prev, next, ..
        } = record.purgeable;
        if class == NO_CLASS {
            return;
        }
        record.purgeable.class = NO_CLASS;
        record.purgeable.prev = NIL;
        record.purgeable.next = NIL;
        if let Some(above) = self.objects.at_mut(prev) {
            above.purgeable.next = next;
        }
        if let Some(below) = self.objects.at_mut(next) {
            below.purgeable.prev = prev;
        }
        if let Some(ends) = self.purge.ends.get_mut(usize::from(class)) {
            if prev == NIL {
                ends.0 = next;
            }
            if next == NIL {
                ends.1 = prev;
            }
        }
    }

    /// Objects whose contents may go, in the order in which they do. For the invariants.
    pub(crate) fn purgeable_in_order(&self) -> impl Iterator<Item = (u8, ObjectId)> {
        self.purge
            .ends
            .iter()
            .enumerate()
            .flat_map(move |(class, ends)| {
                let mut at = ends.0;
                core::iter::from_fn(move || {
                    let id = self.objects.id_at(at)?;
                    at = self.objects.at(at)?.purgeable.next;
                    Some((class as u8, id))
                })
            })
    }

    /// Whether the list that an object says that it is in is this.
    pub(crate) fn is_in_class(&self, object: ObjectId, class: Option<u8>) -> bool {
        let own = self.objects.get(object).map(|o| o.purgeable.class);
        own == Some(class.unwrap_or(NO_CLASS))
    }
}

/// The list that the bits of a state word name.
const fn class_of(wanted: u32) -> u8 {
    if wanted & word::NO_AGING != 0 {
        return NO_AGING;
    }
    if wanted & word::ORDERING_OBSOLETE != 0 {
        return OBSOLETE;
    }
    let group = (wanted & word::GROUP_MASK) >> word::GROUP_SHIFT;
    let lifo = wanted & word::BEHAVIOR_LIFO != 0;
    GROUPS
        .saturating_add((group as u8).saturating_mul(2))
        .saturating_add(lifo as u8)
}

/// Whether an object goes before those that are in its list already.
const fn goes_first(wanted: u32) -> bool {
    wanted & (word::BEHAVIOR_LIFO | word::MAKE_FIRST_IN_GROUP) != 0
}
