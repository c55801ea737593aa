//! The ring of a child.
//!
//! A fork lets go of its parent's map while it waits for a pager. What is taken from the parent's ring
//! meanwhile may be in the child's, copied before, and its memory not in the child, or other memory in
//! its place. So a child never takes what was taken, or begun to be, when it was complete: if the child has
//! that memory, it keeps it.

use ipc_abi::Kern;
use ipc_abi::reclaim as layout;
use ipc_abi::types::Prot;

use super::{Ring, Words, store};
use crate::event::MapId;
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::{Core, Turn};

/// It waits: see [`Core::ring_inherit`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked;

impl Core {
    /// A child that has a copy of its parent's ring has a ring. One whose words cannot be read or written
    /// has none.
    ///
    /// # Errors
    /// The operation of `waiter` has been parked, and is to try again.
    pub(crate) fn ring_inherit<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (parent, child): (MapId, MapId),
        waiter: u32,
    ) -> Result<(), Parked> {
        let Some(ring) = self.maps.get(parent).and_then(|map| map.ring) else {
            return Ok(());
        };
        let entry = self.maps.get(child).and_then(|map| {
            let link = map.tree.find(&self.entries, ring.address);
            self.entries.at(link.0).filter(|_| map.ring.is_none())
        });
        let Some(is_copy) = entry.map(|entry| !entry.is_shared) else {
            return Ok(());
        };
        if is_copy {
            match self.ring_catch_up(turn, (parent, child), ring.address, waiter) {
                Ok(true) => {}
                Ok(false) => return Err(Parked),
                Err(_) => return Ok(()),
            }
        }
        if let Some(map) = self.maps.get_mut(child) {
            map.ring = Some(Ring {
                begun: None,
                ..ring
            });
            self.rings = self.rings.saturating_add(1);
        }
        Ok(())
    }

    /// Takes out of a child's ring what is not in its parent's any more. `false`: the operation has been
    /// parked.
    ///
    /// # Errors
    /// The words cannot be read, or written.
    fn ring_catch_up<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (parent, child): (MapId, MapId),
        address: u64,
        waiter: u32,
    ) -> Result<bool, Kern> {
        let mut both = [Words::NONE; 2];
        for (words, map) in both.iter_mut().zip([parent, child]) {
            match self.fetch(turn, map, address, Prot::READ, waiter)? {
                Fetched::Page(frame) => *words = Words::load(turn.machine, frame),
                Fetched::Zero => {}
                Fetched::Wait => return Ok(false),
            }
        }
        let [theirs, ours] = both;
        let half = self.maps.get(parent).and_then(|map| map.ring?.begun);
        let begun = half == Some(theirs.head);
        let head = theirs.head.saturating_add(u64::from(begun));
        if ours.head >= head {
            return Ok(true);
        }
        let frame = match self.fetch(turn, child, address, Prot::WRITE, waiter)? {
            Fetched::Page(frame) => frame,
            Fetched::Zero => return Err(Kern::Failure),
            Fetched::Wait => return Ok(false),
        };
        for (place, word) in [
            (layout::HEAD, head),
            (layout::BUSY, ours.busy.max(head)),
            (layout::TAIL, ours.tail.max(head)),
        ] {
            store(turn.machine, frame, place, word);
        }
        Ok(true)
    }
}
