//! Scripted pagers: tasks with a tray that answer late, out of order, in part, twice or not at all.
//!
//! A pager is one thread. It takes a message, turns it into a list of acts, and does one at a
//! time; filling a slot and reading a lent one are touches of the tray, which may fault like any
//! other. What an object holds is [`flat::file_byte`] until dirty pages come back.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::memory_object::{
    MemoryObjectDataRequest, MemoryObjectDataReturn, Request as Said,
};
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectChangeAttributes, MemoryObjectCopyMade,
    MemoryObjectDataError, MemoryObjectDataSupply, MemoryObjectDataUnavailable,
    MemoryObjectDataWritten, MemoryObjectLockRequest, MemoryObjectReady,
    MemoryObjectSynchronizeCompleted, Request, VM_PROT_NO_CHANGE,
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
}

/// One thing that a pager does.
#[derive(Clone, Debug)]
enum Act {
    /// Write the data of a page into a slot.
    Fill { file: usize, index: u64, slot: u32 },
    /// Read a lent slot and store it.
    Store { file: usize, index: u64, slot: u32 },
    /// Say something on the control port.
    Say { file: usize, request: Request },
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
    /// Everybody does what is expected from now on.
    pub honest: bool,
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
                }
            }));
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
                    self.files[file].faulty = true;
                    pager.give_up();
                }
                _ => {
                    pager.acts.pop_front();
                }
            }
        }
        true
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
            Said::MemoryObjectCopy(wanted) => {
                let refused = MemoryObjectCopyMade {
                    request: wanted.request,
                    result: Kern::NotSupported.raw(),
                };
                self.say(place, file, Request::MemoryObjectCopyMade(refused));
            }
            Said::MemoryObjectLockCompleted(_) | Said::MemoryObjectChangeCompleted(_) => {}
        }
    }

    fn ready(&self, file: usize) -> MemoryObjectReady {
        let habits = &self.files[file].habits;
        MemoryObjectReady {
            may_cache: habits.may_cache,
            copy_strategy: habits.strategy as u32,
            cluster_pages: habits.cluster,
            serves_itself: false,
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

    fn requested(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        wanted: MemoryObjectDataRequest,
    ) {
        let habits = self.files[file].habits;
        let (first, mut count) = (wanted.offset / PAGE_SIZE, wanted.length / PAGE_SIZE);
        let slots = u64::from(self.pagers[place].slots);
        assert!(
            wanted.offset.is_multiple_of(PAGE_SIZE)
                && wanted.length.is_multiple_of(PAGE_SIZE)
                && count >= 1
                && count <= u64::from(habits.cluster.max(1)).min(slots),
            "asked for {wanted:?}"
        );
        self.files[file].asked += count;
        if habits.silent && !self.honest {
            return;
        }
        if self.feels(random, habits.error) {
            self.files[file].faulty = true;
            let error = MemoryObjectDataError {
                offset: wanted.offset,
                size: wanted.length,
                code: 5,
            };
            return self.say(place, file, Request::MemoryObjectDataError(error));
        }
        if self.feels(random, habits.part) {
            count = 1 + random.below(count);
        }
        let mut runs = self.runs(file, first, count);
        if random.once_in(2) {
            runs.reverse();
        }
        if self.feels(random, habits.twice) {
            runs.extend(runs.clone());
        }
        for (start, count, there) in runs {
            match there {
                true => self.supply(place, random, file, (start, count)),
                false => {
                    let nothing = MemoryObjectDataUnavailable {
                        offset: start * PAGE_SIZE,
                        size: count * PAGE_SIZE,
                    };
                    self.say(place, file, Request::MemoryObjectDataUnavailable(nothing));
                }
            }
        }
    }

    /// Pages by whether there is data for them.
    fn runs(&self, file: usize, first: u64, count: u64) -> Vec<(u64, u64, bool)> {
        let mut runs: Vec<(u64, u64, bool)> = Vec::new();
        for index in first..first + count {
            let record = &self.files[file];
            let there = record.store.contains_key(&index) || !is_hole(&record.habits, index);
            match runs.last_mut() {
                Some(run) if run.2 == there => run.1 += 1,
                _ => runs.push((index, 1, there)),
            }
        }
        runs
    }

    fn supply(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        (first, count): (u64, u64),
    ) {
        let habits = self.files[file].habits;
        let pager = &mut self.pagers[place];
        let count = count.min(u64::from(pager.slots)) as u32;
        if pager.next + count > pager.slots {
            pager.next = 0;
        }
        let slot = pager.next;
        pager.next += count;
        for place in 0..count {
            pager.acts.push_back(Act::Fill {
                file,
                index: first + u64::from(place),
                slot: slot + place,
            });
        }
        let locked = self.feels(random, habits.locked);
        let supply = MemoryObjectDataSupply {
            offset: first * PAGE_SIZE,
            slot,
            count,
            lock_value: if locked {
                u32::from(Prot::WRITE.bits())
            } else {
                0
            },
            precious: self.feels(random, habits.precious),
        };
        self.say(place, file, Request::MemoryObjectDataSupply(supply));
    }

    fn returned(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        lent: MemoryObjectDataReturn,
    ) {
        assert!(lent.count > 0, "{lent:?}");
        let refused = self.feels(random, self.files[file].habits.refuse);
        if !refused {
            for page in 0..lent.count {
                self.pagers[place].acts.push_back(Act::Store {
                    file,
                    index: lent.offset / PAGE_SIZE + u64::from(page),
                    slot: lent.slot + page,
                });
            }
        }
        let written = MemoryObjectDataWritten {
            txn: lent.txn,
            result: if refused { 5 } else { 0 },
        };
        self.say(place, file, Request::MemoryObjectDataWritten(written));
    }

    /// A pager does something of its own accord.
    fn idea(&mut self, place: usize, random: &mut Random, file: usize) {
        let habits = self.files[file].habits;
        if self.files[file].control.is_none() || !self.feels(random, habits.initiative) {
            return;
        }
        let (offset, pages) = (random.below(12) * PAGE_SIZE, random.below(6));
        let request = match random.below(8) {
            0 => Request::MemoryObjectChangeAttributes(MemoryObjectChangeAttributes {
                may_cache: random.once_in(2),
                copy_strategy: habits.strategy as u32,
                request: random.below(2),
            }),
            1 => {
                for (start, count, there) in self.runs(file, offset / PAGE_SIZE, 2) {
                    if there {
                        self.supply(place, random, file, (start, count));
                    }
                }
                return;
            }
            2 => {
                let write = u32::from(Prot::WRITE.bits());
                let request = lock(offset, pages * PAGE_SIZE, 0, 0, write);
                Request::MemoryObjectLockRequest(request)
            }
            3 => {
                let all = [Prot::NONE, Prot::ALL][random.below(2) as usize];
                let all = u32::from(all.bits());
                Request::MemoryObjectLockRequest(lock(offset, pages * PAGE_SIZE, 1, 0, all))
            }
            4 => {
                let (returns, keep) = (1 + random.below(3) as u32, VM_PROT_NO_CHANGE);
                let request = lock(offset, pages * PAGE_SIZE, returns, 0, keep);
                Request::MemoryObjectLockRequest(request)
            }
            _ => {
                let (returns, flags) = (1 + random.below(3) as u32, MEMORY_OBJECT_DATA_FLUSH);
                let request = lock(offset, pages * PAGE_SIZE, returns, flags, VM_PROT_NO_CHANGE);
                Request::MemoryObjectLockRequest(request)
            }
        };
        self.say(place, file, request);
    }
}

impl Pagers {
    /// A message that must be refused, or has no effect. Who is asked for nothing in its range must not
    /// notice.
    fn nonsense(&mut self, place: usize, random: &mut Random, file: usize) {
        if !self.feels(random, self.files[file].habits.nonsense) {
            return;
        }
        let slots = self.pagers[place].slots;
        let supply = MemoryObjectDataSupply {
            offset: random.below(8) * PAGE_SIZE,
            slot: 0,
            count: 1,
            lock_value: 0,
            precious: false,
        };
        let far = (1000 + random.below(50)) * PAGE_SIZE;
        let request = match random.below(14) {
            0 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                offset: 5,
                ..supply
            }),
            1 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                slot: slots,
                ..supply
            }),
            2 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply { count: 0, ..supply }),
            3 => {
                let count = [slots + 1, 65, u32::MAX][random.below(3) as usize];
                Request::MemoryObjectDataSupply(MemoryObjectDataSupply { count, ..supply })
            }
            4 => {
                let offset = u64::MAX - PAGE_SIZE + 1;
                Request::MemoryObjectDataSupply(MemoryObjectDataSupply { offset, ..supply })
            }
            5 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                lock_value: 8,
                ..supply
            }),
            6 => Request::MemoryObjectDataWritten(MemoryObjectDataWritten {
                txn: random.word(),
                result: 0,
            }),
            7 => Request::MemoryObjectDataUnavailable(MemoryObjectDataUnavailable {
                offset: far,
                size: PAGE_SIZE,
            }),
            8 => Request::MemoryObjectDataError(MemoryObjectDataError {
                offset: far,
                size: u64::MAX - far,
                code: 1,
            }),
            9 => Request::MemoryObjectLockRequest(lock(0, PAGE_SIZE, 4, 0, 0)),
            10 => Request::MemoryObjectLockRequest(lock(0, u64::MAX, 0, 4, 0)),
            11 => Request::MemoryObjectLockRequest(lock(PAGE_SIZE, u64::MAX, 1, 1, 8)),
            12 => Request::MemoryObjectReady(MemoryObjectReady {
                copy_strategy: 9,
                ..self.ready(file)
            }),
            _ => Request::MemoryObjectSynchronizeCompleted(MemoryObjectSynchronizeCompleted {
                request: random.word(),
                result: 0,
            }),
        };
        self.say(place, file, request);
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
