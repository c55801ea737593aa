//! Faults and exceptions.
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
