//! Page tables, as the server changes them: batches of runs, written to the IPC buffer.
//!
//! Entering is a hint and may be dropped; taking away is not, and its answer says what the pages
//! had seen. The spaces of maps are found here, by the index of the map.

use alloc::vec::Vec;

use ipc::buffer::Body;
use ipc::trap;
use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::pass::{self, FRESH};
use ipc_abi::right::{NULL, Name};
use ipc_abi::translation::{DIRTY, Op, REFERENCED, RUN_HEADER, Run, SKIPPED};
use ipc_abi::types::Prot;
use vm_core::effect::{Effect, Effects, Enter};
use vm_core::event::MapId;
use vm_core::machine::{Pass, Revoke, Seen};
use vm_core::object::page::Frame;

/// The address spaces of maps, by index of the map. An index is used again when its map has ended,
/// perhaps before the effect that ends the space is carried out, so the map's generation is kept.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    names: Vec<(u32, Name)>,
}

impl Spaces {
    /// Remembers the space of a map.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no memory for the table.
    pub(crate) fn set(&mut self, map: MapId, space: Name) -> Result<(), Kern> {
        let index = map.index() as usize;
        if index >= self.names.len() {
            let more = index + 1 - self.names.len();
            self.names
                .try_reserve(more)
                .map_err(|_| Kern::ResourceShortage)?;
            self.names.resize(index + 1, (0, NULL));
        }
        self.names[index] = (map.generation().get(), space);
        Ok(())
    }

    /// The space of a map; 0: it has none, so nothing is mapped there.
    pub(crate) fn get(&self, map: MapId) -> Name {
        match self.names.get(map.index() as usize) {
            Some((generation, space)) if *generation == map.generation().get() => *space,
            _ => NULL,
        }
    }

    /// Forgets the space of a map, and gives it.
    pub(crate) fn take(&mut self, map: MapId) -> Name {
        match self.names.get_mut(map.index() as usize) {
            Some((generation, space)) if *generation == map.generation().get() => {
                core::mem::take(space)
            }
            _ => NULL,
        }
    }
}

/// Runs on their way into the buffer's body.
#[derive(Debug)]
struct Batch {
    body: Body,
    length: usize,
    /// The last run of single pages, and where its header lies.
    last: Option<(Run, usize)>,
}

impl Batch {
    fn new() -> Batch {
        Batch {
            body: Body::borrow(),
            length: 0,
            last: None,
        }
    }

    /// Adds one page with its frame, to the last run if that ends before it.
    fn push_page(&mut self, page: Run, frame: Frame) -> bool {
        if let Some((run, at)) = &mut self.last {
            let next = run.address + (u64::from(run.count) << 12);
            let joins = (run.space, run.op, run.protection)
                == (page.space, page.op, page.protection)
                && next == page.address
                && next & ((512 << 12) - 1) != 0;
            let place = *at + RUN_HEADER + 4 * run.count as usize;
            let end = (place + 4).next_multiple_of(8);
            if joins && end <= BODY_SIZE {
                run.count += 1;
                run.epoch = run.epoch.max(page.epoch);
                let words = *at + 16;
                self.body[words..words + 8].copy_from_slice(&run.epoch.to_le_bytes());
                self.body[words + 8..words + 12].copy_from_slice(&run.count.to_le_bytes());
                self.body[place..place + 4].copy_from_slice(&frame.0.to_le_bytes());
                self.length = end;
                return true;
            }
        }
        let at = self.length;
        let pushed = self.push(page, &[frame]);
        self.last = pushed.then_some((page, at));
        pushed
    }

    /// Adds a run. `false`: it does not fit any more.
    fn push(&mut self, run: Run, frames: &[Frame]) -> bool {
        let size = RUN_HEADER + frames.len().div_ceil(2) * 8;
        if self.length + size > BODY_SIZE {
            return false;
        }
        let place = &mut self.body[self.length..self.length + size];
        place.fill(0);
        place[..RUN_HEADER].copy_from_slice(&run.to_bytes());
        for (bytes, frame) in place[RUN_HEADER..].chunks_exact_mut(4).zip(frames) {
            bytes.copy_from_slice(&frame.0.to_le_bytes());
        }
        self.length += size;
        self.last = None;
        true
    }

    /// Runs the batch; afterwards the body holds its results.
    fn run(self) -> Result<(), Kern> {
        let length = self.length;
        drop(self.body);
        if length == 0 {
            return Ok(());
        }
        // SAFETY: the body is not borrowed, and spaces of maps are never the server's own.
        unsafe { trap::pmap_batch(length) }.map(|_| ())
    }
}

fn run(space: Name, op: Op, protection: Prot, address: u64, epoch: u64, count: u32) -> Run {
    Run {
        space,
        op,
        protection,
        uncached: false,
        address,
        epoch,
        count,
        done: 0,
    }
}

/// Enters the pages of the first effects, up to one that enters none or finds no room. Says how many
/// effects that were, and how it went: KERN_RESOURCE_SHORTAGE: the kernel has no frame for a page table.
pub(crate) fn enter(spaces: &Spaces, effects: &Effects) -> (usize, Result<(), Kern>) {
    let mut batch = Batch::new();
    let mut count = 0;
    for effect in effects.as_slice() {
        let (map, frames, mut element) = match effect {
            Effect::Enter(pages) => (pages.map, pages.frames(), of_enter(pages)),
            Effect::EnterRun(pages) => (
                pages.map,
                effects.frames_of(pages),
                run(
                    NULL,
                    Op::Enter,
                    pages.protection,
                    pages.address,
                    pages.epoch,
                    0,
                ),
            ),
            _ => break,
        };
        element.space = spaces.get(map);
        if !push_enter(&mut batch, element, frames) {
            break;
        }
        count += 1;
    }
    (count, batch.run())
}

fn of_enter(pages: &Enter) -> Run {
    Run {
        uncached: pages.uncached,
        ..run(
            NULL,
            Op::Enter,
            pages.protection,
            pages.address,
            pages.epoch,
            0,
        )
    }
}

/// Adds pages from the address of `first` on.
fn push_enter(batch: &mut Batch, first: Run, frames: &[Frame]) -> bool {
    if first.space == NULL {
        return true;
    }
    let before = batch.length;
    let (mut element, mut frames) = (first, frames);
    while !frames.is_empty() {
        // A run stays inside one page table.
        let room = 512 - (element.address >> 12 & 511) as usize;
        let (now, later) = frames.split_at(room.min(frames.len()));
        element.count = now.len() as u32;
        if !batch.push(element, now) {
            batch.length = before;
            return false;
        }
        element.address += u64::from(element.count) << 12;
        frames = later;
    }
    true
}

/// Takes translations back, and says what they had seen.
#[inline(always)]
pub(crate) fn revoke(spaces: &Spaces, elements: &[Revoke]) -> Seen {
    // Most often the caller has just written down this one.
    if let &[
        Revoke::Page {
            map,
            epoch,
            address,
            frame,
            keep,
        },
    ] = elements
    {
        return take(spaces.get(map), (address, frame), epoch, keep);
    }
    revoke_all(spaces, elements)
}

#[inline(never)]
fn revoke_all(spaces: &Spaces, elements: &[Revoke]) -> Seen {
    let mut seen = Seen::default();
    let mut rest = elements;
    while !rest.is_empty() {
        let mut batch = Batch::new();
        let mut pushed = 0;
        for element in rest {
            if !push_revoke(&mut batch, spaces, element) {
                break;
            }
            pushed += 1;
        }
        let length = batch.length;
        if let Err(code) = batch.run() {
            refused(code);
        }
        collect(length, &mut seen);
        rest = &rest[pushed..];
    }
    seen
}

/// Passes pages from one space to another. Says whether all that are to be shown are entered.
pub(crate) fn pass(spaces: &Spaces, pages: &Pass<'_>) -> bool {
    let from = spaces.get(pages.map);
    if from == NULL {
        return false;
    }
    let shown = pages.shown.map(|shown| (spaces.get(shown.map), shown));
    let shown = shown.filter(|(space, _)| *space != NULL);
    let mut body = Body::borrow();
    put_frames(&mut body[..FRESH], pages.frames);
    put_frames(&mut body[FRESH..], pages.fresh);
    drop(body);
    let nowhere = shown.is_none();
    let words = pass::Pass {
        from,
        to: shown.map_or(NULL, |(space, _)| space),
        address: pages.address,
        count: pages.frames.len() as u32,
        fresh: !pages.fresh.is_empty(),
        epoch: pages.epoch,
        first: shown.map_or(0, |(_, shown)| shown.first),
        shown: shown.map_or(0, |(_, shown)| shown.count),
        at: shown.map_or(0, |(_, shown)| shown.address),
        rights: shown.map_or(Prot::NONE, |(_, shown)| shown.protection),
    };
    // SAFETY: the body is not borrowed, and spaces of maps are never the server's own.
    match unsafe { trap::pmap_pass(&words) } {
        Ok(entered) => entered == words.shown && !nowhere,
        Err(code) => refused(code),
    }
}

fn put_frames(place: &mut [u8], frames: &[Frame]) {
    for (bytes, frame) in place.chunks_exact_mut(4).zip(frames) {
        bytes.copy_from_slice(&frame.0.to_ne_bytes());
    }
}

/// Takes one page back.
#[inline(always)]
fn take(space: Name, (address, frame): (u64, Frame), epoch: u64, keep: Prot) -> Seen {
    if space == NULL {
        return Seen::default();
    }
    // SAFETY: spaces of maps are never the server's own.
    match unsafe { trap::pmap_take(space, keep, address, epoch, frame.0) } {
        Ok(SKIPPED) => Seen::default(),
        Ok(word) => Seen {
            referenced: word & REFERENCED != 0,
            dirty: word & DIRTY != 0,
        },
        Err(code) => refused(code),
    }
}

/// What only takes away needs no memory, and names only spaces of the server.
#[cold]
fn refused(code: Kern) -> ! {
    crate::stop(format_args!(
        "the kernel refuses to take translations back: {code}"
    ))
}

fn push_revoke(batch: &mut Batch, spaces: &Spaces, element: &Revoke) -> bool {
    match *element {
        Revoke::Page {
            map,
            epoch,
            address,
            frame,
            keep,
        } => {
            let space = spaces.get(map);
            let op = if keep.is_empty() {
                Op::Remove
            } else {
                Op::Lower
            };
            space == NULL || batch.push_page(run(space, op, keep, address, epoch, 1), frame)
        }
        Revoke::Range {
            map,
            epoch,
            start,
            end,
            keep,
        } => {
            let space = spaces.get(map);
            let op = if keep.is_empty() {
                Op::RemoveRange
            } else {
                Op::LowerRange
            };
            push_range(batch, run(space, op, keep, start, epoch, 0), end)
        }
    }
}

/// Adds a range of any size: the count of one run has 32 bits.
fn push_range(batch: &mut Batch, first: Run, end: u64) -> bool {
    if first.space == NULL {
        return true;
    }
    let before = batch.length;
    let mut run = first;
    while run.address < end {
        let pages = (end - run.address) >> 12;
        run.count = u32::try_from(pages).unwrap_or(u32::MAX);
        if !batch.push(run, &[]) {
            batch.length = before;
            return false;
        }
        run.address += u64::from(run.count) << 12;
    }
    true
}

/// Reads what a batch of pages and ranges found.
fn collect(length: usize, seen: &mut Seen) {
    let body = Body::borrow();
    let mut at = 0;
    while at + RUN_HEADER <= length {
        let mut header = [0; RUN_HEADER];
        header.copy_from_slice(&body[at..at + RUN_HEADER]);
        let Some(run) = Run::from_bytes(header) else {
            return;
        };
        at += RUN_HEADER;
        if run.op.has_frames() {
            let words = run.count as usize;
            for bytes in body[at..length].chunks_exact(4).take(words) {
                let mut word = [0; 4];
                word.copy_from_slice(bytes);
                let word = u32::from_le_bytes(word);
                if word != SKIPPED {
                    seen.referenced |= word & REFERENCED != 0;
                    seen.dirty |= word & DIRTY != 0;
                }
            }
            at += 8 * words.div_ceil(2);
        }
    }
}
