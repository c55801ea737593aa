//! Single instructions that no compiler would emit here: accesses to any address, exceptions, and
//! vector registers that are held while others run.
//!
//! Safety: an access that is not allowed is an exception of its thread. A read through inline
//! assembly forms no reference and tells the compiler nothing, so it is safe whatever lies there.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _xgetbv};
use core::sync::atomic::AtomicU64;

use ipc::Kern;
use ipc::abi::trap::Trap;

/// Reads the word at an address.
#[inline(never)]
#[must_use]
pub fn read(address: u64) -> u64 {
    let value;
    // SAFETY: only reads; see the module's text.
    unsafe {
        asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(readonly, nostack, preserves_flags));
    }
    value
}

/// Writes the word at an address.
///
/// # Safety
/// If something is mapped there, nobody may rely on it but through accesses that the compiler does
/// not see either.
#[inline(never)]
pub unsafe fn write(address: u64, value: u64) {
    // SAFETY: the caller's duty.
    unsafe {
        asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags));
    }
}

/// Calls the code at an address.
///
/// # Safety
/// If the address can be executed, a function without arguments that returns must be there.
#[inline(never)]
pub unsafe fn call(address: u64) {
    // SAFETY: the caller's duty. A call that cannot begin is an exception.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) }
}

/// The byte of a function that only returns.
pub const RETURN: u8 = 0xC3;

/// Divides by zero: exception vector 0.
#[inline(never)]
pub fn divide_by_zero() {
    // SAFETY: changes registers only.
    unsafe {
        asm!("xor ecx, ecx", "div ecx", inout("eax") 1 => _, inout("edx") 0 => _, out("ecx") _, options(nomem, nostack));
    }
}

/// Stops at a breakpoint: exception vector 3, with the next instruction as the place.
#[inline(never)]
pub fn breakpoint() {
    // SAFETY: changes nothing.
    unsafe { asm!("int3", options(nomem, nostack, preserves_flags)) }
}

/// Executes an instruction that is none: exception vector 6.
#[inline(never)]
pub fn undefined() {
    // SAFETY: changes nothing.
    unsafe { asm!("ud2", options(nomem, nostack, preserves_flags)) }
}

/// Executes an instruction that is the kernel's: exception vector 13.
#[inline(never)]
pub fn privileged() {
    // SAFETY: ring 3 may not do it, so that nothing happens but the exception.
    unsafe { asm!("cli", options(nomem, nostack)) }
}

/// Makes the trap with this word in RAX and no arguments, and gives RAX as it is then.
#[must_use]
pub fn trap(rax: u64) -> u64 {
    let result;
    // SAFETY: with no arguments no trap touches memory or threads of this task; RBX and RBP are
    // restored, and every other register is named as lost.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "syscall",
            "pop rbp",
            "pop rbx",
            inlateout("rax") rax => result,
            in("rdi") u64::MAX,
            in("rsi") u64::MAX,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    result
}

/// Makes a trap with any arguments at all, for its code.
///
/// # Errors
/// What it answers.
pub fn trap_with(number: Trap, arguments: [u64; 6]) -> Result<(), Kern> {
    // SAFETY: meant for arguments that the trap refuses; traps on memory and threads of this task
    // refuse what cases pass here.
    unsafe { ipc::trap::trap(number, arguments) }.map(drop)
}

/// Vector registers 0 to 15, low halves first.
pub type Vectors = [[u64; 4]; 16];

/// Whether the upper halves of the vector registers are there.
#[must_use]
pub fn has_upper_halves() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    if __cpuid(1).ecx & (OSXSAVE | AVX) != OSXSAVE | AVX {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction is there.
    unsafe { xcr0() & 6 == 6 }
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the feature is enabled; register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Loads all vector registers, then counts `mine` up without a trap until `other` has been seen to
/// change `rounds` times, which takes other threads that run meanwhile. Gives the registers then.
#[inline(never)]
#[must_use]
pub fn hold_vectors(
    vectors: &Vectors,
    mine: &AtomicU64,
    other: &AtomicU64,
    rounds: u64,
) -> Vectors {
    if has_upper_halves() {
        hold_whole(vectors, mine, other, rounds)
    } else {
        hold_low(vectors, mine, other, rounds)
    }
}

/// One body for both widths: load 16 registers, spin, store them.
macro_rules! hold {
    ($name:ident, $move:literal, $register:literal, $last:literal) => {
        fn $name(
            vectors: &Vectors,
            mine: &AtomicU64,
            other: &AtomicU64,
            rounds: u64,
        ) -> Vectors {
            let mut found = *vectors;
            // SAFETY: reads one array and writes the other, each 512 bytes; changes the counter
            // that is the caller's; all vector registers are named as lost.
            unsafe {
                asm!(
                    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    concat!($move, " ", $register, "\\n, [{from} + 32 * \\n]"),
                    ".endr",
                    "2:",
                    "mov {seen}, [{other}]",
                    "3:",
                    "inc qword ptr [{mine}]",
                    "cmp {seen}, [{other}]",
                    "je 3b",
                    "dec {rounds}",
                    "jnz 2b",
                    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    concat!($move, " [{to} + 32 * \\n], ", $register, "\\n"),
                    ".endr",
                    $last,
                    from = in(reg) vectors,
                    to = in(reg) &mut found,
                    mine = in(reg) mine.as_ptr(),
                    other = in(reg) other.as_ptr(),
                    rounds = inout(reg) rounds => _,
                    seen = out(reg) _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                    out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                    out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(nostack),
                );
            }
            found
        }
    };
}

hold!(hold_whole, "vmovdqu", "ymm", "vzeroupper");
hold!(hold_low, "movdqu", "xmm", "");

/// Loads the low halves of all vector registers, makes a trap, and gives them as they are then.
#[inline(never)]
#[must_use]
pub fn vectors_after_trap(vectors: &Vectors) -> Vectors {
    let mut found = [[0; 4]; 16];
    // SAFETY: reads one array and writes the other, each 512 bytes; a yield changes no memory, and
    // every register that it loses is named.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push {to}",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movdqu xmm\\n, [{from} + 32 * \\n]",
            ".endr",
            "syscall",
            "pop rdi",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movdqu [rdi + 32 * \\n], xmm\\n",
            ".endr",
            "pop rbp",
            "pop rbx",
            from = in(reg) vectors,
            to = in(reg) &mut found,
            inout("rax") Trap::ThreadYield as u64 => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    found
}

/// What a callee may not change, to be held over a fault: loads RBX, RBP and R12 to R15 with `seed`
/// and what follows it, reads the word at `address`, and says whether all of them are still there.
#[inline(never)]
#[must_use]
pub fn registers_survive_reading(address: u64, seed: u64) -> bool {
    let same: u64;
    // SAFETY: only reads memory; RBX and RBP are restored, the others are named as lost.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "lea rbx, [rcx + 1]",
            "lea rbp, [rcx + 2]",
            "lea r12, [rcx + 3]",
            "lea r13, [rcx + 4]",
            "lea r14, [rcx + 5]",
            "lea r15, [rcx + 6]",
            "mov rax, [rdx]",
            "sub rbx, rcx",
            "sub rbp, rcx",
            "sub r12, rcx",
            "sub r13, rcx",
            "sub r14, rcx",
            "sub r15, rcx",
            "shl rbp, 4",
            "shl r12, 8",
            "shl r13, 12",
            "shl r14, 16",
            "shl r15, 20",
            "lea rax, [rbx + rbp]",
            "add rax, r12",
            "add rax, r13",
            "add rax, r14",
            "add rax, r15",
            "pop rbp",
            "pop rbx",
            in("rcx") seed,
            in("rdx") address,
            out("rax") same,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
    same == 0x65_4321
}
