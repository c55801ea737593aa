//! Names, user references, and rights in messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{FOREVER, POLL, option},
    notify,
    right::{ArrivedKind, Disposition},
};
use kernel_core::Msg;
use model::{Letter, World, word};

#[test]
fn send_and_receive_rights_share_a_name_and_references_are_counted() {
    let mut w = World::new();
    let root = w.root;
    let name = w.port(root, 0);
    assert_eq!(w.deallocate(root, name, 1), Err(Kern::InvalidRight));
    w.make_send(root, name);
    w.make_send(root, name);
    assert_eq!(w.deallocate(root, name, 0), Err(Kern::InvalidValue));
    assert_eq!(w.deallocate(root, name, 3), Err(Kern::InvalidValue));
    assert_eq!(w.deallocate(root, name, 1 << 32), Err(Kern::InvalidValue));
    assert_eq!(w.deallocate(root, name, 2), Ok(()));
    assert_eq!(w.deallocate(root, name, 1), Err(Kern::InvalidRight));
    w.destroy(root, name);
    assert_eq!(w.deallocate(root, name, 1), Err(Kern::InvalidName));
    assert_eq!(w.deallocate(root, 0, 1), Err(Kern::InvalidName));
    assert_eq!(w.deallocate(root, 1 << 40, 1), Err(Kern::InvalidName));
}

#[test]
fn each_disposition_gives_the_receiver_its_right_and_takes_the_senders_as_it_says() {
    use Disposition::{CopySend, MakeSend, MakeSendOnce, MoveReceive, MoveSend, MoveSendOnce};
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let port = w.port(a, 0x77);
    let (send, kind) = w.pass(a, port, MakeSend, b);
    assert_eq!(kind, ArrivedKind::Send as u8);
    w.make_send(a, port);
    assert_eq!(w.pass(a, port, CopySend, b), (send, kind));
    assert_eq!(w.pass(a, port, MoveSend, b), (send, kind));
    assert_eq!(w.deallocate(a, port, 1), Err(Kern::InvalidRight));
    assert_eq!(w.deallocate(b, send, 4), Err(Kern::InvalidValue));
    assert_eq!(w.deallocate(b, send, 2), Ok(()));
    let (once, kind) = w.pass(a, port, MakeSendOnce, b);
    assert_eq!(kind, ArrivedKind::SendOnce as u8);
    assert_ne!(once, send);
    // Home again: the payload says which port it is.
    assert_eq!(w.pass(b, send, MoveSend, a), (0x77, ArrivedKind::Own as u8));
    assert_eq!(w.deallocate(b, send, 1), Err(Kern::InvalidName));
    assert_eq!(
        w.pass(b, once, MoveSendOnce, a),
        (0x77, ArrivedKind::Own as u8)
    );
    assert_eq!(w.deallocate(b, once, 1), Err(Kern::InvalidName));
    let (receive, kind) = w.pass(a, port, MoveReceive, b);
    assert_eq!(kind, ArrivedKind::Receive as u8);
    assert_eq!(
        w.receive(a, port, POLL).unwrap().code,
        Err(Kern::ReceiveInvalidName)
    );
    assert_eq!(
        w.receive(b, receive, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}

#[test]
fn a_right_cannot_be_sent_by_who_does_not_have_it_and_nothing_moves_then() {
    use Disposition::{CopySend, MakeSend, MakeSendOnce, MoveReceive, MoveSend, MoveSendOnce};
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (_, key) = w.door(b, a);
    let port = w.port(a, 0);
    let set = word(w.trap(a, |kernel, _| kernel.port_set_allocate()).unwrap());
    let (once, _) = {
        let other = w.port(b, 0);
        w.pass(b, other, MakeSendOnce, a)
    };
    let before = w.kernel.population();
    for (name, disposition) in [
        (port, MoveSend),
        (port, CopySend),
        (port, MoveSendOnce),
        (key, MakeSend),
        (key, MakeSendOnce),
        (key, MoveReceive),
        (once, MoveSend),
        (once, CopySend),
        (set, MoveReceive),
        (0, MoveSend),
        (u64::MAX, CopySend),
    ] {
        let letter = Letter::new(1, 0)
            .right(port, MakeSend)
            .right(port, MakeSendOnce)
            .right(once, MoveSendOnce)
            .right(port, MoveReceive)
            .right(name, disposition);
        let refused = w.send(a, key, &letter, POLL).unwrap();
        assert_eq!(
            refused.code,
            Err(Kern::SendInvalidRight),
            "{name} {disposition:?}"
        );
        assert_eq!(w.kernel.population(), before);
        assert_eq!(
            w.receive(a, port, POLL).unwrap().code,
            Err(Kern::ReceiveTimedOut)
        );
    }
    w.run(a);
    w.toy.at(a.context).rights[0] = (port, 99);
    w.toy.at(a.context).result = None;
    let msg = Msg {
        options: option::SEND,
        destination: key,
        info: 1 << 44,
        ..Msg::default()
    };
    let _ = w.kernel.msg(&mut w.toy, &msg);
    assert_eq!(w.result(a).unwrap().code, Err(Kern::SendInvalidRight));
    // The send-once right that the message itself uses cannot be in it as well.
    let letter = Letter::new(1, 0).right(once, MoveSendOnce);
    assert_eq!(
        w.send(a, once, &letter, POLL).unwrap().code,
        Err(Kern::SendInvalidRight)
    );
    assert_eq!(
        w.send(a, once, &Letter::new(1, 0), POLL).unwrap().code,
        Ok(())
    );
}

#[test]
fn a_moved_receive_right_takes_its_queue_along_and_leaves_its_set_and_its_waiters() {
    let mut w = World::new();
    let child = w.child();
    let (a, waiter) = (w.thread(child, 10), w.thread(child, 10));
    let b = w.actor();
    let port = w.port(a, 0x11);
    w.make_send(a, port);
    let set = word(w.trap(a, |kernel, _| kernel.port_set_allocate()).unwrap());
    w.trap(a, |kernel, toy| kernel.port_move_member(toy, port, set))
        .unwrap();
    assert_eq!(w.receive(waiter, port, FOREVER), None);
    let (receive, _) = w.pass(a, port, Disposition::MoveReceive, b);
    let changed = w.result(waiter).unwrap();
    assert_eq!(changed.code, Err(Kern::ReceivePortChanged));
    for number in 0..3 {
        assert_eq!(
            w.send(a, port, &Letter::new(1, number), POLL).unwrap().code,
            Ok(())
        );
    }
    assert_eq!(
        w.receive(a, set, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
    let c = w.actor();
    let (again, _) = w.pass(b, receive, Disposition::MoveReceive, c);
    for number in 0..3 {
        assert_eq!(w.receive(c, again, POLL).unwrap().words[0], number);
    }
}

#[test]
fn a_receive_right_cannot_be_sent_where_only_it_could_be_received() {
    let mut w = World::new();
    let root = w.root;
    let ports: Vec<_> = (0..3).map(|payload| w.port(root, payload)).collect();
    for port in &ports {
        w.make_send(root, *port);
    }
    let bury = |w: &mut World, what: usize, into: usize| {
        let letter = Letter::new(1, 0).right(ports[what], Disposition::MoveReceive);
        w.send(root, ports[into], &letter, POLL).unwrap().code
    };
    assert_eq!(bury(&mut w, 0, 0), Err(Kern::SendInvalidRight));
    assert_eq!(bury(&mut w, 0, 1), Ok(()));
    assert_eq!(bury(&mut w, 1, 2), Ok(()));
    assert_eq!(bury(&mut w, 2, 0), Err(Kern::SendInvalidRight));
    assert_eq!(bury(&mut w, 2, 1), Err(Kern::SendInvalidRight));
    // One destroy takes all down, from the outside in.
    let [.., ports_before, _, _] = w.kernel.population();
    w.destroy(root, ports[2]);
    for port in &ports {
        assert_eq!(w.deallocate(root, *port, 1), Ok(()));
    }
    let [.., ports_after, _, messages] = w.kernel.population();
    assert_eq!(ports_after, ports_before - 3);
    assert_eq!(messages, 4, "the notices of task (two), thread and kernel");
}

#[test]
fn receive_rights_nested_deeper_than_any_stack_are_destroyed_in_steps() {
    let mut w = World::new();
    let root = w.root;
    let [.., before, _, _] = w.kernel.population();
    let mut inner = w.port(root, 0);
    w.checking = false;
    for _ in 0..20_000 {
        let outer = w.port(root, 0);
        w.make_send(root, outer);
        let letter = Letter::new(1, 0).right(inner, Disposition::MoveReceive);
        assert_eq!(w.send(root, outer, &letter, POLL).unwrap().code, Ok(()));
        assert_eq!(w.deallocate(root, outer, 1), Ok(()));
        inner = outer;
    }
    w.destroy(root, inner);
    w.checking = true;
    w.check();
    let [.., after, _, _] = w.kernel.population();
    assert_eq!(after, before);
}

#[test]
fn rights_to_a_dead_port_are_dead_names_and_arrive_as_such() {
    let mut w = World::new();
    let (a, b, c) = (w.actor(), w.actor(), w.actor());
    let port = w.port(a, 0);
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let (once, _) = w.pass(a, port, Disposition::MakeSendOnce, b);
    let (door, key) = w.door(c, b);
    let letter = Letter::new(1, 0)
        .right(send, Disposition::CopySend)
        .right(once, Disposition::MoveSendOnce);
    w.send(b, key, &letter, POLL);
    w.destroy(a, port);
    let dead = w.receive(c, door, POLL).unwrap();
    assert!(
        dead.rights
            .iter()
            .all(|(_, kind)| *kind == ArrivedKind::Dead as u8)
    );
    assert_eq!(
        w.call(b, send, &Letter::new(1, 0)).unwrap().code,
        Err(Kern::SendInvalidDest)
    );
    let passed = w.pass(b, send, Disposition::CopySend, c);
    assert_eq!(passed, (dead.rights[0].0, ArrivedKind::Dead as u8));
    assert_eq!(w.deallocate(c, dead.rights[0].0, 2), Ok(()));
    assert_eq!(w.deallocate(c, dead.rights[1].0, 1), Ok(()));
    assert_eq!(
        w.pass(b, send, Disposition::MoveSend, c).1,
        ArrivedKind::Dead as u8
    );
    assert_eq!(w.deallocate(b, send, 1), Err(Kern::InvalidName));
}

#[test]
fn a_destroyed_receive_right_leaves_a_dead_name_where_there_was_a_send_right() {
    let mut w = World::new();
    let root = w.root;
    let port = w.port(root, 0);
    w.make_send(root, port);
    w.destroy(root, port);
    let twice = w.trap(root, |kernel, toy| kernel.port_destroy(toy, port));
    assert_eq!(twice, Err(Kern::InvalidRight));
    let make = w.trap(root, |kernel, _| kernel.port_make_send(port));
    assert_eq!(make, Err(Kern::InvalidRight));
    assert_eq!(w.deallocate(root, port, 1), Ok(()));
    let gone = w.trap(root, |kernel, toy| kernel.port_destroy(toy, port));
    assert_eq!(gone, Err(Kern::InvalidName));
}

#[test]
fn rights_that_do_not_fit_are_the_receivers_error_and_stay_in_the_queue() {
    let mut w = World::new();
    let (server, child) = (w.actor(), w.child());
    let (client, helper) = (w.thread(child, 10), w.thread(child, 10));
    let (door, key) = w.door(server, client);
    let port = w.port(client, 0);
    w.unlimited(server.child);
    w.unlimited(child.name);
    w.checking = false;
    let mut names = Vec::new();
    w.run(server);
    while let Ok(name) = w.kernel.port_set_allocate() {
        names.push(word(name));
    }
    let letter = Letter::new(1, 5).right(port, Disposition::MakeSend);
    // A waiting receiver is told; the message is queued for the next.
    w.receive(server, door, FOREVER);
    assert_eq!(w.send(client, key, &letter, POLL).unwrap().code, Ok(()));
    assert_eq!(w.result(server).unwrap().code, Err(Kern::ReceiveNoSpace));
    assert_eq!(w.call(client, key, &letter), None);
    for _ in 0..2 {
        assert_eq!(
            w.receive(server, door, POLL).unwrap().code,
            Err(Kern::ReceiveNoSpace)
        );
    }
    w.destroy(server, names[0]);
    assert_eq!(w.receive(server, door, POLL).unwrap().words[0], 5);
    // The second carries the same right, which needs no name of its own.
    let call = w.receive(server, door, POLL).unwrap();
    assert_eq!((call.code, call.rights.len()), (Ok(()), 1));
    // An answer has no queue to stay in: the right is gone and its receiver gets the code.
    w.run(helper);
    while w.kernel.port_set_allocate().is_ok() {}
    w.destroy(server, names[1]);
    let gift = w.port(server, 0);
    let answer = Letter::new(2, 0).right(gift, Disposition::MakeSend);
    assert_eq!(w.reply(server, call.token, &answer).unwrap().code, Ok(()));
    let result = w.result(client).unwrap();
    assert_eq!(
        (result.code, result.rights.len()),
        (Err(Kern::ReceiveNoSpace), 0)
    );
}

#[test]
fn a_dead_name_is_told_once_with_one_reference_more() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let port = w.port(a, 0);
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let (once, _) = w.pass(a, port, Disposition::MakeSendOnce, b);
    let bell = w.port(b, 0xBE11);
    let ask = |w: &mut World, name, kind, to| {
        w.trap(b, |kernel, toy| {
            kernel
                .port_request_notification(toy, name, kind, to, 1)
                .map(drop)
        })
    };
    assert_eq!(ask(&mut w, send, 4, bell), Err(Kern::InvalidValue));
    assert_eq!(ask(&mut w, 99, 0, bell), Err(Kern::InvalidName));
    assert_eq!(ask(&mut w, bell, 0, bell), Err(Kern::InvalidRight));
    assert_eq!(ask(&mut w, send, 1, bell), Err(Kern::InvalidRight));
    assert_eq!(ask(&mut w, send, 0, send), Err(Kern::InvalidCapability));
    for name in [send, once, once] {
        assert_eq!(ask(&mut w, name, 0, bell), Ok(()));
    }
    w.destroy(a, port);
    for name in [send, once] {
        let told = w.receive(b, bell, POLL).unwrap();
        assert_eq!(
            (told.info.id(), told.words[0], told.words[1]),
            (notify::DEAD_NAME, name, 0)
        );
        assert_eq!(w.deallocate(b, name, 2), Ok(()));
    }
    assert_eq!(
        w.receive(b, bell, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}

#[test]
fn a_request_about_a_name_ends_with_the_name_or_when_taken_back() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let bell = w.port(b, 0);
    for take_back in [false, true] {
        let port = w.port(a, 0);
        let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
        let ask = |w: &mut World, to| {
            w.trap(b, |kernel, toy| {
                kernel
                    .port_request_notification(toy, send, 0, to, 1)
                    .map(drop)
            })
        };
        assert_eq!(ask(&mut w, bell), Ok(()));
        if take_back {
            assert_eq!(ask(&mut w, 0), Ok(()));
        } else {
            assert_eq!(w.deallocate(b, send, 1), Ok(()));
        }
        w.destroy(a, port);
        assert_eq!(
            w.receive(b, bell, POLL).unwrap().code,
            Err(Kern::ReceiveTimedOut)
        );
        if take_back {
            // Asked of a dead name, it is told at once.
            assert_eq!(ask(&mut w, bell), Ok(()));
            assert_eq!(w.receive(b, bell, POLL).unwrap().words[0], send);
        }
    }
}

#[test]
fn no_senders_is_told_when_the_last_send_right_goes_wherever_it_was() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let port = w.port(a, 0);
    let bell = w.port(a, 0);
    let ask = |w: &mut World| {
        w.trap(a, |kernel, toy| {
            kernel
                .port_request_notification(toy, port, 1, bell, 1)
                .map(drop)
        })
        .unwrap();
    };
    let told = |w: &mut World| {
        let told = w.receive(a, bell, POLL).unwrap();
        told.code.ok().map(|()| (told.info.id(), told.words[0]))
    };
    ask(&mut w);
    assert_eq!(told(&mut w), None, "there never were any");
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    let (door, key) = w.door(b, b);
    w.send(
        b,
        key,
        &Letter::new(1, 0).right(send, Disposition::MoveSend),
        POLL,
    );
    assert_eq!(told(&mut w), None, "one is in transit");
    w.destroy(b, door);
    assert_eq!(told(&mut w), Some((notify::NO_SENDERS, 1)));
    assert_eq!(told(&mut w), None);
    ask(&mut w);
    assert_eq!(
        told(&mut w),
        Some((notify::NO_SENDERS, 1)),
        "had senders, has none"
    );
    w.make_send(a, port);
    ask(&mut w);
    assert_eq!(told(&mut w), None);
    assert_eq!(w.deallocate(a, port, 1), Ok(()));
    assert_eq!(told(&mut w), Some((notify::NO_SENDERS, 2)));
}

#[test]
fn the_last_send_right_that_comes_back_to_a_quiet_port_says_so_instead_of_a_notice() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let made = w.trap(a, |kernel, _| kernel.port_allocate_in(7, 0, [0, 2]));
    let port = u64::from(made.unwrap());
    let quiet = |w: &mut World| {
        let got = w.receive(a, port, POLL).unwrap();
        got.code == Err(Kern::ReceiveTimedOut)
    };
    for _ in 0..2 {
        let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
        assert_eq!(
            w.pass(b, send, Disposition::CopySend, a),
            (7, ArrivedKind::Own as u8),
            "another is left"
        );
        assert_eq!(
            w.pass(b, send, Disposition::MoveSend, a),
            (7, ArrivedKind::OwnLast as u8)
        );
        assert!(quiet(&mut w));
    }
    // What is queued comes from somebody who had a right: the notice follows it.
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    w.send(b, send, &Letter::new(9, 0), POLL);
    assert_eq!(
        w.pass(b, send, Disposition::MoveSend, a),
        (7, ArrivedKind::Own as u8)
    );
    assert_eq!(w.receive(a, port, POLL).unwrap().info.id(), 9);
    let told = w.receive(a, port, POLL).unwrap();
    assert_eq!((told.info.id(), told.words[0]), (notify::NO_SENDERS, 3));
    // It was told once, and nobody asks again.
    let (send, _) = w.pass(a, port, Disposition::MakeSend, b);
    assert_eq!(
        w.pass(b, send, Disposition::MoveSend, a),
        (7, ArrivedKind::Own as u8)
    );
    assert!(quiet(&mut w));
}

#[test]
fn members_of_a_set_are_received_from_in_turn() {
    let mut w = World::new();
    let root = w.root;
    let set = word(
        w.trap(root, |kernel, _| kernel.port_set_allocate())
            .unwrap(),
    );
    let ports: Vec<_> = (0..3).map(|payload| w.port(root, payload)).collect();
    for port in &ports {
        w.make_send(root, *port);
        w.trap(root, |kernel, toy| kernel.port_move_member(toy, *port, set))
            .unwrap();
    }
    for port in [0, 0, 0, 1, 2, 2] {
        w.send(root, ports[port], &Letter::new(1, 0), POLL);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(w.receive(root, set, POLL).unwrap().payload);
    }
    assert_eq!(order, [0, 1, 2, 0, 2, 0]);
    let wrong = w.trap(root, |kernel, toy| {
        kernel.port_move_member(toy, ports[0], ports[1])
    });
    assert_eq!(wrong, Err(Kern::InvalidRight));
    let wrong = w.trap(root, |kernel, toy| kernel.port_move_member(toy, set, set));
    assert_eq!(wrong, Err(Kern::InvalidRight));
    let wrong = w.trap(root, |kernel, toy| kernel.port_move_member(toy, 5, set));
    assert_eq!(wrong, Err(Kern::InvalidName));
}

#[test]
fn a_thread_that_waits_on_a_set_gets_what_comes_and_what_a_new_member_brings() {
    let mut w = World::new();
    let child = w.child();
    let (a, b) = (w.thread(child, 10), w.thread(child, 10));
    let set = word(w.trap(a, |kernel, _| kernel.port_set_allocate()).unwrap());
    let ports: Vec<_> = (0..2).map(|payload| w.port(a, payload)).collect();
    for port in &ports {
        w.make_send(a, *port);
    }
    w.trap(a, |kernel, toy| kernel.port_move_member(toy, ports[0], set))
        .unwrap();
    w.receive(b, set, FOREVER);
    w.send(a, ports[0], &Letter::new(1, 7), POLL);
    assert_eq!(w.result(b).unwrap().words[0], 7);
    w.send(a, ports[1], &Letter::new(1, 8), POLL);
    w.receive(b, set, FOREVER);
    w.trap(a, |kernel, toy| kernel.port_move_member(toy, ports[1], set))
        .unwrap();
    let got = w.result(b).unwrap();
    assert_eq!((got.payload, got.words[0]), (1, 8));
    // A port that is waited on directly joins a set: its waiter is told.
    let third = w.port(a, 2);
    w.receive(b, third, FOREVER);
    w.trap(a, |kernel, toy| kernel.port_move_member(toy, third, set))
        .unwrap();
    assert_eq!(w.result(b).unwrap().code, Err(Kern::ReceivePortChanged));
    w.receive(b, set, FOREVER);
    w.destroy(a, set);
    assert_eq!(w.result(b).unwrap().code, Err(Kern::ReceivePortDied));
    assert_eq!(
        w.receive(a, ports[0], POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}
