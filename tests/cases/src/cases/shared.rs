//! Permanent memory, shared regions and ranges set aside.
//!
//! The shared region of these rows is a sealed map of two pages, filled with a word each and readable
//! only; a window of it lies at [`AREA`]. Private memory that cannot be removed is permanent.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, FIXED, Mapping, OVERWRITE, READ, Said, Task, Vm};
use crate::words::AREA;

const PERMANENT: u32 = 0x80;
const COPY: u32 = 0x10;
const VM_SHARE: u32 = 0x40_0000;
/// What each page of the shared region begins with.
pub(super) const WORD: u64 = 0x5A;
const SIZE: u64 = 2 * PAGE_SIZE;

/// Rows of shared and permanent memory.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0224" => |case| copy_of_permanent(case, BOTH),
        "C0227" => overwrite_shared,
        "C0230" => |case| copy_of_permanent(case, READ),
        "C0232" => write_shared,
        "C0233" => write_permanent,
        "C0234" => overwrite_permanent,
        "C0385" => entry_of_shared,
        "C0395" => inherit_shared,
        "C0495" => range_twice,
        "C0404" => unknown_flavor,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// Permanent memory with these rights at [`AREA`], and a word in it.
fn permanent<V: Vm>(task: &Task<'_, V>, rights: u32) -> Said {
    let mapping = Mapping {
        address: AREA,
        flags: FIXED | PERMANENT,
        ..Mapping::anywhere(PAGE_SIZE)
    };
    task.map(mapping, None)?;
    task.store(AREA, WORD)?;
    task.protect(AREA, PAGE_SIZE, rights)
}

/// Memory that is permanent cannot be copied over itself: it becomes inaccessible (rule 89).
fn copy_of_permanent<V: Vm>(case: &Case<'_, V>, rights: u32) -> Outcome<Said> {
    let task = &case.task;
    permanent(task, rights)?;
    let protection = COPY | BOTH;
    let said = task.unchecked(|task| task.protect(AREA, PAGE_SIZE, protection));
    holds("it cannot be read", task.load(AREA).is_err())?;
    let region = task.region(AREA)?;
    same(
        "its rights",
        (region.protection, region.max_protection),
        (0, 0),
    )?;
    Ok(said)
}

fn write_permanent<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    permanent(task, READ)?;
    task.allocate(AREA + SIZE, PAGE_SIZE, FIXED)?;
    let said = task.write_from(AREA, task, AREA + SIZE, 1);
    same("its word", task.load(AREA), Ok(WORD))?;
    Ok(said)
}

fn overwrite_permanent<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    permanent(task, READ)?;
    let flags = FIXED | OVERWRITE;
    let said = task.unchecked(|task| task.allocate(AREA, PAGE_SIZE, flags));
    holds("it cannot be read", task.load(AREA).is_err())?;
    Ok(said.map(|_| ()))
}

/// A window on a sealed map at [`AREA`].
pub(super) fn shared<V: Vm>(task: &Task<'_, V>, inherit: u32) -> Outcome {
    let region = task.map_create(AREA, AREA + SIZE)?;
    region.allocate(AREA, SIZE, FIXED | PERMANENT)?;
    task.allocate(AREA, SIZE, FIXED)?;
    task.store(AREA, WORD)?;
    task.store(AREA + PAGE_SIZE, WORD)?;
    region.write_from(AREA, task, AREA, SIZE)?;
    task.deallocate(AREA, SIZE)?;
    region.protect_maximum(AREA, SIZE, READ)?;
    let entry = region.map_seal(READ)?;
    task.range_create(AREA, SIZE)?;
    let window = Mapping {
        address: AREA,
        offset: AREA,
        cur: READ,
        max: READ,
        inherit,
        copy: true,
        ..Mapping::anywhere(SIZE)
    };
    task.map_submap(window, &entry)?;
    same("its word", task.load(AREA), Ok(WORD))
}

fn overwrite_shared<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    shared(task, 1)?;
    let said = task.allocate(AREA, PAGE_SIZE, FIXED | OVERWRITE);
    same("its word", task.load(AREA), Ok(WORD))?;
    Ok(said.map(|_| ()))
}

fn write_shared<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    shared(task, 1)?;
    let source = task.allocate(0, PAGE_SIZE, ANYWHERE)?;
    let said = task.write_from(AREA, task, source, 1);
    same("its word", task.load(AREA), Ok(WORD))?;
    same("a write", task.store(AREA, 1), Err(Kern::ProtectionFailure))?;
    Ok(said)
}

fn entry_of_shared<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    shared(task, 1)?;
    let before = task.region_recurse(AREA, 8, 64)?;
    let said = task.entry(PAGE_SIZE, AREA, VM_SHARE | READ, None);
    same(
        "what lies there",
        task.region_recurse(AREA, 8, 64),
        Ok(before),
    )?;
    if let Ok((entry, size)) = &said {
        let mapping = Mapping {
            cur: READ,
            max: READ,
            ..Mapping::anywhere(*size)
        };
        let view = task.map(mapping, Some(entry))?;
        same("the word through the entry", task.load(view), Ok(WORD))?;
    }
    Ok(said.map(|_| ()))
}

fn inherit_shared<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    shared(task, 0)?;
    task.allocate(AREA - PAGE_SIZE, PAGE_SIZE, FIXED)?;
    task.inherit(AREA - PAGE_SIZE, PAGE_SIZE, 0)?;
    let inheritance = case.words.word("inherit", 1)?;
    Ok(task.inherit(AREA - PAGE_SIZE, 3 * PAGE_SIZE, inheritance))
}

fn range_twice<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.range_create(AREA, SIZE)?;
    Ok(task.range_create(AREA, SIZE))
}

fn unknown_flavor<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let flavor = case.words.word("flavor", 0)?;
    Ok(task.region_of_flavor(AREA, flavor, 1000).map(|_| ()))
}
