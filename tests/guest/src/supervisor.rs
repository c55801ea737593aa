//! Receives exceptions, tells what they were, and decides how their threads go on.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use ipc::abi::exception::{EXCEPTION, EXCEPTION_REPLY, Exception, Kind};
use ipc::abi::message::Info;
use ipc::abi::notify::CANCELLED;
use ipc::abi::right::Name;
use ipc::thread::{self, JoinHandle};
use ipc::{Kern, ReceiveRight, SendRight, Untyped, task, trap};

use crate::failure::{Failure, Outcome};
use crate::message::Msg;

/// The port that exceptions of somebody come to. Dropped, they go where they would go without it.
#[derive(Debug)]
pub struct Supervisor {
    port: ReceiveRight<Untyped>,
}

impl Supervisor {
    /// Supervises nobody yet.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new() -> Result<Supervisor, Kern> {
        Ok(Supervisor {
            port: ReceiveRight::new(0)?,
        })
    }

    /// Gets what no thread of the task handles.
    ///
    /// # Errors
    /// KERN_INVALID_TASK.
    pub fn task(&self, task: &SendRight<Untyped>) -> Result<(), Kern> {
        task::set_exception_port(task, Some(&self.port.make_send()?))
    }

    /// Gets the exceptions of a thread.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT.
    pub fn thread(&self, thread: &SendRight<Untyped>) -> Result<(), Kern> {
        let right = self.port.make_send()?;
        trap::thread_set_exception_port(thread.name(), right.name())
    }

    /// Runs `work` in a thread of this task whose exceptions come here.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE, KERN_NO_SPACE.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Supervised<T>, Kern> {
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
        let handle = thread::spawn(move || {
            while !opened.load(Ordering::Acquire) {
                trap::thread_yield();
            }
            work()
        })?;
        self.thread(handle.thread())?;
        gate.store(true, Ordering::Release);
        let end = End {
            thread: handle.thread().name(),
            armed: true,
        };
        Ok(Supervised { end, handle })
    }

    /// The next exception.
    ///
    /// # Errors
    /// None came, or something else did.
    #[track_caller]
    pub fn next(&self) -> Outcome<Caught> {
        let received = loop {
            match Msg::receive(&self.port).go() {
                // The thread of an earlier exception has ended without an answer.
                Ok(received) if received.info.id() == CANCELLED && received.info.is_kernel() => {}
                Ok(received) => break received,
                Err(code) => return Err(Failure::new(format!("no exception came: {code}"))),
            }
        };
        let exception = Exception::from_words(received.words);
        match exception {
            Some(exception) if received.info.is_kernel() && received.info.id() == EXCEPTION => {
                Ok(Caught {
                    exception,
                    token: received.token,
                })
            }
            _ => {
                let id = received.info.id();
                Err(Failure::new(format!("message {id} came, and no exception")))
            }
        }
    }

    /// The next exception, which has to be this one. Its thread still waits.
    ///
    /// # Errors
    /// None came, or another.
    #[track_caller]
    pub fn expect(&self, kind: Kind, code: u64, subcode: u64) -> Outcome<Caught> {
        let caught = self.next()?;
        let Exception {
            kind: k,
            code: c,
            subcode: s,
            ..
        } = caught.exception;
        if (k, c, s) == (kind, code, subcode) {
            return Ok(caught);
        }
        Err(Failure::new(format!(
            "{} {c:#x} {s:#x} came, expected {} {code:#x} {subcode:#x}",
            k.name(),
            kind.name(),
        )))
    }

    /// The next exception, which has to be an access to `address` that was denied with `code`.
    ///
    /// # Errors
    /// None came, or another.
    #[track_caller]
    pub fn expect_access(&self, code: Kern, address: u64) -> Outcome<Caught> {
        self.expect(Kind::BadAccess, code.raw().into(), address)
    }

    /// Whether no exception has come so far.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        Msg::receive(&self.port).until(0).code() == Some(Kern::ReceiveTimedOut)
    }
}

/// An exception whose thread waits to hear how it goes on.
#[derive(Debug)]
#[must_use]
pub struct Caught {
    /// What it is.
    pub exception: Exception,
    token: u64,
}

impl Caught {
    /// The thread repeats the instruction (after a breakpoint: goes on behind it).
    ///
    /// # Errors
    /// MACH_SEND_INVALID_REPLY: the thread has gone.
    pub fn resume(self) -> Result<(), Kern> {
        self.answer(0)
    }

    /// Somebody else may handle it.
    ///
    /// # Errors
    /// MACH_SEND_INVALID_REPLY: the thread has gone.
    pub fn hand_on(self) -> Result<(), Kern> {
        self.answer(Kern::Failure.raw())
    }

    fn answer(self, code: u32) -> Result<(), Kern> {
        Msg::reply(self.token)
            .info(Info::short(EXCEPTION_REPLY))
            .word(code.into())
            .go()
            .map(drop)
    }
}

/// A thread of this task under supervision. Dropped, it is ended where it is; its stack stays.
#[derive(Debug)]
pub struct Supervised<T> {
    // Dropped first, while the handle still holds the thread's port.
    end: End,
    handle: JoinHandle<T>,
}

/// Ends a thread when dropped, unless it has ended by itself.
#[derive(Debug)]
struct End {
    thread: Name,
    armed: bool,
}

impl<T> Supervised<T> {
    /// Waits for its end, and gives its result.
    pub fn join(self) -> T {
        let Supervised { mut end, handle } = self;
        end.armed = false;
        handle.join()
    }

    /// Its control port.
    #[must_use]
    pub const fn thread(&self) -> &SendRight<Untyped> {
        self.handle.thread()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.armed {
            // Fails if the thread has ended itself.
            let _ = trap::thread_terminate(self.thread);
        }
    }
}
