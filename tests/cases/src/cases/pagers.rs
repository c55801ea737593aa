//! Memory objects: what a pager is told, what it says, and what those who wait for it see.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::memory_object::Request;
use ipc_protocol::memory_object_control::MemoryObjectChangeAttributes;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::pager::{DELAY, Habits, Pager, unexpected};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, Mapping, READ, Said, Task, Vm};
use crate::words::AREA;

/// `Return` numbers.
const RETURN_DIRTY: u32 = 1;
const RETURN_ALL: u32 = 2;

/// Rows with a pager.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0392" => unreadable_object_is_not_inherited,
        "C0453" => live_contents,
        "C0454" => write_to_a_read_only_object,
        "C0465" => supplied_twice,
        "C0467" => error_of_the_pager,
        "C0472" => clean_precious_page,
        "C0474" => page_never_requested,
        "C0476" => cached_no_more,
        "C0478" => pager_dies,
        "C0500" => snapshot_through_the_pager,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn unreadable_object_is_not_inherited<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let mapping = Mapping {
        address: AREA,
        flags: FIXED,
        cur: 0,
        max: 0,
        ..Mapping::anywhere(2 * PAGE_SIZE)
    };
    let copied_at_once = Habits {
        strategy: 0,
        ..DELAY
    };
    let (_pager, _) = Pager::mapped_as(task, mapping, copied_at_once)?;
    task.allocate(AREA + 4 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    let child = task.fork();
    if let Ok(child) = &child {
        holds("the object is not there", child.at(AREA).is_none())?;
        holds("the rest is", child.at(AREA + 4 * PAGE_SIZE).is_some())?;
    }
    Ok(child.map(|_| ()))
}

/// An object of which this task may only read, and another writes.
fn live_contents<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let mapping = Mapping {
        cur: READ,
        max: READ,
        inherit: 2,
        ..Mapping::anywhere(64)
    };
    let (pager, address) = Pager::mapped_as(task, mapping, DELAY)?;
    pager.bring(task, address, 0, 0x11)?;
    let writer = Task {
        port: task.vm.fork(None)?,
        ..task.clone()
    };
    let there = writer.map(Mapping::anywhere(PAGE_SIZE), Some(&pager.object))?;
    for time in 0x20..0x23 {
        writer.store(there, time)?;
        same("the contents", task.load(address), Ok(time))?;
    }
    task.vm.destroy(&pager.object);
    task.deallocate(address, PAGE_SIZE)?;
    holds("it is gone", task.at(address).is_none())?;
    Ok(Ok(()))
}

fn write_to_a_read_only_object<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let mapping = Mapping {
        cur: READ,
        max: READ,
        ..Mapping::anywhere(PAGE_SIZE)
    };
    let (pager, address) = Pager::mapped_as(task, mapping, DELAY)?;
    pager.bring(task, address, 0, 0x11)?;
    same(
        "a write",
        task.store(address, 1),
        Err(Kern::ProtectionFailure),
    )?;
    same("the contents", task.load(address), Ok(0x11))?;
    Ok(Ok(()))
}

/// The answer of the supply says which page was there; the later ones are taken (amendment A1).
fn supplied_twice<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 4, DELAY)?;
    pager.bring(task, address + PAGE_SIZE, 1, 0x11)?;
    let said = pager.supply(0, &[0x20, 0x21, 0x22], false)?;
    same("pages used", said.used, 2)?;
    same("pages skipped", said.skipped_present, 1)?;
    same("the first that was there", said.first_present, PAGE_SIZE)?;
    for (page, word) in [(0, 0x20), (1, 0x11), (2, 0x22)] {
        same("a page", task.load(address + page * PAGE_SIZE), Ok(word))?;
    }
    Ok(match said.skipped_present {
        0 => Ok(()),
        _ => Err(Kern::MemoryPresent),
    })
}

fn error_of_the_pager<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 2, DELAY)?;
    let touch = task.vm.begin(&task.port, address, None);
    pager.wanted(0)?;
    let said = pager.error(0, case.words.word("error_value", 1)?);
    same("the touch", task.vm.finish(touch), Err(Kern::MemoryError))?;
    pager.bring(task, address, 0, 0x33)?;
    Ok(said)
}

fn clean_precious_page<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 2, DELAY)?;
    pager.supply(0, &[0x44], true)?;
    same("the page", task.load(address), Ok(0x44))?;
    let said = pager.lock(0, RETURN_DIRTY, false);
    pager.completed()?;
    same("the page", task.load(address), Ok(0x44))?;
    Ok(said)
}

fn page_never_requested<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (pager, _) = Pager::mapped(&case.task, 2, DELAY)?;
    let said = pager.lock(1, RETURN_ALL, true);
    pager.completed()?;
    Ok(said)
}

/// The end of the object that a change brings about is told before the change (rule 173).
fn cached_no_more<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let cached = Habits {
        may_cache: true,
        ..DELAY
    };
    let (pager, address) = Pager::mapped(task, 1, cached)?;
    pager.bring(task, address, 0, 0x55)?;
    task.deallocate(address, PAGE_SIZE)?;
    let said = pager.say(&MemoryObjectChangeAttributes {
        may_cache: false,
        copy_strategy: DELAY.strategy,
        request: 5,
    });
    match pager.hear() {
        Some(Request::MemoryObjectTerminate(_)) => {}
        other => return Err(unexpected(other)),
    }
    match pager.hear() {
        Some(Request::MemoryObjectChangeCompleted(done)) => same("the request", done.request, 5)?,
        other => return Err(unexpected(other)),
    }
    Ok(said)
}

/// Who waits gets an error; what is resident stays (amendment A3).
fn pager_dies<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 2, DELAY)?;
    pager.bring(task, address, 0, 0x66)?;
    task.store(address, 0x77)?;
    let touch = task.vm.begin(&task.port, address + PAGE_SIZE, None);
    pager.wanted(1)?;
    task.vm.destroy(&pager.object);
    same("the touch", task.vm.finish(touch), Err(Kern::MemoryError))?;
    same("the written page", task.load(address), Ok(0x77))?;
    Ok(Ok(()))
}

/// A copy that nobody touched yet shows what was there when it was made (amendments A6, A7).
fn snapshot_through_the_pager<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, shared) = Pager::mapped(task, 2, DELAY)?;
    pager.bring(task, shared, 0, 0x10)?;
    let mapping = Mapping {
        copy: true,
        ..Mapping::anywhere(2 * PAGE_SIZE)
    };
    let private = task.map(mapping, Some(&pager.object))?;
    let said = pager.lock(0, 0, true);
    pager.completed()?;
    pager.bring(task, shared, 0, 0x20)?;
    same("the shared mapping", task.load(shared), Ok(0x20))?;
    same("the private mapping", task.load(private), Ok(0x10))?;
    Ok(said)
}
