//! Messages there and back between two tasks.

use core::hint::black_box;

use guest_test::Msg;
use ipc::abi::buffer::BODY_SIZE;
use ipc::abi::message::{FOREVER, Info, WORDS, option};
use ipc::abi::right::Disposition;
use ipc::trap::{self, Received, Send};
use ipc::{Kern, ReceiveRight, SendRight, Untyped, buffer, thread};

use crate::partner::{Partner, Role};
use crate::probe::Bench;

/// A call with these words.
pub(crate) fn call_of(partner: &Partner, info: Info, words: [u64; WORDS]) -> Send {
    call_to(&partner.port, info, words)
}

fn call_to(port: &SendRight<Untyped>, info: Info, words: [u64; WORDS]) -> Send {
    Send {
        options: option::CALL,
        destination: port.name().into(),
        receive: 0,
        info,
        send_deadline: FOREVER,
        receive_deadline: FOREVER,
        notify: 0,
        words,
    }
}

/// Whether a trap did what it had to.
pub(crate) fn check(received: &Received) -> Result<(), Kern> {
    ipc::abi::kern_return::from_raw(received.outcome.code())
}

/// A call of six words, to a server that others call as well or not.
pub(crate) fn call_once(port: &SendRight<Untyped>) -> Result<(), Kern> {
    let request = call_to(port, Info::short(1), [1, 2, 3, 4, 5, 6]);
    check(&trap::exchange(&request))
}

/// Six words, six words back.
pub(crate) fn call(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Echo)?;
    let request = call_of(&partner, Info::short(1), [1, 2, 3, 4, 5, 6]);
    bench.repeat(|probe| {
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)?;
        if answer.words == request.words {
            Ok(())
        } else {
            Err(Kern::Failure)
        }
    })
}

/// 32 bytes there and back: they lie in four of the words.
pub(crate) fn call_32(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Echo)?;
    let request = call_of(&partner, Info::short(1), [1, 2, 3, 4, 0, 0]);
    bench.repeat(|probe| {
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)
    })
}

/// Six words, six words back, while another thread's call is always queued: both callers are more
/// important than the server, so that each calls again as soon as it has its answer. In the time of one
/// call the other has one, too.
pub(crate) fn call_loaded(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::EchoLow)?;
    let request = call_of(&partner, Info::short(1), [1, 2, 3, 4, 5, 6]);
    let other = thread::spawn(move || while check(&trap::exchange(&request)).is_ok() {})?;
    let done = bench.repeat(|probe| {
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)
    });
    drop(partner);
    other.join();
    done
}

/// A body of 4000 bytes, which lies in the buffer already; six words back.
pub(crate) fn call_4000(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Take)?;
    buffer::Body::borrow().fill(7);
    let info = Info::new(1, BODY_SIZE, 0).ok_or(Kern::InvalidArgument)?;
    let request = call_of(&partner, info, [0; WORDS]);
    bench.repeat(|probe| {
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)
    })
}

/// One right passed, which the receiver gives back before it answers.
pub(crate) fn call_right(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Take)?;
    let port = ReceiveRight::<Untyped>::new(0)?;
    let info = Info::new(1, 0, 1).ok_or(Kern::InvalidArgument)?;
    let request = call_of(&partner, info, [0; WORDS]);
    bench.repeat(|probe| {
        buffer::set_right(0, port.name(), Disposition::MakeSend);
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)
    })
}

/// A one-way message, and one that comes back for it.
pub(crate) fn notify(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Notify)?;
    let port = ReceiveRight::<Untyped>::new(0)?;
    let first = Msg::send(&partner.port, 1)
        .rights(&[(port.name(), Disposition::MakeSend)])
        .and_receive(&port);
    first.go()?;
    let request = Send {
        options: option::SEND | option::RECEIVE,
        receive: port.name(),
        ..call_of(&partner, Info::short(1), [1, 2, 3, 4, 5, 6])
    };
    bench.repeat(|probe| {
        let request = black_box(&request);
        let answer = probe.time(|| trap::exchange(request));
        check(&answer)
    })
}
