//! Calls that are passed on: who may answer, what ends them, and whose the message is.
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
use model::{Actor, Letter, World};

/// A client, two servers, and names: the client's for the first, the first's for the second's port, and
/// both servers' for their own.
struct Chain {
    w: World,
    client: Actor,
    first: Actor,
    second: Actor,
    call: u64,
    onward: u64,
    ports: [u64; 2],
}

impl Chain {
    fn new() -> Chain {
        let mut w = World::new();
        let (client, first, second) = (w.actor(), w.actor(), w.actor());
        let (one, call) = w.door(first, client);
        let (two, onward) = w.door(second, first);
        Chain {
            w,
            client,
            first,
            second,
            call,
            onward,
            ports: [one, two],
        }
    }

    /// A call of the client that the first server has received: its token.
    fn called(&mut self) -> u64 {
        assert_eq!(
            self.w.call(self.client, self.call, &Letter::new(1, 10)),
            None
        );
        self.w
            .receive(self.first, self.ports[0], POLL)
            .unwrap()
            .token
    }

    fn forward(&mut self, token: u64, letter: &Letter) -> Result<(), Kern> {
        let (first, onward) = (self.first, self.onward);
        self.w.forward(first, token, onward, letter).unwrap().code
    }
}

#[test]
fn the_one_that_it_is_passed_on_to_answers_and_nobody_else() {
    let mut chain = Chain::new();
    for waits in [false, true] {
        let token = chain.called();
        if waits {
            chain.w.receive(chain.second, chain.ports[1], FOREVER);
        }
        let given = chain.w.port(chain.first, 0);
        let letter = Letter::new(7, 70)
            .body(b"onward")
            .right(given, Disposition::MakeSend);
        assert_eq!(chain.forward(token, &letter), Ok(()));
        assert_eq!(chain.forward(token, &letter), Err(Kern::SendInvalidReply));
        let late = chain.w.reply(chain.first, token, &Letter::new(1, 0));
        assert_eq!(late.unwrap().code, Err(Kern::SendInvalidReply));
        // The caller's own buffer is not where the message lies.
        chain.w.toy.at(chain.client.context).body[..6].fill(0);
        chain.w.toy.at(chain.client.context).words = [0; 6];
        let asked = match waits {
            true => chain.w.result(chain.second).unwrap(),
            false => chain.w.receive(chain.second, chain.ports[1], POLL).unwrap(),
        };
        assert_eq!((asked.info.id(), asked.words[0]), (7, 70));
        assert_eq!(asked.body, b"onward");
        assert_eq!(asked.rights[0].1, ArrivedKind::Send as u8);
        assert_ne!(asked.token, token);
        chain
            .w
            .reply(chain.second, asked.token, &Letter::new(1, 30));
        let answer = chain.w.result(chain.client).unwrap();
        assert_eq!((answer.code, answer.words[0]), (Ok(()), 30));
    }
}

#[test]
fn what_cannot_be_passed_on_can_still_be_answered() {
    let mut chain = Chain::new();
    let token = chain.called();
    let before = chain.w.kernel.population();
    let plain = Letter::new(1, 0);
    let bad = plain.clone().right(77, Disposition::CopySend);
    assert_eq!(chain.forward(token, &bad), Err(Kern::SendInvalidRight));
    assert_eq!(chain.forward(0, &plain), Err(Kern::SendInvalidReply));
    let nowhere = chain.w.forward(chain.first, token, 77, &plain);
    assert_eq!(nowhere.unwrap().code, Err(Kern::SendInvalidDest));
    let other = chain.w.forward(chain.second, token, chain.ports[1], &plain);
    assert_eq!(other.unwrap().code, Err(Kern::SendInvalidReply));
    assert_eq!(chain.w.kernel.population(), before);
    chain.w.reply(chain.first, token, &Letter::new(1, 5));
    assert_eq!(chain.w.result(chain.client).unwrap().words[0], 5);
}

#[test]
fn a_call_passed_on_ends_with_whatever_it_depends_on() {
    for received in [false, true] {
        for end in 0..4 {
            let mut chain = Chain::new();
            let mut before = chain.w.kernel.population();
            let token = chain.called();
            assert_eq!(chain.forward(token, &Letter::new(7, 70)), Ok(()));
            let mut held = 0;
            if received {
                let asked = chain.w.receive(chain.second, chain.ports[1], POLL);
                held = asked.unwrap().token;
            }
            let (root, client) = (chain.w.root, chain.client);
            let code = match end {
                0 => {
                    let child = chain.second.child;
                    chain
                        .w
                        .trap(root, |kernel, toy| kernel.task_terminate(toy, child, 0))
                        .unwrap();
                    Kern::ReceivePortDied
                }
                1 => {
                    let name = client.name;
                    chain
                        .w
                        .trap(root, |kernel, toy| kernel.thread_abort(toy, name))
                        .unwrap();
                    Kern::ReceiveInterrupted
                }
                // Who has passed it on may go.
                2 => {
                    let child = chain.first.child;
                    chain
                        .w
                        .trap(root, |kernel, toy| kernel.task_terminate(toy, child, 0))
                        .unwrap();
                    assert_eq!(chain.w.result(client), None);
                    continue;
                }
                _ => {
                    chain.w.destroy(chain.second, chain.ports[1]);
                    if received {
                        assert_eq!(chain.w.result(client), None);
                        continue;
                    }
                    before = chain.w.kernel.population();
                    Kern::ReceivePortDied
                }
            };
            let result = chain.w.result(client).unwrap();
            assert_eq!((result.code, result.sent), (Err(code), true));
            if end == 1 {
                let told = chain.w.receive(chain.second, chain.ports[1], POLL).unwrap();
                let void = received.then_some((notify::CANCELLED, held));
                let told = told.code.ok().map(|()| (told.info.id(), told.words[0]));
                assert_eq!(told, void);
            }
            if end == 1 || end == 3 {
                assert_eq!(chain.w.kernel.population(), before, "something is left");
            }
        }
    }
}

#[test]
fn faults_are_not_passed_on() {
    let mut chain = Chain::new();
    chain.w.fault(chain.client, 0x1000);
    let (root, map) = (chain.w.root, chain.w.map);
    let fault = chain.w.receive(root, map, POLL).unwrap();
    let onward = chain.w.port(root, 0);
    chain.w.make_send(root, onward);
    let sent = chain
        .w
        .forward(root, fault.token, onward, &Letter::new(1, 0));
    assert_eq!(sent.unwrap().code, Err(Kern::SendInvalidReply));
}

#[test]
fn the_callers_deadline_and_priority_stay() {
    let mut w = World::new();
    let child = w.child();
    let (low, high) = (w.thread(child, 5), w.thread(child, 9));
    let (first, second) = (w.actor(), w.actor());
    let (one, call) = w.door(first, low);
    let (two, onward) = w.door(second, first);
    let mut tokens = Vec::new();
    for (client, deadline) in [(low, 50), (high, FOREVER)] {
        let msg = Msg {
            options: option::CALL,
            destination: call,
            receive_deadline: deadline,
            ..Msg::default()
        };
        assert_eq!(w.msg(client, &Letter::new(1, 0), msg), None);
        tokens.push(w.receive(first, one, POLL).unwrap().token);
    }
    for (place, token) in tokens.into_iter().enumerate() {
        let letter = Letter::new(1, place as u64);
        assert_eq!(
            w.forward(first, token, onward, &letter).unwrap().code,
            Ok(())
        );
    }
    // The more important caller is received first, though it was passed on last.
    assert_eq!(w.receive(second, two, POLL).unwrap().words[0], 1);
    w.expire(60);
    assert_eq!(w.result(low).unwrap().code, Err(Kern::ReceiveTimedOut));
    assert_eq!(
        w.receive(second, two, POLL).unwrap().code,
        Err(Kern::ReceiveTimedOut)
    );
}

#[test]
fn without_memory_to_keep_it_a_call_stays_where_it_is() {
    let mut chain = Chain::new();
    let token = chain.called();
    let (second, filler) = (chain.second, chain.w.port(chain.second, 0));
    chain.w.make_send(second, filler);
    chain
        .w
        .trap(second, |kernel, toy| {
            kernel.port_set_attributes(toy, filler, 0, 1024)
        })
        .unwrap();
    chain.w.kernel.freeze(true);
    let full = loop {
        let sent = chain.w.send(second, filler, &Letter::new(1, 0), POLL);
        if let Err(code) = sent.unwrap().code {
            break code;
        }
    };
    assert_eq!(full, Kern::SendNoBuffer);
    let letter = Letter::new(7, 70);
    assert_eq!(chain.forward(token, &letter), Err(Kern::SendNoBuffer));
    // A receiver that waits needs no memory.
    chain.w.receive(second, chain.ports[1], FOREVER);
    assert_eq!(chain.forward(token, &letter), Ok(()));
    let asked = chain.w.result(second).unwrap();
    chain.w.reply(second, asked.token, &Letter::new(1, 6));
    chain.w.kernel.freeze(false);
    assert_eq!(chain.w.result(chain.client).unwrap().words[0], 6);
}
