//! Applies what kernel-core decided about the processor: goes on with a thread, idles, sets the
//! timer, takes interrupts.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use ipc_abi::message::FOREVER;
use kernel_core::Running;
use kernel_core::state::watches;

use crate::arch::clock::Clock;
use crate::arch::context::Saved;
use crate::arch::{apic, cpu, percpu, state};
use crate::exception;
use crate::frames;
use crate::processors;
use crate::trace;
use crate::world::{self, World};

/// Nanoseconds between two samples of who runs: about as often as a slice ends, but not in step with what
/// threads wait for.
const SAMPLE: u64 = 9_973_127;

/// What is loaded in a processor, which alone changes it, with the kernel's lock or in its gate; but for what
/// [`processors::recall`] does to it.
pub(crate) struct Processor {
    /// The thread, as kernel-core names it; 0: none.
    thread: AtomicU64,
    /// Physical address of the root table; 0: the one that start-up loaded.
    root: AtomicU64,
    fs_base: AtomicU64,
    /// When its timer comes.
    alarm: AtomicU64,
    /// When it is looked again who runs on it; `FOREVER`: nobody does.
    sample: AtomicU64,
    /// Loads of CR3.
    space_switches: AtomicU64,
    /// Whether debug registers of a thread are loaded.
    debugging: AtomicBool,
}

/// How many processors have debug registers of threads loaded.
static DEBUGGING: AtomicUsize = AtomicUsize::new(0);

impl Processor {
    /// A processor that has run no thread.
    pub(crate) const fn new() -> Processor {
        Processor {
            thread: AtomicU64::new(0),
            root: AtomicU64::new(0),
            fs_base: AtomicU64::new(0),
            alarm: AtomicU64::new(FOREVER),
            sample: AtomicU64::new(FOREVER),
            space_switches: AtomicU64::new(0),
            debugging: AtomicBool::new(false),
        }
    }

    /// This processor.
    #[inline(always)]
    pub(crate) fn here() -> &'static Processor {
        &percpu::here().processor
    }

    /// The thread that is loaded.
    #[inline]
    pub(crate) fn thread(&self) -> Option<Saved> {
        let word = self.thread.load(Relaxed);
        (word != 0).then(|| Saved::of(kernel_core::Context(word)))
    }

    /// Whether this thread is loaded.
    #[inline(always)]
    pub(crate) fn has(&self, thread: Saved) -> bool {
        self.thread.load(Relaxed) == thread.word().0
    }

    /// The root table that is loaded.
    pub(crate) fn root(&self) -> u64 {
        self.root.load(Relaxed)
    }

    /// When the timer comes, in nanoseconds since boot; `FOREVER`: not.
    pub(crate) fn alarm(&self) -> u64 {
        self.alarm.load(Relaxed)
    }

    /// When the next sample is due. There are none while nothing runs: then the next is one of a row that
    /// began at boot, wherever work begins. Who idles is looked at once more, and found so.
    fn next_sample(&self, runs: bool, clock: &Clock) -> u64 {
        let next = self.sample.load(Relaxed);
        if runs == (next != FOREVER) {
            return next;
        }
        let next = match runs {
            true => (clock.now() / SAMPLE + 1) * SAMPLE,
            false => FOREVER,
        };
        self.sample.store(next, Relaxed);
        next
    }

    /// The time of the samples that are due, if any are.
    fn take_samples(&self, now: u64) -> u64 {
        let next = self.sample.load(Relaxed);
        let time = now
            .checked_sub(next)
            .map_or(0, |late| (late / SAMPLE + 1) * SAMPLE);
        if time > 0 {
            self.sample.store(next + time, Relaxed);
        }
        time
    }

    /// Loads of CR3 so far.
    pub(crate) fn space_switches(&self) -> u64 {
        self.space_switches.load(Relaxed)
    }

    /// Notes that no thread is loaded.
    pub(crate) fn forget_thread(&self) {
        self.thread.store(0, Relaxed);
    }

    /// Notes that this root is loaded.
    pub(crate) fn note_root(&self, root: u64) {
        self.root.store(root, Relaxed);
    }

    /// Loads a thread, and its space if that is another.
    #[inline(always)]
    pub(crate) fn load(&self, thread: Saved) {
        self.thread.store(thread.word().0, Relaxed);
        percpu::set_running(thread);
        let (root, base) = (thread.root(), thread.fs_base());
        // Ring 3 can zero its FS base by loading a selector, so another task's is never trusted.
        if self.root.load(Relaxed) != root {
            self.load_root(root);
        } else if self.fs_base.load(Relaxed) == base {
            return;
        }
        self.fs_base.store(base, Relaxed);
        cpu::set_fs_base(base);
    }

    /// Loads a root table.
    #[inline(always)]
    pub(crate) fn load_root(&self, root: u64) {
        self.root.store(root, Relaxed);
        percpu::add_to(&self.space_switches);
        cpu::load_root(root);
    }

    /// Loads the debug registers of a thread, or clears those of the one before. Threads that have
    /// any go the general way alone, and no processor goes a fast one meanwhile.
    fn load_debug(&self, thread: Saved) {
        let debug = thread.debug();
        if watches(debug.control) {
            if !self.debugging.swap(true, Relaxed) {
                DEBUGGING.fetch_add(1, Relaxed);
            }
            state::load_debug(&debug);
        } else {
            self.clear_debug();
        }
    }

    /// Has this processor watch nothing.
    fn clear_debug(&self) {
        if self.debugging.load(Relaxed) {
            self.debugging.store(false, Relaxed);
            DEBUGGING.fetch_sub(1, Relaxed);
            state::clear_debug();
        }
    }

    /// Sets the FS base of the running thread.
    pub(crate) fn set_fs_base(&self, thread: Saved, base: u64) {
        thread.set_fs_base(base);
        self.fs_base.store(base, Relaxed);
        cpu::set_fs_base(base);
    }

    /// Another processor decided since this one was here: loads what is to be loaded now.
    pub(crate) fn restore(&self, running: Option<&Running>) {
        match running {
            Some(running) => {
                let root = Saved::of(running.context).root();
                if self.root() != root {
                    self.load_root(root);
                }
            }
            None => {
                self.forget_thread();
                percpu::run_nowhere();
            }
        }
    }

    /// Leaves thread and space: there is nothing to run.
    fn unload(&self, kernel_root: u64) {
        self.forget_thread();
        self.clear_debug();
        if self.root() != kernel_root {
            self.load_root(kernel_root);
        }
    }
}

/// The thread to go on with after whatever was done to the world; `None`: idle.
#[inline(always)]
pub(crate) fn next(world: &mut World) -> Option<Saved> {
    if frames::is_short() || world.kernel.has_work() {
        work(world);
    }
    if world.kernel.asks_to_look() {
        world.kernel.look();
    }
    let pokes = world.kernel.take_pokes();
    if pokes != 0 {
        processors::poke(pokes);
    }
    set_alarm(world);
    match world.kernel.running() {
        Some(running) => {
            let saved = switch(&running);
            allow_fast(world);
            if saved.with(|registers| registers.is_lost()) {
                return go_on(world);
            }
            Some(saved)
        }
        None => go_on(world),
    }
}

/// A step of what is to be done beside running threads.
#[cold]
fn work(world: &mut World) {
    if let Some(frames) = frames::take_shortage() {
        world.kernel.memory_low(&mut world.hardware, frames);
    }
    // How far it came, `has_work` says the next time.
    let _ = world.kernel.step(&mut world.hardware);
    world.settle_bills();
}

/// [`next`] where there is no thread to run, or one that must not go on.
#[cold]
fn go_on(world: &mut World) -> Option<Saved> {
    let next = find_next(world);
    allow_fast(world);
    next
}

/// Says whether the next trap may go a fast way.
#[inline(always)]
fn allow_fast(world: &mut World) {
    let allowed = !trace::on() && DEBUGGING.load(Relaxed) == 0;
    world::allow_fast(world, allowed);
}

fn find_next(world: &mut World) -> Option<Saved> {
    loop {
        match world.kernel.running() {
            Some(running) => {
                let saved = switch(&running);
                if !saved.with(|registers| registers.is_lost()) {
                    set_alarm(world);
                    return Some(saved);
                }
                exception::lost(world, saved);
            }
            None => {
                set_alarm(world);
                if percpu::count() > 1 {
                    Processor::here().unload(world.hardware.memory.kernel_root());
                }
                return None;
            }
        }
    }
}

/// What a processor does that has nothing to run: steps of work, each with the lock for itself, until
/// there is something; `None`: idle.
#[cold]
pub(crate) fn rest() -> Option<Saved> {
    loop {
        let (next, more) = world::with(|world| {
            if world.kernel.running().is_none() && world.kernel.has_work() {
                expire_if_due(world);
            }
            let next = begin(world);
            (next, world.kernel.has_work())
        });
        if next.is_some() || !more {
            return next;
        }
    }
}

/// An interrupt, in ring 3 or in the idle loop.
pub(crate) fn interrupt(vector: u8) -> Option<Saved> {
    world::with(|world| {
        trace::interrupt(world, vector);
        match vector {
            apic::TIMER => {
                apic::end_of_interrupt();
                Processor::here().alarm.store(FOREVER, Relaxed);
                let now = world.hardware.clock.now();
                world.kernel.sample(Processor::here().take_samples(now));
                world.kernel.expire(&mut world.hardware, now);
            }
            apic::POKE => {
                apic::end_of_interrupt();
                world.kernel.look();
            }
            apic::SPURIOUS => {}
            vector if let Some(number) = apic::device_number(vector) => {
                // A line that is held is masked before the controller may look at it again.
                world.kernel.interrupt(&mut world.hardware, number);
                apic::end_of_interrupt();
            }
            vector => log::debug!("interrupt {vector} from nowhere"),
        }
        begin(world)
    })
}

/// [`next`] where the processor may have idled, or its timer came: sees to the next sample. From then on the
/// timer never comes later than that, until it comes.
pub(crate) fn begin(world: &mut World) -> Option<Saved> {
    let next = next(world);
    let clock = &world.hardware.clock;
    let processor = Processor::here();
    let sample = processor.next_sample(next.is_some(), clock);
    if sample < processor.alarm() {
        processor.alarm.store(sample, Relaxed);
        clock.set_alarm(sample);
    }
    next
}

/// Loads thread and space, as far as they are not loaded.
#[inline(always)]
fn switch(running: &Running) -> Saved {
    let saved = Saved::of(running.context);
    let processor = Processor::here();
    if processor.has(saved) {
        return saved;
    }
    processor.load(saved);
    processor.load_debug(saved);
    trace::switch(running);
    saved
}

/// Programs the timer if kernel-core wants it earlier than it is set. One processor sees to each
/// deadline: the one that came by first.
#[inline(always)]
fn set_alarm(world: &mut World) {
    let clock = &world.hardware.clock;
    let turn_end = world.kernel.turn_end(|| clock.now());
    let deadline = world.kernel.deadline();
    let alarm = turn_end.min(deadline);
    let processor = Processor::here();
    if alarm < processor.alarm() && (alarm == turn_end || !is_seen_to(alarm)) {
        processor.alarm.store(alarm, Relaxed);
        clock.set_alarm(alarm);
    }
}

/// Whether another processor's timer comes by then.
fn is_seen_to(deadline: u64) -> bool {
    percpu::others().any(|other| other.processor.alarm() <= deadline)
}

/// Looks at the clock between two steps of work that is done instead of idling.
fn expire_if_due(world: &mut World) {
    let now = world.hardware.clock.now();
    if Processor::here().alarm() <= now {
        world.kernel.expire(&mut world.hardware, now);
    }
}
