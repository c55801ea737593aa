//! From effects to traps, in order; the last answer rides on the next receive.

use ipc::buffer::{self, Body};
use ipc::trap::{self, Send};
use ipc_abi::Kern;
use ipc_abi::fault::FAULT_REPLY;
use ipc_abi::kern_return;
use ipc_abi::message::{FOREVER, Info, POLL, WORDS, option};
use ipc_abi::notify::Request;
use ipc_abi::right::{Disposition, NULL, Name};
use vm_core::effect::Effect;
use vm_core::event::{Event, MapId, PortOf, RightId, Token};

use crate::answer::{FaultAnswer, Made, Pending, To, refusal};
use crate::pmap;
use crate::serve::Server;

/// Sends an answer. Fails if nobody waits for it any more, or the kernel refuses it.
fn reply(token: Token, info: Info, words: [u64; WORDS]) -> Result<(), Kern> {
    let send = Send {
        options: option::REPLY,
        destination: token.0.get(),
        receive: NULL,
        info,
        send_deadline: POLL,
        receive_deadline: FOREVER,
        notify: NULL,
        words,
    };
    // SAFETY: nobody holds the body while effects are carried out.
    kern_return::from_raw(unsafe { trap::msg(&send) }.outcome.code())
}

impl Server {
    /// Carries out all effects of an event. The last answer is left to ride on the next receive.
    pub(crate) fn carry_out(&mut self) -> Option<Pending> {
        if let Some((to, result)) = self.effects.take_only_resume() {
            return Pending::of_result(to, result);
        }
        let mut pending = None;
        loop {
            if let Some(Effect::Enter(_) | Effect::EnterRun(_)) = self.effects.as_slice().first() {
                if let Some(answer) = pending.take() {
                    self.send_now(answer);
                }
                self.enter_some();
                continue;
            }
            let Some(effect) = self.effects.pop_front() else {
                return pending;
            };
            // What needs no trap does not come in the way of what is pending.
            if !matches!(effect, Effect::WakeAt(_))
                && let Some(answer) = pending.take()
            {
                self.send_now(answer);
            }
            pending = self.carry_out_one(effect).or(pending);
        }
    }

    /// Enters the translations of the first effects, as many as one trap takes. Without a frame for a
    /// page table it is tried once more with one; what was entered then is entered again.
    fn enter_some(&mut self) {
        let spaces = &self.hardware.spaces;
        let (count, mut result) = pmap::enter(spaces, &self.effects);
        if result == Err(Kern::ResourceShortage) {
            self.kernel_is_short();
            (_, result) = pmap::enter(&self.hardware.spaces, &self.effects);
        }
        // Whoever misses a translation has a fault.
        let _ = result;
        for _ in 0..count {
            self.effects.pop_front();
        }
    }

    fn carry_out_one(&mut self, effect: Effect) -> Option<Pending> {
        match effect {
            // They go many at a time.
            Effect::Enter(_) | Effect::EnterRun(_) => {}
            Effect::Resume { to, result } => return Pending::of_result(to, result),
            Effect::Reply { to, answer } => return Some(self.compose(to?, answer)),
            Effect::Release(RightId(name), count) => {
                // The core counts what came; a right that is gone was given back by its end.
                let _ = trap::port_deallocate(name, count);
            }
            Effect::WatchDead(right) => self.watch_dead(right),
            Effect::WatchSenders(port) => self.ports.watch(port),
            Effect::PortGone(port) => self.ports.gone(port),
            Effect::SpaceGone(map) => {
                let space = self.hardware.spaces.take(map);
                if space != NULL {
                    let _ = trap::port_deallocate(space, 1);
                }
                self.forget_below(map);
            }
            Effect::Talk(right) => return self.talk(right),
            Effect::WakeAt(time) => self.wake = time,
            Effect::Donate { first, count } => self.donate(first.0, count),
            Effect::Report(report) => ipc::println!("vm-server: {report}"),
        }
        None
    }

    /// Answers a common fault by itself, with what lies beside it.
    pub(crate) fn answer_now(&mut self, answer: &FaultAnswer) {
        if reply(answer.token, Info::short(FAULT_REPLY), answer.words()).is_err() {
            self.send_now(Pending::of_fault(answer));
        }
    }

    /// Sends a message by itself. The kernel being short of frames for page tables is mended, once.
    pub(crate) fn send_now(&mut self, message: Pending) {
        let Pending {
            to,
            info,
            words,
            made,
        } = message;
        let token = match to {
            To::Caller(token) => token,
            To::Pager(right) => {
                self.say(right, info, words);
                return;
            }
        };
        let mut sent = reply(token, info, words);
        if sent == Err(Kern::ResourceShortage) {
            self.kernel_is_short();
            sent = reply(token, info, words);
        }
        if let Err(code) = sent {
            // Whoever still waits hears why; whoever has gone does not.
            self.fail(token, code);
            self.undelivered(made);
        }
    }

    /// Ends what was made for an answer that nobody got: no right to it is left that could go away.
    pub(crate) fn undelivered(&mut self, made: Option<Made>) {
        let Some(Made { port, task }) = made else {
            return;
        };
        if task != NULL {
            // The right was to move with the answer, so it is still here.
            let _ = trap::port_deallocate(task, 1);
        }
        self.later.push(Event::NoSenders {
            port,
            made: u32::MAX,
        });
    }

    /// Answers the stepper's call.
    pub(crate) fn resume_stepper(&self, token: Token) {
        // Cannot fail: the stepper waits, and its call was ours to answer.
        let _ = reply(token, Info::short(FAULT_REPLY), [0; WORDS]);
    }

    /// Refuses a call or fails a fault, with no more than a code.
    pub(crate) fn fail(&self, token: Token, code: Kern) {
        // Fails only if nobody waits any more.
        let _ = reply(token, Info::short(FAULT_REPLY), refusal(code));
    }

    /// Makes the task of a map: its space, its map port, its control port (first of the two).
    pub(crate) fn create_task(&mut self, map: MapId) -> Result<(Name, Name), Kern> {
        let port = self.ports.get_or_make(PortOf::Map(map))?;
        let space = trap::space_create(self.host_memory)?;
        let made = self.hardware.spaces.set(map, space).and_then(|()| {
            trap::port_make_send(port)?;
            let task = trap::task_create(self.host_control, space, port);
            let _ = trap::port_deallocate(port, 1);
            task
        });
        if made.is_err() {
            let _ = self.hardware.spaces.take(map);
            let _ = trap::port_deallocate(space, 1);
        }
        made.map(|task| (task, port))
    }

    /// A map whose task could not be made ends at once.
    pub(crate) fn unmake(&mut self, map: MapId) {
        self.later.push(Event::TaskEnded(map));
    }

    /// Asks for notice of a port's death; one that is dead already is told at once.
    fn watch_dead(&mut self, right: RightId) {
        if trap::port_request_notification(right.0, Request::DeadName, self.notices, 1).is_err() {
            // Without memory for the notice, an unwatched pager is treated as a dead one.
            self.later.push(Event::DeadName(right));
        }
    }

    /// Says to a port what there is to say, as long as its queue has room. The last message is left
    /// to ride on the next receive.
    fn talk(&mut self, right: RightId) -> Option<Pending> {
        while let Some(message) = self.core.next_message(right) {
            let mut words = [0; WORDS];
            let mut body = Body::borrow();
            let Ok(length) = message.wording.encode(&mut words, &mut *body) else {
                drop(body);
                self.core.sent(right, &mut self.effects);
                continue;
            };
            drop(body);
            let rights = match message.right.map(|right| self.ports.get_or_make(right)) {
                None => 0,
                Some(Ok(name)) => {
                    buffer::set_right(0, name, Disposition::MakeSend);
                    1
                }
                Some(Err(_)) => {
                    self.later.push(Event::Full(right));
                    return None;
                }
            };
            let info = Info::new(message.wording.id(), length, rights)?;
            if self.core.is_last(right) {
                let to = To::Pager(right);
                return Some(Pending {
                    to,
                    info,
                    words,
                    made: None,
                });
            }
            if !self.say(right, info, words) {
                return None;
            }
        }
        None
    }

    /// Sends to a memory object port; says whether it took the message.
    fn say(&mut self, right: RightId, info: Info, words: [u64; WORDS]) -> bool {
        let send = Send {
            options: option::SEND | option::NOTIFY,
            destination: u64::from(right.0),
            receive: NULL,
            info,
            send_deadline: POLL,
            receive_deadline: POLL,
            notify: self.notices,
            words,
        };
        // SAFETY: the body is not borrowed.
        match kern_return::from_raw(unsafe { trap::msg(&send) }.outcome.code()) {
            Ok(()) => {
                self.core.sent(right, &mut self.effects);
                return true;
            }
            Err(Kern::WouldBlock) => self.later.push(Event::Full(right)),
            // The port is dead or dying; its notice says so.
            Err(_) => {}
        }
        false
    }

    /// Gives frames to the kernel.
    pub(crate) fn donate(&self, first: u32, count: u32) {
        // SAFETY: the core has given the frames away, and nothing else of the server uses them.
        if let Err(code) = unsafe { trap::frame_donate(self.host_memory, first, count) } {
            ipc::println!("vm-server: the kernel refuses {count} frames at {first}: {code}");
        }
    }
}
