//! Requests: which protocol, on which record. One file a protocol; each routine checks, then commits.

mod advice;
mod behavior;
mod control;
mod decode;
mod device;
mod entry;
mod inspect;
mod map_object;
pub(crate) mod msync;
pub(crate) mod page_query;
mod proxy;
pub(crate) mod purgeable;
pub mod quick;
mod range;
mod reclaim;
mod region;
mod share;
mod task_info;
pub(crate) mod vm_copy;
pub(crate) mod vm_map;
pub(crate) mod wire;

use ipc_abi::Kern;
use ipc_protocol::{copy, memory_entry, memory_object_control, vm_map as map};

use crate::effect::Effect;
use crate::event::{ControlId, MapId, PortRef, ReplyTo, Rights};
use crate::id::Id;
use crate::machine::Machine;
use crate::{Core, Turn};

/// A request, decoded, with the record behind the port that it came through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    /// On a map port.
    Map(MapId, map::Request),
    /// On a map's read-only port.
    MapRead(MapId, map::Request),
    /// On a named entry's port.
    Entry(Id<crate::named_entry::NamedEntry>, memory_entry::Request),
    /// On a copy's port.
    Copy(Id<crate::copy::Copy>, copy::Request),
    /// On a control port.
    Control(ControlId, memory_object_control::Request),
}

/// A successful answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message {
    /// To a call on a map port.
    Map(map::Reply),
    /// To a call on a named entry's port.
    Entry(memory_entry::Reply),
    /// To a call on a copy's port.
    Copy(copy::Reply),
    /// To a call on a control port.
    Control(memory_object_control::Reply),
}

/// A successful answer and the right that goes with it.
///
/// The answer to `task_create` has its MAP right here; the shell adds TASK.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reply {
    /// What it says.
    pub message: Message,
    /// The record whose port it carries a send right to.
    pub right: Option<crate::event::PortOf>,
}

impl Reply {
    /// An answer without a right, to a call on a map port.
    #[must_use]
    pub const fn map(reply: map::Reply) -> Reply {
        Reply {
            message: Message::Map(reply),
            right: None,
        }
    }

    /// Slots for rights that the answer has, whether they are empty or not.
    #[must_use]
    pub fn slots(&self) -> usize {
        use ipc_protocol::define::AnyReply;
        match &self.message {
            Message::Map(reply) => reply.rights(),
            Message::Entry(reply) => reply.rights(),
            Message::Copy(reply) => reply.rights(),
            Message::Control(reply) => reply.rights(),
        }
    }

    /// An answer without a right, to a call on a control port.
    #[must_use]
    pub const fn control(reply: memory_object_control::Reply) -> Reply {
        Reply {
            message: Message::Control(reply),
            right: None,
        }
    }
}

/// A call that waits to be handled from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Deferred {
    /// What is asked.
    pub call: Call,
    /// The rights that it carries.
    pub rights: Rights,
}

impl Core {
    /// Handles a call and answers it, unless that comes later.
    pub(crate) fn call<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: Call,
        rights: Rights,
        reply: ReplyTo,
    ) {
        let plain = |message: Message| Reply {
            message,
            right: None,
        };
        let answer = match call {
            Call::MapRead(_, request) if !vm_map::only_reads(&request) => {
                self.release_rights(turn, &rights);
                // As through a port that is no map's.
                Some(Err(match request {
                    map::Request::VmMsync(_) => Kern::InvalidTask,
                    _ => Kern::InvalidArgument,
                }))
            }
            Call::Map(map, request) | Call::MapRead(map, request) => {
                let call = vm_map::MapCall {
                    map,
                    request,
                    rights,
                    reply,
                };
                self.caller = Some(map);
                let answer = self.call_map(turn, call);
                self.caller = None;
                answer
            }
            Call::Control(control, request) => {
                self.call_control(turn, (control, request), rights, reply)
            }
            Call::Entry(entry, request) => {
                self.release_rights(turn, &rights);
                match request {
                    memory_entry::Request::MachMemoryEntryPurgableControl(args) => {
                        let of = self.named.get(entry).map(|entry| entry.map);
                        self.call_lent(of, |core| match core.op_allowed() {
                            Ok(()) => core.entry_purgable_control(turn, (entry, args), reply),
                            Err(code) => Some(Err(code)),
                        })
                    }
                    request => {
                        let said = self.call_entry(entry, request);
                        Some(said.map(|said| plain(Message::Entry(said))))
                    }
                }
            }
            Call::Copy(copy, request) => {
                self.release_rights(turn, &rights);
                match request {
                    copy::Request::CopySettle(args) => {
                        let of = self.copies.get(copy).map(|copy| copy.map);
                        self.call_lent(of, |core| core.copy_settle(turn, copy, args, reply))
                    }
                    request => {
                        let said = self.call_copy(copy, request);
                        Some(said.map(|said| plain(Message::Copy(said))))
                    }
                }
            }
        };
        if let Some(answer) = answer {
            self.answer(turn, reply, answer);
        }
    }

    /// Handles a call on the port of a copy or a memory entry, which a hidden map holds: whoever made
    /// that pays for it, with the part of his that others may use.
    fn call_lent<R>(&mut self, of: Option<MapId>, handle: impl FnOnce(&mut Core) -> R) -> R {
        self.caller = of.and_then(|map| self.pays_for(map));
        self.lent = true;
        let answer = handle(self);
        self.caller = None;
        self.lent = false;
        answer
    }

    /// Answers a call. If nobody is to be answered, what the answer would have named goes again.
    pub(crate) fn answer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        to: ReplyTo,
        answer: crate::effect::Answer,
    ) {
        if to.is_some() {
            turn.effects.push(Effect::Reply { to, answer });
        } else if let Ok(Reply {
            right: Some(port), ..
        }) = answer
        {
            self.no_senders(turn, port, u32::MAX);
        }
    }

    /// Gives back the rights of a message that nothing was done with.
    pub(crate) fn release_rights<M: Machine>(&mut self, turn: &mut Turn<'_, M>, rights: &Rights) {
        for right in rights {
            self.release_right(turn, *right);
        }
    }

    /// Gives back a right.
    pub(crate) fn release_right<M: Machine>(&self, turn: &mut Turn<'_, M>, right: PortRef) {
        match right {
            PortRef::Foreign(id) | PortRef::Dead(id) => turn.effects.push(Effect::Release(id, 1)),
            PortRef::None | PortRef::Own(_) => {}
        }
    }
}
