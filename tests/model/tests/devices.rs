//! Rights to some of the I/O ports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use ipc_abi::Kern;
use ipc_abi::device::LINE_NONE;
use model::World;

fn restrict(w: &mut World, device: u64, first: u64, count: u64) -> Result<u64, Kern> {
    let made = w.trap(w.root, |kernel, _| {
        kernel.device_restrict(device, first, count)
    });
    made.map(u64::from)
}

fn covers(w: &mut World, right: u64) -> Result<(u16, u16), Kern> {
    let held = w.trap(w.root, |kernel, _| kernel.io_ports(right))?;
    Ok((*held.start(), *held.end()))
}

#[test]
fn a_right_to_a_range_covers_it_and_what_is_made_of_it_no_more() {
    let mut w = World::new();
    let device = u64::from(w.boot.device);
    assert_eq!(covers(&mut w, device), Ok((0, 0xFFFF)));
    let right = restrict(&mut w, device, 0x100, 0x20).unwrap();
    assert_eq!(covers(&mut w, right), Ok((0x100, 0x11F)));
    for (first, count) in [(0x100, 0x20), (0x100, 1), (0x11F, 1), (0x108, 4)] {
        let narrower = restrict(&mut w, right, first, count).unwrap();
        let last = (first + count - 1) as u16;
        assert_eq!(covers(&mut w, narrower), Ok((first as u16, last)));
        let wider = restrict(&mut w, narrower, first, count + 1);
        assert_eq!(wider, Err(Kern::NoAccess));
    }
    for (first, count) in [
        (0xFF, 2),
        (0x11F, 2),
        (0x120, 1),
        (0, 0x1_0000),
        (0xFF, 0x30),
    ] {
        assert_eq!(restrict(&mut w, right, first, count), Err(Kern::NoAccess));
    }
    let all = restrict(&mut w, device, 0, 0x1_0000).unwrap();
    assert_eq!(covers(&mut w, all), Ok((0, 0xFFFF)));
}

#[test]
fn what_is_no_range_or_no_right_is_refused_and_leaves_nothing() {
    let mut w = World::new();
    let device = u64::from(w.boot.device);
    let before = w.kernel.population();
    for (first, count) in [
        (0, 0),
        (0xFFFF, 2),
        (0x1_0000, 1),
        (1, u64::MAX),
        (u64::MAX, 1),
    ] {
        let refused = restrict(&mut w, device, first, count);
        assert_eq!(refused, Err(Kern::InvalidArgument));
    }
    let host = u64::from(w.boot.host_memory);
    for name in [0, host, u64::MAX] {
        assert_eq!(restrict(&mut w, name, 0, 1), Err(Kern::InvalidHost));
        assert_eq!(covers(&mut w, name), Err(Kern::InvalidHost));
    }
    assert_eq!(w.kernel.population(), before);
}

#[test]
fn a_right_to_a_range_is_no_device_port() {
    let mut w = World::new();
    let device = u64::from(w.boot.device);
    let right = restrict(&mut w, device, 0, 0x1_0000).unwrap();
    let root = w.root;
    let checked = w.trap(root, |kernel, _| kernel.check_device(right));
    assert_eq!(checked, Err(Kern::InvalidHost));
    let bell = w.port(root, 0);
    let made = w.trap(root, |kernel, toy| {
        kernel.interrupt_create(toy, right, LINE_NONE, bell)
    });
    assert_eq!(made.err(), Some(Kern::InvalidHost));
}

#[test]
fn a_right_to_a_range_is_paid_for_until_its_end() {
    let mut w = World::new();
    let (root, device) = (w.root, u64::from(w.boot.device));
    let own = w.trap(root, |kernel, _| kernel.task_get_special_port(1));
    let own = u64::from(own.unwrap());
    let used = |w: &mut World| {
        let quota = w.trap(root, |kernel, _| kernel.task_get_quota(own));
        quota.unwrap().0
    };
    let (before, population) = (used(&mut w), w.kernel.population());
    let right = restrict(&mut w, device, 8, 8).unwrap();
    let narrower = restrict(&mut w, right, 8, 1).unwrap();
    assert!(used(&mut w) > before);
    // What was made of it stays good without it.
    w.deallocate(root, right, 1).unwrap();
    w.settle();
    assert_eq!(covers(&mut w, right), Err(Kern::InvalidHost));
    assert_eq!(covers(&mut w, narrower), Ok((8, 8)));
    w.deallocate(root, narrower, 1).unwrap();
    w.settle();
    assert_eq!(used(&mut w), before);
    assert_eq!(w.kernel.population(), population);
    // Nothing is made that cannot be paid for.
    let control = u64::from(w.boot.host_control);
    let limited = w.trap(root, |kernel, _| {
        kernel.task_set_quota(control, own, before)
    });
    limited.unwrap();
    let refused = restrict(&mut w, device, 8, 8);
    assert_eq!(refused, Err(Kern::ResourceShortage));
    assert_eq!(w.kernel.population(), population);
}
