//! Ends of ports, threads and tasks, and what is told to whom; memory; special ports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern, exception, fault,
    message::{FOREVER, POLL},
    notify,
    right::{Disposition, SpecialPort},
};
use kernel_core::{Progress, Raised, Report, SpaceId};
use model::{Letter, Received, START, World, word};

/// Takes the fault that lies at the root's map port.
fn take_fault(w: &mut World) -> Received {
    let root = w.root;
    w.receive(root, w.map, POLL).unwrap()
}

#[test]
fn a_dead_port_fails_those_who_wait_at_it_with_their_codes() {
    let mut w = World::new();
    let server = w.child();
    let (server, receiver) = (w.thread(server, 10), w.thread(server, 10));
    let client = w.child();
    let clients: Vec<_> = (0..4).map(|_| w.thread(client, 10)).collect();
    let (door, key) = w.door(server, clients[0]);
    let carried = w.port(clients[0], 0);
    w.make_send(clients[0], carried);
    w.call(
        clients[0],
        key,
        &Letter::new(1, 0).right(carried, Disposition::MoveReceive),
    );
    for number in 0..16 {
        w.send(clients[3], key, &Letter::new(1, number), POLL);
    }
    w.send(clients[1], key, &Letter::new(1, 0), FOREVER);
    w.call(clients[2], key, &Letter::new(1, 0));
    let quiet = w.port(server, 0);
    w.receive(receiver, quiet, FOREVER);
    w.destroy(server, quiet);
    assert_eq!(w.result(receiver).unwrap().code, Err(Kern::ReceivePortDied));
    w.destroy(server, door);
    assert_eq!(
        w.result(clients[0]).unwrap().code,
        Err(Kern::ReceivePortDied)
    );
    assert_eq!(
        w.result(clients[1]).unwrap().code,
        Err(Kern::SendInvalidDest)
    );
    assert_eq!(
        w.result(clients[2]).unwrap().code,
        Err(Kern::ReceivePortDied)
    );
    let nobody = w
        .send(clients[0], carried, &Letter::new(1, 0), POLL)
        .unwrap();
    assert_eq!(nobody.code, Err(Kern::SendInvalidDest));
}

#[test]
fn a_token_outlives_its_port_but_not_its_holder() {
    let mut w = World::new();
    let (server, client) = (w.child(), w.actor());
    let server_thread = w.thread(server, 10);
    let (door, key) = w.door(server_thread, client);
    w.call(client, key, &Letter::new(1, 0));
    let token = w.receive(server_thread, door, POLL).unwrap().token;
    w.destroy(server_thread, door);
    assert_eq!(w.result(client), None);
    assert_eq!(
        w.reply(server_thread, token, &Letter::new(2, 0))
            .unwrap()
            .code,
        Ok(())
    );
    assert_eq!(w.result(client).unwrap().code, Ok(()));
    let (door, key) = w.door(server_thread, client);
    w.call(client, key, &Letter::new(1, 0));
    w.receive(server_thread, door, POLL);
    w.terminate(server, 3).unwrap();
    let died = w.result(client).unwrap();
    assert_eq!((died.code, died.sent), (Err(Kern::ReceivePortDied), true));
}

#[test]
fn the_end_of_a_task_is_told_with_its_status_and_leaves_nothing_behind() {
    let mut w = World::new();
    w.toy.clear_steps = 3;
    let root = w.root;
    let before = w.kernel.population();
    let child = w.child();
    let actor = w.thread(child, 10);
    let idle = w.thread(child, 5);
    let own = w.port(actor, 0);
    w.make_send(actor, own);
    for number in 0..5 {
        w.send(
            actor,
            own,
            &Letter::new(1, number)
                .body(&[1; 99])
                .right(own, Disposition::MakeSendOnce),
            POLL,
        );
    }
    let set = word(
        w.trap(actor, |kernel, _| kernel.port_set_allocate())
            .unwrap(),
    );
    w.trap(actor, |kernel, toy| kernel.port_move_member(toy, own, set))
        .unwrap();
    w.fault(idle, 0x1234);
    assert_eq!(take_fault(&mut w).info.id(), fault::FAULT);
    let bell = w.port(root, 0);
    w.trap(root, |kernel, toy| {
        kernel
            .port_request_notification(toy, child.name, 0, bell, 1)
            .map(drop)
    })
    .unwrap();
    let task = word(
        w.trap(actor, |kernel, _| kernel.task_get_special_port(1))
            .unwrap(),
    );
    w.run(actor);
    assert_eq!(w.kernel.task_terminate(&mut w.toy, task, 77), Ok(()));
    assert_eq!(w.kernel.context(actor.thread), None);
    w.settle();
    let again = w.terminate(child, 1);
    assert_eq!(again, Err(Kern::InvalidTask));
    assert_eq!(
        w.toy.reports,
        [Report::Ended {
            task: child.task,
            status: 77
        }]
    );
    assert_eq!(take_fault(&mut w).info.id(), notify::CANCELLED);
    let told = take_fault(&mut w);
    assert_eq!(
        (told.info.id(), told.words[0], told.payload),
        (notify::TASK_ENDED, 77, 0x3A9)
    );
    let told = w.receive(root, bell, POLL).unwrap();
    assert_eq!(
        (told.info.id(), told.words[0], told.words[1]),
        (notify::DEAD_NAME, child.name, 77)
    );
    for name in [actor.name, idle.name] {
        assert_eq!(w.deallocate(root, name, 1), Ok(()));
    }
    assert_eq!(w.deallocate(root, child.name, 2), Ok(()));
    assert!(w.toy.freed_spaces.is_empty());
    assert_eq!(w.deallocate(root, child.space, 1), Ok(()));
    assert_eq!(w.toy.freed_spaces, [SpaceId(1)]);
    w.destroy(root, bell);
    assert_eq!(w.kernel.population(), before);
}

#[test]
fn a_space_outlives_its_last_name_while_a_task_is_in_it() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let actor = w.thread(child, 10);
    assert_eq!(
        w.kernel.resolve_space(root.task, child.space),
        Ok(SpaceId(1))
    );
    let control = u64::from(w.boot.host_control);
    let map = w.map;
    let taken = w.trap(root, |kernel, _| {
        kernel.task_create(control, child.space, map)
    });
    assert_eq!(taken, Err(Kern::InvalidArgument));
    w.deallocate(root, child.space, 1).unwrap();
    assert!(w.toy.freed_spaces.is_empty());
    w.fault(actor, 0x5000);
    w.terminate(child, 0).unwrap();
    assert_eq!(w.toy.freed_spaces, [SpaceId(1)]);
}

#[test]
fn a_task_with_a_hundred_thousand_rights_ends_in_small_steps() {
    let mut w = World::new();
    let child = w.child();
    let actor = w.thread(child, 10);
    w.unlimited(child.name);
    w.run(actor);
    for _ in 0..100_000 {
        w.kernel.port_allocate(0).unwrap();
    }
    w.run(w.root);
    w.kernel.task_terminate(&mut w.toy, child.name, 0).unwrap();
    let mut steps = 0;
    let mut last = w.kernel.population();
    while w.kernel.step(&mut w.toy) == Progress::More {
        let now = w.kernel.population();
        let freed: u32 = last
            .iter()
            .zip(&now)
            .map(|(old, new)| old.saturating_sub(*new))
            .sum();
        assert!(freed <= 64, "{freed} records in one step");
        assert!(w.is_running(w.root));
        last = now;
        steps += 1;
    }
    assert!(steps > 1000);
    w.check();
}

#[test]
fn a_thread_that_ends_itself_is_gone_and_its_task_goes_on() {
    let mut w = World::new();
    let child = w.child();
    let (a, b) = (w.thread(child, 10), w.thread(child, 10));
    w.run(a);
    w.kernel.thread_terminate(&mut w.toy, 0).unwrap();
    assert_eq!(w.kernel.context(a.thread), None);
    w.settle();
    w.port(b, 0);
    // Its slot of the window is the next one given.
    let c = w.thread(child, 10);
    w.port(c, 0);
}

#[test]
fn memory_low_is_told_once_for_each_shortage() {
    let mut w = World::new();
    let root = w.root;
    let bell = w.port(root, 0x33);
    let host = u64::from(w.boot.host_memory);
    let set = |w: &mut World, host, bell| {
        w.trap(root, |kernel, toy| {
            kernel.host_set_memory_low(toy, host, bell)
        })
    };
    assert_eq!(set(&mut w, bell, bell), Err(Kern::InvalidHost));
    assert_eq!(set(&mut w, host, host), Err(Kern::InvalidCapability));
    assert_eq!(set(&mut w, host, bell), Ok(()));
    for round in 0..3 {
        w.kernel.memory_low(&mut w.toy, 100 + round);
        w.kernel.memory_low(&mut w.toy, 200);
        let told = w.receive(root, bell, POLL).unwrap();
        assert_eq!(
            (told.info.id(), told.words[0]),
            (notify::KERNEL_MEMORY_LOW, 100 + round)
        );
        w.kernel.memory_low(&mut w.toy, 300);
        assert_eq!(
            w.receive(root, bell, POLL).unwrap().code,
            Err(Kern::ReceiveTimedOut)
        );
        w.kernel.memory_donated();
    }
    w.destroy(root, bell);
    w.kernel.memory_low(&mut w.toy, 1);
    w.settle();
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let before = w.kernel.population();
    w.toy.exhausted = true;
    let host = u64::from(w.boot.host_memory);
    let space = w.trap(root, |kernel, toy| kernel.space_create(toy, host));
    assert_eq!(space, Err(Kern::ResourceShortage));
    let make = |w: &mut World, task, start| {
        w.trap(root, |kernel, toy| kernel.thread_create(toy, task, start))
    };
    assert_eq!(make(&mut w, child.name, START), Err(Kern::ResourceShortage));
    let high = kernel_core::ThreadStart {
        ip: 1 << 47,
        ..START
    };
    assert_eq!(make(&mut w, child.name, high), Err(Kern::InvalidAddress));
    let keen = kernel_core::ThreadStart {
        priority: 32,
        ..START
    };
    assert_eq!(make(&mut w, child.name, keen), Err(Kern::InvalidValue));
    assert_eq!(make(&mut w, child.space, START), Err(Kern::InvalidTask));
    assert_eq!(w.kernel.population(), before);
}

#[test]
fn special_ports_are_set_by_who_has_the_task_and_read_by_the_task() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let port = w.port(root, 0);
    let set = |w: &mut World, task, index, name| {
        w.trap(root, |kernel, toy| {
            kernel.task_set_special_port(toy, task, index, name)
        })
    };
    assert_eq!(set(&mut w, port, 3, 0), Err(Kern::InvalidTask));
    for index in [0, 1, 2, 8, u64::MAX] {
        assert_eq!(
            set(&mut w, actor.child, index, 0),
            Err(Kern::InvalidArgument)
        );
    }
    assert_eq!(set(&mut w, actor.child, 3, port), Err(Kern::InvalidRight));
    w.make_send(root, port);
    assert_eq!(set(&mut w, actor.child, 3, port), Ok(()));
    let get = |w: &mut World, index| w.trap(actor, |kernel, _| kernel.task_get_special_port(index));
    let bootstrap = word(get(&mut w, 3).unwrap());
    assert_eq!(get(&mut w, 3).map(word), Ok(bootstrap));
    assert_eq!(w.deallocate(actor, bootstrap, 2), Ok(()));
    assert_eq!(get(&mut w, 4), Err(Kern::InvalidArgument));
    assert_eq!(get(&mut w, 0), Err(Kern::InvalidArgument));
    assert_eq!(get(&mut w, 7), Err(Kern::InvalidName));
    assert!(get(&mut w, 2).is_ok());
}

#[test]
fn no_trap_but_the_two_that_end_something_ends_its_caller() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let (faulter, other) = (w.thread(child, 10), w.thread(child, 10));
    // A task that serves its own exceptions, and takes that port down.
    let port = w.port(other, 0);
    w.make_send(other, port);
    let task = word(
        w.trap(other, |kernel, _| kernel.task_get_special_port(1))
            .unwrap(),
    );
    let index = SpecialPort::Exception as u64;
    w.trap(other, |kernel, toy| {
        kernel.task_set_special_port(toy, task, index, port)
    })
    .unwrap();
    w.run(faulter);
    let raised = w
        .kernel
        .raise_exception(&mut w.toy, exception::Kind::Software, 4, 0);
    assert_eq!(raised, Raised::Handled);
    w.settle();
    w.run(other);
    assert_eq!(w.kernel.port_destroy(&mut w.toy, port), Ok(()));
    assert!(w.kernel.context(other.thread).is_some());
    w.settle();
    assert!(w.kernel.context(other.thread).is_none());
    assert!(w.is_running(root));
}
