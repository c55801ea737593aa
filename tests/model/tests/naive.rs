//! The kernel against the naive model: the same operations, the same codes, the same messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{POLL, option},
    notify::Request,
    port::RightKind,
    right::Disposition,
};
use kernel_core::Msg;
use model::{
    Actor, Child, Letter, Random, World,
    naive::{Doing, Held, Item, Naive, PortNumber, Right, Wanted},
    word,
};

struct Match {
    w: World,
    naive: Naive,
    random: Random,
    children: Vec<Option<Child>>,
    actors: Vec<Actor>,
    tokens: Vec<u64>,
    /// Whether memory has run out: then an operation may fail, and must not have done anything.
    short: bool,
}

impl Match {
    /// Four tasks of two threads; each task has a port that all others can send to.
    fn new(seed: u64) -> Match {
        let mut game = Match {
            w: World::new(),
            naive: Naive::default(),
            random: Random::new(seed),
            children: Vec::new(),
            actors: Vec::new(),
            tokens: vec![0, 1],
            short: false,
        };
        for task in 0..4 {
            let child = game.w.child();
            game.children.push(Some(child));
            game.naive.tasks.push(Default::default());
            for _ in 0..2 {
                game.actors.push(game.w.thread(child, 10));
                game.naive.threads.push(model::naive::Thread {
                    task,
                    doing: Doing::Free,
                    code: None,
                });
            }
        }
        for task in 0..4 {
            let owner = game.actors[2 * task];
            let payload = game.random.word();
            let name = game.w.port(owner, payload);
            game.w.make_send(owner, name);
            game.naive.allocate(task, name, payload);
            game.naive.make_send(task, name).unwrap();
            let port = game.naive.tasks[task][&name].port;
            for user in (0..4).filter(|user| *user != task) {
                let key = game.w.share(owner, name, game.actors[2 * user]);
                let held = model::naive::Held::new(port, model::naive::Right::Send(port));
                game.naive.tasks[user].insert(key, held);
            }
        }
        game
    }

    fn name(&mut self, task: usize) -> u64 {
        let names: Vec<u64> = self.naive.tasks[task].keys().copied().collect();
        match self.random.below(30) {
            0 => self.random.word(),
            1 => names.last().map_or(0, |name| name.wrapping_add(1)),
            _ => self.random.pick(&names).unwrap_or(0),
        }
    }

    fn rights(&mut self, task: usize) -> Vec<(u64, Disposition)> {
        if self.random.once_in(2) {
            return Vec::new();
        }
        let count = 1 + self.random.below(3);
        let mut rights = Vec::new();
        for _ in 0..count {
            let name = self.name(task);
            let held = self.naive.tasks[task].get(&name).copied();
            // Mostly what can work, sometimes what cannot.
            let disposition = match (held, self.random.below(8)) {
                (_, 0) => Disposition::MoveReceive,
                (_, 1) => Disposition::MoveSendOnce,
                (_, 2) => Disposition::None,
                (Some(held), _) if held.once => Disposition::MoveSendOnce,
                (Some(held), 3) if held.receive => Disposition::MoveReceive,
                (Some(held), 4 | 5) if held.receive => Disposition::MakeSend,
                (Some(held), _) if held.receive => Disposition::MakeSendOnce,
                (_, 3 | 4) => Disposition::MoveSend,
                _ => Disposition::CopySend,
            };
            rights.push((name, disposition));
        }
        rights
    }

    fn letter(value: u64, rights: &[(u64, Disposition)]) -> Letter {
        Letter {
            rights: rights.to_vec(),
            ..Letter::new(5, value)
        }
    }

    fn step(&mut self) {
        let thread = self.random.below(self.actors.len() as u64) as usize;
        let state = self.naive.threads[thread].clone();
        let (actor, task) = (self.actors[thread], state.task);
        match state.doing {
            Doing::Gone => return,
            Doing::Calling(_) | Doing::Awaiting(..) => {
                assert!(!self.w.try_run(actor), "it should wait");
                if self.random.once_in(8) {
                    self.abort(thread);
                }
                return;
            }
            Doing::Free => {}
        }
        assert!(self.w.try_run(actor), "it should be ready");
        let name = self.name(task);
        match self.random.below(43) {
            0..=2 => {
                let payload = self.random.word();
                let made = self
                    .w
                    .trap(actor, |kernel, _| kernel.port_allocate(payload));
                if let Ok(made) = made {
                    self.naive.allocate(task, word(made), payload);
                }
                assert!(made.is_ok() || self.ran_out(made.err()));
            }
            3..=5 => {
                let real = self.w.trap(actor, |kernel, _| kernel.port_make_send(name));
                assert_eq!(real, self.naive.make_send(task, name));
            }
            6..=8 => {
                let count = self.random.below(4);
                let real = self.w.deallocate(actor, name, count);
                assert_eq!(real, self.naive.deallocate(task, name, count));
            }
            9 => {
                let real = self
                    .w
                    .trap(actor, |kernel, toy| kernel.port_destroy(toy, name));
                assert_eq!(real, self.naive.destroy(task, name));
            }
            40 => self.mod_refs(actor, task, name),
            41 => self.insert(actor, task, name),
            42 => {
                let real = self.w.trap(actor, |kernel, _| kernel.port_type(0, name));
                let expected = self.naive.kinds(task, name);
                assert_eq!(real, expected.map(|kinds| u64::from(kinds.bits())));
            }
            10..=13 => self.request(actor, task, name),
            14..=20 => self.send(actor, task, name),
            21..=25 => self.call(thread, name),
            26..=33 => self.receive(actor, task, name),
            34..=37 => self.reply(actor, task),
            38 => self.forward(actor, task, name),
            _ if self.random.once_in(12) => self.terminate(task),
            _ if self.random.once_in(3) => self.run_out(!self.short),
            _ => {}
        }
    }

    /// Whether a failure is one that a lack of memory explains.
    fn ran_out(&self, code: Option<Kern>) -> bool {
        self.short && matches!(code, Some(Kern::ResourceShortage | Kern::SendNoBuffer))
    }

    fn run_out(&mut self, short: bool) {
        self.short = short;
        self.w.kernel.freeze(short);
    }

    fn mod_refs(&mut self, actor: Actor, task: usize, name: u64) {
        let kind = self.random.pick(&RightKind::ALL).unwrap();
        if kind == RightKind::PortSet {
            return;
        }
        let delta = self.random.below(6).cast_signed() - 3;
        let real = self.w.trap(actor, |kernel, toy| {
            kernel.port_mod_refs(toy, 0, name, kind as u64, delta.cast_unsigned())
        });
        assert_eq!(real, self.naive.mod_refs(task, name, kind, delta));
    }

    fn insert(&mut self, actor: Actor, task: usize, name: u64) {
        let (_, disposition) = self
            .rights(task)
            .pop()
            .unwrap_or((0, Disposition::CopySend));
        let real = self.w.trap(actor, |kernel, toy| {
            kernel.port_insert_right(toy, 0, name, disposition as u64)
        });
        let before = self.naive.clone();
        let expected = if disposition == Disposition::None {
            Err(Kern::InvalidValue)
        } else {
            self.naive.insert(task, name, disposition)
        };
        match (real, expected) {
            (Ok(given), Ok(right @ Right::Once(port))) => {
                let held = Held::new(port, right);
                let earlier = self.naive.tasks[task].insert(word(given), held);
                assert_eq!(earlier, None, "the name was taken");
            }
            (Ok(given), Ok(_)) => assert_eq!(word(given), name),
            (Err(code), Ok(_)) if self.ran_out(Some(code)) => self.naive = before,
            (real, expected) => assert_eq!(real.err(), expected.err()),
        }
    }

    fn request(&mut self, actor: Actor, task: usize, name: u64) {
        let to = if self.random.once_in(5) {
            0
        } else {
            self.name(task)
        };
        let requests = [
            Request::DeadName,
            Request::NoSenders,
            Request::PortDestroyed,
            Request::SendPossible,
        ];
        let request = self.random.pick(&requests).unwrap();
        let sync = self.random.below(3);
        let real = self.w.trap(actor, |kernel, toy| {
            kernel.port_request_notification(toy, name, request as u64, to, sync)
        });
        let before = self.naive.clone();
        let expected = self.naive.request(task, name, request, to, sync);
        match (real, expected) {
            (Ok(previous), Ok(None)) => assert_eq!(previous, 0),
            (Ok(previous), Ok(Some(port))) => {
                let own = self.naive.tasks[task].iter();
                let mut own = own.filter(|(_, held)| held.port == port && held.receive);
                match own.next() {
                    Some((name, _)) => assert_eq!(word(previous), *name),
                    None => {
                        let held = Held::new(port, Right::Once(port));
                        let earlier = self.naive.tasks[task].insert(word(previous), held);
                        assert_eq!(earlier, None, "the name was taken");
                    }
                }
            }
            (Err(code), Ok(_)) if self.ran_out(Some(code)) => self.naive = before,
            (real, expected) => assert_eq!(real.err(), expected.err()),
        }
    }

    fn send(&mut self, actor: Actor, task: usize, name: u64) {
        let (rights, value) = (self.rights(task), self.random.word());
        let letter = Match::letter(value, &rights);
        let wanted = match self.random.below(4) {
            0 => Wanted::AsAsked,
            1 => Wanted::At(self.name(task)),
            _ => Wanted::Nothing,
        };
        let (options, notify) = match wanted {
            Wanted::Nothing => (option::SEND, 0),
            Wanted::AsAsked | Wanted::At(0) => (option::SEND | option::NOTIFY, 0),
            Wanted::At(name) => (option::SEND | option::NOTIFY, name),
        };
        let wanted = if wanted == Wanted::At(0) {
            Wanted::AsAsked
        } else {
            wanted
        };
        let msg = Msg {
            options,
            destination: name,
            notify,
            ..Msg::default()
        };
        let real = self.w.msg(actor, &letter, msg).unwrap();
        let before = self.naive.clone();
        let expected = self.naive.send(task, name, value, &rights, None, wanted);
        if real.code != expected && self.ran_out(real.code.err()) {
            self.naive = before;
            return;
        }
        assert_eq!(real.code, expected, "{rights:?}");
    }

    fn call(&mut self, thread: usize, name: u64) {
        let task = self.naive.threads[thread].task;
        let (rights, value) = (self.rights(task), self.random.word());
        let letter = Match::letter(value, &rights);
        let real = self.w.call(self.actors[thread], name, &letter);
        let before = self.naive.clone();
        let expected = self
            .naive
            .send(task, name, value, &rights, Some(thread), Wanted::Nothing);
        let code = real.as_ref().and_then(|real| real.code.err());
        if self.ran_out(code) {
            self.naive = before;
            return;
        }
        assert_eq!(real.map(|real| real.code), expected.err().map(Err));
    }

    fn receive(&mut self, actor: Actor, task: usize, name: u64) {
        let real = self.w.receive(actor, name, POLL).unwrap();
        let held = self.naive.tasks[task].get(&name);
        let Some(port) = held.filter(|held| held.receive).map(|held| held.port) else {
            assert_eq!(real.code, Err(Kern::ReceiveInvalidName));
            return;
        };
        let record = &mut self.naive.ports[port];
        if real.code == Err(Kern::ReceiveTimedOut) {
            assert!(
                record.items.is_empty(),
                "{:?} was not received",
                record.items
            );
            assert!(record.notices.is_empty(), "{:?} was lost", record.notices);
            return;
        }
        if self.short && real.code == Err(Kern::ReceiveNoSpace) {
            let first = record.items.front();
            let carries = first.is_some_and(|first| first.rights.iter().any(Option::is_some));
            assert!(carries || record.notices.iter().any(|(.., right)| right.is_some()));
            return;
        }
        assert_eq!((real.code, real.payload), (Ok(()), record.payload));
        if real.info.is_kernel() {
            let told = (real.info.id(), real.words[0]);
            let place = record.notices.iter().position(|(id, word, right)| {
                (*id, *word) == told && usize::from(right.is_some()) == real.info.rights()
            });
            let place = place.expect("nobody was to be told that");
            let (.., right) = record.notices.remove(place);
            if right.is_some() {
                self.naive.arrive(task, &[right], &real.rights);
            }
            return;
        }
        let item = record.items.pop_front().expect("nothing was sent");
        self.took(task, port, item, &real);
    }

    fn took(&mut self, task: usize, port: PortNumber, item: Item, real: &model::Received) {
        assert_eq!((real.info.id(), real.words[0]), (5, item.word));
        assert_eq!(real.token != 0, item.caller.is_some());
        if let Some(caller) = item.caller {
            assert!(!self.tokens.contains(&real.token), "a token comes twice");
            self.tokens.push(real.token);
            self.naive.threads[caller].doing = Doing::Awaiting(task, port, real.token);
        }
        self.naive.arrive(task, &item.rights, &real.rights);
    }

    fn reply(&mut self, actor: Actor, task: usize) {
        let newest = self.tokens.len().saturating_sub(8);
        let token = self.random.pick(&self.tokens[newest..]).unwrap();
        let (rights, value) = (self.rights(task), self.random.word());
        let real = self
            .w
            .reply(actor, token, &Match::letter(value, &rights))
            .unwrap();
        let waits = |thread: &model::naive::Thread| {
            matches!(thread.doing, Doing::Awaiting(server, _, number)
                if server == task && number == token)
        };
        let Some(caller) = self.naive.threads.iter().position(waits) else {
            assert_eq!(real.code, Err(Kern::SendInvalidReply));
            return;
        };
        let before = self.naive.clone();
        match self.naive.capture(task, &rights, None, None) {
            Err(code) => {
                self.naive = before;
                assert_eq!(real.code, Err(code));
            }
            Ok(moved) => {
                assert_eq!(real.code, Ok(()));
                self.naive.threads[caller].doing = Doing::Free;
                let answer = self.w.result(self.actors[caller]).expect("no answer came");
                assert_eq!(answer.words[0], value);
                if self.short && answer.code == Err(Kern::ReceiveNoSpace) {
                    self.naive.lose(moved);
                    return;
                }
                assert_eq!(answer.code, Ok(()));
                let home = self.naive.threads[caller].task;
                self.naive.arrive(home, &moved, &answer.rights);
            }
        }
    }

    fn forward(&mut self, actor: Actor, task: usize, name: u64) {
        let newest = self.tokens.len().saturating_sub(8);
        let token = self.random.pick(&self.tokens[newest..]).unwrap();
        let (rights, value) = (self.rights(task), self.random.word());
        let letter = Match::letter(value, &rights);
        let real = self.w.forward(actor, token, name, &letter).unwrap();
        let waits = |thread: &model::naive::Thread| {
            matches!(thread.doing, Doing::Awaiting(server, _, number)
                if server == task && number == token)
        };
        let Some(caller) = self.naive.threads.iter().position(waits) else {
            assert_eq!(real.code, Err(Kern::SendInvalidReply));
            return;
        };
        let before = self.naive.clone();
        let sent = self
            .naive
            .send(task, name, value, &rights, Some(caller), Wanted::Nothing);
        if real.code != sent && self.ran_out(real.code.err()) {
            self.naive = before;
            return;
        }
        assert_eq!(real.code, sent);
    }

    fn abort(&mut self, thread: usize) {
        let (root, name) = (self.w.root, self.actors[thread].name);
        self.w
            .trap(root, |kernel, toy| kernel.thread_abort(toy, name))
            .unwrap();
        assert!(self.naive.abort(thread, Kern::ReceiveInterrupted));
    }

    fn terminate(&mut self, task: usize) {
        if let Some(child) = self.children[task].take() {
            self.w.terminate(child, 1).unwrap();
            self.naive.terminate(task);
        }
    }

    /// Threads whose traps ended while others acted have the codes that the model says, and no others.
    fn compare_codes(&mut self) {
        self.naive.tell_possible();
        for (thread, actor) in self.naive.threads.iter_mut().zip(&self.actors) {
            let expected = thread.code.take();
            if thread.doing != Doing::Gone {
                let real = self.w.result(*actor).map(|result| result.code);
                assert_eq!(real, expected.map(Err), "{thread:?}");
            }
        }
    }

    /// Everything that the model says is there can be received, and nothing else; then all ends.
    fn end(mut self) {
        self.run_out(false);
        for task in 0..4 {
            for thread in [2 * task, 2 * task + 1] {
                while self.naive.threads[thread].doing == Doing::Free {
                    let held = self.naive.tasks[task].iter().find(|(_, held)| {
                        let port = &self.naive.ports[held.port];
                        held.receive && !(port.items.is_empty() && port.notices.is_empty())
                    });
                    let Some(name) = held.map(|(name, _)| *name) else {
                        break;
                    };
                    assert!(self.w.try_run(self.actors[thread]));
                    self.receive(self.actors[thread], task, name);
                    self.naive.tell_possible();
                }
            }
        }
        for task in 0..4 {
            self.terminate(task);
            self.compare_codes();
        }
        let root = self.w.root;
        let me = self
            .w
            .trap(root, |kernel, _| kernel.task_get_special_port(1));
        self.w.run(root);
        let me = word(me.unwrap());
        self.w
            .kernel
            .task_terminate(&mut self.w.toy, me, 1)
            .unwrap();
        self.w.settle();
        assert_eq!(self.w.kernel.population(), [0, 0, 3, 0, 1]);
    }
}

#[test]
fn ports_rights_calls_and_notices_do_what_the_naive_model_says() {
    let number = |name: &str, default| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("NAIVE_FIRST", 1);
    for seed in first..first + number("NAIVE_SEEDS", 40) {
        eprintln!("seed {seed}");
        let mut game = Match::new(seed);
        for _ in 0..700 {
            game.step();
            game.compare_codes();
        }
        game.end();
    }
}
