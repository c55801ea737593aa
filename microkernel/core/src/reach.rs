//! Tasks that nobody can reach any more.
//!
//! A task without a thread (an *idle* one) lives for as long as somebody can give it one: whoever has a
//! right to its port. Rights that idle tasks hold count for nothing by themselves: there may be nobody to
//! use them. So when a right to an idle task goes, or moves to where it may be out of reach, a *search*
//! finds the tasks that only idle tasks hold, themselves or each other, and ends them.
//!
//! A search suspects all idle tasks, and counts for each the rights to it that suspects hold: by name, as
//! special and exception ports, and in the queues that they alone can receive from. One with more rights
//! than were found is reached from outside, and is acquitted; what it holds counts no more then, so all
//! is counted again, until a count acquits nobody. (It is the trial deletion of cycle collectors.)
//!
//! Traps go between the steps of a search. One that may make a count too high, since it takes a right to a
//! suspect from where it was found or gives a suspect a thread, acquits that suspect, and so has all counted
//! again. Whoever is acquitted too much is found by the next search, which is due then.

use crate::{
    handlers::KINDS,
    kernel::{Kernel, TaskId},
    message::Carried,
    port::{Object, Place, PortId},
    rights::NESTING_MAX,
    space::Holds,
    task::{Life, Task},
};
use ipc_abi::{notify::ExitStatus, right::SpecialPort};

/// Records and names that a step looks at.
const STEP: u32 = 64;

/// How far a search has come.
#[derive(Debug, Default)]
pub(crate) struct Search {
    stage: Option<Stage>,
    /// How many are suspected.
    suspects: u32,
    /// One was acquitted since the counting began.
    acquitted: bool,
    /// Something has changed that another search has to look at.
    again: bool,
}

/// What a search does, from an index on.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It suspects idle tasks.
    Suspect(u32),
    /// It counts what the suspect at the first index holds, the second being that of a name.
    Tasks(u32, u32),
    /// It counts what is queued where only a suspect can receive it.
    Messages(u32),
    /// It acquits those to whom there are other rights.
    Acquit(u32),
    /// It ends those who are left.
    End(u32),
}

impl Search {
    /// Whether there is something to do.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.stage.is_some()
    }

    /// Begins to count, if there is anybody to count for.
    fn count(&mut self) -> Option<Stage> {
        self.acquitted = false;
        (self.suspects > 0).then_some(Stage::Tasks(0, 0))
    }
}

impl Task {
    /// Whether it is alive and has no thread.
    pub(crate) fn is_idle(&self) -> bool {
        self.life == Life::Alive && self.threads.is_empty()
    }

    /// What the kernel keeps for it.
    fn kept(&self) -> [Option<PortId>; SpecialPort::COUNT + KINDS] {
        let mut ports = self.special_ports().chain(self.handlers.ports());
        core::array::from_fn(|_| ports.next())
    }
}

impl Kernel {
    /// Has it found out which idle tasks can still be reached.
    pub(crate) fn search(&mut self) {
        self.search.again = self.search.stage.is_some();
        self.search.stage = self.search.stage.or(Some(Stage::Suspect(0)));
    }

    /// A right to this task goes, or moves.
    pub(crate) fn right_moves(&mut self, task: TaskId) {
        if self.tasks.get(task).is_some_and(Task::is_idle) {
            self.acquit(task);
            self.search();
        }
    }

    /// Rights move without a thread that waits for them.
    pub(crate) fn rights_move(&mut self, cargo: &[Carried]) {
        for carried in cargo {
            if let Carried::Send(port) = *carried
                && let Object::Task(task) = self.ports.at(port).object
            {
                self.right_moves(task);
            }
        }
    }

    /// A task is beyond suspicion: it can be reached, or ends.
    pub(crate) fn acquit(&mut self, task: TaskId) {
        if self.tasks.at_mut(task).suspected.take().is_some() {
            self.search.acquitted = true;
            self.search.suspects = self.search.suspects.saturating_sub(1);
        }
    }

    /// A bounded piece of a search.
    pub(crate) fn step_search(&mut self) {
        let next = match self.search.stage {
            None => return,
            Some(Stage::Suspect(from)) => match self.each_task(from, Kernel::suspect) {
                Some(next) => Some(Stage::Suspect(next)),
                None => self.search.count(),
            },
            Some(Stage::Tasks(task, name)) => Some(self.count_tasks(task, name)),
            Some(Stage::Messages(from)) => Some(self.count_messages(from)),
            Some(Stage::Acquit(from)) => match self.each_task(from, Kernel::judge) {
                Some(next) => Some(Stage::Acquit(next)),
                None if self.search.acquitted => self.search.count(),
                None => Some(Stage::End(0)),
            },
            Some(Stage::End(from)) => self.each_task(from, Kernel::end_suspect).map(Stage::End),
        };
        self.search.stage = next;
        if next.is_none() && self.search.again {
            self.search();
        }
    }

    /// Does something with some tasks; says from which index to go on, if there are more.
    fn each_task(&mut self, from: u32, act: impl Fn(&mut Kernel, TaskId)) -> Option<u32> {
        let end = from.saturating_add(STEP);
        for index in from..end {
            if let Some((task, _)) = self.tasks.by_index(index) {
                act(self, task);
            }
        }
        (end < self.tasks.slots()).then_some(end)
    }

    fn suspect(&mut self, task: TaskId) {
        let record = self.tasks.at_mut(task);
        let is_idle = record.is_idle();
        record.suspected = is_idle.then_some(0);
        self.search.suspects = self.search.suspects.saturating_add(u32::from(is_idle));
    }

    fn judge(&mut self, task: TaskId) {
        let record = self.tasks.at_mut(task);
        let sends = self.ports.at(record.port).sends;
        match record.suspected {
            Some(found) if sends > found => self.acquit(task),
            Some(_) => record.suspected = Some(0),
            None => {}
        }
    }

    fn end_suspect(&mut self, task: TaskId) {
        if self.tasks.at(task).suspected.is_some() {
            self.end_task(task, ExitStatus::Exited(0).to_word());
        }
    }

    fn count_tasks(&mut self, mut task: u32, mut name: u32) -> Stage {
        for _ in 0..STEP {
            if task >= self.tasks.slots() {
                return Stage::Messages(0);
            }
            let suspect = self.tasks.by_index(task).map(|(_, suspect)| suspect);
            match suspect.filter(|suspect| suspect.suspected.is_some()) {
                Some(suspect) if name < suspect.names.slots() => {
                    let entry = suspect.names.at_index(name);
                    if let Some(Holds::Port {
                        port, refs: 1.., ..
                    }) = entry.map(|(_, entry)| entry.holds)
                    {
                        self.found(port);
                    }
                    name = name.saturating_add(1);
                    continue;
                }
                Some(suspect) => {
                    for port in suspect.kept().into_iter().flatten() {
                        self.found(port);
                    }
                }
                None => {}
            }
            (task, name) = (task.saturating_add(1), 0);
        }
        Stage::Tasks(task, name)
    }

    fn count_messages(&mut self, from: u32) -> Stage {
        let end = from.saturating_add(STEP);
        for index in from..end {
            if let Some((_, message)) = self.messages.by_index(index)
                && let Some(receiver) = message.queue.and_then(|queue| self.receiver(queue))
                && self.tasks.at(receiver).suspected.is_some()
            {
                for carried in message.cargo {
                    if let Carried::Send(port) = carried {
                        self.found(port);
                    }
                }
            }
        }
        if end < self.messages.slots() {
            Stage::Messages(end)
        } else {
            Stage::Acquit(0)
        }
    }

    /// Who alone can receive what is queued at a port. It does not look for long: if queues lie in too
    /// many others, it may be anybody.
    pub(crate) fn receiver(&self, queue: PortId) -> Option<TaskId> {
        let mut at = queue;
        for _ in 0..NESTING_MAX {
            match self.ports.at(at).place {
                Place::Held(task, _) => return Some(task),
                Place::Transit(through) => at = through,
                Place::Moving | Place::Kernel | Place::Dead => return None,
            }
        }
        None
    }

    /// A suspect holds a right to this port.
    fn found(&mut self, port: PortId) {
        if let Object::Task(task) = self.ports.at(port).object
            && let Some(Task {
                suspected: Some(found),
                ..
            }) = self.tasks.get_mut(task)
        {
            *found = found.saturating_add(1);
        }
    }
}
