//! The rules about who pays for what, and about the owners of frames.

use crate::{
    account,
    kernel::{Kernel, TaskId},
    message::Carried,
    port::{Object, Place},
    servers,
    space::Holds,
};
use alloc::{collections::BTreeMap, format, string::String};

impl Kernel {
    pub(super) fn check_loads(&self) -> Result<(), String> {
        for (id, port) in self.ports.iter() {
            if port.is_dead() || port.object != Object::User {
                continue;
            }
            let mut load = account::PORT;
            let mut carry = |cargo: &[Carried]| {
                for carried in cargo {
                    if let Carried::Receive(port) = *carried
                        && self.ports.at(port).place == Place::Transit(id)
                    {
                        load = load.saturating_add(self.ports.at(port).load);
                    }
                }
            };
            let mut queued: u64 = 0;
            for message in port.messages.iter(&self.messages) {
                let record = self.messages.at(message);
                queued = queued.saturating_add(record.cost);
                carry(&record.cargo);
            }
            for thread in port.callers.iter() {
                let thread = self.threads.at(thread);
                carry(&thread.cargo);
                if let Some(message) = thread.forwarded.get() {
                    queued = queued.saturating_add(self.messages.at(message).cost);
                }
            }
            let load = load.saturating_add(queued);
            ensure!(
                port.load == load,
                "port {id:?} has a load of {} and not of {load}",
                port.load
            );
        }
        Ok(())
    }

    pub(super) fn check_servers(&self) -> Result<(), String> {
        for (owner, server) in self.servers.iter() {
            let (counted, there) = self.count_spaces(owner);
            ensure!(
                counted == there,
                "owner {owner:?} counts {counted} spaces, there are {there}"
            );
            let above = server.parent.and_then(|parent| self.servers.get(parent));
            ensure!(
                server.parent.is_none() || above.is_some(),
                "owner {owner:?} has nobody above it"
            );
            let stands = self
                .ports
                .get(server.port)
                .is_some_and(|port| port.object == Object::HostMemory(owner) && !port.is_dead());
            ensure!(
                stands == (server.life == servers::Life::Alive),
                "owner {owner:?} is {:?} and its port is not",
                server.life
            );
            if let servers::Life::Ended { .. } = server.life {
                ensure!(counted == 0, "owner {owner:?} ended with spaces");
            }
        }
        Ok(())
    }

    pub(super) fn check_accounts(&self) -> Result<(), String> {
        let mut owed: BTreeMap<u32, u64> = BTreeMap::new();
        let mut charge = |task: TaskId, bytes: u64| {
            if self.tasks.get(task).is_some() {
                let sum = owed.entry(task.index()).or_default();
                *sum = sum.saturating_add(bytes);
            }
        };
        for (id, task) in self.tasks.iter() {
            charge(id, task.names.bytes());
            charge(id, task.spaces);
            for index in 0..task.names.slots() {
                if let Some((_, entry)) = task.names.at_index(index)
                    && let Holds::Set(_) = entry.holds
                {
                    charge(id, account::SET);
                }
            }
            if let Some(maker) = task.maker {
                let quota = account::set_aside(task.names.account.limit());
                charge(maker, account::TASK.saturating_add(quota));
            }
        }
        for (_, member) in self.members.iter() {
            charge(member.payer, account::MEMBER);
        }
        for (_, thread) in self.threads.iter() {
            charge(thread.task, account::THREAD);
        }
        for (_, interrupt) in self.interrupts.iter() {
            charge(interrupt.maker, account::INTERRUPT);
        }
        for (_, server) in self.servers.iter() {
            if let Some(maker) = server.maker {
                charge(maker, servers::SERVER);
            }
        }
        for (_, port) in self.ports.iter() {
            match (port.place, port.object) {
                (Place::Held(task, _), _) => charge(task, port.load),
                (Place::Kernel, Object::IoPorts { maker, .. }) => charge(maker, account::PORT),
                _ => {}
            }
        }
        for (_, message) in self.messages.iter() {
            if let Some(request) = message.role.request() {
                charge(request.task, message.cost);
            }
        }
        for (id, task) in self.tasks.iter() {
            let owed = owed.get(&id.index()).copied().unwrap_or(0);
            let used = task.names.account.used();
            ensure!(
                used == owed,
                "task {id:?} is charged with {used} bytes and has {owed}"
            );
        }
        Ok(())
    }
}
