//! Copies that a pager has to do with: made by it (strategy CALL), or settled without it.

use core::time::Duration;

use guest_test::assistant::Command;
use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::FOREVER;
use ipc::abi::types::{CopyStrategy, Prot, Return};
use ipc::mapping::Options;
use ipc::protocol::memory_object::Request;
use ipc::protocol::memory_object_control::{MemoryObjectCopyMade, MemoryObjectLockRequest};
use ipc::thread::{self, JoinHandle};
use ipc::{Kern, SendRight};

use crate::pager::{PLAIN, Ready, Scripted, unexpected};

const CALL: Ready = Ready {
    strategy: CopyStrategy::Call,
    ..PLAIN
};

const DELAY: Ready = Ready {
    strategy: CopyStrategy::Delay,
    ..PLAIN
};

/// Begins to map a copy of the first pages of the object in the assistant's map.
fn copying(
    assistant: &Assistant,
    pager: &Scripted,
    pages: u64,
) -> Outcome<JoinHandle<Result<u64, Kern>>> {
    let (object, map) = (pager.object.make_send()?, assistant.started.map.name());
    Ok(thread::spawn(move || {
        let map = SendRight::from_name(map);
        let options = Options::new(pages * PAGE_SIZE).object(&object).copied();
        let mapped = options.map_in(&map);
        // It is the assistant's.
        let _ = map.into_name();
        mapped
    })?)
}

/// The number of the copy that the pager is asked for.
fn asked(pager: &Scripted, pages: u64) -> Outcome<u64> {
    match pager.next()? {
        Request::MemoryObjectCopy(asked) => {
            check_eq!((asked.offset, asked.length), (0, pages * PAGE_SIZE));
            Ok(asked.request)
        }
        other => unexpected(&other),
    }
}

pub(crate) fn a_pager_makes_the_copy_and_keeps_it_apart() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, shared) = Scripted::mapped(&assistant, 2, CALL)?;
    pager.bring(0, 0, &[1])?;
    check_eq!(assistant.read(shared)?, 1);
    let mut copier = Scripted::unopened()?;
    let copying = copying(&assistant, &pager, 2)?;
    let made = MemoryObjectCopyMade {
        request: asked(&pager, 2)?,
        result: 0,
    };
    let rights = [copier.right.copy()];
    pager.control.call_with(&made, rights, FOREVER)?;
    let copy = copying.join()?;
    copier.take_init()?;
    copier.ready(PLAIN)?;
    // What the copy's pager has not is the same as in the original.
    let reading = assistant.ask(Command::Read, [copy, 0])?;
    copier.wanted(0)?;
    copier.unavailable(0, 1)?;
    check_eq!(reading.said()?.result, Ok(1));
    // The original may not be written before its pager has brought the old page to the copy.
    let writing = assistant.ask(Command::Write, [shared, 2])?;
    match pager.next()? {
        Request::MemoryObjectDataUnlock(wanted) => {
            check_eq!((wanted.offset, wanted.length), (0, PAGE_SIZE));
        }
        other => return unexpected(&other),
    }
    check!(writing.is_stuck());
    copier.bring(0, 0, &[1])?;
    pager.control.call(&MemoryObjectLockRequest {
        offset: 0,
        size: PAGE_SIZE,
        should_return: Return::None as u32,
        flags: 0,
        lock_value: u32::from(Prot::NONE.bits()),
        request: 0,
    })?;
    check_eq!(writing.said()?.result, Ok(0));
    check_eq!(assistant.read(shared)?, 2);
    check_eq!(assistant.read(copy)?, 1);
    Ok(())
}

pub(crate) fn a_pager_that_makes_no_copy_has_its_pages_copied() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, shared) = Scripted::mapped(&assistant, 2, CALL)?;
    pager.bring(0, 0, &[1])?;
    let copying = copying(&assistant, &pager, 2)?;
    let made = MemoryObjectCopyMade {
        request: asked(&pager, 2)?,
        result: Kern::NotSupported.raw(),
    };
    pager.control.call(&made)?;
    pager.wanted(1)?;
    pager.bring(1, 1, &[2])?;
    let copy = copying.join()?;
    assistant.write(shared, 5)?;
    check_eq!(assistant.read(copy)?, 1);
    check_eq!(assistant.read(copy + PAGE_SIZE)?, 2);
    Ok(())
}

pub(crate) fn a_pager_that_dies_over_a_copy_fails_it() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, _) = Scripted::mapped(&assistant, 1, CALL)?;
    let copying = copying(&assistant, &pager, 1)?;
    asked(&pager, 1)?;
    drop(pager);
    check_eq!(copying.join(), Err(Kern::MemoryError));
    Ok(())
}

pub(crate) fn a_settled_copy_needs_no_pager() -> Outcome {
    let assistant = Assistant::start()?;
    let (pager, shared) = Scripted::mapped(&assistant, 2, DELAY)?;
    pager.bring(0, 0, &[1])?;
    let copy = assistant
        .started
        .map
        .copy_in(shared, 2 * PAGE_SIZE, false)?;
    check!(copy.describe()?.depends_on_pager);
    let none = copy.settle(Duration::from_millis(20));
    check_eq!(none, Err(Kern::OperationTimedOut));
    pager.wanted(1)?;
    pager.bring(1, 1, &[2])?;
    check_eq!(copy.settle(Duration::from_secs(10)), Ok(2));
    check!(!copy.describe()?.depends_on_pager);
    drop(pager);
    let address = ipc::vm::own().copy_out(&copy, None)?;
    check_eq!(guest_test::touch::read(address), 1);
    check_eq!(guest_test::touch::read(address + PAGE_SIZE), 2);
    ipc::vm::own().deallocate(address, 2 * PAGE_SIZE)?;
    Ok(())
}
