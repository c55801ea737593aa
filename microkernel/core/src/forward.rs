//! Forwarding: a server passes a call on to another, which then answers the caller itself.
//!
//! The token changes hands: it is void for who forwards, and whoever receives the message is given a
//! new one. The message is the forwarder's. It must not lie in the caller's registers and buffer while
//! it is queued, where the caller's task could read and change it: then the kernel keeps it.

use crate::{
    kernel::{Flow, Kernel, Msg, Running, ThreadId},
    machine::Machine,
    message::Role,
    schedule::{NOT_SENT, SENT},
    send::{Captured, Outgoing},
    thread::{Call, State},
};
use ipc_abi::{
    Kern,
    message::{Info, option},
};

impl Kernel {
    /// The forward option of `msg`, alone or with a receive.
    pub(crate) fn forward(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        msg: &Msg,
    ) -> Result<Flow, Kern> {
        let receives = msg.options & option::RECEIVE != 0;
        if receives {
            self.source(me.task, msg.source)?;
        }
        let info = Info::checked(msg.info).ok_or(Kern::SendInvalidData)?;
        let caller = match self.awaiting(me.task, msg.destination) {
            Some((caller, Call::Message)) => caller,
            _ => return Err(Kern::SendInvalidReply),
        };
        let onward = Msg {
            destination: msg.notify,
            ..*msg
        };
        self.pass_on(machine, me, caller, info, &onward)?;
        if !receives {
            self.finish(machine, me.thread, Ok(()), NOT_SENT);
            return Ok(Flow::Next);
        }
        // Looked up again: the message may have taken the very receive right along.
        match self.source(me.task, msg.source) {
            Ok(source) => self.receive(machine, me, source, msg.receive_deadline, SENT),
            Err(code) => self.finish(machine, me.thread, Err(code), SENT),
        }
        Ok(Flow::Next)
    }

    /// Sends the message of `me` as the call of a thread that waits for an answer.
    fn pass_on(
        &mut self,
        machine: &mut impl Machine,
        me: Running,
        caller: ThreadId,
        info: Info,
        msg: &Msg,
    ) -> Result<(), Kern> {
        let to = self.destination(me.task, msg.destination)?;
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
            |kernel: &mut Kernel, server| kernel.issue(caller, server, to.port, Call::Message);
        if self.deliver_now(machine, me, &outgoing, issue) {
            return Ok(());
        }
        let kept = match self.buffer(machine, me, to.port, info) {
            Ok(mut message) => {
                message.role = Role::Forwarded;
                self.messages
                    .insert(message)
                    .map_err(|_| Kern::SendNoBuffer)
            }
            Err(code) => Err(code),
        };
        let kept = match kept {
            Ok(kept) => kept,
            Err(code) => {
                self.release(me, rights);
                return Err(code);
            }
        };
        self.commit_send(machine, me, msg, to, rights);
        let thread = self.threads.at_mut(caller);
        thread.cargo = *Captured::cargo(rights);
        thread.forwarded.set(Some(kept));
        self.queue_caller(machine, caller, to.port, info, Call::Message);
        let cost = self.messages.at(kept).cost;
        self.add_load(to.port, cost);
        Ok(())
    }

    /// Forgets the message that the call of a thread, which is or was just queued, had been forwarded
    /// with: it is received or void.
    pub(crate) fn drop_forwarded(&mut self, caller: ThreadId) {
        let thread = self.threads.at(caller);
        let Some(message) = thread.forwarded.take() else {
            return;
        };
        let state = thread.state.get();
        let cost = self.messages.at(message).cost;
        self.messages.remove(message);
        if let State::Calling(port, _) = state {
            self.take_load(port, cost);
        }
    }
}
