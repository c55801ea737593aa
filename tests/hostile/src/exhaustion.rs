//! Everything that there is, taken by one task: it gets a code, and when it has ended, all is back.

use alloc::format;
use alloc::vec::Vec;

use guest_test::message::Msg;
use guest_test::{Failure, Outcome, has_several_processors};
use ipc::abi::exception::Kind;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::option;
use ipc::abi::notify::{ExitStatus, Request};
use ipc::abi::right::SpecialPort;
use ipc::abi::types::Prot;
use ipc::mapping::Options;
use ipc::protocol::memory_object::MemoryObject;
use ipc::protocol::vm_map::MAP_MEM_NAMED_CREATE;
use ipc::{Kern, ReceiveRight, trap, vm};

use crate::balance::{Balance, all_is_well};
use crate::helper::{DONE, Helper};

/// The role of a task that takes all of something, which its number says.
pub(crate) const ROLE: &str = "attack:exhaustion";

/// What is taken, by number.
mod what {
    pub(super) const PORTS: u64 = 0;
    pub(super) const PORT_SETS: u64 = 1;
    pub(super) const THREADS: u64 = 2;
    pub(super) const MESSAGES: u64 = 3;
    pub(super) const MEMORY: u64 = 4;
    pub(super) const ENTRIES: u64 = 5;
    pub(super) const COPIES: u64 = 6;
    pub(super) const TASKS: u64 = 7;
    pub(super) const NAMED_ENTRIES: u64 = 8;
    pub(super) const TRAYS: u64 = 9;
    pub(super) const MEMORY_OBJECTS: u64 = 10;
    pub(super) const NOTIFICATIONS: u64 = 11;
}

/// The most that is taken: an end, should there be none.
const MOST: u64 = 8_000;
/// How often tasks are taken again, if not all is back.
const MORE: u64 = 3;

fn take_all(what: u64) -> Outcome {
    // Servers keep what they have grown by, and use it the next time. The records of tasks lie between
    // others in more runs of the kernel's heap the second time than the first, and then no more.
    attempt(what)?;
    if what == what::TASKS {
        attempt(what)?;
    }
    let mut before = Balance::at_rest()?;
    attempt(what)?;
    let mut back = before.is_back();
    // On several processors it is chance where records that stay lie among those of the tasks, and with them how
    // many runs the kernel's heap keeps: more than once, but not more each time, which a leak would.
    for _ in 0..MORE {
        if back.is_ok() || what != what::TASKS || !has_several_processors() {
            break;
        }
        before = Balance::at_rest()?;
        attempt(what)?;
        back = before.is_back();
    }
    back?;
    all_is_well()
}

fn attempt(what: u64) -> Outcome {
    let helper = Helper::start(ROLE, &[what])?;
    let shortage = ExitStatus::Exception {
        kind: Kind::BadAccess as u32,
        code: Kern::ResourceShortage.raw(),
    };
    match helper.wait()? {
        ExitStatus::Exited(DONE) => {}
        // Its own stack or heap was what there was no memory for.
        status if status == shortage => {}
        status => return Err(Failure::new(format!("it ended with {status:?}"))),
    }
    all_is_well()
}

macro_rules! cases {
    ($($name:ident: $what:ident;)+) => {
        $(pub(crate) fn $name() -> Outcome {
            take_all(what::$what)
        })+
    };
}

cases! {
    all_ports: PORTS;
    all_port_sets: PORT_SETS;
    all_threads: THREADS;
    all_messages_queued: MESSAGES;
    all_memory: MEMORY;
    all_entries: ENTRIES;
    all_copies: COPIES;
    all_tasks: TASKS;
    all_named_entries: NAMED_ENTRIES;
    all_trays: TRAYS;
    all_memory_objects: MEMORY_OBJECTS;
    all_notifications: NOTIFICATIONS;
}

/// The life of a task that takes all.
pub(crate) fn attack(what: u64) -> Result<u32, Kern> {
    let code = match what {
        what::PORTS => many(|_| trap::port_allocate(0).map(drop)),
        what::PORT_SETS => many(|_| trap::port_set_allocate().map(drop)),
        what::THREADS => threads()?,
        what::MESSAGES => messages()?,
        what::MEMORY => memory()?,
        what::ENTRIES => entries()?,
        what::COPIES => copies()?,
        what::TASKS => many(|_| {
            let task = vm::own().create_task(true)?;
            core::mem::forget(task);
            Ok(())
        }),
        what::NAMED_ENTRIES => many(|_| {
            let (entry, _) =
                vm::own().memory_entry(PAGE_SIZE, 0, MAP_MEM_NAMED_CREATE | 3, None)?;
            let _ = entry.into_name();
            Ok(())
        }),
        what::TRAYS => many(|_| vm::own().create_tray(1024).map(core::mem::forget)),
        what::MEMORY_OBJECTS => memory_objects()?,
        _ => notifications()?,
    };
    match code {
        None | Some(Kern::ResourceShortage | Kern::NoSpace | Kern::SendNoBuffer) => Ok(DONE),
        Some(code) => Err(code),
    }
}

/// Does something until it fails, and says with what; `None` if it never did.
fn many(mut take: impl FnMut(u64) -> Result<(), Kern>) -> Option<Kern> {
    (0..MOST).find_map(|index| take(index).err())
}

fn threads() -> Result<Option<Kern>, Kern> {
    let task = trap::task_get_special_port(SpecialPort::TaskSelf)?;
    let port = u64::from(trap::port_allocate(0)?);
    let code = wait_for_ever as *const () as u64;
    Ok(many(|_| {
        // SAFETY: the code uses no stack.
        unsafe { trap::thread_create(task, code, 0, port, 31) }.map(drop)
    }))
}

/// The life of a thread that only is there: it waits at the port that is its argument.
#[unsafe(naked)]
unsafe extern "C" fn wait_for_ever() -> ! {
    core::arch::naked_asm!(
        "mov r12, rdi",
        "2:",
        "mov eax, {receive}",
        "mov rsi, r12",
        "mov r9, -1",
        "syscall",
        "jmp 2b",
        receive = const option::RECEIVE,
    )
}

fn messages() -> Result<Option<Kern>, Kern> {
    Ok(many(|_| {
        let port = ReceiveRight::<MemoryObject>::new(0)?;
        port.set_attributes(0, 1024)?;
        let right = port.make_send()?;
        loop {
            match Msg::send(&right, 1).body(&[7; 4000]).until(0).code() {
                None => {}
                Some(Kern::SendTimedOut | Kern::WouldBlock) => break,
                Some(code) => return Err(code),
            }
        }
        let _ = port.into_name();
        let _ = right.into_name();
        Ok(())
    }))
}

fn memory() -> Result<Option<Kern>, Kern> {
    const SIZE: u64 = 16 << 20;
    Ok(many(|_| {
        let address = vm::own().allocate(SIZE)?;
        for page in 0..SIZE / PAGE_SIZE {
            // SAFETY: the memory is fresh, and nobody else knows of it.
            unsafe { guest_test::touch::write(address + page * PAGE_SIZE, page) };
        }
        Ok(())
    }))
}

fn entries() -> Result<Option<Kern>, Kern> {
    let base = vm::own().allocate(2 * MOST * PAGE_SIZE)?;
    Ok(many(|index| {
        vm::own().protect(base + 2 * index * PAGE_SIZE, PAGE_SIZE, Prot::READ)
    }))
}

fn copies() -> Result<Option<Kern>, Kern> {
    let base = vm::own().allocate(4 * PAGE_SIZE)?;
    Ok(many(|index| {
        // SAFETY: the memory is this function's.
        unsafe { guest_test::touch::write(base + index % 4 * PAGE_SIZE, index) };
        let _ = vm::own().copy_in(base, 4 * PAGE_SIZE, false)?.into_name();
        Ok(())
    }))
}

fn memory_objects() -> Result<Option<Kern>, Kern> {
    Ok(many(|_| {
        let object = ReceiveRight::<MemoryObject>::new(0)?;
        let right = object.make_send()?;
        // Its pager is never ready, and takes no message.
        let _ = Options::new(PAGE_SIZE).object(&right).map()?.into_raw();
        let _ = object.into_name();
        Ok(())
    }))
}

fn notifications() -> Result<Option<Kern>, Kern> {
    let notify = trap::port_allocate(0)?;
    let mut ports = Vec::new();
    Ok(many(|_| {
        let port = trap::port_allocate(0)?;
        trap::port_make_send(port)?;
        trap::port_request_notification(port, Request::DeadName, notify, 1)?;
        trap::port_request_notification(port, Request::NoSenders, notify, 1)?;
        ports.push(port);
        // All at once, to one port that nobody receives from.
        if ports.len() == 1000 {
            for port in ports.drain(..) {
                trap::port_destroy(port)?;
            }
        }
        Ok(())
    }))
}
