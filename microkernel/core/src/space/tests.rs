//! Names that are stale, tables that grow and shrink, and what running out of names does.

use super::*;
use crate::{port::Port, slab::Slab};
use std::vec::Vec;

fn ports(count: u32) -> Vec<PortId> {
    let mut slab = Slab::<Port>::new(count);
    (0..count)
        .map(|_| slab.add(crate::port::Object::User).unwrap())
        .collect()
}

fn right(port: PortId) -> Holds {
    Holds::Port {
        port,
        receive: false,
        refs: 1,
    }
}

#[test]
fn a_name_given_back_is_stale_also_when_its_entry_is_taken_again() {
    let mut names = Names::new(u64::MAX).unwrap();
    let ports = ports(200);
    let first = names.insert(right(ports[0])).unwrap();
    names.remove(first, &mut Stamp::default());
    assert!(names.get(u64::from(first)).is_none());
    for port in &ports[1..] {
        assert_ne!(names.insert(right(*port)).unwrap(), first);
    }
    assert!(names.get(u64::from(first)).is_none());
    assert!(names.get(u64::from(first) | 1 << 40).is_none());
    assert!(names.get(0).is_none());
}

#[test]
fn every_port_is_found_under_its_name_while_the_table_grows_and_shrinks() {
    let mut names = Names::new(u64::MAX).unwrap();
    let ports = ports(1000);
    let given: Vec<_> = ports
        .iter()
        .map(|port| names.insert(right(*port)).unwrap())
        .collect();
    for (port, name) in ports.iter().zip(&given) {
        assert_eq!(names.find(*port), Some(*name));
    }
    for (index, name) in given.iter().enumerate() {
        if index % 3 != 0 {
            names.remove(*name, &mut Stamp::default());
        }
    }
    for (index, (port, name)) in ports.iter().zip(&given).enumerate() {
        assert_eq!(names.find(*port), (index % 3 == 0).then_some(*name));
    }
    assert_eq!(names.len(), 334);
}

#[test]
fn a_table_that_has_become_empty_shrinks_and_keeps_its_word_about_stale_names() {
    let mut names = Names::new(u64::MAX).unwrap();
    let ports = ports(2000);
    let mut stale: Vec<Name> = Vec::new();
    for round in 0..8 {
        let given: Vec<_> = ports
            .iter()
            .map(|port| names.insert(right(*port)).unwrap())
            .collect();
        assert!(names.bytes() >= 31 * Names::PIECE);
        assert!(stale.iter().all(|name| !given.contains(name)));
        // From the front, from the end, and from both.
        let order: Vec<_> = match round % 3 {
            0 => (0..2000).collect(),
            1 => (0..2000).rev().collect(),
            _ => (0..1000).flat_map(|n| [n, 1999 - n]).collect(),
        };
        for (count, place) in order.iter().enumerate() {
            names.remove(given[*place], &mut Stamp::default());
            if count % 100 == 0 {
                let left = &order[count + 1..];
                assert!(
                    left.iter()
                        .all(|at| names.find(ports[*at]) == Some(given[*at]))
                );
            }
        }
        stale.extend(given);
        // What lay at the front until the end goes with the next ones.
        for _ in 0..60 {
            let one = names.insert(right(ports[0])).unwrap();
            names.remove(one, &mut Stamp::default());
        }
        assert!(names.bytes() <= 3 * Names::PIECE, "{}", names.pieces.len());
        assert_eq!(names.account.used(), names.bytes());
        assert!(names.buckets.len() <= names.pieces.len());
        assert!(names.has_room(64));
    }
}

#[test]
fn names_run_out_with_a_code_and_what_was_reserved_fits() {
    let mut names = Names::new(u64::MAX).unwrap();
    let port = ports(1)[0];
    names.reserve(NAMES_MAX - 1).unwrap();
    assert_eq!(names.reserve(NAMES_MAX), Err(Kern::ResourceShortage));
    for _ in 1..NAMES_MAX {
        names.insert(Holds::Once { port, refs: 1 }).unwrap();
    }
    let more = names.insert(Holds::Once { port, refs: 1 });
    assert_eq!(more, Err(Kern::ResourceShortage));
}
