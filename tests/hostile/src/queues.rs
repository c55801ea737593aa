//! Queues: filled to their ends, and with rights that lie in each other's. Whoever fills them gets a code,
//! everybody else goes on, and with the task that did it all of it is gone.

use alloc::vec::Vec;

use guest_test::message::Msg;
use guest_test::{Outcome, check_eq};
use ipc::abi::message::option;
use ipc::abi::notify::{ExitStatus, Request};
use ipc::abi::right::{Disposition, Name, SpecialPort};
use ipc::vm::NewTask;
use ipc::{Kern, trap, vm};

use crate::balance::{Balance, all_is_well};
use crate::helper::{DONE, Helper};

/// The role of a task that does it; its number says what.
pub(crate) const ROLE: &str = "attack:queues";

/// Receive rights that lie in each other.
const DEPTH: u64 = 2000;
/// Threads that wait at one port.
const CROWD: u64 = 200;
/// Turns that the crowd is given. A yield comes back when all that were ready have had a turn, so after the
/// first nobody in it is new. Those who pass messages on among themselves never rest, and use up a slice
/// of time at each.
const TURNS: u64 = 16;
/// Tasks that hold each other.
const FAMILY: u64 = 12;
/// More than any queue holds.
const MANY: u64 = 3000;

/// What is done, by number.
mod what {
    pub(super) const CYCLES: u64 = 0;
    pub(super) const KNOTS: u64 = 1;
    pub(super) const FLOODS: u64 = 2;
    pub(super) const CROWDS: u64 = 3;
    pub(super) const ORPHANS: u64 = 4;
}

fn attackers(what: u64) -> Outcome {
    let attempt = || -> Outcome {
        let helper = Helper::start(ROLE, &[what])?;
        check_eq!(helper.wait()?, ExitStatus::Exited(DONE));
        all_is_well()
    };
    attempt()?;
    let before = Balance::at_rest()?;
    attempt()?;
    attempt()?;
    before.is_back()
}

pub(crate) fn a_receive_right_never_lies_in_its_own_queue() -> Outcome {
    attackers(what::CYCLES)
}

pub(crate) fn queues_full_of_each_others_rights_are_gone_with_their_task() -> Outcome {
    attackers(what::KNOTS)
}

pub(crate) fn every_queue_has_an_end() -> Outcome {
    attackers(what::FLOODS)
}

pub(crate) fn a_crowd_that_waits_is_gone_with_its_task() -> Outcome {
    attackers(what::CROWDS)
}

pub(crate) fn tasks_that_hold_each_other_do_not_outlive_who_made_them() -> Outcome {
    attackers(what::ORPHANS)
}

/// The life of a task that does it.
pub(crate) fn attack(what: u64) -> Result<u32, Kern> {
    match what {
        what::CYCLES => cycles(),
        what::KNOTS => knots(),
        what::FLOODS => floods(),
        what::ORPHANS => orphans(),
        _ => crowds(),
    }?;
    Ok(DONE)
}

fn expect(found: Option<Kern>, expected: Option<Kern>) -> Result<(), Kern> {
    if found == expected {
        return Ok(());
    }
    ipc::println!("queues: {found:?} and not {expected:?}");
    Err(found.unwrap_or(Kern::Failure))
}

/// A port that this task also has a send right to.
fn both() -> Result<Name, Kern> {
    let name = trap::port_allocate(0)?;
    trap::port_make_send(name)?;
    Ok(name)
}

/// Queues rights at a port.
fn send(to: Name, rights: &[(Name, Disposition)]) -> Option<Kern> {
    Msg::send_to(to, 1).rights(rights).until(0).code()
}

/// One in the queue of the next, and then the last is to go into the first.
fn cycles() -> Result<(), Kern> {
    let first = both()?;
    let refused = Some(Kern::SendInvalidRight);
    expect(send(first, &[(first, Disposition::MoveReceive)]), refused)?;
    let mut last = first;
    for _ in 0..DEPTH {
        let next = both()?;
        expect(send(next, &[(last, Disposition::MoveReceive)]), None)?;
        last = next;
        if last % 64 == 0 {
            expect(send(first, &[(last, Disposition::MoveReceive)]), refused)?;
        }
    }
    expect(send(first, &[(last, Disposition::MoveReceive)]), refused)?;
    // Two at once, each of which would be in order alone.
    let (left, right) = (both()?, both()?);
    let pair = [
        (left, Disposition::MoveReceive),
        (right, Disposition::MoveReceive),
    ];
    expect(send(left, &pair), refused)?;
    expect(send(last, &pair), None)
}

/// Ports that hold send and send-once rights to each other and themselves, many times over.
fn knots() -> Result<(), Kern> {
    let ports = (0..64).map(|_| both()).collect::<Result<Vec<_>, _>>()?;
    for (index, port) in ports.iter().enumerate() {
        trap::port_set_attributes(*port, 0, 64)?;
        for distance in 0..16 {
            let other = ports.get((index + distance * distance) % ports.len());
            let other = *other.unwrap_or(port);
            let rights = [
                (other, Disposition::MakeSend),
                (other, Disposition::MakeSendOnce),
                (*port, Disposition::MakeSend),
                (*port, Disposition::CopySend),
                (*port, Disposition::MakeSendOnce),
            ];
            expect(send(*port, &rights), None)?;
        }
    }
    // Some of them go by themselves, with whom their death is told to among the others.
    for pair in ports.chunks_exact(2) {
        if let [one, other] = pair {
            trap::port_request_notification(*one, Request::DeadName, *other, 0)?;
            trap::port_request_notification(*other, Request::NoSenders, *one, 0)?;
        }
    }
    for port in ports.iter().step_by(4) {
        trap::port_destroy(*port)?;
    }
    Ok(())
}

/// Tasks without threads, each with rights to itself and to the next: special ports, names, and in the
/// queue of a port that it has.
fn orphans() -> Result<(), Kern> {
    let orphans = (0..FAMILY).map(|_| vm::own().create_task(false));
    let orphans = orphans.collect::<Result<Vec<_>, _>>()?;
    for (index, NewTask { task, .. }) in orphans.iter().enumerate() {
        let own = task.name();
        let next = orphans.get((index + 1) % orphans.len());
        let next = next.map_or(own, |next| next.task.name());
        trap::task_set_special_port(own, SpecialPort::Bootstrap, own)?;
        trap::task_set_special_port(own, SpecialPort::Exception, next)?;
        trap::port_insert_right(own, own, Disposition::CopySend)?;
        let port = both()?;
        let rights = [own, next].map(|name| (name, Disposition::CopySend));
        expect(send(port, &rights), None)?;
        trap::port_insert_right(own, port, Disposition::MoveReceive)?;
    }
    Ok(())
}

/// Sends until there is no room; says how often.
fn fill(to: Name, rights: &[(Name, Disposition)]) -> Result<u64, Kern> {
    for count in 0..MANY {
        match send(to, rights) {
            None => {}
            Some(Kern::SendTimedOut | Kern::WouldBlock) => return Ok(count),
            Some(code) => return Err(code),
        }
    }
    Err(Kern::Failure)
}

/// Queues of this task, of the servers, and of the kernel's own objects.
fn floods() -> Result<(), Kern> {
    let own = both()?;
    trap::port_set_attributes(own, 0, 1024)?;
    fill(own, &[(own, Disposition::MakeSend)])?;
    let reply = both()?;
    // Servers take what comes, or have no room for it; they need not answer.
    for which in [SpecialPort::Map, SpecialPort::Bootstrap] {
        let server = trap::task_get_special_port(which)?;
        for _ in 0..MANY {
            let rights = [(reply, Disposition::MakeSendOnce)];
            match send(server, &rights) {
                None | Some(Kern::SendTimedOut | Kern::WouldBlock | Kern::SendNoBuffer) => {}
                Some(code) => return Err(code),
            }
        }
    }
    // Nobody receives from a control port.
    let task = trap::task_get_special_port(SpecialPort::TaskSelf)?;
    expect(send(task, &[]), Some(Kern::SendInvalidDest))?;
    // What is told is queued beyond the limit, but only as often as was asked for.
    let told = both()?;
    for _ in 0..MANY {
        let port = both()?;
        trap::port_request_notification(port, Request::DeadName, told, 1)?;
        trap::port_destroy(port)?;
    }
    Ok(())
}

/// Threads that wait for room, for an answer, for a message, and for a time, when their task ends.
fn crowds() -> Result<(), Kern> {
    let task = trap::task_get_special_port(SpecialPort::TaskSelf)?;
    let full = both()?;
    trap::port_set_attributes(full, 0, 1)?;
    expect(send(full, &[]), None)?;
    let code = wait_in_a_trap as *const () as u64;
    for number in 0..CROWD {
        let options = match number % 4 {
            0 => option::SEND,
            1 => option::CALL,
            2 => option::RECEIVE,
            _ => option::SEND | option::RECEIVE,
        };
        let argument = u64::from(full) | options << 32;
        // SAFETY: the code uses no stack.
        unsafe { trap::thread_create(task, code, 0, argument, 31) }?;
    }
    for _ in 0..TURNS {
        trap::thread_yield();
    }
    Ok(())
}

/// The life of a thread in a `msg` trap: the port is in the lower half of its argument, the options in
/// the upper.
#[unsafe(naked)]
unsafe extern "C" fn wait_in_a_trap() -> ! {
    core::arch::naked_asm!(
        "mov r12, rdi",
        "2:",
        "mov rax, r12",
        "shr rax, 32",
        "mov edi, r12d",
        "mov esi, r12d",
        "xor edx, edx",
        "mov r8, -1",
        "mov r9, -1",
        "xor r10d, r10d",
        "syscall",
        "jmp 2b",
    )
}
