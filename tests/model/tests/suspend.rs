//! Suspending and resuming threads and tasks, and what they can be asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    info::{RunState, TaskInfo, ThreadInfo},
    message::{FOREVER, POLL},
    notify,
    state::{Debug, Flavor, General},
};
use kernel_core::{Progress, ThreadStart};
use model::{Actor, Child, Letter, START, World};

fn suspend(w: &mut World, actor: Actor) {
    w.trap(w.root, |kernel, _| kernel.thread_suspend(actor.name))
        .unwrap();
}

fn resume(w: &mut World, actor: Actor) -> Result<(), Kern> {
    w.trap(w.root, |kernel, _| kernel.thread_resume(actor.name))
}

/// Carries a change of a task's suspension through, and says in how many goes.
fn change_task(w: &mut World, task: u64, suspend: bool) -> Result<u32, Kern> {
    for go in 0..1000 {
        let root = w.root;
        let progress = w.trap(root, |kernel, toy| match suspend {
            true => kernel.task_suspend(toy, task, go > 0),
            false => kernel.task_resume(task, go > 0),
        })?;
        if progress == Progress::Done {
            return Ok(go + 1);
        }
    }
    panic!("it does not end");
}

/// What the server of the tasks' memory finds at its port.
fn told(w: &mut World) -> Option<(u32, u64)> {
    let told = w.receive(w.root, w.map, POLL)?;
    told.info
        .is_kernel()
        .then(|| (told.info.id(), told.payload))
}

#[test]
fn whoever_has_a_tasks_memory_is_told_that_it_is_suspended() {
    let mut w = World::new();
    let child = w.child();
    for _ in 0..100 {
        w.thread(child, 5);
    }
    let before = w.kernel.population();
    let suspended = Some((notify::TASK_SUSPENDED, 0x3A9));
    change_task(&mut w, child.name, true).unwrap();
    change_task(&mut w, child.name, true).unwrap();
    assert_eq!(told(&mut w), suspended);
    assert_eq!(told(&mut w), None, "the second does not make it more so");
    for _ in 0..2 {
        change_task(&mut w, child.name, false).unwrap();
    }
    assert_eq!(told(&mut w), None);
    for _ in 0..3 {
        change_task(&mut w, child.name, true).unwrap();
        change_task(&mut w, child.name, false).unwrap();
    }
    assert_eq!(told(&mut w), suspended);
    assert_eq!(told(&mut w), None, "there is one notice");
    assert_eq!(w.kernel.population(), before);
    change_task(&mut w, child.name, true).unwrap();
    w.terminate(child, 7).unwrap();
    w.settle();
    assert_eq!(told(&mut w), suspended);
    assert_eq!(told(&mut w), Some((notify::TASK_ENDED, 0x3A9)));
    assert_eq!(told(&mut w), None);
}

fn words<const N: usize>(w: &mut World) -> [u64; N] {
    let body = &w.toy.at(w.root.context).body;
    core::array::from_fn(|index| {
        u64::from_le_bytes(body[8 * index..8 * index + 8].try_into().unwrap())
    })
}

fn info(w: &mut World, actor: Actor) -> ThreadInfo {
    let count = w.trap(w.root, |kernel, toy| kernel.thread_info(toy, actor.name));
    assert_eq!(count, Ok(ThreadInfo::WORDS as u64));
    ThreadInfo::from_words(words(w)).unwrap()
}

fn task_info(w: &mut World, task: u64) -> TaskInfo {
    let count = w.trap(w.root, |kernel, toy| kernel.task_info(toy, task));
    assert_eq!(count, Ok(TaskInfo::WORDS as u64));
    TaskInfo::from_words(words(w))
}

#[test]
fn a_suspended_thread_runs_when_it_was_resumed_as_often() {
    let mut w = World::new();
    let actor = w.actor();
    suspend(&mut w, actor);
    suspend(&mut w, actor);
    assert!(!w.try_run(actor));
    let told = info(&mut w, actor);
    assert_eq!((told.state, told.suspended), (RunState::Stopped, 2));
    resume(&mut w, actor).unwrap();
    assert!(!w.try_run(actor));
    resume(&mut w, actor).unwrap();
    assert!(w.try_run(actor));
    assert_eq!(resume(&mut w, actor), Err(Kern::Failure));
    assert_eq!(info(&mut w, actor).state, RunState::Running);
}

#[test]
fn a_thread_suspends_itself_at_once() {
    let mut w = World::new();
    let actor = w.actor();
    w.run(actor);
    w.kernel.thread_suspend(0).unwrap();
    w.settle();
    assert!(!w.try_run(actor));
    resume(&mut w, actor).unwrap();
    w.run(actor);
}

#[test]
fn a_message_comes_to_a_suspended_thread_and_waits_with_it() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    assert_eq!(w.receive(server, door, FOREVER), None);
    suspend(&mut w, server);
    assert_eq!(info(&mut w, server).state, RunState::Waiting);
    assert_eq!(w.call(client, key, &Letter::new(7, 1)), None);
    assert!(!w.try_run(server));
    assert_eq!(info(&mut w, server).state, RunState::Stopped);
    resume(&mut w, server).unwrap();
    w.run(server);
    let got = w.result(server).unwrap();
    assert_eq!((got.code, got.info.id()), (Ok(()), 7));
    // The answer comes to a caller that was suspended meanwhile.
    suspend(&mut w, client);
    let answered = w.reply(server, got.token, &Letter::new(8, 2)).unwrap();
    assert_eq!(answered.code, Ok(()));
    assert!(!w.try_run(client));
    resume(&mut w, client).unwrap();
    w.run(client);
    assert_eq!(w.result(client).unwrap().info.id(), 8);
}

#[test]
fn a_suspended_thread_ends_and_times_out_as_any_other() {
    let mut w = World::new();
    let (sleeper, victim) = (w.actor(), w.actor());
    let door = w.port(sleeper, 0);
    assert_eq!(w.receive(sleeper, door, 50), None);
    suspend(&mut w, sleeper);
    w.expire(60);
    assert!(!w.try_run(sleeper));
    resume(&mut w, sleeper).unwrap();
    w.run(sleeper);
    assert_eq!(w.result(sleeper).unwrap().code, Err(Kern::ReceiveTimedOut));
    suspend(&mut w, victim);
    let ended = w.trap(w.root, |kernel, toy| {
        kernel.thread_terminate(toy, victim.name)
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(resume(&mut w, victim), Err(Kern::InvalidArgument));
}

#[test]
fn a_suspended_task_runs_none_of_its_threads_whenever_they_are_made() {
    let mut w = World::new();
    let child = w.child();
    let mut actors: Vec<Actor> = (0..200).map(|_| w.thread(child, 5)).collect();
    suspend(&mut w, actors[7]);
    assert!(change_task(&mut w, child.name, true).unwrap() > 1);
    assert_eq!(change_task(&mut w, child.name, true), Ok(1));
    actors.push(w.thread(child, 5));
    assert!(actors.iter().all(|actor| !w.try_run(*actor)));
    let told = task_info(&mut w, child.name);
    assert_eq!((told.suspended, told.threads), (2, 201));
    assert_eq!(change_task(&mut w, child.name, false), Ok(1));
    assert!(actors.iter().all(|actor| !w.try_run(*actor)));
    assert!(change_task(&mut w, child.name, false).unwrap() > 1);
    for (place, actor) in actors.iter().enumerate() {
        assert_eq!(w.try_run(*actor), place != 7);
    }
    assert_eq!(change_task(&mut w, child.name, false), Err(Kern::Failure));
}

#[test]
fn a_task_that_suspends_itself_stops_its_caller_last() {
    let mut w = World::new();
    let child = w.child();
    let actors: Vec<Actor> = (0..100).map(|_| w.thread(child, 5)).collect();
    let me = actors[0];
    let own = w.trap(me, |kernel, _| kernel.task_get_special_port(1));
    let own = u64::from(own.unwrap());
    w.run(me);
    let progress = w.kernel.task_suspend(&mut w.toy, own, false);
    assert_eq!(progress, Ok(Progress::More));
    w.run(me);
    // Others end while it is going on.
    for actor in &actors[80..] {
        w.trap(w.root, |kernel, toy| {
            kernel.thread_terminate(toy, actor.name)
        })
        .unwrap();
    }
    w.run(me);
    let progress = w.kernel.task_suspend(&mut w.toy, own, true);
    assert_eq!(progress, Ok(Progress::Done));
    w.settle();
    assert!(actors.iter().all(|actor| !w.try_run(*actor)));
    assert_eq!(change_task(&mut w, child.name, false), Ok(2));
    w.run(me);
}

#[test]
fn a_thread_is_made_suspended_if_that_is_asked_for() {
    let mut w = World::new();
    let Child { name: task, .. } = w.child();
    let start = ThreadStart {
        suspended: 1,
        ..START
    };
    let make =
        |w: &mut World, start| w.trap(w.root, |kernel, toy| kernel.thread_create(toy, task, start));
    let name = u64::from(make(&mut w, start).unwrap());
    let root = w.root;
    let thread = w.kernel.resolve_thread(root.task, name).unwrap();
    w.kernel.yield_to(thread);
    assert!(w.is_running(root));
    w.trap(root, |kernel, _| kernel.thread_resume(name))
        .unwrap();
    w.kernel.yield_to(thread);
    assert!(!w.is_running(root));
    let twice = ThreadStart {
        suspended: 2,
        ..start
    };
    assert_eq!(make(&mut w, twice), Err(Kern::InvalidValue));
}

#[test]
fn a_safe_abort_leaves_a_call_that_was_made() {
    let mut w = World::new();
    let (server, client) = (w.actor(), w.actor());
    let (door, key) = w.door(server, client);
    let abort = |w: &mut World, actor: Actor| {
        w.trap(w.root, |kernel, toy| {
            kernel.thread_abort_safely(toy, actor.name)
        })
    };
    assert_eq!(w.call(client, key, &Letter::new(7, 1)), None);
    assert_eq!(abort(&mut w, client), Err(Kern::Failure));
    let got = w.receive(server, door, POLL).unwrap();
    assert_eq!(abort(&mut w, client), Err(Kern::Failure));
    w.reply(server, got.token, &Letter::new(8, 2));
    assert_eq!(w.result(client).unwrap().code, Ok(()));
    assert_eq!(w.receive(server, door, FOREVER), None);
    assert_eq!(abort(&mut w, server), Ok(()));
    assert_eq!(
        w.result(server).unwrap().code,
        Err(Kern::ReceiveInterrupted)
    );
    w.fault(client, 0x5000);
    assert_eq!(info(&mut w, client).state, RunState::Uninterruptible);
    assert_eq!(abort(&mut w, client), Ok(()));
    w.run(client);
}

#[test]
fn the_threads_of_a_task_are_named_in_goes() {
    let mut w = World::new();
    let (child, other) = (w.child(), w.child());
    let mut mine = Vec::new();
    for _ in 0..150 {
        mine.push(w.thread(child, 5).name);
        w.thread(other, 5);
    }
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        let root = w.root;
        let [count, next] = w
            .trap(root, |kernel, toy| {
                kernel.task_threads(toy, child.name, cursor)
            })
            .unwrap();
        assert!(count <= 64);
        let names: [u64; 64] = words(&mut w);
        found.extend_from_slice(&names[..count as usize]);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    found.sort_unstable();
    mine.sort_unstable();
    assert_eq!(found, mine);
    let none = w.trap(w.root, |kernel, toy| {
        kernel.task_threads(toy, child.name, u64::MAX)
    });
    assert_eq!(none, Ok([0, 0]));
}

#[test]
fn registers_are_those_of_a_thread_that_stands_still() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let get = |w: &mut World, name, flavor| {
        w.trap(root, |kernel, toy| {
            kernel.thread_get_state(toy, name, flavor)
        })
    };
    let set = |w: &mut World, flavor: u64, bytes: &[u8]| {
        w.toy.at(root.context).body[..bytes.len()].copy_from_slice(bytes);
        w.trap(root, |kernel, toy| {
            kernel.thread_set_state(toy, actor.name, flavor, bytes.len() as u64)
        })
    };
    let [general, debug] = [Flavor::General as u64, Flavor::Debug as u64];
    assert_eq!(get(&mut w, actor.name, general), Err(Kern::Failure));
    suspend(&mut w, actor);
    assert_eq!(get(&mut w, actor.name, 5), Err(Kern::InvalidArgument));
    assert_eq!(
        get(&mut w, actor.child, general),
        Err(Kern::InvalidArgument)
    );
    let state = General {
        rip: 0x1234,
        rbx: 9,
        ..General::default()
    };
    assert_eq!(set(&mut w, general, &state.to_bytes()), Ok(()));
    assert!(w.toy.at(actor.context).whole);
    assert_eq!(get(&mut w, actor.name, general), Ok(General::SIZE as u64));
    let read = General::from_bytes(&w.toy.at(root.context).body).unwrap();
    assert_eq!((read.rip, read.rbx, read.flags), (0x1234, 9, 0x202));
    let short = set(&mut w, general, &state.to_bytes()[8..]);
    assert_eq!(short, Err(Kern::InvalidArgument));
    let lost = General {
        rip: 1 << 47,
        ..state
    };
    let lost = set(&mut w, general, &lost.to_bytes());
    assert_eq!(lost, Err(Kern::InvalidAddress));
    let watched = Debug {
        address0: 0x5000,
        control: 1,
        ..Debug::default()
    };
    assert_eq!(set(&mut w, debug, &watched.to_bytes()), Ok(()));
    resume(&mut w, actor).unwrap();
    // Its rank is none as long as it watches something: `check` compares.
    w.run(actor);
    suspend(&mut w, actor);
    let none = set(&mut w, debug, &Debug::default().to_bytes());
    assert_eq!(none, Ok(()));
    // One that waits in a trap keeps what the trap loses.
    let waiter = w.actor();
    let door = w.port(waiter, 0);
    assert_eq!(w.receive(waiter, door, FOREVER), None);
    w.toy.at(root.context).body[..General::SIZE].copy_from_slice(&state.to_bytes());
    let done = w.trap(root, |kernel, toy| {
        kernel.thread_set_state(toy, waiter.name, general, General::SIZE as u64)
    });
    assert_eq!(done, Ok(()));
    assert!(!w.toy.at(waiter.context).whole);
}
