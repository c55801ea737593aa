//! What bootstrap is asked, and what starting a task takes.

use alloc::rc::Rc;
use alloc::string::String;
use core::fmt;

use bootimg::{Image, Level, Manifest, Task};
use ipc::protocol::bootstrap::{
    Bootstrap, BootstrapImageReply, BootstrapKeep, BootstrapKeepReply, BootstrapLookUpReply,
    BootstrapStartReply, Name, Reply, Request,
};
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::protocol::vm_map::Map;
use ipc::protocol::vm_wire::{VM_WIRE_CURRENT, VM_WIRE_FUTURE, VmSetLimits};
use ipc::right::{Arrived, Passed, PortSet, ReceiveRight, SendRight};
use ipc::server::{Answer, Context, Notice, Outgoing, Server, serve};
use ipc::vm::NewTask;
use ipc::{Kern, Untyped, task, trap};
use ipc_abi::right::{Disposition, Name as Port, SpecialPort};

use crate::estate::Estate;
use crate::load::{LoadError, Loaded, load};
use crate::names::Names;
use crate::tasks::{Again, Tasks};

/// Priorities, within the bands of their levels.
const PAGER: u32 = 16;
const CLIENT: u32 = 8;

/// Why a task was not started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The image has no such file.
    NoFile,
    /// It was not loaded.
    Load(LoadError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoFile => f.write_str("the boot image has no such file"),
            StartError::Load(error) => error.fmt(f),
        }
    }
}

impl From<Kern> for StartError {
    fn from(code: Kern) -> StartError {
        StartError::Load(code.into())
    }
}

impl StartError {
    /// What a caller hears.
    const fn code(&self) -> Kern {
        match self {
            StartError::NoFile => Kern::InvalidName,
            StartError::Load(LoadError::Elf(_)) => Kern::InvalidObject,
            StartError::Load(LoadError::Kern(code)) => *code,
        }
    }
}

/// A task that was started.
pub(crate) struct Started {
    /// Its number.
    instance: u32,
    /// The name of its control port, whose right [`Tasks`] holds.
    control: Port,
    map: SendRight<Map>,
}

/// A right of the receiver's own to a port that stays known here.
const fn copy_of(port: Port) -> Passed<'static> {
    Passed::from_name(port, Disposition::CopySend)
}

/// The service.
pub(crate) struct Service<'a> {
    image: Image<'a>,
    manifest: Manifest<'a>,
    /// The named entry of the image.
    entry: SendRight<MemoryEntry>,
    host: SendRight<Untyped>,
    ports: Rc<PortSet>,
    /// Where the kernel's notices go.
    notices: ReceiveRight<Bootstrap>,
    names: Names,
    tasks: Tasks,
}

impl<'a> Service<'a> {
    pub(crate) fn new(
        image: Image<'a>,
        manifest: Manifest<'a>,
        entry: SendRight<MemoryEntry>,
    ) -> Result<Service<'a>, Kern> {
        let ports = Rc::new(PortSet::new()?);
        let notices = ReceiveRight::new(u64::MAX)?;
        ports.insert(&notices)?;
        Ok(Service {
            image,
            manifest,
            entry,
            host: SendRight::special(SpecialPort::HostControl)?,
            ports,
            notices,
            names: Names::default(),
            tasks: Tasks::default(),
        })
    }

    /// Serves until the last client has ended; gives its status.
    pub(crate) fn serve(&mut self) -> Result<u32, Kern> {
        let ports = Rc::clone(&self.ports);
        serve(self, &*ports)?;
        Ok(self.tasks.last_status())
    }

    /// Starts a task of the manifest, as one of `level`, with these arguments.
    pub(crate) fn start<'b>(
        &mut self,
        of: &Task<'b>,
        level: Level,
        arguments: impl Iterator<Item = &'b str> + Clone,
    ) -> Result<Started, StartError> {
        let estate = match of.restart {
            0 => None,
            times => Some(Estate::new(times, level, arguments.clone())?),
        };
        self.start_with(of, level, arguments, estate)
    }

    /// As [`Service::start`], with what it leaves if it ends.
    fn start_with<'b>(
        &mut self,
        of: &Task<'b>,
        level: Level,
        arguments: impl Iterator<Item = &'b str> + Clone,
        estate: Option<Estate>,
    ) -> Result<Started, StartError> {
        let file = self.image.file(of.file).ok_or(StartError::NoFile)?;
        let instance = self.tasks.reserve()?;
        let loaded =
            load(file, core::iter::once(of.name).chain(arguments)).map_err(StartError::Load)?;
        match self.launch(of, level, &loaded, instance) {
            Ok(port) => {
                let NewTask { task, map } = loaded.new;
                let control = task.name();
                self.tasks
                    .add(of.name, level == Level::Client, task, port, estate);
                Ok(Started {
                    instance,
                    control,
                    map,
                })
            }
            Err(code) => {
                // Nothing runs in it yet, so it has not ended by itself.
                let _ = task::terminate(&loaded.new.task, 0);
                Err(code.into())
            }
        }
    }

    /// Gives a loaded task its ports and its first thread.
    fn launch(
        &self,
        of: &Task<'_>,
        level: Level,
        loaded: &Loaded,
        instance: u32,
    ) -> Result<ReceiveRight<Bootstrap>, Kern> {
        let task = &loaded.new.task;
        let port = ReceiveRight::<Bootstrap>::new(u64::from(instance))?;
        self.ports.insert(&port)?;
        task::set_special_port(task, SpecialPort::Bootstrap, Some(&port.make_send()?))?;
        if of.rights.host {
            task::set_special_port(task, SpecialPort::HostControl, Some(&self.host))?;
        }
        if of.rights.device {
            let device = SendRight::<Untyped>::special(SpecialPort::Device)?;
            task::set_special_port(task, SpecialPort::Device, Some(&device))?;
        }
        let priority = if level == Level::Pager { PAGER } else { CLIENT };
        trap::task_set_band(self.host.name(), task.name(), priority)?;
        if let Some(bytes) = of.quota {
            trap::task_set_quota(self.host.name(), task.name(), bytes)?;
        }
        // By its own port: what is told of it comes in order.
        task.watch(&port)?;
        if of.resident {
            self.keep_resident(&loaded.new.map)?;
        }
        loaded.start(priority)?;
        Ok(port)
    }

    /// Wires all that a task has and will have, out of the memory that is kept for the system.
    fn keep_resident(&self, map: &SendRight<Map>) -> Result<(), Kern> {
        let limits = VmSetLimits {
            system: true,
            ..VmSetLimits::KEEP
        };
        map.set_limits(&self.host, &limits)?;
        map.wire_all(&self.host, VM_WIRE_CURRENT | VM_WIRE_FUTURE)
    }

    fn look_up(&mut self, name: Name, wait: bool, context: &mut Context) -> Answer<Reply> {
        if let Some(port) = self.names.find(&name) {
            let reply = Reply::BootstrapLookUp(BootstrapLookUpReply {});
            return Answer::with(reply, [copy_of(port.name())]);
        }
        if !wait {
            return Answer::Refuse(Kern::InvalidName);
        }
        if let Some(caller) = context.take_caller()
            && let Err(caller) = self.names.wait(name, caller)
        {
            caller.refuse(Kern::ResourceShortage);
        }
        Answer::Later
    }

    fn register(&mut self, name: Name, context: &mut Context) -> Result<(), Kern> {
        let Arrived::Send(port) = context.rights.take(0) else {
            return Err(Kern::InvalidRight);
        };
        port.watch(&self.notices)?;
        let served = port.name();
        self.names.register(name.clone(), port)?;
        while let Some(caller) = self.names.next_served(&name) {
            let reply = Reply::BootstrapLookUp(BootstrapLookUpReply {});
            // Fails only if the caller has gone.
            let _ = caller.reply(&reply, Outgoing::from([copy_of(served)]));
        }
        Ok(())
    }

    /// Starts a task in place of one that has ended.
    fn start_again(&mut self, Again { name, estate }: Again) {
        let Some(of) = self.manifest.task(&name) else {
            return;
        };
        ipc::println!("bootstrap: {name} is started again");
        // What it leaves has a copy of them.
        let arguments = estate.arguments.clone();
        let words = arguments.iter().map(String::as_str);
        let level = estate.level;
        if let Err(problem) = self.start_with(&of, level, words, Some(estate)) {
            ipc::println!("bootstrap: cannot start {name} again: {problem}");
        }
    }

    /// The right by which a task asks for *port destroyed*.
    fn keep(&mut self, instance: u64, keep: &BootstrapKeep) -> Answer<Reply> {
        let kept = self.tasks.estate(instance).and_then(|(estate, port)| {
            estate.keep(keep.payload, &keep.note)?;
            Ok(port.name())
        });
        match kept {
            Ok(port) => {
                let notify = Passed::from_name(port, Disposition::MakeSendOnce);
                Answer::with(Reply::BootstrapKeep(BootstrapKeepReply {}), [notify])
            }
            Err(code) => Answer::Refuse(code),
        }
    }

    /// The next of the ports that a task is left.
    fn kept(&mut self, instance: u64) -> Answer<Reply> {
        let estate = self.tasks.estate(instance);
        let taken = estate.map_err(|_| Kern::InvalidName);
        match taken.and_then(|(estate, port)| estate.take(port)) {
            Ok((reply, port)) => Answer::with(Reply::BootstrapKept(reply), [port.give()]),
            Err(code) => Answer::Refuse(code),
        }
    }

    fn start_by_name(&mut self, name: &str, arguments: &str) -> Answer<Reply> {
        let Some(of) = self
            .manifest
            .task(name)
            .filter(|task| task.level > Level::Bootstrap)
        else {
            return Answer::Refuse(Kern::InvalidName);
        };
        let words = arguments.split('\0').filter(|word| !word.is_empty());
        // Started on request: a helper of somebody, whose end does not end the run.
        match self.start(&of, Level::Module, words) {
            Ok(Started {
                instance,
                control,
                map,
            }) => Answer::with(
                Reply::BootstrapStart(BootstrapStartReply { instance }),
                [copy_of(control), map.give()],
            ),
            Err(problem) => {
                ipc::println!("bootstrap: cannot start {name}: {problem}");
                Answer::Refuse(problem.code())
            }
        }
    }
}

impl Server for Service<'_> {
    type Request = Request;
    type Reply = Reply;

    fn request(&mut self, request: Request, context: &mut Context) -> Answer<Reply> {
        match request {
            Request::BootstrapRegister(register) => self
                .register(register.name, context)
                .map(Reply::BootstrapRegister)
                .into(),
            Request::BootstrapLookUp(look_up) => self.look_up(look_up.name, look_up.wait, context),
            Request::BootstrapStart(start) => self.start_by_name(&start.name, &start.arguments),
            Request::BootstrapWait(wait) => {
                if let Some(caller) = context.take_caller() {
                    self.tasks.wait(wait.instance, caller);
                }
                Answer::Later
            }
            Request::BootstrapImage(_) => {
                let reply = Reply::BootstrapImage(BootstrapImageReply {});
                Answer::with(reply, [copy_of(self.entry.name())])
            }
            Request::BootstrapKeep(keep) => self.keep(context.payload, &keep),
            Request::BootstrapKept(_) => self.kept(context.payload),
            Request::BootstrapList(list) => {
                Answer::Reply(Reply::BootstrapList(self.names.list(list.cursor)))
            }
        }
    }

    fn notice(&mut self, notice: Notice, context: &mut Context) -> Result<(), Kern> {
        match notice {
            Notice::DeadName { name, status } => {
                self.names.died(name.name());
                if let Some(again) = self.tasks.died(name.name(), status) {
                    self.start_again(again);
                }
                Ok(())
            }
            Notice::PortDestroyed => {
                if let Arrived::Receive(port) = context.rights.take(0)
                    && let Ok((estate, _)) = self.tasks.estate(context.payload)
                {
                    estate.returned(port);
                }
                Ok(())
            }
            Notice::Cancelled(token) => {
                self.names.cancelled(token);
                self.tasks.cancelled(token);
                Ok(())
            }
            _ => Err(Kern::Failure),
        }
    }

    fn is_done(&self) -> bool {
        self.tasks.is_over() && self.manifest.ends() == bootimg::Ends::LastClient
    }
}
