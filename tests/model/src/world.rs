//! A kernel, a toy machine, and the ways in which tests act on them.

use crate::failing;
use crate::toy::{Received, Toy};
use ipc_abi::{
    Kern,
    buffer::BODY_SIZE,
    message::{FOREVER, Info, WORDS, option},
    right::{ArrivedKind, Disposition, Name, SpecialPort},
    types::Prot,
};
use kernel_core::{
    Boot, Context, FIRST_BAND, Flow, Kernel, Msg, Progress, Raised, Seat, SpaceId, TaskId,
    ThreadId, ThreadStart,
};

/// How a thread begins, if nothing else is asked for.
pub const START: ThreadStart = ThreadStart {
    ip: 0x40_0000,
    sp: 0x7000_0000,
    argument: 0,
    priority: 10,
    suspended: 0,
};

/// A thread that tests act as.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Its handle.
    pub thread: ThreadId,
    /// Its task's handle.
    pub task: TaskId,
    /// Its registers.
    pub context: Context,
    /// The root task's name for it.
    pub name: u64,
    /// The root task's name for its task.
    pub child: u64,
}

/// A task that the root made.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// Its handle.
    pub task: TaskId,
    /// The root's name for its control port.
    pub name: u64,
    /// The root's name for its space.
    pub space: u64,
}

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    /// Its id.
    pub id: u32,
    /// Its words.
    pub words: [u64; WORDS],
    /// Its body.
    pub body: Vec<u8>,
    /// Its rights.
    pub rights: Vec<(u64, Disposition)>,
}

impl Letter {
    /// A message of one word.
    pub fn new(id: u32, word: u64) -> Letter {
        Letter {
            id,
            words: [word, 1, 2, 3, 4, 5],
            ..Letter::default()
        }
    }

    /// The same with a right.
    pub fn right(mut self, name: u64, disposition: Disposition) -> Letter {
        self.rights.push((name, disposition));
        self
    }

    /// The same with a body.
    pub fn body(mut self, body: &[u8]) -> Letter {
        assert!(body.len() <= BODY_SIZE);
        self.body = body.to_vec();
        self
    }

    fn info(&self) -> u64 {
        Info::new(self.id, self.body.len(), self.rights.len())
            .unwrap()
            .0
    }
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// The kernel.
    pub kernel: Kernel,
    /// Its machine.
    pub toy: Toy,
    /// The first task.
    pub boot: Boot,
    /// The first thread, of priority 10.
    pub root: Actor,
    /// A port of the root that all children's faults go to; the root has a send right under the
    /// same name.
    pub map: u64,
    /// A port of the root that all children can write to: their bootstrap port.
    pub mail: u64,
    /// Whether each step is followed by a check of the whole state.
    pub checking: bool,
    /// Whether each operation is tried with each of its allocations failing, before it succeeds.
    pub sweeping: bool,
    /// Operations that failed for want of memory in that way.
    pub failures: u64,
}

impl World {
    /// Says how many processors there are.
    pub fn set_processors(&mut self, count: usize) {
        let seats = (0..count).map(|_| Seat::kept().unwrap());
        self.kernel.set_processors(seats).unwrap();
    }

    /// A kernel with its first task and thread.
    #[must_use]
    pub fn new() -> World {
        let mut kernel = Kernel::new(Seat::kept().unwrap()).unwrap();
        let mut toy = Toy::default();
        let boot = kernel.boot(SpaceId(0)).unwrap();
        let thread = kernel.boot_thread(&mut toy, boot.task, START).unwrap();
        let running = kernel.running().unwrap();
        let root = Actor {
            thread,
            task: boot.task,
            context: running.context,
            name: 0,
            child: 0,
        };
        let mut world = World {
            kernel,
            toy,
            boot,
            root,
            map: 0,
            mail: 0,
            checking: true,
            sweeping: false,
            failures: 0,
        };
        world.map = world.port(root, 0x3A9);
        world.make_send(root, world.map);
        world.mail = world.port(root, 0x3A11);
        world.make_send(root, world.mail);
        assert_eq!(FIRST_BAND, 31);
        world
    }

    /// Takes all steps that are due, checking the state before and after each.
    pub fn settle(&mut self) {
        self.check();
        let mut steps = 0;
        while self.kernel.step(&mut self.toy) == Progress::More {
            self.check();
            steps += 1;
            assert!(steps < 1_000_000, "the steps do not end");
        }
        self.check();
    }

    /// Checks the state, if tests want it checked.
    pub fn check(&self) {
        if self.checking
            && let Err(text) = self.kernel.check()
        {
            panic!("{text}\n{}", self.kernel.describe());
        }
    }

    /// Gives an actor the processor that it runs on or waits for; it must be ready.
    pub fn run(&mut self, actor: Actor) {
        self.go_to(actor);
        self.kernel.yield_to(actor.thread);
        let running = self.kernel.running().map(|running| running.thread);
        assert_eq!(
            running,
            Some(actor.thread),
            "not ready:\n{}",
            self.kernel.describe()
        );
    }

    /// Gives an actor the processor if it is alive and ready.
    pub fn try_run(&mut self, actor: Actor) -> bool {
        self.go_to(actor);
        self.kernel.yield_to(actor.thread);
        self.is_running(actor)
    }

    fn go_to(&mut self, actor: Actor) {
        if let Some(processor) = self.kernel.processor_of(actor.thread) {
            self.kernel.take_over(processor);
        }
    }

    /// Whether an actor runs now.
    pub fn is_running(&self, actor: Actor) -> bool {
        self.kernel
            .running()
            .is_some_and(|running| running.thread == actor.thread)
    }

    /// A trap of an actor, and the steps after it.
    pub fn trap<T>(
        &mut self,
        actor: Actor,
        mut trap: impl FnMut(&mut Kernel, &mut Toy) -> Result<T, Kern>,
    ) -> Result<T, Kern> {
        let mut left = 0;
        loop {
            self.run(actor);
            let before = self.sweep_begins(left);
            let result = trap(&mut self.kernel, &mut self.toy);
            let failed = failing::disarm();
            if failed && matches!(result, Err(Kern::ResourceShortage)) {
                self.sweep_failed(&before);
                left += 1;
                continue;
            }
            self.settle();
            return result;
        }
    }

    /// Lets the allocation after `left` others fail, if tests want it; gives the state before.
    fn sweep_begins(&mut self, left: u64) -> String {
        if !self.sweeping {
            return String::new();
        }
        let before = self.kernel.digest();
        failing::arm(left);
        before
    }

    /// What failed for want of memory has changed nothing.
    fn sweep_failed(&mut self, before: &str) {
        self.check();
        let after = self.kernel.digest();
        for (before, after) in before.lines().zip(after.lines()) {
            let same = before == after;
            assert!(
                same,
                "an operation that failed has changed:\n{before}\n{after}"
            );
        }
        assert_eq!(before.len(), after.len());
        self.failures += 1;
    }

    /// A task in a space of its own, whose faults go to `self.map`.
    pub fn child(&mut self) -> Child {
        let host_memory = u64::from(self.boot.host_memory);
        let host_control = u64::from(self.boot.host_control);
        let map = self.map;
        let space = self
            .trap(self.root, |kernel, toy| {
                kernel.space_create(toy, host_memory)
            })
            .unwrap();
        let name = self
            .trap(self.root, |kernel, _| {
                kernel.task_create(host_control, u64::from(space), map)
            })
            .unwrap();
        let mail = self.mail;
        self.trap(self.root, |kernel, toy| {
            let bootstrap = SpecialPort::Bootstrap as u64;
            kernel.task_set_special_port(toy, word(name), bootstrap, mail)
        })
        .unwrap();
        let task = self.kernel.resolve_task(self.root.task, u64::from(name));
        Child {
            task: task.unwrap(),
            name: u64::from(name),
            space: u64::from(space),
        }
    }

    /// Lets a task that the root made have all the memory that the kernel has.
    pub fn unlimited(&mut self, child: u64) {
        let control = u64::from(self.boot.host_control);
        let all = u64::MAX;
        self.trap(self.root, |kernel, _| {
            kernel.task_set_quota(control, child, all)
        })
        .unwrap();
    }

    /// A thread of a task that the root made.
    pub fn thread(&mut self, child: Child, priority: u64) -> Actor {
        let start = ThreadStart { priority, ..START };
        let name = self
            .trap(self.root, |kernel, toy| {
                kernel.thread_create(toy, child.name, start)
            })
            .unwrap();
        let name = u64::from(name);
        let thread = self.kernel.resolve_thread(self.root.task, name).unwrap();
        Actor {
            thread,
            task: child.task,
            context: self.kernel.context(thread).unwrap(),
            name,
            child: child.name,
        }
    }

    /// A new task with one thread of priority 10.
    pub fn actor(&mut self) -> Actor {
        let child = self.child();
        self.thread(child, 10)
    }

    /// A new port with a payload.
    pub fn port(&mut self, actor: Actor, payload: u64) -> u64 {
        let name = self.trap(actor, |kernel, _| kernel.port_allocate(payload));
        u64::from(name.unwrap())
    }

    /// A send right under the name of a receive right.
    pub fn make_send(&mut self, actor: Actor, name: u64) {
        self.trap(actor, |kernel, _| kernel.port_make_send(name))
            .unwrap();
    }

    /// Destroys a receive right or set.
    pub fn destroy(&mut self, actor: Actor, name: u64) {
        self.trap(actor, |kernel, toy| kernel.port_destroy(toy, name))
            .unwrap();
    }

    /// Gives references back.
    pub fn deallocate(&mut self, actor: Actor, name: u64, count: u64) -> Result<(), Kern> {
        self.trap(actor, |kernel, toy| {
            kernel.port_deallocate(toy, name, count)
        })
    }

    /// A `msg` trap; the result, if it has come back at once.
    pub fn msg(&mut self, actor: Actor, letter: &Letter, msg: Msg) -> Option<Received> {
        self.run(actor);
        let registers = self.toy.at(actor.context);
        registers.result = None;
        registers.words = letter.words;
        registers.body[..letter.body.len()].copy_from_slice(&letter.body);
        for (slot, (name, disposition)) in registers.rights.iter_mut().zip(&letter.rights) {
            *slot = (*name, *disposition as u8);
        }
        let msg = Msg {
            info: letter.info(),
            ..msg
        };
        let mut left = 0;
        loop {
            let before = self.sweep_begins(left);
            while self.kernel.msg(&mut self.toy, &msg) == Flow::Again {}
            let short = |result: &Received| {
                let code = result.code;
                let none = Err(Kern::SendNoBuffer);
                !result.sent && (code == none || code == Err(Kern::ResourceShortage))
            };
            let result = &mut self.toy.at(actor.context).result;
            if failing::disarm() && result.as_ref().is_some_and(short) {
                *result = None;
                self.sweep_failed(&before);
                left += 1;
                continue;
            }
            self.settle();
            return self.result(actor);
        }
    }

    /// What an actor's last trap left, once.
    pub fn result(&mut self, actor: Actor) -> Option<Received> {
        self.toy.at(actor.context).result.take()
    }

    /// Calls a port, to wait for ever.
    pub fn call(&mut self, actor: Actor, to: u64, letter: &Letter) -> Option<Received> {
        let msg = Msg {
            options: option::CALL,
            destination: to,
            receive_deadline: FOREVER,
            ..Msg::default()
        };
        self.msg(actor, letter, msg)
    }

    /// Sends one way; waits until `deadline` for room.
    pub fn send(
        &mut self,
        actor: Actor,
        to: u64,
        letter: &Letter,
        deadline: u64,
    ) -> Option<Received> {
        let msg = Msg {
            options: option::SEND,
            destination: to,
            send_deadline: deadline,
            ..Msg::default()
        };
        self.msg(actor, letter, msg)
    }

    /// Receives.
    pub fn receive(&mut self, actor: Actor, from: u64, deadline: u64) -> Option<Received> {
        let msg = Msg {
            options: option::RECEIVE,
            source: from,
            receive_deadline: deadline,
            ..Msg::default()
        };
        self.msg(actor, &Letter::default(), msg)
    }

    /// Answers a token.
    pub fn reply(&mut self, actor: Actor, token: u64, letter: &Letter) -> Option<Received> {
        let msg = Msg {
            options: option::REPLY,
            destination: token,
            ..Msg::default()
        };
        self.msg(actor, letter, msg)
    }

    /// Passes the call of a token on.
    pub fn forward(
        &mut self,
        actor: Actor,
        token: u64,
        to: u64,
        letter: &Letter,
    ) -> Option<Received> {
        let msg = Msg {
            options: option::FORWARD,
            destination: token,
            notify: to,
            ..Msg::default()
        };
        self.msg(actor, letter, msg)
    }

    /// Answers a token and receives.
    pub fn reply_receive(
        &mut self,
        actor: Actor,
        token: u64,
        letter: &Letter,
        from: u64,
    ) -> Option<Received> {
        let msg = Msg {
            options: option::REPLY | option::RECEIVE,
            destination: token,
            source: from,
            receive_deadline: FOREVER,
            ..Msg::default()
        };
        self.msg(actor, letter, msg)
    }

    /// Has an actor, of a task that has a map port, touch memory.
    pub fn fault(&mut self, actor: Actor, address: u64) {
        self.run(actor);
        self.toy.at(actor.context).result = None;
        let raised = self.kernel.raise_fault(&mut self.toy, address, Prot::WRITE);
        assert_eq!(raised, Raised::Handled);
        self.settle();
    }

    /// Passes time.
    pub fn expire(&mut self, now: u64) {
        self.kernel.expire(&mut self.toy, now);
        self.settle();
    }

    /// Ends a task through the root.
    pub fn terminate(&mut self, child: Child, status: u64) -> Result<(), Kern> {
        self.trap(self.root, |kernel, toy| {
            kernel.task_terminate(toy, child.name, status)
        })
    }

    /// Sends a right from one actor to another, through a port that is made for it, and gives the
    /// value and kind that arrived.
    pub fn pass(
        &mut self,
        from: Actor,
        name: u64,
        disposition: Disposition,
        to: Actor,
    ) -> (u64, u8) {
        let (door, key) = self.door(to, from);
        let sent = self.send(from, key, &Letter::new(1, 0).right(name, disposition), 0);
        assert_eq!(sent.unwrap().code, Ok(()));
        let got = self.receive(to, door, 0).unwrap();
        assert_eq!(got.code, Ok(()));
        self.destroy(to, door);
        self.deallocate(from, key, 1).unwrap();
        got.rights[0]
    }

    /// A port of `owner` that `user` can send to: both names.
    pub fn door(&mut self, owner: Actor, user: Actor) -> (u64, u64) {
        let door = self.port(owner, 0xD00);
        self.make_send(owner, door);
        let key = self.share(owner, door, user);
        if owner.task != user.task {
            self.deallocate(owner, door, 1).unwrap();
        }
        (door, key)
    }

    /// Gives `user` a send right that `owner` holds under `name`: the owner mails it to the root, the
    /// root makes it a special port of the user's task, the user takes it.
    pub fn share(&mut self, owner: Actor, name: u64, user: Actor) -> u64 {
        if owner.task == user.task {
            return name;
        }
        let root = self.root;
        let mut mailed = name;
        if owner.task != root.task {
            let mail = SpecialPort::Bootstrap as u64;
            let mail = self.trap(owner, |kernel, _| kernel.task_get_special_port(mail));
            let mail = word(mail.unwrap());
            let letter = Letter::new(0, 0).right(name, Disposition::CopySend);
            assert_eq!(self.send(owner, mail, &letter, 0).unwrap().code, Ok(()));
            self.deallocate(owner, mail, 1).unwrap();
            let got = self.receive(root, self.mail, 0).unwrap();
            mailed = got.rights[0].0;
            assert_eq!(got.rights[0].1, ArrivedKind::Send as u8);
        }
        if user.task == root.task {
            return mailed;
        }
        let index = SpecialPort::Device as u64;
        let child = user.child;
        let set = |world: &mut World, name| {
            world
                .trap(root, |kernel, toy| {
                    kernel.task_set_special_port(toy, child, index, name)
                })
                .unwrap();
        };
        set(self, mailed);
        let key = self.trap(user, |kernel, _| kernel.task_get_special_port(index));
        set(self, 0);
        if owner.task != root.task {
            self.deallocate(root, mailed, 1).unwrap();
        }
        word(key.unwrap())
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// A name as a word.
#[must_use]
pub fn word(name: Name) -> u64 {
    u64::from(name)
}
