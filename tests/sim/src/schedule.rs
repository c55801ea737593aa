//! Random schedules: what tasks, threads and pagers do, in any order, and what each must see.
//!
//! Touches are compared at the moment when they succeed. A call takes effect in the flat model when
//! it is answered. While one is on its way, nobody writes what it reads, nobody touches what it
//! writes, and nobody else changes those addresses: there both the old and the new would be right,
//! and nothing could be learned.

mod end;
mod threads;

use std::collections::BTreeMap;

use ipc_abi::Kern;
use ipc_abi::types::CopyStrategy;
use vm_core::Config;
use vm_core::effect::{Answer, Report};
use vm_core::event::{Event, MapId, PortOf, Token};

use crate::Random;
use crate::calls::{Call, Entry, Held, Pending};
use crate::flat::{self, Bytes, Cell, PAGE, Space};
use crate::pager::{Habits, Pagers, is_hole};
use crate::world::{Arrival, Unkind, World};

/// Page number of the lowest page that tasks use.
pub const BASE: u64 = ipc_abi::layout::USER_MIN / PAGE as u64;

/// What kind of run.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Frames of memory.
    pub frames: u32,
    /// Pagers.
    pub pagers: u64,
    /// Pages of each task that most calls are about.
    pub pages: u64,
    /// Tasks at most.
    pub tasks: usize,
    /// Events, about.
    pub events: u64,
    /// Pagers fail, are silent, forget and die.
    pub faulty: bool,
    /// Memory may run out.
    pub pressure: bool,
    /// Pagers act most of the time, much of it of their own accord.
    pub paging: bool,
    /// Now and then the server can make no more records.
    pub starved: bool,
}

impl Kind {
    /// Much memory, pagers that work.
    pub const PLAIN: Kind = Kind {
        frames: 1024,
        pagers: 2,
        pages: 24,
        tasks: 4,
        events: 300,
        faulty: false,
        pressure: false,
        paging: false,
        starved: false,
    };
    /// Few pages of pagers that take them back all the time.
    pub const PAGING: Kind = Kind {
        pages: 12,
        pagers: 1,
        paging: true,
        ..Kind::PLAIN
    };
    /// Anonymous memory alone.
    pub const ANONYMOUS: Kind = Kind {
        pagers: 0,
        ..Kind::PLAIN
    };
    /// Pagers that fail in every way.
    pub const FAULTY: Kind = Kind {
        faulty: true,
        ..Kind::PLAIN
    };
    /// Few frames.
    pub const PRESSURE: Kind = Kind {
        frames: 56,
        pressure: true,
        ..Kind::PLAIN
    };
    /// A server without memory for its own records, now and then.
    pub const STARVED: Kind = Kind {
        pressure: true,
        faulty: true,
        starved: true,
        ..Kind::PLAIN
    };
    /// Everything that can go wrong, at once, with little of anything.
    pub const STORM: Kind = Kind {
        frames: 72,
        pages: 12,
        paging: true,
        ..Kind::STARVED
    };
    /// Names of the kinds.
    pub const NAMES: [&str; 7] = [
        "plain",
        "anonymous",
        "paging",
        "faulty",
        "pressure",
        "starved",
        "storm",
    ];

    /// A kind by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        let place = Kind::NAMES.iter().position(|known| *known == name)?;
        let kinds = [
            Kind::PLAIN,
            Kind::ANONYMOUS,
            Kind::PAGING,
            Kind::FAULTY,
            Kind::PRESSURE,
            Kind::STARVED,
            Kind::STORM,
        ];
        kinds.get(place).copied()
    }
}

/// A client task.
#[derive(Debug)]
pub struct Client {
    /// Its map.
    pub map: MapId,
    /// What it must see.
    pub space: Space,
    /// It has not ended.
    pub alive: bool,
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

#[derive(Clone, Copy, Debug)]
struct Thread {
    client: usize,
    touch: Touch,
}

/// One run.
pub struct Sim {
    /// What it runs on.
    pub world: World,
    /// Its choices.
    pub random: Random,
    seed: u64,
    kind: Kind,
    /// The task that makes tasks.
    pub host: MapId,
    /// Tasks.
    pub clients: Vec<Client>,
    threads: Vec<Thread>,
    /// Pagers.
    pub pagers: Pagers,
    /// Pages of pagers' objects that anybody mapped.
    cells: BTreeMap<(usize, u64), Cell>,
    /// Copies that somebody has a right to.
    pub copies: Vec<Held>,
    /// Named entries that somebody has a right to.
    pub entries: Vec<Entry>,
    /// Calls that are not answered.
    pub pending: BTreeMap<u64, Pending>,
    next_held: u64,
    /// What happened how often.
    pub tally: BTreeMap<String, u64>,
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "seed {} of {:?}; the last events:\n{}",
                self.seed,
                self.kind,
                self.world.recent()
            );
        }
    }
}

impl Sim {
    /// The run of a seed, before its first event.
    #[must_use]
    pub fn new(seed: u64, kind: Kind) -> Sim {
        let mut random = Random::new(seed);
        let unkind = Unkind {
            lost_enters: [3, 20, 1_000_000][random.below(3) as usize],
            queue: 1 + random.below(12) as usize,
            supplies: random.once_in(2),
            check_every: 1,
        };
        let mut config = Config::for_frames(kind.frames);
        config.pager_timeout = 1_000_000;
        let mut world = World::new(config, seed, unkind);
        let host = world.core.boot_map().unwrap();
        let mut pagers = Pagers::default();
        for _ in 0..kind.pagers {
            let slots = 1 + random.below(12) as u32;
            let habits: Vec<Habits> = (0..1 + random.below(3))
                .map(|_| habits(&mut random, &kind))
                .collect();
            pagers.start(&mut world, host, slots, &habits);
        }
        let mut sim = Sim {
            world,
            random,
            seed,
            kind,
            host,
            clients: Vec::new(),
            threads: Vec::new(),
            pagers,
            cells: BTreeMap::new(),
            copies: Vec::new(),
            entries: Vec::new(),
            pending: BTreeMap::new(),
            next_held: 0,
            tally: BTreeMap::new(),
        };
        for _ in 0..2 {
            let map = sim.world.core.boot_map().unwrap();
            sim.add_client(map, Space::default());
            sim.furnish();
        }
        sim
    }

    /// Gives the newest task memory to begin with.
    fn furnish(&mut self) {
        let client = self.clients.len() - 1;
        let third = self.kind.pages / 3;
        self.begin(client, Call::allocate_at(BASE, third));
        if self.kind.pagers > 0 {
            let start = BASE + third + 1;
            self.begin(client, Call::map_at(start, third, (0, client as u64)));
        }
        self.arrive();
    }

    /// A task with two threads.
    pub fn add_client(&mut self, map: MapId, space: Space) {
        let client = self.clients.len();
        self.clients.push(Client {
            map,
            space,
            alive: true,
        });
        let touch = Touch::Nothing;
        self.threads.extend([Thread { client, touch }; 2]);
    }

    /// What kind of run it is.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Does all of it.
    pub fn run(&mut self) {
        for step in 1..=self.kind.events {
            self.event();
            if step % 256 == 0 || self.world.verbose {
                self.compare_resident();
            }
        }
        self.finish();
    }

    /// Something happens.
    pub fn event(&mut self) {
        if self.kind.starved {
            let limit = self.random.once_in(3).then_some(0);
            self.world.core.limit_records(limit);
        }
        if self.kind.paging {
            for _ in 0..self.random.below(8) {
                self.pager_acts();
                self.arrive();
            }
        }
        match self.random.below(100) {
            0..40 => self.thread_acts(),
            40..58 => self.call_something(),
            58..78 => self.pager_acts(),
            78..92 => match self.world.core.wants_step() {
                true => self.world.post(Event::Step),
                false => self.world.post(Event::Idle),
            },
            92..94 => self.world.wait(if self.kind.faulty { 30_000 } else { 10 }),
            94 => self.kernel_wants(),
            95 => self.abort_thread(),
            96..98 => self.drop_right(),
            98 => self.end_task(),
            _ => self.pager_fails(),
        }
        self.arrive();
    }

    fn pager_acts(&mut self) {
        if self.kind.pagers > 0 {
            let place = self.random.below(self.kind.pagers) as usize;
            self.pagers.act(&mut self.world, &mut self.random, place);
        }
    }

    fn pager_fails(&mut self) {
        if !self.kind.faulty || self.kind.pagers == 0 {
            return;
        }
        if self.random.once_in(3) {
            let place = self.random.below(self.kind.pagers) as usize;
            self.pagers.kill(&mut self.world, place);
        } else {
            let file = self.random.below(self.pagers.files.len() as u64) as usize;
            self.pagers.forget(&mut self.world, file);
        }
    }

    fn kernel_wants(&mut self) {
        if self.random.once_in(2) {
            let wanted = 1 + self.random.below(4) as u32;
            self.world.post(Event::KernelShort(wanted));
        } else {
            self.world.return_frames();
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
        let (pager, lost) = (cell.borrow().pager, cell.borrow().lost);
        let mut files = self.pagers.files.iter();
        match pager {
            // Without records the server cannot say, or do, what a pager waits for.
            Some(_) if self.kind.starved => true,
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

    /// A number for a copy or a named entry.
    pub fn held_number(&mut self) -> u64 {
        self.next_held += 1;
        self.next_held
    }

    /// Takes note of everything that has arrived.
    pub fn arrive(&mut self) {
        while let Some(arrival) = self.world.arrival() {
            match arrival {
                Arrival::Resumed(token, result) => self.resumed(token, result),
                Arrival::Answered(token, answer) => self.answered(token, answer),
                Arrival::Reported(Report::DirtyDropped { port, .. }) => self.data_lost(port.0),
                Arrival::Reported(Report::PagerLate { port, .. }) => {
                    let file = self.file_of(port.0);
                    assert!(self.kind.faulty, "the pager of object {file} is late");
                    self.pagers.files[file].faulty = true;
                }
            }
        }
    }

    fn answered(&mut self, token: Token, answer: Answer) {
        let pending = self.pending.remove(&token.0.get());
        let pending = pending.unwrap_or_else(|| panic!("{token:?} is answered {answer:?}"));
        self.apply(pending, answer);
    }

    fn file_of(&self, port: u32) -> usize {
        let mut files = self.pagers.files.iter();
        files.position(|file| file.port.0 == port).unwrap()
    }

    /// Written pages of an object were dropped: nobody knows what it holds.
    fn data_lost(&mut self, port: u32) {
        let file = self.file_of(port);
        // What is cached for nobody goes with its pager.
        let last = self.clients.iter().all(|client| !client.alive);
        assert!(
            self.kind.faulty || last,
            "data of object {file} was dropped"
        );
        for (_, cell) in self.cells.range((file, 0)..(file + 1, 0)) {
            cell.borrow_mut().lost = true;
        }
    }

    fn call_something(&mut self) {
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|client| self.clients[*client].alive)
            .collect();
        let Some(client) = self.random.pick(&alive) else {
            return;
        };
        let call = Call::random(self, client);
        self.begin(client, call);
    }

    /// The right that an own port's record stands for is used up.
    pub fn forget_copy(&mut self, port: PortOf) {
        self.copies.retain(|held| held.port != port);
    }
}

fn habits(random: &mut Random, kind: &Kind) -> Habits {
    let faulty = kind.faulty;
    let mut odds = |most: u64| match random.below(3) {
        0 => 0,
        _ => 1 + random.below(most),
    };
    let mut habits = Habits {
        error: if faulty { odds(8) } else { 0 },
        twice: odds(4),
        part: odds(3),
        locked: odds(4),
        precious: odds(4),
        refuse: odds(8),
        initiative: if kind.paging { 1 } else { odds(4) },
        nonsense: if faulty { odds(4) } else { 0 },
        silent: false,
        holes: odds(2) == 0,
        may_cache: odds(2) == 0,
        strategy: CopyStrategy::Delay,
        cluster: odds(8) as u32,
    };
    habits.silent = faulty && random.once_in(6);
    if random.once_in(3) {
        habits.strategy = CopyStrategy::None;
    }
    habits
}
