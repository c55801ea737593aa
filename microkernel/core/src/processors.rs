//! Several processors: what each has of its own, and which of them a ready thread goes to.
//!
//! Decisions are always made for one processor, *here*: what it runs (its [`Seat`]) and who waits for it are
//! fields of [`Kernel`] itself, so that nothing has to be looked up, and whoever decides for another
//! exchanges them first ([`Kernel::take_over`]). A thread that becomes ready goes to a processor that
//! idles, else to the one with the least important work if it is more important, else to the
//! shortest queue. Where that is elsewhere the processor is *poked*: the shell has it look
//! ([`Kernel::take_pokes`]). A processor without work of its own takes it from the others, so none
//! idles while somebody could run on it.

use alloc::vec::Vec;

use crate::{
    cells::ThreadCells,
    kernel::{Kernel, Running, ThreadId},
    run_queue::RunQueue,
    seat::Seat,
    thread::State,
};
use ipc_abi::Kern;

/// Most processors that are used.
pub use crate::acpi::PROCESSORS_MAX;

/// What a processor has of its own while decisions are made for another.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) seat: &'static Seat,
    pub(crate) run_queue: RunQueue,
    /// Whether `current` may have been told to run elsewhere.
    evict: bool,
}

impl Processor {
    /// What stands for the one that decisions are made for, with a seat that nobody has.
    const fn away(seat: &'static Seat) -> Processor {
        Processor {
            seat,
            run_queue: RunQueue::none(seat),
            evict: false,
        }
    }

    #[inline]
    fn current(&self) -> Option<&'static ThreadCells> {
        self.seat.current.get()
    }

    fn idles(&self) -> bool {
        self.current().is_none() && self.run_queue.len() == 0
    }
}

/// The processors other than *here*, and where that is.
#[derive(Debug)]
pub(crate) struct Processors {
    /// Which processor decisions are made for.
    pub(crate) here: usize,
    /// All of them, *here* as [`Processor::away`]. Empty: there is only one.
    pub(crate) all: Vec<Processor>,
    /// Bit n: processor n is to look at its queue, and is to be told so.
    pub(crate) pokes: u64,
    /// Bit n: processor n is to look, and has not yet since it was to be told.
    pub(crate) looks: u64,
    /// As [`Processor::evict`], for *here*.
    evict: bool,
}

impl Processors {
    pub(crate) const ONE: Processors = Processors {
        here: 0,
        all: Vec::new(),
        pokes: 0,
        looks: 0,
        evict: false,
    };

    fn poke(&mut self, number: usize) {
        self.pokes |= bit(number);
        self.looks |= bit(number);
    }
}

const fn bit(number: usize) -> u64 {
    1 << (number & 63)
}

/// Where among its equals a thread is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Next,
    Last,
}

impl Kernel {
    /// Says which processors there are, by their seats, of which the first is the one that the kernel was
    /// made with and the others are new. Until then there is one. They idle.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: none, or more than [`PROCESSORS_MAX`]. KERN_RESOURCE_SHORTAGE.
    pub fn set_processors(
        &mut self,
        seats: impl ExactSizeIterator<Item = &'static Seat>,
    ) -> Result<(), Kern> {
        let count = seats.len();
        if count == 0 || count > PROCESSORS_MAX {
            return Err(Kern::InvalidArgument);
        }
        let mut all = Vec::new();
        let reserved = all.try_reserve_exact(count);
        reserved.map_err(|_| Kern::ResourceShortage)?;
        all.push(Processor::away(Seat::kept()?));
        for seat in seats.skip(1) {
            all.push(Processor {
                run_queue: RunQueue::new(seat)?,
                ..Processor::away(seat)
            });
        }
        if count > 1 {
            self.processors.all = all;
        }
        Ok(())
    }

    /// The seat of the processor that decisions are made for.
    #[must_use]
    pub fn seat(&self) -> &'static Seat {
        self.seat
    }

    /// How many processors there are.
    #[must_use]
    pub fn processors(&self) -> usize {
        self.processors.all.len().max(1)
    }

    /// From now on decisions are made for processor `number`: [`Kernel::running`] is what it runs, if
    /// it runs at all; then it is to do something for the thread, or to [`Kernel::look`].
    pub fn take_over(&mut self, number: usize) {
        let here = self.processors.here;
        if number == here || number >= self.processors.all.len() {
            return;
        }
        self.exchange(number);
        self.processors.all.swap(here, number);
        self.processors.here = number;
        // Who was not told yet need not be: it is here.
        self.processors.looks &= !(self.processors.pokes & bit(number));
        self.processors.pokes &= !bit(number);
    }

    /// Exchanges what *here* has with what lies at a place.
    fn exchange(&mut self, number: usize) {
        if let Some(other) = self.processors.all.get_mut(number) {
            core::mem::swap(&mut self.seat, &mut other.seat);
            core::mem::swap(&mut self.run_queue, &mut other.run_queue);
            core::mem::swap(&mut self.processors.evict, &mut other.evict);
        }
    }

    /// The processors, by bits, that have something to look at since the last call: each is to be
    /// interrupted, and to [`Kernel::look`].
    /// One that was taken over since is not among them.
    #[inline]
    #[must_use]
    pub fn take_pokes(&mut self) -> u64 {
        core::mem::take(&mut self.processors.pokes)
    }

    /// Whether the running thread was asked to leave, so that somebody has to [`Kernel::look`].
    #[inline]
    #[must_use]
    pub fn asks_to_look(&self) -> bool {
        self.processors.evict
    }

    /// Decides who runs here: for a processor that was poked, or that idles.
    pub fn look(&mut self) {
        self.processors.looks &= !bit(self.processors.here);
        self.dispatch();
    }

    /// Whether a processor was poked and has not looked since.
    pub(crate) fn is_to_look(&self, number: usize) -> bool {
        self.processors.looks & bit(number) != 0
    }

    /// The processor that runs a thread, or for which it waits.
    #[must_use]
    pub fn processor_of(&self, thread: ThreadId) -> Option<usize> {
        let record = self.threads.get(thread)?;
        match record.state.get() {
            State::Ready => Some(usize::from(record.home)),
            _ if self
                .running()
                .is_some_and(|running| running.thread == thread) =>
            {
                Some(self.processors.here)
            }
            _ => self.elsewhere(thread),
        }
    }

    /// The processor, not *here*, that runs a thread.
    fn elsewhere(&self, thread: ThreadId) -> Option<usize> {
        let runs = |processor: &Processor| {
            let current = processor.current().map(|current| current.actor.get());
            current.is_some_and(|running| running.thread == thread)
        };
        self.processors.all.iter().position(runs)
    }

    /// Each processor with what runs on it and who waits for it.
    pub(crate) fn each_processor(
        &self,
    ) -> impl Iterator<Item = (usize, Option<Running>, &RunQueue)> {
        let here = self.processors.here;
        let others = self.processors.all.iter().enumerate();
        let others = others.filter(move |(number, _)| *number != here);
        let others = others.map(|(number, other)| {
            let current = other.current().map(|current| current.actor.get());
            (number, current, &other.run_queue)
        });
        core::iter::once((here, self.running(), &self.run_queue)).chain(others)
    }

    /// Takes a thread, which is ready and queued, out of its queue.
    pub(crate) fn unqueue(&mut self, thread: ThreadId) {
        let record = self.threads.at(thread);
        let home = usize::from(record.home);
        // Who stands behind a thread that could not move may have a processor elsewhere.
        if record.pin.is_some() && home != self.processors.here {
            self.processors.poke(home);
        }
        let queue = match self.processors.all.get_mut(home) {
            Some(other) if home != self.processors.here => &mut other.run_queue,
            _ => &mut self.run_queue,
        };
        queue.remove(self.threads.at(thread).cells);
    }

    /// Queues a ready thread, which is in no queue, where it gets a processor first.
    #[inline]
    pub(crate) fn make_ready(&mut self, thread: ThreadId, turn: Turn) {
        if self.processors.all.is_empty() {
            return self.make_ready_here(thread, turn);
        }
        match self.choose(thread) {
            number if number == self.processors.here => self.make_ready_here(thread, turn),
            number => self.make_ready_elsewhere(thread, turn, number),
        }
    }

    fn make_ready_here(&mut self, thread: ThreadId, turn: Turn) {
        let record = self.threads.at_mut(thread);
        record.home = self.processors.here as u8;
        match turn {
            Turn::Last => self.run_queue.push_back(record.cells),
            Turn::Next => self.run_queue.push_front(record.cells),
        }
    }

    fn make_ready_elsewhere(&mut self, thread: ThreadId, turn: Turn, number: usize) {
        let Some(other) = self.processors.all.get_mut(number) else {
            return self.make_ready_here(thread, turn);
        };
        let record = self.threads.at_mut(thread);
        record.home = number as u8;
        let looks = other.current().is_none() || record.priority.get() >= other.seat.priority.get();
        match turn {
            Turn::Last => other.run_queue.push_back(record.cells),
            Turn::Next => other.run_queue.push_front(record.cells),
        }
        // Equals get a slice each, which the processor has to begin.
        if looks {
            self.processors.poke(number);
        }
    }

    /// Which processor a ready thread is for.
    fn choose(&self, thread: ThreadId) -> usize {
        let record = self.threads.at(thread);
        if let Some(pin) = record.pin {
            return usize::from(pin);
        }
        let here = self.processors.here;
        if self.seat.current.get().is_none() && self.run_queue.len() == 0 {
            return here;
        }
        let others = || {
            let all = self.processors.all.iter().enumerate();
            all.filter(move |(number, _)| *number != here)
        };
        let home = usize::from(record.home);
        let idle = others().filter(|(_, other)| other.idles());
        if let Some((number, _)) = idle.min_by_key(|(number, _)| *number != home) {
            return number;
        }
        let busy = others().filter_map(|(number, other)| {
            other.current()?;
            Some((number, other.seat.priority.get()))
        });
        let least = busy.min_by_key(|(_, priority)| *priority);
        let seat = self.seat;
        let mine = seat.current.get().map_or(u8::MAX, |_| seat.priority.get());
        match least {
            Some((number, priority)) if priority < mine && priority < record.priority.get() => {
                number
            }
            _ if mine < record.priority.get() => here,
            _ => {
                let shortest = others().min_by_key(|(_, other)| other.run_queue.len());
                match shortest {
                    Some((number, other)) if other.run_queue.len() < self.run_queue.len() => number,
                    _ => here,
                }
            }
        }
    }

    /// Takes the thread that *here* is to run next out of its queue: its own most important, or a more
    /// important one that waits for another processor.
    pub(crate) fn next_ready(&mut self) -> Option<&'static ThreadCells> {
        if self.processors.all.is_empty() {
            return self.run_queue.pop();
        }
        let own = self.run_queue.top();
        let waiting = self.processors.all.iter().filter_map(|other| {
            let thread = other.run_queue.movable(&self.threads)?;
            Some((thread.priority.get(), thread))
        });
        match waiting.max_by_key(|(priority, _)| *priority) {
            Some((priority, thread)) if own.is_none_or(|own| own < priority) => {
                self.unqueue(thread.id());
                Some(thread)
            }
            _ => self.run_queue.pop(),
        }
    }

    /// Gives what waits *here* to a processor that idles.
    #[inline(always)]
    pub(crate) fn share(&mut self) {
        if !self.processors.all.is_empty() {
            self.share_among();
        }
    }

    fn share_among(&mut self) {
        while self.run_queue.len() > 0
            && let Some(idle) = self
                .processors
                .all
                .iter()
                .enumerate()
                .position(|(number, other)| number != self.processors.here && other.idles())
            && let Some(thread) = self.run_queue.movable(&self.threads)
        {
            self.run_queue.remove(thread);
            self.make_ready_elsewhere(thread.id(), Turn::Last, idle);
        }
    }

    /// Takes the processor from a thread, whichever runs it. That one is poked if it is not *here*.
    pub(crate) fn vacate(&mut self, thread: ThreadId) {
        self.leave(thread);
        if let Some(number) = self.elsewhere(thread)
            && let Some(other) = self.processors.all.get_mut(number)
        {
            other.seat.current.set(None);
            self.processors.poke(number);
        }
    }

    /// The priority of a thread that runs has changed.
    pub(crate) fn running_priority(&mut self, thread: ThreadId, priority: u8) {
        if self
            .running()
            .is_some_and(|running| running.thread == thread)
        {
            self.seat.priority.set(priority);
        } else if let Some(number) = self.elsewhere(thread)
            && let Some(other) = self.processors.all.get_mut(number)
        {
            other.seat.priority.set(priority);
            self.processors.poke(number);
        }
    }

    /// Trap `thread_set_processor`: the thread runs only there from now on, or anywhere again.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_set_processor(&mut self, thread: u64, processor: u64) -> Result<(), Kern> {
        let me = self.caller()?;
        let thread = match thread {
            0 => me.thread,
            name => self.resolve_thread(me.task, name)?,
        };
        let pin = if processor == ipc_abi::trap::ANY_PROCESSOR {
            None
        } else {
            let number = u8::try_from(processor).map_err(|_| Kern::InvalidValue)?;
            if usize::from(number) >= self.processors() {
                return Err(Kern::InvalidValue);
            }
            Some(number)
        };
        let ready = self.threads.at(thread).state.get() == State::Ready;
        if ready {
            self.unqueue(thread);
        }
        let record = self.threads.at_mut(thread);
        record.pin = pin;
        record.rank.set(record.true_rank());
        if ready {
            self.make_ready(thread, Turn::Last);
        } else {
            self.ask_away(thread);
        }
        self.dispatch();
        Ok(())
    }

    /// Has a thread that runs leave its processor, if it is suspended or is to run elsewhere: at the
    /// next decision, if it does so here; elsewhere once it comes into the kernel, where it may be
    /// already: then what it asked for is done first.
    pub(crate) fn ask_away(&mut self, thread: ThreadId) {
        if self
            .running()
            .is_some_and(|running| running.thread == thread)
        {
            self.processors.evict = true;
        } else if let Some(number) = self.elsewhere(thread)
            && let Some(other) = self.processors.all.get_mut(number)
        {
            other.evict = true;
            self.processors.poke(number);
        }
    }

    /// Sends the running thread away if it was asked to go, and still is.
    #[inline]
    pub(crate) fn send_away(&mut self) {
        if core::mem::take(&mut self.processors.evict)
            && let Some(running) = self.running()
        {
            let here = self.processors.here;
            let record = self.threads.at(running.thread);
            if record.is_suspended() {
                record.state.set(State::Stopped);
                self.seat.current.set(None);
            } else if record.pin.is_some_and(|pin| usize::from(pin) != here) {
                record.state.set(State::Ready);
                self.seat.current.set(None);
                self.make_ready(running.thread, Turn::Last);
            }
        }
    }
}
