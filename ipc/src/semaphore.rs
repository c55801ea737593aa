//! [`Semaphore`]: units that threads of a task take and give back, with waiting by a port.
//!
//! A count says how many units there are, or below zero how many threads wait. Who finds none receives
//! from the semaphore's port, and who gives a unit while somebody waits sends a message there: so
//! nobody spins, the kernel reads no word of the task, and units that nobody waits for cost two atomic
//! operations. The messages are worth a unit each, whoever receives them: a thread that is ended
//! while it waits takes none along, and what was sent for it goes to the next.

use crate::right::{ReceiveRight, SendRight, Untyped};
use crate::trap;
use core::sync::atomic::{AtomicI64, Ordering};
use ipc_abi::Kern;
use ipc_abi::message::{FOREVER, Info, option};

/// Message id of a unit; the words are empty.
const UNIT: u32 = 3;

/// Units that can be on their way at once before who gives one waits until another is taken.
const QUEUE: u32 = 1024;

/// Units of something, first come first served among those who wait.
#[derive(Debug)]
pub struct Semaphore {
    /// Units that there are, less the threads that wait.
    count: AtomicI64,
    port: ReceiveRight<Untyped>,
    /// Keeps the name good for sending.
    _sender: SendRight<Untyped>,
}

impl Semaphore {
    /// A semaphore with some units.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no port.
    pub fn new(units: u32) -> Result<Semaphore, Kern> {
        let port = ReceiveRight::new(0)?;
        port.set_attributes(0, QUEUE)?;
        let sender = port.make_send()?;
        Ok(Semaphore {
            count: AtomicI64::new(units.into()),
            port,
            _sender: sender,
        })
    }

    /// Units that can be taken without waiting, or below zero the threads that wait, at this moment.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes a unit if there is one.
    #[must_use]
    pub fn try_take(&self) -> bool {
        let take = |count: i64| (count > 0).then(|| count - 1);
        let taken = self
            .count
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, take);
        taken.is_ok()
    }

    /// Takes a unit, once there is one.
    ///
    /// # Errors
    /// MACH_RCV_INTERRUPTED: the thread was broken off while it waited, and has no unit.
    pub fn take(&self) -> Result<(), Kern> {
        self.take_until(FOREVER)
    }

    /// As [`Semaphore::take`], until `deadline` at most, in nanoseconds since boot.
    ///
    /// # Errors
    /// As [`Semaphore::take`]; MACH_RCV_TIMED_OUT: there was none until then.
    pub fn take_until(&self, deadline: u64) -> Result<(), Kern> {
        if self.count.fetch_sub(1, Ordering::Acquire) > 0 {
            return Ok(());
        }
        let Err(code) = self.exchange(option::RECEIVE, deadline) else {
            return Ok(());
        };
        // It waits no more, unless a unit is on its way to it: that one it has to wait for.
        let leave = |count: i64| (count < 0).then(|| count + 1);
        let left = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave);
        if left.is_ok() {
            return Err(code);
        }
        while self.exchange(option::RECEIVE, FOREVER).is_err() {}
        Ok(())
    }

    /// Gives a unit: to who has waited longest, if anybody waits.
    pub fn give(&self) {
        if self.count.fetch_add(1, Ordering::Release) < 0 {
            // There is room in the end, for somebody receives this.
            while self.exchange(option::SEND, FOREVER).is_err() {}
        }
    }

    fn exchange(&self, options: u64, deadline: u64) -> Result<(), Kern> {
        let name = self.port.name();
        let done = trap::exchange(&trap::Send {
            options,
            destination: name.into(),
            receive: name,
            info: Info::short(UNIT),
            send_deadline: deadline,
            receive_deadline: deadline,
            notify: 0,
            words: [0; 6],
        });
        ipc_abi::kern_return::from_raw(done.outcome.code())
    }
}
