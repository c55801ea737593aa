//! The fast paths of messages with one right, and of giving a right back.
//!
//! A right goes from name to name without being captured, queued and put in: what may be asked is
//! asked first, then nothing fails. Taken are send and send-once rights to live ports, under names
//! that nobody waits to hear of, whose passing leaves nothing to be told to anybody.

use crate::{
    cells::ThreadCells,
    fast::{Handed, What, fast_call_of, may_pass, pass},
    kernel::{Kernel, TaskId},
    machine::Context,
    message::Carried,
    port::{Object, Port},
    space::Holds,
    thread::Call,
};
use ipc_abi::{
    buffer::RIGHTS_MAX,
    message::Info,
    right::{ArrivedKind, Disposition, Name},
};

/// The right slot of a buffer: value and kind.
pub type Slot = (u64, u8);

impl Kernel {
    /// As [`Kernel::fast_call`], with the right that is in the first slot of the buffer. Gives what the
    /// receiver is to find there.
    pub fn fast_call_right(
        &mut self,
        destination: u64,
        info: u64,
        deadline: u64,
        right: Slot,
    ) -> Option<(Handed, Slot)> {
        let me = self.fast_bearer(info)?;
        let port = self.fast_destination(me, destination)?;
        let (place, receiver) = port.receiver().ok()?;
        let sent = may_pass(self.seat, me, receiver, deadline)?;
        let (from, to) = (me.actor.get().task, receiver.actor.get().task);
        let arrived = self.fast_carry(from, to, right)?;
        // From here on nothing fails.
        place.leave();
        let to = (port, receiver, sent);
        let handed = pass(self.seat, me, to, What::Message, deadline);
        Some((handed, arrived))
    }

    /// As [`Kernel::fast_answer`], with the right that is in the first slot of the buffer. Gives what the
    /// caller is to find there, too.
    pub fn fast_answer_right(
        &mut self,
        token: u64,
        (source, deadline): (u64, u64),
        info: u64,
        right: Slot,
    ) -> Option<(Context, Slot)> {
        let me = self.fast_bearer(info)?;
        let task = me.actor.get().task;
        if me.timer_key.get() > deadline {
            return None;
        }
        let source = self.fast_source(me, source)?;
        let caller = self.fast_client(me, token)?;
        if fast_call_of(self.seat, me, caller)? != Call::Message {
            return None;
        }
        let arrived = self.fast_carry(task, caller.actor.get().task, right)?;
        // From here on nothing fails.
        let to = self.give_answer(me, caller, source, deadline);
        Some((to, arrived))
    }

    /// Trap `port_deallocate`, if all that it does is to lower a count or free a name. `false`: nothing
    /// has happened.
    pub fn fast_deallocate(&mut self, name: u64, count: u64) -> bool {
        self.try_deallocate(name, count).is_some()
    }

    fn try_deallocate(&mut self, name: u64, count: u64) -> Option<()> {
        let me = self.fast_caller(0)?;
        let task = me.actor.get().task;
        let names = &mut self.tasks.get_mut(task)?.names;
        let entry = names.get(name)?;
        let Holds::Port {
            port,
            receive: false,
            refs,
        } = entry.holds
        else {
            return None;
        };
        let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
        if count < refs {
            let entry = names.get_mut(name, &mut self.names_stamp)?;
            let Holds::Port { refs, .. } = &mut entry.holds else {
                return None;
            };
            *refs = refs.saturating_sub(count);
            return Some(());
        }
        if count > refs || !entry.is_unwatched() {
            return None;
        }
        let record = self.ports.get_mut(port)?;
        let dead = record.is_dead();
        let silent = match record.object {
            Object::Task(_) if dead => record.sends == 1,
            _ => dead || may_drop_send(record),
        };
        if !silent {
            return None;
        }
        record.sends = record.sends.saturating_sub(1);
        names.remove(name as Name, &mut self.names_stamp);
        if dead {
            self.bury(port);
        }
        Some(())
    }

    /// The running thread, if it may go a fast way with a message of one right.
    fn fast_bearer(&self, info: u64) -> Option<&'static ThreadCells> {
        let info = Info(info);
        let carries_one = Info::new(info.id(), info.body(), 1) == Some(info);
        self.fast_caller(0).filter(|_| carries_one)
    }

    /// Takes a right out of one name space and puts it into another.
    #[inline(always)]
    fn fast_carry(&mut self, from: TaskId, to: TaskId, (value, kind): Slot) -> Option<Slot> {
        if !self.tasks.get(to)?.names.has_room(RIGHTS_MAX as u32) {
            return None;
        }
        let (carried, goes) = self.fast_take(from, to, value, Disposition::from_raw(kind)?)?;
        let (value, kind) = match carried {
            Carried::Send(port) if goes => self.deposit_send(to, port),
            Carried::Send(port) => (self.put_send(to, port).into(), ArrivedKind::Send),
            Carried::Once(port) => self.deposit_once(to, port),
            Carried::Receive(_) | Carried::Nothing => return None,
        };
        Some((value, kind as u8))
    }

    /// The part of [`Kernel::fast_carry`] at the sender; nothing fails after it. Says also whether the
    /// right goes, since who gets it receives from the port.
    #[inline(always)]
    fn fast_take(
        &mut self,
        from: TaskId,
        to: TaskId,
        value: u64,
        disposition: Disposition,
    ) -> Option<(Carried, bool)> {
        let names = &mut self.tasks.get_mut(from)?.names;
        let entry = names.get(value)?;
        if !entry.is_unwatched() {
            return None;
        }
        let (port, receive, refs, once) = match entry.holds {
            Holds::Port {
                port,
                receive,
                refs,
            } => (port, receive, refs, false),
            Holds::Once { port, refs: 1 } => (port, false, 1, true),
            Holds::Once { .. } | Holds::Set(_) | Holds::Nothing { .. } => return None,
        };
        let record = self.ports.get_mut(port)?;
        if record.is_dead() {
            return None;
        }
        // What its receiver gets goes: if it was the last, somebody may have to hear that.
        let goes = record.is_held_by(to);
        match (disposition, once) {
            (Disposition::MakeSend, false) if receive && (!goes || record.sends > 0) => {
                record.sends = record.sends.saturating_add(1);
                record.make_send = record.make_send.saturating_add(1);
            }
            (Disposition::CopySend, false) if refs > 0 => {
                record.sends = record.sends.saturating_add(1);
            }
            (Disposition::MoveSend, false) if refs == 1 && !receive => {
                let told = goes || matches!(record.object, Object::Task(_));
                let silent = goes && record.is_home_alone() || may_drop_send(record);
                if told && !silent {
                    return None;
                }
                names.remove(value as Name, &mut self.names_stamp);
            }
            (Disposition::MakeSendOnce, false) if receive => {
                record.onces = record.onces.saturating_add(1);
                return Some((Carried::Once(port), goes));
            }
            (Disposition::MoveSendOnce, true) => {
                names.remove(value as Name, &mut self.names_stamp);
                return Some((Carried::Once(port), goes));
            }
            _ => return None,
        }
        Some((Carried::Send(port), goes))
    }
}

/// Whether a send right to a live port can go without anything else to do.
#[inline]
const fn may_drop_send(port: &Port) -> bool {
    match port.object {
        Object::User => port.sends > 1 || port.no_senders.is_none(),
        Object::Task(_) => false,
        _ => port.sends > 1,
    }
}
