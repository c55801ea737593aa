//! External pagers: what they are asked, what becomes of their answers, and what becomes of others
//! when they lie, are silent or die.

use guest_test::assistant::{Assistant, Command};
use guest_test::{Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::Disposition;
use ipc::abi::types::{CopyStrategy, Prot};
use ipc::mapping::Options;
use ipc::protocol::memory_object::Request;
use ipc::protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectDataError, MemoryObjectDataSupply,
    MemoryObjectDataUnavailable, MemoryObjectDestroy, MemoryObjectGetAttributes,
    MemoryObjectLockRequest, MemoryObjectReady,
};
use ipc::{Kern, vm};

use crate::pager::{PLAIN, Ready, SLOTS, Scripted, unexpected};
use crate::support::{filled, watched, word};

pub(crate) fn a_touched_page_is_asked_for_and_brought() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 4, PLAIN)?;
    for page in [2, 0, 3] {
        let pending = assistant.ask(Command::Read, [address + page * PAGE_SIZE, 0])?;
        let wanted = pager.wanted(page)?;
        check_eq!(wanted.length, PAGE_SIZE);
        check_eq!(wanted.access, u32::from(Prot::READ.bits()));
        check!(pending.is_stuck());
        pager.bring(page, 0, &[0xDA7A + page])?;
        check_eq!(pending.said()?.result, Ok(0xDA7A + page));
    }
    // What is resident is not asked for again.
    check_eq!(assistant.read(address + 2 * PAGE_SIZE)?, 0xDA7A + 2);
    check!(pager.is_idle());
    Ok(())
}

pub(crate) fn nothing_is_asked_before_the_pager_is_ready() -> Outcome {
    let assistant = Assistant::start()?;
    let (mut pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let other = Scripted::mapped(&assistant, 1, PLAIN)?;
    drop(other);
    // A second life, which begins with the fault already waiting.
    assistant.started.map.deallocate(address, PAGE_SIZE)?;
    match pager.next()? {
        Request::MemoryObjectTerminate(_) => {}
        wrong => return unexpected(&wrong),
    }
    let address = pager.map_in(&assistant, 1)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    pager.take_init()?;
    check!(pager.is_idle());
    check!(pending.is_stuck());
    pager.ready(PLAIN)?;
    pager.wanted(0)?;
    pager.bring(0, 0, &[77])?;
    check_eq!(pending.said()?.result, Ok(77));
    Ok(())
}

pub(crate) fn two_mappings_show_the_same_pages() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, first) = Scripted::mapped(&assistant, 2, PLAIN)?;
    let second = pager.map_in(&assistant, 2)?;
    pager.answers(&assistant, first, 0, 5)?;
    check_eq!(assistant.read(second)?, 5);
    check!(pager.is_idle());
    assistant.write(second, 6)?;
    check_eq!(assistant.read(first)?, 6);
    Ok(())
}

pub(crate) fn two_tasks_share_one_object() -> Outcome {
    let (one, two) = (Assistant::start()?, Assistant::start()?);
    let (pager, first) = Scripted::mapped(&one, 1, PLAIN)?;
    let second = pager.map_in(&two, 1)?;
    let waits = one.ask(Command::Read, [first, 0])?;
    pager.wanted(0)?;
    let also = two.ask(Command::Read, [second, 0])?;
    check!(pager.is_idle() && also.is_stuck());
    pager.bring(0, 3, &[9])?;
    check_eq!(waits.said()?.result, Ok(9));
    check_eq!(also.said()?.result, Ok(9));
    one.write(first, 10)?;
    check_eq!(two.read(second)?, 10);
    Ok(())
}

pub(crate) fn an_error_of_the_pager_is_a_memory_error() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    pager.wanted(0)?;
    pager.error(0, 1)?;
    let caught = supervisor.expect_access(Kern::MemoryError, address)?;
    // Who tries again asks again.
    caught.resume()?;
    pager.wanted(0)?;
    pager.bring(0, 0, &[8])?;
    check_eq!(pending.said()?.result, Ok(8));
    Ok(())
}

pub(crate) fn data_that_is_unavailable_reads_zero_and_is_not_asked_again() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    pager.wanted(0)?;
    pager.unavailable(0, 1)?;
    check_eq!(pending.said()?.result, Ok(0));
    assistant.write(address, 3)?;
    check_eq!(assistant.read(address)?, 3);
    check!(pager.is_idle());
    Ok(())
}

pub(crate) fn a_pager_that_dies_over_a_request_is_a_memory_error() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let (pager, address) = Scripted::mapped(&assistant, 2, PLAIN)?;
    pager.answers(&assistant, address, 0, 1)?;
    drop(assistant.ask(Command::Read, [address + PAGE_SIZE, 0])?);
    pager.wanted(1)?;
    drop(pager);
    let caught = supervisor.expect_access(Kern::MemoryError, address + PAGE_SIZE)?;
    // It stays an error.
    caught.resume()?;
    let caught = supervisor.expect_access(Kern::MemoryError, address + PAGE_SIZE)?;
    caught.hand_on()?;
    let code = Kern::MemoryError.raw();
    let ended = assistant.wait()?;
    check!(matches!(ended, ExitStatus::Exception { code: found, .. } if found == code));
    Ok(())
}

pub(crate) fn pages_of_a_dead_pager_stay_readable() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let (pager, address) = Scripted::mapped(&assistant, 2, PLAIN)?;
    pager.answers(&assistant, address, 0, 21)?;
    drop(pager);
    check_eq!(assistant.read(address)?, 21);
    drop(assistant.ask(Command::Read, [address + PAGE_SIZE, 0])?);
    let _caught = supervisor.expect_access(Kern::MemoryError, address + PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_pager_task_that_ends_is_a_dead_pager() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let holder = Assistant::start()?;
    let object = crate::support::port(0)?;
    let right = object.make_send()?.cast();
    holder.keep(object.into_name(), Disposition::MoveReceive)?;
    let address = Options::new(PAGE_SIZE)
        .object(&right)
        .map_in(&assistant.started.map)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    check!(pending.is_stuck());
    check_eq!(holder.exit(0)?, ExitStatus::Exited(0));
    let _caught = supervisor.expect_access(Kern::MemoryError, address)?;
    Ok(())
}

pub(crate) fn a_pager_can_withdraw() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    drop(assistant.ask(Command::Read, [address, 0])?);
    pager.wanted(0)?;
    pager.control.call(&MemoryObjectDestroy { reason: 1 })?;
    let _caught = supervisor.expect_access(Kern::MemoryError, address)?;
    Ok(())
}

pub(crate) fn a_second_supply_changes_nothing() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 2, PLAIN)?;
    pager.answers(&assistant, address, 0, 1)?;
    assistant.write(address, 100)?;
    pager.fill(1, &[2])?;
    let said = pager.supply(0, 1, 1)?;
    check_eq!(
        (said.used, said.skipped_present, said.first_present),
        (0, 1, 0)
    );
    check_eq!(assistant.read(address)?, 100);
    // In one supply, what is there is passed over and the rest is taken.
    pager.fill(2, &[3, 4])?;
    let said = pager.supply(0, 2, 2)?;
    check_eq!(
        (said.used, said.skipped_present, said.first_present),
        (1, 1, 0)
    );
    check_eq!(assistant.read(address)?, 100);
    check_eq!(assistant.read(address + PAGE_SIZE)?, 4);
    Ok(())
}

pub(crate) fn a_supply_after_unavailable_changes_nothing() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let pending = assistant.ask(Command::Write, [address, 50])?;
    pager.wanted(0)?;
    pager.unavailable(0, 1)?;
    check_eq!(pending.said()?.result, Ok(0));
    pager.fill(0, &[2])?;
    check_eq!(pager.supply(0, 0, 1)?.skipped_present, 1);
    check_eq!(assistant.read(address)?, 50);
    Ok(())
}

pub(crate) fn data_can_be_brought_before_it_is_asked_for() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 4, PLAIN)?;
    pager.bring(1, 0, &[11, 12])?;
    check_eq!(assistant.read(address + PAGE_SIZE)?, 11);
    check_eq!(assistant.read(address + 2 * PAGE_SIZE)?, 12);
    check!(pager.is_idle());
    Ok(())
}

pub(crate) fn wrong_supplies_are_refused_and_the_request_stands() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 2, PLAIN)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    pager.wanted(0)?;
    pager.fill(0, &[1])?;
    let refused = Some(Kern::InvalidArgument);
    for (slot, count) in [
        (0, 0),
        (SLOTS, 1),
        (SLOTS - 1, 2),
        (0, SLOTS + 1),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (1, u32::MAX),
    ] {
        check_eq!(pager.supply(0, slot, count).err(), refused);
    }
    let supply = |offset, lock_value| {
        let supply = MemoryObjectDataSupply {
            offset,
            slot: 0,
            count: 1,
            lock_value,
            precious: false,
        };
        pager.control.call(&supply).err()
    };
    check_eq!(supply(1, 0), refused);
    check_eq!(supply(PAGE_SIZE / 2, 0), refused);
    check_eq!(supply(!0xFFF, 0), refused);
    check_eq!(supply(0, 8), refused);
    check!(pending.is_stuck());
    pager.bring(0, 0, &[1])?;
    check_eq!(pending.said()?.result, Ok(1));
    Ok(())
}

pub(crate) fn errors_and_absences_need_whole_pages() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, _) = Scripted::mapped(&assistant, 2, PLAIN)?;
    for (offset, size) in [(1, PAGE_SIZE), (0, 1), (PAGE_SIZE, PAGE_SIZE + 1)] {
        let absent = MemoryObjectDataUnavailable { offset, size };
        let said = pager.control.call(&absent).err();
        check_eq!(said, Some(Kern::InvalidArgument));
        let error = MemoryObjectDataError {
            offset,
            size,
            code: 1,
        };
        let said = pager.control.call(&error).err();
        check_eq!(said, Some(Kern::InvalidArgument));
    }
    Ok(())
}

pub(crate) fn a_pager_that_says_it_is_ready_wrongly_is_refused() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, _) = Scripted::mapped(&assistant, 1, PLAIN)?;
    let good = MemoryObjectReady {
        may_cache: false,
        copy_strategy: CopyStrategy::None as u32,
        cluster_pages: 1,
        serves_itself: false,
        synchronizes: false,
    };
    let refused = Some(Kern::InvalidArgument);
    let far = ipc::abi::message::FOREVER;
    let say = |ready: MemoryObjectReady| {
        let said = pager
            .control
            .call_with(&ready, [pager.tray.tray.copy()], far);
        said.err()
    };
    check_eq!(
        say(MemoryObjectReady {
            copy_strategy: 99,
            ..good
        }),
        refused
    );
    check_eq!(
        say(MemoryObjectReady {
            cluster_pages: 65,
            ..good
        }),
        refused
    );
    let no_tray = pager.control.call_with(&good, [pager.object.make()], far);
    check_eq!(no_tray.err(), refused);
    Ok(())
}

pub(crate) fn attributes_are_reported() -> Outcome {
    let assistant = Assistant::start()?;
    let ready = Ready {
        cluster: 4,
        strategy: CopyStrategy::Delay,
        may_cache: true,
    };
    let (pager, _) = Scripted::mapped(&assistant, 1, ready)?;
    let said = pager.control.call(&MemoryObjectGetAttributes {})?;
    check_eq!((said.ready, said.may_cache), (true, true));
    check_eq!(said.copy_strategy, CopyStrategy::Delay as u32);
    check_eq!(said.cluster_pages, 4);
    Ok(())
}

pub(crate) fn a_silent_pager_keeps_nobody_else_waiting() -> Outcome {
    let (stuck, free) = (Assistant::start()?, Assistant::start()?);
    let (silent, address) = Scripted::mapped(&stuck, 1, PLAIN)?;
    let pending = stuck.ask(Command::Read, [address, 0])?;
    silent.wanted(0)?;
    let (pager, address) = Scripted::mapped(&free, 1, PLAIN)?;
    let other = free.ask(Command::Read, [address, 0])?;
    pager.wanted(0)?;
    pager.bring(0, 0, &[4])?;
    check_eq!(other.said()?.result, Ok(4));
    let memory = filled(4, 1)?;
    check_eq!(word(&memory, 3)?, 4);
    // Its own map is not locked either.
    let theirs = stuck.started.map.allocate(PAGE_SIZE)?;
    stuck.started.map.deallocate(theirs, PAGE_SIZE)?;
    check!(pending.is_stuck());
    silent.bring(0, 0, &[1])?;
    check_eq!(pending.said()?.result, Ok(1));
    Ok(())
}

pub(crate) fn who_waits_for_a_pager_can_be_ended() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    drop(assistant.ask(Command::Read, [address, 0])?);
    pager.wanted(0)?;
    ipc::task::terminate(&assistant.started.task, 5)?;
    check_eq!(assistant.wait()?, ExitStatus::Exited(5));
    // The data comes too late for anybody; the pager hears how it is.
    pager.fill(0, &[1])?;
    let late = pager.supply(0, 0, 1);
    let ended = [
        Kern::Terminated,
        Kern::SendInvalidDest,
        Kern::ReceivePortDied,
    ];
    check!(late.map_or_else(|code| ended.contains(&code), |_| true));
    Ok(())
}

pub(crate) fn a_request_can_be_for_several_pages() -> Outcome {
    let assistant = Assistant::start()?;
    let ready = Ready {
        cluster: 4,
        ..PLAIN
    };
    let (pager, address) = Scripted::mapped(&assistant, 8, ready)?;
    let pending = assistant.ask(Command::Read, [address, 0])?;
    let wanted = pager.wanted(0)?;
    check!(wanted.length <= 4 * PAGE_SIZE);
    let pages = wanted.length / PAGE_SIZE;
    let words = [31, 32, 33, 34];
    let (words, _) = words.split_at(pages as usize);
    pager.bring(0, 0, words)?;
    check_eq!(pending.said()?.result, Ok(31));
    for (page, word) in (0..).zip(words) {
        check_eq!(assistant.read(address + page * PAGE_SIZE)?, *word);
    }
    check!(pager.is_idle());
    Ok(())
}

pub(crate) fn what_a_supply_leaves_out_is_asked_for_again() -> Outcome {
    let assistant = Assistant::start()?;
    let ready = Ready {
        cluster: 4,
        ..PLAIN
    };
    let (pager, address) = Scripted::mapped(&assistant, 4, ready)?;
    pager.answers(&assistant, address, 0, 1)?;
    let pending = assistant.ask(Command::Read, [address + PAGE_SIZE, 0])?;
    pager.wanted(1)?;
    pager.bring(1, 4, &[2])?;
    check_eq!(pending.said()?.result, Ok(2));
    Ok(())
}

pub(crate) fn pages_that_are_flushed_are_asked_for_again() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    pager.bring(0, 0, &[1])?;
    check_eq!(assistant.read(address)?, 1);
    pager.control.call(&MemoryObjectLockRequest {
        offset: 0,
        size: PAGE_SIZE,
        should_return: 0,
        flags: MEMORY_OBJECT_DATA_FLUSH,
        lock_value: 0,
        request: 66,
    })?;
    match pager.next()? {
        Request::MemoryObjectLockCompleted(done) => {
            let said = (done.offset, done.size, done.request, done.result);
            check_eq!(said, (0, PAGE_SIZE, 66, 0));
        }
        other => return unexpected(&other),
    }
    let pending = assistant.ask(Command::Read, [address, 0])?;
    pager.wanted(0)?;
    pager.bring(0, 1, &[2])?;
    check_eq!(pending.said()?.result, Ok(2));
    Ok(())
}

pub(crate) fn an_object_ends_with_its_last_mapping() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, address) = Scripted::mapped(&assistant, 1, PLAIN)?;
    pager.bring(0, 0, &[1])?;
    assistant.started.map.deallocate(address, PAGE_SIZE)?;
    match pager.next()? {
        Request::MemoryObjectTerminate(_) => Ok(()),
        other => unexpected(&other),
    }
}

pub(crate) fn a_tray_needs_slots() -> Outcome {
    for slots in [0, 1025, u32::MAX] {
        let tray = vm::own().create_tray(slots);
        check_eq!(tray.err(), Some(Kern::InvalidArgument));
    }
    let tray = vm::own().create_tray(4)?;
    check_eq!(tray.slots, 4);
    Ok(())
}
