//! Everything else that the processor can complain about becomes an exception message.

use ipc_abi::Kern;
use ipc_abi::exception::Kind;
use ipc_abi::state::Debug;
use kernel_core::Raised;

use crate::arch::context::Saved;
use crate::arch::state;
use crate::console::say;
use crate::fast;
use crate::panic;
use crate::schedule;
use crate::trace;
use crate::world::{self, World};

/// The running thread made an exception other than a page fault.
pub(crate) fn exception(thread: Saved) -> Option<Saved> {
    world::with(|world| {
        if !world.runs(thread) {
            return schedule::next(world);
        }
        let (vector, lost) = thread.with(|registers| (registers.kind, registers.is_lost()));
        // A jump out of the user half may be told with the target as the instruction.
        if !lost {
            let (kind, subcode) = (kind(vector), subcode(thread, vector));
            if let Some(next) = fast::exception(world, thread, kind, (vector, subcode)) {
                return Some(next);
            }
            let raised = world
                .kernel
                .raise_exception(&mut world.hardware, kind, vector, subcode);
            check(raised, thread, 0);
        }
        schedule::next(world)
    })
}

/// What else the processor says: the status of a debug exception, which the thread keeps, or the
/// error code.
fn subcode(thread: Saved, vector: u64) -> u64 {
    if vector != DEBUG {
        return thread.with(|registers| registers.error);
    }
    let status = state::take_debug_status();
    thread.set_debug(&Debug {
        status,
        ..thread.debug()
    });
    status
}

/// The vector of single steps and watched addresses.
const DEBUG: u64 = 1;

/// The running thread would go on outside the user half: its exception comes instead.
pub(crate) fn lost(world: &mut World, thread: Saved) {
    let ip = thread.with(|registers| registers.rip);
    let code = u64::from(Kern::InvalidAddress.raw());
    let raised = world
        .kernel
        .raise_exception(&mut world.hardware, Kind::BadAccess, code, ip);
    check(raised, thread, ip);
}

/// Stops the machine if what happened cannot be told to anybody: the first task is in trouble.
pub(crate) fn check(raised: Raised, thread: Saved, address: u64) {
    if raised == Raised::Handled {
        return;
    }
    thread.with(|registers| {
        say!(
            "the VM server failed: {} at ip {:#x}, address {address:#x}, error {:#x}",
            panic::vector_name(registers.kind),
            registers.rip,
            registers.error,
        );
        panic::registers(registers);
    });
    say!("last faults and exceptions, by the time stamp counter:");
    trace::print_last();
    panic::stop(format_args!(
        "nobody is left to handle the VM server's exception"
    ))
}

/// Mach's kind for a vector.
const fn kind(vector: u64) -> Kind {
    match vector {
        0 | 16 | 19 => Kind::Arithmetic,
        1 | 3 => Kind::Breakpoint,
        4 | 5 => Kind::Software,
        _ => Kind::BadInstruction,
    }
}
