//! The way of a call, an answer and a page fault that meet a thread which waits, of the taking back of one
//! page, and of the giving back of a right.
//!
//! kernel-core decides ([`kernel_core::Handed`]); here the receiver is loaded and gets its results. The
//! commonest cases are *quick*: several processors go that way at once ([`world::quick`]). A thread
//! that was handed away or waits may be run by another of them at once: nothing of it is touched any more.
//! The six words are not seen here: they are in the registers that a function keeps for its caller,
//! and the entry code leaves them there. Whatever kernel-core does not take goes the general way,
//! with the registers as they were.

use core::hint::black_box;
use core::ptr;

use ipc_abi::exception::{EXCEPTION, Kind};
use ipc_abi::fault::{FAULT, FaultReply};
use ipc_abi::message::{Info, Outcome, option};
use ipc_abi::types::Prot;
use kernel_core::paging::Take;
use kernel_core::{Answered, Called, Exchanged, Given, Handed, Machine, Position, Running, Slot};

use crate::arch::context::{Context, Saved};
use crate::arch::layout::USER_HALF_END;
use crate::arch::percpu::{self, PerCpu};
use crate::fault;
use crate::schedule::Processor;
use crate::trace;
use crate::world::{self, World};

/// What the entry code goes on with.
#[repr(C)]
pub(crate) struct Next {
    /// The context of the thread to go on with; null: the general way decides, or `token` says.
    context: *mut Context,
    /// What its RSI is to be, if it waited in a `msg` trap. Of a call that was queued: the context of the
    /// thread to go on with, by all of its registers.
    token: u64,
}

/// The general way. Out of line, so that the paths do not carry the values of this answer along.
#[cold]
#[inline(never)]
extern "C" fn declined() -> Next {
    black_box(Next {
        context: ptr::null_mut(),
        token: 0,
    })
}

/// CALL, with the registers as the trap has them, if it is quick.
pub(crate) extern "C" fn call(
    destination: u64,
    _source: u64,
    info: u64,
    _: u64,
    _: u64,
    deadline: u64,
) -> Next {
    // Whatever is more than words is not quick.
    if info >> 32 != 0 {
        return declined();
    }
    match world::quick(|world, here| quick_call(world, here, destination, info, deadline)) {
        Some(next) => next,
        None => declined(),
    }
}

#[inline(always)]
fn quick_call(
    world: &World,
    here: &PerCpu,
    destination: u64,
    info: u64,
    deadline: u64,
) -> Option<Next> {
    let kernel = &world.kernel;
    let handed = kernel.quick_call(&here.seat, destination, info, deadline)?;
    Some(give(here, handed))
}

/// CALL that is not quick. The words are in the caller's block as well.
pub(crate) extern "C" fn longer_call(destination: u64, info: u64, deadline: u64) -> Next {
    let again =
        move |world: &World, here: &PerCpu| quick_call(world, here, destination, info, deadline);
    if let Some(next) = world::quick_again(again) {
        return next;
    }
    world::with(move |world| {
        if Info(info).rights() == 1 {
            return call_right(world, destination, info, deadline);
        }
        let processor = Processor::here();
        let may_go_on = |to, turn_end| {
            processor.alarm() <= turn_end && !Saved::of(to).with(|registers| registers.is_lost())
        };
        let kernel = &mut world.kernel;
        match kernel.fast_call(destination, info, deadline, may_go_on) {
            Some(Called::Handed(handed)) => call_taken(handed, info),
            Some(Called::Queued(to)) => {
                let to = Saved::of(to);
                processor.load(to);
                Next {
                    context: ptr::null_mut(),
                    token: to.context() as u64,
                }
            }
            None => declined(),
        }
    })
}

/// REPLY and RECEIVE, with the registers as the trap has them.
pub(crate) extern "C" fn answer(
    token: u64,
    source: u64,
    info: u64,
    _: u64,
    _: u64,
    deadline: u64,
) -> *mut Context {
    let source_until = (source, deadline);
    match world::quick(|world, here| quick_answer(world, here, token, source_until, info)) {
        Some(next) => next,
        None => longer_answer(token, source, info, 0, 0, deadline),
    }
}

#[inline(always)]
fn quick_answer(
    world: &World,
    here: &PerCpu,
    token: u64,
    source: (u64, u64),
    info: u64,
) -> Option<*mut Context> {
    let kernel = &world.kernel;
    let to = kernel.quick_answer(&here.seat, token, source, info)?;
    Some(go_on(here, Saved::of(to)))
}

/// Answers that are not quick.
#[inline(never)]
extern "C" fn longer_answer(
    token: u64,
    source: u64,
    info: u64,
    _: u64,
    _: u64,
    deadline: u64,
) -> *mut Context {
    let again = move |world: &World, here: &PerCpu| {
        quick_answer(world, here, token, (source, deadline), info)
    };
    if let Some(next) = world::quick_again(again) {
        return next;
    }
    let source = (source, deadline);
    world::with(move |world| {
        if Info(info).rights() == 1 {
            return answer_right(world, token, source, info);
        }
        match world.kernel.fast_answer(token, source, info) {
            Some(Given::Answer(to)) => answer_taken(Saved::of(to), info),
            Some(Given::Exchanged(exchanged)) => answer_exchanged(exchanged),
            None => declined().context,
        }
    })
}

/// An answer was handed over, and who gave it has the next call; the entry code loads the results of the first.
#[inline(always)]
fn answer_exchanged(exchanged: Exchanged) -> *mut Context {
    let words = Saved::of(exchanged.caller).with(|registers| registers.words());
    Saved::of(exchanged.server).with(|registers| {
        registers.set_words(words);
        registers.rax = Outcome::SENT;
        registers.rdi = exchanged.payload;
        registers.rsi = exchanged.token;
        registers.rdx = exchanged.info.0;
    });
    let here = percpu::here();
    here.seat.count_message();
    go_on(here, Saved::of(exchanged.answered))
}

/// SEND and RECEIVE, perhaps with NOTIFY: destination, source, info, notify, options, deadline.
pub(crate) extern "C" fn send(
    destination: u64,
    source: u64,
    info: u64,
    notify: u64,
    options: u64,
    deadline: u64,
) -> Next {
    world::with(|world| {
        let notify = (options & option::NOTIFY != 0).then_some(notify);
        let source = (source, deadline);
        match world.kernel.fast_send(destination, source, info, notify) {
            Some(handed) => {
                Saved::of(handed.to).with(|registers| registers.rdx = info);
                call_taken(handed, info)
            }
            None => declined(),
        }
    })
}

/// `pmap_take`, with the arguments as the trap has them: gives the caller, and what was seen for a token.
/// Errors are found out the general way.
pub(crate) extern "C" fn take(space: u64, keep: u64, address: u64, epoch: u64, frame: u64) -> Next {
    let Ok(take) = Take::new(keep, address, epoch, frame) else {
        return declined();
    };
    let taken = world::again(move |world, here| {
        let (running, caller) = caller(world, here)?;
        let space = world.kernel.resolve_space(running.task, space).ok()?;
        Some(Next {
            context: caller.context(),
            token: world.hardware.memory.take(space, take).ok()?.into(),
        })
    });
    match taken {
        Some(next) => next,
        None => declined(),
    }
}

/// `port_deallocate`, with the arguments as the trap has them, if it leaves nothing to be done: gives the
/// caller.
pub(crate) extern "C" fn deallocate(name: u64, count: u64) -> Next {
    let done = world::again(move |world, here| {
        let (_, caller) = caller(world, here)?;
        world.kernel.fast_deallocate(name, count).then(|| Next {
            context: caller.context(),
            token: 0,
        })
    });
    match done {
        Some(next) => next,
        None => declined(),
    }
}

/// The thread that made the trap, if another processor did not end it meanwhile.
#[inline(always)]
fn caller(world: &World, here: &PerCpu) -> Option<(Running, Saved)> {
    let running = world.kernel.running()?;
    let caller = here.processor.thread()?;
    (running.context == caller.word()).then_some((running, caller))
}

/// REPLY and RECEIVE with an info that says no more than that it answers a fault: token, source, the
/// words of the answer up to the fourth, deadline, the fifth word.
pub(crate) extern "C" fn fault_answer(
    token: u64,
    source: u64,
    code: u64,
    page: u64,
    frame: u64,
    epoch: u64,
    deadline: u64,
    beside: u64,
) -> *mut Context {
    let reply = [code, page, frame, epoch, beside];
    let taken = world::quick(|world, here| {
        quick_fault_answer(world, here, token, (source, deadline), reply)
    });
    match taken {
        Some(next) => next,
        None => longer_fault_answer(token, source, code, page, frame, epoch, deadline, beside),
    }
}

#[inline(always)]
fn quick_fault_answer(
    world: &World,
    here: &PerCpu,
    token: u64,
    source: (u64, u64),
    [code, page, frame, epoch, beside]: [u64; 5],
) -> Option<*mut Context> {
    if code != 0 || beside != 0 {
        return None;
    }
    let World { kernel, hardware } = world;
    let (answer, answered) = kernel.quick_raised(&here.seat, token, source)?;
    if let Answered::Fault(space) = answered {
        let reply = FaultReply::from_words([0, page, frame, epoch, 0, 0]);
        let enters = |enter| hardware.memory.enter_absent(space, enter);
        if !reply.enter.is_none_or(enters) {
            answer.drop_it();
            return None;
        }
    }
    let to = Saved::of(answer.finish(&here.seat));
    here.processor.load(to);
    Some(to.context())
}

/// Answers to faults that are not quick, and to exceptions.
#[inline(never)]
extern "C" fn longer_fault_answer(
    token: u64,
    source: u64,
    code: u64,
    page: u64,
    frame: u64,
    epoch: u64,
    deadline: u64,
    beside: u64,
) -> *mut Context {
    let reply = [code, page, frame, epoch, beside];
    let again = |world: &World, here: &PerCpu| {
        quick_fault_answer(world, here, token, (source, deadline), reply)
    };
    if let Some(next) = world::quick_again(again) {
        return next;
    }
    world::with(|world| {
        let World { kernel, hardware } = world;
        let to = kernel.fast_fault_answer(token, (source, deadline), code, |space| {
            let reply = FaultReply::from_words([code, page, frame, epoch, beside, 0]);
            let Some(enter) = reply.enter else {
                return reply.result.is_ok();
            };
            if reply.result.is_err() || !hardware.memory.enter_answer(space, enter) {
                return false;
            }
            if let Some(beside) = reply.beside
                && let Some(replier) = Processor::here().thread()
            {
                let memory = &mut hardware.memory;
                memory.enter_beside(space, replier.buffer(), (enter, beside));
            }
            true
        });
        match to.map(Saved::of) {
            Some(to) => {
                Processor::here().load(to);
                to.context()
            }
            None => declined().context,
        }
    })
}

/// A page fault. The entry code puts address, instruction and two zeros into words 0, 2, 4 and 5.
pub(crate) extern "C" fn page_fault(context: *mut Context, address: u64) -> Next {
    let faulting = Saved::containing(context);
    // It exists until another processor may have the lock.
    let (error, ip) = faulting.with(|registers| (registers.error, registers.rip));
    let Some(access) = fault::access(error).filter(|_| address < USER_HALF_END) else {
        return declined();
    };
    match world::quick(|world, here| quick_fault(world, here, address, access, ip)) {
        Some(next) => next,
        None => longer_fault(address, access, ip),
    }
}

#[inline(always)]
fn quick_fault(world: &World, here: &PerCpu, address: u64, access: Prot, ip: u64) -> Option<Next> {
    let kernel = &world.kernel;
    let handed = kernel.quick_fault(&here.seat, address, access, ip)?;
    Some(fault_taken(here, handed, access))
}

/// Faults that are not quick.
#[inline(never)]
fn longer_fault(address: u64, access: Prot, ip: u64) -> Next {
    let again = |world: &World, here: &PerCpu| quick_fault(world, here, address, access, ip);
    if let Some(next) = world::quick_again(again) {
        return next;
    }
    world::with(|world| match world.kernel.fast_fault(address, access, ip) {
        Some(handed) => fault_taken(percpu::here(), handed, access),
        None => declined(),
    })
}

/// Gives a server what it is told of a fault, as far as the entry code does not.
#[inline(always)]
fn fault_taken(here: &PerCpu, handed: Handed, access: Prot) -> Next {
    here.seat.count_fault();
    Saved::of(handed.to).with(|registers| {
        registers.rbp = u64::from(access.bits());
        registers.r13 = handed.from;
        registers.rdx = Info::short(FAULT).from_kernel().0;
    });
    give(here, handed)
}

/// An exception, with its code and subcode. Gives the handler's thread, with all that it gets.
pub(crate) fn exception(
    world: &mut World,
    thread: Saved,
    kind: Kind,
    codes: (u64, u64),
) -> Option<Saved> {
    let position = thread.with(|registers| Position {
        ip: registers.rip,
        sp: registers.rsp,
    });
    let World { kernel, hardware } = world;
    let (handed, exception) = kernel.fast_exception(kind, codes, position)?;
    hardware.counters.exceptions += 1;
    hardware.counters.messages += 1;
    trace::remember_exception(&exception);
    let info = Info::short(EXCEPTION).from_kernel();
    hardware.set_words(handed.to, exception.to_words());
    hardware.set_message(
        handed.to,
        handed.outcome,
        handed.payload,
        handed.token,
        info,
    );
    let to = Saved::of(handed.to);
    Processor::here().load(to);
    Some(to)
}

/// CALL with one right.
#[inline(always)]
fn call_right(world: &mut World, destination: u64, info: u64, deadline: u64) -> Next {
    let handed = first_right().and_then(|right| {
        let kernel = &mut world.kernel;
        kernel.fast_call_right(destination, info, deadline, right)
    });
    match handed {
        Some((handed, arrived)) => {
            Saved::of(handed.to).buffer().set_right(0, arrived);
            call_taken(handed, info)
        }
        None => declined(),
    }
}

/// REPLY and RECEIVE with one right.
#[inline(never)]
fn answer_right(world: &mut World, token: u64, source: (u64, u64), info: u64) -> *mut Context {
    let answered = first_right().and_then(|right| {
        let kernel = &mut world.kernel;
        kernel.fast_answer_right(token, source, info, right)
    });
    match answered {
        Some((to, arrived)) => {
            let to = Saved::of(to);
            to.buffer().set_right(0, arrived);
            answer_taken(to, info)
        }
        None => declined().context,
    }
}

/// The right in the first slot of the running thread's buffer.
#[inline(always)]
fn first_right() -> Option<Slot> {
    let from = Processor::here().thread()?;
    Some(from.buffer().right(0))
}

/// A call or message was handed over; RDX is the entry code's to load.
#[inline(always)]
fn call_taken(handed: Handed, info: u64) -> Next {
    if Info(info).body() != 0 {
        copy_body(Saved::of(handed.to), Info(info));
    }
    give(percpu::here(), handed)
}

/// An answer was handed over; the entry code loads all results.
#[inline(always)]
fn answer_taken(to: Saved, info: u64) -> *mut Context {
    if Info(info).body() != 0 {
        copy_body(to, Info(info));
    }
    go_on(percpu::here(), to)
}

/// Loads who was answered.
#[inline(always)]
fn go_on(here: &PerCpu, to: Saved) -> *mut Context {
    here.seat.count_message();
    here.processor.load(to);
    to.context()
}

/// Copies a body from the buffer of the thread that is loaded.
#[cold]
#[inline(never)]
fn copy_body(to: Saved, info: Info) {
    let from = Processor::here().thread();
    debug_assert!(from.is_some(), "a thread that runs is loaded");
    if let Some(from) = from {
        from.buffer().copy_body(to.buffer(), info.body());
    }
}

/// Gives a thread the results of its trap, but for the token and the info.
#[inline(always)]
fn give(here: &PerCpu, handed: Handed) -> Next {
    let to = Saved::of(handed.to);
    to.with(|registers| {
        registers.rax = handed.outcome.0;
        registers.rdi = handed.payload;
    });
    Next {
        context: go_on(here, to),
        token: handed.token,
    }
}
