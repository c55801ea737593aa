//! From a message to a request: the port says which protocol.
//!
//! A call on a map that comes through another of the server's ports names a right of the wrong kind.
//! It is answered as in Mach, where such a port converts to no map, not as an unknown message.

use ipc_abi::Kern;
use ipc_protocol::define::{AnyRequest, Message, Raw};
use ipc_protocol::vm_map::{self, VmMsync};
use ipc_protocol::vm_wire::{VmWire, VmWireAll};

use crate::call::Call;
use crate::event::PortOf;

impl Call {
    /// Understands a message that came through a port.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`, or `KERN_INVALID_TASK` where the call says so: a call on a map, and the
    /// port is no map's. `MIG_BAD_ID`: the port's protocol has no such request. `MIG_BAD_ARGUMENTS`:
    /// another number of rights than its kind has. `MIG_TYPE_ERROR`: malformed.
    #[inline]
    pub fn decode(port: PortOf, message: &Raw<'_>) -> Result<Call, Kern> {
        let call = match port {
            PortOf::Map(map) => {
                return AnyRequest::decode(message).map(|request| Call::Map(map, request));
            }
            PortOf::MapRead(map) => {
                return AnyRequest::decode(message).map(|request| Call::MapRead(map, request));
            }
            PortOf::Entry(entry) => {
                AnyRequest::decode(message).map(|request| Call::Entry(entry, request))
            }
            PortOf::Copy(of) => AnyRequest::decode(message).map(|request| Call::Copy(of, request)),
            PortOf::Control(control) => {
                AnyRequest::decode(message).map(|request| Call::Control(control, request))
            }
            PortOf::Tray(_) => Err(Kern::MigBadId),
        };
        match call {
            Err(Kern::MigBadId) => Err(no_map(message)),
            call => call,
        }
    }
}

/// Why a message that the port's protocol does not know is refused.
#[cold]
fn no_map(message: &Raw<'_>) -> Kern {
    match <vm_map::Request as AnyRequest>::decode(message) {
        Ok(_) if [VmMsync::ID, VmWire::ID, VmWireAll::ID].contains(&message.id) => {
            Kern::InvalidTask
        }
        Ok(_) => Kern::InvalidArgument,
        Err(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MapId, TrayId};
    use core::num::NonZeroU32;
    use ipc_protocol::vm_map::{VmDeallocate, VmMap};

    fn code(port: PortOf, id: u32) -> Option<Kern> {
        let message = Raw {
            payload: 0,
            id,
            words: &[0; 6],
            body: &[],
            rights: 0,
        };
        Call::decode(port, &message).err()
    }

    #[test]
    fn a_call_on_a_map_through_another_port_names_no_map() {
        let tray = PortOf::Tray(TrayId::new(1, NonZeroU32::MIN));
        assert_eq!(code(tray, VmDeallocate::ID), Some(Kern::InvalidArgument));
        assert_eq!(code(tray, VmMsync::ID), Some(Kern::InvalidTask));
        assert_eq!(code(tray, VmMap::ID), Some(Kern::MigBadArguments));
        assert_eq!(code(tray, 1), Some(Kern::MigBadId));
        let map = PortOf::Map(MapId::new(1, NonZeroU32::MIN));
        assert_eq!(code(map, VmDeallocate::ID), None);
        assert_eq!(code(map, 1), Some(Kern::MigBadId));
    }
}
