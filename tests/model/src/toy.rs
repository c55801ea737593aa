//! A machine of plain memory: registers and buffers are vectors, page tables are only counted.

use crate::failing;
use ipc_abi::{
    Kern,
    buffer::{BODY_SIZE, RIGHTS_MAX},
    message::{Info, Outcome, WORDS},
    state::{Debug, General, VECTOR_SIZE},
};
use kernel_core::owner::OwnerId;
use kernel_core::state::{Vector, VectorLimits};
use kernel_core::{
    Bill, Context, Event, FaultAnswer, Kernel, Machine, Position, Progress, Report, Resolved,
    SpaceId, StartState, TaskId, Trigger,
};

/// What a `msg` trap left in a thread's registers and buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The code; success is `Ok`.
    pub code: Result<(), Kern>,
    /// Whether the send half was done.
    pub sent: bool,
    /// Payload of the port.
    pub payload: u64,
    /// Reply token, or 0.
    pub token: u64,
    /// Info of the message.
    pub info: Info,
    /// Words.
    pub words: [u64; WORDS],
    /// As much of the body as the info says.
    pub body: Vec<u8>,
    /// As many rights as the info says.
    pub rights: Vec<(u64, u8)>,
}

/// Registers and buffer of one thread.
#[derive(Clone, Debug)]
pub struct Registers {
    /// Message words.
    pub words: [u64; WORDS],
    /// Body of the IPC buffer.
    pub body: Vec<u8>,
    /// Rights of the IPC buffer.
    pub rights: [(u64, u8); RIGHTS_MAX],
    /// What the last trap left, until it is looked at.
    pub result: Option<Received>,
    /// Whether it is to go on with all of its registers.
    pub whole: bool,
    /// What others set.
    pub general: General,
    /// What others set.
    pub debug: Debug,
    /// What others set.
    pub vector: Vector,
    /// Whether the thread has been freed.
    pub freed: bool,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Toy {
    /// Threads by context.
    pub threads: Vec<Registers>,
    /// Spaces made.
    pub spaces: u32,
    /// Spaces freed.
    pub freed_spaces: Vec<SpaceId>,
    /// `space_clear` says *more* this often for each space.
    pub clear_steps: u32,
    cleared: u32,
    /// What the console heard.
    pub reports: Vec<Report>,
    /// Answers to faults that were carried out.
    pub answers: Vec<FaultAnswer>,
    /// What becomes of the next answers.
    pub resolve: Vec<Resolved>,
    /// Makes `thread_new` and `space_new` fail.
    pub exhausted: bool,
    /// Interrupt lines that are open: which, to which vector, and whether masked. Lines below 16
    /// pulse, there are 24, and line 2 is the kernel's.
    pub lines: Vec<(u32, u32, bool)>,
    /// The lines that were sent to a processor, and to which.
    pub routes: Vec<(u32, usize)>,
    /// How many messages were handed over.
    pub handed: u32,
}

impl Toy {
    /// Registers of a thread.
    pub fn at(&mut self, context: Context) -> &mut Registers {
        &mut self.threads[context.0 as usize]
    }

    fn get(&self, context: Context) -> &Registers {
        let registers = &self.threads[context.0 as usize];
        assert!(!registers.freed, "a freed thread is used: {context:?}");
        registers
    }

    fn get_mut(&mut self, context: Context) -> &mut Registers {
        let registers = &mut self.threads[context.0 as usize];
        assert!(!registers.freed, "a freed thread is used: {context:?}");
        registers
    }
}

impl Machine for Toy {
    fn words(&self, thread: Context) -> [u64; WORDS] {
        self.get(thread).words
    }

    fn set_words(&mut self, thread: Context, words: [u64; WORDS]) {
        self.get_mut(thread).words = words;
    }

    fn set_message(
        &mut self,
        thread: Context,
        outcome: Outcome,
        payload: u64,
        token: u64,
        info: Info,
    ) {
        let registers = self.get_mut(thread);
        assert!(
            registers.result.is_none(),
            "a trap ended twice: {thread:?}, {:?}",
            registers.result
        );
        registers.result = Some(failing::aside(|| Received {
            code: ipc_abi::kern_return::from_raw(outcome.code()),
            sent: outcome.was_sent(),
            payload,
            token,
            info,
            words: registers.words,
            body: registers.body[..info.body()].to_vec(),
            rights: registers.rights[..info.rights()].to_vec(),
        }));
    }

    fn read_rights(&self, thread: Context, count: usize) -> [(u64, u8); RIGHTS_MAX] {
        let mut rights = [(0, 0); RIGHTS_MAX];
        rights[..count].copy_from_slice(&self.get(thread).rights[..count]);
        rights
    }

    fn write_rights(&mut self, thread: Context, rights: &[(u64, u8)]) {
        self.get_mut(thread).rights[..rights.len()].copy_from_slice(rights);
    }

    fn copy_body(&mut self, from: Context, to: Context, length: usize) {
        let body = failing::aside(|| self.get(from).body[..length].to_vec());
        self.get_mut(to).body[..length].copy_from_slice(&body);
    }

    fn read_body(&self, thread: Context, into: &mut [u8]) {
        into.copy_from_slice(&self.get(thread).body[..into.len()]);
    }

    fn write_body(&mut self, thread: Context, bytes: &[u8]) {
        self.get_mut(thread).body[..bytes.len()].copy_from_slice(bytes);
    }

    fn make_whole(&mut self, thread: Context) {
        self.get_mut(thread).whole = true;
    }

    fn general(&self, thread: Context) -> General {
        self.get(thread).general
    }

    fn set_general(&mut self, thread: Context, state: &General) {
        self.get_mut(thread).general = *state;
    }

    fn debug(&self, thread: Context) -> Debug {
        self.get(thread).debug
    }

    fn set_debug(&mut self, thread: Context, state: &Debug) {
        self.get_mut(thread).debug = *state;
    }

    fn vector(&self, thread: Context) -> Vector {
        self.get(thread).vector
    }

    fn set_vector(&mut self, thread: Context, image: &Vector) {
        self.get_mut(thread).vector = *image;
    }

    fn vector_limits(&self) -> VectorLimits {
        VectorLimits {
            components: 7,
            mxcsr: 0xFFFF,
        }
    }

    fn position(&self, thread: Context) -> Position {
        Position {
            ip: 0x40_0000 + thread.0,
            sp: 0x7000_0000 + thread.0,
        }
    }

    fn resolve_fault(&mut self, _kernel: &Kernel, answer: &FaultAnswer) -> Resolved {
        let resolved = self.resolve.pop().unwrap_or(Resolved::Done);
        if resolved == Resolved::Done {
            failing::aside(|| self.answers.push(*answer));
        }
        resolved
    }

    fn thread_new(&mut self, _start: &StartState) -> Result<Context, Kern> {
        if self.exhausted || failing::is_due() {
            return Err(Kern::ResourceShortage);
        }
        failing::aside(|| {
            self.threads.push(Registers {
                words: [0; WORDS],
                body: vec![0; BODY_SIZE],
                rights: [(0, 0); RIGHTS_MAX],
                result: None,
                whole: false,
                general: General::default(),
                debug: Debug::default(),
                vector: [0; VECTOR_SIZE],
                freed: false,
            })
        });
        Ok(Context(self.threads.len() as u64 - 1))
    }

    fn thread_free(&mut self, thread: Context, _space: SpaceId, _slot: u64) {
        self.get_mut(thread).freed = true;
    }

    fn space_new(&mut self, _owner: OwnerId, _maker: TaskId) -> Result<SpaceId, Kern> {
        if self.exhausted || failing::is_due() {
            return Err(Kern::ResourceShortage);
        }
        self.spaces += 1;
        Ok(SpaceId(self.spaces))
    }

    fn space_clear(&mut self, _space: SpaceId) -> Progress {
        if self.cleared < self.clear_steps {
            self.cleared += 1;
            return Progress::More;
        }
        self.cleared = 0;
        Progress::Done
    }

    fn space_free(&mut self, space: SpaceId) -> Option<Bill> {
        assert!(!self.freed_spaces.contains(&space), "freed twice");
        failing::aside(|| self.freed_spaces.push(space));
        None
    }

    fn line_open(&mut self, line: u32, vector: u32) -> Result<Trigger, Kern> {
        assert!(self.lines.iter().all(|open| open.0 != line), "opened twice");
        let trigger = match line {
            2 => return Err(Kern::NoAccess),
            ..16 => Trigger::Edge,
            16..24 => Trigger::Level,
            _ => return Err(Kern::InvalidArgument),
        };
        self.lines.push((line, vector, trigger == Trigger::Level));
        Ok(trigger)
    }

    fn line_mask(&mut self, line: u32, masked: bool) {
        let open = self.lines.iter_mut().find(|open| open.0 == line);
        open.expect("a closed line is masked").2 = masked;
    }

    fn line_route(&mut self, line: u32, processor: usize) {
        assert!(
            self.lines.iter().any(|open| open.0 == line),
            "a closed line is routed"
        );
        self.routes.push((line, processor));
    }

    fn line_close(&mut self, line: u32) {
        self.lines.retain(|open| open.0 != line);
    }

    fn report(&mut self, report: Report) {
        failing::aside(|| self.reports.push(report));
    }

    fn trace(&mut self, event: Event) {
        if matches!(event, Event::Message { .. }) {
            self.handed += 1;
        }
    }
}
