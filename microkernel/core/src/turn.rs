//! The protocol of the kernel's lock, and of bringing a processor into the kernel; without what they
//! protect, so that loom can try every order of events.
//!
//! A [`Turn`] remembers who had it last. Whoever that is takes it by one compare-and-swap, and knows
//! that nobody else had it meanwhile; anybody else stands in line ([`Turn::wait`]), and learns who
//! had it. The first in line says so (WANTED), which closes the short way, so nobody is overtaken
//! more than once.
//!
//! An [`Inbox`] holds one request: *leave your address space*. Only who has the turn asks. A
//! processor that stands in line serves its inbox there, so that it need not be interrupted, and
//! whoever asks never waits for one that waits for it.

#[cfg(feature = "loom")]
use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, Ordering},
};

#[cfg(not(feature = "loom"))]
use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, Ordering},
};

/// How often somebody in line looks before the processor is told that this takes a while: longer than
/// most turns. Telling it may cost more than a turn (a virtual machine may be left for it), and the
/// line is rarely longer than one.
const SOON: u32 = 2000;

/// Waits between two looks.
struct Pace(u32);

impl Pace {
    const fn new() -> Pace {
        Pace(0)
    }

    #[inline]
    fn wait(&mut self) {
        if cfg!(not(feature = "loom")) && self.0 < SOON {
            self.0 = self.0.saturating_add(1);
        } else {
            spin_loop();
        }
    }
}

const HELD: u32 = 1;
const WANTED: u32 = 2;
/// Above the two marks: who has the turn, or had it last.
const OWNER: u32 = 2;

/// A fair lock that knows who had it last.
#[derive(Debug)]
pub struct Turn {
    word: AtomicU32,
    /// Number of the next place in line.
    next: AtomicU32,
    /// Number of the place that is first in line.
    first: AtomicU32,
}

/// What [`Turn::take_again`] compares, for one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mine(u32);

impl Mine {
    /// That of no processor: whoever comes after who waited with this does not count as the last.
    pub const NOBODY: Mine = Mine(u32::MAX << OWNER);

    /// That of processor `number`.
    #[must_use]
    pub const fn new(number: usize) -> Mine {
        Mine((number as u32) << OWNER)
    }

    /// The processor.
    #[must_use]
    pub const fn number(self) -> usize {
        (self.0 >> OWNER) as usize
    }
}

impl Turn {
    /// Free; processor 0 had it last.
    #[cfg(not(feature = "loom"))]
    #[must_use]
    pub const fn new() -> Turn {
        Turn {
            word: AtomicU32::new(0),
            next: AtomicU32::new(0),
            first: AtomicU32::new(0),
        }
    }

    /// Free; processor 0 had it last.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn new() -> Turn {
        Turn {
            word: AtomicU32::new(0),
            next: AtomicU32::new(0),
            first: AtomicU32::new(0),
        }
    }

    /// Takes the turn if it is free, nobody stands in line, and the same processor had it last.
    #[inline(always)]
    #[must_use]
    pub fn take_again(&self, me: Mine) -> bool {
        self.word
            .compare_exchange(me.0, me.0 | HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Stands in line for the turn, calling `serve` all the time; gives who had it last.
    pub fn wait(&self, me: Mine, mut serve: impl FnMut()) -> Mine {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let mut pace = Pace::new();
        while self.first.load(Ordering::Acquire) != place {
            serve();
            pace.wait();
        }
        let last = loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & HELD == 0 {
                let taken = self.word.compare_exchange(
                    seen,
                    me.0 | HELD,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    break Mine(seen & !(HELD | WANTED));
                }
            } else if seen & WANTED == 0 {
                self.word.fetch_or(WANTED, Ordering::Relaxed);
            }
            serve();
            pace.wait();
        };
        self.first.store(place.wrapping_add(1), Ordering::Release);
        last
    }

    /// Ends the turn. Only who has it may.
    #[inline(always)]
    pub fn end(&self) {
        self.word.fetch_and(!HELD, Ordering::Release);
    }
}

impl Default for Turn {
    fn default() -> Turn {
        Turn::new()
    }
}

const IN_LINE: u32 = 1;
const ASKED: u32 = 2;

/// What a processor is asked to do.
#[derive(Debug)]
pub struct Inbox(AtomicU32);

impl Inbox {
    /// Empty.
    #[cfg(not(feature = "loom"))]
    #[must_use]
    pub const fn new() -> Inbox {
        Inbox(AtomicU32::new(0))
    }

    /// Empty.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn new() -> Inbox {
        Inbox(AtomicU32::new(0))
    }

    /// Asks its processor; says whether that has to be interrupted for it to look.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.0.fetch_or(ASKED, Ordering::AcqRel) & IN_LINE == 0
    }

    /// Whether the request was served.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.0.load(Ordering::Acquire) & ASKED == 0
    }

    /// The processor begins to look all the time.
    pub fn enter_line(&self) {
        self.0.fetch_or(IN_LINE, Ordering::AcqRel);
    }

    /// It stops doing so.
    pub fn leave_line(&self) {
        self.0.fetch_and(!IN_LINE, Ordering::AcqRel);
    }

    /// Does what is asked, if anything is.
    pub fn serve(&self, work: impl FnOnce()) {
        if self.0.load(Ordering::Acquire) & ASKED != 0 {
            work();
            self.0.fetch_and(!ASKED, Ordering::AcqRel);
        }
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

#[cfg(all(test, feature = "loom"))]
mod tests {
    use super::*;
    use loom::{
        model::Builder,
        sync::{Arc, atomic::AtomicBool},
        thread,
    };
    use std::sync::Mutex;

    struct World {
        turn: Turn,
        inboxes: [Inbox; 2],
        /// Who owns what lies in the world, as the last holder left it.
        holder: Mutex<usize>,
        inside: AtomicBool,
        /// A translation that processor 1 may use while it is outside.
        used: [AtomicBool; 2],
    }

    fn world() -> Arc<World> {
        let no = || AtomicBool::new(false);
        Arc::new(World {
            turn: Turn::new(),
            inboxes: [Inbox::new(), Inbox::new()],
            holder: Mutex::new(0),
            inside: no(),
            used: [no(), no()],
        })
    }

    impl World {
        /// What an entry into the kernel does.
        fn enter(&self, number: usize, work: impl FnOnce(&World)) {
            let me = Mine::new(number);
            let inbox = &self.inboxes[number];
            let last = if self.turn.take_again(me) {
                me
            } else {
                inbox.enter_line();
                let last = self.turn.wait(me, || {
                    inbox.serve(|| self.used[number].store(false, Ordering::Relaxed));
                    thread::yield_now();
                });
                inbox.leave_line();
                last
            };
            assert!(!self.inside.swap(true, Ordering::Relaxed), "two are inside");
            let mut holder = self.holder.lock().unwrap();
            assert_eq!(*holder, last.number(), "somebody else was here");
            *holder = number;
            drop(holder);
            work(self);
            self.inside.store(false, Ordering::Relaxed);
            self.turn.end();
        }
    }

    fn check(bound: usize, run: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(bound);
        builder.check(run);
    }

    #[test]
    fn one_at_a_time_has_the_turn_and_knows_who_had_it() {
        check(3, || {
            let world = world();
            let other = world.clone();
            let second = thread::spawn(move || {
                other.enter(1, |_| ());
                other.enter(1, |_| ());
            });
            world.enter(0, |_| ());
            world.enter(0, |_| ());
            second.join().unwrap();
        });
    }

    #[test]
    fn who_is_asked_has_left_before_the_asker_goes_on() {
        check(3, || {
            let world = world();
            world.used[1].store(true, Ordering::Relaxed);
            let freed = Arc::new(AtomicBool::new(false));
            let (other, its_freed) = (world.clone(), freed.clone());
            let second = thread::spawn(move || {
                // Outside, with the translation; then it is interrupted, or enters by itself.
                assert!(!its_freed.load(Ordering::Relaxed), "used after its end");
                other.enter(1, |world| world.used[1].store(false, Ordering::Relaxed));
            });
            world.enter(0, |world| {
                if world.used[1].load(Ordering::Relaxed) {
                    let _interrupt = world.inboxes[1].ask();
                    while !world.inboxes[1].is_served() {
                        thread::yield_now();
                    }
                }
                assert!(!world.used[1].load(Ordering::Relaxed));
                freed.store(true, Ordering::Relaxed);
            });
            second.join().unwrap();
        });
    }
}
