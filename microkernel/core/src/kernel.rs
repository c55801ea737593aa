//! The state of the world, its beginning, and the look-ups that everything else uses.
//!
//! The operations lie in the files of this crate, one idea each: `schedule` (who runs), `rights`
//! (names and rights in transit), `send`, `receive`, `reply` (the halves of the `msg` trap), `call`
//! (calls, faults and exceptions), `notices`, `teardown` (all work that is done in steps), and the
//! traps on ports, tasks and threads.

use crate::{
    account,
    interrupt::{INTERRUPTS_MAX, Interrupt},
    list::List,
    machine::{Context, SpaceId},
    members::Member,
    message::{Message, MessageId, Role},
    owner::OwnerId,
    port::{Object, Place, Port, PortId, PortSet, WORK},
    processors::Processors,
    reach::Search,
    run_queue::RunQueue,
    seat::Seat,
    servers::Servers,
    slab::{Id, Slab},
    space::{Holds, Names, Stamp, UREFS_MAX},
    task::Task,
    thread::{Source, Thread},
    timer_queue::TimerQueue,
};
use core::fmt;
use ipc_abi::{
    Kern,
    right::{Name, SpecialPort},
};

/// Handle of a thread. Its `index()` is the number that messages and reports show.
pub type ThreadId = Id<Thread>;
/// Handle of a task.
pub type TaskId = Id<Task>;

/// The band of the first task: the highest.
pub const FIRST_BAND: u8 = 31;

/// Bits of a reply token that say which thread; the others are the number of its call.
pub(crate) const TOKEN_THREAD_BITS: u32 = 20;

const TASKS_MAX: u32 = 1 << 16;
const THREADS_MAX: u32 = 1 << TOKEN_THREAD_BITS;
const PORTS_MAX: u32 = 1 << 24;
const MESSAGES_MAX: u32 = 1 << 24;

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
/// through [`crate::Machine`] when they are needed).
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

impl Msg {
    pub(crate) const NONE: Msg = Msg {
        options: 0,
        destination: 0,
        source: 0,
        info: 0,
        send_deadline: 0,
        receive_deadline: 0,
        notify: 0,
    };
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
    /// Its suspend count, 0 or 1.
    pub suspended: u64,
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

/// A place from which to go on looking. It is no part of the state: where it is changes nothing that
/// anybody sees.
pub(crate) struct Cursor(pub(crate) u32);

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor")
    }
}

/// The one notice that belongs to the kernel itself.
#[derive(Debug)]
pub(crate) struct MemoryLow {
    pub(crate) message: MessageId,
    /// Whom to tell; a send-once right.
    pub(crate) notify: Option<PortId>,
    /// Whether the present shortage has not been told yet.
    pub(crate) armed: bool,
}

/// The state of the world.
///
/// Methods named like a trap are that trap: they act for the running thread, take its argument words
/// unchecked, and give its results; `ipc_abi::trap` lists arguments and errors. After any method that
/// takes the machine, [`Kernel::running`] may be another thread.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) tasks: Slab<Task>,
    pub(crate) threads: Slab<Thread>,
    pub(crate) ports: Slab<Port>,
    pub(crate) sets: Slab<PortSet>,
    pub(crate) members: Slab<Member>,
    pub(crate) messages: Slab<Message>,
    pub(crate) interrupts: Slab<Interrupt>,
    /// What runs *here* (see `processors`).
    pub(crate) seat: &'static Seat,
    /// Woken last: gets the processor without passing the run queue if it becomes free now.
    pub(crate) handoff: Option<ThreadId>,
    /// Who waits for the processor *here*.
    pub(crate) run_queue: RunQueue,
    pub(crate) processors: Processors,
    pub(crate) timers: TimerQueue,
    /// Whether a fast path may be tried: see [`Kernel::allow_fast`].
    pub(crate) fast: bool,
    /// Changes whenever a name may have lost what it denotes.
    pub(crate) names_stamp: Stamp,
    /// Ports that something is left to be done for.
    pub(crate) busy_ports: List<Port, WORK>,
    pub(crate) dead_sets: List<PortSet, 0>,
    pub(crate) ending: List<Task, 0>,
    pub(crate) search: Search,
    /// Whether there may be memory to give back of what has ended.
    pub(crate) loose: bool,
    /// Index of the task whose names are looked at next for such memory.
    pub(crate) next_trim: Cursor,
    pub(crate) memory_low: MemoryLow,
    pub(crate) servers: Servers,
}

impl Kernel {
    /// Makes an empty world: no task, nothing running. The seat is processor 0's, and new.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new(seat: &'static Seat) -> Result<Kernel, Kern> {
        let mut messages = Slab::new(MESSAGES_MAX);
        let message = messages.insert(Message::notice(Role::MemoryLow))?;
        Ok(Kernel {
            tasks: Slab::new(TASKS_MAX),
            threads: Slab::new(THREADS_MAX),
            ports: Slab::new(PORTS_MAX),
            sets: Slab::new(PORTS_MAX),
            members: Slab::new(PORTS_MAX),
            messages,
            interrupts: Slab::new(INTERRUPTS_MAX),
            seat,
            handoff: None,
            run_queue: RunQueue::new(seat)?,
            processors: Processors::ONE,
            timers: TimerQueue::NEW,
            fast: false,
            names_stamp: Stamp::default(),
            busy_ports: List::NEW,
            dead_sets: List::NEW,
            ending: List::NEW,
            search: Search::default(),
            loose: false,
            next_trim: Cursor(0),
            memory_low: MemoryLow {
                message,
                notify: None,
                armed: true,
            },
            servers: Servers::default(),
        })
    }

    /// Makes the first task, in `space`, with the privileged ports; it has no map port and no thread.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn boot(&mut self, space: SpaceId) -> Result<Boot, Kern> {
        let space_port = self.ports.add(Object::Space {
            space,
            owner: OwnerId::FIRST_SERVER,
            occupant: None,
        })?;
        let task = self.new_task(space_port, None, FIRST_BAND)?;
        let mut give = |object, which| -> Result<Name, Kern> {
            let port = self.ports.add(object)?;
            self.ports.at_mut(port).sends = 2;
            let record = self.tasks.at_mut(task);
            record.set_special(which, Some(port));
            record.names.insert(Holds::Port {
                port,
                receive: false,
                refs: 1,
            })
        };
        let host_memory = Object::HostMemory(OwnerId::FIRST_SERVER);
        let boot = Boot {
            host_memory: give(host_memory, SpecialPort::HostMemory)?,
            host_control: give(Object::HostControl, SpecialPort::HostControl)?,
            device: give(Object::Device, SpecialPort::Device)?,
            task,
        };
        let port = self.tasks.at(task).special(SpecialPort::HostMemory);
        self.boot_server(port.ok_or(Kern::Failure)?, space)?;
        self.count_space(OwnerId::FIRST_SERVER);
        Ok(boot)
    }

    /// Makes a task with its control port in the space of a port, at the cost of its maker; that of
    /// the first may have all there is. Nothing is left behind on failure.
    pub(crate) fn new_task(
        &mut self,
        space_port: PortId,
        maker: Option<TaskId>,
        band: u8,
    ) -> Result<TaskId, Kern> {
        let Object::Space {
            space,
            owner,
            occupant: None,
        } = self.ports.at(space_port).object
        else {
            return Err(Kern::InvalidArgument);
        };
        self.tasks.reserve(1)?;
        self.ports.reserve(1)?;
        self.messages.reserve(2)?;
        let quota = maker.map_or(account::UNLIMITED, |maker| self.first_quota(maker));
        let names = Names::new(quota)?;
        if let Some(maker) = maker {
            let cost = account::TASK.saturating_add(quota);
            self.account(maker).charge(cost)?;
        }
        let notice = self.messages.insert(Message::notice(Role::Spent))?;
        let suspension = self.messages.insert(Message::notice(Role::Suspended))?;
        let port = self.ports.add(Object::User)?;
        let mut record = Task::new(names, space, port, [notice, suspension]);
        record.band = band;
        record.maker = maker;
        record.space_port = Some(space_port);
        record.set_special(SpecialPort::TaskSelf, Some(port));
        let task = self.tasks.insert(record)?;
        let control = self.ports.at_mut(port);
        control.stand_for(Object::Task(task));
        control.sends = 1;
        self.ports.at_mut(space_port).object = Object::Space {
            space,
            owner,
            occupant: Some(task),
        };
        Ok(task)
    }

    // Look-ups.

    /// The running thread, for a trap.
    pub(crate) fn caller(&self) -> Result<Running, Kern> {
        self.running().ok_or(Kern::Failure)
    }

    /// The object of the kernel that `name` is a send right to.
    pub(crate) fn object(&self, task: TaskId, name: u64) -> Option<Object> {
        let entry = self.tasks.get(task)?.names.get(name)?;
        let Holds::Port { port, refs, .. } = entry.holds else {
            return None;
        };
        let port = self.ports.at(port);
        (refs > 0 && port.place == Place::Kernel).then_some(port.object)
    }

    /// The port of which `name` is the receive right.
    pub(crate) fn receive_right(&self, task: TaskId, name: u64) -> Option<PortId> {
        match self.tasks.get(task)?.names.get(name)?.holds {
            Holds::Port {
                port,
                receive: true,
                ..
            } => Some(port),
            _ => None,
        }
    }

    /// The port, dead or alive, that `name` is a send right to.
    pub(crate) fn send_right(&self, task: TaskId, name: u64) -> Option<PortId> {
        match self.tasks.get(task)?.names.get(name)?.holds {
            Holds::Port { port, refs, .. } if refs > 0 => Some(port),
            _ => None,
        }
    }

    /// What a receive names.
    #[inline]
    pub(crate) fn source(&self, task: TaskId, name: u64) -> Result<Source, Kern> {
        match self.tasks.at(task).names.get(name).map(|entry| entry.holds) {
            Some(Holds::Port {
                port,
                receive: true,
                ..
            }) => Ok(Source::Port(port)),
            Some(Holds::Set(set)) => Ok(Source::Set(set)),
            _ => Err(Kern::ReceiveInvalidName),
        }
    }

    /// The task, not gone yet, whose control port `name` is.
    ///
    /// # Errors
    /// KERN_INVALID_TASK.
    pub fn resolve_task(&self, task: TaskId, name: u64) -> Result<TaskId, Kern> {
        match self.object(task, name) {
            Some(Object::Task(found)) => Ok(found),
            _ => Err(Kern::InvalidTask),
        }
    }

    /// The thread whose control port `name` is.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT.
    pub fn resolve_thread(&self, task: TaskId, name: u64) -> Result<ThreadId, Kern> {
        match self.object(task, name) {
            Some(Object::Thread(found)) => Ok(found),
            _ => Err(Kern::InvalidArgument),
        }
    }

    /// The space that `name` denotes in the name space of `task`.
    ///
    /// # Errors
    /// KERN_INVALID_NAME.
    pub fn resolve_space(&self, task: TaskId, name: u64) -> Result<SpaceId, Kern> {
        match self.object(task, name) {
            Some(Object::Space { space, .. }) => Ok(space),
            _ => Err(Kern::InvalidName),
        }
    }

    /// Checks that the running task's `name` is the host control port.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn check_host_control(&self, name: u64) -> Result<(), Kern> {
        self.check_host(name, Object::HostControl)
    }

    /// Checks that the running task's `name` is the device port.
    ///
    /// # Errors
    /// KERN_INVALID_HOST.
    pub fn check_device(&self, name: u64) -> Result<(), Kern> {
        self.check_host(name, Object::Device)
    }

    fn check_host(&self, name: u64, wanted: Object) -> Result<(), Kern> {
        let me = self.running().ok_or(Kern::InvalidHost)?;
        match self.object(me.task, name) {
            Some(object) if object == wanted => Ok(()),
            _ => Err(Kern::InvalidHost),
        }
    }

    /// Gives a task a send right that the kernel makes or copies, under the name that it has or a new one.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; KERN_UREFS_OVERFLOW.
    pub(crate) fn give_send(&mut self, task: TaskId, port: PortId) -> Result<Name, Kern> {
        let names = &mut self.tasks.at_mut(task).names;
        let name = match names.find(port) {
            Some(name) => name,
            None => names.insert(Holds::Port {
                port,
                receive: false,
                refs: 0,
            })?,
        };
        if let Some(entry) = names.get_mut(u64::from(name), &mut self.names_stamp)
            && let Holds::Port { refs, .. } = &mut entry.holds
        {
            if *refs == UREFS_MAX {
                return Err(Kern::UrefsOverflow);
            }
            if *refs == 0 {
                let sends = &mut self.ports.at_mut(port).sends;
                *sends = sends.saturating_add(1);
            }
            *refs = refs.saturating_add(1);
        }
        Ok(name)
    }

    /// The registers and buffer of a thread; `None` once it has ended. A trap whose caller may be
    /// gone afterwards (`thread_terminate`, `task_terminate`) asks this before it writes results.
    #[must_use]
    pub fn context(&self, thread: ThreadId) -> Option<Context> {
        self.threads.get(thread).map(|thread| thread.context)
    }
}
