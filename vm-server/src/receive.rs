//! From a message to an event: the port's payload says which record, the message what is asked.
//!
//! Names end here: a right to one of the server's own ports becomes the record behind it, any other
//! its name as a [`RightId`]. What does not decode never reaches the core: its rights are given
//! back, and its sender hears the MIG code.

use ipc::buffer::{self, Body};
use ipc::trap::{self, Received};
use ipc_abi::Kern;
use ipc_abi::fault::{FAULT, Fault};
use ipc_abi::message::Info;
use ipc_abi::notify;
use ipc_abi::right::{ArrivedKind, Name};
use ipc_protocol::codec::Payload;
use ipc_protocol::define::{Message, Raw};
use ipc_protocol::memory_object_control::MemoryObjectDataSupply;
use ipc_protocol::vm_map::{VmCopyin, VmCopyout};
use vm_core::call::Call;
use vm_core::call::quick::Common;
use vm_core::event::{
    ControlId, Event, MapId, NO_RIGHTS, PortOf, PortRef, ReplyTo, RightId, Rights, Token,
};

use crate::serve::Server;

/// Payload of the port for the kernel's notices. No other task has a right to it.
pub(crate) const NOTICES: u64 = 0;

/// A message, understood.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// For the core.
    Event(Event),
    /// Malformed, or for nobody: to be refused with this code.
    Refused(ReplyTo, Kern),
    /// The stepper: nobody else wants the processor.
    Stepper(Token),
    /// A memory server below has ended: its frames can be taken back.
    OwnerEnded,
    /// Nothing that anybody waits for.
    Nothing,
}

/// The token of a message, if its sender waits.
fn token(received: &Received) -> ReplyTo {
    core::num::NonZeroU64::new(received.token).map(Token)
}

impl Server {
    /// Understands a message.
    pub(crate) fn understand(&mut self, received: &Received) -> Arrived {
        let port = self.ports.stands_for(received.payload);
        if received.info.is_kernel() {
            return from_kernel(received, port);
        }
        let rights = self.take_rights(received.info.rights());
        understand(received, port, rights)
    }

    /// The rights of the message in the buffer, which are the server's from now on.
    fn take_rights(&mut self, count: usize) -> Rights {
        let mut rights = NO_RIGHTS;
        for (slot, place) in rights.iter_mut().enumerate().take(count) {
            let (value, kind) = buffer::right(slot);
            *place = match kind {
                ArrivedKind::None => PortRef::None,
                ArrivedKind::Own => own(self.ports.stands_for(value)),
                ArrivedKind::OwnLast => {
                    let port = self.ports.came_home(value);
                    // After what the message asks for; that may end the record itself.
                    self.later.extend(port.map(|port| Event::NoSenders {
                        port,
                        made: u32::MAX,
                    }));
                    own(port)
                }
                ArrivedKind::Send => PortRef::Foreign(RightId(value as Name)),
                ArrivedKind::SendOnce | ArrivedKind::Dead => PortRef::Dead(RightId(value as Name)),
                ArrivedKind::Receive => {
                    // No request takes one, and a port without a receiver is better dead.
                    let _ = trap::port_destroy(value as Name);
                    PortRef::None
                }
            };
        }
        rights
    }
}

fn own(port: Option<PortOf>) -> PortRef {
    port.map_or(PortRef::None, PortRef::Own)
}

fn understand(received: &Received, port: Option<PortOf>, rights: Rights) -> Arrived {
    let reply = token(received);
    if let (NOTICES, Some(token)) = (received.payload, reply) {
        return Arrived::Stepper(token);
    }
    let decoded = match port {
        Some(port) => decode(received, port),
        None => Err(Kern::MigBadId),
    };
    match decoded {
        Ok(call) => Arrived::Event(Event::Call {
            call,
            rights,
            reply,
        }),
        Err(code) => {
            give_back(&rights);
            Arrived::Refused(reply, code)
        }
    }
}

/// Whether a fault was received, if anything was.
#[inline(always)]
pub(crate) fn is_fault(received: &Received) -> bool {
    received.info == Info::short(FAULT).from_kernel()
}

/// What a fault says: its map, itself, and whom to answer.
#[inline(always)]
pub(crate) fn common_fault(received: &Received) -> Option<(MapId, Fault, Token)> {
    if !is_fault(received) || received.outcome.code() != 0 {
        return None;
    }
    let Some(PortOf::Map(map)) = PortOf::from_payload(received.payload) else {
        return None;
    };
    Some((map, Fault::from_words(received.words), token(received)?))
}

/// What a common call says: its map, what is asked, and whom to answer.
#[inline(always)]
pub(crate) fn common_call(received: &Received) -> Option<(MapId, Common, Token)> {
    let id = received.info.id();
    if received.info != Info::short(id) || received.outcome.code() != 0 {
        return None;
    }
    let call = Common::decode(id, &received.words)?;
    let Some(PortOf::Map(map)) = PortOf::from_payload(received.payload) else {
        return None;
    };
    Some((map, call, token(received)?))
}

/// What a common supply says, if nobody wants to hear what became of it.
#[inline(always)]
pub(crate) fn common_supply(received: &Received) -> Option<(ControlId, MemoryObjectDataSupply)> {
    let plain = received.info == Info::short(MemoryObjectDataSupply::ID) && received.token == 0;
    if !plain || received.outcome.code() != 0 {
        return None;
    }
    let Some(PortOf::Control(control)) = PortOf::from_payload(received.payload) else {
        return None;
    };
    let supply = MemoryObjectDataSupply::get(&received.words, &[]).ok()?;
    Some((control, supply))
}

/// A call that makes a copy, or uses one up.
#[derive(Debug)]
pub(crate) enum Copying {
    In(VmCopyin),
    /// With the payload of the copy's port, and whether no right to it is left.
    Out(VmCopyout, u64, bool),
}

/// What a call about a copy says: its map, what is asked, and whom to answer.
#[inline(always)]
pub(crate) fn common_copy(received: &Received) -> Option<(MapId, Copying, Token)> {
    let id = received.info.id();
    if received.outcome.code() != 0 || id != VmCopyin::ID && id != VmCopyout::ID {
        return None;
    }
    let Some(PortOf::Map(map)) = PortOf::from_payload(received.payload) else {
        return None;
    };
    let copying = if received.info == Info::short(VmCopyin::ID) {
        Copying::In(VmCopyin::get(&received.words, &[]).ok()?)
    } else if Some(received.info) == Info::new(VmCopyout::ID, 0, 1) {
        let (payload, last) = match buffer::right(VmCopyout::COPY) {
            (payload, ArrivedKind::Own) => (payload, false),
            (payload, ArrivedKind::OwnLast) => (payload, true),
            _ => return None,
        };
        Copying::Out(VmCopyout::get(&received.words, &[]).ok()?, payload, last)
    } else {
        return None;
    };
    Some((map, copying, token(received)?))
}

fn from_kernel(received: &Received, port: Option<PortOf>) -> Arrived {
    let [first, ..] = received.words;
    let event = match (received.info.id(), port, token(received)) {
        (FAULT, Some(PortOf::Map(map)), Some(token)) => {
            let Fault {
                address, access, ..
            } = Fault::from_words(received.words);
            Event::Fault(vm_core::event::Fault {
                map,
                address,
                access,
                token,
            })
        }
        (notify::DEAD_NAME, ..) => Event::DeadName(RightId(first as Name)),
        (notify::NO_SENDERS, Some(port), _) => Event::NoSenders {
            port,
            made: first as u32,
        },
        (notify::SEND_POSSIBLE, ..) => Event::Possible(RightId(first as Name)),
        (notify::CANCELLED, ..) => match core::num::NonZeroU64::new(first) {
            Some(token) => Event::Cancelled(Token(token)),
            None => return Arrived::Nothing,
        },
        (notify::TASK_ENDED, Some(PortOf::Map(map)), _) => Event::TaskEnded(map),
        (notify::TASK_SUSPENDED, Some(PortOf::Map(map)), _) => Event::TaskSuspended(map),
        (notify::OWNER_ENDED, ..) => return Arrived::OwnerEnded,
        (notify::KERNEL_MEMORY_LOW, ..) => Event::KernelShort(first as u32),
        (_, _, Some(token)) => return Arrived::Refused(Some(token), Kern::MigBadId),
        _ => return Arrived::Nothing,
    };
    Arrived::Event(event)
}

fn decode(received: &Received, port: PortOf) -> Result<Call, Kern> {
    let body = Body::borrow();
    let message = Raw {
        payload: received.payload,
        id: received.info.id(),
        words: &received.words,
        body: body.get(..received.info.body()).unwrap_or_default(),
        rights: received.info.rights(),
    };
    Call::decode(port, &message)
}

/// Gives back the rights of a message that nobody handles.
fn give_back(rights: &Rights) {
    for right in rights {
        if let PortRef::Foreign(RightId(name)) | PortRef::Dead(RightId(name)) = right {
            let _ = trap::port_deallocate(*name, 1);
        }
    }
}
