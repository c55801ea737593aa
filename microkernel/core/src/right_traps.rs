//! The traps that count references and hand rights from task to task without a message.
//!
//! A right is handed over as a message would carry it (captured, put down, made final), with the one
//! difference that it always gets a name: who hands over a right to the other's own port wants it to
//! have one.

use crate::{
    kernel::{Kernel, TaskId},
    machine::Machine,
    message::Carried,
    port_status::kind_bit,
    rights::{Route, Slots},
    space::{Entry, Holds, UREFS_MAX},
};
use ipc_abi::{
    Kern,
    buffer::RIGHTS_MAX,
    port::RightKind,
    right::{Disposition, Name},
};

impl Kernel {
    /// Trap `port_mod_refs`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_mod_refs(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        name: u64,
        right: u64,
        delta: u64,
    ) -> Result<(), Kern> {
        let kind = RightKind::from_raw(right).ok_or(Kern::InvalidValue)?;
        let task = self.task_of_names(task)?;
        let entry = self.tasks.at(task).names.get(name);
        let entry = entry.ok_or(Kern::InvalidName)?.clone();
        if !self.type_of(&entry).intersects(kind_bit(kind)) {
            return Err(Kern::InvalidRight);
        }
        let delta = delta.cast_signed();
        match (kind, entry.holds) {
            (
                RightKind::Send | RightKind::DeadName,
                Holds::Port { refs, .. } | Holds::Once { refs, .. },
            ) => self.change_refs(task, name, refs, delta)?,
            _ => match delta {
                0 => {}
                -1 => self.give_up(machine, task, name, entry.holds),
                _ => return Err(Kern::InvalidValue),
            },
        }
        self.settle(machine);
        Ok(())
    }

    fn change_refs(&mut self, task: TaskId, name: u64, refs: u32, delta: i64) -> Result<(), Kern> {
        let wanted = i64::from(refs).checked_add(delta);
        let wanted = wanted.unwrap_or(i64::MAX);
        if wanted > i64::from(UREFS_MAX) {
            return Err(Kern::UrefsOverflow);
        }
        let wanted = u32::try_from(wanted).map_err(|_| Kern::InvalidValue)?;
        if wanted == 0 {
            self.drop_refs(task, name, refs);
        } else if let Some(Entry {
            holds: Holds::Port { refs, .. } | Holds::Once { refs, .. },
            ..
        }) = self
            .tasks
            .at_mut(task)
            .names
            .get_mut(name, &mut self.names_stamp)
        {
            *refs = wanted;
        }
        Ok(())
    }

    /// Gives up the one reference of a right that has no count.
    fn give_up(&mut self, machine: &mut impl Machine, task: TaskId, name: u64, holds: Holds) {
        match holds {
            Holds::Once { .. } => {
                self.drop_refs(task, name, 1);
            }
            Holds::Set(_) | Holds::Port { .. } => self.destroy_name(machine, task, name),
            Holds::Nothing { .. } => {}
        }
    }

    /// Trap `port_insert_right`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_insert_right(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        name: u64,
        disposition: u64,
    ) -> Result<Name, Kern> {
        let disposition = right_disposition(disposition)?;
        let (me, task) = (self.caller()?.task, self.task_of_names(task)?);
        self.hand_over(machine, (me, name), disposition, task)
    }

    /// Trap `port_extract_right`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_extract_right(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        name: u64,
        disposition: u64,
    ) -> Result<Name, Kern> {
        let disposition = right_disposition(disposition)?;
        let (me, task) = (self.caller()?.task, self.task_of_names(task)?);
        self.hand_over(machine, (task, name), disposition, me)
    }

    fn hand_over(
        &mut self,
        machine: &mut impl Machine,
        (from, name): (TaskId, u64),
        disposition: Disposition,
        to: TaskId,
    ) -> Result<Name, Kern> {
        let entry = self.tasks.at(from).names.get(name);
        let holds = entry.ok_or(Kern::InvalidName)?.holds;
        self.check_refs(holds, disposition, to)?;
        self.tasks.at_mut(to).names.reserve(1)?;
        if disposition == Disposition::MoveReceive
            && let Some(port) = self.receive_right(from, name)
            && from != to
        {
            let load = self.ports.at(port).load;
            self.account(to).check(load)?;
        }
        let mut slots: Slots = [(0, 0); RIGHTS_MAX];
        if let Some(slot) = slots.first_mut() {
            *slot = (name, disposition as u8);
        }
        let route = Route {
            from,
            to: None,
            spent: None,
        };
        let cargo = self.capture(route, &slots, 1);
        let cargo = cargo.map_err(|_| Kern::InvalidRight)?;
        let given = match cargo.first() {
            Some(Carried::Send(port)) => self.put_send(to, *port),
            Some(Carried::Receive(port)) => self.deposit_receive(to, *port).0 as Name,
            Some(Carried::Once(port)) => {
                let names = &mut self.tasks.at_mut(to).names;
                // Reserved above.
                names.insert(Holds::Once {
                    port: *port,
                    refs: 1,
                })?
            }
            Some(Carried::Nothing) | None => 0,
        };
        self.commit(machine, from, &slots, &cargo);
        self.rights_move(&cargo);
        self.settle(machine);
        Ok(given)
    }

    /// Whether the name of the new owner can take another reference.
    fn check_refs(&self, holds: Holds, disposition: Disposition, to: TaskId) -> Result<(), Kern> {
        let counts = matches!(
            disposition,
            Disposition::CopySend | Disposition::MoveSend | Disposition::MakeSend
        );
        let Holds::Port { port, .. } = holds else {
            return Ok(());
        };
        let names = &self.tasks.at(to).names;
        let there = names.find(port).and_then(|name| names.get(name.into()));
        match there.map(|entry| entry.holds) {
            Some(Holds::Port { refs, .. }) if counts && refs == UREFS_MAX => {
                Err(Kern::UrefsOverflow)
            }
            _ => Ok(()),
        }
    }

    /// Trap `port_set_make_send`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_set_make_send(&mut self, task: u64, name: u64, count: u64) -> Result<(), Kern> {
        let task = self.task_of_names(task)?;
        let port = self.port_of(task, name)?;
        self.ports.at_mut(port).make_send = count;
        Ok(())
    }
}

fn right_disposition(raw: u64) -> Result<Disposition, Kern> {
    let disposition = u8::try_from(raw).ok().and_then(Disposition::from_raw);
    let disposition = disposition.filter(|disposition| *disposition != Disposition::None);
    disposition.ok_or(Kern::InvalidValue)
}
