//! What a client task asks for most, in one word each.

extern crate std;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::vm_map::{self, Request};

use super::World;
use crate::call::{Message, Reply};
use crate::event::{Event, MapId, NO_RIGHTS, PortOf};

impl World {
    /// A call on a map without rights; its answer without rights.
    ///
    /// # Errors
    /// What it is refused with.
    pub(crate) fn ask(&mut self, map: MapId, request: Request) -> Result<vm_map::Reply, Kern> {
        match self.call(map, request, NO_RIGHTS)?.message {
            Message::Map(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    /// `task_create` with inheritance.
    pub(crate) fn fork(&mut self, map: MapId) -> MapId {
        let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
        match self.call(map, request, NO_RIGHTS) {
            Ok(Reply {
                right: Some(PortOf::Map(child)),
                ..
            }) => child,
            other => panic!("{other:?}"),
        }
    }

    /// The task of a map ends.
    pub(crate) fn end(&mut self, map: MapId) {
        self.event(Event::TaskEnded(map));
    }

    /// `vm_copy` inside a map.
    pub(crate) fn copy(&mut self, map: MapId, source: u64, destination: u64, size: u64) {
        let request = Request::VmCopy(vm_map::VmCopy {
            source,
            size,
            destination,
        });
        assert_eq!(self.ask(map, request), Ok(vm_map::Reply::VmCopy(())));
    }

    /// `vm_inherit`.
    pub(crate) fn inherit(&mut self, map: MapId, address: u64, size: u64, inheritance: u32) {
        let request = Request::VmInherit(vm_map::VmInherit {
            address,
            size,
            inheritance,
        });
        assert_eq!(self.ask(map, request), Ok(vm_map::Reply::VmInherit(())));
    }

    /// A byte, as a thread reads it.
    pub(crate) fn byte(&mut self, map: MapId, address: u64) -> u8 {
        let mut bytes = [0];
        assert_eq!(self.read(map, address, &mut bytes), Ok(()));
        bytes[0]
    }

    /// The first byte of each of some pages.
    pub(crate) fn bytes(&mut self, map: MapId, address: u64, pages: u64) -> std::vec::Vec<u8> {
        (0..pages)
            .map(|page| self.byte(map, address + page * PAGE_SIZE))
            .collect()
    }

    /// Objects below the one that an address is mapped from.
    pub(crate) fn depth(&mut self, map: MapId, address: u64) -> u32 {
        match self.ask(map, Request::VmRegion(vm_map::VmRegion::basic(address))) {
            Ok(vm_map::Reply::VmRegion(region)) => region.shadow_depth,
            other => panic!("{other:?}"),
        }
    }
}
