//! The loop: receive, understand, handle, carry out; steps and ticks between messages.

use alloc::vec::Vec;

use ipc::time::Clock;
use ipc::trap::Received;
use ipc_abi::boot::FrameRange;
use ipc_abi::right::Name;
use ipc_abi::{Kern, kern_return};
use vm_core::effect::{Effect, Effects};
use vm_core::event::{Event, MapId, Time, Token};
use vm_core::machine::{Machine, Pass, Revoke, Seen};
use vm_core::object::page::Frame;
use vm_core::{Core, Turn};

use crate::answer::{
    CallAnswer, FaultAnswer, Pending, To, exchange, exchange_answer, exchange_call, put_beside,
};
use crate::converse::Conversed;
use crate::heap;
use crate::pmap::{self, Spaces};
use crate::ports::Ports;
use crate::receive::{Arrived, common_call, common_fault, is_fault};
use crate::window::Window;

/// Frames that the kernel is given at a time when it is short in the middle of a batch.
const DONATION: u32 = 4;

/// How long clients run between two steps of unfinished work, in nanoseconds.
const PAUSE: u64 = 50_000;

/// What takes effect at once: memory and page tables.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) window: Window,
    pub(crate) spaces: Spaces,
}

impl Machine for Hardware {
    #[inline]
    fn zero(&mut self, frame: Frame) {
        self.window.zero(frame);
    }

    #[inline]
    fn copy(&mut self, from: Frame, to: Frame) {
        self.window.copy(from, to);
    }

    fn load(&mut self, frame: Frame, offset: usize, bytes: &mut [u8]) {
        self.window.load(frame, offset, bytes);
    }

    fn store(&mut self, frame: Frame, offset: usize, bytes: &[u8]) {
        self.window.store(frame, offset, bytes);
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), count: usize) {
        self.window.copy_bytes(from, to, count);
    }

    fn is_zero(&mut self, frame: Frame) -> bool {
        self.window.is_zero(frame)
    }

    #[inline(always)]
    fn revoke(&mut self, elements: &[Revoke]) -> Seen {
        pmap::revoke(&self.spaces, elements)
    }

    fn pass(&mut self, pages: &Pass<'_>) -> bool {
        pmap::pass(&self.spaces, pages)
    }
}

/// The server.
pub(crate) struct Server {
    pub(crate) core: Core,
    pub(crate) hardware: Hardware,
    pub(crate) ports: Ports,
    pub(crate) effects: Effects,
    /// Effects of an event in the midst of carrying out another's.
    pub(crate) urgent: Effects,
    pub(crate) host_memory: Name,
    pub(crate) host_control: Name,
    /// Where the kernel's notices about other ports go.
    pub(crate) notices: Name,
    /// The time.
    pub(crate) clock: Clock,
    /// When the core wants to know it.
    pub(crate) wake: Time,
    /// When the next step of unfinished work is due, however many messages come until then.
    pub(crate) step: Time,
    /// The memory servers below: their maps, and their host memory ports.
    pub(crate) below: Vec<(MapId, Name)>,
    /// Whether one has ended whose frames are to be taken back.
    pub(crate) collecting: bool,
    /// Events that carrying out effects made, to be handled before the next message.
    pub(crate) later: Vec<Event>,
    /// Free frames there were when the heap could not be given more; more of them are worth a try.
    pub(crate) refused: u32,
    /// The stepper's call, while there is no step to do.
    pub(crate) stepper: Option<Token>,
    /// How many processors there are.
    pub(crate) processors: u64,
}

impl Server {
    /// Serves for ever.
    pub(crate) fn serve(&mut self) -> ! {
        let mut pending = None;
        let mut unfinished = self.core.wants_step();
        'serving: loop {
            self.feed_heap();
            if self.collecting {
                // What is pending may have a body, in the buffer that the traps write their lists to.
                if let Some(message) = pending.take() {
                    self.send_now(message);
                }
                self.collect();
            }
            let deadline = self.deadline(unfinished);
            let mut received = exchange(pending, self.ports.set(), deadline.0, self.notices);
            if let Some(To::Pager(right)) = pending.map(|message| message.to)
                && received.outcome.was_sent()
            {
                self.core.sent(right, &mut self.effects);
            }
            // Common faults and calls, as long as nothing else comes and their answers are all that
            // there is to do.
            while !unfinished {
                if is_fault(&received) {
                    if self.answer_faults(&mut received, &mut pending, deadline) {
                        continue;
                    }
                    match self.converse(&mut received, &mut pending, deadline) {
                        Some(Conversed::Received) => continue,
                        Some(Conversed::Work(answer)) => {
                            pending = self.supplied(answer);
                            unfinished = self.core.wants_step();
                            continue 'serving;
                        }
                        None => break,
                    }
                }
                if let Some(answer) = self.call_answer(&received) {
                    if answer.leaves_work && self.core.wants_step() {
                        pending = self.pay(Some(Pending::of_call(&answer)));
                        unfinished = self.core.wants_step();
                        continue 'serving;
                    }
                    received = exchange_call(&answer, self.ports.set(), deadline.0);
                    if received.outcome.code() != 0 {
                        pending = Some(Pending::of_call(&answer));
                    }
                } else if let Some(answer) = self.copy_answer(&received) {
                    if self.core.wants_step() {
                        pending = self.pay(Some(answer));
                        unfinished = self.core.wants_step();
                        continue 'serving;
                    }
                    received = exchange(Some(answer), self.ports.set(), deadline.0, self.notices);
                    if received.outcome.code() != 0 {
                        pending = Some(answer);
                    }
                } else if let Some(told) = self.supply_answer(&received) {
                    match self.tell(&told, &mut received, &mut pending, deadline) {
                        Conversed::Received => {}
                        Conversed::Work(answer) => {
                            pending = self.supplied(answer);
                            unfinished = self.core.wants_step();
                            continue 'serving;
                        }
                    }
                } else {
                    break;
                }
            }
            pending = match kern_return::from_raw(received.outcome.code()) {
                Ok(()) => {
                    let arrived = self.understand(&received);
                    let answer = self.arrived(arrived);
                    unfinished = self.core.wants_step();
                    if !unfinished {
                        pending = answer;
                        continue;
                    }
                    self.pay(answer)
                }
                Err(Kern::ReceiveTimedOut) if deadline < self.wake => self.next_step(),
                Err(Kern::ReceiveTimedOut) => {
                    self.wake = Time::NEVER;
                    self.handle(Event::Tick)
                }
                Err(Kern::ResourceShortage) if !received.outcome.was_sent() => {
                    if let Some(answer) = pending {
                        self.kernel_is_short();
                        self.send_now(answer);
                    }
                    None
                }
                Err(Kern::WouldBlock) => match pending.map(|message| message.to) {
                    Some(To::Pager(right)) => self.handle(Event::Full(right)),
                    _ => None,
                },
                // The caller has gone: the receive half was not tried.
                Err(_) if !received.outcome.was_sent() => {
                    self.undelivered(pending.and_then(|answer| answer.made));
                    self.handle_rest(None)
                }
                // A port moved.
                Err(_) => None,
            };
            unfinished = self.core.wants_step();
        }
    }

    /// Answers common faults one after the other, as long as nothing else comes. Says whether it answered
    /// any. A loop of its own, which has all registers for itself.
    #[inline(never)]
    fn answer_faults(
        &mut self,
        received: &mut Received,
        pending: &mut Option<Pending>,
        deadline: Time,
    ) -> bool {
        let set = self.ports.set();
        let mut answered = false;
        let mut turn = Turn {
            now: Time::NEVER,
            machine: &mut self.hardware,
            effects: &mut self.effects,
        };
        while let Some(answer) = fault_answer(&mut self.core, &mut turn, received) {
            answered = true;
            *received = exchange_answer(&answer, set, deadline.0);
            if received.outcome.code() != 0 {
                *pending = Some(Pending::of_fault(&answer));
                break;
            }
        }
        answered
    }

    /// The answer to a fault, if that is what was received: see [`fault_answer`].
    #[inline(always)]
    pub(crate) fn fault_answer(&mut self, received: &Received) -> Option<FaultAnswer> {
        let mut turn = Turn {
            now: Time::NEVER,
            machine: &mut self.hardware,
            effects: &mut self.effects,
        };
        fault_answer(&mut self.core, &mut turn, received)
    }

    /// The answer to a common call, if that is what was received and it is plain. Any other is as if it
    /// had not been looked at.
    #[inline(always)]
    pub(crate) fn call_answer(&mut self, received: &Received) -> Option<CallAnswer> {
        let (map, call, token) = common_call(received)?;
        if !self.effects.as_slice().is_empty() || heap::is_low() {
            return None;
        }
        let done = self.core.call_quick(&mut self.hardware, map, &call)?;
        Some(CallAnswer {
            token,
            id: received.info.id(),
            word: done.word,
            leaves_work: done.leaves_work,
        })
    }

    /// Who asks while work is unfinished has a step of it done after the answer: clients cannot make
    /// work faster than it is done.
    pub(crate) fn pay(&mut self, answer: Option<Pending>) -> Option<Pending> {
        if let Some(answer) = answer {
            self.send_now(answer);
        }
        self.handle(Event::Step)
    }

    /// Until when to wait for a message. If work is unfinished, clients get a while before its next
    /// step, and the stepper is let go, in case that there is nobody else. Clients that keep asking
    /// do not put the step off.
    pub(crate) fn deadline(&mut self, unfinished: bool) -> Time {
        let heap_grows = heap::wants_more() && self.core.free_frames() > self.refused;
        if (unfinished || heap_grows || self.core.wants_idle())
            && let Some(token) = self.stepper.take()
        {
            self.resume_stepper(token);
        }
        if !unfinished {
            self.step = Time::NEVER;
        } else if self.step == Time::NEVER {
            self.step = Time(self.clock.now()).after(PAUSE);
        }
        if self.collecting {
            return Time(0);
        }
        self.step.min(self.wake)
    }

    /// Nobody else wants the processor: a step, or something ahead of time.
    fn idle(&mut self, stepper: Token) -> Option<Pending> {
        self.stepper = Some(stepper);
        if self.core.wants_step() {
            return self.next_step();
        }
        if heap::wants_more() {
            self.grow_heap();
        }
        self.handle(Event::Idle)
    }

    /// The next step of unfinished work; the one after it is due later.
    pub(crate) fn next_step(&mut self) -> Option<Pending> {
        self.step = Time::NEVER;
        self.handle(Event::Step)
    }

    /// Gives the heap more, if it has little.
    pub(crate) fn feed_heap(&mut self) {
        if heap::is_low() {
            self.grow_heap();
        }
    }

    /// Gives the heap more, if the core has a run of free frames.
    fn grow_heap(&mut self) {
        if self.core.free_frames() <= self.refused {
            return;
        }
        match self.core.take_frames(heap::PIECE) {
            Some(Frame(first)) => {
                // SAFETY: the core has given the frames away.
                unsafe {
                    heap::give(FrameRange {
                        first,
                        count: heap::PIECE,
                    })
                };
                self.refused = 0;
            }
            None => self.refused = self.core.free_frames().saturating_add(heap::PIECE),
        }
    }

    pub(crate) fn arrived(&mut self, arrived: Arrived) -> Option<Pending> {
        match arrived {
            Arrived::Event(event) => self.handle(event),
            Arrived::Refused(Some(token), code) => {
                self.fail(token, code);
                self.handle_rest(None)
            }
            Arrived::Stepper(token) => self.idle(token),
            Arrived::OwnerEnded => {
                self.collecting = true;
                None
            }
            Arrived::Refused(None, _) | Arrived::Nothing => None,
        }
    }

    /// Handles one event, and what its effects made.
    pub(crate) fn handle(&mut self, event: Event) -> Option<Pending> {
        let pending = self.handle_one(event);
        self.handle_rest(pending)
    }

    /// Handles what carrying out effects made.
    pub(crate) fn handle_rest(&mut self, pending: Option<Pending>) -> Option<Pending> {
        let mut pending = pending;
        while let Some(event) = self.later.pop() {
            if let Some(answer) = pending {
                self.send_now(answer);
            }
            pending = self.handle_one(event);
        }
        pending
    }

    fn handle_one(&mut self, event: Event) -> Option<Pending> {
        self.turn(event);
        self.carry_out()
    }

    fn turn(&mut self, event: Event) {
        let mut turn = Turn {
            now: Time(self.clock.now()),
            machine: &mut self.hardware,
            effects: &mut self.effects,
        };
        self.core.handle(event, &mut turn);
    }

    /// The kernel has no frame for a page table: it gets some now, before whatever effects are left.
    pub(crate) fn kernel_is_short(&mut self) {
        core::mem::swap(&mut self.effects, &mut self.urgent);
        self.turn(Event::KernelShort(DONATION));
        while let Some(effect) = self.effects.pop_front() {
            if let Effect::Donate { first, count } = effect {
                self.donate(first.0, count);
            }
        }
        core::mem::swap(&mut self.effects, &mut self.urgent);
    }
}

/// The answer to a fault, if that is what was received and the answer is a translation and
/// nothing else. A fault that leaves more to do than that is as if it had not been looked at: it
/// is handled with the other messages.
#[inline(always)]
fn fault_answer(
    core: &mut Core,
    turn: &mut Turn<'_, Hardware>,
    received: &Received,
) -> Option<FaultAnswer> {
    let (map, fault, token) = common_fault(received)?;
    // What there is still to carry out comes first.
    if !turn.effects.as_slice().is_empty() {
        return None;
    }
    let enter = core.fault_now(turn, (map, fault.address), fault.access)?;
    let beside = put_beside(&turn.effects.beside);
    Some(FaultAnswer {
        token,
        enter: Some(enter),
        beside,
    })
}
