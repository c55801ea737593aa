//! Page tables on the host: a toy store, a space on it, and how tests run batches.
//!
//! The toy store keeps tables in host memory, hands out a limited number of frames, and lets a
//! "processor" set accessed and dirty bits between any two operations on a word.

extern crate std;

mod cases;
mod domain;
mod model;
mod pass;

use core::cell::Cell;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::fault::Beside;
use ipc_abi::translation::{Enter, Op, RUN_HEADER, Run};
use ipc_abi::types::Prot;

use super::range;
use super::{
    BatchBuffer, Entry, Shootdown, Space, Spaces, State, TABLE_ENTRIES, TableStore, enter_absent,
    enter_one, run, walk,
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
    tables: Vec<Option<Vec<Cell<Entry>>>>,
    left: usize,
    /// Frames that the processor writes to whenever a word that maps them is about to change.
    writing: BTreeSet<u32>,
    /// Writes that happened.
    written: BTreeSet<u32>,
    /// What another processor puts where a page is about to be entered.
    overtaking: Cell<Option<Entry>>,
}

impl Toy {
    fn new(left: usize) -> Toy {
        Toy {
            tables: Vec::new(),
            left,
            writing: BTreeSet::new(),
            written: BTreeSet::new(),
            overtaking: Cell::new(None),
        }
    }

    fn word(&mut self, table: Frame, index: usize) -> &mut Entry {
        self.tables[number_of(table)]
            .as_mut()
            .expect("a table in use")[index]
            .get_mut()
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
            .get()
    }

    fn fill(&self, table: Frame, index: usize, old: Entry, new: Entry) -> bool {
        let word = &self.tables[number_of(table)]
            .as_ref()
            .expect("a table in use")[index];
        if let Some(entry) = self.overtaking.take() {
            word.set(entry);
        }
        let filled = word.get() == old;
        if filled {
            word.set(new);
        }
        filled
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
        self.tables
            .push(Some(vec![Cell::new(Entry::EMPTY); TABLE_ENTRIES]));
        Frame::new(TABLE_BASE + self.tables.len() as u32 - 1)
    }

    fn free(&mut self, table: Frame) {
        let words = self.tables[number_of(table)].take().expect("freed once");
        assert!(
            words.iter().all(|word| !word.get().is_present()),
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

    /// Enters what lies beside a page of all rights, under `epoch`.
    fn beside(&mut self, body: &Body, (address, count): (u64, u32), epoch: u64) {
        let enter = Enter {
            address,
            frame: 1,
            protection: Prot::DEFAULT,
            uncached: false,
            epoch,
        };
        let owners = Owners::new(&self.records);
        let (space, store) = (&self.space, &mut self.store);
        let beside = Beside { address, count };
        super::enter_beside(space, store, &owners, body, (enter, beside));
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

    /// Enters a page as the answer to a common fault does.
    fn enter_absent(&self, address: u64, frame: u32) -> bool {
        let enter = Enter {
            address,
            frame,
            protection: Prot::DEFAULT,
            uncached: false,
            epoch: u64::MAX,
        };
        let owners = Owners::new(&self.records);
        enter_absent(&self.space, &self.store, &owners, enter)
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
