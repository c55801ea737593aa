//! vm_copy of memory that others share, or are copies of: who sees a write afterwards.
//!
//! The setup says what else there is of the source (a sibling), the argument who is written. Those who
//! share the written memory see the new word, all others keep the old one.

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Failure, Outcome, same};
use crate::run::{Case, Where};
use crate::table::Row;
use crate::vm::{BOTH, FIXED, Mapping, Said, Task, Vm};
use crate::words::AREA;

const PAGES: u64 = 4;
const SIZE: u64 = PAGES * PAGE_SIZE;
/// Where the sibling lies, if it is not in another task.
const SIBLING: u64 = AREA + 0x10_0000;
/// Where the copy goes.
const DESTINATION: u64 = AREA + 0x20_0000;
const OLD: u64 = 0x100;
const NEW: u64 = 0x900;

/// Rows of one copy and one write.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let is_one = row.call == "vm_copy" && row.setup.starts_with("source ");
    let is_write = row.arguments.starts_with("write ");
    (is_one && is_write).then_some((Where::Both, copy_and_write::<V>))
}

/// What else there is of the source.
struct Sibling<'v, V: Vm> {
    task: Task<'v, V>,
    address: u64,
    /// It is the same memory, not a copy.
    shared: bool,
}

/// Makes the sibling that the setup names.
fn sibling<'v, V: Vm>(case: &Case<'v, V>) -> Outcome<Option<Sibling<'v, V>>> {
    let task = &case.task;
    let here = |shared| {
        Some(Sibling {
            task: task.clone(),
            address: SIBLING,
            shared,
        })
    };
    let setup = case.row.setup;
    if setup == "source fresh" {
        return Ok(None);
    }
    if setup.contains("forked child (inherit SHARE)") {
        task.inherit(AREA, SIZE, 0)?;
        return Ok(Some(Sibling {
            task: task.fork()?,
            address: AREA,
            shared: true,
        }));
    }
    if setup.contains("COW copy of another mapping") {
        task.allocate(SIBLING, SIZE, FIXED)?;
        fill(task, SIBLING, OLD)?;
        task.copy(SIBLING, SIZE, AREA)?;
        return Ok(here(false));
    }
    if setup.contains("copied to another mapping first") {
        task.allocate(SIBLING, SIZE, FIXED)?;
        task.copy(AREA, SIZE, SIBLING)?;
        return Ok(here(false));
    }
    if setup.contains("through a memory entry") {
        let (entry, _) = task.entry(SIZE, AREA, BOTH, None)?;
        let mapping = Mapping {
            address: SIBLING,
            flags: FIXED,
            max: BOTH,
            ..Mapping::anywhere(SIZE)
        };
        task.map(mapping, Some(&entry))?;
        return Ok(here(true));
    }
    if setup.contains("aliased by vm_remap share") {
        let to = Mapping {
            address: SIBLING,
            flags: FIXED,
            ..Mapping::anywhere(SIZE)
        };
        task.remap(to, Some(&task.port), AREA)?;
        return Ok(here(true));
    }
    Err(Failure::new(alloc::format!("{setup} is not known")))
}

fn fill<V: Vm>(task: &Task<'_, V>, address: u64, first: u64) -> Outcome {
    for page in 0..PAGES {
        task.store(address + page * PAGE_SIZE, first + page)?;
    }
    Ok(())
}

/// The third page holds the new word or the old one, the others the old ones.
fn shows<V: Vm>(what: &str, task: &Task<'_, V>, address: u64, is_new: bool) -> Outcome {
    for page in 0..PAGES {
        let right = match page == 2 && is_new {
            true => NEW,
            false => OLD + page,
        };
        same(what, task.load(address + page * PAGE_SIZE)?, right)?;
    }
    Ok(())
}

fn copy_and_write<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED)?;
    fill(task, AREA, OLD)?;
    let sibling = sibling(case)?;
    task.allocate(DESTINATION, SIZE, FIXED)?;
    fill(task, DESTINATION, NEW + 1)?;
    let said = task.copy(AREA, SIZE, DESTINATION);

    let place = 2 * PAGE_SIZE;
    let shares = sibling.as_ref().is_some_and(|sibling| sibling.shared);
    let (source, destination, other) = match (case.row.arguments, &sibling) {
        ("write source after copy", _) => {
            task.store(AREA + place, NEW)?;
            (true, false, shares)
        }
        ("write destination after copy", _) => {
            task.store(DESTINATION + place, NEW)?;
            (false, true, false)
        }
        ("write the sibling", Some(sibling)) => {
            sibling.task.store(sibling.address + place, NEW)?;
            (shares, false, true)
        }
        (other, _) => return Err(Failure::new(alloc::format!("{other} is not known"))),
    };
    shows("the source", task, AREA, source)?;
    shows("the destination", task, DESTINATION, destination)?;
    if let Some(sibling) = sibling {
        shows("the sibling", &sibling.task, sibling.address, other)?;
    }
    Ok(said)
}
