//! What pagers say on control ports (`ipc_protocol::memory_object_control`): checked, then done.

use ipc_abi::Kern;
use ipc_abi::types::CopyStrategy;
use ipc_protocol::memory_object::MemoryObjectChangeCompleted;
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_COPY_TEMPORARY, MemoryObjectChangeAttributes, MemoryObjectGetAttributesReply,
    MemoryObjectReady, Reply as Said, Request,
};

use crate::call::Reply;
use crate::effect::{Answer, Effect};
use crate::event::{ControlId, MapId, PortOf, PortRef, ReplyTo, Rights};
use crate::fault::pagein::REQUEST_MAX;
use crate::id::Id;
use crate::machine::Machine;
use crate::object::pager::{Attributes, Pager, State};
use crate::object::supply::Missing;
use crate::op::Verb;
use crate::talk::Say;
use crate::{Core, Turn};

impl Core {
    /// Handles a message on a control port. `None`: it is answered later.
    pub(crate) fn call_control<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (control, request): (ControlId, Request),
        rights: Rights,
        reply: ReplyTo,
    ) -> Option<Answer> {
        let pager = match self.pager_of_control(control) {
            Ok(pager) => pager,
            Err(code) => {
                self.release_rights(turn, &rights);
                return Some(Err(code));
            }
        };
        if let Request::MemoryObjectCopyMade(args) = request {
            let [object, ..] = rights;
            let made = self.copy_made(turn, pager, args, object);
            return Some(made.map(|()| Reply::control(Said::MemoryObjectCopyMade(()))));
        }
        // No other takes a right that is not one of the server's own ports.
        self.release_rights(turn, &rights);
        if let Request::MemoryObjectLockRequest(args) = request {
            let work = match self.lock_request(pager, args) {
                Ok(work) => work,
                Err(code) => return Some(Err(code)),
            };
            self.caller = self.task_of(pager);
            let begun = self.op_start(Verb::Lock(work), reply, None, turn.now);
            self.caller = None;
            return begun.err().map(Err);
        }
        if let Request::MemoryObjectDataSupplyCopy(args) = request {
            let [copy, ..] = rights;
            self.caller = self.task_of(pager);
            let begun = self.supply_copy(turn, pager, (args, copy), reply);
            self.caller = None;
            return begun.err().map(Err);
        }
        let said = self.control_now(turn, pager, request, rights);
        Some(said.map(Reply::control))
    }

    /// The map of the task that has the tray of a pager: what its calls begin is charged to that.
    fn task_of(&self, pager: Id<Pager>) -> Option<MapId> {
        let tray = self.pagers.get(pager)?.tray?;
        Some(self.trays.get(tray)?.map)
    }

    fn control_now<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        request: Request,
        rights: Rights,
    ) -> Result<Said, Kern> {
        match request {
            Request::MemoryObjectReady(args) => {
                self.ready(turn, pager, args, rights)?;
                Ok(Said::MemoryObjectReady(()))
            }
            Request::MemoryObjectDataSupply(args) => self
                .data_supply(turn, pager, args)
                .map(Said::MemoryObjectDataSupply),
            Request::MemoryObjectDataUnavailable(args) => {
                let range = (args.offset, args.size);
                self.data_missing(pager, range, Missing::Unavailable)?;
                Ok(Said::MemoryObjectDataUnavailable(()))
            }
            Request::MemoryObjectDataError(args) => {
                self.data_missing(pager, (args.offset, args.size), Missing::Error)?;
                Ok(Said::MemoryObjectDataError(()))
            }
            Request::MemoryObjectDataWritten(args) => {
                self.data_written(turn, pager, args.txn, args.result == 0)?;
                Ok(Said::MemoryObjectDataWritten(()))
            }
            Request::MemoryObjectChangeAttributes(args) => {
                self.change_attributes(turn, pager, args)?;
                Ok(Said::MemoryObjectChangeAttributes(()))
            }
            Request::MemoryObjectGetAttributes(_) => {
                self.attributes(pager).map(Said::MemoryObjectGetAttributes)
            }
            Request::MemoryObjectDestroy(_) => {
                self.pager_dead(turn, pager);
                Ok(Said::MemoryObjectDestroy(()))
            }
            Request::MemoryObjectSynchronizeCompleted(args) => {
                self.synchronized(pager, args.request, args.result)?;
                Ok(Said::MemoryObjectSynchronizeCompleted(()))
            }
            // They were begun before.
            Request::MemoryObjectLockRequest(_)
            | Request::MemoryObjectDataSupplyCopy(_)
            | Request::MemoryObjectCopyMade(_) => Err(Kern::Failure),
        }
    }

    fn ready<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        pager: Id<Pager>,
        args: MemoryObjectReady,
        rights: Rights,
    ) -> Result<(), Kern> {
        let strategy = strategy(args.copy_strategy)?;
        if args.cluster_pages > REQUEST_MAX {
            return Err(Kern::InvalidArgument);
        }
        let [PortRef::Own(PortOf::Tray(tray)), ..] = rights else {
            return Err(Kern::InvalidArgument);
        };
        self.trays.get(tray).ok_or(Kern::InvalidArgument)?;
        let record = self.pagers.get(pager).ok_or(Kern::Terminated)?;
        let over = match record.state {
            State::Dead => true,
            // It is told again of an object that ends, if something of that has to be stored.
            State::Terminating => {
                !record.is_told_of_an_end() || self.objects.get(record.object).is_none()
            }
            State::Initialising | State::Ready | State::Detached => false,
        };
        if over {
            return Err(Kern::Terminated);
        }
        let attributes = Attributes {
            may_cache: args.may_cache,
            serves_itself: args.serves_itself,
            synchronizes: args.synchronizes,
            cluster: args.cluster_pages.max(1),
            strategy,
        };
        self.pager_ready(turn, pager, tray, attributes);
        Ok(())
    }

    fn change_attributes<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        id: Id<Pager>,
        args: MemoryObjectChangeAttributes,
    ) -> Result<(), Kern> {
        let strategy = strategy(args.copy_strategy)?;
        let pager = self.pagers.get_mut(id).ok_or(Kern::Terminated)?;
        if pager.state != State::Ready {
            return Err(Kern::InvalidArgument);
        }
        pager.may_cache = args.may_cache;
        let (object, port) = (pager.object, pager.port);
        self.pager_set_strategy(id, strategy);
        let cached = self.objects.get(object).is_some_and(|o| o.refs == 0);
        let changed = MemoryObjectChangeCompleted {
            may_cache: args.may_cache,
            copy_strategy: args.copy_strategy,
            request: args.request,
        };
        if cached && !args.may_cache {
            // It ends now, and the completion comes after that (rule 173).
            if let Some(pager) = self.pagers.get_mut(id) {
                pager.last_words = (args.request != 0).then_some(changed);
            }
            self.object_reference(object);
            self.object_deallocate(object);
        } else if args.request != 0 {
            self.note(id, Say::Changed(changed))?;
            turn.effects.push(Effect::Talk(port));
        }
        Ok(())
    }

    fn attributes(&self, id: Id<Pager>) -> Result<MemoryObjectGetAttributesReply, Kern> {
        let pager = self.pagers.get(id).ok_or(Kern::Terminated)?;
        Ok(MemoryObjectGetAttributesReply {
            ready: pager.state == State::Ready,
            may_cache: pager.may_cache,
            copy_strategy: pager.strategy as u32,
            cluster_pages: pager.cluster,
        })
    }
}

/// A strategy that a pager says; `None`: temporary (rule 4).
///
/// # Errors
/// `KERN_INVALID_ARGUMENT`: it is not known.
fn strategy(raw: u32) -> Result<Option<CopyStrategy>, Kern> {
    match raw {
        MEMORY_OBJECT_COPY_TEMPORARY => Ok(None),
        raw => CopyStrategy::from_raw(raw)
            .map(Some)
            .ok_or(Kern::InvalidArgument),
    }
}
