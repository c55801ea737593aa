//! Names asked about: types, references, lists and status; rights handed over without a message.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{FOREVER, POLL},
    notify::{self, Request},
    port::{NameEntry, PortFlags, PortStatus, PortType, RightKind},
    right::{ArrivedKind, Disposition},
};
use model::{Actor, Letter, World, word};

fn mod_refs(
    w: &mut World,
    actor: Actor,
    name: u64,
    kind: RightKind,
    delta: i64,
) -> Result<(), Kern> {
    let delta = delta.cast_unsigned();
    w.trap(actor, |kernel, toy| {
        kernel.port_mod_refs(toy, 0, name, kind as u64, delta)
    })
}

fn refs(w: &mut World, actor: Actor, name: u64, kind: RightKind) -> Result<u64, Kern> {
    w.trap(actor, |kernel, _| {
        kernel.port_get_refs(0, name, kind as u64)
    })
}

fn kinds(w: &mut World, actor: Actor, name: u64) -> Result<PortType, Kern> {
    let bits = w.trap(actor, |kernel, _| kernel.port_type(0, name))?;
    Ok(PortType::from_bits_retain(bits as u32))
}

fn status(w: &mut World, actor: Actor, name: u64) -> Result<PortStatus, Kern> {
    w.trap(actor, |kernel, toy| kernel.port_get_status(toy, 0, name))?;
    let body = &w.toy.at(actor.context).body;
    let words: Vec<u64> = (body.chunks_exact(8).take(PortStatus::WORDS))
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    Ok(PortStatus::from_words(words.try_into().unwrap()))
}

fn names(w: &mut World, actor: Actor, task: u64, set: u64) -> Vec<NameEntry> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let [count, next] = w
            .trap(actor, |kernel, toy| kernel.port_names(toy, task, set, from))
            .unwrap();
        let body = &w.toy.at(actor.context).body;
        for bytes in body.chunks_exact(8).take(count as usize) {
            let entry = u64::from_le_bytes(bytes.try_into().unwrap());
            found.push(NameEntry::from_word(entry));
        }
        if next == 0 {
            return found;
        }
        from = next;
    }
}

fn set(w: &mut World, actor: Actor) -> u64 {
    word(
        w.trap(actor, |kernel, _| kernel.port_set_allocate())
            .unwrap(),
    )
}

#[test]
fn references_of_each_kind_change_as_far_as_they_can() {
    use RightKind::{DeadName, PortSet, Receive, Send, SendOnce};
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (port, group) = (w.port(a, 0), set(&mut w, a));
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let (once, _) = w.pass(a, port, Disposition::MakeSendOnce, b);
    // What a name does not denote has no references.
    for kind in [Send, SendOnce, PortSet, DeadName] {
        assert_eq!(mod_refs(&mut w, a, port, kind, -1), Err(Kern::InvalidRight));
        assert_eq!(refs(&mut w, a, port, kind), Ok(0));
    }
    for kind in [Send, SendOnce, Receive, DeadName] {
        assert_eq!(
            mod_refs(&mut w, a, group, kind, -1),
            Err(Kern::InvalidRight)
        );
    }
    for kind in RightKind::ALL {
        assert_eq!(mod_refs(&mut w, a, 77, kind, 0), Err(Kern::InvalidName));
        assert_eq!(refs(&mut w, a, 77, kind), Err(Kern::InvalidName));
    }
    let unknown = w.trap(a, |kernel, toy| kernel.port_mod_refs(toy, 0, port, 5, 0));
    assert_eq!(unknown, Err(Kern::InvalidValue));
    // What has one has no more.
    for (name, kind, actor) in [(port, Receive, a), (group, PortSet, a), (once, SendOnce, b)] {
        assert_eq!(refs(&mut w, actor, name, kind), Ok(1));
        for delta in [1, -2, i64::MIN, i64::MAX] {
            let changed = mod_refs(&mut w, actor, name, kind, delta);
            assert_eq!(changed, Err(Kern::InvalidValue));
        }
        assert_eq!(mod_refs(&mut w, actor, name, kind, 0), Ok(()));
    }
    // What counts counts up to its limit.
    assert_eq!(mod_refs(&mut w, b, send, Send, 4), Ok(()));
    assert_eq!(refs(&mut w, b, send, Send), Ok(5));
    let most = i64::from(u32::MAX);
    for delta in [most, i64::MAX] {
        let changed = mod_refs(&mut w, b, send, Send, delta);
        assert_eq!(changed, Err(Kern::UrefsOverflow));
    }
    assert_eq!(mod_refs(&mut w, b, send, Send, -6), Err(Kern::InvalidValue));
    assert_eq!(
        mod_refs(&mut w, b, send, Send, i64::MIN),
        Err(Kern::InvalidValue)
    );
    assert_eq!(mod_refs(&mut w, b, send, Send, most - 5), Ok(()));
    assert_eq!(refs(&mut w, b, send, Send), Ok(u64::from(u32::MAX)));
    let again = w.pass(a, port, Disposition::MakeSend, b);
    assert_eq!(again, (send, ArrivedKind::Send as u8));
    assert_eq!(refs(&mut w, b, send, Send), Ok(u64::from(u32::MAX)));
    assert_eq!(mod_refs(&mut w, b, send, Send, 2 - most), Ok(()));
    // The end of the port makes dead names, which count as what they were.
    assert_eq!(mod_refs(&mut w, a, port, Receive, -1), Ok(()));
    assert_eq!(mod_refs(&mut w, b, send, Send, -1), Err(Kern::InvalidRight));
    for (name, count) in [(send, 2), (once, 1)] {
        assert_eq!(kinds(&mut w, b, name), Ok(PortType::DEAD_NAME));
        assert_eq!(refs(&mut w, b, name, DeadName), Ok(count));
        assert_eq!(mod_refs(&mut w, b, name, DeadName, 1), Ok(()));
        let all = -1 - count.cast_signed();
        assert_eq!(mod_refs(&mut w, b, name, DeadName, all), Ok(()));
        assert_eq!(kinds(&mut w, b, name), Err(Kern::InvalidName));
    }
    assert_eq!(mod_refs(&mut w, a, group, PortSet, -1), Ok(()));
    assert_eq!(kinds(&mut w, a, group), Err(Kern::InvalidName));
}

#[test]
fn the_last_send_reference_is_the_end_of_the_senders() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (port, bell) = (w.port(a, 0), w.port(a, 0));
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let request = Request::NoSenders as u64;
    w.trap(a, |kernel, toy| {
        kernel
            .port_request_notification(toy, port, request, bell, 1)
            .map(drop)
    })
    .unwrap();
    assert_eq!(mod_refs(&mut w, b, send, RightKind::Send, -1), Ok(()));
    assert_eq!(w.receive(a, bell, POLL).unwrap().words[0], 1);
}

#[test]
fn a_type_says_all_that_a_name_denotes() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (port, bell, group) = (w.port(a, 0), w.port(b, 0), set(&mut w, a));
    assert_eq!(kinds(&mut w, a, port), Ok(PortType::RECEIVE));
    assert_eq!(kinds(&mut w, a, group), Ok(PortType::PORT_SET));
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let (once, _) = w.pass(a, port, Disposition::MakeSendOnce, b);
    w.make_send(a, port);
    assert_eq!(
        kinds(&mut w, a, port),
        Ok(PortType::RECEIVE | PortType::SEND)
    );
    assert_eq!(kinds(&mut w, b, send), Ok(PortType::SEND));
    assert_eq!(kinds(&mut w, b, once), Ok(PortType::SEND_ONCE));
    w.trap(b, |kernel, toy| {
        kernel
            .port_request_notification(toy, send, Request::DeadName as u64, bell, 1)
            .map(drop)
    })
    .unwrap();
    assert_eq!(
        kinds(&mut w, b, send),
        Ok(PortType::SEND | PortType::DEAD_NAME_REQUEST)
    );
    // A task that was given another's control port asks about that one's names.
    let (root, child) = (w.root, b.child);
    let asked = w.trap(root, |kernel, _| kernel.port_type(child, once));
    assert_eq!(asked, Ok(u64::from(PortType::SEND_ONCE.bits())));
    let wrong = w.trap(b, |kernel, _| kernel.port_type(send, once));
    assert_eq!(wrong, Err(Kern::InvalidTask));
}

#[test]
fn all_names_are_listed_once_and_members_by_their_set() {
    let mut w = World::new();
    let a = w.actor();
    let before = names(&mut w, a, 0, 0).len();
    let group = set(&mut w, a);
    let ports: Vec<u64> = (0..1200).map(|payload| w.port(a, payload)).collect();
    for port in ports.iter().step_by(100) {
        w.trap(a, |kernel, toy| kernel.port_move_member(toy, *port, group))
            .unwrap();
    }
    let listed = names(&mut w, a, 0, 0);
    assert_eq!(listed.len(), before + 1201);
    for port in &ports {
        let found = listed.iter().filter(|entry| word(entry.name) == *port);
        let found: Vec<_> = found.map(|entry| entry.kind).collect();
        assert_eq!(found, [PortType::RECEIVE]);
    }
    let members: Vec<u64> = (names(&mut w, a, 0, group).iter())
        .map(|entry| word(entry.name))
        .collect();
    assert_eq!(
        members,
        ports.iter().copied().step_by(100).collect::<Vec<_>>()
    );
    let (root, child) = (w.root, a.child);
    assert_eq!(names(&mut w, root, child, 0).len(), listed.len());
    let wrong = w.trap(a, |kernel, toy| kernel.port_names(toy, 0, ports[0], 0));
    assert_eq!(wrong, Err(Kern::InvalidRight));
    let wrong = w.trap(a, |kernel, toy| kernel.port_names(toy, 0, 5, 0));
    assert_eq!(wrong, Err(Kern::InvalidName));
    let end = w.trap(a, |kernel, toy| kernel.port_names(toy, 0, 0, u64::MAX));
    assert_eq!(end, Ok([0, 0]));
}

#[test]
fn the_status_of_a_receive_right_says_how_it_is() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (port, bell) = (w.port(a, 0x5EA), w.port(a, 0));
    let new = PortStatus {
        payload: 0x5EA,
        limit: 16,
        ..PortStatus::default()
    };
    assert_eq!(status(&mut w, a, port), Ok(new));
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    w.pass(a, port, Disposition::MakeSendOnce, b);
    let wrong = w.trap(b, |kernel, _| kernel.port_set_make_send(0, send, 1));
    assert_eq!(wrong, Err(Kern::InvalidRight));
    w.send(b, send, &Letter::new(1, 0), POLL);
    assert_eq!(w.call(b, send, &Letter::new(2, 0)), None);
    let group = set(&mut w, a);
    w.trap(a, |kernel, toy| {
        kernel.port_move_member(toy, port, group)?;
        kernel.port_set_attributes(toy, port, 7, 3)?;
        kernel.port_set_make_send(0, port, 40)?;
        kernel
            .port_request_notification(toy, port, Request::NoSenders as u64, bell, 1)
            .map(drop)
    })
    .unwrap();
    assert_eq!(
        status(&mut w, a, port),
        Ok(PortStatus {
            payload: 7,
            make_send: 40,
            limit: 3,
            queued: 1,
            onces: 1,
            sets: 1,
            flags: PortFlags::SENDERS | PortFlags::CALLERS | PortFlags::NO_SENDERS_REQUEST,
        })
    );
    assert_eq!(status(&mut w, a, group), Err(Kern::InvalidRight));
    assert_eq!(status(&mut w, a, 9), Err(Kern::InvalidName));
}

#[test]
fn rights_are_handed_over_under_the_names_that_the_other_knows() {
    use Disposition::{CopySend, MakeSend, MakeSendOnce, MoveReceive, MoveSend, MoveSendOnce};
    let mut w = World::new();
    let (root, b) = (w.root, w.actor());
    let child = b.child;
    let give = |w: &mut World, name, disposition: Disposition| {
        let given = w.trap(root, |kernel, toy| {
            kernel.port_insert_right(toy, child, name, disposition as u64)
        });
        given.map(word)
    };
    let take = |w: &mut World, name, disposition: Disposition| {
        let taken = w.trap(root, |kernel, toy| {
            kernel.port_extract_right(toy, child, name, disposition as u64)
        });
        taken.map(word)
    };
    let port = w.port(root, 0);
    let theirs = give(&mut w, port, MakeSend).unwrap();
    assert_eq!(give(&mut w, port, MakeSend), Ok(theirs));
    assert_eq!(refs(&mut w, b, theirs, RightKind::Send), Ok(2));
    w.send(b, theirs, &Letter::new(1, 4), POLL);
    assert_eq!(w.receive(root, port, POLL).unwrap().words[0], 4);
    // Taken to where the receive right is, a send right has its name.
    assert_eq!(take(&mut w, theirs, MoveSend), Ok(port));
    assert_eq!(refs(&mut w, root, port, RightKind::Send), Ok(1));
    assert_eq!(take(&mut w, theirs, CopySend), Ok(port));
    let once = give(&mut w, port, MakeSendOnce).unwrap();
    assert_eq!(kinds(&mut w, b, once), Ok(PortType::SEND_ONCE));
    let back = take(&mut w, once, MoveSendOnce).unwrap();
    assert_eq!(kinds(&mut w, root, back), Ok(PortType::SEND_ONCE));
    assert_eq!(kinds(&mut w, b, once), Err(Kern::InvalidName));
    // The receive right joins the send right, with what is queued.
    w.send(root, port, &Letter::new(1, 5), POLL);
    assert_eq!(give(&mut w, port, MoveReceive), Ok(theirs));
    assert_eq!(w.receive(b, theirs, POLL).unwrap().words[0], 5);
    assert_eq!(
        kinds(&mut w, b, theirs),
        Ok(PortType::RECEIVE | PortType::SEND)
    );
    let wrong = [
        (theirs, None, Kern::InvalidName),
        (port, Some(MakeSend), Kern::InvalidRight),
        (port, Some(MoveReceive), Kern::InvalidRight),
        (port, Some(MoveSendOnce), Kern::InvalidRight),
        (port, Some(Disposition::None), Kern::InvalidValue),
    ];
    for (name, disposition, code) in wrong {
        let name = if disposition.is_some() { name } else { 3 };
        let given = give(&mut w, name, disposition.unwrap_or(CopySend));
        assert_eq!(given, Err(code));
    }
    let set = set(&mut w, root);
    assert_eq!(give(&mut w, set, MakeSend), Err(Kern::InvalidRight));
    let wrong = w.trap(root, |kernel, toy| {
        kernel.port_insert_right(toy, port, port, CopySend as u64)
    });
    assert_eq!(wrong, Err(Kern::InvalidTask));
}

#[test]
fn a_right_handed_to_oneself_keeps_its_name_and_references_do_not_overflow() {
    use Disposition::{CopySend, MakeSend, MoveReceive, MoveSend};
    let mut w = World::new();
    let root = w.root;
    let port = w.port(root, 0);
    for (disposition, count) in [
        (MakeSend, 1),
        (MoveSend, 1),
        (CopySend, 2),
        (MoveReceive, 2),
    ] {
        let given = w.trap(root, |kernel, toy| {
            kernel.port_insert_right(toy, 0, port, disposition as u64)
        });
        assert_eq!(given.map(word), Ok(port));
        assert_eq!(refs(&mut w, root, port, RightKind::Send), Ok(count));
    }
    let most = i64::from(u32::MAX) - 2;
    assert_eq!(mod_refs(&mut w, root, port, RightKind::Send, most), Ok(()));
    let given = w.trap(root, |kernel, toy| {
        kernel.port_insert_right(toy, 0, port, CopySend as u64)
    });
    assert_eq!(given, Err(Kern::UrefsOverflow));
    let made = w.trap(root, |kernel, _| kernel.port_make_send(port));
    assert_eq!(made, Err(Kern::UrefsOverflow));
}

#[test]
fn a_receive_right_that_is_taken_away_ends_the_waits_for_it() {
    let mut w = World::new();
    let (root, b) = (w.root, w.actor());
    let port = w.port(b, 0);
    w.receive(b, port, FOREVER);
    let child = b.child;
    w.trap(root, |kernel, toy| {
        kernel.port_extract_right(toy, child, port, Disposition::MoveReceive as u64)
    })
    .unwrap();
    assert_eq!(w.result(b).unwrap().code, Err(Kern::ReceivePortChanged));
}

#[test]
fn a_port_is_made_with_its_set_its_limit_and_its_notice_or_not_at_all() {
    let mut w = World::new();
    let a = w.root;
    let set = w.trap(a, |kernel, _| kernel.port_set_allocate());
    let set = u64::from(set.unwrap());
    let plain = w.port(a, 0);
    let before = format!("{:?}", w.kernel);
    for (set, limit, told, code) in [
        (1 << 40, 0, 0, Kern::InvalidName),
        (plain, 0, 0, Kern::InvalidRight),
        (set, 1025, 0, Kern::InvalidValue),
        (set, 0, 3, Kern::InvalidValue),
    ] {
        let made = w.trap(a, |kernel, _| {
            kernel.port_allocate_in(7, set, [limit, told])
        });
        assert_eq!(made, Err(code));
    }
    assert_eq!(format!("{:?}", w.kernel), before);
    let made = w.trap(a, |kernel, _| kernel.port_allocate_in(7, set, [2, 1]));
    let made = u64::from(made.unwrap());
    w.make_send(a, made);
    assert_eq!(w.deallocate(a, made, 1), Ok(()));
    let got = w.receive(a, set, POLL).unwrap();
    assert_eq!((got.payload, got.info.id()), (7, notify::NO_SENDERS));
    w.destroy(a, made);
    w.settle();
}
