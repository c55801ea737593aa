//! Pages that go from one space to another: out of a pager's slots, in sight of who waits for them.
//!
//! In two halves, between which the shell discharges the account: what a space has lost is used by no
//! processor before another space shows it. A page that is shown keeps the count that it had in its slot; the
//! others lose theirs at last. The words are in a buffer that a task may be writing to: each is read once,
//! and what it names is checked where it is used.

use heapless::Vec;
use ipc_abi::Kern;
use ipc_abi::pass::{FRESH, PASS_MAX, Pass};
use ipc_abi::translation::FRAME_LIMIT;
use ipc_abi::types::Prot;

use super::{BatchBuffer, Entry, Shootdown, Space, TABLE_ENTRIES, TableStore, walk};
use crate::addr::{Frame, PageRange, UserAddr};
use crate::owner::{OwnerId, Owners};

/// What is to be passed, checked.
#[derive(Clone, Copy, Debug)]
pub struct Passing {
    pass: Pass,
    first: UserAddr,
    /// Where the first page is shown, if any is.
    at: Option<UserAddr>,
}

/// The frames that were named, until [`Passed::settle`].
#[derive(Debug)]
pub struct Passed {
    /// Each with [`HELD`] while it has the count of the place that it left.
    words: Vec<u32, PASS_MAX>,
    /// How many have it.
    held: u32,
}

const HELD: u32 = 1 << 31;
const _: () = assert!(FRAME_LIMIT < HELD);

impl Passing {
    /// From the arguments of the trap.
    ///
    /// # Errors
    /// In this order: `KERN_INVALID_ARGUMENT`: [`Pass`] has no such words; `KERN_INVALID_ADDRESS`: outside
    /// the part of the user half that tasks map.
    #[inline]
    pub fn new(words: [u64; 6]) -> Result<Passing, Kern> {
        let pass = Pass::from_words(words).ok_or(Kern::InvalidArgument)?;
        let slots = PageRange::new(pass.address, pass.count.into())?;
        let at = match pass.shown {
            0 => None,
            shown => UserAddr::new(PageRange::new(pass.at, shown.into())?.start()),
        };
        Ok(Passing {
            pass,
            first: UserAddr::new(slots.start()).ok_or(Kern::InvalidAddress)?,
            at,
        })
    }

    /// Name of the space that the pages leave.
    #[must_use]
    pub const fn from(&self) -> u32 {
        self.pass.from
    }

    /// Name of the space in which pages are shown, if any are.
    #[must_use]
    pub fn to(&self) -> Option<u32> {
        self.at.map(|_| self.pass.to)
    }

    /// The first half: takes the pages out of their places, and puts others there. `account` is to be
    /// discharged before the second half.
    pub fn withdraw<S: TableStore>(
        &self,
        space: &mut Space,
        (store, owners): (&mut S, &Owners<'_>),
        account: &mut Shootdown,
        buffer: &impl BatchBuffer,
        passed: &mut Passed,
    ) {
        let Pass { count, fresh, .. } = self.pass;
        space.revoke(self.pass.epoch);
        let (mut page, mut from) = (Some(self.first), 0);
        // A turn for each page table.
        while let Some(first) = page.filter(|_| from < count) {
            let room = TABLE_ENTRIES.saturating_sub(first.slot(1)) as u32;
            let to = count.min(from.saturating_add(room));
            // Restrictions on the way do not matter; reading none withholds.
            let table = walk::open(store, space.root(), first, Prot::READ);
            let places = (from as usize..to as usize).zip(first.slot(1)..);
            for (place, index) in places {
                let number = buffer.load32(place.saturating_mul(4)).min(FRAME_LIMIT);
                let held = match table {
                    None => false,
                    Some(table) if fresh => {
                        let at = (table, index);
                        let word = place.saturating_mul(4).saturating_add(FRESH);
                        let other = Frame::new(buffer.load32(word));
                        let gone = replace(store, (owners, space.owner()), at, other);
                        let held = gone.is_some_and(|gone| gone.number() == number);
                        if let Some(gone) = gone.filter(|_| !held) {
                            account.note_unmapped(gone);
                        }
                        held
                    }
                    Some(table) => {
                        let old = store.read(table, index);
                        let page = old.is_present() && !old.is_window();
                        let held = page && old.frame().number() == number;
                        if held {
                            store.exchange(table, index, Entry::EMPTY);
                        }
                        held
                    }
                };
                passed.note(number, held);
            }
            page = self.first.after_pages(to.into());
            from = to;
        }
        // What was there and is not held was noted by itself.
        if passed.held > 0 || !account.is_empty() {
            account.note_run(space.root(), self.first, count);
        }
    }

    /// The second half: shows those that are to be shown where nothing is mapped. Gives how many.
    pub fn show<S: TableStore>(
        &self,
        space: &Space,
        store: &mut S,
        owners: &Owners<'_>,
        passed: &mut Passed,
    ) -> u32 {
        let Pass {
            first,
            shown,
            rights,
            ..
        } = self.pass;
        let Some(at) = self.at else {
            return 0;
        };
        let Some(table) = walk::open(store, space.root(), at, rights) else {
            return 0;
        };
        let like = Entry::page(Frame::FIRST, rights, false);
        let (owner, mut entered) = (space.owner(), 0u32);
        let last = first.saturating_add(shown) as usize;
        let words = passed.words.get_mut(first as usize..last);
        for (word, index) in words.unwrap_or(&mut []).iter_mut().zip(at.slot(1)..) {
            let Some(frame) = Frame::new(*word & !HELD) else {
                continue;
            };
            if store.read(table, index).is_present() {
                continue;
            }
            let held = *word & HELD != 0;
            let counted = match held {
                // Its count goes with it, if it can be entered here at all.
                true => owners.is_own(frame, owner),
                false => owners.raise_own(frame, owner),
            };
            if counted {
                *word = frame.number();
                passed.held = passed.held.wrapping_sub(held.into());
                store.write(table, index, like.with_frame(frame));
                entered = entered.saturating_add(1);
            }
        }
        entered
    }
}

/// Puts another page into a place, or none if that is not the owner's. Gives the frame that was there. What
/// is the kernel's stays.
#[inline(always)]
fn replace<S: TableStore>(
    store: &mut S,
    (owners, owner): (&Owners<'_>, OwnerId),
    (table, index): (Frame, usize),
    other: Option<Frame>,
) -> Option<Frame> {
    let old = store.read(table, index);
    if old.is_present() && old.is_window() {
        return None;
    }
    let new = match other {
        Some(other) if owners.raise_own(other, owner) => Entry::page(other, Prot::DEFAULT, false),
        _ => Entry::EMPTY,
    };
    if old.is_present() {
        return Some(store.exchange(table, index, new).frame());
    }
    store.write(table, index, new);
    None
}

impl Passed {
    /// None.
    pub const NONE: Passed = Passed {
        words: Vec::new(),
        held: 0,
    };

    #[inline(always)]
    fn note(&mut self, number: u32, held: bool) {
        // There is room for as many as a pass has.
        let _ = self.words.push(number | if held { HELD } else { 0 });
        self.held = self.held.wrapping_add(held.into());
    }

    /// The frames that have left their places and are not shown.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        let held = self.words.iter().filter(|word| *word & HELD != 0);
        held.filter_map(|word| Frame::new(word & !HELD))
    }

    /// Lowers the counts of those.
    pub fn settle(self, owners: &Owners<'_>) {
        if self.held == 0 {
            return;
        }
        for frame in self.frames() {
            let counted = owners.lower(frame);
            debug_assert!(counted, "frame {frame:?} was not counted");
        }
    }
}
