//! The open files: found by a key in one step, and by their identity.
//!
//! A file is known by its identity on the host, its version and its size: opened twice it is one
//! object, and opened again after it changed it is another, so that nobody is shown pages of old
//! contents that are still in memory.

use alloc::vec::Vec;

use file_store::session::File;
use pagers::{Kern, ObjectId};

/// What makes a file the same file with the same contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    path: u64,
    version: u32,
    size: u64,
}

impl Identity {
    fn of(file: &File) -> Identity {
        Identity {
            path: file.qid.path,
            version: file.qid.version,
            size: file.size,
        }
    }
}

struct Open {
    file: File,
    object: ObjectId,
}

/// All open files.
#[derive(Default)]
pub(crate) struct OpenFiles {
    places: Vec<Option<Open>>,
    /// Places without a file. Has room for all, so that closing needs no memory.
    free: Vec<usize>,
    /// In order of identity. Has room for all places.
    known: Vec<(Identity, usize)>,
}

impl OpenFiles {
    /// The object of a file that is open already.
    pub(crate) fn find(&self, file: &File) -> Option<ObjectId> {
        let at = self.search(file).ok()?;
        let (_, key) = self.known.get(at)?;
        self.places.get(*key)?.as_ref().map(|open| open.object)
    }

    /// The key that the next file gets. It is taken by [`OpenFiles::insert`].
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no memory for another file.
    pub(crate) fn next_key(&mut self) -> Result<usize, Kern> {
        if let Some(key) = self.free.last() {
            return Ok(*key);
        }
        let key = self.places.len();
        let shortage = |_| Kern::ResourceShortage;
        let more = |length: usize| key.saturating_add(1).saturating_sub(length);
        self.free
            .try_reserve(more(self.free.len()))
            .map_err(shortage)?;
        self.known
            .try_reserve(more(self.known.len()))
            .map_err(shortage)?;
        self.places.try_reserve(1).map_err(shortage)?;
        self.places.push(None);
        self.free.push(key);
        Ok(key)
    }

    /// Keeps a file that is not known under the key that [`OpenFiles::next_key`] gave.
    pub(crate) fn insert(&mut self, file: File, object: ObjectId) {
        if let (Err(at), Some(key)) = (self.search(&file), self.free.pop()) {
            self.known.insert(at, (Identity::of(&file), key));
            if let Some(place) = self.places.get_mut(key) {
                *place = Some(Open { file, object });
            }
        }
    }

    /// The file with this key.
    pub(crate) fn get(&self, key: u64) -> Option<&File> {
        let place = self.places.get(usize::try_from(key).ok()?)?;
        place.as_ref().map(|open| &open.file)
    }

    /// Forgets the file with this key, and gives it up to be closed.
    pub(crate) fn remove(&mut self, key: u64) -> Option<File> {
        let key = usize::try_from(key).ok()?;
        let open = self.places.get_mut(key)?.take()?;
        self.free.push(key);
        if let Ok(at) = self.search(&open.file) {
            self.known.remove(at);
        }
        Some(open.file)
    }

    /// Where a file stands among the known ones, or would.
    fn search(&self, file: &File) -> Result<usize, usize> {
        let identity = Identity::of(file);
        self.known
            .binary_search_by(|(known, _)| known.cmp(&identity))
    }
}
