//! Each trap with wrong names, rights and values: the code that its text promises, and no harm.

use guest_test::{Msg, Outcome, check, check_eq};
use ipc::abi::buffer::BODY_SIZE;
use ipc::abi::notify::Request;
use ipc::abi::pass::Pass;
use ipc::abi::right::{Name, SpecialPort};
use ipc::abi::trap::{Trap, counter};
use ipc::time::now;
use ipc::{Kern, PortSet, ReceiveRight, SendRight, Untyped, task, trap, vm};

use crate::support::{is_empty, notice, port};

/// A name that was never given.
const NOTHING: Name = 0xFFFF_FF00;

/// A right to nothing in particular that a trap may want.
fn plain() -> Result<(ReceiveRight<Untyped>, SendRight<Untyped>), Kern> {
    let port = port(0)?;
    let right = port.make_send()?;
    Ok((port, right))
}

pub(crate) fn numbers_without_a_trap_are_told() -> Outcome {
    let known = |raw: u8| Trap::from_raw(raw).is_some();
    for raw in (0..=255_u8).filter(|raw| !known(*raw)) {
        check_eq!(
            (raw, guest_test::touch::trap(raw.into())),
            (raw, Kern::InvalidTrap.raw().into())
        );
    }
    for raw in [0x150, 0x1_0000_0050, 1 << 63 | 80] {
        let code = guest_test::touch::trap(raw);
        check_eq!((raw, code), (raw, Kern::InvalidTrap.raw().into()));
    }
    Ok(())
}

pub(crate) fn names_with_high_bits_are_no_names() -> Outcome {
    let (port, _right) = plain()?;
    let high = 1 << 32 | u64::from(port.name());
    let sent = Msg::send_to(port.name(), 1).to(high);
    check_eq!(sent.code(), Some(Kern::SendInvalidDest));
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn traps_on_ports_want_names() -> Outcome {
    let invalid = Err(Kern::InvalidName);
    check_eq!(trap::port_destroy(NOTHING), invalid);
    check_eq!(trap::port_destroy(0), invalid);
    check_eq!(trap::port_deallocate(NOTHING, 1), invalid);
    check_eq!(trap::port_make_send(NOTHING), invalid);
    check_eq!(trap::port_move_member(NOTHING, 0), invalid);
    check_eq!(trap::port_set_attributes(NOTHING, 0, 1), invalid);
    let asked = trap::port_request_notification(NOTHING, Request::DeadName, 0, 1);
    check_eq!(asked, Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn traps_on_ports_want_the_right_kind() -> Outcome {
    let invalid = Err(Kern::InvalidRight);
    let map = SendRight::<Untyped>::special(SpecialPort::Map)?;
    let set = trap::port_set_allocate()?;
    check_eq!(trap::port_destroy(map.name()), invalid);
    check_eq!(trap::port_make_send(map.name()), invalid);
    check_eq!(trap::port_make_send(set), invalid);
    check_eq!(trap::port_set_attributes(map.name(), 0, 1), invalid);
    check_eq!(trap::port_deallocate(set, 1), invalid);
    let (port, _right) = plain()?;
    check_eq!(trap::port_move_member(map.name(), set), invalid);
    check_eq!(trap::port_move_member(port.name(), map.name()), invalid);
    check_eq!(
        trap::port_move_member(port.name(), NOTHING),
        Err(Kern::InvalidName)
    );
    trap::port_destroy(set)?;
    Ok(())
}

pub(crate) fn notifications_want_a_port_of_ones_own() -> Outcome {
    let (port, right) = plain()?;
    let map = SendRight::<Untyped>::special(SpecialPort::Map)?;
    let ask = trap::port_request_notification;
    check_eq!(
        ask(right.name(), Request::DeadName, map.name(), 1),
        Err(Kern::InvalidCapability)
    );
    check_eq!(
        ask(port.name(), Request::NoSenders, NOTHING, 1),
        Err(Kern::InvalidCapability)
    );
    check_eq!(
        ask(map.name(), Request::NoSenders, port.name(), 1),
        Err(Kern::InvalidRight)
    );
    let set = PortSet::new()?;
    let name = ipc::right::Source::source_name(&set);
    check_eq!(
        ask(name, Request::DeadName, port.name(), 1),
        Err(Kern::InvalidRight)
    );
    let unknown = guest_test::touch::trap_with(
        Trap::PortRequestNotification,
        [right.name().into(), 4, port.name().into(), 0, 0, 0],
    );
    check_eq!(unknown, Err(Kern::InvalidValue));
    Ok(())
}

pub(crate) fn references_do_not_overflow_silently() -> Outcome {
    let (port, right) = plain()?;
    // More references than there are cannot be given back.
    check_eq!(
        trap::port_deallocate(right.name(), u32::MAX),
        Err(Kern::InvalidValue)
    );
    let many = guest_test::touch::trap_with(
        Trap::PortDeallocate,
        [right.name().into(), 1 << 32, 0, 0, 0, 0],
    );
    check_eq!(many, Err(Kern::InvalidValue));
    let limit = guest_test::touch::trap_with(
        Trap::PortSetAttributes,
        [port.name().into(), 0, 1 << 32, 0, 0, 0],
    );
    check_eq!(limit, Err(Kern::InvalidValue));
    Ok(())
}

pub(crate) fn traps_on_tasks_want_a_task() -> Outcome {
    let (port, right) = plain()?;
    let invalid = Err(Kern::InvalidTask);
    for name in [0, NOTHING, port.name(), vm::own().name()] {
        check_eq!(trap::task_terminate(name, 0), invalid);
        let set = trap::task_set_special_port(name, SpecialPort::Exception, right.name());
        check_eq!(set, invalid);
    }
    Ok(())
}

pub(crate) fn special_ports_have_their_rules() -> Outcome {
    let own = task::own()?;
    let (_port, right) = plain()?;
    let refused = Err(Kern::InvalidArgument);
    for which in [SpecialPort::TaskSelf, SpecialPort::Map] {
        let set = trap::task_set_special_port(own.name(), which, right.name());
        check_eq!(set, refused);
    }
    let exception = trap::task_get_special_port(SpecialPort::Exception);
    check_eq!(exception.err(), Some(Kern::InvalidArgument));
    for index in [0, 8, 100, 1 << 32 | 1] {
        let get = guest_test::touch::trap_with(Trap::TaskGetSpecialPort, [index, 0, 0, 0, 0, 0]);
        check_eq!((index, get), (index, refused));
    }
    let bad_right = trap::task_set_special_port(own.name(), SpecialPort::Exception, NOTHING);
    check_eq!(bad_right, Err(Kern::InvalidRight));
    Ok(())
}

pub(crate) fn a_task_has_the_privileged_ports_that_the_manifest_says() -> Outcome {
    for which in [SpecialPort::HostMemory, SpecialPort::Device] {
        let found = trap::task_get_special_port(which);
        check_eq!(found.err(), Some(Kern::InvalidName));
    }
    let host = trap::task_get_special_port(SpecialPort::HostControl)?;
    trap::port_deallocate(host, 1)?;
    Ok(())
}

pub(crate) fn privileged_traps_want_their_ports() -> Outcome {
    let (port, right) = plain()?;
    let invalid = Some(Kern::InvalidHost);
    let own = task::own()?;
    let map = vm::own();
    for name in [0, NOTHING, right.name(), own.name(), map.name()] {
        check_eq!(trap::host_shutdown(name, 0).err(), invalid);
        check_eq!(trap::space_create(name).err(), invalid);
        check_eq!(trap::task_create(name, 0, map.name()).err(), invalid);
        check_eq!(trap::task_set_band(name, own.name(), 31).err(), invalid);
        check_eq!(trap::host_set_memory_low(name, port.name()).err(), invalid);
        // SAFETY: no frame and no device is behind these names.
        unsafe {
            check_eq!(trap::frame_donate(name, 0, 1).err(), invalid);
        }
        // SAFETY: as above.
        unsafe {
            check_eq!(trap::device_port_read(name, 0x80, 1).err(), invalid);
        }
    }
    Ok(())
}

pub(crate) fn traps_on_threads_want_a_thread() -> Outcome {
    let (port, right) = plain()?;
    let own = task::own()?;
    let refused = Err(Kern::InvalidArgument);
    for name in [NOTHING, port.name(), own.name()] {
        check_eq!(trap::thread_terminate(name), refused);
        check_eq!(trap::thread_abort(name), refused);
        check_eq!(trap::thread_set_exception_port(name, right.name()), refused);
    }
    check_eq!(trap::thread_abort(0), refused);
    Ok(())
}

pub(crate) fn the_base_of_thread_data_stays_in_the_user_half() -> Outcome {
    for base in [0x8000_0000_0000, 0xFFFF_8000_0000_0000, u64::MAX] {
        let set = guest_test::touch::trap_with(Trap::ThreadSetTls, [base, 0, 0, 0, 0, 0]);
        check_eq!((base, set), (base, Err(Kern::InvalidAddress)));
    }
    Ok(())
}

pub(crate) fn batches_of_translations_need_a_space() -> Outcome {
    // A run for a space that this task has no right to: header only, one page, remove.
    let mut run = [0; 40];
    let header = ipc::abi::translation::Run {
        space: vm::own().name(),
        op: ipc::abi::translation::Op::RemoveRange,
        protection: ipc::abi::types::Prot::NONE,
        uncached: false,
        address: 0x1_0000,
        epoch: 0,
        count: 1,
        done: 0,
    };
    let (place, _) = run.split_at_mut(ipc::abi::translation::RUN_HEADER);
    place.copy_from_slice(&header.to_bytes());
    let batch = |bytes: &[u8]| {
        let _ = Msg::new(0).body(bytes);
        // SAFETY: no space is reached by these names.
        unsafe { trap::pmap_batch(bytes.len()) }.err()
    };
    let (whole, _) = run.split_at(ipc::abi::translation::RUN_HEADER);
    check_eq!(batch(whole), Some(Kern::InvalidName));
    let (cut, _) = run.split_at(20);
    check_eq!(batch(cut), Some(Kern::InvalidArgument));
    check_eq!(batch(&[0xFF; 32]), Some(Kern::InvalidArgument));
    // SAFETY: as above.
    let long = unsafe { trap::pmap_batch(BODY_SIZE + 1) };
    check_eq!(long.err(), Some(Kern::InvalidArgument));
    let take = |keep, address, frame| {
        // SAFETY: as above.
        unsafe { trap::pmap_take(vm::own().name(), keep, address, 1, frame) }
    };
    let pass = |pass: Pass| {
        // SAFETY: as above.
        unsafe { trap::pmap_pass(&pass) }
    };
    let plain = Pass {
        from: vm::own().name(),
        to: vm::own().name(),
        address: 0x1_0000,
        count: 2,
        fresh: false,
        epoch: 1,
        first: 0,
        shown: 1,
        at: 0x1_0000,
        rights: ipc::abi::types::Prot::READ,
    };
    check_eq!(pass(plain), Err(Kern::InvalidName));
    let wrong = Pass { shown: 3, ..plain };
    check_eq!(pass(wrong), Err(Kern::InvalidArgument));
    let outside = Pass {
        address: u64::MAX << 12,
        ..plain
    };
    check_eq!(pass(outside), Err(Kern::InvalidAddress));
    let (none, page) = (ipc::abi::types::Prot::NONE, 0x1_0000);
    check_eq!(take(none, page, 1), Err(Kern::InvalidName));
    check_eq!(take(none, page + 1, 1), Err(Kern::InvalidArgument));
    check_eq!(take(none, page, u32::MAX), Err(Kern::InvalidArgument));
    check_eq!(take(none, u64::MAX << 12, 1), Err(Kern::InvalidAddress));
    Ok(())
}

pub(crate) fn the_console_takes_a_body_and_no_more() -> Outcome {
    check_eq!(trap::console_write(0), Ok(()));
    for length in [BODY_SIZE + 1, usize::MAX] {
        check_eq!(trap::console_write(length), Err(Kern::InvalidArgument));
    }
    Ok(())
}

pub(crate) fn the_clock_goes_forward() -> Outcome {
    let (mut last, frequency) = trap::clock_get()?;
    check!(frequency >= 1_000_000);
    for _ in 0..1000 {
        let next = now();
        check!(next >= last);
        last = next;
    }
    Ok(())
}

pub(crate) fn the_counters_count() -> Outcome {
    let before = trap::host_statistics()?;
    let (port, right) = plain()?;
    Msg::send(&right, 1).go()?;
    Msg::receive(&port).go()?;
    let fresh = vm::own().allocate(4096)?;
    check_eq!(guest_test::touch::read(fresh), 0);
    vm::own().deallocate(fresh, 4096)?;
    let after = trap::host_statistics()?;
    let grown = |index: usize| {
        let (before, after) = (before.get(index), after.get(index));
        before
            .zip(after)
            .is_some_and(|(before, after)| after > before)
    };
    for index in [
        counter::KERNEL_ENTRIES,
        counter::SPACE_SWITCHES,
        counter::MESSAGES,
        counter::FAULTS,
    ] {
        check!(grown(index), "counter {index} did not grow");
    }
    Ok(())
}

pub(crate) fn a_thread_can_end_itself() -> Outcome {
    let told = port(0)?;
    let begun = guest_test::Supervisor::new()?;
    let thread = begun.run(|| {
        let _ = trap::thread_terminate(0);
    })?;
    thread.thread().watch(&told)?;
    notice(&told, ipc::abi::notify::DEAD_NAME)?;
    trap::port_deallocate(thread.thread().name(), 1)?;
    Ok(())
}
