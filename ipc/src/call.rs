//! What a stub does: encode, trap, decode.
//!
//! [`SendRight::call`] sends a request and waits for its answer, [`SendRight::send`] sends it one way. A
//! message whose payload travels in words and that carries no right does not touch the buffer.
//! Deadlines are nanoseconds since boot, see [`crate::time`].

use crate::buffer::{self, Body};
use crate::right::{Passed, Rights, SendRight};
use crate::trap::{self, Received};
use core::mem;
use ipc_abi::Kern;
use ipc_abi::buffer::RIGHTS_MAX;
use ipc_abi::message::{FOREVER, Info, option};
use ipc_abi::right::{Disposition, Name};
use ipc_protocol::Message;
use ipc_protocol::codec::Words;
use ipc_protocol::define::{Form, get_reply};

/// Writes a request into words and buffer.
#[inline(always)]
pub(crate) fn compose<M: Message>(
    message: &M,
    rights: &[Passed<'_>],
    words: &mut Words,
) -> Result<Info, Kern> {
    let length = match M::FORM {
        Form::Words => message.put(words, &mut [])?,
        Form::Body => message.put(words, Body::borrow().as_mut_slice())?,
    };
    if M::RIGHTS.is_empty() && rights.is_empty() && length == 0 {
        return Ok(Info::short(M::ID));
    }
    // A message has all its slots, the empty ones included.
    let slots = M::RIGHTS.len().max(rights.len());
    for (slot, right) in rights.iter().enumerate().take(RIGHTS_MAX) {
        right.put(slot);
    }
    for slot in rights.len()..slots.min(RIGHTS_MAX) {
        buffer::set_right(slot, 0, Disposition::None);
    }
    Info::new(M::ID, length, slots).ok_or(Kern::MigBadArguments)
}

/// Reads the answer to a request.
#[inline(always)]
fn understand<M: Message>(received: &Received, carried: usize) -> Result<M::Reply, Kern> {
    match received.info.body() {
        0 => get_reply::<M>(&received.words, &[], carried),
        length => {
            let body = Body::borrow();
            let bytes = body.get(..length).unwrap_or_default();
            get_reply::<M>(&received.words, bytes, carried)
        }
    }
}

/// Reads an answer that uses the buffer although nobody asked for rights, which are given back.
#[inline(never)]
fn understand_slowly<M: Message>(received: Received) -> Result<M::Reply, Kern> {
    let carried = received.info.rights();
    let rights = Rights::from_buffer(carried);
    let reply = understand::<M>(&received, carried);
    drop(rights);
    reply
}

/// The result of a trap: the error is read out of line.
#[inline(always)]
fn check(received: &Received) -> Result<(), Kern> {
    #[cold]
    fn failed(code: u32) -> Kern {
        Kern::from_raw(code)
    }
    match received.outcome.code() {
        0 => Ok(()),
        code => Err(failed(code)),
    }
}

/// Sends a composed request and waits for the answer.
#[inline(always)]
fn call(to: Name, info: Info, words: Words, deadline: u64) -> Received {
    trap::exchange(&trap::Send {
        options: option::CALL,
        destination: to.into(),
        receive: 0,
        info,
        send_deadline: deadline,
        receive_deadline: deadline,
        notify: 0,
        words,
    })
}

/// The answer to a message that was sent without its type. Its body is in the IPC buffer.
#[derive(Debug)]
pub struct RawReply {
    /// Message id.
    pub id: u32,
    /// The words; an answer's first is its code.
    pub words: Words,
    /// Bytes of body.
    pub length: usize,
    /// Its rights.
    pub rights: Rights,
}

impl<P> SendRight<P> {
    /// Calls with any id, words, body and rights at all: for those who test what a server does with
    /// what no stub would send.
    ///
    /// # Errors
    /// What the trap failed with; KERN_INVALID_ARGUMENT: too much for a message.
    pub fn call_raw<const N: usize>(
        &self,
        id: u32,
        words: Words,
        body: &[u8],
        rights: [Passed<'_>; N],
        deadline: u64,
    ) -> Result<RawReply, Kern> {
        let info = Info::new(id, body.len(), rights.len()).ok_or(Kern::InvalidArgument)?;
        if let Some(place) = Body::borrow().get_mut(..body.len()) {
            place.copy_from_slice(body);
        }
        for (slot, right) in rights.iter().enumerate() {
            right.put(slot);
        }
        let received = call(self.name(), info, words, deadline);
        let result = check(&received);
        if result.is_ok() || received.outcome.was_sent() {
            mem::forget(rights);
        }
        result?;
        Ok(RawReply {
            id: received.info.id(),
            words: received.words,
            length: received.info.body(),
            rights: Rights::from_buffer(received.info.rights()),
        })
    }

    /// Asks and waits for the answer, however long it takes. Optional rights are left empty.
    ///
    /// # Errors
    /// What the request's text says; MACH_SEND_INVALID_DEST: the port is dead;
    /// MACH_RCV_PORT_DIED: it died before it answered.
    #[inline]
    pub fn call<M: Message<On = P>>(&self, message: &M) -> Result<M::Reply, Kern> {
        let mut words = Words::default();
        let info = compose(message, &[], &mut words)?;
        let received = call(self.name(), info, words, FOREVER);
        check(&received)?;
        if received.info.body() == 0 && received.info.rights() == 0 {
            get_reply::<M>(&received.words, &[], 0)
        } else {
            understand_slowly::<M>(received)
        }
    }

    /// Asks with rights and waits for the answer and its rights until `deadline`.
    ///
    /// # Errors
    /// As [`SendRight::call`]; MACH_SEND_TIMED_OUT, MACH_RCV_TIMED_OUT: the deadline has passed. The
    /// rights are moved if the request was sent, else given back.
    pub fn call_with<M: Message<On = P>, const N: usize>(
        &self,
        message: &M,
        rights: [Passed<'_>; N],
        deadline: u64,
    ) -> Result<(M::Reply, Rights), Kern> {
        let mut words = Words::default();
        let info = compose(message, &rights, &mut words)?;
        let received = call(self.name(), info, words, deadline);
        let result = check(&received);
        if result.is_ok() || received.outcome.was_sent() {
            mem::forget(rights);
        }
        result?;
        let carried = received.info.rights();
        let arrived = Rights::from_buffer(carried);
        Ok((understand::<M>(&received, carried)?, arrived))
    }

    /// Sends one way, and waits while the queue is full.
    ///
    /// # Errors
    /// MACH_SEND_INVALID_DEST: the port is dead. MACH_SEND_NO_BUFFER.
    #[inline]
    pub fn send<M: Message<On = P>>(&self, message: &M) -> Result<(), Kern> {
        self.send_with(message, [], FOREVER)
    }

    /// Sends one way with rights; waits while the queue is full until `deadline`.
    ///
    /// # Errors
    /// As [`SendRight::send`]; MACH_SEND_TIMED_OUT: the queue is still full. On failure nothing has
    /// happened and the rights are given back.
    #[inline]
    pub fn send_with<M: Message<On = P>, const N: usize>(
        &self,
        message: &M,
        rights: [Passed<'_>; N],
        deadline: u64,
    ) -> Result<(), Kern> {
        let mut words = Words::default();
        let info = compose(message, &rights, &mut words)?;
        let received = trap::exchange(&trap::Send {
            options: option::SEND,
            destination: self.name().into(),
            receive: 0,
            info,
            send_deadline: deadline,
            receive_deadline: FOREVER,
            notify: 0,
            words,
        });
        check(&received)?;
        mem::forget(rights);
        Ok(())
    }
}
