//! Behaviours that happen at once, purgeable memory, page queries: rows whose setup is told in words.

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::pager::{DELAY, Pager};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, FIXED, READ, Said, Vm};
use crate::words::AREA;

const PURGABLE: u32 = 2;
/// VM_MEMORY_MALLOC.
const TAG_MALLOC: u32 = 1 << 24;
const PRESENT: u32 = 1;

/// Rows of advice.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0379" => reuse_of_purgeable,
        "C0382" | "C0423" => advice_on_read_only,
        "C0405" => query_of_nothing,
        "C0422" => zero_of_a_copy,
        "C0502" => will_need,
        "C0503" => the_largest_purgeable,
        "C0455" => virtual_and_resident,
        "C0498" => footprint,
        "C0199" => volatile_ordinary_memory,
        "C0188" | "C0189" | "C0190" | "C0191" | "C0192" | "C0195" => purgeable_state,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn reuse_of_purgeable<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED | PURGABLE | TAG_MALLOC)?;
    let behavior = case.words.word("behavior", 10)?;
    Ok(task.behave(AREA, PAGE_SIZE, behavior))
}

fn advice_on_read_only<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.store(AREA, 7)?;
    task.protect(AREA, PAGE_SIZE, READ)?;
    let behavior = case.words.word("behavior", 0)?;
    let said = task.behave(AREA, PAGE_SIZE, behavior);
    same("its word", task.load(AREA), Ok(7))?;
    Ok(said)
}

fn query_of_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let said = task.page_query(AREA + 8 * PAGE_SIZE);
    same("what is known", said, Ok((0, 0)))?;
    Ok(said.map(|_| ()))
}

fn zero_of_a_copy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.store(AREA, 7)?;
    let copy = task.read_out(AREA, PAGE_SIZE)?;
    let behavior = case.words.word("behavior", 12)?;
    let said = task.behave(AREA, PAGE_SIZE, behavior);
    same("its word", task.load(AREA), Ok(7))?;
    same("the copy's word", task.load(copy), Ok(7))?;
    Ok(said)
}

/// Anonymous pages are there afterwards, pages of a pager are asked for and nobody waits.
fn will_need<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 2 * PAGE_SIZE, FIXED)?;
    let behavior = case.words.word("behavior", 4)?;
    let said = task.behave(AREA, 2 * PAGE_SIZE, behavior);
    for page in 0..2 {
        let (disposition, _) = task.page_query(AREA + page * PAGE_SIZE)?;
        holds("a page is resident", disposition & PRESENT != 0)?;
    }
    let (pager, address) = Pager::mapped(task, 1, DELAY)?;
    task.behave(address, PAGE_SIZE, behavior)?;
    pager.wanted(0)?;
    pager.supply(0, &[0x3C], false)?;
    same("the page", task.load(address), Ok(0x3C))?;
    Ok(said)
}

fn the_largest_purgeable<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let size = 0xFFFF_FFFF * PAGE_SIZE;
    let said = task.allocate(0, size, ANYWHERE | PURGABLE);
    if let Ok(address) = said {
        for place in [address, address + size - PAGE_SIZE] {
            task.store(place, 9)?;
            same("an end", task.load(place), Ok(9))?;
        }
    }
    Ok(said.map(|_| ()))
}

fn volatile_ordinary_memory<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    task.store(AREA, 7)?;
    let said = task.purgable_control(AREA, 0, 1).map(|_| ());
    same("its word", task.load(AREA), Ok(7))?;
    Ok(said)
}

/// Sets or asks: the state before is answered, the one after follows from the argument.
fn purgeable_state<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    const SET: u32 = 0;
    const GET: u32 = 1;
    const EMPTY: u32 = 2;
    let (task, words) = (&case.task, &case.words);
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED | PURGABLE)?;
    task.store(AREA, 7)?;
    let (control, state) = (words.word("control", 0)?, words.word("state", 0)?);
    let said = task.purgable_control(AREA, control, state);
    if control != 2 {
        same("the state before", said.map(|state| state & 3), Ok(0))?;
    }
    let right = if control == SET { state & 3 } else { 0 };
    let found = task.purgable_control(AREA, GET, 0)?;
    same("the state", found & 3, right)?;
    let word = if right == EMPTY { 0 } else { 7 };
    same("the word", task.load(AREA), Ok(word))?;
    Ok(said.map(|_| ()))
}

/// Words of TASK_VM_INFO, all there are.
const ALL_WORDS: u32 = 1000;

fn virtual_and_resident<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 8 * PAGE_SIZE, FIXED)?;
    task.store(AREA, 1)?;
    let said = task.vm_info(ALL_WORDS);
    if let Ok(info) = said {
        holds(
            "there is more than is resident",
            info.virtual_size > info.resident_size,
        )?;
        holds("something is resident", info.resident_size >= PAGE_SIZE)?;
    }
    Ok(said.map(|_| ()))
}

/// Pages count when they are written, until they are gone.
fn footprint<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    // Whatever touching needs is there before.
    task.allocate(AREA + 64 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    task.store(AREA + 64 * PAGE_SIZE, 1)?;
    let before = task.vm_info(ALL_WORDS)?.phys_footprint;
    task.allocate(AREA, 8 * PAGE_SIZE, FIXED)?;
    same("allocated", task.vm_info(ALL_WORDS)?.phys_footprint, before)?;
    for page in 0..8 {
        task.store(AREA + page * PAGE_SIZE, 1)?;
    }
    let written = task.vm_info(ALL_WORDS)?.phys_footprint;
    same("written", written, before + 8 * PAGE_SIZE)?;
    let said = task.deallocate(AREA, 8 * PAGE_SIZE);
    same("gone", task.vm_info(ALL_WORDS)?.phys_footprint, before)?;
    Ok(said)
}
