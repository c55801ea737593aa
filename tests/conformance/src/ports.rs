//! Ports and names: how they are made, counted, moved and told of.

use alloc::vec::Vec;

use guest_test::assistant::{Assistant, Command};
use guest_test::message::arrived;
use guest_test::{Msg, Outcome, check, check_eq};
use ipc::abi::notify::{self, ExitStatus, Request};
use ipc::abi::port::RightKind;
use ipc::abi::right::{ArrivedKind, Disposition, Name};
use ipc::right::Source;
use ipc::{Kern, PortSet, ReceiveRight, SendRight, Untyped, trap};

use crate::support::{Port, is_empty, notice, port, spawn_waiting};

/// What a port's queue holds at first.
const QUEUE_LIMIT: u32 = 16;

pub(crate) fn a_port_is_made_and_destroyed() -> Outcome {
    let name = trap::port_allocate(7)?;
    trap::port_destroy(name)?;
    check_eq!(trap::port_destroy(name), Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn a_name_given_back_is_not_taken_for_its_successor() -> Outcome {
    let mut stale: [Name; 8] = [0; 8];
    for name in &mut stale {
        *name = trap::port_allocate(0)?;
        trap::port_destroy(*name)?;
    }
    let live = port(0)?;
    for name in stale {
        check!(name != live.name());
        check_eq!(
            trap::port_set_attributes(name, 0, 0),
            Err(Kern::InvalidName)
        );
    }
    Ok(())
}

pub(crate) fn user_references_are_counted() -> Outcome {
    let port = port(0)?;
    for _ in 0..3 {
        trap::port_make_send(port.name())?;
    }
    let name = port.name();
    check_eq!(trap::port_deallocate(name, 0), Err(Kern::InvalidValue));
    check_eq!(trap::port_deallocate(name, 4), Err(Kern::InvalidValue));
    check_eq!(trap::port_deallocate(name, 2), Ok(()));
    check_eq!(Msg::send_to(name, 1).code(), None);
    check_eq!(trap::port_deallocate(name, 1), Ok(()));
    check_eq!(Msg::send_to(name, 1).code(), Some(Kern::SendInvalidDest));
    check_eq!(trap::port_deallocate(name, 1), Err(Kern::InvalidRight));
    Ok(())
}

pub(crate) fn a_port_that_dies_leaves_a_dead_name() -> Outcome {
    let name = port(0)?.into_name();
    trap::port_make_send(name)?;
    trap::port_destroy(name)?;
    check_eq!(Msg::send_to(name, 1).code(), Some(Kern::SendInvalidDest));
    check_eq!(trap::port_destroy(name), Err(Kern::InvalidRight));
    check_eq!(trap::port_deallocate(name, 1), Ok(()));
    check_eq!(trap::port_deallocate(name, 1), Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn a_dead_name_is_told_once_with_a_reference() -> Outcome {
    let (dies, told) = (port(0)?, port(3)?);
    let right = dies.make_send()?;
    right.watch(&told)?;
    drop(dies);
    let (received, [name, status, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(received.payload, 3);
    check_eq!((name, status), (right.name().into(), 0));
    // One reference is the right's own, one came with the notice.
    check_eq!(trap::port_deallocate(right.name(), 1), Ok(()));
    check!(is_empty(&told));
    Ok(())
}

pub(crate) fn a_dead_name_request_that_comes_late_is_told_at_once() -> Outcome {
    let (dies, told) = (port(0)?, port(0)?);
    let right = dies.make_send()?;
    drop(dies);
    right.watch(&told)?;
    let (_, [name, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(name, right.name().into());
    trap::port_deallocate(right.name(), 1)?;
    Ok(())
}

pub(crate) fn a_request_that_is_taken_back_is_not_told() -> Outcome {
    let (dies, told) = (port(0)?, port(0)?);
    let right = dies.make_send()?;
    right.watch(&told)?;
    trap::port_request_notification(right.name(), Request::DeadName, 0, 1)?;
    drop(dies);
    check!(is_empty(&told));
    Ok(())
}

pub(crate) fn no_senders_tells_how_many_were_made() -> Outcome {
    let (port, told) = (port(0)?, port(0)?);
    port.watch_senders(&told)?;
    check!(is_empty(&told));
    for _ in 0..3 {
        trap::port_make_send(port.name())?;
    }
    trap::port_deallocate(port.name(), 2)?;
    check!(is_empty(&told));
    trap::port_deallocate(port.name(), 1)?;
    let (_, [made, ..]) = notice(&told, notify::NO_SENDERS)?;
    check_eq!(made, 3);
    Ok(())
}

pub(crate) fn no_senders_asked_late_is_told_at_once() -> Outcome {
    let port = port(9)?;
    drop(port.make_send()?);
    port.watch_senders(&port)?;
    let (received, [made, ..]) = notice(&port, notify::NO_SENDERS)?;
    check_eq!((received.payload, made), (9, 1));
    Ok(())
}

pub(crate) fn no_senders_comes_when_the_last_holder_ends() -> Outcome {
    let port = port(0)?;
    let assistant = Assistant::start()?;
    assistant.keep(port.name(), Disposition::MakeSend)?;
    port.watch_senders(&port)?;
    check_eq!(assistant.exit(0)?, ExitStatus::Exited(0));
    let (_, [made, ..]) = notice(&port, notify::NO_SENDERS)?;
    check_eq!(made, 1);
    Ok(())
}

/// A send-once right to one of our own ports: made and moved together with the receive right, it
/// arrives before that.
fn send_once() -> Outcome<(Port, Name)> {
    let (through, port) = (port(0)?, port(5)?);
    let name = port.into_name();
    let rights = [
        (name, Disposition::MakeSendOnce),
        (name, Disposition::MoveReceive),
    ];
    Msg::send(&through.make_send()?, 1).rights(&rights).go()?;
    Msg::receive(&through).go()?;
    let [(once, first), (receive, second)] = arrived();
    check_eq!(
        (first, second),
        (ArrivedKind::SendOnce, ArrivedKind::Receive)
    );
    Ok((ReceiveRight::from_name(receive as Name), once as Name))
}

pub(crate) fn a_send_once_right_sends_exactly_once() -> Outcome {
    let (port, once) = send_once()?;
    check_eq!(Msg::send_to(once, 4).word(44).code(), None);
    check_eq!(Msg::send_to(once, 4).code(), Some(Kern::SendInvalidDest));
    let received = Msg::receive(&port).go()?;
    check_eq!((received.payload, received.words[0]), (5, 44));
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn a_send_once_right_passes_a_full_queue() -> Outcome {
    let (port, once) = send_once()?;
    let right = port.make_send()?;
    port.set_attributes(0, 1)?;
    Msg::send(&right, 1).go()?;
    check_eq!(Msg::send(&right, 1).until(0).code(), Some(Kern::WouldBlock));
    check_eq!(Msg::send_to(once, 2).until(0).code(), None);
    Ok(())
}

pub(crate) fn a_send_once_right_is_not_copied() -> Outcome {
    let (_port, once) = send_once()?;
    let through = port(0)?;
    let right = through.make_send()?;
    for disposition in [Disposition::CopySend, Disposition::MoveSend] {
        let sent = Msg::send(&right, 1).rights(&[(once, disposition)]);
        check_eq!(sent.code(), Some(Kern::SendInvalidRight));
    }
    check_eq!(Msg::send_to(once, 1).code(), None);
    Ok(())
}

pub(crate) fn rights_to_own_ports_arrive_as_their_payloads() -> Outcome {
    let (through, own) = (port(0)?, port(0xABCD)?);
    let _kept = own.make_send()?;
    let name = own.name();
    let rights = [
        (name, Disposition::CopySend),
        (name, Disposition::MakeSend),
        (name, Disposition::MakeSendOnce),
    ];
    Msg::send(&through.make_send()?, 1).rights(&rights).go()?;
    Msg::receive(&through).go()?;
    check_eq!(arrived::<3>(), [(0xABCD, ArrivedKind::Own); 3]);
    // They were given back: the only reference is the kept one.
    check_eq!(trap::port_deallocate(name, 2), Err(Kern::InvalidValue));
    Ok(())
}

pub(crate) fn rights_travel_in_every_disposition() -> Outcome {
    let assistant = Assistant::start()?;
    let kind = |name, disposition| -> Outcome<ArrivedKind> {
        let pending = assistant.ask_with(Command::Keep, [0; 2], (name, disposition))?;
        Ok(pending.said()?.right.1)
    };
    let ours = port(0)?;
    let right = ours.make_send()?;
    check_eq!(kind(ours.name(), Disposition::MakeSend)?, ArrivedKind::Send);
    check_eq!(
        kind(ours.name(), Disposition::MakeSendOnce)?,
        ArrivedKind::SendOnce
    );
    check_eq!(
        kind(right.name(), Disposition::CopySend)?,
        ArrivedKind::Send
    );
    check_eq!(Msg::send(&right, 1).code(), None);
    let name = right.into_name();
    check_eq!(kind(name, Disposition::MoveSend)?, ArrivedKind::Send);
    // The right has gone; the receive right of the same name has not.
    check_eq!(Msg::send_to(name, 1).code(), Some(Kern::SendInvalidDest));
    let (_port, once) = send_once()?;
    check_eq!(
        kind(once, Disposition::MoveSendOnce)?,
        ArrivedKind::SendOnce
    );
    check_eq!(trap::port_deallocate(once, 1), Err(Kern::InvalidName));
    let name = ours.into_name();
    check_eq!(kind(name, Disposition::MoveReceive)?, ArrivedKind::Receive);
    check_eq!(trap::port_destroy(name), Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn a_right_to_a_dead_port_arrives_as_a_dead_name() -> Outcome {
    let assistant = Assistant::start()?;
    let dies = port(0)?;
    let right = dies.make_send()?;
    drop(dies);
    let pending =
        assistant.ask_with(Command::Keep, [0; 2], (right.name(), Disposition::CopySend))?;
    check_eq!(pending.said()?.right.1, ArrivedKind::Dead);
    Ok(())
}

pub(crate) fn the_same_right_keeps_its_name() -> Outcome {
    let assistant = Assistant::start()?;
    let port = port(0)?;
    let first = assistant.keep(port.name(), Disposition::MakeSend)?;
    let second = assistant.keep(port.name(), Disposition::MakeSend)?;
    check_eq!(first, second);
    for _ in 0..2 {
        assistant.tell(Command::Release, [first, 0])?;
    }
    let third = assistant.ask(Command::Release, [first, 0])?.said()?.result;
    check_eq!(third, Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn rights_to_one_port_get_one_name_in_whatever_order_they_come() -> Outcome {
    use Disposition::{CopySend, MoveReceive, MoveSend};
    const PAYLOAD: u64 = 0xFACE;
    let through = port(0)?;
    let to = through.make_send()?;
    for (order, sends) in [
        ([MoveReceive, CopySend, MoveSend], 0),
        ([CopySend, MoveReceive, MoveSend], 1),
        ([CopySend, MoveSend, MoveReceive], 2),
    ] {
        let name = trap::port_allocate(PAYLOAD)?;
        trap::port_make_send(name)?;
        for disposition in order {
            Msg::send(&to, 1).rights(&[(name, disposition)]).go()?;
        }
        // All of it is in the queue.
        check_eq!(trap::port_type(0, name), Err(Kern::InvalidName));
        let mut names = Vec::new();
        for disposition in order {
            Msg::receive(&through).go()?;
            match arrived::<1>() {
                [(name, ArrivedKind::Receive)] if disposition == MoveReceive => names.push(name),
                [(name, ArrivedKind::Send)] if disposition != MoveReceive => names.push(name),
                // Those that come after the receive right are given back.
                [(value, kind)] => check_eq!((value, kind), (PAYLOAD, ArrivedKind::Own)),
            }
        }
        check_eq!(names.len(), sends + 1);
        let name = names[0] as Name;
        check!(names.iter().all(|other| *other == u64::from(name)));
        check_eq!(trap::port_get_refs(0, name, RightKind::Receive), Ok(1));
        check_eq!(
            trap::port_get_refs(0, name, RightKind::Send),
            Ok(sends as u32)
        );
        if sends > 0 {
            trap::port_deallocate(name, sends as u32)?;
        }
        trap::port_destroy(name)?;
        check_eq!(trap::port_type(0, name), Err(Kern::InvalidName));
    }
    Ok(())
}

pub(crate) fn a_receive_right_moves_with_what_is_queued() -> Outcome {
    let assistant = Assistant::start()?;
    let port = port(0)?;
    let right = port.make_send()?;
    for word in 1..=3 {
        Msg::send(&right, 1).word(word).go()?;
    }
    let theirs = assistant.keep(port.into_name(), Disposition::MoveReceive)?;
    Msg::send(&right, 1).word(4).go()?;
    for word in 1..=4 {
        check_eq!(assistant.tell(Command::Receive, [theirs, 0])?, word);
    }
    Ok(())
}

pub(crate) fn a_receive_right_cannot_be_queued_at_itself() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let sent = Msg::send(&right, 1).rights(&[(port.name(), Disposition::MoveReceive)]);
    check_eq!(sent.code(), Some(Kern::SendInvalidRight));
    check_eq!(Msg::send(&right, 1).code(), None);
    check_eq!(Msg::receive(&port).code(), None);
    Ok(())
}

pub(crate) fn a_message_with_one_bad_right_moves_none() -> Outcome {
    let (through, moved) = (port(0)?, port(0)?);
    let to = through.make_send()?;
    let right = moved.make_send()?;
    let rights = [
        (right.name(), Disposition::MoveSend),
        (moved.name(), Disposition::MoveReceive),
        (0xFFFF_FF00, Disposition::CopySend),
    ];
    let sent = Msg::send(&to, 1).rights(&rights);
    check_eq!(sent.code(), Some(Kern::SendInvalidRight));
    check_eq!(Msg::send(&right, 6).code(), None);
    check_eq!(Msg::receive(&moved).go()?.info.id(), 6);
    check!(is_empty(&through));
    Ok(())
}

pub(crate) fn what_is_queued_at_a_dying_port_gives_its_rights_back() -> Outcome {
    let (dies, watched) = (port(0)?, port(0)?);
    let rights = [(watched.name(), Disposition::MakeSend)];
    let right = dies.make_send()?;
    Msg::send(&right, 1).rights(&rights).go()?;
    watched.watch_senders(&watched)?;
    drop(dies);
    let (_, [made, ..]) = notice(&watched, notify::NO_SENDERS)?;
    check_eq!(made, 1);
    Ok(())
}

pub(crate) fn a_full_queue_would_block() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    for _ in 0..QUEUE_LIMIT {
        check_eq!(Msg::send(&right, 1).until(0).code(), None);
    }
    check_eq!(Msg::send(&right, 1).until(0).code(), Some(Kern::WouldBlock));
    let soon = ipc::time::after(ipc::time::MILLISECOND);
    check_eq!(
        Msg::send(&right, 1).until(soon).code(),
        Some(Kern::SendTimedOut)
    );
    check!(ipc::time::now() >= soon);
    for _ in 0..QUEUE_LIMIT {
        check_eq!(Msg::receive(&port).until(0).code(), None);
    }
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn the_limit_of_a_queue_can_be_set() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    check_eq!(port.set_attributes(0, 1025), Err(Kern::InvalidValue));
    port.set_attributes(8, 1)?;
    check_eq!(Msg::send(&right, 1).until(0).code(), None);
    check_eq!(Msg::send(&right, 1).until(0).code(), Some(Kern::WouldBlock));
    port.set_attributes(9, 2)?;
    check_eq!(Msg::send(&right, 1).until(0).code(), None);
    check_eq!(Msg::receive(&port).go()?.payload, 9);
    Ok(())
}

pub(crate) fn send_possible_is_told_once_there_is_room() -> Outcome {
    let (port, told) = (port(0)?, port(0)?);
    let right = port.make_send()?;
    port.set_attributes(0, 1)?;
    Msg::send(&right, 1).go()?;
    let refused = Msg::send(&right, 2).notify(&told).code();
    check_eq!(refused, Some(Kern::WouldBlock));
    check!(is_empty(&told));
    check_eq!(Msg::receive(&port).go()?.info.id(), 1);
    let (_, [name, ..]) = notice(&told, notify::SEND_POSSIBLE)?;
    check_eq!(name, right.name().into());
    check_eq!(Msg::send(&right, 2).notify(&told).code(), None);
    check!(is_empty(&told));
    Ok(())
}

pub(crate) fn a_sender_that_waits_is_let_in() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    port.set_attributes(0, 1)?;
    Msg::send(&right, 1).go()?;
    let sender = spawn_waiting(move || Msg::send(&right, 2).forever().code())?;
    check!(!sender.is_finished());
    check_eq!(Msg::receive(&port).go()?.info.id(), 1);
    check_eq!(Msg::receive(&port).go()?.info.id(), 2);
    check_eq!(sender.join(), None);
    Ok(())
}

pub(crate) fn a_flood_stops_at_the_limit() -> Outcome {
    let port = port(0)?;
    let assistant = Assistant::start()?;
    let theirs = assistant.keep(port.name(), Disposition::MakeSend)?;
    let sent = assistant.tell(Command::Flood, [theirs, 1000])?;
    check_eq!(sent, QUEUE_LIMIT.into());
    for word in 0..sent {
        check_eq!(Msg::receive(&port).go()?.words[0], word);
    }
    Ok(())
}

pub(crate) fn a_set_receives_what_comes_to_its_members() -> Outcome {
    let set = PortSet::new()?;
    let (first, second) = (port(1)?, port(2)?);
    set.insert(&first)?;
    set.insert(&second)?;
    let (to_first, to_second) = (first.make_send()?, second.make_send()?);
    let from = set.source_name();
    for (to, payload) in [(&to_second, 2), (&to_first, 1), (&to_second, 2)] {
        Msg::send(to, 1).go()?;
        check_eq!(Msg::receive_from(from).go()?.payload, payload);
    }
    check_eq!(
        Msg::receive_from(from).until(0).code(),
        Some(Kern::ReceiveTimedOut)
    );
    Ok(())
}

pub(crate) fn members_of_a_set_take_turns() -> Outcome {
    let set = PortSet::new()?;
    let (busy, quiet) = (port(1)?, port(2)?);
    set.insert(&busy)?;
    set.insert(&quiet)?;
    let (to_busy, to_quiet) = (busy.make_send()?, quiet.make_send()?);
    for _ in 0..4 {
        Msg::send(&to_busy, 1).go()?;
    }
    Msg::send(&to_quiet, 1).go()?;
    let from = set.source_name();
    let first = Msg::receive_from(from).go()?.payload;
    let second = Msg::receive_from(from).go()?.payload;
    check_eq!((first, second), (1, 2));
    Ok(())
}

pub(crate) fn a_port_that_left_its_set_is_received_from_alone() -> Outcome {
    let set = PortSet::new()?;
    let port = port(1)?;
    set.insert(&port)?;
    Msg::send(&port.make_send()?, 3).go()?;
    set.remove(&port)?;
    let from = set.source_name();
    check_eq!(
        Msg::receive_from(from).until(0).code(),
        Some(Kern::ReceiveTimedOut)
    );
    check_eq!(Msg::receive(&port).go()?.info.id(), 3);
    Ok(())
}

pub(crate) fn joining_a_set_wakes_who_waits_on_the_port() -> Outcome {
    let set = PortSet::new()?;
    let port = port(1)?;
    let name = port.name();
    let waiter = spawn_waiting(move || Msg::receive_from(name).forever().code())?;
    set.insert(&port)?;
    check_eq!(waiter.join(), Some(Kern::ReceivePortChanged));
    Ok(())
}

pub(crate) fn destroying_a_port_wakes_who_waits_on_it() -> Outcome {
    let port = port(1)?;
    let name = port.name();
    let waiter = spawn_waiting(move || Msg::receive_from(name).forever().code())?;
    drop(port);
    check_eq!(waiter.join(), Some(Kern::ReceivePortDied));
    Ok(())
}

pub(crate) fn the_end_of_a_task_is_told_with_its_status() -> Outcome {
    let told = port(0)?;
    let assistant = Assistant::start()?;
    let control = assistant.started.task.name();
    assistant.started.task.watch(&told)?;
    drop(assistant.ask(Command::Exit, [77, 0])?);
    let (_, [name, status, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(name, control.into());
    check_eq!(ExitStatus::from_word(status), ExitStatus::Exited(77));
    drop(SendRight::<Untyped>::from_name(control));
    Ok(())
}
