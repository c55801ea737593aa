//! Page tables against a naive model: a map from pages to frames and rights, which knows nothing of
//! tables.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::translation::{DIRTY, Op, REFERENCED, SKIPPED};
use ipc_abi::types::Prot;
use proptest::prelude::*;

use super::{Body, FRAMES, World, a_run, clear};

/// What the model knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    frame: u32,
    rights: Prot,
    referenced: bool,
    dirty: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Enter {
        page: u64,
        frames: Vec<u32>,
        rights: Prot,
    },
    EnterOne {
        page: u64,
        frame: u32,
        rights: Prot,
    },
    Named {
        op: Op,
        page: u64,
        frames: Vec<u32>,
        keep: Prot,
    },
    Range {
        op: Op,
        from: u64,
        to: u64,
        keep: Prot,
    },
    Touch {
        page: u64,
        write: bool,
    },
}

/// Page numbers in a few tables, at the edges of tables of every level.
fn page() -> impl Strategy<Value = u64> {
    let bases = Vec::from([
        0x400u64,
        0x200 * 3 - 4,
        0x200 * 0x200 - 4,
        0x200 * 0x200 * 0x200 - 4,
        0x200 * 0x200 * 0x200 * 3,
        USER_MAX / PAGE_SIZE - 8,
    ]);
    (prop::sample::select(bases), 0u64..8).prop_map(|(base, offset)| base + offset)
}

fn rights() -> impl Strategy<Value = Prot> {
    prop::sample::select(Vec::from([
        Prot::READ,
        Prot::DEFAULT,
        Prot::READ.union(Prot::EXECUTE),
        Prot::ALL,
    ]))
}

fn keep() -> impl Strategy<Value = Prot> {
    prop_oneof![4 => rights(), 1 => Just(Prot::NONE)]
}

fn step() -> impl Strategy<Value = Step> {
    let frames = || prop::collection::vec(0u32..8, 1..6);
    prop_oneof![
        4 => (page(), frames(), rights())
            .prop_map(|(page, frames, rights)| Step::Enter { page, frames, rights }),
        4 => (page(), 0u32..8, rights())
            .prop_map(|(page, frame, rights)| Step::EnterOne { page, frame, rights }),
        3 => (
            prop::sample::select(Vec::from([Op::Remove, Op::Lower, Op::Harvest])),
            page(), frames(), keep(),
        ).prop_map(|(op, page, frames, keep)| Step::Named { op, page, frames, keep }),
        2 => (
            prop::sample::select(Vec::from([Op::RemoveRange, Op::LowerRange, Op::LowerRange])),
            page(), page(), keep(),
        ).prop_map(|(op, a, b, keep)| Step::Range { op, from: a.min(b), to: a.max(b), keep }),
        4 => (page(), any::<bool>()).prop_map(|(page, write)| Step::Touch { page, write }),
    ]
}

type Model = BTreeMap<u64, Known>;

/// Does a step to both, and compares what they answer.
fn apply(world: &mut World, model: &mut Model, step: Step) {
    match step {
        Step::Enter {
            page,
            frames,
            rights,
        } => {
            let count = frames.len() as u64;
            let run = a_run(Op::Enter, page * PAGE_SIZE, count as u32, rights);
            let (result, _) = world.one(run, &frames);
            if page / 512 != (page + count - 1) / 512 {
                assert_eq!(result, Err(Kern::InvalidArgument));
            } else if (page + count) * PAGE_SIZE > USER_MAX {
                assert_eq!(result, Err(Kern::InvalidAddress));
            } else {
                assert_eq!(result, Ok(1));
                for (page, frame) in (page..).zip(frames) {
                    model_enter(model, page, frame, rights);
                }
            }
        }
        Step::EnterOne {
            page,
            frame,
            rights,
        } => {
            assert_eq!(world.enter(page * PAGE_SIZE, frame, rights), Ok(()));
            model_enter(model, page, frame, rights);
        }
        Step::Named {
            op,
            page,
            frames,
            keep,
        } => {
            let count = frames.len() as u64;
            let run = a_run(op, page * PAGE_SIZE, count as u32, keep);
            let (result, answers) = world.one(run, &frames);
            if result == Ok(1) {
                for ((page, frame), answer) in (page..).zip(frames).zip(answers) {
                    assert_eq!(
                        answer,
                        model_named(model, op, page, frame, keep),
                        "{page:#x}"
                    );
                }
            } else {
                assert!(
                    page / 512 != (page + count - 1) / 512 || (page + count) * PAGE_SIZE > USER_MAX
                );
            }
        }
        Step::Range { op, from, to, keep } => {
            let count = u32::try_from(to - from).unwrap_or(u32::MAX);
            let run = a_run(op, from * PAGE_SIZE, count, keep);
            let (result, _) = world.one(run, &[]);
            assert_eq!(result, Ok(1));
            let range = from..from + u64::from(count);
            if op == Op::RemoveRange || keep.is_empty() {
                model.retain(|page, _| !range.contains(page));
            } else {
                for (_, known) in model.range_mut(range) {
                    known.rights = (known.rights & keep) | Prot::READ;
                }
            }
        }
        Step::Touch { page, write } => {
            let known = model.get_mut(&page);
            let allowed = known.filter(|known| !write || known.rights.contains(Prot::WRITE));
            assert_eq!(world.touch(page * PAGE_SIZE, write), allowed.is_some());
            if let Some(known) = allowed {
                known.referenced = true;
                known.dirty |= write;
            }
        }
    }
}

fn model_enter(model: &mut Model, page: u64, frame: u32, rights: Prot) {
    let old = model.get(&page).filter(|known| known.frame == frame);
    let known = Known {
        frame,
        rights: rights | Prot::READ,
        referenced: old.is_some_and(|known| known.referenced),
        dirty: old.is_some_and(|known| known.dirty),
    };
    model.insert(page, known);
}

fn model_named(model: &mut Model, op: Op, page: u64, frame: u32, keep: Prot) -> u32 {
    let Some(known) = model.get_mut(&page).filter(|known| known.frame == frame) else {
        return SKIPPED;
    };
    let referenced = if known.referenced { REFERENCED } else { 0 };
    let answer = frame | referenced | if known.dirty { DIRTY } else { 0 };
    match op {
        Op::Harvest => known.referenced = false,
        Op::Lower if !keep.is_empty() => {
            known.rights = (known.rights & keep) | Prot::READ;
            known.dirty &= keep.contains(Prot::WRITE);
        }
        _ => {
            model.remove(&page);
        }
    }
    answer
}

fn compare(world: &World, model: &Model) {
    for base in model.keys() {
        for page in base.saturating_sub(2)..base + 3 {
            let expected = model.get(&page).map(|known| (known.frame, known.rights));
            assert_eq!(world.rights(page * PAGE_SIZE), expected, "page {page:#x}");
        }
    }
    for frame in 0..FRAMES {
        let expected = model.values().filter(|known| known.frame == frame).count() as u32;
        assert_eq!(world.count(frame), expected, "count of frame {frame}");
    }
    assert_eq!(world.store.count(), world.space.tables() as usize, "tables");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn tables_do_what_a_map_of_pages_does(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::new(200);
        let mut model = Model::new();
        for step in steps {
            apply(&mut world, &mut model, step);
            compare(&world, &model);
        }
        clear(&mut world);
        prop_assert_eq!(world.store.count(), 1, "tables left behind");
        for frame in 0..FRAMES {
            prop_assert_eq!(world.count(frame), 0);
        }
    }

    #[test]
    fn garbage_is_refused_and_changes_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0usize..5000,
    ) {
        let mut world = World::new(8);
        world.enter(USER_MIN, 3, Prot::DEFAULT).unwrap();
        let mut bytes = bytes;
        bytes.resize(BODY_SIZE + 8, 0);
        let mut body = Body(bytes);
        let (result, _) = world.batch(&mut body, length);
        // A name of 32 random bits is never 7 by chance, so that nothing can succeed.
        prop_assert_eq!(result.is_ok(), length == 0);
        prop_assert_eq!(world.rights(USER_MIN), Some((3, Prot::DEFAULT)));
    }
}
