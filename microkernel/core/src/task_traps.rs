//! The traps on spaces, tasks and threads.

use crate::{
    account,
    kernel::{Kernel, TaskId, ThreadId, ThreadStart},
    list::List,
    machine::{Machine, StartState},
    message::{Message, Role},
    port::{Object, PortId},
    processors::Turn,
    run_queue::PRIORITIES,
    task::Life,
    thread::{NewThread, PEER, State, Thread},
};
use ipc_abi::{
    Kern,
    layout::PAGE_SIZE,
    notify::ExitStatus,
    right::{Name, SpecialPort},
};

impl Kernel {
    /// Trap `space_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn space_create(
        &mut self,
        machine: &mut impl Machine,
        host_memory: u64,
    ) -> Result<Name, Kern> {
        let owner = self.host_memory(host_memory)?;
        let task = self.caller()?.task;
        self.ports.reserve(1)?;
        self.tasks.at_mut(task).names.reserve(1)?;
        let cost = account::SPACE.saturating_add(PAGE_SIZE);
        self.account(task).check(cost)?;
        let space = machine.space_new(owner, task)?;
        let port = self.ports.add(Object::Space {
            space,
            owner,
            occupant: None,
        })?;
        self.count_space(owner);
        self.give_send(task, port)
    }

    /// Trap `task_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_create(&mut self, host_control: u64, space: u64, map: u64) -> Result<Name, Kern> {
        self.check_host_control(host_control)?;
        let maker = self.caller()?.task;
        let space_port = self.send_right(maker, space);
        let space_port = space_port.ok_or(Kern::InvalidArgument)?;
        let vacant = self.object(maker, space);
        if !matches!(vacant, Some(Object::Space { occupant: None, .. })) {
            return Err(Kern::InvalidArgument);
        }
        let map = self.send_right(maker, map).ok_or(Kern::InvalidRight)?;
        self.tasks.at_mut(maker).names.reserve(1)?;
        let task = self.new_task(space_port, Some(maker), self.tasks.at(maker).band)?;
        self.keep_send(map);
        let record = self.tasks.at_mut(task);
        record.set_special(SpecialPort::Map, Some(map));
        let port = record.port;
        self.give_send(maker, port)
    }

    /// Trap `task_terminate`. If the task is the caller's own there is nobody to give the result to.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_terminate(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        status: u64,
    ) -> Result<(), Kern> {
        let task = self.resolve_task(self.caller()?.task, task)?;
        let status = ExitStatus::Exited((status & 0xFFFF_FFFF) as u32);
        if self.tasks.at(task).life != Life::Alive {
            return Err(Kern::InvalidTask);
        }
        self.end_task(task, status.to_word());
        self.step_threads(machine, task);
        // Whatever else it has, the caller must not go on.
        if let Some(me) = self.running()
            && me.task == task
        {
            self.end_thread(machine, me.thread);
        }
        self.settle(machine);
        Ok(())
    }

    /// Trap `task_set_special_port`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_set_special_port(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        index: u64,
        name: u64,
    ) -> Result<(), Kern> {
        let me = self.caller()?.task;
        let task = self.live_task(me, task)?;
        let which = match SpecialPort::from_raw(index) {
            None | Some(SpecialPort::TaskSelf | SpecialPort::Map) => {
                return Err(Kern::InvalidArgument);
            }
            Some(SpecialPort::Exception) => {
                return self.task_set_exception_port(machine, task, name);
            }
            Some(which) => which,
        };
        let port = if name == 0 {
            None
        } else {
            Some(self.send_right(me, name).ok_or(Kern::InvalidRight)?)
        };
        if let Some(port) = port {
            self.keep_send(port);
        }
        if let Some(earlier) = self.tasks.at_mut(task).set_special(which, port) {
            self.drop_send(earlier);
        }
        self.settle(machine);
        Ok(())
    }

    /// Trap `task_get_special_port`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_get_special_port(&mut self, index: u64) -> Result<Name, Kern> {
        let task = self.caller()?.task;
        let which = match SpecialPort::from_raw(index) {
            None | Some(SpecialPort::Exception) => return Err(Kern::InvalidArgument),
            Some(which) => which,
        };
        let port = self.tasks.at(task).special(which);
        self.give_send(task, port.ok_or(Kern::InvalidName)?)
    }

    /// Trap `task_set_band`. Takes time in proportion to the threads of the task.
    ///
    /// # Errors
    /// As the trap's.
    pub fn task_set_band(&mut self, host_control: u64, task: u64, band: u64) -> Result<(), Kern> {
        self.check_host_control(host_control)?;
        let task = self.live_task(self.caller()?.task, task)?;
        let band = priority(band)?;
        self.tasks.at_mut(task).band = band;
        let mut next = self.tasks.at(task).threads.first();
        while let Some(thread) = next {
            let wanted = self.threads.at(thread).wanted;
            self.set_priority(thread, wanted.min(band));
            next = List::<Thread, PEER>::next(&self.threads, thread);
        }
        self.dispatch();
        Ok(())
    }

    /// Makes a thread of the first task. The machine's `thread_new` is called for it.
    ///
    /// # Errors
    /// As [`Kernel::thread_create`].
    pub fn boot_thread(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        start: ThreadStart,
    ) -> Result<ThreadId, Kern> {
        let thread = self.new_thread(machine, task, start)?;
        self.dispatch();
        Ok(thread)
    }

    /// Trap `thread_create`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_create(
        &mut self,
        machine: &mut impl Machine,
        task: u64,
        start: ThreadStart,
    ) -> Result<Name, Kern> {
        let me = self.caller()?.task;
        let task = self.live_task(me, task)?;
        self.tasks.at_mut(me).names.reserve(1)?;
        let thread = self.new_thread(machine, task, start)?;
        let name = self.give_send(me, self.threads.at(thread).port);
        self.dispatch();
        name
    }

    /// Makes a thread and has it ready to run.
    fn new_thread(
        &mut self,
        machine: &mut impl Machine,
        task: TaskId,
        start: ThreadStart,
    ) -> Result<ThreadId, Kern> {
        if start.ip >= USER_HALF_END || start.sp > USER_HALF_END {
            return Err(Kern::InvalidAddress);
        }
        let wanted = priority(start.priority)?;
        let suspended = u32::from(match start.suspended {
            0 => false,
            1 => true,
            _ => return Err(Kern::InvalidValue),
        });
        self.threads.reserve(1)?;
        self.timers.reserve(self.threads.len().saturating_add(1))?;
        self.ports.reserve(1)?;
        self.messages.reserve(1)?;
        let record = self.tasks.at_mut(task);
        record.names.account.check(account::THREAD)?;
        let slot = record.slots.take()?;
        let (space, band) = (record.space, record.band);
        let made = machine.thread_new(&StartState {
            space,
            slot: u64::from(slot),
            ip: start.ip,
            sp: start.sp,
            argument: start.argument,
        });
        let context = match made {
            Ok(context) => context,
            Err(code) => {
                self.tasks.at_mut(task).slots.give(slot);
                return Err(code);
            }
        };
        let port = self.ports.add(Object::User)?;
        let notice = self.messages.insert(Message::notice(Role::Spent))?;
        let thread = self.threads.add(NewThread {
            task,
            context,
            space,
            slot,
            wanted,
            priority: wanted.min(band),
            port,
            notice,
        })?;
        self.ports.at_mut(port).stand_for(Object::Thread(thread));
        self.messages.at_mut(notice).role = Role::Cancelled(thread);
        let record = self.tasks.at_mut(task);
        record.names.account.add(account::THREAD);
        let suspected = record.suspected.is_some();
        record.threads.push_back(&mut self.threads, thread);
        record.thread_count = record.thread_count.saturating_add(1);
        let made = self.threads.at_mut(thread);
        made.suspended = suspended;
        made.held = record.suspended > 0;
        made.heard = record.change;
        made.rank.set(made.true_rank());
        if made.is_suspended() {
            made.state.set(State::Stopped);
        } else {
            self.make_ready(thread, Turn::Last);
        }
        if suspected {
            self.acquit(task);
        }
        Ok(thread)
    }

    /// Trap `thread_terminate`. If the thread is the caller there is nobody to give the result to.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_terminate(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
    ) -> Result<(), Kern> {
        let me = self.caller()?;
        let thread = if thread == 0 {
            me.thread
        } else {
            self.resolve_thread(me.task, thread)?
        };
        self.end_thread(machine, thread);
        self.settle(machine);
        Ok(())
    }

    /// Trap `thread_abort`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_abort(&mut self, machine: &mut impl Machine, thread: u64) -> Result<(), Kern> {
        let thread = self.resolve_thread(self.caller()?.task, thread)?;
        self.break_off(
            machine,
            thread,
            Kern::SendInterrupted,
            Kern::ReceiveInterrupted,
        );
        self.settle(machine);
        Ok(())
    }

    pub(crate) fn live_task(&self, task: TaskId, name: u64) -> Result<TaskId, Kern> {
        let found = self.resolve_task(task, name)?;
        if self.tasks.at(found).life == Life::Alive {
            Ok(found)
        } else {
            Err(Kern::InvalidTask)
        }
    }

    /// The kernel keeps a send right of its own.
    pub(crate) fn keep_send(&mut self, port: PortId) {
        let sends = &mut self.ports.at_mut(port).sends;
        *sends = sends.saturating_add(1);
    }
}

/// One past the last address of the user half.
const USER_HALF_END: u64 = 1 << 47;

fn priority(raw: u64) -> Result<u8, Kern> {
    let fits = u8::try_from(raw).ok();
    let fits = fits.filter(|priority| usize::from(*priority) < PRIORITIES);
    fits.ok_or(Kern::InvalidValue)
}
