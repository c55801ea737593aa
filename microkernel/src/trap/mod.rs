//! System calls: the table from trap number to handler. Nothing else dispatches.
//!
//! A handler gets the world and the six argument words, and answers with up to two words or a
//! reason to stop; [`system_call`] puts the answer in the caller's registers. `msg` alone has its
//! own register use, and gives its results through kernel-core, at once or later.

use ipc_abi::Kern;
use ipc_abi::kern_return;
use ipc_abi::trap::Trap;

use crate::arch::context::Saved;
use crate::audit;
use crate::frames::{self, failing};
use crate::schedule;
use crate::trace;
use crate::world::{self, World};

mod debug;
mod device;
mod frame;
mod message;
mod pmap;
mod port;
mod task;
mod thread;
mod time;

/// The argument words, in order.
pub(crate) type Arguments = [u64; 6];

/// Why a handler has no results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It failed.
    Code(Kern),
    /// A slice of the work is done: look at pending interrupts, then repeat the trap.
    Again,
}

impl From<Kern> for Stop {
    fn from(code: Kern) -> Stop {
        Stop::Code(code)
    }
}

/// Results of a trap: up to two words.
pub(crate) type Answer = Result<[u64; 2], Stop>;

/// No results, only the code.
pub(crate) const NOTHING: [u64; 2] = [0; 2];

type Handler = fn(&mut World, Arguments) -> Answer;

/// The handler of each trap but `msg`.
const fn handler(trap: Trap) -> Option<Handler> {
    Some(match trap {
        Trap::Msg => return None,
        Trap::PortAllocate => port::allocate,
        Trap::PortSetAllocate => port::set_allocate,
        Trap::PortDestroy => port::destroy,
        Trap::PortDeallocate => port::deallocate,
        Trap::PortMakeSend => port::make_send,
        Trap::PortMoveMember => port::move_member,
        Trap::PortRequestNotification => port::request_notification,
        Trap::PortSetAttributes => port::set_attributes,
        Trap::PortModRefs => port::mod_refs,
        Trap::PortGetRefs => port::get_refs,
        Trap::PortType => port::kinds,
        Trap::PortNames => port::names,
        Trap::PortGetStatus => port::get_status,
        Trap::PortSetMakeSend => port::set_make_send,
        Trap::PortInsertMember => port::insert_member,
        Trap::PortExtractMember => port::extract_member,
        Trap::PortInsertRight => port::insert_right,
        Trap::PortExtractRight => port::extract_right,
        Trap::TaskCreate => task::create,
        Trap::TaskTerminate => task::terminate,
        Trap::TaskSetSpecialPort => task::set_special_port,
        Trap::TaskGetSpecialPort => task::get_special_port,
        Trap::TaskSetBand => task::set_band,
        Trap::TaskSuspend => task::suspend,
        Trap::TaskResume => task::resume,
        Trap::TaskThreads => task::threads,
        Trap::TaskInfo => task::info,
        Trap::ExceptionPortsSet => task::exception_ports_set,
        Trap::ExceptionPortsSwap => task::exception_ports_swap,
        Trap::ExceptionPortsGet => task::exception_ports_get,
        Trap::TaskGetQuota => task::get_quota,
        Trap::TaskSetQuota => task::set_quota,
        Trap::ThreadCreate => thread::create,
        Trap::ThreadTerminate => thread::terminate,
        Trap::ThreadAbort => thread::abort,
        Trap::ThreadAbortSafely => thread::abort_safely,
        Trap::ThreadSuspend => thread::suspend,
        Trap::ThreadResume => thread::resume,
        Trap::ThreadGetState => thread::get_state,
        Trap::ThreadSetState => thread::set_state,
        Trap::ThreadInfo => thread::info,
        Trap::ThreadSetTls => thread::set_tls,
        Trap::ThreadYield => thread::yield_,
        Trap::ThreadSetProcessor => thread::set_processor,
        Trap::ThreadSetExceptionPort => thread::set_exception_port,
        Trap::SpaceCreate => pmap::space_create,
        Trap::PmapBatch => pmap::batch,
        Trap::PmapTake => pmap::take,
        Trap::PmapPass => pmap::pass,
        Trap::FrameDonate => frame::donate,
        Trap::HostSetMemoryLow => frame::set_memory_low,
        Trap::OwnerCreate => frame::owner_create,
        Trap::FrameGive => frame::give,
        Trap::OwnerDestroy => frame::owner_destroy,
        Trap::OwnerCollect => frame::owner_collect,
        Trap::FrameReclaim => frame::reclaim,
        Trap::DevicePortIo => device::port_io,
        Trap::DeviceRestrict => device::restrict,
        Trap::InterruptCreate => device::interrupt_create,
        Trap::InterruptEnable => device::interrupt_enable,
        Trap::InterruptSetProcessor => device::interrupt_set_processor,
        Trap::DeviceAttach => device::attach,
        Trap::DeviceShow => device::show,
        Trap::DeviceConfigIo => device::config_io,
        Trap::ClockGet => time::clock_get,
        Trap::ConsoleWrite => debug::console_write,
        Trap::HostShutdown => debug::shutdown,
        Trap::HostStatistics => debug::statistics,
        Trap::DebugFailAllocation => debug::fail_allocation,
    })
}

/// [`handler`] by number.
static HANDLERS: [Option<Handler>; 256] = {
    let mut table = [None; 256];
    let mut index = 0;
    while index < Trap::ALL.len() {
        let trap = Trap::ALL[index];
        table[trap as usize] = handler(trap);
        index += 1;
    }
    table
};

/// Whether a trap wakes nobody, moves no deadline and leaves nothing to do, however it ends: then the
/// thread that made it goes on.
const fn is_quiet(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::PortAllocate
            | Trap::PortSetAllocate
            | Trap::PortMakeSend
            | Trap::PmapBatch
            | Trap::PmapTake
            | Trap::PmapPass
            | Trap::ClockGet
    )
}

/// [`is_quiet`] by number.
static QUIET: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < Trap::ALL.len() {
        let trap = Trap::ALL[index];
        table[trap as usize] = is_quiet(trap);
        index += 1;
    }
    table
};

/// A system call of the running thread, whose registers are in `caller`.
pub(crate) fn system_call(caller: Saved) -> Option<Saved> {
    world::with(|world| {
        if !world.runs(caller) {
            return schedule::next(world);
        }
        let raw = caller.with(|registers| registers.rax);
        let number = (raw & 0xFF) as u8;
        failing::begin(caller.word().0);
        if world.kernel.is_fast() && quiet(world, caller, raw) {
            failing::end();
            return Some(caller);
        }
        trace::trap(world, caller);
        if number == Trap::Msg as u8 {
            message::msg(world, caller);
        } else {
            match HANDLERS[usize::from(number)].filter(|_| raw <= 0xFF) {
                Some(handler) => dispatch(world, caller, number, handler),
                None => finish(caller, Err(Kern::InvalidTrap)),
            }
        }
        failing::end();
        world.settle_bills();
        audit::count(world);
        schedule::next(world)
    })
}

/// Carries a trap out after which the thread goes on, and there is nothing else to look at.
#[inline(always)]
fn quiet(world: &mut World, caller: Saved, raw: u64) -> bool {
    let place = (raw & 0xFF) as usize;
    if raw == Trap::PortDeallocate as u64 {
        let [name, count, ..] = caller.with(|registers| registers.arguments());
        let done = world.kernel.fast_deallocate(name, count);
        if done {
            finish(caller, Ok(NOTHING));
        }
        return done;
    }
    if raw > 0xFF || !QUIET[place] {
        return false;
    }
    let Some(handler) = HANDLERS[place] else {
        return false;
    };
    let arguments = caller.with(|registers| registers.arguments());
    complete(caller, handler(world, arguments));
    // Whoever is short of memory is to be told.
    if frames::is_short() {
        world::allow_fast(world, false);
    }
    true
}

fn dispatch(world: &mut World, caller: Saved, number: u8, handler: Handler) {
    let arguments = caller.with(|registers| registers.arguments());
    let ends = number == Trap::TaskTerminate as u8 || number == Trap::ThreadTerminate as u8;
    let running = world.kernel.running().filter(|_| ends || trace::on());
    let answer = handler(world, arguments);
    // Whoever ended itself has no registers any more.
    if ends && running.is_none_or(|running| world.kernel.context(running.thread).is_none()) {
        return;
    }
    complete(caller, answer);
    if let Some(running) = running {
        trace::trap_end(number, running.thread.index(), caller);
    }
}

/// Puts what a handler answered in the registers.
fn complete(caller: Saved, answer: Answer) {
    match answer {
        Ok(results) => finish(caller, Ok(results)),
        Err(Stop::Code(code)) => finish(caller, Err(code)),
        Err(Stop::Again) => repeat(caller),
    }
}

/// Puts a trap's results in the registers.
fn finish(caller: Saved, results: Result<[u64; 2], Kern>) {
    let [rdi, rsi] = results.unwrap_or(NOTHING);
    caller.with(|registers| {
        registers.rax = u64::from(kern_return::to_raw(results));
        registers.rdi = rdi;
        registers.rsi = rsi;
    });
}

/// Lets the thread execute its SYSCALL again, after interrupts had their chance in ring 3.
fn repeat(caller: Saved) {
    caller.with(|registers| registers.rip = registers.rip.wrapping_sub(SYSCALL_LENGTH));
}

/// Bytes of the SYSCALL instruction.
const SYSCALL_LENGTH: u64 = 2;
