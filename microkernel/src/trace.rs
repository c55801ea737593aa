//! What happened: trace records to QEMU's debug console port, when the command line has `trace=1`,
//! and always the last few faults and exceptions, for last words.

use core::sync::atomic::{AtomicBool, Ordering};

use ipc_abi::exception::Exception;
use ipc_abi::trace::{Kind, Record};
use ipc_abi::types::Prot;
use kernel_core::rank::Rank;
use kernel_core::{Event, Running};

use crate::arch::clock::now_tsc;
use crate::arch::context::Saved;
use crate::arch::port_io::write8;
use crate::console::say;
use crate::lock::Lock;
use crate::world::World;

/// Where records go.
pub(crate) const PORT: u16 = 0xE9;
static ON: AtomicBool = AtomicBool::new(false);

/// Faults and exceptions that are remembered.
const LAST: usize = 8;

/// The last faults and exceptions; the oldest is at `next`.
struct Ring {
    records: [Option<Record>; LAST],
    next: usize,
}

static RING: Lock<Ring> = Lock::new(
    Rank::Trace,
    Ring {
        records: [None; LAST],
        next: 0,
    },
);

/// Switches the trace on if the command line's `trace=` word is 1.
pub(crate) fn set(word: Option<&str>) {
    ON.store(word == Some("1"), Ordering::Relaxed);
}

/// Whether anybody watches.
#[inline]
pub(crate) fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A system call begins.
pub(crate) fn trap(world: &World, thread: Saved) {
    if on() {
        let (rax, rdi) = thread.with(|registers| (registers.rax, registers.rdi));
        write(Kind::Trap, (rax & 0xFF) as u8, running(world), [rax, rdi]);
    }
}

/// A system call has its results.
pub(crate) fn trap_end(number: u8, thread: u32, caller: Saved) {
    if on() {
        let (rax, rdi) = caller.with(|registers| (registers.rax, registers.rdi));
        write(Kind::TrapEnd, number, thread, [rax, rdi]);
    }
}

/// A system call has its results, if its thread still runs.
#[inline]
pub(crate) fn trap_end_if_running(world: &World, number: u8, caller: Saved) {
    if on()
        && let Some(running) = world.kernel.running()
        && running.context == caller.word()
    {
        trap_end(number, running.thread.index(), caller);
    }
}

/// A page fault.
pub(crate) fn fault(world: &World, thread: Saved, address: u64, access: Prot) {
    let ip = thread.with(|registers| registers.rip);
    let number = running(world);
    remember(Kind::Fault, access.bits(), number, [address, ip]);
    if on() {
        write(Kind::Fault, access.bits(), number, [address, ip]);
    }
}

/// An interrupt.
pub(crate) fn interrupt(world: &World, vector: u8) {
    if on() {
        write(Kind::Interrupt, vector, running(world), [0; 2]);
    }
}

/// Another thread is loaded.
pub(crate) fn switch(to: &Running) {
    if on() {
        let thread = to.thread.index();
        let words = [u64::from(thread), u64::from(to.task.index())];
        write(Kind::Switch, 0, thread, words);
    }
}

/// Something that kernel-core tells.
#[inline(always)]
pub(crate) fn event(event: Event) {
    if let Event::Exception { exception, .. } = event {
        remember_exception(&exception);
    }
    if !on() {
        return;
    }
    match event {
        Event::Message { info, to } => {
            write(
                Kind::Message,
                0,
                to.index(),
                [info.0, u64::from(to.index())],
            );
        }
        Event::Queued { info, port } => write(Kind::Queued, 0, 0, [info.0, u64::from(port)]),
        Event::FaultEnd { thread, code } => {
            write(Kind::FaultEnd, 0, thread.index(), [u64::from(code), 0]);
        }
        Event::Exception { thread, exception } => {
            let words = [exception.code, exception.subcode];
            write(Kind::Exception, exception.kind as u8, thread.index(), words);
        }
    }
}

/// An exception, for the last words.
pub(crate) fn remember_exception(exception: &Exception) {
    let words = [exception.code, exception.subcode];
    let thread = exception.thread as u32;
    remember(Kind::Exception, exception.kind as u8, thread, words);
}

fn running(world: &World) -> u32 {
    world
        .kernel
        .running()
        .map_or(u32::MAX, |running| running.thread.index())
}

fn remember(kind: Kind, detail: u8, thread: u32, [first, second]: [u64; 2]) {
    let mut ring = RING.lock();
    let place = ring.next % LAST;
    ring.next = place + 1;
    ring.records[place] = Some(Record {
        time: now_tsc(),
        kind,
        detail,
        thread,
        first,
        second,
    });
}

/// Prints the last faults and exceptions, the oldest first.
pub(crate) fn print_last() {
    let ring = RING.lock();
    let (newer, older) = ring.records.split_at(ring.next % LAST);
    for record in older.iter().chain(newer).flatten() {
        let (thread, time) = (record.thread, record.time);
        let (detail, first, second) = (record.detail, record.first, record.second);
        match record.kind {
            Kind::Fault => say!(
                "  {time}: thread {thread} touched {first:#x} (access {detail}) at ip {second:#x}"
            ),
            _ => say!(
                "  {time}: thread {thread} raised exception {detail}, code {first:#x}, {second:#x}"
            ),
        }
    }
}

#[cold]
fn write(kind: Kind, detail: u8, thread: u32, [first, second]: [u64; 2]) {
    let record = Record {
        time: now_tsc(),
        kind,
        detail,
        thread,
        first,
        second,
    };
    for byte in record.to_bytes() {
        write8(PORT, byte);
    }
}
