//! The first instructions: from a loader's 32-bit protected mode to Rust in the higher half.
//!
//! ```text
//! pvh_entry, multiboot2_entry (32-bit, paging off)   EBX = what the loader says
//!   early tables: 0..4 GiB by 2 MiB pages at 0 and DIRECT_MAP, 0..1 GiB at KERNEL_BASE
//!   CR4: PAE, SSE     EFER: LME, NXE     CR0: paging, write protect, FPU on
//!   far jump to 64-bit code, then to the higher half, stack, `start(loader, info)`
//! first_instructions (16-bit, another processor)   from there on the same way, to `smp::start_other`
//! ```
//! The early tables are writable and executable throughout; `tables` replaces them before any
//! task exists. SSE is on before the first Rust function, since the precompiled `core` uses it.

use core::arch::global_asm;

use core::slice;

use crate::arch::layout::KERNEL_BASE;

/// First word of a Multiboot2 header.
const MULTIBOOT2_HEADER: u32 = 0xE852_50D6;

/// What [`crate::start`] is told of a PVH loader, which has no number of its own.
pub(crate) const PVH: u32 = 0;

/// Bytes of the kernel stack. There is one, because a thread that blocks leaves nothing on it.
pub(crate) const STACK_SIZE: usize = 64 * 1024;

unsafe extern "C" {
    static first_instructions: u8;
    static first_instructions_end: u8;
}

/// What another processor begins with, wherever it lies below 1 MiB.
pub(super) fn start_page() -> &'static [u8] {
    let start = &raw const first_instructions;
    let length = &raw const first_instructions_end as usize - start as usize;
    // SAFETY: the symbols enclose a part of the image, which is constant.
    unsafe { slice::from_raw_parts(start, length) }
}

global_asm!(
    r#"
    .pushsection .note.pvh, "a", @note
    .balign 4
    .long 4                             // size of the name
    .long 8                             // size of the value
    .long 18                            // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry - {base}
    .popsection

    // In the first 32 KiB of the file, as the linker script sees to.
    .pushsection .multiboot2, "a", @progbits
    .balign 8
multiboot2_header:
    .long {header_magic}
    .long 0                             // i386, protected mode
    .long multiboot2_end - multiboot2_header
    .long -({header_magic} + (multiboot2_end - multiboot2_header))
    .balign 8
    .word 3, 0                          // entry address: the ELF header's is virtual
    .long 12
    .long multiboot2_entry - {base}
    .balign 8
    .word 6, 0                          // modules on pages of their own
    .long 8
    .balign 8
    .word 0, 0
    .long 8
multiboot2_end:
    .popsection

    .pushsection .text.boot, "ax", @progbits
    .code32
    .global pvh_entry
pvh_entry:
    mov eax, {pvh}
multiboot2_entry:                       // EAX = multiboot2::MAGIC
    cli
    cld
    mov esp, offset boot_stack_top - {base}
    mov dword ptr [early_loader - {base}], eax
    mov ebp, ebx

    mov eax, 0x80000001
    cpuid
    bt edx, 29                          // long mode
    jnc 9f
    mov esi, edx

    // Four directories of 2 MiB pages: present, writable, large.
    mov edi, offset early_directories - {base}
    mov eax, 0x83
    mov ecx, 2048
2:
    mov dword ptr [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b

    mov edi, offset early_low - {base}
    mov eax, offset early_directories - {base} + 3
    mov ecx, 4
3:
    mov dword ptr [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 3b

    mov eax, offset early_directories - {base} + 3
    mov dword ptr [early_high - {base} + 510 * 8], eax
    mov eax, offset early_low - {base} + 3
    mov dword ptr [early_root - {base}], eax
    mov dword ptr [early_root - {base} + 256 * 8], eax
    mov eax, offset early_high - {base} + 3
    mov dword ptr [early_root - {base} + 511 * 8], eax

early_enable:                           // ESI: what CPUID 0x80000001 said in EDX
    mov eax, cr4
    or eax, 0x620                       // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset early_root - {base}
    mov cr3, eax
    mov ecx, 0xC0000080                 // EFER
    rdmsr
    or eax, 0x100                       // LME
    bt esi, 20
    jnc 4f
    or eax, 0x800                       // NXE
4:
    wrmsr
    mov eax, cr0
    and eax, 0x9FFFFFF3                 // not CD, NW, EM, TS
    or eax, 0x80010022                  // PG, WP, NE, MP
    mov cr0, eax
    lgdt [early_gdt_pointer - {base}]
    ljmp 8, offset early_long - {base}

9:  // No long mode: tell QEMU, then stop.
    mov eax, 0x21
    mov dx, 0xF4
    out dx, eax
8:
    hlt
    jmp 8b

    .code64
early_long:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rax, [early_target - {base}]
    jmp rax
early_higher_half:
    lea rsp, [rip + boot_stack_top]
    mov edi, [rip + early_loader]
    mov esi, ebp
    xor ebp, ebp
    lea rcx, [rip + early_other]        // whoever comes next
    mov [rip + early_target], rcx
    call {start}
    ud2

    // Another processor.
early_other:
    mov rax, [rip + START_ROOT]         // the early tables do not show its stack
    mov cr3, rax
    mov rsp, [rip + START_STACK]
    mov rdi, [rip + START_BLOCK]
    xor ebp, ebp
    call {start_other}
    ud2

    // Its first instructions, in real mode, copied to the start of a page below 1 MiB.
    .code16
    .global first_instructions
first_instructions:
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0F, 0x01, 0x16        // lgdt, 32 bits
    .word first_gdt_pointer - first_instructions
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xEA                    // far jump to 32-bit code
    .long first_protected - {base}
    .word 0x10
first_gdt_pointer:
    .word 31
    .long early_gdt - {base}
    .global first_instructions_end
first_instructions_end:

    .code32
first_protected:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 0x80000001
    cpuid
    mov esi, edx
    jmp early_enable
    .code64

    .balign 8
early_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF            // 64-bit code
    .quad 0x00CF9B000000FFFF            // 32-bit code
    .quad 0x00CF93000000FFFF            // data
early_gdt_pointer:
    .word 15
    .long early_gdt - {base}
    .popsection

    .pushsection .data.boot, "aw"
    .balign 8
early_target:      .quad early_higher_half
    .popsection

    .pushsection .bss.boot, "aw", @nobits
    .balign 4096
early_root:        .skip 4096
early_low:         .skip 4096
early_high:        .skip 4096
early_directories: .skip 16384
early_loader:      .skip 4
    .balign 4096
    .global boot_stack_guard
boot_stack_guard:  .skip 4096
boot_stack:        .skip {stack}
    .global boot_stack_top
boot_stack_top:
    .popsection
    "#,
    base = const KERNEL_BASE,
    header_magic = const MULTIBOOT2_HEADER,
    pvh = const PVH,
    stack = const STACK_SIZE,
    start = sym crate::start,
    start_other = sym super::smp::start_other,
);
