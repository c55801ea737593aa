//! Frames that change hands: between the kernel's pool and a memory server, and between a server and
//! those below it.
//!
//! A frame is in the physical window of its owner and in no other. So each move first makes room where it
//! goes (which may need a table, and fail), then takes it out of where it was, flushes, and only then
//! changes the owner. What is given is zeroed on the way: no server sees what another's clients had.

use ipc_abi::Kern;
use ipc_abi::boot::FrameRange;
use kernel_core::SpaceId;
use kernel_core::addr::{Frame, LARGE_FRAMES};
use kernel_core::owner::OwnerId;
use kernel_core::paging::window;

use super::Memory;
use super::direct_map;
use crate::frames::{self, Depth};

/// Most ranges that one call gives back.
pub(crate) const RANGES: usize = 64;
/// Frames that one call looks at.
const LOOK: u32 = 8 * LARGE_FRAMES;

/// A list of frames.
pub(crate) type Ranges = heapless::Vec<FrameRange, RANGES>;

/// An owner, and the space of its window.
pub(crate) type Place = (OwnerId, SpaceId);

/// What became of looking for frames to take back.
pub(crate) struct Taken {
    /// The frames.
    pub(crate) ranges: Ranges,
    /// Where to go on; `None`: all have been looked at.
    pub(crate) cursor: Option<u32>,
}

impl Memory {
    /// Takes frames from a memory server into the pool, up to the end of the 2 MiB block that they
    /// start in. Gives how many.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: no frames, or no such frames. KERN_NO_ACCESS: one is not the server's.
    /// KERN_FAILURE: one is mapped. KERN_RESOURCE_SHORTAGE: no frame for the table that splits a
    /// large page.
    pub(crate) fn donate(&mut self, from: Place, first: u32, count: u32) -> Result<u32, Kern> {
        let (start, count) = block(from.0, first, count)?;
        self.withdraw(from.1, start, count)?;
        for frame in frames_from(start, count) {
            frames::owners().transfer(frame, from.0, OwnerId::KERNEL)?;
            frames::add(frame);
        }
        frames::check_shortage();
        Ok(count)
    }

    /// Gives frames of a memory server to another, zeroed, up to the end of the 2 MiB block that they
    /// start in. Gives how many.
    ///
    /// # Errors
    /// As [`Memory::donate`]; KERN_RESOURCE_SHORTAGE also for the tables of the other's window.
    pub(crate) fn give(
        &mut self,
        from: Place,
        to: Place,
        first: u32,
        count: u32,
    ) -> Result<u32, Kern> {
        let (start, count) = block(from.0, first, count)?;
        self.show_run(to.1, start, count)?;
        if let Err(code) = self.withdraw(from.1, start, count) {
            self.withdraw(to.1, start, count)?;
            return Err(code);
        }
        for frame in frames_from(start, count) {
            // SAFETY: nothing maps the frame: its count is zero, and it is in no window but that of the
            // new owner, who does not know of it yet.
            unsafe { direct_map::zero(frame) };
            frames::owners().transfer(frame, from.0, to.0)?;
        }
        Ok(count)
    }

    /// Takes back some frames of those who fell with an owner, from number `cursor` on. `fell` knows
    /// them, and where they have windows.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no frame for the tables of the window; nothing is lost.
    pub(crate) fn take_back(
        &mut self,
        to: Place,
        cursor: u32,
        fell: impl Fn(OwnerId) -> Option<Option<SpaceId>>,
    ) -> Result<Taken, Kern> {
        let owners = frames::owners();
        let mut ranges = Ranges::new();
        let (mut number, mut left) = (cursor, LOOK);
        let end = owners.limit();
        while number < end && left > 0 && !ranges.is_full() {
            let Some(start) = Frame::new(number) else {
                break;
            };
            let (owner, _) = owners.get(start);
            let Some(window) = fell(owner) else {
                number += 1;
                left -= 1;
                continue;
            };
            let room = (LARGE_FRAMES - number % LARGE_FRAMES).min(end - number);
            let same = |frame: &Frame| owners.get(*frame) == (owner, 0);
            let count = frames_from(start, room).take_while(same).count() as u32;
            if count == 0 {
                // Cannot be: its spaces are gone. It stays where it is.
                number += 1;
                continue;
            }
            if let Err(code) = self.take_run((owner, window), to, start, count) {
                if ranges.is_empty() {
                    return Err(code);
                }
                break;
            }
            left = left.saturating_sub(count);
            number += count;
            note(&mut ranges, start.number(), count);
            // A block a call, and what comes before it.
            if count == LARGE_FRAMES {
                break;
            }
        }
        Ok(Taken {
            ranges,
            cursor: (number < end).then_some(number),
        })
    }

    fn take_run(
        &mut self,
        (owner, window): (OwnerId, Option<SpaceId>),
        to: Place,
        start: Frame,
        count: u32,
    ) -> Result<(), Kern> {
        self.show_run(to.1, start, count)?;
        if let Some(window) = window {
            self.withdraw(window, start, count)?;
        }
        for frame in frames_from(start, count) {
            frames::owners().transfer(frame, owner, to.0)?;
        }
        Ok(())
    }

    /// Gives a memory server up to `count` frames that the pool can spare.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: it can spare none.
    pub(crate) fn reclaim(&mut self, to: Place, count: u32) -> Result<Ranges, Kern> {
        let mut ranges = Ranges::new();
        for _ in 0..count {
            if ranges.is_full() {
                break;
            }
            let Some(frame) = frames::spare() else {
                break;
            };
            if self.show_run(to.1, frame, 1).is_err() {
                frames::add(frame);
                break;
            }
            frames::owners().transfer(frame, OwnerId::KERNEL, to.0)?;
            note(&mut ranges, frame.number(), 1);
        }
        if ranges.is_empty() {
            return Err(Kern::ResourceShortage);
        }
        Ok(ranges)
    }

    /// Shows frames of one block in a window: by a large page, if that can be.
    fn show_run(&mut self, window: SpaceId, start: Frame, count: u32) -> Result<(), Kern> {
        let space = self.spaces.get(window)?;
        space.allow_all();
        self.store.set_depth(Depth::Reserve);
        let mut shown = window::show(space, &mut self.store, start, count);
        if shown == Err(Kern::InvalidAddress) && count == LARGE_FRAMES {
            // A table has the place of the large page.
            shown = frames_from(start, count)
                .try_for_each(|frame| window::show(space, &mut self.store, frame, 1));
        }
        self.store.set_depth(Depth::Normal);
        self.bill(window);
        shown
    }

    /// Takes frames of one block out of a window, and flushes.
    fn withdraw(&mut self, window: SpaceId, start: Frame, count: u32) -> Result<(), Kern> {
        let space = self.spaces.get(window)?;
        let (store, account) = (&mut self.store, &mut self.account);
        let whole = count == LARGE_FRAMES && window::withdraw_large(space, store, account, start);
        if !whole {
            store.set_depth(Depth::Reserve);
            let split = window::split(space, store, account, start);
            store.set_depth(Depth::Normal);
            split?;
            for frame in frames_from(start, count) {
                window::withdraw(space, store, account, frame);
            }
        }
        self.discharge();
        Ok(())
    }
}

/// The part of these frames that lies in one block, if they are the owner's and nothing maps them.
fn block(owner: OwnerId, first: u32, count: u32) -> Result<(Frame, u32), Kern> {
    frames::owners().check_transfer(first, count, owner)?;
    let start = Frame::new(first).ok_or(Kern::InvalidArgument)?;
    Ok((start, count.min(LARGE_FRAMES - first % LARGE_FRAMES)))
}

fn frames_from(start: Frame, count: u32) -> impl Iterator<Item = Frame> {
    (0..count).filter_map(move |index| start.after(index))
}

/// Adds frames to a list that has room.
fn note(ranges: &mut Ranges, first: u32, count: u32) {
    match ranges.last_mut() {
        Some(last) if last.first + last.count == first => last.count += count,
        _ => {
            let _ = ranges.push(FrameRange { first, count });
        }
    }
}
