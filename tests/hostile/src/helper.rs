//! Tasks that attack: this program again, with a role and numbers as its arguments.

use alloc::format;
use alloc::string::String;

use guest_test::{Failure, Msg, Outcome, stretched};
use ipc::abi::notify::{DEAD_NAME, ExitStatus};
use ipc::bootstrap::{self, Started};
use ipc::time::{SECOND, after};
use ipc::{Kern, ReceiveRight, Untyped, task};

/// The status of an attack that was carried out to its end.
pub(crate) const DONE: u32 = 0x600D;

/// How long an attack may take, in nanoseconds.
const LIMIT: u64 = 6 * SECOND;

/// A task that attacks. Dropped, it is ended.
pub(crate) struct Helper {
    /// The task.
    pub(crate) started: Started,
    told: ReceiveRight<Untyped>,
}

impl Helper {
    /// Starts one.
    pub(crate) fn start(role: &str, numbers: &[u64]) -> Outcome<Helper> {
        let mut arguments = String::from(role);
        for number in numbers {
            arguments.push_str(&format!("\0{number}"));
        }
        Helper::start_with(&arguments)
    }

    /// Starts one with other arguments, a zero byte between two.
    pub(crate) fn start_with(arguments: &str) -> Outcome<Helper> {
        let told = ReceiveRight::new(0)?;
        let started = bootstrap::start(ipc::task_name(), arguments)?;
        started.task.watch(&told)?;
        Ok(Helper { started, told })
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&self) -> Outcome<ExitStatus> {
        match self.wait_until(after(stretched(LIMIT))) {
            Ok(status) => Ok(status),
            Err(code) => Err(Failure::new(format!("the attack does not end: {code}"))),
        }
    }

    /// Waits for its end until `deadline`.
    pub(crate) fn wait_until(&self, deadline: u64) -> Result<ExitStatus, Kern> {
        let received = Msg::receive(&self.told).until(deadline).go()?;
        let [_, status, ..] = received.words;
        if received.info.is_kernel() && received.info.id() == DEAD_NAME {
            Ok(ExitStatus::from_word(status))
        } else {
            Err(Kern::Failure)
        }
    }

    /// Ends it wherever it is, and waits until it has.
    #[track_caller]
    pub(crate) fn end(&self) -> Outcome {
        // Fails if it has ended, of which somebody may have heard already.
        match task::terminate(&self.started.task, 0) {
            Ok(()) => self.wait().map(drop),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = task::terminate(&self.started.task, 0);
    }
}
