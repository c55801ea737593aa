//! The reply half: a token is redeemed last, when nothing can fail any more.

use crate::{
    call::next,
    kernel::{Flow, Kernel, Msg, Running, ThreadId},
    machine::{Event, FaultAnswer, Machine, Resolved},
    message::EMPTY,
    rights::Route,
    schedule::{NOT_SENT, SENT},
    state::checked_general,
    thread::{Call, Level},
};
use ipc_abi::{
    Kern,
    exception::{Behavior, Exception},
    kern_return,
    message::{Info, option},
    state::General,
};

impl Kernel {
    /// The reply option of `msg`, alone or with a receive.
    pub(crate) fn reply(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
    ) -> Result<Flow, Kern> {
        let receives = msg.options & option::RECEIVE != 0;
        let source = match receives {
            true => Some(self.source(me.task, msg.source)?),
            false => None,
        };
        let info = Info::checked(msg.info).ok_or(Kern::SendInvalidData)?;
        let awaiting = self.awaiting(me.task, msg.destination);
        let (caller, call) = awaiting.ok_or(Kern::SendInvalidReply)?;
        if !matches!(call, Call::Message) && info.rights() > 0 {
            return Err(Kern::SendInvalidRight);
        }
        match call {
            Call::Message => self.answer_call(machine, me, caller, info)?,
            Call::Fault => {
                let flow = self.answer_fault(machine, me, caller, info)?;
                if flow == Flow::Again {
                    return Ok(Flow::Again);
                }
            }
            Call::Exception(level) => {
                self.take_state(machine, me, caller, info)?;
                let exception = self.threads.at(caller).exception;
                self.answer_exception(machine, me, caller, (exception, level));
            }
        }
        let Some(source) = source else {
            self.finish(machine, me.thread, Ok(()), NOT_SENT);
            return Ok(Flow::Next);
        };
        // Looked up again if the message may have taken the very receive right along.
        let source = match info.rights() {
            0 => Ok(source),
            _ => self.source(me.task, msg.source),
        };
        match source {
            Ok(source) => self.receive(machine, me, source, msg.receive_deadline, SENT),
            Err(code) => self.finish(machine, me.thread, Err(code), SENT),
        }
        Ok(Flow::Next)
    }

    fn answer_call(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        caller: ThreadId,
        info: Info,
    ) -> Result<(), Kern> {
        let caller = self.actor(caller);
        if info.rights() == 0 {
            Self::copy_message(machine, me.context, caller.context, info);
            self.deliver_answer(machine, caller, info, &EMPTY);
            return Ok(());
        }
        let route = Route {
            from: me.task,
            to: None,
            spent: None,
        };
        let slots = machine.read_rights(me.context, info.rights());
        let cargo = self.capture(route, &slots, info.rights())?;
        self.commit(machine, me.task, &slots, &cargo);
        Self::copy_message(machine, me.context, caller.context, info);
        self.deliver_answer(machine, caller, info, &cargo);
        Ok(())
    }

    fn answer_fault(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        caller: ThreadId,
        info: Info,
    ) -> Result<Flow, Kern> {
        let words = machine.words(me.context);
        let [code, ..] = words;
        let result = kern_return::from_raw((code & 0xFFFF_FFFF) as u32);
        if result.is_ok() {
            let thread = self.threads.at(caller);
            let answer = FaultAnswer {
                task: thread.task,
                space: thread.space,
                replier: me.task,
                replier_context: me.context,
                words,
                body: info.body(),
            };
            match machine.resolve_fault(self, &answer) {
                Resolved::Done => {}
                Resolved::Again => return Ok(Flow::Again),
                Resolved::Refused(code) => return Err(code),
            }
        }
        machine.trace(Event::FaultEnd {
            thread: caller,
            code: kern_return::to_raw(result),
        });
        match result {
            Ok(()) => self.wake(caller),
            Err(code) => {
                let address = self.threads.at(caller).fault.get().address;
                let _ = self.bad_access(machine, caller, code, address);
            }
        }
        Ok(Flow::Next)
    }

    /// Gives a thread the registers that the answer to its exception brings, if it brings any.
    fn take_state(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        caller: ThreadId,
        info: Info,
    ) -> Result<(), Kern> {
        if info.body() == 0 {
            return Ok(());
        }
        let record = self.threads.at(caller);
        if info.body() != General::SIZE || !record.behavior.get().contains(Behavior::STATE) {
            return Err(Kern::SendInvalidData);
        }
        let mut bytes = [0; General::SIZE];
        machine.read_body(me.context, &mut bytes);
        let state = General::from_bytes(&bytes).ok_or(Kern::SendInvalidData)?;
        machine.set_general(record.context, &checked_general(state)?);
        Ok(())
    }

    fn answer_exception(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        caller: ThreadId,
        (exception, level): (Exception, Level),
    ) {
        let [code, ..] = machine.words(me.context);
        if code == 0 {
            self.wake(caller);
        } else {
            let _ = self.raise(machine, caller, exception, next(level));
        }
    }
}
