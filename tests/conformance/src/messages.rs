//! Messages: what arrives of what was sent, how long it waits, and what is refused.

use guest_test::message::{arrived, take_body};
use guest_test::{Msg, Outcome, check, check_eq};
use ipc::abi::buffer::{BODY_SIZE, RIGHTS_MAX};
use ipc::abi::message::{Info, option};
use ipc::abi::right::{ArrivedKind, Disposition, SpecialPort};
use ipc::protocol::Message;
use ipc::protocol::bootstrap::{Bootstrap, BootstrapRegister, BootstrapWait};
use ipc::protocol::vm_map::{VmAllocate, VmMap, VmRegion};
use ipc::time::{MILLISECOND, after, now};
use ipc::{Kern, SendRight, bootstrap, vm};

use crate::support::{is_empty, port, spawn_waiting};

pub(crate) fn six_words_and_the_payload_arrive() -> Outcome {
    let port = port(0xFEED)?;
    let words = [1, u64::MAX, 0, 1 << 63, 5, 0x0123_4567_89AB_CDEF];
    Msg::send(&port.make_send()?, u32::MAX).words(words).go()?;
    let received = Msg::receive(&port).go()?;
    check_eq!(received.words, words);
    check_eq!(received.payload, 0xFEED);
    check_eq!(received.info, Info::short(u32::MAX));
    check_eq!(received.token, 0);
    Ok(())
}

pub(crate) fn words_go_straight_to_a_waiting_receiver() -> Outcome {
    let port = port(3)?;
    let right = port.make_send()?;
    let waiter = spawn_waiting(move || Msg::receive(&port).go())?;
    Msg::send(&right, 8).words([6, 5, 4, 3, 2, 1]).go()?;
    let received = waiter.join()?;
    check_eq!(received.words, [6, 5, 4, 3, 2, 1]);
    check_eq!((received.payload, received.info.id()), (3, 8));
    Ok(())
}

/// Bytes that are different from place to place.
fn pattern<const N: usize>(seed: u8) -> [u8; N] {
    core::array::from_fn(|at| (at as u8).wrapping_mul(7).wrapping_add(seed))
}

const LENGTHS: [usize; 9] = [1, 7, 8, 9, 63, 64, 1000, 3999, BODY_SIZE];

pub(crate) fn bodies_of_any_length_arrive_through_a_queue() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    for length in LENGTHS {
        let sent = pattern::<BODY_SIZE>(length as u8);
        let (sent, _) = sent.split_at(length);
        Msg::send(&right, 1).body(sent).go()?;
        // Whatever the buffer holds meanwhile: the message is a copy.
        let mut found = [0; BODY_SIZE];
        let _ = Msg::send(&right, 2).body(&[0xEE; BODY_SIZE]);
        let (found, _) = found.split_at_mut(length);
        let received = Msg::receive(&port).go()?;
        check_eq!(received.info.body(), length);
        check!(take_body(&received, found));
        check!(*found == *sent, "a body of {length} bytes changed");
    }
    Ok(())
}

pub(crate) fn bodies_of_any_length_go_straight_to_a_waiting_receiver() -> Outcome {
    for length in LENGTHS {
        let port = port(0)?;
        let right = port.make_send()?;
        let waiter = spawn_waiting(move || {
            let (mut found, expected) = ([0; BODY_SIZE], pattern::<BODY_SIZE>(9));
            let (found, _) = found.split_at_mut(length);
            let received = Msg::receive(&port).go()?;
            Ok::<bool, Kern>(take_body(&received, found) && expected.starts_with(found))
        })?;
        let sent = pattern::<BODY_SIZE>(9);
        let (sent, _) = sent.split_at(length);
        Msg::send(&right, 1).body(sent).go()?;
        check!(waiter.join()?, "a body of {length} bytes changed");
    }
    Ok(())
}

pub(crate) fn eight_rights_arrive_in_their_slots() -> Outcome {
    let through = port(0)?;
    let mut ports = alloc::vec::Vec::new();
    for payload in 0..RIGHTS_MAX as u64 {
        ports.push(port(100 + payload)?);
    }
    let rights: alloc::vec::Vec<_> = ports
        .iter()
        .map(|port| (port.name(), Disposition::MakeSend))
        .collect();
    Msg::send(&through.make_send()?, 1).rights(&rights).go()?;
    let received = Msg::receive(&through).go()?;
    check_eq!(received.info.rights(), RIGHTS_MAX);
    let expected: [_; RIGHTS_MAX] = core::array::from_fn(|at| (100 + at as u64, ArrivedKind::Own));
    check_eq!(arrived::<RIGHTS_MAX>(), expected);
    Ok(())
}

pub(crate) fn empty_slots_arrive_empty() -> Outcome {
    let (through, given) = (port(0)?, port(4)?);
    let rights = [
        (0, Disposition::None),
        (given.name(), Disposition::MakeSend),
        (12345, Disposition::None),
    ];
    Msg::send(&through.make_send()?, 1).rights(&rights).go()?;
    check_eq!(Msg::receive(&through).go()?.info.rights(), 3);
    let [(_, first), second, (_, third)] = arrived();
    check_eq!((first, third), (ArrivedKind::None, ArrivedKind::None));
    check_eq!(second, (4, ArrivedKind::Own));
    Ok(())
}

pub(crate) fn messages_keep_their_order() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    for id in 0..16 {
        Msg::send(&right, id).go()?;
    }
    for id in 0..16 {
        check_eq!(Msg::receive(&port).go()?.info.id(), id);
    }
    Ok(())
}

pub(crate) fn a_malformed_info_word_is_refused() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let bad = [
        Info((BODY_SIZE as u64 + 1) << 32),
        Info(0xFFF << 32),
        Info(9 << 44),
        Info(0xF << 44),
        Info(1 << 49),
        Info(1 << 63),
    ];
    for info in bad {
        let refused = Some(Kern::SendInvalidData);
        check_eq!(Msg::send(&right, 0).info(info).code(), refused);
        check_eq!(Msg::call(&right, 0).info(info).code(), refused);
    }
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn the_kernels_mark_cannot_be_forged() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let forged = Info::short(ipc::abi::fault::FAULT).from_kernel();
    check_eq!(
        Msg::send(&right, 0).info(forged).code(),
        Some(Kern::SendInvalidData)
    );
    Msg::send(&right, ipc::abi::exception::EXCEPTION).go()?;
    check!(!Msg::receive(&port).go()?.info.is_kernel());
    Ok(())
}

pub(crate) fn options_that_make_no_sense_are_refused() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let bad = [
        0,
        option::SEND | option::CALL,
        option::SEND | option::REPLY,
        option::CALL | option::RECEIVE,
        option::CALL | option::REPLY,
        option::CALL | option::NOTIFY,
        option::RECEIVE | option::NOTIFY,
        option::REPLY | option::NOTIFY,
        option::FORWARD | option::SEND,
        option::FORWARD | option::REPLY,
        option::SEND | 0x4000,
        option::SEND | 1 << 63,
    ];
    for options in bad {
        let refused = Msg::new(options).to(right.name().into()).code();
        check_eq!(refused, Some(Kern::InvalidArgument));
    }
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn a_receive_ends_at_its_deadline_and_not_before() -> Outcome {
    let port = port(0)?;
    let deadline = after(2 * MILLISECOND);
    let code = Msg::receive(&port).until(deadline).code();
    check_eq!(code, Some(Kern::ReceiveTimedOut));
    check!(now() >= deadline);
    Ok(())
}

pub(crate) fn a_call_ends_at_its_deadline_and_is_taken_back() -> Outcome {
    let port = port(0)?;
    let deadline = after(2 * MILLISECOND);
    let received = Msg::call(&port.make_send()?, 1).until(deadline).trap();
    check_eq!(received.outcome.code(), Kern::ReceiveTimedOut.raw());
    check!(received.outcome.was_sent());
    check!(now() >= deadline);
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn a_call_that_may_not_wait_does_nothing() -> Outcome {
    let port = port(0)?;
    let received = Msg::call(&port.make_send()?, 1).until(0).trap();
    check_eq!(received.outcome.code(), Kern::ReceiveTimedOut.raw());
    check!(!received.outcome.was_sent());
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn one_trap_sends_and_receives() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let received = Msg::send(&right, 5).word(55).and_receive(&port).go()?;
    check!(received.outcome.was_sent());
    check_eq!((received.info.id(), received.words[0]), (5, 55));
    let silent = Msg::send(&right, 6).and_receive(&port).until(0).go()?;
    check_eq!(silent.info.id(), 6);
    Ok(())
}

pub(crate) fn what_is_sent_stays_sent_if_nothing_is_received() -> Outcome {
    let (port, silent) = (port(0)?, port(0)?);
    let right = port.make_send()?;
    let sent = Msg::send(&right, 5).and_receive(&silent);
    let received = sent.until(after(MILLISECOND)).trap();
    check_eq!(received.outcome.code(), Kern::ReceiveTimedOut.raw());
    check!(received.outcome.was_sent());
    check_eq!(Msg::receive(&port).go()?.info.id(), 5);
    Ok(())
}

pub(crate) fn nothing_is_received_if_nothing_was_sent() -> Outcome {
    let (dies, port) = (port(0)?, port(0)?);
    let dead = dies.make_send()?;
    drop(dies);
    Msg::send(&port.make_send()?, 7).go()?;
    let received = Msg::send(&dead, 1).and_receive(&port).trap();
    check_eq!(received.outcome.code(), Kern::SendInvalidDest.raw());
    check!(!received.outcome.was_sent());
    check_eq!(Msg::receive(&port).go()?.info.id(), 7);
    Ok(())
}

pub(crate) fn only_receive_rights_are_received_from() -> Outcome {
    let refused = Some(Kern::ReceiveInvalidName);
    let map = SendRight::<ipc::protocol::vm_map::Map>::special(SpecialPort::Map)?;
    check_eq!(Msg::receive_from(map.name()).code(), refused);
    check_eq!(Msg::receive_from(0).code(), refused);
    check_eq!(Msg::receive_from(0xFFFF_FF00).code(), refused);
    let port = port(0)?;
    let right = port.make_send()?;
    let sent = Msg::send(&right, 1).and_receive(&ipc::ReceiveRight::<()>::from_name(0));
    check_eq!(sent.code(), refused);
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn an_unknown_message_is_a_bad_id() -> Outcome {
    let bad = u64::from(Kern::MigBadId.raw());
    let map = vm::own();
    for id in [0, 1, 3800, 3850, 3901, 2203, 4101, 100, u32::MAX] {
        let answer = Msg::call(&map, id).go()?;
        check_eq!((id, answer.words[0]), (id, bad));
    }
    let bootstrap = SendRight::<Bootstrap>::special(SpecialPort::Bootstrap)?;
    for id in [0, 4100, 4150, 3801, u32::MAX] {
        let answer = Msg::call(&bootstrap, id).go()?;
        check_eq!((id, answer.words[0]), (id, bad));
    }
    server_is_well()
}

pub(crate) fn a_garbled_message_is_a_type_error() -> Outcome {
    let bad = u64::from(Kern::MigTypeError.raw());
    let map = vm::own();
    // A word that its field cannot hold.
    let answer = Msg::call(&map, VmAllocate::ID).words([0, 1, 1 << 32, 0, 0, 0]);
    check_eq!(answer.go()?.words[0], bad);
    // A body where there is none.
    let answer = Msg::call(&map, VmAllocate::ID).body(&[0; 8]);
    check_eq!(answer.go()?.words[0], bad);
    // A body that ends too soon, one that goes on, and one of nonsense.
    check_eq!(Msg::call(&map, VmRegion::ID).go()?.words[0], bad);
    for body in [&[0xFF; 1][..], &[0; 2], &[0xFF; 4000]] {
        let answer = Msg::call(&map, VmRegion::ID).body(body);
        check_eq!(answer.go()?.words[0], bad);
    }
    let bootstrap = SendRight::<Bootstrap>::special(SpecialPort::Bootstrap)?;
    for body in [&[][..], &[200, 65], &[2, 0xFF, 0xFE, 0]] {
        let answer = Msg::call(&bootstrap, 4102).body(body);
        check_eq!(answer.go()?.words[0], bad);
    }
    server_is_well()
}

pub(crate) fn the_wrong_number_of_rights_is_bad_arguments() -> Outcome {
    let bad = u64::from(Kern::MigBadArguments.raw());
    let map = vm::own();
    let surplus = port(0)?;
    let right = (surplus.name(), Disposition::MakeSend);
    let answer = Msg::call(&map, VmAllocate::ID).rights(&[right]);
    check_eq!(answer.go()?.words[0], bad);
    check_eq!(Msg::call(&map, VmMap::ID).go()?.words[0], bad);
    let answer = Msg::call(&map, VmMap::ID).rights(&[right; 8]);
    check_eq!(answer.go()?.words[0], bad);
    let bootstrap = SendRight::<Bootstrap>::special(SpecialPort::Bootstrap)?;
    let answer = Msg::call(&bootstrap, BootstrapRegister::ID);
    check_eq!(answer.go()?.words[0], bad);
    // What was sent along is not kept.
    surplus.watch_senders(&surplus)?;
    crate::support::notice(&surplus, ipc::abi::notify::NO_SENDERS)?;
    server_is_well()
}

/// Whether the VM server and the name service still do their work.
fn server_is_well() -> Outcome {
    let address = vm::own().allocate(1)?;
    vm::own().deallocate(address, 1)?;
    let unknown = bootstrap::look_up::<()>("conformance.nobody");
    check_eq!(unknown.err(), Some(Kern::InvalidName));
    Ok(())
}

pub(crate) fn one_way_nonsense_does_no_harm() -> Outcome {
    let map = vm::own();
    for id in [0, 3850, VmAllocate::ID, VmRegion::ID, VmMap::ID] {
        Msg::send(&map, id).body(&[0xFF; 100]).go()?;
    }
    server_is_well()
}

pub(crate) fn a_name_is_registered_once_and_free_when_its_port_dies() -> Outcome {
    const NAME: &str = "conformance.name";
    let first = port(11)?;
    bootstrap::register(NAME, first.make())?;
    let taken = bootstrap::register(NAME, first.make());
    check_eq!(taken, Err(Kern::NameExists));
    let found = bootstrap::look_up::<()>(NAME);
    // A right to one's own port arrives as its payload: there is no name to call.
    check_eq!(found.err(), Some(Kern::InvalidRight));
    drop(first);
    let free = || {
        let port = port(12)?;
        bootstrap::register(NAME, port.make())
    };
    check!(crate::support::until(|| free().is_ok()));
    Ok(())
}

pub(crate) fn the_name_service_says_what_is_wrong() -> Outcome {
    let port = port(0)?;
    let empty = bootstrap::register("", port.make());
    check_eq!(empty, Err(Kern::InvalidArgument));
    let nothing = bootstrap::register("conformance.x", ipc::Passed::NONE);
    check_eq!(nothing, Err(Kern::InvalidRight));
    let unknown = bootstrap::start("no-such-module", "");
    check_eq!(unknown.err(), Some(Kern::InvalidName));
    let service = SendRight::<Bootstrap>::special(SpecialPort::Bootstrap)?;
    let never = BootstrapWait { instance: u32::MAX };
    check_eq!(service.call(&never).err(), Some(Kern::InvalidArgument));
    Ok(())
}
