//! A task with a ring of deferred reclamation (rules 206, 207): it puts ranges into the ring, takes some
//! back, and has the others taken; memory that runs short takes them too.
//!
//! It keeps to itself what it has, so that it needs no part of the flat model: a range that may still be
//! taken back holds what was written, and one that was taken is gone, or reads zero.
//!
//! It may fork. A child has what its parent had when it asked for that, for the parent does nothing until it
//! is answered; but both rings are emptied all the time. Some children lie ([`super::lies`]).

use std::collections::{BTreeMap, VecDeque};

use ipc_abi::Kern;
use ipc_abi::reclaim::{self, Behavior};
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate, MachVmDeferredReclamationBufferFlush,
    MachVmDeferredReclamationBufferResize, MachVmDeferredReclamationBufferUpdateReclaimableBytes,
    Reply as Said, Request as Advice,
};
use ipc_protocol::vm_map::{self, Request, VmAllocate, VmDeallocate};
use vm_core::call::Message;
use vm_core::effect::Answer;
use vm_core::event::{Event, MapId, PortOf, PortRef, Token};

use super::Sim;
use super::lies::Lies;
use crate::calls::swapout;
use crate::flat::PAGE;

pub(super) const BYTES: u64 = PAGE as u64;
/// Entries of the ring, at most.
pub(super) const LEN_MAX: u32 = 8;
/// Tasks with rings, at most.
pub(super) const KEEPERS: usize = 4;

/// A range in the ring, or on its way there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) page: u64,
    pub(super) pages: u64,
    behavior: Behavior,
    /// What it was filled with.
    byte: u8,
}

/// What it does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Fill(Offer, u64),
    Put(Offer),
    TakeBack,
}

/// What a call that it waits for is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    Fork,
    Ring(u32),
    Shown,
    Memory(Offer),
    Resize(u32),
    Other,
}

/// The task.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) map: MapId,
    /// Address of the ring, and its entries.
    pub(super) ring: Option<(u64, u32)>,
    offers: BTreeMap<u64, Offer>,
    acts: VecDeque<Act>,
    pub(super) fault: Option<Token>,
    pub(super) call: Option<(Token, Asks)>,
    /// What its child will have in its ring.
    inherits: BTreeMap<u64, Offer>,
    /// It does not do as it should.
    pub(super) lies: Option<Lies>,
}

impl Keeper {
    pub(super) const fn new(map: MapId) -> Keeper {
        Keeper {
            map,
            ring: None,
            offers: BTreeMap::new(),
            acts: VecDeque::new(),
            fault: None,
            call: None,
            inherits: BTreeMap::new(),
            lies: None,
        }
    }
}

pub(super) fn word(bytes: &[u8], offset: u64) -> u64 {
    let at = offset as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(super) fn set_word(bytes: &mut [u8], offset: u64, value: u64) {
    let at = offset as usize;
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Sim {
    /// A task with a ring does one thing.
    pub(super) fn keep(&mut self) {
        let at = match self.keepers.len() as u64 {
            0 => return,
            1 => 0,
            count => self.luck.below(count) as usize,
        };
        if self.keepers[at].lies.is_some() {
            return self.lie(at);
        }
        if self.kind.families && self.keepers[at].ring.is_some() && self.luck.once_in(24) {
            return self.keep_family(at);
        }
        let keeper = &mut self.keepers[at];
        // While the ring gets another size nothing is put into it, and while it is copied neither.
        let resizing = matches!(keeper.call, Some((_, Asks::Resize(_))));
        let forking = matches!(keeper.call, Some((_, Asks::Fork)));
        if keeper.fault.is_some() || forking || resizing && !keeper.acts.is_empty() {
            return;
        }
        match keeper.acts.pop_front() {
            Some(act) => self.keep_on(at, act),
            None => self.keep_idea(at),
        }
    }

    /// It forks, or ends, if there is another.
    fn keep_family(&mut self, at: usize) {
        let keeper = &mut self.keepers[at];
        if keeper.call.is_none() && keeper.fault.is_none() && !self.luck.once_in(3) {
            keeper.inherits = keeper.offers.clone();
            self.keep_fork(at);
        } else if self.keepers.len() > 1 {
            self.keeper_ends(at);
        }
    }

    /// It forks, unless there are enough.
    pub(super) fn keep_fork(&mut self, at: usize) {
        if self.keepers.len() < KEEPERS {
            let request = vm_map::TaskCreate { inherit: true };
            self.keep_ask(at, Request::TaskCreate(request), Asks::Fork);
        }
    }

    fn keep_idea(&mut self, at: usize) {
        let keeper = &self.keepers[at];
        let (random, busy) = (&mut self.luck, keeper.call.is_some());
        let Some((_, len)) = keeper.ring else {
            if !busy {
                let len = 1 + random.below(LEN_MAX.into()) as u32;
                let max_len = LEN_MAX;
                let request = Advice::MachVmDeferredReclamationBufferAllocate(
                    MachVmDeferredReclamationBufferAllocate { len, max_len },
                );
                self.keep_ask(at, Request::Advice(request), Asks::Ring(len));
            }
            return;
        };
        let resizing = matches!(keeper.call, Some((_, Asks::Resize(_))));
        let flush = |count| {
            Advice::MachVmDeferredReclamationBufferFlush(MachVmDeferredReclamationBufferFlush {
                count,
            })
        };
        match random.below(16) {
            0..9 if !busy => {
                let offer = Offer {
                    page: 0,
                    pages: 1 + random.below(4),
                    behavior: match random.once_in(2) {
                        true => Behavior::Free,
                        false => Behavior::Deallocate,
                    },
                    byte: 1 + random.below(255) as u8,
                };
                let request = Request::VmAllocate(VmAllocate {
                    address: 0,
                    size: offer.pages * BYTES,
                    flags: MapFlags::ANYWHERE.bits(),
                });
                self.keep_ask(at, request, Asks::Memory(offer));
            }
            9..11 if !resizing => {
                self.keepers[at].acts.push_back(Act::TakeBack);
            }
            11 if !busy => {
                let count = 1 + random.below(u64::from(len)) as u32;
                self.keep_ask(at, Request::Advice(flush(count)), Asks::Other);
            }
            12 if !busy => {
                let len = 1 + random.below(LEN_MAX.into()) as u32;
                let request = Advice::MachVmDeferredReclamationBufferResize(
                    MachVmDeferredReclamationBufferResize { len },
                );
                self.keep_ask(at, Request::Advice(request), Asks::Resize(len));
            }
            13 if !busy => {
                let reclaimable_bytes = [0, BYTES, u64::MAX][random.below(3) as usize];
                let request = Advice::MachVmDeferredReclamationBufferUpdateReclaimableBytes(
                    MachVmDeferredReclamationBufferUpdateReclaimableBytes { reclaimable_bytes },
                );
                self.keep_ask(at, Request::Advice(request), Asks::Other);
            }
            14 if !busy => self.keep_ask(at, swapout(), Asks::Other),
            15 => {
                let map = keeper.map;
                self.world.post(Event::TaskSuspended(map));
            }
            _ => {}
        }
    }

    pub(super) fn keep_ask(&mut self, at: usize, request: Request, asks: Asks) {
        let keeper = &mut self.keepers[at];
        let token = self.world.call(keeper.map, request, PortRef::None);
        keeper.call = Some((token, asks));
    }

    fn keep_on(&mut self, at: usize, act: Act) {
        let keeper = &mut self.keepers[at];
        let (address, len) = keeper.ring.unwrap();
        let page = match act {
            Act::Fill(offer, index) => offer.page + index,
            Act::Put(_) | Act::TakeBack => address / BYTES,
        };
        let Some(bytes) = self.world.model.page(keeper.map, page, Prot::WRITE) else {
            keeper.acts.push_front(act);
            let fault = self.world.fault(keeper.map, page * BYTES, Prot::WRITE);
            self.keepers[at].fault = Some(fault);
            return;
        };
        let (head, tail) = (word(bytes, reclaim::HEAD), word(bytes, reclaim::TAIL));
        let mut goes = None;
        match act {
            Act::Fill(offer, _) => bytes.fill(offer.byte),
            Act::Put(offer) if tail - head >= u64::from(len) => goes = Some(offer),
            Act::Put(offer) => {
                let entry = reclaim::Entry {
                    address: offer.page * BYTES,
                    size: (offer.pages * BYTES) as u32,
                    behavior: offer.behavior as u32,
                };
                let place = reclaim::entry_offset(tail, len);
                let [first, second] = entry.to_words();
                set_word(bytes, place, first);
                set_word(bytes, place + 8, second);
                set_word(bytes, reclaim::TAIL, tail + 1);
                keeper.offers.insert(tail, offer);
            }
            Act::TakeBack => {
                let last = tail.wrapping_sub(1);
                let busy = word(bytes, reclaim::BUSY);
                if tail > busy && keeper.offers.contains_key(&last) {
                    set_word(bytes, reclaim::entry_offset(last, len) + 8, 0);
                    goes = keeper.offers.remove(&last);
                    *self.tally.entry("ranges taken back".into()).or_default() += 1;
                }
            }
        }
        if let Some(offer) = goes {
            self.give_up_offer(at, offer);
        }
    }

    /// A range that is not in the ring goes; if a call is on its way, it is offered again.
    fn give_up_offer(&mut self, at: usize, offer: Offer) {
        let keeper = &mut self.keepers[at];
        if keeper.call.is_some() {
            keeper.acts.push_back(Act::Put(offer));
        } else {
            let request = Request::VmDeallocate(VmDeallocate {
                address: offer.page * BYTES,
                size: offer.pages * BYTES,
            });
            self.keep_ask(at, request, Asks::Other);
        }
    }

    /// Whether a fault that ended is such a task's.
    pub(super) fn keeper_resumed(&mut self, token: Token, result: Result<(), Kern>) -> bool {
        let pressure = self.kind.pressure;
        let mine = |keeper: &&mut Keeper| keeper.fault == Some(token);
        let Some(keeper) = self.keepers.iter_mut().find(mine) else {
            return false;
        };
        keeper.fault = None;
        if let Err(code) = result {
            assert!(
                keeper.lies.is_some() || pressure && code == Kern::ResourceShortage,
                "the keeper of a ring gets {code:?}"
            );
            keeper.acts.clear();
        }
        true
    }

    /// Whether an answer is such a task's.
    pub(super) fn keeper_answered(&mut self, token: Token, answer: &Answer) -> bool {
        let pressure = self.kind.pressure;
        let mine = |keeper: &&mut Keeper| keeper.call.is_some_and(|(mine, _)| mine == token);
        let Some(keeper) = self.keepers.iter_mut().find(mine) else {
            return false;
        };
        let Some((_, asks)) = keeper.call.take() else {
            return false;
        };
        let message = match answer {
            Ok(reply) => reply.message,
            Err(code) => {
                assert!(
                    keeper.lies.is_some() || pressure && *code == Kern::ResourceShortage,
                    "{asks:?} of a keeper is answered {code:?}"
                );
                return true;
            }
        };
        match (asks, message) {
            (Asks::Ring(len), Message::Map(vm_map::Reply::Advice(reply))) => {
                let Said::MachVmDeferredReclamationBufferAllocate(made) = reply else {
                    panic!("{reply:?}");
                };
                keeper.ring = Some((made.address, len));
            }
            (Asks::Memory(offer), Message::Map(vm_map::Reply::VmAllocate(made))) => {
                let page = made.address / BYTES;
                let offer = Offer { page, ..offer };
                let fills = (0..offer.pages).map(|index| Act::Fill(offer, index));
                keeper.acts.extend(fills);
                keeper.acts.push_back(Act::Put(offer));
            }
            (Asks::Resize(len), _) => {
                keeper.ring = keeper.ring.map(|(address, _)| (address, len));
            }
            (Asks::Fork, Message::Map(vm_map::Reply::TaskCreate(_))) => {
                let right = answer.as_ref().ok().and_then(|reply| reply.right);
                let Some(PortOf::Map(map)) = right else {
                    panic!("a task has a map");
                };
                let mut child = Keeper {
                    ring: keeper.ring,
                    offers: std::mem::take(&mut keeper.inherits),
                    ..Keeper::new(map)
                };
                let lies = keeper.lies.is_some() || self.luck.once_in(2);
                child.lies = lies.then(Lies::default);
                let who = if lies {
                    "forks that lie"
                } else {
                    "forks with rings"
                };
                *self.tally.entry(who.into()).or_default() += 1;
                self.keepers.push(child);
            }
            (Asks::Shown, Message::Map(vm_map::Reply::VmMap(made))) => {
                Sim::note_shown(&mut keeper.lies, made.address);
            }
            (Asks::Other, _) => {}
            (asks, message) => panic!("{asks:?} is answered {message:?}"),
        }
        true
    }

    /// Compares what is in the rings, and what was.
    pub(super) fn compare_rings(&mut self) {
        for at in 0..self.keepers.len() {
            if self.keepers[at].lies.is_none() {
                self.compare_ring(at);
            }
        }
    }

    fn compare_ring(&mut self, at: usize) {
        let keeper = &mut self.keepers[at];
        let Some((address, _)) = keeper.ring else {
            return;
        };
        let (map, core) = (keeper.map, &self.world.core);
        let Some((frame, _)) = core.would_grant(map, address / BYTES) else {
            return;
        };
        let ring = self.world.model.frame(frame);
        let (head, busy) = (word(ring, reclaim::HEAD), word(ring, reclaim::BUSY));
        let asks = keeper.call.is_some();
        let mut taken = Vec::new();
        let mut looks = core.looks(map);
        for (number, offer) in &keeper.offers {
            for page in offer.page..offer.page + offer.pages {
                let frame = looks.grant(page).map(|(frame, _)| frame);
                if *number >= busy {
                    let frame = frame.expect("what may be taken back is there");
                    let byte = self.world.model.frame(frame)[5];
                    assert_eq!(byte, offer.byte, "page {page:#x} of entry {number}");
                } else if *number < head && offer.behavior == Behavior::Free {
                    let byte = frame.map_or(0, |frame| self.world.model.frame(frame)[5]);
                    assert_eq!(byte, 0, "page {page:#x} of entry {number} was taken");
                } else if *number < head && !asks {
                    // Else it may be mapped again already.
                    let gone = core.entry_at(map, page).is_none();
                    assert!(gone, "page {page:#x} of entry {number} is there");
                }
            }
            if *number < head {
                taken.push(*number);
            }
        }
        for number in taken {
            keeper.offers.remove(&number);
            *self.tally.entry("ranges reclaimed".into()).or_default() += 1;
        }
    }

    /// Such a task ends.
    pub(super) fn keeper_ends(&mut self, at: usize) {
        let keeper = self.keepers.swap_remove(at);
        for token in keeper
            .fault
            .into_iter()
            .chain(keeper.call.map(|call| call.0))
        {
            self.world.cancel(token);
        }
        self.world.post(Event::TaskEnded(keeper.map));
    }
}
