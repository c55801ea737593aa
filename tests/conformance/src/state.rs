//! Registers of other threads: read, set, single steps, watched addresses.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_test::{Outcome, Supervisor, check, check_eq, stretched};
use ipc::abi::exception::Kind;
use ipc::abi::message::option;
use ipc::abi::state::{Debug, General, SINGLE_STEP, VECTOR_HEADER, VECTOR_MXCSR, VECTOR_SIZE};
use ipc::time::{MILLISECOND, sleep};
use ipc::{Kern, control, task, thread, trap};

use crate::bare::{Bare, codes, place};
use crate::support::{port, spawn_waiting, until};

codes! {
    spin_with_values: "mov rbx, 0x1111", "mov r9, 0x2222", "mov r15, 0x3333", "mov rcx, 0x4444",
        "2: jmp 2b";
    spin: "2: jmp 2b";
    // Says in the word at RDI what is in RBX, and stands still.
    tell: "mov [rdi], rbx", "2: jmp 2b";
    tell_vector: "movups [rdi], xmm3", "stmxcsr [rdi + 16]", "2: jmp 2b";
    tell_local: "mov rax, fs:[8]", "mov [rdi], rax", "2: jmp 2b";
    // Five instructions, one of them a system call that fails.
    walk: "nop", "mov eax, 255", "syscall", "nop", "ud2";
    write_words: "mov qword ptr [rdi], 1", "mov qword ptr [rdi + 8], 2", "nop", "ud2";
}

/// Waits until a word is this.
fn becomes(word: &AtomicU64, value: u64) -> bool {
    until(|| word.load(Ordering::Relaxed) == value)
}

fn address(word: &AtomicU64) -> u64 {
    word.as_ptr() as u64
}

pub(crate) fn the_registers_of_a_suspended_thread_are_as_it_left_them() -> Outcome {
    let bare = Bare::start(spin_with_values, 77)?;
    sleep(stretched(MILLISECOND));
    let state = bare.stop()?;
    check_eq!(
        (state.rbx, state.r9, state.r15, state.rcx, state.rdi),
        (0x1111, 0x2222, 0x3333, 0x4444, 77)
    );
    let code = place(spin_with_values);
    check!((code..code + 64).contains(&state.rip));
    check_eq!(state.rsp, bare.stack.address() + bare.stack.size() - 64);
    check_eq!(state.flags & 0x3202, 0x202);
    Ok(())
}

pub(crate) fn a_thread_goes_on_with_the_registers_that_it_was_given() -> Outcome {
    let word = AtomicU64::new(0);
    let bare = Bare::start(spin, 0)?;
    sleep(stretched(MILLISECOND));
    let mut state = bare.stop()?;
    state.rip = place(tell);
    (state.rdi, state.rbx) = (address(&word), 0xABCD_EF01_2345);
    // What is not the task's to set is left out.
    state.flags |= 0x3000 | 1 << 17;
    bare.go(&state)?;
    check!(becomes(&word, state.rbx));
    let found = bare.stop()?;
    check_eq!((found.rbx, found.rdi), (state.rbx, state.rdi));
    check_eq!(found.flags & 0x2_3202, 0x202);
    Ok(())
}

pub(crate) fn a_thread_in_a_system_call_is_given_registers_after_an_abort() -> Outcome {
    let word = AtomicU64::new(0);
    let port = port(0)?;
    let name = port.name();
    let waiter = spawn_waiting(move || guest_test::Msg::receive_from(name).forever().code())?;
    control::suspend_thread(waiter.thread())?;
    trap::thread_abort(waiter.thread().name())?;
    let mut state = control::general(waiter.thread())?;
    // It goes on behind its call, with the code of the abort.
    check_eq!(state.rax, u64::from(Kern::ReceiveInterrupted.raw()));
    check_eq!((state.rcx, state.r11), (state.rip, state.flags));
    state.rip = place(tell);
    (state.rdi, state.rbx) = (address(&word), 5);
    // SAFETY: the thread has nothing to do any more but to write the word.
    unsafe { control::set_general(waiter.thread(), &state) }?;
    control::resume_thread(waiter.thread())?;
    check!(becomes(&word, 5));
    trap::thread_terminate(waiter.thread().name())?;
    Ok(())
}

pub(crate) fn what_a_suspended_thread_waits_for_comes_over_its_registers() -> Outcome {
    let port = port(0)?;
    let name = port.name();
    let waiter = spawn_waiting(move || {
        let received = guest_test::Msg::receive_from(name).forever().go();
        received.map(|received| (received.info.id(), received.words[0]))
    })?;
    control::suspend_thread(waiter.thread())?;
    let mut state = control::general(waiter.thread())?;
    (state.rax, state.rbx) = (0xBAD, 0xBAD);
    // SAFETY: what is set here is what the trap gives.
    unsafe { control::set_general(waiter.thread(), &state) }?;
    let right = port.make_send()?;
    guest_test::Msg::send(&right, 6).word(66).go()?;
    control::resume_thread(waiter.thread())?;
    check_eq!(waiter.join(), Ok((6, 66)));
    // The same, with the message after it goes on: it may come by a short way.
    let waiter = spawn_waiting(move || {
        let received = guest_test::Msg::receive_from(name).forever().go();
        received.map(|received| (received.info.id(), received.words[0]))
    })?;
    control::suspend_thread(waiter.thread())?;
    let state = control::general(waiter.thread())?;
    // SAFETY: nothing is changed.
    unsafe { control::set_general(waiter.thread(), &state) }?;
    control::resume_thread(waiter.thread())?;
    guest_test::Msg::send(&right, 7).word(77).go()?;
    check_eq!(waiter.join(), Ok((7, 77)));
    Ok(())
}

pub(crate) fn vector_registers_can_be_read_and_set() -> Outcome {
    let words = [const { AtomicU64::new(0) }; 3];
    let bare = Bare::start(spin, 0)?;
    sleep(stretched(MILLISECOND));
    let mut state = bare.stop()?;
    let mut image = control::vector(&bare.thread)?;
    // XMM3, and a rounding mode.
    image[160 + 48..160 + 64].copy_from_slice(&[0xA5; 16]);
    image[VECTOR_MXCSR..VECTOR_MXCSR + 4].copy_from_slice(&0x7F80_u32.to_le_bytes());
    image[VECTOR_HEADER] |= 2;
    // SAFETY: the thread runs code that knows of it.
    unsafe { control::set_vector(&bare.thread, &image) }?;
    state.rip = place(tell_vector);
    state.rdi = address(&words[0]);
    bare.go(&state)?;
    check!(becomes(&words[1], 0xA5A5_A5A5_A5A5_A5A5));
    check!(becomes(&words[2], 0x7F80));
    bare.stop()?;
    let found = control::vector(&bare.thread)?;
    check!(found[160 + 48..160 + 64] == [0xA5; 16]);
    check_eq!(found[VECTOR_MXCSR + 1], 0x7F);
    Ok(())
}

pub(crate) fn vector_state_with_a_reserved_bit_is_refused() -> Outcome {
    let bare = Bare::suspended(spin, 0)?;
    let good = control::vector(&bare.thread)?;
    let set = |place: usize, bits: u8| {
        let mut image = good;
        if let Some(byte) = image.get_mut(place) {
            *byte |= bits;
        }
        // SAFETY: the thread only spins.
        unsafe { control::set_vector(&bare.thread, &image) }
    };
    check_eq!(set(0, 0), Ok(()));
    for place in [VECTOR_MXCSR + 2, VECTOR_MXCSR + 3] {
        check_eq!(set(place, 0x80), Err(Kern::InvalidArgument));
    }
    for place in VECTOR_HEADER..VECTOR_HEADER + 64 {
        check_eq!(set(place, 0x80), Err(Kern::InvalidArgument));
    }
    check_eq!(control::vector(&bare.thread)?, good);
    control::resume_thread(&bare.thread)?;
    sleep(stretched(MILLISECOND));
    Ok(())
}

pub(crate) fn what_has_no_place_in_the_user_half_is_refused() -> Outcome {
    let bare = Bare::suspended(spin, 0)?;
    let good = control::general(&bare.thread)?;
    // SAFETY: none of these is set.
    let set = |state: &General| unsafe { control::set_general(&bare.thread, state) };
    for place in [1 << 47, 0xFFFF_8000_0000_0000, u64::MAX, 1 << 63] {
        let (mut lost, mut astray) = (good, good);
        lost.rip = place;
        astray.fs_base = place;
        check_eq!(set(&lost), Err(Kern::InvalidAddress));
        check_eq!(set(&astray), Err(Kern::InvalidAddress));
        let watched = Debug {
            address2: place,
            ..Debug::default()
        };
        check_eq!(
            control::set_debug(&bare.thread, &watched),
            Err(Kern::InvalidAddress)
        );
    }
    for control in [1 << 13, 1 << 11, 1 << 32, 0x2_0001, 0x4_0001] {
        let odd = Debug {
            control,
            ..Debug::default()
        };
        check_eq!(
            control::set_debug(&bare.thread, &odd),
            Err(Kern::InvalidArgument)
        );
    }
    check_eq!(control::general(&bare.thread)?, good);
    check_eq!(control::debug(&bare.thread)?, Debug::default());
    Ok(())
}

pub(crate) fn only_a_thread_that_stands_still_has_registers_to_show() -> Outcome {
    let bare = Bare::start(spin, 0)?;
    check_eq!(control::general(&bare.thread).err(), Some(Kern::Failure));
    check_eq!(control::vector(&bare.thread).err(), Some(Kern::Failure));
    let debug = control::set_debug(&bare.thread, &Debug::default());
    check_eq!(debug, Err(Kern::Failure));
    let own = thread::spawn(|| ())?;
    own.thread().watch(&port(0)?)?;
    let task = task::own()?;
    check_eq!(control::general(&task).err(), Some(Kern::InvalidArgument));
    bare.stop()?;
    for (flavor, length) in [
        (4, 151),
        (4, 160),
        (11, 0),
        (17, VECTOR_SIZE as u64 + 1),
        (5, 8),
    ] {
        let name = u64::from(bare.thread.name());
        // SAFETY: refused.
        let set = unsafe {
            trap::trap(
                ipc::abi::trap::Trap::ThreadSetState,
                [name, flavor, length, 0, 0, 0],
            )
        };
        check_eq!(set.err(), Some(Kern::InvalidArgument));
    }
    own.join();
    Ok(())
}

pub(crate) fn the_local_base_of_another_thread_can_be_set() -> Outcome {
    let (word, local) = (AtomicU64::new(0), [0_u64, 0x10CA1]);
    let bare = Bare::suspended(tell_local, address(&word))?;
    let mut state = control::general(&bare.thread)?;
    state.fs_base = local.as_ptr() as u64;
    bare.go(&state)?;
    check!(becomes(&word, 0x10CA1));
    check_eq!(bare.stop()?.fs_base, state.fs_base);
    Ok(())
}

pub(crate) fn a_thread_is_stepped_through_its_instructions() -> Outcome {
    let supervisor = Supervisor::new()?;
    let bare = Bare::suspended(walk, 0)?;
    supervisor.thread(&bare.thread)?;
    let mut state = control::general(&bare.thread)?;
    state.flags |= SINGLE_STEP;
    bare.go(&state)?;
    let start = place(walk);
    // Behind each of the four, also behind the system call and not one later.
    for offset in [1, 6, 8, 9] {
        let caught = supervisor.expect(Kind::Breakpoint, 1, Debug::STEPPED)?;
        check_eq!(caught.exception.ip, start + offset);
        let state = control::general(&bare.thread)?;
        check_eq!(
            (state.rip, state.flags & SINGLE_STEP),
            (start + offset, SINGLE_STEP)
        );
        caught.resume()?;
    }
    let caught = supervisor.expect(Kind::BadInstruction, 6, 0)?;
    drop(caught);
    Ok(())
}

pub(crate) fn steps_end_when_the_flag_is_taken_away() -> Outcome {
    let supervisor = Supervisor::new()?;
    let bare = Bare::suspended(walk, 0)?;
    supervisor.thread(&bare.thread)?;
    let mut state = control::general(&bare.thread)?;
    state.flags |= SINGLE_STEP;
    bare.go(&state)?;
    let caught = supervisor.expect(Kind::Breakpoint, 1, Debug::STEPPED)?;
    let mut state = control::general(&bare.thread)?;
    state.flags &= !SINGLE_STEP;
    // SAFETY: it goes on where it is.
    unsafe { control::set_general(&bare.thread, &state) }?;
    caught.resume()?;
    drop(supervisor.expect(Kind::BadInstruction, 6, 0)?);
    Ok(())
}

pub(crate) fn a_watched_word_stops_its_thread_and_no_other() -> Outcome {
    let supervisor = Supervisor::new()?;
    let words = [const { AtomicU64::new(0) }; 2];
    let [first, second] = &words;
    let bare = Bare::suspended(write_words, address(first))?;
    supervisor.thread(&bare.thread)?;
    let watched = Debug {
        address1: address(second),
        // Writes of 8 bytes at the second address.
        control: 0b1001 << 20 | 1 << 2,
        ..Debug::default()
    };
    control::set_debug(&bare.thread, &watched)?;
    check_eq!(control::debug(&bare.thread)?, watched);
    control::resume_thread(&bare.thread)?;
    let caught = supervisor.expect(Kind::Breakpoint, 1, 2)?;
    check_eq!(
        (
            first.load(Ordering::Relaxed),
            second.load(Ordering::Relaxed)
        ),
        (1, 2)
    );
    check_eq!(control::debug(&bare.thread)?.status, 2);
    // This thread may write there, by calls too.
    second.store(9, Ordering::Relaxed);
    check!(supervisor.is_quiet());
    caught.resume()?;
    drop(supervisor.expect(Kind::BadInstruction, 6, 0)?);
    Ok(())
}

pub(crate) fn a_watched_instruction_stops_its_thread_before_it() -> Outcome {
    const RESUME: u64 = 1 << 16;
    let supervisor = Supervisor::new()?;
    let bare = Bare::suspended(walk, 0)?;
    supervisor.thread(&bare.thread)?;
    let behind_call = place(walk) + 8;
    let watched = Debug {
        address0: behind_call,
        control: 1,
        ..Debug::default()
    };
    control::set_debug(&bare.thread, &watched)?;
    control::resume_thread(&bare.thread)?;
    let caught = supervisor.expect(Kind::Breakpoint, 1, 1)?;
    check_eq!(caught.exception.ip, behind_call);
    let mut state = control::general(&bare.thread)?;
    state.flags |= RESUME;
    // SAFETY: it goes on where it is.
    unsafe { control::set_general(&bare.thread, &state) }?;
    caught.resume()?;
    drop(supervisor.expect(Kind::BadInstruction, 6, 0)?);
    Ok(())
}

/// What a fast path could leave behind: a watched thread calls and is called.
pub(crate) fn a_watched_thread_calls_and_answers_as_any_other() -> Outcome {
    let (supervisor, port) = (Supervisor::new()?, port(0)?);
    let (right, name) = (port.make_send()?, port.name());
    let word = AtomicU64::new(0);
    let watched = Debug {
        address0: address(&word),
        control: 0b1101 << 16 | 1,
        ..Debug::default()
    };
    let server = spawn_waiting(move || {
        let mut sum = 0;
        for _ in 0..100 {
            let received = guest_test::Msg::receive_from(name).forever().go()?;
            sum += received.words[0];
            guest_test::Msg::new(option::REPLY)
                .to(received.token)
                .word(sum)
                .go()?;
        }
        Ok::<u64, Kern>(sum)
    })?;
    supervisor.thread(server.thread())?;
    control::suspend_thread(server.thread())?;
    control::set_debug(server.thread(), &watched)?;
    control::resume_thread(server.thread())?;
    for number in 0..100 {
        word.store(number, Ordering::Relaxed);
        guest_test::Msg::call(&right, 1).word(number).go()?;
    }
    check_eq!(server.join(), Ok(4950));
    check!(supervisor.is_quiet());
    Ok(())
}
