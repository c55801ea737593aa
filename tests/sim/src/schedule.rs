//! A run: operations are carried out one by one, and after each everybody must see what is right.
//!
//! Touches are compared at the moment when they succeed. A call takes effect in the flat model when
//! it is answered. While one is on its way, nobody writes what it reads, nobody touches what it
//! writes, and nobody else changes those addresses: there both the old and the new would be right,
//! and nothing could be learned.

mod choose;
mod compare;
mod end;
mod lies;
mod ring;
mod threads;

use std::collections::{BTreeMap, VecDeque};

use ipc_abi::Kern;
use ipc_protocol::vm_map;
use ipc_protocol::vm_wire::{self, VmSetLimits};
use vm_core::Config;
use vm_core::effect::{Answer, Report};
use vm_core::event::{Event, MapId, PortOf, PortRef, RightId, Token};

use crate::Random;
use crate::action::{Action, Operation};
use crate::calls::{Entry, Held, Library, Pending};
use crate::flat::{self, Bytes, Cell, PAGE, Space};
use crate::kind::{Kind, Setup};
use crate::pager::{Pagers, is_hole};
use crate::runner::How;
use crate::world::{Arrival, World};

/// Page number of the lowest page that tasks use.
pub const BASE: u64 = ipc_abi::layout::USER_MIN / PAGE as u64;
/// The host control port.
pub const HOST: RightId = RightId(1);
/// Threads of a task.
const THREADS: usize = 2;

/// A client task.
#[derive(Debug)]
pub struct Client {
    /// Its map.
    pub map: MapId,
    /// What it must see.
    pub space: Space,
    /// It has begun, and not ended.
    pub alive: bool,
    /// It has asked that what it maps be wired.
    pub wires: bool,
    /// It is a shared map: no task, and nobody touches it.
    pub library: bool,
    /// It is a shared map that never changes again.
    pub sealed: bool,
}

/// What a thread is about.
#[derive(Clone, Copy, Debug)]
enum Touch {
    Nothing,
    /// It is going to touch a byte, and to write it if there is a value.
    Wants(u64, Option<u8>),
    /// It has faulted.
    Waits(Token, u64, Option<u8>),
}

/// The thread of a place is the client's of that place by [`THREADS`].
#[derive(Clone, Copy, Debug)]
struct Thread {
    client: usize,
    touch: Touch,
}

/// One run.
pub struct Sim {
    /// What it runs on.
    pub world: World,
    /// What pagers decide, in the operation that is carried out.
    pub luck: Random,
    how: How,
    kind: Kind,
    /// The task that makes tasks.
    pub host: MapId,
    /// Tasks by name.
    pub clients: Vec<Client>,
    /// The names of those that are alive, in order.
    pub living: Vec<usize>,
    threads: Vec<Thread>,
    /// Pagers.
    pub pagers: Pagers,
    /// Pages of pagers' objects that anybody mapped.
    cells: BTreeMap<(usize, u64), Cell>,
    /// Copies that somebody has a right to.
    pub copies: Vec<Held>,
    /// Named entries that somebody has a right to.
    pub entries: Vec<Entry>,
    /// Sealed maps that somebody has a right to.
    pub libraries: Vec<Library>,
    /// Tasks with rings.
    keepers: Vec<ring::Keeper>,
    /// Calls that are not answered.
    pub pending: BTreeMap<u64, Pending>,
    /// What is chosen before anything else.
    furnishing: VecDeque<Action>,
    /// The last name that was chosen for something.
    named: u64,
    /// The last task's name that was chosen.
    last_client: usize,
    /// Operations so far.
    pub operations: u64,
    /// What happened how often.
    pub tally: BTreeMap<String, u64>,
}

impl Sim {
    /// A run, before its first operation.
    #[must_use]
    pub fn new(setup: &Setup, how: How) -> Sim {
        let kind = setup.kind;
        let mut config = Config::for_frames(kind.frames);
        config.pager_timeout = 1_000_000;
        config.pager_restart = 500_000;
        config.host = Some(HOST);
        let mut world = World::new(config, setup.unkind, how.care);
        world.verbose = how.verbose;
        world.model.flaw = how.flaw;
        let host = world.core.boot_map().unwrap();
        let mut pagers = Pagers::default();
        pagers.plenty = !kind.pressure;
        for pager in &setup.pagers {
            pagers.start(&mut world, host, pager.slots, &pager.objects);
        }
        let mut sim = Sim {
            world,
            luck: Random::new(0),
            how,
            kind,
            host,
            clients: Vec::new(),
            living: Vec::new(),
            threads: Vec::new(),
            pagers,
            cells: BTreeMap::new(),
            copies: Vec::new(),
            entries: Vec::new(),
            libraries: Vec::new(),
            keepers: Vec::new(),
            pending: BTreeMap::new(),
            furnishing: VecDeque::new(),
            named: 0,
            last_client: 1,
            operations: 0,
            tally: BTreeMap::new(),
        };
        if kind.rings {
            let create = vm_map::Request::TaskCreate(vm_map::TaskCreate { inherit: false });
            let (answer, _) = sim.world.call_now(host, create, PortRef::None);
            let Some(PortOf::Map(map)) = answer.unwrap().right else {
                panic!("a task has a map");
            };
            sim.keepers.push(ring::Keeper::new(map));
        }
        for client in 0..2 {
            let map = sim.world.core.boot_map().unwrap();
            if kind.limited {
                sim.limit(map);
            }
            sim.add_client(client, map, Space::default());
            sim.furnish(client);
        }
        sim
    }

    /// Lets a task hold little of anything; its children inherit that.
    fn limit(&mut self, map: MapId) {
        let limits = VmSetLimits {
            entries: 30,
            pages: 40,
            size: 80 * PAGE as u64,
            wired: 12,
            copies: 5,
            objects: 25,
            ops: 3,
            system: false,
        };
        let request = vm_map::Request::Wire(vm_wire::Request::VmSetLimits(limits));
        let host = self.world.right_to(HOST);
        self.world.call_now(map, request, host).0.unwrap();
    }

    /// A task with threads.
    pub fn add_client(&mut self, name: usize, map: MapId, mut space: Space) {
        while self.clients.len() <= name {
            let client = self.clients.len();
            self.clients.push(Client {
                map: self.host,
                space: Space::default(),
                alive: false,
                wires: false,
                library: false,
                sealed: false,
            });
            let touch = Touch::Nothing;
            self.threads.extend([Thread { client, touch }; THREADS]);
        }
        if let Err(place) = self.living.binary_search(&name) {
            self.living.insert(place, name);
        }
        space.look_again();
        self.clients[name] = Client {
            map,
            space,
            alive: true,
            wires: false,
            library: false,
            sealed: false,
        };
    }

    /// Tasks that live.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let tasks = self.living.iter();
        tasks.filter(|name| !self.clients[**name].library).count()
    }

    /// Whether a task of this name lives.
    #[must_use]
    pub fn is_alive(&self, client: usize) -> bool {
        self.clients.get(client).is_some_and(|client| client.alive)
    }

    /// What kind of run it is.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Something happens, if it can.
    pub fn perform(&mut self, operation: Operation) {
        let Operation(luck, action) = operation;
        if self.how.verbose {
            println!("{:>6} {action:x?}", self.operations);
        }
        self.operations += 1;
        self.luck = Random::new(u64::from(luck));
        self.world.reseed(u64::from(luck));
        if self.kind.starved {
            let limit = self.luck.once_in(3).then_some(0);
            self.world.core.limit_records(limit);
        }
        let before = self.world.events;
        let keeps = matches!(action, Action::Ring);
        self.act(action);
        self.arrive();
        // Without an event nothing has changed but what a thread has written.
        let happened = self.world.events != before;
        if happened || keeps {
            self.compare_rings();
        }
        self.compare(happened);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Touch {
                thread,
                address,
                write,
            } => self.begin_touch(thread, address, write),
            Action::Retry { thread } => self.retry(thread),
            Action::Abort { thread } => self.abort(thread),
            Action::Call { client, name, call } => self.begin(client, name, call),
            Action::Pager { pager } => {
                if pager < self.pagers.pagers.len() {
                    self.pagers.act(&mut self.world, &mut self.luck, pager);
                }
            }
            Action::Ring => self.keep(),
            Action::Step => match self.world.core.wants_step() {
                true => self.world.post(Event::Step),
                false => self.world.post(Event::Idle),
            },
            Action::Wait { nanoseconds } => self.world.wait(nanoseconds),
            Action::Take { frames } => self.world.post(Event::KernelShort(frames)),
            Action::Squeeze { left } => self.world.squeeze(left),
            Action::Return => self.world.return_frames(),
            Action::Drop { name, late } => self.drop_right(name, late),
            Action::End { client } => self.end_idle(client),
            Action::Suspend { client } => {
                if let Some(client) = self.clients.get(client)
                    && client.alive
                    && !client.library
                {
                    self.world.post(Event::TaskSuspended(client.map));
                }
            }
            Action::Kill { pager } => {
                if pager < self.pagers.pagers.len() {
                    self.pagers.kill(&mut self.world, pager);
                }
            }
            Action::Forget { file } => {
                if file < self.pagers.files.len() {
                    self.pagers.forget(&mut self.world, file);
                }
            }
        }
    }

    /// The content of a page of a pager's object, as whoever maps it sees it.
    pub fn file_cell(&mut self, file: usize, index: u64) -> Cell {
        let habits = &self.pagers.files[file].habits;
        let cell = self.cells.entry((file, index)).or_insert_with(|| {
            let object = file as u32;
            let cell = flat::cell(match is_hole(habits, index) {
                true => Bytes::Zero,
                false => Bytes::File { object, index },
            });
            cell.borrow_mut().pager = Some(object);
            cell
        });
        cell.clone()
    }

    /// Whether the pager that a page may have to come from has ever failed.
    #[must_use]
    pub fn may_fail(&self, cell: &Cell) -> bool {
        let (pager, lost) = (cell.borrow().pager, cell.borrow().is_unknown());
        let mut files = self.pagers.files.iter();
        match pager {
            // Without records the server cannot say, or do, what a pager waits for.
            Some(_) if self.kind.starved => true,
            // What waits for frames or slots ends with the same time limit as what waits for a pager.
            Some(_) if self.kind.pressure && self.kind.faulty => true,
            // Half an operation may have put anybody's memory there.
            _ if lost => files.any(|file| file.faulty),
            Some(number) => files.nth(number as usize).is_some_and(|file| file.faulty),
            None => false,
        }
    }

    /// Counts something that happened.
    pub fn count(&mut self, what: &str, how: Result<(), Kern>) {
        let how = how.map_or_else(|code| format!("{code:?}"), |()| "done".to_string());
        *self.tally.entry(format!("{what}: {how}")).or_default() += 1;
    }

    /// Takes note of everything that has arrived.
    pub fn arrive(&mut self) {
        self.see_what_was_taken_out();
        while let Some(arrival) = self.world.arrival() {
            match arrival {
                Arrival::Resumed(token, result) => self.resumed(token, result),
                Arrival::Answered(token, answer) => self.answered(token, answer),
                Arrival::Reported(Report::DirtyDropped { port, .. }) => self.data_lost(port.0),
                Arrival::Reported(Report::RingCorrupt { map }) => {
                    self.caught(map);
                }
                Arrival::Reported(Report::PagerLate { port, .. }) => {
                    let file = self.file_of(port.0);
                    assert!(self.kind.faulty, "the pager of object {file} is late");
                    self.pagers.fails(file);
                }
            }
        }
    }

    fn answered(&mut self, token: Token, answer: Answer) {
        if self.pagers.answered(token, &answer) || self.keeper_answered(token, &answer) {
            return;
        }
        let pending = self.pending.remove(&token.0.get());
        let pending = pending.unwrap_or_else(|| panic!("{token:?} is answered {answer:?}"));
        self.apply(pending, answer);
    }

    /// The object that clients know which a port, or the original of its copy, is of.
    fn file_of(&self, port: u32) -> usize {
        let mut files = self.pagers.files.iter();
        let file = files.position(|file| file.port.0 == port).unwrap();
        self.pagers.original(file)
    }

    /// Written pages of an object were dropped: nobody knows what it holds.
    fn data_lost(&mut self, port: u32) {
        let file = self.file_of(port);
        // What is cached for nobody goes with its pager, and what is refused again and again is dropped.
        let last = self.living.is_empty();
        let refused = self.pagers.files[file].habits.refuse == 1;
        assert!(
            self.kind.faulty || last || refused,
            "data of object {file} was dropped"
        );
        for (_, cell) in self.cells.range((file, 0)..(file + 1, 0)) {
            cell.borrow_mut().lost = true;
        }
    }

    /// The right that an own port's record stands for is used up.
    pub fn forget_copy(&mut self, port: PortOf) {
        self.copies.retain(|held| held.port != port);
    }
}
