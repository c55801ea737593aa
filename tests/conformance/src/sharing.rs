//! Memory that appears a second time: remapping, proxies, read-only map ports, copies to the byte.

use core::mem::ManuallyDrop;

use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::right::SpecialPort;
use ipc::abi::types::{Inherit, MapFlags, Prot};
use ipc::mapping::Options;
use ipc::protocol::vm_map::{
    MAP_MEM_NAMED_CREATE, MAP_MEM_NAMED_REUSE, MAP_MEM_ONLY, MAP_MEM_USE_DATA_ADDR,
    MAP_MEM_VM_COPY, VmMap,
};
use ipc::protocol::vm_share::{VmRemap, VmRemapNew};
use ipc::vm_read::ReadEntry;
use ipc::{Kern, Mapping, SendRight, Untyped, vm};

use crate::support::{filled, set_word, word};

const READ: u32 = Prot::READ.bits() as u32;
const BOTH: u32 = Prot::DEFAULT.bits() as u32;
const ALL: u32 = Prot::ALL.bits() as u32;

/// A range anywhere.
const fn range(source: u64, size: u64, copy: bool) -> VmRemap {
    VmRemap {
        address: 0,
        size,
        mask: 0,
        flags: MapFlags::ANYWHERE.bits(),
        source,
        copy,
        inheritance: Inherit::Copy as u32,
    }
}

const fn page_with(source: u64, copy: bool, protection: u32, max_protection: u32) -> VmRemapNew {
    VmRemapNew {
        address: 0,
        size: PAGE_SIZE,
        mask: 0,
        flags: MapFlags::ANYWHERE.bits(),
        source,
        copy,
        protection,
        max_protection,
        inheritance: Inherit::Copy as u32,
    }
}

/// What was just mapped here, to be unmapped when dropped.
fn view(address: u64, size: u64) -> Mapping {
    // SAFETY: the range was just mapped for the caller, and nothing else knows it.
    unsafe { Mapping::from_raw(address, size) }
}

pub(crate) fn a_range_of_another_task_is_shared_or_copied() -> Outcome {
    let assistant = Assistant::start()?;
    let memory = filled(3, 60)?;
    let their_map = &assistant.started.map;
    let own = vm::own();
    let shared = their_map.remap(&range(memory.address(), 3 * PAGE_SIZE, false), &own)?;
    let copied = their_map.remap(&range(memory.address(), 3 * PAGE_SIZE, true), &own)?;
    check_eq!((shared.protection, shared.max_protection), (BOTH, ALL));
    assistant.write(shared.address + PAGE_SIZE, 600)?;
    check_eq!(word(&memory, 1)?, 600);
    set_word(&memory, 0, 61)?;
    check_eq!(assistant.read(shared.address)?, 61);
    check_eq!(assistant.read(copied.address)?, 60);
    check_eq!(assistant.read(copied.address + PAGE_SIZE)?, 61);
    assistant.write(copied.address + 2 * PAGE_SIZE, 7)?;
    check_eq!(word(&memory, 2)?, 62);
    // And back: what they map of ours is ours again.
    let back = own.remap(&range(shared.address, 3 * PAGE_SIZE, false), their_map)?;
    let back = view(back.address, 3 * PAGE_SIZE);
    set_word(&back, 2, 99)?;
    check_eq!(word(&memory, 2)?, 99);
    Ok(())
}

pub(crate) fn a_remapping_is_all_or_nothing() -> Outcome {
    let own = vm::own();
    let memory = filled(2, 1)?;
    let entries = own.statistics()?.entries;
    let hole = own.remap(&range(memory.address(), 1 << 40, false), &own);
    check_eq!(hole.err(), Some(Kern::InvalidAddress));
    let tagged = VmRemap {
        flags: MapFlags::ANYWHERE.bits() | 5 << 24,
        ..range(memory.address(), PAGE_SIZE, false)
    };
    check_eq!(own.remap(&tagged, &own).err(), Some(Kern::InvalidArgument));
    for (source, size) in [
        (memory.address(), 0),
        (u64::MAX, 2),
        (0x1000, u64::MAX - 0xFFF),
    ] {
        let said = own.remap(&range(source, size, false), &own);
        check_eq!(said.err(), Some(Kern::InvalidArgument));
    }
    let taken = VmRemap {
        address: memory.address(),
        flags: 0,
        ..range(memory.address(), PAGE_SIZE, true)
    };
    check_eq!(own.remap(&taken, &own).err(), Some(Kern::NoSpace));
    check!(own.statistics()?.entries <= entries + 2);
    Ok(())
}

pub(crate) fn a_remapping_to_the_byte_covers_every_page() -> Outcome {
    let own = vm::own();
    let memory = filled(2, 1)?;
    let request = VmRemap {
        flags: MapFlags::ANYWHERE.union(MapFlags::RETURN_DATA_ADDR).bits(),
        ..range(memory.address() + 0xFF0, 0x20, false)
    };
    let mapped = own.remap(&request, &own)?;
    check_eq!(mapped.address % PAGE_SIZE, 0xFF0);
    let pages = view(mapped.address - 0xFF0, 2 * PAGE_SIZE);
    check_eq!((word(&pages, 0)?, word(&pages, 1)?), (1, 2));
    Ok(())
}

pub(crate) fn a_read_only_port_lets_a_map_be_read() -> Outcome {
    let own = vm::own();
    let memory = filled(1, 5)?;
    let at = memory.address();
    let port = own.read_port()?;
    let none = own.remap_new(&page_with(at, false, 0, 0), &port)?;
    check_eq!((none.protection, none.max_protection), (0, 0));
    let none = view(none.address, PAGE_SIZE);
    check_eq!(none.protect(Prot::READ), Err(Kern::ProtectionFailure));
    let seen = own.remap_new(&page_with(at, false, READ, READ), &port)?;
    check_eq!(word(&view(seen.address, PAGE_SIZE), 0)?, 5);
    for (protection, max) in [(READ, BOTH), (BOTH, BOTH), (0, 4)] {
        let said = own.remap_new(&page_with(at, false, protection, max), &port);
        check_eq!(said.err(), Some(Kern::InvalidArgument));
    }
    let copied = own.remap_new(&page_with(at, true, BOTH, BOTH), &port)?;
    let copied = view(copied.address, PAGE_SIZE);
    set_word(&copied, 0, 6)?;
    check_eq!(word(&memory, 0)?, 5);
    // Questions and copies come through the port, nothing else does.
    check_eq!(port.region(at)?.address, own.region(at)?.address);
    let read = port.read(at, PAGE_SIZE)?;
    check_eq!(word(&view(read, PAGE_SIZE), 0)?, 5);
    for refused in [
        port.protect(at, PAGE_SIZE, Prot::NONE),
        port.deallocate(at, PAGE_SIZE),
        port.copy_in(at, PAGE_SIZE, true).map(drop),
        port.write_bytes(at, &[1]),
        port.create_task(true).map(drop),
    ] {
        check_eq!(refused, Err(Kern::InvalidArgument));
    }
    check_eq!(word(&memory, 0)?, 5);
    // Another right to it is one to the same port, and one that goes takes none along.
    drop(own.read_port()?);
    check_eq!(port.region(at)?.address, own.region(at)?.address);
    Ok(())
}

pub(crate) fn a_read_only_port_ends_with_its_map() -> Outcome {
    let assistant = Assistant::start()?;
    let port = assistant.started.map.read_port()?;
    check!(port.region(0).is_ok());
    drop(assistant);
    check!(crate::support::until(|| port.region(0).is_err()));
    Ok(())
}

pub(crate) fn wanted_protections_are_within_those_of_the_source() -> Outcome {
    let own = vm::own();
    let memory = filled(1, 5)?;
    let at = memory.address();
    for (protection, max) in [(3, 1), (1, 0), (2, 1)] {
        let said = own.remap_new(&page_with(at, false, protection, max), &own);
        check_eq!(said.err(), Some(Kern::InvalidArgument));
    }
    own.protect_maximum(at, PAGE_SIZE, Prot::READ)?;
    let said = own.remap_new(&page_with(at, false, READ, BOTH), &own);
    check_eq!(said.err(), Some(Kern::ProtectionFailure));
    let said = own.remap_new(&page_with(at, true, BOTH, BOTH), &own)?;
    set_word(&view(said.address, PAGE_SIZE), 0, 6)?;
    check_eq!(word(&memory, 0)?, 5);
    Ok(())
}

pub(crate) fn write_and_execute_at_once_is_a_permission_of_the_map() -> Outcome {
    let host = SendRight::<Untyped>::special(SpecialPort::HostControl)?;
    let assistant = Assistant::start()?;
    let map = &assistant.started.map;
    let at = map.allocate(PAGE_SIZE)?;
    map.protect(at, PAGE_SIZE, Prot::ALL)?;
    map.protect(at, PAGE_SIZE, Prot::DEFAULT)?;
    let no_host = ManuallyDrop::new(ipc::task::own()?);
    check_eq!(map.set_jit(&no_host, false), Err(Kern::InvalidHost));
    map.set_jit(&host, false)?;
    let denied = Err(Kern::ProtectionFailure);
    check_eq!(map.protect(at, PAGE_SIZE, Prot::ALL), denied);
    let request = VmMap {
        protection: ALL,
        ..VmMap::anywhere(PAGE_SIZE)
    };
    let said = map.map(&request, ipc::right::Passed::NONE);
    check_eq!(said.err(), Some(Kern::ProtectionFailure));
    let said = map.remap_new(&page_with(at, false, BOTH, ALL), map)?;
    check_eq!(said.max_protection, ALL);
    map.set_jit(&host, true)?;
    check_eq!(map.protect(at, PAGE_SIZE, Prot::ALL), Ok(()));
    Ok(())
}

pub(crate) fn an_entry_begins_at_a_byte() -> Outcome {
    let own = vm::own();
    let memory = filled(2, 1)?;
    let permission = BOTH | MAP_MEM_USE_DATA_ADDR | MAP_MEM_VM_COPY;
    let (entry, size) = own.memory_entry(0x20, memory.address() + 0xFF0, permission, None)?;
    check_eq!(size, 0xFF0 + 0x20);
    check_eq!(entry.describe()?.data_offset, 0xFF0);
    let address = Options::new(0x10)
        .entry(&entry)
        .offset(0x10)
        .max_protection(Prot::DEFAULT)
        .flags(MapFlags::RETURN_DATA_ADDR)
        .map_in(&own)?;
    check_eq!(address % PAGE_SIZE, 0);
    check_eq!(word(&view(address, PAGE_SIZE), 0)?, 2);
    Ok(())
}

pub(crate) fn success_without_an_entry_has_an_empty_slot() -> Outcome {
    let own = vm::own();
    let (none, size) = own.make_memory_entry(0, 0, READ | MAP_MEM_NAMED_CREATE, None)?;
    check_eq!((none.is_none(), size), (true, 0));
    let (entry, _) = own.memory_entry(PAGE_SIZE, 0, BOTH | MAP_MEM_NAMED_CREATE, None)?;
    let (none, _) = own.make_memory_entry(PAGE_SIZE, 0, READ | MAP_MEM_ONLY, Some(&entry))?;
    check!(none.is_none());
    Ok(())
}

pub(crate) fn an_entry_made_again_is_the_same_and_stays_while_one_right_is_left() -> Outcome {
    let own = vm::own();
    let memory = filled(1, 5)?;
    let (entry, _) = own.memory_entry(PAGE_SIZE, memory.address(), BOTH, None)?;
    let permission = BOTH | MAP_MEM_NAMED_REUSE;
    let (again, _) = own.memory_entry(PAGE_SIZE, memory.address(), permission, Some(&entry))?;
    check_eq!(again.name(), entry.name());
    drop(entry);
    check_eq!(again.describe()?.size, PAGE_SIZE);
    let seen = Options::new(PAGE_SIZE)
        .entry(&again)
        .max_protection(Prot::DEFAULT)
        .map()?;
    check_eq!(word(&seen, 0)?, 5);
    drop(again);
    check_eq!(word(&seen, 0)?, 5);
    Ok(())
}

pub(crate) fn proxies_show_less_at_each_level() -> Outcome {
    let own = vm::own();
    let memory = filled(4, 10)?;
    let (whole, start) = own.region_proxy(memory.address(), Prot::DEFAULT, 4 * PAGE_SIZE)?;
    check_eq!(start, memory.address());
    let whole: SendRight<ipc::protocol::memory_object::MemoryObject> = whole.cast();
    let make =
        |from, start, size, rights| own.create_proxy(rights, &[from], &[0], &[start], &[size]);
    let outer = make(&whole, PAGE_SIZE, 2 * PAGE_SIZE, Prot::READ)?.cast();
    let inner = make(&outer, PAGE_SIZE, PAGE_SIZE, Prot::ALL)?;
    let seen = Options::new(PAGE_SIZE).entry(&inner).read_only().map()?;
    check_eq!(word(&seen, 0)?, 12);
    let more = Options::new(2 * PAGE_SIZE).entry(&inner).read_only().map();
    check_eq!(more.err(), Some(Kern::InvalidArgument));
    let write = Options::new(PAGE_SIZE).entry(&inner).map();
    check_eq!(write.err(), Some(Kern::InvalidRight));
    let two = own.create_proxy(Prot::READ, &[&whole], &[0, 0], &[0], &[PAGE_SIZE]);
    check_eq!(two.err(), Some(Kern::InvalidArgument));
    let offset = own.create_proxy(Prot::READ, &[&whole], &[PAGE_SIZE], &[0], &[PAGE_SIZE]);
    check_eq!(offset.err(), Some(Kern::InvalidArgument));
    let nothing = own.region_proxy(u64::MAX - 0xFFF, Prot::READ, PAGE_SIZE);
    check_eq!(nothing.err(), Some(Kern::NoSpace));
    Ok(())
}

pub(crate) fn an_entry_of_fresh_memory_is_made_with_the_host_port() -> Outcome {
    let host = SendRight::<Untyped>::special(SpecialPort::HostControl)?;
    let own = vm::own();
    let no_host = ManuallyDrop::new(ipc::task::own()?);
    for (host, size, code) in [
        (&*no_host, PAGE_SIZE, Kern::InvalidHost),
        (&host, 0, Kern::InvalidArgument),
        (&host, u64::MAX, Kern::InvalidArgument),
    ] {
        let said = own.memory_object_entry(host, None, size, Prot::DEFAULT);
        check_eq!(said.err(), Some(code));
    }
    let entry = own.memory_object_entry(&host, None, PAGE_SIZE, Prot::DEFAULT)?;
    let options = || {
        Options::new(PAGE_SIZE)
            .entry(&entry)
            .max_protection(Prot::DEFAULT)
    };
    let (one, two) = (options().map()?, options().map()?);
    set_word(&one, 0, 8)?;
    check_eq!(word(&two, 0)?, 8);
    // It is copied by a copy object.
    let copy = options().copied().map()?;
    set_word(&two, 0, 9)?;
    check_eq!((word(&one, 0)?, word(&copy, 0)?), (9, 8));
    Ok(())
}

pub(crate) fn reading_and_writing_have_their_codes() -> Outcome {
    let own = vm::own();
    let memory = filled(3, 1)?;
    let at = memory.address();
    check_eq!(own.read(0x1001, 0), Ok(0));
    check_eq!(own.read(0x1001, 1 << 32), Err(Kern::InvalidArgument));
    check_eq!(
        own.read(u64::MAX - 0xFFF, PAGE_SIZE),
        Err(Kern::InvalidAddress)
    );
    check_eq!(own.read(0x5000_0001_0000, 8), Err(Kern::InvalidAddress));
    let read = own.read(at + 1, 2 * PAGE_SIZE)?;
    check_eq!(read % PAGE_SIZE, 1);
    let pages = view(read - 1, 3 * PAGE_SIZE);
    check_eq!(
        (word(&pages, 1)?, own.region(read)?.max_protection),
        (2, ALL)
    );
    own.protect(at + PAGE_SIZE, PAGE_SIZE, Prot::NONE)?;
    check_eq!(own.read(at, 3 * PAGE_SIZE), Err(Kern::ProtectionFailure));
    let said = own.write_from(at, pages.address(), 2 * PAGE_SIZE as u32);
    check_eq!(said, Err(Kern::ProtectionFailure));
    check_eq!(
        own.write_from(at, 0x5000_0001_0000, 8),
        Err(Kern::InvalidAddress)
    );
    check_eq!(own.write_from(1, 1, 0), Ok(()));
    check_eq!(
        own.write_from(u64::MAX - 0xFFF, at, 4096),
        Err(Kern::InvalidAddress)
    );
    own.write_from(at + 4, pages.address() + PAGE_SIZE, 8)?;
    own.protect(at + PAGE_SIZE, PAGE_SIZE, Prot::DEFAULT)?;
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (1 | 2 << 32, 2));
    check_eq!(own.read_into(at, 0, 1), Ok(0));
    check_eq!(own.read_into(at + PAGE_SIZE, 8, at), Ok(8));
    check_eq!(word(&memory, 0)?, 2);
    Ok(())
}

pub(crate) fn a_list_is_read_past_its_failures() -> Outcome {
    let own = vm::own();
    let memory = filled(2, 1)?;
    let slot = |address, size| ReadEntry { address, size };
    let (first, hole) = (slot(memory.address(), 8), slot(0x5000_0001_0000, 8));
    let second = slot(memory.address() + PAGE_SIZE, 8);
    let mut list = [first, hole, slot(1, 0), second];
    check_eq!(own.read_list(&mut list), Ok(()));
    check_eq!((list[1], list[2]), (slot(0, 0), slot(0, 0)));
    check_eq!((list[0].size, list[3].size), (8, 8));
    check_eq!(word(&view(list[3].address, PAGE_SIZE), 0)?, 2);
    check_eq!(word(&view(list[0].address, PAGE_SIZE), 0)?, 1);
    let mut list = [first, hole, slot(0, 0)];
    check_eq!(own.read_list(&mut list), Err(Kern::InvalidAddress));
    check_eq!(word(&view(list[0].address, PAGE_SIZE), 0)?, 1);
    let mut long = [slot(0, 0); 257];
    check_eq!(own.read_list(&mut long), Err(Kern::InvalidArgument));
    check_eq!(own.read_list(&mut long[..256]), Ok(()));
    Ok(())
}
