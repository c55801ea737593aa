//! vm_read_list: what becomes of each range, and whose code it is in the end (rule 79).
//!
//! In rows that their columns say whole a list is `AREA:PS,AREA+PS:8`, and so is what was read: the first
//! byte of each range, and its size.

use alloc::vec;
use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;

use super::{Found, ground, kinds};
use crate::failure::{Failure, Outcome, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, Said, Vm};
use crate::words::{self, AREA};

/// Rows of lists.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0406" => list_with_a_hole,
        "C0408" => list_too_long,
        "C0435" => list_of_no_map,
        _ if row.call == "vm_read_list" => list,
        _ => return None,
    };
    Some((Where::Whole, body))
}

fn pairs(text: &str) -> Outcome<Vec<(u64, u64)>> {
    let pair = |text: &str| {
        let (address, size) = text
            .split_once(':')
            .ok_or_else(|| Failure::new(text.into()))?;
        Ok((words::value(address, &[])?, words::value(size, &[])?))
    };
    text.split(',').map(pair).collect()
}

fn list<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    ground::lay(case)?;
    let mut ranges = pairs(case.words.text("list").unwrap_or_default())?;
    let said = case.task.vm.read_list(&case.task.port, &mut ranges);
    let right = pairs(case.row.effect.trim_start_matches("reads "))?;
    same("what was read", ranges, right)?;
    Ok(said)
}

/// The ranges that can be read are read, and those that cannot are told by being nothing.
fn list_with_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 2 * PAGE_SIZE, FIXED)?;
    task.store(AREA, 0x31)?;
    task.store(AREA + PAGE_SIZE, 0x32)?;
    let hole = (AREA + 8 * PAGE_SIZE, PAGE_SIZE);
    let mut ranges = [(AREA, PAGE_SIZE), hole, (AREA + PAGE_SIZE, 16)];
    let said = task.vm.read_list(&task.port, &mut ranges);
    same(
        "what was read",
        ranges,
        [(0x31, PAGE_SIZE), (0, 0), (0x32, 16)],
    )?;
    // The code is that of the last range that is not empty.
    let mut ranges = [(AREA, PAGE_SIZE), hole, (AREA, 0)];
    let last = task.vm.read_list(&task.port, &mut ranges);
    same("a list that ends badly", last, Err(Kern::InvalidAddress))?;
    Ok(said)
}

fn list_too_long<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let count = case.words.or("count", 257)? as usize;
    let mut ranges = vec![(AREA, 8); count];
    let said = task.vm.read_list(&task.port, &mut ranges);
    let mut most = vec![(AREA, 0); count - 1];
    same(
        "the longest",
        task.vm.read_list(&task.port, &mut most),
        Ok(()),
    )?;
    Ok(said)
}

fn list_of_no_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = kinds::elsewhere(case)?.task;
    let mut ranges = [(AREA, PAGE_SIZE)];
    let said = task.vm.read_list(&task.port, &mut ranges);
    same("what was read", ranges, [(0, 0)])?;
    Ok(said)
}
