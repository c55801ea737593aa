//! Into the kernel and out of it: the only code that runs between ring 3 and Rust.
//!
//! There is one stack per processor, and registers are not stored on it but straight in the block
//! of the thread ([`super::context::Block`]):
//!
//! ```text
//!               block of the running thread, 1 KiB
//!   frame_end - 1024  vector registers       stored by a trap, cleared after a system call
//!             -  192  FS base, IPC buffer
//!             -  176  r15 r14 r13 r12 rbp rbx    message words
//!             -  128  r9 r8 r10 rdx rsi rdi rax
//!             -   72  r11 rcx                    stored by a trap only
//!             -   56  kind, error code
//!             -   40  rip cs rflags rsp ss       pushed by the processor at a trap
//!   frame_end = TSS.RSP0 = gs:[frame_end]
//!
//!               stack of the processor, 64 KiB
//!   stack_top         empty whenever ring 3 or the idle loop runs
//! ```
//!
//! Rust gets the context's address and gives back that of the thread to go on with, or null to
//! idle; nothing else survives on the stack. A thread that came by SYSCALL goes back by SYSRET
//! with cleared vector registers; any other by IRETQ with all of its own. An interrupt finds ring 0
//! only in the idle loop, whose place on the stack is simply dropped; any other trap in ring 0 is a
//! kernel bug. If another processor ended the running thread meanwhile, frame_end leads nowhere
//! (`percpu::run_nowhere`), and whoever handles the trap sees that its thread does not run.
//! NMI, double fault and machine check have stacks of their own and never look at GS; an NMI that
//! tells of no failure is passed over;
//! the debug exception has one too, from which a user's is moved to the thread's block.

use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr;

use super::apic;
use super::context::{Block, Context, SYSTEM_CALL, Saved};
use super::percpu::{FRAME_END, PerCpu};
use super::vector::Mode;

unsafe extern "C" {
    /// The first of 256 stubs, 16 bytes each.
    static vector_stubs: u8;
    /// Goes on with a thread, or idles if null. Drops the stack.
    fn resume(context: *mut Context) -> !;
}

/// Address of the stub of a vector.
pub(super) fn stub_address(vector: u8) -> u64 {
    &raw const vector_stubs as u64 + u64::from(vector) * 16
}

/// Leaves start-up for the first thread.
pub(crate) fn leave(next: Option<Saved>) -> ! {
    // SAFETY: the context is null or that of the thread that was made the running one, complete.
    unsafe { resume(pointer(next)) }
}

#[inline(always)]
fn pointer(next: Option<Saved>) -> *mut Context {
    let next = next.or_else(crate::schedule::rest);
    next.map_or(ptr::null_mut(), Saved::context)
}

/// Stores the registers that a system call keeps, RAX first. RSP: where RAX is stored.
macro_rules! push_registers {
    () => {
        "push rax
         push rdi
         push rsi
         push rdx
         push r10
         push r8
         push r9
         push rbx
         push rbp
         push r12
         push r13
         push r14
         push r15"
    };
}

/// Stores all general registers, RCX first.
macro_rules! push_all {
    () => {
        concat!("push rcx\n push r11\n", push_registers!())
    };
}

/// Takes back what [`push_registers`] stored.
macro_rules! pop_registers {
    () => {
        "pop r15
         pop r14
         pop r13
         pop r12
         pop rbp
         pop rbx
         pop r9
         pop r8
         pop r10
         pop rdx
         pop rsi
         pop rdi
         pop rax"
    };
}

pub(super) use {push_all, push_registers};

global_asm!(
    r#"
    .pushsection .text.entry, "ax", @progbits
    // A system call whose words are in their registers. RSP: where RAX is stored in the block.
    .global store_registers
store_registers:
    "#,
    push_registers!(),
    r#"
    mov rdi, rsp
    mov rsp, gs:[{stack_top}]
    call {handle_system_call}
    mov rdi, rax

    .global resume
resume:                                 // RDI: context of the thread, or null
    test rdi, rdi
    jz idle
    mov rsp, rdi
    cmp qword ptr [rdi + {kind}], {system_call}
    jne enter_trapped

    // Back by SYSRET: vector registers get their initial values.
    cmp dword ptr gs:[{vector_mode}], {in_use}
    jb 2f
    mov ecx, 1
    xgetbv
    test al, 1                          // x87 in use
    jnz 1f
    vzeroall
    ldmxcsr [rip + {cleared} + 24]
    jmp 3f
1:  mov eax, 7
    xor edx, edx
    xrstor64 [rip + {cleared}]
    jmp 3f
2:  cmp dword ptr gs:[{vector_mode}], {fxsave}
    jne 1b
    fxrstor64 [rip + {cleared}]
3:
    "#,
    pop_registers!(),
    r#"
    mov rcx, [rsp + 32]
    mov r11, [rsp + 48]
    mov rsp, [rsp + 56]
    swapgs
    sysretq

    // Back by IRETQ with every register. Until its next trap it counts as in a system call.
    .global enter_trapped
enter_trapped:
    cmp dword ptr gs:[{vector_mode}], {fxsave}
    je 5f
    mov eax, 7
    xor edx, edx
    xrstor64 [rdi - {context}]
    jmp 6f
5:  fxrstor64 [rdi - {context}]
6:
    "#,
    pop_registers!(),
    r#"
    pop r11
    pop rcx
    mov qword ptr [rsp], {system_call}
    add rsp, 16
    swapgs
    iretq

idle:
    mov rsp, gs:[{stack_top}]
    sti
7:  hlt
    jmp 7b
idle_end:

    // Error code and vector are pushed; the processor stored the rest in the thread's block.
trap_common:
    test byte ptr [rsp + 24], 3
    jz from_kernel
    "#,
    push_all!(),
    r#"
    swapgs
    mov rdi, rsp
    mov rsp, gs:[{stack_top}]
    push 2
    popfq                               // direction, alignment check, nested task: off
    inc qword ptr gs:[{entries}]
    mov eax, 7
    xor edx, edx
    mov ecx, gs:[{vector_mode}]
    cmp ecx, {xsaveopt}
    jae 3f
    cmp ecx, {fxsave}
    je 2f
    xsave64 [rdi - {context}]
    jmp 4f
2:  fxsave64 [rdi - {context}]
    jmp 4f
3:  xsaveopt64 [rdi - {context}]
4:
    // RDI: the context, with all registers in its block.
    .global stored_trap
stored_trap:
    call {handle_trap}
    mov rdi, rax
    jmp resume

    .global from_kernel
from_kernel:
    push rax
    lea rax, [rip + idle]
    cmp [rsp + 24], rax
    jb 2f
    lea rax, [rip + idle_end]
    cmp [rsp + 24], rax
    jae 2f
    cmp dword ptr [rsp + 8], 32         // an exception in the idle loop is a bug as any other
    jb 2f
    mov edi, [rsp + 8]
    mov rsp, gs:[{stack_top}]
    inc qword ptr gs:[{entries}]
    call {handle_idle_interrupt}
    mov rdi, rax
    jmp resume
2:  pop rax

    // Last words: every register as a context on whatever stack this is.
report:
    "#,
    push_all!(),
    r#"
    mov rdi, rsp
    and rsp, -16
    cld
    call {handle_kernel_fault}
    ud2

    // A debug exception has a stack of its own; a user's is moved to where others are stored.
debug_common:
    test byte ptr [rsp + 24], 3
    jz debug_in_kernel
    swapgs
    mov gs:[{scratch}], rax
    mov rax, gs:[{frame_end}]
    pop qword ptr [rax - 56]
    pop qword ptr [rax - 48]
    pop qword ptr [rax - 40]
    pop qword ptr [rax - 32]
    pop qword ptr [rax - 24]
    pop qword ptr [rax - 16]
    pop qword ptr [rax - 8]
    lea rsp, [rax - 56]
    mov rax, gs:[{scratch}]
    swapgs
    jmp trap_common

    // MOV SS can delay the stop for a watched word that it reads until the kernel's first
    // instruction. That stop is lost. Nothing else that is watched can be met here.
debug_in_kernel:
    push rax
    mov rax, dr6
    test al, 15
    jz 2f
    mov eax, 0xFFFF0FF0
    mov dr6, rax
    pop rax
    add rsp, 16
    iretq
2:  pop rax
    jmp report

    // A non-maskable interrupt may come anywhere, also between two instructions of a stub. It has a
    // stack of its own, is counted and uses nothing else. While a processor prints last words, every
    // other stops. If memory or a bus has failed (bits 6 and 7 of port 0x61), the machine ends; any
    // other was for nobody.
nmi:
    push rax
    lock inc qword ptr [rip + {nmis}]
    mov eax, [rip + {last}]
    test eax, eax
    jnz 3f
2:  in al, 0x61
    test al, 0xC0
    pop rax
    jnz report
    add rsp, 16
    iretq
3:  push rcx
    movabs rcx, {identifier}
    mov ecx, [rcx]
    shr ecx, 24
    inc ecx
    cmp eax, ecx
    pop rcx
    je 2b
4:  hlt                                 // for good: no further one comes before an IRETQ
    jmp 4b

    .balign 16
    .global vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    // 8, 10 to 14, 17, 21, 29 and 30 come with an error code.
    .if (vector >= 32) || ((0x60227D00 >> vector) & 1 == 0)
    push 0
    .endif
    push vector
    .if vector == 1
    jmp debug_common
    .elseif vector == 2
    jmp nmi
    .elseif (vector == 8) || (vector == 18)
    jmp report
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr
    .popsection
    "#,
    scratch = const offset_of!(PerCpu, scratch),
    frame_end = const FRAME_END,
    stack_top = const offset_of!(PerCpu, stack_top),
    vector_mode = const offset_of!(PerCpu, vector_mode),
    entries = const offset_of!(PerCpu, entries),
    kind = const offset_of!(Context, kind),
    context = const offset_of!(Block, context),
    system_call = const SYSTEM_CALL,
    fxsave = const Mode::Fxsave as u64,
    xsaveopt = const Mode::Xsaveopt as u64,
    in_use = const Mode::XsaveoptInUse as u64,
    cleared = sym super::vector::CLEARED_IMAGE,
    nmis = sym apic::NON_MASKABLES,
    last = sym apic::LAST,
    identifier = const apic::IDENTIFIER_ADDRESS,
    handle_system_call = sym system_call,
    handle_trap = sym trap,
    handle_idle_interrupt = sym idle_interrupt,
    handle_kernel_fault = sym kernel_fault,
);

/// Rust's side of SYSCALL.
extern "C" fn system_call(context: *mut Context) -> *mut Context {
    pointer(crate::trap::system_call(Saved::containing(context)))
}

/// Rust's side of exceptions and interrupts in ring 3.
extern "C" fn trap(context: *mut Context) -> *mut Context {
    // Read before anything could fault; meaningful for page faults only.
    let address = super::cpu::fault_address();
    let saved = Saved::containing(context);
    pointer(match saved.with(|context| context.kind) {
        14 => crate::fault::page_fault(saved, address),
        0..32 => crate::exception::exception(saved),
        vector => crate::schedule::interrupt(vector as u8),
    })
}

/// Rust's side of an interrupt in the idle loop.
extern "C" fn idle_interrupt(vector: u8) -> *mut Context {
    pointer(crate::schedule::interrupt(vector))
}

/// A trap in ring 0, an NMI, a double fault or a machine check.
extern "C" fn kernel_fault(context: &Context) -> ! {
    crate::panic::kernel_fault(context, super::cpu::fault_address())
}
