//! A page fault of ring 3 becomes a message.
//!
//! The processor says which address and which access; kernel-core sends that to the task's fault
//! port and blocks the thread until the answer, whose translations `Machine::resolve_fault` enters.
//! Nothing of virtual memory is decided here.

use ipc_abi::types::Prot;
use ipc_abi::{Kern, exception::Kind};

use crate::arch::context::Saved;
use crate::arch::layout::USER_HALF_END;
use crate::exception;
use crate::schedule;
use crate::trace;
use crate::world::{self, World};

/// Bits of the processor's error code.
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

/// What an access needs, from the processor's error code; `None`: nothing that a task could do.
#[inline]
pub(crate) const fn access(error: u64) -> Option<Prot> {
    if error & RESERVED != 0 || error & USER == 0 {
        None
    } else {
        Some(wanted(error))
    }
}

#[inline]
const fn wanted(error: u64) -> Prot {
    if error & FETCH != 0 {
        Prot::EXECUTE
    } else if error & WRITE != 0 {
        Prot::WRITE
    } else {
        Prot::READ
    }
}

/// The running thread touched `address`.
pub(crate) fn page_fault(thread: Saved, address: u64) -> Option<Saved> {
    world::with(|world| {
        if !world.runs(thread) {
            return schedule::next(world);
        }
        raise(world, thread, address);
        schedule::next(world)
    })
}

fn raise(world: &mut World, thread: Saved, address: u64) {
    let error = thread.with(|registers| registers.error);
    if error & RESERVED != 0 {
        crate::panic::stop(format_args!(
            "a page table is broken: address {address:#x}, error {error:#x}"
        ));
    }
    let access = wanted(error);
    world.hardware.counters.faults += 1;
    trace::fault(world, thread, address, access);
    let kernel = &mut world.kernel;
    let mut refuse = |code: Kern| {
        let code = u64::from(code.raw());
        kernel.raise_exception(&mut world.hardware, Kind::BadAccess, code, address)
    };
    let raised = if address >= USER_HALF_END {
        refuse(Kern::InvalidAddress)
    } else if error & USER == 0 {
        // The processor's own access for an instruction (a descriptor; with some emulators a
        // far return). SMAP forbids it whatever is entered, so nobody could resolve it.
        refuse(Kern::ProtectionFailure)
    } else {
        kernel.raise_fault(&mut world.hardware, address, access)
    };
    exception::check(raised, thread, address);
}
