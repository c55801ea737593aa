//! Ends of ports, threads and tasks; faults and exceptions; what is told to whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern, exception, fault,
    message::{FOREVER, POLL},
    notify::{self, ExitStatus},
    right::{Disposition, SpecialPort},
    types::Prot,
};
use kernel_core::{Progress, Raised, Report, Resolved, SpaceId};
use model::{Actor, Letter, Received, World, word};

/// Takes the fault that lies at the root's map port.
fn take_fault(w: &mut World) -> Received {
    let root = w.root;
    w.receive(root, w.map, POLL).unwrap()
}

fn answer(code: u64) -> Letter {
    Letter {
        id: fault::FAULT_REPLY,
        words: [code, 0, 0, 0, 0, 0],
        ..Letter::default()
    }
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
        kernel.port_request_notification(toy, child.name, 0, bell)
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
fn a_fault_is_a_call_of_the_kernel_to_the_map_port() {
    let mut w = World::new();
    let actor = w.actor();
    w.fault(actor, 0x1_2345);
    let got = take_fault(&mut w);
    assert!(got.info.is_kernel());
    assert_eq!((got.info.id(), got.payload), (fault::FAULT, 0x3A9));
    let fault = fault::Fault::from_words(got.words);
    assert_eq!((fault.address, fault.access), (0x1_2345, Prot::WRITE));
    assert_eq!(
        (fault.ip, fault.thread),
        (0x40_0000 + actor.context.0, u64::from(actor.thread.index()))
    );
    let root = w.root;
    let words = [0, 0x1_2003, 55, 9, 0, 0];
    let letter = Letter {
        id: fault::FAULT_REPLY,
        words,
        ..Letter::default()
    };
    // Refused by the machine: the token stays good. Then in two steps.
    w.toy.resolve = vec![
        Resolved::Done,
        Resolved::Again,
        Resolved::Refused(Kern::ResourceShortage),
    ];
    let refused = w.reply(root, got.token, &letter).unwrap();
    assert_eq!(refused.code, Err(Kern::ResourceShortage));
    let with_right = letter.clone().right(w.map, Disposition::MakeSend);
    assert_eq!(
        w.reply(root, got.token, &with_right).unwrap().code,
        Err(Kern::SendInvalidRight)
    );
    assert_eq!(w.reply(root, got.token, &letter).unwrap().code, Ok(()));
    assert_eq!(w.toy.answers.len(), 1);
    assert_eq!(
        (w.toy.answers[0].task, w.toy.answers[0].words),
        (actor.task, words)
    );
    w.run(actor);
    assert_eq!(
        w.result(actor),
        None,
        "a fault leaves no result in the registers"
    );
}

#[test]
fn a_fault_goes_straight_to_a_waiting_server_and_back() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    assert_eq!(w.receive(root, w.map, FOREVER), None);
    w.fault(actor, 0x7000);
    assert!(w.is_running(root));
    let token = w.result(root).unwrap().token;
    assert_eq!(w.reply_receive(root, token, &answer(0), w.map), None);
    assert!(w.is_running(actor));
}

#[test]
fn a_denied_fault_is_an_exception_first_of_the_thread_then_of_the_task() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let (first, second) = (w.port(root, 1), w.port(root, 2));
    w.make_send(root, first);
    w.make_send(root, second);
    w.trap(root, |kernel, toy| {
        kernel.thread_set_exception_port(toy, actor.name, first)
    })
    .unwrap();
    let index = SpecialPort::Exception as u64;
    w.trap(root, |kernel, toy| {
        kernel.task_set_special_port(toy, actor.child, index, second)
    })
    .unwrap();
    w.fault(actor, 0x9000);
    let token = take_fault(&mut w).token;
    w.reply(
        root,
        token,
        &answer(u64::from(Kern::ProtectionFailure.raw())),
    );
    let got = w.receive(root, first, POLL).unwrap();
    assert_eq!(
        (got.info.id(), got.info.is_kernel(), got.payload),
        (exception::EXCEPTION, true, 1)
    );
    let raised = exception::Exception::from_words(got.words).unwrap();
    assert_eq!(raised.kind, exception::Kind::BadAccess);
    assert_eq!((raised.code, raised.subcode), (2, 0x9000));
    w.reply(root, got.token, &answer(5));
    let got = w.receive(root, second, POLL).unwrap();
    assert_eq!(got.payload, 2);
    w.reply(root, got.token, &answer(0));
    w.run(actor);
    // Nobody takes it: the task ends with a report.
    w.trap(root, |kernel, toy| {
        kernel.thread_set_exception_port(toy, actor.name, 0)
    })
    .unwrap();
    w.run(actor);
    let raised = w
        .kernel
        .raise_exception(&mut w.toy, exception::Kind::Arithmetic, 0, 0);
    assert_eq!(raised, Raised::Handled);
    let got = w.receive(root, second, POLL).unwrap();
    w.reply(root, got.token, &answer(5));
    w.settle();
    let status = ExitStatus::Exception { kind: 3, code: 0 }.to_word();
    assert!(matches!(w.toy.reports[0], Report::Unhandled { task, .. } if task == actor.task));
    assert_eq!(
        w.toy.reports[1],
        Report::Ended {
            task: actor.task,
            status
        }
    );
}

#[test]
fn a_dead_map_port_makes_a_fault_a_memory_error() {
    let mut w = World::new();
    let (root, actor, other) = (w.root, w.actor(), w.actor());
    let catcher = w.port(root, 0);
    w.make_send(root, catcher);
    for thread in [actor, other] {
        w.trap(root, |kernel, toy| {
            kernel.thread_set_exception_port(toy, thread.name, catcher)
        })
        .unwrap();
    }
    let caught = |w: &mut World| {
        let got = w.receive(root, catcher, POLL).unwrap();
        let raised = exception::Exception::from_words(got.words).unwrap();
        (raised.kind, raised.code, raised.subcode, raised.thread)
    };
    let expected = |actor: Actor, address| {
        let code = u64::from(Kern::MemoryError.raw());
        (
            exception::Kind::BadAccess,
            code,
            address,
            u64::from(actor.thread.index()),
        )
    };
    w.fault(actor, 0x1000);
    w.destroy(root, w.map);
    assert_eq!(caught(&mut w), expected(actor, 0x1000));
    w.fault(other, 0x2000);
    assert_eq!(caught(&mut w), expected(other, 0x2000));
}

#[test]
fn a_task_without_anybody_above_it_is_fatal() {
    let mut w = World::new();
    let root = w.root;
    w.run(root);
    assert_eq!(
        w.kernel.raise_fault(&mut w.toy, 0x10, Prot::READ),
        Raised::Fatal
    );
    let raised = w
        .kernel
        .raise_exception(&mut w.toy, exception::Kind::Breakpoint, 3, 0);
    assert_eq!(raised, Raised::Fatal);
    w.check();
    let me = word(
        w.trap(root, |kernel, _| kernel.task_get_special_port(1))
            .unwrap(),
    );
    w.run(root);
    w.kernel.task_terminate(&mut w.toy, me, 9).unwrap();
    w.settle();
    assert_eq!(w.toy.reports, [Report::RootEnded { status: 9 }]);
    assert_eq!(w.kernel.running(), None);
    // What is left are the three host ports and the kernel's own notice.
    assert_eq!(w.kernel.population(), [0, 0, 3, 0, 1]);
}

#[test]
fn a_faulting_thread_that_is_aborted_voids_its_token_each_time() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let abort = |w: &mut World| {
        w.trap(root, |kernel, toy| kernel.thread_abort(toy, actor.name))
            .unwrap();
    };
    w.fault(actor, 0x1000);
    let first = take_fault(&mut w).token;
    abort(&mut w);
    // The notice of the first is still unread: the second fault waits for it.
    w.fault(actor, 0x2000);
    let told = take_fault(&mut w);
    assert_eq!((told.info.id(), told.words[0]), (notify::CANCELLED, first));
    w.fault(actor, 0x2000);
    let second = take_fault(&mut w);
    assert_eq!(second.info.id(), fault::FAULT);
    assert_eq!(
        w.reply(root, first, &answer(0)).unwrap().code,
        Err(Kern::SendInvalidReply)
    );
    w.trap(root, |kernel, toy| kernel.thread_terminate(toy, actor.name))
        .unwrap();
    let told = take_fault(&mut w);
    assert_eq!(
        (told.info.id(), told.words[0]),
        (notify::CANCELLED, second.token)
    );
    assert_eq!(
        w.reply(root, second.token, &answer(0)).unwrap().code,
        Err(Kern::SendInvalidReply)
    );
    let gone = w.trap(root, |kernel, toy| kernel.thread_abort(toy, actor.name));
    assert_eq!(gone, Err(Kern::InvalidArgument));
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
fn priorities_are_kept_inside_the_band_and_preempt() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let low = w.thread(child, 3);
    assert!(w.is_running(root));
    let control = u64::from(w.boot.host_control);
    let band = |w: &mut World, host, band| {
        w.trap(root, |kernel, _| {
            kernel.task_set_band(host, child.name, band)
        })
    };
    assert_eq!(band(&mut w, child.name, 5), Err(Kern::InvalidHost));
    assert_eq!(band(&mut w, control, 32), Err(Kern::InvalidValue));
    assert_eq!(band(&mut w, control, 5), Ok(()));
    let high = w.thread(child, 31);
    assert!(w.is_running(root), "its band holds it down");
    assert_eq!(band(&mut w, control, 20), Ok(()));
    assert!(w.is_running(high));
    let inbox = w.port(high, 0);
    w.receive(high, inbox, 50);
    assert!(w.is_running(root));
    w.expire(50);
    assert!(w.is_running(high), "it woke and is more important");
    w.receive(high, inbox, FOREVER);
    let sleep = w.port(root, 0);
    w.receive(root, sleep, 60);
    assert!(w.is_running(low));
    w.expire(70);
    assert!(w.is_running(root));
}

#[test]
fn equals_take_turns_when_slices_end_or_one_yields() {
    let mut w = World::new();
    let child = w.child();
    let threads: Vec<_> = (0..3).map(|_| w.thread(child, 10)).collect();
    w.run(threads[0]);
    assert_eq!(w.kernel.alarm(|| 1000), 1000 + kernel_core::SLICE);
    assert_eq!(w.kernel.alarm(|| 9999), 1000 + kernel_core::SLICE);
    w.expire(500);
    assert!(w.is_running(threads[0]));
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(w.kernel.running().unwrap().thread);
        w.kernel.thread_yield();
        w.check();
    }
    assert_eq!(seen[..4], seen[4..]);
    for thread in &threads {
        assert!(seen.contains(&thread.thread));
    }
    let now = w.kernel.alarm(|| 0);
    let running = w.kernel.running();
    w.expire(now);
    assert_ne!(w.kernel.running(), running);
}

#[test]
fn a_direct_switch_yields_to_a_more_important_thread() {
    let mut w = World::new();
    let (server, client) = (w.child(), w.actor());
    let server = w.thread(server, 5);
    let (door, key) = w.door(server, client);
    w.receive(server, door, FOREVER);
    w.run(client);
    w.call(client, key, &Letter::new(1, 0));
    assert!(
        w.is_running(w.root),
        "the root is ready and above the server"
    );
    assert_eq!(w.result(server).unwrap().code, Ok(()));
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
    let start = kernel_core::ThreadStart {
        ip: 0x1000,
        sp: 0x2000,
        argument: 0,
        priority: 3,
    };
    let make = |w: &mut World, task, start| {
        w.trap(root, |kernel, toy| kernel.thread_create(toy, task, start))
    };
    assert_eq!(make(&mut w, child.name, start), Err(Kern::ResourceShortage));
    let high = kernel_core::ThreadStart {
        ip: 1 << 47,
        ..start
    };
    assert_eq!(make(&mut w, child.name, high), Err(Kern::InvalidAddress));
    let keen = kernel_core::ThreadStart {
        priority: 32,
        ..start
    };
    assert_eq!(make(&mut w, child.name, keen), Err(Kern::InvalidValue));
    assert_eq!(make(&mut w, child.space, start), Err(Kern::InvalidTask));
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
