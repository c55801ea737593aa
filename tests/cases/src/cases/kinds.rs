//! Rights of the wrong kind: a port that is no task, a name that is dead or none.
//!
//! The port that is no task here is that of a memory entry: the server's own, so that the message
//! gets there, but not to a map.

use ipc_abi::layout::PAGE_SIZE;

use super::{Found, parameters};
use crate::failure::Outcome;
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, READ, Said, Task, Vm};
use crate::words::AREA;

/// Rows about wrong rights.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    if row.setup != "task port of a kind that converts to no map" {
        return None;
    }
    let body: Body<V> = match row.call {
        "vm_read" => read_of_no_map,
        "vm_read_overwrite" => read_overwrite_of_no_map,
        "vm_allocate" | "vm_deallocate" | "vm_map" => one_call,
        _ if row.id.starts_with('P') => one_call,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// The same case, of a memory entry's port instead of a map's.
pub(super) fn elsewhere<'v, V: Vm>(case: &Case<'v, V>) -> Outcome<Case<'v, V>> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let (port, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    Ok(Case {
        row: case.row,
        words: case.words.clone(),
        task: Task {
            port,
            ..task.clone()
        },
    })
}

fn one_call<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let said = parameters::call(&elsewhere(case)?)?;
    Ok(said.map(|_| ()))
}

fn read_of_no_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let case = elsewhere(case)?;
    Ok(case.task.copy_in(AREA, PAGE_SIZE, false).map(|_| ()))
}

fn read_overwrite_of_no_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let other = elsewhere(case)?;
    let into = &other.task.port;
    let there = case.task.read_overwrite(AREA, PAGE_SIZE, into, AREA);
    let from = other
        .task
        .read_overwrite(AREA, PAGE_SIZE, &case.task.port, AREA);
    crate::failure::same("either side", there, from)?;
    Ok(there.map(|_| ()))
}
