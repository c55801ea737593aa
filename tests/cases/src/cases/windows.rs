//! Windows of memory entries whose ends lie inside pages: which part of the source is mapped, and
//! where in its page the answered address is.
//!
//! The setup says the entry (`memory entry of [0x3f80,+0x4100) ..., flags VM_COPY|USE_DATA_ADDR`), the
//! arguments the window, the effect the low bits of the address. With RETURN_DATA_ADDR the answer is
//! the byte, and offsets count from the entry's first byte if it was made with USE_DATA_ADDR; without,
//! they count from its first page, and the answer is a page (rules 101, 102).

use alloc::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;

use super::Found;
use crate::failure::{Failure, Outcome, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, FIXED, Mapping, Said, Vm};
use crate::words::{self, AREA};

/// Bytes of the filled area.
const FILLED: u64 = 48 << 10;
const RETURN_DATA_ADDR: u32 = 0x10_0000;
const USE_DATA_ADDR: u32 = 0x10_0000;

/// Rows of mapped windows.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0305" | "C0308" => whole_or_nothing,
        "C0365" => beyond_the_entry,
        _ if row.setup.starts_with("memory entry of [") => window,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// The byte at an offset of the filled area.
fn byte_at(offset: u64) -> u8 {
    (offset ^ offset >> 8).wrapping_mul(167) as u8
}

fn bytes_at(offset: u64, count: u64) -> Vec<u8> {
    (offset..offset + count).map(byte_at).collect()
}

/// An entry of part of a filled area: as `[offset,+size)` and flags say.
fn entry_of<V: Vm>(case: &Case<'_, V>, (offset, size): (u64, u64), flags: u32) -> Outcome<V::Port> {
    let task = &case.task;
    task.allocate(AREA, FILLED, FIXED)?;
    task.put(AREA, &bytes_at(0, FILLED))?;
    let (entry, _) = task.entry(size, AREA + offset, BOTH | flags, None)?;
    Ok(entry)
}

/// The range and flags that a setup names.
fn described(setup: &str) -> Option<((u64, u64), u32)> {
    let (_, rest) = setup.split_once('[')?;
    let (range, rest) = rest.split_once(')')?;
    let (offset, size) = range.split_once(",+")?;
    let (_, flags) = rest.split_once("flags ")?;
    let flags = match flags {
        "(none)" => 0,
        flags => words::protection(flags).ok()?,
    };
    let number = |text| words::value(text, &[]).ok();
    Some(((number(offset)?, number(size)?), flags as u32))
}

fn window<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let Some((range, flags)) = described(case.row.setup) else {
        return Err(Failure::new("the setup does not read".into()));
    };
    let entry = entry_of(case, range, flags)?;
    let (offset, size) = (words.or("offset", 0)?, words.or("size", 0)?);
    let is_exact = !case.row.arguments.contains("no RETURN_DATA_ADDR");
    let mapping = Mapping {
        offset,
        copy: words.or("copy", 0)? != 0,
        flags: ANYWHERE | if is_exact { RETURN_DATA_ADDR } else { 0 },
        max: BOTH,
        ..Mapping::anywhere(size)
    };
    let said = task.map(mapping, Some(&entry));
    if let Ok(address) = said {
        let start = match flags & USE_DATA_ADDR != 0 && is_exact {
            true => range.0,
            false => range.0 & !(PAGE_SIZE - 1),
        };
        let byte = start + offset;
        let first = match is_exact {
            true => byte,
            false => byte & !(PAGE_SIZE - 1),
        };
        let low = match case.row.effect.split_once("low bits ") {
            Some((_, rest)) => {
                let text = rest.split(',').next().unwrap_or_default();
                words::value(text, &[])?
            }
            None => 0,
        };
        same("the place in the page", address % PAGE_SIZE, low)?;
        let found = task.bytes(address, size as usize)?;
        same("the data", found == bytes_at(first, size), true)?;
        task.put(address, &[!byte_at(first)])?;
        let source = task.bytes(AREA + first, 1)?;
        same("the source after a write", source, bytes_at(first, 1))?;
    }
    Ok(said.map(|_| ()))
}

/// A size that rounds to nothing, and a window whose end does.
fn whole_or_nothing<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let flags = words::protection("VM_COPY|USE_DATA_ADDR")? as u32;
    let entry = entry_of(case, (0x3F80, 0x4100), flags)?;
    let mapping = Mapping {
        offset: words.or("offset", 0)?,
        flags: ANYWHERE
            | if words.has("RETURN_DATA_ADDR") {
                RETURN_DATA_ADDR
            } else {
                0
            },
        max: BOTH,
        ..Mapping::anywhere(words.or("size", 0)?)
    };
    Ok(task.map(mapping, Some(&entry)).map(|_| ()))
}

fn beyond_the_entry<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let entry = entry_of(case, (0, 2 * PAGE_SIZE + 1), 0)?;
    let mapping = Mapping {
        offset: words.or("offset", 0)?,
        max: BOTH,
        ..Mapping::anywhere(words.or("size", 0)?)
    };
    Ok(task.map(mapping, Some(&entry)).map(|_| ()))
}
