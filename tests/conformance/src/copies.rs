//! Copies: vm_copy, copy objects, and copy-on-write seen from both sides.

use guest_test::assistant::Command;
use guest_test::{Assistant, Outcome, Supervisor, check, check_eq, touch};
use ipc::abi::layout::{PAGE_SIZE, USER_MAX};
use ipc::abi::types::{CopyStrategy, Prot};
use ipc::mapping::Options;
use ipc::protocol::copy::CopyDescribe;
use ipc::{Kern, Mapping, vm};

use crate::pager::{PLAIN, Ready, Scripted};
use crate::support::{filled, set_word, word};

/// An address that nothing is ever mapped at.
const UNMAPPED: u64 = 0x5000_0001_0000;

/// Memory whose bytes are all different from their neighbours.
fn bytes(pages: u64, seed: u8) -> Outcome<Mapping> {
    let memory = Mapping::allocate(pages * PAGE_SIZE)?;
    for page in 0..pages {
        let line: [u8; PAGE_SIZE as usize] =
            core::array::from_fn(|at| byte(page * PAGE_SIZE + at as u64, seed));
        memory.write(page * PAGE_SIZE, &line)?;
    }
    Ok(memory)
}

const fn byte(at: u64, seed: u8) -> u8 {
    ((at ^ at >> 8).wrapping_mul(31) as u8).wrapping_add(seed)
}

/// Whether `size` bytes from `at` on are those of `bytes` from `from` on.
fn holds(memory: &Mapping, at: u64, size: u64, from: u64, seed: u8) -> Outcome<bool> {
    let mut done = 0;
    while done < size {
        let mut piece = [0; 256];
        let length = (size - done).min(256);
        let (piece, _) = piece.split_at_mut(length as usize);
        memory.read(at + done, piece)?;
        let expected = |place: u64| byte(from + done + place, seed);
        if (0..)
            .zip(&*piece)
            .any(|(place, found)| *found != expected(place))
        {
            return Ok(false);
        }
        done += length;
    }
    Ok(true)
}

pub(crate) fn whole_pages_are_copied() -> Outcome {
    let (from, to) = (bytes(5, 1)?, bytes(5, 2)?);
    vm::own().copy_range(from.address(), 5 * PAGE_SIZE, to.address())?;
    check!(holds(&to, 0, 5 * PAGE_SIZE, 0, 1)?);
    check!(holds(&from, 0, 5 * PAGE_SIZE, 0, 1)?);
    Ok(())
}

pub(crate) fn a_copy_and_its_source_part_when_either_is_written() -> Outcome {
    let (from, to) = (filled(4, 10)?, Mapping::allocate(4 * PAGE_SIZE)?);
    vm::own().copy_range(from.address(), 4 * PAGE_SIZE, to.address())?;
    set_word(&from, 0, 0xF0)?;
    set_word(&to, 1, 0xF1)?;
    for (page, source, copy) in [(0, 0xF0, 10), (1, 11, 0xF1), (2, 12, 12), (3, 13, 13)] {
        check_eq!((page, word(&from, page)?), (page, source));
        check_eq!((page, word(&to, page)?), (page, copy));
    }
    // And again in the other order.
    set_word(&to, 2, 0xF2)?;
    set_word(&from, 3, 0xF3)?;
    check_eq!((word(&from, 2)?, word(&to, 2)?), (12, 0xF2));
    check_eq!((word(&from, 3)?, word(&to, 3)?), (0xF3, 13));
    Ok(())
}

pub(crate) fn a_copy_of_a_copy_stands_alone() -> Outcome {
    let first = filled(2, 1)?;
    let (second, third) = (
        Mapping::allocate(2 * PAGE_SIZE)?,
        Mapping::allocate(2 * PAGE_SIZE)?,
    );
    vm::own().copy_range(first.address(), 2 * PAGE_SIZE, second.address())?;
    set_word(&second, 0, 20)?;
    vm::own().copy_range(second.address(), 2 * PAGE_SIZE, third.address())?;
    set_word(&second, 0, 200)?;
    set_word(&first, 1, 100)?;
    check_eq!((word(&first, 0)?, word(&first, 1)?), (1, 100));
    check_eq!((word(&second, 0)?, word(&second, 1)?), (200, 2));
    check_eq!((word(&third, 0)?, word(&third, 1)?), (20, 2));
    drop(second);
    check_eq!((word(&third, 0)?, word(&third, 1)?), (20, 2));
    Ok(())
}

pub(crate) fn memory_never_touched_copies_as_zeros() -> Outcome {
    let from = Mapping::allocate(2 * PAGE_SIZE)?;
    let to = filled(2, 5)?;
    vm::own().copy_range(from.address(), 2 * PAGE_SIZE, to.address())?;
    // Filled with zeros by a read only after the copy, then written.
    check_eq!(word(&from, 0)?, 0);
    set_word(&from, 0, 9)?;
    set_word(&from, 1, 9)?;
    check_eq!((word(&to, 0)?, word(&to, 1)?), (0, 0));
    Ok(())
}

pub(crate) fn bytes_are_copied_from_and_to_any_place() -> Outcome {
    let pages = 4 * PAGE_SIZE;
    for (source, size, target) in [
        (0, 1, 0),
        (1, 100, 7),
        (PAGE_SIZE - 1, 2, PAGE_SIZE - 1),
        (5, 2 * PAGE_SIZE, 5),
        (17, 2 * PAGE_SIZE + 3, 4000),
        (0, PAGE_SIZE, 1),
        (PAGE_SIZE, PAGE_SIZE + 1, PAGE_SIZE),
    ] {
        let (from, to) = (bytes(4, 1)?, bytes(4, 2)?);
        vm::own().copy_range(from.address() + source, size, to.address() + target)?;
        let what = (source, size, target);
        check!(holds(&to, target, size, source, 1)?, "{what:?}: the copy");
        check!(
            holds(&to, 0, target, 0, 2)?,
            "{what:?}: what lies before it"
        );
        let end = target + size;
        check!(
            holds(&to, end, pages - end, end, 2)?,
            "{what:?}: what lies behind it"
        );
        check!(holds(&from, 0, pages, 0, 1)?, "{what:?}: the source");
    }
    Ok(())
}

pub(crate) fn ranges_that_overlap_are_copied_as_if_at_once() -> Outcome {
    for (source, size, target) in [
        (0, 3 * PAGE_SIZE, PAGE_SIZE),
        (PAGE_SIZE, 3 * PAGE_SIZE, 0),
        (0, 2 * PAGE_SIZE + 9, 100),
        (300, 2 * PAGE_SIZE, 0),
        (PAGE_SIZE, PAGE_SIZE, PAGE_SIZE),
    ] {
        let memory = bytes(4, 3)?;
        let base = memory.address();
        vm::own().copy_range(base + source, size, base + target)?;
        let what = (source, size, target);
        check!(holds(&memory, target, size, source, 3)?, "{what:?}");
    }
    Ok(())
}

pub(crate) fn a_copy_of_nothing_always_succeeds() -> Outcome {
    check_eq!(vm::own().copy_range(UNMAPPED, 0, UNMAPPED), Ok(()));
    Ok(())
}

pub(crate) fn what_is_wrong_with_a_copy_is_told_before_a_byte_changes() -> Outcome {
    let (from, to) = (bytes(2, 1)?, bytes(2, 2)?);
    let copy = |source, size, target| vm::own().copy_range(source, size, target);
    let invalid = Err(Kern::InvalidAddress);
    check_eq!(copy(UNMAPPED, PAGE_SIZE, to.address()), invalid);
    check_eq!(copy(from.address(), PAGE_SIZE, UNMAPPED), invalid);
    check_eq!(copy(from.address(), u64::MAX, to.address()), invalid);
    check_eq!(copy(USER_MAX, PAGE_SIZE, to.address()), invalid);
    let (address, middle) = (to.address(), to.address() + PAGE_SIZE);
    vm::own().protect(middle, PAGE_SIZE, Prot::READ)?;
    let denied = Err(Kern::ProtectionFailure);
    check_eq!(copy(from.address(), 2 * PAGE_SIZE, address), denied);
    check!(holds(&to, 0, 2 * PAGE_SIZE, 0, 2)?);
    from.protect(Prot::NONE)?;
    check_eq!(copy(from.address(), PAGE_SIZE, address), denied);
    check!(holds(&to, 0, 2 * PAGE_SIZE, 0, 2)?);
    Ok(())
}

pub(crate) fn a_destination_keeps_its_attributes() -> Outcome {
    let (from, to) = (filled(1, 3)?, filled(1, 4)?);
    from.protect(Prot::READ)?;
    vm::own().protect_maximum(to.address(), PAGE_SIZE, Prot::DEFAULT)?;
    to.inherit(ipc::abi::types::Inherit::Share)?;
    vm::own().copy_range(from.address(), PAGE_SIZE, to.address())?;
    let region = vm::own().region(to.address())?;
    let both = u32::from(Prot::DEFAULT.bits());
    check_eq!((region.protection, region.max_protection), (both, both));
    check_eq!(region.inheritance, 0);
    check_eq!(word(&to, 0)?, 3);
    Ok(())
}

pub(crate) fn a_copy_object_is_a_snapshot() -> Outcome {
    let from = filled(3, 50)?;
    let copy = from.snapshot()?;
    let said = copy.call(&CopyDescribe {})?;
    check_eq!((said.size, said.offset), (3 * PAGE_SIZE, 0));
    check!(!said.depends_on_pager);
    for page in 0..3 {
        set_word(&from, page, 0)?;
    }
    let address = vm::own().copy_out(&copy, None)?;
    for page in 0..3 {
        check_eq!(touch::read(address + page * PAGE_SIZE), 50 + page);
    }
    let region = vm::own().region(address)?;
    check_eq!(region.protection, u32::from(Prot::DEFAULT.bits()));
    check_eq!(region.max_protection, u32::from(Prot::ALL.bits()));
    vm::own().deallocate(address, 3 * PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_copy_object_is_used_up_by_copyout() -> Outcome {
    let from = filled(1, 1)?;
    let copy = from.snapshot()?;
    let address = vm::own().copy_out(&copy, None)?;
    let again = vm::own().copy_out(&copy, None);
    check!(again.is_err());
    vm::own().deallocate(address, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_copy_object_lands_with_its_place_in_the_page() -> Outcome {
    let from = bytes(3, 6)?;
    let copy = vm::own().copy_in(from.address() + 100, 2 * PAGE_SIZE, false)?;
    let said = copy.call(&CopyDescribe {})?;
    check_eq!((said.size, said.offset), (2 * PAGE_SIZE, 100));
    let crooked = vm::own().copy_out(&copy, Some(UNMAPPED));
    check_eq!(crooked, Err(Kern::InvalidArgument));
    let address = vm::own().copy_out(&copy, None)?;
    check_eq!(address % PAGE_SIZE, 100);
    // SAFETY: the copy was put there for us alone.
    let landed = unsafe { Mapping::from_raw(address - 100, 3 * PAGE_SIZE) };
    check!(holds(&landed, 100, 2 * PAGE_SIZE, 100, 6)?);
    Ok(())
}

pub(crate) fn an_empty_copy_object_copies_nothing() -> Outcome {
    let copy = vm::own().copy_in(UNMAPPED, 0, false)?;
    check_eq!(copy.call(&CopyDescribe {})?.size, 0);
    check_eq!(vm::own().copy_out(&copy, None), Ok(0));
    Ok(())
}

pub(crate) fn what_is_wrong_with_a_copyin_leaves_the_source() -> Outcome {
    let from = filled(2, 1)?;
    let (map, address) = (vm::own(), from.address());
    let holes = map.copy_in(UNMAPPED, PAGE_SIZE, true);
    check_eq!(holes.err(), Some(Kern::InvalidAddress));
    let overflow = map.copy_in(address, u64::MAX, true);
    check_eq!(overflow.err(), Some(Kern::InvalidAddress));
    map.protect(address + PAGE_SIZE, PAGE_SIZE, Prot::NONE)?;
    let denied = map.copy_in(address, 2 * PAGE_SIZE, true);
    check_eq!(denied.err(), Some(Kern::ProtectionFailure));
    check_eq!(word(&from, 0)?, 1);
    Ok(())
}

pub(crate) fn a_source_can_be_removed_with_the_copy() -> Outcome {
    let supervisor = Supervisor::new()?;
    let (address, size) = filled(2, 70)?.into_raw();
    let copy = vm::own().copy_in(address, size, true)?;
    let thread = supervisor.run(move || touch::read(address))?;
    let _caught = supervisor.expect_access(Kern::InvalidAddress, address)?;
    drop(thread);
    let landed = vm::own().copy_out(&copy, None)?;
    check_eq!(touch::read(landed), 70);
    check_eq!(touch::read(landed + PAGE_SIZE), 71);
    vm::own().deallocate(landed, size)?;
    Ok(())
}

/// Pages that the server has copied, for whatever reason.
fn copied() -> Outcome<u64> {
    let counts = vm::own().statistics()?;
    Ok(counts.cow_breaks + counts.pages_copied + counts.copy_pushes)
}

pub(crate) fn what_is_taken_from_a_source_in_parts_moves() -> Outcome {
    const PARTS: u64 = 32;
    let from = filled(2 * PARTS, 0)?;
    let map = vm::own();
    let before = copied()?;
    for part in 0..PARTS {
        let page = 2 * part;
        let copy = map.copy_in(from.address() + page * PAGE_SIZE, PAGE_SIZE, true)?;
        let landed = map.copy_out(&copy, Some(UNMAPPED + page * PAGE_SIZE))?;
        check_eq!((part, touch::read(landed)), (part, page));
        // SAFETY: the copy was put there for us alone.
        unsafe { touch::write(landed, part) };
        set_word(&from, page + 1, part)?;
    }
    // Others may have something copied meanwhile, but not as much.
    let pages = copied()? - before;
    check!(pages < PARTS / 2);
    for part in 0..PARTS {
        let landed = UNMAPPED + 2 * part * PAGE_SIZE;
        check_eq!(touch::read(landed), part);
        check_eq!(word(&from, 2 * part + 1)?, part);
        map.deallocate(landed, PAGE_SIZE)?;
    }
    Ok(())
}

pub(crate) fn a_copy_object_goes_to_another_task() -> Outcome {
    let assistant = Assistant::start()?;
    let from = filled(2, 80)?;
    let copy = from.snapshot()?;
    let address = assistant.started.map.copy_out(&copy, None)?;
    check_eq!(assistant.read(address)?, 80);
    assistant.write(address, 800)?;
    set_word(&from, 1, 810)?;
    check_eq!(word(&from, 0)?, 80);
    check_eq!(assistant.read(address)?, 800);
    check_eq!(assistant.read(address + PAGE_SIZE)?, 81);
    Ok(())
}

pub(crate) fn a_copy_outlives_the_task_that_it_came_from() -> Outcome {
    let assistant = Assistant::start()?;
    let theirs = assistant.started.map.allocate(PAGE_SIZE)?;
    assistant.write(theirs, 4711)?;
    let copy = assistant.started.map.copy_in(theirs, PAGE_SIZE, false)?;
    assistant.exit(0)?;
    let address = vm::own().copy_out(&copy, None)?;
    check_eq!(touch::read(address), 4711);
    vm::own().deallocate(address, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_copy_object_is_mapped_in_parts() -> Outcome {
    let from = filled(4, 30)?;
    let copy = from.snapshot()?;
    let part = Options::new(2 * PAGE_SIZE)
        .copy_object(&copy)
        .copied()
        .offset(PAGE_SIZE)
        .map()?;
    check_eq!((word(&part, 0)?, word(&part, 1)?), (31, 32));
    set_word(&part, 0, 0)?;
    let whole = Options::new(4 * PAGE_SIZE)
        .copy_object(&copy)
        .copied()
        .map()?;
    check_eq!((word(&whole, 1)?, word(&whole, 3)?), (31, 33));
    let beyond = Options::new(2 * PAGE_SIZE)
        .copy_object(&copy)
        .offset(3 * PAGE_SIZE)
        .map();
    check_eq!(beyond.err(), Some(Kern::InvalidArgument));
    Ok(())
}

pub(crate) fn bytes_are_written_into_another_map() -> Outcome {
    let assistant = Assistant::start()?;
    let map = &assistant.started.map;
    let address = map.allocate(2 * PAGE_SIZE)?;
    let word = 0x0102_0304_0506_0708_u64;
    map.write_bytes(address + 4000, &word.to_le_bytes())?;
    check_eq!(assistant.read(address + 4000)?, word);
    check_eq!(assistant.read(address + 3992)?, 0);
    let from = bytes(2, 1)?;
    let size = vm::own().read_overwrite(from.address() + 3, PAGE_SIZE, map, address + 8)?;
    check_eq!(size, PAGE_SIZE);
    let expected: [u8; 8] = core::array::from_fn(|at| byte(3 + at as u64, 1));
    check_eq!(assistant.read(address + 8)?, u64::from_le_bytes(expected));
    check_eq!(assistant.read(address)?, 0);
    Ok(())
}

pub(crate) fn writing_more_than_a_copy_holds_is_refused() -> Outcome {
    let (from, to) = (filled(1, 1)?, filled(2, 7)?);
    let copy = from.snapshot()?;
    let said = vm::own().write(to.address(), PAGE_SIZE + 1, &copy);
    check_eq!(said, Err(Kern::InvalidArgument));
    check_eq!(word(&to, 0)?, 7);
    vm::own().write(to.address(), PAGE_SIZE, &copy)?;
    check_eq!((word(&to, 0)?, word(&to, 1)?), (1, 8));
    Ok(())
}

pub(crate) fn many_copies_leave_no_long_chain() -> Outcome {
    let memory = filled(2, 1)?;
    let spare = Mapping::allocate(2 * PAGE_SIZE)?;
    for round in 0..200 {
        vm::own().copy_range(memory.address(), 2 * PAGE_SIZE, spare.address())?;
        set_word(&memory, 0, round)?;
        set_word(&spare, 1, round)?;
    }
    let depth = vm::own().region(memory.address())?.shadow_depth;
    check!(depth <= 4, "a chain of {depth} objects");
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (199, 2));
    check_eq!(word(&spare, 1)?, 199);
    Ok(())
}

pub(crate) fn private_writes_do_not_reach_the_object() -> Outcome {
    let assistant = Assistant::start()?;
    let ready = Ready {
        strategy: CopyStrategy::Delay,
        ..PLAIN
    };
    let (pager, shared) = Scripted::mapped(&assistant, 1, ready)?;
    let private = Options::new(PAGE_SIZE)
        .object(&pager.right)
        .private()
        .map_in(&assistant.started.map)?;
    let pending = assistant.ask(Command::Write, [private, 1])?;
    pager.wanted(0)?;
    pager.bring(0, 0, &[7])?;
    check_eq!(pending.said()?.result, Ok(0));
    check_eq!(assistant.read(private)?, 1);
    check_eq!(assistant.read(shared)?, 7);
    Ok(())
}

pub(crate) fn a_copied_mapping_is_a_snapshot() -> Outcome {
    let assistant = Assistant::start()?;
    let ready = Ready {
        strategy: CopyStrategy::Delay,
        ..PLAIN
    };
    let (pager, shared) = Scripted::mapped(&assistant, 2, ready)?;
    pager.bring(0, 0, &[1, 2])?;
    let copy = Options::new(2 * PAGE_SIZE)
        .object(&pager.right)
        .copied()
        .map_in(&assistant.started.map)?;
    assistant.write(shared, 10)?;
    assistant.write(copy + PAGE_SIZE, 20)?;
    check_eq!(assistant.read(copy)?, 1);
    check_eq!(assistant.read(shared + PAGE_SIZE)?, 2);
    check_eq!(assistant.read(copy + PAGE_SIZE)?, 20);
    Ok(())
}
