//! Messages as the kernel sees them: for tests of what typed stubs would not send.

use ipc::abi::kern_return;
use ipc::abi::message::{FOREVER, Info, WORDS, option};
use ipc::abi::right::{ArrivedKind, Disposition, Name};
use ipc::buffer::{self, Body};
use ipc::trap::{self, Received};
use ipc::{Kern, ReceiveRight, SendRight};

use crate::patience;

/// One `msg` trap, put together. Nothing waits longer than [`patience`] unless it is told to.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Msg(trap::Send);

impl Msg {
    /// A trap with these options and nothing else.
    pub fn new(options: u64) -> Msg {
        let patience = patience();
        Msg(trap::Send {
            options,
            destination: 0,
            receive: 0,
            info: Info::short(0),
            send_deadline: patience,
            receive_deadline: patience,
            notify: 0,
            words: [0; WORDS],
        })
    }

    /// Sends one way.
    pub fn send<P>(to: &SendRight<P>, id: u32) -> Msg {
        Msg::send_to(to.name(), id)
    }

    /// Sends one way, to a name.
    pub fn send_to(to: Name, id: u32) -> Msg {
        Msg::new(option::SEND).to(to.into()).info(Info::short(id))
    }

    /// Calls.
    pub fn call<P>(to: &SendRight<P>, id: u32) -> Msg {
        Msg::new(option::CALL)
            .to(to.name().into())
            .info(Info::short(id))
    }

    /// Answers.
    pub fn reply(token: u64) -> Msg {
        Msg::new(option::REPLY).to(token)
    }

    /// Receives.
    pub fn receive<P>(from: &ReceiveRight<P>) -> Msg {
        Msg::receive_from(from.name())
    }

    /// Receives from a port or set by its name.
    pub fn receive_from(from: Name) -> Msg {
        Msg::new(0).and_receive_from(from)
    }

    /// And receives.
    pub fn and_receive<P>(self, from: &ReceiveRight<P>) -> Msg {
        self.and_receive_from(from.name())
    }

    fn and_receive_from(mut self, from: Name) -> Msg {
        self.0.options |= option::RECEIVE;
        self.0.receive = from;
        self
    }

    /// To this name or token.
    pub const fn to(mut self, destination: u64) -> Msg {
        self.0.destination = destination;
        self
    }

    /// With this info word, whatever it says.
    pub const fn info(mut self, info: Info) -> Msg {
        self.0.info = info;
        self
    }

    /// With these words.
    pub const fn words(mut self, words: [u64; WORDS]) -> Msg {
        self.0.words = words;
        self
    }

    /// With this word, and zeros.
    pub const fn word(self, word: u64) -> Msg {
        self.words([word, 0, 0, 0, 0, 0])
    }

    /// With this body, which is put into the IPC buffer at once.
    pub fn body(self, bytes: &[u8]) -> Msg {
        if let Some(place) = Body::borrow().get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        let rights = self.0.info.rights();
        let info = Info::new(self.0.info.id(), bytes.len(), rights);
        self.info(info.unwrap_or_default())
    }

    /// With these rights, which are put into the IPC buffer at once.
    pub fn rights(self, rights: &[(Name, Disposition)]) -> Msg {
        for (slot, (name, disposition)) in rights.iter().enumerate() {
            buffer::set_right(slot, *name, *disposition);
        }
        let body = self.0.info.body();
        let info = Info::new(self.0.info.id(), body, rights.len());
        self.info(info.unwrap_or_default())
    }

    /// Waits until this time at most, in both halves.
    pub const fn until(mut self, deadline: u64) -> Msg {
        self.0.send_deadline = deadline;
        self.0.receive_deadline = deadline;
        self
    }

    /// Waits as long as it takes, in both halves: for who must be woken by something else.
    pub const fn forever(self) -> Msg {
        self.until(FOREVER)
    }

    /// If the queue is full, fails, and a message comes to this port when it is not.
    pub const fn notify<P>(mut self, port: &ReceiveRight<P>) -> Msg {
        self.0.options |= option::NOTIFY;
        self.0.notify = port.name();
        self
    }

    /// If the queue is full, fails, and what was asked for about the name is told when it is not.
    pub const fn notify_as_asked(mut self) -> Msg {
        self.0.options |= option::NOTIFY;
        self
    }

    /// Passes the call of a token on.
    pub fn forward<P>(token: u64, to: &SendRight<P>, id: u32) -> Msg {
        let mut msg = Msg::new(option::FORWARD).to(token).info(Info::short(id));
        msg.0.notify = to.name();
        msg
    }

    /// Makes the trap. The outcome says how it went.
    #[must_use]
    pub fn trap(&self) -> Received {
        trap::exchange(&self.0)
    }

    /// Makes the trap.
    ///
    /// # Errors
    /// What it failed with, in either half.
    pub fn go(&self) -> Result<Received, Kern> {
        let received = self.trap();
        kern_return::from_raw(received.outcome.code())?;
        Ok(received)
    }

    /// Makes the trap for its code alone.
    #[must_use]
    pub fn code(&self) -> Option<Kern> {
        self.go().err()
    }
}

/// The kinds of the rights that came with the message received last, by slot.
#[must_use]
pub fn arrived<const N: usize>() -> [(u64, ArrivedKind); N] {
    core::array::from_fn(buffer::right)
}

/// Takes the body of the message received last into `into`; `false` if it has another length.
#[must_use]
pub fn take_body(received: &Received, into: &mut [u8]) -> bool {
    let body = Body::borrow();
    match body.get(..received.info.body()) {
        Some(bytes) if bytes.len() == into.len() => {
            into.copy_from_slice(bytes);
            true
        }
        _ => false,
    }
}
