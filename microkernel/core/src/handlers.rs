//! Who handles the exceptions of a thread or task: a port for each kind, and what it is told.

use crate::{
    kernel::{Kernel, TaskId, ThreadId},
    machine::Machine,
    port::{Object, PortId},
};
use ipc_abi::{
    Kern,
    exception::{self, Behavior, Kind, MASK_ALL},
    right::{ArrivedKind, Name},
};

/// Kinds of exceptions, by their numbers.
pub(crate) const KINDS: usize = 7;

/// A port for exceptions, a send right of the kernel's, and what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) port: PortId,
    pub(crate) behavior: Behavior,
}

/// The handlers of a thread or task.
#[derive(Debug)]
pub(crate) struct Handlers([Option<Handler>; KINDS]);

impl Handlers {
    pub(crate) const NONE: Handlers = Handlers([None; KINDS]);

    /// Who handles a kind.
    #[inline]
    pub(crate) fn get(&self, kind: Kind) -> Option<Handler> {
        self.0.get(kind as usize).copied().flatten()
    }

    /// The port of every kind that is handled.
    pub(crate) fn ports(&self) -> impl Iterator<Item = PortId> {
        self.0.iter().flatten().map(|handler| handler.port)
    }

    /// Takes one of them away.
    pub(crate) fn take(&mut self) -> Option<PortId> {
        let handler = self.0.iter_mut().find_map(Option::take)?;
        Some(handler.port)
    }

    /// The handlers of a mask, each once with the kinds that it gets.
    fn of(&self, mask: u64) -> impl Iterator<Item = (u64, Handler)> {
        let bit = |kind: usize| 1_u64 << (kind & 31);
        let kinds = self.0.iter().enumerate();
        let chosen = move |(kind, handler): (usize, &Option<Handler>)| {
            handler.filter(|_| mask & bit(kind) != 0)
        };
        kinds.filter_map(move |(kind, handler)| {
            let handler = chosen((kind, handler))?;
            let same = |(other, found): (usize, &Option<Handler>)| {
                (chosen((other, found)) == Some(handler)).then_some(other)
            };
            let first = self.0.iter().enumerate().find_map(same)?;
            let all = self.0.iter().enumerate().filter_map(same);
            let kinds = all.fold(0, |kinds, kind| kinds | bit(kind));
            (first == kind).then_some((kinds, handler))
        })
    }
}

/// Whose handlers.
#[derive(Clone, Copy)]
enum Target {
    Thread(ThreadId),
    Task(TaskId),
}

impl Kernel {
    /// Trap `exception_ports_set`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn exception_ports_set(
        &mut self,
        machine: &mut impl Machine,
        [target, mask, behavior, name]: [u64; 4],
    ) -> Result<(), Kern> {
        let target = self.target(target)?;
        let handler = self.checked_handler(mask, behavior, name)?;
        self.set_handlers(target, mask, handler);
        self.settle(machine);
        Ok(())
    }

    /// Trap `exception_ports_swap`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn exception_ports_swap(
        &mut self,
        machine: &mut impl Machine,
        [target, mask, behavior, name]: [u64; 4],
    ) -> Result<u64, Kern> {
        let target = self.target(target)?;
        let handler = self.checked_handler(mask, behavior, name)?;
        let count = self.give_handlers(machine, target, mask)?;
        self.set_handlers(target, mask, handler);
        self.settle(machine);
        Ok(count)
    }

    /// Trap `exception_ports_get`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn exception_ports_get(
        &mut self,
        machine: &mut impl Machine,
        target: u64,
        mask: u64,
    ) -> Result<u64, Kern> {
        let target = self.target(target)?;
        if mask & !MASK_ALL != 0 {
            return Err(Kern::InvalidArgument);
        }
        self.give_handlers(machine, target, mask)
    }

    /// Trap `thread_set_exception_port`: a handler of every kind, which is told no more than the words.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_set_exception_port(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
        name: u64,
    ) -> Result<(), Kern> {
        let thread = self.resolve_thread(self.caller()?.task, thread)?;
        let handler = self.checked_handler(MASK_ALL, 0, name)?;
        self.set_handlers(Target::Thread(thread), MASK_ALL, handler);
        self.settle(machine);
        Ok(())
    }

    /// The same for a task.
    pub(crate) fn task_set_exception_port(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        name: u64,
    ) -> Result<(), Kern> {
        let handler = self.checked_handler(MASK_ALL, 0, name)?;
        self.set_handlers(Target::Task(task), MASK_ALL, handler);
        self.settle(machine);
        Ok(())
    }

    fn target(&self, name: u64) -> Result<Target, Kern> {
        let me = self.caller()?.task;
        match self.object(me, name) {
            Some(Object::Thread(thread)) => Ok(Target::Thread(thread)),
            Some(Object::Task(_)) => match self.live_task(me, name) {
                Ok(task) => Ok(Target::Task(task)),
                Err(_) => Err(Kern::InvalidArgument),
            },
            _ => Err(Kern::InvalidArgument),
        }
    }

    fn checked_handler(
        &self,
        mask: u64,
        behavior: u64,
        name: u64,
    ) -> Result<Option<Handler>, Kern> {
        let behavior = u8::try_from(behavior).ok().and_then(Behavior::from_bits);
        let behavior = behavior.ok_or(Kern::InvalidArgument)?;
        if mask & !MASK_ALL != 0 {
            return Err(Kern::InvalidArgument);
        }
        if name == 0 {
            return Ok(None);
        }
        let port = self.send_right(self.caller()?.task, name);
        let port = port.ok_or(Kern::InvalidRight)?;
        Ok(Some(Handler { port, behavior }))
    }

    fn handlers_mut(&mut self, target: Target) -> &mut Handlers {
        match target {
            Target::Thread(thread) => &mut self.threads.at_mut(thread).handlers,
            Target::Task(task) => &mut self.tasks.at_mut(task).handlers,
        }
    }

    fn set_handlers(&mut self, target: Target, mask: u64, handler: Option<Handler>) {
        for kind in (0..KINDS).filter(|kind| mask >> kind & 1 != 0) {
            if let Some(handler) = handler {
                self.keep_send(handler.port);
            }
            let place = self.handlers_mut(target).0.get_mut(kind);
            let earlier = place.and_then(|place| core::mem::replace(place, handler));
            if let Some(earlier) = earlier {
                self.drop_send(earlier.port);
            }
        }
    }

    fn give_handlers(
        &mut self,
        machine: &mut impl Machine,
        target: Target,
        mask: u64,
    ) -> Result<u64, Kern> {
        let me = self.caller()?;
        self.tasks.at_mut(me.task).names.reserve(KINDS as u32)?;
        let mut found = [None; KINDS];
        let handlers = self.handlers_mut(target).of(mask);
        for (place, handler) in found.iter_mut().zip(handlers) {
            *place = Some(handler);
        }
        let (mut body, mut rights) = ([0; 8 * KINDS], [(0, 0); KINDS]);
        let mut count: usize = 0;
        let places = body.chunks_exact_mut(8).zip(&mut rights);
        for ((mask, handler), (word, right)) in found.into_iter().flatten().zip(places) {
            let name: Name = self.give_send(me.task, handler.port)?;
            let behavior = handler.behavior;
            let told = exception::Handler { mask, behavior };
            word.copy_from_slice(&told.to_word().to_le_bytes());
            *right = (u64::from(name), ArrivedKind::Send as u8);
            count = count.saturating_add(1);
        }
        machine.write_body(me.context, &body);
        machine.write_rights(me.context, rights.get(..count).unwrap_or(&rights));
        Ok(count as u64)
    }
}
