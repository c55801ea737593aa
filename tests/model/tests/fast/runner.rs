//! A world that goes the fast ways, or does not, with what the shell does for it.

use ipc_abi::{
    exception::{EXCEPTION, Kind},
    fault::{FAULT, FAULT_REPLY},
    message::{FOREVER, Info, Outcome, option},
    types::Prot,
};
use kernel_core::{Called, Context, Event, Exchanged, Flow, Given, Handed, Machine, Msg};
use model::{Actor, Letter, World};

pub(crate) const REPLY_RECEIVE: u64 = option::REPLY | option::RECEIVE;
pub(crate) const SEND_RECEIVE: u64 = option::SEND | option::RECEIVE;
pub(crate) const SEND_NOTIFY_RECEIVE: u64 = option::SEND | option::NOTIFY | option::RECEIVE;

/// Which ways took how many.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) quick_calls: u32,
    pub(crate) quick_answers: u32,
    pub(crate) quick_faults: u32,
    pub(crate) quick_fault_answers: u32,
    pub(crate) calls: u32,
    pub(crate) answers: u32,
    pub(crate) fault_answers: u32,
    pub(crate) sends: u32,
    pub(crate) faults: u32,
    pub(crate) exceptions: u32,
    pub(crate) calls_with_right: u32,
    pub(crate) answers_with_right: u32,
    pub(crate) deallocations: u32,
    pub(crate) queued: u32,
    pub(crate) exchanges: u32,
}

impl Taken {
    pub(crate) const fn all(&self) -> [u32; 15] {
        [
            self.quick_calls,
            self.quick_answers,
            self.quick_faults,
            self.quick_fault_answers,
            self.calls,
            self.answers,
            self.fault_answers,
            self.sends,
            self.faults,
            self.exceptions,
            self.calls_with_right,
            self.answers_with_right,
            self.deallocations,
            self.queued,
            self.exchanges,
        ]
    }

    pub(crate) fn sum(&self) -> u32 {
        self.all().iter().sum()
    }
}

/// A world, and whether it goes the fast ways.
pub(crate) struct Runner {
    pub(crate) w: World,
    pub(crate) fast: bool,
    pub(crate) taken: Taken,
    pub(crate) now: u64,
    /// When the timer comes.
    pub(crate) alarm: u64,
}

impl Runner {
    pub(crate) fn new(fast: bool) -> Runner {
        Runner {
            w: World::new(),
            fast,
            taken: Taken::default(),
            now: 0,
            alarm: FOREVER,
        }
    }

    /// Does to a receiver what the shell does.
    fn hand(&mut self, from: Context, handed: Handed, info: Info) {
        let toy = &mut self.w.toy;
        toy.copy_words(from, handed.to);
        if info.body() > 0 {
            toy.copy_body(from, handed.to, info.body());
        }
        self.give(handed, info);
    }

    fn give(&mut self, handed: Handed, info: Info) {
        let Handed {
            to,
            outcome,
            payload,
            token,
            ..
        } = handed;
        self.w.toy.set_message(to, outcome, payload, token, info);
        let to = self.w.kernel.running().unwrap().thread;
        self.w.toy.trace(Event::Message { info, to });
    }

    /// Does to who was answered and who received what the shell does.
    fn exchange(&mut self, from: Context, exchanged: &Exchanged, info: Info) {
        self.hand(from, answered(exchanged.answered), info);
        let toy = &mut self.w.toy;
        toy.copy_words(exchanged.caller, exchanged.server);
        let Exchanged {
            server,
            payload,
            token,
            info,
            ..
        } = *exchanged;
        toy.set_message(server, Outcome(Outcome::SENT), payload, token, info);
        let to = self.w.kernel.running().unwrap().thread;
        toy.trace(Event::Message { info, to });
    }

    /// Sets the timer, as the shell does after whatever went the general way; nothing else wants it
    /// earlier.
    pub(crate) fn set_timer(&mut self, went_fast: bool) {
        let now = self.now;
        let alarm = self.w.kernel.alarm(|| now);
        assert!(!went_fast || alarm >= self.alarm);
        self.alarm = self.alarm.min(alarm);
    }

    /// The fast way of a trap, as the entry code chooses it; says whether there was one.
    fn try_fast(&mut self, me: Actor, msg: &Msg) -> bool {
        let kernel = &mut self.w.kernel;
        let info = Info(msg.info);
        let source = (msg.source, msg.receive_deadline);
        let code = self.w.toy.at(me.context).words[0];
        let right = self.w.toy.at(me.context).rights[0];
        let handed = match msg.options {
            option::CALL | REPLY_RECEIVE if info.rights() > 0 => {
                let (taken, handed) = match msg.options {
                    option::CALL => (
                        &mut self.taken.calls_with_right,
                        kernel.fast_call_right(
                            msg.destination,
                            msg.info,
                            msg.receive_deadline,
                            right,
                        ),
                    ),
                    _ => (
                        &mut self.taken.answers_with_right,
                        kernel
                            .fast_answer_right(msg.destination, source, msg.info, right)
                            .map(|(to, arrived)| (answered(to), arrived)),
                    ),
                };
                *taken += u32::from(handed.is_some());
                handed.map(|(handed, arrived)| {
                    self.w.toy.write_rights(handed.to, &[arrived]);
                    handed
                })
            }
            option::CALL => {
                let (to, deadline) = (msg.destination, msg.receive_deadline);
                let quick = kernel.quick_call(kernel.seat(), to, msg.info, deadline);
                self.taken.quick_calls += u32::from(quick.is_some());
                let may_go_on = |_, turn_end| self.alarm <= turn_end;
                let called = quick.map(Called::Handed).or_else(|| {
                    let called = kernel.fast_call(to, msg.info, deadline, may_go_on);
                    match called? {
                        Called::Handed(_) => self.taken.calls += 1,
                        Called::Queued(_) => self.taken.queued += 1,
                    }
                    called
                });
                match called {
                    Some(Called::Handed(handed)) => Some(handed),
                    Some(Called::Queued(_)) => return true,
                    None => None,
                }
            }
            REPLY_RECEIVE if msg.info == u64::from(FAULT_REPLY) => {
                let seat = kernel.seat();
                let quick = match kernel.quick_raised(seat, msg.destination, source) {
                    Some((answer, _)) if code == 0 => Some(answer.finish(seat)),
                    Some((answer, _)) => {
                        answer.drop_it();
                        None
                    }
                    None => None,
                };
                self.taken.quick_fault_answers += u32::from(quick.is_some());
                let went_on = quick.or_else(|| {
                    let to = kernel.fast_fault_answer(msg.destination, source, code, |_| code == 0);
                    to.inspect(|_| self.taken.fault_answers += 1)
                });
                return went_on.is_some();
            }
            REPLY_RECEIVE => {
                let quick = kernel.quick_answer(kernel.seat(), msg.destination, source, msg.info);
                self.taken.quick_answers += u32::from(quick.is_some());
                let given = quick.map(Given::Answer).or_else(|| {
                    let given = kernel.fast_answer(msg.destination, source, msg.info);
                    match given? {
                        Given::Answer(_) => self.taken.answers += 1,
                        Given::Exchanged(_) => self.taken.exchanges += 1,
                    }
                    given
                });
                match given {
                    Some(Given::Answer(to)) => Some(answered(to)),
                    Some(Given::Exchanged(exchanged)) => {
                        self.exchange(me.context, &exchanged, info);
                        return true;
                    }
                    None => None,
                }
            }
            SEND_RECEIVE | SEND_NOTIFY_RECEIVE => {
                let notify = (msg.options == SEND_NOTIFY_RECEIVE).then_some(msg.notify);
                kernel
                    .fast_send(msg.destination, source, msg.info, notify)
                    .inspect(|_| self.taken.sends += 1)
            }
            _ => None,
        };
        match handed {
            Some(handed) => {
                self.hand(me.context, handed, info);
                true
            }
            None => false,
        }
    }

    pub(crate) fn msg(&mut self, me: Actor, letter: &Letter, msg: Msg) {
        let registers = self.w.toy.at(me.context);
        registers.result = None;
        registers.words = letter.words;
        registers.body[..letter.body.len()].copy_from_slice(&letter.body);
        for (slot, (name, disposition)) in registers.rights.iter_mut().zip(&letter.rights) {
            *slot = (*name, *disposition as u8);
        }
        let info = Info::new(letter.id, letter.body.len(), letter.rights.len());
        let msg = Msg {
            info: info.unwrap().0,
            ..msg
        };
        self.w.kernel.allow_fast(true);
        if !(self.fast && self.try_fast(me, &msg)) {
            while self.w.kernel.msg(&mut self.w.toy, &msg) == Flow::Again {}
        }
        self.w.settle();
    }

    pub(crate) fn fault(&mut self, me: Actor, address: u64) {
        self.w.toy.at(me.context).result = None;
        self.w.kernel.allow_fast(true);
        let ip = self.w.toy.position(me.context).ip;
        let handed = match self.fast {
            true => {
                let kernel = &self.w.kernel;
                let quick = kernel.quick_fault(kernel.seat(), address, Prot::WRITE, ip);
                self.taken.quick_faults += u32::from(quick.is_some());
                quick.or_else(|| self.w.kernel.fast_fault(address, Prot::WRITE, ip))
            }
            false => None,
        };
        match handed {
            Some(handed) => {
                self.taken.faults += 1;
                let words = [address, Prot::WRITE.bits().into(), ip, handed.from, 0, 0];
                self.w.toy.set_words(handed.to, words);
                self.give(handed, Info::short(FAULT).from_kernel());
            }
            None => {
                let raised = self
                    .w
                    .kernel
                    .raise_fault(&mut self.w.toy, address, Prot::WRITE);
                assert_eq!(raised, kernel_core::Raised::Handled);
            }
        }
        self.w.settle();
    }

    pub(crate) fn exception(&mut self, me: Actor) {
        self.w.toy.at(me.context).result = None;
        self.w.kernel.allow_fast(true);
        let position = self.w.toy.position(me.context);
        let codes = (3, 0);
        let handed = match self.fast {
            true => self
                .w
                .kernel
                .fast_exception(Kind::Breakpoint, codes, position),
            false => None,
        };
        match handed {
            Some((handed, exception)) => {
                self.taken.exceptions += 1;
                self.w.toy.set_words(handed.to, exception.to_words());
                self.give(handed, Info::short(EXCEPTION).from_kernel());
            }
            None => {
                let toy = &mut self.w.toy;
                let raised = self.w.kernel.raise_exception(toy, Kind::Breakpoint, 3, 0);
                assert_eq!(raised, kernel_core::Raised::Handled);
            }
        }
        self.w.settle();
    }

    pub(crate) fn deallocate(&mut self, me: Actor, name: u64) {
        self.w.kernel.allow_fast(true);
        if self.fast && self.w.kernel.fast_deallocate(name, 1) {
            self.taken.deallocations += 1;
        } else {
            let _ = self.w.deallocate(me, name, 1);
        }
        self.w.settle();
    }

    pub(crate) fn state(&self) -> String {
        let World { kernel, toy, .. } = &self.w;
        format!("{kernel:?} {:?} {}", toy.threads, toy.handed)
    }
}

/// What a thread gets with the answer to its call.
const fn answered(to: Context) -> Handed {
    Handed {
        to,
        outcome: Outcome(Outcome::SENT),
        payload: 0,
        token: 0,
        from: 0,
    }
}
