//! Page tables against a naive model: a map from pages to frames and rights.
//!
//! The toy store keeps tables in host memory, hands out a limited number of frames, and lets a
//! "processor" set accessed and dirty bits between any two operations on a word. The model knows
//! nothing of tables.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::translation::{DIRTY, Enter, FRAME_LIMIT, Op, REFERENCED, RUN_HEADER, Run, SKIPPED};
use ipc_abi::types::Prot;
use proptest::prelude::*;

use super::range;
use super::{
    BatchBuffer, Entry, Shootdown, Space, Spaces, State, TABLE_ENTRIES, TableStore, enter_one, run,
    walk, window,
};
use crate::Progress;
use crate::addr::{Frame, UserAddr};
use crate::owner::{FrameRecord, OwnerId, Owners};

const SERVER: OwnerId = OwnerId::FIRST_SERVER;
/// Frames 0 to 63 are the server's; tables come from 1000 on.
const FRAMES: u32 = 64;
const TABLE_BASE: u32 = 1000;

/// Tables in host memory.
struct Toy {
    tables: Vec<Option<Vec<Entry>>>,
    left: usize,
    /// Frames that the processor writes to whenever a word that maps them is about to change.
    writing: BTreeSet<u32>,
    /// Writes that happened.
    written: BTreeSet<u32>,
}

impl Toy {
    fn new(left: usize) -> Toy {
        Toy {
            tables: Vec::new(),
            left,
            writing: BTreeSet::new(),
            written: BTreeSet::new(),
        }
    }

    fn word(&mut self, table: Frame, index: usize) -> &mut Entry {
        &mut self.tables[number_of(table)]
            .as_mut()
            .expect("a table in use")[index]
    }

    /// Tables in use.
    fn count(&self) -> usize {
        self.tables.iter().flatten().count()
    }

    /// What another processor may do just before an atomic operation of ours.
    fn interfere(&mut self, table: Frame, index: usize) {
        if self.writing.is_empty() {
            return;
        }
        let writing = self.writing.clone();
        let word = self.word(table, index);
        let frame = word.frame().number();
        let is_page = word.is_present() && frame < TABLE_BASE;
        if is_page && word.rights().contains(Prot::WRITE) && writing.contains(&frame) {
            *word = used(*word, true);
            self.written.insert(frame);
        }
    }
}

fn number_of(table: Frame) -> usize {
    (table.number() - TABLE_BASE) as usize
}

/// The entry after the processor has read or written through it.
fn used(entry: Entry, write: bool) -> Entry {
    Entry::from_raw(entry.raw() | 1 << 5 | u64::from(write) << 6)
}

impl TableStore for Toy {
    fn read(&self, table: Frame, index: usize) -> Entry {
        self.tables[number_of(table)]
            .as_ref()
            .expect("a table in use")[index]
    }

    fn write(&mut self, table: Frame, index: usize, entry: Entry) {
        *self.word(table, index) = entry;
    }

    fn exchange(&mut self, table: Frame, index: usize, entry: Entry) -> Entry {
        self.interfere(table, index);
        core::mem::replace(self.word(table, index), entry)
    }

    fn compare_exchange(
        &mut self,
        table: Frame,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry> {
        self.interfere(table, index);
        let word = self.word(table, index);
        if *word != old {
            return Err(*word);
        }
        *word = new;
        Ok(())
    }

    fn allocate(&mut self) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        self.tables.push(Some(vec![Entry::EMPTY; TABLE_ENTRIES]));
        Frame::new(TABLE_BASE + self.tables.len() as u32 - 1)
    }

    fn free(&mut self, table: Frame) {
        let words = self.tables[number_of(table)].take().expect("freed once");
        assert!(
            words.iter().all(|word| !word.is_present()),
            "a freed table maps something"
        );
        self.left += 1;
    }
}

struct Body(Vec<u8>);

impl Body {
    /// A batch of these runs; gives where each begins, too.
    fn of(runs: &[(Run, Vec<u32>)]) -> (Body, usize, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for (run, frames) in runs {
            starts.push(bytes.len());
            bytes.extend(run.to_bytes());
            for frame in frames {
                bytes.extend(frame.to_le_bytes());
            }
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let length = bytes.len();
        bytes.resize(BODY_SIZE.max(length), 0);
        (Body(bytes), length, starts)
    }

    fn frames(&self, start: usize, count: u32) -> Vec<u32> {
        (0..count as usize)
            .map(|index| self.load32(start + RUN_HEADER + 4 * index))
            .collect()
    }
}

impl BatchBuffer for Body {
    fn load64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }

    fn load32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.0[offset..offset + 4].try_into().unwrap())
    }

    fn store32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The only space there is has the name 7.
struct One<'a>(&'a mut Space);

impl Spaces for One<'_> {
    fn space(&mut self, name: u32) -> Result<&mut Space, Kern> {
        if name == 7 {
            Ok(self.0)
        } else {
            Err(Kern::InvalidName)
        }
    }
}

/// A space with its store, owners, and what its processor's TLB holds.
struct World {
    space: Space,
    store: Toy,
    records: Vec<FrameRecord>,
    account: Shootdown,
}

impl World {
    fn new(tables: usize) -> World {
        let mut store = Toy::new(tables + 1);
        let root = store.allocate().unwrap();
        let world = World {
            space: Space::new(root, SERVER, u32::MAX),
            store,
            records: (0..FRAMES).map(|_| FrameRecord::new()).collect(),
            account: Shootdown::new(),
        };
        for frame in 0..FRAMES {
            world.owners().place(Frame::new(frame).unwrap(), SERVER);
        }
        world
    }

    fn owners(&self) -> Owners<'_> {
        Owners::new(&self.records)
    }

    fn settle(&mut self) {
        self.account
            .settle(&mut self.store, &Owners::new(&self.records));
    }

    /// Runs a batch to its end; gives the code, and how many slices it took.
    fn batch(&mut self, body: &mut Body, length: usize) -> (Result<u32, Kern>, usize) {
        for slices in 1.. {
            let owners = Owners::new(&self.records);
            let outcome = run(
                body,
                length,
                &mut One(&mut self.space),
                &mut self.store,
                &owners,
                &mut self.account,
            );
            self.settle();
            match outcome.state {
                State::Done => return (Ok(outcome.runs), slices),
                State::Failed(code) => return (Err(code), slices),
                State::More => assert!(slices < 100_000, "no progress"),
            }
        }
        unreachable!()
    }

    fn one(&mut self, run: Run, frames: &[u32]) -> (Result<u32, Kern>, Vec<u32>) {
        let (mut body, length, starts) = Body::of(&[(run, frames.to_vec())]);
        let (result, _) = self.batch(&mut body, length);
        (result, body.frames(starts[0], frames.len() as u32))
    }

    fn enter(&mut self, address: u64, frame: u32, rights: Prot) -> Result<(), Kern> {
        let enter = Enter {
            address,
            frame,
            protection: rights,
            uncached: false,
            epoch: u64::MAX,
        };
        let owners = Owners::new(&self.records);
        let result = enter_one(
            &mut self.space,
            &mut self.store,
            &owners,
            &mut self.account,
            enter,
        );
        self.settle();
        result
    }

    fn rights(&self, address: u64) -> Option<(u32, Prot)> {
        let address = UserAddr::new(address).unwrap();
        let (entry, rights) = walk::translate(&self.store, self.space.root(), address)?;
        Some((entry.frame().number(), rights))
    }

    /// Lets the processor read or write a page, if it may.
    fn touch(&mut self, address: u64, write: bool) -> bool {
        let address = UserAddr::new(address).unwrap();
        let Some((entry, rights)) = walk::translate(&self.store, self.space.root(), address) else {
            return false;
        };
        if write && !rights.contains(Prot::WRITE) {
            return false;
        }
        let walk::Leaf::Table(table) = walk::find(&self.store, self.space.root(), address) else {
            return false;
        };
        *self.store.word(table, address.slot(1)) = used(entry, write);
        true
    }

    fn count(&self, frame: u32) -> u32 {
        self.owners().get(Frame::new(frame).unwrap()).1
    }
}

fn a_run(op: Op, address: u64, count: u32, rights: Prot) -> Run {
    Run {
        space: 7,
        op,
        protection: rights,
        uncached: false,
        address,
        epoch: u64::MAX,
        count,
        done: 0,
    }
}

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

/// Removes all of the user half, as the end of a space does.
fn clear(world: &mut World) {
    for _ in 0..1000 {
        let World {
            space,
            store,
            account,
            ..
        } = world;
        let progress = range::clear(space, store, account);
        world.settle();
        if progress == Progress::Done {
            return;
        }
    }
    panic!("clearing makes no progress");
}

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
