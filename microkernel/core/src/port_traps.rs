//! The traps on ports and names.

use crate::{
    account,
    kernel::{Kernel, TaskId},
    machine::Machine,
    message::{Request, Role},
    port::{LIMIT_MAX, Object, Place, PortId},
    space::{Holds, UREFS_MAX},
};
use ipc_abi::{Kern, right::Name};

impl Kernel {
    /// Trap `port_allocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_allocate(&mut self, payload: u64) -> Result<Name, Kern> {
        self.port_allocate_in(payload, 0, [0, 0])
    }

    /// Trap `port_allocate` with a set, a queue limit, and whether the port is to be told itself when
    /// its last sender has gone, perhaps by the right that comes back.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_allocate_in(
        &mut self,
        payload: u64,
        set: u64,
        [limit, told]: [u64; 2],
    ) -> Result<Name, Kern> {
        let task = self.caller()?.task;
        let set = match set {
            0 => None,
            set => Some(self.set_of(task, set)?),
        };
        let limit = u32::try_from(limit)
            .ok()
            .filter(|limit| *limit <= LIMIT_MAX);
        let limit = limit.filter(|_| told <= 2).ok_or(Kern::InvalidValue)?;
        let name = self.new_port(task, payload)?;
        let port = self.receive_right(task, name.into());
        let port = port.ok_or(Kern::Failure)?;
        if told > 0 {
            let request = Request {
                to: port,
                task,
                name,
            };
            match self.new_request(Role::Request(request)) {
                Ok(request) => {
                    self.own_once(port);
                    let record = self.ports.at_mut(port);
                    record.no_senders = Some(request);
                    record.homes = told == 2;
                }
                Err(code) => {
                    self.unmake_port(task, (name, port));
                    return Err(code);
                }
            }
        }
        if limit > 0 {
            self.ports.at_mut(port).limit = limit;
        }
        if let Some(set) = set
            && let Err(code) = self.enroll(task, port, set)
        {
            if let Some(request) = self.ports.at_mut(port).no_senders.take() {
                self.forget_request(request);
            }
            self.unmake_port(task, (name, port));
            return Err(code);
        }
        Ok(name)
    }

    /// Takes back a port that was just made, which nothing points to but its name.
    fn unmake_port(&mut self, task: TaskId, (name, port): (Name, PortId)) {
        let names = &mut self.tasks.at_mut(task).names;
        names.remove(name, &mut self.names_stamp);
        self.refund(task, account::PORT);
        self.ports.remove(port);
    }

    fn new_port(&mut self, task: TaskId, payload: u64) -> Result<Name, Kern> {
        self.ports.reserve(1)?;
        self.tasks.at_mut(task).names.reserve(1)?;
        self.account(task).charge(account::PORT)?;
        let port = self.ports.add(Object::User)?;
        let name = self.tasks.at_mut(task).names.insert(Holds::Port {
            port,
            receive: true,
            refs: 0,
        })?;
        let record = self.ports.at_mut(port);
        record.cells.payload.set(payload);
        record.load = account::PORT;
        record.place = Place::Held(task, name);
        Ok(name)
    }

    /// Trap `port_set_allocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_set_allocate(&mut self) -> Result<Name, Kern> {
        let task = self.caller()?.task;
        self.tasks.at_mut(task).names.reserve(1)?;
        self.sets.reserve(1)?;
        self.account(task).charge(account::SET)?;
        let set = self.sets.add()?;
        self.tasks.at_mut(task).names.insert(Holds::Set(set))
    }

    /// Trap `port_destroy`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_destroy(&mut self, machine: &mut impl Machine, name: u64) -> Result<(), Kern> {
        let task = self.caller()?.task;
        let entry = self.tasks.at(task).names.get(name);
        match entry.ok_or(Kern::InvalidName)?.holds {
            Holds::Set(_) | Holds::Port { receive: true, .. } => {
                self.destroy_name(machine, task, name)
            }
            _ => return Err(Kern::InvalidRight),
        }
        self.settle(machine);
        Ok(())
    }

    /// Destroys the receive right or set that a name denotes.
    pub(crate) fn destroy_name(&mut self, machine: &mut impl Machine, task: TaskId, name: u64) {
        let names = &mut self.tasks.at_mut(task).names;
        let Some(entry) = names.get_mut(name, &mut self.names_stamp) else {
            return;
        };
        match &mut entry.holds {
            Holds::Set(set) => {
                let set = *set;
                names.remove(name as Name, &mut self.names_stamp);
                self.account(task).release(account::SET);
                self.kill_set(set);
            }
            Holds::Port { port, receive, .. } => {
                let port = *port;
                *receive = false;
                self.kill_port(port);
                if !self.ports.at(port).is_dead() {
                    self.evict(machine, port);
                }
                self.free_if_drained(task, name);
            }
            Holds::Nothing { .. } | Holds::Once { .. } => {}
        }
    }

    /// Trap `port_deallocate`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_deallocate(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        count: u64,
    ) -> Result<(), Kern> {
        let task = self.caller()?.task;
        let entry = self.tasks.at(task).names.get(name);
        let refs = match entry.ok_or(Kern::InvalidName)?.holds {
            Holds::Port { refs, .. } | Holds::Once { refs, .. } if refs > 0 => refs,
            _ => return Err(Kern::InvalidRight),
        };
        let count = u32::try_from(count).map_err(|_| Kern::InvalidValue)?;
        if count == 0 || count > refs {
            return Err(Kern::InvalidValue);
        }
        if self.drop_refs(task, name, count) {
            self.settle(machine);
        }
        Ok(())
    }

    /// Gives back so many references, which are there, to the send, send-once or dead-name right of a
    /// name. `true`: that was the last.
    pub(crate) fn drop_refs(&mut self, task: TaskId, name: u64, count: u32) -> bool {
        let names = &mut self.tasks.at_mut(task).names;
        let Some(entry) = names.get_mut(name, &mut self.names_stamp) else {
            return false;
        };
        let holds = entry.holds;
        if let Holds::Port { refs, .. } | Holds::Once { refs, .. } = &mut entry.holds {
            *refs = refs.saturating_sub(count);
            if *refs > 0 {
                return false;
            }
        }
        self.free_if_drained(task, name);
        match holds {
            Holds::Port { port, .. } => self.drop_send(port),
            Holds::Once { port, .. } => self.drop_once(port),
            Holds::Nothing { .. } | Holds::Set(_) => {}
        }
        true
    }

    /// Trap `port_make_send`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_make_send(&mut self, name: u64) -> Result<(), Kern> {
        let task = self.caller()?.task;
        let entry = self
            .tasks
            .at_mut(task)
            .names
            .get_mut(name, &mut self.names_stamp);
        let entry = entry.ok_or(Kern::InvalidName)?;
        let Holds::Port {
            port,
            receive: true,
            refs,
        } = &mut entry.holds
        else {
            return Err(Kern::InvalidRight);
        };
        if *refs == UREFS_MAX {
            return Err(Kern::UrefsOverflow);
        }
        let record = self.ports.at_mut(*port);
        if *refs == 0 {
            record.sends = record.sends.saturating_add(1);
        }
        record.make_send = record.make_send.saturating_add(1);
        *refs = refs.saturating_add(1);
        Ok(())
    }

    /// Trap `port_set_attributes`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_set_attributes(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        payload: u64,
        limit: u64,
    ) -> Result<(), Kern> {
        let task = self.caller()?.task;
        let names = &self.tasks.at(task).names;
        names.get(name).ok_or(Kern::InvalidName)?;
        let port = self.receive_right(task, name).ok_or(Kern::InvalidRight)?;
        let limit = u32::try_from(limit)
            .ok()
            .filter(|limit| *limit <= LIMIT_MAX);
        let limit = limit.ok_or(Kern::InvalidValue)?;
        let record = self.ports.at_mut(port);
        record.cells.payload.set(payload);
        if limit > 0 {
            record.limit = limit;
        }
        self.room_made(port);
        self.settle(machine);
        Ok(())
    }
}
