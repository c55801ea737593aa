//! Port rights as values: typed by their protocol, given back when dropped.
//!
//! [`SendRight`] is the right to ask, [`ReceiveRight`] the right to be asked, [`SendOnce`] the right to
//! answer once, [`PortSet`] several receive rights to wait on together. In a message a right travels
//! as [`Passed`], made by a method that says what becomes of it (`copy`, `give`, `make`); the rights
//! that came with a message are [`Rights`], from which they are taken by slot. What is not taken is
//! given back, so that no sender can fill a receiver's name space with rights that it ignores.
//!
//! Names are numbers; only this module and [`crate::trap`] handle them. A send right to one's own port
//! has the name of the receive right, as in Mach: the kernel counts both.

use crate::buffer;
use crate::trap;
use core::marker::PhantomData;
use core::mem;
use ipc_abi::Kern;
use ipc_abi::buffer::RIGHTS_MAX;
use ipc_abi::notify::Request;
use ipc_abi::port::PortType;
use ipc_abi::right::{ArrivedKind, Disposition, Name, SpecialPort};

/// The protocol of a right of which only the holder knows more: task and thread ports, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untyped {}

/// A user reference to a send right. `P` is the protocol that its receiver speaks.
#[derive(Debug, PartialEq, Eq)]
#[doc(alias = "MACH_PORT_RIGHT_SEND")]
pub struct SendRight<P> {
    name: Name,
    protocol: PhantomData<fn() -> P>,
}

impl<P> SendRight<P> {
    /// Takes over a user reference that the task holds under this name.
    #[inline]
    #[must_use]
    pub const fn from_name(name: Name) -> SendRight<P> {
        SendRight {
            name,
            protocol: PhantomData,
        }
    }

    /// One of this task's special ports.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: none is set.
    pub fn special(which: SpecialPort) -> Result<SendRight<P>, Kern> {
        trap::task_get_special_port(which).map(SendRight::from_name)
    }

    /// Its name.
    #[inline]
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }

    /// Gives up the value but keeps the reference: the caller now answers for the name.
    #[inline]
    #[must_use]
    pub fn into_name(self) -> Name {
        let name = self.name;
        mem::forget(self);
        name
    }

    /// The same right, said to speak another protocol.
    #[must_use]
    pub fn cast<Q>(self) -> SendRight<Q> {
        SendRight::from_name(self.into_name())
    }

    /// In a message: the receiver gets a right of its own.
    #[inline]
    #[must_use]
    pub fn copy(&self) -> Passed<'_> {
        Passed::new(self.name, Disposition::CopySend)
    }

    /// In a message: this right moves to the receiver.
    #[inline]
    #[must_use]
    pub fn give(self) -> Passed<'static> {
        Passed::new(self.into_name(), Disposition::MoveSend)
    }

    /// Asks to be told by a message to `notify` when the port dies.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn watch<Q>(&self, notify: &ReceiveRight<Q>) -> Result<(), Kern> {
        trap::port_request_notification(self.name, Request::DeadName, notify.name, 1).map(drop)
    }

    /// Asks to be told by a message to `notify` when there is room at the port, after a send with
    /// option NOTIFY and without a notify port has found none.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn watch_room<Q>(&self, notify: &ReceiveRight<Q>) -> Result<(), Kern> {
        trap::port_request_notification(self.name, Request::SendPossible, notify.name, 0).map(drop)
    }
}

impl<P> Drop for SendRight<P> {
    fn drop(&mut self) {
        // Fails only if the reference is gone, and then there is nothing to give back.
        let _ = trap::port_deallocate(self.name, 1);
    }
}

/// The right to send one message.
#[derive(Debug, PartialEq, Eq)]
#[doc(alias = "MACH_PORT_RIGHT_SEND_ONCE")]
pub struct SendOnce<P> {
    name: Name,
    protocol: PhantomData<fn() -> P>,
}

impl<P> SendOnce<P> {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }

    /// In a message: the right moves to the receiver.
    #[must_use]
    pub fn give(self) -> Passed<'static> {
        let name = self.name;
        mem::forget(self);
        Passed::new(name, Disposition::MoveSendOnce)
    }
}

impl<P> Drop for SendOnce<P> {
    fn drop(&mut self) {
        let _ = trap::port_deallocate(self.name, 1);
    }
}

/// A name whose port has died.
#[derive(Debug, PartialEq, Eq)]
#[doc(alias = "MACH_PORT_RIGHT_DEAD_NAME")]
pub struct DeadName {
    name: Name,
}

impl DeadName {
    pub(crate) const fn from_name(name: Name) -> DeadName {
        DeadName { name }
    }

    /// The name: that of the right that died.
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }
}

impl Drop for DeadName {
    fn drop(&mut self) {
        let _ = trap::port_deallocate(self.name, 1);
    }
}

/// A port of this task. `P` is the protocol that it is asked in. Dropping it ends the port.
#[derive(Debug, PartialEq, Eq)]
#[doc(alias = "MACH_PORT_RIGHT_RECEIVE")]
pub struct ReceiveRight<P> {
    name: Name,
    protocol: PhantomData<fn() -> P>,
}

impl<P> ReceiveRight<P> {
    /// Makes a port. Each message through it carries `payload`.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new(payload: u64) -> Result<ReceiveRight<P>, Kern> {
        trap::port_allocate(payload).map(ReceiveRight::from_name)
    }

    /// Takes over the receive right that the task holds under this name.
    #[must_use]
    pub const fn from_name(name: Name) -> ReceiveRight<P> {
        ReceiveRight {
            name,
            protocol: PhantomData,
        }
    }

    /// Its name.
    #[inline]
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }

    /// Gives up the value but keeps the port: the caller now answers for the name.
    #[must_use]
    pub fn into_name(self) -> Name {
        let name = self.name;
        mem::forget(self);
        name
    }

    /// Makes a send right for this task itself.
    ///
    /// # Errors
    /// KERN_UREFS_OVERFLOW.
    pub fn make_send(&self) -> Result<SendRight<P>, Kern> {
        trap::port_make_send(self.name)?;
        Ok(SendRight::from_name(self.name))
    }

    /// In a message: the receiver gets a new send right.
    #[must_use]
    pub fn make(&self) -> Passed<'_> {
        Passed::new(self.name, Disposition::MakeSend)
    }

    /// In a message: the receiver gets a new send-once right.
    #[must_use]
    pub fn make_once(&self) -> Passed<'_> {
        Passed::new(self.name, Disposition::MakeSendOnce)
    }

    /// In a message: the port moves to the receiver.
    #[must_use]
    pub fn give(self) -> Passed<'static> {
        Passed::new(self.into_name(), Disposition::MoveReceive)
    }

    /// Sets the payload of messages received from now on, and the most messages that queue here (1
    /// to 1024; 0 leaves it).
    ///
    /// # Errors
    /// KERN_INVALID_VALUE: the limit is too large.
    pub fn set_attributes(&self, payload: u64, limit: u32) -> Result<(), Kern> {
        trap::port_set_attributes(self.name, payload, limit)
    }

    /// Asks to be told by a message to `notify` (which may be this port) when the last send right
    /// is gone.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn watch_senders<Q>(&self, notify: &ReceiveRight<Q>) -> Result<(), Kern> {
        trap::port_request_notification(self.name, Request::NoSenders, notify.name, 1).map(drop)
    }

    /// Asks that this right, with what is queued at its port, comes by a message to `notify` when it
    /// is destroyed, by whoever holds it then. If `notify` cannot take it the port dies.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn watch_destroyed<Q>(&self, notify: &ReceiveRight<Q>) -> Result<(), Kern> {
        trap::port_request_notification(self.name, Request::PortDestroyed, notify.name, 0).map(drop)
    }

    /// As [`ReceiveRight::watch_destroyed`], by a send-once right that somebody else gave for it.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; KERN_INVALID_CAPABILITY: its port has died.
    pub fn watch_destroyed_by<Q>(&self, notify: SendOnce<Q>) -> Result<(), Kern> {
        let earlier = self.destroyed_request(notify.name)?;
        // Used up.
        mem::forget(notify);
        drop(earlier);
        Ok(())
    }

    /// Takes back what was asked: the port dies when the right is destroyed.
    ///
    /// # Errors
    /// None that the task has not made itself.
    pub fn unwatch_destroyed(&self) -> Result<(), Kern> {
        self.destroyed_request(0).map(drop)
    }

    /// Asks for *port destroyed*; gives the right of an earlier request, if it was somebody else's.
    fn destroyed_request(&self, notify: Name) -> Result<Option<SendOnce<Untyped>>, Kern> {
        let asked = trap::port_request_notification(self.name, Request::PortDestroyed, notify, 0);
        let earlier = asked?;
        let kind = (earlier != 0).then(|| trap::port_type(0, earlier));
        Ok(match kind {
            Some(Ok(kind)) if kind.contains(PortType::SEND_ONCE) => Some(SendOnce {
                name: earlier,
                protocol: PhantomData,
            }),
            _ => None,
        })
    }

    /// Send rights that were made of it so far, by all who had it.
    ///
    /// # Errors
    /// None that the task has not made itself.
    pub fn made(&self) -> Result<u64, Kern> {
        trap::port_get_status(0, self.name).map(|status| status.make_send)
    }

    /// What each message through it carries.
    ///
    /// # Errors
    /// None that the task has not made itself.
    pub fn payload(&self) -> Result<u64, Kern> {
        trap::port_get_status(0, self.name).map(|status| status.payload)
    }

    /// The same right, said to be asked in another protocol.
    #[must_use]
    pub fn cast<Q>(self) -> ReceiveRight<Q> {
        ReceiveRight::from_name(self.into_name())
    }
}

impl<P> Drop for ReceiveRight<P> {
    fn drop(&mut self) {
        let _ = trap::port_destroy(self.name);
    }
}

/// Ports that are received from together.
#[derive(Debug, PartialEq, Eq)]
#[doc(alias = "MACH_PORT_RIGHT_PORT_SET")]
pub struct PortSet {
    name: Name,
}

impl PortSet {
    /// Makes an empty set.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new() -> Result<PortSet, Kern> {
        trap::port_set_allocate().map(|name| PortSet { name })
    }

    /// Puts a port in, taking it out of all sets that it was in.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn insert<P>(&self, port: &ReceiveRight<P>) -> Result<(), Kern> {
        trap::port_move_member(port.name, self.name)
    }

    /// Puts a port in besides the sets that it is in.
    ///
    /// # Errors
    /// KERN_ALREADY_IN_SET; KERN_RESOURCE_SHORTAGE.
    pub fn add<P>(&self, port: &ReceiveRight<P>) -> Result<(), Kern> {
        trap::port_insert_member(port.name, self.name)
    }

    /// Takes a port out.
    ///
    /// # Errors
    /// KERN_NOT_IN_SET; KERN_INVALID_NAME, KERN_INVALID_RIGHT: it is no port of this task any more.
    pub fn remove<P>(&self, port: &ReceiveRight<P>) -> Result<(), Kern> {
        trap::port_extract_member(port.name, self.name)
    }
}

impl Drop for PortSet {
    fn drop(&mut self) {
        let _ = trap::port_destroy(self.name);
    }
}

/// What can be received from: a port or a set of ports.
pub trait Source {
    /// Its name.
    fn source_name(&self) -> Name;
}

impl<P> Source for ReceiveRight<P> {
    fn source_name(&self) -> Name {
        self.name
    }
}

impl Source for PortSet {
    fn source_name(&self) -> Name {
        self.name
    }
}

/// A right on its way into a message. One that moves is given back if it is never sent.
#[derive(Debug)]
pub struct Passed<'a> {
    name: Name,
    disposition: Disposition,
    right: PhantomData<&'a ()>,
}

impl Passed<'_> {
    /// An empty slot.
    pub const NONE: Passed<'static> = Passed::new(0, Disposition::None);

    const fn new(name: Name, disposition: Disposition) -> Passed<'static> {
        Passed {
            name,
            disposition,
            right: PhantomData,
        }
    }

    /// A right that the caller answers for, under its name: for servers that keep names as numbers.
    /// A disposition that moves takes the reference over.
    #[must_use]
    pub const fn from_name(name: Name, disposition: Disposition) -> Passed<'static> {
        Passed::new(name, disposition)
    }

    /// Writes the right into a slot of the message.
    #[inline]
    pub(crate) fn put(&self, slot: usize) {
        buffer::set_right(slot, self.name, self.disposition);
    }

    /// Its parts, for who gives it back if it is never sent.
    pub(crate) fn into_parts(self) -> (Name, Disposition) {
        let parts = (self.name, self.disposition);
        mem::forget(self);
        parts
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let _ = match self.disposition {
            Disposition::MoveSend | Disposition::MoveSendOnce => {
                trap::port_deallocate(self.name, 1)
            }
            Disposition::MoveReceive => trap::port_destroy(self.name),
            _ => Ok(()),
        };
    }
}

/// A right that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// The slot was empty.
    None,
    /// A receive right.
    Receive(ReceiveRight<Untyped>),
    /// A send right.
    Send(SendRight<Untyped>),
    /// A send-once right.
    SendOnce(SendOnce<Untyped>),
    /// The port had died.
    Dead(DeadName),
    /// A right to a port of this task, whose payload this is.
    Own(u64),
}

impl Arrived {
    fn new(value: u64, kind: ArrivedKind) -> Arrived {
        let name = value as Name;
        match kind {
            ArrivedKind::None => Arrived::None,
            ArrivedKind::Receive => Arrived::Receive(ReceiveRight::from_name(name)),
            ArrivedKind::Send => Arrived::Send(SendRight::from_name(name)),
            ArrivedKind::SendOnce => Arrived::SendOnce(SendOnce {
                name,
                protocol: PhantomData,
            }),
            ArrivedKind::Dead => Arrived::Dead(DeadName::from_name(name)),
            ArrivedKind::Own | ArrivedKind::OwnLast => Arrived::Own(value),
        }
    }
}

/// The rights of a message that has arrived.
#[derive(Debug)]
pub struct Rights {
    count: usize,
    /// `None` if there are none: then nothing of it has to be written.
    slots: Option<[(u64, ArrivedKind); RIGHTS_MAX]>,
}

impl Rights {
    /// No rights.
    pub(crate) const NONE: Rights = Rights {
        count: 0,
        slots: None,
    };

    /// Takes the rights of the message that lies in the buffer.
    #[inline]
    pub(crate) fn from_buffer(count: usize) -> Rights {
        let mut rights = Rights::NONE;
        rights.fill(count);
        rights
    }

    /// As [`Rights::from_buffer`], where there are none yet.
    #[inline]
    pub(crate) fn fill(&mut self, count: usize) {
        self.count = count.min(RIGHTS_MAX);
        let slots = self.slots.insert([(0, ArrivedKind::None); RIGHTS_MAX]);
        for (index, slot) in slots.iter_mut().enumerate().take(count) {
            *slot = buffer::right(index);
        }
    }

    /// Gives back what nobody has taken.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        for slot in 0..core::mem::take(&mut self.count) {
            drop(self.take(slot));
        }
    }

    /// Takes what came in a slot; nothing, if it was empty or has been taken.
    pub fn take(&mut self, slot: usize) -> Arrived {
        let slots = self.slots.as_mut();
        match slots.and_then(|slots| slots.get_mut(slot)) {
            Some(slot) => {
                let (value, kind) = mem::replace(slot, (0, ArrivedKind::None));
                Arrived::new(value, kind)
            }
            None => Arrived::None,
        }
    }

    /// Takes a send right out of a slot.
    ///
    /// # Errors
    /// KERN_INVALID_RIGHT: the slot holds no send right. What it held is given back.
    pub fn take_send<P>(&mut self, slot: usize) -> Result<SendRight<P>, Kern> {
        match self.take(slot) {
            Arrived::Send(right) => Ok(right.cast()),
            _ => Err(Kern::InvalidRight),
        }
    }
}

impl Drop for Rights {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}
