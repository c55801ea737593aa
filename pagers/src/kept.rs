//! What the instance before this one left: ports, with a note that says what each is.
//!
//! The first byte of a note is the framework's: the pager's own port or an object that has a name, each
//! with it, or an object of which only the pager knows what it is.

use alloc::vec::Vec;

use ipc::Kern;
use ipc::bootstrap::{self, Kept};
use ipc::right::{ReceiveRight, Untyped};

use crate::objects::{ObjectId, Objects};

const FRONT: u8 = b'f';
const PUBLISHED: u8 = b'p';
const OFFERED: u8 = b'o';

fn tagged(tag: u8, text: &[u8]) -> Vec<u8> {
    let mut note = Vec::with_capacity(text.len() + 1);
    note.push(tag);
    note.extend_from_slice(text);
    note
}

/// The note of the pager's own port.
pub(crate) fn front(name: &str) -> Vec<u8> {
    tagged(FRONT, name.as_bytes())
}

/// The note of an object with a name.
pub(crate) fn published(name: &str) -> Vec<u8> {
    tagged(PUBLISHED, name.as_bytes())
}

/// The note of an object that the pager is to recognise.
pub(crate) fn offered(note: &[u8]) -> Vec<u8> {
    tagged(OFFERED, note)
}

/// What was left and nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Left(Vec<Kept>);

impl Left {
    /// Fetches it, and sets the places of its objects aside. What cannot be an object ends.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn fetch(objects: &mut Objects) -> Result<Left, Kern> {
        let mut left = Vec::new();
        while let Some(kept) = bootstrap::kept()? {
            left.try_reserve(1).map_err(|_| Kern::ResourceShortage)?;
            let front = kept.note.first() == Some(&FRONT);
            if front || objects.set_aside(place(&kept.port)?).is_ok() {
                left.push(kept);
            } else {
                release(kept.port);
            }
        }
        Ok(Left(left))
    }

    /// Takes the port with this note.
    pub(crate) fn take(&mut self, note: &[u8]) -> Option<ReceiveRight<Untyped>> {
        let at = self.0.iter().position(|kept| kept.note == note)?;
        Some(self.0.swap_remove(at).port)
    }

    /// Takes a port of which the pager is to say what it is, and what was said of it.
    pub(crate) fn take_offered(&mut self) -> Option<(Vec<u8>, ReceiveRight<Untyped>)> {
        let offered = |kept: &Kept| kept.note.first() == Some(&OFFERED);
        let at = self.0.iter().position(offered)?;
        let Kept { mut note, port } = self.0.swap_remove(at);
        note.remove(0);
        Some((note, port))
    }

    /// Gives up what nobody took.
    pub(crate) fn give_up(&mut self, objects: &mut Objects) {
        for kept in self.0.drain(..) {
            give_up(objects, kept.port);
        }
    }
}

/// The object that a port was.
///
/// # Errors
/// None for a port that is this task's.
pub(crate) fn place(port: &ReceiveRight<Untyped>) -> Result<ObjectId, Kern> {
    port.payload().map(ObjectId::from_payload)
}

/// Ends an object that was left.
pub(crate) fn give_up(objects: &mut Objects, port: ReceiveRight<Untyped>) {
    if let Ok(id) = place(&port) {
        objects.free_aside(id);
    }
    release(port);
}

/// Lets a kept port die.
fn release(port: ReceiveRight<Untyped>) {
    // Cannot fail for a port that is this task's.
    let _ = port.unwatch_destroyed();
}
