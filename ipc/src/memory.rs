//! memcpy, memmove, memset, memcmp and bcmp: what compiled code expects of a C library.
//!
//! Written with the string instructions: the precompiled `core` calls these by name, there is no C
//! library, and a loop in Rust could be recognised and compiled into a call of itself. Whole words
//! are moved first; under instruction counting each repetition counts as one instruction.

use core::arch::naked_asm;

/// Copies `count` bytes from `source` to `destination`, which do not overlap.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: the name is C's, and so is the behaviour; no other crate of a task defines it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 3f",
        // The last eight bytes first into a register: they may be written twice.
        "mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "ret",
        "3:",
        "cmp edx, 8",
        "jb 4f",
        "mov r8, [rsi]",
        "mov r9, [rsi + rdx - 8]",
        "mov [rdi], r8",
        "mov [rdi + rdx - 8], r9",
        "ret",
        "4:",
        "cmp edx, 4",
        "jb 5f",
        "mov r8d, [rsi]",
        "mov r9d, [rsi + rdx - 4]",
        "mov [rdi], r8d",
        "mov [rdi + rdx - 4], r9d",
        "ret",
        "5:",
        "mov ecx, edx",
        "rep movsb",
        "ret",
    )
}

/// Copies `count` bytes from `source` to `destination`, which may overlap.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: as `memcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "sub rax, rsi",
        "cmp rax, rdx",
        "mov rax, rdi",
        // Not below `source + count` counted from `source`: forwards reads before it writes.
        "jb 3f",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep movsb",
        "ret",
        "3:",
        "std",
        "lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "mov ecx, edx",
        "and ecx, 7",
        "rep movsb",
        "sub rdi, 7",
        "sub rsi, 7",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "cld",
        "ret",
    )
}

/// Sets `count` bytes to the low byte of `value`.
///
/// # Safety
/// As in C: the range must be valid.
#[unsafe(naked)]
// SAFETY: as `memcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov r9, rdi",
        "movzx eax, sil",
        "mov r8, 0x0101010101010101",
        "imul rax, r8",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep stosb",
        "mov rax, r9",
        "ret",
    )
}

/// Compares `count` bytes: negative, 0 or positive as the first that differs is less or greater.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: as `memcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "xor ecx, ecx",
        // Eight bytes at a time while they are equal.
        "3:",
        "lea r8, [rcx + 8]",
        "cmp r8, rdx",
        "ja 4f",
        "mov rax, [rdi + rcx]",
        "cmp rax, [rsi + rcx]",
        "jne 4f",
        "mov rcx, r8",
        "jmp 3b",
        // Then byte by byte to the end, or to the one that differs.
        "4:",
        "cmp rcx, rdx",
        "jae 5f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "jz 4b",
        "ret",
        "5:",
        "xor eax, eax",
        "ret",
    )
}

/// Compares `count` bytes: 0 if they are equal.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: as `memcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {}", sym memcmp)
}
