//! What the quick ways know of the processor that they are gone on.
//!
//! Its processor changes it inside its gate, or with the turn; others look at it, and change it, with
//! the turn and the gate closed. So decisions are made for a processor through its seat, whoever makes
//! them.

use alloc::vec::Vec;
use core::{cell::Cell, fmt};

use crate::cells::ThreadCells;
use ipc_abi::Kern;

/// What runs on a processor, and who waits for it. Opaque outside of this crate.
pub struct Seat {
    pub(crate) current: Cell<Option<&'static ThreadCells>>,
    /// Priority of `current`.
    pub(crate) priority: Cell<u8>,
    /// Bit n: somebody of rank n waits for the processor. Bit 0 is always set, so that nothing is below
    /// the rank of those that no fast path may make the running one.
    pub(crate) occupied: Cell<u64>,
    messages: Cell<u64>,
    faults: Cell<u64>,
}

impl Seat {
    /// That of a processor that has nothing to do.
    #[must_use]
    pub const fn new() -> Seat {
        Seat {
            current: Cell::new(None),
            priority: Cell::new(0),
            occupied: Cell::new(1),
            messages: Cell::new(0),
            faults: Cell::new(0),
        }
    }

    /// One that stays for ever.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn kept() -> Result<&'static Seat, Kern> {
        let mut place = Vec::new();
        let reserved = place.try_reserve_exact(1);
        reserved.map_err(|_| Kern::ResourceShortage)?;
        place.push(Seat::new());
        let places: &'static [Seat] = place.leak();
        places.first().ok_or(Kern::ResourceShortage)
    }

    /// Whether all that wait are less important than a thread of this rank.
    #[inline(always)]
    pub(crate) fn is_below(&self, rank: u8) -> bool {
        self.occupied.get() >> (rank & 63) == 0
    }

    /// Makes a thread the one that runs.
    #[inline(always)]
    pub(crate) fn run(&self, thread: &'static ThreadCells) {
        self.priority.set(thread.priority.get());
        self.current.set(Some(thread.run()));
    }

    /// Counts a message that went a fast way.
    #[inline(always)]
    pub fn count_message(&self) {
        self.messages.set(self.messages.get().wrapping_add(1));
    }

    /// Counts a page fault that went a fast way.
    #[inline(always)]
    pub fn count_fault(&self) {
        self.faults.set(self.faults.get().wrapping_add(1));
    }

    /// The messages and page faults that went a fast way.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.messages.get(), self.faults.get())
    }
}

impl Default for Seat {
    fn default() -> Seat {
        Seat::new()
    }
}

/// Without the counts, which are no part of the state.
impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("current", &self.current)
            .field("priority", &self.priority)
            .field("occupied", &self.occupied)
            .finish()
    }
}
