//! Ports in several sets: each set brings what comes to its members.

use alloc::sync::Arc;
use alloc::vec::Vec;

use guest_test::{Msg, Outcome, check_eq};
use ipc::abi::message::POLL;
use ipc::abi::right::Name;
use ipc::right::Source;
use ipc::{Kern, PortSet, thread, trap};

use crate::support::{port, spawn_waiting};

pub(crate) fn a_port_can_be_in_several_sets() -> Outcome {
    let (first, second, member) = (PortSet::new()?, PortSet::new()?, port(9)?);
    let to = member.make_send()?;
    Msg::send(&to, 1).go()?;
    for set in [&first, &second] {
        set.add(&member)?;
        check_eq!(set.add(&member), Err(Kern::AlreadyInSet));
    }
    check_eq!(trap::port_get_status(0, member.name())?.sets, 2);
    Msg::send(&to, 2).go()?;
    Msg::send(&to, 3).go()?;
    let from = [second.source_name(), first.source_name(), member.name()];
    for (source, id) in from.into_iter().zip(1..) {
        let received = Msg::receive_from(source).until(POLL).go()?;
        check_eq!((received.info.id(), received.payload), (id, 9));
    }
    first.remove(&member)?;
    check_eq!(first.remove(&member), Err(Kern::NotInSet));
    Msg::send(&to, 4).go()?;
    check_eq!(
        Msg::receive_from(first.source_name()).until(POLL).code(),
        Some(Kern::ReceiveTimedOut)
    );
    check_eq!(Msg::receive_from(second.source_name()).go()?.info.id(), 4);
    check_eq!(trap::port_move_member(member.name(), 0), Ok(()));
    check_eq!(
        trap::port_move_member(member.name(), 0),
        Err(Kern::NotInSet)
    );
    Ok(())
}

pub(crate) fn threads_that_wait_on_different_sets_get_what_comes() -> Outcome {
    let member = port(5)?;
    let to = member.make_send()?;
    let mut sets = Vec::new();
    for _ in 0..3 {
        let set = PortSet::new()?;
        set.add(&member)?;
        sets.push(set);
    }
    let mut waiting = Vec::new();
    for set in &sets {
        let from = set.source_name();
        let receive = move || {
            Msg::receive_from(from)
                .forever()
                .go()
                .map(|got| got.info.id())
        };
        waiting.push(spawn_waiting(receive)?);
    }
    for id in 1..=3 {
        Msg::send(&to, id).go()?;
    }
    let mut got = Vec::new();
    for thread in waiting {
        got.push(thread.join()?);
    }
    got.sort_unstable();
    check_eq!(got, [1, 2, 3]);
    Ok(())
}

pub(crate) fn a_set_that_is_destroyed_leaves_its_members_to_others() -> Outcome {
    let (dies, stays) = (PortSet::new()?, PortSet::new()?);
    let mut ports = Vec::new();
    for payload in 0..50 {
        let member = port(payload)?;
        dies.add(&member)?;
        stays.add(&member)?;
        Msg::send(&member.make_send()?, 1).go()?;
        ports.push(member);
    }
    drop(dies);
    for payload in 0..50 {
        let received = Msg::receive_from(stays.source_name()).until(POLL).go()?;
        check_eq!(received.payload, payload);
    }
    Ok(())
}

pub(crate) fn ports_come_and_go_in_many_sets() -> Outcome {
    let mut ports = Vec::new();
    for payload in 0..128 {
        ports.push(port(payload)?);
    }
    for _ in 0..10 {
        let sets = [PortSet::new()?, PortSet::new()?];
        for round in 0..2 {
            for member in &ports {
                for set in &sets {
                    set.add(member)?;
                }
                if round == 0 {
                    trap::port_move_member(member.name(), 0)?;
                }
            }
        }
        // The sets end with all their members in them.
    }
    for member in &ports {
        check_eq!(trap::port_get_status(0, member.name())?.sets, 0);
    }
    Ok(())
}

pub(crate) fn threads_that_change_the_sets_of_the_same_ports_do_no_harm() -> Outcome {
    const THREADS: usize = 4;
    const PORTS: u64 = 64;
    let mut ports = Vec::new();
    for payload in 0..PORTS {
        ports.push(port(payload)?);
    }
    let names: Arc<[Name]> = ports.iter().map(|member| member.name()).collect();
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let names = Arc::clone(&names);
        threads.push(thread::spawn(move || -> Result<(), Kern> {
            for _ in 0..10 {
                let set = trap::port_set_allocate()?;
                for &name in names.iter() {
                    trap::port_insert_member(name, set)?;
                }
                for &name in names.iter() {
                    // Out of the others' sets as well, unless another was here first.
                    match trap::port_move_member(name, 0) {
                        Ok(()) | Err(Kern::NotInSet) => {}
                        Err(code) => return Err(code),
                    }
                }
                for &name in names.iter() {
                    match trap::port_insert_member(name, set) {
                        Ok(()) | Err(Kern::AlreadyInSet) => {}
                        Err(code) => return Err(code),
                    }
                }
                trap::port_destroy(set)?;
            }
            Ok(())
        })?);
    }
    for thread in threads {
        thread.join()?;
    }
    let set = PortSet::new()?;
    for member in &ports {
        check_eq!(trap::port_get_status(0, member.name())?.sets, 0);
        set.add(member)?;
        Msg::send(&member.make_send()?, 1).go()?;
    }
    for payload in 0..PORTS {
        let received = Msg::receive_from(set.source_name()).until(POLL).go()?;
        check_eq!(received.payload, payload);
    }
    Ok(())
}
