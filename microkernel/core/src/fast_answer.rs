//! Answers the fast way: whoever called goes on at once, and the one that answers waits again where few or
//! none do. As in [`crate::fast`]: all that the general path would do, or nothing.

use crate::{
    cells::{Place, Spot, ThreadCells},
    fast::{fast_call_of, fast_switch},
    fast_queued::Exchanged,
    kernel::Kernel,
    machine::{Context, SpaceId},
    seat::Seat,
    thread::{Call, Source},
};

/// What became of an answer and the receive after it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Who was answered goes on, and the other waits.
    Answer(Context),
    /// Who was answered goes on, and the other has a call.
    Exchanged(Exchanged),
}

/// An answer that can be given: the call is claimed, and the place where the one that answers will wait.
#[must_use]
#[derive(Clone, Copy)]
pub struct Answer {
    me: &'static ThreadCells,
    caller: &'static ThreadCells,
    source: Source,
    place: &'static Place,
    deadline: u64,
    token: u64,
}

impl Answer {
    /// Gives the processor to whom the answer is for, and has the one that gave it wait. Gives who goes
    /// on. Any processor may run the other from here on.
    #[inline(always)]
    pub fn finish(&self, seat: &Seat) -> Context {
        let to = self.caller.actor.get().context;
        self.me.wait(self.source, self.deadline);
        fast_switch(seat, self.caller);
        self.place.publish(self.me);
        to
    }

    /// Leaves everything as it was.
    #[cold]
    pub fn drop_it(&self) {
        self.place.end_claim(false);
        self.caller.token.set(self.token);
    }
}

/// What is answered.
#[derive(Clone, Copy)]
pub enum Answered {
    /// A fault in this space.
    Fault(SpaceId),
    /// An exception.
    Exception,
}

impl Kernel {
    /// The answer of the running thread to a call; then it waits again: everything but words and
    /// body. If a call is queued where it would wait, it receives that, and is ready, if both are of words
    /// alone.
    #[inline(always)]
    pub fn fast_answer(
        &mut self,
        token: u64,
        (source, deadline): (u64, u64),
        info: u64,
    ) -> Option<Given> {
        let me = self.fast_caller(info)?;
        let source = self.known_source(me, source)?;
        if source.1.full.get() {
            let exchanged = self.fast_exchange(me, token, source.0, info);
            return exchanged.map(Given::Exchanged);
        }
        let to = self.fast_reply(me, token, (source, deadline), |_, call| {
            call == Call::Message
        });
        to.map(Given::Answer)
    }

    /// As [`Kernel::fast_answer`], for the commonest of answers: words alone, to who called last, from a
    /// thread that waits then where few others do. See [`Kernel::quick_call`].
    #[inline(always)]
    pub fn quick_answer(
        &self,
        seat: &Seat,
        token: u64,
        (source, deadline): (u64, u64),
        info: u64,
    ) -> Option<Context> {
        if info >> 32 != 0 {
            return None;
        }
        let (answer, call) = self.quick_redeem(seat, token, (source, deadline))?;
        if call != Call::Message {
            answer.drop_it();
            return None;
        }
        Some(answer.finish(seat))
    }

    /// Claims the fault or exception that the running thread answers, if it is of who called last and the
    /// thread waits then where few others do. [`Answer::finish`] or [`Answer::drop_it`] follows.
    #[inline(always)]
    pub fn quick_raised(
        &self,
        seat: &Seat,
        token: u64,
        (source, deadline): (u64, u64),
    ) -> Option<(Answer, Answered)> {
        let (answer, call) = self.quick_redeem(seat, token, (source, deadline))?;
        let answered = match call {
            Call::Fault => Answered::Fault(answer.caller.actor.get().space),
            Call::Exception(_) => Answered::Exception,
            Call::Message => {
                answer.drop_it();
                return None;
            }
        };
        Some((answer, answered))
    }

    #[inline(always)]
    fn quick_redeem(
        &self,
        seat: &Seat,
        token: u64,
        (source, deadline): (u64, u64),
    ) -> Option<(Answer, Call)> {
        let me = seat.current.get()?;
        let (source, spot) = me.received_from.get().get(source, self.names_stamp)?;
        let caller = me.client.get()?;
        if me.timer_key.get() > deadline || spot.full.get() || !caller.token.claim(token) {
            return None;
        }
        let Some(place) = spot.claim_place() else {
            caller.token.set(token);
            return None;
        };
        let answer = Answer {
            me,
            caller,
            source,
            place,
            deadline,
            token,
        };
        match fast_call_of(seat, me, caller) {
            Some(call) => Some((answer, call)),
            None => {
                answer.drop_it();
                None
            }
        }
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
        let source = self.fast_source(me, source)?;
        self.fast_reply(me, token, (source, deadline), |caller, call| match call {
            Call::Fault => enter(caller.actor.get().space),
            Call::Exception(_) => code == 0,
            Call::Message => false,
        })
    }

    /// Gives the processor to the thread whose token this is, if `finish` agrees, and has the running
    /// one wait where nothing has come yet.
    #[inline(always)]
    pub(crate) fn fast_reply(
        &mut self,
        me: &'static ThreadCells,
        token: u64,
        ((source, spot), deadline): ((Source, &'static Spot), u64),
        finish: impl FnOnce(&ThreadCells, Call) -> bool,
    ) -> Option<Context> {
        let caller = self.fast_client(me, token)?;
        if me.timer_key.get() > deadline {
            return None;
        }
        let call = fast_call_of(self.seat, me, caller)?;
        if !finish(caller, call) {
            return None;
        }
        Some(self.give_answer(me, caller, (source, spot), deadline))
    }

    /// Gives the processor to a thread whose call is answered; the one that answers waits. Nothing fails.
    #[inline(always)]
    pub(crate) fn give_answer(
        &mut self,
        me: &'static ThreadCells,
        caller: &'static ThreadCells,
        (source, spot): (Source, &'static Spot),
        deadline: u64,
    ) -> Context {
        caller.token.set(0);
        me.wait(source, deadline);
        fast_switch(self.seat, caller);
        spot.push_back(me);
        caller.actor.get().context
    }

    /// The thread whose call this token was issued for. It may be of no use any more.
    #[inline(always)]
    pub(crate) fn fast_client(
        &self,
        me: &'static ThreadCells,
        token: u64,
    ) -> Option<&'static ThreadCells> {
        match me.client.get() {
            Some(client) if client.token.get() == token => Some(client),
            _ => self.find_client(token),
        }
    }

    /// The thread that a token is of, if it is of its latest call.
    #[cold]
    #[inline(never)]
    fn find_client(&self, token: u64) -> Option<&'static ThreadCells> {
        let (_, client) = self.threads.by_index(crate::call::token_thread(token))?;
        (client.token.get() == token).then_some(client.cells)
    }
}
