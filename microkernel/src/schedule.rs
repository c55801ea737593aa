//! Applies what kernel-core decided about the processor: goes on with a thread, idles, sets the
//! timer, takes interrupts.

use ipc_abi::message::FOREVER;
use kernel_core::Running;

use crate::arch::context::Saved;
use crate::arch::{apic, cpu, percpu};
use crate::exception;
use crate::frames;
use crate::trace;
use crate::world::{self, World};

/// What is loaded in this processor.
pub(crate) struct Processor {
    /// The thread, as kernel-core names it; 0: none.
    thread: u64,
    /// Physical address of the root table; 0: the one that start-up loaded.
    root: u64,
    fs_base: u64,
    alarm: u64,
    /// Loads of CR3.
    pub(crate) space_switches: u64,
}

impl Processor {
    /// A processor that has run no thread.
    pub(crate) const fn new() -> Processor {
        Processor {
            thread: 0,
            root: 0,
            fs_base: 0,
            alarm: FOREVER,
            space_switches: 0,
        }
    }

    /// The thread that is loaded.
    #[inline]
    pub(crate) fn thread(&self) -> Option<Saved> {
        (self.thread != 0).then(|| Saved::of(kernel_core::Context(self.thread)))
    }

    /// The block of this thread is about to go.
    pub(crate) fn forget_thread(&mut self, thread: Saved) {
        if self.thread == thread.word().0 {
            self.thread = 0;
        }
    }

    /// The tables under this root are about to go: if they are loaded, `kernel_root` takes their
    /// place.
    pub(crate) fn forget_root(&mut self, root: u64, kernel_root: u64) {
        if self.root == root {
            self.root = kernel_root;
            cpu::load_root(kernel_root);
        }
    }

    /// Loads a thread, and its space if that is another.
    #[inline(always)]
    pub(crate) fn load(&mut self, thread: Saved) {
        self.thread = thread.word().0;
        percpu::set_running(thread);
        let (root, base) = (thread.root(), thread.fs_base());
        // Ring 3 can zero its FS base by loading a selector, so another task's is never trusted.
        if self.root != root {
            self.root = root;
            self.space_switches += 1;
            cpu::load_root(root);
        } else if self.fs_base == base {
            return;
        }
        self.fs_base = base;
        cpu::set_fs_base(base);
    }

    /// Sets the FS base of the running thread.
    pub(crate) fn set_fs_base(&mut self, thread: Saved, base: u64) {
        thread.set_fs_base(base);
        self.fs_base = base;
        cpu::set_fs_base(base);
    }
}

/// The thread to go on with after whatever was done to the world; `None`: idle.
#[inline(always)]
pub(crate) fn next(world: &mut World) -> Option<Saved> {
    if frames::is_short() || world.kernel.has_work() {
        work(world);
    }
    set_alarm(world);
    world.kernel.allow_fast(!trace::on());
    match world.kernel.running() {
        Some(running) => {
            let saved = switch(world, &running);
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
}

/// [`next`] where there is no thread to run, or one that must not go on.
#[cold]
fn go_on(world: &mut World) -> Option<Saved> {
    let next = find_next(world);
    world.kernel.allow_fast(!trace::on());
    next
}

fn find_next(world: &mut World) -> Option<Saved> {
    loop {
        match world.kernel.running() {
            Some(running) => {
                let saved = switch(world, &running);
                if !saved.with(|registers| registers.is_lost()) {
                    set_alarm(world);
                    return Some(saved);
                }
                exception::lost(world, saved);
            }
            None if world.kernel.has_work() => {
                work(world);
                expire_if_due(world);
            }
            None => {
                set_alarm(world);
                return None;
            }
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
                world.hardware.processor.alarm = FOREVER;
                let now = world.hardware.clock.now();
                world.kernel.expire(&mut world.hardware, now);
            }
            apic::SPURIOUS => {}
            vector if let Some(number) = apic::device_number(vector) => {
                // A line that is held is masked before the controller may look at it again.
                world.kernel.interrupt(&mut world.hardware, number);
                apic::end_of_interrupt();
            }
            vector => log::debug!("interrupt {vector} from nowhere"),
        }
        next(world)
    })
}

/// Loads thread and space, as far as they are not loaded.
#[inline(always)]
fn switch(world: &mut World, running: &Running) -> Saved {
    let saved = Saved::of(running.context);
    let processor = &mut world.hardware.processor;
    if processor.thread == saved.word().0 {
        return saved;
    }
    processor.load(saved);
    trace::switch(running);
    saved
}

/// Programs the timer if kernel-core wants it earlier than it is set.
#[inline(always)]
fn set_alarm(world: &mut World) {
    let clock = &world.hardware.clock;
    let alarm = world.kernel.alarm(|| clock.now());
    if alarm < world.hardware.processor.alarm {
        world.hardware.processor.alarm = alarm;
        clock.set_alarm(alarm);
    }
}

/// Looks at the clock between two steps of work that is done instead of idling.
fn expire_if_due(world: &mut World) {
    let now = world.hardware.clock.now();
    if world.hardware.processor.alarm <= now {
        world.kernel.expire(&mut world.hardware, now);
    }
}
