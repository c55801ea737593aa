//! What is said, in words and buffer: answers, and what pagers are asked at once. What is said last rides on
//! the next receive.

use ipc::buffer::{self, Body};
use ipc::trap::{self, Received, Send};
use ipc_abi::Kern;
use ipc_abi::fault::{self, FAULT_REPLY, FaultReply};
use ipc_abi::message::{Info, POLL, WORDS, option};
use ipc_abi::right::{Disposition, NULL, Name};
use ipc_abi::translation::Enter;
use ipc_protocol::codec::Payload;
use ipc_protocol::define::{Message as _, reply_id};
use ipc_protocol::memory_object::MemoryObjectDataRequest;
use ipc_protocol::vm_map;
use ipc_protocol::vm_wire::{Reply as Wired, VmGiveFramesReply};
use vm_core::call::{Message, Reply};
use vm_core::effect::{Answer, Beside, FaultResult};
use vm_core::event::{PortOf, ReplyTo, RightId, Token};
use vm_core::fault::ask::Asked;

use crate::serve::Server;

/// A message that is in words and buffer, and has only to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) to: To,
    pub(crate) info: Info,
    pub(crate) words: [u64; WORDS],
    /// What was made for the answer, and nobody has a right to if it cannot be sent.
    pub(crate) made: Option<Made>,
}

/// A record whose first right goes out with an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) port: PortOf,
    /// The control port of its task, if it is the map of one.
    pub(crate) task: Name,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// Who waits for an answer.
    Caller(Token),
    /// A memory object port, to which there is no more to say for now.
    Pager(RightId),
}

/// An answer to a common fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultAnswer {
    /// Whom.
    pub(crate) token: Token,
    /// What is entered, if it is not there already.
    pub(crate) enter: Option<Enter>,
    /// What is entered beside it; its words are in the buffer.
    pub(crate) beside: Option<fault::Beside>,
}

impl FaultAnswer {
    /// The words of the answer.
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; WORDS] {
        let reply = FaultReply {
            result: Ok(()),
            enter: self.enter,
            beside: self.beside,
        };
        reply.to_words()
    }
}

/// An answer to a common call: success, and a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallAnswer {
    /// Whom.
    pub(crate) token: Token,
    /// What was asked.
    pub(crate) id: u32,
    /// What the answer says besides.
    pub(crate) word: u64,
    /// The call may have left work to be done.
    pub(crate) leaves_work: bool,
}

impl CallAnswer {
    const fn info(&self) -> Info {
        Info::short(reply_id(self.id))
    }

    const fn words(&self) -> [u64; WORDS] {
        [0, self.word, 0, 0, 0, 0]
    }
}

/// Writes what goes beside an answer into the buffer.
#[inline(always)]
pub(crate) fn put_beside(beside: &Beside) -> Option<fault::Beside> {
    if beside.count == 0 {
        return None;
    }
    let mut body = Body::borrow();
    for (bytes, word) in body.chunks_exact_mut(4).zip(&beside.words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Some(fault::Beside {
        address: beside.address,
        count: beside.count,
    })
}

/// The words of a request.
#[inline(always)]
fn request_words(asked: &Asked) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    // It is a message of words, so it fits.
    let _ = asked.request.put(&mut words, &mut []);
    words
}

impl Pending {
    /// What is said to a pager at once, as any other message.
    #[cold]
    pub(crate) fn of_request(asked: &Asked) -> Pending {
        Pending {
            to: To::Pager(asked.port),
            info: Info::short(MemoryObjectDataRequest::ID),
            words: request_words(asked),
            made: None,
        }
    }

    /// An answer to a common call, as any other answer.
    #[cold]
    pub(crate) fn of_call(answer: &CallAnswer) -> Pending {
        Pending {
            to: To::Caller(answer.token),
            info: answer.info(),
            words: answer.words(),
            made: None,
        }
    }

    /// An answer to a common call that carries a right to a record that was made for it; the right is in
    /// the buffer.
    pub(crate) fn of_made(token: Token, id: u32, port: PortOf) -> Option<Pending> {
        Some(Pending {
            to: To::Caller(token),
            info: Info::new(reply_id(id), 0, 1)?,
            words: [0; WORDS],
            made: Some(Made { port, task: NULL }),
        })
    }

    /// Whether it can be sent later as well as now: it waits for nobody's order, and names nothing that
    /// may end until then.
    pub(crate) const fn may_wait(&self) -> bool {
        matches!(self.to, To::Caller(_)) && self.info.rights() == 0 && self.made.is_none()
    }

    /// An answer to a common fault, with what lies beside it, as any other answer: to be sent before the
    /// buffer is used.
    pub(crate) fn of_whole_fault(answer: &FaultAnswer) -> Pending {
        Pending {
            to: To::Caller(answer.token),
            info: Info::short(FAULT_REPLY),
            words: answer.words(),
            made: None,
        }
    }

    /// The same without what lies beside the page, which is left to faults of its own: the buffer may
    /// have been used.
    pub(crate) fn alone(mut self) -> Pending {
        if self.info == Info::short(FAULT_REPLY) {
            self.words = FaultReply {
                beside: None,
                ..FaultReply::from_words(self.words)
            }
            .to_words();
        }
        self
    }

    /// An answer to a common fault, as any other answer. What lies beside it is left to faults of its own:
    /// the buffer may be needed before it is sent.
    #[cold]
    pub(crate) fn of_fault(answer: &FaultAnswer) -> Pending {
        Pending::of_whole_fault(answer).alone()
    }

    /// An answer to a fault that is none of the common ones, or to an exception. `None`: nobody is to hear it.
    pub(crate) fn of_result(to: ReplyTo, result: FaultResult) -> Option<Pending> {
        let (result, enter) = match result {
            Ok(enter) => (Ok(()), enter),
            Err(code) => (Err(code), None),
        };
        let reply = FaultReply {
            result,
            enter,
            beside: None,
        };
        Some(Pending {
            to: To::Caller(to?),
            info: Info::short(FAULT_REPLY),
            words: reply.to_words(),
            made: None,
        })
    }
}

/// The words of an answer that is no more than a code.
pub(crate) fn refusal(code: Kern) -> [u64; WORDS] {
    [u64::from(code.raw()), 0, 0, 0, 0, 0]
}

/// Receives from `set` until `deadline`, after sending what is pending. `notices` hears when a full
/// queue has room again.
pub(crate) fn exchange(
    pending: Option<Pending>,
    set: Name,
    deadline: u64,
    notices: Name,
) -> Received {
    let mut send = Send {
        options: option::RECEIVE,
        destination: 0,
        receive: set,
        info: Info::short(0),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: [0; WORDS],
    };
    if let Some(message) = pending {
        match message.to {
            To::Caller(token) => {
                send.options |= option::REPLY;
                send.destination = token.0.get();
            }
            To::Pager(right) => {
                send.options |= option::SEND | option::NOTIFY;
                send.destination = u64::from(right.0);
                send.notify = notices;
            }
        }
        send.info = message.info;
        send.words = message.words;
    }
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// As [`exchange`], after what is said to a pager at once. Nobody hears when a full queue has room again.
#[inline(always)]
pub(crate) fn exchange_request(asked: &Asked, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::SEND | option::RECEIVE,
        destination: u64::from(asked.port.0),
        receive: set,
        info: Info::short(MemoryObjectDataRequest::ID),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: request_words(asked),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// As [`exchange`], after the answer to a common fault.
#[inline(always)]
pub(crate) fn exchange_answer(answer: &FaultAnswer, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::REPLY | option::RECEIVE,
        destination: answer.token.0.get(),
        receive: set,
        info: Info::short(FAULT_REPLY),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: answer.words(),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// As [`exchange`], after the answer to a common call.
#[inline(always)]
pub(crate) fn exchange_call(answer: &CallAnswer, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::REPLY | option::RECEIVE,
        destination: answer.token.0.get(),
        receive: set,
        info: answer.info(),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: answer.words(),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

impl Server {
    /// Words an answer of the core's; where that fails, its code.
    pub(crate) fn compose(&mut self, token: Token, answer: Answer) -> Pending {
        match answer.and_then(|reply| self.compose_reply(token, &reply)) {
            Ok(pending) => pending,
            Err(code) => Pending {
                to: To::Caller(token),
                info: Info::short(FAULT_REPLY),
                words: refusal(code),
                made: None,
            },
        }
    }

    fn compose_reply(&mut self, token: Token, reply: &Reply) -> Result<Pending, Kern> {
        let (rights, made) = self.put_rights(reply)?;
        let mut words = [0; WORDS];
        let mut body = Body::borrow();
        let (id, length) = match &reply.message {
            Message::Map(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Entry(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Copy(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Control(message) => (message.id(), message.encode(&mut words, &mut *body)?),
        };
        let info = Info::new(id, length, rights).ok_or(Kern::MigBadArguments)?;
        Ok(Pending {
            to: To::Caller(token),
            info,
            words,
            made,
        })
    }

    /// Puts the rights of an answer into the buffer; says how many, and to what.
    fn put_rights(&mut self, reply: &Reply) -> Result<(usize, Option<Made>), Kern> {
        let Some(port) = reply.right else {
            let slots = reply.slots();
            for slot in 0..slots {
                buffer::set_right(slot, NULL, Disposition::None);
            }
            return Ok((slots, None));
        };
        if let (Message::Map(vm_map::Reply::TaskCreate(_)), PortOf::Map(map)) =
            (&reply.message, port)
        {
            let (task, name) = self.create_task(map).inspect_err(|_| self.unmake(map))?;
            buffer::set_right(vm_map::TaskCreateReply::TASK, task, Disposition::MoveSend);
            buffer::set_right(vm_map::TaskCreateReply::MAP, name, Disposition::MakeSend);
            return Ok((2, Some(Made { port, task })));
        }
        if let (Message::Map(vm_map::Reply::Wire(Wired::VmGiveFrames(given))), PortOf::Map(map)) =
            (&reply.message, port)
        {
            let memory = self.give_frames(map, given.first, given.count)?;
            buffer::set_right(VmGiveFramesReply::MEMORY, memory, Disposition::CopySend);
            return Ok((1, None));
        }
        let made = Some(Made { port, task: NULL });
        let name = self
            .ports
            .get_or_make(port)
            .inspect_err(|_| self.undelivered(made))?;
        buffer::set_right(0, name, Disposition::MakeSend);
        Ok((1, made))
    }
}
