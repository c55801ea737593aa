//! Memory entries whose setup is told in words.

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{BOTH, FIXED, Mapping, READ, Said, Task, Vm};
use crate::words::AREA;

const VM_COPY: u32 = 0x20_0000;
const VM_SHARE: u32 = 0x40_0000;
const NAMED_REUSE: u32 = 0x8_0000;

/// Rows of memory entries.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0091" => created_of_nothing,
        "C0176" => only_without_parent,
        "C0180" => a_mask_that_leaves_nothing,
        "C0353" => more_than_the_maximum,
        "C0354" => |case| beyond_a_read_only_entry(case, READ, BOTH),
        "C0355" => |case| beyond_a_read_only_entry(case, BOTH, BOTH),
        "C0364" => a_copy_entry_is_one_snapshot,
        "C0366" => child_of_a_copy,
        "C0367" => child_with_more,
        "C0369" => mapping_with_more,
        "C0370" => reused,
        "C0372" => a_copy_of_one_byte,
        "C0373" => tags_are_kept,
        "C0374" => tags_are_replaced,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn filled<V: Vm>(task: &Task<'_, V>, pages: u64) -> Said {
    task.allocate(AREA, pages * PAGE_SIZE, FIXED)?;
    for page in 0..pages {
        task.store(AREA + page * PAGE_SIZE, 0x10 + page)?;
    }
    Ok(())
}

/// A mapping of an entry with no more rights than these.
fn view<V: Vm>(task: &Task<'_, V>, entry: &V::Port, size: u64, rights: u32) -> Said<u64> {
    let mapping = Mapping {
        cur: rights,
        max: rights,
        ..Mapping::anywhere(size)
    };
    task.map(mapping, Some(entry))
}

/// NAMED_CREATE of size 0 succeeds without a handle.
fn created_of_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let permission = case.words.word("permission", 0)?;
    Ok(match case.task.entry_or_none(0, 0, permission) {
        Ok((entry, size)) => {
            holds("there is no handle", entry.is_none())?;
            same("the size", size, 0)?;
            Ok(())
        }
        Err(code) => Err(code),
    })
}

fn only_without_parent<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let permission = case.words.word("permission", 0)?;
    let said = case.task.entry(PAGE_SIZE, AREA, permission, None);
    Ok(said.map(|_| ()))
}

fn a_mask_that_leaves_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.protect_maximum(AREA, PAGE_SIZE, READ)?;
    let permission = case.words.word("permission", 0)?;
    Ok(task.entry(PAGE_SIZE, AREA, permission, None).map(|_| ()))
}

fn more_than_the_maximum<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.protect_maximum(AREA, PAGE_SIZE, READ)?;
    let permission = case.words.word("flags", 0)?.max(VM_SHARE | BOTH);
    Ok(task.entry(PAGE_SIZE, AREA, permission, None).map(|_| ()))
}

fn beyond_a_read_only_entry<V: Vm>(case: &Case<'_, V>, cur: u32, max: u32) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, VM_SHARE | READ, None)?;
    let mapping = Mapping {
        cur: case.words.word("cur", cur)?,
        max: case
            .words
            .word("max", max)?
            .max(case.words.word("cur", cur)?),
        ..Mapping::anywhere(PAGE_SIZE)
    };
    let said = task.map(mapping, Some(&entry)).map(|_| ());
    holds("reading works", view(task, &entry, PAGE_SIZE, READ).is_ok())?;
    Ok(said)
}

fn a_copy_entry_is_one_snapshot<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, VM_COPY | BOTH, None)?;
    let shared = view(task, &entry, PAGE_SIZE, BOTH)?;
    let private = Mapping {
        copy: true,
        max: BOTH,
        ..Mapping::anywhere(PAGE_SIZE)
    };
    let copied = task.map(private, Some(&entry))?;
    let said = task.store(shared, 0x99);
    same("the original", task.load(AREA), Ok(0x10))?;
    same("the shared mapping", task.load(shared), Ok(0x99))?;
    same("the copied mapping", task.load(copied), Ok(0x10))?;
    let another = view(task, &entry, PAGE_SIZE, BOTH)?;
    same("another shared mapping", task.load(another), Ok(0x99))?;
    Ok(said)
}

fn child_of_a_copy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let (parent, _) = task.entry(PAGE_SIZE, AREA, VM_COPY | BOTH, None)?;
    Ok(task.entry(PAGE_SIZE, 0, READ, Some(&parent)).map(|_| ()))
}

fn child_with_more<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let (parent, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    Ok(task.entry(PAGE_SIZE, 0, BOTH, Some(&parent)).map(|_| ()))
}

fn mapping_with_more<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    let said = view(task, &entry, PAGE_SIZE, BOTH).map(|_| ());
    let readable = view(task, &entry, PAGE_SIZE, READ)?;
    same("its word", task.load(readable), Ok(0x10))?;
    Ok(said)
}

fn reused<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 2)?;
    let (parent, size) = task.entry(2 * PAGE_SIZE, AREA, BOTH, None)?;
    let address = view(task, &parent, size, BOTH)?;
    let said = task.entry(size, address, BOTH | NAMED_REUSE, Some(&parent));
    if let Ok((entry, found)) = &said {
        holds("it is the parent", task.vm.is_same(entry, &parent))?;
        same("its size", *found, size)?;
    }
    Ok(said.map(|_| ()))
}

fn a_copy_of_one_byte<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    filled(task, 1)?;
    let said = task.entry(1, AREA, VM_COPY | BOTH, None);
    let (entry, _) = said?;
    let address = view(task, &entry, PAGE_SIZE, BOTH)?;
    same("the copy", task.load(address), Ok(0x10))?;
    task.store(address, 0x20)?;
    same("the original", task.load(AREA), Ok(0x10))?;
    Ok(Ok(()))
}

/// Three mappings side by side, with tags 100 to 102.
fn tagged<V: Vm>(task: &Task<'_, V>) -> Said {
    for part in 0..3 {
        let mapping = Mapping {
            address: AREA + part * 2 * PAGE_SIZE,
            flags: (100 + part as u32) << 24,
            ..Mapping::anywhere(2 * PAGE_SIZE)
        };
        task.map(mapping, None)?;
        task.store(mapping.address, 0x30 + part)?;
    }
    Ok(())
}

/// Maps an entry of the three; the tags of what comes out are as `right` says.
fn mapped_tags<V: Vm>(
    task: &Task<'_, V>,
    flag: u32,
    tag: u32,
    right: impl Fn(u64) -> u32,
) -> Outcome {
    let size = 6 * PAGE_SIZE;
    let (entry, _) = task.entry(size, AREA, flag | BOTH, None)?;
    let mapping = Mapping {
        flags: 1 | tag << 24,
        max: BOTH,
        ..Mapping::anywhere(size)
    };
    let address = task.map(mapping, Some(&entry))?;
    for part in 0..3 {
        let place = address + part * 2 * PAGE_SIZE;
        let found = task.at(place).map(|region| region.tag);
        same("the tag", found, Some(right(part)))?;
        same("the word", task.load(place), Ok(0x30 + part))?;
        task.store(place, 0x40)?;
        let word = match flag {
            VM_SHARE => 0x40,
            _ => 0x30 + part,
        };
        let source = AREA + part * 2 * PAGE_SIZE;
        same("the source", task.load(source), Ok(word))?;
        task.store(source, 0x30 + part)?;
    }
    Ok(())
}

fn tags_are_kept<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    tagged(&case.task)?;
    mapped_tags(&case.task, VM_COPY, 0, |part| 100 + part as u32)?;
    mapped_tags(&case.task, VM_SHARE, 0, |part| 100 + part as u32)?;
    Ok(Ok(()))
}

fn tags_are_replaced<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    tagged(&case.task)?;
    mapped_tags(&case.task, VM_COPY, 200, |_| 200)?;
    mapped_tags(&case.task, VM_SHARE, 200, |_| 200)?;
    Ok(Ok(()))
}
