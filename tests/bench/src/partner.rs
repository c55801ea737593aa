//! The other task of an operation: this program in a role, found and ended by the one that measures.

use alloc::format;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_test::Msg;
use guest_test::message::arrived;
use guest_test::touch;
use ipc::abi::exception::EXCEPTION_REPLY;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::{FOREVER, Info, option};
use ipc::abi::right::Name;
use ipc::bootstrap::{self, Started};
use ipc::protocol::memory_object::MemoryObject;
use ipc::trap::{self, Send};
use ipc::vm;
use ipc::{Kern, ReceiveRight, SendRight, Untyped, task, thread};

use crate::pager;
use crate::scale;

/// What the other task does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answers each call with its words.
    Echo,
    /// The same, by a thread that is less important than those of other tasks.
    EchoLow,
    /// Answers each call with its words, and nothing of its body.
    Take,
    /// Answers each exception with success.
    Handle,
    /// Answers each one-way message by one to the right that came first.
    Notify,
    /// Maps the copy that comes with a call, unmaps it, and answers.
    OutOfLine,
    /// The same, and reads each page.
    OutOfLineTouched,
    /// Does a share of the work that several processors have.
    Worker,
    /// Serves memory objects, one page a request.
    Pager1,
    /// The same, 16 pages a request.
    Pager16,
    /// The same, 64 pages a request.
    Pager64,
    /// Serves memory objects whose pages are written before, 16 pages a request.
    Prepared16,
    /// The same, 64 pages a request.
    Prepared64,
}

const ROLES: [(&str, Role); 13] = [
    ("echo-low", Role::EchoLow),
    ("echo", Role::Echo),
    ("take", Role::Take),
    ("handle", Role::Handle),
    ("notify", Role::Notify),
    ("out-of-line", Role::OutOfLine),
    ("out-of-line-touched", Role::OutOfLineTouched),
    ("worker", Role::Worker),
    ("pager-1", Role::Pager1),
    ("pager-16", Role::Pager16),
    ("pager-64", Role::Pager64),
    ("prepared-16", Role::Prepared16),
    ("prepared-64", Role::Prepared64),
];

/// The other task, seen by the one that measures. Dropped, it is ended.
pub(crate) struct Partner {
    started: Started,
    /// The port that it registered.
    pub(crate) port: SendRight<Untyped>,
}

/// Bytes of the stack of a thread that only serves.
const STACK: u64 = 4 * PAGE_SIZE;

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Partner {
    /// Starts it, and waits until it serves.
    pub(crate) fn start(role: Role) -> Result<Partner, Kern> {
        let word = ROLES.iter().find(|(_, known)| *known == role);
        let word = word.map_or("", |(word, _)| word);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench.{word}.{number}");
        let started = bootstrap::start(ipc::task_name(), &format!("{word}\0{name}"))?;
        Ok(Partner {
            started,
            port: bootstrap::wait_for(&name)?,
        })
    }

    /// The memory object that a pager registered.
    pub(crate) const fn object(&self) -> ManuallyDrop<SendRight<MemoryObject>> {
        ManuallyDrop::new(SendRight::from_name(self.port.name()))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = task::terminate(&self.started.task, 0);
        let _ = bootstrap::wait(self.started.instance);
    }
}

/// Plays a role, found under a name.
pub(crate) fn serve(role: &str, name: &str) -> Result<u32, Kern> {
    let role = ROLES.iter().find(|(word, _)| *word == role);
    let (_, role) = role.ok_or(Kern::InvalidArgument)?;
    match role {
        Role::Pager1 => pager::serve::<1>(name)?,
        Role::Pager16 => pager::serve::<16>(name)?,
        Role::Pager64 => pager::serve::<64>(name)?,
        Role::Prepared16 => pager::serve_prepared::<16>(name)?,
        Role::Prepared64 => pager::serve_prepared::<64>(name)?,
        _ => {
            let port = ReceiveRight::<Untyped>::new(0)?;
            bootstrap::register(name, port.make())?;
            match role {
                Role::Notify => notify(&port)?,
                Role::EchoLow => {
                    let server = thread::spawn_with(STACK, 0, move || answer(&port, Role::Echo))?;
                    server.join();
                }
                Role::OutOfLine | Role::OutOfLineTouched => out_of_line(&port, *role)?,
                Role::Worker => scale::work(&port)?,
                role => answer(&port, *role),
            }
        }
    }
    Ok(0)
}

/// The trap that only receives.
fn receive(port: &ReceiveRight<Untyped>) -> Send {
    Send {
        options: option::RECEIVE,
        destination: 0,
        receive: port.name(),
        info: Info::short(0),
        send_deadline: FOREVER,
        receive_deadline: FOREVER,
        notify: 0,
        words: [0; 6],
    }
}

/// Answers calls, one trap each.
fn answer(port: &ReceiveRight<Untyped>, role: Role) -> ! {
    let mut turn = receive(port);
    loop {
        let received = trap::exchange(&turn);
        if received.outcome.code() != 0 {
            ipc::exit(received.outcome.code());
        }
        if received.info.rights() > 0 {
            let [(name, _)] = arrived();
            drop(SendRight::<Untyped>::from_name(name as Name));
        }
        turn.options = option::REPLY | option::RECEIVE;
        turn.destination = received.token;
        turn.info = match role {
            Role::Echo => Info(received.info.0 & 0x0FFF_FFFF_FFFF),
            Role::Handle => Info::short(EXCEPTION_REPLY),
            _ => Info::short(received.info.id()),
        };
        turn.words = match role {
            Role::Handle => [0; 6],
            _ => received.words,
        };
    }
}

/// Answers one-way messages by others.
fn notify(port: &ReceiveRight<Untyped>) -> Result<(), Kern> {
    Msg::receive(port).forever().go()?;
    let [(back, _)] = arrived();
    let mut turn = Send {
        options: option::SEND | option::RECEIVE,
        destination: back,
        ..receive(port)
    };
    loop {
        let received = trap::exchange(&turn);
        if received.outcome.code() != 0 {
            return Err(Kern::from_raw(received.outcome.code()));
        }
        turn.words = received.words;
    }
}

/// Takes copies, and gives them back to nobody.
fn out_of_line(port: &ReceiveRight<Untyped>, role: Role) -> Result<(), Kern> {
    let mut turn = receive(port);
    loop {
        let received = trap::exchange(&turn);
        if received.outcome.code() != 0 {
            return Err(Kern::from_raw(received.outcome.code()));
        }
        let [(name, _)] = arrived();
        let copy = SendRight::from_name(name as Name);
        let [size, ..] = received.words;
        let address = vm::own().take_copy(copy)?;
        if role == Role::OutOfLineTouched {
            (0..size / PAGE_SIZE).for_each(|page| _ = touch::read(address + page * PAGE_SIZE));
        }
        vm::own().deallocate(address, size)?;
        turn.options = option::REPLY | option::RECEIVE;
        turn.destination = received.token;
        turn.info = Info::short(received.info.id());
        turn.words = [address, 0, 0, 0, 0, 0];
    }
}
