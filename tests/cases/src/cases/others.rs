//! Rows that their columns say whole, of calls with other rights than the map's: copies, entries, the
//! host port, proxies, and a pager's data from a copy.

use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::copy::{CopyDescribe, CopySettle};
use ipc_protocol::memory_entry::{
    MachMemoryEntryOwnership, MachMemoryEntryPurgableControl, MemoryEntryDescribe,
};
use ipc_protocol::memory_object_control::MemoryObjectDataSupplyCopy;
use ipc_protocol::vm_share::VmRegionCreateProxy;

use super::{Found, ground};
use crate::failure::{Failure, Outcome, holds, same};
use crate::pager::{DELAY, Pager};
use crate::run::{Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, READ, Said, Vm};
use crate::words::AREA;

/// MAP_MEM_NAMED_CREATE and MAP_MEM_PURGABLE, read and write.
const PURGEABLE_ENTRY: u32 = 0x6_0003;

/// Rows of one call.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let is_known = matches!(
        row.call,
        "vm_copyin"
            | "vm_copyout"
            | "copy_describe"
            | "copy_settle"
            | "vm_read_overwrite"
            | "vm_wire_all"
            | "memory_entry_describe"
            | "mach_memory_entry_purgable_control"
            | "mach_memory_entry_ownership"
            | "vm_region_create_proxy"
            | "memory_object_create_proxy"
            | "memory_object_data_supply_copy"
    );
    (is_known && row.id.starts_with('P')).then_some((Where::Both, one_call::<V>))
}

fn one_call<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    ground::lay(case)?;
    let said = call(case)?;
    ground::check(case, said.ok().flatten())?;
    Ok(said.map(|_| ()))
}

fn call<V: Vm>(case: &Case<'_, V>) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let address = words.or("address", AREA)?;
    let size = words.or("size", PAGE_SIZE)?;
    Ok(match case.row.call {
        "vm_copyin" => copy_in(case, address, size)?,
        "vm_copyout" => {
            let (source, length) = (words.or("source", AREA)?, words.or("length", PAGE_SIZE)?);
            let copy = task.copy_in(source, length, false)?;
            let to = words.or("address", 0)?;
            let said = task.copy_out(&copy, to, words.word("flags", ANYWHERE)?);
            if said.is_err() {
                // The copy is as it was.
                let (described, _) = task.vm.call(&copy, &CopyDescribe {}, &[])?;
                same("the size of the copy", described.size, length)?;
            }
            said.map(Some)
        }
        "copy_describe" => {
            let copy = task.copy_in(address, size, false)?;
            let (said, _) = task.vm.call(&copy, &CopyDescribe {}, &[])?;
            same("the size", said.size, size)?;
            same("the place", said.offset, address % PAGE_SIZE)?;
            holds("no pager has it", !said.depends_on_pager)?;
            Ok(None)
        }
        "copy_settle" => {
            let copy = task.copy_in(address, size, false)?;
            let timeout = words.or("timeout", 0)?;
            let said = task.vm.call(&copy, &CopySettle { timeout }, &[]);
            said.map(|(reply, _)| Some(reply.pages))
        }
        "vm_read_overwrite" => {
            let data = words.or("destination", AREA + 2 * PAGE_SIZE)?;
            let said = task.read_overwrite(address, size, &task.port, data);
            said.map(Some)
        }
        "vm_wire_all" => {
            let host = (!words.has("nohost")).then(|| task.vm.host());
            let said = task.wire_all(host.as_ref(), words.word("flags", 0)?);
            said.map(|()| None)
        }
        "memory_entry_describe" => describe(case, size)?,
        "mach_memory_entry_purgable_control" => purgable_control(case, size)?,
        "mach_memory_entry_ownership" => {
            let (entry, _) = task.entry(PAGE_SIZE, AREA, READ, None)?;
            let message = MachMemoryEntryOwnership {
                ledger_tag: words.word("tag", 0)?,
                flags: words.word("flags", 0)?,
            };
            let said = task.vm.call(&entry, &message, &[Some(&task.port)]);
            said.map(|_| None)
        }
        "vm_region_create_proxy" => {
            let message = VmRegionCreateProxy {
                address,
                max_protection: words.word("max", READ)?,
                length: size,
            };
            let said = task.ask(&message, &[]);
            said.map(|(reply, _)| Some(reply.address))
        }
        "memory_object_create_proxy" => {
            let (entry, _) = task.entry(2 * PAGE_SIZE, AREA, READ, None)?;
            let (offset, start) = (words.or("offset", 0)?, words.or("start", 0)?);
            let said = task.proxy(Some(&entry), offset, start, size);
            said.map(|_| None)
        }
        "memory_object_data_supply_copy" => supply_copy(case, address, size)?,
        other => return Err(Failure::new(alloc::format!("{other} is not known"))),
    })
}

/// The copy is mapped, and its first byte compared, before and after the source has gone.
fn copy_in<V: Vm>(case: &Case<'_, V>, address: u64, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let destroys = words.or("src_destroy", 0)? != 0;
    let before = task.load(address & !7);
    let copy = match task.copy_in(address, size, destroys) {
        Ok(copy) => copy,
        Err(code) => return Ok(Err(code)),
    };
    let made = task.copy_out(&copy, 0, ANYWHERE)?;
    if size == 0 {
        same("the address of nothing", made, 0)?;
        return Ok(Ok(Some(0)));
    }
    same(
        "the place in its page",
        made % PAGE_SIZE,
        address % PAGE_SIZE,
    )?;
    same("the first word", task.load(made & !7), before)?;
    holds(
        "all of it is mapped",
        task.is_mapped(made & !(PAGE_SIZE - 1), size),
    )?;
    Ok(Ok(Some(made)))
}

fn describe<V: Vm>(case: &Case<'_, V>, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let permission = words.word("permission", READ)?;
    let offset = words.or("offset", AREA)?;
    let (entry, said) = task.entry(size, offset, permission, None)?;
    let (described, _) = task.vm.call(&entry, &MemoryEntryDescribe {}, &[])?;
    same("the size", described.size, said)?;
    same("the protection", described.protection, permission & 7)?;
    same("a copy", described.is_copy, permission & 0x20_0000 != 0)?;
    Ok(Ok(Some(described.data_offset)))
}

fn purgable_control<V: Vm>(case: &Case<'_, V>, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let permission = words.word("permission", PURGEABLE_ENTRY)?;
    let (entry, _) = task.entry(size, AREA, permission, None)?;
    let ask = |control, state| {
        let message = MachMemoryEntryPurgableControl { control, state };
        let said = task.vm.call(&entry, &message, &[]);
        said.map(|(reply, _)| reply.state)
    };
    let before = ask(1, 0);
    let said = ask(words.word("control", 0)?, words.word("state", 0)?);
    if said.is_err() {
        same("the state", ask(1, 0), before)?;
    }
    Ok(said.map(|state| Some(state.into())))
}

/// An object of four pages, the second of which is resident, is supplied from a copy of the test
/// allocation.
fn supply_copy<V: Vm>(case: &Case<'_, V>, source: u64, size: u64) -> Outcome<Said<Option<u64>>> {
    let (task, words) = (&case.task, &case.words);
    let (pager, there) = Pager::mapped(task, 4, DELAY)?;
    pager.bring(task, there + PAGE_SIZE, 1, 0x11)?;
    let message = MemoryObjectDataSupplyCopy {
        offset: words.or("offset", 0)?,
        lock_value: words.word("lock", 0)?,
        precious: words.or("precious", 0)? != 0,
    };
    let right = match words.text("right") {
        Some("map") => Some(task.port.clone()),
        Some("none") => None,
        _ => Some(task.copy_in(source, size, false)?),
    };
    let said = pager.say_with(&message, &[right.as_ref()]);
    same(
        "the page that was there",
        task.load(there + PAGE_SIZE),
        Ok(0x11),
    )?;
    if let Ok(reply) = &said {
        same("how it ended", reply.result, 0)?;
        let pages = u64::from(reply.used) + u64::from(reply.skipped_present);
        same("the pages", pages * PAGE_SIZE, size)?;
    }
    Ok(said.map(|reply| Some(reply.used.into())))
}
