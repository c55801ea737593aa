//! The fast paths decide what the general path decides: two worlds go through one random schedule,
//! one of them by the fast paths wherever these take it, and are the same after every step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    exception::{EXCEPTION, Kind},
    fault::{FAULT, FAULT_REPLY},
    message::{FOREVER, Info, Outcome, POLL, option},
    right::{ArrivedKind, Disposition},
    types::Prot,
};
use kernel_core::{Called, Context, Event, Exchanged, Flow, Given, Handed, Machine, Msg};
use model::{Actor, Letter, Random, World};

const REPLY_RECEIVE: u64 = option::REPLY | option::RECEIVE;
const SEND_RECEIVE: u64 = option::SEND | option::RECEIVE;
const SEND_NOTIFY_RECEIVE: u64 = option::SEND | option::NOTIFY | option::RECEIVE;

/// Which ways took how many.
#[derive(Debug, Default)]
struct Taken {
    quick_calls: u32,
    quick_answers: u32,
    quick_faults: u32,
    quick_fault_answers: u32,
    calls: u32,
    answers: u32,
    fault_answers: u32,
    sends: u32,
    faults: u32,
    exceptions: u32,
    calls_with_right: u32,
    answers_with_right: u32,
    deallocations: u32,
    queued: u32,
    exchanges: u32,
}

impl Taken {
    const fn all(&self) -> [u32; 15] {
        [
            self.quick_calls,
            self.quick_answers,
            self.quick_faults,
            self.quick_fault_answers,
            self.calls,
            self.answers,
            self.fault_answers,
            self.sends,
            self.faults,
            self.exceptions,
            self.calls_with_right,
            self.answers_with_right,
            self.deallocations,
            self.queued,
            self.exchanges,
        ]
    }

    fn sum(&self) -> u32 {
        self.all().iter().sum()
    }
}

/// A world, and whether it goes the fast ways.
struct Runner {
    w: World,
    fast: bool,
    taken: Taken,
    now: u64,
    /// When the timer comes.
    alarm: u64,
}

impl Runner {
    fn new(fast: bool) -> Runner {
        Runner {
            w: World::new(),
            fast,
            taken: Taken::default(),
            now: 0,
            alarm: FOREVER,
        }
    }

    /// Does to a receiver what the shell does.
    fn hand(&mut self, from: Context, handed: Handed, info: Info) {
        let toy = &mut self.w.toy;
        toy.copy_words(from, handed.to);
        if info.body() > 0 {
            toy.copy_body(from, handed.to, info.body());
        }
        self.give(handed, info);
    }

    fn give(&mut self, handed: Handed, info: Info) {
        let Handed {
            to,
            outcome,
            payload,
            token,
            ..
        } = handed;
        self.w.toy.set_message(to, outcome, payload, token, info);
        let to = self.w.kernel.running().unwrap().thread;
        self.w.toy.trace(Event::Message { info, to });
    }

    /// Does to who was answered and who received what the shell does.
    fn exchange(&mut self, from: Context, exchanged: &Exchanged, info: Info) {
        self.hand(from, answered(exchanged.answered), info);
        let toy = &mut self.w.toy;
        toy.copy_words(exchanged.caller, exchanged.server);
        let Exchanged {
            server,
            payload,
            token,
            info,
            ..
        } = *exchanged;
        toy.set_message(server, Outcome(Outcome::SENT), payload, token, info);
        let to = self.w.kernel.running().unwrap().thread;
        toy.trace(Event::Message { info, to });
    }

    /// Sets the timer, as the shell does after whatever went the general way; nothing else wants it
    /// earlier.
    fn set_timer(&mut self, went_fast: bool) {
        let now = self.now;
        let alarm = self.w.kernel.alarm(|| now);
        assert!(!went_fast || alarm >= self.alarm);
        self.alarm = self.alarm.min(alarm);
    }

    /// The fast way of a trap, as the entry code chooses it; says whether there was one.
    fn try_fast(&mut self, me: Actor, msg: &Msg) -> bool {
        let kernel = &mut self.w.kernel;
        let info = Info(msg.info);
        let source = (msg.source, msg.receive_deadline);
        let code = self.w.toy.at(me.context).words[0];
        let right = self.w.toy.at(me.context).rights[0];
        let handed = match msg.options {
            option::CALL | REPLY_RECEIVE if info.rights() > 0 => {
                let (taken, handed) = match msg.options {
                    option::CALL => (
                        &mut self.taken.calls_with_right,
                        kernel.fast_call_right(
                            msg.destination,
                            msg.info,
                            msg.receive_deadline,
                            right,
                        ),
                    ),
                    _ => (
                        &mut self.taken.answers_with_right,
                        kernel
                            .fast_answer_right(msg.destination, source, msg.info, right)
                            .map(|(to, arrived)| (answered(to), arrived)),
                    ),
                };
                *taken += u32::from(handed.is_some());
                handed.map(|(handed, arrived)| {
                    self.w.toy.write_rights(handed.to, &[arrived]);
                    handed
                })
            }
            option::CALL => {
                let (to, deadline) = (msg.destination, msg.receive_deadline);
                let quick = kernel.quick_call(kernel.seat(), to, msg.info, deadline);
                self.taken.quick_calls += u32::from(quick.is_some());
                let may_go_on = |_, turn_end| self.alarm <= turn_end;
                let called = quick.map(Called::Handed).or_else(|| {
                    let called = kernel.fast_call(to, msg.info, deadline, may_go_on);
                    match called? {
                        Called::Handed(_) => self.taken.calls += 1,
                        Called::Queued(_) => self.taken.queued += 1,
                    }
                    called
                });
                match called {
                    Some(Called::Handed(handed)) => Some(handed),
                    Some(Called::Queued(_)) => return true,
                    None => None,
                }
            }
            REPLY_RECEIVE if msg.info == u64::from(FAULT_REPLY) => {
                let seat = kernel.seat();
                let quick = match kernel.quick_raised(seat, msg.destination, source) {
                    Some((answer, _)) if code == 0 => Some(answer.finish(seat)),
                    Some((answer, _)) => {
                        answer.drop_it();
                        None
                    }
                    None => None,
                };
                self.taken.quick_fault_answers += u32::from(quick.is_some());
                let went_on = quick.or_else(|| {
                    let to = kernel.fast_fault_answer(msg.destination, source, code, |_| code == 0);
                    to.inspect(|_| self.taken.fault_answers += 1)
                });
                return went_on.is_some();
            }
            REPLY_RECEIVE => {
                let quick = kernel.quick_answer(kernel.seat(), msg.destination, source, msg.info);
                self.taken.quick_answers += u32::from(quick.is_some());
                let given = quick.map(Given::Answer).or_else(|| {
                    let given = kernel.fast_answer(msg.destination, source, msg.info);
                    match given? {
                        Given::Answer(_) => self.taken.answers += 1,
                        Given::Exchanged(_) => self.taken.exchanges += 1,
                    }
                    given
                });
                match given {
                    Some(Given::Answer(to)) => Some(answered(to)),
                    Some(Given::Exchanged(exchanged)) => {
                        self.exchange(me.context, &exchanged, info);
                        return true;
                    }
                    None => None,
                }
            }
            SEND_RECEIVE | SEND_NOTIFY_RECEIVE => {
                let notify = (msg.options == SEND_NOTIFY_RECEIVE).then_some(msg.notify);
                kernel
                    .fast_send(msg.destination, source, msg.info, notify)
                    .inspect(|_| self.taken.sends += 1)
            }
            _ => None,
        };
        match handed {
            Some(handed) => {
                self.hand(me.context, handed, info);
                true
            }
            None => false,
        }
    }

    fn msg(&mut self, me: Actor, letter: &Letter, msg: Msg) {
        let registers = self.w.toy.at(me.context);
        registers.result = None;
        registers.words = letter.words;
        registers.body[..letter.body.len()].copy_from_slice(&letter.body);
        for (slot, (name, disposition)) in registers.rights.iter_mut().zip(&letter.rights) {
            *slot = (*name, *disposition as u8);
        }
        let info = Info::new(letter.id, letter.body.len(), letter.rights.len());
        let msg = Msg {
            info: info.unwrap().0,
            ..msg
        };
        self.w.kernel.allow_fast(true);
        if !(self.fast && self.try_fast(me, &msg)) {
            while self.w.kernel.msg(&mut self.w.toy, &msg) == Flow::Again {}
        }
        self.w.settle();
    }

    fn fault(&mut self, me: Actor, address: u64) {
        self.w.toy.at(me.context).result = None;
        self.w.kernel.allow_fast(true);
        let ip = self.w.toy.position(me.context).ip;
        let handed = match self.fast {
            true => {
                let kernel = &self.w.kernel;
                let quick = kernel.quick_fault(kernel.seat(), address, Prot::WRITE, ip);
                self.taken.quick_faults += u32::from(quick.is_some());
                quick.or_else(|| self.w.kernel.fast_fault(address, Prot::WRITE, ip))
            }
            false => None,
        };
        match handed {
            Some(handed) => {
                self.taken.faults += 1;
                let words = [address, Prot::WRITE.bits().into(), ip, handed.from, 0, 0];
                self.w.toy.set_words(handed.to, words);
                self.give(handed, Info::short(FAULT).from_kernel());
            }
            None => {
                let raised = self
                    .w
                    .kernel
                    .raise_fault(&mut self.w.toy, address, Prot::WRITE);
                assert_eq!(raised, kernel_core::Raised::Handled);
            }
        }
        self.w.settle();
    }

    fn exception(&mut self, me: Actor) {
        self.w.toy.at(me.context).result = None;
        self.w.kernel.allow_fast(true);
        let position = self.w.toy.position(me.context);
        let codes = (3, 0);
        let handed = match self.fast {
            true => self
                .w
                .kernel
                .fast_exception(Kind::Breakpoint, codes, position),
            false => None,
        };
        match handed {
            Some((handed, exception)) => {
                self.taken.exceptions += 1;
                self.w.toy.set_words(handed.to, exception.to_words());
                self.give(handed, Info::short(EXCEPTION).from_kernel());
            }
            None => {
                let toy = &mut self.w.toy;
                let raised = self.w.kernel.raise_exception(toy, Kind::Breakpoint, 3, 0);
                assert_eq!(raised, kernel_core::Raised::Handled);
            }
        }
        self.w.settle();
    }

    fn deallocate(&mut self, me: Actor, name: u64) {
        self.w.kernel.allow_fast(true);
        if self.fast && self.w.kernel.fast_deallocate(name, 1) {
            self.taken.deallocations += 1;
        } else {
            let _ = self.w.deallocate(me, name, 1);
        }
        self.w.settle();
    }

    fn state(&self) -> String {
        let World { kernel, toy, .. } = &self.w;
        format!("{kernel:?} {:?} {}", toy.threads, toy.handed)
    }
}

/// What a thread gets with the answer to its call.
const fn answered(to: Context) -> Handed {
    Handed {
        to,
        outcome: Outcome(Outcome::SENT),
        payload: 0,
        token: 0,
        from: 0,
    }
}

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
