//! Deferred reclamation: ranges in a ring, which the server takes when it is asked to (rules 206, 207).

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::reclaim::{self, Behavior, Entry};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate, MachVmDeferredReclamationBufferFlush, VmSwapout,
};

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, Said, Task, Vm};
use crate::words::AREA;

/// Entries of a ring.
const LEN: u32 = 252;
const SIZE: u64 = 4 * PAGE_SIZE;

/// Rows of the ring.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0485" => return Some((Where::Core, make)),
        "C0486" => new_ring,
        "C0487" => |case| flushed(case, Behavior::Deallocate),
        "C0488" => |case| flushed(case, Behavior::Free),
        "C0492" => swapped_out,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn ring<V: Vm>(task: &Task<'_, V>) -> Said<u64> {
    let message = MachVmDeferredReclamationBufferAllocate {
        len: LEN,
        max_len: LEN,
    };
    task.ask(&message, &[]).map(|(reply, _)| reply.address)
}

fn make<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    Ok(ring(&case.task).map(|_| ()))
}

fn new_ring<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let said = ring(task);
    let address = said?;
    for word in [reclaim::HEAD, reclaim::BUSY, reclaim::TAIL] {
        same("a word", task.load(address + word), Ok(0))?;
    }
    let capacity = task.load(address + reclaim::CAPACITY)?;
    same("the entries", capacity & u64::from(u32::MAX), LEN.into())?;
    for number in [0, 1, u64::from(LEN) - 1] {
        let place = address + reclaim::entry_offset(number, LEN);
        same("an entry", task.load(place), Ok(0))?;
        same("its other half", task.load(place + 8), Ok(0))?;
    }
    Ok(said.map(|_| ()))
}

/// A ring with one entry: all of a written test allocation. Gives the ring.
fn freed<V: Vm>(task: &Task<'_, V>, behavior: Behavior) -> Said<u64> {
    task.allocate(AREA, SIZE, FIXED)?;
    for page in 0..4 {
        task.store(AREA + page * PAGE_SIZE, 0x60 + page)?;
    }
    let ring = ring(task)?;
    let entry = Entry {
        address: AREA,
        size: SIZE as u32,
        behavior: behavior as u32,
    };
    let [first, second] = entry.to_words();
    let place = ring + reclaim::entry_offset(0, LEN);
    task.store(place, first)?;
    task.store(place + 8, second)?;
    task.store(ring + reclaim::TAIL, 1)?;
    Ok(ring)
}

fn flushed<V: Vm>(case: &Case<'_, V>, behavior: Behavior) -> Outcome<Said> {
    let task = &case.task;
    let ring = freed(task, behavior)?;
    let count = case.words.word("n", 1)?;
    let flush = MachVmDeferredReclamationBufferFlush { count };
    let said = task.ask(&flush, &[]).map(|_| ());
    same(
        "what may be taken back",
        task.load(ring + reclaim::BUSY),
        Ok(1),
    )?;
    match behavior {
        Behavior::Deallocate => {
            holds("the memory is gone", task.at(AREA).is_none())?;
            holds("it cannot be used", task.load(AREA).is_err())?;
        }
        Behavior::Free => {
            for page in 0..4 {
                same("a page", task.load(AREA + page * PAGE_SIZE), Ok(0))?;
            }
            task.store(AREA, 1)?;
        }
    }
    Ok(said)
}

/// The footprint drops by what the ring held, and the task goes on.
fn swapped_out<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    const ALL_WORDS: u32 = 1000;
    let task = &case.task;
    freed(task, Behavior::Deallocate)?;
    let other = AREA + 8 * PAGE_SIZE;
    task.allocate(other, PAGE_SIZE, FIXED)?;
    task.store(other, 9)?;
    let before = task.vm_info(ALL_WORDS)?.phys_footprint;
    let said = task.ask(&VmSwapout {}, &[]).map(|_| ());
    let after = task.vm_info(ALL_WORDS)?.phys_footprint;
    same("the footprint", before - after, SIZE)?;
    same("the rest", task.load(other), Ok(9))?;
    Ok(said)
}
