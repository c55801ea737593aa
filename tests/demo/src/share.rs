//! The shared tree, by way of the file pager: walk it, open its files.

use alloc::vec::Vec;

use ipc::protocol::bootstrap::{Bootstrap, BootstrapLookUp, BootstrapLookUpReply};
use ipc::protocol::files::{FileList, FileOpen, FileOpenReply, Files, kind};
use ipc::protocol::memory_object::MemoryObject;
use ipc::time::{SECOND, after};
use ipc::{Kern, Mapping, SendRight, abi::right::SpecialPort, mapping::Options};

use crate::report::Report;

/// How long a service may take to appear: its task may still be starting.
const PATIENCE: u64 = 60 * SECOND;

/// Finds a service, and waits for it a while.
pub(crate) fn find<P>(name: &str) -> Result<SendRight<P>, Kern> {
    let service = SendRight::<Bootstrap>::special(SpecialPort::Bootstrap)?;
    let request = BootstrapLookUp {
        name: name.try_into().map_err(|_| Kern::InvalidArgument)?,
        wait: true,
    };
    let (_, mut rights) = service.call_with(&request, [], after(PATIENCE))?;
    rights.take_send(BootstrapLookUpReply::SERVICE)
}

/// A file that can be mapped.
pub(crate) struct Opened {
    /// Bytes.
    pub(crate) size: u64,
    /// Its memory object.
    pub(crate) object: SendRight<MemoryObject>,
}

impl Opened {
    /// Maps the whole file for reading; an empty one is nothing to map.
    pub(crate) fn map(&self) -> Result<Option<Mapping>, Kern> {
        if self.size == 0 {
            return Ok(None);
        }
        let options = Options::new(self.size).object(&self.object);
        options.read_only().map().map(Some)
    }
}

/// Opens a file.
pub(crate) fn open(files: &SendRight<Files>, path: &[u8]) -> Result<Opened, Kern> {
    let request = FileOpen {
        path: fitting(path)?,
    };
    let (reply, mut rights) = files.call_with(&request, [], ipc::abi::message::FOREVER)?;
    Ok(Opened {
        size: reply.size,
        object: rights.take_send(FileOpenReply::OBJECT)?,
    })
}

/// The paths of all regular files of the tree, in order of their bytes. What cannot be listed is
/// reported.
pub(crate) fn tree(files: &SendRight<Files>, report: &mut Report) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut directories = Vec::from([Vec::new()]);
    while let Some(directory) = directories.pop() {
        if let Err(code) = list(files, &directory, &mut found, &mut directories) {
            report.fail(format_args!("list {}: {code}", shown(&directory)));
        }
    }
    found.sort_unstable();
    found
}

fn list(
    files: &SendRight<Files>,
    directory: &[u8],
    found: &mut Vec<Vec<u8>>,
    directories: &mut Vec<Vec<u8>>,
) -> Result<(), Kern> {
    let mut request = FileList {
        path: fitting(directory)?,
        cursor: 0,
    };
    loop {
        let reply = files.call(&request)?;
        if reply.entries.is_empty() {
            return Ok(());
        }
        request.cursor = reply.next;
        for entry in &reply.entries {
            let mut path = directory.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            match entry.kind {
                kind::FILE => found.push(path),
                kind::DIRECTORY => directories.push(path),
                _ => {}
            }
        }
    }
}

fn fitting<const N: usize>(path: &[u8]) -> Result<heapless::Vec<u8, N>, Kern> {
    heapless::Vec::from_slice(path).map_err(|_| Kern::InvalidArgument)
}

/// A path for a report.
pub(crate) fn shown(path: &[u8]) -> impl core::fmt::Display {
    let text = if path.is_empty() { &b"."[..] } else { path };
    text.escape_ascii()
}
