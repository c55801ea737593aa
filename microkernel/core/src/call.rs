//! Calls, and the calls that the kernel makes for a thread: faults and exceptions.
//!
//! A caller goes straight to a thread that waits, or queues itself at the port; neither takes memory.
//! When it is received a token is issued; from then on answering, aborting, timing out and dying all
//! go through [`Kernel::awaiting`] or `State::Awaiting`, and the first of them ends it.

use crate::{
    kernel::{Flow, Kernel, Msg, Raised, Running, TOKEN_THREAD_BITS, TaskId, ThreadId},
    machine::{Event, Machine, Report},
    message::{Carried, EMPTY},
    port::PortId,
    schedule::{NOT_SENT, SENT},
    send::{Captured, Outgoing},
    thread::{Call, Level, State},
};
use ipc_abi::{
    Kern,
    buffer::RIGHTS_MAX,
    exception::{self, Behavior, Exception, Kind},
    fault::Fault,
    message::{Info, POLL, WORDS},
    notify::ExitStatus,
    right::SpecialPort,
    state::General,
    types::Prot,
};

impl Kernel {
    /// The call option of `msg`.
    pub(crate) fn call(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
    ) -> Result<Flow, Kern> {
        let info = Info::checked(msg.info).ok_or(Kern::SendInvalidData)?;
        let to = self.destination(me.task, msg.destination)?;
        if msg.receive_deadline == POLL {
            return Err(Kern::ReceiveTimedOut);
        }
        if self.threads.at(me.thread).notice_out {
            self.renew_notice(me.thread)?;
        }
        let captured;
        let rights = if info.rights() == 0 {
            None
        } else {
            captured = self.take_rights(machine, me, msg, info, to)?;
            Some(&captured)
        };
        let outgoing = Outgoing {
            msg,
            info,
            to,
            rights,
        };
        let issue =
            |kernel: &mut Kernel, server| kernel.issue(me.thread, server, to.port, Call::Message);
        if !self.deliver_now(machine, me, &outgoing, issue) {
            self.commit_send(machine, me, msg, to, rights);
            if let Some(rights) = rights {
                self.threads.at_mut(me.thread).cargo = rights.cargo;
            }
            self.queue_caller(machine, me.thread, to.port, info, Call::Message);
        }
        self.timers
            .arm(&mut self.threads, me.thread, msg.receive_deadline);
        Ok(Flow::Next)
    }

    /// Queues a thread, which is in no queue, at a port.
    pub(crate) fn queue_caller(
        &mut self,
        machine: &mut impl Machine,
        caller: ThreadId,
        port: PortId,
        info: Info,
        call: Call,
    ) {
        self.wait(caller, State::Calling(port, call));
        let record = self.ports.at_mut(port);
        let thread = self.threads.at(caller).cells;
        thread.stamp.set(record.stamp());
        thread.info.set(info);
        record.callers.insert(thread);
        self.item_arrived(port);
        machine.trace(Event::Queued {
            info,
            port: port.index(),
        });
    }

    /// Issues a token for the call of a thread, which is in no queue, to the task that receives it.
    #[inline]
    pub(crate) fn issue(
        &mut self,
        caller: ThreadId,
        server: Running,
        through: PortId,
        call: Call,
    ) -> u64 {
        let thread = self.threads.at_mut(caller);
        let token = thread.new_token();
        thread.state.set(State::Awaiting {
            server: server.task,
            through,
            call,
        });
        thread.token.set(token);
        self.leave(caller);
        token
    }

    /// The thread whose token this is, if `server` may redeem it now.
    #[inline]
    pub(crate) fn awaiting(&self, server: TaskId, token_word: u64) -> Option<(ThreadId, Call)> {
        let (id, thread) = self.threads.by_index(token_thread(token_word))?;
        match thread.state.get() {
            State::Awaiting {
                server: holder,
                call,
                ..
            } if holder == server && thread.token.get() == token_word => Some((id, call)),
            _ => None,
        }
    }

    /// Sends a call that the kernel makes for a thread, which is in no queue, to a live port. `words`
    /// are those of [`Kernel::kernel_words`].
    fn kernel_call(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        port: PortId,
        call: Call,
        words: [u64; WORDS],
    ) {
        if self.threads.at(thread).notice_out {
            self.wait(thread, State::Noticed);
            return;
        }
        let info = Self::kernel_info(call);
        let Some(receiver) = self.waiting(port) else {
            self.queue_caller(machine, thread, port, info, call);
            return;
        };
        let server = self.actor(receiver);
        machine.set_words(server.context, words);
        let token = self.issue(thread, server, port, call);
        self.deliver(machine, server, port, info, &EMPTY, token);
    }

    /// [`Kernel::kernel_call`] with the exception of a thread and what its handler is told besides.
    fn exception_call(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        port: PortId,
        call: Call,
    ) {
        let record = self.threads.at(thread);
        let (words, behavior) = (record.exception.to_words(), record.behavior.get());
        if behavior.is_empty() || record.notice_out {
            return self.kernel_call(machine, thread, port, call, words);
        }
        let (context, task) = (record.context, self.tasks.at(record.task).port);
        let identity = behavior.contains(Behavior::IDENTITY);
        let mut rights = None;
        if identity {
            let control = record.port;
            self.keep_send(control);
            self.keep_send(task);
            let mut cargo = EMPTY;
            if let Some([thread, owner]) = cargo.first_chunk_mut() {
                (*thread, *owner) = (Carried::Send(control), Carried::Send(task));
            }
            rights = Some(Captured {
                slots: [(0, 0); RIGHTS_MAX],
                cargo,
            });
        }
        let info = Self::exception_info(behavior);
        let Some(receiver) = self.fitting_receiver(machine, port, rights.as_ref()) else {
            self.threads.at_mut(thread).cargo = *Captured::cargo(rights.as_ref());
            self.queue_caller(machine, thread, port, info, call);
            return;
        };
        let server = self.actor(receiver);
        machine.set_words(server.context, words);
        if behavior.contains(Behavior::STATE) {
            machine.write_body(server.context, &machine.general(context).to_bytes());
        }
        let token = self.issue(thread, server, port, call);
        self.deliver(
            machine,
            server,
            port,
            info,
            Captured::cargo(rights.as_ref()),
            token,
        );
    }

    /// The info of an exception message whose handler is told this.
    const fn exception_info(behavior: Behavior) -> Info {
        let rights = if behavior.contains(Behavior::IDENTITY) {
            2
        } else {
            0
        };
        let body = if behavior.contains(Behavior::STATE) {
            General::SIZE
        } else {
            0
        };
        match Info::new(exception::EXCEPTION, body, rights) {
            Some(info) => info.from_kernel(),
            None => Info(0),
        }
    }

    /// The running thread touched `address` and has no translation for it.
    pub fn raise_fault(
        &mut self,
        machine: &mut impl Machine,
        address: u64,
        access: Prot,
    ) -> Raised {
        let Some(me) = self.running() else {
            return Raised::Fatal;
        };
        let Some(port) = self.tasks.at(me.task).special(SpecialPort::Map) else {
            return Raised::Fatal;
        };
        let raised = if self.ports.at(port).takes_messages() {
            let fault = Fault {
                address,
                access,
                ip: machine.position(me.context).ip,
                thread: u64::from(me.thread.index()),
            };
            self.threads.at_mut(me.thread).fault.set(fault);
            self.kernel_call(machine, me.thread, port, Call::Fault, fault.to_words());
            Raised::Handled
        } else {
            self.bad_access(machine, me.thread, Kern::MemoryError, address)
        };
        self.dispatch();
        raised
    }

    /// The running thread cannot go on (see `exception::Exception` for `code` and `subcode`).
    pub fn raise_exception(
        &mut self,
        machine: &mut impl Machine,
        kind: Kind,
        code: u64,
        subcode: u64,
    ) -> Raised {
        let Some(me) = self.running() else {
            return Raised::Fatal;
        };
        let exception = self.exception(machine, me.thread, kind, (code, subcode));
        let raised = self.raise(machine, me.thread, exception, Level::Thread);
        self.settle(machine);
        raised
    }

    /// Turns the denial of a thread's fault into an exception.
    pub(crate) fn bad_access(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        code: Kern,
        address: u64,
    ) -> Raised {
        let codes = (u64::from(code.raw()), address);
        let exception = self.exception(machine, thread, Kind::BadAccess, codes);
        self.raise(machine, thread, exception, Level::Thread)
    }

    fn exception(
        &self,
        machine: &mut impl Machine,
        thread: ThreadId,
        kind: Kind,
        (code, subcode): (u64, u64),
    ) -> Exception {
        let position = machine.position(self.threads.at(thread).context);
        Exception {
            kind,
            code,
            subcode,
            ip: position.ip,
            sp: position.sp,
            thread: u64::from(thread.index()),
        }
    }

    /// Hands an exception of a thread, which is in no queue, to the first taker from a level on.
    pub(crate) fn raise(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        exception: Exception,
        from: Level,
    ) -> Raised {
        machine.trace(Event::Exception { thread, exception });
        let record = self.threads.at(thread);
        let task = self.tasks.at(record.task);
        let takers = [
            (Level::Thread, record.handlers.get(exception.kind)),
            (Level::Task, task.handlers.get(exception.kind)),
        ];
        let skip = match from {
            Level::Thread => 0,
            Level::Task => 1,
            Level::None => 2,
        };
        for (level, handler) in takers.into_iter().skip(skip) {
            if let Some(handler) = handler
                && self.ports.at(handler.port).takes_messages()
            {
                let record = self.threads.at_mut(thread);
                record.exception = exception;
                record.behavior.set(handler.behavior);
                self.exception_call(machine, thread, handler.port, Call::Exception(level));
                return Raised::Handled;
            }
        }
        self.unhandled(machine, thread, exception)
    }

    fn unhandled(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        exception: Exception,
    ) -> Raised {
        let id = self.threads.at(thread).task;
        let root = self.tasks.at(id).special(SpecialPort::Map).is_none();
        if root && self.threads.at(thread).state.get() == State::Running {
            return Raised::Fatal;
        }
        machine.report(Report::Unhandled {
            task: id,
            thread,
            exception,
        });
        let status = ExitStatus::Exception {
            kind: exception.kind as u32,
            code: (exception.code & 0x7FFF_FFFF) as u32,
        };
        self.wait(thread, State::Aside);
        self.end_task(id, status.to_word());
        Raised::Handled
    }

    /// What becomes of a call that its server will not answer, or its port not take.
    pub(crate) fn fail_call(&mut self, machine: &mut impl Machine, thread: ThreadId, call: Call) {
        match call {
            Call::Message => {
                self.timers.disarm(&mut self.threads, thread);
                self.finish(machine, thread, Err(Kern::ReceivePortDied), SENT);
            }
            Call::Fault => {
                let fault = self.threads.at(thread).fault.get();
                let _ = self.bad_access(machine, thread, Kern::MemoryError, fault.address);
            }
            Call::Exception(level) => {
                let exception = self.threads.at(thread).exception;
                let _ = self.raise(machine, thread, exception, next(level));
            }
        }
    }

    /// The deadline of a thread passed.
    pub(crate) fn time_out(&mut self, machine: &mut impl Machine, thread: ThreadId) {
        self.break_off(machine, thread, Kern::SendTimedOut, Kern::ReceiveTimedOut);
    }

    /// Ends the wait of a thread, if it waits: a trap with the code for its half, anything else by
    /// going on at the same instruction.
    pub(crate) fn break_off(
        &mut self,
        machine: &mut impl Machine,
        thread: ThreadId,
        send: Kern,
        receive: Kern,
    ) {
        let state = self.threads.at(thread).state.get();
        if matches!(
            state,
            State::Running | State::Ready | State::Stopped | State::Aside
        ) {
            return;
        }
        self.detach(thread);
        match state {
            State::Sending(_) => self.finish(machine, thread, Err(send), NOT_SENT),
            State::Receiving { sent, .. } => self.finish(machine, thread, Err(receive), sent),
            State::Calling(_, Call::Message)
            | State::Awaiting {
                call: Call::Message,
                ..
            } => self.finish(machine, thread, Err(receive), SENT),
            _ => self.wake(thread),
        }
    }

    /// Takes a thread out of whatever it is in; its token, if it has one out, is void.
    pub(crate) fn detach(&mut self, thread: ThreadId) {
        self.timers.disarm(&mut self.threads, thread);
        match self.threads.at(thread).state.get() {
            State::Running => self.vacate(thread),
            State::Ready => self.unready(thread),
            State::Sending(port) => {
                let cells = self.threads.at(thread).cells;
                self.ports.at(port).senders.remove(cells);
            }
            State::Calling(port, _) => {
                let cells = self.threads.at(thread).cells;
                self.ports.at(port).callers.remove(cells);
                self.item_gone(port);
                self.drop_forwarded(thread);
                let cargo = core::mem::replace(&mut self.threads.at_mut(thread).cargo, EMPTY);
                self.discard(&cargo);
            }
            State::Awaiting { through, .. } => {
                let token = self.threads.at(thread).token.get();
                self.wait(thread, State::Aside);
                self.tell_cancelled(thread, through, token);
            }
            State::Receiving { source, .. } => self.unlink_receiver(thread, source),
            State::Stopped | State::Noticed | State::Aside => {}
        }
    }
}

/// The slot of the thread that a token is of; above it lies the number of the call.
#[inline]
pub(crate) const fn token_thread(token: u64) -> u32 {
    (token & ((1 << TOKEN_THREAD_BITS) - 1)) as u32
}

/// Who is asked after a level that did not handle an exception.
pub(crate) const fn next(level: Level) -> Level {
    match level {
        Level::Thread => Level::Task,
        Level::Task | Level::None => Level::None,
    }
}
