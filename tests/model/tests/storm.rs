//! Everything at once: tasks that send, call, wait, move, destroy, fault, time out, abort and end each
//! other at random, by name or by guess, on one processor or several. The whole state is checked after each operation and each
//! step; at the end nothing may be left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{FOREVER, POLL, option},
    right::Disposition,
};
use kernel_core::Msg;
use model::{Actor, Child, Letter, Random, World, word};

const DISPOSITIONS: [Disposition; 7] = [
    Disposition::None,
    Disposition::MoveReceive,
    Disposition::MoveSend,
    Disposition::MoveSendOnce,
    Disposition::CopySend,
    Disposition::MakeSend,
    Disposition::MakeSendOnce,
];

#[global_allocator]
static ALLOCATOR: model::failing::Failing = model::failing::Failing;

struct Storm {
    w: World,
    random: Random,
    children: Vec<Child>,
    actors: Vec<Actor>,
    /// Names that each task has seen, by index of its first actor; some are stale.
    names: Vec<(kernel_core::TaskId, Vec<u64>)>,
    tokens: Vec<u64>,
    now: u64,
    /// Whether memory has run out.
    short: bool,
    processors: usize,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let mut storm = Storm {
            w: World::new(),
            random: Random::new(seed),
            children: Vec::new(),
            actors: Vec::new(),
            names: Vec::new(),
            tokens: vec![0],
            now: 1,
            short: false,
            processors: [1, 2, 4][(seed % 3) as usize],
        };
        storm.w.set_processors(storm.processors);
        let root = storm.w.root;
        storm.actors.push(root);
        storm
            .names
            .push((root.task, vec![storm.w.map, storm.w.mail]));
        for _ in 0..4 {
            storm.populate();
        }
        for owner in storm.actors.clone() {
            for user in storm.actors.clone() {
                if owner.task != user.task && owner.task != root.task {
                    let name = storm.name(owner);
                    let name = if name > 0xFFFF { 0 } else { name };
                    if storm
                        .w
                        .trap(owner, |kernel, _| kernel.port_make_send(name))
                        .is_ok()
                    {
                        let key = storm.w.share(owner, name, user);
                        storm.learn(user, key);
                    }
                }
            }
        }
        storm
    }

    /// A new task with some threads and ports.
    fn populate(&mut self) {
        let root = self.w.root;
        for place in 0..2 {
            // A lucky guess may have destroyed them.
            let name = if place == 0 { self.w.map } else { self.w.mail };
            if self
                .w
                .trap(root, |kernel, _| kernel.port_make_send(name))
                .is_err()
            {
                let port = self.w.port(root, 0);
                self.w.make_send(root, port);
                *(if place == 0 {
                    &mut self.w.map
                } else {
                    &mut self.w.mail
                }) = port;
            }
        }
        let child = self.w.child();
        let threads = 1 + self.random.below(3);
        let mut names = Vec::new();
        for _ in 0..threads {
            let actor = self.w.thread(child, 6 + self.random.below(8));
            self.actors.push(actor);
        }
        let last = self.actors[self.actors.len() - 1];
        for _ in 0..2 {
            let port = self.w.port(last, self.random.word());
            self.w.make_send(last, port);
            names.push(port);
        }
        self.children.push(child);
        self.names.push((child.task, names));
    }

    fn learn(&mut self, actor: Actor, name: u64) {
        let task = self.names.iter_mut().find(|(task, _)| *task == actor.task);
        if let Some((_, names)) = task
            && !names.contains(&name)
        {
            names.push(name);
        }
    }

    fn name(&mut self, actor: Actor) -> u64 {
        if self.random.once_in(40) {
            return self.random.word() >> self.random.below(64);
        }
        let task = self.names.iter().find(|(task, _)| *task == actor.task);
        let names = task.map(|(_, names)| &names[..]).unwrap_or_default();
        self.random.pick(names).unwrap_or(0)
    }

    fn letter(&mut self, actor: Actor) -> Letter {
        let mut letter = Letter::new(1, self.random.word());
        if self.random.once_in(4) {
            letter = letter.body(&vec![7; self.random.below(200) as usize]);
        }
        if self.random.once_in(2) {
            for _ in 0..=self.random.below(3) {
                let disposition = self.random.pick(&DISPOSITIONS).unwrap();
                letter = letter.right(self.name(actor), disposition);
            }
        }
        letter
    }

    fn deadline(&mut self) -> u64 {
        match self.random.below(4) {
            0 => FOREVER,
            1 => POLL,
            _ => self.now + self.random.below(30),
        }
    }

    /// Looks at what has come back to an actor.
    fn look(&mut self, actor: Actor) {
        if let Some(result) = self.w.result(actor) {
            if result.token != 0 {
                self.tokens.push(result.token);
            }
            for (value, kind) in result.rights {
                if kind != 0 && kind != 5 {
                    self.learn(actor, value);
                }
            }
        }
    }

    fn token(&mut self) -> u64 {
        let newest = self.tokens.len().saturating_sub(6);
        self.random.pick(&self.tokens[newest..]).unwrap_or(0)
    }

    fn step(&mut self) {
        if self.random.once_in(2) {
            self.look_from_elsewhere();
        }
        let Some(actor) = self.random.pick(&self.actors) else {
            return;
        };
        if !self.w.try_run(actor) {
            self.disturb();
            return;
        }
        self.look(actor);
        let name = self.name(actor);
        let other = self.name(actor);
        let number = self.random.below(4);
        match self.random.below(34) {
            0..=11 => self.message(actor, name, other),
            12 => {
                let made = self.w.trap(actor, |kernel, _| kernel.port_allocate(number));
                self.made(actor, made);
            }
            13 => {
                let made = self.w.trap(actor, |kernel, _| kernel.port_set_allocate());
                self.made(actor, made);
            }
            14 if self.random.once_in(2) => {
                let _ = self
                    .w
                    .trap(actor, |kernel, toy| kernel.port_destroy(toy, name));
            }
            15 => {
                let _ = self.w.deallocate(actor, name, number);
            }
            16 | 17 => {
                let _ = self.w.trap(actor, |kernel, _| kernel.port_make_send(name));
            }
            18 | 19 => {
                let set = if number == 0 { 0 } else { other };
                let _ = self
                    .w
                    .trap(actor, |kernel, toy| kernel.port_move_member(toy, name, set));
            }
            20..=22 => {
                let to = if number == 0 { 0 } else { other };
                let request = self.random.below(4);
                let _ = self.w.trap(actor, |kernel, toy| {
                    kernel
                        .port_request_notification(toy, name, request, to, number & 1)
                        .map(drop)
                });
            }
            23 => {
                let limit = self.random.below(4);
                let _ = self.w.trap(actor, |kernel, toy| {
                    kernel.port_set_attributes(toy, name, number, limit)
                });
            }
            30 => {
                let delta = self.random.below(5).cast_signed() - 2;
                let _ = self.w.trap(actor, |kernel, toy| {
                    kernel.port_mod_refs(toy, 0, name, number % 6, delta.cast_unsigned())
                });
            }
            32 => {
                let _ = self.w.trap(actor, |kernel, toy| {
                    if number == 0 {
                        kernel.port_extract_member(toy, name, other)
                    } else {
                        kernel.port_insert_member(toy, name, other)
                    }
                });
            }
            31 => {
                let disposition = 16 + self.random.below(6);
                let task = self.random.pick(&[0, other, actor.child]).unwrap_or(0);
                let made = self.w.trap(actor, |kernel, toy| {
                    if number & 1 == 0 {
                        kernel.port_extract_right(toy, task, name, disposition)
                    } else {
                        kernel.port_insert_right(toy, task, name, disposition)
                    }
                });
                if let Ok(made) = made {
                    self.learn(actor, word(made));
                }
            }
            24 | 25 if actor.task != self.w.root.task => self.w.fault(actor, number << 12),
            26 => self.w.kernel.thread_yield(),
            27 => {
                if let Ok(name) = self
                    .w
                    .trap(actor, |kernel, _| kernel.task_get_special_port(1 + number))
                {
                    self.learn(actor, word(name));
                }
            }
            _ => self.disturb(),
        }
        self.w.check();
    }

    /// Some processor looks at what is to be done.
    fn look_from_elsewhere(&mut self) {
        let processor = self.random.below(self.processors as u64) as usize;
        self.w.kernel.take_over(processor);
        self.w.kernel.look();
        self.w.settle();
    }

    /// Something was made, unless memory is short.
    fn made(&mut self, actor: Actor, made: Result<ipc_abi::right::Name, Kern>) {
        match made {
            Ok(name) => self.learn(actor, word(name)),
            Err(code) => {
                assert!(self.short);
                assert_eq!(code, Kern::ResourceShortage);
            }
        }
    }

    fn message(&mut self, actor: Actor, name: u64, other: u64) {
        let options = [
            option::SEND,
            option::SEND,
            option::SEND | option::NOTIFY,
            option::SEND | option::RECEIVE,
            option::CALL,
            option::CALL,
            option::RECEIVE,
            option::RECEIVE,
            option::REPLY,
            option::FORWARD,
            option::FORWARD | option::RECEIVE,
            option::REPLY | option::RECEIVE,
            option::REPLY | option::RECEIVE,
        ];
        let options = self.random.pick(&options).unwrap();
        let msg = Msg {
            options,
            destination: if options & (option::REPLY | option::FORWARD) != 0 {
                self.token()
            } else {
                name
            },
            source: other,
            send_deadline: self.deadline(),
            receive_deadline: self.deadline(),
            notify: if self.random.once_in(3) { 0 } else { other },
            ..Msg::default()
        };
        let letter = self.letter(actor);
        if let Some(result) = self.w.msg(actor, &letter, msg) {
            self.w.toy.at(actor.context).result = Some(result);
            self.look(actor);
        }
    }

    /// What happens to tasks from outside.
    fn disturb(&mut self) {
        let root = self.w.root;
        let Some(victim) = self.random.pick(&self.actors) else {
            return;
        };
        match self.random.below(24) {
            0 => self.run_out(!self.short),
            20..=23 if victim.task != root.task && self.w.try_run(root) => self.suspend(victim),
            1..=7 => {
                self.now += self.random.below(20);
                self.w.expire(self.now);
            }
            8..=10 if self.w.try_run(root) => {
                let _ = self
                    .w
                    .trap(root, |kernel, toy| kernel.thread_abort(toy, victim.name));
            }
            11..=14 if self.w.try_run(root) => self.serve(),
            15 if self.w.try_run(root) => {
                let name = self.name(root);
                let _ = self.w.trap(root, |kernel, toy| {
                    kernel.thread_set_exception_port(toy, victim.name, name)
                });
                let _ = self.w.trap(root, |kernel, toy| {
                    kernel.task_set_special_port(toy, victim.child, 4, name)
                });
            }
            16 if self.w.try_run(root) => {
                let control = u64::from(self.w.boot.host_control);
                let band = self.random.below(32);
                let _ = self.w.trap(root, |kernel, _| {
                    kernel.task_set_band(control, victim.child, band)
                });
            }
            17 if victim.task != root.task && self.random.once_in(6) && self.w.try_run(root) => {
                let _ = self.w.trap(root, |kernel, toy| {
                    kernel.thread_terminate(toy, victim.name)
                });
            }
            18 if self.random.once_in(8) && self.w.try_run(root) => {
                let child = self.random.pick(&self.children).unwrap();
                let _ = self.w.terminate(child, self.now);
                self.children.retain(|other| other.task != child.task);
                self.actors.retain(|actor| actor.task != child.task);
                self.names.retain(|(task, _)| *task != child.task);
                self.run_out(false);
                if self.w.try_run(root) && self.w.deallocate(root, child.space, 1).is_ok() {
                    self.populate();
                }
            }
            19 if self.w.try_run(root) => {
                let processor = self.random.below(self.processors as u64 + 1);
                let anywhere = processor == self.processors as u64;
                let processor = if anywhere { u64::MAX } else { processor };
                let _ = self.w.trap(root, |kernel, _| {
                    kernel.thread_set_processor(victim.name, processor)
                });
            }
            _ => {}
        }
    }

    /// A thread or its task is suspended or resumed; more often resumed, and then in a go or two.
    fn suspend(&mut self, victim: Actor) {
        let more = self.random.once_in(8);
        let choice = self.random.below(5);
        let root = self.w.root;
        let _ = self.w.trap(root, |kernel, toy| {
            match choice {
                0 => kernel.thread_suspend(victim.name)?,
                1 => drop(kernel.task_suspend(toy, victim.child, more)?),
                2 | 3 => kernel.thread_resume(victim.name)?,
                _ => drop(kernel.task_resume(victim.child, more)?),
            }
            Ok(())
        });
    }

    fn run_out(&mut self, short: bool) {
        self.short = short;
        self.w.kernel.freeze(short);
        self.w.toy.exhausted = short;
    }

    /// The root answers a fault or two.
    fn serve(&mut self) {
        let root = self.w.root;
        self.look(root);
        let map = if self.random.once_in(4) {
            self.w.mail
        } else {
            self.w.map
        };
        let Some(got) = self.w.receive(root, map, POLL) else {
            return;
        };
        if got.token != 0 {
            let code = if self.random.once_in(3) { 10 } else { 0 };
            let mut letter = Letter::new(200, 0);
            letter.words[0] = code;
            let answered = self.w.reply(root, got.token, &letter).unwrap();
            assert_eq!(answered.code, Ok(()));
        }
    }

    /// Ends everything; nothing may be left but the host ports and the kernel's notice.
    fn end(mut self) {
        self.run_out(false);
        let root = self.w.root;
        for (name, child) in self.children.clone().into_iter().enumerate() {
            if name % 2 == 0 && self.w.try_run(root) {
                let _ = self.w.terminate(child, 0);
            }
        }
        for _ in 0..1000 {
            if self.w.try_run(root) {
                break;
            }
            self.now += 100;
            self.w.expire(self.now);
            // It waits for ever: the others end first, the last of them by themselves.
            for actor in self.actors.clone() {
                if actor.task != root.task && self.w.try_run(actor) {
                    let me = self
                        .w
                        .trap(actor, |kernel, _| kernel.task_get_special_port(1));
                    self.w.run(actor);
                    self.w
                        .kernel
                        .task_terminate(&mut self.w.toy, word(me.unwrap()), 1)
                        .unwrap();
                    self.w.settle();
                }
            }
        }
        if !self.w.try_run(root) {
            return;
        }
        for child in self.children.clone() {
            let _ = self.w.terminate(child, 0);
        }
        let me = self
            .w
            .trap(root, |kernel, _| kernel.task_get_special_port(1));
        self.w.run(root);
        self.w
            .kernel
            .task_terminate(&mut self.w.toy, word(me.unwrap()), 1)
            .unwrap();
        self.w.settle();
        assert_eq!(self.w.kernel.population(), [0, 0, 3, 0, 1]);
        assert!(self.w.toy.threads.iter().all(|thread| thread.freed));
        assert_eq!(self.w.toy.freed_spaces.len() as u32, self.w.toy.spaces + 1);
    }
}

#[test]
fn whatever_tasks_do_to_each_other_the_rules_hold_and_nothing_is_left() {
    let seeds = std::env::var("STORM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let first = std::env::var("STORM_FIRST")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    for seed in first..first + seeds.unwrap_or(40) {
        eprintln!("seed {seed}");
        let mut storm = Storm::new(seed);
        for _ in 0..600 {
            storm.step();
        }
        storm.end();
    }
}

#[test]
fn whichever_allocation_fails_nothing_has_changed_and_nothing_is_lost() {
    let mut failures = 0;
    for seed in 1000..1006 {
        let mut storm = Storm::new(seed);
        storm.w.sweeping = true;
        for _ in 0..300 {
            storm.step();
        }
        storm.w.sweeping = false;
        failures += storm.w.failures;
        storm.end();
    }
    // Each time that a table grows, a message is queued, or something is made.
    assert!(failures > 30, "only {failures} operations failed");
}
