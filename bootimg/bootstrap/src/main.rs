//! bootstrap: the first client task. It starts the tasks of the manifest, keeps names, watches how
//! tasks end, and ends the run when its last client has ended.
//!
//! Its own special port *Bootstrap* is, since there is no name service above it, the named entry of
//! the boot image. Each task that it starts gets a bootstrap port of its own, so that the payload of
//! a request says who asks.
#![no_std]
#![no_main]

extern crate alloc;

mod estate;
mod load;
mod names;
mod service;
mod tasks;

use alloc::string::String;

use bootimg::{Ends, Image, Level};
use ipc::protocol::memory_entry::{MemoryEntry, MemoryEntryDescribe};
use ipc::right::SendRight;
use ipc::{Kern, Mapping, mapping, println};
use ipc_abi::right::SpecialPort;

use crate::service::Service;

ipc::main!(main);

/// Status of a run that could not begin.
const FAILED: u32 = 2;

fn main(_: ipc::Args) -> Result<(), String> {
    let result = run();
    if let Err(problem) = &result {
        println!("bootstrap: {problem}");
        shutdown(FAILED);
    }
    result
}

fn run() -> Result<(), String> {
    let (entry, mapping) =
        map_image().map_err(|code| alloc::format!("cannot map the boot image: {code}"))?;
    // SAFETY: the image is mapped read-only from an entry that nobody may write, and stays mapped.
    let bytes = unsafe { mapping.bytes() };
    let image = Image::parse(bytes).map_err(|error| alloc::format!("the boot image: {error}"))?;
    let manifest = image
        .manifest()
        .map_err(|error| alloc::format!("the boot image: {error}"))?;
    let mut service = Service::new(image, manifest, entry)
        .map_err(|code| alloc::format!("cannot begin to serve: {code}"))?;
    for task in manifest
        .tasks()
        .filter(|task| matches!(task.level, Level::Pager | Level::Client))
    {
        service
            .start(&task, task.level, task.args())
            .map_err(|problem| alloc::format!("cannot start {}: {problem}", task.name))?;
    }
    let status = service
        .serve()
        .map_err(|code| alloc::format!("cannot serve: {code}"))?;
    if manifest.ends() == Ends::LastClient {
        shutdown(status);
    }
    Ok(())
}

/// Maps the boot image, for good.
fn map_image() -> Result<(SendRight<MemoryEntry>, Mapping), Kern> {
    let entry = SendRight::<MemoryEntry>::special(SpecialPort::Bootstrap)?;
    let size = entry.call(&MemoryEntryDescribe {})?.size;
    let mapping = mapping::Options::new(size)
        .entry(&entry)
        .read_only()
        .map()?;
    Ok((entry, mapping))
}

/// Ends the machine.
fn shutdown(status: u32) {
    let host = SendRight::<ipc::Untyped>::special(SpecialPort::HostControl);
    if let Err(code) = host.and_then(|host| ipc::trap::host_shutdown(host.name(), status)) {
        println!("bootstrap: cannot end the machine: {code}");
    }
}
