//! Several processors: who runs where, and who is told to look.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{Kern, message::FOREVER, trap::ANY_PROCESSOR};
use model::{Actor, Letter, World};

fn world(processors: usize) -> World {
    let mut w = World::new();
    w.set_processors(processors);
    w
}

/// Has a processor look at what it should run; says what it does.
fn look(w: &mut World, processor: usize) -> Option<kernel_core::ThreadId> {
    w.kernel.take_over(processor);
    w.kernel.look();
    w.settle();
    w.kernel.running().map(|running| running.thread)
}

fn pin(w: &mut World, actor: Actor, processor: u64) -> Result<(), Kern> {
    let root = w.root;
    w.trap(root, |kernel, _| {
        kernel.thread_set_processor(actor.name, processor)
    })
}

#[test]
fn a_new_thread_goes_to_a_processor_that_idles_which_is_told() {
    let mut w = world(3);
    let child = w.child();
    let _ = w.kernel.take_pokes();
    let first = w.thread(child, 10);
    assert_eq!(w.kernel.take_pokes(), 0b010);
    let second = w.thread(child, 10);
    assert_eq!(w.kernel.take_pokes(), 0b100);
    assert_eq!(look(&mut w, 2), Some(second.thread));
    assert_eq!(look(&mut w, 1), Some(first.thread));
    assert_eq!(look(&mut w, 0), Some(w.root.thread));
}

#[test]
fn a_processor_that_idles_takes_what_waits_for_others() {
    let mut w = world(2);
    let child = w.child();
    let busy = w.thread(child, 10);
    assert_eq!(look(&mut w, 1), Some(busy.thread));
    let waiting = w.thread(child, 10);
    let inbox = w.port(busy, 0);
    w.receive(busy, inbox, FOREVER);
    assert_eq!(look(&mut w, 1), Some(waiting.thread));
}

#[test]
fn the_least_important_of_all_processors_is_preempted() {
    let mut w = world(2);
    let child = w.child();
    let low = w.thread(child, 3);
    assert_eq!(look(&mut w, 1), Some(low.thread));
    w.kernel.take_over(0);
    let _ = w.kernel.take_pokes();
    let high = w.thread(child, 20);
    assert_eq!(w.kernel.take_pokes(), 0b10);
    assert!(w.is_running(w.root));
    assert_eq!(look(&mut w, 1), Some(high.thread));
    assert_eq!(look(&mut w, 0), Some(w.root.thread), "it is more important");
}

#[test]
fn what_was_preempted_goes_on_elsewhere() {
    let mut w = world(2);
    let child = w.child();
    let high = w.thread(child, 20);
    let inbox = w.port(high, 0);
    w.make_send(high, inbox);
    pin(&mut w, high, 0).unwrap();
    w.receive(high, inbox, 50);
    assert_eq!(look(&mut w, 1), None);
    assert_eq!(look(&mut w, 0), Some(w.root.thread));
    let _ = w.kernel.take_pokes();
    w.expire(60);
    assert_eq!(w.kernel.take_pokes(), 0b10);
    assert!(w.is_running(high));
    assert_eq!(look(&mut w, 1), Some(w.root.thread));
}

#[test]
fn of_two_that_wake_where_nobody_runs_one_goes_to_another_that_idles() {
    let mut w = world(2);
    let child = w.child();
    let pair = [w.thread(child, 10), w.thread(child, 10)];
    for actor in pair {
        let inbox = w.port(actor, 0);
        w.receive(actor, inbox, 50);
    }
    let root = w.root;
    let inbox = w.port(root, 0);
    w.receive(root, inbox, FOREVER);
    assert_eq!((look(&mut w, 1), look(&mut w, 0)), (None, None));
    let _ = w.kernel.take_pokes();
    w.expire(60);
    assert_eq!(w.kernel.take_pokes(), 0b10);
    let both = [look(&mut w, 0), look(&mut w, 1)].map(Option::unwrap);
    assert!(pair.iter().all(|actor| both.contains(&actor.thread)));
}

#[test]
fn a_call_takes_its_server_along_unless_it_is_pinned() {
    for pinned in [false, true] {
        let mut w = world(2);
        let (server, client) = (w.actor(), w.actor());
        let port = w.port(server, 0);
        w.make_send(server, port);
        let name = w.share(server, port, client);
        if pinned {
            pin(&mut w, server, 1).unwrap();
            pin(&mut w, client, 0).unwrap();
            let root = w.root;
            pin(&mut w, root, 0).unwrap();
        }
        w.receive(server, port, FOREVER);
        w.run(client);
        let here = w.kernel.processor_of(client.thread).unwrap();
        let _ = w.kernel.take_pokes();
        w.call(client, name, &Letter::new(1, 7));
        let there = w.kernel.processor_of(server.thread);
        assert_eq!(there == Some(here), !pinned);
        if pinned {
            assert_eq!(w.kernel.take_pokes(), 0b10);
            assert_eq!(look(&mut w, 1), Some(server.thread));
        }
    }
}

#[test]
fn a_thread_that_is_ended_elsewhere_leaves_its_processor() {
    let mut w = world(2);
    let child = w.child();
    let victim = w.thread(child, 10);
    assert_eq!(look(&mut w, 1), Some(victim.thread));
    w.kernel.take_over(0);
    let _ = w.kernel.take_pokes();
    let root = w.root;
    w.trap(root, |kernel, toy| {
        kernel.thread_terminate(toy, victim.name)
    })
    .unwrap();
    assert_eq!(w.kernel.take_pokes(), 0b10);
    assert_eq!(look(&mut w, 1), None);
}

#[test]
fn pinning_moves_a_thread_and_holds_it() {
    let mut w = world(2);
    let child = w.child();
    let thread = w.thread(child, 10);
    assert_eq!(look(&mut w, 1), Some(thread.thread));
    w.kernel.take_over(0);
    let _ = w.kernel.take_pokes();
    pin(&mut w, thread, 0).unwrap();
    assert_eq!(w.kernel.take_pokes(), 0b10, "it runs elsewhere");
    assert_eq!(w.kernel.processor_of(thread.thread), Some(1));
    assert_eq!(look(&mut w, 1), None, "nobody may be taken");
    assert_eq!(w.kernel.processor_of(thread.thread), Some(0));
    pin(&mut w, thread, ANY_PROCESSOR).unwrap();
    assert_eq!(look(&mut w, 1), Some(thread.thread));
    assert_eq!(pin(&mut w, thread, 2), Err(Kern::InvalidValue));
}

#[test]
fn equals_on_one_processor_spread_at_the_end_of_a_slice() {
    let mut w = world(2);
    let child = w.child();
    let threads: Vec<_> = (0..5).map(|_| w.thread(child, 10)).collect();
    let mut ran = vec![0; threads.len() + 1];
    let mut now = 0;
    for _ in 0..60 {
        now += 2 * kernel_core::SLICE;
        for processor in 0..2 {
            w.kernel.take_over(processor);
            let _ = w.kernel.alarm(|| now - kernel_core::SLICE);
            w.expire(now);
            let running = w.kernel.running().unwrap().thread;
            let index = threads.iter().position(|actor| actor.thread == running);
            ran[index.unwrap_or(threads.len())] += 1;
        }
    }
    assert!(ran.iter().all(|times| *times >= 15), "{ran:?}");
}
