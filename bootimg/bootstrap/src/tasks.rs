//! The tasks that bootstrap started: their ports, how they ended, and who waits to hear it.

use alloc::string::String;
use alloc::vec::Vec;

use ipc::protocol::bootstrap::{Bootstrap, BootstrapWaitReply, Reply};
use ipc::right::{ReceiveRight, SendRight};
use ipc::server::{Caller, Outgoing};
use ipc::{Kern, Untyped, println};
use ipc_abi::exception::Kind;
use ipc_abi::notify::ExitStatus;
use ipc_abi::right::Name as Port;

use crate::estate::Estate;

/// Most callers that wait for the end of one task.
const WAITING_MAX: usize = 64;

/// A task.
struct Task {
    name: String,
    /// Its end counts for the end of the run.
    is_client: bool,
    /// Its control port, and the port that it asks bootstrap through, until it has ended.
    alive: Option<(SendRight<Untyped>, ReceiveRight<Bootstrap>)>,
    status: u64,
    waiting: Vec<Caller>,
    /// What it leaves to the one that is started in its place, if one is.
    estate: Option<Estate>,
}

/// A task that is to be started in place of one that has ended.
pub(crate) struct Again {
    /// Its name.
    pub(crate) name: String,
    /// What it is left.
    pub(crate) estate: Estate,
}

/// All tasks that were ever started. A task's number is its place.
#[derive(Default)]
pub(crate) struct Tasks {
    list: Vec<Task>,
    clients: usize,
    /// The status of the last client that ended.
    last: u32,
}

impl Tasks {
    /// The number that the next task gets.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: there is no memory to remember another.
    pub(crate) fn reserve(&mut self) -> Result<u32, Kern> {
        self.list
            .try_reserve(1)
            .map_err(|_| Kern::ResourceShortage)?;
        u32::try_from(self.list.len()).map_err(|_| Kern::ResourceShortage)
    }

    /// Remembers a task that has been started, after [`Tasks::reserve`].
    pub(crate) fn add(
        &mut self,
        name: &str,
        is_client: bool,
        task: SendRight<Untyped>,
        port: ReceiveRight<Bootstrap>,
        estate: Option<Estate>,
    ) {
        self.clients += usize::from(is_client);
        self.list.push(Task {
            name: name.into(),
            is_client,
            alive: Some((task, port)),
            status: 0,
            waiting: Vec::new(),
            estate,
        });
    }

    /// A port has died. If it was a task's, says how the task ended; gives the task that is to be
    /// started in its place.
    pub(crate) fn died(&mut self, port: Port, status: u64) -> Option<Again> {
        let ended = |task: &&mut Task| {
            task.alive
                .as_ref()
                .is_some_and(|(control, _)| control.name() == port)
        };
        let task = self.list.iter_mut().find(ended)?;
        task.alive = None;
        task.status = status;
        let code = report(&task.name, ExitStatus::from_word(status));
        if task.is_client {
            self.clients -= 1;
            self.last = code;
        }
        for caller in task.waiting.drain(..) {
            answer(caller, status);
        }
        // Its ports die with what nobody inherits.
        let mut estate = task.estate.take().filter(|_| code != 0)?;
        if estate.left == 0 {
            println!(
                "bootstrap: {} has ended too often and is not started again",
                task.name
            );
            return None;
        }
        estate.left -= 1;
        estate.settle();
        Some(Again {
            name: task.name.clone(),
            estate,
        })
    }

    /// What a task leaves, and the port that it asks through.
    ///
    /// # Errors
    /// KERN_NOT_SUPPORTED: it is not started again.
    pub(crate) fn estate(
        &mut self,
        instance: u64,
    ) -> Result<(&mut Estate, &ReceiveRight<Bootstrap>), Kern> {
        let instance = usize::try_from(instance).ok();
        let task = instance.and_then(|instance| self.list.get_mut(instance));
        let task = task.ok_or(Kern::NotSupported)?;
        let (_, port) = task.alive.as_ref().ok_or(Kern::NotSupported)?;
        let estate = task.estate.as_mut().ok_or(Kern::NotSupported)?;
        Ok((estate, port))
    }

    /// Answers a caller when the task ends, or now if it has.
    pub(crate) fn wait(&mut self, instance: u32, caller: Caller) {
        match self.list.get_mut(instance as usize) {
            None => caller.refuse(Kern::InvalidArgument),
            Some(task) if task.alive.is_none() => answer(caller, task.status),
            Some(task) => {
                if task.waiting.len() >= WAITING_MAX || task.waiting.try_reserve(1).is_err() {
                    caller.refuse(Kern::ResourceShortage);
                } else {
                    task.waiting.push(caller);
                }
            }
        }
    }

    /// Forgets a caller whose call is void.
    pub(crate) fn cancelled(&mut self, token: u64) {
        for task in &mut self.list {
            task.waiting.retain(|caller| caller.token() != token);
        }
    }

    /// Whether no client is left.
    pub(crate) const fn is_over(&self) -> bool {
        self.clients == 0
    }

    /// The status of the last client that ended.
    pub(crate) const fn last_status(&self) -> u32 {
        self.last
    }
}

fn answer(caller: Caller, status: u64) {
    let reply = Reply::BootstrapWait(BootstrapWaitReply { status });
    // Fails only if the caller has gone.
    let _ = caller.reply(&reply, Outgoing::default());
}

/// Says how a task ended; gives the status that a run which ends with it has.
fn report(name: &str, status: ExitStatus) -> u32 {
    match status {
        ExitStatus::Exited(code) => {
            println!("bootstrap: {name} ended with status {code}");
            code
        }
        ExitStatus::Exception { kind, code } => {
            let kind = Kind::from_raw(u64::from(kind)).map_or("an exception", Kind::name);
            println!("bootstrap: {name} was ended by {kind}, code {code}");
            1
        }
    }
}
