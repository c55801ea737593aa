//! Rows that are about more than the VM server: names, messages, threads, and what is a stub here.
//!
//! Where a row is about something that this system deliberately has otherwise, its closest
//! equivalent is done: an out-of-line region is a copy object, a name is resumed by no call, so
//! that another call on the dead name is made.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, FIXED, READ, Said, Task, Vm};
use crate::words::AREA;

/// The machine's breakpoint instruction.
const BREAKPOINT: u8 = 0xCC;

/// Rows of the whole system.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0108" => call_of_nothing,
        "C0456" => thread_in_a_child,
        "C0457" => call_of_the_dead,
        "C0459" => empty_copy_in_a_message,
        "C0460" => bytes_of_any_number,
        _ => return None,
    };
    Some((Where::Whole, body))
}

fn call_of_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let nobody = Task {
        port: task.vm.nothing()?,
        ..task.clone()
    };
    Ok(nobody.deallocate(AREA, PAGE_SIZE))
}

fn call_of_the_dead<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let port = task.vm.object()?;
    task.vm.destroy(&port);
    let dead = Task {
        port,
        ..task.clone()
    };
    Ok(dead.allocate(0, PAGE_SIZE, ANYWHERE).map(|_| ()))
}

/// A thread is started in a task that inherited its code, and runs it.
fn thread_in_a_child<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.put(AREA, &[BREAKPOINT])?;
    task.protect(AREA, PAGE_SIZE, READ | 4)?;
    let child = task.fork()?;
    task.deallocate(AREA, PAGE_SIZE)?;
    let said = task.vm.execute(&child.port, AREA);
    let parent = task.vm.execute(&task.port, AREA);
    same(
        "the parent, which has it no more",
        parent,
        Err(Kern::InvalidAddress),
    )?;
    Ok(said)
}

/// A copy of nothing goes along with bytes, and gives nothing to whoever maps it.
fn empty_copy_in_a_message<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let copy = task.copy_in(0, 0, false)?;
    let said = task.vm.echo(b"inline data", &copy);
    if let Ok((bytes, copy)) = &said {
        holds("the bytes are the same", bytes == b"inline data")?;
        same(
            "the place of nothing",
            task.copy_out(copy, 0, ANYWHERE),
            Ok(0),
        )?;
    }
    Ok(said.map(|_| ()))
}

fn bytes_of_any_number<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let mut last = Ok(());
    for bytes in [&b"0123456789"[..], b"01234"] {
        let said = task.vm.echo(bytes, &task.port);
        if let Ok((back, right)) = &said {
            holds("the bytes are the same", back == bytes)?;
            holds("the right is the same", task.vm.is_same(right, &task.port))?;
        }
        last = said.map(|_| ());
        last?;
    }
    Ok(last)
}
