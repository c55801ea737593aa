//! The harness of test suites that run as tasks: the list of cases, and the cast.
//!
//! | | |
//! |---|---|
//! | [`suite!`], [`mod@suite`] | the list of cases, and how they are run and reported |
//! | [`check!`], [`check_eq!`], [`Failure`] | what a case says that does not hold |
//! | [`assistant`] | another task, which does on request what a well-behaved task would not |
//! | [`supervisor`] | receives the exceptions of threads and tasks |
//! | [`message`] | messages as registers and slots, for what no typed stub would send |
//! | [`touch`] | single instructions that fault, trap, or hold on to registers |
//!
//! A case is a function that returns `Ok` or the first thing that did not hold. It is not allowed to
//! sleep until something has probably happened: it waits for the very event, with a deadline
//! ([`patience`]) after which it fails. An idle machine that counts instructions lets its clock
//! jump, so that such a failure costs no real time.
#![no_std]

extern crate alloc;

pub mod assistant;
pub mod failure;
pub mod message;
pub mod suite;
pub mod supervisor;
pub mod touch;

pub use assistant::Assistant;
pub use failure::{Failure, Outcome};
pub use message::Msg;
pub use supervisor::Supervisor;

use ipc::abi::trap::counter;
use ipc::time::{SECOND, after};

/// The deadline of whatever must come, if all is well, without anybody's delay.
#[must_use]
pub fn patience() -> u64 {
    after(stretched(SECOND))
}

/// A span of time, in nanoseconds, that work is given which takes no longer than this on a machine that
/// counts instructions. Several processors follow the clock of a host, which may be busy.
#[must_use]
pub fn stretched(span: u64) -> u64 {
    if has_several_processors() {
        20 * span
    } else {
        span
    }
}

/// Whether the machine has more than one processor.
#[must_use]
pub fn has_several_processors() -> bool {
    ipc::trap::host_statistics().is_ok_and(|words| words[counter::PROCESSORS] > 1)
}
