//! Each trap that makes or queues something, with each of the kernel's allocations for it failing in turn: then
//! it answers that there is no memory, and there is nothing more or less than before.

use guest_test::{Msg, Outcome, check_eq};
use ipc::abi::device::LINE_NONE;
use ipc::abi::exception::{Behavior, Handler};
use ipc::abi::layout::USER_MIN;
use ipc::abi::notify::{ExitStatus, Request};
use ipc::abi::right::{Disposition, Name, SpecialPort};
use ipc::abi::translation::{Op, Run};
use ipc::abi::trap::counter;
use ipc::abi::types::Prot;
use ipc::{Kern, ReceiveRight, SendRight, Untyped, bootstrap, control, println, task, trap, vm};

use crate::balance::Balance;
use crate::harm::{DONE, batch};

/// The role of the task that does it.
pub(crate) const ROLE: &str = "role:sweep";
/// Times that each is done: more than the records of a piece of any table.
const TIMES: u64 = 70;
/// Frames of its own.
const FRAMES: u32 = TIMES as u32 + 1;
const NONE: u64 = u64::MAX;

pub(crate) fn whichever_allocation_fails_a_trap_has_changed_nothing() -> Outcome {
    let sweep = || -> Outcome {
        let started = bootstrap::start(ipc::task_name(), ROLE)?;
        check_eq!(bootstrap::wait(started.instance)?, ExitStatus::Exited(DONE));
        Ok(())
    };
    sweep()?;
    let before = Balance::settled()?;
    sweep()?;
    before.is_back()
}

/// The life of the task.
pub(crate) fn live() -> Result<(), Kern> {
    let host = SendRight::<Untyped>::special(SpecialPort::HostControl)?;
    let (frames, memory) = vm::own().give_frames(&host, FRAMES)?;
    let sweep = Sweep {
        host: host.into_name(),
        memory: memory.into_name(),
        first: frames.first,
    };
    sweep.ports()?;
    sweep.rights()?;
    sweep.messages()?;
    sweep.received()?;
    sweep.handlers()?;
    sweep.interrupts()?;
    sweep.tasks()?;
    sweep.frames()?;
    sweep.owners()
}

struct Sweep {
    host: Name,
    memory: Name,
    first: u32,
}

/// Tasks, threads and ports.
fn objects() -> Result<[u64; 3], Kern> {
    let counters = trap::host_statistics()?;
    let of = |index: usize| counters.get(index).copied().unwrap_or(0);
    Ok([counter::TASKS, counter::THREADS, counter::PORTS].map(of))
}

impl Sweep {
    /// Makes a trap many times, each time with each of its allocations failing, with something new that
    /// `prepare` gives; at least `least` have to have failed in all (not all that there are: what another task
    /// gave back a moment ago is taken without an allocation).
    fn each<P: Copy, T>(
        &self,
        (what, least): (&str, u64),
        mut prepare: impl FnMut(u64) -> Result<P, Kern>,
        mut trap: impl FnMut(P) -> Result<T, Kern>,
    ) -> Result<(), Kern> {
        let mut failures = 0;
        for number in 0..TIMES {
            let with = prepare(number)?;
            let before = objects()?;
            for left in 0.. {
                trap::debug_fail_allocation(self.host, left)?;
                let result = trap(with);
                let (_, failed) = trap::debug_fail_allocation(self.host, NONE)?;
                match result {
                    Ok(_) => break,
                    Err(Kern::ResourceShortage | Kern::SendNoBuffer | Kern::ReceiveNoSpace)
                        if failed =>
                    {
                        failures += 1;
                        let after = objects()?;
                        if after != before {
                            println!("sweep: {what}: {before:?} became {after:?}");
                            return Err(Kern::Failure);
                        }
                    }
                    Err(code) => {
                        println!("sweep: {what}: {code}");
                        return Err(code);
                    }
                }
            }
        }
        if failures < least {
            println!("sweep: {what}: only {failures} failed");
            return Err(Kern::Failure);
        }
        Ok(())
    }

    fn ports(&self) -> Result<(), Kern> {
        self.each(("port_allocate", 1), Ok, trap::port_allocate)?;
        self.each(("port_set_allocate", 1), Ok, |_| trap::port_set_allocate())?;
        let notify = trap::port_allocate(0)?;
        let fresh = |_| {
            let port = trap::port_allocate(0)?;
            trap::port_make_send(port)?;
            Ok(port)
        };
        self.each(("port_request_notification", 0), fresh, |port| {
            trap::port_request_notification(port, Request::DeadName, notify, 0)
        })
    }

    /// A task without threads, and a port of ours.
    fn task_and_port(&self) -> Result<(Name, Name), Kern> {
        let space = trap::space_create(self.memory)?;
        let map = trap::task_get_special_port(SpecialPort::Map)?;
        let task = trap::task_create(self.host, space, map)?;
        Ok((task, trap::port_allocate(0)?))
    }

    /// Rights in the names of another task, and sets.
    fn rights(&self) -> Result<(), Kern> {
        let (task, _) = self.task_and_port()?;
        let port = |_| trap::port_allocate(0);
        self.each(("port_insert_right", 1), port, |port| {
            trap::port_insert_right(task, port, Disposition::MakeSendOnce)
        })?;
        let theirs = |number| {
            let port = port(number)?;
            trap::port_insert_right(task, port, Disposition::MakeSend)
        };
        self.each(("port_extract_right", 1), theirs, |name| {
            trap::port_extract_right(task, name, Disposition::CopySend)
        })?;
        let set = trap::port_set_allocate()?;
        self.each(("port_insert_member", 1), port, |port| {
            trap::port_insert_member(port, set)
        })?;
        self.each(("port_move_member", 1), port, |port| {
            trap::port_move_member(port, set)
        })?;
        self.each(("port_allocate in a set", 2), Ok, |_| {
            trap::port_allocate_in(0, set, 4)
        })?;
        // A right to be told, that the trap makes or takes.
        let notify = trap::port_allocate(0)?;
        self.each(("port_request_notification", 1), port, |port| {
            trap::port_request_notification(port, Request::PortDestroyed, notify, 0)
        })
    }

    /// Rights that are received.
    fn received(&self) -> Result<(), Kern> {
        let port = ReceiveRight::<Untyped>::new(0)?;
        let right = port.make_send()?;
        let queued = |_| {
            let cargo = trap::port_allocate(0)?;
            let message = Msg::send(&right, 1).rights(&[
                (cargo, Disposition::MakeSendOnce),
                (cargo, Disposition::MakeSendOnce),
                (cargo, Disposition::MoveReceive),
            ]);
            message.until(0).code().map_or(Ok(()), Err)
        };
        self.each(("msg received", 0), queued, |()| {
            Msg::receive(&port).until(0).code().map_or(Ok(()), Err)
        })
    }

    /// Handlers of exceptions, which come back as new names.
    fn handlers(&self) -> Result<(), Kern> {
        let own = task::own()?;
        let handled = |_| {
            let handler = ReceiveRight::<Untyped>::new(0)?.into_name();
            trap::port_make_send(handler)?;
            let right = SendRight::<Untyped>::from_name(handler);
            let handler = Handler {
                mask: 2,
                behavior: Behavior::empty(),
            };
            control::set_handler(&own, handler, Some(&right))
        };
        self.each(("exception_ports_get", 0), handled, |()| {
            control::handlers(&own, 2).map(core::mem::forget)
        })?;
        control::set_handler(
            &own,
            Handler {
                mask: 2,
                behavior: Behavior::empty(),
            },
            None,
        )
    }

    /// Interrupts that no line is behind.
    fn interrupts(&self) -> Result<(), Kern> {
        let device = trap::task_get_special_port(SpecialPort::Device)?;
        let notify = trap::port_allocate(0)?;
        self.each(("interrupt_create", 1), Ok, |_| {
            trap::interrupt_create(device, LINE_NONE, notify)
        })?;
        self.each(("device_restrict", 1), Ok, |number| {
            trap::device_restrict(device, number as u16, 1)
        })
    }

    /// Frames for an owner below: the tables of its window. The first frame is mapped.
    fn owners(&self) -> Result<(), Kern> {
        let below = |number| {
            let space = trap::space_create(self.memory)?;
            let owner = trap::owner_create(self.memory, space)?;
            Ok((owner, self.first + 1 + number as u32))
        };
        self.each(("frame_give", 2 * TIMES), below, |(owner, frame)| {
            // SAFETY: nothing uses the frame; it comes back with its owner's end.
            unsafe { trap::frame_give(self.memory, owner, frame, 1) }
        })
    }

    fn messages(&self) -> Result<(), Kern> {
        let port = ReceiveRight::<Untyped>::new(0)?;
        port.set_attributes(0, 1024)?;
        let right = port.make_send()?;
        self.each(("msg", TIMES), Ok, |_| {
            let message = Msg::send(&right, 1).body(&[7; 3000]);
            let message = message.rights(&[(port.name(), Disposition::MakeSendOnce)]);
            message.until(0).code().map_or(Ok(()), Err)
        })
    }

    fn tasks(&self) -> Result<(), Kern> {
        let task = ipc::task::own()?;
        trap::task_set_quota(self.host, task.name(), u64::MAX)?;
        self.each(("thread_create", TIMES), Ok, |_| {
            // SAFETY: nobody resumes it; it ends with the task.
            unsafe { ipc::task::make_thread(&task, 0, 0, 0, 0) }
        })?;
        let space = |_| trap::space_create(self.memory);
        self.each(("space_create", TIMES), Ok, space)?;
        let map = trap::task_get_special_port(SpecialPort::Map)?;
        self.each(("task_create", TIMES), space, |space| {
            trap::task_create(self.host, space, map)
        })?;
        self.each(("owner_create", 0), space, |space| {
            trap::owner_create(self.memory, space)
        })
    }

    fn frames(&self) -> Result<(), Kern> {
        let space = trap::space_create(self.memory)?;
        // Tables of three levels for each; those that were made before one could not be stay.
        let place = |number| Ok(USER_MIN + (number << 39));
        self.each(("pmap_batch", 2 * TIMES), place, |address| {
            let run = Run {
                space,
                op: Op::Enter,
                protection: Prot::DEFAULT,
                uncached: false,
                address,
                epoch: 0,
                count: 1,
                done: 0,
            };
            batch(run, self.first)
        })
    }
}
