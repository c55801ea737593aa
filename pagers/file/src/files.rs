//! The pager: files opened, listed, and read into the pages that are asked for.
//!
//! An object goes on as long as somebody maps it; what of it was not read before the file changed
//! comes from the file as it is then.
//!
//! A page is supplied only if the host gave each byte of it that the file had when it was opened.
//! A file that shrank, or that cannot be read, is an error.

use alloc::boxed::Box;

use file_store::ninep::{self, Kind};
use file_store::path::Path;
use file_store::session::{File, Session};
use ipc::protocol::files::{self, DirectoryEntry, FileListReply, FileOpenReply, Reply, Request};
use ipc::server::{self, Context};
use pagers::{Answer, Attributes, Front, Kern, Object, ObjectId, Objects, PAGE, Pager, Want};

use crate::device::Device;
use crate::open::OpenFiles;

/// Pages that are read at once: the most that the VM server asks for.
pub(crate) const CLUSTER: u32 = 64;

/// The pager.
pub(crate) struct Files {
    session: Box<Session<Device>>,
    open: OpenFiles,
}

impl Files {
    /// Serves the tree of this session.
    pub(crate) fn new(session: Session<Device>) -> Files {
        Files {
            session: Box::new(session),
            open: OpenFiles::default(),
        }
    }

    fn open(&mut self, path: &[u8], objects: &mut Objects) -> Result<server::Answer<Reply>, Kern> {
        let path = Path::new(path).map_err(|_| Kern::InvalidArgument)?;
        let file = self.session.open(path).map_err(open_code)?;
        let size = file.size;
        let object = self.object(file, objects)?;
        let right = objects.right(object)?;
        let reply = Reply::FileOpen(FileOpenReply { size });
        Ok(server::Answer::with(reply, [right.give()]))
    }

    /// The object of a file that was just opened: the one it has, else a new one.
    fn object(&mut self, file: File, objects: &mut Objects) -> Result<ObjectId, Kern> {
        if let Some(object) = self.open.find(&file) {
            self.session.close(file);
            return Ok(object);
        }
        let created = self.open.next_key().and_then(|key| {
            objects.create(Object {
                key: key as u64,
                size: file.size,
            })
        });
        match created {
            Ok(object) => self.open.insert(file, object),
            Err(_) => self.session.close(file),
        }
        created
    }

    fn list(&mut self, path: &[u8], cursor: u64) -> Result<FileListReply, Kern> {
        let directory = Path::new(path).map_err(|_| Kern::InvalidArgument)?;
        let mut entries = heapless::Vec::new();
        let mut next = Some(cursor);
        while let Some(at) = next.filter(|_| entries.is_empty()) {
            next = self
                .session
                .list(directory, at, |entry| take(&mut entries, entry))
                .map_err(list_code)?;
            if next == Some(at) && entries.is_empty() {
                return Err(Kern::MemoryError);
            }
        }
        for entry in &mut entries {
            if entry.kind == UNKNOWN {
                entry.kind = self.kind(path, &entry.name);
            }
        }
        let next = next.unwrap_or(cursor);
        Ok(FileListReply { entries, next })
    }

    /// Asks for what the directory did not say. What cannot be asked is nothing to map.
    fn kind(&mut self, directory: &[u8], name: &[u8]) -> u32 {
        let path = [directory, name].join(&b'/');
        let found = Path::new(&path).ok().map(|path| self.session.look(path));
        match found {
            Some(Ok(attributes)) => number(attributes.kind),
            _ => files::kind::OTHER,
        }
    }

    /// Reads the part of `bytes` that is the file's; says whether all of it came.
    fn fill(&mut self, object: &Object, offset: u64, bytes: &mut [u8]) -> Result<Filled, Kern> {
        let file = self.open.get(object.key).ok_or(Kern::InvalidObject)?;
        let inside = object.size.saturating_sub(offset);
        let wanted = usize::try_from(inside).map_or(bytes.len(), |inside| inside.min(bytes.len()));
        let part = bytes.get_mut(..wanted).ok_or(Kern::InvalidArgument)?;
        match self.session.read(file, offset, part) {
            Ok(got) if got == wanted => Ok(Filled::All),
            Ok(got) => Ok(Filled::Pages(got / PAGE)),
            Err(_) => Err(Kern::MemoryError),
        }
    }
}

enum Filled {
    All,
    Pages(usize),
}

impl Pager for Files {
    const SLOTS: u32 = 2 * CLUSTER;

    fn attributes(&self, _object: &Object) -> Attributes {
        Attributes {
            cluster: CLUSTER,
            ..Attributes::default()
        }
    }

    fn data_request(&mut self, object: &Object, want: &mut Want<'_>) -> Answer {
        match self.fill(object, want.offset, want.bytes) {
            Ok(Filled::All) => return Answer::Supply,
            Ok(Filled::Pages(0)) => return Answer::Error(Kern::MemoryError),
            Ok(Filled::Pages(count)) => return Answer::SupplyFirst(count),
            Err(code) if want.bytes.len() <= PAGE => return Answer::Error(code),
            Err(_) => {}
        }
        // Something in the cluster cannot be read. The page that is needed may be fine.
        let first = want.bytes.get_mut(..PAGE).unwrap_or_default();
        match self.fill(object, want.offset, first) {
            Ok(Filled::All) => Answer::SupplyFirst(1),
            Ok(Filled::Pages(_)) => Answer::Error(Kern::MemoryError),
            Err(code) => Answer::Error(code),
        }
    }

    fn terminate(&mut self, object: &Object) {
        if let Some(file) = self.open.remove(object.key) {
            self.session.close(file);
        }
    }
}

impl Front for Files {
    type Protocol = files::Files;

    fn request(
        &mut self,
        request: Request,
        _context: &mut Context,
        objects: &mut Objects,
    ) -> server::Answer<Reply> {
        match request {
            Request::FileOpen(open) => self
                .open(&open.path, objects)
                .unwrap_or_else(server::Answer::Refuse),
            Request::FileList(list) => self
                .list(&list.path, list.cursor)
                .map(Reply::FileList)
                .into(),
        }
    }
}

/// Stands for a kind that has still to be asked for; never sent.
const UNKNOWN: u32 = u32::MAX;

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::File => files::kind::FILE,
        Kind::Directory => files::kind::DIRECTORY,
        Kind::Other => files::kind::OTHER,
        Kind::Unknown => UNKNOWN,
    }
}

/// Takes an entry into an answer, if there is room.
fn take(
    entries: &mut heapless::Vec<DirectoryEntry, { files::LIST_MAX }>,
    entry: ninep::Entry<'_>,
) -> bool {
    let Ok(name) = heapless::Vec::from_slice(entry.name) else {
        return false;
    };
    let kind = number(entry.kind);
    entries.push(DirectoryEntry { name, kind }).is_ok()
}

/// What a client hears of the host's error numbers.
fn open_code(error: ninep::Error) -> Kern {
    const EPERM: u32 = 1;
    const ENOMEM: u32 = 12;
    const EACCES: u32 = 13;
    const EINVAL: u32 = 22;
    const ENFILE: u32 = 23;
    const EMFILE: u32 = 24;
    const ENAMETOOLONG: u32 = 36;
    const ELOOP: u32 = 40;
    match error {
        ninep::Error::TooLong => Kern::ResourceShortage,
        ninep::Error::Malformed | ninep::Error::Transport => Kern::MemoryError,
        ninep::Error::Remote(number) => match number {
            ninep::ENOENT | ninep::ENOTDIR | ELOOP => Kern::InvalidName,
            ninep::EISDIR | EINVAL => Kern::InvalidObject,
            EPERM | EACCES => Kern::NoAccess,
            ENAMETOOLONG => Kern::InvalidArgument,
            ENOMEM | ENFILE | EMFILE => Kern::ResourceShortage,
            _ => Kern::MemoryError,
        },
    }
}

fn list_code(error: ninep::Error) -> Kern {
    match error {
        ninep::Error::Remote(ninep::ENOTDIR) => Kern::InvalidObject,
        error => open_code(error),
    }
}
