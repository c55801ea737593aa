//! Requests: what a task asks to be told of, where that is written down, and how it is taken back.
//!
//! A request is a message that was made in time ([`Role::Request`]): it owes its port one send-once
//! right until it is due. Requests about a name (*dead name*, *send possible*) lie on lists of the
//! port and are known to the name; requests about a receive right (*no senders*, *port destroyed*) are
//! the port's own, and go where the receive right goes.

use crate::{
    account,
    kernel::{Kernel, TaskId},
    machine::Machine,
    message::{Message, MessageId, Request, Role},
    port::{Place, PortId},
    space::Holds,
};
use ipc_abi::{Kern, notify, right::Name};

/// Which requests about a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    DeadName,
    Possible,
}

/// Where the notice of a request is to go.
#[derive(Clone, Copy)]
enum Notify {
    /// Nowhere: an earlier request is taken back.
    Nobody,
    /// To a port of the caller.
    Own(PortId),
    /// By a send-once right of the caller, which that uses up.
    Once(PortId),
}

impl Notify {
    const fn port(self) -> Option<PortId> {
        match self {
            Notify::Nobody => None,
            Notify::Own(port) | Notify::Once(port) => Some(port),
        }
    }
}

impl Kernel {
    /// Trap `port_request_notification`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn port_request_notification(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        request: u64,
        notify: u64,
        sync: u64,
    ) -> Result<Name, Kern> {
        let task = self.caller()?.task;
        let request = notify::Request::from_raw(request).ok_or(Kern::InvalidValue)?;
        let port = self.watched(task, name, request)?;
        let to = self.notify_right(task, name, notify)?;
        let earlier = self.earlier(task, name, port, request);
        if earlier.is_some_and(|earlier| !self.goes_to(earlier, task)) {
            self.tasks.at_mut(task).names.reserve(1)?;
        }
        let armed = match to.port() {
            None => None,
            Some(to) => {
                let delayed = request == notify::Request::SendPossible && sync == 0;
                let name = name as Name;
                let request = Request { to, task, name };
                let role = if delayed {
                    Role::Dormant(request)
                } else {
                    Role::Request(request)
                };
                Some(self.new_request(role)?)
            }
        };
        // From here on nothing fails.
        match to {
            Notify::Nobody => {}
            Notify::Own(to) => self.own_once(to),
            Notify::Once(_) => {
                self.cancel_requests(task, notify);
                let names = &mut self.tasks.at_mut(task).names;
                names.remove(notify as Name, &mut self.names_stamp);
            }
        }
        let earlier = match request {
            notify::Request::DeadName => self.watch(Watch::DeadName, task, name, port, armed),
            notify::Request::SendPossible => self.watch(Watch::Possible, task, name, port, armed),
            notify::Request::NoSenders => {
                let record = self.ports.at_mut(port);
                let earlier = core::mem::replace(&mut record.no_senders, armed);
                if armed.is_some() && record.sends == 0 && record.make_send >= sync {
                    self.tell_no_senders(port);
                }
                earlier
            }
            notify::Request::PortDestroyed => {
                core::mem::replace(&mut self.ports.at_mut(port).destroyed, armed)
            }
        };
        let previous = earlier.map_or(0, |earlier| self.give_back(task, earlier));
        self.settle(machine);
        Ok(previous)
    }

    /// Makes a request, at the cost of the task that asks. Its send-once right is the caller's matter.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn new_request(&mut self, role: Role) -> Result<MessageId, Kern> {
        let payer = role.request().map(|request| request.task);
        let mut notice = Message::notice(role);
        notice.cost = account::MESSAGE;
        if let Some(payer) = payer {
            self.account(payer).check(account::MESSAGE)?;
        }
        let message = self.messages.insert(notice)?;
        if let Some(payer) = payer {
            self.account(payer).add(account::MESSAGE);
        }
        Ok(message)
    }

    /// Makes a send-once right that a request keeps.
    pub(crate) fn own_once(&mut self, to: PortId) {
        let onces = &mut self.ports.at_mut(to).onces;
        *onces = onces.saturating_add(1);
    }

    /// The port that a request about a name is about.
    fn watched(&self, task: TaskId, name: u64, request: notify::Request) -> Result<PortId, Kern> {
        let entry = self.tasks.at(task).names.get(name);
        let (port, receive, refs, once) = match entry.ok_or(Kern::InvalidName)?.holds {
            Holds::Port {
                port,
                receive,
                refs,
            } => (port, receive, refs, false),
            Holds::Once { port, refs } => (port, false, refs, true),
            Holds::Nothing { .. } | Holds::Set(_) => return Err(Kern::InvalidRight),
        };
        let fits = match request {
            notify::Request::DeadName => refs > 0,
            notify::Request::SendPossible => {
                refs > 0 && !once && self.ports.at(port).place != Place::Kernel
            }
            notify::Request::NoSenders | notify::Request::PortDestroyed => receive,
        };
        if fits {
            Ok(port)
        } else {
            Err(Kern::InvalidRight)
        }
    }

    /// What a task names to be told by. The name that the request is about cannot be used up for it.
    fn notify_right(&self, task: TaskId, name: u64, notify: u64) -> Result<Notify, Kern> {
        if notify == 0 {
            return Ok(Notify::Nobody);
        }
        let entry = self.tasks.at(task).names.get(notify);
        match entry.map(|entry| entry.holds) {
            Some(Holds::Port {
                port,
                receive: true,
                ..
            }) => Ok(Notify::Own(port)),
            Some(Holds::Once { port, .. }) if notify != name && !self.ports.at(port).is_dead() => {
                Ok(Notify::Once(port))
            }
            _ => Err(Kern::InvalidCapability),
        }
    }

    /// The request whose place a new one would take.
    fn earlier(
        &self,
        task: TaskId,
        name: u64,
        port: PortId,
        request: notify::Request,
    ) -> Option<MessageId> {
        let entry = self.tasks.at(task).names.get(name)?;
        let record = self.ports.at(port);
        match request {
            notify::Request::DeadName => entry.dead_name,
            notify::Request::SendPossible => entry.possible,
            notify::Request::NoSenders => record.no_senders,
            notify::Request::PortDestroyed => record.destroyed,
        }
    }

    /// Whether a request would be told to a port of this task.
    fn goes_to(&self, message: MessageId, task: TaskId) -> bool {
        let request = self.messages.at(message).role.request();
        request.is_some_and(|request| self.ports.at(request.to).is_held_by(task))
    }

    /// Ends a request that is on no list, and gives its right to a task: under the name of the port, if
    /// that is the task's own, else under a new one, for which room has been made.
    fn give_back(&mut self, task: TaskId, message: MessageId) -> Name {
        let Some(request) = self.messages.at(message).role.request() else {
            return 0;
        };
        if let Place::Held(holder, name) = self.ports.at(request.to).place
            && holder == task
        {
            self.forget_request(message);
            return name;
        }
        let cost = self.messages.at(message).cost;
        self.messages.remove(message);
        self.refund(request.task, cost);
        let names = &mut self.tasks.at_mut(task).names;
        let name = names.insert(Holds::Once {
            port: request.to,
            refs: 1,
        });
        name.unwrap_or(0)
    }

    /// Puts a request in the place of an earlier one for the same name, or of none; gives the earlier
    /// one, which is on no list then.
    pub(crate) fn watch(
        &mut self,
        watch: Watch,
        task: TaskId,
        name: u64,
        port: PortId,
        armed: Option<MessageId>,
    ) -> Option<MessageId> {
        let names = &mut self.tasks.at_mut(task).names;
        let entry = names.get_mut(name, &mut self.names_stamp)?;
        let place = match watch {
            Watch::DeadName => &mut entry.dead_name,
            Watch::Possible => &mut entry.possible,
        };
        let earlier = core::mem::replace(place, armed);
        if let Some(earlier) = earlier
            && matches!(self.messages.at(earlier).role, Role::Request(_))
        {
            let record = self.ports.at_mut(port);
            record.watchers(watch).remove(&mut self.messages, earlier);
        }
        if let Some(message) = armed
            && matches!(self.messages.at(message).role, Role::Request(_))
        {
            self.enlist(watch, port, message);
        }
        earlier
    }

    /// Puts a request on the list of its port, and has it looked at if it is due.
    fn enlist(&mut self, watch: Watch, port: PortId, message: MessageId) {
        let record = self.ports.at_mut(port);
        record
            .watchers(watch)
            .push_back(&mut self.messages, message);
        if record.is_dead() || watch == Watch::Possible && record.has_room() {
            self.add_work(port);
        }
    }

    /// Wakes the *send possible* request of a name whose port has no room.
    pub(crate) fn arm_possible(&mut self, task: TaskId, name: u64, port: PortId) {
        let entry = self.tasks.at(task).names.get(name);
        let Some(message) = entry.and_then(|entry| entry.possible) else {
            return;
        };
        let record = self.messages.at_mut(message);
        if let Role::Dormant(request) = record.role {
            record.role = Role::Request(request);
            self.enlist(Watch::Possible, port, message);
        }
    }

    /// Takes back what was asked about a name's send right.
    pub(crate) fn cancel_requests(&mut self, task: TaskId, name: u64) {
        let Some(entry) = self.tasks.at(task).names.get(name) else {
            return;
        };
        if entry.dead_name.is_none() && entry.possible.is_none() {
            return;
        }
        if let Holds::Port { port, .. } | Holds::Once { port, .. } = entry.holds {
            for watch in [Watch::DeadName, Watch::Possible] {
                if let Some(earlier) = self.watch(watch, task, name, port, None) {
                    self.forget_request(earlier);
                }
            }
        }
    }

    /// Frees a request that is on no list.
    pub(crate) fn forget_request(&mut self, message: MessageId) {
        let Some(record) = self.messages.get(message) else {
            return;
        };
        let (role, cost) = (record.role, record.cost);
        self.messages.remove(message);
        if let Some(request) = role.request() {
            self.refund(request.task, cost);
            self.drop_once(request.to);
        }
    }
}
