//! Who runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    info::{TaskInfo, ThreadInfo},
    message::FOREVER,
};
use model::{Letter, World};

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

fn words<const N: usize>(w: &mut World) -> [u64; N] {
    let body = &w.toy.at(w.root.context).body;
    core::array::from_fn(|index| {
        u64::from_le_bytes(body[8 * index..8 * index + 8].try_into().unwrap())
    })
}

#[test]
fn samples_charge_who_runs_and_a_task_keeps_what_its_threads_had() {
    let mut w = World::new();
    let root = w.root;
    let child = w.child();
    let threads = [w.thread(child, 10), w.thread(child, 10)];
    for (thread, time) in [(threads[0], 7), (threads[1], 5), (threads[0], 1)] {
        w.run(thread);
        w.kernel.sample(time);
    }
    let times = |w: &mut World| {
        let of = threads.map(|thread| {
            let told = w.trap(root, |kernel, toy| kernel.thread_info(toy, thread.name));
            told.map(|_| ThreadInfo::from_words(words(w)).unwrap().time)
        });
        let told = w.trap(root, |kernel, toy| kernel.task_info(toy, child.name));
        told.unwrap();
        (of, TaskInfo::from_words(words(w)).time)
    };
    assert_eq!(times(&mut w), ([Ok(8), Ok(5)], 13));
    w.trap(root, |kernel, toy| {
        kernel.thread_terminate(toy, threads[0].name)
    })
    .unwrap();
    w.settle();
    assert_eq!(times(&mut w), ([Err(Kern::InvalidArgument), Ok(5)], 13));
    // Nobody runs: nobody had the time.
    let sleep = w.port(root, 0);
    w.receive(root, sleep, 50);
    w.run(threads[1]);
    let inbox = w.port(threads[1], 0);
    w.receive(threads[1], inbox, FOREVER);
    assert!(w.kernel.running().is_none());
    w.kernel.sample(100);
    w.expire(60);
    assert_eq!(times(&mut w).1, 13);
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
fn threads_that_call_each_other_do_not_keep_their_equals_from_running() {
    let mut w = World::new();
    let server = w.child();
    let server = w.thread(server, 20);
    let child = w.child();
    let (client, other) = (w.thread(child, 10), w.thread(child, 10));
    let (door, key) = w.door(server, client);
    assert_eq!(w.receive(server, door, FOREVER), None);
    // The root would have its turn as well.
    let sleep = w.port(w.root, 0);
    w.receive(w.root, sleep, FOREVER);
    w.run(client);
    let mut now = 0;
    for _ in 0..100 {
        let _ = w.call(client, key, &Letter::new(1, 0));
        assert!(w.is_running(server));
        let token = w.result(server).unwrap().token;
        assert_eq!(
            w.reply_receive(server, token, &Letter::new(2, 0), door),
            None
        );
        now += kernel_core::SLICE / 10;
        if w.kernel.alarm(|| now) <= now {
            w.expire(now);
        }
        if w.is_running(other) {
            assert!(now <= 2 * kernel_core::SLICE);
            return;
        }
        assert!(w.is_running(client));
    }
    panic!("the other thread never ran");
}
