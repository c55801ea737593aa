//! What a task can ask about its names, how it counts them, and rights handed over without a message.

use alloc::vec::Vec;

use guest_test::assistant::{Assistant, Command};
use guest_test::{Msg, Outcome, check, check_eq};
use ipc::abi::notify;
use ipc::abi::port::{NameEntry, PortFlags, PortType, RightKind};
use ipc::abi::right::{Disposition, Name};
use ipc::right::Source;
use ipc::{Kern, PortSet, trap};

use crate::support::{notice, port};

/// One's own task.
const SELF: Name = 0;

/// All names of a task, or of a set's members.
fn names(task: Name, set: Name) -> Result<Vec<NameEntry>, Kern> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        from = trap::port_names(task, set, from, |entry| found.push(entry))?;
        if from == 0 {
            return Ok(found);
        }
    }
}

pub(crate) fn a_type_says_what_a_name_denotes() -> Outcome {
    let (first, set) = (port(0)?, PortSet::new()?);
    let name = first.name();
    check_eq!(trap::port_type(SELF, name), Ok(PortType::RECEIVE));
    check_eq!(
        trap::port_type(SELF, set.source_name()),
        Ok(PortType::PORT_SET)
    );
    let right = first.make_send()?;
    check_eq!(
        trap::port_type(SELF, name),
        Ok(PortType::RECEIVE | PortType::SEND)
    );
    let told = port(0)?;
    right.watch(&told)?;
    drop(first);
    check_eq!(trap::port_type(SELF, name), Ok(PortType::DEAD_NAME));
    let (_, [dead, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(dead, name.into());
    // The notice brought a reference.
    check_eq!(trap::port_get_refs(SELF, name, RightKind::DeadName), Ok(2));
    trap::port_deallocate(name, 1)?;
    drop(right);
    check_eq!(trap::port_type(SELF, name), Err(Kern::InvalidName));
    Ok(())
}

pub(crate) fn references_change_as_far_as_their_kind_allows() -> Outcome {
    let (first, set) = (trap::port_allocate(0)?, trap::port_set_allocate()?);
    for kind in [
        RightKind::Send,
        RightKind::SendOnce,
        RightKind::PortSet,
        RightKind::DeadName,
    ] {
        check_eq!(
            trap::port_mod_refs(SELF, first, kind, -1),
            Err(Kern::InvalidRight)
        );
        check_eq!(trap::port_get_refs(SELF, first, kind), Ok(0));
    }
    for kind in [
        RightKind::Send,
        RightKind::SendOnce,
        RightKind::Receive,
        RightKind::DeadName,
    ] {
        check_eq!(
            trap::port_mod_refs(SELF, set, kind, -1),
            Err(Kern::InvalidRight)
        );
    }
    for (name, kind) in [(first, RightKind::Receive), (set, RightKind::PortSet)] {
        check_eq!(trap::port_get_refs(SELF, name, kind), Ok(1));
        for delta in [1, -2] {
            check_eq!(
                trap::port_mod_refs(SELF, name, kind, delta),
                Err(Kern::InvalidValue)
            );
        }
    }
    trap::port_make_send(first)?;
    let most = i64::from(u32::MAX);
    check_eq!(
        trap::port_mod_refs(SELF, first, RightKind::Send, most),
        Err(Kern::UrefsOverflow)
    );
    check_eq!(
        trap::port_mod_refs(SELF, first, RightKind::Send, -2),
        Err(Kern::InvalidValue)
    );
    trap::port_mod_refs(SELF, first, RightKind::Send, most - 1)?;
    check_eq!(trap::port_make_send(first), Err(Kern::UrefsOverflow));
    check_eq!(
        trap::port_insert_right(SELF, first, Disposition::MakeSend),
        Err(Kern::UrefsOverflow)
    );
    trap::port_mod_refs(SELF, first, RightKind::Send, -most)?;
    check_eq!(trap::port_type(SELF, first), Ok(PortType::RECEIVE));
    trap::port_mod_refs(SELF, first, RightKind::Receive, -1)?;
    trap::port_mod_refs(SELF, set, RightKind::PortSet, -1)?;
    check_eq!(
        trap::port_mod_refs(SELF, first, RightKind::Receive, 0),
        Err(Kern::InvalidName)
    );
    Ok(())
}

pub(crate) fn all_names_are_listed() -> Outcome {
    const MANY: usize = 700;
    let set = PortSet::new()?;
    let before = names(SELF, 0)?.len();
    let mut ports = Vec::new();
    for payload in 0..MANY as u64 {
        ports.push(port(payload)?);
    }
    set.insert(&ports[3])?;
    set.insert(&ports[650])?;
    let listed = names(SELF, 0)?;
    check_eq!(listed.len(), before + MANY);
    for port in &ports {
        let entry = listed.iter().find(|entry| entry.name == port.name());
        check_eq!(entry.map(|entry| entry.kind), Some(PortType::RECEIVE));
    }
    let members: Vec<Name> = (names(SELF, set.source_name())?.iter())
        .map(|entry| entry.name)
        .collect();
    check_eq!(members, [ports[3].name(), ports[650].name()]);
    check_eq!(
        trap::port_names(SELF, ports[0].name(), 0, |_| {}),
        Err(Kern::InvalidRight)
    );
    Ok(())
}

pub(crate) fn the_status_of_a_port_is_told() -> Outcome {
    let (first, told) = (port(0xFACE)?, port(0)?);
    let right = first.make_send()?;
    first.set_attributes(0xFACE, 5)?;
    first.watch_senders(&told)?;
    Msg::send(&right, 1).go()?;
    let status = trap::port_get_status(SELF, first.name())?;
    check_eq!(
        (status.payload, status.limit, status.queued),
        (0xFACE, 5, 1)
    );
    check_eq!((status.make_send, status.onces, status.sets), (1, 0, 0));
    check_eq!(
        status.flags,
        PortFlags::SENDERS | PortFlags::NO_SENDERS_REQUEST
    );
    trap::port_set_make_send(SELF, first.name(), 9)?;
    drop(right);
    // What is told is the count as it was set.
    let (_, [made, ..]) = notice(&told, notify::NO_SENDERS)?;
    check_eq!(made, 9);
    Ok(())
}

pub(crate) fn rights_are_handed_to_and_taken_from_a_task() -> Outcome {
    let assistant = Assistant::start()?;
    let task = assistant.started.task.name();
    let ours = port(0)?;
    let theirs = trap::port_insert_right(task, ours.name(), Disposition::MakeSend)?;
    check_eq!(
        trap::port_insert_right(task, ours.name(), Disposition::MakeSend),
        Ok(theirs)
    );
    check_eq!(trap::port_get_refs(task, theirs, RightKind::Send), Ok(2));
    check_eq!(assistant.tell(Command::Flood, [theirs.into(), 1])?, 1);
    check_eq!(Msg::receive(&ours).go()?.words[0], 0);
    let back = trap::port_extract_right(task, theirs, Disposition::MoveSend)?;
    check_eq!(back, ours.name());
    trap::port_deallocate(back, 1)?;
    // A receive right goes there and comes back with what is queued.
    let name = ours.into_name();
    trap::port_insert_right(task, name, Disposition::MoveReceive)?;
    check_eq!(trap::port_type(SELF, name), Err(Kern::InvalidName));
    check_eq!(assistant.tell(Command::Flood, [theirs.into(), 3])?, 3);
    let back = trap::port_extract_right(task, theirs, Disposition::MoveReceive)?;
    check_eq!(trap::port_get_status(SELF, back)?.queued, 3);
    trap::port_destroy(back)?;
    check_eq!(trap::port_type(task, theirs), Ok(PortType::DEAD_NAME));
    Ok(())
}

pub(crate) fn handing_over_has_its_codes() -> Outcome {
    let (first, set) = (port(0)?, PortSet::new()?);
    check_eq!(
        trap::port_insert_right(SELF, set.source_name(), Disposition::MakeSend),
        Err(Kern::InvalidRight)
    );
    check_eq!(
        trap::port_insert_right(SELF, first.name(), Disposition::CopySend),
        Err(Kern::InvalidRight)
    );
    check_eq!(
        trap::port_insert_right(SELF, first.name(), Disposition::None),
        Err(Kern::InvalidValue)
    );
    check_eq!(
        trap::port_insert_right(SELF, 0, Disposition::CopySend),
        Err(Kern::InvalidName)
    );
    check_eq!(
        trap::port_insert_right(first.name(), first.name(), Disposition::MakeSend),
        Err(Kern::InvalidTask)
    );
    check_eq!(
        trap::port_extract_right(first.name(), first.name(), Disposition::MakeSend),
        Err(Kern::InvalidTask)
    );
    // To oneself, what is made gets the name that the port has.
    let made = trap::port_insert_right(SELF, first.name(), Disposition::MakeSend)?;
    check_eq!(made, first.name());
    check!(trap::port_deallocate(made, 1).is_ok());
    Ok(())
}
