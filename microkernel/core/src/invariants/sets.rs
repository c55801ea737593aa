//! The rules about sets of ports, and about what threads remember of the names that they use.

use crate::{kernel::Kernel, port::Place};
use alloc::{format, string::String};
use ipc_abi::right::SpecialPort;

impl Kernel {
    pub(super) fn check_sets(&self) -> Result<(), String> {
        let mut pairs: u32 = 0;
        for (id, port) in self.ports.iter() {
            let mut counted: u32 = 0;
            let mut only = None;
            for member in port.members.iter(&self.members) {
                counted = counted.saturating_add(1);
                let record = self.members.at(member);
                ensure!(record.port == id, "pair {member:?} is another port's");
                let set = self.sets.get(record.set).ok_or("a set that is gone")?;
                only = Some(set.spot);
                let known = set.members.iter(&self.members).any(|known| known == member);
                ensure!(known, "port {id:?} is in a set that denies it");
                let listed = set.ready.iter(&self.members).any(|ready| ready == member);
                ensure!(listed == port.ready, "port {id:?} is not where it says");
            }
            pairs = pairs.saturating_add(counted);
            ensure!(counted == port.sets, "port {id:?} miscounts its sets");
            let only = only.filter(|_| counted == 1);
            let same = match (port.cells.set.get(), only) {
                (Some(set), Some(only)) => core::ptr::eq(set, only),
                (set, only) => set.is_none() && only.is_none(),
            };
            ensure!(same, "port {id:?} is wrong about its only set");
            ensure!(
                port.is_dead() || port.cells.spot.full.get() == port.has_item(),
                "port {id:?} does not know whether it has something"
            );
            ensure!(
                port.ready == (counted > 0 && port.has_item()),
                "port {id:?} is wrong about having something"
            );
            let held = matches!(port.place, Place::Held(..));
            ensure!(counted == 0 || held, "port {id:?} is in a set and not held");
        }
        ensure!(pairs == self.members.len(), "a pair was left behind");
        for (id, set) in self.sets.iter() {
            for member in set.members.iter(&self.members) {
                let record = self.members.at(member);
                ensure!(record.set == id, "pair {member:?} is another set's");
                let known = self.membership(record.port, id) == Some(member);
                ensure!(known, "set {id:?} has a port that denies it");
            }
            ensure!(
                set.spot.full.get() != set.ready.is_empty(),
                "set {id:?} does not know whether it has something"
            );
            let busy = |member| self.ports.at(self.members.at(member).port).busy;
            ensure!(
                set.dead
                    || set.ready.is_empty()
                    || set.spot.is_empty()
                    || set.ready.iter(&self.members).all(busy),
                "a thread waits beside what lies in set {id:?}"
            );
        }
        Ok(())
    }

    pub(super) fn check_hints(&self) -> Result<(), String> {
        for (id, thread) in self.threads.iter() {
            let (to, from) = (thread.sent_to.get(), thread.received_from.get());
            if to.stamp == self.names_stamp && to.found.is_some() {
                let denoted = self.send_right(thread.task, to.name);
                let found = to.found.map(|cells| cells.port.get());
                ensure!(denoted == found, "thread {id:?} sends to what is not so");
                ensure!(!thread.notice_out, "thread {id:?} may not send so fast");
            }
            if let Some(found) = thread.faults_to.get() {
                let map = self.tasks.at(thread.task).special(SpecialPort::Map);
                let found = Some(found.port.get());
                ensure!(map == found, "thread {id:?} faults to what is not so");
                ensure!(!thread.notice_out, "thread {id:?} may not fault so fast");
            }
            if from.stamp == self.names_stamp && from.found.is_some() {
                let denoted = self.source(thread.task, from.name).ok();
                ensure!(
                    denoted == from.found.map(|(source, _)| source),
                    "thread {id:?} receives from what is not so"
                );
            }
        }
        Ok(())
    }
}
