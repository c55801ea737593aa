//! Ports and port sets: what they are. What is done with them lies in `receive`, `send`, `rights`
//! and `teardown`.
//!
//! A port's record outlives the port: it stays, dead, until no right and no request points to it
//! and its queues have been emptied. Ports whose receiver is the kernel stand for an [`Object`].

use crate::{
    TaskId, ThreadId,
    cells::{PortCells, Spot},
    interrupt::InterruptId,
    list::{Linked, Links, List},
    machine::SpaceId,
    members::{Member, OF_PORT, OF_SET, READY},
    message::{Message, MessageId},
    owner::OwnerId,
    priority_list::PriorityList,
    queue::Queue,
    requests::Watch,
    slab::{Id, Record, Slab},
};
use ipc_abi::{Kern, right::Name};

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
    /// Some of the I/O ports.
    IoPorts {
        /// The first of them.
        first: u16,
        /// The last.
        last: u16,
        /// Who made the right, and pays for it.
        maker: TaskId,
    },
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

/// Where the sets of a port list it among those that have something to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// Nowhere any more.
    No,
    /// Behind all others, if it was something to receive that was taken.
    Last,
}

/// A port.
#[derive(Debug)]
pub(crate) struct Port {
    /// Its payload, those who wait, and what else fast paths look at.
    pub(crate) cells: &'static PortCells,
    pub(crate) object: Object,
    pub(crate) place: Place,
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
    pub(crate) senders: Queue,
    /// Armed dead-name requests.
    pub(crate) dead_names: List<Message, 0>,
    /// Armed send-possible requests.
    pub(crate) possibles: List<Message, 0>,
    pub(crate) no_senders: Option<MessageId>,
    /// The last send right that comes back says so itself, in place of that request.
    pub(crate) homes: bool,
    /// Who gets the receive right instead of its being destroyed.
    pub(crate) destroyed: Option<MessageId>,
    /// The sets that it is in.
    pub(crate) members: List<Member, OF_PORT>,
    /// How many they are.
    pub(crate) sets: u32,
    /// On the lists of its sets of members that have something to receive.
    pub(crate) ready: bool,
    /// On the kernel's list of ports with work left.
    pub(crate) busy: bool,
    work_links: Links<Port>,
}

/// Links of ports with work left.
pub(crate) const WORK: usize = 0;

impl Object {
    /// Where the receive right of its port is at first.
    const fn place(self) -> Place {
        match self {
            Object::User => Place::Moving,
            _ => Place::Kernel,
        }
    }
}

impl Slab<Port> {
    /// Puts a live port in that nobody has a right to.
    ///
    /// # Errors
    /// As [`Slab::insert`].
    pub(crate) fn add(&mut self, object: Object) -> Result<PortId, Kern> {
        self.insert_with(|id, cells| Port::new(id, cells, object))
    }
}

impl Port {
    /// Says what it stands for: it was just made for that.
    pub(crate) const fn stand_for(&mut self, object: Object) {
        self.object = object;
        self.place = object.place();
    }

    /// A live port that nobody has a right to, in a place with these cells.
    fn new(id: PortId, cells: &'static PortCells, object: Object) -> Port {
        cells.port.set(id);
        cells.payload.set(0);
        cells.spot.reset();
        cells.set.set(None);
        Port {
            cells,
            object,
            place: object.place(),
            limit: LIMIT_DEFAULT,
            queued: 0,
            make_send: 0,
            sends: 0,
            onces: 0,
            load: 0,
            arrivals: 0,
            messages: List::NEW,
            callers: PriorityList::default(),
            senders: Queue::default(),
            dead_names: List::NEW,
            possibles: List::NEW,
            no_senders: None,
            homes: false,
            destroyed: None,
            members: List::NEW,
            sets: 0,
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

    /// Whether a send right that comes back now is the last way to it, and is to say so.
    #[inline]
    pub(crate) fn is_home_alone(&self) -> bool {
        self.homes && self.sends == 1 && self.no_senders.is_some() && !self.has_item()
    }

    /// Whether nothing hangs on it but rights that others have: once it is dead, it only waits for these.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        let waited_for = self.dead_names.first().or(self.possibles.first());
        let asked = waited_for.or(self.no_senders).is_some();
        let waits = !self.senders.is_empty() || !self.cells.spot.is_empty();
        let serves = matches!(self.object, Object::HostMemory(_));
        let has_rights = self.sends > 0 || self.onces > 0;
        has_rights && !(asked || waits || serves || self.has_item())
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

    /// Notes that something came into a queue. Says whether its sets are to list it from now on.
    #[inline(always)]
    pub(crate) fn arrived(&mut self) -> bool {
        self.cells.spot.full.set(true);
        let lists = self.sets > 0 && !self.ready;
        self.ready |= lists;
        lists
    }

    /// Notes that something left a queue. Says where its sets list it then, if they did.
    #[inline(always)]
    pub(crate) fn departed(&mut self) -> Option<Listed> {
        let full = self.has_item();
        self.cells.spot.full.set(full);
        if !self.ready {
            return None;
        }
        self.ready = full;
        Some(if full { Listed::Last } else { Listed::No })
    }

    /// The number of the next arrival.
    pub(crate) const fn stamp(&mut self) -> u64 {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.arrivals
    }
}

impl Record for Port {
    type Cells = PortCells;

    fn vacant(cells: &'static PortCells) -> Port {
        Port::new(Id::NOWHERE, cells, Object::User)
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
    /// Those who wait.
    pub(crate) spot: &'static Spot,
    work_links: Links<PortSet>,
}

impl PortSet {
    fn new(spot: &'static Spot) -> PortSet {
        spot.reset();
        PortSet {
            dead: false,
            members: List::NEW,
            ready: List::NEW,
            spot,
            work_links: Links::NONE,
        }
    }
}

impl Slab<PortSet> {
    /// Puts an empty set in.
    ///
    /// # Errors
    /// As [`Slab::insert`].
    pub(crate) fn add(&mut self) -> Result<SetId, Kern> {
        self.insert_with(|_, spot| PortSet::new(spot))
    }
}

impl Record for PortSet {
    type Cells = Spot;

    fn vacant(spot: &'static Spot) -> PortSet {
        PortSet::new(spot)
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
