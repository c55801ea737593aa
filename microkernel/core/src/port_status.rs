//! The traps that ask: what names there are, what they denote, how a port is.
//!
//! They change nothing. What does not fit two registers goes to the caller's IPC buffer. A name space
//! is listed by place, a bounded number of places a trap, so that one that changes meanwhile is still
//! listed to its end.

use crate::{
    kernel::{Kernel, TaskId},
    machine::Machine,
    message::Role,
    port::{PortId, SetId},
    space::{Entry, Holds},
};
use alloc::vec::Vec;
use ipc_abi::{
    Kern,
    port::{NAMES_MAX, NameEntry, PortFlags, PortStatus, PortType, RightKind},
};

impl Kernel {
    /// The task whose names a trap is about: the caller's own, or that of a control port.
    ///
    /// # Errors
    /// KERN_INVALID_TASK.
    pub(crate) fn task_of_names(&self, task: u64) -> Result<TaskId, Kern> {
        let me = self.caller()?.task;
        match task {
            0 => Ok(me),
            _ => self.live_task(me, task),
        }
    }

    /// Trap `port_get_refs`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_get_refs(&self, task: u64, name: u64, right: u64) -> Result<u64, Kern> {
        let kind = RightKind::from_raw(right).ok_or(Kern::InvalidValue)?;
        let task = self.task_of_names(task)?;
        let entry = self.tasks.at(task).names.get(name);
        let entry = entry.ok_or(Kern::InvalidName)?;
        if !self.type_of(entry).intersects(kind_bit(kind)) {
            return Ok(0);
        }
        Ok(match (kind, entry.holds) {
            (
                RightKind::Send | RightKind::DeadName,
                Holds::Port { refs, .. } | Holds::Once { refs, .. },
            ) => u64::from(refs),
            _ => 1,
        })
    }

    /// Trap `port_type`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_type(&self, task: u64, name: u64) -> Result<u64, Kern> {
        let task = self.task_of_names(task)?;
        let entry = self.tasks.at(task).names.get(name);
        let kinds = self.type_of(entry.ok_or(Kern::InvalidName)?);
        Ok(u64::from(kinds.bits()))
    }

    /// Trap `port_names`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_names(
        &self,
        machine: &mut impl Machine,
        task: u64,
        set: u64,
        from: u64,
    ) -> Result<[u64; 2], Kern> {
        let me = self.caller()?;
        let task = self.task_of_names(task)?;
        let names = &self.tasks.at(task).names;
        let set = match set {
            0 => None,
            set => Some(self.set_of(task, set)?),
        };
        let slots = names.slots();
        let first = u32::try_from(from).unwrap_or(slots);
        let end = first.saturating_add(NAMES_MAX as u32).min(slots);
        let mut bytes = Vec::new();
        let room = bytes.try_reserve_exact(8 * NAMES_MAX);
        room.map_err(|_| Kern::ResourceShortage)?;
        let mut count = 0u64;
        for index in first..end {
            if let Some((name, entry)) = names.at_index(index)
                && set.is_none_or(|set| self.is_member(entry, set))
            {
                let kind = self.type_of(entry);
                bytes.extend_from_slice(&NameEntry { name, kind }.to_word().to_le_bytes());
                count = count.saturating_add(1);
            }
        }
        machine.write_body(me.context, &bytes);
        Ok([count, if end < slots { u64::from(end) } else { 0 }])
    }

    /// Trap `port_get_status`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_get_status(
        &self,
        machine: &mut impl Machine,
        task: u64,
        name: u64,
    ) -> Result<u64, Kern> {
        let me = self.caller()?;
        let task = self.task_of_names(task)?;
        let port = self.port_of(task, name)?;
        let mut bytes = [0; 8 * PortStatus::WORDS];
        let words = self.status(port).to_words();
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        machine.write_body(me.context, &bytes);
        Ok(PortStatus::WORDS as u64)
    }

    /// The port of which a name is the receive right, for traps that say what is wrong.
    ///
    /// # Errors
    /// KERN_INVALID_NAME; KERN_INVALID_RIGHT.
    pub(crate) fn port_of(&self, task: TaskId, name: u64) -> Result<PortId, Kern> {
        let names = &self.tasks.at(task).names;
        names.get(name).ok_or(Kern::InvalidName)?;
        self.receive_right(task, name).ok_or(Kern::InvalidRight)
    }

    /// What an entry denotes.
    pub(crate) fn type_of(&self, entry: &Entry) -> PortType {
        let mut kinds = match entry.holds {
            Holds::Nothing { .. } => PortType::empty(),
            Holds::Set(_) => PortType::PORT_SET,
            Holds::Port { port, .. } | Holds::Once { port, .. }
                if self.ports.at(port).is_dead() =>
            {
                PortType::DEAD_NAME
            }
            Holds::Once { .. } => PortType::SEND_ONCE,
            Holds::Port { receive, refs, .. } => {
                let mut kinds = PortType::empty();
                kinds.set(PortType::RECEIVE, receive);
                kinds.set(PortType::SEND, refs > 0);
                kinds
            }
        };
        kinds.set(PortType::DEAD_NAME_REQUEST, entry.dead_name.is_some());
        if let Some(possible) = entry.possible {
            kinds |= match self.messages.at(possible).role {
                Role::Dormant(_) => PortType::SEND_POSSIBLE_DELAYED,
                _ => PortType::SEND_POSSIBLE_REQUEST,
            };
        }
        kinds
    }

    fn is_member(&self, entry: &Entry, set: SetId) -> bool {
        match entry.holds {
            Holds::Port {
                port,
                receive: true,
                ..
            } => self.membership(port, set).is_some(),
            _ => false,
        }
    }

    fn status(&self, port: PortId) -> PortStatus {
        let record = self.ports.at(port);
        let mut flags = PortFlags::empty();
        flags.set(PortFlags::SENDERS, record.sends > 0);
        flags.set(PortFlags::CALLERS, !record.callers.is_empty());
        flags.set(PortFlags::NO_SENDERS_REQUEST, record.no_senders.is_some());
        // One that is ending has it no more.
        let sets = record.members.iter(&self.members);
        let sets = sets.filter(|member| !self.sets.at(self.members.at(*member).set).dead);
        let destroyed = record.destroyed.is_some();
        flags.set(PortFlags::PORT_DESTROYED_REQUEST, destroyed);
        PortStatus {
            payload: record.cells.payload.get(),
            make_send: record.make_send,
            limit: u64::from(record.limit),
            queued: u64::from(record.queued),
            onces: u64::from(record.onces),
            sets: sets.count() as u64,
            flags,
        }
    }
}

/// The bit of a type that says that a name denotes such a right.
pub(crate) const fn kind_bit(kind: RightKind) -> PortType {
    PortType::from_bits_retain(kind.bit())
}
