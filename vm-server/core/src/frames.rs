//! Frames: who may take one, where a free one comes from, and whom it counts against.
//!
//! A frame is handed out zeroed ([`Core::frame_zeroed`]) or to be overwritten whole at once
//! ([`Core::frame_any`]): nobody ever sees what lay in it before. Clients leave a reserve for those
//! who free frames, and pagers half of it for the kernel.

use crate::effect::Effect;
use crate::machine::Machine;
use crate::object::page::{Frame, State};
use crate::{Core, Turn};

/// Frames that an idle event zeroes.
const IDLE_ZERO: u32 = 8;
/// Frames that are kept zeroed ahead.
const ZEROED_AHEAD: u32 = 1024;
/// Frames that one donation to the kernel gives at most.
const DONATE_MAX: u32 = 64;

/// Who wants a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A client's fault or call: leaves the whole reserve.
    Client,
    /// A task that others depend on, or the server's heap: leaves a quarter of the reserve.
    System,
    /// A tray: leaves half of the reserve.
    Pager,
    /// The kernel: may take the last.
    Kernel,
}

impl Core {
    pub(crate) const fn floor(&self, class: Class) -> u32 {
        match class {
            Class::Client => self.config.reserve,
            Class::System => self.config.reserve / 4,
            Class::Pager => self.config.reserve / 2,
            Class::Kernel => 0,
        }
    }

    /// A frame whose contents are to be overwritten as a whole, now.
    pub(crate) fn frame_any(&mut self, class: Class) -> Option<Frame> {
        if self.pages.free() <= self.floor(class) {
            return None;
        }
        self.pages
            .take(State::Free)
            .or_else(|| self.pages.take(State::Clean))
    }

    /// A frame of zeros.
    #[inline]
    pub(crate) fn frame_zeroed<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        class: Class,
    ) -> Option<Frame> {
        if self.pages.free() <= self.floor(class) {
            return None;
        }
        if let Some(frame) = self.pages.take(State::Clean) {
            return Some(frame);
        }
        let frame = self.pages.take(State::Free)?;
        turn.machine.zero(frame);
        Some(frame)
    }

    /// Frames of zeros, as many as `count` beyond those that are left to others, and as fit.
    pub(crate) fn frames_zeroed<M: Machine, const N: usize>(
        &mut self,
        turn: &mut Turn<'_, M>,
        class: Class,
        count: u32,
    ) -> heapless::Vec<Frame, N> {
        let mut frames = heapless::Vec::new();
        let most = self.pages.free().saturating_sub(self.floor(class));
        let most = most.min(count);
        let clean = self.pages.take_run(State::Clean, most, &mut frames);
        let from = frames.len();
        self.pages
            .take_run(State::Free, most.saturating_sub(clean), &mut frames);
        for &frame in frames.iter().skip(from) {
            turn.machine.zero(frame);
        }
        frames
    }

    /// Gives back a frame that nobody maps; whoever waits for frames is woken.
    pub(crate) fn frame_free(&mut self, frame: Frame) {
        self.pages.put(frame, State::Free);
        self.frames_freed();
    }

    /// After frames were given back: whoever waits for some is woken.
    pub(crate) fn frames_freed(&mut self) {
        if !self.short.is_empty() && self.pages.free() > self.config.reserve {
            self.wake_all(|core| Some(&mut core.short));
        }
    }

    /// Takes frames over from whoever started the server.
    pub(crate) fn add_frames(&mut self, first: u32, count: u32) {
        for number in first..first.saturating_add(count) {
            self.pages.add(Frame(number));
        }
        if !self.short.is_empty() {
            self.wake_all(|core| Some(&mut core.short));
        }
    }

    /// Gives the kernel as many frames as it wants and there are, up to a limit.
    pub(crate) fn donate<M: Machine>(&mut self, turn: &mut Turn<'_, M>, wanted: u32) {
        for _ in 0..wanted.min(DONATE_MAX) {
            let Some(frame) = self.frame_any(Class::Kernel) else {
                return;
            };
            self.pages.give_away(frame);
            turn.effects.push(Effect::Donate {
                first: frame,
                count: 1,
            });
        }
    }

    /// Zeroes a few frames ahead. Says whether there are more worth it.
    pub(crate) fn zero_ahead<M: Machine>(&mut self, turn: &mut Turn<'_, M>) -> bool {
        for _ in 0..IDLE_ZERO {
            if self.pages.clean() >= ZEROED_AHEAD {
                return false;
            }
            let Some(frame) = self.pages.take(State::Free) else {
                return false;
            };
            turn.machine.zero(frame);
            self.pages.put(frame, State::Clean);
        }
        true
    }

    /// Whether `Event::Idle` would do something.
    #[must_use]
    pub const fn wants_idle(&self) -> bool {
        self.pages.clean() < ZEROED_AHEAD && self.pages.free() > self.pages.clean()
    }

    /// A run of `count` free frames side by side, taken out of the lists; `None` if there is none.
    /// Looks first behind the last one, then at every frame: for drivers, when they start, and for
    /// the server's heap.
    pub(crate) fn frames_contiguous(&mut self, count: u32, class: Class) -> Option<Frame> {
        if self.pages.free().saturating_sub(count) <= self.floor(class) {
            return None;
        }
        let first = self.free_run(self.run_end, count);
        let first = first.or_else(|| self.free_run(0, count))?;
        self.run_end = first.saturating_add(count);
        for number in first..self.run_end {
            self.pages.take_this(Frame(number));
        }
        Some(Frame(first))
    }

    /// The first run of `count` free frames from a frame on.
    fn free_run(&self, from: u32, count: u32) -> Option<u32> {
        let mut length = 0u32;
        for (frame, page) in self.pages.from(from) {
            if !matches!(page.state, State::Free | State::Clean) {
                length = 0;
                continue;
            }
            length = length.saturating_add(1);
            if length == count {
                return Some(frame.0.saturating_add(1).saturating_sub(count));
            }
        }
        None
    }
}
