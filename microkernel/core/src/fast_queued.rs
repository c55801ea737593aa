//! The fast paths where the server is busy: a call that is queued, and an answer after which a call
//! that was queued is received.
//!
//! Two callers that are more important than their server go these ways alone: each calls while the
//! server is ready with the other's call, and each answer wakes one that is to run at once. Taken are
//! words alone, as callers and ready threads are queued in cells. Words lie where the general path has
//! them, in stored registers. With several processors the general path decides, since who becomes ready,
//! or runs next, may be a matter of all of them.

use crate::{
    cells::{PortCells, ThreadCells},
    fast::fast_call_of,
    kernel::Kernel,
    machine::Context,
    port::{PortId, SetId},
    run_queue::NO_RANK,
    thread::{Call, Source, State},
};
use ipc_abi::message::{FOREVER, Info};

/// What the shell has to do after an answer and a receive in one: give the words of `caller` and these
/// results to `server`, which is ready, and make `answered` the running thread, with the answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Who goes on.
    pub answered: Context,
    /// Whose call was received.
    pub caller: Context,
    /// Who received it.
    pub server: Context,
    /// RDI of its trap.
    pub payload: u64,
    /// RSI of its trap.
    pub token: u64,
    /// RDX of its trap.
    pub info: Info,
}

impl Kernel {
    /// Queues the call of the running thread, words alone, at a port where nobody waits, nor at its set if it
    /// is in one, and gives the processor to who is next, if `may_go_on` agrees. Gives who goes on, as it was.
    #[inline(always)]
    pub(crate) fn fast_queue(
        &mut self,
        me: &'static ThreadCells,
        cells: &'static PortCells,
        (info, deadline): (u64, u64),
        may_go_on: impl FnOnce(Context, u64) -> bool,
    ) -> Option<Context> {
        let refused = info >> 32 != 0 || me.timer_key.get() > deadline;
        if refused || !self.processors.all.is_empty() {
            return None;
        }
        let (next, turn_end) = self.run_queue.first_and_turn()?;
        let to = next.actor.get().context;
        let port = cells.port.get();
        let record = self.ports.get_mut(port)?;
        if next.rank.get() == NO_RANK
            || !record.takes_messages()
            || record.sets > 1
            || !may_go_on(to, turn_end)
        {
            return None;
        }
        // From here on nothing fails.
        me.deadline.set(deadline);
        me.state.set(State::Calling(port, Call::Message));
        me.info.set(Info(info));
        me.stamp.set(record.stamp());
        record.callers.insert(me);
        if record.arrived() {
            self.list(port);
        }
        self.run_queue.remove(next);
        self.seat.run(next);
        Some(to)
    }

    /// The answer of the running thread, words alone, to one that is more important; then it receives a
    /// call of words alone that is queued, and is ready.
    #[inline(always)]
    pub(crate) fn fast_exchange(
        &mut self,
        me: &'static ThreadCells,
        token: u64,
        source: Source,
        info: u64,
    ) -> Option<Exchanged> {
        if info >> 32 != 0 || me.rank.get() == NO_RANK || !self.processors.all.is_empty() {
            return None;
        }
        let answered = self.fast_client(me, token)?;
        if fast_call_of(self.seat, me, answered)? != Call::Message
            || answered.priority.get() <= self.seat.priority.get()
        {
            return None;
        }
        let port = match source {
            Source::Port(port) => port,
            Source::Set(set) => self.first_of(set)?,
        };
        let record = self.ports.get_mut(port)?;
        let caller = record.callers.first()?;
        let info = caller.info.get();
        let is_plain = matches!(caller.state.get(), State::Calling(_, Call::Message))
            && caller.forwarded.get().is_none()
            && info.0 >> 32 == 0;
        if !is_plain || !record.messages.is_empty() {
            return None;
        }
        // From here on nothing fails.
        answered.token.set(0);
        answered.deadline.set(FOREVER);
        record.callers.remove(caller);
        let payload = record.cells.payload.get();
        if let Some(listed) = record.departed() {
            self.list_again(port, listed);
        }
        let server = me.actor.get();
        let token = caller.new_token();
        caller.state.set(State::Awaiting {
            server: server.task,
            through: port,
            call: Call::Message,
        });
        caller.token.set(token);
        me.client.set(caller);
        me.state.set(State::Ready);
        self.run_queue.push_front(me);
        self.seat.run(answered);
        Some(Exchanged {
            answered: answered.actor.get().context,
            caller: caller.actor.get().context,
            server: server.context,
            payload,
            token,
            info,
        })
    }

    /// The member of a set that is received from next.
    #[inline(never)]
    fn first_of(&self, set: SetId) -> Option<PortId> {
        let member = self.sets.get(set)?.ready.first()?;
        Some(self.members.get(member)?.port)
    }
}
