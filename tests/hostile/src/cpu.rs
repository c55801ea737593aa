//! What a processor lets a program try: each gives an exception to who handles it, and nothing else
//! happens.

use core::arch::naked_asm;

use guest_test::{Failure, Outcome, check, check_eq};
use ipc::abi::exception::{Exception, Kind};
use ipc::abi::layout::{IPC_WINDOW, PAGE_SIZE, PHYSICAL_WINDOW, USER_MAX, ipc_buffer};
use ipc::abi::types::{MapFlags, Prot};
use ipc::mapping::Options;
use ipc::{Kern, Mapping, trap, vm};

use crate::balance::all_is_well;
use crate::probe::{Code, Probe};
use crate::random::Random;

/// Vectors of the processor.
const UNDEFINED: u64 = 6;
const NOT_PRESENT: u64 = 11;
const STACK: u64 = 12;
const PROTECTION: u64 = 13;
const X87: u64 = 16;
const SIMD: u64 = 19;

/// Places where no task has anything to look for.
const PLACES: [u64; 22] = [
    0,
    8,
    0xFFF0,
    PHYSICAL_WINDOW,
    // The last page of the user half, and its edges.
    0x7FFF_FFFF_EFF8,
    0x7FFF_FFFF_F000,
    0x7FFF_FFFF_FFF8,
    0x7FFF_FFFF_FFFF,
    // No addresses.
    0x8000_0000_0000,
    0x8000_0000_0008,
    0xDEAD_0000_0000_0000,
    0xFFFF_7FFF_FFFF_FFF8,
    0xFFFF_7FFF_FFFF_FFFF,
    // The kernel's half: its begin, roots of its parts, its image, its end.
    0xFFFF_8000_0000_0000,
    0xFFFF_8000_0010_0000,
    0xFFFF_C000_0000_0000,
    0xFFFF_FE00_0000_0000,
    0xFFFF_FF00_0000_0000,
    0xFFFF_FFFF_8000_0000,
    0xFFFF_FFFF_8010_0000,
    0xFFFF_FFFF_FFFF_F000,
    0xFFFF_FFFF_FFFF_FFFF,
];

/// Defines code for probes; each ends in an undefined instruction, if nothing came before.
macro_rules! codes {
    ($($name:ident: $($line:literal),+;)+) => {
        $(#[unsafe(naked)]
        unsafe extern "C" fn $name() -> ! {
            naked_asm!($($line),+, "ud2")
        })+
    };
}

/// Code for probes, and a table of all of it.
macro_rules! table {
    ($table:ident: $($name:ident: $($line:literal),+;)+) => {
        codes! { $($name: $($line),+;)+ }

        const $table: &[(&str, Code)] = &[$((stringify!($name), $name)),+];
    };
}

/// Whether this is what an access to a place that is no task's comes to.
fn is_refused(exception: &Exception) -> bool {
    matches!(
        (exception.kind, exception.code),
        (Kind::BadAccess, _) | (Kind::BadInstruction, NOT_PRESENT | STACK | PROTECTION)
    )
}

fn unexpected(what: &str, argument: u64, exception: &Exception) -> Failure {
    Failure::new(alloc::format!(
        "{what} {argument:#x} came to {exception:x?}"
    ))
}

/// Says what was tried when no exception came of it.
#[track_caller]
fn named(result: Outcome<Exception>, what: &str, argument: u64) -> Outcome<Exception> {
    result.map_err(|failure| Failure::new(alloc::format!("{what} {argument:#x}: {failure}")))
}

/// Each code with each place, and with places of the kernel by chance: all are refused.
fn everywhere(codes: &[(&str, Code)], chance: u64) -> Outcome {
    let probe = Probe::new()?;
    let mut random = Random::new(7);
    for (name, code) in codes {
        let by_chance = (0..chance).map(|_| random.word() | 0xFFFF_8000_0000_0000);
        for place in PLACES.into_iter().chain(by_chance) {
            let exception = named(probe.provoke(*code, place), name, place)?;
            if !is_refused(&exception) {
                return Err(unexpected(name, place, &exception));
            }
        }
    }
    all_is_well()
}

table! { JUMPS:
    jump: "jmp rdi";
    call: "call rdi";
}

table! { RETURNS:
    return_near: "push rdi", "ret";
    return_far: "push 0x23", "push rdi", "retfq";
    return_from_interrupt: "mov rax, rsp", "push 0x1B", "push rax", "pushfq", "push 0x23",
        "push rdi", "iretq";
}

table! { PUSHES:
    push: "mov rsp, rdi", "push rax";
    enter_frame: "mov rsp, rdi", "enter 64, 0";
    interrupt_frame: "mov rsp, rdi", "iretq";
}

table! { ACCESSES:
    load: "mov rax, [rdi]";
    store: "mov [rdi], rax";
    exchange: "lock xadd [rdi], rax";
    load_vector: "movups xmm0, [rdi]";
    store_string: "mov ecx, 8", "rep stosb";
    load_string: "mov rsi, rdi", "mov rdi, rsp", "mov ecx, 8", "rep movsb";
    store_state: "and rdi, -64", "fxsave [rdi]";
    load_state: "and rdi, -64", "fxrstor [rdi]";
}

table! { STACKS:
    stack_in_trap: "mov rsp, rdi", "mov eax, 36", "syscall";
    stack_in_refused_trap: "mov rsp, rdi", "mov eax, 255", "syscall";
    stack_in_undefined: "mov rsp, rdi";
}

pub(crate) fn a_jump_to_anywhere_is_an_exception() -> Outcome {
    everywhere(JUMPS, 50)
}

pub(crate) fn a_return_to_anywhere_is_an_exception() -> Outcome {
    everywhere(RETURNS, 30)
}

pub(crate) fn a_push_to_anywhere_is_an_exception() -> Outcome {
    everywhere(PUSHES, 30)
}

pub(crate) fn an_access_to_anywhere_is_an_exception() -> Outcome {
    everywhere(ACCESSES, 60)
}

pub(crate) fn a_stack_can_be_anywhere_in_a_trap() -> Outcome {
    let probe = Probe::new()?;
    for (name, code) in STACKS {
        for place in PLACES {
            let exception = probe.provoke(*code, place)?;
            if (exception.kind, exception.code, exception.sp)
                != (Kind::BadInstruction, UNDEFINED, place)
            {
                return Err(unexpected(name, place, &exception));
            }
        }
    }
    all_is_well()
}

table! { FLAGGED:
    flags_in_trap: "pushfq", "or [rsp], rdi", "popfq", "mov eax, 36", "syscall";
    flags_in_refused_trap: "pushfq", "or [rsp], rdi", "popfq", "mov eax, 255", "syscall";
    flags_in_undefined: "pushfq", "or [rsp], rdi", "popfq";
    // A fault that the VM server resolves, far down the stack.
    flags_in_fault: "pushfq", "or [rsp], rdi", "popfq", "mov rax, [rsp - 8192]";
    // Whatever is put into the flags, interrupts stay on and the I/O ports are out of reach.
    flags_that_are_not_ours: "pushfq", "or [rsp], rdi", "btr qword ptr [rsp], 9",
        "or qword ptr [rsp], 0x3000", "popfq", "pushfq", "pop rax", "and eax, 0x3200",
        "cmp eax, 0x200", "je 2f", "int3", "2:";
}

codes! {
    stepped: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov eax, 36", "syscall",
        "mov eax, 255", "syscall", "mov rax, [rsp - 8192]", "nop";
    nested_return: "pushfq", "or qword ptr [rsp], 0x4000", "popfq", "mov rax, rsp", "push 0x1B",
        "push rax", "pushfq", "push 0x23", "lea rax, [rip + 2f]", "push rax", "iretq", "2:";
}

pub(crate) fn flags_are_no_way_into_the_kernel() -> Outcome {
    const DIRECTION: u64 = 1 << 10;
    const NESTED: u64 = 1 << 14;
    const RESUME: u64 = 1 << 16;
    const VIRTUAL: u64 = 1 << 17;
    const ALIGNMENT: u64 = 1 << 18;
    const REST: u64 = 1 << 19 | 1 << 20 | 1 << 21 | 0xCD5;
    let probe = Probe::new()?;
    let all = DIRECTION | NESTED | RESUME | VIRTUAL | ALIGNMENT | REST;
    for flags in [DIRECTION, NESTED, RESUME, VIRTUAL, ALIGNMENT, REST, all] {
        for (name, code) in FLAGGED {
            let exception = probe.provoke(*code, flags)?;
            if (exception.kind, exception.code) != (Kind::BadInstruction, UNDEFINED) {
                return Err(unexpected(name, flags, &exception));
            }
        }
    }
    let exception = probe.provoke(nested_return, 0)?;
    check_eq!(exception.kind, Kind::BadInstruction);
    all_is_well()
}

pub(crate) fn single_steps_stop_at_every_instruction() -> Outcome {
    let probe = Probe::new()?;
    let thread = probe.start(stepped as *const () as u64, 0)?;
    let mut steps = 0;
    loop {
        let caught = probe.next()?;
        let Exception { kind, code, .. } = caught.exception;
        if kind != Kind::Breakpoint {
            check_eq!((kind, code), (Kind::BadInstruction, UNDEFINED));
            break;
        }
        steps += 1;
        check!(steps < 20);
        caught.resume()?;
    }
    check!(steps >= 4, "only {steps} steps");
    probe.end(thread)?;
    all_is_well()
}

table! { PRIVILEGED:
    halt: "hlt";
    interrupts_off: "cli";
    interrupts_on: "sti";
    port_in: "in al, 0x60";
    port_out: "out 0xF4, al";
    port_in_by_register: "mov edx, 0xCF8", "in eax, dx";
    port_string_in: "mov rdi, rsp", "mov edx, 0x60", "insb";
    port_string_out: "mov rsi, rsp", "mov edx, 0x3F8", "outsb";
    read_cr0: "mov rax, cr0";
    write_cr0: "mov cr0, rax";
    read_cr2: "mov rax, cr2";
    read_cr3: "mov rax, cr3";
    write_cr3: "mov cr3, rax";
    write_cr4: "mov cr4, rax";
    write_cr8: "mov cr8, rax";
    read_debug: "mov rax, dr6";
    write_debug: "mov dr7, rax";
    read_msr: "mov ecx, 0xC0000082", "rdmsr";
    write_msr: "mov ecx, 0xC0000080", "wrmsr";
    load_gdt: "lgdt [rsp]";
    load_idt: "lidt [rsp]";
    load_ldt: "lldt ax";
    load_task: "mov eax, 0x28", "ltr ax";
    load_status: "lmsw ax";
    clear_switched: "clts";
    flush_page: "invlpg [rsp]";
    drop_caches: "invd";
    write_caches: "wbinvd";
    swap_gs: "swapgs";
    return_of_syscall: "mov rcx, rdi", ".byte 0x48, 0x0F, 0x07";
    return_of_sysenter: ".byte 0x48, 0x0F, 0x35";
    enter_by_sysenter: ".byte 0x0F, 0x34";
    set_extended: "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv";
    write_gs_base: ".byte 0xF3, 0x48, 0x0F, 0xAE, 0xD8";
    allow_access: "stac";
    deny_access: "clac";
    monitor: "mov rax, rsp", "xor ecx, ecx", "xor edx, edx", ".byte 0x0F, 0x01, 0xC8";
    wait: "xor eax, eax", "xor ecx, ecx", ".byte 0x0F, 0x01, 0xC9";
    call_monitor: ".byte 0x0F, 0x01, 0xC1";
    run_guest: ".byte 0x0F, 0x01, 0xD8";
    read_counter: "xor ecx, ecx", "rdpmc";
    invalidate_context: "xor eax, eax", ".byte 0x66, 0x0F, 0x38, 0x82, 0x04, 0x24";
    overlong: ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90";
}

pub(crate) fn privileged_instructions_are_exceptions() -> Outcome {
    let probe = Probe::new()?;
    for (name, code) in PRIVILEGED {
        let exception = probe.provoke(*code, 0xFFFF_FFFF_8010_0000)?;
        let wrong = exception.kind != Kind::BadInstruction
            || !matches!(exception.code, UNDEFINED | PROTECTION);
        if wrong {
            return Err(unexpected(name, 0, &exception));
        }
    }
    all_is_well()
}

codes! {
    far_return: "push rdi", "lea rax, [rip + 2f]", "push rax", "retfq", "2:";
    far_return_of_interrupt: "mov rax, rsp", "push rdi", "push rax", "pushfq", "push 0x23",
        "lea rax, [rip + 2f]", "push rax", "iretq", "2:";
    far_jump: "push rdi", "push 0", "mov dword ptr [rsp], 0", "jmp fword ptr [rsp + 4]";
    select_data: "mov ds, edi", "mov es, edi", "mov rax, [rsp]", "mov eax, 36", "syscall";
    select_fs: "mov fs, edi", "mov eax, 36", "syscall";
    select_gs: "mov gs, edi", "mov eax, 36", "syscall", "mov rax, [rsp - 8192]";
    select_stack: "mov ss, edi", "mov eax, 36", "syscall";
}

pub(crate) fn privileged_segments_are_exceptions() -> Outcome {
    let probe = Probe::new()?;
    for code in [far_return as Code, far_return_of_interrupt, far_jump] {
        for selector in (0..0x60).chain([0xFFF8, 0xFFFB, 0xFFFF]) {
            let exception = named(probe.provoke(code, selector), "selector", selector)?;
            let is_right = match exception.kind {
                Kind::BadInstruction => {
                    matches!(exception.code, UNDEFINED | NOT_PRESENT | STACK | PROTECTION)
                }
                // A good selector and an address that is none.
                Kind::BadAccess => true,
                _ => false,
            };
            if !is_right {
                return Err(unexpected("selector", selector, &exception));
            }
        }
    }
    all_is_well()
}

pub(crate) fn odd_selectors_are_harmless() -> Outcome {
    let probe = Probe::new()?;
    for code in [select_data as Code, select_fs, select_gs, select_stack] {
        for selector in (0..0x60).chain([0xFFF8, 0xFFFB, 0xFFFF]) {
            let exception = named(probe.provoke(code, selector), "selector", selector)?;
            if exception.kind != Kind::BadInstruction {
                return Err(unexpected("selector", selector, &exception));
            }
        }
        all_is_well()?;
    }
    Ok(())
}

pub(crate) fn no_interrupt_can_be_called() -> Outcome {
    let probe = Probe::new()?;
    let code = Options::new(PAGE_SIZE).protection(Prot::ALL).map()?;
    for number in 0..=255 {
        code.write(0, &[0xCD, number, 0x0F, 0x0B])?;
        let exception = probe.provoke_at(code.address(), 0)?;
        let is_right = match number {
            3 => exception.kind == Kind::Breakpoint,
            4 => matches!(exception.kind, Kind::Software | Kind::BadInstruction),
            _ => (exception.kind, exception.code) == (Kind::BadInstruction, PROTECTION),
        };
        if !is_right {
            return Err(unexpected("int", number.into(), &exception));
        }
    }
    all_is_well()
}

codes! {
    reserved_state: "mov dword ptr [rsp - 8], 0xFFFF0000", "ldmxcsr [rsp - 8]";
    unmasked_divide: "mov dword ptr [rsp - 8], 0", "ldmxcsr [rsp - 8]", "xorps xmm0, xmm0",
        "xorps xmm1, xmm1", "divps xmm0, xmm1";
    unmasked_in_trap: "mov dword ptr [rsp - 8], 0xE07F", "ldmxcsr [rsp - 8]", "mov eax, 36",
        "syscall", "stmxcsr [rsp - 8]", "cmp dword ptr [rsp - 8], 0x1F80", "je 2f", "int3", "2:";
    unmasked_in_fault: "mov dword ptr [rsp - 8], 0xE000", "ldmxcsr [rsp - 8]",
        "mov rax, [rsp - 8192]", "stmxcsr [rsp - 8]", "cmp dword ptr [rsp - 8], 0xE000", "je 2f",
        "int3", "2:";
    pending_in_trap: "mov word ptr [rsp - 8], 0x340", "fldcw [rsp - 8]", "fld1", "fldz", "fdivp",
        "mov eax, 36", "syscall", "fnstcw [rsp - 8]", "cmp word ptr [rsp - 8], 0x37F", "je 2f",
        "int3", "2:", "fwait";
    pending_in_fault: "mov word ptr [rsp - 8], 0x340", "fldcw [rsp - 8]", "fld1", "fldz", "fdivp",
        "mov rax, [rsp - 8192]";
    pending_waited_for: "mov word ptr [rsp - 8], 0x340", "fldcw [rsp - 8]", "fld1", "fldz",
        "fdivp", "mov rax, [rsp - 8192]", "fwait";
    full_stack_in_trap: "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1",
        "mov eax, 36", "syscall";
    restored_garbage: "lea rax, [rsp - 1024]", "and rax, -64", "mov rdi, rax", "mov ecx, 64",
        "mov rdx, rax", "mov rax, -1", "rep stosq", "fxrstor [rdx]";
}

pub(crate) fn odd_vector_state_is_harmless() -> Outcome {
    use Kind::{Arithmetic, BadInstruction};
    let probe = Probe::new()?;
    let cases: [(&str, Code, Kind, u64); 6] = [
        ("trap", unmasked_in_trap, BadInstruction, UNDEFINED),
        ("fault", unmasked_in_fault, BadInstruction, UNDEFINED),
        ("pending, trap", pending_in_trap, BadInstruction, UNDEFINED),
        (
            "pending, fault",
            pending_in_fault,
            BadInstruction,
            UNDEFINED,
        ),
        ("pending, wait", pending_waited_for, Arithmetic, X87),
        ("full", full_stack_in_trap, BadInstruction, UNDEFINED),
    ];
    for (name, code, kind, vector) in cases {
        let exception = named(probe.provoke(code, 0), name, 0)?;
        if (exception.kind, exception.code) != (kind, vector) {
            return Err(unexpected(name, 0, &exception));
        }
        all_is_well()?;
    }
    // A processor refuses reserved bits and raises what is unmasked, some emulators do not.
    for (code, vector) in [
        (reserved_state as Code, PROTECTION),
        (restored_garbage, PROTECTION),
        (unmasked_divide, SIMD),
    ] {
        let exception = named(probe.provoke(code, 0), "state", vector)?;
        check!(exception.code == UNDEFINED || exception.code == vector);
        all_is_well()?;
    }
    Ok(())
}

codes! {
    jump_to_buffer: "mov word ptr [rsi], 0x0B0F", "jmp rsi";
}

pub(crate) fn the_buffer_cannot_be_executed() -> Outcome {
    let exception = Probe::new()?.provoke(jump_to_buffer, 0)?;
    check_eq!(exception.kind, Kind::BadAccess);
    check!((USER_MAX..0x7FFF_FFFF_F000).contains(&exception.ip));
    check_eq!(exception.subcode, exception.ip);
    all_is_well()
}

pub(crate) fn the_window_of_buffers_cannot_be_mapped() -> Outcome {
    let map = vm::own();
    let Some(free) = ipc_buffer(0x2000) else {
        return Err(Failure::new("there is no such slot".into()));
    };
    let source = Mapping::allocate(PAGE_SIZE)?;
    for place in [IPC_WINDOW, free, 0x7FFF_FFFF_E000, 0x7FFF_FFFF_F000] {
        for flags in [MapFlags::empty(), MapFlags::OVERWRITE] {
            let refused = map.allocate_at(place, PAGE_SIZE, flags).err();
            check_eq!(refused, Some(Kern::InvalidAddress));
            let refused = map.allocate_at(place - PAGE_SIZE, 1 << 40, flags).err();
            check_eq!(refused, Some(Kern::InvalidAddress));
            let refused = Options::new(PAGE_SIZE).at(place).flags(flags).map().err();
            check_eq!(refused, Some(Kern::InvalidAddress));
        }
        let refused = Options::new(PAGE_SIZE).near(place).map().err();
        check!(refused.is_some());
        let refused = map.protect(place, PAGE_SIZE, Prot::ALL).err();
        check_eq!(refused, Some(Kern::InvalidAddress));
        let refused = map.copy_range(source.address(), 8, place).err();
        check_eq!(refused, Some(Kern::InvalidAddress));
        let refused = map.copy_range(place, 8, source.address()).err();
        check_eq!(refused, Some(Kern::InvalidAddress));
        let refused = map.copy_in(place, 8, true).err();
        check_eq!(refused, Some(Kern::InvalidAddress));
        let refused = map.memory_entry(PAGE_SIZE, place, 3, None).err();
        check_eq!(refused, Some(Kern::InvalidAddress));
        // What is not the map's is passed over.
        check_eq!(map.deallocate(place, PAGE_SIZE), Ok(()));
    }
    check!(trap::clock_get().is_ok());
    let probe = Probe::new()?;
    let exception = probe.provoke(load, free)?;
    check_eq!((exception.kind, exception.subcode), (Kind::BadAccess, free));
    all_is_well()
}
