//! Runs a batch of translations from an IPC buffer, in bounded, restartable steps.
//!
//! A batch is checked as a whole before anything is changed; then its runs are carried out, each
//! up to its last page or until a slice of [`super::SLICE`] entries is used up. What is done is written
//! to the buffer as it happens, so that the same call goes on where it stopped, and repeating a
//! finished batch does nothing. The buffer is memory of a task that may be writing to it: each
//! word is copied before it is looked at, and what was checked at first is checked again when it
//! is read for the second time.

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::layout::{PAGE_SHIFT, PAGE_SIZE};
use ipc_abi::translation::{FRAME_LIMIT, Op, RUN_HEADER, RUN_PAGES, Run, SKIPPED};

use super::enter::{Page, like, put};
use super::harvest::{self, Target};
use super::range::{self, Part};
use super::walk::{self, Leaf, Made};
use super::{Budget, Shootdown, Space, TableStore};
use crate::addr::{Frame, PageRange, UserAddr};
use crate::owner::Owners;

const DONE_OFFSET: usize = 28;

/// The body of an IPC buffer. Offsets are in bytes, aligned to what is read, below [`BODY_SIZE`].
pub trait BatchBuffer {
    /// Reads eight bytes once.
    fn load64(&self, offset: usize) -> u64;
    /// Reads four bytes once.
    fn load32(&self, offset: usize) -> u32;
    /// Writes four bytes.
    fn store32(&mut self, offset: usize, value: u32);
}

/// The spaces that a batch may name.
pub trait Spaces {
    /// The space of this name.
    ///
    /// # Errors
    /// `KERN_INVALID_NAME`: it is no space of the caller's.
    fn space(&mut self, name: u32) -> Result<&mut Space, Kern>;
}

/// How far a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Runs that are done, from the first.
    pub runs: u32,
    /// Why it ended there.
    pub state: State,
}

/// Why a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All of it is done.
    Done,
    /// A slice is: flush, look at pending interrupts, and call again.
    More,
    /// An error. If it was found by the check, nothing has changed.
    Failed(Kern),
}

/// Carries out a slice of the batch in the first `length` bytes of `buffer`. Whatever is answered,
/// `account`, which is empty at the call, must be discharged before anything else happens.
///
/// For the first run that has one, in this order: `KERN_INVALID_ARGUMENT`: a run is malformed or
/// cut off; `KERN_INVALID_NAME`: no such space; `KERN_INVALID_ADDRESS`: outside the part of the
/// user half that tasks map; `KERN_NO_ACCESS`: a frame that is not to be entered there. Later:
/// `KERN_RESOURCE_SHORTAGE`: no frame for a page table.
pub fn run<S: TableStore>(
    buffer: &mut impl BatchBuffer,
    length: usize,
    spaces: &mut impl Spaces,
    store: &mut S,
    owners: &Owners<'_>,
    account: &mut Shootdown,
) -> Outcome {
    debug_assert!(account.is_empty(), "the last slice was not discharged");
    let mut outcome = Outcome {
        runs: 0,
        state: State::Done,
    };
    if let Err(code) = check(buffer, length, spaces, (store, owners)) {
        outcome.state = State::Failed(code);
        return outcome;
    }
    let mut budget = Budget::slice();
    let mut offset = 0;
    while offset < length {
        let step = read_run(buffer, offset, length).and_then(|(run, next)| {
            let space = spaces.space(run.space)?;
            let mut execution = Execution {
                buffer,
                offset,
                run,
                range: PageRange::new(run.address, u64::from(run.count))?,
                space,
                store,
                owners,
                account,
                budget: &mut budget,
            };
            Ok((execution.carry_out()?, next))
        });
        match step {
            Ok((true, next)) => offset = next,
            Ok((false, _)) => {
                outcome.state = State::More;
                return outcome;
            }
            Err(code) => {
                outcome.state = State::Failed(code);
                return outcome;
            }
        }
        outcome.runs = outcome.runs.saturating_add(1);
    }
    outcome
}

/// Checks the part of a batch that is not done yet. Pages that are to be entered and are there already
/// are done.
fn check<S: TableStore>(
    buffer: &mut impl BatchBuffer,
    length: usize,
    spaces: &mut impl Spaces,
    (store, owners): (&S, &Owners<'_>),
) -> Result<(), Kern> {
    if length > BODY_SIZE {
        return Err(Kern::InvalidArgument);
    }
    let mut offset = 0;
    while offset < length {
        let (mut run, next) = read_run(buffer, offset, length)?;
        let space = spaces.space(run.space);
        // Whom the frames must belong to, if they are to be entered at all.
        let owner = match &space {
            Ok(space) if run.op == Op::Enter && space.accepts(run.epoch) => {
                let there = pages_there(space, store, buffer, (offset, run));
                if there > 0 {
                    run.done = run.done.saturating_add(there);
                    buffer.store32(offset.saturating_add(DONE_OFFSET), run.done);
                }
                Some(space.owner())
            }
            _ => None,
        };
        let mut access = Ok(());
        if run.op.has_frames() {
            for index in run.done..run.count {
                let frame = read_frame(buffer, offset, index)?;
                if let Some(owner) = owner
                    && (run.uncached || !owners.is_own(frame, owner))
                    && let Err(code) = owners.check_enter(frame, owner, run.uncached)
                {
                    access = access.and(Err(code));
                }
            }
        }
        space?;
        PageRange::new(run.address, u64::from(run.count))?;
        access?;
        offset = next;
    }
    Ok(())
}

/// How many of the next pages of a run are mapped as it would map them: nothing has to be looked at or
/// done for those.
fn pages_there(
    space: &Space,
    store: &impl TableStore,
    buffer: &impl BatchBuffer,
    (offset, run): (usize, Run),
) -> u32 {
    let Ok(range) = PageRange::new(run.address, u64::from(run.count)) else {
        return 0;
    };
    let first = UserAddr::new(range.skip(u64::from(run.done)).start());
    let Some(first) = first.filter(|_| run.done < run.count) else {
        return 0;
    };
    let Some(table) = walk::open(store, space.root(), first, run.protection) else {
        return 0;
    };
    let like = like(run.protection, run.uncached);
    let slots = (run.done..run.count).zip(first.slot(1)..);
    let there = slots.take_while(|(index, slot)| {
        let number = buffer.load32(frame_offset(offset, *index));
        let new = Frame::new(number).map(|frame| like.with_frame(frame));
        new.is_some_and(|new| store.read(table, *slot).is_same_page(new))
    });
    there.count() as u32
}

/// Reads the run at `offset`, and where the next one starts; checks its form.
fn read_run(buffer: &impl BatchBuffer, offset: usize, length: usize) -> Result<(Run, usize), Kern> {
    let body = offset.checked_add(RUN_HEADER).filter(|end| *end <= length);
    if body.is_none() {
        return Err(Kern::InvalidArgument);
    }
    let mut header = [0; RUN_HEADER];
    for (chunk, word) in header.chunks_exact_mut(8).zip(0usize..) {
        let value = buffer.load64(offset.saturating_add(word.saturating_mul(8)));
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    let run = Run::from_bytes(header).ok_or(Kern::InvalidArgument)?;
    let next = run
        .size()
        .and_then(|size| offset.checked_add(size))
        .filter(|end| *end <= length)
        .ok_or(Kern::InvalidArgument)?;
    if is_malformed(run) {
        return Err(Kern::InvalidArgument);
    }
    Ok((run, next))
}

fn is_malformed(run: Run) -> bool {
    let enters = run.op == Op::Enter;
    let crooked = !run.address.is_multiple_of(PAGE_SIZE);
    // Whether or not a task can map that place is another question.
    let first = run.address.wrapping_shr(PAGE_SHIFT) & u64::from(RUN_PAGES - 1);
    let crosses = first.saturating_add(u64::from(run.count)) > u64::from(RUN_PAGES);
    run.done > run.count
        || crooked
        || run.op.has_frames() && crosses
        || enters && run.protection.is_empty()
        || !enters && run.uncached
}

/// The frame number at this index of the run at `offset`.
fn read_frame(buffer: &impl BatchBuffer, offset: usize, index: u32) -> Result<Frame, Kern> {
    let number = buffer.load32(frame_offset(offset, index));
    Some(number)
        .filter(|number| *number < FRAME_LIMIT)
        .and_then(Frame::new)
        .ok_or(Kern::InvalidArgument)
}

fn frame_offset(run: usize, index: u32) -> usize {
    // A run with frames has at most 512 of them; the sum lies inside the body.
    let frames = usize::try_from(index).unwrap_or(0).saturating_mul(4);
    run.saturating_add(RUN_HEADER).saturating_add(frames)
}

/// One run while it is carried out.
struct Execution<'a, B, S> {
    buffer: &'a mut B,
    offset: usize,
    run: Run,
    range: PageRange,
    space: &'a mut Space,
    store: &'a mut S,
    owners: &'a Owners<'a>,
    account: &'a mut Shootdown,
    budget: &'a mut Budget,
}

impl<B: BatchBuffer, S: TableStore> Execution<'_, B, S> {
    /// Goes on with the run; says whether it is done. Progress is in the buffer either way.
    fn carry_out(&mut self) -> Result<bool, Kern> {
        let before = self.run.done;
        let result = self.dispatch();
        if self.run.done != before {
            let offset = self.offset.saturating_add(DONE_OFFSET);
            self.buffer.store32(offset, self.run.done);
        }
        result.map(|()| self.run.done == self.run.count)
    }

    fn dispatch(&mut self) -> Result<(), Kern> {
        let keep = self.run.protection;
        match self.run.op {
            Op::Enter => self.enter(),
            Op::Harvest => self.each_mapped(|store, _, target| harvest::harvest(store, target)),
            Op::Lower if !keep.is_empty() => {
                self.space.revoke(self.run.epoch);
                self.each_mapped(|store, account, target| {
                    harvest::lower(store, account, target, keep)
                })
            }
            Op::Remove | Op::Lower => {
                self.space.revoke(self.run.epoch);
                self.each_mapped(harvest::remove)
            }
            Op::RemoveRange | Op::LowerRange => {
                self.space.revoke(self.run.epoch);
                self.whole_range();
                Ok(())
            }
        }
    }

    fn enter(&mut self) -> Result<(), Kern> {
        if !self.space.accepts(self.run.epoch) {
            self.run.done = self.run.count;
        }
        let Some(first) = self.next_page() else {
            return Ok(());
        };
        let rights = self.run.protection;
        let table = match walk::make(self.space, self.store, first, rights, self.budget)? {
            Made::Table(table) => table,
            Made::More => return Ok(()),
        };
        let count = self.slice();
        let mut done = 0;
        let result = self.enter_pages((table, first), count, &mut done);
        self.run.done = self.run.done.saturating_add(done);
        result
    }

    /// Enters the next pages of the run, `first` and those after it, in their table. Counts those that are
    /// done.
    #[inline(always)]
    fn enter_pages(
        &mut self,
        (table, first): (Frame, UserAddr),
        count: u32,
        done: &mut u32,
    ) -> Result<(), Kern> {
        let Execution { store, account, .. } = self;
        let (owners, uncached) = (self.owners, self.run.uncached);
        let (root, owner) = (self.space.root(), self.space.owner());
        let like = like(self.run.protection, uncached);
        let from = self.run.done;
        for (pages, index) in (0..count).zip(first.slot(1)..) {
            let frame = read_frame(self.buffer, self.offset, from.saturating_add(pages))?;
            let old = store.read(table, index);
            let new = like.with_frame(frame);
            let other = old.frame() != frame && !old.is_window();
            let counts = !old.is_present() || other;
            if counts && (uncached || !owners.raise_own(frame, owner)) {
                owners.raise(frame, owner, uncached)?;
            }
            if !old.is_present() {
                // Nothing to flush, and no use of a page to keep.
                store.write(table, index, new);
            } else if other {
                account.note_unmapped(store.exchange(table, index, new).frame());
                account.note_one_of(root, (first, pages), count);
            } else if !old.is_same_page(new) {
                let address = first.after_pages(pages.into());
                let page = Page {
                    address: address.ok_or(Kern::InvalidAddress)?,
                    frame,
                    like,
                    uncached,
                    owner,
                };
                put(root, *store, owners, account, (table, page))?;
            }
            *done = pages.saturating_add(1);
        }
        Ok(())
    }

    /// Does something to each page that maps the frame named for it, and writes what it answers.
    fn each_mapped(
        &mut self,
        mut act: impl FnMut(&mut S, &mut Shootdown, Target) -> u32,
    ) -> Result<(), Kern> {
        let Some(first) = self.next_page() else {
            return Ok(());
        };
        let root = self.space.root();
        let leaf = walk::find(self.store, root, first);
        for pages in 0..u64::from(self.slice()) {
            let frame = read_frame(self.buffer, self.offset, self.run.done)?;
            let page = first.after_pages(pages).ok_or(Kern::InvalidAddress)?;
            let answer = match leaf {
                Leaf::Table(table) => {
                    let target = Target {
                        root,
                        table,
                        page,
                        frame,
                    };
                    act(self.store, self.account, target)
                }
                Leaf::Missing | Leaf::Large(_) => SKIPPED,
            };
            let offset = frame_offset(self.offset, self.run.done);
            self.buffer.store32(offset, answer);
            self.run.done = self.run.done.saturating_add(1);
        }
        Ok(())
    }

    /// Pages that this slice still has time for.
    fn slice(&mut self) -> u32 {
        let left = self.run.count.saturating_sub(self.run.done);
        self.budget.take_up_to(left)
    }

    fn whole_range(&mut self) {
        let keep = self.run.protection;
        let part = Part {
            all: self.range,
            done: u64::from(self.run.done),
        };
        let done = if self.run.op == Op::RemoveRange || keep.is_empty() {
            range::remove(self.space, self.store, self.account, part, self.budget)
        } else {
            range::lower(
                self.space,
                self.store,
                self.account,
                part,
                keep,
                self.budget,
            )
        };
        // The range has no more pages than `count`.
        self.run.done = u32::try_from(done).unwrap_or(self.run.count);
    }

    /// Address of the first page that is not done.
    fn next_page(&self) -> Option<UserAddr> {
        if self.run.done >= self.run.count {
            return None;
        }
        UserAddr::new(self.range.skip(u64::from(self.run.done)).start())
    }
}
