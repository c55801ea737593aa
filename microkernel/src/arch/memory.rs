//! The memory functions that compiled code calls: copy, move, fill, compare.
//!
//! The precompiled `core` brings none on this target. They are assembly, so that the compiler
//! cannot turn one into a call of itself. String instructions work by words: an emulator that
//! counts instructions counts each repetition.

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .text.memory, "ax", @progbits
    .balign 16
    .global memcpy
memcpy:
    mov rax, rdi
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret

    .balign 16
    .global memmove
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx                        // unsigned: the target does not begin inside the source
    jae memcpy
    mov rax, rdi
    std
    lea rsi, [rsi + rdx - 1]
    lea rdi, [rdi + rdx - 1]
    mov ecx, edx
    and ecx, 7
    rep movsb
    sub rsi, 7
    sub rdi, 7
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    cld
    ret

    .balign 16
    .global memset
memset:
    mov r9, rdi
    movzx eax, sil
    movabs r8, 0x0101010101010101
    imul rax, r8
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
    mov rax, r9
    ret

    .balign 16
    .global memcmp
    .global bcmp
memcmp:
bcmp:
    xor eax, eax
    xor ecx, ecx
2:
    cmp rcx, rdx
    je 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    jz 2b
3:
    ret
    .popsection
    "#
);
