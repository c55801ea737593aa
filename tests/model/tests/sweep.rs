//! Each operation that makes something, over and over, until every table has grown more than once, with
//! each allocation of each failing before it succeeds. What has failed has changed nothing ([`World`] compares
//! the whole state), and at the end nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    message::{POLL, option},
    notify::Request,
    right::Disposition,
};
use kernel_core::Msg;
use model::{Actor, Letter, World, word};

#[global_allocator]
static ALLOCATOR: model::failing::Failing = model::failing::Failing;

/// More than two chunks of any table.
const MANY: u32 = 140;

/// Does something many times; says how often it failed for want of memory.
fn sweep(w: &mut World, mut work: impl FnMut(&mut World, u32)) -> u64 {
    w.sweeping = true;
    let before = w.failures;
    for number in 0..MANY {
        work(w, number);
    }
    w.sweeping = false;
    w.failures - before
}

fn world() -> (World, Actor) {
    let mut w = World::new();
    let a = w.actor();
    w.unlimited(a.child);
    (w, a)
}

/// Ends the task of an actor; then there is what there was before it.
fn end(mut w: World, actors: &[Actor]) {
    for actor in actors {
        w.trap(w.root, |kernel, toy| {
            kernel.task_terminate(toy, actor.child, 0)
        })
        .unwrap();
    }
    w.settle();
    let [tasks, threads, ..] = w.kernel.population();
    assert_eq!([tasks, threads], [1, 1]);
}

#[test]
fn ports_sets_and_names() {
    let (mut w, a) = world();
    let failures = sweep(&mut w, |w, number| {
        let port = w.port(a, number.into());
        let set = w.trap(a, |kernel, _| kernel.port_set_allocate()).unwrap();
        let joined = w.trap(a, |kernel, toy| {
            kernel.port_move_member(toy, port, word(set))
        });
        assert_eq!(joined, Ok(()));
    });
    assert!(failures > 10, "{failures}");
    end(w, &[a]);
}

#[test]
fn requests_to_be_told() {
    let (mut w, a) = world();
    let notify = w.port(a, 0);
    let failures = sweep(&mut w, |w, _| {
        let port = w.port(a, 0);
        w.make_send(a, port);
        for request in [Request::DeadName, Request::NoSenders] {
            let asked = w.trap(a, |kernel, toy| {
                kernel.port_request_notification(toy, port, request as u64, notify, 0)
            });
            assert!(asked.is_ok());
        }
    });
    assert!(failures > 10, "{failures}");
    end(w, &[a]);
}

#[test]
fn messages_with_bodies_and_rights() {
    let (mut w, a) = world();
    let b = w.actor();
    w.unlimited(b.child);
    let (door, key) = w.door(b, a);
    w.trap(b, |kernel, toy| {
        kernel.port_set_attributes(toy, door, 0, 1024)
    })
    .unwrap();
    let failures = sweep(&mut w, |w, number| {
        let port = w.port(a, 0);
        let letter = Letter::new(number, 1)
            .body(&[7; 1000])
            .right(port, Disposition::MakeSend)
            .right(port, Disposition::MakeSendOnce)
            .right(port, Disposition::MoveReceive);
        assert_eq!(w.send(a, key, &letter, POLL).unwrap().code, Ok(()));
    });
    // A record now and then, and a body each time.
    assert!(failures > u64::from(MANY), "{failures}");
    let failures = sweep(&mut w, |w, number| {
        let mut left = 0;
        // Names of the receiver: what does not fit stays first in the queue.
        loop {
            model::failing::arm(left);
            let msg = Msg {
                options: option::RECEIVE,
                source: door,
                ..Msg::default()
            };
            w.sweeping = false;
            let got = w.msg(b, &Letter::default(), msg).unwrap();
            w.sweeping = true;
            if got.code.is_ok() {
                assert_eq!(got.info.id(), number);
                break;
            }
            left += 1;
        }
    });
    assert_eq!(failures, 0);
    end(w, &[a, b]);
}

#[test]
fn full_queues_that_tell_when_there_is_room() {
    let (mut w, a) = world();
    let notify = w.port(a, 0);
    let failures = sweep(&mut w, |w, _| {
        let port = w.port(a, 0);
        w.make_send(a, port);
        w.trap(a, |kernel, toy| kernel.port_set_attributes(toy, port, 0, 1))
            .unwrap();
        for _ in 0..2 {
            let msg = Msg {
                options: option::SEND | option::NOTIFY,
                destination: port,
                send_deadline: POLL,
                notify,
                ..Msg::default()
            };
            assert!(w.msg(a, &Letter::new(1, 1), msg).is_some());
        }
    });
    assert!(failures > 10, "{failures}");
    end(w, &[a]);
}

#[test]
fn tasks_threads_and_spaces() {
    let (mut w, a) = world();
    let failures = sweep(&mut w, |w, _| {
        let child = w.child();
        w.thread(child, 5);
        w.sweeping = false;
        w.terminate(child, 0).unwrap();
        for name in [child.name, child.space] {
            let _ = w.deallocate(w.root, name, 1);
            let _ = w.deallocate(w.root, name, 1);
        }
        w.sweeping = true;
    });
    // Its names, its thread's registers, its space: each time.
    assert!(failures > 4 * u64::from(MANY), "{failures}");
    end(w, &[a]);
}

#[test]
fn memory_servers() {
    let (mut w, a) = world();
    let memory = u64::from(w.boot.host_memory);
    let failures = sweep(&mut w, |w, _| {
        let space = w
            .trap(w.root, |kernel, toy| kernel.space_create(toy, memory))
            .unwrap();
        let owner = w
            .trap(w.root, |kernel, _| kernel.owner_create(memory, word(space)))
            .unwrap();
        let inner = w
            .trap(w.root, |kernel, toy| kernel.space_create(toy, word(owner)))
            .unwrap();
        assert_ne!(inner, 0);
    });
    assert!(failures > u64::from(MANY), "{failures}");
    end(w, &[a]);
}
