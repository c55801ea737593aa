//! Questions to pagers, and what they bring, as long as nothing else comes.
//!
//! The common fault on a pager's memory is a loop of its own: the fault, what is said to the pager, what it
//! supplies, the answer, and the next fault.

use ipc::trap::Received;
use vm_core::Turn;
use vm_core::event::{Fault, Time};
use vm_core::fault::ask::Asked;
use vm_core::fault::dialogue::Told;
use vm_core::object::supply_quick::Answer;

use crate::answer::{
    FaultAnswer, Pending, exchange, exchange_answer, exchange_request, put_beside,
};
use crate::heap;
use crate::receive::{common_fault, common_supply};
use crate::serve::Server;

/// What is to be said of a supply.
pub(crate) struct Supplied {
    /// To the fault that waited for it; `None`: the effects have it.
    answer: Option<FaultAnswer>,
    /// It may have left work.
    leaves_work: bool,
}

/// How questions and answers ended.
pub(crate) enum Conversed {
    /// Something else was received, or an error.
    Received,
    /// There is more to do than to give this answer.
    Work(Option<FaultAnswer>),
}

impl Server {
    /// Asks a pager at once, if a common fault was received that misses a page of its, and goes on as long
    /// as it is answered and asked again. `None`: there is more to the fault, which is as if it had not been
    /// looked at.
    #[inline(never)]
    pub(crate) fn converse(
        &mut self,
        received: &mut Received,
        pending: &mut Option<Pending>,
        deadline: Time,
    ) -> Option<Conversed> {
        let mut asked = self.ask(received)?;
        loop {
            *received = exchange_request(&asked, self.ports.set(), deadline.0);
            if !received.outcome.was_sent() && !self.say_again(&asked, received, pending, deadline)
            {
                return Some(Conversed::Received);
            }
            self.core.sent(asked.port, &mut self.effects);
            let Some(supplied) = self.told(received) else {
                return Some(Conversed::Received);
            };
            if let work @ Conversed::Work(_) = self.tell(&supplied, received, pending, deadline) {
                return Some(work);
            }
            match self.ask_next(received) {
                Some(next) => asked = next,
                None => return Some(Conversed::Received),
            }
        }
    }

    /// Says what could not be said once more, to hear when the pager's queue has room. Says whether it was sent.
    #[cold]
    fn say_again(
        &mut self,
        asked: &Asked,
        received: &mut Received,
        pending: &mut Option<Pending>,
        deadline: Time,
    ) -> bool {
        *pending = Some(Pending::of_request(asked));
        *received = exchange(*pending, self.ports.set(), deadline.0, self.notices);
        let sent = received.outcome.was_sent();
        if sent {
            *pending = None;
        }
        sent
    }

    #[inline(never)]
    fn ask(&mut self, received: &Received) -> Option<Asked> {
        if !self.effects.as_slice().is_empty() || heap::is_low() {
            return None;
        }
        let fault = of(received)?;
        self.core.ask_quick(&fault, Time(self.clock.now()))
    }

    /// As [`Server::ask`], of a fault for a page of the same memory, after nothing else happened.
    #[inline(always)]
    fn ask_next(&mut self, received: &Received) -> Option<Asked> {
        let fault = of(received)?;
        self.core.ask_next(&fault, Time(self.clock.now()))
    }

    /// What is to be said of what the last question was answered with, if that is what was received.
    #[inline(always)]
    fn told(&mut self, received: &Received) -> Option<Supplied> {
        let (control, supply) = common_supply(received)?;
        let mut turn = Turn {
            now: Time::NEVER,
            machine: &mut self.hardware,
            effects: &mut self.effects,
        };
        let told = self.core.answer_question(&mut turn, control, &supply);
        let Some(told) = told else {
            return self.supply_answer(received);
        };
        let Told {
            fault,
            enter,
            leaves_work,
        } = told;
        let answer = FaultAnswer {
            token: fault.token,
            enter: Some(enter),
            beside: put_beside(&self.effects.beside),
        };
        Some(Supplied {
            answer: Some(answer),
            leaves_work,
        })
    }

    /// What is to be said of a common supply, if that is what was received. Any other is as if it had not
    /// been looked at.
    #[inline(never)]
    pub(crate) fn supply_answer(&mut self, received: &Received) -> Option<Supplied> {
        let (control, supply) = common_supply(received)?;
        if !self.effects.as_slice().is_empty() || heap::is_low() {
            return None;
        }
        let mut turn = Turn {
            now: Time(self.clock.now()),
            machine: &mut self.hardware,
            effects: &mut self.effects,
        };
        let supplied = self.core.supply_more(&mut turn, control, &supply)?;
        let (enter, beside) = match supplied.answer {
            Answer::Entered => (None, None),
            Answer::Enter(enter) => (Some(enter), put_beside(&self.effects.beside)),
            Answer::Effects => {
                return Some(Supplied {
                    answer: None,
                    leaves_work: true,
                });
            }
        };
        let answer = FaultAnswer {
            token: supplied.fault.token,
            enter,
            beside,
        };
        Some(Supplied {
            answer: Some(answer),
            leaves_work: true,
        })
    }

    /// Says it, if that is all there is to do, and waits for the next message.
    #[inline(always)]
    pub(crate) fn tell(
        &mut self,
        supplied: &Supplied,
        received: &mut Received,
        pending: &mut Option<Pending>,
        deadline: Time,
    ) -> Conversed {
        let Some(answer) = &supplied.answer else {
            return Conversed::Work(None);
        };
        if supplied.leaves_work && self.core.wants_step() {
            return Conversed::Work(supplied.answer);
        }
        *received = exchange_answer(answer, self.ports.set(), deadline.0);
        if received.outcome.code() != 0 {
            *pending = Some(Pending::of_fault(answer));
        }
        Conversed::Received
    }

    /// What a common supply leaves, if that is more than the answer.
    #[cold]
    pub(crate) fn supplied(&mut self, answer: Option<FaultAnswer>) -> Option<Pending> {
        let unfinished = self.core.wants_step();
        let mut pending = None;
        match answer {
            Some(answer) => self.answer_now(&answer),
            None => {
                let carried = self.carry_out();
                pending = self.handle_rest(carried);
            }
        }
        if unfinished {
            return self.pay(pending);
        }
        pending
    }
}

/// A common fault, if that is what was received.
#[inline(always)]
fn of(received: &Received) -> Option<Fault> {
    let (map, fault, token) = common_fault(received)?;
    Some(Fault {
        map,
        address: fault.address,
        access: fault.access,
        token,
    })
}
