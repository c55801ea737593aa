//! The driver: a core, the model machine, and the ports and threads around them.
//!
//! It does what the shell and the kernel do between them: posts an event, carries out its effects in
//! order, keeps queues of messages to pagers, counts rights and tokens. What tasks would notice comes
//! out as [`Arrival`]s, in order. After each event the core is checked as closely as [`Care`] says.

mod check;
mod late;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::Request as Wording;
use ipc_protocol::{memory_object_control, vm_map};
use vm_core::account::{Limits, Whole};
use vm_core::call::{Call, Message};
use vm_core::effect::{Answer, Effect, Effects, Report};
use vm_core::event::{
    ControlId, Event, Fault, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Time, Token,
};
use vm_core::object::page::Frame;
use vm_core::{Config, Core, Turn};

use crate::Random;
use crate::machine::Model;

/// What a task would notice.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A faulting thread goes on, or gets an exception.
    Resumed(Token, Result<(), Kern>),
    /// A call is answered.
    Answered(Token, Answer),
    /// A line on the console.
    Reported(Report),
}

/// A message in the queue of a memory object port.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// What it says.
    pub wording: Wording,
    /// The control port that came with it.
    pub control: Option<ControlId>,
}

/// A memory object port, whose receive right a pager has.
#[derive(Debug, Default)]
struct Port {
    queue: VecDeque<Said>,
    /// The server was told that it is full.
    full: bool,
    dead: bool,
    watched: bool,
    /// References that the server has.
    held: i64,
}

/// Who waits behind a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Fault(MapId),
    Call,
}

/// What an event cost at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Machine calls, a revoked element each.
    pub machine: u64,
    /// Effects.
    pub effects: usize,
    /// Records handed out to be changed. Known only without checks ([`Care::Never`]).
    pub records: usize,
}

/// Events between two checks of the whole state.
pub const WHOLE_EVERY: u64 = 256;

/// How closely the core is checked after each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Not at all.
    Never,
    /// What the event touched; now and then everything.
    Touched,
    /// Everything.
    Whole,
}

/// How unkind the world is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Unkind {
    /// One in this many Enters is lost.
    pub lost_enters: u64,
    /// Messages that a memory object port holds.
    pub queue: usize,
    /// Answers to faults may be carried out after what later events do, as by several processors.
    #[serde(default)]
    pub late: bool,
    /// One in this many events is handled the general way where a quick one would do; 0: none.
    #[serde(default)]
    pub slow: u64,
}

/// Events for which an answer is late at most.
const LATE: u64 = 6;

/// Everything outside the core.
pub struct World {
    /// The core.
    pub core: Core,
    /// The machine.
    pub model: Model,
    effects: Effects,
    random: Random,
    unkind: Unkind,
    care: Care,
    /// The time.
    pub now: Time,
    wake: Time,
    /// Frames that the core keeps for those who free frames.
    reserve: u32,
    next_token: u64,
    waits: BTreeMap<u64, Waits>,
    /// Memory object ports, by the number of their right.
    ports: Vec<Port>,
    made: BTreeMap<u64, u32>,
    arrivals: VecDeque<Arrival>,
    donated: Vec<Frame>,
    later: VecDeque<Event>,
    /// Answers to faults that are late, each with the events that come before it.
    late: Vec<(u64, Vec<Effect>)>,
    /// Events so far.
    pub events: u64,
    /// The dearest event.
    pub worst: Cost,
    /// Print each event.
    pub verbose: bool,
}

fn port_of(ports: &mut Vec<Port>, right: RightId) -> &mut Port {
    let number = right.0 as usize;
    if number >= ports.len() {
        ports.resize_with(number + 1, Port::default);
    }
    &mut ports[number]
}

impl World {
    /// A kind world in which nothing has a limit but memory, and a map of the system in it.
    ///
    /// # Panics
    /// There is no memory for it.
    #[must_use]
    pub fn unlimited() -> (World, MapId) {
        let unkind = Unkind {
            lost_enters: u64::MAX,
            queue: 16,
            late: false,
            slow: 0,
        };
        let mut config = Config::for_frames(4096);
        config.limits = Limits::NONE;
        config.whole = Whole {
            entries: u32::MAX,
            wired: u64::MAX,
            copies: u32::MAX,
            objects: u32::MAX,
            ops: u32::MAX,
        };
        let mut world = World::new(config, unkind, Care::Never);
        let map = world.core.boot_map().unwrap();
        (world, map)
    }

    /// A world with so many frames, and a core that has them all.
    #[must_use]
    pub fn new(mut config: Config, unkind: Unkind, care: Care) -> World {
        config.in_order = !unkind.late;
        let mut world = World {
            core: Core::new(config).unwrap(),
            model: Model::new(config.frame_limit),
            effects: Effects::new().unwrap(),
            random: Random::new(0),
            unkind,
            care,
            now: Time(1),
            wake: Time::NEVER,
            reserve: config.reserve,
            next_token: 0,
            waits: BTreeMap::new(),
            ports: Vec::new(),
            made: BTreeMap::new(),
            arrivals: VecDeque::new(),
            donated: Vec::new(),
            later: VecDeque::new(),
            late: Vec::new(),
            events: 0,
            worst: Cost::default(),
            verbose: false,
        };
        world.post(Event::AddFrames {
            first: 0,
            count: config.frame_limit,
        });
        world
    }

    /// Hands the core an event, carries out everything that follows from it, and checks the core.
    pub fn post(&mut self, event: Event) {
        self.later.push_back(event);
        while let Some(event) = self.later.pop_front() {
            self.post_one(event);
        }
    }

    fn post_one(&mut self, event: Event) {
        self.events += 1;
        if self.verbose {
            println!("{:>6} {event:x?}", self.events);
        }
        if let Event::TaskEnded(map) = event {
            self.model.end(map);
        }
        if self.unkind.slow != 0 {
            self.core.go_slowly(self.random.once_in(self.unkind.slow));
        }
        let is_fault = matches!(event, Event::Fault(_));
        let before = self.model.work;
        let mut turn = Turn {
            now: self.now,
            machine: &mut self.model,
            effects: &mut self.effects,
        };
        self.core.handle(event, &mut turn);
        self.worst.machine = self.worst.machine.max(self.model.work - before);
        self.worst.effects = self.worst.effects.max(self.effects.as_slice().len());
        let mut late = Vec::new();
        let hold = is_fault && self.unkind.late && self.random.once_in(2);
        while let Some(effect) = self.effects.pop_front() {
            if hold
                && matches!(
                    effect,
                    Effect::Enter(_) | Effect::Resume { result: Ok(_), .. }
                )
            {
                late.push(effect);
                continue;
            }
            self.carry_out(effect);
        }
        self.carry_out_late(1);
        if !late.is_empty() {
            let left = self.random.below(LATE);
            self.late.push((left, late));
        }
        match self.care {
            Care::Never => {
                let records = self.core.count_touched();
                self.worst.records = self.worst.records.max(records);
            }
            Care::Touched if self.events.is_multiple_of(WHOLE_EVERY) => self.check(),
            Care::Touched => self.check_touched(),
            Care::Whole => self.check(),
        }
    }

    /// Whether Enters are lost, from now on.
    pub const fn reseed(&mut self, luck: u64) {
        self.random = Random::new(luck ^ 0x5157);
    }

    fn carry_out(&mut self, effect: Effect) {
        if self.verbose {
            println!("         -> {effect:x?}");
        }
        match effect {
            Effect::Enter(enter) => {
                if !self.random.once_in(self.unkind.lost_enters) {
                    self.model.enter(&enter);
                }
            }
            Effect::EnterRun(run) => {
                if !self.random.once_in(self.unkind.lost_enters) {
                    let frames = self.effects.frames_of(&run);
                    self.model.enter_run(&run, frames);
                }
            }
            Effect::Resume { to, result } => {
                let token = to.expect("a fault has a token");
                let waits = self.waits.remove(&token.0.get());
                let Some(Waits::Fault(map)) = waits else {
                    panic!("resumed {token:?}, behind which is {waits:?}");
                };
                if let Ok(Some(enter)) = &result {
                    // What replaces a translation needs no page table: it cannot fail.
                    let replaces = self.model.translation(map, enter.address >> 12).is_some();
                    if replaces || !self.random.once_in(self.unkind.lost_enters) {
                        self.model.enter_one(map, enter);
                    }
                }
                self.arrivals
                    .push_back(Arrival::Resumed(token, result.map(|_| ())));
            }
            Effect::Reply { to, answer } => {
                let token = to.expect("nobody is not answered");
                let waits = self.waits.remove(&token.0.get());
                assert_eq!(waits, Some(Waits::Call), "answered {token:?}");
                if let Ok(reply) = &answer
                    && let Some(port) = reply.right
                {
                    *self.made.entry(port.to_payload()).or_default() += 1;
                }
                self.arrivals.push_back(Arrival::Answered(token, answer));
            }
            Effect::Release(right, count) => self.released(right, i64::from(count)),
            Effect::WatchDead(right) => {
                let port = port_of(&mut self.ports, right);
                port.watched = true;
                if port.dead {
                    self.later.push_back(Event::DeadName(right));
                }
            }
            // The notice comes when the last right goes.
            Effect::WatchSenders(_) => {}
            Effect::PortGone(port) => {
                self.made.remove(&port.to_payload());
            }
            Effect::SpaceGone(map) => self.model.forget(map),
            Effect::Talk(right) => self.talk(right),
            Effect::WakeAt(time) => self.wake = time,
            Effect::Donate { first, count } => {
                for number in first.0..first.0 + count {
                    self.model.spoil(Frame(number));
                    self.donated.push(Frame(number));
                }
            }
            Effect::Report(report) => self.arrivals.push_back(Arrival::Reported(report)),
        }
    }

    /// Whether the receiver of a port has ended.
    #[must_use]
    pub fn is_dead(&self, right: RightId) -> bool {
        let port = self.ports.get(right.0 as usize);
        port.is_some_and(|port| port.dead)
    }

    /// The ports that the server has references to, with their number.
    pub fn held(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        let held = self.ports.iter().map(|port| port.held).enumerate();
        held.filter(|(_, count)| *count != 0)
    }

    fn released(&mut self, right: RightId, count: i64) {
        let port = port_of(&mut self.ports, right);
        port.held -= count;
        assert!(port.held >= 0, "{right:?} was given back too often");
    }

    /// Says to a port what there is to say, as long as its queue has room.
    fn talk(&mut self, right: RightId) {
        while let Some(message) = self.core.next_message(right) {
            let port = port_of(&mut self.ports, right);
            if port.dead {
                return;
            }
            if port.queue.len() >= self.unkind.queue {
                port.full = true;
                self.later.push_back(Event::Full(right));
                return;
            }
            let control = match message.right {
                Some(PortOf::Control(control)) => Some(control),
                None => None,
                other => panic!("a memory object port is sent {other:?}"),
            };
            let said = Said {
                wording: message.wording,
                control,
            };
            if self.verbose {
                println!("         => {right:?} {said:x?}");
            }
            port.queue.push_back(said);
            if let Some(control) = message.right {
                *self.made.entry(control.to_payload()).or_default() += 1;
            }
            self.core.sent(right, &mut self.effects);
        }
    }

    /// The messages that wait at a port.
    #[must_use]
    pub fn queue(&self, right: RightId) -> &VecDeque<Said> {
        static NONE: VecDeque<Said> = VecDeque::new();
        self.ports
            .get(right.0 as usize)
            .map_or(&NONE, |port| &port.queue)
    }

    /// Receives the message at a place of a port's queue.
    pub fn receive(&mut self, right: RightId, place: usize) -> Said {
        let port = port_of(&mut self.ports, right);
        let said = port.queue.remove(place).unwrap();
        if std::mem::take(&mut port.full) {
            self.post(Event::Possible(right));
        }
        said
    }

    /// The port's receiver ends.
    pub fn kill_port(&mut self, right: RightId) {
        let port = port_of(&mut self.ports, right);
        port.dead = true;
        port.queue.clear();
        if port.watched {
            self.post(Event::DeadName(right));
        }
    }

    /// A right to a memory object port, for a message.
    pub fn right_to(&mut self, right: RightId) -> PortRef {
        let port = port_of(&mut self.ports, right);
        port.held += 1;
        match port.dead {
            true => PortRef::Dead(right),
            false => PortRef::Foreign(right),
        }
    }

    fn token(&mut self, waits: Waits) -> Token {
        self.next_token += 1;
        let token = Token(NonZeroU64::new(self.next_token).unwrap());
        self.waits.insert(self.next_token, waits);
        token
    }

    /// A thread of a map's task touches memory that is not there.
    pub fn fault(&mut self, map: MapId, address: u64, access: Prot) -> Token {
        let token = self.token(Waits::Fault(map));
        self.post(Event::Fault(Fault {
            map,
            address,
            access,
            token,
        }));
        token
    }

    /// A call on a map port with at most one right.
    pub fn call(&mut self, map: MapId, request: vm_map::Request, right: PortRef) -> Token {
        let token = self.token(Waits::Call);
        let mut rights = NO_RIGHTS;
        rights[0] = right;
        self.post(Event::Call {
            call: Call::Map(map, request),
            rights,
            reply: Some(token),
        });
        token
    }

    /// A call on any of the server's ports, with any rights.
    pub fn request(&mut self, call: Call, rights: Rights) -> Token {
        let token = self.token(Waits::Call);
        self.post(Event::Call {
            call,
            rights,
            reply: Some(token),
        });
        token
    }

    /// A one-way message on a control port.
    pub fn control(
        &mut self,
        control: ControlId,
        request: memory_object_control::Request,
        rights: Rights,
    ) {
        self.post(Event::Call {
            call: Call::Control(control, request),
            rights,
            reply: None,
        });
    }

    /// A call on a control port.
    pub fn control_call(
        &mut self,
        control: ControlId,
        request: memory_object_control::Request,
        rights: Rights,
    ) -> Token {
        let token = self.token(Waits::Call);
        self.post(Event::Call {
            call: Call::Control(control, request),
            rights,
            reply: Some(token),
        });
        token
    }

    /// The thread behind a token is aborted. Nothing may be said to the token from now on.
    pub fn cancel(&mut self, token: Token) {
        let waits = self.waits.remove(&token.0.get());
        let is_of = |arrival: &Arrival| match arrival {
            Arrival::Resumed(to, _) | Arrival::Answered(to, _) => *to == token,
            Arrival::Reported(_) => false,
        };
        // An answer may have come since the thread was looked at.
        let came = self.arrivals.iter().any(is_of);
        assert!(waits.is_some() || came, "{token:?} is answered already");
        self.arrivals.retain(|arrival| !is_of(arrival));
        let answers =
            |effect: &Effect| matches!(effect, Effect::Resume { to, .. } if *to == Some(token));
        self.late.retain(|(_, late)| !late.iter().any(answers));
        self.post(Event::Cancelled(token));
    }

    /// Whether an answer to this token is still to come from the core.
    #[must_use]
    pub fn is_waiting(&self, token: Token) -> bool {
        self.waits.contains_key(&token.0.get())
    }

    /// The last send right to one of the server's ports is gone. `late`: there was a newer right
    /// when the notice was sent, so it is void.
    pub fn no_senders(&mut self, port: PortOf, late: bool) {
        let made = self.made.get(&port.to_payload()).copied();
        let made = made.unwrap_or(0).saturating_sub(u32::from(late));
        self.post(Event::NoSenders { port, made });
    }

    /// Whether a right was made to one of the server's ports that is not gone.
    #[must_use]
    pub fn is_port(&self, port: PortOf) -> bool {
        self.made.contains_key(&port.to_payload())
    }

    /// Takes what has arrived first.
    pub fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    /// Lets time pass; the clock goes off if the core wanted it to.
    pub fn wait(&mut self, nanoseconds: u64) {
        self.now = self.now.after(nanoseconds);
        if self.now >= self.wake {
            self.wake = Time::NEVER;
            self.post(Event::Tick);
        }
    }

    /// Goes on to the next time that the core set, if it set one.
    pub fn wait_for_clock(&mut self) -> bool {
        if self.wake == Time::NEVER {
            return false;
        }
        self.now = self.now.max(self.wake);
        self.wait(0);
        true
    }

    /// Takes steps until there is nothing left to do.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            self.catch_up();
            if !self.core.wants_step() {
                return;
            }
            self.post(Event::Step);
        }
        panic!("steps without end");
    }

    /// The kernel gives back frames that it was given.
    pub fn return_frames(&mut self) {
        while let Some(frame) = self.donated.pop() {
            self.post(Event::AddFrames {
                first: frame.0,
                count: 1,
            });
        }
    }

    /// The kernel takes all frames but the server's reserve and so many.
    pub fn squeeze(&mut self, left: u32) {
        let keep = self.reserve + left;
        loop {
            let free = self.core.census().free;
            if free <= keep {
                return;
            }
            self.post(Event::KernelShort((free - keep).min(16)));
        }
    }

    /// A call that is answered before it returns, with steps as needed.
    pub fn call_now(
        &mut self,
        map: MapId,
        request: vm_map::Request,
        right: PortRef,
    ) -> (Answer, Option<vm_map::Reply>) {
        let token = self.call(map, request, right);
        while self.is_waiting(token) {
            assert!(self.core.wants_step(), "{request:?} waits for something");
            self.post(Event::Step);
        }
        let mine = |arrival: &Arrival| matches!(arrival, Arrival::Answered(to, _) if *to == token);
        let place = self.arrivals.iter().position(mine).unwrap();
        let Some(Arrival::Answered(_, answer)) = self.arrivals.remove(place) else {
            unreachable!("it was there");
        };
        let message = match answer {
            Ok(reply) => match reply.message {
                Message::Map(message) => Some(message),
                other => panic!("{request:?} is answered {other:?}"),
            },
            Err(_) => None,
        };
        (answer, message)
    }

    /// Touches memory as a thread does, faulting until it works or an exception comes, with steps as
    /// needed.
    pub fn touch_now(&mut self, map: MapId, address: u64, value: Option<u8>) -> Result<u8, Kern> {
        let access = match value {
            Some(_) => Prot::WRITE,
            None => Prot::READ,
        };
        for _ in 0..1000 {
            if let Some(byte) = self.model.touch(map, address, value) {
                return Ok(byte);
            }
            let token = self.fault(map, address, access);
            self.catch_up();
            while self.is_waiting(token) {
                assert!(self.core.wants_step(), "a touch of {address:#x} waits");
                self.post(Event::Step);
            }
            let mine =
                |arrival: &Arrival| matches!(arrival, Arrival::Resumed(to, _) if *to == token);
            let place = self.arrivals.iter().position(mine).unwrap();
            if let Some(Arrival::Resumed(_, Err(code))) = self.arrivals.remove(place) {
                return Err(code);
            }
        }
        panic!("a touch of {address:#x} faults for ever");
    }
}
