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
use ipc_abi::message::{FOREVER, Info, WORDS, option};
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

/// Rights that go with an answer, by slot. Those that move are given back if it is never sent.
#[derive(Debug)]
pub struct Outgoing {
    count: usize,
    slots: [(Name, Disposition); RIGHTS_MAX],
}

impl Default for Outgoing {
    #[inline]
    fn default() -> Outgoing {
        Outgoing::NONE
    }
}

impl<const N: usize> From<[Passed<'static>; N]> for Outgoing {
    fn from(rights: [Passed<'static>; N]) -> Outgoing {
        let mut outgoing = Outgoing {
            count: N.min(RIGHTS_MAX),
            ..Outgoing::NONE
        };
        for (slot, right) in outgoing.slots.iter_mut().zip(rights) {
            *slot = right.into_parts();
        }
        outgoing
    }
}

impl Outgoing {
    /// No rights.
    pub const NONE: Outgoing = Outgoing {
        count: 0,
        slots: [(0, Disposition::None); RIGHTS_MAX],
    };

    /// Writes the rights into the first `count` slots of the message.
    fn put(&self, count: usize) {
        for (slot, (name, disposition)) in self.slots.iter().enumerate().take(count) {
            buffer::set_right(slot, *name, *disposition);
        }
    }

    /// The rights were sent: there is nothing to give back.
    fn sent(&mut self) {
        self.count = 0;
    }
}

impl Drop for Outgoing {
    #[inline]
    fn drop(&mut self) {
        for (name, disposition) in self.slots.iter().take(self.count) {
            drop(Passed::from_name(*name, *disposition));
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

    fn try_reply<R: AnyReply>(&self, reply: &R, mut rights: Outgoing) -> Result<(), Kern> {
        let mut words = Words::default();
        let info = compose(self.id, reply, &rights, &mut words)?;
        answer(self.token, info, words)?;
        rights.sent();
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
    let received = trap::exchange(&trap::Send {
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
        if self.caller.is_some() || self.last.is_some() {
            return to.send(message);
        }
        match Last::new(to, message) {
            Some(last) => self.last = Some(last),
            None => return to.send(message),
        }
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
    /// A device interrupted; see [`crate::interrupt`].
    Interrupt {
        /// How often since the last message.
        count: u64,
    },
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
            notify::INTERRUPT => Notice::Interrupt { count: first },
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

    /// Handles a message of words that came one way, if this server answers it one way, and gives the answer:
    /// it is sent in the trap that takes the next message, so nobody hears of a failure. Any other is left
    /// to [`Server::request`].
    #[inline(always)]
    fn one_way(&mut self, payload: u64, id: u32, words: &Words) -> Option<Last> {
        let _ = (payload, id, words);
        None
    }

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

/// A one-way message in words that waits for the next turn. The right that it is sent with must live on until
/// then.
#[derive(Debug)]
pub struct Last {
    to: Name,
    info: Info,
    words: Words,
}

impl Last {
    /// `None`: the message is more than words.
    #[inline(always)]
    pub fn new<P, M: Message<On = P>>(to: &SendRight<P>, message: &M) -> Option<Last> {
        if M::FORM != Form::Words || !M::RIGHTS.is_empty() {
            return None;
        }
        let mut words = Words::default();
        message.put(&mut words, &mut []).ok()?;
        Some(Last {
            to: to.name(),
            info: Info::short(M::ID),
            words,
        })
    }
}

/// The next trap: what it sends before it receives, and who hears if that fails.
struct Turn {
    send: trap::Send,
    caller: Option<Caller>,
    rights: Outgoing,
}

/// Serves until [`Server::is_done`].
///
/// # Errors
/// What receiving failed with: MACH_RCV_INVALID_NAME, MACH_RCV_PORT_DIED.
pub fn serve<S: Server>(server: &mut S, source: &impl Source) -> Result<(), Kern> {
    let name = source.source_name();
    let mut turn = Turn {
        send: receive_only(name, server.deadline()),
        caller: None,
        rights: Outgoing::NONE,
    };
    loop {
        let received = turn.take();
        let done = match received.outcome.code() {
            0 => match one_way(server, &received) {
                Some(last) => turn.answer_one_way(server, last),
                None => handle(server, &received, &mut turn),
            },
            code => {
                match Kern::from_raw(code) {
                    Kern::ReceiveTimedOut => server.tick(),
                    // The port moved between sets, or somebody aborted the thread: go on.
                    Kern::ReceivePortChanged | Kern::ReceiveInterrupted => {}
                    // What came does not fit: it stays queued, and rights given back make room.
                    Kern::ReceiveNoSpace => trap::thread_yield(),
                    code => return Err(code),
                }
                turn.send.receive_deadline = server.deadline();
                server.is_done()
            }
        };
        if done {
            return Ok(());
        }
    }
}

/// The trap that only receives.
const fn receive_only(receive: Name, receive_deadline: u64) -> trap::Send {
    trap::Send {
        options: option::RECEIVE,
        destination: 0,
        receive,
        info: Info::short(0),
        send_deadline: FOREVER,
        receive_deadline,
        notify: 0,
        words: [0; WORDS],
    }
}

impl Turn {
    /// Makes the trap, and leaves one that only receives. If the sending half failed, nothing has
    /// happened and nothing was received: then it receives alone.
    #[inline(always)]
    fn take(&mut self) -> Received {
        let received = trap::exchange(&self.send);
        if self.send.options != option::RECEIVE && !self.settle(&received) {
            return trap::exchange(&self.send);
        }
        received
    }

    /// Says something before it receives, to nobody who waits.
    #[inline(always)]
    fn say(&mut self, Last { to, info, words }: Last) {
        self.send.options = option::SEND | option::RECEIVE;
        self.send.destination = to.into();
        self.send.info = info;
        self.send.words = words;
    }

    /// What follows [`Server::one_way`]. Says whether the server is done.
    #[inline(always)]
    fn answer_one_way<S: Server>(&mut self, server: &S, last: Last) -> bool {
        self.say(last);
        self.send.receive_deadline = server.deadline();
        let done = server.is_done();
        if done {
            self.finish();
        }
        done
    }

    /// Sends without receiving.
    fn finish(&mut self) {
        self.send.options &= !option::RECEIVE;
        if self.send.options != 0 {
            let received = trap::exchange(&self.send);
            self.settle(&received);
        }
    }

    /// Looks whether the sending half was done. If not, its caller is refused, or has gone.
    #[inline(always)]
    fn settle(&mut self, received: &Received) -> bool {
        self.send.options = option::RECEIVE;
        self.send.destination = 0;
        let code = received.outcome.code();
        if code == 0 || received.outcome.was_sent() {
            mem::forget(self.caller.take());
            self.rights.sent();
            return true;
        }
        match self.caller.take() {
            Some(caller) if code == Kern::SendInvalidReply.raw() => mem::forget(caller),
            Some(caller) => caller.refuse(Kern::from_raw(code)),
            None => {}
        }
        self.rights = Outgoing::NONE;
        false
    }
}

/// Has a message handled that is of words alone and came one way, if it is answered so.
#[inline(always)]
fn one_way<S: Server>(server: &mut S, received: &Received) -> Option<Last> {
    let id = received.info.id();
    if received.token != 0 || received.info != Info::short(id) {
        return None;
    }
    server.one_way(received.payload, id, &received.words)
}

/// Decodes a message, has it handled, and prepares the next turn. The answer is composed last,
/// so that nothing that the server does can disturb the buffer. Says whether the server is done: then
/// its answer has been sent.
#[inline(always)]
fn handle<S: Server>(server: &mut S, received: &Received, turn: &mut Turn) -> bool {
    let id = received.info.id();
    let carried = received.info.rights();
    let mut context = Context {
        payload: received.payload,
        rights: Rights::NONE,
        // Made only if there is one: a caller that is dropped is answered.
        caller: (received.token != 0).then(|| Caller {
            token: received.token,
            id: reply_id(id),
        }),
        last: None,
    };
    if carried != 0 {
        context.rights.fill(carried);
    }
    let answer = if received.info.is_kernel() {
        match server.notice(Notice::new(id, received.words), &mut context) {
            Ok(()) => Said::Yes,
            Err(code) => Said::No(code),
        }
    } else {
        match decode(received) {
            Err(code) => Said::No(code),
            Ok(request) => match server.request(request, &mut context) {
                Answer::Reply(reply) => Said::Reply(reply),
                Answer::With(reply, rights) => {
                    turn.rights = rights;
                    Said::Reply(reply)
                }
                Answer::Refuse(code) => Said::No(code),
                Answer::Later => Said::No(Kern::Aborted),
            },
        }
    };
    let (caller, last) = (context.caller.take(), context.last.take());
    context.rights.give_back();
    turn.send.receive_deadline = server.deadline();
    let done = server.is_done();
    match (caller, last) {
        (Some(caller), _) => {
            turn.send.options = option::REPLY | option::RECEIVE;
            turn.send.destination = caller.token;
            turn.send.info = answer.compose(caller.id, &turn.rights, &mut turn.send.words);
            turn.caller = Some(caller);
        }
        (None, Some(last)) => turn.say(last),
        (None, None) => turn.rights = Outgoing::default(),
    }
    if done {
        turn.finish();
    }
    done
}

/// What becomes of a request.
enum Said<R> {
    Reply(R),
    Yes,
    No(Kern),
}

impl<R: AnyReply> Said<R> {
    /// Writes the answer into words and buffer. One that does not fit becomes a refusal.
    #[inline(always)]
    fn compose(&self, id: u32, rights: &Outgoing, words: &mut Words) -> Info {
        let code = match self {
            Said::Reply(reply) => match compose(id, reply, rights, words) {
                Ok(info) => return info,
                Err(code) => code.raw(),
            },
            Said::Yes => 0,
            Said::No(code) => code.raw(),
        };
        *words = [code.into(), 0, 0, 0, 0, 0];
        Info::short(id)
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
