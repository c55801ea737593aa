//! Rows that their columns say whole: one call with the arguments given, on a map with a test
//! allocation. What is not given is a good value.
//!
//! What must be so after a success follows from the arguments: an attribute that was set is reported,
//! memory that was made is there and reads zero.

use ipc_abi::layout::PAGE_SIZE;

use super::{Found, ground};
use crate::failure::{Outcome, holds, same};
use crate::run::{Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, Mapping, Said, Vm};
use crate::words::{self, AREA, Words};

/// Setups of the peers' rows that mean no more than the test allocation.
const PLAIN: &[&str] = &[
    "",
    "any",
    "empty",
    "no mapping",
    "empty map besides a test allocation (page 4096)",
    "address on an unmapped page",
    "mapped page",
    "mapped pages",
    "mapped page, parent null",
    "mapped rw page",
    "mapped rw pages, malloc-untagged",
    "mapped anonymous pages",
    "rw anonymous page, max rwx",
    "rw page (host-priv)",
    "anonymous ANYWHERE",
    "map smaller than 2^63",
    "16 pages mapped",
    "purgeable allocation",
    "internal=1 pager=null",
];

/// The arguments of calls.
const ARGUMENTS: &[&str] = &[
    "address",
    "start",
    "parent",
    "object",
    "dispositions",
    "size",
    "mask",
    "flags",
    "sync_flags",
    "offset",
    "copy",
    "cur",
    "max",
    "prot",
    "set_maximum",
    "inherit",
    "inheritance",
    "behavior",
    "permission",
    "hint",
    "source",
    "destination",
    "access",
    "attribute",
    "value",
    "control",
    "state",
    "count",
];

/// Whether the columns say all: a row of the peers may have prose in them.
fn is_plain(row: &Row) -> bool {
    let is_known = |words: &Words| words.are_all(ARGUMENTS);
    let words = Words::of(row.call, row.arguments);
    row.id.starts_with('P') || PLAIN.contains(&row.setup) && words.iter().all(is_known)
}

/// Rows of one call.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let is_known = matches!(
        row.call,
        "vm_allocate"
            | "vm_deallocate"
            | "vm_protect"
            | "vm_inherit"
            | "vm_behavior_set"
            | "vm_msync"
            | "vm_map"
            | "vm_read"
            | "vm_write"
            | "vm_copy"
            | "vm_region"
            | "vm_region_recurse"
            | "task_vm_info"
            | "mach_vm_range_create"
            | "mach_make_memory_entry"
            | "vm_machine_attribute"
            | "vm_page_query"
            | "vm_purgable_control"
            | "vm_wire"
            | "vm_remap"
            | "vm_remap_new"
            | "vm_page_range_query"
            | "mach_memory_object_memory_entry"
    );
    (is_known && is_plain(row)).then_some((Where::Both, one_call::<V>))
}

/// Lays the ground, makes the call, checks the effect.
fn one_call<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    ground::lay(case)?;
    let said = match ground::may_change(case) {
        true => case.task.unchecked(|_| call(case))?,
        false => call(case)?,
    };
    ground::check(case, said.ok().flatten())?;
    Ok(said.map(|_| ()))
}

/// Makes the call of the row; gives the address that it answers, if it answers one.
pub(super) fn call<V: Vm>(case: &Case<'_, V>) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let address = words.or("address", words.or("start", AREA)?)?;
    let size = words.or("size", PAGE_SIZE)?;
    let none = |said: Said| said.map(|()| None);
    Ok(match case.row.call {
        "vm_allocate" => allocate(case)?,
        "vm_deallocate" => none(task.deallocate(address, size)),
        "vm_protect" => protect(case, address, size)?,
        "vm_inherit" => inherit(case, address, size)?,
        "vm_behavior_set" => behave(case, address, size)?,
        "vm_msync" => {
            let flags = words.get("sync_flags")?.or(words.get("flags")?);
            none(task.msync(address, size, flags.unwrap_or(0) as u32))
        }
        "vm_map" => map(case)?,
        "vm_read" => task.read_out(address, size).map(Some),
        "vm_write" => {
            let source = words.or("source", AREA)?;
            none(task.write_from(address, task, source, size))
        }
        "vm_copy" => {
            let source = words.or("source", address)?;
            let destination = words.or("destination", address)?;
            none(task.copy(source, size, destination))
        }
        "vm_region" => match words.get("flavor")? {
            Some(flavor) => {
                let count = words.word("count", u32::MAX)?;
                task.region_of_flavor(address, flavor as u32, count)
                    .map(Some)
            }
            None => task.region(address).map(|region| Some(region.address)),
        },
        "vm_region_recurse" => {
            let (depth, count) = (words.word("depth", 0)?, words.word("count", u32::MAX)?);
            task.region_recurse(address, depth, count)
                .map(|(_, address, _)| Some(address))
        }
        "task_vm_info" => none(task.vm_info(words.word("count", u32::MAX)?).map(|_| ())),
        "mach_vm_range_create" => none(task.range_create(address, size)),
        "mach_make_memory_entry" => entry(case, size)?,
        "vm_machine_attribute" => {
            let (attribute, value) = (words.word("attribute", 1)?, words.word("value", 2)?);
            none(
                task.machine_attribute(address, size, attribute, value)
                    .map(|_| ()),
            )
        }
        "vm_remap" | "vm_remap_new" => remap(case)?,
        "vm_page_range_query" => page_range_query(case, address, size)?,
        "mach_memory_object_memory_entry" => none(
            task.object_entry(Some(&task.vm.host()), true, size, None)
                .map(|_| ()),
        ),
        "vm_wire" => none(task.wire(address, size, words.word("access", 1)?)),
        "vm_page_query" => task
            .page_query(address)
            .map(|(found, _)| Some(found.into())),
        "vm_purgable_control" => {
            let (control, state) = (words.word("control", 0)?, words.word("state", 0)?);
            none(task.purgable_control(address, control, state).map(|_| ()))
        }
        other => return Err(alloc::format!("{other} is not known").into()),
    })
}

fn allocate<V: Vm>(case: &Case<'_, V>) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let hint = words.or("hint", 0)?;
    let address = words.or("address", hint)?;
    let size = words.or("size", PAGE_SIZE)?;
    let said = task.allocate(address, size, words.word("flags", ANYWHERE)?);
    match said {
        Ok(made) if size == 0 => same("the address", made, 0)?,
        Ok(made) => {
            same("the place in a page", made % PAGE_SIZE, 0)?;
            holds("all of it is mapped", task.is_mapped(made, size))?;
            same("its first word", task.load(made), Ok(0))?;
        }
        Err(_) => {}
    }
    Ok(said.map(Some))
}

fn protect<V: Vm>(case: &Case<'_, V>, address: u64, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let protection = words.word("prot", BOTH)?;
    let maximum = words.or("set_maximum", 0)? != 0;
    let said = task.set_protection(address, size, maximum, protection);
    if said.is_ok() && size > 0 {
        let region = task.at(address);
        let found = region.map(|region| match maximum {
            true => region.max_protection,
            false => region.protection,
        });
        same("the protection", found, Some(protection & 7))?;
    }
    Ok(said.map(|()| None))
}

fn inherit<V: Vm>(case: &Case<'_, V>, address: u64, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let inheritance = words.word("inherit", 1)?;
    let said = task.inherit(address, size, inheritance);
    if said.is_ok()
        && size > 0
        && let Some(region) = task.at(address)
    {
        same("the inheritance", region.inheritance, inheritance)?;
    }
    Ok(said.map(|()| None))
}

/// VM_PROT_IS_MASK.
const IS_MASK: u32 = 0x40;

/// Behaviours up to this one are remembered, those above happen.
const LAST_HINT: u32 = 3;

fn behave<V: Vm>(case: &Case<'_, V>, address: u64, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let behavior = words.word("behavior", 0)?;
    let said = task.behave(address, size, behavior);
    if said.is_ok() && size > 0 {
        let kept = if behavior <= LAST_HINT { behavior } else { 0 };
        let found = task.at(address).map(|region| region.behavior);
        same("the behaviour", found, Some(kept))?;
    }
    Ok(said.map(|()| None))
}

/// The mapping that the words describe: anonymous, if there is no object.
pub(super) fn mapping<V: Vm>(case: &Case<'_, V>) -> Outcome<Mapping> {
    let words = &case.words;
    let usual = Mapping::anywhere(PAGE_SIZE);
    let hint = words.or("hint", 0)?;
    Ok(Mapping {
        address: words.or("address", hint)?,
        size: words.or("size", usual.size)?,
        mask: words.or("mask", 0)?,
        flags: words.word("flags", usual.flags)?,
        offset: words.or("offset", 0)?,
        copy: words.or("copy", 0)? != 0,
        cur: words.word("cur", usual.cur)?,
        max: words.word("max", usual.max)?,
        inherit: words.word("inheritance", words.word("inherit", usual.inherit)?)?,
    })
}

fn map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said<Option<u64>>> {
    let task = &case.task;
    let mapping = mapping(case)?;
    // A whole memory entry of the test allocation, with these rights.
    let entry = match case.words.text("entry") {
        Some(rights) => Some(whole_entry(case, rights)?),
        None => None,
    };
    let said = task.map(mapping, entry.as_ref());
    if let Ok(made) = said {
        holds("the mask is kept", made & mapping.mask == 0)?;
        holds("all of it is mapped", task.is_mapped(made, mapping.size))?;
        let found = task.at(made).map(|r| (r.protection, r.max_protection));
        // Of an entry, the mask bit leaves out what it does not give.
        if entry.is_none() || (mapping.cur | mapping.max) & IS_MASK == 0 {
            let right = (mapping.cur & 7, mapping.max & 7);
            same("the protections", found, Some(right))?;
        }
        let found = task.at(made).map(|region| region.inheritance);
        same("the inheritance", found, Some(mapping.inherit))?;
    }
    Ok(said.map(Some))
}

/// Remaps a range of this very map. In the peers' rows the range is at `address`.
fn remap<V: Vm>(case: &Case<'_, V>) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let (source, to) = match words.get("source")? {
        Some(source) => (source, mapping(case)?),
        None => {
            let to = mapping(case)?;
            let address = words.or("address", AREA)?;
            (address, Mapping { address: 0, ..to })
        }
    };
    let said = match case.row.call {
        "vm_remap" => task.remap(to, Some(&task.port), source),
        _ => task.remap_new(to, Some(&task.port), source),
    };
    if let Ok((made, cur, max)) = said {
        let found = task.at(made).map(|r| (r.protection, r.max_protection));
        same("the protections", found, Some((cur, max)))?;
        if case.row.call == "vm_remap_new" {
            same("those asked for", (cur, max), (to.cur, to.max))?;
        }
    }
    Ok(said.map(|(address, ..)| Some(address)))
}

/// Writes to the page behind the test allocation.
fn page_range_query<V: Vm>(
    case: &Case<'_, V>,
    address: u64,
    size: u64,
) -> Outcome<Said<Option<u64>>> {
    const UNTOUCHED: u64 = 0x7777_7777_7777_7777;
    let (task, words) = (&case.task, &case.words);
    let into = words.or("dispositions", AREA + 3 * PAGE_SIZE)?;
    let count = words.or("count", size.div_ceil(PAGE_SIZE))?;
    let can_write = task.store(into, UNTOUCHED).is_ok();
    let said = task.page_range_query(address, size, into, count);
    if can_write && (said.is_err() || size == 0 || count == 0) {
        same("what was there", task.load(into), Ok(UNTOUCHED))?;
    }
    if size == 0 {
        same("the count", said, Ok(count))?;
    }
    Ok(said.map(Some))
}

/// A memory entry of the whole test allocation.
fn whole_entry<V: Vm>(case: &Case<'_, V>, rights: &str) -> Outcome<V::Port> {
    let permission = words::protection(rights)? as u32;
    let region = case.task.region(AREA)?;
    let (entry, _) = case.task.entry(region.size, AREA, permission, None)?;
    Ok(entry)
}

fn entry<V: Vm>(case: &Case<'_, V>, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let parent = match words.text("parent") {
        None | Some("null") => None,
        Some(rights) => Some(whole_entry(case, rights)?),
    };
    let address = words.or("address", AREA)?;
    let offset = words.or("offset", address)?;
    let said = task.entry(size, offset, words.word("permission", 1)?, parent.as_ref());
    Ok(said.map(|(_, size)| Some(size)))
}
