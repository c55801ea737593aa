//! Files of the host as memory objects: a directory that QEMU shares by virtio 9P.
//!
//! `file-pager TAG` serves the share with this mount tag, under the name `files`: a client opens a
//! path and gets the memory object to map ([`ipc::protocol::files`]). Nothing is read before it is
//! touched, and what is touched is read by clusters, straight into the slots from which the VM
//! server takes the pages. `files.rs` is the pager, `open.rs` knows which files are open, `device.rs`
//! is the way to the host; what the host speaks is in the crate `file-store`.
#![no_std]
#![no_main]

extern crate alloc;

mod device;
mod files;
mod open;

use core::fmt;

use file_store::session::Session;
use pagers::{Kern, PAGE, Service};

use crate::device::Device;
use crate::files::{CLUSTER, Files};

/// The name that clients look up.
const NAME: &str = "files";
/// A cluster, and a page for what the protocol puts around it.
const MESSAGE_MAX: u32 = (CLUSTER + 1) * PAGE as u32;

ipc::main!(main);

fn main(mut args: ipc::Args) -> Result<(), Failure> {
    let tag = args.nth(1).unwrap_or("share");
    let device =
        Device::open(tag, MESSAGE_MAX as usize).map_err(|error| Failure::Device(tag, error))?;
    let session = Session::connect(device, MESSAGE_MAX).map_err(Failure::Server)?;
    let service = Service::new(Files::new(session)).map_err(Failure::Kern)?;
    service.serve_as(NAME).map_err(Failure::Kern)
}

/// Why the pager ends.
enum Failure {
    Device(&'static str, virtio::Error),
    Server(file_store::ninep::Error),
    Kern(Kern),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Device(tag, error) => {
                write!(f, "no share with mount tag `{tag}` can be opened: {error}")
            }
            Failure::Server(error) => write!(f, "the host's file server: {error:?}"),
            Failure::Kern(code) => write!(f, "{code}"),
        }
    }
}
