//! Another task of the same program, which does on request what a suite must see from outside:
//! touch memory, hold rights, take calls and keep silent, answer what it was not asked, flood, end.
//!
//! The suite starts it with the role [`ROLE`] as its argument ([`Assistant::start`]); the program's
//! `main` then calls [`serve`]. A request carries a send-once right for its answer, so that the suite
//! can go on while the assistant is stuck in what it was asked to do.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use ipc::abi::kern_return;
use ipc::abi::message::{FOREVER, Info, POLL};
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{ArrivedKind, Disposition, Name};
use ipc::bootstrap::{self, Started};
use ipc::trap::Received;
use ipc::{Kern, ReceiveRight, SendRight, Untyped, task, trap};

use crate::failure::{Failure, Outcome};
use crate::message::{Msg, arrived};
use crate::touch;

/// The role: first argument of a program that is to be an assistant. The second is a name to ask for.
pub const ROLE: &str = "assistant";

macro_rules! commands {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// What an assistant can be asked to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Command {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Command {
            const fn from_raw(raw: u32) -> Option<Command> {
                Some(match raw { $($number => Command::$name,)+ _ => return None })
            }
        }
    };
}

commands! {
    /// Ends with the status in the first word.
    Exit = 1,
    /// Reads the word at the address in the first word, and says it.
    Read = 2,
    /// Writes the second word to the address in the first.
    Write = 3,
    /// Calls the code at the address in the first word.
    Execute = 4,
    /// Divides by zero.
    Divide = 5,
    /// Keeps the right that comes along, and says its name, or the payload if it is its own.
    Keep = 6,
    /// Gives back the send or send-once right, or dead name, in the first word.
    Release = 7,
    /// Destroys the receive right in the first word.
    Destroy = 8,
    /// Receives a message from the port in the first word and says its token, or without one its
    /// first word. Never answers a call by itself.
    Receive = 9,
    /// Answers the token in the first word with the second.
    Answer = 10,
    /// Calls the name in the first word with the second, and says the first word of the answer.
    Call = 11,
    /// Sends one-way messages to the name in the first word until there is no room, or as many as the
    /// second word says; says how many.
    Flood = 12,
    /// Makes a port with the first word as its payload, gives a send right to it, and says its name.
    MakePort = 13,
    /// Runs for ever without a trap.
    Spin = 14,
}

/// An assistant, seen by the suite. Dropped, it is ended.
#[derive(Debug)]
pub struct Assistant {
    /// The task.
    pub started: Started,
    commands: SendRight<Untyped>,
}

/// What was asked, and is not answered yet.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    answers: ReceiveRight<Untyped>,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What came of it: a word, or what failed.
    pub result: Result<u64, Kern>,
    /// What the assistant got or gave: for `Keep` the kind in which the right arrived, for `MakePort`
    /// the send right.
    pub right: (u64, ArrivedKind),
}

/// Makes names by which assistants find their suites.
static STARTED: AtomicU32 = AtomicU32::new(0);

impl Assistant {
    /// Starts an assistant.
    ///
    /// # Errors
    /// It was not started, or does not say hello.
    pub fn start() -> Outcome<Assistant> {
        Assistant::start_as(ipc::task_name())
    }

    /// Starts a task of the image that is the same program.
    ///
    /// # Errors
    /// As [`Assistant::start`].
    pub fn start_as(task: &str) -> Outcome<Assistant> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{number}", ipc::task_name());
        let hello = ReceiveRight::<Untyped>::new(0)?;
        bootstrap::register(&name, hello.make())?;
        let started = bootstrap::start(task, &format!("{ROLE}\0{name}"))?;
        match Msg::receive(&hello).go() {
            Ok(_) => {}
            Err(code) => return Err(Failure::new(format!("no hello of the assistant: {code}"))),
        }
        let [(commands, kind)] = arrived();
        if kind != ArrivedKind::Send {
            return Err(Failure::new(format!("a right of kind {kind:?} said hello")));
        }
        Ok(Assistant {
            started,
            commands: SendRight::from_name(commands as Name),
        })
    }

    /// Asks for something and does not wait.
    ///
    /// # Errors
    /// The assistant has gone, or stands still and has as many unheard as its port holds.
    pub fn ask(&self, command: Command, words: [u64; 2]) -> Outcome<Pending> {
        self.ask_with(command, words, (0, Disposition::None))
    }

    /// Asks for something, with a right, and does not wait.
    ///
    /// # Errors
    /// As [`Assistant::ask`]; the right cannot be sent.
    pub fn ask_with(
        &self,
        command: Command,
        [first, second]: [u64; 2],
        right: (Name, Disposition),
    ) -> Outcome<Pending> {
        let answers = ReceiveRight::<Untyped>::new(0)?;
        Msg::send(&self.commands, command as u32)
            .words([first, second, 0, 0, 0, 0])
            .rights(&[(answers.name(), Disposition::MakeSendOnce), right])
            .until(POLL)
            .go()?;
        Ok(Pending { answers })
    }

    /// Asks for something, and waits for what came of it.
    ///
    /// # Errors
    /// It failed, or no answer came.
    #[track_caller]
    pub fn tell(&self, command: Command, words: [u64; 2]) -> Outcome<u64> {
        Ok(self.ask(command, words)?.said()?.result?)
    }

    /// Gives it a right, and says under which name it has it.
    ///
    /// # Errors
    /// It did not arrive.
    #[track_caller]
    pub fn keep(&self, name: Name, disposition: Disposition) -> Outcome<u64> {
        let pending = self.ask_with(Command::Keep, [0; 2], (name, disposition))?;
        Ok(pending.said()?.result?)
    }

    /// Has it read a word.
    ///
    /// # Errors
    /// No answer came.
    #[track_caller]
    pub fn read(&self, address: u64) -> Outcome<u64> {
        self.tell(Command::Read, [address, 0])
    }

    /// Has it write a word.
    ///
    /// # Errors
    /// No answer came.
    #[track_caller]
    pub fn write(&self, address: u64, value: u64) -> Outcome<u64> {
        self.tell(Command::Write, [address, value])
    }

    /// Waits for its end, which something else brings about.
    ///
    /// # Errors
    /// What `bootstrap_wait` says.
    pub fn wait(&self) -> Result<ExitStatus, Kern> {
        bootstrap::wait(self.started.instance)
    }

    /// Has it end, and waits until it has.
    ///
    /// # Errors
    /// It has gone.
    pub fn exit(self, status: u32) -> Outcome<ExitStatus> {
        drop(self.ask(Command::Exit, [status.into(), 0])?);
        Ok(self.wait()?)
    }
}

impl Drop for Assistant {
    fn drop(&mut self) {
        // Fails if it has ended, and then all is well.
        let _ = task::terminate(&self.started.task, 0);
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// None came.
    #[track_caller]
    pub fn said(self) -> Outcome<Said> {
        let received = match Msg::receive(&self.answers).go() {
            Ok(received) => received,
            Err(code) => return Err(Failure::new(format!("the assistant is silent: {code}"))),
        };
        let [code, value, kind, ..] = received.words;
        let [mut right] = arrived();
        if received.info.rights() == 0 {
            let kind = ArrivedKind::from_raw(kind as u8);
            right = (0, kind.unwrap_or(ArrivedKind::None));
        }
        Ok(Said {
            result: kern_return::from_raw(code as u32).map(|()| value),
            right,
        })
    }

    /// Whether there is no answer yet.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        Msg::receive(&self.answers).until(0).code() == Some(Kern::ReceiveTimedOut)
    }
}

/// The life of an assistant: says hello to the name, then does as it is asked.
///
/// # Errors
/// Nobody has the name; or the suite has gone.
pub fn serve(name: &str) -> Result<(), Kern> {
    let commands = ReceiveRight::<Untyped>::new(0)?;
    let suite = bootstrap::wait_for::<Untyped>(name)?;
    Msg::send(&suite, 0)
        .rights(&[(commands.name(), Disposition::MakeSend)])
        .go()?;
    drop(suite);
    let mut ports = Vec::new();
    loop {
        let received = Msg::receive(&commands).until(FOREVER).go()?;
        let [(answer, _), cargo] = arrived();
        obey(&received, answer as Name, cargo, &mut ports);
    }
}

/// Does one thing and answers.
fn obey(
    received: &Received,
    answer: Name,
    (cargo, kind): (u64, ArrivedKind),
    ports: &mut Vec<ReceiveRight<Untyped>>,
) {
    let [first, second, ..] = received.words;
    let name = first as Name;
    let mut made = None;
    let result = match Command::from_raw(received.info.id()) {
        None => Err(Kern::MigBadId),
        Some(Command::Exit) => ipc::exit(first as u32),
        Some(Command::Read) => Ok(touch::read(first)),
        Some(Command::Write) => {
            // SAFETY: the suite names only memory that it mapped here itself, or none.
            unsafe { touch::write(first, second) };
            Ok(0)
        }
        Some(Command::Execute) => {
            // SAFETY: as above; what it puts there to be executed is a function.
            unsafe { touch::call(first) };
            Ok(0)
        }
        Some(Command::Divide) => {
            touch::divide_by_zero();
            Ok(0)
        }
        Some(Command::Keep) => Ok(cargo),
        Some(Command::Release) => trap::port_deallocate(name, 1).map(|()| 0),
        Some(Command::Destroy) => trap::port_destroy(name).map(|()| 0),
        Some(Command::Receive) => Msg::receive_from(name).go().map(|received| {
            let [word, ..] = received.words;
            if received.token == 0 {
                word
            } else {
                received.token
            }
        }),
        Some(Command::Answer) => Msg::reply(first).word(second).go().map(|_| 0),
        Some(Command::Call) => {
            let to = SendRight::<Untyped>::from_name(name);
            let answer = Msg::call(&to, 0).word(second).forever().go();
            let _ = to.into_name();
            answer.map(|received| received.words[0])
        }
        Some(Command::Flood) => Ok(flood(name, second)),
        Some(Command::MakePort) => ReceiveRight::<Untyped>::new(first).map(|port| {
            let name = port.name();
            ports.push(port);
            made = Some(name);
            name.into()
        }),
        Some(Command::Spin) => loop {
            core::hint::spin_loop();
        },
    };
    let (code, value) = match result {
        Ok(value) => (0, value),
        Err(code) => (code.raw(), 0),
    };
    let mut said = Msg::send_to(answer, received.info.id())
        .info(Info::short(received.info.id()))
        .words([code.into(), value, kind as u64, 0, 0, 0]);
    if let Some(port) = made {
        said = said.rights(&[(port, Disposition::MakeSend)]);
    }
    // Fails if nobody waits for the answer any more.
    let _ = said.go();
}

/// Sends messages until there is no room, `most` at most; says how many.
fn flood(to: Name, most: u64) -> u64 {
    let sent = |index: &u64| Msg::send_to(to, 0).word(*index).until(0).go().is_ok();
    (0..most).take_while(sent).count() as u64
}
