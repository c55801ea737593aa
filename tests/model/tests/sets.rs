//! Ports in several sets at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::{
    Kern,
    message::{FOREVER, POLL},
    right::Disposition,
};
use model::{Actor, Letter, World, word};

fn set(w: &mut World, actor: Actor) -> u64 {
    let made = w.trap(actor, |kernel, _| kernel.port_set_allocate());
    word(made.unwrap())
}

fn port(w: &mut World, actor: Actor, payload: u64) -> u64 {
    let port = w.port(actor, payload);
    w.make_send(actor, port);
    port
}

fn insert(w: &mut World, actor: Actor, port: u64, set: u64) -> Result<(), Kern> {
    w.trap(actor, |kernel, toy| {
        kernel.port_insert_member(toy, port, set)
    })
}

fn extract(w: &mut World, actor: Actor, port: u64, set: u64) -> Result<(), Kern> {
    w.trap(actor, |kernel, toy| {
        kernel.port_extract_member(toy, port, set)
    })
}

fn send(w: &mut World, actor: Actor, to: u64, word: u64) {
    let sent = w.send(actor, to, &Letter::new(1, word), POLL).unwrap();
    assert_eq!(sent.code, Ok(()));
}

/// The first word that can be received.
fn next(w: &mut World, actor: Actor, from: u64) -> Option<u64> {
    let got = w.receive(actor, from, POLL).unwrap();
    got.code.ok().map(|()| got.words[0])
}

#[test]
fn a_port_is_received_from_through_each_of_its_sets_and_itself() {
    let mut w = World::new();
    let root = w.root;
    let sets: Vec<_> = (0..3).map(|_| set(&mut w, root)).collect();
    let port = port(&mut w, root, 0);
    // What was queued before it joined can be received too.
    send(&mut w, root, port, 1);
    for set in &sets {
        assert_eq!(insert(&mut w, root, port, *set), Ok(()));
        assert_eq!(insert(&mut w, root, port, *set), Err(Kern::AlreadyInSet));
    }
    for word in 2..5 {
        send(&mut w, root, port, word);
    }
    for (from, word) in [(sets[2], 1), (sets[0], 2), (port, 3), (sets[1], 4)] {
        assert_eq!(next(&mut w, root, from), Some(word));
    }
    assert!(sets.iter().all(|set| next(&mut w, root, *set).is_none()));
    assert_eq!(extract(&mut w, root, port, sets[1]), Ok(()));
    assert_eq!(extract(&mut w, root, port, sets[1]), Err(Kern::NotInSet));
    send(&mut w, root, port, 5);
    assert_eq!(next(&mut w, root, sets[1]), None);
    assert_eq!(next(&mut w, root, sets[0]), Some(5));
    // Moved, it is in one set and no other.
    let alone = set(&mut w, root);
    w.trap(root, |kernel, toy| {
        kernel.port_move_member(toy, port, alone)
    })
    .unwrap();
    send(&mut w, root, port, 6);
    assert!(sets.iter().all(|set| next(&mut w, root, *set).is_none()));
    assert_eq!(next(&mut w, root, alone), Some(6));
    let out = |w: &mut World| w.trap(root, |kernel, toy| kernel.port_move_member(toy, port, 0));
    assert_eq!(out(&mut w), Ok(()));
    assert_eq!(out(&mut w), Err(Kern::NotInSet));
}

#[test]
fn whoever_waits_for_any_of_its_sets_gets_what_comes() {
    let mut w = World::new();
    let child = w.child();
    let (a, b, c) = (
        w.thread(child, 10),
        w.thread(child, 10),
        w.thread(child, 10),
    );
    let sets: Vec<_> = (0..2).map(|_| set(&mut w, a)).collect();
    let port = port(&mut w, a, 7);
    for set in &sets {
        insert(&mut w, a, port, *set).unwrap();
    }
    for (thread, set) in [(b, sets[0]), (c, sets[1])] {
        w.receive(thread, set, FOREVER);
        send(&mut w, a, port, set);
        assert_eq!(w.result(thread).unwrap().words[0], set);
    }
    // Both wait: each gets one.
    w.receive(b, sets[0], FOREVER);
    w.receive(c, sets[1], FOREVER);
    send(&mut w, a, port, 1);
    send(&mut w, a, port, 2);
    let mut got = [b, c].map(|thread| w.result(thread).unwrap().words[0]);
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    // A call finds them as well, and the answer is the caller's.
    let client = w.actor();
    let (key, _) = w.pass(a, port, Disposition::MakeSend, client);
    w.receive(c, sets[1], FOREVER);
    assert_eq!(w.call(client, key, &Letter::new(1, 9)), None);
    let asked = w.result(c).unwrap();
    assert_eq!((asked.payload, asked.words[0]), (7, 9));
    w.reply(c, asked.token, &Letter::new(1, 10));
    assert_eq!(w.result(client).unwrap().words[0], 10);
}

#[test]
fn members_take_turns_in_each_set_and_nobody_starves() {
    let mut w = World::new();
    let root = w.root;
    let (one, both) = (set(&mut w, root), set(&mut w, root));
    let ports: Vec<_> = (0..3).map(|payload| port(&mut w, root, payload)).collect();
    for port in &ports {
        insert(&mut w, root, *port, both).unwrap();
    }
    insert(&mut w, root, ports[0], one).unwrap();
    for port in [0, 0, 0, 1, 2, 2] {
        send(&mut w, root, ports[port], port as u64);
    }
    let order: Vec<_> = (0..6).filter_map(|_| next(&mut w, root, both)).collect();
    assert_eq!(order, [0, 1, 2, 0, 2, 0]);
}

#[test]
fn a_set_that_ends_lets_its_members_go_and_they_stay_in_others() {
    let mut w = World::new();
    let a = w.actor();
    let before = w.kernel.population();
    let (dies, stays) = (set(&mut w, a), set(&mut w, a));
    let ports: Vec<_> = (0..40).map(|payload| port(&mut w, a, payload)).collect();
    for port in &ports {
        for set in [dies, stays] {
            insert(&mut w, a, *port, set).unwrap();
        }
        send(&mut w, a, *port, 3);
    }
    w.destroy(a, dies);
    for _ in &ports {
        assert_eq!(next(&mut w, a, stays), Some(3));
    }
    for port in &ports {
        w.destroy(a, *port);
        let _ = w.deallocate(a, *port, 1);
    }
    assert_eq!(next(&mut w, a, stays), None);
    w.destroy(a, stays);
    assert_eq!(w.kernel.population(), before);
}

#[test]
fn a_receive_right_that_moves_leaves_its_sets() {
    let mut w = World::new();
    let (a, b) = (w.actor(), w.actor());
    let (first, second) = (set(&mut w, a), set(&mut w, a));
    let port = port(&mut w, a, 0);
    for set in [first, second] {
        insert(&mut w, a, port, set).unwrap();
    }
    send(&mut w, a, port, 4);
    let (moved, _) = w.pass(a, port, Disposition::MoveReceive, b);
    assert_eq!(next(&mut w, a, first), None);
    assert_eq!(next(&mut w, a, second), None);
    assert_eq!(next(&mut w, b, moved), Some(4));
}

#[test]
fn joining_has_its_limits_and_codes() {
    let mut w = World::new();
    let a = w.actor();
    let port = port(&mut w, a, 0);
    let sets: Vec<_> = (0..65).map(|_| set(&mut w, a)).collect();
    for set in &sets[..64] {
        assert_eq!(insert(&mut w, a, port, *set), Ok(()));
    }
    assert_eq!(
        insert(&mut w, a, port, sets[64]),
        Err(Kern::ResourceShortage)
    );
    assert_eq!(insert(&mut w, a, 3, sets[0]), Err(Kern::InvalidName));
    assert_eq!(insert(&mut w, a, port, 3), Err(Kern::InvalidName));
    assert_eq!(insert(&mut w, a, port, port), Err(Kern::InvalidRight));
    assert_eq!(insert(&mut w, a, sets[0], sets[1]), Err(Kern::InvalidRight));
    assert_eq!(
        extract(&mut w, a, sets[0], sets[1]),
        Err(Kern::InvalidRight)
    );
    // Without memory nothing changes.
    let other = w.port(a, 0);
    w.kernel.freeze(true);
    let mut result = Ok(());
    for set in &sets {
        result = result.and(insert(&mut w, a, other, *set));
    }
    assert_eq!(result, Err(Kern::ResourceShortage));
    w.kernel.freeze(false);
    w.destroy(a, other);
}
