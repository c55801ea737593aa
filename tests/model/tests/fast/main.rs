//! The fast paths decide what the general path decides: two worlds go through one random schedule,
//! one of them by the fast paths wherever these take it, and are the same after every step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

mod runner;

use ipc_abi::{
    fault::FAULT_REPLY,
    message::{FOREVER, POLL, option},
    right::{ArrivedKind, Disposition},
};
use kernel_core::Msg;
use model::{Actor, Letter, Random, World};
use runner::{REPLY_RECEIVE, Runner, SEND_NOTIFY_RECEIVE, SEND_RECEIVE};

/// Who acts, and the names that it uses.
#[derive(Clone, Copy)]
struct Party {
    actor: Actor,
    /// What it receives from.
    source: u64,
    /// What it sends to.
    targets: [u64; 3],
    /// It answers more than it asks.
    serves: bool,
}

/// A server with a port, one with a port in a set, and clients with send rights to both. All have a
/// port of their own.
fn parties(w: &mut World) -> Vec<Party> {
    let root = w.root;
    let child = w.child();
    let plain = w.thread(child, 12);
    let second = w.thread(child, 9);
    let port = w.port(plain, 0xA);
    let child = w.child();
    let setted = w.thread(child, 11);
    let member = w.port(setted, 0xB);
    let set = w.trap(setted, |kernel, _| kernel.port_set_allocate());
    let set = u64::from(set.unwrap());
    w.trap(setted, |kernel, toy| {
        kernel.port_move_member(toy, member, set)
    })
    .unwrap();
    for (owner, name) in [(plain, port), (setted, member)] {
        w.make_send(owner, name);
    }
    let to_member = w.pass(setted, member, Disposition::CopySend, plain).0;
    let to_port = w.pass(plain, port, Disposition::CopySend, setted).0;
    let mut parties = vec![
        Party {
            actor: root,
            source: w.map,
            targets: [w.mail; 3],
            serves: true,
        },
        Party {
            actor: plain,
            source: port,
            targets: [to_member, port, 7],
            serves: true,
        },
        Party {
            actor: second,
            source: port,
            targets: [to_member, port, 0],
            serves: true,
        },
        Party {
            actor: setted,
            source: set,
            targets: [to_port, member, 1 << 40],
            serves: true,
        },
    ];
    for priority in [5, 7, 14, 14] {
        let child = w.child();
        let actor = w.thread(child, priority);
        // The last right that comes back to it says so.
        let source = w.trap(actor, |kernel, _| {
            kernel.port_allocate_in(priority, 0, [0, 2])
        });
        let source = u64::from(source.unwrap());
        let one = w.pass(plain, port, Disposition::CopySend, actor).0;
        let other = w.pass(setted, member, Disposition::CopySend, actor).0;
        parties.push(Party {
            actor,
            source,
            targets: [one, other, one],
            serves: false,
        });
    }
    // Whatever anybody does wrong goes where faults go.
    w.make_send(root, w.map);
    let map = w.map;
    for actor in parties.iter().skip(1).map(|party| party.actor) {
        w.trap(root, |kernel, toy| {
            kernel.thread_set_exception_port(toy, actor.name, map)
        })
        .unwrap();
    }
    parties
}

/// What an actor does.
#[derive(Clone, Debug)]
enum Act {
    Message(Letter, Msg),
    Fault(u64),
    Yield,
    Pass(u64),
    Abort(u64),
    Suspend(u64, bool),
    Drop(u64),
    Exception,
}

fn choose(
    random: &mut Random,
    party: &Party,
    (tokens, (own, got)): (&[u64], (u64, u64)),
    now: u64,
    victim: Actor,
) -> Act {
    let newest = tokens.len().saturating_sub(3);
    let token = match random.below(3) {
        0 => random.pick(&tokens[newest..]).unwrap_or(0),
        _ => own,
    };
    let target = random.pick(&party.targets).unwrap();
    let deadline = match random.below(6) {
        0 => POLL,
        1..=4 => now + random.below(40),
        _ => FOREVER,
    };
    let mut letter = Letter::new(
        random.pick(&[1, FAULT_REPLY]).unwrap(),
        u64::from(random.once_in(8)) * 9,
    );
    if random.once_in(4) {
        letter = letter.body(&[random.below(256) as u8; 40]);
    }
    let dispositions = [
        (party.source, Disposition::MakeSend),
        (party.source, Disposition::MakeSendOnce),
        (target, Disposition::CopySend),
        (target, Disposition::MoveSend),
        (got, Disposition::MoveSend),
        (got, Disposition::MoveSendOnce),
        (got, Disposition::CopySend),
        (party.source, Disposition::MoveReceive),
    ];
    if random.once_in(2) {
        // What moves away does not come back.
        let rare = random.once_in(400);
        let count = if rare { 8 } else { 7 };
        let right = dispositions[random.below(count) as usize];
        if rare || right != (target, Disposition::MoveSend) && got != target {
            letter = letter.right(right.0, right.1);
        }
    }
    let msg = |options, destination| Msg {
        options,
        destination,
        source: party.source,
        receive_deadline: deadline,
        send_deadline: deadline,
        notify: party.source,
        ..Msg::default()
    };
    match random.below(28) {
        0..=4 if party.serves => Act::Message(letter, msg(REPLY_RECEIVE, token)),
        0..=5 => Act::Message(letter, msg(option::CALL, target)),
        6..=12 => Act::Message(letter, msg(REPLY_RECEIVE, token)),
        13..=16 => Act::Message(letter, msg(option::RECEIVE, 0)),
        17 => Act::Message(letter, msg(SEND_RECEIVE, target)),
        18 => Act::Message(letter, msg(SEND_NOTIFY_RECEIVE, target)),
        19 if random.once_in(2) => Act::Fault(random.below(9) << 12),
        20 => Act::Drop(if party.targets.contains(&got) { 0 } else { got }),
        21 => Act::Yield,
        22 if random.once_in(3) => Act::Abort(victim.name),
        22 if random.once_in(60) => Act::Drop(target),
        23 if random.once_in(4) => Act::Exception,
        23 if random.once_in(3) => Act::Suspend(victim.name, random.once_in(3)),
        24..=26 if !party.targets.contains(&got) => Act::Drop(got),
        _ => Act::Pass(now),
    }
}

/// Words alone: what servers and their clients do.
fn serve_or_call(random: &mut Random, party: &Party, token: u64) -> Act {
    let (options, destination) = match party.serves {
        true => (REPLY_RECEIVE, token),
        false => (option::CALL, random.pick(&party.targets).unwrap()),
    };
    let msg = Msg {
        options,
        destination,
        source: party.source,
        receive_deadline: FOREVER,
        ..Msg::default()
    };
    Act::Message(Letter::new(1, 0), msg)
}

fn carry_out(runner: &mut Runner, party: &Party, act: &Act) {
    let me = party.actor;
    match act {
        Act::Message(letter, msg) => runner.msg(me, letter, *msg),
        Act::Fault(_) | Act::Exception if me.task == runner.w.root.task => {}
        Act::Exception => runner.exception(me),
        Act::Fault(address) => runner.fault(me, *address),
        Act::Yield => runner.w.kernel.thread_yield(),
        Act::Pass(now) => runner.w.expire(*now),
        Act::Abort(name) => {
            let root = runner.w.root;
            if runner.w.try_run(root) {
                let _ = runner
                    .w
                    .trap(root, |kernel, toy| kernel.thread_abort(toy, *name));
            }
        }
        Act::Suspend(name, suspend) => {
            let root = runner.w.root;
            if runner.w.try_run(root) {
                let _ = runner.w.trap(root, |kernel, _| match *suspend {
                    true => kernel.thread_suspend(*name),
                    false => kernel.thread_resume(*name),
                });
            }
        }
        Act::Drop(name) => {
            runner.deallocate(me, *name);
        }
    }
}

/// Whoever runs acts, mostly; sometimes somebody else gets the processor first.
fn next<'a>(random: &mut Random, w: &mut World, cast: &'a [Party]) -> Option<&'a Party> {
    if random.once_in(12) {
        let party = cast.get(random.below(cast.len() as u64) as usize)?;
        w.try_run(party.actor);
    }
    let running = w.kernel.running()?.thread;
    cast.iter().find(|party| party.actor.thread == running)
}

#[test]
fn whatever_a_fast_path_takes_the_general_path_decides_equally() {
    let (mut counts, mut homes) = ([0; 15], 0);
    for seed in 1..=80 {
        let mut random = Random::new(seed);
        let (mut fast, mut general) = (Runner::new(true), Runner::new(false));
        let cast = parties(&mut fast.w);
        parties(&mut general.w);
        let (mut tokens, mut now, mut quiet) = (vec![0], 1, 0);
        // The last token and the last right that each of them got.
        let mut arrived = vec![(0, 0); cast.len()];
        for step in 0..800 {
            now += random.below(3);
            let Some(&party) = next(&mut random, &mut fast.w, &cast) else {
                // Everybody waits: time passes, and in the end there is nobody left.
                now += 20;
                quiet += 1;
                if quiet > 10 {
                    break;
                }
                for runner in [&mut fast, &mut general] {
                    runner.w.expire(now);
                    (runner.now, runner.alarm) = (now, FOREVER);
                    runner.set_timer(false);
                }
                continue;
            };
            quiet = 0;
            general.w.try_run(party.actor);
            assert!(
                general.w.is_running(party.actor),
                "seed {seed}, step {step}"
            );
            let victim = random.pick(&cast).unwrap().actor;
            let place = cast
                .iter()
                .position(|other| other.actor.thread == party.actor.thread);
            let place = place.unwrap();
            let got = arrived[place];
            // In every fourth schedule there is little else than calls and answers of words alone, which queue up.
            let act = match seed % 4 == 0 && !random.once_in(4) {
                true => serve_or_call(&mut random, &party, got.0),
                false => choose(&mut random, &party, (&tokens, got), now, victim),
            };
            let before = fast.taken.sum();
            carry_out(&mut fast, &party, &act);
            carry_out(&mut general, &party, &act);
            for runner in [&mut fast, &mut general] {
                if let Act::Pass(_) = act {
                    runner.alarm = FOREVER;
                }
                runner.now = now;
                runner.set_timer(runner.fast && runner.taken.sum() != before);
            }
            if fast.taken.sum() != before && fast.state() != general.state() {
                panic!("seed {seed}, step {step}: {act:?} ends differently");
            }
            for (party, (own, right)) in cast.iter().zip(&mut arrived) {
                let (one, other) = (fast.w.result(party.actor), general.w.result(party.actor));
                assert_eq!(one, other);
                let rights = one.iter().flat_map(|got| &got.rights);
                homes += rights
                    .filter(|(_, kind)| *kind == ArrivedKind::OwnLast as u8)
                    .count();
                if let Some((name, kind)) = one.as_ref().and_then(|got| got.rights.first())
                    && [ArrivedKind::Send as u8, ArrivedKind::SendOnce as u8].contains(kind)
                {
                    *right = *name;
                }
                if let Some(got) = one.as_ref().filter(|got| got.token != 0) {
                    *own = got.token;
                }
                tokens.extend(
                    one.as_ref()
                        .map(|got| got.token)
                        .filter(|token| *token != 0),
                );
            }
        }
        for (sum, taken) in counts.iter_mut().zip(fast.taken.all()) {
            *sum += taken;
        }
    }
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
    assert!(homes > 0);
}

#[test]
fn a_name_of_a_dead_port_goes_the_fast_way_and_the_last_one_takes_the_port_along() {
    let mut runners = [Runner::new(true), Runner::new(false)];
    for runner in &mut runners {
        let (a, b, c) = (runner.w.actor(), runner.w.actor(), runner.w.actor());
        let port = runner.w.port(a, 1);
        let one = runner.w.pass(a, port, Disposition::MakeSend, b).0;
        let other = runner.w.pass(a, port, Disposition::MakeSend, c).0;
        runner.w.destroy(a, port);
        for (actor, name) in [(b, one), (c, other)] {
            runner.w.run(actor);
            runner.deallocate(actor, name);
        }
        // A thread's control port, dead with it, is a port like others.
        let child = runner.w.child();
        let thread = runner.w.thread(child, 3);
        let root = runner.w.root;
        runner
            .w
            .trap(root, |kernel, toy| {
                kernel.thread_terminate(toy, thread.name)
            })
            .unwrap();
        runner.w.run(root);
        runner.deallocate(root, thread.name);
    }
    let [fast, general] = &runners;
    assert_eq!(fast.taken.deallocations, 3);
    assert_eq!(fast.state(), general.state());
}

#[test]
fn the_last_right_that_comes_home_with_a_call_says_so_the_fast_way_too() {
    let mut runners = [Runner::new(true), Runner::new(false)];
    for runner in &mut runners {
        let b = runner.w.actor();
        // More important than whoever else could go on.
        let child = runner.w.child();
        let a = runner.w.thread(child, 15);
        let made = runner
            .w
            .trap(a, |kernel, _| kernel.port_allocate_in(7, 0, [0, 2]));
        let port = u64::from(made.unwrap());
        let (door, key) = runner.w.door(a, b);
        let receive = Msg {
            options: option::RECEIVE,
            source: door,
            receive_deadline: FOREVER,
            ..Msg::default()
        };
        let call = Msg {
            options: option::CALL,
            destination: key,
            receive_deadline: FOREVER,
            ..Msg::default()
        };
        let right = runner.w.pass(a, port, Disposition::MakeSend, b).0;
        runner.w.run(a);
        runner.msg(a, &Letter::new(0, 0), receive);
        runner.w.run(b);
        let letter = Letter::new(1, 0).right(right, Disposition::MoveSend);
        runner.msg(b, &letter, call);
        let got = runner.w.result(a).unwrap();
        assert_eq!(got.rights, [(7, ArrivedKind::OwnLast as u8)]);
    }
    let [fast, general] = &runners;
    assert_eq!(fast.taken.calls_with_right, 1);
    assert_eq!(fast.state(), general.state());
}

#[test]
fn calls_and_answers_are_quick_wherever_a_place_is_free_for_who_waits() {
    // The first answer goes another way, on which the server remembers what its names denote.
    for (servers, rounds, quick) in [(1, 3, 2), (2, 3, 2), (4, 3, 2), (7, 3, 2)] {
        let mut runners = [Runner::new(true), Runner::new(false)];
        for runner in &mut runners {
            // More important than whoever else could go on.
            let child = runner.w.child();
            let client = runner.w.thread(child, 14);
            let child = runner.w.child();
            let waiting: Vec<Actor> = (0..servers).map(|_| runner.w.thread(child, 15)).collect();
            let (door, key) = runner.w.door(waiting[0], client);
            let receive = Msg {
                source: door,
                receive_deadline: FOREVER,
                ..Msg::default()
            };
            for server in &waiting {
                let options = option::RECEIVE;
                runner.w.run(*server);
                runner.msg(*server, &Letter::new(0, 0), Msg { options, ..receive });
            }
            for _ in 0..rounds {
                let call = Msg {
                    options: option::CALL,
                    destination: key,
                    receive_deadline: FOREVER,
                    ..Msg::default()
                };
                runner.w.run(client);
                runner.msg(client, &Letter::new(1, 0), call);
                let is_running = |server: &&Actor| runner.w.is_running(**server);
                let server = *waiting.iter().find(is_running).unwrap();
                let answer = Msg {
                    options: REPLY_RECEIVE,
                    destination: runner.w.result(server).unwrap().token,
                    ..receive
                };
                runner.msg(server, &Letter::new(2, 0), answer);
            }
        }
        let [fast, general] = &runners;
        assert_eq!(fast.taken.quick_answers, quick, "{servers} wait");
        assert_eq!(fast.state(), general.state());
    }
}
