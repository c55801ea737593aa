//! Names of services, and who waits for one.

use alloc::vec::Vec;

use ipc::protocol::bootstrap::{BootstrapListReply, LIST_MAX, Name};
use ipc::right::SendRight;
use ipc::server::Caller;
use ipc::{Kern, Untyped};
use ipc_abi::right::Name as Port;

/// Most names at a time.
const NAMES_MAX: usize = 1024;
/// Most callers that wait for a name at a time.
const WAITING_MAX: usize = 1024;

struct Service {
    name: Name,
    port: SendRight<Untyped>,
}

struct Waiting {
    name: Name,
    caller: Caller,
}

/// The names.
#[derive(Default)]
pub(crate) struct Names {
    services: Vec<Service>,
    waiting: Vec<Waiting>,
}

impl Names {
    /// Gives a port a name.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: empty name. KERN_NAME_EXISTS. KERN_RESOURCE_SHORTAGE.
    pub(crate) fn register(&mut self, name: Name, port: SendRight<Untyped>) -> Result<(), Kern> {
        if name.is_empty() {
            return Err(Kern::InvalidArgument);
        }
        if self.find(&name).is_some() {
            return Err(Kern::NameExists);
        }
        if self.services.len() >= NAMES_MAX || self.services.try_reserve(1).is_err() {
            return Err(Kern::ResourceShortage);
        }
        self.services.push(Service { name, port });
        Ok(())
    }

    /// The port with a name.
    pub(crate) fn find(&self, name: &Name) -> Option<&SendRight<Untyped>> {
        self.services
            .iter()
            .find(|service| service.name == *name)
            .map(|service| &service.port)
    }

    /// Lets a caller wait until a name is registered.
    ///
    /// # Errors
    /// The caller comes back if there are too many.
    pub(crate) fn wait(&mut self, name: Name, caller: Caller) -> Result<(), Caller> {
        if self.waiting.len() >= WAITING_MAX || self.waiting.try_reserve(1).is_err() {
            return Err(caller);
        }
        self.waiting.push(Waiting { name, caller });
        Ok(())
    }

    /// One of those who wait for a name that is registered.
    pub(crate) fn next_served(&mut self, name: &Name) -> Option<Caller> {
        let index = self
            .waiting
            .iter()
            .position(|waiting| waiting.name == *name)?;
        Some(self.waiting.remove(index).caller)
    }

    /// Forgets a caller whose call is void. It needs no answer; one would be refused.
    pub(crate) fn cancelled(&mut self, token: u64) {
        self.waiting
            .retain(|waiting| waiting.caller.token() != token);
    }

    /// A port has died: its names are free.
    pub(crate) fn died(&mut self, port: Port) {
        self.services.retain(|service| service.port.name() != port);
    }

    /// Names from number `cursor` on.
    pub(crate) fn list(&self, cursor: u32) -> BootstrapListReply {
        let names: heapless::Vec<Name, LIST_MAX> = self
            .services
            .iter()
            .skip(cursor as usize)
            .take(LIST_MAX)
            .map(|service| service.name.clone())
            .collect();
        let next = cursor.saturating_add(names.len() as u32);
        BootstrapListReply { names, next }
    }
}
