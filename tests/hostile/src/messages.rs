//! Every message of every protocol, good and garbled, to every kind of port that a task can have.
//!
//! The requests are made from the protocols' own catalogues: a field for each field, of values that
//! mean something or nothing. Then, often, something is broken: a word, the length of the body, the
//! number of rights, the id.

use alloc::vec::Vec;

use guest_test::message::{Msg, arrived};
use guest_test::{Outcome, check_eq};
use ipc::abi::buffer::RIGHTS_MAX;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::{Info, WORDS, option};
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{ArrivedKind, Disposition, Name, SpecialPort};
use ipc::mapping::Options;
use ipc::protocol::CATALOGUES;
use ipc::protocol::define::{Entry, Form};
use ipc::protocol::memory_object::MemoryObject;
use ipc::protocol::memory_object_control::{MemoryControl, MemoryObjectReady};
use ipc::time::{MILLISECOND, after};
use ipc::trap::Received;
use ipc::vm::NewTask;
use ipc::{Kern, ReceiveRight, SendRight, trap, vm};

use crate::balance::{Balance, all_is_well};
use crate::helper::{DONE, Helper};
use crate::random::Random;
use crate::traps::DISPOSITIONS;

/// The role of an attacker. Its numbers: seed, messages, and to what it sends them.
pub(crate) const ROLE: &str = "attack:messages";

/// Messages of one attacker.
const MESSAGES: u64 = 6000;

/// To what an attacker sends, by number.
mod target {
    pub(super) const OWN_MAP: u64 = 0;
    pub(super) const CHILD_MAP: u64 = 1;
    pub(super) const CONTROL: u64 = 2;
    pub(super) const UNOPENED: u64 = 3;
    pub(super) const HANDLES: u64 = 4;
    pub(super) const BOOTSTRAP: u64 = 5;
    pub(super) const KERNEL: u64 = 6;
}

/// Runs attackers with these seeds; all that were not expected to end early have to finish.
fn attackers(target: u64, seeds: core::ops::Range<u64>) -> Outcome {
    let before = Balance::at_rest()?;
    for seed in seeds {
        let helper = Helper::start(ROLE, &[seed, MESSAGES, target])?;
        check_eq!(helper.wait()?, ExitStatus::Exited(DONE));
        all_is_well()?;
    }
    before.is_back()
}

pub(crate) fn any_message_to_ones_own_map_is_answered() -> Outcome {
    let before = Balance::at_rest()?;
    for seed in 1..16 {
        // Most take the ground from under their own feet.
        let helper = Helper::start(ROLE, &[seed, MESSAGES, target::OWN_MAP])?;
        if helper.wait_until(after(150 * MILLISECOND)).is_err() {
            helper.end()?;
        }
        all_is_well()?;
    }
    before.is_back()
}

pub(crate) fn any_message_to_the_map_of_another_task_is_answered() -> Outcome {
    attackers(target::CHILD_MAP, 20..24)
}

pub(crate) fn any_message_to_a_control_port_is_answered() -> Outcome {
    attackers(target::CONTROL, 30..34)
}

pub(crate) fn any_message_to_an_unopened_control_port_is_answered() -> Outcome {
    attackers(target::UNOPENED, 40..42)
}

pub(crate) fn any_message_to_entries_copies_and_trays_is_answered() -> Outcome {
    attackers(target::HANDLES, 50..52)
}

pub(crate) fn any_message_to_the_name_service_is_answered() -> Outcome {
    attackers(target::BOOTSTRAP, 60..62)
}

pub(crate) fn any_message_to_a_task_or_thread_is_refused() -> Outcome {
    attackers(target::KERNEL, 70..71)
}

/// Everything that an attacker has made for itself.
struct Attacker {
    random: Random,
    targets: Vec<Name>,
    /// Rights to put into messages.
    names: Vec<Name>,
    /// Addresses at which something is mapped in the map that is attacked.
    places: Vec<u64>,
    /// Catalogue to prefer, by index.
    favourite: usize,
    object: ReceiveRight<MemoryObject>,
    _child: NewTask,
}

/// An object that is mapped in `child`, and its control port.
fn open(
    object: &ReceiveRight<MemoryObject>,
    child: &NewTask,
) -> Result<(SendRight<MemoryControl>, u64), Kern> {
    let right = object.make_send()?;
    let address = Options::new(64 * PAGE_SIZE)
        .object(&right)
        .map_in(&child.map)?;
    Msg::receive(object).go()?;
    let [(control, kind)] = arrived();
    if kind != ArrivedKind::Send {
        return Err(Kern::InvalidRight);
    }
    Ok((SendRight::from_name(control as Name), address))
}

/// The attacker's life.
pub(crate) fn attack(seed: u64, count: u64, target: u64) -> Result<u32, Kern> {
    let child = vm::own().create_task(true)?;
    let base = child.map.allocate(64 * PAGE_SIZE)?;
    let object = ReceiveRight::<MemoryObject>::new(0)?;
    let (control, mapped) = open(&object, &child)?;
    let tray = vm::own().create_tray(16)?;
    let (entry, _) = child.map.memory_entry(8 * PAGE_SIZE, base, 3, None)?;
    let own = vm::own().allocate(16 * PAGE_SIZE)?;
    let copy = vm::own().copy_in(own, 4 * PAGE_SIZE + 17, false)?;
    if target != target::UNOPENED {
        let ready = MemoryObjectReady {
            may_cache: seed.is_multiple_of(2),
            copy_strategy: (seed % 5) as u32,
            cluster_pages: 4,
            serves_itself: false,
            synchronizes: false,
        };
        control.call_with(&ready, [tray.tray.copy()], after(MILLISECOND * 500))?;
    }
    let task = trap::task_get_special_port(SpecialPort::TaskSelf)?;
    let map = trap::task_get_special_port(SpecialPort::Map)?;
    let bootstrap = trap::task_get_special_port(SpecialPort::Bootstrap)?;
    let thread = ipc::thread::spawn(ipc::sync::park)?;
    let port = trap::port_allocate(99)?;
    let (entry, copy) = (entry.into_name(), copy.into_name());
    let tray = tray.tray.into_name();
    let control = control.into_name();
    let (targets, favourite) = match target {
        target::OWN_MAP => (alloc::vec![map], 2),
        target::CHILD_MAP => (alloc::vec![child.map.name()], 2),
        target::CONTROL | target::UNOPENED => (alloc::vec![control], 1),
        target::HANDLES => (alloc::vec![entry, copy, tray], 3),
        target::BOOTSTRAP => (alloc::vec![bootstrap], 5),
        _ => (
            alloc::vec![task, child.task.name(), thread.thread().name()],
            0,
        ),
    };
    let names = alloc::vec![
        entry,
        copy,
        tray,
        control,
        port,
        object.name(),
        child.map.name(),
        bootstrap,
        task,
        0,
        0x1234,
    ];
    let names = if target == target::BOOTSTRAP {
        // What it registers it keeps as long as the port lives: only ports of this task.
        alloc::vec![port, object.name(), 0, 0x1234]
    } else {
        names
    };
    let mut attacker = Attacker {
        random: Random::new(seed),
        targets,
        names,
        places: alloc::vec![base, mapped, own, 0x40_0000],
        favourite,
        object,
        _child: child,
    };
    for _ in 0..count {
        attacker.round();
    }
    Ok(DONE)
}

impl Attacker {
    fn round(&mut self) {
        let random = &mut self.random;
        let catalogue = if random.once_in(8) {
            random.below(CATALOGUES.len() as u64) as usize
        } else {
            self.favourite
        };
        let entries = CATALOGUES.get(catalogue).map_or(&[][..], |it| it.entries);
        let index = random.below(entries.len().max(1) as u64) as usize;
        if let Some(entry) = entries.get(index) {
            self.request(entry);
        }
        // What the server tells a pager is taken, mostly.
        if !self.random.once_in(8)
            && let Ok(received) = Msg::receive(&self.object).until(0).go()
        {
            give_back(&received);
        }
    }

    /// A value for a field of this type.
    fn value(&mut self, kind: &str) -> u64 {
        let random = &mut self.random;
        let value = match random.below(10) {
            0 => random.extreme(),
            1 | 2 => random.pick(&self.places) + (random.below(80) << 12),
            3 => random.pick(&self.places) + random.below(0x4_0000),
            4 => random.below(16) << 12,
            5 => random.below(0x9000),
            6 => 1 << random.below(28),
            7 => 1,
            _ => random.below(9),
        };
        match kind {
            "u64" => value,
            "bool" => value & 1,
            _ => value & 0xFFFF_FFFF,
        }
    }

    fn request(&mut self, entry: &Entry) {
        let mut words = [0; WORDS];
        let mut body = Vec::new();
        match entry.form {
            Form::Words => {
                for (word, field) in words.iter_mut().zip(entry.fields) {
                    *word = self.value(field.kind);
                }
            }
            Form::Body => {
                for field in entry.fields {
                    self.encode(field.kind, &mut body);
                }
            }
        }
        let mut id = entry.id;
        let mut slots = entry.rights.len();
        let random = &mut self.random;
        match random.below(16) {
            0 => id = random.word() as u32,
            1 => id = id / 100 * 100 + random.below(100) as u32,
            2 => slots = random.below(RIGHTS_MAX as u64 + 1) as usize,
            3 => words = core::array::from_fn(|_| random.extreme()),
            4 => body.truncate(random.below(body.len() as u64 + 1) as usize),
            5 => body.resize(random.below(4001) as usize, random.word() as u8),
            6 => body
                .iter_mut()
                .for_each(|byte| *byte ^= random.word() as u8),
            _ => {}
        }
        let mut rights = [(0, Disposition::None); RIGHTS_MAX];
        for right in rights.iter_mut().take(slots) {
            let good = !random.once_in(6);
            let name = random.pick(&self.names);
            *right = match (random.below(6), good) {
                (_, false) => (
                    name,
                    *DISPOSITIONS
                        .get(random.below(7) as usize)
                        .unwrap_or(&Disposition::None),
                ),
                (0, true) => (0, Disposition::None),
                (_, true) => (name, Disposition::CopySend),
            };
            // What is moved away is gone: only what can be missed.
            if matches!(right.1, Disposition::MoveReceive | Disposition::MoveSend) {
                right.1 = Disposition::MakeSend;
            }
        }
        let to = random.pick(&self.targets);
        let call = !random.once_in(4);
        let message = Msg::new(if call { option::CALL } else { option::SEND })
            .to(to.into())
            .info(Info::short(id))
            .words(words)
            .body(&body)
            .rights(rights.get(..slots).unwrap_or_default())
            .until(after(2 * MILLISECOND));
        if let Ok(received) = message.go()
            && call
        {
            give_back(&received);
        }
    }

    /// Appends a field as postcard has it: numbers by seven bits, a length before what is long.
    fn encode(&mut self, kind: &str, body: &mut Vec<u8>) {
        if kind == "Name" || kind.starts_with("String") || kind.starts_with("Vec") {
            let length = self.random.below(if kind == "Name" { 66 } else { 40 });
            number(length, body);
            let first = b'!' + self.random.below(90) as u8;
            body.extend((0..length).map(|_| first));
        } else {
            number(self.value(kind), body);
        }
    }
}

fn number(mut value: u64, body: &mut Vec<u8>) {
    while value >= 0x80 {
        body.push(value as u8 | 0x80);
        value >>= 7;
    }
    body.push(value as u8);
}

/// Gives back the rights that came with a message.
fn give_back(received: &Received) {
    let rights: [(u64, ArrivedKind); RIGHTS_MAX] = arrived();
    for (name, kind) in rights.into_iter().take(received.info.rights()) {
        let name = name as Name;
        // Fails for what is not there any more, and then there is nothing to give back.
        let _ = match kind {
            ArrivedKind::Send | ArrivedKind::SendOnce | ArrivedKind::Dead => {
                trap::port_deallocate(name, 1)
            }
            ArrivedKind::Receive => trap::port_destroy(name),
            ArrivedKind::None | ArrivedKind::Own | ArrivedKind::OwnLast => Ok(()),
        };
    }
}
