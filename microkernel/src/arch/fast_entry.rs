//! Where SYSCALL enters, and the short ways through the kernel: traps that meet a thread which waits.
//!
//! A short way keeps the six words in the registers that a function of the sysv64 ABI saves for its
//! caller. The handler gives the context of the thread to go on with in RAX and its token in RDX, or
//! 0: then a call was queued, or nothing has happened, and the general way of `entry` decides. What that
//! needs is stored in the caller's block beforehand, where it belongs. Those traps of these that wait for
//! nobody, PMAP_TAKE and PORT_DEALLOCATE, give their own caller's context, and their result in RDX.
//!
//! All of it exists twice: for processors on which XGETBV(1) tells whether the x87 registers are in
//! use, and for the others. So no exit has to ask which vector instructions there are.

use core::arch::global_asm;
use core::mem::offset_of;

use super::context::{Block, Context};
use super::entry::{push_all, push_registers};
use super::percpu::{FRAME_END, PerCpu};
use super::vector::Mode;
use crate::fast;
use ipc_abi::exception::EXCEPTION_REPLY;
use ipc_abi::fault::FAULT_REPLY;
use ipc_abi::message::{Outcome, option};
use ipc_abi::trap::Trap;

unsafe extern "C" {
    static system_call_in_use: u8;
    static system_call_plain: u8;
    static page_fault_in_use: u8;
}

/// Address of the entry for SYSCALL.
pub(crate) fn system_call_address(mode: Mode) -> u64 {
    match mode {
        Mode::XsaveoptInUse => &raw const system_call_in_use as u64,
        Mode::Xsaveopt | Mode::Xsave | Mode::Fxsave => &raw const system_call_plain as u64,
    }
}

/// Address of the entry for page faults, if the processor has one of its own.
pub(super) fn page_fault_address(mode: Mode) -> Option<u64> {
    (mode == Mode::XsaveoptInUse).then_some(&raw const page_fault_in_use as u64)
}

// The answers to faults and exceptions are told by one comparison.
const _: () = assert!(EXCEPTION_REPLY == FAULT_REPLY + 1);

global_asm!(
    r#"
    // Gives the vector registers their initial values. Loses RAX, RCX and RDX.
    .macro clear_vector vector, way
    .ifc \vector, in_use
    mov ecx, 1
    xgetbv
    test al, 1                          // x87 in use
    jz zero_\way
    xrstor64 [rip + {cleared}]          // what is in use, EDX:EAX, gets its initial values
cleared_\way:
    ldmxcsr [rip + {cleared} + 24]
    .else
    cmp dword ptr gs:[{vector_mode}], {fxsave}
    je zero_\way
    mov eax, 7
    xor edx, edx
    xrstor64 [rip + {cleared}]
cleared_\way:
    .endif
    .endm

    // What `clear_vector` does if nothing is there to be restored.
    .macro zero_vector vector, way
zero_\way:
    .ifc \vector, in_use
    vzeroall
    .else
    fxrstor64 [rip + {cleared}]
    .endif
    jmp cleared_\way
    .endm

    // Goes back to a thread that waited in a `msg` trap. R8: its context. RAX, RDI, RSI and RDX are loaded.
    .macro leave_waiting
    mov rcx, [r8 + {rip}]
    mov r11, [r8 + {rflags}]
    mov rsp, [r8 + {rsp}]
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    swapgs
    sysretq
    .endm

    // Goes back to a thread that waited in a `msg` trap. RAX: its context. RDX: token. `called`: its info
    // is on the stack.
    .macro enter_waiting vector
enter_waiting_\vector:
    mov r8, rax
    mov rsi, rdx
    clear_vector \vector, waiting_\vector
    mov rdx, [r8 + {rdx}]
    jmp leave_waiting_\vector
enter_called_\vector:
    mov r8, rax
    mov rsi, rdx
    clear_vector \vector, called_\vector
    pop rdx
leave_waiting_\vector:
    mov rdi, [r8 + {rdi}]
    mov rax, [r8 + {rax}]
    leave_waiting
    zero_vector \vector, waiting_\vector
    zero_vector \vector, called_\vector

    // Goes back to a thread that called, with an answer. RAX: its context. Its info is on the stack.
enter_answered_\vector:
    mov r8, rax
    clear_vector \vector, answered_\vector
    pop rdx
    xor edi, edi
    xor esi, esi
    movabs rax, {sent}
    leave_waiting
    zero_vector \vector, answered_\vector
    .endm

    .macro system_call vector
    .balign 64
    .global system_call_\vector
system_call_\vector:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{frame_end}]
    mov [rsp + {rip} - {size}], rcx
    mov [rsp + {rflags} - {size}], r11
    mov rcx, gs:[{scratch}]
    mov [rsp + {rsp} - {size}], rcx
    inc qword ptr gs:[{entries}]
    cmp rax, {call}
    je call_\vector
    cmp rax, {answer}
    je answer_\vector
    cmp rax, {send}
    je send_\vector
    cmp rax, {send_notify}
    je send_\vector
    cmp rax, {take}
    je take_\vector
    cmp rax, {deallocate}
    je deallocate_\vector
    sub rsp, {pushed}
    jmp store_registers

call_\vector:
    mov rsp, gs:[{stack_top}]
    push r9
    push rsi
    push rdi
    push rdx
    call {handle_call}
    test rax, rax
    jnz enter_called_\vector
    // If the call is queued, whoever receives it finds the words in the block.
    mov rcx, gs:[{frame_end}]
    mov [rcx + {rbx} - {size}], rbx
    mov [rcx + {rbp} - {size}], rbp
    mov [rcx + {r12} - {size}], r12
    mov [rcx + {r13} - {size}], r13
    mov [rcx + {r14} - {size}], r14
    mov [rcx + {r15} - {size}], r15
    mov rsi, [rsp]
    mov rdi, [rsp + 8]
    mov rdx, [rsp + 24]
    call {handle_longer_call}
    test rax, rax
    jnz enter_called_\vector
    jmp declined_call

answer_\vector:
    mov rsp, gs:[{stack_top}]
    push r9
    push rsi
    push rdi
    push rdx
    lea rcx, [rdx - {fault_reply}]
    cmp rcx, 1                          // to a fault, to an exception
    jbe answer_fault
    call {handle_answer}
    test rax, rax
    jnz enter_answered_\vector
    jmp declined_answer

send_\vector:
    mov [rsp + {rax} - {size}], rax
    mov [rsp + {rdi} - {size}], rdi
    mov [rsp + {rsi} - {size}], rsi
    mov [rsp + {rdx} - {size}], rdx
    mov [rsp + {r10} - {size}], r10
    mov [rsp + {r8} - {size}], r8
    mov [rsp + {r9} - {size}], r9
    mov rsp, gs:[{stack_top}]
    mov rcx, r10
    mov r8, rax
    call {handle_send}
    test rax, rax
    jnz enter_waiting_\vector
    jmp declined_send

    stays \vector, take, {handle_take}
    stays \vector, deallocate, {handle_deallocate}
    .endm

    // A trap that waits for nobody. What the caller keeps is on the stack; it goes on itself.
    .macro stays vector, trap, handler
\trap\()_\vector:
    mov rsp, gs:[{stack_top}]
    push r9
    push rsi
    push rdi
    push rdx
    push r8
    push r10
    mov rcx, r10
    call \handler
    test rax, rax
    jz declined_\trap
    mov r9, rax
    mov rdi, rdx
    clear_vector \vector, \trap\()_done_\vector
    pop r10
    pop r8
    pop rdx
    mov rcx, [r9 + {rip}]
    mov r11, [r9 + {rflags}]
    mov rsi, [r9 + {rsp}]
    mov r9, [rsp + 16]
    mov rsp, rsi
    xor esi, esi
    xor eax, eax
    swapgs
    sysretq
    zero_vector \vector, \trap\()_done_\vector
    .endm

    .pushsection .text.entry, "ax", @progbits
    system_call in_use
    enter_waiting in_use

    .balign 64
    .global page_fault_in_use
page_fault_in_use:
    push 14
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
    xsaveopt64 [rdi - {context}]
    mov rbx, cr2
    mov rsi, rbx
    mov r12, [rdi + {rip}]
    call {handle_page_fault}
    test rax, rax
    jz page_fault_declined
    mov rbp, [rax + {rbp}]
    mov r13, [rax + {r13}]
    xor r14d, r14d
    xor r15d, r15d
    jmp enter_waiting_in_use
page_fault_declined:                    // the thread may be gone: see `percpu::run_nowhere`
    mov rdi, gs:[{frame_end}]
    sub rdi, {size}
    jmp stored_trap

    // The words of the answer are arguments.
answer_fault:
    push r14
    push r9
    mov rdx, rbx
    mov rcx, rbp
    mov r8, r12
    mov r9, r13
    call {handle_fault_answer}
    mov rdi, rax
    test rax, rax
    jz declined_fault_answer
    mov rsp, rax
    jmp enter_trapped

    // It is queued: RDX is the context of whoever goes on.
queued_call:
    mov rdi, rdx
    jmp resume

    // Registers come from the stack.
declined_call:
    test rdx, rdx
    jnz queued_call
    mov eax, {call}
    jmp declined
declined_fault_answer:
    add rsp, 16
declined_answer:
    mov eax, {answer}
declined:
    pop rdx
    pop rdi
    pop rsi
    pop r9
    xor r8d, r8d                        // send deadline and port for `send possible` mean nothing
    xor r10d, r10d
    mov rsp, gs:[{frame_end}]
    sub rsp, {pushed}
    jmp store_registers

declined_deallocate:
    mov eax, {deallocate}
    jmp declined_stays
declined_take:
    mov eax, {take}
declined_stays:
    pop r10
    pop r8
    pop rdx
    pop rdi
    pop rsi
    pop r9
    mov rsp, gs:[{frame_end}]
    sub rsp, {pushed}
    jmp store_registers

    // Registers come from the block.
declined_send:
    mov rsp, gs:[{frame_end}]
    mov rax, [rsp + {rax} - {size}]
    mov rdi, [rsp + {rdi} - {size}]
    mov rsi, [rsp + {rsi} - {size}]
    mov rdx, [rsp + {rdx} - {size}]
    mov r8, [rsp + {r8} - {size}]
    mov r9, [rsp + {r9} - {size}]
    mov r10, [rsp + {r10} - {size}]
    sub rsp, {pushed}
    jmp store_registers

    system_call plain
    enter_waiting plain
    .popsection
    "#,
    scratch = const offset_of!(PerCpu, scratch),
    frame_end = const FRAME_END,
    stack_top = const offset_of!(PerCpu, stack_top),
    vector_mode = const offset_of!(PerCpu, vector_mode),
    entries = const offset_of!(PerCpu, entries),
    fxsave = const Mode::Fxsave as u64,
    cleared = sym super::vector::CLEARED_IMAGE,
    context = const offset_of!(Block, context),
    size = const size_of::<Context>(),
    pushed = const size_of::<Context>() - offset_of!(Context, r11),
    rax = const offset_of!(Context, rax),
    rdi = const offset_of!(Context, rdi),
    rsi = const offset_of!(Context, rsi),
    rdx = const offset_of!(Context, rdx),
    r8 = const offset_of!(Context, r8),
    r9 = const offset_of!(Context, r9),
    r10 = const offset_of!(Context, r10),
    rbx = const offset_of!(Context, rbx),
    rbp = const offset_of!(Context, rbp),
    r12 = const offset_of!(Context, r12),
    r13 = const offset_of!(Context, r13),
    r14 = const offset_of!(Context, r14),
    r15 = const offset_of!(Context, r15),
    rip = const offset_of!(Context, rip),
    rflags = const offset_of!(Context, rflags),
    rsp = const offset_of!(Context, rsp),
    sent = const Outcome::SENT,
    call = const option::CALL,
    answer = const option::REPLY | option::RECEIVE,
    send = const option::SEND | option::RECEIVE,
    send_notify = const option::SEND | option::NOTIFY | option::RECEIVE,
    take = const Trap::PmapTake as u64,
    deallocate = const Trap::PortDeallocate as u64,
    fault_reply = const FAULT_REPLY,
    handle_call = sym fast::call,
    handle_longer_call = sym fast::longer_call,
    handle_answer = sym fast::answer,
    handle_send = sym fast::send,
    handle_take = sym fast::take,
    handle_deallocate = sym fast::deallocate,
    handle_fault_answer = sym fast::fault_answer,
    handle_page_fault = sym fast::page_fault,
);
