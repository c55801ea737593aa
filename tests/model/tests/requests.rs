//! What tasks ask to be told of: by whose right, what a request replaces, and what it brings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{FOREVER, POLL, option},
    notify::{self, Request},
    port::PortType,
    right::{ArrivedKind, Disposition},
};
use kernel_core::Msg;
use model::{Actor, Letter, Received, World, word};

fn ask(
    w: &mut World,
    actor: Actor,
    name: u64,
    request: Request,
    notify: u64,
    sync: u64,
) -> Result<u64, Kern> {
    w.trap(actor, |kernel, toy| {
        kernel.port_request_notification(toy, name, request as u64, notify, sync)
    })
    .map(word)
}

/// What lies at a port: id and first word.
fn told(w: &mut World, actor: Actor, port: u64) -> Option<(u32, u64)> {
    let told = w.receive(actor, port, POLL).unwrap();
    told.code.ok().map(|()| (told.info.id(), told.words[0]))
}

fn kinds(w: &mut World, actor: Actor, name: u64) -> PortType {
    let bits = w.trap(actor, |kernel, _| kernel.port_type(0, name));
    PortType::from_bits_retain(bits.unwrap() as u32)
}

/// A send that does not wait, told as asked before if there is no room.
fn try_send(w: &mut World, actor: Actor, to: u64) -> Received {
    let msg = Msg {
        options: option::SEND | option::NOTIFY,
        destination: to,
        ..Msg::default()
    };
    w.msg(actor, &Letter::new(1, 0), msg).unwrap()
}

#[test]
fn a_destroyed_receive_right_goes_to_who_asked_with_all_that_is_queued() {
    let mut w = World::new();
    let (root, a) = (w.root, w.actor());
    let other = w.thread(
        model::Child {
            task: a.task,
            name: a.child,
            space: 0,
        },
        10,
    );
    let caller = w.actor();
    let port = w.port(a, 0x60D);
    let (key, _) = w.pass(a, port, Disposition::MakeSend, root);
    let call = w.share(root, key, caller);
    // The right by which it is told was made by somebody else.
    let home = w.port(root, 0x803E);
    let (bell, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
    assert_eq!(ask(&mut w, a, port, Request::PortDestroyed, bell, 0), Ok(0));
    assert_eq!(w.deallocate(a, bell, 1), Err(Kern::InvalidName));
    w.send(root, key, &Letter::new(1, 11), POLL);
    assert_eq!(w.call(caller, call, &Letter::new(1, 22)), None);
    w.receive(other, w.mail, POLL);
    w.destroy(a, port);
    assert_eq!(
        w.receive(a, port, POLL).unwrap().code,
        Err(Kern::ReceiveInvalidName)
    );
    let notice = w.receive(root, home, POLL).unwrap();
    assert!(notice.info.is_kernel());
    assert_eq!(
        (notice.info.id(), notice.payload),
        (notify::PORT_DESTROYED, 0x803E)
    );
    assert_eq!(notice.rights, [(key, ArrivedKind::Receive as u8)]);
    assert_eq!(w.receive(root, key, POLL).unwrap().words[0], 11);
    let asked = w.receive(root, key, POLL).unwrap();
    assert_eq!((asked.payload, asked.words[0]), (0x60D, 22));
    let answer = w.reply(root, asked.token, &Letter::new(1, 33)).unwrap();
    assert_eq!(answer.code, Ok(()));
    assert_eq!(w.result(caller).unwrap().words[0], 33);
    // It was told once.
    w.destroy(root, key);
    assert_eq!(told(&mut w, root, home), None);
}

#[test]
fn a_receive_right_outlives_its_task_and_a_message_that_nobody_reads() {
    let mut w = World::new();
    let (root, home) = (w.root, 0);
    let home = w.port(root, home);
    for way in 0..2 {
        let a = w.actor();
        let port = w.port(a, 0x60D);
        let (bell, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
        assert_eq!(ask(&mut w, a, port, Request::PortDestroyed, bell, 0), Ok(0));
        if way == 1 {
            // It is in a message when its holder ends.
            let (_, key) = w.door(a, a);
            let letter = Letter::new(1, 0).right(port, Disposition::MoveReceive);
            assert_eq!(w.send(a, key, &letter, POLL).unwrap().code, Ok(()));
        }
        let child = a.child;
        w.trap(root, |kernel, toy| kernel.task_terminate(toy, child, 0))
            .unwrap();
        let notice = w.receive(root, home, POLL).unwrap();
        assert_eq!(notice.info.id(), notify::PORT_DESTROYED);
        assert_eq!(notice.rights[0].1, ArrivedKind::Receive as u8);
    }
}

#[test]
fn threads_that_wait_on_a_port_that_goes_away_are_told_and_senders_stay() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let (a, b, sender) = (w.thread(child, 10), w.thread(child, 10), w.actor());
    let home = w.port(root, 0);
    let port = w.port(a, 0);
    let (bell, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
    assert_eq!(ask(&mut w, a, port, Request::PortDestroyed, bell, 0), Ok(0));
    let (send, _) = w.pass(a, port, Disposition::MakeSend, sender);
    w.receive(b, port, FOREVER);
    w.destroy(a, port);
    assert_eq!(w.result(b).unwrap().code, Err(Kern::ReceivePortChanged));
    for _ in 0..16 {
        w.send(sender, send, &Letter::new(1, 0), POLL);
    }
    assert_eq!(w.send(sender, send, &Letter::new(1, 9), FOREVER), None);
    let name = w.receive(root, home, POLL).unwrap().rights[0].0;
    for _ in 0..16 {
        assert_eq!(w.receive(root, name, POLL).unwrap().words[0], 0);
    }
    assert_eq!(w.result(sender).unwrap().code, Ok(()));
    assert_eq!(w.receive(root, name, POLL).unwrap().words[0], 9);
}

#[test]
fn a_receive_right_that_nobody_can_take_dies_as_if_nobody_had_asked() {
    let mut w = World::new();
    let (root, a) = (w.root, w.actor());
    let before = w.kernel.population();
    // To itself, to a port in its own queue, and to a dead one.
    for way in 0..3 {
        let (port, other) = (w.port(a, 0), w.port(a, 0));
        let (key, _) = w.pass(a, port, Disposition::MakeSend, root);
        let watcher = w.port(root, 0);
        assert_eq!(ask(&mut w, root, key, Request::DeadName, watcher, 0), Ok(0));
        let to = if way == 0 { port } else { other };
        assert_eq!(ask(&mut w, a, port, Request::PortDestroyed, to, 0), Ok(0));
        match way {
            0 => {}
            1 => {
                w.make_send(a, port);
                let letter = Letter::new(1, 0).right(other, Disposition::MoveReceive);
                assert_eq!(w.send(a, port, &letter, POLL).unwrap().code, Ok(()));
                assert_eq!(w.deallocate(a, port, 1), Ok(()));
            }
            _ => w.destroy(a, other),
        }
        w.destroy(a, port);
        assert_eq!(told(&mut w, root, watcher), Some((notify::DEAD_NAME, key)));
        assert_eq!(w.deallocate(root, key, 2), Ok(()));
        w.destroy(root, watcher);
        if way == 0 {
            w.destroy(a, other);
        }
    }
    assert_eq!(w.kernel.population(), before);
}

#[test]
fn a_notice_with_a_right_waits_for_a_name() {
    let mut w = World::new();
    let (root, server) = (w.root, w.actor());
    let port = w.port(root, 0);
    let home = w.port(server, 0);
    let (bell, _) = w.pass(server, home, Disposition::MakeSendOnce, root);
    assert_eq!(
        ask(&mut w, root, port, Request::PortDestroyed, bell, 0),
        Ok(0)
    );
    w.checking = false;
    let mut names = Vec::new();
    let once = Disposition::MakeSendOnce as u64;
    w.run(server);
    while let Ok(name) = w.kernel.port_insert_right(&mut w.toy, 0, home, once) {
        names.push(word(name));
    }
    w.destroy(root, port);
    assert_eq!(
        w.receive(server, home, POLL).unwrap().code,
        Err(Kern::ReceiveNoSpace)
    );
    assert_eq!(w.deallocate(server, names[0], 1), Ok(()));
    assert_eq!(
        told(&mut w, server, home),
        Some((notify::PORT_DESTROYED, 0))
    );
}

#[test]
fn a_request_gives_back_the_right_of_the_one_that_it_replaces() {
    let mut w = World::new();
    let (root, a) = (w.root, w.actor());
    let (port, own) = (w.port(a, 0), w.port(a, 0));
    let home = w.port(root, 0);
    let (key, _) = w.pass(root, home, Disposition::MakeSend, a);
    let about = [
        (port, Request::NoSenders, 0),
        (port, Request::PortDestroyed, 0),
        (key, Request::DeadName, 0),
        (key, Request::SendPossible, 0),
    ];
    for (name, request, sync) in about {
        let sync = if request == Request::NoSenders {
            1
        } else {
            sync
        };
        let (bell, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
        assert_eq!(ask(&mut w, a, name, request, own, sync), Ok(0));
        assert_eq!(ask(&mut w, a, name, request, bell, sync), Ok(own));
        let back = ask(&mut w, a, name, request, 0, sync).unwrap();
        assert_eq!(kinds(&mut w, a, back), PortType::SEND_ONCE);
        assert_eq!(ask(&mut w, a, name, request, 0, sync), Ok(0));
        w.send(a, back, &Letter::new(77, 1), POLL);
        assert_eq!(told(&mut w, root, home), Some((77, 1)));
    }
    // What cannot be told by.
    for notify in [key, 3] {
        assert_eq!(
            ask(&mut w, a, port, Request::NoSenders, notify, 1),
            Err(Kern::InvalidCapability)
        );
    }
    let (once, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
    assert_eq!(
        ask(&mut w, a, once, Request::DeadName, once, 1),
        Err(Kern::InvalidCapability)
    );
    assert_eq!(
        ask(&mut w, a, once, Request::SendPossible, own, 1),
        Err(Kern::InvalidRight)
    );
    assert_eq!(
        ask(&mut w, a, key, Request::PortDestroyed, own, 1),
        Err(Kern::InvalidRight)
    );
    w.destroy(root, home);
    assert_eq!(
        ask(&mut w, a, port, Request::NoSenders, once, 1),
        Err(Kern::InvalidCapability),
        "a dead name"
    );
}

#[test]
fn no_senders_is_told_at_once_from_the_make_send_count_on_that_was_asked_for() {
    let mut w = World::new();
    let root = w.root;
    let (port, bell) = (w.port(root, 0), w.port(root, 0));
    let none = Some((notify::NO_SENDERS, 0));
    ask(&mut w, root, port, Request::NoSenders, bell, 0).unwrap();
    assert_eq!(told(&mut w, root, bell), none);
    for _ in 0..2 {
        w.make_send(root, port);
    }
    assert_eq!(w.deallocate(root, port, 2), Ok(()));
    ask(&mut w, root, port, Request::NoSenders, bell, 3).unwrap();
    assert_eq!(told(&mut w, root, bell), None);
    ask(&mut w, root, port, Request::NoSenders, bell, 2).unwrap();
    let two = Some((notify::NO_SENDERS, 2));
    assert_eq!(told(&mut w, root, bell), two);
    // The count begins anew with a new holder.
    let a = w.actor();
    let (port, _) = w.pass(root, port, Disposition::MoveReceive, a);
    let bell = w.port(a, 0);
    ask(&mut w, a, port, Request::NoSenders, bell, 1).unwrap();
    assert_eq!(told(&mut w, a, bell), None);
    ask(&mut w, a, port, Request::NoSenders, bell, 0).unwrap();
    assert_eq!(told(&mut w, a, bell), none);
}

#[test]
fn send_possible_is_told_when_there_is_room_and_not_before_a_send_has_failed_if_so_asked() {
    let mut w = World::new();
    let (root, a) = (w.root, w.actor());
    let port = w.port(root, 0);
    w.trap(root, |kernel, toy| {
        kernel.port_set_attributes(toy, port, 0, 1)
    })
    .unwrap();
    let (key, _) = w.pass(root, port, Disposition::MakeSend, a);
    let bell = w.port(a, 0);
    let room = Some((notify::SEND_POSSIBLE, key));
    // Asked with a sync, it is told at once, for there is room.
    ask(&mut w, a, key, Request::SendPossible, bell, 1).unwrap();
    assert_eq!(told(&mut w, a, bell), room);
    assert_eq!(
        try_send(&mut w, a, key).code,
        Err(Kern::SendInvalidNotify),
        "nothing is asked for"
    );
    // Asked without, it sleeps until a send finds none.
    ask(&mut w, a, key, Request::SendPossible, bell, 0).unwrap();
    let send = PortType::SEND;
    assert_eq!(
        kinds(&mut w, a, key),
        send | PortType::SEND_POSSIBLE_DELAYED
    );
    assert_eq!(try_send(&mut w, a, key).code, Ok(()));
    w.receive(root, port, POLL);
    assert_eq!(try_send(&mut w, a, key).code, Ok(()));
    assert_eq!(told(&mut w, a, bell), None);
    for _ in 0..2 {
        assert_eq!(try_send(&mut w, a, key).code, Err(Kern::WouldBlock));
        assert_eq!(
            kinds(&mut w, a, key),
            send | PortType::SEND_POSSIBLE_REQUEST
        );
    }
    w.receive(root, port, POLL);
    assert_eq!(told(&mut w, a, bell), room);
    assert_eq!(kinds(&mut w, a, key), send);
    // A port that dies has room for nobody, which is worth telling as well.
    ask(&mut w, a, key, Request::SendPossible, bell, 0).unwrap();
    assert_eq!(try_send(&mut w, a, key).code, Ok(()));
    assert_eq!(try_send(&mut w, a, key).code, Err(Kern::WouldBlock));
    w.destroy(root, port);
    assert_eq!(told(&mut w, a, bell), room);
    assert_eq!(try_send(&mut w, a, key).code, Err(Kern::SendInvalidDest));
}

#[test]
fn a_request_that_there_is_no_memory_for_changes_nothing() {
    let mut w = World::new();
    let (root, a) = (w.root, w.actor());
    let (port, own) = (w.port(a, 0), w.port(a, 0));
    let home = w.port(root, 0);
    let (bell, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
    let (second, _) = w.pass(root, home, Disposition::MakeSendOnce, a);
    ask(&mut w, a, port, Request::PortDestroyed, bell, 0).unwrap();
    w.kernel.freeze(true);
    let once = Disposition::MakeSendOnce as u64;
    while w
        .trap(a, |kernel, toy| kernel.port_insert_right(toy, 0, own, once))
        .is_ok()
    {}
    for notify in [0, own, second] {
        assert_eq!(
            ask(&mut w, a, port, Request::PortDestroyed, notify, 0),
            Err(Kern::ResourceShortage)
        );
    }
    w.kernel.freeze(false);
    assert_eq!(kinds(&mut w, a, second), PortType::SEND_ONCE);
    w.destroy(a, port);
    assert_eq!(told(&mut w, root, home), Some((notify::PORT_DESTROYED, 0)));
}
