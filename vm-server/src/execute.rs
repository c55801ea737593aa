//! From effects to traps, in order; the last answer rides on the next receive.

use ipc::buffer::{self, Body};
use ipc::trap::{self, Received, Send};
use ipc_abi::Kern;
use ipc_abi::fault::{self, FAULT_REPLY, FaultReply};
use ipc_abi::kern_return;
use ipc_abi::message::{FOREVER, Info, POLL, WORDS, option};
use ipc_abi::notify::Request;
use ipc_abi::right::{Disposition, NULL, Name};
use ipc_abi::translation::Enter;
use ipc_protocol::codec::Payload;
use ipc_protocol::define::{Message as _, reply_id};
use ipc_protocol::memory_object::MemoryObjectDataRequest;
use ipc_protocol::vm_map;
use ipc_protocol::vm_wire::{Reply as Wired, VmGiveFramesReply};
use vm_core::call::{Message, Reply};
use vm_core::effect::{Answer, Beside, Effect, FaultResult};
use vm_core::event::{Event, MapId, PortOf, ReplyTo, RightId, Token};
use vm_core::fault::ask::Asked;

use crate::pmap;
use crate::serve::Server;

/// A message that is in words and buffer, and has only to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) to: To,
    info: Info,
    words: [u64; WORDS],
    /// What was made for the answer, and nobody has a right to if it cannot be sent.
    pub(crate) made: Option<Made>,
}

/// A record whose first right goes out with an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    port: PortOf,
    /// The control port of its task, if it is the map of one.
    task: Name,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// Who waits for an answer.
    Caller(Token),
    /// A memory object port, to which there is no more to say for now.
    Pager(RightId),
}

/// Receives from `set` until `deadline`, after sending what is pending. `notices` hears when a full
/// queue has room again.
pub(crate) fn exchange(
    pending: Option<Pending>,
    set: Name,
    deadline: u64,
    notices: Name,
) -> Received {
    let mut send = Send {
        options: option::RECEIVE,
        destination: 0,
        receive: set,
        info: Info::short(0),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: [0; WORDS],
    };
    if let Some(message) = pending {
        match message.to {
            To::Caller(token) => {
                send.options |= option::REPLY;
                send.destination = token.0.get();
            }
            To::Pager(right) => {
                send.options |= option::SEND | option::NOTIFY;
                send.destination = u64::from(right.0);
                send.notify = notices;
            }
        }
        send.info = message.info;
        send.words = message.words;
    }
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// An answer to a common fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultAnswer {
    /// Whom.
    pub(crate) token: Token,
    /// What is entered, if it is not there already.
    pub(crate) enter: Option<Enter>,
    /// What is entered beside it; its words are in the buffer.
    pub(crate) beside: Option<fault::Beside>,
}

/// Writes what goes beside an answer into the buffer.
#[inline(always)]
pub(crate) fn put_beside(beside: &Beside) -> Option<fault::Beside> {
    if beside.count == 0 {
        return None;
    }
    let mut body = Body::borrow();
    for (bytes, word) in body.chunks_exact_mut(4).zip(&beside.words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Some(fault::Beside {
        address: beside.address,
        count: beside.count,
    })
}

impl FaultAnswer {
    #[inline(always)]
    fn words(&self) -> [u64; WORDS] {
        let reply = FaultReply {
            result: Ok(()),
            enter: self.enter,
            beside: self.beside,
        };
        reply.to_words()
    }
}

/// The words of a request.
#[inline(always)]
fn request_words(asked: &Asked) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    // It is a message of words, so it fits.
    let _ = asked.request.put(&mut words, &mut []);
    words
}

impl Pending {
    /// What is said to a pager at once, as any other message.
    #[cold]
    pub(crate) fn of_request(asked: &Asked) -> Pending {
        Pending {
            to: To::Pager(asked.port),
            info: Info::short(MemoryObjectDataRequest::ID),
            words: request_words(asked),
            made: None,
        }
    }
}

/// As [`exchange`], after what is said to a pager at once. Nobody hears when a full queue has room again.
#[inline(always)]
pub(crate) fn exchange_request(asked: &Asked, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::SEND | option::RECEIVE,
        destination: u64::from(asked.port.0),
        receive: set,
        info: Info::short(MemoryObjectDataRequest::ID),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: request_words(asked),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// An answer to a common call: success, and a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallAnswer {
    /// Whom.
    pub(crate) token: Token,
    /// What was asked.
    pub(crate) id: u32,
    /// What the answer says besides.
    pub(crate) word: u64,
    /// The call may have left work to be done.
    pub(crate) leaves_work: bool,
}

impl CallAnswer {
    const fn info(&self) -> Info {
        Info::short(reply_id(self.id))
    }

    const fn words(&self) -> [u64; WORDS] {
        [0, self.word, 0, 0, 0, 0]
    }
}

impl Pending {
    /// An answer to a common call, as any other answer.
    #[cold]
    pub(crate) fn of_call(answer: &CallAnswer) -> Pending {
        Pending {
            to: To::Caller(answer.token),
            info: answer.info(),
            words: answer.words(),
            made: None,
        }
    }

    /// An answer to a common call that carries a right to a record that was made for it; the right is in
    /// the buffer.
    pub(crate) fn of_made(token: Token, id: u32, port: PortOf) -> Option<Pending> {
        Some(Pending {
            to: To::Caller(token),
            info: Info::new(reply_id(id), 0, 1)?,
            words: [0; WORDS],
            made: Some(Made { port, task: NULL }),
        })
    }

    /// Whether it can be sent later as well as now: it waits for nobody's order, and names nothing that
    /// may end until then.
    pub(crate) const fn may_wait(&self) -> bool {
        matches!(self.to, To::Caller(_)) && self.info.rights() == 0 && self.made.is_none()
    }

    /// An answer to a common fault, with what lies beside it, as any other answer: to be sent before the
    /// buffer is used.
    pub(crate) fn of_whole_fault(answer: &FaultAnswer) -> Pending {
        Pending {
            to: To::Caller(answer.token),
            info: Info::short(FAULT_REPLY),
            words: answer.words(),
            made: None,
        }
    }

    /// The same without what lies beside the page, which is left to faults of its own: the buffer may
    /// have been used.
    pub(crate) fn alone(mut self) -> Pending {
        if self.info == Info::short(FAULT_REPLY) {
            self.words = FaultReply {
                beside: None,
                ..FaultReply::from_words(self.words)
            }
            .to_words();
        }
        self
    }

    /// An answer to a common fault, as any other answer. What lies beside it is left to faults of its own:
    /// the buffer may be needed before it is sent.
    #[cold]
    pub(crate) fn of_fault(answer: &FaultAnswer) -> Pending {
        Pending::of_whole_fault(answer).alone()
    }
}

/// As [`exchange`], after the answer to a common fault.
#[inline(always)]
pub(crate) fn exchange_answer(answer: &FaultAnswer, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::REPLY | option::RECEIVE,
        destination: answer.token.0.get(),
        receive: set,
        info: Info::short(FAULT_REPLY),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: answer.words(),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

/// As [`exchange`], after the answer to a common call.
#[inline(always)]
pub(crate) fn exchange_call(answer: &CallAnswer, set: Name, deadline: u64) -> Received {
    let send = Send {
        options: option::REPLY | option::RECEIVE,
        destination: answer.token.0.get(),
        receive: set,
        info: answer.info(),
        send_deadline: POLL,
        receive_deadline: deadline,
        notify: NULL,
        words: answer.words(),
    };
    // SAFETY: nobody holds the body between two events.
    unsafe { trap::msg(&send) }
}

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
            return resume(to, result);
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
            Effect::Resume { to, result } => return resume(to, result),
            Effect::Reply { to, answer } => return self.compose(to?, answer),
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
        let words = [u64::from(code.raw()), 0, 0, 0, 0, 0];
        // Fails only if nobody waits any more.
        let _ = reply(token, Info::short(FAULT_REPLY), words);
    }

    fn compose(&mut self, token: Token, answer: Answer) -> Option<Pending> {
        match answer.and_then(|reply| self.compose_reply(token, &reply)) {
            Ok(pending) => Some(pending),
            Err(code) => {
                let words = [u64::from(code.raw()), 0, 0, 0, 0, 0];
                Some(Pending {
                    to: To::Caller(token),
                    info: Info::short(FAULT_REPLY),
                    words,
                    made: None,
                })
            }
        }
    }

    fn compose_reply(&mut self, token: Token, reply: &Reply) -> Result<Pending, Kern> {
        let (rights, made) = self.put_rights(reply)?;
        let mut words = [0; WORDS];
        let mut body = Body::borrow();
        let (id, length) = match &reply.message {
            Message::Map(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Entry(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Copy(message) => (message.id(), message.encode(&mut words, &mut *body)?),
            Message::Control(message) => (message.id(), message.encode(&mut words, &mut *body)?),
        };
        let info = Info::new(id, length, rights).ok_or(Kern::MigBadArguments)?;
        Ok(Pending {
            to: To::Caller(token),
            info,
            words,
            made,
        })
    }

    /// Puts the rights of an answer into the buffer; says how many, and to what.
    fn put_rights(&mut self, reply: &Reply) -> Result<(usize, Option<Made>), Kern> {
        let Some(port) = reply.right else {
            let slots = reply.slots();
            for slot in 0..slots {
                buffer::set_right(slot, NULL, Disposition::None);
            }
            return Ok((slots, None));
        };
        if let (Message::Map(vm_map::Reply::TaskCreate(_)), PortOf::Map(map)) =
            (&reply.message, port)
        {
            let (task, name) = self.create_task(map).inspect_err(|_| self.unmake(map))?;
            buffer::set_right(vm_map::TaskCreateReply::TASK, task, Disposition::MoveSend);
            buffer::set_right(vm_map::TaskCreateReply::MAP, name, Disposition::MakeSend);
            return Ok((2, Some(Made { port, task })));
        }
        if let (Message::Map(vm_map::Reply::Wire(Wired::VmGiveFrames(given))), PortOf::Map(map)) =
            (&reply.message, port)
        {
            let memory = self.give_frames(map, given.first, given.count)?;
            buffer::set_right(VmGiveFramesReply::MEMORY, memory, Disposition::CopySend);
            return Ok((1, None));
        }
        let made = Some(Made { port, task: NULL });
        let name = self
            .ports
            .get_or_make(port)
            .inspect_err(|_| self.undelivered(made))?;
        buffer::set_right(0, name, Disposition::MakeSend);
        Ok((1, made))
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
    fn unmake(&mut self, map: MapId) {
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

fn resume(to: ReplyTo, result: FaultResult) -> Option<Pending> {
    let (result, enter) = match result {
        Ok(enter) => (Ok(()), enter),
        Err(code) => (Err(code), None),
    };
    let words = FaultReply {
        result,
        enter,
        beside: None,
    }
    .to_words();
    Some(Pending {
        to: To::Caller(to?),
        info: Info::short(FAULT_REPLY),
        words,
        made: None,
    })
}
