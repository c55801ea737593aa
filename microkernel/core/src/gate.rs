//! What lets several processors go the quick ways at once: gates, and claims to what two of them can want.
//!
//! Each processor has a [`Gate`], which it goes through by one compare-and-swap of a word that nobody else
//! writes in the common case. Who has the turn (see [`crate::turn`]) and is to have everything for itself
//! closes the gates of the others, and waits until nobody is between its gate and the way out: that
//! is some hundred instructions, in which nothing is waited for. A processor that finds its gate closed
//! opens it itself, with the turn, so that this costs those alone who go quick ways.
//!
//! Inside, a processor owns what it runs, and what it *claims*: who waits at a place (`Claim`), and who
//! waits for an answer (`Token`). A claim is tried once. Whoever fails, or finds that something else is
//! in the way, leaves everything as it was and takes the general way, on which there is nobody else. What is
//! claimed is published again by a store that releases, as the last that is done to it: from then on
//! another processor may run the thread.

#[cfg(feature = "loom")]
use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

#[cfg(not(feature = "loom"))]
use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

const OPEN: u32 = 1;
const INSIDE: u32 = 2;
const BARRED: u32 = 4;

/// A processor's way in beside the turn.
#[derive(Debug)]
pub struct Gate(AtomicU32);

impl Gate {
    /// Closed.
    #[cfg(not(feature = "loom"))]
    #[must_use]
    pub const fn new() -> Gate {
        Gate(AtomicU32::new(0))
    }

    /// Closed.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn new() -> Gate {
        Gate(AtomicU32::new(0))
    }

    /// Goes through, if it is open. Its processor alone does.
    #[inline(always)]
    #[must_use]
    pub fn enter(&self) -> bool {
        self.0
            .compare_exchange(OPEN, OPEN | INSIDE, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Comes out again.
    #[inline(always)]
    pub fn leave(&self) {
        self.0.fetch_and(!INSIDE, Ordering::Release);
    }

    /// Opens it, or bars it: then its processor need not try to open it. Its processor does this while it
    /// has the turn.
    #[inline(always)]
    pub fn set(&self, open: bool) {
        let word = if open { OPEN } else { BARRED };
        self.0.store(word, Ordering::Relaxed);
    }

    /// Opens it and goes through. Its processor does this while it has the turn.
    pub fn open(&self) {
        self.0.store(OPEN | INSIDE, Ordering::Relaxed);
    }

    /// Whether another processor closed it.
    #[inline(always)]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Lets nobody in any more. Another processor does this, which has the turn.
    pub fn close(&self) {
        self.0.fetch_and(!OPEN, Ordering::AcqRel);
    }

    /// Waits until who was inside when it was closed is out.
    pub fn drain(&self) {
        while self.0.load(Ordering::Acquire) & INSIDE != 0 {
            #[cfg(feature = "loom")]
            loom::thread::yield_now();
            spin_loop();
        }
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

const NOBODY: u8 = 0;
const WAITS: u8 = 1;
const TAKEN: u8 = 2;

/// Whether somebody waits at a place, or a processor is changing that.
#[derive(Debug)]
pub(crate) struct Claim(AtomicU8);

impl Default for Claim {
    fn default() -> Claim {
        Claim(AtomicU8::new(NOBODY))
    }
}

impl Claim {
    /// Whether somebody waits; for those who have all to themselves.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOBODY
    }

    /// Claims who waits; `Err` says whether nobody does.
    #[inline(always)]
    pub(crate) fn take(&self) -> Result<(), bool> {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.0.compare_exchange(WAITS, TAKEN, success, failure);
        taken.map(|_| ()).map_err(|found| found == NOBODY)
    }

    /// Claims the place for one who is to wait, if nobody does.
    #[inline(always)]
    pub(crate) fn begin(&self) -> bool {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.0.compare_exchange(NOBODY, TAKEN, success, failure);
        taken.is_ok()
    }

    /// Says whether somebody waits now, and publishes it.
    #[inline(always)]
    pub(crate) fn end(&self, waits: bool) {
        self.0
            .store(if waits { WAITS } else { NOBODY }, Ordering::Release);
    }
}

/// The token of a call that is not answered yet; 0: there is none, or somebody is about to answer.
#[derive(Debug)]
pub(crate) struct Token(AtomicU64);

impl Default for Token {
    fn default() -> Token {
        Token(AtomicU64::new(0))
    }
}

impl Token {
    /// For those who have all to themselves.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Publishes the call, or ends it.
    #[inline(always)]
    pub(crate) fn set(&self, token: u64) {
        self.0.store(token, Ordering::Release);
    }

    /// Claims the call, if this is its token: nobody else can answer it, or end it the quick way.
    #[inline(always)]
    pub(crate) fn claim(&self, token: u64) -> bool {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        token != 0 && self.0.compare_exchange(token, 0, success, failure).is_ok()
    }
}

#[cfg(all(test, feature = "loom"))]
mod tests {
    use super::*;
    use crate::turn::{Mine, Turn};
    use loom::{
        model::Builder,
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    /// Two processors, and a thing that one may change alone and both may look at.
    struct World {
        turn: Turn,
        gates: [Gate; 2],
        alone: AtomicBool,
        looking: [AtomicBool; 2],
        /// Written by who is alone, without an order of its own.
        value: AtomicU32,
    }

    fn world() -> Arc<World> {
        let no = || AtomicBool::new(false);
        let gates = [Gate::new(), Gate::new()];
        gates[0].set(true);
        Arc::new(World {
            turn: Turn::new(),
            gates,
            alone: no(),
            looking: [no(), no()],
            value: AtomicU32::new(0),
        })
    }

    impl World {
        fn general(&self, number: usize) {
            let me = Mine::new(number);
            if !self.turn.take_again(me) && self.turn.wait(me, thread::yield_now) != me {
                let other = &self.gates[1 - number];
                other.close();
                other.drain();
                self.gates[number].set(true);
            }
            assert!(!self.alone.swap(true, Ordering::Relaxed), "two are alone");
            for looking in &self.looking {
                assert!(!looking.load(Ordering::Relaxed), "somebody looks");
            }
            let value = self.value.load(Ordering::Relaxed);
            self.value.store(value + 1, Ordering::Relaxed);
            self.alone.store(false, Ordering::Relaxed);
            self.turn.end();
        }

        /// Gives what was seen, if it was the quick way.
        fn quick(&self, number: usize) -> Option<u32> {
            let gate = &self.gates[number];
            if !gate.enter() {
                if !gate.is_closed() {
                    return None;
                }
                self.turn.wait(Mine::NOBODY, thread::yield_now);
                gate.open();
                self.turn.end();
            }
            self.looking[number].store(true, Ordering::Relaxed);
            assert!(!self.alone.load(Ordering::Relaxed), "somebody changes it");
            let value = self.value.load(Ordering::Relaxed);
            self.looking[number].store(false, Ordering::Relaxed);
            gate.leave();
            Some(value)
        }
    }

    fn check(bound: usize, run: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(bound);
        builder.check(run);
    }

    #[test]
    fn nobody_is_inside_a_gate_while_another_has_all_to_itself() {
        check(3, || {
            let world = world();
            let other = world.clone();
            let second = thread::spawn(move || {
                let seen = other.quick(1).unwrap();
                other.general(1);
                assert!(other.quick(1).unwrap() > seen, "its own change is seen");
            });
            let _ = world.quick(0);
            world.general(0);
            let _ = world.quick(0);
            second.join().unwrap();
            assert_eq!(world.value.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn who_opened_a_gate_does_not_count_as_the_last_that_had_all() {
        check(3, || {
            let world = world();
            let other = world.clone();
            let second = thread::spawn(move || {
                let _ = other.quick(1);
                let _ = other.quick(1);
            });
            world.general(0);
            world.general(0);
            second.join().unwrap();
            assert_eq!(world.quick(0), Some(2));
        });
    }

    #[test]
    fn one_of_two_gets_who_waits_and_what_was_left_there() {
        check(3, || {
            let place = Arc::new((Claim::default(), AtomicU32::new(0)));
            let taker = |place: Arc<(Claim, AtomicU32)>| {
                thread::spawn(move || match place.0.take() {
                    Ok(()) => {
                        assert_eq!(place.1.load(Ordering::Relaxed), 7);
                        place.0.end(false);
                        1
                    }
                    Err(_) => 0,
                })
            };
            let (one, two) = (taker(place.clone()), taker(place.clone()));
            let mut began = 0;
            if place.0.begin() {
                place.1.store(7, Ordering::Relaxed);
                place.0.end(true);
                began = 1;
            }
            let taken = one.join().unwrap() + two.join().unwrap();
            assert!(began == 1 && taken <= 1);
            assert_eq!(place.0.is_empty(), taken == 1);
        });
    }

    #[test]
    fn a_call_is_answered_once_and_seen_whole() {
        check(3, || {
            let call = Arc::new((Token::default(), AtomicU32::new(0), AtomicU32::new(0)));
            let answer = |call: Arc<(Token, AtomicU32, AtomicU32)>| {
                thread::spawn(move || {
                    if call.0.claim(5) {
                        assert_eq!(call.1.load(Ordering::Relaxed), 7, "half a call");
                        call.2.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(!call.0.claim(0), "no call");
                })
            };
            let (one, two) = (answer(call.clone()), answer(call.clone()));
            call.1.store(7, Ordering::Relaxed);
            call.0.set(5);
            one.join().unwrap();
            two.join().unwrap();
            assert!(call.2.load(Ordering::Relaxed) <= 1);
        });
    }
}
