//! Ports and port sets: what they are. What is done with them lies in `receive`, `send`, `rights`
//! and `teardown`.
//!
//! A port's record outlives the port: it stays, dead, until no right and no request points to it
//! and its queues have been emptied. Ports whose receiver is the kernel stand for an [`Object`].

use crate::{
    TaskId, ThreadId,
    interrupt::InterruptId,
    list::{Linked, Links, List},
    machine::SpaceId,
    members::{Member, OF_PORT, OF_SET, READY},
    message::{Message, MessageId},
    owner::OwnerId,
    priority_list::PriorityList,
    requests::Watch,
    slab::{Id, Record},
    thread::{QUEUE, Thread},
};
use ipc_abi::right::Name;

/// Handle of a port.
pub(crate) type PortId = Id<Port>;
/// Handle of a port set.
pub(crate) type SetId = Id<PortSet>;

/// Messages that a new port queues.
pub(crate) const LIMIT_DEFAULT: u32 = 16;
/// Most messages that a port can be made to queue.
pub(crate) const LIMIT_MAX: u32 = 1024;

/// What stands behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// A task receives from it, or once did.
    User,
    /// Frames, page tables, donation.
    HostMemory(OwnerId),
    /// Tasks, special ports, shutdown.
    HostControl,
    /// I/O ports and device frames.
    Device,
    /// An interrupt of a device.
    Interrupt(InterruptId),
    /// The control port of a task.
    Task(TaskId),
    /// The control port of a thread.
    Thread(ThreadId),
    /// An address space, and the task that lives in it.
    Space {
        /// The shell's word for it.
        space: SpaceId,
        /// Whose frames are entered in it.
        owner: OwnerId,
        /// Who lives in it; it is not destroyed before that task's end.
        occupant: Option<TaskId>,
    },
}

/// Where the receive right is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A task has it, under this name.
    Held(TaskId, Name),
    /// It travels in a message (or with a waiting caller) that is queued at this port.
    Transit(PortId),
    /// It was just taken out of a message, or is on its way to a thread that waits.
    Moving,
    /// The kernel is the receiver.
    Kernel,
    /// Nowhere: the port is dead.
    Dead,
}

/// A port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) object: Object,
    pub(crate) place: Place,
    /// What each message through the port carries. Of a dead task's control port: its exit status.
    pub(crate) payload: u64,
    pub(crate) limit: u32,
    /// Messages of tasks in `messages`; the kernel's do not count.
    pub(crate) queued: u32,
    pub(crate) make_send: u64,
    /// Send rights: one for each name that has any, each in transit, each kept by the kernel.
    pub(crate) sends: u32,
    /// Send-once rights, counted likewise.
    pub(crate) onces: u32,
    /// Bytes that the holder of the receive right is charged with: see `account`.
    pub(crate) load: u64,
    /// Counts arrivals, so that messages and callers are received in the order they came.
    pub(crate) arrivals: u64,
    pub(crate) messages: List<Message, 0>,
    /// Threads that call, fault or report an exception.
    pub(crate) callers: PriorityList,
    /// Threads that wait for room.
    pub(crate) senders: List<Thread, QUEUE>,
    /// Threads that wait for a message from this very port.
    pub(crate) receivers: List<Thread, QUEUE>,
    /// Armed dead-name requests.
    pub(crate) dead_names: List<Message, 0>,
    /// Armed send-possible requests.
    pub(crate) possibles: List<Message, 0>,
    pub(crate) no_senders: Option<MessageId>,
    /// Who gets the receive right instead of its being destroyed.
    pub(crate) destroyed: Option<MessageId>,
    /// The sets that it is in.
    pub(crate) members: List<Member, OF_PORT>,
    /// How many they are.
    pub(crate) sets: u32,
    /// Its set, if it is in one and no more: where else receivers may wait.
    pub(crate) set: Option<SetId>,
    /// On the lists of its sets of members that have something to receive.
    pub(crate) ready: bool,
    /// On the kernel's list of ports with work left.
    pub(crate) busy: bool,
    work_links: Links<Port>,
}

/// Links of ports with work left.
pub(crate) const WORK: usize = 0;

impl Port {
    /// A live port that nobody has a right to.
    pub(crate) const fn new(object: Object) -> Port {
        Port {
            object,
            place: match object {
                Object::User => Place::Moving,
                _ => Place::Kernel,
            },
            payload: 0,
            limit: LIMIT_DEFAULT,
            queued: 0,
            make_send: 0,
            sends: 0,
            onces: 0,
            load: 0,
            arrivals: 0,
            messages: List::NEW,
            callers: PriorityList::NEW,
            senders: List::NEW,
            receivers: List::NEW,
            dead_names: List::NEW,
            possibles: List::NEW,
            no_senders: None,
            destroyed: None,
            members: List::NEW,
            sets: 0,
            set: None,
            ready: false,
            busy: false,
            work_links: Links::NONE,
        }
    }

    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.place == Place::Dead
    }

    /// Whether messages can be sent to it.
    #[inline]
    pub(crate) fn takes_messages(&self) -> bool {
        !matches!(self.place, Place::Dead | Place::Kernel)
    }

    /// Whether there is something to receive.
    #[inline]
    pub(crate) fn has_item(&self) -> bool {
        !self.messages.is_empty() || !self.callers.is_empty()
    }

    /// Whether a message fits the queue.
    #[inline]
    pub(crate) const fn has_room(&self) -> bool {
        self.queued < self.limit
    }

    /// The armed requests of a kind.
    pub(crate) const fn watchers(&mut self, watch: Watch) -> &mut List<Message, 0> {
        match watch {
            Watch::DeadName => &mut self.dead_names,
            Watch::Possible => &mut self.possibles,
        }
    }

    /// Whether this task holds the receive right.
    pub(crate) fn is_held_by(&self, task: TaskId) -> bool {
        matches!(self.place, Place::Held(holder, _) if holder == task)
    }

    /// The number of the next arrival.
    pub(crate) const fn stamp(&mut self) -> u64 {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.arrivals
    }
}

impl Record for Port {
    fn vacant() -> Port {
        Port::new(Object::User)
    }

    fn release(&mut self) {}
}

impl Linked<WORK> for Port {
    fn links(&self) -> &Links<Port> {
        &self.work_links
    }
    fn links_mut(&mut self) -> &mut Links<Port> {
        &mut self.work_links
    }
}

/// A port set: several ports of one task, received from in turn.
#[derive(Debug)]
pub(crate) struct PortSet {
    /// Whether its name is gone.
    pub(crate) dead: bool,
    pub(crate) members: List<Member, OF_SET>,
    /// Members that have something to receive; the first is next.
    pub(crate) ready: List<Member, READY>,
    pub(crate) receivers: List<Thread, QUEUE>,
    work_links: Links<PortSet>,
}

impl PortSet {
    pub(crate) const NEW: PortSet = PortSet {
        dead: false,
        members: List::NEW,
        ready: List::NEW,
        receivers: List::NEW,
        work_links: Links::NONE,
    };
}

impl Record for PortSet {
    fn vacant() -> PortSet {
        PortSet::NEW
    }

    fn release(&mut self) {}
}

impl Linked<0> for PortSet {
    fn links(&self) -> &Links<PortSet> {
        &self.work_links
    }
    fn links_mut(&mut self) -> &mut Links<PortSet> {
        &mut self.work_links
    }
}
