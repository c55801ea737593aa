//! What a child task gets (rules 120 to 130).

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, Said, Vm};
use crate::words::AREA;

/// Rows of task_create with inheritance.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0393" => each_side_has_its_own,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn each_side_has_its_own<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 3 * PAGE_SIZE, FIXED)?;
    for page in 0..3 {
        task.store(AREA + page * PAGE_SIZE, 0x50 + page)?;
    }
    let child = task.fork()?;
    let middle = AREA + PAGE_SIZE;
    child.store(middle, 0xC)?;
    task.store(middle, 0xD)?;
    same("the child's", child.load(middle), Ok(0xC))?;
    same("the parent's", task.load(middle), Ok(0xD))?;
    for page in [0, 2] {
        let place = AREA + page * PAGE_SIZE;
        same("another page", child.load(place), task.load(place))?;
    }
    Ok(Ok(()))
}
