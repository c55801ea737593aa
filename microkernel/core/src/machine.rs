//! What the decisions need done outside: the smallest trait that the shell (or a test) implements.
//!
//! A thread is known here by its [`Context`], a word that the shell chose when it made the thread
//! (say, where the saved registers lie), so that no call needs a look-up.

use crate::{
    Kernel, TaskId, ThreadId,
    account::Bill,
    owner::OwnerId,
    state::{Vector, VectorLimits},
};
use ipc_abi::{
    Kern,
    buffer::RIGHTS_MAX,
    exception::Exception,
    message::{Info, Outcome, WORDS},
    state::{Debug, General},
};

/// The shell's word for a thread: registers and IPC buffer. The core only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context(pub u64);

/// The shell's word for an address space. The core only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceId(pub u32);

/// Where a thread is in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// The instruction that it will execute next, or that failed.
    pub ip: u64,
    /// Its stack pointer.
    pub sp: u64,
}

/// How a new thread starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartState {
    /// The space of its task.
    pub space: SpaceId,
    /// Which slot of the task's window of IPC buffers is the thread's.
    pub slot: u64,
    /// First instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// What RDI holds.
    pub argument: u64,
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By a pulse.
    Edge,
    /// By holding the line until the device is served.
    Level,
}

/// How a bounded piece of work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: call again.
    More,
    /// All is done.
    Done,
}

/// A server's answer to a fault, to be carried out before the token is redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAnswer {
    /// The task whose thread faulted, and its space.
    pub task: TaskId,
    /// Space that the translations go to (name 0 in a run).
    pub space: SpaceId,
    /// The task that answers: names of spaces in a batch are names of this task.
    pub replier: TaskId,
    /// The thread that answers: the batch lies in the body of its IPC buffer.
    pub replier_context: Context,
    /// The words of the answer; word 0 is known to be 0 (success).
    pub words: [u64; WORDS],
    /// Bytes of the batch; 0: none.
    pub body: usize,
}

/// What became of a [`FaultAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The translations are entered; the thread may go on.
    Done,
    /// A step is done and progress is in the buffer: the whole trap is to be repeated.
    Again,
    /// The answer is refused with this code; the token stays good.
    Refused(Kern),
}

/// What the console should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nobody handled this exception; the task ends.
    Unhandled {
        /// The task that ends.
        task: TaskId,
        /// The thread that failed.
        thread: ThreadId,
        /// What went wrong.
        exception: Exception,
    },
    /// A task is gone: its threads, rights and translations.
    Ended {
        /// The task.
        task: TaskId,
        /// Its exit status (see `notify::ExitStatus::to_word`).
        status: u64,
    },
    /// The first task, without which the machine is of no use, was ended.
    RootEnded {
        /// Its exit status.
        status: u64,
    },
}

/// What a trace may record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message (or call, or reply) went straight to a thread.
    Message {
        /// What it is.
        info: Info,
        /// Who got it.
        to: ThreadId,
    },
    /// A message, or a thread that calls, was queued at a port.
    Queued {
        /// What it is.
        info: Info,
        /// The kernel's number of the port.
        port: u32,
    },
    /// A thread goes on after its fault.
    FaultEnd {
        /// The thread.
        thread: ThreadId,
        /// The code of the answer; 0: success.
        code: u32,
    },
    /// An exception is being raised.
    Exception {
        /// The thread.
        thread: ThreadId,
        /// What went wrong.
        exception: Exception,
    },
}

/// The hardware shell, as the decisions see it. None of these may call back into the kernel, but
/// for look-ups by [`Machine::resolve_fault`].
pub trait Machine {
    /// Reads the six message words of a thread that is in the kernel.
    fn words(&self, thread: Context) -> [u64; WORDS];
    /// Sets the six message words that a thread will find.
    fn set_words(&mut self, thread: Context, words: [u64; WORDS]);
    /// Moves the message words from one thread to another.
    fn copy_words(&mut self, from: Context, to: Context) {
        let words = self.words(from);
        self.set_words(to, words);
    }
    /// Sets RAX, RDI, RSI and RDX as the `msg` trap returns them (R8, R9 and R10 become 0). Called
    /// once for each `msg` trap that ends; a thread that fails to send or receive keeps its words.
    fn set_message(
        &mut self,
        thread: Context,
        outcome: Outcome,
        payload: u64,
        token: u64,
        info: Info,
    );

    /// Reads the first `count` right values and kinds from a thread's IPC buffer, each once.
    fn read_rights(&self, thread: Context, count: usize) -> [(u64, u8); RIGHTS_MAX];
    /// Writes right values and kinds (at most 8) to a thread's IPC buffer.
    fn write_rights(&mut self, thread: Context, rights: &[(u64, u8)]);
    /// Copies the first `length` bytes (at most `BODY_SIZE`) of a body to another thread's buffer.
    fn copy_body(&mut self, from: Context, to: Context, length: usize);
    /// Reads the start of a body.
    fn read_body(&self, thread: Context, into: &mut [u8]);
    /// Writes the start of a body.
    fn write_body(&mut self, thread: Context, bytes: &[u8]);
    /// Has a thread that stands still, and in no trap any more, go on with all of its registers, also
    /// those that a system call loses.
    fn make_whole(&mut self, thread: Context);
    /// The general registers of a thread that stands still.
    fn general(&self, thread: Context) -> General;
    /// Sets the general registers of a thread that stands still. They have been checked.
    fn set_general(&mut self, thread: Context, state: &General);
    /// The debug registers of a thread that stands still.
    fn debug(&self, thread: Context) -> Debug;
    /// Sets the debug registers of a thread that stands still. They have been checked.
    fn set_debug(&mut self, thread: Context, state: &Debug);
    /// The vector registers of a thread that stands still.
    fn vector(&self, thread: Context) -> Vector;
    /// Sets the vector registers of a thread that stands still. They have been checked. Without effect
    /// on one in a trap.
    fn set_vector(&mut self, thread: Context, image: &Vector);
    /// What vector registers can be set to.
    fn vector_limits(&self) -> VectorLimits;
    /// Where the thread is, for exception messages.
    fn position(&self, thread: Context) -> Position;

    /// Enters the translations of an answer to a fault: one in the words (see
    /// `fault::FaultReply`), more as a batch.
    fn resolve_fault(&mut self, kernel: &Kernel, answer: &FaultAnswer) -> Resolved;

    /// Makes registers and IPC buffer of a new thread.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; nothing is left behind then.
    fn thread_new(&mut self, start: &StartState) -> Result<Context, Kern>;
    /// Frees registers and IPC buffer of a thread that will not run again. It may be the thread
    /// that made the trap.
    fn thread_free(&mut self, thread: Context, space: SpaceId, slot: u64);
    /// Makes an empty address space of an owner. For it, and for its tables, its maker gets a [`Bill`].
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    fn space_new(&mut self, owner: OwnerId, maker: TaskId) -> Result<SpaceId, Kern>;
    /// Removes a bounded number of a space's translations, because its task ended.
    fn space_clear(&mut self, space: SpaceId) -> Progress;
    /// Frees a space that no task is in and no name denotes. It may be the one that is loaded.
    /// Gives the last bill for it.
    fn space_free(&mut self, space: SpaceId) -> Option<Bill>;

    /// Lets an interrupt line reach the vector of this number among those for devices, and says how
    /// the line signals. A line that is held is masked at first, one that pulses is not.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: there is no such line. KERN_NO_ACCESS: it is the kernel's.
    fn line_open(&mut self, line: u32, vector: u32) -> Result<Trigger, Kern>;
    /// Masks an open line, or unmasks it.
    fn line_mask(&mut self, line: u32, masked: bool);
    /// Has an open line interrupt the processor of this number, which exists; at first that is 0.
    fn line_route(&mut self, line: u32, processor: usize);
    /// Masks a line for good.
    fn line_close(&mut self, line: u32);

    /// Tells the console.
    fn report(&mut self, report: Report);
    /// Records an event, if anybody wants it.
    fn trace(&mut self, event: Event);
}
