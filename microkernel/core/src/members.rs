//! Ports in sets: a record for each pair of a port and a set that it is in.
//!
//! A port that has something to receive is on the ready lists of all its sets, else on none. What
//! passes through a port looks for its receivers at the port itself and then in its only set, one word
//! of the record; only for a port in several sets the pairs are walked, at most [`SETS_MAX`] of them.

use crate::{
    account,
    kernel::{Kernel, TaskId, ThreadId},
    list::{Linked, Links, List},
    machine::Machine,
    port::{Listed, PortId, SetId},
    slab::{Id, Record},
    space::Holds,
};
use ipc_abi::Kern;

/// Handle of a pair.
pub(crate) type MemberId = Id<Member>;

/// Most sets that a port can be in.
pub(crate) const SETS_MAX: u32 = 64;

/// Links of the pairs of a port.
pub(crate) const OF_PORT: usize = 0;
/// Links of the pairs of a set.
pub(crate) const OF_SET: usize = 1;
/// Links of those pairs of a set whose port has something to receive.
pub(crate) const READY: usize = 2;

/// A port in a set.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) port: PortId,
    pub(crate) set: SetId,
    /// Whom it is charged to.
    pub(crate) payer: TaskId,
    of_port: Links<Member>,
    of_set: Links<Member>,
    ready: Links<Member>,
}

impl Member {
    const fn new(port: PortId, set: SetId, payer: TaskId) -> Member {
        Member {
            port,
            set,
            payer,
            of_port: Links::NONE,
            of_set: Links::NONE,
            ready: Links::NONE,
        }
    }
}

impl Record for Member {
    type Cells = ();

    fn vacant(_: &()) -> Member {
        Member::new(Id::NOWHERE, Id::NOWHERE, Id::NOWHERE)
    }

    fn release(&mut self) {}
}

impl Linked<OF_PORT> for Member {
    fn links(&self) -> &Links<Member> {
        &self.of_port
    }
    fn links_mut(&mut self) -> &mut Links<Member> {
        &mut self.of_port
    }
}
impl Linked<OF_SET> for Member {
    fn links(&self) -> &Links<Member> {
        &self.of_set
    }
    fn links_mut(&mut self) -> &mut Links<Member> {
        &mut self.of_set
    }
}
impl Linked<READY> for Member {
    fn links(&self) -> &Links<Member> {
        &self.ready
    }
    fn links_mut(&mut self) -> &mut Links<Member> {
        &mut self.ready
    }
}

impl Kernel {
    /// Trap `port_move_member`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_move_member(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        set: u64,
    ) -> Result<(), Kern> {
        let task = self.caller()?.task;
        let names = &self.tasks.at(task).names;
        names.get(name).ok_or(Kern::InvalidName)?;
        let set = match set {
            0 => None,
            set => Some(self.set_of(task, set)?),
        };
        let port = self.receive_right(task, name).ok_or(Kern::InvalidRight)?;
        match set {
            Some(set) => {
                self.members.reserve(1)?;
                self.account(task).check(account::MEMBER)?;
                self.leave_sets(port);
                self.join_set(machine, task, port, set)?;
            }
            None if self.ports.at(port).members.is_empty() => return Err(Kern::NotInSet),
            None => self.leave_sets(port),
        }
        self.settle(machine);
        Ok(())
    }

    /// Trap `port_insert_member`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_insert_member(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        set: u64,
    ) -> Result<(), Kern> {
        let (task, port, set) = self.pair(name, set)?;
        if self.membership(port, set).is_some() {
            return Err(Kern::AlreadyInSet);
        }
        if self.ports.at(port).sets >= SETS_MAX {
            return Err(Kern::ResourceShortage);
        }
        self.join_set(machine, task, port, set)?;
        self.settle(machine);
        Ok(())
    }

    /// Trap `port_extract_member`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_extract_member(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        set: u64,
    ) -> Result<(), Kern> {
        let (_, port, set) = self.pair(name, set)?;
        let member = self.membership(port, set).ok_or(Kern::NotInSet)?;
        self.leave_set(member);
        self.settle(machine);
        Ok(())
    }

    fn pair(&self, name: u64, set: u64) -> Result<(TaskId, PortId, SetId), Kern> {
        let task = self.caller()?.task;
        let names = &self.tasks.at(task).names;
        names.get(name).ok_or(Kern::InvalidName)?;
        let set = self.set_of(task, set)?;
        let port = self.receive_right(task, name).ok_or(Kern::InvalidRight)?;
        Ok((task, port, set))
    }

    /// The set that a name denotes.
    pub(crate) fn set_of(&self, task: TaskId, name: u64) -> Result<SetId, Kern> {
        let entry = self.tasks.at(task).names.get(name);
        match entry.ok_or(Kern::InvalidName)?.holds {
            Holds::Set(set) => Ok(set),
            _ => Err(Kern::InvalidRight),
        }
    }

    /// The pair of a port and a set that it is in.
    pub(crate) fn membership(&self, port: PortId, set: SetId) -> Option<MemberId> {
        let mut members = self.ports.at(port).members.iter(&self.members);
        members.find(|member| self.members.at(*member).set == set)
    }

    /// Puts a port into a set that it is not in. Threads that wait on the very port are told.
    fn join_set(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        port: PortId,
        set: SetId,
    ) -> Result<(), Kern> {
        self.enroll(task, port, set)?;
        self.evict(machine, port);
        Ok(())
    }

    /// Puts a port into a set that it is not in.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn enroll(&mut self, task: TaskId, port: PortId, set: SetId) -> Result<(), Kern> {
        self.account(task).check(account::MEMBER)?;
        let member = self.members.insert(Member::new(port, set, task))?;
        self.account(task).add(account::MEMBER);
        let spot = self.sets.at(set).spot;
        let record = self.ports.at_mut(port);
        record.sets = record.sets.saturating_add(1);
        record.cells.set.set((record.sets == 1).then_some(spot));
        record.members.push_back(&mut self.members, member);
        let ready = record.ready;
        let record = self.sets.at_mut(set);
        record.members.push_back(&mut self.members, member);
        if ready {
            record.ready.push_back(&mut self.members, member);
            spot.full.set(true);
        }
        if self.ports.at(port).has_item() {
            self.item_arrived(port);
            self.add_work(port);
        }
        Ok(())
    }

    /// Takes a port out of one of its sets.
    pub(crate) fn leave_set(&mut self, member: MemberId) {
        let Member {
            port, set, payer, ..
        } = *self.members.at(member);
        let record = self.ports.at_mut(port);
        record.members.remove(&mut self.members, member);
        record.sets = record.sets.saturating_sub(1);
        let only = match record.sets {
            1 => record.members.first(),
            _ => None,
        };
        let only = only.map(|only| self.sets.at(self.members.at(only).set).spot);
        record.cells.set.set(only);
        let set = self.sets.at_mut(set);
        if record.ready {
            set.ready.remove(&mut self.members, member);
            set.spot.full.set(!set.ready.is_empty());
        }
        set.members.remove(&mut self.members, member);
        // Ready means: on the lists of its sets.
        record.ready = record.ready && record.sets > 0;
        self.members.remove(member);
        self.refund(payer, account::MEMBER);
    }

    /// Takes a port out of all its sets.
    pub(crate) fn leave_sets(&mut self, port: PortId) {
        while let Some(member) = self.ports.at(port).members.first() {
            self.leave_set(member);
        }
    }

    /// The first thread that waits for one of the sets of a port that is in several.
    #[cold]
    #[inline(never)]
    pub(crate) fn waiting_in_sets(&self, port: PortId) -> Option<ThreadId> {
        let mut members = self.ports.at(port).members.iter(&self.members);
        members.find_map(|member| self.sets.at(self.members.at(member).set).spot.first())
    }

    /// Something came into a queue of a port: its sets may have to know.
    #[inline]
    pub(crate) fn item_arrived(&mut self, port: PortId) {
        if self.ports.at_mut(port).arrived() {
            self.list(port);
        }
    }

    /// Does what `Port::arrived` says.
    #[inline(never)]
    pub(crate) fn list(&mut self, port: PortId) {
        self.each_ready_list(port, |ready, members, member| {
            ready.push_back(members, member);
        });
    }

    /// Something was received from a port: the next members of its sets have their turn.
    #[inline]
    pub(crate) fn item_taken(&mut self, port: PortId) {
        if let Some(listed) = self.ports.at_mut(port).departed() {
            self.list_again(port, listed);
        }
    }

    /// Does what `Port::departed` says, if something was received.
    #[inline(never)]
    pub(crate) fn list_again(&mut self, port: PortId, listed: Listed) {
        self.each_ready_list(port, |ready, members, member| {
            ready.remove(members, member);
            if listed == Listed::Last {
                ready.push_back(members, member);
            }
        });
    }

    /// Something left a queue of a port: its sets may have nothing to receive there any more.
    #[inline]
    pub(crate) fn item_gone(&mut self, port: PortId) {
        if self.ports.at_mut(port).departed() == Some(Listed::No) {
            self.list_again(port, Listed::No);
        }
    }

    #[inline]
    fn each_ready_list(
        &mut self,
        port: PortId,
        change: impl Fn(&mut List<Member, READY>, &mut crate::slab::Slab<Member>, MemberId),
    ) {
        let mut next = self.ports.at(port).members.first();
        while let Some(member) = next {
            next = List::<Member, OF_PORT>::next(&self.members, member);
            let set = self.members.at(member).set;
            let set = self.sets.at_mut(set);
            change(&mut set.ready, &mut self.members, member);
            set.spot.full.set(!set.ready.is_empty());
        }
    }
}
