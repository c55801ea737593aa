//! Pagers that lie: about pages that they do not have, about trays that are not theirs, about
//! everything, or by saying nothing. Their clients suffer; nobody else does.

use alloc::format;

use guest_test::assistant::Command;
use guest_test::message::arrived;
use guest_test::{Assistant, Msg, Outcome, Supervisor, check, check_eq, touch};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::FOREVER;
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{ArrivedKind, Name};
use ipc::mapping::Options;
use ipc::protocol::memory_object::{self, MemoryObject, MemoryObjectDataRequest};
use ipc::protocol::memory_object_control::{
    MemoryControl, MemoryObjectChangeAttributes, MemoryObjectDataError, MemoryObjectDataSupply,
    MemoryObjectDataSupplyReply, MemoryObjectDataUnavailable, MemoryObjectDataWritten,
    MemoryObjectDestroy, MemoryObjectLockRequest, MemoryObjectReady,
    MemoryObjectSynchronizeCompleted,
};
use ipc::protocol::vm_map::{
    MAP_MEM_NAMED_CREATE, VM_SYNC_INVALIDATE, VM_SYNC_SYNCHRONOUS, VmCopy, VmMsync,
};
use ipc::time::{MILLISECOND, after, now};
use ipc::vm::{self, NewTray};
use ipc::{Kern, Passed, ReceiveRight, SendRight, bootstrap};

use crate::balance::{Balance, all_is_well};
use crate::helper::{DONE, Helper};
use crate::random::Random;

/// The role of a pager that lies. Its argument says how.
pub(crate) const ROLE: &str = "attack:pagers";

/// Slots of a tray.
const SLOTS: u32 = 8;
/// Pages of an object.
const PAGES: u64 = 32;

/// An object that this task serves by hand.
struct Pager {
    _object: ReceiveRight<MemoryObject>,
    tray: NewTray,
    control: SendRight<MemoryControl>,
    /// Where the assistant has it.
    address: u64,
}

impl Pager {
    /// An object that is mapped by the assistant and not ready.
    fn open(client: &Assistant) -> Outcome<Pager> {
        let object = ReceiveRight::new(0)?;
        let right = object.make_send()?;
        let mapping = Options::new(PAGES * PAGE_SIZE).object(&right);
        let address = mapping.map_in(&client.started.map)?;
        let received = Msg::receive(&object).go()?;
        check_eq!(received.info.id(), 2201);
        let [(control, kind)] = arrived();
        check_eq!(kind, ArrivedKind::Send);
        Ok(Pager {
            _object: object,
            tray: vm::own().create_tray(SLOTS)?,
            control: SendRight::from_name(control as Name),
            address,
        })
    }

    fn ready(&self, tray: Passed<'_>) -> Result<(), Kern> {
        let message = MemoryObjectReady {
            may_cache: false,
            copy_strategy: 0,
            cluster_pages: 1,
            serves_itself: false,
            synchronizes: false,
        };
        self.control.call_with(&message, [tray], FOREVER).map(drop)
    }

    /// An object that is mapped and ready.
    fn opened(client: &Assistant) -> Outcome<Pager> {
        let pager = Pager::open(client)?;
        pager.ready(pager.tray.tray.copy())?;
        Ok(pager)
    }

    /// Writes the first word of a slot.
    fn fill(&self, slot: u32, value: u64) {
        // SAFETY: the slot is mapped here, and only looked at through pages that were supplied.
        unsafe { touch::write(self.tray.address + u64::from(slot) * PAGE_SIZE, value) };
    }

    fn supply(
        &self,
        offset: u64,
        slot: u32,
        count: u32,
    ) -> Result<MemoryObjectDataSupplyReply, Kern> {
        self.control.call(&MemoryObjectDataSupply {
            offset,
            slot,
            count,
            lock_value: 0,
            precious: false,
        })
    }
}

pub(crate) fn a_slot_is_supplied_once() -> Outcome {
    let client = Assistant::start()?;
    let pager = Pager::opened(&client)?;
    for page in (0..PAGES).step_by(2) {
        pager.fill(0, 0x5EC2E7);
        check_eq!(pager.supply(page * PAGE_SIZE, 0, 1)?.used, 1);
        // The slot is empty, or has a page of zeros again: never the page that it had.
        match pager.supply((page + 1) * PAGE_SIZE, 0, 1) {
            Ok(_) => check_eq!(client.read(pager.address + (page + 1) * PAGE_SIZE)?, 0),
            Err(code) => check_eq!(code, Kern::InvalidArgument),
        }
        check_eq!(client.read(pager.address + page * PAGE_SIZE)?, 0x5EC2E7);
    }
    // A page that is there already takes the slot, and nothing else.
    pager.fill(1, 1);
    let again = pager.supply(0, 1, 1)?;
    check_eq!((again.used, again.skipped_present), (0, 1));
    check_eq!(client.read(pager.address)?, 0x5EC2E7);
    Ok(())
}

pub(crate) fn slots_out_of_range_are_refused() -> Outcome {
    let client = Assistant::start()?;
    let pager = Pager::opened(&client)?;
    let last = u64::MAX - PAGE_SIZE + 1;
    for (offset, slot, count) in [
        (0, SLOTS, 1),
        (0, 0, SLOTS + 1),
        (0, 1, SLOTS),
        (0, u32::MAX, 1),
        (0, u32::MAX, 2),
        (0, 1, u32::MAX),
        (0, 0, 0),
        (1, 0, 1),
        (last, 0, 2),
        (u64::MAX, 0, 1),
    ] {
        let refused = pager.supply(offset, slot, count).err();
        check_eq!(refused, Some(Kern::InvalidArgument));
    }
    pager.fill(0, 5);
    check_eq!(pager.supply(0, 0, 1)?.used, 1);
    check_eq!(client.read(pager.address)?, 5);
    Ok(())
}

pub(crate) fn the_tray_of_another_object_gives_only_its_slots() -> Outcome {
    let client = Assistant::start()?;
    let one = Pager::opened(&client)?;
    let two = Pager::open(&client)?;
    two.ready(one.tray.tray.copy())?;
    for page in 0..PAGES / 2 {
        one.fill(0, 0xA);
        check_eq!(one.supply(page * PAGE_SIZE, 0, 1)?.used, 1);
        match two.supply(page * PAGE_SIZE, 0, 1) {
            Ok(_) => check_eq!(client.read(two.address + page * PAGE_SIZE)?, 0),
            Err(code) => check_eq!(code, Kern::InvalidArgument),
        }
        check_eq!(client.read(one.address + page * PAGE_SIZE)?, 0xA);
    }
    Ok(())
}

pub(crate) fn what_is_no_tray_is_refused() -> Outcome {
    let client = Assistant::start()?;
    let pager = Pager::open(&client)?;
    let (entry, _) = vm::own().memory_entry(PAGE_SIZE, 0, MAP_MEM_NAMED_CREATE | 3, None)?;
    let port = ReceiveRight::<MemoryObject>::new(0)?;
    for wrong in [
        Passed::NONE,
        entry.copy(),
        port.make(),
        port.make_once(),
        pager.control.copy(),
        client.started.map.copy(),
        client.started.task.copy(),
    ] {
        check_eq!(pager.ready(wrong).err(), Some(Kern::InvalidArgument));
    }
    check_eq!(pager.ready(pager.tray.tray.copy()), Ok(()));
    Ok(())
}

pub(crate) fn a_page_that_was_supplied_cannot_be_changed_any_more() -> Outcome {
    let client = Assistant::start()?;
    let pager = Pager::opened(&client)?;
    for page in 0..PAGES {
        let slot = page as u32 % SLOTS;
        pager.fill(slot, 0x600D);
        check_eq!(pager.supply(page * PAGE_SIZE, slot, 1)?.used, 1);
        pager.fill(slot, 0xBAD);
        check_eq!(client.read(pager.address + page * PAGE_SIZE)?, 0x600D);
    }
    Ok(())
}

/// A liar, and the name of its object.
fn liar(how: &str, seed: u64) -> Outcome<(Helper, SendRight<MemoryObject>)> {
    let name = format!("{how}.{seed}");
    let helper = Helper::start_with(&format!("{ROLE}\0{name}"))?;
    let object = bootstrap::wait_for(&name)?;
    Ok((helper, object))
}

pub(crate) fn a_pager_that_says_anything_harms_only_its_clients() -> Outcome {
    let before = Balance::at_rest()?;
    for seed in 1..=4 {
        let (helper, object) = liar("chatter", seed)?;
        let clients = [Assistant::start()?, Assistant::start()?];
        // Who sees it wrong ends; that is what a client of such a pager gets.
        let mut waiting = alloc::vec::Vec::new();
        let mut places = alloc::vec::Vec::new();
        for client in &clients {
            let mapping = Options::new(PAGES * PAGE_SIZE).object(&object);
            places.push(mapping.map_in(&client.started.map)?);
        }
        let mut random = Random::new(seed);
        let deadline = after(400 * MILLISECOND);
        while helper.wait_until(after(MILLISECOND)).is_err() && now() < deadline {
            for (client, place) in clients.iter().zip(&places) {
                let page = place + random.below(PAGES) * PAGE_SIZE;
                let command = random.pick(&[1_u8, 2]);
                let command = if command == 1 {
                    Command::Read
                } else {
                    Command::Write
                };
                // Fails when the client has ended.
                waiting.extend(client.ask(command, [page, seed]).ok());
                let map = &client.started.map;
                let other = place + random.below(PAGES) * PAGE_SIZE;
                let copy = VmCopy {
                    source: page,
                    size: PAGE_SIZE,
                    destination: other,
                };
                let _ = map.call_with(&copy, [], after(MILLISECOND));
                let sync = VmMsync {
                    address: *place,
                    size: PAGES * PAGE_SIZE,
                    flags: VM_SYNC_SYNCHRONOUS | VM_SYNC_INVALIDATE,
                };
                let _ = map.call_with(&sync, [], after(MILLISECOND));
            }
            all_is_well()?;
        }
        drop(waiting);
        // It may wait for a page of its own tray, for ever.
        helper.end()?;
        all_is_well()?;
    }
    before.is_back()
}

pub(crate) fn a_pager_that_dies_with_requests_open_is_an_error() -> Outcome {
    let before = Balance::at_rest()?;
    {
        let clients = [
            Assistant::start()?,
            Assistant::start()?,
            Assistant::start()?,
        ];
        let supervisor = Supervisor::new()?;
        let (helper, object) = liar("dead", 1)?;
        let mut pending = alloc::vec::Vec::new();
        for (page, client) in (0..).zip(&clients) {
            supervisor.task(&client.started.task)?;
            let mapping = Options::new(PAGES * PAGE_SIZE).object(&object);
            let address = mapping.map_in(&client.started.map)? + page * PAGE_SIZE;
            pending.push(client.ask(Command::Read, [address, 0])?);
        }
        check_eq!(helper.wait()?, ExitStatus::Exited(DONE));
        for _ in &clients {
            let caught = supervisor.next()?;
            check_eq!(caught.exception.code, u64::from(Kern::MemoryError.raw()));
            caught.hand_on()?;
        }
        all_is_well()?;
    }
    before.is_back()
}

pub(crate) fn a_silent_pager_costs_nobody_else_anything() -> Outcome {
    let before = Balance::at_rest()?;
    for how in ["mute", "deaf"] {
        let (helper, object) = liar(how, 1)?;
        let clients = [
            Assistant::start()?,
            Assistant::start()?,
            Assistant::start()?,
        ];
        let mut pending = alloc::vec::Vec::new();
        for (page, client) in (0..).zip(&clients) {
            let mapping = Options::new(PAGES * PAGE_SIZE).object(&object);
            let address = mapping.map_in(&client.started.map)? + page * PAGE_SIZE;
            pending.push(client.ask(Command::Write, [address, 1])?);
        }
        for _ in 0..20 {
            all_is_well()?;
        }
        check!(pending.iter().all(|pending| pending.is_stuck()));
        drop(clients);
        helper.end()?;
    }
    before.is_back()
}

/// The life of a liar.
pub(crate) fn lie(how: &str) -> Result<u32, Kern> {
    let (form, seed) = how.split_once('.').unwrap_or((how, "0"));
    let object = ReceiveRight::<MemoryObject>::new(0)?;
    bootstrap::register(how, object.make())?;
    let mut liar = Liar {
        random: Random::new(seed.parse().unwrap_or(0)),
        object,
        control: None,
        tray: vm::own().create_tray(SLOTS)?,
        asked: 0,
        offset: 0,
        txn: 1,
    };
    match form {
        "chatter" => (0..400).for_each(|_| liar.round()),
        "dead" => {
            while liar.asked < 3 {
                liar.listen(FOREVER)?;
                if liar.asked == 0 {
                    let _ = liar.ready(1, false);
                }
            }
        }
        "mute" => loop {
            liar.listen(FOREVER)?;
            let _ = liar.ready(1, false);
        },
        _ => ipc::sync::park(),
    }
    Ok(DONE)
}

/// A pager that knows what it was asked, and mostly answers something else.
struct Liar {
    random: Random,
    object: ReceiveRight<MemoryObject>,
    control: Option<SendRight<MemoryControl>>,
    tray: NewTray,
    asked: u32,
    offset: u64,
    txn: u64,
}

impl Liar {
    /// Takes a message, if there is one until `deadline`.
    fn listen(&mut self, deadline: u64) -> Result<(), Kern> {
        let received = Msg::receive(&self.object).until(deadline).go()?;
        match received.info.id() {
            2201 => {
                let [(control, kind)] = arrived();
                if kind == ArrivedKind::Send {
                    self.control = Some(SendRight::from_name(control as Name));
                }
            }
            id => match memory_object::Request::decode(id, &received.words, &[], 0) {
                Ok(memory_object::Request::MemoryObjectDataRequest(MemoryObjectDataRequest {
                    offset,
                    ..
                })) => {
                    self.asked += 1;
                    self.offset = offset;
                }
                Ok(memory_object::Request::MemoryObjectDataReturn(lent)) => self.txn = lent.txn,
                Ok(memory_object::Request::MemoryObjectSynchronize(asked)) => {
                    self.txn = asked.request;
                }
                _ => {}
            },
        }
        Ok(())
    }

    fn ready(&self, cluster_pages: u32, may_cache: bool) -> Result<(), Kern> {
        let Some(control) = &self.control else {
            return Err(Kern::InvalidName);
        };
        let message = MemoryObjectReady {
            may_cache,
            copy_strategy: cluster_pages % 6,
            cluster_pages,
            serves_itself: false,
            synchronizes: false,
        };
        control
            .call_with(&message, [self.tray.tray.copy()], FOREVER)
            .map(drop)
    }

    /// Says something.
    fn round(&mut self) {
        let _ = self.listen(after(MILLISECOND / 10));
        let random = &mut self.random;
        let Some(control) = &self.control else {
            return;
        };
        let mut number = || random.below(10) as u32;
        let near = [self.offset, 0, PAGE_SIZE, 1, u64::MAX, 31 * PAGE_SIZE];
        let (first, second, third) = (number(), number(), number());
        let offset = if first < 5 {
            self.offset
        } else {
            random.pick(&near)
        };
        let size = u64::from(second) * PAGE_SIZE;
        // Whatever the answer is.
        let _ = match random.below(14) {
            0..3 => {
                let slot = third % SLOTS;
                let place = self.tray.address + u64::from(slot) * PAGE_SIZE;
                // SAFETY: the slot is this task's, and nobody looks at it from here.
                unsafe { touch::write(place, offset) };
                control
                    .call(&MemoryObjectDataSupply {
                        offset,
                        slot,
                        count: 1,
                        lock_value: second % 8,
                        precious: first % 2 == 0,
                    })
                    .map(drop)
            }
            3 => control
                .call(&MemoryObjectDataSupply {
                    offset,
                    slot: third,
                    count: second,
                    lock_value: first,
                    precious: true,
                })
                .map(drop),
            4 => control.send(&MemoryObjectDataUnavailable { offset, size }),
            5 => control.send(&MemoryObjectDataError {
                offset,
                size,
                code: third,
            }),
            6..9 => control.call(&MemoryObjectLockRequest {
                offset,
                size: size * 4,
                should_return: first % 5,
                flags: second % 4,
                lock_value: third,
                request: u64::from(first),
            }),
            9 => control.call(&MemoryObjectDataWritten {
                txn: self.txn,
                result: second % 2,
            }),
            10 => control.call(&MemoryObjectChangeAttributes {
                may_cache: first > 5,
                copy_strategy: second,
                request: 1,
            }),
            11 => control.call(&MemoryObjectSynchronizeCompleted {
                request: self.txn,
                result: 0,
            }),
            12 if random.once_in(40) => control.call(&MemoryObjectDestroy { reason: 1 }),
            _ => self.ready(second, third > 5),
        };
    }
}
