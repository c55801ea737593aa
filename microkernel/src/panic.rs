//! Last words: what happened, where, with which registers; then the machine ends with a failure.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::context::Context;
use crate::arch::exit::{End, exit};
use crate::console::say;
use crate::processors;

/// Set while last words are printed: a fault in them must not start them again.
static DYING: AtomicBool = AtomicBool::new(false);

/// Names of the processor's vectors.
const VECTORS: [&str; 22] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "no floating-point unit",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved exception",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
];

/// A processor vector in words.
pub(crate) fn vector_name(vector: u64) -> &'static str {
    usize::try_from(vector)
        .ok()
        .and_then(|vector| VECTORS.get(vector).copied())
        .unwrap_or("interrupt")
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    once();
    say!("kernel panic: {info}");
    exit(End::Failure(1))
}

/// Ends the machine because the kernel itself was interrupted by a trap that it never causes.
pub(crate) fn kernel_fault(context: &Context, address: u64) -> ! {
    once();
    say!(
        "kernel fault: {} (vector {}, error {:#x}) at {:#x}, address {address:#x}",
        vector_name(context.kind),
        context.kind,
        context.error,
        context.rip,
    );
    registers(context);
    exit(End::Failure(1))
}

/// Ends the machine with a reason that is no bug: the message says what is wrong.
pub(crate) fn stop(why: core::fmt::Arguments<'_>) -> ! {
    once();
    say!("kernel stops: {why}");
    exit(End::Failure(1))
}

/// Prints all general registers.
pub(crate) fn registers(context: &Context) {
    let c = context;
    say!(
        "  rip {:016x} rsp {:016x} flags {:08x} cs {:x} ss {:x}",
        c.rip,
        c.rsp,
        c.rflags,
        c.cs,
        c.ss
    );
    say!(
        "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
        c.rax,
        c.rbx,
        c.rcx,
        c.rdx
    );
    say!(
        "  rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
        c.rsi,
        c.rdi,
        c.rbp,
        c.r8
    );
    say!(
        "  r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
        c.r9,
        c.r10,
        c.r11,
        c.r12
    );
    say!("  r13 {:016x} r14 {:016x} r15 {:016x}", c.r13, c.r14, c.r15);
}

fn once() {
    if DYING.swap(true, Ordering::Relaxed) {
        exit(End::Failure(1));
    }
    processors::stop_others();
}
