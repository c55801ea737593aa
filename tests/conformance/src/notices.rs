//! Notices: receive rights that come back, requests that replace each other, room that is told of.

use guest_test::assistant::Assistant;
use guest_test::message::arrived;
use guest_test::{Msg, Outcome, check, check_eq};
use ipc::abi::notify::{self, Request};
use ipc::abi::port::PortType;
use ipc::abi::right::{ArrivedKind, Disposition, Name};
use ipc::{Kern, ReceiveRight, Untyped, trap};

use crate::support::{is_empty, notice, port};

/// One's own task.
const SELF: Name = 0;

/// The receive right that came with a notice.
fn returned() -> Outcome<ReceiveRight<Untyped>> {
    let [(name, kind)] = arrived();
    check_eq!(kind, ArrivedKind::Receive);
    Ok(ReceiveRight::from_name(name as Name))
}

pub(crate) fn a_destroyed_port_goes_to_who_asked_with_its_queue() -> Outcome {
    let (dies, told) = (port(0x60D)?, port(7)?);
    let right = dies.make_send()?;
    dies.watch_destroyed(&told)?;
    Msg::send(&right, 5).word(55).go()?;
    drop(dies);
    check_eq!(notice(&told, notify::PORT_DESTROYED)?.0.payload, 7);
    let back = returned()?;
    check_eq!(back.name(), right.name());
    let received = Msg::receive(&back).go()?;
    check_eq!((received.payload, received.words[0]), (0x60D, 55));
    // It was asked for once.
    drop(back);
    check!(is_empty(&told));
    check_eq!(trap::port_type(SELF, right.name()), Ok(PortType::DEAD_NAME));
    Ok(())
}

pub(crate) fn a_port_survives_the_task_that_held_it() -> Outcome {
    let (lent, told) = (port(3)?, port(0)?);
    let right = lent.make_send()?;
    lent.watch_destroyed(&told)?;
    let assistant = Assistant::start()?;
    assistant.keep(lent.into_name(), Disposition::MoveReceive)?;
    Msg::send(&right, 6).go()?;
    check_eq!(trap::port_type(SELF, right.name()), Ok(PortType::SEND));
    assistant.exit(0)?;
    notice(&told, notify::PORT_DESTROYED)?;
    let back = returned()?;
    check_eq!(Msg::receive(&back).go()?.info.id(), 6);
    Ok(())
}

pub(crate) fn a_port_that_nobody_can_take_dies() -> Outcome {
    let (dies, told) = (port(0)?, port(0)?);
    let right = dies.make_send()?;
    dies.watch_destroyed(&dies)?;
    right.watch(&told)?;
    drop(dies);
    let (_, [name, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(name, right.name().into());
    trap::port_deallocate(right.name(), 1)?;
    Ok(())
}

pub(crate) fn a_request_gives_back_what_it_replaces() -> Outcome {
    let (about, own, home) = (port(0)?, port(0)?, port(0)?);
    // Told by a send-once right that is not known to be to a port of one's own.
    let once = trap::port_insert_right(SELF, home.name(), Disposition::MakeSendOnce)?;
    let ask = |notify| trap::port_request_notification(about.name(), Request::NoSenders, notify, 1);
    check_eq!(ask(once), Ok(0));
    check_eq!(trap::port_type(SELF, once), Err(Kern::InvalidName));
    check_eq!(ask(own.name()), Ok(home.name()));
    check_eq!(ask(0), Ok(own.name()));
    check_eq!(ask(0), Ok(0));
    // The port of another task: what comes back is a send-once right.
    let assistant = Assistant::start()?;
    let theirs = assistant.keep(home.into_name(), Disposition::MoveReceive)?;
    let task = assistant.started.task.name();
    let once = trap::port_extract_right(task, theirs as Name, Disposition::MakeSendOnce)?;
    check_eq!(ask(once), Ok(0));
    let back = ask(0)?;
    check_eq!(trap::port_type(SELF, back), Ok(PortType::SEND_ONCE));
    trap::port_deallocate(back, 1)?;
    Ok(())
}

pub(crate) fn no_senders_is_told_from_a_count_on() -> Outcome {
    let (about, told) = (port(0)?, port(0)?);
    let ask =
        |sync| trap::port_request_notification(about.name(), Request::NoSenders, told.name(), sync);
    ask(0)?;
    notice(&told, notify::NO_SENDERS)?;
    drop(about.make_send()?);
    ask(2)?;
    check!(is_empty(&told));
    ask(1)?;
    let (_, [made, ..]) = notice(&told, notify::NO_SENDERS)?;
    check_eq!(made, 1);
    Ok(())
}

pub(crate) fn room_is_told_of_after_a_send_that_found_none() -> Outcome {
    let (full, told) = (port(0)?, port(0)?);
    let right = full.make_send()?;
    full.set_attributes(0, 1)?;
    let try_send = || Msg::send(&right, 1).notify_as_asked().code();
    check_eq!(try_send(), Some(Kern::SendInvalidNotify));
    right.watch_room(&told)?;
    check_eq!(try_send(), None);
    check!(is_empty(&told));
    check_eq!(
        trap::port_type(SELF, right.name())?.contains(PortType::SEND_POSSIBLE_DELAYED),
        true
    );
    check_eq!(try_send(), Some(Kern::WouldBlock));
    check_eq!(
        trap::port_type(SELF, right.name())?.contains(PortType::SEND_POSSIBLE_REQUEST),
        true
    );
    Msg::receive(&full).go()?;
    let (_, [name, ..]) = notice(&told, notify::SEND_POSSIBLE)?;
    check_eq!(name, right.name().into());
    check_eq!(try_send(), Some(Kern::SendInvalidNotify));
    Ok(())
}
