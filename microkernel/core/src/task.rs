//! A task's record: its names, its special ports, its threads' slots, and how far its end has come.

use crate::{
    TaskId,
    handlers::Handlers,
    list::{Linked, Links, List},
    machine::SpaceId,
    message::MessageId,
    port::PortId,
    slab::{Id, Record},
    space::Names,
    thread::{PEER, Thread},
};
use alloc::vec::Vec;
use ipc_abi::{Kern, layout::IPC_SLOTS, right::SpecialPort};

/// How far the end of a task has come. Each phase is done in bounded steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has not begun.
    Alive,
    /// Its threads end.
    Threads,
    /// Its names are given back, from this index on.
    Names(u32),
    /// Those who wait for its answers are told, from this thread number on.
    Callers(u32),
    /// Its special ports are given back and its translations removed.
    Space,
}

/// A task. Opaque outside of this crate.
#[derive(Debug)]
pub struct Task {
    pub(crate) life: Life,
    pub(crate) status: u64,
    pub(crate) names: Names,
    pub(crate) space: SpaceId,
    /// Who made it, and pays for it.
    pub(crate) maker: Option<TaskId>,
    /// The port of its space.
    pub(crate) space_port: Option<PortId>,
    /// Bytes that it is charged with for spaces that it made.
    pub(crate) spaces: u64,
    /// Its control port.
    pub(crate) port: PortId,
    /// Send rights by index of special port.
    special: [Option<PortId>; SpecialPort::COUNT],
    /// Who handles exceptions that its threads do not.
    pub(crate) handlers: Handlers,
    /// Highest priority of its threads.
    pub(crate) band: u8,
    pub(crate) threads: List<Thread, PEER>,
    /// How many they are.
    pub(crate) thread_count: u32,
    /// Nanoseconds that its threads had a processor, also those that have ended.
    pub(crate) time: u64,
    /// How often it was suspended and not resumed.
    pub(crate) suspended: u32,
    /// Number of the last change from suspended to not suspended or back.
    pub(crate) change: u32,
    /// How many threads have not heard of it yet.
    pub(crate) unreached: u32,
    pub(crate) slots: Slots,
    /// Rights to it that were found, while a search suspects that nobody can reach it.
    pub(crate) suspected: Option<u32>,
    /// The notice that it has ended.
    pub(crate) notice: MessageId,
    /// The notice that it is suspended.
    pub(crate) suspension: MessageId,
    /// The change that was told last by it.
    pub(crate) told: u32,
    work_links: Links<Task>,
}

impl Task {
    /// A task without names, threads and special ports.
    pub(crate) fn new(
        names: Names,
        space: SpaceId,
        port: PortId,
        [notice, suspension]: [MessageId; 2],
    ) -> Task {
        Task {
            life: Life::Alive,
            status: 0,
            names,
            space,
            maker: None,
            space_port: None,
            spaces: 0,
            port,
            special: [None; SpecialPort::COUNT],
            handlers: Handlers::NONE,
            band: 0,
            threads: List::NEW,
            thread_count: 0,
            time: 0,
            suspended: 0,
            change: 0,
            unreached: 0,
            slots: Slots::NEW,
            suspected: None,
            notice,
            suspension,
            told: 0,
            work_links: Links::NONE,
        }
    }

    /// A special port.
    pub(crate) fn special(&self, which: SpecialPort) -> Option<PortId> {
        self.special.get(which as usize).copied().flatten()
    }

    /// Sets a special port and gives the one that was there.
    pub(crate) fn set_special(
        &mut self,
        which: SpecialPort,
        port: Option<PortId>,
    ) -> Option<PortId> {
        let place = self.special.get_mut(which as usize)?;
        core::mem::replace(place, port)
    }

    /// Counts a suspension that its threads have to hear of.
    pub(crate) const fn changed(&mut self) {
        self.change = self.change.wrapping_add(1);
        self.unreached = self.thread_count;
    }

    /// All special ports that are set.
    pub(crate) fn special_ports(&self) -> impl Iterator<Item = PortId> {
        self.special.iter().flatten().copied()
    }

    /// Takes one of the special ports away.
    pub(crate) fn take_special(&mut self) -> Option<PortId> {
        self.special.iter_mut().find_map(Option::take)
    }
}

impl Record for Task {
    type Cells = ();

    fn vacant(_: &()) -> Task {
        Task::new(Names::NONE, SpaceId(0), Id::NOWHERE, [Id::NOWHERE; 2])
    }

    fn release(&mut self) {
        self.names = Names::NONE;
        self.slots = Slots::NEW;
    }
}

impl Linked<0> for Task {
    fn links(&self) -> &Links<Task> {
        &self.work_links
    }
    fn links_mut(&mut self) -> &mut Links<Task> {
        &mut self.work_links
    }
}

/// Which slots of a task's window of IPC buffers are taken: the lowest free one is given.
#[derive(Debug)]
pub(crate) struct Slots {
    words: Vec<u64>,
    /// No word below this one has a free bit.
    hint: usize,
}

impl Slots {
    pub(crate) const NEW: Slots = Slots {
        words: Vec::new(),
        hint: 0,
    };

    /// Takes a slot.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: the window is full, or no memory.
    pub(crate) fn take(&mut self) -> Result<u32, Kern> {
        let free = self.words.iter().skip(self.hint);
        let full = free.take_while(|word| **word == u64::MAX).count();
        let place = self.hint.saturating_add(full);
        if place >= self.words.len() {
            let room = self.words.try_reserve(1);
            room.map_err(|_| Kern::ResourceShortage)?;
            self.words.push(0);
        }
        self.hint = place;
        let word = self.words.get_mut(place).ok_or(Kern::ResourceShortage)?;
        let bit = word.trailing_ones();
        let slot = (place as u64)
            .saturating_mul(64)
            .saturating_add(u64::from(bit));
        if slot >= IPC_SLOTS {
            return Err(Kern::ResourceShortage);
        }
        *word |= 1u64.checked_shl(bit).unwrap_or(0);
        u32::try_from(slot).map_err(|_| Kern::ResourceShortage)
    }

    /// Gives a slot back.
    pub(crate) fn give(&mut self, slot: u32) {
        let place = (slot >> 6) as usize;
        if let Some(word) = self.words.get_mut(place) {
            *word &= !(1 << (slot & 63));
            self.hint = self.hint.min(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_given_and_the_window_has_an_end() {
        let mut slots = Slots::NEW;
        for expected in 0..IPC_SLOTS as u32 {
            assert_eq!(slots.take(), Ok(expected));
        }
        assert_eq!(slots.take(), Err(Kern::ResourceShortage));
        slots.give(70_000);
        slots.give(3);
        assert_eq!(slots.take(), Ok(3));
        assert_eq!(slots.take(), Ok(70_000));
        assert_eq!(slots.take(), Err(Kern::ResourceShortage));
    }
}
