//! The way of a call, an answer and a page fault that meet a thread which waits.
//!
//! kernel-core decides ([`kernel_core::Handed`]); here the receiver is loaded and gets its results.
//! The six words are not seen here: they are in the registers that a function keeps for its caller,
//! and the entry code leaves them there. Whatever kernel-core does not take, or a trace that is
//! switched on wants to see, goes the general way, with the registers as they were.

use core::ptr;

use ipc_abi::fault::{FAULT, FaultReply};
use ipc_abi::message::{Info, option};
use kernel_core::{Answered, FastFault, Handed};

use crate::arch::context::{Context, Saved};
use crate::arch::layout::USER_HALF_END;
use crate::fault;
use crate::trace;
use crate::world::{self, World};

/// What the entry code goes on with.
#[repr(C)]
pub(crate) struct Next {
    /// The context of the thread to go on with; null: the general way decides.
    context: *mut Context,
    /// What its RSI is to be, if it waited in a `msg` trap.
    token: u64,
}

const DECLINED: Next = Next {
    context: ptr::null_mut(),
    token: 0,
};

/// Registers of a `msg` trap.
struct Arguments {
    options: u64,
    destination: u64,
    source: u64,
    info: u64,
    send_deadline: u64,
    receive_deadline: u64,
}

/// CALL, with the registers as the trap has them.
pub(crate) extern "C" fn call(
    destination: u64,
    source: u64,
    info: u64,
    _: u64,
    send_deadline: u64,
    receive_deadline: u64,
) -> Next {
    world::with(|world| {
        if !trace::on()
            && let Some(handed) = world.kernel.fast_call(destination, info, receive_deadline)
        {
            return hand_over(world, handed, Info(info));
        }
        decline(
            world,
            &Arguments {
                options: option::CALL,
                destination,
                source,
                info,
                send_deadline,
                receive_deadline,
            },
        )
    })
}

/// REPLY and RECEIVE. After the registers of the trap (but for the send deadline, which means
/// nothing here) come the words that the answer to a fault has: `page`, `frame`, `epoch`, `code`.
#[allow(
    clippy::too_many_arguments,
    reason = "the entry code passes registers, not a structure"
)]
pub(crate) extern "C" fn answer(
    token: u64,
    source: u64,
    info: u64,
    page: u64,
    frame: u64,
    epoch: u64,
    receive_deadline: u64,
    code: u64,
) -> Next {
    world::with(|world| {
        let World { kernel, hardware } = world;
        let enter = |fault: FastFault| {
            let reply = FaultReply::from_words([code, page, frame, epoch, 0, 0]);
            reply.result.is_ok()
                && reply
                    .enter
                    .is_none_or(|enter| hardware.memory.enter(fault.space, enter).is_ok())
        };
        if !trace::on()
            && let Some(answered) = kernel.fast_answer(token, (source, receive_deadline), info, enter)
        {
            return match answered {
                Answered::Call(handed) => hand_over(world, handed, Info(info)),
                Answered::Fault(to) => {
                    let to = Saved::of(to);
                    hardware.processor.load(to);
                    Next {
                        context: to.context(),
                        token: 0,
                    }
                }
            };
        }
        decline(
            world,
            &Arguments {
                options: option::REPLY | option::RECEIVE,
                destination: token,
                source,
                info,
                send_deadline: 0,
                receive_deadline,
            },
        )
    })
}

/// A page fault. The entry code puts address, instruction and two zeros into words 0, 2, 4 and 5.
pub(crate) extern "C" fn page_fault(context: *mut Context, address: u64) -> Next {
    let faulting = Saved::containing(context);
    let (error, ip) = faulting.with(|registers| (registers.error, registers.rip));
    let Some(access) = fault::access(error).filter(|_| address < USER_HALF_END) else {
        return DECLINED;
    };
    world::with(|world| {
        if trace::on() {
            return DECLINED;
        }
        let Some(handed) = world.kernel.fast_fault(address, access, ip) else {
            return DECLINED;
        };
        world.hardware.counters.faults += 1;
        let server = Saved::of(handed.to);
        server.with(|registers| {
            registers.rbp = u64::from(access.bits());
            registers.r13 = handed.from;
        });
        give(world, handed, Info::short(FAULT).from_kernel())
    })
}

/// Gives a message to the thread that gets it, and loads that.
#[inline(always)]
fn hand_over(world: &mut World, handed: Handed, info: Info) -> Next {
    if info.body() > 0
        && let Some(from) = world.hardware.processor.thread()
    {
        from.buffer()
            .copy_body(Saved::of(handed.to).buffer(), info.body());
    }
    give(world, handed, info)
}

#[inline(always)]
fn give(world: &mut World, handed: Handed, info: Info) -> Next {
    let to = Saved::of(handed.to);
    to.with(|registers| {
        registers.rax = handed.outcome.0;
        registers.rdi = handed.payload;
        registers.rdx = info.0;
    });
    world.hardware.counters.messages += 1;
    world.hardware.processor.load(to);
    Next {
        context: to.context(),
        token: handed.token,
    }
}

/// Stores the registers of a `msg` trap where the general way looks for them.
#[cold]
#[inline(never)]
fn decline(world: &World, arguments: &Arguments) -> Next {
    if let Some(thread) = world.hardware.processor.thread() {
        thread.with(|registers| {
            registers.rax = arguments.options;
            registers.rdi = arguments.destination;
            registers.rsi = arguments.source;
            registers.rdx = arguments.info;
            registers.r8 = arguments.send_deadline;
            registers.r9 = arguments.receive_deadline;
            registers.r10 = 0;
        });
    }
    DECLINED
}
