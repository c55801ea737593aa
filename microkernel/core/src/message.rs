//! Messages that the kernel keeps: queued ones, and notices that wait for their cause.
//!
//! A notice is allocated when it is asked for. While it is armed it lies on the list of the port
//! that it watches; when it is due it moves to the queue of the port that it goes to, which takes
//! no memory.

use crate::{
    TaskId, ThreadId,
    interrupt::InterruptId,
    list::{Linked, Links},
    port::PortId,
    slab::{Id, Record},
};
use alloc::vec::Vec;
use ipc_abi::{
    buffer::RIGHTS_MAX,
    message::{Info, WORDS},
    right::Name,
};

/// Handle of a message.
pub(crate) type MessageId = Id<Message>;

/// A right in transit. It counts as one right of its kind at its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Nothing,
    Receive(PortId),
    Send(PortId),
    Once(PortId),
}

/// The rights of a message, slot by slot.
pub(crate) type Cargo = [Carried; RIGHTS_MAX];

/// No rights.
pub(crate) const EMPTY: Cargo = [Carried::Nothing; RIGHTS_MAX];

/// What a message record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A task's message; counts towards the limit of the queue.
    Message,
    /// Asked for by a task; `to` is owed a send-once right until it is due.
    Request(Request),
    /// The same, of *send possible*, before a send found no room: it is on no list of its port.
    Dormant(Request),
    /// Words and body of a call that was forwarded and is queued; the thread of the call has it.
    Forwarded,
    /// Tells of a void token. Goes back to its thread when received.
    Cancelled(ThreadId),
    /// Tells of an interrupt. Goes back to it when received.
    Interrupt(InterruptId),
    /// Tells that a task is suspended. Goes back to it when received.
    Suspended,
    /// Tells of kernel memory. Goes back to the kernel when received.
    MemoryLow,
    /// A notice that is due and will not be needed again.
    Spent,
}

impl Role {
    /// The request that it is, due or not.
    pub(crate) const fn request(self) -> Option<Request> {
        match self {
            Role::Request(request) | Role::Dormant(request) => Some(request),
            _ => None,
        }
    }
}

/// What a task asked to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) to: PortId,
    pub(crate) task: TaskId,
    pub(crate) name: Name,
}

/// A message, or a notice that may become one.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) info: Info,
    pub(crate) words: [u64; WORDS],
    pub(crate) body: Vec<u8>,
    pub(crate) cargo: Cargo,
    pub(crate) stamp: u64,
    /// Bytes that are charged for it, where it is queued or to who asked for it.
    pub(crate) cost: u64,
    /// Where it is queued, if it is.
    pub(crate) queue: Option<PortId>,
    links: Links<Message>,
}

impl Message {
    /// A notice with nothing to say yet.
    pub(crate) const fn notice(role: Role) -> Message {
        Message {
            role,
            info: Info(0),
            words: [0; WORDS],
            body: Vec::new(),
            cargo: EMPTY,
            stamp: 0,
            cost: 0,
            queue: None,
            links: Links::NONE,
        }
    }
}

impl Record for Message {
    type Cells = ();

    fn vacant(_: &()) -> Message {
        Message::notice(Role::Spent)
    }

    fn release(&mut self) {
        self.body = Vec::new();
    }
}

impl Linked<0> for Message {
    fn links(&self) -> &Links<Message> {
        &self.links
    }
    fn links_mut(&mut self) -> &mut Links<Message> {
        &mut self.links
    }
}
