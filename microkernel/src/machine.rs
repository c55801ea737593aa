//! What kernel-core's decisions do to the machine: registers, buffers, spaces, console, trace.
//!
//! [`Hardware`] implements `kernel_core::Machine`, whose documentation is the contract. It holds no
//! decisions: every method moves what it is told to move. kernel-core names threads by a word that
//! is the address of their block ([`Saved`]).

use ipc_abi::message::{Info, Outcome, WORDS};
use ipc_abi::state::{Debug, General};
use ipc_abi::{Kern, buffer::RIGHTS_MAX, layout};
use kernel_core::owner::OwnerId;
use kernel_core::state::{Vector, VectorLimits};
use kernel_core::{
    Bill, Context, Event, FaultAnswer, Kernel, Machine, Position, Progress, Report, Resolved,
    SpaceId, StartState, TaskId, Trigger,
};

use crate::arch::apic;
use crate::arch::clock::Clock;
use crate::arch::context::{self, Saved};
use crate::arch::ioapic::Lines;
use crate::arch::{percpu, state};
use crate::frames::{self, buffer::Buffer};
use crate::pmap::Memory;
use crate::processors;
use crate::report;
use crate::schedule::Processor;
use crate::trace;

/// What `host_statistics` shows and nothing else counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Messages handed over the general way; `Seat` counts the others.
    pub(crate) messages: u64,
    /// Page faults of ring 3 that went the general way.
    pub(crate) faults: u64,
    /// Exception messages.
    pub(crate) exceptions: u64,
}

/// Everything that is not a decision.
pub(crate) struct Hardware {
    /// Spaces, frames and their owners.
    pub(crate) memory: Memory,
    /// Interrupt lines.
    pub(crate) lines: Lines,
    /// Time.
    pub(crate) clock: Clock,
    /// What happened so far.
    pub(crate) counters: Counters,
}

impl Machine for Hardware {
    fn words(&self, thread: Context) -> [u64; WORDS] {
        Saved::of(thread).with(|registers| registers.words())
    }

    fn set_words(&mut self, thread: Context, words: [u64; WORDS]) {
        Saved::of(thread).with(|registers| registers.set_words(words));
    }

    fn set_message(
        &mut self,
        thread: Context,
        outcome: Outcome,
        payload: u64,
        token: u64,
        info: Info,
    ) {
        Saved::of(thread).with(|registers| {
            registers.rax = outcome.0;
            registers.rdi = payload;
            registers.rsi = token;
            registers.rdx = info.0;
            registers.r8 = 0;
            registers.r9 = 0;
            registers.r10 = 0;
        });
    }

    fn read_rights(&self, thread: Context, count: usize) -> [(u64, u8); RIGHTS_MAX] {
        let buffer = buffer(thread);
        let mut rights = [(0, 0); RIGHTS_MAX];
        for (index, right) in rights.iter_mut().take(count).enumerate() {
            *right = buffer.right(index);
        }
        rights
    }

    fn write_rights(&mut self, thread: Context, rights: &[(u64, u8)]) {
        let buffer = buffer(thread);
        for (index, right) in rights.iter().take(RIGHTS_MAX).enumerate() {
            buffer.set_right(index, *right);
        }
    }

    fn copy_body(&mut self, from: Context, to: Context, length: usize) {
        buffer(from).copy_body(buffer(to), length);
    }

    fn read_body(&self, thread: Context, into: &mut [u8]) {
        buffer(thread).read_body(into);
    }

    fn write_body(&mut self, thread: Context, bytes: &[u8]) {
        buffer(thread).write_body(bytes);
    }

    fn make_whole(&mut self, thread: Context) {
        Saved::of(thread).make_whole();
    }

    fn general(&self, thread: Context) -> General {
        Saved::of(thread).general()
    }

    fn set_general(&mut self, thread: Context, state: &General) {
        Saved::of(thread).set_general(state);
        forget(Saved::of(thread));
    }

    fn debug(&self, thread: Context) -> Debug {
        Saved::of(thread).debug()
    }

    fn set_debug(&mut self, thread: Context, state: &Debug) {
        Saved::of(thread).set_debug(state);
        forget(Saved::of(thread));
    }

    fn vector(&self, thread: Context) -> Vector {
        Saved::of(thread).vector()
    }

    fn set_vector(&mut self, thread: Context, image: &Vector) {
        Saved::of(thread).set_vector(image);
    }

    fn vector_limits(&self) -> VectorLimits {
        state::vector_limits()
    }

    fn position(&self, thread: Context) -> Position {
        Saved::of(thread).with(|registers| Position {
            ip: registers.rip,
            sp: registers.rsp,
        })
    }

    fn resolve_fault(&mut self, kernel: &Kernel, answer: &FaultAnswer) -> Resolved {
        self.memory.resolve_fault(kernel, answer)
    }

    fn thread_new(&mut self, start: &StartState) -> Result<Context, Kern> {
        let address = layout::ipc_buffer(start.slot).ok_or(Kern::ResourceShortage)?;
        let frame = self.memory.buffer_new(start.space, start.slot)?;
        let registers = context::Context::start(start.ip, start.sp, [start.argument, address]);
        match Saved::allocate(registers, frame, self.memory.root(start.space)) {
            Ok(saved) => Ok(saved.word()),
            Err(code) => {
                self.memory.buffer_free(start.space, start.slot, frame);
                Err(code)
            }
        }
    }

    fn thread_free(&mut self, thread: Context, space: SpaceId, slot: u64) {
        frames::failing::forget(thread.0);
        let saved = Saved::of(thread);
        processors::recall(|other| other.has(saved));
        if Processor::here().has(saved) {
            Processor::here().forget_thread();
        }
        self.memory.buffer_free(space, slot, saved.buffer().frame());
        saved.free();
    }

    fn space_new(&mut self, owner: OwnerId, maker: TaskId) -> Result<SpaceId, Kern> {
        self.memory.space_new(owner, Some(maker))
    }

    fn space_clear(&mut self, space: SpaceId) -> Progress {
        self.memory.space_clear(space)
    }

    fn space_free(&mut self, space: SpaceId) -> Option<Bill> {
        let root = self.memory.root(space).start().raw();
        processors::recall(|other| other.root() == root);
        if Processor::here().root() == root {
            Processor::here().load_root(self.memory.kernel_root());
        }
        self.memory.space_free(space)
    }

    fn line_open(&mut self, line: u32, vector: u32) -> Result<Trigger, Kern> {
        self.lines.open(line, apic::device_vector(vector))
    }

    fn line_mask(&mut self, line: u32, masked: bool) {
        self.lines.mask(line, masked);
    }

    fn line_route(&mut self, line: u32, processor: usize) {
        self.lines.route(line, percpu::apic_of(processor));
    }

    fn line_close(&mut self, line: u32) {
        self.lines.mask(line, true);
    }

    fn report(&mut self, report: Report) {
        report::print(report);
    }

    #[inline(always)]
    fn trace(&mut self, event: Event) {
        match event {
            Event::Exception { .. } => self.counters.exceptions += 1,
            Event::Message { .. } => self.counters.messages += 1,
            Event::Queued { .. } | Event::FaultEnd { .. } => {}
        }
        trace::event(event);
    }
}

fn buffer(thread: Context) -> Buffer {
    Saved::of(thread).buffer()
}

/// Has every processor load a thread anew when it goes on with it.
fn forget(thread: Saved) {
    percpu::all()
        .filter(|cpu| cpu.processor.has(thread))
        .for_each(|cpu| cpu.processor.forget_thread());
}
