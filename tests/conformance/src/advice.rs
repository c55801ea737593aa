//! Advice, purgeable memory, page queries, what a task has, and deferred reclamation.

use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::abi::reclaim::Behavior;
use ipc::abi::types::purgeable::{EMPTY, NONVOLATILE, VOLATILE};
use ipc::abi::types::{Advice, MapFlags};
use ipc::protocol::vm_advice::{MATTR_CACHE, MATTR_VAL_GET, MATTR_VAL_ON};
use ipc::protocol::vm_inspect::{VM_PAGE_QUERY_PAGE_DIRTY, VM_PAGE_QUERY_PAGE_PRESENT};
use ipc::protocol::vm_map::{Map, VM_SYNC_KILLPAGES, VM_SYNC_SYNCHRONOUS};
use ipc::reclaim::Ring;
use ipc::{Kern, Mapping, SendRight, time, vm};

use crate::support::{filled, set_word, word};

/// Memory of an assistant with a number in each page.
fn theirs(assistant: &Assistant, flags: MapFlags, pages: u64) -> Outcome<u64> {
    let map = &assistant.started.map;
    let address = map.allocate_at(0, pages * PAGE_SIZE, flags | MapFlags::ANYWHERE)?;
    for page in 0..pages {
        assistant.write(address + page * PAGE_SIZE, page + 1)?;
    }
    Ok(address)
}

pub(crate) fn advice_changes_what_it_says_and_nothing_else() -> Outcome {
    let map = vm::own();
    let memory = filled(70, 1)?;
    let (address, size) = (memory.address(), memory.size());
    for advice in [Advice::DontNeed, Advice::PageOut, Advice::WillNeed] {
        map.advise(address, size, advice)?;
        check_eq!(word(&memory, 69)?, 70);
    }
    map.advise(address + PAGE_SIZE, PAGE_SIZE, Advice::Zero)?;
    map.advise(address + 2 * PAGE_SIZE, PAGE_SIZE, Advice::Free)?;
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (1, 0));
    check_eq!((word(&memory, 2)?, word(&memory, 3)?), (0, 4));
    map.advise(address, size, Advice::CanReuse)?;
    map.advise(address, size, Advice::Reusable)?;
    set_word(&memory, 5, 99)?;
    map.advise(address, size, Advice::Reuse)?;
    check_eq!(word(&memory, 5)?, 99);
    map.msync(address, size, VM_SYNC_SYNCHRONOUS)?;
    check_eq!(word(&memory, 69)?, 70);
    map.msync(address, size, VM_SYNC_KILLPAGES)?;
    check_eq!(word(&memory, 69)?, 0);
    Ok(())
}

pub(crate) fn the_cache_is_on() -> Outcome {
    let memory = Mapping::allocate(PAGE_SIZE)?;
    let ask =
        |value| vm::own().machine_attribute(memory.address(), PAGE_SIZE, (MATTR_CACHE, value));
    check_eq!(ask(MATTR_VAL_GET), Ok(MATTR_VAL_ON));
    check_eq!(ask(0), Err(Kern::InvalidArgument));
    Ok(())
}

pub(crate) fn purgeable_memory_is_emptied_once() -> Outcome {
    let assistant = Assistant::start()?;
    let map = &assistant.started.map;
    let address = theirs(&assistant, MapFlags::PURGABLE, 3)?;
    check_eq!(map.set_purgeable(address, VOLATILE), Ok(NONVOLATILE));
    check_eq!(map.set_purgeable(address, NONVOLATILE), Ok(VOLATILE));
    check_eq!(assistant.read(address + PAGE_SIZE)?, 2);
    map.set_purgeable(address, VOLATILE)?;
    map.purge_all()?;
    check_eq!(assistant.read(address + PAGE_SIZE)?, 0);
    check_eq!(map.set_purgeable(address, VOLATILE), Ok(EMPTY));
    check_eq!(map.set_purgeable(address, NONVOLATILE), Ok(EMPTY));
    check_eq!(map.get_purgeable(address), Ok(NONVOLATILE));
    let plain = theirs(&assistant, MapFlags::empty(), 1)?;
    check_eq!(
        map.set_purgeable(plain, VOLATILE),
        Err(Kern::InvalidArgument)
    );
    Ok(())
}

pub(crate) fn pages_and_counts_agree() -> Outcome {
    let assistant = Assistant::start()?;
    let map = &assistant.started.map;
    let before = map.task_vm_info()?;
    let address = theirs(&assistant, MapFlags::empty(), 5)?;
    let after = map.task_vm_info()?;
    check_eq!(after.virtual_size - before.virtual_size, 5 * PAGE_SIZE);
    check_eq!(after.phys_footprint - before.phys_footprint, 5 * PAGE_SIZE);
    check!(after.virtual_size > after.resident_size);
    let pages = map.page_range_query(address - PAGE_SIZE, 7 * PAGE_SIZE)?;
    check_eq!(pages.len(), 7);
    let written = VM_PAGE_QUERY_PAGE_PRESENT | VM_PAGE_QUERY_PAGE_DIRTY;
    check!(pages[1..6].iter().all(|page| page & written == written));
    check_eq!(map.page_query(address)?.disposition, pages[1]);
    map.deallocate(address, 5 * PAGE_SIZE)?;
    check_eq!(map.page_query(address)?.ref_count, 0);
    check!(footprint_falls_to(map, before.phys_footprint));
    Ok(())
}

/// Whether a task's footprint becomes so small: large objects end in steps.
fn footprint_falls_to(map: &SendRight<Map>, bytes: u64) -> bool {
    for _ in 0..100 {
        if map
            .task_vm_info()
            .is_ok_and(|info| info.phys_footprint <= bytes)
        {
            return true;
        }
        time::sleep(1_000_000);
    }
    false
}

pub(crate) fn a_cold_map_has_all_its_contents() -> Outcome {
    let assistant = Assistant::start()?;
    let address = theirs(&assistant, MapFlags::empty(), 20)?;
    assistant.started.map.swap_out()?;
    for page in 0..20 {
        check_eq!(assistant.read(address + page * PAGE_SIZE)?, page + 1);
    }
    Ok(())
}

pub(crate) fn what_is_put_off_is_taken_or_taken_back() -> Outcome {
    let mut ring = Ring::new(16, 16)?;
    let memory = filled(8, 1)?;
    let size = PAGE_SIZE as u32;
    let mut add = |page| {
        let address = memory.address() + page * PAGE_SIZE;
        // SAFETY: nothing refers to the page but the mapping, which is read by `word` only, and may read
        // anything there.
        unsafe { ring.add(address, size, Behavior::Free) }
    };
    let (first, second, third) = (add(0), add(3), add(5));
    let (Some(first), Some(second), Some(third)) = (first, second, third) else {
        return Err(Kern::Failure.into());
    };
    check!(ring.take_back(second));
    ring.flush(2)?;
    check!(!ring.take_back(first));
    check_eq!((word(&memory, 0)?, word(&memory, 3)?), (0, 4));
    check_eq!(ring.pending(), 1);
    check!(ring.take_back(third));
    ring.flush(16)?;
    check_eq!((word(&memory, 5)?, ring.pending()), (6, 0));
    check_eq!(Ring::new(1, 1).map(drop), Err(Kern::Failure));
    Ok(())
}

pub(crate) fn a_corrupt_ring_ends_its_task() -> Outcome {
    let assistant = Assistant::start()?;
    let map = &assistant.started.map;
    let ring = map.reclamation_allocate(8, 8)?;
    assistant.write(ring + ipc::abi::reclaim::HEAD, 5)?;
    check_eq!(map.reclamation_flush(8), Err(Kern::Terminated));
    check!(assistant.read(ring).is_err());
    check!(matches!(assistant.wait()?, ExitStatus::Exception { .. }));
    // Nobody else suffers.
    let other = Assistant::start()?;
    let address = theirs(&other, MapFlags::empty(), 1)?;
    check_eq!(other.read(address)?, 1);
    Ok(())
}
