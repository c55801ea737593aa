//! The loop: messages of the VM server in, pages out.
//!
//! One port set holds the ports of all objects and, of payload 0, the pager's own. Answers to the
//! server are one-way messages and travel with the trap that takes the next message. Nothing here
//! waits: a pager that has to wait for a device waits in its own function.

use alloc::rc::Rc;
use core::marker::PhantomData;

use ipc::Kern;
use ipc::abi::message::FOREVER;
use ipc::abi::types::Prot;
use ipc::protocol::Protocol;
use ipc::protocol::codec::{Payload, Words};
use ipc::protocol::define::{AnyReply, AnyRequest, Message, Raw};
use ipc::protocol::memory_object::{
    MemoryObjectCopy, MemoryObjectDataRequest, MemoryObjectDataReturn, MemoryObjectDataUnlock,
    MemoryObjectInit, MemoryObjectSynchronize, Request,
};
use ipc::protocol::memory_object_control::{
    MemoryControl, MemoryObjectCopyMade, MemoryObjectDataError, MemoryObjectDataSupply,
    MemoryObjectDataUnavailable, MemoryObjectDataWritten, MemoryObjectLockRequest,
    MemoryObjectReady, MemoryObjectSynchronizeCompleted,
};
use ipc::right::{ReceiveRight, SendRight};
use ipc::server::{self, Context, Last, Notice, Server};

use crate::kept::{self, Left};
use crate::objects::{ObjectId, Objects};
use crate::pager::{Answer, Front, Object, PAGE, Pager, Want};
use crate::tray::Tray;

/// Payload of the pager's own port.
const FRONT: u64 = 0;

/// A pager with what it serves, before it begins.
#[derive(Debug)]
pub struct Service<P> {
    pager: P,
    /// Its objects.
    pub objects: Objects,
    tray: Tray,
    /// What the instance before this one left.
    left: Left,
}

impl<P: Pager> Service<P> {
    /// Gets ports and a tray for a pager.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub fn new(pager: P) -> Result<Service<P>, Kern> {
        let mut objects = Objects::new()?;
        Ok(Service {
            pager,
            tray: Tray::new(P::SLOTS)?,
            left: Left::fetch(&mut objects)?,
            objects,
        })
    }

    /// Makes an object and registers it under a name, so that whoever looks the name up can map it. If
    /// the instance before this one has published the name, its object goes on, with all who map it.
    ///
    /// # Errors
    /// What `bootstrap_register` says; KERN_RESOURCE_SHORTAGE.
    pub fn publish(&mut self, name: &str, object: Object) -> Result<(), Kern> {
        let note = kept::published(name);
        if let Some(port) = self.left.take(&note) {
            return self.objects.take_in(kept::place(&port)?, object, port);
        }
        let id = self.objects.create(object)?;
        ipc::bootstrap::register(name, self.objects.right(id)?.give())?;
        self.objects.keep(id, &note);
        Ok(())
    }

    /// Serves the objects, for ever.
    ///
    /// # Errors
    /// What receiving failed with.
    pub fn serve(self) -> Result<(), Kern> {
        self.run(|_, request: Nothing, _, _| -> server::Answer<Nothing> { match request {} })
    }

    /// Offers the pager what the instance before it left. What it does not know ends.
    fn adopt(&mut self) -> Result<(), Kern> {
        while let Some((note, port)) = self.left.take_offered() {
            let id = kept::place(&port)?;
            match self.pager.adopt(&note, id) {
                Some(object) => self.objects.take_in(id, object, port)?,
                None => kept::give_up(&mut self.objects, port),
            }
        }
        self.left.give_up(&mut self.objects);
        Ok(())
    }

    fn run<Q, R, F>(mut self, front: F) -> Result<(), Kern>
    where
        Q: AnyRequest,
        R: AnyReply,
        F: FnMut(&mut P, Q, &mut Context, &mut Objects) -> server::Answer<R>,
    {
        self.adopt()?;
        self.pager.prepare(self.tray.all());
        let set = Rc::clone(&self.objects.set);
        let mut serving = Serving {
            service: self,
            front,
            types: PhantomData,
        };
        server::serve(&mut serving, &*set)
    }
}

impl<P: Front> Service<P> {
    /// Registers the pager's own port under a name, or goes on with that of the instance before, and
    /// serves it and the objects, for ever.
    ///
    /// # Errors
    /// What `bootstrap_register` says, or receiving failed with.
    pub fn serve_as(mut self, name: &str) -> Result<(), Kern> {
        let note = kept::front(name);
        let port = match self.left.take(&note) {
            Some(port) => port.cast(),
            None => {
                let port = ReceiveRight::<P::Protocol>::new(FRONT)?;
                ipc::bootstrap::register(name, port.make_send()?.give())?;
                // What is not kept ends with the task.
                let _ = ipc::bootstrap::keep(&port, FRONT, &note);
                port
            }
        };
        self.objects.set.insert(&port)?;
        self.run(
            |pager: &mut P, request: <P::Protocol as Protocol>::Request, context, objects| {
                pager.request(request, context, objects)
            },
        )
    }
}

/// What a pager without a protocol of its own is asked on its own port.
enum Nothing {}

impl AnyRequest for Nothing {
    fn decode(_message: &Raw<'_>) -> Result<Nothing, Kern> {
        Err(Kern::MigBadId)
    }
}

impl AnyReply for Nothing {
    fn rights(&self) -> usize {
        match *self {}
    }

    fn encode(&self, _words: &mut Words, _body: &mut [u8]) -> Result<usize, Kern> {
        match *self {}
    }
}

/// What arrives: the port's payload says in which protocol.
enum Incoming<Q> {
    Object(Request),
    Front(Q),
}

impl<Q: AnyRequest> AnyRequest for Incoming<Q> {
    fn decode(message: &Raw<'_>) -> Result<Incoming<Q>, Kern> {
        if message.payload == FRONT {
            Q::decode(message).map(Incoming::Front)
        } else {
            AnyRequest::decode(message).map(Incoming::Object)
        }
    }
}

struct Serving<P, Q, R, F> {
    service: Service<P>,
    front: F,
    types: PhantomData<fn(Q) -> R>,
}

impl<P, Q, R, F> Server for Serving<P, Q, R, F>
where
    P: Pager,
    Q: AnyRequest,
    R: AnyReply,
    F: FnMut(&mut P, Q, &mut Context, &mut Objects) -> server::Answer<R>,
{
    type Request = Incoming<Q>;
    type Reply = R;

    #[inline(always)]
    fn one_way(&mut self, payload: u64, id: u32, words: &Words) -> Option<Last> {
        if payload == FRONT || id != MemoryObjectDataRequest::ID {
            return None;
        }
        let request = MemoryObjectDataRequest::get(words, &[]).ok()?;
        let id = ObjectId::from_payload(payload);
        self.service.object_data_request(id, request)
    }

    fn request(&mut self, request: Incoming<Q>, context: &mut Context) -> server::Answer<R> {
        let service = &mut self.service;
        match request {
            Incoming::Front(request) => {
                (self.front)(&mut service.pager, request, context, &mut service.objects)
            }
            Incoming::Object(request) => {
                let id = ObjectId::from_payload(context.payload);
                let done = service.object_message(id, request, context);
                done.map_or_else(server::Answer::Refuse, |()| server::Answer::Later)
            }
        }
    }

    fn notice(&mut self, notice: Notice, context: &mut Context) -> Result<(), Kern> {
        let Notice::NoSenders { make_send_count } = notice else {
            return Err(Kern::Failure);
        };
        let id = ObjectId::from_payload(context.payload);
        if let Some(object) = self.service.objects.no_senders(id, make_send_count) {
            self.service.pager.terminate(&object);
        }
        Ok(())
    }
}

impl<P: Pager> Service<P> {
    /// Handles the commonest message of the VM server. Of an object that has ended meanwhile there is nothing to
    /// say.
    #[inline(always)]
    fn object_data_request(
        &mut self,
        id: ObjectId,
        request: MemoryObjectDataRequest,
    ) -> Option<Last> {
        let entry = self.objects.entry(id)?;
        let control = entry.control.as_ref()?;
        let (pager, tray) = (&mut self.pager, &mut self.tray);
        let filled = data_request(pager, tray, &entry.object, request);
        said_of(control, request, filled)
    }

    /// Handles any other message of the VM server. Its messages are one way, so that an error is nobody's
    /// to hear: it means that the object has ended meanwhile.
    fn object_message(
        &mut self,
        id: ObjectId,
        message: Request,
        context: &mut Context,
    ) -> Result<(), Kern> {
        let entry = self.objects.entry(id).ok_or(Kern::Terminated)?;
        let object = entry.object;
        if let Request::MemoryObjectInit(_) = message {
            let control = context.rights.take_send(MemoryObjectInit::CONTROL)?;
            let control = entry.control.insert(control);
            return ready(&self.pager, &object, control, &self.tray);
        }
        let control = entry.control.as_ref().ok_or(Kern::InvalidObject)?;
        match message {
            // The server's came one way.
            Request::MemoryObjectDataRequest(_) => Err(Kern::MigBadId),
            Request::MemoryObjectDataReturn(lent) => {
                let result = data_return(&mut self.pager, &self.tray, &object, lent);
                let (txn, result) = (lent.txn, ipc::abi::kern_return::to_raw(result));
                context.send_last(control, &MemoryObjectDataWritten { txn, result })
            }
            Request::MemoryObjectDataUnlock(wanted) => {
                context.send_last(control, &unlocked(wanted))
            }
            Request::MemoryObjectSynchronize(MemoryObjectSynchronize { request, .. }) => {
                // Returns are stored before they are acknowledged: all is safe already.
                let result = 0;
                context.send_last(
                    control,
                    &MemoryObjectSynchronizeCompleted { request, result },
                )
            }
            Request::MemoryObjectCopy(MemoryObjectCopy { request, .. }) => {
                // Nobody here makes copies: the server copies page by page.
                let result = Kern::NotSupported.raw();
                let refused = MemoryObjectCopyMade { request, result };
                context.send_last(control, &refused)
            }
            Request::MemoryObjectTerminate(_) => {
                entry.control = None;
                Ok(())
            }
            Request::MemoryObjectInit(_)
            | Request::MemoryObjectLockCompleted(_)
            | Request::MemoryObjectChangeCompleted(_) => Ok(()),
        }
    }
}

/// Answers `memory_object_init`.
fn ready<P: Pager>(
    pager: &P,
    object: &Object,
    control: &SendRight<MemoryControl>,
    tray: &Tray,
) -> Result<(), Kern> {
    let attributes = pager.attributes(object);
    let ready = MemoryObjectReady {
        may_cache: attributes.may_cache,
        copy_strategy: attributes.copy_strategy as u32,
        cluster_pages: attributes.cluster.min(P::SLOTS / 2),
        serves_itself: false,
        synchronizes: false,
    };
    control.send_with(&ready, [tray.right()], FOREVER)
}

/// What became of a request: the slots that were offered to the pager, and what it says of them.
struct Filled {
    slot: u32,
    count: usize,
    answer: Answer,
}

/// Has the pager fill slots.
fn data_request<P: Pager>(
    pager: &mut P,
    tray: &mut Tray,
    object: &Object,
    request: MemoryObjectDataRequest,
) -> Filled {
    let offset = request.offset;
    let pages = (request.length / PAGE as u64).min(pages_from(object, offset));
    let (slot, bytes) = tray.take(usize::try_from(pages).unwrap_or(usize::MAX));
    let count = bytes.len() / PAGE;
    let access = Prot::from_bits_truncate(request.access as u8);
    let mut want = Want {
        offset,
        access,
        bytes,
    };
    let answer = match count {
        0 => Answer::Error(Kern::MemoryError),
        _ => pager.data_request(object, &mut want),
    };
    clear_beyond_end(object, &mut want);
    Filled {
        slot,
        count,
        answer,
    }
}

/// What the server is told of it.
#[inline(always)]
fn said_of(
    control: &SendRight<MemoryControl>,
    request: MemoryObjectDataRequest,
    filled: Filled,
) -> Option<Last> {
    let (offset, size) = (request.offset, request.length);
    let count = match filled.answer {
        Answer::Supply => filled.count,
        Answer::SupplyFirst(count) => count.min(filled.count),
        Answer::Unavailable => {
            return Last::new(control, &MemoryObjectDataUnavailable { offset, size });
        }
        Answer::Error(_) => 0,
    };
    if count == 0 {
        let code = match filled.answer {
            Answer::Error(code) => code.raw(),
            _ => Kern::MemoryError.raw(),
        };
        return Last::new(control, &MemoryObjectDataError { offset, size, code });
    }
    let supply = MemoryObjectDataSupply {
        offset,
        slot: filled.slot,
        count: count as u32,
        lock_value: 0,
        precious: false,
    };
    Last::new(control, &supply)
}

/// Pages of the object from `offset` on.
fn pages_from(object: &Object, offset: u64) -> u64 {
    object.size.saturating_sub(offset).div_ceil(PAGE as u64)
}

/// The part of the last page that is not the object's reads zero, whatever the slot held.
fn clear_beyond_end(object: &Object, want: &mut Want<'_>) {
    let inside = object.size.saturating_sub(want.offset);
    if let Some(tail) = usize::try_from(inside)
        .ok()
        .and_then(|inside| want.bytes.get_mut(inside..))
    {
        tail.fill(0);
    }
}

/// Has the pager store pages that the server has lent.
fn data_return<P: Pager>(
    pager: &mut P,
    tray: &Tray,
    object: &Object,
    lent: MemoryObjectDataReturn,
) -> Result<(), Kern> {
    let pages = tray.lent(lent.slot, lent.count);
    let pages = pages.ok_or(Kern::InvalidArgument)?;
    pager.data_return(object, lent.offset / PAGE as u64, pages)
}

/// The framework locks nothing: whoever finds a lock may have it taken away.
fn unlocked(wanted: MemoryObjectDataUnlock) -> MemoryObjectLockRequest {
    MemoryObjectLockRequest {
        offset: wanted.offset,
        size: wanted.length,
        should_return: 0,
        flags: 0,
        lock_value: 0,
        request: 0,
    }
}
