//! The memory objects of a pager: a port each, found by the port's payload.
//!
//! An object's life: [`Objects::create`] makes it; whoever holds a right to it can have it mapped;
//! the server then sends `memory_object_init` with a control port (and again after each time that
//! nothing mapped it); when the last right is gone, the server's own included, the object ends.
//! Rights can be made while the kernel's message "no senders" is under way: it carries how many had
//! been made, and an outdated one is ignored.

use alloc::rc::Rc;
use alloc::vec::Vec;

use ipc::Kern;
use ipc::protocol::memory_object::MemoryObject;
use ipc::protocol::memory_object_control::MemoryControl;
use ipc::right::{PortSet, ReceiveRight, SendRight};

use crate::pager::Object;

/// Names an object of this pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectId {
    index: u32,
    generation: u32,
}

impl ObjectId {
    /// As the payload of its port: never 0.
    const fn payload(self) -> u64 {
        ((self.generation as u64) << 32 | self.index as u64).wrapping_add(1)
    }

    pub(crate) const fn from_payload(payload: u64) -> ObjectId {
        let packed = payload.wrapping_sub(1);
        ObjectId {
            index: packed as u32,
            generation: (packed >> 32) as u32,
        }
    }
}

/// An object and its ports.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The object.
    pub(crate) object: Object,
    /// Where its answers go, once the server has sent it.
    pub(crate) control: Option<SendRight<MemoryControl>>,
    port: ReceiveRight<MemoryObject>,
    made: u64,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    entry: Option<Entry>,
}

/// All objects of a pager.
#[derive(Debug)]
pub struct Objects {
    pub(crate) set: Rc<PortSet>,
    places: Vec<Place>,
    /// Places without an entry. Has room for all of them, so that ending an object needs no memory.
    free: Vec<u32>,
}

impl Objects {
    pub(crate) fn new() -> Result<Objects, Kern> {
        Ok(Objects {
            set: Rc::new(PortSet::new()?),
            places: Vec::new(),
            free: Vec::new(),
        })
    }

    /// Makes an object that nobody can reach yet.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no memory for a record, here or in the kernel.
    pub fn create(&mut self, object: Object) -> Result<ObjectId, Kern> {
        let index = self.free_place()?;
        let place = self.places.get_mut(index as usize);
        let place = place.ok_or(Kern::ResourceShortage)?;
        let id = ObjectId {
            index,
            generation: place.generation,
        };
        let port = ReceiveRight::new(id.payload())?;
        port.watch_senders(&port)?;
        self.set.insert(&port)?;
        self.free.pop();
        place.entry = Some(Entry {
            object,
            control: None,
            port,
            made: 0,
        });
        Ok(id)
    }

    /// The place that the next object gets: the last of the free ones. It stays free.
    fn free_place(&mut self) -> Result<u32, Kern> {
        if let Some(index) = self.free.last() {
            return Ok(*index);
        }
        let index = u32::try_from(self.places.len()).map_err(|_| Kern::ResourceShortage)?;
        let shortage = |_| Kern::ResourceShortage;
        self.free
            .try_reserve(self.places.len() + 1)
            .map_err(shortage)?;
        self.places.try_reserve(1).map_err(shortage)?;
        self.places.push(Place::default());
        self.free.push(index);
        Ok(index)
    }

    /// A right to an object, to be given away. Dropping the last one ends the object.
    ///
    /// # Errors
    /// KERN_TERMINATED: there is no such object any more. KERN_UREFS_OVERFLOW.
    pub fn right(&mut self, id: ObjectId) -> Result<SendRight<MemoryObject>, Kern> {
        let entry = self.entry(id).ok_or(Kern::Terminated)?;
        let right = entry.port.make_send()?;
        entry.made += 1;
        Ok(right)
    }

    pub(crate) fn entry(&mut self, id: ObjectId) -> Option<&mut Entry> {
        let place = self.places.get_mut(id.index as usize)?;
        place
            .entry
            .as_mut()
            .filter(|_| place.generation == id.generation)
    }

    /// The last of `made` rights is gone: ends the object, unless more have been made since.
    pub(crate) fn no_senders(&mut self, id: ObjectId, made: u64) -> Option<Object> {
        let entry = self.entry(id)?;
        if entry.made != made {
            // Told once; ask again. It cannot fail: the kernel still has the record's memory, and
            // if it could, the object would only stay.
            let _ = entry.port.watch_senders(&entry.port);
            return None;
        }
        let place = self.places.get_mut(id.index as usize)?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        place.entry.take().map(|entry| entry.object)
    }
}
