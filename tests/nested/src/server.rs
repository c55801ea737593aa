//! A VM server below the one that serves this task, and what is heard from its world.

use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_test::{Failure, Msg, Outcome, stretched};
use ipc::abi::message::Info;
use ipc::bootstrap::{self, Started};
use ipc::time::{SECOND, after};
use ipc::{ReceiveRight, Untyped, task};

/// Asks how many worlds there are to be below the asker's.
pub(crate) const HELLO: u32 = 1;
/// Says how the asker's work went: 0, or what failed.
pub(crate) const DONE: u32 = 2;

/// How long a world may take until its work is done.
const LIMIT: u64 = 6 * SECOND;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A VM server below.
pub(crate) struct Below {
    pub(crate) started: Started,
    port: ReceiveRight<Untyped>,
}

impl Below {
    /// Starts one with so many frames.
    pub(crate) fn start(frames: u64) -> Outcome<Below> {
        let port = ReceiveRight::new(0)?;
        let name = format!("report-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        bootstrap::register(&name, port.make())?;
        let started = bootstrap::start("nested-server", &format!("{frames}\0{name}"))?;
        Ok(Below { started, port })
    }

    /// Answers its client until that says that its work is done, with `depth` worlds below it.
    pub(crate) fn wait(&self, depth: u64) -> Outcome {
        let deadline = after(stretched(LIMIT));
        loop {
            let received = Msg::receive(&self.port).until(deadline).go()?;
            let [first, second, ..] = received.words;
            match received.info.id() {
                HELLO => {
                    let answer = Msg::reply(received.token).info(Info::short(HELLO));
                    answer.word(depth).go()?;
                }
                DONE if first == 0 => return Ok(()),
                DONE => return Err(Failure::new(format!("step {first} failed: code {second}"))),
                id => return Err(Failure::new(format!("message {id} from below"))),
            }
        }
    }

    /// Ends it, and with it its world.
    pub(crate) fn end(self) -> Outcome {
        task::terminate(&self.started.task, 0)?;
        bootstrap::wait(self.started.instance)?;
        Ok(())
    }
}
