//! The state of the world, and every operation on it.

use crate::machine::{Context, Machine, Progress, SpaceId};
use crate::slab::Id;
use ipc_abi::{Kern, exception, right::Name, types::Prot};

/// A thread's record.
#[derive(Debug)]
pub struct Thread;
/// A task's record.
#[derive(Debug)]
pub struct Task;

/// Handle of a thread. Its `index()` is the number that messages and reports show.
pub type ThreadId = Id<Thread>;
/// Handle of a task.
pub type TaskId = Id<Task>;

/// The band of the first task: the highest.
pub const FIRST_BAND: u8 = 31;

/// The thread that has the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The thread.
    pub thread: ThreadId,
    /// Its task.
    pub task: TaskId,
    /// Its registers and IPC buffer.
    pub context: Context,
    /// The address space that it runs in.
    pub space: SpaceId,
}

/// Arguments of a `msg` trap, as the registers hold them (message words and buffer are read
/// through [`Machine`] when they are needed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Msg {
    /// RAX, trap number included.
    pub options: u64,
    /// RDI: destination name, or reply token.
    pub destination: u64,
    /// RSI: name to receive from.
    pub source: u64,
    /// RDX: info of the message to send.
    pub info: u64,
    /// R8.
    pub send_deadline: u64,
    /// R9.
    pub receive_deadline: u64,
    /// R10.
    pub notify: u64,
}

/// How the shell goes on after a `msg` trap.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Resume whatever [`Kernel::running`] names.
    Next,
    /// Nothing was decided: look at pending interrupts, then let the same thread repeat its trap.
    Again,
}

/// What became of a fault or exception.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was taken care of: resume whatever [`Kernel::running`] names.
    Handled,
    /// It happened in a task that has nobody above it (the first VM server): report and stop.
    Fatal,
}

/// What a new thread's maker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadStart {
    /// First instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// What RDI holds.
    pub argument: u64,
    /// Priority, 0 to 31.
    pub priority: u64,
}

/// The first task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The task.
    pub task: TaskId,
    /// Its name for the host memory port.
    pub host_memory: Name,
    /// Its name for the host control port.
    pub host_control: Name,
    /// Its name for the device port.
    pub device: Name,
}

/// The state of the world.
///
/// Methods named like a trap are that trap: they act for the running thread, take its argument words
/// unchecked, and give its results; `ipc_abi::trap` lists arguments and errors. After any method that
/// takes the machine, [`Kernel::running`] may be another thread.
#[derive(Debug)]
pub struct Kernel;

impl Kernel {
    /// Makes an empty world: no task, nothing running.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new() -> Result<Kernel, Kern> {
        Err(Kern::ResourceShortage)
    }

    /// Makes the first task, in `space`, with the privileged ports; it has no map port and no thread.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn boot(&mut self, space: SpaceId) -> Result<Boot, Kern> {
        let _ = space;
        Err(Kern::ResourceShortage)
    }

    /// Makes a thread of the first task. The machine's `thread_new` is called for it.
    ///
    /// # Errors
    /// As [`Kernel::thread_create`].
    pub fn boot_thread(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        start: ThreadStart,
    ) -> Result<ThreadId, Kern> {
        let _ = (machine, task, start);
        Err(Kern::ResourceShortage)
    }

    // Scheduling.

    /// The thread that has the processor; `None`: idle until an interrupt (after [`Kernel::step`]
    /// has no more to do).
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        None
    }

    /// The registers and buffer of a thread; `None` once it has ended. A trap whose caller may be
    /// gone afterwards (`thread_terminate`, `task_terminate`) asks this before it writes results.
    #[must_use]
    pub fn context(&self, thread: ThreadId) -> Option<Context> {
        let _ = thread;
        None
    }

    /// When [`Kernel::expire`] wants to be called, in nanoseconds: the first deadline, or the end of
    /// the running thread's slice if another of its priority is ready. `FOREVER`: not at all. The
    /// clock is read only if a slice begins. Cheap: call it before each return to ring 3, and
    /// program the timer if the answer is earlier than what is programmed.
    pub fn alarm(&mut self, now: impl FnOnce() -> u64) -> u64 {
        now()
    }

    /// Handles the timer interrupt: wakes those whose deadline passed, ends slices. Harmless when
    /// early.
    pub fn expire(&mut self, machine: &mut impl Machine, now: u64) {
        let _ = (machine, now);
    }

    /// Whether [`Kernel::step`] has something to do. Cheap.
    #[must_use]
    pub fn has_work(&self) -> bool {
        false
    }

    /// Does a bounded piece (about 64 items) of deferred work: the ends of ports and tasks. Call it
    /// before each return to ring 3 while [`Kernel::has_work`], and when idle.
    pub fn step(&mut self, machine: &mut impl Machine) -> Progress {
        let _ = machine;
        Progress::Done
    }

    // Messages.

    /// The `msg` trap. Results reach the registers by `Machine::set_message`, at once or later.
    pub fn msg(&mut self, machine: &mut impl Machine, msg: &Msg) -> Flow {
        let _ = (machine, msg);
        Flow::Next
    }

    /// The running thread touched `address` and has no translation for it.
    pub fn raise_fault(
        &mut self,
        machine: &mut impl Machine,
        address: u64,
        access: Prot,
    ) -> Raised {
        let _ = (machine, address, access);
        Raised::Fatal
    }

    /// The running thread cannot go on (see `exception::Exception` for `code` and `subcode`).
    pub fn raise_exception(
        &mut self,
        machine: &mut impl Machine,
        kind: exception::Kind,
        code: u64,
        subcode: u64,
    ) -> Raised {
        let _ = (machine, kind, code, subcode);
        Raised::Fatal
    }

    // Look-ups for the traps that the shell decides with page tables and devices.

    /// The space that `name` denotes in the name space of `task`.
    ///
    /// # Errors
    /// KERN_INVALID_NAME.
    pub fn resolve_space(&self, task: TaskId, name: u64) -> Result<SpaceId, Kern> {
        let _ = (task, name);
        Err(Kern::InvalidName)
    }

    /// Checks that the running task's `name` is the host memory port.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn check_host_memory(&self, name: u64) -> Result<(), Kern> {
        let _ = name;
        Err(Kern::InvalidHost)
    }

    /// Checks that the running task's `name` is the host control port.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn check_host_control(&self, name: u64) -> Result<(), Kern> {
        let _ = name;
        Err(Kern::InvalidHost)
    }

    /// Checks that the running task's `name` is the device port.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn check_device(&self, name: u64) -> Result<(), Kern> {
        let _ = name;
        Err(Kern::InvalidHost)
    }

    // Ports.

    /// Trap `port_allocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_allocate(&mut self, payload: u64) -> Result<Name, Kern> {
        let _ = payload;
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_set_allocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_set_allocate(&mut self) -> Result<Name, Kern> {
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_destroy`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_destroy(&mut self, machine: &mut impl Machine, name: u64) -> Result<(), Kern> {
        let _ = (machine, name);
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_deallocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_deallocate(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        count: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, name, count);
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_make_send`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_make_send(&mut self, name: u64) -> Result<(), Kern> {
        let _ = name;
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_move_member`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_move_member(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        set: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, name, set);
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_request_notification`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_request_notification(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        request: u64,
        notify: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, name, request, notify);
        Err(Kern::ResourceShortage)
    }

    /// Trap `port_set_attributes`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_set_attributes(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        payload: u64,
        limit: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, name, payload, limit);
        Err(Kern::ResourceShortage)
    }

    // Tasks and threads.

    /// Trap `space_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn space_create(
        &mut self,
        machine: &mut impl Machine,
        host_memory: u64,
    ) -> Result<Name, Kern> {
        let _ = (machine, host_memory);
        Err(Kern::ResourceShortage)
    }

    /// Trap `task_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_create(&mut self, host_control: u64, space: u64, map: u64) -> Result<Name, Kern> {
        let _ = (host_control, space, map);
        Err(Kern::ResourceShortage)
    }

    /// Trap `task_terminate`. If the task is the caller's own there is nobody to give the result to.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_terminate(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        status: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, task, status);
        Err(Kern::ResourceShortage)
    }

    /// Trap `task_set_special_port`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_set_special_port(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        index: u64,
        name: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, task, index, name);
        Err(Kern::ResourceShortage)
    }

    /// Trap `task_get_special_port`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_get_special_port(&mut self, index: u64) -> Result<Name, Kern> {
        let _ = index;
        Err(Kern::ResourceShortage)
    }

    /// Trap `task_set_band`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_set_band(&mut self, host_control: u64, task: u64, band: u64) -> Result<(), Kern> {
        let _ = (host_control, task, band);
        Err(Kern::ResourceShortage)
    }

    /// Trap `thread_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_create(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        start: ThreadStart,
    ) -> Result<Name, Kern> {
        let _ = (machine, task, start);
        Err(Kern::ResourceShortage)
    }

    /// Trap `thread_terminate`. If the thread is the caller there is nobody to give the result to.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_terminate(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, thread);
        Err(Kern::ResourceShortage)
    }

    /// Trap `thread_abort`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_abort(&mut self, machine: &mut impl Machine, thread: u64) -> Result<(), Kern> {
        let _ = (machine, thread);
        Err(Kern::ResourceShortage)
    }

    /// Trap `thread_yield`.
    pub fn thread_yield(&mut self) {}

    /// Trap `thread_set_exception_port`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_set_exception_port(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
        name: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, thread, name);
        Err(Kern::ResourceShortage)
    }

    // Kernel memory.

    /// Trap `host_set_memory_low`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn host_set_memory_low(
        &mut self,
        machine: &mut impl Machine,
        host_memory: u64,
        notify: u64,
    ) -> Result<(), Kern> {
        let _ = (machine, host_memory, notify);
        Err(Kern::ResourceShortage)
    }

    /// The kernel's pool is below its low-water mark and would like `frames`. Sends
    /// KERNEL_MEMORY_LOW once until [`Kernel::memory_donated`].
    pub fn memory_low(&mut self, machine: &mut impl Machine, frames: u64) {
        let _ = (machine, frames);
    }

    /// A donation came: the next shortage is told again.
    pub fn memory_donated(&mut self) {}
}
