//! Ports and rights as one would write them down without a thought for speed: maps and vectors,
//! counts found by counting, errors undone by putting the old state back.
//!
//! The kernel is held against it operation by operation (`tests/naive.rs`). It knows no blocking
//! sends and receives and no sets; those are the matter of the other tests.

use ipc_abi::{
    Kern, notify,
    port::{PortType, RightKind},
    right::{ArrivedKind, Disposition},
};
use std::collections::{BTreeMap, VecDeque};

/// Number of a port in the model.
pub type PortNumber = usize;
/// Number of a task in the model.
pub type TaskNumber = usize;
/// Number of a thread in the model.
pub type ThreadNumber = usize;

/// A right on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The receive right.
    Receive(PortNumber),
    /// A send right.
    Send(PortNumber),
    /// A send-once right.
    Once(PortNumber),
}

/// What a name denotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The port.
    pub port: PortNumber,
    /// Whether the receive right is here.
    pub receive: bool,
    /// User references of the send right, send-once right or dead name.
    pub refs: u64,
    /// Whether it is a send-once right.
    pub once: bool,
    /// Who is to be told of the port's death.
    pub watch: Option<PortNumber>,
    /// Who is to be told of room at the port, and whether that is due.
    pub possible: Option<(PortNumber, bool)>,
}

impl Held {
    /// What a name holds when it is made.
    pub fn new(port: PortNumber, right: Right) -> Held {
        Held {
            port,
            receive: matches!(right, Right::Receive(_)),
            refs: u64::from(!matches!(right, Right::Receive(_))),
            once: matches!(right, Right::Once(_)),
            watch: None,
            possible: None,
        }
    }
}

/// What a sender wants if there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To fail.
    Nothing,
    /// To be told as it has asked before.
    AsAsked,
    /// To be told at the port of this name.
    At(u64),
}

/// Something to receive.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its first word.
    pub word: u64,
    /// Its rights.
    pub rights: Vec<Option<Right>>,
    /// The thread that waits for the answer, if it is a call.
    pub caller: Option<ThreadNumber>,
}

/// A port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Whether its receive right has been destroyed.
    pub dead: bool,
    /// Its payload.
    pub payload: u64,
    /// How many send rights have been made from its receive right.
    pub make_send: u64,
    /// What lies in its queue, in the order in which it came.
    pub items: VecDeque<Item>,
    /// Notices that lie there too: id and first word, and the right that one may carry.
    pub notices: Vec<(u32, u64, Option<Right>)>,
    /// Who is to be told that it has no senders.
    pub watch: Option<PortNumber>,
    /// Who is to get it instead of its end.
    pub destroyed: Option<PortNumber>,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It can make traps.
    Free,
    /// Its call is queued at a port.
    Calling(PortNumber),
    /// A task has its token, received through a port.
    Awaiting(TaskNumber, PortNumber, u64),
    /// It has ended.
    Gone,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its task.
    pub task: TaskNumber,
    /// What it does.
    pub doing: Doing,
    /// The code with which its trap ended while another acted.
    pub code: Option<Kern>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Naive {
    /// Ports, dead ones included.
    pub ports: Vec<Port>,
    /// The names of each task.
    pub tasks: Vec<BTreeMap<u64, Held>>,
    /// Threads, ended ones included.
    pub threads: Vec<Thread>,
    /// Rights that are between two places just now.
    flight: Vec<Right>,
}

/// The limit that ports have.
const LIMIT: usize = 16;

impl Naive {
    /// A new port, whose receive right a task has under this name.
    pub fn allocate(&mut self, task: TaskNumber, name: u64, payload: u64) {
        assert!(!self.tasks[task].contains_key(&name), "the name is taken");
        let port = self.ports.len();
        self.ports.push(Port {
            payload,
            ..Port::default()
        });
        let held = Held::new(port, Right::Receive(port));
        self.tasks[task].insert(name, held);
    }

    /// Trap `port_make_send`.
    pub fn make_send(&mut self, task: TaskNumber, name: u64) -> Result<(), Kern> {
        let held = self.tasks[task].get_mut(&name).ok_or(Kern::InvalidName)?;
        if !held.receive {
            return Err(Kern::InvalidRight);
        }
        held.refs += 1;
        self.ports[held.port].make_send += 1;
        Ok(())
    }

    /// Trap `port_deallocate`.
    pub fn deallocate(&mut self, task: TaskNumber, name: u64, count: u64) -> Result<(), Kern> {
        let held = self.tasks[task].get_mut(&name).ok_or(Kern::InvalidName)?;
        if held.refs == 0 {
            return Err(Kern::InvalidRight);
        }
        if count == 0 || count > held.refs {
            return Err(Kern::InvalidValue);
        }
        held.refs -= count;
        let (port, last) = (held.port, held.refs == 0 && !held.once);
        self.tidy(task, name);
        if last {
            self.look_at_senders(port);
        }
        Ok(())
    }

    /// Trap `port_destroy`.
    pub fn destroy(&mut self, task: TaskNumber, name: u64) -> Result<(), Kern> {
        let held = self.tasks[task].get_mut(&name).ok_or(Kern::InvalidName)?;
        if !held.receive {
            return Err(Kern::InvalidRight);
        }
        held.receive = false;
        let port = held.port;
        self.tidy(task, name);
        self.kill(port);
        Ok(())
    }

    /// Trap `port_mod_refs`.
    pub fn mod_refs(
        &mut self,
        task: TaskNumber,
        name: u64,
        kind: RightKind,
        delta: i64,
    ) -> Result<(), Kern> {
        let held = *self.tasks[task].get(&name).ok_or(Kern::InvalidName)?;
        let dead = self.ports[held.port].dead;
        match kind {
            RightKind::Receive if held.receive => match delta {
                0 => Ok(()),
                -1 => self.destroy(task, name),
                _ => Err(Kern::InvalidValue),
            },
            RightKind::SendOnce if held.once && !dead => match delta {
                0 => Ok(()),
                -1 => self.deallocate(task, name, 1),
                _ => Err(Kern::InvalidValue),
            },
            RightKind::Send if held.refs > 0 && !held.once && !dead => {
                self.count(task, name, delta)
            }
            RightKind::DeadName if held.refs > 0 && dead => self.count(task, name, delta),
            _ => Err(Kern::InvalidRight),
        }
    }

    fn count(&mut self, task: TaskNumber, name: u64, delta: i64) -> Result<(), Kern> {
        match delta {
            0 => Ok(()),
            i64::MIN..0 => self.deallocate(task, name, delta.unsigned_abs()),
            _ => {
                if let Some(held) = self.tasks[task].get_mut(&name) {
                    held.refs += delta.unsigned_abs();
                }
                Ok(())
            }
        }
    }

    /// The type of a name, as `port_type` gives it.
    pub fn kinds(&self, task: TaskNumber, name: u64) -> Result<PortType, Kern> {
        let held = *self.tasks[task].get(&name).ok_or(Kern::InvalidName)?;
        let mut kinds = PortType::empty();
        if self.ports[held.port].dead {
            kinds |= PortType::DEAD_NAME;
        } else if held.once {
            kinds |= PortType::SEND_ONCE;
        } else {
            kinds.set(PortType::RECEIVE, held.receive);
            kinds.set(PortType::SEND, held.refs > 0);
        }
        kinds.set(PortType::DEAD_NAME_REQUEST, held.watch.is_some());
        match held.possible {
            Some((_, true)) => kinds |= PortType::SEND_POSSIBLE_REQUEST,
            Some((_, false)) => kinds |= PortType::SEND_POSSIBLE_DELAYED,
            None => {}
        }
        Ok(kinds)
    }

    /// Trap `port_insert_right` of a task for itself: the right that was put down, and where.
    pub fn insert(
        &mut self,
        task: TaskNumber,
        name: u64,
        disposition: Disposition,
    ) -> Result<Right, Kern> {
        let names = &self.tasks[task];
        names.get(&name).ok_or(Kern::InvalidName)?;
        if disposition == Disposition::None {
            return Err(Kern::InvalidValue);
        }
        let before = names.clone();
        let right = self.take(task, name, disposition, None);
        let right = right.ok_or(Kern::InvalidRight)?;
        if !matches!(right, Right::Once(_)) {
            // It goes where it was, or where the port has its name.
            let Some(mut held) = before.get(&name).copied() else {
                return Err(Kern::InvalidName);
            };
            held.refs += u64::from(matches!(
                disposition,
                Disposition::MakeSend | Disposition::CopySend
            ));
            if held.receive && disposition == Disposition::MoveReceive {
                self.ports[held.port].make_send = 0;
            }
            self.tasks[task].insert(name, held);
        }
        Ok(right)
    }

    /// Trap `port_request_notification`: the port that the request before went to.
    pub fn request(
        &mut self,
        task: TaskNumber,
        name: u64,
        request: notify::Request,
        to: u64,
        sync: u64,
    ) -> Result<Option<PortNumber>, Kern> {
        let held = *self.tasks[task].get(&name).ok_or(Kern::InvalidName)?;
        let fits = match request {
            notify::Request::DeadName => held.refs > 0,
            notify::Request::SendPossible => held.refs > 0 && !held.once,
            notify::Request::NoSenders | notify::Request::PortDestroyed => held.receive,
        };
        if !fits {
            return Err(Kern::InvalidRight);
        }
        let mut watch = None;
        if to != 0 {
            let told = self.tasks[task].get(&to).copied();
            let told = told.filter(|told| {
                told.receive || told.once && to != name && !self.ports[told.port].dead
            });
            let told = told.ok_or(Kern::InvalidCapability)?;
            if told.once {
                self.tasks[task].remove(&to);
            }
            watch = Some(told.port);
        }
        let record = &mut self.ports[held.port];
        let mut kept = held;
        let earlier = match request {
            notify::Request::DeadName => core::mem::replace(&mut kept.watch, watch),
            notify::Request::SendPossible => {
                let possible = watch.map(|watch| (watch, sync != 0));
                let earlier = core::mem::replace(&mut kept.possible, possible);
                earlier.map(|(port, _)| port)
            }
            notify::Request::NoSenders => core::mem::replace(&mut record.watch, watch),
            notify::Request::PortDestroyed => core::mem::replace(&mut record.destroyed, watch),
        };
        self.tasks[task].insert(name, kept);
        if self.ports[held.port].dead {
            self.tell_dead_names(held.port);
        }
        if request == notify::Request::NoSenders && self.ports[held.port].make_send >= sync {
            self.look_at_senders(held.port);
        }
        Ok(earlier)
    }

    /// Whether a one-way message fits.
    fn has_room(&self, port: PortNumber) -> bool {
        let items = self.ports[port].items.iter();
        items.filter(|item| item.caller.is_none()).count() < LIMIT
    }

    /// Tells all who wait for room that has come. To be called after each operation.
    pub fn tell_possible(&mut self) {
        let mut due = Vec::new();
        for task in 0..self.tasks.len() {
            for (name, held) in &self.tasks[task] {
                if let Some((to, true)) = held.possible
                    && (self.ports[held.port].dead || self.has_room(held.port))
                {
                    due.push((task, *name, to));
                }
            }
        }
        for (task, name, to) in due {
            if let Some(held) = self.tasks[task].get_mut(&name) {
                held.possible = None;
            }
            self.tell(to, notify::SEND_POSSIBLE, name);
        }
    }

    /// The send half of a send or call: the item is queued.
    pub fn send(
        &mut self,
        task: TaskNumber,
        name: u64,
        word: u64,
        rights: &[(u64, Disposition)],
        caller: Option<ThreadNumber>,
        wanted: Wanted,
    ) -> Result<(), Kern> {
        let to = self.tasks[task].get(&name).filter(|held| held.refs > 0);
        let to = *to.ok_or(Kern::SendInvalidDest)?;
        if self.ports[to.port].dead {
            return Err(Kern::SendInvalidDest);
        }
        let told = match wanted {
            Wanted::Nothing => None,
            Wanted::AsAsked => to.possible.map(|(port, _)| port),
            Wanted::At(name) => {
                let told = self.tasks[task].get(&name).filter(|held| held.receive);
                told.map(|held| held.port)
            }
        };
        if wanted != Wanted::Nothing && told.is_none() {
            return Err(Kern::SendInvalidNotify);
        }
        let before = self.clone();
        let spent = to.once.then_some(name);
        let rights = match self.capture(task, rights, Some(to.port), spent) {
            Ok(rights) => rights,
            Err(code) => {
                *self = before;
                return Err(code);
            }
        };
        if caller.is_none() && !to.once && !self.has_room(to.port) {
            *self = before;
            if let (Some(told), Some(held)) = (told, self.tasks[task].get_mut(&name)) {
                held.possible = Some((told, true));
            }
            return Err(Kern::WouldBlock);
        }
        if to.once {
            self.tasks[task].remove(&name);
        }
        self.flight.clear();
        self.ports[to.port].items.push_back(Item {
            word,
            rights,
            caller,
        });
        if let Some(caller) = caller {
            self.threads[caller].doing = Doing::Calling(to.port);
        }
        Ok(())
    }

    /// Takes rights out of a task's names; they are in flight then.
    pub fn capture(
        &mut self,
        task: TaskNumber,
        rights: &[(u64, Disposition)],
        to: Option<PortNumber>,
        spent: Option<u64>,
    ) -> Result<Vec<Option<Right>>, Kern> {
        let mut taken = Vec::new();
        for (name, disposition) in rights {
            let right = match disposition {
                Disposition::None => None,
                _ if spent == Some(*name) => return Err(Kern::SendInvalidRight),
                _ => {
                    let right = self.take(task, *name, *disposition, to);
                    Some(right.ok_or(Kern::SendInvalidRight)?)
                }
            };
            self.flight.extend(right);
            taken.push(right);
        }
        Ok(taken)
    }

    fn take(
        &mut self,
        task: TaskNumber,
        name: u64,
        disposition: Disposition,
        to: Option<PortNumber>,
    ) -> Option<Right> {
        let held = *self.tasks[task].get(&name)?;
        let port = held.port;
        let dead = self.ports[port].dead;
        let kind = if held.once {
            Right::Once(port)
        } else {
            Right::Send(port)
        };
        let (right, refs, receive) = match disposition {
            Disposition::MakeSend if held.receive => {
                self.ports[port].make_send += 1;
                (Right::Send(port), 0, false)
            }
            Disposition::MakeSendOnce if held.receive => (Right::Once(port), 0, false),
            Disposition::MoveReceive if held.receive && self.is_no_cycle(port, to) => {
                (Right::Receive(port), 0, true)
            }
            Disposition::CopySend if held.refs > 0 && (dead || !held.once) => (kind, 0, false),
            Disposition::MoveSend if held.refs > 0 && (dead || !held.once) => (kind, 1, false),
            Disposition::MoveSendOnce if held.refs > 0 && (dead || held.once) => (kind, 1, false),
            _ => return None,
        };
        let held = self.tasks[task].get_mut(&name)?;
        held.refs -= refs;
        held.receive &= !receive;
        self.tidy(task, name);
        Some(right)
    }

    fn is_no_cycle(&self, port: PortNumber, to: Option<PortNumber>) -> bool {
        let mut at = to;
        while let Some(here) = at {
            if here == port {
                return false;
            }
            at = self.ports.iter().position(|outer| {
                let rights = outer.items.iter().flat_map(|item| &item.rights);
                let noticed = outer.notices.iter().map(|(.., right)| right);
                let mut rights = rights.chain(noticed);
                rights.any(|right| *right == Some(Right::Receive(here)))
            });
        }
        true
    }

    /// Puts rights, as they arrived, into a task's names; the values must be what they can be.
    pub fn arrive(&mut self, task: TaskNumber, rights: &[Option<Right>], arrived: &[(u64, u8)]) {
        assert_eq!(rights.len(), arrived.len());
        self.flight = rights.iter().flatten().copied().collect();
        for (right, (value, kind)) in rights.iter().zip(arrived) {
            let Some(right) = *right else {
                assert_eq!((*value, *kind), (0, ArrivedKind::None as u8));
                continue;
            };
            self.flight.remove(0);
            let expected = self.arrive_one(task, right, *value);
            assert_eq!(*kind, expected as u8, "{right:?} arrived as another kind");
        }
    }

    fn arrive_one(&mut self, task: TaskNumber, right: Right, value: u64) -> ArrivedKind {
        let (Right::Receive(port) | Right::Send(port) | Right::Once(port)) = right;
        let dead = self.ports[port].dead;
        let names = &mut self.tasks[task];
        let mut here = names
            .iter()
            .filter(|(_, held)| held.port == port && !held.once);
        let here = here.next().map(|(name, held)| (*name, *held));
        let receive = matches!(right, Right::Receive(_));
        let once = matches!(right, Right::Once(_));
        if !receive && here.is_some_and(|(_, held)| held.receive) {
            assert_eq!(value, self.ports[port].payload);
            if !once {
                self.look_at_senders(port);
            }
            return ArrivedKind::Own;
        }
        match here.filter(|_| !once) {
            Some((name, _)) => {
                assert_eq!(value, name, "rights to one port have one name");
                if let Some(held) = names.get_mut(&name) {
                    held.receive |= receive;
                    held.refs += u64::from(!receive);
                }
            }
            None => {
                assert_ne!(value, 0);
                let held = Held::new(port, right);
                assert_eq!(names.insert(value, held), None, "the name was taken");
            }
        }
        match right {
            Right::Receive(_) => {
                self.ports[port].make_send = 0;
                ArrivedKind::Receive
            }
            _ if dead => ArrivedKind::Dead,
            Right::Send(_) => ArrivedKind::Send,
            Right::Once(_) => ArrivedKind::SendOnce,
        }
    }

    /// Breaks off what a thread waits in. `false`: it waits in nothing.
    pub fn abort(&mut self, thread: ThreadNumber, code: Kern) -> bool {
        match self.threads[thread].doing {
            Doing::Free | Doing::Gone => return false,
            Doing::Calling(port) => {
                let items = &mut self.ports[port].items;
                let place = items.iter().position(|item| item.caller == Some(thread));
                let item = place.and_then(|place| items.remove(place));
                self.discard(item.map(|item| item.rights).unwrap_or_default());
            }
            Doing::Awaiting(_, port, token) => self.tell(port, notify::CANCELLED, token),
        }
        self.threads[thread].doing = Doing::Free;
        self.threads[thread].code = Some(code);
        true
    }

    /// Ends a task.
    pub fn terminate(&mut self, task: TaskNumber) {
        for thread in 0..self.threads.len() {
            if self.threads[thread].task == task {
                self.abort(thread, Kern::Aborted);
                self.threads[thread].doing = Doing::Gone;
            }
        }
        while let Some((_, held)) = self.tasks[task].pop_first() {
            if held.receive {
                self.kill(held.port);
            }
            if held.refs > 0 && !held.once {
                self.look_at_senders(held.port);
            }
        }
        for thread in &mut self.threads {
            if matches!(thread.doing, Doing::Awaiting(server, ..) if server == task) {
                thread.doing = Doing::Free;
                thread.code = Some(Kern::ReceivePortDied);
            }
        }
    }

    fn tell(&mut self, port: PortNumber, id: u32, word: u64) {
        if !self.ports[port].dead {
            self.ports[port].notices.push((id, word, None));
        }
    }

    fn kill(&mut self, port: PortNumber) {
        if let Some(to) = self.ports[port].destroyed.take()
            && !self.ports[to].dead
            && self.is_no_cycle(port, Some(to))
        {
            let carried = Some(Right::Receive(port));
            self.ports[to]
                .notices
                .push((notify::PORT_DESTROYED, 0, carried));
            return;
        }
        let record = &mut self.ports[port];
        record.dead = true;
        record.watch = None;
        let notices = core::mem::take(&mut record.notices);
        self.discard(notices.into_iter().map(|(.., right)| right).collect());
        let record = &mut self.ports[port];
        for item in core::mem::take(&mut record.items) {
            if let Some(caller) = item.caller {
                self.threads[caller].doing = Doing::Free;
                self.threads[caller].code = Some(Kern::ReceivePortDied);
            }
            self.discard(item.rights);
        }
        self.tell_dead_names(port);
    }

    fn tell_dead_names(&mut self, port: PortNumber) {
        let mut due = Vec::new();
        for names in &mut self.tasks {
            for (name, held) in names.iter_mut().filter(|(_, held)| held.port == port) {
                if let Some(to) = held.watch.take() {
                    held.refs += 1;
                    due.push((to, *name));
                }
            }
        }
        for (to, name) in due {
            self.tell(to, notify::DEAD_NAME, name);
        }
    }

    /// Destroys rights that were captured and could not arrive.
    pub fn lose(&mut self, rights: Vec<Option<Right>>) {
        self.flight.clear();
        self.discard(rights);
    }

    fn discard(&mut self, rights: Vec<Option<Right>>) {
        for right in rights.into_iter().flatten() {
            match right {
                Right::Receive(port) => self.kill(port),
                Right::Send(port) => self.look_at_senders(port),
                Right::Once(_) => {}
            }
        }
    }

    /// A send right may have gone: is there any left?
    fn look_at_senders(&mut self, port: PortNumber) {
        let held = self.tasks.iter().flat_map(|names| names.values());
        let mut held = held.filter(|held| held.port == port && !held.once && held.refs > 0);
        let sends = Right::Send(port);
        let items = self.ports.iter().flat_map(|outer| &outer.items);
        let mut transit = items.flat_map(|item| item.rights.iter().flatten());
        let left = held.next().is_some()
            || transit.any(|right| *right == sends)
            || self.flight.contains(&sends);
        if !left && let Some(to) = self.ports[port].watch.take() {
            self.tell(to, notify::NO_SENDERS, self.ports[port].make_send);
        }
    }

    /// Forgets a request with the send right that it was about, and a name that denotes nothing.
    fn tidy(&mut self, task: TaskNumber, name: u64) {
        if let Some(held) = self.tasks[task].get_mut(&name)
            && held.refs == 0
        {
            held.watch = None;
            held.possible = None;
            if !held.receive {
                self.tasks[task].remove(&name);
            }
        }
    }
}
