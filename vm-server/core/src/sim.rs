//! A model machine: frames with bytes, address spaces with translations, threads that touch memory,
//! and a scripted pager. For this crate's own tests; `tests/sim` has one that is less kind.
//!
//! [`World::event`] does what the shell does: it hands an event to the core and carries out the
//! effects in order. Afterwards it checks translation soundness: each translation is one that a
//! look-up would give now without changing anything, with no more rights. Whole invariants are
//! checked every [`World::check_every`] events.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use core::num::NonZeroU64;
use core::ops::Range;

mod calls;
mod machine;
pub(crate) mod pager;

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::types::Prot;
use ipc_protocol::vm_map;

use crate::call::{Call, Message, Reply};
use crate::effect::{Answer, Effect, Effects, Report};
use crate::event::{Event, Fault, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Time, Token};
use crate::machine::Machine;
use crate::map::Map;
use crate::object::page::Frame;
use crate::range::{page_of, trunc_page};
use crate::talk;
use crate::{Config, Core, Turn};

use machine::{Model, Translation};
pub(crate) use pager::Pager;

/// What became of a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// It is translated now: through this frame.
    Done(Frame),
    /// The thread waits, with this token.
    Waits(Token),
    /// An exception.
    Fails(Kern),
}

/// Core and machine, and whoever is around them.
pub(crate) struct World {
    /// The core.
    pub(crate) core: Core,
    /// The machine.
    pub(crate) machine: Model,
    /// The time.
    pub(crate) now: Time,
    /// Answers to calls, by token.
    pub(crate) answers: BTreeMap<u64, Answer>,
    /// Ends of faults, by token: nothing, or the code of an exception.
    pub(crate) resumed: BTreeMap<u64, Result<(), Kern>>,
    /// Ports that may have something said to them.
    pub(crate) talks: BTreeSet<u32>,
    /// References to foreign rights that the core has given back, less those it was given.
    pub(crate) rights: BTreeMap<u32, i64>,
    /// Ports of the server that ended.
    pub(crate) gone: Vec<PortOf>,
    /// Lines for the console.
    pub(crate) reports: Vec<Report>,
    /// When the core wants to be woken.
    pub(crate) wake: Option<Time>,
    /// Frames given to the kernel.
    pub(crate) donated: u32,
    /// Whole invariants are checked after so many events; 0: never.
    pub(crate) check_every: u32,
    /// Events so far.
    pub(crate) events: u32,
    /// Faults that are not answered: whose.
    pub(crate) faults: BTreeMap<u64, MapId>,
    /// What answers bring that are carried out after the next event, if answers may come late.
    late: Vec<(MapId, u64, u64, Frame, Prot)>,
    effects: Effects,
    next_token: u64,
}

impl World {
    /// A world of `frames` frames, all but the first of which the core gets.
    pub(crate) fn new(frames: u32) -> World {
        World::with(Config {
            reserve: 0,
            ..Config::for_frames(frames)
        })
    }

    /// A world with other limits.
    pub(crate) fn with(config: Config) -> World {
        let frames = config.frame_limit;
        let mut world = World {
            core: Core::new(config).unwrap_or_else(|code| panic!("{code}")),
            machine: Model::new(frames),
            now: Time(0),
            answers: BTreeMap::new(),
            resumed: BTreeMap::new(),
            talks: BTreeSet::new(),
            rights: BTreeMap::new(),
            gone: Vec::new(),
            reports: Vec::new(),
            wake: None,
            donated: 0,
            check_every: 1,
            events: 0,
            faults: BTreeMap::new(),
            late: Vec::new(),
            effects: Effects::new().unwrap_or_else(|code| panic!("{code}")),
            next_token: 1,
        };
        world.event(Event::AddFrames {
            first: 1,
            count: frames - 1,
        });
        world
    }

    /// A new, empty map of the whole user half.
    pub(crate) fn map(&mut self) -> MapId {
        let map = self.core.maps.insert(Map::new(USER_MIN, USER_MAX));
        map.unwrap_or_else(|code| panic!("{code}"))
    }

    /// A token that was not used yet.
    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(NonZeroU64::new(self.next_token).unwrap_or(NonZeroU64::MIN))
    }

    /// Hands the core an event, carries out the effects, and checks.
    pub(crate) fn event(&mut self, event: Event) {
        if let Event::TaskEnded(map) = event {
            self.machine.spaces.remove(&map.to_word());
        }
        if let Event::Call { rights, .. } = &event {
            for right in rights {
                if let PortRef::Foreign(id) | PortRef::Dead(id) = right {
                    *self.rights.entry(id.0).or_default() += 1;
                }
            }
        }
        if let Event::Fault(fault) = event {
            self.faults.insert(fault.token.0.get(), fault.map);
        }
        if let Event::Cancelled(token) = event {
            self.faults.remove(&token.0.get());
        }
        let what = std::format!("{event:?}");
        let mut turn = Turn {
            now: self.now,
            machine: &mut self.machine,
            effects: &mut self.effects,
        };
        self.core.handle(event, &mut turn);
        let earlier = core::mem::take(&mut self.late);
        self.carry_out();
        for (map, epoch, page, frame, protection) in earlier {
            self.enter(map, epoch, page, frame, protection);
        }
        self.events += 1;
        self.check_translations(&what);
        if self.check_every > 0
            && self.events.is_multiple_of(self.check_every)
            && let Err(broken) = self.core.check_invariants()
        {
            panic!("after {what}: {broken}");
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Enter(run) => {
                    for (place, frame) in run.frames().iter().enumerate() {
                        let page = page_of(run.address) + place as u64;
                        self.enter(run.map, run.epoch, page, *frame, run.protection);
                    }
                }
                Effect::EnterRun(run) => {
                    let frames = self.effects.frames_of(&run).to_vec();
                    for (page, frame) in (page_of(run.address)..).zip(frames) {
                        self.enter(run.map, run.epoch, page, frame, run.protection);
                    }
                }
                Effect::Resume { to, result } => {
                    let Some(to) = to else { continue };
                    let map = self.faults.remove(&to.0.get());
                    if let (Ok(Some(enter)), Some(map)) = (result, map) {
                        let frame = Frame(enter.frame);
                        let page = page_of(enter.address);
                        if self.core.config.in_order {
                            self.enter(map, enter.epoch, page, frame, enter.protection);
                        } else {
                            let late = (map, enter.epoch, page, frame, enter.protection);
                            self.late.push(late);
                        }
                    }
                    self.resumed.insert(to.0.get(), result.map(|_| ()));
                }
                Effect::Reply { to, answer } => {
                    if let Some(to) = to {
                        let old = self.answers.insert(to.0.get(), answer);
                        assert!(old.is_none(), "answered twice");
                    }
                }
                Effect::Release(right, count) => {
                    *self.rights.entry(right.0).or_default() -= i64::from(count);
                }
                Effect::WatchDead(_) | Effect::WatchSenders(_) => {}
                Effect::PortGone(port) => self.gone.push(port),
                Effect::SpaceGone(map) => {
                    self.machine.spaces.remove(&map.to_word());
                }
                Effect::Talk(right) => {
                    self.talks.insert(right.0);
                }
                Effect::WakeAt(time) => self.wake = Some(time),
                Effect::Donate { count, .. } => self.donated += count,
                Effect::Report(report) => self.reports.push(report),
            }
        }
    }

    fn enter(&mut self, map: MapId, epoch: u64, page: u64, frame: Frame, protection: Prot) {
        assert!(!protection.is_empty(), "entered without rights");
        let space = self.machine.spaces.entry(map.to_word()).or_default();
        if epoch < space.epoch {
            return;
        }
        space.pages.insert(page, Translation { frame, protection });
    }

    fn check_translations(&self, what: &str) {
        for (word, space) in &self.machine.spaces {
            let Some(map) = MapId::from_word(*word) else {
                continue;
            };
            if self.core.maps.get(map).is_none_or(|map| map.dying) {
                continue;
            }
            for (page, translation) in &space.pages {
                let address = page * PAGE_SIZE;
                let granted = self.core.would_grant(map, *page);
                let sound = granted.is_some_and(|(frame, rights)| {
                    frame == translation.frame && rights.contains(translation.protection)
                });
                assert!(
                    sound,
                    "after {what}: {map:?} translates {address:#x} as {translation:?}, \
                     but a look-up gives {granted:?}"
                );
                assert!(
                    self.core.looks(map).knows_place(translation.frame, *page),
                    "after {what}: {map:?} translates {address:#x}, which its page does not know"
                );
            }
        }
    }

    /// What a map translates: pages, frames and rights, in order.
    pub(crate) fn translations(&self, map: MapId) -> Vec<(u64, Frame, Prot)> {
        let space = self.machine.spaces.get(&map.to_word());
        let pages = space.into_iter().flat_map(|space| &space.pages);
        pages
            .map(|(page, at)| (*page, at.frame, at.protection))
            .collect()
    }

    /// Steps until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.core.wants_step() {
                return;
            }
            self.event(Event::Step);
        }
        panic!("steps without end");
    }

    /// A thread's touch: as the processor and the kernel do it, again until it is translated.
    pub(crate) fn touch(&mut self, map: MapId, address: u64, access: Prot) -> Touch {
        for _ in 0..8 {
            if let Some(frame) = self.translated(map, address, access) {
                return Touch::Done(frame);
            }
            let token = self.token();
            self.event(Event::Fault(Fault {
                map,
                address,
                access,
                token,
            }));
            match self.resumed.remove(&token.0.get()) {
                None => return Touch::Waits(token),
                Some(Err(code)) => return Touch::Fails(code),
                Some(Ok(())) => {}
            }
        }
        panic!("{address:#x} faults for ever");
    }

    /// Touches until nothing is to be waited for; `serve` does what others have to meanwhile.
    pub(crate) fn touch_served(
        &mut self,
        map: MapId,
        address: u64,
        access: Prot,
        mut serve: impl FnMut(&mut World),
    ) -> Touch {
        for _ in 0..20 {
            let touched = self.touch(map, address, access);
            let Touch::Waits(token) = touched else {
                return touched;
            };
            serve(self);
            match self.resumed.remove(&token.0.get()) {
                Some(Err(code)) => return Touch::Fails(code),
                Some(Ok(())) => {}
                None => return touched,
            }
        }
        panic!("{address:#x} faults for ever");
    }

    fn translated(&self, map: MapId, address: u64, access: Prot) -> Option<Frame> {
        let space = self.machine.spaces.get(&map.to_word())?;
        let translation = space.pages.get(&page_of(address))?;
        // Memory that can be written can be read.
        let rights = translation.protection;
        let enough =
            rights.contains(access) || access == Prot::READ && rights.contains(Prot::WRITE);
        enough.then_some(translation.frame)
    }

    /// Reads bytes as a thread does; on the way nothing may wait.
    ///
    /// # Errors
    /// The code of an exception; `None`: the thread waits.
    pub(crate) fn read(
        &mut self,
        map: MapId,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), Option<Kern>> {
        let range = (address, bytes.len());
        self.touch_each(map, range, Prot::READ, |machine, (frame, offset), part| {
            machine.load(frame, offset, &mut bytes[part]);
        })
    }

    /// Writes bytes as a thread does; on the way nothing may wait.
    ///
    /// # Errors
    /// As [`World::read`].
    pub(crate) fn write(
        &mut self,
        map: MapId,
        address: u64,
        bytes: &[u8],
    ) -> Result<(), Option<Kern>> {
        let range = (address, bytes.len());
        self.touch_each(map, range, Prot::WRITE, |machine, (frame, offset), part| {
            machine.store(frame, offset, &bytes[part]);
        })
    }

    /// Touches bytes page by page; `each` hears where those of a page are, and which of all they are.
    fn touch_each(
        &mut self,
        map: MapId,
        (address, size): (u64, usize),
        access: Prot,
        mut each: impl FnMut(&mut Model, (Frame, usize), Range<usize>),
    ) -> Result<(), Option<Kern>> {
        let mut done = 0;
        while done < size {
            let at = address + done as u64;
            let offset = (at - trunc_page(at)) as usize;
            let end = size.min(done + PAGE_SIZE as usize - offset);
            match self.touch(map, at, access) {
                Touch::Done(frame) => each(&mut self.machine, (frame, offset), done..end),
                Touch::Fails(code) => return Err(Some(code)),
                Touch::Waits(_) => return Err(None),
            }
            done = end;
        }
        Ok(())
    }

    /// Makes a call; gives its token.
    pub(crate) fn send(&mut self, call: Call, rights: Rights) -> Token {
        let token = self.token();
        self.event(Event::Call {
            call,
            rights,
            reply: Some(token),
        });
        token
    }

    /// The answer to a call, if it has come.
    pub(crate) fn answer(&mut self, token: Token) -> Option<Answer> {
        self.answers.remove(&token.0.get())
    }

    /// Makes a call on a map, and takes steps until it is answered.
    ///
    /// # Errors
    /// What it is refused with.
    pub(crate) fn call(
        &mut self,
        map: MapId,
        request: vm_map::Request,
        rights: Rights,
    ) -> Result<Reply, Kern> {
        let token = self.send(Call::Map(map, request), rights);
        for _ in 0..100_000 {
            if let Some(answer) = self.answer(token) {
                return answer;
            }
            self.event(Event::Step);
        }
        panic!("{request:?} is not answered");
    }

    /// `vm_allocate` anywhere.
    pub(crate) fn allocate(&mut self, map: MapId, size: u64) -> u64 {
        let request = vm_map::Request::VmAllocate(vm_map::VmAllocate {
            address: 0,
            size,
            flags: ipc_abi::types::MapFlags::ANYWHERE.bits(),
        });
        match self.call(map, request, NO_RIGHTS) {
            Ok(Reply {
                message: Message::Map(vm_map::Reply::VmAllocate(reply)),
                ..
            }) => reply.address,
            other => panic!("{other:?}"),
        }
    }

    /// `vm_deallocate`.
    pub(crate) fn deallocate(&mut self, map: MapId, address: u64, size: u64) {
        let request = vm_map::VmDeallocate { address, size };
        let answer = self.call(map, vm_map::Request::VmDeallocate(request), NO_RIGHTS);
        assert!(answer.is_ok(), "{answer:?}");
    }

    /// Maps a memory object anywhere, read and write.
    pub(crate) fn map_object(&mut self, map: MapId, port: RightId, size: u64) -> u64 {
        let mut rights = NO_RIGHTS;
        rights[vm_map::VmMap::OBJECT] = PortRef::Foreign(port);
        let request = vm_map::VmMap::anywhere(size);
        match self.call(map, vm_map::Request::VmMap(request), rights) {
            Ok(Reply {
                message: Message::Map(vm_map::Reply::VmMap(reply)),
                ..
            }) => reply.address,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that is to be said to a port now; said.
    pub(crate) fn said_to(&mut self, port: RightId) -> Vec<talk::Message> {
        let mut said = Vec::new();
        while let Some(message) = self.core.next_message(port) {
            said.push(message);
            self.core.sent(port, &mut self.effects);
            self.carry_out();
        }
        self.talks.remove(&port.0);
        said
    }
}
