//! What tasks are charged with, and what becomes of it when rights move and tasks end. That the sums are
//! right is checked by `Kernel::check` after every operation; here lie the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    device::LINE_NONE,
    message::{FOREVER, POLL},
    notify::Request,
    right::Disposition,
};
use kernel_core::Bill;
use model::{Actor, Letter, START, World, word};

/// A quota without end.
const ALL: u64 = u64::MAX;

fn used(w: &mut World, actor: Actor) -> u64 {
    quota(w, actor).0
}

fn quota(w: &mut World, actor: Actor) -> (u64, u64) {
    let name = match actor.child {
        0 => word(
            w.trap(w.root, |kernel, _| kernel.task_get_special_port(1))
                .unwrap(),
        ),
        child => child,
    };
    w.trap(w.root, |kernel, _| kernel.task_get_quota(name))
        .unwrap()
}

fn used_by_root(w: &mut World) -> u64 {
    used(w, w.root)
}

/// Leaves an actor's task this much more than it uses.
fn leave(w: &mut World, actor: Actor, bytes: u64) {
    let control = u64::from(w.boot.host_control);
    let limit = used(w, actor) + bytes;
    w.trap(w.root, |kernel, _| {
        kernel.task_set_quota(control, actor.child, limit)
    })
    .unwrap();
}

#[test]
fn everything_that_a_task_makes_is_charged_to_it_and_given_back() {
    let mut w = World::new();
    let a = w.actor();
    let before = used(&mut w, a);
    let port = w.port(a, 0);
    let with_port = used(&mut w, a);
    assert!(with_port > before);
    let set = word(w.trap(a, |kernel, _| kernel.port_set_allocate()).unwrap());
    let with_set = used(&mut w, a);
    assert!(with_set > with_port);
    w.make_send(a, port);
    let dead_name = Request::DeadName as u64;
    w.trap(a, |kernel, toy| {
        kernel
            .port_request_notification(toy, port, dead_name, port, 1)
            .map(drop)
    })
    .unwrap();
    let with_request = used(&mut w, a);
    assert!(with_request > with_set);
    let sent = w.send(a, port, &Letter::new(1, 0).body(&[7; 1000]), POLL);
    assert_eq!(sent.unwrap().code, Ok(()));
    assert!(used(&mut w, a) > with_request + 1000);
    assert_eq!(w.receive(a, port, POLL).unwrap().code, Ok(()));
    assert_eq!(used(&mut w, a), with_request);
    w.trap(a, |kernel, toy| {
        kernel
            .port_request_notification(toy, port, dead_name, 0, 1)
            .map(drop)
    })
    .unwrap();
    w.destroy(a, set);
    w.destroy(a, port);
    assert_eq!(used(&mut w, a), before);
}

#[test]
fn over_its_quota_a_task_makes_nothing_and_nothing_has_changed() {
    let mut w = World::new();
    let a = w.actor();
    let port = w.port(a, 0);
    w.make_send(a, port);
    leave(&mut w, a, 0);
    let before = (w.kernel.population(), quota(&mut w, a));
    let short = Err(Kern::ResourceShortage);
    let made = w.trap(a, |kernel, _| kernel.port_allocate(0));
    assert_eq!(made, short);
    assert_eq!(w.trap(a, |kernel, _| kernel.port_set_allocate()), short);
    let asked = w.trap(a, |kernel, toy| {
        kernel
            .port_request_notification(toy, port, Request::DeadName as u64, port, 1)
            .map(drop)
    });
    assert_eq!(asked, Err(Kern::ResourceShortage));
    let sent = w.send(a, port, &Letter::new(1, 0), FOREVER);
    assert_eq!(sent.unwrap().code, Err(Kern::SendNoBuffer));
    let thread = w.trap(w.root, |kernel, toy| {
        kernel.thread_create(toy, a.child, START)
    });
    assert_eq!(thread, short);
    assert_eq!((w.kernel.population(), quota(&mut w, a)), before);
    leave(&mut w, a, 1 << 20);
    assert!(w.trap(a, |kernel, _| kernel.port_allocate(0)).is_ok());
}

#[test]
fn what_is_queued_is_paid_for_by_the_receiver_and_refused_to_the_sender() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (door, key) = w.door(b, a);
    leave(&mut w, b, 2500);
    let (mine, theirs) = (used(&mut w, a), used(&mut w, b));
    let letter = Letter::new(1, 0).body(&[7; 2000]);
    assert_eq!(w.send(a, key, &letter, POLL).unwrap().code, Ok(()));
    assert_eq!(used(&mut w, a), mine);
    assert!(used(&mut w, b) > theirs + 2000);
    let refused = w.send(a, key, &letter, POLL).unwrap().code;
    assert_eq!(refused, Err(Kern::SendNoBuffer));
    // What goes straight to somebody who waits needs no buffer.
    assert_eq!(w.receive(b, door, POLL).unwrap().code, Ok(()));
    assert_eq!(w.receive(b, door, FOREVER), None);
    assert_eq!(w.send(a, key, &letter, POLL).unwrap().code, Ok(()));
    assert_eq!(used(&mut w, b), theirs);
}

#[test]
fn a_receive_right_takes_its_load_along_wherever_it_goes() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (door, key) = w.door(b, a);
    let (mine, theirs) = (used(&mut w, a), used(&mut w, b));
    // A port with a message, in the queue of a port that is itself sent.
    let (inner, outer) = (w.port(a, 0), w.port(a, 0));
    w.make_send(a, inner);
    w.make_send(a, outer);
    let letter = Letter::new(1, 0).body(&[7; 3000]);
    assert_eq!(w.send(a, inner, &letter, POLL).unwrap().code, Ok(()));
    let load = used(&mut w, a) - mine;
    let carry = |name| Letter::new(2, 0).right(name, Disposition::MoveReceive);
    assert_eq!(w.send(a, outer, &carry(inner), POLL).unwrap().code, Ok(()));
    assert_eq!(w.send(a, key, &carry(outer), POLL).unwrap().code, Ok(()));
    assert_eq!(used(&mut w, a), mine);
    assert!(used(&mut w, b) > theirs + load);
    // What is sent to the innermost is charged to him who will have it.
    let before = used(&mut w, b);
    assert_eq!(w.send(a, inner, &letter, POLL).unwrap().code, Ok(()));
    assert!(used(&mut w, b) > before + 3000);
    let got = w.receive(b, door, POLL).unwrap();
    w.destroy(b, got.rights[0].0);
    assert_eq!(used(&mut w, b), theirs);
}

#[test]
fn a_receive_right_that_its_receiver_may_not_have_stays_with_the_sender() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (_, key) = w.door(b, a);
    let port = w.port(a, 0);
    w.make_send(a, port);
    for _ in 0..4 {
        let letter = Letter::new(1, 0).body(&[7; 4000]);
        assert_eq!(w.send(a, port, &letter, POLL).unwrap().code, Ok(()));
    }
    leave(&mut w, b, 8000);
    let before = (used(&mut w, a), used(&mut w, b), w.kernel.population());
    let letter = Letter::new(2, 0).right(port, Disposition::MoveReceive);
    let refused = w.send(a, key, &letter, POLL).unwrap().code;
    assert_eq!(refused, Err(Kern::SendNoBuffer));
    assert_eq!(
        (used(&mut w, a), used(&mut w, b), w.kernel.population()),
        before
    );
    // An answer that brings too much brings nothing, and its receiver hears it.
    let (back, call) = w.door(a, b);
    assert_eq!(w.receive(a, back, FOREVER), None);
    assert_eq!(w.call(b, call, &Letter::new(3, 0)), None);
    let question = w.result(a).unwrap();
    assert_eq!(
        w.reply(a, question.token, &letter).map(|sent| sent.code),
        Some(Ok(()))
    );
    let answer = w.result(b).unwrap();
    assert_eq!(answer.code, Err(Kern::ReceiveNoSpace));
}

#[test]
fn what_a_task_may_have_is_part_of_what_its_maker_may_have() {
    let mut w = World::new();
    let control = u64::from(w.boot.host_control);
    let a = w.actor();
    let before = used_by_root(&mut w);
    let (inside, limit) = quota(&mut w, a);
    w.trap(w.root, |kernel, _| {
        kernel.task_set_quota(control, a.child, limit + 5000)
    })
    .unwrap();
    assert_eq!(used_by_root(&mut w), before + 5000);
    let low = w.trap(w.root, |kernel, _| {
        kernel.task_set_quota(control, a.child, inside - 1)
    });
    assert_eq!(low, Err(Kern::InvalidValue));
    let wrong = w.trap(a, |kernel, _| {
        kernel.task_set_quota(control, a.child, limit)
    });
    assert_eq!(wrong, Err(Kern::InvalidHost));
    let all = w.trap(w.root, |kernel, _| {
        kernel.task_set_quota(control, a.child, ALL)
    });
    assert_eq!(all, Ok(()));
    w.trap(w.root, |kernel, toy| kernel.task_terminate(toy, a.child, 0))
        .unwrap();
    assert!(used_by_root(&mut w) < before - limit);
}

#[test]
fn the_tables_of_a_space_are_charged_to_who_made_it_as_long_as_it_lives() {
    let mut w = World::new();
    let a = w.actor();
    let (before, limit) = quota(&mut w, a);
    let payer = a.task;
    let left = |w: &World| w.kernel.tables_left(Some(payer));
    let bill = |w: &mut World, before, after| {
        w.kernel.bill(Bill {
            payer,
            before,
            after,
        });
        w.kernel.check().unwrap();
    };
    assert_eq!(w.kernel.tables_left(None), u32::MAX);
    assert_eq!(u64::from(left(&w)), (limit - before) / 4096);
    bill(&mut w, 0, 8192);
    assert_eq!(used(&mut w, a), before + 8192);
    // What was made is charged, also if that is more than there was left.
    bill(&mut w, 8192, limit + 4096);
    assert_eq!(left(&w), 0);
    bill(&mut w, limit + 4096, 0);
    assert_eq!(used(&mut w, a), before);
    // The end of its maker does not end a space; nobody pays for more of it then.
    bill(&mut w, 0, 4096);
    let child = a.child;
    w.trap(w.root, |kernel, toy| kernel.task_terminate(toy, child, 0))
        .unwrap();
    w.settle();
    assert_eq!(left(&w), 0);
    bill(&mut w, 4096, 0);
}

#[test]
fn an_interrupt_is_charged_to_who_made_it_until_nobody_has_it() {
    let mut w = World::new();
    let notify = w.port(w.root, 0);
    let device = u64::from(w.boot.device);
    let before = used_by_root(&mut w);
    let (name, _) = w
        .trap(w.root, |kernel, toy| {
            kernel.interrupt_create(toy, device, LINE_NONE, notify)
        })
        .unwrap();
    assert!(used_by_root(&mut w) > before);
    w.trap(w.root, |kernel, toy| {
        kernel.port_deallocate(toy, name.into(), 1)
    })
    .unwrap();
    w.settle();
    assert_eq!(used_by_root(&mut w), before);
}
