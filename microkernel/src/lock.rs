//! The lock of the kernel: there is one, around everything.
//!
//! Interrupts are off in the kernel, so that its holder is never interrupted; on one processor it
//! is free whenever an entry point asks. It exists so that the compiler, and later a second
//! processor, cannot see the world half changed.

use spin::{Mutex, MutexGuard};

/// A value behind a spin lock.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Unlocked.
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}
