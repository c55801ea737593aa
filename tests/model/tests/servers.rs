//! Memory servers below memory servers: who may make one, and what its end takes along.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::POLL,
    notify,
    right::{Name, SpecialPort},
};
use kernel_core::{Fallen, owner::OwnerId};
use model::{Actor, START, World, word};

/// A task with an owner of its own: the task, and its name for its host memory port.
struct Nest {
    server: Actor,
    memory: u64,
    space: u64,
}

fn create(w: &mut World, memory: u64, space: u64) -> Result<Name, Kern> {
    w.trap(w.root, |kernel, _| kernel.owner_create(memory, space))
}

fn owner(w: &mut World, actor: Actor, memory: u64) -> OwnerId {
    w.run(actor);
    w.kernel.host_memory(memory).unwrap()
}

/// A task of the root's that is a memory server below the owner of `memory`, with a right to its port.
fn nest(w: &mut World, maker: Actor, memory: u64) -> Nest {
    let control = u64::from(w.boot.host_control);
    let host = word(maker_control(w, maker, control));
    let map = w.port(maker, 0);
    w.make_send(maker, map);
    let space = w
        .trap(maker, |kernel, toy| kernel.space_create(toy, memory))
        .unwrap();
    let task = w
        .trap(maker, |kernel, _| {
            kernel.task_create(host, word(space), map)
        })
        .unwrap();
    let below = w
        .trap(maker, |kernel, _| kernel.owner_create(memory, word(space)))
        .unwrap();
    let which = SpecialPort::HostMemory as u64;
    w.trap(maker, |kernel, toy| {
        kernel.task_set_special_port(toy, word(task), which, word(below))
    })
    .unwrap();
    let which = SpecialPort::HostControl as u64;
    w.trap(maker, |kernel, toy| {
        kernel.task_set_special_port(toy, word(task), which, host)
    })
    .unwrap();
    let name = w
        .trap(maker, |kernel, toy| {
            kernel.thread_create(toy, word(task), START)
        })
        .unwrap();
    let thread = w.kernel.resolve_thread(maker.task, word(name)).unwrap();
    let server = Actor {
        thread,
        task: w.kernel.resolve_task(maker.task, word(task)).unwrap(),
        context: w.kernel.context(thread).unwrap(),
        name: word(name),
        child: word(task),
    };
    w.trap(maker, |kernel, toy| {
        kernel.port_deallocate(toy, word(below), 1)
    })
    .unwrap();
    let which = SpecialPort::HostMemory as u64;
    let memory = w
        .trap(server, |kernel, _| kernel.task_get_special_port(which))
        .unwrap();
    Nest {
        server,
        memory: word(memory),
        space: word(space),
    }
}

fn maker_control(w: &mut World, maker: Actor, control: u64) -> Name {
    if maker.task == w.root.task {
        return control as Name;
    }
    let which = SpecialPort::HostControl as u64;
    w.trap(maker, |kernel, _| kernel.task_get_special_port(which))
        .unwrap()
}

fn root_memory(w: &World) -> u64 {
    u64::from(w.boot.host_memory)
}

/// The root hears of ends at this port.
fn listen(w: &mut World) -> u64 {
    let (memory, port) = (root_memory(w), w.port(w.root, 0));
    w.trap(w.root, |kernel, toy| {
        kernel.host_set_memory_low(toy, memory, port)
    })
    .unwrap();
    port
}

#[test]
fn an_owner_is_made_below_the_callers_in_a_space_of_the_callers_and_once_in_each() {
    let mut w = World::new();
    let (memory, root) = (root_memory(&w), w.root);
    let a = nest(&mut w, root, memory);
    let first = owner(&mut w, a.server, a.memory);
    assert_ne!(first, OwnerId::FIRST_SERVER);
    // Its window has its place, and a space of another owner is no place for one.
    assert_eq!(create(&mut w, memory, a.space), Err(Kern::InvalidArgument));
    assert_eq!(create(&mut w, a.space, a.space), Err(Kern::InvalidHost));
    let inner = w
        .trap(a.server, |kernel, toy| kernel.space_create(toy, a.memory))
        .unwrap();
    let below = w.trap(a.server, |kernel, _| {
        kernel.owner_create(a.memory, word(inner))
    });
    let below = word(below.unwrap());
    let second = owner(&mut w, a.server, below);
    assert!(second != first && second != OwnerId::FIRST_SERVER);
    // Only the one right above may give frames.
    w.run(a.server);
    let (to, _) = w.kernel.owner_below(a.memory, below).unwrap();
    assert_eq!(to, second);
    assert_eq!(
        w.kernel.owner_below(below, a.memory),
        Err(Kern::InvalidArgument)
    );
    assert_eq!(
        w.kernel.owner_below(a.memory, a.memory),
        Err(Kern::InvalidArgument)
    );
}

#[test]
fn with_a_memory_server_end_its_tasks_and_its_spaces_and_then_the_owner_above_is_told() {
    let mut w = World::new();
    let ends = listen(&mut w);
    let (memory, root) = (root_memory(&w), w.root);
    let before = w.kernel.population();
    for _ in 0..3 {
        let a = nest(&mut w, root, memory);
        let first = owner(&mut w, a.server, a.memory);
        // Below it a server of its own, and below that a task.
        let b = nest(&mut w, a.server, a.memory);
        let c = nest(&mut w, b.server, b.memory);
        let [tasks, ..] = w.kernel.population();
        assert_eq!(tasks, 4);
        assert_eq!(w.kernel.owner_fallen(OwnerId::FIRST_SERVER), None);
        w.kernel.donation(first, 7, false);
        let third = owner(&mut w, c.server, c.memory);
        w.kernel.donation(third, 5, false);
        w.trap(w.root, |kernel, toy| {
            kernel.task_terminate(toy, a.server.child, 0)
        })
        .unwrap();
        let [tasks, ..] = w.kernel.population();
        assert_eq!(tasks, 1);
        let told = w.receive(w.root, ends, POLL).unwrap();
        assert_eq!(
            (told.info.id(), told.words[0]),
            (notify::OWNER_ENDED, u64::from(first.raw()))
        );
        assert_eq!(
            w.kernel.owner_fallen(OwnerId::FIRST_SERVER),
            Some(Fallen {
                root: first,
                cursor: 0
            })
        );
        assert!(w.kernel.fell_with(third, first).is_some());
        let owed = w.kernel.donated(OwnerId::FIRST_SERVER);
        w.kernel.owner_taken(first, Some(100));
        w.kernel.owner_taken(first, None);
        assert_eq!(w.kernel.donated(OwnerId::FIRST_SERVER), owed + 12);
        assert_eq!(w.kernel.owner_fallen(OwnerId::FIRST_SERVER), None);
        w.settle();
        for name in [a.server.child, a.server.name, a.space] {
            let _ = w.deallocate(w.root, name, 1);
            let _ = w.deallocate(w.root, name, 1);
        }
    }
    let [tasks, threads, ..] = w.kernel.population();
    assert_eq!([tasks, threads], before[..2]);
}

#[test]
fn an_owner_ends_with_the_last_right_to_its_port_or_when_it_is_destroyed() {
    let mut w = World::new();
    let (memory, root) = (root_memory(&w), w.root);
    let space = w
        .trap(w.root, |kernel, toy| kernel.space_create(toy, memory))
        .unwrap();
    let below = word(create(&mut w, memory, word(space)).unwrap());
    let id = owner(&mut w, root, below);
    let inner = w
        .trap(w.root, |kernel, toy| kernel.space_create(toy, below))
        .unwrap();
    w.deallocate(w.root, below, 1).unwrap();
    let fallen = w.kernel.owner_fallen(OwnerId::FIRST_SERVER).unwrap();
    assert_eq!(fallen.root, id);
    // Its space is gone although there is a name of it.
    let made = w.trap(w.root, |kernel, _| {
        kernel.task_create(u64::from(1u32), word(inner), 0)
    });
    assert!(made.is_err());
    assert_eq!(
        w.kernel.resolve_space(w.root.task, word(inner)),
        Err(Kern::InvalidName)
    );
    w.kernel.owner_taken(id, None);
    // The same again, on purpose; the place of the window is free.
    let below = word(create(&mut w, memory, word(space)).unwrap());
    let wrong = w.trap(w.root, |kernel, toy| {
        kernel.owner_destroy(toy, below, below)
    });
    assert_eq!(wrong, Err(Kern::InvalidArgument));
    w.trap(w.root, |kernel, toy| {
        kernel.owner_destroy(toy, memory, below)
    })
    .unwrap();
    assert!(w.kernel.owner_fallen(OwnerId::FIRST_SERVER).is_some());
    let again = w.trap(w.root, |kernel, toy| {
        kernel.owner_destroy(toy, memory, below)
    });
    assert_eq!(again, Err(Kern::InvalidArgument));
}
