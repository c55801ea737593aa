//! Copies whose setup is told in words: what fails and changes nothing, what is exact to the byte, and
//! pages that nobody has touched before they are copied.

use alloc::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{FIXED, READ, Said, Task, Vm};
use crate::words::AREA;

/// A second allocation, away from the first.
const OTHER: u64 = AREA + 0x20_0000;

/// Rows of vm_read, vm_write, vm_copy and their like.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0083" | "C0318" => empty_read,
        "C0084" => empty_copy,
        "C0315" => read_with_a_hole,
        "C0319" => reads_that_wrap,
        "C0320" => read_keeps_its_place,
        "C0322" => |case| write_to_bad_page(case, false),
        "C0323" => |case| write_to_bad_page(case, true),
        "C0324" => write_nothing,
        "C0325" => copy_from_a_hole,
        "C0327" => |case| copy_to_bad_page(case, false),
        "C0328" => |case| copy_to_bad_page(case, true),
        "C0331" => copy_a_lot_of_nothing,
        "C0360" => untouched_page_of_a_symmetric_copy,
        "C0376" => bytes_in_the_middle,
        "C0426" => copy_to_itself,
        "C0427" => misaligned_copy,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// Bytes that differ from their neighbours and from their like in other pages.
fn pattern(size: u64, seed: u64) -> Vec<u8> {
    (0..size)
        .map(|at| ((at ^ at >> 12).wrapping_add(seed)).wrapping_mul(31) as u8)
        .collect()
}

/// Two allocations of 4 pages with different bytes.
fn two<V: Vm>(task: &Task<'_, V>) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let (first, second) = (pattern(4 * PAGE_SIZE, 1), pattern(4 * PAGE_SIZE, 77));
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.allocate(OTHER, 4 * PAGE_SIZE, FIXED)?;
    task.put(AREA, &first)?;
    task.put(OTHER, &second)?;
    Ok((first, second))
}

/// A range holds these bytes.
#[track_caller]
fn is<V: Vm>(task: &Task<'_, V>, address: u64, bytes: &[u8]) -> Outcome {
    let found = task.bytes(address, bytes.len())?;
    let wrong = found
        .iter()
        .zip(bytes)
        .position(|(one, other)| one != other);
    same("the first wrong byte", wrong, None)
}

fn empty_read<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let address = case.words.or("address", 0x1001)?;
    for address in [address, AREA, AREA + 1, 0, u64::MAX] {
        let copy = task.copy_in(address, 0, false)?;
        same("the place of nothing", task.copy_out(&copy, 0, 1), Ok(0))?;
    }
    Ok(task
        .read_out(address, case.words.or("size", 0)?)
        .map(|_| ()))
}

fn empty_copy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, PAGE_SIZE, FIXED)?;
    let (address, size) = (case.words.or("address", 0)?, case.words.or("size", 0)?);
    task.copy(address, size, AREA)?;
    same("the destination", task.load(AREA), Ok(0))?;
    Ok(task.copy(address, size, address + PAGE_SIZE))
}

fn read_with_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    two(task)?;
    task.deallocate(AREA + 2 * PAGE_SIZE, PAGE_SIZE)?;
    Ok(task.read_out(AREA, 4 * PAGE_SIZE).map(|_| ()))
}

fn reads_that_wrap<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    let ranges = [
        (AREA, 0_u64.wrapping_sub(AREA)),
        (u64::MAX, 1),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE),
        (u64::MAX - PAGE_SIZE + 1, 1),
        (u64::MAX - 5, 10),
    ];
    let mut last = Ok(());
    for (address, size) in ranges {
        last = task
            .read_out(address, size.min(u32::MAX.into()))
            .map(|_| ());
        holds("it is refused", last.is_err())?;
    }
    Ok(last)
}

fn read_keeps_its_place<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (bytes, _) = two(task)?;
    let said = task.read_out(AREA + 1, 3 * PAGE_SIZE);
    if let Ok(address) = said {
        same("the place in the page", address % PAGE_SIZE, 1)?;
        is(task, address, &bytes[1..=3 * PAGE_SIZE as usize])?;
    }
    Ok(said.map(|_| ()))
}

/// Makes the first page at an address unmapped, or read-only.
fn spoil<V: Vm>(task: &Task<'_, V>, address: u64, read_only: bool) -> Said {
    match read_only {
        true => task.protect(address, PAGE_SIZE, READ),
        false => task.deallocate(address, PAGE_SIZE),
    }
}

fn write_to_bad_page<V: Vm>(case: &Case<'_, V>, read_only: bool) -> Outcome<Said> {
    let task = &case.task;
    let (_, bytes) = two(task)?;
    spoil(task, OTHER, read_only)?;
    let said = task.write_from(OTHER, task, AREA, 3 * PAGE_SIZE);
    is(task, OTHER + PAGE_SIZE, &bytes[PAGE_SIZE as usize..])?;
    Ok(said)
}

fn write_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (_, bytes) = two(task)?;
    let copy = task.copy_in(AREA, PAGE_SIZE, false)?;
    let said = task.write_copy(OTHER, 0, &copy);
    is(task, OTHER, &bytes)?;
    Ok(said)
}

fn copy_from_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (_, bytes) = two(task)?;
    task.deallocate(AREA + PAGE_SIZE, PAGE_SIZE)?;
    let said = task.copy(AREA, 4 * PAGE_SIZE, OTHER);
    is(task, OTHER, &bytes)?;
    Ok(said)
}

fn copy_to_bad_page<V: Vm>(case: &Case<'_, V>, read_only: bool) -> Outcome<Said> {
    let task = &case.task;
    let (_, bytes) = two(task)?;
    spoil(task, OTHER, read_only)?;
    let said = task.copy(AREA, 3 * PAGE_SIZE, OTHER);
    is(task, OTHER + PAGE_SIZE, &bytes[PAGE_SIZE as usize..])?;
    Ok(said)
}

fn copy_a_lot_of_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    two(task)?;
    Ok(task.copy(AREA, case.words.or("size", (1 << 32) - 2)?, OTHER))
}

/// A page that was never touched, then read, then written: the copy made before still reads zero
/// (rule 20).
fn untouched_page_of_a_symmetric_copy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    task.store(AREA, 0xA)?;
    let said = task.read_out(AREA, 4 * PAGE_SIZE);
    let copy = said?;
    same("the untouched page", task.load(AREA + PAGE_SIZE), Ok(0))?;
    task.store(AREA + PAGE_SIZE, 0xBAAD)?;
    same("the copy", task.load(copy + PAGE_SIZE), Ok(0))?;
    same("the touched page of the copy", task.load(copy), Ok(0xA))?;
    Ok(Ok(()))
}

fn bytes_in_the_middle<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (first, mut second) = two(task)?;
    let size = 4 * PAGE_SIZE - 8;
    let said = task.read_overwrite(AREA + 4, size, &task.port, OTHER + 4);
    same("the size", said, Ok(size))?;
    let end = 4 + size as usize;
    second[4..end].copy_from_slice(&first[4..end]);
    is(task, OTHER, &second)?;
    is(task, AREA, &first)?;
    Ok(said.map(|_| ()))
}

fn copy_to_itself<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (bytes, _) = two(task)?;
    let said = task.copy(AREA, 4 * PAGE_SIZE, AREA);
    is(task, AREA, &bytes)?;
    task.copy(AREA + 3, 10_000, AREA + 3)?;
    is(task, AREA, &bytes)?;
    Ok(said)
}

fn misaligned_copy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (first, mut second) = two(task)?;
    let said = task.copy(AREA + 3, 10_000, OTHER + 5);
    second[5..10_005].copy_from_slice(&first[3..10_003]);
    is(task, OTHER, &second)?;
    is(task, AREA, &first)?;
    Ok(said)
}
