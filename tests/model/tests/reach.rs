//! Tasks without threads: they live as long as somebody can reach them, and no longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    message::POLL,
    right::{Disposition, SpecialPort},
};
use kernel_core::Progress;
use model::{Child, Letter, Random, START, World, word};

/// How a task comes to hold a right.
#[derive(Clone, Copy, Debug)]
enum Way {
    Name,
    Special,
    Exception,
    /// In the queue of a port of its own.
    Queue,
    /// In the queue of a port that lies in such a queue.
    Nested,
}

const WAYS: [Way; 5] = [
    Way::Name,
    Way::Special,
    Way::Exception,
    Way::Queue,
    Way::Nested,
];

/// The root gives a task a copy of the right that it has to another. Nothing is stepped.
fn give(w: &mut World, holder: u64, held: u64, way: Way) {
    w.run(w.root);
    let (kernel, toy) = (&mut w.kernel, &mut w.toy);
    match way {
        Way::Name => {
            let copy = Disposition::CopySend as u64;
            kernel.port_insert_right(toy, holder, held, copy).unwrap();
        }
        Way::Special => {
            let index = SpecialPort::Device as u64;
            kernel
                .task_set_special_port(toy, holder, index, held)
                .unwrap();
        }
        Way::Exception => kernel
            .exception_ports_set(toy, [holder, 0b110, 0, held])
            .unwrap(),
        Way::Queue | Way::Nested => {
            let port = word(kernel.port_allocate(0).unwrap());
            kernel.port_make_send(port).unwrap();
            let letter = Letter::new(1, 0).right(held, Disposition::CopySend);
            assert_eq!(w.send(w.root, port, &letter, POLL).unwrap().code, Ok(()));
            let mut outer = port;
            if matches!(way, Way::Nested) {
                outer = w.port(w.root, 0);
                w.make_send(w.root, outer);
                let letter = Letter::new(1, 0).right(port, Disposition::MoveReceive);
                assert_eq!(w.send(w.root, outer, &letter, POLL).unwrap().code, Ok(()));
                w.deallocate(w.root, port, 1).unwrap();
            }
            w.run(w.root);
            let moved = Disposition::MoveReceive as u64;
            let (kernel, toy) = (&mut w.kernel, &mut w.toy);
            kernel.port_insert_right(toy, holder, outer, moved).unwrap();
            kernel.port_deallocate(toy, outer, 1).unwrap();
        }
    }
}

fn drop_right(w: &mut World, name: u64) {
    w.run(w.root);
    w.kernel.port_deallocate(&mut w.toy, name, 1).unwrap();
}

fn tasks(w: &World) -> u32 {
    let [tasks, ..] = w.kernel.population();
    tasks
}

#[test]
fn a_task_that_only_itself_has_a_right_to_ends() {
    for way in WAYS {
        let mut w = World::new();
        let child = w.child();
        give(&mut w, child.name, child.name, way);
        w.settle();
        assert_eq!(tasks(&w), 2, "{way:?}");
        drop_right(&mut w, child.name);
        w.settle();
        assert_eq!(tasks(&w), 1, "{way:?}");
    }
}

#[test]
fn tasks_that_only_have_rights_to_each_other_end_together() {
    for way in WAYS {
        let mut w = World::new();
        // Each check takes time in proportion to all.
        w.checking = false;
        let ring: Vec<Child> = (0..70).map(|_| w.child()).collect();
        for (index, holder) in ring.iter().enumerate() {
            let next = ring[(index + 1) % ring.len()];
            give(&mut w, holder.name, next.name, way);
        }
        let (last, others) = ring.split_last().unwrap();
        for child in others {
            drop_right(&mut w, child.name);
        }
        w.settle();
        assert_eq!(tasks(&w), 71, "one right reaches all: {way:?}");
        drop_right(&mut w, last.name);
        w.settle();
        assert_eq!(tasks(&w), 1, "{way:?}");
        w.checking = true;
        w.check();
    }
}

#[test]
fn what_a_task_that_can_be_reached_holds_stays() {
    for way in WAYS {
        let mut w = World::new();
        let (a, b, c) = (w.child(), w.child(), w.child());
        give(&mut w, a.name, b.name, way);
        give(&mut w, b.name, c.name, way);
        give(&mut w, c.name, b.name, way);
        drop_right(&mut w, c.name);
        drop_right(&mut w, b.name);
        w.settle();
        assert_eq!(tasks(&w), 4, "{way:?}");
        drop_right(&mut w, a.name);
        w.settle();
        assert_eq!(tasks(&w), 1, "{way:?}");
    }
}

#[test]
fn a_task_whose_last_thread_ends_holds_what_it_held_no_longer() {
    let mut w = World::new();
    let (a, b) = (w.child(), w.child());
    let thread = w.thread(a, 10);
    for way in WAYS {
        give(&mut w, a.name, b.name, way);
        give(&mut w, b.name, a.name, way);
    }
    drop_right(&mut w, a.name);
    drop_right(&mut w, b.name);
    w.settle();
    assert_eq!(tasks(&w), 3, "its thread can act");
    w.trap(w.root, |kernel, toy| {
        kernel.thread_terminate(toy, thread.name)
    })
    .unwrap();
    assert_eq!(tasks(&w), 1);
}

/// How the last right to a task gets out of reach.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    Inserted,
    Sent,
    /// In the queue of a port that is sent.
    SentInQueue,
}

#[test]
fn the_last_right_to_a_task_may_move_to_where_only_that_task_could_take_it() {
    let moved = Disposition::MoveReceive;
    for way in [Farewell::Inserted, Farewell::Sent, Farewell::SentInQueue] {
        let mut w = World::new();
        let (root, a) = (w.root, w.child());
        let [port, other] = [(); 2].map(|()| {
            let port = w.port(root, 0);
            w.make_send(root, port);
            port
        });
        w.trap(root, |kernel, toy| {
            kernel.port_insert_right(toy, a.name, port, moved as u64)
        })
        .unwrap();
        let letter = Letter::new(1, 0).right(a.name, Disposition::MoveSend);
        match way {
            Farewell::Inserted => {
                w.trap(root, |kernel, toy| {
                    let moved = Disposition::MoveSend as u64;
                    kernel.port_insert_right(toy, a.name, a.name, moved)
                })
                .unwrap();
            }
            Farewell::Sent => assert_eq!(w.send(root, port, &letter, POLL).unwrap().code, Ok(())),
            Farewell::SentInQueue => {
                assert_eq!(w.send(root, other, &letter, POLL).unwrap().code, Ok(()));
                assert_eq!(tasks(&w), 2, "it can be received");
                let letter = Letter::new(1, 0).right(other, moved);
                assert_eq!(w.send(root, port, &letter, POLL).unwrap().code, Ok(()));
            }
        }
        assert_eq!(tasks(&w), 1, "{way:?}");
    }
}

/// At whatever step of a search.
#[test]
fn a_task_that_gets_a_thread_in_the_middle_of_a_search_stays() {
    for steps in 0..8 {
        let mut w = World::new();
        let (a, b) = (w.child(), w.child());
        give(&mut w, a.name, b.name, Way::Name);
        drop_right(&mut w, b.name);
        for _ in 0..steps {
            let _ = w.kernel.step(&mut w.toy);
        }
        let thread = w.kernel.thread_create(&mut w.toy, a.name, START).unwrap();
        drop_right(&mut w, a.name);
        w.settle();
        assert_eq!(tasks(&w), 3, "after {steps} steps");
        w.trap(w.root, |kernel, toy| {
            kernel.thread_terminate(toy, word(thread))
        })
        .unwrap();
        assert_eq!(tasks(&w), 1);
    }
}

/// At whatever step of a search: who takes a right out of a task, and then lets go of that task, has saved
/// what it took.
#[test]
fn a_right_that_is_taken_out_of_a_task_in_the_middle_of_a_search_counts() {
    for (before, between) in (0..8).flat_map(|before| (0..8).map(move |between| (before, between)))
    {
        let mut w = World::new();
        let (a, b) = (w.child(), w.child());
        w.run(w.root);
        let moved = Disposition::MoveSend as u64;
        let (kernel, toy) = (&mut w.kernel, &mut w.toy);
        let name = kernel.port_insert_right(toy, a.name, b.name, moved);
        for _ in 0..before {
            let _ = kernel.step(toy);
        }
        let name = kernel.port_extract_right(toy, a.name, word(name.unwrap()), moved);
        for _ in 0..between {
            let _ = kernel.step(toy);
        }
        kernel.port_deallocate(toy, a.name, 1).unwrap();
        w.settle();
        assert_eq!(tasks(&w), 2, "{before} steps, then {between}");
        drop_right(&mut w, word(name.unwrap()));
        w.settle();
        assert_eq!(tasks(&w), 1);
    }
}

/// What the root knows of a right that it gave away.
#[derive(Clone, Copy)]
struct Given {
    holder: u64,
    name: u64,
}

struct Chaos {
    w: World,
    random: Random,
    /// Names of tasks that the root has.
    held: Vec<u64>,
    given: Vec<Given>,
}

impl Chaos {
    fn is_alive(&self, name: u64) -> bool {
        (self.w.kernel).resolve_task(self.w.root.task, name).is_ok()
    }

    /// Takes a right back out of a task that the root can name.
    fn take(&mut self, given: Given, disposition: Disposition) {
        self.w.run(self.w.root);
        let (kernel, toy) = (&mut self.w.kernel, &mut self.w.toy);
        let taken = kernel.port_extract_right(toy, given.holder, given.name, disposition as u64);
        if let Ok(name) = taken {
            let name = word(name);
            assert!(self.is_alive(name), "it could be reached, and ended");
            self.held.push(name);
        }
    }

    fn act(&mut self) {
        let (Some(holder), Some(held)) =
            (self.random.pick(&self.held), self.random.pick(&self.held))
        else {
            let child = self.w.child();
            self.held.push(child.name);
            return;
        };
        match self.random.below(12) {
            0 if self.held.len() < 6 => {
                let child = self.w.child();
                self.held.push(child.name);
            }
            0..2 => {
                let way = self.random.pick(&WAYS).unwrap();
                give(&mut self.w, holder, held, way);
            }
            2..5 => {
                self.w.run(self.w.root);
                let moves = self.random.once_in(2);
                let disposition = if moves {
                    Disposition::MoveSend
                } else {
                    Disposition::CopySend
                };
                let (kernel, toy) = (&mut self.w.kernel, &mut self.w.toy);
                let name = kernel.port_insert_right(toy, holder, held, disposition as u64);
                let name = word(name.unwrap());
                self.given.push(Given { holder, name });
                if moves {
                    self.forget(held);
                }
            }
            5..7 => {
                if let Some(given) = self.random.pick(&self.given) {
                    let moves = self.random.once_in(2);
                    let disposition = if moves {
                        Disposition::MoveSend
                    } else {
                        Disposition::CopySend
                    };
                    self.take(given, disposition);
                }
            }
            7..9 => {
                drop_right(&mut self.w, held);
                self.forget(held);
            }
            _ => {
                for _ in 0..self.random.below(4) {
                    let _ = self.w.kernel.step(&mut self.w.toy);
                    self.w.check();
                }
            }
        }
        self.w.check();
    }

    /// The root has one reference less.
    fn forget(&mut self, name: u64) {
        let place = self.held.iter().position(|held| *held == name).unwrap();
        self.held.swap_remove(place);
    }
}

/// A search goes on while rights come and go: nobody ends whom the root can reach, and all others do
/// (which the check of the whole state says wherever nothing is left to do).
#[test]
fn a_search_in_the_middle_of_changes_ends_exactly_those_that_nobody_reaches() {
    for seed in 0..60 {
        let mut all = Chaos {
            w: World::new(),
            random: Random::new(seed),
            held: Vec::new(),
            given: Vec::new(),
        };
        for _ in 0..150 {
            all.act();
            for name in &all.held {
                assert!(all.is_alive(*name), "seed {seed}: a task has ended");
            }
        }
        while all.w.kernel.step(&mut all.w.toy) == Progress::More {}
        all.w.check();
        for given in all.given.clone() {
            all.take(given, Disposition::CopySend);
        }
        for name in core::mem::take(&mut all.held) {
            drop_right(&mut all.w, name);
        }
        all.w.settle();
        assert_eq!(tasks(&all.w), 1, "seed {seed}");
    }
}
