//! Memory that stays resident: what wiring needs, what waits for it, and what it leaves behind.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::time::Duration;

use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::right::Name;
use ipc::abi::right::SpecialPort;
use ipc::abi::types::{CopyStrategy, MapFlags, Prot};
use ipc::protocol::copy::CopyObject;
use ipc::protocol::vm_map::Map;
use ipc::protocol::vm_wire::{VM_WIRE_CURRENT, VM_WIRE_FUTURE, VmSetLimits};
use ipc::thread::JoinHandle;
use ipc::{Kern, SendRight, Untyped, trap, vm};

use crate::pager::{PLAIN, Ready, Scripted};
use crate::support::{filled, set_word, spawn_waiting, until, word};

const RW: Prot = Prot::DEFAULT;

fn host() -> Result<SendRight<Untyped>, Kern> {
    SendRight::special(SpecialPort::HostControl)
}

fn wirings(map: &SendRight<Map>, address: u64) -> Result<u32, Kern> {
    Ok(map.region(address)?.user_wired_count)
}

/// A call on a map in a thread of its own, which waits when this returns.
fn later(
    map: &SendRight<Map>,
    call: impl FnOnce(&SendRight<Map>) -> Result<(), Kern> + Send + 'static,
) -> Outcome<JoinHandle<Result<(), Kern>>> {
    let name = map.name();
    spawn_waiting(move || call(&ManuallyDrop::new(SendRight::from_name(name))))
}

/// Has a thread wire memory that is not there yet, with the host port of this name.
fn wire_later(
    map: &SendRight<Map>,
    host: Name,
    at: u64,
    size: u64,
) -> Outcome<JoinHandle<Result<(), Kern>>> {
    later(map, move |map| {
        let host = ManuallyDrop::new(SendRight::from_name(host));
        map.wire(&host, at, size, RW)
    })
}

pub(crate) fn wiring_needs_the_host_port_and_sound_arguments() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let memory = filled(2, 1)?;
    let at = memory.address();
    let task = ManuallyDrop::new(ipc::task::own()?);
    check_eq!(map.wire(&task, at, PAGE_SIZE, RW), Err(Kern::InvalidHost));
    check_eq!(map.wire(&host, 0x1001, 0, RW), Ok(()));
    for access in [RW, Prot::NONE] {
        for (address, size) in [
            (1, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX - 0xFFF, 1),
            (PAGE_SIZE, u64::MAX - 0xFFF),
        ] {
            let refused = map.wire(&host, address, size, access);
            check_eq!((address, refused), (address, Err(Kern::InvalidArgument)));
        }
    }
    check_eq!(map.wire_all(&host, 4), Err(Kern::InvalidArgument));
    check_eq!(wirings(&map, at)?, 0);
    Ok(())
}

pub(crate) fn wirings_nest() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let memory = filled(4, 1)?;
    let at = memory.address();
    for count in 1..=2 {
        map.wire(&host, at + PAGE_SIZE, 2 * PAGE_SIZE, RW)?;
        check_eq!(wirings(&map, at + PAGE_SIZE)?, count);
    }
    check_eq!(wirings(&map, at)?, 0);
    for count in [1, 0, 0] {
        map.unwire(&host, at, 4 * PAGE_SIZE)?;
        check_eq!(wirings(&map, at + PAGE_SIZE)?, count);
    }
    check_eq!(word(&memory, 2)?, 3);
    Ok(())
}

pub(crate) fn wired_memory_is_touched_without_a_zero_fill() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let pages = 100;
    let at = map.allocate(pages * PAGE_SIZE)?;
    map.wire(&host, at, pages * PAGE_SIZE, RW)?;
    let before = map.statistics()?.zero_fills;
    for page in 0..pages {
        // SAFETY: the memory was just allocated, and nothing else points into it.
        unsafe { guest_test::touch::write(at + page * PAGE_SIZE, page) };
    }
    check_eq!(map.statistics()?.zero_fills, before);
    check_eq!(map.region(at)?.size, pages * PAGE_SIZE);
    map.deallocate(at, pages * PAGE_SIZE)?;
    check_eq!(
        map.wire(&host, at, PAGE_SIZE, RW),
        Err(Kern::InvalidAddress)
    );
    Ok(())
}

pub(crate) fn a_hole_or_too_little_protection_wires_nothing() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let at = map.allocate(4 * PAGE_SIZE)?;
    map.deallocate(at + 2 * PAGE_SIZE, PAGE_SIZE)?;
    map.protect(at + 3 * PAGE_SIZE, PAGE_SIZE, Prot::READ)?;
    let hole = map.wire(&host, at, 3 * PAGE_SIZE, Prot::READ);
    check_eq!(hole, Err(Kern::InvalidAddress));
    let rights = map.wire(&host, at + 3 * PAGE_SIZE, PAGE_SIZE, RW);
    check_eq!(rights, Err(Kern::ProtectionFailure));
    let unwired = map.unwire(&host, at + 2 * PAGE_SIZE, PAGE_SIZE);
    check_eq!(unwired, Err(Kern::InvalidAddress));
    for page in [0, 1, 3] {
        check_eq!(wirings(&map, at + page * PAGE_SIZE)?, 0);
    }
    map.deallocate(at, 4 * PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_child_has_an_unwired_copy_of_wired_memory() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let memory = filled(3, 7)?;
    let at = memory.address();
    map.wire(&host, at, 3 * PAGE_SIZE, RW)?;
    let child = map.create_task(true)?;
    check_eq!(wirings(&child.map, at)?, 0);
    set_word(&memory, 1, 99)?;
    let copy = child.map.copy_in(at + PAGE_SIZE, 8, false)?;
    let landed = map.copy_out(&copy, None)?;
    check_eq!(guest_test::touch::read(landed), 8);
    map.deallocate(landed, 8)?;
    check_eq!(wirings(&map, at)?, 1);
    ipc::task::terminate(&child.task, 0)?;
    map.unwire(&host, at, 3 * PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn writing_over_wired_memory_keeps_it_wired() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let memory = filled(2, 7)?;
    map.wire(&host, memory.address(), 2 * PAGE_SIZE, RW)?;
    let other = filled(2, 70)?;
    map.copy_range(other.address(), 2 * PAGE_SIZE, memory.address())?;
    check_eq!(wirings(&map, memory.address())?, 1);
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (70, 71));
    map.unwire(&host, memory.address(), 2 * PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn what_overlaps_a_wiring_waits_for_its_pager() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    let (pager, at) = Scripted::mapped(&assistant, 2, PLAIN)?;
    let wiring = wire_later(map, host.name(), at, 2 * PAGE_SIZE)?;
    pager.wanted(0)?;
    let removing = later(map, move |map| map.deallocate(at + PAGE_SIZE, PAGE_SIZE))?;
    // The rest of the map is everybody's.
    let other = map.allocate(PAGE_SIZE)?;
    map.deallocate(other, PAGE_SIZE)?;
    pager.bring(0, 0, &[5])?;
    pager.wanted(1)?;
    check!(!wiring.is_finished() && !removing.is_finished());
    check_eq!(map.region(at + PAGE_SIZE)?.address <= at + PAGE_SIZE, true);
    pager.bring(1, 1, &[6])?;
    check_eq!(wiring.join(), Ok(()));
    check_eq!(removing.join(), Ok(()));
    check_eq!(wirings(map, at)?, 1);
    check_eq!(
        map.region(at + PAGE_SIZE)
            .is_ok_and(|r| r.address == at + PAGE_SIZE),
        false
    );
    check_eq!(assistant.read(at)?, 5);
    map.unwire(&host, at, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_page_that_fails_fails_the_wiring() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    let (pager, at) = Scripted::mapped(&assistant, 2, PLAIN)?;
    let wiring = wire_later(map, host.name(), at, 2 * PAGE_SIZE)?;
    pager.wanted(0)?;
    pager.bring(0, 0, &[5])?;
    pager.wanted(1)?;
    pager.error(1, 1)?;
    check_eq!(wiring.join(), Err(Kern::MemoryError));
    check_eq!(wirings(map, at)?, 0);
    check_eq!(map.region(at)?.size, 2 * PAGE_SIZE);
    check_eq!(assistant.read(at)?, 5);
    Ok(())
}

pub(crate) fn a_wiring_is_interrupted_and_undone() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    let (pager, at) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let wiring = wire_later(map, host.name(), at, PAGE_SIZE)?;
    pager.wanted(0)?;
    trap::thread_abort(wiring.thread().name())?;
    check!(wiring.join().is_err());
    // It does not wait for the pager any more.
    map.protect(at, PAGE_SIZE, Prot::READ)?;
    check_eq!(wirings(map, at)?, 0);
    pager.bring(0, 0, &[5])?;
    check_eq!(assistant.read(at)?, 5);
    Ok(())
}

pub(crate) fn a_task_that_ends_takes_its_wiring_along() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    let (pager, at) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let wiring = wire_later(map, host.name(), at, PAGE_SIZE)?;
    pager.wanted(0)?;
    ipc::task::terminate(&assistant.started.task, 0)?;
    let ended = wiring.join();
    check!(ended == Err(Kern::Terminated) || ended == Err(Kern::SendInvalidDest));
    Ok(())
}

pub(crate) fn all_memory_of_a_task_is_wired_and_released() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    let before = map.allocate(2 * PAGE_SIZE)?;
    map.wire_all(&host, VM_WIRE_CURRENT | VM_WIRE_FUTURE)?;
    check_eq!(wirings(map, before)?, 1);
    let after = map.allocate(70 * PAGE_SIZE)?;
    check_eq!(wirings(map, after)?, 1);
    assistant.write(after, 3)?;
    map.wire_all(&host, 0)?;
    check_eq!((wirings(map, before)?, wirings(map, after)?), (0, 0));
    let unwired = map.allocate(PAGE_SIZE)?;
    check_eq!(wirings(map, unwired)?, 0);
    check_eq!(assistant.read(after)?, 3);
    Ok(())
}

pub(crate) fn a_mapping_that_cannot_be_wired_is_not_made() -> Outcome {
    let (host, assistant) = (host()?, Assistant::start()?);
    let map = &assistant.started.map;
    map.wire_all(&host, VM_WIRE_FUTURE)?;
    let size = 1 << 40;
    check_eq!(map.allocate(size), Err(Kern::ResourceShortage));
    let flags = MapFlags::ANYWHERE | MapFlags::WIRE_BEST_EFFORT;
    let at = map.allocate_at(0, size, flags)?;
    check_eq!(wirings(map, at)?, 0);
    assistant.write(at, 1)?;
    Ok(())
}

const KEEP: VmSetLimits = VmSetLimits::KEEP;

pub(crate) fn limits_are_told_set_and_inherited() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let task = ManuallyDrop::new(ipc::task::own()?);
    check_eq!(map.set_limits(&task, &KEEP), Err(Kern::InvalidHost));
    let child = map.create_task(false)?;
    let before = child.map.limits()?;
    check_eq!(before.pages_limit, map.limits()?.pages_limit);
    check_eq!((before.system, before.entries, before.size), (false, 0, 0));
    let few = VmSetLimits {
        size: 8 * PAGE_SIZE,
        ..KEEP
    };
    child.map.set_limits(&host, &few)?;
    let at = child.map.allocate(8 * PAGE_SIZE)?;
    check_eq!(child.map.allocate(PAGE_SIZE), Err(Kern::ResourceShortage));
    let grandchild = child.map.create_task(true)?;
    let size = grandchild.map.allocate(PAGE_SIZE);
    check_eq!(size, Err(Kern::ResourceShortage));
    child.map.deallocate(at, PAGE_SIZE)?;
    check_eq!(child.map.limits()?.size, 7 * PAGE_SIZE);
    check_eq!(grandchild.map.limits()?.size, 8 * PAGE_SIZE);
    for new in [&grandchild, &child] {
        ipc::task::terminate(&new.task, 0)?;
    }
    Ok(())
}

pub(crate) fn a_family_holds_no_more_than_its_first_may() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let first = map.create_task(false)?;
    let few = VmSetLimits {
        copies: 6,
        wired: 8,
        ..KEEP
    };
    first.map.set_limits(&host, &few)?;
    let copies = |map: &SendRight<Map>| {
        let at = map.allocate(PAGE_SIZE)?;
        let mut got = alloc::vec::Vec::new();
        while let Ok(copy) = map.copy_in(at, PAGE_SIZE, false) {
            got.push(copy);
        }
        Ok::<_, Kern>(got)
    };
    let second = first.map.create_task(false)?;
    let third = second.map.create_task(false)?;
    let held = copies(&third.map)?;
    check_eq!(held.len(), 6);
    check_eq!(copies(&first.map)?.len(), 0);
    drop(held);
    // That nobody holds them is told one way, which calls on maps may overtake.
    check!(until(|| third
        .map
        .limits()
        .is_ok_and(|now| now.copies == 0)));
    check_eq!(copies(&second.map)?.len(), 6);
    let at = second.map.allocate(8 * PAGE_SIZE)?;
    second.map.wire(&host, at, 5 * PAGE_SIZE, RW)?;
    let mine = first.map.allocate(8 * PAGE_SIZE)?;
    let over = first.map.wire(&host, mine, 4 * PAGE_SIZE, RW);
    check_eq!(over, Err(Kern::ResourceShortage));
    first.map.wire(&host, mine, 3 * PAGE_SIZE, RW)?;
    for new in [&third, &second, &first] {
        ipc::task::terminate(&new.task, 0)?;
    }
    Ok(())
}

pub(crate) fn a_resident_task_is_wired_and_of_the_system() -> Outcome {
    let resident = Assistant::start_as("resident")?;
    let map = &resident.started.map;
    let limits = map.limits()?;
    check!(limits.system && limits.wired > 0);
    let (mut address, mut seen) = (0, 0);
    while let Ok(region) = map.region(address) {
        if region.protection != 0 && !region.is_submap {
            check_eq!(
                (region.address, region.user_wired_count),
                (region.address, 1)
            );
            seen += region.size / PAGE_SIZE;
        }
        address = region.address + region.size;
    }
    check_eq!(seen, limits.wired);
    // What it gets later is wired as well.
    let at = map.allocate(3 * PAGE_SIZE)?;
    check_eq!(wirings(map, at)?, 1);
    check_eq!(map.limits()?.wired, seen + 3);
    check_eq!(resident.read(at + PAGE_SIZE)?, 0);
    let plain = Assistant::start()?;
    let limits = plain.started.map.limits()?;
    check_eq!((limits.system, limits.wired), (false, 0));
    Ok(())
}

pub(crate) fn what_is_asked_of_a_copy_is_charged_to_its_maker_in_part() -> Outcome {
    const CALLS: usize = 4;
    let assistant = Assistant::start()?;
    let delayed = Ready {
        strategy: CopyStrategy::Delay,
        ..PLAIN
    };
    let (pager, at) = Scripted::mapped(&assistant, 4, delayed)?;
    let map = &assistant.started.map;
    let copy = map.copy_in(at, 4 * PAGE_SIZE, false)?;
    map.set_limits(&host()?, &VmSetLimits { ops: 8, ..KEEP })?;
    let mut waiting = Vec::new();
    for _ in 0..CALLS {
        let name = copy.name();
        let settle = move || {
            ManuallyDrop::new(SendRight::<CopyObject>::from_name(name))
                .settle(Duration::from_secs(1))
        };
        waiting.push(spawn_waiting(settle)?);
    }
    // The pager says nothing: a quarter of them waits in vain, the others were refused.
    check!(until(|| map.limits().is_ok_and(|held| held.ops == 2)));
    let (mut refused, mut late) = (0, 0);
    for thread in waiting {
        let said = thread.join();
        refused += usize::from(said == Err(Kern::ResourceShortage));
        late += usize::from(said == Err(Kern::OperationTimedOut));
    }
    check_eq!((refused, late), (CALLS - 2, 2));
    check_eq!(map.limits()?.ops, 0);
    drop(pager);
    Ok(())
}

pub(crate) fn wired_pages_and_copies_have_limits() -> Outcome {
    let (host, map) = (host()?, vm::own());
    let child = map.create_task(false)?;
    let at = child.map.allocate(8 * PAGE_SIZE)?;
    let few = VmSetLimits {
        wired: 4,
        copies: 2,
        ..KEEP
    };
    child.map.set_limits(&host, &few)?;
    let five = child.map.wire(&host, at, 5 * PAGE_SIZE, RW);
    check_eq!(five, Err(Kern::ResourceShortage));
    check_eq!(child.map.limits()?.wired, 0);
    child.map.wire(&host, at, 4 * PAGE_SIZE, RW)?;
    child.map.wire(&host, at, 4 * PAGE_SIZE, RW)?;
    let first = child.map.copy_in(at + 4 * PAGE_SIZE, PAGE_SIZE, false)?;
    let second = child.map.copy_in(at + 4 * PAGE_SIZE, PAGE_SIZE, false)?;
    let third = child.map.copy_in(at + 4 * PAGE_SIZE, PAGE_SIZE, false);
    check_eq!(third.err(), Some(Kern::ResourceShortage));
    check_eq!(child.map.limits()?.copies, 2);
    drop((first, second));
    ipc::task::terminate(&child.task, 0)?;
    Ok(())
}
