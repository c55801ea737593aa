//! The memory objects of a pager: a port each, found by the port's payload.
//!
//! An object's life: [`Objects::create`] makes it; whoever holds a right to it can have it mapped;
//! the server then sends `memory_object_init` with a control port (and again after each time that
//! nothing mapped it); when the last right is gone, the server's own included, the object ends.
//! Rights can be made while the kernel's message "no senders" is under way: it carries how many had
//! been made, and an outdated one is ignored.
//!
//! An object can outlive the task: if the manifest says that the pager is started again, bootstrap
//! keeps the ports of its objects, and the next instance takes each in at its old place, which the
//! payload names. So what is queued there goes on to the same object.

use alloc::rc::Rc;
use alloc::vec::Vec;

use ipc::Kern;
use ipc::protocol::memory_object::MemoryObject;
use ipc::protocol::memory_object_control::MemoryControl;
use ipc::right::{PortSet, ReceiveRight, SendRight, Untyped};

use crate::kept;
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

/// Most places up to that of an object that is taken in: there is memory for all before it.
const PLACES_MAX: usize = 1 << 16;

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

    /// As [`Objects::create`]; if this pager is started again after its end, the next instance is
    /// offered the object with this note ([`crate::Pager::adopt`]).
    ///
    /// If it is not started again, or there is no room for one more note, or none for one that long,
    /// the object ends with this task as any other.
    ///
    /// # Errors
    /// As [`Objects::create`].
    pub fn create_kept(&mut self, object: Object, note: &[u8]) -> Result<ObjectId, Kern> {
        let id = self.create(object)?;
        self.keep(id, &kept::offered(note));
        Ok(id)
    }

    /// Has an object kept, if this task is one whose objects are.
    pub(crate) fn keep(&mut self, id: ObjectId, note: &[u8]) {
        if let Some(entry) = self.entry(id) {
            // What is not kept ends with the task.
            let _ = ipc::bootstrap::keep(&entry.port, id.payload(), note);
        }
    }

    /// Sets the place of an object of the instance before this one aside, so that no new one gets it.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: no place that there could be. KERN_RESOURCE_SHORTAGE.
    pub(crate) fn set_aside(&mut self, id: ObjectId) -> Result<(), Kern> {
        let index = id.index as usize;
        if index >= PLACES_MAX {
            return Err(Kern::InvalidArgument);
        }
        while self.places.len() <= index {
            self.new_place()?;
        }
        self.free.retain(|free| *free != id.index);
        Ok(())
    }

    /// Takes in an object of the instance before this one, at the place that was set aside for it.
    ///
    /// # Errors
    /// KERN_NAME_EXISTS: there is another. KERN_INVALID_ARGUMENT: no place was set aside.
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn take_in(
        &mut self,
        id: ObjectId,
        object: Object,
        port: ReceiveRight<Untyped>,
    ) -> Result<(), Kern> {
        let place = self.places.get_mut(id.index as usize);
        let place = place.ok_or(Kern::InvalidArgument)?;
        if place.entry.is_some() {
            return Err(Kern::NameExists);
        }
        let port = port.cast::<MemoryObject>();
        let made = port.made()?;
        port.watch_senders(&port)?;
        self.set.insert(&port)?;
        place.generation = id.generation;
        place.entry = Some(Entry {
            object,
            control: None,
            port,
            made,
        });
        Ok(())
    }

    /// The place that was set aside is free: its object ends.
    pub(crate) fn free_aside(&mut self, id: ObjectId) {
        if let Some(place) = self.places.get_mut(id.index as usize)
            && place.entry.is_none()
            && !self.free.contains(&id.index)
        {
            place.generation = id.generation.wrapping_add(1);
            self.free.push(id.index);
        }
    }

    /// The place that the next object gets: the last of the free ones. It stays free.
    fn free_place(&mut self) -> Result<u32, Kern> {
        match self.free.last() {
            Some(index) => Ok(*index),
            None => self.new_place(),
        }
    }

    /// One more place, which is free.
    fn new_place(&mut self) -> Result<u32, Kern> {
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
