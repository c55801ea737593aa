//! Registers that no compiler would leave: set on a thread of another task, which then goes on with
//! them; and code that lies across the end of a page, or changes itself.

use core::arch::naked_asm;

use guest_test::{Failure, Msg, Outcome, check, check_eq};
use ipc::abi::exception::{
    Behavior, EXCEPTION, EXCEPTION_REPLY, Exception, Handler, Kind, MASK_ALL,
};
use ipc::abi::layout::{IPC_WINDOW, PAGE_SIZE};
use ipc::abi::message::{Info, POLL};
use ipc::abi::state::{Debug, General, USER_FLAGS, VECTOR_HEADER, VECTOR_MXCSR, VECTOR_SIZE};
use ipc::abi::types::Prot;
use ipc::mapping::Options;
use ipc::time::sleep;
use ipc::{Kern, Mapping, ReceiveRight, Untyped, control, task, trap, vm};

use crate::balance::{Balance, all_is_well};
use crate::helper::Helper;
use crate::probe::{Code, Probe};
use crate::random::Random;

/// The role of a task whose threads get such registers.
pub(crate) const ROLE: &str = "registers";

/// Threads that get registers by chance.
const ROUNDS: u64 = 1500;
/// How long each goes on with them, in nanoseconds.
const RUN: u64 = 15_000;

/// The life of that task: it waits to be ended.
pub(crate) fn stand() -> Result<u32, Kern> {
    let nothing = ReceiveRight::<Untyped>::new(0)?;
    loop {
        let _ = Msg::receive(&nothing).forever().go();
    }
}

/// The task, and the port that its exceptions come to.
struct Target {
    helper: Helper,
    exceptions: ReceiveRight<Untyped>,
}

impl Target {
    fn start() -> Outcome<Target> {
        let target = Target {
            helper: Helper::start(ROLE, &[])?,
            exceptions: ReceiveRight::new(0)?,
        };
        let told = Handler {
            mask: MASK_ALL,
            behavior: Behavior::STATE,
        };
        let port = target.exceptions.make_send()?;
        control::set_handler(&target.helper.started.task, told, Some(&port))?;
        Ok(target)
    }

    /// Answers what came, mostly with registers by chance; says whether anything had come.
    fn answer(&self, random: &mut Random) -> bool {
        let Ok(received) = Msg::receive(&self.exceptions).until(POLL).go() else {
            return false;
        };
        if received.info.id() == EXCEPTION && Exception::from_words(received.words).is_some() {
            let answer = Msg::reply(received.token).info(Info::short(EXCEPTION_REPLY));
            // If it is refused the thread still waits; it is ended with the round.
            let _ = match random.below(4) {
                0 => answer.go(),
                _ => answer.body(&general(random).to_bytes()).go(),
            };
        }
        true
    }
}

/// A word as registers of programs hold them, or as they never do.
fn word(random: &mut Random) -> u64 {
    let near = stand as *const () as u64;
    match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => (1 << 47) - random.below(17),
        4 => (1 << 47) + random.below(17),
        5 => IPC_WINDOW + random.below(1 << 20),
        6 => near
            .wrapping_add(random.below(1 << 16))
            .wrapping_sub(1 << 15),
        7 => random.below(256),
        8 => random.word() & 0x7FFF_FFFF_FFFF,
        _ => random.word(),
    }
}

fn general(random: &mut Random) -> General {
    let mut bytes = [0; General::SIZE];
    for place in bytes.chunks_exact_mut(8) {
        place.copy_from_slice(&word(random).to_le_bytes());
    }
    let mut state = General::from_bytes(&bytes).unwrap_or_default();
    // Or hardly any of them would be set.
    if !random.once_in(4) {
        state.rip &= 0x7FFF_FFFF_FFFF;
        state.fs_base &= 0x7FFF_FFFF_FFFF;
    }
    state
}

fn vector(random: &mut Random) -> [u8; VECTOR_SIZE] {
    let mut image = [0; VECTOR_SIZE];
    for place in image.chunks_exact_mut(8) {
        place.copy_from_slice(&random.word().to_le_bytes());
    }
    if !random.once_in(4) {
        image[VECTOR_HEADER..VECTOR_HEADER + 64].fill(0);
        image[VECTOR_HEADER] = random.below(8) as u8;
        image[VECTOR_MXCSR + 1] &= 0x7F;
        image[VECTOR_MXCSR + 2..VECTOR_MXCSR + 4].fill(0);
    }
    image
}

fn debug(random: &mut Random) -> Debug {
    let enabled = random.below(256);
    let control = match random.below(3) {
        0 => random.word(),
        1 => random.word() & 0xFFFF_0000 | enabled,
        // Writes or accesses of any length.
        _ => (random.word() | 0x1111_0000) & 0xFFFF_0000 | enabled,
    };
    let mut address = || word(random) & 0x7FFF_FFFF_FFFF;
    Debug {
        address0: address(),
        address1: address(),
        address2: address(),
        address3: address(),
        status: u64::MAX,
        control,
    }
}

/// Whether a refusal is one of those that the trap names.
fn is_answer(set: Result<(), Kern>) -> bool {
    matches!(
        set,
        Ok(()) | Err(Kern::InvalidArgument | Kern::InvalidAddress)
    )
}

/// Gives a thread registers by chance and lets it go on for a while; `false`: the task is gone.
fn one_round(target: &Target, random: &mut Random) -> Outcome<bool> {
    let task = &target.helper.started.task;
    // SAFETY: the thread is of another task, with which this one shares nothing.
    let made = unsafe { task::make_thread(task, stand as *const () as u64, 0, 0, 0) };
    let thread = match made {
        Ok(thread) => thread,
        Err(Kern::InvalidTask) => return Ok(false),
        Err(code) => return Err(code.into()),
    };
    // SAFETY: as above.
    check!(is_answer(unsafe {
        control::set_general(&thread, &general(random))
    }));
    // SAFETY: as above.
    check!(is_answer(unsafe {
        control::set_vector(&thread, &vector(random))
    }));
    if random.once_in(2) {
        check!(is_answer(control::set_debug(&thread, &debug(random))));
    }
    control::resume_thread(&thread)?;
    sleep(RUN);
    for _ in 0..random.below(4) {
        if target.answer(random) {
            sleep(RUN);
        }
    }
    // It may have ended itself, or its task.
    if control::suspend_thread(&thread).is_ok() {
        if let Ok(state) = control::general(&thread) {
            check!(state.fs_base < 1 << 47, "FS base {:#x}", state.fs_base);
            check_eq!(state.flags & !USER_FLAGS & !0x202, 0);
            check_eq!(state.flags & 0x202, 0x202);
        }
        let _ = control::vector(&thread);
        let _ = trap::thread_terminate(thread.name());
    }
    while target.answer(random) {}
    Ok(true)
}

fn many_rounds(seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let before = Balance::at_rest()?;
    let mut target = Target::start()?;
    for round in 0..ROUNDS {
        if !one_round(&target, &mut random)? {
            target = Target::start()?;
        }
        if round % 300 == 0 {
            all_is_well()?;
        }
    }
    target.helper.end()?;
    drop(target);
    all_is_well()?;
    before.is_back()
}

pub(crate) fn a_thread_with_any_registers_harms_nobody() -> Outcome {
    many_rounds(1)
}

pub(crate) fn a_thread_with_any_registers_harms_nobody_again() -> Outcome {
    many_rounds(0x5EED)
}

macro_rules! codes {
    ($($name:ident: $($line:literal),+;)+) => {
        $(#[unsafe(naked)]
        unsafe extern "C" fn $name() -> ! {
            naked_asm!($($line),+, "ud2")
        })+
    };
}

codes! {
    // The stop for the word that MOV SS reads comes one instruction late: in the kernel.
    select_and_call: "mov [rdi], ss", "mov eax, 36", "mov ss, [rdi]", "syscall";
    select_and_refused: "mov [rdi], ss", "mov eax, 255", "mov ss, [rdi]", "syscall";
    select_and_break: "mov [rdi], ss", "mov ss, [rdi]", "int3";
    select_and_undefined: "mov [rdi], ss", "mov ss, [rdi]", "ud2";
    select_and_step: "mov [rdi], ss", "pushfq", "or qword ptr [rsp], 0x100", "popfq",
        "mov ss, [rdi]", "syscall";
    touch: "mov rax, [rdi]", "mov [rdi], rax", "mov eax, 36", "syscall";
}

pub(crate) fn a_stop_that_comes_late_does_not_stop_the_kernel() -> Outcome {
    let word = Mapping::allocate(PAGE_SIZE)?;
    let probe = Probe::new()?;
    let codes = [
        select_and_call as Code,
        select_and_refused,
        select_and_break,
        select_and_undefined,
        select_and_step,
        touch,
    ];
    for code in codes {
        for access in [1, 3] {
            let thread = probe.make(code as *const () as u64, word.address())?;
            let watched = Debug {
                address0: word.address(),
                control: access << 16 | 1,
                ..Debug::default()
            };
            control::set_debug(&thread, &watched)?;
            control::resume_thread(&thread)?;
            let mut stops = 0;
            loop {
                let caught = probe.next()?;
                if caught.exception.kind == Kind::BadInstruction {
                    break;
                }
                check_eq!(caught.exception.kind, Kind::Breakpoint);
                stops += 1;
                check!(stops < 20);
                caught.resume()?;
            }
            probe.end(thread)?;
        }
        all_is_well()?;
    }
    Ok(())
}

/// Two pages, the first to be executed, the second nobody's.
fn last_page() -> Outcome<Mapping> {
    let pages = Options::new(2 * PAGE_SIZE).protection(Prot::ALL).map()?;
    vm::own().protect(pages.address() + PAGE_SIZE, PAGE_SIZE, Prot::NONE)?;
    Ok(pages)
}

pub(crate) fn an_instruction_across_pages_fails_at_the_second() -> Outcome {
    const LOAD: &[u8] = &[0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8];
    const CALL: &[u8] = &[0x0F, 0x05];
    let (pages, probe) = (last_page()?, Probe::new()?);
    let end = pages.address() + PAGE_SIZE;
    for code in [LOAD, CALL] {
        for inside in 1..=code.len() as u64 {
            let begin = PAGE_SIZE - inside;
            let part = code.get(..inside as usize).unwrap_or(code);
            pages.write(begin, part)?;
            let exception = probe.provoke_at(pages.address() + begin, 0)?;
            if exception.kind != Kind::BadAccess || exception.subcode != end {
                let text = alloc::format!("{inside} bytes inside: {exception:x?}");
                return Err(Failure::new(text));
            }
            // What was executed whole goes on behind it.
            let whole = inside == code.len() as u64;
            check_eq!(exception.ip, if whole { end } else { end - inside });
        }
    }
    all_is_well()
}

pub(crate) fn code_that_changes_itself_is_executed_as_it_is() -> Outcome {
    // mov eax, 0; inc dword [rip - 10]; cmp eax, 50; jb -22; int3
    const CODE: &[u8] = &[
        0xB8, 0, 0, 0, 0, 0xFF, 0x05, 0xF6, 0xFF, 0xFF, 0xFF, 0x83, 0xF8, 50, 0x72, 0xF0, 0xCC,
    ];
    let code = Options::new(PAGE_SIZE).protection(Prot::ALL).map()?;
    code.write(0, CODE)?;
    let exception = Probe::new()?.provoke_at(code.address(), 0)?;
    check_eq!((exception.kind, exception.code), (Kind::Breakpoint, 3));
    check_eq!(exception.ip, code.address() + CODE.len() as u64);
    all_is_well()
}
