//! Allocation and deallocation whose setup is told in words.

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, FIXED, Mapping, READ, Said, Vm};
use crate::words::AREA;

/// Rows about where memory lies.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0212" => ignored_hint,
        "C0214" => every_page_is_taken,
        "C0222" => checkerboard,
        "C0311" => deallocate_twice,
        "C0312" => deallocate_nothing,
        "C0313" => deallocated_memory_is_gone,
        "C0352" => a_maximum_does_not_come_back,
        "C0397" => protect_over_a_hole,
        "C0399" => maximum_takes_the_current_along,
        "C0402" => region_from_a_hole,
        "C0409" => fixed_on_what_is_mapped,
        "C0420" => behave_over_a_hole,
        "C0461" => region_above_all,
        "C0351" => protect_that_wraps,
        "C0497" => hint_above_the_map,
        "C0418" => sync_over_a_hole,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn ignored_hint<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let hint = case.words.or("hint", u64::MAX)?;
    let said = task.allocate(hint, case.words.or("size", PAGE_SIZE)?, ANYWHERE);
    same("the address", said, Ok(ipc_abi::layout::USER_MIN))?;
    Ok(said.map(|_| ()))
}

fn every_page_is_taken<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    let again = |page| task.allocate(AREA + page * PAGE_SIZE, PAGE_SIZE, FIXED);
    let last = again(3);
    for page in 0..3 {
        same("each page", again(page), last)?;
    }
    Ok(last.map(|_| ()))
}

fn checkerboard<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 8 * PAGE_SIZE, FIXED)?;
    for page in (0..8).step_by(2) {
        task.store(AREA + page * PAGE_SIZE, page + 1)?;
    }
    for page in 0..8 {
        let right = if page % 2 == 0 { page + 1 } else { 0 };
        same("a page", task.load(AREA + page * PAGE_SIZE), Ok(right))?;
    }
    Ok(Ok(()))
}

fn deallocate_twice<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.deallocate(AREA, 4 * PAGE_SIZE)?;
    Ok(task.deallocate(AREA, 4 * PAGE_SIZE))
}

fn deallocate_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    let before = task.picture();
    let mut last = Ok(());
    for address in [
        0,
        1,
        PAGE_SIZE - 1,
        PAGE_SIZE,
        AREA,
        AREA + PAGE_SIZE + 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ] {
        last = task.deallocate(address, 0);
        last?;
    }
    same("the map", task.picture(), before)?;
    Ok(last)
}

fn deallocated_memory_is_gone<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.store(AREA, 1)?;
    task.store(AREA + 3 * PAGE_SIZE, 1)?;
    let said = task.deallocate(AREA, 4 * PAGE_SIZE);
    for address in [AREA, AREA + 2 * PAGE_SIZE, AREA + 4 * PAGE_SIZE - 8] {
        holds("it cannot be touched", task.load(address).is_err())?;
        holds("nothing is there", task.at(address).is_none())?;
    }
    Ok(said)
}

fn a_maximum_does_not_come_back<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    let said = task.protect_maximum(AREA, 4 * PAGE_SIZE, READ);
    let region = task.region(AREA)?;
    same("the maximum", region.max_protection, READ)?;
    let entry = task.entry(4 * PAGE_SIZE, AREA, 3, None);
    holds("no entry gives more", entry.is_err())?;
    holds(
        "reading is allowed",
        task.entry(PAGE_SIZE, AREA, READ, None).is_ok(),
    )?;
    Ok(said)
}

fn protect_over_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.allocate(AREA + 6 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    Ok(task.protect(AREA, 7 * PAGE_SIZE, READ))
}

fn maximum_takes_the_current_along<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let said = task.protect_maximum(AREA, PAGE_SIZE, case.words.word("prot", READ)?);
    same("the protection", task.region(AREA)?.protection, READ)?;
    let refused = Err(ipc_abi::Kern::ProtectionFailure);
    same("raising it", task.protect(AREA, PAGE_SIZE, 3), refused)?;
    same(
        "raising both",
        task.protect_maximum(AREA, PAGE_SIZE, 3),
        refused,
    )?;
    Ok(said)
}

fn region_from_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let found = task.region(AREA - 3 * PAGE_SIZE);
    same("its start", found.map(|region| region.address), Ok(AREA))?;
    let inside = task.region(AREA + 5).map(|region| region.address);
    same("its start from inside", inside, Ok(AREA))?;
    Ok(found.map(|_| ()))
}

fn fixed_on_what_is_mapped<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA + PAGE_SIZE, PAGE_SIZE, FIXED)?;
    task.store(AREA + PAGE_SIZE, 7)?;
    let mapping = Mapping {
        address: AREA,
        flags: FIXED,
        ..Mapping::anywhere(3 * PAGE_SIZE)
    };
    let said = task.map(mapping, None).map(|_| ());
    same("what was there", task.load(AREA + PAGE_SIZE), Ok(7))?;
    Ok(said)
}

fn behave_over_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    let behavior = case.words.word("behavior", 1)?;
    Ok(task.behave(AREA, 5 * PAGE_SIZE, behavior))
}

fn region_above_all<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    Ok(task.region(AREA + PAGE_SIZE).map(|_| ()))
}

fn protect_that_wraps<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    Ok(task.protect(1, u64::MAX, READ))
}

fn hint_above_the_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let mapping = Mapping {
        address: ipc_abi::layout::USER_MAX + PAGE_SIZE,
        ..Mapping::anywhere(PAGE_SIZE)
    };
    Ok(case.task.map(mapping, None).map(|_| ()))
}

fn sync_over_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    const SYNCHRONOUS: u32 = 2;
    const CONTIGUOUS: u32 = 0x20;
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.deallocate(AREA + PAGE_SIZE, PAGE_SIZE)?;
    let reported = task.msync(AREA, 4 * PAGE_SIZE, SYNCHRONOUS | CONTIGUOUS);
    same(
        "with CONTIGUOUS",
        reported,
        Err(ipc_abi::Kern::InvalidAddress),
    )?;
    Ok(task.msync(AREA, 4 * PAGE_SIZE, SYNCHRONOUS))
}
