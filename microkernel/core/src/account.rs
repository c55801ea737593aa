//! What each task has of the kernel's memory, and how much it may have.
//!
//! An [`Account`] counts bytes, by the size of the records. Who pays follows from where a thing is:
//!
//! | what | whose account |
//! |---|---|
//! | table of names, sets and what is in them, armed requests | the task that has or asked for them |
//! | thread: record, registers, IPC buffer, control port, notice | the task that it runs in |
//! | port, and the messages in its queue | who holds the receive right |
//! | task, and the quota that it was given | the task that made it |
//! | space: port, root, and the tables that are made in it later | the task that made the space |
//! | interrupt: record, port, notice | the task that made it |
//! | right to a range of I/O ports | the task that made it |
//! | tables for devices | the task that the devices are attached to |
//!
//! A receive right that moves takes its *load* along: its record, its queue, and the loads of the
//! receive rights in that queue. While it lies in a queue it is part of that queue's load, and so paid
//! for by whoever will receive it: what a sender makes somebody else keep is checked against the
//! quota of that one when it is sent, and an error of the sender's. A dead port costs nobody; it stays for
//! as long as there are names of it, which are paid for.
//!
//! Tables are made and unmade by the shell, deep in page tables, where nobody knows of accounts. It asks
//! before a piece of work how many its maker can still pay for ([`Kernel::tables_left`]), and tells
//! afterwards how many there came to be ([`Kernel::bill`]).
//!
//! What moves by itself (a request that is due becomes a queued message) is never refused: it may take
//! an account over its limit, and then nothing new can be made.

use crate::{
    interrupt::Interrupt,
    kernel::{Kernel, TaskId},
    members::Member,
    message::Message,
    port::{Place, Port, PortId, PortSet},
    slab::Slab,
    task::Task,
    thread::Thread,
};
use ipc_abi::{Kern, layout::PAGE_SIZE};

/// Frames that the shell needs for a thread: its registers and its IPC buffer.
const THREAD_FRAMES: u64 = 2;

/// A port's record.
pub(crate) const PORT: u64 = Slab::<Port>::RECORD;
/// A port set.
pub(crate) const SET: u64 = Slab::<PortSet>::RECORD;
/// A port's being in a set.
pub(crate) const MEMBER: u64 = Slab::<Member>::RECORD;
/// A message or notice without its body.
pub(crate) const MESSAGE: u64 = Slab::<Message>::RECORD;
/// A thread with all that it needs.
pub(crate) const THREAD: u64 = Slab::<Thread>::RECORD + PORT + MESSAGE + THREAD_FRAMES * PAGE_SIZE;
/// A task with its control port and the notices of its end and suspension; its names pay for themselves.
pub(crate) const TASK: u64 = Slab::<Task>::RECORD + PORT + 2 * MESSAGE;

/// A space without its tables: its port.
pub const SPACE: u64 = PORT;
/// An interrupt.
pub(crate) const INTERRUPT: u64 = Slab::<Interrupt>::RECORD + PORT + MESSAGE;

/// What a task may have if nobody says how much.
pub(crate) const DEFAULT: u64 = 16 << 20;
/// The limit of a task that may have all there is.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// Bytes that are charged to a task, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    used: u64,
    limit: u64,
}

impl Account {
    /// An account without charges.
    pub(crate) const fn new(limit: u64) -> Account {
        Account { used: 0, limit }
    }

    /// Bytes that are charged.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that may be.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// What can still be charged.
    pub(crate) const fn left(&self) -> u64 {
        match self.limit {
            UNLIMITED => UNLIMITED,
            limit => limit.saturating_sub(self.used),
        }
    }

    /// Asks whether `bytes` more can be charged.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) const fn check(&self, bytes: u64) -> Result<(), Kern> {
        if bytes > self.left() {
            return Err(Kern::ResourceShortage);
        }
        Ok(())
    }

    /// Charges `bytes`, whether or not there is room.
    pub(crate) const fn add(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Charges `bytes`.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) const fn charge(&mut self, bytes: u64) -> Result<(), Kern> {
        if self.check(bytes).is_err() {
            return Err(Kern::ResourceShortage);
        }
        self.add(bytes);
        Ok(())
    }

    /// Takes a charge back.
    pub(crate) const fn release(&mut self, bytes: u64) {
        debug_assert!(self.used >= bytes);
        self.used = self.used.saturating_sub(bytes);
    }

    /// Changes the limit.
    pub(crate) const fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }
}

/// A change of what the spaces that a task made take of the kernel's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The task, which may have ended.
    pub payer: TaskId,
    /// What there was before.
    pub before: u64,
    /// What there is now.
    pub after: u64,
}

/// What a maker sets aside for a task with this quota. One who may have all there is sets nothing aside
/// for another who may.
pub(crate) const fn set_aside(quota: u64) -> u64 {
    match quota {
        UNLIMITED => 0,
        quota => quota,
    }
}

impl Kernel {
    /// Trap `task_get_quota`: bytes in use, and the limit.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_get_quota(&self, task: u64) -> Result<(u64, u64), Kern> {
        let task = self.resolve_task(self.caller()?.task, task)?;
        let account = self.tasks.at(task).names.account;
        Ok((account.used(), account.limit()))
    }

    /// Trap `task_set_quota`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_set_quota(&mut self, host_control: u64, task: u64, limit: u64) -> Result<(), Kern> {
        self.check_host_control(host_control)?;
        let task = self.live_task(self.caller()?.task, task)?;
        let record = self.tasks.at(task);
        let (account, maker) = (record.names.account, record.maker);
        if limit < account.used() {
            return Err(Kern::InvalidValue);
        }
        if let Some(maker) = maker.and_then(|maker| self.tasks.get_mut(maker)) {
            let theirs = &mut maker.names.account;
            if limit == UNLIMITED && theirs.limit() != UNLIMITED {
                return Err(Kern::ResourceShortage);
            }
            let (before, after) = (set_aside(account.limit()), set_aside(limit));
            theirs.charge(after.saturating_sub(before))?;
            theirs.release(before.saturating_sub(after));
        }
        self.tasks.at_mut(task).names.account.set_limit(limit);
        Ok(())
    }

    /// What a task that `maker` makes is given to begin with: the usual, or an eighth of what there is.
    pub(crate) fn first_quota(&self, maker: TaskId) -> u64 {
        let left = self.tasks.at(maker).names.account.left();
        DEFAULT.min(left.saturating_sub(TASK) >> 3)
    }

    /// How many tables more the maker of a space can pay for; without one (the first space) any number.
    #[must_use]
    pub fn tables_left(&self, payer: Option<TaskId>) -> u32 {
        let Some(payer) = payer else {
            return u32::MAX;
        };
        let left = self
            .tasks
            .get(payer)
            .map_or(0, |task| task.names.account.left());
        u32::try_from(left / PAGE_SIZE).unwrap_or(u32::MAX)
    }

    /// Charges a task for its spaces, or takes a charge back.
    pub fn bill(&mut self, bill: Bill) {
        if let Some(task) = self.tasks.get_mut(bill.payer) {
            task.spaces = task
                .spaces
                .saturating_add(bill.after)
                .saturating_sub(bill.before);
            task.names.account.add(bill.after);
            task.names.account.release(bill.before);
        }
    }

    /// The account of a task.
    pub(crate) fn account(&mut self, task: TaskId) -> &mut Account {
        &mut self.tasks.at_mut(task).names.account
    }

    /// Takes a charge back from a task that may have ended.
    pub(crate) fn refund(&mut self, task: TaskId, bytes: u64) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.names.account.release(bytes);
        }
    }

    /// Who pays for what is queued at a port: the holder of the receive right, or who will have it
    /// from the queues that it lies in. `None`: nobody.
    fn payer(&self, port: PortId) -> Option<TaskId> {
        let mut at = port;
        loop {
            match self.ports.at(at).place {
                Place::Held(task, _) => return Some(task),
                Place::Transit(through) => at = through,
                Place::Moving | Place::Kernel | Place::Dead => return None,
            }
        }
    }

    /// Asks whether `bytes` more can be queued at a port.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn check_load(&self, port: PortId, bytes: u64) -> Result<(), Kern> {
        match self.payer(port) {
            Some(task) => self.tasks.at(task).names.account.check(bytes),
            None => Ok(()),
        }
    }

    /// Something came into the queue of a port.
    pub(crate) fn add_load(&mut self, port: PortId, bytes: u64) {
        self.change_load(
            port,
            |load| load.saturating_add(bytes),
            |account| account.add(bytes),
        );
    }

    /// Something left the queue of a port.
    pub(crate) fn take_load(&mut self, port: PortId, bytes: u64) {
        self.change_load(
            port,
            |load| load.saturating_sub(bytes),
            |account| account.release(bytes),
        );
    }

    /// Changes the load of a port, of those whose queues it lies in, and the account of the payer.
    fn change_load(
        &mut self,
        port: PortId,
        change: impl Fn(u64) -> u64,
        pay: impl Fn(&mut Account),
    ) {
        let mut at = port;
        loop {
            let record = self.ports.at_mut(at);
            record.load = change(record.load);
            match record.place {
                Place::Held(task, _) => return pay(self.account(task)),
                Place::Transit(through) => at = through,
                Place::Moving | Place::Kernel | Place::Dead => return,
            }
        }
    }

    /// Moves a receive right, and the charge for it.
    pub(crate) fn move_receive(&mut self, port: PortId, to: Place) {
        let record = self.ports.at_mut(port);
        let load = record.load;
        let is_empty = record.messages.is_empty();
        let from = core::mem::replace(&mut record.place, to);
        match from {
            Place::Held(task, _) => self.account(task).release(load),
            Place::Transit(through) => self.take_load(through, load),
            Place::Moving | Place::Kernel | Place::Dead => {}
        }
        match to {
            Place::Held(task, _) => self.account(task).add(load),
            Place::Transit(through) => self.add_load(through, load),
            Place::Moving | Place::Kernel | Place::Dead => return,
        }
        // The rights in its queue have come with it.
        if !is_empty {
            self.search();
        }
    }
}
