//! The serve loop: a server is a value that implements [`Server`]; the loop is here.
//!
//! Each turn of the loop is one trap, which sends the answer to the last request and takes the next
//! message. A handler gets decoded values, never bytes of the buffer, so it may call others. It
//! answers *now* ([`Answer::Reply`], [`Answer::With`], [`Answer::Refuse`]), or keeps the [`Caller`]
//! and answers *later*. A caller that is dropped unanswered is refused with KERN_ABORTED: nobody is
//! left waiting by mistake.
//!
//! A request that no protocol of the server knows, or that is malformed, never reaches the handler:
//! the loop refuses it with the MIG code.

use crate::buffer::{self, Body};
use crate::right::{DeadName, Passed, Rights, SendRight, Source};
use crate::trap::{self, Received};
use core::mem;
use ipc_abi::buffer::{BODY_SIZE, RIGHTS_MAX};
use ipc_abi::exception::{EXCEPTION, Exception};
use ipc_abi::message::{FOREVER, Info, option};
use ipc_abi::notify;
use ipc_abi::right::{Disposition, Name};
use ipc_abi::{Kern, kern_return};
use ipc_protocol::Message;
use ipc_protocol::codec::Words;
use ipc_protocol::define::{AnyReply, AnyRequest, Form, Raw};
use ipc_protocol::reply_id;

/// What a handler says to a request.
#[derive(Debug)]
pub enum Answer<R> {
    /// Yes, with this.
    Reply(R),
    /// Yes, with this and rights.
    With(R, Outgoing),
    /// No, for this reason.
    Refuse(Kern),
    /// Not yet: the handler has taken the caller from its [`Context`].
    Later,
}

impl<R> Answer<R> {
    /// Yes, with this and rights.
    #[must_use]
    pub fn with<const N: usize>(reply: R, rights: [Passed<'static>; N]) -> Answer<R> {
        Answer::With(reply, rights.into())
    }
}

/// A failed call is refused with its code.
impl<R> From<Result<R, Kern>> for Answer<R> {
    fn from(result: Result<R, Kern>) -> Answer<R> {
        match result {
            Ok(reply) => Answer::Reply(reply),
            Err(code) => Answer::Refuse(code),
        }
    }
}

/// Rights that go with an answer, by slot.
#[derive(Debug, Default)]
pub struct Outgoing {
    slots: [Option<Passed<'static>>; RIGHTS_MAX],
}

impl<const N: usize> From<[Passed<'static>; N]> for Outgoing {
    fn from(rights: [Passed<'static>; N]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for (slot, right) in outgoing.slots.iter_mut().zip(rights) {
            *slot = Some(right);
        }
        outgoing
    }
}

impl Outgoing {
    /// Writes the rights into the first `count` slots of the message.
    fn put(&self, count: usize) {
        for (slot, right) in self.slots.iter().enumerate().take(count) {
            match right {
                Some(right) => right.put(slot),
                None => buffer::set_right(slot, 0, Disposition::None),
            }
        }
    }
}

/// Somebody who waits for an answer. Dropped, they are refused with KERN_ABORTED.
#[derive(Debug)]
pub struct Caller {
    token: u64,
    id: u32,
}

impl Caller {
    /// The kernel's number of the call, by which a *cancelled* notice names it.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Answers.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: the answer does not fit a message, or a right in it cannot be sent: the
    /// caller is refused with that. MACH_SEND_INVALID_REPLY: the caller has gone.
    pub fn reply<R: AnyReply>(self, reply: &R, rights: Outgoing) -> Result<(), Kern> {
        let sent = self.try_reply(reply, rights);
        match sent {
            Ok(()) | Err(Kern::SendInvalidReply) => mem::forget(self),
            Err(code) => self.refuse(code),
        }
        sent
    }

    fn try_reply<R: AnyReply>(&self, reply: &R, rights: Outgoing) -> Result<(), Kern> {
        let mut words = Words::default();
        let info = compose(self.id, reply, &rights, &mut words)?;
        answer(self.token, info, words)?;
        mem::forget(rights);
        Ok(())
    }

    /// Refuses.
    pub fn refuse(self, code: Kern) {
        // Fails only if the caller has gone.
        let _ = answer(self.token, Info::short(self.id), refusal(code));
        mem::forget(self);
    }

    /// Answers with success and nothing else: what a kernel message wants to hear.
    pub fn resume(self) {
        let _ = answer(self.token, Info::short(self.id), Words::default());
        mem::forget(self);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = answer(self.token, Info::short(self.id), refusal(Kern::Aborted));
    }
}

/// Writes an answer into words and buffer.
fn compose<R: AnyReply>(
    id: u32,
    reply: &R,
    rights: &Outgoing,
    words: &mut Words,
) -> Result<Info, Kern> {
    let length = reply.encode(words, Body::borrow().as_mut_slice())?;
    let slots = reply.rights();
    rights.put(slots);
    Info::new(id, length, slots).ok_or(Kern::MigBadArguments)
}

/// Sends an answer without waiting for anything.
fn answer(token: u64, info: Info, words: Words) -> Result<(), Kern> {
    let received = exchange(&trap::Send {
        options: option::REPLY,
        destination: token,
        receive: 0,
        info,
        send_deadline: FOREVER,
        receive_deadline: FOREVER,
        notify: 0,
        words,
    });
    kern_return::from_raw(received.outcome.code())
}

#[inline(always)]
fn exchange(send: &trap::Send) -> Received {
    assert!(
        !buffer::is_lent(),
        "a message while the IPC buffer is borrowed"
    );
    // SAFETY: the body is not borrowed.
    unsafe { trap::msg(send) }
}

/// What came with a request besides its fields.
#[derive(Debug)]
pub struct Context {
    /// Payload of the port that the request came through.
    pub payload: u64,
    /// Its rights.
    pub rights: Rights,
    caller: Option<Caller>,
    last: Option<Last>,
}

impl Context {
    /// Sends a message one way, as [`SendRight::send`] does, if possible in the same trap that takes
    /// the next message: so a pager hands over data and waits again. Then nobody hears of a
    /// failure, which means that the receiver has gone. The right must live on until the handler
    /// has returned.
    ///
    /// # Errors
    /// Those of [`SendRight::send`], if the message was sent at once.
    pub fn send_last<P, M: Message<On = P>>(
        &mut self,
        to: &SendRight<P>,
        message: &M,
    ) -> Result<(), Kern> {
        let fits = M::FORM == Form::Words && M::RIGHTS.is_empty();
        if !fits || self.caller.is_some() || self.last.is_some() {
            return to.send(message);
        }
        let mut words = Words::default();
        message.put(&mut words, &mut [])?;
        self.last = Some(Last {
            to: to.name(),
            info: Info::short(M::ID),
            words,
        });
        Ok(())
    }

    /// Takes the caller, to answer it later. `None`: the request came one way, or has been taken.
    pub fn take_caller(&mut self) -> Option<Caller> {
        self.caller.take()
    }

    /// Whether somebody waits for an answer.
    #[must_use]
    pub const fn is_call(&self) -> bool {
        self.caller.is_some()
    }
}

/// A message from the kernel itself.
#[derive(Debug)]
pub enum Notice {
    /// The port of this name has died.
    DeadName {
        /// The dead name, with a reference of this message's own.
        name: DeadName,
        /// For a task's control port: how the task ended, the word of an `ExitStatus`.
        status: u64,
    },
    /// Nobody holds a send right to the port any more.
    NoSenders {
        /// Send rights that had been made by then.
        make_send_count: u64,
    },
    /// The port of this name, whose queue was full, has room.
    SendPossible(Name),
    /// The call with this token needs no answer any more.
    Cancelled(u64),
    /// A receive right came back: in slot 0.
    PortDestroyed,
    /// A thread had an exception. Success resumes it; a refusal hands the exception on.
    Exception(Exception),
    /// Anything else, by id and words.
    Other(u32, Words),
}

impl Notice {
    fn new(id: u32, words: Words) -> Notice {
        let [first, second, ..] = words;
        match id {
            notify::DEAD_NAME => Notice::DeadName {
                name: DeadName::from_name(first as Name),
                status: second,
            },
            notify::NO_SENDERS => Notice::NoSenders {
                make_send_count: first,
            },
            notify::SEND_POSSIBLE => Notice::SendPossible(first as Name),
            notify::CANCELLED => Notice::Cancelled(first),
            notify::PORT_DESTROYED => Notice::PortDestroyed,
            EXCEPTION => match Exception::from_words(words) {
                Some(exception) => Notice::Exception(exception),
                None => Notice::Other(id, words),
            },
            _ => Notice::Other(id, words),
        }
    }
}

/// A server: what it can be asked, and what it does then.
///
/// `Request` and `Reply` are those of a protocol, or enums over several that implement [`AnyRequest`]
/// (which can look at the port's payload) and [`AnyReply`].
pub trait Server {
    /// What it can be asked.
    type Request: AnyRequest;
    /// What it answers.
    type Reply: AnyReply;

    /// Handles a request.
    fn request(&mut self, request: Self::Request, context: &mut Context) -> Answer<Self::Reply>;

    /// Handles a message from the kernel.
    ///
    /// # Errors
    /// Only an exception is answered: an error hands it on, success resumes the thread.
    fn notice(&mut self, notice: Notice, context: &mut Context) -> Result<(), Kern> {
        let _ = (notice, context);
        Err(Kern::Failure)
    }

    /// When [`Server::tick`] is due, in nanoseconds since boot.
    fn deadline(&self) -> u64 {
        FOREVER
    }

    /// Called when the deadline has passed without a message.
    fn tick(&mut self) {}

    /// Whether to leave the loop: asked after each message.
    fn is_done(&self) -> bool {
        false
    }
}

/// An answer that waits for the next turn of the loop. It is composed just before the trap, so
/// that nothing the server does in between can disturb the buffer.
struct Pending<R> {
    caller: Caller,
    answer: Result<Option<R>, Kern>,
    rights: Outgoing,
}

/// A one-way message in words that waits for the next turn.
#[derive(Debug)]
struct Last {
    to: Name,
    info: Info,
    words: Words,
}

/// What the next turn does before it receives.
enum Next<R> {
    Nothing,
    Answer(Pending<R>),
    Send(Last),
}

/// Serves until [`Server::is_done`].
///
/// # Errors
/// What receiving failed with: MACH_RCV_INVALID_NAME, MACH_RCV_PORT_DIED.
pub fn serve<S: Server>(server: &mut S, source: &impl Source) -> Result<(), Kern> {
    let name = source.source_name();
    let mut next = Next::Nothing;
    loop {
        let received = turn(name, server.deadline(), next);
        next = Next::Nothing;
        match kern_return::from_raw(received.outcome.code()) {
            Ok(()) => next = handle(server, &received),
            Err(Kern::ReceiveTimedOut) => server.tick(),
            // The port moved between sets, or somebody aborted the thread: go on.
            Err(Kern::ReceivePortChanged | Kern::ReceiveInterrupted) => {}
            // What came does not fit: it stays queued, and rights given back make room.
            Err(Kern::ReceiveNoSpace) => trap::thread_yield(),
            Err(code) => return Err(code),
        }
        if server.is_done() {
            finish(next);
            return Ok(());
        }
    }
}

/// Answers or sends without receiving.
fn finish<R: AnyReply>(next: Next<R>) {
    match next {
        Next::Nothing => {}
        Next::Answer(Pending {
            caller,
            answer,
            rights,
        }) => match answer {
            Ok(Some(reply)) => drop(caller.reply(&reply, rights)),
            Ok(None) => caller.resume(),
            Err(code) => caller.refuse(code),
        },
        Next::Send(Last { to, info, words }) => {
            exchange(&trap::Send {
                options: option::SEND,
                destination: to.into(),
                receive: 0,
                info,
                send_deadline: FOREVER,
                receive_deadline: FOREVER,
                notify: 0,
                words,
            });
        }
    }
}

/// Answers or sends, and receives, in one trap.
#[inline(always)]
fn turn<R: AnyReply>(source: Name, deadline: u64, next: Next<R>) -> Received {
    let send = trap::Send {
        options: option::RECEIVE,
        destination: 0,
        receive: source,
        info: Info::short(0),
        send_deadline: FOREVER,
        receive_deadline: deadline,
        notify: 0,
        words: Words::default(),
    };
    match next {
        Next::Nothing => exchange(&send),
        Next::Answer(pending) => answer_and_receive(send, pending),
        Next::Send(Last { to, info, words }) => {
            let received = exchange(&trap::Send {
                options: option::SEND | option::RECEIVE,
                destination: to.into(),
                info,
                words,
                ..send
            });
            if received.outcome.code() == 0 || received.outcome.was_sent() {
                return received;
            }
            // The receiver has gone; nothing was received.
            exchange(&send)
        }
    }
}

/// Answers and receives, in one trap. If the answer cannot be sent, its caller is refused or has
/// gone, and only the receiving is done.
fn answer_and_receive<R: AnyReply>(mut send: trap::Send, pending: Pending<R>) -> Received {
    let Pending {
        caller,
        answer,
        rights,
    } = pending;
    let receive_only = send;
    let composed = match &answer {
        Ok(Some(reply)) => compose(caller.id, reply, &rights, &mut send.words),
        Ok(None) => Ok(Info::short(caller.id)),
        Err(code) => Err(*code),
    };
    send.info = composed.unwrap_or_else(|code| {
        send.words = refusal(code);
        Info::short(caller.id)
    });
    send.options |= option::REPLY;
    send.destination = caller.token;
    let received = exchange(&send);
    let code = received.outcome.code();
    if code == 0 || received.outcome.was_sent() {
        mem::forget(caller);
        if composed.is_ok() {
            mem::forget(rights);
        }
        return received;
    }
    // Nothing has happened, and nothing was received.
    if code == Kern::SendInvalidReply.raw() {
        mem::forget(caller);
    } else {
        caller.refuse(Kern::from_raw(code));
    }
    drop(rights);
    exchange(&receive_only)
}

/// Decodes a message and has it handled.
fn handle<S: Server>(server: &mut S, received: &Received) -> Next<S::Reply> {
    let id = received.info.id();
    let carried = received.info.rights();
    let mut context = Context {
        payload: received.payload,
        rights: if carried == 0 {
            Rights::NONE
        } else {
            Rights::from_buffer(carried)
        },
        caller: (received.token != 0).then_some(Caller {
            token: received.token,
            id: reply_id(id),
        }),
        last: None,
    };
    let none = Outgoing::default();
    let (answer, rights) = if received.info.is_kernel() {
        let result = server.notice(Notice::new(id, received.words), &mut context);
        (result.map(|()| None), none)
    } else {
        match decode(received) {
            Err(code) => (Err(code), none),
            Ok(request) => match server.request(request, &mut context) {
                Answer::Reply(reply) => (Ok(Some(reply)), none),
                Answer::With(reply, rights) => (Ok(Some(reply)), rights),
                Answer::Refuse(code) => (Err(code), none),
                Answer::Later => (Err(Kern::Aborted), none),
            },
        }
    };
    match (context.caller.take(), context.last.take()) {
        (Some(caller), _) => Next::Answer(Pending {
            caller,
            answer,
            rights,
        }),
        (None, Some(last)) => Next::Send(last),
        (None, None) => Next::Nothing,
    }
}

fn decode<R: AnyRequest>(received: &Received) -> Result<R, Kern> {
    let length = received.info.body();
    let body = (length != 0).then(Body::borrow);
    let bytes = body
        .as_ref()
        .and_then(|body| body.get(..length.min(BODY_SIZE)));
    R::decode(&Raw {
        payload: received.payload,
        id: received.info.id(),
        words: &received.words,
        body: bytes.unwrap_or_default(),
        rights: received.info.rights(),
    })
}

/// The words of an answer that is a code and nothing else.
const fn refusal(code: Kern) -> Words {
    [code.raw() as u64, 0, 0, 0, 0, 0]
}
