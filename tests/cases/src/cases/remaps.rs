//! vm_remap, entries of memory objects and proxies: rows whose setup is told in words.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;

use super::{Found, ground};
use crate::failure::{Outcome, holds, same};
use crate::pager::{DELAY, Pager};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, FIXED, Mapping, READ, Said, Task, Vm};
use crate::words::AREA;

const RETURN_DATA_ADDR: u32 = 0x10_0000;
const TAG: u32 = 0x0100_0000;
const SIZE: u64 = 4 * PAGE_SIZE;

/// Rows of remapping and of handles.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.id {
        "C0377" => through_a_read_port,
        "C0412" => remap_of_a_hole,
        "C0415" => remap_of_bytes,
        "C0416" => remap_with_a_tag,
        "C0432" | "C0433" => remap_of_no_map,
        "C0441" => entry_without_host,
        "C0481" => proxy_with_offset,
        "C0484" => beyond_a_proxy,
        "C0363" => untouched_page_of_a_remapped_source,
        _ if row.setup == "shared remap of an rwx mapping" => remap_of_rwx,
        _ => return None,
    };
    Some((Where::Both, body))
}

/// Nothing comes of a read-only port that could be written (and a copy may be written at will).
fn through_a_read_port<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let port = task.read_port()?;
    let other = Task {
        port: task.vm.fork(None)?,
        ..task.clone()
    };
    let asked = |cur, max, copy| Mapping {
        cur,
        max,
        copy,
        ..Mapping::anywhere(SIZE)
    };
    let said = other.remap_new(asked(0, 0, false), Some(&port), AREA);
    same(
        "the protections",
        said.map(|(_, cur, max)| (cur, max)),
        Ok((0, 0)),
    )?;
    let refused = other.remap_new(asked(READ, BOTH, false), Some(&port), AREA);
    holds("no writable mapping is made", refused.is_err())?;
    let refused = other.remap(asked(0, 0, false), Some(&port), AREA);
    holds("nor by vm_remap", refused.is_err())?;
    let (address, ..) = other.remap_new(asked(BOTH, BOTH, true), Some(&port), AREA)?;
    other.store(address, 1)?;
    same("the source", task.load(AREA), Ok(0x70))?;
    Ok(said.map(|_| ()))
}

fn remap_of_a_hole<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    task.deallocate(AREA + 2 * PAGE_SIZE, PAGE_SIZE)?;
    let to = Mapping {
        copy: case.words.or("copy", 0)? != 0,
        ..Mapping::anywhere(SIZE)
    };
    Ok(task.remap(to, Some(&task.port), AREA).map(|_| ()))
}

fn remap_of_bytes<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let to = Mapping {
        flags: ANYWHERE | RETURN_DATA_ADDR,
        ..Mapping::anywhere(0x20)
    };
    let said = task.remap(to, Some(&task.port), AREA + 0xFF0);
    if let Ok((address, ..)) = said {
        same("the place in the page", address % PAGE_SIZE, 0xFF0)?;
        holds(
            "both pages are mapped",
            task.is_mapped(address - 0xFF0, 2 * PAGE_SIZE),
        )?;
        same("the second", task.load(address + 0x10), Ok(0x71))?;
    }
    Ok(said.map(|_| ()))
}

fn remap_with_a_tag<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let to = Mapping {
        flags: ANYWHERE | TAG,
        ..Mapping::anywhere(SIZE)
    };
    Ok(task.remap(to, Some(&task.port), AREA).map(|_| ()))
}

/// The map in the slot is none, of either kind; or the map that is asked.
fn remap_of_no_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    let to = Mapping::anywhere(PAGE_SIZE);
    let empty = task.remap(to, None, AREA).map(|_| ());
    let wrong = task.remap(to, Some(&entry), AREA).map(|_| ());
    same("an empty slot", empty, wrong)?;
    same(
        "vm_remap_new",
        task.remap_new(to, None, AREA).map(|_| ()),
        wrong,
    )?;
    let asked = Task {
        port: entry,
        ..task.clone()
    };
    let there = asked.remap(to, Some(&task.port), AREA).map(|_| ());
    same("asked of no map", there, wrong)?;
    Ok(wrong)
}

fn entry_without_host<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let (entry, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
    let wrong = task
        .object_entry(Some(&entry), true, PAGE_SIZE, None)
        .map(|_| ());
    let none = task.object_entry(None, true, PAGE_SIZE, None).map(|_| ());
    same("an empty slot", none, wrong)?;
    Ok(none)
}

fn proxy_with_offset<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, _) = Pager::mapped(task, 2, DELAY)?;
    let good = task.proxy(Some(&pager.object), 0, 0, PAGE_SIZE);
    holds("one without is made", good.is_ok())?;
    same(
        "of nothing",
        task.proxy(None, 0, 0, PAGE_SIZE).err(),
        Some(Kern::InvalidName),
    )?;
    let wraps = task.proxy(Some(&pager.object), 0, u64::MAX - 4095, 2 * PAGE_SIZE);
    same(
        "a window that wraps",
        wraps.err(),
        Some(Kern::InvalidArgument),
    )?;
    let said = task.proxy(Some(&pager.object), PAGE_SIZE, 0, PAGE_SIZE);
    Ok(said.map(|_| ()))
}

fn beyond_a_proxy<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    let (pager, address) = Pager::mapped(task, 2, DELAY)?;
    pager.bring(task, address, 0, 0x11)?;
    let proxy = task.proxy(Some(&pager.object), 0, 0, PAGE_SIZE)?;
    let window = |size| Mapping {
        max: BOTH,
        ..Mapping::anywhere(size)
    };
    let inside = task.map(window(PAGE_SIZE), Some(&proxy))?;
    same("the page through the proxy", task.load(inside), Ok(0x11))?;
    Ok(task.map(window(2 * PAGE_SIZE), Some(&proxy)).map(|_| ()))
}

fn remap_of_rwx<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    ground::four_pages(task)?;
    task.protect(AREA, SIZE, 7)?;
    let to = Mapping {
        cur: words.word("cur", 0)?,
        max: words.word("max", 0)?,
        ..Mapping::anywhere(SIZE)
    };
    Ok(task.remap_new(to, Some(&task.port), AREA).map(|_| ()))
}

/// As C0360, with a source that is shared, so that the copy is made by a copy object (rule 20).
fn untouched_page_of_a_remapped_source<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED)?;
    task.entry(SIZE, AREA, BOTH, None)?;
    task.store(AREA, 0xA)?;
    let to = Mapping {
        copy: true,
        ..Mapping::anywhere(SIZE)
    };
    let said = task.remap(to, Some(&task.port), AREA);
    let (copy, ..) = said?;
    task.store(AREA + PAGE_SIZE, 0xBAAD)?;
    same("the source", task.load(AREA + PAGE_SIZE), Ok(0xBAAD))?;
    same("the copy", task.load(copy + PAGE_SIZE), Ok(0))?;
    same("the touched page of the copy", task.load(copy), Ok(0xA))?;
    Ok(said.map(|_| ()))
}
