//! Named entries: windows of memory that several maps share.

use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::Prot;
use ipc::mapping::Options;
use ipc::protocol::memory_entry::{MemoryEntry, MemoryEntryDescribe};
use ipc::protocol::vm_map::{MAP_MEM_NAMED_CREATE, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE};
use ipc::{Kern, Mapping, SendRight, vm};

use crate::support::{filled, set_word, word};

const READ: u32 = Prot::READ.bits() as u32;
const BOTH: u32 = Prot::DEFAULT.bits() as u32;

/// A mapping of the first bytes of an entry, with no more rights than it gives.
fn view_of(entry: &SendRight<MemoryEntry>, size: u64) -> Options<'_> {
    Options::new(size)
        .entry(entry)
        .max_protection(Prot::DEFAULT)
}

/// An entry of all of a mapping.
fn entry_of(memory: &Mapping, permission: u32) -> Result<SendRight<MemoryEntry>, Kern> {
    let made = vm::own().memory_entry(memory.size(), memory.address(), permission, None);
    made.map(|(entry, _)| entry)
}

pub(crate) fn two_tasks_see_each_others_writes() -> Outcome {
    let assistant = Assistant::start()?;
    let memory = filled(3, 60)?;
    let entry = entry_of(&memory, BOTH)?;
    let theirs = view_of(&entry, 3 * PAGE_SIZE).map_in(&assistant.started.map)?;
    for page in 0..3 {
        let place = theirs + page * PAGE_SIZE;
        check_eq!(assistant.read(place)?, 60 + page);
        assistant.write(place, 600 + page)?;
        check_eq!(word(&memory, page)?, 600 + page);
        set_word(&memory, page, page)?;
        check_eq!(assistant.read(place)?, page);
    }
    Ok(())
}

pub(crate) fn pages_first_touched_by_either_side_are_the_same() -> Outcome {
    let assistant = Assistant::start()?;
    let memory = Mapping::allocate(2 * PAGE_SIZE)?;
    let entry = entry_of(&memory, BOTH)?;
    let theirs = view_of(&entry, 2 * PAGE_SIZE).map_in(&assistant.started.map)?;
    assistant.write(theirs, 1)?;
    check_eq!(word(&memory, 0)?, 1);
    set_word(&memory, 1, 2)?;
    check_eq!(assistant.read(theirs + PAGE_SIZE)?, 2);
    Ok(())
}

pub(crate) fn an_entry_outlives_the_mapping_that_it_was_made_of() -> Outcome {
    let memory = filled(2, 5)?;
    let entry = entry_of(&memory, BOTH)?;
    drop(memory);
    let view = view_of(&entry, 2 * PAGE_SIZE).map()?;
    check_eq!((word(&view, 0)?, word(&view, 1)?), (5, 6));
    drop(entry);
    check_eq!(word(&view, 1)?, 6);
    Ok(())
}

pub(crate) fn an_entry_says_what_it_is() -> Outcome {
    let memory = filled(2, 5)?;
    let said = entry_of(&memory, READ)?.call(&MemoryEntryDescribe {})?;
    check_eq!((said.size, said.protection), (2 * PAGE_SIZE, READ));
    check!(!said.is_copy);
    let said = entry_of(&memory, BOTH | MAP_MEM_VM_COPY)?.call(&MemoryEntryDescribe {})?;
    check!(said.is_copy);
    Ok(())
}

pub(crate) fn an_entry_allows_no_more_than_it_was_made_with() -> Outcome {
    let memory = filled(1, 5)?;
    let entry = entry_of(&memory, READ)?;
    let writable = view_of(&entry, PAGE_SIZE).map();
    check_eq!(writable.err(), Some(Kern::InvalidRight));
    let later = view_of(&entry, PAGE_SIZE).protection(Prot::READ).map();
    check_eq!(later.err(), Some(Kern::InvalidRight));
    let view = Options::new(PAGE_SIZE).entry(&entry).read_only().map()?;
    check_eq!(word(&view, 0)?, 5);
    let raised = view.protect(Prot::DEFAULT);
    check_eq!(raised, Err(Kern::ProtectionFailure));
    Ok(())
}

pub(crate) fn a_private_copy_of_an_entry_is_ones_own() -> Outcome {
    let memory = filled(1, 5)?;
    let entry = entry_of(&memory, BOTH)?;
    let copy = view_of(&entry, PAGE_SIZE).copied().map()?;
    set_word(&copy, 0, 6)?;
    check_eq!((word(&memory, 0)?, word(&copy, 0)?), (5, 6));
    set_word(&memory, 0, 7)?;
    check_eq!(word(&copy, 0)?, 6);
    Ok(())
}

pub(crate) fn an_entry_is_made_of_no_more_than_the_range_allows() -> Outcome {
    let memory = filled(1, 5)?;
    vm::own().protect_maximum(memory.address(), PAGE_SIZE, Prot::READ)?;
    check_eq!(entry_of(&memory, BOTH).err(), Some(Kern::ProtectionFailure));
    check!(entry_of(&memory, READ).is_ok());
    Ok(())
}

pub(crate) fn a_window_of_an_entry_is_an_entry() -> Outcome {
    let memory = filled(4, 40)?;
    let whole = entry_of(&memory, BOTH)?;
    let map = vm::own();
    let (window, size) = map.memory_entry(2 * PAGE_SIZE, PAGE_SIZE, BOTH, Some(&whole))?;
    check_eq!(size, 2 * PAGE_SIZE);
    let view = view_of(&window, size).map()?;
    check_eq!((word(&view, 0)?, word(&view, 1)?), (41, 42));
    set_word(&view, 0, 410)?;
    check_eq!(word(&memory, 1)?, 410);
    let leaves = map.memory_entry(2 * PAGE_SIZE, 3 * PAGE_SIZE, BOTH, Some(&whole));
    check_eq!(leaves.err(), Some(Kern::InvalidArgument));
    let beyond = view_of(&window, PAGE_SIZE).offset(2 * PAGE_SIZE).map();
    check_eq!(beyond.err(), Some(Kern::InvalidArgument));
    Ok(())
}

pub(crate) fn a_window_gives_no_more_than_its_entry() -> Outcome {
    let memory = filled(1, 1)?;
    let read_only = entry_of(&memory, READ)?;
    let more = vm::own().memory_entry(PAGE_SIZE, 0, BOTH, Some(&read_only));
    check_eq!(more.err(), Some(Kern::ProtectionFailure));
    Ok(())
}

pub(crate) fn an_entry_of_fresh_memory_reads_zero() -> Outcome {
    let flags = BOTH | MAP_MEM_NAMED_CREATE;
    let (entry, size) = vm::own().memory_entry(2 * PAGE_SIZE, 0, flags, None)?;
    check_eq!(size, 2 * PAGE_SIZE);
    let (first, second) = (view_of(&entry, size).map()?, view_of(&entry, size).map()?);
    check_eq!(word(&first, 1)?, 0);
    set_word(&second, 1, 3)?;
    check_eq!(word(&first, 1)?, 3);
    Ok(())
}

pub(crate) fn an_entry_can_be_a_snapshot() -> Outcome {
    let memory = filled(2, 9)?;
    let entry = entry_of(&memory, BOTH | MAP_MEM_VM_COPY)?;
    set_word(&memory, 0, 90)?;
    let view = view_of(&entry, 2 * PAGE_SIZE).map()?;
    check_eq!((word(&view, 0)?, word(&view, 1)?), (9, 10));
    set_word(&view, 1, 100)?;
    check_eq!(word(&memory, 1)?, 10);
    Ok(())
}

pub(crate) fn an_entry_can_span_several_mappings() -> Outcome {
    let (map, address) = (vm::own(), 0x4200_0000_0000);
    let flags = ipc::abi::types::MapFlags::empty();
    map.allocate_at(address, PAGE_SIZE, flags)?;
    map.allocate_at(address + PAGE_SIZE, PAGE_SIZE, flags)?;
    map.protect(address + PAGE_SIZE, PAGE_SIZE, Prot::ALL)?;
    // SAFETY: the range was just mapped for this.
    let memory = unsafe { Mapping::from_raw(address, 2 * PAGE_SIZE) };
    set_word(&memory, 0, 1)?;
    set_word(&memory, 1, 2)?;
    let entry = entry_of(&memory, BOTH | MAP_MEM_VM_SHARE)?;
    let view = view_of(&entry, 2 * PAGE_SIZE).map()?;
    check_eq!((word(&view, 0)?, word(&view, 1)?), (1, 2));
    set_word(&view, 1, 20)?;
    check_eq!(word(&memory, 1)?, 20);
    Ok(())
}

pub(crate) fn entries_of_nothing_are_refused() -> Outcome {
    let map = vm::own();
    let nothing = map.memory_entry(0, 0, READ, None);
    check_eq!(nothing.err(), Some(Kern::InvalidArgument));
    let unmapped = map.memory_entry(PAGE_SIZE, 0x5000_0001_0000, READ, None);
    check_eq!(unmapped.err(), Some(Kern::InvalidAddress));
    let overflow = map.memory_entry(u64::MAX, PAGE_SIZE, READ, None);
    check_eq!(overflow.err(), Some(Kern::InvalidArgument));
    let memory = filled(1, 1)?;
    let flags = READ | 0x8000_0000;
    let unknown = map.memory_entry(PAGE_SIZE, memory.address(), flags, None);
    check_eq!(unknown.err(), Some(Kern::InvalidValue));
    let no_entry = crate::support::port(0)?.make_send()?.cast();
    let parent = map.memory_entry(PAGE_SIZE, 0, READ, Some(&no_entry));
    check_eq!(parent.err(), Some(Kern::InvalidArgument));
    Ok(())
}
