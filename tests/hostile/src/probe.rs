//! Threads that run a few instructions, are stopped by an exception, and are ended.

use guest_test::supervisor::Caught;
use guest_test::{Msg, Outcome, Supervisor, check_eq};
use ipc::abi::exception::Exception;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::DEAD_NAME;
use ipc::{Mapping, ReceiveRight, SendRight, Untyped, control, task, trap};

/// Code that ends in an exception. It starts with its argument in RDI.
pub(crate) type Code = unsafe extern "C" fn() -> !;

/// Bytes of the stack.
const STACK: u64 = 4 * PAGE_SIZE;

/// Runs code in threads, one after the other.
pub(crate) struct Probe {
    supervisor: Supervisor,
    told: ReceiveRight<Untyped>,
    task: SendRight<Untyped>,
    stack: Mapping,
}

impl Probe {
    pub(crate) fn new() -> Outcome<Probe> {
        Ok(Probe {
            supervisor: Supervisor::new()?,
            told: ReceiveRight::new(0)?,
            task: task::own()?,
            stack: Mapping::allocate(STACK)?,
        })
    }

    /// The first exception of this code.
    #[track_caller]
    pub(crate) fn provoke(&self, code: Code, argument: u64) -> Outcome<Exception> {
        self.provoke_at(code as *const () as u64, argument)
    }

    /// The first exception of the code at an address.
    #[track_caller]
    pub(crate) fn provoke_at(&self, ip: u64, argument: u64) -> Outcome<Exception> {
        let thread = self.start(ip, argument)?;
        let caught = self.supervisor.next();
        self.end(thread)?;
        Ok(caught?.exception)
    }

    /// Starts a thread at an address, which is stopped by its first exception.
    pub(crate) fn start(&self, ip: u64, argument: u64) -> Outcome<SendRight<Untyped>> {
        let thread = self.make(ip, argument)?;
        control::resume_thread(&thread)?;
        Ok(thread)
    }

    /// The same, but it is suspended.
    pub(crate) fn make(&self, ip: u64, argument: u64) -> Outcome<SendRight<Untyped>> {
        let sp = self.stack.address() + STACK - 64;
        // SAFETY: the code of this module's users uses this stack alone, and no memory of others.
        let thread = unsafe { task::make_thread(&self.task, ip, sp, argument, 0) }?;
        self.supervisor.thread(&thread)?;
        Ok(thread)
    }

    /// The next exception of the thread.
    #[track_caller]
    pub(crate) fn next(&self) -> Outcome<Caught> {
        self.supervisor.next()
    }

    /// Ends the thread, and waits until it has.
    #[track_caller]
    pub(crate) fn end(&self, thread: SendRight<Untyped>) -> Outcome {
        thread.watch(&self.told)?;
        trap::thread_terminate(thread.name())?;
        let received = Msg::receive(&self.told).go()?;
        check_eq!(received.info.id(), DEAD_NAME);
        trap::port_deallocate(thread.name(), 1)?;
        Ok(())
    }
}
