//! Deferred reclamation: ranges in a ring, which the server takes when it is asked to (rules 206, 207).

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::reclaim::{self, Behavior, Entry};
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate, MachVmDeferredReclamationBufferFlush,
    MachVmDeferredReclamationBufferResize, VmSwapout,
};

use super::{Found, ground};
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, OVERWRITE, Said, Task, Vm};
use crate::words::{self, AREA};

/// Entries of a ring.
const LEN: u32 = 252;
const SIZE: u64 = 4 * PAGE_SIZE;
/// The setup of rows whose arguments are the words of a ring.
const WRITTEN: &str = "a ring that is written";

/// Rows of the ring.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0485" => return Some((Where::Core, make)),
        "C0486" => new_ring,
        "C0487" => |case| flushed(case, Behavior::Deallocate),
        "C0488" => |case| flushed(case, Behavior::Free),
        "C0492" => swapped_out,
        _ if row.setup == WRITTEN => written,
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

/// A ring of eight entries with these words in it, the first entry of the test allocation but for what
/// is said. One that is not to be believed costs the task its memory.
fn written<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    const FEW: u32 = 8;
    let (task, words) = (&case.task, &case.words);
    task.allocate(AREA, SIZE, FIXED)?;
    task.store(AREA, 0x60)?;
    let made = MachVmDeferredReclamationBufferAllocate {
        len: FEW,
        max_len: FEW,
    };
    let ring = task.ask(&made, &[])?.0.address;
    let entry = Entry {
        address: match words.text("address") {
            Some("RING") => ring,
            _ => words.or("address", AREA)?,
        },
        size: words.word("bytes", SIZE as u32)?,
        behavior: words.word("how", Behavior::Free as u32)?,
    };
    let place = ring + reclaim::entry_offset(0, FEW);
    for (at, word) in [
        (place, entry.to_words()[0]),
        (place + 8, entry.to_words()[1]),
        (ring + reclaim::HEAD, words.or("head", 0)?),
        (ring + reclaim::BUSY, words.or("busy", 0)?),
        (ring + reclaim::TAIL, words.or("tail", 1)?),
    ] {
        task.store(at, word)?;
    }
    match words.text("ring") {
        Some("unmapped") => task.deallocate(ring, PAGE_SIZE)?,
        Some("fresh") => task
            .allocate(ring, PAGE_SIZE, FIXED | OVERWRITE)
            .map(drop)?,
        Some(rights) => task.protect(ring, PAGE_SIZE, words::protection(rights)? as u32)?,
        None => {}
    }
    if let Some(rights) = words.text("prot") {
        task.protect(AREA, PAGE_SIZE, words::protection(rights)? as u32)?;
    }
    let said = task.unchecked(|task| match case.row.call {
        "vm_swapout" => task.ask(&VmSwapout {}, &[]).map(drop),
        "mach_vm_deferred_reclamation_buffer_resize" => {
            let resize = MachVmDeferredReclamationBufferResize { len: FEW };
            task.ask(&resize, &[]).map(drop)
        }
        _ => {
            let flush = MachVmDeferredReclamationBufferFlush { count: 1 };
            task.ask(&flush, &[]).map(drop)
        }
    });
    if said == Err(Kern::Terminated) {
        holds("its memory is gone", task.load(AREA).is_err())?;
        holds("no call is done", task.allocate(0, PAGE_SIZE, 1).is_err())?;
    }
    ground::check(case, None)?;
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
