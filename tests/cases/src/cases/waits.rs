//! Calls that wait for a pager: how vm_msync ends by what that does meanwhile, and who is charged with
//! what is begun on ports that are no map's.
//!
//! The setup says what happens after `sync:`, or who may have no more calls under way after `charge:`.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::copy::{CopyDescribe, CopySettle};
use ipc_protocol::memory_entry::{MachMemoryEntryPurgableControl, MemoryEntryDescribe};
use ipc_protocol::memory_object::Request;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataSupplyCopy, MemoryObjectDestroy, MemoryObjectSynchronizeCompleted,
};
use ipc_protocol::vm_map::VmMsync;
use ipc_protocol::vm_wire::VmSetLimits;

use super::Found;
use crate::failure::{Failure, Outcome, same};
use crate::pager::{DELAY, Habits, Pager, lock_request, unexpected};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{BOTH, FIXED, Said, Task, Vm};
use crate::words::AREA;

const SYNCHRONOUS: u32 = 2;
/// `Return` number of pages that were written.
const RETURN_DIRTY: u32 = 1;
/// MAP_MEM_NAMED_CREATE and MAP_MEM_PURGABLE.
const PURGEABLE: u32 = 0x6_0000;
const GET_STATE: u32 = 1;
/// More than any pager here takes.
const LONG: u64 = 10_000_000_000;

/// Rows of waiting calls.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.setup.split_once(": ")? {
        ("sync", _) => sync,
        ("charge", "the pager, while one waits") => lock_while_one_waits,
        ("charge", "the maker, while one waits") => settle_while_one_waits,
        ("charge", _) => charged,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// An object of two pages in the task, the first of them written. Gives its address as well.
fn written<'v, V: Vm>(task: &Task<'v, V>, habits: Habits) -> Outcome<(Pager<'v, V>, u64)> {
    let (pager, at) = Pager::mapped(task, 2, habits)?;
    pager.bring(task, at, 0, 0x66)?;
    task.store(at, 0x77)?;
    Ok((pager, at))
}

/// Of one page, or of both. If it fails, what was written is still there.
fn sync<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let what = case.row.setup.trim_start_matches("sync: ");
    let habits = Habits {
        synchronizes: what.starts_with("it says"),
        ..DELAY
    };
    let (pager, at) = written(task, habits)?;
    let message = VmMsync {
        address: at + words.or("page", 0)? * PAGE_SIZE,
        size: words.or("pages", 1)? * PAGE_SIZE,
        flags: words.word("flags", SYNCHRONOUS)?,
    };
    if let "the pager is dead" | "the pager has withdrawn" = what {
        end(case, &pager, what)?;
        let said = task.plain(&message);
        same("what was written", task.load(at), Ok(0x77))?;
        return Ok(said);
    }
    let asked = task.vm.ask(&task.port, message);
    let loan = pager.returned(0)?;
    match what {
        "the pager stores" => pager.written(loan, 0)?,
        "the pager refuses" => pager.written(loan, Kern::Failure.raw())?,
        "it says that it has stored" | "it says that it has not stored" => {
            let failed = what.contains("not");
            pager.written(loan, 0)?;
            let Some(Request::MemoryObjectSynchronize(said)) = pager.hear() else {
                return Err(Failure::new("the pager is not asked".into()));
            };
            let result = if failed { Kern::MemoryError.raw() } else { 0 };
            pager.say(&MemoryObjectSynchronizeCompleted {
                request: said.request,
                result,
            })?;
        }
        "it says nothing and dies" => {
            pager.written(loan, 0)?;
            match pager.hear() {
                Some(Request::MemoryObjectSynchronize(_)) => task.vm.destroy(&pager.object),
                other => return Err(unexpected(other)),
            }
        }
        _ => end(case, &pager, what)?,
    }
    let said = task.vm.answered(asked);
    same("what was written", task.load(at), Ok(0x77))?;
    Ok(said)
}

/// The pager's end.
fn end<V: Vm>(case: &Case<'_, V>, pager: &Pager<'_, V>, how: &str) -> Outcome {
    match how {
        "the pager dies" | "the pager is dead" => case.task.vm.destroy(&pager.object),
        "the pager withdraws" | "the pager has withdrawn" => {
            pager.say(&MemoryObjectDestroy { reason: 5 })?;
        }
        other => return Err(Failure::new(other.into())),
    }
    Ok(())
}

/// A task may have so many calls under way.
fn limit<V: Vm>(task: &Task<'_, V>, ops: u64) -> Said {
    let limits = VmSetLimits {
        ops,
        ..VmSetLimits::KEEP
    };
    task.ask(&limits, &[Some(&task.vm.host())]).map(drop)
}

/// The pager's task, the maker of the copy or the entry, or who asks it, may have no calls under way.
fn charged<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, vm) = (&case.task, case.task.vm);
    let (pager, at) = written(task, DELAY)?;
    let other = task.fork()?;
    task.allocate(AREA, 2 * PAGE_SIZE, FIXED)?;
    task.store(AREA, 7)?;
    let copy = task.copy_in(AREA, PAGE_SIZE, false)?;
    let (entry, _) = task.entry(PAGE_SIZE, 0, BOTH | PURGEABLE, None)?;
    limit(
        match case.row.setup {
            "charge: the pager" => &pager.task,
            "charge: the maker" => task,
            "charge: another" => &other,
            other => return Err(Failure::new(other.into())),
        },
        0,
    )?;
    let said = match case.row.call {
        "memory_object_lock_request" => {
            let said = pager.lock(1, RETURN_DIRTY, false);
            if said.is_ok() {
                pager.completed()?;
            }
            said
        }
        "memory_object_data_supply_copy" => {
            let message = MemoryObjectDataSupplyCopy {
                offset: PAGE_SIZE,
                lock_value: 0,
                precious: false,
            };
            pager.say_with(&message, &[Some(&copy)]).map(drop)
        }
        "memory_object_data_supply" => {
            pager.supply(1, &[9], false)?;
            same("what it supplied", task.load(at + PAGE_SIZE), Ok(9))?;
            Ok(())
        }
        "copy_settle" => settle(vm, &copy),
        "copy_describe" => vm.call(&copy, &CopyDescribe {}, &[]).map(drop),
        "mach_memory_entry_purgable_control" => {
            let message = MachMemoryEntryPurgableControl {
                control: GET_STATE,
                state: 0,
            };
            vm.call(&entry, &message, &[]).map(drop)
        }
        "memory_entry_describe" => vm.call(&entry, &MemoryEntryDescribe {}, &[]).map(drop),
        other => return Err(Failure::new(other.into())),
    };
    same("what is there", task.load(AREA), Ok(7))?;
    Ok(said)
}

fn settle<V: Vm>(vm: &V, copy: &V::Port) -> Said {
    vm.call(copy, &CopySettle { timeout: LONG }, &[]).map(drop)
}

/// One lock request waits for a page that was asked for; the pager's task may have one.
fn lock_while_one_waits<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, vm) = (&case.task, case.task.vm);
    let (pager, at) = written(task, DELAY)?;
    limit(&pager.task, case.words.or("limit", 1)?)?;
    let touch = vm.begin(&task.port, at + PAGE_SIZE, None);
    pager.wanted(1)?;
    let waits = vm.ask(&pager.control, lock_request(1, RETURN_DIRTY, false));
    let said = pager.lock(0, 0, false);
    if said.is_ok() {
        pager.completed()?;
    }
    pager.supply(1, &[9], false)?;
    same("the touch", vm.finish(touch), Ok(9))?;
    same("the first", vm.answered(waits), Ok(()))?;
    pager.completed()?;
    same("another", pager.lock(1, 0, false), Ok(()))?;
    Ok(said)
}

/// One copy waits for its pager; its maker lends a quarter of the calls that it may have, and goes on
/// with its own.
fn settle_while_one_waits<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, vm) = (&case.task, case.task.vm);
    let (pager, at) = written(task, DELAY)?;
    let waiting = task.copy_in(at + PAGE_SIZE, PAGE_SIZE, false)?;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let ready = task.copy_in(AREA, PAGE_SIZE, false)?;
    limit(task, case.words.or("limit", 4)?)?;
    let waits = vm.ask(&waiting, CopySettle { timeout: LONG });
    pager.wanted(1)?;
    let said = settle(vm, &ready);
    same(
        "a call of its own",
        task.protect(AREA, PAGE_SIZE, 1),
        Ok(()),
    )?;
    pager.supply(1, &[9], false)?;
    same("the first", vm.answered(waits), Ok(()))?;
    same("another", settle(vm, &ready), Ok(()))?;
    Ok(said)
}
