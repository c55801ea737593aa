//! The name service: publish a port, find one, start a module and see it end.

use alloc::vec::Vec;

use crate::right::{Arrived, Passed, ReceiveRight, SendRight, Untyped};
use ipc_abi::Kern;
use ipc_abi::message::FOREVER;
use ipc_abi::notify::ExitStatus;
use ipc_abi::right::SpecialPort;
use ipc_protocol::bootstrap::{
    Bootstrap, BootstrapImage, BootstrapImageReply, BootstrapKeep, BootstrapKeepReply,
    BootstrapKept, BootstrapKeptReply, BootstrapList, BootstrapListReply, BootstrapLookUp,
    BootstrapLookUpReply, BootstrapRegister, BootstrapStart, BootstrapStartReply, BootstrapWait,
    Name,
};
use ipc_protocol::memory_entry::MemoryEntry;
use ipc_protocol::vm_map::Map;

/// A task that bootstrap started.
#[derive(Debug)]
pub struct Started {
    /// Its number, for [`wait`].
    pub instance: u32,
    /// Its control port.
    pub task: SendRight<Untyped>,
    /// Its map port.
    pub map: SendRight<Map>,
}

fn service() -> Result<SendRight<Bootstrap>, Kern> {
    SendRight::special(SpecialPort::Bootstrap)
}

fn named(name: &str) -> Result<Name, Kern> {
    Name::try_from(name).map_err(|_| Kern::InvalidArgument)
}

/// Gives a port a name.
///
/// # Errors
/// Those of [`BootstrapRegister`]; KERN_INVALID_ARGUMENT also for a name that is too long.
pub fn register(name: &str, port: Passed<'_>) -> Result<(), Kern> {
    let request = BootstrapRegister { name: named(name)? };
    service()?.call_with(&request, [port], FOREVER).map(drop)
}

/// Finds the port with a name.
///
/// # Errors
/// Those of [`BootstrapLookUp`].
pub fn look_up<P>(name: &str) -> Result<SendRight<P>, Kern> {
    ask(name, false)
}

/// Finds the port with a name; waits until there is one.
///
/// # Errors
/// Those of [`BootstrapLookUp`].
pub fn wait_for<P>(name: &str) -> Result<SendRight<P>, Kern> {
    ask(name, true)
}

fn ask<P>(name: &str, wait: bool) -> Result<SendRight<P>, Kern> {
    let request = BootstrapLookUp {
        name: named(name)?,
        wait,
    };
    let (_, mut rights) = service()?.call_with(&request, [], FOREVER)?;
    rights.take_send(BootstrapLookUpReply::SERVICE)
}

/// Starts a module of the boot image; `arguments` are separated by zero bytes.
///
/// # Errors
/// Those of [`BootstrapStart`]; KERN_INVALID_ARGUMENT: name or arguments are too long.
pub fn start(name: &str, arguments: &str) -> Result<Started, Kern> {
    let request = BootstrapStart {
        name: named(name)?,
        arguments: arguments.try_into().map_err(|_| Kern::InvalidArgument)?,
    };
    let (reply, mut rights) = service()?.call_with(&request, [], FOREVER)?;
    Ok(Started {
        instance: reply.instance,
        task: rights.take_send(BootstrapStartReply::TASK)?,
        map: rights.take_send(BootstrapStartReply::MAP)?,
    })
}

/// Waits until a task that bootstrap started has ended.
///
/// # Errors
/// Those of [`BootstrapWait`].
pub fn wait(instance: u32) -> Result<ExitStatus, Kern> {
    let reply = service()?.call(&BootstrapWait { instance })?;
    Ok(ExitStatus::from_word(reply.status))
}

/// The boot image, to be mapped and read.
///
/// # Errors
/// Those of [`BootstrapImage`].
pub fn image() -> Result<SendRight<MemoryEntry>, Kern> {
    let (_, mut rights) = service()?.call_with(&BootstrapImage {}, [], FOREVER)?;
    rights.take_send(BootstrapImageReply::IMAGE)
}

/// The next registered names: those after `cursor`, which is 0 at first.
///
/// # Errors
/// Those of [`BootstrapList`].
pub fn list(cursor: u32) -> Result<BootstrapListReply, Kern> {
    service()?.call(&BootstrapList { cursor })
}

/// A port of a task that has ended, in whose place this one was started. It is kept again.
#[derive(Debug)]
pub struct Kept {
    /// What was said of it.
    pub note: Vec<u8>,
    /// The port. Its payload is as it was; what is queued there is still to be received.
    pub port: ReceiveRight<Untyped>,
}

/// Keeps a port of this payload, over the end of this task, for the one that is started in its place.
/// The last message about it counts.
///
/// # Errors
/// Those of [`BootstrapKeep`]; KERN_INVALID_ARGUMENT also for a note that is too long.
pub fn keep<P>(port: &ReceiveRight<P>, payload: u64, note: &[u8]) -> Result<(), Kern> {
    let note = note.try_into().map_err(|_| Kern::InvalidArgument)?;
    let request = BootstrapKeep { payload, note };
    let (_, mut rights) = service()?.call_with(&request, [], FOREVER)?;
    match rights.take(BootstrapKeepReply::NOTIFY) {
        Arrived::SendOnce(notify) => port.watch_destroyed_by(notify),
        _ => Err(Kern::InvalidRight),
    }
}

/// The next of the ports that were kept for this task; `None`: that was all.
///
/// # Errors
/// Those of [`BootstrapKept`].
pub fn kept() -> Result<Option<Kept>, Kern> {
    let (reply, mut rights) = match service()?.call_with(&BootstrapKept {}, [], FOREVER) {
        Err(Kern::InvalidName) => return Ok(None),
        answer => answer?,
    };
    match rights.take(BootstrapKeptReply::PORT) {
        Arrived::Receive(port) => Ok(Some(Kept {
            note: reply.note.to_vec(),
            port,
        })),
        _ => Err(Kern::InvalidRight),
    }
}
