//! What is copied with `src_destroy` moves: no page of it is copied when it is written (rule 57).

extern crate std;

use std::vec::Vec;

use ipc_abi::Kern;

use crate::call::vm_copy::tests::{copyin, copyout, nothing_is_left};
use crate::map::tests::{Bench, MIN, PAGE};

/// A range with this many pages; page `n` begins with `n + 1`.
fn bench(pages: u64) -> Bench {
    let mut bench = Bench::new(MIN, MIN + 4096 * PAGE);
    bench.allocate(MIN, pages * PAGE, 0).unwrap();
    let map = bench.map;
    for page in 0..pages {
        bench.write(map, at(page), page as u8 + 1).unwrap();
    }
    bench
}

const fn at(page: u64) -> u64 {
    MIN + page * PAGE
}

/// Pages that were copied so far.
fn copied(bench: &Bench) -> u64 {
    let stats = &bench.core.stats;
    stats.cow_breaks + stats.copy_pushes + stats.pages_copied
}

/// Pages that are copied while parts (first page, pages) are taken out of the range, mapped elsewhere, and
/// written there, and what stays is written.
fn cost(bench: &mut Bench, parts: &[(u64, u64)], pages: u64) -> u64 {
    let (map, before) = (bench.map, copied(bench));
    let take = |&(first, pages)| copyin(bench, at(first), pages * PAGE, true).unwrap();
    let copies: Vec<_> = parts.iter().map(take).collect();
    let mut stays: Vec<u64> = (0..pages).collect();
    for &(first, count) in parts {
        assert_eq!(bench.read(map, at(first)), Err(Kern::InvalidAddress));
        stays.retain(|page| !(first..first + count).contains(page));
    }
    for page in stays {
        assert_eq!(bench.read(map, at(page)), Ok(page as u8 + 1));
        bench.write(map, at(page), 0).unwrap();
    }
    for (copy, &(first, pages)) in copies.into_iter().zip(parts) {
        let there = copyout(bench, copy, 0, 1).unwrap();
        for page in 0..pages {
            let here = there + page * PAGE;
            assert_eq!(bench.read(map, here), Ok((first + page) as u8 + 1));
            bench.write(map, here, 99).unwrap();
        }
    }
    copied(bench) - before
}

#[test]
fn the_whole_of_an_entry_its_ends_and_its_middle_are_not_copied() {
    assert_eq!(cost(&mut bench(8), &[(0, 8)], 8), 0);
    let mut bench = bench(9);
    assert_eq!(cost(&mut bench, &[(0, 2), (3, 2), (7, 2)], 9), 0);
    nothing_is_left(bench, &[]);
}

#[test]
fn any_number_of_parts_and_of_entries_is_not_copied() {
    let parts: Vec<_> = (0..50).map(|part| (part * 2, 1)).collect();
    assert_eq!(cost(&mut bench(100), &parts, 100), 0);
    let mut bench = bench(60);
    for page in (0..60).step_by(2) {
        bench.protect(at(page), PAGE, false, 1).unwrap();
    }
    let before = bench.core.entries.len();
    assert_eq!(cost(&mut bench, &[(0, 60)], 60), 0);
    assert!(bench.core.entries.len() <= before);
    nothing_is_left(bench, &[]);
}

#[test]
fn what_was_shared_with_a_child_that_has_ended_is_not_copied() {
    for inheritance in [0, 1] {
        for part in [(0, 8), (2, 4)] {
            let mut bench = bench(8);
            bench.inherit(MIN, 8 * PAGE, inheritance).unwrap();
            let child = bench.fork().unwrap();
            bench.end(child);
            bench.settle();
            assert_eq!(cost(&mut bench, &[part], 8), 0, "{inheritance} {part:?}");
            nothing_is_left(bench, &[]);
        }
    }
}

#[test]
fn who_has_a_copy_or_shares_the_memory_sees_nothing_of_the_move() {
    for inheritance in [0, 1] {
        let mut bench = bench(8);
        let map = bench.map;
        bench.inherit(MIN, 8 * PAGE, inheritance).unwrap();
        let earlier = copyin(&mut bench, MIN, 8 * PAGE, false).unwrap();
        let child = bench.fork().unwrap();
        let moved = copyin(&mut bench, at(2), 4 * PAGE, true).unwrap();
        bench.write(child, at(3), 55).unwrap();
        let there = copyout(&mut bench, moved, 0, 1).unwrap();
        bench.write(map, there, 66).unwrap();
        let whole = copyout(&mut bench, earlier, 0, 1).unwrap();
        for page in 0..8 {
            assert_eq!(bench.read(map, whole + page * PAGE), Ok(page as u8 + 1));
        }
        assert_eq!(bench.read(map, there + PAGE), Ok(4));
        assert_eq!(bench.read(child, at(2)), Ok(3));
        nothing_is_left(bench, &[]);
    }
}

#[test]
fn what_is_refused_leaves_the_source_whole() {
    let mut bench = bench(8);
    let map = bench.map;
    bench.protect(at(5), PAGE, false, 0).unwrap();
    let refused = copyin(&mut bench, at(1), 6 * PAGE, true);
    assert_eq!(refused, Err(Kern::ProtectionFailure));
    bench.deallocate(at(5), PAGE).unwrap();
    let refused = copyin(&mut bench, at(1), 6 * PAGE, true);
    assert_eq!(refused, Err(Kern::InvalidAddress));
    for page in [0, 1, 2, 3, 4, 6, 7] {
        assert_eq!(bench.read(map, at(page)), Ok(page as u8 + 1));
    }
    nothing_is_left(bench, &[]);
}

#[test]
fn without_a_record_for_a_cut_or_for_the_copy_the_source_stays() {
    for left in 0..4 {
        let mut bench = bench(8);
        let map = bench.map;
        bench.core.entries.set_cap(left);
        bench.core.copies.set_cap(left / 2);
        let taken = copyin(&mut bench, at(2), 4 * PAGE, true);
        bench.settle();
        match taken {
            Ok(_) => assert_eq!(bench.read(map, at(2)), Err(Kern::InvalidAddress)),
            Err(code) => {
                assert_eq!(code, Kern::ResourceShortage);
                assert_eq!(bench.read(map, at(2)), Ok(3));
                assert_eq!(bench.core.maps.len(), 1);
            }
        }
        let rights: Vec<_> = taken.into_iter().collect();
        nothing_is_left(bench, &rights);
    }
}
