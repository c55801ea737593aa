//! Exceptions of every kind: who handles them, what they are told, and how their threads go on.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_test::message::{arrived, take_body};
use guest_test::{Msg, Outcome, Supervisor, check, check_eq};
use ipc::abi::exception::{
    Behavior, EXCEPTION, EXCEPTION_REPLY, Exception, Handler, Kind, MASK_ALL,
};
use ipc::abi::message::Info;
use ipc::abi::right::ArrivedKind;
use ipc::abi::state::General;
use ipc::trap::Received;
use ipc::{Kern, control, task, trap};

use crate::bare::{Bare, Code, codes, place};
use crate::support::{Port, port, until};

codes! {
    divide: "xor ecx, ecx", "xor edx, edx", "div ecx", "ud2";
    breakpoint: "int3", "ud2";
    undefined: "ud2";
    privileged: "hlt", "ud2";
    selector: "mov eax, 0x28", "mov ds, eax", "ud2";
    no_address: "mov rax, 0x8000000000000000", "mov rax, [rax]", "ud2";
    floating: "mov word ptr [rsp - 8], 0x340", "fldcw [rsp - 8]", "fld1", "fldz", "fdivp", "fwait",
        "ud2";
    // Says in the word at RDI what is in RBX, and stands still; at first it is not allowed to.
    skipped: "ud2", "mov [rdi], rbx", "2: jmp 2b";
}

/// The kinds of this mask, with nothing but the words.
fn plain(mask: u64) -> Handler {
    Handler {
        mask,
        behavior: Behavior::empty(),
    }
}

fn bit(kind: Kind) -> u64 {
    1 << kind as u64
}

/// The next exception at a port.
fn caught(port: &Port) -> Outcome<(Exception, Received)> {
    let received = Msg::receive(port).go()?;
    check_eq!(
        (received.info.id(), received.info.is_kernel()),
        (EXCEPTION, true)
    );
    let exception = Exception::from_words(received.words).ok_or(Kern::Failure)?;
    Ok((exception, received))
}

/// An answer to an exception.
fn answer(received: &Received) -> Msg {
    Msg::reply(received.token).info(Info::short(EXCEPTION_REPLY))
}

pub(crate) fn every_exception_of_the_processor_has_its_kind() -> Outcome {
    let supervisor = Supervisor::new()?;
    let cases: [(Code, Kind, u64, u64); 7] = [
        (divide, Kind::Arithmetic, 0, 0),
        (breakpoint, Kind::Breakpoint, 3, 0),
        (undefined, Kind::BadInstruction, 6, 0),
        (privileged, Kind::BadInstruction, 13, 0),
        (selector, Kind::BadInstruction, 13, 0x28),
        (no_address, Kind::BadInstruction, 13, 0),
        (floating, Kind::Arithmetic, 16, 0),
    ];
    for (code, kind, vector, error) in cases {
        let bare = Bare::suspended(code, 0)?;
        supervisor.thread(&bare.thread)?;
        control::resume_thread(&bare.thread)?;
        let caught = supervisor.expect(kind, vector, error)?;
        let ip = caught.exception.ip;
        check!((place(code)..place(code) + 64).contains(&ip));
        check_eq!(control::general(&bare.thread)?.rip, ip);
    }
    Ok(())
}

pub(crate) fn each_kind_goes_to_the_handler_that_was_set_for_it() -> Outcome {
    let (first, second) = (port(1)?, port(2)?);
    let bare = Bare::suspended(divide, 0)?;
    let mask = bit(Kind::Arithmetic);
    control::set_handler(&bare.thread, plain(MASK_ALL), Some(&first.make_send()?))?;
    let old = control::swap_handler(&bare.thread, plain(mask), Some(&second.make_send()?))?;
    check_eq!(old.len(), 1);
    check_eq!(old.first().map(|(old, _)| *old), Some(plain(mask)));
    let all = control::handlers(&bare.thread, MASK_ALL)?;
    check_eq!(all.len(), 2);
    check!(
        all.iter()
            .any(|(handler, _)| *handler == plain(MASK_ALL & !mask))
    );
    check!(control::handlers(&task::own()?, MASK_ALL)?.is_empty());
    control::resume_thread(&bare.thread)?;
    let (exception, received) = caught(&second)?;
    check_eq!(exception.kind, Kind::Arithmetic);
    // Behind the division.
    let mut state = control::general(&bare.thread)?;
    state.rip += 2;
    // SAFETY: what follows is another exception.
    unsafe { control::set_general(&bare.thread, &state) }?;
    answer(&received).go()?;
    check_eq!(caught(&first)?.0.kind, Kind::BadInstruction);
    Ok(())
}

pub(crate) fn an_exception_that_the_thread_port_denies_goes_to_the_task_port() -> Outcome {
    let (first, second) = (port(1)?, port(2)?);
    let own = task::own()?;
    let bare = Bare::suspended(undefined, 0)?;
    control::set_handler(&bare.thread, plain(MASK_ALL), Some(&first.make_send()?))?;
    let mask = bit(Kind::BadInstruction);
    control::set_handler(&own, plain(mask), Some(&second.make_send()?))?;
    control::resume_thread(&bare.thread)?;
    let (_, received) = caught(&first)?;
    answer(&received).word(5).go()?;
    check_eq!(caught(&second)?.0.kind, Kind::BadInstruction);
    control::set_handler(&own, plain(mask), None)?;
    Ok(())
}

pub(crate) fn an_answer_may_have_the_thread_go_on_with_other_registers() -> Outcome {
    let word = AtomicU64::new(0);
    let handler = port(1)?;
    let bare = Bare::suspended(skipped, word.as_ptr() as u64)?;
    let told = Handler {
        mask: MASK_ALL,
        behavior: Behavior::STATE,
    };
    control::set_handler(&bare.thread, told, Some(&handler.make_send()?))?;
    control::resume_thread(&bare.thread)?;
    let (exception, received) = caught(&handler)?;
    let mut bytes = [0; General::SIZE];
    check!(take_body(&received, &mut bytes));
    let mut state = General::from_bytes(&bytes).ok_or(Kern::Failure)?;
    check_eq!((state.rip, state.rsp), (exception.ip, exception.sp));
    // Refused: the thread goes on waiting.
    let lost = General {
        rip: 1 << 47,
        ..state
    };
    let refused = answer(&received).body(&lost.to_bytes()).go();
    check_eq!(refused.err(), Some(Kern::InvalidAddress));
    let refused = answer(&received).body(&[0; 8]).go();
    check_eq!(refused.err(), Some(Kern::SendInvalidData));
    state.rip += 2;
    state.rbx = 0x5AFE;
    answer(&received).body(&state.to_bytes()).go()?;
    check!(until(|| word.load(Ordering::Relaxed) == 0x5AFE));
    Ok(())
}

pub(crate) fn an_exception_says_which_thread_and_task_it_is_of() -> Outcome {
    let handler = port(1)?;
    let bare = Bare::suspended(undefined, 0)?;
    let told = Handler {
        mask: MASK_ALL,
        behavior: Behavior::IDENTITY,
    };
    control::set_handler(&bare.thread, told, Some(&handler.make_send()?))?;
    control::resume_thread(&bare.thread)?;
    let (exception, received) = caught(&handler)?;
    check_eq!(received.info.rights(), 2);
    let [(thread, kind), (owner, _)] = arrived();
    check_eq!(
        (thread, kind),
        (bare.thread.name().into(), ArrivedKind::Send)
    );
    let own = task::own()?;
    check_eq!(owner, own.name().into());
    let info = control::thread_info(&bare.thread)?;
    check_eq!(info.number, exception.thread);
    trap::port_deallocate(bare.thread.name(), 1)?;
    trap::port_deallocate(own.name(), 1)?;
    Ok(())
}

pub(crate) fn only_who_was_told_registers_may_change_them() -> Outcome {
    let handler = port(1)?;
    let bare = Bare::suspended(undefined, 0)?;
    control::set_handler(&bare.thread, plain(MASK_ALL), Some(&handler.make_send()?))?;
    control::resume_thread(&bare.thread)?;
    let (_, received) = caught(&handler)?;
    let refused = answer(&received).body(&General::default().to_bytes()).go();
    check_eq!(refused.err(), Some(Kern::SendInvalidData));
    Ok(())
}

pub(crate) fn odd_handlers_are_refused() -> Outcome {
    let port = port(1)?;
    let (right, own) = (port.make_send()?, task::own()?);
    let set = |target, handler| control::set_handler(target, handler, Some(&right));
    check_eq!(set(&right, plain(MASK_ALL)), Err(Kern::InvalidArgument));
    for mask in [1, 1 << 4, 1 << 7, 1 << 40, u64::MAX] {
        check_eq!(set(&own, plain(mask)), Err(Kern::InvalidArgument));
        let got = control::handlers(&own, mask).err();
        check_eq!(got, Some(Kern::InvalidArgument));
    }
    check_eq!(
        control::handlers(&right, 2).err(),
        Some(Kern::InvalidArgument)
    );
    check_eq!(set(&own, plain(0)), Ok(()));
    Ok(())
}
