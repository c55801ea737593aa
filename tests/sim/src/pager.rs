//! Scripted pagers: tasks with a tray that answer late, out of order, in part, twice or not at all.
//!
//! A pager is one thread. It takes a message, turns it into a list of acts, and does one at a
//! time; filling a slot and reading a lent one are touches of the tray, which may fault like any
//! other. What an object holds is [`flat::file_byte`] until dirty pages come back.

mod answers;
mod copied;
mod copying;
mod ideas;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::memory_object::Request as Said;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataError, MemoryObjectLockRequest, MemoryObjectReady,
    MemoryObjectSynchronizeCompleted, Request,
};
use ipc_protocol::vm_map::{self, PagerTrayCreate, TaskCreate};
use vm_core::event::{ControlId, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Token};

use crate::Random;
use crate::flat;
use crate::world::World;

/// How an object's pager answers: the first are odds, one in so many.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// A data request is answered with an error; 0: never.
    pub error: u64,
    /// Data is supplied twice; 0: never.
    pub twice: u64,
    /// Only a part of a request is answered; 0: never.
    pub part: u64,
    /// Supplied pages may not be written until unlocked; 0: never.
    pub locked: u64,
    /// Supplied pages are precious; 0: never.
    pub precious: u64,
    /// A return is not stored; 0: never.
    pub refuse: u64,
    /// The pager comes with requests of its own; 0: never.
    pub initiative: u64,
    /// The pager says what makes no sense; 0: never.
    pub nonsense: u64,
    /// Data requests are never answered.
    pub silent: bool,
    /// Every fourth page is unavailable.
    pub holes: bool,
    /// Keep pages when nobody maps them.
    pub may_cache: bool,
    /// How the object is copied.
    #[serde(with = "crate::numbers::strategy")]
    pub strategy: CopyStrategy,
    /// Pages of a request.
    pub cluster: u32,
}

/// A memory object.
#[derive(Debug)]
pub struct File {
    /// Its port.
    pub port: RightId,
    /// How its pager answers.
    pub habits: Habits,
    /// Its pager has failed somebody, so that who touches it may get KERN_MEMORY_ERROR.
    pub faulty: bool,
    /// Pages that came back.
    store: BTreeMap<u64, Box<[u8]>>,
    control: Option<ControlId>,
    /// Pages that it was ever asked for.
    pub asked: u64,
    /// The object that it was made a copy of.
    pub copy_of: Option<usize>,
}

/// One thing that a pager does.
#[derive(Clone, Debug)]
enum Act {
    /// Write the data of a page into a slot.
    Fill { file: usize, index: u64, slot: u32 },
    /// Read a lent slot and store it.
    Store { file: usize, index: u64, slot: u32 },
    /// Write the data of a page into memory of its own, at this address.
    Write {
        file: usize,
        index: u64,
        address: u64,
    },
    /// Supply from a copy of such memory.
    Copied(copied::Copied),
    /// Say something on the control port.
    Say { file: usize, request: Request },
    /// Answer who wants a copy, with the object that was made for it.
    Made {
        file: usize,
        request: u64,
        made: usize,
    },
}

/// A pager task.
#[derive(Debug)]
pub struct Pager {
    /// Its map.
    pub map: MapId,
    /// Its tray.
    pub tray: PortOf,
    /// Address of slot 0.
    pub address: u64,
    /// Slots for filling.
    pub slots: u32,
    next: u32,
    /// Its objects.
    pub files: Vec<usize>,
    acts: VecDeque<Act>,
    waits: Option<Token>,
    /// It has ended.
    pub dead: bool,
}

/// All pagers and their objects.
#[derive(Debug, Default)]
pub struct Pagers {
    /// The pagers.
    pub pagers: Vec<Pager>,
    /// The objects of all of them; the number of one is its place.
    pub files: Vec<File>,
    /// Objects that clients map: the first so many. The others are copies of them.
    pub mapped: usize,
    /// Everybody does what is expected from now on.
    pub honest: bool,
    /// Memory is plenty, so that pagers may use some of their own.
    pub plenty: bool,
    /// Copies that wait until the data of the original has come back, by number of the lock request.
    copying: BTreeMap<u64, copying::Wanted>,
    locks: u64,
}

/// Whether an object has no data for a page, until some came back.
#[must_use]
pub fn is_hole(habits: &Habits, index: u64) -> bool {
    habits.holes && index % 4 == 2
}

impl Pager {
    /// Says that the data which it was about to supply cannot be brought.
    fn give_up(&mut self) {
        while let Some(act) = self.acts.pop_front() {
            if let Act::Say { file, request } = act {
                if let Request::MemoryObjectDataSupply(supply) = request {
                    let error = MemoryObjectDataError {
                        offset: supply.offset,
                        size: u64::from(supply.count) * PAGE_SIZE,
                        code: 6,
                    };
                    let request = Request::MemoryObjectDataError(error);
                    self.acts.push_front(Act::Say { file, request });
                }
                return;
            }
        }
    }
}

impl Pagers {
    /// A task with a tray and objects of these habits.
    pub fn start(&mut self, world: &mut World, host: MapId, slots: u32, habits: &[Habits]) {
        let create = vm_map::Request::TaskCreate(TaskCreate { inherit: false });
        let (answer, _) = world.call_now(host, create, PortRef::None);
        let Some(PortOf::Map(map)) = answer.unwrap().right else {
            panic!("a task has a map");
        };
        let create = vm_map::Request::PagerTrayCreate(PagerTrayCreate { slots });
        let (answer, reply) = world.call_now(map, create, PortRef::None);
        let tray = answer.unwrap().right.unwrap();
        let Some(vm_map::Reply::PagerTrayCreate(made)) = reply else {
            panic!("{reply:?}");
        };
        let first = self.files.len();
        // One object that is never answered for may keep all slots of the tray waiting.
        let silent = habits.iter().any(|habits| habits.silent);
        self.files
            .extend(habits.iter().enumerate().map(|(place, habits)| {
                let number = first + place;
                File {
                    port: RightId(100 + number as u32),
                    habits: *habits,
                    faulty: silent,
                    store: BTreeMap::new(),
                    control: None,
                    asked: 0,
                    copy_of: None,
                }
            }));
        self.mapped = self.files.len();
        self.pagers.push(Pager {
            map,
            tray,
            address: made.address,
            slots: made.slots,
            next: 0,
            files: (first..self.files.len()).collect(),
            acts: VecDeque::new(),
            waits: None,
            dead: false,
        });
    }

    /// The page of an object as its pager has it.
    fn data(&self, file: usize, index: u64) -> Option<Box<[u8]>> {
        let record = &self.files[file];
        match record.store.get(&index) {
            Some(page) => Some(page.clone()),
            None if is_hole(&record.habits, index) => None,
            None => Some(flat::file_page(file as u32, index)),
        }
    }

    /// Whether a pager has anything to do.
    #[must_use]
    pub fn is_busy(&self, world: &World) -> bool {
        self.pagers.iter().any(|pager| {
            let queued = |file: &usize| !world.queue(self.files[*file].port).is_empty();
            !pager.dead && (!pager.acts.is_empty() || pager.files.iter().any(queued))
        })
    }

    /// A pager does one thing.
    pub fn act(&mut self, world: &mut World, random: &mut Random, place: usize) {
        let pager = &mut self.pagers[place];
        if pager.dead || pager.waits.is_some() {
            return;
        }
        match pager.acts.pop_front() {
            Some(act) => self.do_one(world, place, act),
            None => self.listen(world, random, place),
        }
    }

    /// Whether a resumed thread is a pager's; it tries again, or gives up what it was doing.
    pub fn resumed(&mut self, token: Token, result: Result<(), Kern>) -> bool {
        let mine = |pager: &&mut Pager| pager.waits == Some(token);
        let Some(pager) = self.pagers.iter_mut().find(mine) else {
            return false;
        };
        pager.waits = None;
        if let Err(code) = result {
            let act = pager.acts.front().cloned();
            assert!(
                matches!(act, Some(Act::Store { .. })) || code == Kern::ResourceShortage,
                "a pager gets {code:?} for {act:?}"
            );
            match act {
                Some(Act::Fill { file, .. }) => {
                    // There is no page for it: this answer is given up, in as many words.
                    pager.give_up();
                    self.fails(file);
                }
                _ => {
                    pager.acts.pop_front();
                }
            }
        }
        true
    }

    /// Who touches an object, or a copy of it, may get KERN_MEMORY_ERROR from now on.
    pub fn fails(&mut self, file: usize) {
        let original = self.original(file);
        self.files[file].faulty = true;
        self.files[original].faulty = true;
    }

    /// A pager's task ends, and its objects' ports with it.
    pub fn kill(&mut self, world: &mut World, place: usize) {
        let pager = &mut self.pagers[place];
        if std::mem::replace(&mut pager.dead, true) {
            return;
        }
        pager.acts.clear();
        let (map, tray, files) = (pager.map, pager.tray, pager.files.clone());
        if let Some(token) = pager.waits.take() {
            world.cancel(token);
        }
        for file in files {
            self.files[file].faulty = true;
            let control = self.files[file].control.take();
            world.kill_port(self.files[file].port);
            if let Some(control) = control {
                world.no_senders(PortOf::Control(control), false);
            }
        }
        world.no_senders(tray, false);
        world.post(vm_core::event::Event::TaskEnded(map));
    }

    /// A pager forgets an object: the server's control port loses its last right.
    pub fn forget(&mut self, world: &mut World, file: usize) {
        if let Some(control) = self.files[file].control.take() {
            world.no_senders(PortOf::Control(control), false);
        }
    }

    fn do_one(&mut self, world: &mut World, place: usize, act: Act) {
        match act {
            Act::Fill { file, index, slot } => {
                let page = self.data(file, index);
                let Some(page) = page else {
                    return;
                };
                match self.slot(world, place, (slot, Prot::WRITE), &act) {
                    Some(bytes) => bytes.copy_from_slice(&page),
                    None => self.wait(world, place, slot, Prot::WRITE),
                }
            }
            Act::Store { file, index, slot } => {
                let read = self.slot(world, place, (slot, Prot::READ), &act);
                match read.map(|bytes| bytes.to_vec().into_boxed_slice()) {
                    Some(bytes) => {
                        self.files[file].store.insert(index, bytes);
                    }
                    None => self.wait(world, place, slot, Prot::READ),
                }
            }
            Act::Write {
                file,
                index,
                address,
            } => self.write_own(world, place, (file, index), address),
            Act::Copied(copied) => self.supply_copied(world, place, copied),
            Act::Say { file, request } => {
                let Some(control) = self.files[file].control else {
                    return;
                };
                let mut rights = NO_RIGHTS;
                if let Request::MemoryObjectReady(_) = request {
                    rights[0] = PortRef::Own(self.pagers[place].tray);
                }
                world.control(control, request, rights);
            }
            Act::Made {
                file,
                request,
                made,
            } => self.say_made(world, file, (request, made)),
        }
    }

    /// The bytes of a slot; `None`: a touch faults, and the act is to be done again.
    fn slot<'a>(
        &mut self,
        world: &'a mut World,
        place: usize,
        (slot, access): (u32, Prot),
        act: &Act,
    ) -> Option<&'a mut [u8]> {
        let pager = &mut self.pagers[place];
        let number = (pager.address / PAGE_SIZE) + u64::from(slot);
        let bytes = world.model.page(pager.map, number, access);
        if bytes.is_none() {
            pager.acts.push_front(act.clone());
        }
        bytes
    }

    fn wait(&mut self, world: &mut World, place: usize, slot: u32, access: Prot) {
        let pager = &mut self.pagers[place];
        let address = pager.address + u64::from(slot) * PAGE_SIZE;
        pager.waits = Some(world.fault(pager.map, address, access));
    }

    /// Takes a message, or has an idea.
    fn listen(&mut self, world: &mut World, random: &mut Random, place: usize) {
        let files = &self.pagers[place].files;
        let full: Vec<usize> = files
            .iter()
            .copied()
            .filter(|file| !world.queue(self.files[*file].port).is_empty())
            .collect();
        let Some(file) = random.pick(&full) else {
            if let Some(file) = random.pick(&self.pagers[place].files) {
                self.idea(place, random, file);
                self.nonsense(place, random, file);
            }
            return;
        };
        // Data requests may be answered in any order, as far as there are only data requests.
        let port = self.files[file].port;
        let queue = world.queue(port);
        let ahead = queue
            .iter()
            .take_while(|said| matches!(said.wording, Said::MemoryObjectDataRequest(_)))
            .count();
        let chosen = random.below(ahead.max(1) as u64) as usize;
        let said = world.receive(port, chosen);
        match said.wording {
            Said::MemoryObjectInit(_) => {
                self.files[file].control = said.control;
                let ready = self.ready(file);
                self.say(place, file, Request::MemoryObjectReady(ready));
            }
            Said::MemoryObjectTerminate(_) => self.files[file].control = None,
            Said::MemoryObjectDataRequest(wanted) => self.requested(place, random, file, wanted),
            Said::MemoryObjectDataReturn(lent) => self.returned(place, random, file, lent),
            Said::MemoryObjectDataUnlock(wanted) => {
                let unlock = lock(wanted.offset, wanted.length, 0, 0, 0);
                self.say(place, file, Request::MemoryObjectLockRequest(unlock));
            }
            Said::MemoryObjectSynchronize(wanted) => {
                let done = MemoryObjectSynchronizeCompleted {
                    request: wanted.request,
                    result: 0,
                };
                self.say(place, file, Request::MemoryObjectSynchronizeCompleted(done));
            }
            Said::MemoryObjectCopy(wanted) => self.copy_wanted(place, random, file, wanted),
            Said::MemoryObjectLockCompleted(done) => {
                self.lock_completed(place, file, done.request, done.result);
            }
            Said::MemoryObjectChangeCompleted(_) => {}
        }
    }

    fn ready(&self, file: usize) -> MemoryObjectReady {
        let habits = &self.files[file].habits;
        MemoryObjectReady {
            may_cache: habits.may_cache,
            copy_strategy: habits.strategy as u32,
            cluster_pages: habits.cluster,
            serves_itself: false,
            synchronizes: false,
        }
    }

    fn say(&mut self, place: usize, file: usize, request: Request) {
        self.pagers[place]
            .acts
            .push_back(Act::Say { file, request });
    }

    /// Whether a habit with these odds shows now.
    fn feels(&self, random: &mut Random, odds: u64) -> bool {
        !self.honest && odds != 0 && random.once_in(odds)
    }
}

fn lock(
    offset: u64,
    size: u64,
    returns: u32,
    flags: u32,
    lock_value: u32,
) -> MemoryObjectLockRequest {
    MemoryObjectLockRequest {
        offset,
        size,
        should_return: returns,
        flags,
        lock_value,
        request: offset / PAGE_SIZE % 3,
    }
}
