//! Faults and exceptions: what memory reads when it is first touched, what an access that is denied
//! is told as, and who may repair it.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::sync::Arc;
use guest_test::assistant::{Assistant, Command};
use guest_test::touch;
use guest_test::{Outcome, Supervisor, check, check_eq};
use ipc::abi::exception::Kind;
use ipc::abi::layout::{PAGE_SIZE, USER_MAX};
use ipc::abi::notify::ExitStatus;
use ipc::abi::types::{MapFlags, Prot};
use ipc::{Kern, Mapping, bootstrap, vm};

use crate::support::{filled, set_word, watched, word};

/// An address that nothing is ever mapped at.
const UNMAPPED: u64 = 0x5000_0001_2008;
const READ_EXECUTE: Prot = Prot::READ.union(Prot::EXECUTE);

pub(crate) fn fresh_memory_reads_zero() -> Outcome {
    let memory = Mapping::allocate(64 * PAGE_SIZE)?;
    for page in 0..64 {
        let mut bytes = [0xFF; PAGE_SIZE as usize];
        memory.read(page * PAGE_SIZE, &mut bytes)?;
        check!(
            bytes.iter().all(|byte| *byte == 0),
            "page {page} has old data"
        );
    }
    Ok(())
}

pub(crate) fn memory_given_back_comes_again_as_zeros() -> Outcome {
    for _ in 0..4 {
        let memory = filled(64, 0xDEAD_0000)?;
        drop(memory);
        let memory = Mapping::allocate(64 * PAGE_SIZE)?;
        for page in 0..64 {
            check_eq!(word(&memory, page)?, 0);
        }
    }
    Ok(())
}

pub(crate) fn memory_first_read_can_be_written() -> Outcome {
    let memory = Mapping::allocate(PAGE_SIZE)?;
    check_eq!(word(&memory, 0)?, 0);
    set_word(&memory, 0, 5)?;
    check_eq!(word(&memory, 0)?, 5);
    Ok(())
}

pub(crate) fn registers_survive_a_fault() -> Outcome {
    for seed in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
        let memory = Mapping::allocate(PAGE_SIZE)?;
        check!(touch::registers_survive_reading(memory.address(), seed));
    }
    Ok(())
}

pub(crate) fn unmapped_memory_is_an_invalid_address() -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(|| touch::read(UNMAPPED))?;
    let caught = supervisor.expect_access(Kern::InvalidAddress, UNMAPPED)?;
    check!(caught.exception.ip != 0 && caught.exception.sp != 0);
    drop(thread);
    Ok(())
}

pub(crate) fn unmapped_memory_is_repaired_by_mapping_it() -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(|| touch::read(UNMAPPED))?;
    let caught = supervisor.expect_access(Kern::InvalidAddress, UNMAPPED)?;
    let page = vm::own().allocate_at(UNMAPPED, PAGE_SIZE, MapFlags::empty())?;
    caught.resume()?;
    check_eq!(thread.join(), 0);
    vm::own().deallocate(page, PAGE_SIZE)?;
    check!(supervisor.is_quiet());
    Ok(())
}

pub(crate) fn an_exception_that_is_not_repaired_comes_again() -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(|| touch::read(UNMAPPED))?;
    for _ in 0..3 {
        let caught = supervisor.expect_access(Kern::InvalidAddress, UNMAPPED)?;
        caught.resume()?;
    }
    let _caught = supervisor.next()?;
    drop(thread);
    Ok(())
}

pub(crate) fn the_first_pages_are_never_mapped() -> Outcome {
    let supervisor = Supervisor::new()?;
    for address in [0, 8, PAGE_SIZE, 0xFFF8] {
        let thread = supervisor.run(move || touch::read(address))?;
        let _caught = supervisor.expect_access(Kern::InvalidAddress, address)?;
        drop(thread);
    }
    Ok(())
}

pub(crate) fn a_write_to_read_only_memory_is_a_protection_failure() -> Outcome {
    let supervisor = Supervisor::new()?;
    for touched in [false, true] {
        let memory = Mapping::allocate(PAGE_SIZE)?;
        if touched {
            set_word(&memory, 0, 1)?;
        }
        memory.protect(Prot::READ)?;
        let place = memory.address() + 16;
        // SAFETY: the memory is ours, and nothing refers to it.
        let thread = supervisor.run(move || unsafe { touch::write(place, 2) })?;
        let caught = supervisor.expect_access(Kern::ProtectionFailure, place)?;
        memory.protect(Prot::DEFAULT)?;
        caught.resume()?;
        thread.join();
        check_eq!(touch::read(place), 2);
        check_eq!(word(&memory, 0)?, u64::from(touched));
    }
    Ok(())
}

pub(crate) fn memory_without_rights_cannot_be_read() -> Outcome {
    let supervisor = Supervisor::new()?;
    let memory = filled(1, 0x1234)?;
    memory.protect(Prot::NONE)?;
    let place = memory.address();
    let thread = supervisor.run(move || touch::read(place))?;
    let caught = supervisor.expect_access(Kern::ProtectionFailure, place)?;
    memory.protect(Prot::READ)?;
    caught.resume()?;
    check_eq!(thread.join(), 0x1234);
    Ok(())
}

pub(crate) fn data_is_executed_only_where_that_is_allowed() -> Outcome {
    let supervisor = Supervisor::new()?;
    let memory = Mapping::allocate(PAGE_SIZE)?;
    memory.write(0, &[touch::RETURN])?;
    let place = memory.address();
    // SAFETY: a function that returns is there, though it cannot be executed yet.
    let thread = supervisor.run(move || unsafe { touch::call(place) })?;
    let caught = supervisor.expect_access(Kern::ProtectionFailure, place)?;
    check_eq!(caught.exception.ip, place);
    memory.protect(READ_EXECUTE)?;
    caught.resume()?;
    thread.join();
    Ok(())
}

pub(crate) fn the_stack_cannot_be_executed() -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(|| {
        let code = [touch::RETURN; 16];
        let place = core::hint::black_box(&code).as_ptr() as u64;
        // SAFETY: a function that returns is there, and cannot be executed.
        unsafe { touch::call(place) };
    })?;
    let caught = supervisor.next()?;
    let code = u64::from(Kern::ProtectionFailure.raw());
    check_eq!(
        (caught.exception.kind, caught.exception.code),
        (Kind::BadAccess, code)
    );
    check_eq!(caught.exception.subcode, caught.exception.ip);
    drop(thread);
    Ok(())
}

pub(crate) fn a_stack_that_overflows_hits_its_guard() -> Outcome {
    #[allow(
        unconditional_recursion,
        reason = "the guard page ends it, which is the point"
    )]
    #[inline(never)]
    fn deeper(depth: &AtomicU64) -> u64 {
        let page = core::hint::black_box([depth.fetch_add(1, Ordering::Relaxed); 64]);
        deeper(depth) + core::hint::black_box(page).len() as u64
    }
    let supervisor = Supervisor::new()?;
    let depth = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&depth);
    let thread = supervisor.run(move || deeper(&counted))?;
    let caught = supervisor.next()?;
    let code = u64::from(Kern::ProtectionFailure.raw());
    check_eq!(
        (caught.exception.kind, caught.exception.code),
        (Kind::BadAccess, code)
    );
    check!(depth.load(Ordering::Relaxed) > 100);
    drop(thread);
    Ok(())
}

pub(crate) fn the_kernels_half_is_out_of_reach() -> Outcome {
    let supervisor = Supervisor::new()?;
    for address in [0xFFFF_8000_0000_0000, 0xFFFF_FFFF_8000_0000, u64::MAX - 7] {
        let thread = supervisor.run(move || touch::read(address))?;
        let _caught = supervisor.expect_access(Kern::InvalidAddress, address)?;
        drop(thread);
    }
    Ok(())
}

pub(crate) fn the_last_page_of_the_user_half_is_never_mapped() -> Outcome {
    let supervisor = Supervisor::new()?;
    let place = 0x7FFF_FFFF_F000;
    check!(place > USER_MAX);
    let thread = supervisor.run(move || touch::read(place))?;
    let _caught = supervisor.expect_access(Kern::InvalidAddress, place)?;
    drop(thread);
    Ok(())
}

pub(crate) fn a_jump_to_where_no_address_is_comes_as_an_exception() -> Outcome {
    let supervisor = Supervisor::new()?;
    for place in [
        0x8000_0000_0000,
        0x8000_0000_0000_0000,
        0xDEAD_BEEF_DEAD_BEEF,
    ] {
        // SAFETY: nothing can be executed there.
        let thread = supervisor.run(move || unsafe { touch::call(place) })?;
        let caught = supervisor.next()?;
        let kind = caught.exception.kind;
        check!(
            kind == Kind::BadAccess || kind == Kind::BadInstruction,
            "a jump to {place:#x} came as {kind:?}"
        );
        drop(thread);
    }
    Ok(())
}

pub(crate) fn a_jump_to_the_kernel_comes_as_an_exception() -> Outcome {
    let supervisor = Supervisor::new()?;
    let place = 0xFFFF_FFFF_8000_0000;
    // SAFETY: ring 3 cannot execute it.
    let thread = supervisor.run(move || unsafe { touch::call(place) })?;
    let _caught = supervisor.expect_access(Kern::InvalidAddress, place)?;
    drop(thread);
    Ok(())
}

/// Runs an instruction, which has to come as this exception.
fn instruction(run: fn(), kind: Kind, vector: u64) -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(run)?;
    let _caught = supervisor.expect(kind, vector, 0)?;
    drop(thread);
    Ok(())
}

pub(crate) fn a_division_by_zero_is_an_arithmetic_exception() -> Outcome {
    instruction(touch::divide_by_zero, Kind::Arithmetic, 0)
}

pub(crate) fn an_undefined_instruction_is_an_exception() -> Outcome {
    instruction(touch::undefined, Kind::BadInstruction, 6)
}

pub(crate) fn a_privileged_instruction_is_an_exception() -> Outcome {
    instruction(touch::privileged, Kind::BadInstruction, 13)
}

pub(crate) fn a_breakpoint_is_told_and_passed() -> Outcome {
    let supervisor = Supervisor::new()?;
    let thread = supervisor.run(|| {
        touch::breakpoint();
        7
    })?;
    supervisor.expect(Kind::Breakpoint, 3, 0)?.resume()?;
    check_eq!(thread.join(), 7);
    Ok(())
}

pub(crate) fn the_threads_port_comes_before_the_tasks() -> Outcome {
    let (of_task, of_thread) = (Supervisor::new()?, Supervisor::new()?);
    let own = ipc::task::own()?;
    of_task.task(&own)?;
    let thread = of_thread.run(touch::divide_by_zero)?;
    let caught = of_thread.expect(Kind::Arithmetic, 0, 0)?;
    check!(of_task.is_quiet());
    caught.hand_on()?;
    let _caught = of_task.expect(Kind::Arithmetic, 0, 0)?;
    check!(of_thread.is_quiet());
    drop(thread);
    ipc::task::set_exception_port::<ipc::Untyped>(&own, None)?;
    Ok(())
}

pub(crate) fn another_task_repairs_memory_and_the_thread_goes_on() -> Outcome {
    let (assistant, supervisor) = watched()?;
    let pending = assistant.ask(Command::Write, [UNMAPPED, 99])?;
    let caught = supervisor.expect_access(Kern::InvalidAddress, UNMAPPED)?;
    check!(pending.is_stuck());
    let map = &assistant.started.map;
    map.allocate_at(UNMAPPED, PAGE_SIZE, MapFlags::empty())?;
    caught.resume()?;
    check_eq!(pending.said()?.result, Ok(0));
    check_eq!(assistant.read(UNMAPPED)?, 99);
    Ok(())
}

pub(crate) fn a_task_that_nobody_repairs_ends_with_a_report() -> Outcome {
    let assistant = Assistant::start()?;
    drop(assistant.ask(Command::Read, [UNMAPPED, 0])?);
    let expected = ExitStatus::Exception {
        kind: Kind::BadAccess as u32,
        code: Kern::InvalidAddress.raw(),
    };
    check_eq!(assistant.wait()?, expected);
    let assistant = Assistant::start()?;
    drop(assistant.ask(Command::Divide, [0; 2])?);
    let expected = ExitStatus::Exception {
        kind: Kind::Arithmetic as u32,
        code: 0,
    };
    check_eq!(assistant.wait()?, expected);
    Ok(())
}

pub(crate) fn an_exception_that_is_handed_on_ends_the_task() -> Outcome {
    let (assistant, supervisor) = watched()?;
    drop(assistant.ask(Command::Divide, [0; 2])?);
    supervisor.expect(Kind::Arithmetic, 0, 0)?.hand_on()?;
    check!(matches!(assistant.wait()?, ExitStatus::Exception { .. }));
    Ok(())
}

pub(crate) fn a_supervisor_that_dies_hands_on() -> Outcome {
    let (assistant, supervisor) = watched()?;
    drop(assistant.ask(Command::Divide, [0; 2])?);
    // It dies while the exception is in its queue, or before it comes.
    drop(supervisor);
    check!(matches!(assistant.wait()?, ExitStatus::Exception { .. }));
    Ok(())
}

pub(crate) fn a_task_that_is_stuck_in_an_exception_can_be_ended() -> Outcome {
    let (assistant, supervisor) = watched()?;
    drop(assistant.ask(Command::Read, [UNMAPPED, 0])?);
    let caught = supervisor.expect_access(Kern::InvalidAddress, UNMAPPED)?;
    ipc::task::terminate(&assistant.started.task, 12)?;
    check_eq!(assistant.wait()?, ExitStatus::Exited(12));
    check_eq!(caught.resume(), Err(Kern::SendInvalidReply));
    Ok(())
}

pub(crate) fn a_task_that_spins_can_be_ended() -> Outcome {
    let assistant = Assistant::start()?;
    drop(assistant.ask(Command::Spin, [0; 2])?);
    ipc::time::sleep(ipc::time::MILLISECOND);
    ipc::task::terminate(&assistant.started.task, 13)?;
    check_eq!(assistant.wait()?, ExitStatus::Exited(13));
    Ok(())
}

pub(crate) fn the_status_of_an_exit_is_told_to_all_who_ask() -> Outcome {
    let assistant = Assistant::start()?;
    let instance = assistant.started.instance;
    let waiter = crate::support::spawn_waiting(move || bootstrap::wait(instance))?;
    check_eq!(assistant.exit(21)?, ExitStatus::Exited(21));
    check_eq!(waiter.join(), Ok(ExitStatus::Exited(21)));
    check_eq!(bootstrap::wait(instance), Ok(ExitStatus::Exited(21)));
    Ok(())
}
