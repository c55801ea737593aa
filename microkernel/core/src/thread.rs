//! A thread's record and the states it can be in.

use crate::{
    TaskId, ThreadId,
    handlers::Handlers,
    kernel::{Msg, Running},
    list::{Linked, Links},
    machine::{Context, SpaceId},
    message::{Cargo, EMPTY, MessageId},
    port::{PortId, SetId},
    run_queue::{NO_RANK, rank},
    slab::{Id, Record},
    space::Stamp,
};
use core::{cell::Cell, fmt};
use ipc_abi::{
    exception::{Behavior, Exception, Kind},
    fault::Fault,
    message::{FOREVER, Info, Outcome},
    types::Prot,
};

/// Links of the one queue that a thread can be in: ready, or waiting at a port or set.
pub(crate) const QUEUE: usize = 0;
/// Links of the threads of a task.
pub(crate) const PEER: usize = 1;

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
    pub(crate) task: TaskId,
    pub(crate) context: Context,
    /// The space of its task.
    pub(crate) space: SpaceId,
    /// Slot of its IPC buffer in the window of its task.
    pub(crate) slot: u32,
    /// Cells, so that the two threads of a fast path can be held at the same time.
    pub(crate) state: Cell<State>,
    /// As its maker asked.
    pub(crate) wanted: u8,
    /// In force: the lower of `wanted` and the task's band.
    pub(crate) priority: u8,
    /// For the fast paths: its priority's rank, or none if it must not run just anywhere.
    pub(crate) rank: u8,
    /// The only processor that may run it.
    pub(crate) pin: Option<u8>,
    /// The processor that it waits for while it is ready, or waited for last.
    pub(crate) home: u8,
    /// Whether its debug registers watch anything: they are loaded only on the general way.
    pub(crate) watched: bool,
    /// How often it was suspended and not resumed.
    pub(crate) suspended: u32,
    /// Whether its task is suspended, as of the change of this number.
    pub(crate) held: bool,
    pub(crate) heard: u32,
    /// Its control port.
    pub(crate) port: PortId,
    /// Who handles its exceptions.
    pub(crate) handlers: Handlers,
    /// Number of its call, the part of the token that makes it good for one use.
    pub(crate) call: Cell<u64>,
    /// What it sends, if it is queued as a caller.
    pub(crate) info: Info,
    pub(crate) cargo: Cargo,
    /// Words and body, if its call was forwarded and is queued again: then they are not its own.
    pub(crate) forwarded: Option<MessageId>,
    pub(crate) stamp: u64,
    /// Its fault, while its call is one.
    pub(crate) fault: Cell<Fault>,
    /// Its exception, while its call is one, and what its handler is told.
    pub(crate) exception: Exception,
    pub(crate) behavior: Cell<Behavior>,
    /// What is left of its trap while it waits for room.
    pub(crate) msg: Msg,
    /// The notice that its token is void; `notice_out` while it is queued somewhere.
    pub(crate) notice: MessageId,
    pub(crate) notice_out: bool,
    /// Its place in the timer queue.
    pub(crate) timer: Option<u32>,
    /// The time by which it lies there, not after its deadline; `FOREVER`: it is not there.
    pub(crate) timer_key: u64,
    /// Until when it waits; `FOREVER` if it does not.
    pub(crate) deadline: Cell<u64>,
    /// In a priority list: the last of the run of equals that it leads.
    pub(crate) run_end: Option<ThreadId>,
    /// What it sent to last, and received from last.
    pub(crate) sent_to: Cell<Hint<PortId>>,
    pub(crate) received_from: Cell<Hint<Source>>,
    queue_links: Links<Thread>,
    peer_links: Links<Thread>,
}

/// What a name was found to denote: it still does, as long as the stamp is the present one. It is
/// no part of the state: `invariants` checks that it says nothing else than the names do.
#[derive(Clone, Copy)]
pub(crate) struct Hint<T> {
    pub(crate) name: u64,
    pub(crate) stamp: Stamp,
    pub(crate) found: Option<T>,
}

impl<T> fmt::Debug for Hint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hint")
    }
}

impl<T: Copy> Hint<T> {
    const NONE: Hint<T> = Hint {
        name: 0,
        stamp: Stamp::NEVER,
        found: None,
    };

    /// What `name` denotes, if that is known.
    #[inline(always)]
    pub(crate) fn get(&self, name: u64, stamp: Stamp) -> Option<T> {
        if self.name == name && self.stamp == stamp {
            self.found
        } else {
            None
        }
    }
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
    pub(crate) const fn true_rank(&self) -> u8 {
        if self.is_suspended() || self.watched || self.pin.is_some() {
            NO_RANK
        } else {
            rank(self.priority)
        }
    }

    /// This thread, whose handle is `id`, as an actor.
    #[inline]
    pub(crate) const fn actor(&self, id: ThreadId) -> Running {
        Running {
            thread: id,
            task: self.task,
            context: self.context,
            space: self.space,
        }
    }

    /// Changes its priority in force. It is in no queue.
    pub(crate) fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
        self.rank = self.true_rank();
    }

    /// Makes it the one that runs.
    #[inline]
    pub(crate) fn run(&self, id: ThreadId) -> Running {
        self.state.set(State::Running);
        self.actor(id)
    }

    /// A thread that is ready and in no queue.
    pub(crate) const fn new(new: NewThread) -> Thread {
        Thread {
            task: new.task,
            context: new.context,
            space: new.space,
            slot: new.slot,
            state: Cell::new(State::Ready),
            wanted: new.wanted,
            priority: new.priority,
            rank: rank(new.priority),
            pin: None,
            home: 0,
            watched: false,
            suspended: 0,
            held: false,
            heard: 0,
            port: new.port,
            handlers: Handlers::NONE,
            call: Cell::new(0),
            info: Info(0),
            cargo: EMPTY,
            forwarded: None,
            stamp: 0,
            fault: Cell::new(Fault {
                address: 0,
                access: Prot::NONE,
                ip: 0,
                thread: 0,
            }),
            exception: Exception {
                kind: Kind::Software,
                code: 0,
                subcode: 0,
                ip: 0,
                sp: 0,
                thread: 0,
            },
            behavior: Cell::new(Behavior::empty()),
            msg: Msg::NONE,
            notice: new.notice,
            notice_out: false,
            timer: None,
            timer_key: FOREVER,
            deadline: Cell::new(FOREVER),
            run_end: None,
            sent_to: Cell::new(Hint::NONE),
            received_from: Cell::new(Hint::NONE),
            queue_links: Links::NONE,
            peer_links: Links::NONE,
        }
    }
}

impl Record for Thread {
    fn vacant() -> Thread {
        Thread::new(NewThread {
            task: Id::NOWHERE,
            context: Context(0),
            space: SpaceId(0),
            slot: 0,
            wanted: 0,
            priority: 0,
            port: Id::NOWHERE,
            notice: Id::NOWHERE,
        })
    }

    fn release(&mut self) {}
}

impl Linked<QUEUE> for Thread {
    fn links(&self) -> &Links<Thread> {
        &self.queue_links
    }
    fn links_mut(&mut self) -> &mut Links<Thread> {
        &mut self.queue_links
    }
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
pub(crate) fn sample(priority: u8) -> Thread {
    Thread::new(NewThread {
        task: Id::NOWHERE,
        context: Context(0),
        space: SpaceId(0),
        slot: 0,
        wanted: priority,
        priority,
        port: Id::NOWHERE,
        notice: Id::NOWHERE,
    })
}
