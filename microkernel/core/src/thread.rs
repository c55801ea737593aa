//! A thread's record and the states it can be in.

use crate::{
    TaskId, ThreadId,
    cells::ThreadCells,
    handlers::Handlers,
    kernel::{Msg, Running},
    list::{Linked, Links},
    machine::{Context, SpaceId},
    message::{Cargo, EMPTY, MessageId},
    port::{PortId, SetId},
    run_queue::{NO_RANK, rank},
    slab::{Id, Record, Slab},
};
use core::ops::Deref;
use ipc_abi::{
    Kern,
    exception::{Exception, Kind},
    message::Outcome,
};

/// Links of the threads of a task.
pub(crate) const PEER: usize = 0;

/// What a thread that calls wants. What it has to say lies in its record, so that this stays a byte
/// or two: it is copied with every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It made a `msg` call; words and body are its own.
    Message,
    /// It touched memory that has no translation.
    Fault,
    /// Something that it cannot repair itself.
    Exception(Level),
}

/// Whose exception port an exception was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Thread,
    Task,
    /// Nobody is left.
    None,
}

/// Where a thread receives from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Port(PortId),
    Set(SetId),
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has the processor.
    Running,
    /// It waits for the processor, in the run queue or as the kernel's `handoff`.
    Ready,
    /// It would be ready if it were not suspended.
    Stopped,
    /// It waits for room at a port; `msg` holds what it sends and what comes after.
    Sending(PortId),
    /// It is queued at a port, to be received.
    Calling(PortId, Call),
    /// A thread of `server` has its token, received through a port that may be gone by now.
    Awaiting {
        server: TaskId,
        through: PortId,
        call: Call,
    },
    /// It waits for a message. `sent`: the send half of its trap is done.
    Receiving { source: Source, sent: Outcome },
    /// It is being moved from one state to another, or its task is ending.
    Aside,
    /// It faulted again before the notice that its last token is void was received: it waits for
    /// that notice, without which the next token could not be taken back, and then goes on.
    Noticed,
}

/// A thread. Opaque outside of this crate.
#[derive(Debug)]
pub struct Thread {
    /// Its state, priority, deadline, token and what else fast paths look at.
    pub(crate) cells: &'static ThreadCells,
    pub(crate) task: TaskId,
    pub(crate) context: Context,
    /// The space of its task.
    pub(crate) space: SpaceId,
    /// Slot of its IPC buffer in the window of its task.
    pub(crate) slot: u32,
    /// As its maker asked.
    pub(crate) wanted: u8,
    /// The only processor that may run it.
    pub(crate) pin: Option<u8>,
    /// The processor that it waits for while it is ready, or waited for last.
    pub(crate) home: u8,
    /// Whether its debug registers watch anything: they are loaded only on the general way.
    pub(crate) watched: bool,
    /// Nanoseconds that it had a processor, by samples.
    pub(crate) time: u64,
    /// How often it was suspended and not resumed.
    pub(crate) suspended: u32,
    /// Whether its task is suspended, as of the change of this number.
    pub(crate) held: bool,
    pub(crate) heard: u32,
    /// Its control port.
    pub(crate) port: PortId,
    /// Who handles its exceptions.
    pub(crate) handlers: Handlers,
    /// The rights that it sends, if it is queued as a caller.
    pub(crate) cargo: Cargo,
    /// Its exception, while its call is one.
    pub(crate) exception: Exception,
    /// What is left of its trap while it waits for room.
    pub(crate) msg: Msg,
    /// The notice that its token is void; `notice_out` while it is queued somewhere.
    pub(crate) notice: MessageId,
    pub(crate) notice_out: bool,
    /// Its place in the timer queue.
    pub(crate) timer: Option<u32>,
    peer_links: Links<Thread>,
}

/// What is known of a thread when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewThread {
    pub(crate) task: TaskId,
    pub(crate) context: Context,
    pub(crate) space: SpaceId,
    pub(crate) slot: u32,
    pub(crate) wanted: u8,
    pub(crate) priority: u8,
    pub(crate) port: PortId,
    pub(crate) notice: MessageId,
}

impl Thread {
    /// Whether it must not run.
    #[inline]
    pub(crate) const fn is_suspended(&self) -> bool {
        self.held || self.suspended > 0
    }

    /// The rank that follows from everything else.
    pub(crate) fn true_rank(&self) -> u8 {
        if self.is_suspended() || self.watched || self.pin.is_some() {
            NO_RANK
        } else {
            rank(self.priority.get())
        }
    }

    /// Changes its priority in force. It is in no queue.
    pub(crate) fn set_priority(&mut self, priority: u8) {
        self.priority.set(priority);
        self.rank.set(self.true_rank());
    }

    /// A thread that is ready and in no queue, in a place with these cells.
    pub(crate) fn new(id: ThreadId, cells: &'static ThreadCells, new: NewThread) -> Thread {
        let actor = Running {
            thread: id,
            task: new.task,
            context: new.context,
            space: new.space,
        };
        cells.begin(actor, new.priority);
        Thread {
            cells,
            task: new.task,
            context: new.context,
            space: new.space,
            slot: new.slot,
            wanted: new.wanted,
            pin: None,
            home: 0,
            watched: false,
            time: 0,
            suspended: 0,
            held: false,
            heard: 0,
            port: new.port,
            handlers: Handlers::NONE,
            cargo: EMPTY,
            exception: Exception {
                kind: Kind::Software,
                code: 0,
                subcode: 0,
                ip: 0,
                sp: 0,
                thread: 0,
            },
            msg: Msg::NONE,
            notice: new.notice,
            notice_out: false,
            timer: None,
            peer_links: Links::NONE,
        }
    }
}

impl Deref for Thread {
    type Target = ThreadCells;

    #[inline(always)]
    fn deref(&self) -> &ThreadCells {
        self.cells
    }
}

impl Slab<Thread> {
    /// Puts a thread in.
    ///
    /// # Errors
    /// As [`Slab::insert`].
    pub(crate) fn add(&mut self, new: NewThread) -> Result<ThreadId, Kern> {
        self.insert_with(|id, cells| Thread::new(id, cells, new))
    }
}

/// Nobody.
const NOBODY: NewThread = NewThread {
    task: Id::NOWHERE,
    context: Context(0),
    space: SpaceId(0),
    slot: 0,
    wanted: 0,
    priority: 0,
    port: Id::NOWHERE,
    notice: Id::NOWHERE,
};

impl Record for Thread {
    type Cells = ThreadCells;

    fn vacant(cells: &'static ThreadCells) -> Thread {
        Thread::new(Id::NOWHERE, cells, NOBODY)
    }

    fn release(&mut self) {}
}

impl Linked<PEER> for Thread {
    fn links(&self) -> &Links<Thread> {
        &self.peer_links
    }
    fn links_mut(&mut self) -> &mut Links<Thread> {
        &mut self.peer_links
    }
}

/// A thread of no task, to try queues with.
#[cfg(test)]
pub(crate) const fn sample(priority: u8) -> NewThread {
    NewThread {
        wanted: priority,
        priority,
        ..NOBODY
    }
}
