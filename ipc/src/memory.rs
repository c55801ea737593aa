//! memcpy, memmove, memset, memcmp and bcmp: what compiled code expects of a C library.
//!
//! Written with string instructions and vector stores: the precompiled `core` calls these by name, there is no C
//! library, and a loop in Rust could be recognised and compiled into a call of itself. Whole words
//! are moved first; under instruction counting each repetition counts as one instruction.

use core::arch::naked_asm;
use core::sync::atomic::AtomicU8;

/// What is known of the processor's registers of 32 bytes: 0: nothing yet, 1: there are none, or the
/// kernel does not keep them, 2: they may be used. Whoever looks first writes it; all find the same.
static WIDE: AtomicU8 = AtomicU8::new(0);

/// Copies `count` bytes from `source` to `destination`, which do not overlap.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: the name is C's, and so is the behaviour; no other crate of a task defines it.
#[cfg_attr(not(test), unsafe(no_mangle))]
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
#[cfg_attr(not(test), unsafe(no_mangle))]
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
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov r9, rdi",
        "movzx eax, sil",
        "mov r8, 0x0101010101010101",
        "imul rax, r8",
        "cmp rdx, 256",
        "jb 3f",
        // Large blocks by vector stores: a half, or a quarter, as many as there are words.
        "movq xmm0, rax",
        "punpcklqdq xmm0, xmm0",
        "4:",
        "cmp byte ptr [rip + {wide}], 1",
        "jb 5f",
        "je 2f",
        "vinsertf128 ymm0, ymm0, xmm0, 1",
        "6:",
        ".irp at, 0,32,64,96,128,160,192,224",
        "vmovups [rdi + \\at], ymm0",
        ".endr",
        "add rdi, 256",
        "sub rdx, 256",
        "cmp rdx, 256",
        "jae 6b",
        "vzeroupper",
        "jmp 3f",
        "2:",
        ".irp at, 0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240",
        "movups [rdi + \\at], xmm0",
        ".endr",
        "add rdi, 256",
        "sub rdx, 256",
        "cmp rdx, 256",
        "jae 2b",
        "jmp 3f",
        // Whether there is AVX, and the kernel keeps it: OSXSAVE and AVX, then bits 1 and 2 of XCR0.
        "5:",
        "mov r10, rbx",
        "mov r11, rdx",
        "mov r8, rax",
        "mov eax, 1",
        "cpuid",
        "mov rbx, r10",
        "and ecx, 0x18000000",
        "cmp ecx, 0x18000000",
        "mov r10d, 1",
        "jne 7f",
        "xor ecx, ecx",
        "xgetbv",
        "and eax, 6",
        "cmp eax, 6",
        "jne 7f",
        "mov r10d, 2",
        "7:",
        "mov byte ptr [rip + {wide}], r10b",
        "mov rdx, r11",
        "mov rax, r8",
        "jmp 4b",
        "3:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep stosb",
        "mov rax, r9",
        "ret",
        wide = sym WIDE,
    )
}

/// Compares `count` bytes: negative, 0 or positive as the first that differs is less or greater.
///
/// # Safety
/// As in C: both ranges must be valid.
#[unsafe(naked)]
// SAFETY: as `memcpy`.
#[cfg_attr(not(test), unsafe(no_mangle))]
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
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {}", sym memcmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    /// Bytes that differ from their neighbours and from those of another seed.
    fn pattern(seed: u8) -> [u8; 256] {
        core::array::from_fn(|index| (index as u8).wrapping_mul(31).wrapping_add(seed))
    }

    #[test]
    fn memcpy_copies_exactly_the_bytes_asked_for() {
        let source = pattern(1);
        for count in 0..200 {
            for shift in 0..9 {
                let mut copied = pattern(77);
                let mut expected = pattern(77);
                expected[shift..shift + count].copy_from_slice(&source[3..3 + count]);
                let place = copied[shift..].as_mut_ptr();
                // SAFETY: both ranges lie inside their arrays.
                let result = unsafe { memcpy(place, source[3..].as_ptr(), count) };
                assert_eq!((result, copied), (place, expected), "{count} bytes");
            }
        }
    }

    #[test]
    fn memmove_copies_as_if_all_was_read_first() {
        for count in 0..100 {
            for (from, to) in (0..40).flat_map(|from| (0..40).map(move |to| (from, to))) {
                let mut moved = pattern(5);
                let mut expected = pattern(5);
                expected.copy_within(from..from + count, to);
                // SAFETY: both ranges lie inside the array.
                unsafe {
                    let base = moved.as_mut_ptr();
                    memmove(base.add(to), base.add(from), count);
                }
                assert_eq!(moved, expected, "{count} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn memset_sets_exactly_the_bytes_asked_for() {
        let around = pattern(9).repeat(5);
        // As it is found out, and without wide registers.
        for wide in [0, 1] {
            WIDE.store(wide, Ordering::Relaxed);
            for count in (0..1100).filter(|count| *count < 200 || count % 256 < 40) {
                let (mut set, mut expected) = (around.clone(), around.clone());
                expected[7..7 + count].fill(0xA5);
                // SAFETY: the range lies inside the bytes.
                unsafe { memset(set[7..].as_mut_ptr(), 0x7A5, count) };
                assert_eq!(set, expected, "{count} bytes");
            }
        }
    }

    #[test]
    fn memcmp_orders_by_the_first_byte_that_differs() {
        let left = pattern(3);
        for count in 0..70 {
            for place in 0..70 {
                for change in [1, 255] {
                    let mut right = left;
                    right[place] = right[place].wrapping_add(change);
                    let expected = left[..count].cmp(&right[..count]);
                    // SAFETY: both ranges lie inside their arrays.
                    let (order, same) = unsafe {
                        let (left, right) = (left.as_ptr(), right.as_ptr());
                        (memcmp(left, right, count), bcmp(left, right, count))
                    };
                    assert_eq!(order.cmp(&0), expected, "{count} bytes, {place} changed");
                    assert_eq!(same == 0, expected.is_eq());
                }
            }
        }
    }
}
