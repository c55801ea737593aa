//! What goes out of the core: carried out in order after [`crate::Core::handle`], never looked
//! back upon.
//!
//! The list has a fixed capacity, taken once. An event that could need more than what is left
//! is not begun; the core says that it wants a `Step` instead ([`crate::Core::wants_step`]).

use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::fault::BESIDE_MAX;
use ipc_abi::types::Prot;

use crate::event::{MapId, PortOf, ReplyTo, RightId, Time};
use crate::object::page::Frame;

/// Pages that one [`Enter`] enters at most.
pub const ENTER_MAX: usize = 16;

/// Pages to enter, side by side, with equal rights: a hint, idempotent, void if its epoch is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enter {
    /// Whose address space.
    pub map: MapId,
    /// The space's epoch under which this was decided.
    pub epoch: u64,
    /// Address of the first page.
    pub address: u64,
    /// Rights to give.
    pub protection: Prot,
    /// Map uncached: device frames.
    pub uncached: bool,
    /// Pages.
    pub count: u8,
    /// Their frames; only the first `count` mean anything.
    pub frames: [Frame; ENTER_MAX],
}

impl Enter {
    /// The frames that mean something.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        self.frames.get(..usize::from(self.count)).unwrap_or(&[])
    }
}

/// Pages of any number to enter, side by side, with equal rights: as [`Enter`], with frames that lie in
/// the list of effects ([`Effects::frames_of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnterRun {
    /// Whose address space.
    pub map: MapId,
    /// The space's epoch under which this was decided.
    pub epoch: u64,
    /// Address of the first page.
    pub address: u64,
    /// Rights to give.
    pub protection: Prot,
    /// Where in the list its frames begin.
    pub first: u32,
    /// Pages.
    pub count: u32,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "the list has a fixed capacity, and effects are never allocated piecemeal"
)]
pub enum Effect {
    /// Enter translations. Those of a fault's answer come before the answer.
    Enter(Enter),
    /// Enter many translations.
    EnterRun(EnterRun),
    /// Answer a fault: resume the thread with this one translation in registers (none: it tries
    /// again), or raise an exception with the code.
    Resume {
        /// Whom.
        to: ReplyTo,
        /// What becomes of the thread.
        result: FaultResult,
    },
    /// Answer a call.
    Reply {
        /// Whom; a one-way request has nobody, and gets no such effect.
        to: ReplyTo,
        /// What the answer says.
        answer: Answer,
    },
    /// Give back references to a right that came in a message.
    Release(RightId, u32),
    /// Ask to be told when this right's port dies.
    WatchDead(RightId),
    /// The last notice that nobody has a right to this port was too old: ask for another.
    WatchSenders(PortOf),
    /// The record behind one of the server's own ports has ended: destroy the port, if there is one.
    PortGone(PortOf),
    /// A map has ended and nothing maps anything there: destroy its address space.
    SpaceGone(MapId),
    /// The port of an object may have something to say: see [`crate::Core::next_message`].
    Talk(RightId),
    /// Send `Event::Tick` no later than this.
    WakeAt(Time),
    /// Give these frames to the kernel.
    Donate {
        /// First frame.
        first: Frame,
        /// Frames.
        count: u32,
    },
    /// A line for the console: something happened that nobody asked for.
    Report(Report),
}

/// What is worth a line on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Dirty pages of a dead pager's object were dropped with it.
    DirtyDropped {
        /// Port of the memory object.
        port: RightId,
        /// Pages.
        pages: u32,
    },
    /// A wait on a pager ended by its deadline.
    PagerLate {
        /// Port of the memory object.
        port: RightId,
        /// Page of the object.
        page: u64,
    },
    /// A task's ring of deferred reclamation was not what it should be: the task has lost its memory.
    RingCorrupt {
        /// Its map's number.
        map: u32,
    },
}

impl core::fmt::Display for Report {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Report::DirtyDropped { port, pages } => write!(
                f,
                "{pages} written pages of memory object {} are lost: its pager is gone",
                port.0
            ),
            Report::RingCorrupt { map } => write!(
                f,
                "the ring of deferred reclamation of map {map} is corrupt: its memory is taken away"
            ),
            Report::PagerLate { port, page } => write!(
                f,
                "the pager of memory object {} did not bring page {page} in time",
                port.0
            ),
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// Effects of the list that have been taken out.
    taken: usize,
    /// The frames of all [`EnterRun`]s of the list.
    frames: Vec<Frame>,
    /// What goes with the answer of [`crate::Core::fault_now`].
    pub beside: Beside,
}

/// Pages to enter beside the one that answers a fault, under its epoch and with its rights: see
/// [`ipc_abi::fault::Beside`], whose words these are.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// Address of the first page.
    pub address: u64,
    /// Pages; 0: none, and the rest means nothing.
    pub count: u32,
    /// For each its frame, perhaps without WRITE, or that it is left out.
    pub words: [u32; BESIDE_MAX],
}

impl Default for Beside {
    fn default() -> Beside {
        Beside {
            address: 0,
            count: 0,
            words: [0; BESIDE_MAX],
        }
    }
}

#[cfg(any(test, feature = "touched"))]
impl Effects {
    /// Adds what lies beside the answer to a fault as effects of their own.
    pub(crate) fn push_beside(&mut self, map: MapId, answer: ipc_abi::translation::Enter) {
        let beside = self.beside;
        let pages = beside.words.iter().take(beside.count as usize);
        for (word, place) in pages.zip(0u64..) {
            if *word == ipc_abi::translation::SKIPPED {
                continue;
            }
            let protection = match word & ipc_abi::fault::READ_ONLY {
                0 => answer.protection,
                _ => answer.protection.difference(Prot::WRITE),
            };
            let mut frames = [Frame(0); ENTER_MAX];
            frames[0] = Frame(word & !ipc_abi::fault::READ_ONLY);
            self.push(Effect::Enter(Enter {
                map,
                epoch: answer.epoch,
                address: beside.address.wrapping_add(crate::range::bytes_of(place)),
                protection,
                uncached: false,
                count: 1,
                frames,
            }));
        }
    }
}

/// Effects that one list holds.
pub const EFFECTS_MAX: usize = 512;
/// Effects that one fault, or one step of an operation, makes at most.
pub const EFFECTS_STEP: usize = 96;
/// Frames that the runs of one list have at most.
pub const RUN_FRAMES: usize = 256;

impl Effects {
    /// A list with all its memory.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: there is none.
    pub fn new() -> Result<Effects, Kern> {
        let mut list = Vec::new();
        list.try_reserve_exact(EFFECTS_MAX)
            .map_err(|_| Kern::ResourceShortage)?;
        let mut frames = Vec::new();
        frames
            .try_reserve_exact(RUN_FRAMES)
            .map_err(|_| Kern::ResourceShortage)?;
        Ok(Effects {
            list,
            taken: 0,
            frames,
            beside: Beside::default(),
        })
    }

    /// Adds an effect. Beyond the capacity it is dropped: [`Effects::has_room`] is asked first.
    pub fn push(&mut self, effect: Effect) {
        debug_assert!(self.list.len() < EFFECTS_MAX, "effects overflow");
        if self.list.len() < EFFECTS_MAX {
            self.list.push(effect);
        }
    }

    /// Adds the frame of a page that a run is to enter. Who adds some asks for room first.
    #[inline]
    pub(crate) fn push_frame(&mut self, frame: Frame) {
        debug_assert!(self.frames.len() < RUN_FRAMES, "frames overflow");
        if self.frames.len() < RUN_FRAMES {
            self.frames.push(frame);
        }
    }

    /// Frames that runs have so far.
    pub(crate) fn frames_used(&self) -> u32 {
        self.frames.len() as u32
    }

    /// Frames that there is room for.
    pub(crate) fn frames_left(&self) -> u32 {
        RUN_FRAMES.saturating_sub(self.frames.len()) as u32
    }

    /// The frame at a place among those of runs.
    pub(crate) fn frame_at(&self, place: u32) -> Option<Frame> {
        self.frames.get(place as usize).copied()
    }

    /// The frames of a run, until the list is empty.
    #[must_use]
    pub fn frames_of(&self, run: &EnterRun) -> &[Frame] {
        let first = run.first as usize;
        let frames = first..first.saturating_add(run.count as usize);
        self.frames.get(frames).unwrap_or(&[])
    }

    /// Whether one more fault or step may be begun.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.list.len().saturating_add(EFFECTS_STEP) <= EFFECTS_MAX
    }

    /// What there is to do, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect] {
        self.list.get(self.taken..).unwrap_or(&[])
    }

    /// Takes out the only effect, if it is the answer to a fault: the common case, in which nothing
    /// need be moved about.
    #[inline]
    pub fn take_only_resume(&mut self) -> Option<(ReplyTo, FaultResult)> {
        let [Effect::Resume { to, result }] = self.as_slice() else {
            return None;
        };
        let answer = (*to, *result);
        self.clear();
        Some(answer)
    }

    /// Takes the first out.
    pub fn pop_front(&mut self) -> Option<Effect> {
        let first = self.list.get(self.taken).copied();
        self.taken = self.taken.saturating_add(1);
        if first.is_none() {
            self.clear();
        }
        first
    }

    fn clear(&mut self) {
        self.list.clear();
        self.frames.clear();
        self.taken = 0;
    }
}

/// What a fault is answered with: a translation, no more than to try again, or a code.
pub type FaultResult = Result<Option<ipc_abi::translation::Enter>, Kern>;
/// What a call is answered with.
pub type Answer = Result<crate::call::Reply, Kern>;
