//! The rule that no task is left which nobody could give a thread.

use crate::{
    kernel::{Kernel, TaskId},
    message::Carried,
    port::{Object, PortId},
    space::Holds,
    task::Task,
};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

/// A task without a thread that somebody has a right to: another such task, or who can act.
type Edge = (Option<TaskId>, TaskId);

impl Kernel {
    /// Follows all rights from those who can act.
    pub(super) fn check_reach(&self) -> Result<(), String> {
        if self.has_work() {
            return Ok(());
        }
        let edges = self.rights_to_idle_tasks();
        let mut reached = BTreeSet::new();
        while let Some((_, task)) = edges.iter().find(|(holder, task)| {
            holder.is_none_or(|holder| reached.contains(&holder.index()))
                && !reached.contains(&task.index())
        }) {
            reached.insert(task.index());
        }
        for (id, task) in self.tasks.iter() {
            ensure!(
                !task.is_idle() || reached.contains(&id.index()),
                "task {id:?} has no thread, and nobody can reach it"
            );
            ensure!(
                task.suspected.is_none(),
                "task {id:?} is suspected by nobody"
            );
        }
        Ok(())
    }

    fn rights_to_idle_tasks(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut add = |holder: Option<TaskId>, port: PortId| {
            if let Some(Object::Task(task)) = self.ports.get(port).map(|port| port.object)
                && self.tasks.get(task).is_some_and(Task::is_idle)
            {
                let idle = holder.filter(|holder| self.tasks.at(*holder).is_idle());
                edges.push((idle, task));
            }
        };
        for (id, task) in self.tasks.iter() {
            for index in 0..task.names.slots() {
                let entry = task.names.at_index(index);
                if let Some(Holds::Port { port, refs, .. }) = entry.map(|(_, entry)| entry.holds)
                    && refs > 0
                {
                    add(Some(id), port);
                }
            }
            for port in task.special_ports().chain(task.handlers.ports()) {
                add(Some(id), port);
            }
        }
        for (_, thread) in self.threads.iter() {
            for port in thread.handlers.ports() {
                add(None, port);
            }
            for port in sends(&thread.cargo) {
                add(None, port);
            }
        }
        for (_, message) in self.messages.iter() {
            let receiver = message.queue.and_then(|queue| self.receiver(queue));
            for port in sends(&message.cargo) {
                add(receiver, port);
            }
        }
        edges
    }
}

fn sends(cargo: &[Carried]) -> impl Iterator<Item = PortId> {
    cargo.iter().filter_map(|carried| match *carried {
        Carried::Send(port) => Some(port),
        _ => None,
    })
}
