//! The fast paths: a call, a fault, an exception and a one-way message that meet somebody who waits.
//! Answers are in `fast_answer`, messages with a right in `fast_rights`, those that meet a busy server in
//! `fast_queued`.
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
    cells::{Hint, Place, PortCells, Spot, ThreadCells},
    kernel::{Kernel, Running},
    machine::{Context, Position},
    seat::Seat,
    space::Holds,
    thread::{Call, Level, Source, State},
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

/// What became of a call.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// A thread has it.
    Handed(Handed),
    /// It is queued. Who goes on, as it was.
    Queued(Context),
}

/// What a thread calls with.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Message,
    Fault(Fault),
    Exception(Level),
}

impl What {
    #[inline(always)]
    fn fault(me: &ThreadCells, address: u64, access: Prot, ip: u64) -> What {
        What::Fault(Fault {
            address,
            access,
            ip,
            thread: u64::from(me.actor.get().thread.index()),
        })
    }

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

    /// The call of the running thread, to a thread that waits for it: everything but words and body. Where
    /// nobody waits it is queued, if it is of words alone, and the words lie where the general path has them;
    /// `may_go_on` says whether the thread that is next can have the processor, up to a time at which the timer
    /// is to come.
    #[inline(always)]
    pub fn fast_call(
        &mut self,
        destination: u64,
        info: u64,
        deadline: u64,
        may_go_on: impl FnOnce(Context, u64) -> bool,
    ) -> Option<Called> {
        let me = self.fast_caller(info)?;
        let port = self.fast_destination(me, destination)?;
        match port.receiver() {
            Ok(waiting) => {
                let handed = self.fast_hand_to(me, port, waiting, What::Message, deadline);
                handed.map(Called::Handed)
            }
            Err(true) => {
                let queued = self.fast_queue(me, port, (info, deadline), may_go_on);
                queued.map(Called::Queued)
            }
            Err(false) => None,
        }
    }

    /// As [`Kernel::fast_call`], for the commonest of calls: words alone, to a port that the thread knows
    /// and that threads wait for. It calls no function, so it needs few registers and saves none.
    /// Other processors may be on their quick ways at the same time.
    #[inline(always)]
    pub fn quick_call(
        &self,
        seat: &Seat,
        destination: u64,
        info: u64,
        deadline: u64,
    ) -> Option<Handed> {
        if info >> 32 != 0 {
            return None;
        }
        let me = seat.current.get()?;
        let port = me.sent_to.get().get(destination, self.names_stamp)?;
        quick_hand_over(seat, me, port, What::Message, deadline)
    }

    /// As [`Kernel::fast_fault`], if the thread has faulted before and threads wait for that. Other
    /// processors may be on their quick ways at the same time.
    #[inline(always)]
    pub fn quick_fault(&self, seat: &Seat, address: u64, access: Prot, ip: u64) -> Option<Handed> {
        let me = seat.current.get()?;
        let port = me.faults_to.get()?;
        let fault = What::fault(me, address, access, ip);
        quick_hand_over(seat, me, port, fault, FOREVER)
    }

    /// The page fault of the running thread, if its server waits for it.
    #[inline(always)]
    pub fn fast_fault(&mut self, address: u64, access: Prot, ip: u64) -> Option<Handed> {
        let me = self.fast_caller(0)?;
        let port = match me.faults_to.get() {
            Some(port) => port,
            None => self.find_map(me)?,
        };
        let fault = What::fault(me, address, access, ip);
        self.fast_hand_over(me, port, fault, FOREVER)
    }

    /// The running thread, if what it does could go a fast way at all.
    #[inline(always)]
    pub(crate) fn fast_caller(&self, info: u64) -> Option<&'static ThreadCells> {
        // Above the id there is the length of the body; then come rights and marks.
        let short = info >> 32 <= BODY_SIZE as u64;
        (short && self.fast).then_some(self.seat.current.get()?)
    }

    /// The port that the running thread sends to, if messages may go there fast.
    #[inline(always)]
    pub(crate) fn fast_destination(
        &self,
        me: &'static ThreadCells,
        name: u64,
    ) -> Option<&'static PortCells> {
        match me.sent_to.get().get(name, self.names_stamp) {
            Some(port) => Some(port),
            None => self.find_destination(me, name),
        }
    }

    /// What the running thread receives from, and where it will wait, if nothing has come yet.
    #[inline(always)]
    pub(crate) fn fast_source(
        &self,
        me: &'static ThreadCells,
        name: u64,
    ) -> Option<(Source, &'static Spot)> {
        let source = self.known_source(me, name)?;
        (!source.1.full.get()).then_some(source)
    }

    /// What the running thread receives from, and where it would wait.
    #[inline(always)]
    pub(crate) fn known_source(
        &self,
        me: &'static ThreadCells,
        name: u64,
    ) -> Option<(Source, &'static Spot)> {
        let source = match me.received_from.get().get(name, self.names_stamp) {
            Some(source) => source,
            None => self.find_source(me, name)?,
        };
        Some(source)
    }

    /// Whether a thread that waits can have the processor at once.
    #[inline(always)]
    pub(crate) fn is_next(&self, thread: &ThreadCells) -> bool {
        self.seat.is_below(thread.rank.get())
    }

    /// Hands what a thread calls with to the first that waits at a port.
    #[inline(always)]
    pub(crate) fn fast_hand_over(
        &mut self,
        me: &'static ThreadCells,
        port: &'static PortCells,
        what: What,
        deadline: u64,
    ) -> Option<Handed> {
        let waiting = port.receiver().ok()?;
        self.fast_hand_to(me, port, waiting, what, deadline)
    }

    #[inline(always)]
    fn fast_hand_to(
        &self,
        me: &'static ThreadCells,
        port: &'static PortCells,
        (place, receiver): (&Place, &'static ThreadCells),
        what: What,
        deadline: u64,
    ) -> Option<Handed> {
        let handed = fast_pass(self.seat, me, (port, receiver), what, deadline)?;
        place.leave();
        Some(handed)
    }

    /// The exception of the running thread, if a handler waits for it: the first that there is.
    pub fn fast_exception(
        &mut self,
        kind: Kind,
        (code, subcode): (u64, u64),
        position: Position,
    ) -> Option<(Handed, Exception)> {
        let cells = self.fast_caller(0)?;
        let me = cells.actor.get();
        let thread = self.threads.get(me.thread)?;
        let (level, handler) = match thread.handlers.get(kind) {
            Some(handler) => (Level::Thread, handler),
            None => (Level::Task, self.tasks.get(me.task)?.handlers.get(kind)?),
        };
        if handler.behavior != Behavior::empty() || thread.notice_out {
            return None;
        }
        cells.behavior.set(handler.behavior);
        let port = self.ports.get(handler.port)?.cells;
        let what = What::Exception(level);
        let handed = self.fast_hand_over(cells, port, what, FOREVER)?;
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
            self.receive_right(me.actor.get().task, name)?;
        }
        if me.timer_key.get() > deadline {
            return None;
        }
        let port = self.fast_destination(me, destination)?;
        let (source, own) = self.fast_source(me, source)?;
        let (place, receiver) = port.receiver().ok()?;
        let State::Receiving { sent, .. } = receiver.state.get() else {
            return None;
        };
        if !self.is_next(receiver) {
            return None;
        }
        // From here on nothing fails.
        place.leave();
        me.wait(source, deadline);
        own.push_back(me);
        fast_switch(self.seat, receiver);
        Some(Handed {
            to: receiver.actor.get().context,
            outcome: sent,
            payload: port.payload.get(),
            token: 0,
            from: 0,
        })
    }

    /// The live port that the running thread sends to, remembered for the next time.
    #[cold]
    #[inline(never)]
    fn find_destination(&self, me: &'static ThreadCells, name: u64) -> Option<&'static PortCells> {
        let Running { thread, task, .. } = me.actor.get();
        let entry = self.tasks.get(task)?.names.get(name)?;
        let Holds::Port { port, refs, .. } = entry.holds else {
            return None;
        };
        if refs == 0 || self.threads.get(thread)?.notice_out {
            return None;
        }
        let port = self.ports.get(port)?.cells;
        entry.remember();
        me.sent_to.set(Hint {
            name,
            stamp: self.names_stamp,
            found: Some(port),
        });
        Some(port)
    }

    /// What the running thread receives from, remembered for the next time.
    #[cold]
    #[inline(never)]
    fn find_source(&self, me: &'static ThreadCells, name: u64) -> Option<(Source, &'static Spot)> {
        let task = me.actor.get().task;
        let source = self.source(task, name).ok()?;
        let found = (source, self.spot(source));
        found.1.begin_use();
        self.tasks.get(task)?.names.get(name)?.remember();
        me.received_from.set(Hint {
            name,
            stamp: self.names_stamp,
            found: Some(found),
        });
        Some(found)
    }

    /// Where the faults of the running thread go, remembered for the next time.
    #[cold]
    #[inline(never)]
    fn find_map(&self, me: &'static ThreadCells) -> Option<&'static PortCells> {
        let Running { thread, task, .. } = me.actor.get();
        if self.threads.get(thread)?.notice_out {
            return None;
        }
        let map = self.tasks.get(task)?.special(SpecialPort::Map)?;
        let map = self.ports.get(map)?.cells;
        me.faults_to.set(map);
        Some(map)
    }
}

/// Makes a thread that waited the one that runs.
#[inline(always)]
pub(crate) fn fast_switch(seat: &Seat, to: &'static ThreadCells) {
    to.deadline.set(FOREVER);
    seat.run(to);
}

/// Hands what a thread calls with to who waits at a port in a place.
#[inline(always)]
fn quick_hand_over(
    seat: &Seat,
    me: &'static ThreadCells,
    port: &'static PortCells,
    what: What,
    deadline: u64,
) -> Option<Handed> {
    let (place, receiver) = port.claim_receiver()?;
    let handed = fast_pass(seat, me, (port, receiver), what, deadline);
    place.end_claim(handed.is_none());
    handed
}

/// Hands what a thread calls with to one that waits at a port, from where it is still to be taken. Any
/// processor may answer the call from here on.
#[inline(always)]
fn fast_pass(
    seat: &Seat,
    me: &'static ThreadCells,
    (port, receiver): (&'static PortCells, &'static ThreadCells),
    what: What,
    deadline: u64,
) -> Option<Handed> {
    let sent = may_pass(seat, me, receiver, deadline)?;
    Some(pass(seat, me, (port, receiver, sent), what, deadline))
}

/// How the trap of a thread that waits for a message is to end, if another can hand it what it calls with.
#[inline(always)]
pub(crate) fn may_pass(
    seat: &Seat,
    me: &ThreadCells,
    receiver: &ThreadCells,
    deadline: u64,
) -> Option<Outcome> {
    let State::Receiving { sent, .. } = receiver.state.get() else {
        return None;
    };
    let may = me.timer_key.get() <= deadline && seat.is_below(receiver.rank.get());
    may.then_some(sent)
}

/// Does what [`may_pass`] allowed.
#[inline(always)]
pub(crate) fn pass(
    seat: &Seat,
    me: &'static ThreadCells,
    (port, receiver, sent): (&'static PortCells, &'static ThreadCells, Outcome),
    what: What,
    deadline: u64,
) -> Handed {
    let thread = me.actor.get().thread;
    let token = me.new_token();
    let server = receiver.actor.get();
    if let What::Fault(fault) = what {
        me.fault.set(fault);
    }
    me.deadline.set(deadline);
    me.state.set(State::Awaiting {
        server: server.task,
        through: port.port.get(),
        call: what.call(),
    });
    receiver.client.set(me);
    fast_switch(seat, receiver);
    me.token.set(token);
    Handed {
        to: server.context,
        outcome: sent,
        payload: port.payload.get(),
        token,
        from: u64::from(thread.index()),
    }
}

/// What kind of call a thread answers, if it may and who called can go on at once.
#[inline(always)]
pub(crate) fn fast_call_of(seat: &Seat, me: &ThreadCells, caller: &ThreadCells) -> Option<Call> {
    let State::Awaiting { server, call, .. } = caller.state.get() else {
        return None;
    };
    let mine = server == me.actor.get().task;
    (mine && seat.is_below(caller.rank.get())).then_some(call)
}
