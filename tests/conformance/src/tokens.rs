//! Calls and their tokens: who may answer, how often, and what ends a call otherwise.

use guest_test::assistant::{Assistant, Command};
use guest_test::message::arrived;
use guest_test::{Msg, Outcome, check, check_eq, stretched};
use ipc::abi::message::Info;
use ipc::abi::notify;
use ipc::abi::right::{ArrivedKind, Disposition};
use ipc::thread::JoinHandle;
use ipc::time::{MILLISECOND, after};
use ipc::trap::Received;
use ipc::{Kern, SendRight, Untyped, task, trap};

use crate::support::{Port, is_empty, notice, port, spawn_waiting};

/// How long a call waits that nobody is to answer: enough for it to be received on a busy host.
const UNHEARD: u64 = 50 * MILLISECOND;

/// What a call in a thread of its own came to.
type Called = JoinHandle<Result<Received, Kern>>;

/// A call that waits at a port, and what was received of it.
fn called(port: &Port, word: u64) -> Outcome<(Called, Received)> {
    let right = port.make_send()?;
    let caller = spawn_waiting(move || Msg::call(&right, 1).word(word).forever().go())?;
    let received = Msg::receive(port).go()?;
    check!(received.token != 0);
    check_eq!(received.words[0], word);
    Ok((caller, received))
}

pub(crate) fn a_call_gets_its_answer() -> Outcome {
    let port = port(0)?;
    let (caller, received) = called(&port, 17)?;
    let words = [1, 2, 3, 4, 5, 6];
    Msg::reply(received.token)
        .info(Info::short(101))
        .words(words)
        .go()?;
    let answer = caller.join()?;
    check_eq!((answer.info.id(), answer.words), (101, words));
    check_eq!((answer.token, answer.payload), (0, 0));
    Ok(())
}

pub(crate) fn an_answer_carries_body_and_rights() -> Outcome {
    let (port, given) = (port(0)?, port(0x77)?);
    let right = port.make_send()?;
    let caller = spawn_waiting(move || {
        let answer = Msg::call(&right, 1).forever().go()?;
        let mut body = [0; 5];
        let same = guest_test::message::take_body(&answer, &mut body) && body == *b"hello";
        Ok::<_, Kern>((same, arrived::<1>()))
    })?;
    let token = Msg::receive(&port).go()?.token;
    Msg::reply(token)
        .body(b"hello")
        .rights(&[(given.name(), Disposition::MakeSend)])
        .go()?;
    check_eq!(caller.join()?, (true, [(0x77, ArrivedKind::Own)]));
    Ok(())
}

pub(crate) fn a_token_is_good_for_one_answer() -> Outcome {
    let port = port(0)?;
    let (caller, received) = called(&port, 1)?;
    check_eq!(Msg::reply(received.token).word(5).code(), None);
    let again = Msg::reply(received.token).word(6).code();
    check_eq!(again, Some(Kern::SendInvalidReply));
    check_eq!(caller.join()?.words[0], 5);
    let later = Msg::reply(received.token).word(7).code();
    check_eq!(later, Some(Kern::SendInvalidReply));
    Ok(())
}

pub(crate) fn no_other_task_can_answer() -> Outcome {
    let assistant = Assistant::start()?;
    let port = port(0)?;
    let (caller, received) = called(&port, 1)?;
    let theft = assistant.ask(Command::Answer, [received.token, 666])?;
    check_eq!(theft.said()?.result, Err(Kern::SendInvalidReply));
    Msg::reply(received.token).word(5).go()?;
    check_eq!(caller.join()?.words[0], 5);
    Ok(())
}

pub(crate) fn a_made_up_token_answers_nobody() -> Outcome {
    let port = port(0)?;
    let (caller, received) = called(&port, 1)?;
    for wrong in [
        0,
        1,
        u64::MAX,
        received.token ^ 1,
        received.token ^ 1 << 40,
        received.token.wrapping_add(1 << 32),
    ] {
        let refused = Msg::reply(wrong).code();
        check_eq!((wrong, refused), (wrong, Some(Kern::SendInvalidReply)));
    }
    check!(!caller.is_finished());
    Msg::reply(received.token).word(5).go()?;
    check_eq!(caller.join()?.words[0], 5);
    Ok(())
}

pub(crate) fn an_answer_that_cannot_be_sent_leaves_the_token_good() -> Outcome {
    let port = port(0)?;
    let (caller, received) = called(&port, 1)?;
    let bad_right = Msg::reply(received.token).rights(&[(0xFFFF_FF00, Disposition::CopySend)]);
    check_eq!(bad_right.code(), Some(Kern::SendInvalidRight));
    let bad_info = Msg::reply(received.token).info(Info(9 << 44));
    check_eq!(bad_info.code(), Some(Kern::SendInvalidData));
    Msg::reply(received.token).word(5).go()?;
    check_eq!(caller.join()?.words[0], 5);
    Ok(())
}

pub(crate) fn one_trap_answers_and_receives() -> Outcome {
    let port = port(0)?;
    let (first, received) = called(&port, 1)?;
    let right = port.make_send()?;
    let second = spawn_waiting(move || Msg::call(&right, 1).word(2).forever().go())?;
    let next = Msg::reply(received.token)
        .word(10)
        .and_receive(&port)
        .go()?;
    check!(next.outcome.was_sent());
    check_eq!(next.words[0], 2);
    Msg::reply(next.token).word(20).go()?;
    check_eq!(first.join()?.words[0], 10);
    check_eq!(second.join()?.words[0], 20);
    Ok(())
}

pub(crate) fn a_failed_answer_receives_nothing() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    Msg::send(&right, 9).go()?;
    let received = Msg::reply(1).and_receive(&port).trap();
    check_eq!(received.outcome.code(), Kern::SendInvalidReply.raw());
    check!(!received.outcome.was_sent());
    check_eq!(Msg::receive(&port).go()?.info.id(), 9);
    Ok(())
}

pub(crate) fn a_call_that_timed_out_is_cancelled() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let deadline = after(stretched(UNHEARD));
    let caller = spawn_waiting(move || Msg::call(&right, 1).until(deadline).code())?;
    let received = Msg::receive(&port).go()?;
    check_eq!(caller.join(), Some(Kern::ReceiveTimedOut));
    let (_, [token, ..]) = notice(&port, notify::CANCELLED)?;
    check_eq!(token, received.token);
    let late = Msg::reply(received.token).code();
    check_eq!(late, Some(Kern::SendInvalidReply));
    Ok(())
}

pub(crate) fn a_call_that_is_aborted_is_cancelled() -> Outcome {
    let port = port(0)?;
    let (caller, received) = called(&port, 1)?;
    trap::thread_abort(caller.thread().name())?;
    check_eq!(caller.join().err(), Some(Kern::ReceiveInterrupted));
    let (_, [token, ..]) = notice(&port, notify::CANCELLED)?;
    check_eq!(token, received.token);
    let late = Msg::reply(received.token).code();
    check_eq!(late, Some(Kern::SendInvalidReply));
    Ok(())
}

pub(crate) fn a_call_not_received_yet_is_aborted_without_a_trace() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let caller = spawn_waiting(move || Msg::call(&right, 1).forever().code())?;
    trap::thread_abort(caller.thread().name())?;
    check_eq!(caller.join(), Some(Kern::ReceiveInterrupted));
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn sends_and_receives_can_be_aborted() -> Outcome {
    let port = port(0)?;
    let name = port.name();
    let receiver = spawn_waiting(move || Msg::receive_from(name).forever().code())?;
    trap::thread_abort(receiver.thread().name())?;
    check_eq!(receiver.join(), Some(Kern::ReceiveInterrupted));
    port.set_attributes(0, 1)?;
    let right = port.make_send()?;
    Msg::send(&right, 1).go()?;
    let sender = spawn_waiting(move || Msg::send(&right, 2).forever().code())?;
    trap::thread_abort(sender.thread().name())?;
    check_eq!(sender.join(), Some(Kern::SendInterrupted));
    check_eq!(Msg::receive(&port).go()?.info.id(), 1);
    check!(is_empty(&port));
    Ok(())
}

pub(crate) fn callers_in_the_queue_hear_of_the_ports_death() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let caller = spawn_waiting(move || Msg::call(&right, 1).forever().code())?;
    drop(port);
    check_eq!(caller.join(), Some(Kern::ReceivePortDied));
    Ok(())
}

pub(crate) fn callers_of_a_task_that_ends_hear_of_it() -> Outcome {
    let assistant = Assistant::start()?;
    let pending = assistant.ask(Command::MakePort, [0, 0])?.said()?;
    let port = pending.result?;
    check_eq!(pending.right.1, ArrivedKind::Send);
    let right = SendRight::<Untyped>::from_name(pending.right.0 as u32);
    let caller = spawn_waiting(move || Msg::call(&right, 1).forever().code())?;
    // The assistant takes the call and never answers.
    check!(assistant.tell(Command::Receive, [port, 0])? != 0);
    check!(!caller.is_finished());
    task::terminate(&assistant.started.task, 0)?;
    check_eq!(caller.join(), Some(Kern::ReceivePortDied));
    Ok(())
}

pub(crate) fn the_call_of_a_task_that_ends_is_cancelled() -> Outcome {
    let assistant = Assistant::start()?;
    let port = port(0)?;
    let theirs = assistant.keep(port.name(), Disposition::MakeSend)?;
    let pending = assistant.ask(Command::Call, [theirs, 31])?;
    let received = Msg::receive(&port).go()?;
    check_eq!(received.words[0], 31);
    check!(pending.is_stuck());
    task::terminate(&assistant.started.task, 0)?;
    let (_, [token, ..]) = notice(&port, notify::CANCELLED)?;
    check_eq!(token, received.token);
    let late = Msg::reply(received.token).code();
    check_eq!(late, Some(Kern::SendInvalidReply));
    Ok(())
}

pub(crate) fn a_call_between_tasks_gets_its_answer() -> Outcome {
    let assistant = Assistant::start()?;
    let port = port(0)?;
    let theirs = assistant.keep(port.name(), Disposition::MakeSend)?;
    for word in 0..10 {
        let pending = assistant.ask(Command::Call, [theirs, word])?;
        let received = Msg::receive(&port).go()?;
        check_eq!(received.words[0], word);
        Msg::reply(received.token).word(word + 100).go()?;
        check_eq!(pending.said()?.result, Ok(word + 100));
    }
    Ok(())
}

/// An assistant, and a port of its that one can send to: its name for it, and the right.
fn second() -> Outcome<(Assistant, u64, SendRight<Untyped>)> {
    let assistant = Assistant::start()?;
    let made = assistant.ask(Command::MakePort, [0x2D, 0])?.said()?;
    let right = SendRight::from_name(made.right.0 as u32);
    Ok((assistant, made.result?, right))
}

pub(crate) fn a_call_is_passed_on_and_answered_by_another() -> Outcome {
    let (port, (assistant, theirs, right)) = (port(0)?, second()?);
    let (caller, received) = called(&port, 17)?;
    Msg::forward(received.token, &right, 5).word(18).go()?;
    // Who has passed it on has nothing more to say.
    for again in [
        Msg::reply(received.token),
        Msg::forward(received.token, &right, 5),
    ] {
        check_eq!(again.code(), Some(Kern::SendInvalidReply));
    }
    let token = assistant.tell(Command::Receive, [theirs, 0])?;
    check!(token != 0 && token != received.token);
    // The new token is the other task's.
    check_eq!(Msg::reply(token).code(), Some(Kern::SendInvalidReply));
    assistant.tell(Command::Answer, [token, 99])?;
    check_eq!(caller.join()?.words[0], 99);
    Ok(())
}

pub(crate) fn a_call_is_passed_on_with_body_and_rights() -> Outcome {
    let (first, last, given) = (port(0)?, port(0x1A57)?, port(0x617)?);
    let to = last.make_send()?;
    for waits in [false, true] {
        let (caller, received) = called(&first, 3)?;
        let forward = |token| {
            Msg::forward(token, &to, 6)
                .word(4)
                .body(b"onward")
                .rights(&[(given.name(), Disposition::MakeSend)])
                .go()
        };
        let name = last.name();
        let receive = move || {
            let last = Msg::receive_from(name).forever().go()?;
            let mut body = [0; 6];
            let same = guest_test::message::take_body(&last, &mut body) && body == *b"onward";
            Ok::<_, Kern>((last, same, arrived::<1>()))
        };
        let (got, same, rights) = if waits {
            let receiver = spawn_waiting(receive)?;
            forward(received.token)?;
            receiver.join()?
        } else {
            forward(received.token)?;
            receive()?
        };
        check_eq!((got.payload, got.words[0], got.info.id()), (0x1A57, 4, 6));
        check!(same && !got.info.is_kernel());
        check_eq!(rights, [(0x617, ArrivedKind::Own)]);
        Msg::reply(got.token).word(5).go()?;
        check_eq!(caller.join()?.words[0], 5);
    }
    Ok(())
}

pub(crate) fn a_call_that_cannot_be_passed_on_can_still_be_answered() -> Outcome {
    let (first, dead) = (port(0)?, port(0)?);
    let nobody = dead.make_send()?;
    drop(dead);
    let to = first.make_send()?;
    let (caller, received) = called(&first, 3)?;
    let token = received.token;
    check_eq!(
        Msg::forward(token, &nobody, 1).code(),
        Some(Kern::SendInvalidDest)
    );
    let wrong = Msg::forward(token, &to, 1).rights(&[(nobody.name(), Disposition::MakeSend)]);
    check_eq!(wrong.code(), Some(Kern::SendInvalidRight));
    check!(is_empty(&first));
    Msg::reply(token).word(8).go()?;
    check_eq!(caller.join()?.words[0], 8);
    Ok(())
}

pub(crate) fn one_trap_passes_on_and_receives() -> Outcome {
    let (first, last) = (port(1)?, port(2)?);
    let (to_first, to_last) = (first.make_send()?, last.make_send()?);
    let (caller, received) = called(&first, 3)?;
    Msg::send(&to_first, 44).go()?;
    let next = Msg::forward(received.token, &to_last, 7)
        .and_receive(&first)
        .go()?;
    check_eq!((next.payload, next.info.id()), (1, 44));
    let asked = Msg::receive(&last).go()?;
    Msg::reply(asked.token).word(9).go()?;
    check_eq!(caller.join()?.words[0], 9);
    Ok(())
}

pub(crate) fn a_call_passed_on_ends_with_its_new_server() -> Outcome {
    let first = port(0)?;
    for received in [false, true] {
        let (assistant, theirs, right) = second()?;
        let (caller, asked) = called(&first, 3)?;
        Msg::forward(asked.token, &right, 7).go()?;
        if received {
            assistant.tell(Command::Receive, [theirs, 0])?;
        }
        assistant.exit(0)?;
        check_eq!(caller.join().err(), Some(Kern::ReceivePortDied));
    }
    Ok(())
}

pub(crate) fn a_call_passed_on_keeps_its_deadline() -> Outcome {
    let (first, last) = (port(0)?, port(0)?);
    let (to_first, to_last) = (first.make_send()?, last.make_send()?);
    for received in [false, true] {
        let deadline = after(stretched(UNHEARD));
        let right = trap::port_make_send(first.name())
            .map(|()| SendRight::<Untyped>::from_name(to_first.name()))?;
        let caller = spawn_waiting(move || Msg::call(&right, 1).until(deadline).go())?;
        let asked = Msg::receive(&first).go()?;
        Msg::forward(asked.token, &to_last, 7).go()?;
        let token = match received {
            true => Msg::receive(&last).go()?.token,
            false => 0,
        };
        check_eq!(caller.join().err(), Some(Kern::ReceiveTimedOut));
        if received {
            // The one that has the token is told that it is void.
            let (_, [void, ..]) = notice(&last, notify::CANCELLED)?;
            check_eq!(void, token);
        }
        check!(is_empty(&last) && is_empty(&first));
    }
    Ok(())
}
