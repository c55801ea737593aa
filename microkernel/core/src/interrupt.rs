//! Interrupts of devices, as messages.
//!
//! An interrupt is an object behind a port whose receiver is the kernel: whoever holds a send right
//! has the interrupt, and the end of the last right gives it back. What it has to say goes in one
//! notice, allocated with it, which counts: however often the device interrupts before the driver
//! looks, there is one message. The driver enables the interrupt again when it has served the device.
//!
//! A line that the device holds until it is served (level) is masked while the driver is at work. A
//! line that pulses (edge), and a message-signalled interrupt, cannot be held back without losing
//! it: these are counted, and told as soon as they are enabled.
//!
//! Which processor an interrupt comes to is the shell's to see to, and the device's if it signals by
//! messages; vectors are the same on all processors, so that it does not matter here.

use crate::{
    account,
    kernel::{Kernel, TaskId},
    machine::{Machine, Trigger},
    message::{Message, MessageId, Role},
    notices::Text,
    port::{Object, PortId},
    slab::{Id, Record},
};
use ipc_abi::{Kern, device::LINE_NONE, notify, right::Name};

/// Handle of an interrupt. Its `index()` is the number of its vector among those for devices.
pub type InterruptId = Id<Interrupt>;

/// Interrupts that there can be at one time: the processor's vectors that nothing else uses.
pub const INTERRUPTS_MAX: u32 = 160;

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A line of an interrupt controller.
    Line {
        /// Its number.
        line: u32,
        /// How the device signals.
        trigger: Trigger,
    },
    /// A write of the device to memory.
    Message,
}

/// An interrupt that a task has.
#[derive(Debug)]
pub struct Interrupt {
    pub(crate) source: Source,
    /// Who made it, and pays for it.
    pub(crate) maker: TaskId,
    /// Where its messages go.
    pub(crate) to: PortId,
    pub(crate) message: MessageId,
    /// Interrupts that nobody has been told of.
    pending: u64,
    /// Whether the next one is to be told.
    enabled: bool,
    /// The processor that the last one came to.
    came_to: usize,
}

impl Record for Interrupt {
    type Cells = ();

    fn vacant(_: &()) -> Interrupt {
        Interrupt {
            source: Source::Message,
            maker: Id::NOWHERE,
            to: Id::NOWHERE,
            message: Id::NOWHERE,
            pending: 0,
            enabled: false,
            came_to: 0,
        }
    }

    fn release(&mut self) {}
}

impl Kernel {
    /// Trap `interrupt_create`. Gives the number of the vector as well.
    ///
    /// # Errors
    /// As the trap's.
    pub fn interrupt_create(
        &mut self,
        machine: &mut impl Machine,
        device: u64,
        line: u64,
        notify: u64,
    ) -> Result<(Name, InterruptId), Kern> {
        self.check_device(device)?;
        let task = self.caller()?.task;
        let wanted = match line {
            LINE_NONE => None,
            line => Some(u32::try_from(line).map_err(|_| Kern::InvalidArgument)?),
        };
        let to = self.receive_right(task, notify);
        let to = to.ok_or(Kern::InvalidCapability)?;
        self.ports.reserve(1)?;
        self.messages.reserve(1)?;
        self.interrupts.reserve(1)?;
        self.tasks.at_mut(task).names.reserve(1)?;
        self.account(task).check(account::INTERRUPT)?;
        let message = self.messages.insert(Message::notice(Role::Spent))?;
        let made = self.interrupts.insert(Interrupt {
            source: Source::Message,
            maker: task,
            to,
            message,
            pending: 0,
            enabled: false,
            came_to: 0,
        });
        let opened = made.and_then(|id| match wanted {
            None => Ok((id, Source::Message)),
            Some(line) => match self.open_line(machine, line, id) {
                Ok(trigger) => Ok((id, Source::Line { line, trigger })),
                Err(code) => {
                    self.interrupts.remove(id);
                    Err(code)
                }
            },
        });
        let (id, source) = opened.inspect_err(|_| {
            self.messages.remove(message);
        })?;
        self.account(task).add(account::INTERRUPT);
        self.interrupts.at_mut(id).source = source;
        self.messages.at_mut(message).role = Role::Interrupt(id);
        let onces = &mut self.ports.at_mut(to).onces;
        *onces = onces.saturating_add(1);
        let port = self.ports.add(Object::Interrupt(id))?;
        Ok((self.give_send(task, port)?, id))
    }

    fn open_line(
        &mut self,
        machine: &mut impl Machine,
        line: u32,
        id: InterruptId,
    ) -> Result<Trigger, Kern> {
        let mut others = self.interrupts.iter();
        if others.any(
            |(_, other)| matches!(other.source, Source::Line { line: taken, .. } if taken == line),
        ) {
            return Err(Kern::NoAccess);
        }
        machine.line_open(line, id.index())
    }

    /// Trap `interrupt_enable`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn interrupt_enable(&mut self, machine: &mut impl Machine, name: u64) -> Result<(), Kern> {
        let id = self.named_interrupt(name)?;
        let interrupt = self.interrupts.at_mut(id);
        interrupt.enabled = true;
        let pending = interrupt.pending;
        let source = interrupt.source;
        if pending > 0 {
            self.tell_interrupt(id);
        } else if let Source::Line {
            line,
            trigger: Trigger::Level,
        } = source
        {
            machine.line_mask(line, false);
        }
        self.settle(machine);
        Ok(())
    }

    /// Trap `interrupt_set_processor`. Gives the number of the vector, if the device is to be told by which
    /// message it signals.
    ///
    /// # Errors
    /// As the trap's.
    pub fn interrupt_set_processor(
        &mut self,
        machine: &mut impl Machine,
        name: u64,
        processor: u64,
    ) -> Result<Option<InterruptId>, Kern> {
        let id = self.named_interrupt(name)?;
        let number = usize::try_from(processor).map_err(|_| Kern::InvalidValue)?;
        if number >= self.processors() {
            return Err(Kern::InvalidValue);
        }
        match self.interrupts.at(id).source {
            Source::Message => Ok(Some(id)),
            Source::Line { line, .. } => {
                machine.line_route(line, number);
                Ok(None)
            }
        }
    }

    fn named_interrupt(&self, name: u64) -> Result<InterruptId, Kern> {
        match self.object(self.caller()?.task, name) {
            Some(Object::Interrupt(id)) => Ok(id),
            _ => Err(Kern::InvalidName),
        }
    }

    /// A device interrupted: the vector of this number was delivered. An interrupt that nobody has
    /// any more is forgotten.
    pub fn interrupt(&mut self, machine: &mut impl Machine, vector: u32) {
        let Some((id, _)) = self.interrupts.by_index(vector) else {
            return;
        };
        let here = self.processors.here;
        let interrupt = self.interrupts.at_mut(id);
        interrupt.pending = interrupt.pending.saturating_add(1);
        interrupt.came_to = here;
        if let Source::Line {
            line,
            trigger: Trigger::Level,
        } = interrupt.source
        {
            machine.line_mask(line, true);
        }
        if interrupt.enabled {
            self.tell_interrupt(id);
        }
        self.settle(machine);
    }

    /// Tells what is pending. A notice that was not received yet is told more.
    fn tell_interrupt(&mut self, id: InterruptId) {
        let interrupt = self.interrupts.at_mut(id);
        let (message, to) = (interrupt.message, interrupt.to);
        let count = core::mem::take(&mut interrupt.pending);
        let came_to = interrupt.came_to as u64;
        interrupt.enabled = false;
        let queued = self.messages.at_mut(message);
        if queued.queue.is_some()
            && let [told, last, ..] = &mut queued.words
        {
            *told = told.saturating_add(count);
            *last = came_to;
            return;
        }
        self.tell(message, to, Text::new(notify::INTERRUPT, count, came_to));
    }

    /// Gives an interrupt back: nobody has a right to its port any more.
    pub(crate) fn interrupt_free(&mut self, machine: &mut impl Machine, id: InterruptId) {
        let Some(interrupt) = self.interrupts.get(id) else {
            return;
        };
        let (source, message, to) = (interrupt.source, interrupt.message, interrupt.to);
        self.refund(interrupt.maker, account::INTERRUPT);
        self.interrupts.remove(id);
        if let Source::Line { line, .. } = source {
            machine.line_close(line);
        }
        self.disown(message);
        self.drop_once(to);
    }
}
