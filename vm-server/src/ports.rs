//! The server's own ports: which port stands for which record of the core.
//!
//! A port is made when its first right goes out, with the record's handle as its payload, and is
//! destroyed when the core says that the record has ended. The kernel tells when its last send
//! right has gone; the server makes one send right for each port, so it tells once.
//!
//! The port of a copy whose last right came back with the call that used it up can be reached by nobody,
//! and is kept for the next copy: its payload says which place in the table is its, and the place which
//! copy. (With several processors a thread may have received a message from it that is not handled yet,
//! so there each copy has a port of its own.)

use alloc::vec::Vec;
use core::num::NonZeroU32;

use ipc::trap;
use ipc_abi::Kern;
use ipc_abi::notify::Request;
use ipc_abi::right::{NULL, Name};
use vm_core::event::PortOf;
use vm_core::id::Id;

/// Messages that wait at a port of the server before senders have to.
const QUEUE_LIMIT: u32 = 64;

/// Places that keep the port of a copy for the next.
const KEPT: usize = 8;

/// Whether a port needs that many: few send to a copy or a named entry, and one in a moment at that,
/// so their ports keep the limit that they are made with.
const fn is_busy(port: PortOf) -> bool {
    !matches!(port, PortOf::Copy(_) | PortOf::Entry(_))
}

/// The ports, by kind and index of their records.
#[derive(Debug)]
pub(crate) struct Ports {
    /// The set that the server receives from.
    set: Name,
    /// That for the ports of maps: the same, or one of its own, which several threads receive from.
    maps: Name,
    /// By kind and index of the record. A place is used again when its record has ended, perhaps
    /// before the effect that ends the port is carried out, so it says whose port it holds.
    held: [Vec<Held>; 6],
}

/// A port, and the payload of the record that it stands for.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// 0: there is no record, and the port, if there is one, waits for the next.
    payload: u64,
    name: Name,
    /// Its last right has come back.
    home: bool,
}

const NOTHING: Held = Held {
    payload: 0,
    name: NULL,
    home: false,
};

const fn place(port: PortOf) -> (usize, usize) {
    match port {
        PortOf::Map(id) => (0, id.index() as usize),
        PortOf::Control(id) => (1, id.index() as usize),
        PortOf::Entry(id) => (2, id.index() as usize),
        PortOf::Copy(id) => (3, id.index() as usize),
        PortOf::Tray(id) => (4, id.index() as usize),
        PortOf::MapRead(id) => (5, id.index() as usize),
    }
}

impl Ports {
    /// No ports yet, and the set for them; another for those of maps if there are several processors.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE, from the kernel.
    pub(crate) fn new(several: bool) -> Result<Ports, Kern> {
        let set = trap::port_set_allocate()?;
        Ok(Ports {
            set,
            maps: if several {
                trap::port_set_allocate()?
            } else {
                set
            },
            held: Default::default(),
        })
    }

    /// The set that the server receives from.
    pub(crate) const fn set(&self) -> Name {
        self.set
    }

    /// The set of the ports of maps.
    pub(crate) const fn maps(&self) -> Name {
        self.maps
    }

    /// The name of a record's port, which is made if there is none.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE; nothing has changed.
    pub(crate) fn get_or_make(&mut self, port: PortOf) -> Result<Name, Kern> {
        let (kind, index) = place(port);
        let held = &mut self.held[kind];
        if index >= held.len() {
            let more = index + 1 - held.len();
            held.try_reserve(more).map_err(|_| Kern::ResourceShortage)?;
            held.resize(index + 1, NOTHING);
        }
        let payload = port.to_payload();
        if held[index].payload == payload {
            return Ok(held[index].name);
        }
        if held[index].home {
            held[index].payload = payload;
            held[index].home = false;
            return Ok(held[index].name);
        }
        let name = self.make(port)?;
        let made = Held {
            payload,
            name,
            home: false,
        };
        destroy(core::mem::replace(&mut self.held[kind][index], made));
        Ok(name)
    }

    /// The record behind a port with this payload; `None`: it has ended, or there never was one.
    #[inline]
    pub(crate) fn stands_for(&self, payload: u64) -> Option<PortOf> {
        let port = PortOf::from_payload(payload)?;
        if !self.shares(port) {
            return Some(port);
        }
        let (kind, index) = place(port);
        PortOf::from_payload(self.held[kind].get(index)?.payload)
    }

    /// The last right to the port with this payload has come back. Gives the record behind it.
    pub(crate) fn came_home(&mut self, payload: u64) -> Option<PortOf> {
        let port = self.stands_for(payload)?;
        let (kind, index) = place(port);
        if self.shares(port)
            && let Some(held) = self.held[kind].get_mut(index)
        {
            held.home = index < KEPT;
        }
        Some(port)
    }

    /// Whether one port may serve one record after the other.
    fn shares(&self, port: PortOf) -> bool {
        matches!(port, PortOf::Copy(_)) && self.maps == self.set
    }

    fn make(&self, port: PortOf) -> Result<Name, Kern> {
        let limit = if is_busy(port) { QUEUE_LIMIT } else { 0 };
        let payload = port.to_payload();
        match port {
            PortOf::Map(_) => trap::port_allocate_in(payload, self.maps, limit),
            PortOf::Copy(id) if self.shares(port) => {
                let place = PortOf::Copy(Id::new(id.index(), NonZeroU32::MIN));
                trap::port_allocate_homing(place.to_payload(), self.set, limit)
            }
            // A notice could be handled before the call that brought the last right.
            PortOf::Copy(_) | PortOf::Entry(_) | PortOf::MapRead(_) if self.maps != self.set => {
                trap::port_allocate_homing(payload, self.set, limit)
            }
            _ => trap::port_allocate_in(payload, self.set, limit),
        }
    }

    /// Asks once more for notice of a port's last send right going away: at once, if there is none.
    pub(crate) fn watch(&self, port: PortOf) {
        let (kind, index) = place(port);
        if let Some(held) = self.held[kind].get(index)
            && held.payload == port.to_payload()
        {
            // Without memory for it the port stays until its record ends otherwise.
            let _ = trap::port_request_notification(held.name, Request::NoSenders, held.name, 1);
        }
    }

    /// The record has ended: its port goes, if it has one.
    pub(crate) fn gone(&mut self, port: PortOf) {
        let (kind, index) = place(port);
        if let Some(held) = self.held[kind].get_mut(index)
            && held.payload == port.to_payload()
        {
            if held.home {
                held.payload = 0;
            } else {
                destroy(core::mem::replace(held, NOTHING));
            }
        }
    }
}

/// Ends a port, if there is one.
fn destroy(held: Held) {
    if held.name != NULL {
        // The name is a receive right of ours, so this cannot fail.
        let _ = trap::port_destroy(held.name);
    }
}
