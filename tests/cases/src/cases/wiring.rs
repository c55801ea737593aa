//! Wired memory: rows whose setup is told in words (rules 131 to 145).

use ipc_abi::layout::PAGE_SIZE;

use super::{Found, ground, kinds};
use crate::failure::{Outcome, holds, same};
use crate::pager::{DELAY, Pager};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{BOTH, FIXED, READ, Said, Task, Vm};
use crate::words::AREA;

const NONE: u32 = 0;
const PRESENT: u32 = 1;
const SIZE: u64 = 4 * PAGE_SIZE;
/// A second allocation.
const OTHER: u64 = AREA + 0x20_0000;

/// Rows of wiring.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0358" => copy_beside_a_wired_page,
        "C0390" => child_of_wired_memory,
        "C0424" => write_to_wired_memory,
        "C0437" => wire_of_no_map,
        "C0439" => |case| wire_without_host(case, None),
        "C0442" => wire_with_another_port,
        "C0444" => wire_over_a_hole,
        "C0445" => wire_read_only,
        "C0446" => wire_twice,
        "C0447" => unwire_once_of_two,
        "C0448" => unwire_with_a_gap,
        "C0449" => unwire_from_a_hole,
        "C0450" => deallocate_wired,
        "C0452" => wire_all_and_release,
        "C0462" => wire_past_the_end,
        "C0501" => wired_file,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// How often each page is wired.
fn counts<V: Vm>(task: &Task<'_, V>) -> [Option<u32>; 4] {
    core::array::from_fn(|page| {
        let region = task.at(AREA + page as u64 * PAGE_SIZE);
        region.map(|region| region.wired)
    })
}

fn copy_beside_a_wired_page<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let size = 32 * PAGE_SIZE;
    task.allocate(AREA, size, FIXED)?;
    task.allocate(OTHER, size, FIXED)?;
    for page in 0..32 {
        task.store(AREA + page * PAGE_SIZE, 0x100 + page)?;
    }
    task.wire(AREA, PAGE_SIZE, BOTH)?;
    let said = task.copy(AREA + PAGE_SIZE, size - PAGE_SIZE, OTHER + PAGE_SIZE);
    for page in 1..32 {
        let found = task.load(OTHER + page * PAGE_SIZE);
        same("a page", found, Ok(0x100 + page))?;
    }
    // Sharing all of it works as well (rule 32).
    let entry = task.entry(size, AREA, 0x40_0000 | READ, None);
    holds("it can be shared", entry.is_ok())?;
    Ok(said)
}

fn child_of_wired_memory<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, SIZE, BOTH)?;
    let child = task.fork()?;
    same("the child's wirings", counts(&child), [Some(0); 4])?;
    same("the parent's", counts(task), [Some(1); 4])?;
    task.store(AREA, 1)?;
    same("the child's word", child.load(AREA), Ok(0x70))?;
    Ok(Ok(()))
}

fn write_to_wired_memory<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.allocate(OTHER, PAGE_SIZE, FIXED)?;
    task.store(OTHER, 0xEE)?;
    task.wire(AREA, SIZE, BOTH)?;
    let said = task.write_from(AREA, task, OTHER, PAGE_SIZE);
    same("the wirings", counts(task), [Some(1); 4])?;
    same("the word", task.load(AREA), Ok(0xEE))?;
    same("its neighbour", task.load(AREA + PAGE_SIZE), Ok(0x71))?;
    let query = task.page_query(AREA);
    holds(
        "it is resident",
        query.is_ok_and(|(found, _)| found & PRESENT != 0),
    )?;
    Ok(said)
}

fn wire_of_no_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = kinds::elsewhere(case)?.task;
    let all = task.wire_all(Some(&task.vm.host()), 1);
    let said = task.wire(AREA, PAGE_SIZE, READ);
    same("vm_wire_all", all, said)?;
    Ok(said)
}

fn wire_without_host<V: Vm>(case: &Case<'_, V>, host: Option<&V::Port>) -> Outcome<Said> {
    let task = &case.task;
    if task.at(AREA).is_none() {
        ground::four_pages(task)?;
    }
    let said = task.wire_with(host, AREA, PAGE_SIZE, READ);
    same("vm_wire_all", task.wire_all(host, 1), said)?;
    same(
        "before the access",
        task.wire_with(host, AREA, PAGE_SIZE, 8),
        said,
    )?;
    same("before the size", task.wire_with(host, AREA, 0, READ), said)?;
    same("the wirings", counts(task)[0], Some(0))?;
    Ok(said)
}

fn wire_with_another_port<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    wire_without_host(case, Some(&entry))
}

fn wire_over_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.deallocate(AREA + 2 * PAGE_SIZE, PAGE_SIZE)?;
    let said = task.wire(AREA, SIZE, READ);
    same(
        "the wirings",
        counts(task),
        [Some(0), Some(0), None, Some(0)],
    )?;
    Ok(said)
}

fn wire_read_only<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.protect(AREA + 2 * PAGE_SIZE, PAGE_SIZE, READ)?;
    let said = task.wire(AREA, SIZE, BOTH);
    same("the wirings", counts(task), [Some(0); 4])?;
    Ok(said)
}

fn wire_twice<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, SIZE, READ)?;
    let said = task.wire(AREA, SIZE, READ);
    same("the wirings", counts(task), [Some(2); 4])?;
    Ok(said)
}

fn unwire_once_of_two<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, SIZE, READ)?;
    task.wire(AREA, SIZE, READ)?;
    let said = task.wire(AREA, SIZE, NONE);
    same("the wirings", counts(task), [Some(1); 4])?;
    Ok(said)
}

fn unwire_with_a_gap<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, PAGE_SIZE, READ)?;
    task.wire(AREA + 2 * PAGE_SIZE, PAGE_SIZE, READ)?;
    let said = task.wire(AREA, SIZE, NONE);
    same("the wirings", counts(task), [Some(0); 4])?;
    Ok(said)
}

fn unwire_from_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, SIZE, READ)?;
    task.deallocate(AREA, PAGE_SIZE)?;
    let said = task.wire(AREA, SIZE, NONE);
    same(
        "the wirings",
        counts(task),
        [None, Some(1), Some(1), Some(1)],
    )?;
    Ok(said)
}

fn deallocate_wired<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.wire(AREA, SIZE, READ)?;
    let said = task.deallocate(AREA, PAGE_SIZE);
    holds("it is gone", task.at(AREA).is_none())?;
    same(
        "the wirings",
        counts(task),
        [None, Some(1), Some(1), Some(1)],
    )?;
    Ok(said)
}

fn wire_all_and_release<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let host = task.vm.host();
    ground::four_pages(task)?;
    let flags = case.words.word("flags", 3)?;
    let said = task.wire_all(Some(&host), flags);
    same("the wirings", counts(task), [Some(1); 4])?;
    let later = task.allocate(0, PAGE_SIZE, 1)?;
    same(
        "a later page",
        task.at(later).map(|region| region.wired),
        Some(1),
    )?;
    let released = task.wire_all(Some(&host), 0);
    same("the wirings", counts(task), [Some(0); 4])?;
    same(
        "a later page",
        task.at(later).map(|region| region.wired),
        Some(0),
    )?;
    same("a word", task.load(AREA), Ok(0x70))?;
    Ok(said.and(released))
}

fn wire_past_the_end<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let said = task.wire(AREA, SIZE + PAGE_SIZE, READ);
    same("the wirings", counts(task), [Some(0); 4])?;
    Ok(said)
}

/// The pager takes the page back while it is wired: it hears of its data, and the page stays (rule
/// 168); afterwards the new data comes.
fn wired_file<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 1, DELAY)?;
    pager.bring(task, address, 0, 0x10)?;
    let said = task.wire(address, PAGE_SIZE, READ);
    pager.lock(0, 0, true)?;
    pager.completed()?;
    same("while wired", task.load(address), Ok(0x10))?;
    task.wire(address, PAGE_SIZE, NONE)?;
    pager.lock(0, 0, true)?;
    pager.completed()?;
    pager.bring(task, address, 0, 0x20)?;
    same("afterwards", task.load(address), Ok(0x20))?;
    Ok(said)
}
