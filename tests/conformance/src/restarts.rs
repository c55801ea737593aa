//! Pagers that end and are started again: who waits for a page gets it from the next instance, what was
//! written is there and reaches it, and one that ends over and over is given up.

use guest_test::assistant::{Assistant, Command};
use guest_test::{Outcome, Supervisor, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::mapping::Options;
use ipc::protocol::vm_map::VM_SYNC_SYNCHRONOUS;
use ipc::{Kern, ReceiveRight, Untyped, bootstrap, task, trap};

use crate::keeper::{FATAL, Kept, LAST, PAGES, SILENT, TIMES, word_of};
use crate::support::watched;

const SIZE: u64 = PAGES * PAGE_SIZE;

/// Touches the page for which a keeper ends for good; says what who touches it gets.
fn end(kept: &Kept, assistant: &Assistant, supervisor: &Supervisor) -> Outcome {
    drop(assistant.ask(Command::Read, [kept.page(LAST), 0])?);
    let _caught = supervisor.expect_access(Kern::MemoryError, kept.page(LAST))?;
    Ok(())
}

pub(crate) fn a_pager_that_is_killed_comes_back_and_nobody_is_the_worse_for_it() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let waiter = Assistant::start()?;
    let kept = Kept::start("killed", &assistant)?;
    let map = &assistant.started.map;
    assistant.write(kept.page(0), 99)?;
    check_eq!(assistant.read(kept.page(1))?, word_of(1));
    assistant.write(kept.known, 77)?;
    let theirs = Options::new(SIZE)
        .object(&kept.object)
        .map_in(&waiter.started.map)?;
    // A fault that the first instance sits on, and one that it has not even heard of.
    let pending = waiter.ask(Command::Read, [theirs + SILENT * PAGE_SIZE, 0])?;
    let also = assistant.ask(Command::Read, [kept.page(2), 0])?;
    check!(pending.is_stuck() && also.is_stuck());
    task::terminate(&kept.started.task, 9)?;
    check_eq!(pending.said()?.result, Ok(word_of(SILENT)));
    check_eq!(also.said()?.result, Ok(word_of(2)));
    check_eq!(
        bootstrap::wait(kept.started.instance)?,
        ExitStatus::Exited(9)
    );
    // What was written before is there, and goes to the instance that is there now.
    check_eq!(assistant.read(kept.page(0))?, 99);
    map.msync(kept.address, SIZE, VM_SYNC_SYNCHRONOUS)?;
    map.deallocate(kept.address, SIZE)?;
    waiter.started.map.deallocate(theirs, SIZE)?;
    let kept = Kept {
        address: Options::new(SIZE).object(&kept.object).map_in(map)?,
        ..kept
    };
    check_eq!(assistant.read(kept.page(0))?, 99);
    // So does the object that it knew by its note; the other one is an error.
    check_eq!(assistant.read(kept.known)?, 77);
    check_eq!(assistant.read(kept.known + PAGE_SIZE)?, word_of(1));
    check!(supervisor.is_quiet());
    end(&kept, &assistant, &supervisor)
}

pub(crate) fn an_object_that_the_next_instance_does_not_know_is_a_dead_pagers() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let kept = Kept::start("forgetful", &assistant)?;
    assistant.write(kept.forgotten, 55)?;
    task::terminate(&kept.started.task, 9)?;
    // It is there again.
    check_eq!(assistant.read(kept.known)?, word_of(0));
    check_eq!(assistant.read(kept.forgotten)?, 55);
    drop(assistant.ask(Command::Read, [kept.forgotten + PAGE_SIZE, 0])?);
    let _caught = supervisor.expect_access(Kern::MemoryError, kept.forgotten + PAGE_SIZE)?;
    let other = Assistant::start()?;
    supervisor.task(&other.started.task)?;
    let kept = Kept {
        address: Options::new(SIZE)
            .object(&kept.object)
            .map_in(&other.started.map)?,
        ..kept
    };
    end(&kept, &other, &supervisor)
}

pub(crate) fn what_was_written_and_is_mapped_no_more_reaches_the_next_instance() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let kept = Kept::start("unmapped", &assistant)?;
    let map = &assistant.started.map;
    for page in 0..4 {
        assistant.write(kept.page(page), 900 + page)?;
    }
    task::terminate(&kept.started.task, 9)?;
    // Nobody is there to store it, or the next instance is, and has not heard of it yet.
    map.deallocate(kept.address, SIZE)?;
    let kept = Kept {
        address: Options::new(SIZE).object(&kept.object).map_in(map)?,
        ..kept
    };
    for page in 0..4 {
        check_eq!(assistant.read(kept.page(page))?, 900 + page);
    }
    check!(supervisor.is_quiet());
    end(&kept, &assistant, &supervisor)
}

pub(crate) fn a_pager_that_ends_over_and_over_is_given_up() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let other = Assistant::start()?;
    let kept = Kept::start("fatal", &assistant)?;
    let theirs = Options::new(SIZE)
        .object(&kept.object)
        .map_in(&other.started.map)?;
    assistant.write(kept.page(0), 44)?;
    let first = kept.started.instance;
    drop(assistant.ask(Command::Read, [kept.page(FATAL), 0])?);
    // Each instance is asked, and ends over it; after the last the object's port dies.
    let _caught = supervisor.expect_access(Kern::MemoryError, kept.page(FATAL))?;
    for instance in first..=first + TIMES {
        check_eq!(bootstrap::wait(instance)?, ExitStatus::Exited(3));
    }
    check_eq!(
        bootstrap::wait(first + TIMES + 1),
        Err(Kern::InvalidArgument)
    );
    // What is resident stays.
    check_eq!(other.read(theirs)?, 44);
    Ok(())
}

pub(crate) fn a_task_that_is_not_started_again_keeps_nothing() -> Outcome {
    let port = ReceiveRight::<Untyped>::new(5)?;
    check_eq!(bootstrap::keep(&port, 5, b"x"), Err(Kern::NotSupported));
    check!(bootstrap::kept()?.is_none());
    let long = [0; 1025];
    check_eq!(bootstrap::keep(&port, 5, &long), Err(Kern::InvalidArgument));
    // It can take back what was never asked.
    port.unwatch_destroyed()?;
    check_eq!(port.payload()?, 5);
    trap::port_destroy(port.into_name())?;
    Ok(())
}
