//! The fast paths: a call, an answer, a fault and an exception that meet somebody who waits.
//! Messages with a right are in `fast_rights`.
//!
//! Sender and receiver are known, nothing is queued, nobody else wants the processor: then the
//! message goes straight from thread to thread, and its words stay in the registers where they are.
//! Each function here either does all that the general path would, or gives `None` and has changed
//! nothing: then the general path decides, with every error in its order. So a fast path needs no
//! error codes; the tests of `model` compare the two after every step of random schedules.
//!
//! A thread that must not run, since it is suspended, has rank 0, which is above no queue.
//! What a fast path leaves out is what cannot be needed: no queue is entered, the run queue holds
//! nobody as important as the receiver, so no slice begins, and no deadline comes before one that is
//! looked for already, so the alarm stays as it is.

use crate::{
    kernel::{Kernel, Running, ThreadId},
    list::List,
    machine::{Context, Position, SpaceId},
    port::{Port, PortId, PortSet},
    slab::Slab,
    space::Holds,
    thread::{Call, Hint, Level, QUEUE, Source, State, Thread},
};
use ipc_abi::{
    buffer::BODY_SIZE,
    exception::{Behavior, Exception, Kind},
    fault::Fault,
    message::{FOREVER, Outcome},
    right::SpecialPort,
    types::Prot,
};

/// What the shell has to do after a fast path: make `to` the running thread and give it its results.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Who goes on.
    pub to: Context,
    /// RAX of its trap.
    pub outcome: Outcome,
    /// RDI of its trap.
    pub payload: u64,
    /// RSI of its trap.
    pub token: u64,
    /// The kernel's number of the thread that it comes from.
    pub from: u64,
}

/// What a thread calls with.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Message,
    Fault(Fault),
    Exception(Level),
}

impl What {
    const fn call(self) -> Call {
        match self {
            What::Message => Call::Message,
            What::Fault(_) => Call::Fault,
            What::Exception(level) => Call::Exception(level),
        }
    }
}

impl Kernel {
    /// Says, after whatever went the general way, whether the next trap may try a fast one: not if
    /// work is left, which the general way does a piece of, nor if somebody wants to see it all.
    #[inline]
    pub fn allow_fast(&mut self, allowed: bool) {
        self.fast = allowed && !self.has_work();
    }

    /// Whether the next trap may try a fast path.
    #[inline]
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.fast
    }

    /// The call of the running thread, if a thread waits for it: everything but words and body.
    #[inline(always)]
    pub fn fast_call(&mut self, destination: u64, info: u64, deadline: u64) -> Option<Handed> {
        let me = self.fast_caller(info)?;
        let find = |kernel: &Kernel, caller: &Thread| {
            let known = caller.sent_to.get().get(destination, kernel.names_stamp);
            match known {
                Some(port) => Some(port),
                None => kernel.find_destination(me, destination),
            }
        };
        self.fast_hand_over(me, find, What::Message, deadline)
    }

    /// The page fault of the running thread, if its server waits for it.
    #[inline(always)]
    pub fn fast_fault(&mut self, address: u64, access: Prot, ip: u64) -> Option<Handed> {
        let me = self.fast_caller(0)?;
        let find =
            |kernel: &Kernel, _: &Thread| kernel.tasks.get(me.task)?.special(SpecialPort::Map);
        let fault = Fault {
            address,
            access,
            ip,
            thread: u64::from(me.thread.index()),
        };
        self.fast_hand_over(me, find, What::Fault(fault), FOREVER)
    }

    /// The running thread, if what it does could go a fast way at all.
    #[inline(always)]
    pub(crate) fn fast_caller(&self, info: u64) -> Option<Running> {
        // Above the id there is the length of the body; then come rights and marks.
        let short = info >> 32 <= BODY_SIZE as u64;
        (short && self.fast).then_some(self.current?)
    }

    /// Hands what a thread calls with to the first that waits at the port that `find` finds.
    #[inline(always)]
    pub(crate) fn fast_hand_over(
        &mut self,
        me: Running,
        find: impl FnOnce(&Kernel, &Thread) -> Option<PortId>,
        what: What,
        deadline: u64,
    ) -> Option<Handed> {
        let caller = self.threads.get(me.thread)?;
        let port = find(self, caller)?;
        let record = self.ports.get_mut(port)?;
        let payload = record.payload;
        let receivers = match record.receivers.first() {
            Some(_) => &mut record.receivers,
            None => &mut self.sets.get_mut(record.set?)?.receivers,
        };
        let first = receivers.first()?;
        let receiver = self.threads.get(first)?;
        let State::Receiving { sent, .. } = receiver.state.get() else {
            return None;
        };
        let ready = !caller.notice_out && caller.timer_key <= deadline;
        if !ready || !self.run_queue.is_below(receiver.rank) {
            return None;
        }
        // From here on nothing fails.
        let server = receiver.run(first);
        let number = self.calls.wrapping_add(1);
        if let What::Fault(fault) = what {
            caller.fault.set(fault);
        }
        caller.call.set(number);
        caller.deadline.set(deadline);
        receiver.deadline.set(FOREVER);
        caller.state.set(State::Awaiting {
            server: server.task,
            through: port,
            call: what.call(),
        });
        self.calls = number;
        self.priority = receiver.priority;
        self.current = Some(server);
        receivers.take_first(&mut self.threads);
        Some(Handed {
            to: server.context,
            outcome: sent,
            payload,
            token: crate::call::token(me.thread, number),
            from: u64::from(me.thread.index()),
        })
    }

    /// The answer of the running thread to a call; then it waits again. Everything but words and
    /// body.
    #[inline(always)]
    pub fn fast_answer(
        &mut self,
        token: u64,
        (source, deadline): (u64, u64),
        info: u64,
    ) -> Option<Handed> {
        let me = self.fast_caller(info)?;
        let to = self.fast_reply(me, token, (source, deadline), |_, call| {
            call == Call::Message
        })?;
        Some(Handed {
            to,
            outcome: Outcome(Outcome::SENT),
            payload: 0,
            token: 0,
            from: 0,
        })
    }

    /// The answer of the running thread to a fault or an exception, of which `code` is the first word;
    /// then it waits again. `enter` enters what the answer to a fault brings into a space, or refuses.
    /// Gives who goes on, as it was.
    #[inline(always)]
    pub fn fast_fault_answer(
        &mut self,
        token: u64,
        (source, deadline): (u64, u64),
        code: u64,
        enter: impl FnOnce(SpaceId) -> bool,
    ) -> Option<Context> {
        let me = self.fast_caller(0)?;
        self.fast_reply(me, token, (source, deadline), |caller, call| match call {
            Call::Fault => enter(caller.space),
            Call::Exception(_) => code == 0,
            Call::Message => false,
        })
    }

    /// The exception of the running thread, if a handler waits for it: the first that there is.
    pub fn fast_exception(
        &mut self,
        kind: Kind,
        (code, subcode): (u64, u64),
        position: Position,
    ) -> Option<(Handed, Exception)> {
        let me = self.fast_caller(0)?;
        let thread = self.threads.get(me.thread)?;
        let (level, handler) = match thread.handlers.get(kind) {
            Some(handler) => (Level::Thread, handler),
            None => (Level::Task, self.tasks.get(me.task)?.handlers.get(kind)?),
        };
        if handler.behavior != Behavior::empty() {
            return None;
        }
        thread.behavior.set(handler.behavior);
        let port = handler.port;
        let what = What::Exception(level);
        let handed = self.fast_hand_over(me, |_, _| Some(port), what, FOREVER)?;
        let exception = Exception {
            kind,
            code,
            subcode,
            ip: position.ip,
            sp: position.sp,
            thread: u64::from(me.thread.index()),
        };
        self.threads.get_mut(me.thread)?.exception = exception;
        Some((handed, exception))
    }

    /// Gives the processor to the thread whose token this is, if `finish` agrees, and has the running
    /// one wait where nothing has come yet.
    #[inline(always)]
    pub(crate) fn fast_reply(
        &mut self,
        me: Running,
        token: u64,
        (source, deadline): (u64, u64),
        finish: impl FnOnce(&Thread, Call) -> bool,
    ) -> Option<Context> {
        let replier = self.threads.get(me.thread)?;
        if replier.timer_key > deadline {
            return None;
        }
        let source = match replier.received_from.get().get(source, self.names_stamp) {
            Some(source) => source,
            None => self.find_source(me, source)?,
        };
        let receivers = vacant(&mut self.ports, &mut self.sets, source)?;
        let (id, caller) = self.threads.by_index(crate::call::token_thread(token))?;
        let State::Awaiting { server, call, .. } = caller.state.get() else {
            return None;
        };
        let meant = server == me.task && crate::call::token(id, caller.call.get()) == token;
        if !meant || !self.run_queue.is_below(caller.rank) || !finish(caller, call) {
            return None;
        }
        // From here on nothing fails.
        let to = caller.run(id);
        caller.deadline.set(FOREVER);
        replier.deadline.set(deadline);
        self.priority = caller.priority;
        self.current = Some(to);
        replier.state.set(State::Receiving {
            source,
            sent: Outcome(Outcome::SENT),
        });
        receivers.append(&mut self.threads, me.thread);
        Some(to.context)
    }

    /// The one-way message of the running thread to one that waits for it; then the sender waits
    /// itself. Everything but words and body. `notify`: the name that *send possible* would go to.
    #[inline(always)]
    pub fn fast_send(
        &mut self,
        destination: u64,
        (source, deadline): (u64, u64),
        info: u64,
        notify: Option<u64>,
    ) -> Option<Handed> {
        let me = self.fast_caller(info)?;
        if let Some(name) = notify {
            self.receive_right(me.task, name)?;
        }
        let sender = self.threads.get(me.thread)?;
        if sender.timer_key > deadline {
            return None;
        }
        let port = match sender.sent_to.get().get(destination, self.names_stamp) {
            Some(port) => port,
            None => self.find_destination(me, destination)?,
        };
        let source = match sender.received_from.get().get(source, self.names_stamp) {
            Some(source) => source,
            None => self.find_source(me, source)?,
        };
        vacant(&mut self.ports, &mut self.sets, source)?;
        let record = self.ports.get_mut(port)?;
        let payload = record.payload;
        let receivers = match record.receivers.first() {
            Some(_) => &mut record.receivers,
            None => &mut self.sets.get_mut(record.set?)?.receivers,
        };
        let first = receivers.first()?;
        let receiver = self.threads.get(first)?;
        let State::Receiving { sent, .. } = receiver.state.get() else {
            return None;
        };
        if !self.run_queue.is_below(receiver.rank) {
            return None;
        }
        // From here on nothing fails.
        let to = receiver.run(first);
        receiver.deadline.set(FOREVER);
        sender.deadline.set(deadline);
        sender.state.set(State::Receiving {
            source,
            sent: Outcome(Outcome::SENT),
        });
        self.priority = receiver.priority;
        self.current = Some(to);
        receivers.take_first(&mut self.threads);
        if let Some(receivers) = vacant(&mut self.ports, &mut self.sets, source) {
            receivers.append(&mut self.threads, me.thread);
        }
        Some(Handed {
            to: to.context,
            outcome: sent,
            payload,
            token: 0,
            from: 0,
        })
    }

    /// The live port that the running thread sends to, remembered for the next time.
    #[cold]
    #[inline(never)]
    pub(crate) fn find_destination(&self, me: Running, name: u64) -> Option<PortId> {
        let entry = self.tasks.get(me.task)?.names.get(name)?;
        let Holds::Port { port, refs, .. } = entry.holds else {
            return None;
        };
        if refs == 0 {
            return None;
        }
        entry.remember();
        self.threads.get(me.thread)?.sent_to.set(Hint {
            name,
            stamp: self.names_stamp,
            found: Some(port),
        });
        Some(port)
    }

    /// What the running thread receives from, remembered for the next time.
    #[cold]
    #[inline(never)]
    pub(crate) fn find_source(&self, me: Running, name: u64) -> Option<Source> {
        let source = self.source(me.task, name).ok()?;
        self.tasks.get(me.task)?.names.get(name)?.remember();
        self.threads.get(me.thread)?.received_from.set(Hint {
            name,
            stamp: self.names_stamp,
            found: Some(source),
        });
        Some(source)
    }
}

/// Those who wait where nothing has come yet; `None`: something has.
#[inline(always)]
fn vacant<'a>(
    ports: &'a mut Slab<Port>,
    sets: &'a mut Slab<PortSet>,
    source: Source,
) -> Option<&'a mut List<Thread, QUEUE>> {
    match source {
        Source::Port(port) => {
            let port = ports.get_mut(port)?;
            (!port.has_item()).then_some(&mut port.receivers)
        }
        Source::Set(set) => {
            let set = sets.get_mut(set)?;
            set.ready.is_empty().then_some(&mut set.receivers)
        }
    }
}

impl List<Thread, QUEUE> {
    /// Takes the first out. Mostly it is alone, and then its links say so already.
    #[inline(always)]
    fn take_first(&mut self, threads: &mut Slab<Thread>) {
        if self.is_single() {
            *self = List::NEW;
        } else {
            self.take_first_of_many(threads);
        }
    }

    /// Puts a thread, which is in no queue, last. Mostly nobody else is there.
    #[inline(always)]
    fn append(&mut self, threads: &mut Slab<Thread>, thread: ThreadId) {
        if self.is_empty() {
            *self = List::of(thread);
        } else {
            self.append_to_others(threads, thread);
        }
    }

    #[cold]
    #[inline(never)]
    fn append_to_others(&mut self, threads: &mut Slab<Thread>, thread: ThreadId) {
        self.push_back(threads, thread);
    }

    #[cold]
    #[inline(never)]
    fn take_first_of_many(&mut self, threads: &mut Slab<Thread>) {
        let _: Option<ThreadId> = self.pop_front(threads);
    }
}
