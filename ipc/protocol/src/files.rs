//! Client to file pager, on the port that it registered: find files, and get what to map.
//!
//! Paths are relative to what the pager serves, their parts separated by `/`; the empty path is its
//! root. A part is bytes, as on the host: any but `/` and NUL, UTF-8 or not. `..` is no part of a
//! path; `.` and empty parts mean nothing.

use crate::define::protocol;
use heapless::Vec;

/// Longest path, in bytes.
pub const PATH_MAX: usize = 3072;
/// Longest name of an entry, in bytes.
pub const FILE_NAME_MAX: usize = 255;
/// Most entries in one answer of `file_list`.
pub const LIST_MAX: usize = 12;

/// A path.
pub type Path = Vec<u8, PATH_MAX>;

/// What an entry of a directory is.
pub mod kind {
    /// A regular file.
    pub const FILE: u32 = 0;
    /// A directory.
    pub const DIRECTORY: u32 = 1;
    /// Anything else: a link, a device, a socket.
    pub const OTHER: u32 = 2;
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: Vec<u8, FILE_NAME_MAX>,
    /// One of [`kind`].
    pub kind: u32,
}

protocol! {
    /// Client to file pager.
    #[derive(Clone)]
    protocol Files "files" at 4200, "client" to "file pager, on the port that it registered";

    /// Opens a regular file: gives its size and the memory object to map.
    ///
    /// In order: KERN_INVALID_ARGUMENT: `..`, a NUL or too long a part in the path. KERN_INVALID_NAME:
    /// no such file. KERN_INVALID_OBJECT: not a regular file. KERN_NO_ACCESS: the host refuses.
    /// KERN_MEMORY_ERROR: the device failed. KERN_RESOURCE_SHORTAGE.
    4201 file_open FileOpen in body {
        /// The path.
        path: Path,
    }
    reply FileOpenReply {
        /// Bytes of the file now. The rest of its last page reads zero.
        size: u64,
    }
    reply rights {
        /// A send right to the memory object.
        OBJECT,
    };

    /// Lists a directory, some entries at a time, in the order of the host.
    ///
    /// Errors as [`FileOpen`]; KERN_INVALID_OBJECT: not a directory.
    4202 file_list FileList in body {
        /// The directory's path.
        path: Path,
        /// 0 at first, then what the answer before said.
        cursor: u64,
    }
    reply FileListReply {
        /// Entries without `.` and `..`; none: that was all.
        entries: Vec<DirectoryEntry, LIST_MAX>,
        /// What to ask with next.
        next: u64,
    };
}
