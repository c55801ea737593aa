//! Faults and exceptions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    exception::{self, Behavior},
    fault,
    message::{FOREVER, POLL},
    notify::{self, ExitStatus},
    right::{Disposition, SpecialPort},
    state::General,
    types::Prot,
};
use kernel_core::{Raised, Report, Resolved};
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

/// Has the running actor raise an exception of a kind.
fn raise(w: &mut World, actor: Actor, kind: exception::Kind) {
    w.run(actor);
    w.toy.at(actor.context).result = None;
    let raised = w.kernel.raise_exception(&mut w.toy, kind, 6, 0);
    assert_eq!(raised, Raised::Handled);
    w.settle();
}

fn handle(w: &mut World, target: u64, mask: u64, behavior: Behavior, name: u64) {
    let set = w.trap(w.root, |kernel, toy| {
        kernel.exception_ports_set(toy, [target, mask, behavior.bits().into(), name])
    });
    assert_eq!(set, Ok(()));
}

#[test]
fn each_kind_of_exception_has_a_handler_of_its_own() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let ports = [w.port(root, 1), w.port(root, 2)];
    ports.iter().for_each(|port| w.make_send(root, *port));
    handle(&mut w, actor.name, 1 << 3, Behavior::empty(), ports[0]);
    handle(
        &mut w,
        actor.child,
        exception::MASK_ALL,
        Behavior::empty(),
        ports[1],
    );
    raise(&mut w, actor, exception::Kind::Arithmetic);
    let got = w.receive(root, ports[0], POLL).unwrap();
    w.reply(root, got.token, &answer(0));
    raise(&mut w, actor, exception::Kind::Breakpoint);
    let got = w.receive(root, ports[1], POLL).unwrap();
    w.reply(root, got.token, &answer(0));
    let refused = |w: &mut World, words| {
        w.trap(root, |kernel, toy| kernel.exception_ports_set(toy, words))
            .unwrap_err()
    };
    assert_eq!(refused(&mut w, [ports[0], 2, 0, 0]), Kern::InvalidArgument);
    assert_eq!(
        refused(&mut w, [actor.name, 1, 0, 0]),
        Kern::InvalidArgument
    );
    assert_eq!(
        refused(&mut w, [actor.name, 2, 4, 0]),
        Kern::InvalidArgument
    );
    assert_eq!(refused(&mut w, [actor.name, 2, 0, 999]), Kern::InvalidRight);
}

#[test]
fn handlers_are_told_with_the_kinds_that_they_get() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let ports = [w.port(root, 1), w.port(root, 2)];
    ports.iter().for_each(|port| w.make_send(root, *port));
    handle(&mut w, actor.name, 0x4A, Behavior::empty(), ports[0]);
    handle(&mut w, actor.name, 0x04, Behavior::STATE, ports[0]);
    handle(&mut w, actor.name, 0x20, Behavior::empty(), ports[1]);
    let read = |w: &mut World, count: u64| {
        let registers = w.toy.at(root.context);
        let words = registers.body.chunks_exact(8).take(count as usize);
        let words = words.map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let told = words.map(exception::Handler::from_word);
        let rights = registers.rights.iter().map(|(name, _)| *name);
        told.map(|told| (told.mask, told.behavior.bits()))
            .zip(rights)
            .collect::<Vec<_>>()
    };
    let count = w
        .trap(root, |kernel, toy| {
            kernel.exception_ports_get(toy, actor.name, exception::MASK_ALL)
        })
        .unwrap();
    let all = [
        ((0x4A, 0), ports[0]),
        ((0x04, 2), ports[0]),
        ((0x20, 0), ports[1]),
    ];
    assert_eq!(read(&mut w, count), all);
    let count = w
        .trap(root, |kernel, toy| {
            kernel.exception_ports_swap(toy, [actor.name, 0x22, 0, 0])
        })
        .unwrap();
    let some = [((0x02, 0), ports[0]), ((0x20, 0), ports[1])];
    assert_eq!(read(&mut w, count), some);
    let count = w.trap(root, |kernel, toy| {
        kernel.exception_ports_get(toy, actor.name, 0x22)
    });
    assert_eq!(count, Ok(0));
}

#[test]
fn a_handler_is_told_who_it_was_and_with_which_registers() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let port = w.port(root, 1);
    w.make_send(root, port);
    let both = Behavior::IDENTITY | Behavior::STATE;
    handle(&mut w, actor.child, exception::MASK_ALL, both, port);
    for waits in [false, true] {
        w.toy.at(actor.context).general.rbx = 77;
        if waits {
            assert_eq!(w.receive(root, port, FOREVER), None);
        }
        raise(&mut w, actor, exception::Kind::BadInstruction);
        let got = match waits {
            true => w.result(root).unwrap(),
            false => w.receive(root, port, POLL).unwrap(),
        };
        assert_eq!((got.info.body(), got.info.rights()), (General::SIZE, 2));
        assert_eq!(
            (got.rights[0].0, got.rights[1].0),
            (actor.name, actor.child)
        );
        let mut state = General::from_bytes(&got.body).unwrap();
        assert_eq!(state.rbx, 77);
        // What could not be set is refused, and the token stays good.
        state.rip = 1 << 47;
        let lost = answer(0).body(&state.to_bytes());
        assert_eq!(
            w.reply(root, got.token, &lost).unwrap().code,
            Err(Kern::InvalidAddress)
        );
        let short = answer(0).body(&state.to_bytes()[..8]);
        assert_eq!(
            w.reply(root, got.token, &short).unwrap().code,
            Err(Kern::SendInvalidData)
        );
        (state.rip, state.rbx) = (0x1234, 78);
        let good = answer(0).body(&state.to_bytes());
        assert_eq!(w.reply(root, got.token, &good).unwrap().code, Ok(()));
        let set = w.toy.at(actor.context).general;
        assert_eq!((set.rip, set.rbx, set.flags), (0x1234, 78, 0x202));
        w.deallocate(root, actor.name, 1).unwrap();
        w.deallocate(root, actor.child, 1).unwrap();
    }
    // Nobody who was not trusted with it changes registers.
    handle(
        &mut w,
        actor.child,
        exception::MASK_ALL,
        Behavior::empty(),
        port,
    );
    raise(&mut w, actor, exception::Kind::BadInstruction);
    let got = w.receive(root, port, POLL).unwrap();
    let body = answer(0).body(&General::default().to_bytes());
    assert_eq!(
        w.reply(root, got.token, &body).unwrap().code,
        Err(Kern::SendInvalidData)
    );
}

#[test]
fn rights_in_an_exception_that_nobody_takes_are_given_back() {
    let mut w = World::new();
    let (root, actor) = (w.root, w.actor());
    let port = w.port(root, 1);
    w.make_send(root, port);
    let mask = exception::MASK_ALL;
    handle(&mut w, actor.name, mask, Behavior::IDENTITY, port);
    raise(&mut w, actor, exception::Kind::BadInstruction);
    w.trap(root, |kernel, toy| kernel.thread_abort(toy, actor.name))
        .unwrap();
    raise(&mut w, actor, exception::Kind::BadInstruction);
    let got = w.receive(root, port, POLL).unwrap();
    assert_eq!(got.rights[0].0, actor.name);
    // Denied: the task has no handler.
    w.reply(root, got.token, &answer(5));
    w.settle();
    assert_eq!(w.kernel.context(actor.thread), None);
}
