//! Operations with a time limit of their own, shorter than that of all others.
//!
//! The list of all waiters by age is in order of deadline only because all may wait equally long. The
//! few that may not are in a tree by millisecond as well, whose first is the next to time out.

use ipc_abi::Kern;

use crate::Core;
use crate::event::Time;
use crate::machine::Machine;
use crate::object::pages::Slot;
use crate::op::BUDGET;

/// Nanoseconds of a place in the tree.
const TICK: u64 = 1_000_000;

impl Core {
    /// Gives the operation of a waiter until `deadline`: then it fails with
    /// KERN_OPERATION_TIMED_OUT. Once for each.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no node, or too many with the same deadline; nothing has changed.
    pub(crate) fn deadline_set(&mut self, waiter: u32, deadline: Time) -> Result<(), Kern> {
        // A place is never early.
        let first = (deadline.0 / TICK).saturating_add(1);
        let mut places = first..first.saturating_add(u64::from(BUDGET));
        let free = places.find(|at| self.deadlines.get(&self.nodes, *at) == Slot::Empty);
        let place = free.ok_or(Kern::ResourceShortage)?;
        let slot = Slot::Pending(waiter);
        self.deadlines.set(&mut self.nodes, place, slot)?;
        if let Some(waiter) = self.waiters.at_mut(waiter) {
            waiter.own_deadline = Some(place);
        }
        Ok(())
    }

    /// A waiter goes, or its deadline has passed.
    pub(crate) fn deadline_clear(&mut self, waiter: u32) {
        let place = self
            .waiters
            .at_mut(waiter)
            .and_then(|w| w.own_deadline.take());
        if let Some(place) = place {
            self.deadlines.clear(&mut self.nodes, place);
        }
    }

    /// When the first of them is due.
    pub(crate) fn deadline_first(&self) -> Option<Time> {
        let (place, _) = self.deadlines.next(&self.nodes, 0)?;
        Some(Time(place.saturating_mul(TICK)))
    }

    /// Fails those whose deadline has passed.
    pub(crate) fn deadlines_expire<M: Machine>(&mut self, turn: &mut crate::Turn<'_, M>) {
        for _ in 0..BUDGET {
            let due = self.deadlines.next(&self.nodes, 0);
            let Some((place, Slot::Pending(waiter))) = due else {
                return;
            };
            if place.saturating_mul(TICK) > turn.now.0 || !turn.effects.has_room() {
                return;
            }
            self.deadline_clear(waiter);
            self.waiter_fail(turn, waiter, Kern::OperationTimedOut);
        }
    }
}
