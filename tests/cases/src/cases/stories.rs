//! Rows of our own that take more than one call: what was done before decides the answer.
//!
//! They stand where the peers' tables have gaps: every way to get at a page of a shared region,
//! states of purgeable memory one after another, what a child gets of odd memory, wirings at a limit.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::vm_wire::VmSetLimits;

use super::{Found, ground, shared};
use crate::failure::{Outcome, holds, same};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, FIXED, Mapping, OVERWRITE, READ, Said, Vm};
use crate::words::AREA;

const SIZE: u64 = 4 * PAGE_SIZE;
const PURGABLE: u32 = 2;
const PERMANENT: u32 = 0x80;
const PROT_COPY: u32 = 0x10;
const IS_MASK: u32 = 0x40;
const NAMED_REUSE: u32 = 0x8_0000;
const VM_SHARE: u32 = 0x40_0000;
const SET: u32 = 0;
const GET: u32 = 1;
const NONVOLATILE: u32 = 0;
const VOLATILE: u32 = 1;
const EMPTY: u32 = 2;

/// Rows that are told in words.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match row.setup {
        "a window on a shared region" => on_a_region,
        "purgeable memory" => purgeable,
        "a child" => of_a_child,
        "wired memory" => wired,
        "a remapping" => remapped,
        "a memory entry" => entry,
        _ => return None,
    };
    Some((Where::Both, body))
}

fn told(row: &Row) -> crate::failure::Failure {
    crate::failure::Failure::new(alloc::format!("nobody knows the story of {row:?}"))
}

/// A call on a page of a shared region that nobody may write, which stays as it was.
fn on_a_region<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    shared::shared(task, case.words.word("inherit", 1)?)?;
    let own = task.allocate(0, PAGE_SIZE, ANYWHERE)?;
    task.store(own, 1)?;
    let over = Mapping {
        address: AREA,
        flags: FIXED | OVERWRITE,
        ..Mapping::anywhere(PAGE_SIZE)
    };
    let said = match case.row.call {
        "vm_deallocate" => task.deallocate(AREA, PAGE_SIZE),
        "vm_protect" => {
            let protection = case.words.word("prot", BOTH)?;
            task.protect(AREA, PAGE_SIZE, protection)
        }
        "vm_map" => task.map(over, None).map(|_| ()),
        "vm_remap" => task.remap(over, Some(&task.port), own).map(|_| ()),
        "vm_copy" => task.copy(own, PAGE_SIZE, AREA),
        "vm_purgable_control" => task.purgable_control(AREA, GET, 0).map(|_| ()),
        "mach_make_memory_entry" => task.entry(PAGE_SIZE, AREA, BOTH, None).map(|_| ()),
        "task_create(inherit)" => {
            let child = task.fork()?;
            match case.words.word("inherit", 1)? {
                0 => same("the child's word", child.load(AREA), Ok(shared::WORD))?,
                _ => holds("the child has nothing there", child.at(AREA).is_none())?,
            }
            Ok(())
        }
        _ => return Err(told(&case.row)),
    };
    same("its word", task.load(AREA), Ok(shared::WORD))?;
    same("a write", task.store(AREA, 1), Err(Kern::ProtectionFailure))?;
    Ok(said)
}

/// Purgeable memory in one state after another.
fn purgeable<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED | PURGABLE)?;
    task.store(AREA, 0x99)?;
    let set = |state| task.purgable_control(AREA, SET, state);
    let get = || task.purgable_control(AREA, GET, 0);
    match case.row.id {
        "P1991" => {
            same("before", set(EMPTY), Ok(NONVOLATILE))?;
            same("empty to volatile", set(VOLATILE), Ok(EMPTY))?;
            same("it stays empty", get(), Ok(EMPTY))?;
            same("who wants it back hears so", set(NONVOLATILE), Ok(EMPTY))?;
            same("once", get(), Ok(NONVOLATILE))?;
            same("the memory", task.load(AREA), Ok(0))?;
        }
        "P1992" => {
            same("before", set(VOLATILE), Ok(NONVOLATILE))?;
            same("again", set(VOLATILE), Ok(VOLATILE))?;
            same("back in time", set(NONVOLATILE), Ok(VOLATILE))?;
            same("the memory", task.load(AREA), Ok(0x99))?;
        }
        "P1993" => {
            let child = task.fork()?;
            same("the child's", child.load(AREA), Ok(0x99))?;
            child.store(AREA, 1)?;
            same("the parent's", task.load(AREA), Ok(0x99))?;
            let theirs = child.purgable_control(AREA, GET, 0);
            same("the copy", theirs, Err(Kern::InvalidArgument))?;
        }
        "P1994" => {
            // A copy of it, and a copy of that (rule 28).
            let copy = Mapping {
                copy: true,
                ..Mapping::anywhere(SIZE)
            };
            let (first, ..) = task.remap(copy, Some(&task.port), AREA)?;
            let (second, ..) = task.remap(copy, Some(&task.port), first)?;
            task.store(AREA, 1)?;
            same("the first", task.load(first), Ok(0x99))?;
            task.store(first, 2)?;
            same("the second", task.load(second), Ok(0x99))?;
        }
        "P1995" => {
            same("before", set(VOLATILE), Ok(NONVOLATILE))?;
            same(
                "all of it",
                task.purgable_control(0, 2, 7).map(|_| ()),
                Ok(()),
            )?;
            same("it is empty", get(), Ok(EMPTY))?;
            same("the memory", task.load(AREA), Ok(0))?;
        }
        _ => return Err(told(&case.row)),
    }
    Ok(Ok(()))
}

/// What a child gets of memory that is not ordinary.
fn of_a_child<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    let second = AREA + PAGE_SIZE;
    match case.row.id {
        "P1996" => {
            task.protect(second, PAGE_SIZE, 0)?;
            let child = task.fork()?;
            same(
                "its rights",
                child.at(second).map(|r| r.protection),
                Some(0),
            )?;
            child.protect(second, PAGE_SIZE, READ)?;
            same("its word", child.load(second), Ok(0x71))?;
        }
        "P1997" => {
            task.protect_maximum(second, PAGE_SIZE, 0)?;
            let child = task.fork()?;
            holds("it is not there", child.at(second).is_none())?;
            same("what is beside it", child.load(AREA), Ok(0x70))?;
        }
        "P1998" => {
            // Pending copies are settled before memory is shared (rules 10, 126).
            let copy = Mapping {
                copy: true,
                ..Mapping::anywhere(SIZE)
            };
            let (other, ..) = task.remap(copy, Some(&task.port), AREA)?;
            task.inherit(AREA, SIZE, 0)?;
            let child = task.fork()?;
            child.store(AREA, 0xC)?;
            same("the parent sees it", task.load(AREA), Ok(0xC))?;
            task.store(second, 0xD)?;
            same("the child sees it", child.load(second), Ok(0xD))?;
            same("the copy does not", task.load(other), Ok(0x70))?;
            same("nor that", task.load(other + PAGE_SIZE), Ok(0x71))?;
        }
        "P1999" => {
            let mapping = Mapping {
                address: AREA + SIZE,
                flags: FIXED | PERMANENT,
                ..Mapping::anywhere(PAGE_SIZE)
            };
            task.map(mapping, None)?;
            let child = task.fork()?;
            let over = FIXED | OVERWRITE;
            let said = child.unchecked(|child| child.allocate(AREA + SIZE, PAGE_SIZE, over));
            same("it stays permanent", said, Err(Kern::NoSpace))?;
        }
        "P2000" => {
            task.inherit(second, PAGE_SIZE, 2)?;
            let child = task.fork()?;
            holds("it is not there", child.at(second).is_none())?;
            task.inherit(AREA, PAGE_SIZE, 2)?;
            same("what it has it keeps", child.load(AREA), Ok(0x70))?;
            let inherit = child.at(AREA).map(|region| region.inheritance);
            same("and how", inherit, Some(1))?;
        }
        "P2001" => {
            task.wire(AREA, SIZE, READ)?;
            task.inherit(AREA, SIZE, 0)?;
            let child = task.fork()?;
            same("the child's", child.at(AREA).map(|r| r.wired), Some(0))?;
            same("the parent's", task.at(AREA).map(|r| r.wired), Some(1))?;
            child.store(AREA, 0xC)?;
            same("one memory", task.load(AREA), Ok(0xC))?;
        }
        _ => return Err(told(&case.row)),
    }
    Ok(Ok(()))
}

fn wired<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    match case.row.id {
        "P2002" => {
            let host = task.vm.host();
            let limits = VmSetLimits {
                wired: 3,
                ..VmSetLimits::KEEP
            };
            task.ask(&limits, &[Some(&host)])?;
            let said = task.wire(AREA, SIZE, READ);
            // What is wired already costs nothing more (rule 134).
            task.wire(AREA, 3 * PAGE_SIZE, READ)?;
            task.wire(AREA, 3 * PAGE_SIZE, READ)?;
            Ok(said)
        }
        "P2003" => {
            // Wiring for reading alone settles a pending copy (rule 33).
            let copy = Mapping {
                copy: true,
                ..Mapping::anywhere(SIZE)
            };
            let (other, ..) = task.remap(copy, Some(&task.port), AREA)?;
            let said = task.wire(other, SIZE, READ);
            let depth = task.at(other).map(|region| region.wired);
            same("it is wired", depth, Some(1))?;
            task.store(AREA, 1)?;
            same("the copy", task.load(other), Ok(0x70))?;
            task.store(other, 2)?;
            same("the source", task.load(AREA), Ok(1))?;
            Ok(said)
        }
        "P2004" => {
            task.wire(AREA, SIZE, BOTH)?;
            let said = task.protect(AREA, SIZE, 0);
            same("it stays wired", task.at(AREA).map(|r| r.wired), Some(1))?;
            task.protect(AREA, SIZE, READ)?;
            same("its word", task.load(AREA), Ok(0x70))?;
            Ok(said)
        }
        "P2005" => {
            task.wire(AREA, SIZE, BOTH)?;
            task.wire(AREA, SIZE, BOTH)?;
            let said = task.deallocate(AREA + PAGE_SIZE, PAGE_SIZE);
            same("beside it", task.at(AREA).map(|r| r.wired), Some(2))?;
            holds("it is gone", task.at(AREA + PAGE_SIZE).is_none())?;
            Ok(said)
        }
        _ => Err(told(&case.row)),
    }
}

fn remapped<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    match case.row.id {
        "P2006" => {
            // Without RETURN_DATA_ADDR the start is cut off before the size is rounded.
            let bytes = Mapping::anywhere(0x20);
            let said = task.remap(bytes, Some(&task.port), AREA + 0xFF0);
            let (made, ..) = said?;
            same("its place in a page", made % PAGE_SIZE, 0)?;
            same("its word", task.load(made), Ok(0x70))?;
            let mapped = task.at(made).map(|region| region.size);
            same("its pages", mapped, Some(PAGE_SIZE))?;
            Ok(said.map(|_| ()))
        }
        "P2007" => {
            let over = Mapping {
                address: AREA,
                flags: FIXED | OVERWRITE,
                ..Mapping::anywhere(SIZE)
            };
            let said = task.remap(over, Some(&task.port), AREA);
            for page in 0..4 {
                same(
                    "a page",
                    task.load(AREA + page * PAGE_SIZE),
                    Ok(0x70 + page),
                )?;
            }
            Ok(said.map(|_| ()))
        }
        "P2008" => {
            let over = Mapping {
                address: AREA + PAGE_SIZE,
                flags: FIXED | OVERWRITE,
                copy: true,
                ..Mapping::anywhere(2 * PAGE_SIZE)
            };
            let said = task.remap(over, Some(&task.port), AREA);
            for (page, word) in [(0, 0x70), (1, 0x70), (2, 0x71), (3, 0x73)] {
                same("a page", task.load(AREA + page * PAGE_SIZE), Ok(word))?;
            }
            Ok(said.map(|_| ()))
        }
        "P2009" => {
            task.protect_maximum(AREA + PAGE_SIZE, PAGE_SIZE, READ)?;
            let said = task.remap(Mapping::anywhere(SIZE), Some(&task.port), AREA);
            let (made, cur, max) = said?;
            same("what all have", (cur, max), (READ, READ))?;
            let first = task.at(made).map(|r| (r.protection, r.max_protection));
            same("each keeps its own", first, Some((BOTH, 7)))?;
            Ok(said.map(|_| ()))
        }
        _ => Err(told(&case.row)),
    }
}

fn entry<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    ground::four_pages(task)?;
    match case.row.id {
        "P2010" => {
            let (parent, _) = task.entry(2 * PAGE_SIZE, AREA, BOTH, None)?;
            Ok(task
                .entry(3 * PAGE_SIZE, 0, READ, Some(&parent))
                .map(|_| ()))
        }
        "P2011" => {
            let (parent, _) = task.entry(2 * PAGE_SIZE, AREA, BOTH, None)?;
            let said = task.entry(PAGE_SIZE, AREA, BOTH | NAMED_REUSE, Some(&parent));
            if let Ok((made, _)) = &said {
                holds("it is another", !task.vm.is_same(&parent, made))?;
            }
            Ok(said.map(|_| ()))
        }
        "P2012" => {
            let (parent, _) = task.entry(SIZE, AREA, READ, None)?;
            let (child, _) = task.entry(SIZE, 0, BOTH | IS_MASK, Some(&parent))?;
            let mapping = Mapping {
                max: BOTH,
                ..Mapping::anywhere(SIZE)
            };
            Ok(task.map(mapping, Some(&child)).map(|_| ()))
        }
        "P2013" => {
            let (parent, _) = task.entry(SIZE, AREA, BOTH | VM_SHARE, None)?;
            Ok(task.entry(PAGE_SIZE, 0, READ, Some(&parent)).map(|_| ()))
        }
        "P2014" => {
            // Memory that a handle names outlives its mapping.
            let (parent, _) = task.entry(SIZE, AREA, BOTH, None)?;
            task.deallocate(AREA, SIZE)?;
            let mapping = Mapping {
                max: BOTH,
                ..Mapping::anywhere(SIZE)
            };
            let said = task.map(mapping, Some(&parent));
            same("its word", task.load(said? + PAGE_SIZE), Ok(0x71))?;
            Ok(said.map(|_| ()))
        }
        "P2015" => {
            task.protect(AREA, PAGE_SIZE, PROT_COPY | BOTH)?;
            let (parent, size) = task.entry(SIZE, AREA, BOTH, None)?;
            let mapping = Mapping {
                max: BOTH,
                ..Mapping::anywhere(size)
            };
            let said = task.map(mapping, Some(&parent));
            task.store(AREA, 0x11)?;
            same("one memory", task.load(said?), Ok(0x11))?;
            Ok(said.map(|_| ()))
        }
        _ => Err(told(&case.row)),
    }
}
