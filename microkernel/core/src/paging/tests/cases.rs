//! Behaviour of page tables, case by case.

extern crate std;

use std::vec;

use ipc_abi::Kern;
use ipc_abi::fault::READ_ONLY;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::translation::{DIRTY, FRAME_LIMIT, Op, REFERENCED, RUN_HEADER, Run, SKIPPED};
use ipc_abi::types::Prot;

use super::{Body, SERVER, World, a_run};
use crate::addr::{Frame, PageRange};
use crate::owner::OwnerId;
use crate::paging::range::{self, Part};
use crate::paging::{BatchBuffer, Budget, Entry, Take, take_one, window};

const BASE: u64 = 0x4000_0000;

#[test]
fn a_writable_page_below_a_lowered_table_leaves_its_neighbours_lowered() {
    let mut world = World::new(8);
    for page in 0..4 {
        world
            .enter(BASE + page * PAGE_SIZE, page as u32, Prot::DEFAULT)
            .unwrap();
    }
    // 512 GiB: lowers one entry of the root and nothing below it.
    let lower = a_run(Op::LowerRange, 0x80_0000_0000, 1 << 27, Prot::READ);
    let (result, _) = world.one(lower, &[]);
    assert_eq!(result, Ok(1));
    let lower = a_run(Op::LowerRange, USER_MIN, (1 << 28) - 16, Prot::READ);
    world.one(lower, &[]).0.unwrap();
    assert_eq!(world.rights(BASE), Some((0, Prot::READ)));
    world.enter(BASE + PAGE_SIZE, 1, Prot::DEFAULT).unwrap();
    assert_eq!(world.rights(BASE), Some((0, Prot::READ)));
    assert_eq!(world.rights(BASE + PAGE_SIZE), Some((1, Prot::DEFAULT)));
    assert_eq!(world.rights(BASE + 2 * PAGE_SIZE), Some((2, Prot::READ)));
}

#[test]
fn of_two_processors_that_enter_one_page_the_first_does() {
    let mut world = World::new(8);
    assert!(!world.enter_absent(BASE, 5), "there is no table");
    world.enter(BASE + PAGE_SIZE, 1, Prot::DEFAULT).unwrap();
    let other = Entry::page(Frame::new(7).unwrap(), Prot::READ, false);
    world.store.overtaking.set(Some(other));
    assert!(!world.enter_absent(BASE, 5));
    assert_eq!(world.rights(BASE), Some((7, Prot::READ)));
    assert_eq!(world.count(5), 0, "the count is taken back");
    assert!(world.enter_absent(BASE + 2 * PAGE_SIZE, 5));
    assert_eq!((world.count(5), world.count(7)), (1, 0));
}

#[test]
fn a_dirty_bit_that_is_set_while_a_page_is_taken_is_reported() {
    for op in [Op::Remove, Op::Lower] {
        let mut world = World::new(8);
        world.enter(BASE, 5, Prot::DEFAULT).unwrap();
        world.store.writing.insert(5);
        let (_, answers) = world.one(a_run(op, BASE, 1, Prot::READ), &[5]);
        assert!(
            world.store.written.contains(&5),
            "the processor did not write"
        );
        assert_eq!(answers, [5 | DIRTY | REFERENCED]);
    }
}

#[test]
fn a_page_that_was_cleaned_is_dirty_again_only_after_a_write() {
    let mut world = World::new(8);
    world.enter(BASE, 5, Prot::DEFAULT).unwrap();
    world.touch(BASE, true);
    let lower = a_run(Op::Lower, BASE, 1, Prot::READ);
    assert_eq!(world.one(lower, &[5]).1, [5 | DIRTY | REFERENCED]);
    world.enter(BASE, 5, Prot::DEFAULT).unwrap();
    assert_eq!(world.one(lower, &[5]).1, [5 | REFERENCED]);
}

#[test]
fn an_older_epoch_enters_nothing_and_counts_as_done() {
    let mut world = World::new(8);
    let remove = Run {
        epoch: 10,
        ..a_run(Op::RemoveRange, BASE, 1, Prot::NONE)
    };
    world.one(remove, &[]).0.unwrap();
    assert_eq!(world.space.epoch(), 10);
    let late = Run {
        epoch: 9,
        ..a_run(Op::Enter, BASE, 1, Prot::READ)
    };
    assert_eq!(world.one(late, &[5]).0, Ok(1));
    assert_eq!(world.rights(BASE), None);
    // Even of a frame that has changed hands since.
    let frame = Frame::new(5).unwrap();
    world
        .owners()
        .transfer(frame, SERVER, OwnerId::KERNEL)
        .unwrap();
    assert_eq!(world.one(late, &[5]).0, Ok(1));
    let early = Run {
        epoch: 3,
        ..a_run(Op::RemoveRange, BASE, 1, Prot::NONE)
    };
    world.one(early, &[]).0.unwrap();
    assert_eq!(world.space.epoch(), 10);
}

#[test]
fn errors_come_in_their_order_and_change_nothing() {
    let mut world = World::new(8);
    world
        .owners()
        .place(Frame::new(9).unwrap(), OwnerId::KERNEL);
    let good = a_run(Op::Enter, BASE, 1, Prot::READ);
    // Everything is wrong; then one thing less each time.
    let mut bad = Run {
        address: USER_MAX + 1,
        space: 8,
        ..good
    };
    assert_eq!(world.one(bad, &[FRAME_LIMIT]).0, Err(Kern::InvalidArgument));
    assert_eq!(world.one(bad, &[9]).0, Err(Kern::InvalidArgument));
    bad.address = USER_MAX;
    assert_eq!(world.one(bad, &[FRAME_LIMIT]).0, Err(Kern::InvalidArgument));
    assert_eq!(world.one(bad, &[9]).0, Err(Kern::InvalidName));
    bad.space = 7;
    assert_eq!(world.one(bad, &[9]).0, Err(Kern::InvalidAddress));
    bad.address = BASE;
    assert_eq!(world.one(bad, &[9]).0, Err(Kern::NoAccess));
    assert_eq!(world.one(bad, &[5]).0, Ok(1));
    for malformed in [
        Run {
            protection: Prot::NONE,
            ..good
        },
        Run { done: 2, ..good },
        Run {
            uncached: true,
            op: Op::Remove,
            ..good
        },
        Run {
            address: BASE + 511 * PAGE_SIZE,
            count: 2,
            ..good
        },
    ] {
        assert_eq!(world.one(malformed, &[5, 5]).0, Err(Kern::InvalidArgument));
    }
    // A second run that is wrong keeps the first from being done.
    let (mut body, length, _) = Body::of(&[
        (a_run(Op::Enter, BASE + PAGE_SIZE, 1, Prot::READ), vec![6]),
        (a_run(Op::Enter, BASE, 1, Prot::READ), vec![9]),
    ]);
    assert_eq!(world.batch(&mut body, length).0, Err(Kern::NoAccess));
    assert_eq!(
        world.batch(&mut body, length - 8).0,
        Err(Kern::InvalidArgument)
    );
    assert_eq!(world.rights(BASE + PAGE_SIZE), None);
}

#[test]
fn a_run_without_tables_left_keeps_its_progress_and_can_be_repeated() {
    let mut world = World::new(5);
    let far = 0x80_0000_0000u64;
    let runs = [
        (a_run(Op::Enter, BASE, 2, Prot::READ), vec![1, 2]),
        (a_run(Op::Enter, far, 1, Prot::READ), vec![3]),
    ];
    let (mut body, length, starts) = Body::of(&runs);
    assert_eq!(
        world.batch(&mut body, length).0,
        Err(Kern::ResourceShortage)
    );
    assert_eq!(body.load32(starts[0] + 28), 2);
    assert_eq!(body.load32(starts[1] + 28), 0);
    world.store.left += 1;
    assert_eq!(world.batch(&mut body, length).0, Ok(2));
    assert_eq!(world.rights(far), Some((3, Prot::READ)));
    assert_eq!(world.batch(&mut body, length).0, Ok(2));
    assert_eq!(world.count(3), 1);
}

#[test]
fn pages_that_are_there_are_passed_over_and_a_page_that_differs_is_not() {
    let mut world = World::new(8);
    world
        .owners()
        .place(Frame::new(9).unwrap(), OwnerId::KERNEL);
    for (page, frame) in [(0, 3), (1, 4), (3, 6)] {
        world
            .enter(BASE + page * PAGE_SIZE, frame, Prot::READ)
            .unwrap();
    }
    world.touch(BASE, false);
    let run = a_run(Op::Enter, BASE, 4, Prot::READ);
    let (mut body, length, starts) = Body::of(&[(run, vec![3, 4, 9, 6])]);
    assert_eq!(world.batch(&mut body, length).0, Err(Kern::NoAccess));
    assert_eq!(
        body.load32(starts[0] + 28),
        2,
        "as far as there was nothing to do"
    );
    assert_eq!(world.rights(BASE + 2 * PAGE_SIZE), None);
    assert_eq!(world.one(run, &[3, 4, 5, 7]).0, Ok(1));
    let shown = |world: &World, page| world.rights(BASE + page * PAGE_SIZE);
    assert_eq!(shown(&world, 2), Some((5, Prot::READ)));
    assert_eq!(shown(&world, 3), Some((7, Prot::READ)), "another frame");
    let more = a_run(Op::Enter, BASE, 2, Prot::DEFAULT);
    assert_eq!(world.one(more, &[3, 4]).0, Ok(1));
    assert_eq!(shown(&world, 1), Some((4, Prot::DEFAULT)), "other rights");
    let uses = [3, 4, 5, 6, 7].map(|frame| world.count(frame));
    assert_eq!(uses, [1, 1, 1, 0, 1]);
    let harvest = a_run(Op::Harvest, BASE, 1, Prot::NONE);
    assert_eq!(world.one(harvest, &[3]).1, [3 | REFERENCED]);
}

#[test]
fn large_ranges_are_removed_in_slices_and_give_their_tables_back() {
    let mut world = World::new(40);
    for page in 0..1500u64 {
        world
            .enter(BASE + page * PAGE_SIZE, (page % 8) as u32, Prot::READ)
            .unwrap();
    }
    assert_eq!(world.space.tables(), 6);
    let run = a_run(Op::RemoveRange, BASE, 1536, Prot::NONE);
    let (mut body, length, _) = Body::of(&[(run, vec![])]);
    let (result, slices) = world.batch(&mut body, length);
    assert_eq!(result, Ok(1));
    assert!((3..8).contains(&slices), "{slices} slices");
    // The three lowest tables were covered; those above them were not.
    assert_eq!(world.space.tables(), 3);
    assert_eq!((0..8).map(|frame| world.count(frame)).sum::<u32>(), 0);
}

#[test]
fn what_lies_beside_an_answer_fills_only_what_is_vacant() {
    let mut world = World::new(8);
    world.enter(BASE, 1, Prot::DEFAULT).unwrap();
    world.enter(BASE + 2 * PAGE_SIZE, 2, Prot::READ).unwrap();
    let frame = Frame::new(9).unwrap();
    world.owners().place(frame, OwnerId::KERNEL);
    let words = [3, 4, 5 | READ_ONLY, SKIPPED, 9, FRAME_LIMIT, 6];
    let (body, ..) = Body::of(&[(a_run(Op::Enter, BASE, 7, Prot::READ), words.to_vec())]);
    let body = Body(body.0[RUN_HEADER..].to_vec());
    // Not inside one table; not at a page; where there is no table; of an older epoch: nothing.
    world.beside(&body, (BASE + 511 * PAGE_SIZE, 2), 0);
    world.beside(&body, (BASE + PAGE_SIZE + 8, 1), 0);
    world.beside(&body, (BASE + (1 << 30), 1), 0);
    world.space.revoke(5);
    world.beside(&body, (BASE, 7), 4);
    assert_eq!((3..7).map(|frame| world.count(frame)).sum::<u32>(), 0);
    world.beside(&body, (BASE, 7), 5);
    let rights = |page| world.rights(BASE + page * PAGE_SIZE);
    assert_eq!(rights(0), Some((1, Prot::DEFAULT)));
    assert_eq!(rights(1), Some((4, Prot::DEFAULT)));
    assert_eq!(rights(2), Some((2, Prot::READ)));
    assert_eq!((rights(3), rights(4), rights(5)), (None, None, None));
    assert_eq!(rights(6), Some((6, Prot::DEFAULT)));
    assert_eq!((world.count(3), world.count(4), world.count(5)), (0, 1, 0));
}

#[test]
fn lowering_by_subtree_is_quick() {
    let mut world = World::new(400);
    for table in 0..300u64 {
        world.enter(BASE + (table << 21), 1, Prot::DEFAULT).unwrap();
    }
    let run = a_run(Op::LowerRange, BASE, 512 * 512, Prot::READ);
    let (mut body, length, _) = Body::of(&[(run, vec![])]);
    assert_eq!(world.batch(&mut body, length), (Ok(1), 1));
    assert_eq!(world.rights(BASE + (299 << 21)), Some((1, Prot::READ)));
}

#[test]
fn pages_that_are_low_already_are_not_flushed() {
    let mut world = World::new(8);
    for page in [0, 1, 5] {
        world
            .enter(BASE + page * PAGE_SIZE, page as u32, Prot::DEFAULT)
            .unwrap();
    }
    let mut lower = |pages| {
        let World {
            space,
            store,
            account,
            ..
        } = &mut world;
        let all = PageRange::new(BASE, pages).unwrap();
        let part = Part { all, done: 0 };
        let done = range::lower(
            space,
            store,
            account,
            part,
            Prot::READ,
            &mut Budget::slice(),
        );
        assert_eq!(done, pages);
        let noted = (account.pages().count(), account.covers(space.root()));
        world.settle();
        noted
    };
    assert_eq!(lower(2), (2, false));
    assert_eq!(lower(2), (0, false));
    // Of many pages one is high: the whole space is flushed, once.
    assert_eq!(lower(100), (0, true));
    assert_eq!(lower(100), (0, false));
}

#[test]
fn the_window_shows_frames_and_splits_where_one_leaves() {
    let mut world = World::new(20);
    let first = Frame::new(500).unwrap();
    window::show(&mut world.space, &mut world.store, first, 600).unwrap();
    let at = |number| {
        window::address_of(Frame::new(number).unwrap())
            .unwrap()
            .raw()
    };
    for number in [500, 511, 512, 1023] {
        assert!(world.rights(at(number)).is_some(), "{number}");
    }
    assert_eq!(world.rights(at(499)), None);
    assert_eq!(world.rights(at(1100)), None);
    let gone = Frame::new(700).unwrap();
    let World {
        space,
        store,
        account,
        ..
    } = &mut world;
    window::split(space, store, account, gone).unwrap();
    window::withdraw(space, store, account, gone);
    assert!(!window::withdraw_large(
        space,
        store,
        account,
        Frame::new(512).unwrap()
    ));
    world.settle();
    assert_eq!(world.rights(at(700)), None);
    assert_eq!(world.rights(at(701)), Some((701, Prot::DEFAULT)));
    assert_eq!(world.rights(at(512)), Some((512, Prot::DEFAULT)));
}

#[test]
fn the_rest_of_the_user_half_is_refused_to_batches() {
    let mut world = World::new(8);
    for (address, count) in [(0, 1), (USER_MAX - PAGE_SIZE, 2), (USER_MAX, 1)] {
        let run = a_run(Op::RemoveRange, address, count, Prot::NONE);
        assert_eq!(
            world.one(run, &[]).0,
            Err(Kern::InvalidAddress),
            "{address:#x}"
        );
    }
    assert_eq!(
        world.enter(USER_MAX, 1, Prot::READ),
        Err(Kern::InvalidAddress)
    );
    assert_eq!(
        world.enter(1 << 50, 1, Prot::READ),
        Err(Kern::InvalidAddress)
    );
}

#[test]
fn one_page_is_taken_as_by_a_batch() {
    let rights = [Prot::READ, Prot::DEFAULT, Prot::ALL];
    let keeps = [
        Prot::NONE,
        Prot::READ,
        Prot::READ.union(Prot::EXECUTE),
        Prot::DEFAULT,
    ];
    for (before, keep) in rights.into_iter().flat_map(|r| keeps.map(|k| (r, k))) {
        for (touched, written, frame) in [
            (false, false, 5),
            (true, false, 5),
            (true, true, 5),
            (true, true, 6),
        ] {
            for address in [BASE, BASE + PAGE_SIZE, BASE + (1 << 40)] {
                let [mut one, mut other] = [(), ()].map(|()| {
                    let mut world = World::new(8);
                    world.enter(BASE, 5, before).unwrap();
                    if touched {
                        world.touch(BASE, written);
                    }
                    world
                });
                let op = if keep.is_empty() {
                    Op::Remove
                } else {
                    Op::Lower
                };
                let run = Run {
                    epoch: 9,
                    ..a_run(op, address, 1, keep)
                };
                let (result, answers) = one.one(run, &[frame]);
                assert_eq!(result, Ok(1));
                let take = Take::new(keep.bits().into(), address, 9, frame.into()).unwrap();
                let had = other.rights(address);
                let taken = take_one(&mut other.space, &mut other.store, take);
                if let Some(frame) = taken.gone {
                    other
                        .account
                        .note_removed(other.space.root(), taken.stale.unwrap().1, frame);
                }
                other.settle();
                assert_eq!(answers, [taken.seen]);
                let lost = other.rights(address) != had;
                assert_eq!(
                    taken.stale.is_some(),
                    lost,
                    "what is lost has to be flushed"
                );
                assert_eq!(one.space.epoch(), other.space.epoch());
                assert_eq!(one.rights(BASE), other.rights(BASE));
                assert_eq!(one.count(5), other.count(5));
            }
        }
    }
}

#[test]
fn what_is_no_page_is_not_taken() {
    let of = |keep, address, frame| Take::new(keep, address, 0, frame).map(drop);
    assert_eq!(of(0, BASE, 5), Ok(()));
    for (keep, address, frame) in [(8, BASE, 5), (1 << 32, BASE, 5), (0, BASE + 1, 5)] {
        assert_eq!(of(keep, address, frame), Err(Kern::InvalidArgument));
    }
    for frame in [u64::from(FRAME_LIMIT), 1 << 32] {
        assert_eq!(of(0, BASE, frame), Err(Kern::InvalidArgument));
    }
    for address in [0, USER_MAX, !(PAGE_SIZE - 1)] {
        assert_eq!(of(0, address, 5), Err(Kern::InvalidAddress));
    }
}
