//! The kernel's locks: the world's, which knows whose turn it is, and those below it.
//!
//! Interrupts are off in the kernel, so that a holder is never interrupted. Locks are taken in the
//! order of their [`Rank`]; debug builds check that. The world's lock is a [`Turn`]: a processor that
//! had it last takes it again without looking further; any other is told that somebody was there. Beside the turn
//! there is a [`Gate`] for each processor, by which several can look at the world at once. Who has the turn
//! and was not the last that had it closes the gates of the others; who had it last finds them closed,
//! since they are opened under the name of nobody.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use kernel_core::gate::Gate;
use kernel_core::rank::Rank;
use kernel_core::turn::{Mine, Turn};
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::arch::percpu::{self, PerCpu};
use crate::processors;

/// A value behind a spin lock.
pub(crate) struct Lock<T> {
    rank: Rank,
    mutex: SpinMutex<T>,
}

/// The value of a [`Lock`] that is held.
pub(crate) struct Guard<'a, T> {
    value: SpinMutexGuard<'a, T>,
    rank: Rank,
}

impl<T> Lock<T> {
    /// Unlocked.
    pub(crate) const fn new(rank: Rank, value: T) -> Lock<T> {
        Lock {
            rank,
            mutex: SpinMutex::new(value),
        }
    }

    /// Waits for the lock and takes it.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        percpu::lock_taken(self.rank);
        Guard {
            value: self.mutex.lock(),
            rank: self.rank,
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        percpu::lock_given(self.rank);
    }
}

/// A value that one processor at a time works on, or several look at.
pub(crate) struct TurnLock<T> {
    turn: Turn,
    value: UnsafeCell<T>,
}

// SAFETY: `with` lends the value to one processor at a time, while nobody is inside a gate; `pass` and `open`
// lend it to those who are, for looking.
unsafe impl<T: Send + Sync> Sync for TurnLock<T> {}

/// Ends a turn, also if the work does not return.
struct End<'a>(&'a Turn);

impl Drop for End<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        percpu::lock_given(Rank::World);
        self.0.end();
    }
}

/// Comes out of a gate.
struct Out<'a>(&'a Gate);

impl Drop for Out<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        percpu::lock_given(Rank::World);
        self.0.leave();
    }
}

impl<T> TurnLock<T> {
    /// Unlocked.
    pub(crate) const fn new(value: T) -> TurnLock<T> {
        TurnLock {
            turn: Turn::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock and works on the value; before that, if another processor had the lock
    /// last, `take_over` does. The work does not ask for the lock again.
    #[inline(always)]
    pub(crate) fn with<R>(
        &self,
        take_over: impl FnOnce(&mut T),
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        percpu::lock_taken(Rank::World);
        let again = self.turn.take_again(percpu::here().mine);
        if !again {
            self.wait(take_over);
        }
        let _end = End(&self.turn);
        // SAFETY: this processor has the turn until `_end` is dropped, and asks once for the value. The other
        // gates are closed: `wait` closed them, or did so when this processor had the turn last.
        work(unsafe { &mut *self.value.get() })
    }

    /// As [`TurnLock::with`], if no other processor had the lock last; else does nothing.
    #[inline(always)]
    pub(crate) fn with_again<R>(
        &self,
        work: impl FnOnce(&mut T, &PerCpu) -> Option<R>,
    ) -> Option<R> {
        let here = percpu::here();
        if !self.turn.take_again(here.mine) {
            return None;
        }
        percpu::lock_taken(Rank::World);
        let _end = End(&self.turn);
        // SAFETY: as in `with`.
        work(unsafe { &mut *self.value.get() }, here)
    }

    /// Looks at the value while others may, if this processor's gate is open; else does nothing.
    #[inline(always)]
    pub(crate) fn pass<R>(&self, work: impl FnOnce(&T, &PerCpu) -> Option<R>) -> Option<R> {
        let here = percpu::here();
        if !here.gate.enter() {
            return None;
        }
        percpu::lock_taken(Rank::World);
        let _out = Out(&here.gate);
        // SAFETY: whoever changes the value closes this gate before, and waits until `_out` is dropped.
        work(unsafe { &*self.value.get() }, here)
    }

    /// As [`TurnLock::pass`], for a gate that another processor closed: opens it, if it may be.
    #[cold]
    #[inline(never)]
    pub(crate) fn open<R>(
        &self,
        may: impl FnOnce(&T) -> bool,
        work: impl FnOnce(&T, &PerCpu) -> Option<R>,
    ) -> Option<R> {
        let here = percpu::here();
        percpu::lock_taken(Rank::World);
        here.inbox.enter_line();
        self.turn.wait(Mine::NOBODY, || processors::serve(here));
        here.inbox.leave_line();
        // SAFETY: this processor has the turn, and changes nothing.
        let value = unsafe { &*self.value.get() };
        if !may(value) {
            let _end = End(&self.turn);
            return None;
        }
        here.gate.open();
        let _out = Out(&here.gate);
        self.turn.end();
        work(value, here)
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, take_over: impl FnOnce(&mut T)) {
        let here = percpu::here();
        here.inbox.enter_line();
        let last = self.turn.wait(here.mine, || processors::serve(here));
        here.inbox.leave_line();
        if last != here.mine {
            percpu::others().for_each(|other| other.gate.close());
            percpu::others().for_each(|other| other.gate.drain());
            // SAFETY: this processor has the turn, and the reference ends here.
            take_over(unsafe { &mut *self.value.get() });
        }
    }
}
