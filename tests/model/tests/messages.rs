//! Sending, calling, answering and receiving.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    buffer::BODY_SIZE,
    message::{FOREVER, POLL, option},
    notify,
    right::{ArrivedKind, Disposition},
};
use kernel_core::Msg;
use model::{Letter, World};

#[test]
fn a_call_goes_straight_to_a_waiting_receiver_and_its_answer_straight_back() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    assert_eq!(w.receive(server, door, FOREVER), None);
    assert_eq!(
        w.call(client, key, &Letter::new(7, 42).body(b"question")),
        None
    );
    assert!(w.is_running(server));
    let got = w.result(server).unwrap();
    assert_eq!((got.code, got.sent, got.payload), (Ok(()), false, 0xD00));
    assert_eq!(
        (got.info.id(), got.words, &got.body[..]),
        (7, [42, 1, 2, 3, 4, 5], &b"question"[..])
    );
    assert_ne!(got.token, 0);
    let again = w.reply_receive(server, got.token, &Letter::new(8, 43).body(b"answer"), door);
    assert_eq!(again, None);
    assert!(w.is_running(client));
    let answer = w.result(client).unwrap();
    assert_eq!(
        (answer.code, answer.sent, answer.payload, answer.token),
        (Ok(()), true, 0, 0)
    );
    assert_eq!(
        (answer.info.id(), answer.words[0], &answer.body[..]),
        (8, 43, &b"answer"[..])
    );
}

#[test]
fn callers_are_received_by_priority_and_in_order_inside_each() {
    let mut w = World::new();
    let server = w.actor();
    let child = w.child();
    let callers: Vec<_> = [3, 9, 3, 5, 9, 5, 1]
        .iter()
        .map(|p| w.thread(child, *p))
        .collect();
    let (door, key) = w.door(server, callers[0]);
    for (number, caller) in callers.iter().enumerate() {
        assert_eq!(w.call(*caller, key, &Letter::new(1, number as u64)), None);
    }
    let mut order = Vec::new();
    for _ in &callers {
        order.push(w.receive(server, door, POLL).unwrap().words[0]);
    }
    assert_eq!(order, [1, 4, 3, 5, 0, 2, 6]);
    assert_eq!(
        w.receive(server, door, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}

#[test]
fn a_caller_does_not_overtake_what_its_thread_sent_before() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    for number in 0..3 {
        w.send(client, key, &Letter::new(1, number), POLL);
    }
    w.call(client, key, &Letter::new(1, 3));
    for number in 0..4 {
        assert_eq!(w.receive(server, door, POLL).unwrap().words[0], number);
    }
}

#[test]
fn a_token_is_good_once_and_only_for_the_task_that_received_it() {
    let mut w = World::new();
    let (server, client, thief) = (w.actor(), w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    w.call(client, key, &Letter::new(1, 0));
    let token = w.receive(server, door, POLL).unwrap().token;
    for forged in [0, 1, token + 1, token ^ 1 << 30, u64::MAX] {
        let refused = w.reply(server, forged, &Letter::new(2, 0)).unwrap();
        assert_eq!(refused.code, Err(Kern::SendInvalidReply));
    }
    let stolen = w.reply(thief, token, &Letter::new(2, 0)).unwrap();
    assert_eq!(stolen.code, Err(Kern::SendInvalidReply));
    assert_eq!(
        w.reply(server, token, &Letter::new(2, 9)).unwrap().code,
        Ok(())
    );
    assert_eq!(w.result(client).unwrap().words[0], 9);
    let twice = w.reply(server, token, &Letter::new(2, 0)).unwrap();
    assert_eq!(twice.code, Err(Kern::SendInvalidReply));
    w.call(client, key, &Letter::new(1, 0));
    let next = w.receive(server, door, POLL).unwrap().token;
    assert_ne!(next, token);
    let stale = w.reply(server, token, &Letter::new(2, 0)).unwrap();
    assert_eq!(stale.code, Err(Kern::SendInvalidReply));
}

#[test]
fn a_failed_send_half_leaves_everything_as_it_was_and_the_receive_half_untried() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    w.send(client, key, &Letter::new(1, 5), POLL);
    w.call(client, key, &Letter::new(1, 6));
    assert_eq!(w.receive(server, door, POLL).unwrap().words[0], 5);
    let token = w.receive(server, door, POLL).unwrap().token;
    let extra = w.port(server, 0);
    w.make_send(server, extra);
    let bad = Letter::new(2, 0)
        .right(extra, Disposition::MoveSend)
        .right(extra, Disposition::MakeSendOnce)
        .right(extra, Disposition::MoveReceive)
        .right(extra, Disposition::MoveSend);
    let failed = w.reply_receive(server, token, &bad, door).unwrap();
    assert_eq!(
        (failed.code, failed.sent),
        (Err(Kern::SendInvalidRight), false)
    );
    // Receive right and send right are still there, and the token is good.
    w.make_send(server, extra);
    assert_eq!(w.deallocate(server, extra, 2), Ok(()));
    let lost = w
        .reply_receive(server, token, &Letter::new(2, 1), 0xBAD00)
        .unwrap();
    assert_eq!(
        (lost.code, lost.sent),
        (Err(Kern::ReceiveInvalidName), false)
    );
    assert_eq!(
        w.reply(server, token, &Letter::new(2, 1)).unwrap().code,
        Ok(())
    );
    assert_eq!(w.result(client).unwrap().words[0], 1);
}

#[test]
fn undefined_options_and_info_are_refused() {
    let mut w = World::new();
    let root = w.root;
    let name = w.port(root, 0);
    w.make_send(root, name);
    for options in [
        0,
        option::NOTIFY,
        option::SEND | option::CALL,
        option::CALL | option::RECEIVE,
        0x4000,
        option::REPLY | option::SEND,
        option::FORWARD | option::REPLY,
        option::FORWARD | option::NOTIFY,
        option::FORWARD | option::SEND,
    ] {
        let msg = Msg {
            options,
            destination: name,
            source: name,
            ..Msg::default()
        };
        let refused = w.msg(root, &Letter::new(1, 0), msg).unwrap();
        assert_eq!(refused.code, Err(Kern::InvalidArgument));
    }
    w.run(root);
    for info in [1 << 48, 9 << 44, 4001 << 32, u64::MAX] {
        w.toy.at(root.context).result = None;
        let msg = Msg {
            options: option::SEND,
            destination: name,
            info,
            ..Msg::default()
        };
        let _ = w.kernel.msg(&mut w.toy, &msg);
        assert_eq!(w.result(root).unwrap().code, Err(Kern::SendInvalidData));
    }
}

#[test]
fn only_a_live_port_that_the_sender_has_a_right_to_is_a_destination() {
    let mut w = World::new();
    let client = w.actor();
    let own = w.port(client, 0);
    let set = w
        .trap(client, |kernel, _| kernel.port_set_allocate())
        .unwrap();
    let dead = w.port(client, 0);
    w.make_send(client, dead);
    w.destroy(client, dead);
    let task = w
        .trap(client, |kernel, _| kernel.task_get_special_port(1))
        .unwrap();
    for name in [0, own, u64::from(set), dead, u64::from(task), 1 << 32, 77] {
        for call in [false, true] {
            let letter = Letter::new(1, 0);
            let refused = if call {
                w.call(client, name, &letter)
            } else {
                w.send(client, name, &letter, POLL)
            };
            assert_eq!(
                refused.unwrap().code,
                Err(Kern::SendInvalidDest),
                "name {name}"
            );
        }
    }
}

#[test]
fn a_queue_takes_messages_up_to_its_limit_and_senders_get_in_in_order() {
    let mut w = World::new();
    let server = w.actor();
    let child = w.child();
    let senders: Vec<_> = (0..4).map(|_| w.thread(child, 10)).collect();
    let (door, key) = w.door(server, senders[0]);
    for number in 0..16 {
        let sent = w.send(
            senders[0],
            key,
            &Letter::new(1, number).body(&[number as u8; 100]),
            POLL,
        );
        assert_eq!(sent.unwrap().code, Ok(()));
    }
    let full = w.send(senders[0], key, &Letter::new(1, 99), POLL).unwrap();
    assert_eq!((full.code, full.sent), (Err(Kern::WouldBlock), false));
    for (number, sender) in senders.iter().enumerate() {
        let letter = Letter::new(1, 16 + number as u64).body(&[16 + number as u8; 100]);
        assert_eq!(w.send(*sender, key, &letter, FOREVER), None);
    }
    for number in 0..20 {
        let got = w.receive(server, door, POLL).unwrap();
        assert_eq!(
            (got.words[0], &got.body[..]),
            (number, &[number as u8; 100][..])
        );
    }
    for sender in senders {
        assert_eq!(w.result(sender).unwrap().code, Ok(()));
    }
}

#[test]
fn a_raised_limit_lets_waiting_senders_in() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let attributes = |w: &mut World, limit| {
        w.trap(server, |kernel, toy| {
            kernel.port_set_attributes(toy, door, 5, limit)
        })
    };
    assert_eq!(attributes(&mut w, 1025), Err(Kern::InvalidValue));
    attributes(&mut w, 1).unwrap();
    w.send(client, key, &Letter::new(1, 0), POLL);
    assert_eq!(w.send(client, key, &Letter::new(1, 1), FOREVER), None);
    attributes(&mut w, 0).unwrap();
    assert_eq!(w.result(client), None);
    attributes(&mut w, 2).unwrap();
    assert_eq!(w.result(client).unwrap().code, Ok(()));
}

#[test]
fn send_possible_is_told_once_when_a_full_queue_has_room() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let bell = w.port(client, 0xBE11);
    for number in 0..16 {
        w.send(client, key, &Letter::new(1, number), POLL);
    }
    let notify = |w: &mut World, notify| {
        let msg = Msg {
            options: option::SEND | option::NOTIFY,
            destination: key,
            send_deadline: FOREVER,
            notify,
            ..Msg::default()
        };
        w.msg(client, &Letter::new(1, 50), msg).unwrap().code
    };
    assert_eq!(notify(&mut w, 0), Err(Kern::SendInvalidNotify));
    assert_eq!(notify(&mut w, key), Err(Kern::SendInvalidNotify));
    assert_eq!(notify(&mut w, bell), Err(Kern::WouldBlock));
    assert_eq!(notify(&mut w, bell), Err(Kern::WouldBlock));
    assert_eq!(
        w.receive(client, bell, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
    w.receive(server, door, POLL);
    let told = w.receive(client, bell, POLL).unwrap();
    assert_eq!(
        (told.info.id(), told.words[0], told.payload),
        (notify::SEND_POSSIBLE, key, 0xBE11)
    );
    assert!(told.info.is_kernel());
    assert_eq!(notify(&mut w, bell), Ok(()));
    w.receive(server, door, POLL);
    assert_eq!(
        w.receive(client, bell, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}

#[test]
fn a_send_combined_with_a_receive_switches_to_a_waiting_receiver() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let inbox = w.port(client, 0);
    w.receive(server, door, FOREVER);
    let msg = Msg {
        options: option::SEND | option::RECEIVE,
        destination: key,
        source: inbox,
        receive_deadline: FOREVER,
        ..Msg::default()
    };
    assert_eq!(w.msg(client, &Letter::new(1, 4), msg), None);
    assert!(w.is_running(server));
    assert_eq!(w.result(server).unwrap().words[0], 4);
}

#[test]
fn a_sender_that_waited_for_room_goes_on_to_its_receive_half() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let inbox = w.port(client, 3);
    w.make_send(client, inbox);
    for number in 0..16 {
        w.send(client, key, &Letter::new(1, number), POLL);
    }
    let msg = Msg {
        options: option::SEND | option::RECEIVE,
        destination: key,
        source: inbox,
        send_deadline: 500,
        receive_deadline: 900,
        ..Msg::default()
    };
    assert_eq!(
        w.msg(
            client,
            &Letter::new(1, 16).right(inbox, Disposition::MakeSendOnce),
            msg
        ),
        None
    );
    w.receive(server, door, POLL);
    w.expire(600);
    assert_eq!(w.result(client), None);
    w.expire(900);
    let late = w.result(client).unwrap();
    assert_eq!((late.code, late.sent), (Err(Kern::ReceiveTimedOut), true));
}

#[test]
fn deadlines_end_sends_receives_and_calls_with_their_codes() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    assert_eq!(w.receive(server, door, 100), None);
    assert_eq!(w.kernel.alarm(|| 0), 100);
    w.expire(99);
    assert_eq!(w.result(server), None);
    w.expire(100);
    assert_eq!(w.result(server).unwrap().code, Err(Kern::ReceiveTimedOut));
    for number in 0..16 {
        w.send(client, key, &Letter::new(1, number), POLL);
    }
    let right = w.port(client, 0);
    let letter = Letter::new(1, 16).right(right, Disposition::MoveReceive);
    assert_eq!(w.send(client, key, &letter, 200), None);
    w.expire(200);
    let late = w.result(client).unwrap();
    assert_eq!((late.code, late.sent), (Err(Kern::SendTimedOut), false));
    w.make_send(client, right);
    for _ in 0..16 {
        w.receive(server, door, POLL);
    }
    let call = |w: &mut World, receive_deadline| {
        let msg = Msg {
            options: option::CALL,
            destination: key,
            receive_deadline,
            ..Msg::default()
        };
        w.msg(client, &Letter::new(1, 0), msg)
    };
    assert_eq!(call(&mut w, POLL).unwrap().code, Err(Kern::ReceiveTimedOut));
    assert_eq!(call(&mut w, 300), None);
    w.expire(300);
    assert_eq!(w.result(client).unwrap().code, Err(Kern::ReceiveTimedOut));
    assert_eq!(
        w.receive(server, door, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
    assert_eq!(call(&mut w, 400), None);
    let token = w.receive(server, door, POLL).unwrap().token;
    w.expire(400);
    assert_eq!(w.result(client).unwrap().code, Err(Kern::ReceiveTimedOut));
    let told = w.receive(server, door, POLL).unwrap();
    assert_eq!((told.info.id(), told.words[0]), (notify::CANCELLED, token));
    let late = w.reply(server, token, &Letter::new(2, 0)).unwrap();
    assert_eq!(late.code, Err(Kern::SendInvalidReply));
}

#[test]
fn an_abort_breaks_off_what_a_thread_waits_in() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let root = w.root;
    let abort = |w: &mut World| {
        w.trap(root, |kernel, toy| kernel.thread_abort(toy, client.name))
            .unwrap();
        w.result(client).map(|result| (result.code, result.sent))
    };
    let inbox = w.port(client, 0);
    assert_eq!(abort(&mut w), None);
    w.receive(client, inbox, FOREVER);
    assert_eq!(abort(&mut w), Some((Err(Kern::ReceiveInterrupted), false)));
    w.call(client, key, &Letter::new(1, 0));
    assert_eq!(abort(&mut w), Some((Err(Kern::ReceiveInterrupted), true)));
    // Each void token is told, also when the thread calls again before the first notice is read.
    let (mut tokens, mut told) = (Vec::new(), Vec::new());
    for round in 0..4 {
        w.call(client, key, &Letter::new(1, 0));
        // What is read first is the notice of the round before, if it was not read then.
        while round != 2 || told.is_empty() {
            let got = w.receive(server, door, POLL).unwrap();
            if got.token != 0 {
                tokens.push(got.token);
                break;
            }
            assert_eq!(got.info.id(), notify::CANCELLED);
            told.push(got.words[0]);
        }
        let aborted = abort(&mut w);
        assert_eq!(aborted, Some((Err(Kern::ReceiveInterrupted), true)));
    }
    while let Ok(()) = w.receive(server, door, POLL).unwrap().code {
        told.push(w.toy.at(server.context).words[0]);
    }
    assert_eq!(told, tokens);
    for number in 0..16 {
        w.send(client, key, &Letter::new(1, number), POLL);
    }
    w.send(client, key, &Letter::new(1, 0), FOREVER);
    assert_eq!(abort(&mut w), Some((Err(Kern::SendInterrupted), false)));
}

#[test]
fn a_send_once_right_is_used_up_by_a_send_and_passes_a_full_queue() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let inbox = w.port(client, 0x1B);
    let (once, kind) = w.pass(client, inbox, Disposition::MakeSendOnce, server);
    assert_eq!(kind, ArrivedKind::SendOnce as u8);
    w.trap(client, |kernel, toy| {
        kernel.port_set_attributes(toy, inbox, 0x1B, 1)
    })
    .unwrap();
    w.make_send(client, inbox);
    w.send(client, inbox, &Letter::new(1, 1), POLL);
    assert_eq!(
        w.send(server, once, &Letter::new(1, 2), POLL).unwrap().code,
        Ok(())
    );
    let gone = w.send(server, once, &Letter::new(1, 3), POLL).unwrap();
    assert_eq!(gone.code, Err(Kern::SendInvalidDest));
    assert_eq!(w.receive(client, inbox, POLL).unwrap().words[0], 1);
    assert_eq!(w.receive(client, inbox, POLL).unwrap().words[0], 2);
    let _ = (door, key);
}

#[test]
fn the_largest_message_arrives_whole_queued_or_not() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let body: Vec<u8> = (0..BODY_SIZE).map(|byte| byte as u8).collect();
    let mut letter = Letter::new(1, 0).body(&body);
    let ports: Vec<_> = (0..8).map(|payload| w.port(client, payload)).collect();
    for port in &ports {
        letter = letter.right(*port, Disposition::MakeSend);
    }
    w.send(client, key, &letter, POLL);
    let queued = w.receive(server, door, POLL).unwrap();
    w.receive(server, door, FOREVER);
    w.call(client, key, &letter);
    let direct = w.result(server).unwrap();
    for got in [&queued, &direct] {
        assert_eq!(got.body, body);
        assert!(
            got.rights
                .iter()
                .all(|(_, kind)| *kind == ArrivedKind::Send as u8)
        );
    }
    assert_eq!(
        queued.rights, direct.rights,
        "rights to one port have one name"
    );
}
