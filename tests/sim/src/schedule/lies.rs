//! A task that lies in its ring: it writes words and entries that make no sense, puts what it does not own
//! into it, takes its memory away, and forks. It may lose its memory for that, and nobody else anything.

use ipc_abi::reclaim;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferFlush as Flush, MachVmDeferredReclamationBufferResize as Resize,
    Request as Advice,
};
use ipc_protocol::vm_map::{Request, VmAllocate, VmDeallocate, VmInherit, VmMap, VmProtect};
use vm_core::event::Event;

use super::Sim;
use super::ring::{Asks, BYTES, KEEPERS, LEN_MAX, set_word, word};
use crate::calls::swapout;

/// What a task that lies remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lies {
    /// It has been found out: its memory is gone.
    caught: bool,
    /// What it has mapped of a pager's object, which is to be there whatever it does.
    shown: Option<u64>,
}

/// Pages of a pager's object that it maps.
const SHOWN: u64 = 2;

impl Sim {
    /// The ring of a task was found to be corrupt: of one that lies.
    pub(super) fn caught(&mut self, map: u32) {
        let mut keepers = self.keepers.iter_mut();
        let keeper = keepers.find(|keeper| keeper.map.index() == map);
        let lies = keeper.and_then(|keeper| keeper.lies.as_mut());
        let Some(lies) = lies else {
            panic!("the ring of map {map} is not corrupt");
        };
        lies.caught = true;
        *self.tally.entry("lies found out".into()).or_default() += 1;
    }

    /// A task that lies does one thing.
    pub(super) fn lie(&mut self, at: usize) {
        let keeper = &self.keepers[at];
        let Some(lies) = keeper.lies else {
            return;
        };
        if lies.caught || self.luck.once_in(60) {
            return self.keeper_ends(at);
        }
        let Some((address, len)) = keeper.ring.filter(|_| keeper.fault.is_none()) else {
            return;
        };
        match self.luck.below(12) {
            0..6 => self.write_lie(at),
            _ if keeper.call.is_some() => {}
            6 if self.keepers.len() < KEEPERS => self.keep_fork(at),
            7 => self.lose_memory(at),
            8 => self.show_file(at),
            9 => {
                let len = self.luck.below(2 * u64::from(LEN_MAX)) as u32;
                let request = Advice::MachVmDeferredReclamationBufferResize(Resize { len });
                self.keep_ask(at, Request::Advice(request), Asks::Other);
            }
            10 => self.keep_ask(at, swapout(), Asks::Other),
            11 if self.luck.once_in(2) => {
                let map = keeper.map;
                self.world.post(Event::TaskSuspended(map));
            }
            _ => {
                let count = 1 + self.luck.below(u64::from(len) + address % 3) as u32;
                let request = Advice::MachVmDeferredReclamationBufferFlush(Flush { count });
                self.keep_ask(at, Request::Advice(request), Asks::Other);
            }
        }
    }

    /// Writes a word, or an entry that may be one.
    fn write_lie(&mut self, at: usize) {
        let keeper = &mut self.keepers[at];
        let Some((address, len)) = keeper.ring else {
            return;
        };
        let page = address / BYTES;
        let Some(bytes) = self.world.model.page(keeper.map, page, Prot::WRITE) else {
            keeper.fault = Some(self.world.fault(keeper.map, address, Prot::WRITE));
            return;
        };
        let random = &mut self.luck;
        let tail = word(bytes, reclaim::TAIL);
        if random.once_in(6) {
            let places = [
                reclaim::HEAD,
                reclaim::BUSY,
                reclaim::TAIL,
                reclaim::CAPACITY,
            ];
            let values = [0, 1, u64::from(len), tail.wrapping_sub(1), u64::MAX];
            let place = random.pick(&places).unwrap_or(reclaim::HEAD);
            let value = random.pick(&values).unwrap_or_default();
            return set_word(bytes, place, value);
        }
        let shown = keeper.lies.and_then(|lies| lies.shown);
        let near = address / BYTES * BYTES + random.below(12) * BYTES;
        let starts = [
            near,
            near.wrapping_sub(12 * BYTES),
            near + 8,
            address,
            !0xFFF,
        ];
        let usual = shown.map_or(near, |shown| shown + random.below(SHOWN) * BYTES);
        let start = match random.once_in(4) {
            true => random.pick(&starts).unwrap_or_default(),
            false => usual,
        };
        let sizes = [0, BYTES, 2 * BYTES, 1, 0xFFFF_F000];
        let size = match random.once_in(6) {
            true => random.pick(&sizes).unwrap_or_default(),
            false => BYTES,
        };
        let entry = reclaim::Entry {
            address: start,
            size: size as u32,
            behavior: match random.once_in(10) {
                true => random.below(5) as u32,
                false => 1 + random.below(2) as u32,
            },
        };
        let place = reclaim::entry_offset(tail, len);
        let [first, second] = entry.to_words();
        set_word(bytes, place, first);
        set_word(bytes, place + 8, second);
        set_word(bytes, reclaim::TAIL, tail.wrapping_add(1));
    }

    /// Takes its ring away, or the memory behind it.
    fn lose_memory(&mut self, at: usize) {
        let Some((address, _)) = self.keepers[at].ring else {
            return;
        };
        let size = BYTES;
        let request = match self.luck.below(12) {
            0 => Request::VmDeallocate(VmDeallocate { address, size }),
            1 => Request::VmAllocate(VmAllocate {
                address,
                size,
                flags: MapFlags::OVERWRITE.bits(),
            }),
            2 => Request::VmProtect(VmProtect {
                address,
                size,
                set_maximum: false,
                protection: u32::from(Prot::READ.bits()),
            }),
            inheritance => Request::VmInherit(VmInherit {
                address,
                size,
                inheritance: inheritance as u32 % 3,
            }),
        };
        self.keep_ask(at, request, Asks::Other);
    }

    /// Maps what a pager has, so that it cannot be written, or is its own when it is.
    fn show_file(&mut self, at: usize) {
        let files: Vec<usize> = (0..self.pagers.files.len()).collect();
        let Some(file) = self.luck.pick(&files) else {
            return;
        };
        let (map, copy) = (self.keepers[at].map, self.luck.once_in(2));
        let rights = if copy { Prot::DEFAULT } else { Prot::READ };
        let request = Request::VmMap(VmMap {
            copy,
            protection: u32::from(rights.bits()),
            max_protection: u32::from(rights.bits()),
            ..VmMap::anywhere(SHOWN * BYTES)
        });
        // Of the copies of objects only pagers know.
        let file = self.pagers.original(file);
        let right = self.world.right_to(self.pagers.files[file].port);
        let token = self.world.call(map, request, right);
        self.keepers[at].call = Some((token, Asks::Shown));
    }

    /// Where what it wanted to see shows.
    pub(super) fn note_shown(lies: &mut Option<Lies>, address: u64) {
        if let Some(lies) = lies {
            lies.shown = Some(address);
        }
    }
}
