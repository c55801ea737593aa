//! Codes that calls document and that no story comes by: rings that are not there or already there, shared
//! maps and their windows, rights that are missing, and limits that are reached. Nothing changes.
//!
//! The setup says what is there after `codes:`; the arguments are the call's.

use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::vm_advice::{
    MachVmDeferredReclamationBufferAllocate, MachVmDeferredReclamationBufferFlush,
    MachVmDeferredReclamationBufferResize, MachVmDeferredReclamationBufferUpdateReclaimableBytes,
    VmSwapout,
};
use ipc_protocol::vm_map::PagerTrayCreate;
use ipc_protocol::vm_share::{MachMemoryObjectMemoryEntry, MemoryObjectCreateProxy, VmMapSetJit};
use ipc_protocol::vm_wire::VmSetLimits;

use super::Found;
use crate::failure::{Failure, Outcome, same};
use crate::pager::{DELAY, Habits, Pager};
use crate::run::{Body, Case, Where};
use crate::table::Row;
use crate::vm::{ANYWHERE, BOTH, FIXED, Mapping, READ, Said, Vm};
use crate::words::AREA;

const SIZE: u64 = 4 * PAGE_SIZE;
/// Where windows on shared maps lie, in a range that is set aside.
const WINDOW: u64 = AREA + (1 << 20);

const PROT_COPY: u32 = 0x10;
const VM_COPY: u32 = 0x20_0000;

/// What a setup says, if these bodies are meant.
fn setup(row: &Row) -> Option<&'static str> {
    row.setup.strip_prefix("codes: ")
}

/// Rows of codes.
pub(super) fn body<V: Vm>(row: &Row) -> Found<V> {
    let body: Body<V> = match setup(row)? {
        "no ring" | "a ring" => ring,
        "a shared map" => shared_map,
        "a window" => window,
        "no host port" | "another port" => host_port,
        "a tray" => tray,
        "a memory object" => memory_object,
        "a pager that is gone" => without_pager,
        _ => limited,
    };
    Some((Where::Both, body))
}

fn ring<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    if setup(&case.row) == Some("a ring") {
        let made = MachVmDeferredReclamationBufferAllocate {
            len: 8,
            max_len: 16,
        };
        task.ask(&made, &[])?;
    }
    let len = words.word("len", 8)?;
    Ok(match case.row.call {
        "mach_vm_deferred_reclamation_buffer_allocate" => {
            let max_len = words.word("max_len", 16)?;
            let message = MachVmDeferredReclamationBufferAllocate { len, max_len };
            task.ask(&message, &[]).map(drop)
        }
        "mach_vm_deferred_reclamation_buffer_flush" => {
            let count = words.word("count", 1)?;
            let message = MachVmDeferredReclamationBufferFlush { count };
            task.ask(&message, &[]).map(drop)
        }
        "mach_vm_deferred_reclamation_buffer_resize" => {
            let message = MachVmDeferredReclamationBufferResize { len };
            task.ask(&message, &[]).map(drop)
        }
        "mach_vm_deferred_reclamation_buffer_update_reclaimable_bytes" => {
            let reclaimable_bytes = words.or("bytes", 0)?;
            let message =
                MachVmDeferredReclamationBufferUpdateReclaimableBytes { reclaimable_bytes };
            task.ask(&message, &[]).map(drop)
        }
        _ => task.ask(&VmSwapout {}, &[]).map(drop),
    })
}

fn shared_map<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let top = AREA + (1 << 30);
    if case.row.call == "vm_map_create" {
        let (min, max) = (words.or("min", AREA)?, words.or("max", top)?);
        return Ok(task.map_create(min, max).map(drop));
    }
    let rights = words.word("protection", READ)?;
    if words.or("task", 0)? == 1 {
        return Ok(task.map_seal(rights).map(drop));
    }
    let shared = task.map_create(AREA, top)?;
    shared.allocate(AREA, SIZE, FIXED)?;
    match case.row.call {
        "vm_map_seal" => Ok(shared.map_seal(rights).map(drop)),
        // What is sealed stays as it is.
        call => {
            shared.map_seal(BOTH)?;
            Ok(match call {
                "vm_allocate" => shared.allocate(0, PAGE_SIZE, ANYWHERE).map(drop),
                "vm_deallocate" => shared.deallocate(AREA, PAGE_SIZE),
                "vm_protect" => shared.protect(AREA, PAGE_SIZE, READ),
                "vm_inherit" => shared.inherit(AREA, PAGE_SIZE, 2),
                "vm_behavior_set" => shared.behave(AREA, PAGE_SIZE, 1),
                "vm_map" => shared.map(Mapping::anywhere(PAGE_SIZE), None).map(drop),
                "vm_copy" => shared.copy(AREA, PAGE_SIZE, AREA + 2 * PAGE_SIZE),
                "mach_vm_range_create" => shared.range_create(WINDOW, PAGE_SIZE),
                other => return Err(Failure::new(other.into())),
            })
        }
    }
}

fn window<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    let shared = task.map_create(AREA, AREA + (1 << 30))?;
    shared.allocate(AREA, SIZE, FIXED)?;
    let sealed = shared.map_seal(words.word("sealed", BOTH)?)?;
    task.range_create(WINDOW, 16 * PAGE_SIZE)?;
    task.allocate(WINDOW + 8 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    let mapping = Mapping {
        address: words.or("address", WINDOW)?,
        flags: FIXED,
        offset: words.or("offset", AREA)?,
        copy: words.or("copy", 0)? != 0,
        cur: words.word("protection", READ)?,
        max: words.word("max", READ)?,
        inherit: words.word("inherit", 1)?,
        ..Mapping::anywhere(words.or("size", PAGE_SIZE)?)
    };
    let plain = words.or("plain", 0)? == 1;
    let entry = match plain {
        true => {
            task.allocate(AREA, SIZE, FIXED)?;
            task.entry(SIZE, AREA, READ, None)?.0
        }
        false => sealed,
    };
    let said = task.map_submap(mapping, &entry);
    if said.is_ok() {
        same("what shows", task.load(mapping.address), Ok(0))?;
    }
    Ok(said)
}

fn host_port<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED)?;
    let other = (setup(&case.row) == Some("another port")).then(|| task.port.clone());
    let port = other.as_ref();
    Ok(match case.row.call {
        "vm_set_limits" => task.ask(&VmSetLimits::KEEP, &[port]).map(drop),
        "vm_map_set_jit" => task.ask(&VmMapSetJit { allowed: false }, &[port]).map(drop),
        "vm_wire" => task.wire_with(port, AREA, PAGE_SIZE, READ),
        "vm_wire_all" => task.wire_all(port, 1),
        other => return Err(Failure::new(other.into())),
    })
}

fn tray<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let slots = case.words.word("slots", 1)?;
    let said = case.task.ask(&PagerTrayCreate { slots }, &[]);
    Ok(said.map(drop))
}

/// The right that an argument names, or another.
fn right<V: Vm>(
    case: &Case<'_, V>,
    argument: &str,
    usual: Option<V::Port>,
) -> Outcome<Option<V::Port>> {
    let task = &case.task;
    Ok(match case.words.text(argument) {
        None => usual,
        Some("none") => None,
        Some("map") => Some(task.port.clone()),
        Some("copy") => Some(task.copy_in(AREA, SIZE, false)?),
        Some("entry") => Some(task.entry(SIZE, AREA, BOTH, None)?.0),
        Some("object") => Some(task.vm.object()?),
        Some("dead") => {
            let object = task.vm.object()?;
            task.vm.destroy(&object);
            Some(object)
        }
        Some(other) => return Err(Failure::new(other.into())),
    })
}

/// Handles to memory objects, with every right where one is wanted.
fn memory_object<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let (task, words) = (&case.task, &case.words);
    task.allocate(AREA, SIZE, FIXED)?;
    let (size, protection) = (
        words.or("size", PAGE_SIZE)?,
        words.word("protection", BOTH)?,
    );
    if case.row.call == "memory_object_create_proxy" {
        let entry = task.entry(SIZE, AREA, BOTH, None)?.0;
        let object = right(case, "object", Some(entry))?;
        let message = MemoryObjectCreateProxy {
            max_protection: protection,
            count: words.word("count", 1)?,
            offset: words.or("offset", 0)?,
            start: words.or("start", 0)?,
            length: size,
        };
        return Ok(task.ask(&message, &[object.as_ref()]).map(drop));
    }
    let host = right(case, "host", Some(task.vm.host()))?;
    let pager = right(case, "pager", None)?;
    let message = MachMemoryObjectMemoryEntry {
        internal: words.or("internal", 1)? != 0,
        size,
        protection,
    };
    let made = task.made(&message, &[host.as_ref(), pager.as_ref()]);
    if let (Ok((_, entry)), None) = (&made, &pager) {
        let mapping = Mapping {
            cur: protection,
            max: protection,
            ..Mapping::anywhere(PAGE_SIZE)
        };
        let at = task.map(mapping, Some(entry))?;
        if protection & READ != 0 {
            same("what it holds", task.load(at), Ok(0))?;
        }
    }
    Ok(made.map(drop))
}

/// Memory that is copied page by page, of a pager that ends before its second page came. The first was
/// written.
fn without_pager<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED)?;
    task.store(AREA, 7)?;
    let page_by_page = Habits {
        strategy: 0,
        ..DELAY
    };
    let (pager, at) = Pager::mapped(task, 2, page_by_page)?;
    pager.bring(task, at, 0, 0x66)?;
    task.store(at, 0x77)?;
    task.vm.destroy(&pager.object);
    let (size, own) = (2 * PAGE_SIZE, &task.port);
    let said = match case.row.call {
        "vm_copy" => task.copy(at + PAGE_SIZE, 8, AREA + 1),
        "vm_read_overwrite" => task
            .read_overwrite(at + PAGE_SIZE, 8, own, AREA + 1)
            .map(drop),
        "vm_write" => task.write_from(at + PAGE_SIZE + 1, task, AREA, 8),
        "vm_copyin" => task
            .copy_in(at, size, case.words.or("src_destroy", 0)? != 0)
            .map(drop),
        "vm_read" => task.read_out(at, size).map(drop),
        "vm_protect" => task.protect(at, size, BOTH | PROT_COPY),
        "vm_wire" => task.wire(at, size, READ),
        "vm_remap" => {
            let copy = Mapping {
                copy: true,
                ..Mapping::anywhere(size)
            };
            task.remap(copy, Some(own), at).map(drop)
        }
        "mach_make_memory_entry" => task.entry(size, at, READ | VM_COPY, None).map(drop),
        "task_create" => task.fork().map(drop),
        other => return Err(Failure::new(other.into())),
    };
    same("what is there", task.load(AREA), Ok(7))?;
    same("what was written", task.load(at), Ok(0x77))?;
    Ok(said)
}

/// A task that has four pages, two of them written, and may have no more of something.
fn limited<V: Vm>(case: &Case<'_, V>) -> Outcome<Said> {
    let task = &case.task;
    task.allocate(AREA, SIZE, FIXED)?;
    task.store(AREA, 7)?;
    task.store(AREA + PAGE_SIZE, 8)?;
    let free = AREA + 8 * PAGE_SIZE;
    let limits = match setup(&case.row) {
        Some("no more entries") => VmSetLimits {
            entries: 1,
            ..VmSetLimits::KEEP
        },
        Some("no more bytes") => VmSetLimits {
            size: SIZE,
            ..VmSetLimits::KEEP
        },
        Some("no wired pages") => VmSetLimits {
            wired: 0,
            ..VmSetLimits::KEEP
        },
        Some("no copies") => VmSetLimits {
            copies: 0,
            ..VmSetLimits::KEEP
        },
        Some("no calls") => VmSetLimits {
            ops: 0,
            ..VmSetLimits::KEEP
        },
        _ => return Err(Failure::new(case.row.setup.into())),
    };
    task.ask(&limits, &[Some(&task.vm.host())])?;
    let said = match case.row.call {
        "vm_allocate" => task.allocate(free, PAGE_SIZE, FIXED).map(drop),
        "vm_map" => {
            let mapping = Mapping {
                address: free,
                flags: FIXED,
                ..Mapping::anywhere(PAGE_SIZE)
            };
            task.map(mapping, None).map(drop)
        }
        "vm_protect" => task.protect(AREA + PAGE_SIZE, PAGE_SIZE, READ),
        "vm_inherit" => task.inherit(AREA + PAGE_SIZE, PAGE_SIZE, 2),
        "vm_behavior_set" => task.behave(AREA + PAGE_SIZE, PAGE_SIZE, 1),
        "vm_deallocate" => task.deallocate(AREA + PAGE_SIZE, PAGE_SIZE),
        "vm_copy" => task.copy(AREA, PAGE_SIZE, AREA + 2 * PAGE_SIZE),
        "vm_copyin" => task.copy_in(AREA, PAGE_SIZE, false).map(drop),
        "vm_read" => task.read_out(AREA, PAGE_SIZE).map(drop),
        "vm_wire" => task.wire(AREA, PAGE_SIZE, READ),
        "mach_make_memory_entry" => task.entry(PAGE_SIZE, AREA, READ, None).map(drop),
        "vm_remap" => {
            let to = Mapping::anywhere(PAGE_SIZE);
            task.remap(to, Some(&task.port), AREA).map(drop)
        }
        "mach_vm_deferred_reclamation_buffer_allocate" => {
            let ring = MachVmDeferredReclamationBufferAllocate { len: 8, max_len: 8 };
            task.ask(&ring, &[]).map(drop)
        }
        "pager_tray_create" => task.ask(&PagerTrayCreate { slots: 1 }, &[]).map(drop),
        "task_create" => task.fork().map(drop),
        other => return Err(Failure::new(other.into())),
    };
    same("what is there", task.load(AREA), Ok(7))?;
    Ok(said)
}
